//! Reply addresses in archives: [`ReplyTo`] in wire messages.

use super::entrusting::{note_archived, open_read};
use super::local::Local;
use super::reply::{ReplyAddress, ReplyTo};
use crate::base::ids::{CoreId, Incarnation, NodeId};
use crate::wire::address::{Address, Life};
use crate::wire::error::{WireError, WriteError};
use crate::wire::frame::Payload;
use crate::wire::header::Header;
use crate::wire::message::WireMessage;
use crate::wire::writer::FrameWriter;
use rkyv::rancor::{Fallible, Source};
use rkyv::{Archive, Deserialize, Place, Serialize};
use std::any::{Any, TypeId};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{PoisonError, RwLock};

/// A [`ReplyTo`] as it is archived; [`ArchivedReplyTo`] is what stands in an archive for one. To answer it from there, read it with
/// [`Context::read`](super::context::Context::read), once: each reading makes an address that ends the ask when it is
/// dropped.
#[derive(Archive, Debug, Serialize)]
#[rkyv(archived = ArchivedReplyTo)]
pub struct ReplyPlace<R> {
    node: u32,
    incarnation: u32,
    place: u64,
    core: u16,
    table: u16,
    /// Zero: where there would be padding.
    rest: u32,
    reply: PhantomData<fn(R)>,
}

impl<R> ReplyPlace<R> {
    fn of(address: Address) -> Self {
        ReplyPlace {
            node: address.life.node.0,
            incarnation: address.life.incarnation.0,
            place: address.place,
            core: address.core.0,
            table: address.table,
            rest: 0,
            reply: PhantomData,
        }
    }
}

impl<R> ArchivedReplyTo<R> {
    fn address(&self) -> Address {
        let (node, incarnation) = (self.node.to_native(), self.incarnation.to_native());
        Address {
            life: Life::new(NodeId(node), Incarnation(incarnation)),
            core: CoreId(self.core.to_native()),
            table: self.table.to_native(),
            place: self.place.to_native(),
        }
    }
}

impl<R> fmt::Debug for ArchivedReplyTo<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { life, core, .. } = self.address();
        write!(f, "ReplyTo({life}, {core})")
    }
}

impl<R: WireMessage> Archive for ReplyTo<R> {
    type Archived = ArchivedReplyTo<R>;
    type Resolver = Address;

    fn resolve(&self, address: Address, out: Place<Self::Archived>) {
        let place = ReplyPlace::<R>::of(address);
        place.resolve(
            ReplyPlaceResolver {
                node: (),
                incarnation: (),
                place: (),
                core: (),
                table: (),
                rest: (),
                reply: (),
            },
            out,
        );
    }
}

impl<R: WireMessage, S: Fallible<Error: Source> + ?Sized> Serialize<S> for ReplyTo<R> {
    fn serialize(&self, _: &mut S) -> Result<Address, S::Error> {
        know_reply::<R>();
        note_archived(self.address()).map_err(S::Error::new)
    }
}

impl<R: WireMessage, D: Fallible<Error: Source> + ?Sized> Deserialize<ReplyTo<R>, D>
    for ArchivedReplyTo<R>
{
    fn deserialize(&self, _: &mut D) -> Result<ReplyTo<R>, D::Error> {
        let address = open_read(self.address(), write_reply::<R>).map_err(D::Error::new)?;
        Ok(ReplyTo::new(address))
    }
}

fn write_reply<R: WireMessage>(
    writer: &mut FrameWriter,
    header: &Header,
    reply: &dyn Any,
    adapt: &mut dyn FnMut(&mut Header),
) -> Result<usize, WriteError> {
    match reply.downcast_ref::<R>() {
        Some(reply) => writer.write_adapted(header, &[], reply, adapt),
        // A node that was entrusted with the address has answered with something else.
        None => Err(WriteError::NotArchived(format!(
            "it is no `{}`, which was asked for",
            R::NAME
        ))),
    }
}

/// Brings a reply in a frame to the ask that it is for.
pub(super) type ReadReply = fn(&mut Local, ReplyAddress, Payload<'_>) -> Result<(), WireError>;

/// How replies are read, by the fingerprints of their types: those that some ask of this process has been sent out for.
/// There is one for each type, so it stays small.
static READERS: RwLock<BTreeMap<u64, (TypeId, ReadReply)>> = RwLock::new(BTreeMap::new());

thread_local! {
    /// Spares cores that ask for one type of reply the look at what they share.
    static LAST_KNOWN: Cell<Option<TypeId>> = const { Cell::new(None) };
}

/// How a reply with this fingerprint is read.
pub(super) fn reader_of(fingerprint: u64) -> Option<ReadReply> {
    let readers = READERS.read().unwrap_or_else(PoisonError::into_inner);
    readers.get(&fingerprint).map(|(_, reader)| *reader)
}

/// Has replies of this type be known when they come.
fn know_reply<R: WireMessage>() {
    let (fingerprint, own) = (R::fingerprint(), TypeId::of::<R>());
    if LAST_KNOWN.replace(Some(own)) == Some(own) {
        return;
    }
    {
        let readers = READERS.read().unwrap_or_else(PoisonError::into_inner);
        match readers.get(&fingerprint) {
            Some((known, _)) if *known == own => return,
            Some(_) => {
                let name = R::NAME;
                tracing::error!(
                    name,
                    "two types have one name, version and size; give one of them another name"
                );
                return;
            }
            None => {}
        }
    }
    let mut readers = READERS.write().unwrap_or_else(PoisonError::into_inner);
    readers
        .entry(fingerprint)
        .or_insert((own, Local::take_reply::<R>));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::address::{Sender, Target};
    use crate::wire::kind::Kind;
    use crate::wire::limits::FrameLimits;

    /// Another node may say anything.
    #[test]
    fn an_answer_of_another_type_is_refused() {
        let mut writer = FrameWriter::new(FrameLimits::default());
        let header = Header {
            address: Some(Address {
                life: Life::new(NodeId(1), Incarnation(1)),
                core: CoreId(0),
                table: 0,
                place: 0,
            }),
            ..Header::new(Kind::Reply, Target::Node, Sender::default())
        };
        let refused = write_reply::<u64>(&mut writer, &header, &7_u32, &mut |_| {});
        assert!(matches!(refused, Err(WriteError::NotArchived(_))));
        assert!(writer.pending().is_empty());
        let written = write_reply::<u64>(&mut writer, &header, &7_u64, &mut |_| {});
        assert!(written.is_ok(), "{written:?}");
    }
}
