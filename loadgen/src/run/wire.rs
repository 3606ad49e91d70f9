//! Two nodes on loopback beside bare TCP between two processes, in the same run and on the same two CPUs, in turns.

use std::time::Duration;

use corecast::node::cluster::expert::Profile;

use super::cluster::{add_false_events, fleet, start};
use super::error::RunError;
use super::interrupt::Interrupt;
use super::session::{Results, complain};
use crate::cluster::bare_tcp::{Cpus, measure};
use crate::cluster::fleet::Fleet;
use crate::cluster::protocol::{Order, WireNews, WireOrder, WireWork};
use crate::options::{Job, Nodes, Wire};
use crate::report::{WireReport, WireRound};

/// Who sends, and who is sent to.
const SENDER: u32 = 1;
const RECEIVER: u32 = 2;
/// A core that polls for so long never parks.
const NEVER_PARKS: Duration = Duration::from_secs(3_600);
/// How long a measurement may take beyond its time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures both.
pub(super) fn run(
    work: &Wire,
    job: &Job,
    interrupt: &Interrupt,
    results: &mut Results,
) -> Result<(), RunError> {
    let nodes = Nodes {
        count: 2,
        cores_each: Some(1),
        local_ratio: None,
        faults: Vec::new(),
        repeat: 1,
        // That of a cluster in use: cores that poll all the time are no reason to hold each other for dead.
        profile: Profile::Default,
        directory: None,
    };
    let mut report = WireReport::default();
    for number in 1..=work.rounds {
        if interrupt.is_told() {
            break;
        }
        complain(&format!("loadgen: round {number} of {}\n", work.rounds));
        match round(work, &nodes, job, interrupt, results) {
            Ok(Some(round)) => report.rounds.push(round),
            Ok(None) => break,
            // The rounds before are told all the same.
            Err(error) => {
                results.failure = Some(error);
                break;
            }
        }
    }
    results.is_interrupted = interrupt.is_told();
    results.report.wire = Some(report);
    Ok(())
}

/// One round; nothing when it was broken off.
fn round(
    work: &Wire,
    nodes: &Nodes,
    job: &Job,
    interrupt: &Interrupt,
    results: &mut Results,
) -> Result<Option<WireRound>, RunError> {
    let mut hot = fleet(nodes, job)?;
    let cpus = Cpus {
        here: hot.node(SENDER).cpus.data[0],
        there: hot.node(RECEIVER).cpus.data[0],
    };
    let bare = measure(cpus, work.duration).map_err(RunError::BareTcp)?;
    hot.set_spin(NEVER_PARKS);
    let mut hot = start(hot, interrupt, results)?;
    let mut of_hot = |what| of_nodes(&mut hot, what, work.duration, interrupt);
    let Some(small) = of_hot(WireWork::SmallTells)? else {
        return Ok(None);
    };
    let Some(large) = of_hot(WireWork::LargeTells)? else {
        return Ok(None);
    };
    let Some(hot_asks) = of_hot(WireWork::Asks)? else {
        return Ok(None);
    };
    let cluster = results.report.cluster.get_or_insert_default();
    add_false_events(cluster, &hot);
    drop(hot);
    let mut parked = fleet(nodes, job)?;
    parked.set_spin(Duration::ZERO);
    let mut parked = start(parked, interrupt, results)?;
    let Some(parked_asks) = of_nodes(&mut parked, WireWork::Asks, work.duration, interrupt)? else {
        return Ok(None);
    };
    let cluster = results.report.cluster.get_or_insert_default();
    add_false_events(cluster, &parked);
    let rate = |news: &WireNews| news.messages as f64 / (news.elapsed_ns.max(1) as f64 / 1e9);
    Ok(Some(WireRound {
        bare_polling_ns: bare.polling_ns,
        bare_blocking_ns: bare.blocking_ns,
        bare_bytes_per_s: bare.bytes_per_s,
        tells_per_s: rate(&small),
        tell_bytes_per_s: rate(&large) * 1_024.0,
        hot_ask_ns: hot_asks.latencies.at(0.5),
        parked_ask_ns: parked_asks.latencies.at(0.5),
    }))
}

/// One measurement between the nodes; nothing when it was broken off.
fn of_nodes(
    fleet: &mut Fleet,
    what: WireWork,
    duration: Duration,
    interrupt: &Interrupt,
) -> Result<Option<WireNews>, RunError> {
    let order = WireOrder {
        what,
        to: RECEIVER,
        duration_ns: duration.as_nanos() as u64,
    };
    fleet.tell(SENDER, &Order::Wire(order))?;
    let has_said = |fleet: &Fleet| fleet.node(SENDER).wire.is_some();
    let is_told = || interrupt.is_told();
    let what = format!("{what:?} are measured");
    fleet.wait_until(&what, duration + PATIENCE, is_told, has_said)?;
    match fleet.node_mut(SENDER).wire.take() {
        Some(WireNews {
            failed: Some(why), ..
        }) => Err(RunError::Node(format!("{what}: {why}"))),
        news => Ok(news),
    }
}
