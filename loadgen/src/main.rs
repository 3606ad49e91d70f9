//! `loadgen`: reads the command line and runs the job.
//!
//! A run over a cluster starts this program again for each node, and the comparison with bare TCP for its other end.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::ExitCode;

use loadgen::cluster::bare_tcp::{PEER, serve};
use loadgen::cluster::fleet::NODE;
use loadgen::exit;
use loadgen::options::Cli;
use loadgen::run;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_deref().and_then(OsStr::to_str) {
        Some(NODE) => return run::run_node(arguments),
        Some(PEER) => {
            let served = serve(arguments);
            let complaint = served.map_err(|error| writeln!(std::io::stderr(), "loadgen: {error}"));
            return ExitCode::from(u8::from(complaint.is_err()));
        }
        _ => {}
    }
    match Cli::job(std::env::args_os()) {
        Ok(job) => run::run(&job).into(),
        Err(error) => {
            let _ = error.print();
            if error.use_stderr() {
                ExitCode::from(exit::USAGE)
            } else {
                ExitCode::SUCCESS
            }
        }
    }
}
