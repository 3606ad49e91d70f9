//! Logs on a disk that tears, fails and decays.

use super::disk_model::{LOG, Node, Opening, State, later, small};
use crate::base::rng::seeded;
use crate::log::{
    FileName, Identity, Index, Log, LogError, LogId, LogSettings, LogStore, OpenError, Position,
    Recovery, Refused, StoreErrorKind,
};
use rand::RngExt;
use std::time::Duration;

/// As `small`, with room for more segments.
fn roomy() -> LogSettings {
    LogSettings {
        max_segments: 16,
        ..small()
    }
}

/// A log with `batches` batches of one entry each, all durable.
fn filled(node: &mut Node, batches: u32, bytes: usize) -> (Log, State) {
    let (mut log, _) = node.open().unwrap();
    for number in 0..batches {
        log.append(1, &vec![number as u8; bytes]).unwrap();
        node.settle(&mut log).unwrap();
    }
    node.crash();
    node.open().unwrap()
}

/// The offsets of the batches are known: the opening one at 4,096, then a block for each entry, then another opening one.
#[test]
fn damage_before_the_end_is_named_and_a_torn_end_is_cut() {
    for seed in 0..400 {
        let mut node = Node::new(seed, small());
        let (_, whole) = filled(&mut node, 10, 1_500);
        node.crash();
        let mut rng = seeded(seed, 3);
        // Header 40, record header 24, payload 1500: the rest of the block is padding.
        let batch = rng.random_range(0..11);
        let within = rng.random_range(0..40 + 24 + 1_500);
        let offset = 4_096 * (1 + batch) + within;
        let segment = FileName::Segment(1);
        assert!(node.disk.damage(segment, offset));
        let outcome = node.open();
        match outcome {
            Err(OpenError::Damaged { place, later }) => {
                assert_eq!(place.file, segment);
                let start = 4_096 * (1 + batch);
                let record = start + 40;
                assert_eq!(
                    place.offset,
                    if within < 40 { start } else { record },
                    "{within}"
                );
                // The first batch opens the log, and holds no entry.
                assert_eq!(place.index, Index(batch.max(1)));
                assert_eq!(later.file, segment);
                assert!(later.offset > place.offset);
            }
            // The opening batch has but a checkpoint: behind it there is nothing to damage.
            Ok((_, state)) => {
                assert!(batch == 0 && within >= 40 + 24 + 8, "{batch} {within}");
                assert_eq!(state, whole);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn damage_to_an_older_segment_is_named() {
    let mut node = Node::new(5, roomy());
    let (log, _) = filled(&mut node, 60, 9_000);
    assert!(log.segments() > 4);
    node.crash();
    node.disk.damage(FileName::Segment(2), 30_000);
    let error = node.open().unwrap_err();
    let OpenError::Damaged { place, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(place.file, FileName::Segment(2));
    let text = error.to_string();
    for part in ["segment-00000000000000000002.log", "entry", "backup"] {
        assert!(text.contains(part), "{text}");
    }
}

/// Whatever the crash left of a batch: two recoveries in a row find the same, and the first changes nothing that counts.
#[test]
fn recovering_twice_finds_the_same() {
    let mut torn = 0;
    for seed in 0..300 {
        let mut node = Node::new(seed, small());
        let (mut log, _) = filled(&mut node, 3, 100);
        for number in 0..6 {
            log.append(2, &vec![number; 2_500]).unwrap();
        }
        let (ticket, operation) = log.next_operation().unwrap();
        node.store.submit(node.now, ticket, operation);
        node.crash();
        let mut states = Vec::new();
        for _ in 0..3 {
            let Opening::Done(opened, state) = node.open_for(u64::MAX).unwrap() else {
                panic!("cut off");
            };
            torn += u64::from(opened.torn.is_some());
            states.push(state);
            node.crash();
        }
        assert!(
            states.iter().all(|state| *state == states[0]),
            "seed {seed}"
        );
    }
    assert!(torn > 30, "only {torn} were torn");
}

#[test]
fn a_failed_write_is_final() {
    let mut node = Node::new(1, small());
    let (mut log, before) = filled(&mut node, 3, 100);
    node.settle(&mut log).unwrap();
    node.disk.fail_nth_write(1);
    log.append(1, b"lost").unwrap();
    let durable = log.durable();
    let error = node.settle(&mut log).unwrap_err();
    assert!(
        matches!(&error, LogError::Store(error) if error.doing.contains("write")),
        "{error}"
    );
    assert!(error.to_string().contains("stopped"), "{error}");
    assert_eq!(log.failed(), Some(&error));
    assert_eq!(log.append(1, b"more"), Err(Refused::Failed(error.clone())));
    assert_eq!(
        log.truncate(log.next()),
        Err(Refused::Failed(error.clone()))
    );
    assert_eq!(log.set_state(0, b"more"), Err(Refused::Failed(error)));
    assert!(log.next_operation().is_none() && log.is_idle());
    assert_eq!(log.durable(), durable);
    node.crash();
    let (_, after) = node.open().unwrap();
    assert!(after.next >= before.next && after.next <= before.next + 1);
}

#[test]
fn a_full_disk_is_said_to_be_full() {
    let mut node = Node::new(1, small());
    node.disk.capacity(300 << 10);
    let (mut log, _) = node.open().unwrap();
    let error = loop {
        log.append(1, &[7; 9_000]).unwrap();
        if let Err(error) = node.settle(&mut log) {
            break error;
        }
    };
    assert!(
        matches!(&error, LogError::Store(error) if error.kind == StoreErrorKind::NoSpace),
        "{error}"
    );
}

#[test]
fn what_cannot_be_read_is_named() {
    let mut node = Node::new(1, small());
    filled(&mut node, 10, 1_500);
    node.crash();
    node.disk.make_unreadable(FileName::Segment(1), 9_000);
    let error = node.open().unwrap_err();
    assert!(matches!(&error, OpenError::Store(_)), "{error}");
    assert!(error.to_string().contains("sector 17"), "{error}");
}

#[test]
fn bounds_refuse_and_room_comes_back() {
    let mut node = Node::new(1, small());
    let (mut log, _) = node.open().unwrap();
    assert_eq!(
        log.append(1, &[0; (16 << 10) + 1]),
        Err(Refused::TooLong {
            bytes: (16 << 10) + 1,
            limit: 16 << 10
        })
    );
    assert!(matches!(
        log.set_state(0, &[0; 4_097]),
        Err(Refused::TooLong { limit: 4_096, .. })
    ));
    assert_eq!(log.set_state(8, b""), Err(Refused::NoSuchSlot { slot: 8 }));
    assert_eq!(log.snapshot_part(b""), Err(Refused::NoSnapshot));
    assert_eq!(
        log.truncate(Index(2)),
        Err(Refused::OutOfRange {
            index: Index(2),
            first: Index(1),
            next: Index(1)
        })
    );
    // Not yet durable.
    let full = loop {
        if let Err(refused) = log.append(1, &[0; 1_000]) {
            break refused;
        }
        assert!(log.unsynced_bytes() <= 96 << 10);
    };
    assert!(
        matches!(full, Refused::Full { limit: 98_304, .. }),
        "{full}"
    );
    node.settle(&mut log).unwrap();
    assert_eq!(log.unsynced_bytes(), 0);
    // Segments.
    let many = loop {
        if let Err(refused) = log.append(1, &[0; 1_000]) {
            if let Refused::Full { .. } = refused {
                node.settle(&mut log).unwrap();
                continue;
            }
            break refused;
        }
    };
    assert_eq!(many, Refused::TooManySegments { limit: 4 });
    log.drop_before(log.next()).unwrap();
    log.append(1, &[0; 1_000]).unwrap_err();
    node.settle(&mut log).unwrap();
    assert!(log.segments() <= 2, "{}", log.segments());
    log.append(1, &[0; 1_000]).unwrap();
    // One is kept for later, the others are gone.
    let spares = node
        .disk
        .files()
        .iter()
        .filter(|file| matches!(file.name, FileName::Spare(_)))
        .count();
    assert_eq!(spares, 1);
}

/// Even into a segment that something else has begun no entry goes beyond the bound: the room is there to empty the log.
#[test]
fn entries_leave_the_room_that_is_not_theirs() {
    let mut node = Node::new(1, small());
    let (mut log, _) = node.open().unwrap();
    while log.append(1, &[0; 1_000]).is_ok() {
        node.settle(&mut log).unwrap();
    }
    let full = Err(Refused::TooManySegments { limit: 4 });
    let segments = log.segments();
    while log.segments() == segments {
        log.set_state(0, &[0; 4_096]).unwrap();
        node.settle(&mut log).unwrap();
    }
    assert_eq!(log.append(1, b"small"), full);
    log.drop_before(log.next()).unwrap();
    node.settle(&mut log).unwrap();
    log.append(1, b"small").unwrap();
}

#[test]
fn a_snapshot_may_be_larger_than_segments_and_stays() {
    let mut node = Node::new(1, small());
    let (mut log, _) = node.open().unwrap();
    let mut content = Vec::new();
    log.begin_snapshot(Index(9)).unwrap();
    for number in 0..40 {
        let part = [number; 10_000];
        content.extend_from_slice(&part);
        log.snapshot_part(&part).unwrap();
        node.settle(&mut log).unwrap();
    }
    log.finish_snapshot().unwrap();
    log.drop_before(Index(10)).unwrap();
    // One that is not finished takes nothing from the one that is.
    log.begin_snapshot(Index(12)).unwrap();
    log.snapshot_part(b"half").unwrap();
    node.settle(&mut log).unwrap();
    node.crash();
    let (mut log, state) = node.open().unwrap();
    assert_eq!(state.snapshot, Some((9, content.into())));
    assert_eq!((state.first, state.next), (10, 10));
    assert_eq!(log.snapshot_part(b"rest"), Err(Refused::NoSnapshot));
    // The next one sets its segments free.
    log.begin_snapshot(Index(12)).unwrap();
    log.finish_snapshot().unwrap();
    node.settle(&mut log).unwrap();
    assert!(log.segments() <= 2, "{}", log.segments());
}

#[test]
fn files_that_do_not_belong_together_are_told_apart() {
    let fresh = || {
        let mut node = Node::new(9, roomy());
        filled(&mut node, 60, 9_000);
        node.crash();
        node
    };
    let segment = FileName::Segment;
    type Spoil = fn(&mut Node);
    type Judge = fn(&OpenError) -> bool;
    let cases: [(Spoil, Judge); 8] = [
        (
            |node| assert!(node.disk.remove(FileName::Segment(3))),
            |error| {
                matches!(
                    error,
                    OpenError::MissingSegment {
                        missing: FileName::Segment(3),
                        later: FileName::Segment(4)
                    }
                )
            },
        ),
        (
            |node| assert!(node.disk.remove(FileName::Segment(1))),
            |error| {
                matches!(
                    error,
                    OpenError::MissingEntries {
                        from: Index(1),
                        oldest: FileName::Segment(2),
                        ..
                    }
                )
            },
        ),
        (
            |node| assert!(node.disk.copy(FileName::Segment(2), FileName::Segment(3))),
            |error| {
                matches!(
                    error,
                    OpenError::Duplicate {
                        file: FileName::Segment(3),
                        really: FileName::Segment(2)
                    }
                )
            },
        ),
        (
            |node| {
                node.disk.copy(FileName::Segment(2), FileName::Segment(3));
                node.disk.remove(FileName::Segment(2));
            },
            |error| {
                matches!(
                    error,
                    OpenError::Misnamed {
                        file: FileName::Segment(3),
                        really: FileName::Segment(2)
                    }
                )
            },
        ),
        (
            |node| assert!(node.disk.resize(FileName::Segment(2), 40_000)),
            |error| {
                matches!(
                    error,
                    OpenError::WrongSize {
                        is: 40_000,
                        must: 131_072,
                        ..
                    }
                )
            },
        ),
        (
            |node| assert!(node.disk.resize(FileName::Segment(2), 10)),
            |error| matches!(error, OpenError::DamagedHeader { .. }),
        ),
        (
            |node| assert!(node.disk.damage(FileName::Segment(2), 20)),
            |error| {
                matches!(
                    error,
                    OpenError::DamagedHeader {
                        file: FileName::Segment(2)
                    }
                )
            },
        ),
        (
            |node| {
                let mut header = node.disk.read(FileName::Segment(2)).unwrap();
                header.truncate(64);
                header[12] = 99;
                let checksum = crc32fast::hash(&header[12..]);
                header[8..12].copy_from_slice(&checksum.to_le_bytes());
                assert!(node.disk.overwrite(FileName::Segment(2), 0, &header));
            },
            |error| matches!(error, OpenError::FutureVersion { version: 99, .. }),
        ),
    ];
    for (number, (spoil, judge)) in cases.into_iter().enumerate() {
        let mut node = fresh();
        assert!(node.disk.read(segment(5)).is_some());
        spoil(&mut node);
        let error = node.open().unwrap_err();
        assert!(judge(&error), "case {number}: {error:?}");
        assert_eq!(node.open().unwrap_err(), error, "nothing has changed");
    }
}

#[test]
fn another_log_is_refused_and_any_log_is_taken_if_asked_for() {
    let mut node = Node::new(9, small());
    filled(&mut node, 3, 100);
    node.crash();
    for (identity, fits) in [
        (Identity::Exactly(LogId(1)), false),
        (Identity::OrNew(LogId(1)), true),
        (Identity::Exactly(LOG), true),
    ] {
        let mut recovery = Recovery::new(small(), identity).unwrap();
        let outcome = loop {
            while let Ok(Some(_)) = recovery.next_recovered() {}
            if let Some(opened) = recovery.take_opened() {
                break Ok(opened.log.id());
            }
            while let Some((ticket, operation)) = recovery.next_operation() {
                node.store.submit(node.now, ticket, operation);
            }
            node.now = later(node.now);
            let answers: Vec<_> = std::iter::from_fn(|| node.store.poll(node.now)).collect();
            let failed = answers
                .into_iter()
                .find_map(|(ticket, result)| recovery.completed(ticket, result).err());
            if let Some(error) = failed {
                break Err(error);
            }
        };
        match outcome {
            Ok(id) => assert!(fits && id == LOG),
            Err(error) => assert!(
                !fits && matches!(error, OpenError::OtherLog { found: LOG, .. }),
                "{error}"
            ),
        }
        node.crash();
    }
}

#[test]
fn the_size_of_segments_may_be_changed() {
    let mut node = Node::new(4, small());
    let (mut log, before) = filled(&mut node, 20, 9_000);
    node.settle(&mut log).unwrap();
    node.crash();
    for segment_bytes in [256 << 10, 128 << 10, 512 << 10] {
        node.settings = LogSettings {
            segment_bytes,
            ..small()
        };
        let (mut log, state) = node.open().unwrap();
        assert!(state.next >= before.next);
        log.drop_before(log.next()).unwrap();
        for _ in 0..40 {
            log.append(1, &[3; 9_000]).unwrap();
            node.settle(&mut log).unwrap();
            log.drop_before(log.next()).unwrap();
        }
        node.settle(&mut log).unwrap();
        let sizes: Vec<u64> = node.disk.files().iter().map(|file| file.bytes).collect();
        assert!(
            sizes.iter().all(|bytes| *bytes == u64::from(segment_bytes)),
            "{sizes:?}"
        );
        node.crash();
    }
}

#[test]
fn a_driver_that_answers_what_was_not_asked_is_found_out() {
    let mut node = Node::new(4, small());
    let (mut log, _) = node.open().unwrap();
    let error = log
        .completed(crate::log::Ticket(999), Ok(crate::log::Outcome::Done))
        .unwrap_err();
    assert_eq!(error, LogError::WrongAnswer(crate::log::Ticket(999)));
    assert!(log.append(1, b"").is_err());
}

/// What is given up is decided by what is durable, not by what has been appended. Making the next segment goes before
/// giving one up, and would hide a log that is too hasty: so it is tried from each place in a segment.
#[test]
fn no_segment_is_given_up_before_what_allows_it_is_durable() {
    type LetGo = fn(&mut Log) -> Position;
    let by_mark: LetGo = |log| log.drop_before(log.next()).unwrap();
    let by_snapshot: LetGo = |log| {
        log.begin_snapshot(log.next()).unwrap();
        log.finish_snapshot().unwrap()
    };
    // Entries hold the segments, or a snapshot does when they are gone.
    for (let_go, before) in [(by_mark, by_snapshot), (by_snapshot, by_mark)] {
        for batches in 40..52 {
            let mut node = Node::new(6, roomy());
            let (mut log, _) = node.open().unwrap();
            by_snapshot(&mut log);
            for number in 0..batches {
                log.append(1, &[number; 9_000]).unwrap();
                node.settle(&mut log).unwrap();
            }
            before(&mut log);
            node.settle(&mut log).unwrap();
            let segments = log.segments();
            log.append(1, b"under way while they are let go").unwrap();
            node.submit(&mut log);
            let allowed = let_go(&mut log);
            loop {
                node.submit(&mut log);
                assert!(
                    node.giving_up.is_none() || log.durable() >= allowed,
                    "after {batches} batches"
                );
                if !node.step(&mut log).unwrap() {
                    break;
                }
            }
            assert!(log.segments() < segments, "after {batches} batches");
        }
    }
}

/// The mark is durable; the segment in which the log goes on is not yet, and without it there is nothing to go on from.
#[test]
fn no_segment_is_given_up_before_the_next_is_in_use() {
    const SECOND: Duration = Duration::from_secs(1);
    let mut node = Node::new(6, small());
    let (mut log, _) = node.open().unwrap();
    for _ in 0..9 {
        log.append(1, &[7; 9_000]).unwrap();
        node.settle(&mut log).unwrap();
    }
    let mark = log.drop_before(log.next()).unwrap();
    node.submit(&mut log);
    let next = log.append(1, &[7; 16_000]).unwrap();
    while log.durable() < mark {
        node.step(&mut log).unwrap();
    }
    // A write that is slower than all that goes before giving up.
    node.disk.latency(SECOND..2 * SECOND);
    let (ticket, write) = log.next_operation().unwrap();
    node.store.submit(node.now, ticket, write);
    node.disk.latency(SECOND / 10_000..SECOND / 1_000);
    while log.durable() < next.position {
        node.submit(&mut log);
        assert!(node.giving_up.is_none());
        node.step(&mut log).unwrap();
    }
    while node.step(&mut log).unwrap() {}
    assert!(node.disk.read(FileName::Segment(1)).is_none());
}

/// Nothing of a file's earlier life may come back, even where a whole batch of it stands exactly behind the last one.
#[test]
fn a_recycled_segment_forgets_what_it_held() {
    let mut node = Node::new(
        4,
        LogSettings {
            max_segments: 2,
            spares: 2,
            ..small()
        },
    );
    let (mut log, _) = node.open().unwrap();
    let mut reused = 0;
    for round in 0..200_u32 {
        let payload = format!("{round:05}").repeat(600);
        log.append(1, payload.as_bytes()).unwrap();
        node.settle(&mut log).unwrap();
        if round % 3 == 0 {
            log.drop_before(log.next()).unwrap();
            node.settle(&mut log).unwrap();
        }
        if round % 17 == 0 {
            let next = log.next().0;
            node.crash();
            let (reopened, state) = node.open().unwrap();
            log = reopened;
            assert_eq!(state.next, next, "round {round}");
            for (index, (_, payload)) in &state.entries {
                assert_eq!(
                    &payload[..],
                    format!("{:05}", index - 1).repeat(600).as_bytes()
                );
            }
        }
        reused = node
            .disk
            .files()
            .iter()
            .filter(|file| matches!(file.name, FileName::Segment(5..)))
            .count();
    }
    assert!(reused > 0 && node.disk.files().len() <= 5);
}
