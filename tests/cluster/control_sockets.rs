//! The real sockets of a control plane whose dials fail.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use corecast::base::ids::{CoreId, NodeId};
use corecast::base::rng::seeded;
use corecast::base::time::Time;
use corecast::cluster::ledger_opening::LedgerOpening;
use corecast::cluster::ledger_settings::LedgerSettings;
use corecast::cluster::node::settings::{NodeSettings, Seed};
use corecast::cluster::plane::{ControlPlane, Output, PlaneSettings};
use corecast::io::cluster::control_sockets::ControlSockets;
use corecast::io::cluster::readiness::{Readiness, Token};
use corecast::links::settings::LinkSettings;
use corecast::sim::SimDisk;
use corecast::sim::disk::MountedDisk;
use corecast::wire::limits::FrameLimits;
use corecast::wire::tables::Tables;

const DIALS: usize = 100;

/// A node that looks for another at a port at which nobody listens.
fn looking_for_nobody(disk: &SimDisk, store: &mut MountedDisk) -> (ControlPlane, Time) {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = closed.local_addr().unwrap();
    drop(closed);
    let address = "127.0.0.1:7000".parse().unwrap();
    let seeds = [(1, address), (2, nobody), (3, nobody)];
    let settings = PlaneSettings {
        cluster: "shop".into(),
        node: NodeSettings {
            seeds: seeds
                .map(|(node, address)| Seed {
                    node: NodeId(node),
                    address: Some(address),
                })
                .to_vec(),
            ..NodeSettings::new(NodeId(1), address)
        },
        links: LinkSettings::default(),
        limits: FrameLimits::default(),
        tables: Arc::new(Tables::default()),
        core: CoreId(0),
        cores: 1,
    };
    let sizes = LedgerSettings::for_consensus(&settings.node.consensus);
    let mut opening = LedgerOpening::new(sizes, NodeId(1), None, &mut seeded(1, 0)).unwrap();
    let mut now = Time::ZERO;
    let opened = loop {
        if let Some(opened) = opening.turn(now, store).unwrap() {
            break opened;
        }
        now = disk.next_due().unwrap();
    };
    let plane = ControlPlane::start(settings, opened, seeded(1, 1), now).unwrap();
    (plane, now)
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The system tells of it only after the dial. Time is this test's own, so that nobody waits for the next.
#[test]
fn of_dials_that_fail_no_socket_is_left() {
    let disk = SimDisk::new(1);
    let mut store = disk.mount();
    let (mut plane, mut now) = looking_for_nobody(&disk, &mut store);
    let mut readiness = Readiness::new().unwrap();
    let mut sockets = ControlSockets::default();
    let (mut dials, mut late, mut ready) = (0, 0, Vec::new());
    let before = descriptors();
    while dials < DIALS {
        now = now + Duration::from_secs(1);
        plane.turn(now, &mut store);
        while let Some(output) = plane.poll_output() {
            match output {
                Output::Dial {
                    connection,
                    address,
                } => {
                    dials += 1;
                    sockets.dial(&mut plane, &readiness, (connection, &address), now);
                    late += usize::from(!sockets.is_empty());
                }
                Output::Close { connection } => sockets.close(connection),
                Output::Datagram { .. } | Output::Event(_) => {}
            }
        }
        while !sockets.is_empty() {
            let refused = sockets.len();
            readiness.sleep(Some(Duration::from_secs(10)));
            readiness.take(&mut ready);
            for ready in ready.drain(..) {
                if let Token::Connection(number) = ready.token {
                    let what = (number, ready.read, ready.write);
                    sockets.ready(&mut plane, what, now);
                }
            }
            assert!(
                sockets.len() < refused,
                "the socket of a dial that failed is still there"
            );
        }
    }
    assert!(late > DIALS / 2, "it was told at once of all but {late}");
    // Other tests have none of their own, or few.
    let after = descriptors();
    assert!(
        after < before + DIALS / 2,
        "{before} descriptors have become {after}"
    );
}
