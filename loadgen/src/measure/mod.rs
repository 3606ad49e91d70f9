//! Measuring apart from reporting: recorders, one per core, that are merged and summed up when a phase has ended.

mod hiccups;
mod lag;
mod latency;
mod recorder;
mod summary;
mod timeline;

pub use hiccups::{HiccupSummary, Hiccups, SHORTEST_GAP};
pub use lag::{LAG_SHARE, LAG_THRESHOLD, Lag, LagSummary, Validity};
pub use latency::{CurvePoint, Latencies, LatencySummary, MAX_LATENCY};
pub use recorder::{Recorder, Stamps, Window};
pub use summary::{PhaseLabel, PhaseSummary};
pub use timeline::{Timeline, TimelineSummary};
