//! Messages between nodes: into frames for entities elsewhere, and out of frames for entities here.
//!
//! A frame comes to some core. If its shard is here, the message is read where it lies and handled at once, unless the
//! entity has something before it: then it waits as a value in the entity's mailbox, behind that. If its shard is on another
//! core of this node, the frame goes there as a pointer, in order with all that this core sends there. If another node owns
//! the shard, the frame is passed on to it, and its sender is told.
//!
//! A frame is passed on only by a node that knows of a later epoch of the shard than whoever sent it, and goes on under that
//! one. So it comes from one node to the next with ever higher epochs, and never round in a circle; a node that knows less
//! than the sender holds it until it knows as much.

use super::carried::{Carried, stream_of};
use super::delivery::refuse;
use super::entity_id::EntityId;
use super::entrusting::{archiving, noted, reading};
use super::guard::guarded;
use super::link::Waiting;
use super::local::{Extra, Local, Room};
use super::lost::on_the_way_of;
use super::mutant::Mutant;
use super::reference::Receiver;
use super::refusal::{AskError, Refused, Rejection};
use super::region::Sender;
use super::remote::time_left;
use super::wire_id::MAX_ID_BYTES;
use super::wire_region::WriteMessage;
use crate::base::ids::{CoreId, EntityTypeId, Epoch, NodeId, ShardId, ShardKey};
use crate::sharding::topology::Route;
use crate::wire::address::{Address, Life, Target};
use crate::wire::error::WriteError;
use crate::wire::flags::Flags;
use crate::wire::frame::FrameRef;
use crate::wire::header::Header;
use crate::wire::kind::Kind;
use crate::wire::message::Message;

/// Where a message goes that leaves its node.
pub(super) struct Away {
    pub(super) node: NodeId,
    /// The only life of the node for which it is.
    pub(super) life: Option<Life>,
    pub(super) target: Target,
    /// The entity type here, if it is for an entity.
    pub(super) region: Option<u16>,
}

/// A message that was not written into a frame.
pub(super) struct Unsent<M> {
    why: Rejection,
    message: M,
    extra: Option<Extra>,
}

impl<M> Unsent<M> {
    /// Gives it up.
    pub(super) fn refuse(self) -> Refused<M> {
        refuse(self.why, self.message, self.extra)
    }
}

#[cold]
fn unsent<M>(why: Rejection, message: M, extra: Option<Extra>) -> Result<(), Unsent<M>> {
    Err(Unsent {
        why,
        message,
        extra,
    })
}

/// What becomes of a message for an entity that has come in a frame.
enum Placing {
    /// Its shard is here.
    Here,
    /// Its shard is on that core.
    OnCore(CoreId),
    /// It waits. If there is no room for that it is refused so.
    Waits(Rejection),
    /// Its shard is on that node, which it reaches under this epoch.
    Away(NodeId, Epoch),
    /// It is refused.
    Refused(Rejection),
    /// It is no longer of use: whoever waits for something of it hears so.
    Ended(Rejection),
}

impl Local {
    /// Sends a message to an entity whose shard another node owns.
    #[cold]
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "the parts of one envelope")]
    pub(super) fn send_away<I: EntityId, M: Message>(
        &mut self,
        node: NodeId,
        number: u16,
        shard: ShardId,
        key: &I::Key,
        message: M,
        extra: Option<Extra>,
        sender: Sender,
    ) -> Result<(), Refused<M>> {
        let ops = self.region_mut::<I, M>(number).and_then(|it| it.wire);
        let target = self.target_of(number, shard);
        let (Some(ops), Some(target), Some(remote)) = (ops, target, &mut self.remote) else {
            return Err(refuse(Rejection::NotAcrossNodes, message, extra));
        };
        let mut id = std::mem::take(&mut remote.id);
        id.clear();
        on_the_way_of::<M, _>(|| (ops.write_id)(key, &mut id));
        let away = Away {
            node,
            life: None,
            target,
            region: Some(number),
        };
        let sent = self.write_away(away, &id, ops.write, message, extra, sender);
        if let Some(remote) = &mut self.remote {
            remote.id = id;
        }
        match sent {
            Err(unsent) if unsent.why == Rejection::LinkFull && sender == Sender::Accepted => {
                // It is larger than what is left, and waits for more.
                self.wait_for_room(number, shard);
                if let Some(remote) = &mut self.remote {
                    remote.crowded.insert(node);
                }
                let Unsent { message, extra, .. } = unsent;
                self.hold::<I, M>(number, shard, key, message, extra, sender)
            }
            sent => {
                if sent.is_ok() {
                    self.region_states[usize::from(number)]
                        .sent_away
                        .note_own(shard);
                }
                sent.map_err(Unsent::refuse)
            }
        }
    }

    /// Has a message wait for a node in a frame.
    pub(super) fn write_away<M: Message>(
        &mut self,
        away: Away,
        id: &[u8],
        write: WriteMessage<M>,
        message: M,
        extra: Option<Extra>,
        sender: Sender,
    ) -> Result<(), Unsent<M>> {
        let Away {
            node,
            life: wanted,
            target,
            region,
        } = away;
        let header = self.header(Kind::Tell, target);
        let Some((runtime, life)) = self.identity() else {
            return unsent(Rejection::NotAcrossNodes, message, extra);
        };
        let receipt = match &extra {
            Some(Extra::Acknowledge(stored)) => Some(stored.address()),
            _ => None,
        };
        if let Some(receipt) = receipt {
            // It may get lost over there, of which nobody hears; the other node has no more time to place the message.
            let patience = self.limits.ask_timeout.saturating_mul(2);
            self.end_ask_by(receipt, self.now + patience);
        }
        let Some(remote) = &mut self.remote else {
            return unsent(Rejection::NotAcrossNodes, message, extra);
        };
        let bounds = remote.bounds;
        let refused = match remote.links.get(&node) {
            None => Some(Rejection::LinkLost),
            Some(link) if wanted.is_some_and(|wanted| wanted != link.life) => {
                Some(Rejection::OldIncarnation)
            }
            Some(link)
                if sender == Sender::Call
                    && (!link.has_room(&bounds) || remote.crowded.contains(&node)) =>
            {
                Some(Rejection::LinkFull)
            }
            Some(_) if id.len() > MAX_ID_BYTES => Some(Rejection::TooLarge),
            Some(_) => None,
        };
        let (Some(link), None) = (remote.links.get_mut(&node), refused) else {
            let why = refused.unwrap_or(Rejection::LinkLost);
            return unsent(why, message, extra);
        };
        let is_ask = matches!(extra, Some(Extra::Ask));
        let mut own = receipt;
        let (me, now, tables, timers) = (self.core, self.now, &self.ask_tables, &self.timers);
        let mut adapt = |header: &mut Header| {
            let kind = match (receipt, is_ask, noted()) {
                (Some(_), _, _) => Kind::Send,
                (None, true, (1, Some(ask))) => {
                    own = Some(ask);
                    Kind::Ask
                }
                // One of several could be anybody's, so none is known to be the ask's own.
                _ => return,
            };
            header.kind = kind;
            header.address = own.map(|ask| ask.on_wire(life));
            let here = own.filter(|ask| ask.core() == me);
            header.remaining = here.and_then(|ask| time_left(tables, timers, now, ask));
        };
        let writer = &mut link.writer;
        // What a panic of the message's code leaves behind in the writer goes with the next frame.
        let (written, noted) = archiving(runtime, life, || {
            guarded(|| write(writer, &header, id, &message, &mut adapt))
        });
        let why = match written {
            Ok(Ok(length)) => {
                if let Some(Extra::Acknowledge(stored)) = extra {
                    self.entrust(node, &[stored.address()]);
                    Local::hand_over_receipt(stored);
                }
                let what = own.map_or(Waiting::Tell(region), |ask| Waiting::Ask(region, ask));
                self.has_gone(node, length, what, noted, message);
                return Ok(());
            }
            Ok(Err(WriteError::Full { .. })) => Rejection::LinkFull,
            Ok(Err(WriteError::TooLarge { .. })) => Rejection::TooLarge,
            Ok(Err(why)) => {
                let message = std::any::type_name::<M>();
                tracing::error!(core = %self.core, message, %why, "a message was not archived");
                Rejection::NotArchived
            }
            Err(panic) => {
                let message = std::any::type_name::<M>();
                tracing::error!(core = %self.core, message, panic, "archiving a message panicked");
                Rejection::NotArchived
            }
        };
        unsent(why, message, extra)
    }

    /// How frames name a shard of this node's type.
    pub(super) fn target_of(&self, number: u16, shard: ShardId) -> Option<Target> {
        let here = EntityTypeId(number);
        let entity_type = self.topology.number_in_cluster(here)?;
        let owner = self.topology.owner(ShardKey {
            entity_type: here,
            shard,
        })?;
        Some(Target::Shard {
            key: ShardKey { entity_type, shard },
            epoch: owner.epoch,
        })
    }

    /// Takes a frame that has come over a connection to this life of a node.
    pub(crate) fn take_frame(&mut self, frame: &FrameRef<'_>, by: Life) {
        if let Some(remote) = &mut self.remote {
            remote.stats.frames_in += 1;
            remote.stats.bytes_in += frame.bytes().len() as u64;
        }
        match frame.kind() {
            Kind::Tell | Kind::Send | Kind::Ask => match frame.header().target {
                Target::Shard { .. } => self.take_request(frame, by),
                Target::Actor {
                    incarnation,
                    core,
                    cell,
                } => self.take_for_actor(*frame, incarnation, core, cell),
                Target::Node => self.senseless(frame, "a message to nobody"),
            },
            Kind::Reply | Kind::Stored | Kind::Failure => self.take_answer(*frame),
            Kind::Moved => {
                if let Some(remote) = &mut self.remote {
                    remote.stats.moved_notices += 1;
                }
            }
            Kind::Last => self.take_last(*frame, by),
            Kind::Shipment => self.take_shipment(*frame),
            Kind::Credit | Kind::Ping | Kind::Pong | Kind::Bye => {}
            Kind::Watch | Kind::Unwatch | Kind::Terminated | Kind::Rewatch | Kind::Forget => {
                self.take_watch_frame(*frame, by);
            }
            Kind::Stop => self.take_stop(frame),
            Kind::Find => self.take_find(frame),
            Kind::Found => self.take_found(frame),
            _ => self.senseless(frame, "a kind of frame that is not in use"),
        }
    }

    /// Takes a message for an entity straight from a connection.
    pub(crate) fn take_request(&mut self, frame: &FrameRef<'_>, by: Life) {
        let was_passed_on =
            frame.header().flags.contains(Flags::FORWARDED) || frame.kind() == Kind::Last;
        if was_passed_on && self.bring_home(*frame, by) || self.is_stale_watch(frame) {
            return;
        }
        let Some((number, key, placing)) = self.place(frame, false) else {
            return;
        };
        match placing {
            Placing::Here => self.deliver_frame(number, key.shard, frame, Room::Bounded),
            Placing::OnCore(core) => self.carry(core, number, *frame),
            Placing::Waits(full) => _ = self.hold_frame(number, key.shard, *frame, full),
            Placing::Away(node, epoch) => {
                if !self.pass_on(node, number, key, epoch, frame)
                    && self.hold_frame(number, key.shard, *frame, Rejection::LinkFull)
                {
                    self.wait_for_room(number, key.shard);
                }
            }
            Placing::Refused(why) => self.refuse_frame(Some(number), frame, why),
            Placing::Ended(why) => self.end_frame(frame, why.into()),
        }
    }

    /// Takes a message for an entity that another core has handed on, or that has waited for its shard.
    pub(super) fn take_carried_request(&mut self, carried: Box<Carried>) {
        let frame = carried.frame();
        if !carried.by_core && self.is_stale_watch(&frame) {
            return;
        }
        let Some((number, key, placing)) = self.place(&frame, carried.by_core) else {
            return;
        };
        match placing {
            Placing::Here => {
                let room = match carried.has_waited {
                    true => Room::Reserved,
                    false => Room::Bounded,
                };
                self.deliver_frame(number, key.shard, &frame, room);
            }
            Placing::OnCore(core) => self.carry_on(core, number, carried),
            Placing::Waits(full) => {
                let is_marker = frame.kind() == Kind::Last;
                self.hold_carried(number, key.shard, carried, full);
                if !is_marker {
                    self.want(number, key.shard);
                }
            }
            Placing::Away(node, epoch) => {
                if !self.pass_on(node, number, key, epoch, &frame) {
                    self.keep_waiting(number, key.shard, carried);
                    self.wait_for_room(number, key.shard);
                }
            }
            Placing::Refused(why) => self.refuse_frame(Some(number), &frame, why),
            Placing::Ended(why) => self.end_frame(&frame, why.into()),
        }
    }

    /// Where a message for an entity goes: the number of its type here, and its shard as the cluster knows it. `None` if it
    /// has been dropped.
    #[inline]
    fn place(&mut self, frame: &FrameRef<'_>, by_core: bool) -> Option<(u16, ShardKey, Placing)> {
        let header = *frame.header();
        let Target::Shard { key, epoch } = header.target else {
            return None;
        };
        let Some(here) = self.topology.type_of_number(key.entity_type) else {
            self.senseless_request(frame, "an entity type that this node does not know");
            return None;
        };
        let (number, shard) = (here.0, key.shard);
        let of_node = ShardKey {
            entity_type: here,
            shard,
        };
        let Some(owner) = self.topology.owner(of_node) else {
            self.senseless_request(frame, "a shard that the entity type does not have");
            return None;
        };
        let ignores_epoch = self.mutant == Some(Mutant::IgnoresEpoch);
        let me = self.core;
        let is_hosted = self.region_states[usize::from(number)].hosted[shard.index()];
        let placing = match self.regions[usize::from(number)].route_of(shard) {
            _ if header.flags.contains(Flags::EPOCH_FENCE) && epoch < owner.fence => {
                Placing::Refused(Rejection::Fenced)
            }
            _ if by_core && is_hosted => Placing::Here,
            // The other core has heard sooner than this one that the shard is here.
            _ if by_core && self.topology.comes_here(of_node) => Placing::Waits(Rejection::Moving),
            // What this core itself sends waits until the past owner is flushed; what has come by the present route does not,
            // and the marker that is waited for is among it.
            Some(Route::Hold)
                if (epoch >= owner.epoch || ignores_epoch)
                    && let Some(Route::To(core)) = self.topology.route(of_node) =>
            {
                match core == me {
                    true if is_hosted => Placing::Here,
                    true => Placing::Waits(Rejection::Moving),
                    false => Placing::OnCore(core),
                }
            }
            Some(Route::To(core)) if core == me => Placing::Here,
            Some(Route::To(core)) => Placing::OnCore(core),
            // The shard is to leave when this node's own markers are back: they do not wait for that.
            Some(Route::Hold)
                if self.is_own_marker(&header)
                    && epoch >= owner.epoch
                    && let Some(core) = self.host_of(of_node) =>
            {
                match core == me {
                    true if is_hosted => Placing::Here,
                    true => Placing::Waits(Rejection::Moving),
                    false => Placing::OnCore(core),
                }
            }
            Some(Route::Hold | Route::Unallocated) if self.is_over() => {
                Placing::Refused(Rejection::Fenced)
            }
            Some(Route::Hold) => Placing::Waits(Rejection::Moving),
            Some(Route::Unallocated) => Placing::Waits(Rejection::Unallocated),
            Some(Route::Away(node)) if ignores_epoch => Placing::Away(node, owner.epoch),
            // Whoever sent it knows more than this core.
            Some(Route::Away(_)) if epoch > owner.epoch => Placing::Waits(Rejection::Misrouted),
            // Whoever watches announces it to the owner itself.
            Some(Route::Away(_)) if header.kind == Kind::Watch => {
                Placing::Ended(Rejection::Misrouted)
            }
            Some(Route::Away(node)) if epoch < owner.epoch => Placing::Away(node, owner.epoch),
            Some(Route::Away(_)) | None => Placing::Refused(Rejection::Misrouted),
        };
        Some((number, key, placing))
    }

    /// Has the entity of a frame take it. Code of its id may panic, which is the end of this frame only.
    fn deliver_frame(&mut self, number: u16, shard: ShardId, frame: &FrameRef<'_>, room: Room) {
        if frame.kind() == Kind::Last {
            return self.marker_arrived(number, shard, *frame);
        }
        let Some(deliver) = self.region_states[usize::from(number)].ops.deliver else {
            return self.senseless_request(frame, "an entity type that does not travel");
        };
        if let Err(panic) = guarded(|| deliver(self, number, shard, frame, room)) {
            self.region_fault(number, &panic);
            self.refuse_frame(Some(number), frame, Rejection::StartFailed);
        }
    }

    /// Passes a frame on to the node that owns its shard by now, and tells its sender. Returns whether there was room for it
    /// in the link; if there was none nothing has changed.
    fn pass_on(
        &mut self,
        node: NodeId,
        number: u16,
        key: ShardKey,
        epoch: Epoch,
        frame: &FrameRef<'_>,
    ) -> bool {
        if !self.may_send_to(node) {
            return false;
        }
        let header = Header {
            flags: frame.header().flags.with(Flags::FORWARDED, true),
            target: Target::Shard { key, epoch },
            ..*frame.header()
        };
        let core = self.core;
        let Some(remote) = &mut self.remote else {
            return true;
        };
        let link = remote.links.get_mut(&node);
        let passed = link.map(|link| (link.life, link.writer.forward(&header, frame)));
        let (owner, length) = match passed {
            Some((owner, Ok(length))) => (owner, length),
            Some((_, Err(WriteError::Full { .. }))) => {
                // It is larger than what is left, and waits for more; so does what comes after it.
                remote.crowded.insert(node);
                return false;
            }
            Some((_, Err(_))) => {
                self.refuse_frame(Some(number), frame, Rejection::TooLarge);
                return true;
            }
            None => {
                self.refuse_frame(Some(number), frame, Rejection::LinkLost);
                return true;
            }
        };
        let is_marker = header.kind == Kind::Last;
        remote.stats.forwarded += u64::from(!is_marker);
        remote.stats.copied_out += frame.payload().bytes().len() as u64;
        remote.crowded.remove(&node);
        if let Some(link) = remote.links.get_mut(&node) {
            link.wrote(length, Waiting::Forwarded);
        }
        let sent_away = &mut self.region_states[usize::from(number)].sent_away;
        match stream_of(frame) {
            own if own == core => sent_away.note_own(key.shard),
            other => sent_away.note_passed_on(key.shard, other),
        }
        self.count_written(length);
        let told = (header.sender.life.node, key);
        if let Some(remote) = &mut self.remote
            && !is_marker
            && remote.last_moved.replace(told) != Some(told)
        {
            let moved = Header {
                address: Some(Address {
                    life: owner,
                    core,
                    table: 0,
                    place: 0,
                }),
                ..self.header(Kind::Moved, Target::Shard { key, epoch })
            };
            self.send_notice(told.0, &moved);
        }
        true
    }

    /// Refuses a frame that makes sense: its message is a dead letter.
    pub(super) fn refuse_frame(
        &mut self,
        number: Option<u16>,
        frame: &FrameRef<'_>,
        why: Rejection,
    ) {
        if !frame.kind().is_message() {
            return self.end_frame(frame, why.into());
        }
        self.count_refused_frame();
        let name = match number {
            Some(number) => self.region_states[usize::from(number)].message,
            None => "a message of another node",
        };
        self.note_dead_letter(Receiver::Unknown, why, name);
        // A handler has seen the addresses that a message passes on, and the asks end so that nobody waits for them.
        if frame.kind() != Kind::Ask
            && let Some(number) = number
            && let Some(drop_message) = self.region_states[usize::from(number)].ops.drop_message
            && let Some(context) = self.reading(frame.header().target, None, None)
        {
            let _ = guarded(|| reading(context, || drop_message(*frame)));
        }
        self.end_frame(frame, why.into());
    }

    /// Tells whoever waits for something of a frame how that has ended.
    pub(super) fn end_frame(&mut self, frame: &FrameRef<'_>, why: AskError) {
        if let (Kind::Watch, Some(watcher)) = (frame.kind(), frame.header().address) {
            self.bounce_watch(watcher);
        }
        if frame.kind() == Kind::Unwatch {
            self.unwatch_refused(frame, why);
        }
        if let (Kind::Ask | Kind::Send, Some(origin)) = (frame.kind(), frame.header().address) {
            self.send_failure(origin, frame.header().target, why);
        }
    }

    /// Drops a frame in which nobody can see sense. The connection goes on.
    #[cold]
    pub(super) fn senseless(&mut self, frame: &FrameRef<'_>, what: &'static str) {
        self.count_refused_frame();
        let from = frame.header().sender.life.node;
        let Some(remote) = &mut self.remote else {
            return;
        };
        remote.stats.senseless += 1;
        if remote.is_news(from, what) {
            tracing::warn!(core = %self.core, %from, kind = %frame.kind(), what, "a frame was dropped; it is said once");
        }
    }

    /// Refuses a message in which nobody can see sense.
    #[cold]
    pub(super) fn senseless_request(&mut self, frame: &FrameRef<'_>, what: &'static str) {
        self.senseless(frame, what);
        let name = "a message of another node";
        self.note_dead_letter(Receiver::Unknown, Rejection::Unreadable, name);
        self.end_frame(frame, Rejection::Unreadable.into());
    }

    pub(super) fn count_refused_frame(&mut self) {
        if let Some(remote) = &mut self.remote {
            remote.stats.refused += 1;
        }
    }

    /// A message waits for a shard that may have no owner: the coordination core is to know.
    #[cold]
    #[inline(never)]
    pub(crate) fn want(&mut self, number: u16, shard: ShardId) {
        let key = ShardKey {
            entity_type: EntityTypeId(number),
            shard,
        };
        let is_unowned = self
            .topology
            .owner(key)
            .is_some_and(|it| it.owner.is_none());
        if is_unowned
            && let Some(remote) = &mut self.remote
            && remote.reported.insert(key)
        {
            remote.wanted.push(key);
        }
    }
}
