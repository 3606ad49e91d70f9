//! The members of the cluster as the log says them: the same on every node that has applied as much of it.
//!
//! An incarnation is the count of all joins there have ever been. So a life that has ended can be told from one that this
//! node has not heard of yet ([`View::has_ended`]) without remembering the dead: an incarnation up to the last one that
//! was given out is either a member's current one, or over.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::ids::{Incarnation, NodeId};
use crate::membership::change::{Change, ChangeError, Join};
use crate::membership::event::{
    MemberDown, MemberEvent, MemberLeft, MemberUp, ReachableMember, UnreachableMember,
};

/// The most members, the dead that nobody has removed included.
pub const MAX_MEMBERS: usize = 4_096;
/// So many lives that were declared down are remembered, the latest, of each node the last.
pub const MAX_REMEMBERED_DOWN: usize = 2 * MAX_MEMBERS;
/// How many others observe a node: half of them before it on the ring of node ids, half behind.
pub const RING_NEIGHBOURS: usize = 8;

const MAX_ROLES: usize = 32;
const MAX_ROLE_BYTES: usize = 64;

/// Where a node is in one of its lives.
///
/// ```text
///   Join             Up            Leave              Left
/// ───────▶ Joining ─────▶ Up ──────────────▶ Leaving ──────▶ Removed
///             │ │         │                   ▲   │             ▲
///             │ └─────────│───────────────────┘   │             │
///             │    Leave  │                       │             │
///             └───────────┴───────▶ Down ◀────────┘             │
///                   Down             └──────────────────────────┘
///                                               Remove
/// ```
///
/// | change          | Joining   | Up       | Leaving | Down    |
/// |-----------------|-----------|----------|---------|---------|
/// | `Join` again    | refused   | refused  | refused | Joining, a new life |
/// | `Up`            | Up        | -        | refused | refused |
/// | `Leave`         | Leaving   | Leaving  | -       | refused |
/// | `Left`          | refused   | refused  | gone    | refused |
/// | `Down`          | Down      | Down     | Down    | -       |
/// | `Remove`        | refused   | refused  | refused | gone    |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    /// It has come in and prepares.
    Joining,
    /// It may be given work.
    Up,
    /// It gives its work away.
    Leaving,
    /// It is dead, and what it owned is being settled.
    Down,
    /// It is no member any more.
    Removed,
}

/// A node in its current life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id, which it keeps over its lives.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Where others reach it.
    pub address: SocketAddr,
    /// What it does.
    pub roles: BTreeSet<String>,
    /// How many data cores it has.
    pub data_cores: u16,
    /// Where it is in this life.
    pub state: MemberState,
    /// Who cannot reach it.
    pub unreachable_by: BTreeSet<NodeId>,
}

impl Member {
    /// Whether the cluster counts on it: it is joining, up or leaving.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state < MemberState::Down
    }

    /// Whether everybody who observes it reaches it.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.unreachable_by.is_empty()
    }
}

/// All members, as of one version.
///
/// ```
/// use corecast::base::ids::NodeId;
/// use corecast::membership::change::{Change, Join};
/// use corecast::membership::view::View;
///
/// let mut view = View::new(NodeId(1));
/// let join = |id: u32| Join {
///     node: NodeId(id),
///     address: format!("10.0.0.{id}:7000").parse().unwrap(),
///     roles: vec!["store".into()],
///     data_cores: 4,
/// };
/// let mut events = Vec::new();
/// for id in 1..=3 {
///     view.apply(&Change::Join(join(id)), &mut events).unwrap();
///     let incarnation = view.member(NodeId(id)).unwrap().incarnation;
///     view.apply(&Change::Up { node: NodeId(id), incarnation }, &mut events).unwrap();
/// }
/// assert!(view.is_ready(3));
/// assert_eq!(events.len(), 3);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    me: NodeId,
    version: u64,
    last_incarnation: Incarnation,
    members: BTreeMap<NodeId, Member>,
    down: Arc<BTreeMap<NodeId, Incarnation>>,
}

impl View {
    /// What node `me` knows before it has applied anything.
    #[must_use]
    pub fn new(me: NodeId) -> View {
        View {
            me,
            version: 0,
            last_incarnation: Incarnation(0),
            members: BTreeMap::new(),
            down: Arc::default(),
        }
    }

    /// What node `me` takes over from a snapshot: its version, the last incarnation that was given out, the members, and the
    /// last lives of nodes that were declared down.
    #[must_use]
    pub fn from_snapshot(
        me: NodeId,
        version: u64,
        last_incarnation: Incarnation,
        members: impl IntoIterator<Item = Member>,
        down: BTreeMap<NodeId, Incarnation>,
    ) -> View {
        let members = members.into_iter().map(|member| (member.node, member));
        View {
            me,
            version,
            last_incarnation,
            members: members.collect(),
            down: Arc::new(down),
        }
    }

    /// How many changes have had an effect.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The last incarnation that was given out.
    #[must_use]
    pub fn last_incarnation(&self) -> Incarnation {
        self.last_incarnation
    }

    /// This node, while it is a member.
    #[must_use]
    pub fn self_node(&self) -> Option<&Member> {
        self.member(self.me)
    }

    /// The id of this node.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// One member.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    /// All members, the dead that nobody has removed included, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The last life of each node that was declared down, whether the node is back or not: the latest
    /// [`MAX_REMEMBERED_DOWN`] of them.
    #[must_use]
    pub fn down(&self) -> &Arc<BTreeMap<NodeId, Incarnation>> {
        &self.down
    }

    /// The members that are joining, up or leaving.
    pub fn live(&self) -> impl Iterator<Item = &Member> {
        self.members().filter(|member| member.is_live())
    }

    /// The members that are up.
    pub fn up(&self) -> impl Iterator<Item = &Member> {
        self.members()
            .filter(|member| member.state == MemberState::Up)
    }

    /// The members that are up and have a role.
    pub fn up_with_role<'a>(&'a self, role: &'a str) -> impl Iterator<Item = &'a Member> {
        self.up().filter(move |member| member.roles.contains(role))
    }

    /// Whether at least `required_quorum` nodes are up and this one is: what a start waits for.
    #[must_use]
    pub fn is_ready(&self, required_quorum: usize) -> bool {
        let up = MemberState::Up;
        self.self_node().is_some_and(|me| me.state == up) && self.has_up(required_quorum)
    }

    /// Whether at least `n` nodes are up: what `wait_for(n)` waits for.
    #[must_use]
    pub fn has_up(&self, n: usize) -> bool {
        n == 0 || self.up().nth(n - 1).is_some()
    }

    /// Whether this life is over: it was given out, and nobody lives it.
    #[must_use]
    pub fn has_ended(&self, node: NodeId, incarnation: Incarnation) -> bool {
        let current = self.member(node).filter(|member| member.is_live());
        incarnation <= self.last_incarnation
            && current.is_none_or(|member| member.incarnation != incarnation)
    }

    /// The live nodes that observe a node and are observed by it: the four before and the four behind it on the ring of
    /// the live node ids, fewer if there are fewer.
    #[must_use]
    pub fn ring_neighbours(&self, node: NodeId) -> BTreeSet<NodeId> {
        let others = |member: &&Member| member.is_live() && member.node != node;
        let half = RING_NEIGHBOURS / 2;
        let behind = self.members.range(node..).chain(self.members.range(..node));
        let before = self.members.range(..node).rev();
        let before = before.chain(self.members.range(node..).rev());
        let behind = behind.map(|(_, member)| member).filter(others).take(half);
        let before = before.map(|(_, member)| member).filter(others).take(half);
        behind.chain(before).map(|member| member.node).collect()
    }

    /// Applies a committed change; what it means for others is added to `events`. A change that only repeats what is
    /// known changes nothing, not even the version.
    ///
    /// # Errors
    ///
    /// [`ChangeError`], and the view is as it was. A log has such changes in it, since two nodes may propose at once:
    /// every node refuses them alike.
    pub fn apply(
        &mut self,
        change: &Change,
        events: &mut Vec<MemberEvent>,
    ) -> Result<(), ChangeError> {
        let changed = match *change {
            Change::Join(ref join) => self.join(join)?,
            Change::Up { node, incarnation } => {
                self.advance(node, incarnation, MemberState::Up, events)?
            }
            Change::Leave { node, incarnation } => {
                self.advance(node, incarnation, MemberState::Leaving, events)?
            }
            Change::Down { node, incarnation } => {
                self.advance(node, incarnation, MemberState::Down, events)?
            }
            Change::Left { node, incarnation } => {
                let member = self.take(node, incarnation, MemberState::Leaving, events)?;
                events.push(MemberEvent::Left(MemberLeft { member }));
                true
            }
            Change::Remove { node, incarnation } => {
                self.take(node, incarnation, MemberState::Down, events)?;
                true
            }
            Change::Unreachable {
                node,
                incarnation,
                by,
            } => self.say(node, incarnation, by, false, events)?,
            Change::Reachable {
                node,
                incarnation,
                by,
            } => self.say(node, incarnation, by, true, events)?,
        };
        self.version += u64::from(changed);
        Ok(())
    }

    fn join(&mut self, join: &Join) -> Result<bool, ChangeError> {
        let &Join { node, address, .. } = join;
        let bad = |what| ChangeError::BadJoin { node, what };
        if node == NodeId(0) {
            return Err(bad(
                "node id is 0, which stands for a node alone; give it another",
            ));
        }
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(bad(
                "advertised address is none that others could reach; name host and port",
            ));
        }
        let fits = |role: &String| (1..=MAX_ROLE_BYTES).contains(&role.len());
        if join.roles.len() > MAX_ROLES || !join.roles.iter().all(fits) {
            return Err(bad("roles must be at most 32, each of 1 to 64 bytes"));
        }
        if let Some(holder) = self.member(node).filter(|holder| holder.is_live()) {
            return Err(if holder.address == address {
                ChangeError::PreviousLife {
                    node,
                    incarnation: holder.incarnation,
                    address,
                }
            } else {
                ChangeError::NodeIdTaken {
                    node,
                    holder: holder.address,
                    applicant: address,
                }
            });
        }
        if let Some(holder) = self.live().find(|member| member.address == address) {
            return Err(ChangeError::AddressTaken {
                address,
                holder: holder.node,
                applicant: node,
            });
        }
        let members = self.members.len();
        if members >= MAX_MEMBERS && !self.members.contains_key(&node) {
            return Err(ChangeError::Full { node, members });
        }
        let Some(incarnation) = self.last_incarnation.0.checked_add(1).map(Incarnation) else {
            return Err(bad("incarnation would be beyond 2^32; form a new cluster"));
        };
        self.last_incarnation = incarnation;
        let member = Member {
            node,
            incarnation,
            address,
            roles: join.roles.iter().cloned().collect(),
            data_cores: join.data_cores,
            state: MemberState::Joining,
            unreachable_by: BTreeSet::new(),
        };
        self.members.insert(node, member);
        Ok(true)
    }

    fn advance(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        wanted: MemberState,
        events: &mut Vec<MemberEvent>,
    ) -> Result<bool, ChangeError> {
        let member = self.current(node, incarnation)?;
        let state = member.state;
        if state == wanted {
            return Ok(false);
        }
        if state > wanted {
            return Err(ChangeError::WrongState {
                node,
                state,
                wanted,
            });
        }
        member.state = wanted;
        if wanted == MemberState::Down {
            member.unreachable_by.clear();
        }
        let member = member.clone();
        match wanted {
            MemberState::Up => events.push(MemberEvent::Up(MemberUp { member })),
            MemberState::Down => {
                events.push(MemberEvent::Down(MemberDown { member }));
                self.remember_down(node, incarnation);
                self.forget_words_of(node, events);
            }
            _ => {}
        }
        Ok(true)
    }

    fn remember_down(&mut self, node: NodeId, incarnation: Incarnation) {
        let down = Arc::make_mut(&mut self.down);
        down.insert(node, incarnation);
        if down.len() > MAX_REMEMBERED_DOWN
            && let Some((first, _)) = down.iter().min_by_key(|(_, incarnation)| **incarnation)
        {
            let first = *first;
            down.remove(&first);
        }
    }

    /// Takes a member out, if it is in the state that leads there.
    fn take(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        from: MemberState,
        events: &mut Vec<MemberEvent>,
    ) -> Result<Member, ChangeError> {
        let state = self.current(node, incarnation)?.state;
        if state != from {
            let wanted = MemberState::Removed;
            return Err(ChangeError::WrongState {
                node,
                state,
                wanted,
            });
        }
        let not_current = ChangeError::NotCurrent { node, incarnation };
        let mut member = self.members.remove(&node).ok_or(not_current)?;
        member.state = MemberState::Removed;
        self.forget_words_of(node, events);
        Ok(member)
    }

    fn say(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        by: NodeId,
        reaches: bool,
        events: &mut Vec<MemberEvent>,
    ) -> Result<bool, ChangeError> {
        // Words of those who are gone would stand for ever.
        if !self.member(by).is_some_and(Member::is_live) {
            return Ok(false);
        }
        let member = self.current(node, incarnation)?;
        if !member.is_live() || by == node {
            return Ok(false);
        }
        let was_reachable = member.is_reachable();
        let changed = if reaches {
            member.unreachable_by.remove(&by)
        } else {
            member.unreachable_by.insert(by)
        };
        if was_reachable != member.is_reachable() {
            let member = member.clone();
            events.push(if reaches {
                MemberEvent::Reachable(ReachableMember { member })
            } else {
                MemberEvent::Unreachable(UnreachableMember { member })
            });
        }
        Ok(changed)
    }

    /// A node that is gone reaches nobody, and cannot take that back.
    fn forget_words_of(&mut self, by: NodeId, events: &mut Vec<MemberEvent>) {
        for member in self.members.values_mut() {
            if member.unreachable_by.remove(&by) && member.is_reachable() {
                let member = member.clone();
                events.push(MemberEvent::Reachable(ReachableMember { member }));
            }
        }
    }

    fn current(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
    ) -> Result<&mut Member, ChangeError> {
        self.members
            .get_mut(&node)
            .filter(|member| member.incarnation == incarnation)
            .ok_or(ChangeError::NotCurrent { node, incarnation })
    }
}
