//! Nodes of a cluster as processes of their own, on loopback: this binary runs itself again for each of them.
//!
//! `cargo test --test cluster_processes -- --ignored --nocapture` measures how long forming and fail-over take.
#![cfg(target_os = "linux")]

mod cells;
#[path = "../common/directory.rs"]
mod directory;
mod entities;
mod errands;
mod failures;
mod formation;
mod hostile;
mod in_process;
mod measured;
mod networks;
mod node;
mod outage;
mod partitions;
mod pouring;
mod process;
#[path = "../common/requirements.rs"]
mod requirements;
mod rolling;
