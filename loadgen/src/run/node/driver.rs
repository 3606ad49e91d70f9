//! A driver inside a core of a node: it sends bursts as the drivers of one runtime do, to entities anywhere in the cluster.
//!
//! What it knows of its tells it asks the nodes that own shards ([`Credit`]). Where nodes share CPUs a driver that has
//! nothing to send naps for a moment instead of polling, so that the node it waits for has the CPU.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use corecast::base::rng::Rng;
use corecast::{Actor, AskError, Context, Fault, Next, Region, Rejection, Time, Uncertainty};

use super::credit::Credit;
use super::entity::ToMember;
use super::handled::{Count, Handled, Origin};
use super::owners::Owners;
use super::probes::Probes;
use crate::cluster::protocol::ErrorCount;
use crate::keys::{Keys, unit};
use crate::measure::Stamps;
use crate::run::board::{Board, Order};
use crate::run::clock::Clock;
use crate::run::generator::{Generator, Shot, Step};
use crate::run::ledger::Ledger;

/// How long a driver naps that has nothing to send and shares its CPU.
const NAP: Duration = Duration::from_micros(200);
/// How long before the next message of a schedule it is awake again: a wake is not always in time.
const AWAKE_BEFORE: Duration = Duration::from_micros(150);
/// It looks after what it has sent no more seldom than this.
const LONGEST_NAP: Duration = Duration::from_millis(2);
/// Keys drawn to find one whose owner is as it is to be.
const DRAWS: u32 = 64;
/// How long a count is waited for.
const COUNT_WITHIN: Duration = Duration::from_secs(1);

/// A driver inside a core of a node.
pub(super) struct MemberDriver {
    pub(super) post: MemberPost,
    pub(super) generator: Generator,
    pub(super) locality: Option<Locality>,
    pub(super) tally: DriverTally,
}

/// What a driver needs to know of its phase and its node.
#[derive(Clone)]
pub(super) struct MemberPost {
    pub(super) driver: usize,
    pub(super) nodes: u32,
    pub(super) node: u32,
    pub(super) run: u32,
    pub(super) region: Region<u64, ToMember>,
    pub(super) board: Arc<Board>,
    pub(super) clock: Clock,
    pub(super) handled: Arc<Handled>,
    pub(super) owners: Arc<Owners>,
    pub(super) probes: Probes,
    pub(super) payload_bytes: u32,
    pub(super) naps: bool,
    /// Before this nothing is sent: other nodes may not have opened their books.
    pub(super) begin: Time,
    /// Takes what the driver has to say when it has finished.
    pub(super) finished: SyncSender<DriverEnd>,
}

/// Sends a share of the operations to entities of this node.
pub(super) struct Locality {
    pub(super) ratio: f64,
    pub(super) keys: Keys,
    pub(super) rng: Rng,
}

/// What a driver counts.
#[derive(Debug, Default)]
pub(super) struct DriverTally {
    /// Asks that were sent, those that have ended, and those of them all that were measured and have not.
    asked: u64,
    answered: u64,
    open_measured: u64,
    credit: Credit,
    local: u64,
    remote: u64,
    rejected: BTreeMap<Rejection, u64>,
    unknown: BTreeMap<Uncertainty, u64>,
    refused: BTreeMap<Rejection, u64>,
    turn: u64,
}

/// What a driver says in the end.
#[derive(Clone, Debug, Default)]
pub(super) struct DriverEnd {
    pub(super) local: u64,
    pub(super) remote: u64,
    pub(super) tells: u64,
    pub(super) unaccounted: u64,
    /// Asks that have not ended, and how many of them were sent in the measured time.
    pub(super) open_asks: u64,
    pub(super) open_measured: u64,
    pub(super) errors: Vec<ErrorCount>,
}

/// Messages to a driver.
#[derive(Debug)]
pub(super) enum ToMemberDriver {
    /// Send the next burst.
    Go,
    /// An ask has ended.
    Ended {
        stamps: Option<Stamps>,
        is_measured: bool,
        failed: Option<AskError>,
    },
    /// A node has said how many tells it has handled, or has not.
    Counted {
        node: u32,
        count: Result<u128, AskError>,
    },
}

impl Actor for MemberDriver {
    type Msg = ToMemberDriver;

    fn receive(
        &mut self,
        message: ToMemberDriver,
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        match message {
            ToMemberDriver::Ended {
                stamps,
                is_measured,
                failed,
            } => {
                self.tally.answered += 1;
                self.tally.open_measured -= u64::from(is_measured);
                match failed {
                    None => {}
                    Some(AskError::Rejected(why)) => {
                        *self.tally.rejected.entry(why).or_default() += 1;
                    }
                    Some(AskError::Unknown(why)) => {
                        *self.tally.unknown.entry(why).or_default() += 1;
                    }
                }
                Ledger::with(|ledger| match failed {
                    None => ledger.completed(ctx.now(), stamps),
                    Some(_) if is_measured => ledger.failed(),
                    Some(_) => {}
                });
                Ok(Next::Continue)
            }
            ToMemberDriver::Counted { node, count } => {
                self.tally.credit.asked(node);
                match count {
                    Ok(count) => self.tally.credit.counted(Count::from(count)),
                    Err(why) => self.post.probes.failed(why),
                }
                Ok(Next::Continue)
            }
            ToMemberDriver::Go => Ok(self.go(ctx)),
        }
    }
}

impl MemberDriver {
    fn go(&mut self, ctx: &mut Context<'_, Self>) -> Next {
        let early = self.post.begin - self.post.clock.now();
        if !early.is_zero() {
            let pause = ctx.sleep(early);
            ctx.spawn(pause, |_| ToMemberDriver::Go);
            return Next::Continue;
        }
        let MemberDriver {
            post,
            generator,
            locality,
            tally,
        } = self;
        let order = post.board.order();
        if order >= Order::Stop {
            generator.end();
        }
        let origin = Origin::new(post.node, post.driver);
        tally.credit.counted(post.handled.count(origin, post.run));
        let now = post.clock.now();
        let settled = tally.answered + tally.credit.settled(now);
        let step = generator.burst(post.clock, settled, |shot| {
            fire(shot, origin, post, locality.as_mut(), tally, ctx)
        });
        if step == Step::Sent {
            Ledger::with(|ledger| generator.record_sends(ledger.recorder(), post.clock.now()));
        }
        if step == Step::Finished || order == Order::Abandon {
            Ledger::with(|ledger| generator.record_sends(ledger.recorder(), post.clock.now()));
            // The queue has room for all drivers; without a reader the phase is over anyway.
            let _ = post.finished.try_send(self.tally.end());
            return Next::Stop;
        }
        let is_waiting = step == Step::Idle;
        for node in (1..=post.nodes).filter(|node| *node != post.node) {
            let Some(key) = post.owners.key_of(node, tally.turn) else {
                tally.credit.owns_nothing(node);
                continue;
            };
            if tally.credit.shall_ask(node, now, is_waiting) {
                tally.turn += 1;
                let run = post.run;
                ctx.ask_within(
                    COUNT_WITHIN,
                    post.region.entity(&key),
                    move |reply_to| ToMember::Handled {
                        origin: origin.0,
                        run,
                        reply_to,
                    },
                    move |count| ToMemberDriver::Counted { node, count },
                );
            }
        }
        match self.nap(now).filter(|_| is_waiting) {
            Some(nap) => {
                let nap = ctx.sleep(nap);
                ctx.spawn(nap, |_| ToMemberDriver::Go);
            }
            None => ctx.spawn(ready(()), |_| ToMemberDriver::Go),
        }
        Next::Continue
    }

    /// How long it may sleep when there is nothing to send, so that what is due next is sent in time.
    fn nap(&self, now: Time) -> Option<Duration> {
        if !self.post.naps {
            return None;
        }
        match self.generator.next_due() {
            None => Some(NAP),
            Some(due) if due > now + NAP + AWAKE_BEFORE => {
                Some((due - now - AWAKE_BEFORE).min(LONGEST_NAP))
            }
            Some(due) if due > now => None,
            // It is held back by what is in flight.
            Some(_) => Some(NAP),
        }
    }
}

fn fire(
    shot: &Shot,
    origin: Origin,
    post: &MemberPost,
    locality: Option<&mut Locality>,
    tally: &mut DriverTally,
    ctx: &mut Context<'_, MemberDriver>,
) -> bool {
    let is_mine = |key: u64| post.owners.is_mine(post.region.shard_of(&key).shard);
    let key = match locality {
        Some(locality) => locality.choose(shot.key, is_mine),
        None => shot.key,
    };
    let payload = vec![7; post.payload_bytes as usize];
    let to = post.region.entity(&key);
    let owner = post.owners.owner_of(post.region.shard_of(&key).shard);
    let is_accepted = if shot.is_ask {
        let (stamps, is_measured) = (shot.stamps, shot.is_measured);
        tally.asked += 1;
        tally.open_measured += u64::from(is_measured);
        ctx.ask(
            to,
            |reply_to| ToMember::Ask { reply_to, payload },
            move |outcome: Result<u64, AskError>| ToMemberDriver::Ended {
                stamps,
                is_measured,
                failed: outcome.err(),
            },
        );
        true
    } else {
        match ctx.try_tell(to, tell(shot, origin, post.run, payload)) {
            Ok(()) => {
                tally.credit.sent(owner);
                true
            }
            Err(refused) => {
                *tally.refused.entry(refused.why).or_default() += 1;
                false
            }
        }
    };
    if is_accepted {
        let count = if owner == post.node {
            &mut tally.local
        } else {
            &mut tally.remote
        };
        *count += 1;
    }
    is_accepted
}

fn tell(shot: &Shot, origin: Origin, run: u32, payload: Vec<u8>) -> ToMember {
    match shot.stamps {
        None => ToMember::Tell {
            origin: origin.0,
            run,
            payload,
        },
        Some(stamps) => ToMember::TimedTell {
            origin: origin.0,
            run,
            intended_ns: stamps.intended.as_nanos(),
            sent_ns: stamps.sent.as_nanos(),
            payload,
        },
    }
}

impl Locality {
    /// The key, or another one of the same law whose entity is where it is to be. Where none is found in a while, as when
    /// this node owns nothing, the key stays what it is.
    fn choose(&mut self, key: u64, is_mine: impl Fn(u64) -> bool) -> u64 {
        let wants_mine = unit(&mut self.rng) < self.ratio;
        let mut drawn = key;
        for _ in 0..DRAWS {
            if is_mine(drawn) == wants_mine {
                return drawn;
            }
            drawn = self.keys.draw(&mut self.rng);
        }
        key
    }
}

impl DriverTally {
    fn end(&self) -> DriverEnd {
        let rejected = self.rejected.iter();
        let rejected = rejected.map(|(why, count)| error_count("rejected", why, *count));
        let unknown = self.unknown.iter();
        let unknown = unknown.map(|(why, count)| error_count("unknown", why, *count));
        let refused = self.refused.iter();
        let refused = refused.map(|(why, count)| error_count("refused", why, *count));
        DriverEnd {
            open_asks: self.asked - self.answered,
            open_measured: self.open_measured,
            local: self.local,
            remote: self.remote,
            tells: self.credit.all(),
            unaccounted: self.credit.unaccounted(),
            errors: rejected.chain(unknown).chain(refused).collect(),
        }
    }
}

/// How often something went wrong.
pub(super) fn error_count(kind: &str, reason: &impl ToString, count: u64) -> ErrorCount {
    ErrorCount {
        kind: kind.to_owned(),
        reason: reason.to_string(),
        count,
    }
}

/// Adds up what went wrong in several places.
pub(super) fn add_up(errors: impl IntoIterator<Item = ErrorCount>) -> Vec<ErrorCount> {
    let mut sums: BTreeMap<(String, String), u64> = BTreeMap::new();
    for error in errors {
        *sums.entry((error.kind, error.reason)).or_default() += error.count;
    }
    let sums = sums.into_iter();
    sums.map(|((kind, reason), count)| ErrorCount {
        kind,
        reason,
        count,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_that_have_not_ended_are_told_in_the_end() {
        let mut tally = DriverTally {
            asked: 7,
            answered: 4,
            open_measured: 2,
            ..DriverTally::default()
        };
        (0..5).for_each(|_| tally.credit.sent(1));
        let end = tally.end();
        assert_eq!((end.open_asks, end.open_measured), (3, 2));
        assert_eq!((end.tells, end.unaccounted), (5, 5));
    }
}
