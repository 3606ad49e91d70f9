//! The ground everything stands on: identities, time, seeded randomness, the stable hash, containers and limits.
//!
//! Nothing here does I/O, reads a clock or draws from an unseeded source.

pub mod cpu_list;
pub mod fields;
pub(crate) mod give_back;
pub mod ids;
pub mod machine;
pub mod paged;
pub mod rng;
pub mod stable_hash;
pub mod time;
pub mod timer_wheel;
