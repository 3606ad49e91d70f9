//! corecast
pub mod base;
pub mod mesh;
pub mod wire;
pub mod sharding;
pub mod actor;
pub mod engine;
#[cfg(target_os = "linux")]
pub mod io;
pub mod node;
pub use base::time::Time;
pub use wire::message::{Message, WireMessage};
pub use actor::{actor::*, awaiting::*, context::*, entity::*, entity_id::*, handle::*, mailbox::*, pending::*, reference::*, refusal::*, reply::*, scope::*, task::*};
