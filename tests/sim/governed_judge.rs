//! Judges a history, and knows nothing of how nodes do what they do: only what their users may rely on.

use crate::governed_history::{Counted, History, Kind, Operation, Outcome, Run, is_kept};
use corecast::Time;
use corecast::base::ids::{Epoch, NodeId, ShardKey};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a core may take to hear what its control plane knows.
const HEARING: Duration = Duration::from_millis(50);

/// How far the clocks of two cores may be apart: each is ahead by what it does in a turn.
const SKEW: Duration = Duration::from_millis(30);

/// How long a node may go on with what it has begun when its lease ends: a turn of a core, in which it may stand still.
const TURN: Duration = Duration::from_millis(50);

/// What entities that keep running have done which others must not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// How often one has run while its node had no lease.
    pub past_lease: u64,
    /// How often one has run after another node had run its shard in a later epoch.
    pub overlaps: u64,
}

/// Panics at whatever should not have been. `moves` says whether shards move from node to node with what is in them.
pub fn judge(history: &History, moves: bool) -> Kept {
    let fences = Fences::of(history);
    let overlaps = one_owner_at_a_time(history, &fences);
    let past_lease = nobody_runs_without_a_lease(history);
    nobody_goes_on_who_is_fenced(history);
    order_of_senders(history, &effects(history), &fences);
    judge_messages(history, moves);
    Kept {
        past_lease,
        overlaps,
    }
}

/// Up to which epochs shards were lost with their owners, one after the other.
struct Fences(BTreeMap<ShardKey, BTreeSet<Epoch>>);

impl Fences {
    fn of(history: &History) -> Fences {
        let mut fences: BTreeMap<ShardKey, BTreeSet<Epoch>> = BTreeMap::new();
        for known in &history.fencings {
            fences.entry(known.shard).or_default().insert(known.fence);
        }
        Fences(fences)
    }

    /// Whether an owner after the first, up to the second, has got the shard because the one before it was dead.
    fn part(&self, shard: ShardKey, first: Epoch, second: Epoch) -> bool {
        let fences = self.0.get(&shard);
        first < second && fences.is_some_and(|it| it.range(first..=second).any(|it| *it > first))
    }
}

/// The same where nobody sees to it that a shard has one owner at a time, so that messages of one sender may take two ways.
pub fn judge_messages(history: &History, moves: bool) {
    let effects = effects(history);
    counts_are_right(history, moves);
    for (number, operation) in (0..).zip(&history.operations) {
        outcome_is_true(number, operation, history, &effects);
    }
    nobody_believes_the_fenced(history, &effects);
}

/// The runs in the order in which they happened.
fn in_order(history: &History) -> Vec<&Run> {
    let mut runs: Vec<&Run> = history.runs.iter().collect();
    runs.sort_by_key(|run| run.at);
    runs
}

/// Nobody runs a shard after somebody else did so in a later epoch, and no two nodes do in one. Entities that keep running
/// may do the former when they have been given up, until their node hears of it. How often they did.
fn one_owner_at_a_time(history: &History, fences: &Fences) -> u64 {
    let mut latest: BTreeMap<ShardKey, (Epoch, NodeId)> = BTreeMap::new();
    let mut owners: BTreeMap<(ShardKey, Epoch), NodeId> = BTreeMap::new();
    let mut overlaps = 0;
    for run in in_order(history) {
        let now = (run.epoch, run.node);
        let last = latest.entry(run.shard).or_insert(now);
        let owner = *(owners.entry((run.shard, run.epoch))).or_insert(run.node);
        let is_trouble = history.peace.is_none_or(|peace| run.at < peace);
        if is_kept(run.entity)
            && is_trouble
            && owner == run.node
            && fences.part(run.shard, run.epoch, last.0)
        {
            overlaps += 1;
            continue;
        }
        assert!(
            now.0 >= last.0 && owner == run.node,
            "{} ran on {} in {} at {}, after it had run on {} in {}",
            run.shard,
            run.node,
            run.epoch,
            run.at,
            last.1,
            last.0
        );
        *last = now;
    }
    overlaps
}

/// No entity runs on a node without a lease, but for those that keep running. How often these did.
fn nobody_runs_without_a_lease(history: &History) -> u64 {
    let mut past_lease = 0;
    for run in &history.runs {
        let Some(leases) = history.leases.get(&run.node) else {
            continue;
        };
        let known = leases.partition_point(|it| it.at <= run.at + SKEW);
        let until = known.checked_sub(1).map(|last| leases[last].until);
        if until.is_some_and(|until| run.at <= until + SKEW + TURN) {
            continue;
        }
        assert!(
            is_kept(run.entity),
            "{} ran on {} in {} at {}, without a lease: the last one was until {until:?}",
            run.shard,
            run.node,
            run.epoch,
            run.at
        );
        past_lease += 1;
    }
    past_lease
}

/// Nobody runs a shard in an epoch that is over, as its node knows.
fn nobody_goes_on_who_is_fenced(history: &History) {
    let mut known: BTreeMap<(NodeId, ShardKey), Vec<(Epoch, Time)>> = BTreeMap::new();
    for it in &history.fencings {
        let known = known.entry((it.node, it.shard)).or_default();
        known.push((it.fence, it.at));
    }
    for run in &history.runs {
        let known = known.get(&(run.node, run.shard)).into_iter().flatten();
        for (fence, at) in known {
            assert!(
                *fence <= run.epoch || run.at <= *at + HEARING,
                "{} ran on {} in {} at {}, and the node knew from {at} on that it was lost up to {fence}",
                run.shard,
                run.node,
                run.epoch,
                run.at
            );
        }
    }
}

/// Which run handled an operation: each is handled once at most, by the entity that it was for, after it was sent.
fn effects(history: &History) -> BTreeMap<u64, &Run> {
    let mut effects: BTreeMap<u64, &Run> = BTreeMap::new();
    for run in &history.runs {
        let Some(Counted { operation, .. }) = run.effect else {
            continue;
        };
        let before = effects.insert(operation, run);
        assert!(before.is_none(), "operation {operation} took effect twice");
        let sent = &history.operations[operation as usize];
        assert_eq!(sent.to, run.entity, "operation {operation} went astray");
        assert!(
            sent.began <= run.at + SKEW,
            "operation {operation} took effect at {}, before it was sent at {}",
            run.at,
            sent.began
        );
    }
    effects
}

/// In one epoch an entity knows of everything that it has handled. With each it begins anew, or, if it has moved, goes on with
/// all that it knew in the one before.
fn counts_are_right(history: &History, moves: bool) {
    let fences = Fences::of(history);
    let mut counts: BTreeMap<u64, BTreeMap<Epoch, u64>> = BTreeMap::new();
    for run in in_order(history) {
        let Some(effect) = run.effect else {
            continue;
        };
        let counts = counts.entry(run.entity).or_default();
        let before = counts.range(..run.epoch).next_back();
        let before = before.filter(|(epoch, _)| !fences.part(run.shard, **epoch, run.epoch));
        let before = before.map_or(0, |(_, count)| *count);
        let has_come = moves && effect.count == before + 1;
        let count = (counts.entry(run.epoch)).or_insert_with(|| if has_come { before } else { 0 });
        *count += 1;
        assert_eq!(
            effect.count, *count,
            "entity {} on {} has another count than messages handled in {}",
            run.entity, run.node, run.epoch
        );
    }
}

/// What one sender sends to one entity takes effect in the order in which it was sent, if it does. Of one that keeps running,
/// the owner that was given up may still be at what it got before, but gets nothing that was sent after.
fn order_of_senders(history: &History, effects: &BTreeMap<u64, &Run>, fences: &Fences) {
    let mut latest: BTreeMap<(u32, u64), (u64, &Run)> = BTreeMap::new();
    // Operations have their numbers in the order in which they were sent.
    for (number, run) in effects {
        let sent = &history.operations[*number as usize];
        if let Some((before, first)) = latest.insert((sent.sender, sent.to), (*number, run)) {
            assert!(
                first.epoch <= run.epoch,
                "entity {} handled operation {number} in {}, and {before} of the same sender in {}",
                sent.to,
                run.epoch,
                first.epoch
            );
            let is_parted = is_kept(sent.to) && fences.part(run.shard, first.epoch, run.epoch);
            assert!(
                first.at <= run.at || is_parted,
                "entity {} handled operation {number} at {}, and {before} of the same sender at {}",
                sent.to,
                run.at,
                first.at
            );
        }
    }
}

fn outcome_is_true(
    number: u64,
    operation: &Operation,
    history: &History,
    effects: &BTreeMap<u64, &Run>,
) {
    let effect = effects.get(&number);
    let ended = operation.ended.map(|it| it.1);
    let succeeded = matches!(
        ended,
        Some(Outcome::Accepted | Outcome::Stored | Outcome::Replied(_))
    );
    assert!(
        !operation.must_succeed || effect.is_some() && succeeded,
        "in peace, operation {number} failed: {operation:?}"
    );
    let Some((at, outcome)) = operation.ended else {
        return;
    };
    match (operation.kind, outcome) {
        (_, Outcome::Rejected(why)) => assert!(
            effect.is_none(),
            "operation {number} was rejected ({why}) and took effect"
        ),
        (_, Outcome::Unknown(_))
        | (Kind::Tell, Outcome::Accepted)
        | (Kind::Send, Outcome::Stored) => {}
        (Kind::Ask, Outcome::Replied(reply)) => {
            let answers = &history.operations[reply.operation as usize];
            assert!(
                reply.operation == number || answers.parent == Some(number),
                "operation {number} got the answer to {}",
                reply.operation
            );
            assert!(
                effect.is_some(),
                "operation {number} was answered and had no effect"
            );
            let Some(run) = effects.get(&reply.operation) else {
                panic!(
                    "operation {} was answered and had no effect",
                    reply.operation
                );
            };
            assert_eq!(
                run.effect,
                Some(reply),
                "the answer to operation {number} tells of another effect"
            );
            assert!(
                run.at <= at + SKEW,
                "operation {number} was answered at {at}, before its effect at {}",
                run.at
            );
        }
        (kind, outcome) => panic!("operation {number}, a {kind:?}, ended with {outcome:?}"),
    }
}

/// No answer of a node is believed that had lost the shard, where that was known. (An answer to a message that was passed on
/// comes by way of whoever passed it on, who believed it.)
fn nobody_believes_the_fenced(history: &History, effects: &BTreeMap<u64, &Run>) {
    let asked = (0..).zip(&history.operations);
    for (number, operation) in asked.filter(|(_, it)| it.is_exact) {
        let Some((at, Outcome::Replied(reply))) = operation.ended else {
            continue;
        };
        let run = effects.get(&reply.operation);
        let Some(run) = run.filter(|_| reply.operation == number) else {
            continue;
        };
        let known = history.fencings.iter().find(|known| {
            known.node == operation.node
                && known.shard == run.shard
                && known.fence > run.epoch
                && known.at + HEARING < at
        });
        if let Some(known) = known {
            panic!(
                "{} believed an answer of {} in {} at {at}; it knew from {} on that {} was lost up to {}",
                operation.node, run.node, run.epoch, known.at, run.shard, known.fence
            );
        }
    }
}

/// Which asks and acknowledged sends have not ended, of those that somebody sent who still lives.
pub fn open(history: &History, lives: &BTreeSet<u32>) -> Vec<u64> {
    let numbered = (0..).zip(&history.operations);
    let open = numbered.filter(|(_, it)| {
        it.ended.is_none()
            && it.parent.is_none()
            && it.kind != Kind::Tell
            && lives.contains(&it.sender)
    });
    open.map(|(number, _)| number).collect()
}
