//! A virtual network between nodes: datagrams that get lost, doubled and reordered, connections that keep their order, and
//! links that are slow, cut in one direction or in both. All of it comes from a seed.
//!
//! It knows nothing of what it carries. Whoever drives the nodes hands payloads in with the time, and takes
//! [`Arrival`]s out, in the order of their times:
//!
//! ```
//! use corecast::base::ids::NodeId;
//! use corecast::sim::network::{Arrival, Network, NetworkSettings};
//! use corecast::Time;
//!
//! let (a, b) = (NodeId(1), NodeId(2));
//! let mut network = Network::new(7, NetworkSettings::default());
//! network.send_datagram(Time::ZERO, a, b, "ping");
//! let at = network.next_arrival().unwrap();
//! let Some(Arrival::Datagram { from, to, payload }) = network.pop(at) else { unreachable!() };
//! assert_eq!((from, to, payload), (a, b, "ping"));
//! ```
//!
//! # What connections do
//!
//! A connection is two ordered, lossless directions. What a lossy network would lose comes later, as if it were sent
//! again; what is sent into a cut waits for its end, and after [`NetworkSettings::gives_up_after`] the sender's end is
//! closed. (An acknowledgement has no direction of its own here: the end that only receives notices a cut of the other
//! direction by what it stops hearing.) Each direction takes at most [`NetworkSettings::window`] bytes that have not
//! arrived; beyond it a send is refused and [`Arrival::Writable`] says when to try again.
//!
//! A node whose process dies has its connections reset by its machine, as far as the machine reaches its peers. One whose
//! machine dies is silent.

pub mod arrival;
mod connection;
pub mod medium;
pub mod settings;
#[cfg(test)]
mod tests;

pub use arrival::{Arrival, ClosedWhy, LinkId, NotSent};
pub use medium::Network;
pub use settings::{NetworkCounters, NetworkSettings};
