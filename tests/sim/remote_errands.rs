//! Messages that turn out to be unreadable, addresses that are passed on and get nowhere, and what entities say at their end.

use crate::remote_kit::{A, B, active, dead};
use corecast::actor::remote::Lease;
use corecast::base::ids::{CoreId, Epoch, NodeId};
use corecast::sim::{Bounds, ClusterSimulation, SimulationBuilder, check_cluster_seeds};
use corecast::{
    Actor, ActorRef, AskError, Context, EntityType, EntityTypeId, Fault, Next, Pending, Region,
    Rejection, ReplyTo, ShardId, ShardKey, Uncertainty, WireMessage,
};
use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What errands are about, which may turn out to be no good when it is read.
#[derive(Debug, rkyv::Archive, rkyv::Serialize)]
struct Fruit(u32);

const SOUR: u32 = 1;
const ROTTEN: u32 = 2;

#[derive(Debug, thiserror::Error)]
#[error("it is sour")]
struct Sour;

impl<D: rkyv::rancor::Fallible<Error: rkyv::rancor::Source> + ?Sized> rkyv::Deserialize<Fruit, D>
    for ArchivedFruit
{
    fn deserialize(&self, _: &mut D) -> Result<Fruit, D::Error> {
        match self.0.to_native() {
            SOUR => Err(rkyv::rancor::Source::new(Sour)),
            ROTTEN => panic!("as it was told"),
            other => Ok(Fruit(other)),
        }
    }
}

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum Errand {
    Take(ReplyTo<u64>, Fruit),
    /// The errand boy goes to another with it.
    Pass(u64, ReplyTo<u64>, Fruit),
    Keep(ReplyTo<u64>),
    Drop(ReplyTo<u64>),
    /// The errand boy sends another to bed when it ends.
    Bequeath(u64),
    /// The errand boy brings this one something.
    Bring(ActorRef<Parcel>, Fruit),
    Nap,
}

/// What actors of other nodes are brought.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Parcel(Fruit);

impl WireMessage for Parcel {
    const NAME: &'static str = "test.Parcel";
    const VERSION: u16 = 1;
}

impl WireMessage for Errand {
    const NAME: &'static str = "test.Errand";
    const VERSION: u16 = 1;
}

#[derive(Default)]
struct Boy {
    others: Arc<Mutex<Option<Region<u64, Errand>>>>,
    /// How often it has begun to handle an errand where it lay.
    begun: Arc<Mutex<u64>>,
    kept: Vec<ReplyTo<u64>>,
    heir: Option<u64>,
    ended: Arc<Mutex<Vec<Option<Epoch>>>>,
}

impl Actor for Boy {
    type Msg = Errand;

    fn receive(&mut self, errand: Errand, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match errand {
            Errand::Take(reply_to, fruit) => ctx.reply(reply_to, fruit.0.into()),
            Errand::Pass(to, reply_to, fruit) => {
                let others = self.others.lock().unwrap().unwrap();
                ctx.tell(
                    others.entity(&to),
                    Errand::Take(reply_to, Fruit(fruit.0 / 10)),
                );
            }
            Errand::Keep(reply_to) => self.kept.push(reply_to),
            Errand::Drop(reply_to) => drop(reply_to),
            Errand::Bequeath(to) => self.heir = Some(to),
            Errand::Bring(to, fruit) => ctx.tell(to, Parcel(Fruit(fruit.0 / 10))),
            Errand::Nap => {
                let nap = ctx.sleep(Duration::from_millis(200));
                ctx.suspend(nap, |_, (), _| Ok(Next::Continue));
            }
        }
        Ok(Next::Continue)
    }

    fn receive_archived(
        &mut self,
        errand: &ArchivedErrand,
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        *self.begun.lock().unwrap() += 1;
        match ctx.read::<Errand>(errand) {
            Ok(errand) => self.receive(errand, ctx),
            Err(_) => Ok(Next::Continue),
        }
    }

    fn post_stop(&mut self, ctx: &mut Context<'_, Self>) {
        self.ended.lock().unwrap().push(ctx.epoch());
        if let Some(heir) = self.heir {
            let others = self.others.lock().unwrap().unwrap();
            ctx.tell(others.entity(&heir), Errand::Nap);
        }
    }
}

/// What the boys of a node have to tell.
struct Boys {
    boys: Region<u64, Errand>,
    begun: Arc<Mutex<u64>>,
    ended: Arc<Mutex<Vec<Option<Epoch>>>>,
}

fn boys(
    cluster: &mut ClusterSimulation,
    node: NodeId,
    with: impl FnOnce(SimulationBuilder) -> SimulationBuilder,
    of_type: impl FnOnce(EntityType<Boy, u64>) -> EntityType<Boy, u64>,
) -> Boys {
    cluster.start(node, |builder| {
        let others: Arc<Mutex<Option<Region<u64, Errand>>>> = Arc::default();
        let (begun, ended): (Arc<Mutex<u64>>, Arc<Mutex<Vec<_>>>) = Default::default();
        let boy = {
            let (others, begun, ended) = (others.clone(), begun.clone(), ended.clone());
            EntityType::ephemeral("boy", move |_: &u64| Boy {
                others: others.clone(),
                begun: begun.clone(),
                ended: ended.clone(),
                kept: Vec::new(),
                heir: None,
            })
        };
        let mut builder = with(builder);
        let boys = builder.entities(of_type(boy.num_shards(2).clustered()));
        *others.lock().unwrap() = Some(boys);
        (builder, Boys { boys, begun, ended })
    })
}

/// Shard 0 is the first node's, shard 1 the second's.
fn share(cluster: &mut ClusterSimulation) {
    cluster.assign("boy", ShardId(0), A);
    cluster.assign("boy", ShardId(1), B);
    cluster.publish();
    cluster.run_for(Duration::from_millis(5));
}

fn boy_in(boys: &Boys, shard: u32) -> u64 {
    (0..)
        .find(|id| boys.boys.shard_of(id).shard == ShardId(shard))
        .unwrap()
}

/// An ask of this node whose address somebody has been given by a handler, and the address.
fn address(cluster: &mut ClusterSimulation) -> (ReplyTo<u64>, Pending<Result<u64, AskError>>) {
    let probe = cluster.node(A).probe::<ReplyTo<u64>>();
    let ask = cluster.node(A).handle().ask(probe.address(), |to| to);
    let address = probe.expect(cluster.node(A), |_| true);
    (address, ask)
}

/// A handler has seen it, so nobody may say that none has.
#[test]
fn an_ask_that_was_passed_on_in_a_message_that_cannot_be_read_is_not_rejected() {
    check_cluster_seeds(20, |mut cluster| {
        let [here, _] = [A, B].map(|node| boys(&mut cluster, node, |it| it.cores(1), |it| it));
        share(&mut cluster);
        let (at_a, at_b) = (boy_in(&here, 0), boy_in(&here, 1));
        for fruit in [10 * SOUR, 10 * ROTTEN] {
            // Passed on by the one that was asked, to one of another node.
            let make = move |to: ReplyTo<u64>| Errand::Pass(at_b, to, Fruit(fruit));
            let outcome = cluster.ask(A, here.boys.entity_ref(at_a), make);
            assert!(matches!(outcome, Err(AskError::Unknown(_))), "{outcome:?}");
        }
        cluster
    });
}

/// The message did not get whole to it, but it has begun to act.
#[test]
fn an_ask_whose_handler_could_not_read_it_is_not_rejected() {
    let (begun, waited) = (Cell::new(0), Cell::new(0));
    check_cluster_seeds(20, |mut cluster| {
        let [here, there] = [A, B].map(|node| boys(&mut cluster, node, |it| it.cores(1), |it| it));
        share(&mut cluster);
        let at_b = boy_in(&here, 1);
        let make = |to: ReplyTo<u64>| Errand::Take(to, Fruit(SOUR));
        let outcome = cluster.ask(A, here.boys.entity_ref(at_b), make);
        if *there.begun.lock().unwrap() > 0 {
            begun.set(begun.get() + 1);
            assert!(matches!(outcome, Err(AskError::Unknown(_))), "{outcome:?}");
        } else {
            waited.set(waited.get() + 1);
            assert_eq!(outcome, Err(Rejection::Unreadable.into()));
        }
        cluster
    });
    assert!(begun.get() > 0 && waited.get() > 0);
}

/// Reading it ends there, and has nothing to do with what is dropped later.
#[test]
fn a_message_whose_reading_panics_leaves_nothing_behind() {
    let begun = Cell::new(0);
    check_cluster_seeds(20, |mut cluster| {
        let [here, there] = [A, B].map(|node| boys(&mut cluster, node, |it| it.cores(1), |it| it));
        share(&mut cluster);
        let boy = here.boys.entity_ref(boy_in(&here, 1));
        let make = |to: ReplyTo<u64>| Errand::Take(to, Fruit(ROTTEN));
        assert!(cluster.ask(A, boy, make).is_err());
        begun.set(begun.get() + *there.begun.lock().unwrap());
        let dropped = Uncertainty::DroppedUnanswered;
        let outcome = cluster.ask(A, boy, Errand::Drop);
        assert_eq!(outcome, Err(dropped.into()));
        cluster
    });
    assert!(begun.get() > 0);
}

#[test]
fn a_message_to_an_actor_whose_reading_panics_is_a_dead_letter() {
    check_cluster_seeds(5, |mut cluster| {
        let [here, _] = [A, B].map(|node| boys(&mut cluster, node, |it| it.cores(1), |it| it));
        share(&mut cluster);
        let boy = here.boys.entity_ref(boy_in(&here, 1));
        let probe = cluster.node(A).probe::<Parcel>();
        for fruit in [50, 10 * ROTTEN, 10 * SOUR, 60] {
            cluster
                .node(A)
                .tell(boy, Errand::Bring(probe.address(), Fruit(fruit)));
        }
        assert!(cluster.run_until_idle());
        let brought: Vec<u32> = probe.received().iter().map(|it| it.0.0).collect();
        assert_eq!(brought, [5, 6]);
        assert_eq!(dead(&mut cluster, A, Rejection::Unreadable), 2);
        assert_eq!(cluster.remote_stats(A).refused, 2);
        cluster
    });
}

/// What they still say to others of their shard goes to its owner, and starts none of them here.
#[test]
fn the_last_words_of_entities_whose_shard_is_taken_away_reach_its_owner() {
    check_cluster_seeds(10, |mut cluster| {
        let [here, _] = [A, B].map(|node| boys(&mut cluster, node, |it| it.cores(2), |it| it));
        share(&mut cluster);
        let ids = (0..).filter(|id| here.boys.shard_of(id).shard == ShardId(1));
        let ids: Vec<u64> = ids.take(3).collect();
        for id in &ids {
            let boy = here.boys.entity_ref(*id);
            cluster.node(A).tell(boy, Errand::Bequeath(ids[1]));
        }
        assert!(cluster.run_until_idle());
        cluster.take_away("boy", ShardId(1));
        cluster.assign("boy", ShardId(1), A);
        cluster.publish();
        assert!(cluster.run_until_idle());
        assert_eq!(active(&mut cluster, B), 0);
        assert_eq!(active(&mut cluster, A), 1);
        cluster
    });
}

/// Whoever waits for what was passed on in it hears at once that nobody has it any more.
#[test]
fn what_is_passed_on_in_an_awaited_send_that_is_refused_ends() {
    check_cluster_seeds(5, |mut cluster| {
        let bounds = Bounds {
            held_messages: 1,
            ..Bounds::default()
        };
        let bounded = |it: SimulationBuilder| it.cores(1).bounds(bounds.clone());
        let [here, _] = [A, B].map(|node| boys(&mut cluster, node, bounded, |it| it));
        cluster.publish();
        cluster.run_for(Duration::from_millis(5));
        // The other does not know that it is its own.
        cluster.assign("boy", ShardId(1), B);
        cluster.publish_to(A);
        cluster.run_for(Duration::from_millis(5));
        let boy = here.boys.entity_ref(boy_in(&here, 1));
        cluster.node(A).tell(boy, Errand::Nap);
        cluster.run_for(Duration::from_millis(5));
        let (passed_on, ask) = address(&mut cluster);
        let sent = cluster.node(A).handle().send(boy, Errand::Keep(passed_on));
        let refused = cluster.run_until(sent).unwrap();
        assert_eq!(refused, Err(Rejection::Unallocated.into()));
        let dropped = Uncertainty::DroppedUnanswered;
        assert_eq!(cluster.run_until(ask).unwrap(), Err(dropped.into()));
        cluster
    });
}

/// The message in which it was passed on is taken back: nobody has it any more.
#[test]
fn what_is_passed_on_when_the_lease_lapses_ends() {
    let discarded = Cell::new(0);
    check_cluster_seeds(20, |mut cluster| {
        let slow = Duration::from_millis(10);
        let here = boys(&mut cluster, A, |it| it.cores(1), |it| it);
        boys(
            &mut cluster,
            B,
            |it| it.cores(1).message_cost(slow),
            |it| it,
        );
        share(&mut cluster);
        let until = cluster.now() + Duration::from_millis(10);
        cluster.set_lease(B, Lease::Until(until));
        let (at_a, at_b) = (boy_in(&here, 0), boy_in(&here, 1));
        let make = move |to: ReplyTo<u64>| Errand::Pass(at_a, to, Fruit(70));
        let outcome = cluster.ask(A, here.boys.entity_ref(at_b), make);
        if dead(&mut cluster, B, Rejection::NoControlQuorum) > 0 {
            discarded.set(discarded.get() + 1);
            let dropped = Uncertainty::DroppedUnanswered;
            assert_eq!(outcome, Err(dropped.into()));
            assert_eq!(cluster.remote_stats(B).remote_asks, 0);
        }
        cluster
    });
    assert!(discarded.get() > 2, "{discarded:?}");
}

/// Its hook would act for a node that may own nothing any more.
#[test]
fn an_idle_entity_does_not_end_while_its_node_has_no_lease() {
    check_cluster_seeds(10, |mut cluster| {
        let idle = Duration::from_millis(100);
        let with = |it: EntityType<Boy, u64>| it.passivate_after(idle).max_active_per_core(1);
        let here = boys(&mut cluster, A, |it| it.cores(1), with);
        cluster.assign("boy", ShardId(0), A);
        cluster.assign("boy", ShardId(1), A);
        cluster.publish();
        cluster.run_for(Duration::from_millis(5));
        let boy = here.boys.entity_ref(boy_in(&here, 0));
        let make = |to: ReplyTo<u64>| Errand::Take(to, Fruit(5));
        assert_eq!(cluster.ask(A, boy, make), Ok(5));
        cluster.set_lease(A, Lease::Lapsed);
        cluster.run_for(Duration::from_millis(1));
        // One more than there may be.
        let waits = cluster
            .node(A)
            .handle()
            .ask(here.boys.entity_ref(boy_in(&here, 1)), make);
        cluster.run_for(Duration::from_secs(1));
        assert_eq!(*here.ended.lock().unwrap(), []);
        let until = cluster.now() + Duration::from_secs(60);
        cluster.set_lease(A, Lease::Until(until));
        assert_eq!(cluster.run_until(waits).unwrap(), Ok(5));
        cluster.run_for(Duration::from_secs(1));
        assert_eq!(here.ended.lock().unwrap().len(), 2);
        cluster
    });
}

/// What it still writes elsewhere must be refused there, and not be taken for the next owner's.
#[test]
fn an_entity_that_ends_with_its_shard_knows_its_own_epoch() {
    check_cluster_seeds(10, |mut cluster| {
        let [here, there] = [A, B].map(|node| boys(&mut cluster, node, |it| it.cores(2), |it| it));
        share(&mut cluster);
        let boy = here.boys.entity_ref(boy_in(&here, 1));
        let make = |to: ReplyTo<u64>| Errand::Take(to, Fruit(5));
        assert_eq!(cluster.ask(A, boy, make), Ok(5));
        cluster.take_away("boy", ShardId(1));
        cluster.assign("boy", ShardId(1), A);
        cluster.publish();
        assert!(cluster.run_until_idle());
        assert_eq!(*there.ended.lock().unwrap(), [Some(Epoch(1))]);
        // And one that comes to run anew there.
        cluster.take_away("boy", ShardId(1));
        cluster.assign("boy", ShardId(1), B);
        cluster.publish();
        cluster.run_for(Duration::from_millis(5));
        assert_eq!(cluster.ask(A, boy, make), Ok(5));
        let key = ShardKey {
            entity_type: EntityTypeId(0),
            shard: ShardId(1),
        };
        let from = cluster.node(B).owner_of(key).unwrap();
        let moved = cluster.node(B).start_move(key, CoreId(1 - from.0));
        assert_eq!(cluster.run_until(moved).unwrap(), Ok(()));
        assert_eq!(cluster.ask(A, boy, make), Ok(5));
        cluster.take_away("boy", ShardId(1));
        cluster.publish();
        assert!(cluster.run_until_idle());
        let ended = there.ended.lock().unwrap();
        assert_eq!(ended[1..], [Some(Epoch(3)), Some(Epoch(3))]);
        drop(ended);
        cluster
    });
}
