//! Recovery is folding: of a log, of a snapshot and the rest of it, in any number of lives; and what is wrong with a log is
//! found where it is.

use super::error::JournalError;
use super::id::PersistenceId;
use super::journal::{Journal, Records};
use super::memory::InMemoryJournal;
use super::progress::{Progress, Snapshots};
use super::record::{Payload, Record, Sequence};
use crate::base::ids::Epoch;
use crate::wire::message::WireMessage;
use proptest::prelude::*;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

#[derive(Debug, Clone, Copy, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Added(u64);

impl WireMessage for Added {
    const NAME: &'static str = "test.Added";
    const VERSION: u16 = 1;
}

/// Depends on the order of the events, and on each of them.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Sum {
    count: u64,
    mixed: u64,
}

impl WireMessage for Sum {
    const NAME: &'static str = "test.Sum";
    const VERSION: u16 = 1;
}

const EMPTY: Sum = Sum { count: 0, mixed: 7 };

fn fold(sum: Sum, event: Added) -> Sum {
    Sum {
        count: sum.count + 1,
        mixed: sum.mixed.wrapping_mul(31).wrapping_add(event.0),
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("a journal in memory answers at once"),
    }
}

/// What the actor does, without one.
fn replay(
    progress: &mut Progress,
    snapshot: Option<Record>,
    records: &[Record],
) -> Result<Sum, (Sum, JournalError)> {
    let mut sum = EMPTY;
    if let Some(snapshot) = &snapshot {
        progress.check(snapshot).map_err(|error| (EMPTY, error))?;
        sum = snapshot.payload.read().unwrap().unwrap();
    }
    progress.begin(snapshot.map(|snapshot| snapshot.sequence));
    for record in records {
        if let Err(error) = progress.check_next(record) {
            return Err((sum, error));
        }
        sum = fold(sum, record.payload.read().unwrap().unwrap());
        progress.folded();
    }
    Ok(sum)
}

fn load(journal: &InMemoryJournal, id: &PersistenceId, from: Sequence) -> Vec<Record> {
    let mut loading = journal.load(id, from);
    let mut records = Vec::new();
    loop {
        let page = now(loading.next_page()).unwrap();
        if page.is_empty() {
            return records;
        }
        records.extend(page);
    }
}

fn id() -> PersistenceId {
    PersistenceId::of_entity("sum", &7)
}

/// A log of these events, without a journal.
fn log(events: &[u64]) -> Vec<Record> {
    let numbered = events.iter().zip(1..);
    numbered
        .map(|(event, number)| {
            let payload = Payload::of(&Added(*event)).unwrap();
            Record::new(&id(), Sequence(number), Epoch(3), payload)
        })
        .collect()
}

fn all(events: &[u64]) -> Sum {
    events.iter().map(|event| Added(*event)).fold(EMPTY, fold)
}

proptest! {
    /// Commands with any number of events each, in any number of lives.
    #[test]
    fn every_life_begins_where_the_last_one_ended(
        lives in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u64>(), 1..5), 0..40), 1..6),
        every in 1_u64..20,
    ) {
        let (journal, id) = (InMemoryJournal::default(), id());
        let mut told = Vec::new();
        for commands in lives {
            let lease = journal.leases().take(&id).unwrap();
            let mut progress = Progress::new(id.clone(), Snapshots::Every(every));
            let snapshot = now(journal.load_snapshot(&id)).unwrap();
            let from = snapshot.as_ref().map_or(Sequence::FIRST, |snapshot| snapshot.sequence.next());
            let rest = load(&journal, &id, from);
            // Counted across lives, a command may go beyond it.
            prop_assert!((rest.len() as u64) < every);
            let mut sum = replay(&mut progress, snapshot, &rest).unwrap();
            prop_assert_eq!(&sum, &all(&told));
            let every_event = load(&journal, &id, Sequence::FIRST);
            let without = replay(&mut Progress::new(id.clone(), Snapshots::Never), None, &every_event);
            prop_assert_eq!(&without.unwrap(), &sum);
            for events in commands {
                let payloads = events.iter().map(|event| Payload::of(&Added(*event)).unwrap());
                let batch = progress.batch(lease.writer(), Epoch(3), payloads);
                prop_assert_eq!(batch.first(), Sequence(told.len() as u64 + 1));
                now(journal.persist(batch)).unwrap();
                for event in events {
                    sum = fold(sum, Added(event));
                    progress.folded();
                    told.push(event);
                }
                if progress.is_snapshot_due() {
                    let last = progress.begin_snapshot();
                    prop_assert_eq!(last, Sequence(told.len() as u64));
                    let snapshot = Record::new(&id, last, Epoch(3), Payload::of(&sum).unwrap());
                    now(journal.save_snapshot(&id, snapshot)).unwrap();
                }
            }
        }
    }

    /// Whatever is wrong with a log, what comes before it is recovered, and the place is told.
    #[test]
    fn what_is_wrong_is_found_where_it_is(
        events in prop::collection::vec(any::<u64>(), 2..40),
        place in any::<prop::sample::Index>(),
        what in 0..6,
        bit in any::<prop::sample::Index>(),
    ) {
        let mut records = log(&events);
        // Without the last one nobody could see what is missing.
        let at = place.index(events.len() - 1);
        let expected = Sequence(at as u64 + 1);
        match what {
            0 => drop(records.remove(at)),
            1 => records.insert(at + 1, records[at].clone()),
            2 => records.swap(at, at + 1),
            3 => {
                let payload = &mut records[at].payload;
                let mut bytes = (*payload.bytes).clone();
                let bit = bit.index(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                payload.bytes = Arc::new(bytes);
            }
            4 => records[at].sequence = Sequence(1_000),
            _ => {
                let stranger = PersistenceId::of_entity("sum", &8);
                let payload = records[at].payload.clone();
                records[at] = Record::new(&stranger, expected, Epoch(3), payload);
            }
        }
        let mut progress = Progress::new(id(), Snapshots::Never);
        let (sum, error) = replay(&mut progress, None, &records).unwrap_err();
        let next = expected.next();
        let read = match what {
            0 | 2 => {
                prop_assert_eq!(error, JournalError::Gap { expected, found: next });
                at
            }
            1 => {
                prop_assert_eq!(error, JournalError::OutOfOrder { expected: next, found: expected });
                at + 1
            }
            _ => {
                let damaged = matches!(error, JournalError::Damaged { .. });
                prop_assert!(damaged, "{}", error);
                at
            }
        };
        prop_assert_eq!(progress.last(), Sequence(read as u64));
        prop_assert_eq!(sum, all(&events[..read]));
    }
}

#[test]
fn a_journal_refuses_what_does_not_follow() {
    let (journal, id) = (InMemoryJournal::default(), id());
    let payload = || [Payload::of(&Added(1)).unwrap()];
    let first = journal.leases().take(&id).unwrap();
    let progress = Progress::new(id.clone(), Snapshots::Never);
    let batch = progress.batch(first.writer(), Epoch(0), payload());
    assert_eq!(now(journal.persist(batch.clone())), Ok(()));
    let (expected, found) = (Sequence(2), Sequence(1));
    let conflict = JournalError::Conflict { expected, found };
    assert_eq!(now(journal.persist(batch.clone())), Err(conflict));
    drop(first);
    assert_eq!(now(journal.persist(batch)), Err(JournalError::Fenced));
    assert_eq!(journal.records(&id).len(), 1);
}

#[test]
fn a_full_journal_stores_nothing_more_and_keeps_what_it_has() {
    let id = id();
    let payload = Payload::of(&Added(1)).unwrap();
    let try_with = |limit: usize| {
        let journal = InMemoryJournal::bounded(limit);
        let lease = journal.leases().take(&id).unwrap();
        let mut progress = Progress::new(id.clone(), Snapshots::Never);
        let mut write = |events: usize| {
            let payloads = vec![payload.clone(); events];
            now(journal.persist(progress.batch(lease.writer(), Epoch(0), payloads)))
                .inspect(|()| (0..events).for_each(|_| progress.folded()))
        };
        let wrote = [write(2), write(2), write(1)];
        (wrote, journal.records(&id).len(), journal.used_bytes())
    };
    let (wrote, stored, size) = try_with(usize::MAX);
    assert_eq!((wrote, stored), ([Ok(()), Ok(()), Ok(())], 5));
    assert_eq!(try_with(size).1, 5);
    let (wrote, stored, used) = try_with(size - 1);
    assert_eq!((&wrote[..2], stored), (&[Ok(()), Ok(())][..], 4));
    let needed = size - used;
    let limit = size - 1;
    assert_eq!(wrote[2], Err(JournalError::Full { needed, limit }));
    // Of two nothing is stored where only one has room.
    let limit = size - needed - 1;
    let (wrote, stored, _) = try_with(limit);
    let needed = 2 * needed;
    assert_eq!(
        wrote[1..],
        [Err(JournalError::Full { needed, limit }), Ok(())]
    );
    assert_eq!(stored, 3);
}

#[test]
fn a_snapshot_replaces_the_one_before_and_never_a_later_one() {
    let (journal, id) = (InMemoryJournal::default(), id());
    let save = |sequence| {
        let payload = Payload::of(&EMPTY).unwrap();
        let snapshot = Record::new(&id, Sequence(sequence), Epoch(0), payload);
        now(journal.save_snapshot(&id, snapshot)).unwrap();
        let stored = journal.snapshot(&id).unwrap();
        (stored.sequence.0, journal.used_bytes())
    };
    let (first, size) = save(3);
    assert_eq!(first, 3);
    assert_eq!([save(5), save(4), save(5)], [(5, size); 3]);
}

/// The one before may be of an older version of the state, and would otherwise stay until there is another event.
#[test]
fn a_snapshot_of_the_same_event_replaces_the_one_before() {
    let (journal, id) = (InMemoryJournal::default(), id());
    let save = |payload| {
        let snapshot = Record::new(&id, Sequence(3), Epoch(0), payload);
        now(journal.save_snapshot(&id, snapshot)).unwrap();
        journal.snapshot(&id).unwrap().payload.fingerprint
    };
    assert_eq!(save(Payload::of(&Added(1)).unwrap()), Added::fingerprint());
    assert_eq!(save(Payload::of(&EMPTY).unwrap()), Sum::fingerprint());
}

/// It needs no room for both.
#[test]
fn a_full_journal_has_room_for_a_snapshot_in_the_place_of_another() {
    let id = id();
    let save = |journal: &InMemoryJournal, sequence| {
        let payload = Payload::of(&EMPTY).unwrap();
        let snapshot = Record::new(&id, Sequence(sequence), Epoch(0), payload);
        now(journal.save_snapshot(&id, snapshot))
    };
    let roomy = InMemoryJournal::default();
    save(&roomy, 1).unwrap();
    let journal = InMemoryJournal::bounded(roomy.used_bytes());
    assert_eq!(
        [1, 2, 3].map(|sequence| save(&journal, sequence)),
        [Ok(()), Ok(()), Ok(())]
    );
    assert_eq!(journal.used_bytes(), roomy.used_bytes());
}

#[test]
fn what_a_snapshot_spares_can_be_deleted_and_nothing_else() {
    let (journal, id) = (InMemoryJournal::default(), id());
    let lease = journal.leases().take(&id).unwrap();
    let mut progress = Progress::new(id.clone(), Snapshots::Never);
    let mut write = |events: u64| {
        let payloads = (0..events).map(|event| Payload::of(&Added(event)).unwrap());
        now(journal.persist(progress.batch(lease.writer(), Epoch(0), payloads))).unwrap();
        (0..events).for_each(|_| progress.folded());
    };
    write(600);
    let whole = journal.used_bytes();
    let all = Sequence(u64::MAX);
    assert_eq!(journal.delete_before(&"stranger".into(), all), 0);
    assert_eq!(journal.delete_before(&id, all), 0);
    let payload = Payload::of(&EMPTY).unwrap();
    let snapshot = Record::new(&id, Sequence(590), Epoch(0), payload);
    now(journal.save_snapshot(&id, snapshot)).unwrap();
    let with_snapshot = journal.used_bytes();
    for (before, deleted) in [
        (0, 0),
        (1, 0),
        (11, 10),
        (11, 0),
        (u64::MAX, 580),
        (u64::MAX, 0),
    ] {
        assert_eq!(
            journal.delete_before(&id, Sequence(before)),
            deleted,
            "{before}"
        );
    }
    assert_eq!(load(&journal, &id, Sequence(591)).len(), 10);
    assert_eq!(
        journal.records(&id).first().unwrap().sequence,
        Sequence(591)
    );
    assert!(journal.used_bytes() < whole / 10 && with_snapshot > whole);
    // What is missing is no empty log.
    let expected = Sequence(590);
    let gap = JournalError::Gap {
        expected,
        found: Sequence(591),
    };
    assert_eq!(
        now(journal.load(&id, expected).next_page()).unwrap_err(),
        gap
    );
    // And what comes next still has to.
    write(1);
    let last = load(&journal, &id, Sequence(591)).pop().unwrap();
    assert_eq!(last.sequence, Sequence(601));
}

#[test]
fn a_log_that_ends_before_its_snapshot_is_short() {
    let mut progress = Progress::new(id(), Snapshots::Never);
    progress.begin(None);
    progress.set_aside(Sequence(2));
    for record in log(&[1, 2]) {
        let (last, snapshot) = (progress.last(), Sequence(2));
        assert_eq!(
            progress.check_end(),
            Err(JournalError::Short { last, snapshot })
        );
        progress.check_next(&record).unwrap();
        progress.folded();
    }
    assert_eq!(progress.check_end(), Ok(()));
}
