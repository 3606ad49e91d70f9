//! The replay: every row of a file to the entity named by its key, shards on the move meanwhile, and the exact check.
//!
//! A thread reads the file and hands portions of rows to one feeder on each core; a feeder sends them on and answers when
//! all of a portion has been accepted, so a bounded number of rows is in memory. Feeders send only what is still
//! unsettled up to a bound that every queue has room for, so that nothing is refused; what is refused all the same is
//! sent again. In the end every entity is asked for what it holds.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use corecast::{ActorRef, AskError, EntityType, Handle, Mailbox, Pending, Region, Runtime, Time};

use super::board::Order;
use super::error::RunError;
use super::feeder::{Feeder, ToFeeder};
use super::interrupt::Interrupt;
use super::ledger::DriverId;
use super::mover::Mover;
use super::session::Results;
use super::stage::{LOOK, Meter, PATIENCE, Phase, PhaseSetup, Show, Stage};
use super::tally_entity::{TallyEntity, ToTally};
use crate::measure::{PhaseLabel, Recorder, Window};
use crate::options::{Job, Replay, Setting};
use crate::replay::{Check, Columns, Line, MalformedLog, Oracle, Row, Rows, Source, Tally};
use crate::units::grouped;

/// Rows handed to a feeder at once.
const PORTION: usize = 1024;
/// Portions that a feeder has at most.
const PORTIONS: usize = 4;
/// Entities asked for their tally at the same time.
const ASKS: usize = 1024;
/// Messages that an entity's mailbox holds: all that may be in flight.
const MAILBOX: u32 = 1_000_000;

/// Replays a file.
pub(super) fn run(
    work: &Replay,
    job: &Job,
    interrupt: Interrupt,
    results: &mut Results,
) -> Result<(), RunError> {
    let source = Source::new(work.input.clone());
    let columns = Columns {
        key: work.key.clone(),
        sums: work.sums.clone(),
    };
    // The independent pass comes first: an input that cannot be read is known before anything starts.
    let oracle = Oracle::read(&source, &columns)?;
    let rows = Rows::open(&source, &columns)?;

    let sums = columns.sums.len();
    let mut builder = Runtime::builder();
    let region: Region<String, ToTally> = builder.entities(
        EntityType::captured("tally", move |_: &String| TallyEntity::new(sums))
            .mailbox(Mailbox::bounded(MAILBOX)),
    );
    let mut stage = results.start(builder, job, interrupt)?;

    let mover = Mover::start(&stage.handle, region, work.moves_per_second)?;
    let mut feeding = Feeding::begin(&mut stage, region, work)?;
    let fed = feeding.feed(&mut stage, rows)?;
    let (recorder, is_interrupted) = feeding.end(&mut stage)?;
    results.add(
        PhaseLabel {
            name: "replay".into(),
            pacing: "as fast as it goes".into(),
            offered_rate: None,
        },
        recorder,
    );
    results.is_interrupted = is_interrupted;
    let check = (!is_interrupted).then(|| {
        check(
            &stage.handle,
            region,
            fed.keys,
            Check::new(oracle, &columns, work.show),
        )
    });
    let moves = mover.end();
    let note = format!("{} shards moved between cores meanwhile", grouped(moves));
    results.report.settings.push(Setting::new("moves", note));
    stage.close();

    if let Some(check) = check.transpose()? {
        let checked = check.finish(&fed.malformed);
        super::session::complain(&fed.malformed);
        super::session::complain(&checked);
        results.report.replay = Some(checked.report);
    }
    Ok(())
}

/// Rows on their way from the file to the feeders.
struct Feeding {
    phase: Phase,
    feeders: Vec<Seat>,
    next: usize,
    handed: u64,
    lose: u64,
    show: usize,
    /// Settled rows over time, for the throughput.
    samples: Vec<(Time, u64)>,
    interrupted: bool,
}

/// A feeder with the portions it has yet to acknowledge.
struct Seat {
    feeder: ActorRef<ToFeeder>,
    open: VecDeque<Pending<Result<(), AskError>>>,
}

/// What came out of the file.
#[derive(Debug, Default)]
struct Fed {
    keys: BTreeSet<String>,
    malformed: MalformedLog,
}

impl Feeding {
    fn begin(
        stage: &mut Stage,
        region: Region<String, ToTally>,
        work: &Replay,
    ) -> Result<Feeding, RunError> {
        let cores = stage.cores();
        let setup = PhaseSetup {
            drivers: cores,
            threads: 0,
            lead: Duration::ZERO,
            warm_up: Duration::ZERO,
            // It ends when it ends.
            duration: Duration::from_secs(3600),
        };
        let phase = stage.begin(setup)?;
        // All that is in flight may be meant for one core.
        let in_flight = (stage.settings.budget_messages / 2 / cores).clamp(1, 16_384) as u64;
        let mut feeders = Vec::new();
        for core in stage.handle.core_ids() {
            let (id, phase_id, board) = (DriverId(core.0), phase.id, phase.board.clone());
            let spawned = stage
                .handle
                .spawn_with(core, Mailbox::unbounded(), move || {
                    Feeder::new(region, id, phase_id, board, in_flight)
                });
            feeders.push(Seat {
                feeder: spawned.wait()?,
                open: VecDeque::new(),
            });
        }
        Ok(Feeding {
            phase,
            feeders,
            next: 0,
            handed: 0,
            lose: work.lose,
            show: work.show,
            samples: Vec::new(),
            interrupted: false,
        })
    }

    /// Hands all rows to the feeders.
    fn feed(&mut self, stage: &mut Stage, rows: Rows) -> Result<Fed, RunError> {
        let mut fed = Fed {
            malformed: MalformedLog::new(self.show),
            ..Fed::default()
        };
        let mut meter = Meter::new(self.phase.begin);
        let mut portion = Vec::with_capacity(PORTION);
        for line in rows {
            match line? {
                Line::Malformed(malformed) => fed.malformed.push(malformed),
                Line::Row(row) => {
                    if !fed.keys.contains(&row.key) {
                        fed.keys.insert(row.key.clone());
                    }
                    if self.lose > 0 {
                        self.lose -= 1;
                        continue;
                    }
                    portion.push(row);
                }
            }
            if portion.len() == PORTION {
                self.hand_over(
                    stage,
                    std::mem::replace(&mut portion, Vec::with_capacity(PORTION)),
                )?;
                self.look(stage, &mut meter);
                if stage.interrupt.is_told() {
                    self.interrupted = true;
                    return Ok(fed);
                }
            }
        }
        self.hand_over(stage, portion)?;
        Ok(fed)
    }

    /// Gives a portion to the next feeder, once that has room for it.
    fn hand_over(&mut self, stage: &Stage, rows: Vec<Row>) -> Result<(), RunError> {
        let at = self.next;
        self.next = (at + 1) % self.feeders.len();
        let seat = &mut self.feeders[at];
        while seat.open.len() >= PORTIONS {
            seat.settle_oldest()?;
        }
        self.handed += rows.len() as u64;
        // It answers when all is accepted, which takes as long as it takes.
        let within = Duration::from_secs(3600);
        let taken = stage
            .handle
            .ask_within(within, seat.feeder, |reply_to| ToFeeder::Portion {
                rows,
                reply_to,
            });
        seat.open.push_back(taken);
        Ok(())
    }

    /// Waits until every row is settled, and closes the books.
    fn end(mut self, stage: &mut Stage) -> Result<(Recorder, bool), RunError> {
        for seat in &mut self.feeders {
            while !seat.open.is_empty() {
                seat.settle_oldest()?;
            }
        }
        let mut meter = Meter::new(self.phase.begin);
        let (mut settled, mut since) = (self.settled(), stage.clock.now());
        while settled < self.handed {
            std::thread::sleep(LOOK / 50);
            let now = self.look(stage, &mut meter);
            if self.settled() > settled {
                (settled, since) = (self.settled(), now);
            }
            if now - since > PATIENCE {
                self.phase.board.give(Order::Abandon);
                return Err(RunError::Stuck(self.handed - settled));
            }
        }
        let end = stage.clock.now();
        self.samples.push((end, settled));
        let books = stage.end(&self.phase, Some(end))?;
        Ok((self.recorder(end, books.failures()), self.interrupted))
    }

    /// Shows progress and takes a sample.
    fn look(&mut self, stage: &mut Stage, meter: &mut Meter) -> Time {
        let now = stage.clock.now();
        if self
            .samples
            .last()
            .is_none_or(|(last, _)| now - *last >= LOOK)
        {
            self.samples.push((now, self.settled()));
            stage.show(
                &self.phase,
                Show {
                    name: "replay",
                    total: None,
                },
                meter,
                now,
            );
        }
        now
    }

    fn settled(&self) -> u64 {
        (0..self.feeders.len())
            .map(|driver| self.phase.board.settled(driver))
            .sum()
    }

    /// The books of a replay begin when it does and end when it does, which was not known when they were opened.
    fn recorder(&self, end: Time, failures: u64) -> Recorder {
        // The sample of the end belongs to the window.
        let window = Window {
            start: self.phase.begin,
            end: end + Duration::from_nanos(1),
        };
        let mut recorder = Recorder::new(window);
        recorder.sent_closed(window.start, self.handed);
        let mut before = 0;
        for (at, settled) in &self.samples {
            recorder.completed_untimed((*at).max(window.start), settled - before);
            before = *settled;
        }
        recorder.failed(failures);
        recorder
    }
}

impl Seat {
    fn settle_oldest(&mut self) -> Result<(), RunError> {
        let Some(oldest) = self.open.pop_front() else {
            return Ok(());
        };
        oldest.wait().map_err(|why| RunError::Lost {
            what: "a portion of rows".to_owned(),
            why,
        })
    }
}

/// Asks every entity that was sent a row what it holds.
fn check(
    handle: &Handle,
    region: Region<String, ToTally>,
    keys: BTreeSet<String>,
    mut check: Check,
) -> Result<Check, RunError> {
    let mut open: VecDeque<(String, Pending<Result<Tally, AskError>>)> =
        VecDeque::with_capacity(ASKS);
    let mut take = |(key, answer): (String, Pending<Result<Tally, AskError>>)| {
        let tally = answer.wait().map_err(|why| RunError::Lost {
            what: format!("the answer of entity '{key}'"),
            why,
        })?;
        check.entity(&key, &tally);
        Ok::<(), RunError>(())
    };
    for key in keys {
        if open.len() == ASKS
            && let Some(oldest) = open.pop_front()
        {
            take(oldest)?;
        }
        let answer = handle.ask(region.entity(&key), ToTally::Report);
        open.push_back((key, answer));
    }
    open.into_iter().try_for_each(take)?;
    Ok(check)
}
