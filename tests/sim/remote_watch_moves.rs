//! Death watch of entities whose shards move between nodes: a move is no end, whoever watches from wherever, and the end
//! after it is news once.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim remote_watch_moves`.

use crate::remote_watch_kit::{A, B, C, assert_empty};
use corecast::base::ids::{CoreId, NodeId};
use corecast::base::rng::seeded;
use corecast::rand::RngExt;
use corecast::sim::{ClusterSimulation, check_cluster_seeds};
use corecast::{
    Actor, ActorRef, Capture, Context, EntityType, Fault, Next, Region, ReplyTo, ShardId,
    StopCause, WireMessage,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SHARDS: u32 = 4;
const NODES: [NodeId; 3] = [A, B, C];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What guests are told.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum Order {
    Wake,
    End,
    /// On which node are you?
    Where(ReplyTo<u64>),
}

impl WireMessage for Order {
    const NAME: &'static str = "test.Order";
    const VERSION: u16 = 1;
}

/// An entity whose state moves along.
struct Guest(NodeId);

impl Actor for Guest {
    type Msg = Order;

    fn receive(&mut self, order: Order, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match order {
            Order::Wake => {}
            Order::End => return Ok(Next::Stop),
            Order::Where(reply_to) => ctx.reply(reply_to, u64::from(self.0.0)),
        }
        Ok(Next::Continue)
    }
}

impl Capture for Guest {
    type View = ();

    fn capture(&self) {}

    fn restore(&mut self, (): ()) {}
}

/// Who has heard of the end of whom, and why it was.
type Heard = Arc<Mutex<Vec<(u64, u64, Option<StopCause>)>>>;

/// Watches guests, each once.
struct Watcher {
    id: u64,
    guests: Region<u64, Order>,
    heard: Heard,
}

#[derive(Debug)]
enum Watch {
    Begin(u64),
    End(u64, ReplyTo<usize>),
    Gone(u64, Option<StopCause>),
}

impl Actor for Watcher {
    type Msg = Watch;

    fn receive(&mut self, msg: Watch, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Watch::Begin(guest) => {
                let entity = self.guests.entity(&guest);
                ctx.watch_entity(entity, move |cause| Watch::Gone(guest, cause))?;
            }
            Watch::End(guest, reply_to) => {
                let ended = ctx.unwatch_entity(self.guests.entity(&guest));
                ctx.reply(reply_to, ended);
            }
            Watch::Gone(guest, cause) => {
                self.heard.lock().unwrap().push((self.id, guest, cause));
            }
        }
        Ok(Next::Continue)
    }
}

/// Nodes that have guests, and one watcher on each of their cores.
struct Inn {
    regions: BTreeMap<NodeId, Region<u64, Order>>,
    watchers: Vec<(NodeId, ActorRef<Watch>)>,
    heard: Heard,
}

fn open(cluster: &mut ClusterSimulation) -> Inn {
    let regions = NODES.map(|node| {
        let region = cluster.start(node, |builder| {
            let mut builder = builder.cores(2);
            let guests = EntityType::captured("guest", move |_: &u64| Guest(node));
            let region = builder.entities(guests.num_shards(SHARDS).clustered());
            (builder, region)
        });
        (node, region)
    });
    for shard in 0..SHARDS {
        cluster.assign("guest", ShardId(shard), NODES[shard as usize % 3]);
    }
    cluster.publish();
    cluster.run_for(ms(50));
    let (regions, heard) = (BTreeMap::from(regions), Heard::default());
    let mut watchers = Vec::new();
    for node in NODES {
        for core in [0, 1] {
            let (id, guests, heard) = (watchers.len() as u64, regions[&node], heard.clone());
            let watcher = move || Watcher {
                id,
                guests,
                heard: heard.clone(),
            };
            let started = cluster.node(node).handle().spawn_on(CoreId(core), watcher);
            watchers.push((node, cluster.run_until(started).unwrap().unwrap()));
        }
    }
    Inn {
        regions,
        watchers,
        heard,
    }
}

impl Inn {
    /// A guest of that shard.
    fn guest(&self, shard: u32) -> u64 {
        let is_there = |id: &u64| self.regions[&A].shard_of(id).shard == ShardId(shard);
        (0..).find(is_there).unwrap()
    }

    fn tell(&self, cluster: &mut ClusterSimulation, node: NodeId, guest: u64, order: Order) {
        let guest = self.regions[&node].entity_ref(guest);
        cluster.node(node).tell(guest, order);
    }

    /// Everybody watches a guest that has started.
    fn watch(&self, cluster: &mut ClusterSimulation, guest: u64) {
        self.tell(cluster, A, guest, Order::Wake);
        cluster.run_for(ms(50));
        for (node, watcher) in &self.watchers {
            cluster.node(*node).tell(*watcher, Watch::Begin(guest));
        }
        cluster.run_for(ms(50));
    }

    #[track_caller]
    fn move_to(&self, cluster: &mut ClusterSimulation, shard: u32, to: NodeId) {
        cluster.prepare("guest", ShardId(shard), to).unwrap();
        cluster.publish();
        let ended = cluster.run_until_true(ms(20_000), |cluster| cluster.moves().is_empty());
        assert!(ended, "the move of shard {shard} to {to} has no end");
        let guest = self.regions[&A].entity_ref(self.guest(shard));
        let at = cluster.ask(A, guest, Order::Where);
        assert_eq!(at, Ok(u64::from(to.0)));
    }

    /// What each watcher has heard of a guest.
    fn heard_of(&self, guest: u64) -> Vec<(u64, Option<StopCause>)> {
        let heard = self.heard.lock().unwrap();
        let of_it = heard.iter().filter(|(_, of, _)| *of == guest);
        let mut of_it: Vec<_> = of_it.map(|(by, _, cause)| (*by, *cause)).collect();
        of_it.sort_by_key(|(by, _)| *by);
        of_it
    }
}

/// From its own node, from the one to which it moves, and from a third; there and back again.
#[test]
fn whoever_watches_an_entity_that_moves_hears_of_its_end_alone() {
    check_cluster_seeds(15, |mut cluster| {
        let inn = open(&mut cluster);
        cluster.commit_moves(true);
        let guest = inn.guest(0);
        inn.watch(&mut cluster, guest);
        for to in [B, C, A, C] {
            inn.move_to(&mut cluster, 0, to);
            cluster.run_for(ms(2_000));
            assert_eq!(inn.heard_of(guest), [], "on {to}");
        }
        assert_eq!(cluster.remote_stats(C).watchers, 4);
        // Whoever does not watch any more hears nothing, wherever the guest was when they began to.
        for (node, watcher) in [inn.watchers[0], inn.watchers[5]] {
            let end = move |reply_to| Watch::End(guest, reply_to);
            assert_eq!(cluster.ask(node, watcher, end), Ok(1));
        }
        inn.tell(&mut cluster, B, guest, Order::End);
        assert!(cluster.run_until_idle());
        let wanted = Some(StopCause::Wanted);
        let all = [1, 2, 3, 4].map(|watcher| (watcher, wanted));
        assert_eq!(inn.heard_of(guest), all);
        assert_empty(&mut cluster, &NODES);
        cluster
    });
}

/// The owner dies to which the entity has moved: its life has ended, for those as well who had watched it from where it was.
#[test]
fn whoever_watches_an_entity_that_has_moved_hears_of_the_death_of_its_node() {
    check_cluster_seeds(15, |mut cluster| {
        let inn = open(&mut cluster);
        cluster.commit_moves(true);
        let guest = inn.guest(0);
        inn.watch(&mut cluster, guest);
        inn.move_to(&mut cluster, 0, B);
        cluster.run_for(ms(500));
        cluster.kill(B);
        cluster.node_down(B);
        cluster.publish();
        cluster.run_for(ms(500));
        cluster.assign("guest", ShardId(0), C);
        cluster.publish();
        assert!(cluster.run_until_idle());
        let gone = Some(StopCause::NodeGone);
        let heard = inn.heard_of(guest);
        assert_eq!(heard, [0, 1, 4, 5].map(|watcher| (watcher, gone)));
        assert_empty(&mut cluster, &[A, C]);
        cluster
    });
}

/// Moves of all shards, of which some are called off, nodes that hear of them late, and guests that end meanwhile.
#[test]
fn ends_are_heard_of_once_whatever_moves() {
    check_cluster_seeds(30, |mut cluster| {
        let inn = open(&mut cluster);
        let mut rng = seeded(cluster.seed(), 43);
        let guests: Vec<u64> = (0..SHARDS).map(|shard| inn.guest(shard)).collect();
        for guest in &guests {
            inn.watch(&mut cluster, *guest);
        }
        let ends: Vec<u32> = guests.iter().map(|_| rng.random_range(20..100)).collect();
        for step in 0..120 {
            for (guest, end) in guests.iter().zip(&ends) {
                if step == *end {
                    let node = NODES[rng.random_range(0..3)];
                    inn.tell(&mut cluster, node, *guest, Order::End);
                } else if step < *end {
                    assert_eq!(inn.heard_of(*guest), [], "it has not ended yet");
                }
            }
            let shard = ShardId(rng.random_range(0..SHARDS));
            cluster.prepare("guest", shard, NODES[rng.random_range(0..3)]);
            for (_, report) in cluster.ended_moves() {
                let arrived = report.outcome.is_ok() && rng.random_ratio(3, 4);
                cluster.end_move(report.shard, report.prepared, arrived);
            }
            for node in NODES {
                if rng.random_bool(0.5) {
                    cluster.publish_to(node);
                }
            }
            cluster.run_for(ms(rng.random_range(0..20)));
        }
        for _ in 0..3 {
            for (_, report) in cluster.ended_moves() {
                cluster.end_move(report.shard, report.prepared, report.outcome.is_ok());
            }
            cluster.publish();
            cluster.run_for(ms(2_000));
        }
        assert!(cluster.run_until_idle());
        for guest in &guests {
            let heard = inn.heard_of(*guest);
            let by: Vec<u64> = heard.iter().map(|(by, _)| *by).collect();
            assert_eq!(by, [0, 1, 2, 3, 4, 5], "{guest}: {heard:?}");
            let is_known =
                |cause: &Option<StopCause>| matches!(cause, None | Some(StopCause::Wanted));
            assert!(heard.iter().all(|(_, cause)| is_known(cause)), "{heard:?}");
        }
        assert_empty(&mut cluster, &NODES);
        cluster
    });
}
