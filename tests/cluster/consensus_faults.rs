//! A scenario: proposals, faults of every kind, and then peace, in which everything has to commit.

use std::collections::BTreeMap;
use std::time::Duration;

use corecast::Time;
use corecast::base::ids::NodeId;
use corecast::consensus::mutant::Mutant;
use corecast::consensus::output::Outcome;
use corecast::consensus::settings::ConsensusSettings;
use rand::RngExt;
use rand::seq::IndexedRandom;

use crate::consensus_ledger::Disks;
use crate::consensus_node::PLAIN;
use crate::consensus_world::{Counts, World};
use crate::seeds::Trace;

/// Which faults there are, drawn anew for each seed: a run in which everything happens shows less than many in which
/// some things do.
struct Faults {
    crash: f64,
    pause: f64,
    cut: f64,
    one_way: f64,
    slow: f64,
    down: f64,
    dies_voting: bool,
}

impl Faults {
    fn draw(world: &mut World) -> Faults {
        let mut rate = |most: f64| match world.rng.random_bool(0.5) {
            true => world.rng.random_range(0.0..most),
            false => 0.0,
        };
        Faults {
            crash: rate(0.008),
            pause: rate(0.006),
            cut: rate(0.006),
            one_way: rate(0.006),
            slow: rate(0.004),
            down: rate(0.4),
            dies_voting: rate(1.0) > 0.5,
        }
    }
}

/// What a run leaves.
pub(crate) struct Ran {
    pub(crate) trace: Trace,
    pub(crate) counts: Counts,
    pub(crate) commands: usize,
    pub(crate) terms: usize,
}

pub(crate) fn settings(mutant: Option<Mutant>) -> ConsensusSettings {
    ConsensusSettings {
        proposal_timeout: Duration::from_millis(400),
        snapshot_entries: 25,
        keep_entries: 5,
        chunk_bytes: 300,
        chunk_window: 3,
        snapshot_timeout: Duration::from_millis(200),
        max_proposals: 50,
        mutant,
        ..ConsensusSettings::fast()
    }
}

/// Faults for so long, then peace.
pub(crate) fn scenario(seed: u64, length: Duration, mutant: Option<Mutant>) -> Ran {
    scenario_on(Disks::Memory, seed, length, mutant)
}

/// The same on disks of this sort.
pub(crate) fn scenario_on(
    disks: Disks,
    seed: u64,
    length: Duration,
    mutant: Option<Mutant>,
) -> Ran {
    let mut settings = settings(mutant);
    settings.max_voters = [3, 5, 7][seed as usize % 3];
    let founders = [3, 5, 1, 3, 4, 2, 7, 5][(seed / 3) as usize % 8];
    let mut world = World::on(disks, seed, founders, settings);
    let faults = Faults::draw(&mut world);
    if world.rng.random_bool(0.3) {
        world.network.settings_mut().loss = 0.02;
    }
    let mut until: BTreeMap<NodeId, Time> = BTreeMap::new();
    let mut changes = 3;
    world.run(length, |world| {
        one_step(world, &faults, &mut until, &mut changes)
    });
    peace(&mut world);
    Ran {
        commands: world.judge.commands(),
        terms: world.judge.terms(),
        counts: world.counts,
        trace: world.into_trace(),
    }
}

fn one_step(
    world: &mut World,
    faults: &Faults,
    until: &mut BTreeMap<NodeId, Time>,
    changes: &mut u32,
) {
    let ids: Vec<NodeId> = world.nodes.keys().copied().collect();
    let id = *ids.choose(&mut world.rng).unwrap();
    let now = world.now;
    let soon =
        |world: &mut World, most: u64| now + Duration::from_millis(world.rng.random_range(1..most));
    if world.is_up(id) && world.rng.random_bool(0.2) {
        world.propose(id, PLAIN);
    }
    if world.rng.random_bool(faults.down)
        && let Some(leader) = world.leader()
        && world.is_up(leader)
    {
        let mut life = world.nodes[&id].life;
        // Sometimes the one that has died before.
        life.incarnation.0 -= u32::from(world.rng.random_bool(0.2)).min(life.incarnation.0 - 1);
        world.propose_down(leader, life);
    }
    if world.rng.random_bool(0.005)
        && let Some(leader) = world.leader()
    {
        world.hand_leadership(leader, id);
    }
    if world.is_up(id) && world.rng.random_bool(faults.crash) {
        world.crash(id);
        let most = [50, 300, 900][world.rng.random_range(0..3)];
        let back = soon(world, most);
        until.insert(id, back);
    }
    if world.is_up(id) && world.rng.random_bool(faults.pause) {
        let most = [100, 700][world.rng.random_range(0..2)];
        let back = soon(world, most);
        world.nodes.get_mut(&id).unwrap().paused_until = Some(back);
    }
    if world.rng.random_bool(faults.cut) {
        let (one, other): (Vec<_>, Vec<_>) = ids.iter().partition(|_| world.rng.random_bool(0.4));
        world.network.partition(&one, &other);
    }
    if world.rng.random_bool(faults.one_way) {
        let other = *ids.choose(&mut world.rng).unwrap();
        world.network.cut(id, other);
    }
    if world.rng.random_bool(faults.slow) {
        let other = *ids.choose(&mut world.rng).unwrap();
        world.network.slow(id, other, 50);
        world.nodes.get_mut(&id).unwrap().slow_disk = 30_000;
    }
    if world.rng.random_bool(0.003) {
        world.network.heal(now);
    }
    if faults.dies_voting && world.rng.random_bool(0.02) {
        world.nodes.get_mut(&id).unwrap().dies_voting = world.rng.random_bool(0.3);
    }
    // Those that died on their own come back at once, into the same election.
    for id in ids {
        let node = &world.nodes[&id];
        if node.running.is_none() && until.get(&id).is_none_or(|until| *until <= now) {
            until.remove(&id);
            world.start(id);
        }
    }
    if *changes > 0 && world.rng.random_bool(0.002) {
        change_peers(world, until, changes);
    }
}

/// A node joins, leaves, or comes back with an empty disk. At most one disk is lost, and only where two others have all.
fn change_peers(world: &mut World, until: &mut BTreeMap<NodeId, Time>, changes: &mut u32) {
    let last = world.nodes.keys().last().unwrap().0;
    match (*changes, world.wanted.len()) {
        (3, 3..) => {
            let running = world.running();
            if let Some(id) = running.choose(&mut world.rng).copied() {
                world.crash(id);
                world.replace_disk(id);
                until.insert(id, world.now + Duration::from_millis(100));
            }
        }
        (2, 4..) => {
            let leaves = *world.wanted.choose(&mut world.rng).unwrap();
            world.wanted.retain(|peer| *peer != leaves);
        }
        (_, ..9) => world.join(NodeId(last + 1)),
        _ => {}
    }
    *changes -= 1;
}

/// No faults any more: everybody is there, and everything commits.
fn peace(world: &mut World) {
    world.network.heal(world.now);
    world.network.settings_mut().loss = 0.0;
    let ids: Vec<NodeId> = world.nodes.keys().copied().collect();
    for id in &ids {
        let node = world.nodes.get_mut(id).unwrap();
        (node.slow_disk, node.dies_voting, node.paused_until) = (2_000, false, None);
        if node.running.is_none() {
            world.start(*id);
        }
    }
    world.run(Duration::from_millis(3000), |_| {});
    let members: Vec<NodeId> = world.wanted.iter().map(|peer| peer.node()).collect();
    let proposed: Vec<_> = members.iter().map(|id| world.propose(*id, PLAIN)).collect();
    world.run(Duration::from_millis(700), |_| {});
    for (id, proposed) in members.iter().zip(proposed) {
        let proposed = proposed.unwrap_or_else(|| panic!("{id} takes no proposal in peace"));
        let outcome = world.judge.outcome_of(proposed);
        assert!(
            matches!(outcome, Some(Outcome::Committed { .. })),
            "a proposal of {id} in peace: {outcome:?}"
        );
        let open = world.nodes[id].running.as_ref().unwrap().open_proposals();
        assert_eq!(open, 0, "{id} has proposals without an outcome");
        assert_eq!(
            world.applied(*id),
            world.applied(members[0]),
            "{id} lags behind"
        );
        let configuration = world.nodes[id].running.as_ref().unwrap().configuration();
        let peers = world.wanted.to_vec();
        assert!(!configuration.is_joint(), "{id}: {configuration:?}");
        assert!(
            peers.iter().all(|peer| configuration.contains(*peer)),
            "{configuration:?}"
        );
        assert_eq!(
            configuration.peers().len(),
            peers.len(),
            "{configuration:?}"
        );
        let voters = peers.len().min(world.settings.max_voters);
        assert_eq!(configuration.voters.len(), voters, "{configuration:?}");
    }
}

/// A leader declares a learner down that has stood still; while this is on its way to slow disks it hands over, so that
/// declaring it down once more is refused, and the learner goes on and asks for a lease.
pub(crate) fn down_while_handing_over(seed: u64) -> Trace {
    let (mut world, leader, learner) = with_learner(seed, None);
    let wait = world.settings.lease * 5 / 4;
    let awake = world.now + wait + Duration::from_micros(world.rng.random_range(0..5_000));
    world.nodes.get_mut(&learner).unwrap().paused_until = Some(awake);
    world.run(wait, |_| {});
    let voters: Vec<NodeId> = world.voters_of(leader);
    for voter in &voters {
        world.nodes.get_mut(voter).unwrap().slow_disk = 30_000;
    }
    let life = world.nodes[&learner].life;
    let before = world.counts;
    world.propose_down(leader, life);
    let next = *voters.iter().find(|voter| **voter != leader).unwrap();
    world.hand_leadership(leader, next);
    world.propose_down(leader, life);
    assert_eq!(world.counts.downs, before.downs + 2);
    world.run(Duration::from_millis(300), |_| {});
    assert!(world.judge.down.contains(&life), "the first one counts");
    world.into_trace()
}

/// Two that do not hear each other want to lead, and the third dies with each vote that it gives. All come back at once;
/// one of the two learns late that it has won, so that the other can ask meanwhile.
pub(crate) fn voter_dies(seed: u64, mutant: Option<Mutant>) -> Trace {
    let mut world = World::new(seed, 3, settings(mutant));
    let [one, other, voter] = [1, 2, 3].map(NodeId);
    world.network.cut(one, other);
    world.network.cut(other, one);
    world.network.slow(voter, one, 40);
    world.run(Duration::from_millis(3000), |world| {
        if let Some(leader) = world.leader()
            && world.rng.random_bool(0.02)
        {
            world.crash(leader);
        }
        world.nodes.get_mut(&voter).unwrap().dies_voting = true;
        for id in [one, other, voter] {
            if world.nodes[&id].running.is_none() {
                world.start(id);
            }
        }
    });
    assert!(world.counts.crashes >= 10, "too few elections");
    world.into_trace()
}

/// Three voters and two learners: who leads, and a learner.
fn with_learner(seed: u64, mutant: Option<Mutant>) -> (World, NodeId, NodeId) {
    let mut settings = settings(mutant);
    settings.max_voters = 3;
    let mut world = World::new(seed, 5, settings);
    world.run(Duration::from_millis(1000), |_| {});
    let leader = world.leader().expect("nobody leads");
    let votes = world.voters_of(leader);
    assert_eq!(votes.len(), 3);
    let mut ids = world.nodes.keys();
    let learner = *ids.find(|id| !votes.contains(id)).unwrap();
    (world, leader, learner)
}

/// A leader stands still in a small part of the network, with a learner that goes on asking it for leases, while the
/// others elect another, who declares the learner down as soon as it may.
pub(crate) fn stale_leader(seed: u64, mutant: Option<Mutant>) -> Trace {
    let (mut world, stale, learner) = with_learner(seed, mutant);
    let ids: Vec<NodeId> = world.nodes.keys().copied().collect();
    let (one, other): (Vec<_>, Vec<_>) = ids.iter().partition(|id| [stale, learner].contains(id));
    world.network.partition(&one, &other);
    let back = world.now + Duration::from_millis(world.rng.random_range(50..500));
    world.nodes.get_mut(&stale).unwrap().paused_until = Some(back);
    let life = world.nodes[&learner].life;
    world.run(Duration::from_millis(900), |world| {
        if let Some(leader) = world.leader().filter(|leader| *leader != stale) {
            world.propose_down(leader, life);
        }
    });
    assert!(
        world.judge.down.contains(&life),
        "it was never declared down"
    );
    world.into_trace()
}
