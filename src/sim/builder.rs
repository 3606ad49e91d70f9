//! Making a simulation.

use super::bounds::Bounds;
use super::clock::{CoreTime, CoreTracer, Costs, OutsideTime, VirtualClock};
use super::elsewhere::Pool;
use super::foreign::Foreign;
use super::injection::Injector;
use super::probe::{self, EntityProbe, Inbox, ProbingEntity};
use super::simulation::Simulation;
use super::trace::Recorder;
use super::world::{Core, Stalls, World};
use crate::actor::entity::EntityType;
use crate::actor::entity_id::EntityId;
use crate::actor::handle::Handle;
use crate::actor::link::LinkBounds;
use crate::actor::mailbox::Mailbox;
use crate::actor::model::Actor;
use crate::actor::mutant::Mutant;
use crate::actor::reference::Region;
use crate::base::ids::CoreId;
use crate::base::rng::{Rng, seeded};
use crate::engine::assembly::{CoreDriver, NodeSpec, Regions, TableError, assemble};
use crate::sharding::ownership::TypeSpec;
use crate::sharding::settings::{BalancerSettings, CoordinatorSettings};
use crate::sharding::topology::Allocation;
use crate::wire::address::Life;
use crate::wire::message::Message;
use crate::wire::tables::Tables;
use rand::RngExt;
use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Streams of the seed; each purpose has its own, so that one more draw here does not change all draws there.
const WORLD: u64 = 1;
const POOL: u64 = 2;
const SWARM: u64 = 3;
const FAULTS: u64 = 4;
const TIMES: u64 = 100;
const CHOICES: u64 = 200;
const ACTORS: u64 = 1 << 16;

/// The settings of a [`Simulation`].
pub struct SimulationBuilder {
    seed: u64,
    cores: usize,
    bounds: Bounds,
    costs: Costs,
    stalls: Option<Stalls>,
    swarm: bool,
    regions: Regions,
    allocation: Allocation,
    coordinator: CoordinatorSettings,
    /// Types of actors that no fault strikes but one that is aimed at them.
    spared: BTreeSet<TypeId>,
    mutant: Option<Mutant>,
    /// Which life of which node of a simulated cluster it is.
    pub(super) cluster: Option<(Life, LinkBounds)>,
}

impl SimulationBuilder {
    pub(super) fn new(seed: u64) -> SimulationBuilder {
        SimulationBuilder {
            seed,
            cores: 2,
            bounds: Bounds::default(),
            costs: Costs {
                turn: Duration::from_nanos(500),
                activation: Duration::from_nanos(30),
                message: Duration::from_nanos(100),
            },
            stalls: None,
            swarm: false,
            regions: Regions::default(),
            allocation: Allocation::default(),
            coordinator: CoordinatorSettings {
                balancer: None,
                ..CoordinatorSettings::default()
            },
            spared: BTreeSet::new(),
            mutant: None,
            cluster: None,
        }
    }

    /// The seed from which everything comes.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How many cores run actors (default 2); one more coordinates.
    ///
    /// # Panics
    /// Without any core, or with more than 4,096.
    #[must_use]
    pub fn cores(mut self, cores: usize) -> Self {
        assert!(
            (1..=4_096).contains(&cores),
            "a simulation has 1 to 4096 cores, not {cores}"
        );
        self.cores = cores;
        self
    }

    /// Registers an entity type.
    pub fn entities<A: Actor, I: EntityId>(
        &mut self,
        entity: EntityType<A, I>,
    ) -> Region<I, A::Msg> {
        self.regions.add(entity, self.seed)
    }

    /// Registers an entity type whose entities are one [probe](super::probe::Probe), to stand in for those with which the
    /// actors under test work.
    pub fn entity_probe<I: EntityId, M: Message>(
        &mut self,
        name: &'static str,
    ) -> EntityProbe<I, M> {
        let inbox = Inbox::default();
        let region = self.entities(probe::entities(name, inbox.clone()));
        self.spared.insert(TypeId::of::<ProbingEntity<I, M>>());
        EntityProbe::new(region, inbox)
    }

    /// The bounds of every core.
    #[must_use]
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// The mailbox of actors that do not ask for their own.
    #[must_use]
    pub fn mailbox(mut self, mailbox: Mailbox) -> Self {
        self.bounds.mailbox = mailbox;
        self
    }

    /// Draws from the seed what must not matter: sizes of batches, lanes, outboxes and turns, some of them tiny, so that
    /// lanes are full and sends refused (as `OutboxFull`, `Moving` or `IngressFull`); how long turns take; and whether
    /// cores stand still now and then.
    #[must_use]
    pub fn swarm(mut self) -> Self {
        self.swarm = true;
        self
    }

    /// After one turn in `one_in` the core stands still, for at most `longest` (default: never).
    #[must_use]
    pub fn stalls(mut self, one_in: u32, longest: Duration) -> Self {
        self.stalls = Some(Stalls {
            one_in: one_in.max(1),
            longest: (longest.as_nanos() as u64).max(1),
        });
        self
    }

    /// What a message costs in virtual time on average (default 100 ns); each takes from nothing to twice as long.
    #[must_use]
    pub fn message_cost(mut self, mean: Duration) -> Self {
        self.costs.message = mean;
        self
    }

    /// Where shards start (default: evenly spread).
    #[must_use]
    pub fn allocation(mut self, allocation: Allocation) -> Self {
        self.allocation = allocation;
        self
    }

    /// Moves shards by their load (default: only by call).
    #[must_use]
    pub fn balancer(mut self, balancer: BalancerSettings) -> Self {
        self.coordinator.balancer = Some(balancer);
        self
    }

    /// Plants a bug.
    #[doc(hidden)]
    #[must_use]
    pub fn mutant(mut self, mutant: Mutant) -> Self {
        self.mutant = Some(mutant);
        self
    }

    /// The entity types of the cluster that are registered.
    pub(super) fn type_specs(&self) -> Vec<TypeSpec> {
        self.regions.type_specs()
    }

    /// What other nodes have to agree on.
    pub(super) fn tables(&self) -> Result<Tables, TableError> {
        self.regions.tables()
    }

    /// How many cores run actors.
    pub(super) fn data_cores(&self) -> usize {
        self.cores
    }

    /// Starts the world; nothing has happened in it yet.
    ///
    /// # Panics
    /// If the settings make no sense: an entity type without shards or two of one name, shards that start on a core
    /// that does not exist, or a balancer whose settings contradict each other.
    #[must_use]
    pub fn start(mut self) -> Simulation {
        if self.swarm {
            self.draw();
        }
        if let Err(error) = self.regions.check() {
            panic!("{error}");
        }
        if let Err(error) = self.coordinator.check() {
            panic!("{error}");
        }
        if self.cluster.is_some()
            && let Err(error) = self.regions.tables()
        {
            panic!("{error}");
        }
        let outside = OutsideTime::default();
        let spec = NodeSpec {
            data_cores: self.cores,
            limits: self.bounds.limits(),
            lanes: self.bounds.lanes(),
            ingress_jobs: self.bounds.ingress_jobs,
            regions: self.regions,
            allocation: self.allocation,
            coordinator: self.coordinator,
            patience: self.bounds.patience,
            clock: outside.clock(),
            cluster: self.cluster,
        };
        let mut assembly = match assemble(spec) {
            Ok(assembly) => assembly,
            Err(error) => panic!("{error}"),
        };
        let (seed, costs, mutant) = (self.seed, self.costs, self.mutant);
        let recorder = Rc::new(RefCell::new(Recorder::default()));
        let injector = Injector::new(seeded(seed, FAULTS), self.spared);
        let injector = Rc::new(RefCell::new(injector));
        let foreign = Foreign::new();
        let pool = Pool::new(seeded(seed, POOL), foreign.clone());
        let seeds = std::mem::take(&mut assembly.seeds)
            .into_iter()
            .zip(assembly.doorbells.iter().cloned());
        let cores = seeds.enumerate().map(|(number, (core_seed, bell))| {
            let time = CoreTime::new(seeded(seed, TIMES + number as u64), costs);
            let mut choices: Rng = seeded(seed, CHOICES + number as u64);
            let tracer = CoreTracer {
                core: CoreId(number as u16),
                time: time.clone(),
                recorder: recorder.clone(),
                injector: injector.clone(),
                foreign: foreign.clone(),
            };
            let mut engine = core_seed.start(CoreDriver {
                clock: Box::new(VirtualClock(time.clone())),
                tracer: Some(Box::new(tracer)),
                choose: Some(Box::new(move |among| choices.random_range(0..among))),
                rng: seeded(seed, ACTORS + number as u64),
                blocking: Arc::new(pool.entrance()),
            });
            if let Some(mutant) = mutant {
                engine.plant(mutant);
            }
            Core::new(engine, bell, time, foreign.clone())
        });
        let cores = cores.collect();
        let world = World {
            seed,
            has_failed: Cell::new(false),
            cores,
            pool,
            recorder,
            injector,
            foreign,
            rng: seeded(seed, WORLD),
            stalls: self.stalls,
            now: 0,
            outside,
        };
        let handle = Handle::new(assembly.gate.clone());
        Simulation::new(world, handle, assembly.runtime, self.bounds.ask_timeout)
    }

    fn draw(&mut self) {
        let mut rng = seeded(self.seed, SWARM);
        self.bounds.draw(&mut rng);
        if self.stalls.is_none() && rng.random_ratio(1, 2) {
            let one_in = [3, 20, 200][rng.random_range(0..3)];
            self.stalls = Some(Stalls {
                one_in,
                longest: rng.random_range(1_000..5_000_000),
            });
        }
        self.costs.turn = Duration::from_nanos(rng.random_range(10..5_000));
        self.costs.activation = Duration::from_nanos(rng.random_range(0..1_000));
    }
}

impl fmt::Debug for SimulationBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulationBuilder")
            .field("seed", &self.seed)
            .field("cores", &self.cores)
            .finish_non_exhaustive()
    }
}
