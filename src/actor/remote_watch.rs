//! Watches between nodes: their frames, out and in. What has to be remembered for them, and why that is enough, is said in
//! [`FarWatches`](super::far_watches::FarWatches).

use super::ending::StopCause;
use super::entity_watch::EntitySignal;
use super::far_watches::{Due, Owed, Placed, There};
use super::guard::guarded;
use super::link::Waiting;
use super::local::{Local, TimerEvent};
use super::reason_codes::{cause_of, reason_of_end};
use super::reference::{AnyActorRef, CellRef, Home};
use super::refusal::Rejection;
use super::signals::Signal;
use super::watches::{Target as Watched, WatchId};
use crate::base::ids::{CoreId, EntityTypeId, Incarnation, NodeId, ShardId, ShardKey};
use crate::base::time::Time;
use crate::wire::address::{Address, Life, Target};
use crate::wire::flags::Flags;
use crate::wire::frame::FrameRef;
use crate::wire::header::Header;
use crate::wire::kind::Kind;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// After this time what could not be sent or announced is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// What has come from another node has found its way between the cores after this time, or a core is stuck.
const LONGEST_WAY: Duration = Duration::from_secs(1);

/// How this node stands to a life of a node.
enum Standing {
    Member,
    /// It is over.
    Over,
    /// It may become a member.
    Unknown,
    /// This node knows no others, or it is one of its own.
    Alien,
}

pub(super) fn life_of(home: Home) -> Life {
    Life::new(home.node(), home.incarnation())
}

/// Who watches, as a frame says it.
fn watcher_of(address: Address) -> WatchId {
    WatchId {
        life: address.life,
        core: address.core,
        number: address.place,
    }
}

/// What a frame for an entity says about a watch of it.
pub(super) fn entity_signal_of(frame: &FrameRef<'_>) -> Option<EntitySignal> {
    let by = watcher_of(frame.header().address?);
    match frame.kind() {
        Kind::Watch => Some(EntitySignal::Watch(by)),
        Kind::Unwatch => Some(EntitySignal::Unwatch(by)),
        _ => None,
    }
}

impl Local {
    pub(super) fn own_life(&self) -> Life {
        life_of(self.home)
    }

    /// Whether a call may add something to what waits for a node.
    pub(super) fn room_towards_node(&self, node: NodeId) -> Result<(), Rejection> {
        let Some(remote) = &self.remote else {
            return Ok(());
        };
        match remote.links.get(&node) {
            Some(link) if !link.has_room(&remote.bounds) => Err(Rejection::LinkFull),
            _ => Ok(()),
        }
    }

    fn standing_of(&self, life: Life) -> Standing {
        let Some(remote) = &self.remote else {
            return Standing::Alien;
        };
        if life.node == remote.life.node {
            return Standing::Alien;
        }
        match remote.links.get(&life.node) {
            Some(link) if link.life == life => Standing::Member,
            _ if self.watches.far.was_member(life) => Standing::Over,
            _ => Standing::Unknown,
        }
    }

    /// Begins to watch an actor that is not of this runtime.
    #[cold]
    pub(super) fn watch_far(&mut self, number: u64, actor: AnyActorRef) {
        let life = life_of(actor.home);
        match self.standing_of(life) {
            Standing::Alien => self.terminated(number, None),
            Standing::Over => self.terminated(number, Some(StopCause::NodeGone)),
            Standing::Unknown => self.watch_later(number),
            Standing::Member => {
                let there = There::Actor(actor.core);
                self.announce(number, Placed { life, there });
            }
        }
    }

    /// A watcher wants to watch an entity whose shard another node owns.
    #[cold]
    pub(super) fn watch_entity_far(
        &mut self,
        by: WatchId,
        node: NodeId,
        region: u16,
        shard: ShardId,
    ) {
        if !self.watches.is_own(by) || by.core != self.core {
            // It has come here because the shard was here. Its core announces it to the owner.
            return self.bounce(by);
        }
        if self.watches.target_of(by.number).is_none() {
            // It was ended while this waited.
            return;
        }
        let entity_type = EntityTypeId(region);
        let owner = self.topology.owner(ShardKey { entity_type, shard });
        let link = (self.remote.as_ref()).and_then(|remote| remote.links.get(&node));
        match (link, owner) {
            (Some(link), Some(owner)) => {
                let there = There::Shard(owner.epoch);
                let life = link.life;
                self.announce(by.number, Placed { life, there });
            }
            _ => self.watch_later(by.number),
        }
    }

    fn announce(&mut self, number: u64, placed: Placed) {
        let has_room = self.room_towards_node(placed.life.node).is_ok();
        let goes_now = self.watches.far.place(number, placed, has_room);
        match goes_now {
            Some(round) => self.write_watch(number, placed.life, round),
            None => self.see_to_watches_later(),
        }
    }

    fn watch_later(&mut self, number: u64) {
        self.watches.far.delay(number, self.now);
        self.see_to_watches_later();
    }

    /// A watch of this core was not taken where it was announced.
    pub(super) fn watch_bounced(&mut self, number: u64) {
        if self.watches.target_of(number).is_some() {
            self.watch_later(number);
        }
    }

    /// Tells a watcher's core that its watch was not taken.
    fn bounce(&mut self, by: WatchId) {
        if !self.watches.is_own(by) {
            self.bounce_watch(Address {
                life: by.life,
                core: by.core,
                table: 0,
                place: by.number,
            });
        } else if by.core == self.core {
            self.watch_bounced(by.number);
        } else {
            self.signal(by.core, Signal::Bounced { number: by.number });
        }
    }

    /// The same for one on another node.
    #[cold]
    pub(super) fn bounce_watch(&mut self, watcher: Address) {
        self.watches.far.has_watcher(watcher.life);
        let header = Header {
            address: Some(watcher),
            ..self.header(Kind::Rewatch, Target::Node)
        };
        self.write_for_watch(watcher.life, &header, &[]);
    }

    /// Writes a frame of a watch. If it finds no room, it counts as one that was lost.
    fn write_for_watch(&mut self, life: Life, header: &Header, id: &[u8]) -> bool {
        let link = (self.remote.as_mut()).and_then(|it| it.link(life.node, Some(life)));
        let written = link.and_then(|link| {
            let length = link.writer.write_bytes(header, id, &[]).ok()?;
            link.wrote(length, Waiting::Watch(life));
            Some(length)
        });
        match written {
            Some(length) => self.count_written(length),
            None => {
                self.watches.far.broken(life);
                self.see_to_watches_later();
            }
        }
        written.is_some()
    }

    /// Where frames of a watch go, and the bytes of the entity's id.
    fn watched_place(&mut self, number: u64) -> Option<(Target, Vec<u8>)> {
        let entity = match self.watches.target_of(number)? {
            Watched::Actor(actor) => return Some((actor_target(*actor), Vec::new())),
            Watched::Entity(entity) => entity,
        };
        let (region, shard) = entity.shard();
        // The user's code writes the id.
        let id = guarded(|| entity.write_id(&mut self.regions));
        let id = id.ok().flatten()?;
        Some((self.target_of(region, shard)?, id))
    }

    fn write_watch(&mut self, number: u64, life: Life, round: u16) {
        match self.watched_place(number) {
            Some(place) => self.write_place(Kind::Watch, number, life, round, place),
            None => {
                tracing::error!(core = %self.core, "the id of an entity that is watched cannot be written");
                self.terminated(number, None);
            }
        }
    }

    fn write_place(
        &mut self,
        kind: Kind,
        number: u64,
        life: Life,
        round: u16,
        (target, id): (Target, Vec<u8>),
    ) {
        let header = Header {
            address: Some(Address {
                life: self.own_life(),
                core: self.core,
                table: round,
                place: number,
            }),
            ..self.header(kind, target)
        };
        self.write_for_watch(life, &header, &id);
    }

    /// Ends a watch of somebody on another node, which is about to be taken out.
    #[cold]
    pub(super) fn unwatch_far(&mut self, number: u64, placed: Placed) {
        if let Some(round) = self.watches.far.round(placed.life)
            && let Some(place) = self.watched_place(number)
        {
            self.write_place(Kind::Unwatch, number, placed.life, round, place);
        }
    }

    /// A life of a node says that somebody who was watched has ended. If the watch was announced to another one since, it is
    /// over there as well.
    pub(super) fn end_elsewhere(&mut self, number: u64, from: Life) {
        if let Some(placed) = self.watches.placed(number)
            && placed.life != from
        {
            self.unwatch_far(number, placed);
        }
    }

    /// Whether somebody's watch may be taken here. One of another node may be one too many; it is tried again later.
    pub(super) fn may_watch_here(&mut self, by: WatchId) -> bool {
        if self.watches.is_own(by) {
            return true;
        }
        if self.watches.foreign() >= self.limits.watches {
            self.bounce(by);
            return false;
        }
        self.watches.far.has_watcher(by.life);
        true
    }

    /// Tells a watcher on another node that its target has come to its end.
    #[cold]
    pub(super) fn tell_terminated_far(&mut self, by: WatchId, cause: Option<StopCause>) {
        let life = by.life;
        self.watches.far.has_watcher(life);
        let owed = Owed {
            core: by.core,
            number: by.number,
            cause,
        };
        let has_room = (self.remote.as_mut()).is_some_and(|remote| {
            let bounds = remote.bounds;
            let link = remote.link(life.node, Some(life));
            link.is_some_and(|link| link.has_room(&bounds))
        });
        if has_room && self.watches.far.owes_nothing(life) {
            self.write_terminated(life, owed);
        } else {
            self.watches.far.owe(life, owed);
            self.see_to_watches_later();
        }
    }

    fn write_terminated(&mut self, life: Life, owed: Owed) {
        let header = Header {
            address: Some(Address {
                life,
                core: owed.core,
                table: 0,
                place: owed.number,
            }),
            reason: Some(reason_of_end(owed.cause)),
            ..self.header(Kind::Terminated, Target::Node)
        };
        self.write_for_watch(life, &header, &[]);
    }

    /// Sends what is due of watches, as far as there is room. Returns whether there was something.
    pub(super) fn send_watches(&mut self) -> bool {
        if self.watches.far.is_quiet() {
            return false;
        }
        let mut any = false;
        for life in self.watches.far.busy() {
            while self.has_room_for_watches(life) {
                let Some(due) = self.watches.far.next_due(self.core, life) else {
                    break;
                };
                any = true;
                self.send_due(life, due);
            }
        }
        if self.watches.far.waits() {
            self.see_to_watches_later();
        }
        any
    }

    fn has_room_for_watches(&mut self, life: Life) -> bool {
        let Some(remote) = &mut self.remote else {
            return false;
        };
        let bounds = remote.bounds;
        let link = remote.link(life.node, Some(life));
        link.is_some_and(|link| link.has_room(&bounds))
    }

    fn send_due(&mut self, life: Life, due: Due) {
        let (kind, core, table) = match due {
            Due::Watch(number) => {
                let round = self.watches.far.present_round(life);
                return self.write_watch(number, life, round);
            }
            Due::Terminated(owed) => return self.write_terminated(life, owed),
            Due::Forget(round) => (Kind::Forget, self.core, round),
            Due::Rewatch(Some(core)) => (Kind::Rewatch, core, 0),
            Due::Rewatch(None) => (Kind::Rewatch, self.core, 1),
        };
        let header = Header {
            address: Some(Address {
                life: self.own_life(),
                core,
                table,
                place: 0,
            }),
            ..self.header(kind, Target::Node)
        };
        self.write_for_watch(life, &header, &[]);
    }

    pub(super) fn see_to_watches_later(&mut self) {
        if !std::mem::replace(&mut self.watches.far.timer_set, true) {
            self.timers.insert(self.now + RETRY, TimerEvent::Watches);
        }
    }

    /// Tries again what could not be announced.
    pub(crate) fn see_to_watches(&mut self) {
        self.watches.far.timer_set = false;
        // What those who have gone had sent may be on its way from the cores to which it came.
        let mut cores = (0..self.port.cores() as u16).map(CoreId);
        let is_quiet =
            cores.all(|core| core == self.core || self.port.inbound_depth(core) == (0, 0));
        let now = self.now;
        let gone = (self.watches.far).gone(|since| is_quiet || since + LONGEST_WAY <= now);
        for number in gone {
            self.terminated(number, Some(StopCause::NodeGone));
        }
        for (number, since) in self.watches.far.late() {
            self.watch_once_more(number, Some(since));
        }
        if self.watches.far.waits() {
            self.see_to_watches_later();
        }
    }

    /// Announces a watch to wherever its target is now. What has been unknown since then for too long counts as gone.
    fn watch_once_more(&mut self, number: u64, since: Option<Time>) {
        if self.watches.far.is_gone(number) {
            return;
        }
        let entity = match self.watches.target_of(number) {
            Some(Watched::Actor(actor)) => {
                let actor = *actor;
                let is_unknown = matches!(self.standing_of(life_of(actor.home)), Standing::Unknown);
                let patience = self.limits.ask_timeout;
                if is_unknown && since.is_some_and(|since| since + patience <= self.now) {
                    return self.terminated(number, Some(StopCause::NodeGone));
                }
                return self.watch_far(number, actor);
            }
            Some(Watched::Entity(entity)) => entity,
            None => return,
        };
        let (region, shard) = entity.shard();
        let by = self.own_watch(number);
        let announce = guarded(|| entity.prepare(EntitySignal::Watch(by)));
        let entity_type = EntityTypeId(region);
        let owner = self.topology.owner(ShardKey { entity_type, shard });
        let announced = self.watches.placed(number).map(|placed| placed.there);
        if let (Some(There::Shard(epoch)), Some(owner)) = (announced, owner)
            && owner.fence > epoch
        {
            // Whoever owned it then has died.
            self.watches.far.node_gone(number, self.now);
            return self.see_to_watches_later();
        }
        self.watches.far.withdraw(number);
        let announced = announce.and_then(|announce| guarded(|| announce(self)));
        if let Err(panic) = announced {
            tracing::error!(core = %self.core, panic, "the id of an entity that is watched panicked");
            self.terminated(number, None);
        }
    }

    /// The owner of a shard is another one, or in another epoch: so are those whom watches of its entities reach. To be
    /// called when what was held for the shard has been released, for that comes before.
    pub(crate) fn watched_shard_changed(&mut self, key: ShardKey) {
        for number in (self.watches.far).of_shard((key.entity_type.0, key.shard)) {
            self.watch_once_more(number, None);
        }
    }

    /// There are other members: who was watched on a node that is none any more has gone, and its watches here are over.
    pub(super) fn meet_watchers(&mut self, members: &BTreeMap<NodeId, Incarnation>) {
        let gone = self.watches.far.meet(members, self.now);
        let mut gone: BTreeSet<Life> = gone.into_iter().collect();
        let is_member = |life: &Life| members.get(&life.node) == Some(&life.incarnation);
        let lives = self.watches.foreign_lives();
        gone.extend(lives.into_iter().filter(|life| !is_member(life)));
        for life in gone {
            if self.watches.forget_life(life) && !self.watches.far.was_member(life) {
                self.watches.far.has_dropped(life);
            }
        }
        if self.watches.far.waits() {
            self.see_to_watches_later();
        }
    }

    /// A core of this node has died without a word, and with it whoever was watched there.
    pub(super) fn say_core_died(&mut self, core: CoreId) {
        if self.draining || self.stopping {
            return;
        }
        if let Some(remote) = &self.remote {
            let lives = remote.links.values().map(|link| link.life);
            self.watches.far.core_died(core, lives);
        }
    }

    /// A core of another node, or each of them, wants to hear again who watches somebody on it.
    pub(super) fn watch_again(&mut self, life: Life, core: Option<CoreId>) {
        self.watches.far.asked_again(life, core);
    }

    /// Whether a frame is of a watch that is over, or of somebody whom nobody could tell of an end.
    pub(super) fn is_stale_watch(&mut self, frame: &FrameRef<'_>) -> bool {
        let header = frame.header();
        let (Kind::Watch | Kind::Unwatch, Some(address)) = (header.kind, header.address) else {
            return false;
        };
        if address.life != header.sender.life {
            self.senseless(frame, "a watch for somebody else");
            return true;
        }
        if !matches!(self.standing_of(address.life), Standing::Member) {
            // It is told when it has become known here.
            if !self.watches.far.was_member(address.life) {
                self.watches.far.has_dropped(address.life);
            }
            return true;
        }
        let Address {
            life, core, table, ..
        } = address;
        !header.flags.contains(Flags::FORWARDED) && self.watches.far.is_stale(life, core, table)
    }

    /// Takes a frame about watches.
    pub(super) fn take_watch_frame(&mut self, frame: FrameRef<'_>) {
        let header = *frame.header();
        let Some(address) = header.address else {
            return;
        };
        let is_own = address.life == self.own_life() && address.core.index() < self.port.cores();
        let is_sender = address.life == header.sender.life;
        match (header.kind, header.target) {
            (Kind::Watch | Kind::Unwatch, Target::Shard { .. }) => self.take_request(&frame),
            (Kind::Watch | Kind::Unwatch, Target::Actor { .. }) => self.take_actor_watch(&frame),
            (Kind::Terminated, _) if is_own => {
                let (number, from) = (address.place, header.sender.life);
                let cause = header.reason.and_then(cause_of);
                if address.core == self.core {
                    self.end_elsewhere(number, from);
                    self.terminated(number, cause);
                } else {
                    let signal = Signal::Terminated {
                        number,
                        cause,
                        from,
                    };
                    self.signal_in_order(address.core, signal);
                }
            }
            (Kind::Rewatch, _) if is_own => {
                let number = address.place;
                if address.core == self.core {
                    self.watch_bounced(number);
                } else {
                    self.signal(address.core, Signal::Bounced { number });
                }
            }
            (Kind::Rewatch, _) if is_sender => {
                let life = address.life;
                let core = (address.table == 0).then_some(address.core);
                self.signal_others(|| Signal::Rewatch { life, core });
                self.watch_again(life, core);
            }
            (Kind::Forget, _) if is_sender => {
                let Address {
                    life, core, table, ..
                } = address;
                if matches!(self.standing_of(life), Standing::Member)
                    && self.watches.far.begin_round(life, core, table)
                {
                    self.signal_others(|| Signal::Forget { life, core });
                    self.watches.forget_core(life, core);
                }
            }
            _ => self.senseless(&frame, "a frame about watches of somebody else"),
        }
    }

    /// Somebody on another node watches an actor of this one, or does not any more.
    fn take_actor_watch(&mut self, frame: &FrameRef<'_>) {
        let header = *frame.header();
        let (
            Target::Actor {
                incarnation,
                core,
                cell,
            },
            Some(address),
        ) = (header.target, header.address)
        else {
            return;
        };
        if self.is_stale_watch(frame) {
            return;
        }
        let (by, target) = (watcher_of(address), CellRef::from_bits(cell));
        let is_watch = header.kind == Kind::Watch;
        let is_here =
            incarnation == self.own_life().incarnation && core.index() < self.port.cores();
        match (is_watch, core == self.core) {
            (true, _) if !is_here => self.tell_terminated(by, None),
            (false, _) if !is_here => {}
            (true, true) => self.accept_watch(target, by),
            (false, true) => self.watches.remove_watcher(target, by),
            (true, false) => self.signal_between(core, Signal::Watch { target, by }),
            (false, false) => self.signal_between(core, Signal::Unwatch { target, by }),
        }
    }
}

pub(super) fn actor_target(actor: AnyActorRef) -> Target {
    Target::Actor {
        incarnation: actor.home.incarnation(),
        core: actor.core,
        cell: actor.cell.to_bits(),
    }
}
