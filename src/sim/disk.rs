//! A disk that takes its time, tears what is under way when the power goes, fails and decays, all from a seed.

use crate::base::rng::{Rng, seeded};
use crate::base::time::Time;
use crate::log::{
    FileName, FoundFile, LogStore, Operation, Outcome, StoreError, StoreErrorKind, Ticket,
};
use rand::RngExt;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

/// What a disk writes as a whole or not at all.
const SECTOR: usize = 512;

/// The disk of one log. It outlives the node: after a [crash](SimDisk::crash) it is mounted again and has what was durable,
/// and of what was under way whatever the seed says. A node that comes back without its disk gets a new one.
///
/// A write is done when it is flushed, since that is how a log asks for it. Until somebody has
/// [polled](LogStore::poll) its end, a crash may leave any of its sectors old and any of them new; a file that comes, goes
/// or gets another name has or hasn't. Clones are the same disk.
///
/// ```
/// use corecast::base::time::Time;
/// use corecast::log::{FileName, LogStore, Operation, Outcome, Ticket};
/// use corecast::sim::SimDisk;
///
/// let disk = SimDisk::new(3);
/// let mut store = disk.mount();
/// store.submit(Time::ZERO, Ticket(1), Operation::Create { file: FileName::Spare(1), bytes: 8_192 });
/// assert!(store.poll(Time::ZERO).is_none()); // it takes its time
/// let due = disk.next_due().unwrap();
/// let (ticket, outcome) = store.poll(due).unwrap();
/// assert!(ticket == Ticket(1) && matches!(outcome, Ok(Outcome::Done)));
/// ```
#[derive(Clone)]
pub struct SimDisk(Rc<RefCell<Disk>>);

/// A disk as one life of a node has it. After a crash this one is dead: nothing that it is given happens, nothing ends.
#[derive(Debug)]
pub struct MountedDisk {
    disk: SimDisk,
    life: u64,
}

struct Disk {
    rng: Rng,
    life: u64,
    files: BTreeMap<FileName, Vec<u8>>,
    under_way: BTreeMap<(Time, Ticket), Operation>,
    latency: Range<Duration>,
    capacity: Option<u64>,
    writes: u64,
    failing_writes: BTreeSet<u64>,
    one_write_in: u32,
    unreadable: BTreeSet<(FileName, u64)>,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = self.0.borrow();
        f.debug_struct("SimDisk")
            .field("life", &disk.life)
            .field("files", &disk.files.keys())
            .field("under_way", &disk.under_way.values())
            .finish_non_exhaustive()
    }
}

impl SimDisk {
    /// An empty disk without faults, of any size; operations take 20 µs to 1 ms.
    #[must_use]
    pub fn new(seed: u64) -> SimDisk {
        SimDisk(Rc::new(RefCell::new(Disk {
            rng: seeded(seed, 401),
            life: 0,
            files: BTreeMap::new(),
            under_way: BTreeMap::new(),
            latency: Duration::from_micros(20)..Duration::from_millis(1),
            capacity: None,
            writes: 0,
            failing_writes: BTreeSet::new(),
            one_write_in: 0,
            unreadable: BTreeSet::new(),
        })))
    }

    /// The disk for the node's present life.
    #[must_use]
    pub fn mount(&self) -> MountedDisk {
        MountedDisk {
            life: self.0.borrow().life,
            disk: self.clone(),
        }
    }

    /// The power goes, or the process is killed: what is under way ends half done, and what is mounted is dead.
    pub fn crash(&self) {
        let mut disk = self.0.borrow_mut();
        disk.life += 1;
        for (_, operation) in std::mem::take(&mut disk.under_way) {
            disk.half_do(operation);
        }
    }

    /// When the next operation ends.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        let disk = self.0.borrow();
        disk.under_way.keys().next().map(|(due, _)| *due)
    }

    /// From now on each operation takes a time out of this range.
    ///
    /// # Panics
    /// When it is used, if the range is empty.
    pub fn latency(&self, range: Range<Duration>) {
        self.0.borrow_mut().latency = range;
    }

    /// From now on no file can be made that does not fit into this many bytes with the others.
    pub fn capacity(&self, bytes: u64) {
        self.0.borrow_mut().capacity = Some(bytes);
    }

    /// The nth write from now on fails, or its flush does: any of its sectors may be on the disk. 1 is the next.
    pub fn fail_nth_write(&self, nth: u64) {
        let mut disk = self.0.borrow_mut();
        let number = disk.writes + nth;
        disk.failing_writes.insert(number);
    }

    /// From now on one write in `one_in` fails likewise; 0 ends it.
    pub fn fail_writes(&self, one_in: u32) {
        self.0.borrow_mut().one_write_in = one_in;
    }

    /// Changes one bit in this byte of a file. Says whether there is such a byte.
    pub fn damage(&self, file: FileName, offset: u64) -> bool {
        let mut disk = self.0.borrow_mut();
        let Some(byte) = disk
            .files
            .get_mut(&file)
            .and_then(|bytes| bytes.get_mut(offset as usize))
        else {
            return false;
        };
        *byte ^= 0x10;
        true
    }

    /// From now on the sector of this byte of a file cannot be read, until it is written.
    pub fn make_unreadable(&self, file: FileName, offset: u64) {
        let sector = offset / SECTOR as u64;
        self.0.borrow_mut().unreadable.insert((file, sector));
    }

    /// Puts these bytes into a file, as somebody does who edits it. Says whether there is so much of it.
    pub fn overwrite(&self, file: FileName, offset: u64, bytes: &[u8]) -> bool {
        let mut disk = self.0.borrow_mut();
        let range = offset as usize..offset as usize + bytes.len();
        let content = disk.files.get_mut(&file);
        let Some(place) = content.and_then(|content| content.get_mut(range)) else {
            return false;
        };
        place.copy_from_slice(bytes);
        true
    }

    /// Copies a file; one of the new name is replaced. Says whether it was there.
    pub fn copy(&self, from: FileName, to: FileName) -> bool {
        let mut disk = self.0.borrow_mut();
        let Some(bytes) = disk.files.get(&from).cloned() else {
            return false;
        };
        disk.files.insert(to, bytes);
        true
    }

    /// Removes a file. Says whether it was there.
    pub fn remove(&self, file: FileName) -> bool {
        self.0.borrow_mut().files.remove(&file).is_some()
    }

    /// Cuts a file to this size, or lengthens it with zeros. Says whether it was there.
    pub fn resize(&self, file: FileName, bytes: usize) -> bool {
        let mut disk = self.0.borrow_mut();
        let Some(content) = disk.files.get_mut(&file) else {
            return false;
        };
        content.resize(bytes, 0);
        true
    }

    /// The content of a file, as it would be after a crash that finishes nothing.
    #[must_use]
    pub fn read(&self, file: FileName) -> Option<Vec<u8>> {
        self.0.borrow().files.get(&file).cloned()
    }

    /// The files, by name.
    #[must_use]
    pub fn files(&self) -> Vec<FoundFile> {
        self.0.borrow().found()
    }
}

impl LogStore for MountedDisk {
    fn submit(&mut self, now: Time, ticket: Ticket, operation: Operation) {
        let mut disk = self.disk.0.borrow_mut();
        if disk.life != self.life {
            return;
        }
        let latency = disk.latency.start.as_nanos() as u64..disk.latency.end.as_nanos() as u64;
        let takes = Duration::from_nanos(disk.rng.random_range(latency));
        disk.under_way.insert((now + takes, ticket), operation);
    }

    fn poll(&mut self, now: Time) -> Option<(Ticket, Result<Outcome, StoreError>)> {
        let mut disk = self.disk.0.borrow_mut();
        if disk.life != self.life {
            return None;
        }
        let entry = disk.under_way.first_entry()?;
        let (due, ticket) = *entry.key();
        if due > now {
            return None;
        }
        let operation = entry.remove();
        Some((ticket, disk.perform(operation)))
    }
}

impl Disk {
    fn found(&self) -> Vec<FoundFile> {
        let file = |(name, bytes): (&FileName, &Vec<u8>)| FoundFile {
            name: *name,
            bytes: bytes.len() as u64,
        };
        self.files.iter().map(file).collect()
    }

    fn perform(&mut self, operation: Operation) -> Result<Outcome, StoreError> {
        let doing = operation.to_string();
        let fail = |kind, what: &str| {
            Err(StoreError {
                doing: doing.clone(),
                what: what.to_owned(),
                kind,
            })
        };
        let missing = || fail(StoreErrorKind::NotFound, "there is no such file");
        match operation {
            Operation::List => Ok(Outcome::Files(self.found())),
            Operation::Create { file, bytes } => {
                let used: u64 = self.files.values().map(|bytes| bytes.len() as u64).sum();
                if self
                    .capacity
                    .is_some_and(|capacity| used + bytes > capacity)
                {
                    return fail(StoreErrorKind::NoSpace, "the disk is full");
                }
                self.files.insert(file, vec![0; bytes as usize]);
                Ok(Outcome::Done)
            }
            Operation::Write {
                file,
                offset,
                bytes,
            } => {
                self.writes += 1;
                let one_in = self.one_write_in;
                let unlucky = one_in > 0 && self.rng.random_ratio(1, one_in);
                if self.failing_writes.remove(&self.writes) || unlucky {
                    self.tear(file, offset, &bytes);
                    return fail(StoreErrorKind::Io, "the flush failed");
                }
                let end = offset as usize + bytes.len();
                let Some(content) = self
                    .files
                    .get_mut(&file)
                    .filter(|content| end <= content.len())
                else {
                    return missing();
                };
                content[offset as usize..end].copy_from_slice(&bytes);
                for sector in offset / SECTOR as u64..end as u64 / SECTOR as u64 {
                    self.unreadable.remove(&(file, sector));
                }
                Ok(Outcome::Written(bytes))
            }
            Operation::Read {
                file,
                offset,
                bytes,
            } => {
                let end = offset + bytes as u64;
                let sectors = offset / SECTOR as u64..end.div_ceil(SECTOR as u64);
                let bad = self
                    .unreadable
                    .range((file, sectors.start)..(file, sectors.end));
                if let Some((_, sector)) = bad.into_iter().next() {
                    let what = format!("sector {sector} cannot be read");
                    return fail(StoreErrorKind::Io, &what);
                }
                match self
                    .files
                    .get(&file)
                    .map(|content| content.get(offset as usize..end as usize))
                {
                    Some(Some(read)) => Ok(Outcome::Bytes(read.to_vec())),
                    Some(None) => fail(StoreErrorKind::Io, "the file is shorter"),
                    None => missing(),
                }
            }
            Operation::Rename { from, to } => match self.files.remove(&from) {
                Some(content) => {
                    self.files.insert(to, content);
                    Ok(Outcome::Done)
                }
                None => missing(),
            },
            Operation::Remove { file } => match self.files.remove(&file) {
                Some(_) => Ok(Outcome::Done),
                None => missing(),
            },
        }
    }

    fn half_do(&mut self, operation: Operation) {
        match operation {
            Operation::List | Operation::Read { .. } => {}
            Operation::Write {
                file,
                offset,
                bytes,
            } => self.tear(file, offset, &bytes),
            Operation::Create { file, bytes } => {
                if self.rng.random_ratio(1, 2) {
                    let sectors = bytes / SECTOR as u64;
                    let made = self.rng.random_range(0..=sectors) * SECTOR as u64;
                    self.files.insert(file, vec![0; made as usize]);
                }
            }
            Operation::Rename { .. } | Operation::Remove { .. } => {
                if self.rng.random_ratio(1, 2) {
                    // One that fails would have failed.
                    let _ = self.perform(operation);
                }
            }
        }
    }

    /// Some of the sectors get to the disk: none or all of them, those up to one, or any.
    fn tear(&mut self, file: FileName, offset: u64, bytes: &[u8]) {
        let sectors = bytes.len() / SECTOR;
        let whole = self.rng.random_range(0..=sectors);
        let way = self.rng.random_range(0..5);
        let one_in = self.rng.random_range(2..=8);
        for (number, sector) in bytes.chunks(SECTOR).enumerate() {
            let lost = match way {
                0 => true,
                1 => false,
                2 => number >= whole,
                3 => self.rng.random_ratio(1, one_in),
                _ => self.rng.random_ratio(1, 2),
            };
            let start = offset as usize + number * SECTOR;
            let Some(content) = self.files.get_mut(&file) else {
                return;
            };
            if let Some(place) = content.get_mut(start..start + sector.len())
                && !lost
            {
                place.copy_from_slice(sector);
                self.unreadable.remove(&(file, (start / SECTOR) as u64));
            }
        }
    }
}
