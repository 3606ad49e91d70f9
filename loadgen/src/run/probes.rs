//! What the cores of a cluster dropped of loadgen's own asks, told apart from what they dropped of the load.
//!
//! A message that is refused is a dead letter where that happens, which may be another node than the one that asked, and
//! the ask ends with the same reason. So as many dead letters of a reason as probes were rejected for it are theirs; and
//! of the replies that came too late as many as probes had timed out, on the node that asked.

use std::collections::BTreeMap;

use corecast::Rejection;

use crate::cluster::protocol::{
    DEAD_LETTER, ErrorCount, PROBE_REJECTED, PROBE_TIMED_OUT, PhaseNews,
};

/// The kind of error of such a dead letter.
const OF_A_PROBE: &str = "dead letter of a probe";

/// Sets apart what was dropped of probes, in the figures of all nodes, each with those of its processes.
pub(super) fn set_probes_apart(mut nodes: Vec<&mut [PhaseNews]>) {
    let late = Rejection::LateReply.to_string();
    let mut elsewhere = BTreeMap::new();
    for figures in nodes.iter_mut().flat_map(|node| node.iter_mut()) {
        let mut of_probes: BTreeMap<String, u64> = BTreeMap::new();
        for error in &figures.errors {
            match &*error.kind {
                PROBE_REJECTED => {
                    *of_probes.entry(error.reason.clone()).or_default() += error.count
                }
                PROBE_TIMED_OUT => *of_probes.entry(late.clone()).or_default() += error.count,
                _ => {}
            }
        }
        set_apart(&mut figures.errors, &mut of_probes);
        of_probes.remove(&late);
        for (reason, count) in of_probes {
            *elsewhere.entry(reason).or_default() += count;
        }
    }
    for figures in nodes.iter_mut().flat_map(|node| node.iter_mut()) {
        set_apart(&mut figures.errors, &mut elsewhere);
    }
}

/// Sets apart as many of each reason as there are, and takes them off.
fn set_apart(errors: &mut Vec<ErrorCount>, of_probes: &mut BTreeMap<String, u64>) {
    let mut apart = Vec::new();
    for error in errors.iter_mut().filter(|error| error.kind == DEAD_LETTER) {
        let Some(left) = of_probes.get_mut(&error.reason) else {
            continue;
        };
        let count = error.count.min(*left);
        error.count -= count;
        *left -= count;
        apart.push(ErrorCount {
            kind: OF_A_PROBE.to_owned(),
            reason: error.reason.clone(),
            count,
        });
    }
    errors.extend(apart);
    errors.retain(|error| error.count > 0);
}

#[cfg(test)]
mod tests {
    use corecast::Time;

    use super::*;
    use crate::measure::{Recorder, Window};

    fn figures(errors: &[(&str, Rejection, u64)]) -> [PhaseNews; 1] {
        let window = Window {
            start: Time::ZERO,
            end: Time::ZERO,
        };
        let errors = errors.iter().map(|(kind, reason, count)| ErrorCount {
            kind: (*kind).to_owned(),
            reason: reason.to_string(),
            count: *count,
        });
        [PhaseNews {
            phase: 1,
            recorder: Recorder::new(window),
            errors: errors.collect(),
            local: 0,
            remote: 0,
            tells: 0,
            unaccounted: 0,
        }]
    }

    fn dead(figures: &[PhaseNews], kind: &str) -> Vec<u64> {
        let errors = figures.iter().flat_map(|one| &one.errors);
        let of_kind = errors.filter(|error| error.kind == kind);
        of_kind.map(|error| error.count).collect()
    }

    #[test]
    fn dead_letters_of_probes_are_no_errors_of_the_load() {
        let (lost, late) = (Rejection::LinkLost, Rejection::LateReply);
        let mut asker = figures(&[
            (PROBE_REJECTED, lost, 10),
            (PROBE_TIMED_OUT, lost, 3),
            (DEAD_LETTER, lost, 4),
            (DEAD_LETTER, late, 5),
        ]);
        let mut other = figures(&[(DEAD_LETTER, lost, 9), (DEAD_LETTER, late, 7)]);
        set_probes_apart(vec![&mut asker[..], &mut other[..]]);
        assert_eq!(dead(&asker, OF_A_PROBE), [4, 3]);
        assert_eq!(
            dead(&asker, DEAD_LETTER),
            [2],
            "of the load's own late replies"
        );
        assert_eq!(dead(&other, OF_A_PROBE), [6]);
        assert_eq!(dead(&other, DEAD_LETTER), [3, 7]);
    }
}
