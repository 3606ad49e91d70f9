//! Asynchronous handlers of entities whose node has no lease: they wait, and end with the shard.

use crate::remote_kit::{A, B, SHARDS};
use corecast::actor::mutant::Mutant;
use corecast::actor::remote::Lease;
use corecast::base::ids::NodeId;
use corecast::sim::{ClusterSimulation, check_cluster_seeds};
use corecast::{
    Actor, AskError, AsyncActor, Awaiting, Context, EntityType, Fault, Next, Region, ReplyTo,
    Scope, ShardId, Uncertainty, WireMessage,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Has a clerk answer after so many milliseconds.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Work(u64, ReplyTo<u64>);

impl WireMessage for Work {
    const NAME: &'static str = "test.Work";
    const VERSION: u16 = 1;
}

/// On which node handlers have gone on after they had waited.
type Done = Arc<Mutex<Vec<NodeId>>>;

struct Clerk(NodeId, Done);

impl AsyncActor for Clerk {
    type Msg = Work;

    async fn receive(&mut self, work: Work, scope: &Scope) -> Result<Next, Fault> {
        let Work(millis, reply_to) = work;
        scope.sleep(ms(millis)).await;
        self.1.lock().unwrap().push(self.0);
        scope.reply(reply_to, millis);
        Ok(Next::Continue)
    }
}

/// Two nodes with clerks, of which the second has a lease for 50 ms.
fn clerks(cluster: &mut ClusterSimulation, mutant: Option<Mutant>) -> (Region<u64, Work>, Done) {
    let done = Done::default();
    let [region, _] = [A, B].map(|node| {
        let done = done.clone();
        cluster.start(node, |builder| {
            let clerk = EntityType::send("clerk", move |_: &u64| {
                Awaiting::new(Clerk(node, done.clone()))
            });
            let mut builder = builder.cores(2);
            if let Some(mutant) = mutant {
                builder = builder.mutant(mutant);
            }
            let region = builder.entities(clerk.num_shards(SHARDS).clustered());
            (builder, region)
        })
    });
    for shard in 0..SHARDS {
        let to = if shard % 2 == 0 { A } else { B };
        cluster.assign("clerk", ShardId(shard), to);
    }
    let until = cluster.now() + ms(50);
    cluster.set_lease(B, Lease::Until(until));
    cluster.publish();
    cluster.run_for(ms(10));
    (region, done)
}

fn on_b(region: Region<u64, Work>) -> u64 {
    (0..)
        .find(|id| region.shard_of(id).shard == ShardId(1))
        .unwrap()
}

#[test]
fn asynchronous_handlers_wait_for_the_lease_however_long_it_takes() {
    check_cluster_seeds(20, |mut cluster| {
        let (region, done) = clerks(&mut cluster, None);
        let clerk = region.entity_ref(on_b(region));
        let handle = cluster.node(A).handle();
        let asked = handle.ask_within(ms(60_000), clerk, |reply_to| Work(80, reply_to));
        // Longer than a handler may take.
        cluster.run_for(ms(25_000));
        assert!(done.lock().unwrap().is_empty());
        let until = cluster.now() + ms(1_000);
        cluster.set_lease(B, Lease::Until(until));
        assert_eq!(cluster.run_until(asked).unwrap(), Ok(80));
        assert_eq!(*done.lock().unwrap(), [B]);
        cluster
    });
}

/// Without a lease for most of the time that a handler has, it has all of it when that is back.
#[test]
fn handlers_have_their_time_when_the_lease_is_back() {
    check_cluster_seeds(20, |mut cluster| {
        let (region, done) = clerks(&mut cluster, None);
        let clerk = region.entity_ref(on_b(region));
        let handle = cluster.node(A).handle();
        let asked = handle.ask_within(ms(60_000), clerk, |reply_to| Work(80, reply_to));
        cluster.run_for(ms(9_950));
        let until = cluster.now() + ms(20_000);
        // Both are due by the time that its core turns again.
        cluster.set_lease(B, Lease::Until(until));
        assert_eq!(cluster.run_until(asked).unwrap(), Ok(80));
        assert_eq!(*done.lock().unwrap(), [B]);
        cluster
    });
}

#[test]
fn handlers_of_a_shard_that_is_another_nodes_by_now_end() {
    check_cluster_seeds(20, |mut cluster| {
        let (region, done) = clerks(&mut cluster, None);
        let clerk = region.entity_ref(on_b(region));
        let handle = cluster.node(A).handle();
        let asked = handle.ask_within(ms(60_000), clerk, |reply_to| Work(80, reply_to));
        cluster.run_for(ms(500));
        cluster.take_away("clerk", ShardId(1));
        cluster.assign("clerk", ShardId(1), A);
        cluster.publish();
        cluster.run_for(ms(10));
        cluster.set_lease(B, Lease::NotNeeded);
        let lost = cluster.run_until(asked).unwrap();
        assert!(matches!(lost, Err(AskError::Unknown(_))), "{lost:?}");
        assert_ne!(lost, Err(Uncertainty::Timeout.into()));
        cluster.run_for(ms(20_000));
        assert!(done.lock().unwrap().is_empty());
        assert_eq!(cluster.ask(A, clerk, |reply_to| Work(1, reply_to)), Ok(1));
        assert_eq!(*done.lock().unwrap(), [A]);
        cluster
    });
}

/// Suspends itself, and ends all the same.
struct Leaver(NodeId, Done);

impl Actor for Leaver {
    type Msg = u64;

    fn receive(&mut self, millis: u64, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let (node, done) = (self.0, self.1.clone());
        let nap = ctx.sleep(ms(millis));
        let work = async move {
            nap.await;
            done.lock().unwrap().push(node);
        };
        ctx.suspend(work, |_, (), _| Ok(Next::Continue));
        Ok(Next::Stop)
    }
}

/// The future of a handler may outlive its entity: but without a lease it waits, and it ends with the shard.
#[test]
fn what_is_left_of_an_entitys_handler_waits_as_well() {
    for is_lost in [false, true] {
        check_cluster_seeds(10, |mut cluster| {
            let done = Done::default();
            let regions = [A, B].map(|node| {
                let done = done.clone();
                cluster.start(node, |mut builder| {
                    let leaver =
                        EntityType::send("leaver", move |_: &u64| Leaver(node, done.clone()));
                    let region = builder.entities(leaver.num_shards(1).clustered());
                    (builder, region)
                })
            });
            cluster.assign("leaver", ShardId(0), B);
            let until = cluster.now() + ms(50);
            cluster.set_lease(B, Lease::Until(until));
            cluster.publish();
            cluster.run_for(ms(10));
            cluster.node(A).tell(regions[0].entity_ref(1), 80);
            cluster.run_for(ms(5_000));
            assert!(done.lock().unwrap().is_empty());
            if is_lost {
                cluster.take_away("leaver", ShardId(0));
                cluster.assign("leaver", ShardId(0), A);
                cluster.publish();
                cluster.run_for(ms(10));
            }
            cluster.set_lease(B, Lease::NotNeeded);
            cluster.run_for(ms(5_000));
            assert_eq!(done.lock().unwrap().is_empty(), is_lost);
            cluster
        });
    }
}

/// The test above would see it.
#[test]
fn handlers_that_go_on_without_a_lease_are_noticed() {
    let mut cluster = ClusterSimulation::new(1);
    let (region, done) = clerks(&mut cluster, Some(Mutant::PollsWithoutLease));
    let clerk = region.entity_ref(on_b(region));
    let handle = cluster.node(A).handle();
    let asked = handle.ask(clerk, |reply_to| Work(80, reply_to));
    cluster.run_for(ms(500));
    assert_eq!(*done.lock().unwrap(), [B]);
    drop(asked);
}
