//! What an entity may be called.

use crate::base::stable_hash::stable_hash;
use std::fmt::Debug;
use std::hash::Hash;

/// An id of entities: integers, byte arrays, short inline keys and strings.
///
/// The owned form lies in the entity's table and travels between cores; [`Key`](EntityId::Key) is its borrowed form, so
/// that a look-up by `&str` allocates nothing.
pub trait EntityId: Clone + Debug + Eq + Send + 'static {
    /// The borrowed form.
    type Key: ?Sized + Debug + Hash;

    /// The owned form of a key.
    fn from_key(key: &Self::Key) -> Self;

    /// The borrowed form of this id.
    fn as_key(&self) -> &Self::Key;

    /// Whether this is the id of that key.
    fn is(&self, key: &Self::Key) -> bool;

    /// The hash that places the entity: the same on every build, CPU and node, so over the id's bytes in one fixed order.
    fn stable_hash(key: &Self::Key) -> u64;
}

macro_rules! integer_ids {
    ($($int:ty),*) => {$(
        impl EntityId for $int {
            type Key = $int;

            #[inline]
            fn from_key(key: &$int) -> $int {
                *key
            }

            #[inline]
            fn as_key(&self) -> &$int {
                self
            }

            #[inline]
            fn is(&self, key: &$int) -> bool {
                self == key
            }

            #[inline]
            fn stable_hash(key: &$int) -> u64 {
                stable_hash(&key.to_le_bytes())
            }
        }
    )*};
}

integer_ids!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);

impl EntityId for String {
    type Key = str;

    fn from_key(key: &str) -> String {
        key.to_owned()
    }

    fn as_key(&self) -> &str {
        self
    }

    fn is(&self, key: &str) -> bool {
        self == key
    }

    fn stable_hash(key: &str) -> u64 {
        stable_hash(key.as_bytes())
    }
}

impl<const N: usize> EntityId for [u8; N] {
    type Key = [u8; N];

    fn from_key(key: &[u8; N]) -> [u8; N] {
        *key
    }

    fn as_key(&self) -> &[u8; N] {
        self
    }

    fn is(&self, key: &[u8; N]) -> bool {
        self == key
    }

    fn stable_hash(key: &[u8; N]) -> u64 {
        stable_hash(key)
    }
}

/// A short text kept inline, of at most 23 bytes: a name without an allocation, and `Copy`.
///
/// ```
/// use corecast::InlineKey;
///
/// let tail: InlineKey = "N14228".parse().unwrap();
/// assert_eq!(tail.as_str(), "N14228");
/// assert!("a name that is far too long to be kept inline".parse::<InlineKey>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InlineKey {
    bytes: [u8; InlineKey::MAX_BYTES],
    len: u8,
}

/// A text that is too long for an [`InlineKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an inline key holds at most {} bytes, this text has {bytes}; use String ids",
    InlineKey::MAX_BYTES
)]
pub struct KeyTooLong {
    /// The length of the text.
    pub bytes: usize,
}

impl InlineKey {
    /// The longest text it holds.
    pub const MAX_BYTES: usize = 23;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only whole texts are ever put in.
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl std::str::FromStr for InlineKey {
    type Err = KeyTooLong;

    fn from_str(text: &str) -> Result<InlineKey, KeyTooLong> {
        let mut bytes = [0; InlineKey::MAX_BYTES];
        bytes
            .get_mut(..text.len())
            .ok_or(KeyTooLong { bytes: text.len() })?
            .copy_from_slice(text.as_bytes());
        Ok(InlineKey {
            bytes,
            len: text.len() as u8,
        })
    }
}

impl Debug for InlineKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

impl std::fmt::Display for InlineKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl EntityId for InlineKey {
    type Key = InlineKey;

    fn from_key(key: &InlineKey) -> InlineKey {
        *key
    }

    fn as_key(&self) -> &InlineKey {
        self
    }

    fn is(&self, key: &InlineKey) -> bool {
        self == key
    }

    /// The hash of the text, so that it places like the `String` of the same text.
    fn stable_hash(key: &InlineKey) -> u64 {
        stable_hash(key.as_str().as_bytes())
    }
}
