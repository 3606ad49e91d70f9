//! The replicated state: its bytes, what it refuses, and that nobody owns what nobody would take from him.

use proptest::prelude::*;
use std::collections::BTreeMap;

use super::admission::{Admission, StartId};
use super::command::{Command, CommandError};
use super::state::{ClusterChange, ClusterState, CommandRefused};
use crate::base::ids::{EntityTypeId, Epoch, Incarnation, NodeId, ShardId, ShardKey};
use crate::consensus::peer::{ClusterId, DiskId, PeerId};
use crate::membership::change::{Change, Join};
use crate::membership::event::MemberEvent;
use crate::membership::view::MemberState;
use crate::sharding::ownership::{OwnershipCommand, TypeSpec};
use crate::sharding::past_owners::PastOwner;
use crate::sharding::strategy::PlacementStrategy;

const CART: EntityTypeId = EntityTypeId(0);

pub(super) fn join(node: u32) -> Command {
    Command::Member(Change::Join(Join {
        node: NodeId(node),
        address: format!("10.0.0.{node}:7000").parse().unwrap(),
        roles: if node.is_multiple_of(2) {
            vec!["even".into()]
        } else {
            vec![]
        },
        data_cores: 2,
    }))
}

pub(super) fn spec(name: &str, shards: u32) -> TypeSpec {
    TypeSpec {
        name: name.into(),
        shards,
        strategy: PlacementStrategy::LeastLoaded,
        role: None,
        keep_running: false,
    }
}

pub(super) fn key(shard: u32) -> ShardKey {
    ShardKey {
        entity_type: CART,
        shard: ShardId(shard),
    }
}

fn admit(node: u32, disk: u32, start: u64) -> Command {
    let Command::Member(Change::Join(join)) = join(node) else {
        unreachable!("a join is made there");
    };
    Command::Admit(Admission {
        join,
        disk: DiskId::from_number(disk).unwrap(),
        start: StartId(start),
    })
}

fn peer(node: u32, disk: u32) -> PeerId {
    PeerId::new(NodeId(node), DiskId::from_number(disk).unwrap())
}

fn found() -> Command {
    Command::Found {
        cluster: ClusterId(77),
        voters: vec![peer(1, 5), peer(2, 5)],
    }
}

fn allocate(placements: &[(u32, u32)]) -> Command {
    let placements = placements
        .iter()
        .map(|(shard, node)| (key(*shard), NodeId(*node)));
    Command::Ownership(OwnershipCommand::Allocate(placements.collect()))
}

fn prepare(shard: u32, node: u32) -> Command {
    Command::Ownership(OwnershipCommand::Prepare(vec![(key(shard), NodeId(node))]))
}

/// A state and the entries that have made it.
pub(super) struct Log {
    pub(super) state: ClusterState,
    pub(super) index: u64,
}

impl Log {
    /// Nodes 1 to `nodes` are up, and there is the type `cart`.
    pub(super) fn with(nodes: u32, shards: u32) -> Log {
        let state = ClusterState::new(NodeId(1));
        let mut log = Log { state, index: 0 };
        for node in 1..=nodes {
            log.apply(&join(node)).unwrap();
            log.life(node, |node, incarnation| Change::Up { node, incarnation })
                .unwrap();
        }
        log.apply(&Command::Register(spec("cart", shards))).unwrap();
        log
    }

    pub(super) fn apply(
        &mut self,
        command: &Command,
    ) -> Result<Vec<ClusterChange>, CommandRefused> {
        self.index += 1;
        let read = Command::from_bytes(&command.to_bytes());
        assert_eq!(
            read.as_ref(),
            Ok(command),
            "every command survives its bytes"
        );
        self.state.apply(self.index, command)
    }

    /// Changes the present life of a member.
    pub(super) fn life(
        &mut self,
        node: u32,
        change: fn(NodeId, Incarnation) -> Change,
    ) -> Result<Vec<ClusterChange>, CommandRefused> {
        let member = self.state.members().member(NodeId(node)).unwrap();
        let change = change(NodeId(node), member.incarnation);
        self.apply(&Command::Member(change))
    }

    pub(super) fn owner(&self, shard: u32) -> Option<u32> {
        self.state
            .ownership()
            .shard(key(shard))
            .unwrap()
            .owner
            .map(|node| node.0)
    }
}

fn down(node: NodeId, incarnation: Incarnation) -> Change {
    Change::Down { node, incarnation }
}

fn left(node: NodeId, incarnation: Incarnation) -> Change {
    Change::Left { node, incarnation }
}

pub(super) fn leave(node: NodeId, incarnation: Incarnation) -> Change {
    Change::Leave { node, incarnation }
}

#[test]
fn a_death_takes_shards_and_raises_their_fences_in_the_same_entry() {
    let mut log = Log::with(3, 4);
    log.apply(&allocate(&[(0, 1), (1, 2), (2, 2)])).unwrap();
    log.apply(&prepare(0, 2)).unwrap();
    let changes = log.life(2, down).unwrap();
    let fences: Vec<_> = changes
        .iter()
        .filter_map(|change| match change {
            ClusterChange::Shard(change) => Some((change.shard.shard.0, change.now.fence)),
            ClusterChange::Member(_) => None,
        })
        .collect();
    assert!(matches!(
        changes[0],
        ClusterChange::Member(MemberEvent::Down(_))
    ));
    assert_eq!(fences, [(0, Epoch(0)), (1, Epoch(2)), (2, Epoch(2))]);
    assert_eq!(
        [0, 1, 2].map(|shard| log.owner(shard)),
        [Some(1), None, None]
    );
    assert_eq!(log.state.ownership().moves().count(), 0);
}

#[test]
fn what_was_proposed_for_a_node_that_has_gone_meanwhile_gives_it_nothing() {
    let mut log = Log::with(3, 4);
    log.apply(&allocate(&[(0, 1)])).unwrap();
    log.life(2, down).unwrap();
    log.life(3, leave).unwrap();
    log.apply(&allocate(&[(1, 2), (2, 3), (3, 1)])).unwrap();
    assert_eq!(
        [1, 2, 3].map(|shard| log.owner(shard)),
        [None, None, Some(1)]
    );
    for gone in [2, 3, 7] {
        assert_eq!(log.apply(&prepare(0, gone)), Ok(vec![]));
    }
}

#[test]
fn only_nodes_of_the_role_get_shards() {
    let mut log = Log::with(3, 1);
    let role = TypeSpec {
        role: Some("even".into()),
        ..spec("even", 2)
    };
    log.apply(&Command::Register(role.clone())).unwrap();
    let carriers: Vec<u32> = log
        .state
        .carriers(&role)
        .map(|member| member.node.0)
        .collect();
    assert_eq!(carriers, [2]);
    let shard = ShardKey {
        entity_type: EntityTypeId(1),
        shard: ShardId(0),
    };
    for (node, changes) in [(1, 0), (2, 1)] {
        let command = OwnershipCommand::Allocate(vec![(shard, NodeId(node))]);
        let applied = log.apply(&Command::Ownership(command)).unwrap();
        assert_eq!(applied.len(), changes, "node {node}");
    }
}

#[test]
fn nobody_has_left_who_still_owns_something_or_is_about_to() {
    let mut log = Log::with(2, 4);
    log.apply(&allocate(&[(0, 1), (1, 2)])).unwrap();
    log.apply(&prepare(0, 2)).unwrap();
    log.life(2, leave).unwrap();
    let shards = 2;
    let node = NodeId(2);
    assert_eq!(
        log.life(2, left),
        Err(CommandRefused::OwnsShards { node, shards })
    );
    let prepared = log.index - 2;
    let end = |shard, prepared| Command::Ownership(OwnershipCommand::Own { shard, prepared });
    // A target that leaves still gets what was on its way, and gives it away again.
    log.apply(&end(key(0), prepared)).unwrap();
    assert_eq!(log.owner(0), Some(2));
    for shard in [0, 1] {
        log.apply(&prepare(shard, 1)).unwrap();
        log.apply(&end(key(shard), log.index)).unwrap();
    }
    log.life(2, left).unwrap();
    assert_eq!(log.state.members().member(node), None);
}

#[test]
fn types_that_differ_are_refused_and_entries_are_applied_once() {
    let mut log = Log::with(1, 4);
    let refused = log.apply(&Command::Register(spec("cart", 8))).unwrap_err();
    assert!(matches!(refused, CommandRefused::Type(_)), "{refused}");
    let before = log.state.clone();
    assert_eq!(log.state.apply(log.index, &allocate(&[(0, 1)])), Ok(vec![]));
    assert_eq!(log.state, before, "an index that was applied already");
}

#[test]
fn a_start_gets_one_life_and_founders_stay_peers_until_they_come() {
    let state = ClusterState::new(NodeId(1));
    let mut log = Log { state, index: 0 };
    log.apply(&found()).unwrap();
    assert_eq!(
        log.apply(&found()),
        Err(CommandRefused::Founded(ClusterId(77)))
    );
    log.apply(&admit(1, 5, 100)).unwrap();
    let peers = |log: &Log| log.state.peers().into_iter().collect::<Vec<_>>();
    assert_eq!(peers(&log), [(peer(1, 5), true), (peer(2, 5), false)]);
    // The founder comes with another disk than that with which it voted.
    log.apply(&admit(2, 6, 200)).unwrap();
    assert_eq!(peers(&log), [(peer(1, 5), true), (peer(2, 6), true)]);

    let again = CommandRefused::HasHadItsLife { node: NodeId(2) };
    assert_eq!(log.apply(&admit(2, 6, 200)), Err(again.clone()));
    let refused = log.apply(&admit(2, 6, 201)).unwrap_err();
    assert!(matches!(refused, CommandRefused::Member(_)), "{refused}");
    log.life(2, down).unwrap();
    assert_eq!(peers(&log), [(peer(1, 5), true), (peer(2, 6), false)]);
    assert_eq!(log.state.lives().len(), 1);
    assert!(
        log.state
            .lives()
            .into_iter()
            .all(|life| log.state.has_life(life))
    );
    assert_eq!(log.apply(&admit(2, 6, 200)), Err(again));
    log.apply(&admit(2, 6, 201)).unwrap();
    assert_eq!(log.state.part(NodeId(2)).unwrap().start, StartId(201));
    log.life(2, leave).unwrap();
    log.life(2, left).unwrap();
    assert_eq!(peers(&log), [(peer(1, 5), true)]);
    let bytes = log.state.to_bytes();
    assert_eq!(ClusterState::from_bytes(NodeId(1), &bytes), Ok(log.state));
}

/// The forms are frozen: logs of earlier builds have them.
#[test]
fn golden_commands() {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let life = Change::Unreachable {
        node: NodeId(7),
        incarnation: Incarnation(3),
        by: NodeId(9),
    };
    let own = OwnershipCommand::Own {
        shard: key(5),
        prepared: 258,
    };
    let role = TypeSpec {
        strategy: PlacementStrategy::HashRing,
        role: Some("a".into()),
        ..spec("cart", 256)
    };
    for (command, bytes) in [
        (
            join(2),
            "010102000000040a00000258 1b01000000 0400 6576656e 0200",
        ),
        (
            found(),
            "0109 4d000000000000000000000000000000 02000000 0500000001000000 0500000002000000",
        ),
        (
            admit(2, 9, 258),
            "010a 02000000 040a000002581b 01000000 0400 6576656e 0200 09000000 0201000000000000",
        ),
        (Command::Member(life), "0107 07000000 03000000 09000000"),
        (
            Command::Register(role),
            "0110 0400 63617274 00010000 01 01 0100 61 00",
        ),
        (allocate(&[(1, 2)]), "0120 01000000 0000 01000000 02000000"),
        (
            Command::Ownership(own),
            "0122 0000 05000000 0201000000000000",
        ),
    ] {
        assert_eq!(
            hex(&command.to_bytes()),
            bytes.replace(' ', ""),
            "{command:?}"
        );
    }
}

#[test]
fn bytes_that_are_no_command_say_where() {
    let malformed = |bytes: &[u8]| Command::from_bytes(bytes).unwrap_err().to_string();
    assert_eq!(Command::from_bytes(&[9, 1]), Err(CommandError::Version(9)));
    assert_eq!(
        malformed(&[1, 99]),
        "the command cannot be read: byte 2: there is no such command"
    );
    let mut long = allocate(&[(1, 2)]).to_bytes();
    long.push(0);
    let text = "the command cannot be read: byte 16: something follows the last field";
    assert_eq!(malformed(&long), text);
    let whole = join(2).to_bytes();
    for length in 0..whole.len() {
        assert!(
            Command::from_bytes(&whole[..length]).is_err(),
            "{length} bytes"
        );
    }
}

fn command() -> impl Strategy<Value = Command> {
    let node = || 1_u32..5;
    let life = || (node(), 1_u32..12).prop_map(|(node, life)| (NodeId(node), Incarnation(life)));
    let shard = || (0_u32..6).prop_map(key);
    let placements = || prop::collection::vec((shard(), node().prop_map(NodeId)), 1..4);
    prop_oneof![
        2 => node().prop_map(join),
        2 => (node(), 1_u32..4, 0_u64..4).prop_map(|(node, disk, start)| admit(node, disk, start)),
        1 => Just(found()),
        4 => life().prop_map(|(node, incarnation)| Command::Member(Change::Up { node, incarnation })),
        1 => life().prop_map(|(node, incarnation)| Command::Member(Change::Leave { node, incarnation })),
        1 => life().prop_map(|(node, incarnation)| Command::Member(Change::Left { node, incarnation })),
        1 => life().prop_map(|(node, incarnation)| Command::Member(Change::Down { node, incarnation })),
        1 => life().prop_map(|(node, incarnation)| Command::Member(Change::Remove { node, incarnation })),
        1 => (life(), node()).prop_map(|((node, incarnation), by)| {
            Command::Member(Change::Unreachable { node, incarnation, by: NodeId(by) })
        }),
        4 => placements().prop_map(|p| Command::Ownership(OwnershipCommand::Allocate(p))),
        4 => placements().prop_map(|p| Command::Ownership(OwnershipCommand::Prepare(p))),
        4 => (shard(), 1_u64..80).prop_map(|(shard, prepared)| {
            Command::Ownership(OwnershipCommand::Own { shard, prepared })
        }),
    ]
}

/// Who has died is remembered, past owners until their lives are over.
#[test]
fn past_owners_are_part_of_snapshots() {
    let mut log = Log::with(2, 2);
    log.apply(&allocate(&[(0, 1), (1, 2)])).unwrap();
    let moves = OwnershipCommand::Prepare(vec![(key(0), NodeId(2))]);
    log.apply(&Command::Ownership(moves)).unwrap();
    let own = OwnershipCommand::Own {
        shard: key(0),
        prepared: log.state.applied(),
    };
    log.apply(&Command::Ownership(own)).unwrap();
    let past = |log: &Log| log.state.ownership().past().of(key(0)).to_vec();
    let gave = PastOwner {
        node: NodeId(1),
        epoch: Epoch(1),
    };
    assert_eq!(past(&log), [gave]);
    let bytes = log.state.to_bytes();
    assert_eq!(
        ClusterState::from_bytes(NodeId(1), &bytes).as_ref(),
        Ok(&log.state)
    );
    let mut twice = bytes.clone();
    let record = bytes[bytes.len() - 22..].to_vec();
    twice.extend(record);
    let count = bytes.len() - 26;
    twice[count] = 2;
    let error = ClusterState::from_bytes(NodeId(1), &twice).unwrap_err();
    assert!(error.to_string().contains("past owners"), "{error}");
    let mut other = bytes.clone();
    other[0] = 1;
    let error = ClusterState::from_bytes(NodeId(1), &other).unwrap_err();
    assert!(error.to_string().contains("form 1"), "{error}");
    log.life(1, leave).unwrap();
    log.life(1, left).unwrap();
    assert_eq!(past(&log), []);
    log.life(2, down).unwrap();
    log.apply(&join(2)).unwrap();
    let bytes = log.state.to_bytes();
    let read = ClusterState::from_bytes(NodeId(1), &bytes).unwrap();
    assert_eq!(read, log.state);
    let dead = BTreeMap::from([(NodeId(2), Incarnation(2))]);
    assert_eq!(**read.members().down(), dead);
}

proptest! {
    /// Whatever is proposed, in whatever order: only live members own shards or are to get them, a node that goes takes
    /// nothing with it, and a snapshot in between makes no difference.
    #[test]
    fn owners_are_live_members(commands in prop::collection::vec(command(), 1..80), cut in 0_usize..80) {
        let mut log = Log::with(2, 6);
        for (at, command) in commands.iter().enumerate() {
            if at == cut {
                let bytes = log.state.to_bytes();
                let restored = ClusterState::from_bytes(NodeId(1), &bytes).unwrap();
                prop_assert_eq!(&restored, &log.state);
                log.state = restored;
            }
            // Refusals are part of it.
            let _ = log.apply(command);
            for (shard, record) in log.state.ownership().iter() {
                for node in record.owner.iter().chain(&record.moving_to) {
                    let member = log.state.members().member(*node);
                    let is_live = member.is_some_and(|member| member.state < MemberState::Down);
                    prop_assert!(is_live, "{} belongs to {:?}", shard, member);
                }
            }
        }
    }

    #[test]
    fn damaged_snapshots_are_errors(at in any::<prop::sample::Index>(), byte in any::<u8>(), length in any::<prop::sample::Index>()) {
        let mut log = Log::with(3, 6);
        log.apply(&allocate(&[(0, 1), (1, 2)])).unwrap();
        let bytes = log.state.to_bytes();
        prop_assert!(ClusterState::from_bytes(NodeId(1), &bytes[..length.index(bytes.len())]).is_err());
        let mut damaged = bytes.clone();
        damaged[at.index(bytes.len())] = byte;
        // It may be another state; it is no panic, and no more memory than the bytes could need.
        let _ = ClusterState::from_bytes(NodeId(1), &damaged);
    }
}
