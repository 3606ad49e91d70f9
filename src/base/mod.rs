//! The ground everything stands on: identities, time, seeded randomness, the stable hash, containers and limits.
//!
//! Nothing here does I/O, reads a clock or draws from an unseeded source.

pub mod ids;
pub mod rng;
pub mod stable_hash;
pub mod time;
