//! The types that a node knows, as far as others have to agree: shards of entity types, forms of messages.
//!
//! Two nodes need not know the same types: they are upgraded one after the other, and a node without the role of a type
//! does not run it. But what both know must be the same. A hello carries a digest only, for it has to be small; where the
//! digests differ, the tables themselves follow.

use super::difference::Differences;
use super::error::WireError;
use super::kind::Kind;
use super::message::MAX_NAME;
use super::type_registry::{KnownType, TypeClash, TypeRegistry, is_name};
use crate::base::fields::{FieldError, FieldReader, put_text};
use crate::base::stable_hash::stable_hash;
use std::collections::BTreeMap;

/// The most entity types that a cluster may have.
pub const MAX_ENTITY_TYPES: usize = 1_024;

/// What a node knows. Two of the same content have the same [`digest`](Tables::digest).
///
/// Memory: at most 1,024 entity types and 4,096 message types, with names of at most 200 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    shards: BTreeMap<String, u32>,
    types: TypeRegistry,
}

/// Why an entity type was not added. The tables are as they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntityTypeError {
    /// The name is empty, too long, or has control characters.
    #[error(
        "the entity type `{name}` must have a name of 1 to {MAX_NAME} bytes without control characters"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The name is taken.
    #[error("the entity type `{name}` is there already, with {shards} shards")]
    Taken {
        /// The name.
        name: String,
        /// Its shards.
        shards: u32,
    },
    /// It has no shards, so none of its entities could live anywhere.
    #[error("the entity type `{name}` has zero shards; give it at least one")]
    NoShards {
        /// The name.
        name: String,
    },
    /// There are too many.
    #[error("`{name}` is one entity type too many: there are {MAX_ENTITY_TYPES}")]
    Full {
        /// The name.
        name: String,
    },
}

impl Tables {
    /// Tables of these message types, and no entity type yet.
    #[must_use]
    pub fn new(types: TypeRegistry) -> Tables {
        Tables {
            shards: BTreeMap::new(),
            types,
        }
    }

    /// Adds an entity type and its number of shards.
    ///
    /// # Errors
    /// If the name is no name, or taken, if there are no shards, or if there are too many types.
    pub fn add_entity_type(&mut self, name: &str, shards: u32) -> Result<(), EntityTypeError> {
        let owned = || name.to_owned();
        if !is_name(name) {
            return Err(EntityTypeError::Name { name: owned() });
        }
        if shards == 0 {
            return Err(EntityTypeError::NoShards { name: owned() });
        }
        if let Some(&shards) = self.shards.get(name) {
            return Err(EntityTypeError::Taken {
                name: owned(),
                shards,
            });
        }
        if self.shards.len() == MAX_ENTITY_TYPES {
            return Err(EntityTypeError::Full { name: owned() });
        }
        self.shards.insert(owned(), shards);
        Ok(())
    }

    /// The entity types and their shards, by name.
    pub fn entity_types(&self) -> impl Iterator<Item = (&str, u32)> {
        self.shards
            .iter()
            .map(|(name, shards)| (name.as_str(), *shards))
    }

    /// The message types.
    #[must_use]
    pub fn types(&self) -> &TypeRegistry {
        &self.types
    }

    /// A hash of the content: where it is the same, so are the tables.
    #[must_use]
    pub fn digest(&self) -> u64 {
        stable_hash(&self.encode())
    }

    /// Notes in what the tables of another node contradict these.
    pub(crate) fn compare(&self, there: &Tables, differences: &mut Differences) {
        for (name, here) in self.entity_types() {
            if let Some(&there) = there.shards.get(name) {
                differences.compare(&format!("shards of type `{name}`"), here, there);
            }
        }
        // What is refused as a clash inside one node is one between two as well.
        let mut both = self.types.clone();
        for known in there.types.iter() {
            let name_of = |known: &KnownType| format!("`{}` version {}", known.name, known.version);
            match both.add(known.clone()) {
                Err(TypeClash::Form { known, new }) => differences.add(
                    &format!("form of the message {}", name_of(&known)),
                    format_args!("{:016x}", known.fingerprint),
                    format_args!("{:016x}", new.fingerprint),
                ),
                Err(TypeClash::Fingerprint { known, new }) => differences.add(
                    &format!("message of the fingerprint {:016x}", known.fingerprint),
                    name_of(&known),
                    name_of(&new),
                ),
                _ => {}
            }
        }
    }

    /// As content of a frame.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&(self.shards.len() as u32).to_le_bytes());
        for (name, shards) in &self.shards {
            put_text(&mut out, name);
            out.extend_from_slice(&shards.to_le_bytes());
        }
        out.extend_from_slice(&(self.types.iter().count() as u32).to_le_bytes());
        for known in self.types.iter() {
            put_text(&mut out, &known.name);
            out.extend_from_slice(&known.version.to_le_bytes());
            out.extend_from_slice(&known.fingerprint.to_le_bytes());
        }
        out
    }

    /// From the content of a frame.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Tables, WireError> {
        let kind = Kind::Tables;
        Tables::read(bytes).map_err(|error| WireError::Content { kind, error })
    }

    fn read(bytes: &[u8]) -> Result<Tables, FieldError> {
        let mut fields = FieldReader::new(bytes);
        let mut tables = Tables::default();
        // Every round takes bytes or fails, so a count that is a lie costs nothing.
        for _ in 0..fields.u32()? {
            let name = fields.text(MAX_NAME)?;
            let shards = fields.u32()?;
            tables.add_entity_type(name, shards).map_err(|_| {
                fields.error("an entity type is repeated, nameless, without shards or one too many")
            })?;
        }
        for _ in 0..fields.u32()? {
            let known = KnownType {
                name: fields.text(MAX_NAME)?.to_owned(),
                version: fields.u16()?,
                fingerprint: fields.u64()?,
            };
            tables.types.add(known).map_err(|_| {
                fields.error(
                    "a message type clashes, is nameless, without fingerprint or one too many",
                )
            })?;
        }
        fields.end()?;
        Ok(tables)
    }
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

    fn tables(entities: &[(&str, u32)], types: &[(&str, u16, u64)]) -> Tables {
        let mut registry = TypeRegistry::default();
        for (name, version, fingerprint) in types {
            registry.add(known(name, *version, *fingerprint)).unwrap();
        }
        let mut tables = Tables::new(registry);
        for (name, shards) in entities {
            tables.add_entity_type(name, *shards).unwrap();
        }
        tables
    }

    fn differences(here: &Tables, there: &Tables) -> String {
        let mut differences = Differences::default();
        here.compare(there, &mut differences);
        differences.to_string()
    }

    #[test]
    fn what_both_know_must_agree_and_the_rest_need_not() {
        let here = tables(
            &[("cart", 256), ("user", 64)],
            &[("a", 1, 10), ("b", 1, 20)],
        );
        let other_knowledge = tables(
            &[("order", 8), ("cart", 256)],
            &[("a", 2, 11), ("c", 1, 30)],
        );
        assert_eq!(differences(&here, &other_knowledge), "");
        let there = tables(&[("cart", 128)], &[("a", 1, 12), ("z", 9, 20)]);
        assert_eq!(
            differences(&here, &there),
            "shards of type `cart`: here 256, there 128; \
             form of the message `a` version 1: here 000000000000000a, there 000000000000000c; \
             message of the fingerprint 0000000000000014: here `b` version 1, there `z` version 9"
        );
    }

    #[test]
    fn the_digest_does_not_depend_on_the_order() {
        let one = tables(&[("a", 1), ("b", 2)], &[("x", 1, 1), ("y", 1, 2)]);
        let two = tables(&[("b", 2), ("a", 1)], &[("y", 1, 2), ("x", 1, 1)]);
        assert_eq!(one.digest(), two.digest());
        assert_ne!(one.digest(), tables(&[("a", 1)], &[]).digest());
        assert_eq!(Tables::decode(&one.encode()), Ok(one));
    }

    #[test]
    fn lies_about_counts_and_cut_tables_are_refused() {
        let bytes = tables(&[("cart", 256)], &[("a", 1, 10)]).encode();
        for cut in 0..bytes.len() {
            assert!(Tables::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        let mut more = bytes.clone();
        more.push(0);
        assert!(Tables::decode(&more).is_err());
        assert!(Tables::decode(&[255; 4]).is_err());
    }

    /// Whoever is told of a type divides by its shards, and looks its fingerprint up.
    #[test]
    fn types_of_peers_have_shards_and_fingerprints() {
        for (at, said) in [
            (
                4 + 2 + 4,
                "an entity type is repeated, nameless, without shards",
            ),
            (
                4 + 2 + 4 + 4 + 4 + 2 + 1 + 2,
                "a message type clashes, is nameless, without fingerprint",
            ),
        ] {
            let mut bytes = tables(&[("cart", 1)], &[("a", 1, 10)]).encode();
            bytes[at] = 0;
            let error = Tables::decode(&bytes).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn names_are_checked_and_counted() {
        let mut tables = tables(&[("cart", 256)], &[]);
        let error = tables.add_entity_type("cart", 1).unwrap_err().to_string();
        assert_eq!(
            error,
            "the entity type `cart` is there already, with 256 shards"
        );
        assert!(tables.add_entity_type("", 1).is_err());
        assert!(tables.add_entity_type("a\nb", 1).is_err());
        assert!(tables.add_entity_type(&"n".repeat(201), 1).is_err());
        let error = tables.add_entity_type("empty", 0).unwrap_err().to_string();
        assert_eq!(
            error,
            "the entity type `empty` has zero shards; give it at least one"
        );
        for index in 1..MAX_ENTITY_TYPES {
            tables.add_entity_type(&index.to_string(), 1).unwrap();
        }
        let error = tables.add_entity_type("more", 1).unwrap_err();
        assert!(matches!(error, EntityTypeError::Full { .. }));
    }
}
