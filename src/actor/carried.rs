//! Frames that were taken out of their receive buffers: to wait for a shard, or to go to another core of this node.
//!
//! What has once waited was accepted: neither a full mailbox nor a full outbox refuses it any more.

use super::batch::Note;
use super::local::{Local, TimerEvent};
use super::outbox::OpenBatch;
use super::refusal::Rejection;
use super::remote::Reserved;
use crate::base::ids::{CoreId, EntityTypeId, Epoch, ShardId, ShardKey};
use crate::sharding::topology::Route;
use crate::wire::address::{Life, Target};
use crate::wire::frame::{FrameRef, OwnedFrame};
use crate::wire::handoff::LastMarker;
use crate::wire::kind::Kind;

/// A frame that was taken out of its receive buffer.
pub(crate) struct Carried {
    frame: OwnedFrame,
    _room: Reserved,
    /// Another core of this node has handed it on, because by what it knows the shard is on this one.
    pub(super) by_core: bool,
    /// It is on its way to the core by which its sender's own frames come, to be taken there as from the connection to this
    /// life, which has passed it on.
    pub(super) goes_home_from: Option<Life>,
    /// It has waited for its shard, here or on the core that has handed it on.
    pub(super) has_waited: bool,
}

impl Carried {
    pub(crate) fn frame(&self) -> FrameRef<'_> {
        self.frame.as_ref()
    }

    /// Whether both are one marker of one core, which has been sent again.
    pub(super) fn is_same_marker(&self, other: &Carried) -> bool {
        let (one, other) = (self.frame(), other.frame());
        let name = |frame: FrameRef<'_>| {
            let marker = LastMarker::decode(frame.payload().bytes()).ok()?;
            Some((frame.header().sender.life, marker.core, marker.token))
        };
        [one.kind(), other.kind()] == [Kind::Last; 2] && name(one) == name(other)
    }

    /// Whether it has come by the present route of its shard, whose epoch is this.
    pub(super) fn is_present(&self, present: Epoch) -> bool {
        let epoch = match self.frame().header().target {
            Target::Shard { epoch, .. } => epoch,
            Target::Node | Target::Actor { .. } => Epoch::default(),
        };
        self.by_core || epoch >= present
    }
}

/// The core of whichever node whose messages a frame is one of, or a marker goes behind.
pub(super) fn stream_of(frame: &FrameRef<'_>) -> CoreId {
    let sender = frame.header().sender.core;
    match frame.kind() {
        Kind::Last => LastMarker::decode(frame.payload().bytes()).map_or(sender, |it| it.stream),
        _ => sender,
    }
}

impl Local {
    /// Hands a frame to another core of this node.
    pub(super) fn carry(&mut self, to: CoreId, number: u16, frame: FrameRef<'_>) {
        self.carry_as(to, number, frame, None);
    }

    /// Has a frame that `by` has passed on, or a marker, be taken by the core to which its stream comes. It has come by another one
    /// where nodes have different numbers of cores; so what a core sends keeps its order, whoever has passed it on, and also
    /// if that one dies. Returns whether it has gone.
    #[cold]
    pub(super) fn bring_home(&mut self, frame: FrameRef<'_>, by: Life) -> bool {
        let cores = self.handle.gate().data_cores().max(1);
        let home = CoreId((stream_of(&frame).index() % cores) as u16);
        match self.shard_of_frame(&frame) {
            Some((shard, _)) if home != self.core => {
                self.carry_as(home, shard.entity_type.0, frame, Some(by));
                true
            }
            _ => false,
        }
    }

    fn carry_as(
        &mut self,
        to: CoreId,
        number: u16,
        frame: FrameRef<'_>,
        goes_home_from: Option<Life>,
    ) {
        // The end of a watch is not said again, and there are no more of them than watches.
        let is_full = self.outbox[to.index()].messages >= self.limits.outbox_messages
            && frame.kind() != Kind::Unwatch;
        match self.detach(&frame).filter(|_| !is_full) {
            Some(mut carried) => {
                carried.goes_home_from = goes_home_from;
                self.carry_on(to, number, carried);
            }
            None => self.refuse_frame(Some(number), &frame, Rejection::OutboxFull),
        }
    }

    /// Hands a frame that has its room to another core of this node.
    pub(super) fn carry_on(&mut self, to: CoreId, number: u16, carried: Box<Carried>) {
        if carried.frame().kind() == Kind::Watch {
            // What is said there of all watches comes before this one, which is announced again.
            self.release_detained();
            if self.room_towards(to).is_err() {
                return self.refuse_frame(Some(number), &carried.frame(), Rejection::OutboxFull);
            }
        }
        if let Some(remote) = &mut self.remote {
            remote.stats.carried += 1;
        }
        let note = Note::Frame(carried);
        let target = &mut self.outbox[to.index()];
        target.messages += 1;
        let (length, opened) = self.regions[usize::from(number)].note(number, to, note);
        if opened {
            target.open.push(OpenBatch::Region(number));
        }
        if length >= self.limits.batch_messages {
            self.seal(to, OpenBatch::Region(number));
        }
    }

    fn detach(&mut self, frame: &FrameRef<'_>) -> Option<Box<Carried>> {
        let remote = self.remote.as_mut()?;
        let room = remote.reserve(frame.bytes().len())?;
        let frame = frame.detach();
        remote.stats.copied_in += frame.copied_bytes() as u64;
        Some(Box::new(Carried {
            frame,
            _room: room,
            by_core: false,
            goes_home_from: None,
            has_waited: false,
        }))
    }

    /// Keeps a frame until its shard has arrived, its owner is known, or there is room in the link to that. Returns whether
    /// there was room for it here; otherwise it is refused.
    pub(super) fn hold_frame(
        &mut self,
        number: u16,
        shard: ShardId,
        frame: FrameRef<'_>,
        full: Rejection,
    ) -> bool {
        let is_held = match self.detach(&frame) {
            Some(carried) => self.hold_carried(number, shard, carried, full),
            None => {
                self.refuse_frame(Some(number), &frame, full);
                false
            }
        };
        if frame.kind() != Kind::Last {
            self.want(number, shard);
        }
        is_held
    }

    /// The same for one that has its room. One that has been accepted before is not refused.
    pub(super) fn hold_carried(
        &mut self,
        number: u16,
        shard: ShardId,
        carried: Box<Carried>,
        full: Rejection,
    ) -> bool {
        let waiting = self.regions[usize::from(number)].held_of(shard);
        let was_accepted =
            carried.by_core || carried.has_waited || carried.frame().kind() == Kind::Unwatch;
        if waiting >= self.limits.held_messages && !was_accepted {
            self.refuse_frame(Some(number), &carried.frame(), full);
            return false;
        }
        let behind = self.remote.as_ref().map(|remote| &remote.behind);
        let has_time = behind.is_some_and(|behind| behind.contains_key(&(number, shard)));
        if full == Rejection::Misrouted && (waiting == 0 || !has_time) {
            self.wait_for_news(number, shard);
        }
        self.keep_waiting(number, shard, carried);
        true
    }

    /// What waits from now on has its time, whatever has waited before.
    fn wait_for_news(&mut self, number: u16, shard: ShardId) {
        let due = self.now + self.limits.ask_timeout;
        let region = number;
        let timer = self
            .timers
            .insert(due, TimerEvent::Behind { region, shard });
        if let Some(remote) = &mut self.remote
            && let Some(before) = remote.behind.insert((number, shard), timer)
        {
            self.timers.cancel(before);
        }
    }

    /// Has a frame wait that has its room.
    pub(super) fn keep_waiting(&mut self, number: u16, shard: ShardId, mut carried: Box<Carried>) {
        carried.has_waited = true;
        self.regions[usize::from(number)].hold_frame(shard, carried);
    }

    /// Whoever sent the frames that wait for a shard of another node knew more than this core, or lied; it has had time to
    /// learn what that was.
    pub(crate) fn stays_behind(&mut self, number: u16, shard: ShardId) {
        let key = ShardKey {
            entity_type: EntityTypeId(number),
            shard,
        };
        if let Some(remote) = &mut self.remote {
            remote.behind.remove(&(number, shard));
        }
        let is_away = matches!(
            self.regions[usize::from(number)].route_of(shard),
            Some(Route::Away(_))
        );
        // One that is about to be its owner learns of it in the end.
        if is_away && !self.topology.comes_here(key) {
            let reject = self.region_states[usize::from(number)].ops.reject_held;
            reject(self, number, Some(shard), Rejection::Misrouted);
        }
    }
}
