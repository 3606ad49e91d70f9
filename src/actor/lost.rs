//! Messages that are lost where no core can see to it: on the threads outside, in the queue of a core that is gone, and
//! where code of an id panics while the message's place is sought.

use super::events::DeadLetter;
use super::handle::Gate;
use super::job::{CoreJob, call};
use super::local::Local;
use super::published::shown_receiver;
use super::reference::Receiver;
use super::refusal::Rejection;
use super::reply;
use crate::base::ids::CoreId;
use std::any::type_name;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// Messages that got into no core, by reason: dead letters for which no core can count.
#[derive(Default)]
pub(crate) struct Lost([AtomicU64; Rejection::ALL.len()]);

impl Lost {
    /// How many for each reason, in the order of [`Rejection::ALL`].
    pub(crate) fn by_reason(&self) -> [u64; Rejection::ALL.len()] {
        std::array::from_fn(|why| self.0[why].load(Ordering::Relaxed))
    }
}

impl Gate {
    /// Refuses a job that was let in, to a core that is gone. If it is a message, that is a dead letter.
    pub(super) fn lose(&self, job: CoreJob, why: Rejection) {
        if let Some((receiver, message)) = job.dead_letter() {
            self.dead_letter(receiver, why, message);
        }
        job.reject(why);
    }

    /// Counts and publishes a message that got into no core. A core that still has room tells the subscribers on the cores.
    pub(super) fn dead_letter(
        &self,
        receiver: Receiver<'_>,
        reason: Rejection,
        message: &'static str,
    ) {
        self.lost().0[reason as usize].fetch_add(1, Ordering::Relaxed);
        let topic = self.topics().topic::<DeadLetter>();
        if !topic.is_wanted() {
            return;
        }
        let letter = DeadLetter {
            reason,
            message,
            receiver: shown_receiver(receiver, |entity_type| entity_type.to_string()),
            core: None,
        };
        let mut dropped = topic.put_out(&letter);
        if topic.is_wanted_on_any() {
            let entered = (0..self.data_cores() as u16).any(|core| {
                let letter = letter.clone();
                let publish = move |local: &mut Local| local.publish_to_cores(letter);
                self.submit_event(CoreId(core), call(publish))
            });
            dropped += u64::from(!entered);
        }
        self.topics().count_dropped(dropped);
    }
}

thread_local! {
    /// The names of the types of messages that were lost in a panic on this core.
    static UNWOUND: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// Notes that a message is lost, unless it is forgotten before it is dropped, as it is when nothing panics.
struct Unwinds<M>(PhantomData<M>);

impl<M> Drop for Unwinds<M> {
    #[cold]
    fn drop(&mut self) {
        UNWOUND.with_borrow_mut(|names| names.push(type_name::<M>()));
        reply::note();
    }
}

/// Runs code of an id on the way of a message, with which that is lost if it panics. It costs nothing if it does not.
#[inline(always)]
pub(super) fn on_the_way_of<M, T>(work: impl FnOnce() -> T) -> T {
    let unwinds = Unwinds::<M>(PhantomData);
    let result = work();
    std::mem::forget(unwinds);
    result
}

/// The messages that were lost in panics on this core since the last call, by the names of their types.
pub(super) fn take_unwound() -> Vec<&'static str> {
    UNWOUND.with_borrow_mut(std::mem::take)
}
