//! The clock of a runtime's cores.

use super::cluster::boot_clock::boot_time;
use crate::base::time::Time;
use std::time::Instant;

/// What time it is in a runtime, counted from its start.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RuntimeClock {
    /// It stands still while the machine is suspended.
    Monotonic(Instant),
    /// It goes on meanwhile, as leases need it: that of a node of a cluster.
    Boot(Time),
}

impl RuntimeClock {
    /// Begins now.
    pub(crate) fn start(is_node_of_cluster: bool) -> RuntimeClock {
        match is_node_of_cluster {
            true => RuntimeClock::Boot(boot_time()),
            false => RuntimeClock::Monotonic(Instant::now()),
        }
    }

    #[inline]
    pub(crate) fn now(self) -> Time {
        match self {
            RuntimeClock::Monotonic(started) => {
                Time::from_nanos(started.elapsed().as_nanos() as u64)
            }
            RuntimeClock::Boot(_) => self.at_boot_time(boot_time()),
        }
    }

    /// The time at which the boot-time clock shows this; without a cluster nobody asks.
    pub(crate) fn at_boot_time(self, time: Time) -> Time {
        match self {
            RuntimeClock::Boot(started) => Time::ZERO + (time - started),
            RuntimeClock::Monotonic(_) => Time::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn both_count_from_their_start() {
        for is_node_of_cluster in [false, true] {
            let clock = RuntimeClock::start(is_node_of_cluster);
            let first = clock.now();
            assert!(first < Time::ZERO + Duration::from_secs(60));
            assert!(clock.now() >= first);
        }
    }

    #[test]
    fn leases_are_told_by_the_time_of_the_cores() {
        let clock = RuntimeClock::Boot(Time::from_nanos(1_000));
        let at = |nanos| clock.at_boot_time(Time::from_nanos(nanos)).as_nanos();
        assert_eq!((at(1_500), at(1_000), at(7)), (500, 0, 0));
    }
}
