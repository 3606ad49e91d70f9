//! Watches between nodes: what this node says of them. What comes of others is in `watch_frames`. What has to be remembered for them, and why that is enough, is said in
//! [`FarWatches`](super::far_watches::FarWatches).

use super::ending::StopCause;
use super::entity_watch::EntitySignal;
use super::far_watches::{Due, Owed, Placed, RETRY, There};
use super::guard::guarded;
use super::link::Waiting;
use super::local::{Local, TimerEvent};
use super::reason_codes::reason_of_end;
use super::reference::{AnyActorRef, Home};
use super::refusal::Rejection;
use super::signals::Signal;
use super::watches::{Target as Watched, WatchId};
use crate::base::ids::{CoreId, EntityTypeId, Incarnation, NodeId, ShardId, ShardKey};
use crate::base::time::Time;
use crate::wire::address::{Address, Life, Target};
use crate::wire::error::WriteError;
use crate::wire::header::Header;
use crate::wire::kind::Kind;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What has come from another node has found its way between the cores after this time, or a core is stuck.
const LONGEST_WAY: Duration = Duration::from_secs(1);

/// How this node stands to a life of a node.
enum Standing {
    Member,
    /// It is over.
    Over,
    /// It may become a member, or this node has to become one itself to know.
    Unknown,
    /// This node knows no others, or it is one of its own.
    Alien,
}

pub(super) fn life_of(home: Home) -> Life {
    Life::new(home.node(), home.incarnation())
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

    /// Whether a life of another node is a member.
    pub(super) fn knows_member(&self, life: Life) -> bool {
        matches!(self.standing_of(life), Standing::Member)
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
            _ if self.is_member() && self.watches.far.was_member(life) => Standing::Over,
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

    /// Tells a watcher's core that its watch was not taken.
    pub(super) fn bounce(&mut self, by: WatchId) {
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
        if self.has_link(watcher.life) {
            self.watches.far.has_watcher(watcher.life);
            let header = Header {
                address: Some(watcher),
                ..self.header(Kind::Rewatch, Target::Node)
            };
            self.write_for_watch(watcher.life, &header, &[]);
        }
    }

    fn has_link(&mut self, life: Life) -> bool {
        let remote = self.remote.as_mut();
        remote.is_some_and(|remote| remote.link(life.node, Some(life)).is_some())
    }

    /// Writes a frame of a watch. If it finds no room, it counts as one that was lost. Returns whether it makes sense to
    /// write such a frame at all.
    fn write_for_watch(&mut self, life: Life, header: &Header, id: &[u8]) -> bool {
        let link = (self.remote.as_mut()).and_then(|it| it.link(life.node, Some(life)));
        let written = link.map(|link| {
            let length = link.writer.write_bytes(header, id, &[])?;
            link.wrote(length, Waiting::Watch(life));
            Ok(length)
        });
        match written {
            Some(Ok(length)) => self.count_written(length),
            Some(Err(WriteError::Full { .. })) | None => {
                self.watches.far.broken(life);
                self.see_to_watches_later();
            }
            Some(Err(why)) => {
                let kind = header.kind;
                tracing::error!(core = %self.core, %kind, %why, "a frame about a watch cannot be written");
                return false;
            }
        }
        true
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
        let place = self.watched_place(number);
        let is_sound =
            place.is_some_and(|it| self.write_place(Kind::Watch, number, life, round, it));
        if !is_sound {
            tracing::error!(core = %self.core, "the id of an entity that is watched cannot be written");
            self.terminated(number, None);
        }
    }

    fn write_place(
        &mut self,
        kind: Kind,
        number: u64,
        life: Life,
        round: u16,
        (target, id): (Target, Vec<u8>),
    ) -> bool {
        let header = Header {
            address: Some(Address {
                life: self.wire_life(),
                core: self.core,
                table: round,
                place: number,
            }),
            ..self.header(kind, target)
        };
        self.write_for_watch(life, &header, &id)
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

    /// Tells a watcher on another node that its target has come to its end.
    #[cold]
    pub(super) fn tell_terminated_far(&mut self, by: WatchId, cause: Option<StopCause>) {
        let life = by.life;
        let owed = Owed {
            core: by.core,
            number: by.number,
            cause,
        };
        if !self.has_link(life) {
            // Who is no member any more has no watches, and who is none yet announces them again.
            if !self.watches.far.was_member(life) {
                self.watches.far.has_dropped(life);
            }
            return;
        }
        self.watches.far.has_watcher(life);
        if self.has_room_for_watches(life) && self.watches.far.owes_nothing(life) {
            self.write_terminated(life, owed);
        } else {
            let most = self.limits.watches;
            self.watches.far.owe(life, owed, self.core, most);
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
        let mut any = self.release_detained();
        if self.watches.far.is_quiet() {
            return any;
        }
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
                life: self.wire_life(),
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
        for (number, since) in self.watches.far.late(self.now) {
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
                if is_unknown && !self.is_member() {
                    return self.wait_for_life(number);
                }
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
        if announced.is_some() && !self.is_member() {
            // Where it was announced tells later whether its owner has died.
            return self.wait_for_life(number);
        }
        self.watches.far.withdraw(number);
        let announced = announce.and_then(|announce| guarded(|| announce(self)));
        if let Err(panic) = announced {
            tracing::error!(core = %self.core, panic, "the id of an entity that is watched panicked");
            self.terminated(number, None);
        }
    }

    fn wait_for_life(&mut self, number: u64) {
        self.watches.far.wait_for_life(number, self.now);
        self.see_to_watches_later();
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
        let is_member = self.is_member();
        let gone = self.watches.far.meet(members, is_member, self.now);
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
}

pub(super) fn actor_target(actor: AnyActorRef) -> Target {
    Target::Actor {
        incarnation: actor.home.incarnation(),
        core: actor.core,
        cell: actor.cell.to_bits(),
    }
}
