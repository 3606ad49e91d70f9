//! The replicated log and the leases, under faults.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test cluster consensus`.

use std::time::Duration;

use corecast::base::ids::NodeId;
use corecast::consensus::output::Outcome;
use corecast::consensus::settings::ConsensusSettings;
use rand::RngExt;

use crate::consensus_faults::{
    down_while_handing_over, scenario, scenario_on, settings, stale_leader, voter_dies,
};
use crate::consensus_ledger::Disks;
use crate::consensus_node::PLAIN;
use crate::consensus_world::World;
use crate::seeds::check_seeds;

#[test]
fn one_log_whatever_happens() {
    check_seeds(8, |seed| {
        scenario(seed, Duration::from_millis(2500), None).trace
    });
}

/// The same on the ledger that a node really has, on a disk that tears what is under way.
#[test]
fn one_log_on_ledgers_whatever_happens() {
    check_seeds(6, |seed| {
        let length = Duration::from_millis(2500);
        scenario_on(Disks::Ledgers, seed, length, None).trace
    });
}

/// The faults that the other tests rely on do happen.
#[test]
fn the_faults_do_happen() {
    let mut total = [0; 7];
    for seed in 0..16 {
        let ran = scenario(seed, Duration::from_millis(2500), None);
        let counts = ran.counts;
        let of_run = [
            counts.crashes,
            counts.chunks,
            counts.restores,
            counts.configured,
            counts.downs,
            counts.stands,
            ran.terms as u64,
        ];
        assert!(ran.commands > 0, "seed {seed}");
        for (total, of_run) in total.iter_mut().zip(of_run) {
            *total += of_run;
        }
    }
    let names = [
        "crashes",
        "chunks",
        "restores",
        "configured",
        "downs",
        "stands",
        "terms",
    ];
    let least = [20, 50, 20, 50, 5, 100, 30];
    for ((name, total), least) in names.iter().zip(total).zip(least) {
        assert!(total >= least, "{name}: {total} of at least {least}");
    }
}

/// With the default settings and those of a fast network: the leader dies, and nobody else stops for it.
#[test]
fn an_election_never_lapses_leases() {
    check_seeds(8, |seed| {
        let base = match seed % 2 {
            0 => ConsensusSettings::default(),
            _ => ConsensusSettings::fast(),
        };
        let nodes = [3, 5][(seed / 2) as usize % 2];
        let mut world = World::new(seed, nodes, base.clone());
        world.run(base.election_max * 4 + base.heartbeat * 4, |_| {});
        let leader = world.leader().expect("nobody leads");
        let random = world.rng.random_range(0..base.heartbeat.as_nanos() as u64);
        world.run(Duration::from_nanos(random), |_| {});
        world.crash(leader);
        world.run(base.lease * 3, |world| {
            for id in world.running() {
                assert!(world.holds_lease(id), "{id} has lost its lease");
            }
        });
        assert!(world.leader().is_some());
        world.into_trace()
    });
}

/// Half of the nodes are gone: nothing commits, it is said so, and leases lapse.
#[test]
fn without_a_quorum_proposals_are_rejected_and_leases_lapse() {
    check_seeds(10, |seed| {
        let mut world = World::new(seed, 4, settings(None));
        world.run(Duration::from_millis(600), |_| {});
        let leader = world.leader().expect("nobody leads");
        let other = NodeId(leader.0 % 4 + 1);
        let third = NodeId(other.0 % 4 + 1);
        world.crash(leader);
        world.crash(other);
        world.run(Duration::from_millis(900), |_| {});
        assert!(!world.holds_lease(third));
        let proposed = world.propose(third, PLAIN).unwrap();
        world.run(Duration::from_millis(600), |_| {});
        let outcome = world.judge.outcome_of(proposed);
        assert!(
            matches!(outcome, Some(Outcome::Rejected(_))),
            "certainly not in the log: {outcome:?}"
        );
        world.start(leader);
        world.run(Duration::from_millis(900), |_| {});
        assert!(world.holds_lease(third));
        let proposed = world.propose(third, PLAIN).unwrap();
        world.run(Duration::from_millis(300), |_| {});
        let outcome = world.judge.outcome_of(proposed);
        assert!(
            matches!(outcome, Some(Outcome::Committed { .. })),
            "{outcome:?}"
        );
        world.into_trace()
    });
}

/// Who hands over is followed at once: no time without a leader that anybody would notice.
#[test]
fn leadership_is_handed_over() {
    check_seeds(10, |seed| {
        let mut world = World::new(seed, 3, settings(None));
        world.run(Duration::from_millis(600), |_| {});
        let leader = world.leader().expect("nobody leads");
        let next = NodeId(leader.0 % 3 + 1);
        world.hand_leadership(leader, next);
        world.run(Duration::from_millis(40), |_| {});
        assert_eq!(world.leader(), Some(next));
        let proposed = world.propose(leader, PLAIN).unwrap();
        world.run(Duration::from_millis(40), |_| {});
        let outcome = world.judge.outcome_of(proposed);
        assert!(
            matches!(outcome, Some(Outcome::Committed { .. })),
            "{outcome:?}"
        );
        world.into_trace()
    });
}

#[test]
fn a_leader_that_stood_still_grants_nothing() {
    check_seeds(10, |seed| stale_leader(seed, None));
}

#[test]
fn a_down_that_is_refused_leaves_an_earlier_one_its_effect() {
    check_seeds(10, down_while_handing_over);
}

#[test]
fn a_vote_outlives_its_voter() {
    check_seeds(10, |seed| voter_dies(seed, None));
}
