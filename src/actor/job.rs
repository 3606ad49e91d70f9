//! What threads hand to a core: calls, messages and replies, and what becomes of them when the core does not take them.

use super::guard::drop_guarded;
use super::local::Local;
use super::pending::Completer;
use super::reference::{Destination, Receiver};
use super::refusal::{AskError, Rejection};
use super::reply::{Envelope, ReplyTo, discard_message};
use crate::wire::message::Message;
use std::any::{Any, type_name};

/// Work that a thread hands to a core.
pub(crate) trait CoreWork: Any + Send {
    fn run(self: Box<Self>, local: &mut Local);
    /// It could not be handed over; whoever waits for it is told.
    fn reject(self: Box<Self>, why: Rejection);
    /// Whom it is for and the name of its type, if it is a message, which is a dead letter when it is refused.
    fn dead_letter(&self) -> Option<(Receiver<'_>, &'static str)> {
        None
    }
    /// The core that took it has stopped: like `reject`, and a message becomes a dead letter of that core.
    fn give_up(self: Box<Self>, local: &mut Local, why: Rejection) {
        if let Some((receiver, message)) = self.dead_letter() {
            local.note_dead_letter(receiver, why, message);
        }
        self.reject(why);
    }
}

pub(crate) type CoreJob = Box<dyn CoreWork>;

/// A call for which nobody waits, or somebody who notices when it is dropped.
struct Call<F>(F);

impl<F: FnOnce(&mut Local) + Send + 'static> CoreWork for Call<F> {
    fn run(self: Box<Self>, local: &mut Local) {
        (self.0)(local);
    }

    fn reject(self: Box<Self>, why: Rejection) {
        discard_message(why, Envelope::Plain, self);
    }
}

/// A message on its way in; refused, it goes back to the caller.
pub(super) struct Tell<D: Destination> {
    pub(super) to: D,
    pub(super) message: D::Msg,
}

/// A message that did not get in, with its reason.
pub(super) type RefusedTell<D> = (Rejection, Box<Tell<<D as Destination>::Owned>>);

impl<D: Destination + Send + 'static> CoreWork for Tell<D> {
    fn run(self: Box<Self>, local: &mut Local) {
        local.tell(self.to, self.message);
    }

    fn reject(self: Box<Self>, why: Rejection) {
        let Tell { to, message } = *self;
        discard_message(why, Envelope::Plain, message);
        drop_guarded(to);
    }

    fn dead_letter(&self) -> Option<(Receiver<'_>, &'static str)> {
        Some((self.to.receiver(), type_name::<D::Msg>()))
    }
}

/// A reply on its way in.
pub(super) struct Reply<R> {
    pub(super) to: ReplyTo<R>,
    pub(super) reply: R,
}

impl<R: Message> CoreWork for Reply<R> {
    fn run(self: Box<Self>, local: &mut Local) {
        local.reply(self.to, self.reply);
    }

    fn reject(self: Box<Self>, why: Rejection) {
        let Reply { to, reply } = *self;
        drop(to);
        discard_message(why, Envelope::Plain, reply);
    }

    fn dead_letter(&self) -> Option<(Receiver<'_>, &'static str)> {
        Some((Receiver::Unknown, type_name::<R>()))
    }
}

/// A call whose outcome somebody waits for.
pub(super) struct Awaited<T, F> {
    pub(super) completer: Completer<Result<T, AskError>>,
    pub(super) call: F,
}

impl<T, F> CoreWork for Awaited<T, F>
where
    T: Send + 'static,
    F: FnOnce(&mut Local, Completer<Result<T, AskError>>) + Send + 'static,
{
    fn run(self: Box<Self>, local: &mut Local) {
        (self.call)(local, self.completer);
    }

    fn reject(self: Box<Self>, why: Rejection) {
        let Awaited { completer, call } = *self;
        completer.complete(Err(why.into()));
        discard_message(why, Envelope::Plain, call);
    }
}

/// A call for which nobody waits, as work.
pub(crate) fn call(work: impl FnOnce(&mut Local) + Send + 'static) -> CoreJob {
    Box::new(Call(work))
}
