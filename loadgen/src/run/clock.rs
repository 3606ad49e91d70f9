//! The clock of the load generator: one origin for all cores and threads, so that times taken anywhere can be compared.
//!
//! The runtime's own clock cannot be read from other threads, and drivers may run there.

use std::time::Instant;

use corecast::Time;

/// A clock that counts from when it was made; a read costs about 25 ns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(super) fn new() -> Clock {
        Clock {
            origin: Instant::now(),
        }
    }

    #[inline]
    pub(super) fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
