//! The driver on Linux: io_uring executors, sockets, files and clocks.

pub mod locked_memory;
pub mod machine;
pub mod preflight;
pub mod start_error;
