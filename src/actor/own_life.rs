//! In which life of its node a core is, and what that has to do with addresses of its actors.
//!
//! The log of a cluster gives a node its life when it lets it in, and another one when the node comes back after it was
//! declared down; its actors and their addresses outlive that. So a process calls itself by a life of its own
//! ([`Home`]), which no log gives, and the others know it by the one that it has now. An address of an actor of this
//! process becomes one in the present life when a core archives it, and its own again when a core reads it. One that
//! another node has kept from a former life leads nowhere.
//!
//! A simulated process has one life, but calls itself by another as real ones do.

use super::local::Local;
use super::reference::{AnyActorRef, Home};
use super::refusal::Rejection;
use crate::base::ids::NodeId;
use crate::wire::address::Life;
use std::cell::Cell;

/// The first of the lives by which processes call themselves: no log comes as far.
const OF_PROCESSES: u32 = 1 << 31;

/// The life by which a process calls itself that is a node of a cluster; `number` tells it from others of that node.
pub(crate) fn life_of_process(node: NodeId, number: u32) -> Life {
    Life::new(node, crate::base::ids::Incarnation(number | OF_PROCESSES))
}

/// What a process calls itself, and how the others know it.
#[derive(Clone, Copy)]
struct Names {
    own: Home,
    given: Home,
}

thread_local! {
    /// Those of the runtime whose core this thread is, if its node has been given a life.
    static NAMES: Cell<Option<Names>> = const { Cell::new(None) };
}

/// What stands in archives for a home.
pub(super) fn archived(home: Home) -> Home {
    match NAMES.get() {
        Some(names) if names.own == home => names.given,
        _ => home,
    }
}

/// The home that stands in an archive.
pub(super) fn read(home: Home) -> Home {
    match NAMES.get() {
        Some(names) if names.given == home => names.own,
        _ => home,
    }
}

/// While it lives, this thread runs a core of a runtime whose node has been given a life: the simulator's cores, which share
/// one thread.
pub(crate) struct OnCore(Option<Names>);

impl Drop for OnCore {
    fn drop(&mut self) {
        NAMES.set(self.0);
    }
}

impl Local {
    /// This thread runs this core for a while.
    pub(crate) fn enter(&self) -> OnCore {
        let names = self.remote.as_ref().map(|remote| Names {
            own: self.home,
            given: Home::new(remote.life.node, remote.life.incarnation),
        });
        OnCore(NAMES.replace(names))
    }

    /// The cluster has given this node a life.
    pub(crate) fn begin_life(&mut self, life: Life) {
        let Some(remote) = &mut self.remote else {
            return;
        };
        remote.life = life;
        remote.last_moved = None;
        remote.logged.clear();
        NAMES.set(Some(Names {
            own: self.home,
            given: Home::new(life.node, life.incarnation),
        }));
    }

    /// This node has heard of members, or that its life is over: the others have declared it down, or it has left. Then what it has
    /// to pass on is lost: whoever sent that waits for it no longer, and its next life would bring it behind what was sent later.
    pub(crate) fn live(&mut self, lives: bool) {
        if let Some(remote) = &mut self.remote {
            remote.is_over = !lives;
        }
        for number in 0..self.region_states.len() {
            if !lives {
                let reject = self.region_states[number].ops.reject_frames;
                reject(self, number as u16, Rejection::Fenced);
            }
        }
    }

    /// By which life other nodes know this one; it stands in frames.
    pub(super) fn wire_life(&self) -> Life {
        let remote = self.remote.as_ref();
        remote.map_or_else(|| self.own_life(), |remote| remote.life)
    }

    /// Whether the life of this node is over, and the next has not begun.
    pub(super) fn is_over(&self) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.is_over)
    }

    /// Whether this node is a member of the cluster in its present life, as far as it knows.
    pub(super) fn is_member(&self) -> bool {
        let Life { node, incarnation } = self.wire_life();
        let members = self.topology.members();
        members.is_some_and(|members| members.get(&node) == Some(&incarnation))
    }

    /// An address of this process as it calls itself, also one that was read where nobody knew that this is its node: by a
    /// thread outside of the cores. Others stay what they are.
    pub(super) fn at_home(&self, actor: AnyActorRef) -> AnyActorRef {
        match actor.home != self.home && self.is_given_home(actor.home) {
            true => AnyActorRef {
                home: self.home,
                ..actor
            },
            false => actor,
        }
    }

    /// Whether this is the home of this process as other nodes know it.
    pub(super) fn is_given_home(&self, home: Home) -> bool {
        let remote = self.remote.as_ref();
        remote.is_some_and(|it| Home::new(it.life.node, it.life.incarnation) == home)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Incarnation;

    #[test]
    fn addresses_of_this_process_are_archived_in_its_present_life() {
        let life = life_of_process(NodeId(3), 7);
        let own = Home::new(life.node, life.incarnation);
        let home = |incarnation| Home::new(NodeId(3), Incarnation(incarnation));
        assert_eq!((archived(own), read(home(1))), (own, home(1)));
        for incarnation in [1, 4] {
            NAMES.set(Some(Names {
                own,
                given: home(incarnation),
            }));
            assert_eq!(archived(own), home(incarnation));
            assert_eq!(read(home(incarnation)), own);
        }
        // Those of a former life, and of others, stay what they are.
        assert_eq!(read(home(1)), home(1));
        let other = Home::new(NodeId(4), Incarnation(4));
        assert_eq!((archived(other), read(other)), (other, other));
        NAMES.set(None);
    }
}
