//! Watches between nodes: what one core has to remember, without sending anything.
//!
//! # The protocol
//!
//! A watch is announced with a `Watch` frame, in order with the messages of the watcher's core, and ended with `Unwatch`;
//! the end of who is watched comes as `Terminated`, in order with the messages of *its* core. Each watch has a number that
//! its core never gives again, and is taken out when the first news of an end arrives: nobody hears twice, however often
//! something is repeated. So everything may be repeated, and what may have been lost is:
//!
//! | lost | who knows | what is done |
//! |---|---|---|
//! | `Watch`, `Unwatch` | the watcher's core: its connection broke | begins a new *round*: `Forget`, then all that it still watches there |
//! | `Terminated` | the core of the watched: its connection broke | `Rewatch`: who watches somebody on this core announces that again, and hears of those who have gone |
//! | `Rewatch`, `Forget` | whoever sent it: the connection broke again | the same once more |
//! | all that a core would have said | the other cores of its node: it has died | `Rewatch` in its place |
//!
//! Neither side waits for a confirmation and none has a timer for it: each knows when what it has sent may be lost, and
//! that is when its own connection breaks, or when the turn in which it wrote is taken back. Rounds are counted in the
//! frames, so that a frame that comes late over an old connection begins no watch that nobody ends.
//!
//! Which watches are announced again is known from the watches themselves; nothing is kept for it. What finds no room in
//! the link waits here: of the watched side the ends, each in the place of the watch that it has ended; of the watcher's
//! the number from which on watches are to be announced again.
//!
//! # Entities
//!
//! An entity's watch is announced to the node that owns its shard. A node that does not own it (any more) says `Rewatch`
//! with the number of the watch, which is tried again a little later, or when the owner changes. A shard that was taken from
//! a dead owner has a fence above the epoch in which the watch was announced: then the watched life has ended.
//!
//! # Nodes
//!
//! Who watches somebody on a node that is no member any more hears that the node has gone, behind what is still on its way
//! between the cores here. Only a member can say so: while this node is none, after it was declared down, its watches wait
//! until it has come back and knows who is left. A node that nobody here knows yet gets some time to become known. And what members that are gone
//! had watched here is forgotten.

use super::ending::StopCause;
use super::far_signals::Detained;
use crate::base::ids::{CoreId, Epoch, Incarnation, NodeId, ShardId};
use crate::base::time::Time;
use crate::wire::address::Life;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Where a watch was announced last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) life: Life,
    pub(super) there: There,
}

/// What is watched there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum There {
    /// An actor of this core.
    Actor(CoreId),
    /// An entity of a shard, in the epoch that was known then.
    Shard(Epoch),
}

/// The news of an end for which the link has no room yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owed {
    pub(super) core: CoreId,
    pub(super) number: u64,
    pub(super) cause: Option<StopCause>,
}

/// Which watches are to be announced again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Again {
    /// From this number on.
    from: u64,
    /// Only those of actors of this core, and of entities, whose core is not known here.
    only: Option<CoreId>,
}

/// What there is to send to a node next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A new round begins: what was announced before is over.
    Forget(u16),
    /// Watches of those on this core of this node are to be announced again; `None`: on any.
    Rewatch(Option<CoreId>),
    Terminated(Owed),
    /// Announce this watch.
    Watch(u64),
}

/// What this core has to do with watches from and to one life of another node.
#[derive(Debug, Default)]
struct Session {
    /// The round of this core's watches there.
    round: u16,
    /// Something was announced in this round.
    has_announced: bool,
    /// Somebody there has watched somebody here.
    has_watchers: bool,
    /// What was sent may be lost.
    is_broken: bool,
    forget_due: bool,
    rewatch_due: BTreeSet<CoreId>,
    rewatch_all: bool,
    owed: VecDeque<Owed>,
    again: Option<Again>,
    /// The rounds of its cores' watches here.
    rounds: BTreeMap<CoreId, u16>,
}

impl Session {
    fn is_idle(&self) -> bool {
        !self.is_broken
            && !self.forget_due
            && self.rewatch_due.is_empty()
            && !self.rewatch_all
            && self.owed.is_empty()
            && self.again.is_none()
    }

    fn announce_again(&mut self, again: Again) {
        self.again = Some(match self.again {
            None => again,
            Some(known) => Again {
                from: known.from.min(again.from),
                only: known.only.filter(|core| again.only == Some(*core)),
            },
        });
    }
}

/// After this time what could not be sent or announced is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(100);

/// Between two attempts to announce a watch that is not taken, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A watch that could not be announced.
#[derive(Clone, Copy, Debug)]
struct Late {
    since: Time,
    /// When it is tried again.
    due: Time,
}

/// The lives that are remembered because they are to be told once they are known, at most.
const MOST_STRANGERS: usize = 1_000;

/// The nodes of which it is remembered that they have been members, at most. One that is forgotten is taken for one that has
/// yet to become known.
const MOST_KNOWN: usize = 10_000;

/// One core's part in the watches between nodes.
#[derive(Debug, Default)]
pub(crate) struct FarWatches {
    placed: BTreeMap<u64, Placed>,
    by_node: BTreeMap<NodeId, BTreeSet<u64>>,
    /// Watches of entities, announced or not.
    by_shard: BTreeMap<(u16, ShardId), BTreeSet<u64>>,
    shards: BTreeMap<u64, (u16, ShardId)>,
    /// Watches that could not be announced.
    late: BTreeMap<u64, Late>,
    /// How long those wait for their next attempt that were not taken, and when that was last.
    pauses: BTreeMap<u64, (Duration, Time)>,
    /// Watches of those who have gone with their node, since when; what they had sent may still be on its way between the
    /// cores here, and comes before.
    gone: BTreeMap<u64, Time>,
    sessions: BTreeMap<Life, Session>,
    /// Sessions in which there is something to send.
    busy: BTreeSet<Life>,
    /// Lives that are no members, of which watches were dropped here.
    strangers: BTreeSet<Life>,
    /// Cores of this node that have died.
    dead: BTreeSet<CoreId>,
    /// The latest life of each node that has been a member.
    known: BTreeMap<NodeId, Incarnation>,
    /// What waits for room on its way to other cores of this node.
    pub(super) detained: Detained,
    /// A timer will see to what is late.
    pub(super) timer_set: bool,
}

impl FarWatches {
    /// Whether there is nothing to do in a turn.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.busy.is_empty()
    }

    /// Watches of those on other nodes, announced or about to be.
    pub(super) fn len(&self) -> usize {
        let unplaced = self.late.keys().filter(|it| !self.placed.contains_key(it));
        self.placed.len() + self.gone.len() + unplaced.count()
    }

    /// A watch of an entity begins.
    pub(super) fn add_entity(&mut self, number: u64, shard: (u16, ShardId)) {
        self.shards.insert(number, shard);
        self.by_shard.entry(shard).or_default().insert(number);
    }

    /// A watch is over. Where it was announced last.
    pub(super) fn remove(&mut self, number: u64) -> Option<Placed> {
        self.late.remove(&number);
        self.pauses.remove(&number);
        self.gone.remove(&number);
        if let Some(shard) = self.shards.remove(&number) {
            take_from(&mut self.by_shard, &shard, number);
        }
        self.unplace(number)
    }

    fn unplace(&mut self, number: u64) -> Option<Placed> {
        let placed = self.placed.remove(&number)?;
        take_from(&mut self.by_node, &placed.life.node, number);
        Some(placed)
    }

    /// Where a watch was announced last.
    pub(super) fn placed(&self, number: u64) -> Option<Placed> {
        self.placed.get(&number).copied()
    }

    /// The watches of the entities of a shard.
    pub(super) fn of_shard(&self, shard: (u16, ShardId)) -> Vec<u64> {
        let numbers = self.by_shard.get(&shard).into_iter().flatten();
        numbers.copied().collect()
    }

    /// A watch is announced at this place from now on: now, in the round that comes out, if nothing has to be sent there
    /// first; otherwise it has its turn.
    pub(super) fn place(&mut self, number: u64, placed: Placed, has_room: bool) -> Option<u16> {
        self.late.remove(&number);
        self.unplace(number);
        self.placed.insert(number, placed);
        let node = placed.life.node;
        self.by_node.entry(node).or_default().insert(number);
        let session = self.sessions.entry(placed.life).or_default();
        let goes_now = has_room && !session.is_broken && !session.forget_due;
        if goes_now {
            session.has_announced = true;
            return Some(session.round);
        }
        session.announce_again(Again {
            from: number,
            only: None,
        });
        self.busy.insert(placed.life);
        None
    }

    /// The round in which a watch there is ended; `None` if all of the round before is over anyway.
    pub(super) fn round(&self, life: Life) -> Option<u16> {
        let session = self.sessions.get(&life)?;
        (!session.is_broken && !session.forget_due).then_some(session.round)
    }

    /// A watch cannot be announced now, and is tried again.
    pub(super) fn delay(&mut self, number: u64, now: Time) {
        let late = Late {
            since: now,
            due: now,
        };
        self.late.entry(number).or_insert(late).due = now;
    }

    /// A watch was not taken where it was announced. It is tried again after a while, and less and less often.
    pub(super) fn bounced(&mut self, number: u64, now: Time) {
        let pause = match self.pauses.get(&number) {
            Some((pause, last)) if now <= *last + 2 * LONGEST_PAUSE => {
                (*pause * 2).min(LONGEST_PAUSE)
            }
            _ => RETRY,
        };
        self.pauses.insert(number, (pause, now));
        let due = now + pause;
        let late = Late { since: now, due };
        self.late.entry(number).or_insert(late).due = due;
    }

    /// A watch can only be announced when this node is a member again; that is no fault of who is watched.
    pub(super) fn wait_for_life(&mut self, number: u64, now: Time) {
        let late = Late {
            since: now,
            due: now,
        };
        self.late.insert(number, late);
    }

    /// Whether a watch is one of an entity.
    pub(super) fn has_entity(&self, number: u64) -> bool {
        self.shards.contains_key(&number)
    }

    /// A watch is about to be announced anew, wherever that may be.
    pub(super) fn withdraw(&mut self, number: u64) {
        self.late.remove(&number);
        self.unplace(number);
    }

    /// Watches that could not be announced and are tried again now, and since when.
    pub(super) fn late(&self, now: Time) -> Vec<(u64, Time)> {
        let late = self.late.iter().filter(|(_, late)| late.due <= now);
        late.map(|(number, late)| (*number, late.since)).collect()
    }

    /// Who is watched has gone with its node.
    pub(super) fn node_gone(&mut self, number: u64, now: Time) {
        self.withdraw(number);
        self.gone.insert(number, now);
    }

    /// Whether who is watched has gone with its node.
    pub(super) fn is_gone(&self, number: u64) -> bool {
        self.gone.contains_key(&number)
    }

    /// Watches of those who have gone with their node, as far as that was so long ago.
    pub(super) fn gone(&self, is_due: impl Fn(Time) -> bool) -> Vec<u64> {
        let gone = self.gone.iter().filter(|(_, since)| is_due(**since));
        gone.map(|(number, _)| *number).collect()
    }

    /// Whether somebody has to come back after a while.
    pub(super) fn waits(&self) -> bool {
        !self.late.is_empty()
            || !self.gone.is_empty()
            || !self.busy.is_empty()
            || !self.detained.is_empty()
    }

    /// Whether a frame of a core's watches is of a round that is over.
    pub(super) fn is_stale(&self, life: Life, core: CoreId, round: u16) -> bool {
        let session = self.sessions.get(&life);
        let known = session.and_then(|session| session.rounds.get(&core));
        known.is_some_and(|known| is_before(round, *known))
    }

    /// A core of another node begins a round. Returns whether it is news.
    pub(super) fn begin_round(&mut self, life: Life, core: CoreId, round: u16) -> bool {
        if self.is_stale(life, core, round) {
            return false;
        }
        let session = self.sessions.entry(life).or_default();
        session.rounds.insert(core, round);
        true
    }

    /// Somebody of that life has watched somebody here.
    pub(super) fn has_watcher(&mut self, life: Life) {
        self.sessions.entry(life).or_default().has_watchers = true;
    }

    /// Whether the news of an end may be sent at once: none waits before it.
    pub(super) fn owes_nothing(&self, life: Life) -> bool {
        let session = self.sessions.get(&life);
        session.is_none_or(|session| session.owed.is_empty())
    }

    /// The news of an end has to wait. If more of them wait than there may be watches, they give way to the question who
    /// watches somebody on this core, which is answered by those who have not heard.
    pub(super) fn owe(&mut self, life: Life, owed: Owed, me: CoreId, most: usize) {
        let session = self.sessions.entry(life).or_default();
        session.has_watchers = true;
        if session.owed.len() < most {
            session.owed.push_back(owed);
        } else {
            session.owed = VecDeque::new();
            session.rewatch_due.insert(me);
        }
        self.busy.insert(life);
    }

    /// Who watches somebody on a core of this node, or on any, is to be announced again.
    pub(super) fn wants_to_hear(&mut self, life: Life, core: Option<CoreId>) {
        let session = self.sessions.entry(life).or_default();
        session.has_watchers = true;
        match core {
            Some(core) => _ = session.rewatch_due.insert(core),
            None => session.rewatch_all = true,
        }
        self.busy.insert(life);
    }

    /// What was sent to a life of a node may be lost.
    pub(super) fn broken(&mut self, life: Life) {
        if let Some(session) = self.sessions.get_mut(&life)
            && (session.has_announced || session.has_watchers || !session.is_idle())
        {
            session.is_broken = true;
            self.busy.insert(life);
        }
    }

    /// A core of this node has died: so have its actors. `lives` are those who may watch some of them.
    pub(super) fn core_died(&mut self, core: CoreId, lives: impl Iterator<Item = Life>) {
        if self.dead.insert(core) {
            for life in lives {
                let session = self.sessions.entry(life).or_default();
                session.has_watchers = true;
                session.rewatch_due.insert(core);
                self.busy.insert(life);
            }
        }
    }

    /// A core of a life of a node wants to hear of the watches of those on it again; `None`: all of its cores do.
    pub(super) fn asked_again(&mut self, life: Life, core: Option<CoreId>) {
        // Where nothing was announced there is nothing to say, whatever it calls itself.
        if let Some(session) = self.sessions.get_mut(&life)
            && self.by_node.contains_key(&life.node)
        {
            session.announce_again(Again {
                from: 0,
                only: core,
            });
            self.busy.insert(life);
        }
    }

    /// The lives to which there is something to send.
    pub(super) fn busy(&self) -> Vec<Life> {
        self.busy.iter().copied().collect()
    }

    /// What is to be sent to a life of a node next, from this core. It counts as sent.
    pub(super) fn next_due(&mut self, me: CoreId, life: Life) -> Option<Due> {
        let session = self.sessions.get_mut(&life)?;
        if std::mem::take(&mut session.is_broken) {
            if session.has_announced {
                session.round = session.round.wrapping_add(1);
                session.forget_due = true;
                session.announce_again(Again {
                    from: 0,
                    only: None,
                });
            }
            if session.has_watchers {
                session.rewatch_due.insert(me);
                session.rewatch_due.extend(&self.dead);
            }
        }
        if std::mem::take(&mut session.forget_due) {
            // What is announced of this round comes behind it.
            session.has_announced = true;
            return Some(Due::Forget(session.round));
        }
        if std::mem::take(&mut session.rewatch_all) {
            session.has_watchers = true;
            return Some(Due::Rewatch(None));
        }
        if let Some(core) = session.rewatch_due.pop_first() {
            return Some(Due::Rewatch(Some(core)));
        }
        if let Some(owed) = session.owed.pop_front() {
            return Some(Due::Terminated(owed));
        }
        while let Some(again) = session.again {
            let numbers = self.by_node.get(&life.node);
            let Some(number) = numbers
                .and_then(|it| it.range(again.from..).next())
                .copied()
            else {
                session.again = None;
                break;
            };
            session.again = Some(Again {
                from: number + 1,
                ..again
            });
            let is_meant = self.placed.get(&number).is_some_and(|placed| {
                let is_there = match (again.only, placed.there) {
                    (Some(core), There::Actor(there)) => core == there,
                    _ => true,
                };
                placed.life == life && is_there
            });
            if is_meant {
                session.has_announced = true;
                return Some(Due::Watch(number));
            }
        }
        if session.is_idle() {
            self.busy.remove(&life);
        }
        None
    }

    /// The round in which watches are announced to a life of a node.
    pub(super) fn present_round(&self, life: Life) -> u16 {
        self.sessions.get(&life).map_or(0, |session| session.round)
    }

    /// Whether that life of a node has been a member, or a later one has.
    pub(super) fn was_member(&self, life: Life) -> bool {
        let known = self.known.get(&life.node);
        known.is_some_and(|known| life.incarnation <= *known)
    }

    /// Watches of somebody of that life were dropped, which is no member; once it is, it is told.
    pub(super) fn has_dropped(&mut self, life: Life) {
        if self.strangers.len() >= MOST_STRANGERS {
            self.strangers.pop_first();
        }
        self.strangers.insert(life);
    }

    /// Other members: `known` says in which life a node is one. The lives that are over. Of whom these took along nobody
    /// knows if this node is no member itself: it has yet to hear who is.
    pub(super) fn meet(
        &mut self,
        known: &BTreeMap<NodeId, Incarnation>,
        is_member_itself: bool,
        now: Time,
    ) -> Vec<Life> {
        self.detained.meet(known);
        let is_member = |life: &Life| known.get(&life.node) == Some(&life.incarnation);
        let gone = self.sessions.keys().filter(|life| !is_member(life));
        let gone: Vec<Life> = gone.copied().collect();
        for life in &gone {
            self.sessions.remove(life);
            self.busy.remove(life);
        }
        // Those of older lives never come back.
        let (here, rest) = std::mem::take(&mut self.strangers)
            .into_iter()
            .filter(|life| {
                let member = known.get(&life.node);
                member.is_none_or(|member| *member <= life.incarnation)
            })
            .partition(is_member);
        self.strangers = rest;
        let here: BTreeSet<Life> = here;
        for life in here {
            self.sessions.entry(life).or_default().rewatch_all = true;
            self.busy.insert(life);
        }
        let over = self.placed.iter().filter(|(_, it)| !is_member(&it.life));
        let over: Vec<(u64, Placed)> = over.map(|(number, it)| (*number, *it)).collect();
        for (number, placed) in over {
            match placed.there {
                There::Actor(_) if is_member_itself => self.node_gone(number, now),
                There::Actor(_) => self.delay(number, now),
                // Its shard says what has become of it.
                There::Shard(_) => self.delay(number, now),
            }
        }
        for (node, incarnation) in known {
            if self.known.len() < MOST_KNOWN || self.known.contains_key(node) {
                self.known.insert(*node, *incarnation);
            }
        }
        gone
    }
}

/// Whether a round comes before another; they begin anew after 65,536.
fn is_before(round: u16, known: u16) -> bool {
    (round.wrapping_sub(known) as i16) < 0
}

fn take_from<K: Ord>(sets: &mut BTreeMap<K, BTreeSet<u64>>, key: &K, number: u64) {
    if let Some(numbers) = sets.get_mut(key) {
        numbers.remove(&number);
        if numbers.is_empty() {
            sets.remove(key);
        }
    }
}
