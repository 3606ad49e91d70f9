//! The hash that places entities: XXH3 with a fixed seed, the same on every build, CPU and version.
//!
//! It is part of the contract between nodes, so it must never change. `ahash`, whose output differs between CPUs and
//! versions, serves maps in memory only.

use xxhash_rust::{const_xxh3, xxh3::xxh3_64_with_seed};

/// Fixed for ever: changing it would move every entity.
const PLACEMENT_SEED: u64 = 0x636f_7265_6361_7374;

/// Hashes bytes for placement.
#[inline]
#[must_use]
pub fn stable_hash(bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, PLACEMENT_SEED)
}

/// The same, slower, for what is known when the program is compiled.
#[must_use]
pub const fn const_stable_hash(bytes: &[u8]) -> u64 {
    const_xxh3::xxh3_64_with_seed(bytes, PLACEMENT_SEED)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These values are the contract: a build that computes others would look for entities in the wrong places.
    #[test]
    fn known_values_never_change() {
        for (input, hash) in [
            (&b""[..], 0x6750_2481_7867_0b6b_u64),
            (b"a", 0x8336_5c4d_2edd_b423),
            (b"tail-N14228", 0x16ec_0a70_7c97_02ce),
        ] {
            assert_eq!(
                stable_hash(input),
                hash,
                "{}",
                String::from_utf8_lossy(input)
            );
            assert_eq!(const_stable_hash(input), hash);
        }
    }
}
