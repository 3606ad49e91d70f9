//! What a run leaves behind: a table, files, verdicts, and the live progress line.

mod balance;
mod baseline;
mod cluster;
mod faults;
mod files;
mod hgrm;
mod hiccups;
mod html;
mod json;
mod machine;
mod model;
mod progress;
mod slo;
mod table;
mod wire;

pub use balance::{BalanceReport, ShardMove, TWICE_WITHIN};
pub use baseline::{Comparison, Figure};
pub use cluster::{ClusterReport, EventReport, NEVER_ENDED, NodePhase, NodeReport};
pub use faults::{FaultReport, Unavailability};
pub use files::{check_writable, write_files};
pub use hgrm::{hgrm_path, write_hgrm};
pub use html::page;
pub use json::{ReportError, read_json, write_json};
pub use machine::{Machine, commit};
pub use model::{MACHINE, REPORT_VERSION, ReplayColumn, ReplayReport, Report, SATURATION};
pub use progress::{Activity, Progress, Status};
pub use slo::{Bound, Quantity, Slo, SloError, SloVerdict};
pub use table::{write_comparison, write_report};
pub use wire::{WireReport, WireRound};
