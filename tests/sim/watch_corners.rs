//! Death watch where it meets something else: the end of the runtime, full lanes, ids that panic.

use corecast::base::ids::CoreId;
use corecast::sim::{Bounds, Simulation, check_seeds};
use corecast::{
    Actor, ActorRef, ActorStopped, AnyActorRef, Capture, Context, EntityId, EntityType, Fault,
    Next, Region, Rejection, ReplyTo, StopCause, Terminated,
};
use std::cell::Cell;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

thread_local! {
    /// The next id that is compared panics.
    static ARMED: Cell<bool> = const { Cell::new(false) };
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Id(u64);

impl EntityId for Id {
    type Key = Id;

    fn from_key(key: &Id) -> Id {
        key.clone()
    }

    fn as_key(&self) -> &Id {
        self
    }

    fn is(&self, key: &Id) -> bool {
        assert!(!ARMED.replace(false), "on purpose");
        self == key
    }

    fn stable_hash(key: &Id) -> u64 {
        key.0
    }
}

/// Counts what it is sent, until it is told to stop.
#[derive(Default)]
struct Counter(u32);

#[derive(Debug)]
enum Count {
    Up,
    Get(ReplyTo<u32>),
    Stop,
}

impl Actor for Counter {
    type Msg = Count;

    fn receive(&mut self, msg: Count, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Count::Up => self.0 += 1,
            Count::Get(reply_to) => ctx.reply(reply_to, self.0),
            Count::Stop => return Ok(Next::Stop),
        }
        Ok(Next::Continue)
    }
}

/// Watches actors and entities.
struct Watcher {
    counters: Region<Id, Count>,
    heard: Vec<Option<StopCause>>,
    to_tell: Option<ReplyTo<Option<StopCause>>>,
}

#[derive(Debug)]
enum Watch {
    /// Answer when it has ended.
    Await(AnyActorRef, ReplyTo<Option<StopCause>>),
    Gone(Terminated),
    EntityGone(Option<StopCause>),
    /// Watch the entity of this number, send it something, and have the next id panic that is compared.
    Arm(u64),
    /// Watch somebody and stop doing so, a thousand times. How often was that refused?
    Dither(AnyActorRef, ReplyTo<usize>),
    /// The same with an entity.
    DitherAt(u64, ReplyTo<usize>),
    Heard(ReplyTo<Vec<Option<StopCause>>>),
    /// Watch the entity of this number.
    At(u64),
}

const TIMES: usize = 1_000;

impl Actor for Watcher {
    type Msg = Watch;

    fn receive(&mut self, msg: Watch, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let counters = self.counters;
        match msg {
            Watch::Await(actor, reply_to) => {
                self.to_tell = Some(reply_to);
                ctx.watch(actor, Watch::Gone)?;
            }
            Watch::Gone(Terminated { cause, .. }) => {
                if let Some(reply_to) = self.to_tell.take() {
                    ctx.reply(reply_to, cause);
                }
            }
            Watch::EntityGone(cause) => self.heard.push(cause),
            Watch::Arm(id) => {
                ctx.watch_entity(counters.entity(&Id(id)), Watch::EntityGone)?;
                ctx.tell(counters.entity(&Id(id)), Count::Up);
                ctx.watch_entity(counters.entity(&Id(id)), Watch::EntityGone)?;
                ARMED.set(true);
            }
            Watch::Dither(actor, reply_to) => {
                let mut refused = 0;
                for _ in 0..TIMES {
                    match ctx.watch(actor, Watch::Gone) {
                        Ok(()) => assert!(ctx.unwatch(actor)),
                        Err(why) => {
                            assert_eq!(why, Rejection::OutboxFull);
                            refused += 1;
                        }
                    }
                }
                ctx.reply(reply_to, refused);
            }
            Watch::DitherAt(id, reply_to) => {
                let mut refused = 0;
                for _ in 0..TIMES {
                    match ctx.watch_entity(counters.entity(&Id(id)), Watch::EntityGone) {
                        Ok(()) => assert_eq!(ctx.unwatch_entity(counters.entity(&Id(id))), 1),
                        Err(why) => {
                            assert!(matches!(why, Rejection::OutboxFull | Rejection::Moving));
                            refused += 1;
                        }
                    }
                }
                ctx.reply(reply_to, refused);
            }
            Watch::At(id) => {
                ctx.watch_entity(counters.entity(&Id(id)), Watch::EntityGone)?;
            }
            Watch::Heard(reply_to) => ctx.reply(reply_to, self.heard.clone()),
        }
        Ok(Next::Continue)
    }
}

/// A watcher on one core, and a shard of counters on the other.
fn apart(bounds: Bounds, seed: u64) -> (Simulation, ActorRef<Watch>, Region<Id, Count>) {
    let kind = EntityType::send("counter", |_: &Id| Counter::default());
    apart_of(kind, bounds, seed)
}

fn apart_of<A: Actor<Msg = Count>>(
    kind: EntityType<A, Id>,
    bounds: Bounds,
    seed: u64,
) -> (Simulation, ActorRef<Watch>, Region<Id, Count>) {
    let mut builder = Simulation::builder(seed).cores(2).bounds(bounds);
    let counters = builder.entities(kind.num_shards(1));
    let mut sim = builder.start();
    let owner = sim.owner_of(counters.shard_of(&Id(1))).unwrap();
    let watcher = move || Watcher {
        counters,
        heard: vec![],
        to_tell: None,
    };
    let watcher = sim.spawn(CoreId(1 - owner.0), watcher).unwrap();
    (sim, watcher, counters)
}

#[test]
fn whoever_ends_while_the_runtime_drains_is_still_heard_of() {
    check_seeds(20, |mut builder| {
        let kind = EntityType::send("counter", |_: &Id| Counter::default());
        let counters = builder.entities(kind.num_shards(1));
        let mut sim = builder.cores(2).start();
        let heard = [0, 1].map(|core| {
            let watcher = move || Watcher {
                counters,
                heard: vec![],
                to_tell: None,
            };
            let watcher = sim.spawn(CoreId(core), watcher).unwrap();
            let target = sim.spawn(CoreId(1), Counter::default).unwrap();
            let end = sim.handle().ask(watcher, move |reply_to| {
                Watch::Await(target.into(), reply_to)
            });
            (target, end)
        });
        sim.run_until_idle();
        let heard = heard.map(|(target, end)| {
            sim.tell(target, Count::Stop);
            end
        });
        assert!(sim.shutdown(SECOND).drained);
        for (core, end) in heard.into_iter().enumerate() {
            let end = end.try_take().expect("every ask ends");
            assert_eq!(end, Ok(Some(StopCause::Wanted)), "on core {core}");
        }
        sim
    });
}

#[test]
fn a_watch_whose_id_panics_where_it_arrives_ends_and_takes_nothing_along() {
    for holds in [false, true] {
        let mut met = 0;
        for seed in 0..20 {
            let (mut sim, watcher, counters) = apart(Bounds::default(), seed);
            let shard = counters.shard_of(&Id(1));
            sim.tell(counters.entity(&Id(1)), Count::Up);
            sim.run_until_idle();
            let moved = holds.then(|| {
                let owner = sim.owner_of(shard).unwrap();
                let moved = sim.start_move(shard, CoreId(1 - owner.0));
                sim.run_for(Duration::from_nanos(seed * 150));
                moved
            });
            sim.tell(watcher, Watch::Arm(1));
            if let Some(moved) = moved {
                assert_eq!(sim.run_until(moved).unwrap(), Ok(()));
            }
            sim.run_until_idle();
            // A shard that had arrived where the watcher is met it before.
            if ARMED.replace(false) {
                continue;
            }
            met += 1;
            assert_eq!(sim.ask(watcher, Watch::Heard), Ok(vec![None]));
            assert_eq!(sim.ask(counters.entity_ref(Id(1)), Count::Get), Ok(2));
            sim.tell(counters.entity(&Id(1)), Count::Stop);
            sim.run_until_idle();
            let wanted = Some(StopCause::Wanted);
            assert_eq!(sim.ask(watcher, Watch::Heard), Ok(vec![None, wanted]));
        }
        assert!(met > 0, "holds: {holds}");
    }
}

#[test]
fn watches_that_begin_and_end_fill_no_outbox_beyond_its_bound() {
    let tight = Bounds {
        outbox_messages: 16,
        held_messages: 16,
        lane_batches: 1,
        batch_messages: 4,
        ..Bounds::default()
    };
    let (mut sim, watcher, counters) = apart(tight, 1);
    let shard = counters.shard_of(&Id(1));
    let owner = sim.owner_of(shard).unwrap();
    let there = sim.spawn(owner, Counter::default).unwrap();
    let there = AnyActorRef::from(there);
    for _ in 0..3 {
        let refused = sim.ask(watcher, move |reply_to| Watch::Dither(there, reply_to));
        assert!(refused.unwrap() > TIMES - 50, "{refused:?}");
        let refused = sim.ask(watcher, |reply_to| Watch::DitherAt(1, reply_to));
        assert!(refused.unwrap() > TIMES - 50, "{refused:?}");
        sim.run_until_idle();
    }
    // There is room again, and nothing is left of them.
    let ended = sim
        .handle()
        .ask(watcher, move |reply_to| Watch::Await(there, reply_to));
    sim.run_until_idle();
    sim.shutdown(SECOND);
    assert!(ended.try_take().expect("every ask ends").is_err());
}

/// Fails at each message that it counts, and cannot be captured.
struct Frail;

impl Actor for Frail {
    type Msg = Count;

    fn receive(&mut self, msg: Count, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Count::Up => return Err(Fault::new("on purpose")),
            Count::Get(reply_to) => ctx.reply(reply_to, 0),
            Count::Stop => return Ok(Next::Stop),
        }
        Ok(Next::Continue)
    }
}

impl Capture for Frail {
    type View = ();

    fn capture(&self) {
        panic!("on purpose")
    }

    fn restore(&mut self, (): ()) {}
}

/// Starts an entity, has it fail or not, and moves it. What its watcher and the subscribers have heard of its end.
fn moved(kind: EntityType<Frail, Id>, fails: bool) -> (Vec<Option<StopCause>>, Vec<StopCause>) {
    let (mut sim, watcher, frail) = apart_of(kind, Bounds::default(), 1);
    let stopped = sim.handle().events::<ActorStopped>(10).unwrap();
    assert_eq!(sim.ask(frail.entity_ref(Id(1)), Count::Get), Ok(0));
    sim.tell(watcher, Watch::At(1));
    if fails {
        sim.tell(frail.entity(&Id(1)), Count::Up);
    }
    sim.run_for(SECOND / 50);
    let shard = frail.shard_of(&Id(1));
    let owner = sim.owner_of(shard).unwrap();
    assert_eq!(sim.move_shard(shard, CoreId(1 - owner.0)), Ok(()));
    let heard = sim.ask(watcher, Watch::Heard).unwrap();
    let stopped = std::iter::from_fn(|| stopped.try_recv());
    (heard, stopped.map(|stopped| stopped.cause).collect())
}

#[test]
fn a_life_that_ends_by_a_move_has_one_end_for_all() {
    let captured = || EntityType::captured("frail", |_: &Id| Frail).num_shards(1);
    let ended = |cause| (vec![Some(cause)], vec![cause]);
    assert_eq!(moved(captured(), false), ended(StopCause::Failed));
    // One that waits for its restart.
    assert_eq!(moved(captured(), true), ended(StopCause::Wanted));
    let ephemeral = EntityType::ephemeral("frail", |_: &Id| Frail).num_shards(1);
    assert_eq!(moved(ephemeral, false), ended(StopCause::Wanted));
}
