//! What the paths that every message takes cost in instructions, counted by `valgrind --tool=callgrind`, which has to be
//! installed: unlike times, they do not depend on what else the machine does. To compare two versions, run it in both.
//!
//! `cargo bench --bench instructions` fails if a hundred thousand pending timers make the same work cost more than 1.05
//! times as much. It runs itself under valgrind, with no work and with some, so that what it takes to start the runtime
//! and the timers does not count.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "a program that prints")]

use corecast::{
    Actor, ActorRef, Context, CoreId, Fault, Next, ReplyTo, Runtime, RuntimeBuilder, TimerName,
};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const TIMERS: u64 = 100_000;
const MOST: f64 = 1.05;

/// How long a run may take, and how often it is begun.
const PATIENCE: Duration = Duration::from_secs(20);
const TRIES: u32 = 10;

struct Node {
    next: Option<ActorRef<Token>>,
    done: Option<ReplyTo<()>>,
}

#[derive(Debug)]
enum Token {
    Join(ActorRef<Token>),
    StartTimers(u64, ReplyTo<()>),
    Await(ReplyTo<()>),
    Hops(u64),
    /// Send so many messages to the next node, some hundred at a time.
    Burst(u64),
    One,
    /// Start so many actors, one after the other, each of which handles a message and stops.
    Spawn(u64),
    Ping(ReplyTo<()>),
}

/// Messages of a burst that wait at once.
const BURST: u64 = 500;

struct Leaf(ActorRef<Token>);

impl Actor for Leaf {
    type Msg = u64;

    fn receive(&mut self, left: u64, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        ctx.tell(self.0, Token::Spawn(left));
        Ok(Next::Stop)
    }
}

impl Actor for Node {
    type Msg = Token;

    fn receive(&mut self, message: Token, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match message {
            Token::Join(next) => self.next = Some(next),
            Token::StartTimers(count, reply_to) => {
                for number in 0..count {
                    // From one minute to about half an hour, so that they lie on several levels of the wheel.
                    let after = Duration::from_secs(60 + number % 1_800);
                    ctx.start_timer(TimerName::from(number), after, Token::Hops(0))?;
                }
                ctx.reply(reply_to, ());
            }
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
            Token::Burst(0) | Token::Spawn(0) => ctx.tell(ctx.me(), Token::Hops(0)),
            Token::Burst(left) => {
                for _ in 0..BURST.min(left) {
                    ctx.tell(self.next.unwrap_or(ctx.me()), Token::One);
                }
                ctx.tell(ctx.me(), Token::Burst(left.saturating_sub(BURST)));
            }
            Token::One => {}
            Token::Spawn(left) => {
                let me = ctx.me();
                let leaf = ctx.spawn_actor(move || Leaf(me))?;
                ctx.tell(leaf, left - 1);
            }
            Token::Ping(reply_to) => ctx.reply(reply_to, ()),
        }
        Ok(Next::Continue)
    }
}

/// What is counted.
#[derive(Clone, Copy)]
enum Work {
    Tells,
    Hops,
    Spawns,
    Asks,
}

impl Work {
    const ALL: [(Work, &'static str, u64); 4] = [
        (Work::Tells, "a tell, in bursts", 1_000_000),
        (Work::Hops, "a hop, with messages for ten actors", 1_000_000),
        (
            Work::Asks,
            "an ask by a future, in turns of one message",
            20_000,
        ),
        (Work::Spawns, "an actor that handles one message", 200_000),
    ];
}

fn work(kind: Work, timers: u64, amount: u64) {
    let runtime = one_core().start().expect("the runtime starts");
    let handle = runtime.handle();
    let node = || Node {
        next: None,
        done: None,
    };
    let nodes: Vec<_> = (0..10)
        .map(|_| handle.spawn(node).wait().expect("a node"))
        .collect();
    for (index, node) in nodes.iter().enumerate() {
        handle.tell(*node, Token::Join(nodes[(index + 1) % nodes.len()]));
    }
    let first = nodes[0];
    let within = Duration::from_secs(600);
    let start = move |reply_to| Token::StartTimers(timers, reply_to);
    let started = handle.ask_within(within, first, start);
    started.wait().expect("the timers start");
    let worked = handle.run_on(CoreId(0), move |scope| async move {
        let done = scope.ask_within(within, first, Token::Await);
        let (begin, asks) = match kind {
            Work::Tells => (Token::Burst(amount), 0),
            Work::Hops => (Token::Hops(amount), 0),
            Work::Spawns => (Token::Spawn(amount), 0),
            Work::Asks => (Token::Hops(0), amount),
        };
        scope.tell(first, begin);
        done.await?;
        for _ in 0..asks {
            scope.ask_within(within, first, Token::Ping).await?;
        }
        Ok::<_, corecast::AskError>(())
    });
    worked.wait().expect("it runs").expect("the work is done");
}

fn one_core() -> RuntimeBuilder {
    let cores = "0".parse().expect("a CPU");
    Runtime::builder().cores(cores).spin(Duration::ZERO)
}

/// Instructions of the threads of a runtime that does this.
fn count(kind: usize, timers: u64, amount: u64) -> u64 {
    for _ in 0..TRIES {
        if let Some(count) = try_to_count(kind, timers, amount) {
            return count;
        }
        println!("valgrind stands still, and is started again");
    }
    panic!("valgrind stood still {TRIES} times");
}

/// `None` if valgrind stood still: now and then its own lock is lost among threads that sleep, and the work takes no
/// processor any more.
fn try_to_count(kind: usize, timers: u64, amount: u64) -> Option<u64> {
    let program = std::env::current_exe().expect("this program");
    let mut running = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .arg("work")
        .args([kind as u64, timers, amount].map(|number| number.to_string()))
        .stderr(Stdio::piped())
        .spawn()
        .expect("valgrind is installed");
    let begun = Instant::now();
    while running.try_wait().expect("its state").is_none() {
        if begun.elapsed() > PATIENCE {
            running.kill().expect("it can be killed");
            running.wait().expect("it ends");
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let ran = running.wait_with_output().expect("what it said");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, count) = collected.expect("callgrind says what it has collected");
    Some(count.trim().parse().expect("a number"))
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).is_some_and(|word| word == "work") {
        let number = |index: usize| words[index].parse::<u64>().expect("a number");
        work(Work::ALL[number(2) as usize].0, number(3), number(4));
        return ExitCode::SUCCESS;
    }
    let mut worst: f64 = 0.0;
    for (kind, (work, name, amount)) in Work::ALL.into_iter().enumerate() {
        let each = |timers| {
            let work = count(kind, timers, amount).saturating_sub(count(kind, timers, 0));
            work as f64 / amount as f64
        };
        let without = each(0);
        if matches!(work, Work::Tells | Work::Spawns) {
            println!("{name}: {without:.1} instructions");
            continue;
        }
        let with = each(TIMERS);
        let ratio = with / without;
        println!("{name}: {without:.1} instructions, {with:.1} with {TIMERS} timers, {ratio:.3} x");
        worst = worst.max(ratio);
    }
    if worst <= MOST {
        return ExitCode::SUCCESS;
    }
    println!("that is more than {MOST} times as many");
    ExitCode::FAILURE
}
