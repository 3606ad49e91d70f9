//! What waits at a node for a shard, or lives in one there, when its owner changes: nothing of it is lost, and nothing lives on.

use crate::remote_kit::*;
use corecast::actor::link::LinkBounds;
use corecast::base::ids::{CoreId, Epoch};
use corecast::rand::RngExt;
use corecast::sim::check_cluster_seeds;
use corecast::wire::address::Target;
use corecast::wire::frame::FrameRef;
use corecast::wire::kind::{Kind, Plane};
use corecast::wire::limits::FrameLimits;
use corecast::wire::writer::FrameWriter;
use corecast::{Rejection, ShardId};
use std::time::Duration;

fn put(number: u64) -> Entry {
    Entry::Put { sender: 0, number }
}

/// The first frame in these bytes, as of somebody who knows of another epoch.
fn of_epoch(epoch: u64, bytes: &[u8]) -> Vec<u8> {
    let length = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
    let mut aligned = rkyv::util::AlignedVec::<16>::new();
    aligned.extend_from_slice(&bytes[..length]);
    let frame = FrameRef::parse(&aligned, Plane::Data, 1 << 24).unwrap();
    assert_eq!(frame.kind(), Kind::Tell);
    let mut header = *frame.header();
    if let Target::Shard { epoch: of, .. } = &mut header.target {
        *of = Epoch(epoch);
    }
    let mut writer = FrameWriter::new(FrameLimits::default());
    let payload = frame.payload();
    writer
        .write_bytes(&header, frame.entity_id(), payload.bytes())
        .unwrap();
    writer.pending().to_vec()
}

/// Another node has run its entities meanwhile, whatever this one has heard of that.
#[test]
fn a_shard_that_comes_back_in_a_later_epoch_begins_anew() {
    check_cluster_seeds(10, |mut cluster| {
        let handled = Handled::default();
        let ledgers = nodes(&mut cluster, &[A, B], &handled);
        let ledger = ledgers[0].entity_ref(id_in(ledgers[0], 1));
        cluster.node(A).tell(ledger, put(0));
        assert!(cluster.run_until_idle());
        assert_eq!(cluster.ask(A, ledger, Entry::Sum), Ok(1));
        cluster.assign("ledger", ShardId(1), A);
        cluster.assign("ledger", ShardId(1), B);
        cluster.publish();
        cluster.run_for(Duration::from_millis(5));
        assert_eq!(cluster.ask(A, ledger, Entry::Sum), Ok(0));
        cluster
    });
}

/// A frame that waits for its sender's knowledge, and messages that wait for room in a link, wait for the same shard.
#[test]
fn a_frame_that_goes_on_waiting_is_not_lost() {
    check_cluster_seeds(10, |mut cluster| {
        let handled = Handled::default();
        cluster.set_bounds(LinkBounds {
            buffer_bytes: 4 << 10,
            ..Default::default()
        });
        let [ledgers, _] = [A, B].map(|node| start(&mut cluster, node, &handled, |it| it.cores(1)));
        cluster.publish();
        cluster.assign("ledger", ShardId(5), B);
        cluster.publish();
        cluster.run_for(Duration::from_millis(5));
        let ledger = ledgers.entity_ref(id_in(ledgers, 5));
        cluster.overhear();
        cluster.node(A).tell(ledger, put(0));
        assert!(cluster.run_until_idle());
        let frame = of_epoch(9, &cluster.take_overheard().concat());
        cluster.take_away("ledger", ShardId(5));
        cluster.publish();
        cluster.run_for(Duration::from_millis(5));
        cluster.receive(A, CoreId(0), &frame);
        cluster.run_for(Duration::from_millis(5));
        for number in 1..500 {
            cluster.node(A).tell(ledger, put(number));
        }
        cluster.run_for(Duration::from_millis(5));
        cluster.assign("ledger", ShardId(5), B);
        cluster.publish();
        cluster.run_for(Duration::from_secs(20));
        let numbers: Vec<u64> = handled.lock().unwrap().iter().map(|it| it.3).collect();
        assert_eq!(numbers, (0..500).collect::<Vec<u64>>());
        assert_eq!(dead(&mut cluster, A, Rejection::Misrouted), 1);
        cluster
    });
}

/// It waits until the link is empty, and what was sent after it waits behind it.
#[test]
fn a_large_message_that_has_waited_for_an_owner_is_not_refused() {
    check_cluster_seeds(10, |mut cluster| {
        let handled = Handled::default();
        cluster.set_bounds(LinkBounds {
            buffer_bytes: 4 << 10,
            ..Default::default()
        });
        let [ledgers, _] = [A, B].map(|node| start(&mut cluster, node, &handled, |it| it.cores(1)));
        cluster.publish();
        cluster.run_for(Duration::from_millis(10));
        let ledger = ledgers.entity_ref(id_in(ledgers, 5));
        let handle = cluster.node(A).handle();
        let mut sums = Vec::new();
        for number in 0..20 {
            handle.tell(ledger, put(number));
            handle.tell(ledger, Entry::Bulk(vec![7; 10_000]));
            let sent = handle.send(ledger, Entry::Bulk(vec![7; 9_000]));
            sums.push((number + 1, sent, handle.ask(ledger, Entry::Sum)));
        }
        cluster.run_for(Duration::from_millis(10));
        cluster.assign("ledger", ShardId(5), B);
        cluster.publish();
        assert!(cluster.run_until_idle());
        cluster.run_for(Duration::from_secs(1));
        for (count, sent, sum) in sums {
            assert_eq!(cluster.run_until(sent).unwrap(), Ok(()));
            assert_eq!(cluster.run_until(sum).unwrap(), Ok(count * 19_001));
        }
        assert_eq!(dead_letters(&mut cluster, A), 0);
        cluster
    });
}

/// What of it is under way between two cores ends as well, and is not there when the shard comes back.
#[test]
fn a_shard_that_is_taken_away_while_it_moves_between_cores_ends() {
    check_cluster_seeds(40, |mut cluster| {
        let handled = Handled::default();
        let ledgers = nodes(&mut cluster, &[A, B], &handled);
        let key = ledgers[1].shard_of(&id_in(ledgers[1], 1));
        let ids: Vec<u64> = (0..)
            .filter(|id| ledgers[1].shard_of(id).shard == ShardId(1))
            .take(1_200)
            .collect();
        let handle = cluster.node(B).handle();
        for id in &ids {
            handle.tell(ledgers[1].entity_ref(*id), put(0));
        }
        assert!(cluster.run_until_idle());
        let from = cluster.node(B).owner_of(key).unwrap();
        let moved = cluster.node(B).start_move(key, CoreId(1 - from.0));
        let mut rng = corecast::base::rng::seeded(cluster.seed(), 8);
        cluster.run_for(Duration::from_nanos(rng.random_range(0..200_000)));
        let asks: Vec<_> = ids[..100]
            .iter()
            .map(|id| handle.ask(ledgers[1].entity_ref(*id), Entry::Sum))
            .collect();
        cluster.run_for(Duration::from_nanos(rng.random_range(0..100_000)));
        cluster.take_away("ledger", ShardId(1));
        cluster.publish_to(B);
        let _ = cluster.run_until(moved);
        cluster.run_for(Duration::from_millis(50));
        assert_eq!(active(&mut cluster, B), 0);
        cluster.assign("ledger", ShardId(1), B);
        cluster.publish();
        for id in [ids[0], ids[1_100]] {
            assert_eq!(cluster.ask(B, ledgers[1].entity_ref(id), Entry::Sum), Ok(0));
        }
        for ask in asks {
            let outcome = cluster.run_until(ask).unwrap();
            let of_either = [Ok(1), Ok(0), Err(Rejection::Fenced.into())];
            assert!(of_either.contains(&outcome), "{outcome:?}");
        }
        cluster
    });
}

/// What comes from other nodes has a turn's time as everything has, or a core would look neither at its lease nor at anybody
/// else for as long as messages come.
#[test]
fn messages_of_other_nodes_take_no_more_than_a_turn() {
    check_cluster_seeds(5, |mut cluster| {
        let handled = Handled::default();
        let ledgers = start(&mut cluster, A, &handled, |it| it.cores(1));
        let cost = Duration::from_millis(1);
        start(&mut cluster, B, &handled, |it| {
            it.cores(1).message_cost(cost)
        });
        spread(&mut cluster, &[A, B]);
        // An entity that has something to do gets more only when it has had its turn.
        let ids = (0..).filter(|id| ledgers.shard_of(id).shard.0 % 2 == 1);
        for id in ids.take(3_000) {
            cluster.node(A).tell(ledgers.entity_ref(id), put(0));
        }
        assert!(cluster.run_until_idle());
        let stats = cluster.node(B).stats();
        assert!(stats.cores[0].remote.unwrap().read_in_place > 500);
        let longest = stats.cores[0].turns.longest;
        assert!(longest < 60 * cost, "{longest:?}");
        assert_eq!(handled.lock().unwrap().len(), 3_000);
        cluster
    });
}
