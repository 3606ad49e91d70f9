//! What happened in a run as the actors saw it, and an independent judge of it.

use corecast::AskError;
use corecast::base::ids::{CoreId, Epoch, ShardKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// One message of one sender to one entity.
pub type Op = (u32, u64);
/// An entity: its type's number and its id.
pub type Entity = (u16, u64);

/// How a call ended for its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `try_tell` took it.
    Accepted,
    /// `try_tell` gave it back.
    Refused,
    /// A send was confirmed, or an ask answered with this number.
    Answered(u64),
    /// A send or an ask failed.
    Failed(AskError),
}

/// What is written down.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// The sender is about to make this call to this entity.
    Called { op: Op, to: Entity },
    /// It ended like this for the sender.
    Ended { op: Op, outcome: Outcome },
    /// An entity handled it, as the `count`th in its life.
    Handled {
        op: Op,
        at: Entity,
        shard: ShardKey,
        epoch: Epoch,
        core: CoreId,
        count: u64,
    },
    /// An entity set out to do something slow for this message.
    Suspended { op: Op },
    /// It went on after that.
    Resumed { op: Op },
    /// An entity asked for a result for this message.
    Deferred { op: Op },
    /// The result came.
    Brought { op: Op },
    /// `pre_start` of an entity.
    Started { at: Entity },
    /// `post_stop` of an entity.
    Stopped { at: Entity },
}

/// A shared list of events in the order in which they happened.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Vec<Event>>>);

impl History {
    pub fn note(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }
}

/// What the judge expects of an entity type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// State survives every move.
    State,
    /// State starts afresh after each stop.
    Nothing,
}

/// Judges a history that has come to rest.
///
/// # Errors
/// The first thing that must not have happened.
pub fn judge(events: &[Event], keeps: impl Fn(u16) -> Keeps) -> Result<(), String> {
    let mut targets: BTreeMap<Op, Entity> = BTreeMap::new();
    let mut ended: BTreeMap<Op, Outcome> = BTreeMap::new();
    let mut handled: BTreeMap<Op, Entity> = BTreeMap::new();
    let mut last_of: BTreeMap<(u32, Entity), u64> = BTreeMap::new();
    let mut counts: BTreeMap<Entity, u64> = BTreeMap::new();
    let mut epochs: BTreeMap<ShardKey, (Epoch, CoreId)> = BTreeMap::new();
    let mut open: [BTreeSet<Op>; 2] = Default::default();
    let mut alive: BTreeSet<Entity> = BTreeSet::new();
    for event in events {
        match *event {
            Event::Called { op, to } => {
                if targets.insert(op, to).is_some() {
                    return Err(format!("the scenario called {op:?} twice"));
                }
            }
            Event::Ended { op, outcome } => {
                if let Some(before) = ended.insert(op, outcome) {
                    return Err(format!("{op:?} ended twice: {before:?}, then {outcome:?}"));
                }
            }
            Event::Handled {
                op,
                at,
                shard,
                epoch,
                core,
                count,
            } => {
                if targets.get(&op) != Some(&at) {
                    return Err(format!(
                        "{at:?} handled {op:?}, sent to {:?}",
                        targets.get(&op)
                    ));
                }
                if !alive.contains(&at) {
                    return Err(format!("{at:?} handled {op:?} before its start hook ran"));
                }
                if handled.insert(op, at).is_some() {
                    return Err(format!("{at:?} handled {op:?} twice"));
                }
                if let Some(last) = last_of.insert((op.0, at), op.1)
                    && last >= op.1
                {
                    return Err(format!(
                        "{at:?} handled {op:?} after {last} of the same sender"
                    ));
                }
                let before = counts.insert(at, count).unwrap_or(0);
                let fresh = keeps(at.0) == Keeps::Nothing && count == 1;
                if count != before + 1 && !fresh {
                    return Err(format!(
                        "{at:?} lost its state: message {op:?} was its number {count} after {before}"
                    ));
                }
                match epochs.insert(shard, (epoch, core)) {
                    Some((before, _)) if before > epoch => {
                        return Err(format!("{shard} ran under {epoch} after {before}"));
                    }
                    Some((before, other)) if before == epoch && other != core => {
                        return Err(format!("{other} and {core} both ran {shard} under {epoch}"));
                    }
                    _ => {}
                }
            }
            Event::Suspended { op } | Event::Deferred { op } => {
                open[usize::from(matches!(event, Event::Deferred { .. }))].insert(op);
            }
            Event::Resumed { op } | Event::Brought { op } => {
                if !open[usize::from(matches!(event, Event::Brought { .. }))].remove(&op) {
                    return Err(format!(
                        "{event:?} came without having been asked for, or twice"
                    ));
                }
            }
            Event::Started { at } => {
                if !alive.insert(at) && keeps(at.0) == Keeps::Nothing {
                    return Err(format!("{at:?} started twice without its hook in between"));
                }
            }
            Event::Stopped { at } => {
                if !alive.remove(&at) {
                    return Err(format!("the stop hook of {at:?} ran without a start"));
                }
            }
        }
    }
    for (op, to) in &targets {
        let was_handled = handled.contains_key(op);
        match ended.get(op) {
            None => return Err(format!("the call {op:?} to {to:?} never ended")),
            Some(Outcome::Accepted | Outcome::Answered(_)) if !was_handled => {
                return Err(format!("{op:?} to {to:?} was accepted and lost"));
            }
            Some(Outcome::Refused | Outcome::Failed(AskError::Rejected(_))) if was_handled => {
                return Err(format!(
                    "{op:?} to {to:?} was refused and handled all the same"
                ));
            }
            _ => {}
        }
    }
    if let Some(op) = open[0].first() {
        return Err(format!(
            "the handler of {op:?} was suspended and never went on"
        ));
    }
    if let Some(op) = open[1].first() {
        return Err(format!(
            "the result that was asked for at {op:?} never came"
        ));
    }
    Ok(())
}

/// The judge must notice each kind of mistake.
#[test]
fn the_judge_notices_mistakes() {
    use corecast::base::ids::{EntityTypeId, ShardId};
    let at = (0, 7);
    let shard = ShardKey {
        entity_type: EntityTypeId(0),
        shard: ShardId(0),
    };
    let called = |seq| Event::Called {
        op: (1, seq),
        to: at,
    };
    let accepted = |seq| Event::Ended {
        op: (1, seq),
        outcome: Outcome::Accepted,
    };
    let handled = |seq, count, epoch, core| Event::Handled {
        op: (1, seq),
        at,
        shard,
        epoch: Epoch(epoch),
        core: CoreId(core),
        count,
    };
    let start = Event::Started { at };
    let good = [
        start,
        called(1),
        accepted(1),
        called(2),
        accepted(2),
        handled(1, 1, 1, 0),
        handled(2, 2, 2, 1),
    ];
    assert_eq!(judge(&good, |_| Keeps::State), Ok(()));
    for (what, bad) in [
        (
            "before its start hook",
            vec![Event::Stopped { at }, called(1), handled(1, 1, 1, 0)],
        ),
        ("lost", vec![called(1), accepted(1)]),
        ("never ended", vec![called(1), handled(1, 1, 1, 0)]),
        (
            "twice",
            vec![
                called(1),
                accepted(1),
                handled(1, 1, 1, 0),
                handled(1, 2, 1, 0),
            ],
        ),
        (
            "after 2",
            vec![
                called(1),
                called(2),
                handled(2, 1, 1, 0),
                handled(1, 2, 1, 0),
            ],
        ),
        (
            "lost its state",
            vec![
                called(1),
                called(2),
                handled(1, 1, 1, 0),
                handled(2, 1, 1, 0),
            ],
        ),
        (
            "both ran",
            vec![
                called(1),
                called(2),
                handled(1, 1, 1, 0),
                handled(2, 2, 1, 1),
            ],
        ),
        (
            "ran under epoch-1",
            vec![
                called(1),
                called(2),
                handled(1, 1, 2, 0),
                handled(2, 2, 1, 0),
            ],
        ),
        ("never went on", vec![Event::Suspended { op: (1, 1) }]),
        ("never came", vec![Event::Deferred { op: (1, 1) }]),
        ("twice", vec![Event::Resumed { op: (1, 1) }]),
        (
            "handled all the same",
            vec![
                called(1),
                Event::Ended {
                    op: (1, 1),
                    outcome: Outcome::Refused,
                },
                handled(1, 1, 1, 0),
            ],
        ),
    ] {
        let bad: Vec<_> = std::iter::once(start).chain(bad).collect();
        let found = judge(&bad, |_| Keeps::State).unwrap_err();
        assert!(found.contains(what), "{what}: {found}");
    }
}
