//! What the tests on real files and real io_uring have in common.

pub mod directory;
pub mod executor;
pub mod requirements;
