//! The names of a runtime's actors. All cores share them, so that an actor is found from anywhere, and a name is taken
//! once in the whole runtime.
//!
//! Only actors that were given a name are in here, and only their beginning, their end, and whoever looks for one take the
//! lock.

use super::reference::{ActorRef, AnyActorRef};
use super::refusal::SpawnError;
use crate::base::give_back::give_back;
use crate::base::ids::CoreId;
use crate::base::stable_hash::stable_hash;
use crate::wire::message::{Message, TypeTag, WireMessage};
use ahash::AHashMap;
use std::any::TypeId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Longer names are refused.
pub(super) const LONGEST_NAME: usize = 255;

/// An actor was found, but it takes other messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the actor {path} takes messages of the type {takes}, not {wanted}")]
pub struct WrongMessageType {
    /// Where it was found.
    pub path: String,
    /// What it takes.
    pub takes: &'static str,
    /// What was asked for.
    pub wanted: &'static str,
}

/// Named actors by their paths.
#[derive(Default)]
pub(crate) struct Directory {
    by_path: Mutex<AHashMap<Arc<str>, Listed>>,
}

struct Listed {
    /// Where it is being made, or lives.
    core: CoreId,
    /// Missing while the actor is being made.
    actor: Option<AnyActorRef>,
    message: TypeId,
    message_name: &'static str,
    /// What it takes from other nodes, if it is to be found from there.
    wire: Option<WireName>,
}

/// A type of messages as other nodes know it.
#[derive(Clone, Copy, Debug)]
pub(super) struct WireName {
    pub(super) message: TypeId,
    pub(super) name: &'static str,
    pub(super) tag: TypeTag,
}

impl WireName {
    pub(super) fn of<M: WireMessage>() -> WireName {
        WireName {
            message: TypeId::of::<M>(),
            name: M::NAME,
            tag: M::type_tag(),
        }
    }
}

/// Who has a path, as another node may know it.
pub(super) enum Listing {
    Nobody,
    Here(AnyActorRef),
    /// Somebody who takes messages of this name and tag.
    Other(&'static str, TypeTag),
    /// Somebody who is not to be found from other nodes.
    Unlisted,
}

impl Directory {
    fn by_path(&self) -> MutexGuard<'_, AHashMap<Arc<str>, Listed>> {
        // Nothing that could panic runs under the lock.
        self.by_path.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name for an actor that is about to be made.
    pub(super) fn reserve<M: Message>(
        &self,
        path: String,
        core: CoreId,
        wire: Option<WireName>,
    ) -> Result<Arc<str>, SpawnError> {
        let mut by_path = self.by_path();
        if by_path.contains_key(path.as_str()) {
            return Err(SpawnError::NameTaken { path });
        }
        let path: Arc<str> = path.into();
        let listed = Listed {
            core,
            actor: None,
            message: TypeId::of::<M>(),
            message_name: std::any::type_name::<M>(),
            wire,
        };
        by_path.insert(path.clone(), listed);
        Ok(path)
    }

    /// The actor for which a name was taken can be found from now on.
    pub(super) fn list(&self, path: &str, actor: AnyActorRef) {
        if let Some(listed) = self.by_path().get_mut(path) {
            listed.actor = Some(actor);
        }
    }

    /// Gives a name back.
    pub(super) fn strike(&self, path: &str) {
        let mut by_path = self.by_path();
        by_path.remove(path);
        give_back(&mut by_path);
    }

    /// Gives all names back that actors of a core still have, since it has come to its end.
    pub(super) fn strike_all_of(&self, core: CoreId) {
        let mut by_path = self.by_path();
        by_path.retain(|_, listed| listed.core != core);
        give_back(&mut by_path);
    }

    /// The actor at a path; a slash before it may be left out.
    pub(super) fn find<M: Message>(
        &self,
        path: &str,
    ) -> Result<Option<ActorRef<M>>, WrongMessageType> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let by_path = self.by_path();
        let Some(listed) = by_path.get(path) else {
            return Ok(None);
        };
        if listed.message != TypeId::of::<M>() {
            return Err(WrongMessageType {
                path: path.to_owned(),
                takes: listed.message_name,
                wanted: std::any::type_name::<M>(),
            });
        }
        Ok(listed.actor.map(AnyActorRef::of_type))
    }

    /// The same for another node, which sends messages of this type.
    pub(super) fn find_for(&self, path: &str, tag: TypeTag) -> Listing {
        let path = path.strip_prefix('/').unwrap_or(path);
        let by_path = self.by_path();
        let listed = by_path.get(path).map(|listed| (listed.actor, listed.wire));
        match listed {
            None | Some((None, _)) => Listing::Nobody,
            Some((Some(_), None)) => Listing::Unlisted,
            Some((Some(actor), Some(wire))) if wire.tag == tag => Listing::Here(actor),
            Some((Some(_), Some(wire))) => Listing::Other(wire.name, wire.tag),
        }
    }
}

/// Checks a name: it is part of a path, and what begins with a `$` stands for actors without one.
pub(super) fn check_name(name: &str) -> Result<(), SpawnError> {
    let why = match name {
        "" => "it is empty",
        _ if name.len() > LONGEST_NAME => "it is longer than 255 bytes",
        _ if name.contains('/') => "it contains a slash, which separates the names in a path",
        _ if name.starts_with('$') => "it begins with a `$`, as do those of actors without a name",
        _ => return Ok(()),
    };
    Err(SpawnError::BadName {
        name: name.to_owned(),
        why,
    })
}

/// A text that is not a name as one part of a path: no longer than names are, without slashes, and different from that of
/// every other text, as well as hashes are.
pub(super) fn part_of_path(text: &str) -> String {
    let mut part = String::with_capacity(text.len().min(2 * LONGEST_NAME));
    for char in text.chars() {
        match char {
            '/' => part.push_str("%2F"),
            '$' => part.push_str("%24"),
            '%' => part.push_str("%25"),
            char => part.push(char),
        }
        if part.len() > LONGEST_NAME {
            part.truncate(part.floor_char_boundary(LONGEST_NAME - 40));
            // No sign that stands for another is written like this.
            let (len, hash) = (text.len(), stable_hash(text.as_bytes()));
            part.push_str(&format!("%~{len}.{hash:016x}"));
            return part;
        }
    }
    if part.is_empty() {
        part.push('%');
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_were_given_back_take_no_memory() {
        let directory = Directory::default();
        let names = || (0..50_000).map(|number| format!("worker {number}"));
        let taken: Vec<_> = names()
            .map(|name| directory.reserve::<u64>(name, CoreId(0), None).unwrap())
            .collect();
        assert!(
            directory
                .reserve::<u64>("worker 7".into(), CoreId(0), None)
                .is_err()
        );
        taken.iter().for_each(|path| directory.strike(path));
        assert!(directory.by_path().capacity() <= 1_024);
        assert!(
            directory
                .reserve::<u64>("worker 7".into(), CoreId(0), None)
                .is_ok()
        );
    }

    #[test]
    fn a_core_that_has_gone_has_no_names() {
        let directory = Directory::default();
        for (name, core) in [("a", 0), ("b", 1), ("c", 1)] {
            directory
                .reserve::<u64>(name.into(), CoreId(core), None)
                .unwrap();
        }
        directory.strike_all_of(CoreId(1));
        let taken = ["a", "b", "c"].map(|name| {
            let reserved = directory.reserve::<u64>(name.into(), CoreId(0), None);
            reserved.is_err()
        });
        assert_eq!(taken, [true, false, false]);
    }

    #[test]
    fn every_text_has_a_part_of_its_own() {
        let long = "x".repeat(1_000);
        let (longer, slashes) = (format!("{long}y"), "/".repeat(1_000));
        let cut = part_of_path(&long);
        let texts = [
            "", "%", "/", "%2F", "%252F", "a", "$a", "a/b", "a%2Fb", &long, &longer, &slashes, &cut,
        ];
        let parts: std::collections::BTreeSet<_> = texts.map(part_of_path).into();
        assert_eq!(parts.len(), texts.len());
        for part in parts {
            assert!(check_name(&part).is_ok(), "{part:?} could not be a name");
        }
        assert_eq!(part_of_path("\"ada\""), "\"ada\"");
    }
}
