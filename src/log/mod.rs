//! A segmented, durable log: preallocated and recycled files, checksums, group commit, and a torn end that is cut.
//!
//! The consensus log is one, and the journals of entities build on it. It is a state machine without I/O: a driver does
//! what [`Operation`]s say. (glommio's files do in `io::log_files`, and a disk that loses, tears and fails in
//! `sim::SimDisk`.)
//!
//! ```
//! use corecast::base::time::Time;
//! use corecast::log::{Identity, Index, LogId, LogSettings, LogStore, OpenError, Opened, Recovered, Recovery};
//! use corecast::sim::SimDisk;
//!
//! /// Opens a log, and collects the entries that it has.
//! fn open(now: &mut Time, store: &mut impl LogStore) -> Result<(Opened, Vec<Vec<u8>>), OpenError> {
//!     let mut recovery = Recovery::new(LogSettings::default(), Identity::OrNew(LogId(7)))?;
//!     let mut entries: Vec<Vec<u8>> = Vec::new();
//!     loop {
//!         while let Some(recovered) = recovery.next_recovered()? {
//!             match recovered {
//!                 Recovered::Entry { payload, .. } => entries.push(payload.to_vec()),
//!                 Recovered::Truncated { from } => entries.truncate(from.0 as usize - 1),
//!                 _ => {} // nothing else is appended in this example
//!             }
//!         }
//!         if let Some(opened) = recovery.take_opened() {
//!             return Ok((opened, entries));
//!         }
//!         while let Some((ticket, operation)) = recovery.next_operation() {
//!             store.submit(*now, ticket, operation);
//!         }
//!         *now = *now + std::time::Duration::from_millis(1);
//!         while let Some((ticket, result)) = store.poll(*now) {
//!             recovery.completed(ticket, result)?;
//!         }
//!     }
//! }
//!
//! let disk = SimDisk::new(17);
//! let mut now = Time::ZERO;
//! let mut store = disk.mount();
//! let (Opened { mut log, created, .. }, entries) = open(&mut now, &mut store).unwrap();
//! assert!(created && entries.is_empty());
//!
//! let appended = log.append(1, b"to be kept").unwrap();
//! assert_eq!(appended.index, Index(1));
//! while log.durable() < appended.position {
//!     while let Some((ticket, operation)) = log.next_operation() {
//!         store.submit(now, ticket, operation);
//!     }
//!     now = now + std::time::Duration::from_millis(1);
//!     while let Some((ticket, result)) = store.poll(now) {
//!         log.completed(ticket, result).unwrap();
//!     }
//! }
//!
//! disk.crash();
//! let (opened, entries) = open(&mut now, &mut disk.mount()).unwrap();
//! assert!(!opened.created);
//! assert_eq!(entries, [b"to be kept"]);
//! ```

pub mod error;
pub mod format;
mod found;
mod gather;
pub mod index;
mod kept;
#[allow(
    clippy::module_inception,
    reason = "the type that this module is about, in a file of its name"
)]
pub mod log;
mod reader;
pub mod recovered;
pub mod recovery;
mod replay;
mod segments;
pub mod settings;
pub mod store;

#[cfg(test)]
mod format_tests;

pub use error::{LogError, OpenError, Place, Refused};
pub use format::LogId;
pub use index::{Appended, Index, Position};
pub use log::Log;
pub use recovered::{Identity, Opened, Recovered};
pub use recovery::Recovery;
pub use settings::{LogSettings, LogSettingsError, MAX_STATE_BYTES, STATE_SLOTS};
pub use store::{
    FileName, FoundFile, LogStore, Operation, Outcome, StoreError, StoreErrorKind, Ticket,
    WriteBuffer,
};
