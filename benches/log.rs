//! How fast a log on this machine's disk is: 80-byte records with so many writers in flight, each of which appends its next
//! record when the one before is durable.
//!
//! `cargo bench --bench log` writes below the target directory, `cargo bench --bench log -- DIRECTORY` into a new directory
//! there; `--quick` for a second each. Measure on a machine that does nothing else: a flush waits for every other one.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "a program that prints")]

use corecast::base::time::Time;
use corecast::io::leaked_eventfd;
use corecast::io::log_files::LogFiles;
use corecast::io::watchdog::Watchdog;
use corecast::log::{Identity, Log, LogId, LogSettings, LogStore, Position, Recovery};
use glommio::{LocalExecutorBuilder, Placement};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const RECORD: [u8; 80] = [0x5a; 80];

fn main() {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let quick = words.iter().any(|word| word == "--quick");
    words.retain(|word| !word.starts_with("--"));
    let parent = words
        .first()
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let lasts = Duration::from_secs(if quick { 1 } else { 5 });
    println!(
        "{} bytes a record, {} s each, in {}",
        RECORD.len(),
        lasts.as_secs(),
        parent.display()
    );
    println!(
        "{:>8} {:>12} {:>10} {:>10} {:>10} {:>10}",
        "writers", "records/s", "p50 us", "p99 us", "p99.9 us", "max us"
    );
    for writers in [1, 64, 512, 4_096] {
        let directory = parent.join(format!("log-bench-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("the directory can be made");
        let (count, elapsed, mut acks) = measure(&directory, writers, lasts);
        std::fs::remove_dir_all(&directory).expect("the directory can be removed");
        acks.sort_unstable();
        let at = |part: f64| {
            let index = (acks.len() as f64 * part) as usize;
            f64::from(acks[index.min(acks.len() - 1)]) / 1_000.0
        };
        println!(
            "{writers:>8} {:>12.0} {:>10.0} {:>10.0} {:>10.0} {:>10.0}",
            count as f64 / elapsed.as_secs_f64(),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        );
    }
}

/// How many records were acknowledged, in which time, and after how many nanoseconds each (of every eighth at most).
fn measure(directory: &Path, writers: usize, lasts: Duration) -> (u64, Duration, Vec<u32>) {
    let made = leaked_eventfd::watch(|| {
        LocalExecutorBuilder::new(Placement::Unbound)
            .preempt_timer(Duration::from_millis(1))
            .make()
    });
    let (executor, eventfd) = made.expect("an executor starts");
    let eventfd = Arc::new(eventfd);
    // On a busy machine an executor may sleep over its own work: see the watchdog.
    let watchdog = Watchdog::start(vec![eventfd.clone()]).expect("a thread starts");
    let measured = executor.run(async {
        let mut files = LogFiles::open(directory)
            .await
            .expect("the directory is usable");
        let mut log = open(&mut files).await;
        let mut waiting: VecDeque<(Position, Instant)> = VecDeque::new();
        let mut acks = Vec::new();
        let mut count = 0;
        let started = Instant::now();
        while started.elapsed() < lasts {
            let now = Instant::now();
            while waiting.len() < writers {
                let appended = log
                    .append(1, &RECORD)
                    .expect("there is room for all writers");
                waiting.push_back((appended.position, now));
            }
            // What is confirmed is not needed any more: files are recycled, as in a log that is short.
            let confirmed = log.next().0 - waiting.len() as u64;
            if confirmed > log.first().0 + 100_000 {
                let _ = log.drop_before(corecast::log::Index(confirmed));
            }
            turn(&mut log, &mut files).await;
            let now = Instant::now();
            while let Some((position, since)) = waiting.front()
                && *position <= log.durable()
            {
                if count % 8 == 0 || writers < 512 {
                    acks.push(now.duration_since(*since).as_nanos() as u32);
                }
                count += 1;
                waiting.pop_front();
            }
        }
        let elapsed = started.elapsed();
        while !log.is_idle() {
            turn(&mut log, &mut files).await;
        }
        files.close().await;
        (count, elapsed, acks)
    });
    drop((watchdog, executor));
    measured
}

async fn open(files: &mut LogFiles) -> Log {
    let mut recovery = Recovery::new(LogSettings::default(), Identity::OrNew(LogId(1)))
        .expect("the defaults are fine");
    loop {
        while recovery
            .next_recovered()
            .expect("a new log is whole")
            .is_some()
        {}
        if let Some(opened) = recovery.take_opened() {
            return opened.log;
        }
        while let Some((ticket, operation)) = recovery.next_operation() {
            files.submit(Time::ZERO, ticket, operation);
        }
        files.wait().await;
        while let Some((ticket, result)) = files.poll(Time::ZERO) {
            recovery.completed(ticket, result).expect("the log opens");
        }
    }
}

async fn turn(log: &mut Log, files: &mut LogFiles) {
    while let Some((ticket, operation)) = log.next_operation() {
        files.submit(Time::ZERO, ticket, operation);
    }
    files.wait().await;
    while let Some((ticket, result)) = files.poll(Time::ZERO) {
        log.completed(ticket, result).expect("the disk works");
    }
}
