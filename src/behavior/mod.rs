//! Ways to write actors, each made into an [`Actor`](crate::Actor).

pub mod effect;
pub mod event_sourced;
mod save;
pub mod sourced;
