//! The consensus of one node: inputs in, outputs out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use raft::{Config, RawNode, ReadOnlyOption, StateRole};
use rand::RngExt;
use thiserror::Error;

use super::configuration::{Configuration, ConfigurationRecord};
use super::convert;
use super::drive::Unwritten;
use super::entry::{Recovered, RecoveryError, Snapshot, SnapshotMeta, SnapshotWrite, Ticket};
use super::lease::{Grantor, Holder};
use super::logger::to_tracing;
use super::message::{Body, Message};
use super::mutant::Mutant;
use super::output::{
    Leadership, Output, ProposalId, ProposeError, Rejection, RestoredState, StartError, StopCause,
};
use super::peer::{ClusterId, NodeLife, PeerId};
use super::plausible::Jumps;
use super::proposals::Proposals;
use super::sessions::Sessions;
use super::settings::{ConsensusSettings, HEARTBEAT_TICKS};
use super::transfer::{Incoming, Outgoing};
use super::view::LogView;
use crate::base::ids::NodeId;
use crate::base::rng::Rng;
use crate::base::time::Time;

/// The most ticks that are made up for at once. A node that stood still for longer forgets the rest: it has not been
/// silence that it did not hear.
const MAX_TICKS: u32 = 3;

/// Who this node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster to which it belongs.
    pub cluster: ClusterId,
    /// The node with its disk.
    pub peer: PeerId,
    /// The node in this life.
    pub life: NodeLife,
}

/// The consensus of one node: a state machine around raft-rs, without I/O, clock or randomness of its own.
///
/// Inputs are [`tick`](Consensus::tick), [`step`](Consensus::step), [`propose`](Consensus::propose) and its variants,
/// [`written`](Consensus::written) and [`snapshot_taken`](Consensus::snapshot_taken). After each, take what comes out of
/// [`poll_output`](Consensus::poll_output) until it is `None`, and apply it, before the next input. What depends on a
/// write comes out after the input that says the write is durable, never before.
///
/// ```
/// use corecast::Time;
/// use corecast::base::ids::{Incarnation, NodeId};
/// use corecast::base::rng::seeded;
/// use corecast::consensus::configuration::Configuration;
/// use corecast::consensus::entry::Recovered;
/// use corecast::consensus::machine::{Consensus, Identity};
/// use corecast::consensus::output::Output;
/// use corecast::consensus::peer::{ClusterId, DiskId, NodeLife, PeerId};
/// use corecast::consensus::settings::ConsensusSettings;
///
/// // A cluster of one.
/// let peer = PeerId::new(NodeId(1), DiskId::from_number(1).unwrap());
/// let life = NodeLife { node: NodeId(1), incarnation: Incarnation(1) };
/// let identity = Identity { cluster: ClusterId(1), peer, life };
/// let found = Recovered::genesis(&Configuration::of_voters([peer]));
/// let mut now = Time::ZERO;
/// let mut consensus =
///     Consensus::start(identity, ConsensusSettings::fast(), found, seeded(1, 1), now).unwrap();
/// consensus.propose(now, b"hello".to_vec()).unwrap();
/// let committed = loop {
///     match consensus.poll_output() {
///         Some(Output::Committed(committed)) => break committed,
///         // A real log writes first.
///         Some(Output::Write(write)) => write.ticket.into_iter().for_each(|t| consensus.written(now, t)),
///         Some(_) => {}
///         None => {
///             now = consensus.next_deadline();
///             consensus.tick(now);
///         }
///     }
/// };
/// assert_eq!(committed.command, b"hello");
/// ```
///
/// Bounds: `max_proposals` proposals, `max_log_bytes` of entries (a leader refuses more), one incoming snapshot, and the
/// pieces of outgoing ones that are on their way. Outputs are bounded by the inputs.
pub struct Consensus {
    pub(super) identity: Identity,
    pub(super) settings: ConsensusSettings,
    pub(super) raft: RawNode<LogView>,
    rng: Rng,
    pub(super) now: Time,
    next_tick: Time,
    next_heartbeat: Time,
    /// For which term and role the election time-out was drawn.
    timeout_of: (u64, StateRole),
    pub(super) led: Leadership,
    pub(super) outputs: VecDeque<Output>,
    /// What waits for writes, in their order.
    pub(super) unwritten: VecDeque<Unwritten>,
    pub(super) next_ticket: u64,
    pub(super) configuration: Configuration,
    pub(super) member_nodes: BTreeSet<NodeId>,
    pub(super) sessions: Sessions,
    /// Index and term of the last entry that has come out.
    pub(super) applied: (u64, u64),
    pub(super) since_snapshot: (u64, u64),
    pub(super) taking: Option<Taking>,
    pub(super) proposals: Proposals,
    /// Proposals that this leader has appended in its term and not yet applied.
    pub(super) appended: BTreeSet<(NodeLife, u64)>,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    /// A snapshot that has come and that raft-rs is about to take.
    pub(super) arrived: Option<Arc<Snapshot>>,
    pub(super) holder: Holder,
    pub(super) grantor: Option<Grantor>,
    pub(super) next_round: u64,
    /// Whether this leader had applied all of its predecessors' entries before the present input.
    pub(super) settled: bool,
    pub(super) lease_holders: Option<BTreeSet<NodeLife>>,
    pub(super) downs: BTreeMap<u64, NodeLife>,
    pub(super) wanted: BTreeMap<PeerId, bool>,
    pub(super) heard: BTreeMap<PeerId, Time>,
    pub(super) jumps: Jumps,
    /// The configuration that has just been applied is without this peer.
    pub(super) is_removed: bool,
    pub(super) stopped: Option<StopCause>,
}

/// A snapshot that the state machine has been asked for, and what belongs to it.
pub(super) struct Taking {
    index: u64,
    term: u64,
    configuration: ConfigurationRecord,
    sessions: Sessions,
}

/// A state that is too large for others to take. It is dropped; the log grows on, and the next one is asked for later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a snapshot of {bytes} bytes is too large; at most {max} are taken (`max_snapshot_bytes`)")]
pub struct SnapshotTooLarge {
    /// Its size.
    pub bytes: u64,
    /// The most.
    pub max: u64,
}

impl Consensus {
    /// Starts with what the durable log held: of a founder, [`Recovered::genesis`]; of a node that waits to be let in,
    /// the default. The state of the last snapshot comes out first.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the settings contradict each other, or the log cannot be used.
    pub fn start(
        identity: Identity,
        settings: ConsensusSettings,
        recovered: Recovered,
        rng: Rng,
        now: Time,
    ) -> Result<Consensus, StartError> {
        settings.check()?;
        let unusable = |why: RecoveryError| StartError::Recovery(identity.peer, why);
        let recovered = recovered.mend().map_err(unusable)?;
        let mut outputs = VecDeque::new();
        let mut configuration = Configuration::default();
        let mut sessions = Sessions::default();
        let mut applied = (0, 0);
        if let Some(snapshot) = &recovered.snapshot {
            let open = snapshot.open().map_err(|why| unusable(why.into()))?;
            (configuration, sessions) = (open.configuration, open.sessions);
            applied = (snapshot.meta.index, snapshot.meta.term);
            outputs.push_back(Output::Restore(RestoredState {
                index: applied.0,
                term: applied.1,
                snapshot: Arc::clone(snapshot),
                state_at: open.state_at,
            }));
            outputs.push_back(Output::Configured {
                index: applied.0,
                configuration: configuration.clone(),
            });
        }
        let record = ConfigurationRecord::from(&configuration);
        let entries = recovered.entries.into_iter().map(convert::entry_to_raft);
        let view = LogView::new(
            recovered.hard_state,
            recovered.snapshot,
            convert::conf_state(&record),
            entries.collect(),
        );
        let config = raft_config(&settings, identity.peer, applied.0);
        let raft = RawNode::new(&config, view, &to_tracing())
            .map_err(|error| StartError::Raft(error.to_string()))?;
        let proposals = Proposals::new(
            identity.life,
            settings.max_proposals,
            settings.proposal_timeout,
            settings.election_max,
        );
        let mut consensus = Consensus {
            identity,
            raft,
            rng,
            now,
            next_tick: now + settings.tick(),
            next_heartbeat: now,
            timeout_of: (u64::MAX, StateRole::Follower),
            led: Leadership::default(),
            outputs,
            unwritten: VecDeque::new(),
            next_ticket: 1,
            member_nodes: configuration
                .peers()
                .iter()
                .map(|peer| peer.node())
                .collect(),
            configuration,
            sessions,
            applied,
            since_snapshot: (0, 0),
            taking: None,
            proposals,
            appended: BTreeSet::new(),
            incoming: Incoming::new(&settings),
            outgoing: Outgoing::new(&settings),
            arrived: None,
            holder: Holder::default(),
            grantor: None,
            next_round: 1,
            settled: false,
            lease_holders: None,
            downs: BTreeMap::new(),
            wanted: BTreeMap::new(),
            heard: BTreeMap::new(),
            jumps: Jumps::default(),
            is_removed: false,
            stopped: None,
            settings,
        };
        consensus.draw_timeout();
        consensus.pump();
        Ok(consensus)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`tick`](Consensus::tick) at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        match self.stopped {
            None => self.next_tick,
            Some(_) => Time::MAX,
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time) {
        self.now = self.now.max(now);
        if self.stopped.is_some() {
            return;
        }
        for _ in 0..MAX_TICKS {
            if self.next_tick > now {
                break;
            }
            self.next_tick = self.next_tick + self.settings.tick();
            if self.led.is_self || self.may_campaign() {
                self.raft.tick();
                self.draw_timeout();
            }
        }
        if self.next_tick <= now {
            self.next_tick = now + self.settings.tick();
        }
        self.expire();
        if now >= self.next_heartbeat {
            self.next_heartbeat = now + self.settings.heartbeat;
            self.renew_leases();
            self.reconfigure();
        }
        self.pump();
    }

    /// Proposes a command. Whoever leads appends it; [`Output::Outcome`] tells what became of it.
    ///
    /// # Errors
    ///
    /// [`ProposeError`] if it is not taken; nothing has changed then.
    pub fn propose(&mut self, now: Time, command: Vec<u8>) -> Result<ProposalId, ProposeError> {
        self.now = self.now.max(now);
        let id = self.take_proposal(command, 0)?;
        self.pump();
        Ok(id)
    }

    /// Proposes the command that declares a node down: it counts in this leader's term only, and from now on the node
    /// gets no lease in this term, unless this and every other `Down` for it is rejected. See [`lease`](super::lease).
    ///
    /// # Errors
    ///
    /// [`ProposeError`]: `NotLeader`, `LeaseStands`, or what [`propose`](Consensus::propose) says. Nothing has changed
    /// then.
    pub fn propose_down(
        &mut self,
        now: Time,
        life: NodeLife,
        command: Vec<u8>,
    ) -> Result<ProposalId, ProposeError> {
        self.now = self.now.max(now);
        let room = self.raft.store().bytes() < self.settings.max_log_bytes;
        let Some(grantor) = self.grantor.as_mut().filter(|_| self.settled) else {
            return Err(ProposeError::NotLeader);
        };
        if !room {
            return Err(ProposeError::LogFull);
        }
        if self.settings.mutant != Some(Mutant::IgnoreLease) {
            let condemned = grantor.condemn(life, now);
            condemned.map_err(|until| ProposeError::LeaseStands { until })?;
        }
        let taken = self.take_proposal(command, self.led.term);
        match (&taken, &mut self.grantor) {
            (Ok(id), _) => _ = self.downs.insert(id.number, life),
            (Err(_), Some(grantor)) => grantor.pardon(life),
            (Err(_), None) => {}
        }
        self.pump();
        taken
    }

    pub(super) fn take_proposal(
        &mut self,
        command: Vec<u8>,
        only_term: u64,
    ) -> Result<ProposalId, ProposeError> {
        let (bytes, max) = (command.len(), self.settings.max_command_bytes);
        if self.stopped.is_some() {
            return Err(ProposeError::Stopped);
        }
        if bytes > max {
            return Err(ProposeError::TooLarge { bytes, max });
        }
        let number = self.proposals.add(command, only_term, self.now);
        let number = number.ok_or(ProposeError::Full(self.settings.max_proposals))?;
        Ok(ProposalId {
            proposer: self.identity.life,
            number,
        })
    }

    /// The state at this index, which [`Output::TakeSnapshot`] asked for. One that nobody asked for is ignored.
    ///
    /// # Errors
    ///
    /// [`SnapshotTooLarge`] if others would not take it.
    pub fn snapshot_taken(
        &mut self,
        now: Time,
        index: u64,
        state: &[u8],
    ) -> Result<(), SnapshotTooLarge> {
        self.now = self.now.max(now);
        let asked = |taking: &mut Taking| taking.index == index;
        let Some(taking) = self
            .taking
            .take_if(asked)
            .filter(|_| self.stopped.is_none())
        else {
            return Ok(());
        };
        let meta = SnapshotMeta {
            index,
            term: taking.term,
            configuration: taking.configuration,
        };
        let snapshot = Snapshot::new(meta, &taking.sessions, state);
        let (bytes, max) = (snapshot.data.len() as u64, self.settings.max_snapshot_bytes);
        if bytes > max {
            return Err(SnapshotTooLarge { bytes, max });
        }
        let snapshot = Arc::new(snapshot);
        self.write_own_snapshot(SnapshotWrite {
            snapshot,
            replaces_log: false,
        });
        self.pump();
        Ok(())
    }

    /// This write and all before it are durable.
    pub fn written(&mut self, now: Time, ticket: Ticket) {
        self.now = self.now.max(now);
        self.release(ticket);
        self.pump();
    }

    /// A write has failed. Nothing is known of the disk any more, so this node takes part no longer.
    pub fn write_failed(&mut self) {
        self.stop(StopCause::WriteFailed, Rejection::NoQuorum);
    }

    /// Has another voter lead, before this node leaves or stops. Nothing happens if this node does not lead, or the other
    /// does not vote; if the other does not take it within `election_min`, this node goes on. Proposals wait meanwhile.
    pub fn hand_leadership_to(&mut self, now: Time, peer: PeerId) {
        self.now = self.now.max(now);
        if self.led.is_self
            && peer != self.identity.peer
            && self.configuration.voters.contains(&peer)
        {
            self.raft.transfer_leader(peer.number());
        }
        self.pump();
    }

    /// The connection to a peer was lost, and with it what was on its way.
    pub fn lost_connection(&mut self, now: Time, peer: PeerId) {
        self.now = self.now.max(now);
        self.raft.report_unreachable(peer.number());
        self.pump();
    }

    /// Who should be a peer, and whether it answers. The leader changes the configuration accordingly, step by step; see
    /// [`plan`](super::voters::plan). Give every node the same answer, from the replicated state: any of them may lead next.
    pub fn want_peers(&mut self, wanted: BTreeMap<PeerId, bool>) {
        self.wanted = wanted;
    }

    /// Which lives may get leases; before the first call, any. Call it as soon as the replicated state says so.
    pub fn allow_leases(&mut self, lives: BTreeSet<NodeLife>) {
        self.lease_holders = Some(lives);
    }

    /// The lease of this node.
    #[must_use]
    pub fn lease(&self) -> &Holder {
        &self.holder
    }

    /// From when on a node may be declared down; `None` if this node does not lead.
    #[must_use]
    pub fn may_declare_down_from(&self, life: NodeLife) -> Option<Time> {
        let grantor = self.grantor.as_ref().filter(|_| self.settled)?;
        Some(grantor.may_declare_down_from(life))
    }

    /// Who leads.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.led
    }

    /// The peers of the cluster, as of the last entry that has come out.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Index of the last entry that has come out.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied.0
    }

    /// How many proposals of this node have no outcome yet.
    #[must_use]
    pub fn open_proposals(&self) -> usize {
        self.proposals.len()
    }

    /// About how many bytes of entries are in memory.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.raft.store().bytes()
    }

    /// Draws the election time-out anew for each term and role, from our own generator. (raft-rs has drawn one from that
    /// of the thread.)
    pub(super) fn draw_timeout(&mut self) {
        let of = (self.raft.raft.term, self.raft.raft.state);
        if of != self.timeout_of {
            self.timeout_of = of;
            let min = self.settings.ticks(self.settings.election_min);
            let max = self.settings.ticks(self.settings.election_max).max(min + 1);
            let ticks = self.rng.random_range(min..max);
            self.raft.raft.set_randomized_election_timeout(ticks);
        }
    }

    fn expire(&mut self) {
        let term = self.led.is_self.then_some(self.led.term);
        for peer in self.outgoing.expire(self.now, term) {
            let failed = raft::SnapshotStatus::Failure;
            self.raft.report_snapshot(peer.number(), failed);
        }
        let why = self.why_rejected();
        for (number, outcome) in self.proposals.expire(self.now, why) {
            self.tell_outcome(number, outcome);
        }
    }

    /// Why nobody appends what is proposed.
    fn why_rejected(&self) -> Rejection {
        let me = self.identity.peer;
        if !self.configuration.contains(me) {
            return Rejection::NotMember;
        }
        let voters = &self.configuration.voters;
        let heard = |peer: &&PeerId| {
            let since = self.heard.get(peer).map(|heard| self.now - *heard);
            **peer == me || since.is_some_and(|since| since < self.settings.election_max)
        };
        match voters.iter().filter(heard).count() > voters.len() / 2 {
            true => Rejection::NoLeader,
            false => Rejection::NoQuorum,
        }
    }

    pub(super) fn take_snapshot(&mut self) {
        if self.taking.is_some() || self.configuration.is_joint() {
            return;
        }
        let (index, term) = self.applied;
        self.since_snapshot = (0, 0);
        self.taking = Some(Taking {
            index,
            term,
            configuration: (&self.configuration).into(),
            sessions: self.sessions.clone(),
        });
        self.outputs.push_back(Output::TakeSnapshot { index });
    }

    /// What was asked for before is of no use when a later snapshot has come.
    pub(super) fn forget_taking_before(&mut self, index: u64) {
        self.taking.take_if(|taking| taking.index <= index);
    }

    pub(super) fn send(&mut self, to: PeerId, body: Body) {
        // A former disk of this node, which is still being taken out of the configuration: nobody has it any more.
        if to.node() == self.identity.peer.node() {
            return;
        }
        self.outputs.push_back(Output::Send(Message {
            cluster: self.identity.cluster,
            from: self.identity.peer,
            to,
            body,
        }));
    }

    pub(super) fn stop(&mut self, cause: StopCause, why: Rejection) {
        if self.stopped.is_some() {
            return;
        }
        self.stopped = Some(cause);
        self.grantor = None;
        self.led = Leadership {
            leader: None,
            is_self: false,
            ..self.led
        };
        for (number, outcome) in self.proposals.stop(why) {
            self.tell_outcome(number, outcome);
        }
        self.outputs.push_back(Output::Stopped(cause));
    }
}

fn raft_config(settings: &ConsensusSettings, peer: PeerId, applied: u64) -> Config {
    let election = settings.ticks(settings.election_min);
    Config {
        id: peer.number(),
        heartbeat_tick: HEARTBEAT_TICKS,
        election_tick: election,
        min_election_tick: election,
        max_election_tick: settings.ticks(settings.election_max).max(election + 1),
        applied,
        max_size_per_msg: settings.append_bytes as u64,
        max_inflight_msgs: settings.append_window,
        check_quorum: true,
        pre_vote: true,
        read_only_option: ReadOnlyOption::Safe,
        max_uncommitted_size: settings.max_log_bytes.max(settings.append_bytes as u64),
        max_committed_size_per_ready: settings.max_log_bytes,
        ..Config::default()
    }
}
