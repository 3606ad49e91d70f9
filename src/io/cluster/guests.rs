//! Sockets on their way from the port to the core that they have named.
//!
//! The coordination core has the port. A connection for data is handed over with its socket, as a plain descriptor of which
//! no byte behind the preamble was read, and with the [`Guest`] that the core's
//! [`Links::accept`](crate::links::links::Links::accept) takes.

use crate::base::ids::CoreId;
use crate::links::porch::Guest;
use crate::mesh::doorbell::Doorbell;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Connections that may wait for one core. Those that find no room are closed, and come again.
pub const MOST_WAITING: usize = 64;

/// A connection that has named its core.
#[derive(Debug)]
pub struct Arrival {
    /// Its socket, which does not block.
    pub socket: OwnedFd,
    /// What it has said so far.
    pub guest: Box<Guest>,
}

/// The ways to the cores that take connections for data. None has one by itself: such a node takes none.
#[derive(Debug, Default)]
pub struct GuestLanes {
    lanes: BTreeMap<CoreId, Lane>,
}

#[derive(Debug)]
struct Lane {
    arrivals: Sender<Arrival>,
    doorbell: Arc<Doorbell>,
}

impl GuestLanes {
    /// Opens the way to a core, which takes what comes from the end that is returned, and is woken for it by its bell.
    pub fn open(&mut self, core: CoreId, doorbell: Arc<Doorbell>) -> Receiver<Arrival> {
        let (arrivals, receiver) = bounded(MOST_WAITING);
        self.lanes.insert(core, Lane { arrivals, doorbell });
        receiver
    }

    /// The cores that take connections.
    #[must_use]
    pub fn cores(&self) -> Vec<CoreId> {
        self.lanes.keys().copied().collect()
    }

    /// Hands a connection over.
    ///
    /// # Errors
    /// The connection, if the core has gone, takes none, or has as many waiting as may: close it.
    pub fn hand(&self, core: CoreId, arrival: Arrival) -> Result<(), Arrival> {
        let Some(lane) = self.lanes.get(&core) else {
            return Err(arrival);
        };
        let handed = lane.arrivals.try_send(arrival);
        handed.map_err(crossbeam_channel::TrySendError::into_inner)?;
        lane.doorbell.ring();
        Ok(())
    }
}
