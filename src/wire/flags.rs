//! The flags of a frame.

use std::fmt;
use std::ops::BitOr;

/// A set of flags. All but [`Flags::HAS_TRACE`] are for frames whose target is a shard or an entity of it; others that
/// have them are refused.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flags(u16);

impl Flags {
    /// None of them.
    pub const NONE: Flags = Flags(0);
    /// The first frame of the sender's core for this shard on a new route: the receiver holds this core's frames for the
    /// shard until the old route's [`Kind::Last`](super::kind::Kind::Last) has been forwarded to it, or the old owner is
    /// down.
    pub const FIRST_ON_ROUTE: Flags = Flags(1);
    /// The epoch is to be compared: a frame from below the shard's fence is refused. Without it the epoch only tells which
    /// owner the sender knew.
    pub const EPOCH_FENCE: Flags = Flags(2);
    /// The header carries a trace context. It is set by the writer.
    pub const HAS_TRACE: Flags = Flags(4);
    /// A past owner has passed the frame on: its sender is not the node at the other end of the connection.
    pub const FORWARDED: Flags = Flags(8);

    const NAMES: [(Flags, &'static str); 4] = [
        (Flags::FIRST_ON_ROUTE, "first-on-route"),
        (Flags::EPOCH_FENCE, "epoch-fence"),
        (Flags::HAS_TRACE, "has-trace"),
        (Flags::FORWARDED, "forwarded"),
    ];
    const KNOWN: u16 = 15;

    /// Whether all flags of `other` are in it.
    #[must_use]
    #[inline]
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The set with the flags of `other`, or without them.
    #[must_use]
    #[inline]
    pub const fn with(self, other: Flags, set: bool) -> Flags {
        if set {
            Flags(self.0 | other.0)
        } else {
            Flags(self.0 & !other.0)
        }
    }

    #[inline]
    pub(crate) const fn bits(self) -> u16 {
        self.0
    }

    /// `Err` with those bits that mean nothing.
    #[inline]
    pub(crate) const fn from_bits(bits: u16) -> Result<Flags, u16> {
        match bits & !Flags::KNOWN {
            0 => Ok(Flags(bits)),
            unknown => Err(unknown),
        }
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Flags::NAMES
            .iter()
            .filter(|(flag, _)| self.contains(*flag))
            .map(|(_, name)| name);
        f.debug_set().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_fixed_bits_and_names() {
        let mut all = Flags::NONE;
        for (index, (flag, _)) in Flags::NAMES.iter().enumerate() {
            assert_eq!(flag.bits(), 1 << index);
            all = all | *flag;
        }
        assert_eq!(all.bits(), Flags::KNOWN);
        assert_eq!(
            format!("{:?}", Flags::FIRST_ON_ROUTE | Flags::FORWARDED),
            r#"{"first-on-route", "forwarded"}"#
        );
        assert_eq!(Flags::from_bits(0b11_0001), Err(0b11_0000));
        assert!(!all.with(Flags::FORWARDED, false).contains(Flags::FORWARDED));
    }
}
