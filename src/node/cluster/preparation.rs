//! From settings to a node that can be started.

use super::seed_address::SeedAddress;
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
use crate::io::cluster::port::{Port, resolve, resolve_all};
use crate::io::cluster::readiness::Readiness;
use crate::io::cluster::seed_lookups::{self, Resolver, SeedNames};
use crate::io::cluster::status::Status;
use crate::io::cluster::view::ClusterView;
use crate::io::core_thread::PartSeed;
use crate::io::descriptors::{self, DescriptorDemand};
use crate::mesh::doorbell::Doorbell;
use crate::sharding::ownership::TypeSpec;
use crate::wire::address::Life;
use crate::wire::tables::Tables;
use core::net::SocketAddr;
use std::collections::BTreeMap;
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
    prepare_by(settings, contribution, resolve_all)
}

/// With the names of seeds looked up by another than the system.
fn prepare_by(
    settings: &ClusterSettings,
    contribution: Contribution,
    resolver: Resolver,
) -> Result<Prepared, ClusterStartError> {
    settings.check()?;
    descriptors::provide(DescriptorDemand {
        executors: contribution.data.len() + 1,
        peers: settings.seeds.len(),
    })?;
    let data_cores = contribution.data.len() as u16;
    let port = Port::bind(resolve(&settings.bind)?)?;
    let address = advertised(settings, port.address())?;
    let (seeds, names) = seeds(settings, address, resolver)?;
    let plane = PlaneSettings {
        cluster: settings.name.clone(),
        node: NodeSettings {
            roles: settings.roles.clone(),
            data_cores,
            seeds,
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
        names,
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

/// Where the seeds are. The names of others may stand for nothing yet; those are looked up again later.
fn seeds(
    settings: &ClusterSettings,
    advertised: SocketAddr,
    resolver: Resolver,
) -> Result<(Vec<Seed>, SeedNames), ClusterStartError> {
    let mut seeds = Vec::new();
    let (mut names, mut unknown) = (BTreeMap::new(), BTreeMap::new());
    for SeedAddress { node, address } in &settings.seeds {
        let (node, is_this) = (*node, *node == settings.node);
        if !is_this && address.parse::<SocketAddr>().is_err() {
            names.insert(node, address.clone());
        }
        let found = match resolver(address) {
            Ok(found) => found,
            // Where this node is, its own settings say.
            Err(_) if is_this => vec![advertised],
            Err(error) => {
                unknown.insert(node, error.to_string());
                Vec::new()
            }
        };
        let mut fitting = found.iter().copied();
        let fitting = fitting.find(|at| is_this == (*at == advertised));
        if let (None, Some(at)) = (fitting, found.first()) {
            return Err(ClusterStartError::SeedIsNotThis {
                seed: node,
                at: *at,
                node: settings.node,
                advertised,
            });
        }
        seeds.push(Seed {
            node,
            address: fitting,
        });
    }
    let names = SeedNames {
        names,
        unknown,
        resolver,
        each: seed_lookups::EACH,
    };
    Ok((seeds, names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeId;
    use crate::io::cluster::boot_clock::boot_time;
    use crate::io::cluster::driver::ClusterDriver;
    use crate::io::cluster::port::PortError;
    use crate::io::cluster::view::{ClusterEnd, ClusterPhase};
    use crate::io::runtime_clock::RuntimeClock;
    use crate::node::cluster::expert::Profile;
    use std::path::Path;
    use std::sync::Mutex;
    use std::time::Duration;

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

    fn unknown(name: &str) -> Result<Vec<SocketAddr>, PortError> {
        name.parse()
            .map(|address| vec![address])
            .map_err(|_| PortError::Unknown {
                address: name.to_owned(),
                what: "nobody knows it".to_owned(),
            })
    }

    #[test]
    fn a_name_that_nobody_knows_yet_is_no_reason_not_to_start() {
        let mut settings = ClusterSettings::new(7, "127.0.0.1:0", "data");
        let seeds = ["7@this:7000", "8@late:7000", "9@10.0.0.9:7000"];
        settings.seeds = seeds.map(|seed| seed.parse().unwrap()).to_vec();
        let seed = prepare_by(&settings, contribution(), unknown)
            .unwrap()
            .cluster;
        let addresses = seed.plane.node.seeds.iter().map(|seed| seed.address);
        let expected = [
            Some(seed.port.address()),
            None,
            "10.0.0.9:7000".parse().ok(),
        ];
        assert_eq!(addresses.collect::<Vec<_>>(), expected);
        let nodes = |names: &BTreeMap<NodeId, String>| names.keys().copied().collect::<Vec<_>>();
        assert_eq!(nodes(&seed.names.names), [NodeId(8)]);
        assert_eq!(nodes(&seed.names.unknown), [NodeId(8)]);
        // Of names with several addresses it is one of the node that is meant.
        settings.advertised = Some("127.0.0.1:7000".into());
        let both = |_: &str| {
            Ok(["10.0.0.8:7000", "127.0.0.1:7000"]
                .map(|at| at.parse().unwrap())
                .to_vec())
        };
        settings.seeds.pop();
        let seed = prepare_by(&settings, contribution(), both).unwrap().cluster;
        let addresses = seed.plane.node.seeds.iter().map(|seed| seed.address);
        let expected = ["127.0.0.1:7000", "10.0.0.8:7000"].map(|at| at.parse().ok());
        assert_eq!(addresses.collect::<Vec<_>>(), expected);
    }

    /// Where the names stand, which are the same for all tests that use them.
    static NAMES: Mutex<BTreeMap<String, SocketAddr>> = Mutex::new(BTreeMap::new());

    fn by_name(name: &str) -> Result<Vec<SocketAddr>, PortError> {
        match NAMES.lock().unwrap().get(name) {
            Some(address) => Ok(vec![*address]),
            None => unknown(name),
        }
    }

    fn founder(node: u32, directory: &Path) -> ClusterDriver {
        let data = directory.join(format!("data-{node}"));
        let mut settings = ClusterSettings::new(node, "127.0.0.1:0", data).profile(Profile::Fast);
        let seeds = ["1@one.late:7000", "2@two.late:7000"];
        settings.seeds = seeds.map(|seed| seed.parse().unwrap()).to_vec();
        let mut seed = prepare_by(&settings, contribution(), by_name)
            .unwrap()
            .cluster;
        seed.names.each = Duration::from_millis(50);
        ClusterDriver::new(seed, RuntimeClock::start(true))
    }

    /// Turns them until it is so.
    async fn turn(drivers: &mut [ClusterDriver], is_so: impl Fn(&[Arc<ClusterView>]) -> bool) {
        let began = boot_time();
        loop {
            for driver in &mut *drivers {
                driver.turn(None, None);
            }
            let views: Vec<_> = drivers.iter().map(|driver| driver.status.view()).collect();
            if is_so(&views) {
                return;
            }
            assert!(boot_time() < began + Duration::from_secs(60), "{views:?}");
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Real sockets and files, with names that stand for nothing when the nodes start.
    #[test]
    fn founders_find_each_other_when_their_names_come_to_stand_for_them() {
        let directory = std::env::temp_dir().join(format!("corecast-late-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let executor = glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound);
        let executor = executor.make().unwrap();
        executor.run(async {
            let mut drivers = [1, 2].map(|node| founder(node, &directory));
            let waits = |view: &Arc<ClusterView>| {
                let obstacle = view.obstacle.as_deref().unwrap_or_default();
                view.phase == ClusterPhase::Joining && obstacle.contains("nobody knows it")
            };
            turn(&mut drivers, |views| views.iter().all(waits)).await;
            let addresses = drivers
                .each_ref()
                .map(|driver| driver.status.view().advertised);
            // First another's, as of a name that is slow to follow.
            let closed = Port::bind("127.0.0.1:0".parse().unwrap())
                .unwrap()
                .address();
            NAMES.lock().unwrap().insert("two.late:7000".into(), closed);
            let fails = |view: &ClusterView| {
                view.obstacle
                    .as_deref()
                    .is_some_and(|what| what.contains("efused"))
            };
            turn(&mut drivers, |views| fails(&views[0])).await;
            NAMES
                .lock()
                .unwrap()
                .insert("two.late:7000".into(), addresses[1]);
            turn(&mut drivers, |views| {
                views
                    .iter()
                    .all(|view| view.up().count() == 2 && view.obstacle.is_none())
            })
            .await;
            for driver in drivers {
                driver.close(&Doorbell::default()).await;
            }
        });
        std::fs::remove_dir_all(&directory).unwrap();
    }

    /// A disk that does not end a write must not keep the process.
    #[test]
    fn the_end_comes_in_time_though_the_disk_hangs() {
        let directory = std::env::temp_dir().join(format!("corecast-hangs-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let executor = glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound);
        let executor = executor.make().unwrap();
        executor.run(async {
            let mut settings = ClusterSettings::new(1, "127.0.0.1:0", directory.join("data"));
            settings.expert.links.close_patience = Duration::from_millis(1);
            let seed = prepare(&settings, contribution()).unwrap().cluster;
            let mut driver = ClusterDriver::new(seed, RuntimeClock::start(true));
            turn(std::slice::from_mut(&mut driver), |views| {
                views[0].self_node.is_some()
            })
            .await;
            driver.hang();
            let status = driver.status.clone();
            let began = boot_time();
            status.end_by(began + Duration::from_millis(4_500));
            driver.close(&Doorbell::default()).await;
            let took = boot_time() - began;
            assert!(took >= Duration::from_millis(4_500), "{took:?}");
            assert!(took < Duration::from_secs(30), "{took:?}");
            assert_eq!(status.view().end(), Some(&ClusterEnd::ShutDown));
        });
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
