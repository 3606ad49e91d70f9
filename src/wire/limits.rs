//! How large frames and their buffers may be.

/// The bounds of one connection. Worst case in memory: `read_buffer_bytes + frame_bytes` for reading, but no more than
/// `read_buffer_bytes` and three times what the peer has really sent of a frame; and twice the larger of
/// `write_buffer_bytes` and `frame_bytes` for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// The largest frame, in bytes with its header; 16 MiB. It must be the same on all nodes of a cluster, which the
    /// handshake sees to. Too low, and large messages are refused at their sender; too high, and a peer that sends that
    /// much can make each connection hold that much.
    pub frame_bytes: usize,
    /// How many bytes may wait to be sent on a connection; 1 MiB. Beyond that frames are refused, so too low costs
    /// throughput over long distances; too high, and a peer that does not read holds that much memory, and the messages in
    /// it grow old. One frame may always wait, however large.
    pub write_buffer_bytes: usize,
    /// The room for reading, at least 4096; 64 KiB. It grows for a larger frame and shrinks again. Too low costs system
    /// calls, too high costs memory for each connection.
    pub read_buffer_bytes: usize,
}

impl Default for FrameLimits {
    fn default() -> Self {
        FrameLimits {
            frame_bytes: 16 << 20,
            write_buffer_bytes: 1 << 20,
            read_buffer_bytes: 64 << 10,
        }
    }
}

/// A limit that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is {value} bytes; it must be from {least} to {most}")]
pub struct LimitError {
    /// The field of [`FrameLimits`].
    pub name: &'static str,
    /// Its value.
    pub value: usize,
    /// The least that it may be.
    pub least: usize,
    /// The most that it may be.
    pub most: usize,
}

impl FrameLimits {
    /// The least size of any of them.
    pub const LEAST: usize = 4 << 10;
    /// The most: lengths on the wire have 32 bits, and an archive addresses 31.
    pub const MOST: usize = 1 << 30;

    /// Checks each limit.
    ///
    /// # Errors
    /// Names the first that is out of its range.
    pub fn check(&self) -> Result<(), LimitError> {
        for (name, value) in [
            ("frame_bytes", self.frame_bytes),
            ("write_buffer_bytes", self.write_buffer_bytes),
            ("read_buffer_bytes", self.read_buffer_bytes),
        ] {
            if !(Self::LEAST..=Self::MOST).contains(&value) {
                return Err(LimitError {
                    name,
                    value,
                    least: Self::LEAST,
                    most: Self::MOST,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_out_of_range_are_named() {
        assert_eq!(FrameLimits::default().check(), Ok(()));
        let limits = FrameLimits {
            read_buffer_bytes: 16,
            ..FrameLimits::default()
        };
        assert_eq!(
            limits.check().unwrap_err().to_string(),
            "`read_buffer_bytes` is 16 bytes; it must be from 4096 to 1073741824"
        );
    }
}
