//! What an entity type of a cluster has beyond others: how its ids and messages are written for other nodes, and how those
//! of others are read. Everything is captured as pointers to functions where the types are known, so that types that stay on
//! their node need nothing of it.

use super::activation::{ActorBody, Entry, Ran, RecipientOf};
use super::cell::{Body, EntityPlace};
use super::context::Context;
use super::entity::EntityBody;
use super::entity_id::EntityId;
use super::frame_delivery::{deliver, drop_message};
use super::local::{Local, Room};
use super::model::{Actor, Next};
use super::node_shipping::NodeOps;
use super::reference::CellRef;
use super::reply;
use super::wire_id::WireId;
use crate::base::ids::ShardId;
use crate::wire::error::WriteError;
use crate::wire::frame::FrameRef;
use crate::wire::header::Header;
use crate::wire::message::WireMessage;
use crate::wire::type_registry::{TypeClash, TypeRegistry};
use crate::wire::writer::FrameWriter;
use std::any::Any;

/// Takes a frame for an entity of a shard that this core runs, if there is room, or whether there is some or not.
pub(crate) type Deliver = fn(&mut Local, u16, ShardId, &FrameRef<'_>, Room);

/// Writes a message into a frame of this header, behind this id; what adapts the header sees it when the message has been
/// archived.
pub(super) type WriteMessage<M> = fn(
    &mut FrameWriter,
    &Header,
    &[u8],
    &M,
    &mut dyn FnMut(&mut Header),
) -> Result<usize, WriteError>;

/// How far the handling of a message that is read in place has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The entity cannot take it now: it has to wait in its mailbox.
    Untouched,
    /// The handler has begun, and has failed unless more is said.
    Begun,
    /// The handler has returned without a fault.
    Done,
}

/// How the messages of an entity type travel.
pub(crate) struct WireOps<I: EntityId, M> {
    pub(super) write_id: fn(&I::Key, &mut Vec<u8>),
    pub(super) write: WriteMessage<M>,
    pub(super) drop_message: fn(FrameRef<'_>),
    pub(super) deliver: Deliver,
    pub(super) node: NodeOps,
    register: fn(&mut TypeRegistry) -> Result<(), TypeClash>,
}

impl<I: EntityId, M> Clone for WireOps<I, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I: EntityId, M> Copy for WireOps<I, M> {}

impl<I: WireId, M: WireMessage> WireOps<I, M> {
    pub(super) fn of<A: Actor<Msg = M>>() -> Self {
        WireOps {
            write_id: I::write,
            write: write_message::<M>,
            drop_message: drop_message::<M>,
            deliver: deliver::<A, I>,
            node: NodeOps::of::<A, I>(),
            register: TypeRegistry::register::<M>,
        }
    }
}

/// What an entity type of a cluster says of itself, whatever its types.
pub(crate) struct Clustered {
    /// [`WireOps`] of its id and message.
    ops: Box<dyn Any + Send + Sync>,
    pub(crate) register: fn(&mut TypeRegistry) -> Result<(), TypeClash>,
    /// Its entities go on when the lease of their node has lapsed.
    pub(crate) keep_running: bool,
}

impl Clustered {
    pub(crate) fn of<A: Actor<Msg: WireMessage>, I: WireId>() -> Clustered {
        let ops = WireOps::<I, A::Msg>::of::<A>();
        Clustered {
            register: ops.register,
            ops: Box::new(ops),
            keep_running: false,
        }
    }

    pub(super) fn keep_running(mut self) -> Clustered {
        self.keep_running = true;
        self
    }

    pub(crate) fn ops<I: EntityId, M: 'static>(&self) -> Option<WireOps<I, M>> {
        self.ops.downcast_ref().copied()
    }
}

/// See [`WriteMessage`].
pub(super) fn write_message<M: WireMessage>(
    writer: &mut FrameWriter,
    header: &Header,
    id: &[u8],
    message: &M,
    adapt: &mut dyn FnMut(&mut Header),
) -> Result<usize, WriteError> {
    writer.write_adapted(header, id, message, adapt)
}

/// Has an entity handle a message where it lies.
pub(super) fn run_in_place<A: Actor<Msg: WireMessage>, I: EntityId>(
    body: &mut dyn Body,
    local: &mut Local,
    at: CellRef,
    archived: &<A::Msg as rkyv::Archive>::Archived,
    progress: &mut Progress,
) -> Ran {
    match (body as &mut dyn Any).downcast_mut::<EntityBody<A, I>>() {
        Some(body) => body.run_in_place(local, at, archived, progress),
        None => Ran::More,
    }
}

impl<A: Actor<Msg: WireMessage>> ActorBody<A> {
    /// Handles a message of another node where it lies, unless the actor has to be started first and cannot take it.
    pub(super) fn run_in_place(
        &mut self,
        local: &mut Local,
        at: CellRef,
        place: Option<EntityPlace>,
        recipient: RecipientOf<A::Msg>,
        archived: &<A::Msg as rkyv::Archive>::Archived,
        progress: &mut Progress,
    ) -> Ran {
        let mut ctx = Context::new(local, at, place, recipient);
        if let Some(ran) = self.begin(&mut ctx, Entry::Arrivals) {
            return ran;
        }
        reply::count_handled();
        *progress = Progress::Begun;
        match self.actor.receive_archived(archived, &mut ctx) {
            Ok(next) => {
                *progress = Progress::Done;
                match next {
                    Next::Continue if ctx.is_suspended() => Ran::Suspended,
                    Next::Continue => Ran::More,
                    Next::Stop => Ran::Stop,
                }
            }
            Err(fault) => ctx.local.failed(fault),
        }
    }
}
