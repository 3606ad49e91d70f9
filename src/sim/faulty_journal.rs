//! A journal that fails as storage does, as often as a test wants.

use crate::actor::handle::Handle;
use crate::actor::local::Local;
use crate::actor::pending::pending;
use crate::actor::task::Detached;
use crate::base::ids::CoreId;
use crate::base::rng::{Rng, seeded};
use crate::persistence::error::JournalError;
use crate::persistence::id::PersistenceId;
use crate::persistence::journal::{Batch, Journal, Records};
use crate::persistence::lease::Leases;
use crate::persistence::memory::InMemoryJournal;
use crate::persistence::record::{Record, Sequence};
use rand::RngExt;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How a write goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WriteFault {
    /// Nothing is stored, and the writer hears of it.
    Refused,
    /// It is stored, and the writer hears that it has failed.
    AckLost,
    /// It is stored, and the writer never hears of it.
    Silent,
}

/// How an event goes wrong when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFault {
    /// A bit of it has changed.
    Damaged,
    /// It is left out.
    Missing,
    /// It comes twice.
    Repeated,
}

/// A journal that takes its time and fails, around another that does not. Everything comes from its seed and from what
/// it is told, so that a run can be repeated; its clones share it all.
///
/// What has been given to it to write is written in its time, whether its writer still waits or not, as with a disk.
///
/// ```
/// use corecast::sim::{FaultyJournal, Simulation, WriteFault};
/// use corecast::InMemoryJournal;
/// use std::time::Duration;
///
/// let journal = FaultyJournal::new(7, InMemoryJournal::default());
/// // … give clones of it to actors …
/// let sim = Simulation::builder(7).start();
/// journal.delay(&sim.handle(), Duration::ZERO..Duration::from_millis(5));
/// journal.fail_nth_write(3, WriteFault::AckLost);
/// journal.fail_writes(WriteFault::Refused, 10); // one in ten, besides
/// ```
#[derive(Clone)]
pub struct FaultyJournal<J = InMemoryJournal> {
    inner: J,
    plan: Arc<Mutex<Plan>>,
}

struct Plan {
    rng: Rng,
    delay: Option<(Handle, Range<Duration>)>,
    /// Writes so far.
    writes: u64,
    nth: BTreeMap<u64, WriteFault>,
    one_in: BTreeMap<WriteFault, u32>,
    failed_writes: u64,
    snapshots_one_in: Option<u32>,
    reads: BTreeMap<(PersistenceId, Sequence), ReadFault>,
}

/// Where and after which time something is done.
type Delay = Option<(Handle, CoreId, Duration)>;

impl Plan {
    fn draw_delay(&mut self) -> Delay {
        let (handle, range) = self.delay.as_ref()?;
        let core = CoreId(self.rng.random_range(0..handle.cores()) as u16);
        let nanos = range.start.as_nanos() as u64..range.end.as_nanos() as u64;
        let delay = Duration::from_nanos(self.rng.random_range(nanos));
        Some((handle.clone(), core, delay))
    }

    fn draw_write(&mut self) -> (Option<WriteFault>, Delay) {
        self.writes += 1;
        let mut fault = self.nth.remove(&self.writes);
        for (drawn, one_in) in &self.one_in {
            if self.rng.random_ratio(1, *one_in) {
                fault = fault.or(Some(*drawn));
            }
        }
        self.failed_writes += u64::from(fault.is_some());
        (fault, self.draw_delay())
    }
}

impl<J: Journal> FaultyJournal<J> {
    /// A journal without any faults as yet.
    #[must_use]
    pub fn new(seed: u64, inner: J) -> FaultyJournal<J> {
        FaultyJournal {
            inner,
            plan: Arc::new(Mutex::new(Plan {
                rng: seeded(seed, 400),
                delay: None,
                writes: 0,
                nth: BTreeMap::new(),
                one_in: BTreeMap::new(),
                failed_writes: 0,
                snapshots_one_in: None,
                reads: BTreeMap::new(),
            })),
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on everything takes a time out of this range, by the timers of the runtime that the handle belongs to.
    ///
    /// # Panics
    /// When it is used, if the range is empty.
    pub fn delay(&self, handle: &Handle, range: Range<Duration>) {
        self.plan().delay = Some((handle.clone(), range));
    }

    /// The nth write from now on fails; 1 is the next.
    pub fn fail_nth_write(&self, nth: u64, fault: WriteFault) {
        let mut plan = self.plan();
        let number = plan.writes + nth;
        plan.nth.insert(number, fault);
    }

    /// From now on one write in `one_in` fails in this way; 0 ends it.
    pub fn fail_writes(&self, fault: WriteFault, one_in: u32) {
        let mut plan = self.plan();
        plan.one_in.remove(&fault);
        if one_in > 0 {
            plan.one_in.insert(fault, one_in);
        }
    }

    /// From now on one snapshot in `one_in` is not stored; 0 ends it.
    pub fn fail_snapshots(&self, one_in: u32) {
        self.plan().snapshots_one_in = (one_in > 0).then_some(one_in);
    }

    /// From now on this event is read wrongly.
    pub fn fail_read(&self, id: &PersistenceId, sequence: Sequence, fault: ReadFault) {
        self.plan().reads.insert((id.clone(), sequence), fault);
    }

    /// From now on nothing fails, and nothing takes time.
    pub fn heal(&self) {
        let mut plan = self.plan();
        plan.delay = None;
        plan.nth.clear();
        plan.one_in.clear();
        plan.snapshots_one_in = None;
        plan.reads.clear();
    }

    /// Writes so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.plan().writes
    }

    /// Writes so far that have been made to fail.
    #[must_use]
    pub fn failed_writes(&self) -> u64 {
        self.plan().failed_writes
    }

    /// Does something with the journal, later if it is to take time; nobody needs to wait for it.
    async fn later<T: Send + 'static, F: Future<Output = Result<T, JournalError>> + 'static>(
        &self,
        delay: Delay,
        work: impl FnOnce(J) -> F + Send + 'static,
    ) -> Result<T, JournalError> {
        let inner = self.inner.clone();
        let Some((handle, core, delay)) = delay else {
            return work(inner).await;
        };
        let (completer, done) = pending(Err(JournalError::Storage {
            what: "nobody is there any more who does it".to_owned(),
        }));
        // Also while the runtime shuts down: a disk does not know that.
        let begin = move |local: &mut Local| {
            let until = local.sleep_until(local.now + delay);
            let whole = async move {
                until.await;
                completer.complete(work(inner).await);
            };
            local.add_job(Box::new(Detached::new(whole)));
        };
        // Refused, what is awaited is dropped, which is an answer.
        let _ = handle.submit_call(core, begin);
        done.await
    }
}

impl<J> fmt::Debug for FaultyJournal<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyJournal").finish_non_exhaustive()
    }
}

fn on_purpose() -> JournalError {
    JournalError::Storage {
        what: "made to fail".to_owned(),
    }
}

impl<J: Journal> Journal for FaultyJournal<J> {
    type Records = FaultyRecords<J>;

    fn leases(&self) -> &Leases {
        self.inner.leases()
    }

    async fn persist(&self, batch: Batch) -> Result<(), JournalError> {
        let (fault, delay) = self.plan().draw_write();
        let stored = self
            .later(delay, move |inner| async move {
                match fault {
                    Some(WriteFault::Refused) => Err(on_purpose()),
                    _ => inner.persist(batch).await,
                }
            })
            .await;
        match fault {
            Some(WriteFault::AckLost) => Err(on_purpose()),
            Some(WriteFault::Silent) => std::future::pending().await,
            Some(WriteFault::Refused) | None => stored,
        }
    }

    fn load(&self, id: &PersistenceId, from: Sequence) -> FaultyRecords<J> {
        FaultyRecords {
            journal: self.clone(),
            id: id.clone(),
            inner: self.inner.load(id, from),
        }
    }

    async fn save_snapshot(
        &self,
        id: &PersistenceId,
        snapshot: Record,
    ) -> Result<(), JournalError> {
        let (fails, delay) = {
            let mut plan = self.plan();
            let one_in = plan.snapshots_one_in;
            let fails = one_in.is_some_and(|one_in| plan.rng.random_ratio(1, one_in));
            (fails, plan.draw_delay())
        };
        let id = id.clone();
        self.later(delay, move |inner| async move {
            if fails {
                return Err(on_purpose());
            }
            inner.save_snapshot(&id, snapshot).await
        })
        .await
    }

    async fn load_snapshot(&self, id: &PersistenceId) -> Result<Option<Record>, JournalError> {
        let delay = self.plan().draw_delay();
        let id = id.clone();
        self.later(
            delay,
            move |inner| async move { inner.load_snapshot(&id).await },
        )
        .await
    }
}

/// Events that are read from a [`FaultyJournal`].
pub struct FaultyRecords<J: Journal> {
    journal: FaultyJournal<J>,
    id: PersistenceId,
    inner: J::Records,
}

impl<J: Journal> Records for FaultyRecords<J> {
    async fn next_page(&mut self) -> Result<Vec<Record>, JournalError> {
        let delay = self.journal.plan().draw_delay();
        self.journal.later(delay, |_| async { Ok(()) }).await?;
        // A page of which nothing is left is not the end.
        loop {
            let page = self.inner.next_page().await?;
            let is_end = page.is_empty();
            let read = self.misread(page);
            if is_end || !read.is_empty() {
                return Ok(read);
            }
        }
    }
}

impl<J: Journal> FaultyRecords<J> {
    fn misread(&self, page: Vec<Record>) -> Vec<Record> {
        let plan = self.journal.plan();
        let mut read = Vec::with_capacity(page.len());
        for mut record in page {
            match plan.reads.get(&(self.id.clone(), record.sequence)) {
                Some(ReadFault::Missing) => continue,
                Some(ReadFault::Repeated) => read.push(record.clone()),
                Some(ReadFault::Damaged) => {
                    let mut bytes = (*record.payload.bytes).clone();
                    match bytes.first_mut() {
                        Some(byte) => *byte ^= 1,
                        None => record.checksum ^= 1,
                    }
                    record.payload.bytes = Arc::new(bytes);
                }
                None => {}
            }
            read.push(record);
        }
        read
    }
}

impl<J: Journal> fmt::Debug for FaultyRecords<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyRecords")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
