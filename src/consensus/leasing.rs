//! How the machine asks for leases and grants them; the rules are in [`lease`](super::lease).

use std::time::Duration;

use super::lease::{Asked, Grantor};
use super::machine::Consensus;
use super::message::{Body, LeaseGrant, LeaseRequest};
use super::mutant::Mutant;
use super::output::StepError;
use super::peer::{NodeLife, PeerId};
use crate::base::ids::Incarnation;
use crate::base::time::Time;

impl Consensus {
    /// Asks for a lease, and has those of others confirmed.
    pub(super) fn renew_leases(&mut self) {
        let request = LeaseRequest {
            incarnation: self.identity.life.incarnation.0,
            asked_at: self.now.as_nanos(),
            length: nanos(self.settings.lease),
        };
        match self.led.leader {
            // Its own length is its own.
            Some(_) if self.led.is_self => _ = self.lease_asked(self.identity.peer, request),
            Some(leader) => self.send(leader, Body::LeaseRequest(request)),
            None => {}
        }
        let settled = self.settled;
        let round = self.grantor.as_mut().filter(|_| settled);
        if let Some(round) = round.and_then(Grantor::begin_round) {
            match self.settings.mutant {
                Some(Mutant::GrantUnconfirmed) => self.grant_leases(round),
                _ => self.raft.read_index(round.to_le_bytes().to_vec()),
            }
        }
    }

    pub(super) fn lease_asked(
        &mut self,
        from: PeerId,
        request: LeaseRequest,
    ) -> Result<(), StepError> {
        let life = NodeLife {
            node: from.node(),
            incarnation: Incarnation(request.incarnation),
        };
        if request.length != nanos(self.settings.lease) {
            return Err(StepError::OtherLease {
                peer: from,
                theirs: Duration::from_nanos(request.length),
                ours: self.settings.lease,
            });
        }
        let allowed = self
            .lease_holders
            .as_ref()
            .is_none_or(|lives| lives.contains(&life));
        // What was asked before everything of the predecessors was applied could be of a node that they declared down.
        if let Some(grantor) = self.grantor.as_mut().filter(|_| self.settled && allowed) {
            grantor.ask(Asked {
                life,
                peer: from,
                asked_at: Time::from_nanos(request.asked_at),
            });
        }
        Ok(())
    }

    pub(super) fn grant_leases(&mut self, round: u64) {
        let granted = match &mut self.grantor {
            Some(grantor) => grantor.confirmed(round, self.now),
            None => return,
        };
        for asked in granted {
            let grant = LeaseGrant {
                incarnation: asked.life.incarnation.0,
                term: self.led.term,
                asked_at: asked.asked_at.as_nanos(),
                length: nanos(self.settings.lease),
            };
            match asked.peer == self.identity.peer {
                true => self.lease_granted(grant),
                false => self.send(asked.peer, Body::LeaseGrant(grant)),
            }
        }
    }

    /// A grant has come. It counts if whoever sends it leads in the term in which it grants, as this node knows it: nobody
    /// else has had a majority confirm anything, nor promised whom it condemns.
    pub(super) fn lease_granted_by(
        &mut self,
        from: PeerId,
        grant: LeaseGrant,
    ) -> Result<(), StepError> {
        match self.led.leader {
            Some(leader) if grant.term == self.led.term => {
                if leader != from {
                    return Err(StepError::NotTheLeader {
                        peer: from,
                        term: grant.term,
                        leader,
                    });
                }
                self.lease_granted(grant);
                Ok(())
            }
            // It is late, or comes before the news of its term. It is asked for again with the next heartbeat.
            _ => Ok(()),
        }
    }

    fn lease_granted(&mut self, grant: LeaseGrant) {
        let asked_at = Time::from_nanos(grant.asked_at);
        let ours = grant.incarnation == self.identity.life.incarnation.0;
        if ours && asked_at <= self.now && grant.length == nanos(self.settings.lease) {
            self.holder.granted(asked_at, self.settings.lease);
        }
    }
}

fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}
