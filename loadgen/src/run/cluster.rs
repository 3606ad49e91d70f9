//! The load over a cluster: `main`, `tell`, `ask` and `entities` with `--nodes`.
//!
//! The nodes are processes that drive from inside their cores; this process starts them, tells them their phases, has
//! faults happen, and adds up what they say.

use std::time::Duration;

use corecast::Time;
use corecast::io::machine::read_machine;
use corecast::node::settings::CoreSelection;

use super::course::Course;
use super::error::RunError;
use super::interrupt::Interrupt;
use super::lineup::{ACTIVATING, ACTIVATION_BOOKS};
use super::listening::listen;
use super::load::label;
use super::probes::set_probes_apart;
use super::session::Results;
use super::stage::{LOOK, PATIENCE};
use crate::arrivals::PhasePace;
use crate::cluster::error::ClusterError;
use crate::cluster::fleet::{Fleet, Node, WHOLE_WITHIN};
use crate::cluster::place::{Place, divide};
use crate::cluster::protocol::{EventNews, Order, PhaseNews, PhaseOrder};
use crate::measure::{PhaseLabel, Recorder, Window};
use crate::options::{Job, Load, Nodes, Pacing, PhaseSpec, Setting};
use crate::report::{
    Activity, ClusterReport, EventReport, NEVER_ENDED, NodePhase, NodeReport, Progress, Status,
};
use crate::units::{duration, grouped, rate};

/// Time between the order and the begin of a phase, for all nodes to be ready by then.
const LEAD: Duration = Duration::from_millis(100);
/// How long nodes may take to close their books.
const CLOSED_WITHIN: Duration = Duration::from_secs(60);
/// Events without a fault that are shown; all are counted.
const SHOWN_EVENTS: usize = 20;
/// Events of each node that the report keeps.
const KEPT_EVENTS: usize = 1_000;

/// Runs the phases of a load over a cluster.
pub(super) fn run(
    load: &Load,
    nodes: &Nodes,
    job: &Job,
    interrupt: &Interrupt,
    results: &mut Results,
) -> Result<(), RunError> {
    listen(load.hiccups, &job.common.pinning, interrupt, results)?;
    if results.is_interrupted {
        return Ok(());
    }
    let fleet = form(nodes, job, interrupt, results)?;
    let mut cluster = Clustered {
        load,
        nodes,
        fleet,
        interrupt: interrupt.clone(),
        progress: Progress::on_stderr(),
        report: ClusterReport::default(),
        phase: 0,
        run: 0,
        peak: 0.0,
    };
    // What was measured before is told all the same.
    results.failure = cluster.phases(results).err();
    cluster.progress.clear();
    cluster.end(results);
    Ok(())
}

/// Starts all nodes and waits until they are one cluster in which every shard has an owner.
pub(super) fn form(
    nodes: &Nodes,
    job: &Job,
    interrupt: &Interrupt,
    results: &mut Results,
) -> Result<Fleet, RunError> {
    let fleet = fleet(nodes, job)?;
    start(fleet, interrupt, results)
}

/// Nodes that have not been started.
pub(super) fn fleet(nodes: &Nodes, job: &Job) -> Result<Fleet, RunError> {
    let cpus = match &job.common.pinning.cores {
        Some(CoreSelection::List(cpus)) => cpus.clone(),
        _ => {
            let machine = read_machine();
            let machine = machine.map_err(|error| RunError::Node(error.to_string()))?;
            machine.allowed_cpus
        }
    };
    let cpus = divide(&cpus, nodes.count, nodes.cores_each);
    let directory = nodes.directory.as_deref();
    let place = Place::make(nodes.count, directory, nodes.has_partitions());
    let place = place.map_err(ClusterError::from)?;
    let arguments = std::env::args_os().skip(1).collect();
    Ok(Fleet::new(place, cpus, arguments)?)
}

/// Starts them, and waits until the cluster is whole.
pub(super) fn start(
    mut fleet: Fleet,
    interrupt: &Interrupt,
    results: &mut Results,
) -> Result<Fleet, RunError> {
    let begun = fleet.now();
    fleet.ids().try_for_each(|id| fleet.start(id))?;
    let is_told = || interrupt.is_told();
    let what = "every node knows all others to be up and every shard has an owner";
    fleet.wait_until(what, WHOLE_WITHIN, is_told, Fleet::is_whole)?;
    results.is_interrupted = interrupt.is_told();
    let report = &mut results.report;
    if report.cores.is_empty() {
        let cpus = fleet.nodes.iter().flat_map(|node| node.cpus.data.clone());
        report.cores = cpus.collect();
        let settings = fleet.nodes.first().map(|node| node.settings.clone());
        report.settings.extend(settings.unwrap_or_default());
        let took = duration(fleet.now() - begun);
        report.settings.push(Setting::new(
            "formed",
            format!("{took} from the start of the processes, with every shard owned"),
        ));
    }
    Ok(fleet)
}

/// A cluster under load.
struct Clustered<'a> {
    load: &'a Load,
    nodes: &'a Nodes,
    fleet: Fleet,
    interrupt: Interrupt,
    progress: Progress<std::io::Stderr>,
    report: ClusterReport,
    phase: u16,
    /// The last number of a driver's run.
    run: u32,
    /// The rate of the closed loop, in messages per second.
    peak: f64,
}

/// A phase for all nodes.
struct Act<'a> {
    name: &'a str,
    pace: PhasePace,
    ask_percent: u8,
    each: Option<(u64, u64)>,
    warm_up: Duration,
    duration: Duration,
    has_faults: bool,
}

impl Clustered<'_> {
    fn phases(&mut self, results: &mut Results) -> Result<(), RunError> {
        if results.is_interrupted {
            return Ok(());
        }
        self.activate(results)?;
        let last = self.load.phases.len() - 1;
        for (at, spec) in self.load.phases.iter().enumerate() {
            if results.is_interrupted {
                break;
            }
            let (pace, offered) = match spec.pacing {
                Pacing::Closed { in_flight } => {
                    let in_flight = in_flight.into();
                    (PhasePace::Closed { in_flight }, None)
                }
                Pacing::Open { rate, arrivals } => {
                    let total_rate = rate.per_second(self.peak);
                    let pace = PhasePace::Open {
                        total_rate,
                        arrivals,
                    };
                    (pace, Some(total_rate))
                }
                // The command line refuses it.
                Pacing::Search { .. } => continue,
            };
            let has_faults = at == last;
            let repeat = if has_faults { self.nodes.repeat } else { 1 };
            let act = Act {
                name: spec.name,
                pace,
                ask_percent: self.load.traffic.ask_percent,
                each: None,
                warm_up: spec.warm_up,
                duration: spec.duration * repeat,
                has_faults,
            };
            let recorder = self.perform(&act, spec, results)?;
            let label = label(spec, offered);
            if offered.is_none() {
                self.peak = recorder.summary(label.clone()).rate;
            }
            self.keep(&label, results, recorder);
        }
        Ok(())
    }

    /// Sends each entity one message.
    fn activate(&mut self, results: &mut Results) -> Result<(), RunError> {
        let act = Act {
            name: "activate",
            pace: PhasePace::Closed {
                in_flight: ACTIVATING,
            },
            ask_percent: 0,
            each: Some((0, self.load.entities)),
            warm_up: Duration::ZERO,
            duration: ACTIVATION_BOOKS,
            has_faults: false,
        };
        let spec = self.load.phases[0];
        let recorder = self.perform(&act, &spec, results)?;
        let begun = recorder.window().start;
        let (elapsed, active) = (self.fleet.now() - begun, recorder.completions());
        let per_second = rate(active as f64 / elapsed.as_secs_f64().max(1e-9));
        results.report.settings.push(Setting::new(
            "activated",
            format!(
                "{} entities in {}, {per_second}/s",
                grouped(active),
                duration(elapsed)
            ),
        ));
        Ok(())
    }

    /// Has all nodes drive for a phase, with the faults of the run if it is theirs.
    fn perform(
        &mut self,
        act: &Act<'_>,
        spec: &PhaseSpec,
        results: &mut Results,
    ) -> Result<Recorder, RunError> {
        self.phase += 1;
        for node in &mut self.fleet.nodes {
            node.figures.clear();
            (node.driving, node.lost_figures) = (0, 0);
            (node.was_stopped, node.away) = (false, Duration::ZERO);
        }
        let begin = self.fleet.now() + LEAD;
        let window = Window::after_warm_up(begin, act.warm_up, act.duration);
        for id in self.fleet.ids() {
            self.fleet.node_mut(id).driving += 1;
            self.order(id, act, begin, window)?;
        }
        let mut course = match act.has_faults {
            true => Course::new(self.nodes, window.start, spec.duration),
            false => Course::none(),
        };
        let driven = self.drive(act, begin, window, &mut course);
        // What was seen of faults is of use even if the cluster then came to an end.
        let (faults, missed) = course.end(&self.fleet);
        self.report.faults.extend(faults);
        self.report.faults_missed += missed;
        let cut = driven?;
        results.is_interrupted |= cut.is_some();
        self.close()?;
        let figures = self.fleet.nodes.iter_mut();
        set_probes_apart(figures.map(|node| &mut node.figures[..]).collect());
        let mut recorder = Recorder::new(window);
        for node in &mut self.fleet.nodes {
            let figures = node.figures.iter_mut();
            for figures in figures.filter(|figures| figures.phase == self.phase) {
                if node.was_stopped {
                    figures.recorder.forgive_lag();
                }
                recorder.merge(&figures.recorder);
                let errors = figures.errors.iter();
                let never_ended = errors.filter(|error| error.kind == NEVER_ENDED);
                self.report.never_ended += never_ended.map(|error| error.count).sum::<u64>();
            }
        }
        if let Some(end) = cut {
            recorder.cut(end);
        }
        Ok(recorder)
    }

    /// Tells a node to drive.
    fn order(
        &mut self,
        id: u32,
        act: &Act<'_>,
        begin: Time,
        window: Window,
    ) -> Result<(), RunError> {
        self.run += 1;
        let order = PhaseOrder {
            phase: self.phase,
            run: self.run,
            begin_ns: begin.as_nanos(),
            window,
            pace: act.pace,
            ask_percent: act.ask_percent,
            each: act.each,
        };
        Ok(self.fleet.tell(id, &Order::Phase(order))?)
    }

    /// Looks after the nodes until all have sent everything and no fault is under way; returns when it was broken off.
    fn drive(
        &mut self,
        act: &Act<'_>,
        begin: Time,
        window: Window,
        course: &mut Course,
    ) -> Result<Option<Time>, RunError> {
        let mut cut = None;
        let total = act.each.is_none().then_some(act.warm_up + act.duration);
        let mut shown = Time::ZERO;
        let mut before = (begin, 0);
        loop {
            self.fleet.hear(LOOK / 5)?;
            let now = self.fleet.now();
            course.step(&mut self.fleet, now < window.end && cut.is_none())?;
            let phase = self.phase;
            for id in course.started() {
                // Others send to it as soon as it owns shards, before it drives itself.
                self.fleet.node_mut(id).driving += 1;
                self.fleet.tell(id, &Order::Books { phase, window })?;
            }
            for (id, since) in course.back() {
                let measured = (since.max(window.start), now.min(window.end));
                self.fleet.node_mut(id).away += measured.1 - measured.0;
                if now < window.end && cut.is_none() {
                    // A schedule of its own begins now: what was due while it was away was due to nobody.
                    self.order(id, act, now, window)?;
                } else {
                    self.fleet.node_mut(id).driven = self.phase;
                }
            }
            if self.interrupt.is_told() && cut.is_none() {
                cut = Some(now);
                self.fleet.tell_all(&Order::Cut)?;
                course.cut(&mut self.fleet)?;
            }
            let have_driven = self.fleet.nodes.iter().all(|node| node.driven == phase);
            if have_driven && !course.is_active() {
                return Ok(cut);
            }
            if cut.is_some_and(|cut| now > cut + PATIENCE * 3) {
                return Ok(cut);
            }
            if now - shown > LOOK {
                shown = now;
                self.show(act.name, now - begin, total, (now, window), &mut before);
            }
        }
    }

    /// Has all nodes say what they measured.
    fn close(&mut self) -> Result<(), RunError> {
        self.fleet.tell_all(&Order::Close)?;
        let phase = self.phase;
        let has_said = |fleet: &Fleet| {
            fleet.nodes.iter().all(|node| {
                let figures = node.figures.iter().filter(|figures| figures.phase == phase);
                figures.count() as u32 + node.lost_figures >= node.driving
            })
        };
        Ok(self.fleet.wait_until(
            "nodes say what they measured",
            CLOSED_WITHIN,
            || false,
            has_said,
        )?)
    }

    fn show(
        &mut self,
        name: &str,
        elapsed: Duration,
        total: Option<Duration>,
        (now, window): (Time, Window),
        before: &mut (Time, u64),
    ) {
        let nodes = self.fleet.nodes.iter();
        let completed: u64 = nodes.clone().map(|node| node.beat.completed).sum();
        let seconds = (now - before.0).as_secs_f64();
        let latency = nodes.filter_map(|node| node.beat.latency_ns);
        let status = Status {
            phase: name.to_owned(),
            elapsed,
            total,
            activity: if now < window.start {
                Activity::WarmingUp
            } else {
                Activity::Measuring
            },
            rate: completed.saturating_sub(before.1) as f64 / seconds.max(1e-3),
            // The worst of the nodes.
            latency_ns: latency.max_by_key(|(_, p99)| *p99),
        };
        // Nodes say how they go every now and then: over half a second that is smooth enough.
        if seconds > 0.5 {
            *before = (now, completed);
        }
        self.progress.update(now - Time::ZERO, &status);
    }

    /// Keeps the figures of a phase, of all and of each.
    fn keep(&mut self, label: &PhaseLabel, results: &mut Results, recorder: Recorder) {
        if self.report.nodes.is_empty() {
            let nodes = self.fleet.nodes.iter();
            self.report.nodes = nodes
                .map(|node| NodeReport {
                    node: node.id,
                    cpus: node.cpus.data.clone(),
                    ..NodeReport::default()
                })
                .collect();
        }
        let window = recorder.window();
        for (report, node) in self.report.nodes.iter_mut().zip(&self.fleet.nodes) {
            let figures = node.figures.iter();
            let figures = figures.filter(|figures| figures.phase == self.phase);
            let mut phase = node_phase(label, window, figures);
            phase.lost_figures = node.lost_figures;
            let share = label.offered_rate.unwrap_or(0.0) / self.nodes.count as f64;
            phase.due_to_nobody = (share * node.away.as_secs_f64()) as u64;
            report.phases.push(phase);
        }
        results.add(label.clone(), recorder);
    }

    /// Adds what is known of the nodes to the report; they end with this.
    fn end(mut self, results: &mut Results) {
        for (report, node) in self.report.nodes.iter_mut().zip(&self.fleet.nodes) {
            report.starts = node.starts;
            report.peak_bytes = node.peak;
            (report.events, report.events_shown) = events_of(node);
        }
        add_false_events(&mut self.report, &self.fleet);
        self.report.sum_up();
        results.report.cluster = Some(self.report);
    }
}

/// Adds the events that nothing explains.
pub(super) fn add_false_events(report: &mut ClusterReport, fleet: &Fleet) {
    for node in &fleet.nodes {
        report.false_events += node.false_events_beyond;
        let events = node.events.iter().filter(|event| event.what.is_trouble());
        for event in events.filter(|event| !fleet.excuses.explain(node.id, event)) {
            report.false_events += 1;
            if report.false_events_shown.len() < SHOWN_EVENTS {
                report.false_events_shown.push(shown(node, event));
            }
        }
    }
}

/// How many member events a node has told, and the first of them.
pub(super) fn events_of(node: &Node) -> (u64, Vec<EventReport>) {
    let first = node.events.iter().take(KEPT_EVENTS);
    let first = first.map(|event| shown(node, event)).collect();
    (node.event_count, first)
}

fn shown(node: &Node, event: &EventNews) -> EventReport {
    EventReport {
        at_s: event.at_ns as f64 / 1e9,
        told_by: node.id,
        what: event.what,
        node: event.node,
        by: event.by.clone(),
    }
}

fn node_phase<'a>(
    label: &PhaseLabel,
    window: Window,
    figures: impl Iterator<Item = &'a PhaseNews>,
) -> NodePhase {
    let mut phase = NodePhase {
        name: label.name.clone(),
        ..NodePhase::default()
    };
    let mut recorder: Option<Recorder> = None;
    for one in figures {
        match &mut recorder {
            None => recorder = Some(one.recorder.clone()),
            Some(recorder) => recorder.merge(&one.recorder),
        }
        phase.local += one.local;
        phase.remote += one.remote;
        phase.tells += one.tells;
        phase.unaccounted += one.unaccounted;
        phase.errors.extend(one.errors.iter().cloned());
    }
    if let Some(mut recorder) = recorder {
        recorder.cut(window.end);
        let summary = recorder.summary(label.clone());
        (phase.completed, phase.failed) = (summary.completed, summary.failed);
        phase.rate = summary.rate;
        phase.latency = summary.latency().cloned();
    }
    phase
}
