//! A log on real files: what was confirmed is there after the process has been killed, and what stands in the way of a
//! log is told.
#![cfg(target_os = "linux")]

mod common;

use common::directory::Directory;
use common::executor::run;
use common::requirements::can_run;
use corecast::base::time::Time;
use corecast::io::log_files::{LogFiles, LogFilesError};
use corecast::log::{
    Identity, Index, Log, LogId, LogSettings, LogStore, OpenError, Recovered, Recovery,
};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Tells the test that runs itself again where its log is.
const CHILD: &str = "CORECAST_TEST_LOG_DIRECTORY";

fn directory(name: &str) -> Directory {
    let directory = Directory::new(&format!("log-{name}"));
    std::fs::create_dir_all(&directory.0).unwrap();
    directory
}

/// Opens the files, unless the file system cannot.
async fn files(directory: &Path) -> Option<LogFiles> {
    match LogFiles::open(directory).await {
        Ok(files) => Some(files),
        Err(error @ LogFilesError::NoDirectIo { .. }) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED, nothing was tested: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn settings() -> LogSettings {
    LogSettings {
        segment_bytes: 256 << 10,
        max_batch_bytes: 32 << 10,
        max_record_bytes: 16 << 10,
        max_unsynced_bytes: 256 << 10,
        max_segments: 16,
        spares: 2,
        read_bytes: 64 << 10,
    }
}

/// The log, its first entry and all entries.
async fn open(files: &mut LogFiles) -> Result<(Log, u64, Vec<Vec<u8>>), OpenError> {
    let mut recovery = Recovery::new(settings(), Identity::OrNew(LogId(77)))?;
    let (mut first, mut entries) = (1, Vec::new());
    loop {
        while let Some(recovered) = recovery.next_recovered()? {
            match recovered {
                Recovered::Entry { payload, .. } => entries.push(payload.to_vec()),
                Recovered::Dropped { first: to } => {
                    let gone = (to.0 - first).min(entries.len() as u64);
                    entries.drain(..gone as usize);
                    first = to.0;
                }
                other => panic!("{other:?} was never appended"),
            }
        }
        if let Some(opened) = recovery.take_opened() {
            return Ok((opened.log, first, entries));
        }
        while let Some((ticket, operation)) = recovery.next_operation() {
            files.submit(Time::ZERO, ticket, operation);
        }
        files.wait().await;
        while let Some((ticket, result)) = files.poll(Time::ZERO) {
            recovery.completed(ticket, result)?;
        }
    }
}

/// One round of operations.
async fn turn(log: &mut Log, files: &mut LogFiles) {
    while let Some((ticket, operation)) = log.next_operation() {
        files.submit(Time::ZERO, ticket, operation);
    }
    files.wait().await;
    while let Some((ticket, result)) = files.poll(Time::ZERO) {
        log.completed(ticket, result).unwrap();
    }
}

fn content(index: u64) -> Vec<u8> {
    format!("entry {index} ")
        .repeat(1 + index as usize % 40)
        .into_bytes()
}

fn check(first: u64, entries: &[Vec<u8>]) {
    for (index, entry) in (first..).zip(entries) {
        assert_eq!(*entry, content(index), "entry {index}");
    }
}

#[test]
fn what_was_written_is_read_again() {
    if !can_run(1) {
        return;
    }
    let directory = directory("again");
    let mut expected = 0;
    for life in 0..4_u64 {
        run(async {
            let Some(mut files) = files(&directory.0).await else {
                return;
            };
            let (mut log, first, entries) = open(&mut files).await.unwrap();
            assert_eq!(first + entries.len() as u64, expected + 1);
            check(first, &entries);
            for number in 0..2_000 {
                let next = log.next().0;
                log.append(1, &content(next)).unwrap();
                if number % 16 == 0 {
                    turn(&mut log, &mut files).await;
                }
                // Old ones go, so that files are recycled.
                if number % 500 == 499 && life > 0 {
                    log.drop_before(Index(next - 300)).unwrap();
                }
            }
            while !log.is_idle() {
                turn(&mut log, &mut files).await;
            }
            assert_eq!(log.durable(), log.appended());
            expected = log.next().0 - 1;
            files.close().await;
        });
        let names = std::fs::read_dir(&directory.0).unwrap().count();
        assert!(names <= 16 + 2 + 2, "{names} files");
    }
}

/// Not a test of its own: what the process does that is killed.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Ok(directory) = std::env::var(CHILD) else {
        return;
    };
    run(async {
        let mut files = LogFiles::open(Path::new(&directory)).await.unwrap();
        let (mut log, first, entries) = open(&mut files).await.unwrap();
        check(first, &entries);
        let mut out = std::io::stdout();
        loop {
            let mut last = log.next();
            for _ in 0..1 + log.next().0 % 7 {
                last = log.append(1, &content(log.next().0)).unwrap().index;
            }
            if last.0 % 5 == 0 && last.0 > 400 {
                log.drop_before(Index(last.0 - 400)).unwrap();
            }
            while log.durable() < log.appended() {
                turn(&mut log, &mut files).await;
            }
            writeln!(out, "durable {last}").unwrap();
            out.flush().unwrap();
        }
    });
}

#[test]
fn what_was_confirmed_is_there_after_a_kill() {
    if !can_run(1) {
        return;
    }
    let directory = directory("kill");
    if run(async { files(&directory.0).await.is_none() }) {
        return;
    }
    for round in 0..6 {
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
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut confirmed = 0;
        let mut seen = 0;
        for line in &mut lines {
            let line = line.unwrap();
            // The first line shares its own with what the test harness says.
            let Some((_, index)) = line.rsplit_once("durable ") else {
                continue;
            };
            confirmed = index.parse().unwrap();
            seen += 1;
            if seen == 40 + 37 * round {
                child.kill().unwrap();
            }
        }
        assert!(
            seen >= 40 + 37 * round,
            "the child ended by itself after {seen}"
        );
        child.wait().unwrap();
        run(async {
            let mut files = files(&directory.0).await.unwrap();
            let (log, first, entries) = open(&mut files).await.unwrap();
            check(first, &entries);
            assert_eq!(first + entries.len() as u64, log.next().0);
            assert!(
                log.next().0 > confirmed,
                "{confirmed} was confirmed, {} is next",
                log.next()
            );
            files.close().await;
        });
    }
}

#[test]
fn what_stands_in_the_way_is_told() {
    if !can_run(1) {
        return;
    }
    let directory = directory("way");
    run(async {
        let missing = directory.0.join("missing");
        let error = LogFiles::open(&missing).await.unwrap_err();
        assert!(
            matches!(&error, LogFilesError::NoDirectory { .. }),
            "{error}"
        );
        assert!(error.to_string().contains("mount"), "{error}");

        let file = directory.0.join("file");
        std::fs::write(&file, "").unwrap();
        let error = LogFiles::open(&file).await.unwrap_err();
        assert!(error.to_string().contains("takes a directory"), "{error}");

        let Some(first) = files(&directory.0).await else {
            return;
        };
        let error = LogFiles::open(&directory.0).await.unwrap_err();
        let own = std::process::id().to_string();
        assert!(
            matches!(&error, LogFilesError::InUse { process, .. } if *process == own),
            "{error}"
        );
        first.close().await;
        // A process that another test forks at this moment holds the lock as well, until it has become the program that it is
        // to be.
        let mut tries = 0;
        let again = loop {
            match LogFiles::open(&directory.0).await {
                Err(LogFilesError::InUse { .. }) if tries < 1_000 => {
                    tries += 1;
                    glommio::timer::sleep(Duration::from_millis(5)).await;
                }
                opened => break opened,
            }
        };
        again.unwrap().close().await;
    });
}
