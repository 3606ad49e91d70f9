#![doc = "corecast"]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod actor;
pub mod base;
pub mod engine;
pub mod sim;
#[cfg(target_os = "linux")]
pub mod io;
pub mod mesh;
pub mod node;
pub mod sharding;
pub mod wire;

pub use actor::model::{Actor, Fault, Next};
pub use actor::awaiting::{AsyncActor, Awaiting};
pub use actor::context::Context;
pub use actor::entity::{Capture, EntityType};
pub use actor::entity_id::{EntityId, InlineKey, KeyTooLong};
pub use actor::handle::Handle;
pub use actor::mailbox::{Mailbox, Policy};
pub use actor::pending::Pending;
pub use actor::reference::{ActorRef, Destination, EntityAt, EntityRef, Region};
pub use actor::refusal::{AskError, Refused, Rejection, SpawnError, TaskError, Uncertainty};
pub use actor::reply::ReplyTo;
pub use actor::scope::Scope;
pub use actor::task::Executor;
pub use base::ids::{CoreId, EntityTypeId, Epoch, ShardId, ShardKey};
pub use base::time::Time;
pub use engine::stats::{CoreStats, Stats};
pub use node::pinning_args::PinningArgs;
#[cfg(target_os = "linux")]
pub use node::runtime::{Runtime, RuntimeBuilder, ShutdownReport};
pub use node::settings::Settings;
#[cfg(target_os = "linux")]
pub use node::start_error::StartError;
pub use sharding::move_error::MoveError;
pub use sharding::topology::{Allocation, Topology};
pub use wire::message::{Message, WireMessage};
