//! `loadgen`: reads the command line and runs the job.

use std::process::ExitCode;

use loadgen::exit;
use loadgen::options::Cli;
use loadgen::run;

fn main() -> ExitCode {
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
