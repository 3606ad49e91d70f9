//! A thread-per-core, shard-native actor runtime for Linux.
//!
#![doc = include_str!("guide.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

// What can be known while it is built is not left for the first start.
#[cfg(panic = "abort")]
compile_error!(
    "with panic = \"abort\" a panic in one actor would end all of them and the process, and corecast promises to contain \
     it: remove panic = \"abort\" from the profile in Cargo.toml"
);

pub mod actor;
pub mod base;
pub mod behavior;
pub mod cluster;
pub mod consensus;
pub mod engine;
#[cfg(target_os = "linux")]
pub mod io;
pub mod links;
pub mod log;
pub mod membership;
pub mod mesh;
pub mod node;
pub mod persistence;
pub mod sharding;
pub mod sim;
pub mod stream;
pub mod wire;

pub use actor::awaiting::{AsyncActor, Awaiting};
pub use actor::context::Context;
pub use actor::directory::WrongMessageType;
pub use actor::ending::StopCause;
pub use actor::entity::{Capture, EntityType};
pub use actor::entity_id::{EntityId, InlineKey, KeyTooLong};
pub use actor::event_stream::{Events, SubscribeError, Subscription};
pub use actor::events::{
    ActorInfo, ActorRestarted, ActorStarted, ActorStopped, DeadLetter, EntityInfo, Event,
    UnhandledMessage,
};
pub use actor::family::Child;
pub use actor::handle::Handle;
pub use actor::lookup::LookupError;
pub use actor::mailbox::{Mailbox, Policy};
pub use actor::model::{Actor, Fault, Next};
pub use actor::named_timers::TimerName;
pub use actor::pending::Pending;
pub use actor::reference::{ActorRef, AnyActorRef, Destination, EntityAt, EntityRef, Region};
pub use actor::refusal::{AskError, Refused, Rejection, SpawnError, TaskError, Uncertainty};
pub use actor::reply::ReplyTo;
pub use actor::scope::Scope;
pub use actor::spawn::SpawnOptions;
pub use actor::supervision::{Backoff, Directive, Strategy, Supervision};
pub use actor::task::Executor;
pub use actor::watch::Terminated;
pub use actor::wire_id::WireId;
pub use base::ids::{CoreId, EntityTypeId, Epoch, Incarnation, NodeId, ShardId, ShardKey};
pub use base::time::Time;
pub use behavior::behaving::Behaving;
pub use behavior::effect::Effect;
pub use behavior::event_sourced::{EventSourced, SourcedContext};
pub use behavior::sourced::Sourced;
pub use behavior::value::Behavior;
pub use engine::stats::{CoreStats, Stats};
#[cfg(target_os = "linux")]
pub use io::cluster::status::ClusterError;
#[cfg(target_os = "linux")]
pub use io::cluster::view::{ClusterChanged, ClusterEnd, ClusterPhase, ClusterView};
pub use membership::event::{MemberDown, MemberLeft, MemberUp, ReachableMember, UnreachableMember};
pub use membership::view::{Member, MemberState};
#[cfg(target_os = "linux")]
pub use node::cluster::args::ClusterArgs;
#[cfg(target_os = "linux")]
pub use node::cluster::handle::Cluster;
#[cfg(target_os = "linux")]
pub use node::cluster::settings::ClusterSettings;
pub use node::pinning_args::PinningArgs;
#[cfg(target_os = "linux")]
pub use node::runtime::{Runtime, RuntimeBuilder, ShutdownReport};
pub use node::settings::Settings;
#[cfg(target_os = "linux")]
pub use node::start_error::StartError;
pub use persistence::error::{JournalError, SourcingError};
pub use persistence::id::PersistenceId;
pub use persistence::journal::Journal;
pub use persistence::memory::InMemoryJournal;
pub use persistence::progress::Snapshots;
pub use persistence::record::{Payload, Record, Sequence};
pub use sharding::move_error::MoveError;
pub use sharding::topology::{Allocation, Topology};
pub use stream::consumer::Consumer;
pub use stream::error::{PushError, StreamError, StreamGone};
pub use stream::feed::{Feed, StreamEvent};
pub use stream::reference::StreamRef;
pub use stream::settings::StreamSettings;
pub use stream::source::Source;
pub use wire::message::{Message, WireMessage};

/// The version of `rand` whose traits the generators of [`Context::rng`] and [`Scope::rng`] have.
pub use rand;

/// The program in `README.md` compiles and runs.
#[cfg(all(doctest, target_os = "linux"))]
#[doc = include_str!("../README.md")]
struct Readme;
