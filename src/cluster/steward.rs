//! What the leader of a cluster sees to: that every shard that is wanted has an owner, that shards are spread as their
//! types say, that nodes which leave give away what they have, that moves come to an end, and that the dead are forgotten.
//!
//! It only proposes. Whatever it overlooks, proposes twice or proposes too late, the state refuses; and whoever leads next
//! finds in the state all that there is to know.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use thiserror::Error;

use crate::base::ids::{EntityTypeId, Epoch, NodeId, ShardId, ShardKey};
use crate::base::time::Time;
use crate::cluster::command::{Command, MAX_SHARDS_PER_COMMAND};
use crate::cluster::state::ClusterState;
use crate::membership::change::Change;
use crate::membership::view::MemberState;
use crate::sharding::ownership::{OwnershipCommand, TypeSpec};
use crate::sharding::strategy::{Candidate, Plan, Relocation};

/// How eagerly shards are moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StewardSettings {
    /// The most shards that move at once in the whole cluster, at least 1. Start with 64. Each holds up its messages while
    /// it moves: too high, and callers are refused; too low, and a node takes long to leave.
    pub max_moves: usize,
    /// For how long the set of members must have stood still before shards are evened out. Start with 2 s, so that ten
    /// nodes that join one after the other cause one rebalancing and not ten. Nodes that leave do not wait for it.
    pub settle: Duration,
    /// Whether shards are evened out when nodes come and go (default: yes). If not, they move only away from nodes that
    /// leave, and a node that joins gets those that nobody owns.
    pub rebalance: bool,
    /// How long a move may take before it is called off. Start with 30 s; more than an entity's longest asynchronous
    /// handler takes.
    pub move_timeout: Duration,
    /// How long a proposal is waited for before it is made again. Start with 2 s.
    pub retry: Duration,
    /// How long a dead node is remembered as a member. Start with 60 s.
    pub forget_dead_after: Duration,
}

impl Default for StewardSettings {
    fn default() -> StewardSettings {
        StewardSettings {
            max_moves: 64,
            settle: Duration::from_secs(2),
            rebalance: true,
            move_timeout: Duration::from_secs(30),
            retry: Duration::from_secs(2),
            forget_dead_after: Duration::from_secs(60),
        }
    }
}

impl StewardSettings {
    /// Checks that the settings make sense.
    ///
    /// # Errors
    ///
    /// [`StewardSettingsError`] names the first that does not.
    pub fn check(&self) -> Result<(), StewardSettingsError> {
        let positive = [
            ("max_moves", self.max_moves == 0),
            ("move_timeout", self.move_timeout.is_zero()),
            ("retry", self.retry.is_zero()),
        ];
        match positive.into_iter().find(|(_, is_zero)| *is_zero) {
            Some((setting, _)) => Err(StewardSettingsError { setting }),
            None => Ok(()),
        }
    }
}

/// A setting that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("placement setting `{setting}` is 0; it must be above 0")]
pub struct StewardSettingsError {
    /// The name of the field.
    pub setting: &'static str,
}

/// What was proposed, so that it is not proposed at each look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Matter {
    Shard(ShardKey),
    Member(NodeId),
}

/// A proposal.
#[derive(Clone, Copy, Debug)]
struct Proposed {
    /// Given what it was made.
    version: u64,
    /// Until when it is waited for.
    until: Time,
    /// The node that is to have the shard, if it is about one.
    to: Option<NodeId>,
}

/// The leader's housekeeping. Make a new one when a node becomes leader, and drop it when it is none any more.
#[derive(Clone, Debug)]
pub struct Steward {
    settings: StewardSettings,
    /// Shards that somebody has sent to and nobody owns. Bounded by the number of shards that there are.
    wanted: BTreeSet<ShardKey>,
    /// What was proposed.
    proposed: BTreeMap<Matter, Proposed>,
    /// The moves under way and when this steward saw them first, each by its shard and the index of its `Prepare`.
    moves: BTreeMap<(ShardKey, u64), Time>,
    /// The owners of shards that move.
    owners: BTreeMap<ShardKey, (Option<NodeId>, Epoch)>,
    /// Shards whose move was called off, and until when they are left where they are.
    called_off: BTreeMap<ShardKey, Time>,
    /// Dead members and when this steward saw them first.
    dead: BTreeMap<NodeId, Time>,
    /// The live members when this steward looked last.
    live: Vec<(NodeId, MemberState)>,
    /// Until when shards are not evened out, because the members have changed.
    unsettled_until: Option<Time>,
}

impl Steward {
    /// A steward that begins to lead now.
    #[must_use]
    pub fn new(settings: StewardSettings, now: Time) -> Steward {
        Steward {
            settings,
            wanted: BTreeSet::new(),
            proposed: BTreeMap::new(),
            moves: BTreeMap::new(),
            owners: BTreeMap::new(),
            called_off: BTreeMap::new(),
            dead: BTreeMap::new(),
            live: Vec::new(),
            unsettled_until: Some(now),
        }
    }

    /// A node has something for a shard that nobody owns. One that there is not, or that has an owner, is ignored. Whether it
    /// is news: then look.
    pub fn want(&mut self, state: &ClusterState, shard: ShardKey) -> bool {
        let unowned = state.ownership().shard(shard);
        unowned.is_some_and(|record| record.owner.is_none()) && self.wanted.insert(shard)
    }

    /// When to look again although nothing has changed; after a look it lies in the future.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let settings = &self.settings;
        let is_open = |matter| !self.proposed.contains_key(&matter);
        let proposals = self.proposed.values().map(|proposed| proposed.until);
        let moves = self.moves.iter();
        let moves = moves
            .filter(|((shard, _), _)| is_open(Matter::Shard(*shard)))
            .map(|(_, since)| *since + settings.move_timeout);
        let dead = self.dead.iter();
        let dead = dead
            .filter(|(node, _)| is_open(Matter::Member(**node)))
            .map(|(_, since)| *since + settings.forget_dead_after);
        proposals
            .chain(moves)
            .chain(dead)
            .chain(self.called_off.values().copied())
            .chain(self.unsettled_until)
            .min()
    }

    /// What should be proposed now. To be called after each change of the state and at the
    /// [`next_deadline`](Steward::next_deadline).
    #[must_use]
    pub fn look(&mut self, state: &ClusterState, now: Time) -> Vec<Command> {
        // Whatever has changed since it was proposed about is not waited for.
        self.proposed
            .retain(|matter, it| it.until > now && version(state, *matter) == it.version);
        let mut commands = Vec::new();
        self.forget_dead(state, now, &mut commands);
        self.allocate(state, now, &mut commands);
        self.call_off(state, now, &mut commands);
        self.relocate(state, now, &mut commands);
        commands
    }

    /// The dead are forgotten some time.
    fn forget_dead(&mut self, state: &ClusterState, now: Time, commands: &mut Vec<Command>) {
        let mut seen = BTreeSet::new();
        let members = state.members().members();
        for member in members.filter(|member| member.state == MemberState::Down) {
            let (node, incarnation) = (member.node, member.incarnation);
            seen.insert(node);
            let since = *self.dead.entry(node).or_insert(now);
            if now >= since + self.settings.forget_dead_after
                && self.propose(state, (Matter::Member(node), None), now)
            {
                commands.push(Command::Member(Change::Remove { node, incarnation }));
            }
        }
        self.dead.retain(|node, _| seen.contains(node));
    }

    /// Shards without an owner get one: those that somebody wants, and those that have had one.
    fn allocate(&mut self, state: &ClusterState, now: Time, commands: &mut Vec<Command>) {
        let mut placements = Vec::new();
        for (entity_type, spec) in state.ownership().types() {
            let shards = state.ownership().shards_of(entity_type);
            let homeless: Vec<ShardId> = (0..)
                .map(ShardId)
                .zip(shards)
                .filter(|(_, record)| record.owner.is_none())
                .filter(|(shard, record)| {
                    let key = ShardKey {
                        entity_type,
                        shard: *shard,
                    };
                    (record.epoch.0 > 0 || self.wanted.contains(&key))
                        && !self.proposed.contains_key(&Matter::Shard(key))
                })
                .map(|(shard, _)| shard)
                .collect();
            if homeless.is_empty() {
                continue;
            }
            let mut owners = state.ownership().owners_to_be(entity_type);
            // Those that are on their way count: shards are wanted one by one, faster than they are given.
            for (matter, proposed) in &self.proposed {
                if let Matter::Shard(key) = matter
                    && key.entity_type == entity_type
                    && let Some(owner) = owners.get_mut(key.shard.index())
                {
                    *owner = owner.or(proposed.to);
                }
            }
            let relocations = plan(state, spec).allocate(&spec.name, &homeless, &owners);
            self.place(state, entity_type, &relocations, now, &mut placements);
        }
        let unowned = |key: &ShardKey| {
            state
                .ownership()
                .shard(*key)
                .is_some_and(|record| record.owner.is_none())
        };
        self.wanted.retain(unowned);
        propose_in_parts(placements, OwnershipCommand::Allocate, commands);
    }

    /// Moves that take too long are called off. If the target has it all the same, its word comes before or after: the log
    /// knows only one end of a move.
    fn call_off(&mut self, state: &ClusterState, now: Time, commands: &mut Vec<Command>) {
        let under_way: BTreeSet<(ShardKey, u64)> = state
            .ownership()
            .moves()
            .map(|(shard, record)| (shard, record.since))
            .collect();
        // What has come of those that have ended: a shard that stays does so for a while, for what kept it may last.
        let ended = self.moves.keys().filter(|id| !under_way.contains(id));
        let ended: Vec<ShardKey> = ended.map(|(shard, _)| *shard).collect();
        self.moves.retain(|id, _| under_way.contains(id));
        for shard in ended {
            let record = state.ownership().shard(shard);
            if self.owners.get(&shard).copied() == record.map(|it| (it.owner, it.epoch)) {
                self.called_off.insert(shard, now + self.settings.retry);
            }
        }
        self.called_off.retain(|_, until| *until > now);
        self.owners
            .retain(|shard, _| under_way.iter().any(|id| id.0 == *shard));
        for id in under_way {
            let since = *self.moves.entry(id).or_insert(now);
            let (shard, prepared) = id;
            if let Some(record) = state.ownership().shard(shard) {
                self.owners.insert(shard, (record.owner, record.epoch));
            }
            if now >= since + self.settings.move_timeout
                && self.propose(state, (Matter::Shard(shard), None), now)
            {
                let abort = OwnershipCommand::Abort { shard, prepared };
                commands.push(Command::Ownership(abort));
            }
        }
    }

    /// Nodes that leave give their shards away, and once the members have stood still for a while shards are evened out.
    fn relocate(&mut self, state: &ClusterState, now: Time, commands: &mut Vec<Command>) {
        let live: Vec<(NodeId, MemberState)> = state
            .members()
            .live()
            .map(|member| (member.node, member.state))
            .collect();
        if self.live != live {
            self.live = live;
            self.unsettled_until = Some(now + self.settings.settle);
        }
        self.unsettled_until = self.unsettled_until.filter(|until| *until > now);
        let has_settled = self.settings.rebalance && self.unsettled_until.is_none();
        let proposed = |matter: &Matter| matches!(matter, Matter::Shard(_));
        let busy = self.moves.len() + self.proposed.keys().filter(|m| proposed(m)).count();
        let mut room = self.settings.max_moves.saturating_sub(busy);
        let mut placements = Vec::new();
        for (entity_type, spec) in state.ownership().types() {
            let owners = state.ownership().owners_to_be(entity_type);
            let records = state.ownership().shards_of(entity_type);
            let stays = |owner: NodeId| {
                let member = state.members().member(owner);
                member.is_some_and(|member| member.state == MemberState::Up)
            };
            let mut relocations = plan(state, spec).rebalance(&spec.name, &owners, owners.len());
            relocations.retain(|relocation| {
                let record = &records[relocation.shard.index()];
                let key = ShardKey {
                    entity_type,
                    shard: relocation.shard,
                };
                let is_urgent = record.owner.is_some_and(|owner| !stays(owner));
                record.moving_to.is_none()
                    && (has_settled || is_urgent)
                    && !self.proposed.contains_key(&Matter::Shard(key))
                    && !self.called_off.contains_key(&key)
            });
            relocations.truncate(room);
            room -= relocations.len();
            self.place(state, entity_type, &relocations, now, &mut placements);
        }
        propose_in_parts(placements, OwnershipCommand::Prepare, commands);
    }

    fn place(
        &mut self,
        state: &ClusterState,
        entity_type: EntityTypeId,
        relocations: &[Relocation],
        now: Time,
        placements: &mut Vec<(ShardKey, NodeId)>,
    ) {
        for relocation in relocations {
            let shard = ShardKey {
                entity_type,
                shard: relocation.shard,
            };
            if self.propose(state, (Matter::Shard(shard), Some(relocation.to)), now) {
                placements.push((shard, relocation.to));
            }
        }
    }

    /// Whether something may be proposed about this now; if so, it counts as proposed.
    fn propose(
        &mut self,
        state: &ClusterState,
        (matter, to): (Matter, Option<NodeId>),
        now: Time,
    ) -> bool {
        if self.proposed.contains_key(&matter) {
            return false;
        }
        let until = now + self.settings.retry;
        let version = version(state, matter);
        let proposed = Proposed { version, until, to };
        self.proposed.insert(matter, proposed);
        true
    }
}

/// A number that changes when something happens to a shard or a member.
fn version(state: &ClusterState, matter: Matter) -> u64 {
    match matter {
        Matter::Shard(shard) => state
            .ownership()
            .shard(shard)
            .map_or(0, |record| record.since),
        Matter::Member(node) => state.members().member(node).map_or(0, |member| {
            u64::from(member.incarnation.0) << 8 | member.state as u64
        }),
    }
}

fn plan(state: &ClusterState, spec: &TypeSpec) -> Plan {
    let candidates: Vec<Candidate> = state
        .carriers(spec)
        .map(|member| Candidate {
            node: member.node,
            weight: u32::from(member.data_cores),
        })
        .collect();
    Plan::new(spec.strategy, &candidates)
}

fn propose_in_parts(
    placements: Vec<(ShardKey, NodeId)>,
    command: fn(Vec<(ShardKey, NodeId)>) -> OwnershipCommand,
    commands: &mut Vec<Command>,
) {
    for part in placements.chunks(MAX_SHARDS_PER_COMMAND) {
        commands.push(Command::Ownership(command(part.to_vec())));
    }
}
