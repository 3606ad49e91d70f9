//! Death watch between nodes: the end of an actor or entity is news once for each watch, behind its last message, whatever
//! becomes of connections and nodes meanwhile.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim remote_watch`.

use crate::remote_watch_kit::*;
use corecast::actor::remote::Lease;
use corecast::base::ids::{CoreId, Epoch, Incarnation, NodeId};
use corecast::base::rng::{Rng, seeded};
use corecast::rand::RngExt;
use corecast::sim::network::NetworkSettings;
use corecast::sim::{Bounds, ClusterSimulation, check_cluster_seeds};
use corecast::wire::address::{Address, Life, Sender, Target};
use corecast::wire::header::Header;
use corecast::wire::kind::{Kind, Reason};
use corecast::wire::limits::FrameLimits;
use corecast::wire::writer::FrameWriter;
use corecast::{ActorRef, EntityTypeId, Rejection, ShardId, ShardKey, StopCause};
use std::collections::BTreeMap;
use std::time::Duration;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What a watcher has heard of its watches, by their numbers.
fn ends(log: &Log, watcher: u64) -> Vec<(u64, Option<StopCause>)> {
    let log = log.events();
    let ends = log.iter().filter_map(|event| match event {
        Event::Gone { by, watch, cause } if *by == watcher => Some((*watch, *cause)),
        _ => None,
    });
    ends.collect()
}

#[test]
fn the_end_of_somebody_on_another_node_is_heard_of_once_behind_the_last_word() {
    check_cluster_seeds(20, |mut cluster| {
        let log = Log::default();
        people(&mut cluster, &[A, B], &log);
        cluster.network().slow(A, B, 20);
        for (number, core) in [0, 1].into_iter().enumerate() {
            let number = number as u64;
            let watcher = person(&mut cluster, A, core, 10 + number, &log);
            for (watch, there) in [0, 1].into_iter().enumerate() {
                let id = 100 * (number + 1) + watch as u64;
                let watch = id;
                let target = person(&mut cluster, B, there, id, &log);
                tell(
                    &mut cluster,
                    A,
                    watcher,
                    Msg::Watch {
                        target,
                        whom: id,
                        watch,
                    },
                );
                cluster.run_for(ms(100));
                for word in 0..50 {
                    tell(&mut cluster, B, target, Msg::Talk { to: watcher, word });
                }
                tell(&mut cluster, B, target, Msg::End);
            }
            assert!(cluster.run_until_idle());
            let heard = ends(&log, 10 + number);
            let wanted = Some(StopCause::Wanted);
            assert_eq!(heard.len(), 2, "{heard:?}");
            assert!(heard.iter().all(|(_, cause)| *cause == wanted), "{heard:?}");
        }
        let verdict = judge(&log);
        assert_eq!(verdict.words, 200);
        assert_empty(&mut cluster, &[A, B]);
        cluster
    });
}

/// Also one that failed, one that had gone before, and one of a life of its node that is over.
#[test]
fn those_who_have_gone_before_are_heard_of_at_once() {
    check_cluster_seeds(10, |mut cluster| {
        let log = Log::default();
        people(&mut cluster, &[A, B], &log);
        let watcher = person(&mut cluster, A, 0, 1, &log);
        let [failing, dead, old] = [2, 3, 4].map(|id| person(&mut cluster, B, 1, id, &log));
        tell(&mut cluster, B, dead, Msg::End);
        watch(&mut cluster, watcher, failing, 2, 0);
        assert!(cluster.run_until_idle());
        tell(&mut cluster, B, failing, Msg::Fail);
        watch(&mut cluster, watcher, dead, 3, 1);
        assert!(cluster.run_until_idle());
        cluster.kill(B);
        cluster.node_down(B);
        cluster.publish();
        start(&mut cluster, B, &log);
        cluster.publish();
        cluster.run_for(ms(100));
        watch(&mut cluster, watcher, old, 4, 2);
        cluster.run_for(ms(300));
        let wanted = [
            (0, Some(StopCause::Failed)),
            (1, None),
            (2, Some(StopCause::NodeGone)),
        ];
        assert_eq!(ends(&log, 1), wanted);
        assert_empty(&mut cluster, &[A, B]);
        cluster
    });
}

#[test]
fn a_node_that_is_gone_takes_all_its_actors_along_once() {
    check_cluster_seeds(10, |mut cluster| {
        let log = Log::default();
        people(&mut cluster, &[A, B, C], &log);
        let watchers = [0, 1].map(|core| person(&mut cluster, A, core, 1 + u64::from(core), &log));
        let targets: Vec<_> = (10..20)
            .map(|id| (id, person(&mut cluster, B, (id % 2) as u16, id, &log)))
            .collect();
        let other = person(&mut cluster, C, 0, 30, &log);
        watch(&mut cluster, targets[0].1, other, 30, 1_000);
        for (number, watcher) in (0..).zip(watchers) {
            for (id, target) in &targets {
                watch(&mut cluster, watcher, *target, *id, 100 * number + id);
            }
            watch(&mut cluster, watcher, other, 30, 100 * number + 30);
        }
        cluster.run_for(ms(100));
        assert_eq!(cluster.remote_stats(C).watchers, 3);
        cluster.kill(B);
        // Nobody has heard that it is down: a connection that breaks is no end.
        cluster.run_for(ms(2_000));
        assert_eq!(ends(&log, 1), []);
        cluster.node_down(B);
        cluster.publish();
        cluster.run_for(ms(300));
        for (number, watcher) in [1, 2].into_iter().enumerate() {
            let heard = ends(&log, watcher);
            let number = number as u64;
            let wanted: Vec<_> = (10..20)
                .map(|id| (100 * number + id, Some(StopCause::NodeGone)))
                .collect();
            assert_eq!(heard, wanted);
        }
        assert_eq!(cluster.remote_stats(A).watches, 2);
        assert_eq!(cluster.remote_stats(C).watchers, 2);
        tell(&mut cluster, C, other, Msg::End);
        cluster.run_for(ms(100));
        assert_eq!(ends(&log, 1).len(), 11);
        assert_empty(&mut cluster, &[A, C]);
        cluster
    });
}

#[test]
fn a_watch_that_was_ended_or_whose_watcher_has_gone_leaves_nothing_behind() {
    check_cluster_seeds(10, |mut cluster| {
        let log = Log::default();
        people(&mut cluster, &[A, B], &log);
        let target = person(&mut cluster, B, 1, 1, &log);
        let watchers: Vec<_> = (10..14)
            .map(|id| person(&mut cluster, A, (id % 2) as u16, id, &log))
            .collect();
        for (number, watcher) in (0..).zip(&watchers) {
            watch(&mut cluster, *watcher, target, 1, number);
        }
        assert!(cluster.run_until_idle());
        assert_eq!(cluster.remote_stats(B).watchers, 4);
        tell(
            &mut cluster,
            A,
            watchers[0],
            Msg::Unwatch { target, whom: 1 },
        );
        tell(&mut cluster, A, watchers[1], Msg::End);
        tell(&mut cluster, A, watchers[2], Msg::Fail);
        // Watching again replaces.
        watch(&mut cluster, watchers[3], target, 1, 9);
        assert!(cluster.run_until_idle());
        assert_eq!(cluster.remote_stats(B).watchers, 1);
        assert_eq!(cluster.remote_stats(A).watches, 1);
        tell(&mut cluster, B, target, Msg::End);
        assert!(cluster.run_until_idle());
        assert_eq!(ends(&log, 13), [(9, Some(StopCause::Wanted))]);
        for id in 10..13 {
            assert_eq!(ends(&log, id), []);
        }
        assert_empty(&mut cluster, &[A, B]);
        cluster
    });
}

#[test]
fn as_many_may_be_watched_on_other_nodes_as_here() {
    check_cluster_seeds(3, |mut cluster| {
        let log = Log::default();
        let bounds = Bounds {
            watches: 2,
            ..Bounds::default()
        };
        for node in [A, B, C] {
            let bounds = bounds.clone();
            start_with(&mut cluster, node, &log, move |it| {
                it.cores(1).bounds(bounds)
            });
        }
        cluster.publish();
        cluster.run_for(ms(50));
        let watcher = person(&mut cluster, A, 0, 1, &log);
        let targets = [10, 11, 12].map(|id| (id, person(&mut cluster, B, 0, id, &log)));
        for (id, target) in targets {
            watch(&mut cluster, watcher, target, id, id);
        }
        assert!(cluster.run_until_idle());
        let refused: Vec<_> = log
            .events()
            .iter()
            .filter_map(|event| match event {
                Event::Refused { watch, why, .. } => Some((*watch, *why)),
                _ => None,
            })
            .collect();
        assert_eq!(refused, [(12, Rejection::TooManyWatches)]);
        // As many of others as may be watched from here are watched here at most; one more waits until there is room.
        let late = person(&mut cluster, C, 0, 2, &log);
        watch(&mut cluster, late, targets[2].1, 12, 20);
        cluster.run_for(ms(1_000));
        assert_eq!(cluster.remote_stats(B).watchers, 2);
        tell(&mut cluster, B, targets[0].1, Msg::End);
        cluster.run_for(ms(1_000));
        assert_eq!(cluster.remote_stats(B).watchers, 2);
        tell(&mut cluster, B, targets[2].1, Msg::End);
        cluster.run_for(ms(1_000));
        assert_eq!(ends(&log, 2), [(20, Some(StopCause::Wanted))]);
        tell(&mut cluster, B, targets[1].1, Msg::End);
        cluster.run_for(ms(1_000));
        assert_eq!(ends(&log, 1).len(), 2);
        assert_empty(&mut cluster, &[A, B, C]);
        cluster
    });
}

/// Far more than there is room for between two nodes at once.
#[test]
fn when_many_have_come_and_gone_the_books_are_empty() {
    check_cluster_seeds(1, |mut cluster| {
        let log = Log::default();
        let bounds = corecast::actor::link::LinkBounds {
            buffer_bytes: 20_000,
            ..Default::default()
        };
        cluster.set_bounds(bounds);
        people(&mut cluster, &[A, B], &log);
        for round in 0..3_u64 {
            let hub = person(&mut cluster, B, 1, 100_000 * round, &log);
            let mut watchers = Vec::new();
            for number in 1..1_500 {
                let id = 100_000 * round + number;
                let watcher = person(&mut cluster, A, (number % 2) as u16, id, &log);
                watch(&mut cluster, watcher, hub, 100_000 * round, id);
                watchers.push(watcher);
                if number % 50 == 0 {
                    cluster.run_for(ms(5));
                }
            }
            assert!(cluster.run_until_idle());
            assert_eq!(cluster.remote_stats(B).watchers, 1_499);
            match round {
                0 => tell(&mut cluster, B, hub, Msg::End),
                1 => watchers
                    .iter()
                    .for_each(|watcher| tell(&mut cluster, A, *watcher, Msg::End)),
                _ => {
                    cluster.network().cut(A, B);
                    cluster.network().cut(B, A);
                    tell(&mut cluster, B, hub, Msg::End);
                    cluster.run_for(ms(60_000));
                    let now = cluster.now();
                    cluster.network().heal(now);
                }
            }
            cluster.run_for(ms(20_000));
            assert!(cluster.run_until_idle());
            assert_empty(&mut cluster, &[A, B]);
        }
        let verdict = judge(&log);
        assert_eq!(verdict.gone, 2 * 1_499);
        cluster
    });
}

/// What the driver of a long run knows of a person.
#[derive(Clone, Copy)]
struct Known {
    node: NodeId,
    me: ActorRef<Msg>,
    life: u32,
}

/// Connections break and nodes die, links are slow, leases lapse, and people come, watch each other, talk and go.
#[test]
fn through_broken_connections_and_dying_nodes_every_end_is_heard_of_once() {
    let totals = std::sync::Mutex::new((0, 0, 0));
    check_cluster_seeds(25, |mut cluster| {
        let log = Log::default();
        *cluster.network().settings_mut() = NetworkSettings {
            gives_up_after: ms(40),
            loss: 0.02,
            resend_after: ms(2),
            ..NetworkSettings::default()
        };
        let nodes = [A, B, C];
        people(&mut cluster, &nodes, &log);
        let mut rng = seeded(cluster.seed(), 0x7761);
        let mut lives: BTreeMap<NodeId, u32> = nodes.map(|node| (node, 1)).into();
        let mut known: BTreeMap<u64, Known> = BTreeMap::new();
        let (mut next_id, mut next_watch, mut next_word) = (1, 1, 1);
        for _ in 0..600 {
            let alive: Vec<u64> = known.keys().copied().collect();
            let pick = |rng: &mut Rng| {
                (!alive.is_empty()).then(|| alive[rng.random_range(0..alive.len())])
            };
            match rng.random_range(0..100) {
                0..22 => {
                    let node = nodes[rng.random_range(0..3)];
                    let id = next_id;
                    next_id += 1;
                    let core = rng.random_range(0..2);
                    let me = person(&mut cluster, node, core, id, &log);
                    let life = lives[&node];
                    known.insert(id, Known { node, me, life });
                }
                22..55 => {
                    if let (Some(one), Some(other)) = (pick(&mut rng), pick(&mut rng)) {
                        let (one, target) = (known[&one], known[&other].me);
                        let msg = Msg::Watch {
                            target,
                            whom: other,
                            watch: next_watch,
                        };
                        next_watch += 1;
                        tell_if(&mut cluster, &lives, one, msg);
                    }
                }
                55..60 => {
                    if let (Some(one), Some(other)) = (pick(&mut rng), pick(&mut rng)) {
                        let (one, target) = (known[&one], known[&other].me);
                        tell_if(
                            &mut cluster,
                            &lives,
                            one,
                            Msg::Unwatch {
                                target,
                                whom: other,
                            },
                        );
                    }
                }
                60..75 => {
                    if let (Some(one), Some(other)) = (pick(&mut rng), pick(&mut rng)) {
                        let (one, to) = (known[&one], known[&other].me);
                        for _ in 0..rng.random_range(1..10) {
                            tell_if(
                                &mut cluster,
                                &lives,
                                one,
                                Msg::Talk {
                                    to,
                                    word: next_word,
                                },
                            );
                            next_word += 1;
                        }
                        if rng.random_range(0..3) == 0 {
                            tell_if(&mut cluster, &lives, one, Msg::End);
                            known.retain(|_, it| it.me != one.me || rng.random_ratio(1, 8));
                        }
                    }
                }
                75..84 => {
                    if let Some(one) = pick(&mut rng) {
                        let msg = if rng.random_range(0..2) == 0 {
                            Msg::End
                        } else {
                            Msg::Fail
                        };
                        tell_if(&mut cluster, &lives, known[&one], msg);
                        // Those who have gone are still watched and talked to now and then.
                        if rng.random_ratio(7, 8) {
                            known.remove(&one);
                        }
                    }
                }
                84..90 => {
                    let (one, other) = (rng.random_range(0..3), rng.random_range(0..3));
                    if one != other {
                        cluster.network().cut(nodes[one], nodes[other]);
                    }
                }
                90..94 => {
                    let now = cluster.now();
                    cluster.network().heal(now);
                }
                94..96 => {
                    let (one, other) = (rng.random_range(0..3), rng.random_range(0..3));
                    if one != other {
                        let factor = rng.random_range(1..30);
                        cluster.network().slow(nodes[one], nodes[other], factor);
                    }
                }
                96..97 => {
                    let node = nodes[rng.random_range(0..3)];
                    let until = cluster.now() + ms(rng.random_range(1..5));
                    cluster.set_lease(node, Lease::Until(until));
                    cluster.run_for(ms(20));
                    cluster.set_lease(node, Lease::NotNeeded);
                }
                _ if rng.random_ratio(1, 5) => {
                    let node = nodes[rng.random_range(0..3)];
                    cluster.kill(node);
                    known.retain(|_, it| it.node != node || rng.random_ratio(1, 4));
                    log.events().push(Event::NodeDied { node });
                    cluster.run_for(ms(rng.random_range(0..200)));
                    let order = rng.random_range(0..3);
                    cluster.node_down(node);
                    if order > 0 {
                        cluster.publish();
                        cluster.run_for(ms(rng.random_range(0..100)));
                    }
                    start(&mut cluster, node, &log);
                    *lives.get_mut(&node).unwrap() += 1;
                    if order > 1 {
                        // Some hear of it before others.
                        for node in nodes {
                            cluster.publish_to(node);
                            cluster.run_for(ms(rng.random_range(0..30)));
                        }
                    }
                    cluster.publish();
                }
                _ => {}
            }
            if rng.random_range(0..4) == 0 {
                cluster.run_for(Duration::from_micros(rng.random_range(0..30_000)));
            }
        }
        let now = cluster.now();
        cluster.network().heal(now);
        cluster.run_for(ms(60_000));
        assert!(cluster.run_until_idle());
        let verdict = judge(&log);
        // Those who watch come to their end before those whom they watch, in half of the runs.
        let mut rest: Vec<Known> = known.into_values().collect();
        if cluster.seed().is_multiple_of(2) {
            rest.reverse();
        }
        for one in rest {
            tell_if(&mut cluster, &lives, one, Msg::End);
        }
        cluster.run_for(ms(10_000));
        assert!(cluster.run_until_idle());
        assert_empty(&mut cluster, &nodes);
        let mut totals = totals.lock().unwrap();
        totals.0 += verdict.gone;
        totals.1 += verdict.without_cause;
        totals.2 += verdict.node_gone;
        cluster
    });
    let (gone, without_cause, node_gone) = *totals.lock().unwrap();
    assert!(
        gone > 1_000 && without_cause > 10 && node_gone > 100,
        "{totals:?}"
    );
}

fn watch(
    cluster: &mut ClusterSimulation,
    watcher: ActorRef<Msg>,
    target: ActorRef<Msg>,
    whom: u64,
    watch: u64,
) {
    let node = node_of(watcher);
    let msg = Msg::Watch {
        target,
        whom,
        watch,
    };
    tell(cluster, node, watcher, msg);
}

fn entity_watch(cluster: &mut ClusterSimulation, watcher: ActorRef<Msg>, entity: u64, watch: u64) {
    let node = node_of(watcher);
    tell(cluster, node, watcher, Msg::WatchEntity { entity, watch });
}

/// The node of a person, which is shown before everything else of an address.
fn node_of(person: ActorRef<Msg>) -> NodeId {
    let shown = format!("{person:?}");
    let nodes = [A, B, C];
    let node = nodes
        .into_iter()
        .find(|node| shown.starts_with(&format!("{node}/")));
    node.unwrap()
}

fn tell_if(cluster: &mut ClusterSimulation, lives: &BTreeMap<NodeId, u32>, to: Known, msg: Msg) {
    if lives[&to.node] == to.life {
        tell(cluster, to.node, to.me, msg);
    }
}

#[test]
fn a_stop_of_somebody_on_another_node_comes_in_order() {
    check_cluster_seeds(20, |mut cluster| {
        let log = Log::default();
        people(&mut cluster, &[A, B], &log);
        for core in [0, 1] {
            let id = 10 + u64::from(core);
            let target = person(&mut cluster, B, core, id, &log);
            let sender = person(&mut cluster, A, 0, 20 + u64::from(core), &log);
            watch(&mut cluster, sender, target, id, 1);
            for word in 0..20 {
                tell(&mut cluster, A, sender, Msg::Talk { to: target, word });
            }
            tell(&mut cluster, A, sender, Msg::Stop { whom: target });
            tell(&mut cluster, A, sender, Msg::Stop { whom: target });
            for word in 100..120 {
                tell(&mut cluster, A, sender, Msg::Talk { to: target, word });
            }
            assert!(cluster.run_until_idle());
            let log = log.events();
            let words: Vec<u64> = log
                .iter()
                .filter_map(|event| match event {
                    Event::Word { to, word, .. } if *to == id => Some(*word),
                    _ => None,
                })
                .collect();
            assert_eq!(words, (0..20).collect::<Vec<_>>());
        }
        assert_eq!(ends(&log, 20), [(1, Some(StopCause::Wanted))]);
        // And from outside; one that has gone is not stopped again.
        let other = person(&mut cluster, B, 1, 30, &log);
        let handle = cluster.node(A).handle();
        assert_eq!(handle.stop(other), Ok(()));
        assert_eq!(handle.stop(other), Ok(()));
        assert!(cluster.run_until_idle());
        assert!(log.events().contains(&Event::Ended { who: 30 }));
        assert_empty(&mut cluster, &[A, B]);
        cluster
    });
}

#[test]
fn the_life_of_an_entity_on_another_node_ends_once() {
    check_cluster_seeds(15, |mut cluster| {
        let log = Log::default();
        let regions = people(&mut cluster, &[A, B, C], &log);
        own(&mut cluster, &[(0, B), (1, B), (2, C), (3, A)]);
        let watcher = person(&mut cluster, A, 0, 1, &log);
        let id = |shard: u32| (1_000..).find(|id| regions[0].shard_of(id).shard == ShardId(shard));
        let [stops, dies, moves, here] = [0, 1, 2, 3].map(|shard| id(shard).unwrap());
        // One that is not active has ended.
        entity_watch(&mut cluster, watcher, stops, 1);
        assert!(cluster.run_until_idle());
        assert_eq!(ends(&log, 1), [(1, None)]);
        // Who starts one and then watches it watches one that has started.
        for (watch, entity) in [(2, stops), (3, dies), (4, moves), (5, here)] {
            tell(&mut cluster, A, watcher, Msg::Wake { entity });
            entity_watch(&mut cluster, watcher, entity, watch);
        }
        assert!(cluster.run_until_idle());
        assert_eq!(ends(&log, 1).len(), 1);
        tell(&mut cluster, A, watcher, Msg::EndEntity { entity: stops });
        assert!(cluster.run_until_idle());
        assert_eq!(ends(&log, 1)[1..], [(2, Some(StopCause::Wanted))]);
        // The owner of another one dies.
        cluster.kill(B);
        cluster.node_down(B);
        cluster.publish();
        cluster.run_for(ms(300));
        assert_eq!(ends(&log, 1)[2..], [(3, Some(StopCause::NodeGone))]);
        own(&mut cluster, &[(0, C), (1, C)]);
        // A shard is given to another node, which ends its entities.
        own(&mut cluster, &[(2, A)]);
        assert!(cluster.run_until_idle());
        let heard = ends(&log, 1);
        assert_eq!(heard.len(), 4, "{heard:?}");
        assert_eq!(heard[3].0, 4);
        tell(&mut cluster, A, watcher, Msg::EndEntity { entity: here });
        assert!(cluster.run_until_idle());
        assert_eq!(ends(&log, 1)[4..], [(5, Some(StopCause::Wanted))]);
        tell(&mut cluster, A, watcher, Msg::End);
        assert!(cluster.run_until_idle());
        assert_empty(&mut cluster, &[A, C]);
        cluster
    });
}

/// Whoever lags behind sends it on a way that leads nowhere any more.
#[test]
fn a_watch_finds_an_entity_whose_owner_is_not_known_everywhere() {
    check_cluster_seeds(15, |mut cluster| {
        let log = Log::default();
        let regions = people(&mut cluster, &[A, B, C], &log);
        let entity = (1_000..)
            .find(|id| regions[0].shard_of(id).shard == ShardId(0))
            .unwrap();
        let watcher = person(&mut cluster, A, 1, 1, &log);
        // Nobody owns it yet; the watch waits behind what was sent before.
        tell(&mut cluster, A, watcher, Msg::Wake { entity });
        entity_watch(&mut cluster, watcher, entity, 1);
        cluster.run_for(ms(300));
        assert_eq!(ends(&log, 1), []);
        own(&mut cluster, &[(0, B)]);
        cluster.run_for(ms(300));
        assert_eq!(cluster.remote_stats(B).watchers, 1);
        // B knows that it is C's, and A does not.
        cluster.assign(ENTITIES, ShardId(0), C);
        cluster.publish_to(B);
        cluster.publish_to(C);
        cluster.run_for(ms(300));
        assert_eq!(ends(&log, 1).len(), 1);
        let waker = person(&mut cluster, C, 0, 2, &log);
        tell(&mut cluster, C, waker, Msg::Wake { entity });
        cluster.run_for(ms(50));
        entity_watch(&mut cluster, watcher, entity, 2);
        cluster.run_for(ms(500));
        assert_eq!(ends(&log, 1).len(), 1);
        assert_eq!(cluster.remote_stats(C).watchers, 0);
        cluster.publish_to(A);
        cluster.run_for(ms(500));
        assert_eq!(cluster.remote_stats(C).watchers, 1);
        tell(&mut cluster, C, waker, Msg::EndEntity { entity });
        cluster.run_for(ms(100));
        assert_eq!(ends(&log, 1)[1..], [(2, Some(StopCause::Wanted))]);
        assert_empty(&mut cluster, &[A, B, C]);
        cluster
    });
}

/// A node that only some know yet is not taken for one that has gone.
#[test]
fn a_node_that_is_not_known_yet_is_not_gone() {
    check_cluster_seeds(10, |mut cluster| {
        let log = Log::default();
        people(&mut cluster, &[A, B], &log);
        start(&mut cluster, C, &log);
        // A hears last.
        cluster.publish_to(B);
        cluster.publish_to(C);
        let target = person(&mut cluster, C, 0, 1, &log);
        let watcher = person(&mut cluster, A, 1, 2, &log);
        watch(&mut cluster, watcher, target, 1, 1);
        cluster.run_for(ms(1_000));
        assert_eq!(ends(&log, 2), []);
        cluster.publish();
        cluster.run_for(ms(1_000));
        assert_eq!(ends(&log, 2), []);
        tell(&mut cluster, C, target, Msg::End);
        cluster.run_for(ms(200));
        assert_eq!(ends(&log, 2), [(1, Some(StopCause::Wanted))]);
        // The other way round: the watched node does not know who watches.
        let target = person(&mut cluster, A, 0, 3, &log);
        cluster.kill(C);
        cluster.node_down(C);
        cluster.publish();
        start(&mut cluster, C, &log);
        cluster.publish_to(C);
        let watcher = person(&mut cluster, C, 1, 4, &log);
        watch(&mut cluster, watcher, target, 3, 2);
        cluster.run_for(ms(500));
        cluster.publish();
        cluster.run_for(ms(1_000));
        assert_eq!(cluster.remote_stats(A).watchers, 1);
        tell(&mut cluster, A, target, Msg::End);
        cluster.run_for(ms(200));
        assert_eq!(ends(&log, 4), [(2, Some(StopCause::Wanted))]);
        // And one that never comes.
        let ghost = person(&mut cluster, C, 0, 5, &log);
        cluster.kill(C);
        cluster.node_down(C);
        start(&mut cluster, C, &log);
        cluster.publish();
        let watcher = person(&mut cluster, A, 1, 6, &log);
        watch(&mut cluster, watcher, ghost, 5, 3);
        cluster.run_for(ms(300));
        assert_eq!(ends(&log, 6), [(3, Some(StopCause::NodeGone))]);
        assert_empty(&mut cluster, &[A, B, C]);
        cluster
    });
}

/// A turn in which the lease lapsed is taken back, and with it what it has said of ends.
#[test]
fn what_was_taken_back_with_a_lease_is_said_again() {
    check_cluster_seeds(20, |mut cluster| {
        let log = Log::default();
        people(&mut cluster, &[A], &log);
        start_with(&mut cluster, B, &log, |it| it.cores(1).message_cost(ms(10)));
        cluster.publish();
        cluster.run_for(ms(50));
        let watcher = person(&mut cluster, A, 0, 1, &log);
        for round in 0..5 {
            let id = 10 + round;
            let target = person(&mut cluster, B, 0, id, &log);
            watch(&mut cluster, watcher, target, id, id);
            cluster.run_for(ms(200));
            let until = cluster.now() + ms(5 + round);
            cluster.set_lease(B, Lease::Until(until));
            tell(&mut cluster, B, target, Msg::End);
            cluster.run_for(ms(200));
            cluster.set_lease(B, Lease::NotNeeded);
            cluster.run_for(ms(500));
            assert_eq!(ends(&log, 1).len() as u64, round + 1);
        }
        assert_empty(&mut cluster, &[A, B]);
        cluster
    });
}

/// Another node says whatever it likes about watches and lookups. What others watch has nothing to do with that.
#[test]
fn frames_of_a_node_that_lies_disturb_nobody_else() {
    let taken = std::cell::Cell::new(0);
    check_cluster_seeds(10, |mut cluster| {
        let log = Log::default();
        people(&mut cluster, &[A, B, C], &log);
        own(&mut cluster, &[(0, A), (1, B), (2, B), (3, A)]);
        let mut rng = seeded(cluster.seed(), 0x6c69);
        let watchers: Vec<_> = (1..9)
            .map(|id| {
                let (node, core) = ([A, B][id as usize % 2], (id / 2 % 2) as u16);
                (id, person(&mut cluster, node, core, id, &log))
            })
            .collect();
        for (id, watcher) in &watchers {
            for (other, target) in &watchers {
                watch(&mut cluster, *watcher, *target, *other, 100 * id + other);
            }
        }
        assert!(cluster.run_until_idle());
        let before = (
            cluster.remote_stats(A).watchers,
            cluster.remote_stats(B).watchers,
        );
        assert_eq!(before, (16, 16));
        for _ in 0..800 {
            let bytes = lie(&mut rng);
            let node = [A, B][rng.random_range(0..2)];
            cluster.receive(node, CoreId(rng.random_range(0..2)), &bytes);
            if rng.random_ratio(1, 10) {
                cluster.run_for(Duration::from_micros(300));
            }
        }
        cluster.run_for(ms(5_000));
        assert_eq!(ends(&log, 1), []);
        let meanwhile = cluster.remote_stats(A).watchers + cluster.remote_stats(B).watchers;
        taken.set(taken.get() + meanwhile - 32);
        // When it is gone, so is what it has begun.
        cluster.kill(C);
        cluster.node_down(C);
        cluster.publish();
        cluster.run_for(ms(100));
        let after = (
            cluster.remote_stats(A).watchers,
            cluster.remote_stats(B).watchers,
        );
        assert_eq!(after, before);
        for (id, one) in watchers.iter().take(4) {
            tell(&mut cluster, [A, B][*id as usize % 2], *one, Msg::End);
        }
        assert!(cluster.run_until_idle());
        let verdict = judge(&log);
        assert!((4 * 4..=4 * 4 + 6).contains(&verdict.gone), "{verdict:?}");
        assert_eq!(verdict.without_cause, 0);
        cluster
    });
    assert!(taken.get() > 5, "{taken:?}");
}

/// A frame about watches or lookups of the node C, sound as such, with whatever in it.
fn lie(rng: &mut Rng) -> Vec<u8> {
    let kinds = [
        Kind::Watch,
        Kind::Unwatch,
        Kind::Terminated,
        Kind::Rewatch,
        Kind::Forget,
        Kind::Find,
        Kind::Found,
        Kind::Stop,
    ];
    let kind = kinds[rng.random_range(0..kinds.len())];
    let mut life = || Incarnation(1 + u32::from(rng.random_ratio(1, 4)));
    let (own, theirs) = (Life::new(C, life()), life());
    let sender = Sender {
        life: own,
        core: CoreId(rng.random_range(0..3)),
        stream: 0,
    };
    let slot = match kind {
        // It may stop whom it likes; not here.
        Kind::Stop => 1 << 20,
        _ => rng.random_range(0..5_u64),
    };
    let target = match kind {
        Kind::Watch | Kind::Unwatch | Kind::Stop if rng.random_range(0..4) == 0 => Target::Shard {
            key: ShardKey {
                entity_type: EntityTypeId(rng.random_range(0..2)),
                shard: ShardId(rng.random_range(0..5)),
            },
            epoch: Epoch(rng.random_range(0..3)),
        },
        Kind::Watch | Kind::Unwatch | Kind::Stop => Target::Actor {
            incarnation: theirs,
            core: CoreId(rng.random_range(0..3)),
            cell: rng.random_range(1..3_u64) << 32 | slot,
        },
        _ => Target::Node,
    };
    let life = match rng.random_range(0..5) {
        0 => Life::new(A, Incarnation(1)),
        1 => Life::new(B, Incarnation(1)),
        _ => own,
    };
    let header = Header {
        address: (kind != Kind::Stop).then(|| Address {
            life,
            core: CoreId(rng.random_range(0..4)),
            table: rng.random_range(0..4) * 20_000,
            // The numbers of others are not known to it.
            place: rng.random_range(1_000_000..1_000_100),
        }),
        reason: (kind == Kind::Terminated).then(|| Reason::Ended(rng.random())),
        ..Header::new(kind, target, sender)
    };
    let length = match kind {
        Kind::Find | Kind::Found => rng.random_range(0..40),
        _ => 0,
    };
    let payload: Vec<u8> = (0..length).map(|_| rng.random_range(0..4)).collect();
    let is_for_shard = matches!(target, Target::Shard { .. });
    let id = rng.random_range(0..20_u64).to_le_bytes();
    let mut writer = FrameWriter::new(FrameLimits::default());
    let id = if is_for_shard { &id[..] } else { &[] };
    writer.write_bytes(&header, id, &payload).unwrap();
    writer.pending().to_vec()
}

/// The same with control planes that find out themselves who has died.
#[test]
fn in_a_cluster_that_governs_itself_a_dead_node_is_heard_of_once() {
    check_cluster_seeds(4, |mut cluster| {
        let log = Log::default();
        let founders = [A, B, C];
        for node in founders {
            let log = log.clone();
            cluster.govern(
                node,
                &founders,
                |it| it,
                move |builder| people_of(builder, node, &log).0,
            );
            cluster.start_process(node);
        }
        let all_up = |cluster: &mut ClusterSimulation| founders.iter().all(|it| cluster.is_up(*it));
        assert!(cluster.run_until_true(ms(30_000), all_up));
        cluster.run_for(ms(2_000));
        let watchers =
            [(A, 1), (C, 2)].map(|(node, id)| (node, person(&mut cluster, node, 0, id, &log)));
        let old = person(&mut cluster, B, 1, 10, &log);
        for (watch, (_, watcher)) in (1..).zip(watchers) {
            watch_ten(&mut cluster, watcher, old, watch);
        }
        cluster.run_for(ms(500));
        assert_eq!(cluster.remote_stats(B).watchers, 2);
        let machine = cluster.seed().is_multiple_of(2);
        cluster.crash(B, machine);
        log.events().push(Event::NodeDied { node: B });
        let heard = |_: &mut ClusterSimulation| ends(&log, 1).len() + ends(&log, 2).len() == 2;
        assert!(cluster.run_until_true(ms(20_000), heard));
        cluster.start_process(B);
        assert!(cluster.run_until_true(ms(30_000), all_up));
        cluster.run_for(ms(2_000));
        watch_ten(&mut cluster, watchers[0].1, old, 3);
        let new = person(&mut cluster, B, 0, 11, &log);
        tell(
            &mut cluster,
            A,
            watchers[0].1,
            Msg::Watch {
                target: new,
                whom: 11,
                watch: 4,
            },
        );
        cluster.run_for(ms(1_000));
        let gone = Some(StopCause::NodeGone);
        assert_eq!(ends(&log, 1), [(1, gone), (3, gone)]);
        assert_eq!(ends(&log, 2), [(2, gone)]);
        cluster.leave(B);
        let left = |_: &mut ClusterSimulation| ends(&log, 1).len() == 3;
        assert!(cluster.run_until_true(ms(30_000), left));
        assert_eq!(ends(&log, 1)[2], (4, gone));
        cluster.run_for(ms(2_000));
        for node in [A, C] {
            let stats = cluster.remote_stats(node);
            assert_eq!((stats.watches, stats.watchers), (0, 0));
        }
        cluster
    });
}

fn watch_ten(
    cluster: &mut ClusterSimulation,
    watcher: ActorRef<Msg>,
    target: ActorRef<Msg>,
    number: u64,
) {
    watch(cluster, watcher, target, 10, number);
}
