//! Ids of entities on the wire.

use super::entity_id::{EntityId, InlineKey};

/// The longest id that travels, in bytes.
pub const MAX_ID_BYTES: usize = 1_024;

/// An id that travels to other nodes, behind the header of a frame.
///
/// Its bytes are a contract between nodes and versions: one id has one encoding, for ever. Integers are little-endian,
/// texts are UTF-8. An id of more than [`MAX_ID_BYTES`] bytes is refused where it is sent from.
///
/// ```
/// use corecast::WireId;
///
/// let mut bytes = Vec::new();
/// <u32 as WireId>::write(&7, &mut bytes);
/// assert_eq!(bytes, [7, 0, 0, 0]);
/// assert_eq!(<u32 as WireId>::with_key(&bytes, |key| *key), Some(7));
/// assert_eq!(<u32 as WireId>::with_key(b"a cart", |_| ()), None);
/// ```
pub trait WireId: EntityId {
    /// Appends the bytes of an id.
    fn write(key: &Self::Key, out: &mut Vec<u8>);

    /// Has `work` done with the id in these bytes, which come from a peer, borrowed where possible; `None` if there is none
    /// in them.
    fn with_key<T>(bytes: &[u8], work: impl FnOnce(&Self::Key) -> T) -> Option<T>;
}

macro_rules! integer_ids {
    ($($int:ty),*) => {$(
        impl WireId for $int {
            fn write(key: &$int, out: &mut Vec<u8>) {
                out.extend_from_slice(&key.to_le_bytes());
            }

            fn with_key<T>(bytes: &[u8], work: impl FnOnce(&$int) -> T) -> Option<T> {
                Some(work(&<$int>::from_le_bytes(bytes.try_into().ok()?)))
            }
        }
    )*};
}

integer_ids!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);

impl WireId for String {
    fn write(key: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(key.as_bytes());
    }

    fn with_key<T>(bytes: &[u8], work: impl FnOnce(&str) -> T) -> Option<T> {
        Some(work(std::str::from_utf8(bytes).ok()?))
    }
}

impl<const N: usize> WireId for [u8; N] {
    fn write(key: &[u8; N], out: &mut Vec<u8>) {
        out.extend_from_slice(key);
    }

    fn with_key<T>(bytes: &[u8], work: impl FnOnce(&[u8; N]) -> T) -> Option<T> {
        Some(work(bytes.try_into().ok()?))
    }
}

impl WireId for InlineKey {
    fn write(key: &InlineKey, out: &mut Vec<u8>) {
        out.extend_from_slice(key.as_str().as_bytes());
    }

    fn with_key<T>(bytes: &[u8], work: impl FnOnce(&InlineKey) -> T) -> Option<T> {
        let key = std::str::from_utf8(bytes).ok()?.parse().ok()?;
        Some(work(&key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of<I: WireId>(id: &I) -> Vec<u8> {
        let mut bytes = Vec::new();
        I::write(id.as_key(), &mut bytes);
        bytes
    }

    fn comes_back<I: WireId>(id: I, expected: &[u8]) {
        assert_eq!(bytes_of(&id), expected);
        assert_eq!(I::with_key(expected, |key| id.is(key)), Some(true));
    }

    /// Other nodes and later versions read them.
    #[test]
    fn the_bytes_of_ids_never_change() {
        comes_back(0x0102_u16, &[2, 1]);
        comes_back(-2_i64, &[254, 255, 255, 255, 255, 255, 255, 255]);
        comes_back("cart-é".to_owned(), "cart-é".as_bytes());
        comes_back([1, 2, 3], &[1, 2, 3]);
        comes_back("N14228".parse::<InlineKey>().unwrap(), b"N14228");
    }

    #[test]
    fn bytes_that_are_no_id_are_refused() {
        assert_eq!(u64::with_key(&[0; 7], |_| ()), None);
        assert_eq!(u64::with_key(&[0; 9], |_| ()), None);
        assert_eq!(String::with_key(&[0xff], |_| ()), None);
        assert_eq!(<[u8; 2]>::with_key(&[1], |_| ()), None);
        assert_eq!(InlineKey::with_key(&[b'x'; 24], |_| ()), None);
    }
}
