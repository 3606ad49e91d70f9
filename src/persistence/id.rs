//! What event-sourced actors are called in a journal.

use crate::base::stable_hash::stable_hash;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The name under which the events of one actor lie in a journal, for ever. At most one live actor has it.
///
/// ```
/// use corecast::PersistenceId;
///
/// assert_eq!(PersistenceId::new("ledger").as_str(), "ledger");
/// assert_eq!(PersistenceId::of_entity("cart", &7).as_str(), "cart/7");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistenceId(Arc<str>);

impl PersistenceId {
    /// The id of a plain actor. Keep to names without `/`: with one in it, it may be that of an entity.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> PersistenceId {
        PersistenceId(name.into())
    }

    /// The id of an entity: its type, `/`, and its own id. In the type's name, `/` and `%` are written as `%2F` and `%25`,
    /// so that no two entities have the same.
    #[must_use]
    pub fn of_entity(entity_type: &str, id: &impl fmt::Display) -> PersistenceId {
        let mut entity_type = Cow::from(entity_type);
        if entity_type.contains(['/', '%']) {
            entity_type = entity_type.replace('%', "%25").replace('/', "%2F").into();
        }
        PersistenceId(format!("{entity_type}/{id}").into())
    }

    /// The same on every build, CPU and node.
    pub(crate) fn stable_hash(&self) -> u64 {
        stable_hash(self.0.as_bytes())
    }

    /// The id as a text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PersistenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for PersistenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&str> for PersistenceId {
    fn from(name: &str) -> PersistenceId {
        PersistenceId::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_entities_have_the_same() {
        let ids = [("a", "b/c"), ("a/b", "c"), ("a%2Fb", "c"), ("a", "b%2Fc")];
        let texts = ids.map(|(kind, id)| PersistenceId::of_entity(kind, &id).to_string());
        assert_eq!(texts, ["a/b/c", "a%2Fb/c", "a%252Fb/c", "a/b%2Fc"]);
    }
}
