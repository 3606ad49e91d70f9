//! What a handle can ask of the runtime as a whole: statistics, the topology, moves.

use crate::actor::control::Request;
use crate::actor::handle::Handle;
use crate::actor::pending::{Completer, Pending, pending};
use crate::actor::refusal::Rejection;
use crate::base::ids::{CoreId, ShardKey};
use crate::engine::stats::{CoreStats, Stats};
use crate::sharding::move_error::MoveError;
use crate::sharding::topology::Topology;
use std::sync::{Arc, Mutex, PoisonError};

impl Handle {
    /// A snapshot of every core, the coordination core last.
    ///
    /// Each core takes its own between two of its turns, so it comes when the slowest has; to do without a core that is
    /// held by a handler, ask them one by one with [`core_stats`](Handle::core_stats).
    pub fn stats(&self) -> Pending<Stats> {
        let (completer, stats) = pending(Stats::default());
        let collector = Arc::new(Collector {
            stats: Mutex::new(Stats::outside(self.gate())),
            completer: Some(completer),
        });
        for core in self.core_ids().chain([self.coordination_core()]) {
            let collector = collector.clone();
            drop(self.on_core(core, move |local| {
                let mut stats = collector
                    .stats
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                stats.topology_version = stats.topology_version.max(local.topology.version());
                stats.cores.push(CoreStats::of(local));
            }));
        }
        stats
    }

    /// A snapshot of one core, the coordination core being the one after the last; `None` if it has stopped.
    pub fn core_stats(&self, core: CoreId) -> Pending<Option<CoreStats>> {
        self.on_core(core, |local| CoreStats::of(local))
    }

    /// Where every shard is, as the coordination core has published it; `None` if it has stopped.
    pub fn topology(&self) -> Pending<Option<Arc<Topology>>> {
        self.on_core(self.coordination_core(), |local| local.topology.clone())
    }

    /// Moves a shard to another core, while it is in use: nothing that was accepted is lost or reordered. Resolves when
    /// the shard runs there.
    ///
    /// The errors say whether the shard stayed where it was.
    pub fn move_shard(&self, shard: ShardKey, to: CoreId) -> Pending<Result<(), MoveError>> {
        let (done, moved) = pending(Err(MoveError::CoreStopped {
            shard,
            core: self.coordination_core(),
        }));
        // Refused, the request is dropped, and whoever waits for it is told.
        let _ = self.request(Request::Move { shard, to, done });
        moved
    }

    /// The cores that run actors.
    pub fn core_ids(&self) -> impl Iterator<Item = CoreId> + use<> {
        (0..self.cores() as u16).map(CoreId)
    }

    /// The core of the control plane.
    #[must_use]
    pub fn coordination_core(&self) -> CoreId {
        CoreId(self.cores() as u16)
    }

    /// Hands a request to the coordination core.
    ///
    /// # Errors
    /// `IngressFull` if its queue is full, another if the core is gone.
    pub(crate) fn request(&self, request: Request) -> Result<(), Rejection> {
        self.submit_call(self.coordination_core(), move |local| {
            local.requests.push(request)
        })
    }
}

/// Gathers the answers of all cores; complete when the last of them has answered or is gone.
struct Collector {
    stats: Mutex<Stats>,
    completer: Option<Completer<Stats>>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        let mut stats =
            std::mem::take(self.stats.get_mut().unwrap_or_else(PoisonError::into_inner));
        stats.cores.sort_by_key(|core| core.core);
        if let Some(completer) = self.completer.take() {
            completer.complete(stats);
        }
    }
}
