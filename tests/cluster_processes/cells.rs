//! The entities that a process has which is a node, and the commands that are about them.

use super::pouring::Pouring;
use corecast::{
    Actor, AskError, Capture, Context, EntityType, Fault, Handle, Mailbox, Next, Pending, Region,
    Rejection, ReplyTo, RuntimeBuilder, Uncertainty, WireMessage,
};
use rkyv::{Archive, Deserialize, Serialize};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How many shards they have.
pub(crate) const SHARDS: u32 = 24;

/// How long one attempt of an ask may take.
const ATTEMPT: Duration = Duration::from_millis(500);

/// What the mailbox of each takes.
pub(crate) const MAILBOX: u32 = 1_000;

/// Tells that are under way at once: fewer than a mailbox takes.
pub(crate) const TELLS: u64 = 500;

/// How long an ask of a crowd waits.
const CROWD_WAITS: Duration = Duration::from_secs(2);

#[derive(Debug, Archive, Serialize, Deserialize)]
pub(crate) enum ToCell {
    /// On which node are you, and in which epoch?
    Who(ReplyTo<u64>),
    /// The messages of a sender are numbered.
    Count {
        sender: u32,
        number: u64,
    },
    /// How many of them have come, one after the other; a number that no count reaches if one was out of its order.
    Counted {
        sender: u32,
        reply_to: ReplyTo<u64>,
    },
    /// To be counted, and how many were.
    Packet([u8; 64]),
    Packets(ReplyTo<u64>),
    /// One more.
    Add(ReplyTo<Added>),
    /// How many there have been.
    Total(ReplyTo<u64>),
    /// Say it again.
    Echo {
        bytes: Bytes,
        reply_to: ReplyTo<Bytes>,
    },
}

impl WireMessage for ToCell {
    const NAME: &'static str = "test.ToCell";
    const VERSION: u16 = 1;
}

#[derive(Debug, PartialEq, Archive, Serialize, Deserialize)]
pub(crate) struct Bytes(Vec<u8>);

impl WireMessage for Bytes {
    const NAME: &'static str = "test.Bytes";
    const VERSION: u16 = 1;
}

/// How many there have been with one more, and who says so: its node, in which epoch, and when its handler ran, by the clock
/// that all processes of the machine have.
#[derive(Debug, PartialEq, Archive, Serialize, Deserialize)]
pub(crate) struct Added {
    pub(crate) total: u64,
    pub(crate) node: u32,
    pub(crate) epoch: u64,
    pub(crate) at_ns: u64,
}

impl WireMessage for Added {
    const NAME: &'static str = "test.Added";
    const VERSION: u16 = 1;
}

#[derive(Default)]
struct Cell {
    node: u32,
    state: State,
}

/// What goes with a cell when its shard moves.
#[derive(Clone, Debug, Default, Archive, Serialize, Deserialize)]
struct State {
    counted: BTreeMap<u32, u64>,
    packets: u64,
    total: u64,
}

impl Capture for Cell {
    type View = State;

    fn capture(&self) -> State {
        self.state.clone()
    }

    fn restore(&mut self, state: State) {
        self.state = state;
    }
}

const OUT_OF_ORDER: u64 = u64::MAX;

impl Actor for Cell {
    type Msg = ToCell;

    fn receive(&mut self, msg: ToCell, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let state = &mut self.state;
        match msg {
            ToCell::Who(reply_to) => ctx.reply(reply_to, u64::from(self.node)),
            ToCell::Count { sender, number } => {
                let counted = state.counted.entry(sender).or_default();
                *counted = match *counted == number {
                    true => number + 1,
                    false => OUT_OF_ORDER,
                };
            }
            ToCell::Counted { sender, reply_to } => {
                ctx.reply(reply_to, state.counted.get(&sender).copied().unwrap_or(0));
            }
            ToCell::Packet(_) => state.packets += 1,
            ToCell::Packets(reply_to) => ctx.reply(reply_to, state.packets),
            ToCell::Add(reply_to) => {
                state.total += 1;
                let added = Added {
                    total: state.total,
                    node: self.node,
                    epoch: ctx.epoch().map_or(0, |epoch| epoch.0),
                    at_ns: now_ns(),
                };
                ctx.reply(reply_to, added);
            }
            ToCell::Total(reply_to) => ctx.reply(reply_to, state.total),
            ToCell::Echo { bytes, reply_to } => ctx.reply(reply_to, bytes),
        }
        Ok(Next::Continue)
    }
}

/// The time since the machine was started.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// What has come of asks for numbers, each of which has to be answered.
fn numbers(what: &str, asks: Vec<Pending<Result<u64, AskError>>>) -> String {
    let numbers: Result<Vec<u64>, AskError> = asks.into_iter().map(|ask| ask.wait()).collect();
    match numbers {
        Ok(numbers) => {
            let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
            format!("{what} {}", numbers.join(","))
        }
        Err(error) => format!("{what} failed {error}"),
    }
}

/// What the commands need.
#[derive(Clone)]
pub(crate) struct Cells {
    handle: Handle,
    cells: Region<u64, ToCell>,
    pouring: Pouring,
}

/// Registers the type on a node.
pub(crate) fn register(builder: &mut RuntimeBuilder, node: u32) -> Region<u64, ToCell> {
    let make = move |_: &u64| Cell {
        node,
        ..Cell::default()
    };
    builder.entities(
        EntityType::captured("cell", make)
            .num_shards(SHARDS)
            .mailbox(Mailbox::bounded(MAILBOX))
            .clustered(),
    )
}

impl Cells {
    pub(crate) fn new(handle: Handle, cells: Region<u64, ToCell>) -> Cells {
        let pouring = Pouring::default();
        Cells {
            handle,
            cells,
            pouring,
        }
    }

    /// Ends what has been going on until it is told to end.
    pub(crate) fn end(&self) {
        self.pouring.end();
    }

    /// Does what a command says, if it is about entities; the line to say.
    pub(crate) fn command(&self, command: &str) -> Option<String> {
        let mut words = command.split(' ');
        let name = words.next()?;
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        Some(match (name, &numbers[..]) {
            ("who", [first, count]) => self.who(*first, *count),
            ("until", [id]) => self.until(*id),
            ("stats", []) => format!("stats {:?}", self.handle.stats().wait()).replace('\n', " "),
            ("pour", [first, count, pause]) => {
                let pause = Duration::from_millis(*pause);
                let ids = *first..first + count;
                self.pouring.pour(&self.handle, self.cells, ids, pause)
            }
            ("begun", []) => self.pouring.begun(),
            ("homes", [first, count]) => self.homes(*first, *count),
            ("crowd", [id, count]) => self.crowd(*id, *count),
            ("dry", []) => {
                self.end();
                "dried".to_owned()
            }
            ("totals", [first, count]) => self.totals(*first, *count),
            ("once", [id]) => self.once(*id),
            ("count", [id, sender]) => self.count(*id, *sender as u32),
            ("counts", [id, sender]) => self.counts(*id, *sender as u32),
            ("echo", [id, bytes]) => self.echo(*id, *bytes as usize),
            _ => return None,
        })
    }

    /// Asks entities, all at once: `who <answered> <node>=<count>,... <the first failure>`
    fn who(&self, first: u64, count: u64) -> String {
        let asks = (first..first + count).map(|id| {
            let within = Duration::from_secs(10);
            let cell = self.cells.entity_ref(id);
            self.handle.ask_within(within, cell, ToCell::Who)
        });
        let asks: Vec<_> = asks.collect();
        let (mut nodes, mut failed) = (BTreeMap::new(), None);
        for ask in asks {
            match ask.wait() {
                Ok(node) => *nodes.entry(node).or_insert(0_u64) += 1,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let answered: u64 = nodes.values().sum();
        let nodes = nodes.iter().map(|(node, count)| format!("{node}={count}"));
        let nodes: Vec<String> = nodes.collect();
        let nodes = nodes.join(",");
        format!("who {answered} {nodes} {failed:?}")
    }

    /// On which node each of some entities is: `homes <node>,...`, or `homes failed <why>`
    fn homes(&self, first: u64, count: u64) -> String {
        let asks = (first..first + count).map(|id| {
            let cell = self.cells.entity_ref(id);
            self.handle.ask(cell, ToCell::Who)
        });
        numbers("homes", asks.collect())
    }

    /// Asks one so often, all at once: `crowd <answered> <timed out> <refused for want of a quorum> <all others>`
    fn crowd(&self, id: u64, count: u64) -> String {
        let ask = |_| {
            let cell = self.cells.entity_ref(id);
            self.handle.ask_within(CROWD_WAITS, cell, ToCell::Total)
        };
        let asks: Vec<_> = (0..count).map(ask).collect();
        let (mut answered, mut timed_out, mut refused, mut others) = (0, 0, 0, 0);
        for ask in asks {
            match ask.wait() {
                Ok(_) => answered += 1,
                Err(AskError::Unknown(Uncertainty::Timeout)) => timed_out += 1,
                Err(AskError::Rejected(Rejection::NoControlQuorum)) => refused += 1,
                Err(_) => others += 1,
            }
        }
        format!("crowd {answered} {timed_out} {refused} {others}")
    }

    /// What entities have been added to: `totals <total>,...`, or `totals failed <why>`
    fn totals(&self, first: u64, count: u64) -> String {
        let asks = (first..first + count).map(|id| {
            let cell = self.cells.entity_ref(id);
            self.handle.ask(cell, ToCell::Total)
        });
        numbers("totals", asks.collect())
    }

    /// Asks one until it answers: `until <node> <milliseconds> <attempts>`
    fn until(&self, id: u64) -> String {
        let began = Instant::now();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let attempt = Instant::now();
            let cell = self.cells.entity_ref(id);
            match self.handle.ask_within(ATTEMPT, cell, ToCell::Who).wait() {
                Ok(node) => {
                    return format!("until {node} {} {attempts}", began.elapsed().as_millis());
                }
                Err(_) if began.elapsed() > Duration::from_secs(60) => {
                    return "until never".to_owned();
                }
                // What is refused at once is not asked again at once.
                Err(_) => {
                    std::thread::sleep(Duration::from_millis(5).saturating_sub(attempt.elapsed()))
                }
            }
        }
    }

    /// Asks one once: `once <node>` or `once <why not>`
    fn once(&self, id: u64) -> String {
        let cell = self.cells.entity_ref(id);
        let outcome = self.handle.ask(cell, ToCell::Who).wait();
        format!("once {outcome:?}")
    }

    /// Numbered tells, and how many have come in order: `counted <n>`
    fn count(&self, id: u64, sender: u32) -> String {
        for number in 0..TELLS {
            self.handle
                .tell(self.cells.entity(&id), ToCell::Count { sender, number });
        }
        let cell = self.cells.entity_ref(id);
        let ask = self
            .handle
            .ask(cell, move |reply_to| ToCell::Counted { sender, reply_to });
        format!("counted {:?}", ask.wait())
    }

    /// How many have come in order: `counts Ok(<n>)`
    fn counts(&self, id: u64, sender: u32) -> String {
        let cell = self.cells.entity_ref(id);
        let ask = self
            .handle
            .ask(cell, move |reply_to| ToCell::Counted { sender, reply_to });
        format!("counts {:?}", ask.wait())
    }

    /// A message of so many bytes there and back: `echoed Ok(true)`
    fn echo(&self, id: u64, bytes: usize) -> String {
        let sent: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
        let message = Bytes(sent.clone());
        let cell = self.cells.entity_ref(id);
        let ask = self.handle.ask(cell, move |reply_to| ToCell::Echo {
            bytes: message,
            reply_to,
        });
        let same: Result<bool, AskError> = ask.wait().map(|came: Bytes| came.0 == sent);
        format!("echoed {same:?}")
    }
}
