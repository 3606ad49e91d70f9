//! Messages: what may be sent inside a node, and what may be sent to another.

use super::archive::Archivable;
use crate::base::stable_hash::stable_hash;
use std::fmt::Debug;

/// Whatever may be sent to an actor of the same node: it moves between threads, and it can be shown.
///
/// Every such type is a message, there is nothing to implement. `Debug` is asked for because dead letters are logged and
/// because the simulator's trace carries a digest of every payload, which it takes from this rendering.
pub trait Message: Debug + Send + 'static {}

impl<T: Debug + Send + 'static> Message for T {}

/// A message that may also travel to other nodes, archived with rkyv and read there in place.
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
    /// The name of the type, unique in the cluster and kept for ever.
    const NAME: &'static str;
    /// The version of its form; every change of a field is a new one.
    const VERSION: u16;

    /// What headers carry to tell this type from all others: a stable hash of name and version and of size and
    /// alignment of the archived form.
    #[must_use]
    fn fingerprint() -> u64 {
        let mut text = Vec::with_capacity(Self::NAME.len() + 18);
        text.extend_from_slice(Self::NAME.as_bytes());
        text.extend_from_slice(&Self::VERSION.to_le_bytes());
        text.extend_from_slice(&(size_of::<Self::Archived>() as u64).to_le_bytes());
        text.extend_from_slice(&(align_of::<Self::Archived>() as u64).to_le_bytes());
        stable_hash(&text)
    }
}
