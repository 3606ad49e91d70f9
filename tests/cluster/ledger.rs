//! The durable state of one node on a disk that tears, fails and decays.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test cluster ledger`.

use std::hash::{DefaultHasher, Hash, Hasher};

use corecast::base::ids::{Incarnation, NodeId};
use corecast::base::rng::{Rng, seeded};
use corecast::cluster::ledger::{Durable, Fact, Ledger};
use corecast::cluster::ledger_error::{FactRefused, LedgerError, LedgerOpenError};
use corecast::cluster::ledger_opening::OpenedLedger;
use corecast::consensus::entry::{LogEntry, SnapshotWrite, Ticket};
use corecast::log::OpenError;
use rand::RngExt;

use crate::ledger_model::{Counts, Held, Model, nothing};
use crate::ledger_node::{LedgerMachine, Opening, entry, small, snapshot, write};
use crate::seeds::{Trace, check_seeds};

const NODE: NodeId = NodeId(3);

fn machine(seed: u64) -> LedgerMachine {
    LedgerMachine::new(seed, NODE, small())
}

/// Runs several lives of a node; what was tried.
fn lives(seed: u64, lives: u32) -> (Trace, Counts, u64) {
    let mut rng = seeded(seed, 2);
    let mut machine = machine(seed);
    machine.settings.log.max_segments = rng.random_range(2..7);
    // The smaller, the more often a write is cut in two.
    machine.settings.log.max_batch_bytes = [4 << 10, 16 << 10][rng.random_range(0..2)];
    let mut model = Model::new(seeded(seed, 1));
    let mut trace = Trace::new();
    let (mut full, mut disk) = (0, None);
    for life in 0..lives {
        let context = format!("life {life}");
        let opened = loop {
            let operations = match rng.random_range(0..3) {
                0 => rng.random_range(0..60),
                _ => u64::MAX,
            };
            match machine.open_for(operations) {
                Ok(Opening::Done(opened)) => break opened,
                Ok(Opening::CutOff) => {}
                // A write that was to fail has failed in the batch that opens the log.
                Err(
                    LedgerOpenError::Log(OpenError::Store(_))
                    | LedgerOpenError::Stopped(LedgerError::Log(_)),
                ) => machine.crash(),
                Err(error) => panic!("{context}: {error}"),
            }
        };
        let OpenedLedger {
            mut ledger,
            recovered,
            ..
        } = *opened;
        let known = *disk.get_or_insert(ledger.facts().disk);
        assert_eq!(ledger.facts().disk, known, "the disk stays the same");
        model.recovered(Held::of(ledger.facts(), &recovered), &context);
        let mut digest = DefaultHasher::new();
        format!("{:?} {recovered:?}", ledger.facts()).hash(&mut digest);
        trace.push(digest.finish());
        match one_life(&mut machine, &mut ledger, &mut model, &mut rng) {
            Ok(()) => {}
            Err(LedgerError::Full { .. }) => {
                full += 1;
                // Consensus would take a snapshot at its next start; here the log gets longer.
                machine.settings.log.max_segments += 8;
            }
            Err(LedgerError::Log(_)) => {}
            Err(error) => panic!("{context}: {error}"),
        }
        // What was reported before it stopped is true.
        model.take_reports(&mut ledger);
        let files = machine.disk.files().len() as u32;
        let most = 2 * machine.settings.log.max_segments + 4 + life;
        assert!(files <= most, "{context}: {files} files");
        machine.crash();
    }
    (trace, model.counts, full)
}

fn one_life(
    machine: &mut LedgerMachine,
    ledger: &mut Ledger,
    model: &mut Model,
    rng: &mut Rng,
) -> Result<(), LedgerError> {
    if rng.random_ratio(1, 8) {
        machine.disk.fail_nth_write(rng.random_range(1..20));
    }
    let ends_at_rest = rng.random_ratio(1, 8);
    for _ in 0..rng.random_range(0..250) {
        model.act(ledger)?;
        let steps = match rng.random_range(0..12) {
            0 => 100,
            1..6 => rng.random_range(1..4),
            _ => 0,
        };
        for _ in 0..steps {
            if !machine.step(ledger)? {
                break;
            }
        }
        model.take_reports(ledger);
    }
    if ends_at_rest {
        ledger.flush();
        while machine.step(ledger)? {}
        assert!(ledger.is_idle() && ledger.queued_bytes() == 0);
        model.take_reports(ledger);
        assert!(model.has_all_reports());
    } else if rng.random_ratio(2, 3) {
        // The crash comes when something is under way.
        for _ in 0..rng.random_range(0..20) {
            model.act(ledger)?;
        }
        machine.submit(ledger);
    }
    Ok(())
}

/// The heart of it: after any crash there is what was reported, and beyond it a prefix of what was written.
#[test]
fn a_crash_leaves_a_prefix_of_what_was_written() {
    check_seeds(150, |seed| lives(seed, 2 + (seed % 6) as u32).0);
}

/// What the test above relies on does happen.
#[test]
fn crashes_hit_everything() {
    let mut total = [0; 6];
    for seed in 1_000..1_060 {
        let (_, counts, full) = lives(seed, 5);
        let of_seed = [
            counts.replaced,
            counts.truncated,
            counts.taken,
            counts.lost,
            counts.kept_unconfirmed,
            full,
        ];
        for (total, of_seed) in total.iter_mut().zip(of_seed) {
            *total += of_seed;
        }
    }
    let least = [100, 100, 100, 60, 60, 3];
    let enough = total
        .iter()
        .zip(least)
        .all(|(total, least)| *total >= least);
    assert!(enough, "{total:?} of at least {least:?}");
}

/// The end of the snapshot, and the truncation and the mark behind it, in different batches: too rare to be hit by chance
/// often enough.
#[test]
fn a_snapshot_replaces_the_log_together_with_itself_or_not_at_all() {
    let (mut before, mut after) = (0, 0);
    for (bytes, steps) in (3_600..4_000)
        .step_by(8)
        .flat_map(|b| (0..4).map(move |s| (b, s)))
    {
        let mut machine = machine(bytes as u64);
        machine.settings.log.max_batch_bytes = 4 << 10;
        let mut ledger = machine.open().unwrap().ledger;
        let old: Vec<LogEntry> = (1..9).map(|index| entry(index, 20)).collect();
        ledger.write(write(1, old.clone())).unwrap();
        machine.settle(&mut ledger).unwrap();
        let mut replacing = write(2, vec![entry(5, 33)]);
        let snapshot = snapshot(4, bytes);
        replacing.snapshot = Some(SnapshotWrite {
            snapshot: snapshot.clone(),
            replaces_log: true,
        });
        ledger.write(replacing).unwrap();
        for _ in 0..steps {
            machine.step(&mut ledger).unwrap();
        }
        // Twice: what the first opening begins is cut off.
        machine.crash();
        machine.open_for(9).ok();
        machine.crash();
        let recovered = machine.open().unwrap().recovered;
        let context = format!("{bytes} bytes, {steps} steps");
        match recovered.snapshot {
            None => {
                before += 1;
                assert_eq!(recovered.entries, old, "{context}");
            }
            Some(found) => {
                after += 1;
                assert_eq!(found, snapshot, "{context}");
                let fine = recovered.entries.is_empty() || recovered.entries == [entry(5, 33)];
                assert!(fine, "{context}: {:?}", recovered.entries);
            }
        }
        // And it goes on behind what is there.
        let OpenedLedger {
            mut ledger,
            recovered,
            ..
        } = {
            machine.crash();
            machine.open().unwrap()
        };
        let base = recovered.snapshot.map_or(0, |snapshot| snapshot.meta.index);
        let last = recovered.entries.last().map_or(base, |entry| entry.index);
        ledger.write(write(1, vec![entry(last + 1, 44)])).unwrap();
        machine.settle(&mut ledger).unwrap();
        machine.crash();
        let recovered = machine.open().unwrap().recovered;
        assert_eq!(
            recovered.entries.last(),
            Some(&entry(last + 1, 44)),
            "{context}"
        );
    }
    assert!(before > 20 && after > 20, "{before}, {after}");
}

#[test]
fn ten_restarts_in_a_row_change_nothing() {
    let mut machine = machine(1);
    let mut model = Model::new(seeded(1, 1));
    let mut opened = machine.open().unwrap();
    for _ in 0..200 {
        model.act(&mut opened.ledger).unwrap();
        machine.step(&mut opened.ledger).unwrap();
        model.take_reports(&mut opened.ledger);
    }
    opened.ledger.flush();
    while machine.step(&mut opened.ledger).unwrap() {}
    model.take_reports(&mut opened.ledger);
    let mut first = None;
    let mut files = 0;
    for restart in 0..10 {
        machine.crash();
        let opened = machine.open().unwrap();
        assert!(!opened.created);
        let held = Held::of(opened.ledger.facts(), &opened.recovered);
        model.recovered(held, "restart");
        let first = first.get_or_insert_with(|| opened.recovered.clone());
        assert_eq!(*first, opened.recovered, "restart {restart}");
        files = files.max(machine.disk.files().len());
    }
    let now = machine.disk.files().len();
    assert!(now <= files && files <= 14, "{now}, {files} files");
}

#[test]
fn a_new_ledger_says_so_and_keeps_its_disk() {
    let mut machine = machine(5);
    for operations in 0..12 {
        assert!(matches!(
            machine.open_for(operations),
            Ok(Opening::CutOff | Opening::Done(_))
        ));
        machine.crash();
    }
    let disk = machine.open().unwrap().ledger.facts().disk;
    machine.crash();
    let again = machine.open().unwrap();
    assert!(!again.created);
    assert_eq!(again.ledger.facts().disk, disk);
    let other = LedgerMachine::new(6, NODE, small()).open().unwrap();
    assert!(other.created);
    assert_ne!(other.ledger.facts().disk, disk);
}

#[test]
fn a_failed_write_stops_it_for_good() {
    for nth in 1..6 {
        let mut machine = machine(nth);
        let mut ledger = machine.open().unwrap().ledger;
        machine.disk.fail_nth_write(nth);
        let mut confirmed = 0;
        let error = (1..).find_map(|number| {
            let outcome = ledger.write(write(number, vec![entry(number, 50)]));
            let outcome = outcome.and_then(|()| machine.step(&mut ledger));
            while let Some(Durable::Write(Ticket(number))) = ledger.poll_durable() {
                confirmed = number;
            }
            outcome.err()
        });
        let error = error.unwrap();
        assert!(error.to_string().contains("the flush failed"), "{error}");
        assert_eq!(ledger.failed(), Some(&error));
        assert!(ledger.next_operation().is_none());
        assert_eq!(ledger.write(nothing()), Err(error.clone()));
        let refused = ledger.record(Fact::Life(Incarnation(9)));
        assert_eq!(refused, Err(FactRefused::Stopped(error)));
        assert!(ledger.is_idle() && ledger.poll_durable().is_none());
        machine.crash();
        let recovered = machine.open().unwrap().recovered;
        assert!(recovered.entries.len() as u64 >= confirmed);
    }
}
