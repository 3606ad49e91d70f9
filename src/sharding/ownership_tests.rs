//! The table of owners, by hand and against random commands.

use proptest::prelude::*;

use super::ownership::{
    MAX_SHARDS, OwnershipChange, OwnershipCommand as Command, OwnershipTable, ShardRecord,
    TypeError, TypeSpec,
};
use super::past_owners::{MAX_PAST_OWNERS, PastOwner};
use super::strategy::PlacementStrategy;
use crate::base::ids::{EntityTypeId, Epoch, NodeId, ShardId, ShardKey};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn spec(name: &str, shards: u32) -> TypeSpec {
    TypeSpec {
        name: name.into(),
        shards,
        strategy: PlacementStrategy::LeastLoaded,
        role: None,
        keep_running: false,
    }
}

fn key(shard: u32) -> ShardKey {
    ShardKey {
        entity_type: EntityTypeId(0),
        shard: ShardId(shard),
    }
}

fn table(shards: u32) -> OwnershipTable {
    let mut table = OwnershipTable::default();
    table.register(spec("cart", shards)).unwrap();
    table
}

/// What the log may say about shards.
#[derive(Clone, Debug, PartialEq)]
enum Entry {
    Command(Command),
    Down(NodeId),
}

fn apply(table: &mut OwnershipTable, index: u64, entry: &Entry) -> Vec<OwnershipChange> {
    match entry {
        Entry::Command(command) => table.apply(index, command),
        Entry::Down(node) => table.node_down(index, *node),
    }
}

fn allocate(shards: Vec<(ShardKey, NodeId)>) -> Entry {
    Entry::Command(Command::Allocate(shards))
}

fn prepare(shards: Vec<(ShardKey, NodeId)>) -> Entry {
    Entry::Command(Command::Prepare(shards))
}

fn own(prepared: u64) -> Entry {
    let shard = key(0);
    Entry::Command(Command::Own { shard, prepared })
}

fn abort(prepared: u64) -> Entry {
    let shard = key(0);
    Entry::Command(Command::Abort { shard, prepared })
}

fn record(
    owner: Option<NodeId>,
    epoch: u64,
    fence: u64,
    to: Option<NodeId>,
    since: u64,
) -> ShardRecord {
    ShardRecord {
        owner,
        epoch: Epoch(epoch),
        fence: Epoch(fence),
        moving_to: to,
        since,
    }
}

#[test]
fn types_have_to_agree_and_say_where_they_do_not() {
    let mut table = table(256);
    assert_eq!(table.register(spec("cart", 256)), Ok(EntityTypeId(0)));
    assert_eq!(table.register(spec("order", 16)), Ok(EntityTypeId(1)));
    let error = table.register(spec("cart", 128)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "entity type `cart` has the number of shards 128 here and 256 in the cluster; all nodes have to agree on it"
    );
    type Change = fn(&mut TypeSpec);
    let changes: [(&str, Change); 3] = [
        ("the strategy", |spec| {
            spec.strategy = PlacementStrategy::HashRing
        }),
        ("the role", |spec| spec.role = Some("worker".into())),
        ("`keep_running`", |spec| spec.keep_running = true),
    ];
    for (difference, change) in changes {
        let mut other = spec("cart", 256);
        change(&mut other);
        let refused = table.check(&other).unwrap_err();
        assert!(matches!(refused, TypeError::Differs { what, .. } if what == difference));
        assert_eq!(table.register(other), Err(refused));
    }
    for shards in [0, MAX_SHARDS + 1] {
        let name = "odd".to_owned();
        let refused = Err(TypeError::Shards { name, shards });
        assert_eq!(table.register(spec("odd", shards)), refused);
    }
    assert_eq!(table.types().count(), 2);
    assert_eq!(table.check(&spec("unknown", 0)), Ok(()));
}

/// Each step of a shard's life, and each command that does not fit.
#[test]
fn the_life_of_a_shard() {
    let mut table = table(1);
    let s = key(0);
    let steps = [
        (prepare(vec![(s, B)]), None),
        (allocate(vec![(s, A)]), Some(record(Some(A), 1, 0, None, 2))),
        (allocate(vec![(s, B)]), None),
        (prepare(vec![(s, A)]), None),
        (
            prepare(vec![(s, B)]),
            Some(record(Some(A), 1, 0, Some(B), 5)),
        ),
        (prepare(vec![(s, C)]), None),
        (own(4), None),
        (abort(5), Some(record(Some(A), 1, 0, None, 8))),
        (own(5), None),
        (
            prepare(vec![(s, B)]),
            Some(record(Some(A), 1, 0, Some(B), 10)),
        ),
        // Late words of the first move.
        (own(5), None),
        (abort(5), None),
        (own(10), Some(record(Some(B), 2, 0, None, 13))),
        (abort(10), None),
        (
            prepare(vec![(s, C)]),
            Some(record(Some(B), 2, 0, Some(C), 15)),
        ),
        (Entry::Down(C), Some(record(Some(B), 2, 0, None, 16))),
        (own(15), None),
        (
            prepare(vec![(s, C)]),
            Some(record(Some(B), 2, 0, Some(C), 18)),
        ),
        (Entry::Down(B), Some(record(None, 2, 3, None, 19))),
        (own(18), None),
        (
            allocate(vec![(s, C)]),
            Some(record(Some(C), 3, 3, None, 21)),
        ),
        (allocate(vec![(key(7), C)]), None),
    ];
    for (index, (command, now)) in (1..).zip(steps) {
        let before = *table.shard(s).unwrap();
        let changes = apply(&mut table, index, &command);
        match now {
            Some(now) => {
                assert_eq!(
                    (changes.len(), changes[0].before, changes[0].now),
                    (1, before, now),
                    "{index}"
                );
                assert_eq!(table.shard(s), Some(&now));
            }
            None => {
                assert_eq!(
                    (changes.len(), table.shard(s)),
                    (0, Some(&before)),
                    "{index}: {command:?}"
                );
            }
        }
    }
}

#[test]
fn one_command_carries_many_shards_and_fits_for_each() {
    let mut table = table(4);
    let both = |to| Command::Allocate((0..4).map(|shard| (key(shard), to)).collect());
    table.apply(1, &Command::Allocate(vec![(key(2), B)]));
    assert_eq!(table.apply(2, &both(A)).len(), 3);
    let changes = table.node_down(3, A);
    let shards: Vec<u32> = changes.iter().map(|change| change.shard.shard.0).collect();
    assert_eq!(shards, [0, 1, 3]);
    assert_eq!(
        table.owners_to_be(EntityTypeId(0)),
        [None, None, Some(B), None]
    );
}

fn entry() -> impl Strategy<Value = Entry> {
    let shard = || (0..3_u32).prop_map(key);
    let node = || (1..4_u32).prop_map(NodeId);
    let shards = || prop::collection::vec((shard(), node()), 1..4);
    prop_oneof![
        3 => shards().prop_map(allocate),
        3 => shards().prop_map(prepare),
        4 => (shard(), 1_u64..60)
            .prop_map(|(shard, prepared)| Entry::Command(Command::Own { shard, prepared })),
        3 => (shard(), 1_u64..60)
            .prop_map(|(shard, prepared)| Entry::Command(Command::Abort { shard, prepared })),
        1 => node().prop_map(Entry::Down),
    ]
}

/// Past owners of one shard as a plain history of it says.
#[derive(Default)]
struct Heirs(Vec<(NodeId, Epoch)>);

impl Heirs {
    fn hear(&mut self, change: &OwnershipChange) {
        if let (Some(was), Some(is)) = (change.before.owner, change.now.owner)
            && was != is
        {
            self.0.push((was, change.before.epoch));
        }
    }

    /// The last time of each, for as long as it lives.
    fn last(&self) -> Vec<PastOwner> {
        let later = |at: usize, node| self.0[at + 1..].iter().any(|(it, _)| *it == node);
        let all = self.0.iter().enumerate();
        let last = all.filter(|(at, (node, _))| !later(*at, *node));
        last.map(|(_, (node, epoch))| PastOwner {
            node: *node,
            epoch: *epoch,
        })
        .collect()
    }
}

#[test]
fn so_many_past_owners_are_known() {
    let mut table = table(1);
    let most = MAX_PAST_OWNERS as u64;
    table.apply(1, &Command::Allocate(vec![(key(0), NodeId(1))]));
    for number in 2..=most + 3 {
        let to = NodeId(number as u32);
        table.apply(number * 2, &Command::Prepare(vec![(key(0), to)]));
        let own = Command::Own {
            shard: key(0),
            prepared: number * 2,
        };
        assert_eq!(table.apply(number * 2 + 1, &own).len(), 1);
    }
    let past = table.past().of(key(0));
    let epochs: Vec<u64> = past.iter().map(|it| it.epoch.0).collect();
    assert_eq!(epochs, (3..most + 3).collect::<Vec<_>>());
}

proptest! {
    /// Whoever gives a shard away is known until it dies, each with the last time.
    #[test]
    fn past_owners_are_those_that_live(entries in prop::collection::vec(entry(), 1..60)) {
        let mut table = table(3);
        let mut heirs: [Heirs; 3] = Default::default();
        for (index, entry) in (1..).zip(&entries) {
            for change in apply(&mut table, index, entry) {
                heirs[change.shard.shard.index()].hear(&change);
            }
            for (number, of_shard) in (0..).zip(&mut heirs) {
                if let Entry::Down(node) = entry {
                    of_shard.0.retain(|(it, _)| it != node);
                }
                prop_assert_eq!(table.past().of(key(number)), of_shard.last());
            }
        }
    }

    /// Whatever is proposed: epochs only rise, by one with each new owner; fences rise with the deaths of owners alone, and
    /// no owner is ever below the fence.
    #[test]
    fn epochs_and_fences_only_rise(entries in prop::collection::vec(entry(), 1..60)) {
        let mut table = table(3);
        for (index, entry) in (1..).zip(&entries) {
            for change in apply(&mut table, index, entry) {
                let (before, now) = (change.before, change.now);
                let assigned = now.owner.is_some() && now.owner != before.owner;
                prop_assert_eq!(now.epoch.0, before.epoch.0 + u64::from(assigned));
                let died = before.owner.is_some() && now.owner.is_none();
                prop_assert_eq!(died, now.fence > before.fence);
                prop_assert!(!died || *entry == Entry::Down(before.owner.unwrap()));
                prop_assert!(now.owner.is_none() || now.epoch >= now.fence);
                prop_assert!(now.moving_to.is_none() || now.owner.is_some() && now.moving_to != now.owner);
                prop_assert_eq!(now.since, index);
            }
        }
    }
}
