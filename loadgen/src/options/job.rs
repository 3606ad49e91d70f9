//! The checked job: what remains of the command line once defaults are filled in and contradictions are refused.

use std::path::{PathBuf, absolute};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::args::{CommonArgs, Drivers, OutputArgs, TimingArgs};
use super::balancer::Balancing;
use super::cli::{Cli, FanOutArgs, LoadArgs, MixedArgs, ReplayArgs, RingArgs, Scenario};
use super::nodes::Nodes;
use super::pacing::{PEAK_IN_FLIGHT, Pacing, Rate};
use super::wire::Wire;
use crate::arrivals::Arrivals;
use crate::keys::KeyDistribution;
use crate::report::{MACHINE, Quantity, SATURATION};
use crate::units;

/// Everything a run needs to know.
#[derive(Clone, Debug)]
pub struct Job {
    /// What to run.
    pub work: Work,
    /// The seed of everything random.
    pub seed: u64,
    /// What every scenario takes: outputs, and the runtime's pinning flags.
    pub common: CommonArgs,
    /// The cluster to run it on; `None` is one runtime in this process.
    pub nodes: Option<Nodes>,
}

/// What to run.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// A load on sharded entities.
    Load(Load),
    /// Tokens around a ring of actors.
    Ring(Ring),
    /// One sender, many receivers.
    FanOut(FanOut),
    /// Shards that all start on one core.
    Balancing(Balancing),
    /// A real file.
    Replay(Replay),
    /// Two nodes beside bare TCP.
    Wire(Wire),
}

/// A load on sharded entities.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The scenario's name, for the report.
    pub name: &'static str,
    /// Number of entities.
    pub entities: u64,
    /// How the load is spread over them.
    pub keys: KeyDistribution,
    /// What is sent.
    pub traffic: Traffic,
    /// Who sends.
    pub drivers: Drivers,
    /// How long the machine is listened to beforehand; zero leaves that out.
    pub hiccups: Duration,
    /// What to measure, in this order. An open loop at a share of the peak comes after the phase that measures it.
    pub phases: Vec<PhaseSpec>,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes carried by each message.
    pub payload_bytes: u32,
    /// Percent of asks; the rest are tells.
    pub ask_percent: u8,
}

/// One phase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PhaseSpec {
    /// Its name, unique within the job.
    pub name: &'static str,
    /// How it is paced.
    pub pacing: Pacing,
    /// Unmeasured time at its start.
    pub warm_up: Duration,
    /// Measured time.
    pub duration: Duration,
}

/// Tokens around a ring of actors.
#[derive(Clone, Debug, PartialEq)]
pub struct Ring {
    /// Number of actors.
    pub actors: u32,
    /// Number of tokens.
    pub tokens: u32,
    /// Bytes carried by each token.
    pub payload_bytes: u32,
    /// The one phase, a closed loop.
    pub phase: PhaseSpec,
}

/// One sender, many receivers.
#[derive(Clone, Debug, PartialEq)]
pub struct FanOut {
    /// Number of receivers.
    pub receivers: u32,
    /// Rounds in flight.
    pub rounds: u32,
    /// Bytes carried by each message.
    pub payload_bytes: u32,
    /// The one phase, a closed loop.
    pub phase: PhaseSpec,
}

/// A real file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The file; `None` is the one that ships with loadgen.
    pub input: Option<PathBuf>,
    /// The column that names the entity.
    pub key: String,
    /// The columns to sum.
    pub sums: Vec<String>,
    /// How many malformed rows and differing entities are printed.
    pub show: usize,
    /// Shards moved per second meanwhile.
    pub moves_per_second: u32,
    /// Rows that are withheld from their entities, for the check to find.
    pub lose: u64,
}

/// One setting as it is reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name, as the flag's.
    pub name: String,
    /// Its value for people.
    pub value: String,
}

impl Setting {
    /// A setting.
    pub fn new(name: &str, value: impl ToString) -> Setting {
        Setting {
            name: name.to_owned(),
            value: value.to_string(),
        }
    }
}

/// Flags that are each fine and contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Contradiction {
    #[error("--{0} belongs to an open loop: give --rate or --find-saturation as well")]
    WithoutOpenLoop(&'static str),
    #[error("--sum names the column '{0}' twice")]
    ColumnTwice(String),
    #[error("--slo '{0}': a replay measures no latency; 'rate>…' is what it can be held against")]
    LatencyOfReplay(String),
    #[error(
        "--{0} is of one runtime; for several nodes give --cores for the CPUs of all, and with --nodes --node-cores"
    )]
    OfOneNode(&'static str),
    #[error(
        "--spin is what wire itself sets: its asks are measured with cores that poll for ever and with such that do not"
    )]
    SpinOfWire,
    #[error("--fault names node {node}, and --nodes makes the nodes 1 to {count}")]
    NoSuchNode { node: u32, count: u32 },
    #[error(
        "--fault {0} takes --nodes 3 at least: of fewer none may fail, for the rest is no majority"
    )]
    NoFailover(&'static str),
    #[error("--fault names a follower, and a node that is alone leads: give --nodes 2 or more")]
    NoFollower,
    #[error(
        "--fault '{fault}' comes after the end of --duration {duration}: give an earlier time, or a longer duration"
    )]
    FaultTooLate { fault: String, duration: String },
    #[error(
        "--drivers threads is of one runtime: with --nodes each node drives from inside its cores"
    )]
    ThreadsOfNodes,
    #[error("--find-saturation is of one runtime: with --nodes give --rate or --closed")]
    SaturationOfNodes,
    #[error(
        "--fault {0} would lose rows of a replay for good, so there would be nothing to check: restart is what fits"
    )]
    LosesRows(&'static str),
    #[error(
        "--local-ratio does nothing in a replay: each row goes to the entity that its key names"
    )]
    LocalRatioOfReplay,
    #[error(
        "--fault restart takes --nodes 2 at least in a replay: what a node that is alone holds has nowhere to go, and \
         there would be nothing to check"
    )]
    AloneInReplay,
    #[error("--{first} and --{second} name the same file '{path}'", path = path.display())]
    OutputTwice {
        first: &'static str,
        second: &'static str,
        path: PathBuf,
    },
}

/// How long the main job listens to the machine.
const MAIN_HICCUPS: Duration = Duration::from_secs(2);
/// Other open loops listen for this part of the measured time, within these bounds.
const HICCUPS_PART: u32 = 5;
const HICCUPS_LEAST: Duration = Duration::from_millis(200);
const HICCUPS_MOST: Duration = Duration::from_secs(2);

/// What a scenario does where no flag says otherwise.
#[derive(Clone, Copy)]
struct Usual {
    pacing: Pacing,
    /// How long an open loop listens to the machine; `None` makes it a part of the measured time.
    hiccups: Option<Duration>,
}

impl Job {
    pub(super) fn from_cli(cli: Cli) -> Result<Job, Contradiction> {
        let usual = Usual {
            pacing: Pacing::Closed {
                in_flight: PEAK_IN_FLIGHT,
            },
            hiccups: None,
        };
        let half = Usual {
            pacing: Pacing::Open {
                rate: Rate::OfPeak(0.5),
                arrivals: Arrivals::Poisson,
            },
            hiccups: Some(MAIN_HICCUPS),
        };
        let job = match cli.scenario {
            None => mixed("main", cli.main, half)?,
            Some(Scenario::Tell(args)) => load("tell", args, 0, usual)?,
            Some(Scenario::Ask(args)) => load("ask", args, 100, usual)?,
            Some(Scenario::Entities(args)) => mixed("entities", args, usual)?,
            Some(Scenario::Ring(args)) => ring(args),
            Some(Scenario::FanOut(args)) => fan_out(args),
            Some(Scenario::Balancer(args)) => args.into(),
            Some(Scenario::Replay(args)) => replay(args)?,
            Some(Scenario::Wire(args)) => args.job()?,
        };
        distinct_outputs(&job.common.output)?;
        Ok(job)
    }

    /// The scenario's name.
    #[must_use]
    pub fn scenario(&self) -> &'static str {
        match &self.work {
            Work::Load(load) => load.name,
            Work::Ring(_) => "ring",
            Work::FanOut(_) => "fan-out",
            Work::Balancing(_) => "balancer",
            Work::Replay(_) => "replay",
            Work::Wire(_) => "wire",
        }
    }

    /// The settings for the report; the caller adds the runtime's.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        let mut settings = match &self.work {
            Work::Load(load) => vec![
                Setting::new("entities", units::grouped(load.entities)),
                Setting::new("keys", load.keys),
                Setting::new("mix", mix_text(load.traffic.ask_percent)),
                Setting::new("payload", format!("{} bytes", load.traffic.payload_bytes)),
                Setting::new("drivers", load.drivers),
            ],
            Work::Ring(ring) => vec![
                Setting::new("actors", ring.actors),
                Setting::new("tokens", ring.tokens),
                Setting::new("payload", format!("{} bytes", ring.payload_bytes)),
            ],
            Work::FanOut(fan_out) => vec![
                Setting::new("receivers", fan_out.receivers),
                Setting::new("rounds", fan_out.rounds),
                Setting::new("payload", format!("{} bytes", fan_out.payload_bytes)),
            ],
            Work::Balancing(balancing) => balancing.settings(),
            Work::Replay(replay) => vec![
                Setting::new(
                    "input",
                    replay
                        .input
                        .as_ref()
                        .map_or("built-in flights".into(), |p| p.to_string_lossy()),
                ),
                Setting::new("key", &replay.key),
                Setting::new("sum", replay.sums.join(", ")),
            ],
            Work::Wire(wire) => wire.settings(),
        };
        if let Some(nodes) = &self.nodes {
            settings.extend(nodes.settings());
        }
        if let Work::Load(load) = &self.work
            && !load.hiccups.is_zero()
        {
            let time = units::duration(load.hiccups);
            settings.push(Setting::new(
                &format!("phase {MACHINE}"),
                format!("spinning, {time} on the CPU of each core"),
            ));
        }
        for phase in self.phases() {
            let time = format!(
                "{} after {} of warm-up",
                units::duration(phase.duration),
                units::duration(phase.warm_up)
            );
            settings.push(Setting::new(
                &format!("phase {}", phase.name),
                format!("{}, {time}", phase.pacing),
            ));
        }
        settings
    }

    /// The phases, none for the replay.
    #[must_use]
    pub fn phases(&self) -> &[PhaseSpec] {
        match &self.work {
            Work::Load(load) => &load.phases,
            Work::Ring(ring) => std::slice::from_ref(&ring.phase),
            Work::FanOut(fan_out) => std::slice::from_ref(&fan_out.phase),
            Work::Balancing(balancing) => &balancing.phases,
            Work::Replay(_) | Work::Wire(_) => &[],
        }
    }
}

fn ring(args: RingArgs) -> Job {
    let work = Work::Ring(Ring {
        actors: args.actors,
        tokens: args.tokens,
        payload_bytes: args.message.payload,
        phase: only_phase("ring", args.tokens, &args.timing),
    });
    timed(work, &args.timing, args.common)
}

fn fan_out(args: FanOutArgs) -> Job {
    let work = Work::FanOut(FanOut {
        receivers: args.receivers,
        rounds: args.rounds,
        payload_bytes: args.message.payload,
        phase: only_phase("fan-out", args.rounds, &args.timing),
    });
    timed(work, &args.timing, args.common)
}

/// The phase of a scenario that has one only, a closed loop.
fn only_phase(name: &'static str, in_flight: u32, timing: &TimingArgs) -> PhaseSpec {
    PhaseSpec {
        name,
        pacing: Pacing::Closed { in_flight },
        warm_up: timing.warmup,
        duration: timing.duration,
    }
}

fn timed(work: Work, timing: &TimingArgs, common: CommonArgs) -> Job {
    Job {
        work,
        seed: timing.seed,
        common,
        nodes: None,
    }
}

fn mix_text(ask_percent: u8) -> String {
    super::cli::Mix { ask_percent }.to_string()
}

fn mixed(name: &'static str, args: MixedArgs, usual: Usual) -> Result<Job, Contradiction> {
    load(name, args.load, args.mix.ask_percent, usual)
}

fn load(
    name: &'static str,
    args: LoadArgs,
    ask_percent: u8,
    usual: Usual,
) -> Result<Job, Contradiction> {
    let pacing = args.pacing.pacing(usual.pacing);
    let hiccups = hiccups(&args, pacing, usual)?;
    let nodes = args.nodes.nodes(&args.common.pinning)?;
    if let Some(nodes) = &nodes {
        if args.drivers.drivers != Drivers::Cores {
            return Err(Contradiction::ThreadsOfNodes);
        }
        if matches!(pacing, Pacing::Search { .. }) {
            return Err(Contradiction::SaturationOfNodes);
        }
        let duration = args.timing.duration;
        if let Some(late) = nodes.faults.iter().find(|fault| fault.at >= duration) {
            return Err(Contradiction::FaultTooLate {
                fault: late.to_string(),
                duration: units::duration(duration),
            });
        }
    }
    let work = Work::Load(Load {
        name,
        entities: args.population.entities,
        keys: args.population.keys,
        traffic: Traffic {
            payload_bytes: args.message.payload,
            ask_percent,
        },
        drivers: args.drivers.drivers,
        hiccups,
        phases: phases(&args.timing, pacing),
    });
    Ok(Job {
        nodes,
        ..timed(work, &args.timing, args.common)
    })
}

fn phases(timing: &TimingArgs, pacing: Pacing) -> Vec<PhaseSpec> {
    let phase = |name, pacing| PhaseSpec {
        name,
        pacing,
        warm_up: timing.warmup,
        duration: timing.duration,
    };
    match pacing {
        Pacing::Closed { .. } => vec![phase("closed", pacing)],
        Pacing::Open {
            rate: Rate::PerSecond(_),
            ..
        } => vec![phase("open", pacing)],
        Pacing::Search { .. } => vec![phase(SATURATION, pacing)],
        Pacing::Open {
            rate: Rate::OfPeak(_),
            ..
        } => {
            vec![
                phase(
                    "peak",
                    Pacing::Closed {
                        in_flight: PEAK_IN_FLIGHT,
                    },
                ),
                phase("open", pacing),
            ]
        }
    }
}

/// How long the machine is listened to, which only an open loop does: a closed one waits with the machine and does not
/// see what it misses. Refuses the flags that belong to open loops where there is none.
fn hiccups(args: &LoadArgs, pacing: Pacing, usual: Usual) -> Result<Duration, Contradiction> {
    let given = args.pacing.hiccups;
    match pacing {
        Pacing::Closed { .. } if args.pacing.arrivals.is_some() => {
            Err(Contradiction::WithoutOpenLoop("arrivals"))
        }
        Pacing::Closed { .. } if given.is_some() => Err(Contradiction::WithoutOpenLoop("hiccups")),
        Pacing::Closed { .. } => Ok(Duration::ZERO),
        Pacing::Open { .. } | Pacing::Search { .. } => {
            let part = args.timing.duration / HICCUPS_PART;
            let part = part.clamp(HICCUPS_LEAST, HICCUPS_MOST);
            Ok(given.or(usual.hiccups).unwrap_or(part))
        }
    }
}

fn replay(args: ReplayArgs) -> Result<Job, Contradiction> {
    if let Some(at) = (1..args.sum.len()).find(|&at| args.sum[..at].contains(&args.sum[at])) {
        return Err(Contradiction::ColumnTwice(args.sum[at].clone()));
    }
    let mut objectives = args.common.output.slo.iter();
    if let Some(slo) = objectives.find(|slo| slo.quantity != Quantity::Rate) {
        return Err(Contradiction::LatencyOfReplay(slo.to_string()));
    }
    let nodes = args.nodes.nodes(&args.common.pinning)?;
    let mut faults = nodes.iter().flat_map(|nodes| &nodes.faults);
    if let Some(fault) = faults.find(|fault| fault.kind.takes_a_node()) {
        return Err(Contradiction::LosesRows(fault.kind.name()));
    }
    if let Some(nodes) = &nodes {
        if nodes.local_ratio.is_some() {
            return Err(Contradiction::LocalRatioOfReplay);
        }
        if nodes.count < 2 && !nodes.faults.is_empty() {
            return Err(Contradiction::AloneInReplay);
        }
    }
    let work = Work::Replay(Replay {
        input: args.input,
        key: args.key,
        sums: args.sum,
        show: args.show as usize,
        moves_per_second: args.moves,
        lose: args.lose,
    });
    Ok(Job {
        work,
        seed: 0,
        common: args.common,
        nodes,
    })
}

fn distinct_outputs(output: &OutputArgs) -> Result<(), Contradiction> {
    let files = [
        ("baseline", &output.baseline),
        ("json", &output.json),
        ("hgrm", &output.hgrm),
        ("html", &output.html),
    ];
    let given: Vec<_> = files
        .iter()
        .filter_map(|(flag, path)| path.as_ref().map(|path| (*flag, path)))
        .collect();
    for (at, &(second, path)) in given.iter().enumerate() {
        let same = |other: &PathBuf| absolute(other).ok() == absolute(path).ok();
        if let Some(&(first, _)) = given[..at].iter().find(|(_, earlier)| same(earlier)) {
            return Err(Contradiction::OutputTwice {
                first,
                second,
                path: path.clone(),
            });
        }
    }
    Ok(())
}
