//! `loadgen`: reads the command line and runs the job.

use std::process::ExitCode;

use loadgen::exit;
use loadgen::options::Cli;

fn main() -> ExitCode {
    match Cli::job(std::env::args_os()) {
        Ok(_job) => ExitCode::SUCCESS,
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
