//! Entities that count what they are sent, and those who send to them: handles, actors, futures, and the entities
//! themselves. All write down what they do.

use crate::governed_history::{Counted, Kind, Operation, Outcome, Run, Shared, is_kept};
use corecast::base::ids::NodeId;
use corecast::sim::{ClusterSimulation, SimulationBuilder};
use corecast::{
    Actor, ActorRef, AskError, Capture, Context, CoreId, EntityType, Fault, Handle, Next, Pending,
    Region, ReplyTo, Scope, SpawnError, Time, WireMessage,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What entities are sent; each says which operation it is.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Act {
    /// Nobody wants an answer.
    Note(u64),
    /// Answered at once.
    Count(u64, ReplyTo<Counted>),
    /// Answered after so many milliseconds, in which the entity takes nothing else.
    Slow(u64, u64, ReplyTo<Counted>),
    /// Another entity is to answer.
    Relay(u64, u64, ReplyTo<Counted>),
    /// Answered with the next message.
    Keep(u64, ReplyTo<Counted>),
}

impl WireMessage for Act {
    const NAME: &'static str = "test.Act";
    const VERSION: u16 = 1;
}

/// How many shards the type has that keeps running.
const KEPT_SHARDS: u32 = 4;

/// Which entities are registered as such that keep running without a lease.
#[derive(Clone, Copy, Debug, Default)]
pub enum Keeping {
    /// Those that are [kept](is_kept).
    #[default]
    Kept,
    /// All: a bug.
    All,
    /// None: a bug.
    None,
}

/// The entity types of a node.
#[derive(Clone, Copy)]
pub struct Tallies {
    leased: Region<u64, Act>,
    kept: Region<u64, Act>,
}

impl Tallies {
    /// The type of an entity.
    fn of(self, entity: u64) -> Region<u64, Act> {
        match is_kept(entity) {
            true => self.kept,
            false => self.leased,
        }
    }
}

struct Tally {
    id: u64,
    node: NodeId,
    sender: u32,
    count: u64,
    kept: Vec<(Counted, ReplyTo<Counted>)>,
    history: Shared,
    tallies: Arc<OnceLock<Tallies>>,
}

impl Tally {
    /// Writes down that it runs; what it has counted, if it is about to handle a message.
    fn run(&mut self, handles: Option<u64>, ctx: &Context<'_, Self>) -> Counted {
        let counted = Counted {
            operation: handles.unwrap_or_default(),
            count: self.count + 1,
        };
        self.count += u64::from(handles.is_some());
        let mut history = self.history.lock();
        let at = history.real(self.node, ctx.clock());
        history.run(Run {
            at,
            entity: self.id,
            shard: ctx.shard().expect("an entity has a shard"),
            node: self.node,
            epoch: ctx.epoch().expect("an entity of a cluster has an epoch"),
            effect: handles.map(|_| counted),
        });
        counted
    }
}

impl Actor for Tally {
    type Msg = Act;

    fn receive(&mut self, act: Act, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let (Act::Note(operation)
        | Act::Count(operation, _)
        | Act::Slow(operation, ..)
        | Act::Relay(operation, ..)
        | Act::Keep(operation, _)) = &act;
        let operation = *operation;
        let counted = self.run(Some(operation), ctx);
        for (counted, reply_to) in self.kept.drain(..) {
            ctx.reply(reply_to, counted);
        }
        match act {
            Act::Note(_) => {}
            Act::Count(_, reply_to) => ctx.reply(reply_to, counted),
            Act::Keep(_, reply_to) => self.kept.push((counted, reply_to)),
            Act::Slow(_, millis, reply_to) => {
                let nap = ctx.sleep(Duration::from_millis(millis));
                ctx.suspend(nap, move |tally, (), ctx| {
                    tally.run(None, ctx);
                    ctx.reply(reply_to, counted);
                    Ok(Next::Continue)
                });
            }
            Act::Relay(_, to, reply_to) => {
                let sent = Operation {
                    kind: Kind::Ask,
                    sender: self.sender,
                    node: self.node,
                    to,
                    began: self.history.lock().real(self.node, ctx.clock()),
                    ended: None,
                    is_exact: false,
                    must_succeed: false,
                    parent: Some(operation),
                };
                let sent = self.history.lock().begin(sent);
                if let Some(tallies) = self.tallies.get() {
                    ctx.tell(tallies.of(to).entity(&to), Act::Count(sent, reply_to));
                }
            }
        }
        Ok(Next::Continue)
    }
}

/// What it has counted moves with it. Answers that it has kept are nothing that another node could give.
impl Capture for Tally {
    type View = u64;

    fn capture(&self) -> u64 {
        self.count
    }

    fn restore(&mut self, count: u64) {
        self.count = count;
    }
}

/// Registers the entity types with a node.
pub fn register(
    builder: &mut SimulationBuilder,
    node: NodeId,
    shards: u32,
    history: &Shared,
    keeping: Keeping,
) -> Tallies {
    let own: Arc<OnceLock<Tallies>> = Arc::default();
    let mut add = |name, shards, keeps| {
        let (history, tallies) = (history.clone(), own.clone());
        let tally = EntityType::captured(name, move |id: &u64| Tally {
            id: *id,
            node,
            sender: history.lock().new_sender(),
            count: 0,
            kept: Vec::new(),
            history: history.clone(),
            tallies: tallies.clone(),
        });
        let tally = tally.num_shards(shards).clustered();
        builder.entities(match keeps {
            true => tally.keep_running(),
            false => tally,
        })
    };
    let tallies = Tallies {
        leased: add("tally", shards, matches!(keeping, Keeping::All)),
        kept: add("kept tally", KEPT_SHARDS, !matches!(keeping, Keeping::None)),
    };
    own.get_or_init(|| tallies);
    tallies
}

/// What is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub what: What,
    pub to: u64,
    /// How long an ask waits.
    pub within: Duration,
    /// It is sent in peace.
    pub must_succeed: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum What {
    Tell,
    Send,
    Count,
    Slow(u64),
    Relay(u64),
    Keep,
}

impl What {
    fn kind(self) -> Kind {
        match self {
            What::Tell => Kind::Tell,
            What::Send => Kind::Send,
            _ => Kind::Ask,
        }
    }

    fn act(self, operation: u64, reply_to: ReplyTo<Counted>) -> Act {
        match self {
            What::Tell | What::Send | What::Count => Act::Count(operation, reply_to),
            What::Slow(millis) => Act::Slow(operation, millis, reply_to),
            What::Relay(to) => Act::Relay(operation, to, reply_to),
            What::Keep => Act::Keep(operation, reply_to),
        }
    }
}

/// Somebody who sends on a node, in the order of what it is told.
#[derive(Clone)]
struct Identity {
    sender: u32,
    node: NodeId,
    history: Shared,
    tallies: Tallies,
}

impl Identity {
    fn begin(&self, order: &Order, local: Time, is_exact: bool) -> u64 {
        let mut history = self.history.lock();
        let began = history.real(self.node, local);
        history.begin(Operation {
            kind: order.what.kind(),
            sender: self.sender,
            node: self.node,
            to: order.to,
            began,
            ended: None,
            is_exact,
            must_succeed: order.must_succeed,
            parent: None,
        })
    }

    fn end(&self, operation: u64, local: Time, outcome: Outcome) {
        let mut history = self.history.lock();
        let at = history.real(self.node, local);
        history.end(operation, at, outcome);
    }
}

/// An actor that sends.
struct Sender(Identity);

enum Sending {
    Orders(Vec<Order>),
    Ended(u64, Result<Counted, AskError>),
}

impl std::fmt::Debug for Sending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sending")
    }
}

impl Actor for Sender {
    type Msg = Sending;

    fn receive(&mut self, sending: Sending, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let orders = match sending {
            Sending::Ended(operation, outcome) => {
                let outcome = outcome.map_or_else(Outcome::failed, Outcome::Replied);
                self.0.end(operation, ctx.clock(), outcome);
                return Ok(Next::Continue);
            }
            Sending::Orders(orders) => orders,
        };
        for order in orders {
            let operation = self.0.begin(&order, ctx.clock(), true);
            let to = self.0.tallies.of(order.to).entity_ref(order.to);
            match order.what {
                What::Tell | What::Send => {
                    self.0.history.lock().operations[operation as usize].kind = Kind::Tell;
                    let told = ctx.try_tell(to, Act::Note(operation));
                    let outcome = told.map_or_else(
                        |refused| Outcome::Rejected(refused.why.into()),
                        |()| Outcome::Accepted,
                    );
                    self.0.end(operation, ctx.clock(), outcome);
                }
                what => ctx.ask_within(
                    order.within,
                    to,
                    |reply_to| what.act(operation, reply_to),
                    move |outcome| Sending::Ended(operation, outcome),
                ),
            }
        }
        Ok(Next::Continue)
    }
}

/// A future that sends, and waits for each outcome before it sends again.
async fn one_by_one(identity: Identity, scope: Scope, orders: Vec<Order>) {
    for order in orders {
        let operation = identity.begin(&order, scope.clock(), false);
        let to = identity.tallies.of(order.to).entity_ref(order.to);
        let outcome = match order.what {
            What::Tell | What::Send => {
                identity.history.lock().operations[operation as usize].kind = Kind::Send;
                let stored = scope.send(to, Act::Note(operation)).await;
                stored.map_or_else(Outcome::failed, |()| Outcome::Stored)
            }
            what => {
                let make = |reply_to| what.act(operation, reply_to);
                let asked = scope.ask_within(order.within, to, make).await;
                asked.map_or_else(Outcome::failed, Outcome::Replied)
            }
        };
        identity.end(operation, scope.clock(), outcome);
    }
}

/// What a handle waits for.
enum Waiting {
    Stored(Pending<Result<(), AskError>>),
    Answered(Pending<Result<Counted, AskError>>),
}

/// Those who send on one node in one of its lives.
struct Site {
    handles: Vec<(Identity, Handle)>,
    actors: Vec<ActorRef<Sending>>,
    spawned: Vec<Pending<Result<ActorRef<Sending>, SpawnError>>>,
    identities: Vec<u32>,
}

/// All who send.
#[derive(Default)]
pub struct Senders {
    pub history: Shared,
    pub tallies: Rc<RefCell<BTreeMap<NodeId, Tallies>>>,
    sites: BTreeMap<NodeId, Site>,
    waiting: Vec<(u64, Waiting)>,
}

impl Senders {
    /// The cores of a node run in a new life.
    pub fn begin_life(&mut self, cluster: &mut ClusterSimulation, node: NodeId) {
        let tallies = self.tallies.borrow()[&node];
        let mut identities = Vec::new();
        let mut identity = || {
            let sender = self.history.lock().new_sender();
            identities.push(sender);
            Identity {
                sender,
                node,
                history: self.history.clone(),
                tallies,
            }
        };
        let sim = cluster.node(node);
        let handle = sim.handle();
        let spawned = (0..2).map(|number| {
            let core = CoreId(number % handle.cores() as u16);
            let identity = identity();
            handle.spawn_on(core, move || Sender(identity))
        });
        let spawned = spawned.collect();
        let handles = (0..2).map(|_| (identity(), sim.handle()));
        let handles = handles.collect();
        let site = Site {
            handles,
            actors: Vec::new(),
            spawned,
            identities,
        };
        self.sites.insert(node, site);
    }

    /// The life of a node is over.
    pub fn end_life(&mut self, node: NodeId) {
        self.sites.remove(&node);
    }

    /// The numbers of those who send and are still there.
    pub fn living(&self) -> BTreeSet<u32> {
        let sites = self.sites.values();
        sites.flat_map(|site| site.identities.clone()).collect()
    }

    /// How many there are to choose from on a node; none if it does not run.
    pub fn count(&self, node: NodeId) -> usize {
        self.sites.get(&node).map_or(0, |site| {
            site.handles.len() + site.actors.len() + usize::from(!site.actors.is_empty())
        })
    }

    /// Has one of those on a node send; `which` is below their number.
    pub fn send(&mut self, node: NodeId, which: usize, orders: Vec<Order>) {
        let Some(site) = self.sites.get(&node) else {
            return;
        };
        if let Some((identity, handle)) = site.handles.get(which) {
            for order in orders {
                let operation = identity.begin(&order, handle.clock(), false);
                let to = identity.tallies.of(order.to).entity_ref(order.to);
                let waiting = match order.what {
                    What::Tell => {
                        let told = handle.try_tell(to, Act::Note(operation));
                        let outcome = told.map_or_else(
                            |refused| Outcome::Rejected(refused.why.into()),
                            |()| Outcome::Accepted,
                        );
                        identity.end(operation, handle.clock(), outcome);
                        continue;
                    }
                    What::Send => Waiting::Stored(handle.send(to, Act::Note(operation))),
                    what => {
                        let make = move |reply_to| what.act(operation, reply_to);
                        Waiting::Answered(handle.ask_within(order.within, to, make))
                    }
                };
                self.waiting.push((operation, waiting));
            }
        } else if let Some(actor) = site.actors.get(which - site.handles.len()) {
            site.handles[0].1.tell(*actor, Sending::Orders(orders));
        } else {
            let mut identity = site.handles[0].0.clone();
            identity.sender = self.history.lock().new_sender();
            let sender = identity.sender;
            let core = CoreId(which as u16 % site.handles[0].1.cores() as u16);
            let ran = site.handles[0]
                .1
                .run_on(core, move |scope| one_by_one(identity, scope, orders));
            drop(ran);
            if let Some(site) = self.sites.get_mut(&node) {
                site.identities.push(sender);
            }
        }
    }

    /// Looks what has come; how many still wait that are not on cores.
    pub fn look(&mut self, now: Time) -> usize {
        for site in self.sites.values_mut() {
            for spawned in std::mem::take(&mut site.spawned) {
                match spawned.try_take() {
                    Ok(Ok(actor)) => site.actors.push(actor),
                    Ok(Err(_)) => {}
                    Err(spawned) => site.spawned.push(spawned),
                }
            }
        }
        for (operation, waiting) in std::mem::take(&mut self.waiting) {
            let looked = match waiting {
                Waiting::Stored(pending) => pending
                    .try_take()
                    .map(|stored| stored.map_or_else(Outcome::failed, |()| Outcome::Stored))
                    .map_err(Waiting::Stored),
                Waiting::Answered(pending) => pending
                    .try_take()
                    .map(|answer| answer.map_or_else(Outcome::failed, Outcome::Replied))
                    .map_err(Waiting::Answered),
            };
            match looked {
                Ok(outcome) => self.history.lock().end(operation, now, outcome),
                Err(waiting) => self.waiting.push((operation, waiting)),
            }
        }
        self.waiting.len()
    }
}
