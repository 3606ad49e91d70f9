//! What a journal does.

use super::error::JournalError;
use super::id::PersistenceId;
use super::lease::{Leases, Writer};
use super::record::{Record, Sequence};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Where events and snapshots are kept.
///
/// A handle to it is cloned into every actor and used on every core, so it is `Send` and `Sync`. What it does takes place on
/// the core of the actor that asks, beside its actors, so its futures need not be `Send`, and they must not block. A future
/// that is dropped gives up the answer, not necessarily what was asked for.
///
/// A journal keeps bytes: it needs to know neither events nor states.
///
/// ```
/// use corecast::persistence::journal::Batch;
/// use corecast::persistence::lease::Leases;
/// use corecast::persistence::memory::MemoryRecords;
/// use corecast::{InMemoryJournal, Journal, JournalError, PersistenceId, Record, Sequence};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// /// Counts the events that it passes on.
/// #[derive(Clone, Default)]
/// struct Counting {
///     inner: InMemoryJournal,
///     events: Arc<AtomicUsize>,
/// }
///
/// impl Journal for Counting {
///     type Records = MemoryRecords;
///
///     fn leases(&self) -> &Leases {
///         self.inner.leases()
///     }
///
///     async fn persist(&self, batch: Batch) -> Result<(), JournalError> {
///         let events = batch.records.len();
///         self.inner.persist(batch).await?;
///         self.events.fetch_add(events, Ordering::Relaxed);
///         Ok(())
///     }
///
///     fn load(&self, id: &PersistenceId, from: Sequence) -> MemoryRecords {
///         self.inner.load(id, from)
///     }
///
///     async fn save_snapshot(&self, id: &PersistenceId, snapshot: Record) -> Result<(), JournalError> {
///         self.inner.save_snapshot(id, snapshot).await
///     }
///
///     async fn load_snapshot(&self, id: &PersistenceId) -> Result<Option<Record>, JournalError> {
///         self.inner.load_snapshot(id).await
///     }
/// }
/// ```
pub trait Journal: Clone + Send + Sync + 'static {
    /// The events of one persistence id, as they are read.
    type Records: Records;

    /// Who holds which persistence id; the same for all clones.
    fn leases(&self) -> &Leases;

    /// Stores events behind those that there are: all of them or none. Once it has ended with success they are as durable as
    /// this journal makes them.
    ///
    /// It stores nothing from the moment on when [the writer may not write any more](Writer::may_write): a later
    /// [`load`](Journal::load) sees everything that will ever be stored under that writer.
    ///
    /// # Errors
    /// Which of them leave the outcome open is said at [`JournalError`].
    fn persist(&self, batch: Batch) -> impl Future<Output = Result<(), JournalError>>;

    /// Reads the events from the one numbered `from` on, which is included, in order. Where that one has been deleted,
    /// reading fails ([`JournalError::Gap`]), also if there is none after it: a log without its beginning is no empty one.
    fn load(&self, id: &PersistenceId, from: Sequence) -> Self::Records;

    /// Stores a snapshot in the place of the one before. One that is older than what is there is not stored, which is no
    /// error: whoever stops may be slower with its last snapshot than its successor with the next. One of the same event
    /// is stored: it may be of a newer version of the state.
    ///
    /// # Errors
    /// As its storage says. The snapshot before may be there or not; the events always are.
    fn save_snapshot(
        &self,
        id: &PersistenceId,
        snapshot: Record,
    ) -> impl Future<Output = Result<(), JournalError>>;

    /// The snapshot, if there is one.
    ///
    /// # Errors
    /// As its storage says.
    fn load_snapshot(
        &self,
        id: &PersistenceId,
    ) -> impl Future<Output = Result<Option<Record>, JournalError>>;
}

/// Events that are being read.
pub trait Records: 'static {
    /// The next ones in order, as many as the journal sees fit to have in memory at once; none at the end.
    ///
    /// # Errors
    /// As its storage says. A record that cannot be read is an error, and never left out.
    fn next_page(&mut self) -> impl Future<Output = Result<Vec<Record>, JournalError>>;
}

/// Events that are stored together.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Batch {
    /// On whose behalf.
    pub writer: Writer,
    /// At least one, with numbers that follow each other.
    pub records: Vec<Record>,
}

impl Batch {
    /// The persistence id.
    #[must_use]
    pub fn id(&self) -> &PersistenceId {
        self.writer.id()
    }

    /// The number of the first event.
    #[must_use]
    pub fn first(&self) -> Sequence {
        self.records
            .first()
            .map_or(Sequence::START, |record| record.sequence)
    }

    /// The number of the last event.
    #[must_use]
    pub fn last(&self) -> Sequence {
        self.records
            .last()
            .map_or(Sequence::START, |record| record.sequence)
    }
}

/// What a journal is doing.
pub(crate) type Work<T> = Pin<Box<dyn Future<Output = Result<T, JournalError>>>>;

/// A journal whatever its type, so that actors need not carry it in theirs.
pub(crate) trait AnyJournal: Send + Sync {
    fn leases(&self) -> &Leases;
    fn persist(&self, batch: Batch) -> Work<()>;
    fn load(&self, id: &PersistenceId, from: Sequence) -> Box<dyn AnyRecords>;
    fn save_snapshot(&self, id: &PersistenceId, snapshot: Record) -> Work<()>;
    fn load_snapshot(&self, id: &PersistenceId) -> Work<Option<Record>>;
}

pub(crate) type SharedJournal = Arc<dyn AnyJournal>;

impl<J: Journal> AnyJournal for J {
    fn leases(&self) -> &Leases {
        Journal::leases(self)
    }

    fn persist(&self, batch: Batch) -> Work<()> {
        let journal = self.clone();
        Box::pin(async move { Journal::persist(&journal, batch).await })
    }

    fn load(&self, id: &PersistenceId, from: Sequence) -> Box<dyn AnyRecords> {
        Box::new(Journal::load(self, id, from))
    }

    fn save_snapshot(&self, id: &PersistenceId, snapshot: Record) -> Work<()> {
        let (journal, id) = (self.clone(), id.clone());
        Box::pin(async move { Journal::save_snapshot(&journal, &id, snapshot).await })
    }

    fn load_snapshot(&self, id: &PersistenceId) -> Work<Option<Record>> {
        let (journal, id) = (self.clone(), id.clone());
        Box::pin(async move { Journal::load_snapshot(&journal, &id).await })
    }
}

/// Events that are being read, from whatever journal.
pub(crate) trait AnyRecords {
    /// The next page, and the rest.
    fn next_page(self: Box<Self>) -> Work<(Box<dyn AnyRecords>, Vec<Record>)>;
}

impl<R: Records> AnyRecords for R {
    fn next_page(mut self: Box<Self>) -> Work<(Box<dyn AnyRecords>, Vec<Record>)> {
        Box::pin(async move {
            let page = Records::next_page(&mut *self).await?;
            Ok((self as Box<dyn AnyRecords>, page))
        })
    }
}
