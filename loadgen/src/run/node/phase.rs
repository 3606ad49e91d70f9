//! A phase on one node: books and a driver on every core, and the figures in the end.
//!
//! The books of a process that was started again are open before it drives: it is sent to as soon as it owns shards.
//! Drivers end when they know what became of everything they sent. The books stay open until the order to close them, for
//! other nodes may still send.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use corecast::base::rng::seeded;
use corecast::{CoreId, Mailbox, Region, Rejection, Stats, Time};

use super::driver::{
    DriverEnd, DriverTally, Locality, MemberDriver, MemberPost, ToMemberDriver, add_up, error_count,
};
use super::entity::ToMember;
use super::handled::Handled;
use super::owners::Owners;
use super::probes::Probes;
use crate::cluster::protocol::{DEAD_LETTER, ErrorCount, PhaseNews, PhaseOrder, Setup};
use crate::keys::Keys;
use crate::measure::{Recorder, Window};
use crate::options::Load;
use crate::report::NEVER_ENDED;
use crate::run::board::{Board, Order};
use crate::run::error::RunError;
use crate::run::generator::{Generator, Part, Source};
use crate::run::ledger::{Ledger, PhaseId};
use crate::run::stage::{PATIENCE, Stage};

/// How long drivers that are to wait for nothing more may take to say so.
const ENDED_WITHIN: Duration = Duration::from_secs(2);
/// The streams of random numbers of the first driver; each next one has the next.
const STREAM: u64 = 0xC1D2_0000;
const LOCALITY_STREAM: u64 = 0xC1D3_0000;

/// What phases of a load need of their node.
pub(super) struct Scene<'a> {
    pub(super) setup: &'a Setup,
    pub(super) load: &'a Load,
    pub(super) seed: u64,
    pub(super) local_ratio: Option<f64>,
    pub(super) region: Region<u64, ToMember>,
    pub(super) handled: &'a Arc<Handled>,
    pub(super) owners: &'a Arc<Owners>,
    pub(super) probes: &'a Probes,
}

/// A phase under way.
pub(super) struct MemberPhase {
    number: u16,
    board: Arc<Board>,
    window: Window,
    /// Of the drivers, once there are some.
    finishes: Option<Receiver<DriverEnd>>,
    drivers: usize,
    is_given_up: bool,
    ends: Vec<DriverEnd>,
    /// What the cores had dropped before.
    dropped: Vec<(Rejection, u64)>,
    is_told: bool,
}

impl MemberPhase {
    /// Opens the books.
    pub(super) fn open(
        stage: &Stage,
        number: u16,
        window: Window,
    ) -> Result<MemberPhase, RunError> {
        let cores = stage.cores();
        let board = Arc::new(Board::new(cores, cores, 0));
        for core in stage.handle.core_ids() {
            let (id, clock) = (PhaseId(number), stage.clock);
            let ledger = Ledger::new(core.index(), id, clock, board.clone(), window);
            stage.on_core(core, move || ledger.open())?;
        }
        Ok(MemberPhase {
            number,
            board,
            window,
            finishes: None,
            drivers: 0,
            is_given_up: false,
            ends: Vec::new(),
            dropped: dead_letters(stage),
            is_told: false,
        })
    }

    /// Whether these are the books of this phase, and nobody drives yet.
    pub(super) fn is_opened_for(&self, order: &PhaseOrder) -> bool {
        (self.number, self.drivers) == (order.phase, 0)
    }

    /// Begins to send.
    pub(super) fn drive(
        &mut self,
        stage: &Stage,
        scene: &Scene<'_>,
        order: &PhaseOrder,
    ) -> Result<(), RunError> {
        let cores = stage.cores();
        let (finished, finishes) = sync_channel(cores);
        for core in stage.handle.core_ids() {
            let post = MemberPost {
                driver: core.index(),
                nodes: scene.setup.nodes,
                node: scene.setup.node,
                run: order.run,
                region: scene.region,
                board: self.board.clone(),
                clock: stage.clock,
                handled: scene.handled.clone(),
                owners: scene.owners.clone(),
                probes: scene.probes.clone(),
                payload_bytes: scene.load.traffic.payload_bytes,
                naps: scene.setup.shares_cpus,
                begin: Time::from_nanos(order.begin_ns),
                finished: finished.clone(),
            };
            seat(stage, core, post, scene, order)?;
        }
        (self.finishes, self.drivers) = (Some(finishes), cores);
        Ok(())
    }

    /// Whether all drivers have ended just now.
    pub(super) fn has_just_ended(&mut self, now: Time) -> bool {
        let Some(finishes) = &self.finishes else {
            return false;
        };
        self.ends.extend(finishes.try_iter());
        if now > self.window.end + PATIENCE {
            self.board.give(Order::Abandon);
        }
        self.is_given_up |= now > self.window.end + PATIENCE * 2;
        let has_ended = !self.is_running();
        has_ended && !std::mem::replace(&mut self.is_told, has_ended)
    }

    /// Whether any driver still runs.
    pub(super) fn is_running(&self) -> bool {
        self.ends.len() < self.drivers && !self.is_given_up
    }

    /// Sends nothing more.
    pub(super) fn cut(&self) {
        self.board.give(Order::Stop);
    }

    /// Waits for nothing more.
    pub(super) fn abandon(&self) {
        self.board.give(Order::Abandon);
    }

    pub(super) fn board(&self) -> &Board {
        &self.board
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// Closes the books and adds them up. What has not come to an end by now is named so, and is a failure.
    pub(super) fn close(mut self, stage: &Stage, probes: &Probes) -> Result<PhaseNews, RunError> {
        self.abandon();
        let until = Instant::now() + ENDED_WITHIN;
        // Without a driver that could still speak it does not wait.
        while self.ends.len() < self.drivers
            && let Some(finishes) = &self.finishes
            && let left = until.saturating_duration_since(Instant::now())
            && let Ok(end) = finishes.recv_timeout(left)
        {
            self.ends.push(end);
        }
        let mut recorder = Recorder::new(self.window);
        for core in stage.handle.core_ids() {
            if let Some(of_core) = stage.on_core(core, Ledger::close)? {
                recorder.merge(&of_core);
            }
        }
        let sum = |of: fn(&DriverEnd) -> u64| self.ends.iter().map(of).sum::<u64>();
        let (open, silent) = (sum(|end| end.open_asks), self.drivers - self.ends.len());
        recorder.failed(sum(|end| end.open_measured) + sum(|end| end.unaccounted));
        let never_ended = [
            error_count(NEVER_ENDED, &"asks without an answer or an error", open),
            error_count(
                NEVER_ENDED,
                &"drivers, and what they had sent",
                silent as u64,
            ),
        ];
        let never_ended = never_ended.into_iter().filter(|error| error.count > 0);
        let dropped = dead_letters(stage).into_iter().map(|(why, count)| {
            let before = self.dropped.iter().find(|(other, _)| *other == why);
            let before = before.map_or(0, |(_, count)| *count);
            error_count(DEAD_LETTER, &why, count.saturating_sub(before))
        });
        let dropped: Vec<ErrorCount> = dropped.filter(|error| error.count > 0).collect();
        let errors = self.ends.iter().flat_map(|end| end.errors.clone());
        Ok(PhaseNews {
            phase: self.number,
            errors: add_up(
                errors
                    .chain(dropped)
                    .chain(never_ended)
                    .chain(probes.take()),
            ),
            local: sum(|end| end.local),
            remote: sum(|end| end.remote),
            tells: sum(|end| end.tells),
            unaccounted: sum(|end| end.unaccounted),
            recorder,
        })
    }
}

fn seat(
    stage: &Stage,
    core: CoreId,
    post: MemberPost,
    scene: &Scene<'_>,
    order: &PhaseOrder,
) -> Result<(), RunError> {
    let (cores, load) = (stage.cores() as u32, scene.load);
    let keys = Keys::new(load.keys, load.entities);
    // Over all nodes: each has its part of the keys and of the rate, and random numbers of its own.
    let part = Part {
        number: (scene.setup.node - 1) * cores + u32::from(core.0),
        of: scene.setup.nodes * cores,
        begin: Time::from_nanos(order.begin_ns),
        budget: stage.settings.budget_messages,
        seed: scene.seed + u64::from(scene.setup.start - 1),
    };
    let source = match order.each {
        None => Source::Drawn(keys),
        Some((from, to)) => Source::share(from..to, part.number, part.of),
    };
    // A process that was started again does not send the same once more.
    let stream = u64::from(part.number) + (u64::from(order.run) << 32);
    let rng = seeded(scene.seed, STREAM + stream);
    let pace = part.pace(order.pace);
    let generator = Generator::new(source, rng, order.ask_percent, pace, order.window);
    let locality = scene.local_ratio.filter(|_| order.each.is_none());
    let locality = locality.map(|ratio| (ratio, seeded(scene.seed, LOCALITY_STREAM + stream)));
    let mut parts = Some((post, generator, locality));
    let spawned = stage
        .handle
        .spawn_with(core, Mailbox::unbounded(), move || {
            // A driver is made once: it is a root, and those stop when they fail.
            let (post, generator, locality) = parts.take().expect("it is made once");
            MemberDriver {
                post,
                generator,
                locality: locality.map(|(ratio, rng)| Locality { ratio, keys, rng }),
                tally: DriverTally::default(),
            }
        });
    let driver = spawned.wait()?;
    stage.handle.tell(driver, ToMemberDriver::Go);
    Ok(())
}

/// What the cores of this node have dropped so far, by reason.
fn dead_letters(stage: &Stage) -> Vec<(Rejection, u64)> {
    let stats = stage.handle.stats().wait_for(PATIENCE);
    let Stats {
        cores,
        dead_letters_outside,
        ..
    } = stats.unwrap_or_default();
    let inside = cores.into_iter().flat_map(|core| core.dead_letters);
    let mut sums = std::collections::BTreeMap::new();
    for (why, count) in inside.chain(dead_letters_outside) {
        *sums.entry(why).or_insert(0) += count;
    }
    sums.into_iter().collect()
}
