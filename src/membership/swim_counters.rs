//! What the datagram side has seen so far.

use crate::membership::datagram::DatagramError;

/// Counts since the start. Every datagram that came is in `received` and, if nothing was made of it, in one of the
/// `refused_` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwimCounters {
    /// Datagrams that came.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Datagrams that were sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Refused: not a datagram of ours at all, or damaged.
    pub refused_garbage: u64,
    /// Refused: another version of the format.
    pub refused_version: u64,
    /// Refused: another cluster.
    pub refused_cluster: u64,
    /// Refused: of a life that has ended.
    pub refused_dead: u64,
    /// Refused: of somebody with this node's id.
    pub refused_same_id: u64,
    /// Refused: for another node, or another life of this one.
    pub refused_misdirected: u64,
    /// Updates left out of datagrams that were taken: about lives that have ended, or about this node by mistake.
    pub stale_updates: u64,
    /// Updates left out because there are as many nodes as the settings allow.
    pub updates_without_room: u64,
    /// How often others have suspected this node, which it has denied.
    pub suspected: u64,
    /// How often others have called this node dead falsely.
    pub renewals: u64,
    /// How often this node was late enough to doubt its verdicts.
    pub stalls: u64,
    /// Errors of foca, which should never be.
    pub internal: u64,
}

impl SwimCounters {
    pub(super) fn refused(&mut self, error: &DatagramError) {
        *match error {
            DatagramError::Version { .. } => &mut self.refused_version,
            DatagramError::Cluster { .. } => &mut self.refused_cluster,
            DatagramError::DeadIncarnation { .. } => &mut self.refused_dead,
            DatagramError::FromOurselves { .. } => &mut self.refused_same_id,
            DatagramError::Misdirected { .. } => &mut self.refused_misdirected,
            DatagramError::TooLong { .. }
            | DatagramError::Foreign
            | DatagramError::Checksum
            | DatagramError::Truncated { .. }
            | DatagramError::Unknown { .. }
            | DatagramError::Trailing { .. }
            | DatagramError::NoAddress { .. }
            | DatagramError::NoRoom => &mut self.refused_garbage,
        } += 1;
    }
}
