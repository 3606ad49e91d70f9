//! One control plane by itself, on a disk that fails.

use std::sync::Arc;
use std::time::Duration;

use corecast::base::ids::{CoreId, NodeId};
use corecast::base::rng::seeded;
use corecast::base::time::Time;
use corecast::cluster::ledger_opening::{LedgerOpening, OpenedLedger};
use corecast::cluster::ledger_settings::LedgerSettings;
use corecast::cluster::node::output::{LeaseState, StopCause};
use corecast::cluster::node::settings::NodeSettings;
use corecast::cluster::plane::{ControlPlane, Event, Output, PlaneSettings, PlaneStartError};
use corecast::links::settings::LinkSettings;
use corecast::log::{LogStore, Operation, Outcome, StoreError, StoreErrorKind, Ticket};
use corecast::sim::SimDisk;
use corecast::sim::disk::MountedDisk;
use corecast::wire::limits::FrameLimits;
use corecast::wire::tables::Tables;

fn settings(limits: FrameLimits) -> PlaneSettings {
    let address = "10.0.0.1:7000".parse().unwrap();
    PlaneSettings {
        cluster: "shop".into(),
        node: NodeSettings::new(NodeId(1), address).fast(),
        links: LinkSettings::default(),
        limits,
        tables: Arc::new(Tables::default()),
        core: CoreId(0),
        cores: 2,
    }
}

fn opened(disk: &SimDisk, store: &mut MountedDisk, now: &mut Time) -> OpenedLedger {
    let sizes = LedgerSettings::for_consensus(&settings(FrameLimits::default()).node.consensus);
    let mut opening = LedgerOpening::new(sizes, NodeId(1), None, &mut seeded(1, 0)).unwrap();
    loop {
        if let Some(opened) = opening.turn(*now, store).unwrap() {
            return opened;
        }
        *now = disk.next_due().unwrap();
    }
}

/// Whatever ends is looked at one poll late, and, once it is told to, it has failed then.
struct Late {
    disk: MountedDisk,
    ended: Option<(Ticket, Result<Outcome, StoreError>)>,
    fails: bool,
}

impl LogStore for Late {
    fn submit(&mut self, now: Time, ticket: Ticket, operation: Operation) {
        self.disk.submit(now, ticket, operation);
    }

    fn poll(&mut self, now: Time) -> Option<(Ticket, Result<Outcome, StoreError>)> {
        if let Some((ticket, result)) = self.ended.take() {
            let error = StoreError {
                doing: "write".into(),
                what: "planted".into(),
                kind: StoreErrorKind::Io,
            };
            let result = if self.fails { Err(error) } else { result };
            return Some((ticket, result));
        }
        self.ended = self.disk.poll(now);
        None
    }
}

fn events(plane: &mut ControlPlane) -> Vec<Event> {
    let outputs = std::iter::from_fn(|| plane.poll_output());
    outputs
        .filter_map(|output| match output {
            Output::Event(event) => Some(event),
            _ => None,
        })
        .collect()
}

/// A node that is alone has nobody whose silence would wake it: what it has to say when its disk fails, it says at once.
#[test]
fn a_disk_that_fails_late_in_a_turn_is_told_of_in_that_turn() {
    let disk = SimDisk::new(1);
    let (mut store, mut now) = (disk.mount(), Time::ZERO);
    let opened = opened(&disk, &mut store, &mut now);
    let settings = settings(FrameLimits::default());
    let mut plane = ControlPlane::start(settings, opened, seeded(1, 1), now).unwrap();
    let mut store = Late {
        disk: store,
        ended: None,
        fails: false,
    };
    let mut valid = false;
    let end = now + Duration::from_secs(5);
    while now < end {
        plane.turn(now, &mut store);
        let is_valid = |event: &Event| matches!(event, Event::Lease(LeaseState::Valid { .. }));
        valid |= events(&mut plane).iter().any(is_valid);
        now = now + Duration::from_millis(1);
    }
    assert!(valid && plane.node().is_ready(now));
    store.fails = true;
    plane.leave(now);
    let mut told = Vec::new();
    for _ in 0..1_000 {
        plane.turn(now, &mut store);
        told = events(&mut plane);
        if plane.ledger().failed().is_some() {
            break;
        }
        now = now + Duration::from_millis(1);
    }
    assert!(plane.ledger().failed().is_some());
    let [
        ..,
        Event::LedgerFailed(_),
        Event::Lease(LeaseState::Lapsed),
        Event::Stopped(StopCause::WriteFailed),
    ] = &told[..]
    else {
        panic!("{told:?}, next at {}", plane.next_deadline());
    };
    let failed = |event: &&Event| matches!(event, Event::LedgerFailed(_));
    assert_eq!(told.iter().filter(failed).count(), 1);
    assert!(plane.is_done());
}

/// Frames that are too short for what the control plane says would lose it without a word.
#[test]
fn frames_that_hold_no_control_message_are_refused_at_the_start() {
    let disk = SimDisk::new(1);
    let (mut store, mut now) = (disk.mount(), Time::ZERO);
    let opened = opened(&disk, &mut store, &mut now);
    let limits = FrameLimits {
        frame_bytes: 1 << 20,
        ..FrameLimits::default()
    };
    let started = ControlPlane::start(settings(limits), opened, seeded(1, 1), now);
    let error = started.map(|_| ()).unwrap_err();
    assert!(matches!(error, PlaneStartError::Frames { .. }), "{error}");
    assert!(error.to_string().contains("`frame_bytes`"), "{error}");
}
