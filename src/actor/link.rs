//! What one core has for one other node: frames that wait to be sent, and the asks that have left with frames.
//!
//! Everything of the core for that node goes through here in one order. The bytes are bounded ([`LinkBounds`]): beyond
//! them a call is refused. Answers have room of their own on top, since whoever asked has no other way to hear.
//!
//! A frame that may leave is copied to the connection, and stays here until that has given all of it to the network. So when
//! the connection breaks it is certain of each frame whether it has left. What has not is a dead letter, its ask is
//! *rejected*; of what has left nobody knows what became of it.

use super::reply::ReplyAddress;
use crate::wire::address::{Address, Life, Target};
use crate::wire::frame::FrameRef;
use crate::wire::kind::{Kind, Plane};
use crate::wire::limits::FrameLimits;
use crate::wire::writer::FrameWriter;
use std::collections::VecDeque;

/// The bounds of what a core has for each other node, and of what it holds of frames that came.
///
/// Worst case in memory, for each core: `4 x max(buffer_bytes, frame_bytes)` for each other node, and `held_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkBounds {
    /// The largest frame, in bytes with its header; the same on all nodes of a cluster (default 16 MiB).
    pub frame_bytes: usize,
    /// How many bytes may wait for one node (default 1 MiB); beyond them sends are refused as `LinkFull`. One frame may
    /// always wait, however large. Too low costs throughput over long distances; too high, and messages to a node that
    /// does not keep up grow old.
    pub buffer_bytes: usize,
    /// How many bytes of frames from other nodes may wait for a shard that moves or has no owner, or be on their way to
    /// other cores (default 64 MiB); beyond them they are refused.
    pub held_bytes: usize,
    /// Asks of other nodes that are open on a core at most (default 1,000,000); beyond them asks are refused.
    pub remote_asks: usize,
}

impl Default for LinkBounds {
    fn default() -> LinkBounds {
        LinkBounds {
            frame_bytes: 16 << 20,
            buffer_bytes: 1 << 20,
            held_bytes: 64 << 20,
            remote_asks: 1_000_000,
        }
    }
}

impl LinkBounds {
    fn of_writer(&self) -> FrameLimits {
        FrameLimits {
            frame_bytes: self.frame_bytes,
            // The other half is for answers.
            write_buffer_bytes: self.buffer_bytes.saturating_mul(2),
            ..FrameLimits::default()
        }
    }
}

/// What a frame is that waits to be sent.
#[derive(Clone, Copy)]
pub(crate) enum Waiting {
    /// A message to an entity of this type here, or to an actor.
    Tell(Option<u16>),
    /// The same, of an ask or an acknowledged send, which was opened here.
    Ask(Option<u16>, ReplyAddress),
    /// A frame of another node that is passed on.
    Forwarded,
    /// A reply.
    Reply,
    /// Of no consequence if it is lost.
    Notice,
    /// About watches, between this core and that life of the node; if it is lost, that is said again.
    Watch(Life),
}

/// What was written in a turn and does not leave.
pub(crate) struct TakenBack {
    pub(crate) frames: Vec<Waiting>,
    /// The asks that were to leave with it.
    pub(crate) entrusted: VecDeque<ReplyAddress>,
    /// Who waits for something of what was to be passed on, and what each was for.
    pub(crate) passed_on: Vec<(Address, Target)>,
}

/// What is known of the connection of a link that is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// It is gone, and has said what it has given to the network.
    Gone,
    /// It may be there, and go on writing what it was lent.
    MayWrite,
}

/// One core's way to one life of another node.
pub(crate) struct Link {
    pub(crate) life: Life,
    pub(crate) writer: FrameWriter,
    /// What lies in the writer, in order, each with its bytes.
    waiting: VecDeque<(u32, Waiting)>,
    /// Frames and bytes that may be sent: those of whole turns.
    flushed: (usize, usize),
    /// Of these, those that lie in the connection, too.
    lent: (usize, usize),
    /// How many frames have been in here and are not any more, since there is a link to this life.
    gone: u64,
    /// Asks that have gone out in frames, in order. Some have ended since.
    entrusted: VecDeque<ReplyAddress>,
    /// How many of the last of them went into frames of this turn.
    unflushed: usize,
    /// At this length those that have ended are sought out.
    prune_at: usize,
}

/// How many asks are kept before those that have ended are sought out.
const LEAST_PRUNED: usize = 256;

impl Link {
    pub(crate) fn new(life: Life, bounds: &LinkBounds) -> Link {
        Link {
            life,
            writer: FrameWriter::new(bounds.of_writer()),
            waiting: VecDeque::new(),
            flushed: (0, 0),
            lent: (0, 0),
            gone: 0,
            entrusted: VecDeque::new(),
            unflushed: 0,
            prune_at: LEAST_PRUNED,
        }
    }

    /// Whether a call may have its message wait here.
    pub(crate) fn has_room(&self, bounds: &LinkBounds) -> bool {
        self.writer.pending().len() < bounds.buffer_bytes
    }

    /// A frame of that length was written.
    pub(crate) fn wrote(&mut self, length: usize, what: Waiting) {
        self.waiting.push_back((length as u32, what));
    }

    /// What has been written so far may leave. Returns whether there is more of it than before.
    pub(crate) fn flush(&mut self) -> bool {
        let all = (self.waiting.len(), self.writer.pending().len());
        self.unflushed = 0;
        std::mem::replace(&mut self.flushed, all).0 < all.0
    }

    /// The whole frames that may leave and are not in the connection yet.
    pub(crate) fn outgoing(&self) -> &[u8] {
        &self.writer.pending()[self.lent.1..self.flushed.1]
    }

    /// Whether nothing waits that may leave or is about to.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Names what has been written so far, for [`has_gone`](Link::has_gone).
    pub(crate) fn written(&self) -> u64 {
        self.gone + self.waiting.len() as u64
    }

    /// Whether what was written so far at some time is not here any more.
    pub(crate) fn has_gone(&self, written: u64) -> bool {
        self.waiting.is_empty() || self.gone >= written
    }

    /// The connection has copied the first of the [outgoing](Link::outgoing) frames: so many, of so many bytes.
    pub(crate) fn lend(&mut self, frames: usize, bytes: usize) {
        self.lent = (self.lent.0 + frames, self.lent.1 + bytes);
        debug_assert!(
            self.lent <= self.flushed && self.lent.1 <= self.flushed.1,
            "nothing leaves before it may"
        );
    }

    /// The connection has given so many more frames to the network. Returns how many of them were known here.
    pub(crate) fn left(&mut self, frames: usize) -> usize {
        let frames = frames.min(self.lent.0);
        let gone = self.waiting.drain(..frames);
        let bytes = gone.map(|(length, _)| length as usize).sum();
        self.writer.sent(bytes);
        self.flushed = (self.flushed.0 - frames, self.flushed.1 - bytes);
        self.lent = (self.lent.0 - frames, self.lent.1 - bytes);
        self.gone += frames as u64;
        frames
    }

    /// An ask has gone out in a frame. Returns whether it is time to seek out those that have ended.
    pub(crate) fn entrust(&mut self, asks: &[ReplyAddress]) -> bool {
        self.entrusted.extend(asks);
        self.unflushed += asks.len();
        self.entrusted.len() >= self.prune_at
    }

    /// Forgets asks that have ended. Of those of other cores nobody here knows; they end by their deadlines at the latest,
    /// and the oldest make room.
    pub(crate) fn prune(&mut self, most: usize, mut is_open: impl FnMut(&ReplyAddress) -> bool) {
        let mut of_turn = self.take_unflushed();
        self.entrusted.retain(&mut is_open);
        of_turn.retain(is_open);
        self.unflushed = of_turn.len();
        self.entrusted.extend(of_turn);
        let surplus = self.entrusted.len().saturating_sub(most);
        self.entrusted.drain(..surplus);
        self.unflushed = self.unflushed.min(self.entrusted.len());
        self.prune_at = (self.entrusted.len() * 2).max(LEAST_PRUNED);
    }

    /// The link is given up: what has not left as a whole, and the asks of which nobody knows any more. What the connection has
    /// been lent may have left unless that is gone as well.
    pub(crate) fn lose(
        &mut self,
        bounds: &LinkBounds,
        connection: Connection,
    ) -> (Vec<Waiting>, Vec<ReplyAddress>) {
        let unsure = self.unsure(connection);
        let anew = Link {
            gone: self.gone + self.waiting.len() as u64,
            ..Link::new(self.life, bounds)
        };
        let lost = std::mem::replace(self, anew);
        let waiting = lost.waiting.into_iter().skip(unsure);
        let waiting = waiting.map(|(_, what)| what);
        (waiting.collect(), lost.entrusted.into())
    }

    /// How many of the frames here may leave all the same when the link is given up.
    pub(crate) fn unsure(&self, connection: Connection) -> usize {
        match connection {
            Connection::Gone => 0,
            Connection::MayWrite => self.lent.0,
        }
    }

    /// Who waits for something of the frames that were passed on and have not left as a whole, but for the first so many, and what
    /// each was for.
    pub(crate) fn passed_on(&self, first: usize) -> Vec<(Address, Target)> {
        let mut rest = self.writer.pending();
        let mut passed_on = Vec::new();
        for (number, (length, what)) in self.waiting.iter().enumerate() {
            let Some((bytes, behind)) = rest.split_at_checked(*length as usize) else {
                break;
            };
            rest = behind;
            if number >= first
                && matches!(what, Waiting::Forwarded)
                && let Ok(frame) = FrameRef::parse(bytes, Plane::Data, FrameLimits::MOST)
                && matches!(frame.kind(), Kind::Ask | Kind::Send)
                && let Some(origin) = frame.header().address
            {
                passed_on.push((origin, frame.header().target));
            }
        }
        passed_on
    }

    fn take_unflushed(&mut self) -> VecDeque<ReplyAddress> {
        let before = self.entrusted.len() - std::mem::take(&mut self.unflushed);
        self.entrusted.split_off(before)
    }

    /// What was written since the last flush does not leave: the writer goes back to where it was then.
    pub(crate) fn take_back_unflushed(&mut self) -> TakenBack {
        let passed_on = self.passed_on(self.flushed.0);
        self.writer.truncate(self.flushed.1);
        let gone = self.waiting.drain(self.flushed.0..);
        let gone = gone.map(|(_, what)| what).collect();
        TakenBack {
            frames: gone,
            entrusted: self.take_unflushed(),
            passed_on,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{CoreId, EntityTypeId, Epoch, Incarnation, NodeId, ShardId, ShardKey};
    use crate::wire::address::Sender;
    use crate::wire::header::Header;
    use crate::wire::message::TypeTag;

    /// Three asks of another node that are passed on; a connection has been lent the first.
    fn link() -> Link {
        let life = |node| Life::new(NodeId(node), Incarnation(1));
        let mut link = Link::new(life(2), &LinkBounds::default());
        for place in 0..3 {
            let key = ShardKey {
                entity_type: EntityTypeId(0),
                shard: ShardId(0),
            };
            let target = Target::Shard {
                key,
                epoch: Epoch(1),
            };
            let sender = Sender {
                life: life(3),
                core: CoreId(0),
                stream: 0,
            };
            let header = Header {
                tag: TypeTag {
                    fingerprint: 1,
                    version: 1,
                },
                address: Some(Address {
                    life: life(3),
                    core: CoreId(0),
                    place,
                    table: 0,
                }),
                ..Header::new(Kind::Ask, target, sender)
            };
            let length = link.writer.write_bytes(&header, b"id", b"message");
            link.wrote(length.unwrap(), Waiting::Forwarded);
        }
        link.flush();
        let first = link.waiting[0].0 as usize;
        link.lend(1, first);
        link
    }

    /// A node is no member any more, and the connection to it still writes: what it was lent may arrive, and is not refused.
    #[test]
    fn what_a_connection_may_still_write_is_not_called_unsent() {
        for (connection, unsent) in [(Connection::Gone, 3), (Connection::MayWrite, 2)] {
            let mut link = link();
            assert_eq!(link.passed_on(link.unsure(connection)).len(), unsent);
            let (waiting, _) = link.lose(&LinkBounds::default(), connection);
            assert_eq!(waiting.len(), unsent);
            assert!(link.is_empty());
        }
    }
}
