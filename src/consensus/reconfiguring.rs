//! How the leader brings the configuration nearer to what is wanted.

use super::configuration::MAX_PEERS;
use super::convert;
use super::machine::Consensus;
use super::peer::PeerId;
use super::voters::{Standing, plan};

/// How far behind the commit index a learner may be to get a vote.
const CAUGHT_UP: u64 = 64;

impl Consensus {
    /// Brings the configuration a step nearer to what is wanted.
    pub(super) fn reconfigure(&mut self) {
        if !self.led.is_self || !self.settled || self.raft.raft.has_pending_conf() {
            return;
        }
        let change = if self.configuration.is_joint() {
            // The leader that began the change is gone; this one ends it.
            Some(Default::default())
        } else if self.wanted.len() > MAX_PEERS {
            None
        } else {
            let standing =
                |(peer, answers): (&PeerId, &bool)| (*peer, self.standing(*peer, *answers));
            let wanted = self.wanted.iter().map(standing).collect();
            plan(&self.configuration, &wanted, self.settings.max_voters)
        };
        if let Some(change) = change {
            // If it is dropped, the next heartbeat tries again.
            let change = convert::change_to_raft(&change);
            _ = self.raft.propose_conf_change(Vec::new(), change);
        }
    }

    fn standing(&self, peer: PeerId, reachable: bool) -> Standing {
        let progress = self.raft.raft.prs().get(peer.number());
        let committed = self.raft.raft.raft_log.committed;
        let caught_up = progress.is_some_and(|progress| progress.matched + CAUGHT_UP >= committed);
        Standing {
            reachable,
            caught_up,
        }
    }
}
