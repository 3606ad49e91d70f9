//! Whose connections have to make room for whose.
//!
//! Who is at the other end of a connection that came in is not proven here: where there is no TLS, whoever knows the name of
//! the cluster may say that it is anybody. What is known is with whom this node itself [wants](super::links::Links::want)
//! connections: with the members, as the control plane has been told of them. So there are three ranks:
//!
//! 1. *wanted*: connections with a remote that is wanted. There are few of one remote;
//! 2. *of a member*: with another core of a node of which a remote is wanted;
//! 3. *strangers*: all others. Nodes that ask to be let in are among them, for a while.
//!
//! There may be fewer strangers than connections in all, and what they may hold, in unfinished frames and in answers that
//! they do not read, is bounded for all of them together. When there are as many as may be, a stranger pushes out the one that has been there for longest, and never
//! anybody else. When there are as many connections as may be, of all sorts, whoever comes pushes out the oldest stranger, and
//! a wanted remote that comes or is dialled pushes out the oldest of a member where there is no stranger. So whatever
//! strangers do, members find room.

use super::connection::Connection;
use super::ending::Why;
use super::links::Links;
use super::refusal::Turned;
use super::remote::{ConnectionId, Remote};
use crate::base::ids::NodeId;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    Wanted,
    OfMember,
    Stranger,
}

/// The connections that came in and may have to make room, by rank, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Ranks {
    /// The remotes that are wanted.
    wanted: BTreeSet<Remote>,
    of_members: BTreeSet<ConnectionId>,
    /// With what each holds beyond an ordinary buffer to read into.
    strangers: BTreeMap<ConnectionId, usize>,
    stranger_bytes: usize,
}

impl Ranks {
    pub(super) fn of(&self, remote: Remote) -> Rank {
        if self.wanted.contains(&remote) {
            return Rank::Wanted;
        }
        let mut of_node = self.wanted.range(Remote::control(remote.node)..);
        match of_node.next() {
            Some(wanted) if wanted.node == remote.node => Rank::OfMember,
            _ => Rank::Stranger,
        }
    }

    pub(super) fn is_stranger(&self, id: ConnectionId) -> bool {
        self.strangers.contains_key(&id)
    }

    fn enter(&mut self, id: ConnectionId, rank: Rank) {
        match rank {
            Rank::Wanted => {
                self.leave(id);
            }
            Rank::OfMember => {
                self.leave(id);
                self.of_members.insert(id);
            }
            Rank::Stranger => {
                self.of_members.remove(&id);
                self.strangers.entry(id).or_default();
            }
        }
    }

    /// A connection is no more.
    pub(super) fn leave(&mut self, id: ConnectionId) {
        self.of_members.remove(&id);
        if let Some(bytes) = self.strangers.remove(&id) {
            self.stranger_bytes -= bytes;
        }
    }

    /// The one that has to go for one of this rank, if all room is taken.
    fn makes_room_for(&self, rank: Rank) -> Option<ConnectionId> {
        let stranger = self.strangers.keys().next();
        let of_member = self.of_members.first().filter(|_| rank == Rank::Wanted);
        stranger.or(of_member).copied()
    }
}

impl Links {
    /// A remote is wanted from now on, or not any more.
    pub(super) fn rank_anew(&mut self, remote: Remote, is_wanted: bool) {
        match is_wanted {
            true => self.ranks.wanted.insert(remote),
            false => self.ranks.wanted.remove(&remote),
        };
        let of_node = Remote::control(remote.node)..=Remote::last_of(remote.node);
        for (remote, peer) in self.peers.range(of_node) {
            let rank = self.ranks.of(*remote);
            for id in peer.accepted.iter().chain(&peer.current) {
                if self.connections.get(id).is_some_and(|it| !it.dialled) {
                    self.ranks.enter(*id, rank);
                }
            }
        }
    }

    /// A connection has come in, for which there was room.
    pub(super) fn rank(&mut self, id: ConnectionId, remote: Remote) {
        let rank = self.ranks.of(remote);
        self.ranks.enter(id, rank);
    }

    /// Makes room for a connection that comes in.
    pub(super) fn make_room_for(&mut self, remote: Remote) -> Result<(), Turned> {
        let rank = self.ranks.of(remote);
        let most = self.settings.most_strangers;
        if rank == Rank::Stranger && self.ranks.strangers.len() >= most {
            self.push_out(rank);
        }
        match self.has_room_for(rank) {
            true => Ok(()),
            false => Err(Turned::Full {
                most: self.settings.most_connections,
            }),
        }
    }

    /// Whether there is room for one more connection, after another was pushed out where that has to be.
    pub(super) fn has_room_for(&mut self, rank: Rank) -> bool {
        let most = self.settings.most_connections;
        self.connections.len() < most || self.push_out(rank)
    }

    fn push_out(&mut self, rank: Rank) -> bool {
        let Some(oldest) = self.ranks.makes_room_for(rank) else {
            return false;
        };
        self.counters.pushed_out += 1;
        self.remove(oldest, Why::GivenUp("it made room for another"), true);
        true
    }

    /// What a connection holds may have grown. If that of all strangers is too much, the one that holds most goes, as often as
    /// it takes.
    pub(super) fn weigh(&mut self, id: ConnectionId) {
        let usual = self.identity.get().limits.read_buffer_bytes;
        let Some(weighed) = self.ranks.strangers.get_mut(&id) else {
            return;
        };
        let held = self.connections.get(&id).and_then(Connection::open);
        let held = held.map_or(0, |open| open.held_bytes().saturating_sub(usual));
        self.ranks.stranger_bytes = self.ranks.stranger_bytes + held - *weighed;
        *weighed = held;
        while self.ranks.stranger_bytes > self.settings.most_stranger_bytes {
            let strangers = self.ranks.strangers.iter();
            let Some((&most, _)) = strangers.max_by_key(|(_, bytes)| **bytes) else {
                return;
            };
            self.counters.pushed_out += 1;
            let why = "strangers held more memory than they may; see `most_stranger_bytes`";
            self.remove(most, Why::GivenUp(why), true);
        }
    }
}

impl Remote {
    const fn last_of(node: NodeId) -> Remote {
        Remote {
            node,
            core: Some(crate::base::ids::CoreId(u16::MAX)),
        }
    }
}
