//! How the first nodes become one cluster, and how later ones find it.
//!
//! Every node is told the same *founders*: the seeds and itself. A node that has no cluster asks them who they are, and
//!
//! - joins, if one of them belongs to a cluster: an existing cluster wins;
//! - forms a cluster of its own, if it is the only founder;
//! - otherwise has a *majority of the founders* decide on one beginning: an id and the first voters, which are all those
//!   that have answered by then. Who has not answered joins later.
//!
//! # Why there are never two
//!
//! The beginning is decided by one instance of Paxos (Lamport, *Paxos Made Simple*) among the founders. Each has one
//! acceptor: it answers no ballot below the one that it has promised, tells what it has accepted, and forgets neither
//! ([`Output::Write`] is durable before the answer goes out). A beginning is decided when a majority has accepted it in
//! one ballot. Two majorities of the same founders share a node; it tells the later ballot of what the earlier one had
//! accepted, and that is what the later one proposes. So whatever is decided, is decided once, whoever was cut off from
//! whom; and nobody forms, or joins, what has not been decided.
//!
//! Two things are taken for granted, and both are the operator's:
//!
//! - *The same founders are named everywhere.* Who names others is refused, and both sides say so
//!   ([`Refused::NamesOthers`]): majorities of different sets need not meet.
//! - *No founder loses its disk and takes part in the founding again*, in a partition that hides the cluster: a majority
//!   that has never heard of it cannot know. With its disk it remembers; a new one that reaches the cluster joins as
//!   another peer. Start a machine whose disk was replaced with [`Start::Join`], and it founds nothing, whatever it
//!   reaches.
//!
//! ```text
//!               a member answers
//!  Asking ───────────────────────────────────────▶ Join
//!    │  majority blank, all answered or `settle` over
//!    ▼
//!  Preparing ──majority promised──▶ Accepting ──majority accepted──▶ Form, or Join if it is no voter of it
//!    ▲                                 │
//!    └──── after a while, higher ◀─────┘ (and to Join whenever a member answers)
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand::RngExt;
use thiserror::Error;

use super::founding::{Ballot, Founding, FoundingMessage, MAX_FOUNDERS, Promise, Says};
use super::mutant::Mutant;
use super::peer::{ClusterId, PeerId};
use crate::base::ids::NodeId;
use crate::base::rng::Rng;
use crate::base::time::Time;

/// How a node without a cluster starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It may found one, together with a majority.
    Found,
    /// It only joins. For a machine whose disk was replaced, and for every node that is added to a cluster.
    Join,
}

/// The times of a founding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapSettings {
    /// How often those that have not answered are asked again. Start with 0.5 s; above 0.
    pub ask_every: Duration,
    /// How long to wait for the founders that have not answered, when a majority has. Start with 3 s. Too short, and
    /// those that start a little late have to be let in one by one.
    pub settle: Duration,
    /// How long a ballot may take before the next; half as much again at random. Start with 1 s.
    pub ballot: Duration,
    /// A planted bug.
    #[doc(hidden)]
    pub mutant: Option<Mutant>,
}

impl Default for BootstrapSettings {
    fn default() -> BootstrapSettings {
        BootstrapSettings {
            ask_every: Duration::from_millis(500),
            settle: Duration::from_secs(3),
            ballot: Duration::from_secs(1),
            mutant: None,
        }
    }
}

/// What a bootstrap wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this to a founder. It may get lost.
    Send(NodeId, FoundingMessage),
    /// Make this durable, then call [`Bootstrap::written`]. Whatever depends on it comes out after that.
    Write(Promise),
    /// A peer was refused; for the log.
    Refused(NodeId, Refused),
    /// This node is a voter of a new cluster. Write its beginning durably
    /// ([`Recovered::genesis`](super::entry::Recovered::genesis)), start, and go on answering with
    /// [`Bootstrap::handle`].
    Form(Founding),
    /// There is a cluster, and this node is not of it: ask this member to let it in.
    Join {
        /// The member that has answered.
        via: NodeId,
        /// The cluster.
        cluster: ClusterId,
    },
}

/// Why a peer was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// It names other founders than this node.
    #[error("it names the founders {theirs:?}, this node {ours:?}; give all nodes the same seeds")]
    NamesOthers {
        /// Those that it names.
        theirs: BTreeSet<NodeId>,
        /// Those that this node names.
        ours: BTreeSet<NodeId>,
    },
    /// It belongs to another cluster than this node.
    #[error(
        "it belongs to cluster {theirs}, this node to {ours}; empty the directory of one of them"
    )]
    OtherCluster {
        /// Its cluster.
        theirs: ClusterId,
        /// The cluster of this node.
        ours: ClusterId,
    },
    /// Another disk of the same founder has answered before.
    #[error(
        "it was {before} a moment ago and is {now} now: two nodes have one id, or a disk was replaced"
    )]
    AnotherDisk {
        /// The peer that answered before.
        before: PeerId,
        /// The peer that answers now.
        now: PeerId,
    },
}

/// The bootstrap of one node; see the module.
pub struct Bootstrap {
    me: PeerId,
    founders: BTreeSet<NodeId>,
    settings: BootstrapSettings,
    start: Start,
    rng: Rng,
    /// What is durable, or about to be.
    promise: Promise,
    /// Answers that wait for the write under way.
    unwritten: VecDeque<(NodeId, Says)>,
    writes: u64,
    state: State,
    /// The founders that have answered, with their disks.
    answered: BTreeMap<NodeId, PeerId>,
    majority_since: Option<Time>,
    next_ask: Time,
    outputs: VecDeque<Output>,
}

enum State {
    Asking,
    Preparing {
        ballot: Ballot,
        until: Time,
        promised: BTreeMap<NodeId, Option<(Ballot, Founding)>>,
    },
    Accepting {
        ballot: Ballot,
        until: Time,
        founding: Founding,
        accepted: BTreeSet<NodeId>,
    },
    Done(Founding),
    /// It joins, and knows of a cluster by hearsay only.
    Joining,
}

/// A bootstrap that cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0} founders are named; at most {MAX_FOUNDERS} are possible")]
pub struct TooManyFounders(pub usize);

impl Bootstrap {
    /// The bootstrap of a node without a cluster, with what it has promised before, if its disk says so.
    ///
    /// # Errors
    ///
    /// [`TooManyFounders`].
    pub fn new(
        me: PeerId,
        seeds: &BTreeSet<NodeId>,
        settings: BootstrapSettings,
        start: Start,
        promise: Promise,
        rng: Rng,
        now: Time,
    ) -> Result<Bootstrap, TooManyFounders> {
        let mut founders = seeds.clone();
        founders.insert(me.node());
        if founders.len() > MAX_FOUNDERS {
            return Err(TooManyFounders(founders.len()));
        }
        let mut bootstrap = Bootstrap {
            me,
            founders,
            settings,
            start,
            rng,
            promise,
            unwritten: VecDeque::new(),
            writes: 0,
            state: State::Asking,
            answered: BTreeMap::from([(me.node(), me)]),
            majority_since: None,
            next_ask: now,
            outputs: VecDeque::new(),
        };
        bootstrap.tick(now);
        Ok(bootstrap)
    }

    /// A member of a cluster, which answers those that look for it.
    #[must_use]
    pub fn member(me: PeerId, seeds: &BTreeSet<NodeId>, founding: Founding, rng: Rng) -> Bootstrap {
        Bootstrap {
            me,
            founders: seeds.iter().copied().chain([me.node()]).collect(),
            settings: BootstrapSettings::default(),
            start: Start::Join,
            rng,
            promise: Promise::default(),
            unwritten: VecDeque::new(),
            writes: 0,
            state: State::Done(founding),
            answered: BTreeMap::new(),
            majority_since: None,
            next_ask: Time::MAX,
            outputs: VecDeque::new(),
        }
    }

    /// Whether this node belongs to a cluster, and tells others so.
    #[must_use]
    pub fn is_member(&self) -> bool {
        matches!(self.state, State::Done(_))
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`tick`](Bootstrap::tick) at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        let settled = self
            .majority_since
            .map(|since| since + self.settings.settle);
        match &self.state {
            State::Asking => self.next_ask.min(settled.unwrap_or(Time::MAX)),
            State::Preparing { until, .. } | State::Accepting { until, .. } => {
                self.next_ask.min(*until)
            }
            State::Done(_) | State::Joining => Time::MAX,
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time) {
        if matches!(self.state, State::Done(_) | State::Joining) {
            return;
        }
        if now >= self.next_ask {
            self.next_ask = now + self.settings.ask_every;
            for node in self.others() {
                self.say(node, Says::Hello);
            }
        }
        let all = self.answered.len() == self.founders.len();
        if self.is_majority(self.answered.len()) {
            self.majority_since.get_or_insert(now);
        }
        let settled = |since: Time| all || now >= since + self.settings.settle;
        let begins = match &self.state {
            State::Asking => self.start == Start::Found && self.majority_since.is_some_and(settled),
            State::Preparing { until, .. } | State::Accepting { until, .. } => now >= *until,
            State::Done(_) | State::Joining => false,
        };
        if begins {
            self.prepare(now);
        }
    }

    /// Takes a message of a node. The transport must have made sure that it comes from that node.
    pub fn handle(&mut self, now: Time, message: FoundingMessage) {
        let Some(peer) = message.peer() else {
            return;
        };
        let (node, theirs) = (peer.node(), message.named());
        if let Says::Member(founding) = message.says {
            return self.found_member(node, founding);
        }
        if let State::Done(founding) = &self.state {
            let founding = founding.clone();
            return self.say(node, Says::Member(founding));
        }
        let names_same = theirs == self.founders && self.founders.contains(&node);
        if !names_same || node == self.me.node() {
            // One that only joins may ask whoever it likes.
            if message.says != Says::Hello || self.founders.contains(&node) {
                let ours = self.founders.clone();
                let refused = Refused::NamesOthers { theirs, ours };
                self.outputs.push_back(Output::Refused(node, refused));
            }
            return;
        }
        if self.start == Start::Join || matches!(self.state, State::Joining) {
            return; // It has no part in a founding.
        }
        match message.says {
            Says::Hello => self.say(node, Says::Blank),
            Says::Blank => self.blank(peer),
            Says::Prepare(ballot) => self.promise(node, ballot),
            Says::Accept(ballot, founding) => self.accept(node, ballot, founding),
            Says::Promised(ballot, accepted) => self.promised(node, ballot, accepted, now),
            Says::Accepted(ballot) => self.accepted(node, ballot),
            Says::Busy(higher) => {
                self.promise.promised.round = self.promise.promised.round.max(higher.round)
            }
            Says::Member(_) => {}
        }
        self.tick(now);
    }

    /// The promises that came out with [`Output::Write`] are durable: so many of them, since the start.
    pub fn written(&mut self, now: Time) {
        self.writes = self.writes.saturating_sub(1);
        if self.writes > 0 {
            return;
        }
        for (node, says) in std::mem::take(&mut self.unwritten) {
            if node != self.me.node() {
                self.say(node, says);
                continue;
            }
            match says {
                Says::Promised(ballot, accepted) => self.promised(node, ballot, accepted, now),
                Says::Accepted(ballot) => self.accepted(node, ballot),
                _ => {}
            }
        }
    }

    fn blank(&mut self, peer: PeerId) {
        let before = *self.answered.entry(peer.node()).or_insert(peer);
        if before != peer {
            // The newer one counts; whatever the other has accepted is gone with its disk.
            self.answered.insert(peer.node(), peer);
            let refused = Refused::AnotherDisk { before, now: peer };
            self.outputs
                .push_back(Output::Refused(peer.node(), refused));
        }
    }

    fn found_member(&mut self, via: NodeId, founding: Founding) {
        match &self.state {
            State::Done(ours) => {
                let (theirs, ours) = (founding.cluster(), ours.cluster());
                if theirs != ours {
                    let refused = Refused::OtherCluster { theirs, ours };
                    self.outputs.push_back(Output::Refused(via, refused));
                }
            }
            State::Joining => {}
            _ => self.decided(founding, Some(via)),
        }
    }

    /// There is a cluster: this node is one of its first voters, or asks to be let in.
    fn decided(&mut self, founding: Founding, via: Option<NodeId>) {
        let voters = founding.configuration().voters;
        let via = via.or_else(|| {
            voters
                .iter()
                .map(|voter| voter.node())
                .find(|node| *node != self.me.node())
        });
        if voters.contains(&self.me) {
            self.state = State::Done(founding.clone());
            self.outputs.push_back(Output::Form(founding));
        } else if let Some(via) = via {
            self.state = State::Joining;
            let cluster = founding.cluster();
            self.outputs.push_back(Output::Join { via, cluster });
        }
    }

    fn prepare(&mut self, now: Time) {
        let ballot = Ballot {
            round: self.promise.promised.round + 1,
            peer: self.me.number(),
        };
        self.state = State::Preparing {
            ballot,
            until: self.ballot_ends(now),
            promised: BTreeMap::new(),
        };
        for node in self.others() {
            self.say(node, Says::Prepare(ballot));
        }
        self.promise(self.me.node(), ballot);
    }

    fn ballot_ends(&mut self, now: Time) -> Time {
        let most = self.settings.ballot.as_nanos().max(2) as u64 / 2;
        now + self.settings.ballot + Duration::from_nanos(self.rng.random_range(0..most))
    }

    /// The acceptor's answer to a ballot that begins.
    fn promise(&mut self, node: NodeId, ballot: Ballot) {
        if ballot < self.promise.promised || ballot.round == u64::MAX {
            return self.say(node, Says::Busy(self.promise.promised));
        }
        self.promise.promised = ballot;
        let accepted = self.promise.accepted.clone();
        self.say_when_written(node, Says::Promised(ballot, accepted));
    }

    /// The acceptor's answer to a proposal.
    fn accept(&mut self, node: NodeId, ballot: Ballot, founding: Founding) {
        if ballot < self.promise.promised {
            return self.say(node, Says::Busy(self.promise.promised));
        }
        self.promise.promised = ballot;
        self.promise.accepted = Some((ballot, founding));
        if self.settings.mutant == Some(Mutant::ForgetFounding) {
            self.promise.accepted = None;
        }
        self.say_when_written(node, Says::Accepted(ballot));
    }

    fn promised(
        &mut self,
        node: NodeId,
        of: Ballot,
        before: Option<(Ballot, Founding)>,
        now: Time,
    ) {
        let enough = self.founders.len() / 2 + 1;
        let State::Preparing {
            ballot, promised, ..
        } = &mut self.state
        else {
            return;
        };
        if *ballot != of {
            return;
        }
        promised.insert(node, before);
        if promised.len() < enough {
            return;
        }
        // What may have been decided already is what is proposed.
        let before = promised
            .values()
            .flatten()
            .max_by_key(|(ballot, _)| *ballot);
        let founding = match before {
            Some((_, founding)) => founding.clone(),
            None => {
                let voters = self.answered.values().copied().collect();
                Founding::new(ClusterId::mint(&mut self.rng), &voters)
            }
        };
        self.state = State::Accepting {
            ballot: of,
            until: self.ballot_ends(now),
            founding: founding.clone(),
            accepted: BTreeSet::new(),
        };
        for node in self.others() {
            self.say(node, Says::Accept(of, founding.clone()));
        }
        self.accept(self.me.node(), of, founding);
    }

    fn accepted(&mut self, node: NodeId, of: Ballot) {
        let enough = self.founders.len() / 2 + 1;
        let State::Accepting {
            ballot,
            founding,
            accepted,
            ..
        } = &mut self.state
        else {
            return;
        };
        if *ballot != of {
            return;
        }
        accepted.insert(node);
        if accepted.len() >= enough {
            let founding = founding.clone();
            for node in self.others() {
                self.say(node, Says::Member(founding.clone()));
            }
            self.decided(founding, None);
        }
    }

    fn is_majority(&self, count: usize) -> bool {
        count > self.founders.len() / 2
    }

    fn others(&self) -> Vec<NodeId> {
        let me = self.me.node();
        self.founders
            .iter()
            .copied()
            .filter(|node| *node != me)
            .collect()
    }

    fn say_when_written(&mut self, node: NodeId, says: Says) {
        self.writes += 1;
        self.unwritten.push_back((node, says));
        self.outputs.push_back(Output::Write(self.promise.clone()));
    }

    fn say(&mut self, to: NodeId, says: Says) {
        let message = FoundingMessage {
            from: self.me.number(),
            named: self.founders.iter().map(|node| node.0).collect(),
            says,
        };
        self.outputs.push_back(Output::Send(to, message));
    }
}
