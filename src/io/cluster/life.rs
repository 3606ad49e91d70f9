//! One life of a node's control plane, with its sockets and its ledger.

use super::control_sockets::ControlSockets;
use super::datagrams::Datagrams;
use super::guests::{Arrival, GuestLanes};
use super::porch_sockets::{HandedOver, PorchSockets};
use super::port::Port;
use super::readiness::{Readiness, Ready, Token};
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::cluster::ledger_opening::OpenedLedger;
use crate::cluster::plane::{ControlPlane, Event, Output, PlaneSettings, PlaneStartError};
use crate::io::ledger_files::LedgerFiles;
use crate::links::porch::Porch;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Rounds of doing what the plane wants in one turn; what is left is done in the next.
const ROUNDS: usize = 8;

/// The sockets that a node has over all its lives.
#[derive(Debug)]
pub(crate) struct Net {
    pub(super) readiness: Readiness,
    porch: PorchSockets,
    datagrams: Datagrams,
    guests: GuestLanes,
    ready: Vec<Ready>,
    handed: Vec<HandedOver>,
}

impl Net {
    /// Of a port; data goes to the cores to which there are ways.
    pub(super) fn new(port: Port, guests: GuestLanes) -> io::Result<Net> {
        let net = Net {
            readiness: Readiness::new()?,
            porch: PorchSockets::new(port.listener),
            datagrams: Datagrams::new(port.datagrams),
            guests,
            ready: Vec::new(),
            handed: Vec::new(),
        };
        net.readiness.add(net.porch.listener(), Token::Listener)?;
        net.readiness
            .add(net.datagrams.socket(), Token::Datagrams)?;
        Ok(net)
    }

    /// Forgets what became ready while there is nobody to hear of it; it stays in the sockets.
    pub(super) fn ignore(&mut self) {
        self.readiness.take(&mut self.ready);
        for ready in self.ready.drain(..) {
            match ready.token {
                Token::Listener => self.porch.listener_ready(),
                Token::Datagrams => self.datagrams.ready(),
                // They are closed between two lives.
                Token::Porch(_) | Token::Connection(_) => {}
            }
        }
    }
}

/// A control plane at work.
pub(crate) struct Life {
    plane: ControlPlane,
    files: LedgerFiles,
    porch: Porch,
    sockets: ControlSockets,
    core: crate::base::ids::CoreId,
    began: Time,
    /// It was told to end, or has stopped: nobody is let in any more.
    is_ending: bool,
    /// The plane has called everything that is to be written durable, or never will.
    gives_up_at: Option<Time>,
}

impl Life {
    /// Begins with what the ledger held.
    ///
    /// # Errors
    /// [`PlaneStartError`], with the files, which are to be closed.
    pub(super) fn begin(
        settings: &PlaneSettings,
        (opened, files): (OpenedLedger, LedgerFiles),
        net: &Net,
        rng: Rng,
        now: Time,
    ) -> Result<Life, (PlaneStartError, LedgerFiles)> {
        let started = ControlPlane::start(settings.clone(), opened, rng, now);
        let plane = match started {
            Ok(plane) => plane,
            Err(error) => return Err((error, files)),
        };
        let identity = plane.identity().clone();
        match Porch::new(&settings.links, identity, settings.core, net.guests.cores()) {
            Ok(porch) => Ok(Life {
                plane,
                files,
                porch,
                sockets: ControlSockets::default(),
                core: settings.core,
                began: now,
                is_ending: false,
                gives_up_at: None,
            }),
            Err(error) => Err((error.into(), files)),
        }
    }

    pub(super) fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    pub(super) fn plane_mut(&mut self) -> &mut ControlPlane {
        &mut self.plane
    }

    pub(super) fn files(&self) -> &LedgerFiles {
        &self.files
    }

    /// How long it has lasted.
    pub(super) fn age(&self, now: Time) -> Duration {
        now - self.began
    }

    /// Does everything that can be done at once, and adds what is told to `events`. Returns whether there is more to do.
    pub(super) fn turn(
        &mut self,
        net: &mut Net,
        events: &mut VecDeque<Event>,
        late: Option<Duration>,
        now: Time,
    ) -> bool {
        if let Some(late) = late {
            self.plane.stalled(late, now);
        }
        let mut more = self.take_in(net, now);
        let mut wants = true;
        for _ in 0..ROUNDS {
            self.plane.turn(now, &mut self.files);
            wants = self.follow(net, events, now);
            wants |= self.sockets.send(&mut self.plane, now);
            if !wants {
                break;
            }
        }
        more |= wants;
        more
    }

    /// When [`turn`](Life::turn) has to be called next.
    pub(super) fn deadline(&self, net: &Net) -> Time {
        let porch = net.porch.deadline(&self.porch).filter(|_| !self.is_ending);
        let gives_up = self.gives_up_at.unwrap_or(Time::MAX);
        let porch = porch.unwrap_or(Time::MAX);
        self.plane.next_deadline().min(porch).min(gives_up)
    }

    /// Lets nobody in any more, and ends in good order what there is, for so long at most.
    pub(super) fn end(&mut self, net: &mut Net, patience: Duration, now: Time) {
        if !self.is_ending {
            self.is_ending = true;
            self.gives_up_at = Some(now + patience);
            net.porch.close();
            self.plane.shutdown(now);
        }
    }

    /// Whether everything is in good order after [`end`](Life::end), or took too long.
    pub(super) fn has_ended(&self, now: Time) -> bool {
        self.is_ending
            && (self.plane.is_done() || self.gives_up_at.is_some_and(|until| until <= now))
    }

    /// What the disk has not taken in all the time for the end, for the log.
    pub(super) fn tell_what_is_unwritten(&self, data: &Path) {
        let ledger = self.plane.ledger();
        if !ledger.is_idle() {
            let (data, under_way) = (data.display(), self.files.under_way());
            let waiting_bytes = ledger.queued_bytes();
            tracing::error!(
                %data, under_way, waiting_bytes,
                "the disk of this node takes too long for its end: so many operations on its ledger have not ended, and so \
                 many bytes behind them are not written. Nobody was told that they are, and the node gets from the others \
                 what it misses; look at the disk"
            );
        }
    }

    /// Closes what is left, and gives out the files, which are to be closed.
    pub(super) fn close(self) -> LedgerFiles {
        self.files
    }

    /// Takes in what has happened at the sockets.
    fn take_in(&mut self, net: &mut Net, now: Time) -> bool {
        net.readiness.take(&mut net.ready);
        for Ready {
            token, read, write, ..
        } in net.ready.drain(..)
        {
            match token {
                Token::Listener => net.porch.listener_ready(),
                Token::Datagrams => net.datagrams.ready(),
                Token::Porch(number) => net.porch.ready(number),
                Token::Connection(number) => {
                    self.sockets
                        .ready(&mut self.plane, (number, read, write), now);
                }
            }
        }
        let mut more = false;
        if !self.is_ending {
            let (porch, handed) = (&mut self.porch, &mut net.handed);
            more |= net.porch.turn(porch, &net.readiness, handed, now);
        }
        for arrived in net.handed.drain(..) {
            let HandedOver {
                core,
                socket,
                guest,
            } = arrived;
            if core == self.core {
                let arrived = (socket, *guest);
                self.sockets
                    .accept(&mut self.plane, &net.readiness, arrived, now);
            } else {
                net.readiness.remove(&socket);
                let socket = socket.into();
                // One for which there is no room is closed, and comes again.
                drop(net.guests.hand(core, Arrival { socket, guest }));
            }
        }
        more |= net
            .datagrams
            .receive(|bytes| self.plane.datagram(bytes, now));
        more | self.sockets.receive(&mut self.plane, now)
    }

    /// Does what the plane wants. Whether there was anything that it has to hear of.
    fn follow(&mut self, net: &mut Net, events: &mut VecDeque<Event>, now: Time) -> bool {
        let mut any = false;
        while let Some(output) = self.plane.poll_output() {
            match output {
                Output::Dial {
                    connection,
                    address,
                } => {
                    any = true;
                    let dialled = (connection, address.as_str());
                    self.sockets
                        .dial(&mut self.plane, &net.readiness, dialled, now);
                }
                Output::Close { connection } => self.sockets.close(connection),
                Output::Datagram { to, bytes } => net.datagrams.send(to, &bytes),
                Output::Event(event) => {
                    if let Event::Identity(identity) = &event {
                        self.porch.set_identity(identity.clone());
                    }
                    events.push_back(event);
                }
            }
        }
        any
    }
}
