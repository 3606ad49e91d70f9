//! Nodes of a cluster as processes of their own, on loopback: this program runs itself again for each of them.
//!
//! `cargo test --test cluster_processes -- --ignored --nocapture` measures how long forming and fail-over take.
//!
//! Its tests wait far more than they compute, so it brings a harness that runs more of them at once than there are CPUs.

#[cfg(target_os = "linux")]
#[path = "harness.rs"]
mod harness;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    harness::run()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
