//! Closes the one descriptor that a glommio 0.9.0 executor leaves behind.
//!
//! Each of its tasks keeps a count of the executor's notifier for ever (the task's header is never dropped), so the
//! notifier's eventfd is never closed: measured, one for each executor that has run. A service that starts and stops
//! runtimes would run out of descriptors.
//!
//! The descriptor is found by comparing the process's eventfds before and after the executor is made, while no other
//! thread of this library makes one. It is taken only if exactly one is new: the executor's own is, so then it is that one,
//! whatever others have closed meanwhile. In doubt it stays open, and its core is not woken by the watchdog.
//!
// UNSAFE: earned by the leak measured above; there is no safe way to close a descriptor that somebody else forgot.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

/// The eventfd of one executor; dropped, it is closed. To be dropped after the executor's thread has been joined.
#[derive(Debug)]
pub struct LeakedEventfd(Option<RawFd>);

/// An eventfd: its descriptor and the kernel's number for it.
type Eventfds = BTreeSet<(RawFd, String)>;

/// Makes an executor, and finds the eventfd that it will leave behind.
pub fn watch<T, E>(make: impl FnOnce() -> Result<T, E>) -> Result<(T, LeakedEventfd), E> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let before = eventfds();
    let made = make()?;
    let leaked = the_new_one(&before, &eventfds());
    if leaked.is_none() {
        tracing::debug!(
            "the executor's eventfd cannot be told from others and stays open after its end"
        );
    }
    Ok((made, LeakedEventfd(leaked)))
}

impl LeakedEventfd {
    /// Whether the executor's eventfd was found.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// Wakes the executor, whatever it sleeps over.
    pub fn kick(&self) {
        if let Some(fd) = self.0 {
            // SAFETY: the descriptor is open as long as `self` is there, for nobody else closes it (see `drop`).
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            // It cannot fail but by a counter that is full, which wakes as well.
            let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
        }
    }
}

fn the_new_one(before: &Eventfds, after: &Eventfds) -> Option<RawFd> {
    let mut new = after.difference(before);
    match (new.next(), new.next()) {
        (Some((fd, _)), None) => Some(*fd),
        _ => None,
    }
}

fn eventfds() -> Eventfds {
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else {
        return Eventfds::new();
    };
    descriptors
        .flatten()
        .filter(|entry| {
            fs::read_link(entry.path())
                .is_ok_and(|target| target.as_os_str() == "anon_inode:[eventfd]")
        })
        .filter_map(|entry| {
            let fd = entry.file_name().to_str()?.parse().ok()?;
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
            let id = info
                .lines()
                .find_map(|line| line.strip_prefix("eventfd-id:"))?;
            Some((fd, id.trim().to_owned()))
        })
        .collect()
}

impl Drop for LeakedEventfd {
    fn drop(&mut self) {
        if let Some(fd) = self.0.take() {
            // SAFETY: the descriptor was made by the executor that `watch` observed, whose only owner is a notifier that
            // is never dropped, so nobody else closes it. The executor's thread has been joined and every waker of it
            // has been dropped (the doorbells forget theirs at the end of the core), so nobody writes to it either.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_certain_is_closed() {
        let set = |fds: &[(RawFd, &str)]| {
            fds.iter()
                .map(|(fd, id)| (*fd, (*id).to_owned()))
                .collect::<Eventfds>()
        };
        let before = set(&[(3, "1"), (4, "2")]);
        assert_eq!(
            the_new_one(&before, &set(&[(3, "1"), (4, "2"), (9, "3")])),
            Some(9)
        );
        assert_eq!(the_new_one(&before, &before), None);
        assert_eq!(
            the_new_one(&before, &set(&[(3, "1"), (4, "2"), (5, "3"), (6, "4")])),
            None
        );
        // Somebody closed one of theirs meanwhile, as runtimes do that end beside this one.
        assert_eq!(the_new_one(&before, &set(&[(3, "1"), (9, "3")])), Some(9));
    }
}
