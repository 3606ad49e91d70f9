//! What travels between nodes, as bytes: messages and their types, frames, and how a connection begins.
//!
//! Nothing here does I/O. [`reader::FrameReader`] takes bytes as they come and gives frames where they lie,
//! [`writer::FrameWriter`] puts frames together, [`greeting::Greeting`] is the beginning of a connection on either side.

pub mod address;
pub mod archive;
pub(crate) mod clip;
pub mod credit;
pub mod difference;
pub mod error;
pub mod flags;
pub mod frame;
#[cfg(test)]
mod frame_tests;
pub mod greeting;
#[cfg(test)]
mod greeting_lies_tests;
#[cfg(test)]
mod greeting_sides;
#[cfg(test)]
mod greeting_tests;
pub mod handoff;
pub mod header;
pub mod hello;
pub mod kind;
pub mod limits;
pub mod lookup;
pub mod message;
pub mod preamble;
pub mod reader;
#[cfg(test)]
mod reader_tests;
#[cfg(test)]
mod samples;
pub mod tables;
pub mod type_registry;
pub mod writer;
#[cfg(test)]
mod writer_tests;
