//! A core whose engine panics: the others go on, whoever waits for it hears of it, and the runtime still ends.

use super::runtime::Runtime;
use super::settings::Settings;
use crate::actor::context::Context;
use crate::actor::entity::EntityType;
use crate::actor::events::DeadLetter;
use crate::actor::handle::Handle;
use crate::actor::local::Local;
use crate::actor::mailbox::Mailbox;
use crate::actor::model::{Actor, Fault, Next};
use crate::actor::mutant::Mutant;
use crate::actor::reference::ActorRef;
use crate::actor::refusal::{AskError, Rejection, Uncertainty};
use crate::actor::reply::ReplyTo;
use crate::base::ids::{CoreId, ShardKey};
use crate::sharding::move_error::MoveError;
use crate::sharding::topology::Route;
use crate::stream::error::{PushError, StreamError};
use crate::stream::settings::StreamSettings;
use std::sync::mpsc;
use std::time::Duration;

/// Far more than any of this takes, and far less than the deadline of a shutdown.
const PATIENCE: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(3_600);

#[derive(Default)]
struct Keeper(Vec<ReplyTo<u64>>);

#[derive(Debug)]
enum Msg {
    Count(ReplyTo<u64>),
    Keep(ReplyTo<u64>),
    /// Sits in an asynchronous handler.
    Sit,
}

impl Actor for Keeper {
    type Msg = Msg;

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Msg::Count(reply) => ctx.reply(reply, self.0.len() as u64),
            Msg::Keep(reply) => self.0.push(reply),
            Msg::Sit => {
                let nap = ctx.sleep(DEADLINE);
                ctx.suspend(nap, |_, (), _| Ok(Next::Continue));
            }
        }
        Ok(Next::Continue)
    }
}

/// Has the engine of a core panic, and returns when it has.
fn kill(handle: &Handle, core: CoreId) {
    let (gone, has_gone) = mpsc::channel::<()>();
    handle
        .submit_call(core, move |local| {
            // A future is dropped with its core.
            let nap = local.sleep_until(crate::base::time::Time::MAX);
            local.add_job(Box::new(crate::actor::task::Detached::new(async move {
                let _gone = gone;
                nap.await;
            })));
            local.mutant = Some(Mutant::EnginePanics);
        })
        .unwrap();
    assert_eq!(
        has_gone.recv_timeout(PATIENCE),
        Err(mpsc::RecvTimeoutError::Disconnected)
    );
}

fn three_cores() -> Runtime {
    let mut builder = Runtime::builder()
        .cores("0-1".parse().unwrap())
        .balancer(None);
    builder.entities(EntityType::send("keeper", |_: &u64| Keeper::default()).num_shards(2));
    builder.start().unwrap()
}

/// Shuts down on another thread, so that a shutdown that hangs fails the test.
fn shutdown(runtime: Runtime) -> super::runtime::ShutdownReport {
    let (done, report) = mpsc::channel();
    std::thread::spawn(move || done.send(runtime.shutdown_within(DEADLINE)));
    report.recv_timeout(PATIENCE).expect("the shutdown hangs")
}

#[test]
fn a_data_core_that_dies_takes_nobody_with_it() {
    let runtime = three_cores();
    let handle = runtime.handle();
    let (alive, dead) = (CoreId(0), CoreId(1));
    let far = handle.through(alive).unwrap();
    let here = handle.spawn_on(alive, Keeper::default).wait().unwrap();
    let there = handle.spawn_on(dead, Keeper::default).wait().unwrap();
    let kept = far.ask_within(DEADLINE, there, Msg::Keep);
    let own = handle
        .through(dead)
        .unwrap()
        .ask_within(DEADLINE, here, Msg::Keep);
    assert_eq!(far.ask(there, Msg::Count).wait(), Ok(1));
    kill(&handle, dead);
    // What was handled is unknown, what was not is rejected: from this side, from the other core, from the dead one.
    let outcome = kept.wait_for(PATIENCE).expect("it hangs");
    assert_eq!(outcome, Err(Uncertainty::DroppedUnanswered.into()));
    let outcome = own.wait_for(PATIENCE).expect("it hangs");
    assert_eq!(outcome, Err(Uncertainty::RuntimeGone.into()));
    for _ in 0..3 {
        let asked = far.ask_within(DEADLINE, there, Msg::Count);
        let outcome = asked.wait_for(PATIENCE).expect("it hangs");
        assert_eq!(outcome, Err(AskError::Rejected(Rejection::CoreDied)));
        let sent = far.send(there, Msg::Count(unanswered())).wait_for(PATIENCE);
        assert_eq!(sent.expect("it hangs"), Err(Rejection::CoreDied.into()));
    }
    let entered = handle.through(dead).unwrap().ask(here, Msg::Count);
    let outcome = entered.wait_for(PATIENCE).expect("it hangs");
    assert!(
        matches!(
            outcome,
            Err(AskError::Rejected(Rejection::CoreDied)
                | AskError::Unknown(Uncertainty::RuntimeGone))
        ),
        "{outcome:?}"
    );
    assert_eq!(far.ask(here, Msg::Count).wait(), Ok(1));
    let stats = handle.stats().wait_for(PATIENCE).expect("it hangs");
    let cores: Vec<_> = stats.cores.iter().map(|core| core.core).collect();
    assert_eq!(cores, [alive, CoreId(2)]);
    let report = shutdown(runtime);
    assert_eq!((report.drained, report.dead_cores), (false, vec![dead]));
}

/// The subscribers on a core end with it; what was meant for it, and what it had taken on, are dead letters.
#[test]
fn the_event_stream_goes_on_without_a_core() {
    let runtime = three_cores();
    let handle = runtime.handle();
    let (alive, dead) = (CoreId(0), CoreId(1));
    let [far, doomed] = [alive, dead].map(|core| handle.through(core).unwrap());
    let letters = handle.events::<DeadLetter>(1_000).unwrap();
    let here = far.spawn(Keeper::default).wait().unwrap();
    let there = doomed.spawn(Keeper::default).wait().unwrap();
    let on_dead = doomed.subscribe(|_: DeadLetter| {}).wait().unwrap();
    let (tell, told) = mpsc::channel();
    let on_alive = far.subscribe(move |letter: DeadLetter| tell.send(letter).unwrap());
    let on_alive = on_alive.wait().unwrap();
    let own = handle.through(dead).unwrap();
    let dies = move |_: &mut Local| {
        own.submit_call(dead, |local| local.mutant = Some(Mutant::EnginePanics))
            .unwrap();
        // These lie in its queue then.
        for _ in 0..3 {
            own.tell(here, Msg::Sit);
        }
    };
    handle.submit_call(dead, dies).unwrap();
    let expect = |core: Option<CoreId>, to| {
        let letter = letters.recv_within(PATIENCE).expect("it hangs");
        assert_eq!(letter.reason, Rejection::CoreDied);
        assert_eq!(letter.receiver, Some(format!("{to:?}")));
        assert_eq!(letter.core, core);
    };
    for _ in 0..3 {
        expect(Some(dead), here);
    }
    while on_dead.is_active() {
        std::thread::yield_now();
    }
    for (by, to, core) in [(&far, there, Some(alive)), (&doomed, here, None)] {
        by.tell(to, Msg::Sit);
        expect(core, to);
        let letter = told.recv_timeout(PATIENCE).expect("it hangs");
        assert_eq!((letter.reason, letter.core), (Rejection::CoreDied, core));
    }
    assert!(on_alive.is_active());
    shutdown(runtime);
    assert!(!on_alive.is_active());
    assert_eq!(letters.count(), 0);
}

fn unanswered() -> ReplyTo<u64> {
    // An address of a runtime that does not exist, which nobody misses.
    ReplyTo::new(crate::actor::reply::ReplyAddress::new(
        crate::actor::reply::RuntimeId::next(),
        CoreId(0),
        0,
        0,
        0,
    ))
}

#[test]
fn a_coordination_core_that_dies_does_not_keep_the_runtime_from_its_end() {
    let runtime = three_cores();
    let handle = runtime.handle();
    let here = handle.spawn_on(CoreId(0), Keeper::default).wait().unwrap();
    let coordination = handle.coordination_core();
    kill(&handle, coordination);
    assert_eq!(handle.ask(here, Msg::Count).wait(), Ok(0));
    let shard = crate::base::ids::ShardKey {
        entity_type: crate::base::ids::EntityTypeId(0),
        shard: crate::base::ids::ShardId(0),
    };
    let moved = handle.move_shard(shard, CoreId(1)).wait_for(PATIENCE);
    let gone = MoveError::CoreStopped {
        shard,
        core: coordination,
    };
    assert_eq!(moved.expect("it hangs"), Err(gone));
    let report = shutdown(runtime);
    assert_eq!(
        (report.drained, report.dead_cores),
        (false, vec![coordination])
    );
}

/// Halted cores take no calls any more, so their queues are soon full.
#[test]
fn a_coordination_core_that_dies_in_the_shutdown_leaves_no_halted_core_behind() {
    let settings = Settings {
        ingress_jobs: 1,
        ..Settings::default()
    };
    let builder = Runtime::builder().settings(settings);
    let runtime = builder.cores("0-1".parse().unwrap()).start().unwrap();
    let coordination = runtime.handle().coordination_core();
    let planted = runtime.handle().on_core(coordination, |local| {
        local.mutant = Some(Mutant::PanicsBeforeStop);
    });
    assert_eq!(planted.wait_for(PATIENCE).ok(), Some(Some(())));
    let report = shutdown(runtime);
    assert_eq!(
        (report.drained, report.dead_cores),
        (false, vec![coordination])
    );
}

#[test]
fn with_all_cores_dead_a_runtime_ends() {
    let runtime = three_cores();
    for core in [CoreId(1), CoreId(0)] {
        kill(&runtime.handle(), core);
    }
    let report = shutdown(runtime);
    assert_eq!(report.dead_cores, [CoreId(0), CoreId(1)]);
    let runtime = three_cores();
    kill(&runtime.handle(), CoreId(0));
    kill(&runtime.handle(), CoreId(2));
    let report = shutdown(runtime);
    assert_eq!(report.dead_cores, [CoreId(0), CoreId(2)]);
    // And dropped, not shut down.
    let runtime = three_cores();
    kill(&runtime.handle(), CoreId(2));
    let (done, dropped) = mpsc::channel();
    std::thread::spawn(move || {
        drop(runtime);
        done.send(())
    });
    dropped.recv_timeout(PATIENCE).expect("the drop hangs");
}

/// Returns when a core holds its messages for a shard.
fn until_held(handle: &Handle, core: CoreId, shard: ShardKey) {
    loop {
        let (tell, told) = mpsc::channel();
        handle
            .submit_call(core, move |local| {
                let _ = tell.send(local.topology.route(shard) == Some(Route::Hold));
            })
            .unwrap();
        if told.recv_timeout(PATIENCE).expect("it hangs") {
            return;
        }
        std::thread::yield_now();
    }
}

/// A shard that cannot leave yet is where the owner is when the target of its move dies, and gone with the owner when that
/// does; and what was held for it meanwhile is handled, or refused.
#[test]
fn a_move_ends_with_the_core_that_dies() {
    for (dies, outcome) in [
        (CoreId(1), Ok(0)),
        (CoreId(0), Err(AskError::Rejected(Rejection::CoreDied))),
    ] {
        let settings = Settings {
            hand_off_patience: DEADLINE,
            ..Settings::default()
        };
        let mut builder = Runtime::builder()
            .settings(settings)
            .cores("0-1".parse().unwrap())
            .balancer(None);
        let keepers = EntityType::send("keeper", |_: &u64| Keeper::default());
        let region = builder.entities(keepers.num_shards(1));
        let runtime = builder.start().unwrap();
        let handle = runtime.handle();
        let (from, to) = (CoreId(0), CoreId(1));
        let shard = region.shard_of(&1);
        let here = handle.through(from).unwrap();
        assert_eq!(here.ask(region.entity_ref(2), Msg::Count).wait(), Ok(0));
        here.tell(region.entity_ref(1), Msg::Sit);
        // Answered behind that, so it sits.
        assert_eq!(here.ask(region.entity_ref(2), Msg::Count).wait(), Ok(0));
        let moving = handle.move_shard(shard, to);
        let alive = CoreId(1 - dies.0);
        until_held(&handle, dies, shard);
        until_held(&handle, alive, shard);
        let through = handle.through(alive).unwrap();
        let held = through.ask_within(DEADLINE, region.entity_ref(2), Msg::Count);
        kill(&handle, dies);
        let core = dies;
        let stopped = Err(MoveError::CoreStopped { shard, core });
        assert_eq!(moving.wait_for(PATIENCE).expect("it hangs"), stopped);
        assert_eq!(held.wait_for(PATIENCE).expect("it hangs"), outcome);
        // What sits there would be waited for.
        let report = runtime.shutdown_within(Duration::ZERO);
        assert_eq!((report.drained, report.dead_cores), (false, vec![dies]));
    }
}

#[test]
fn streams_hear_of_a_core_that_dies_on_both_sides() {
    let runtime = three_cores();
    let handle = runtime.handle();
    let (alive, dead) = (CoreId(0), CoreId(1));
    let open = |core| {
        let opened = handle.open_stream_on(core, StreamSettings::<u64>::shared(4));
        opened.wait().unwrap()
    };
    let (lives, its_stream) = open(alive);
    let (dies, lost_stream) = open(dead);
    let mut dead_consumer = handle.through(dead).unwrap().consume(its_stream);
    let mut consumer = handle.through(alive).unwrap().consume(lost_stream);
    lives.try_push(1).unwrap();
    dies.try_push(2).unwrap();
    assert_eq!(dead_consumer.wait_next(), Some(Ok(1)));
    assert_eq!(consumer.wait_next(), Some(Ok(2)));
    let deserted = lives.deserted();
    let deserted = handle.run_on(alive, move |_| deserted);
    kill(&handle, dead);
    let (done, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let heard = (dead_consumer.wait_next(), consumer.wait_next());
        done.send(heard)
    });
    let lost = || Some(Err(StreamError::Lost));
    assert_eq!(heard.recv_timeout(PATIENCE), Ok((lost(), lost())));
    assert!(matches!(dies.try_push(3), Err(PushError::Gone(3))));
    let deserted = deserted.wait_for(PATIENCE).expect("it hangs");
    assert_eq!(deserted, Ok(Ok(())));
    // Who lives on has its stream still.
    lives.try_push(4).unwrap();
    let mut next = handle.through(alive).unwrap().consume(its_stream);
    assert_eq!(next.wait_next(), Some(Ok(4)));
    shutdown(runtime);
}

/// Says so many words to a listener.
struct Speaker;

#[derive(Debug)]
struct Speak(u32, ActorRef<Listen>, ReplyTo<()>);

impl Actor for Speaker {
    type Msg = Speak;

    fn receive(&mut self, msg: Speak, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let Speak(words, listener, done) = msg;
        (0..words).for_each(|_| ctx.tell(listener, Listen::Word));
        ctx.reply(done, ());
        Ok(Next::Continue)
    }
}

/// Listens, and watches who speaks.
#[derive(Default)]
struct Listener {
    words: u32,
    words_at_the_end: Vec<u32>,
}

#[derive(Debug)]
enum Listen {
    Watch(ActorRef<Speak>, ReplyTo<()>),
    /// Say when this has begun, hold the core until the other one is gone, then watch anew or not, and send something there.
    Wait(mpsc::Sender<()>, CoreId, ActorRef<Speak>, bool),
    Word,
    Gone,
    Report(ReplyTo<(u32, Vec<u32>)>),
}

impl Actor for Listener {
    type Msg = Listen;

    fn receive(&mut self, msg: Listen, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Listen::Watch(speaker, done) => {
                ctx.watch(speaker, |_| Listen::Gone)?;
                ctx.reply(done, ());
            }
            Listen::Wait(began, core, speaker, anew) => {
                began.send(())?;
                while !ctx.local.port.doorbell(core).is_gone() {
                    std::thread::yield_now();
                }
                if anew {
                    ctx.watch(speaker, |_| Listen::Gone)?;
                }
                let me = ctx.me();
                ctx.ask(speaker, move |done| Speak(1, me, done), |_| Listen::Word);
            }
            Listen::Word => self.words += 1,
            Listen::Gone => self.words_at_the_end.push(self.words),
            Listen::Report(reply_to) => {
                ctx.reply(reply_to, (self.words, self.words_at_the_end.clone()));
            }
        }
        Ok(Next::Continue)
    }
}

#[test]
fn an_actor_that_goes_with_its_core_is_heard_of_behind_its_last_words() {
    [false, true].into_iter().for_each(hears_the_last_words);
}

fn hears_the_last_words(anew: bool) {
    const WORDS: u32 = 3_000;
    let runtime = three_cores();
    let handle = runtime.handle();
    let (alive, dead) = (CoreId(0), CoreId(1));
    let [near, far] = [alive, dead].map(|core| handle.through(core).unwrap());
    let endless = Mailbox::unbounded();
    let listener = near.spawn_with(alive, endless, Listener::default);
    let listener = listener.wait().unwrap();
    let speaker = far.spawn(|| Speaker).wait().unwrap();
    let watched = near.ask(listener, move |done| Listen::Watch(speaker, done));
    assert_eq!(watched.wait(), Ok(()));
    // Behind the watch.
    let spoken = near.ask(speaker, move |done| Speak(0, listener, done));
    assert_eq!(spoken.wait(), Ok(()));
    let (began, begun) = mpsc::channel();
    near.tell(listener, Listen::Wait(began, dead, speaker, anew));
    begun.recv_timeout(PATIENCE).expect("it hangs");
    let spoken = far.ask(speaker, move |done| Speak(WORDS, listener, done));
    assert_eq!(spoken.wait(), Ok(()));
    kill(&handle, dead);
    let ends = loop {
        let report = near.ask(listener, Listen::Report).wait_for(PATIENCE);
        let (words, ends) = report.expect("it hangs").unwrap();
        // The last one is the outcome of the ask.
        if words == WORDS + 1 && !ends.is_empty() {
            break ends;
        }
    };
    assert!(ends == [WORDS] || ends == [WORDS + 1], "{ends:?}");
    shutdown(runtime);
}

/// As if the engine had panicked in the middle of ending an actor: nobody has it any more.
#[test]
fn the_names_on_a_core_that_died_can_be_given_again() {
    let runtime = three_cores();
    let handle = runtime.handle();
    let (alive, dead) = (CoreId(0), CoreId(1));
    let lost = handle
        .spawn_supervised(dead, "lost", Keeper::default)
        .wait()
        .unwrap();
    let kept = handle
        .spawn_supervised(alive, "kept", Keeper::default)
        .wait()
        .unwrap();
    handle
        .submit_call(dead, move |local| {
            drop(local.cells.get(lost.cell).and_then(|cell| cell.body.take()));
        })
        .unwrap();
    kill(&handle, dead);
    let mut attempts = std::iter::repeat_with(|| {
        std::thread::yield_now();
        let again = handle.spawn_supervised(alive, "lost", Keeper::default);
        again.wait().ok()
    });
    let again = attempts.by_ref().take(100_000).find_map(|again| again);
    assert!(again.is_some(), "the name is still taken");
    assert_eq!(handle.lookup("lost"), Ok(again));
    assert_eq!(handle.lookup("kept"), Ok(Some(kept)));
    shutdown(runtime);
}
