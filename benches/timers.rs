//! What pending timers cost a core that has other things to do: instructions of the same work without any timer and with
//! a hundred thousand, counted by `valgrind --tool=callgrind`, which has to be installed.
//!
//! `cargo bench --bench timers` fails if they are more than 1.05 times as many. It runs itself under valgrind, with no work
//! and with some, so that what it takes to start the runtime and the timers does not count.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "a program that prints")]

use corecast::{
    Actor, ActorRef, Context, CoreId, Fault, Next, ReplyTo, Runtime, RuntimeBuilder, TimerName,
};
use std::process::{Command, ExitCode};
use std::time::Duration;

const TIMERS: u64 = 100_000;
const MOST: f64 = 1.05;

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
    Ping(ReplyTo<()>),
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
            Token::Ping(reply_to) => ctx.reply(reply_to, ()),
        }
        Ok(Next::Continue)
    }
}

/// Work of two kinds: long turns, in which a token goes round a ring, and short ones, of one message each.
fn work(timers: u64, hops: u64, turns: u64) {
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
        scope.tell(first, Token::Hops(hops));
        done.await?;
        for _ in 0..turns {
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
fn count(timers: u64, hops: u64, turns: u64) -> u64 {
    let program = std::env::current_exe().expect("this program");
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .arg("work")
        .args([timers, hops, turns].map(|number| number.to_string()))
        .output()
        .expect("valgrind is installed");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, count) = collected.expect("callgrind says what it has collected");
    count.trim().parse().expect("a number")
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).is_some_and(|word| word == "work") {
        let number = |index: usize| words[index].parse().expect("a number");
        work(number(2), number(3), number(4));
        return ExitCode::SUCCESS;
    }
    let mut worst: f64 = 0.0;
    for (name, hops, turns, each) in [
        ("a hop, in turns of many messages", 1_000_000, 0, 1_000_000),
        ("an ask, in turns of one message", 0, 20_000, 20_000),
    ] {
        let [without, with] = [0, TIMERS].map(|timers| {
            let work = count(timers, hops, turns).saturating_sub(count(timers, 0, 0));
            work as f64 / f64::from(each)
        });
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
