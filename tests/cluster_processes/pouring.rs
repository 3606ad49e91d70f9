//! Asks that go on until they are told to end, one after the other for each entity, and what has become of all of them.

use crate::cells::ToCell;
use corecast::{AskError, Handle, Region};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between two asks of one entity.
const PAUSE: Duration = Duration::from_millis(3);

/// Whether it is to end.
#[derive(Clone, Default)]
pub(crate) struct Pouring {
    is_over: Arc<AtomicBool>,
}

/// What has become of the asks of one entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Poured {
    pub(crate) answered: u64,
    /// They may have taken effect.
    pub(crate) unknown: u64,
    /// They have certainly not.
    pub(crate) rejected: u64,
    /// Answers that were not higher than the one before: something was lost, or answered out of order.
    pub(crate) backwards: u64,
}

impl Poured {
    pub(crate) fn add(&mut self, other: Poured) {
        self.answered += other.answered;
        self.unknown += other.unknown;
        self.rejected += other.rejected;
        self.backwards += other.backwards;
    }

    fn shown(self) -> String {
        let Poured {
            answered,
            unknown,
            rejected,
            backwards,
        } = self;
        format!("{answered}:{unknown}:{rejected}:{backwards}")
    }

    /// From what a node has said: one for each entity.
    pub(crate) fn read(line: &str) -> Vec<Poured> {
        let parts = line.split(' ').nth(1).unwrap().split(',');
        let poured = parts.map(|part| {
            let mut numbers = part.split(':').map(|number| number.parse().unwrap());
            let mut next = || numbers.next().unwrap();
            Poured {
                answered: next(),
                unknown: next(),
                rejected: next(),
                backwards: next(),
            }
        });
        poured.collect()
    }
}

impl Pouring {
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// `poured <answered>:<unknown>:<rejected>:<backwards>,... <the first that was not answered>`
    pub(crate) fn pour(
        &self,
        handle: &Handle,
        cells: Region<u64, ToCell>,
        first: u64,
        count: u64,
    ) -> String {
        let streams = (first..first + count).map(|id| {
            let (handle, is_over) = (handle.clone(), self.is_over.clone());
            std::thread::spawn(move || stream(&handle, cells, id, &is_over))
        });
        let streams: Vec<_> = streams.collect();
        let ended = streams.into_iter().map(|stream| stream.join().unwrap());
        let (poured, failures): (Vec<Poured>, Vec<Option<AskError>>) = ended.unzip();
        let poured: Vec<String> = poured.into_iter().map(Poured::shown).collect();
        let failure = failures.into_iter().flatten().next();
        format!("poured {} {failure:?}", poured.join(","))
    }
}

fn stream(
    handle: &Handle,
    cells: Region<u64, ToCell>,
    id: u64,
    is_over: &AtomicBool,
) -> (Poured, Option<AskError>) {
    let (mut poured, mut failure, mut last) = (Poured::default(), None, 0);
    while !is_over.load(Ordering::Relaxed) {
        match handle.ask(cells.entity_ref(id), ToCell::Add).wait() {
            Ok(total) => {
                poured.answered += 1;
                poured.backwards += u64::from(total <= last);
                last = total;
            }
            Err(error) => {
                match error {
                    AskError::Rejected(_) => poured.rejected += 1,
                    AskError::Unknown(_) => poured.unknown += 1,
                }
                failure = failure.or(Some(error));
            }
        }
        std::thread::sleep(PAUSE);
    }
    (poured, failure)
}
