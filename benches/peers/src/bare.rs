//! The limit on one core: actors with as little around them as it takes to be safe.
//!
//! A slab of boxed actors, references with generations, typed mailboxes behind `Any`, a ready queue, and one
//! `catch_unwind` for each activation. Without bounds, a budget, a clock, statistics, other cores, or anything that waits.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::measure::{Cpus, RunError, Sample, on_pinned_thread};
use crate::workload::{Size, Workload};

/// Tells after which the counters run.
const BURST: u64 = 500;
/// Rounds over all the actors after which they run.
const ROUNDS: u64 = 4;
/// Messages that an actor handles before the next has its turn.
const ACTIVATION: usize = 256;

/// Runs a workload of one core once.
pub(crate) fn run(workload: Workload, size: Size, cpus: Cpus) -> Result<Sample, RunError> {
    on_pinned_thread(cpus.first, || match workload {
        Workload::Tell => tell(size, BURST),
        Workload::Actors => tell(size, ROUNDS * size.actors),
        Workload::Ring => ring(size),
        Workload::Spawn => spawn(size),
        _ => unreachable!("{workload:?} takes two cores"),
    })
}

fn tell(size: Size, burst: u64) -> Result<Sample, RunError> {
    let mut bare = Bare::default();
    let counters: Vec<At> = (0..size.actors)
        .map(|_| bare.spawn(Counter::default()))
        .collect();
    let driver = bare.spawn(Driver {
        counters: counters.clone(),
        turn: 0,
        left: size.messages,
        burst,
    });
    let started = Instant::now();
    bare.tell(driver, Burst);
    bare.run();
    for counter in counters {
        bare.tell(counter, CounterMsg::Total);
    }
    bare.run();
    Sample::rate(size.messages, bare.answers.iter().sum(), started.elapsed())
}

fn ring(size: Size) -> Result<Sample, RunError> {
    let mut bare = Bare::default();
    let nodes: Vec<At> = (0..size.actors)
        .map(|_| bare.spawn(Node::default()))
        .collect();
    for (index, &node) in nodes.iter().enumerate() {
        bare.tell(node, NodeMsg::Join(nodes[(index + 1) % nodes.len()]));
    }
    bare.run();
    let started = Instant::now();
    bare.tell(nodes[0], NodeMsg::Token(size.messages - 1));
    bare.run();
    let elapsed = started.elapsed();
    for node in nodes {
        bare.tell(node, NodeMsg::Hops);
    }
    bare.run();
    Sample::rate(size.messages, bare.answers.iter().sum(), elapsed)
}

fn spawn(size: Size) -> Result<Sample, RunError> {
    let mut bare = Bare::default();
    let started = Instant::now();
    let mut counted = 0;
    for _ in 0..size.messages {
        let counter = bare.spawn(Counter::default());
        bare.tell(counter, CounterMsg::Add(1));
        bare.tell(counter, CounterMsg::Total);
        bare.run();
        counted += bare.answers.pop().unwrap_or_default();
        bare.stop(counter);
    }
    Sample::rate(size.messages, counted, started.elapsed())
}

/// Which slot, and its generation.
#[derive(Debug, Clone, Copy)]
struct At(u32, u32);

trait Actor: 'static {
    type Msg: 'static;

    fn receive(&mut self, message: Self::Msg, bare: &mut Bare, me: At);
}

/// An actor whatever its message type.
trait Runs {
    fn run(&mut self, bare: &mut Bare, me: At);
}

struct Slot {
    generation: u32,
    scheduled: bool,
    mailbox: Box<dyn Any>,
    actor: Option<Box<dyn Runs>>,
}

#[derive(Default)]
struct Bare {
    slots: Vec<Slot>,
    free: Vec<u32>,
    ready: VecDeque<At>,
    answers: Vec<u64>,
}

impl<A: Actor> Runs for A {
    fn run(&mut self, bare: &mut Bare, me: At) {
        for _ in 0..ACTIVATION {
            match bare.mailbox::<A::Msg>(me).and_then(VecDeque::pop_front) {
                Some(message) => self.receive(message, bare, me),
                None => return,
            }
        }
        bare.slots[me.0 as usize].scheduled = true;
        bare.ready.push_back(me);
    }
}

impl Bare {
    fn spawn<A: Actor>(&mut self, actor: A) -> At {
        let slot = Slot {
            generation: 0,
            scheduled: false,
            mailbox: Box::new(VecDeque::<A::Msg>::new()),
            actor: Some(Box::new(actor)),
        };
        match self.free.pop() {
            Some(index) => {
                let generation = self.slots[index as usize].generation + 1;
                self.slots[index as usize] = Slot { generation, ..slot };
                At(index, generation)
            }
            None => {
                self.slots.push(slot);
                At(self.slots.len() as u32 - 1, 0)
            }
        }
    }

    fn stop(&mut self, at: At) {
        self.slots[at.0 as usize].actor = None;
        self.free.push(at.0);
    }

    #[inline(always)]
    fn mailbox<M: 'static>(&mut self, at: At) -> Option<&mut VecDeque<M>> {
        let slot = self.slots.get_mut(at.0 as usize)?;
        if slot.generation != at.1 {
            return None;
        }
        slot.mailbox.downcast_mut()
    }

    #[inline(always)]
    fn tell<M: 'static>(&mut self, to: At, message: M) {
        let Some(mailbox) = self.mailbox(to) else {
            return;
        };
        mailbox.push_back(message);
        let slot = &mut self.slots[to.0 as usize];
        if !slot.scheduled {
            slot.scheduled = true;
            self.ready.push_back(to);
        }
    }

    fn run(&mut self) {
        while let Some(at) = self.ready.pop_front() {
            let slot = &mut self.slots[at.0 as usize];
            slot.scheduled = false;
            if let Some(mut actor) = slot.actor.take()
                && catch_unwind(AssertUnwindSafe(|| actor.run(self, at))).is_ok()
            {
                self.slots[at.0 as usize].actor = Some(actor);
            }
        }
    }
}

#[derive(Default)]
struct Counter(u64);

enum CounterMsg {
    Add(u64),
    Total,
}

impl Actor for Counter {
    type Msg = CounterMsg;

    fn receive(&mut self, message: CounterMsg, bare: &mut Bare, _me: At) {
        match message {
            CounterMsg::Add(number) => self.0 += number,
            CounterMsg::Total => bare.answers.push(self.0),
        }
    }
}

struct Driver {
    counters: Vec<At>,
    turn: usize,
    left: u64,
    burst: u64,
}

struct Burst;

impl Actor for Driver {
    type Msg = Burst;

    fn receive(&mut self, _: Burst, bare: &mut Bare, me: At) {
        let length = self.left.min(self.burst);
        for _ in 0..length {
            bare.tell(self.counters[self.turn], CounterMsg::Add(1));
            self.turn += 1;
            if self.turn == self.counters.len() {
                self.turn = 0;
            }
        }
        self.left -= length;
        if self.left > 0 {
            bare.tell(me, Burst);
        }
    }
}

#[derive(Default)]
struct Node {
    next: Option<At>,
    hops: u64,
}

enum NodeMsg {
    Join(At),
    Token(u64),
    Hops,
}

impl Actor for Node {
    type Msg = NodeMsg;

    fn receive(&mut self, message: NodeMsg, bare: &mut Bare, _me: At) {
        match (message, self.next) {
            (NodeMsg::Join(next), _) => self.next = Some(next),
            (NodeMsg::Token(left), Some(next)) => {
                self.hops += 1;
                if left > 0 {
                    bare.tell(next, NodeMsg::Token(left - 1));
                }
            }
            (NodeMsg::Hops, _) => bare.answers.push(self.hops),
            (NodeMsg::Token(_), None) => {}
        }
    }
}
