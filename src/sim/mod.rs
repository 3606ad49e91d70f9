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

pub mod bounds;
pub mod builder;
pub mod check;
mod clock;
pub mod elsewhere;
pub mod faulty_journal;
pub mod simulation;
pub mod trace;
mod world;

pub use bounds::Bounds;
pub use builder::SimulationBuilder;
pub use check::{SeedFailure, check_seed, check_seeds};
pub use elsewhere::Elsewhere;
pub use faulty_journal::{FaultyJournal, ReadFault, WriteFault};
pub use simulation::{Closing, Simulation, StillPending};
pub use trace::{Difference, Trace};
