//! What is told to whoever reads logs: each trouble with each peer once in a while, whatever the peer does.

use super::remote::Remote;
use crate::base::time::Time;
use core::net::IpAddr;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// With whom there is trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A node, or somebody who says to be it.
    Remote(Remote),
    /// Somebody who has not said who it is.
    Address(IpAddr),
    /// More than are told apart.
    Others,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Remote(remote) => write!(f, "{remote}"),
            Source::Address(address) => write!(f, "{address}"),
            Source::Others => f.write_str("others"),
        }
    }
}

/// One line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// With whom.
    pub source: Source,
    /// What, as a class that does not change.
    pub class: &'static str,
    /// What exactly.
    pub text: String,
    /// How often it has happened since it was told last, and was not told.
    pub untold: u64,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection with {}: {}", self.source, self.text)?;
        match self.untold {
            0 => Ok(()),
            untold => write!(f, " ({untold} more of the kind since the last such line)"),
        }
    }
}

#[derive(Debug)]
struct Told {
    at: Time,
    untold: u64,
}

/// Remembers what was told. Bounded: what finds no room is told as one trouble with others.
#[derive(Debug)]
pub(super) struct Notes {
    period: Duration,
    most: usize,
    told: BTreeMap<(Source, &'static str), Told>,
}

impl Notes {
    pub(super) fn new(period: Duration, most: usize) -> Notes {
        Notes {
            period,
            most,
            told: BTreeMap::new(),
        }
    }

    /// The note of a trouble, unless it was told lately.
    pub(super) fn take(
        &mut self,
        source: Source,
        class: &'static str,
        text: &dyn fmt::Display,
        now: Time,
    ) -> Option<Note> {
        let mut key = (source, class);
        if !self.told.contains_key(&key) && self.told.len() >= self.most {
            // What has a count that nobody was told of stays until it is told again, or for another period.
            let period = self.period;
            self.told.retain(|_, told| {
                let keeps = match told.untold {
                    0 => period,
                    _ => period.saturating_mul(2),
                };
                now < told.at + keeps
            });
        }
        if !self.told.contains_key(&key) && self.told.len() >= self.most {
            key = (Source::Others, "more than are told apart");
        }
        let told = self.told.entry(key).or_insert(Told {
            at: Time::MAX,
            untold: 0,
        });
        if told.at != Time::MAX && now < told.at + self.period {
            told.untold += 1;
            return None;
        }
        told.at = now;
        Some(Note {
            source: key.0,
            class: key.1,
            text: match key.0 {
                Source::Others => format!(
                    "more peers have trouble than are told apart, the last with {source}: {text}"
                ),
                _ => text.to_string(),
            },
            untold: std::mem::take(&mut told.untold),
        })
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.told.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeId;

    #[test]
    fn each_trouble_is_told_once_in_a_period() {
        let mut notes = Notes::new(Duration::from_secs(60), 10);
        let source = Source::Remote(Remote::control(NodeId(3)));
        let at = |s| Time::ZERO + Duration::from_secs(s);
        assert!(notes.take(source, "garbage", &"first", at(0)).is_some());
        for second in 0..60 {
            assert_eq!(notes.take(source, "garbage", &"again", at(second)), None);
        }
        assert!(notes.take(source, "silent", &"another", at(1)).is_some());
        let later = notes.take(source, "garbage", &"later", at(60)).unwrap();
        assert_eq!(
            later.to_string(),
            "connection with node-3: later (60 more of the kind since the last such line)"
        );
    }

    #[test]
    fn ten_thousand_sources_have_a_bounded_table_and_few_lines() {
        let mut notes = Notes::new(Duration::from_secs(60), 10);
        let mut lines = 0;
        for n in 0..10_000_u32 {
            let source = Source::Address(IpAddr::from(n.to_be_bytes()));
            lines += usize::from(notes.take(source, "garbage", &n, Time::ZERO).is_some());
        }
        assert_eq!((lines, notes.len()), (11, 11));
        // A period later there is room again.
        let later = Time::ZERO + Duration::from_secs(120);
        let source = Source::Address(IpAddr::from([9, 9, 9, 9]));
        let note = notes.take(source, "garbage", &"x", later).unwrap();
        assert_eq!(note.source, source);
    }

    #[test]
    fn a_period_without_end_is_one() {
        let mut notes = Notes::new(Duration::MAX, 2);
        for n in 0..5_u32 {
            for _ in 0..2 {
                let source = Source::Address(IpAddr::from(n.to_be_bytes()));
                let _ = notes.take(source, "garbage", &n, Time::ZERO);
            }
        }
        assert_eq!(notes.len(), 3);
    }
}
