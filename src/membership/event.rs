//! What members of the cluster do, for those who want to know.

use crate::membership::view::Member;

/// A node may be given work from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberUp {
    /// The node, as it is now.
    pub member: Member,
}

/// A node has left in good order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberLeft {
    /// The node, as it was.
    pub member: Member,
}

/// A node is dead, and this life of it never returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDown {
    /// The node, as it is now.
    pub member: Member,
}

/// Somebody cannot reach a node. It may come back, or be called down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreachableMember {
    /// The node, as it is now.
    pub member: Member,
}

/// Everybody who could not reach a node can again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReachableMember {
    /// The node, as it is now.
    pub member: Member,
}

/// Any of them, in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberEvent {
    /// See [`MemberUp`].
    Up(MemberUp),
    /// See [`MemberLeft`].
    Left(MemberLeft),
    /// See [`MemberDown`].
    Down(MemberDown),
    /// See [`UnreachableMember`].
    Unreachable(UnreachableMember),
    /// See [`ReachableMember`].
    Reachable(ReachableMember),
}
