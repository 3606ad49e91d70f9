//! Putting the cores of a node together: lanes, gate, first topology, and a seed for each core's engine.
//!
//! Both drivers build nodes with this, so what runs in the simulator is what runs on pinned threads.

use super::coordination::Coordination;
use super::core::{Engine, EngineSetup, RegionInstaller};
use crate::actor::batch::{Batch, MAX_SHARDS};
use crate::actor::control::Control;
use crate::actor::entity::EntityType;
use crate::actor::entity_id::EntityId;
use crate::actor::handle::{Gate, Handle, OutsideClock};
use crate::actor::ingress::JobQueue;
use crate::actor::link::LinkBounds;
use crate::actor::local::{Clock, Limits, LocalSetup};
use crate::actor::model::Actor;
use crate::actor::reference::{Home, Region};
use crate::actor::remote::Remote;
use crate::actor::reply::{Exit, RuntimeId, close_exit, open_exit};
use crate::actor::task::Executor;
use crate::actor::trace::Tracer;
use crate::base::ids::{CoreId, EntityTypeId, NodeId};
use crate::base::rng::Rng;
use crate::mesh::doorbell::Doorbell;
use crate::mesh::lane::{LaneDepths, Port, connect};
use crate::sharding::coordinator::Coordinator;
use crate::sharding::ownership::TypeSpec;
use crate::sharding::settings::CoordinatorSettings;
use crate::sharding::strategy::PlacementStrategy;
use crate::sharding::topology::{Allocation, Topology, TopologyError};
use crate::wire::address::Life;
use crate::wire::tables::{EntityTypeError, Tables};
use crate::wire::type_registry::{TypeClash, TypeRegistry};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The entity types of a node, in the order of their registration.
pub(crate) struct Regions {
    /// The runtime that they will be part of.
    runtime: RuntimeId,
    installers: Vec<RegionInstaller>,
    names: Vec<&'static str>,
    shards: Vec<u32>,
    /// The types of the cluster, each with what registers its message.
    clustered: Vec<ClusteredRegion>,
}

/// An entity type of the cluster.
struct ClusteredRegion {
    id: EntityTypeId,
    register: RegisterMessage,
    keep_running: bool,
}

/// Registers a message type that may travel.
type RegisterMessage = fn(&mut TypeRegistry) -> Result<(), TypeClash>;

/// Why an entity type cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegionError {
    /// It has no shards.
    #[error("the entity type {0:?} has zero shards; give it at least one (256 is the default)")]
    NoShards(&'static str),
    /// It has more shards than envelopes have room for.
    #[error("the entity type {0:?} has {1} shards; give it at most {max}", max = MAX_SHARDS)]
    TooManyShards(&'static str, u32),
    /// Two types of one name.
    #[error(
        "there are two entity types of the name {0:?}; names tell them apart in the cluster, so give one another"
    )]
    NameTwice(&'static str),
    /// More than there are numbers for.
    #[error("there are more than {} entity types", u16::MAX)]
    TooMany,
}

impl Default for Regions {
    fn default() -> Self {
        Regions {
            runtime: RuntimeId::next(),
            installers: Vec::new(),
            names: Vec::new(),
            shards: Vec::new(),
            clustered: Vec::new(),
        }
    }
}

impl Regions {
    pub(crate) fn add<A: Actor, I: EntityId>(
        &mut self,
        entity: EntityType<A, I>,
        seed: u64,
    ) -> Region<I, A::Msg> {
        let id = EntityTypeId(self.installers.len() as u16);
        let shards = entity.num_shards;
        if let Some(clustered) = &entity.clustered {
            self.clustered.push(ClusteredRegion {
                id,
                register: clustered.register,
                keep_running: clustered.keep_running,
            });
        }
        self.names.push(entity.name);
        self.shards.push(shards);
        self.installers.push(Box::new(move |local| {
            local.install_region(&entity, local.limits.mailbox, seed)
        }));
        Region::new(self.runtime, id, shards)
    }

    /// The entity types of the cluster, by their names there.
    fn clustered(&self) -> impl Iterator<Item = (EntityTypeId, &'static str)> {
        let clustered = self.clustered.iter();
        clustered.map(|region| (region.id, self.names[region.id.index()]))
    }

    /// The types that other nodes have to agree on: what goes into the handshake of connections.
    ///
    /// # Errors
    /// If two of them cannot be told apart.
    pub(crate) fn tables(&self) -> Result<Tables, TableError> {
        let mut types = TypeRegistry::default();
        for region in &self.clustered {
            (region.register)(&mut types)?;
        }
        let mut tables = Tables::new(types);
        for (number, name) in self.clustered() {
            tables.add_entity_type(name, self.shards[number.index()])?;
        }
        Ok(tables)
    }

    /// What the cluster has to agree on about each of its entity types.
    pub(crate) fn type_specs(&self) -> Vec<TypeSpec> {
        let spec = |region: &ClusteredRegion| TypeSpec {
            name: self.names[region.id.index()].to_owned(),
            shards: self.shards[region.id.index()],
            strategy: PlacementStrategy::default(),
            role: None,
            keep_running: region.keep_running,
        };
        self.clustered.iter().map(spec).collect()
    }

    pub(crate) fn check(&self) -> Result<(), RegionError> {
        if self.names.len() > usize::from(u16::MAX) {
            return Err(RegionError::TooMany);
        }
        for (index, name) in self.names.iter().enumerate() {
            if self.shards[index] == 0 {
                return Err(RegionError::NoShards(name));
            }
            if self.shards[index] > MAX_SHARDS {
                return Err(RegionError::TooManyShards(name, self.shards[index]));
            }
            if self.names[..index].contains(name) {
                return Err(RegionError::NameTwice(name));
            }
        }
        Ok(())
    }
}

/// Why the types of a node cannot be those of one in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Two message types clash, or there are too many.
    #[error(transparent)]
    Message(#[from] TypeClash),
    /// An entity type has no fit name, or there are too many.
    #[error(transparent)]
    Entity(#[from] EntityTypeError),
}

/// What a node is made of.
pub(crate) struct NodeSpec {
    /// Cores that run actors; one more coordinates.
    pub(crate) data_cores: usize,
    pub(crate) limits: Limits,
    pub(crate) lanes: LaneDepths,
    pub(crate) ingress_jobs: usize,
    pub(crate) regions: Regions,
    pub(crate) allocation: Allocation,
    pub(crate) coordinator: CoordinatorSettings,
    /// How long a shard may take to become ready to leave its core.
    pub(crate) patience: Duration,
    pub(crate) clock: OutsideClock,
    /// Which life of which node of a cluster it is, or, until the cluster says so, by which it calls itself; `None` if it is
    /// alone.
    pub(crate) cluster: Option<(Life, LinkBounds)>,
}

/// A node whose cores have yet to be started.
pub(crate) struct Assembly {
    pub(crate) gate: Arc<Gate>,
    /// One for each core, the coordination core last.
    pub(crate) seeds: Vec<EngineSeed>,
    pub(crate) doorbells: Vec<Arc<Doorbell>>,
    pub(crate) runtime: RuntimeId,
}

/// What becomes the engine of one core, on the thread that runs it.
pub(crate) struct EngineSeed {
    home: Home,
    runtime: RuntimeId,
    limits: Limits,
    topology: Arc<Topology>,
    port: Port<Control, Box<dyn Batch>>,
    jobs: JobQueue,
    gate: Arc<Gate>,
    regions: Arc<Regions>,
    coordinator: CoordinatorSettings,
    patience: Duration,
    data_cores: usize,
    cluster: Option<(Life, LinkBounds)>,
}

/// What its driver gives to a core.
pub(crate) struct CoreDriver {
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) tracer: Option<Box<dyn Tracer>>,
    pub(crate) choose: Option<Box<dyn FnMut(usize) -> usize>>,
    /// The randomness of the actors and futures on the core.
    pub(crate) rng: Rng,
    pub(crate) blocking: Arc<dyn Executor>,
}

/// Puts a node together.
pub(crate) fn assemble(spec: NodeSpec) -> Result<Assembly, TopologyError> {
    let data_cores: Vec<CoreId> = (0..spec.data_cores as u16).map(CoreId).collect();
    let alone = Topology::allocate(&spec.regions.shards, &data_cores, spec.allocation)?;
    let topology = Arc::new(match &spec.cluster {
        Some((life, _)) => alone.in_cluster(life.node, spec.regions.clustered()),
        None => alone,
    });
    let ports = connect(spec.data_cores + 1, spec.lanes);
    let doorbells: Vec<_> = ports
        .iter()
        .map(|port| port.doorbell(port.me()).clone())
        .collect();
    let (gate, jobs) = Gate::new(
        doorbells.clone(),
        spec.data_cores,
        spec.ingress_jobs,
        spec.limits.ask_timeout,
        spec.clock,
    );
    let runtime = spec.regions.runtime;
    let exit: Weak<Gate> = Arc::downgrade(&gate);
    open_exit(runtime, exit as Weak<dyn Exit>);
    let regions = Arc::new(spec.regions);
    let seeds = ports
        .into_iter()
        .zip(jobs)
        .map(|(port, jobs)| EngineSeed {
            home: match spec.cluster {
                Some((life, _)) => Home::new(life.node, life.incarnation),
                None => Home::new(NodeId(0), runtime.incarnation()),
            },
            cluster: spec.cluster,
            runtime,
            limits: spec.limits.clone(),
            topology: topology.clone(),
            port,
            jobs,
            gate: gate.clone(),
            regions: regions.clone(),
            coordinator: spec.coordinator.clone(),
            patience: spec.patience,
            data_cores: spec.data_cores,
        })
        .collect();
    Ok(Assembly {
        gate,
        seeds,
        doorbells,
        runtime,
    })
}

impl Drop for Assembly {
    fn drop(&mut self) {
        // Only reached by a node that never started; a running one closes its exit at its end.
        if !self.seeds.is_empty() {
            close_exit(self.runtime);
        }
    }
}

impl EngineSeed {
    pub(crate) fn start(self, driver: CoreDriver) -> Engine {
        let me = self.port.me();
        let coordinator_core = CoreId(self.data_cores as u16);
        let data_cores: Vec<CoreId> = (0..self.data_cores as u16).map(CoreId).collect();
        let load_window = self
            .coordinator
            .balancer
            .as_ref()
            .map(|balancer| balancer.window);
        let coordination = (me == coordinator_core).then(|| {
            Coordination::new(Coordinator::new(
                self.topology.clone(),
                &data_cores,
                self.coordinator,
            ))
        });
        Engine::new(
            EngineSetup {
                local: LocalSetup {
                    home: self.home,
                    runtime: self.runtime,
                    clock: driver.clock,
                    limits: self.limits,
                    tracer: driver.tracer,
                    choose: driver.choose,
                    rng: driver.rng,
                    topology: self.topology,
                    port: self.port,
                    handle: Handle::new(self.gate),
                    blocking: driver.blocking,
                    remote: self.cluster.map(|(life, bounds)| Remote::new(life, bounds)),
                },
                jobs: self.jobs,
                data_cores: self.data_cores,
                coordinator_core,
                coordination,
                patience: self.patience,
                load_window,
            },
            &self.regions.installers,
        )
    }
}
