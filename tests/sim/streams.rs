//! Streams: in order, each item once, no more than was asked for, and an end that comes behind them, whatever happens to
//! either side.
//!
//! A long run: `CORECAST_SEEDS=10000 cargo test --test sim streams`.

use corecast::base::ids::CoreId;
use corecast::base::rng::seeded;
use corecast::sim::{Bounds, Simulation, check_seeds};
use corecast::{
    Actor, Consumer, Context, EntityType, Fault, Feed, Next, PushError, Rejection, ReplyTo, Source,
    StreamError, StreamEvent, StreamRef, StreamSettings,
};
use rand::RngExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Pushes numbers as fast as they are taken, and ends as it was told to.
struct Producer {
    next: u64,
    to: u64,
    end: End,
    source: Option<Source<u64>>,
    log: Log,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Complete,
    Fail,
    Abandon,
    Panic,
    Fault,
}

#[derive(Debug)]
enum Produce {
    Open(StreamSettings<u64>, ReplyTo<StreamRef<u64>>),
    Ready,
    Deserted,
    Demand(ReplyTo<(usize, usize, usize)>),
    Stop,
}

/// What has happened, for the test to look at.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Actor for Producer {
    type Msg = Produce;

    fn receive(&mut self, msg: Produce, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Produce::Open(settings, reply_to) => {
                let (source, stream) = ctx.open_stream(settings)?;
                ctx.spawn(source.deserted(), |_| Produce::Deserted);
                self.source = Some(source);
                ctx.reply(reply_to, stream);
            }
            Produce::Ready => {}
            Produce::Deserted => self.log.note("deserted"),
            Produce::Demand(reply_to) => {
                let source = self.source.as_ref().unwrap();
                let known = (source.demand(), source.buffered(), source.consumers());
                ctx.reply(reply_to, known);
            }
            Produce::Stop => return Ok(Next::Stop),
        }
        self.produce(ctx)
    }
}

impl Producer {
    fn produce(&mut self, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let Some(source) = &self.source else {
            return Ok(Next::Continue);
        };
        while self.next < self.to {
            match source.try_push(self.next) {
                Ok(()) => self.next += 1,
                Err(PushError::Full(item)) => {
                    assert_eq!(item, self.next);
                    ctx.spawn(source.ready(), |_| Produce::Ready);
                    return Ok(Next::Continue);
                }
                Err(PushError::Gone(_)) => {
                    self.log.note("gone");
                    return Ok(Next::Stop);
                }
            }
        }
        let source = self.source.take();
        match (self.end, source) {
            (End::Complete, Some(source)) => source.complete(),
            (End::Fail, Some(source)) => source.fail("on purpose"),
            (End::Abandon, _) => {}
            (End::Panic, _source) => panic!("on purpose"),
            (End::Fault, _source) => return Err(Fault::new("on purpose")),
            (_, None) => {}
        }
        Ok(Next::Continue)
    }
}

fn expected(end: End) -> Result<(), StreamError> {
    match end {
        End::Complete => Ok(()),
        End::Fail => Err(StreamError::Failed("on purpose".into())),
        End::Abandon | End::Panic | End::Fault => Err(StreamError::Abandoned),
    }
}

/// A producer of so many numbers on a core, and its stream.
fn producer(
    sim: &mut Simulation,
    core: u16,
    settings: StreamSettings<u64>,
    items: u64,
    end: End,
) -> (corecast::ActorRef<Produce>, StreamRef<u64>, Log) {
    let log = Log::default();
    let its_log = log.clone();
    let producer = sim
        .spawn(CoreId(core), move || Producer {
            next: 0,
            to: items,
            end,
            source: None,
            log: its_log,
        })
        .unwrap();
    let stream = sim
        .ask(producer, |reply_to| Produce::Open(settings, reply_to))
        .unwrap();
    (producer, stream, log)
}

type Got = (Vec<u64>, Result<(), StreamError>);

/// Takes everything out of a stream, now and then slowly.
async fn drain(scope: corecast::Scope, mut consumer: Consumer<u64>, nap: Duration) -> Got {
    let mut got = Vec::new();
    loop {
        if !nap.is_zero() && got.len() % 7 == 3 {
            scope.sleep(nap).await;
        }
        match consumer.next().await {
            Some(Ok(item)) => got.push(item),
            Some(Err(error)) => {
                assert_eq!(
                    consumer.next().await,
                    None,
                    "an error is the last that comes"
                );
                return (got, Err(error));
            }
            None => return (got, Ok(())),
        }
    }
}

/// Nothing is left of the streams: no actor but the expected ones, no future and no ask.
#[track_caller]
fn assert_nothing_left(sim: &mut Simulation, actors: usize) {
    sim.run_until_idle();
    sim.run_for(Duration::from_secs(10));
    assert!(sim.run_until_idle());
    let stats = sim.stats();
    let count = |of: fn(&corecast::CoreStats) -> usize| stats.cores.iter().map(of).sum::<usize>();
    assert_eq!(count(|core| core.actors), actors, "actors");
    assert_eq!(count(|core| core.tasks), 0, "futures");
    assert_eq!(count(|core| core.open_asks), 0, "asks");
}

#[test]
fn everything_comes_in_order_and_then_the_end() {
    check_seeds(60, |builder| {
        let mut rng = seeded(builder.seed(), 70);
        let mut sim = builder.cores(3).swarm().start();
        for end in [
            End::Complete,
            End::Fail,
            End::Abandon,
            End::Panic,
            End::Fault,
        ] {
            let items = [0, 1, 5, 100, 1_000][rng.random_range(0..5)];
            let buffer = [1, 2, 16, 2_000][rng.random_range(0..4)];
            let ahead = [0, 1, 3, 64][rng.random_range(0..4)];
            let nap = Duration::from_micros([0, 0, 300][rng.random_range(0..3)]);
            let settings = match rng.random_ratio(1, 2) {
                true => StreamSettings::shared(buffer),
                false => StreamSettings::broadcast(buffer),
            };
            let (from, to) = (rng.random_range(0..3), rng.random_range(0..3));
            let (_, stream, _) = producer(&mut sim, from, settings, items, end);
            let got = sim.handle().run_on(CoreId(to), move |scope| {
                let consumer = scope.consume_ahead(stream, ahead);
                drain(scope, consumer, nap)
            });
            let (got, ended) = sim.run_until(got).unwrap().unwrap();
            assert!(got.into_iter().eq(0..items), "{end:?}");
            assert_eq!(ended, expected(end));
        }
        let alive = 3; // those that failed have stopped
        assert_nothing_left(&mut sim, alive);
        sim
    });
}

/// Consumes with a demand of its own.
struct Sink {
    stream: StreamRef<u64>,
    demand: usize,
    more: usize,
    feed: Option<Feed<u64>>,
    got: Arc<Mutex<Vec<StreamEvent<u64>>>>,
    fails_at: Option<u64>,
}

#[derive(Debug)]
enum SinkMsg {
    Event(StreamEvent<u64>),
    Request(usize),
    Cancel,
    Stop,
}

impl Actor for Sink {
    type Msg = SinkMsg;

    fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        let fails_at = self.fails_at;
        self.feed = Some(ctx.consume(self.stream, self.demand, move |event| {
            assert!(
                fails_at.is_none() || event != StreamEvent::Item(fails_at.unwrap()),
                "on purpose"
            );
            SinkMsg::Event(event)
        }));
        Ok(())
    }

    fn receive(&mut self, msg: SinkMsg, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            SinkMsg::Event(event) => {
                self.got.lock().unwrap().push(event);
                if let Some(feed) = &self.feed
                    && self.more > 0
                {
                    feed.request(self.more);
                }
            }
            SinkMsg::Request(items) => self.feed.as_ref().unwrap().request(items),
            SinkMsg::Cancel => self.feed.take().unwrap().cancel(),
            SinkMsg::Stop => return Ok(Next::Stop),
        }
        Ok(Next::Continue)
    }
}

type Events = Arc<Mutex<Vec<StreamEvent<u64>>>>;

fn sink(
    sim: &mut Simulation,
    core: u16,
    stream: StreamRef<u64>,
    demand: usize,
    more: usize,
) -> (corecast::ActorRef<SinkMsg>, Events) {
    let got = Events::default();
    let its = got.clone();
    let sink = sim.spawn(CoreId(core), move || Sink {
        stream,
        demand,
        more,
        feed: None,
        got: its,
        fails_at: None,
    });
    (sink.unwrap(), got)
}

fn items(events: &Events) -> Vec<u64> {
    let items = events.lock().unwrap();
    let items = items.iter().filter_map(|event| match event {
        StreamEvent::Item(item) => Some(*item),
        _ => None,
    });
    items.collect()
}

fn last(events: &Events) -> Option<StreamEvent<u64>> {
    events.lock().unwrap().last().cloned()
}

#[test]
fn no_demand_brings_nothing_and_the_end_needs_none() {
    check_seeds(40, |builder| {
        let (from, to) = ((builder.seed() % 2) as u16, (builder.seed() / 2 % 2) as u16);
        let mut sim = builder.cores(2).swarm().start();
        let settings = StreamSettings::shared(4);
        let (producer, stream, _) = producer(&mut sim, from, settings, 10, End::Complete);
        let (sink, events) = sink(&mut sim, to, stream, 0, 0);
        sim.run_for(Duration::from_secs(3_600));
        assert_eq!(last(&events), None);
        // The producer is held back, by its buffer.
        assert_eq!(sim.ask(producer, Produce::Demand), Ok((0, 4, 1)));
        for (request, come) in [(1, 1), (3, 4), (0, 4), (5, 9)] {
            sim.run_until_idle();
            sim.tell(sink, SinkMsg::Request(request));
            sim.run_for(Duration::from_secs(3_600));
            assert!(items(&events).into_iter().eq(0..come));
        }
        // The last item, and with it the end, which needs no demand.
        sim.tell(sink, SinkMsg::Request(1));
        sim.run_until_idle();
        assert!(items(&events).into_iter().eq(0..10));
        assert_eq!(last(&events), Some(StreamEvent::Completed));
        assert_nothing_left(&mut sim, 2);
        sim
    });
}

#[test]
fn what_was_pushed_is_drained_before_the_end_also_by_who_comes_later() {
    check_seeds(40, |builder| {
        let mut rng = seeded(builder.seed(), 71);
        let mut sim = builder.cores(2).swarm().start();
        for (end, settings) in [
            (End::Complete, StreamSettings::shared(100)),
            (End::Fail, StreamSettings::broadcast(100)),
        ] {
            let (producer, stream, _) = producer(&mut sim, 0, settings, 50, end);
            // The producer goes; the stream stays for who comes.
            sim.run_until_idle();
            sim.tell(producer, Produce::Stop);
            sim.run_for(Duration::from_millis(rng.random_range(0..4_900)));
            let (_, events) = sink(&mut sim, rng.random_range(0..2), stream, 7, 1);
            sim.run_until_idle();
            assert!(items(&events).into_iter().eq(0..50));
            let ended = expected(end).map_or_else(StreamEvent::Failed, |()| StreamEvent::Completed);
            assert_eq!(last(&events), Some(ended));
            // It is over now, and says so.
            let (_, events) = sink(&mut sim, 1, stream, 7, 1);
            sim.run_until_idle();
            let over = StreamEvent::Failed(Rejection::NoSuchActor.into());
            assert_eq!(last(&events), Some(over));
        }
        assert_nothing_left(&mut sim, 4);
        sim
    });
}

#[test]
fn what_nobody_comes_for_is_counted() {
    check_seeds(20, |builder| {
        let mut sim = builder.cores(2).start();
        let settings = StreamSettings::shared(100).linger(Duration::from_secs(1));
        let (_, stream, _) = producer(&mut sim, 1, settings, 50, End::Complete);
        sim.run_for(Duration::from_millis(900));
        assert_eq!(
            sim.stats()
                .cores
                .iter()
                .map(|core| core.actors)
                .sum::<usize>(),
            2
        );
        sim.run_for(Duration::from_millis(200));
        let stopped = |stats: corecast::Stats| -> u64 {
            let cores = stats.cores.iter().flat_map(|core| &core.dead_letters);
            let stopped = cores.filter(|(why, _)| *why == Rejection::Stopped);
            stopped.map(|(_, count)| count).sum()
        };
        assert_eq!(stopped(sim.stats()), 50);
        let mut late = sim.handle().consume(stream);
        sim.run_until_idle();
        let over = std::task::Poll::Ready(Some(Err(Rejection::NoSuchActor.into())));
        assert_eq!(poll(&mut late), over);
        drop(late);
        assert_nothing_left(&mut sim, 1);
        sim
    });
}

fn poll(consumer: &mut Consumer<u64>) -> std::task::Poll<Option<Result<u64, StreamError>>> {
    consumer.poll_next(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

#[test]
fn a_producer_that_stops_in_mid_stream_is_heard() {
    check_seeds(40, |builder| {
        let mut rng = seeded(builder.seed(), 72);
        let mut sim = builder.cores(2).swarm().start();
        let shared = rng.random_ratio(1, 2);
        let settings = match shared {
            true => StreamSettings::shared(8),
            false => StreamSettings::broadcast(8),
        };
        let from = rng.random_range(0..2);
        let (producer, stream, _) = producer(&mut sim, from, settings, u64::MAX, End::Complete);
        let (_, idle) = sink(&mut sim, rng.random_range(0..2), stream, 20, 0);
        sim.run_until_idle();
        assert!(items(&idle).into_iter().eq(0..20));
        sim.tell(producer, Produce::Stop);
        sim.run_until_idle();
        // What it had pushed may still be taken; whoever wants nothing of it does not hear of the end yet.
        assert!(matches!(last(&idle), Some(StreamEvent::Item(19))));
        let got = sim.handle().run_on(CoreId(0), move |scope| {
            let consumer = scope.consume(stream);
            drain(scope, consumer, Duration::ZERO)
        });
        let (got, ended) = sim.run_until(got).unwrap().unwrap();
        assert!(got.into_iter().eq(20..28));
        assert_eq!(ended, Err(StreamError::Abandoned));
        if shared {
            // Now there is nothing left, and the end needs no demand.
            sim.run_until_idle();
            let abandoned = StreamEvent::Failed(StreamError::Abandoned);
            assert_eq!(last(&idle), Some(abandoned));
        }
        sim
    });
}

#[test]
fn a_consumer_that_goes_is_heard_and_loses_nothing() {
    check_seeds(60, |builder| {
        let mut rng = seeded(builder.seed(), 73);
        let mut sim = builder.cores(3).swarm().start();
        let from = rng.random_range(0..3);
        let settings = StreamSettings::shared(5);
        let (producer, stream, log) = producer(&mut sim, from, settings, 500, End::Complete);
        let mut all = Vec::new();
        for _ in 0..rng.random_range(1..6) {
            // Futures that stop in the middle, with items in hand and some on their way.
            let take = rng.random_range(0..60);
            let taken =
                sim.handle()
                    .run_on(CoreId(rng.random_range(0..3)), move |scope| async move {
                        let mut consumer = scope.consume(stream);
                        let mut got = Vec::new();
                        while got.len() < take {
                            got.push(consumer.next().await.unwrap().unwrap());
                        }
                        got
                    });
            all.extend(sim.run_until(taken).unwrap().unwrap());
            sim.run_until_idle();
            let known = sim.ask(producer, Produce::Demand).unwrap();
            assert_eq!(
                (known.0, known.2),
                (0, 0),
                "nobody is left who wants anything"
            );
        }
        // It waits for the first to come before it can be deserted.
        assert_eq!(log.take(), ["deserted"]);
        // An actor that cancels, one that stops, and one that fails: what has become their message is theirs.
        for how in 0..3 {
            let fails_at = (how == 2).then_some(all.len() as u64 + 10);
            let events = Events::default();
            let its = events.clone();
            let sink = sim.spawn(CoreId(rng.random_range(0..3)), move || Sink {
                stream,
                demand: 20,
                more: 0,
                feed: None,
                got: its,
                fails_at,
            });
            sim.run_until_idle();
            sim.tell(
                sink.unwrap(),
                if how == 0 {
                    SinkMsg::Cancel
                } else {
                    SinkMsg::Stop
                },
            );
            sim.run_until_idle();
            if how == 2 {
                // Its ten were thrown away with it, and the eleventh with the panic.
                all.extend(all.len() as u64..all.len() as u64 + 11);
            } else {
                assert_eq!(items(&events).len(), 20);
                all.extend(items(&events));
            }
            assert_eq!(sim.ask(producer, Produce::Demand).unwrap().2, 0);
        }
        let rest = sim.handle().run_on(CoreId(1), move |scope| {
            let consumer = scope.consume(stream);
            drain(scope, consumer, Duration::ZERO)
        });
        let (rest, ended) = sim.run_until(rest).unwrap().unwrap();
        all.extend(rest);
        assert!(all.into_iter().eq(0..500), "each item once, and in order");
        assert_eq!(ended, Ok(()));
        sim
    });
}

#[test]
fn several_share_the_work_or_each_get_all() {
    check_seeds(60, |builder| {
        let mut rng = seeded(builder.seed(), 74);
        let mut sim = builder.cores(3).swarm().start();
        let shared = rng.random_ratio(1, 2);
        let buffer = rng.random_range(1..20);
        let from = rng.random_range(0..3);
        // All are there before the first item: it is pushed from here.
        let opened = sim.handle().open_stream_on(
            CoreId(from),
            match shared {
                true => StreamSettings::shared(buffer),
                false => StreamSettings::broadcast(buffer),
            },
        );
        let (source, stream) = sim.run_until(opened).unwrap().unwrap();
        let mut futures = Vec::new();
        let mut sinks = Vec::new();
        for _ in 0..rng.random_range(1..4) {
            let nap = Duration::from_micros([0, 500][rng.random_range(0..2)]);
            let ahead = [0, 2, 64][rng.random_range(0..3)];
            futures.push(
                sim.handle()
                    .run_on(CoreId(rng.random_range(0..3)), move |scope| {
                        let consumer = scope.consume_ahead(stream, ahead);
                        drain(scope, consumer, nap)
                    }),
            );
            // With tiny bounds two at a time could find each other's way taken.
            sim.run_until_idle();
            let demand = rng.random_range(1..10);
            sinks.push(sink(&mut sim, rng.random_range(0..3), stream, demand, 1).1);
            sim.run_until_idle();
        }
        assert_eq!(source.consumers(), futures.len() + sinks.len());
        let pushed = sim.handle().run_on(CoreId(from), move |_| async move {
            for number in 0..300 {
                source.push(number).await.unwrap();
            }
            source.complete();
        });
        sim.run_until(pushed).unwrap().unwrap();
        let mut parts = Vec::new();
        for future in futures {
            let (got, ended) = sim.run_until(future).unwrap().unwrap();
            assert_eq!(ended, Ok(()));
            parts.push(got);
        }
        sim.run_until_idle();
        for events in sinks {
            assert_eq!(last(&events), Some(StreamEvent::Completed));
            parts.push(items(&events));
        }
        for part in &parts {
            assert!(part.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(shared || part.iter().copied().eq(0..300));
        }
        if shared {
            let mut all: Vec<u64> = parts.concat();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..300));
        }
        sim
    });
}

#[test]
fn a_slow_consumer_holds_the_producer_back_or_is_cut_off() {
    check_seeds(30, |builder| {
        let mut rng = seeded(builder.seed(), 75);
        let mut sim = builder.cores(2).swarm().start();
        for settings in [
            StreamSettings::shared(10),
            StreamSettings::broadcast(10),
            StreamSettings::broadcast(10).cut_off_slow(),
        ] {
            let cuts_off = format!("{settings:?}").contains("KeepsUp");
            let shared = format!("{settings:?}").contains("Shared");
            let opened = sim.handle().open_stream_on(CoreId(0), settings);
            let (source, stream) = sim.run_until(opened).unwrap().unwrap();
            let source = Arc::new(source);
            let (_, fast) = sink(&mut sim, rng.random_range(0..2), stream, 5, 1);
            sim.run_until_idle();
            let (slow, some) = sink(&mut sim, rng.random_range(0..2), stream, 3, 0);
            sim.run_until_idle();
            let its = source.clone();
            let pushing = sim.handle().run_on(CoreId(0), move |scope| async move {
                for number in 0..100 {
                    its.push(number).await.unwrap();
                    if cuts_off && number % 5 == 0 {
                        // Nobody keeps up with a producer that waits for nothing.
                        scope.sleep(Duration::from_secs(1)).await;
                    }
                }
            });
            sim.run_for(Duration::from_secs(30));
            sim.run_until_idle();
            assert!(source.buffered() <= 10);
            if cuts_off {
                assert_eq!(last(&some), Some(StreamEvent::Failed(StreamError::TooSlow)));
                assert!(items(&some).into_iter().eq(0..3));
                assert!(items(&fast).into_iter().eq(0..100));
            } else if shared {
                assert_eq!(items(&fast).len() + items(&some).len(), 100);
            } else {
                assert_eq!(
                    items(&fast).len(),
                    13,
                    "the buffer beyond what the slow one has"
                );
                assert!(pushing.try_take().is_err());
                sim.tell(slow, SinkMsg::Request(1_000));
                sim.run_until_idle();
                assert!(items(&some).into_iter().eq(0..100));
                assert!(items(&fast).into_iter().eq(0..100));
            }
            drop(source);
            sim.run_until_idle();
        }
        sim
    });
}

/// An entity that keeps its feed while its shard moves.
#[derive(Debug)]
enum EntityMsg {
    Consume(StreamRef<u64>),
    Event(StreamEvent<u64>),
    Got(ReplyTo<Vec<StreamEvent<u64>>>),
}

#[derive(Default)]
struct Wanderer {
    feed: Option<Feed<u64>>,
    got: Vec<StreamEvent<u64>>,
}

impl Actor for Wanderer {
    type Msg = EntityMsg;

    fn receive(&mut self, msg: EntityMsg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            EntityMsg::Consume(stream) => {
                self.feed = Some(ctx.consume(stream, 3, EntityMsg::Event));
            }
            EntityMsg::Event(event) => {
                self.got.push(event);
                self.feed.as_ref().unwrap().request(1);
            }
            EntityMsg::Got(reply_to) => ctx.reply(reply_to, self.got.clone()),
        }
        Ok(Next::Continue)
    }
}

#[test]
fn a_feed_moves_with_its_entity() {
    check_seeds(30, |mut builder| {
        let mut rng = seeded(builder.seed(), 76);
        let entities = EntityType::send("wanderer", |_: &u64| Wanderer::default()).num_shards(1);
        let region = builder.entities(entities);
        let mut sim = builder.cores(3).swarm().start();
        let opened = sim
            .handle()
            .open_stream_on(CoreId(0), StreamSettings::shared(4));
        let (source, stream) = sim.run_until(opened).unwrap().unwrap();
        let wanderer = region.entity_ref(7);
        sim.tell(&wanderer, EntityMsg::Consume(stream));
        sim.run_until_idle();
        let pushing = sim.handle().run_on(CoreId(0), move |scope| async move {
            for number in 0..200 {
                source.push(number).await.unwrap();
                if number % 10 == 0 {
                    scope.sleep(Duration::from_micros(50)).await;
                }
            }
            source.complete();
        });
        let shard = region.shard_of(&7);
        for _ in 0..6 {
            sim.run_for(Duration::from_micros(rng.random_range(0..400)));
            let _ = sim.move_shard(shard, CoreId(rng.random_range(0..3)));
        }
        sim.run_until(pushing).unwrap().unwrap();
        sim.run_until_idle();
        let mut got = sim.ask(&wanderer, EntityMsg::Got).unwrap();
        assert_eq!(got.pop(), Some(StreamEvent::Completed));
        assert!(got.into_iter().eq((0..200).map(StreamEvent::Item)));
        sim
    });
}

#[test]
fn one_consumer_too_many_and_one_ask_too_many_are_told() {
    check_seeds(20, |builder| {
        let core = (builder.seed() % 2) as u16;
        let bounds = Bounds {
            asks: 20,
            ..Bounds::default()
        };
        let mut sim = builder.cores(2).bounds(bounds).start();
        let settings = StreamSettings::shared(4).consumers(2);
        let (first, stream, _) = producer(&mut sim, 0, settings, 100, End::Complete);
        let mut two = [
            sim.handle().consume_ahead(stream, 1),
            sim.handle().consume_ahead(stream, 1),
        ];
        sim.run_until_idle();
        let mut third = sim.handle().consume(stream);
        sim.run_until_idle();
        let refused = |why: StreamError| std::task::Poll::Ready(Some(Err(why)));
        assert_eq!(poll(&mut third), refused(StreamError::TooManyConsumers));
        assert!(two.iter_mut().all(|one| poll(one).is_ready()));
        drop((two, third));
        sim.run_until_idle();
        // Idle streams, until a core has no ask left for their consumers.
        let mut kept = Vec::new();
        let handle = sim.handle().through(CoreId(core)).unwrap();
        for _ in 0..20 {
            let opened = sim
                .handle()
                .open_stream_on(CoreId(0), StreamSettings::<u64>::shared(1));
            let (source, stream) = sim.run_until(opened).unwrap().unwrap();
            kept.push((source, handle.consume(stream)));
            sim.run_until_idle();
        }
        let ends: Vec<_> = kept
            .iter_mut()
            .map(|(_, consumer)| poll(consumer))
            .collect();
        let (refused, idle): (Vec<_>, Vec<_>) = ends.into_iter().partition(|end| end.is_ready());
        let why = std::task::Poll::Ready(Some(Err(Rejection::TooManyAsks.into())));
        assert!(refused.iter().all(|end| *end == why), "{refused:?}");
        assert!(refused.len() > 5 && idle.len() > 2, "{}", refused.len());
        drop(kept);
        sim.tell(first, Produce::Stop);
        assert_nothing_left(&mut sim, 0);
        sim
    });
}

#[test]
fn nothing_is_left_of_streams_that_come_and_go() {
    check_seeds(6, |builder| {
        let mut rng = seeded(builder.seed(), 77);
        let mut sim = builder.cores(2).start();
        for round in 0..40 {
            let cores = (CoreId(round % 2), CoreId(rng.random_range(0..2)));
            let streams = sim.handle().run_on(cores.0, move |scope| async move {
                let open = |_| scope.open_stream(StreamSettings::<u64>::shared(2)).unwrap();
                let opened: Vec<_> = (0..200).map(open).collect();
                let addresses: Vec<_> = opened.iter().map(|(_, stream)| *stream).collect();
                scope.spawn(async move {
                    for (number, (source, _)) in opened.into_iter().enumerate() {
                        // Some of them never have an item, some never a consumer, some end early.
                        for item in 0..number as u64 % 4 {
                            let _ = match number % 5 == 4 {
                                true => source.try_push(item),
                                false => source.push(item).await,
                            };
                        }
                        if number % 3 == 0 {
                            source.complete();
                        }
                    }
                });
                addresses
            });
            let streams = sim.run_until(streams).unwrap().unwrap();
            let taken = sim.handle().run_on(cores.1, move |scope| async move {
                let mut items = 0;
                for (number, stream) in streams.into_iter().enumerate() {
                    let mut consumer = scope.consume(stream);
                    if number % 5 == 4 {
                        continue;
                    }
                    while let Some(Ok(_)) = consumer.next().await {
                        items += 1;
                    }
                }
                items
            });
            assert!(sim.run_until(taken).unwrap().unwrap() > 0);
        }
        assert_nothing_left(&mut sim, 0);
        sim
    });
}

#[test]
fn the_end_of_the_runtime_is_heard_on_both_sides() {
    check_seeds(30, |builder| {
        let mut rng = seeded(builder.seed(), 78);
        let mut sim = builder.cores(2).swarm().start();
        let opened = sim
            .handle()
            .open_stream_on(CoreId(0), StreamSettings::shared(2));
        let (source, stream) = sim.run_until(opened).unwrap().unwrap();
        let handle = sim
            .handle()
            .through(CoreId(rng.random_range(0..2)))
            .unwrap();
        let ahead = rng.random_range(0..3);
        let mut consumer = handle.consume_ahead(stream, ahead);
        sim.run_until_idle();
        assert!(poll(&mut consumer).is_pending());
        source.try_push(1).unwrap();
        sim.run_until_idle();
        assert_eq!(poll(&mut consumer), std::task::Poll::Ready(Some(Ok(1))));
        assert!(sim.shutdown(Duration::from_secs(1)).drained);
        assert_eq!(
            poll(&mut consumer),
            std::task::Poll::Ready(Some(Err(StreamError::Lost)))
        );
        assert_eq!(source.try_push(2), Err(PushError::Gone(2)));
        let mut late = handle.consume(stream);
        let refused = StreamError::Refused(Rejection::ShuttingDown);
        assert_eq!(poll(&mut late), std::task::Poll::Ready(Some(Err(refused))));
        drop((consumer, late, source));
        sim
    });
}

/// Copying it panics.
#[derive(Debug)]
struct Uncopiable;

impl Clone for Uncopiable {
    fn clone(&self) -> Self {
        panic!("on purpose")
    }
}

#[test]
fn an_item_whose_copy_panics_fails_its_stream_and_nobody_else() {
    check_seeds(10, |builder| {
        let mut sim = builder.cores(2).swarm().start();
        let opened = sim
            .handle()
            .open_stream_on(CoreId(0), StreamSettings::broadcast(2));
        let (source, stream) = sim.run_until(opened).unwrap().unwrap();
        let got = sim.handle().run_on(CoreId(1), move |scope| async move {
            let mut consumer = scope.consume(stream);
            consumer.next().await.map(|item| item.map(|Uncopiable| ()))
        });
        source.try_push(Uncopiable).unwrap();
        let got = sim.run_until(got).unwrap().unwrap();
        assert!(matches!(got, Some(Err(StreamError::Failed(_)))), "{got:?}");
        assert!(matches!(
            source.try_push(Uncopiable),
            Err(PushError::Gone(_))
        ));
        drop(source);
        assert_nothing_left(&mut sim, 0);
        sim
    });
}
