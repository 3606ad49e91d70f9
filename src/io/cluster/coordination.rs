//! The loop of a coordination core that has a control plane: the turns of the engine and of the plane alternate.

use super::boot_clock::boot_time;
use super::driver::ClusterDriver;
use super::lateness::Lateness;
use super::readiness::until;
use crate::engine::core::Engine;
use crate::mesh::doorbell::Doorbell;
use std::time::Duration;

/// Turns both until the engine has stopped, or there is no plane any more. Returns whether the engine has stopped.
pub(crate) async fn drive(
    engine: &mut Engine,
    cluster: &mut ClusterDriver,
    doorbell: &Doorbell,
) -> bool {
    let executor = glommio::executor();
    let mut lateness = Lateness::new(boot_time());
    loop {
        let turn = engine.turn(None);
        if turn.stopped {
            return true;
        }
        let late = lateness.begin(boot_time());
        let more = cluster.turn(Some(engine), late);
        if cluster.is_over() {
            return false;
        }
        if executor.need_preempt() || (more && cluster.needs_executor()) {
            executor.yield_now().await;
        }
        if turn.moved || more || engine.has_work() {
            continue;
        }
        let now = boot_time();
        let mine = until(cluster.deadline(), now);
        let others = turn.next_wake.map(|due| due - engine.now());
        let limit: Option<Duration> = [mine, others].into_iter().flatten().min();
        lateness.sleeps_until(limit.map(|limit| now + limit));
        let engine = &*engine;
        cluster.sleep(doorbell, || engine.has_work(), limit).await;
    }
}
