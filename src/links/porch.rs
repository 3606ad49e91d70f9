//! Where connections wait that have come to the port of a node and have not said whom they want.
//!
//! Of each exactly the first 32 bytes are read, its preamble, which names the core; then it goes there, with its socket and
//! with the [`Guest`] that this gives. How many there are is bounded, and so is how long each may take. When there are as many
//! as may be, *the oldest makes room* for a new one: whoever means well says its preamble within a round trip, so that a crowd
//! that says nothing is what goes, and nobody can keep the others out by standing there.

use super::counters::LinkCounters;
use super::ending::Why;
use super::notes::{Note, Notes, Source};
use super::refusal::Turned;
use super::remote::ConnectionId;
use super::settings::{LinkSettings, LinkSettingsError};
use crate::base::ids::CoreId;
use crate::base::time::Time;
use crate::wire::greeting::{Greeting, GreetingError, Patience, Step};
use crate::wire::hello::CheckedIdentity;
use crate::wire::preamble::{PREAMBLE_BYTES, Preamble, Purpose};
use core::net::IpAddr;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

/// A connection that has said whom it wants: goes with its socket to that core's [`Links`](super::links::Links), which
/// [`accept`](super::links::Links::accept)s it. It may cross threads.
#[derive(Debug)]
pub struct Guest {
    pub(super) greeting: Greeting,
    pub(super) preamble: Preamble,
    /// What it was answered with.
    pub(super) identity: Arc<CheckedIdentity>,
}

impl Guest {
    /// What it says of itself, of which nothing is believed.
    #[must_use]
    pub fn preamble(&self) -> &Preamble {
        &self.preamble
    }

    /// The core that takes it has another clock than the porch, which shows `is` when the one of the porch shows `was`.
    pub fn change_clock(&mut self, was: Time, is: Time) {
        self.greeting.change_clock(was, is);
    }
}

/// What to do with a connection on the porch.
#[derive(Debug)]
pub enum PorchOutput {
    /// Hand its socket and the guest to the core. Nothing behind the preamble was read.
    HandOver {
        /// Which.
        connection: ConnectionId,
        /// To which core.
        core: CoreId,
        /// What the core goes on with.
        guest: Box<Guest>,
    },
    /// Close it. If there are last words, write what the socket takes of them at once, without waiting.
    Close {
        /// Which.
        connection: ConnectionId,
        /// The reason in a frame, or nothing.
        last_words: Vec<u8>,
    },
    /// A line for the log.
    Note(Note),
}

#[derive(Debug)]
struct Waiting {
    greeting: Greeting,
    identity: Arc<CheckedIdentity>,
    from: IpAddr,
}

/// All connections of a port that have not named their core.
///
/// Each turn: [`arrived`](Porch::arrived) for new ones; for those that can be read, up to [`wants`](Porch::wants) bytes with
/// [`receive`](Porch::receive); [`closed`](Porch::closed) for those that have ended; [`tick`](Porch::tick) if
/// [`deadline`](Porch::deadline) has come; then [`next_output`](Porch::next_output) until there is none.
pub struct Porch {
    identity: Arc<CheckedIdentity>,
    patience: Patience,
    most: usize,
    coordination: CoreId,
    data: Vec<CoreId>,
    /// The core that gets the next one that names none.
    turn: usize,
    now: Time,
    waiting: BTreeMap<ConnectionId, Waiting>,
    next: u64,
    outputs: VecDeque<PorchOutput>,
    notes: Notes,
    counters: LinkCounters,
}

impl Porch {
    /// Nobody is there yet. Control goes to the core `coordination`, data to the one that it names among `data`, or to each in
    /// turn.
    ///
    /// # Errors
    /// If the settings make no sense.
    pub fn new(
        settings: &LinkSettings,
        identity: Arc<CheckedIdentity>,
        coordination: CoreId,
        data: Vec<CoreId>,
    ) -> Result<Porch, LinkSettingsError> {
        settings.check()?;
        Ok(Porch {
            identity,
            patience: settings.patience,
            most: settings.most_on_porch,
            coordination,
            data,
            turn: 0,
            now: Time::ZERO,
            waiting: BTreeMap::new(),
            next: 0,
            outputs: VecDeque::new(),
            notes: Notes::new(settings.note_period, settings.most_notes),
            counters: LinkCounters::default(),
        })
    }

    /// Says who this node is from now on. Those that have come before are turned away by the core that they want, and will
    /// come again.
    pub fn set_identity(&mut self, identity: Arc<CheckedIdentity>) {
        self.identity = identity;
    }

    /// A connection has come. If there are too many, the oldest has to go; it is among the outputs.
    pub fn arrived(&mut self, from: IpAddr, now: Time) -> ConnectionId {
        self.now = self.now.max(now);
        let id = ConnectionId(self.next);
        self.next += 1;
        self.counters.accepted += 1;
        while self.waiting.len() >= self.most {
            let Some(oldest) = self.waiting.keys().next().copied() else {
                break;
            };
            self.turn_away(
                oldest,
                &Why::GivenUp("it made room for another"),
                Vec::new(),
            );
        }
        let greeting = Greeting::accept(self.identity.clone(), self.patience, now);
        let waiting = Waiting {
            greeting,
            identity: self.identity.clone(),
            from,
        };
        self.waiting.insert(id, waiting);
        id
    }

    /// How many bytes may be read of a connection. No more, or they are lost.
    #[must_use]
    pub fn wants(&self, id: ConnectionId) -> usize {
        self.waiting
            .get(&id)
            .map_or(0, |waiting| waiting.greeting.wants().min(PREAMBLE_BYTES))
    }

    /// Takes bytes of a connection, no more than it [`wants`](Porch::wants).
    pub fn receive(&mut self, id: ConnectionId, bytes: &[u8], now: Time) {
        self.now = self.now.max(now);
        let Some(waiting) = self.waiting.get_mut(&id) else {
            return;
        };
        self.counters.bytes_in += bytes.len() as u64;
        let _ = waiting.greeting.receive(bytes);
        let mut last_words = Vec::new();
        while let Some(step) = waiting.greeting.next_step() {
            match step {
                Step::HandOver(preamble) => return self.hand_over(id, preamble),
                Step::Send(bytes) => last_words = bytes,
                Step::Close(error) => {
                    return self.turn_away(id, &Why::Greeting(error), last_words);
                }
                Step::SendPlain(_) | Step::Established(_) => {}
            }
        }
    }

    /// A connection has ended.
    pub fn closed(&mut self, id: ConnectionId, now: Time) {
        self.now = self.now.max(now);
        let why = Why::Greeting(GreetingError::Lost {
            waiting_for: "preamble",
        });
        self.turn_away(id, &why, Vec::new());
    }

    /// When [`tick`](Porch::tick) has to be called next.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        // They have all the same patience, so the first that came is the first that has to go.
        self.waiting
            .values()
            .next()
            .and_then(|waiting| waiting.greeting.deadline())
    }

    /// Closes those that have taken too long.
    pub fn tick(&mut self, now: Time) {
        self.now = self.now.max(now);
        while let Some((id, waiting)) = self.waiting.iter_mut().next() {
            waiting.greeting.tick(now);
            let Some(Step::Close(error)) = waiting.greeting.next_step() else {
                break;
            };
            let id = *id;
            self.turn_away(id, &Why::Greeting(error), Vec::new());
        }
    }

    /// What to do next.
    #[must_use]
    pub fn next_output(&mut self) -> Option<PorchOutput> {
        self.outputs.pop_front()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> &LinkCounters {
        &self.counters
    }

    /// How much memory those that wait take.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.waiting
            .values()
            .map(|waiting| size_of::<Waiting>() + waiting.greeting.held_bytes())
            .sum()
    }

    fn hand_over(&mut self, id: ConnectionId, preamble: Preamble) {
        let core = match (preamble.purpose, preamble.wanted) {
            (Purpose::Control, _) => Some(self.coordination),
            (_, Some(wanted)) => Some(wanted).filter(|core| self.data.contains(core)),
            (_, None) => {
                self.turn = self.turn.wrapping_add(1);
                self.data.get(self.turn % self.data.len().max(1)).copied()
            }
        };
        let Some(core) = core else {
            let there = preamble.wanted.unwrap_or_default();
            let from = self.waiting.remove(&id).map(|waiting| waiting.from);
            self.counters.turned_away += 1;
            let turned = Turned::NoDataCore { there };
            if let Some(from) = from {
                self.note(Source::Address(from), "turned away", &turned);
            }
            self.close(id, Vec::new());
            return;
        };
        if let Some(waiting) = self.waiting.remove(&id) {
            let guest = Guest {
                greeting: waiting.greeting,
                preamble,
                identity: waiting.identity,
            };
            self.outputs.push_back(PorchOutput::HandOver {
                connection: id,
                core,
                guest: Box::new(guest),
            });
        }
    }

    fn turn_away(&mut self, id: ConnectionId, why: &Why, last_words: Vec<u8>) {
        let Some(waiting) = self.waiting.remove(&id) else {
            return;
        };
        self.counters.count_end(why);
        self.note(Source::Address(waiting.from), why.class(), why);
        self.close(id, last_words);
    }

    fn close(&mut self, id: ConnectionId, last_words: Vec<u8>) {
        self.outputs.push_back(PorchOutput::Close {
            connection: id,
            last_words,
        });
    }

    fn note(&mut self, source: Source, class: &'static str, text: &dyn fmt::Display) {
        match self.notes.take(source, class, text, self.now) {
            Some(note) => {
                self.counters.notes += 1;
                self.outputs.push_back(PorchOutput::Note(note));
            }
            None => self.counters.untold += 1,
        }
    }
}

impl fmt::Debug for Porch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Porch")
            .field("waiting", &self.waiting.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
