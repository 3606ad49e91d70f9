//! Actors of other nodes: their addresses in archives, and messages to them.
//!
//! An address is a place in one life of one node, so it is archived as it is, and means the same everywhere; but for what
//! this process calls itself (`own_life`). How messages of
//! its type are written and read is noted when an address is archived or read, since that is where the type is known to
//! travel: whoever holds an address of an actor of another node has read it, and on the node of the actor it was archived.

use super::delivery::refuse;
use super::entrusting::{read_whole, reading, why_unread};
use super::frames::{Away, Unsent};
use super::guard::guarded;
use super::local::{Extra, Local};
use super::own_life;
use super::reference::{ActorRef, CellRef, Destination, Home, Receiver};
use super::refusal::{Refused, Rejection};
use super::region::Sender;
use super::reply::{Envelope, discard_message};
use super::wire_region::{WriteMessage, write_message};
use crate::base::ids::{CoreId, Incarnation, NodeId};
use crate::wire::address::{Life, Target};
use crate::wire::error::WireError;
use crate::wire::frame::{FrameRef, from_archived};
use crate::wire::kind::Kind;
use crate::wire::message::{Message, WireMessage};
use rkyv::rancor::Fallible;
use rkyv::{Archive, Deserialize, Place, Serialize};
use std::any::{Any, TypeId};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{PoisonError, RwLock};

/// An [`ActorRef`] as it is archived.
#[derive(Archive, Debug, Serialize)]
#[rkyv(archived = ArchivedActorRef)]
pub struct ActorPlace<M> {
    node: u32,
    incarnation: u32,
    cell: u64,
    core: u16,
    /// Zeros: where there would be padding.
    half: u16,
    rest: u32,
    message: PhantomData<fn(M)>,
}

impl<M: WireMessage> ArchivedActorRef<M> {
    /// The address.
    #[must_use]
    pub fn get(&self) -> ActorRef<M> {
        know_message::<M>();
        let node = NodeId(self.node.to_native());
        let incarnation = Incarnation(self.incarnation.to_native());
        ActorRef::new(
            own_life::read(Home::new(node, incarnation)),
            CoreId(self.core.to_native()),
            CellRef::from_bits(self.cell.to_native()),
        )
    }
}

impl<M: WireMessage> fmt::Debug for ArchivedActorRef<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl<M: WireMessage> Archive for ActorRef<M> {
    type Archived = ArchivedActorRef<M>;
    type Resolver = ();

    fn resolve(&self, (): (), out: Place<Self::Archived>) {
        let home = own_life::archived(self.home);
        let place = ActorPlace::<M> {
            node: home.node().0,
            incarnation: home.incarnation().0,
            cell: self.cell.to_bits(),
            core: self.core.0,
            half: 0,
            rest: 0,
            message: PhantomData,
        };
        let resolver = ActorPlaceResolver {
            node: (),
            incarnation: (),
            cell: (),
            core: (),
            half: (),
            rest: (),
            message: (),
        };
        place.resolve(resolver, out);
    }
}

impl<M: WireMessage, S: Fallible + ?Sized> Serialize<S> for ActorRef<M> {
    fn serialize(&self, _: &mut S) -> Result<(), S::Error> {
        know_message::<M>();
        Ok(())
    }
}

impl<M: WireMessage, D: Fallible + ?Sized> Deserialize<ActorRef<M>, D> for ArchivedActorRef<M> {
    fn deserialize(&self, _: &mut D) -> Result<ActorRef<M>, D::Error> {
        Ok(self.get())
    }
}

/// Reads a message and delivers it to an actor of this node.
type ReadForActor = fn(&mut Local, CoreId, CellRef, &FrameRef<'_>) -> Result<(), WireError>;

/// How messages are written for actors, each a [`WriteMessage`] by its type, and how they are read, by fingerprint: those
/// of which an address has been archived or read in this process. There is one for each type, so it stays small.
static WRITERS: RwLock<BTreeMap<TypeId, Box<dyn Any + Send + Sync>>> = RwLock::new(BTreeMap::new());
static READERS: RwLock<BTreeMap<u64, ReadForActor>> = RwLock::new(BTreeMap::new());

thread_local! {
    /// Spares cores that pass addresses of one type the look at what they share.
    static LAST_KNOWN: Cell<Option<TypeId>> = const { Cell::new(None) };
}

fn know_message<M: WireMessage>() {
    let own = TypeId::of::<M>();
    if LAST_KNOWN.replace(Some(own)) == Some(own) {
        return;
    }
    let writers = WRITERS.read().unwrap_or_else(PoisonError::into_inner);
    if writers.contains_key(&own) {
        return;
    }
    drop(writers);
    let write: WriteMessage<M> = write_message::<M>;
    let mut readers = READERS.write().unwrap_or_else(PoisonError::into_inner);
    readers
        .entry(M::fingerprint())
        .or_insert(read_for_actor::<M>);
    drop(readers);
    let mut writers = WRITERS.write().unwrap_or_else(PoisonError::into_inner);
    writers.entry(own).or_insert_with(|| Box::new(write));
}

fn writer_of<M: Message>() -> Option<WriteMessage<M>> {
    let writers = WRITERS.read().unwrap_or_else(PoisonError::into_inner);
    let writer = writers.get(&TypeId::of::<M>())?;
    writer.downcast_ref::<WriteMessage<M>>().copied()
}

impl Local {
    /// Sends to an actor that lives elsewhere, and makes a refused message a dead letter. The address comes as a receiver:
    /// as a reference it would have to lie in memory before every send, also to actors that are here.
    #[cold]
    #[inline(never)]
    pub(super) fn tell_elsewhere<M: Message>(&mut self, to: Receiver<'_>, message: M) {
        if let Err(refused) = self.send_elsewhere(to, message, None) {
            self.dead_letter(to, refused.why, Envelope::Plain, refused.message);
        }
    }

    /// Sends to an actor that lives on another node, or in another life of this one.
    #[cold]
    #[inline(never)]
    pub(super) fn send_elsewhere<M: Message>(
        &mut self,
        to: Receiver<'_>,
        message: M,
        extra: Option<Extra>,
    ) -> Result<(), Refused<M>> {
        let Receiver::Actor(home, core, cell) = to else {
            return Err(refuse(Rejection::OldIncarnation, message, extra));
        };
        if self.is_given_home(home) && home != self.home {
            // It was read where nobody knew that this is its node: by a thread outside of the cores.
            let to = ActorRef::new(self.home, core, cell);
            return self.deliver_to_actor(to, message, extra);
        }
        let (node, incarnation) = (home.node(), home.incarnation());
        let is_elsewhere = (self.remote.as_ref()).is_some_and(|it| it.life.node != node);
        if !is_elsewhere {
            return Err(refuse(Rejection::OldIncarnation, message, extra));
        }
        let Some(write) = writer_of::<M>() else {
            return Err(refuse(Rejection::NotAcrossNodes, message, extra));
        };
        let away = Away {
            node,
            life: Some(Life::new(node, incarnation)),
            target: Target::Actor {
                incarnation,
                core,
                cell: cell.to_bits(),
            },
            region: None,
        };
        self.write_away(away, &[], write, message, extra, Sender::Call)
            .map_err(Unsent::refuse)
    }

    /// Takes a message for an actor of this node.
    pub(super) fn take_for_actor(
        &mut self,
        frame: FrameRef<'_>,
        incarnation: Incarnation,
        core: CoreId,
        cell: u64,
    ) {
        let is_me = (self.remote.as_ref()).is_some_and(|it| it.life.incarnation == incarnation);
        if !is_me {
            return self.refuse_frame(None, &frame, Rejection::OldIncarnation);
        }
        if core.index() >= self.port.cores() {
            return self.senseless_request(&frame, "a core that this node does not have");
        }
        let cell = CellRef::from_bits(cell);
        if cell.generation() & 1 == 0 {
            return self.senseless_request(&frame, "a cell that no actor has ever had");
        }
        let readers = READERS.read().unwrap_or_else(PoisonError::into_inner);
        let read = readers.get(&frame.header().tag.fingerprint).copied();
        drop(readers);
        let Some(read) = read else {
            return self.senseless_request(&frame, "a message that no actor of this node takes");
        };
        match guarded(|| read(self, core, cell, &frame)) {
            Ok(Ok(())) => {}
            Ok(Err(_)) => self.senseless_request(&frame, "a payload that cannot be read"),
            Err(panic) => {
                tracing::error!(core = %self.core, panic, "reading a message of another node panicked");
                self.refuse_frame(None, &frame, Rejection::Unreadable);
            }
        }
    }
}

fn read_for_actor<M: WireMessage>(
    local: &mut Local,
    core: CoreId,
    cell: CellRef,
    frame: &FrameRef<'_>,
) -> Result<(), WireError> {
    let archived = frame.payload().access::<M>()?;
    let header = *frame.header();
    let own = header.address.filter(|_| header.kind == Kind::Ask);
    let Some(context) = local.reading(Target::Node, header.remaining, own) else {
        return Ok(());
    };
    let (read, unread) = reading(context, || {
        read_whole(why_unread(), || from_archived::<M>(archived))
    });
    local.time_remote_asks();
    let message = read?;
    let extra = match (header.kind, header.address) {
        (Kind::Send, Some(origin)) => {
            match local.receipt_for(origin, Target::Node, header.remaining) {
                Some(stored) => Some(Extra::Acknowledge(stored)),
                None => {
                    discard_message(Rejection::TooManyAsks, Envelope::Plain, message);
                    local.refuse_frame(None, frame, Rejection::TooManyAsks);
                    return Ok(());
                }
            }
        }
        (Kind::Ask, _) => Some(Extra::Ask),
        _ => None,
    };
    if let (Kind::Ask, Some(origin)) = (header.kind, unread) {
        // Its address is not in it, whatever the header says.
        let why = super::refusal::Uncertainty::DroppedUnanswered;
        local.send_failure(origin, Target::Node, why.into());
    }
    let to = ActorRef::<M>::new(local.home, core, cell);
    let envelope = Extra::envelope(&extra);
    if let Err(refused) = local.deliver_to_actor(to, message, extra) {
        local.count_refused_frame();
        local.dead_letter(to.receiver(), refused.why, envelope, refused.message);
    }
    Ok(())
}
