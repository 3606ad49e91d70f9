//! Work for handlers: a computation of a fixed length, which is the same work on a CPU that is shared or slowed down.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Rounds of one measurement: about a millisecond.
const SAMPLE: u32 = 500_000;
/// Measurements, the fastest of which counts: the others were interrupted.
const SAMPLES: usize = 15;

/// A number of rounds of a computation that the compiler cannot shorten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effort {
    rounds: u32,
}

impl Effort {
    /// What takes so long on this CPU when nothing else runs there.
    pub(super) fn taking(time: Duration) -> Effort {
        let fastest = (0..SAMPLES)
            .map(|_| {
                let started = Instant::now();
                black_box(Effort { rounds: SAMPLE }.spend(1));
                started.elapsed()
            })
            .min()
            .unwrap_or_default();
        Effort::of(time, fastest.as_secs_f64() / f64::from(SAMPLE))
    }

    fn of(time: Duration, seconds_per_round: f64) -> Effort {
        // A clock that stands still gives no rate: the float-to-integer cast saturates.
        let rounds = (time.as_secs_f64() / seconds_per_round).round() as u32;
        Effort {
            rounds: rounds.max(1),
        }
    }

    /// Computes; each round needs the one before it.
    #[inline]
    pub(super) fn spend(self, seed: u64) -> u64 {
        (0..self.rounds).fold(seed, |state, round| {
            (state ^ u64::from(round))
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .rotate_left(29)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_fill_the_time() {
        let effort = |nanos| Effort::of(Duration::from_nanos(nanos), 2e-9);
        assert_eq!(effort(2_000).rounds, 1_000);
        assert_eq!(effort(1).rounds, 1);
        assert_eq!(effort(0).rounds, 1, "no work at all is no load");
    }

    #[test]
    fn every_round_counts() {
        let spent = |rounds| Effort { rounds }.spend(7);
        assert_ne!(spent(1), spent(2));
        assert_ne!(Effort { rounds: 5 }.spend(1), Effort { rounds: 5 }.spend(2));
    }
}
