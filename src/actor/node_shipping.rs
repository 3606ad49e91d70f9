//! A shard that leaves its node: what is taken out of its entities, and how that becomes bytes.
//!
//! The shard is sealed while this happens. Mailboxes are taken out, and with them lie here the ids of those that they were
//! for; captured entities stay in their cells. So whichever way the log decides, nothing is lost: if the shard stays,
//! mailboxes are put back; if it has gone, entities and messages are dropped without anybody hearing of it, for they go on
//! elsewhere.
//!
//! What moves: the captured view, messages in order, and timers that tick once. What is made by code of this node does not:
//! timers that tick again and again, what an entity watches and its subscriptions end here. Its `pre_start`, which runs
//! again where it arrives, starts them again. Whoever watches an entity finds it where it is now. Ephemeral entities stop
//! here, with their hook, before anything is shipped; if the shard stays after all, they start afresh here.

use super::cell::EntityPlace;
use super::ending::StopCause;
use super::entity::Stage;
use super::entity_id::EntityId;
use super::entrusting::{archiving_through, drop_handed_over, noted};
use super::freight::Record;
use super::guard::{drop_all_guarded, drop_guarded, guarded, shown};
use super::local::{Extra, Local, Room};
use super::mailbox::Mail;
use super::model::Actor;
use super::node_arrival::open;
use super::reference::{CellRef, Receiver};
use super::refusal::{Rejection, Uncertainty};
use super::remote::time_left;
use super::remote_asks::REMOTE;
use super::reply::{Envelope, ReplyAddress, discard};
use super::timers::only_message;
use super::wire_id::WireId;
use crate::base::ids::{EntityTypeId, Epoch, NodeId, ShardId, ShardKey};
use crate::base::time::Time;
use crate::wire::address::Target;
use crate::wire::header::Header;
use crate::wire::kind::Kind;
use crate::wire::limits::FrameLimits;
use crate::wire::message::{Message, WireMessage};
use crate::wire::writer::FrameWriter;

/// The bytes of one part of a shipment, about.
pub(crate) const PART_BYTES: usize = 64 << 10;

/// The bytes of a part of a shard, and whether it is the last.
type PartBytes = (Vec<u8>, bool);

/// Writes a part of at most so many bytes, the first one again if anew.
type NextPart = fn(&mut Local, u16, ShardId, bool, usize) -> Option<PartBytes>;

/// What the engine does to shards that change nodes without knowing their types.
#[derive(Clone, Copy)]
pub(crate) struct NodeOps {
    /// Takes what is to be shipped out of so many entities; whether that was all.
    pub(crate) pack: fn(&mut Local, u16, ShardId, usize) -> bool,
    /// So many bytes of the next part, or of the first again, and whether it is the last; `None` if something cannot be
    /// archived.
    pub(crate) next_part: NextPart,
    /// Puts everything back.
    pub(crate) stay: fn(&mut Local, u16, ShardId),
    /// Drops the messages that were taken out, which may be handled elsewhere.
    pub(crate) abandon: fn(&mut Local, u16, ShardId, Uncertainty),
    /// Drops everything: it is on that node.
    pub(crate) forget: fn(&mut Local, u16, ShardId, NodeId),
    /// Puts a shard that has come in these bytes at that time into place.
    pub(crate) open: fn(&mut Local, u16, ShardId, &[u8], Time),
}

impl NodeOps {
    pub(super) fn of<A: Actor<Msg: WireMessage>, I: WireId>() -> NodeOps {
        NodeOps {
            pack: pack::<I, A::Msg>,
            next_part: next_part::<I, A::Msg>,
            stay: stay::<I, A::Msg>,
            abandon: abandon::<I, A::Msg>,
            forget: forget::<I, A::Msg>,
            open: open::<A, I>,
        }
    }
}

/// A shard that leaves its node.
pub(super) struct Departing<I, M> {
    /// Entities that have yet to be packed.
    unpacked: Vec<(I, CellRef)>,
    parcels: Vec<Parcel<I, M>>,
    /// What is written next: of which parcel, and which of its records.
    next: (usize, usize),
    /// Bytes that were written, and how many of them are in parts.
    written: Vec<u8>,
    cut: usize,
    writer: FrameWriter,
    /// The reply addresses that have been written.
    noted: Vec<ReplyAddress>,
    /// When this attempt began: what is left of timers is told as of then, and counts from when its first part arrives.
    began: Time,
}

impl<I, M> Departing<I, M> {
    /// How many messages have been taken out of mailboxes.
    pub(super) fn mail(&self) -> usize {
        self.parcels.iter().map(|it| it.mailbox.len()).sum()
    }

    /// Takes at most so many of the bytes that were written.
    fn cut(&mut self, most: usize) -> Vec<u8> {
        let end = self.written.len().min(self.cut + most);
        let part = self.written[self.cut..end].to_vec();
        self.cut = end;
        // No byte is moved over a distance shorter than the bytes moved: a large view has many parts.
        if self.cut * 2 >= self.written.len() {
            self.written.drain(..self.cut);
            self.cut = 0;
        }
        part
    }
}

/// One entity, or what waits for one that has ended.
struct Parcel<I, M> {
    id: I,
    /// Where it is, if it is one that is captured.
    at: Option<CellRef>,
    mailbox: Vec<(Mail<M>, Envelope)>,
}

fn pack<I: EntityId, M: Message>(
    local: &mut Local,
    number: u16,
    shard: ShardId,
    limit: usize,
) -> bool {
    let now = local.now;
    let Some(region) = super::region::downcast_region::<I, M>(&mut local.regions, number) else {
        return true;
    };
    if !region.departing.contains_key(&shard) {
        let cells = &local.cells;
        let tenants = region.tenants(shard);
        let unpacked = tenants
            .filter_map(|(id, slot)| Some((id.clone(), cells.tenant(slot)?)))
            .collect();
        let limits = FrameLimits {
            frame_bytes: FrameLimits::MOST,
            ..FrameLimits::default()
        };
        let departing = Departing {
            unpacked,
            parcels: Vec::new(),
            next: (0, 0),
            written: Vec::new(),
            cut: 0,
            writer: FrameWriter::new(limits),
            noted: Vec::new(),
            began: now,
        };
        region.departing.insert(shard, departing);
    }
    for _ in 0..limit {
        let next = local
            .region_mut::<I, M>(number)
            .and_then(|region| region.departing.get_mut(&shard)?.unpacked.pop());
        let Some((id, at)) = next else {
            return true;
        };
        let parcel = local.take_out::<I, M>(number, shard, id, at);
        if let (Some(parcel), Some(region)) = (parcel, local.region_mut::<I, M>(number))
            && let Some(departing) = region.departing.get_mut(&shard)
        {
            departing.parcels.push(parcel);
        }
    }
    false
}

/// Writes records until a part is full. The first part comes again, in a new attempt, if `anew`.
fn next_part<I: EntityId, M: Message>(
    local: &mut Local,
    number: u16,
    shard: ShardId,
    anew: bool,
    room: usize,
) -> Option<PartBytes> {
    // Taken out meanwhile, for what is written is on the core as well.
    let now = local.now;
    let region = local.region_mut::<I, M>(number)?;
    let mut departing = region.departing.remove(&shard)?;
    if anew {
        departing.next = (0, 0);
        departing.written.clear();
        departing.cut = 0;
        departing.began = now;
    }
    let began = departing.began;
    let mut is_whole = true;
    while departing.written.len() - departing.cut < room {
        let Some(parcel) = departing.parcels.get(departing.next.0) else {
            break;
        };
        let record = departing.next.1;
        let (writer, written) = (&mut departing.writer, &mut departing.written);
        let before = written.len();
        let wrote = match record.checked_sub(1) {
            None => local.write_entity::<I, M>(number, shard, parcel, began, writer, written),
            Some(index) => match &parcel.mailbox[index] {
                (Mail::Stop, _) => Record::Stop.write(written).ok().map(|()| Vec::new()),
                (Mail::User(message), envelope) => local
                    .write_message::<I, M>(number, shard, message, *envelope, writer)
                    .and_then(|noted| {
                        Record::Message(writer.pending()).write(written).ok()?;
                        Some(noted)
                    }),
            },
        };
        departing.writer.truncate(0);
        let Some(noted) = wrote else {
            // Nothing is left of a record that was begun, and nothing leaves: this one is next, whoever tries again.
            departing.written.truncate(before);
            is_whole = false;
            break;
        };
        departing.noted.extend(noted);
        departing.next = match record == parcel.mailbox.len() {
            true => (departing.next.0 + 1, 0),
            false => (departing.next.0, record + 1),
        };
    }
    let part = is_whole.then(|| departing.cut(room));
    let is_last = departing.written.is_empty() && departing.next.0 == departing.parcels.len();
    if let Some(region) = local.region_mut::<I, M>(number) {
        region.departing.insert(shard, departing);
    }
    part.map(|part| (part, is_last))
}

fn stay<I: EntityId, M: Message>(local: &mut Local, number: u16, shard: ShardId) {
    let region = local.region_mut::<I, M>(number);
    let Some(departing) = region.and_then(|region| region.departing.remove(&shard)) else {
        return;
    };
    for parcel in departing.parcels {
        let Parcel { id, at, mailbox } = parcel;
        let at = at.filter(|at| local.cells.get(*at).is_some());
        if let Some(cell) = at.and_then(|at| local.cells.get(at)) {
            cell.intake.forget_stop();
        }
        for (mail, envelope) in mailbox {
            match (mail, at) {
                (Mail::Stop, Some(at)) => local.stop_in_order::<M>(at),
                // It was for a life that has ended.
                (Mail::Stop, None) => {}
                (Mail::User(message), at) => {
                    local.put_mail_back::<I, M>(number, shard, &id, at, message, envelope);
                }
            }
        }
        drop_guarded(id);
    }
}

fn abandon<I: EntityId, M: Message>(
    local: &mut Local,
    number: u16,
    shard: ShardId,
    why: Uncertainty,
) {
    let departing = local
        .region_mut::<I, M>(number)
        .and_then(|region| region.departing.get_mut(&shard));
    let parcels = departing.into_iter().flat_map(|it| &mut it.parcels);
    let mailboxes = parcels.map(|parcel| std::mem::take(&mut parcel.mailbox));
    for (mail, _) in mailboxes.collect::<Vec<_>>().into_iter().flatten() {
        if let Mail::User(message) = mail {
            let name = std::any::type_name::<M>();
            local.note_dead_letter(Receiver::Unknown, Rejection::Fenced, name);
            discard(why.into(), message);
        }
    }
}

fn forget<I: EntityId, M: Message>(local: &mut Local, number: u16, shard: ShardId, to: NodeId) {
    let region = local.region_mut::<I, M>(number);
    let Some(departing) = region.and_then(|region| region.departing.remove(&shard)) else {
        return;
    };
    let me = local.core;
    let mut noted = departing.noted;
    noted.sort_unstable();
    noted.dedup();
    let is_relayed = |ask: &&ReplyAddress| ask.table() == REMOTE && ask.core() == me;
    for ask in noted.iter().filter(is_relayed) {
        // The answer goes where it came from, without coming by here.
        local.forget_remote_ask(*ask);
    }
    let mine: Vec<_> = noted
        .iter()
        .filter(|ask| !is_relayed(ask))
        .copied()
        .collect();
    local.entrust(to, &mine);
    for Parcel { id, at, mailbox } in departing.parcels {
        if let Some(at) = at {
            local.leave_behind::<I, M>(number, shard, &id, at);
        }
        for (mail, _) in mailbox {
            if let Mail::User(message) = mail {
                drop_handed_over(&mut noted, message);
            }
        }
        drop_guarded(id);
    }
}

impl Local {
    /// Takes what is to be shipped out of one entity.
    fn take_out<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        id: I,
        at: CellRef,
    ) -> Option<Parcel<I, M>> {
        self.cells.get(at)?;
        let had_children = self.cells.youngest_child(at).is_some();
        self.end_children(at);
        self.admit_all_waiting::<M>(at);
        let mailbox: Vec<_> = std::iter::from_fn(|| self.next_sealed::<M>(at)).collect();
        let is_ephemeral = self
            .region_mut::<I, M>(number)
            .is_some_and(|region| region.host.is_ephemeral());
        let body = self.cells.get(at)?.body.take();
        let stays = match body {
            Some(mut body) if !is_ephemeral => {
                if had_children {
                    body.arrive_again();
                }
                self.cells.get(at)?.body = Some(body);
                true
            }
            body => {
                self.end_timers(at);
                self.end_subscriptions(at);
                let stopped = self.is_lost(at, number, &id, StopCause::Wanted);
                if let Some(mut body) = body {
                    self.run_post_stop(at, &mut *body);
                    // What it has sent to itself meanwhile.
                    self.discard_mailbox::<M>(at, Rejection::Stopped);
                    drop_guarded(body);
                }
                // (Without a body it waits for its restart.)
                let place = self.place_of::<I, M>(number, shard, &id);
                self.leave_region(at, place);
                self.release(at, StopCause::Wanted);
                self.has_stopped(stopped);
                false
            }
        };
        let at = stays.then_some(at);
        if at.is_none() && mailbox.is_empty() {
            drop_guarded(id);
            return None;
        }
        Some(Parcel { id, at, mailbox })
    }

    fn place_of<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        id: &I,
    ) -> EntityPlace {
        let region = self.region_mut::<I, M>(number);
        EntityPlace {
            region: number,
            shard: shard.0,
            table_hash: region.map_or(0, |region| region.table_hash(id.as_key())),
        }
    }

    /// Ends an entity that goes on elsewhere, of which nobody hears. Those who watch it announce themselves to its new owner,
    /// from here as from other nodes: see [`watched_shard_changed`](Local::watched_shard_changed).
    fn leave_behind<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        id: &I,
        at: CellRef,
    ) {
        let Some(cell) = self.cells.get(at) else {
            return;
        };
        let body = cell.body.take();
        self.end_timers(at);
        self.end_subscriptions(at);
        self.discard_mailbox::<M>(at, Rejection::Moving);
        drop_guarded(body);
        let watches = self.take_watches(at);
        drop_all_guarded(watches);
        self.watches.take_followers(at);
        let place = self.place_of::<I, M>(number, shard, id);
        self.leave_region(at, place);
        self.release(at, StopCause::Wanted);
    }

    /// Puts a message that was taken out of a mailbox, here or where its shard comes from, into that of its entity.
    pub(super) fn put_mail_back<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        id: &I,
        at: Option<CellRef>,
        message: M,
        envelope: Envelope,
    ) {
        let extra = Extra::of(envelope);
        let stored = match at {
            Some(at) => self.store(at, message, extra, Room::Reserved),
            None => guarded(|| {
                let (to, room) = (id.as_key(), Room::Reserved);
                self.store_for_entity::<I, M>(number, shard, to, message, extra, room)
            })
            .unwrap_or_else(|panic| {
                self.region_fault(number, &panic);
                Ok(())
            }),
        };
        if let Err(refused) = stored {
            let receiver = Receiver::Entity(EntityTypeId(number), id);
            self.dead_letter(receiver, refused.why, envelope, refused.message);
        }
    }

    /// Writes an entity with its timers, as they were at the beginning of this attempt. The reply addresses that have been
    /// written come out.
    fn write_entity<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        parcel: &Parcel<I, M>,
        began: Time,
        writer: &mut FrameWriter,
        written: &mut Vec<u8>,
    ) -> Option<Vec<ReplyAddress>> {
        let region = super::region::downcast_region::<I, M>(&mut self.regions, number)?;
        let ops = region.wire?;
        let mut id = Vec::new();
        guarded(|| (ops.write_id)(parcel.id.as_key(), &mut id)).ok()?;
        let body = parcel.at.and_then(|at| self.cells.get(at)?.body.as_deref());
        let (Some(body), Some(at)) = (body, parcel.at) else {
            Record::Fresh { id: &id }.write(written).ok()?;
            return Some(Vec::new());
        };
        let captured = match region.host.capture(body) {
            Ok(captured) => captured,
            Err(fault) => {
                let entity = shown(format_args!("{:?}", parcel.id));
                let said = shown(format_args!("{fault}"));
                tracing::error!(core = %self.core, entity, fault = said, "an entity could not be captured: its shard does not move");
                drop_guarded(fault);
                return None;
            }
        };
        let Some((view, stage)) = captured else {
            Record::Fresh { id: &id }.write(written).ok()?;
            return Some(Vec::new());
        };
        let has_begun = !matches!(stage, Stage::New | Stage::Reborn);
        let entity = Record::Entity {
            id: &id,
            has_begun,
            view: &view,
        };
        entity.write(written).ok()?;
        let target = self.target_there(number, shard)?;
        let (life, runtime) = (self.remote.as_ref()?.life, self.runtime);
        let mut noted_in_all = Vec::new();
        for timer in self.named_timers.of(at) {
            let Some(message) = only_message::<M>(timer) else {
                continue;
            };
            let header = Header::new(Kind::Tell, target, self.remote.as_ref()?.sender(self.core));
            let (wrote, noted) = archiving_through(runtime, life, None, || {
                guarded(|| (ops.write)(writer, &header, &[], message, &mut |_| {}))
            });
            if !matches!(wrote, Ok(Ok(_))) {
                return None;
            }
            let (text, of_name) = timer.name.parts();
            let record = Record::Timer {
                text,
                number: of_name,
                left: timer.deadline.max(began) - began,
                message: writer.pending(),
            };
            record.write(written).ok()?;
            writer.truncate(0);
            noted_in_all.extend(noted);
        }
        Some(noted_in_all)
    }

    /// Writes a message into the writer. The reply addresses that are in it come out.
    fn write_message<I: EntityId, M: Message>(
        &mut self,
        number: u16,
        shard: ShardId,
        message: &M,
        envelope: Envelope,
        writer: &mut FrameWriter,
    ) -> Option<Vec<ReplyAddress>> {
        let target = self.target_there(number, shard)?;
        let ops = self.region_mut::<I, M>(number)?.wire?;
        let header = self.header(Kind::Tell, target);
        let (runtime, life) = self.identity()?;
        let (me, now, tables, timers) = (self.core, self.now, &self.ask_tables, &self.timers);
        let asks = &self.remote.as_ref()?.asks;
        let mut adapt = |header: &mut Header| {
            let (Envelope::Ask, (1, Some(ask))) = (envelope, noted()) else {
                // One of several could be anybody's, so none is known to be the ask's own.
                return;
            };
            header.kind = Kind::Ask;
            let relayed = (ask.table() == REMOTE && ask.core() == me)
                .then(|| asks.borrow().get(ask))
                .flatten();
            header.address = Some(relayed.map_or_else(|| ask.on_wire(life), |ask| ask.origin));
            header.remaining = match relayed {
                Some(relayed) => {
                    let deadline = relayed.timer.and_then(|timer| timers.deadline(timer));
                    deadline.map(|at| at.max(now) - now)
                }
                None if ask.core() == me => time_left(tables, timers, now, ask),
                None => None,
            };
        };
        let relays = Some((me, asks.clone()));
        let (wrote, noted) = archiving_through(runtime, life, relays, || {
            guarded(|| (ops.write)(writer, &header, &[], message, &mut adapt))
        });
        match wrote {
            Ok(Ok(_)) => Some(noted),
            failed => {
                let message = std::any::type_name::<M>();
                let why = match failed {
                    Ok(Err(why)) => why.to_string(),
                    Err(panic) => panic,
                    Ok(Ok(_)) => String::new(),
                };
                tracing::error!(core = %self.core, message, why, "a waiting message could not be archived: its shard does not move");
                None
            }
        }
    }

    /// How frames name a shard of this node in the epoch in which its next owner has it.
    fn target_there(&self, number: u16, shard: ShardId) -> Option<Target> {
        let here = EntityTypeId(number);
        let entity_type = self.topology.number_in_cluster(here)?;
        let owner = self.topology.owner(ShardKey {
            entity_type: here,
            shard,
        })?;
        Some(Target::Shard {
            key: ShardKey { entity_type, shard },
            epoch: Epoch(owner.epoch.0 + 1),
        })
    }
}
