//! From a socket to a connection on which both sides agree, and from there to its end.

use super::connection::{Connection, Meeting, Phase};
use super::ending::Why;
use super::links::{Links, Timed};
use super::notes::Source;
use super::open::Open;
use super::output::Output;
use super::porch::Guest;
use super::refusal::Turned;
use super::remote::{ConnectionId, Remote};
use crate::base::time::Time;
use crate::wire::address::Sender;
use crate::wire::greeting::{Dial, Established, Greeting, GreetingError, Step};
use crate::wire::preamble::Purpose;

impl Links {
    /// The socket of a dial is connected. Its first [`PREAMBLE_BYTES`](crate::wire::preamble::PREAMBLE_BYTES) go out in plain,
    /// and TLS begins behind them where it is used.
    pub fn connected(&mut self, id: ConnectionId, now: Time) {
        self.at(now);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if !matches!(connection.phase, Phase::Connecting { .. }) {
            return;
        }
        let dial = Dial {
            purpose: self.purpose,
            core: self.core,
            wanted: connection.remote.core,
            expected: Some(connection.remote.node),
        };
        let greeting = Greeting::dial(self.identity.clone(), dial, self.settings.patience, now);
        connection.phase = Phase::Greeting(Box::new(Meeting::new(greeting)));
        self.follow_steps(id);
        self.arm(id);
    }

    /// The socket of a dial does not connect, for a reason in words, and was closed: nobody is told to close it. It is tried
    /// again later.
    pub fn dial_failed(&mut self, id: ConnectionId, why: &str, now: Time) {
        self.at(now);
        self.remove(id, Why::NotReached(why.to_owned()), false);
    }

    /// Takes a connection that came in by the [`Porch`](super::porch::Porch) and is for this core.
    ///
    /// # Errors
    /// If it is not for this core, or there are too many: close it.
    pub fn accept(&mut self, guest: Guest, now: Time) -> Result<ConnectionId, Turned> {
        self.at(now);
        match self.let_in(guest) {
            Ok(id) => Ok(id),
            Err((remote, turned)) => {
                self.counters.turned_away += 1;
                if !matches!(turned, Turned::Leaving | Turned::OldIdentity) {
                    self.note(Source::Remote(remote), "turned away", &turned);
                }
                Err(turned)
            }
        }
    }

    fn let_in(&mut self, guest: Guest) -> Result<ConnectionId, (Remote, Turned)> {
        let Guest {
            mut greeting,
            preamble,
            identity,
        } = guest;
        let remote = Remote {
            node: preamble.life.node,
            core: (self.purpose == Purpose::Data).then_some(preamble.core),
        };
        if self.is_leaving {
            return Err((remote, Turned::Leaving));
        }
        if preamble.purpose != self.purpose {
            let turned = Turned::Purpose {
                here: self.purpose,
                there: preamble.purpose,
            };
            return Err((remote, turned));
        }
        let (here, there) = (self.identity.get(), identity.get());
        if (here.life, here.cluster_id) != (there.life, there.cluster_id) {
            return Err((remote, Turned::OldIdentity));
        }
        // Control goes to the one core that has it, whichever that is.
        if let Some(there) = preamble.wanted.filter(|there| *there != self.core)
            && self.purpose == Purpose::Data
        {
            let here = self.core;
            return Err((remote, Turned::Core { here, there }));
        }
        if let Err(full) = self.make_room_for(remote) {
            return Err((remote, full));
        }
        let of_remote = self.peers.get(&remote).map(|peer| peer.accepted.clone());
        if let Some(of_remote) = of_remote
            && of_remote.len() >= self.settings.most_greetings_per_remote
        {
            self.make_room(of_remote);
        }
        if self.greetings.len() >= self.settings.most_greetings {
            self.make_room(self.greetings.iter().copied().collect());
        }
        greeting.owned_by(self.core);
        let id = self.new_id();
        let meeting = Phase::Greeting(Box::new(Meeting::new(greeting)));
        self.connections
            .insert(id, Connection::new(remote, false, meeting));
        self.peers.entry(remote).or_default().accepted.push(id);
        self.greetings.insert(id);
        self.rank(id, remote);
        self.counters.accepted += 1;
        self.arm(id);
        Ok(id)
    }

    /// Gives up the oldest of these connections that has not said its hello; if all have, the oldest. Strangers go first.
    fn make_room(&mut self, among: Vec<ConnectionId>) {
        let is_silent = |id: &&ConnectionId| {
            let connection = self.connections.get(id);
            connection.is_some_and(|connection| {
                matches!(&connection.phase, Phase::Greeting(meeting) if !meeting.welcomed)
            })
        };
        let is_stranger = |id: &&ConnectionId| self.ranks.is_stranger(**id);
        let strangers: Vec<ConnectionId> = among.iter().filter(is_stranger).copied().collect();
        let among = if strangers.is_empty() {
            among
        } else {
            strangers
        };
        let silent = among.iter().find(is_silent);
        if let Some(oldest) = silent.or(among.first()).copied() {
            self.remove(oldest, Why::GivenUp("it made room for another"), true);
        }
    }

    /// Takes bytes of a greeting.
    pub(super) fn greet(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let parks = self.is_parked(connection);
        let Some(meeting) = self
            .connections
            .get_mut(&id)
            .and_then(Connection::meeting_mut)
        else {
            return;
        };
        if parks {
            if meeting.parked.is_empty() {
                self.counters.parked += 1;
            }
            meeting.parked.extend_from_slice(bytes);
            return;
        }
        let taken = meeting.greeting.receive(bytes);
        let rest = &bytes[taken..];
        self.follow_steps(id);
        // More than a hello can only come behind a hello that was parked.
        if !rest.is_empty()
            && let Some(reader) = self
                .connections
                .get_mut(&id)
                .and_then(Connection::open_mut)
                .and_then(|open| open.reader.as_mut())
        {
            let _ = reader.take_in(rest);
        }
    }

    /// Takes what was parked for the sake of a dial that is over.
    pub(super) fn unpark(&mut self, remote: Remote) {
        let accepted = self
            .peers
            .get(&remote)
            .map_or(Vec::new(), |peer| peer.accepted.clone());
        for id in accepted {
            let meeting = self
                .connections
                .get_mut(&id)
                .and_then(Connection::meeting_mut);
            let parked = meeting.map_or(Vec::new(), |meeting| std::mem::take(&mut meeting.parked));
            if !parked.is_empty() {
                self.greet(id, &parked);
            }
        }
    }

    /// Does what a greeting says.
    pub(super) fn follow_steps(&mut self, id: ConnectionId) {
        let (now, patience) = (self.now, self.settings.close_patience);
        loop {
            let Some(connection) = self.connections.get_mut(&id) else {
                return;
            };
            let Phase::Greeting(meeting) = &mut connection.phase else {
                return;
            };
            match meeting.greeting.next_step() {
                None => break,
                Some(Step::SendPlain(bytes)) => connection.early.extend_from_slice(&bytes),
                Some(Step::Send(bytes)) => {
                    meeting.welcomed = !connection.dialled;
                    connection.early.extend_from_slice(&bytes);
                }
                // The porch has done that.
                Some(Step::HandOver(_)) => {}
                Some(Step::Established(established)) => {
                    self.open_with(id, *established);
                    break;
                }
                Some(Step::Close(error)) => {
                    meeting.failed = Some((Why::Greeting(error), now + patience));
                    break;
                }
            }
        }
        self.queue(id);
        self.arm(id);
        self.end_if_failed(id);
    }

    /// A greeting that has failed ends when its last word was sent.
    pub(super) fn end_if_failed(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(&id)
            && let Phase::Greeting(meeting) = &connection.phase
            && let Some((why, _)) = &meeting.failed
            && connection.pending().is_empty()
        {
            let why = why.clone();
            self.remove(id, why, true);
        }
    }

    fn open_with(&mut self, id: ConnectionId, established: Established) {
        let now = self.now;
        let identity = self.identity.get();
        let sender = Sender {
            life: identity.life,
            core: self.core,
            stream: 0,
        };
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let open = Open::new(
            established.clone(),
            sender,
            identity.limits,
            &self.settings,
            now,
        );
        connection.phase = Phase::Open(Box::new(open));
        self.agreed(id, &established);
    }

    /// Forgets a connection, whatever it has come to, and does what follows from that.
    pub(super) fn remove(&mut self, id: ConnectionId, why: Why, close: bool) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        if let Some(timer) = connection.timer {
            self.timers.remove(&(timer, Timed::Connection(id)));
        }
        if close {
            self.outputs.push_back(Output::Close { connection: id });
        }
        self.counters.count_end(&why);
        self.greetings.remove(&id);
        self.ranks.leave(id);
        let remote = connection.remote;
        // A peer that gives up an attempt because ours came up first does nothing that anybody should read of.
        let crossed = matches!(
            why,
            Why::Greeting(GreetingError::Lost { .. }) | Why::Ended { .. } | Why::Broken(_)
        ) && self
            .peers
            .get(&remote)
            .is_some_and(|peer| peer.current.is_some_and(|current| current != id));
        if why.is_worth_a_note() && !crossed {
            self.note(Source::Remote(remote), why.class(), &why);
        }
        let is_our_doing = matches!(why, Why::GivenUp(_));
        let mut was_up_for = None;
        if let Phase::Open(open) = &connection.phase
            && let Some(since) = open.since
        {
            was_up_for = Some(self.now - since);
            let renewed = matches!(why, Why::ByUs(super::ending::Farewell::Renewed));
            let down = open.down(remote, id, why);
            self.counters.downs += 1;
            self.counters.frames_unsent += down.accepted - down.handed;
            self.outputs.push_back(Output::Down(Box::new(down)));
            if renewed {
                was_up_for = None;
            }
        }
        self.after_removal(id, remote, was_up_for, is_our_doing);
    }

    /// Says that a dial has failed, unless there is another way to come up.
    fn say_unreached(&mut self, remote: Remote) {
        let nobody = self.peers.get(&remote).is_some_and(|peer| {
            peer.current.is_none() && peer.accepted.is_empty() && peer.wanted.is_some()
        });
        if nobody {
            self.outputs.push_back(Output::Unreached { remote });
        }
    }

    fn after_removal(
        &mut self,
        id: ConnectionId,
        remote: Remote,
        was_up_for: Option<std::time::Duration>,
        is_our_doing: bool,
    ) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&remote) else {
            return;
        };
        let was_dial = peer.dial == Some(id);
        if was_dial {
            peer.dial = None;
        }
        if peer.current == Some(id) {
            peer.current = None;
        }
        peer.accepted.retain(|accepted| *accepted != id);
        if was_up_for.is_some_and(|time| time >= self.settings.steady_after) {
            peer.backoff.reset();
        }
        if (was_dial && !is_our_doing) || was_up_for.is_some() {
            let wait = peer.backoff.next(&self.settings, &mut self.rng);
            peer.next_dial = Some(now + wait);
        }
        if was_dial {
            self.unpark(remote);
            if !is_our_doing {
                self.say_unreached(remote);
            }
        }
        self.decide_dial(remote);
        self.maybe_dial(remote);
        self.forget_if_idle(remote);
    }

    pub(super) fn forget_if_idle(&mut self, remote: Remote) {
        if let Some(peer) = self.peers.get(&remote)
            && peer.wanted.is_none()
            && peer.dial.is_none()
            && peer.current.is_none()
            && peer.accepted.is_empty()
        {
            self.peers.remove(&remote);
        }
    }
}
