//! The settings themselves: what each means, its unit, its default, and what too much and too little of it cost.

use super::core_selection::CoreSelection;
use std::time::Duration;

/// Everything a runtime can be told about cores, memory and time.
///
/// Start from the default and change fields; [`plan`](Settings::plan) checks them together and against the machine.
/// Sizes are per core unless said otherwise. With *N* data cores and messages of *s* bytes, one core's queues hold at most
///
/// | where | messages |
/// |---|---|
/// | mailboxes, and the lanes towards this core | [`budget_messages`](Settings::budget_messages) |
/// | lanes, all classes (part of the line above) | 3 x (*N* - 1) x [`lane_batches`](Settings::lane_batches) x [`batch_messages`](Settings::batch_messages) |
/// | outboxes towards other cores | (*N* - 1) x [`outbox_messages`](Settings::outbox_messages) |
/// | jobs from other threads | [`ingress_jobs`](Settings::ingress_jobs) |
///
/// times *s*, and never more than [`budget_bytes`](Settings::budget_bytes) of what the first line counts.
///
/// ```
/// use corecast::base::machine::Machine;
/// use corecast::node::settings::Settings;
///
/// let settings = Settings { cores: "0,2-4".parse()?, ..Settings::default() };
/// let plan = settings.plan(&Machine::uniform(8))?;
/// assert_eq!(plan.data_cores, [0, 2, 3]);
/// assert_eq!(plan.coordination_cpu, 4); // from four CPUs up it has one to itself
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which CPUs the runtime takes, the coordination core's included where it is one of them. Default: all that this
    /// process may run on.
    ///
    /// Each CPU but the coordination core's runs one data core. Too many, and the runtime competes with the rest of the
    /// service for them: a preempted core delays all its entities by a scheduler's slice, some milliseconds. Too few
    /// only limit throughput. Cores of one NUMA node keep messages out of the interconnect.
    pub cores: CoreSelection,

    /// The CPU of the coordination core, which places shards and serves control. Default: the last of
    /// [`cores`](Settings::cores), to itself from four CPUs up, shared with a data core below.
    ///
    /// A CPU outside of the selection is the coordination core's alone, whatever the number of cores; one inside follows
    /// the rule above. Sharing costs the data core on that CPU the time of control work, and control the wait for that
    /// core's turn.
    pub coordination: Option<usize>,

    /// How long a core that has nothing to do keeps polling its lanes before it parks. Default: 50 µs, but 0 as soon as
    /// more threads of the runtime are pinned than there are CPUs, for then it would poll away the time of the thread it
    /// waits for.
    ///
    /// A message that arrives within it is taken in well under a microsecond; one that arrives later pays a wake, some
    /// 50 µs in a virtual machine. Worth it when it is at least the usual gap between messages. Too high, and an idle
    /// service keeps its CPUs busy and warm; too low, and each message under light load pays the wake. Without effect
    /// when [`park`](Settings::park) is [`ParkPolicy::Never`].
    pub spin: Option<Duration>,

    /// What an idle data core does once [`spin`](Settings::spin) is over. Default: [`ParkPolicy::Park`]. The coordination
    /// core always parks.
    pub park: ParkPolicy,

    /// How often the executor interrupts ready work to look at completed I/O and due timers. Default: 1 ms. At least
    /// [`turn_time`](Settings::turn_time), or every full turn would be interrupted; at most
    /// [`stall_threshold`](Settings::stall_threshold).
    ///
    /// It is the resolution of timers on a busy core. Too high, and timers and sockets wait that long under load; too
    /// low, and the core spends its time entering the kernel.
    pub preempt: Duration,

    /// How many messages may be queued on one core, in all its mailboxes and in the lanes towards it. Default:
    /// 1,000,000. At least [`mailbox`](Settings::mailbox) and one full lane, at most 134,217,727.
    ///
    /// The bounds of mailboxes do not bound memory, a million of them with 1,000 messages each fit nowhere; this does.
    /// Beyond it a send is refused with its reason. Worst case: this times the size of a message, and where messages wait by
    /// twos and threes up to five times as much, since a mailbox with more than one takes places for eight at once;
    /// [`budget_bytes`](Settings::budget_bytes) bounds that. Too high, and an overload ends in the kernel's out-of-memory
    /// killer; too low, and bursts that memory had room for are refused.
    pub budget_messages: usize,

    /// How many bytes the messages queued on one core may take, in bytes. Default: 1 GiB. At most 256 GiB.
    ///
    /// Counted by the size of the message's type and a link of 4 bytes, not by what it points to, and by the places that a
    /// mailbox has taken: one for the first message, 8 at a time for more. Whichever of the two budgets is used up first
    /// refuses. Worst case for the process: (*N* data cores) x this. Too high and too low cost what they cost for
    /// [`budget_messages`](Settings::budget_messages).
    pub budget_bytes: usize,

    /// How many messages a mailbox holds for which the actor or entity type sets no capacity. Default: 1,000. At most
    /// [`budget_messages`](Settings::budget_messages).
    ///
    /// Memory is taken for queued messages only, an empty mailbox is small whatever its capacity. Too high, and one slow
    /// actor takes the core's budget from the others and answers requests that nobody waits for any more; too low, and
    /// short bursts to one actor are refused.
    pub mailbox: usize,

    /// How many batches a lane between two cores holds, for each class of traffic and each direction. Default: 128. A
    /// lane's batches of [`batch_messages`](Settings::batch_messages) each fit into
    /// [`budget_messages`](Settings::budget_messages). With many cores a lane holds fewer, so that those towards one core
    /// take at most half of its budget.
    ///
    /// Worst case of a core: 3 classes x (*N* - 1) x this x batch x size of a message. Too high, and messages age unseen
    /// in lanes of a core that falls behind; too low, and the senders' outboxes fill while that core is in a long turn.
    pub lane_batches: usize,

    /// How many messages travel together from core to core at most. Default: 64. At most
    /// [`outbox_messages`](Settings::outbox_messages).
    ///
    /// A batch leaves at the end of its turn even when it is not full, so that light load is not delayed. Too high, and a
    /// batch's buffer no longer fits the cache (64 messages of 64 bytes are 4 KiB); too low, and the cost of the channel,
    /// tens of nanoseconds and a cache line from core to core, is shared by few.
    pub batch_messages: usize,

    /// How many messages wait on the sending core for one other core whose lane is full. Default: 65,536. At most
    /// [`budget_messages`](Settings::budget_messages).
    ///
    /// No core waits for another: what finds the outbox full is refused with its reason. Worst case of a core: (*N* - 1)
    /// x this x size of a message. Too high, and an overloaded core is noticed late; too low, and a core that pauses for
    /// a few milliseconds costs refusals.
    pub outbox_messages: usize,

    /// How many asks sent from one core may await their answers. Default: 1,000,000.
    ///
    /// Worst case: this times some 100 bytes for the continuation and its timer. Beyond it an ask is rejected at once.
    /// Too high, and asks to something that hangs pile up until their timeouts; too low, and the rate of asks is capped
    /// at this divided by the time an answer takes.
    pub asks: usize,

    /// How long an ask waits for its reply that is given no time of its own (`ask_within`). Default: 5 s.
    ///
    /// It ends as unknown then, whether or not it took effect. Too high, and callers wait, and keep one of
    /// [`asks`](Settings::asks) each, for what will not come; too low, and replies that were on their way count as late
    /// and their work was in vain.
    pub ask_timeout: Duration,

    /// How long a handler may await, in an [`AsyncActor`](crate::AsyncActor) or by
    /// [`Context::suspend`](crate::Context::suspend). Default: 10 s.
    ///
    /// What takes longer is dropped and its actor fails. Meanwhile the actor's mailbox waits, and its shard cannot move:
    /// a handler that awaits longer than [`hand_off_patience`](Settings::hand_off_patience) refuses the move. Too high,
    /// and an actor that waits for something dead is stuck for that long; too low, and actors fail over a slow answer of
    /// which they would have made something.
    pub async_deadline: Duration,

    /// How many futures may be pending on one core: spawned ones, handlers that await, and those of
    /// [`Handle::run_on`](crate::Handle::run_on). Default: 1,000,000. At most 4,294,967,295.
    ///
    /// Beyond it a future ends at once as [`TaskError::TooManyTasks`](crate::TaskError::TooManyTasks). Worst case: this
    /// times the size of a future and some 200 bytes for its waker and bookkeeping. Too high, and futures that hang fill
    /// the memory; too low, and actors that await something fail under load.
    pub tasks: usize,

    /// How many timers with names may be pending on one core: those of its actors
    /// ([`Context::start_timer`](crate::Context::start_timer)), and the schedules that it keeps
    /// ([`Handle::schedule`](crate::Handle::schedule)). Default: 1,000,000. At most 4,294,967,295.
    ///
    /// Beyond it a timer is refused at once; those of entities whose shard moves here are let in. Worst case: this times
    /// some 250 bytes and the size of a message. Too high, and timers that are started and never end fill the memory; too
    /// low, and actors that need one fail under load.
    pub timers: usize,

    /// How many watches the actors of one core may hold ([`Context::watch`](crate::Context::watch)). Default: 1,000,000. At
    /// most 4,294,967,295.
    ///
    /// Beyond it a watch is refused at once; those of entities whose shard moves here are let in. As many watches of other
    /// nodes may be for the actors of one core; beyond them they wait at the watcher's node. Worst case: this times some
    /// 300 bytes here and 50 on the cores of those who are watched, and 200 more for each across nodes. Too high, and watches of actors that never end fill
    /// the memory; too low, and actors that need one fail under load.
    pub watches: usize,

    /// How many items wait in the buffer of a stream that does not say it itself
    /// ([`StreamSettings::sharing`](crate::StreamSettings::sharing) and
    /// [`broadcasting`](crate::StreamSettings::broadcasting)). Default: 64.
    ///
    /// When it is full, the producer waits for its consumers. Worst case: this times the size of an item, for each stream.
    /// Too high, and what consumers get has waited for long and takes memory meanwhile; too low, and between two cores each
    /// round trip moves few items.
    pub stream_buffer: usize,

    /// How many items a [`Consumer`](crate::Consumer) asks for before somebody wants them, if it does not say it itself
    /// (`consume_ahead`). Default: 64.
    ///
    /// They lie at the consumer until they are taken out. Worst case: this times the size of an item, for each consumer. Too
    /// high, and one of those who share a stream keeps items from the others; too low, and each round trip between two cores
    /// moves few.
    pub stream_window: usize,

    /// How many consumers a stream may have at once that does not say it itself
    /// ([`StreamSettings::consumers`](crate::StreamSettings::consumers)). Default: 1,000.
    ///
    /// One more is refused. Each keeps three of [`asks`](Settings::asks) open at most on the stream's core, and two on its
    /// own. Too high, and a crowd at one stream takes them from everybody; too low, and consumers are refused for which there
    /// was room.
    pub stream_consumers: usize,

    /// How long a stream that its producer has ended waits for a consumer to take what is left, if it does not say it itself
    /// ([`StreamSettings::linger`](crate::StreamSettings::linger)). Default: 5 s. 0 waits for nobody.
    ///
    /// Too high, and streams that nobody comes for take memory for that long; too low, and a consumer that is on its way finds
    /// the stream gone, and what was left dropped and counted.
    pub stream_linger: Duration,

    /// How many messages a core handles in one turn at most, before it flushes and looks at its lanes again; and as many
    /// more at its beginning, right when they arrive from other cores for actors that have nothing else to do. What arrives
    /// beyond that stays in its lane until the next turn. Default: 512.
    ///
    /// Too high, and answers wait for the end of a long turn and control for its next; too low, and batches leave half
    /// empty and each turn's fixed cost is shared by few.
    pub turn_messages: usize,

    /// How many messages from its mailbox one actor handles at most before the next one has its turn. Default: 512. At most
    /// [`turn_messages`](Settings::turn_messages), which it would exceed otherwise. (What it handles right when it arrives
    /// counts there only.)
    ///
    /// Too high, and actors with a message or two wait behind one with a full mailbox; too low, and the state of each
    /// actor is fetched into the cache for few messages.
    pub activation_messages: usize,

    /// For how long a core handles messages in one turn. Default: 200 µs. Below
    /// [`stall_threshold`](Settings::stall_threshold), at most [`preempt`](Settings::preempt).
    ///
    /// The clock is looked at after every 16 turns of actors, after 64 where they are very short, and
    /// [`preempt`](Settings::preempt) ends what lasts longer. Where arrivals from other cores have used the time up, the
    /// actors with messages in their mailboxes have 16 turns all the same. It bounds what an answer waits behind when handlers are slow, [`turn_messages`](Settings::turn_messages) when they
    /// are fast. Too high and too low cost what they cost there.
    pub turn_time: Duration,

    /// The registered I/O memory of each executor, the coordination core's included, in bytes. Default: 64 KiB, which is
    /// the least, and enough while no files are written.
    ///
    /// It counts against the limit on locked memory, in each of an executor's three rings. Worst case: (*N* + 1) x this.
    /// Too high, and that limit keeps the runtime from registering it or from starting; too low, and file I/O falls back
    /// to unregistered memory, which the kernel pins for every operation anew.
    pub io_memory_bytes: usize,

    /// How many operations fit into one submission to the kernel, in each of an executor's three rings. Default: 32.
    /// From 4 to 32,768; the kernel rounds up to a power of two.
    ///
    /// Too high wastes locked memory, some 200 bytes each; too low, and a core with many connections enters the kernel
    /// more often than once a turn.
    pub ring_depth: usize,

    /// How many threads serve `spawn_blocking`, for the whole runtime. Default: 4. They are not pinned, and wait for the
    /// CPUs that the cores leave over.
    ///
    /// Too high, and blocking work takes time from the cores; too low, and it queues up.
    pub blocking_threads: usize,

    /// How many blocking calls wait for a thread, for the whole runtime. Default: 4,096.
    ///
    /// Beyond it `spawn_blocking` ends at once with its error. Worst case: this times the size of a closure. Too high,
    /// and the last caller waits longer than it cares; too low, and bursts are refused.
    pub blocking_queue: usize,

    /// How many jobs from handles on other threads (messages, asks, spawns) wait for one core. Default: 65,536.
    ///
    /// Beyond it a handle's `try_tell` is refused and its `tell` becomes a counted dead letter. Worst case: this times
    /// the size of a message and some 32 bytes. Too high and too low cost what they cost for
    /// [`outbox_messages`](Settings::outbox_messages).
    pub ingress_jobs: usize,

    /// From how long on a handler or future that keeps its core is counted and logged with its type. Default: 5 ms.
    /// Above [`turn_time`](Settings::turn_time), at least [`preempt`](Settings::preempt).
    ///
    /// Too high, and what spoils the latency of everything on that core stays unseen; too low, and the log fills with
    /// handlers that the kernel interrupted.
    pub stall_threshold: Duration,

    /// How long a shard may take to become ready to leave its core, once it is to move. Default: 2 s.
    ///
    /// It is ready when every core has sent off what it had for it, and no entity of it awaits in a handler; if that
    /// takes longer, the move is refused and the shard stays. Meanwhile new messages for it wait at their senders, up to
    /// [`outbox_messages`](Settings::outbox_messages). Too high, and one stuck entity holds up the whole shard for that
    /// long, messages for it are refused, and moves that wait for their turn (30 s) give up; too low, and a full lane or
    /// a slow asynchronous handler refuses moves.
    pub hand_off_patience: Duration,

    /// How long a shutdown lets accepted messages be handled before it drops and counts the rest. Default: 10 s. 0 drops
    /// them at once.
    ///
    /// Too high, and a service's supervisor kills it first (systemd after 90 s, Kubernetes after 30 s, unless told
    /// otherwise); too low, and accepted work is lost that was about to be done.
    pub shutdown_deadline: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            cores: CoreSelection::All,
            coordination: None,
            spin: None,
            park: ParkPolicy::Park,
            preempt: Duration::from_millis(1),
            budget_messages: 1_000_000,
            budget_bytes: 1 << 30,
            mailbox: 1_000,
            lane_batches: 128,
            batch_messages: 64,
            outbox_messages: 65_536,
            asks: 1_000_000,
            ask_timeout: Duration::from_secs(5),
            async_deadline: Duration::from_secs(10),
            tasks: 1_000_000,
            timers: 1_000_000,
            watches: 1_000_000,
            stream_buffer: 64,
            stream_window: 64,
            stream_consumers: 1_000,
            stream_linger: Duration::from_secs(5),
            turn_messages: 512,
            activation_messages: 512,
            turn_time: Duration::from_micros(200),
            io_memory_bytes: 64 << 10,
            ring_depth: 32,
            blocking_threads: 4,
            blocking_queue: 4_096,
            ingress_jobs: 65_536,
            stall_threshold: Duration::from_millis(5),
            hand_off_patience: Duration::from_secs(2),
            shutdown_deadline: Duration::from_secs(10),
        }
    }
}

/// What an idle data core does when it has polled long enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParkPolicy {
    /// It sleeps in the kernel until something arrives: an idle service costs nothing, and a message to a sleeping core
    /// pays a wake.
    #[default]
    Park,
    /// It polls for ever: no message ever pays a wake, and the CPU is always busy. For CPUs that nothing else needs,
    /// isolated ones at best.
    Never,
}
