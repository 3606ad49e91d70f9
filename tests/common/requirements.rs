//! What a test needs of the system that it runs on.

use corecast::io::{locked_memory::IoDemand, machine, preflight};
use std::io::Write;

/// Whether this system has io_uring, and room for so many executors; if not, says so.
pub fn can_run(executors: usize) -> bool {
    let demand = IoDemand {
        executors,
        io_memory_bytes: 64 << 10,
        ring_depth: 32,
    };
    let checked = preflight::check(&machine::read_machine().unwrap(), &demand);
    if let Err(error) = &checked {
        let _ = writeln!(std::io::stderr(), "SKIPPED, nothing was tested: {error}");
    }
    checked.is_ok()
}
