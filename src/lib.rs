//! corecast
pub mod base;
pub use base::time::Time;
