//! What the report says of the machine's own hiccups.

use crate::measure::{HiccupSummary, SHORTEST_GAP};
use crate::units::{duration, latency};

/// What the row is, for people who have not asked for it. It was heard before the load and the machine may be kinder
/// later, so it is no bound on what follows, but on what can be relied upon.
pub(super) const EXPLANATION: &str = "what a thread that only spins would have shown on these CPUs just before: no \
                                      server on this machine can count on better";

/// The figures in the order of the latency table. Below a microsecond nothing is heard.
pub(super) fn waits(hiccups: &HiccupSummary) -> [String; 6] {
    hiccups.latency.figures().map(|(_, ns)| {
        if u128::from(ns) < SHORTEST_GAP.as_nanos() {
            format!("< {}", duration(SHORTEST_GAP).replace(".00", ""))
        } else {
            latency(ns)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::samples;

    #[test]
    fn waits_that_cannot_be_told_from_none_are_bounded() {
        let report = samples::main_job_with_hiccups();
        let hiccups = report.hiccups.expect("listened");
        let [p50, _, p99, p99_9, _, max] = waits(&hiccups);
        assert_eq!((p50.as_str(), p99.as_str()), ("< 1 µs", "< 1 µs"));
        assert_eq!((p99_9.as_str(), max.as_str()), ("3.00 ms", "4.00 ms"));
    }
}
