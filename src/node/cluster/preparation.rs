//! From settings to a node that can be started.

use super::settings::ClusterSettings;
use super::start_error::ClusterStartError;
use crate::actor::link::LinkBounds;
use crate::actor::own_life::life_of_process;
use crate::base::ids::{CoreId, Incarnation};
use crate::cluster::ledger_settings::LedgerSettings;
use crate::cluster::node::settings::{NodeSettings, Seed};
use crate::cluster::plane::PlaneSettings;
use crate::engine::assembly::{Regions, TableError};
use crate::io::cluster::data_core::DataSeed;
use crate::io::cluster::data_news::DataNews;
use crate::io::cluster::driver::ClusterSeed;
use crate::io::cluster::guests::GuestLanes;
use crate::io::cluster::port::{Port, resolve};
use crate::io::cluster::readiness::Readiness;
use crate::io::cluster::status::Status;
use crate::io::cluster::view::ClusterView;
use crate::io::core_thread::PartSeed;
use crate::io::descriptors::{self, DescriptorDemand};
use crate::mesh::doorbell::Doorbell;
use crate::sharding::ownership::TypeSpec;
use crate::wire::address::Life;
use crate::wire::tables::Tables;
use core::net::SocketAddr;
use std::sync::Arc;

/// What a runtime brings to its cluster.
#[derive(Debug)]
pub(crate) struct Contribution {
    /// The entity types that the cluster is to place.
    pub(crate) types: Vec<TypeSpec>,
    /// The same, and the message types, as connections compare them.
    pub(crate) tables: Arc<Tables>,
    /// The bells of its data cores.
    pub(crate) data: Vec<Arc<Doorbell>>,
    /// The bell of the coordination core, which is the one after them.
    pub(crate) coordination: Arc<Doorbell>,
}

impl Contribution {
    /// Of a runtime with these entity types; the bells of its cores have yet to be added.
    ///
    /// # Errors
    /// If other nodes could not tell its types apart.
    pub(crate) fn of(regions: &Regions) -> Result<Contribution, TableError> {
        Ok(Contribution {
            types: regions.type_specs(),
            tables: Arc::new(regions.tables()?),
            data: Vec::new(),
            coordination: Arc::default(),
        })
    }

    /// With the bells of all cores, the coordination core's last.
    pub(crate) fn with_bells(mut self, doorbells: &[Arc<Doorbell>]) -> Contribution {
        if let Some((coordination, data)) = doorbells.split_last() {
            self.coordination = coordination.clone();
            self.data = data.to_vec();
        }
        self
    }
}

/// What the cores of a node bring up on their threads.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// On the coordination core.
    pub(crate) cluster: ClusterSeed,
    /// On each data core, in order.
    pub(crate) data: Vec<DataSeed>,
}

impl Prepared {
    /// For each core what it is.
    pub(crate) fn into_parts(self) -> impl Iterator<Item = PartSeed> {
        let data = self.data.into_iter();
        let data = data.map(|data| PartSeed::Data(Box::new(data)));
        data.chain([PartSeed::Coordination(Box::new(self.cluster))])
    }
}

impl ClusterSettings {
    /// By which life this process calls itself, and what its cores have for other nodes; `number` tells it from other
    /// processes of this node.
    pub(crate) fn of_process(&self, number: u32) -> (Life, LinkBounds) {
        let bounds = LinkBounds {
            frame_bytes: self.expert.limits.frame_bytes,
            ..self.expert.bounds
        };
        (life_of_process(self.node, number), bounds)
    }
}

/// Has the process get as many descriptors as it may have, binds the port and looks names up, which may block.
///
/// # Errors
/// [`ClusterStartError`]; nothing is left bound.
pub(crate) fn prepare(
    settings: &ClusterSettings,
    contribution: Contribution,
) -> Result<Prepared, ClusterStartError> {
    settings.check()?;
    descriptors::provide(DescriptorDemand {
        executors: contribution.data.len() + 1,
        peers: settings.seeds.len(),
    })?;
    let data_cores = contribution.data.len() as u16;
    let port = Port::bind(resolve(&settings.bind)?)?;
    let address = advertised(settings, port.address())?;
    let plane = PlaneSettings {
        cluster: settings.name.clone(),
        node: NodeSettings {
            roles: settings.roles.clone(),
            data_cores,
            seeds: seeds(settings, address)?,
            start: settings.start,
            types: contribution.types,
            required_quorum: settings.required_quorum,
            ask_every: settings.expert.ask_every,
            bootstrap: settings.expert.bootstrap.clone(),
            membership: settings.expert.membership.clone(),
            consensus: settings.expert.consensus.clone(),
            steward: settings.expert.steward.clone(),
            ..NodeSettings::new(settings.node, address)
        },
        links: settings.expert.links.clone(),
        limits: settings.expert.limits,
        tables: contribution.tables,
        core: CoreId(data_cores),
        cores: data_cores + 1,
    };
    plane.node.check()?;
    // What it says of itself can be said, whatever its life will be.
    plane.identity(Incarnation(1), None)?;
    if plane.node.seeds.len() == 2 {
        tracing::warn!(
            "two founders have no fail-over: one of two is no majority, so found with three"
        );
    }
    let ledger = settings.expert.ledger.clone();
    let view = ClusterView::new(&settings.name, settings.node, address);
    let news = Arc::new(DataNews::new(contribution.data.clone()));
    let mut guests = GuestLanes::default();
    let mut data = Vec::new();
    for (core, doorbell) in (0..).map(CoreId).zip(contribution.data) {
        data.push(DataSeed {
            core,
            settings: settings.expert.links.clone(),
            guests: guests.open(core, doorbell),
            news: news.clone(),
            readiness: Readiness::new()
                .map_err(|error| ClusterStartError::Sockets(error.to_string()))?,
        });
    }
    let cluster = ClusterSeed {
        port,
        ledger: ledger.unwrap_or_else(|| LedgerSettings::for_consensus(&settings.expert.consensus)),
        plane,
        data: settings.data.clone(),
        guests,
        news,
        status: Arc::new(Status::new(view, contribution.coordination)),
    };
    Ok(Prepared { cluster, data })
}

/// Where others reach a node that is bound there.
fn advertised(
    settings: &ClusterSettings,
    bound: SocketAddr,
) -> Result<SocketAddr, ClusterStartError> {
    let Some(advertised) = &settings.advertised else {
        return Ok(bound);
    };
    let mut address = resolve(advertised)?;
    if address.port() == 0 {
        address.set_port(bound.port());
    }
    Ok(address)
}

fn seeds(
    settings: &ClusterSettings,
    advertised: SocketAddr,
) -> Result<Vec<Seed>, ClusterStartError> {
    let mut seeds = Vec::new();
    for seed in &settings.seeds {
        let at = resolve(&seed.address)?;
        if (seed.node == settings.node) != (at == advertised) {
            return Err(ClusterStartError::SeedIsNotThis {
                seed: seed.node,
                at,
                node: settings.node,
                advertised,
            });
        }
        seeds.push(Seed {
            node: seed.node,
            address: at,
        });
    }
    Ok(seeds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::cluster::port::PortError;

    fn contribution() -> Contribution {
        let bells = [const { Arc::default }; 3].map(|bell| bell());
        let contribution = Contribution::of(&Regions::default()).unwrap();
        contribution.with_bells(&bells)
    }

    #[test]
    fn the_real_port_is_advertised() {
        let mut settings = ClusterSettings::new(7, "127.0.0.1:0", "data");
        let Prepared {
            cluster: seed,
            data,
        } = prepare(&settings, contribution()).unwrap();
        let cores: Vec<CoreId> = data.iter().map(|data| data.core).collect();
        assert_eq!(cores, [CoreId(0), CoreId(1)]);
        assert_eq!(seed.guests.cores(), cores);
        let bound = seed.port.address();
        assert_ne!(bound.port(), 0);
        assert_eq!(seed.plane.node.address, bound);
        assert_eq!(seed.status.view().advertised, bound);
        assert_eq!((seed.plane.core, seed.plane.cores), (CoreId(2), 3));
        drop(seed);
        settings.bind = "0.0.0.0:0".into();
        settings.advertised = Some("127.0.0.1:0".into());
        let seed = prepare(&settings, contribution()).unwrap().cluster;
        let address = seed.plane.node.address;
        assert_eq!(address.port(), seed.port.address().port());
        assert!(address.ip().is_loopback());
    }

    #[test]
    fn what_cannot_be_is_told_and_nothing_stays_bound() {
        let held = Port::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut settings = ClusterSettings::new(7, held.address().to_string(), "data");
        let error = prepare(&settings, contribution()).unwrap_err();
        assert!(
            matches!(error, ClusterStartError::Port(PortError::InUse { .. })),
            "{error}"
        );
        drop(held);
        settings.seeds = vec!["7@127.0.0.1:1".parse().unwrap()];
        let error = prepare(&settings, contribution()).unwrap_err();
        assert!(error.to_string().contains("--advertise"), "{error}");
        settings.seeds = vec![format!("8@{}", settings.bind).parse().unwrap()];
        let error = prepare(&settings, contribution()).unwrap_err();
        assert!(
            matches!(error, ClusterStartError::SeedIsNotThis { .. }),
            "{error}"
        );
        settings.seeds.clear();
        prepare(&settings, contribution()).unwrap();
    }
}
