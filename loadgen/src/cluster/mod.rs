//! Nodes as processes, from outside: where they are, how they are started, what is said between them and this process,
//! and faults.

pub mod bare_tcp;
pub mod error;
pub mod excuses;
pub mod fleet;
pub mod lines;
pub mod namespaces;
pub mod place;
pub mod process;
pub mod protocol;
