//! The command line: what the flags are, and the checked job they amount to.

mod args;
mod balancer;
mod cli;
mod fault;
mod job;
mod nodes;
mod pacing;
mod wire;

pub use args::{
    CommonArgs, DriverArgs, Drivers, MessageArgs, OutputArgs, PopulationArgs, TimingArgs,
};
pub use balancer::{BalancerArgs, Balancing};
pub use cli::{Cli, FanOutArgs, LoadArgs, Mix, MixedArgs, ReplayArgs, RingArgs, Scenario};
pub use fault::{FaultKind, FaultSpec, Who};
pub use job::{FanOut, Job, Load, PhaseSpec, Replay, Ring, Setting, Traffic, Work};
pub use nodes::{MAX_NODES, Nodes, NodesArgs};
pub use pacing::{Pacing, PacingArgs, Rate};
pub use wire::{Wire, WireArgs};
