//! What the control plane of a node tells, for the engine and the connections of its data cores, and what they ask of it.

use super::data_news::DataNews;
use crate::actor::remote::Lease;
use crate::base::ids::{NodeId, ShardKey};
use crate::base::time::Time;
use crate::cluster::node::output::LeaseState;
use crate::cluster::plane::{ControlPlane, Event};
use crate::consensus::peer::NodeLife;
use crate::engine::core::Engine;
use crate::engine::data_peers::DataPeers;
use crate::io::runtime_clock::RuntimeClock;
use crate::wire::address::Life;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the cluster has told the cores of this node, and what they have asked of it.
pub(super) struct Governing {
    node: NodeId,
    news: Arc<DataNews>,
    clock: RuntimeClock,
    /// The cores have been told of a life that goes on.
    lives: bool,
    /// The version of the members that they know: nodes that join are no event.
    members: u64,
    /// Shards without an owner that the control plane has been told of in this life.
    reported: BTreeSet<ShardKey>,
}

impl Governing {
    /// Of cores that know of no life yet.
    pub(super) fn new(node: NodeId, news: Arc<DataNews>, clock: RuntimeClock) -> Governing {
        Governing {
            node,
            news,
            clock,
            lives: false,
            members: 0,
            reported: BTreeSet::new(),
        }
    }

    /// Tells the cores what has happened, in order, and the control plane, if this life goes on, which shards are wanted
    /// and which moves have ended. Returns whether the engine or the plane has something to do now.
    pub(super) fn inform<'a>(
        &mut self,
        engine: &mut Engine,
        plane: Option<&mut ControlPlane>,
        events: impl Iterator<Item = &'a Event>,
        now: Time,
    ) -> bool {
        let Some(plane) = plane else {
            // Of a life that is over nothing matters any more.
            return self.end(engine);
        };
        let (mut owners_changed, mut any) = (false, false);
        let mut partings = Vec::new();
        for event in events {
            match event {
                Event::Joined { incarnation, .. } => {
                    self.end(engine);
                    self.lives = true;
                    engine.begin_life(Life::new(self.node, *incarnation));
                    engine.set_lease(self.lease(plane.node().lease()));
                    owners_changed = true;
                }
                Event::Identity(_) | Event::Member(_) | Event::Types(_) | Event::Shards(_) => {
                    owners_changed = true;
                }
                Event::Parting(life) => partings.push(*life),
                Event::Lease(lease) if self.lives => {
                    engine.set_lease(self.lease(*lease));
                    any = true;
                }
                _ => {}
            }
        }
        if !self.lives {
            return false;
        }
        let members = plane.node().members().version();
        owners_changed |= std::mem::replace(&mut self.members, members) != members;
        if owners_changed {
            self.tell_owners(engine, plane);
        }
        for life in partings {
            engine.part_with(Life::new(life.node, life.incarnation));
            any = true;
        }
        any |= report_moves(engine, plane, now);
        for life in engine.take_parted() {
            let life = NodeLife {
                node: life.node,
                incarnation: life.incarnation,
            };
            plane.parted(life, now);
            any = true;
        }
        any | owners_changed | self.report_wanted(engine, plane, now)
    }

    /// The life is over, if one goes on. Whether one did.
    fn end(&mut self, engine: &mut Engine) -> bool {
        if !std::mem::take(&mut self.lives) {
            return false;
        }
        engine.end_life();
        self.news.tell_nobody();
        self.reported.clear();
        true
    }

    fn lease(&self, lease: LeaseState) -> Lease {
        match lease {
            LeaseState::Valid { until } => Lease::Until(self.clock.at_boot_time(until)),
            LeaseState::Lapsed => Lease::Lapsed,
        }
    }

    fn tell_owners(&mut self, engine: &mut Engine, plane: &ControlPlane) {
        let state = plane.node().state();
        // Before the engine tells them: what the dead have sent is not to be taken once a core knows that they are dead.
        let peers = DataPeers::of(state.members());
        self.news.tell(plane.identity(), peers);
        let news = state.news();
        if let Err(error) = engine.set_owners(news) {
            tracing::error!(%error, "what the cluster says of its shards does not fit this node, whose messages go where they went: this is a bug of corecast, or the cluster was founded anew while this process ran");
        }
    }

    /// Tells the control plane which shards somebody here has something for, and no node owns.
    fn report_wanted(&mut self, engine: &Engine, plane: &mut ControlPlane, now: Time) -> bool {
        let wanted = engine.wanted();
        self.reported.retain(|shard| wanted.contains(shard));
        let mut any = false;
        for shard in wanted {
            // What finds no room is wanted again.
            if !self.reported.contains(&shard) && plane.want_shard(shard, now).is_ok() {
                self.reported.insert(shard);
                any = true;
            }
        }
        any
    }
}

/// Tells the control plane how moves of shards have ended for this node. Whether there were any.
fn report_moves(engine: &mut Engine, plane: &mut ControlPlane, now: Time) -> bool {
    let ended = engine.take_ended_moves();
    for report in &ended {
        let (shard, prepared) = (report.shard, report.prepared);
        match report.outcome {
            Ok(()) => plane.shard_arrived(shard, prepared, now),
            Err(_) => plane.shard_refused(shard, prepared, now),
        }
    }
    !ended.is_empty()
}
