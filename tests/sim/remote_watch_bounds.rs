//! Watches between nodes where there is no room, or where somebody lies: what was watched is heard of all the same, and
//! nothing stays behind.

use crate::remote_watch_kit::*;
use corecast::actor::link::LinkBounds;
use corecast::base::ids::{CoreId, Incarnation, NodeId};
use corecast::sim::{Bounds, ClusterSimulation, check_cluster_seeds};
use corecast::wire::address::{Address, Life, Sender, Target};
use corecast::wire::header::Header;
use corecast::wire::kind::{Kind, Reason};
use corecast::wire::limits::FrameLimits;
use corecast::wire::writer::FrameWriter;
use corecast::{
    Actor, ActorRef, Context, EntityType, Fault, LookupError, Next, Region, Rejection, ShardId,
    StopCause,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn watch(
    cluster: &mut ClusterSimulation,
    at: NodeId,
    watcher: ActorRef<Msg>,
    (whom, target): (u64, ActorRef<Msg>),
    watch: u64,
) {
    let msg = Msg::Watch {
        target,
        whom,
        watch,
    };
    tell(cluster, at, watcher, msg);
}

/// How often somebody has heard of an end.
fn ends(log: &Log, watcher: u64) -> usize {
    let log = log.events();
    log.iter()
        .filter(|event| matches!(event, Event::Gone { by, .. } if *by == watcher))
        .count()
}

fn life(node: NodeId) -> Life {
    Life::new(node, Incarnation(1))
}

/// Has a core of a node take a frame of another one.
fn lie(
    cluster: &mut ClusterSimulation,
    to: NodeId,
    from: NodeId,
    kind: Kind,
    target: Target,
    address: Address,
) {
    let sender = Sender {
        life: life(from),
        core: CoreId(0),
        stream: 0,
    };
    let header = Header {
        address: Some(address),
        reason: (kind == Kind::Terminated).then_some(Reason::Ended(0)),
        ..Header::new(kind, target, sender)
    };
    let mut writer = FrameWriter::new(FrameLimits::default());
    writer.write_bytes(&header, &[], &[]).unwrap();
    let bytes = writer.pending().to_vec();
    cluster.receive(to, CoreId(0), &bytes);
    assert!(cluster.run_until_idle());
}

fn place(node: NodeId, core: u16, place: u64) -> Address {
    Address {
        life: life(node),
        core: CoreId(core),
        table: 0,
        place,
    }
}

/// A member names somebody else when it ends a watch. The number says which one it was.
#[test]
fn a_watch_that_is_ended_under_another_name_leaves_nothing_behind() {
    check_cluster_seeds(3, |mut cluster| {
        let log = Log::default();
        people(&mut cluster, &[A, B, C], &log);
        let target = person(&mut cluster, A, 0, 1, &log);
        let cell = |slot: u64, generation: u64| Target::Actor {
            incarnation: Incarnation(1),
            core: CoreId(0),
            cell: generation << 32 | slot,
        };
        let mut kept = 0;
        for slot in 0..5 {
            for number in 0..20 {
                let address = place(C, 1, 1_000_000 + 100 * slot + number);
                lie(&mut cluster, A, C, Kind::Watch, cell(slot, 1), address);
                kept += cluster.remote_stats(A).watchers;
                lie(&mut cluster, A, C, Kind::Unwatch, cell(77, 1), address);
                assert_eq!(cluster.remote_stats(A).watchers, 0);
            }
        }
        assert!(kept >= 20, "{kept}");
        cluster.run_for(ms(100));
        let before = cluster.remote_stats(A).frames_out;
        tell(&mut cluster, A, target, Msg::End);
        cluster.run_for(ms(100));
        assert_eq!(cluster.remote_stats(A).frames_out, before);
        cluster
    });
}

/// A member says of actors of others that they have ended, and of watches that it was never asked for that it did not take
/// them.
#[test]
fn a_member_ends_no_watches_but_those_of_its_own_actors() {
    check_cluster_seeds(5, |mut cluster| {
        let log = Log::default();
        people(&mut cluster, &[A, B, C], &log);
        let watcher = person(&mut cluster, A, 0, 1, &log);
        let here = person(&mut cluster, A, 1, 2, &log);
        let beside = person(&mut cluster, A, 0, 3, &log);
        let there = person(&mut cluster, B, 1, 4, &log);
        for (id, target) in [(2, here), (3, beside), (4, there)] {
            watch(&mut cluster, A, watcher, (id, target), id);
        }
        assert!(cluster.run_until_idle());
        for number in 0..6 {
            for kind in [Kind::Terminated, Kind::Rewatch] {
                lie(&mut cluster, A, C, kind, Target::Node, place(A, 0, number));
            }
        }
        cluster.run_for(ms(10_000));
        assert_eq!(ends(&log, 1), 0);
        tell(&mut cluster, A, here, Msg::End);
        tell(&mut cluster, A, beside, Msg::End);
        tell(&mut cluster, B, there, Msg::End);
        cluster.run_for(ms(200));
        assert_eq!(ends(&log, 1), 3);
        assert_eq!(judge(&log).without_cause, 0);
        assert_empty(&mut cluster, &[A, B, C]);
        cluster
    });
}

/// Nobody looks up something for somebody else.
#[test]
fn an_answer_to_a_lookup_goes_to_whoever_asks() {
    check_cluster_seeds(2, |mut cluster| {
        let log = Log::default();
        people(&mut cluster, &[A, B, C], &log);
        let before = cluster.remote_stats(A).senseless;
        lie(&mut cluster, A, C, Kind::Find, Target::Node, place(B, 0, 1));
        assert_eq!(cluster.remote_stats(A).senseless, before + 1);
        assert_eq!(cluster.remote_stats(B).senseless, 0);
        cluster
    });
}

/// Who has as many watches as it takes is asked again whether it has them, and says no more than that.
#[test]
fn a_watch_that_is_known_is_taken_again_where_there_is_no_room_for_more() {
    check_cluster_seeds(5, |mut cluster| {
        let log = Log::default();
        let bounds = Bounds {
            watches: 2,
            ..Bounds::default()
        };
        for node in [A, B] {
            let bounds = bounds.clone();
            start_with(&mut cluster, node, &log, move |it| {
                it.cores(1).bounds(bounds)
            });
        }
        cluster.publish();
        cluster.run_for(ms(50));
        let watcher = person(&mut cluster, A, 0, 1, &log);
        let targets = [10, 11].map(|id| (id, person(&mut cluster, B, 0, id, &log)));
        for target in targets {
            watch(&mut cluster, A, watcher, target, target.0);
        }
        cluster.run_for(ms(50));
        // Something that B had said may have been lost.
        let all = Address {
            table: 1,
            ..place(B, 0, 0)
        };
        lie(&mut cluster, A, B, Kind::Rewatch, Target::Node, all);
        cluster.run_for(ms(100));
        let before = cluster.remote_stats(B).frames_out;
        cluster.run_for(ms(2_000));
        assert_eq!(cluster.remote_stats(B).frames_out, before);
        assert_eq!(cluster.remote_stats(B).watchers, 2);
        for (_, target) in targets {
            tell(&mut cluster, B, target, Msg::End);
        }
        cluster.run_for(ms(100));
        assert_eq!(ends(&log, 1), 2);
        assert_empty(&mut cluster, &[A, B]);
        cluster
    });
}

/// Watches and their ends come to one core and are for another, with which there is hardly any room.
#[test]
fn where_cores_have_no_room_for_each_other_the_books_are_right_all_the_same() {
    let refused = std::cell::Cell::new(0);
    check_cluster_seeds(15, |mut cluster| {
        let log = Log::default();
        let bounds = Bounds {
            outbox_messages: 2,
            batch_messages: 1,
            lane_batches: 2,
            ..Bounds::default()
        };
        let regions = [
            start(&mut cluster, A, &log),
            start_with(&mut cluster, B, &log, |it| {
                it.cores(2).bounds(bounds).message_cost(ms(1))
            }),
        ];
        cluster.publish();
        own(&mut cluster, &[(0, B), (1, B), (2, B), (3, B)]);
        let hubs = [0, 1].map(|core| {
            let id = 900 + u64::from(core);
            (id, person(&mut cluster, B, core, id, &log))
        });
        let in_shard = |shard| {
            let mut ids = 10_000..;
            ids.find(|id| regions[0].shard_of(id).shard == ShardId(shard))
        };
        let entities = [0, 1, 2, 3].map(|shard| in_shard(shard).unwrap());
        let watchers: Vec<(u64, ActorRef<Msg>)> = (1..40)
            .map(|id| (id, person(&mut cluster, A, (id % 2) as u16, id, &log)))
            .collect();
        for (id, watcher) in &watchers {
            for hub in hubs {
                watch(&mut cluster, A, *watcher, hub, 1_000 * id + hub.0);
            }
            for (number, entity) in entities.into_iter().enumerate() {
                let watch = 1_000 * id + 100 + number as u64;
                tell(&mut cluster, A, *watcher, Msg::Wake { entity });
                tell(
                    &mut cluster,
                    A,
                    *watcher,
                    Msg::WatchEntity { entity, watch },
                );
            }
        }
        cluster.run_for(ms(30_000));
        let many = cluster.remote_stats(B).watchers;
        assert!(many > 100, "{many}");
        // All but one of them end at once, each behind what it has to say.
        for (_, watcher) in &watchers[1..] {
            for entity in entities {
                tell(&mut cluster, A, *watcher, Msg::Wake { entity });
            }
            tell(&mut cluster, A, *watcher, Msg::End);
        }
        cluster.run_for(ms(60_000));
        let left = cluster.remote_stats(A).watches;
        assert_eq!(left, 6);
        assert_eq!(cluster.remote_stats(B).watchers, left);
        refused.set(refused.get() + cluster.remote_stats(B).refused);
        for (_, hub) in hubs {
            tell(&mut cluster, B, hub, Msg::End);
        }
        cluster.run_for(ms(10_000));
        tell(&mut cluster, A, watchers[0].1, Msg::End);
        cluster.run_for(ms(10_000));
        // Of entities the judge knows nothing; of the hubs the one that is left has heard, once each.
        for (hub, _) in hubs {
            let log = log.events();
            let heard = log.iter().filter(
                |event| matches!(event, Event::Gone { by: 1, watch, .. } if *watch == 1_000 + hub),
            );
            assert_eq!(heard.count(), 1);
        }
        assert_empty(&mut cluster, &[A, B]);
        cluster
    });
    assert!(refused.get() > 0);
}

/// A watch waits where its shard has yet to come, and there is no room for its end. All that its core has announced is wanted
/// anew, and what waits is not: it would be for ever.
#[test]
fn a_watch_that_waits_does_not_outlive_its_end() {
    // So that in one of them there is room for hardly anything at last.
    for held_bytes in (0..12).map(|step| (4 << 10) + 8 * step) {
        check_cluster_seeds(1, |mut cluster| {
            let log = Log::default();
            let entities = start(&mut cluster, A, &log);
            cluster.set_bounds(LinkBounds {
                held_bytes,
                ..LinkBounds::default()
            });
            start(&mut cluster, B, &log);
            cluster.publish();
            cluster.run_for(ms(50));
            cluster.assign(ENTITIES, ShardId(0), B);
            cluster.publish_to(A);
            cluster.run_for(ms(50));
            let entity = (1_000..).find(|id| entities.shard_of(id).shard == ShardId(0));
            let entity = entity.unwrap();
            for (core, watch) in [(0, 1), (1, 2)] {
                let watcher = person(&mut cluster, A, core, watch, &log);
                tell(&mut cluster, A, watcher, Msg::Wake { entity });
                tell(&mut cluster, A, watcher, Msg::WatchEntity { entity, watch });
                cluster.run_for(ms(5));
                for _ in 0..100 {
                    tell(&mut cluster, A, watcher, Msg::Wake { entity });
                }
                cluster.run_for(ms(50));
                tell(&mut cluster, A, watcher, Msg::End);
            }
            cluster.run_for(ms(50));
            assert!(cluster.remote_stats(B).refused > 0, "it is full");
            assert_eq!(cluster.remote_stats(A).watches, 0);
            cluster.publish_to(B);
            cluster.run_for(ms(1_000));
            assert_empty(&mut cluster, &[A, B]);
            cluster
        });
    }
}

/// Whoever was not told of the cluster yet does not know who has the path.
#[test]
fn a_node_that_is_no_member_finds_nobody_and_says_so() {
    check_cluster_seeds(2, |mut cluster| {
        let log = Log::default();
        start(&mut cluster, A, &log);
        let find = |cluster: &mut ClusterSimulation| {
            let found = cluster.node(A).handle().lookup_anywhere::<Msg>("somebody");
            cluster.run_until(found).unwrap()
        };
        assert_eq!(find(&mut cluster), Err(LookupError::NotAMember(A)));
        cluster.publish();
        cluster.run_for(ms(10));
        assert_eq!(find(&mut cluster), Ok(None));
        cluster
    });
}

/// What came of the watches of fans.
type Said = Arc<Mutex<Vec<Result<Option<StopCause>, Rejection>>>>;

/// Watches an entity of a name, and notes what comes of it.
struct Fan {
    stars: Region<String, u64>,
    name: String,
    said: Said,
}

impl Actor for Fan {
    type Msg = Option<Option<StopCause>>;

    fn receive(&mut self, msg: Self::Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            None => {
                let star = self.stars.entity(self.name.as_str());
                if let Err(why) = ctx.watch_entity(star, Some) {
                    self.said.lock().unwrap().push(Err(why));
                }
            }
            Some(cause) => self.said.lock().unwrap().push(Ok(cause)),
        }
        Ok(Next::Continue)
    }
}

struct Star;

impl Actor for Star {
    type Msg = u64;

    fn receive(&mut self, _: u64, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        Ok(Next::Continue)
    }
}

/// No frame has room for it, now or later.
#[test]
fn an_entity_whose_id_is_too_long_to_travel_is_not_watched_on_another_node() {
    check_cluster_seeds(3, |mut cluster| {
        let stars = [A, B].map(|node| {
            cluster.start(node, |mut builder| {
                let stars = EntityType::ephemeral("star", |_: &String| Star).num_shards(1);
                let stars = builder.entities(stars.clustered());
                (builder.cores(1), stars)
            })
        });
        cluster.publish();
        cluster.run_for(ms(50));
        let said: Arc<Mutex<Vec<_>>> = Arc::default();
        let fan = |cluster: &mut ClusterSimulation, length: usize| {
            let (said, stars) = (said.clone(), stars[0]);
            let made = cluster.node(A).handle().spawn_on(CoreId(0), move || Fan {
                stars,
                name: "x".repeat(length),
                said: said.clone(),
            });
            let fan = cluster.run_until(made).unwrap().unwrap();
            cluster.node(A).tell(fan, None);
            cluster.run_for(ms(100));
        };
        // While nobody owns it the watch waits, and then there is nobody whom it could reach.
        fan(&mut cluster, 100_000);
        assert_eq!(*said.lock().unwrap(), []);
        cluster.assign("star", ShardId(0), B);
        cluster.publish();
        cluster.run_for(ms(500));
        assert_eq!(*said.lock().unwrap(), [Ok(None)]);
        for length in [1_024, 1_025, 70_000] {
            fan(&mut cluster, length);
        }
        let too_large = Err(Rejection::TooLarge);
        assert_eq!(said.lock().unwrap()[1..], [Ok(None), too_large, too_large]);
        let before = cluster.remote_stats(A).frames_out;
        cluster.run_for(ms(2_000));
        assert_eq!(cluster.remote_stats(A).frames_out, before);
        assert_empty(&mut cluster, &[A, B]);
        cluster
    });
}
