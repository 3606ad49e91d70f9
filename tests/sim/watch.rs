//! Death watch: the end of an actor is news once for each watch, behind the actor's last message.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim watch`.

use corecast::base::ids::CoreId;
use corecast::base::rng::seeded;
use corecast::sim::{Bounds, Simulation, check_seeds};
use corecast::{
    Actor, ActorRef, AnyActorRef, Capture, Context, EntityType, Fault, Next, Region, Rejection,
    ReplyTo, StopCause, Terminated,
};
use rand::RngExt;
use std::time::Duration;

/// What an actor hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Word(AnyActorRef),
    End(AnyActorRef, Option<StopCause>),
    /// The end of one that it watched once more, with another message.
    EndAgain(AnyActorRef),
}

/// An actor that watches whom it is told to, and writes down what it hears.
#[derive(Default)]
struct Person {
    heard: Vec<Heard>,
}

#[derive(Debug)]
enum Msg {
    Watch(AnyActorRef, ReplyTo<Result<(), Rejection>>),
    WatchAgain(AnyActorRef),
    Unwatch(AnyActorRef, ReplyTo<bool>),
    Gone(Terminated),
    GoneAgain(Terminated),
    Word(AnyActorRef),
    /// Say a word to each of these, and then come to an end.
    End(Vec<ActorRef<Msg>>, Option<&'static str>),
    Spawn(ReplyTo<ActorRef<Msg>>),
    Report(ReplyTo<Vec<Heard>>),
}

impl Actor for Person {
    type Msg = Msg;

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Msg::Watch(target, reply_to) => {
                let watched = ctx.watch(target, Msg::Gone);
                ctx.reply(reply_to, watched);
            }
            Msg::WatchAgain(target) => ctx.watch(target, Msg::GoneAgain)?,
            Msg::Unwatch(target, reply_to) => {
                let was_watched = ctx.unwatch(target);
                ctx.reply(reply_to, was_watched);
            }
            Msg::Gone(Terminated { actor, cause, .. }) => self.heard.push(Heard::End(actor, cause)),
            Msg::GoneAgain(Terminated { actor, .. }) => self.heard.push(Heard::EndAgain(actor)),
            Msg::Word(from) => self.heard.push(Heard::Word(from)),
            Msg::End(friends, fault) => {
                for friend in friends {
                    ctx.tell(friend, Msg::Word(ctx.me().into()));
                }
                return fault.map_or(Ok(Next::Stop), |fault| Err(Fault::new(fault)));
            }
            Msg::Spawn(reply_to) => {
                let child = ctx.spawn_actor(Person::default)?;
                ctx.reply(reply_to, child);
            }
            Msg::Report(reply_to) => ctx.reply(reply_to, self.heard.clone()),
        }
        Ok(Next::Continue)
    }
}

impl Capture for Person {
    type View = ();
    fn capture(&self) {}
    fn restore(&mut self, (): ()) {}
}

fn person(sim: &mut Simulation, core: u16) -> ActorRef<Msg> {
    sim.spawn(CoreId(core), Person::default).unwrap()
}

fn watch(sim: &mut Simulation, watcher: ActorRef<Msg>, target: impl Into<AnyActorRef>) {
    let target = target.into();
    let watched = sim.ask(watcher, move |reply_to| Msg::Watch(target, reply_to));
    assert_eq!(watched, Ok(Ok(())));
}

fn heard(sim: &mut Simulation, by: ActorRef<Msg>) -> Vec<Heard> {
    sim.run_until_idle();
    sim.ask(by, Msg::Report).unwrap()
}

#[test]
fn the_end_of_anybody_is_heard_of_once_with_its_cause() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(2).start();
        let watcher = person(&mut sim, 0);
        let here = person(&mut sim, 0);
        let there = person(&mut sim, 1);
        let failing = person(&mut sim, 1);
        let child = sim.ask(there, Msg::Spawn).unwrap();
        for target in [here, there, failing, child, watcher] {
            watch(&mut sim, watcher, target);
        }
        assert_eq!(heard(&mut sim, watcher), []);
        sim.tell(here, Msg::End(vec![watcher], None));
        sim.run_until_idle();
        sim.tell(failing, Msg::End(vec![watcher], Some("on purpose")));
        sim.run_until_idle();
        sim.tell(there, Msg::End(vec![watcher], None));
        let [here, failing, there, child] = [here, failing, there, child].map(AnyActorRef::from);
        let wanted = [
            Heard::Word(here),
            Heard::End(here, Some(StopCause::Wanted)),
            Heard::Word(failing),
            Heard::End(failing, Some(StopCause::Failed)),
            Heard::Word(there),
            Heard::End(child, Some(StopCause::Supervisor)),
            Heard::End(there, Some(StopCause::Wanted)),
        ];
        assert_eq!(heard(&mut sim, watcher), wanted);
        // Those who have gone already.
        for target in [here, there] {
            watch(&mut sim, watcher, target);
        }
        let gone = heard(&mut sim, watcher);
        assert_eq!(gone[7..], [here, there].map(|gone| Heard::End(gone, None)));
        sim
    });
}

#[test]
fn one_of_another_runtime_has_gone() {
    let mut other = Simulation::builder(1).cores(2).start();
    let stranger = person(&mut other, 1);
    other.shutdown(Duration::from_secs(1));
    let mut sim = Simulation::builder(2).cores(2).start();
    let watcher = person(&mut sim, 0);
    watch(&mut sim, watcher, stranger);
    let gone = heard(&mut sim, watcher);
    assert_eq!(gone.len(), 1, "{gone:?}");
}

#[test]
fn a_watch_can_be_ended_and_replaced() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(2).start();
        let watcher = person(&mut sim, 0);
        let targets = [
            person(&mut sim, 0),
            person(&mut sim, 1),
            person(&mut sim, 1),
        ];
        for target in targets {
            watch(&mut sim, watcher, target);
        }
        let unwatch = |target: ActorRef<Msg>| move |reply_to| Msg::Unwatch(target.into(), reply_to);
        assert_eq!(sim.ask(watcher, unwatch(targets[0])), Ok(true));
        assert_eq!(sim.ask(watcher, unwatch(targets[0])), Ok(false));
        assert_eq!(sim.ask(watcher, unwatch(targets[1])), Ok(true));
        sim.tell(watcher, Msg::WatchAgain(targets[2].into()));
        sim.run_until_idle();
        for target in targets {
            sim.tell(target, Msg::End(vec![], None));
        }
        let last = targets[2].into();
        assert_eq!(heard(&mut sim, watcher), [Heard::EndAgain(last)]);
        sim
    });
}

#[test]
fn too_many_watches_are_refused() {
    let bounds = Bounds {
        watches: 2,
        ..Bounds::default()
    };
    let mut sim = Simulation::builder(1).cores(2).bounds(bounds).start();
    let watcher = person(&mut sim, 0);
    let targets: Vec<_> = (0..3).map(|n| person(&mut sim, n % 2)).collect();
    watch(&mut sim, watcher, targets[0]);
    watch(&mut sim, watcher, targets[1]);
    // One that is replaced takes no more room.
    watch(&mut sim, watcher, targets[1]);
    let third = targets[2].into();
    let refused = sim.ask(watcher, move |reply_to| Msg::Watch(third, reply_to));
    assert_eq!(refused, Ok(Err(Rejection::TooManyWatches)));
    sim.tell(targets[0], Msg::End(vec![], None));
    assert_eq!(heard(&mut sim, watcher).len(), 1);
    watch(&mut sim, watcher, targets[2]);
}

#[test]
fn a_watch_moves_with_its_entity_and_ends_with_its_life() {
    check_seeds(20, |mut builder| {
        let seed = builder.seed();
        let captured = seed.is_multiple_of(2);
        let kind = if captured {
            EntityType::captured("person", |_: &u64| Person::default())
        } else {
            EntityType::send("person", |_: &u64| Person::default())
        };
        let people = builder.entities(kind.num_shards(1));
        let mut sim = builder.cores(3).start();
        let entity = people.entity_ref(1);
        let targets: Vec<_> = (0..6).map(|n| person(&mut sim, n % 3)).collect();
        for target in &targets {
            let target = AnyActorRef::from(*target);
            let watched = sim.ask(entity, move |reply_to| Msg::Watch(target, reply_to));
            assert_eq!(watched, Ok(Ok(())));
        }
        let shard = people.shard_of(&1);
        let owner = sim.owner_of(shard).unwrap().0;
        let moved = sim.start_move(shard, CoreId((owner + 1) % 3));
        // Some end while it moves, the others afterwards.
        for (n, target) in targets.iter().enumerate() {
            if n == 3 {
                sim.run_for(Duration::from_millis(seed % 7));
            }
            sim.tell(*target, Msg::End(vec![], None));
        }
        assert_eq!(sim.run_until(moved).unwrap(), Ok(()));
        sim.run_until_idle();
        let ends = sim.ask(entity, Msg::Report).unwrap();
        if captured {
            // What it had heard before it moved was not captured.
            assert!(ends.len() <= 6, "{ends:?}");
        } else {
            assert_eq!(ends.len(), 6, "{ends:?}");
        }
        sim
    });
}

/// Watches entities, and writes down what it hears of them.
struct Warden {
    people: Region<u64, Msg>,
    heard: Vec<(u64, Option<StopCause>)>,
}

#[derive(Debug)]
enum WardenMsg {
    /// Start it with a message, and watch it.
    Guard(u64),
    Watch(u64),
    Unwatch(u64, ReplyTo<usize>),
    Gone(u64, Option<StopCause>),
    Report(ReplyTo<Vec<(u64, Option<StopCause>)>>),
}

impl Actor for Warden {
    type Msg = WardenMsg;

    fn receive(&mut self, msg: WardenMsg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let people = self.people;
        match msg {
            WardenMsg::Guard(id) => {
                let me = AnyActorRef::from(ctx.me());
                ctx.tell(people.entity(&id), Msg::Word(me));
                ctx.watch_entity(people.entity(&id), move |why| WardenMsg::Gone(id, why))?;
            }
            WardenMsg::Watch(id) => {
                ctx.watch_entity(people.entity(&id), move |why| WardenMsg::Gone(id, why))?;
            }
            WardenMsg::Unwatch(id, reply_to) => {
                let ended = ctx.unwatch_entity(people.entity(&id));
                ctx.reply(reply_to, ended);
            }
            WardenMsg::Gone(id, why) => self.heard.push((id, why)),
            WardenMsg::Report(reply_to) => ctx.reply(reply_to, self.heard.clone()),
        }
        Ok(Next::Continue)
    }
}

#[test]
fn the_end_of_an_entitys_life_is_heard_of_wherever_it_lives() {
    check_seeds(60, |mut builder| {
        let ephemeral = builder.seed().is_multiple_of(3);
        let kind = if ephemeral {
            EntityType::ephemeral("person", |_: &u64| Person::default())
        } else {
            EntityType::send("person", |_: &u64| Person::default())
        };
        let people = builder.entities(kind.num_shards(1));
        let mut sim = builder.cores(3).start();
        let warden = move || Warden {
            people,
            heard: vec![],
        };
        let shard = people.shard_of(&1);
        let owner = sim.owner_of(shard).unwrap().0;
        let near = sim.spawn(CoreId(owner), warden).unwrap();
        let far = sim.spawn(CoreId((owner + 1) % 3), warden).unwrap();
        let wardens = [near, far];
        let report = |sim: &mut Simulation| {
            sim.run_until_idle();
            wardens.map(|warden| sim.ask(warden, WardenMsg::Report).unwrap())
        };
        // Nobody is there.
        for warden in wardens {
            sim.tell(warden, WardenMsg::Watch(9));
        }
        let nobody = vec![(9, None)];
        assert_eq!(report(&mut sim), [nobody.clone(), nobody.clone()]);
        // Started and watched, also while their shard moves.
        let moved = sim.start_move(shard, CoreId((owner + 2) % 3));
        sim.run_for(Duration::from_nanos(moment_of(sim.seed())));
        for id in 1..=4 {
            for warden in wardens {
                sim.tell(warden, WardenMsg::Guard(id));
            }
        }
        assert_eq!(sim.run_until(moved).unwrap(), Ok(()));
        sim.run_until_idle();
        if !ephemeral {
            // Nobody has ended by the move.
            assert_eq!(report(&mut sim), [nobody.clone(), nobody.clone()]);
            sim.move_shard(shard, CoreId((owner + 1) % 3)).unwrap();
            let unwatch = |id| move |reply_to| WardenMsg::Unwatch(id, reply_to);
            assert_eq!(sim.ask(far, unwatch(4)), Ok(1));
            assert_eq!(sim.ask(far, unwatch(4)), Ok(0));
            sim.tell(people.entity(&2), Msg::End(vec![], None));
            sim.tell(people.entity(&4), Msg::End(vec![], None));
            let wanted = Some(StopCause::Wanted);
            let [mut by_near, by_far] = report(&mut sim);
            by_near.sort_unstable();
            assert_eq!(by_near, [(2, wanted), (4, wanted), (9, None)]);
            assert_eq!(by_far, [(9, None), (2, wanted)]);
        } else {
            // It ends the lives of those who had started before.
            sim.move_shard(shard, CoreId((owner + 1) % 3)).unwrap();
            for mut by in report(&mut sim) {
                by.sort_unstable();
                let ids: Vec<_> = by.iter().map(|(id, _)| *id).collect();
                assert_eq!(ids, [1, 2, 3, 4, 9], "{by:?}");
            }
        }
        sim
    });
}

/// A moment at which a move has come more or less far.
fn moment_of(seed: u64) -> u64 {
    (seed % 40) * 150
}

/// Random people on three cores watch each other, say things and end, with bounds that hardly let anything through.
#[test]
fn many_watch_many() {
    check_seeds(150, |builder| {
        let mut rng = seeded(builder.seed(), 4_711);
        let mut sim = builder.cores(3).swarm().start();
        let handles = [0, 1, 2].map(|core| sim.handle().through(CoreId(core)).unwrap());
        let people: Vec<_> = (0..12).map(|n| person(&mut sim, n % 3)).collect();
        let mut watched = vec![];
        for _ in 0..60 {
            let (watcher, target) = (rng.random_range(0..12), rng.random_range(0..12));
            let by_ref = AnyActorRef::from(people[target]);
            let begun = sim.ask(people[watcher], move |reply_to| {
                Msg::Watch(by_ref, reply_to)
            });
            if begun == Ok(Ok(())) {
                watched.push((watcher, target));
            }
            if rng.random_bool(0.15) {
                let from = rng.random_range(0..3);
                let friends = people.clone();
                handles[from].tell(people[rng.random_range(4..12)], Msg::End(friends, None));
            }
            if rng.random_bool(0.5) {
                sim.run_for(Duration::from_micros(rng.random_range(0..50)));
            }
        }
        sim.run_until_idle();
        let lives: Vec<_> = people
            .iter()
            .map(|person| sim.ask(*person, Msg::Report).ok())
            .collect();
        watched.sort_unstable();
        watched.dedup();
        for (watcher, target) in watched {
            let Some(heard) = &lives[watcher] else {
                continue;
            };
            let who = AnyActorRef::from(people[target]);
            let ends: Vec<_> = (0..heard.len())
                .filter(|n| matches!(heard[*n], Heard::End(ended, _) if ended == who))
                .collect();
            if lives[target].is_some() {
                assert_eq!(
                    ends,
                    [],
                    "{watcher} heard of the end of {target}, who lives"
                );
                continue;
            }
            // A second watch, after the end, is news of its own.
            let first = ends.first().unwrap_or_else(|| {
                panic!("{watcher} has not heard of the end of {target}: {heard:?}")
            });
            let known = |n: &usize| matches!(heard[*n], Heard::End(_, Some(_)));
            assert!(ends.iter().filter(|n| known(n)).count() <= 1, "{heard:?}");
            let words = heard[*first..].iter();
            assert!(
                words.clone().all(|word| *word != Heard::Word(who)),
                "a word of {target} after its end: {heard:?}"
            );
        }
        sim
    });
}
