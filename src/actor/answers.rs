//! Answers between nodes: replies, receipts, and asks that end without either.

use super::entrusting::{archiving, drop_handed_over, read_whole, reading, why_unread};
use super::guard::guarded;
use super::link::Waiting;
use super::local::Local;
use super::mailbox::Stored;
use super::mutant::Mutant;
use super::reason_codes::{ask_error_of, reason_of};
use super::refusal::{AskError, Rejection, Uncertainty};
use super::remote_asks::{REMOTE, RemoteAsk};
use super::reply::{ReplyAddress, ReplyTo, discard};
use super::reply_archive::reader_of;
use crate::base::ids::NodeId;
use crate::wire::address::{Address, Target};
use crate::wire::error::{WireError, WriteError};
use crate::wire::frame::{FrameRef, Payload, from_archived};
use crate::wire::header::Header;
use crate::wire::kind::Kind;
use crate::wire::message::{Message, WireMessage};
use crate::wire::writer::FrameWriter;
use std::any::{Any, TypeId};

impl Local {
    /// Answers an ask of another node. One that has ended before drops the reply, and counts it.
    #[cold]
    #[inline(never)]
    pub(super) fn answer<R: Message>(
        &mut self,
        address: ReplyAddress,
        outcome: Result<R, AskError>,
    ) {
        let Some(ask) = self.take_remote_ask(address) else {
            self.lose_reply::<R>(Rejection::LateReply);
            return discard(Uncertainty::DroppedUnanswered.into(), outcome);
        };
        match outcome {
            Ok(reply) => self.send_reply(ask, reply),
            Err(why) => self.send_failure(ask.origin, ask.target, why),
        }
    }

    /// Ends an ask of another node without a reply.
    #[cold]
    #[inline(never)]
    pub(super) fn fail_remote_ask(&mut self, address: ReplyAddress, why: AskError) {
        if let Some(ask) = self.take_remote_ask(address) {
            self.send_failure(ask.origin, ask.target, why);
        }
    }

    /// An ask of another node is somebody else's to answer from now on.
    pub(super) fn forget_remote_ask(&mut self, address: ReplyAddress) {
        let _ = self.take_remote_ask(address);
    }

    fn take_remote_ask(&mut self, address: ReplyAddress) -> Option<RemoteAsk> {
        if address.table() != REMOTE {
            return None;
        }
        let ask = self.remote.as_ref()?.asks.borrow_mut().take(address)?;
        if let Some(timer) = ask.timer {
            self.timers.cancel(timer);
        }
        Some(ask)
    }

    fn send_reply<R: Message>(&mut self, ask: RemoteAsk, reply: R) {
        let node = ask.origin.life.node;
        let is_receipt = TypeId::of::<R>() == TypeId::of::<Stored>();
        let kind = if is_receipt {
            Kind::Stored
        } else {
            Kind::Reply
        };
        let header = Header {
            address: Some(ask.origin),
            ..self.header(kind, ask.target)
        };
        let identity = self.identity();
        let link = (self.remote.as_mut()).and_then(|it| it.link(node, Some(ask.origin.life)));
        let (Some(link), Some((runtime, life))) = (link, identity) else {
            // Whoever asked is gone.
            self.lose_reply::<R>(Rejection::LinkLost);
            return discard(Uncertainty::LinkLost.into(), reply);
        };
        let writer = &mut link.writer;
        let (written, noted) = archiving(runtime, life, || {
            guarded(|| (ask.write)(writer, &header, &reply as &dyn Any, &mut |_| {}))
        });
        match written {
            Ok(Ok(length)) => self.has_gone(node, length, Waiting::Reply, noted, reply),
            failed => {
                let why = match failed {
                    Ok(Err(WriteError::Full { .. })) => Rejection::LinkFull,
                    Ok(Err(WriteError::TooLarge { .. })) => Rejection::TooLarge,
                    _ => Rejection::NotArchived,
                };
                self.lose_reply::<R>(why);
                discard(Uncertainty::DroppedUnanswered.into(), reply);
                self.send_failure(ask.origin, ask.target, Uncertainty::ReplyNotSent.into());
            }
        }
    }

    /// Tells another node that an ask of its has ended. If even that finds no room, its deadline ends it.
    ///
    /// The ask may be one of this node: it sent the message to a past owner of a shard, which passed it on to here.
    pub(super) fn send_failure(&mut self, origin: Address, target: Target, why: AskError) {
        if let Some(address) = self.come_home(origin) {
            return self.fail_ask(address, why);
        }
        let header = Header {
            address: Some(origin),
            reason: Some(reason_of(why)),
            ..self.header(Kind::Failure, target)
        };
        self.send_notice(origin.life.node, &header);
    }

    /// Tells the sender of a message that it has been placed, or handled; as [`send_failure`](Local::send_failure).
    pub(super) fn send_receipt(&mut self, origin: Address, target: Target) {
        if let Some(address) = self.come_home(origin) {
            return self.reply(ReplyTo::<Stored>::new(address), Stored);
        }
        let header = Header {
            address: Some(origin),
            ..self.header(Kind::Stored, target)
        };
        self.send_notice(origin.life.node, &header);
    }

    /// The ask of this node that an address in a message names, if it is one.
    fn come_home(&self, origin: Address) -> Option<ReplyAddress> {
        let (runtime, life) = self.identity()?;
        let is_here = origin.life == life && origin.core.index() < self.port.cores();
        is_here.then(|| ReplyAddress::from_wire(runtime, origin))
    }

    /// Sends a frame without content, which may get lost.
    pub(super) fn send_notice(&mut self, node: NodeId, header: &Header) {
        let life = header.address.map(|address| address.life);
        let life = life.filter(|life| life.node == node);
        let link = (self.remote.as_mut()).and_then(|it| it.link(node, life));
        if let Some(link) = link
            && let Ok(length) = link.writer.write_bytes(header, &[], &[])
        {
            link.wrote(length, Waiting::Notice);
            self.count_written(length);
        }
    }

    /// Takes an answer from another node.
    pub(super) fn take_answer(&mut self, frame: FrameRef<'_>) {
        let header = *frame.header();
        let Some(address) = header.address.and_then(|it| self.come_home(it)) else {
            return self.senseless(&frame, "an answer to nobody of this life of this node");
        };
        if let Target::Shard { key, epoch } = header.target
            && let Some(here) = self.topology.type_of_number(key.entity_type)
            && let Some(owner) = (self.topology).owner(crate::base::ids::ShardKey {
                entity_type: here,
                ..key
            })
            && epoch < owner.fence
            && self.mutant != Some(Mutant::IgnoreEpochOfAnswers)
        {
            self.count_refused_frame();
            self.note_dead_letter(
                super::reference::Receiver::Unknown,
                Rejection::Fenced,
                "an answer of a node that has lost its shard",
            );
            return self.fail_ask(address, Uncertainty::Fenced.into());
        }
        match (header.kind, header.reason) {
            (Kind::Reply, _) => {
                let read = reader_of(header.tag.fingerprint);
                let read = read.map(|read| guarded(|| read(self, address, frame.payload())));
                match read {
                    Some(Ok(Ok(()))) => {}
                    failed => {
                        let why = match failed {
                            None => "a reply of a type for which nobody has asked",
                            Some(Ok(_)) => "a reply that cannot be read",
                            Some(_) => "a reply whose reading panics",
                        };
                        self.senseless(&frame, why);
                        self.fail_ask(address, Uncertainty::Unreadable.into());
                    }
                }
            }
            (Kind::Stored, _) => self.reply(ReplyTo::<Stored>::new(address), Stored),
            (_, Some(reason)) => self.fail_ask(address, ask_error_of(reason)),
            (_, None) => {}
        }
    }

    /// Reads a reply, and brings it to its ask.
    pub(super) fn take_reply<R: WireMessage>(
        &mut self,
        address: ReplyAddress,
        payload: Payload<'_>,
    ) -> Result<(), WireError> {
        let archived = payload.access::<R>()?;
        let Some(context) = self.reading(Target::Node, None, None) else {
            return Ok(());
        };
        let (reply, _) = reading(context, || {
            read_whole(why_unread(), || from_archived::<R>(archived))
        });
        self.time_remote_asks();
        self.reply(ReplyTo::<R>::new(address), reply?);
        Ok(())
    }

    /// The receipt that is asked for at this address, as a reply address of this core; `None` if there are too many.
    pub(super) fn receipt_for(
        &mut self,
        origin: Address,
        target: Target,
        remaining: Option<std::time::Duration>,
    ) -> Option<ReplyTo<Stored>> {
        if let Some(address) = self.come_home(origin) {
            return Some(ReplyTo::new(address));
        }
        let context = self.reading(target, remaining, None)?;
        let opened = context.asks.borrow_mut().open(
            RemoteAsk {
                origin,
                target: context.target,
                write: write_receipt,
                timer: None,
            },
            context.until,
        );
        let (slot, generation) = opened?;
        self.time_remote_asks();
        let address = ReplyAddress::new(self.runtime, self.core, REMOTE, slot, generation);
        Some(ReplyTo::new(address))
    }

    /// The receipt's own address is used up: the frame that asks for it stands.
    pub(super) fn hand_over_receipt(stored: ReplyTo<Stored>) {
        let mut noted = vec![stored.address()];
        drop_handed_over(&mut noted, stored);
    }
}

fn write_receipt(
    writer: &mut FrameWriter,
    header: &Header,
    _: &dyn Any,
    _: &mut dyn FnMut(&mut Header),
) -> Result<usize, WriteError> {
    writer.write_bytes(header, &[], &[])
}
