//! Who holds the core too long: counted, and logged with its type.

use super::local::Local;

impl Local {
    /// Looks at the clock on behalf of a future that has just been polled.
    pub(crate) fn account_for_future(&mut self, name: &'static str) {
        let now = self.clock.now();
        let held = now - self.clock_read;
        self.clock_read = now;
        if held > self.limits.stall {
            self.counters.stalls += 1;
            tracing::warn!(core = %self.core, future = name, held_ms = held.as_millis() as u64, "a future held its core too long");
        }
    }

    /// Looks at the clock on behalf of the actor that has just run: who held the core too long is counted and logged.
    #[cold]
    pub(super) fn account_for_time(&mut self, kind: usize) {
        let now = self.clock.now();
        let held = now - self.clock_read;
        self.clock_read = now;
        let known = &mut self.kinds[kind];
        known.longest = known.longest.max(held);
        if held > self.limits.stall {
            known.stalls += 1;
            self.counters.stalls += 1;
            tracing::warn!(core = %self.core, actor = known.name, held_ms = held.as_millis() as u64, "a handler held its core too long");
        }
    }
}
