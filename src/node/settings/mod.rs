//! The settings of a runtime, their rules, and the plan they make with a machine. Pure: nothing here reads the machine.

mod core_selection;
mod error;
mod fields;
mod plan;
pub mod units;
mod validate;

pub use core_selection::{CoreSelection, CoreSelectionError};
pub use error::SettingsError;
pub use fields::{ParkPolicy, Settings};
pub use plan::{DEFAULT_SPIN, Plan};
