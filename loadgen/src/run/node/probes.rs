//! How loadgen's own asks fail: those that have shards given an owner, watch the shards of a victim, and ask for counts.
//!
//! They are no load. What the cores of a cluster drop of them they count as dead letters all the same, so their failures
//! are counted by reason, for the report to tell the two apart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corecast::{AskError, Pending, Uncertainty};

use crate::cluster::protocol::{ErrorCount, PROBE_REJECTED, PROBE_TIMED_OUT, PROBE_UNKNOWN};

/// The failures of one node, for any of its threads. Successes do not touch it.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes(Arc<Mutex<BTreeMap<(&'static str, String), u64>>>);

impl Probes {
    /// One has failed.
    #[cold]
    pub(super) fn failed(&self, why: AskError) {
        let kind = match why {
            AskError::Rejected(why) => (PROBE_REJECTED, why.to_string()),
            AskError::Unknown(Uncertainty::Timeout) => {
                (PROBE_TIMED_OUT, Uncertainty::Timeout.to_string())
            }
            AskError::Unknown(why) => (PROBE_UNKNOWN, why.to_string()),
        };
        *self.counts().entry(kind).or_default() += 1;
    }

    /// What has failed since the last call.
    pub(super) fn take(&self) -> Vec<ErrorCount> {
        let counts = std::mem::take(&mut *self.counts()).into_iter();
        counts
            .map(|((kind, reason), count)| ErrorCount {
                kind: kind.to_owned(),
                reason,
                count,
            })
            .collect()
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<(&'static str, String), u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Probes of the thread that looks after the node, until they end.
#[derive(Debug, Default)]
pub(super) struct OpenProbes(Vec<Pending<Result<u64, AskError>>>);

impl OpenProbes {
    pub(super) fn push(&mut self, probe: Pending<Result<u64, AskError>>) {
        self.0.push(probe);
    }

    /// Takes note of those that have ended.
    pub(super) fn settle(&mut self, probes: &Probes) {
        let open = std::mem::take(&mut self.0).into_iter();
        self.0 = open
            .filter_map(|probe| match probe.try_take() {
                Err(probe) => Some(probe),
                Ok(outcome) => {
                    if let Err(why) = outcome {
                        probes.failed(why);
                    }
                    None
                }
            })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use corecast::Rejection;

    use super::*;

    #[test]
    fn failures_are_told_once_by_kind_and_reason() {
        let probes = Probes::default();
        let shared = probes.clone();
        for _ in 0..2 {
            shared.failed(Rejection::LinkFull.into());
        }
        shared.failed(Uncertainty::Timeout.into());
        shared.failed(Uncertainty::LinkLost.into());
        let told = probes.take();
        let counts: Vec<_> = told
            .iter()
            .map(|error| (&*error.kind, error.count))
            .collect();
        assert_eq!(
            counts,
            [
                (PROBE_REJECTED, 2),
                (PROBE_TIMED_OUT, 1),
                (PROBE_UNKNOWN, 1)
            ]
        );
        assert_eq!(probes.take(), []);
    }
}
