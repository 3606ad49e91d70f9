//! Stopping actors of other nodes, in order with the messages for them.
//!
//! A stop travels as messages do: it may wait where answers may, beyond the room for messages, and like a message it may
//! get lost when the connection breaks. One that does not even leave counts as a dead letter, and so does one that finds no
//! room between two cores of the node of the actor.

use super::link::Waiting;
use super::local::Local;
use super::reference::{AnyActorRef, CellRef, Receiver};
use super::refusal::Rejection;
use super::remote_watch::{actor_target, life_of};
use super::signals::Signal;
use crate::wire::address::Target;
use crate::wire::error::WriteError;
use crate::wire::frame::FrameRef;
use crate::wire::kind::Kind;

/// What is counted in place of a message.
const STOP: &str = "a stop of an actor of another node";

impl Local {
    /// Asks an actor that is not of this runtime to stop. One of a life that is over has stopped.
    #[cold]
    #[inline(never)]
    pub(super) fn stop_elsewhere(&mut self, actor: AnyActorRef) {
        let life = life_of(actor.home);
        let header = self.header(Kind::Stop, actor_target(actor));
        let Some(remote) = &mut self.remote else {
            return;
        };
        if life.node == remote.life.node {
            return;
        }
        let why = match remote.link(life.node, None) {
            Some(link) if link.life == life => match link.writer.write_bytes(&header, &[], &[]) {
                Ok(length) => {
                    link.wrote(length, Waiting::Tell(None));
                    return self.count_written(length);
                }
                Err(WriteError::Full { .. }) => Rejection::LinkFull,
                Err(_) => Rejection::TooLarge,
            },
            Some(_) => Rejection::OldIncarnation,
            None => Rejection::LinkLost,
        };
        let receiver = Receiver::Actor(actor.home, actor.core, actor.cell);
        self.note_dead_letter(receiver, why, STOP);
    }

    /// Takes a stop from another node.
    pub(super) fn take_stop(&mut self, frame: &FrameRef<'_>) {
        let Target::Actor {
            incarnation,
            core,
            cell,
        } = frame.header().target
        else {
            return self.senseless(frame, "a stop of an entity");
        };
        if core.index() >= self.port.cores() {
            return self.senseless(frame, "a core that this node does not have");
        }
        if incarnation != self.wire_life().incarnation {
            return self.count_refused_frame();
        }
        let target = CellRef::from_bits(cell);
        if core == self.core {
            self.stop_cell(target);
        } else if let Err(why) = self.room_towards(core) {
            self.count_refused_frame();
            self.note_dead_letter(Receiver::Unknown, why, STOP);
        } else {
            self.signal_between(core, Signal::Stop { target });
        }
    }

    /// Stops whoever lives in a cell of this core behind the messages that it has.
    pub(super) fn stop_cell(&mut self, target: CellRef) {
        if let Some(ops) = self.mailbox_ops(target) {
            (ops.stop)(self, target);
        }
    }
}
