//! A scenario: a cluster forms, nodes come, go, die and are cut off, and then there is peace, in which everything heals.

use std::collections::BTreeMap;
use std::time::Duration;

use corecast::Time;
use corecast::base::ids::{EntityTypeId, NodeId, ShardKey};
use corecast::cluster::node::mutant::NodeMutant;
use corecast::membership::view::MemberState;
use rand::RngExt;
use rand::seq::IndexedRandom;

use crate::control_node::ms;
use crate::control_world::{Counts, World, keys, quick};
use crate::seeds::Trace;

/// Which faults there are, drawn anew for each seed: a run in which everything happens shows less than many in which
/// some things do.
#[derive(Debug)]
struct Faults {
    crash: f64,
    disk: bool,
    pause: f64,
    partition: f64,
    one_way: f64,
    slow: f64,
    join: f64,
    leave: f64,
}

impl Faults {
    fn draw(world: &mut World) -> Faults {
        let mut rate = |most: f64| match world.rng.random_bool(0.5) {
            true => world.rng.random_range(most / 4.0..most),
            false => 0.0,
        };
        Faults {
            crash: rate(0.006),
            disk: rate(1.0) > 0.0,
            pause: rate(0.006),
            partition: rate(0.004),
            one_way: rate(0.004),
            slow: rate(0.003),
            join: rate(0.003),
            leave: rate(0.003),
        }
    }
}

/// What a run leaves.
pub(crate) struct Ran {
    pub(crate) trace: Trace,
    pub(crate) counts: Counts,
    pub(crate) owned: u64,
    pub(crate) aborted: u64,
    pub(crate) entries: usize,
    pub(crate) terms: usize,
    pub(crate) lives: usize,
}

/// Faults for so long, then peace.
pub(crate) fn scenario(seed: u64, length: Duration, mutant: Option<NodeMutant>) -> Ran {
    let founders = [3, 5, 3, 4, 1, 3, 2, 5][seed as usize % 8];
    let mut world = World::new(seed, founders, quick);
    world.mutant = mutant;
    let faults = Faults::draw(&mut world);
    if world.rng.random_bool(0.3) {
        world.network.settings_mut().loss = 0.02;
        world.network.settings_mut().duplication = 0.01;
    }
    if world.rng.random_bool(0.3) {
        world.stuck_moves = 0.2;
    }
    world.start_all();
    let mut until: BTreeMap<NodeId, Time> = BTreeMap::new();
    let mut wanted: Vec<ShardKey> = Vec::new();
    let mut budget = Budget {
        joins: 2,
        leaves: LEAVES,
        disks: u32::from(faults.disk && founders >= 3),
    };
    // Some faults hit a cluster that is just being founded.
    let calm = ms(world.rng.random_range(0..4_000));
    world.run(calm, |world| want_some(world, &mut wanted));
    world.run(length, |world| {
        want_some(world, &mut wanted);
        one_step(world, &faults, &mut until, &mut budget);
    });
    peace(&mut world, &mut wanted);
    finish(world)
}

pub(crate) fn finish(mut world: World) -> Ran {
    for id in world.running() {
        world.counts.restores += world.node(id).counters().restored;
    }
    Ran {
        counts: world.counts,
        owned: world.judge.owned,
        aborted: world.judge.aborted,
        entries: world.judge.entries(),
        terms: world.judge.terms(),
        lives: world.judge.lives_led(),
        trace: world.into_trace(),
    }
}

/// The most nodes that leave in one run.
const LEAVES: u32 = 2;

struct Budget {
    joins: u32,
    leaves: u32,
    disks: u32,
}

pub(crate) fn want_some(world: &mut World, wanted: &mut Vec<ShardKey>) {
    let running = world.running();
    if world.rng.random_bool(0.05)
        && let Some(id) = running.choose(&mut world.rng).copied()
    {
        let all: Vec<ShardKey> = keys().collect();
        let shard = *all.choose(&mut world.rng).unwrap();
        if world.node(id).incarnation().is_some() && world.want(id, shard) {
            wanted.push(shard);
        }
    }
}

fn one_step(
    world: &mut World,
    faults: &Faults,
    until: &mut BTreeMap<NodeId, Time>,
    budget: &mut Budget,
) {
    let ids: Vec<NodeId> = world.nodes.keys().copied().collect();
    let id = *ids.choose(&mut world.rng).unwrap();
    let now = world.now;
    if world.nodes[&id].is_running() && world.rng.random_bool(faults.crash) {
        // Some are back before anybody has noticed.
        let most = if world.rng.random_bool(0.5) {
            300
        } else {
            4_000
        };
        world.crash(id);
        until.insert(id, now + ms(world.rng.random_range(1..most)));
        let node = &world.nodes[&id];
        let has_part = world.running().len() * 2 > ids.len();
        // A lost disk is a voter that never answers again: until it is replaced, no other may leave.
        let nobody_left = budget.leaves == LEAVES;
        if budget.disks > 0 && has_part && nobody_left && node.restart_at.is_none() {
            (budget.disks, budget.leaves) = (0, 0);
            world.replace_disk(id);
        }
    }
    if world.nodes[&id].is_running()
        && world.nodes[&id].paused.is_none()
        && world.rng.random_bool(faults.pause)
    {
        let time = ms(world.rng.random_range(1..3_000));
        world.pause(id, time);
    }
    if world.rng.random_bool(faults.partition) {
        let (one, other): (Vec<_>, Vec<_>) = ids.iter().partition(|_| world.rng.random_bool(0.5));
        world.network.partition(&one, &other);
        world.counts.partitions += 1;
    }
    if world.rng.random_bool(faults.one_way) {
        let other = *ids.choose(&mut world.rng).unwrap();
        world.network.cut(id, other);
        world.counts.cuts += 1;
    }
    if world.rng.random_bool(faults.slow) {
        let other = *ids.choose(&mut world.rng).unwrap();
        world.network.slow(id, other, 50);
        world.nodes.get_mut(&id).unwrap().slow_disk = 30_000;
        world.counts.slow += 1;
    }
    if world.rng.random_bool(0.004) {
        world.network.heal(now);
    }
    for (id, at) in until.clone() {
        if at <= now {
            until.remove(&id);
            world.start(id);
        }
    }
    if budget.joins > 0 && world.rng.random_bool(faults.join) {
        budget.joins -= 1;
        world.join(NodeId(ids.last().unwrap().0 + 1));
    }
    let stays = ids.iter().filter(|id| !world.nodes[id].has_left).count();
    // The first seed stays, to be found by others.
    if budget.leaves > 0
        && stays > 2
        && id != NodeId(1)
        && world.nodes[&id].is_running()
        && world.node(id).incarnation().is_some()
        && world.rng.random_bool(faults.leave)
    {
        budget.leaves -= 1;
        world.leave(id);
    }
}

/// No faults any more: all who have not left are up, agree, and own what is wanted.
pub(crate) fn peace(world: &mut World, wanted: &mut Vec<ShardKey>) {
    world.network.heal(world.now);
    world.network.settings_mut().loss = 0.0;
    world.network.settings_mut().duplication = 0.0;
    let ids: Vec<NodeId> = world.nodes.keys().copied().collect();
    for id in &ids {
        let node = world.nodes.get_mut(id).unwrap();
        node.slow_disk = 2_000;
        if let Some((since, until)) = node.paused {
            node.paused = Some((since, until.min(world.now)));
        }
        if node.running.is_none() {
            world.start(*id);
        }
    }
    assert!(
        world.until(ms(20_000), all_is_well),
        "no peace: {}",
        what_is_wrong(world)
    );
    // What was wanted before nobody may remember: the node that wanted it has died.
    for shard in std::mem::take(wanted) {
        let id = *world.running().choose(&mut world.rng).unwrap();
        if world.want(id, shard) {
            wanted.push(shard);
        }
    }
    let all_owned = |world: &World| wanted.iter().all(|shard| is_owned(world, *shard));
    assert!(
        world.until(ms(5_000), |world| all_owned(world) && all_is_well(world)),
        "shards without owners: {}",
        what_is_wrong(world)
    );
}

/// Whether a shard has an owner that may have it, or nobody may.
fn is_owned(world: &World, shard: ShardKey) -> bool {
    world.running().into_iter().all(|id| {
        let node = world.node(id);
        let state = node.state();
        let Some(spec) = state.ownership().spec_of(shard.entity_type) else {
            return true;
        };
        let carriers: Vec<NodeId> = state.carriers(spec).map(|member| member.node).collect();
        let owner = node.shard(shard).and_then(|record| record.owner);
        carriers.is_empty() || owner.is_some_and(|owner| carriers.contains(&owner))
    })
}

pub(crate) fn all_is_well(world: &World) -> bool {
    what_is_wrong(world).is_empty()
}

pub(crate) fn what_is_wrong(world: &World) -> String {
    let running = world.running();
    let mut wrong = Vec::new();
    for (id, node) in &world.nodes {
        let stays = !node.has_left;
        if stays && !node.is_running() {
            wrong.push(format!("{id} does not run: {:?}", node.stopped));
        }
    }
    let members: Vec<NodeId> = running.clone();
    let Some(first) = members.first().copied() else {
        return wrong.join("; ");
    };
    for &id in &running {
        let node = world.node(id);
        let local = world.nodes[&id].local(world.now);
        let state = node.self_node().map(|me| me.state);
        if state != Some(MemberState::Up) {
            wrong.push(format!("{id} is {state:?}"));
        }
        if !node.has_control_quorum(local) {
            wrong.push(format!("{id} has no lease"));
        }
        if node.state().applied() != world.node(first).state().applied() {
            wrong.push(format!("{id} lags behind"));
        }
        let up: Vec<NodeId> = node.members().up().map(|member| member.node).collect();
        if up != members {
            wrong.push(format!("{id} sees {up:?} up of {members:?}"));
        }
        let live = node.members().live();
        let bad: Vec<_> = live
            .filter(|member| !member.is_reachable())
            .map(|member| (member.node, member.unreachable_by.clone()))
            .collect();
        if !bad.is_empty() {
            wrong.push(format!("{id} sees {bad:?} unreachable"));
        }
        if node.state().ownership().moves().count() > 0 {
            wrong.push(format!("{id} sees moves"));
        }
        for entity_type in [0, 1].map(EntityTypeId) {
            for record in node.state().ownership().shards_of(entity_type) {
                if record.owner.is_some_and(|owner| !up.contains(&owner)) {
                    wrong.push(format!("{id} sees a shard of {:?}", record.owner));
                }
            }
        }
        let peers = node.state().peers();
        if peers.len() != members.len() {
            wrong.push(format!("{id} sees the peers {peers:?}"));
        }
    }
    wrong.join("; ")
}
