//! Several nodes on one virtual network: every test runs many seeds, each twice and compared.
//!
//! By default each test runs few seeds. For a long run, `CORECAST_SEEDS=10000 cargo test --test cluster`; to replay one
//! seed, the line that a failing test prints.

mod consensus;
mod consensus_disk;
mod consensus_faults;
mod consensus_judge;
mod consensus_node;
mod consensus_planted;
mod consensus_world;
mod founding;
mod seeds;
