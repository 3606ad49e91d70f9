//! The runtime on real cores: starting, sending, asking, stopping.

use corecast::behavior::{after, receive, restart, same};
use corecast::rand::RngExt;
use corecast::{
    Actor, ActorStopped, AskError, AsyncActor, Awaiting, Backoff, Behaving, Behavior, Context,
    CoreId, EntityType, Fault, Next, Rejection, ReplyTo, Runtime, RuntimeBuilder, Scope, Settings,
    Source, StreamGone, StreamRef, StreamSettings, Supervision, TaskError, Uncertainty,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

#[derive(Default)]
struct Counter(u64);

#[derive(Debug)]
enum Count {
    Add(u64),
    Get(ReplyTo<u64>),
    Forget(ReplyTo<u64>),
    Fail,
    Panic,
}

impl Actor for Counter {
    type Msg = Count;

    fn receive(&mut self, msg: Count, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Count::Add(n) => self.0 += n,
            Count::Get(reply_to) => ctx.reply(reply_to, self.0),
            Count::Forget(reply_to) => drop(reply_to),
            Count::Fail => return Err(Fault::new("told to fail")),
            Count::Panic => panic!("told to panic"),
        }
        Ok(Next::Continue)
    }
}

fn two_cores() -> RuntimeBuilder {
    Runtime::builder().cores("0-1".parse().unwrap())
}

#[test]
fn a_counter_counts_from_every_side() {
    let runtime = two_cores().start().unwrap();
    let handle = runtime.handle();
    for core in [CoreId(0), CoreId(1)] {
        let counter = handle.spawn_on(core, Counter::default).wait().unwrap();
        assert_eq!(counter.core(), core);
        for _ in 0..400 {
            handle.tell(counter, Count::Add(2));
        }
        assert_eq!(handle.ask(counter, Count::Get).wait(), Ok(800));
        assert_eq!(handle.send(counter, Count::Add(1)).wait(), Ok(()));
        assert_eq!(handle.ask(counter, Count::Get).wait(), Ok(801));
        assert_eq!(
            handle.ask(counter, Count::Forget).wait(),
            Err(AskError::Unknown(Uncertainty::DroppedUnanswered))
        );
    }
    assert!(runtime.shutdown().drained);
}

#[test]
fn a_failing_actor_stops_alone() {
    let runtime = two_cores().start().unwrap();
    let handle = runtime.handle();
    for failure in [Count::Fail, Count::Panic] {
        let bystander = handle.spawn(Counter::default).wait().unwrap();
        let victim = handle.spawn(Counter::default).wait().unwrap();
        handle.send(victim, failure).wait().unwrap();
        let after = handle.ask(victim, Count::Get).wait();
        assert!(
            matches!(
                after,
                Err(AskError::Rejected(
                    Rejection::NoSuchActor | Rejection::Stopped
                ))
            ),
            "{after:?}"
        );
        assert_eq!(handle.ask(bystander, Count::Get).wait(), Ok(0));
    }
    let stats = handle.stats().wait();
    assert_eq!(stats.cores.iter().map(|core| core.faults).sum::<u64>(), 2);
}

#[test]
fn entities_start_with_their_first_message_and_move_under_load() {
    let mut builder = two_cores().balancer(None);
    let counters =
        builder.entities(EntityType::send("counter", |_: &u64| Counter::default()).num_shards(16));
    let runtime = builder.start().unwrap();
    let handle = runtime.handle();
    for round in 0..20_u64 {
        for id in 0..1_000 {
            handle.tell(counters.entity(&id), Count::Add(1));
        }
        let key = counters.shard_of(&round);
        for target in [0, 1] {
            handle.move_shard(key, CoreId(target)).wait().unwrap();
        }
    }
    for id in 0..1_000 {
        assert_eq!(
            handle.ask(counters.entity(&id), Count::Get).wait(),
            Ok(20),
            "entity {id}"
        );
    }
    let stats = handle.stats().wait();
    assert_eq!(
        stats
            .cores
            .iter()
            .map(|core| core.dead_letters_total())
            .sum::<u64>(),
        0
    );
    assert!(runtime.shutdown().drained);
}

#[test]
fn a_runtime_refuses_the_entities_and_actors_of_another() {
    let start = || {
        let mut builder = two_cores();
        let counters = builder.entities(EntityType::send("counter", |_: &u64| Counter::default()));
        (builder.start().unwrap(), counters)
    };
    let ((own, ours), (other, theirs)) = (start(), start());
    let stranger = other.handle().spawn(Counter::default).wait().unwrap();
    let handle = own.handle();
    assert_eq!(handle.ask(ours.entity(&7), Count::Get).wait(), Ok(0));
    let refused = Err(AskError::Rejected(Rejection::OldIncarnation));
    assert_eq!(handle.ask(theirs.entity(&7), Count::Get).wait(), refused);
    assert_eq!(handle.ask(stranger, Count::Get).wait(), refused);
    assert_eq!(
        other.handle().ask(theirs.entity(&7), Count::Get).wait(),
        Ok(0)
    );
}

struct Patient;

impl AsyncActor for Patient {
    type Msg = ReplyTo<CoreId>;

    async fn receive(&mut self, reply_to: ReplyTo<CoreId>, scope: &Scope) -> Result<Next, Fault> {
        scope.sleep(Duration::from_millis(2)).await;
        scope.reply(reply_to, scope.core());
        Ok(Next::Continue)
    }
}

#[test]
fn asynchronous_code_on_a_core_asks_and_sleeps() {
    let runtime = two_cores().start().unwrap();
    let handle = runtime.handle();
    let patient = handle
        .spawn_on(CoreId(1), || Awaiting::new(Patient))
        .wait()
        .unwrap();
    let answer = handle
        .run_on(CoreId(0), move |scope| async move {
            let first = scope.ask(patient, |reply_to| reply_to);
            let second = scope.ask(patient, |reply_to| reply_to);
            (first.await, second.await)
        })
        .wait()
        .unwrap();
    assert_eq!(answer, (Ok(CoreId(1)), Ok(CoreId(1))));
}

/// Keeps its core for 20 µs with each message.
struct Busy;

impl Actor for Busy {
    type Msg = u64;

    fn receive(&mut self, _: u64, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let until = ctx.clock() + Duration::from_micros(20);
        while ctx.clock() < until {}
        Ok(Next::Continue)
    }
}

/// The mailbox of one actor is never empty, and a turn is too short for what it may handle at a time.
#[test]
fn an_actor_that_is_never_done_lets_others_have_their_turn() {
    let runtime = two_cores().start().unwrap();
    // Not by the other core, which has no room left for a question.
    let handle = runtime.handle().through(CoreId(0)).unwrap();
    let busy = handle.spawn_on(CoreId(0), || Busy).wait().unwrap();
    // The other core keeps its mailbox full.
    let answered = Arc::new(AtomicBool::new(false));
    let ended = answered.clone();
    let flood = handle.run_on(CoreId(1), move |scope| async move {
        while !ended.load(Ordering::Relaxed) {
            while scope.try_tell(busy, 0).is_ok() {}
            scope.sleep(Duration::from_micros(100)).await;
        }
    });
    while handle.core_stats(CoreId(0)).wait().unwrap().queued_messages < 900 {}
    let other = handle.spawn_on(CoreId(0), || Slow).wait().unwrap();
    let answer = handle
        .ask_within(Duration::from_secs(20), other, |done| {
            (Duration::ZERO, done)
        })
        .wait();
    answered.store(true, Ordering::Relaxed);
    assert_eq!(answer, Ok(()));
    flood.wait().unwrap();
}

struct Slow;

impl Actor for Slow {
    type Msg = (Duration, ReplyTo<()>);

    fn receive(
        &mut self,
        (busy, done): (Duration, ReplyTo<()>),
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        let until = ctx.clock() + busy;
        while ctx.clock() < until {}
        ctx.reply(done, ());
        Ok(Next::Continue)
    }
}

#[test]
fn a_handler_that_holds_its_core_is_counted_with_its_type() {
    let runtime = two_cores().start().unwrap();
    let handle = runtime.handle();
    let slow = handle.spawn_on(CoreId(0), || Slow).wait().unwrap();
    for busy in [
        Duration::from_millis(20),
        Duration::from_micros(10),
        Duration::from_millis(20),
    ] {
        handle.ask(slow, move |done| (busy, done)).wait().unwrap();
    }
    // The same core answers, after the handler has ended.
    let stats = handle.core_stats(CoreId(0)).wait().unwrap();
    let slow = stats
        .types
        .iter()
        .find(|kind| kind.name.ends_with("::Slow"))
        .unwrap();
    // More than two if the machine kept the thread from running meanwhile.
    assert!(slow.stalls >= 2 && stats.stalls >= 2, "{slow:?}");
    assert!(slow.longest >= Duration::from_millis(19), "{slow:?}");
}

#[derive(Debug)]
struct Stuck;

impl AsyncActor for Stuck {
    type Msg = [u64; 8];

    async fn receive(&mut self, _: [u64; 8], scope: &Scope) -> Result<Next, Fault> {
        scope.sleep(Duration::from_secs(3_600)).await;
        Ok(Next::Continue)
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn with_all_mailboxes_full_memory_stays_flat() {
    const ACTORS: u64 = 100;
    let runtime = two_cores().start().unwrap();
    let handle = runtime.handle();
    let stuck: Vec<_> = (0..ACTORS)
        .map(|number| {
            let core = CoreId((number % 2) as u16);
            handle
                .spawn_on(core, || Awaiting::new(Stuck))
                .wait()
                .unwrap()
        })
        .collect();
    let fill = |rounds: u64| {
        let stuck = stuck.clone();
        let send = move |scope: Scope| async move {
            let mut refused = 0;
            for round in 0..rounds {
                for actor in &stuck {
                    refused += u64::from(scope.try_tell(*actor, [round; 8]).is_err());
                }
                if round % 50 == 0 {
                    // Lets the cores take what lies in the lanes.
                    scope.sleep(Duration::from_millis(1)).await;
                }
            }
            refused
        };
        handle.run_on(CoreId(0), send).wait().unwrap()
    };
    // 1,000 messages and one in the handler fit into each mailbox.
    fill(3_000);
    let before = resident_kib();
    let stats = handle.stats().wait();
    assert_eq!(
        stats
            .cores
            .iter()
            .map(|core| core.queued_messages as u64)
            .sum::<u64>(),
        ACTORS * 1_000
    );
    let refused_here = fill(20_000);
    assert_eq!(
        refused_here,
        20_000 * ACTORS / 2,
        "calls on the receiver's core are refused at once"
    );
    let grown = resident_kib().saturating_sub(before);
    assert!(
        grown < 4_096,
        "{grown} KiB more after two million further messages"
    );
    assert!(!runtime.shutdown_within(Duration::ZERO).drained);
}

struct Shy(u64);

impl Actor for Shy {
    type Msg = Count;

    fn receive(&mut self, msg: Count, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.0 += 1;
        if let Count::Get(reply_to) = msg {
            ctx.reply(reply_to, self.0);
        }
        Ok(Next::Continue)
    }
}

#[test]
fn idle_entities_are_passivated_and_start_again() {
    let mut builder = two_cores();
    let shy = builder.entities(
        EntityType::send("shy", |_: &String| Shy(0))
            .num_shards(4)
            .passivate_after(Duration::from_millis(20)),
    );
    let runtime = builder.start().unwrap();
    let handle = runtime.handle();
    for round in 1..=3 {
        assert_eq!(
            handle.ask(shy.entity("ann"), Count::Get).wait(),
            Ok(1),
            "round {round}"
        );
        loop {
            let stats = handle.stats().wait();
            if stats
                .cores
                .iter()
                .map(|core| core.passivations)
                .sum::<u64>()
                == round
            {
                break;
            }
            std::thread::yield_now();
        }
    }
}

/// Gives reply addresses to another thread, and holds its core.
struct Lender(SyncSender<ReplyTo<u64>>);

#[derive(Debug)]
enum Lend {
    Address(ReplyTo<u64>),
    /// Says that it has begun, and goes on when the other end is dropped.
    Hold(SyncSender<()>, Receiver<()>),
    Nothing,
}

impl Actor for Lender {
    type Msg = Lend;

    fn receive(&mut self, msg: Lend, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Lend::Address(reply_to) => self.0.send(reply_to).unwrap(),
            Lend::Hold(begun, until) => {
                begun.send(()).unwrap();
                until.recv().unwrap_err();
            }
            Lend::Nothing => {}
        }
        Ok(Next::Continue)
    }
}

/// Counts its ticks for a while, and then says how many there were.
struct Ticker(u32);

#[derive(Debug)]
enum Ticking {
    Start(ReplyTo<u32>),
    Once,
    Last(ReplyTo<u32>),
}

impl Actor for Ticker {
    type Msg = Ticking;

    fn receive(&mut self, msg: Ticking, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Ticking::Start(reply_to) => {
                ctx.start_periodic("tick", Duration::from_millis(2), || Ticking::Once)?;
                let last = Ticking::Last(reply_to);
                ctx.start_timer("last", Duration::from_millis(50), last)?;
            }
            Ticking::Once => self.0 += 1,
            Ticking::Last(reply_to) => {
                ctx.reply(reply_to, self.0);
                return Ok(Next::Stop);
            }
        }
        Ok(Next::Continue)
    }
}

#[test]
fn timers_tick_on_cores_that_sleep() {
    let runtime = two_cores().spin(Duration::ZERO).start().unwrap();
    let handle = runtime.handle();
    let begun = handle.clock();
    let tickers = [0, 1].map(|core| {
        let ticker = handle.spawn_on(CoreId(core), || Ticker(0));
        ticker.wait().unwrap()
    });
    let counts = tickers.map(|ticker| handle.ask(ticker, Ticking::Start));
    for count in counts {
        let ticks = count.wait().unwrap();
        assert!((1..=25).contains(&ticks), "{ticks}");
    }
    assert!(handle.clock() - begun >= Duration::from_millis(50));
    // A schedule starts one that stops right away.
    let (send, receive) = sync_channel(1);
    let sink = handle.spawn(move || Lender(send)).wait().unwrap();
    let asked = handle.run_on(CoreId(1), move |scope| async move {
        let set = scope.schedule_periodic("poke", Duration::from_millis(2), sink, || Lend::Nothing);
        set.await?;
        scope.sleep(Duration::from_millis(20)).await;
        scope.cancel_schedule("poke").await
    });
    assert_eq!(asked.wait(), Ok(Ok(true)));
    let poked = |handled: u64, core: &corecast::CoreStats| handled + core.handled;
    let handled = handle.stats().wait().cores.iter().fold(0, poked);
    assert!(handled > 5, "{handled}");
    assert!(receive.try_recv().is_err());
    assert!(runtime.shutdown().drained);
}

#[test]
fn replies_from_other_threads_enter_a_core_whose_queue_is_full() {
    const NEVER: Duration = Duration::from_secs(3_600);
    const PATIENCE: Duration = Duration::from_secs(60);
    let settings = Settings {
        ingress_jobs: 1,
        ..Settings::default()
    };
    let builder = Runtime::builder().settings(settings);
    let runtime = builder.cores("0".parse().unwrap()).start().unwrap();
    let handle = runtime.handle();
    let (lend, lent) = sync_channel(1);
    let lender = handle.spawn(move || Lender(lend)).wait().unwrap();
    let [answered, dropped, dropped_elsewhere] = [(); 3].map(|()| {
        let asked = handle.ask_within(NEVER, lender, Lend::Address);
        (asked, lent.recv_timeout(PATIENCE).unwrap())
    });
    let (begun, has_begun) = sync_channel(1);
    let (until, ends) = sync_channel(0);
    handle.tell(lender, Lend::Hold(begun, ends));
    has_begun.recv_timeout(PATIENCE).unwrap();
    while handle.try_tell(lender, Lend::Nothing).is_ok() {}
    let full = handle.try_tell(lender, Lend::Nothing).map_err(|it| it.why);
    assert_eq!(full, Err(Rejection::IngressFull));
    handle.reply(answered.1, 7);
    drop(dropped.1);
    thread::spawn(move || drop(dropped_elsewhere.1))
        .join()
        .unwrap();
    drop(until);
    let outcome = |asked: corecast::Pending<_>| asked.wait_for(PATIENCE).expect("it hangs");
    assert_eq!(outcome(answered.0), Ok(7));
    let unanswered = Err(Uncertainty::DroppedUnanswered.into());
    assert_eq!(outcome(dropped.0), unanswered);
    assert_eq!(outcome(dropped_elsewhere.0), unanswered);
    assert!(runtime.shutdown().drained);
}

/// What other cores, other threads and the end of the runtime bring to a thread that listens.
#[test]
fn a_thread_listens_to_events() {
    let runtime = two_cores().start().unwrap();
    let handle = runtime.handle();
    let stopped = handle.events::<ActorStopped>(100).unwrap();
    let numbers = handle.events::<u64>(1_000).unwrap();
    let few = handle.events::<u64>(1).unwrap();
    let listener = thread::spawn(move || numbers.collect::<Vec<u64>>());
    for core in [CoreId(0), CoreId(1)] {
        let published = handle.run_on(core, move |scope| async move {
            for n in 0..100 {
                scope.publish(1_000 * u64::from(core.0) + n);
            }
        });
        assert_eq!(published.wait(), Ok(()));
        handle.spawn_on(core, Counter::default).wait().unwrap();
    }
    handle.publish(7_u64);
    assert_eq!((few.recv(), few.dropped()), (Some(0), 200));
    assert!(runtime.shutdown().drained);
    let mut heard = listener.join().unwrap();
    heard.sort_unstable();
    let expected = (0..100).chain([7]).chain(1_000..1_100);
    let mut expected: Vec<u64> = expected.collect();
    expected.sort_unstable();
    assert_eq!(heard, expected);
    let mut cores: Vec<_> = stopped.map(|stopped| stopped.actor.core.0).collect();
    cores.sort_unstable();
    assert_eq!(cores, [0, 1]);
}

struct Die;

impl Actor for Die {
    type Msg = ReplyTo<u64>;

    fn receive(
        &mut self,
        reply_to: ReplyTo<u64>,
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        let number = ctx.rng().random();
        ctx.reply(reply_to, number);
        Ok(Next::Continue)
    }
}

#[test]
fn every_core_of_every_runtime_draws_numbers_of_its_own() {
    let mut numbers = BTreeSet::new();
    for _ in 0..2 {
        let builder = Runtime::builder().cores("0-1".parse().unwrap());
        let runtime = builder.start().unwrap();
        let handle = runtime.handle();
        for core in [0, 1].map(CoreId) {
            let die = handle.spawn_on(core, || Die).wait().unwrap();
            numbers.insert(handle.ask(die, |reply_to| reply_to).wait().unwrap());
            let drawn = handle.run_on(core, |scope| async move { scope.rng().random::<u64>() });
            numbers.insert(drawn.wait().unwrap());
        }
    }
    assert_eq!(numbers.len(), 8);
}

/// Makes numbers when they are wanted.
struct Numbers(u64, Option<Source<u64>>);

#[derive(Debug)]
enum NumbersMsg {
    Open(ReplyTo<StreamRef<u64>>),
    Wanted(Result<Result<usize, StreamGone>, TaskError>),
}

impl Actor for Numbers {
    type Msg = NumbersMsg;

    fn receive(&mut self, msg: NumbersMsg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            NumbersMsg::Open(reply_to) => {
                let settings = StreamSettings::shared(1_000).linger(Duration::from_secs(60));
                let (source, stream) = ctx.open_stream(settings)?;
                self.1 = Some(source);
                ctx.reply(reply_to, stream);
            }
            NumbersMsg::Wanted(wanted) => {
                let source = self.1.take().unwrap();
                for _ in 0..wanted?? {
                    if self.0 == 100_000 {
                        source.complete();
                        return Ok(Next::Stop);
                    }
                    source.try_push(self.0)?;
                    self.0 += 1;
                }
                self.1 = Some(source);
            }
        }
        if let Some(source) = &self.1 {
            ctx.spawn(source.wanted(), NumbersMsg::Wanted);
        }
        Ok(Next::Continue)
    }
}

#[test]
fn a_stream_feeds_futures_and_threads_at_once() {
    let runtime = two_cores().start().unwrap();
    let handle = runtime.handle();
    let numbers = handle.spawn_on(CoreId(0), || Numbers(0, None));
    let stream = handle
        .ask(numbers.wait().unwrap(), NumbersMsg::Open)
        .wait()
        .unwrap();
    let on_cores = [CoreId(0), CoreId(1)].map(|core| {
        handle.run_on(core, move |scope| async move {
            let mut consumer = scope.consume(stream);
            let mut got = Vec::new();
            while let Some(number) = consumer.next().await {
                got.push(number.unwrap());
            }
            got
        })
    });
    let its_handle = handle.clone();
    let on_a_thread = thread::spawn(move || {
        let mut consumer = its_handle.consume(stream);
        let mut got = Vec::new();
        // It leaves early, and what it has not taken out goes to others.
        while got.len() < 1_000
            && let Some(number) = consumer.wait_next()
        {
            got.push(number.unwrap());
        }
        got
    });
    let mut all = on_a_thread.join().unwrap();
    for got in on_cores {
        let got = got.wait().unwrap();
        all.extend(got);
    }
    // If the others had heard of the end by then, that still waits for somebody.
    let mut last = handle.consume(stream);
    while let Some(Ok(number)) = last.wait_next() {
        all.push(number);
    }
    all.sort_unstable();
    assert!(all.into_iter().eq(0..100_000));
    assert!(runtime.shutdown().drained);
}

#[derive(Debug)]
enum Lamp {
    Switch,
    Slowly,
    IsOn(ReplyTo<bool>),
    Break,
}

fn dark() -> Behavior<Lamp> {
    receive(|ctx, message| match message {
        Lamp::Switch => Ok(bright()),
        Lamp::Slowly => Ok(after(ctx.sleep(Duration::from_millis(1)), |_, ()| bright())),
        Lamp::IsOn(reply_to) => {
            ctx.reply(reply_to, false);
            Ok(same())
        }
        Lamp::Break => Err(Fault::new("broken")),
    })
}

fn bright() -> Behavior<Lamp> {
    receive(|ctx, message| match message {
        Lamp::Switch => dark(),
        Lamp::IsOn(reply_to) => {
            ctx.reply(reply_to, true);
            same()
        }
        Lamp::Slowly | Lamp::Break => restart(),
    })
}

#[test]
fn behaviours_are_actors_on_every_core() {
    let mut builder = two_cores();
    let lamps = EntityType::ephemeral("lamp", |_: &u64| Behaving::new(dark()));
    let lamps = builder.entities(lamps.supervised(Supervision::default().backoff(Backoff::NONE)));
    let runtime = builder.start().unwrap();
    let handle = runtime.handle();
    for id in 0..100 {
        let lamp = lamps.entity(&id);
        let is_on = || handle.ask(lamp, Lamp::IsOn).wait();
        assert_eq!(is_on(), Ok(false));
        handle.tell(lamp, Lamp::Switch);
        assert_eq!(is_on(), Ok(true));
        handle.tell(lamp, Lamp::Break);
        assert_eq!(is_on(), Ok(false), "it is a new one");
        handle.tell(lamp, Lamp::Slowly);
        assert_eq!(is_on(), Ok(true));
        handle.tell(lamp, Lamp::Switch);
        handle.tell(lamp, Lamp::Break);
        assert_eq!(is_on(), Ok(false));
    }
    let cores = handle.stats().wait().cores;
    assert_eq!(cores.iter().map(|core| core.restarts).sum::<u64>(), 200);
    assert!(runtime.shutdown().drained);
}
