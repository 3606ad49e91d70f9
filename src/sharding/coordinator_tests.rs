//! Tests of the coordinator alone, among them one against reports that come late, in any order and twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rand::RngExt;

use super::balancer::{CoreLoad, ShardLoad};
use super::coordinator::{Coordinator, Finished, Input, MoveRequest, Output};
use super::move_error::{MoveError, RefusedWhy};
use super::settings::{BalancerSettings, CoordinatorSettings};
use super::topology::{Allocation, MoveId, Topology};
use crate::base::ids::{CoreId, EntityTypeId, Epoch, ShardId, ShardKey};
use crate::base::rng::seeded;
use crate::base::time::Time;

pub(super) const SHARDS: u32 = 12;

pub(super) fn key(shard: u32) -> ShardKey {
    ShardKey {
        entity_type: EntityTypeId(0),
        shard: ShardId(shard),
    }
}

fn settings() -> CoordinatorSettings {
    CoordinatorSettings {
        max_moves: 3,
        max_waiting: 4,
        max_wait: Duration::from_millis(400),
        balancer: None,
    }
}

pub(super) fn start(data_cores: u16) -> (Vec<CoreId>, Arc<Topology>) {
    let cores: Vec<_> = (0..data_cores).map(CoreId).collect();
    let topology = Topology::allocate(&[SHARDS], &cores, Allocation::RoundRobin).unwrap();
    (cores, Arc::new(topology))
}

pub(super) fn coordinator(data_cores: u16) -> Coordinator {
    let (cores, topology) = start(data_cores);
    Coordinator::new(topology, &cores, settings())
}

pub(super) fn request(shard: u32, to: u16, token: u64) -> Input {
    Input::MoveRequested(MoveRequest {
        shard: key(shard),
        to: CoreId(to),
        token: Some(token),
    })
}

pub(super) fn drain(coordinator: &mut Coordinator) -> Vec<Output> {
    std::iter::from_fn(|| coordinator.poll_output()).collect()
}

/// The answers that an input brings, by token.
fn answers(
    coordinator: &mut Coordinator,
    input: Input,
    now: Time,
) -> Vec<(u64, Result<(), MoveError>)> {
    coordinator.handle(input, now);
    drain(coordinator)
        .into_iter()
        .filter_map(|output| match output {
            Output::Finished(Finished { result, to, .. }) => Some((to.unwrap(), result)),
            Output::Publish(_) | Output::Survive { .. } => None,
        })
        .collect()
}

#[test]
fn requests_that_cannot_be_served_say_why() {
    let shard = key(0);
    let mut it = coordinator(2);
    let other_type = ShardKey {
        entity_type: EntityTypeId(3),
        ..shard
    };
    let unknown_type = Input::MoveRequested(MoveRequest {
        shard: other_type,
        to: CoreId(0),
        token: Some(1),
    });
    for (input, result) in [
        (
            unknown_type,
            Err(MoveError::UnknownType {
                entity_type: EntityTypeId(3),
            }),
        ),
        (
            request(12, 0, 1),
            Err(MoveError::UnknownShard {
                shard: key(12),
                shards: 12,
            }),
        ),
        (
            request(0, 2, 1),
            Err(MoveError::UnknownCore {
                shard,
                core: CoreId(2),
            }),
        ),
        (request(0, 0, 1), Ok(())),
    ] {
        assert_eq!(answers(&mut it, input, Time::ZERO), [(1, result)]);
    }
    assert_eq!(it.topology().version(), 1, "nothing was published");
    // Three move, four wait, the eighth is refused.
    for shard in 0..7 {
        assert_eq!(
            answers(
                &mut it,
                request(shard, (shard as u16 + 1) % 2, 2),
                Time::ZERO
            ),
            []
        );
    }
    assert_eq!((it.moving(), it.waiting()), (3, 4));
    let busy = MoveError::TooManyMoves {
        shard: key(7),
        waiting: 4,
    };
    assert_eq!(
        answers(&mut it, request(7, 0, 3), Time::ZERO),
        [(3, Err(busy))]
    );
    for moving_or_waiting in [0, 6] {
        let twice = MoveError::AlreadyMoving {
            shard: key(moving_or_waiting),
            to: CoreId(1),
        };
        let asked = request(moving_or_waiting, 0, 4);
        assert_eq!(answers(&mut it, asked, Time::ZERO), [(4, Err(twice))]);
    }
    let late = it.next_deadline().unwrap();
    assert_eq!(late, Time::ZERO + settings().max_wait);
    let waited = answers(&mut it, Input::Tick, late);
    assert_eq!(waited.len(), 4);
    assert!(
        waited
            .iter()
            .all(|(_, result)| matches!(result, Err(MoveError::WaitedTooLong { .. })))
    );
    assert_eq!(it.next_deadline(), None);
}

#[test]
fn a_move_takes_two_versions_and_a_new_epoch() {
    let mut it = coordinator(2);
    it.handle(request(0, 1, 9), Time::ZERO);
    let id = MoveId {
        shard: key(0),
        version: 2,
    };
    assert_eq!(drain(&mut it), [Output::Publish(Arc::clone(it.topology()))]);
    assert_eq!(
        it.topology().placement(key(0)).unwrap().move_of(key(0)),
        Some(id)
    );
    let wrong = Input::Installed {
        id,
        epoch: Epoch(7),
    };
    assert_eq!(answers(&mut it, wrong, Time::ZERO), []);
    it.handle(
        Input::Installed {
            id,
            epoch: Epoch(2),
        },
        Time::ZERO,
    );
    let done = Finished {
        shard: key(0),
        result: Ok(()),
        to: Some(9),
    };
    assert_eq!(
        drain(&mut it),
        [
            Output::Publish(Arc::clone(it.topology())),
            Output::Finished(done)
        ]
    );
    let placement = it.topology().placement(key(0)).unwrap();
    assert_eq!(
        (placement.owner, placement.epoch, placement.moving_to),
        (CoreId(1), Epoch(2), None)
    );
    it.handle(
        Input::Installed {
            id,
            epoch: Epoch(2),
        },
        Time::ZERO,
    );
    assert_eq!(drain(&mut it), [], "a duplicate changes nothing");
    assert_eq!(it.stale_inputs(), 2);
}

#[test]
fn a_stopping_core_ends_requests_and_not_moves() {
    let mut it = coordinator(2);
    for shard in 0..4 {
        it.handle(
            request(shard, (shard as u16 + 1) % 2, u64::from(shard)),
            Time::ZERO,
        );
    }
    drain(&mut it);
    let core = CoreId(1);
    let stopping = |shard| {
        Err(MoveError::CoreStopping {
            shard: key(shard),
            core,
        })
    };
    assert_eq!(
        answers(&mut it, Input::CoreStopping(core), Time::ZERO),
        [(3, stopping(3))]
    );
    assert_eq!(
        answers(&mut it, request(5, 0, 5), Time::ZERO),
        [(5, stopping(5))],
        "nothing begins"
    );
    let id = |shard, version| MoveId {
        shard: key(shard),
        version,
    };
    let installed = |shard, version| Input::Installed {
        id: id(shard, version),
        epoch: Epoch(2),
    };
    assert_eq!(answers(&mut it, installed(0, 2), Time::ZERO), [(0, Ok(()))]);
    let stopped = |shard| {
        Err(MoveError::CoreStopped {
            shard: key(shard),
            core,
        })
    };
    assert_eq!(
        answers(&mut it, Input::CoreStopped(core), Time::ZERO),
        [(1, stopped(1)), (2, stopped(2))]
    );
    assert_eq!(
        answers(&mut it, installed(1, 3), Time::ZERO),
        [],
        "answered before"
    );
    assert_eq!(it.topology().placement(key(1)).unwrap().owner, CoreId(0));
    assert_eq!(it.moving(), 1);
}

/// A shard on its way from core 0 to core 1 of four: which cores die, who is asked, what it says, and where the shard
/// is then.
#[test]
fn the_survivor_of_a_move_says_how_it_ends() {
    let id = MoveId {
        shard: key(0),
        version: 2,
    };
    let lost = || Input::Lost { id };
    let installed = || Input::Installed {
        id,
        epoch: Epoch(2),
    };
    let refused = || Input::Refused {
        id,
        why: RefusedWhy::TargetStopped,
    };
    let (stays, moved) = ((CoreId(0), Epoch(1)), (CoreId(1), Epoch(2)));
    for (dead, survivors, report, end) in [
        (&[1][..], &[0][..], Some(refused()), stays),
        (&[1], &[0], Some(lost()), moved),
        (&[1], &[0], Some(installed()), moved),
        (&[0], &[1], Some(lost()), stays),
        (&[0], &[1], Some(installed()), moved),
        (&[0, 1], &[1], None, stays),
        (&[1, 0], &[0], None, stays),
        (&[3, 1], &[0], Some(lost()), moved),
        (&[3], &[], Some(refused()), stays),
    ] {
        let mut it = coordinator(4);
        it.handle(request(0, 1, 7), Time::ZERO);
        drain(&mut it);
        let mut asked = Vec::new();
        for core in dead {
            it.handle(Input::CoreStopped(CoreId(*core)), Time::ZERO);
            asked.extend(
                drain(&mut it)
                    .into_iter()
                    .filter_map(|output| match output {
                        Output::Survive { id: of, survivor } => Some((of, survivor.0)),
                        _ => None,
                    }),
            );
        }
        let expected: Vec<_> = survivors.iter().map(|core| (id, *core)).collect();
        assert_eq!(asked, expected, "{dead:?}");
        let is_open = report.is_some();
        assert_eq!(it.moving(), usize::from(is_open), "{dead:?}");
        if let Some(report) = report {
            it.handle(report, Time::ZERO);
        }
        assert_eq!(it.stale_inputs(), 0);
        let at_rest = *it.topology().placement(key(0)).unwrap();
        assert_eq!((at_rest.owner, at_rest.epoch), end, "{dead:?}");
        assert_eq!((at_rest.moving_to, it.moving()), (None, 0), "{dead:?}");
        it.handle(lost(), Time::ZERO);
        assert_eq!(it.stale_inputs(), 1, "said once too often");
        assert_eq!(it.topology().placement(key(0)), Some(&at_rest));
    }
    let mut it = coordinator(2);
    it.handle(request(0, 1, 7), Time::ZERO);
    it.handle(lost(), Time::ZERO);
    assert_eq!((it.stale_inputs(), it.moving()), (1, 1), "nobody is dead");
}

/// From a hot start on one of two cores, by load reports alone; each move takes a window.
#[test]
fn load_reports_move_shards_within_the_bounds() {
    let cores = [CoreId(0), CoreId(1)];
    let topology = Topology::allocate(&[SHARDS], &cores, Allocation::AllOn(CoreId(0))).unwrap();
    let settings = CoordinatorSettings {
        balancer: Some(BalancerSettings::default()),
        ..settings()
    };
    let mut it = Coordinator::new(Arc::new(topology), &cores, settings);
    let window = Duration::from_secs(1);
    let mut moving = Vec::new();
    for second in 1..=8 {
        let now = Time::ZERO + window * second;
        for id in std::mem::take(&mut moving) {
            it.handle(
                Input::Installed {
                    id,
                    epoch: Epoch(2),
                },
                now,
            );
        }
        for core in cores {
            let owned = it
                .topology()
                .iter()
                .filter(|(_, placement)| placement.owner == core);
            let shards = owned
                .map(|(shard, _)| ShardLoad {
                    shard,
                    load: 100_000,
                })
                .collect();
            let busy = window;
            let report = CoreLoad {
                core,
                window,
                busy,
                shards,
            };
            it.handle(Input::LoadReport(report), now);
        }
        for output in drain(&mut it) {
            let Output::Finished(finished) = output else {
                continue;
            };
            assert_eq!(finished.to, None);
        }
        moving.extend(
            it.topology()
                .iter()
                .filter_map(|(shard, p)| p.move_of(shard)),
        );
        assert!(moving.len() <= 3, "second {second}: {moving:?}");
        assert!(second > 1 || moving.is_empty(), "one window is not enough");
    }
    let left = it
        .topology()
        .iter()
        .filter(|(_, p)| p.owner == CoreId(0))
        .count();
    assert_eq!(
        (left, it.moving(), it.waiting()),
        (SHARDS as usize / 2, 0, 0)
    );
}

/// The outcomes of a run, to show that the properties were not met by doing nothing.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    pub(super) moved: usize,
    pub(super) refused: usize,
    pub(super) other: usize,
    pub(super) delivered: usize,
}

impl Outcomes {
    pub(super) fn count(&mut self, result: &Result<(), MoveError>) {
        match result {
            Ok(()) => self.moved += 1,
            Err(MoveError::Refused { .. }) => self.refused += 1,
            Err(_) => self.other += 1,
        }
    }
}

/// Cores that report the end of each announced move late, in any order and more than once.
fn hostile_reports(seed: u64) -> Outcomes {
    let rng = &mut seeded(seed, 1);
    let cores = 4u16;
    let mut it = coordinator(cores);
    let mut outcomes = Outcomes::default();
    let mut truth: BTreeMap<ShardKey, (CoreId, Epoch)> = it
        .topology()
        .iter()
        .map(|(shard, placement)| (shard, (placement.owner, placement.epoch)))
        .collect();
    let mut seen = Arc::clone(it.topology());
    let mut reports: Vec<Input> = Vec::new();
    let mut sent: Vec<Input> = Vec::new();
    let mut open: BTreeSet<u64> = BTreeSet::new();
    let (mut tokens, mut now) = (0, Time::ZERO);
    for step in 0..1500 {
        now = now + Duration::from_millis(rng.random_range(0..20));
        let is_ending = step >= 1400;
        let input = match rng.random_range(0..10) {
            0..=3 if !is_ending => {
                tokens += 1;
                assert!(open.insert(tokens));
                request(
                    rng.random_range(0..=SHARDS),
                    rng.random_range(0..=cores),
                    tokens,
                )
            }
            4 if !sent.is_empty() => sent[rng.random_range(0..sent.len())].clone(),
            5 => Input::Tick,
            6 if step > 1300 && rng.random_ratio(1, 20) => Input::CoreStopping(CoreId(0)),
            7 if step > 1350 && rng.random_ratio(1, 20) => Input::CoreStopped(CoreId(0)),
            _ if !reports.is_empty() => {
                let report = reports.swap_remove(rng.random_range(0..reports.len()));
                sent.push(report.clone());
                report
            }
            _ => Input::Tick,
        };
        it.handle(input, now);
        for output in drain(&mut it) {
            match output {
                Output::Publish(topology) => {
                    assert!(topology.version() > seen.version());
                    for (shard, old, new) in topology.changes_since(&seen) {
                        assert!(new.epoch.0 == old.epoch.0 + u64::from(new.owner != old.owner));
                        assert!(
                            old.moving_to.is_none() || new.moving_to.is_none(),
                            "two moves at once"
                        );
                        assert_ne!(new.moving_to, Some(new.owner));
                        let Some(id) = new.move_of(shard) else {
                            assert_eq!((new.owner, new.epoch), truth[&shard], "{shard} at {now}");
                            continue;
                        };
                        // What happens between source and target is decided now and told later.
                        if rng.random_ratio(2, 3) {
                            let epoch = Epoch(new.epoch.0 + 1);
                            truth.insert(shard, (new.moving_to.unwrap(), epoch));
                            reports.push(Input::Installed { id, epoch });
                        } else {
                            let why = RefusedWhy::Suspended;
                            reports.push(Input::Refused { id, why });
                        }
                    }
                    seen = topology;
                }
                // Its report is on its way already.
                Output::Survive { survivor, .. } => assert_ne!(survivor, CoreId(0)),
                Output::Finished(Finished { shard, result, to }) => {
                    assert!(
                        open.remove(&to.unwrap()),
                        "{shard} answered twice: {result:?}"
                    );
                    outcomes.count(&result);
                }
            }
        }
        assert!(it.moving() <= 3 && it.waiting() <= 4);
        let moving = it
            .topology()
            .iter()
            .filter(|(_, p)| p.moving_to.is_some())
            .count();
        assert_eq!(moving, it.moving());
    }
    while let Some(report) = reports.pop() {
        it.handle(report, now);
        drain(&mut it).into_iter().for_each(|output| match output {
            Output::Finished(finished) => assert!(open.remove(&finished.to.unwrap())),
            Output::Survive { .. } => unreachable!("no core stops any more"),
            // A waiting request may begin just now.
            Output::Publish(topology) => {
                for (shard, _, new) in topology.changes_since(&seen) {
                    if let Some(id) = new.move_of(shard) {
                        let why = RefusedWhy::Suspended;
                        reports.push(Input::Refused { id, why });
                    }
                }
                seen = topology;
            }
        });
    }
    assert_eq!((open.len(), it.moving(), it.waiting()), (0, 0, 0));
    for (shard, placement) in it.topology().iter() {
        assert_eq!((placement.owner, placement.epoch), truth[&shard]);
    }
    outcomes
}

#[test]
fn hostile_runs_do_something() {
    let outcomes = hostile_reports(1);
    assert!(
        outcomes.moved > 100 && outcomes.refused > 50 && outcomes.other > 100,
        "{outcomes:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn hostile_reports_leave_one_owner_and_one_answer(seed: u64) {
        hostile_reports(seed);
    }
}
