//! What the tests of moves between nodes share: books whose state moves as a captured view, nodes that have them, and a
//! judge of what their handlers did.

use corecast::base::ids::{Epoch, NodeId, ShardId};
use corecast::sim::{ClusterSimulation, SimulationBuilder};
use corecast::{
    Actor, Capture, Context, EntityType, Fault, Mailbox, Next, Region, Rejection, ReplyTo, Time,
    WireMessage,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const SHARDS: u32 = 4;

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What books are told.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Line {
    /// The line of that number of a sender.
    Put { sender: u32, number: u64 },
    /// The same, and how many lines there are with it.
    Ask {
        sender: u32,
        number: u64,
        reply_to: ReplyTo<u64>,
    },
    /// Nothing else is handled for so many milliseconds.
    Slow(u64),
    /// A line of this sender comes after so many milliseconds, by a timer.
    Remind { sender: u32, after: u64 },
    /// How many lines there are.
    Count(ReplyTo<u64>),
    /// A child is spawned that lives as long as this life of the book.
    Spawn,
}

impl WireMessage for Line {
    const NAME: &'static str = "test.Line";
    const VERSION: u16 = 1;
}

/// A line that was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handled {
    pub at: Time,
    pub node: NodeId,
    pub epoch: Epoch,
    pub id: u64,
    pub sender: u32,
    pub number: u64,
}

/// All of them, in the order in which they were handled.
pub type History = Arc<Mutex<Vec<Handled>>>;

/// One book: what moves is how many lines it has.
pub struct Book {
    node: NodeId,
    id: u64,
    history: History,
    lines: u64,
}

impl Book {
    fn write(&mut self, sender: u32, number: u64, ctx: &Context<'_, Self>) {
        self.lines += 1;
        self.history.lock().unwrap().push(Handled {
            at: ctx.now(),
            node: self.node,
            epoch: ctx.epoch().expect("an entity has an epoch"),
            id: self.id,
            sender,
            number,
        });
    }
}

struct Child;

impl Actor for Child {
    type Msg = u64;

    fn receive(&mut self, _: u64, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        Ok(Next::Continue)
    }
}

impl Actor for Book {
    type Msg = Line;

    fn receive(&mut self, line: Line, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match line {
            Line::Put { sender, number } => self.write(sender, number, ctx),
            Line::Ask {
                sender,
                number,
                reply_to,
            } => {
                self.write(sender, number, ctx);
                ctx.reply(reply_to, self.lines);
            }
            Line::Slow(millis) => {
                let nap = ctx.sleep(ms(millis));
                ctx.suspend(nap, |_, (), _| Ok(Next::Continue));
            }
            Line::Remind { sender, after } => {
                let put = Line::Put { sender, number: 0 };
                ctx.start_timer(("remind", u64::from(sender)), ms(after), put)?;
            }
            Line::Count(reply_to) => ctx.reply(reply_to, self.lines),
            Line::Spawn => _ = ctx.spawn_actor(|| Child)?,
        }
        Ok(Next::Continue)
    }
}

impl Capture for Book {
    type View = u64;

    fn capture(&self) -> u64 {
        self.lines
    }

    fn restore(&mut self, lines: u64) {
        self.lines = lines;
    }
}

pub fn books(node: NodeId, history: &History) -> EntityType<Book, u64> {
    let history = history.clone();
    let books = EntityType::captured("book", move |id: &u64| Book {
        node,
        id: *id,
        history: history.clone(),
        lines: 0,
    });
    let mailbox = Mailbox::bounded(100_000);
    books.num_shards(SHARDS).mailbox(mailbox).clustered()
}

/// Starts a node with books; `with` says what it is like beside that.
pub fn start(
    cluster: &mut ClusterSimulation,
    node: NodeId,
    history: &History,
    with: impl FnOnce(SimulationBuilder) -> SimulationBuilder,
) -> Region<u64, Line> {
    cluster.start(node, |builder| {
        let mut builder = with(builder);
        let region = builder.entities(books(node, history));
        (builder, region)
    })
}

/// Nodes with two cores each, among which the shards are spread in turn, and everybody knows.
pub fn shelves(
    cluster: &mut ClusterSimulation,
    nodes: &[NodeId],
    history: &History,
) -> BTreeMap<NodeId, Region<u64, Line>> {
    let regions = nodes
        .iter()
        .map(|node| (*node, start(cluster, *node, history, |it| it.cores(2))))
        .collect();
    spread(cluster, nodes);
    regions
}

/// Spreads the shards among nodes.
pub fn spread(cluster: &mut ClusterSimulation, nodes: &[NodeId]) {
    for (shard, node) in (0..SHARDS).zip(nodes.iter().cycle()) {
        cluster.assign("book", ShardId(shard), *node);
    }
    cluster.publish();
    cluster.run_for(ms(10));
}

/// An id whose shard has this number.
pub fn id_in(books: Region<u64, Line>, shard: u32) -> u64 {
    (0..)
        .find(|id| books.shard_of(id).shard == ShardId(shard))
        .unwrap()
}

/// Moves a shard, and waits until the log has heard the end of it. Whether it has arrived.
pub fn moved(cluster: &mut ClusterSimulation, shard: u32, to: NodeId) -> bool {
    cluster.prepare("book", ShardId(shard), to).unwrap();
    cluster.publish();
    let ended = cluster.run_until_true(ms(20_000), |cluster| cluster.moves().is_empty());
    assert!(ended, "the move of shard {shard} to {to} has no end");
    let owner = cluster.owner_of("book", ShardId(shard)).unwrap();
    owner.owner == Some(to)
}

/// Has the log decide a move that has been prepared, once the target has everything. Nobody knows yet.
pub fn own(cluster: &mut ClusterSimulation, shard: u32) {
    let mut reports = Vec::new();
    let has_come = cluster.run_until_true(ms(20_000), |cluster| {
        reports.extend(cluster.ended_moves());
        !reports.is_empty()
    });
    assert!(has_come, "shard {shard} has not come");
    for (_, report) in reports {
        assert_eq!(
            (report.shard.shard, report.outcome),
            (ShardId(shard), Ok(()))
        );
        assert!(cluster.end_move(report.shard, report.prepared, true));
    }
}

/// Judges what was handled: no two nodes in one epoch of a shard, none in an epoch when another had run in a later one, and
/// for each sender and book the lines in order, with none left out if nothing may be lost.
pub fn judge(history: &History, shard_of: impl Fn(u64) -> ShardId, is_lossless: bool) {
    let mut history = history.lock().unwrap().clone();
    history.sort_by_key(|it| it.at);
    let mut latest: BTreeMap<ShardId, (Epoch, NodeId)> = BTreeMap::new();
    for it in &history {
        let shard = shard_of(it.id);
        let last = latest.entry(shard).or_insert((it.epoch, it.node));
        let is_fenced = it.epoch < last.0 || it.epoch == last.0 && it.node != last.1;
        assert!(
            !is_fenced,
            "{it:?} ran after {last:?} of {shard}: two owners"
        );
        *last = (it.epoch, it.node);
    }
    // By epochs: clocks of cores are not so fine.
    history.sort_by_key(|it| it.epoch);
    let mut next: BTreeMap<(u64, u32), u64> = BTreeMap::new();
    for it in &history {
        let next = next.entry((it.id, it.sender)).or_default();
        if is_lossless {
            assert!(
                it.number <= *next,
                "{it:?} came, {next} was accepted and lost, or is late"
            );
        }
        assert!(
            it.number >= *next,
            "{it:?} came, {next} was expected: out of order, or twice"
        );
        *next = it.number + 1;
    }
}

/// How many lines there are of each sender in each book.
pub fn lines(history: &History) -> BTreeMap<(u64, u32), u64> {
    let mut lines = BTreeMap::new();
    for it in history.lock().unwrap().iter() {
        *lines.entry((it.id, it.sender)).or_default() += 1;
    }
    lines
}

/// The nodes that have run a book.
pub fn homes(history: &History, id: u64) -> BTreeSet<NodeId> {
    let history = history.lock().unwrap();
    let of_it = history.iter().filter(|it| it.id == id);
    of_it.map(|it| it.node).collect()
}

/// All dead letters of a node, with their reasons.
pub fn dead_letters(cluster: &mut ClusterSimulation, node: NodeId) -> Vec<(Rejection, u64)> {
    let stats = cluster.node(node).stats();
    let cores = stats.cores.iter().flat_map(|core| &core.dead_letters);
    stats
        .dead_letters_outside
        .iter()
        .chain(cores)
        .copied()
        .collect()
}
