//! Tables that are as large as what is in them, and not as what has once been in them.

use ahash::AHashMap;
use std::hash::Hash;

/// Smaller ones keep their memory.
const WORTH_IT: usize = 1_024;

/// Gives a table's memory back when most of it is empty; to be called after something has been taken out.
pub(crate) fn give_back<K: Eq + Hash, V>(table: &mut AHashMap<K, V>) {
    if table.capacity() > WORTH_IT && table.len() < table.capacity() / 8 {
        let room = table.len() * 2;
        table.shrink_to(room);
    }
}
