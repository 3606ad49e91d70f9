//! What is measured: the workloads, their sizes, and the goals corecast is held to.

use clap::ValueEnum;

/// Messages in one batch of the raw channel between two cores.
pub(crate) const RAW_BATCH: usize = 64;

/// Words in a message of [`Workload::TellCores`]: 64 bytes.
pub(crate) const PAYLOAD_WORDS: usize = 8;

/// A message of [`Workload::TellCores`]; its first word is the number the counter adds up.
pub(crate) type Payload = [u64; PAYLOAD_WORDS];

/// A pause before each ask of [`Workload::AskParked`], in microseconds: long enough that both sides sleep.
pub(crate) const PARK_PAUSE_US: u64 = 200;

/// One row of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// One producer tells one counter, both on one core.
    Tell,
    /// One producer tells many counters in turn, one message each, all on one core.
    Actors,
    /// One token goes round a ring of actors on one core.
    Ring,
    /// An actor is spawned, told, asked and stopped, one after the other, on one core.
    Spawn,
    /// One producer tells one counter on another core.
    TellCores,
    /// One ask at a time to another core; neither core ever sleeps.
    AskHot,
    /// One ask at a time to another core; both cores sleep before each.
    AskParked,
}

/// How much of a workload one run does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Counters, or members of the ring; 1 where there is nothing to choose.
    pub actors: u64,
    /// Messages, hops, spawned actors or asks in all.
    pub messages: u64,
    /// Asks made before those that are measured.
    pub warm_up: u64,
}

/// What one run of a workload yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// How many a second; more is better.
    Rate,
    /// Nanoseconds of a round trip; less is better.
    RoundTrip,
}

/// What corecast is compared with in a [`Goal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Against {
    /// The fastest of the peers in the same run.
    BestPeer,
    /// The same thing between two bare threads in the same run.
    Raw,
}

/// The bound on corecast's value divided by that of the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    /// For rates.
    AtLeast(f64),
    /// For round trips.
    AtMost(f64),
}

/// A ratio corecast is to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Goal {
    /// Divide by this one's median.
    pub against: Against,
    /// Keep within this.
    pub bound: Bound,
}

impl Workload {
    /// In the order of the table.
    pub(crate) const ALL: [Self; 7] = [
        Self::Tell,
        Self::Actors,
        Self::Ring,
        Self::Spawn,
        Self::TellCores,
        Self::AskHot,
        Self::AskParked,
    ];

    /// As on the command line and in the JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tell => "tell",
            Self::Actors => "actors",
            Self::Ring => "ring",
            Self::Spawn => "spawn",
            Self::TellCores => "tell-cores",
            Self::AskHot => "ask-hot",
            Self::AskParked => "ask-parked",
        }
    }

    /// The amount of work of one run; `quick` is for trying the program out, not for figures.
    pub(crate) fn size(self, quick: bool) -> Size {
        let (actors, messages, warm_up) = match self {
            Self::Tell | Self::TellCores => (1, 5_000_000, 0),
            Self::Actors => (1_000, 2_000_000, 0),
            Self::Ring => (100, 1_000_000, 0),
            Self::Spawn => (1, 100_000, 0),
            Self::AskHot => (1, 100_000, 5_000),
            Self::AskParked => (1, 2_000, 100),
        };
        let divisor = if quick { 20 } else { 1 };
        Size {
            actors,
            messages: messages / divisor,
            warm_up: warm_up / divisor,
        }
    }

    /// What is done, in a line, with its sizes.
    pub(crate) fn what(self, size: Size) -> String {
        let Size {
            actors, messages, ..
        } = size;
        match self {
            Self::Tell => format!("{messages} tells, one producer to one counter, one core"),
            Self::Actors => format!(
                "{} tells to each of {actors} actors in turn, one core",
                messages / actors
            ),
            Self::Ring => format!("{messages} hops of one token round {actors} actors, one core"),
            Self::Spawn => {
                format!("spawn, tell, ask, stop: {messages} actors one by one, one core")
            }
            Self::TellCores => format!(
                "{messages} tells of {} bytes, core to core",
                size_of::<Payload>()
            ),
            Self::AskHot => format!("{messages} asks one at a time, core to core, both awake"),
            Self::AskParked => {
                format!(
                    "{messages} asks one at a time, core to core, both asleep ({PARK_PAUSE_US} µs pause)"
                )
            }
        }
    }

    /// What the thing measured is called.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Tell | Self::Actors | Self::TellCores => "messages/s",
            Self::Ring => "hops/s",
            Self::Spawn => "actors/s",
            Self::AskHot | Self::AskParked => "ns",
        }
    }

    /// Whether more or less is better.
    pub(crate) fn measure(self) -> Measure {
        match self {
            Self::AskHot | Self::AskParked => Measure::RoundTrip,
            _ => Measure::Rate,
        }
    }

    /// Whether it takes two CPUs.
    pub(crate) fn needs_two_cpus(self) -> bool {
        matches!(self, Self::TellCores | Self::AskHot | Self::AskParked)
    }

    /// What corecast is to reach in this row.
    pub(crate) fn goals(self) -> &'static [Goal] {
        const fn peer(times: f64) -> Goal {
            Goal {
                against: Against::BestPeer,
                bound: Bound::AtLeast(times),
            }
        }
        const fn raw(bound: Bound) -> Goal {
            Goal {
                against: Against::Raw,
                bound,
            }
        }
        match self {
            Self::Tell => const { &[peer(8.0)] },
            Self::Actors => const { &[peer(5.0)] },
            Self::Ring | Self::Spawn => const { &[peer(4.0)] },
            Self::TellCores => const { &[peer(10.0), raw(Bound::AtLeast(0.2))] },
            Self::AskHot => const { &[raw(Bound::AtMost(2.0))] },
            Self::AskParked => const { &[raw(Bound::AtMost(1.5))] },
        }
    }
}

impl Bound {
    /// Whether `ratio` keeps to it.
    pub(crate) fn is_met_by(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_held_to_a_goal_of_its_own_direction() {
        for workload in Workload::ALL {
            assert!(!workload.goals().is_empty(), "{workload:?} has no goal");
            for goal in workload.goals() {
                let is_rate = matches!(goal.bound, Bound::AtLeast(_));
                assert_eq!(is_rate, workload.measure() == Measure::Rate, "{workload:?}");
            }
        }
    }

    #[test]
    fn sizes_divide_evenly_so_that_counts_can_be_exact() {
        for quick in [false, true] {
            for workload in Workload::ALL {
                let size = workload.size(quick);
                assert!(size.messages > 0);
                assert_eq!(size.messages % size.actors, 0, "{workload:?}");
            }
            assert_eq!(
                Workload::TellCores.size(quick).messages % RAW_BATCH as u64 % 8,
                0
            );
        }
    }

    #[test]
    fn bounds_include_their_limit() {
        assert!(Bound::AtLeast(8.0).is_met_by(8.0) && !Bound::AtLeast(8.0).is_met_by(7.99));
        assert!(Bound::AtMost(2.0).is_met_by(2.0) && !Bound::AtMost(2.0).is_met_by(2.01));
    }
}
