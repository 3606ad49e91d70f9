//! A node's ledger on real files: what was confirmed is there after the process has been killed, what stands in the way of
//! a start is told, and the end of a write wakes a core that sleeps in its executor.
#![cfg(target_os = "linux")]

mod common;

use common::directory::Directory;
use common::executor::run;
use common::requirements::can_run;
use corecast::base::ids::{Incarnation, NodeId};
use corecast::base::rng::seeded;
use corecast::base::time::Time;
use corecast::cluster::ledger::{Durable, Fact, Ledger};
use corecast::cluster::ledger_opening::OpenedLedger;
use corecast::cluster::ledger_settings::LedgerSettings;
use corecast::consensus::configuration::ConfigurationRecord;
use corecast::consensus::entry::{
    EntryBody, HardState, LogEntry, LogWrite, ProposalRecord, Recovered, Snapshot, SnapshotMeta,
    SnapshotWrite, Ticket,
};
use corecast::consensus::peer::ClusterId;
use corecast::io::data_directory::DataDirectoryError;
use corecast::io::ledger_files::{LedgerFiles, LedgerStartError};
use corecast::io::log_files::LogFilesError;
use corecast::log::LogSettings;
use corecast::mesh::doorbell::Doorbell;
use rand::RngExt;
use std::future::poll_fn;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

/// Tells the test that runs itself again where its directory is.
const CHILD: &str = "CORECAST_TEST_DATA_DIRECTORY";
const NODE: NodeId = NodeId(5);

fn settings() -> LedgerSettings {
    LedgerSettings {
        log: LogSettings {
            segment_bytes: 256 << 10,
            max_batch_bytes: 32 << 10,
            max_record_bytes: 16 << 10,
            max_unsynced_bytes: 256 << 10,
            max_segments: 16,
            spares: 2,
            read_bytes: 64 << 10,
        },
        max_queued_bytes: 1 << 20,
    }
}

async fn try_open(
    directory: &Path,
    node: NodeId,
    cluster: Option<ClusterId>,
) -> Result<(OpenedLedger, LedgerFiles), LedgerStartError> {
    let mut rng = seeded(u64::from(std::process::id()), 1);
    LedgerFiles::open(directory, settings(), node, cluster, &mut rng).await
}

/// Opens the ledger, unless the file system cannot.
async fn open(directory: &Path) -> Option<(OpenedLedger, LedgerFiles)> {
    match try_open(directory, NODE, None).await {
        Ok(opened) => Some(opened),
        Err(LedgerStartError::Files(error @ LogFilesError::NoDirectIo { .. })) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED, nothing was tested: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Turns the ledger, and sleeps between turns, until something is reported.
async fn next_durable(ledger: &mut Ledger, files: &mut LedgerFiles) -> Durable {
    loop {
        ledger.turn(Time::ZERO, files).unwrap();
        if let Some(durable) = ledger.poll_durable() {
            return durable;
        }
        poll_fn(|context| files.poll_ended(context)).await;
    }
}

/// Before a stop that is to lose nothing.
async fn settle(ledger: &mut Ledger, files: &mut LedgerFiles) {
    ledger.flush();
    ledger.turn(Time::ZERO, files).unwrap();
    while !ledger.is_idle() {
        poll_fn(|context| files.poll_ended(context)).await;
        ledger.turn(Time::ZERO, files).unwrap();
    }
}

fn entry(index: u64) -> LogEntry {
    let proposal = ProposalRecord {
        node: 1,
        incarnation: 1,
        only_term: 0,
        number: index,
        floor: 1,
    };
    let command = format!("command {index} ").repeat(1 + index as usize % 40);
    LogEntry {
        index,
        term: 1 + index / 50,
        body: EntryBody::Command(proposal, command.into_bytes()),
    }
}

fn snapshot(index: u64) -> Snapshot {
    let meta = SnapshotMeta {
        index,
        term: entry(index).term,
        configuration: ConfigurationRecord::default(),
    };
    let data = format!("state {index} ").repeat(3_000).into_bytes();
    Snapshot {
        meta,
        data: data.into(),
    }
}

/// Checks what was found against what is written here; the last entry.
fn check(recovered: &Recovered) -> u64 {
    let mut last = 0;
    if let Some(found) = &recovered.snapshot {
        last = found.meta.index;
        assert!(**found == snapshot(last), "the snapshot at {last}");
    }
    for found in &recovered.entries {
        assert_eq!(*found, entry(found.index));
        assert!(found.index <= last + 1, "a gap after {last}");
        last = last.max(found.index);
    }
    last
}

/// What follows entry `last`: entries, sometimes a snapshot of what was before them, sometimes one that replaces them all.
fn write(number: u64, last: u64, durable: u64) -> (LogWrite, u64) {
    let mut write = LogWrite {
        ticket: Some(Ticket(number)),
        hard_state: None,
        snapshot: None,
        truncate_from: None,
        entries: Vec::new(),
        drop_before: None,
    };
    let mut base = last;
    if number.is_multiple_of(13) && durable > 0 {
        write.snapshot = Some(SnapshotWrite {
            snapshot: Arc::new(snapshot(durable)),
            replaces_log: false,
        });
        write.drop_before = Some(durable.saturating_sub(20));
        return (write, last);
    }
    if number.is_multiple_of(31) {
        base = last + 5;
        write.snapshot = Some(SnapshotWrite {
            snapshot: Arc::new(snapshot(base)),
            replaces_log: true,
        });
    }
    let end = base + 1 + number % 6;
    write.entries = (base + 1..=end).map(entry).collect();
    write.hard_state = Some(HardState {
        term: entry(end).term,
        vote: end,
        commit: base,
    });
    (write, end)
}

/// Not a test of its own: what the process does that is killed.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Ok(directory) = std::env::var(CHILD) else {
        return;
    };
    run(async {
        let (opened, mut files) = open(Path::new(&directory)).await.unwrap();
        let OpenedLedger {
            mut ledger,
            recovered,
            ..
        } = opened;
        let mut last = check(&recovered);
        let mut durable = last;
        let mut out = std::io::stdout();
        let life = Incarnation(ledger.facts().incarnation.0 + 1);
        let ticket = ledger.record(Fact::Life(life)).unwrap();
        assert_eq!(
            next_durable(&mut ledger, &mut files).await,
            Durable::Fact(ticket)
        );
        writeln!(out, "durable life {}", life.0).unwrap();
        let mut ends = std::collections::VecDeque::new();
        for number in 1.. {
            let (next, end) = write(number, last, durable);
            last = end;
            ledger.write(next).unwrap();
            ends.push_back((Ticket(number), end));
            // Up to three at a time.
            while ends.len() > (number % 4) as usize {
                let report = next_durable(&mut ledger, &mut files).await;
                let (ticket, end) = ends.pop_front().unwrap();
                assert_eq!(report, Durable::Write(ticket));
                durable = end;
                writeln!(out, "durable entry {end}").unwrap();
                out.flush().unwrap();
            }
        }
    });
}

#[test]
fn what_was_confirmed_is_there_after_a_kill() {
    if !can_run(1) {
        return;
    }
    let directory = Directory::new("ledger-kill");
    let possible = run(async {
        let (_, files) = open(&directory.0).await?;
        files.close().await;
        Some(())
    });
    if possible.is_none() {
        return;
    }
    let mut rng = seeded(11, 0);
    for round in 0..8 {
        let kill_after = rng.random_range(1..200);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_that_writes_until_it_is_killed",
                "--nocapture",
            ])
            .env(CHILD, &directory.0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut entries, mut life, mut seen) = (0, 0, 0);
        for line in lines {
            let line = line.unwrap();
            // The first line shares its own with what the test harness says.
            if let Some((_, number)) = line.rsplit_once("durable life ") {
                life = number.parse().unwrap();
            } else if let Some((_, number)) = line.rsplit_once("durable entry ") {
                entries = number.parse().unwrap();
            } else {
                continue;
            }
            seen += 1;
            if seen == kill_after {
                child.kill().unwrap();
            }
        }
        assert!(seen >= kill_after, "the child ended by itself after {seen}");
        child.wait().unwrap();
        run(async {
            let (opened, files) = open(&directory.0).await.unwrap();
            let facts = opened.ledger.facts();
            assert_eq!(facts.incarnation, Incarnation(life), "round {round}");
            let last = check(&opened.recovered);
            assert!(
                last >= entries,
                "round {round}: {entries} was confirmed, {last} is the last"
            );
            let state = opened.recovered.hard_state;
            assert!(state.vote >= entries.min(last), "round {round}: {state:?}");
            files.close().await;
        });
    }
}

#[test]
fn what_stands_in_the_way_is_told() {
    if !can_run(1) {
        return;
    }
    let directory = Directory::new("ledger-way");
    run(async {
        let Some((mut opened, mut files)) = open(&directory.0).await else {
            return;
        };
        assert!(opened.created);
        let error = try_open(&directory.0, NODE, None).await.unwrap_err();
        let own = std::process::id().to_string();
        assert!(
            matches!(&error, LedgerStartError::Directory(DataDirectoryError::InUse { process, .. }) if *process == own),
            "{error}"
        );
        let ledger = &mut opened.ledger;
        ledger.record(Fact::Joined(ClusterId(7))).unwrap();
        settle(ledger, &mut files).await;
        files.close().await;

        let other = try_open(&directory.0, NodeId(6), None).await.unwrap_err();
        let text = other.to_string();
        let place = directory.0.join("ledger").display().to_string();
        assert!(text.contains(&place), "{text}");
        assert!(text.contains("the directory of node-5"), "{text}");
        let wanted = Some(ClusterId(8));
        let other = try_open(&directory.0, NODE, wanted).await.unwrap_err();
        assert!(other.to_string().contains("belongs to cluster"), "{other}");
        // Refused, it is free again.
        let (opened, files) = try_open(&directory.0, NODE, Some(ClusterId(7)))
            .await
            .unwrap();
        assert!(!opened.created);
        files.close().await;

        let file = directory.0.join("file");
        std::fs::write(&file, "").unwrap();
        let cases = [
            (file.clone(), "is not a directory"),
            (file.join("below"), "is not a directory"),
            (directory.0.join("missing/data"), "mount the disk"),
            // Nobody makes a directory there.
            (
                PathBuf::from("/sys/corecast-data"),
                "give its user the right",
            ),
        ];
        for (path, text) in cases {
            let error = try_open(&path, NODE, None).await.unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    });
}

/// A core that waits in its executor for its bell and its ledger at once is woken by either.
#[test]
fn a_core_that_sleeps_is_woken_by_a_write_and_by_its_bell() {
    if !can_run(1) {
        return;
    }
    let directory = Directory::new("ledger-wake");
    run(async {
        let Some((opened, mut files)) = open(&directory.0).await else {
            return;
        };
        let mut ledger = opened.ledger;
        settle(&mut ledger, &mut files).await;
        let bell = Arc::new(Doorbell::default());
        let rung = Arc::new(AtomicBool::new(false));
        let sleep = async |files: &LedgerFiles| {
            poll_fn(|context| {
                bell.announce_sleep(context.waker());
                let ended = files.poll_ended(context).is_ready();
                match ended || rung.swap(false, Ordering::SeqCst) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
            bell.awake();
        };
        let mut last = 0;
        for number in 1..40 {
            // Nobody rings: only the write can wake it.
            let (next, end) = write(number, last, 0);
            last = end;
            ledger.write(next).unwrap();
            ledger.turn(Time::ZERO, &mut files).unwrap();
            let reported = loop {
                if let Some(durable) = ledger.poll_durable() {
                    break durable;
                }
                assert!(files.under_way() > 0, "it would sleep for ever");
                sleep(&files).await;
                ledger.turn(Time::ZERO, &mut files).unwrap();
            };
            assert_eq!(reported, Durable::Write(Ticket(number)));
            settle(&mut ledger, &mut files).await;
            // Nothing is under way: only the bell can.
            let ringer = std::thread::spawn({
                let (bell, rung) = (bell.clone(), rung.clone());
                move || {
                    rung.store(true, Ordering::SeqCst);
                    bell.ring();
                }
            });
            sleep(&files).await;
            ringer.join().unwrap();
        }
        files.close().await;
    });
}

#[test]
fn ten_restarts_on_real_files() {
    if !can_run(1) {
        return;
    }
    let directory = Directory::new("ledger-restarts");
    let (mut disk, mut last) = (None, 0);
    for restart in 0..10 {
        let opened = run(async {
            let (opened, mut files) = open(&directory.0).await?;
            let OpenedLedger {
                mut ledger,
                recovered,
                ..
            } = opened;
            assert_eq!(check(&recovered), last, "restart {restart}");
            let known = *disk.get_or_insert(ledger.facts().disk);
            assert_eq!(ledger.facts().disk, known);
            for number in 1..60 {
                let (next, end) = write(number, last, last);
                last = end;
                ledger.write(next).unwrap();
                next_durable(&mut ledger, &mut files).await;
            }
            settle(&mut ledger, &mut files).await;
            files.close().await;
            Some(())
        });
        if opened.is_none() {
            return;
        }
        let files = std::fs::read_dir(directory.0.join("ledger")).unwrap();
        let count = files.count();
        assert!(count <= 8, "{count} files");
    }
}
