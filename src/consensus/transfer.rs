//! Snapshots on their way from one peer to another, in pieces.
//!
//! The sender keeps a window of pieces on their way. The receiver takes them in order and says how far it has come; a
//! piece that does not continue what it has is answered with where to go on. One that makes no progress for too long is
//! given up, and raft-rs is told, for it would wait for ever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::entry::{Snapshot, SnapshotMeta};
use super::message::{Chunk, ChunkReceived};
use super::peer::PeerId;
use super::settings::ConsensusSettings;
use crate::base::time::Time;

/// Snapshots that this peer sends, at most one to each follower.
pub(super) struct Outgoing {
    chunk: usize,
    window: usize,
    timeout: Duration,
    to: BTreeMap<PeerId, Sending>,
}

struct Sending {
    snapshot: Arc<Snapshot>,
    term: u64,
    /// How much has been sent, and how much has come.
    sent: usize,
    received: usize,
    last_progress: Time,
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Finished,
    Failed,
}

impl Outgoing {
    pub(super) fn new(settings: &ConsensusSettings) -> Outgoing {
        Outgoing {
            chunk: settings.chunk_bytes,
            window: settings.chunk_bytes.saturating_mul(settings.chunk_window),
            timeout: settings.snapshot_timeout,
            to: BTreeMap::new(),
        }
    }

    /// Begins to send; the first pieces come back.
    pub(super) fn begin(
        &mut self,
        to: PeerId,
        snapshot: Arc<Snapshot>,
        term: u64,
        now: Time,
    ) -> Vec<Chunk> {
        let sending = Sending {
            snapshot,
            term,
            sent: 0,
            received: 0,
            last_progress: now,
        };
        self.to.insert(to, sending);
        self.pieces(to)
    }

    /// The receiver has come so far. What follows is sent, or the transfer ends.
    pub(super) fn received(
        &mut self,
        from: PeerId,
        message: ChunkReceived,
        now: Time,
    ) -> (Vec<Chunk>, Option<Ended>) {
        let Some(sending) = self.to.get_mut(&from) else {
            return (Vec::new(), None);
        };
        let length = sending.snapshot.data.len();
        let received = usize::try_from(message.received).unwrap_or(usize::MAX);
        let of = (sending.term, sending.snapshot.meta.index);
        if of != (message.term, message.index) || received > length {
            return (Vec::new(), None);
        }
        if message.refused || received == length {
            self.to.remove(&from);
            let ended = if message.refused {
                Ended::Failed
            } else {
                Ended::Finished
            };
            return (Vec::new(), Some(ended));
        }
        if received > sending.received {
            sending.last_progress = now;
        } else {
            // Something was lost: from there again.
            sending.sent = received;
        }
        sending.received = received;
        sending.sent = sending.sent.max(received);
        (self.pieces(from), None)
    }

    fn pieces(&mut self, to: PeerId) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let Some(sending) = self.to.get_mut(&to) else {
            return chunks;
        };
        let data = &sending.snapshot.data;
        let until = data.len().min(sending.received.saturating_add(self.window));
        while sending.sent < until {
            let end = until.min(sending.sent + self.chunk);
            chunks.push(Chunk {
                term: sending.term,
                meta: sending.snapshot.meta.clone(),
                total: data.len() as u64,
                offset: sending.sent as u64,
                bytes: data[sending.sent..end].to_vec(),
            });
            sending.sent = end;
        }
        chunks
    }

    /// Gives up what makes no progress, and everything of another term.
    pub(super) fn expire(&mut self, now: Time, term: Option<u64>) -> Vec<PeerId> {
        let timeout = self.timeout;
        let mut failed = Vec::new();
        self.to.retain(|to, sending| {
            let alive = Some(sending.term) == term && now - sending.last_progress < timeout;
            if !alive {
                failed.push(*to);
            }
            alive
        });
        failed
    }
}

/// The snapshot that this peer receives, one at most.
pub(super) struct Incoming {
    max: u64,
    current: Option<Receiving>,
}

struct Receiving {
    from: PeerId,
    term: u64,
    meta: SnapshotMeta,
    total: u64,
    bytes: Vec<u8>,
}

/// What to do with a piece.
#[derive(Debug, PartialEq)]
pub(super) enum Took {
    /// Say how far it has come.
    Part(u64),
    /// It is all here.
    Whole(Snapshot),
    /// It is too large.
    Refused,
    /// It is older than what is being received.
    Stale,
}

impl Incoming {
    pub(super) fn new(settings: &ConsensusSettings) -> Incoming {
        Incoming {
            max: settings.max_snapshot_bytes,
            current: None,
        }
    }

    /// Takes a piece.
    pub(super) fn take(&mut self, from: PeerId, chunk: Chunk) -> Took {
        if chunk.total > self.max {
            return Took::Refused;
        }
        let same = |receiving: &Receiving| {
            (receiving.from, receiving.term, receiving.total) == (from, chunk.term, chunk.total)
                && receiving.meta == chunk.meta
        };
        let newer = |receiving: &Receiving| {
            (receiving.term, receiving.meta.index) > (chunk.term, chunk.meta.index)
        };
        match &self.current {
            Some(receiving) if newer(receiving) => return Took::Stale,
            Some(receiving) if same(receiving) => {}
            _ => {
                self.current = Some(Receiving {
                    from,
                    term: chunk.term,
                    meta: chunk.meta.clone(),
                    total: chunk.total,
                    // As it comes, not as it is announced.
                    bytes: Vec::new(),
                });
            }
        }
        let Some(receiving) = &mut self.current else {
            return Took::Stale;
        };
        if chunk.offset == receiving.bytes.len() as u64 {
            receiving.bytes.extend_from_slice(&chunk.bytes);
        }
        let received = receiving.bytes.len() as u64;
        if received < receiving.total {
            return Took::Part(received);
        }
        let Some(whole) = self.current.take() else {
            return Took::Stale;
        };
        Took::Whole(Snapshot {
            meta: whole.meta,
            data: whole.bytes.into(),
        })
    }

    /// Forgets what came from a leader of an earlier term.
    pub(super) fn forget_before(&mut self, term: u64) {
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.term < term)
        {
            self.current = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeId;
    use crate::base::rng::seeded;
    use crate::consensus::configuration::ConfigurationRecord;
    use crate::consensus::peer::DiskId;
    use rand::RngExt;

    fn peer(node: u32) -> PeerId {
        PeerId::new(NodeId(node), DiskId::from_number(1).unwrap())
    }

    fn snapshot(bytes: usize) -> Arc<Snapshot> {
        let configuration = ConfigurationRecord::default();
        let meta = SnapshotMeta {
            index: 5,
            term: 2,
            configuration,
        };
        let data = (0..bytes).map(|byte| byte as u8).collect();
        Arc::new(Snapshot { meta, data })
    }

    fn came(received: u64, refused: bool) -> ChunkReceived {
        ChunkReceived {
            term: 3,
            index: 5,
            received,
            refused,
        }
    }

    fn settings() -> ConsensusSettings {
        ConsensusSettings {
            chunk_bytes: 10,
            chunk_window: 3,
            max_snapshot_bytes: 500,
            ..ConsensusSettings::default()
        }
    }

    #[test]
    fn a_snapshot_arrives_whole_whatever_pieces_are_lost() {
        for seed in 0..200 {
            let mut rng = seeded(seed, 0);
            let sent = snapshot(rng.random_range(1..400));
            let (mut outgoing, mut incoming) =
                (Outgoing::new(&settings()), Incoming::new(&settings()));
            let mut now = Time::ZERO;
            let mut way = outgoing.begin(peer(2), Arc::clone(&sent), 3, now);
            let mut got = None;
            for _ in 0..500 {
                now = now + Duration::from_millis(10);
                assert!(way.len() <= 3);
                let mut answer = 0;
                for chunk in std::mem::take(&mut way) {
                    if rng.random_bool(0.3) {
                        continue;
                    }
                    match incoming.take(peer(1), chunk) {
                        Took::Part(received) => answer = received,
                        Took::Whole(snapshot) => got = Some(snapshot),
                        other => panic!("{other:?}"),
                    }
                }
                if got.is_some() {
                    break;
                }
                let (next, ended) = outgoing.received(peer(2), came(answer, false), now);
                assert_eq!(ended, None);
                way = next;
            }
            assert_eq!(got.as_ref(), Some(&*sent), "seed {seed}");
            let length = sent.data.len() as u64;
            let (_, ended) = outgoing.received(peer(2), came(length, false), now);
            assert_eq!(ended, Some(Ended::Finished));
        }
    }

    #[test]
    fn what_stands_still_is_given_up_and_what_is_too_large_refused() {
        let mut outgoing = Outgoing::new(&settings());
        let chunks = outgoing.begin(peer(2), snapshot(501), 3, Time::ZERO);
        let mut incoming = Incoming::new(&settings());
        assert_eq!(incoming.take(peer(1), chunks[0].clone()), Took::Refused);
        let (_, ended) = outgoing.received(peer(2), came(0, true), Time::ZERO);
        assert_eq!(ended, Some(Ended::Failed));

        outgoing.begin(peer(2), snapshot(50), 3, Time::ZERO);
        let late = Time::ZERO + settings().snapshot_timeout;
        assert_eq!(outgoing.expire(Time::ZERO, Some(3)), []);
        assert_eq!(outgoing.expire(late, Some(3)), [peer(2)]);
        outgoing.begin(peer(2), snapshot(50), 3, late);
        assert_eq!(outgoing.expire(late, None), [peer(2)], "it leads no more");
    }

    #[test]
    fn a_piece_of_an_older_term_does_not_disturb() {
        let mut incoming = Incoming::new(&settings());
        let [mut outgoing, mut other] = [(); 2].map(|()| Outgoing::new(&settings()));
        let old = outgoing.begin(peer(3), snapshot(25), 3, Time::ZERO);
        let new = other.begin(peer(3), snapshot(25), 4, Time::ZERO);
        assert_eq!(incoming.take(peer(1), old[0].clone()), Took::Part(10));
        assert_eq!(incoming.take(peer(2), new[0].clone()), Took::Part(10));
        assert_eq!(incoming.take(peer(1), old[1].clone()), Took::Stale);
        incoming.forget_before(5);
        assert_eq!(incoming.take(peer(1), old[1].clone()), Took::Part(0));
    }
}
