//! A node's part in a cluster on real sockets and files: what drives its control plane on the coordination core.
//!
//! | file | what it is |
//! |---|---|
//! | [`port`] | the one address of a node: bound for streams and for datagrams |
//! | [`readiness`] | which sockets can be read or written, and how their core sleeps until one can |
//! | [`porch_sockets`] | sockets that have come to the port, until their first bytes name a core |
//! | [`control_sockets`] | sockets of control connections |
//! | [`datagrams`] | the socket of the failure detector |
//! | `data_news` | what data cores have to know of the cluster for their connections |
//! | `data_core` | the loop of a data core, with its connections to other nodes |
//! | `data_sockets` | their sockets |
//! | `governing` | what the control plane tells the cores, and what they ask of it |
//! | [`guests`] | sockets on their way to the core that they have named |
//! | [`boot_clock`] | the clock of leases |
//! | [`lateness`] | how late a turn of the core is |
//! | `seed_lookups` | looking up the names of seeds |
//! | `in_executor` | work in the executor whose result is taken from turns |
//! | [`view`] | what a node knows of its cluster, as data for its users |
//! | `life` | one life of the control plane, with its sockets and its ledger |
//! | `driver` | one life after the other, and the publication of what they tell |
//! | `closing` | the end of it, whatever the disk does |
//! | `member_log` | what happens among members, in the log |
//! | [`status`] | what threads outside may see of it, ask of it and wait for |
//! | `coordination` | the loop of a coordination core that has a control plane |
//!
//! # Why the sockets are not glommio's
//!
//! They are plain descriptors that do not block, looked at with edge-triggered `epoll`, and read and written from the turn.
//! glommio's own would have to be made from descriptors, which is `unsafe`, since it binds with `SO_REUSEPORT`; an
//! operation that is cancelled there is hard to get right; and a core that sleeps in its executor enters the kernel some
//! eight times and interrupts the other cores (`membarrier`) each time. So only files are in the executor. While any
//! operation on them is under way, some tenths of a millisecond for each write of the ledger, the core sleeps in the
//! executor and looks at its sockets each millisecond; otherwise its thread sleeps in one `ppoll` over all of them and its
//! bell. There is nothing to cancel, and what a socket needs is bounded by what the state machines ask for.

pub mod boot_clock;
mod closing;
pub mod control_sockets;
pub(crate) mod coordination;
pub(crate) mod data_core;
pub(crate) mod data_news;
mod data_sockets;
pub mod datagrams;
pub(crate) mod driver;
mod governing;
pub mod guests;
mod in_executor;
pub mod lateness;
pub(crate) mod life;
mod member_log;
pub mod porch_sockets;
pub mod port;
pub mod readiness;
pub(crate) mod seed_lookups;
pub mod status;
pub mod view;
