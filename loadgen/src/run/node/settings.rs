//! What a node runs with: the job's flags, and what is its own.

use std::time::Duration;

use corecast::node::cluster::expert::Profile;
use corecast::node::cluster::seed_address::SeedAddress;
use corecast::node::settings::{CoreSelection, Settings};
use corecast::{ClusterSettings, PinningArgs};

use crate::cluster::protocol::Setup;
use crate::run::stage::settings_of;

/// The runtime's settings.
pub(super) fn runtime(setup: &Setup, pinning: &PinningArgs) -> Settings {
    let mut settings = settings_of(pinning);
    settings.cores = CoreSelection::List(setup.cpus.clone());
    settings.coordination = setup.coordination;
    if settings.spin.is_none() {
        settings.spin = match setup.spin_ns {
            Some(spin) => Some(Duration::from_nanos(spin)),
            // A core that polls takes the CPU from the node that it waits for.
            None => setup.shares_cpus.then_some(Duration::ZERO),
        };
    }
    settings
}

/// Its part in the cluster.
///
/// # Errors
/// When the other nodes' addresses are none.
pub(super) fn cluster(setup: &Setup, profile: Profile) -> Result<ClusterSettings, String> {
    let settings = ClusterSettings::new(setup.node, &setup.bind, &setup.data).profile(profile);
    let seeds = setup.seeds.iter().map(|seed| {
        let seed = seed.parse::<SeedAddress>();
        seed.map_err(|error| error.to_string())
    });
    Ok(ClusterSettings {
        name: "loadgen".to_owned(),
        seeds: seeds.collect::<Result<_, _>>()?,
        // It says itself how far it is.
        required_quorum: 0,
        ..settings
    })
}
