//! Who is in the cluster, and who can be reached: pure state machines without I/O or clock.
//!
//! | file | what it decides |
//! |---|---|
//! | [`swim`] | by datagrams: who answers probes, directly or through others |
//! | [`phi`] | by heartbeats of one control connection: how surprising its silence is |
//! | [`detector`] | where both agree, and with whose word: *proposes* to call a node unreachable, or down |
//! | [`view`] | what the log has decided: the members, their lives, and what changed |
//!
//! Nothing but the log ends a life. The detectors only propose, and each node applies what was committed to its
//! [`View`](view::View), which then goes back to them:
//!
//! ```text
//!   datagrams ──▶ Swim ──Up, Down──▶ Detector ──Unreachable, Reachable, ProposeDown──▶ the log
//!                  ▲                  ▲    ▲                                             │
//!                  │   heartbeats ────┘    │                                      committed Change
//!                  └────────── adopt ──────┴────────────────── View ◀────────────────────┘
//! ```
//!
//! How to drive them: say first how late the turn is, if it is ([`Swim::stalled`](swim::Swim::stalled),
//! [`Detector::stalled`](detector::Detector::stalled)); then hand in what has arrived; then call `tick` if the deadline
//! has come; then take the outputs until there are none. What arrived is handed in before time passes, so that an answer
//! that waits in a socket is not taken for silence.

pub mod accusation;
pub mod change;
pub mod datagram;
#[cfg(test)]
mod datagram_tests;
pub mod detector;
#[cfg(test)]
mod detector_tests;
pub mod event;
pub mod health;
pub mod identity;
pub mod phi;
pub mod settings;
pub mod swim;
mod swim_counters;
mod swim_filter;
#[cfg(test)]
mod swim_tests;
pub mod view;
#[cfg(test)]
mod view_tests;

pub use swim_counters::SwimCounters;
