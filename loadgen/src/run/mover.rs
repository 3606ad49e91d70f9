//! Shards on the move: a thread that moves one shard after the other to another core while a replay runs, to show that
//! nothing is lost and nothing is counted twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use corecast::base::rng::seeded;
use corecast::{CoreId, Handle, Message, Region, ShardId, ShardKey};
use rand::Rng as _;

use super::error::RunError;
use super::stage::PATIENCE;

/// The shards of an entity type that does not say otherwise.
const SHARDS: u64 = corecast::actor::entity::DEFAULT_SHARDS as u64;

/// The thread that moves shards.
#[derive(Debug)]
pub(super) struct Mover {
    thread: Option<JoinHandle<u64>>,
    ended: Arc<AtomicBool>,
}

impl Mover {
    /// Starts moving so many shards a second at most; none with one core only.
    pub(super) fn start<M: Message>(
        handle: &Handle,
        region: Region<String, M>,
        moves_per_second: u32,
    ) -> Result<Mover, RunError> {
        let ended = Arc::new(AtomicBool::new(false));
        if moves_per_second == 0 || handle.cores() < 2 {
            return Ok(Mover {
                thread: None,
                ended,
            });
        }
        let (handle, told) = (handle.clone(), ended.clone());
        let pause = Duration::from_secs(1) / moves_per_second;
        let entity_type = region.type_id();
        let thread = std::thread::Builder::new()
            .name("mover".to_owned())
            .spawn(move || {
                let mut rng = seeded(0, 0);
                let mut moved = 0;
                while !told.load(Ordering::Relaxed) {
                    let shard = ShardKey {
                        entity_type,
                        shard: ShardId((rng.next_u64() % SHARDS) as u32),
                    };
                    moved += u64::from(move_away(&handle, shard));
                    std::thread::sleep(pause);
                }
                moved
            })
            .map_err(RunError::Thread)?;
        Ok(Mover {
            thread: Some(thread),
            ended,
        })
    }

    /// Stops, and returns how many shards have moved.
    pub(super) fn end(self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        self.thread
            .and_then(|thread| thread.join().ok())
            .unwrap_or(0)
    }
}

/// Moves a shard to the core behind its present one. The balancer moves shards as well, so it may be refused.
fn move_away(handle: &Handle, shard: ShardKey) -> bool {
    let Ok(Some(topology)) = handle.topology().wait_for(PATIENCE) else {
        return false;
    };
    let Some(placement) = topology.placement(shard) else {
        return false;
    };
    let target = CoreId((placement.owner.0 + 1) % handle.cores() as u16);
    matches!(
        handle.move_shard(shard, target).wait_for(PATIENCE),
        Ok(Ok(()))
    )
}
