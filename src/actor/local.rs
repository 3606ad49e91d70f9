//! Everything that a handler can reach on its core: the cells with their mailboxes, the regions, open asks, tasks,
//! timers, and the way to the other cores.

use super::asks::AnyAskTable;
use super::batch::{ActorBatch, Batch, FailureBatch, Outgoing};
use super::budget::Budget;
use super::cell::Cells;
use super::control::Control;
use super::counters::{Counters, Kind, Turns};
use super::lease::Parked;
use super::mailbox::{MailPool, Mailbox, Stored};
use super::named_timers::NamedTimers;
use super::outbox::Target;
use super::pending::Completer;
use super::profiles::Profiles;
use super::ready::Ready;
use super::reference::{CellRef, Home};
use super::region::AnyRegion;
use super::region_state::RegionState;
use super::remote::Remote;
use super::remote_watch::life_of;
use super::reply::{Envelope, ReplyAddress, ReplyTo, RuntimeId};
use super::settling::Settling;
use super::signals::SignalBatch;
use super::sleep::Sleeps;
use super::subscriptions::Subscriptions;
use super::supervisor::LateFault;
use super::task::{TaskId, Tasks};
use super::trace::{TraceEvent, Tracer};
use super::typed::{AsAny, TypedBox};
use super::watches::Watches;
use crate::base::ids::{CoreId, ShardId};
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::base::timer_wheel::TimerWheel;
use crate::mesh::lane::Port;
use crate::sharding::topology::Topology;
use crate::wire::message::Message;
use ahash::AHashMap;
use std::any::TypeId;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Weak;
use std::sync::Arc;
use std::time::Duration;

/// The clock of one core, given by its driver.
pub(crate) trait Clock {
    /// The time now.
    fn now(&self) -> Time;

    /// Whether the driver wants the core back, for instance because a millisecond has passed; cheap.
    fn wants_to_yield(&self) -> bool {
        false
    }
}

/// Bounds of one core. Each has its written answer to being reached: see the field.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Queued messages in all mailboxes; beyond it sends are refused as `CoreBudget`, and lanes are not drained.
    pub(crate) queued_messages: usize,
    /// Bytes of the places that they have taken.
    pub(crate) queued_bytes: usize,
    /// Messages waiting for one other core; beyond it sends are refused as `OutboxFull`. Stops count, but are never
    /// refused: one for each actor waits at most.
    pub(crate) outbox_messages: usize,
    /// Messages that wait for one moving shard; beyond it sends to it are refused as `Moving`.
    pub(crate) held_messages: usize,
    /// Messages in one batch; a full one leaves at once.
    pub(crate) batch_messages: usize,
    /// Open asks; beyond it asks end as `TooManyAsks`.
    pub(crate) asks: usize,
    /// The time that an ask has which is given none of its own.
    pub(crate) ask_timeout: Duration,
    /// Pending futures; beyond it a spawned future brings `TooManyTasks`.
    pub(crate) tasks: usize,
    /// Timers with names: those of actors, and schedules; beyond it one more is refused as `TooManyTimers`.
    pub(crate) timers: usize,
    /// Watches of this core's actors; beyond it one more is refused as `TooManyWatches`.
    pub(crate) watches: usize,
    /// Messages from its mailbox that an actor handles before the next one has its turn.
    pub(crate) activation_messages: u32,
    /// Messages handled in one turn, and as many again right when they arrive from other cores.
    pub(crate) turn_messages: u64,
    /// Time spent on handlers in one turn.
    pub(crate) turn_time: Duration,
    /// A handler that holds the core longer is counted and logged.
    pub(crate) stall: Duration,
    /// The time an asynchronous handler has.
    pub(crate) async_deadline: Duration,
    /// Mailboxes that do not say otherwise.
    pub(crate) mailbox: Mailbox,
    /// Items in the buffer of a stream that does not say otherwise.
    pub(crate) stream_buffer: usize,
    /// Items that a consumer asks for ahead which does not say otherwise.
    pub(crate) stream_window: usize,
    /// Consumers of a stream that does not say otherwise.
    pub(crate) stream_consumers: usize,
    /// How long a stream that has ended waits for a consumer, if it does not say otherwise.
    pub(crate) stream_linger: Duration,
}

/// What a timer was set for.
pub(crate) enum TimerEvent {
    Ask(ReplyAddress),
    Sleep(Completer<()>),
    Deadline {
        task: super::task::TaskId,
    },
    /// The one of this number among the timers with names.
    Named(u32),
    /// An actor that has failed has waited long enough.
    Restart(CellRef),
    Passivate {
        region: u16,
    },
    /// Frames have waited long enough for this core to know as much as those who sent them.
    Behind {
        region: u16,
        shard: ShardId,
    },
    /// Watches that could not be announced to other nodes are tried again.
    Watches,
    /// A lookup on other nodes has waited long enough.
    Lookup(u64),
    Report,
}

/// Something that belongs to one message.
#[doc(hidden)]
#[derive(Debug)]
pub enum Extra {
    /// Say so when it has been stored.
    Acknowledge(ReplyTo<Stored>),
    /// It is the message of an ask.
    Ask,
}

impl Extra {
    /// The envelope of a message with this extra.
    #[inline(always)]
    pub(crate) fn envelope(extra: &Option<Extra>) -> Envelope {
        match extra {
            Some(Extra::Ask) => Envelope::Ask,
            Some(Extra::Acknowledge(_)) | None => Envelope::Plain,
        }
    }

    /// The extra of a message that came in this envelope.
    #[inline(always)]
    pub(crate) fn of(envelope: Envelope) -> Option<Extra> {
        (envelope == Envelope::Ask).then_some(Extra::Ask)
    }
}

/// Whether a message counts against the bounds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// It needs room like any other.
    Bounded,
    /// It came through a lane, whose room is set aside from the budget: only the mailbox may be full.
    FromLane,
    /// Its room was reserved when it was asked for: replies, results, what moves with its shard.
    Reserved,
}

/// The mailboxes of one message type, and its messages on their way to other cores.
pub(crate) struct Class<M> {
    pub(crate) pool: MailPool<M>,
    pub(crate) outgoing: Outgoing<ActorBatch<M>>,
}

/// What those who do not know a mailbox's message type can have done to it.
#[derive(Clone, Copy)]
pub(crate) struct MailboxOps {
    /// Lets awaited sends in, as far as there is room.
    pub(crate) admit_waiting: fn(&mut Local, CellRef),
    /// Stops the actor behind the messages that it has.
    pub(crate) stop: fn(&mut Local, CellRef),
    /// Takes a stop back.
    pub(crate) withdraw_stop: fn(&mut Local, CellRef),
    /// Makes dead letters of everything.
    pub(crate) discard: fn(&mut Local, CellRef, super::refusal::Rejection),
}

/// A class whatever its message type.
pub(crate) trait AnyClass: AsAny {
    fn mailbox_ops(&self) -> MailboxOps;
    fn seal(&mut self, to: CoreId) -> Option<Box<dyn Batch>>;
    fn trim(&mut self);
}

impl<M: Message> AnyClass for Class<M> {
    fn mailbox_ops(&self) -> MailboxOps {
        MailboxOps {
            admit_waiting: Local::admit_waiting::<M>,
            stop: Local::stop_in_order::<M>,
            withdraw_stop: Local::withdraw_stop::<M>,
            discard: Local::discard_mailbox::<M>,
        }
    }

    fn seal(&mut self, to: CoreId) -> Option<Box<dyn Batch>> {
        self.outgoing.seal(to).map(|batch| batch as Box<dyn Batch>)
    }

    fn trim(&mut self) {
        self.pool.trim();
    }
}

/// The state of one core that handlers work on. Nobody else touches it.
pub struct Local {
    pub(crate) home: Home,
    pub(crate) core: CoreId,
    pub(crate) runtime: RuntimeId,
    /// The time at the start of this turn.
    pub(crate) now: Time,
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) limits: Limits,
    pub(crate) counters: Counters,
    pub(crate) turns: Turns,
    pub(crate) tracer: Option<Box<dyn Tracer>>,

    pub(crate) cells: Cells,
    pub(crate) ready: Ready,
    /// In the simulator: chooses which of the ready actors runs next.
    pub(crate) choose: Option<Box<dyn FnMut(usize) -> usize>>,
    pub(crate) classes: Vec<TypedBox<dyn AnyClass>>,
    class_ids: AHashMap<TypeId, u16>,
    last_class: Option<(TypeId, u16)>,
    pub(crate) kinds: Vec<Kind>,
    kind_ids: AHashMap<TypeId, u16>,
    last_kind: Option<(TypeId, u16)>,
    /// What waits in all mailboxes.
    pub(crate) queued: Budget,
    /// Actors whose code has failed outside of their activation.
    pub(crate) faulty: VecDeque<LateFault>,
    /// Why the actor that has just run failed.
    pub(crate) fault: Option<super::model::Fault>,
    /// The time when somebody last read the clock, for the account of who held the core.
    pub(crate) clock_read: Time,

    pub(crate) topology: Arc<Topology>,
    pub(crate) regions: Vec<TypedBox<dyn AnyRegion>>,
    pub(crate) region_states: Vec<RegionState>,
    /// `Last` markers that have arrived, for the engine to act upon.
    pub(crate) lasts: Vec<crate::sharding::handoff::Last>,
    /// The same of moves between nodes: markers of this node's cores, markers of this core that have come back, and parts of
    /// shards.
    pub(crate) drained: Vec<crate::sharding::node_steps::Drained>,
    pub(crate) passed: Vec<(crate::base::ids::ShardKey, u64)>,
    pub(crate) shipments: super::markers::Shipments,

    pub(crate) port: Port<Control, Box<dyn Batch>>,
    pub(crate) outbox: Vec<Target>,
    pub(crate) failures: Outgoing<FailureBatch>,
    pub(crate) signals: Outgoing<SignalBatch>,

    pub(crate) ask_tables: Vec<TypedBox<dyn AnyAskTable>>,
    pub(crate) ask_table_ids: AHashMap<TypeId, u16>,
    pub(crate) last_ask_table: Option<(TypeId, u16)>,
    pub(crate) open_asks: usize,

    pub(crate) timers: TimerWheel<TimerEvent>,
    pub(crate) sleeps: Sleeps,
    pub(crate) named_timers: NamedTimers,
    pub(crate) profiles: Profiles,
    pub(crate) watches: Watches,
    pub(crate) tasks: Tasks,
    pub(crate) handle: super::handle::Handle,
    pub(crate) blocking: Arc<dyn super::task::Executor>,
    pub(crate) me: Weak<RefCell<Local>>,
    pub(crate) draining: bool,
    /// Actors that wait in an asynchronous handler.
    pub(crate) suspended: usize,
    pub(crate) settling: Settling,
    /// The core stops: no entity starts any more.
    pub(crate) stopping: bool,
    /// Who was interrupted because the driver wanted the core back, and what is left of its turn.
    pub(crate) interrupted: Option<(CellRef, u32)>,
    /// Messages from other cores that may still be handled in this turn as they arrive.
    pub(crate) arrivals: u64,
    /// The driver wants the core back: the turn ends with the activation under way.
    pub(crate) yield_wanted: bool,
    pub(crate) events: Subscriptions,
    /// What handles ask of the engine.
    pub(crate) requests: Vec<super::control::Request>,
    /// The randomness of the actors and futures on this core.
    pub(crate) rng: Rng,
    /// A planted bug; only looked at while shards move, after calls from other threads, and at the end.
    pub(crate) mutant: Option<super::mutant::Mutant>,
    /// What it has to do with other nodes; `None` on a node that is alone.
    pub(crate) remote: Option<Box<Remote>>,
    /// Asynchronous handlers that go on when the node has its lease again.
    pub(crate) parked: Vec<Parked>,
    /// Woken futures of entities that wait for the lease.
    pub(crate) laid_aside: Vec<TaskId>,
}

/// What a core starts with.
pub(crate) struct LocalSetup {
    pub(crate) home: Home,
    pub(crate) runtime: RuntimeId,
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) limits: Limits,
    pub(crate) tracer: Option<Box<dyn Tracer>>,
    pub(crate) choose: Option<Box<dyn FnMut(usize) -> usize>>,
    pub(crate) rng: Rng,
    pub(crate) topology: Arc<Topology>,
    pub(crate) port: Port<Control, Box<dyn Batch>>,
    pub(crate) handle: super::handle::Handle,
    pub(crate) blocking: Arc<dyn super::task::Executor>,
    pub(crate) remote: Option<Remote>,
}

impl Local {
    pub(crate) fn new(setup: LocalSetup, me: Weak<RefCell<Local>>) -> Local {
        let cores = setup.port.cores();
        let core = setup.port.me();
        Local {
            home: setup.home,
            core,
            runtime: setup.runtime,
            now: setup.clock.now(),
            clock_read: setup.clock.now(),
            clock: setup.clock,
            counters: Counters::default(),
            turns: Turns::default(),
            tracer: setup.tracer,
            cells: Cells::default(),
            ready: Ready::default(),
            choose: setup.choose,
            classes: Vec::new(),
            class_ids: AHashMap::default(),
            last_class: None,
            kinds: Vec::new(),
            kind_ids: AHashMap::default(),
            last_kind: None,
            queued: Budget::new(setup.limits.queued_messages, setup.limits.queued_bytes),
            limits: setup.limits,
            faulty: VecDeque::new(),
            fault: None,
            topology: setup.topology,
            regions: Vec::new(),
            region_states: Vec::new(),
            lasts: Vec::new(),
            drained: Vec::new(),
            passed: Vec::new(),
            shipments: Vec::new(),
            outbox: (0..cores).map(|_| Target::default()).collect(),
            failures: Outgoing::new(cores),
            signals: Outgoing::new(cores),
            tasks: Tasks::new(setup.port.doorbell(core).clone()),
            port: setup.port,
            ask_tables: Vec::new(),
            ask_table_ids: AHashMap::default(),
            last_ask_table: None,
            open_asks: 0,
            timers: TimerWheel::default(),
            sleeps: Sleeps::default(),
            named_timers: NamedTimers::default(),
            profiles: Profiles::default(),
            watches: Watches::new(life_of(setup.home)),
            events: Subscriptions::new(core, cores, setup.handle.gate().topics().clone()),
            handle: setup.handle,
            blocking: setup.blocking,
            me,
            draining: false,
            suspended: 0,
            settling: Settling::default(),
            stopping: false,
            interrupted: None,
            arrivals: 0,
            yield_wanted: false,
            requests: Vec::new(),
            rng: setup.rng,
            mutant: None,
            remote: setup.remote.map(Box::new),
            parked: Vec::new(),
            laid_aside: Vec::new(),
        }
    }

    #[inline]
    pub(crate) fn trace(&mut self, event: TraceEvent) {
        if let Some(tracer) = &mut self.tracer {
            tracer.record(self.now, event);
        }
    }

    /// The number of a message type on this core.
    #[inline(always)]
    pub(crate) fn class_id<M: Message>(&mut self) -> u16 {
        let wanted = TypeId::of::<M>();
        match self.last_class {
            Some((known, class)) if known == wanted => class,
            _ => self.find_class::<M>(wanted),
        }
    }

    #[cold]
    #[inline(never)]
    fn find_class<M: Message>(&mut self, wanted: TypeId) -> u16 {
        let class = *self.class_ids.entry(wanted).or_insert_with(|| {
            let class = Class::<M> {
                pool: MailPool::default(),
                outgoing: Outgoing::new(self.port.cores()),
            };
            self.classes.push(TypedBox::new(Box::new(class)));
            (self.classes.len() - 1) as u16
        });
        self.last_class = Some((wanted, class));
        class
    }

    pub(crate) fn class_mut<M: Message>(&mut self) -> &mut Class<M> {
        let class = self.class_id::<M>();
        downcast_class(&mut self.classes, class)
            .unwrap_or_else(|| unreachable!("classes are numbered by type"))
    }

    /// The number of an actor type on this core.
    #[inline]
    pub(crate) fn kind_id<A: 'static>(&mut self) -> u16 {
        let wanted = TypeId::of::<A>();
        match self.last_kind {
            Some((known, kind)) if known == wanted => kind,
            _ => self.find_kind::<A>(wanted),
        }
    }

    #[cold]
    #[inline(never)]
    fn find_kind<A: 'static>(&mut self, wanted: TypeId) -> u16 {
        let kind = *self.kind_ids.entry(wanted).or_insert_with(|| {
            self.kinds.push(Kind {
                name: std::any::type_name::<A>(),
                messages: 0,
                faults: 0,
                stalls: 0,
                sampled_messages: 0,
                sampled: Duration::ZERO,
                longest: Duration::ZERO,
            });
            (self.kinds.len() - 1) as u16
        });
        self.last_kind = Some((wanted, kind));
        kind
    }

    /// Whether the budget of queued messages has room, so that lanes may be drained.
    #[inline(always)]
    pub(crate) fn has_room(&self) -> bool {
        self.queued.has_room()
    }
}

#[inline(always)]
pub(crate) fn downcast_class<M: Message>(
    classes: &mut [TypedBox<dyn AnyClass>],
    class: u16,
) -> Option<&mut Class<M>> {
    classes.get_mut(usize::from(class))?.get_mut()
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local")
            .field("core", &self.core)
            .field("actors", &self.cells.len())
            .finish_non_exhaustive()
    }
}
