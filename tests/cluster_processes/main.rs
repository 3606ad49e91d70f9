//! Nodes of a cluster as processes of their own, on loopback: this binary runs itself again for each of them.
//!
//! `cargo test --test cluster_processes -- --ignored --nocapture` measures how long forming and fail-over take.
#![cfg(target_os = "linux")]

mod cells;
mod entities;
mod errands;
mod failures;
mod formation;
mod hostile;
mod in_process;
mod measured;
mod node;
mod pouring;
mod process;
mod rolling;
mod traffic;
