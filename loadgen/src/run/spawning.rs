//! Many actors, one core after the other.

use std::collections::VecDeque;

use corecast::{Actor, ActorRef, CoreId, Handle, Mailbox};

use super::error::RunError;

/// Spawns under way at once.
const WINDOW: usize = 4096;

/// Spawns actors on all cores in turn: the first on the first core, its neighbour on the next.
pub(super) fn spawn_all<A: Actor>(
    handle: &Handle,
    actors: u32,
    mailbox: Mailbox,
    factory: impl Fn() -> A + Clone + Send + 'static,
) -> Result<Vec<ActorRef<A::Msg>>, RunError> {
    let cores = handle.cores() as u32;
    let mut spawned = Vec::with_capacity(actors as usize);
    let mut under_way = VecDeque::with_capacity(WINDOW);
    for number in 0..actors {
        if under_way.len() == WINDOW {
            spawned.extend(next(&mut under_way).transpose()?);
        }
        under_way.push_back(handle.spawn_with(
            CoreId((number % cores) as u16),
            mailbox,
            factory.clone(),
        ));
    }
    while let Some(actor) = next(&mut under_way) {
        spawned.push(actor?);
    }
    Ok(spawned)
}

type Spawn<M> = corecast::Pending<Result<ActorRef<M>, corecast::SpawnError>>;

fn next<M>(under_way: &mut VecDeque<Spawn<M>>) -> Option<Result<ActorRef<M>, RunError>> {
    under_way
        .pop_front()
        .map(|spawn| spawn.wait().map_err(RunError::from))
}
