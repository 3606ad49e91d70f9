//! What a node has of the job: its entity types, and what it knows of who owns their shards.

use std::sync::Arc;
use std::time::Duration;

use corecast::{EntityType, EntityTypeId, Handle, Mailbox, Region, RuntimeBuilder};

use super::entity::{MemberEntity, ToMember};
use super::measuring::{Answerer, Sink, WireRegions};
use super::members::thread;
use super::owners::Owners;
use super::tallies::{ClusterTally, ToClusterTally};
use crate::cluster::protocol::Setup;
use crate::options::{Job, Load, Replay, Work};
use crate::replay::Columns;
use crate::run::entity::MAILBOX;
use crate::run::error::RunError;
use crate::run::stage::PATIENCE;

/// How often the coordination core is asked where shards are.
const LOOK_AT_OWNERS: Duration = Duration::from_millis(50);

/// What a node has of the job.
pub(super) enum Part {
    Load(Load, Region<u64, ToMember>, Arc<Owners>),
    Replay(Replay, Region<String, ToClusterTally>),
    Wire(WireRegions),
}

/// That, and who owns the shards of each entity type.
pub(super) type Registered = (Part, Vec<(EntityTypeId, Arc<Owners>)>);

/// Registers the entity types of the job.
pub(super) fn register(
    builder: &mut RuntimeBuilder,
    setup: &Setup,
    job: &Job,
) -> Result<Registered, RunError> {
    let shards = corecast::actor::entity::DEFAULT_SHARDS;
    let given = job.common.pinning.mailbox;
    let capacity = given.map_or(MAILBOX, |given| u32::try_from(given).unwrap_or(u32::MAX));
    let mailbox = Mailbox::bounded(capacity);
    match &job.work {
        Work::Load(load) => {
            let region = builder.entities(
                EntityType::captured("loadgen.entity", |_: &u64| MemberEntity::default())
                    .mailbox(mailbox)
                    .clustered(),
            );
            let owners = Arc::new(Owners::new(setup.node, shards, |key| region.shard_of(&key)));
            let of_type = vec![(region.type_id(), owners.clone())];
            Ok((Part::Load(load.clone(), region, owners), of_type))
        }
        Work::Replay(replay) => {
            let sums = replay.sums.len();
            let make = move |_: &String| ClusterTally::new(sums);
            let region = builder.entities(
                EntityType::captured("loadgen.tally", make)
                    .mailbox(mailbox)
                    .clustered(),
            );
            let shard_of = |key: u64| region.shard_of(&key.to_string());
            let owners = Arc::new(Owners::new(setup.node, shards, shard_of));
            let of_type = vec![(region.type_id(), owners)];
            Ok((Part::Replay(replay.clone(), region), of_type))
        }
        Work::Wire(_) => {
            let small = builder.entities(
                EntityType::ephemeral("loadgen.small", |_: &u64| Sink::<64>)
                    .mailbox(mailbox)
                    .clustered(),
            );
            let large = builder.entities(
                EntityType::ephemeral("loadgen.large", |_: &u64| Sink::<1024>)
                    .mailbox(mailbox)
                    .clustered(),
            );
            let echo = builder
                .entities(EntityType::ephemeral("loadgen.echo", |_: &u64| Answerer).clustered());
            let me = setup.node;
            let of_small = Arc::new(Owners::new(me, shards, |key| small.shard_of(&key)));
            let of_large = Arc::new(Owners::new(me, shards, |key| large.shard_of(&key)));
            let of_echo = Arc::new(Owners::new(me, shards, |key| echo.shard_of(&key)));
            let owners = vec![
                (small.type_id(), of_small.clone()),
                (large.type_id(), of_large.clone()),
                (echo.type_id(), of_echo.clone()),
            ];
            let regions = WireRegions {
                small: (small, of_small),
                large: (large, of_large),
                echo: (echo, of_echo),
            };
            Ok((Part::Wire(regions), owners))
        }
        _ => Err(RunError::Node(
            "this scenario is for one runtime".to_owned(),
        )),
    }
}

/// What is read of a file.
pub(super) fn columns(replay: &Replay) -> Columns {
    Columns {
        key: replay.key.clone(),
        sums: replay.sums.clone(),
    }
}

/// Keeps what is known of the owners up to date, from a thread of its own.
pub(super) fn watch_owners(
    handle: Handle,
    types: Vec<(EntityTypeId, Arc<Owners>)>,
) -> Result<(), RunError> {
    thread("owners", move || {
        loop {
            // It answers nothing more when the runtime has ended.
            match handle.topology().wait_for(PATIENCE) {
                Ok(Some(topology)) => types
                    .iter()
                    .for_each(|(id, owners)| owners.update(&topology, *id)),
                Ok(None) => return,
                Err(_) => {}
            }
            std::thread::sleep(LOOK_AT_OWNERS);
        }
    })
}
