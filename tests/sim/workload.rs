//! A random workload on entities from actors, futures and handles of all cores, with every call written down.

use crate::history::{Entity, Event, History, Op, Outcome};
use corecast::base::ids::CoreId;
use corecast::base::rng::{Rng, seeded};
use corecast::sim::{Simulation, SimulationBuilder};
use corecast::{
    Actor, AskError, Capture, Context, EntityType, Fault, Handle, Mailbox, Next, Pending, Region,
    ReplyTo, Scope,
};
use rand::RngExt;
use std::time::Duration;

/// A message to an entity.
#[derive(Debug)]
pub enum Msg {
    Do {
        op: Op,
        how: How,
        reply: Option<ReplyTo<u64>>,
    },
    Brought {
        op: Op,
    },
}

/// What the entity does with it.
#[derive(Clone, Copy, Debug)]
pub enum How {
    AtOnce,
    Suspended,
    Deferred,
}

/// An entity that counts, and writes down what it does.
pub struct Ledger {
    me: Entity,
    count: u64,
    history: History,
}

impl Ledger {
    fn new(me: Entity, history: &History) -> Ledger {
        Ledger {
            me,
            count: 0,
            history: history.clone(),
        }
    }
}

impl Actor for Ledger {
    type Msg = Msg;

    fn pre_start(&mut self, _: &mut Context<'_, Self>) -> Result<(), Fault> {
        self.history.note(Event::Started { at: self.me });
        Ok(())
    }

    fn receive(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let (op, how, reply) = match msg {
            Msg::Brought { op } => {
                self.history.note(Event::Brought { op });
                return Ok(Next::Continue);
            }
            Msg::Do { op, how, reply } => (op, how, reply),
        };
        self.count += 1;
        self.history.note(Event::Handled {
            op,
            at: self.me,
            shard: ctx.shard().unwrap(),
            epoch: ctx.epoch().unwrap(),
            core: ctx.core(),
            count: self.count,
        });
        if let Some(reply) = reply {
            ctx.reply(reply, self.count);
        }
        let nap = Duration::from_micros(op.1 % 7 * 1_000);
        match how {
            How::AtOnce => {}
            How::Suspended => {
                self.history.note(Event::Suspended { op });
                let sleep = ctx.sleep(nap);
                ctx.suspend(sleep, move |me, (), _| {
                    me.history.note(Event::Resumed { op });
                    Ok(Next::Continue)
                });
            }
            How::Deferred => {
                self.history.note(Event::Deferred { op });
                let sleep = ctx.sleep(nap);
                ctx.spawn(sleep, move |_| Msg::Brought { op });
            }
        }
        Ok(Next::Continue)
    }

    fn post_stop(&mut self, _: &mut Context<'_, Self>) {
        self.history.note(Event::Stopped { at: self.me });
    }
}

impl Capture for Ledger {
    type View = u64;

    fn capture(&self) -> u64 {
        self.count
    }

    fn restore(&mut self, count: u64) {
        self.count = count;
    }
}

/// The three kinds, in the order of their registration.
pub fn kinds(
    builder: &mut SimulationBuilder,
    history: &History,
    shards: u32,
) -> Vec<Region<u64, Msg>> {
    let factory = |number: u16| {
        let history = history.clone();
        move |id: &u64| Ledger::new((number, *id), &history)
    };
    let finish =
        |entity: EntityType<Ledger, u64>| entity.num_shards(shards).mailbox(Mailbox::unbounded());
    vec![
        builder.entities(finish(EntityType::send("sent", factory(0)))),
        builder.entities(finish(EntityType::captured("captured", factory(1)))),
        builder.entities(finish(EntityType::ephemeral("ephemeral", factory(2)))),
    ]
}

/// Who sends, to whom, and what it has sent so far.
#[derive(Clone)]
pub struct Sender {
    number: u32,
    next: u64,
    regions: Vec<Region<u64, Msg>>,
    entities: u64,
    slow: bool,
    rng: Rng,
    history: History,
}

impl Sender {
    pub fn new(
        seed: u64,
        number: u32,
        regions: &[Region<u64, Msg>],
        entities: u64,
        history: &History,
    ) -> Sender {
        Sender {
            number,
            next: 0,
            regions: regions.to_vec(),
            entities,
            slow: true,
            rng: seeded(seed, 1_000 + u64::from(number)),
            history: history.clone(),
        }
    }

    /// The next call: what it is, to whom, and how it shall be handled.
    fn call(&mut self) -> (Op, corecast::EntityRef<u64, Msg>, How) {
        self.next += 1;
        let op = (self.number, self.next);
        let kind = self.rng.random_range(0..self.regions.len());
        let id = self.rng.random_range(0..self.entities);
        self.history.note(Event::Called {
            op,
            to: (kind as u16, id),
        });
        let how = match self.rng.random_range(0..12) {
            0 if self.slow => How::Suspended,
            1 if self.slow => How::Deferred,
            _ => How::AtOnce,
        };
        (op, self.regions[kind].entity_ref(id), how)
    }

    fn ended(&self, op: Op, outcome: Outcome) {
        self.history.note(Event::Ended { op, outcome });
    }
}

fn told<T>(result: &Result<(), T>) -> Outcome {
    if result.is_ok() {
        Outcome::Accepted
    } else {
        Outcome::Refused
    }
}

fn sent(result: Result<(), AskError>) -> Outcome {
    result.map_or_else(Outcome::Failed, |()| Outcome::Answered(0))
}

fn asked(result: Result<u64, AskError>) -> Outcome {
    result.map_or_else(Outcome::Failed, Outcome::Answered)
}

/// An actor that sends so many messages, a few in each of its turns.
pub struct Driver {
    pub sender: Sender,
    pub left: u32,
}

#[derive(Debug)]
pub enum Drive {
    Go,
    Ended(Op, Outcome),
}

impl Actor for Driver {
    type Msg = Drive;

    fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        let me = ctx.me();
        ctx.tell(me, Drive::Go);
        Ok(())
    }

    fn receive(&mut self, msg: Drive, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        if let Drive::Ended(op, outcome) = msg {
            self.sender.ended(op, outcome);
            return Ok(Next::Continue);
        }
        for _ in 0..self.sender.rng.random_range(1..4_u32).min(self.left) {
            self.left -= 1;
            let (op, to, how) = self.sender.call();
            if self.sender.rng.random_ratio(2, 3) {
                let told = told(&ctx.try_tell(
                    to,
                    Msg::Do {
                        op,
                        how,
                        reply: None,
                    },
                ));
                self.sender.ended(op, told);
            } else {
                ctx.ask(
                    to,
                    |reply| Msg::Do {
                        op,
                        how,
                        reply: Some(reply),
                    },
                    move |outcome| Drive::Ended(op, asked(outcome)),
                );
            }
        }
        if self.left > 0 {
            let nap = ctx.sleep(Duration::from_micros(
                self.sender.rng.random_range(0..3_000),
            ));
            ctx.spawn(nap, |_| Drive::Go);
        }
        Ok(Next::Continue)
    }
}

/// A future that sends so many messages.
pub async fn drive(scope: Scope, mut sender: Sender, messages: u32) {
    for _ in 0..messages {
        let (op, to, how) = sender.call();
        let outcome = match sender.rng.random_range(0..3) {
            0 => told(&scope.try_tell(
                to,
                Msg::Do {
                    op,
                    how,
                    reply: None,
                },
            )),
            1 => sent(
                scope
                    .send(
                        to,
                        Msg::Do {
                            op,
                            how,
                            reply: None,
                        },
                    )
                    .await,
            ),
            _ => asked(
                scope
                    .ask(to, |reply| Msg::Do {
                        op,
                        how,
                        reply: Some(reply),
                    })
                    .await,
            ),
        };
        sender.ended(op, outcome);
        if sender.rng.random_ratio(1, 3) {
            scope
                .sleep(Duration::from_micros(sender.rng.random_range(0..2_000)))
                .await;
        }
    }
}

/// A handle outside of the cores that sends without waiting.
pub struct Outsider {
    handle: Handle,
    sender: Sender,
    sends: Vec<(Op, Pending<Result<(), AskError>>)>,
    asks: Vec<(Op, Pending<Result<u64, AskError>>)>,
}

impl Outsider {
    pub fn new(handle: Handle, sender: Sender) -> Outsider {
        Outsider {
            handle,
            sender,
            sends: Vec::new(),
            asks: Vec::new(),
        }
    }

    pub fn call(&mut self) {
        let (op, to, how) = self.sender.call();
        if self.sender.rng.random_ratio(1, 2) {
            self.sends.push((
                op,
                self.handle.send(
                    to,
                    Msg::Do {
                        op,
                        how,
                        reply: None,
                    },
                ),
            ));
        } else {
            self.asks.push((
                op,
                self.handle.ask(to, move |reply| Msg::Do {
                    op,
                    how,
                    reply: Some(reply),
                }),
            ));
        }
    }

    /// Takes the outcomes; all of them must be there.
    pub fn settle(self) {
        for (op, pending) in self.sends {
            if let Ok(outcome) = pending.try_take() {
                self.sender.ended(op, sent(outcome));
            }
        }
        for (op, pending) in self.asks {
            if let Ok(outcome) = pending.try_take() {
                self.sender.ended(op, asked(outcome));
            }
        }
    }
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub entities: u64,
    pub messages: u32,
    pub shards: u32,
    pub moves: u32,
    pub slow: bool,
}

/// Runs the workload with moves all the time until everything has come to rest; returns how many moves succeeded.
pub fn run(
    sim: &mut Simulation,
    regions: &[Region<u64, Msg>],
    history: &History,
    load: Load,
) -> usize {
    let seed = sim.seed();
    let handle = sim.handle();
    let cores = handle.cores() as u16;
    let sender = |number: u32| {
        let mut sender = Sender::new(seed, number, regions, load.entities, history);
        sender.slow = load.slow;
        sender
    };
    let mut outsiders = Vec::new();
    for core in 0..cores {
        let inside = sender(u32::from(core));
        let left = load.messages;
        drop(handle.spawn_on(CoreId(core), move || Driver {
            sender: inside,
            left,
        }));
        let future = sender(100 + u32::from(core));
        drop(handle.run_on(CoreId(core), move |scope| drive(scope, future, left)));
        let through = handle.through(CoreId(core)).unwrap();
        outsiders.push(Outsider::new(through, sender(200 + u32::from(core))));
    }
    let mut rng = seeded(seed, 999);
    let mut moves = Vec::new();
    for round in 0..load.messages.max(load.moves) {
        sim.run_for(Duration::from_micros(rng.random_range(0..2_000)));
        if round < load.messages {
            outsiders.iter_mut().for_each(Outsider::call);
        }
        if round < load.moves {
            let region = &regions[rng.random_range(0..regions.len())];
            let shard = region.shard_of(&rng.random_range(0..load.entities));
            moves.push(sim.start_move(shard, CoreId(rng.random_range(0..cores))));
        }
    }
    let moved = moves
        .into_iter()
        .map(|moved| sim.run_until(moved).expect("every move ends"));
    let moved = moved.filter(Result::is_ok).count();
    // Until naps, slow handlers and asks are over.
    for _ in 0..400 {
        assert!(sim.run_until_idle(), "the node does not come to rest");
        if sim
            .stats()
            .cores
            .iter()
            .all(|core| core.open_asks + core.tasks == 0)
        {
            break;
        }
        sim.run_for(Duration::from_millis(50));
    }
    outsiders.into_iter().for_each(Outsider::settle);
    moved
}
