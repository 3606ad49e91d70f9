//! What can become of a message that did not do its work: refused for certain, or unknown.

use std::fmt;

/// Why a message was not delivered. It never reached a handler, and nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The receiver's mailbox is full; raise its capacity, or send less.
    #[error("the mailbox is full")]
    MailboxFull,
    /// A newer message took its place in a full mailbox of the policy `DropOldest`.
    #[error("a newer message took its place in a full mailbox")]
    Evicted,
    /// All mailboxes of the core together hold as many messages or bytes as they may.
    #[error("the core's budget of queued messages or bytes is used up")]
    CoreBudget,
    /// The sender's outbox towards the receiver's core is full: that core does not keep up.
    #[error("the outbox towards the receiver's core is full")]
    OutboxFull,
    /// The queue from other threads into a core is full.
    #[error("the queue from other threads into the core is full")]
    IngressFull,
    /// This core has as many open asks as it may.
    #[error("too many asks are open on this core")]
    TooManyAsks,
    /// This core has as many timers with names as it may; raise the setting `timers`, or start fewer.
    #[error("too many timers are pending on this core")]
    TooManyTimers,
    /// The actors of this core watch as many others as they may; raise the setting `watches`, or watch fewer.
    #[error("too many actors are watched from this core")]
    TooManyWatches,
    /// Nobody lives at that address: the actor has stopped.
    #[error("no such actor: it has stopped")]
    NoSuchActor,
    /// The reference belongs to another node, or to an earlier life of this one.
    #[error("the reference belongs to another node or to an earlier life of this one")]
    OldIncarnation,
    /// The receiver stopped before the message had its turn.
    #[error("the receiver stopped before the message had its turn")]
    Stopped,
    /// The entity could not be found or started: its factory panicked, or code of its id (`Hash`, `Eq`, `Clone`).
    #[error("the entity could not be started")]
    StartFailed,
    /// The shard is moving, and the room for messages that wait for it is used up.
    #[error("the shard is moving and the room for waiting messages is used up")]
    Moving,
    /// The runtime is shutting down.
    #[error("the runtime is shutting down")]
    ShuttingDown,
    /// The receiver's core has died: its engine panicked, which is a bug of corecast. The log says what happened; the
    /// other cores go on.
    #[error("the receiver's core has died")]
    CoreDied,
    /// A reply came when its ask had ended, by its time limit for instance.
    #[error("the reply came too late: its ask had ended")]
    LateReply,
    /// A test has dropped it on purpose, in the simulator; see [`Injection::drop`](crate::sim::Injection::drop).
    #[error("a test dropped it on purpose")]
    Injected,
    /// As many bytes wait for the receiver's node as may: the connection does not keep up.
    #[error("the room for what waits for the receiver's node is used up")]
    LinkFull,
    /// The connection to the receiver's node was lost before the message had left, or there is none.
    #[error("there is no connection to the receiver's node any more")]
    LinkLost,
    /// No node owns the shard, and the room for messages that wait for one is used up.
    #[error("no node owns the shard and the room for waiting messages is used up")]
    Unallocated,
    /// The shard was taken from its node, or the message comes from one that it was taken from.
    #[error("the shard was taken from its node")]
    Fenced,
    /// The node has lost its lease, so another may own its shards by now, and what may wait here waits already.
    #[error("the node has no lease from a quorum of the cluster")]
    NoControlQuorum,
    /// The message does not fit into a frame, or its id is too long to travel.
    #[error("the message or the id of its receiver is too large to travel")]
    TooLarge,
    /// The message could not be archived for another node.
    #[error("the message could not be archived for another node")]
    NotArchived,
    /// The receiver's node could not read the message: it does not know the type or the version, or the bytes are wrong.
    #[error("the receiver's node could not read the message")]
    Unreadable,
    /// It was sent to a node that does not own the shard, and who does is not known there either.
    #[error("the receiver's shard is on another node than the sender believed")]
    Misrouted,
    /// It works inside one node only.
    #[error("it works inside one node only")]
    NotAcrossNodes,
    /// Another node refused it, for a reason that this version does not know.
    #[error("another node refused it for a reason that this version does not know")]
    Elsewhere,
}

impl Rejection {
    /// Every reason, in the order of their counters.
    pub const ALL: [Rejection; 28] = [
        Rejection::MailboxFull,
        Rejection::Evicted,
        Rejection::CoreBudget,
        Rejection::OutboxFull,
        Rejection::IngressFull,
        Rejection::TooManyAsks,
        Rejection::TooManyTimers,
        Rejection::TooManyWatches,
        Rejection::NoSuchActor,
        Rejection::OldIncarnation,
        Rejection::Stopped,
        Rejection::StartFailed,
        Rejection::Moving,
        Rejection::ShuttingDown,
        Rejection::CoreDied,
        Rejection::LateReply,
        Rejection::Injected,
        Rejection::LinkFull,
        Rejection::LinkLost,
        Rejection::Unallocated,
        Rejection::Fenced,
        Rejection::NoControlQuorum,
        Rejection::TooLarge,
        Rejection::NotArchived,
        Rejection::Unreadable,
        Rejection::Misrouted,
        Rejection::NotAcrossNodes,
        Rejection::Elsewhere,
    ];
}

/// Why nobody can say whether an ask took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Uncertainty {
    /// No reply came in time.
    #[error("no reply came in time")]
    Timeout,
    /// The reply address was dropped without an answer: by the handler that had it, or with a message to which a handler
    /// had passed it on and which was refused or dropped.
    #[error("the reply address was dropped without an answer")]
    DroppedUnanswered,
    /// The handler that had the reply address failed, or the actor that kept it.
    #[error("the handler failed")]
    HandlerFailed,
    /// The runtime went away while the ask was open.
    #[error("the runtime went away while the ask was open")]
    RuntimeGone,
    /// The connection to the receiver's node was lost, or the node itself, after the message had left.
    #[error("the connection to the receiver's node was lost")]
    LinkLost,
    /// A reply came that could not be read: its type is unknown here or of another version, or its bytes are wrong.
    #[error("the reply could not be read")]
    Unreadable,
    /// There was a reply, and it could not be sent: it does not fit, or could not be archived.
    #[error("the reply could not be sent")]
    ReplyNotSent,
    /// The answer comes from a node that the shard was taken from.
    #[error("the answer comes from a node that the shard was taken from")]
    Fenced,
    /// Another node says so, for a reason that this version does not know.
    #[error("another node does not know, for a reason that this version does not know")]
    Elsewhere,
}

impl Uncertainty {
    /// Every reason.
    pub const ALL: [Uncertainty; 9] = [
        Uncertainty::Timeout,
        Uncertainty::DroppedUnanswered,
        Uncertainty::HandlerFailed,
        Uncertainty::RuntimeGone,
        Uncertainty::LinkLost,
        Uncertainty::Unreadable,
        Uncertainty::ReplyNotSent,
        Uncertainty::Fenced,
        Uncertainty::Elsewhere,
    ];
}

/// The outcome of an ask, or of an acknowledged send, that brought no reply.
///
/// Only [`Rejected`](AskError::Rejected) may be retried blindly: the message certainly never reached a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AskError {
    /// Certainly never delivered to a handler.
    #[error("rejected: {0}")]
    Rejected(#[from] Rejection),
    /// It may or may not have taken effect.
    #[error("unknown whether it took effect: {0}")]
    Unknown(#[from] Uncertainty),
}

/// A message that was refused at the call, handed back with the reason.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Refused<M> {
    /// The message, untouched.
    pub message: M,
    /// Why it was refused.
    pub why: Rejection,
}

impl<M> fmt::Debug for Refused<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused")
            .field("why", &self.why)
            .finish_non_exhaustive()
    }
}

impl<M> fmt::Display for Refused<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message was refused: {}", self.why)
    }
}

impl<M> std::error::Error for Refused<M> {}

/// Why an actor could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The factory panicked; nothing was started.
    #[error("the factory of {actor} panicked: {panic}")]
    FactoryPanicked {
        /// The actor's type.
        actor: &'static str,
        /// What the panic said.
        panic: String,
    },
    /// The name was refused; nothing was started.
    #[error("`{name}` cannot be the name of an actor: {why}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An actor that lives has that name; nothing was started.
    #[error("there is an actor at {path} already; choose another name, or look that one up")]
    NameTaken {
        /// Where it is.
        path: String,
    },
    /// The options say that it is found from other nodes as an actor of other messages than it takes; nothing was started.
    #[error(
        "the actor takes messages of the type {takes}, and is to be clustered as one of `{clustered}`"
    )]
    OtherMessages {
        /// What it takes.
        takes: &'static str,
        /// The name of the wire message that the options say.
        clustered: &'static str,
    },
    /// There is no such core.
    #[error("there is no {0}; the runtime has the cores core-0 to core-{last}", last = .1 - 1)]
    NoSuchCore(crate::base::ids::CoreId, usize),
    /// Nothing was started: there is no room for another future on this core, which would wait for the address.
    #[error("nothing was started: as many tasks as allowed are pending already on this core")]
    TooManyTasks,
    /// The request did not reach the core.
    #[error("the request did not reach the core: {0}")]
    Rejected(#[from] Rejection),
}

/// Why a future, or a call on another thread, brought no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// It panicked.
    #[error("it panicked: {0}")]
    Panicked(String),
    /// It never ran: as many tasks as allowed are pending already.
    #[error("it never ran: as many tasks as allowed are pending already")]
    TooManyTasks,
    /// It never ran, and nothing has changed: the queue of the pool for blocking calls is full, or the executor or the
    /// runtime takes nothing any more. Try again later; if it happens often, raise `blocking_threads` or
    /// `blocking_queue`, or have less done at once.
    #[error(
        "it never ran: the pool or executor is full or has ended; try again later, or raise blocking_threads or blocking_queue"
    )]
    Refused,
    /// It began and was given up: whoever ran it dropped it, or it exceeded its deadline. What it has done so far has
    /// been done.
    #[error("it was given up after it had begun: whoever ran it dropped it")]
    Cancelled,
}
