//! A thread-per-core, shard-native actor runtime for Linux.
//!
//! Each pinned core runs its own io_uring executor and owns a slice of the shards, with their entities and mailboxes;
//! cores talk over lock-free lanes in batches. This page is the guide; `README.md` says what the project is, and
//! `tuning.md` which setting does what on which machine.
//!
//! ```
//! use corecast::{Actor, Context, EntityType, Fault, Next, ReplyTo, Runtime};
//!
//! struct Stock(u32);
//!
//! #[derive(Debug)]
//! enum StockMsg {
//!     Supply(u32),
//!     Take { wanted: u32, reply_to: ReplyTo<Result<u32, OutOfStock>> },
//! }
//!
//! #[derive(Debug, PartialEq)]
//! struct OutOfStock;
//!
//! impl Actor for Stock {
//!     type Msg = StockMsg;
//!
//!     fn receive(&mut self, msg: StockMsg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
//!         match msg {
//!             StockMsg::Supply(pieces) => self.0 += pieces,
//!             StockMsg::Take { wanted, reply_to } => {
//!                 let left = self.0.checked_sub(wanted).ok_or(OutOfStock);
//!                 self.0 = *left.as_ref().unwrap_or(&self.0);
//!                 ctx.reply(reply_to, left);
//!             }
//!         }
//!         Ok(Next::Continue)
//!     }
//! }
//!
//! let mut builder = Runtime::builder();
//! let stocks = builder.entities(EntityType::send("stock", |_article: &String| Stock(0)));
//! let runtime = builder.start()?;
//! let handle = runtime.handle();
//!
//! handle.tell(stocks.entity("lamp"), StockMsg::Supply(3));
//! let take = |wanted| handle.ask(stocks.entity("lamp"), move |reply_to| StockMsg::Take { wanted, reply_to });
//! assert_eq!(take(2).wait()?, Ok(1));
//! assert_eq!(take(2).wait()?, Err(OutOfStock));
//! assert!(runtime.shutdown().drained);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The model
//!
//! An [`Actor`] is state that handles one message at a time, of one type, usually an enum. Whatever is `Debug`, `Send` and
//! `'static` is a [`Message`]. A handler is a plain function that runs to completion on its core and says what is
//! [`Next`]: go on, or stop. Actors come in two kinds:
//!
//! - A **plain actor** is spawned on a core ([`Handle::spawn`], [`Context::spawn_actor`]) by a factory that runs there,
//!   so it need not be `Send`. It lives until it stops, and its [`ActorRef`] is its address: `Copy`, and worth nothing
//!   once the actor has gone.
//! - An **entity** is named by its type and an id. It need not be spawned: its first message starts it on the core that
//!   owns its shard, and wherever it lives, [`Region::entity`] reaches it.
//!
//! What one can do depends on where the code runs:
//!
//! | where | with | how it waits |
//! |---|---|---|
//! | in a handler | [`Context`] | it does not: outcomes come as messages |
//! | in a future on a core | [`Scope`], by [`Context::scope`] or [`Handle::run_on`] | `.await` |
//! | on any thread, in any async runtime | [`Handle`], by [`Runtime::handle`] | [`Pending::wait`] on a thread of its own, `.await` in async code |
//!
//! # Cores
//!
//! A [`Runtime`] pins one thread for each core. [`CoreId`] counts the cores of the runtime from 0 and is not the number
//! of a CPU; [`Runtime::plan`] tells which runs where. One more thread is the coordination core, which places shards
//! and publishes the [`Topology`]: from four CPUs up it has one to itself. An idle core polls for [`Settings::spin`]
//! and then parks; one that is parked takes a wake, some 50 µs in a virtual machine, to take a message.
//!
//! Which CPUs and how much memory: [`Settings`], or [`PinningArgs`] flattened into a command line of your own.
//!
//! ```
//! use corecast::{Runtime, Settings};
//!
//! let settings = Settings { cores: "count:1".parse()?, mailbox: 500, ..Settings::default() };
//! let runtime = Runtime::builder().settings(settings).start()?;
//! assert_eq!(runtime.handle().cores(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Sending, and what can come of it
//!
//! | call | means | what it tells |
//! |---|---|---|
//! | `tell` | fire and forget | nothing; a message that is refused anywhere is a counted dead letter |
//! | `try_tell` | in the local mailbox or outbox ([`Handle`]: in the queue into the core) | [`Refused`] with the message and the reason; a refusal further on is a counted dead letter |
//! | `send` | stored in the receiver's mailbox | `Ok`, or an [`AskError`]; under [`Policy::Backpressure`] it waits for room |
//! | `ask` | answered | the reply, or an [`AskError`] |
//!
//! Delivery is at most once, and in order for each pair of sender and receiver; a sender is an actor, a future, or one
//! clone of a handle. Replies may overtake tells. An ask has the time of [`Settings::ask_timeout`], 5 s,
//! unless `ask_within` says otherwise, and ends in one of three ways:
//!
//! | outcome | means | may it be repeated? |
//! |---|---|---|
//! | `Ok(reply)` | it was answered; whether with success says the reply's own type | as your protocol says |
//! | [`AskError::Rejected`] | certainly no handler has seen it; the [`Rejection`] says why | yes |
//! | [`AskError::Unknown`] | it may have taken effect; the [`Uncertainty`] says why | only if handling it twice does no harm |
//!
//! [`ReplyTo`] is part of the message and moves with it: keep it and answer later, or pass it on. It answers once, and
//! an ask whose address is dropped ends at once, instead of at its time limit.
//!
//! # Entities
//!
//! Ids are integers, byte arrays, [`InlineKey`] (text of up to 23 bytes that is `Copy`) and `String`, which is
//! addressed by a `&str`. A stable hash of the id gives the shard, the topology the shard's core; senders look it up
//! and send there directly.
//!
//! An entity that is idle ([`EntityType::passivate_after`]) or one too many ([`EntityType::max_active_per_core`]) is
//! stopped with its hook, and its next message starts it afresh **from its factory**: its state is lost unless
//! [`post_stop`](Actor::post_stop) put it somewhere where the factory finds it, or the entity is
//! [event-sourced](#event-sourcing). No message is lost by it.
//!
//! State that is fetched first, from a store or over the network, is awaited in [`pre_start`](Actor::pre_start) with
//! [`Context::suspend`]: messages wait until it is there.
//!
//! # Moves
//!
//! A shard moves to another core by [`Handle::move_shard`], or by the balancer when a core is busy and another is not.
//! What is accepted is neither lost nor reordered. The entity type declares what becomes of the state:
//!
//! | kind | what moves | for |
//! |---|---|---|
//! | [`EntityType::send`] | the value itself | actors that are `Send`; the fastest |
//! | [`EntityType::captured`] | a view, archived and restored ([`Capture`]) | actors that are not, or hold what should stay behind |
//! | [`EntityType::ephemeral`] | nothing: it stops with its hook and starts afresh | caches, sessions |
//! | [`EntityType::event_sourced`] | nothing: it stops, and recovers from its journal | state that survives |
//!
//! # Asynchronous work
//!
//! A handler that waits would hold its core and everything on it; one that takes longer than
//! [`Settings::stall_threshold`] is counted and logged with its type. What takes time goes elsewhere, and its result
//! comes back as a message for which room is reserved:
//!
//! | call | runs | for |
//! |---|---|---|
//! | [`Context::ask`] | where the receiver lives | an outcome as a message |
//! | [`Context::spawn`] | on this core, beside the actors | futures that need not be `Send` |
//! | [`Context::spawn_on`] | on another executor, a tokio runtime with the feature `tokio` | libraries that want their own runtime |
//! | [`Context::spawn_blocking`] | on a bounded pool of threads | files, long calculations |
//! | [`Context::suspend`] | on this core; only this actor's mailbox waits | a step that the next message must not overtake |
//! | [`AsyncActor`] in [`Awaiting`] | the same for every message | handlers written as an `async fn` |
//!
//! ```
//! use corecast::{Actor, Context, Fault, Next, ReplyTo, Runtime, TaskError};
//!
//! struct Reader;
//!
//! #[derive(Debug)]
//! enum ReaderMsg {
//!     Count { text: String, reply_to: ReplyTo<usize> },
//!     Counted(Result<usize, TaskError>, ReplyTo<usize>),
//! }
//!
//! impl Actor for Reader {
//!     type Msg = ReaderMsg;
//!
//!     fn receive(&mut self, msg: ReaderMsg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
//!         match msg {
//!             ReaderMsg::Count { text, reply_to } => {
//!                 let long = move || text.split_whitespace().count();
//!                 ctx.spawn_blocking(long, |words| ReaderMsg::Counted(words, reply_to));
//!             }
//!             ReaderMsg::Counted(words, reply_to) => ctx.reply(reply_to, words?),
//!         }
//!         Ok(Next::Continue)
//!     }
//! }
//!
//! let runtime = Runtime::builder().start()?;
//! let handle = runtime.handle();
//! let reader = handle.spawn(|| Reader).wait()?;
//! let words = handle.ask(reader, |reply_to| ReaderMsg::Count { text: "three little words".into(), reply_to });
//! assert_eq!(words.wait(), Ok(3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Timers
//!
//! A timer has a [name](TimerName), and one that is started under the name of another takes its place.
//!
//! | call | sends | until |
//! |---|---|---|
//! | [`Context::start_timer`] | this actor one message, after a while | it has ticked or is cancelled, or the actor stops or fails |
//! | [`Context::start_periodic`] | this actor a message after each interval; a slow actor gets fewer | it is cancelled, or the actor stops or fails |
//! | [`Handle::schedule`], [`Handle::schedule_periodic`] | the same to anybody; also by a [`Context`] or a [`Scope`] | it is cancelled, by whoever knows the name, or the runtime shuts down |
//!
//! A tick of an actor's own timer needs no room in its mailbox, comes before what waits there, and never comes once the
//! timer has been cancelled or replaced. Timers move with the state of their entity, and end with its life.
//!
//! ```
//! use corecast::{Actor, Context, Fault, Next, ReplyTo, Runtime};
//! use std::time::Duration;
//!
//! /// Says how often it has been asked lately.
//! #[derive(Default)]
//! struct Gauge {
//!     now: u32,
//!     lately: u32,
//! }
//!
//! #[derive(Debug)]
//! enum GaugeMsg {
//!     Count(ReplyTo<u32>),
//!     Turn,
//! }
//!
//! impl Actor for Gauge {
//!     type Msg = GaugeMsg;
//!
//!     fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
//!         ctx.start_periodic("turn", Duration::from_secs(1), || GaugeMsg::Turn)?;
//!         Ok(())
//!     }
//!
//!     fn receive(&mut self, msg: GaugeMsg, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
//!         match msg {
//!             GaugeMsg::Count(reply_to) => {
//!                 self.now += 1;
//!                 ctx.reply(reply_to, self.lately);
//!             }
//!             GaugeMsg::Turn => self.lately = std::mem::take(&mut self.now),
//!         }
//!         Ok(Next::Continue)
//!     }
//! }
//!
//! let runtime = Runtime::builder().start()?;
//! let handle = runtime.handle();
//! let gauge = handle.spawn(Gauge::default).wait()?;
//! assert_eq!(handle.ask(gauge, GaugeMsg::Count).wait(), Ok(0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Streams
//!
//! A stream brings items from one producer to its consumers as fast as these ask for them. Who opens it
//! ([`Context::open_stream`], [`Scope::open_stream`], [`Handle::open_stream_on`]) gets its [`Source`], to push items into,
//! and its address, a [`StreamRef`] to be stored and sent.
//!
//! | [`StreamSettings`] | each item goes to | a full buffer waits for |
//! |---|---|---|
//! | [`shared`](StreamSettings::shared) | one consumer: several share the work | any of them; without one, for the first |
//! | [`broadcast`](StreamSettings::broadcast) | all of them | the slowest; or for nobody, and the slowest [are cut off](StreamSettings::cut_off_slow) |
//!
//! | who | pushes with | consumes with |
//! |---|---|---|
//! | an actor | [`Source::try_push`]; when that is full, it has [`Source::ready`] sent to it as a message | [`Context::consume`]: what comes are messages, as many as it [asks for](Feed::request) |
//! | a future on a core | [`Source::push`] | [`Scope::consume`], [`Consumer::next`] |
//! | a thread, another async runtime | [`Source::try_push`], [`Source::push`] | [`Handle::consume`], [`Consumer::wait_next`], [`Consumer::next`] |
//!
//! Items come in order. Behind the last one comes the end: that the stream is [complete](Source::complete), has
//! [failed](Source::fail) or was [abandoned](StreamError::Abandoned) by a producer that stopped or panicked. The end needs no
//! demand; without demand, nothing else comes. A consumer that is dropped, or whose actor stops, has left: of a shared
//! stream, what it has not taken out goes to the next one. The producer knows [how many](Source::consumers) there are, and
//! hears when [all have left](Source::deserted).
//!
//! ```
//! use corecast::{CoreId, Runtime, StreamError, StreamSettings};
//!
//! let runtime = Runtime::builder().start()?;
//! let handle = runtime.handle();
//! let (source, stream) = handle.open_stream_on(CoreId(0), StreamSettings::shared(2)).wait()?;
//! let mut consumer = handle.consume(stream);
//! source.try_push("one")?;
//! source.try_push("two")?;
//! source.fail("there is no third");
//! assert_eq!(consumer.wait_next(), Some(Ok("one")));
//! assert_eq!(consumer.wait_next(), Some(Ok("two")));
//! assert_eq!(consumer.wait_next(), Some(Err(StreamError::Failed("there is no third".into()))));
//! assert_eq!(consumer.wait_next(), None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Failure
//!
//! An error that a handler returns ([`Fault`], into which every error converts with `?`) and a panic are the same: this
//! actor stops, with its hook, and nobody else does. The ask it was handling ends as unknown, those behind it as
//! rejected, other messages that waited become counted dead letters. A plain actor is gone then; an entity starts
//! afresh with its next message. To refuse a request is no fault: reply with an error.
//!
//! A panic is contained wherever code of yours runs: handlers, hooks, futures, closures, destructors. One cannot be: a
//! panic while another one is already unwinding, as in the destructor of a handler's local variable. Rust aborts the
//! process then. A runtime that was built with `panic = "abort"` could contain nothing, so it refuses to start.
//!
//! # Events
//!
//! Whatever is `Clone`, `Send` and `'static` can be published ([`Context::publish`], [`Scope::publish`],
//! [`Handle::publish`]), and comes to all that have subscribed to its type, on every core: to actors as messages of their
//! own ([`Context::subscribe`]), to closures on a core ([`Handle::subscribe`]), and to threads outside
//! ([`Handle::events`]). The runtime itself publishes [`ActorStarted`], [`ActorStopped`], [`ActorRestarted`], [`DeadLetter`] and
//! [`UnhandledMessage`], and makes none of them while nobody has subscribed.
//!
//! ```
//! use corecast::{Actor, Context, DeadLetter, Fault, Next, Rejection, Runtime};
//!
//! struct Brief;
//!
//! impl Actor for Brief {
//!     type Msg = &'static str;
//!     fn receive(&mut self, _: &'static str, _: &mut Context<'_, Self>) -> Result<Next, Fault> { Ok(Next::Stop) }
//! }
//!
//! let runtime = Runtime::builder().start()?;
//! let handle = runtime.handle();
//! let letters = handle.events::<DeadLetter>(1_000)?;
//! let brief = handle.spawn(|| Brief).wait()?;
//! handle.tell(brief, "the last that it hears");
//! handle.tell(brief, "too late");
//! let letter = letters.recv().expect("the runtime goes on");
//! assert!(matches!(letter.reason, Rejection::Stopped | Rejection::NoSuchActor));
//! assert_eq!(letter.message, "&str");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A subscriber gets what one publisher publishes in order, each event once at most. One that does not keep up misses
//! events, which is counted, and holds nobody up. An event that is missed is no dead letter; and what a core drops that
//! was meant for an actor of its own that listens to dead letters is counted, but not published, so that there are no
//! dead letters about dead letters.
//!
//! # Event sourcing
//!
//! An [`EventSourced`] actor survives its failures, passivations and moves: it keeps what has happened in a [`Journal`], and
//! its state is what follows from that. There is a shopping cart at [`EventSourced`]. With each command, this is what happens:
//!
//! | step | by | if it fails |
//! |---|---|---|
//! | decide | [`on_command`](EventSourced::on_command), which returns an [`Effect`]; [`Effect::after`] awaits something before | nothing is stored |
//! | store | the journal, under the next numbers; the actor's other commands wait, and nobody else | the actor fails, [`SourcingError::Write`] |
//! | fold | [`on_event`](EventSourced::on_event), which is pure | the actor fails; so does each recovery, at that event |
//! | take a snapshot | when it is due ([`Snapshots`]); nobody waits for it | it is counted ([`CoreStats::failed_snapshots`]) |
//! | reply, and the rest | [`Effect::then_reply`], [`Effect::then_run`], [`Effect::then_stop`] | the actor fails; what is stored stays |
//!
//! A reply means that the events are stored. If they could not be, or nobody knows, the ask ends as [`AskError::Unknown`] and
//! never as a success; the actor's next life reads its journal, and so learns what became of them. (One that is resumed
//! instead of restarted does not know its state, and fails with each command.) Nothing that is stored is taken back, and
//! nothing is skipped: a gap or a damaged record fails the recovery with its place.
//!
//! Entities are registered by [`EntityType::event_sourced`], and a plain actor is made by [`Sourced::new`] under a
//! [`PersistenceId`] that it holds alone, among all that share the journal. Events and states are [`WireMessage`]s, so they have
//! versions: [`EventSourced::upgrade`] reads events of older ones.
//!
//! [`InMemoryJournal`] keeps everything in memory, for as long as one of its clones is there. For tests in the
//! [simulator](sim), [`FaultyJournal`](sim::FaultyJournal) takes its time and fails as storage does.
//!
//! # Limits
//!
//! Every queue is bounded, and no core waits for a full one.
//!
//! | queue | limit | when it is full |
//! |---|---|---|
//! | a mailbox | [`Mailbox`], [`Settings::mailbox`] | by its [`Policy`]: the new message is refused, or the oldest dropped, or an awaited `send` waits |
//! | awaited sends at one mailbox | [`Mailbox::waiters`] | [`Rejection::MailboxFull`] |
//! | all mailboxes of a core | [`Settings::budget_messages`], [`Settings::budget_bytes`] | [`Rejection::CoreBudget`]; the core takes no requests from its lanes until there is room |
//! | a lane between two cores | [`Settings::lane_batches`] of [`Settings::batch_messages`] | what was sent waits in the sender's outbox; replies have a lane of their own |
//! | the outbox towards one core | [`Settings::outbox_messages`] | [`Rejection::OutboxFull`] at the call; stops count, but are never refused: one for each actor waits |
//! | messages for a shard that moves | [`Settings::outbox_messages`] | [`Rejection::Moving`] at the call |
//! | the queue from other threads into a core | [`Settings::ingress_jobs`] | [`Rejection::IngressFull`]; replies have a way of their own, each for an ask that was let in |
//! | asks that were sent from a core | [`Settings::asks`] | [`Rejection::TooManyAsks`] |
//! | futures on a core | [`Settings::tasks`] | [`TaskError::TooManyTasks`] |
//! | timers with names on a core | [`Settings::timers`] | [`Rejection::TooManyTimers`]; those that move here with their entities are let in |
//! | watches of a core's actors | [`Settings::watches`] | [`Rejection::TooManyWatches`]; those that move here with their entities are let in |
//! | items in a stream | its buffer ([`StreamSettings`]), and what its consumers have asked for, which has its room reserved where it goes | [`PushError::Full`]; [`Source::push`] waits |
//! | consumers of a stream | [`StreamSettings::consumers`] | [`StreamError::TooManyConsumers`] |
//! | asks of streams | three for each consumer, among [`Settings::asks`] | [`StreamError::Refused`], [`Rejection::TooManyAsks`] |
//! | calls for the blocking pool | [`Settings::blocking_queue`] | [`TaskError::Refused`] |
//! | active entities of a type on a core | [`EntityType::max_active_per_core`] | the least recently used are passivated |
//! | subscriptions of actors and closures on a core | 65,536 | [`SubscribeError::TooMany`] |
//! | threads that listen to one type of event | 1,024, each with the room that it asks for, 1,048,576 events at most | [`SubscribeError::TooManyOutside`]; without room the event is missed, and counted |
//! | events towards one core | half of its outbox, [`Settings::outbox_messages`]; from other threads half of its queue, [`Settings::ingress_jobs`] | the event is missed, and counted |
//! | an [`InMemoryJournal`] | the bytes that it is made with | [`JournalError::Full`] fails whoever writes; what is stored stays readable |
//! | moves of shards | 8 at a time, 256 requests more | [`MoveError`] |
//!
//! A message that was sent by `tell` and is refused, here or on the receiver's core, is a dead letter, and so is a reply
//! that comes too late, and the message of a timer for which there is no room; [`Handle::stats`] counts refusals and dead
//! letters by reason, and each dead letter is published as a [`DeadLetter`].
//!
//! # Determinism
//!
//! A core is a state machine: messages, timers and the time go in; messages, wakes and published facts come out. Time
//! and randomness are arguments, maps whose order could be seen are ordered, and only `io` touches a clock, a thread or
//! the kernel. Take the time from [`Context::now`] and randomness from [`Context::rng`], and an actor behaves the same
//! under every driver of the engine.
//!
//! # Testing
//!
//! One of these drivers is the simulator, [`sim`]: a whole node in one thread, in virtual time, with every choice from a
//! seed. Tests of your own actors run in it, with probes that await messages, and faults on purpose.
//!
//! ```
//! use corecast::sim::{Injection, check_seeds};
//! use corecast::{Actor, ActorRef, Context, CoreId, Fault, Next};
//! use std::time::Duration;
//!
//! /// Reminds somebody after an hour.
//! struct Reminder(ActorRef<String>);
//!
//! #[derive(Debug)]
//! enum Remind {
//!     Of(String),
//!     Due(String),
//! }
//!
//! impl Actor for Reminder {
//!     type Msg = Remind;
//!
//!     fn receive(&mut self, msg: Remind, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
//!         match msg {
//!             Remind::Of(what) => ctx.start_timer("due", Duration::from_secs(3_600), Remind::Due(what))?,
//!             Remind::Due(what) => ctx.tell(self.0, what),
//!         }
//!         Ok(Next::Continue)
//!     }
//! }
//!
//! check_seeds(20, |builder| {
//!     let mut sim = builder.start();
//!     let probe = sim.probe::<String>();
//!     let to = probe.address();
//!     let reminder = sim.spawn(CoreId(1), move || Reminder(to)).unwrap();
//!     sim.inject(Injection::fail().nth(2).to_actor(reminder));
//!     sim.tell(reminder, Remind::Of("lunch".into()));
//!     probe.expect_none_for(&mut sim, Duration::from_secs(3_599));
//!     probe.expect_within(&mut sim, Duration::from_secs(2), |what| what == "lunch");
//!     // The actor fails, and with it ends its timer.
//!     sim.tell(reminder, Remind::Of("tea".into()));
//!     probe.expect_none_for(&mut sim, Duration::from_secs(7_200));
//!     sim
//! });
//! ```
//!
//! # Layers
//!
//! Modules import strictly downward, and a test keeps it so: `node` (builder, settings, handle), `io` (the only place
//! of glommio), `engine` (the turn of one core), `behavior` (ways to write actors) and `stream` (side by side), `actor` and
//! `persistence` (side by side), `sharding`, `wire` and `mesh`, `base`. What is needed day to day stands on this page.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod actor;
pub mod base;
pub mod behavior;
pub mod engine;
#[cfg(target_os = "linux")]
pub mod io;
pub mod mesh;
pub mod node;
pub mod persistence;
pub mod sharding;
pub mod sim;
pub mod stream;
pub mod wire;

pub use actor::awaiting::{AsyncActor, Awaiting};
pub use actor::context::Context;
pub use actor::directory::WrongMessageType;
pub use actor::ending::StopCause;
pub use actor::entity::{Capture, EntityType};
pub use actor::entity_id::{EntityId, InlineKey, KeyTooLong};
pub use actor::event_stream::{Events, SubscribeError, Subscription};
pub use actor::events::{
    ActorInfo, ActorRestarted, ActorStarted, ActorStopped, DeadLetter, EntityInfo, Event,
    UnhandledMessage,
};
pub use actor::family::Child;
pub use actor::handle::Handle;
pub use actor::mailbox::{Mailbox, Policy};
pub use actor::model::{Actor, Fault, Next};
pub use actor::named_timers::TimerName;
pub use actor::pending::Pending;
pub use actor::reference::{ActorRef, AnyActorRef, Destination, EntityAt, EntityRef, Region};
pub use actor::refusal::{AskError, Refused, Rejection, SpawnError, TaskError, Uncertainty};
pub use actor::reply::ReplyTo;
pub use actor::scope::Scope;
pub use actor::spawn::SpawnOptions;
pub use actor::supervision::{Backoff, Directive, Strategy, Supervision};
pub use actor::task::Executor;
pub use actor::watch::Terminated;
pub use base::ids::{CoreId, EntityTypeId, Epoch, ShardId, ShardKey};
pub use base::time::Time;
pub use behavior::effect::Effect;
pub use behavior::event_sourced::{EventSourced, SourcedContext};
pub use behavior::sourced::Sourced;
pub use engine::stats::{CoreStats, Stats};
pub use node::pinning_args::PinningArgs;
#[cfg(target_os = "linux")]
pub use node::runtime::{Runtime, RuntimeBuilder, ShutdownReport};
pub use node::settings::Settings;
#[cfg(target_os = "linux")]
pub use node::start_error::StartError;
pub use persistence::error::{JournalError, SourcingError};
pub use persistence::id::PersistenceId;
pub use persistence::journal::Journal;
pub use persistence::memory::InMemoryJournal;
pub use persistence::progress::Snapshots;
pub use persistence::record::{Payload, Record, Sequence};
pub use sharding::move_error::MoveError;
pub use sharding::topology::{Allocation, Topology};
pub use stream::consumer::Consumer;
pub use stream::error::{PushError, StreamError, StreamGone};
pub use stream::feed::{Feed, StreamEvent};
pub use stream::reference::StreamRef;
pub use stream::settings::StreamSettings;
pub use stream::source::Source;
pub use wire::message::{Message, WireMessage};

/// The version of `rand` whose traits the generators of [`Context::rng`] and [`Scope::rng`] have.
pub use rand;

/// The program in `README.md` compiles and runs.
#[cfg(all(doctest, target_os = "linux"))]
#[doc = include_str!("../README.md")]
struct Readme;
