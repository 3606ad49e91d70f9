//! Out of frames into entities: read where they lie, or as values into their mailboxes.

use super::entity_id::EntityId;
use super::entrusting::{read_whole, reading, why_unread};
use super::guard::{beginning, guarded};
use super::local::{Extra, Local, Room};
use super::model::Actor;
use super::reference::{CellRef, Receiver, shard_of};
use super::refusal::{AskError, Rejection, Uncertainty};
use super::reply::{Envelope, discard_message, dropping_as};
use super::wire_id::WireId;
use super::wire_region::{Progress, run_in_place};
use crate::base::ids::{EntityTypeId, ShardId};
use crate::wire::address::Address;
use crate::wire::frame::{FrameRef, from_archived};
use crate::wire::kind::Kind;
use crate::wire::message::{Message, WireMessage};

/// Takes a frame for an entity of a shard that this core runs.
pub(super) fn deliver<A: Actor<Msg: WireMessage>, I: WireId>(
    local: &mut Local,
    number: u16,
    shard: ShardId,
    frame: &FrameRef<'_>,
    room: Room,
) {
    if matches!(frame.kind(), Kind::Watch | Kind::Unwatch) {
        return local.take_entity_signal::<I, A::Msg>(number, shard, frame);
    }
    let archived = match frame.payload().access::<A::Msg>() {
        Ok(archived) => archived,
        Err(error) => {
            tracing::debug!(core = %local.core, %error, "a payload cannot be read");
            return local.senseless_request(frame, "a payload that cannot be read");
        }
    };
    let cell = I::with_key(frame.entity_id(), |key| {
        local.cell_for_frame::<I, A::Msg>(number, shard, key, room)
    });
    let at = match cell {
        Some(Ok(at)) => at,
        Some(Err(Rejection::Unreadable)) | None => {
            return local.senseless_request(frame, "an id that is none, or of another shard");
        }
        Some(Err(why)) => return local.refuse_frame(Some(number), frame, why),
    };
    let header = frame.header();
    let own = header.address.filter(|_| header.kind == Kind::Ask);
    if header.kind == Kind::Ask
        && (local.remote.as_ref()).is_some_and(|remote| remote.asks.borrow().is_full())
    {
        return local.refuse_frame(Some(number), frame, Rejection::TooManyAsks);
    }
    if local.may_handle_in_place(at) && handle_in_place::<A, I>(local, at, archived, frame, own) {
        return;
    }
    store::<A>(local, number, at, archived, frame, own, room);
}

/// Has an entity handle a message where it lies. Returns whether it has taken it.
fn handle_in_place<A: Actor<Msg: WireMessage>, I: EntityId>(
    local: &mut Local,
    at: CellRef,
    archived: &<A::Msg as rkyv::Archive>::Archived,
    frame: &FrameRef<'_>,
    own: Option<Address>,
) -> bool {
    let header = *frame.header();
    let Some(context) = local.reading(header.target, header.remaining, own) else {
        return false;
    };
    let target = context.target;
    let Some((cell, body)) = (local.cells.get(at)).and_then(|cell| {
        let body = cell.body.take()?;
        Some((cell, body))
    }) else {
        return false;
    };
    cell.scheduled = true;
    let kind = usize::from(cell.kind);
    let before = local.counters.handled;
    let mut progress = Progress::Untouched;
    if local.tracer.is_some() {
        local.trace_frame(at, std::any::type_name::<A>(), frame.payload().bytes());
    }
    let ((), unread) = reading(context, || {
        local.activate(at, kind, body, |body, local| {
            run_in_place::<A, I>(body, local, at, archived, &mut progress)
        });
    });
    local.time_remote_asks();
    let handled = local.counters.handled - before;
    local.arrivals = local.arrivals.saturating_sub(handled.max(1));
    local.see_how_long_arrivals_take();
    if progress == Progress::Untouched {
        return false;
    }
    if let Some(remote) = &mut local.remote {
        remote.stats.read_in_place += 1;
    }
    match (header.kind, header.address, unread) {
        (Kind::Send, Some(origin), _) => local.send_receipt(origin, target),
        // The handler has not taken the reply address out: it was dropped with the message.
        (Kind::Ask, _, Some(origin)) => {
            let why = if progress == Progress::Done {
                Uncertainty::DroppedUnanswered
            } else {
                Uncertainty::HandlerFailed
            };
            local.send_failure(origin, target, why.into());
        }
        _ => {}
    }
    true
}

/// Reads a message, and puts it into its entity's mailbox.
fn store<A: Actor<Msg: WireMessage>>(
    local: &mut Local,
    number: u16,
    at: CellRef,
    archived: &<A::Msg as rkyv::Archive>::Archived,
    frame: &FrameRef<'_>,
    own: Option<Address>,
    room: Room,
) {
    let header = *frame.header();
    let Some(context) = local.reading(header.target, header.remaining, own) else {
        return;
    };
    let (read, unread) = reading(context, || {
        guarded(|| read_whole(why_unread(), || from_archived::<A::Msg>(archived)))
    });
    local.time_remote_asks();
    let Ok(Ok(message)) = read else {
        return local.senseless_request(frame, "a message that its own type refuses");
    };
    if let Some(remote) = &mut local.remote {
        remote.stats.read_to_wait += 1;
    }
    let extra = match (header.kind, header.address) {
        (Kind::Send, Some(origin)) => {
            match local.receipt_for(origin, header.target, header.remaining) {
                Some(stored) => Some(Extra::Acknowledge(stored)),
                None => {
                    discard_message(Rejection::TooManyAsks, Envelope::Plain, message);
                    return local.refuse_frame(None, frame, Rejection::TooManyAsks);
                }
            }
        }
        (Kind::Ask, _) => Some(Extra::Ask),
        _ => None,
    };
    if let (Kind::Ask, Some(origin)) = (header.kind, unread) {
        // Its address is not in it, whatever the header says.
        local.send_failure(origin, header.target, Uncertainty::DroppedUnanswered.into());
    }
    let envelope = Extra::envelope(&extra);
    if let Err(refused) = local.store(at, message, extra, room) {
        let why = local.why_full(number, refused.why);
        local.count_refused_frame();
        let id = beginning(format_args!("{:?}", frame.entity_id()), 80);
        let receiver = Receiver::Entity(EntityTypeId(number), &id);
        local.dead_letter(receiver, why, envelope, refused.message);
    }
}

/// Drops the message in a frame that is refused; asks whose addresses it passes on end so.
pub(super) fn drop_message<M: WireMessage>(frame: FrameRef<'_>) {
    let unanswered = AskError::Unknown(Uncertainty::DroppedUnanswered);
    dropping_as(unanswered, || {
        drop(read_whole(unanswered, || {
            frame.payload().deserialize::<M>()
        }));
    });
}

impl Local {
    /// The cell of an entity of a shard that is here; it is started if need be.
    fn cell_for_frame<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        key: &I::Key,
        room: Room,
    ) -> Result<CellRef, Rejection> {
        let shards = self.region_states[usize::from(number)].hosted.len() as u32;
        if shard_of(I::stable_hash(key), shards) != shard {
            return Err(Rejection::Unreadable);
        }
        let has_room = room != Room::Bounded || self.has_room();
        let stopping = self.stopping;
        let Some(region) = self.region_mut::<I, M>(number) else {
            return Err(Rejection::Unreadable);
        };
        let started = match region.slot_of(shard, key) {
            Some(slot) => self.cells.tenant(slot),
            None if !has_room => return Err(self.why_full(number, Rejection::CoreBudget)),
            None if stopping => return Err(Rejection::ShuttingDown),
            None => {
                let hash = region.table_hash(key);
                self.start_entity::<I, M>(number, shard, key, hash)
            }
        };
        started.ok_or(Rejection::StartFailed)
    }

    /// Whether an actor may handle a message right from its frame: if nobody is before it.
    fn may_handle_in_place(&mut self, at: CellRef) -> bool {
        if self.arrivals == 0 || self.yield_wanted || self.tasks.detours.sealed {
            return false;
        }
        if self
            .tracer
            .as_ref()
            .is_some_and(|tracer| tracer.may_interfere())
        {
            return false;
        }
        if let Some(choose) = &mut self.choose
            && choose(2) == 0
        {
            return false;
        }
        let cell = self.cells.get(at);
        cell.is_some_and(|cell| {
            !cell.scheduled && cell.queue.is_empty() && !cell.has_waiting && cell.body.is_some()
        })
    }
}
