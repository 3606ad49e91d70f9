//! The lives of an actor: what belongs to one life never reaches the next, what is meant for the entity is never lost
//! between two, and a stop takes effect exactly once, wherever the entity is by then.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim lives`.

use corecast::base::ids::CoreId;
use corecast::sim::{Bounds, Simulation, SimulationBuilder, check_seeds};
use corecast::{
    Actor, ActorRef, AskError, Capture, Context, EntityType, Fault, Handle, Mailbox, Next, Policy,
    Region, Rejection, ReplyTo, Scope, TaskError,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

#[derive(Debug)]
enum Msg {
    Note(u32),
    /// A note, and the end of this life.
    Last(u32),
    /// A suspension of so many milliseconds; `true` if the life ends at once all the same.
    Nap(u64, bool),
    /// A suspension without end, and the end of this life.
    HangAndLeave,
    Me(ReplyTo<ActorRef<Msg>>),
}

/// What a life does with its last breath.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AtEnd {
    Nothing,
    Suspends,
    /// The first life leaves a note to itself.
    TellsItself,
    /// Wakes the entity of the other parity.
    WakesAnother,
    /// Has something done whose result is a note.
    Spawns,
}

#[derive(Clone)]
struct World {
    lines: Arc<Mutex<Vec<String>>>,
    lives: Arc<AtomicU32>,
    region: Arc<OnceLock<Region<u64, Msg>>>,
    at_end: AtEnd,
    /// The factory fails from this life on.
    no_life_from: u32,
}

impl World {
    fn new(at_end: AtEnd) -> World {
        World {
            lines: Arc::default(),
            lives: Arc::default(),
            region: Arc::default(),
            at_end,
            no_life_from: u32::MAX,
        }
    }

    fn note(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    fn begin(&self, id: u64) -> Mortal {
        let life = self.lives.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(life < self.no_life_from, "no further life, on purpose");
        self.note(format!("{life} begins"));
        Mortal {
            id,
            life,
            world: self.clone(),
        }
    }

    fn send(&self, builder: &mut SimulationBuilder, mailbox: Mailbox) -> Region<u64, Msg> {
        let world = self.clone();
        let entities = EntityType::send("mortal", move |id: &u64| world.begin(*id));
        let region = builder.entities(entities.num_shards(2).mailbox(mailbox));
        assert!(self.region.set(region).is_ok());
        region
    }
}

struct Mortal {
    id: u64,
    life: u32,
    world: World,
}

impl Mortal {
    fn note(&self, what: &str) {
        self.world.note(format!("{} {what}", self.life));
    }
}

impl Actor for Mortal {
    type Msg = Msg;

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Msg::Note(number) => self.note(&format!("got {number}")),
            Msg::Last(number) => {
                self.note(&format!("got {number}"));
                return Ok(Next::Stop);
            }
            Msg::Nap(length, leaves) => {
                let nap = ctx.sleep(MS * length as u32);
                let by = self.life;
                ctx.suspend(nap, move |this, (), _| {
                    this.note(&format!("wakes from the nap of {by}"));
                    Ok(Next::Continue)
                });
                if leaves {
                    return Ok(Next::Stop);
                }
            }
            Msg::HangAndLeave => {
                ctx.suspend(std::future::pending::<()>(), |_, (), _| Ok(Next::Continue));
                return Ok(Next::Stop);
            }
            Msg::Me(reply) => {
                let me = ctx.me();
                ctx.reply(reply, me);
            }
        }
        Ok(Next::Continue)
    }

    fn post_stop(&mut self, ctx: &mut Context<'_, Self>) {
        self.note("ends");
        let entity = |id: u64| self.world.region.get().unwrap().entity_ref(id);
        match self.world.at_end {
            AtEnd::Nothing => {}
            AtEnd::Suspends => ctx.suspend(std::future::pending::<()>(), |this, (), _| {
                this.note("continues after its end");
                Ok(Next::Continue)
            }),
            AtEnd::TellsItself if self.life == 1 => ctx.tell(entity(self.id), Msg::Note(99)),
            AtEnd::TellsItself => {}
            AtEnd::Spawns => ctx.spawn(async {}, |_| Msg::Note(50)),
            AtEnd::WakesAnother => ctx.tell(entity(self.id ^ 1), Msg::Note(0)),
        }
    }
}

impl Capture for Mortal {
    type View = u32;

    fn capture(&self) -> u32 {
        self.life
    }

    fn restore(&mut self, life: u32) {
        self.note(&format!("becomes {life}"));
        self.life = life;
    }
}

/// The way to everything through the first core, so that what is sent arrives in order.
fn first_core(sim: &Simulation) -> Handle {
    sim.handle().through(CoreId(0)).unwrap()
}

fn faults(sim: &Simulation) -> u64 {
    sim.stats().cores.iter().map(|core| core.faults).sum()
}

fn letters(sim: &Simulation) -> Vec<(Rejection, u64)> {
    let stats = sim.stats();
    let letters = stats.cores.into_iter().flat_map(|core| core.dead_letters);
    letters.filter(|(_, count)| *count > 0).collect()
}

fn tell_all(handle: &Handle, region: Region<u64, Msg>, messages: impl IntoIterator<Item = Msg>) {
    for message in messages {
        handle.tell(region.entity(&0), message);
    }
}

#[test]
fn a_continuation_never_reaches_the_next_life() {
    check_seeds(10, |mut builder| {
        let world = World::new(AtEnd::Nothing);
        let region = world.send(&mut builder, Mailbox::unbounded());
        let mut sim = builder.cores(1).start();
        let messages = [Msg::Nap(5, true), Msg::Nap(20, false), Msg::Note(2)];
        tell_all(&first_core(&sim), region, messages);
        sim.run_for(MS * 100);
        let expected = [
            "1 begins",
            "1 ends",
            "2 begins",
            "2 wakes from the nap of 2",
            "2 got 2",
        ];
        assert_eq!(world.lines(), expected);
        assert_eq!(faults(&sim), 0);
        sim
    });
}

#[test]
fn a_deadline_never_reaches_the_next_life() {
    check_seeds(10, |mut builder| {
        let world = World::new(AtEnd::Nothing);
        let region = world.send(&mut builder, Mailbox::unbounded());
        let bounds = Bounds {
            async_deadline: MS * 10,
            ..Bounds::default()
        };
        let mut sim = builder.cores(1).bounds(bounds).start();
        tell_all(&first_core(&sim), region, [Msg::HangAndLeave, Msg::Note(1)]);
        sim.run_for(MS * 50);
        sim.tell(region.entity(&0), Msg::Note(2));
        assert!(sim.run_until_idle());
        assert_eq!(
            world.lines(),
            ["1 begins", "1 ends", "2 begins", "2 got 1", "2 got 2"]
        );
        assert_eq!(faults(&sim), 0);
        sim
    });
}

#[test]
fn nobody_suspends_in_post_stop() {
    check_seeds(10, |mut builder| {
        let world = World::new(AtEnd::Suspends);
        let region = world.send(&mut builder, Mailbox::unbounded());
        let mut sim = builder.cores(1).start();
        tell_all(&first_core(&sim), region, [Msg::Last(1), Msg::Note(2)]);
        let plain = world.clone();
        let plain = sim.spawn(CoreId(0), move || plain.begin(7)).unwrap();
        sim.handle().stop(plain).unwrap();
        assert!(sim.run_until_idle());
        assert_eq!(faults(&sim), 2, "each refusal is counted");
        let core = &sim.stats().cores[0];
        assert_eq!((core.tasks, core.actors), (0, 1), "nothing of it stays");
        sim.run_for(Duration::from_secs(60));
        sim.tell(region.entity(&0), Msg::Note(3));
        assert!(sim.run_until_idle());
        let lines = world.lines();
        assert_eq!(lines.last().unwrap().split_once(' ').unwrap().1, "got 3");
        assert!(!lines.iter().any(|line| line.contains("continues")));
        assert_eq!(faults(&sim), 2);
        sim
    });
}

/// The next life is made when the last one has ended, so that it finds what `post_stop` has saved.
#[test]
fn one_life_ends_before_the_next_begins() {
    check_seeds(10, |mut builder| {
        let world = World::new(AtEnd::TellsItself);
        let region = world.send(&mut builder, Mailbox::unbounded());
        let mut sim = builder.cores(1).start();
        tell_all(&first_core(&sim), region, [Msg::Last(1), Msg::Note(2)]);
        assert!(sim.run_until_idle());
        // Its own last word comes last.
        let expected = [
            "1 begins", "1 got 1", "1 ends", "2 begins", "2 got 2", "2 got 99",
        ];
        assert_eq!(world.lines(), expected);
        assert_eq!(letters(&sim), []);
        sim
    });
}

/// It neither reaches the next life nor starts one, or an entity that saves its state could never be passivated.
#[test]
fn what_a_hook_has_asked_for_starts_nobody() {
    check_seeds(10, |mut builder| {
        let world = World::new(AtEnd::Spawns);
        let region = world.send(&mut builder, Mailbox::unbounded());
        let mut sim = builder.cores(1).start();
        tell_all(&first_core(&sim), region, [Msg::Last(1), Msg::Last(2)]);
        sim.run_for(MS * 50);
        let expected = [
            "1 begins", "1 got 1", "1 ends", "2 begins", "2 got 2", "2 ends",
        ];
        assert_eq!(world.lines(), expected);
        assert_eq!(letters(&sim), [(Rejection::NoSuchActor, 2)]);
        sim
    });
}

#[test]
fn mail_of_a_life_that_cannot_begin_is_accounted_for() {
    check_seeds(10, |mut builder| {
        let world = World {
            no_life_from: 2,
            ..World::new(AtEnd::Nothing)
        };
        let mailbox = Mailbox::bounded(2).policy(Policy::Backpressure);
        let region = world.send(&mut builder, mailbox);
        let mut sim = builder.cores(1).start();
        let handle = first_core(&sim);
        let sends: Vec<_> = [Msg::Last(1), Msg::Note(2), Msg::Note(3), Msg::Note(4)]
            .map(|message| handle.send(region.entity(&0), message))
            .into();
        assert!(sim.run_until_idle());
        let outcomes: Vec<_> = sends
            .into_iter()
            .map(|send| send.try_take().unwrap())
            .collect();
        let failed = Err(AskError::Rejected(Rejection::StartFailed));
        assert_eq!(outcomes, [Ok(()), Ok(()), failed, failed]);
        assert_eq!(letters(&sim), [(Rejection::StartFailed, 3)]);
        assert_eq!(faults(&sim), 1);
        assert_eq!(sim.stats().cores[0].actors, 0);
        sim
    });
}

#[test]
fn awaited_sends_are_kept_for_the_next_life() {
    check_seeds(20, |mut builder| {
        let world = World::new(AtEnd::Nothing);
        let capacity = 1 + (builder.seed() % 3) as u32;
        let mailbox = Mailbox::bounded(capacity).policy(Policy::Backpressure);
        let region = world.send(&mut builder, mailbox);
        let mut sim = builder.cores(2).start();
        let handle = first_core(&sim);
        handle.tell(region.entity(&0), Msg::Nap(10, false));
        assert!(sim.run_until_idle());
        let message = |number| match number {
            2 | 5 => Msg::Last(number),
            _ => Msg::Note(number),
        };
        let sends: Vec<_> = (1..9)
            .map(|number| handle.send(region.entity(&0), message(number)))
            .collect();
        sim.run_for(MS * 50);
        for send in sends {
            assert_eq!(send.try_take().unwrap(), Ok(()));
        }
        let got: Vec<_> = world
            .lines()
            .into_iter()
            .filter(|line| line.contains("got"))
            .collect();
        let expected = [
            "1 got 1", "1 got 2", "2 got 3", "2 got 4", "2 got 5", "3 got 6", "3 got 7", "3 got 8",
        ];
        assert_eq!(got, expected);
        sim
    });
}

/// The address of an entity's present life, and a nap, during which its mail waits.
fn put_to_sleep(sim: &mut Simulation, region: Region<u64, Msg>) -> ActorRef<Msg> {
    let life = sim.ask(region.entity(&0), Msg::Me).unwrap();
    sim.tell(region.entity(&0), Msg::Nap(10, false));
    assert!(sim.run_until_idle());
    life
}

#[test]
fn a_stop_is_for_one_life() {
    check_seeds(10, |mut builder| {
        let world = World::new(AtEnd::Nothing);
        let region = world.send(&mut builder, Mailbox::unbounded());
        let mut sim = builder.cores(1).start();
        let life = put_to_sleep(&mut sim, region);
        let handle = first_core(&sim);
        tell_all(&handle, region, [Msg::Last(1), Msg::Note(2)]);
        // It comes too late: the life that it is for ends of its own accord.
        handle.stop(life).unwrap();
        tell_all(&handle, region, [Msg::Note(3)]);
        sim.run_for(MS * 50);
        let lines = world.lines();
        assert_eq!(
            lines[2..],
            ["1 got 1", "1 ends", "2 begins", "2 got 2", "2 got 3"]
        );
        sim
    });
}

#[test]
fn a_stop_moves_with_its_shard() {
    check_seeds(10, |mut builder| {
        let world = World::new(AtEnd::Nothing);
        let kind = builder.seed() % 3;
        let begin = {
            let world = world.clone();
            move |id: &u64| world.begin(*id)
        };
        let entities = match kind {
            0 => EntityType::send("mortal", begin),
            1 => EntityType::captured("mortal", begin),
            _ => EntityType::ephemeral("mortal", begin),
        };
        let region = builder.entities(entities.num_shards(2));
        let mut sim = builder.cores(2).start();
        let shard = region.shard_of(&0);
        let from = sim.owner_of(shard).unwrap();
        let life = put_to_sleep(&mut sim, region);
        let handle = sim.handle().through(from).unwrap();
        tell_all(&handle, region, [Msg::Note(1)]);
        handle.stop(life).unwrap();
        handle.stop(life).unwrap();
        tell_all(&handle, region, [Msg::Note(2)]);
        assert!(sim.run_until_idle());
        sim.move_shard(shard, CoreId(1 - from.0)).unwrap();
        sim.run_for(MS * 50);
        let expected: &[&str] = match kind {
            0 => &["1 got 1", "1 ends", "2 begins", "2 got 2"],
            1 => &[
                "2 begins",
                "2 becomes 1",
                "1 got 1",
                "1 ends",
                "3 begins",
                "3 got 2",
            ],
            // It was for the life that ended when its shard left.
            _ => &["1 ends", "2 begins", "2 got 1", "2 got 2"],
        };
        assert_eq!(world.lines()[2..], *expected, "{kind}");
        sim
    });
}

#[test]
fn stopping_often_costs_no_more_than_once() {
    check_seeds(4, |builder| {
        let through = CoreId((builder.seed() % 2) as u16);
        let world = World::new(AtEnd::Nothing);
        let mut sim = builder.cores(2).start();
        let begin = world.clone();
        let spawned = sim
            .handle()
            .spawn_with(CoreId(0), Mailbox::bounded(3), move || begin.begin(0));
        let actor = sim.run_until(spawned).unwrap().unwrap();
        sim.tell(actor, Msg::Nap(10, false));
        assert!(sim.run_until_idle());
        let handle = sim.handle().through(through).unwrap();
        (1..4).for_each(|number| handle.tell(actor, Msg::Note(number)));
        for _ in 0..20 {
            (0..100).for_each(|_| handle.stop(actor).unwrap());
            assert!(sim.run_until_idle());
        }
        assert_eq!(sim.stats().cores[0].queued_messages, 4);
        sim.run_for(MS * 50);
        let lines = world.lines();
        assert_eq!(
            lines[1..],
            [
                "1 wakes from the nap of 1",
                "1 got 1",
                "1 got 2",
                "1 got 3",
                "1 ends"
            ]
        );
        assert_eq!(sim.stats().cores[0].actors, 0);
        sim
    });
}

/// Stops and then tries to tell, over and over, while the other core takes nothing.
struct Stopper(Arc<Mutex<Vec<Result<(), Rejection>>>>);

impl Actor for Stopper {
    type Msg = (Vec<ActorRef<Msg>>, usize);

    fn receive(&mut self, msg: Self::Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let (actors, times) = msg;
        for _ in 0..times {
            actors.iter().for_each(|actor| ctx.stop(*actor));
        }
        let told = ctx.try_tell(actors[0], Msg::Note(1));
        let told = told.map_err(|refused| refused.why);
        self.0.lock().unwrap().push(told);
        Ok(Next::Continue)
    }
}

/// Stops count against the outbox; none is lost, and repeated ones take no room.
#[test]
fn stops_for_another_core_are_bounded() {
    check_seeds(4, |builder| {
        let world = World::new(AtEnd::Nothing);
        let bounds = Bounds {
            queued_messages: 1,
            outbox_messages: 20,
            batch_messages: 4,
            lane_batches: 1,
            ..Bounds::default()
        };
        let mut sim = builder.cores(2).bounds(bounds).start();
        let mortals: Vec<_> = (0..40)
            .map(|id| {
                let world = world.clone();
                sim.spawn(CoreId(0), move || world.begin(id)).unwrap()
            })
            .collect();
        let told = Arc::new(Mutex::new(Vec::new()));
        let stopper = Stopper(told.clone());
        let stopper = sim.spawn(CoreId(1), move || stopper).unwrap();
        // The budget of the first core is used up until this one wakes, so that it takes nothing.
        let handle = first_core(&sim);
        handle.tell(mortals[0], Msg::Nap(10, false));
        assert!(sim.run_until_idle());
        handle.tell(mortals[0], Msg::Note(0));
        assert!(sim.run_until_idle());
        for times in [1, 1_000] {
            sim.tell(stopper, (mortals.clone(), times));
            sim.run_for(MS);
            let lanes = &sim.stats().cores[1].lanes;
            let waiting: usize = lanes.iter().map(|lane| lane.outbox).sum();
            // All but the few batches for which the lane had room, and whose stops may be repeated once.
            assert!((28..=40).contains(&waiting), "{waiting}");
        }
        assert_eq!(
            *told.lock().unwrap(),
            [Err(Rejection::OutboxFull), Err(Rejection::OutboxFull)]
        );
        sim.run_for(MS * 50);
        assert_eq!(sim.stats().cores[0].actors, 0, "no stop was lost");
        let ends = |line: &String| line.ends_with("ends");
        assert_eq!(world.lines().iter().filter(|line| ends(line)).count(), 40);
        sim
    });
}

/// A hook that starts other entities does not multiply the timers of passivation.
#[test]
fn passivation_has_one_timer() {
    check_seeds(5, |mut builder| {
        let world = World::new(AtEnd::WakesAnother);
        let begin = world.clone();
        let entities = EntityType::send("mortal", move |id: &u64| begin.begin(*id));
        let region = builder.entities(entities.num_shards(2).passivate_after(MS * 5));
        assert!(world.region.set(region).is_ok());
        let mut sim = builder.cores(1).start();
        sim.tell(region.entity(&0), Msg::Note(0));
        sim.run_for(MS * 200);
        assert!(world.lives.load(Ordering::Relaxed) > 20);
        let timers = sim.stats().cores[0].timers;
        assert!(timers <= 1, "{timers} timers");
        sim
    });
}

/// An entity that has been restored on another core ends there with its hook, even if nothing came meanwhile.
#[test]
fn a_restored_entity_ends_with_its_hook() {
    check_seeds(6, |mut builder| {
        let world = World::new(AtEnd::Nothing);
        let begin = world.clone();
        let entities = EntityType::captured("mortal", move |id: &u64| begin.begin(*id));
        let region = builder.entities(entities.num_shards(2).passivate_after(MS * 50));
        let mut sim = builder.cores(2).start();
        sim.tell(region.entity(&0), Msg::Note(1));
        assert!(sim.run_until_idle());
        let shard = region.shard_of(&0);
        let from = sim.owner_of(shard).unwrap();
        sim.move_shard(shard, CoreId(1 - from.0)).unwrap();
        sim.run_for(MS * 200);
        assert_eq!(
            world.lines(),
            ["1 begins", "1 got 1", "2 begins", "2 becomes 1", "1 ends"]
        );
        sim
    });
}

/// Tells an actor something when it is dropped, and panics.
struct Testament {
    scope: Scope,
    to: ActorRef<Msg>,
}

impl Drop for Testament {
    fn drop(&mut self) {
        self.scope.tell(self.to, Msg::Note(7));
        panic!("a testament is opened, on purpose");
    }
}

/// Suspends itself for good, with a testament.
struct Waiter;

impl Actor for Waiter {
    type Msg = ActorRef<Msg>;

    fn receive(&mut self, to: ActorRef<Msg>, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let scope = ctx.scope();
        let testament = Testament { scope, to };
        let forever = async move {
            let _testament = testament;
            std::future::pending::<()>().await;
        };
        ctx.suspend(forever, |_, (), _| Ok(Next::Continue));
        Ok(Next::Continue)
    }
}

/// What a future holds can use its scope to the end, whether its deadline or that of the node ends it, and its panic
/// ends nothing else.
#[test]
fn a_future_is_dropped_while_its_scope_works() {
    check_seeds(6, |builder| {
        let world = World::new(AtEnd::Nothing);
        let at_deadline = builder.seed().is_multiple_of(2);
        let mut sim = builder.cores(1).start();
        let heir = world.clone();
        let heir = sim.spawn(CoreId(0), move || heir.begin(0)).unwrap();
        for _ in 0..2 {
            let waiter = sim.spawn(CoreId(0), || Waiter).unwrap();
            sim.tell(waiter, heir);
        }
        assert!(sim.run_until_idle());
        if at_deadline {
            sim.run_for(Duration::from_secs(11));
            assert_eq!(world.lines(), ["1 begins", "1 got 7", "1 got 7"]);
            assert_eq!((faults(&sim), sim.stats().cores[0].actors), (2, 1));
        } else {
            let closing = sim.shutdown(Duration::ZERO);
            assert_eq!(world.lines(), ["1 begins", "1 ends"]);
            assert_eq!(closing.stats.cores[0].dead_letters_total(), 2);
        }
        sim
    });
}

struct Caller(Arc<Mutex<Vec<String>>>);

impl Actor for Caller {
    type Msg = Option<Result<(), TaskError>>;

    fn receive(&mut self, msg: Self::Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let note = |lines: &Arc<Mutex<Vec<String>>>, line| lines.lock().unwrap().push(line);
        match msg {
            Some(outcome) => note(&self.0, format!("{outcome:?}")),
            None => {
                let lines = self.0.clone();
                ctx.spawn_blocking(move || note(&lines, "ran".to_owned()), Some);
                ctx.spawn_actor_on(
                    CoreId(1),
                    || Caller(Arc::default()),
                    |spawned| {
                        assert!(spawned.is_err(), "its address would not have come");
                        Some(Ok(()))
                    },
                );
            }
        }
        Ok(Next::Continue)
    }
}

/// What is said never to have run has not run.
#[test]
fn a_call_without_room_for_its_result_is_not_begun() {
    check_seeds(5, |builder| {
        let bounds = Bounds {
            tasks: 0,
            ..Bounds::default()
        };
        let mut sim = builder.cores(2).bounds(bounds).start();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let caller = Caller(lines.clone());
        let caller = sim.spawn(CoreId(0), move || caller).unwrap();
        sim.tell(caller, None);
        sim.run_for(MS * 50);
        assert_eq!(*lines.lock().unwrap(), ["Err(TooManyTasks)", "Ok(())"]);
        let actors: usize = sim.stats().cores.iter().map(|core| core.actors).sum();
        assert_eq!(actors, 1);
        sim
    });
}
