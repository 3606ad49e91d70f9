//! What the tests of several nodes share: a ledger as an entity type of the cluster, and nodes that have it.

use corecast::base::ids::{NodeId, ShardId};
use corecast::sim::{ClusterSimulation, SimulationBuilder};
use corecast::{
    Actor, Context, EntityType, Fault, Mailbox, Next, Region, Rejection, ReplyTo, WireMessage,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const A: NodeId = NodeId(1);
pub const B: NodeId = NodeId(2);
pub const C: NodeId = NodeId(3);
pub const SHARDS: u32 = 8;

/// What ledgers are told.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Entry {
    Put {
        sender: u32,
        number: u64,
    },
    Bulk(Vec<u8>),
    Sum(ReplyTo<u64>),
    Drop(ReplyTo<u64>),
    Fail(ReplyTo<u64>),
    /// Answered by a later message.
    Keep(ReplyTo<u64>),
    Answer(u64),
    /// Passed on with a message of its own.
    PassOn(u64, ReplyTo<u64>),
    Slow(u64),
    Stop,
}

impl WireMessage for Entry {
    const NAME: &'static str = "test.Entry";
    const VERSION: u16 = 1;
}

/// Who handled what: node, entity, sender, number.
pub type Handled = Arc<Mutex<Vec<(NodeId, u64, u32, u64)>>>;

/// One ledger.
pub struct Ledger {
    node: NodeId,
    id: u64,
    handled: Handled,
    sum: u64,
    kept: Vec<ReplyTo<u64>>,
    ledgers: Arc<Mutex<Option<Region<u64, Entry>>>>,
}

impl Actor for Ledger {
    type Msg = Entry;

    fn receive(&mut self, entry: Entry, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match entry {
            Entry::Put { sender, number } => {
                self.sum += 1;
                let mut handled = self.handled.lock().unwrap();
                handled.push((self.node, self.id, sender, number));
            }
            Entry::Bulk(bytes) => self.sum += bytes.len() as u64,
            Entry::Sum(reply_to) => ctx.reply(reply_to, self.sum),
            Entry::Drop(reply_to) => drop(reply_to),
            Entry::Fail(_reply_to) => return Err(Fault::new("as it was told")),
            Entry::Keep(reply_to) => self.kept.push(reply_to),
            Entry::Answer(number) => {
                for reply_to in self.kept.drain(..) {
                    ctx.reply(reply_to, number);
                }
            }
            Entry::PassOn(to, reply_to) => {
                let ledgers = self.ledgers.lock().unwrap().unwrap();
                ctx.tell(ledgers.entity(&to), Entry::Sum(reply_to));
            }
            Entry::Slow(millis) => {
                let nap = ctx.sleep(Duration::from_millis(millis));
                ctx.suspend(nap, |_, (), _| Ok(Next::Continue));
            }
            Entry::Stop => return Ok(Next::Stop),
        }
        Ok(Next::Continue)
    }
}

/// Starts a node with ledgers; `with` says what it is like beside that.
pub fn start(
    cluster: &mut ClusterSimulation,
    node: NodeId,
    handled: &Handled,
    with: impl FnOnce(SimulationBuilder) -> SimulationBuilder,
) -> Region<u64, Entry> {
    start_type(cluster, node, handled, with, |ledgers| ledgers)
}

/// The same with more to say about the type.
pub fn start_type(
    cluster: &mut ClusterSimulation,
    node: NodeId,
    handled: &Handled,
    with: impl FnOnce(SimulationBuilder) -> SimulationBuilder,
    of_type: impl FnOnce(EntityType<Ledger, u64>) -> EntityType<Ledger, u64>,
) -> Region<u64, Entry> {
    let handled = handled.clone();
    cluster.start(node, |builder| {
        let ledgers: Arc<Mutex<Option<Region<u64, Entry>>>> = Arc::default();
        let region = ledgers.clone();
        let ledger = EntityType::send("ledger", move |id: &u64| Ledger {
            node,
            id: *id,
            handled: handled.clone(),
            sum: 0,
            kept: Vec::new(),
            ledgers: ledgers.clone(),
        });
        let ledger = ledger
            .num_shards(SHARDS)
            .mailbox(Mailbox::bounded(100_000))
            .clustered();
        let mut builder = with(builder);
        let made = builder.entities(of_type(ledger));
        *region.lock().unwrap() = Some(made);
        (builder, made)
    })
}

/// Nodes with two cores each, among which the shards are spread in turn, and everybody knows.
pub fn nodes(
    cluster: &mut ClusterSimulation,
    nodes: &[NodeId],
    handled: &Handled,
) -> Vec<Region<u64, Entry>> {
    let regions = nodes
        .iter()
        .map(|node| start(cluster, *node, handled, |builder| builder.cores(2)))
        .collect();
    spread(cluster, nodes);
    regions
}

/// Spreads the shards among nodes.
pub fn spread(cluster: &mut ClusterSimulation, nodes: &[NodeId]) {
    for (shard, node) in (0..SHARDS).zip(nodes.iter().cycle()) {
        cluster.assign("ledger", ShardId(shard), *node);
    }
    cluster.publish();
    cluster.run_for(Duration::from_millis(10));
}

/// An id whose shard has this number.
pub fn id_in(ledgers: Region<u64, Entry>, shard: u32) -> u64 {
    (0..)
        .find(|id| ledgers.shard_of(id).shard == ShardId(shard))
        .unwrap()
}

/// All dead letters of a node.
pub fn dead_letters(cluster: &mut ClusterSimulation, node: NodeId) -> u64 {
    let stats = cluster.node(node).stats();
    let outside: u64 = stats.dead_letters_outside.iter().map(|(_, n)| n).sum();
    outside
        + stats
            .cores
            .iter()
            .map(|core| core.dead_letters_total())
            .sum::<u64>()
}

/// The dead letters of a node for one reason.
pub fn dead(cluster: &mut ClusterSimulation, node: NodeId, why: Rejection) -> u64 {
    let stats = cluster.node(node).stats();
    let letters = stats.cores.iter().flat_map(|core| &core.dead_letters);
    letters
        .filter(|it| it.0 == why)
        .map(|(_, count)| count)
        .sum()
}

/// The entities that a node has.
pub fn active(cluster: &mut ClusterSimulation, node: NodeId) -> usize {
    let stats = cluster.node(node).stats();
    let regions = stats.cores.iter().flat_map(|core| &core.regions);
    regions.map(|region| region.active).sum()
}
