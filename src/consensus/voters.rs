//! Who should vote: a pure function of who belongs to the cluster and how they are doing.
//!
//! A change is planned in steps that are safe one by one. Whoever is new learns first, and gets a vote when it has
//! caught up, so that no commit waits for a peer that has nothing yet. Whoever votes goes on voting: a vote moves only
//! away from a peer that has left, or that is unreachable while another could take its place.

use std::collections::{BTreeMap, BTreeSet};

use super::configuration::{Configuration, ConfigurationChange, PeerChange};
use super::peer::PeerId;

/// How a peer is doing, as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it answers.
    pub reachable: bool,
    /// Whether it has about all of the log.
    pub caught_up: bool,
}

/// The next change on the way to a configuration of `wanted` with at most `max_voters` voters; `None` when it is
/// reached, when a change is under way, or when nothing can be done at present.
///
/// If one disk of a node takes the place of another, both are peers: the old one is removed in the step in which the
/// new one gets its vote.
///
/// ```
/// use std::collections::BTreeMap;
/// use corecast::base::ids::NodeId;
/// use corecast::consensus::configuration::Configuration;
/// use corecast::consensus::peer::{DiskId, PeerId};
/// use corecast::consensus::voters::{Standing, plan};
///
/// let disk = DiskId::from_number(1).unwrap();
/// let [one, two] = [1, 2].map(|node| PeerId::new(NodeId(node), disk));
/// let well = Standing { reachable: true, caught_up: true };
/// let current = Configuration::of_voters([one]);
/// assert_eq!(plan(&current, &BTreeMap::from([(one, well)]), 7), None);
/// let change = plan(&current, &BTreeMap::from([(one, well), (two, well)]), 7).unwrap();
/// assert_eq!(change.steps.len(), 1); // `two` learns
/// ```
#[must_use]
pub fn plan(
    current: &Configuration,
    wanted: &BTreeMap<PeerId, Standing>,
    max_voters: usize,
) -> Option<ConfigurationChange> {
    if current.is_joint() || wanted.is_empty() {
        return None;
    }
    let target = choose(current, wanted, max_voters);
    let mut steps = Vec::new();
    for peer in &target {
        if !current.voters.contains(peer) {
            steps.push((PeerChange::Vote, peer.number()));
        }
    }
    for peer in current.voters.difference(&target) {
        let change = match wanted.contains_key(peer) {
            true => PeerChange::Learn,
            false => PeerChange::Remove,
        };
        steps.push((change, peer.number()));
    }
    for peer in &current.learners {
        if !wanted.contains_key(peer) {
            steps.push((PeerChange::Remove, peer.number()));
        }
    }
    // Whoever is new learns, one at a time, for a snapshot goes to each. It does so before votes get lost: a cluster that
    // is replaced node by node never shrinks to one voter.
    let new = wanted.keys().find(|peer| !current.contains(**peer));
    let shrinks = target.len() * 2 <= current.voters.len();
    if let Some(peer) = new.filter(|_| steps.is_empty() || shrinks) {
        steps = vec![(PeerChange::Learn, peer.number())];
    }
    (!steps.is_empty()).then_some(ConfigurationChange { steps })
}

/// Who should vote at present. Never nobody.
fn choose(
    current: &Configuration,
    wanted: &BTreeMap<PeerId, Standing>,
    max_voters: usize,
) -> BTreeSet<PeerId> {
    let max_voters = max_voters.max(1);
    let standing = |peer: &PeerId| wanted.get(peer).copied();
    // Those that vote and are well, those that could, then those that vote and are not well.
    let well = |peer: &&PeerId| standing(peer).is_some_and(|standing| standing.reachable);
    let ready = |peer: &&PeerId| {
        standing(peer).is_some_and(|standing| standing.reachable && standing.caught_up)
    };
    let ill = |peer: &&PeerId| standing(peer).is_some_and(|standing| !standing.reachable);
    let ranked = current
        .voters
        .iter()
        .filter(well)
        .chain(current.learners.iter().filter(ready))
        .chain(current.voters.iter().filter(ill));
    let chosen: BTreeSet<PeerId> = ranked.take(max_voters).copied().collect();
    if chosen.is_empty() {
        return current.voters.clone();
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeId;
    use crate::consensus::peer::DiskId;
    use PeerChange::{Learn, Remove, Vote};
    use proptest::prelude::*;

    const WELL: Standing = Standing {
        reachable: true,
        caught_up: true,
    };
    const NEW: Standing = Standing {
        reachable: true,
        caught_up: false,
    };
    const GONE: Standing = Standing {
        reachable: false,
        caught_up: false,
    };

    fn peer(node: u32) -> PeerId {
        PeerId::new(NodeId(node), DiskId::from_number(1).unwrap())
    }

    fn configuration(voters: &[u32], learners: &[u32]) -> Configuration {
        Configuration {
            voters: voters.iter().copied().map(peer).collect(),
            learners: learners.iter().copied().map(peer).collect(),
            ..Configuration::default()
        }
    }

    fn planned(
        current: &Configuration,
        wanted: &[(u32, Standing)],
        max: usize,
    ) -> Vec<(PeerChange, u32)> {
        let wanted = wanted
            .iter()
            .map(|(node, how)| (peer(*node), *how))
            .collect();
        let change = plan(current, &wanted, max).unwrap_or_default();
        let node = |(change, number): (PeerChange, u64)| (change, (number >> 32) as u32);
        change.steps.into_iter().map(node).collect()
    }

    #[test]
    fn the_cases_one_thinks_of() {
        let two = configuration(&[1, 2], &[]);
        assert_eq!(planned(&two, &[(1, WELL), (2, WELL)], 7), []);
        assert_eq!(
            planned(&two, &[(1, WELL), (2, WELL), (3, NEW)], 7),
            [(Learn, 3)]
        );
        let learns = configuration(&[1, 2], &[3]);
        let wanted = [(1, WELL), (2, WELL), (3, NEW)];
        assert_eq!(planned(&learns, &wanted, 7), [], "it has not caught up");
        let wanted = [(1, WELL), (2, WELL), (3, WELL)];
        assert_eq!(planned(&learns, &wanted, 7), [(Vote, 3)]);
        assert_eq!(planned(&learns, &wanted, 2), [], "there are enough");
        // One that is gone gives its vote to one that is not; without such a one it keeps it.
        let wanted = [(1, WELL), (2, GONE), (3, WELL)];
        assert_eq!(planned(&learns, &wanted, 2), [(Vote, 3), (Learn, 2)]);
        assert_eq!(planned(&two, &[(1, WELL), (2, GONE)], 2), []);
        // One that has left goes, and a replaced disk comes as another peer.
        let three = configuration(&[1, 2, 3], &[9]);
        let wanted = [(1, WELL), (2, WELL), (9, WELL)];
        assert_eq!(planned(&three, &wanted, 3), [(Vote, 9), (Remove, 3)]);
        assert_eq!(planned(&two, &[], 7), []);
    }

    proptest! {
        /// From wherever one starts, the plan ends where everybody wanted belongs, nobody else does, and as many vote as
        /// may; and no step leaves the cluster without a voter.
        #[test]
        fn every_plan_arrives(
            voters in prop::collection::btree_set(1u32..10, 1..5),
            wanted in prop::collection::btree_set(1u32..14, 1..12),
            max in 1usize..8,
        ) {
            let mut now = configuration(&voters.iter().copied().collect::<Vec<_>>(), &[]);
            let wanted: BTreeMap<_, _> = wanted.into_iter().map(|node| (peer(node), WELL)).collect();
            let mut steps = 0;
            while let Some(change) = plan(&now, &wanted, max) {
                steps += 1;
                prop_assert!(steps < 40, "{now:?}");
                for (change, number) in change.steps {
                    let peer = PeerId::from_number(number).unwrap();
                    now.voters.remove(&peer);
                    now.learners.remove(&peer);
                    match change {
                        Vote => { now.voters.insert(peer); }
                        Learn => { now.learners.insert(peer); }
                        Remove => {}
                    }
                }
                prop_assert_eq!(now.check(), Ok(()));
            }
            prop_assert_eq!(now.peers(), wanted.keys().copied().collect());
            prop_assert_eq!(now.voters.len(), wanted.len().min(max));
        }
    }
}
