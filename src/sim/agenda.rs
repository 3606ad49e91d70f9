//! When there is something to do on which node of a simulated cluster, and doing what is due next.
//!
//! A step concerns one node, so only that node is looked at again behind it; what calls from outside have changed is found
//! when the cluster begins to run.

use super::cluster::ClusterSimulation;
use super::governed::Governed;
use super::world::{Step, take_all_rings};
use crate::base::ids::NodeId;
use crate::base::time::Time;

/// What is done next.
#[derive(Clone, Copy)]
enum Next {
    Cores(NodeId),
    Control(NodeId),
    Port(NodeId),
    Network,
}

/// When the parts of a node have something to do, by the time of the network; at `u64::MAX` never.
#[derive(Clone, Copy)]
struct Due {
    cores: u64,
    control: u64,
    port: u64,
}

/// When all nodes have something to do.
#[derive(Default)]
pub(super) struct Agenda(Vec<(NodeId, Due)>);

impl Agenda {
    /// What is due first, and when. A node that stood still hears of the time from its control plane first.
    fn first(&self) -> Option<(u64, Next)> {
        let never = (u64::MAX, Next::Network);
        let (mut cores, mut control, mut port) = (never, never, never);
        for (node, due) in &self.0 {
            if due.cores < cores.0 {
                cores = (due.cores, Next::Cores(*node));
            }
            if due.control < control.0 {
                control = (due.control, Next::Control(*node));
            }
            if due.port < port.0 {
                port = (due.port, Next::Port(*node));
            }
        }
        let mut first = match control.0 <= cores.0 {
            true => control,
            false => cores,
        };
        if port.0 < first.0 {
            first = port;
        }
        (first.0 < u64::MAX).then_some(first)
    }

    fn set(&mut self, node: NodeId, due: Due) {
        match self.0.binary_search_by_key(&node, |it| it.0) {
            Ok(place) => self.0[place].1 = due,
            Err(place) => self.0.insert(place, (node, due)),
        }
    }
}

impl ClusterSimulation {
    /// Looks at all nodes again.
    pub(super) fn review_all(&mut self) {
        let nodes = (self.nodes.keys()).chain(self.governed.keys());
        let mut nodes: Vec<NodeId> = nodes.chain(self.given.keys()).copied().collect();
        nodes.sort_unstable();
        nodes.dedup();
        self.agenda.0.clear();
        for node in nodes {
            self.review(node);
            self.take_rings(node);
        }
        take_all_rings();
    }

    /// Looks at a node again.
    fn review(&mut self, node: NodeId) {
        let clock = self.clock_of(node);
        let governed = self.governed.get(&node);
        let resumes = governed.and_then(Governed::paused_until).unwrap_or(0);
        let control = governed.and_then(|governed| governed.due(self.now, clock));
        let cores = self.nodes.get_mut(&node).and_then(|sim| {
            let due = Time::from_nanos(sim.world.next_due()?);
            Some(clock.real(due).as_nanos().max(resumes))
        });
        let port = self.given.get(&node).and_then(|given| {
            let deadline = given.port.deadline()?;
            Some(clock.real(deadline).as_nanos())
        });
        let due = Due {
            cores: cores.unwrap_or(u64::MAX),
            control: control.unwrap_or(u64::MAX),
            port: port.unwrap_or(u64::MAX),
        };
        self.agenda.set(node, due);
    }

    /// Time has passed everywhere.
    pub(super) fn reach(&mut self, nanos: u64) {
        self.now = self.now.max(nanos);
        let now = self.now();
        for (node, sim) in &mut self.nodes {
            let clock = self.clocks.get(node).copied().unwrap_or_default();
            sim.pass_until(clock.local(now).as_nanos());
        }
    }

    /// Does the next thing, unless it is due after `limit`.
    pub(super) fn step(&mut self, limit: u64) -> Step {
        let mut next = self.agenda.first();
        if let Some(at) = self.network.next_arrival()
            && next.is_none_or(|(due, _)| at.as_nanos() <= due)
        {
            next = Some((at.as_nanos(), Next::Network));
        }
        let Some((at, what)) = next else {
            self.reach(self.now);
            return Step::Never;
        };
        if at > limit {
            self.reach(limit);
            return Step::Later;
        }
        self.now = self.now.max(at);
        let touched = match what {
            Next::Cores(node) => {
                let now = self.time_at(node).as_nanos();
                self.node(node).step_until(now);
                self.see_to(node);
                self.report_wanted(node);
                self.hear_moves(node);
                Some(node)
            }
            Next::Control(node) => {
                self.pass_at(node);
                self.turn_control(node);
                Some(node)
            }
            Next::Port(node) => {
                self.pass_at(node);
                self.turn_port(node);
                Some(node)
            }
            Next::Network => self.network.pop(self.now()).map(|arrival| {
                let node = arrival.at();
                self.pass_at(node);
                self.arrive(arrival);
                node
            }),
        };
        let own = touched.map_or(0, |node| self.take_rings(node));
        if take_all_rings() != own {
            // Cores of other nodes were woken, by handles.
            self.review_all();
        } else if let Some(node) = touched {
            self.review(node);
        }
        Step::Done
    }

    fn take_rings(&mut self, node: NodeId) -> u32 {
        let sim = self.nodes.get_mut(&node);
        sim.map_or(0, |sim| sim.world.take_rings())
    }

    /// Time has passed on a node.
    fn pass_at(&mut self, node: NodeId) {
        let now = self.time_at(node).as_nanos();
        if let Some(sim) = self.nodes.get_mut(&node) {
            sim.pass_until(now);
        }
    }
}
