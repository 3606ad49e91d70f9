//! The trace of a run: every delivery, flush, timer, poll, wake and dead letter, with core, time and payload hash.
//!
//! It is kept as records of 32 bytes, so that two runs can be compared byte for byte and a difference can be shown.

use crate::actor::reference::CellRef;
use crate::actor::refusal::Rejection;
use crate::actor::trace::TraceEvent;
use crate::base::ids::CoreId;
use crate::base::stable_hash::stable_hash;
use crate::base::time::Time;
use crate::mesh::lane::LaneClass;
use std::collections::BTreeMap;
use std::fmt;

const RECORD: usize = 32;

const DELIVER: u8 = 1;
const FLUSH: u8 = 2;
const TIMER: u8 = 3;
const WAKE: u8 = 4;
const POLL: u8 = 5;
const DEAD_LETTER: u8 = 6;
const ELSEWHERE: u8 = 7;
const INJECT: u8 = 8;

/// What a run did, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    bytes: Vec<u8>,
    /// Every name by its hash, which is what records hold.
    names: BTreeMap<u32, &'static str>,
}

/// The first place at which two traces differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The number of the event, from 0.
    pub event: usize,
    /// What the first run did there, if it had not ended.
    pub first: Option<String>,
    /// What the second run did there, if it had not ended.
    pub second: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_end = |event: &Option<String>| {
            event
                .clone()
                .unwrap_or_else(|| "(the run had ended)".to_owned())
        };
        write!(
            f,
            "event {}: first run: {}; second run: {}",
            self.event,
            or_end(&self.first),
            or_end(&self.second)
        )
    }
}

impl Trace {
    /// The trace as bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many events it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() / RECORD
    }

    /// Whether nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The events in words, one a line of a report.
    pub fn events(&self) -> impl Iterator<Item = String> {
        (0..self.len()).filter_map(|event| self.describe(event))
    }

    /// The payload hashes of all deliveries with their receivers, in order: what two seeds must not have in common.
    pub fn deliveries(&self) -> impl Iterator<Item = (CoreId, u64, u64)> {
        self.bytes
            .chunks_exact(RECORD)
            .filter(|record| record[0] == DELIVER)
            .map(|record| {
                (
                    CoreId(small(record, 2)),
                    large(record, 16),
                    large(record, 24),
                )
            })
    }

    /// Where another trace first differs from this one.
    #[must_use]
    pub fn difference(&self, other: &Trace) -> Option<Difference> {
        if self.bytes == other.bytes {
            return None;
        }
        let same = self
            .bytes
            .chunks(RECORD)
            .zip(other.bytes.chunks(RECORD))
            .take_while(|(a, b)| a == b)
            .count();
        Some(Difference {
            event: same,
            first: self.describe(same),
            second: other.describe(same),
        })
    }

    fn describe(&self, event: usize) -> Option<String> {
        let record = self.bytes.get(event * RECORD..(event + 1) * RECORD)?;
        let (core, time) = (CoreId(small(record, 2)), Time::from_nanos(large(record, 8)));
        let name = || self.names.get(&medium(record, 4)).copied().unwrap_or("?");
        let (a, b) = (large(record, 16), large(record, 24));
        let what = match record[0] {
            DELIVER => format!(
                "deliver {b:016x} to {} in cell {}.{}",
                name(),
                a >> 32,
                a & 0xffff_ffff
            ),
            FLUSH => format!("flush {b} messages to {} ({})", CoreId(a as u16), name()),
            TIMER => format!("timer {}", name()),
            WAKE => format!("wake {}", CoreId(a as u16)),
            POLL => format!("poll task {a}"),
            INJECT => format!(
                "inject {} into cell {}.{}",
                name(),
                a >> 32,
                a & 0xffff_ffff
            ),
            DEAD_LETTER => format!("dead letter ({})", name()),
            _ => format!("work elsewhere, number {a}"),
        };
        Some(format!("{time} {core} {what}"))
    }
}

fn small(record: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([record[at], record[at + 1]])
}

fn medium(record: &[u8], at: usize) -> u32 {
    u32::from(small(record, at)) | u32::from(small(record, at + 2)) << 16
}

fn large(record: &[u8], at: usize) -> u64 {
    u64::from(medium(record, at)) | u64::from(medium(record, at + 4)) << 32
}

fn why_name(why: Rejection) -> &'static str {
    match why {
        Rejection::MailboxFull => "MailboxFull",
        Rejection::Evicted => "Evicted",
        Rejection::CoreBudget => "CoreBudget",
        Rejection::OutboxFull => "OutboxFull",
        Rejection::IngressFull => "IngressFull",
        Rejection::TooManyAsks => "TooManyAsks",
        Rejection::TooManyTimers => "TooManyTimers",
        Rejection::TooManyWatches => "TooManyWatches",
        Rejection::NoSuchActor => "NoSuchActor",
        Rejection::OldIncarnation => "OldIncarnation",
        Rejection::Stopped => "Stopped",
        Rejection::StartFailed => "StartFailed",
        Rejection::Moving => "Moving",
        Rejection::ShuttingDown => "ShuttingDown",
        Rejection::CoreDied => "CoreDied",
        Rejection::LateReply => "LateReply",
        Rejection::Injected => "Injected",
        Rejection::LinkFull => "LinkFull",
        Rejection::LinkLost => "LinkLost",
        Rejection::Unallocated => "Unallocated",
        Rejection::Fenced => "Fenced",
        Rejection::NoControlQuorum => "NoControlQuorum",
        Rejection::TooLarge => "TooLarge",
        Rejection::NotArchived => "NotArchived",
        Rejection::Unreadable => "Unreadable",
        Rejection::Misrouted => "Misrouted",
        Rejection::NotAcrossNodes => "NotAcrossNodes",
        Rejection::Elsewhere => "Elsewhere",
    }
}

fn cell(at: CellRef) -> u64 {
    u64::from(at.slot()) << 32 | u64::from(at.generation())
}

/// Writes a trace.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) trace: Trace,
}

impl Recorder {
    pub(super) fn record(&mut self, core: CoreId, nanos: u64, event: TraceEvent) {
        let (kind, name, a, b) = match event {
            TraceEvent::Deliver { to, actor, digest } => (DELIVER, actor, cell(to), digest),
            TraceEvent::Inject { to, what } => (INJECT, what, cell(to), 0),
            TraceEvent::Flush {
                to,
                class,
                messages,
            } => {
                let class = match class {
                    LaneClass::Control => "control",
                    LaneClass::Replies => "replies",
                    LaneClass::Requests => "requests",
                };
                (FLUSH, class, u64::from(to.0), messages as u64)
            }
            TraceEvent::Timer { kind } => (TIMER, kind, 0, 0),
            TraceEvent::Wake { core } => (WAKE, "", u64::from(core.0), 0),
            TraceEvent::Poll { task } => (POLL, "", u64::from(task), 0),
            TraceEvent::DeadLetter { why } => (DEAD_LETTER, why_name(why), 0, 0),
        };
        self.push(kind, core, nanos, name, a, b);
    }

    pub(super) fn record_elsewhere(&mut self, nanos: u64, number: u64) {
        self.push(ELSEWHERE, CoreId(u16::MAX), nanos, "", number, 0);
    }

    fn push(&mut self, kind: u8, core: CoreId, nanos: u64, name: &'static str, a: u64, b: u64) {
        let name = self.name(name);
        let bytes = &mut self.trace.bytes;
        bytes.extend_from_slice(&[kind, 0]);
        bytes.extend_from_slice(&core.0.to_le_bytes());
        bytes.extend_from_slice(&name.to_le_bytes());
        for word in [nanos, a, b] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }

    fn name(&mut self, name: &'static str) -> u32 {
        let hash = stable_hash(name.as_bytes()) as u32;
        self.trace.names.entry(hash).or_insert(name);
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let mut first = Recorder::default();
        let mut second = Recorder::default();
        for recorder in [&mut first, &mut second] {
            recorder.record(CoreId(1), 5, TraceEvent::Timer { kind: "ask" });
        }
        assert_eq!(first.trace.difference(&second.trace), None);
        first.record(
            CoreId(2),
            7,
            TraceEvent::Flush {
                to: CoreId(0),
                class: LaneClass::Requests,
                messages: 3,
            },
        );
        let difference = first.trace.difference(&second.trace).unwrap();
        assert_eq!(difference.event, 1);
        assert_eq!(
            difference.first.as_deref(),
            Some("0.000000007s core-2 flush 3 messages to core-0 (requests)")
        );
        assert_eq!(difference.second, None);
        second.record(
            CoreId(2),
            7,
            TraceEvent::Flush {
                to: CoreId(0),
                class: LaneClass::Replies,
                messages: 3,
            },
        );
        let difference = first.trace.difference(&second.trace).unwrap();
        assert_eq!(difference.event, 1);
        assert!(difference.second.unwrap().ends_with("(replies)"));
        assert_eq!((first.trace.len(), first.trace.bytes().len()), (2, 64));
    }
}
