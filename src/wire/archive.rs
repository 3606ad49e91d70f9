//! The bounds that rkyv asks of a type that is written to bytes and read back, behind one name; and the three things
//! that are done with such a type: write it, read it in place, read it back.

use super::clip::clipped;
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::api::{access_with_context, serialize_using};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{Error, Failure, Source, Trace};
use rkyv::ser::allocator::ArenaHandle;
use rkyv::ser::sharing::Share;
use rkyv::ser::{Positional, Serializer, Writer};
use rkyv::util::{AlignedVec, with_arena};
use rkyv::validation::Validator;
use rkyv::validation::archive::ArchiveValidator;
use rkyv::validation::shared::SharedValidator;
use rkyv::{Archive, Deserialize, Portable, Serialize};
use std::fmt::{Debug, Display};
use std::num::NonZeroUsize;

/// A value that can be archived, validated and read back. Derive `rkyv::{Archive, Serialize, Deserialize}` to get it.
pub trait Archivable:
    Archive<
        Archived: Portable
                      + for<'a> CheckBytes<HighValidator<'a, Invalid>>
                      + for<'a> CheckBytes<HighValidator<'a, Failure>>
                      + Deserialize<Self, HighDeserializer<Error>>,
    > + for<'a> Serialize<HighSerializer<ArchiveWriter, ArenaHandle<'a>, Error>>
    + Sized
{
}

impl<T> Archivable for T where
    T: Archive<
            Archived: Portable
                          + for<'a> CheckBytes<HighValidator<'a, Invalid>>
                          + for<'a> CheckBytes<HighValidator<'a, Failure>>
                          + Deserialize<T, HighDeserializer<Error>>,
        > + for<'a> Serialize<HighSerializer<ArchiveWriter, ArenaHandle<'a>, Error>>
{
}

/// Bytes that hold one archived value, aligned for reading in place.
pub type ArchivedBytes = AlignedVec;

/// How deep the pointers of an archive that is read may nest: a list of boxes has one level for each element.
///
/// Validation recurses, so an archive that nests without end would exhaust the stack, and that ends the process.
pub const MAX_DEPTH: usize = 128;

/// Archives a value.
///
/// # Errors
/// If the value cannot be archived, for instance because it is larger than an archive can address.
pub fn to_bytes<T: Archivable>(value: &T) -> Result<ArchivedBytes, Error> {
    let mut bytes = ArchivedBytes::new();
    append(value, &mut bytes, usize::MAX).map_err(|failed| match failed {
        AppendError::Failed(error) => error,
        AppendError::OverLimit => unreachable!("nothing is longer than that"),
    })?;
    Ok(bytes)
}

/// Validates bytes and reads the value in them.
///
/// # Errors
/// If the bytes are not a valid archive of `T`, or one that nests deeper than [`MAX_DEPTH`].
pub fn from_bytes<T: Archivable>(bytes: &ArchivedBytes) -> Result<T, Error> {
    deserialize(access::<T>(bytes).map_err(Error::new)?)
}

/// Validates bytes, which must be aligned to 16, and views the value in them where it is. Nothing is copied.
///
/// # Errors
/// If the bytes are not a valid archive of `T`, or one that nests deeper than [`MAX_DEPTH`]; the error says where.
#[inline]
pub fn access<T: Archivable>(bytes: &[u8]) -> Result<&T::Archived, Invalid> {
    match checked::<T, Failure>(bytes) {
        Ok(archived) => Ok(archived),
        Err(Failure) => Err(what_is_wrong::<T>(bytes)),
    }
}

/// Reads a value that was validated back.
///
/// # Errors
/// If the type refuses what it finds, which the derived implementations never do.
#[inline]
pub fn deserialize<T: Archivable>(archived: &T::Archived) -> Result<T, Error> {
    rkyv::deserialize::<T, Error>(archived)
}

#[inline]
fn checked<T, E>(bytes: &[u8]) -> Result<&T::Archived, E>
where
    T: Archivable,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, E>>,
    E: Source,
{
    // rkyv counts the root as well, and refuses at zero.
    let depth = NonZeroUsize::new(MAX_DEPTH + 2);
    let mut context = Validator::new(
        ArchiveValidator::with_max_depth(bytes, depth),
        SharedValidator::new(),
    );
    access_with_context::<T::Archived, _, E>(bytes, &mut context)
}

/// Validates once more, to say what was wrong: an error that says nothing costs nothing where all is well.
#[cold]
#[inline(never)]
fn what_is_wrong<T: Archivable>(bytes: &[u8]) -> Invalid {
    match checked::<T, Invalid>(bytes) {
        Err(error) => error,
        Ok(_) => Invalid("its validation is not deterministic".to_owned()),
    }
}

/// What is wrong with bytes that are no valid archive, and where: the cause first, and then what it is in, as far as 300
/// bytes go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Trace for Invalid {
    fn trace<R: Debug + Display + Send + Sync + 'static>(self, trace: R) -> Self {
        if self.0.len() >= INVALID_BYTES {
            return self;
        }
        Invalid(clipped(&format!("{}, {trace}", self.0), INVALID_BYTES))
    }
}

impl Source for Invalid {
    fn new<T: std::error::Error + Send + Sync + 'static>(source: T) -> Self {
        Invalid(clipped(&source.to_string(), INVALID_BYTES))
    }
}

const INVALID_BYTES: usize = 300;

/// Why nothing was appended.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// It would have ended behind the limit.
    OverLimit,
    /// The value refused.
    Failed(Error),
}

/// Archives a value at the end of `bytes`, whose length must be a multiple of 16, without going over `limit` bytes in
/// all. `bytes` is as before if that fails, also by a panic of the value.
pub(crate) fn append<T: Archivable>(
    value: &T,
    bytes: &mut ArchivedBytes,
    limit: usize,
) -> Result<(), AppendError> {
    debug_assert!(bytes.len().is_multiple_of(ArchivedBytes::ALIGNMENT));
    with_arena(|arena| {
        let before = bytes.len();
        let mut appending = Appending {
            serializer: Serializer::new(
                ArchiveWriter {
                    bytes: std::mem::take(bytes),
                    limit,
                    over_limit: false,
                },
                arena.acquire(),
                Share::new(),
            ),
            home: bytes,
            keep: before,
        };
        let result = serialize_using::<_, Error>(value, &mut appending.serializer);
        let writer = &appending.serializer.writer;
        match result {
            _ if writer.over_limit => Err(AppendError::OverLimit),
            Err(error) => Err(AppendError::Failed(error)),
            Ok(_) => {
                appending.keep = writer.bytes.len();
                Ok(())
            }
        }
    })
}

/// Lends the buffer to a serializer, which owns its writer, and brings it home in any case.
struct Appending<'h, 'a> {
    serializer: Serializer<ArchiveWriter, ArenaHandle<'a>, Share>,
    home: &'h mut ArchivedBytes,
    /// The length that it has then.
    keep: usize,
}

impl Drop for Appending<'_, '_> {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.serializer.writer.bytes);
        bytes.resize(self.keep, 0);
        *self.home = bytes;
    }
}

/// Where archives are written to: an aligned buffer with a limit, so that no message can make it grow beyond that.
#[derive(Debug)]
pub struct ArchiveWriter {
    bytes: ArchivedBytes,
    limit: usize,
    over_limit: bool,
}

impl ArchiveWriter {
    /// Makes room, for no more than the limit allows.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, needed: usize) {
        let doubled = needed.checked_next_power_of_two().unwrap_or(needed);
        self.bytes
            .reserve_exact(doubled.min(self.limit) - self.bytes.len());
    }
}

impl Positional for ArchiveWriter {
    #[inline]
    fn pos(&self) -> usize {
        self.bytes.len()
    }
}

impl<E: Source> Writer<E> for ArchiveWriter {
    #[inline]
    fn write(&mut self, more: &[u8]) -> Result<(), E> {
        let needed = self.bytes.len() + more.len();
        if needed > self.limit {
            self.over_limit = true;
            return Err(E::new(OverLimit));
        }
        if needed > self.bytes.capacity() {
            self.grow(needed);
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the archive is longer than it may be")]
struct OverLimit;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Debug, PartialEq)]
    struct Sample {
        name: String,
        values: Vec<u64>,
    }

    fn sample() -> Sample {
        Sample {
            name: "an aircraft with a long name".into(),
            values: vec![1, 2, 3],
        }
    }

    #[test]
    fn reads_back_what_it_wrote_and_refuses_what_it_did_not() {
        let bytes = to_bytes(&sample()).unwrap();
        assert_eq!(
            bytes[..],
            rkyv::to_bytes::<Error>(&sample()).unwrap()[..],
            "it is what rkyv writes"
        );
        assert_eq!(from_bytes::<Sample>(&bytes).unwrap(), sample());
        assert_eq!(access::<Sample>(&bytes).unwrap().values.len(), 3);
        let mut cut = bytes.clone();
        cut.resize(4, 0);
        assert!(from_bytes::<Sample>(&cut).is_err());
        let said = access::<Sample>(&cut).err().unwrap().to_string();
        assert!(said.contains("range"), "{said}");
    }

    #[test]
    fn what_is_too_long_leaves_the_buffer_as_it_was() {
        let whole = to_bytes(&sample()).unwrap().len();
        for room in 0..(whole + 3) * 2 {
            // With room that is allocated already, and without.
            let (room, capacity) = (room / 2, room % 2 * 4_096);
            let mut bytes = ArchivedBytes::with_capacity(capacity);
            bytes.extend_from_slice(&[7; 32]);
            let result = append(&sample(), &mut bytes, 32 + room);
            if room < whole {
                assert!(matches!(result, Err(AppendError::OverLimit)), "{room}");
                assert_eq!(bytes[..], [7; 32], "{room}");
            } else {
                result.unwrap();
                assert_eq!(from_bytes::<Sample>(&tail(&bytes)).unwrap(), sample());
            }
            assert!(
                bytes.capacity() <= capacity.max(64).max(32 + room),
                "{room}"
            );
        }
    }

    fn tail(bytes: &ArchivedBytes) -> ArchivedBytes {
        let mut tail = ArchivedBytes::new();
        tail.extend_from_slice(&bytes[32..]);
        tail
    }

    /// A value whose code panics while it is archived.
    struct Bomb;

    impl Archive for Bomb {
        type Archived = ();
        type Resolver = ();
        fn resolve(&self, (): (), _: rkyv::Place<()>) {}
    }

    impl<S: rkyv::rancor::Fallible + Writer + ?Sized> Serialize<S> for Bomb {
        fn serialize(&self, serializer: &mut S) -> Result<(), S::Error> {
            serializer.write(&[1, 2, 3])?;
            panic!("planted")
        }
    }

    impl<D: rkyv::rancor::Fallible + ?Sized> Deserialize<Bomb, D> for () {
        fn deserialize(&self, _: &mut D) -> Result<Bomb, D::Error> {
            Ok(Bomb)
        }
    }

    #[test]
    fn a_panic_of_the_value_loses_nothing_that_was_there() {
        let mut bytes = ArchivedBytes::new();
        bytes.extend_from_slice(&[7; 16]);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            append(&Bomb, &mut bytes, 1 << 20)
        }));
        assert!(panicked.is_err());
        assert_eq!(bytes[..], [7; 16]);
    }

    #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Debug, PartialEq)]
    #[rkyv(serialize_bounds(__S: Writer))]
    #[rkyv(deserialize_bounds(__D::Error: Source))]
    #[rkyv(bytecheck(bounds(__C: rkyv::validation::ArchiveContext, __C::Error: Source)))]
    struct Nested {
        #[rkyv(omit_bounds)]
        inner: Option<Box<Nested>>,
    }

    #[test]
    fn what_nests_too_deep_is_refused_before_it_exhausts_the_stack() {
        let nested = |levels: usize| {
            let mut value = Nested { inner: None };
            for _ in 0..levels {
                value = Nested {
                    inner: Some(Box::new(value)),
                };
            }
            to_bytes(&value).unwrap()
        };
        from_bytes::<Nested>(&nested(MAX_DEPTH)).unwrap();
        let said = from_bytes::<Nested>(&nested(MAX_DEPTH + 1))
            .unwrap_err()
            .to_string();
        assert!(said.contains("depth"), "{said}");
    }
}
