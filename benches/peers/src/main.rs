//! Runs the same workloads on corecast, on other actor libraries and on bare threads, taking turns in one process,
//! and prints how they compare.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml -- --help`

mod bare;
mod machine;
mod measure;
#[cfg(feature = "corecast")]
mod own_actors;
#[cfg(feature = "corecast")]
mod own_corecast;
mod peer;
mod peer_actix;
mod peer_kameo;
mod peer_ractor;
mod raw;
mod report;
mod system;
mod tokio_threads;
mod workload;

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use thiserror::Error;

use crate::machine::Machine;
use crate::measure::{Cpus, RunError, Sample};
use crate::report::{Report, Row};
use crate::system::System;
use crate::workload::Workload;

/// Compares corecast with kameo, ractor, actix and bare threads. Leave the machine idle meanwhile.
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    /// Only this workload; may be given more than once.
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Workload>,
    /// How often each row is repeated, the systems taking turns.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// A twentieth of the work, to try the program out.
    #[arg(long)]
    quick: bool,
    /// Also writes the results to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Error)]
enum MainError {
    #[error(
        "cannot tell which CPUs this process may use: run it where sched_getaffinity is allowed"
    )]
    Affinity,
    #[error("{} in {}: {error}", system.name(), workload.name())]
    Run {
        system: System,
        workload: Workload,
        error: RunError,
    },
    #[error("cannot write the results to {}: {error}; check the directory and its permissions", path.display())]
    Json {
        path: PathBuf,
        error: std::io::Error,
    },
}

fn main() -> ExitCode {
    match compare(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corecast-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(flags: &Flags) -> Result<(), MainError> {
    let cpus = machine::cpus().ok_or(MainError::Affinity)?;
    let mut report = Report::new(Machine::read(), flags.runs, flags.quick);
    println!("{}", report.heading());
    for workload in Workload::ALL
        .into_iter()
        .filter(|workload| flags.only.is_empty() || flags.only.contains(workload))
    {
        if workload.needs_two_cpus() && cpus.first == cpus.second {
            println!(
                "\n{}: left out, it takes two CPUs and this process may use one",
                workload.name()
            );
            continue;
        }
        let row = measure_row(workload, flags, cpus)?;
        print!("{}", row.table());
        report.rows.push(row);
    }
    match &flags.json {
        Some(path) => write_json(&report, path),
        None => Ok(()),
    }
}

/// All runs of one workload: every system once, then every system again.
fn measure_row(workload: Workload, flags: &Flags, cpus: Cpus) -> Result<Row, MainError> {
    let size = workload.size(flags.quick);
    let mut samples: Vec<(System, Vec<Sample>)> = System::ALL
        .iter()
        .map(|&system| (system, Vec::new()))
        .collect();
    for run in 1..=flags.runs {
        for (system, samples) in &mut samples {
            eprint!(
                "\r{}: run {run} of {}, {:10}",
                workload.name(),
                flags.runs,
                system.name()
            );
            let sample = system.run(workload, size, cpus);
            samples.push(sample.map_err(|error| MainError::Run {
                system: *system,
                workload,
                error,
            })?);
        }
    }
    eprint!("\r{:60}\r", "");
    Ok(Row::new(workload, size, &samples))
}

fn write_json(report: &Report, path: &Path) -> Result<(), MainError> {
    let failed = |error| MainError::Json {
        path: path.to_owned(),
        error,
    };
    let file = File::create(path).map_err(failed)?;
    serde_json::to_writer_pretty(BufWriter::new(file), report).map_err(|error| failed(error.into()))
}
