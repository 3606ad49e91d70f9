//! Who owns what: shards without an owner, shards that are taken away, and leases.

use crate::remote_kit::*;
use corecast::actor::remote::Lease;
use corecast::sim::{Bounds, check_cluster_seeds};
use corecast::{AskError, EntityTypeId, Mailbox, Rejection, ShardId, ShardKey, Uncertainty};
use std::cell::Cell;
use std::time::Duration;

fn key(shard: u32) -> ShardKey {
    ShardKey {
        entity_type: EntityTypeId(0),
        shard: ShardId(shard),
    }
}

/// Each core holds its own, within its bound; they are sent on in order once there is an owner, here or elsewhere.
#[test]
fn messages_for_a_shard_without_an_owner_wait_and_it_is_wanted() {
    check_cluster_seeds(10, |mut cluster| {
        let handled = Handled::default();
        let bounds = Bounds {
            held_messages: 5,
            ..Bounds::default()
        };
        let [ledgers, _] = [A, B].map(|node| {
            let bounds = bounds.clone();
            start(&mut cluster, node, &handled, |it| {
                it.cores(2).bounds(bounds)
            })
        });
        cluster.publish();
        cluster.run_for(Duration::from_millis(10));
        assert_eq!(cluster.wanted(A), []);
        let (here, there) = (id_in(ledgers, 2), id_in(ledgers, 5));
        let handle = cluster.node(A).handle();
        for number in 0..5 {
            for id in [here, there] {
                handle.tell(ledgers.entity(&id), Entry::Put { sender: 0, number });
            }
        }
        cluster.run_for(Duration::from_millis(10));
        assert!(handled.lock().unwrap().is_empty());
        assert_eq!(cluster.wanted(A), [key(2), key(5)]);
        assert_eq!(cluster.wanted(B), []);
        let full = handle.ask(ledgers.entity(&here), Entry::Sum);
        let full = cluster.run_until(full).unwrap();
        assert_eq!(full, Err(Rejection::Unallocated.into()));
        cluster.assign("ledger", ShardId(2), A);
        cluster.assign("ledger", ShardId(5), B);
        cluster.publish_to(A);
        cluster.run_for(Duration::from_millis(10));
        assert_eq!(cluster.wanted(A), []);
        cluster.publish_to(B);
        assert!(cluster.run_until_idle());
        for id in [here, there] {
            assert_eq!(cluster.ask(A, ledgers.entity_ref(id), Entry::Sum), Ok(5));
        }
        let handled = handled.lock().unwrap();
        for (node, id) in [(A, here), (B, there)] {
            let of_it = handled.iter().filter(|it| it.1 == id);
            let numbers: Vec<u64> = of_it
                .map(|it| {
                    assert_eq!(it.0, node);
                    it.3
                })
                .collect();
            assert_eq!(numbers, [0, 1, 2, 3, 4]);
        }
        drop(handled);
        cluster
    });
}

/// More than the link has room for waits on, in order, and nothing of it is refused.
#[test]
fn what_has_waited_for_an_owner_finds_its_way_through_a_narrow_link() {
    check_cluster_seeds(5, |mut cluster| {
        let handled = Handled::default();
        cluster.set_bounds(corecast::actor::link::LinkBounds {
            buffer_bytes: 4 << 10,
            ..Default::default()
        });
        let [ledgers, _] = [A, B].map(|node| start(&mut cluster, node, &handled, |it| it.cores(1)));
        cluster.publish();
        cluster.run_for(Duration::from_millis(10));
        let ledger = ledgers.entity_ref(id_in(ledgers, 5));
        for number in 0..500 {
            cluster
                .node(A)
                .tell(ledger, Entry::Put { sender: 0, number });
        }
        cluster.run_for(Duration::from_millis(10));
        cluster.assign("ledger", ShardId(5), B);
        cluster.publish();
        cluster.run_for(Duration::from_millis(1));
        // Behind them.
        for number in 500..510 {
            cluster
                .node(A)
                .tell(ledger, Entry::Put { sender: 0, number });
        }
        assert!(cluster.run_until_idle());
        cluster.run_for(Duration::from_secs(1));
        let numbers: Vec<u64> = handled.lock().unwrap().iter().map(|it| it.3).collect();
        assert_eq!(numbers, (0..510).collect::<Vec<u64>>());
        assert_eq!(dead_letters(&mut cluster, A), 0);
        cluster
    });
}

/// Its entities end, what waits for them is refused, and what it has to say is refused by others.
#[test]
fn a_node_that_a_shard_is_taken_from_stops_its_entities_and_is_not_believed() {
    check_cluster_seeds(10, |mut cluster| {
        let handled = Handled::default();
        let ledgers = nodes(&mut cluster, &[A, B, C], &handled);
        let ledger = ledgers[0].entity_ref(id_in(ledgers[0], 1));
        let handle = cluster.node(A).handle();
        let kept = handle.ask(ledger, Entry::Keep);
        cluster.run_for(Duration::from_millis(5));
        // The others know first.
        cluster.take_away("ledger", ShardId(1));
        cluster.assign("ledger", ShardId(1), C);
        cluster.publish_to(A);
        cluster.publish_to(C);
        cluster.run_for(Duration::from_millis(1));
        let at_b = cluster.node(B).handle();
        at_b.tell(ledgers[1].entity_ref(*ledger.id()), Entry::Answer(3));
        let fenced = Uncertainty::Fenced;
        assert_eq!(cluster.run_until(kept).unwrap(), Err(fenced.into()));
        assert_eq!(cluster.ask(A, ledger, Entry::Sum), Ok(0));
        // Something waits there when it hears of it.
        let waiting = at_b.ask(ledgers[1].entity_ref(*ledger.id()), Entry::Keep);
        cluster.run_for(Duration::from_millis(5));
        at_b.tell(ledgers[1].entity_ref(*ledger.id()), Entry::Slow(500));
        let behind = at_b.ask(ledgers[1].entity_ref(*ledger.id()), Entry::Sum);
        cluster.run_for(Duration::from_millis(5));
        cluster.publish_to(B);
        let waiting = cluster.run_until(waiting).unwrap();
        assert!(matches!(waiting, Err(AskError::Unknown(_))), "{waiting:?}");
        let behind = cluster.run_until(behind).unwrap();
        assert_eq!(behind, Err(Rejection::Fenced.into()));
        let at_c = cluster.ask(B, ledgers[1].entity_ref(*ledger.id()), Entry::Sum);
        assert_eq!(at_c, Ok(0));
        cluster
    });
}

/// Without a lease nothing is handled; what has room waits, the rest is refused with the reason.
#[test]
fn entities_wait_for_the_lease_of_their_node() {
    check_cluster_seeds(10, |mut cluster| {
        let handled = Handled::default();
        let of_type =
            |ledgers: corecast::EntityType<Ledger, u64>| ledgers.mailbox(Mailbox::bounded(4));
        let [ledgers, _] =
            [A, B].map(|node| start_type(&mut cluster, node, &handled, |it| it.cores(2), of_type));
        let until = cluster.now() + Duration::from_millis(50);
        cluster.set_lease(B, Lease::Until(until));
        spread(&mut cluster, &[A, B]);
        let ledger = ledgers.entity_ref(id_in(ledgers, 1));
        assert_eq!(cluster.ask(A, ledger, Entry::Sum), Ok(0));
        cluster.node(A).tell(ledger, Entry::Slow(80));
        cluster.run_for(Duration::from_millis(60));
        let handle = cluster.node(A).handle();
        let asks: Vec<_> = (0..6).map(|_| handle.ask(ledger, Entry::Sum)).collect();
        let elsewhere = ledgers.entity_ref(id_in(ledgers, 0));
        cluster.run_for(Duration::from_millis(100));
        // The other node goes on.
        assert_eq!(cluster.ask(A, elsewhere, Entry::Sum), Ok(0));
        let until = cluster.now() + Duration::from_millis(500);
        cluster.set_lease(B, Lease::Until(until));
        let outcomes: Vec<_> = asks
            .into_iter()
            .map(|ask| cluster.run_until(ask).unwrap())
            .collect();
        let refused = Err(Rejection::NoControlQuorum.into());
        assert_eq!(outcomes, [Ok(0), Ok(0), Ok(0), Ok(0), refused, refused]);
        cluster.set_lease(B, Lease::Lapsed);
        cluster.run_for(Duration::from_millis(1));
        let timeout = handle.ask_within(Duration::from_millis(50), ledger, Entry::Sum);
        let timeout = cluster.run_until(timeout).unwrap();
        assert_eq!(timeout, Err(Uncertainty::Timeout.into()));
        cluster
    });
}

/// A handler that is still at it when the lease lapses has its answer thrown away.
#[test]
fn what_a_handler_says_after_the_lease_does_not_leave() {
    let (discarded, answered) = (Cell::new(0), Cell::new(0));
    check_cluster_seeds(20, |mut cluster| {
        let handled = Handled::default();
        let slow = Duration::from_millis(10);
        let ledgers = start(&mut cluster, A, &handled, |it| it.cores(2));
        start(&mut cluster, B, &handled, |it| {
            it.cores(2).message_cost(slow)
        });
        spread(&mut cluster, &[A, B]);
        let until = cluster.now() + Duration::from_millis(10);
        cluster.set_lease(B, Lease::Until(until));
        let ledger = ledgers.entity_ref(id_in(ledgers, 1));
        let outcome = cluster.ask(A, ledger, Entry::Sum);
        let dead = cluster.node(B).stats();
        let dead = dead.cores.iter().flat_map(|core| &core.dead_letters);
        let dead = dead.filter(|it| it.0 == Rejection::NoControlQuorum).count();
        match outcome {
            Ok(0) => answered.set(answered.get() + 1),
            Err(AskError::Unknown(Uncertainty::Timeout)) => {
                assert_eq!(dead, 1);
                discarded.set(discarded.get() + 1);
            }
            other => panic!("{other:?}"),
        }
        cluster
    });
    assert!(
        discarded.get() > 4 && answered.get() > 4,
        "{discarded:?} {answered:?}"
    );
}

#[test]
fn entities_that_are_to_keep_running_do() {
    check_cluster_seeds(5, |mut cluster| {
        let handled = Handled::default();
        let [ledgers, _] = [A, B].map(|node| {
            let keep = |ledgers: corecast::EntityType<Ledger, u64>| ledgers.keep_running();
            start_type(&mut cluster, node, &handled, |it| it.cores(2), keep)
        });
        spread(&mut cluster, &[A, B]);
        cluster.set_lease(B, Lease::Lapsed);
        let ledger = ledgers.entity_ref(id_in(ledgers, 1));
        assert_eq!(cluster.ask(A, ledger, Entry::Sum), Ok(0));
        cluster
    });
}

/// What a handler says that was at it when the lease lapsed leaves the node if all of its types keep running.
#[test]
fn what_entities_say_that_keep_running_leaves_whatever_the_lease() {
    check_cluster_seeds(20, |mut cluster| {
        let handled = Handled::default();
        let slow = Duration::from_millis(10);
        let keep = |ledgers: corecast::EntityType<Ledger, u64>| ledgers.keep_running();
        let ledgers = start_type(&mut cluster, A, &handled, |it| it.cores(2), keep);
        let costs = |it: corecast::sim::SimulationBuilder| it.cores(2).message_cost(slow);
        start_type(&mut cluster, B, &handled, costs, keep);
        spread(&mut cluster, &[A, B]);
        let until = cluster.now() + Duration::from_millis(10);
        cluster.set_lease(B, Lease::Until(until));
        let ledger = ledgers.entity_ref(id_in(ledgers, 1));
        for _ in 0..4 {
            assert_eq!(cluster.ask(A, ledger, Entry::Sum), Ok(0));
        }
        cluster
    });
}
