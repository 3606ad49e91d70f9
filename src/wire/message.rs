//! Messages: what may be sent inside a node, and what may be sent to another.

use super::archive::Archivable;
use crate::base::stable_hash::{const_stable_hash, stable_hash};
use std::fmt;
use std::fmt::Debug;

/// Whatever may be sent to an actor of the same node: it moves between threads, and it can be shown.
///
/// Every such type is a message, there is nothing to implement. `Debug` is asked for because dead letters are logged and
/// because the simulator's trace carries a digest of every payload, which it takes from this rendering.
pub trait Message: Debug + Send + 'static {}

impl<T: Debug + Send + 'static> Message for T {}

/// A message that may also travel to other nodes, archived with rkyv and read there in place.
///
/// What a peer claims is checked against the bytes that are there. A collection of elements without bytes, such as
/// `Vec<()>`, escapes that: its archive may claim 2³² of them in no space, and reading it back counts them one by one, for
/// seconds. Send a number instead.
///
/// ```
/// use corecast::WireMessage;
///
/// #[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
/// enum Meter {
///     Add(u64),
///     Reset,
/// }
///
/// impl WireMessage for Meter {
///     const NAME: &'static str = "example.Meter";
///     const VERSION: u16 = 1;
/// }
///
/// assert_ne!(Meter::fingerprint(), 0);
/// ```
pub trait WireMessage: Message + Archivable {
    /// The name of the type, unique in the cluster and kept for ever; at most [`MAX_NAME`] bytes.
    const NAME: &'static str;
    /// The version of its form; every change of a field is a new one.
    const VERSION: u16;

    /// What headers carry to tell this type from all others: a stable hash of name and version and of size and
    /// alignment of the archived form. It is computed when the program is compiled, and so is the refusal of a name that
    /// is empty or too long, and of an archived form that wants more alignment than the 16 bytes that payloads have.
    #[must_use]
    #[inline]
    fn fingerprint() -> u64 {
        const {
            let (size, align) = (size_of::<Self::Archived>(), align_of::<Self::Archived>());
            assert!(
                align <= 16,
                "the archived form of a wire message must not be aligned to more than 16 bytes"
            );
            const_fingerprint(Self::NAME, Self::VERSION, size, align)
        }
    }

    /// Fingerprint and version together, as headers carry them.
    #[must_use]
    #[inline]
    fn type_tag() -> TypeTag {
        TypeTag {
            fingerprint: Self::fingerprint(),
            version: Self::VERSION,
        }
    }
}

macro_rules! basic_types {
    ($($type:ty, $name:literal;)*) => {$(
        impl WireMessage for $type {
            const NAME: &'static str = $name;
            const VERSION: u16 = 1;
        }
    )*};
}

// What is asked for is often no more than one of these.
basic_types! {
    (), "unit";
    bool, "bool";
    u8, "u8";
    u16, "u16";
    u32, "u32";
    u64, "u64";
    u128, "u128";
    i8, "i8";
    i16, "i16";
    i32, "i32";
    i64, "i64";
    i128, "i128";
    f32, "f32";
    f64, "f64";
    String, "string";
    Vec<u8>, "bytes";
}

/// The longest name of a [`WireMessage`] or of an entity type in the cluster, in bytes.
pub const MAX_NAME: usize = 200;

/// Which type a payload has, as far as a header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeTag {
    /// See [`WireMessage::fingerprint`]; 0 where there is no type.
    pub fingerprint: u64,
    /// See [`WireMessage::VERSION`].
    pub version: u16,
}

impl TypeTag {
    /// Of a payload that is opaque to the wire.
    pub const NONE: TypeTag = TypeTag {
        fingerprint: 0,
        version: 0,
    };
}

impl fmt::Display for TypeTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x} (version {})", self.fingerprint, self.version)
    }
}

/// What is hashed besides the name: version, size and alignment.
const BESIDE_NAME: usize = 18;

const fn const_fingerprint(name: &str, version: u16, size: usize, align: usize) -> u64 {
    assert!(
        !name.is_empty(),
        "the name of a wire message must not be empty"
    );
    assert!(
        name.len() <= MAX_NAME,
        "the name of a wire message must not be longer than 200 bytes"
    );
    let mut text = [0; MAX_NAME + BESIDE_NAME];
    let (before, rest) = text.split_at_mut(name.len());
    before.copy_from_slice(name.as_bytes());
    let (beside, _) = rest.split_at_mut(BESIDE_NAME);
    let (at_version, rest) = beside.split_at_mut(2);
    at_version.copy_from_slice(&version.to_le_bytes());
    let (at_size, at_align) = rest.split_at_mut(8);
    at_size.copy_from_slice(&(size as u64).to_le_bytes());
    at_align.copy_from_slice(&(align as u64).to_le_bytes());
    const_stable_hash(text.split_at(name.len() + BESIDE_NAME).0)
}

/// The fingerprint of a type that is known by its description only.
#[must_use]
pub fn fingerprint_of(name: &str, version: u16, size: usize, align: usize) -> u64 {
    let mut text = Vec::with_capacity(name.len() + BESIDE_NAME);
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(&version.to_le_bytes());
    text.extend_from_slice(&(size as u64).to_le_bytes());
    text.extend_from_slice(&(align as u64).to_le_bytes());
    stable_hash(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    struct Meter(u64, u16);

    impl WireMessage for Meter {
        const NAME: &'static str = "test.Meter";
        const VERSION: u16 = 3;
    }

    /// Both ways to compute it agree, for names of every length: XXH3 has a different algorithm for each range.
    #[test]
    fn the_fingerprint_is_the_same_at_compile_time_and_at_run_time() {
        assert_eq!(
            Meter::fingerprint(),
            fingerprint_of("test.Meter", 3, 16, 8),
            "name, version, size and alignment"
        );
        for length in 1..=MAX_NAME {
            let name = "n".repeat(length);
            assert_eq!(
                const_fingerprint(&name, 7, 24, 8),
                fingerprint_of(&name, 7, 24, 8),
                "{length}"
            );
        }
    }

    /// A node that computed another would refuse the messages of all others.
    #[test]
    fn a_known_fingerprint_never_changes() {
        assert_eq!(Meter::fingerprint(), 0xefe1_a633_a4df_f1d1);
        assert_eq!(Meter::type_tag().version, 3);
    }
}
