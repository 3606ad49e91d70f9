//! Two nodes and their sockets, which carry everything at once, for tests.

use super::ending::{Gone, Why};
use super::links::Links;
use super::output::{Down, Output, Took, Up};
use super::porch::{Guest, Porch, PorchOutput};
use super::refusal::NotSent;
use super::remote::{ConnectionId, Remote};
use super::settings::LinkSettings;
use crate::base::ids::{CoreId, Incarnation, NodeId};
use crate::base::rng::seeded;
use crate::base::time::Time;
use crate::wire::address::{Life, Sender, Target};
use crate::wire::header::Header;
use crate::wire::hello::{CheckedIdentity, Identity};
use crate::wire::kind::Kind;
use crate::wire::limits::FrameLimits;
use crate::wire::message::TypeTag;
use crate::wire::preamble::Purpose;
use crate::wire::tables::Tables;
use core::net::IpAddr;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub(super) const LIMITS: FrameLimits = FrameLimits {
    frame_bytes: 64 << 10,
    write_buffer_bytes: 16 << 10,
    read_buffer_bytes: 8 << 10,
};

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn identity(node: u32, life: u32, cluster_id: Option<u128>) -> Arc<CheckedIdentity> {
    let identity = Identity {
        cluster: "shop".into(),
        cluster_id,
        life: Life::new(NodeId(node), Incarnation(life)),
        cores: 2,
        advertised: format!("10.0.0.{node}:4000"),
        limits: LIMITS,
        tables: Arc::new(Tables::default()),
    };
    Arc::new(identity.check().unwrap())
}

/// One node with one core that has connections.
pub(super) struct Host {
    pub(super) links: Links,
    pub(super) porch: Porch,
    /// The outputs that were taken, but for dials and closes.
    pub(super) seen: Vec<Output>,
    pub(super) frames: Vec<Vec<u8>>,
    /// Whether its core takes frames, says what it has taken, and its driver reads and writes.
    pub(super) takes: bool,
    pub(super) gives_credit: bool,
    pub(super) is_frozen: bool,
    pub(super) address: IpAddr,
}

impl Host {
    pub(super) fn new(
        node: u32,
        life: u32,
        purpose: Purpose,
        settings: &LinkSettings,
        seed: u64,
    ) -> Host {
        let identity = identity(node, life, Some(7));
        let core = CoreId(u16::from(purpose == Purpose::Data));
        let rng = seeded(seed, u64::from(node));
        Host {
            links: Links::new(settings.clone(), purpose, core, identity.clone(), rng).unwrap(),
            porch: Porch::new(settings, identity, CoreId(0), vec![CoreId(1)]).unwrap(),
            seen: Vec::new(),
            frames: Vec::new(),
            takes: true,
            gives_credit: true,
            is_frozen: false,
            address: IpAddr::from([10, 0, 0, node as u8]),
        }
    }

    pub(super) fn ups(&self) -> Vec<&Up> {
        let up = |output: &'_ Output| matches!(output, Output::Up(_));
        let ups = self.seen.iter().filter(|output| up(output));
        ups.map(|output| match output {
            Output::Up(up) => &**up,
            _ => unreachable!(),
        })
        .collect()
    }

    pub(super) fn downs(&self) -> Vec<&Down> {
        self.seen
            .iter()
            .filter_map(|output| match output {
                Output::Down(down) => Some(&**down),
                _ => None,
            })
            .collect()
    }

    pub(super) fn notes(&self) -> Vec<String> {
        self.seen
            .iter()
            .filter_map(|output| match output {
                Output::Note(note) => Some(note.to_string()),
                _ => None,
            })
            .collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nobody is there: the test is the peer.
    Nobody,
    Porch(ConnectionId),
    Links(ConnectionId),
    Gone,
}

pub(super) struct Pipe {
    hosts: [usize; 2],
    places: [Place; 2],
    /// On its way to each end.
    pub(super) bytes: [VecDeque<u8>; 2],
    /// An end that is told of the other's end once its bytes are read.
    ended: [bool; 2],
    /// Nothing passes, in neither direction, and nobody is told.
    pub(super) is_cut: bool,
}

/// Two hosts.
pub(super) struct Two {
    pub(super) now: Time,
    pub(super) hosts: [Host; 2],
    pub(super) pipes: Vec<Pipe>,
    /// Whether dials are answered.
    pub(super) answers: bool,
}

impl Two {
    pub(super) fn new(purpose: Purpose, settings: &LinkSettings) -> Two {
        Two {
            now: Time::ZERO,
            hosts: [1, 2].map(|node| Host::new(node, 1, purpose, settings, 9)),
            pipes: Vec::new(),
            answers: true,
        }
    }

    /// Two hosts with a connection that the first has dialled.
    pub(super) fn connected(purpose: Purpose, settings: &LinkSettings) -> Two {
        let mut two = Two::new(purpose, settings);
        two.want(0);
        two.run();
        for host in &two.hosts {
            assert_eq!(host.ups().len(), 1, "{:?}", host.seen);
        }
        two
    }

    pub(super) fn remote(&self, of: usize) -> Remote {
        let node = NodeId(2 - of as u32);
        match self.hosts[of].links.purpose {
            Purpose::Data => Remote::data(node, CoreId(1)),
            _ => Remote::control(node),
        }
    }

    pub(super) fn want(&mut self, who: usize) {
        let remote = self.remote(who);
        self.hosts[who].links.want(remote, "there:4000", self.now);
    }

    pub(super) fn send(&mut self, who: usize, payload: &[u8]) -> Result<u64, NotSent> {
        let remote = self.remote(who);
        let links = &mut self.hosts[who].links;
        let sender = Sender {
            life: links.identity.get().life,
            core: links.core,
            stream: 0,
        };
        let header = match links.purpose {
            Purpose::Data => {
                let target = Target::Actor {
                    incarnation: Incarnation(1),
                    core: CoreId(1),
                    cell: 5,
                };
                let tag = TypeTag {
                    fingerprint: 8,
                    version: 1,
                };
                Header {
                    tag,
                    ..Header::new(Kind::Tell, target, sender)
                }
            }
            _ => Header::new(Kind::Report, Target::Node, sender),
        };
        links
            .write_bytes(remote, &header, &[], payload)
            .map(|ticket| ticket.number)
    }

    /// A stranger connects to a host and sends bytes; the pipe, whose end 0 is the stranger.
    pub(super) fn stranger(&mut self, host: usize, bytes: &[u8]) -> usize {
        let id = self.hosts[host]
            .porch
            .arrived(IpAddr::from([6, 6, 6, 6]), self.now);
        self.pipes.push(Pipe {
            hosts: [host, host],
            places: [Place::Nobody, Place::Porch(id)],
            bytes: [VecDeque::new(), bytes.iter().copied().collect()],
            ended: [false; 2],
            is_cut: false,
        });
        self.pipes.len() - 1
    }

    /// Whoever was at the end that dialled is no more, and nobody is told.
    pub(super) fn forget_dialler(&mut self, pipe: usize) {
        self.pipes[pipe].is_cut = true;
        self.pipes[pipe].places[0] = Place::Gone;
    }

    /// Whether a host has closed its end.
    pub(super) fn is_closed(&self, pipe: usize) -> bool {
        self.pipes[pipe].places[1] == Place::Gone
    }

    /// Everything that can move does.
    pub(super) fn run(&mut self) {
        loop {
            let mut moved = false;
            for host in 0..2 {
                if !self.hosts[host].is_frozen {
                    moved |= self.outputs(host);
                }
            }
            for pipe in 0..self.pipes.len() {
                for end in 0..2 {
                    let host = self.pipes[pipe].hosts[end];
                    if !self.hosts[host].is_frozen {
                        moved |= self.read(pipe, end);
                        moved |= self.write(pipe, end);
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Runs for a time.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.run();
            let next = self
                .hosts
                .iter()
                .filter(|host| !host.is_frozen)
                .flat_map(|host| [host.links.deadline(), host.porch.deadline()])
                .flatten()
                .min();
            let Some(next) = next.filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            for host in self.hosts.iter_mut().filter(|host| !host.is_frozen) {
                host.links.tick(self.now);
                host.porch.tick(self.now);
            }
        }
    }

    fn end_of(&self, host: usize, place: Place) -> Option<(usize, usize)> {
        self.pipes.iter().enumerate().find_map(|(index, pipe)| {
            let is_it = |end: &usize| pipe.hosts[*end] == host && pipe.places[*end] == place;
            (0..2).find(is_it).map(|end| (index, end))
        })
    }

    fn close(&mut self, host: usize, place: Place) {
        if let Some((pipe, end)) = self.end_of(host, place) {
            self.pipes[pipe].places[end] = Place::Gone;
            self.pipes[pipe].ended[1 - end] = true;
        }
    }

    fn outputs(&mut self, host: usize) -> bool {
        let now = self.now;
        let mut moved = false;
        while let Some(output) = self.hosts[host].porch.next_output() {
            moved = true;
            match output {
                PorchOutput::HandOver {
                    connection, guest, ..
                } => self.hand_over(host, connection, *guest),
                PorchOutput::Close {
                    connection,
                    last_words,
                } => {
                    if let Some((pipe, end)) = self.end_of(host, Place::Porch(connection)) {
                        self.pipes[pipe].bytes[1 - end].extend(last_words);
                    }
                    self.close(host, Place::Porch(connection));
                }
                PorchOutput::Note(note) => self.hosts[host].seen.push(Output::Note(note)),
            }
        }
        while let Some(output) = self.hosts[host].links.next_output() {
            moved = true;
            match output {
                Output::Dial { connection, .. } if !self.answers => {
                    self.hosts[host]
                        .links
                        .dial_failed(connection, "refused", now);
                }
                Output::Dial { connection, .. } => {
                    let address = self.hosts[host].address;
                    let id = self.hosts[1 - host].porch.arrived(address, now);
                    self.pipes.push(Pipe {
                        hosts: [host, 1 - host],
                        places: [Place::Links(connection), Place::Porch(id)],
                        bytes: [VecDeque::new(), VecDeque::new()],
                        ended: [false; 2],
                        is_cut: false,
                    });
                    self.hosts[host].links.connected(connection, now);
                }
                Output::Close { connection } => self.close(host, Place::Links(connection)),
                other => self.hosts[host].seen.push(other),
            }
        }
        moved
    }

    fn hand_over(&mut self, host: usize, connection: ConnectionId, guest: Guest) {
        let (pipe, end) = self.end_of(host, Place::Porch(connection)).unwrap();
        match self.hosts[host].links.accept(guest, self.now) {
            Ok(id) => self.pipes[pipe].places[end] = Place::Links(id),
            Err(_) => self.close(host, Place::Porch(connection)),
        }
    }

    fn write(&mut self, pipe: usize, end: usize) -> bool {
        let Pipe {
            hosts,
            places,
            bytes,
            is_cut,
            ..
        } = &mut self.pipes[pipe];
        let Place::Links(id) = places[end] else {
            return false;
        };
        let links = &mut self.hosts[hosts[end]].links;
        let _ = links.next_to_write();
        let pending = links.pending(id);
        // A socket takes so much that nobody reads.
        let room = (4_usize << 10).saturating_sub(bytes[1 - end].len());
        let count = match *is_cut {
            true => pending.len(),
            false => pending.len().min(room),
        };
        if count == 0 {
            return false;
        }
        if !*is_cut {
            bytes[1 - end].extend(&pending[..count]);
        }
        links.sent(id, count, self.now);
        true
    }

    fn read(&mut self, pipe: usize, end: usize) -> bool {
        let now = self.now;
        let Pipe {
            hosts,
            places,
            bytes,
            ended,
            is_cut,
        } = &mut self.pipes[pipe];
        if *is_cut {
            return false;
        }
        let host = &mut self.hosts[hosts[end]];
        let inbox = bytes[end].make_contiguous();
        match places[end] {
            Place::Porch(id) => {
                let count = host.porch.wants(id).min(inbox.len());
                if count > 0 {
                    host.porch.receive(id, &inbox[..count], now);
                    bytes[end].drain(..count);
                } else if std::mem::take(&mut ended[end]) {
                    host.porch.closed(id, now);
                } else {
                    return false;
                }
                true
            }
            Place::Links(id) => {
                let count = host.links.take_in(id, inbox, now);
                bytes[end].drain(..count);
                let mut moved = count > 0;
                if host.takes {
                    let (frames, gives) = (&mut host.frames, host.gives_credit);
                    let received = host.links.receive(id, 4, now, |_, arrived| {
                        frames.push(arrived.frame.payload().bytes().to_vec());
                        if gives { Took::Done } else { Took::Held }
                    });
                    moved |= received.more || received.frames > 0;
                }
                if !moved && bytes[end].is_empty() && std::mem::take(&mut ended[end]) {
                    host.links.closed(id, Gone::Ended, now);
                    moved = true;
                }
                moved
            }
            Place::Nobody | Place::Gone => false,
        }
    }
}

/// The one reason for which a host's connection went down.
pub(super) fn why(host: &Host) -> &Why {
    match host.downs()[..] {
        [down] => &down.why,
        ref other => panic!("{other:?}"),
    }
}
