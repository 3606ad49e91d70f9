//! People on several nodes who watch each other and write down what happens, and an independent judge of what they wrote.

pub use crate::remote_kit::{A, B, C};
use corecast::base::ids::{CoreId, NodeId};
use corecast::sim::{ClusterSimulation, SimulationBuilder};
use corecast::{
    Actor, ActorRef, Context, EntityType, Fault, Next, Region, Rejection, ShardId, SpawnOptions,
    StopCause, Terminated, WireMessage,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The entity type of people that are entities; it has four shards.
pub const ENTITIES: &str = "sleeper";

/// What people are told.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Msg {
    Watch {
        target: ActorRef<Msg>,
        whom: u64,
        watch: u64,
    },
    Unwatch {
        target: ActorRef<Msg>,
        whom: u64,
    },
    WatchEntity {
        entity: u64,
        watch: u64,
    },
    /// The end of somebody who was watched, with a code for its cause.
    Gone {
        watch: u64,
        cause: u8,
    },
    /// Say a word to somebody.
    Talk {
        to: ActorRef<Msg>,
        word: u64,
    },
    Word {
        from: u64,
        word: u64,
    },
    /// Stop somebody else.
    Stop {
        whom: ActorRef<Msg>,
    },
    /// Send an entity something, so that it becomes active.
    Wake {
        entity: u64,
    },
    EndEntity {
        entity: u64,
    },
    Nothing,
    End,
    Fail,
}

impl WireMessage for Msg {
    const NAME: &'static str = "test.watch.Msg";
    const VERSION: u16 = 1;
}

/// What has happened, in the order of the virtual world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Born {
        who: u64,
        node: NodeId,
    },
    Watching {
        by: u64,
        whom: u64,
        watch: u64,
    },
    Refused {
        by: u64,
        watch: u64,
        why: Rejection,
    },
    Unwatched {
        by: u64,
        whom: u64,
        was: bool,
    },
    Gone {
        by: u64,
        watch: u64,
        cause: Option<StopCause>,
    },
    Word {
        to: u64,
        from: u64,
        word: u64,
    },
    Ended {
        who: u64,
    },
    NodeDied {
        node: NodeId,
    },
}

/// What everybody writes down, and how the entities are reached from each node.
#[derive(Default)]
pub struct Book {
    events: Mutex<Vec<Event>>,
    sleepers: Mutex<BTreeMap<NodeId, Region<u64, Msg>>>,
}

impl Book {
    pub fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        // Whoever has failed meanwhile has said so.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub type Log = Arc<Book>;

struct Person {
    id: u64,
    node: NodeId,
    log: Log,
}

const CAUSES: [Option<StopCause>; 6] = [
    None,
    Some(StopCause::Wanted),
    Some(StopCause::Failed),
    Some(StopCause::Supervisor),
    Some(StopCause::Shutdown),
    Some(StopCause::NodeGone),
];

fn code_of(cause: Option<StopCause>) -> u8 {
    CAUSES.iter().position(|it| *it == cause).unwrap() as u8
}

impl Person {
    fn log(&self, event: Event) {
        self.log.events().push(event);
    }

    fn sleepers(&self) -> Region<u64, Msg> {
        self.log.sleepers.lock().unwrap()[&self.node]
    }
}

impl Actor for Person {
    type Msg = Msg;

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let by = self.id;
        match msg {
            Msg::Watch {
                target,
                whom,
                watch,
            } => {
                let then = move |gone: Terminated| Msg::Gone {
                    watch,
                    cause: code_of(gone.cause),
                };
                self.log(match ctx.watch(target, then) {
                    Ok(()) => Event::Watching { by, whom, watch },
                    Err(why) => Event::Refused { by, watch, why },
                });
            }
            Msg::WatchEntity { entity, watch } => {
                let then = move |cause| Msg::Gone {
                    watch,
                    cause: code_of(cause),
                };
                let entity = self.sleepers().entity_ref(entity);
                let watched = ctx.watch_entity(self.sleepers().entity(entity.id()), then);
                if let Err(why) = watched {
                    self.log(Event::Refused { by, watch, why });
                }
            }
            Msg::Unwatch { target, whom } => {
                let was = ctx.unwatch(target);
                self.log(Event::Unwatched { by, whom, was });
            }
            Msg::Gone { watch, cause } => {
                let cause = CAUSES[usize::from(cause)];
                self.log(Event::Gone { by, watch, cause });
            }
            Msg::Talk { to, word } => ctx.tell(to, Msg::Word { from: by, word }),
            Msg::Word { from, word } => self.log(Event::Word { to: by, from, word }),
            Msg::Stop { whom } => ctx.stop(whom),
            Msg::Wake { entity } => ctx.tell(self.sleepers().entity(&entity), Msg::Nothing),
            Msg::EndEntity { entity } => ctx.tell(self.sleepers().entity(&entity), Msg::End),
            Msg::Nothing => {}
            Msg::End => return Ok(Next::Stop),
            Msg::Fail => return Err(Fault::new("as it was told")),
        }
        Ok(Next::Continue)
    }

    fn post_stop(&mut self, _: &mut Context<'_, Self>) {
        self.log(Event::Ended { who: self.id });
    }
}

/// Starts a node of two cores on which people can live.
pub fn start(cluster: &mut ClusterSimulation, node: NodeId, log: &Log) -> Region<u64, Msg> {
    start_with(cluster, node, log, |it| it.cores(2))
}

/// The same with more to say of it.
pub fn start_with(
    cluster: &mut ClusterSimulation,
    node: NodeId,
    log: &Log,
    with: impl FnOnce(SimulationBuilder) -> SimulationBuilder,
) -> Region<u64, Msg> {
    cluster.start(node, |builder| people_of(with(builder), node, log))
}

/// A node that has people as entities.
pub fn people_of(
    mut builder: SimulationBuilder,
    node: NodeId,
    log: &Log,
) -> (SimulationBuilder, Region<u64, Msg>) {
    let people = {
        let log = log.clone();
        EntityType::ephemeral(ENTITIES, move |id: &u64| Person {
            id: *id,
            node,
            log: log.clone(),
        })
    };
    let region = builder.entities(people.num_shards(4).clustered());
    log.sleepers.lock().unwrap().insert(node, region);
    (builder, region)
}

/// Starts nodes that know each other.
pub fn people(
    cluster: &mut ClusterSimulation,
    nodes: &[NodeId],
    log: &Log,
) -> Vec<Region<u64, Msg>> {
    let regions = nodes
        .iter()
        .map(|node| start(cluster, *node, log))
        .collect();
    cluster.publish();
    cluster.run_for(Duration::from_millis(50));
    regions
}

/// Gives shards of the entities to nodes.
pub fn own(cluster: &mut ClusterSimulation, owners: &[(u32, NodeId)]) {
    for (shard, node) in owners {
        cluster.assign(ENTITIES, ShardId(*shard), *node);
    }
    cluster.publish();
    cluster.run_for(Duration::from_millis(50));
}

/// Starts a person. The address is as the other nodes know it.
pub fn person(
    cluster: &mut ClusterSimulation,
    node: NodeId,
    core: u16,
    id: u64,
    log: &Log,
) -> ActorRef<Msg> {
    let person = {
        let log = log.clone();
        move || {
            log.events().push(Event::Born { who: id, node });
            let log = log.clone();
            Person { id, node, log }
        }
    };
    let options = SpawnOptions::default().clustered::<Msg>();
    let made = cluster
        .node(node)
        .handle()
        .spawn_with(CoreId(core), options, person);
    let made = cluster.run_until(made).unwrap().unwrap();
    cluster.as_known_elsewhere(made)
}

/// Tells a person of a node something, there.
pub fn tell(cluster: &mut ClusterSimulation, node: NodeId, to: ActorRef<Msg>, msg: Msg) {
    cluster.node(node).tell(to, msg);
}

/// The judge's findings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verdict {
    pub words: usize,
    pub gone: usize,
    pub without_cause: usize,
    pub node_gone: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Alive,
    Ended,
    Died,
}

struct Watch {
    by: u64,
    whom: u64,
    heard: bool,
    is_on: bool,
}

/// Reads what has happened, and finds everything that must not have: an end that is heard of twice, or without having been,
/// or of a watch that was ended; a word behind the end of who said it; and, since all is over, an end that nobody heard of.
pub fn judge(log: &Log) -> Verdict {
    let log = log.events();
    let mut fates: BTreeMap<u64, (NodeId, Fate)> = BTreeMap::new();
    let mut watches: BTreeMap<u64, Watch> = BTreeMap::new();
    let mut on: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut mourned: BTreeSet<(u64, u64)> = BTreeSet::new();
    let mut verdict = Verdict::default();
    for event in log.iter() {
        match event {
            Event::Born { who, node } => _ = fates.insert(*who, (*node, Fate::Alive)),
            Event::Watching { by, whom, watch } => {
                if let Some(old) = on.insert((*by, *whom), *watch) {
                    watches.get_mut(&old).unwrap().is_on = false;
                }
                let watch = watches.insert(
                    *watch,
                    Watch {
                        by: *by,
                        whom: *whom,
                        heard: false,
                        is_on: true,
                    },
                );
                assert!(watch.is_none());
            }
            Event::Unwatched { by, whom, was } => {
                let watch = on.remove(&(*by, *whom));
                if *was {
                    let watch = watch.unwrap_or_else(|| panic!("{by} did not watch {whom}"));
                    let watch = watches.remove(&watch).unwrap();
                    assert!(!watch.heard, "{by} heard of {whom} and watched on");
                } else if let Some(watch) = watch {
                    // The news lies in the mailbox.
                    on.insert((*by, *whom), watch);
                }
            }
            Event::Gone { by, watch, cause } => {
                let known = watches.get_mut(watch);
                let known = known.unwrap_or_else(|| panic!("{by} heard of {watch}, which is none"));
                assert_eq!(*by, known.by);
                assert!(!known.heard, "{by} heard twice of {}", known.whom);
                known.heard = true;
                let (_, fate) = fates[&known.whom];
                let possible: &[Option<StopCause>] = match fate {
                    Fate::Alive => &[],
                    Fate::Ended => &CAUSES,
                    Fate::Died => &[Some(StopCause::NodeGone), None],
                };
                assert!(
                    possible.contains(cause),
                    "{by} heard of {}: {cause:?}",
                    known.whom
                );
                if known.is_on {
                    on.remove(&(*by, known.whom));
                }
                mourned.insert((*by, known.whom));
                verdict.gone += 1;
                verdict.without_cause += usize::from(cause.is_none());
                verdict.node_gone += usize::from(*cause == Some(StopCause::NodeGone));
            }
            Event::Word { to, from, word } => {
                let is_late = mourned.contains(&(*to, *from));
                assert!(!is_late, "{word} of {from} came to {to} behind its end");
                verdict.words += 1;
            }
            Event::Ended { who } => {
                if let Some((_, fate @ Fate::Alive)) = fates.get_mut(who) {
                    *fate = Fate::Ended;
                }
            }
            Event::NodeDied { node } => {
                for (_, fate) in fates.values_mut().filter(|(at, _)| at == node) {
                    if *fate == Fate::Alive {
                        *fate = Fate::Died;
                    }
                }
            }
            Event::Refused { .. } => {}
        }
    }
    for (number, watch) in &watches {
        let (by, whom) = (fates[&watch.by].1, fates[&watch.whom].1);
        let is_owed = watch.is_on && by == Fate::Alive && whom != Fate::Alive;
        assert!(
            !is_owed || watch.heard,
            "{} never heard of the end of {} (watch {number})",
            watch.by,
            watch.whom
        );
    }
    verdict
}

/// Nothing is left of any watch between nodes.
#[track_caller]
pub fn assert_empty(cluster: &mut ClusterSimulation, nodes: &[NodeId]) {
    for node in nodes {
        let stats = cluster.remote_stats(*node);
        let left = (stats.watches, stats.watchers, stats.lookups);
        assert_eq!(left, (0, 0, 0), "{node}: watches, watchers, lookups");
    }
}
