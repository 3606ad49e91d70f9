//! From settings to a node that can be started.

use super::settings::ClusterSettings;
use super::start_error::ClusterStartError;
use crate::base::ids::{CoreId, Incarnation};
use crate::cluster::ledger_settings::LedgerSettings;
use crate::cluster::node::settings::{NodeSettings, Seed};
use crate::cluster::plane::PlaneSettings;
use crate::io::cluster::driver::ClusterSeed;
use crate::io::cluster::guests::GuestLanes;
use crate::io::cluster::port::{Port, resolve};
use crate::io::cluster::status::Status;
use crate::io::cluster::view::ClusterView;
use crate::mesh::doorbell::Doorbell;
use crate::sharding::ownership::TypeSpec;
use crate::wire::tables::Tables;
use core::net::SocketAddr;
use std::sync::Arc;

/// What a runtime brings to its cluster.
#[derive(Debug)]
pub(crate) struct Contribution {
    /// Its data cores; the coordination core is the one after them.
    pub(crate) data_cores: u16,
    /// The entity types that the cluster is to place.
    pub(crate) types: Vec<TypeSpec>,
    /// The same, and the message types, as connections compare them.
    pub(crate) tables: Arc<Tables>,
    /// The ways of connections for data to the cores that take them.
    pub(crate) guests: GuestLanes,
    /// The bell of the coordination core.
    pub(crate) doorbell: Arc<Doorbell>,
}

impl Contribution {
    /// Of a runtime with so many data cores and this bell. Entity types that the cluster is to place go into both lists, and
    /// each data core that takes connections opens its way among the guests; none does so yet.
    pub(crate) fn of(data_cores: u16, doorbell: Option<&Arc<Doorbell>>) -> Contribution {
        Contribution {
            data_cores,
            types: Vec::new(),
            tables: Arc::default(),
            guests: GuestLanes::default(),
            doorbell: doorbell.cloned().unwrap_or_default(),
        }
    }
}

/// Binds the port and looks names up, which may block.
///
/// # Errors
/// [`ClusterStartError`]; nothing is left bound.
pub(crate) fn prepare(
    settings: &ClusterSettings,
    contribution: Contribution,
) -> Result<ClusterSeed, ClusterStartError> {
    settings.check()?;
    let port = Port::bind(resolve(&settings.bind)?)?;
    let address = advertised(settings, port.address())?;
    let plane = PlaneSettings {
        cluster: settings.name.clone(),
        node: NodeSettings {
            roles: settings.roles.clone(),
            data_cores: contribution.data_cores,
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
        core: CoreId(contribution.data_cores),
        cores: contribution.data_cores + 1,
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
    Ok(ClusterSeed {
        port,
        ledger: ledger.unwrap_or_else(|| LedgerSettings::for_consensus(&settings.expert.consensus)),
        plane,
        data: settings.data.clone(),
        guests: contribution.guests,
        status: Arc::new(Status::new(view, contribution.doorbell)),
    })
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
        Contribution::of(2, None)
    }

    #[test]
    fn the_real_port_is_advertised() {
        let mut settings = ClusterSettings::new(7, "127.0.0.1:0", "data");
        let seed = prepare(&settings, contribution()).unwrap();
        let bound = seed.port.address();
        assert_ne!(bound.port(), 0);
        assert_eq!(seed.plane.node.address, bound);
        assert_eq!(seed.status.view().advertised, bound);
        assert_eq!((seed.plane.core, seed.plane.cores), (CoreId(2), 3));
        drop(seed);
        settings.bind = "0.0.0.0:0".into();
        settings.advertised = Some("127.0.0.1:0".into());
        let seed = prepare(&settings, contribution()).unwrap();
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
