//! Code of a user's that panics where no handler is running: in what ids, errors, messages, replies, states, futures and
//! factories bring along. It takes down what it belongs to, is counted where it has a type, and its core goes on.

use corecast::base::ids::CoreId;
use corecast::sim::{Simulation, SimulationBuilder, check_seeds};
use corecast::{
    Actor, ActorRef, Capture, Context, CoreStats, EntityId, EntityType, Fault, Next, Region,
    ReplyTo, ShardId, ShardKey,
};
use std::cell::Cell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// Panics when it is dropped. (While another panic is under way it must not: Rust ends the process then.)
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a bomb was dropped");
    }
}

/// What an id has the core call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    StableHash,
    Hash,
    Is,
    FromKey,
    Clone,
    Debug,
    Drop,
}

thread_local! {
    /// Which call on the id 13 panics, after so many that do not.
    static ARMED: Cell<Option<(Call, u32)>> = const { Cell::new(None) };
}

struct Id(u64);

impl Id {
    fn called(&self, call: Call) {
        if self.0 != 13 || std::thread::panicking() {
            return;
        }
        match ARMED.get() {
            Some((armed, 0)) if armed == call => {
                ARMED.set(None);
                panic!("{call:?} on purpose");
            }
            Some((armed, left)) if armed == call => ARMED.set(Some((armed, left - 1))),
            _ => {}
        }
    }
}

impl Drop for Id {
    fn drop(&mut self) {
        self.called(Call::Drop);
    }
}

impl Clone for Id {
    fn clone(&self) -> Id {
        self.called(Call::Clone);
        Id(self.0)
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Id) -> bool {
        self.0 == other.0
    }
}

impl Eq for Id {}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.called(Call::Debug);
        write!(f, "id {}", self.0)
    }
}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.called(Call::Hash);
        self.0.hash(state);
    }
}

impl EntityId for Id {
    type Key = Id;

    fn from_key(key: &Id) -> Id {
        key.called(Call::FromKey);
        Id(key.0)
    }

    fn as_key(&self) -> &Id {
        self
    }

    fn is(&self, key: &Id) -> bool {
        self.called(Call::Is);
        self.0 == key.0
    }

    fn stable_hash(key: &Id) -> u64 {
        key.called(Call::StableHash);
        key.0
    }
}

/// An error that cannot be shown.
#[derive(Debug)]
struct Unspeakable(Bomb);

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("it cannot be shown, on purpose")
    }
}

impl std::error::Error for Unspeakable {}

#[derive(Debug)]
enum Msg {
    Add,
    Get(ReplyTo<u64>),
    Fail,
    Throw,
    Stop,
    Carry(Bomb),
    Bomb(ReplyTo<Bomb>),
    Sleep,
}

#[derive(Default)]
struct Counter {
    count: u64,
    _bomb: Option<Bomb>,
    /// Panics in `restore`.
    stubborn: bool,
}

impl Counter {
    fn armed() -> Counter {
        Counter {
            _bomb: Some(Bomb),
            ..Counter::default()
        }
    }
}

impl Actor for Counter {
    type Msg = Msg;

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Msg::Add => self.count += 1,
            Msg::Get(reply) => ctx.reply(reply, self.count),
            Msg::Fail => Err(Unspeakable(Bomb))?,
            Msg::Throw => std::panic::panic_any(Bomb),
            Msg::Stop => return Ok(Next::Stop),
            Msg::Carry(bomb) => std::mem::forget(bomb),
            Msg::Bomb(reply) => ctx.reply(reply, Bomb),
            Msg::Sleep => {
                let nap = ctx.sleep(Duration::from_secs(100));
                let bomb = async move {
                    let _bomb = Bomb;
                    nap.await;
                };
                ctx.spawn(bomb, |_| Msg::Add);
            }
        }
        Ok(Next::Continue)
    }
}

impl Capture for Counter {
    type View = u64;

    fn capture(&self) -> u64 {
        self.count
    }

    fn restore(&mut self, count: u64) {
        assert!(!self.stubborn, "restore, on purpose");
        self.count = count;
    }
}

fn faults(sim: &Simulation) -> u64 {
    sim.stats().cores.iter().map(|core| core.faults).sum()
}

/// All cores still serve others.
#[track_caller]
fn assert_alive(sim: &mut Simulation, bystanders: &[ActorRef<Msg>], what: &str) {
    for bystander in bystanders {
        let answer = sim.ask(*bystander, Msg::Get);
        assert_eq!(answer, Ok(0), "{what}: {}", bystander.core());
    }
}

fn bystanders(sim: &mut Simulation) -> Vec<ActorRef<Msg>> {
    (0..sim.handle().cores() as u16)
        .map(|core| sim.spawn(CoreId(core), Counter::default).unwrap())
        .collect()
}

/// A node of two cores whose entities live on the second.
fn remote(mut builder: SimulationBuilder) -> (Simulation, Region<Id, Msg>) {
    let region =
        builder.entities(EntityType::send("counter", |_: &Id| Counter::default()).num_shards(1));
    let key = region.shard_of(&Id(1));
    let mut sim = builder.cores(2).start();
    if sim.owner_of(key) != Some(CoreId(1)) {
        sim.move_shard(key, CoreId(1)).unwrap();
    }
    (sim, region)
}

#[test]
fn an_id_that_panics_takes_one_message_down() {
    for call in [
        Call::StableHash,
        Call::Hash,
        Call::Is,
        Call::FromKey,
        Call::Debug,
        Call::Drop,
    ] {
        for after in 0..4 {
            check_seeds(2, |builder| {
                ARMED.set(None);
                let (mut sim, region) = remote(builder);
                let bystanders = bystanders(&mut sim);
                let handle = sim.handle().through(CoreId(0)).unwrap();
                for round in 1..=3 {
                    if round == 2 {
                        ARMED.set(Some((call, after)));
                    }
                    // One batch: what comes behind the bad one is not lost with it.
                    for id in [1, 13, 2, 13, 3] {
                        handle.tell(region.entity_ref(Id(id)), Msg::Add);
                    }
                    assert!(sim.run_until_idle());
                    let lost: u64 = [1, 2, 3]
                        .map(|id| {
                            // The ask, too, may be the one that meets it; it goes off once.
                            let count = sim.ask(region.entity(&Id(id)), Msg::Get);
                            let again = |_| sim.ask(region.entity(&Id(id)), Msg::Get);
                            round - count.or_else(again).unwrap()
                        })
                        .iter()
                        .sum();
                    // Where the hashes of two ids agree in what the table looks at first, the message to the one meets the
                    // other, and the panic takes that one down.
                    assert!(
                        lost <= u64::from(matches!(call, Call::Is)),
                        "{call:?} {after}: {lost}"
                    );
                }
                let went_off = ARMED.take().is_none();
                // What it took down, tell or ask, is a dead letter.
                let letters: u64 = sim
                    .stats()
                    .cores
                    .iter()
                    .map(CoreStats::dead_letters_total)
                    .sum();
                let is_lost = went_off && !matches!(call, Call::Debug | Call::Drop);
                assert_eq!(letters, u64::from(is_lost), "{call:?} {after}");
                let count = sim.ask(region.entity(&Id(13)), Msg::Get).unwrap();
                assert!((5..=6).contains(&count), "{count}");
                assert_alive(&mut sim, &bystanders, "an id");
                // On its way out the job was its caller's; on the other core it was a fault of the type.
                assert!(faults(&sim) <= u64::from(went_off));
                sim
            });
        }
    }
}

#[test]
fn an_id_that_panics_while_its_table_grows_loses_nobody_else() {
    check_seeds(3, |builder| {
        ARMED.set(None);
        let (mut sim, region) = remote(builder);
        for id in 0..20 {
            sim.tell(region.entity(&Id(id)), Msg::Add);
        }
        assert!(sim.run_until_idle());
        // If its hash is asked for, then because the table grows, since nobody sends to it.
        ARMED.set(Some((Call::Hash, 0)));
        for id in 20..200 {
            sim.tell(region.entity(&Id(id)), Msg::Add);
        }
        assert!(sim.run_until_idle());
        ARMED.set(None);
        let counts: u64 = (0..200)
            .map(|id| sim.ask(region.entity(&Id(id)), Msg::Get).unwrap())
            .sum();
        assert_eq!(counts, 200);
        assert_eq!(faults(&sim), 0);
        let active: usize = sim.stats().cores.iter().map(|core| core.actors).sum();
        assert_eq!(active, 200);
        sim
    });
}

#[test]
fn an_id_that_panics_during_a_move_takes_its_entity_down() {
    for call in [
        Call::Clone,
        Call::Hash,
        Call::Debug,
        Call::Drop,
        Call::FromKey,
        Call::StableHash,
    ] {
        for after in 0..3 {
            check_seeds(2, |builder| {
                ARMED.set(None);
                let (mut sim, region) = remote(builder);
                let bystanders = bystanders(&mut sim);
                for id in 10..20 {
                    sim.tell(region.entity(&Id(id)), Msg::Add);
                }
                assert!(sim.run_until_idle());
                ARMED.set(Some((call, after)));
                let key = region.shard_of(&Id(1));
                let moved = sim.start_move(key, CoreId(0));
                for id in 10..20 {
                    sim.tell(region.entity_ref(Id(id)), Msg::Add);
                }
                assert_eq!(sim.run_until(moved).unwrap(), Ok(()), "{call:?} {after}");
                assert!(sim.run_until_idle());
                ARMED.set(None);
                for id in (10..20).filter(|id| *id != 13) {
                    assert_eq!(
                        sim.ask(region.entity(&Id(id)), Msg::Get),
                        Ok(2),
                        "{call:?} {after}"
                    );
                }
                assert!(sim.ask(region.entity(&Id(13)), Msg::Get).is_ok());
                assert_alive(&mut sim, &bystanders, "an id on the move");
                sim
            });
        }
    }
}

#[test]
fn a_fault_that_cannot_be_shown_or_dropped_and_a_panic_that_throws_a_bomb() {
    check_seeds(3, |builder| {
        let (mut sim, region) = remote(builder);
        let bystanders = bystanders(&mut sim);
        for (n, msg) in [(1, Msg::Fail), (2, Msg::Throw)] {
            let victim = sim.spawn(CoreId(1), Counter::armed).unwrap();
            sim.tell(victim, msg);
            assert!(sim.run_until_idle());
            assert!(sim.ask(victim, Msg::Get).is_err());
            assert_eq!(faults(&sim), n);
            assert_alive(&mut sim, &bystanders, "a fault");
        }
        for (n, msg) in [(3, Msg::Fail), (4, Msg::Throw)] {
            sim.tell(region.entity(&Id(1)), msg);
            assert!(sim.run_until_idle());
            assert_eq!(
                sim.ask(region.entity(&Id(1)), Msg::Get),
                Ok(0),
                "it starts afresh"
            );
            assert_eq!(faults(&sim), n);
        }
        // Thrown from where the core itself calls.
        let thrown = sim.spawn(CoreId(0), || -> Counter { std::panic::panic_any(Bomb) });
        assert!(thrown.is_err());
        let future = sim
            .handle()
            .run_on(CoreId(0), |_| async { std::panic::panic_any(Bomb) as () });
        assert!(sim.run_until(future).unwrap().is_err());
        assert_alive(&mut sim, &bystanders, "a thrown bomb");
        sim
    });
}

#[test]
fn a_state_that_cannot_be_restored_starts_afresh() {
    check_seeds(3, |mut builder| {
        let stubborn = |id: &u64| Counter {
            _bomb: Some(Bomb),
            stubborn: *id == 13,
            ..Counter::default()
        };
        let region = builder.entities(EntityType::captured("stubborn", stubborn).num_shards(1));
        let mut sim = builder.cores(2).start();
        let bystanders = bystanders(&mut sim);
        for id in 10..16 {
            sim.tell(region.entity(&id), Msg::Add);
        }
        assert!(sim.run_until_idle());
        let key = ShardKey {
            entity_type: region.type_id(),
            shard: ShardId(0),
        };
        let target = CoreId(1 - sim.owner_of(key).unwrap().0);
        sim.move_shard(key, target).unwrap();
        for id in 10..16 {
            let count = sim.ask(region.entity(&id), Msg::Get);
            assert_eq!(count, Ok(u64::from(id != 13)), "entity {id}");
        }
        assert_eq!(faults(&sim), 1);
        assert_alive(&mut sim, &bystanders, "a move");
        sim
    });
}

#[test]
fn bombs_in_mailboxes_replies_and_futures_go_off_one_by_one() {
    check_seeds(5, |builder| {
        let (mut sim, region) = remote(builder);
        let bystanders = bystanders(&mut sim);
        let victim = sim.spawn(CoreId(0), Counter::armed).unwrap();
        let handle = sim.handle();
        handle.tell(victim, Msg::Stop);
        for _ in 0..3 {
            handle.tell(victim, Msg::Carry(Bomb));
        }
        assert!(sim.run_until_idle());
        assert_alive(&mut sim, &bystanders, "dead letters");

        let bomber = sim.spawn(CoreId(1), Counter::default).unwrap();
        for core in [CoreId(0), CoreId(1)] {
            // Nobody waits for the reply any more when it comes.
            drop(handle.through(core).unwrap().ask(bomber, Msg::Bomb));
        }
        assert!(sim.run_until_idle());
        let far = sim.handle().run_on(CoreId(0), move |scope| async move {
            drop(scope.ask(bomber, Msg::Bomb));
        });
        sim.run_until(far).unwrap().unwrap();
        assert!(sim.run_until_idle());
        assert_alive(&mut sim, &bystanders, "replies");

        // At the end: futures, what is queued from outside, what lies in mailboxes and lanes.
        for _ in 0..3 {
            sim.tell(bomber, Msg::Sleep);
        }
        assert!(sim.run_until_idle());
        for _ in 0..3 {
            drop(handle.send(region.entity(&Id(1)), Msg::Carry(Bomb)));
            handle.tell(bomber, Msg::Carry(Bomb));
        }
        let closing = sim.shutdown(Duration::ZERO);
        assert!(closing.stats.cores.iter().all(|core| core.actors == 0));
        sim
    });
}

#[test]
fn factories_that_cannot_be_dropped_end_with_their_node() {
    check_seeds(2, |mut builder| {
        let region = builder.entities(trapped("one"));
        builder.entities(trapped("two"));
        let mut sim = builder.start();
        assert_eq!(sim.ask(region.entity(&7), Msg::Get), Ok(0));
        sim.shutdown(Duration::from_secs(1));
        sim
    });
}

fn trapped(name: &'static str) -> EntityType<Counter, u64> {
    let bomb = Bomb;
    EntityType::send(name, move |_: &u64| {
        let _ = &bomb;
        Counter::default()
    })
}
