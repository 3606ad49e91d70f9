//! How the machine sends and takes snapshots.

use std::sync::Arc;

use raft::SnapshotStatus;
use raft::prelude::{Message as Raft, MessageType};

use super::convert;
use super::machine::Consensus;
use super::message::{Body, Chunk, ChunkReceived};
use super::output::StepError;
use super::peer::PeerId;
use super::transfer::{Ended, Took};

impl Consensus {
    pub(super) fn send_snapshot(&mut self, to: PeerId, message: &Raft) {
        let index = message.get_snapshot().get_metadata().index;
        let latest = self.raft.store().latest_snapshot().cloned();
        match latest.filter(|latest| latest.meta.index == index) {
            Some(snapshot) => {
                for chunk in self.outgoing.begin(to, snapshot, message.term, self.now) {
                    self.send(to, Body::Chunk(chunk));
                }
            }
            None => self
                .raft
                .report_snapshot(to.number(), SnapshotStatus::Failure),
        }
    }

    pub(super) fn chunk_received(&mut self, from: PeerId, received: ChunkReceived) {
        let (chunks, ended) = self.outgoing.received(from, received, self.now);
        for chunk in chunks {
            self.send(from, Body::Chunk(chunk));
        }
        let status = match ended {
            None => return,
            Some(Ended::Finished) => SnapshotStatus::Finish,
            Some(Ended::Failed) => SnapshotStatus::Failure,
        };
        self.raft.report_snapshot(from.number(), status);
    }

    pub(super) fn take_chunk(&mut self, from: PeerId, chunk: Chunk) -> Result<(), StepError> {
        let (term, index) = (chunk.term, chunk.meta.index);
        if term < self.raft.raft.term {
            return Ok(());
        }
        if term == self.raft.raft.term && self.led.is_self {
            return Err(StepError::TwoLeaders { peer: from, term });
        }
        let total = chunk.total;
        let (received, refused) = match self.incoming.take(from, chunk) {
            Took::Stale => return Ok(()),
            Took::Refused => (0, true),
            Took::Part(received) => (received, false),
            Took::Whole(snapshot) => {
                if let Err(why) = snapshot.open() {
                    return Err(StepError::Snapshot { peer: from, why });
                }
                let mut message = Raft::default();
                message.set_msg_type(MessageType::MsgSnapshot);
                message.from = from.number();
                message.to = self.identity.peer.number();
                message.term = term;
                message.set_snapshot(convert::snapshot_to_raft(&snapshot.meta));
                self.arrived = Some(Arc::new(snapshot));
                self.step_into_raft(from, message)?;
                (total, false)
            }
        };
        let answer = ChunkReceived {
            term,
            index,
            received,
            refused,
        };
        self.send(from, Body::ChunkReceived(answer));
        Ok(())
    }
}
