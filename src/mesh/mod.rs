//! The lanes between the cores of one node.

pub mod doorbell;
pub mod lane;
