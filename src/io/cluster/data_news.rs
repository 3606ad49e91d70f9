//! What data cores have to know of the cluster for their connections, as the coordination core tells them.
//!
//! Only the newest counts, so there is one place for it, which each core looks at when its version has changed.

use crate::engine::data_peers::DataPeers;
use crate::mesh::doorbell::Doorbell;
use crate::wire::hello::CheckedIdentity;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The newest news.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latest {
    /// What this node says of itself on connections; none before its first life.
    pub(crate) identity: Option<Arc<CheckedIdentity>>,
    /// Whom to connect to.
    pub(crate) peers: Arc<DataPeers>,
}

/// The place of the news.
#[derive(Debug)]
pub(crate) struct DataNews {
    version: AtomicU64,
    latest: Mutex<Latest>,
    /// Of the cores that are told.
    doorbells: Vec<Arc<Doorbell>>,
}

impl DataNews {
    /// No news yet, for the cores with these bells.
    pub(crate) fn new(doorbells: Vec<Arc<Doorbell>>) -> DataNews {
        DataNews {
            version: AtomicU64::new(0),
            latest: Mutex::default(),
            doorbells,
        }
    }

    /// Tells who this node is and who the others are.
    pub(crate) fn tell(&self, identity: &Arc<CheckedIdentity>, peers: DataPeers) {
        self.change(|latest| {
            latest.identity = Some(identity.clone());
            latest.peers = Arc::new(peers);
        });
    }

    /// Tells that there is nobody any more.
    pub(crate) fn tell_nobody(&self) {
        self.change(|latest| latest.peers = Arc::default());
    }

    /// Which the newest is, to be compared.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The newest, and which it is.
    pub(crate) fn latest(&self) -> (u64, Latest) {
        let latest = self.lock();
        (self.version(), latest.clone())
    }

    fn change(&self, change: impl FnOnce(&mut Latest)) {
        let mut latest = self.lock();
        change(&mut latest);
        self.version.fetch_add(1, Ordering::Release);
        drop(latest);
        for doorbell in &self.doorbells {
            doorbell.ring();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Latest> {
        // Nothing is left half done under it.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
