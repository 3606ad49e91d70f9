//! Running a job: the runtime, drivers inside and outside of its cores, the books, and one file for each scenario.

mod balancing;
mod board;
pub(crate) mod clock;
mod cluster;
mod cluster_replay;
mod course;
mod driver;
mod effort;
mod entity;
mod error;
mod fan_out;
mod feeder;
mod generator;
mod interrupt;
mod ledger;
mod lineup;
mod listening;
mod load;
mod memory;
mod mover;
mod node;
mod outside;
mod payload;
mod replay;
mod ring;
mod session;
mod settings;
mod shard_watch;
mod spawning;
mod stage;
mod tally_entity;
mod targets;
mod wire;
mod worker;

pub use node::run as run_node;
pub use session::run;
