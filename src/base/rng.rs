//! Seeded randomness: every random choice of the runtime, and of the actors on it, comes from a generator made here.

use rand::SeedableRng;
/// A generator: small, fast and the same everywhere, and no source of secrets.
pub use rand::rngs::Xoshiro256PlusPlus as Rng;

/// A generator for one purpose: the same seed and stream give the same numbers on every machine and build.
#[must_use]
pub fn seeded(seed: u64, stream: u64) -> Rng {
    Rng::seed_from_u64(seed ^ stream.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}
