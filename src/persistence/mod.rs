//! State that survives as the events that led to it: what journals keep, how they are spoken to, and what is known of
//! the events of one actor.

pub mod error;
pub mod id;
pub mod journal;
pub mod lease;
pub mod memory;
pub mod progress;
#[cfg(test)]
mod progress_tests;
pub mod record;
