//! The wire types that a node knows.

use super::message::{MAX_NAME, TypeTag, WireMessage};
use std::collections::BTreeMap;
use std::fmt;

/// A type that may travel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownType {
    /// Its name in the cluster.
    pub name: String,
    /// Its version.
    pub version: u16,
    /// Its fingerprint.
    pub fingerprint: u64,
}

impl KnownType {
    /// The description of a message type.
    #[must_use]
    pub fn of<M: WireMessage>() -> KnownType {
        KnownType {
            name: M::NAME.to_owned(),
            version: M::VERSION,
            fingerprint: M::fingerprint(),
        }
    }
}

impl fmt::Display for KnownType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` version {} ({:016x})",
            self.name, self.version, self.fingerprint
        )
    }
}

/// Why a type was not registered. The registry is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TypeClash {
    /// Two types have one fingerprint.
    #[error("{new} has the fingerprint of {known}; give one of them another name")]
    Fingerprint {
        /// The one that is registered.
        known: KnownType,
        /// The one that was refused.
        new: KnownType,
    },
    /// One name and version stands for two forms.
    #[error(
        "{new} has another form than {known}; a changed form needs another version, and another type another name"
    )]
    Form {
        /// The one that is registered.
        known: KnownType,
        /// The one that was refused.
        new: KnownType,
    },
    /// The name is empty or too long, or has control characters.
    #[error("the name `{name}` must have from 1 to {MAX_NAME} bytes without control characters")]
    Name {
        /// The name.
        name: String,
    },
    /// Its fingerprint is 0, by which headers say that there is no type.
    #[error("{new} has the fingerprint 0, which stands for no type; give it another name")]
    NoFingerprint {
        /// The one that was refused.
        new: KnownType,
    },
    /// There is no room for more.
    #[error("{new} is one type too many: {MAX_TYPES} are registered")]
    Full {
        /// The one that was refused.
        new: KnownType,
    },
}

/// The most types that a node may know; more would not fit into a handshake.
pub const MAX_TYPES: usize = 4_096;

/// Maps fingerprints to types. Several versions of one name may stand beside each other.
///
/// ```
/// use corecast::WireMessage;
/// use corecast::wire::type_registry::TypeRegistry;
///
/// #[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
/// struct Add(u64);
///
/// impl WireMessage for Add {
///     const NAME: &'static str = "example.Add";
///     const VERSION: u16 = 1;
/// }
///
/// let mut types = TypeRegistry::default();
/// types.register::<Add>()?;
/// assert_eq!(types.get(Add::type_tag()).unwrap().name, "example.Add");
/// # Ok::<(), corecast::wire::type_registry::TypeClash>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeRegistry {
    types: BTreeMap<u64, KnownType>,
    fingerprints: BTreeMap<(String, u16), u64>,
}

impl TypeRegistry {
    /// Registers a message type; once more is no error.
    ///
    /// # Errors
    /// If it clashes with one that is registered, both of which are named, or if there are too many.
    pub fn register<M: WireMessage>(&mut self) -> Result<(), TypeClash> {
        self.add(KnownType::of::<M>())
    }

    /// Registers a type by its description.
    ///
    /// # Errors
    /// As [`register`](TypeRegistry::register), and if the name is none.
    pub fn add(&mut self, new: KnownType) -> Result<(), TypeClash> {
        if !is_name(&new.name) {
            return Err(TypeClash::Name { name: new.name });
        }
        if new.fingerprint == 0 {
            return Err(TypeClash::NoFingerprint { new });
        }
        if let Some(known) = self.types.get(&new.fingerprint) {
            if *known == new {
                return Ok(());
            }
            let known = known.clone();
            return Err(TypeClash::Fingerprint { known, new });
        }
        let form = (new.name.clone(), new.version);
        if let Some(known) = self
            .fingerprints
            .get(&form)
            .and_then(|fingerprint| self.types.get(fingerprint))
        {
            let known = known.clone();
            return Err(TypeClash::Form { known, new });
        }
        if self.types.len() == MAX_TYPES {
            return Err(TypeClash::Full { new });
        }
        self.fingerprints.insert(form, new.fingerprint);
        self.types.insert(new.fingerprint, new);
        Ok(())
    }

    /// The type that a header means, if it is known.
    #[must_use]
    pub fn get(&self, tag: TypeTag) -> Option<&KnownType> {
        self.types
            .get(&tag.fingerprint)
            .filter(|known| known.version == tag.version)
    }

    /// Every type, by name and version.
    pub fn iter(&self) -> impl Iterator<Item = &KnownType> {
        self.fingerprints
            .values()
            .filter_map(|fingerprint| self.types.get(fingerprint))
    }
}

/// Whether a type may have that name: it is written to logs, and travels in handshakes.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, version: u16, fingerprint: u64) -> KnownType {
        KnownType {
            name: name.to_owned(),
            version,
            fingerprint,
        }
    }

    #[test]
    fn clashes_are_refused_and_both_are_named() {
        let mut types = TypeRegistry::default();
        types.add(known("a", 1, 10)).unwrap();
        types.add(known("a", 1, 10)).unwrap();
        types.add(known("a", 2, 20)).unwrap();
        let before = types.clone();
        for (new, said) in [
            (
                known("b", 1, 10),
                "`b` version 1 (000000000000000a) has the fingerprint of `a` version 1 (000000000000000a)",
            ),
            (
                known("a", 1, 30),
                "`a` version 1 (000000000000001e) has another form than `a` version 1 (000000000000000a)",
            ),
            (known("c", 0, 0), "has the fingerprint 0"),
            (known("", 1, 40), "must have from 1 to 200 bytes"),
            (known("a\n", 1, 40), "without control characters"),
        ] {
            let error = types.add(new).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
            assert_eq!(types, before);
        }
        let tag = |fingerprint, version| TypeTag {
            fingerprint,
            version,
        };
        assert_eq!(types.get(tag(20, 2)).unwrap().name, "a");
        assert_eq!(types.get(tag(20, 1)), None);
        assert_eq!(types.get(tag(21, 2)), None);
        assert_eq!(types.iter().count(), 2);
    }

    #[test]
    fn there_is_a_bound() {
        let mut types = TypeRegistry::default();
        for index in 0..MAX_TYPES as u64 {
            types.add(known("a", index as u16, index + 1)).unwrap();
        }
        let error = types.add(known("z", 0, u64::MAX)).unwrap_err();
        assert!(matches!(error, TypeClash::Full { .. }), "{error}");
        types.add(known("a", 7, 8)).unwrap();
    }
}
