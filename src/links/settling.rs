//! Which connection two nodes use when both have dialled, or when one dials again while the other still believes in the old
//! one.
//!
//! **Whoever dials chooses, whoever accepts follows.** A connection on which both sides agree comes up at the side that has
//! dialled when that side *confirms* it, with its first frame, and at the other side when that frame comes. A side confirms
//! only while it has no other connection to that peer. So a confirmation says: I had none, and this is it. Whoever gets one
//! takes it in place of what it had, because the peer no longer believes in that.
//!
//! What has to be shown is that two confirmations never cross, for then each side would follow the other. Of the two nodes
//! the one with the lower id is called *low*, the other *high*.
//!
//! 1. Low *parks* what high has dialled while its own dial goes on: it does not read the hello until its dial has come up or
//!    failed. And neither side begins to dial while a connection of the peer is *welcomed*: its hello was answered, and it is
//!    not up. So low never has both at once, a dial and a welcomed connection.
//! 2. High welcomes what low has dialled at once. High's own dial, when it succeeds, is *held* while such a connection is
//!    welcomed and not up: it is confirmed if that one ends, and given up if that one comes up.
//!
//! Suppose that high confirms its connection H, and low its connection L, and neither had heard the other's confirmation.
//! Low has welcomed H, or high could not have confirmed it, and high has welcomed L. Had high welcomed L before it confirmed
//! H, it would have held H (2). So it welcomed L later, when low's dial was still going on; by (1) that dial began neither
//! while H was welcomed at low, nor did low welcome H while it went on. So H was over at low before L was dialled, or L was
//! up or over before H was welcomed. In the first case low has closed H and believes in L alone, and high follows. In the
//! second low had confirmed L, so that high had welcomed it, before H was welcomed and therefore before high confirmed H:
//! against what was said.
//!
//! Nobody waits for ever: low parks for as long as its dial takes, at most `connect_timeout` and the patience of a greeting;
//! high holds for as long as low's confirmation may take; and low never waits for high while high waits for low. That both are
//! closed can happen, when the network cuts both. Then each dials again after a wait of its own, for as long as the peer is
//! wanted. A connection of the peer that goes on meanwhile is not disturbed by that.
//!
//! A connection of *another life* of the peer never takes the place of one that is up and is not being closed. An older life
//! is refused with the reason [`OlderLife`](super::ending::Farewell::OlderLife), a newer one with
//! [`OtherLife`](super::ending::Farewell::OtherLife), and the one that is up is asked whether it is there. If it is not, it is
//! gone after some silence, and the other life is taken when it dials again: a node that has started anew while its old
//! connection is half open here, or an older life, which may be a node that does not know yet which life it is in. If it is
//! there, there are two processes with one node id, and the one that came first is not pushed out by the other, whatever
//! life that takes itself for. So a process that says another life than before closes first what it has. The same holds for
//! whoever says the same life and another address: it runs on a copy of the directory.

use super::connection::Connection;
use super::ending::{Farewell, Why};
use super::links::Links;
use super::remote::{ConnectionId, Remote};
use crate::wire::address::Life;
use crate::wire::greeting::Established;
use std::cmp::Ordering;

impl Links {
    /// Whether a connection of the peer is about to come up.
    pub(super) fn has_welcomed(&self, remote: Remote) -> bool {
        let Some(peer) = self.peers.get(&remote) else {
            return false;
        };
        let mut accepted = peer.accepted.iter();
        accepted.any(|id| {
            self.connections
                .get(id)
                .is_some_and(Connection::is_welcomed)
        })
    }

    /// Whether what a connection says has to wait for a dial of this side.
    pub(super) fn is_parked(&self, connection: &Connection) -> bool {
        let remote = connection.remote;
        let is_low = self.identity.get().life.node < remote.node;
        let dials = self
            .peers
            .get(&remote)
            .is_some_and(|peer| peer.dial.is_some());
        is_low && dials && !connection.dialled && !connection.is_welcomed()
    }

    /// Both sides agree.
    pub(super) fn agreed(&mut self, id: ConnectionId, established: &Established) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let (remote, dialled) = (connection.remote, connection.dialled);
        let peer = &established.peer;
        if dialled {
            if self.is_over(peer.life) {
                // It may say another one next time.
                return self.remove(id, Why::ByUs(Farewell::LifeOver), true);
            }
            self.decide_dial(remote);
            return;
        }
        _ = self.turns_away(id, remote, peer.life, &peer.advertised);
    }

    /// Closes what the peer has dialled, if its life is over, or another life of it, or another process, is connected; whether
    /// that is so.
    fn turns_away(
        &mut self,
        id: ConnectionId,
        remote: Remote,
        life: Life,
        advertised: &str,
    ) -> bool {
        if self.is_over(life) {
            self.leave(id, Why::ByUs(Farewell::LifeOver), Farewell::LifeOver);
            return true;
        }
        let current = self.peers.get(&remote).and_then(|peer| peer.current);
        let Some((current, open)) = current.and_then(|id| Some((id, self.open(id)?))) else {
            return false;
        };
        // What is being closed may be of the same process before it knew its life.
        let is_leaving = open.leaving.is_some();
        let farewell = match life.cmp(&open.life) {
            Ordering::Less => Farewell::OlderLife,
            Ordering::Greater if !is_leaving => Farewell::OtherLife,
            Ordering::Equal if !is_leaving && advertised != open.advertised => Farewell::OtherLife,
            _ => return false,
        };
        self.leave(id, Why::ByUs(farewell), farewell);
        self.ask(current);
        true
    }

    /// Confirms the dial of this side, if it has succeeded and need not be held.
    pub(super) fn decide_dial(&mut self, remote: Remote) {
        let is_high = self.identity.get().life.node > remote.node;
        let holds = is_high && self.has_welcomed(remote);
        let Some(peer) = self.peers.get_mut(&remote) else {
            return;
        };
        let Some(dial) = peer.dial else {
            return;
        };
        let agreed = self
            .connections
            .get_mut(&dial)
            .and_then(Connection::open_mut)
            .filter(|open| !open.is_up() && open.leaving.is_none());
        let Some(open) = agreed else {
            return;
        };
        if holds {
            self.counters.held += u64::from(!open.is_held);
            open.is_held = true;
            return;
        }
        peer.dial = None;
        peer.current = Some(dial);
        peer.next_dial = None;
        self.announce(dial);
        self.unpark(remote);
    }

    /// The peer has confirmed a connection that it has dialled.
    pub(super) fn follow(&mut self, id: ConnectionId) {
        let Some(remote) = self
            .connections
            .get(&id)
            .map(|connection| connection.remote)
        else {
            return;
        };
        // Another life may have come up since both sides agreed.
        let said = self
            .open(id)
            .map(|open| (open.life, open.advertised.clone()));
        if said.is_some_and(|(life, advertised)| self.turns_away(id, remote, life, &advertised)) {
            return;
        }
        self.greetings.remove(&id);
        let peer = self.peers.entry(remote).or_default();
        peer.accepted.retain(|accepted| *accepted != id);
        let (old, dial) = (peer.current.replace(id), peer.dial);
        if let Some(dial) = dial {
            self.remove(
                dial,
                Why::GivenUp("the peer's own attempt came first"),
                true,
            );
        }
        if let Some(old) = old {
            self.remove(old, Why::Replaced { by: id }, true);
        }
        if let Some(peer) = self.peers.get_mut(&remote) {
            peer.next_dial = None;
        }
        self.announce(id);
    }
}
