//! The clock of control planes: it goes on while the machine is suspended, as leases need it.

use crate::base::time::Time;
use rustix::time::{ClockId, clock_gettime};

/// The time since the machine was started (`CLOCK_BOOTTIME`). It is not the time of a runtime's cores, which stands still
/// while the machine is suspended; never compare the two.
#[must_use]
pub fn boot_time() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    Time::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on() {
        let first = boot_time();
        assert!(first > Time::ZERO);
        assert!(boot_time() >= first);
    }
}
