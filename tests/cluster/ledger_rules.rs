//! What a ledger keeps, refuses and stops for, rule by rule.

use std::time::Duration;

use corecast::Time;
use corecast::base::ids::{Incarnation, NodeId};
use corecast::base::rng::seeded;
use corecast::cluster::ledger::{Durable, Fact, Ledger};
use corecast::cluster::ledger_error::{FactRefused, LedgerError, LedgerOpenError};
use corecast::cluster::ledger_opening::{LedgerOpening, OpenedLedger};
use corecast::consensus::entry::{HardState, LogWrite, Recovered, SnapshotWrite, Ticket};
use corecast::consensus::founding::{Ballot, Founding, Promise};
use corecast::consensus::peer::ClusterId;
use corecast::log::{FileName, Identity, LogId, LogStore, OpenError, Recovery};

use crate::ledger_model::nothing;
use crate::ledger_node::{LedgerMachine, entry, small, snapshot, write};

const NODE: NodeId = NodeId(3);

fn machine(seed: u64) -> LedgerMachine {
    LedgerMachine::new(seed, NODE, small())
}

#[test]
fn facts_are_kept_and_never_taken_back() {
    let mut machine = machine(8);
    let mut ledger = machine.open().unwrap().ledger;
    let promise = |round| Promise {
        promised: Ballot { round, peer: 1 },
        accepted: None,
    };
    let first = ledger.record(Fact::Life(Incarnation(4))).unwrap();
    let second = ledger.record(Fact::Promised(promise(3))).unwrap();
    let third = ledger.record(Fact::Joined(ClusterId(7))).unwrap();
    assert!(first < second && second < third);
    let reports = machine.settle(&mut ledger).unwrap();
    assert_eq!(reports, [first, second, third].map(Durable::Fact));
    let before = ledger.facts().clone();
    let refused = [
        (
            ledger.record(Fact::Life(Incarnation(4))),
            "does not come after",
        ),
        (ledger.record(Fact::Promised(promise(2))), "goes further"),
        (
            ledger.record(Fact::Joined(ClusterId(8))),
            "belongs to cluster",
        ),
        (
            ledger.record(Fact::Founded(Founding {
                cluster: 7,
                voters: Vec::new(),
            })),
            "a founding of 0 voters",
        ),
    ];
    for (refused, text) in refused {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    assert_eq!(*ledger.facts(), before);
    assert!(ledger.is_idle());
    machine.crash();
    assert_eq!(*machine.open().unwrap().ledger.facts(), before);
}

#[test]
fn a_founder_starts_with_the_genesis_whenever_it_crashes() {
    for operations in 0..8 {
        let mut machine = machine(operations);
        let mut ledger = machine.open().unwrap().ledger;
        let founding = Founding {
            cluster: 12,
            voters: vec![1 << 32 | 5, ledger.facts().peer().number()],
        };
        let ticket = ledger.form(&founding).unwrap();
        let mut formed = false;
        for _ in 0..operations {
            machine.step(&mut ledger).unwrap();
            formed |= ledger.poll_durable() == Some(Durable::Fact(ticket));
        }
        assert!(formed || operations < 4);
        machine.crash();
        let OpenedLedger {
            mut ledger,
            mut recovered,
            ..
        } = machine.open().unwrap();
        let facts = ledger.facts();
        assert!(!formed || !facts.must_form(&recovered));
        if facts.cluster.is_none() || facts.must_form(&recovered) {
            ledger.form(&founding).unwrap();
            machine.settle(&mut ledger).unwrap();
            machine.crash();
            let again = machine.open().unwrap();
            (ledger, recovered) = (again.ledger, again.recovered);
        }
        assert_eq!(ledger.facts().founding, Some(founding.clone()));
        let genesis = Recovered::genesis(&founding.configuration());
        assert_eq!(recovered, genesis);
        assert_eq!(ledger.form(&founding), Err(FactRefused::AlreadyFormed));
        // And goes on behind it.
        ledger.write(write(1, vec![entry(2, 10)])).unwrap();
        machine.settle(&mut ledger).unwrap();
        machine.crash();
        assert_eq!(machine.open().unwrap().recovered.entries, [entry(2, 10)]);
    }
}

#[test]
fn what_nobody_waits_for_costs_no_flush() {
    let mut machine = machine(3);
    let mut ledger = machine.open().unwrap().ledger;
    machine.settle(&mut ledger).unwrap();
    for commit in 1..1_000 {
        let state = HardState {
            term: 1,
            vote: 0,
            commit,
        };
        let write = LogWrite {
            hard_state: Some(state),
            ..nothing()
        };
        ledger.write(write).unwrap();
        assert!(ledger.next_operation().is_none());
    }
    assert!(ledger.is_idle());
    ledger.write(write(1, vec![entry(1, 5)])).unwrap();
    assert!(!ledger.is_idle());
    machine.settle(&mut ledger).unwrap();
    machine.crash();
    let recovered = machine.open().unwrap().recovered;
    assert_eq!(recovered.hard_state.commit, 999);
}

#[test]
fn a_full_log_stops_it_and_a_snapshot_after_the_next_start_empties_it() {
    let mut machine = machine(4);
    machine.settings.log.max_segments = 3;
    let mut ledger = machine.open().unwrap().ledger;
    let mut last = 0;
    let error = loop {
        let outcome = ledger.write(write(last + 1, vec![entry(last + 1, 9_000)]));
        match outcome.and_then(|()| machine.settle(&mut ledger)) {
            Ok(_) => last += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, LedgerError::Full { segments: 3 });
    assert!(error.to_string().contains("`log.max_segments`"), "{error}");
    machine.crash();
    let OpenedLedger {
        mut ledger,
        recovered,
        ..
    } = machine.open().unwrap();
    assert_eq!(recovered.entries.len() as u64, last);
    let own = SnapshotWrite {
        snapshot: snapshot(last, 500),
        replaces_log: false,
    };
    let taken = LogWrite {
        ticket: Some(Ticket(1)),
        snapshot: Some(own),
        ..nothing()
    };
    ledger.write(taken).unwrap();
    let reports = machine.settle(&mut ledger).unwrap();
    assert_eq!(reports, [Durable::Write(Ticket(1))]);
    let drop = LogWrite {
        drop_before: Some(last + 1),
        ..nothing()
    };
    ledger.write(drop).unwrap();
    machine.settle(&mut ledger).unwrap();
    assert!(ledger.segments() <= 3, "{}", ledger.segments());
    for number in 1..6 {
        let next = last + number;
        ledger
            .write(write(1 + number, vec![entry(next, 9_000)]))
            .unwrap();
        machine.settle(&mut ledger).unwrap();
    }
}

/// Writes more than fits, and after so many operations the mark that makes room for it. How many operations there were, and
/// whether everything got its place.
fn fill(mark_after: u64) -> (u64, bool) {
    let mut machine = machine(4);
    machine.settings.log.max_segments = 3;
    let mut ledger = machine.open().unwrap().ledger;
    for index in 1..26 {
        ledger
            .write(write(index, vec![entry(index, 9_000)]))
            .unwrap();
        machine.settle(&mut ledger).unwrap();
    }
    let own = SnapshotWrite {
        snapshot: snapshot(25, 500),
        replaces_log: false,
    };
    let mut taken = write(26, Vec::new());
    taken.snapshot = Some(own);
    ledger.write(taken).unwrap();
    machine.settle(&mut ledger).unwrap();
    let entries: Vec<_> = (26..42).map(|index| entry(index, 9_000)).collect();
    let mark = LogWrite {
        drop_before: Some(26),
        ..nothing()
    };
    let mut operations = 0;
    if mark_after == 0 {
        ledger.write(mark.clone()).unwrap();
    }
    ledger.write(write(27, entries.clone())).unwrap();
    while let Ok(true) = machine.step(&mut ledger) {
        operations += 1;
        if operations == mark_after {
            ledger.write(mark.clone()).unwrap();
        }
    }
    let fits = ledger.failed().is_none();
    assert_eq!(
        fits,
        ledger.poll_durable() == Some(Durable::Write(Ticket(27)))
    );
    assert!(fits || ledger.failed() == Some(&LedgerError::Full { segments: 3 }));
    machine.crash();
    let recovered = machine.open().unwrap().recovered;
    let held: Vec<_> = recovered
        .entries
        .into_iter()
        .filter(|entry| entry.index > 25)
        .collect();
    assert!(entries.starts_with(&held) && (!fits || held == entries));
    (operations, fits)
}

#[test]
fn what_does_not_fit_waits_while_the_log_is_emptied() {
    let (last, fits) = fill(u64::MAX);
    assert!(!fits && last > 2, "{last} operations");
    for mark_after in 0..=last {
        let (_, fits) = fill(mark_after);
        assert!(fits, "after {mark_after} of {last} operations");
    }
}

#[test]
fn a_disk_that_stands_still_is_noticed() {
    let mut machine = machine(4);
    let mut ledger = machine.open().unwrap().ledger;
    let (mut index, mut was_behind) = (0, false);
    let error = loop {
        index += 1;
        if let Err(error) = ledger.write(write(index, vec![entry(index, 9_000)])) {
            break error;
        }
        was_behind |= ledger.is_behind();
    };
    assert!(was_behind);
    let limit = machine.settings.max_queued_bytes;
    assert!(
        matches!(error, LedgerError::Overrun { queued, limit: of } if of == limit && queued > limit),
        "{error}"
    );
    assert!(index as usize * 9_000 > limit as usize);
    let too_long = LedgerMachine::new(1, NODE, small()).open().unwrap();
    let mut ledger = too_long.ledger;
    let error = ledger.write(write(1, vec![entry(1, 20_000)])).unwrap_err();
    assert!(
        matches!(error, LedgerError::TooLong { index: 1, .. }),
        "{error}"
    );
}

/// Whoever asks for votes in ever higher terms has them written, one by one.
#[test]
fn votes_and_facts_that_wait_for_a_disk_that_stands_still_are_bounded_too() {
    let vote = |ledger: &mut Ledger, n: u64| {
        let vote = LogWrite {
            ticket: Some(Ticket(n)),
            hard_state: Some(HardState {
                term: n,
                vote: 1,
                commit: 0,
            }),
            ..nothing()
        };
        ledger.write(vote).map_err(FactRefused::from)
    };
    let promise = |ledger: &mut Ledger, n: u64| {
        let promised = Ballot { round: n, peer: 1 };
        let accepted = None;
        let promise = Promise { promised, accepted };
        ledger.record(Fact::Promised(promise)).map(drop)
    };
    type Write<'a> = &'a dyn Fn(&mut Ledger, u64) -> Result<(), FactRefused>;
    let writes: [Write<'_>; 2] = [&vote, &promise];
    for write in writes {
        let mut machine = machine(4);
        let mut ledger = machine.open().unwrap().ledger;
        let mut was_behind = false;
        let error = (1..10_000).find_map(|n| {
            let written = write(&mut ledger, n).err();
            was_behind |= written.is_none() && ledger.is_behind();
            written
        });
        assert!(was_behind);
        let Some(FactRefused::Stopped(LedgerError::Overrun { .. })) = error else {
            panic!("{error:?}");
        };
        // When the disk goes on, nothing of it is left.
        machine.crash();
        let mut ledger = machine.open().unwrap().ledger;
        for n in 20_000..21_500 {
            write(&mut ledger, n).unwrap();
        }
        assert!(ledger.queued_bytes() > 0);
        assert_eq!(machine.settle(&mut ledger).unwrap().len(), 1_500);
        assert_eq!(ledger.queued_bytes(), 0);
    }
}

#[test]
fn a_write_that_continues_nothing_is_a_bug_and_said_so() {
    let cases = [
        (write(9, vec![entry(7, 5)]), "entry 7"),
        (
            LogWrite {
                truncate_from: Some(5),
                ..nothing()
            },
            "a truncation from entry 5",
        ),
    ];
    for (bad, text) in cases {
        let mut ledger = machine(1).open().unwrap().ledger;
        ledger.write(write(1, vec![entry(1, 5)])).unwrap();
        let error = ledger.write(bad).unwrap_err();
        assert!(
            matches!(&error, LedgerError::Contradiction { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn another_node_and_another_cluster_are_refused() {
    let mut machine = machine(2);
    let mut ledger = machine.open().unwrap().ledger;
    ledger.record(Fact::Joined(ClusterId(7))).unwrap();
    machine.settle(&mut ledger).unwrap();
    machine.crash();
    let before = contents(&machine);
    machine.node = NodeId(4);
    let error = machine.open().unwrap_err();
    assert!(
        matches!(error, LedgerOpenError::OtherNode { found, asked, .. } if found == NODE && asked == NodeId(4)),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("segment-") && text.contains("at byte"),
        "{text}"
    );
    machine.node = NODE;
    let mut other =
        LedgerOpening::new(small(), NODE, Some(ClusterId(8)), &mut seeded(1, 1)).unwrap();
    let error = loop {
        while let Some((ticket, operation)) = other.next_operation() {
            machine.store.submit(machine.now, ticket, operation);
        }
        machine.now = machine.disk.next_due().unwrap();
        let (ticket, result) = machine.store.poll(machine.now).unwrap();
        if let Err(error) = other.completed(ticket, result) {
            break error;
        }
    };
    let text = error.to_string();
    assert!(
        matches!(error, LedgerOpenError::OtherCluster { .. }),
        "{text}"
    );
    assert!(text.contains("start it with another directory"), "{text}");
    assert_eq!(contents(&machine), before, "nothing has changed");
}

fn contents(machine: &LedgerMachine) -> Vec<Option<Vec<u8>>> {
    let files = machine.disk.files();
    files
        .iter()
        .map(|file| machine.disk.read(file.name))
        .collect()
}

#[test]
fn damage_is_told_with_its_place() {
    let mut machine = machine(9);
    let mut ledger = machine.open().unwrap().ledger;
    for index in 1..40 {
        ledger
            .write(write(index, vec![entry(index, 3_000)]))
            .unwrap();
        machine.settle(&mut ledger).unwrap();
    }
    machine.crash();
    assert!(machine.disk.damage(FileName::Segment(1), 37_000));
    let error = machine.open().unwrap_err();
    assert!(
        matches!(&error, LedgerOpenError::Log(OpenError::Damaged { .. })),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("segment-00000000000000000001.log at byte"),
        "{text}"
    );
    assert!(machine.disk.damage(FileName::Segment(1), 37_000), "mended");
    machine.crash();
    machine.disk.make_unreadable(FileName::Segment(1), 37_000);
    let error = machine.open().unwrap_err();
    assert!(
        matches!(&error, LedgerOpenError::Log(OpenError::Store(_))),
        "{error}"
    );
}

/// Makes a log of these values and entries, and opens it as a ledger.
fn opened_with(values: &[(u8, &[u8])], entries: &[(u8, &[u8])]) -> LedgerOpenError {
    let mut machine = machine(11);
    let identity = Identity::Exactly(LogId(9));
    let mut recovery = Recovery::new(machine.settings.log.clone(), identity).unwrap();
    let mut log = loop {
        if let Some(opened) = recovery.take_opened() {
            break opened.log;
        }
        while let Some((ticket, operation)) = recovery.next_operation() {
            machine.store.submit(machine.now, ticket, operation);
        }
        machine.now = machine.disk.next_due().unwrap();
        while let Some((ticket, result)) = machine.store.poll(machine.now) {
            recovery.completed(ticket, result).unwrap();
            assert_eq!(recovery.next_recovered(), Ok(None));
        }
    };
    for (slot, value) in values {
        log.set_state(*slot, value).unwrap();
    }
    for (kind, payload) in entries {
        log.append(*kind, payload).unwrap();
    }
    while log.durable() < log.appended() {
        while let Some((ticket, operation)) = log.next_operation() {
            machine.store.submit(machine.now, ticket, operation);
        }
        machine.now = machine.disk.next_due().unwrap();
        while let Some((ticket, result)) = machine.store.poll(machine.now) {
            log.completed(ticket, result).unwrap();
        }
    }
    machine.crash();
    machine.open().unwrap_err()
}

#[test]
fn records_that_make_no_sense_are_told_with_their_place() {
    let identity: &[u8] = &[1, 3, 0, 0, 0, 9, 0, 0, 0];
    let newer: &[u8] = &[2, 3, 0, 0, 0, 9, 0, 0, 0];
    let cases = [
        (
            opened_with(&[(0, newer)], &[]),
            "the identity of the node in segment-00000000000000000001.log at byte",
        ),
        (opened_with(&[(0, newer)], &[]), "has version 2"),
        (
            opened_with(&[(0, identity)], &[(0, &[1; 9]), (9, &[1; 9])]),
            "(entry 2) cannot be read",
        ),
        (
            opened_with(&[(0, identity), (1, &[1, 7])], &[]),
            "the hard state in segment",
        ),
        (
            opened_with(&[(0, identity), (7, &[1])], &[]),
            "no value into this slot",
        ),
        (
            opened_with(&[], &[(0, &[1; 9])]),
            "nothing says whose it is",
        ),
    ];
    for (error, text) in cases {
        assert!(error.to_string().contains(text), "{error}");
    }
}

/// The time does not run while a ledger is idle.
#[test]
fn an_idle_ledger_asks_for_nothing() {
    let mut machine = machine(3);
    let mut ledger = machine.open().unwrap().ledger;
    machine.settle(&mut ledger).unwrap();
    machine
        .turn(Time::ZERO + Duration::from_secs(1), &mut ledger)
        .unwrap();
    assert!(machine.disk.next_due().is_none() && ledger.is_idle());
}
