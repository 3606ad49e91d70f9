//! How a core that sleeps is woken.
//!
//! The sleeper announces sleep, looks at its lanes once more, and only then parks; whoever puts something into a lane
//! looks for the announcement afterwards. With a full fence on both sides one of the two sees the other, so no wake is
//! lost, and a busy core is never woken (Seastar's reactors sleep the same way).

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::task::Waker;

/// The bell of one core, on cache lines of its own, since every core looks at it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Doorbell {
    asleep: AtomicBool,
    rings: AtomicU64,
    gone: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Doorbell {
    /// Announces that the core is about to park and how to wake it. The core must look at its lanes once more before it
    /// does.
    pub fn announce_sleep(&self, waker: &Waker) {
        let mut slot = self.slot();
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
        drop(slot);
        self.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back: the core is awake.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Whether the core has announced sleep and nobody has rung since.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Wakes the core if it sleeps; call it after everything of this turn has been put into its lanes. Returns whether
    /// it slept.
    #[inline]
    pub fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) && self.wake()
    }

    /// How often a sleeping core was woken.
    #[must_use]
    pub fn rings(&self) -> u64 {
        self.rings.load(Ordering::Relaxed)
    }

    /// Announces that the core takes nothing any more. It must look at its lanes once more afterwards; who puts something
    /// in later sees it after having rung.
    pub fn announce_end(&self) {
        self.gone.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Whether the core takes nothing any more.
    #[inline]
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Forgets how to wake the core; for its end.
    pub fn disconnect(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        *self.slot() = None;
    }

    #[cold]
    fn wake(&self) -> bool {
        let slept = self.asleep.swap(false, Ordering::SeqCst);
        if slept {
            self.rings.fetch_add(1, Ordering::Relaxed);
            // Under the lock, so that nobody is still waking when `disconnect` has returned.
            if let Some(waker) = self.slot().as_ref() {
                waker.wake_by_ref();
            }
        }
        slept
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        // A waker cannot be left half written, so a poisoned lock is as good as any.
        self.waker
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn wakes_a_sleeper_once_and_a_waking_core_never() {
        let woken = Arc::new(Count(AtomicUsize::new(0)));
        let bell = Doorbell::default();
        assert!(!bell.ring());
        bell.announce_sleep(&Waker::from(woken.clone()));
        assert!(bell.ring());
        assert!(!bell.ring());
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        bell.announce_sleep(&Waker::from(woken.clone()));
        bell.awake();
        assert!(!bell.ring());
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    }
}
