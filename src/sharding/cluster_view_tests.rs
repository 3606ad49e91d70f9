//! Tests of what the topology makes of the news of a cluster.

use std::sync::Arc;

use super::cluster_view::{
    Members, NodeMove, OwnershipError, OwnershipUpdate, ShardOwner, TypeOwnership,
};
use super::coordinator::{Coordinator, Input, MoveRequest, Output};
use super::move_error::{MoveError, RefusedWhy};
use super::ownership::{OwnershipCommand, OwnershipTable, TypeSpec};
use super::past_owners::PastOwner;
use super::settings::CoordinatorSettings;
use super::strategy::PlacementStrategy;
use super::topology::{Allocation, MoveId, Route, Topology};
use crate::base::ids::{CoreId, EntityTypeId, Epoch, Incarnation, NodeId, ShardId, ShardKey};
use crate::base::time::Time;

const ME: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);
const CORES: [CoreId; 2] = [CoreId(0), CoreId(1)];

/// Type 0 stays on its node, type 1 is one of the cluster, where it has the number 4.
fn topology() -> Topology {
    let alone = Topology::allocate(&[2, 3], &CORES, Allocation::RoundRobin).unwrap();
    alone.in_cluster(ME, [(EntityTypeId(1), "cart")])
}

fn key(entity_type: u16, shard: u32) -> ShardKey {
    ShardKey {
        entity_type: EntityTypeId(entity_type),
        shard: ShardId(shard),
    }
}

fn news(name: &str, number: u16, owners: &[Option<NodeId>]) -> OwnershipUpdate {
    let owner = |owner: &Option<NodeId>| ShardOwner {
        owner: *owner,
        epoch: Epoch(7),
        fence: Epoch(0),
        moving: None,
    };
    OwnershipUpdate {
        members: Arc::new(Members::from([(ME, Incarnation(1))])),
        members_version: 1,
        down: Arc::default(),
        past: Arc::default(),
        types: vec![TypeOwnership {
            name: name.to_owned(),
            number: EntityTypeId(number),
            shards: owners.iter().map(owner).collect(),
        }],
    }
}

#[test]
fn routes_follow_the_owners_and_other_types_stay_here() {
    let before = topology();
    let unallocated = Some(Route::Unallocated);
    assert_eq!(before.route(key(0, 1)), Some(Route::To(CoreId(1))));
    assert!(before.is_mine(key(0, 1)) && before.owner(key(0, 1)).is_none());
    assert_eq!(
        [0, 1, 2].map(|shard| before.route(key(1, shard))),
        [unallocated; 3]
    );
    let after = before
        .owned(&news("cart", 4, &[Some(ME), Some(OTHER), None]))
        .unwrap();
    assert_eq!(after.version(), before.version() + 1);
    let routes = [0, 1, 2].map(|shard| after.route(key(1, shard)));
    let mine = after
        .placement(key(1, 0))
        .map(|placement| Route::To(placement.owner));
    assert_eq!(routes, [mine, Some(Route::Away(OTHER)), unallocated]);
    assert_eq!(after.route(key(1, 3)), None);
    assert_eq!(
        after.owners_changed_since(&before),
        [key(1, 0), key(1, 1), key(1, 2)]
    );
    assert_eq!(
        after.number_in_cluster(EntityTypeId(1)),
        Some(EntityTypeId(4))
    );
    assert_eq!(after.type_of_number(EntityTypeId(4)), Some(EntityTypeId(1)));
    assert_eq!(after.type_of_number(EntityTypeId(1)), None);
    assert_eq!(after.members().unwrap().len(), 1);
    // What another node has is nothing that this one needs to know.
    let other = after.owned(&news("order", 5, &[None])).unwrap();
    assert!(other.owners_changed_since(&after).is_empty());
    assert_eq!(other.type_of_number(EntityTypeId(5)), None);
}

#[test]
fn news_that_contradict_what_is_known_change_nothing() {
    let known = topology().owned(&news("cart", 4, &[None; 3])).unwrap();
    assert!(matches!(
        known.owned(&news("cart", 4, &[None; 2])),
        Err(OwnershipError::Shards {
            cluster: 2,
            here: 3,
            ..
        })
    ));
    assert!(matches!(
        known.owned(&news("cart", 3, &[None; 3])),
        Err(OwnershipError::Number {
            number: EntityTypeId(3),
            ..
        })
    ));
    let alone = Topology::allocate(&[2], &CORES, Allocation::RoundRobin).unwrap();
    assert_eq!(
        alone.owned(&news("cart", 4, &[])),
        Err(OwnershipError::NotClustered)
    );
    assert!(alone.members().is_none());
}

#[test]
fn the_coordinator_publishes_news_and_moves_only_what_is_here() {
    let settings = CoordinatorSettings {
        balancer: None,
        ..CoordinatorSettings::default()
    };
    let mut coordinator = Coordinator::new(Arc::new(topology()), &CORES, settings);
    let input = Input::OwnershipChanged(news("cart", 4, &[Some(ME), Some(OTHER), None]));
    coordinator.handle(input, Time::ZERO);
    let Some(Output::Publish(published)) = coordinator.poll_output() else {
        panic!("nothing is published");
    };
    assert_eq!(published.route(key(1, 1)), Some(Route::Away(OTHER)));
    assert_eq!(coordinator.poll_output(), None);
    let to = |shard| {
        let here = published.placement(key(1, shard)).unwrap().owner;
        CoreId(1 - here.0)
    };
    for shard in [0, 1, 2] {
        let request = MoveRequest {
            shard: key(1, shard),
            to: to(shard),
            token: Some(u64::from(shard)),
        };
        coordinator.handle(Input::MoveRequested(request), Time::ZERO);
    }
    assert_eq!(coordinator.moving(), 1);
    let outputs: Vec<Output> = std::iter::from_fn(|| coordinator.poll_output()).collect();
    let not_owned = |shard| {
        let refused = Err(MoveError::NotOwned {
            shard: key(1, shard),
        });
        move |output: &Output| matches!(output, Output::Finished(it) if it.result == refused)
    };
    assert!(outputs.iter().any(not_owned(1)) && outputs.iter().any(not_owned(2)));
    // News that do not fit are not published.
    coordinator.handle(Input::OwnershipChanged(news("cart", 4, &[])), Time::ZERO);
    assert_eq!(
        (coordinator.poll_output(), coordinator.stale_inputs()),
        (None, 1)
    );
}

#[test]
fn a_shard_that_is_taken_away_while_it_waits_to_change_cores_does_not() {
    let settings = CoordinatorSettings {
        balancer: None,
        max_moves: 1,
        ..CoordinatorSettings::default()
    };
    let mut coordinator = Coordinator::new(Arc::new(topology()), &CORES, settings);
    let mine = news("cart", 4, &[Some(ME); 3]);
    coordinator.handle(Input::OwnershipChanged(mine), Time::ZERO);
    let here = |coordinator: &Coordinator, shard| {
        let placement = coordinator.topology().placement(key(1, shard));
        placement.unwrap().owner
    };
    for shard in [0, 1] {
        let request = MoveRequest {
            shard: key(1, shard),
            to: CoreId(1 - here(&coordinator, shard).0),
            token: Some(u64::from(shard)),
        };
        coordinator.handle(Input::MoveRequested(request), Time::ZERO);
    }
    let lost = news("cart", 4, &[Some(ME), Some(OTHER), Some(ME)]);
    coordinator.handle(Input::OwnershipChanged(lost), Time::ZERO);
    let id = MoveId {
        shard: key(1, 0),
        version: coordinator.topology().placement(key(1, 0)).unwrap().since,
    };
    let refused = Input::Refused {
        id,
        why: RefusedWhy::Suspended,
    };
    coordinator.handle(refused, Time::ZERO);
    let outputs: Vec<Output> = std::iter::from_fn(|| coordinator.poll_output()).collect();
    let shard = key(1, 1);
    let not_owned = Err(MoveError::NotOwned { shard });
    let is_not_owned =
        |output: &Output| matches!(output, Output::Finished(it) if it.result == not_owned);
    assert!(outputs.iter().any(is_not_owned), "{outputs:?}");
    assert_eq!(coordinator.moving(), 0);
}

#[test]
fn for_a_node_that_is_no_member_nothing_comes_and_nothing_goes() {
    let mut coming = news("cart", 4, &[Some(OTHER); 3]);
    let moving = ShardOwner {
        owner: Some(OTHER),
        moving: Some(NodeMove {
            prepared: 9,
            to: ME,
        }),
        ..ShardOwner::default()
    };
    coming.types[0].shards = Arc::new([moving; 3]);
    let known = topology().owned(&coming).unwrap();
    assert!(known.comes_here(key(1, 0)));
    let gone = known.owned(&known.abandoned()).unwrap();
    assert!(!gone.comes_here(key(1, 0)));
    assert_eq!(gone.owner(key(1, 0)), Some(ShardOwner::default()));
}

#[test]
fn news_are_made_of_the_table_of_the_log() {
    let mut table = OwnershipTable::default();
    let spec = |name: &str, shards| TypeSpec {
        name: name.to_owned(),
        shards,
        strategy: PlacementStrategy::default(),
        role: None,
        keep_running: false,
    };
    table.register(spec("order", 1)).unwrap();
    table.register(spec("cart", 3)).unwrap();
    let allocate = OwnershipCommand::Allocate(vec![(key(1, 2), OTHER), (key(1, 0), ME)]);
    table.apply(1, &allocate);
    // Given away, and so is this node a past owner.
    table.apply(2, &OwnershipCommand::Prepare(vec![(key(1, 1), OTHER)]));
    table.apply(3, &OwnershipCommand::Allocate(vec![(key(1, 1), ME)]));
    table.apply(4, &OwnershipCommand::Prepare(vec![(key(1, 1), OTHER)]));
    let own = OwnershipCommand::Own {
        shard: key(1, 1),
        prepared: 4,
    };
    table.apply(5, &own);
    table.node_down(6, OTHER);
    let news = OwnershipUpdate::of(&table);
    let after = topology().owned(&news).unwrap();
    assert_eq!(
        after.number_in_cluster(EntityTypeId(1)),
        Some(EntityTypeId(1))
    );
    assert!(after.is_mine(key(1, 0)));
    let fenced = after.owner(key(1, 2)).unwrap();
    assert_eq!(
        (fenced.owner, fenced.epoch, fenced.fence),
        (None, Epoch(1), Epoch(2))
    );
    let gave = PastOwner {
        node: ME,
        epoch: Epoch(1),
    };
    assert_eq!(after.past_owners(key(1, 1)), [gave]);
    assert_eq!(after.past_owners(key(1, 0)), []);
    assert_eq!(
        after.past_owners(key(0, 1)),
        [],
        "it is numbered otherwise here"
    );
}
