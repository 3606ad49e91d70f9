//! The balancer: all shards start on one core, once without the balancer and once with it.
//!
//! Handlers compute for a fixed time, so that the core of the hot shards is the bottleneck. On every core there is a
//! driver that sends to all of them, in a closed loop: the drivers load the cores alike, and in both phases. The phase
//! before runs in a runtime of its own without a balancer, as with one the shards would be on their way within seconds.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use corecast::base::rng::seeded;
use corecast::sharding::settings::BalancerSettings;
use corecast::{Allocation, CoreId, EntityType, Mailbox, Region, Runtime, ShardKey};

use super::effort::Effort;
use super::entity::{MAILBOX, ToEntity};
use super::error::RunError;
use super::generator::Source;
use super::interrupt::Interrupt;
use super::lineup::{Act, Lineup, Performed, seats};
use super::payload::Inline;
use super::session::{Results, complain};
use super::shard_watch::ShardWatch;
use super::stage::{PATIENCE, Stage};
use super::worker::Worker;
use crate::arrivals::PhasePace;
use crate::keys::Keys;
use crate::measure::PhaseLabel;
use crate::options::{Balancing, Drivers, Job, PhaseSpec};
use crate::report::{BalanceReport, ShardMove, TWICE_WITHIN};

/// Keys drawn to learn the share of the hottest shard; its error is below 0.2 %.
const DRAWS: u64 = 100_000;
/// Their stream of random numbers.
const STREAM: u64 = 0xBA1A_0000;

type NoPayload = Inline<0>;
type Workers = Region<u64, ToEntity<NoPayload>>;

/// Measures what the balancer makes of a hot core.
pub(super) fn run(
    work: &Balancing,
    job: &Job,
    interrupt: Interrupt,
    results: &mut Results,
) -> Result<(), RunError> {
    let effort = Effort::taking(work.work);
    let mut before = Scene::start(work, job, effort, None, interrupt.clone(), results)?;
    if before.stage.cores() < 2 {
        before.stage.close();
        complain(
            &"loadgen: skipped: with one core there is nothing to balance; give the runtime two or more\n",
        );
        return Ok(());
    }
    let mut report = BalanceReport {
        cores: before.stage.cores() as u16,
        hot_core: work.hot_core,
        hottest_share: before.hottest_share(work, job.seed),
        min_gain: work.min_gain,
        settle_s: work.spread().warm_up.as_secs_f64(),
        ..BalanceReport::default()
    };
    let hot = before.perform(work, work.hot(), || Ok(()))?;
    before.stage.close();
    results.is_interrupted = hot.is_interrupted;
    let rate_before = keep(results, work.hot(), hot);
    if results.is_interrupted {
        return Ok(());
    }

    let balancer = Some(BalancerSettings::default());
    let mut after = Scene::start(work, job, effort, balancer, interrupt, results)?;
    let (handle, clock) = (after.stage.handle.clone(), after.stage.clock);
    let mut watch = ShardWatch::default();
    let begin = clock.now();
    let look = || {
        let core = handle.coordination_core();
        let topology = handle.topology().wait_for(PATIENCE);
        let topology = topology.ok().flatten().ok_or(RunError::CoreGone(core))?;
        watch.look(clock.now(), &topology);
        Ok(())
    };
    let spread = after.perform(work, work.spread(), look)?;
    after.stage.close();
    results.is_interrupted = spread.is_interrupted;
    let is_measured = !spread.is_interrupted;
    report.watched_s = spread.elapsed.as_secs_f64();
    report.shards = watch.shards() as u64;
    report.moved_twice = watch.moved_twice(TWICE_WITHIN) as u64;
    report.moves = watch
        .moves()
        .iter()
        .map(|moved| ShardMove {
            at_s: (moved.at - begin).as_secs_f64(),
            shard: moved.shard.shard.0,
            to_core: moved.to.0,
        })
        .collect();
    let rate_after = keep(results, work.spread(), spread);
    // A run that was broken off has no throughput behind the time to settle.
    report.gain = (is_measured && rate_before > 0.0).then(|| rate_after / rate_before);
    results.report.balance = Some(report);
    Ok(())
}

/// A runtime with all shards on one core, and drivers on every core.
struct Scene {
    stage: Stage,
    lineup: Lineup<NoPayload, Workers>,
}

impl Scene {
    fn start(
        work: &Balancing,
        job: &Job,
        effort: Effort,
        balancer: Option<BalancerSettings>,
        interrupt: Interrupt,
        results: &mut Results,
    ) -> Result<Scene, RunError> {
        let mut builder = Runtime::builder()
            .allocation(Allocation::AllOn(CoreId(work.hot_core)))
            .balancer(balancer);
        let workers = builder.entities(
            EntityType::send("worker", move |_: &u64| Worker::<NoPayload>::new(effort))
                .mailbox(Mailbox::bounded(MAILBOX)),
        );
        let stage = results.start(builder, job, interrupt)?;
        let lineup = Lineup {
            targets: workers,
            seats: seats(Drivers::Cores, &stage),
            payload_bytes: 0,
            seed: job.seed,
            payload: PhantomData,
        };
        Ok(Scene { stage, lineup })
    }

    /// The share of all messages that go to the shard with the most of them.
    fn hottest_share(&self, work: &Balancing, seed: u64) -> f64 {
        let keys = Keys::new(work.keys, work.entities);
        let mut rng = seeded(seed, STREAM);
        let mut drawn: BTreeMap<ShardKey, u64> = BTreeMap::new();
        for _ in 0..DRAWS {
            let shard = self.lineup.targets.shard_of(&keys.draw(&mut rng));
            *drawn.entry(shard).or_default() += 1;
        }
        drawn.into_values().max().unwrap_or(0) as f64 / DRAWS as f64
    }

    fn perform(
        &mut self,
        work: &Balancing,
        spec: PhaseSpec,
        look: impl FnMut() -> Result<(), RunError>,
    ) -> Result<Performed, RunError> {
        let keys = Keys::new(work.keys, work.entities);
        let act = Act {
            name: spec.name,
            source: |_: usize| Source::Drawn(keys),
            ask_percent: 0,
            pace: PhasePace::Closed {
                in_flight: work.in_flight.into(),
            },
            warm_up: spec.warm_up,
            duration: spec.duration,
            is_finite: false,
        };
        self.lineup.perform_watched(&mut self.stage, &act, look)
    }
}

/// Keeps the phase and returns its throughput.
fn keep(results: &mut Results, spec: PhaseSpec, performed: Performed) -> f64 {
    let label = PhaseLabel {
        name: spec.name.to_owned(),
        pacing: spec.pacing.to_string(),
        offered_rate: None,
    };
    let rate = performed.recorder.summary(label.clone()).rate;
    results.add(label, performed.recorder);
    rate
}
