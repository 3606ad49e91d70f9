//! Actors on one core: the programming model, and the state from which it is served.

pub mod activation;
pub mod actor;
pub mod asks;
pub mod awaiting;
pub mod batch;
pub mod cell;
pub mod context;
pub mod control;
pub mod entity;
pub mod entity_id;
pub mod handle;
pub mod local;
pub mod mailbox;
pub mod mutant;
pub mod outbox;
pub mod pending;
pub mod recency;
pub mod reference;
pub mod refusal;
pub mod region;
pub mod reply;
pub mod scope;
mod slots;
pub mod task;
pub mod trace;
mod typed;
