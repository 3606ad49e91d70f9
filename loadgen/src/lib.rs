//! The parts of `loadgen`, the load generator of corecast: what to run, which keys and when, how it is measured, how it
//! is reported, and the replay of a real file with an exact check of the result.

pub mod arrivals;
pub mod cluster;
pub mod exit;
pub mod keys;
pub mod measure;
pub mod options;
pub mod replay;
pub mod report;
pub mod run;
pub mod saturation;
pub mod units;
