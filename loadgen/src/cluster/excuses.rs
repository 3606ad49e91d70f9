//! Which member events a fault explains. Those that none explains are false: a healthy node was held for dead.

use std::collections::BTreeMap;

use super::protocol::{EventNews, MemberEventKind};

/// How long after a node is back what is said of it is still put down to its fault, in nanoseconds: events come by way of
/// the log, and a node that was away learns of them last.
pub const AFTERWARDS_NS: u64 = 5_000_000_000;

/// When which node has an excuse.
#[derive(Clone, Debug, Default)]
pub struct Excuses {
    /// By node: from when, and until when if that is over.
    spans: BTreeMap<u32, Vec<(u64, Option<u64>)>>,
}

impl Excuses {
    /// A fault hits a node.
    pub fn begin(&mut self, node: u32, at_ns: u64) {
        self.spans.entry(node).or_default().push((at_ns, None));
    }

    /// The cluster is whole again.
    pub fn end(&mut self, node: u32, at_ns: u64) {
        for (_, until) in self.spans.get_mut(&node).into_iter().flatten() {
            until.get_or_insert(at_ns.saturating_add(AFTERWARDS_NS));
        }
    }

    /// Whether a fault explains what `teller` said: of a node that has an excuse, by one that has, or on the word of none
    /// but such.
    #[must_use]
    pub fn explain(&self, teller: u32, event: &EventNews) -> bool {
        let covers = |node: &u32| self.covers(*node, event.at_ns);
        let is_unreachable = event.what == MemberEventKind::Unreachable;
        covers(&event.node)
            || covers(&teller)
            || is_unreachable && !event.by.is_empty() && event.by.iter().all(covers)
    }

    fn covers(&self, node: u32, at_ns: u64) -> bool {
        let mut spans = self.spans.get(&node).into_iter().flatten();
        spans.any(|&(from, until)| from <= at_ns && until.is_none_or(|until| at_ns <= until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_explained_by_a_fault_of_whom_it_is_about_or_of_who_tells_it() {
        let mut excuses = Excuses::default();
        let event = |node, at_ns| EventNews {
            at_ns,
            what: MemberEventKind::Down,
            node,
            by: Vec::new(),
        };
        assert!(!excuses.explain(1, &event(2, 50)));
        excuses.begin(2, 100);
        assert!(!excuses.explain(1, &event(2, 99)), "before the fault");
        assert!(excuses.explain(1, &event(2, 100)) && excuses.explain(1, &event(2, 1 << 50)));
        assert!(!excuses.explain(1, &event(3, 200)), "another node");
        assert!(
            excuses.explain(2, &event(3, 200)),
            "who was cut off sees all others gone"
        );
        let unreachable = |by: &[u32]| EventNews {
            what: MemberEventKind::Unreachable,
            by: by.to_vec(),
            ..event(3, 200)
        };
        assert!(
            excuses.explain(1, &unreachable(&[2])),
            "who was cut off says so"
        );
        assert!(
            !excuses.explain(1, &unreachable(&[1, 2])) && !excuses.explain(1, &unreachable(&[]))
        );
        excuses.end(2, 1_000);
        assert!(excuses.explain(1, &event(2, 1_000 + AFTERWARDS_NS)));
        assert!(!excuses.explain(1, &event(2, 1_001 + AFTERWARDS_NS)));
        excuses.begin(2, AFTERWARDS_NS * 2);
        assert!(excuses.explain(3, &event(2, AFTERWARDS_NS * 3)));
    }
}
