//! The rows of a file that are this node's, each to the entity named by its key, as a thread outside of the cores sends
//! them.
//!
//! Of all rows that can be read, counted from 0, a node sends each n-th. A row counts as sent when its entity has
//! acknowledged it; rows are acknowledged in order, so that one number says how far a node has come, and its next process
//! goes on there. A row that was rejected has certainly had no effect and is sent again; one of which nobody knows is not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use corecast::{AskError, Handle, Pending, Region};

use super::tallies::ToClusterTally;
use crate::cluster::protocol::{FedNews, FeedOrder};
use crate::replay::{Columns, Line, Row, Rows, Source};
use crate::run::error::RunError;

/// Rows on their way at once.
const IN_FLIGHT: usize = 1_024;
/// An acknowledgement may wait for a shard that moves, or for an owner.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(60);
/// How long the thread waits for what it needs before it looks whether it is told to end.
const LOOK: Duration = Duration::from_millis(5);

/// The thread that feeds.
#[derive(Debug)]
pub(super) struct Feeding {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<FedNews, RunError>>>,
}

#[derive(Debug, Default)]
struct Shared {
    granted: AtomicU64,
    is_told: AtomicBool,
    /// All rows of this node before this one are acknowledged.
    next: AtomicU64,
}

/// Which rows, and where they go.
#[derive(Clone, Debug)]
pub(super) struct Feed {
    pub(super) source: Source,
    pub(super) columns: Columns,
    pub(super) node: u32,
    pub(super) nodes: u32,
    /// Rows at the begin of the file that are withheld, for the check to find.
    pub(super) lose: u64,
    pub(super) handle: Handle,
    pub(super) region: Region<String, ToClusterTally>,
}

impl Feeding {
    pub(super) fn begin(feed: Feed, order: FeedOrder) -> Result<Feeding, RunError> {
        let shared = Arc::new(Shared::default());
        shared.granted.store(order.granted, Ordering::Relaxed);
        shared.next.store(order.from, Ordering::Relaxed);
        let seen = shared.clone();
        let thread = std::thread::Builder::new()
            .name("feeder".to_owned())
            .spawn(move || feed.run(order.from, &seen))
            .map_err(RunError::Thread)?;
        Ok(Feeding {
            shared,
            thread: Some(thread),
        })
    }

    /// So many rows of the file may be sent.
    pub(super) fn grant(&self, rows: u64) {
        self.shared.granted.fetch_max(rows, Ordering::Relaxed);
    }

    /// How far it has come.
    pub(super) fn next(&self) -> u64 {
        self.shared.next.load(Ordering::Relaxed)
    }

    /// What it has to say, once it has ended by itself.
    pub(super) fn ended(&mut self) -> Option<Result<FedNews, RunError>> {
        let thread = self.thread.take_if(|thread| thread.is_finished())?;
        Some(join(thread))
    }

    /// Sends nothing more, and waits until what was sent is acknowledged.
    pub(super) fn end(mut self) -> Option<Result<FedNews, RunError>> {
        self.shared.is_told.store(true, Ordering::Relaxed);
        self.thread.take().map(join)
    }
}

fn join(thread: JoinHandle<Result<FedNews, RunError>>) -> Result<FedNews, RunError> {
    let died = |_| {
        Err(RunError::Thread(std::io::Error::other(
            "the feeder panicked",
        )))
    };
    thread.join().unwrap_or_else(died)
}

/// A row that is not acknowledged yet.
struct Open {
    number: u64,
    row: Row,
    answer: Pending<Result<(), AskError>>,
}

impl Feed {
    fn run(self, from: u64, shared: &Shared) -> Result<FedNews, RunError> {
        let mut fed = FedNews {
            next: from,
            is_all: false,
            retried: 0,
            unknown: 0,
        };
        let mut open = VecDeque::with_capacity(IN_FLIGHT);
        let mut number = 0;
        for line in Rows::open(&self.source, &self.columns)? {
            let Line::Row(row) = line? else {
                continue;
            };
            let this = number;
            number += 1;
            let is_mine = this % u64::from(self.nodes) == u64::from(self.node - 1);
            if this < from || !is_mine || this < self.lose {
                continue;
            }
            while this >= shared.granted.load(Ordering::Relaxed) || open.len() == IN_FLIGHT {
                if shared.is_told.load(Ordering::Relaxed) {
                    self.settle_all(open, &mut fed);
                    fed.next = this;
                    return Ok(fed);
                }
                if open.is_empty() {
                    std::thread::sleep(LOOK);
                }
                self.settle_oldest(&mut open, &mut fed);
                let oldest = open.front().map_or(this, |open| open.number);
                shared.next.store(oldest, Ordering::Relaxed);
            }
            let answer = self.send(this, &row);
            open.push_back(Open {
                number: this,
                row,
                answer,
            });
        }
        self.settle_all(open, &mut fed);
        fed.next = number;
        fed.is_all = true;
        shared.next.store(number, Ordering::Relaxed);
        Ok(fed)
    }

    fn send(&self, number: u64, row: &Row) -> Pending<Result<(), AskError>> {
        let (sender, values) = (self.node, row.values.as_slice().to_vec());
        self.handle.ask_within(
            ACKNOWLEDGED_WITHIN,
            self.region.entity(&row.key),
            move |reply_to| ToClusterTally::Row {
                values,
                sender,
                number,
                reply_to,
            },
        )
    }

    fn settle_all(&self, mut open: VecDeque<Open>, fed: &mut FedNews) {
        while !open.is_empty() {
            self.settle_oldest(&mut open, fed);
        }
    }

    /// Waits a moment for the oldest row, if there is one.
    fn settle_oldest(&self, open: &mut VecDeque<Open>, fed: &mut FedNews) {
        let Some(Open {
            number,
            row,
            answer,
        }) = open.pop_front()
        else {
            return;
        };
        let answer = match answer.wait_for(LOOK) {
            Err(answer) => answer,
            Ok(Ok(())) => return,
            Ok(Err(AskError::Unknown(_))) => {
                fed.unknown += 1;
                return;
            }
            Ok(Err(AskError::Rejected(_))) => {
                fed.retried += 1;
                // Whatever was full or on its way needs a moment.
                std::thread::sleep(Duration::from_millis(1));
                self.send(number, &row)
            }
        };
        open.push_front(Open {
            number,
            row,
            answer,
        });
    }
}
