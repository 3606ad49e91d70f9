//! Bytes that no honest peer would send: the node goes on.

use crate::remote_kit::*;
use corecast::base::ids::CoreId;
use corecast::rand::RngExt;
use corecast::sim::{ClusterSimulation, check_cluster_seeds};
use corecast::wire::frame::FrameRef;
use corecast::wire::header::Header;
use corecast::wire::kind::{Kind, Plane};
use corecast::wire::limits::FrameLimits;
use corecast::wire::writer::FrameWriter;
use corecast::{Rejection, ReplyTo};
use std::time::Duration;

/// The frames that two nodes have sent to each other, of all kinds that they send.
fn overheard(cluster: &mut ClusterSimulation) -> Vec<Vec<u8>> {
    let handled = Handled::default();
    let ledgers = nodes(cluster, &[A, B], &handled);
    cluster.overhear();
    let ledger = ledgers[0].entity_ref(id_in(ledgers[0], 1));
    let _ = cluster.ask(A, ledger, Entry::Sum);
    let _ = cluster.ask(A, ledger, Entry::Drop);
    cluster.node(A).tell(ledger, Entry::Bulk(vec![3; 300]));
    let sent = cluster.node(A).handle().send(ledger, Entry::Answer(1));
    let _ = cluster.run_until(sent);
    let there = id_in(ledgers[0], 0);
    let make = move |reply_to: ReplyTo<u64>| Entry::PassOn(there, reply_to);
    let _ = cluster.ask(A, ledger, make);
    cluster.run_until_idle();
    let mut frames = Vec::new();
    for bytes in cluster.take_overheard() {
        let mut rest = &bytes[..];
        while let Some(length) = rest.get(4..8) {
            let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
            let (frame, behind) = rest.split_at(length);
            let kind = Kind::from_code(frame[9]).unwrap();
            // What connections say of themselves has tests of its own.
            if !matches!(kind, Kind::Credit | Kind::Ping | Kind::Pong | Kind::Bye) {
                frames.push(frame.to_vec());
            }
            rest = behind;
        }
    }
    frames
}

/// A frame with another header or payload, sound as such.
fn reframed(frame: &[u8], change: impl FnOnce(&mut Header, &mut Vec<u8>, &mut Vec<u8>)) -> Vec<u8> {
    let mut aligned = rkyv::util::AlignedVec::<16>::new();
    aligned.extend_from_slice(frame);
    let Ok(frame) = FrameRef::parse(&aligned, Plane::Data, 1 << 24) else {
        return frame.to_vec();
    };
    let (mut header, mut id) = (*frame.header(), frame.entity_id().to_vec());
    let mut payload = frame.payload().bytes().to_vec();
    change(&mut header, &mut id, &mut payload);
    let mut writer = FrameWriter::new(FrameLimits::default());
    let _ = writer.write_bytes(&header, &id, &payload);
    writer.pending().to_vec()
}

/// Frames with bytes changed at random, some of them with the checksum set right again, and garbage.
#[test]
fn mutated_frames_leave_the_node_running() {
    check_cluster_seeds(10, |mut cluster| {
        let frames = overheard(&mut cluster);
        assert!(frames.len() >= 8, "{}", frames.len());
        let mut rng = corecast::base::rng::seeded(cluster.seed(), 6);
        for _ in 0..300 {
            let mut frame = frames[rng.random_range(0..frames.len())].clone();
            let bytes = match rng.random_range(0..4) {
                0 => {
                    for _ in 0..rng.random_range(1..4) {
                        let at = rng.random_range(0..frame.len());
                        frame[at] = rng.random();
                    }
                    frame
                }
                1 => {
                    // As a peer would that can compute checksums.
                    for _ in 0..rng.random_range(1..6) {
                        let at = rng.random_range(4..frame.len());
                        frame[at] = rng.random();
                    }
                    let sum = crc32(&frame[4..]).to_le_bytes();
                    frame[..4].copy_from_slice(&sum);
                    frame
                }
                2 => reframed(&frame, |header, id, payload| match rng.random_range(0..5) {
                    0 => payload.iter_mut().for_each(|byte| *byte = rng.random()),
                    1 => id.push(rng.random()),
                    2 => header.tag.fingerprint ^= 1,
                    3 => {
                        if let Some(address) = &mut header.address {
                            address.place = rng.random();
                            address.table = rng.random();
                            address.core = CoreId(rng.random());
                        }
                    }
                    _ => {
                        if let Some(address) = &mut header.address {
                            address.life.node.0 = rng.random_range(1..5);
                        }
                    }
                }),
                _ => (0..rng.random_range(1..300))
                    .map(|_| rng.random())
                    .collect(),
            };
            let node = [A, B][rng.random_range(0..2)];
            cluster.receive(node, CoreId(rng.random_range(0..2)), &bytes);
            if rng.random_ratio(1, 10) {
                cluster.run_for(Duration::from_micros(300));
            }
        }
        cluster.run_for(Duration::from_secs(10));
        assert!(cluster.run_until_idle());
        assert!(cluster.remote_stats(A).senseless + cluster.remote_stats(B).senseless > 10);
        assert_still_serves(&mut cluster);
        cluster
    });
}

/// Both nodes handle what comes.
fn assert_still_serves(cluster: &mut ClusterSimulation) {
    let handled = Handled::default();
    let ledgers = start(cluster, C, &handled, |builder| builder.cores(2));
    cluster.publish();
    cluster.run_for(Duration::from_millis(5));
    for shard in 0..2 {
        let ledger = ledgers.entity_ref(id_in(ledgers, shard));
        assert!(cluster.ask(C, ledger, Entry::Sum).is_ok());
    }
}

/// Each is refused with its reason, counted, and the connection goes on.
#[test]
fn frames_that_make_no_sense_are_refused_one_by_one() {
    check_cluster_seeds(3, |mut cluster| {
        let frames = overheard(&mut cluster);
        let kind_of = |frame: &[u8]| Kind::from_code(frame[9]);
        let find = |kind| frames.iter().find(|it| kind_of(it) == Some(kind)).unwrap();
        let (ask, tell, reply) = (find(Kind::Ask), find(Kind::Tell), find(Kind::Reply));
        let failure = find(Kind::Failure);
        type Change = fn(&mut Header, &mut Vec<u8>, &mut Vec<u8>);
        let unknown_type: Change = |header, _, _| in_shard(header, 9, 1);
        let no_shard: Change = |header, _, _| in_shard(header, 0, 99);
        let other_shard: Change = |header, _, _| in_shard(header, 0, 3);
        let short_id: Change = |_, id, _| _ = id.pop();
        let other_message: Change = |header, _, _| header.tag.version += 1;
        let garbage: Change = |_, _, payload| payload.fill(0xff);
        let nobody: Change = |header, _, _| {
            if let Some(address) = &mut header.address {
                address.life.incarnation.0 = 77;
            }
        };
        let no_core: Change = |header, _, _| {
            if let Some(address) = &mut header.address {
                address.core = CoreId(99);
            }
        };
        let before = cluster.remote_stats(B);
        let requests = [
            unknown_type,
            no_shard,
            other_shard,
            short_id,
            other_message,
            garbage,
        ];
        let bytes: Vec<u8> = requests
            .iter()
            .flat_map(|change| [reframed(ask, change), reframed(tell, change)])
            .flatten()
            .chain(tell.iter().copied())
            .collect();
        cluster.receive(B, CoreId(0), &bytes);
        assert!(cluster.run_until_idle());
        let after = cluster.remote_stats(B);
        assert_eq!(after.senseless - before.senseless, 12);
        assert_eq!(after.frames_in - before.frames_in, 13);
        // The asks were refused, which whoever asked was told.
        assert_eq!(after.frames_out - before.frames_out, 6);
        let stats = cluster.node(B).stats();
        let unreadable = stats.cores.iter().flat_map(|core| &core.dead_letters);
        let unreadable: u64 = unreadable
            .filter(|(why, _)| *why == Rejection::Unreadable)
            .map(|(_, count)| count)
            .sum();
        assert_eq!(unreadable, 12);
        let before = cluster.remote_stats(A);
        let bytes: Vec<u8> = [reply, failure]
            .iter()
            .flat_map(|frame| [reframed(frame, nobody), reframed(frame, no_core)])
            .flatten()
            .collect();
        cluster.receive(A, CoreId(0), &bytes);
        assert!(cluster.run_until_idle());
        let after = cluster.remote_stats(A);
        assert_eq!(after.senseless - before.senseless, 4);
        cluster
    });
}

fn in_shard(header: &mut Header, of_type: u16, shard: u32) {
    if let corecast::wire::address::Target::Shard { key, .. } = &mut header.target {
        key.entity_type.0 = of_type;
        key.shard.0 = shard;
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
        }
    }
    !sum
}
