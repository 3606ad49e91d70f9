//! Watches between nodes: what comes in frames. What this node says of them itself is in `remote_watch`.

use super::ending::StopCause;
use super::entity_watch::EntitySignal;
use super::local::Local;
use super::reason_codes::cause_of;
use super::reference::CellRef;
use super::refusal::{AskError, Rejection};
use super::remote_watch::life_of;
use super::signals::Signal;
use super::watches::{Target as Watched, WatchId};
use crate::base::ids::CoreId;
use crate::wire::address::{Address, Life, Target};
use crate::wire::flags::Flags;
use crate::wire::frame::FrameRef;
use crate::wire::kind::Kind;

/// Who watches, as a frame says it.
fn watcher_of(address: Address) -> WatchId {
    WatchId {
        life: address.life,
        core: address.core,
        number: address.place,
    }
}

/// What a frame for an entity says about a watch of it.
pub(super) fn entity_signal_of(frame: &FrameRef<'_>) -> Option<EntitySignal> {
    let by = watcher_of(frame.header().address?);
    match frame.kind() {
        Kind::Watch => Some(EntitySignal::Watch(by)),
        Kind::Unwatch => Some(EntitySignal::Unwatch(by)),
        _ => None,
    }
}

impl Local {
    /// Whether a frame is of a watch that is over, or of somebody whom nobody could tell of an end.
    pub(super) fn is_stale_watch(&mut self, frame: &FrameRef<'_>) -> bool {
        let header = frame.header();
        let (Kind::Watch | Kind::Unwatch, Some(address)) = (header.kind, header.address) else {
            return false;
        };
        if address.life != header.sender.life {
            self.senseless(frame, "a watch for somebody else");
            return true;
        }
        if !self.knows_member(address.life) {
            // It is told when it has become known here.
            if !self.watches.far.was_member(address.life) {
                self.watches.far.has_dropped(address.life);
            }
            return true;
        }
        // What was announced before is about to be forgotten there, and this would be, too.
        self.release_detained();
        let Address {
            life, core, table, ..
        } = address;
        !header.flags.contains(Flags::FORWARDED) && self.watches.far.is_stale(life, core, table)
    }

    /// Takes a frame about watches.
    pub(super) fn take_watch_frame(&mut self, frame: FrameRef<'_>, by: Life) {
        let header = *frame.header();
        let Some(address) = header.address else {
            return;
        };
        let is_own = address.life == self.wire_life() && address.core.index() < self.port.cores();
        let from = header.sender;
        let is_sender = address.life == from.life;
        match (header.kind, header.target) {
            (Kind::Watch | Kind::Unwatch, Target::Shard { .. }) => self.take_request(&frame, by),
            (Kind::Watch | Kind::Unwatch, Target::Actor { .. }) => self.take_actor_watch(&frame),
            (Kind::Terminated, _) if is_own => {
                let number = address.place;
                let cause = header.reason.and_then(cause_of);
                if address.core == self.core {
                    self.terminated_by(number, cause, from.life);
                } else if self.room_towards(address.core).is_ok() {
                    let signal = Signal::Terminated {
                        number,
                        cause,
                        from: from.life,
                    };
                    self.signal_in_order(address.core, signal);
                } else {
                    // Who is announced there again hears of it again.
                    self.rewatch_at(address.core, from.life, Some(from.core));
                }
            }
            (Kind::Rewatch, _) if is_own => {
                let number = address.place;
                if address.core == self.core {
                    self.watch_bounced(number);
                } else if self.room_towards(address.core).is_ok() {
                    self.signal(address.core, Signal::Bounced { number });
                } else {
                    self.rewatch_at(address.core, from.life, Some(from.core));
                }
            }
            (Kind::Rewatch, _) if is_sender => {
                let life = address.life;
                let core = (address.table == 0).then_some(address.core);
                for to in self.other_cores() {
                    self.rewatch_at(to, life, core);
                }
                self.watch_again(life, core);
            }
            (Kind::Forget, _) if is_sender => {
                let Address {
                    life, core, table, ..
                } = address;
                if self.knows_member(life) && self.watches.far.begin_round(life, core, table) {
                    self.forget_everywhere(life, core);
                }
            }
            _ => self.senseless(&frame, "a frame about watches of somebody else"),
        }
    }

    /// Somebody on another node watches an actor of this one, or does not any more.
    fn take_actor_watch(&mut self, frame: &FrameRef<'_>) {
        let header = *frame.header();
        let (
            Target::Actor {
                incarnation,
                core,
                cell,
            },
            Some(address),
        ) = (header.target, header.address)
        else {
            return;
        };
        if self.is_stale_watch(frame) {
            return;
        }
        let (by, target) = (watcher_of(address), CellRef::from_bits(cell));
        let is_watch = header.kind == Kind::Watch;
        let is_here =
            incarnation == self.wire_life().incarnation && core.index() < self.port.cores();
        match (is_watch, core == self.core) {
            (true, _) if !is_here => self.tell_terminated(by, None),
            (false, _) if !is_here => {}
            (true, true) => self.accept_watch(target, by),
            (false, true) => self.watches.remove_watcher(target, by),
            (true, false) if self.room_towards(core).is_err() => self.bounce(by),
            (false, false) if self.room_towards(core).is_err() => {
                self.forget_at(core, by.life, by.core);
                self.watches.far.wants_to_hear(by.life, Some(core));
            }
            (true, false) => self.signal_between(core, Signal::Watch { target, by }),
            (false, false) => self.signal_between(core, Signal::Unwatch { target, by }),
        }
    }

    /// The end of a watch of an entity found no room on its way here. Nobody says it again, so all that its core has
    /// announced is forgotten, and wanted anew.
    #[cold]
    pub(super) fn unwatch_refused(&mut self, frame: &FrameRef<'_>, why: AskError) {
        let AskError::Rejected(
            Rejection::OutboxFull
            | Rejection::Moving
            | Rejection::Unallocated
            | Rejection::StartFailed,
        ) = why
        else {
            return;
        };
        if let Some(Address { life, core, .. }) = frame.header().address
            && self.knows_member(life)
        {
            self.forget_everywhere(life, core);
            self.watches.far.wants_to_hear(life, None);
        }
    }

    /// A life of a node says that somebody who is watched from here has ended. It knows so of its own actors, and of
    /// entities, which may have been its own.
    pub(super) fn terminated_by(&mut self, number: u64, cause: Option<StopCause>, from: Life) {
        let may_know = match self.watches.target_of(number) {
            _ if from == self.own_life() => true,
            Some(Watched::Actor(actor)) => life_of(actor.home) == from,
            Some(Watched::Entity(_)) => self.watches.far.has_entity(number),
            None => false,
        };
        if may_know {
            self.end_elsewhere(number, from);
            self.terminated(number, cause);
        }
    }

    /// A life of a node says that somebody who was watched has ended. If the watch was announced to another one since, it is
    /// over there as well.
    pub(super) fn end_elsewhere(&mut self, number: u64, from: Life) {
        if let Some(placed) = self.watches.placed(number)
            && placed.life != from
        {
            self.unwatch_far(number, placed);
        }
    }

    /// A watch of this core was not taken where it was announced. One of an actor of this node never is announced.
    pub(super) fn watch_bounced(&mut self, number: u64) {
        match self.watches.target_of(number) {
            None => {}
            Some(Watched::Actor(actor)) if self.is_within(*actor) => {}
            Some(_) => {
                self.watches.far.bounced(number, self.now);
                self.see_to_watches_later();
            }
        }
    }

    /// Whether somebody's watch may be taken here. One of another node may be one too many, if it is not known already; it
    /// is tried again later.
    pub(super) fn may_watch_here(&mut self, target: CellRef, by: WatchId) -> bool {
        if self.watches.is_own(by) {
            return true;
        }
        let is_full = self.watches.foreign() >= self.limits.watches;
        if is_full && !self.watches.has_foreign(target, by) {
            self.bounce(by);
            return false;
        }
        self.watches.far.has_watcher(by.life);
        true
    }

    /// A core of another node, or each of them, wants to hear again who watches somebody on it.
    pub(super) fn watch_again(&mut self, life: Life, core: Option<CoreId>) {
        self.watches.far.asked_again(life, core);
    }
}
