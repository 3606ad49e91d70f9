//! What one core has to do with other nodes: a link to each, the asks of theirs that are answered here, and what it counts.

use super::asks::AnyAskTable;
use super::entrusting::{Reading, drop_handed_over};
use super::link::{Connection, Link, LinkBounds, Waiting};
use super::local::{Local, TimerEvent};
use super::lookups::Lookups;
use super::reference::Receiver;
use super::refusal::{AskError, Rejection, Uncertainty};
use super::remote_asks::{REMOTE, RemoteAsks};
use super::reply::{ReplyAddress, RuntimeId};
use super::typed::TypedBox;
use crate::base::ids::{CoreId, EntityTypeId, NodeId, ShardId, ShardKey};
use crate::base::time::Time;
use crate::base::timer_wheel::{TimerKey, TimerWheel};
use crate::wire::address::{Address, Life, Sender, Target};
use crate::wire::header::Header;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How much longer an ask of another node is known here than whoever asked waits, who ends it first.
const ASK_SLACK: Duration = Duration::from_secs(1);

/// What one core has had to do with other nodes; bytes are those of whole frames unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteStats {
    /// Frames written for other nodes.
    pub frames_out: u64,
    /// Those of them that a connection has taken as a whole.
    pub frames_sent: u64,
    /// The bytes of all of them.
    pub bytes_out: u64,
    /// Bytes of payloads that were copied into them: those of frames that were passed on.
    pub copied_out: u64,
    /// Frames that came here.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Bytes that were copied to keep frames or to hand them to other cores; a large one is never copied.
    pub copied_in: u64,
    /// Frames handed to another core of this node.
    pub carried: u64,
    /// Messages that were read where they lay.
    pub read_in_place: u64,
    /// Messages that found their entity busy, and wait in its mailbox as values.
    pub read_to_wait: u64,
    /// Frames passed on to another node, which owns the shard by now.
    pub forwarded: u64,
    /// Notices from past owners that a shard has moved.
    pub moved_notices: u64,
    /// Frames that another core of this node had taken from a node before this one heard of its death, dropped.
    pub of_the_dead: u64,
    /// Frames refused, for whatever reason.
    pub refused: u64,
    /// Of these, how many made no sense: unknown types or shards, bytes that cannot be read, answers to nobody.
    pub senseless: u64,
    /// Bytes that wait to be sent now.
    pub waiting_bytes: usize,
    /// Asks of other nodes that are open here now.
    pub remote_asks: usize,
    /// Actors and entities of other nodes that are watched from here now.
    pub watches: usize,
    /// Watches of other nodes that are kept here now.
    pub watchers: usize,
    /// Lookups on other nodes that wait for an answer now.
    pub lookups: usize,
}

impl AddAssign for RemoteStats {
    fn add_assign(&mut self, other: RemoteStats) {
        for (count, more) in [
            (&mut self.frames_out, other.frames_out),
            (&mut self.frames_sent, other.frames_sent),
            (&mut self.bytes_out, other.bytes_out),
            (&mut self.copied_out, other.copied_out),
            (&mut self.frames_in, other.frames_in),
            (&mut self.bytes_in, other.bytes_in),
            (&mut self.copied_in, other.copied_in),
            (&mut self.carried, other.carried),
            (&mut self.read_in_place, other.read_in_place),
            (&mut self.read_to_wait, other.read_to_wait),
            (&mut self.forwarded, other.forwarded),
            (&mut self.moved_notices, other.moved_notices),
            (&mut self.of_the_dead, other.of_the_dead),
            (&mut self.refused, other.refused),
            (&mut self.senseless, other.senseless),
        ] {
            *count += more;
        }
        self.waiting_bytes += other.waiting_bytes;
        self.remote_asks += other.remote_asks;
        self.watches += other.watches;
        self.watchers += other.watchers;
        self.lookups += other.lookups;
    }
}

/// The lease of a node, as far as a core has to know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lease {
    /// Nobody has said that one is needed.
    #[default]
    NotNeeded,
    /// It is valid until then, by the clock of the cores.
    Until(Time),
    /// It has lapsed, or was never granted.
    Lapsed,
}

impl Lease {
    /// Whether entities may run at that time.
    #[must_use]
    pub fn is_valid(self, now: Time) -> bool {
        match self {
            Lease::NotNeeded => true,
            Lease::Until(end) => now < end,
            Lease::Lapsed => false,
        }
    }
}

/// One core's part in the cluster.
pub(crate) struct Remote {
    pub(crate) life: Life,
    pub(crate) bounds: LinkBounds,
    pub(crate) links: BTreeMap<NodeId, Link>,
    pub(crate) asks: Rc<RefCell<RemoteAsks>>,
    /// Bytes of frames that are held or under way to other cores.
    pub(crate) held_bytes: Arc<AtomicUsize>,
    /// Shards whose messages wait here because the link to their owner has no room for all of them.
    pub(crate) backlog: BTreeSet<(u16, ShardId)>,
    /// Nodes whose links had no room for a large message of the backlog: nothing else begins to wait there before it.
    pub(crate) crowded: BTreeSet<NodeId>,
    /// Shards without an owner for which something waits here, to be reported, and those that have been.
    pub(crate) wanted: Vec<ShardKey>,
    pub(crate) reported: BTreeSet<ShardKey>,
    /// When frames for a shard are refused whose senders know more than this core, as it seems.
    pub(crate) behind: BTreeMap<(u16, ShardId), TimerKey>,
    /// To whom it was said last that a shard has moved.
    pub(crate) last_moved: Option<(NodeId, ShardKey)>,
    /// The life of this node is over, and the next has not begun.
    pub(crate) is_over: bool,
    pub(crate) lease: Lease,
    /// The lease was not valid when last looked at.
    pub(crate) lapsed: bool,
    pub(crate) stats: RemoteStats,
    /// What has been logged about peers; each kind of trouble once.
    pub(crate) logged: BTreeSet<(NodeId, &'static str)>,
    /// The bytes of an id, for the next frame.
    pub(crate) id: Vec<u8>,
    pub(crate) lookups: Lookups,
}

/// The kinds of trouble that are remembered as logged, at most.
const MOST_LOGGED: usize = 1_000;

impl Remote {
    pub(crate) fn new(life: Life, bounds: LinkBounds) -> Remote {
        Remote {
            life,
            links: BTreeMap::new(),
            asks: Rc::new(RefCell::new(RemoteAsks::new(bounds.remote_asks))),
            bounds,
            held_bytes: Arc::default(),
            backlog: BTreeSet::new(),
            crowded: BTreeSet::new(),
            wanted: Vec::new(),
            reported: BTreeSet::new(),
            behind: BTreeMap::new(),
            last_moved: None,
            is_over: false,
            lease: Lease::NotNeeded,
            lapsed: false,
            stats: RemoteStats::default(),
            logged: BTreeSet::new(),
            id: Vec::new(),
            lookups: Lookups::default(),
        }
    }

    /// Who sends from this core.
    pub(crate) fn sender(&self, core: CoreId) -> Sender {
        Sender {
            life: self.life,
            core,
            stream: 0,
        }
    }

    /// The link to a node in its present life, which `life` is if it is given.
    pub(crate) fn link(&mut self, node: NodeId, life: Option<Life>) -> Option<&mut Link> {
        let link = self.links.get_mut(&node)?;
        life.is_none_or(|life| link.life == life).then_some(link)
    }

    /// Room for a frame that is held or carried; `None` if there is none.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Reserved> {
        let before = self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        let reserved = Reserved {
            held: self.held_bytes.clone(),
            bytes,
        };
        (before + bytes <= self.bounds.held_bytes).then_some(reserved)
    }

    /// Whether a kind of trouble with a peer is to be logged: it has not been.
    pub(crate) fn is_news(&mut self, from: NodeId, trouble: &'static str) -> bool {
        self.logged.len() < MOST_LOGGED && self.logged.insert((from, trouble))
    }

    fn stats(&self) -> RemoteStats {
        let mut stats = self.stats;
        stats.lookups = self.lookups.len();
        stats.remote_asks = self.asks.borrow().len();
        for link in self.links.values() {
            stats.waiting_bytes += link.writer.pending().len();
        }
        stats
    }
}

/// Room that a frame takes, given back when it is dropped.
pub(crate) struct Reserved {
    held: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Local {
    /// What reading a message for this target needs, which came with this time left and this reply address. Who answers
    /// it does so in the epoch that this core knows, whichever the sender knew.
    pub(super) fn reading(
        &self,
        target: Target,
        remaining: Option<Duration>,
        own: Option<Address>,
    ) -> Option<Reading> {
        let remote = self.remote.as_ref()?;
        Some(Reading {
            asks: remote.asks.clone(),
            runtime: self.runtime,
            life: remote.life,
            core: self.core,
            cores: self.port.cores(),
            target: self.in_present_epoch(target),
            until: remaining.map(|left| self.now + left + ASK_SLACK),
            is_ask: own.is_some(),
            own,
            opened: Vec::new(),
        })
    }

    fn in_present_epoch(&self, target: Target) -> Target {
        let Target::Shard { key, .. } = target else {
            return target;
        };
        let here = self.topology.type_of_number(key.entity_type);
        let owner = here.and_then(|entity_type| {
            let shard = key.shard;
            self.topology.owner(ShardKey { entity_type, shard })
        });
        match owner {
            Some(owner) => Target::Shard {
                key,
                epoch: owner.epoch,
            },
            None => target,
        }
    }

    /// Sets the timers of asks that have just been read.
    pub(super) fn time_remote_asks(&mut self) {
        let Some(remote) = &self.remote else { return };
        let asks = remote.asks.clone();
        let untimed = asks.borrow_mut().take_untimed();
        for (slot, generation, until) in untimed {
            let address = ReplyAddress::new(self.runtime, self.core, REMOTE, slot, generation);
            if asks.borrow().is_open(address) {
                let timer = self.timers.insert(until, TimerEvent::Ask(address));
                asks.borrow_mut().set_timer(slot, generation, timer);
            }
        }
    }

    /// A message has gone out in a frame of that length: its value is dropped here, and the asks whose addresses went with
    /// it end with the link.
    pub(super) fn has_gone<M>(
        &mut self,
        node: NodeId,
        length: usize,
        what: Waiting,
        mut noted: Vec<ReplyAddress>,
        message: M,
    ) {
        self.count_written(length);
        if let Some(remote) = &mut self.remote
            && let Some(link) = remote.links.get_mut(&node)
        {
            link.wrote(length, what);
            if !matches!(what, Waiting::Reply) {
                remote.crowded.remove(&node);
            }
        }
        if noted.is_empty() {
            return super::guard::drop_guarded(message);
        }
        self.entrust(node, &noted);
        drop_handed_over(&mut noted, message);
    }

    pub(super) fn count_written(&mut self, length: usize) {
        if let Some(remote) = &mut self.remote {
            remote.stats.frames_out += 1;
            remote.stats.bytes_out += length as u64;
        }
    }

    /// Remembers asks that a node answers, for the case that it never does.
    pub(super) fn entrust(&mut self, node: NodeId, asks: &[ReplyAddress]) {
        let most = self.limits.asks;
        let Some(remote) = &mut self.remote else {
            return;
        };
        let Some(link) = remote.links.get_mut(&node) else {
            return;
        };
        if link.entrust(asks) {
            let (me, tables, remote_asks) = (self.core, &self.ask_tables, &remote.asks);
            link.prune(most, |address| {
                if address.core() != me {
                    return true;
                }
                match tables.get(usize::from(address.table())) {
                    Some(table) => table.deadline(*address).is_some(),
                    None => remote_asks.borrow().is_open(*address),
                }
            });
        }
    }

    /// Gives up a link whose connection, or whose node, is gone.
    #[cold]
    pub(crate) fn lose_link(&mut self, node: NodeId, connection: Connection) {
        let Some(remote) = &mut self.remote else {
            return;
        };
        let Some(link) = remote.links.get_mut(&node) else {
            return;
        };
        let life = link.life;
        let passed_on = link.passed_on(link.unsure(connection));
        let mut may_arrive = link.passed_on(0);
        may_arrive.truncate(may_arrive.len() - passed_on.len());
        let (waiting, entrusted) = link.lose(&remote.bounds, connection);
        remote.crowded.remove(&node);
        self.watches.far.broken(life);
        self.lookups_unanswered(node);
        self.not_sent(waiting, Rejection::LinkLost);
        for (origin, target) in passed_on {
            self.send_failure(origin, target, Rejection::LinkLost.into());
        }
        for (origin, target) in may_arrive {
            self.send_failure(origin, target, Uncertainty::LinkLost.into());
        }
        for address in entrusted {
            self.fail_ask(address, Uncertainty::LinkLost.into());
        }
    }

    /// Gives up all links, at the end.
    pub(crate) fn lose_all_links(&mut self) {
        let links = self.remote.iter().flat_map(|remote| remote.links.keys());
        for node in links.copied().collect::<Vec<_>>() {
            self.lose_link(node, Connection::Gone);
        }
    }

    /// Has the links be those to these nodes, each in its present life.
    pub(crate) fn meet(&mut self, members: &BTreeMap<NodeId, crate::base::ids::Incarnation>) {
        let Some(remote) = &mut self.remote else {
            return;
        };
        let me = remote.life.node;
        let stays = |node: NodeId, link: &Link| members.get(&node) == Some(&link.life.incarnation);
        let gone: Vec<NodeId> = remote
            .links
            .iter()
            .filter(|(node, link)| !stays(**node, link))
            .map(|(node, _)| *node)
            .collect();
        for node in gone {
            self.lose_link(node, Connection::MayWrite);
            if let Some(remote) = &mut self.remote {
                remote.links.remove(&node);
            }
        }
        let Some(remote) = &mut self.remote else {
            return;
        };
        for (node, incarnation) in members {
            if *node != me {
                let life = Life::new(*node, *incarnation);
                let bounds = remote.bounds;
                let link = remote.links.entry(*node);
                link.or_insert_with(|| Link::new(life, &bounds));
            }
        }
        self.meet_watchers(members);
    }

    /// Makes dead letters of messages that waited for a link and will not leave; their asks are rejected, for no handler
    /// has seen them.
    pub(super) fn not_sent(&mut self, waiting: Vec<Waiting>, why: Rejection) {
        for what in waiting {
            let (region, ask) = match what {
                Waiting::Tell(region) => (region, None),
                Waiting::Ask(region, ask) => (region, Some(ask)),
                Waiting::Forwarded | Waiting::Reply => (None, None),
                Waiting::Notice => continue,
                Waiting::Watch(life) => {
                    self.watches.far.broken(life);
                    continue;
                }
            };
            let name = match (region, what) {
                (Some(region), _) => self.region_states[usize::from(region)].message,
                (None, Waiting::Reply) => "a reply",
                (None, Waiting::Forwarded) => "a message of another node",
                (None, _) => "a message to an actor of another node",
            };
            let receiver = match region {
                Some(region) => {
                    Receiver::Entity(EntityTypeId(region), &"an entity of another node")
                }
                None => Receiver::Unknown,
            };
            self.note_dead_letter(receiver, why, name);
            if let Some(ask) = ask {
                self.fail_ask(ask, AskError::Rejected(why));
            }
        }
    }

    /// The turn is over: what was written in it may leave, if the node still has its lease. Returns whether anything may
    /// that could not before.
    pub(crate) fn flush_links(&mut self) -> bool {
        if self.remote.is_none() {
            return false;
        }
        let mut moved = self.release_backlog();
        moved |= self.send_watches();
        if !self.check_lease() {
            self.discard_turn();
            if !self.watches.far.is_quiet() {
                self.see_to_watches_later();
            }
        }
        if let Some(remote) = &mut self.remote {
            for link in remote.links.values_mut() {
                moved |= link.flush();
            }
        }
        moved
    }

    /// What this core has had to do with other nodes; `None` on a node that is alone.
    pub(crate) fn remote_stats(&self) -> Option<RemoteStats> {
        let mut stats = self.remote.as_ref()?.stats();
        stats.watches = self.watches.abroad();
        stats.watchers = self.watches.foreign();
        Some(stats)
    }

    /// A header from this core.
    pub(crate) fn header(&self, kind: crate::wire::kind::Kind, target: Target) -> Header {
        let sender = match &self.remote {
            Some(remote) => remote.sender(self.core),
            None => Sender::default(),
        };
        Header::new(kind, target, sender)
    }

    /// The runtime, and the life that other nodes know it by.
    pub(super) fn identity(&self) -> Option<(RuntimeId, Life)> {
        Some((self.runtime, self.remote.as_ref()?.life))
    }
}

/// How long whoever has opened this ask still waits, at that time: as a core with these ask tables and timers knows it.
pub(super) fn time_left(
    tables: &[TypedBox<dyn AnyAskTable>],
    timers: &TimerWheel<TimerEvent>,
    now: Time,
    ask: ReplyAddress,
) -> Option<Duration> {
    let timer = tables.get(usize::from(ask.table()))?.deadline(ask)?;
    Some(timers.deadline(timer)?.max(now) - now)
}
