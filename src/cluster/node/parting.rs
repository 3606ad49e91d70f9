//! How a node leaves so that nothing is lost or overtaken that was on its way by it.
//!
//! A node that leaves and owns nothing any more still passes on what others have sent to it before they heard of the new
//! owners. So it stays a member until every live member has said that it has parted with it: that each of its cores knows
//! the new owners, and that whatever the core had sent by the node that leaves has come to where it belongs. Then the node
//! that leaves says itself that it has left. Whoever dies meanwhile is not waited for, since it is a member no more; a node
//! that stands still is. How long to wait is for the driver of the node that leaves to say.

use std::collections::{BTreeMap, BTreeSet};

use super::machine::ClusterNode;
use super::output::Output;
use crate::base::ids::{Incarnation, NodeId};
use crate::base::time::Time;
use crate::cluster::message::ControlMessage;
use crate::consensus::peer::NodeLife;
use crate::membership::view::MemberState;

/// Who parts with whom. As many entries as there are members that leave, or live members.
#[derive(Default)]
pub(super) struct Partings {
    /// The lives that leave and own nothing, and whether the cores of this node have parted with them.
    from_here: BTreeMap<NodeLife, bool>,
    /// Who has parted with this node.
    with_me: BTreeSet<NodeLife>,
    /// When those that leave were told last.
    told: Option<Time>,
}

impl ClusterNode {
    /// All data cores of this node have parted with a life, as [`Output::Parting`] has asked for.
    pub fn parted(&mut self, life: NodeLife, now: Time) {
        if let Some(parted) = self.partings.from_here.get_mut(&life) {
            *parted = true;
            self.partings.told = None;
        }
        self.settle(now);
    }

    /// Has the data cores part with those that leave and have given everything away.
    pub(super) fn follow_partings(&mut self) {
        if self.life.is_none() {
            return;
        }
        let ownership = self.state.ownership();
        let leaves = self.state.members().live().filter(|member| {
            member.state == MemberState::Leaving
                && ownership.concerned_with(member.node).next().is_none()
        });
        let leaves: BTreeSet<NodeLife> = leaves
            .map(|member| NodeLife {
                node: member.node,
                incarnation: member.incarnation,
            })
            .collect();
        let partings = &mut self.partings;
        partings.from_here.retain(|life, _| leaves.contains(life));
        for life in leaves {
            if let std::collections::btree_map::Entry::Vacant(entry) =
                partings.from_here.entry(life)
            {
                entry.insert(false);
                self.outputs.push_back(Output::Parting(life));
            }
        }
        let state = &self.state;
        partings.with_me.retain(|life| state.has_life(*life));
    }

    /// Another node has parted with this one, if it means this life.
    pub(super) fn has_parted(&mut self, from: NodeId, by: Incarnation, with: NodeLife) {
        let life = NodeLife {
            node: from,
            incarnation: by,
        };
        if self.life_now() == Some(with) && self.state.has_life(life) {
            self.partings.with_me.insert(life);
        }
    }

    /// Whether every live member has parted with this node, and this node's own cores have nothing under way.
    pub(super) fn all_have_parted(&self) -> bool {
        let me = self.life_now();
        let is_done = me.and_then(|me| self.partings.from_here.get(&me)) == Some(&true);
        let lives = self.state.lives().into_iter();
        is_done
            && lives
                .filter(|life| Some(*life) != me)
                .all(|life| self.partings.with_me.contains(&life))
    }

    /// Tells those that leave that this node has parted with them, until they have left.
    pub(super) fn say_parted(&mut self, now: Time) {
        let Some(me) = self.life_now().filter(|_| now >= self.parting_deadline()) else {
            return;
        };
        self.partings.told = Some(now);
        let parted = self.partings.from_here.iter();
        let parted = parted.filter(|(life, parted)| **parted && **life != me);
        for with in parted.map(|(life, _)| *life).collect::<Vec<NodeLife>>() {
            let by = me.incarnation;
            self.send(with.node, ControlMessage::Parted { by, with });
        }
    }

    /// Those that leave are told at once.
    pub(super) fn partings_untold(&mut self) {
        self.partings.told = None;
    }

    /// When to tell them again.
    pub(super) fn parting_deadline(&self) -> Time {
        let me = self.life_now();
        let mut parted = self.partings.from_here.iter();
        if !parted.any(|(life, parted)| *parted && Some(*life) != me) {
            return Time::MAX;
        }
        let told = self.partings.told;
        told.map_or(Time::ZERO, |told| told + self.settings.ask_every)
    }
}
