//! What messages carry beside their fixed fields.
//!
//! Payloads of 0, 16 and 64 bytes lie in the message. Every other size is a boxed slice: the sender allocates it and the
//! receiver frees it, often on another core, which is what a message with a `Vec` or a `String` in it costs as well.

use std::fmt::Debug;

/// Bytes to be carried.
pub(super) trait Payload: Debug + Send + Sized + 'static {
    /// So many bytes; an inline payload has its own size whatever is asked for.
    fn new(bytes: u32) -> Self;

    /// Reads it, as a receiver would.
    fn digest(&self) -> u64;
}

/// Bytes in the message itself.
#[derive(Debug)]
pub(super) struct Inline<const N: usize>([u8; N]);

/// Bytes beside the message.
#[derive(Debug)]
pub(super) struct Boxed(Box<[u8]>);

impl<const N: usize> Payload for Inline<N> {
    #[inline]
    fn new(_: u32) -> Self {
        Inline([7; N])
    }

    #[inline]
    fn digest(&self) -> u64 {
        sum(&self.0)
    }
}

impl Payload for Boxed {
    #[inline]
    fn new(bytes: u32) -> Self {
        Boxed(vec![7; bytes as usize].into_boxed_slice())
    }

    #[inline]
    fn digest(&self) -> u64 {
        sum(&self.0)
    }
}

/// One byte of each cache line: to have read it is the point.
#[inline]
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().step_by(64).map(|byte| u64::from(*byte)).sum()
}

/// Work that is compiled for each kind of payload.
pub(super) trait WithPayload {
    type Output;

    fn run<P: Payload>(self) -> Self::Output;
}

/// Does the work with the kind of payload that carries so many bytes.
pub(super) fn with_payload<W: WithPayload>(bytes: u32, work: W) -> W::Output {
    match bytes {
        0 => work.run::<Inline<0>>(),
        16 => work.run::<Inline<16>>(),
        64 => work.run::<Inline<64>>(),
        _ => work.run::<Boxed>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Digest(u32);

    impl WithPayload for Digest {
        type Output = u64;

        fn run<P: Payload>(self) -> u64 {
            P::new(self.0).digest()
        }
    }

    #[test]
    fn every_size_is_carried() {
        for (bytes, lines) in [
            (0, 0),
            (1, 1),
            (16, 1),
            (64, 1),
            (65, 2),
            (1 << 20, 1 << 14),
        ] {
            assert_eq!(
                with_payload(bytes, Digest(bytes)),
                lines * 7,
                "{bytes} bytes"
            );
        }
    }
}
