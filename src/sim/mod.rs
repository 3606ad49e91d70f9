//! A deterministic simulator of one node: all its cores in one thread, virtual time, and every choice from a seed.
//!
//! It drives the engine that the pinned threads drive, and is public so that users test their own actors with it. The
//! same seed gives the same run, byte for byte in its [trace](simulation::Simulation::trace); other seeds give other
//! interleavings of cores, lanes, ready actors and woken futures, other stalls, and with
//! [`swarm`](builder::SimulationBuilder::swarm) other bounds.
//!
//! ```
//! use corecast::base::ids::CoreId;
//! use corecast::sim::{Simulation, check_seeds};
//! use corecast::{Actor, Context, Fault, Next, ReplyTo};
//!
//! #[derive(Default)]
//! struct Counter(u64);
//!
//! #[derive(Debug)]
//! enum Count {
//!     Add(u64),
//!     Get(ReplyTo<u64>),
//! }
//!
//! impl Actor for Counter {
//!     type Msg = Count;
//!
//!     fn receive(&mut self, msg: Count, ctx: &mut Context<Self>) -> Result<Next, Fault> {
//!         match msg {
//!             Count::Add(n) => self.0 += n,
//!             Count::Get(reply_to) => ctx.reply(reply_to, self.0),
//!         }
//!         Ok(Next::Continue)
//!     }
//! }
//!
//! // One run.
//! let mut sim = Simulation::builder(7).cores(2).start();
//! let counter = sim.spawn(CoreId(1), Counter::default).unwrap();
//! sim.tell(counter, Count::Add(3));
//! assert_eq!(sim.ask(counter, Count::Get), Ok(3));
//!
//! // Many runs, each twice and compared; a failure says how to replay it.
//! check_seeds(20, |builder| {
//!     let mut sim = builder.cores(3).swarm().start();
//!     let counter = sim.spawn(CoreId(2), Counter::default).unwrap();
//!     sim.tell(counter, Count::Add(4));
//!     sim.run_until_idle(); // with tiny bounds the ask could find the way taken by the tell, and be refused
//!     assert_eq!(sim.ask(counter, Count::Get), Ok(4));
//!     sim
//! });
//! ```
//!
//! # Testing an actor of your own
//!
//! A test starts the actor under test, puts [probes](Probe) where it expects others, lets virtual time pass, and injects
//! the [faults](Injection) that it has to live with. Here it is one that asks for a price every minute, tells it to a
//! subscriber, and asks again soon if its question was certainly not handled:
//!
//! ```
//! use corecast::rand::RngExt;
//! use corecast::sim::{Injection, check_seeds};
//! use corecast::{Actor, ActorRef, AskError, Context, CoreId, Fault, Next, ReplyTo};
//! use std::time::Duration;
//!
//! struct Ticker {
//!     exchange: ActorRef<ReplyTo<u32>>,
//!     subscriber: ActorRef<u32>,
//! }
//!
//! #[derive(Debug)]
//! enum Tick {
//!     Refresh,
//!     Came(Result<u32, AskError>),
//! }
//!
//! impl Actor for Ticker {
//!     type Msg = Tick;
//!
//!     fn receive(&mut self, tick: Tick, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
//!         let pause = match tick {
//!             Tick::Refresh => {
//!                 ctx.ask(self.exchange, |reply_to| reply_to, Tick::Came);
//!                 return Ok(Next::Continue);
//!             }
//!             Tick::Came(Ok(price)) => {
//!                 ctx.tell(self.subscriber, price);
//!                 60_000
//!             }
//!             // Not all at the same time.
//!             Tick::Came(Err(AskError::Rejected(_))) => ctx.rng().random_range(500..1_000),
//!             Tick::Came(Err(unknown)) => return Err(unknown.into()),
//!         };
//!         ctx.start_timer("refresh", Duration::from_millis(pause), Tick::Refresh)?;
//!         Ok(Next::Continue)
//!     }
//! }
//!
//! # fn test() {
//! // #[test]
//! fn a_question_that_was_lost_is_asked_again() {
//!     check_seeds(20, |builder| {
//!         let mut sim = builder.cores(2).start();
//!         let exchange = sim.probe::<ReplyTo<u32>>();
//!         let subscriber = sim.probe::<u32>();
//!         let addresses = (exchange.address(), subscriber.address());
//!         let ticker = sim
//!             .spawn(CoreId(1), move || Ticker { exchange: addresses.0, subscriber: addresses.1 })
//!             .unwrap();
//!
//!         sim.tell(ticker, Tick::Refresh);
//!         let question = exchange.expect(&mut sim, |_| true);
//!         sim.handle().reply(question, 17);
//!         subscriber.expect(&mut sim, |price| *price == 17);
//!
//!         // A minute later the next question is lost, and the one after that comes a little later.
//!         let lost = sim.inject(Injection::drop().nth(1).to_actor(exchange.address()));
//!         exchange.expect_none_for(&mut sim, Duration::from_millis(60_490));
//!         assert_eq!(lost.struck(), 1);
//!         let question = exchange.expect_within(&mut sim, Duration::from_millis(600), |_| true);
//!
//!         // Nobody knows what becomes of a question without an answer: the ticker fails.
//!         drop(question);
//!         subscriber.expect_none_for(&mut sim, Duration::from_secs(3_600));
//!         assert_eq!(sim.stats().cores[1].faults, 1);
//!         sim
//!     });
//! }
//! # a_question_that_was_lost_is_asked_again();
//! # }
//! # test();
//! ```
//!
//! Whatever fails names its seed and the line that replays it: a probe, [`check_seeds`] with any panic of the scenario, and
//! an assertion of a test that runs a [`Simulation::builder`] with a seed of its own, behind which both are printed.
//!
//! | a test wants | it uses |
//! |---|---|
//! | to see what an actor sends | [`Simulation::probe`]; for an entity type, [`SimulationBuilder::entity_probe`] |
//! | time to pass | [`Simulation::run_for`]; [`Simulation::run_until_idle`] without waiting for timers |
//! | the nth message to fail, panic, be lost or be late | [`Simulation::inject`] with an [`Injection`] |
//! | faults by chance | [`Simulation::faults`] with a [`FaultPlan`] |
//! | full lanes, refused sends and cores that stand still | [`SimulationBuilder::swarm`], [`SimulationBuilder::bounds`] |
//! | a [log](crate::log) on a disk that tears, fails and decays | [`SimDisk`] |
//! | shards to move | [`Simulation::move_shard`], [`SimulationBuilder::balancer`] |
//! | several nodes, and a network between them | [`ClusterSimulation`], [`check_cluster_seeds`] |
//! | long runs of them, on all CPUs | [`check_cluster_swarm`] |
//! | clocks that run apart, disks that are lost | [`ClusterSimulation::set_clock`], [`ClusterSimulation::replace_disk`] |
//!
//! # Time, chance, and other threads
//!
//! Actors and futures that run here take time from [`Context::now`](crate::Context::now) and
//! [`Context::sleep`](crate::Context::sleep) or the timers, randomness from [`Context::rng`](crate::Context::rng), and the
//! same from a [`Scope`](crate::Scope). Calls that block ([`Context::spawn_blocking`](crate::Context::spawn_blocking)) and
//! futures for [another executor](Elsewhere) run on the thread of the test, at a later virtual time from the seed; a
//! call that really blocks holds the test up and takes no virtual time.
//!
//! What no seed decides would make a failure that cannot be repeated, so it fails the run, with an explanation:
//!
//! - a wake from another thread, of a future or, by a handle, of a core that sleeps (one that is awake needs none: what
//!   another thread does to it then is found by the comparison below);
//! - a panic of code that called for tokio or glommio, which do not run there. (In a test that itself runs in a
//!   tokio runtime, tokio finds that one: write it as a plain `#[test]`.)
//! - a clock of the machine, randomness of its own or the order of a map: nothing catches them at the call, but
//!   [`check_seeds`] runs each seed twice, and says where the two runs differ first.

mod agenda;
pub mod bounds;
pub mod builder;
pub mod check;
mod clock;
pub mod cluster;
mod cluster_links;
mod cluster_owners;
pub mod control;
mod data_sockets;
pub mod disk;
#[cfg(test)]
mod disk_crash_tests;
#[cfg(test)]
mod disk_model;
#[cfg(test)]
mod disk_tests;
pub mod elsewhere;
pub mod faulty_journal;
mod foreign;
mod governed;
pub mod injection;
pub mod network;
mod node_clock;
mod port;
pub mod probe;
pub mod simulation;
mod socket;
mod strangers;
pub mod trace;
mod world;

pub use bounds::Bounds;
pub use builder::SimulationBuilder;
pub use check::{SeedFailure, check_cluster_seeds, check_cluster_swarm, check_seed, check_seeds};
pub use cluster::ClusterSimulation;
pub use disk::{MountedDisk, SimDisk};
pub use elsewhere::Elsewhere;
pub use faulty_journal::{FaultyJournal, ReadFault, WriteFault};
pub use injection::{FaultPlan, Injected, Injection};
pub use node_clock::NodeClock;
pub use probe::{EntityProbe, Probe, Probing};
pub use simulation::{Closing, Simulation, StillPending};
pub use trace::{Difference, Trace};
