//! Corners of event sourcing: the hooks for faults, the end of a runtime, logs that have lost something, and user's code that
//! panics where nobody expects it.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim event_sourcing`.

use corecast::persistence::journal::{Journal, Records};
use corecast::sim::{Closing, FaultyJournal, ReadFault, Simulation, WriteFault, check_seeds};
use corecast::{
    Actor, ActorRef, AskError, Backoff, Context, CoreId, Directive, Effect, EntityType, Epoch,
    EventSourced, Fault, InMemoryJournal, JournalError, Next, Payload, PersistenceId, Record,
    ReplyTo, Sequence, Snapshots, Sourced, SourcedContext, SourcingError, Supervision, Uncertainty,
    WireMessage,
};
use rkyv::rancor::Fallible;
use rkyv::with::{ArchiveWith, DeserializeWith, SerializeWith};
use rkyv::{Archive, Deserialize, Place, Serialize};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

/// What happened, in order.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, what: impl ToString) {
        self.0.lock().unwrap().push(what.to_string());
    }

    fn read(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Adds up, and writes down what becomes of it.
struct Sum {
    diary: Diary,
    snapshots: Snapshots,
}

#[derive(Debug)]
enum Command {
    Add(u64, ReplyTo<u64>),
    Total(ReplyTo<u64>),
    Fail(&'static str),
    /// Starts a child.
    Raise(ReplyTo<ActorRef<Child>>),
}

#[derive(Debug, Archive, Serialize, Deserialize)]
struct Added(u64);

impl WireMessage for Added {
    const NAME: &'static str = "test.corners.Added";
    const VERSION: u16 = 1;
}

/// What cannot be written when it is set.
#[derive(Debug, Default, Archive, Serialize, Deserialize)]
struct Total {
    sum: u64,
    #[rkyv(with = Grumpy)]
    grumpy: bool,
}

impl WireMessage for Total {
    const NAME: &'static str = "test.corners.Total";
    const VERSION: u16 = 1;
}

struct Grumpy;

impl ArchiveWith<bool> for Grumpy {
    type Archived = bool;
    type Resolver = ();

    fn resolve_with(value: &bool, (): (), out: Place<bool>) {
        value.resolve((), out);
    }
}

impl<S: Fallible + ?Sized> SerializeWith<bool, S> for Grumpy {
    fn serialize_with(value: &bool, _: &mut S) -> Result<(), S::Error> {
        assert!(!value, "on purpose");
        Ok(())
    }
}

impl<D: Fallible + ?Sized> DeserializeWith<bool, bool, D> for Grumpy {
    fn deserialize_with(value: &bool, _: &mut D) -> Result<bool, D::Error> {
        Ok(*value)
    }
}

/// From here on the state is grumpy.
const GRUMPY: u64 = 1_000;

#[derive(Debug)]
enum Child {
    Fail,
    Count(ReplyTo<u32>),
}

#[derive(Default)]
struct Counting(u32);

impl Actor for Counting {
    type Msg = Child;

    fn receive(&mut self, message: Child, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.0 += 1;
        match message {
            Child::Fail => Err(Fault::new("a child")),
            Child::Count(reply) => {
                ctx.reply(reply, self.0);
                Ok(Next::Continue)
            }
        }
    }
}

impl EventSourced for Sum {
    type Command = Command;
    type Event = Added;
    type State = Total;

    fn empty(&self) -> Total {
        Total::default()
    }

    fn on_command(
        &mut self,
        _: &Total,
        command: Command,
        ctx: &mut SourcedContext<'_, Self>,
    ) -> Result<Effect<Self>, Fault> {
        let sum = |total: &Total| total.sum;
        Ok(match command {
            Command::Add(n, reply) => Effect::persist(Added(n)).then_reply(reply, sum),
            Command::Total(reply) => Effect::none().then_reply(reply, sum),
            Command::Fail(why) => return Err(Fault::new(why)),
            Command::Raise(reply) => {
                let child = ctx.spawn_actor(Counting::default)?;
                Effect::none().then_reply(reply, move |_| child)
            }
        })
    }

    fn on_event(mut total: Total, Added(n): &Added) -> Total {
        total.sum += n;
        total.grumpy |= *n == GRUMPY;
        total
    }

    fn snapshots(&self) -> Snapshots {
        self.snapshots
    }

    fn recovered(&mut self, total: &Total, _: &mut SourcedContext<'_, Self>) -> Result<(), Fault> {
        self.diary.note(format_args!("recovered {}", total.sum));
        Ok(())
    }

    fn on_error(&mut self, fault: &Fault, _: &mut SourcedContext<'_, Self>) -> Option<Directive> {
        self.diary.note(format_args!("on_error {fault}"));
        (fault.to_string() == "go on").then_some(Directive::Resume)
    }

    fn supervision(&self) -> Supervision {
        Supervision::always(Directive::Resume)
    }

    fn pre_restart(&mut self, fault: &Fault, _: &mut SourcedContext<'_, Self>) {
        self.diary.note(format_args!("pre_restart {fault}"));
    }

    fn post_restart(
        &mut self,
        fault: &Fault,
        _: &mut SourcedContext<'_, Self>,
    ) -> Result<(), Fault> {
        self.diary.note(format_args!("post_restart {fault}"));
        Ok(())
    }

    fn post_stop(&mut self, _: &mut SourcedContext<'_, Self>) {
        self.diary.note("post_stop");
    }
}

fn sums(
    name: &'static str,
    journal: impl Journal,
    snapshots: Snapshots,
    diary: &Diary,
) -> EntityType<Sourced<Sum>, u64> {
    let diary = diary.clone();
    EntityType::event_sourced(name, journal, move |_: &u64| Sum {
        diary: diary.clone(),
        snapshots,
    })
    .supervised(Supervision::default().backoff(Backoff::NONE))
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut std::task::Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("a journal in memory answers at once"),
    }
}

fn failed_snapshots(closing: &Closing) -> u64 {
    let cores = closing.stats.cores.iter();
    cores.map(|core| core.failed_snapshots).sum()
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn every_hook_for_faults_is_the_behaviors() {
    check_seeds(6, |mut builder| {
        let (journal, diary) = (InMemoryJournal::default(), Diary::default());
        let sums = builder.entities(sums("sum", journal, Snapshots::Never, &diary));
        let sum = sums.entity_ref(1);
        let mut sim = builder.cores(1).start();
        assert_eq!(sim.ask(sum, |reply| Command::Add(3, reply)), Ok(3));
        assert_eq!(diary.read(), ["recovered 0"]);
        sim.tell(sum, Command::Fail("go on"));
        assert_eq!(sim.ask(sum, Command::Total), Ok(3));
        assert_eq!(diary.read(), ["on_error go on"]);
        sim.tell(sum, Command::Fail("again"));
        assert_eq!(sim.ask(sum, Command::Total), Ok(3));
        assert_eq!(
            diary.read(),
            [
                "on_error again",
                "pre_restart again",
                "post_restart again",
                "recovered 3"
            ]
        );
        // Its child is resumed, as it says, so it goes on counting.
        let child = sim.ask(sum, Command::Raise).unwrap();
        sim.tell(child, Child::Fail);
        assert_eq!(sim.ask(child, Child::Count), Ok(2));
        sim.shutdown(1_000 * MS);
        assert_eq!(diary.read(), ["post_stop"]);
        sim
    });
}

/// A write that fails is a fault as well, and whoever resumes after it has a state that nobody knows.
#[test]
fn a_fault_of_the_journal_is_shown_to_the_behavior() {
    check_seeds(6, |mut builder| {
        let memory = InMemoryJournal::default();
        let journal = FaultyJournal::new(builder.seed(), memory);
        let diary = Diary::default();
        let sums = builder.entities(sums("sum", journal.clone(), Snapshots::Never, &diary));
        let sum = sums.entity_ref(1);
        let mut sim = builder.cores(1).start();
        assert_eq!(sim.ask(sum, |reply| Command::Add(3, reply)), Ok(3));
        journal.fail_nth_write(1, WriteFault::AckLost);
        let lost = sim.ask(sum, |reply| Command::Add(4, reply));
        assert_eq!(lost, Err(AskError::Unknown(Uncertainty::HandlerFailed)));
        assert_eq!(sim.ask(sum, Command::Total), Ok(7));
        let why = "sum/1 could not store the events 2 to 2: the storage failed: made to fail";
        assert_eq!(
            diary.read(),
            [
                "recovered 0",
                &format!("on_error {why}"),
                &format!("pre_restart {why}"),
                &format!("post_restart {why}"),
                "recovered 7"
            ]
        );
        sim
    });
}

/// Entities that recover elsewhere, entities that move as they are, and a plain actor.
#[test]
fn the_end_of_the_runtime_waits_for_the_last_snapshots() {
    check_seeds(12, |mut builder| {
        let memory = InMemoryJournal::default();
        let journal = FaultyJournal::new(builder.seed(), memory.clone());
        let diary = Diary::default();
        let every = Snapshots::Every(100);
        let stops = builder.entities(sums("stops", journal.clone(), every, &diary));
        let (keeper, said) = (journal.clone(), diary.clone());
        let moves = builder.entities(EntityType::send("moves", move |id: &u64| {
            let id = PersistenceId::of_entity("moves", id);
            let diary = said.clone();
            let snapshots = Snapshots::AtStop;
            Sourced::new(id, keeper.clone(), Sum { diary, snapshots })
        }));
        let mut sim = builder.cores(3).start();
        let keeper = journal.clone();
        let snapshots = Snapshots::AtStop;
        let alone = sim
            .spawn(CoreId(1), move || {
                Sourced::new("alone".into(), keeper, Sum { diary, snapshots })
            })
            .unwrap();
        journal.delay(&sim.handle(), Duration::ZERO..5 * MS);
        for n in 1..4 {
            for id in 0..5 {
                for region in [stops, moves] {
                    let added = sim.ask(region.entity_ref(id), move |reply| Command::Add(n, reply));
                    assert!(added.is_ok(), "{added:?}");
                }
            }
            assert!(sim.ask(alone, move |reply| Command::Add(n, reply)).is_ok());
        }
        for id in 0..5 {
            // Where nobody has written to them.
            let owner = sim.owner_of(moves.shard_of(&id)).unwrap();
            let to = CoreId((owner.0 + 1) % 3);
            let moving = sim.start_move(moves.shard_of(&id), to);
            // Some are under way by the time of the end.
            if id < 3 {
                sim.run_until(moving).unwrap().unwrap();
            }
        }
        // Nobody waits for the answer to this one, but it counts.
        let last = stops.entity_ref(0);
        drop(sim.handle().ask(last, |reply| Command::Add(4, reply)));
        let closing = sim.shutdown(5_000 * MS);
        assert!(closing.drained);
        assert_eq!(failed_snapshots(&closing), 0);
        let last = |id: PersistenceId| memory.snapshot(&id).map(|snapshot| snapshot.sequence.0);
        for id in 0..5 {
            let events = if id == 0 { 4 } else { 3 };
            assert_eq!(last(PersistenceId::of_entity("stops", &id)), Some(events));
            assert_eq!(last(PersistenceId::of_entity("moves", &id)), Some(3));
        }
        assert_eq!(last("alone".into()), Some(3));
        sim
    });
}

/// More than are begun at once.
#[test]
fn the_end_of_the_runtime_waits_for_any_number_of_last_snapshots() {
    const ENTITIES: u64 = 2_500;
    check_seeds(2, |mut builder| {
        let journal = InMemoryJournal::default();
        let entity = sums("sum", journal.clone(), Snapshots::AtStop, &Diary::default());
        let sums = builder.entities(entity);
        let mut sim = builder.cores(1).start();
        for id in 0..ENTITIES {
            let to = sums.entity_ref(id);
            drop(sim.handle().ask(to, |reply| Command::Add(1, reply)));
        }
        let closing = sim.shutdown(5_000 * MS);
        assert!(closing.drained);
        let saved = (0..ENTITIES).map(|id| PersistenceId::of_entity("sum", &id));
        assert!(saved.into_iter().all(|id| journal.snapshot(&id).is_some()));
        assert_eq!(failed_snapshots(&closing), 0);
        sim
    });
}

/// It is tried once, and everything has been handled whatever comes of it.
#[test]
fn a_last_snapshot_that_fails_or_takes_too_long_is_not_waited_for_longer_than_the_deadline() {
    check_seeds(6, |builder| {
        for is_slow in [false, true] {
            let mut builder = Simulation::builder(builder.seed());
            let memory = InMemoryJournal::default();
            let journal = FaultyJournal::new(builder.seed(), memory.clone());
            let entity = sums("sum", journal.clone(), Snapshots::AtStop, &Diary::default());
            let sums = builder.entities(entity);
            let mut sim = builder.cores(2).start();
            for id in 0..4 {
                let added = sim.ask(sums.entity_ref(id), |reply| Command::Add(1, reply));
                assert_eq!(added, Ok(1));
            }
            if is_slow {
                journal.delay(&sim.handle(), 5_000 * MS..5_001 * MS);
            } else {
                journal.fail_snapshots(1);
            }
            let begun = sim.now();
            let closing = sim.shutdown(1_000 * MS);
            let took = sim.now() - begun;
            assert!(closing.drained);
            let failed = failed_snapshots(&closing);
            if is_slow {
                assert!(
                    failed == 0 && took >= 1_000 * MS && took < 2_500 * MS,
                    "{took:?}"
                );
            } else {
                assert!(failed == 4 && took < 100 * MS, "{failed}: {took:?}");
            }
            assert!((0..4).all(|id| {
                memory
                    .snapshot(&PersistenceId::of_entity("sum", &id))
                    .is_none()
            }));
        }
        builder.start()
    });
}

/// Of a snapshot that cannot be used it is known at least how many events there were.
#[test]
fn a_log_that_has_lost_its_end_or_its_beginning_starts_nobody() {
    let of_another_type = || Payload::of(&Added(1)).unwrap();
    check_seeds(6, |mut builder| {
        let (journal, diary) = (InMemoryJournal::default(), Diary::default());
        let entity = sums("sum", journal.clone(), Snapshots::Never, &diary);
        let region = builder.entities(entity.supervised(Supervision::always(Directive::Stop)));
        let mut sim = builder.cores(1).start();
        let save = |id: &PersistenceId, sequence, payload| {
            let snapshot = Record::new(id, Sequence(sequence), Epoch(0), payload);
            now(journal.save_snapshot(id, snapshot)).unwrap();
        };
        let ids: [PersistenceId; 4] =
            std::array::from_fn(|id| PersistenceId::of_entity("sum", &(id as u64)));
        for id in 0..4 {
            for n in 1..4 {
                let added = sim.ask(region.entity_ref(id), move |reply| Command::Add(n, reply));
                assert!(added.is_ok());
            }
        }
        let stop = |sim: &mut Simulation, id| {
            sim.tell(region.entity_ref(id), Command::Fail("to its end"));
            assert!(sim.run_until_idle());
            diary.read();
        };
        // Nothing is missing.
        stop(&mut sim, 0);
        save(&ids[0], 3, of_another_type());
        assert_eq!(sim.ask(region.entity_ref(0), Command::Total), Ok(6));
        // The last one is.
        stop(&mut sim, 1);
        save(&ids[1], 4, of_another_type());
        assert!(sim.ask(region.entity_ref(1), Command::Total).is_err());
        let (last, snapshot) = (Sequence(3), Sequence(4));
        let failed = |id: usize, at, error| {
            let (id, at) = (ids[id].clone(), Sequence(at));
            format!("on_error {}", SourcingError::Recovery { id, at, error })
        };
        let said = diary.read();
        assert_eq!(
            said[0],
            failed(1, 4, JournalError::Short { last, snapshot })
        );
        // All of them are.
        stop(&mut sim, 2);
        let total = Payload::of(&Total {
            sum: 6,
            grumpy: false,
        })
        .unwrap();
        save(&ids[2], 3, total.clone());
        assert_eq!(journal.delete_before(&ids[2], Sequence(4)), 3);
        assert_eq!(sim.ask(region.entity_ref(2), Command::Total), Ok(6));
        assert_eq!(
            sim.ask(region.entity_ref(2), |reply| Command::Add(4, reply)),
            Ok(10)
        );
        stop(&mut sim, 2);
        save(&ids[2], 4, of_another_type());
        assert!(sim.ask(region.entity_ref(2), Command::Total).is_err());
        let (expected, found) = (Sequence(1), Sequence(4));
        assert_eq!(
            diary.read()[0],
            failed(2, 1, JournalError::Gap { expected, found })
        );
        // The snapshot is damaged.
        stop(&mut sim, 3);
        let mut damaged = Record::new(&ids[3], Sequence(3), Epoch(0), total);
        damaged.checksum ^= 1;
        now(journal.save_snapshot(&ids[3], damaged)).unwrap();
        assert!(sim.ask(region.entity_ref(3), Command::Total).is_err());
        let what = "the checksum of record 3 is wrong".to_owned();
        assert_eq!(
            diary.read()[0],
            failed(3, 3, JournalError::Damaged { what })
        );
        sim
    });
}

/// A command does not fail with its snapshot, nor is the actor's last hook left out, nor is it tried with each event.
#[test]
fn a_state_that_panics_when_it_is_written_harms_nobody() {
    check_seeds(6, |mut builder| {
        let (journal, diary) = (InMemoryJournal::default(), Diary::default());
        let entity = sums("sum", journal.clone(), Snapshots::Every(3), &diary);
        let region = builder.entities(entity.passivate_after(50 * MS));
        let sum = region.entity_ref(1);
        let mut sim = builder.cores(1).start();
        let failed = |sim: &Simulation| -> (u64, u64) {
            let cores = sim.stats().cores;
            let failed = cores.iter().map(|core| core.failed_snapshots).sum();
            (failed, cores.iter().map(|core| core.faults).sum())
        };
        let mut total = 0;
        for (n, failures) in [(1, 0), (GRUMPY, 0), (1, 1), (1, 1), (1, 1), (1, 2)] {
            total += n;
            let added = sim.ask(sum, move |reply| Command::Add(n, reply));
            assert_eq!(added, Ok(total));
            assert_eq!(failed(&sim), (failures, 0));
        }
        assert_eq!(diary.read(), ["recovered 0"]);
        sim.run_for(200 * MS);
        assert_eq!(diary.read(), ["post_stop"]);
        assert_eq!(failed(&sim), (3, 0));
        assert_eq!(sim.ask(sum, Command::Total), Ok(total));
        sim
    });
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

/// Everything of it panics when it is dropped.
struct Mined(Bomb);

/// Without content, so that not one byte of it can be damaged.
#[derive(Debug, Archive, Serialize, Deserialize)]
struct Armed;

impl WireMessage for Armed {
    const NAME: &'static str = "test.corners.Armed";
    const VERSION: u16 = 1;
}

impl Drop for Armed {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[derive(Debug, Archive, Serialize, Deserialize)]
struct Mine(u64);

impl WireMessage for Mine {
    const NAME: &'static str = "test.corners.Mine";
    const VERSION: u16 = 1;
}

impl Drop for Mine {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[derive(Debug)]
enum Step {
    On(ReplyTo<u64>),
    Off,
    Into(ReplyTo<()>),
}

impl EventSourced for Mined {
    type Command = Step;
    type Event = Armed;
    type State = Mine;

    fn empty(&self) -> Mine {
        Mine(0)
    }

    fn on_command(
        &mut self,
        _: &Mine,
        step: Step,
        _: &mut SourcedContext<'_, Self>,
    ) -> Result<Effect<Self>, Fault> {
        Ok(match step {
            Step::On(reply) => {
                Effect::persist_all([Armed, Armed]).then_reply(reply, |mine: &Mine| mine.0)
            }
            Step::Off => Effect::none().then_stop(),
            Step::Into(reply) => {
                let (first, second) = (Bomb, Bomb);
                Effect::persist_all([Armed, Armed])
                    .then_run(|_, _| panic!("on purpose"))
                    .then_run(move |_, _| drop(first))
                    .then_run(move |_, _| drop(second))
                    .then_reply(reply, |_| ())
            }
        })
    }

    fn on_event(mut mine: Mine, _: &Armed) -> Mine {
        mine.0 += 1;
        mine
    }
}

/// Two panics at once would be the end of the process.
#[test]
fn destructors_that_panic_do_not_meet() {
    check_seeds(4, |mut builder| {
        let journal = InMemoryJournal::default();
        let mined = EntityType::event_sourced("mined", journal, |_: &u64| Mined(Bomb));
        let mined = mined.supervised(Supervision::default().backoff(Backoff::NONE));
        let mined = builder.entities(mined).entity_ref(1);
        let mut sim = builder.cores(1).start();
        assert_eq!(sim.ask(mined, Step::On), Ok(2));
        sim.tell(mined, Step::Off);
        assert!(sim.run_until_idle());
        assert_eq!(sim.ask(mined, Step::On), Ok(4));
        let failed = sim.ask(mined, Step::Into);
        assert_eq!(failed, Err(AskError::Unknown(Uncertainty::HandlerFailed)));
        assert_eq!(sim.ask(mined, Step::On), Ok(8));
        sim
    });
}

/// What the test kit promises to do to a log it does to any.
#[test]
fn a_fault_of_reading_is_one_also_for_a_whole_page_and_an_empty_event() {
    check_seeds(4, |mut builder| {
        let memory = InMemoryJournal::default();
        let journal = FaultyJournal::new(builder.seed(), memory.clone());
        let diary = Diary::default();
        let entity = sums("sum", journal.clone(), Snapshots::Never, &diary);
        let region = builder.entities(entity.supervised(Supervision::always(Directive::Stop)));
        let keeper = journal.clone();
        let mined = EntityType::event_sourced("mined", keeper, |_: &u64| Mined(Bomb));
        let mined = builder.entities(mined).entity_ref(1);
        let sum = region.entity_ref(1);
        let mut sim = builder.cores(1).start();
        for _ in 0..300 {
            drop(sim.handle().ask(sum, |reply| Command::Add(1, reply)));
        }
        assert_eq!(sim.ask(sum, Command::Total), Ok(300));
        sim.tell(sum, Command::Fail("to its end"));
        assert!(sim.run_until_idle());
        let id = PersistenceId::of_entity("sum", &1);
        let page = now(memory.load(&id, Sequence::FIRST).next_page());
        let whole = page.unwrap().len() as u64;
        assert!(whole < 300);
        for number in 1..=whole {
            journal.fail_read(&id, Sequence(number), ReadFault::Missing);
        }
        diary.read();
        assert!(sim.ask(sum, Command::Total).is_err());
        let gap = format!("event 1 is next, and event {} comes", whole + 1);
        assert!(diary.read()[0].ends_with(&gap));
        assert_eq!(sim.ask(mined, Step::On), Ok(2));
        sim.tell(mined, Step::Off);
        let id = PersistenceId::of_entity("mined", &1);
        assert!(sim.run_until_idle());
        assert!(memory.records(&id)[0].payload.bytes.is_empty());
        // The snapshot of its end would spare it the events.
        let snapshot = Record::new(&id, Sequence(2), Epoch(0), Payload::of(&Added(1)).unwrap());
        now(memory.save_snapshot(&id, snapshot)).unwrap();
        journal.fail_read(&id, Sequence(2), ReadFault::Damaged);
        assert!(sim.ask(mined, Step::On).is_err());
        sim
    });
}
