//! The files of a log, written past the page cache by glommio.
//!
//! What has to be known of glommio 0.9.0 and the kernel:
//!
//! - The first DMA file that an executor opens is probed with a read, and an empty one makes it believe that the disk can
//!   be polled: then each write takes 3.8 ms instead of 0.12. So a file of two blocks is opened before any other.
//! - An executor on a busy CPU may sleep over work that is ready, and with it over a log: the [watchdog] has to watch over
//!   it.
//! - A cancelled operation loses its data: operations run in tasks of their own, which nobody cancels.
//! - io_uring does not order what is submitted: the flush is submitted when the write has ended.
//! - A process that is killed may leave a write behind that the kernel ends later, after the lock on the directory is
//!   free. Such a write holds the segment's file open, and with it the lock on *that*: a segment is locked before it is
//!   used, so nothing is read or written while an older life of this log could still change it.
//!
//! [watchdog]: super::watchdog

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::future::poll_fn;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use glommio::io::{Directory, DmaFile, OpenOptions};
use nix::errno::Errno;
use nix::fcntl::{FlockArg, flock};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use thiserror::Error;

use super::lock_file::{self, LockError};
use crate::base::time::Time;
use crate::log::{
    FileName, FoundFile, LogStore, Operation, Outcome, StoreError, StoreErrorKind, Ticket,
};

/// The file by which glommio finds out what the disk can do.
const PROBE: &str = "probe";
/// Files that are kept open; recovery opens each segment once.
const OPEN_FILES: usize = 8;
/// Zeros are written in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;
/// How long a write of an earlier life may hold a segment.
const LATE_WRITES: Duration = Duration::from_secs(10);

/// Why the directory of a log cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LogFilesError {
    /// It is not there. It is not made, since its absence may mean that a disk is not mounted.
    #[error("the directory {} of the log does not exist; make it, or mount the disk that it is on", .directory.display())]
    NoDirectory {
        /// The directory.
        directory: PathBuf,
    },
    /// This process may not write there.
    #[error("the directory {} of the log cannot be written to by this process ({what}); give its user the right to", .directory.display())]
    Forbidden {
        /// The directory.
        directory: PathBuf,
        /// The system's words.
        what: String,
    },
    /// Another process has it.
    #[error("the log in {} is open already (by process {process}); stop that one, or use another directory", .directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// The number of the process, as it wrote it.
        process: String,
    },
    /// Its file system cannot write past the page cache.
    #[error("the file system of {} does not support O_DIRECT ({what}), which the log needs; put it on ext4 or xfs", .directory.display())]
    NoDirectIo {
        /// The directory.
        directory: PathBuf,
        /// The system's words.
        what: String,
    },
    /// Anything else.
    #[error("the directory {} of the log cannot be used: {what}", .directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// What happened.
        what: String,
    },
}

/// The files of one log in a directory of its own, used from one glommio executor. Dropped, it lets what is under way go
/// on while the executor runs; [`close`](LogFiles::close) waits for it.
#[derive(Debug)]
pub struct LogFiles {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    directory: Directory,
    files: RefCell<BTreeMap<FileName, Rc<DmaFile>>>,
    ended: RefCell<VecDeque<(Ticket, Result<Outcome, StoreError>)>>,
    under_way: Cell<usize>,
    waiting: RefCell<Option<Waker>>,
    /// Held until the last operation has ended.
    _lock: File,
}

impl LogFiles {
    /// Takes a directory for this process. To be called in a glommio executor, before it opens any other DMA file. It
    /// blocks for a few short calls.
    ///
    /// On tmpfs, which has no disk below it, a log works and survives its process, not the machine: a warning says so.
    ///
    /// # Errors
    /// [`LogFilesError`]; nothing has changed but that a file to lock may have been made.
    pub async fn open(directory: &Path) -> Result<LogFiles, LogFilesError> {
        let fail = |error: io::Error| classify(directory, &error);
        if !fs::metadata(directory).map_err(fail)?.is_dir() {
            return Err(LogFilesError::Io {
                directory: directory.to_owned(),
                what: "it is a file; a log takes a directory".to_owned(),
            });
        }
        let lock = lock(directory)?;
        let on_tmpfs = statfs(directory).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC);
        if on_tmpfs {
            tracing::warn!(directory = %directory.display(), "the log is on tmpfs: it will not survive the machine");
        }
        probe(directory).await?;
        let opened = Directory::open(directory).await;
        Ok(LogFiles {
            shared: Rc::new(Shared {
                path: directory.to_owned(),
                directory: opened.map_err(|error| fail(error.into()))?,
                files: RefCell::default(),
                ended: RefCell::default(),
                under_way: Cell::new(0),
                waiting: RefCell::default(),
                _lock: lock,
            }),
        })
    }

    /// How many operations have begun and not ended.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.shared.under_way.get()
    }

    /// Waits until [`poll`](LogStore::poll) has something, or nothing is under way. One waits at a time.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.shared.ended.borrow().is_empty() && self.under_way() > 0 {
                *self.shared.waiting.borrow_mut() = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Ready if [`poll`](LogStore::poll) has something. If not, the waker is kept and called once it has; the last one that
    /// was given counts, that of [`wait`](LogFiles::wait) among them.
    pub fn poll_ended(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.shared.ended.borrow().is_empty() {
            return Poll::Ready(());
        }
        *self.shared.waiting.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    /// Waits until nothing is under way, and lets the directory go. What has ended and was not polled is forgotten.
    pub async fn close(self) {
        while self.under_way() > 0 {
            self.shared.ended.borrow_mut().clear();
            self.wait().await;
        }
        let files = std::mem::take(&mut *self.shared.files.borrow_mut());
        for file in files.into_values() {
            // All that was to be durable has been flushed.
            let _ = file.close_rc().await;
        }
        // Dropped, it would be closed by the executor some time later, or never, if that ends now.
        if let Some(shared) = Rc::into_inner(self.shared) {
            let _ = shared.directory.close().await;
        }
    }
}

impl LogStore for LogFiles {
    fn submit(&mut self, _: Time, ticket: Ticket, operation: Operation) {
        let shared = self.shared.clone();
        shared.under_way.set(shared.under_way.get() + 1);
        glommio::spawn_local(async move {
            let doing = operation.to_string();
            let outcome = shared.perform(operation).await;
            let outcome = outcome.map_err(|error| store_error(doing, &error));
            shared.ended.borrow_mut().push_back((ticket, outcome));
            shared.under_way.set(shared.under_way.get() - 1);
            if let Some(waker) = shared.waiting.borrow_mut().take() {
                waker.wake();
            }
        })
        .detach();
    }

    fn poll(&mut self, _: Time) -> Option<(Ticket, Result<Outcome, StoreError>)> {
        self.shared.ended.borrow_mut().pop_front()
    }
}

impl Shared {
    async fn perform(&self, operation: Operation) -> io::Result<Outcome> {
        match operation {
            Operation::List => list(&self.path).map(Outcome::Files),
            Operation::Create { file, bytes } => {
                self.create(file, bytes).await?;
                Ok(Outcome::Done)
            }
            Operation::Write {
                file,
                offset,
                bytes,
            } => {
                let file = self.file(file).await?;
                let mut done = 0;
                while done < bytes.len() {
                    let mut buffer = file.alloc_dma_buffer(bytes.len() - done);
                    buffer.as_bytes_mut().copy_from_slice(&bytes[done..]);
                    match file.write_at(buffer, offset + done as u64).await? {
                        0 => return Err(io::ErrorKind::WriteZero.into()),
                        written => done += written,
                    }
                }
                file.fdatasync().await?;
                Ok(Outcome::Written(bytes))
            }
            Operation::Read {
                file,
                offset,
                bytes,
            } => {
                let file = self.file(file).await?;
                let read = file.read_at_aligned(offset, bytes).await?;
                match read.len() == bytes {
                    true => Ok(Outcome::Bytes(read.to_vec())),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
            Operation::Rename { from, to } => {
                let (old, new) = (self.path_of(from), self.path_of(to));
                glommio::io::rename(old, new).await?;
                let open = self.files.borrow_mut().remove(&from);
                if let Some(file) = open {
                    self.files.borrow_mut().insert(to, file);
                }
                self.directory.sync().await?;
                Ok(Outcome::Done)
            }
            Operation::Remove { file } => {
                let open = self.files.borrow_mut().remove(&file);
                if let Some(open) = open {
                    open.close_rc().await?;
                }
                glommio::io::remove(self.path_of(file)).await?;
                self.directory.sync().await?;
                Ok(Outcome::Done)
            }
        }
    }

    fn path_of(&self, file: FileName) -> PathBuf {
        self.path.join(file.to_string())
    }

    /// Writing zeros is what makes later writes fast: into blocks that are merely allocated they take twice as long.
    async fn create(&self, name: FileName, bytes: u64) -> io::Result<()> {
        let stale = self.files.borrow_mut().remove(&name);
        if let Some(stale) = stale {
            stale.close_rc().await?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.dma_open(self.path_of(name)).await?;
        match file
            .pre_allocate(bytes, false)
            .await
            .map_err(io::Error::from)
        {
            // The file system does not know how: writing allocates as well.
            Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {}
            outcome => outcome?,
        }
        let mut zeros = file.alloc_dma_buffer(PIECE_BYTES.min(bytes as usize));
        zeros.as_bytes_mut().fill(0);
        let zeros = Rc::new(zeros);
        let mut done = 0;
        while done < bytes {
            // The end is not a multiple of a piece: what is too much is cut off below.
            match file.write_rc_at(zeros.clone(), done).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => done += written as u64,
            }
        }
        if done > bytes {
            file.truncate(bytes).await?;
        }
        file.fdatasync().await?;
        file.close().await?;
        self.directory.sync().await?;
        Ok(())
    }

    /// The file, opened and locked.
    async fn file(&self, name: FileName) -> io::Result<Rc<DmaFile>> {
        let open = self.files.borrow().get(&name).cloned();
        if let Some(file) = open {
            return Ok(file);
        }
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .dma_open(self.path_of(name))
            .await?;
        wait_for_late_writes(&file).await?;
        let file = Rc::new(file);
        let surplus = {
            let mut files = self.files.borrow_mut();
            files.insert(name, file.clone());
            // The oldest segment is the one that is least likely to be used again.
            let oldest = files.keys().find(|other| **other != name).copied();
            oldest
                .filter(|_| files.len() > OPEN_FILES)
                .and_then(|oldest| files.remove(&oldest))
        };
        if let Some(surplus) = surplus {
            surplus.close_rc().await?;
        }
        Ok(file)
    }
}

async fn wait_for_late_writes(file: &DmaFile) -> io::Result<()> {
    let pause = Duration::from_millis(1);
    let mut waited = Duration::ZERO;
    loop {
        match flock(file.as_raw_fd(), FlockArg::LockExclusiveNonblock) {
            Ok(()) => return Ok(()),
            Err(Errno::EWOULDBLOCK) if waited < LATE_WRITES => {
                glommio::timer::sleep(pause).await;
                waited += pause;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn list(directory: &Path) -> io::Result<Vec<FoundFile>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str().and_then(FileName::parse) {
            found.push(FoundFile {
                name,
                bytes: entry.metadata()?.len(),
            });
        }
    }
    Ok(found)
}

fn lock(directory: &Path) -> Result<File, LogFilesError> {
    lock_file::lock(directory).map_err(|error| match error {
        LockError::InUse(process) => LogFilesError::InUse {
            directory: directory.to_owned(),
            process,
        },
        LockError::Io(error) => classify(directory, &error),
    })
}

/// Lets glommio find out what the disk can do, by a file that has something in it.
async fn probe(directory: &Path) -> Result<(), LogFilesError> {
    let path = directory.join(PROBE);
    let fail = |error: io::Error| classify(directory, &error);
    let made = File::create(&path).and_then(|mut file| {
        file.write_all(&[0; 8_192])?;
        file.sync_all()
    });
    made.map_err(fail)?;
    let opened = DmaFile::open(&path).await.map_err(io::Error::from);
    let _ = fs::remove_file(&path);
    match opened {
        Ok(file) => file.close().await.map_err(|error| fail(error.into())),
        Err(error) if os_error(&error) == Some(Errno::EINVAL as i32) => {
            Err(LogFilesError::NoDirectIo {
                directory: directory.to_owned(),
                what: error.to_string(),
            })
        }
        Err(error) => Err(fail(error)),
    }
}

fn classify(directory: &Path, error: &io::Error) -> LogFilesError {
    let directory = directory.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => LogFilesError::NoDirectory { directory },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            LogFilesError::Forbidden {
                directory,
                what: error.to_string(),
            }
        }
        _ => LogFilesError::Io {
            directory,
            what: error.to_string(),
        },
    }
}

/// glommio wraps the system's error into the text of another.
fn os_error(error: &io::Error) -> Option<i32> {
    error.raw_os_error().or_else(|| {
        let text = error.to_string();
        let (_, rest) = text.split_once("(os error ")?;
        rest.split_once(')')?.0.parse().ok()
    })
}

fn store_error(doing: String, error: &io::Error) -> StoreError {
    let (kind, advice) = match os_error(error).map(Errno::from_i32) {
        Some(Errno::ENOSPC | Errno::EDQUOT) => (
            StoreErrorKind::NoSpace,
            "; free space on the disk, or raise the quota",
        ),
        Some(Errno::ENOENT) => (StoreErrorKind::NotFound, "; somebody has removed it"),
        Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => (
            StoreErrorKind::Forbidden,
            "; give the user of this process the right to write there",
        ),
        Some(Errno::EWOULDBLOCK) => (
            StoreErrorKind::Io,
            "; another process has it open, or a write of one that was killed has not ended",
        ),
        Some(Errno::EIO) => (
            StoreErrorKind::Io,
            "; look at the kernel's log, the disk may be failing",
        ),
        _ => (StoreErrorKind::Io, ""),
    };
    StoreError {
        doing,
        what: format!("{error}{advice}"),
        kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart() {
        let wrapped =
            io::Error::other("No space left on device (os error 28), op: Writing path: None");
        let cases = [
            (
                io::Error::from_raw_os_error(28),
                StoreErrorKind::NoSpace,
                "free space",
            ),
            (wrapped, StoreErrorKind::NoSpace, "free space"),
            (
                io::Error::from_raw_os_error(2),
                StoreErrorKind::NotFound,
                "removed",
            ),
            (
                io::Error::from_raw_os_error(13),
                StoreErrorKind::Forbidden,
                "the right",
            ),
            (
                io::Error::from_raw_os_error(5),
                StoreErrorKind::Io,
                "kernel's log",
            ),
            (io::ErrorKind::UnexpectedEof.into(), StoreErrorKind::Io, ""),
        ];
        for (error, kind, advice) in cases {
            let error = store_error("write".to_owned(), &error);
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.to_string().contains(advice), "{error}");
        }
    }
}
