//! Event-sourced actors: what is acknowledged is in the journal, once, and every life begins with it, whatever the journal
//! does and wherever the shards are.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim event_sourcing`.

use corecast::base::rng::seeded;
use corecast::persistence::journal::Journal;
use corecast::sim::{
    Bounds, FaultyJournal, ReadFault, Simulation, SimulationBuilder, WriteFault, check_seeds,
};
use corecast::{
    AskError, CoreId, Directive, Effect, EntityType, EventSourced, Fault, InMemoryJournal, Payload,
    Pending, PersistenceId, Region, Rejection, ReplyTo, Sequence, Snapshots, Sourced,
    SourcedContext, Supervision, Uncertainty, WireMessage,
};
use rand::RngExt;
use rkyv::{Archive, Deserialize, Serialize};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

/// Keeps every part of every operation, in order.
struct Tally(Snapshots);

#[derive(Debug)]
enum Command {
    Do {
        op: u64,
        parts: u64,
        how: How,
        reply: ReplyTo<usize>,
    },
    Look(ReplyTo<Vec<(u64, u64)>>),
    Panic,
    Stop(ReplyTo<()>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    AtOnce,
    /// After something has been awaited.
    Later,
    /// And then it stops.
    Leaving,
    /// It fails before anything is stored.
    Failing,
}

#[derive(Clone, Copy, Debug, PartialEq, Archive, Serialize, Deserialize)]
struct Done {
    op: u64,
    part: u64,
}

impl WireMessage for Done {
    const NAME: &'static str = "test.Done";
    const VERSION: u16 = 2;
}

/// What was stored before there were parts.
#[derive(Debug, Archive, Serialize, Deserialize)]
struct DoneV1(u64);

impl WireMessage for DoneV1 {
    const NAME: &'static str = "test.Done";
    const VERSION: u16 = 1;
}

#[derive(Debug, Default, Archive, Serialize, Deserialize)]
struct State(Vec<(u64, u64)>);

impl WireMessage for State {
    const NAME: &'static str = "test.State";
    const VERSION: u16 = 1;
}

/// An operation that the state cannot take.
const POISON: u64 = 666;

impl EventSourced for Tally {
    type Command = Command;
    type Event = Done;
    type State = State;

    fn empty(&self) -> State {
        State::default()
    }

    fn on_command(
        &mut self,
        _: &State,
        command: Command,
        ctx: &mut SourcedContext<'_, Self>,
    ) -> Result<Effect<Self>, Fault> {
        let (op, parts, how, reply) = match command {
            Command::Do {
                op,
                parts,
                how,
                reply,
            } => (op, parts, how, reply),
            Command::Look(reply) => {
                return Ok(Effect::none().then_reply(reply, |state: &State| state.0.clone()));
            }
            Command::Panic => panic!("on purpose"),
            Command::Stop(reply) => {
                return Ok(Effect::none().then_reply(reply, |_| ()).then_stop());
            }
        };
        let done = move || {
            let events = (0..parts).map(move |part| Done { op, part });
            Effect::persist_all(events).then_reply(reply, |state: &State| state.0.len())
        };
        match how {
            How::AtOnce => Ok(done()),
            How::Later => {
                let nap = ctx.sleep(Duration::from_millis(op % 3));
                Ok(Effect::after(nap, move |_, _, (), _| Ok(done())))
            }
            How::Leaving => Ok(done().then_stop()),
            How::Failing => Err(Fault::new("on purpose")),
        }
    }

    fn on_event(mut state: State, event: &Done) -> State {
        assert!(event.op != POISON, "on purpose");
        state.0.push((event.op, event.part));
        state
    }

    fn upgrade(old: &Payload) -> Result<Option<Done>, Fault> {
        let old = old.read::<DoneV1>()?;
        Ok(old.map(|DoneV1(op)| Done { op, part: 0 }))
    }

    fn snapshots(&self) -> Snapshots {
        self.0
    }
}

type Tallies = Region<u64, Command>;

/// Entities that recover after a move, and entities that move as they are.
fn regions<J: Journal>(
    builder: &mut SimulationBuilder,
    journal: &J,
    snapshots: Snapshots,
    tune: impl Fn(EntityType<Sourced<Tally>, u64>) -> EntityType<Sourced<Tally>, u64>,
) -> [Tallies; 2] {
    let stops =
        EntityType::event_sourced("stops", journal.clone(), move |_: &u64| Tally(snapshots));
    let keeper = journal.clone();
    let moves = EntityType::send("moves", move |id: &u64| {
        let id = PersistenceId::of_entity("moves", id);
        Sourced::new(id, keeper.clone(), Tally(snapshots))
    });
    [stops, moves].map(|entity| builder.entities(tune(entity)))
}

const KINDS: [&str; 2] = ["stops", "moves"];

/// What lies in the journal, read by nobody else's rules.
fn logged(journal: &InMemoryJournal, id: &PersistenceId) -> Vec<(u64, u64)> {
    let records = journal.records(id);
    let numbered = records.iter().zip(1..);
    numbered
        .map(|(record, number)| {
            assert_eq!(record.sequence, Sequence(number), "{id}");
            assert!(record.is_intact(id), "{id}: {number}");
            let done: Done = record.payload.read().unwrap().unwrap();
            (done.op, done.part)
        })
        .collect()
}

struct Call {
    kind: usize,
    id: u64,
    parts: u64,
    how: How,
    outcome: Pending<Result<usize, AskError>>,
}

/// What has come of all calls so far, judged by what is in the journal. Returns how many were acknowledged.
fn judge(journal: &InMemoryJournal, calls: BTreeMap<u64, Call>) -> usize {
    let mut logs = BTreeMap::new();
    for call in calls.values() {
        let id = PersistenceId::of_entity(KINDS[call.kind], &call.id);
        logs.entry((call.kind, call.id))
            .or_insert_with(|| logged(journal, &id));
    }
    let mut acknowledged = 0;
    let mut accounted = 0;
    for (op, call) in calls {
        let log = &logs[&(call.kind, call.id)];
        let first = log.iter().position(|(logged, _)| *logged == op);
        let count = log.iter().filter(|(logged, _)| *logged == op).count();
        let outcome = call.outcome.try_take().expect("every ask ends");
        if let Some(first) = first {
            // All of it, once, and nothing between.
            assert_eq!(count as u64, call.parts, "{op}: {outcome:?}");
            let parts = &log[first..first + count];
            assert!(
                parts
                    .iter()
                    .copied()
                    .eq((0..call.parts).map(|part| (op, part)))
            );
            assert!(call.how != How::Failing, "{op}");
            accounted += count;
        }
        match outcome {
            Ok(length) => {
                let first = first.unwrap_or_else(|| panic!("{op} was acknowledged, and is lost"));
                assert_eq!(
                    first + count,
                    length,
                    "{op} was answered from another state"
                );
                acknowledged += 1;
            }
            Err(AskError::Rejected(why)) => {
                assert!(first.is_none(), "{op} was rejected ({why}), and is there");
            }
            Err(AskError::Unknown(_)) => {}
        }
    }
    let total: usize = logs.values().map(Vec::len).sum();
    assert_eq!(accounted, total, "there is more than was asked for");
    acknowledged
}

fn look(sim: &mut Simulation, region: Tallies, id: u64) -> Result<Vec<(u64, u64)>, AskError> {
    sim.ask(region.entity_ref(id), Command::Look)
}

fn ask(sim: &Simulation, region: Tallies, id: u64, op: u64) -> Pending<Result<usize, AskError>> {
    sim.handle()
        .ask(region.entity_ref(id), move |reply| Command::Do {
            op,
            parts: 1,
            how: How::AtOnce,
            reply,
        })
}

fn stat(sim: &Simulation, of: impl Fn(&corecast::CoreStats) -> u64) -> u64 {
    sim.stats().cores.iter().map(of).sum()
}

const UNKNOWN: AskError = AskError::Unknown(Uncertainty::HandlerFailed);

/// Delays, refused writes, lost acknowledgements, silence, failing handlers, passivation and moves, all at once.
#[test]
fn what_is_acknowledged_is_there_once_and_every_life_begins_with_it() {
    let (acknowledged, failed, moved) = (Cell::new(0), Cell::new(0), Cell::new(0));
    check_seeds(60, |mut builder| {
        let seed = builder.seed();
        let mut rng = seeded(seed, 500);
        let memory = InMemoryJournal::default();
        let journal = FaultyJournal::new(seed, memory.clone());
        let snapshots = Snapshots::Every(rng.random_range(1..8));
        let passivate = Duration::from_millis(rng.random_range(1..20));
        let regions = regions(&mut builder, &journal, snapshots, |entity| {
            entity
                .num_shards(3)
                .passivate_after(passivate)
                .max_active_per_core(4)
        });
        let bounds = Bounds {
            async_deadline: Duration::from_millis(60),
            ..Bounds::default()
        };
        let mut sim = builder.cores(3).bounds(bounds).swarm().start();
        // In some runs now and then one takes too long.
        let longest = [1, 5, 70][(seed % 3) as usize];
        journal.delay(
            &sim.handle(),
            Duration::ZERO..Duration::from_millis(longest),
        );
        if seed % 4 > 0 {
            journal.fail_writes(WriteFault::Refused, 12);
            journal.fail_writes(WriteFault::AckLost, 12);
            journal.fail_writes(WriteFault::Silent, 40);
            journal.fail_snapshots(3);
        }
        let handles: Vec<_> = (0..3)
            .map(|core| sim.handle().through(CoreId(core)).unwrap())
            .collect();
        let (mut calls, mut moves) = (BTreeMap::new(), Vec::new());
        for op in 1..250 {
            let (kind, id) = (rng.random_range(0..2), rng.random_range(0..6));
            let parts = rng.random_range(1..4);
            let how = match rng.random_range(0..20) {
                0..5 => How::Later,
                5 => How::Leaving,
                6 => How::Failing,
                _ => How::AtOnce,
            };
            let from = &handles[rng.random_range(0..3)];
            let outcome = from.ask(regions[kind].entity_ref(id), move |reply| Command::Do {
                op,
                parts,
                how,
                reply,
            });
            calls.insert(
                op,
                Call {
                    kind,
                    id,
                    parts,
                    how,
                    outcome,
                },
            );
            if rng.random_ratio(1, 3) {
                sim.run_for(Duration::from_micros(rng.random_range(0..8_000)));
            }
            if rng.random_ratio(1, 8) {
                let to = CoreId(rng.random_range(0..3));
                let shard = regions[rng.random_range(0..2)].shard_of(&rng.random_range(0..6));
                moves.push(sim.start_move(shard, to));
            }
        }
        sim.run_for(Duration::from_secs(10));
        let arrived = moves.into_iter().filter_map(|one| one.try_take().ok());
        moved.set(moved.get() + arrived.filter(Result::is_ok).count());
        failed.set(failed.get() + journal.failed_writes());
        journal.heal();
        acknowledged.set(acknowledged.get() + judge(&memory, calls));

        // Nobody is there any more, so another runtime has to find it all.
        sim.run_for(Duration::from_secs(1));
        let mut builder = Simulation::builder(seed);
        let regions = self::regions(&mut builder, &memory, snapshots, |entity| entity);
        let mut next = builder.start();
        for (kind, region) in regions.into_iter().enumerate() {
            for id in 0..6 {
                let log = logged(&memory, &PersistenceId::of_entity(KINDS[kind], &id));
                assert_eq!(look(&mut next, region, id), Ok(log), "{}/{id}", KINDS[kind]);
            }
        }
        sim
    });
    let seen = (acknowledged.get(), failed.get(), moved.get());
    assert!(seen.0 > 1_000 && seen.1 > 100 && seen.2 > 100, "{seen:?}");
}

fn one_core(
    mut builder: SimulationBuilder,
    snapshots: Snapshots,
) -> (Simulation, FaultyJournal, InMemoryJournal, [Tallies; 2]) {
    let memory = InMemoryJournal::default();
    let journal = FaultyJournal::new(builder.seed(), memory.clone());
    let regions = regions(&mut builder, &journal, snapshots, |entity| entity);
    (builder.cores(1).start(), journal, memory, regions)
}

#[test]
fn commands_of_one_entity_wait_while_its_events_are_written_and_others_go_on() {
    check_seeds(10, |builder| {
        let (mut sim, journal, _, [region, _]) = one_core(builder, Snapshots::Never);
        for id in [1, 2] {
            assert_eq!(look(&mut sim, region, id), Ok(vec![]));
        }
        let ms = Duration::from_millis;
        journal.delay(&sim.handle(), ms(50)..ms(51));
        let writing = ask(&sim, region, 1, 7);
        sim.run_for(ms(10));
        let waiting = sim.handle().ask(region.entity_ref(1), Command::Look);
        assert_eq!(look(&mut sim, region, 2), Ok(vec![]));
        sim.run_for(ms(20));
        let writing = writing.try_take().expect_err("it is not stored yet");
        let waiting = waiting
            .try_take()
            .expect_err("it comes after what is being stored");
        sim.run_for(ms(30));
        assert_eq!(writing.try_take().unwrap(), Ok(1));
        assert_eq!(waiting.try_take().unwrap(), Ok(vec![(7, 0)]));
        sim
    });
}

#[test]
fn a_write_that_fails_is_never_a_success_and_the_next_life_learns_what_became_of_it() {
    check_seeds(10, |builder| {
        let (mut sim, journal, memory, regions) = one_core(builder, Snapshots::Every(2));
        let mut faults = 0;
        for (kind, region) in regions.into_iter().enumerate() {
            for (id, fault) in
                (0..).zip([WriteFault::Refused, WriteFault::AckLost, WriteFault::Silent])
            {
                assert_eq!(sim.run_until(ask(&sim, region, id, 1)).unwrap(), Ok(1));
                journal.fail_nth_write(1, fault);
                let lost = ask(&sim, region, id, 2);
                // Whoever waits behind it may have its turn in the next life, or never.
                drop(ask(&sim, region, id, 3));
                let waits = Duration::from_secs(if fault == WriteFault::Silent { 11 } else { 0 });
                sim.run_for(waits + Duration::from_millis(1));
                let outcome = lost.try_take().expect("it has ended");
                let timeout = AskError::Unknown(Uncertainty::Timeout);
                let wanted = if waits.is_zero() { UNKNOWN } else { timeout };
                assert_eq!(outcome, Err(wanted), "{fault:?}");
                let mut ops = vec![1];
                if fault != WriteFault::Refused {
                    ops.push(2);
                }
                let next = sim.run_until(ask(&sim, region, id, 4)).unwrap();
                let found = look(&mut sim, region, id).unwrap();
                let log = logged(&memory, &PersistenceId::of_entity(KINDS[kind], &id));
                assert_eq!(found, log);
                let found: Vec<_> = found.into_iter().map(|(op, _)| op).collect();
                assert!(found.starts_with(&ops), "{fault:?}: {found:?}");
                assert!(
                    found.ends_with(&[4]) && next == Ok(found.len()),
                    "{found:?}"
                );
                faults += 1;
                assert_eq!(stat(&sim, |core| core.faults), faults);
            }
        }
        sim
    });
}

/// A restart keeps the mailbox, and what waits there finds the state that the journal has. An actor that is resumed does
/// not know its state, and so decides nothing.
#[test]
fn whoever_waits_is_served_from_what_is_stored_or_not_at_all() {
    check_seeds(10, |mut builder| {
        let journal = FaultyJournal::new(builder.seed(), InMemoryJournal::default());
        let names = [
            (Directive::Restart, "restarted"),
            (Directive::Resume, "resumed"),
        ];
        let regions = names.map(|(directive, name)| {
            let keeper = journal.clone();
            let tallies =
                EntityType::event_sourced(name, keeper, |_: &u64| Tally(Snapshots::Never));
            let region = builder.entities(tallies.supervised(Supervision::always(directive)));
            (directive, region)
        });
        let mut sim = builder.cores(1).start();
        for (directive, region) in regions {
            assert_eq!(sim.run_until(ask(&sim, region, 1, 1)).unwrap(), Ok(1));
            journal.fail_nth_write(1, WriteFault::AckLost);
            let [lost, waits] = [2, 3].map(|op| ask(&sim, region, 1, op));
            let look = sim.handle().ask(region.entity_ref(1), Command::Look);
            assert_eq!(sim.run_until(lost).unwrap(), Err(UNKNOWN));
            let (waits, look) = (sim.run_until(waits).unwrap(), sim.run_until(look).unwrap());
            if directive == Directive::Restart {
                assert_eq!(waits, Ok(3));
                assert_eq!(look, Ok(vec![(1, 0), (2, 0), (3, 0)]));
            } else {
                assert_eq!((waits, look), (Err(UNKNOWN), Err(UNKNOWN)));
            }
        }
        sim
    });
}

/// The actor has given up and another life has begun when the old write would come.
#[test]
fn a_late_write_of_an_old_life_is_not_stored() {
    check_seeds(10, |mut builder| {
        let memory = InMemoryJournal::default();
        let journal = FaultyJournal::new(builder.seed(), memory.clone());
        let [region, _] = regions(&mut builder, &journal, Snapshots::Never, |entity| entity);
        let ms = Duration::from_millis;
        let bounds = Bounds {
            async_deadline: ms(50),
            ..Bounds::default()
        };
        let mut sim = builder.cores(2).bounds(bounds).start();
        assert_eq!(look(&mut sim, region, 1), Ok(vec![]));
        journal.delay(&sim.handle(), ms(200)..ms(201));
        let late = ask(&sim, region, 1, 7);
        sim.run_for(ms(80));
        assert_eq!(late.try_take().unwrap(), Err(UNKNOWN));
        journal.heal();
        assert_eq!(look(&mut sim, region, 1), Ok(vec![]));
        sim.run_for(ms(200));
        assert_eq!(sim.run_until(ask(&sim, region, 1, 8)).unwrap(), Ok(1));
        let id = PersistenceId::of_entity("stops", &1);
        assert_eq!(logged(&memory, &id), [(8, 0)]);
        sim
    });
}

#[test]
fn snapshots_are_counted_across_lives_and_taken_at_the_end_of_each() {
    check_seeds(10, |mut builder| {
        let memory = InMemoryJournal::default();
        let journal = FaultyJournal::new(builder.seed(), memory.clone());
        let tune = |entity: EntityType<_, _>| entity.passivate_after(Duration::from_millis(20));
        let [region, _] = regions(&mut builder, &journal, Snapshots::Every(5), tune);
        let mut sim = builder.cores(1).start();
        let id = PersistenceId::of_entity("stops", &1);
        let snapshot = || {
            memory
                .snapshot(&id)
                .map_or(0, |snapshot| snapshot.sequence.0)
        };
        let mut op = 0;
        let mut write = |sim: &mut Simulation, times: u64| {
            for _ in 0..times {
                op += 1;
                let written = ask(sim, region, 1, op);
                assert_eq!(sim.run_until(written).unwrap(), Ok(op as usize));
            }
            assert!(sim.run_until_idle());
        };
        write(&mut sim, 4);
        assert_eq!(snapshot(), 0);
        write(&mut sim, 1);
        assert_eq!(snapshot(), 5);
        // Failures take no snapshot that is stored, and the count goes on in the next life.
        journal.fail_snapshots(1);
        write(&mut sim, 3);
        sim.run_for(Duration::from_millis(100));
        assert_eq!((snapshot(), stat(&sim, |core| core.passivations)), (5, 1));
        assert_eq!(stat(&sim, |core| core.failed_snapshots), 1);
        journal.heal();
        write(&mut sim, 1);
        assert_eq!(snapshot(), 5);
        write(&mut sim, 1);
        assert_eq!(snapshot(), 10);
        write(&mut sim, 1);
        sim.run_for(Duration::from_millis(100));
        assert_eq!((snapshot(), stat(&sim, |core| core.passivations)), (11, 2));
        // A command does not fail with its snapshot.
        journal.fail_snapshots(1);
        write(&mut sim, 9);
        assert_eq!(
            (snapshot(), stat(&sim, |core| core.failed_snapshots)),
            (11, 2)
        );
        assert_eq!(stat(&sim, |core| core.faults), 0);
        sim
    });
}

#[test]
fn a_plain_actor_has_its_id_alone_until_its_end() {
    check_seeds(10, |builder| {
        let journal = InMemoryJournal::default();
        let mut sim = builder.cores(2).start();
        let spawn = |sim: &mut Simulation, core| {
            let journal = journal.clone();
            sim.spawn(CoreId(core), move || {
                Sourced::new("ledger".into(), journal, Tally(Snapshots::default()))
            })
            .unwrap()
        };
        let mut ops = 0;
        for end in ["stopped", "panicked", "poisoned"] {
            let first = spawn(&mut sim, 0);
            let did = sim.ask(first, move |reply| Command::Do {
                op: ops as u64,
                parts: 1,
                how: How::AtOnce,
                reply,
            });
            ops += 1;
            assert_eq!(did, Ok(ops));
            let second = spawn(&mut sim, 1);
            let refused = sim.ask(second, Command::Look);
            assert!(
                matches!(
                    refused,
                    Err(AskError::Rejected(
                        Rejection::Stopped | Rejection::NoSuchActor
                    ))
                ),
                "{refused:?}"
            );
            assert_eq!(sim.ask(first, Command::Look).map(|all| all.len()), Ok(ops));
            match end {
                "stopped" => assert_eq!(sim.ask(first, Command::Stop), Ok(())),
                "panicked" => sim.tell(first, Command::Panic),
                _ => {
                    let poisoned = sim.ask(first, |reply| Command::Do {
                        op: POISON,
                        parts: 1,
                        how: How::AtOnce,
                        reply,
                    });
                    assert_eq!(poisoned, Err(UNKNOWN));
                }
            }
            assert!(sim.run_until_idle());
            assert!(!journal.leases().is_held(&"ledger".into()), "{end}");
        }
        // What is stored stays: each life meets it, and fails.
        let last = spawn(&mut sim, 0);
        assert!(sim.ask(last, Command::Look).is_err());
        assert_eq!(stat(&sim, |core| core.faults), 3 + 1 + 1 + 1);
        sim
    });
}

#[test]
fn a_log_that_is_not_whole_starts_nobody() {
    check_seeds(6, |builder| {
        let (mut sim, journal, _, regions) = one_core(builder, Snapshots::Never);
        for (kind, region) in regions.into_iter().enumerate() {
            let id = PersistenceId::of_entity(KINDS[kind], &1);
            for op in 0..5 {
                sim.run_until(ask(&sim, region, 1, op)).unwrap().unwrap();
            }
            assert_eq!(sim.ask(region.entity_ref(1), Command::Stop), Ok(()));
            for fault in [ReadFault::Damaged, ReadFault::Missing, ReadFault::Repeated] {
                journal.fail_read(&id, Sequence(3), fault);
                let refused = look(&mut sim, region, 1);
                assert!(refused.is_err(), "{fault:?}: {refused:?}");
            }
            journal.heal();
            assert_eq!(look(&mut sim, region, 1).map(|all| all.len()), Ok(5));
        }
        sim
    });
}

#[test]
fn a_full_journal_fails_writers_and_nobody_else() {
    check_seeds(6, |mut builder| {
        let journal = InMemoryJournal::bounded(1_000);
        let [region, _] = regions(&mut builder, &journal, Snapshots::Never, |entity| entity);
        let mut sim = builder.cores(1).start();
        let written = (1..).take_while(|op| {
            let outcome = sim.run_until(ask(&sim, region, 1, *op)).unwrap();
            assert!(
                outcome == Ok(*op as usize) || outcome == Err(UNKNOWN),
                "{outcome:?}"
            );
            outcome.is_ok()
        });
        let written = written.count();
        assert!((2..100).contains(&written), "{written}");
        assert_eq!(look(&mut sim, region, 1).map(|all| all.len()), Ok(written));
        assert!(journal.used_bytes() <= 1_000);
        sim
    });
}

#[test]
fn a_long_history_lets_others_have_their_turn() {
    check_seeds(4, |mut builder| {
        let journal = InMemoryJournal::default();
        let [region, _] = regions(&mut builder, &journal, Snapshots::Never, |entity| entity);
        let mut sim = builder.cores(1).start();
        let long = sim.ask(region.entity_ref(1), |reply| Command::Do {
            op: 1,
            parts: 10_000,
            how: How::Leaving,
            reply,
        });
        assert_eq!(long, Ok(10_000));
        assert!(sim.run_until_idle());
        let recovering = sim.handle().ask(region.entity_ref(1), Command::Look);
        // It takes more than one turn, and in between somebody else starts and answers.
        assert_eq!(look(&mut sim, region, 2), Ok(vec![]));
        let recovering = recovering.try_take().expect_err("it reads many pages");
        assert_eq!(
            sim.run_until(recovering).unwrap().map(|all| all.len()),
            Ok(10_000)
        );
        sim
    });
}

#[test]
fn old_events_are_upgraded_and_snapshots_of_another_version_left_aside() {
    #[derive(Debug, Archive, Serialize, Deserialize)]
    struct OldState(u64);

    impl WireMessage for OldState {
        const NAME: &'static str = "test.State";
        const VERSION: u16 = 0;
    }

    /// What an older program has written.
    struct Old;

    impl EventSourced for Old {
        type Command = Command;
        type Event = DoneV1;
        type State = OldState;

        fn empty(&self) -> OldState {
            OldState(0)
        }

        fn on_command(
            &mut self,
            _: &OldState,
            command: Command,
            _: &mut SourcedContext<'_, Self>,
        ) -> Result<Effect<Self>, Fault> {
            Ok(match command {
                Command::Do { op, reply, .. } => Effect::persist(DoneV1(op))
                    .then_reply(reply, |state: &OldState| state.0 as usize),
                other => Effect::unhandled(other),
            })
        }

        fn on_event(state: OldState, event: &DoneV1) -> OldState {
            OldState(state.0 + event.0)
        }

        fn snapshots(&self) -> Snapshots {
            Snapshots::Every(1)
        }
    }

    check_seeds(4, |builder| {
        let journal = InMemoryJournal::default();
        let mut sim = builder.cores(1).start();
        let before = journal.clone();
        let old = sim
            .spawn(CoreId(0), move || Sourced::new("one".into(), before, Old))
            .unwrap();
        for op in [4, 5] {
            let did = sim.ask(old, move |reply| Command::Do {
                op,
                parts: 1,
                how: How::AtOnce,
                reply,
            });
            assert_eq!(did, Ok(if op == 4 { 4 } else { 9 }));
        }
        let ignored = sim.ask(old, Command::Look);
        assert_eq!(
            ignored,
            Err(AskError::Unknown(Uncertainty::DroppedUnanswered))
        );
        assert!(sim.run_until_idle());
        assert_eq!(
            journal.snapshot(&"one".into()).unwrap().sequence,
            Sequence(2)
        );
        sim.handle().stop(old).unwrap();
        assert!(sim.run_until_idle());
        let after = journal.clone();
        let tally = Tally(Snapshots::default());
        let new = sim
            .spawn(CoreId(0), move || Sourced::new("one".into(), after, tally))
            .unwrap();
        assert_eq!(sim.ask(new, Command::Look), Ok(vec![(4, 0), (5, 0)]));
        sim
    });
}
