//! The bounds that rkyv asks of a type that is written to bytes and read back, behind one name.

use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Portable, Serialize};

/// A value that can be archived, validated and read back. Derive `rkyv::{Archive, Serialize, Deserialize}` to get it.
pub trait Archivable:
    Archive<
        Archived: Portable
                      + for<'a> CheckBytes<HighValidator<'a, Error>>
                      + Deserialize<Self, HighDeserializer<Error>>,
    > + for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Error>>
    + Sized
{
}

impl<T> Archivable for T where
    T: Archive<
            Archived: Portable
                          + for<'a> CheckBytes<HighValidator<'a, Error>>
                          + Deserialize<T, HighDeserializer<Error>>,
        > + for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Error>>
{
}

/// Bytes that hold one archived value, aligned for reading in place.
pub type ArchivedBytes = AlignedVec;

/// Archives a value.
///
/// # Errors
/// If the value cannot be archived, for instance because it is larger than an archive can address.
pub fn to_bytes<T: Archivable>(value: &T) -> Result<ArchivedBytes, Error> {
    rkyv::to_bytes::<Error>(value)
}

/// Validates bytes and reads the value in them.
///
/// # Errors
/// If the bytes are not a valid archive of `T`.
pub fn from_bytes<T: Archivable>(bytes: &ArchivedBytes) -> Result<T, Error> {
    rkyv::from_bytes::<T, Error>(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Debug, PartialEq)]
    struct Sample {
        name: String,
        values: Vec<u64>,
    }

    #[test]
    fn reads_back_what_it_wrote_and_refuses_what_it_did_not() {
        let sample = Sample {
            name: "an aircraft with a long name".into(),
            values: vec![1, 2, 3],
        };
        let bytes = to_bytes(&sample).unwrap();
        assert_eq!(from_bytes::<Sample>(&bytes).unwrap(), sample);
        let mut cut = bytes.clone();
        cut.resize(4, 0);
        assert!(from_bytes::<Sample>(&cut).is_err());
    }
}
