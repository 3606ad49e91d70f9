//! The replay over a cluster: every row of a file to the entity named by its key, sent by all nodes, with nodes that leave
//! and come back meanwhile, and the exact check.
//!
//! Rows are granted little by little while there are faults to come, so that there is always something on its way when a
//! node leaves, and all at once when the last node is back.

use std::collections::BTreeMap;
use std::time::Duration;

use corecast::Time;

use super::cluster::{add_false_events, events_of, form};
use super::course::Course;
use super::error::RunError;
use super::interrupt::Interrupt;
use super::session::{Results, complain};
use super::stage::LOOK;
use crate::cluster::fleet::{Fleet, WHOLE_WITHIN};
use crate::cluster::protocol::{ErrorCount, FedNews, FeedOrder, Order};
use crate::measure::{PhaseLabel, Recorder, Window};
use crate::options::{Job, Nodes, Replay, Setting};
use crate::replay::{Check, Columns, Line, MalformedLog, Oracle, Orders, Rows, Source};
use crate::report::{Activity, ClusterReport, NodePhase, NodeReport, Progress, Status};
use crate::units::grouped;

/// While there are faults to come each look grants this part of the rows that are left.
const GRANTED_PART: u64 = 100;
/// Keys asked for at once; what they hold comes as one line.
const KEYS: usize = 512;
/// How long the answers may take.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
/// Without a row acknowledged for so long the replay is given up.
const PATIENCE: Duration = Duration::from_secs(90);
/// How far rounds of faults are apart.
const PERIOD: Duration = Duration::from_secs(10);

/// Replays a file over a cluster.
pub(super) fn run(
    work: &Replay,
    nodes: &Nodes,
    job: &Job,
    interrupt: &Interrupt,
    results: &mut Results,
) -> Result<(), RunError> {
    let source = Source::new(work.input.clone());
    let columns = Columns {
        key: work.key.clone(),
        sums: work.sums.clone(),
    };
    // The independent pass comes first: an input that cannot be read is known before anything starts.
    let oracle = Oracle::read(&source, &columns)?;
    let file = File::read(&source, &columns, work, nodes.count)?;
    let mut fleet = form(nodes, job, interrupt, results)?;
    let mut progress = Progress::on_stderr();
    let mut feed = Feed {
        rows: file.rows,
        granted: 0,
        sums: vec![FedNews::nothing(); fleet.nodes.len()],
        samples: Vec::new(),
        begin: fleet.now(),
    };
    let mut course = Course::new(nodes, feed.begin, PERIOD);
    let fed = feed.run(&mut fleet, &mut course, interrupt, &mut progress);
    progress.clear();
    // What was seen before is told all the same.
    let (is_complete, mut failure) = match fed {
        Ok(is_complete) => (is_complete, None),
        Err(error) => (false, Some(error)),
    };
    results.is_interrupted = !is_complete;
    let end = fleet.now();
    let label = PhaseLabel {
        name: "replay".into(),
        pacing: match nodes.faults.is_empty() {
            true => "as fast as it goes".into(),
            false => "little by little until all nodes are back".into(),
        },
        offered_rate: None,
    };
    results.add(label, feed.recorder(end));
    let total = |of: fn(&FedNews) -> u64| feed.sums.iter().map(of).sum();
    let (retried, unknown) = (total(|fed| fed.retried), total(|fed| fed.unknown));
    results.report.settings.push(Setting::new(
        "rows sent again",
        format!("{}, which were rejected", grouped(retried)),
    ));
    results.report.settings.push(Setting::new(
        "rows unknown",
        format!(
            "{} of which nobody knows whether they took effect",
            grouped(unknown)
        ),
    ));
    if is_complete {
        let check = Check::new(oracle, &columns, work.show);
        // A row that was sent again came behind others, and of one that is unknown nobody knows when it came.
        let is_order_checked = retried == 0 && unknown == 0;
        match ask_all(&mut fleet, file.keys, check, is_order_checked, interrupt) {
            Ok(None) => results.is_interrupted = true,
            Ok(Some(check)) => {
                let mut checked = check.finish(&file.malformed);
                checked.report.is_order_checked = Some(is_order_checked);
                complain(&file.malformed);
                complain(&checked);
                results.report.replay = Some(checked.report);
            }
            Err(error) => failure = Some(error),
        }
    }
    results.failure = failure;
    let (faults, faults_missed) = course.end(&fleet);
    let mut report = ClusterReport {
        nodes: fleet
            .nodes
            .iter()
            .map(|node| {
                let (events, events_shown) = events_of(node);
                NodeReport {
                    node: node.id,
                    cpus: node.cpus.data.clone(),
                    starts: node.starts,
                    peak_bytes: node.peak,
                    phases: vec![feed.of_node(node.id, end)],
                    events,
                    events_shown,
                }
            })
            .collect(),
        faults,
        faults_missed,
        ..ClusterReport::default()
    };
    add_false_events(&mut report, &fleet);
    report.sum_up();
    results.report.cluster = Some(report);
    Ok(())
}

/// What there is in a file.
struct File {
    rows: u64,
    /// Its keys, and the order in which the nodes send their rows.
    keys: BTreeMap<String, Orders>,
    malformed: MalformedLog,
}

impl File {
    fn read(
        source: &Source,
        columns: &Columns,
        work: &Replay,
        nodes: u32,
    ) -> Result<File, RunError> {
        let mut file = File {
            rows: 0,
            keys: BTreeMap::new(),
            malformed: MalformedLog::new(work.show),
        };
        for line in Rows::open(source, columns)? {
            match line? {
                Line::Malformed(malformed) => file.malformed.push(malformed),
                Line::Row(row) => {
                    let orders = file.keys.entry(row.key).or_default();
                    if file.rows >= work.lose {
                        let sender = file.rows % u64::from(nodes) + 1;
                        orders.add(sender as u32, file.rows);
                    }
                    file.rows += 1;
                }
            }
        }
        Ok(file)
    }
}

impl FedNews {
    fn nothing() -> FedNews {
        FedNews {
            next: 0,
            is_all: false,
            retried: 0,
            unknown: 0,
        }
    }
}

/// Rows on their way into the cluster.
struct Feed {
    rows: u64,
    granted: u64,
    /// What each node has said, over all of its processes.
    sums: Vec<FedNews>,
    /// Rows acknowledged over time, about.
    samples: Vec<(Time, u64)>,
    begin: Time,
}

impl Feed {
    /// Has all nodes send their rows; returns whether all were sent.
    fn run(
        &mut self,
        fleet: &mut Fleet,
        course: &mut Course,
        interrupt: &Interrupt,
        progress: &mut Progress<std::io::Stderr>,
    ) -> Result<bool, RunError> {
        for id in fleet.ids() {
            self.order(fleet, id)?;
        }
        let (mut looked, mut before) = (Time::ZERO, (self.begin, 0));
        let mut advanced = self.begin;
        loop {
            fleet.hear(LOOK / 5)?;
            let now = fleet.now();
            course.step(fleet, true)?;
            for id in fleet.ids() {
                if let Some(fed) = fleet.node_mut(id).fed.take() {
                    let sum = &mut self.sums[id as usize - 1];
                    (sum.next, sum.is_all) = (fed.next, fed.is_all);
                    sum.retried += fed.retried;
                    sum.unknown += fed.unknown;
                }
            }
            for (id, _) in course.back() {
                if !self.sums[id as usize - 1].is_all {
                    self.order(fleet, id)?;
                }
            }
            if interrupt.is_told() {
                return Ok(false);
            }
            if self.sums.iter().all(|fed| fed.is_all) && course.is_over() {
                return Ok(true);
            }
            if now - looked < LOOK {
                continue;
            }
            looked = now;
            let left = self.rows - self.granted;
            self.granted += match course.is_over() {
                true => left,
                false => left.div_ceil(GRANTED_PART),
            };
            fleet.tell_all(&Order::Grant(self.granted))?;
            let done = self.done(fleet);
            if done > before.1 || course.is_active() {
                advanced = now;
            }
            if now > advanced + PATIENCE {
                return Err(RunError::Stuck(self.rows - done));
            }
            self.samples.push((now, done));
            let seconds = (now - before.0).as_secs_f64();
            progress.update(
                now - Time::ZERO,
                &Status {
                    phase: "replay".to_owned(),
                    elapsed: now - self.begin,
                    total: None,
                    activity: Activity::Measuring,
                    rate: done.saturating_sub(before.1) as f64 / seconds.max(1e-3),
                    latency_ns: None,
                },
            );
            before = (now, done);
        }
    }

    fn order(&self, fleet: &mut Fleet, id: u32) -> Result<(), RunError> {
        let order = FeedOrder {
            from: self.sums[id as usize - 1].next,
            granted: self.granted,
        };
        Ok(fleet.tell(id, &Order::Feed(order))?)
    }

    /// Rows that are acknowledged, about: each node has sent every n-th up to where it is.
    fn done(&self, fleet: &Fleet) -> u64 {
        let nodes = fleet.nodes.iter().zip(&self.sums);
        let next: u64 = nodes.map(|(node, fed)| node.beat.fed.max(fed.next)).sum();
        next / fleet.nodes.len() as u64
    }

    /// What one node has sent. It is every n-th row, up to where it is.
    fn of_node(&self, id: u32, end: Time) -> NodePhase {
        let (fed, nodes) = (&self.sums[id as usize - 1], self.sums.len() as u64);
        let completed = fed.next.saturating_sub(u64::from(id - 1)).div_ceil(nodes);
        let seconds = (end - self.begin).as_secs_f64();
        let error = |kind: &str, reason: &str, count| ErrorCount {
            kind: kind.to_owned(),
            reason: reason.to_owned(),
            count,
        };
        let errors = [
            error("rejected", "and sent again", fed.retried),
            error("unknown", "whether a row took effect", fed.unknown),
        ];
        NodePhase {
            name: "replay".to_owned(),
            completed,
            rate: completed as f64 / seconds.max(1e-9),
            errors: errors.into_iter().filter(|error| error.count > 0).collect(),
            ..NodePhase::default()
        }
    }

    /// The books of a replay begin when it does and end when it does.
    fn recorder(&self, end: Time) -> Recorder {
        let window = Window {
            start: self.begin,
            end: end + Duration::from_nanos(1),
        };
        let mut recorder = Recorder::new(window);
        recorder.sent_closed(window.start, self.rows);
        let mut before = 0;
        let is_all = self.sums.iter().all(|fed| fed.is_all);
        let last = is_all.then_some((end, self.rows));
        for (at, done) in self.samples.iter().copied().chain(last) {
            recorder.completed_untimed(at.max(window.start), done.saturating_sub(before));
            before = before.max(done);
        }
        recorder
    }
}

/// Asks every entity that was sent a row what it holds, by way of all nodes in turn; nothing when it was broken off.
fn ask_all(
    fleet: &mut Fleet,
    keys: BTreeMap<String, Orders>,
    mut check: Check,
    is_order_checked: bool,
    interrupt: &Interrupt,
) -> Result<Option<Check>, RunError> {
    let names: Vec<String> = keys.keys().cloned().collect();
    let what = "the cluster is whole for the check";
    let is_told = || interrupt.is_told();
    fleet.wait_until(what, WHOLE_WITHIN, is_told, Fleet::is_whole)?;
    for (turn, some) in names.chunks(KEYS).enumerate() {
        if is_told() {
            return Ok(None);
        }
        let id = turn as u32 % fleet.nodes.len() as u32 + 1;
        fleet.tell(id, &Order::Tell(some.to_vec()))?;
        let has_told = |fleet: &Fleet| !fleet.node(id).tallies.is_empty();
        let what = "entities say what they hold";
        fleet.wait_until(what, TOLD_WITHIN, is_told, has_told)?;
        for (key, held) in fleet.node_mut(id).tallies.drain(..).flatten() {
            let agrees = check.entity(&key, &held.tally);
            if let Some(orders) = keys.get(&key).filter(|_| agrees && is_order_checked) {
                check.order(&key, &held.orders, orders);
            }
        }
    }
    Ok((!is_told()).then_some(check))
}
