//! How fast the runtime is on this machine, beside the raw limits measured in the same run.
//!
//! `cargo bench` runs everything on CPUs 0 and 1; `cargo bench -- ring ask` only rows whose name contains one of the
//! words, `cargo bench -- --quick` all of them briefly. Each row is the median of several runs, with minimum and maximum,
//! since machines are noisy. The comparison with other actor systems is `benches/peers`.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "a program that prints")]

use corecast::{
    Actor, ActorRef, AskError, Context, CoreId, EntityType, Fault, Handle, Next, Region, ReplyTo,
    Runtime, Scope, Settings,
};
use crossbeam_channel::bounded;
use std::time::{Duration, Instant};

/// Longer than any round trip, so that no core parks between two asks.
const HOT: Duration = Duration::from_millis(2);
/// Pause before each ask between parked cores.
const PAUSE: Duration = Duration::from_millis(2);
/// Messages that the driver sends before it lets others run; half of a default mailbox.
const BURST: u64 = 500;
/// Unconfirmed messages between two cores.
const WINDOW: u64 = 960;

#[derive(Clone, Copy)]
struct Scale {
    runs: usize,
    divisor: u64,
}

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let quick = std::env::args().any(|word| word == "--quick");
    let scale = if quick {
        Scale {
            runs: 1,
            divisor: 20,
        }
    } else {
        Scale {
            runs: 5,
            divisor: 1,
        }
    };
    println!("{:<34} {:>12} {:>12} {:>12}", "row", "median", "min", "max");
    let row = |name: &str, unit: &str, measure: &mut dyn FnMut() -> f64| {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
            return;
        }
        let mut values: Vec<f64> = (0..scale.runs).map(|_| measure()).collect();
        values.sort_by(f64::total_cmp);
        let (median, min, max) = (
            values[values.len() / 2],
            values[0],
            values[values.len() - 1],
        );
        println!("{name:<34} {median:>12.2} {min:>12.2} {max:>12.2} {unit}");
    };
    let n = |full: u64| full / scale.divisor;
    row("tell, 1 to 1, one core", "M messages/s", &mut || {
        tell(1, n(10_000_000))
    });
    row("tell, 1 to 1000, one core", "M messages/s", &mut || {
        tell(1_000, n(10_000_000))
    });
    row("ring of 100, one core", "M hops/s", &mut || {
        ring(n(10_000_000))
    });
    row(
        "spawn + tell + ask + stop, one core",
        "M actors/s",
        &mut || spawn(n(1_000_000)),
    );
    row("raw: batched channel, 64 B", "M messages/s", &mut || {
        apart(|| raw_channel(n(50_000_000)))
    });
    row("tell, core to core, 64 B", "M messages/s", &mut || {
        tell_across(n(10_000_000), hot())
    });
    row("raw: polling round trip", "µs median", &mut || {
        apart(|| raw_polling(n(1_000_000)))
    });
    row("ask, core to core, hot", "µs median", &mut || {
        ask_across(n(500_000), hot(), Duration::ZERO)
    });
    row("raw: eventfd round trip", "µs median", &mut || {
        apart(|| raw_eventfd(n(2_000).max(200)))
    });
    row("ask, core to core, parked", "µs median", &mut || {
        ask_across(n(2_000).max(200), spinning(Duration::ZERO), PAUSE)
    });
    row("entity activation, one core", "M entities/s", &mut || {
        entities(n(1_000_000)).0
    });
    row("idle entity beyond its state", "bytes", &mut || {
        entities(1_000_000).1
    });
    // One setting at a time against the defaults, for tuning.md.
    for spin_us in [0, 20, 50, 2_000] {
        let name = format!("setting: spin {spin_us} us, ask");
        row(&name, "µs median", &mut || {
            ask_across(
                n(20_000).max(500),
                spinning(Duration::from_micros(spin_us)),
                Duration::ZERO,
            )
        });
    }
    for batch_messages in [1, 8, 64, 256] {
        let name = format!("setting: batch {batch_messages}, tell across");
        let settings = || Settings {
            batch_messages,
            ..hot()
        };
        row(&name, "M messages/s", &mut || {
            tell_across(n(5_000_000), settings())
        });
    }
    for lane_batches in [2, 16, 128] {
        let name = format!("setting: lane {lane_batches}, tell across");
        let settings = || Settings {
            lane_batches,
            ..hot()
        };
        row(&name, "M messages/s", &mut || {
            tell_across(n(5_000_000), settings())
        });
    }
    for turn_messages in [16, 512, 8_192] {
        let name = format!("setting: turn {turn_messages}, tell across");
        let settings = || Settings {
            turn_messages,
            activation_messages: turn_messages.min(hot().activation_messages),
            ..hot()
        };
        row(&name, "M messages/s", &mut || {
            tell_across(n(5_000_000), settings())
        });
    }
    for (place, coordination) in [("beside", 1), ("on", 0)] {
        let name = format!("setting: coordination {place} the core, ring");
        row(&name, "M hops/s", &mut || {
            let cores = "0".parse().expect("a CPU");
            ring_on(
                n(5_000_000),
                Settings {
                    cores,
                    coordination: Some(coordination),
                    ..hot()
                },
            )
        });
    }
}

fn one_core() -> Runtime {
    let cores = "0".parse().expect("a CPU");
    start(Settings { cores, ..hot() })
}

/// Both CPUs, and cores that never park between two messages.
fn hot() -> Settings {
    spinning(HOT)
}

fn spinning(spin: Duration) -> Settings {
    Settings {
        cores: "0-1".parse().expect("two CPUs"),
        spin: Some(spin),
        ..Settings::default()
    }
}

fn start(settings: Settings) -> Runtime {
    Runtime::builder()
        .settings(settings)
        .start()
        .expect("the runtime starts")
}

struct Counter {
    total: u64,
    confirm: Option<ActorRef<Drive>>,
}

#[derive(Debug)]
enum Count {
    Add([u64; 8]),
    One,
    ConfirmTo(ActorRef<Drive>),
    Get(ReplyTo<u64>),
    Quit,
}

impl Actor for Counter {
    type Msg = Count;

    fn receive(&mut self, message: Count, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match message {
            Count::One => self.total += 1,
            Count::Add(words) => {
                self.total += words[0];
                if self.total.is_multiple_of(WINDOW / 4)
                    && let Some(driver) = self.confirm
                {
                    ctx.tell(driver, Drive::Confirmed);
                }
            }
            Count::ConfirmTo(driver) => self.confirm = Some(driver),
            Count::Get(reply_to) => ctx.reply(reply_to, self.total),
            Count::Quit => return Ok(Next::Stop),
        }
        Ok(Next::Continue)
    }
}

#[derive(Debug)]
enum Drive {
    Start(ReplyTo<Duration>),
    Go,
    Confirmed,
    Counted(Result<u64, AskError>),
}

/// Sends one-word messages in bursts to counters of its core, in turn.
struct Driver {
    counters: Vec<ActorRef<Count>>,
    next: usize,
    left: u64,
    expected: u64,
    started: Instant,
    done: Option<ReplyTo<Duration>>,
}

impl Driver {
    fn new(counters: Vec<ActorRef<Count>>, messages: u64) -> Self {
        let expected = messages / counters.len() as u64;
        Driver {
            counters,
            next: 0,
            left: messages,
            expected,
            started: Instant::now(),
            done: None,
        }
    }
}

impl Actor for Driver {
    type Msg = Drive;

    fn receive(&mut self, message: Drive, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match message {
            Drive::Start(done) => {
                self.done = Some(done);
                self.started = Instant::now();
                ctx.tell(ctx.me(), Drive::Go);
            }
            Drive::Go => {
                let burst = BURST.min(self.left);
                for _ in 0..burst {
                    ctx.tell(self.counters[self.next], Count::One);
                    self.next = (self.next + 1) % self.counters.len();
                }
                self.left -= burst;
                if self.left > 0 {
                    ctx.tell(ctx.me(), Drive::Go);
                } else {
                    ctx.ask(self.counters[0], Count::Get, Drive::Counted);
                }
            }
            Drive::Confirmed => {}
            Drive::Counted(total) => {
                assert_eq!(
                    total?, self.expected,
                    "every message must have been counted"
                );
                if let Some(done) = self.done.take() {
                    ctx.reply(done, self.started.elapsed());
                }
            }
        }
        Ok(Next::Continue)
    }
}

fn millions(messages: u64, took: Duration) -> f64 {
    messages as f64 / took.as_secs_f64() / 1e6
}

fn counter(handle: &Handle, core: CoreId) -> ActorRef<Count> {
    handle
        .spawn_on(core, || Counter {
            total: 0,
            confirm: None,
        })
        .wait()
        .expect("a counter")
}

fn run(handle: &Handle, driver: ActorRef<Drive>) -> Duration {
    handle
        .ask_within(Duration::from_secs(120), driver, Drive::Start)
        .wait()
        .expect("the driver answers")
}

fn tell(counters: usize, messages: u64) -> f64 {
    let runtime = one_core();
    let handle = runtime.handle();
    let counters: Vec<_> = (0..counters).map(|_| counter(&handle, CoreId(0))).collect();
    let messages = messages / counters.len() as u64 * counters.len() as u64;
    let driver = handle
        .spawn(move || Driver::new(counters, messages))
        .wait()
        .expect("a driver");
    millions(messages, run(&handle, driver))
}

struct Node {
    next: Option<ActorRef<Token>>,
    done: Option<ReplyTo<()>>,
}

#[derive(Debug)]
enum Token {
    Join(ActorRef<Token>),
    Await(ReplyTo<()>),
    Hops(u64),
}

impl Actor for Node {
    type Msg = Token;

    fn receive(&mut self, message: Token, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match message {
            Token::Join(next) => self.next = Some(next),
            Token::Await(done) => self.done = Some(done),
            Token::Hops(0) => {
                if let Some(done) = self.done.take() {
                    ctx.reply(done, ());
                }
            }
            Token::Hops(left) => {
                if let Some(next) = self.next {
                    ctx.tell(next, Token::Hops(left - 1));
                }
            }
        }
        Ok(Next::Continue)
    }
}

fn ring(hops: u64) -> f64 {
    let cores = "0".parse().expect("a CPU");
    ring_on(hops, Settings { cores, ..hot() })
}

fn ring_on(hops: u64, settings: Settings) -> f64 {
    let hops = hops / 100 * 100;
    let runtime = start(settings);
    let handle = runtime.handle();
    let nodes: Vec<_> = (0..100)
        .map(|_| {
            handle
                .spawn(|| Node {
                    next: None,
                    done: None,
                })
                .wait()
                .expect("a node")
        })
        .collect();
    for (index, node) in nodes.iter().enumerate() {
        handle.tell(*node, Token::Join(nodes[(index + 1) % nodes.len()]));
    }
    let first = nodes[0];
    let took = handle
        .run_on(CoreId(0), move |scope| async move {
            let started = Instant::now();
            let done = scope.ask_within(Duration::from_secs(120), first, Token::Await);
            scope.tell(first, Token::Hops(hops));
            done.await.map(|()| started.elapsed())
        })
        .wait();
    millions(
        hops,
        took.expect("the ring runs").expect("the token comes round"),
    )
}

/// Spawns a counter, tells it, asks it, stops it, and does it again.
struct Spawner {
    left: u64,
    current: Option<ActorRef<Count>>,
    started: Instant,
    done: Option<ReplyTo<Duration>>,
}

impl Spawner {
    fn next(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        let counter = ctx.spawn_actor(|| Counter {
            total: 0,
            confirm: None,
        })?;
        ctx.tell(counter, Count::One);
        ctx.ask(counter, Count::Get, Drive::Counted);
        self.current = Some(counter);
        Ok(())
    }
}

impl Actor for Spawner {
    type Msg = Drive;

    fn receive(&mut self, message: Drive, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match message {
            Drive::Start(done) => {
                self.done = Some(done);
                self.started = Instant::now();
                self.next(ctx)?;
            }
            Drive::Counted(total) => {
                assert_eq!(total?, 1);
                if let Some(counter) = self.current.take() {
                    ctx.tell(counter, Count::Quit);
                }
                self.left -= 1;
                if self.left > 0 {
                    self.next(ctx)?;
                } else if let Some(done) = self.done.take() {
                    ctx.reply(done, self.started.elapsed());
                }
            }
            Drive::Go | Drive::Confirmed => {}
        }
        Ok(Next::Continue)
    }
}

fn spawn(actors: u64) -> f64 {
    let runtime = one_core();
    let handle = runtime.handle();
    let spawner = handle
        .spawn(move || Spawner {
            left: actors,
            current: None,
            started: Instant::now(),
            done: None,
        })
        .wait()
        .expect("a spawner");
    millions(actors, run(&handle, spawner))
}

/// Sends 64-byte messages to a counter on another core, at most a window ahead of what it has confirmed.
struct Windowed {
    counter: ActorRef<Count>,
    left: u64,
    room: u64,
    started: Instant,
    done: Option<ReplyTo<Duration>>,
}

impl Windowed {
    fn fill(&mut self, ctx: &mut Context<'_, Self>) {
        let burst = self.room.min(self.left);
        for _ in 0..burst {
            ctx.tell(self.counter, Count::Add([1; 8]));
        }
        self.room -= burst;
        self.left -= burst;
        if self.left == 0 && burst > 0 {
            ctx.ask(self.counter, Count::Get, Drive::Counted);
        }
    }
}

impl Actor for Windowed {
    type Msg = Drive;

    fn receive(&mut self, message: Drive, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match message {
            Drive::Start(done) => {
                self.done = Some(done);
                self.started = Instant::now();
                ctx.tell(self.counter, Count::ConfirmTo(ctx.me()));
                self.fill(ctx);
            }
            Drive::Confirmed => {
                self.room += WINDOW / 4;
                self.fill(ctx);
            }
            Drive::Counted(total) => {
                total?;
                if let Some(done) = self.done.take() {
                    ctx.reply(done, self.started.elapsed());
                }
            }
            Drive::Go => {}
        }
        Ok(Next::Continue)
    }
}

fn tell_across(messages: u64, settings: Settings) -> f64 {
    let runtime = start(settings);
    let handle = runtime.handle();
    let counter = counter(&handle, CoreId(1));
    let driver = handle
        .spawn_on(CoreId(0), move || Windowed {
            counter,
            left: messages,
            room: WINDOW,
            started: Instant::now(),
            done: None,
        })
        .wait()
        .expect("a driver");
    millions(messages, run(&handle, driver))
}

fn median_us(mut samples: Vec<u64>) -> f64 {
    samples.sort_unstable();
    samples[samples.len() / 2] as f64 / 1_000.0
}

fn ask_across(asks: u64, settings: Settings, pause: Duration) -> f64 {
    let runtime = start(settings);
    let handle = runtime.handle();
    let counter = counter(&handle, CoreId(1));
    let ask = move |scope: Scope| async move {
        let mut samples = Vec::new();
        for _ in 0..asks {
            if !pause.is_zero() {
                scope.sleep(pause).await;
            }
            let sent = Instant::now();
            scope.ask(counter, Count::Get).await.expect("a reply");
            samples.push(sent.elapsed().as_nanos() as u64);
        }
        samples
    };
    median_us(handle.run_on(CoreId(0), ask).wait().expect("the asks run"))
}

/// Measures on a thread of its own, since pinning the main thread would leave the runtime that CPU only.
fn apart(measure: impl FnOnce() -> f64 + Send) -> f64 {
    std::thread::scope(|scope| scope.spawn(measure).join().expect("a measurement"))
}

fn pin(cpu: usize) {
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
}

fn raw_channel(messages: u64) -> f64 {
    const BATCH: usize = 64;
    let (full, receive) = bounded::<Vec<[u64; 8]>>(16);
    let (give_back, empty) = bounded::<Vec<[u64; 8]>>(32);
    let batches = messages / BATCH as u64;
    let receiver = std::thread::spawn(move || {
        pin(1);
        let mut total = 0;
        for _ in 0..batches {
            let mut batch = loop {
                if let Ok(batch) = receive.try_recv() {
                    break batch;
                }
            };
            total += batch.drain(..).map(|words| words[0]).sum::<u64>();
            let _ = give_back.try_send(batch);
        }
        total
    });
    pin(0);
    let started = Instant::now();
    for _ in 0..batches {
        let mut batch = empty.try_recv().unwrap_or_default();
        batch.extend((0..BATCH).map(|_| [1; 8]));
        while let Err(refused) = full.try_send(batch) {
            batch = refused.into_inner();
        }
    }
    assert_eq!(
        receiver.join().expect("the receiver"),
        batches * BATCH as u64
    );
    millions(messages, started.elapsed())
}

fn raw_polling(trips: u64) -> f64 {
    let (there, receive) = bounded::<u64>(1);
    let (back, answer) = bounded::<u64>(1);
    std::thread::spawn(move || {
        pin(1);
        loop {
            match receive.try_recv() {
                Ok(number) => back.send(number).expect("an asker"),
                Err(crossbeam_channel::TryRecvError::Empty) => {}
                Err(crossbeam_channel::TryRecvError::Disconnected) => return,
            }
        }
    });
    pin(0);
    let samples = (0..trips).map(|number| {
        let sent = Instant::now();
        there.send(number).expect("an answerer");
        while answer.try_recv().is_err() {}
        sent.elapsed().as_nanos() as u64
    });
    median_us(samples.collect())
}

fn raw_eventfd(trips: u64) -> f64 {
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::io::{read, write};
    let (there, back) = (
        eventfd(0, EventfdFlags::empty()),
        eventfd(0, EventfdFlags::empty()),
    );
    let (there, back) = (there.expect("an eventfd"), back.expect("an eventfd"));
    let one = 1_u64.to_ne_bytes();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            for _ in 0..trips {
                read(&there, &mut [0; 8]).expect("a wake");
                write(&back, &one).expect("a wake");
            }
        });
        pin(0);
        let samples = (0..trips).map(|_| {
            std::thread::sleep(PAUSE);
            let sent = Instant::now();
            write(&there, &one).expect("a wake");
            read(&back, &mut [0; 8]).expect("a wake");
            sent.elapsed().as_nanos() as u64
        });
        median_us(samples.collect())
    })
}

struct Idle(u64);

impl Actor for Idle {
    type Msg = u64;

    fn receive(&mut self, message: u64, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.0 += message;
        Ok(Next::Continue)
    }
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Activates entities with 16-byte ids: millions a second, and resident bytes of each beyond its state.
fn entities(count: u64) -> (f64, f64) {
    let mut builder = Runtime::builder()
        .cores("0".parse().expect("a CPU"))
        .spin(HOT);
    let region: Region<u128, u64> = builder.entities(EntityType::send("idle", |_: &u128| Idle(0)));
    let runtime = builder.start().expect("the runtime starts");
    let before = resident_bytes();
    let activate = move |scope: Scope| async move {
        let started = Instant::now();
        for id in 0..u128::from(count) {
            scope.tell(region.entity(&id), 1);
            if id % 500 == 499 {
                // Lets the entities have their turns.
                scope.yield_now().await;
            }
        }
        started
    };
    let started = runtime
        .handle()
        .run_on(CoreId(0), activate)
        .wait()
        .expect("the entities are told");
    let stats = loop {
        let stats = runtime.handle().stats().wait();
        if stats.cores[0].handled == count {
            break stats;
        }
    };
    let took = started.elapsed();
    assert_eq!(stats.cores[0].regions[0].active as u64, count);
    let bytes =
        (resident_bytes().saturating_sub(before)) as f64 / count as f64 - size_of::<Idle>() as f64;
    (millions(count, took), bytes)
}
