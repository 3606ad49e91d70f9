//! The coordination core: hosts the coordinator of shards and leads shutdown.

use super::core::Engine;
use super::parting::Partings;
use crate::actor::control::{Control, DrainAnswer, Request};
use crate::actor::local::Local;
use crate::actor::mutant::Mutant;
use crate::actor::pending::Completer;
use crate::base::ids::{CoreId, ShardKey};
use crate::base::time::Time;
use crate::sharding::coordinator::{Coordinator, Input, MoveRequest, Output};
use crate::sharding::move_error::MoveError;
use crate::sharding::node_steps::MoveReport;
use crate::sharding::topology::Topology;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long after the deadline of a shutdown the cores may take to come to a halt.
const HALT_PATIENCE: Duration = Duration::from_secs(1);

/// Pause between two rounds of questions while the cores drain.
const DRAIN_PAUSE: Duration = Duration::from_millis(1);

/// The coordinator and those who wait for its answers.
pub(crate) struct Coordination {
    coordinator: Coordinator,
    waiting: BTreeMap<u64, Completer<Result<(), MoveError>>>,
    next_token: u64,
    drain: Option<Drain>,
    /// Cores whose engines have panicked.
    pub(super) dead: BTreeSet<CoreId>,
    pub(super) partings: Partings,
    /// How moves between nodes have ended for this one, for the log to hear.
    ended: Vec<MoveReport>,
    /// Shards for which messages wait somewhere, because they had no owner.
    wanted: BTreeSet<ShardKey>,
}

/// Draining: rounds of questions, until twice in a row every core is idle and as much was received as sent. (Mattern's
/// four counters, 1987: one round alone could miss what is under way behind its back.) Then the last snapshots are awaited.
struct Drain {
    deadline: Time,
    round: u64,
    answers: BTreeMap<CoreId, DrainAnswer>,
    /// What had been sent and received when every core was idle last time.
    quiet_before: Option<(u64, u64)>,
    ask_again_at: Option<Time>,
    /// By the last round everything was quiet, and only the last snapshots are awaited.
    settling: bool,
    /// Everything was handled.
    drained: bool,
    /// All cores have been told to halt; whether they had drained before.
    halted: Option<bool>,
    done: Completer<bool>,
}

impl Coordination {
    pub(crate) fn new(coordinator: Coordinator) -> Coordination {
        Coordination {
            coordinator,
            waiting: BTreeMap::new(),
            next_token: 0,
            drain: None,
            dead: BTreeSet::new(),
            partings: Partings::default(),
            ended: Vec::new(),
            wanted: BTreeSet::new(),
        }
    }

    /// The newest topology.
    pub(super) fn topology(&self) -> &Topology {
        self.coordinator.topology()
    }

    /// Has the coordinator take an input.
    pub(super) fn tell(&mut self, input: Input, now: Time) {
        self.coordinator.handle(input, now);
        let topology = self.coordinator.topology();
        self.wanted
            .retain(|shard| (topology.owner(*shard)).is_some_and(|owner| owner.owner.is_none()));
    }

    /// Takes out how moves between nodes have ended for this one, as the cluster numbers types.
    pub(super) fn take_ended(&mut self) -> Vec<MoveReport> {
        let topology = self.coordinator.topology();
        let ended = std::mem::take(&mut self.ended).into_iter();
        let in_cluster = |report: MoveReport| {
            let entity_type = topology.number_in_cluster(report.shard.entity_type)?;
            let shard = ShardKey {
                entity_type,
                ..report.shard
            };
            Some(MoveReport { shard, ..report })
        };
        ended.filter_map(in_cluster).collect()
    }

    /// The shards that are wanted and have no owner, as the cluster numbers their types.
    pub(super) fn wanted(&self) -> impl Iterator<Item = ShardKey> {
        let topology = self.coordinator.topology();
        self.wanted.iter().filter_map(|shard| {
            let entity_type = topology.number_in_cluster(shard.entity_type)?;
            let unowned = topology.owner(*shard)?.owner.is_none();
            unowned.then_some(ShardKey {
                entity_type,
                shard: shard.shard,
            })
        })
    }

    /// A core is gone: nobody waits for it any more.
    pub(super) fn lost(&mut self, now: Time, core: CoreId) {
        if self.dead.insert(core) {
            self.coordinator.handle(Input::CoreStopped(core), now);
        }
    }

    pub(super) fn next_deadline(&self, now: Time) -> Option<Time> {
        let drain = self.drain.as_ref().map(|drain| match drain.halted {
            Some(_) => drain.deadline + HALT_PATIENCE,
            None => drain
                .ask_again_at
                .unwrap_or(drain.deadline)
                .min(drain.deadline),
        });
        [self.coordinator.next_deadline(), drain]
            .into_iter()
            .flatten()
            .min()
            .map(|due| due.max(now))
    }

    pub(super) fn handle(&mut self, now: Time, message: Control) {
        match message {
            Control::Installed { id, epoch } => {
                self.coordinator.handle(Input::Installed { id, epoch }, now)
            }
            Control::Refused { id, why } => {
                self.coordinator.handle(Input::Refused { id, why }, now)
            }
            Control::Lost { id } => self.coordinator.handle(Input::Lost { id }, now),
            Control::Load(load) => self.coordinator.handle(Input::LoadReport(load), now),
            Control::Wanted(shards) => self.wanted.extend(shards),
            Control::MoveEnded(report) => self.ended.push(report),
            Control::Parted { core, life } => self.partings.parted(core, life),
            Control::DrainAnswer(answer) => {
                if let Some(drain) = self
                    .drain
                    .as_mut()
                    .filter(|drain| drain.round == answer.round)
                {
                    drain.answers.insert(answer.core, answer);
                }
            }
            Control::Topology(_)
            | Control::Cargo(_)
            | Control::Life(_)
            | Control::Part { .. }
            | Control::Lease(_)
            | Control::Survive { .. }
            | Control::DrainQuery { .. }
            | Control::Halt { .. }
            | Control::Died
            | Control::Stop => {}
        }
    }

    fn request(&mut self, now: Time, request: Request) {
        match request {
            Request::Move { shard, to, done } => {
                let token = self.next_token;
                self.next_token += 1;
                self.waiting.insert(token, done);
                self.coordinator.handle(
                    Input::MoveRequested(MoveRequest {
                        shard,
                        to,
                        token: Some(token),
                    }),
                    now,
                );
            }
            Request::Shutdown { within, done } => {
                if self.drain.is_none() {
                    self.drain = Some(Drain {
                        deadline: now + within,
                        round: 0,
                        answers: BTreeMap::new(),
                        quiet_before: None,
                        ask_again_at: Some(now),
                        settling: false,
                        drained: false,
                        halted: None,
                        done,
                    });
                }
            }
        }
    }
}

impl Engine {
    /// The coordination core's part of a turn. Returns whether anything moved.
    pub(super) fn coordinate(&mut self, local: &mut Local) -> bool {
        let requests = std::mem::take(&mut local.requests);
        let Some(coordination) = &mut self.coordination else {
            // Only the coordination core is asked; requests that went astray end by being dropped.
            return !requests.is_empty();
        };
        let now = local.now;
        let mut moved = !requests.is_empty();
        for request in requests {
            coordination.request(now, request);
        }
        if coordination
            .coordinator
            .next_deadline()
            .is_some_and(|due| due <= now)
        {
            coordination.coordinator.handle(Input::Tick, now);
        }
        while let Some(output) = self
            .coordination
            .as_mut()
            .and_then(|it| it.coordinator.poll_output())
        {
            moved = true;
            match output {
                Output::Publish(topology) => {
                    for core in 0..local.port.cores() as u16 {
                        self.send_control(local, CoreId(core), Control::Topology(topology.clone()));
                    }
                }
                Output::Survive { id, survivor } => {
                    self.send_control(local, survivor, Control::Survive { id });
                }
                Output::Finished(finished) => {
                    let waiting = finished.to.zip(self.coordination.as_mut());
                    let done = waiting
                        .and_then(|(token, coordination)| coordination.waiting.remove(&token));
                    if let Some(done) = done {
                        done.complete(finished.result);
                    }
                }
            }
        }
        moved | self.drain(local)
    }

    fn drain(&mut self, local: &mut Local) -> bool {
        let cores = local.port.cores();
        let now = local.now;
        let Some(Coordination {
            drain: Some(drain),
            dead,
            ..
        }) = &mut self.coordination
        else {
            return false;
        };
        let all = (0..cores as u16)
            .map(CoreId)
            .all(|core| dead.contains(&core) || drain.answers.contains_key(&core));
        if let Some(drained) = drain.halted {
            // A core that does not even answer now is held by a handler; the others need not wait for it.
            return (all || now >= drain.deadline + HALT_PATIENCE) && self.stop_all(local, drained);
        }
        if all {
            let answers = std::mem::take(&mut drain.answers);
            let sent: u64 = answers.values().map(|answer| answer.sent).sum();
            let received: u64 = answers.values().map(|answer| answer.received).sum();
            // What a dead core had received is not known; without it, nothing must have moved between two rounds.
            let whole = dead.is_empty();
            let quiet = answers.values().all(|answer| answer.idle) && (sent == received || !whole);
            let was_quiet = quiet && drain.quiet_before == Some((sent, received));
            drain.settling = was_quiet;
            drain.drained |= was_quiet && whole;
            if was_quiet && answers.values().all(|answer| answer.settled) {
                return self.end_drain(local, whole);
            }
            drain.quiet_before = quiet.then_some((sent, received));
            drain.ask_again_at = Some(now + DRAIN_PAUSE);
        }
        if now >= drain.deadline {
            let drained = drain.drained && dead.is_empty();
            return self.end_drain(local, drained);
        }
        if drain.ask_again_at.is_some_and(|due| due <= now) {
            drain.ask_again_at = None;
            drain.round += 1;
            let (round, settle) = (drain.round, drain.settling);
            for core in 0..cores as u16 {
                self.send_control(local, CoreId(core), Control::DrainQuery { round, settle });
            }
            return true;
        }
        false
    }

    /// First everybody comes to a halt, then everybody stops: so nothing is sent to a core that has stopped.
    fn end_drain(&mut self, local: &mut Local, drained: bool) -> bool {
        if let Some(drain) = self
            .coordination
            .as_mut()
            .and_then(|coordination| coordination.drain.as_mut())
        {
            drain.halted = Some(drained);
            drain.round += 1;
            let round = drain.round;
            drain.answers.clear();
            for core in 0..local.port.cores() as u16 {
                self.send_control(local, CoreId(core), Control::Halt { round });
            }
        }
        true
    }

    fn stop_all(&mut self, local: &mut Local, drained: bool) -> bool {
        assert!(
            local.mutant != Some(Mutant::PanicsBeforeStop),
            "a planted panic of the engine"
        );
        for core in 0..local.port.cores() as u16 {
            self.send_control(local, CoreId(core), Control::Stop);
        }
        if let Some(drain) = self
            .coordination
            .as_mut()
            .and_then(|coordination| coordination.drain.take())
        {
            drain.done.complete(drained);
        }
        true
    }
}
