//! What lies in a journal: numbered, typed, checksummed bytes.

use super::id::PersistenceId;
use crate::base::ids::Epoch;
use crate::base::stable_hash::stable_hash;
use crate::wire::archive::{ArchivedBytes, from_bytes, to_bytes};
use crate::wire::message::WireMessage;
use rkyv::rancor::Error;
use std::fmt;
use std::sync::Arc;

/// The number of an event among those of one persistence id; the first has 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl Sequence {
    /// Before the first event.
    pub const START: Sequence = Sequence(0);
    /// The first event.
    pub const FIRST: Sequence = Sequence(1);

    /// The number of the event after this one.
    #[must_use]
    pub fn next(self) -> Sequence {
        Sequence(self.0 + 1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One archived value, and of which type it is.
///
/// The bytes are shared: the same ones go to the journal and wherever else.
#[derive(Clone)]
pub struct Payload {
    /// The [fingerprint](WireMessage::fingerprint) of its type.
    pub fingerprint: u64,
    /// The [version](WireMessage::VERSION) of its type.
    pub version: u16,
    /// The archived value.
    pub bytes: Arc<ArchivedBytes>,
}

impl Payload {
    /// Archives a value.
    ///
    /// # Errors
    /// If the value cannot be archived.
    pub fn of<T: WireMessage>(value: &T) -> Result<Payload, Error> {
        Ok(Payload {
            fingerprint: T::fingerprint(),
            version: T::VERSION,
            bytes: Arc::new(to_bytes(value)?),
        })
    }

    /// Validates and reads the value; `None` if it is of another type, or of another version of this one.
    ///
    /// # Errors
    /// If it is of this type, and its bytes are not an archive of one.
    pub fn read<T: WireMessage>(&self) -> Result<Option<T>, Error> {
        if self.fingerprint != T::fingerprint() {
            return Ok(None);
        }
        from_bytes::<T>(&self.bytes).map(Some)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload")
            .field("fingerprint", &self.fingerprint)
            .field("version", &self.version)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// One event in its place, or as a snapshot: the state after the event of that number.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its number.
    pub sequence: Sequence,
    /// The epoch of the shard whose owner wrote it; 0 if a plain actor did.
    pub epoch: Epoch,
    /// The event, or the state.
    pub payload: Payload,
    /// Over all of it and the id to which it belongs.
    pub checksum: u64,
}

impl Record {
    /// A record of `id`, with its checksum.
    #[must_use]
    pub fn new(id: &PersistenceId, sequence: Sequence, epoch: Epoch, payload: Payload) -> Record {
        let checksum = checksum(id, sequence, epoch, &payload);
        Record {
            sequence,
            epoch,
            payload,
            checksum,
        }
    }

    /// Whether this is what was written, by `id` and under this number.
    #[must_use]
    pub fn is_intact(&self, id: &PersistenceId) -> bool {
        self.checksum == checksum(id, self.sequence, self.epoch, &self.payload)
    }
}

fn checksum(id: &PersistenceId, sequence: Sequence, epoch: Epoch, payload: &Payload) -> u64 {
    let words = [
        id.stable_hash(),
        sequence.0,
        epoch.0,
        payload.fingerprint,
        payload.version.into(),
        stable_hash(&payload.bytes),
    ];
    stable_hash(words.map(u64::to_le_bytes).as_flattened())
}
