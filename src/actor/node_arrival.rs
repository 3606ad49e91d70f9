//! A shard that has come from another node: what was bytes becomes entities, timers and messages, in order.
//!
//! This happens when the log has given the shard to this node, and not before: until then nothing of it runs, ends or
//! answers anything here.

use super::entity::{Packed, Stage};
use super::entity_id::EntityId;
use super::entrusting::{read_whole, reading, why_unread};
use super::freight::{Record, aligned};
use super::guard::guarded;
use super::local::Local;
use super::model::Actor;
use super::named_timers::{NamedTimer, TimerName};
use super::reference::{CellRef, shard_of};
use super::refusal::Uncertainty;
use super::reply::Envelope;
use super::timers::tick_once;
use super::wire_id::WireId;
use crate::base::ids::ShardId;
use crate::base::time::Time;
use crate::wire::frame::{FrameRef, from_archived};
use crate::wire::kind::{Kind, Plane};
use crate::wire::limits::FrameLimits;
use crate::wire::message::WireMessage;

/// Puts a shard that has come in these bytes at that time into place.
pub(super) fn open<A: Actor<Msg: WireMessage>, I: WireId>(
    local: &mut Local,
    number: u16,
    shard: ShardId,
    bytes: &[u8],
    since: Time,
) {
    let mut rest = bytes;
    let mut entity: Option<(I, Option<CellRef>)> = None;
    local.settling.begin_anew();
    while !rest.is_empty() {
        let Some(record) = Record::take(&mut rest) else {
            tracing::error!(core = %local.core, entity_type = local.region_states[usize::from(number)].name, %shard, "a shard has come in bytes that make no sense from some point on: what is behind it is lost");
            return;
        };
        // Code of ids and messages may panic, which is the end of this record only.
        let done = guarded(|| match record {
            Record::Entity {
                id,
                has_begun,
                view,
            } => {
                let stage = if has_begun {
                    Stage::Started
                } else {
                    Stage::New
                };
                let id = I::with_key(id, |key| local.own_id::<I>(number, shard, key));
                entity = id.flatten().map(|id| {
                    let state = Packed::View(aligned(view), stage);
                    let at = local.unpack_entity::<I, A::Msg>(number, shard, id.clone(), state);
                    (id, at)
                });
            }
            Record::Fresh { id } => {
                let id = I::with_key(id, |key| local.own_id::<I>(number, shard, key));
                entity = id.flatten().map(|id| (id, None));
            }
            Record::Timer {
                text,
                number: of_name,
                left,
                message,
            } => {
                let at = entity.as_ref().and_then(|(_, at)| *at);
                let name = TimerName::from_parts(text, of_name);
                if let (Some(at), Some(name)) = (at, name)
                    && let Some((message, _)) = local.read_shipped::<A::Msg>(message)
                {
                    let timer = NamedTimer {
                        name,
                        deadline: since + left,
                        every: None,
                        purpose: tick_once(message),
                    };
                    if local.named_timers.find(at, name).is_none() {
                        local.named_timers.start(&mut local.timers, at, timer);
                    }
                } else {
                    tracing::error!(core = %local.core, timer = text, "a timer has not survived the move of its entity");
                }
            }
            Record::Message(message) => {
                if let Some((message, envelope)) = local.read_shipped::<A::Msg>(message)
                    && let Some((id, at)) = &entity
                {
                    local.put_mail_back::<I, A::Msg>(number, shard, id, *at, message, envelope);
                }
            }
            Record::Stop => {
                if let Some((_, Some(at))) = entity {
                    local.stop_in_order::<A::Msg>(at);
                }
            }
        });
        if let Err(panic) = done {
            local.region_fault(number, &panic);
        }
    }
}

impl Local {
    /// An id that has come from another node, if it is one of this shard.
    fn own_id<I: EntityId>(&self, number: u16, shard: ShardId, key: &I::Key) -> Option<I> {
        let shards = self.region_states[usize::from(number)].hosted.len() as u32;
        (shard_of(I::stable_hash(key), shards) == shard).then(|| I::from_key(key))
    }

    /// Reads a message that came with a shard.
    fn read_shipped<M: WireMessage>(&mut self, bytes: &[u8]) -> Option<(M, Envelope)> {
        let bytes = aligned(bytes);
        let read = FrameRef::parse(&bytes, Plane::Data, FrameLimits::MOST);
        let (frame, archived) = match read.and_then(|it| Ok((it, it.payload().access::<M>()?))) {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(core = %self.core, %error, "a message that came with a shard cannot be read");
                return None;
            }
        };
        let header = *frame.header();
        let own = header.address.filter(|_| header.kind == Kind::Ask);
        let context = self.reading(header.target, header.remaining, own)?;
        let (read, unread) = reading(context, || {
            guarded(|| read_whole(why_unread(), || from_archived::<M>(archived)))
        });
        self.time_remote_asks();
        if let (Kind::Ask, Some(origin)) = (header.kind, unread) {
            let why = Uncertainty::DroppedUnanswered;
            self.send_failure(origin, header.target, why.into());
        }
        let Ok(Ok(message)) = read else {
            self.senseless(&frame, "a message of a shard that its own type refuses");
            return None;
        };
        let envelope = match header.kind {
            Kind::Ask => Envelope::Ask,
            _ => Envelope::Plain,
        };
        Some((message, envelope))
    }
}
