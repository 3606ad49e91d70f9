//! Everything that a handler can reach on its core: the cells with their mailboxes, the regions, open asks, tasks,
//! timers, and the way to the other cores.

use super::asks::AnyAskTable;
use super::batch::{ActorBatch, Batch, FailureBatch, Note, Outgoing};
use super::cell::Cells;
use super::control::Control;
use super::mailbox::{Mail, MailPool, Mailbox, Policy, Stored, Waiting};
use super::outbox::{OpenBatch, Target};
use super::pending::Completer;
use super::reference::{ActorRef, CellRef, Home};
use super::refusal::{Refused, Rejection};
use super::region::{AnyRegion, RegionState};
use super::reply::{ReplyAddress, ReplyTo, RuntimeId, discard};
use super::task::Tasks;
use super::trace::{TraceEvent, Tracer, digest};
use super::typed::{AsAny, TypedBox};
use crate::base::ids::CoreId;
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
    /// Their bytes.
    pub(crate) queued_bytes: usize,
    /// Messages waiting for one other core; beyond it sends are refused as `OutboxFull`.
    pub(crate) outbox_messages: usize,
    /// Messages that wait for one moving shard; beyond it sends to it are refused as `Moving`.
    pub(crate) held_messages: usize,
    /// Messages in one batch; a full one leaves at once.
    pub(crate) batch_messages: usize,
    /// Open asks; beyond it asks end as `TooManyAsks`.
    pub(crate) asks: usize,
    /// Pending futures; beyond it a spawned future brings `TooManyTasks`.
    pub(crate) tasks: usize,
    /// Messages that an actor handles before the next one has its turn.
    pub(crate) activation_messages: u32,
    /// Messages handled in one turn.
    pub(crate) turn_messages: u64,
    /// Time spent on handlers in one turn.
    pub(crate) turn_time: Duration,
    /// A handler that holds the core longer is counted and logged.
    pub(crate) stall: Duration,
    /// The time an asynchronous handler has.
    pub(crate) async_deadline: Duration,
    /// Mailboxes that do not say otherwise.
    pub(crate) mailbox: Mailbox,
}

/// What a timer was set for.
pub(crate) enum TimerEvent {
    Ask(ReplyAddress),
    Sleep(Completer<()>),
    Deadline { task: super::task::TaskId },
    Passivate { region: u16 },
    Report,
}

/// Something that belongs to one message.
#[doc(hidden)]
#[derive(Debug)]
pub enum Extra {
    /// Say so when it has been stored.
    Acknowledge(ReplyTo<Stored>),
}

/// Whether a message counts against the bounds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// It needs room like any other.
    Bounded,
    /// Its room was reserved when it was asked for: replies, results, what moves with its shard.
    Reserved,
}

/// Counters of one core.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) handled: u64,
    pub(crate) activations: u64,
    pub(crate) sent_requests: u64,
    pub(crate) batches_sent: u64,
    pub(crate) batches_received: u64,
    pub(crate) asks: u64,
    pub(crate) late_replies: u64,
    pub(crate) faults: u64,
    pub(crate) stalls: u64,
    pub(crate) passivations: u64,
    pub(crate) dead_letters: [u64; Rejection::ALL.len()],
    pub(crate) refusals: [u64; Rejection::ALL.len()],
}

impl Counters {
    pub(crate) fn count_refusal(&mut self, why: Rejection) {
        self.refusals[why as usize] += 1;
    }
}

/// How this core's turns went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// Turns that did something.
    pub busy: u64,
    /// Turns that found nothing.
    pub idle: u64,
    /// Time from the start of each busy turn to the start of the next turn.
    pub busy_time: Duration,
    /// The longest of these times.
    pub longest: Duration,
}

/// What is known of one actor type on this core.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) messages: u64,
    pub(crate) faults: u64,
    pub(crate) stalls: u64,
    pub(crate) sampled_messages: u64,
    pub(crate) sampled: Duration,
    pub(crate) longest: Duration,
}

impl Kind {
    /// Mean handling time, estimated from samples.
    pub(crate) fn mean_nanos(&self) -> u64 {
        (self.sampled.as_nanos() as u64).checked_div(self.sampled_messages).unwrap_or(0)
    }
}

/// The mailboxes of one message type, and its messages on their way to other cores.
pub(crate) struct Class<M> {
    pub(crate) pool: MailPool<M>,
    pub(crate) outgoing: Outgoing<ActorBatch<M>>,
}

/// A class whatever its message type.
pub(crate) trait AnyClass: AsAny {
    fn seal(&mut self, to: CoreId) -> Option<Box<dyn Batch>>;
    fn trim(&mut self);
}

impl<M: Message> AnyClass for Class<M> {
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
    pub(crate) ready: VecDeque<CellRef>,
    /// In the simulator: chooses which of the ready actors runs next.
    pub(crate) choose: Option<Box<dyn FnMut(usize) -> usize>>,
    pub(crate) classes: Vec<TypedBox<dyn AnyClass>>,
    class_ids: AHashMap<TypeId, u16>,
    last_class: Option<(TypeId, u16)>,
    pub(crate) kinds: Vec<Kind>,
    kind_ids: AHashMap<TypeId, u16>,
    pub(crate) queued_messages: usize,
    pub(crate) queued_bytes: usize,
    /// Actors to be stopped because code of theirs failed outside of their activation.
    pub(crate) faulty: Vec<(CellRef, super::actor::Fault)>,
    /// Why the actor that has just run failed.
    pub(crate) fault: Option<super::actor::Fault>,
    /// The time when somebody last read the clock, for the account of who held the core.
    pub(crate) clock_read: Time,

    pub(crate) topology: Arc<Topology>,
    pub(crate) regions: Vec<TypedBox<dyn AnyRegion>>,
    pub(crate) region_states: Vec<RegionState>,
    /// `Last` markers that have arrived, for the engine to act upon.
    pub(crate) lasts: Vec<crate::sharding::handoff::Last>,

    pub(crate) port: Port<Control, Box<dyn Batch>>,
    pub(crate) outbox: Vec<Target>,
    pub(crate) failures: Outgoing<FailureBatch>,

    pub(crate) ask_tables: Vec<TypedBox<dyn AnyAskTable>>,
    pub(crate) ask_table_ids: AHashMap<TypeId, u16>,
    pub(crate) open_asks: usize,

    pub(crate) timers: TimerWheel<TimerEvent>,
    pub(crate) tasks: Tasks,
    pub(crate) handle: super::handle::Handle,
    pub(crate) blocking: Arc<dyn super::task::Executor>,
    pub(crate) me: Weak<RefCell<Local>>,
    pub(crate) draining: bool,
    /// The core stops: no entity starts any more.
    pub(crate) stopping: bool,
    /// The driver wants the core back: the turn ends with the activation under way.
    pub(crate) yield_wanted: bool,
    /// The core is to stop at the end of this turn.
    pub(crate) stop_wanted: bool,
    /// What handles ask of the engine.
    pub(crate) requests: Vec<super::control::Request>,
    /// A planted bug; only looked at while shards move.
    pub(crate) mutant: Option<super::mutant::Mutant>,
}

/// What a core starts with.
pub(crate) struct LocalSetup {
    pub(crate) home: Home,
    pub(crate) runtime: RuntimeId,
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) limits: Limits,
    pub(crate) tracer: Option<Box<dyn Tracer>>,
    pub(crate) choose: Option<Box<dyn FnMut(usize) -> usize>>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) port: Port<Control, Box<dyn Batch>>,
    pub(crate) handle: super::handle::Handle,
    pub(crate) blocking: Arc<dyn super::task::Executor>,
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
            limits: setup.limits,
            counters: Counters::default(),
            turns: Turns::default(),
            tracer: setup.tracer,
            cells: Cells::default(),
            ready: VecDeque::new(),
            choose: setup.choose,
            classes: Vec::new(),
            class_ids: AHashMap::default(),
            last_class: None,
            kinds: Vec::new(),
            kind_ids: AHashMap::default(),
            queued_messages: 0,
            queued_bytes: 0,
            faulty: Vec::new(),
            fault: None,
            topology: setup.topology,
            regions: Vec::new(),
            region_states: Vec::new(),
            lasts: Vec::new(),
            outbox: (0..cores).map(|_| Target::default()).collect(),
            failures: Outgoing::new(cores),
            tasks: Tasks::new(setup.port.doorbell(core).clone()),
            port: setup.port,
            ask_tables: Vec::new(),
            ask_table_ids: AHashMap::default(),
            open_asks: 0,
            timers: TimerWheel::default(),
            handle: setup.handle,
            blocking: setup.blocking,
            me,
            draining: false,
            stopping: false,
            yield_wanted: false,
            stop_wanted: false,
            requests: Vec::new(),
            mutant: None,
        }
    }

    #[inline]
    pub(crate) fn trace(&mut self, event: TraceEvent) {
        if let Some(tracer) = &mut self.tracer {
            tracer.record(self.now, event);
        }
    }

    /// The number of a message type on this core.
    #[inline]
    pub(crate) fn class_id<M: Message>(&mut self) -> u16 {
        let wanted = TypeId::of::<M>();
        match self.last_class {
            Some((known, class)) if known == wanted => class,
            _ => self.find_class::<M>(wanted),
        }
    }

    fn find_class<M: Message>(&mut self, wanted: TypeId) -> u16 {
        let class = *self.class_ids.entry(wanted).or_insert_with(|| {
            let class = Class::<M> { pool: MailPool::default(), outgoing: Outgoing::new(self.port.cores()) };
            self.classes.push(TypedBox::new(Box::new(class)));
            (self.classes.len() - 1) as u16
        });
        self.last_class = Some((wanted, class));
        class
    }

    pub(crate) fn class_mut<M: Message>(&mut self) -> &mut Class<M> {
        let class = self.class_id::<M>();
        downcast_class(&mut self.classes, class).unwrap_or_else(|| unreachable!("classes are numbered by type"))
    }

    /// The number of an actor type on this core.
    pub(crate) fn kind_id<A: 'static>(&mut self) -> u16 {
        *self.kind_ids.entry(TypeId::of::<A>()).or_insert_with(|| {
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
        })
    }

    /// Counts and logs a message that nobody will handle, and drops it.
    #[cold]
    #[inline(never)]
    pub(crate) fn dead_letter<M: Message>(&mut self, why: Rejection, message: M) {
        self.counters.dead_letters[why as usize] += 1;
        self.trace(TraceEvent::DeadLetter { why });
        tracing::debug!(core = %self.core, %why, message = std::any::type_name::<M>(), "dead letter");
        discard(why.into(), message);
    }

    /// Sends, and makes a refused message a dead letter.
    #[inline(always)]
    pub(crate) fn tell<D: super::reference::Destination>(&mut self, to: D, message: D::Msg) {
        if let Err(refused) = to.deliver(self, message, None) {
            self.dead_letter(refused.why, refused.message);
        }
    }

    #[inline(always)]
    pub(crate) fn deliver_to_actor<M: Message>(
        &mut self,
        to: ActorRef<M>,
        message: M,
        extra: Option<Extra>,
    ) -> Result<(), Refused<M>> {
        if to.home != self.home {
            return Err(refuse(Rejection::OldIncarnation, message, extra));
        }
        if to.core == self.core {
            self.store(to.cell, message, extra, Room::Bounded)
        } else {
            self.post(to, message, extra)
        }
    }

    /// Takes a message that came through a lane.
    #[inline]
    pub(crate) fn accept<M: Message>(&mut self, to: CellRef, message: M, extra: Option<Extra>) {
        if let Err(refused) = self.store(to, message, extra, Room::Bounded) {
            self.dead_letter(refused.why, refused.message);
        }
    }

    /// Puts a message into a mailbox of this core. Everything that is rare is out of line, so that a message is written
    /// straight from the handler that sends it into the mailbox.
    #[inline(always)]
    pub(crate) fn store<M: Message>(
        &mut self,
        to: CellRef,
        message: M,
        extra: Option<Extra>,
        room: Room,
    ) -> Result<(), Refused<M>> {
        let has_room = self.has_room();
        let Some(cell) = self.cells.get(to) else {
            return Err(refuse(Rejection::NoSuchActor, message, extra));
        };
        if room == Room::Bounded && (cell.queue.len() >= cell.capacity || !has_room) {
            return self.store_when_full(to, message, extra);
        }
        let Some(class) = downcast_class::<M>(&mut self.classes, cell.class) else {
            return Err(refuse(Rejection::NoSuchActor, message, extra));
        };
        class.pool.push(&mut cell.queue, Mail::user(message));
        self.queued_messages += 1;
        self.queued_bytes += MailPool::<M>::NODE_BYTES;
        if !cell.scheduled {
            cell.scheduled = true;
            self.ready.push_back(to);
        }
        if let Some(Extra::Acknowledge(stored)) = extra {
            self.reply(stored, Stored);
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn store_when_full<M: Message>(
        &mut self,
        to: CellRef,
        message: M,
        extra: Option<Extra>,
    ) -> Result<(), Refused<M>> {
        let Some(cell) = self.cells.get(to) else {
            return Err(refuse(Rejection::NoSuchActor, message, extra));
        };
        if cell.queue.len() < cell.capacity {
            return Err(refuse(Rejection::CoreBudget, message, extra));
        }
        let Some(class) = downcast_class::<M>(&mut self.classes, cell.class) else {
            return Err(refuse(Rejection::NoSuchActor, message, extra));
        };
        match (cell.policy, extra) {
            (Policy::DropOldest, extra) => {
                let oldest = class.pool.pop(&mut cell.queue);
                self.queued_messages -= 1;
                self.queued_bytes -= MailPool::<M>::NODE_BYTES;
                match oldest {
                    Some(Mail::User(oldest)) => self.dead_letter(Rejection::Evicted, oldest.open()),
                    // A stop is never dropped: what came before it is gone, so it comes first.
                    Some(Mail::Stop) => {
                        self.push_stop::<M>(to);
                        return Err(refuse(Rejection::MailboxFull, message, extra));
                    }
                    None => {}
                }
                self.store(to, message, extra, Room::Reserved)
            }
            (Policy::Backpressure, Some(Extra::Acknowledge(stored))) => {
                let waiting = class.pool.waiting.entry(to.slot()).or_default();
                if waiting.len() >= cell.waiters as usize {
                    return Err(refuse(Rejection::MailboxFull, message, Some(Extra::Acknowledge(stored))));
                }
                waiting.push_back(Waiting { message, stored });
                cell.has_waiting = true;
                Ok(())
            }
            (_, extra) => Err(refuse(Rejection::MailboxFull, message, extra)),
        }
    }

    /// The next message of an actor, if there is one.
    #[inline(always)]
    pub(crate) fn next_mail<M: Message>(&mut self, at: CellRef) -> Option<Mail<M>> {
        let cell = self.cells.get(at)?;
        let class = downcast_class::<M>(&mut self.classes, cell.class)?;
        let mail = class.pool.pop(&mut cell.queue)?;
        self.queued_messages -= 1;
        self.queued_bytes -= MailPool::<M>::NODE_BYTES;
        Some(mail)
    }

    /// Records the delivery of the message that an actor handles next. It looks at the message in its mailbox: with the
    /// message at hand, the code that would drop it if this failed makes every delivery slower.
    #[cold]
    #[inline(never)]
    pub(crate) fn trace_next<M: Message>(&mut self, at: CellRef, actor: &'static str) {
        let Some(cell) = self.cells.get(at) else { return };
        let Some(class) = downcast_class::<M>(&mut self.classes, cell.class) else { return };
        if let Some(message) = class.pool.first(&cell.queue) {
            let digest = digest(message);
            self.trace(TraceEvent::Deliver { to: at, actor, digest });
        }
    }

    /// Lets awaited sends in, first come first served, as far as the mailbox has room.
    #[cold]
    #[inline(never)]
    pub(crate) fn admit_waiting<M: Message>(&mut self, at: CellRef) {
        while let Some(cell) = self.cells.get(at)
            && cell.has_waiting
            && cell.queue.len() < cell.capacity
            && let Some(class) = downcast_class::<M>(&mut self.classes, cell.class)
        {
            let waiting = class.pool.waiting.entry(at.slot()).or_default();
            let first = waiting.pop_front();
            if waiting.is_empty() {
                class.pool.waiting.remove(&at.slot());
                cell.has_waiting = false;
            }
            if let Some(Waiting { message, stored }) = first {
                self.accept_reserved(at, message, Some(Extra::Acknowledge(stored)));
            }
        }
    }

    /// Stores a message whose room is reserved; only an actor that is gone can refuse it.
    pub(crate) fn accept_reserved<M: Message>(&mut self, to: CellRef, message: M, extra: Option<Extra>) {
        if let Err(refused) = self.store(to, message, extra, Room::Reserved) {
            self.dead_letter(refused.why, refused.message);
        }
    }

    /// Stops an actor behind the messages that it has.
    pub(crate) fn stop_in_order<M: Message>(&mut self, at: CellRef) {
        self.push_stop::<M>(at);
    }

    fn push_stop<M: Message>(&mut self, at: CellRef) {
        let Some(cell) = self.cells.get(at) else { return };
        let Some(class) = downcast_class::<M>(&mut self.classes, cell.class) else { return };
        class.pool.push(&mut cell.queue, Mail::Stop);
        self.queued_messages += 1;
        self.queued_bytes += MailPool::<M>::NODE_BYTES;
        if !cell.scheduled {
            cell.scheduled = true;
            self.ready.push_back(at);
        }
    }

    /// Asks an actor to stop once it has handled what was sent to it before.
    pub(crate) fn stop_actor_in_order<M: Message>(&mut self, to: ActorRef<M>) {
        if to.home != self.home || to.core.index() >= self.outbox.len() {
            return;
        }
        if to.core == self.core {
            self.push_stop::<M>(to.cell);
        } else {
            let class = self.class_id::<M>();
            let (batch, opened) = self.class_mut::<M>().outgoing.open(to.core);
            batch.notes.push((batch.items.len() as u32, Note::Stop(to.cell)));
            if opened {
                self.outbox[to.core.index()].open.push(OpenBatch::Class(class));
            }
        }
    }

    /// Puts a message for another core into the outbox.
    #[inline(never)]
    fn post<M: Message>(&mut self, to: ActorRef<M>, message: M, extra: Option<Extra>) -> Result<(), Refused<M>> {
        let Some(target) = self.outbox.get_mut(to.core.index()) else {
            return Err(refuse(Rejection::NoSuchActor, message, extra));
        };
        if target.messages >= self.limits.outbox_messages {
            return Err(refuse(Rejection::OutboxFull, message, extra));
        }
        target.messages += 1;
        let limit = self.limits.batch_messages;
        let class = self.class_id::<M>();
        let Some(table) = downcast_class::<M>(&mut self.classes, class) else {
            unreachable!("classes are numbered by type")
        };
        let (batch, opened) = table.outgoing.open(to.core);
        if let Some(Extra::Acknowledge(stored)) = extra {
            batch.notes.push((batch.items.len() as u32, Note::Acknowledge(stored)));
        }
        batch.items.push((to.cell, message));
        let full = batch.items.len() >= limit;
        if opened {
            self.outbox[to.core.index()].open.push(OpenBatch::Class(class));
        }
        if full {
            self.seal(to.core, OpenBatch::Class(class));
        }
        Ok(())
    }

    /// Whether the budget of queued messages has room, so that lanes may be drained.
    #[inline(always)]
    pub(crate) fn has_room(&self) -> bool {
        self.queued_messages < self.limits.queued_messages && self.queued_bytes < self.limits.queued_bytes
    }
}

#[inline(always)]
pub(crate) fn downcast_class<M: Message>(classes: &mut [TypedBox<dyn AnyClass>], class: u16) -> Option<&mut Class<M>> {
    classes.get_mut(usize::from(class))?.get_mut()
}

/// A refused message; the sender of an acknowledged one hears of it through its ask.
#[cold]
#[inline(never)]
pub(crate) fn refuse<M>(why: Rejection, message: M, extra: Option<Extra>) -> Refused<M> {
    if let Some(Extra::Acknowledge(stored)) = extra {
        discard(why.into(), stored);
    }
    Refused { message, why }
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").field("core", &self.core).field("actors", &self.cells.len()).finish_non_exhaustive()
    }
}
