//! Asks that go on until they are told to end, one after the other for each entity: what has become of all of them, and
//! whether all of it can be true.

use super::cells::{Added, ToCell};
use super::process::Node;
use corecast::{AskError, Handle, Region};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Longer than anything takes that happens to a cluster here: no ask ends because its time is over.
const WITHIN: Duration = Duration::from_secs(80);

/// Whether it is to end.
#[derive(Clone, Default)]
pub(crate) struct Pouring {
    is_over: Arc<AtomicBool>,
    /// Of how many entities one ask at least has been answered.
    begun: Arc<AtomicU64>,
}

/// What has become of the asks of one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Poured {
    /// They may have taken effect.
    pub(crate) unknown: u64,
    /// They have certainly not.
    pub(crate) rejected: u64,
    /// Answers that were not higher than the one before of the same owner: something was lost, or answered out of order.
    pub(crate) backwards: u64,
    /// Who has answered, by epoch.
    pub(crate) owners: BTreeMap<u64, Owner>,
}

/// An owner that has died, or is not the owner any more all the same, since then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost {
    pub(crate) node: u32,
    pub(crate) at_ns: u64,
}

/// What has come from the owner of an entity in one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) node: u32,
    pub(crate) answered: u64,
    /// The highest total that it has said.
    pub(crate) most: u64,
    /// When its handler ran for the first of them, and for the last.
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
}

impl Owner {
    fn add(&mut self, other: Owner) {
        self.answered += other.answered;
        self.most = self.most.max(other.most);
        self.first_ns = self.first_ns.min(other.first_ns);
        self.last_ns = self.last_ns.max(other.last_ns);
    }
}

impl Poured {
    pub(crate) fn answered(&self) -> u64 {
        self.owners.values().map(|owner| owner.answered).sum()
    }

    #[track_caller]
    pub(crate) fn add(&mut self, other: &Poured) {
        self.unknown += other.unknown;
        self.rejected += other.rejected;
        self.backwards += other.backwards;
        for (epoch, owner) in &other.owners {
            match self.owners.get_mut(epoch) {
                Some(known) => {
                    assert_eq!(known.node, owner.node, "two owners in epoch {epoch}");
                    known.add(*owner);
                }
                None => drop(self.owners.insert(*epoch, *owner)),
            }
        }
    }

    fn take(&mut self, added: Added) {
        let Added {
            total,
            node,
            epoch,
            at_ns,
        } = added;
        let owner = Owner {
            node,
            answered: 1,
            most: total,
            first_ns: at_ns,
            last_ns: at_ns,
        };
        match self.owners.get_mut(&epoch) {
            Some(known) => {
                self.backwards += u64::from(total <= known.most || node != known.node);
                known.add(owner);
            }
            None => drop(self.owners.insert(epoch, owner)),
        }
    }

    /// `<unknown>:<rejected>:<backwards>`, and `/<epoch>:<node>:<answered>:<most>:<first>:<last>` for each owner
    fn shown(&self) -> String {
        let mut shown = format!("{}:{}:{}", self.unknown, self.rejected, self.backwards);
        for (epoch, owner) in &self.owners {
            let Owner {
                node,
                answered,
                most,
                first_ns,
                last_ns,
            } = owner;
            shown += &format!("/{epoch}:{node}:{answered}:{most}:{first_ns}:{last_ns}");
        }
        shown
    }

    /// From what a node has said: one for each entity.
    pub(crate) fn read(line: &str) -> Vec<Poured> {
        let numbers = |part: &str| -> Vec<u64> {
            let numbers = part.split(':').map(|number| number.parse().unwrap());
            numbers.collect()
        };
        let entity = |part: &str| {
            let mut parts = part.split('/').map(numbers);
            let [unknown, rejected, backwards] = parts.next().unwrap()[..] else {
                panic!("{part}")
            };
            let owners = parts.map(|owner| {
                let [epoch, node, answered, most, first_ns, last_ns] = owner[..] else {
                    panic!("{part}")
                };
                let owner = Owner {
                    node: node as u32,
                    answered,
                    most,
                    first_ns,
                    last_ns,
                };
                (epoch, owner)
            });
            Poured {
                unknown,
                rejected,
                backwards,
                owners: owners.collect(),
            }
        };
        line.split(' ')
            .nth(1)
            .unwrap()
            .split(',')
            .map(entity)
            .collect()
    }

    /// Judges what all nodes together have seen of one entity, and what its total was in the end. It lives in memory: with an
    /// owner that is lost everything is gone that had been added until then.
    #[track_caller]
    pub(crate) fn judge(&self, id: usize, total: u64, lost: Option<Lost>) {
        let Poured { owners, .. } = self;
        assert_eq!(self.backwards, 0, "entity {id}: {self:?}");
        // Nobody is believed who is not the owner any more: whose handler ran after one of a later epoch.
        let earlier = owners.values().zip(owners.values().skip(1));
        for (owner, next) in earlier {
            let is_over = owner.last_ns < next.first_ns;
            assert!(is_over, "entity {id} had two owners at a time: {self:?}");
        }
        let kept_from = lost.map_or(0, |lost| {
            let mut until = owners
                .iter()
                .filter(|(_, owner)| owner.first_ns < lost.at_ns);
            let (epoch, owner) = until.next_back().expect("it was answered before");
            assert_eq!(owner.node, lost.node, "entity {id}: {self:?}");
            epoch + 1
        });
        let kept = owners.range(kept_from..);
        let answered: u64 = kept.map(|(_, owner)| owner.answered).sum();
        assert!(answered > 0, "entity {id} was never answered: {self:?}");
        // Each that was answered is in it once, and each of which nobody knows at most once.
        let is_right = (answered..=answered + self.unknown).contains(&total);
        assert!(is_right, "entity {id} has {total}: {self:?}");
    }
}

/// Has a node ask so many entities, with so many milliseconds between two asks of one, and waits until each has answered.
pub(crate) fn pour(node: &mut Node, count: u64, pause_ms: u64) {
    node.tell(&format!("pour 0 {count} {pause_ms}"));
    let all = format!("begun {count}");
    while {
        node.tell("begun");
        node.wait_for_line("begun ").text != all
    } {}
}

impl Pouring {
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// `begun <of how many entities one ask has been answered>`
    pub(crate) fn begun(&self) -> String {
        format!("begun {}", self.begun.load(Ordering::Relaxed))
    }

    /// `poured <what has become of them>,... <the first that was not answered>`
    pub(crate) fn pour(
        &self,
        handle: &Handle,
        cells: Region<u64, ToCell>,
        ids: Range<u64>,
        pause: Duration,
    ) -> String {
        let streams = ids.map(|id| {
            let (handle, pouring) = (handle.clone(), self.clone());
            std::thread::spawn(move || stream(&handle, cells, id, pause, &pouring))
        });
        let streams: Vec<_> = streams.collect();
        let ended = streams.into_iter().map(|stream| stream.join().unwrap());
        let (poured, failures): (Vec<Poured>, Vec<Option<AskError>>) = ended.unzip();
        let poured: Vec<String> = poured.iter().map(Poured::shown).collect();
        let failure = failures.into_iter().flatten().next();
        format!("poured {} {failure:?}", poured.join(","))
    }
}

fn stream(
    handle: &Handle,
    cells: Region<u64, ToCell>,
    id: u64,
    pause: Duration,
    pouring: &Pouring,
) -> (Poured, Option<AskError>) {
    let (mut poured, mut failure) = (Poured::default(), None);
    while !pouring.is_over.load(Ordering::Relaxed) {
        let ask = handle.ask_within(WITHIN, cells.entity_ref(id), ToCell::Add);
        match ask.wait() {
            Ok(added) => {
                let is_first = poured.owners.is_empty();
                pouring.begun.fetch_add(is_first.into(), Ordering::Relaxed);
                poured.take(added);
            }
            Err(error) => {
                match error {
                    AskError::Rejected(_) => poured.rejected += 1,
                    AskError::Unknown(_) => poured.unknown += 1,
                }
                failure = failure.or(Some(error));
            }
        }
        std::thread::sleep(pause);
    }
    (poured, failure)
}
