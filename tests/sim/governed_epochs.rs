//! Owners that change faster than nodes hear of it: of each shard another node becomes the owner again and again, as after a
//! death of the last one, and every node lags behind for a while of its own. Nobody sees to leases here, so two nodes may
//! run one shard; but nobody believes an answer of a node that it knows to have lost the shard, and no entity goes on with
//! what it knew in an earlier epoch.

use crate::governed_history::{Fencing, Kind, Outcome};
use crate::governed_judge::judge_messages;
use crate::governed_senders::{Keeping, Order, Senders, What, register};
use corecast::actor::mutant::Mutant;
use corecast::base::ids::{EntityTypeId, Epoch, NodeId, ShardId, ShardKey};
use corecast::base::rng::seeded;
use corecast::rand::RngExt;
use corecast::rand::seq::IndexedRandom;
use corecast::sim::{ClusterSimulation, check_cluster_swarm};
use corecast::{AskError, Time, Uncertainty};
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::time::Duration;

const SHARDS: u32 = 6;
const IDS: u64 = 12;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What has been seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    replied: u64,
    rejected: u64,
    unknown: u64,
    /// Answers that were not believed.
    fenced: u64,
}

fn scenario(mut cluster: ClusterSimulation, mutant: Option<Mutant>) -> (ClusterSimulation, Seen) {
    let mut rng = seeded(cluster.seed(), 0x6570_6f63);
    let nodes: Vec<NodeId> = (1..=rng.random_range(2..=5)).map(NodeId).collect();
    let mut senders = Senders::default();
    for node in &nodes {
        let cores = rng.random_range(1..=3);
        let history = senders.history.clone();
        let region = cluster.start(*node, |mut builder| {
            let region = register(&mut builder, *node, SHARDS, &history, Keeping::Kept);
            let builder = match mutant {
                Some(mutant) => builder.mutant(mutant),
                None => builder,
            };
            (builder.cores(cores), region)
        });
        senders.tallies.borrow_mut().insert(*node, region);
    }
    let mut epochs = vec![0_u64; SHARDS as usize];
    for shard in 0..SHARDS {
        let owner = *nodes.choose(&mut rng).unwrap();
        cluster.assign("tally", ShardId(shard), owner);
        epochs[shard as usize] = 1;
    }
    cluster.publish();
    for node in &nodes {
        senders.begin_life(&mut cluster, *node);
    }
    cluster.run_for(ms(20));
    senders.look(cluster.now());
    // When each node hears what it has not heard.
    let mut due: BTreeMap<NodeId, Time> = BTreeMap::new();
    for _ in 0..300 {
        if rng.random_bool(0.2) {
            let shard = rng.random_range(0..SHARDS);
            cluster.take_away("tally", ShardId(shard));
            let owner = *nodes.choose(&mut rng).unwrap();
            cluster.assign("tally", ShardId(shard), owner);
            epochs[shard as usize] += 1;
            for node in &nodes {
                let lag = [0, 50, 1_000][rng.random_range(0..3)];
                let at = cluster.now() + ms(rng.random_range(0..=lag));
                due.entry(*node).or_insert(at);
            }
        }
        let now = cluster.now();
        for node in due.extract_if(.., |_, at| *at <= now).map(|it| it.0) {
            cluster.publish_to(node);
            let mut history = senders.history.lock();
            for (shard, epoch) in (0..).zip(&epochs) {
                history.fencings.push(Fencing {
                    at: now,
                    node,
                    shard: ShardKey {
                        entity_type: EntityTypeId(0),
                        shard: ShardId(shard),
                    },
                    fence: Epoch(*epoch),
                });
            }
        }
        let node = *nodes.choose(&mut rng).unwrap();
        let orders = (0..rng.random_range(1..4)).map(|_| Order {
            what: match rng.random_range(0..10) {
                0 => What::Tell,
                1 => What::Send,
                2..5 => What::Slow(rng.random_range(1..300)),
                5 => What::Relay(rng.random_range(0..IDS)),
                6 => What::Keep,
                _ => What::Count,
            },
            to: rng.random_range(0..IDS),
            within: ms([300, 2_000][rng.random_range(0..2)]),
            must_succeed: false,
        });
        let orders = orders.collect();
        senders.send(node, rng.random_range(0..senders.count(node)), orders);
        cluster.run_for(ms(rng.random_range(1..60)));
        senders.look(cluster.now());
    }
    cluster.publish();
    // Whoever does one thing after the other may have several receipts before it that take ten seconds.
    cluster.run_for(ms(60_000));
    let waiting = senders.look(cluster.now());
    let history = senders.history.lock();
    assert_eq!(waiting, 0, "asks from outside have not ended");
    let open = crate::governed_judge::open(&history, &senders.living());
    assert!(open.is_empty(), "operations {open:?} have not ended");
    judge_messages(&history, false);
    let mut seen = Seen::default();
    let fenced = AskError::Unknown(Uncertainty::Fenced);
    let asks = history.operations.iter().filter(|it| it.kind == Kind::Ask);
    for outcome in asks.filter_map(|it| it.ended).map(|it| it.1) {
        match outcome {
            Outcome::Replied(_) => seen.replied += 1,
            Outcome::Rejected(_) => seen.rejected += 1,
            Outcome::Unknown(why) => {
                seen.unknown += 1;
                seen.fenced += u64::from(why == fenced);
            }
            _ => {}
        }
    }
    drop(history);
    (cluster, seen)
}

#[test]
fn nobody_believes_a_node_that_it_knows_to_have_lost_the_shard() {
    let runs = check_cluster_swarm(120, |cluster| scenario(cluster, None));
    let total = |of: fn(&Seen) -> u64| runs.iter().map(of).sum::<u64>();
    if runs.len() >= 120 {
        assert!(total(|it| it.replied) > 5_000, "{runs:?}");
        assert!(total(|it| it.fenced) > 50, "{runs:?}");
        assert!(total(|it| it.rejected) > 50, "{runs:?}");
    }
}

#[track_caller]
fn assert_found(mutant: Mutant, sign: &str) {
    for seed in 0..500 {
        let ran = catch_unwind(|| drop(scenario(ClusterSimulation::new(seed), Some(mutant))));
        if let Err(panic) = ran {
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            assert!(
                text.contains(sign),
                "seed {seed} found something else than {mutant:?}: {text}"
            );
            return;
        }
    }
    panic!("{mutant:?} was not found in 500 seeds");
}

#[test]
fn an_answer_of_a_fenced_owner_that_is_believed() {
    assert_found(Mutant::IgnoreEpochOfAnswers, "believed an answer of");
}

#[test]
fn an_entity_that_goes_on_in_another_epoch() {
    assert_found(
        Mutant::IgnoreEpochOfOwner,
        "has another count than messages handled",
    );
}
