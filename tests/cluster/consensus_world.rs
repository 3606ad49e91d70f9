//! Nodes with disks and clocks of their own on a virtual network, from a seed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use corecast::Time;
use corecast::base::ids::NodeId;
use corecast::base::rng::{Rng, seeded};
use corecast::consensus::configuration::Configuration;
use corecast::consensus::entry::Recovered;
use corecast::consensus::founding::Founding;
use corecast::consensus::machine::{Consensus, Identity};
use corecast::consensus::message::{Body, Message, RaftKind};
use corecast::consensus::output::{Output, ProposalId};
use corecast::consensus::peer::{ClusterId, DiskId, NodeLife, PeerId};
use corecast::consensus::settings::ConsensusSettings;
use corecast::sim::network::{Arrival, LinkId, Network, NetworkSettings};
use rand::RngExt;

use crate::consensus_disk::Disk;
use crate::consensus_judge::Judge;
use crate::consensus_ledger::{Disks, LedgerStorage, Storage};
use crate::consensus_node::{DOWN, Node, life_of, state_of};
use crate::seeds::Trace;

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) rng: Rng,
    pub(crate) network: Network<Vec<u8>>,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    links: BTreeMap<LinkId, NodeId>,
    pub(crate) judge: Judge,
    pub(crate) settings: ConsensusSettings,
    disks: Disks,
    cluster: ClusterId,
    pub(crate) wanted: Vec<PeerId>,
    trace: Trace,
    pub(crate) counts: Counts,
}

/// What happened, so that a test can show that it did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) crashes: u64,
    pub(crate) chunks: u64,
    pub(crate) restores: u64,
    pub(crate) configured: u64,
    pub(crate) downs: u64,
    pub(crate) stands: u64,
}

impl World {
    pub(crate) fn new(seed: u64, founders: u32, settings: ConsensusSettings) -> World {
        World::on(Disks::Memory, seed, founders, settings)
    }

    /// A world whose nodes write to disks of this sort.
    pub(crate) fn on(disks: Disks, seed: u64, founders: u32, settings: ConsensusSettings) -> World {
        let network = NetworkSettings {
            connect_timeout: Duration::from_millis(50),
            gives_up_after: Duration::from_millis(500),
            resend_after: Duration::from_millis(20),
            ..NetworkSettings::default()
        };
        let mut world = World {
            now: Time::ZERO,
            rng: seeded(seed, 1),
            network: Network::new(seed, network),
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            judge: Judge::default(),
            settings,
            disks,
            cluster: ClusterId(7),
            wanted: Vec::new(),
            trace: Trace::new(),
            counts: Counts::default(),
        };
        let new: Vec<(PeerId, Storage)> = (1..=founders)
            .map(|node| world.new_disk(NodeId(node)))
            .collect();
        let voters = Configuration::of_voters(new.iter().map(|(peer, _)| *peer));
        let founding = Founding {
            cluster: world.cluster.0,
            voters: voters.voters.iter().map(|peer| peer.number()).collect(),
        };
        world.wanted = new.iter().map(|(peer, _)| *peer).collect();
        for (peer, mut disk) in new {
            match &mut disk {
                Storage::Memory(disk) => *disk = Disk::holding(Recovered::genesis(&voters)),
                Storage::Ledger(ledger) => ledger.form(&founding),
            }
            world.add(peer, disk);
        }
        world
    }

    /// An empty disk for a node.
    fn new_disk(&mut self, node: NodeId) -> (PeerId, Storage) {
        match self.disks {
            Disks::Memory => {
                let peer = PeerId::new(node, DiskId::mint(&mut self.rng));
                (peer, Storage::Memory(Disk::default()))
            }
            Disks::Ledgers => {
                let disk = LedgerStorage::new(self.rng.random(), node, self.now);
                (disk.peer(), Storage::Ledger(Box::new(disk)))
            }
        }
    }

    fn add(&mut self, peer: PeerId, disk: Storage) {
        // Any two differ by less than a tenth.
        let rate = self.rng.random_range(955_000..1_045_000);
        let start = self.rng.random_range(0..1_000_000_000_000);
        let node = Node::new(peer, rate, start, disk);
        self.nodes.insert(peer.node(), node);
        self.start(peer.node());
    }

    /// A new node with an empty disk, which waits to be let in.
    pub(crate) fn join(&mut self, node: NodeId) {
        let (peer, disk) = self.new_disk(node);
        self.wanted.push(peer);
        self.add(peer, disk);
    }

    /// Starts a node in a new life.
    pub(crate) fn start(&mut self, id: NodeId) {
        self.network.start(id);
        let rng = seeded(self.rng.random(), 0);
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        node.life.incarnation.0 += 1;
        let identity = Identity {
            cluster: self.cluster,
            peer: node.peer,
            life: node.life,
        };
        let settings = self.settings.clone();
        let local = node.local(now);
        let recovered = node.disk.recover(now, node.life.incarnation);
        let consensus = Consensus::start(identity, settings, recovered, rng, local);
        node.running = Some(consensus.unwrap());
        (node.applied, node.down, node.stopped) = (Vec::new(), Vec::new(), None);
        self.note(&("start", id));
        self.take_outputs(id);
        // Lives begin, and some may have leases: all that are not down.
        for id in self.running() {
            self.allow_leases(id);
        }
    }

    /// The process or the whole machine dies.
    pub(crate) fn crash(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).unwrap();
        if node.running.take().is_none() {
            return;
        }
        node.disk.crash(&mut self.rng);
        node.synced.clear();
        node.inbox.clear();
        node.links.clear();
        (node.paused_until, node.dies) = (None, false);
        self.counts.crashes += 1;
        match self.rng.random_bool(0.5) {
            true => self.network.kill(self.now, id),
            false => self.network.power_off(self.now, id),
        }
        self.note(&("crash", id));
    }

    /// A node that is not running gets an empty disk.
    pub(crate) fn replace_disk(&mut self, id: NodeId) {
        let (peer, disk) = self.new_disk(id);
        let node = self.nodes.get_mut(&id).unwrap();
        assert!(node.running.is_none());
        self.wanted.retain(|wanted| *wanted != node.peer);
        self.wanted.push(peer);
        (node.peer, node.disk) = (peer, disk);
    }

    pub(crate) fn running(&self) -> Vec<NodeId> {
        let running = self.nodes.iter().filter(|(_, node)| node.running.is_some());
        running.map(|(id, _)| *id).collect()
    }

    pub(crate) fn is_up(&self, id: NodeId) -> bool {
        let node = &self.nodes[&id];
        node.running.is_some() && node.stopped.is_none() && node.paused_until.is_none()
    }

    /// Lets everything happen until `end`, calling `each` about every millisecond.
    pub(crate) fn run(&mut self, length: Duration, mut each: impl FnMut(&mut World)) {
        let end = self.now + length;
        let mut next_call = self.now;
        while self.now < end {
            if self.now >= next_call {
                each(self);
                next_call = self.now + Duration::from_micros(900);
            }
            let mut next = end.min(next_call);
            next = next.min(self.network.next_arrival().unwrap_or(Time::MAX));
            for node in self.nodes.values() {
                next = next.min(node.next_event());
            }
            self.now = self.now.max(next);
            while let Some(arrival) = self.network.pop(self.now) {
                self.arrive(arrival);
            }
            let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
            for id in ids {
                self.drive(id);
            }
            self.check_leases();
        }
    }

    fn drive(&mut self, id: NodeId) {
        let (now, node) = (self.now, self.nodes.get_mut(&id).unwrap());
        if node.running.is_none() || node.paused_until.is_some_and(|until| until > now) {
            return;
        }
        node.paused_until = None;
        let local = node.local(now);
        while let Some((from, bytes)) = self.nodes.get_mut(&id).unwrap().inbox.pop_front() {
            let message = Message::decode(&bytes).unwrap();
            assert_eq!(message.from, from);
            let Some(consensus) = &mut self.nodes.get_mut(&id).unwrap().running else {
                return;
            };
            // Those for the disk before, or of one, are refused; nothing else is.
            if let Err(error) = consensus.step(local, message) {
                let text = error.to_string();
                assert!(text.contains("came to"), "{id}: {text}");
            }
            self.take_outputs(id);
        }
        while let Some(node) = self.nodes.get_mut(&id)
            && let Some((_, ticket)) = node.synced.pop_front_if(|(at, _)| *at <= now)
        {
            if let Storage::Memory(disk) = &mut node.disk {
                disk.sync(ticket);
            }
            let Some(consensus) = &mut node.running else {
                return;
            };
            consensus.written(local, ticket);
            self.take_outputs(id);
        }
        while let Some(node) = self.nodes.get_mut(&id)
            && let Some(consensus) = &mut node.running
            && let Some(ticket) = node.disk.next_durable(now)
        {
            consensus.written(local, ticket);
            self.take_outputs(id);
        }
        let node = self.nodes.get_mut(&id).unwrap();
        if let Some(consensus) = &mut node.running
            && consensus.next_deadline() <= local
        {
            let wanted = self.wanted.iter().map(|peer| (*peer, true)).collect();
            consensus.want_peers(wanted);
            consensus.tick(local);
            self.take_outputs(id);
        }
    }

    /// Proposes a command; what it says comes first.
    pub(crate) fn propose(&mut self, id: NodeId, kind: u8) -> Option<ProposalId> {
        let size = self.rng.random_range(0..40);
        let node = self.nodes.get_mut(&id)?;
        let local = node.local(self.now);
        let mut command = vec![kind];
        command.resize(1 + size, 7);
        let proposed = node.running.as_mut()?.propose(local, command).ok()?;
        self.judge.taken(proposed);
        self.take_outputs(id);
        Some(proposed)
    }

    /// Has a leader declare a node down, if it may.
    pub(crate) fn propose_down(&mut self, leader: NodeId, life: NodeLife) {
        let node = self.nodes.get_mut(&leader).unwrap();
        let local = node.local(self.now);
        let mut command = vec![DOWN];
        command.extend_from_slice(&life.node.0.to_le_bytes());
        command.extend_from_slice(&life.incarnation.0.to_le_bytes());
        let Some(consensus) = node.running.as_mut() else {
            return;
        };
        match consensus.propose_down(local, life, command) {
            Ok(id) => {
                self.counts.downs += 1;
                self.judge.taken(id);
                self.take_outputs(leader);
            }
            Err(_) => self.counts.stands += 1,
        }
    }

    /// Has the leader hand over, if it is up.
    pub(crate) fn hand_leadership(&mut self, leader: NodeId, to: NodeId) {
        let to = self.nodes[&to].peer;
        if self.is_up(leader) {
            let node = self.nodes.get_mut(&leader).unwrap();
            let local = node.local(self.now);
            node.running.as_mut().unwrap().hand_leadership_to(local, to);
            self.take_outputs(leader);
        }
    }

    fn take_outputs(&mut self, id: NodeId) {
        while let Some(consensus) = &mut self.nodes.get_mut(&id).unwrap().running
            && let Some(output) = consensus.poll_output()
        {
            self.take_output(id, output);
        }
        let node = self.nodes.get_mut(&id).unwrap();
        let slowest = Duration::from_micros(50 + node.slow_disk);
        node.disk.submit(self.now, slowest);
        if node.dies {
            self.crash(id);
        }
    }

    fn take_output(&mut self, id: NodeId, output: Output) {
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        let local = node.local(now);
        match output {
            Output::Send(message) => self.send(id, message),
            Output::Write(write) => {
                let disk = match &mut node.disk {
                    Storage::Memory(disk) => disk,
                    Storage::Ledger(storage) => {
                        storage.ledger().write(write).unwrap();
                        return;
                    }
                };
                if let Some(ticket) = write.ticket {
                    let latency = self.rng.random_range(50..50 + node.slow_disk);
                    let last = node.synced.back().map_or(now, |(at, _)| *at);
                    let at = last.max(now + Duration::from_micros(latency));
                    node.synced.push_back((at, ticket));
                }
                disk.write(write);
            }
            Output::Committed(committed) => {
                self.judge.committed(id, node.applied.len(), &committed);
                node.applied.push((committed.index, committed.id));
                if let Some(life) = life_of(&committed.command) {
                    self.judge.down.insert(life);
                    node.down.push(life);
                    self.allow_leases(id);
                }
                self.note(&(id, committed.index));
            }
            Output::Restore(restored) => {
                (node.applied, node.down) = state_of(&restored);
                self.judge.restored(id, restored.index, &node.applied);
                self.counts.restores += 1;
                self.allow_leases(id);
            }
            Output::TakeSnapshot { index } => {
                let bytes = node.state();
                let consensus = node.running.as_mut().unwrap();
                consensus.snapshot_taken(local, index, &bytes).unwrap();
            }
            Output::Outcome {
                id: proposal,
                outcome,
            } => {
                self.judge.outcome(proposal, outcome);
                self.note(&(proposal, format!("{outcome:?}")));
            }
            Output::Led(led) => {
                if led.is_self {
                    let peer = node.peer;
                    self.judge.leads(peer, led.term);
                }
                self.note(&(id, led.term, led.is_self));
            }
            Output::Configured { .. } => self.counts.configured += 1,
            Output::Stopped(cause) => {
                node.stopped = Some(cause);
                let rest = node.running.as_mut().and_then(Consensus::poll_output);
                assert!(rest.is_none(), "{id} goes on after its end");
            }
        }
    }

    /// Who is down gets no lease any more: the state machine of this node says so.
    fn allow_leases(&mut self, id: NodeId) {
        let lives: Vec<NodeLife> = self.nodes.values().map(|node| node.life).collect();
        let node = self.nodes.get_mut(&id).unwrap();
        let down = &node.down;
        let allowed = lives.into_iter().filter(|life| !down.contains(life));
        if let Some(consensus) = &mut node.running {
            consensus.allow_leases(allowed.collect());
        }
    }

    fn send(&mut self, id: NodeId, message: Message) {
        let node = self.nodes.get_mut(&id).unwrap();
        if let Body::Raft(raft) = &message.body
            && raft.kind == RaftKind::VoteResponse
            && !raft.reject
            && node.dies_voting
        {
            node.dies = true;
        }
        if matches!(message.body, Body::Chunk(_)) {
            self.counts.chunks += 1;
        }
        let to = message.to.node();
        let bytes = message.encode().unwrap();
        let mut digest = DefaultHasher::new();
        bytes.hash(&mut digest);
        self.note(&(id, to, digest.finish()));
        let node = self.nodes.get_mut(&id).unwrap();
        match node.links.get(&to) {
            None => {
                let link = self.network.connect(self.now, id, to);
                node.links.insert(to, None);
                self.links.insert(link, id);
            }
            Some(Some(link)) => {
                let length = bytes.len();
                // What does not fit is lost, and said again.
                _ = self.network.send(self.now, *link, id, bytes, length);
            }
            Some(None) => {}
        }
    }

    fn arrive(&mut self, arrival: Arrival<Vec<u8>>) {
        match arrival {
            Arrival::Opened {
                link,
                at,
                peer,
                connected: true,
            } => {
                if let Some(node) = self.nodes.get_mut(&at) {
                    node.links.insert(peer, Some(link));
                }
            }
            Arrival::Received { to, payload, .. } => {
                let message = Message::decode(&payload).unwrap();
                let node = self.nodes.get_mut(&to).unwrap();
                if node.running.is_some() {
                    node.inbox.push_back((message.from, payload));
                }
            }
            Arrival::Closed { link, at, .. } if self.links.get(&link) == Some(&at) => {
                let node = self.nodes.get_mut(&at).unwrap();
                let peer = node.links.iter().find(|(_, open)| **open == Some(link));
                let peer = peer.map(|(peer, _)| *peer);
                match peer {
                    Some(peer) => _ = node.links.remove(&peer),
                    // It never opened: try again with the next message.
                    None => node.links.retain(|_, open| open.is_some()),
                }
                let local = node.local(self.now);
                let lost = peer
                    .and_then(|peer| self.nodes.get(&peer))
                    .map(|node| node.peer);
                if let Some(lost) = lost
                    && let Some(consensus) = &mut self.nodes.get_mut(&at).unwrap().running
                {
                    consensus.lost_connection(local, lost);
                    self.take_outputs(at);
                }
            }
            _ => {}
        }
    }

    fn check_leases(&mut self) {
        for node in self.nodes.values() {
            // A node that is paused acts on nothing, and looks at its lease before it does.
            if let Some(consensus) = &node.running
                && consensus.lease().valid_at(node.local(self.now))
            {
                self.judge.holds_lease(node.life);
            }
        }
    }

    /// Whether a node may act.
    pub(crate) fn holds_lease(&self, id: NodeId) -> bool {
        let node = &self.nodes[&id];
        let holds = |consensus: &Consensus| consensus.lease().valid_at(node.local(self.now));
        node.running.as_ref().is_some_and(holds)
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leads = |node: &&Node| {
            let led = node.running.as_ref().map(Consensus::leadership);
            led.is_some_and(|led| led.is_self)
        };
        let leaders = self.nodes.values().filter(leads);
        let term = |node: &&Node| node.running.as_ref().map(|c| c.leadership().term);
        leaders.max_by_key(term).map(|node| node.life.node)
    }

    /// Who votes, as far as this node knows.
    pub(crate) fn voters_of(&self, id: NodeId) -> Vec<NodeId> {
        let consensus = self.nodes[&id].running.as_ref().unwrap();
        let voters = &consensus.configuration().voters;
        voters.iter().map(|peer| peer.node()).collect()
    }

    pub(crate) fn applied(&self, id: NodeId) -> &[(u64, ProposalId)] {
        &self.nodes[&id].applied
    }

    fn note(&mut self, what: &impl Hash) {
        let mut digest = DefaultHasher::new();
        (self.now, what).hash(&mut digest);
        self.trace.push(digest.finish());
    }

    pub(crate) fn into_trace(self) -> Trace {
        self.trace
    }
}
