//! The systems that are compared, by one interface.

use crate::measure::{Cpus, RunError, Sample};
use crate::peer_actix::Actix;
use crate::peer_kameo::Kameo;
use crate::peer_ractor::Ractor;
use crate::workload::{Size, Workload};
use crate::{peer, peer_actix, peer_kameo, peer_ractor, raw};

/// One column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    /// Bare threads.
    Raw,
    /// This project.
    #[cfg(feature = "corecast")]
    Corecast,
    /// `kameo`.
    Kameo,
    /// `ractor`.
    Ractor,
    /// `actix`.
    Actix,
}

impl System {
    /// In the order in which they take turns.
    pub(crate) const ALL: &'static [Self] = &[
        Self::Raw,
        #[cfg(feature = "corecast")]
        Self::Corecast,
        Self::Kameo,
        Self::Ractor,
        Self::Actix,
    ];

    /// The crate's name, or `raw`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            #[cfg(feature = "corecast")]
            Self::Corecast => "corecast",
            Self::Kameo => "kameo",
            Self::Ractor => "ractor",
            Self::Actix => "actix",
        }
    }

    /// Whether it is one of those corecast is compared with.
    pub(crate) fn is_peer(self) -> bool {
        matches!(self, Self::Kameo | Self::Ractor | Self::Actix)
    }

    /// The version this program was built with, from its lock file; `None` for bare threads.
    pub(crate) fn version(self) -> Option<&'static str> {
        version_in(include_str!("../Cargo.lock"), self.name())
    }

    /// How it is set up for `workload`.
    pub(crate) fn setting(self, workload: Workload) -> &'static str {
        match self {
            Self::Raw => raw::setting(workload),
            #[cfg(feature = "corecast")]
            Self::Corecast => crate::own_corecast::setting(workload),
            Self::Kameo => peer_kameo::setting(workload),
            Self::Ractor => peer_ractor::setting(workload),
            Self::Actix => peer_actix::setting(workload),
        }
    }

    /// Runs `workload` once, in a runtime started for it and gone afterwards.
    pub(crate) fn run(
        self,
        workload: Workload,
        size: Size,
        cpus: Cpus,
    ) -> Result<Sample, RunError> {
        match self {
            Self::Raw => raw::run(workload, size, cpus),
            #[cfg(feature = "corecast")]
            Self::Corecast => crate::own_corecast::run(workload, size, cpus),
            Self::Kameo => peer::run::<Kameo>(workload, size, cpus),
            Self::Ractor => peer::run::<Ractor>(workload, size, cpus),
            Self::Actix => peer::run::<Actix>(workload, size, cpus),
        }
    }
}

/// The version of package `name` in the text of a lock file.
fn version_in<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = lock.lines().skip_while(|line| {
        line.strip_prefix("name = ")
            .is_none_or(|quoted| unquote(quoted) != name)
    });
    lines.next()?;
    lines.next()?.strip_prefix("version = ").map(unquote)
}

fn unquote(quoted: &str) -> &str {
    quoted.trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_a_version_and_raw_has_none() {
        for system in System::ALL {
            assert_eq!(
                system.version().is_some(),
                *system != System::Raw,
                "{system:?}"
            );
        }
    }

    #[test]
    fn versions_are_of_the_package_named() {
        let lock = "[[package]]\nname = \"actix-rt\"\nversion = \"2.0.0\"\n\n[[package]]\nname = \"actix\"\nversion = \"0.1.2\"\n";
        assert_eq!(version_in(lock, "actix"), Some("0.1.2"));
        assert_eq!(version_in(lock, "kameo"), None);
    }

    #[test]
    fn every_system_counts_exactly_in_every_workload() {
        let cpus = crate::machine::cpus().expect("affinity is known");
        for workload in Workload::ALL {
            let size = Size {
                messages: 2_000,
                warm_up: 10,
                actors: workload.size(true).actors,
            };
            for system in System::ALL {
                if workload.needs_two_cpus() && cpus.first == cpus.second {
                    continue;
                }
                let sample = system
                    .run(workload, size, cpus)
                    .unwrap_or_else(|error| panic!("{system:?} {workload:?}: {error}"));
                assert!(sample.value > 0.0);
            }
        }
    }
}
