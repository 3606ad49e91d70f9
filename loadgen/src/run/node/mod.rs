//! A node of a cluster run, from inside its process: the runtime, drivers and entities, and what it is told and says.

mod credit;
mod driver;
mod entity;
mod feeding;
mod handled;
mod life;
mod measuring;
mod members;
mod mouth;
mod owners;
mod part;
mod phase;
mod probes;
mod settings;
mod tallies;
mod watcher;

pub use life::run;
