//! The ledger of a node on real files, driven from the turns of one core.
//!
//! A turn never waits: it hands over what the ledger wants written and takes what has ended, and the operations run in
//! tasks of the core's executor. A core with nothing to do may sleep in its executor, with
//! [`LedgerFiles::poll_ended`] beside its bell, and is woken by the end of an operation as it is by the bell. It must not
//! park its *thread* while something is [under way](LedgerFiles::under_way): its executor would stand still, and the
//! operation with it.

use std::path::{Path, PathBuf};
use std::task::{Context, Poll};

use thiserror::Error;

use super::data_directory::{DataDirectory, DataDirectoryError};
use super::log_files::{LogFiles, LogFilesError};
use crate::base::ids::NodeId;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::cluster::ledger_error::LedgerOpenError;
use crate::cluster::ledger_opening::{LedgerOpening, OpenedLedger};
use crate::cluster::ledger_settings::LedgerSettings;
use crate::consensus::peer::ClusterId;
use crate::log::{LogStore, Operation, Outcome, StoreError, Ticket};

/// Why a node cannot start on its directory.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LedgerStartError {
    /// The directory cannot be the one of a node.
    #[error(transparent)]
    Directory(#[from] DataDirectoryError),
    /// The part of the ledger cannot be used.
    #[error(transparent)]
    Files(#[from] LogFilesError),
    /// What is in it cannot.
    #[error("the ledger in {} cannot be used: {error}", .directory.display())]
    Ledger {
        /// The directory of the ledger.
        directory: PathBuf,
        /// Why.
        error: LedgerOpenError,
    },
}

/// The files of a ledger, used from one glommio executor: the [`LogStore`] that
/// [`Ledger::turn`](crate::cluster::ledger::Ledger::turn) is given. The time that it is given means nothing here.
///
/// Before a stop that is to lose nothing, have the ledger flush, and turn it until it is idle. Then [`close`] it, before the
/// executor ends: files that are only dropped stay open and locked until the process ends, and nobody can open the
/// ledger again before then.
///
/// [`close`]: LedgerFiles::close
#[derive(Debug)]
pub struct LedgerFiles {
    files: LogFiles,
    directory: DataDirectory,
}

impl LedgerFiles {
    /// Takes the data directory of a node for this process, and opens the ledger in it or makes both. To be called in a
    /// glommio executor, before it opens any other DMA file. It blocks for a few short calls.
    ///
    /// # Errors
    /// [`LedgerStartError`]; no state of the node has changed.
    pub async fn open(
        data: &Path,
        settings: LedgerSettings,
        node: NodeId,
        cluster: Option<ClusterId>,
        rng: &mut Rng,
    ) -> Result<(OpenedLedger, LedgerFiles), LedgerStartError> {
        let directory = DataDirectory::take(data, settings.log.segment_bytes)?;
        let mut files = LogFiles::open(&directory.ledger()).await?;
        match read(&mut files, settings, node, cluster, rng).await {
            Ok(opened) => Ok((opened, LedgerFiles { files, directory })),
            Err(error) => {
                files.close().await;
                let directory = directory.ledger();
                Err(LedgerStartError::Ledger { directory, error })
            }
        }
    }

    /// The directory of the node.
    #[must_use]
    pub fn directory(&self) -> &DataDirectory {
        &self.directory
    }

    /// How many operations have begun and not ended.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.files.under_way()
    }

    /// Ready if something has ended that no turn has taken. If not, the waker is kept and called once something has; the
    /// last one that was given counts. With nothing under way it is never called.
    pub fn poll_ended(&self, context: &mut Context<'_>) -> Poll<()> {
        self.files.poll_ended(context)
    }

    /// Waits until nothing is under way, and lets the directory go.
    pub async fn close(self) {
        self.files.close().await;
    }
}

impl LogStore for LedgerFiles {
    fn submit(&mut self, now: Time, ticket: Ticket, operation: Operation) {
        self.files.submit(now, ticket, operation);
    }

    fn poll(&mut self, now: Time) -> Option<(Ticket, Result<Outcome, StoreError>)> {
        self.files.poll(now)
    }
}

async fn read(
    files: &mut LogFiles,
    settings: LedgerSettings,
    node: NodeId,
    cluster: Option<ClusterId>,
    rng: &mut Rng,
) -> Result<OpenedLedger, LedgerOpenError> {
    let mut opening = LedgerOpening::new(settings, node, cluster, rng)?;
    loop {
        if let Some(opened) = opening.turn(Time::ZERO, files)? {
            return Ok(opened);
        }
        files.wait().await;
    }
}
