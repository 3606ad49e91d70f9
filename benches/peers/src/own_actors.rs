//! The actors of the workloads on corecast. A driver answers the ask that starts it when all is counted.

use std::time::{Duration, Instant};

use corecast::{Actor, ActorRef, AskError, Context, Fault, Next, ReplyTo};

use crate::measure::{StopToken, Stops};
use crate::workload::{PAYLOAD_WORDS, Payload};

/// Messages between cores that may be unconfirmed: within a mailbox's default bound, leaving room for the asks.
const WINDOW: u64 = 960;

/// Messages after which the counter confirms, so that the driver never runs dry.
const CONFIRM_EVERY: u64 = WINDOW / 4;

/// What a driver answers: the count of the counters, and how long it took on its core.
pub(crate) type Outcome = (u64, Duration);

/// Adds up what it is told.
#[derive(Default)]
pub(crate) struct Counter {
    total: u64,
    _stop: Option<StopToken>,
}

#[derive(Debug)]
pub(crate) enum CounterMsg {
    Add(u64),
    Total(ReplyTo<u64>),
    Quit,
}

impl Actor for Counter {
    type Msg = CounterMsg;

    fn receive(
        &mut self,
        message: CounterMsg,
        context: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        match message {
            CounterMsg::Add(number) => self.total += number,
            CounterMsg::Total(reply) => context.reply(reply, self.total),
            CounterMsg::Quit => return Ok(Next::Stop),
        }
        Ok(Next::Continue)
    }
}

/// Tells the counters in turn, then asks each for its total.
pub(crate) struct Driver {
    burst: u64,
    counters: Vec<ActorRef<CounterMsg>>,
    turn: usize,
    left: u64,
    answers: usize,
    counted: u64,
    started: Instant,
    reply: Option<ReplyTo<Outcome>>,
}

#[derive(Debug)]
pub(crate) enum DriverMsg {
    Start(ReplyTo<Outcome>),
    Burst,
    Counted(Result<u64, AskError>),
}

impl Driver {
    /// Sends `burst` messages at a time.
    pub(crate) fn new(counters: Vec<ActorRef<CounterMsg>>, left: u64, burst: u64) -> Self {
        Self {
            burst,
            counters,
            turn: 0,
            left,
            answers: 0,
            counted: 0,
            started: Instant::now(),
            reply: None,
        }
    }

    fn burst(&mut self, context: &mut Context<'_, Self>) {
        let length = self.left.min(self.burst);
        for _ in 0..length {
            context.tell(self.counters[self.turn], CounterMsg::Add(1));
            self.turn += 1;
            if self.turn == self.counters.len() {
                self.turn = 0;
            }
        }
        self.left -= length;
        if self.left > 0 {
            let me = context.me();
            context.tell(me, DriverMsg::Burst);
        } else {
            self.ask_next(context);
        }
    }

    /// One ask at a time: their number is no workload.
    fn ask_next(&mut self, context: &mut Context<'_, Self>) {
        context.ask(
            self.counters[self.answers],
            CounterMsg::Total,
            DriverMsg::Counted,
        );
    }
}

impl Actor for Driver {
    type Msg = DriverMsg;

    fn receive(
        &mut self,
        message: DriverMsg,
        context: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        match message {
            DriverMsg::Start(reply) => {
                self.reply = Some(reply);
                self.started = Instant::now();
                self.burst(context);
            }
            DriverMsg::Burst => self.burst(context),
            DriverMsg::Counted(total) => {
                self.counted += total?;
                self.answers += 1;
                if self.answers < self.counters.len() {
                    self.ask_next(context);
                } else if let Some(reply) = self.reply.take() {
                    context.reply(reply, (self.counted, self.started.elapsed()));
                    return Ok(Next::Stop);
                }
            }
        }
        Ok(Next::Continue)
    }
}

/// Adds up the first words of 64-byte messages.
#[derive(Default)]
pub(crate) struct PayloadCounter {
    total: u64,
    received: u64,
    driver: Option<ActorRef<PayloadDriverMsg>>,
}

#[derive(Debug)]
pub(crate) enum PayloadMsg {
    Add(Payload),
    /// Whom to tell after every [`CONFIRM_EVERY`] messages; comes first.
    ConfirmTo(ActorRef<PayloadDriverMsg>),
    Total(ReplyTo<u64>),
}

impl Actor for PayloadCounter {
    type Msg = PayloadMsg;

    fn receive(
        &mut self,
        message: PayloadMsg,
        context: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        match message {
            PayloadMsg::Add(payload) => {
                self.total += payload[0];
                self.received += 1;
                if self.received.is_multiple_of(CONFIRM_EVERY)
                    && let Some(driver) = self.driver
                {
                    context.tell(driver, PayloadDriverMsg::Confirmed);
                }
            }
            PayloadMsg::ConfirmTo(driver) => self.driver = Some(driver),
            PayloadMsg::Total(reply) => context.reply(reply, self.total),
        }
        Ok(Next::Continue)
    }
}

/// Tells a [`PayloadCounter`] on another core, never more than [`WINDOW`] ahead of what it confirmed.
pub(crate) struct PayloadDriver {
    counter: ActorRef<PayloadMsg>,
    left: u64,
    room: u64,
    started: Instant,
    reply: Option<ReplyTo<Outcome>>,
}

#[derive(Debug)]
pub(crate) enum PayloadDriverMsg {
    Start(ReplyTo<Outcome>),
    /// [`CONFIRM_EVERY`] more have arrived.
    Confirmed,
    Counted(Result<u64, AskError>),
}

impl PayloadDriver {
    pub(crate) fn new(counter: ActorRef<PayloadMsg>, left: u64) -> Self {
        Self {
            counter,
            left,
            room: WINDOW,
            started: Instant::now(),
            reply: None,
        }
    }

    fn fill_window(&mut self, context: &mut Context<'_, Self>) {
        let length = self.left.min(self.room);
        for _ in 0..length {
            context.tell(self.counter, PayloadMsg::Add([1; PAYLOAD_WORDS]));
        }
        self.left -= length;
        self.room -= length;
        if self.left == 0 && length > 0 {
            context.ask(self.counter, PayloadMsg::Total, PayloadDriverMsg::Counted);
        }
    }
}

impl Actor for PayloadDriver {
    type Msg = PayloadDriverMsg;

    fn receive(
        &mut self,
        message: PayloadDriverMsg,
        context: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        match message {
            PayloadDriverMsg::Start(reply) => {
                self.reply = Some(reply);
                let me = context.me();
                context.tell(self.counter, PayloadMsg::ConfirmTo(me));
                self.started = Instant::now();
                self.fill_window(context);
            }
            PayloadDriverMsg::Confirmed => {
                self.room += CONFIRM_EVERY;
                self.fill_window(context);
            }
            PayloadDriverMsg::Counted(total) => {
                let total = total?;
                if let Some(reply) = self.reply.take() {
                    context.reply(reply, (total, self.started.elapsed()));
                }
                return Ok(Next::Stop);
            }
        }
        Ok(Next::Continue)
    }
}

/// A member of the ring.
#[derive(Default)]
pub(crate) struct Node {
    hops: u64,
    next: Option<ActorRef<NodeMsg>>,
    has_ended: bool,
    finished: Option<ReplyTo<()>>,
}

#[derive(Debug)]
pub(crate) enum NodeMsg {
    /// Who is next.
    Join(ActorRef<NodeMsg>, ReplyTo<()>),
    /// To be answered as soon as the token has ended here.
    Finished(ReplyTo<()>),
    /// With the hops that are left after this one.
    Token(u64),
    Hops(ReplyTo<u64>),
}

impl Actor for Node {
    type Msg = NodeMsg;

    fn receive(
        &mut self,
        message: NodeMsg,
        context: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        match message {
            NodeMsg::Join(next, joined) => {
                self.next = Some(next);
                context.reply(joined, ());
            }
            NodeMsg::Finished(reply) if self.has_ended => context.reply(reply, ()),
            NodeMsg::Finished(reply) => self.finished = Some(reply),
            NodeMsg::Token(left) => {
                self.hops += 1;
                if left == 0 {
                    self.has_ended = true;
                    if let Some(finished) = self.finished.take() {
                        context.reply(finished, ());
                    }
                } else if let Some(next) = self.next {
                    context.tell(next, NodeMsg::Token(left - 1));
                }
            }
            NodeMsg::Hops(reply) => context.reply(reply, self.hops),
        }
        Ok(Next::Continue)
    }
}

/// Spawns counters one after the other: told, asked, stopped.
pub(crate) struct Spawner {
    left: u64,
    spawned: u64,
    counter: Option<ActorRef<CounterMsg>>,
    counted: u64,
    stops: Stops,
    started: Instant,
    reply: Option<ReplyTo<Outcome>>,
}

#[derive(Debug)]
pub(crate) enum SpawnerMsg {
    Start(ReplyTo<Outcome>),
    Counted(Result<u64, AskError>),
    /// To see whether all are gone.
    LookAgain,
}

impl Spawner {
    pub(crate) fn new(actors: u64) -> Self {
        Self {
            left: actors,
            spawned: 0,
            counter: None,
            counted: 0,
            stops: Stops::default(),
            started: Instant::now(),
            reply: None,
        }
    }

    fn spawn_next(&mut self, context: &mut Context<'_, Self>) -> Result<(), Fault> {
        let stops = self.stops.clone();
        let counter = context.spawn_actor(move || Counter {
            total: 0,
            _stop: Some(stops.token()),
        })?;
        context.tell(counter, CounterMsg::Add(1));
        context.ask(counter, CounterMsg::Total, SpawnerMsg::Counted);
        self.counter = Some(counter);
        self.spawned += 1;
        self.left -= 1;
        Ok(())
    }

    fn finish_when_all_stopped(&mut self, context: &mut Context<'_, Self>) -> Next {
        if self.stops.count() < self.spawned {
            let me = context.me();
            context.tell(me, SpawnerMsg::LookAgain);
            return Next::Continue;
        }
        if let Some(reply) = self.reply.take() {
            context.reply(reply, (self.counted, self.started.elapsed()));
        }
        Next::Stop
    }
}

impl Actor for Spawner {
    type Msg = SpawnerMsg;

    fn receive(
        &mut self,
        message: SpawnerMsg,
        context: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        match message {
            SpawnerMsg::Start(reply) => {
                self.reply = Some(reply);
                self.started = Instant::now();
                self.spawn_next(context)?;
            }
            SpawnerMsg::Counted(total) => {
                self.counted += total?;
                if let Some(counter) = self.counter.take() {
                    context.tell(counter, CounterMsg::Quit);
                }
                if self.left > 0 {
                    self.spawn_next(context)?;
                } else {
                    return Ok(self.finish_when_all_stopped(context));
                }
            }
            SpawnerMsg::LookAgain => return Ok(self.finish_when_all_stopped(context)),
        }
        Ok(Next::Continue)
    }
}
