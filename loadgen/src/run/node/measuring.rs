//! What is measured between two nodes beside bare TCP: tells as many as go, and asks one at a time.
//!
//! Each size has an entity type of its own, whose messages are as large as they say and no larger. What the other node has
//! handled is asked for every now and then, so that a bounded number is on its way.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use corecast::{
    Actor, AskError, Context, Fault, Mailbox, Next, Region, ReplyTo, Time, WireMessage,
};

use super::owners::Owners;
use crate::cluster::protocol::{WireNews, WireOrder, WireWork};
use crate::measure::Latencies;
use crate::run::clock::Clock;
use crate::run::error::RunError;
use crate::run::stage::Stage;

/// Tells sent in one turn.
const BURST: u64 = 256;
/// Tells that are on their way at once: enough for the longest time slice of a kernel.
const SMALL_IN_FLIGHT: u64 = 65_536;
const LARGE_IN_FLIGHT: u64 = 8_192;
/// Without any progress for so long a measurement is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells handled by the entities of this process, of all sizes.
static HANDLED: AtomicU64 = AtomicU64::new(0);

/// A tell of `N` bytes.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Bytes<const N: usize>([u8; N]);

impl WireMessage for Bytes<64> {
    const NAME: &'static str = "loadgen.Bytes64";
    const VERSION: u16 = 1;
}

impl WireMessage for Bytes<1024> {
    const NAME: &'static str = "loadgen.Bytes1024";
    const VERSION: u16 = 1;
}

/// 64 bytes to be answered with how many tells the process has handled.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Echo {
    bytes: [u8; 64],
    reply_to: ReplyTo<u64>,
}

impl WireMessage for Echo {
    const NAME: &'static str = "loadgen.Echo";
    const VERSION: u16 = 1;
}

/// An entity that takes tells of one size.
#[derive(Debug, Default)]
pub(super) struct Sink<const N: usize>;

/// An entity that answers.
#[derive(Debug, Default)]
pub(super) struct Answerer;

fn count(bytes: &[u8]) {
    // They are read, and there is one writer: no locked instruction.
    std::hint::black_box(
        bytes
            .iter()
            .step_by(64)
            .map(|byte| u64::from(*byte))
            .sum::<u64>(),
    );
    HANDLED.store(HANDLED.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

impl<const N: usize> Actor for Sink<N>
where
    Bytes<N>: WireMessage + rkyv::Archive<Archived = ArchivedBytes<N>>,
{
    type Msg = Bytes<N>;

    #[inline]
    fn receive(&mut self, message: Bytes<N>, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        count(&message.0);
        Ok(Next::Continue)
    }

    #[inline]
    fn receive_archived(
        &mut self,
        message: &ArchivedBytes<N>,
        _: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        count(&message.0);
        Ok(Next::Continue)
    }
}

impl Actor for Answerer {
    type Msg = Echo;

    fn receive(&mut self, message: Echo, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        std::hint::black_box(message.bytes[0]);
        ctx.reply(message.reply_to, HANDLED.load(Ordering::Relaxed));
        Ok(Next::Continue)
    }

    fn receive_archived(
        &mut self,
        message: &ArchivedEcho,
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        std::hint::black_box(message.bytes[0]);
        let reply_to = ctx.read::<ReplyTo<u64>>(&message.reply_to)?;
        ctx.reply(reply_to, HANDLED.load(Ordering::Relaxed));
        Ok(Next::Continue)
    }
}

/// The entity types of the measurements, with who owns their shards.
#[derive(Clone, Debug)]
pub(super) struct WireRegions {
    pub(super) small: (Region<u64, Bytes<64>>, Arc<Owners>),
    pub(super) large: (Region<u64, Bytes<1024>>, Arc<Owners>),
    pub(super) echo: (Region<u64, Echo>, Arc<Owners>),
}

impl WireRegions {
    /// Has shards given to somebody that nobody owns.
    pub(super) fn allocate(&self, handle: &corecast::Handle) {
        for key in self.small.1.keys_of_nobody() {
            handle.tell(self.small.0.entity(&key), Bytes([0; 64]));
        }
        for key in self.large.1.keys_of_nobody() {
            handle.tell(self.large.0.entity(&key), Bytes([0; 1024]));
        }
        for key in self.echo.1.keys_of_nobody() {
            let echo = |reply_to| Echo {
                bytes: [0; 64],
                reply_to,
            };
            drop(handle.ask(self.echo.0.entity(&key), echo));
        }
    }

    /// Begins a measurement; what it finds is sent to `found`.
    pub(super) fn measure(
        &self,
        stage: &Stage,
        order: WireOrder,
        found: Sender<WireNews>,
    ) -> Result<(), RunError> {
        let keys = |owners: &Owners| owners.keys_of(order.to);
        let (echo, ask_keys) = (self.echo.0, keys(&self.echo.1));
        let begin = stage.clock.now();
        let until = begin + Duration::from_nanos(order.duration_ns);
        let none = |what: &WireWork| WireNews {
            messages: 0,
            elapsed_ns: 0,
            latencies: Latencies::new(),
            failed: Some(format!("the other node owns no shards for {what:?}")),
        };
        let Some(&ask_key) = ask_keys.first() else {
            let _ = found.send(none(&order.what));
            return Ok(());
        };
        let asker = Asker {
            region: echo,
            key: ask_key,
            clock: stage.clock,
            begin,
            until,
            sent: begin,
            latencies: Latencies::new(),
            answered: 0,
            found: found.clone(),
        };
        match order.what {
            WireWork::Asks => {
                let mut asker = Some(asker);
                let make = move || asker.take().expect("it is made once");
                let spawned =
                    stage
                        .handle
                        .spawn_with(corecast::CoreId(0), Mailbox::unbounded(), make);
                stage.handle.tell(spawned.wait()?, ToAsker::Next);
                Ok(())
            }
            WireWork::SmallTells => {
                let (region, owners) = &self.small;
                self.flood(stage, *region, keys(owners), SMALL_IN_FLIGHT, asker)
            }
            WireWork::LargeTells => {
                let (region, owners) = &self.large;
                self.flood(stage, *region, keys(owners), LARGE_IN_FLIGHT, asker)
            }
        }
    }

    fn flood<const N: usize>(
        &self,
        stage: &Stage,
        region: Region<u64, Bytes<N>>,
        keys: Vec<u64>,
        in_flight: u64,
        asker: Asker,
    ) -> Result<(), RunError>
    where
        Bytes<N>: WireMessage,
    {
        if keys.is_empty() {
            let failed = Some("the other node owns no shards".to_owned());
            let _ = asker.found.send(asker.news(failed));
            return Ok(());
        }
        let mut flooder = Some(Flooder {
            region,
            keys,
            next: 0,
            in_flight,
            sent: 0,
            base: None,
            handled: 0,
            is_counted: false,
            progress: asker.begin,
            asker,
        });
        let make = move || flooder.take().expect("it is made once");
        let core = corecast::CoreId(0);
        let spawned = stage.handle.spawn_with(core, Mailbox::unbounded(), make);
        stage.handle.tell(spawned.wait()?, ToFlooder::Go);
        Ok(())
    }
}

/// Asks one entity, one ask at a time.
struct Asker {
    region: Region<u64, Echo>,
    key: u64,
    clock: Clock,
    begin: Time,
    until: Time,
    sent: Time,
    latencies: Latencies,
    answered: u64,
    found: Sender<WireNews>,
}

#[derive(Debug)]
enum ToAsker {
    Next,
    Answered(Result<u64, AskError>),
}

impl Asker {
    fn news(&self, failed: Option<String>) -> WireNews {
        let elapsed = self.clock.now() - self.begin;
        WireNews {
            messages: self.answered,
            elapsed_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
            latencies: self.latencies.clone(),
            failed,
        }
    }
}

impl Actor for Asker {
    type Msg = ToAsker;

    fn receive(&mut self, message: ToAsker, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let now = self.clock.now();
        match message {
            ToAsker::Next => {}
            ToAsker::Answered(Ok(_)) => {
                self.answered += 1;
                self.latencies.record(now - self.sent);
            }
            ToAsker::Answered(Err(error)) => {
                let _ = self.found.send(self.news(Some(error.to_string())));
                return Ok(Next::Stop);
            }
        }
        if now >= self.until {
            let _ = self.found.send(self.news(None));
            return Ok(Next::Stop);
        }
        self.sent = self.clock.now();
        ctx.ask(
            self.region.entity(&self.key),
            |reply_to| Echo {
                bytes: [7; 64],
                reply_to,
            },
            ToAsker::Answered,
        );
        Ok(Next::Continue)
    }
}

/// Sends tells as many as go to entities of the other node, one after the other.
struct Flooder<const N: usize> {
    region: Region<u64, Bytes<N>>,
    keys: Vec<u64>,
    next: usize,
    in_flight: u64,
    sent: u64,
    /// What the other node had handled before.
    base: Option<u64>,
    handled: u64,
    is_counted: bool,
    progress: Time,
    /// Whom the count is asked of, and where the figures go.
    asker: Asker,
}

#[derive(Debug)]
enum ToFlooder {
    Go,
    Counted(Result<u64, AskError>),
}

impl<const N: usize> Actor for Flooder<N>
where
    Bytes<N>: WireMessage,
{
    type Msg = ToFlooder;

    fn receive(&mut self, message: ToFlooder, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let now = self.asker.clock.now();
        if let ToFlooder::Counted(outcome) = message {
            self.is_counted = false;
            if let Ok(count) = outcome {
                let handled = count - *self.base.get_or_insert(count);
                if handled > self.handled {
                    (self.handled, self.progress) = (handled, now);
                }
            }
            return Ok(Next::Continue);
        }
        let is_over = now >= self.asker.until;
        if is_over && self.handled >= self.sent {
            return Ok(self.end(None));
        }
        if now - self.progress > PATIENCE {
            let (sent, handled) = (self.sent, self.handled);
            return Ok(self.end(Some(format!("{handled} of {sent} were handled, then none"))));
        }
        if !is_over && self.base.is_some() {
            self.burst(ctx);
        }
        if !self.is_counted {
            self.is_counted = true;
            ctx.ask_within(
                PATIENCE,
                self.asker.region.entity(&self.asker.key),
                |reply_to| Echo {
                    bytes: [7; 64],
                    reply_to,
                },
                ToFlooder::Counted,
            );
        }
        ctx.spawn(ready(()), |_| ToFlooder::Go);
        Ok(Next::Continue)
    }
}

impl<const N: usize> Flooder<N>
where
    Bytes<N>: WireMessage,
{
    fn burst(&mut self, ctx: &mut Context<'_, Self>) {
        let room = self.in_flight.saturating_sub(self.sent - self.handled);
        for _ in 0..room.min(BURST) {
            let key = self.keys[self.next];
            let to = self.region.entity(&key);
            if ctx.try_tell(to, Bytes([7; N])).is_err() {
                return;
            }
            self.sent += 1;
            self.next = (self.next + 1) % self.keys.len();
        }
    }

    fn end(&mut self, failed: Option<String>) -> Next {
        self.asker.answered = self.handled;
        let _ = self.asker.found.send(self.asker.news(failed));
        Next::Stop
    }
}
