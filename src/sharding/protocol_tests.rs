//! Tests of the whole protocol of a move: coordinator and cores over lanes of any slowness, under load.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rand::RngExt;

use super::coordinator::{Coordinator, Input, Output};
use super::coordinator_tests::{Outcomes, SHARDS, coordinator, drain, key, request, start};
use super::handoff::{Handoff, Last, Step};
use super::topology::{MoveId, Route, Topology};
use crate::base::ids::{CoreId, Epoch, ShardKey};
use crate::base::rng::{Rng, seeded};
use crate::base::time::Time;

/// What travels between two cores.
enum Item {
    Message {
        shard: ShardKey,
        from: CoreId,
        seq: u64,
    },
    Last(Last),
    Shipment {
        id: MoveId,
        epoch: Epoch,
        mailbox: Mailbox,
    },
}

type Mailbox = VecDeque<(CoreId, u64)>;

/// The part of an engine that a hand-off needs.
struct Core {
    handoff: Handoff,
    running: BTreeMap<ShardKey, Mailbox>,
    held: BTreeMap<ShardKey, VecDeque<u64>>,
    sent: BTreeMap<ShardKey, u64>,
    topologies: VecDeque<Arc<Topology>>,
    reports: VecDeque<Input>,
}

/// Cores that send to each other over ordered lanes, each of which is as slow as the seed wants.
struct Network {
    coordinator: Coordinator,
    cores: Vec<Core>,
    lanes: BTreeMap<(CoreId, CoreId), VecDeque<Item>>,
    handled: BTreeMap<(ShardKey, CoreId), u64>,
    open: BTreeSet<u64>,
    now: Time,
    outcomes: Outcomes,
}

impl Network {
    /// `data_cores` that run shards, and a coordination core that only sends.
    fn new(data_cores: u16) -> Network {
        let (_, topology) = start(data_cores);
        let cores = (0..=data_cores).map(CoreId).map(|me| Core {
            handoff: Handoff::new(
                me,
                (0..=data_cores).map(CoreId),
                Arc::clone(&topology),
                Duration::from_millis(300),
            ),
            running: topology
                .iter()
                .filter(|(_, placement)| placement.owner == me)
                .map(|(shard, _)| (shard, VecDeque::new()))
                .collect(),
            held: BTreeMap::new(),
            sent: BTreeMap::new(),
            topologies: VecDeque::new(),
            reports: VecDeque::new(),
        });
        Network {
            coordinator: coordinator(data_cores),
            cores: cores.collect(),
            lanes: BTreeMap::new(),
            handled: BTreeMap::new(),
            open: BTreeSet::new(),
            now: Time::ZERO,
            outcomes: Outcomes::default(),
        }
    }

    fn step(&mut self, rng: &mut Rng) {
        self.now = self.now + Duration::from_millis(rng.random_range(0..4));
        let core = CoreId(rng.random_range(0..self.cores.len() as u16));
        let shard = key(rng.random_range(0..SHARDS));
        match rng.random_range(0..16) {
            0..=3 => self.send_new(core, shard),
            4..=8 => self.deliver(rng),
            9 => self.adopt(core),
            10 => self.work(core, shard),
            11..=12 => self.poll(core, |shard| shard.shard.0 == 5 || rng.random_ratio(1, 4)),
            13..=14 => self.report(core),
            _ if rng.random_ratio(1, 8) => {
                self.ask(shard, rng.random_range(0..self.cores.len() as u16 - 1))
            }
            _ => {}
        }
        let running: usize = self.cores.iter().map(|core| core.running.len()).sum();
        let shards: BTreeSet<_> = self
            .cores
            .iter()
            .flat_map(|core| core.running.keys())
            .collect();
        assert_eq!(running, shards.len(), "a shard runs on two cores");
    }

    /// Everything that is under way arrives.
    fn settle(&mut self, rng: &mut Rng) {
        for _ in 0..100 {
            self.now = self.now + Duration::from_millis(100);
            while self.lanes.values().any(|lane| !lane.is_empty()) {
                self.deliver(rng);
            }
            for core in 0..self.cores.len() {
                let id = CoreId(core as u16);
                self.poll(id, |_| false);
                while !self.cores[core].reports.is_empty() {
                    self.report(id);
                }
                while !self.cores[core].topologies.is_empty() {
                    self.adopt(id);
                }
            }
            self.tell_coordinator(Input::Tick);
        }
        for core in 0..self.cores.len() {
            for shard in self.cores[core].running.keys().copied().collect::<Vec<_>>() {
                while !self.cores[core].running[&shard].is_empty() {
                    self.work(CoreId(core as u16), shard);
                }
            }
        }
    }

    fn check_settled(&self) {
        assert_eq!((self.open.len(), self.coordinator.moving()), (0, 0));
        for (shard, placement) in self.coordinator.topology().iter() {
            assert!(
                self.cores[placement.owner.index()]
                    .running
                    .contains_key(&shard)
            );
        }
        for (core, id) in self.cores.iter().zip(0..) {
            assert_eq!(core.handoff.topology(), self.coordinator.topology());
            assert_eq!(
                (core.handoff.held().count(), core.handoff.is_leaving()),
                (0, false)
            );
            assert!(core.held.is_empty());
            for (shard, sent) in &core.sent {
                let handled = self.handled.get(&(*shard, CoreId(id)));
                assert_eq!(handled, Some(sent), "{shard} from core {id}");
            }
        }
    }

    fn ask(&mut self, shard: ShardKey, to: u16) {
        let token = self.open.last().map_or(0, |last| last + 1);
        self.open.insert(token);
        self.tell_coordinator(request(shard.shard.0, to, token));
    }

    fn tell_coordinator(&mut self, input: Input) {
        self.coordinator.handle(input, self.now);
        for output in drain(&mut self.coordinator) {
            match output {
                Output::Publish(topology) => {
                    for core in &mut self.cores {
                        core.topologies.push_back(Arc::clone(&topology));
                    }
                }
                Output::Survive { id, .. } => unreachable!("no core dies, but {id:?} has lost one"),
                Output::Finished(finished) => {
                    assert!(self.open.remove(&finished.to.unwrap()));
                    self.outcomes.count(&finished.result);
                }
            }
        }
    }

    fn send_new(&mut self, from: CoreId, shard: ShardKey) {
        let core = &mut self.cores[from.index()];
        let seq = core.sent.entry(shard).or_insert(0);
        *seq += 1;
        let seq = *seq;
        match core.handoff.topology().route(shard).unwrap() {
            Route::Hold => core.held.entry(shard).or_default().push_back(seq),
            Route::To(to) => self.send(from, to, Item::Message { shard, from, seq }),
            Route::Away(_) | Route::Unallocated => unreachable!("there is one node"),
        }
    }

    fn send(&mut self, from: CoreId, to: CoreId, item: Item) {
        if from == to {
            self.receive(to, item);
        } else {
            self.lanes.entry((from, to)).or_default().push_back(item);
        }
    }

    fn deliver(&mut self, rng: &mut Rng) {
        let full: Vec<_> = self
            .lanes
            .iter()
            .filter(|(_, lane)| !lane.is_empty())
            .map(|(ends, _)| *ends)
            .collect();
        if full.is_empty() {
            return;
        }
        let ends = full[rng.random_range(0..full.len())];
        let item = self
            .lanes
            .get_mut(&ends)
            .and_then(VecDeque::pop_front)
            .unwrap();
        self.receive(ends.1, item);
    }

    fn receive(&mut self, me: CoreId, item: Item) {
        let core = &mut self.cores[me.index()];
        match item {
            Item::Message { shard, from, seq } => {
                let mailbox = core.running.get_mut(&shard);
                mailbox
                    .expect("the shard runs where its messages arrive")
                    .push_back((from, seq));
            }
            Item::Last(last) => core.handoff.handle_last(last),
            Item::Shipment { id, epoch, mailbox } => {
                core.running.insert(id.shard, mailbox);
                core.reports.push_back(Input::Installed { id, epoch });
            }
        }
    }

    fn work(&mut self, me: CoreId, shard: ShardKey) {
        let mailbox = self.cores[me.index()].running.get_mut(&shard);
        if let Some((from, seq)) = mailbox.and_then(VecDeque::pop_front) {
            let handled = self.handled.entry((shard, from)).or_insert(0);
            *handled += 1;
            assert_eq!(*handled, seq, "{shard} from {from}: lost or out of order");
            self.outcomes.delivered += 1;
        }
    }

    fn report(&mut self, from: CoreId) {
        if let Some(report) = self.cores[from.index()].reports.pop_front() {
            self.tell_coordinator(report);
        }
    }

    fn adopt(&mut self, me: CoreId) {
        let core = &mut self.cores[me.index()];
        if let Some(topology) = core.topologies.pop_front() {
            let steps = core.handoff.adopt(topology, self.now);
            self.execute(me, steps);
        }
    }

    fn poll(&mut self, me: CoreId, is_suspended: impl FnMut(ShardKey) -> bool) {
        let steps = self.cores[me.index()].handoff.poll(self.now, is_suspended);
        self.execute(me, steps);
    }

    fn execute(&mut self, me: CoreId, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Hold { owner, .. } if owner == me => {}
                Step::Hold { id, owner } => self.send(me, owner, Item::Last(Last { id, from: me })),
                Step::Release { shard, to } => {
                    for seq in self.cores[me.index()]
                        .held
                        .remove(&shard)
                        .unwrap_or_default()
                    {
                        self.send(
                            me,
                            to,
                            Item::Message {
                                shard,
                                from: me,
                                seq,
                            },
                        );
                    }
                }
                Step::Pause { .. } => {}
                Step::Ship { id, to, epoch } => {
                    let mailbox = self.cores[me.index()].running.remove(&id.shard);
                    let mailbox = mailbox.expect("the source runs the shard until it ships it");
                    self.send(me, to, Item::Shipment { id, epoch, mailbox });
                }
                Step::Refuse { id, why } => {
                    self.cores[me.index()]
                        .reports
                        .push_back(Input::Refused { id, why });
                }
            }
        }
    }
}

/// A run of the whole protocol: asserts that no message is lost or reordered and no shard runs twice.
fn moves_under_load(seed: u64, data_cores: u16) -> Outcomes {
    let rng = &mut seeded(seed, 2);
    let mut network = Network::new(data_cores);
    for _ in 0..4000 {
        network.step(rng);
    }
    network.settle(rng);
    network.check_settled();
    network.outcomes
}

#[test]
fn runs_under_load_do_something() {
    let outcomes = moves_under_load(1, 3);
    assert!(
        outcomes.moved > 5 && outcomes.refused > 1 && outcomes.delivered > 900,
        "{outcomes:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn moves_lose_and_reorder_nothing(seed: u64, data_cores in 2u16..6) {
        moves_under_load(seed, data_cores);
    }
}
