//! The driver on Linux: io_uring executors, sockets, files and clocks.

pub mod blocking_pool;
pub mod cluster;
pub mod core_thread;
pub mod data_directory;
pub mod descriptors;
pub mod leaked_eventfd;
pub mod ledger_files;
mod lock_file;
pub mod locked_memory;
pub mod log_files;
pub mod machine;
pub mod preflight;
pub(crate) mod runtime_clock;
pub mod start_error;
pub mod watchdog;
