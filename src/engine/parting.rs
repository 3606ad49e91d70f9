//! Parting with a node that leaves the cluster and owns nothing any more: each core says so once it knows the owners as they
//! are, and nothing that it has sent by that node is on its way any more. The node that leaves has to have sent all that it
//! had for others, too.

use super::core::Engine;
use crate::actor::control::Control;
use crate::actor::local::Local;
use crate::base::ids::CoreId;
use crate::sharding::node_handoff::NodeHandoff;
use crate::wire::address::Life;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// After what time a core looks again whether it has parted, if nothing else has it turn.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Which cores have parted with whom, as the coordination core knows. One entry for each node that leaves.
#[derive(Default)]
pub(super) struct Partings(BTreeMap<Life, BTreeSet<CoreId>>);

impl Partings {
    /// A core has parted with a life.
    pub(super) fn parted(&mut self, core: CoreId, life: Life) {
        if let Some(cores) = self.0.get_mut(&life) {
            cores.insert(core);
        }
    }

    /// Takes out the lives with which all cores have parted that are not dead.
    fn take(&mut self, cores: &BTreeSet<CoreId>, dead: &BTreeSet<CoreId>) -> Vec<Life> {
        let is_done = |parted: &BTreeSet<CoreId>| {
            let mut cores = cores.iter();
            cores.all(|core| parted.contains(core) || dead.contains(core))
        };
        let done = self.0.iter().filter(|(_, parted)| is_done(parted));
        let done: Vec<Life> = done.map(|(life, _)| *life).collect();
        for life in &done {
            self.0.remove(life);
        }
        done
    }
}

impl Engine {
    /// Coordination core: every core is to part with a life that leaves, or, if it is that of this node, to have nothing
    /// under way by any other node. To be called behind the news of the owners of which that is true.
    pub(crate) fn part_with(&mut self, life: Life) {
        let Some(coordination) = &mut self.coordination else {
            return;
        };
        coordination.partings.0.insert(life, BTreeSet::new());
        let version = coordination.topology().version();
        self.tell_all(|| Control::Part { life, version });
    }

    /// Coordination core: the lives with which all cores have parted since the last call.
    pub(crate) fn take_parted(&mut self) -> Vec<Life> {
        let cores = self.local.borrow().port.cores() as u16;
        match &mut self.coordination {
            Some(coordination) if !coordination.partings.0.is_empty() => {
                let cores = (0..cores).map(CoreId).collect();
                coordination.partings.take(&cores, &coordination.dead)
            }
            _ => Vec::new(),
        }
    }

    /// Says with whom this core has parted meanwhile. Whether there was anybody.
    pub(super) fn see_to_partings(&mut self, local: &mut Local) -> bool {
        if self.parting.is_empty() {
            return false;
        }
        let mut done = Vec::new();
        for (&life, parting) in &mut self.parting {
            parting.go_on(local, &self.node_handoff, life);
            if parting.is_done(local) {
                done.push(life);
            }
        }
        for life in &done {
            self.parting.remove(life);
            let (core, life) = (local.core, *life);
            self.send_control(local, self.coordinator_core, Control::Parted { core, life });
        }
        !done.is_empty()
    }
}

/// How far a core is in parting with a life.
pub(super) enum Parting {
    /// It has to know this version of the topology, and to have nothing on its way by that life.
    Flushing(u64),
    /// It is the life of this node: what has been written for others, by their lives, has to leave.
    Leaving(Vec<(Life, u64)>),
}

impl Parting {
    fn go_on(&mut self, local: &Local, flushes: &NodeHandoff, with: Life) {
        if let Parting::Flushing(version) = self
            && *version <= local.topology.version()
            && !flushes.flushes_by(with.node, with.incarnation)
        {
            let ours = local.remote.as_ref().filter(|remote| remote.life == with);
            if ours.is_some_and(|remote| !remote.backlog.is_empty()) {
                return;
            }
            let links = ours.into_iter().flat_map(|remote| remote.links.values());
            *self = Parting::Leaving(links.map(|link| (link.life, link.written())).collect());
        }
    }

    fn is_done(&self, local: &Local) -> bool {
        let Parting::Leaving(written) = self else {
            return false;
        };
        let links = local.remote.as_ref().map(|remote| &remote.links);
        written.iter().all(|(life, written)| {
            let link = links.and_then(|links| links.get(&life.node));
            link.is_none_or(|link| link.life != *life || link.has_gone(*written))
        })
    }
}
