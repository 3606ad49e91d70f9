//! What messages look like as bytes.

pub mod archive;
pub mod message;
