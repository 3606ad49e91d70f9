//! The parts of the cluster, several nodes at a time over a virtual network.
//!
//! By default each test runs few seeds. For a long run, `CORECAST_SEEDS=1000 cargo test --test cluster`; to replay one
//! seed, the line that a failing test prints.
//!
//! The largest cluster is left out by default: `cargo test --test cluster -- --ignored --nocapture` prints the curve of it.

mod consensus;
mod consensus_disk;
mod consensus_faults;
mod consensus_judge;
mod consensus_ledger;
mod consensus_node;
mod consensus_planted;
mod consensus_world;
mod control;
mod control_faults;
mod control_judge;
mod control_links;
mod control_node;
#[cfg(target_os = "linux")]
mod control_sockets;
mod control_world;
mod founding;
mod ledger;
mod ledger_model;
mod ledger_node;
mod ledger_rules;
mod links;
mod links_agree;
mod links_driver;
mod links_world;
mod members;
mod membership;
mod membership_scale;
mod plane;
mod plane_alone;
mod plane_world;
mod seeds;
