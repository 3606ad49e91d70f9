//! What the log says about members, and why something cannot be said.

use core::net::SocketAddr;

use thiserror::Error;

use crate::base::ids::{Incarnation, NodeId};
use crate::membership::view::MemberState;

/// One command of the log about membership. Each is about one life of a node, and has no effect on any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node asks to come in. It gets the next incarnation.
    Join(Join),
    /// It has joined everything it has to, and may be given work.
    Up {
        /// The node.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// It wants to go: it gets no new work, and gives away what it has.
    Leave {
        /// The node.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// It has nothing left to do here, and is gone.
    Left {
        /// The node.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// It is dead, whatever it thinks itself: this life never returns.
    Down {
        /// The node.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// What it owned is settled; forget it.
    Remove {
        /// The node.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// An observer cannot reach it.
    Unreachable {
        /// The node.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
        /// The observer.
        by: NodeId,
    },
    /// An observer that could not reach it can again.
    Reachable {
        /// The node.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
        /// The observer.
        by: NodeId,
    },
}

/// Who asks to come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Its id, which it keeps over its lives.
    pub node: NodeId,
    /// Where others reach it.
    pub address: SocketAddr,
    /// What it does; at most 32, each of 1 to 64 bytes.
    pub roles: Vec<String>,
    /// How many data cores it has.
    pub data_cores: u16,
}

/// Why a change has no effect. The view is as it was, on every node alike.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// Another live node has the id.
    #[error(
        "{node} at {applicant} cannot join: the live {node} is at {holder}; give one of them another node id"
    )]
    NodeIdTaken {
        /// The id that both want.
        node: NodeId,
        /// Who has it.
        holder: SocketAddr,
        /// Who asked.
        applicant: SocketAddr,
    },
    /// The node has restarted before its previous life was ended. End that one first: its lease has to run out.
    #[error(
        "{node} at {address} cannot join before its previous {incarnation} is down; propose that and try again"
    )]
    PreviousLife {
        /// The node.
        node: NodeId,
        /// The life that has to end.
        incarnation: Incarnation,
        /// Where both are.
        address: SocketAddr,
    },
    /// Another live node has the address.
    #[error("{applicant} cannot join at {address}, which is the address of the live {holder}")]
    AddressTaken {
        /// The address.
        address: SocketAddr,
        /// Who has it.
        holder: NodeId,
        /// Who asked.
        applicant: NodeId,
    },
    /// The request itself makes no sense.
    #[error("{node} cannot join: its {what}")]
    BadJoin {
        /// Who asked.
        node: NodeId,
        /// What is wrong, and what it must be.
        what: &'static str,
    },
    /// The cluster is full.
    #[error("{node} cannot join: the cluster has {members} members, the most there may be")]
    Full {
        /// Who asked.
        node: NodeId,
        /// How many there are.
        members: usize,
    },
    /// The change is about a life that is not (or no longer) the node's.
    #[error("the change is about {node} in {incarnation}, which is not a member's current life")]
    NotCurrent {
        /// The node.
        node: NodeId,
        /// The life that the change is about.
        incarnation: Incarnation,
    },
    /// The life is in a state that does not lead there.
    #[error("{node} is {state:?}, from where it cannot become {wanted:?}")]
    WrongState {
        /// The node.
        node: NodeId,
        /// Its state.
        state: MemberState,
        /// What the change would make of it.
        wanted: MemberState,
    },
}
