//! The process of a node: it becomes what its first order says, does what the others say, and ends with its parent.

use std::ffi::OsString;
use std::io::{self, BufReader};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::time::Duration;

use corecast::node::cluster::expert::Profile;
use corecast::{ActorRef, CoreId, Mailbox, Runtime, Time};

use super::entity::ToMember;
use super::feeding::{Feed, Feeding};
use super::handled::{Handled, MAX_DRIVERS};
use super::members::watch_members;
use super::mouth::Mouth;
use super::owners::Owners;
use super::part::{Part, columns, register, watch_owners};
use super::phase::{MemberPhase, Scene};
use super::probes::{OpenProbes, Probes};
use super::settings;
use super::tallies::ToClusterTally;
use super::watcher::{Answers, ToWatcher, Watcher};
use crate::cluster::lines::read_line;
use crate::cluster::process::die_with_parent;
use crate::cluster::protocol::{AnsweredNews, Beat, News, Order, PhaseOrder, Setup, WireNews};
use crate::exit::Outcome;
use crate::options::{Cli, Job};
use crate::replay::Source;
use crate::run::clock::Clock;
use crate::run::error::RunError;
use crate::run::interrupt::Interrupt;
use crate::run::memory::{peak_bytes, resident_bytes};
use crate::run::stage::{PATIENCE, Stage};

/// How often the node looks after what is under way.
const TICK: Duration = Duration::from_millis(10);
/// How often it says how it goes.
const BEAT: Duration = Duration::from_millis(200);
/// How long a shard may take to be given to somebody and to answer.
const ALLOCATED_WITHIN: Duration = Duration::from_secs(5);
/// Orders that wait.
const ORDERS: usize = 1_024;

/// Runs a node: `arguments` are the number of the process that started it, the node's number, and the job's flags.
#[must_use]
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mouth = Mouth::new();
    match try_run(arguments, &mouth) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            mouth.say(&News::Failed(why));
            Outcome::Failed.into()
        }
    }
}

fn try_run(mut arguments: impl Iterator<Item = OsString>, mouth: &Mouth) -> Result<(), String> {
    let parent = arguments
        .next()
        .and_then(|word| word.to_str()?.parse().ok());
    let parent = parent.ok_or("a node is started by loadgen --nodes, not by hand")?;
    die_with_parent(parent).map_err(|error| error.to_string())?;
    // Its number is for people who look at processes: the first order has it as well.
    let flags = std::iter::once("loadgen".into()).chain(arguments.skip(1));
    let job = Cli::job(flags).map_err(|error| error.to_string())?;
    let orders = listen(mouth)?;
    let Ok(Order::Begin(setup)) = orders.recv() else {
        return Err("the first order does not say which node this is".to_owned());
    };
    let mut life = Life::begin(setup, job, mouth.clone()).map_err(|error| error.to_string())?;
    life.go_on(&orders).map_err(|error| error.to_string())
}

/// Orders as they come. The process ends with its input.
fn listen(mouth: &Mouth) -> Result<Receiver<Order>, String> {
    let (given, orders) = sync_channel(ORDERS);
    let mouth = mouth.clone();
    let listening = std::thread::Builder::new().name("orders".to_owned());
    let listener = listening.spawn(move || {
        let mut input = BufReader::new(io::stdin());
        loop {
            match read_line(&mut input) {
                Ok(Some(order)) => {
                    if given.send(order).is_err() {
                        return;
                    }
                }
                Ok(None) => std::process::exit(0),
                Err(error) => {
                    mouth.say(&News::Failed(error.to_string()));
                    std::process::exit(1);
                }
            }
        }
    });
    listener.map(|_| orders).map_err(|error| error.to_string())
}

struct Life {
    setup: Setup,
    job: Job,
    mouth: Mouth,
    part: Part,
    owners: Vec<Arc<Owners>>,
    handled: Arc<Handled>,
    /// Taken when the runtime ends.
    stage: Option<Stage>,
    phase: Option<MemberPhase>,
    watcher: Option<ActorRef<ToWatcher>>,
    feeding: Option<Feeding>,
    probes: Probes,
    /// Those that have shards given to somebody.
    open_probes: OpenProbes,
    answered: (Sender<AnsweredNews>, Receiver<AnsweredNews>),
    measured: (Sender<WireNews>, Receiver<WireNews>),
    last_beat: Time,
}

impl Life {
    fn begin(setup: Setup, job: Job, mouth: Mouth) -> Result<Life, RunError> {
        let nodes = job.nodes.as_ref();
        // The comparison with bare TCP has none of its own.
        let profile = nodes.map_or(Profile::Default, |nodes| nodes.profile);
        let cluster = settings::cluster(&setup, profile).map_err(RunError::Node)?;
        let mut builder = Runtime::builder().cluster(cluster);
        let (part, owners) = register(&mut builder, &setup, &job)?;
        let settings = settings::runtime(&setup, &job.common.pinning);
        let mut stage = Stage::start(builder, settings, Interrupt::never())?;
        stage.clock = Clock::of_origin(setup.origin_ns);
        let cores = stage.cores();
        if cores > MAX_DRIVERS {
            return Err(RunError::Node(format!(
                "{cores} data cores are more than the {MAX_DRIVERS} that a node of loadgen has"
            )));
        }
        let handled = Arc::new(Handled::new(setup.node, setup.start, cores));
        for core in stage.handle.core_ids() {
            let handled = handled.clone();
            stage.on_core(core, move || handled.open(core.index()))?;
        }
        let life = Life {
            handled,
            phase: None,
            watcher: None,
            feeding: None,
            probes: Probes::default(),
            open_probes: OpenProbes::default(),
            answered: channel(),
            measured: channel(),
            last_beat: Time::ZERO,
            owners: owners.iter().map(|(_, owners)| owners.clone()).collect(),
            setup,
            job,
            mouth,
            part,
            stage: None,
        };
        watch_members(&stage, &life.mouth)?;
        watch_owners(stage.handle.clone(), owners)?;
        life.mouth.say(&News::Started {
            cpus: stage.cpus(),
            settings: stage.effective_settings(),
        });
        Ok(Life {
            stage: Some(stage),
            ..life
        })
    }

    fn stage(&self) -> Result<&Stage, RunError> {
        self.stage
            .as_ref()
            .ok_or_else(|| RunError::Node("the runtime of this node has ended".to_owned()))
    }

    fn go_on(&mut self, orders: &Receiver<Order>) -> Result<(), RunError> {
        while self.stage.is_some() {
            match orders.recv_timeout(TICK) {
                Ok(order) => self.obey(order)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.look()?;
        }
        Ok(())
    }

    fn obey(&mut self, order: Order) -> Result<(), RunError> {
        match order {
            Order::Begin(_) => {}
            Order::Allocate => self.allocate()?,
            Order::Books { phase, window } => {
                self.phase = Some(MemberPhase::open(self.stage()?, phase, window)?);
            }
            Order::Phase(order) => self.begin_phase(&order)?,
            Order::Cut => {
                if let Some(phase) = &self.phase {
                    phase.cut();
                }
            }
            Order::Close => self.close()?,
            Order::Watch {
                fault,
                victim,
                every_ms,
            } => self.watch(fault, victim, Duration::from_millis(every_ms))?,
            Order::Hit { fault: _, blow } => self.tell_watcher(ToWatcher::Hit(blow))?,
            Order::Unwatch => {
                self.tell_watcher(ToWatcher::End)?;
                self.watcher = None;
            }
            Order::Feed(order) => {
                if let Part::Replay(replay, region) = &self.part {
                    let feed = Feed {
                        source: Source::new(replay.input.clone()),
                        columns: columns(replay),
                        node: self.setup.node,
                        nodes: self.setup.nodes,
                        lose: replay.lose,
                        handle: self.stage()?.handle.clone(),
                        region: *region,
                    };
                    self.feeding = Some(Feeding::begin(feed, order)?);
                }
            }
            Order::Grant(rows) => {
                if let Some(feeding) = &self.feeding {
                    feeding.grant(rows);
                }
            }
            Order::Tell(keys) => self.tell_tallies(keys)?,
            Order::Wire(order) => {
                if let Part::Wire(regions) = &self.part {
                    regions.measure(self.stage()?, order, self.measured.0.clone())?;
                }
            }
            Order::Leave => self.leave()?,
        }
        Ok(())
    }

    /// Says what has come about since the last look.
    fn look(&mut self) -> Result<(), RunError> {
        let Some(stage) = &self.stage else {
            return Ok(());
        };
        let now = stage.clock.now();
        if let Some(phase) = &mut self.phase
            && phase.has_just_ended(now)
        {
            let phase = phase.number();
            self.mouth.say(&News::Driven { phase });
        }
        self.open_probes.settle(&self.probes);
        while let Ok(answered) = self.answered.1.try_recv() {
            self.mouth.say(&News::Answered(answered));
        }
        while let Ok(measured) = self.measured.1.try_recv() {
            self.mouth.say(&News::Wire(measured));
        }
        if let Some(fed) = self.feeding.as_mut().and_then(Feeding::ended) {
            self.mouth.say(&News::Fed(fed?));
        }
        if now - self.last_beat >= BEAT {
            self.last_beat = now;
            self.beat();
        }
        Ok(())
    }

    fn beat(&self) {
        let board = self.phase.as_ref().map(MemberPhase::board);
        let counts = self.owners.iter().map(|owners| owners.counts());
        let (owned, unowned) = counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        self.mouth.say(&News::Beat(Beat {
            completed: board.map_or(0, |board| board.completed()),
            latency_ns: board.and_then(|board| board.latency()),
            resident: resident_bytes(),
            peak: peak_bytes(),
            owned,
            unowned,
            shards: self.owners.iter().map(|owners| owners.shards()).sum(),
            fed: self.feeding.as_ref().map_or(0, Feeding::next),
        }));
    }

    fn allocate(&mut self) -> Result<(), RunError> {
        let handle = self.stage()?.handle.clone();
        let handle = &handle;
        match &self.part {
            Part::Load(_, region, owners) => {
                for key in owners.keys_of_nobody() {
                    let probe =
                        handle.ask_within(ALLOCATED_WITHIN, region.entity(&key), |reply_to| {
                            ToMember::Ask {
                                reply_to,
                                payload: Vec::new(),
                            }
                        });
                    self.open_probes.push(probe);
                }
            }
            Part::Replay(_, region) => {
                let owners = self.owners.iter();
                for key in owners.flat_map(|owners| owners.keys_of_nobody()) {
                    let id = key.to_string();
                    handle.tell(region.entity(&id), ToClusterTally::Nothing);
                }
            }
            Part::Wire(regions) => regions.allocate(handle),
        }
        Ok(())
    }

    fn begin_phase(&mut self, order: &PhaseOrder) -> Result<(), RunError> {
        let opened = self.phase.take();
        let mut phase = match opened.filter(|phase| phase.is_opened_for(order)) {
            Some(phase) => phase,
            None => MemberPhase::open(self.stage()?, order.phase, order.window)?,
        };
        let Part::Load(load, region, owners) = &self.part else {
            return Err(RunError::Node("this job has no phases".to_owned()));
        };
        let scene = Scene {
            setup: &self.setup,
            load,
            seed: self.job.seed,
            local_ratio: self.job.nodes.as_ref().and_then(|nodes| nodes.local_ratio),
            region: *region,
            handled: &self.handled,
            owners,
            probes: &self.probes,
        };
        phase.drive(self.stage()?, &scene, order)?;
        self.phase = Some(phase);
        Ok(())
    }

    fn close(&mut self) -> Result<(), RunError> {
        if let Some(phase) = self.phase.take() {
            let news = phase.close(self.stage()?, &self.probes)?;
            self.beat();
            self.mouth.say(&News::Phase(Box::new(news)));
        }
        Ok(())
    }

    fn watch(&mut self, fault: u32, victim: u32, every: Duration) -> Result<(), RunError> {
        let Part::Load(_, region, owners) = &self.part else {
            self.mouth.say(&News::Watching { fault, shards: 0 });
            return Ok(());
        };
        let keys = owners.keys_of(victim);
        let shards = keys.len() as u32;
        let stage = self.stage()?;
        let mut watcher = Some(Watcher {
            fault,
            region: *region,
            clock: stage.clock,
            every,
            answers: Answers::new(keys.len()),
            probes: self.probes.clone(),
            keys,
            found: self.answered.0.clone(),
        });
        let make = move || watcher.take().expect("it is made once");
        let spawned = stage
            .handle
            .spawn_with(CoreId(0), Mailbox::unbounded(), make);
        let watcher = spawned.wait()?;
        stage.handle.tell(watcher, ToWatcher::Go);
        self.watcher = Some(watcher);
        self.mouth.say(&News::Watching { fault, shards });
        Ok(())
    }

    fn tell_watcher(&self, message: ToWatcher) -> Result<(), RunError> {
        if let Some(watcher) = self.watcher {
            self.stage()?.handle.tell(watcher, message);
        }
        Ok(())
    }

    fn tell_tallies(&self, keys: Vec<String>) -> Result<(), RunError> {
        let Part::Replay(_, region) = &self.part else {
            return Ok(());
        };
        let handle = &self.stage()?.handle;
        let asked: Vec<_> = keys
            .into_iter()
            .map(|key| {
                let answer = handle.ask_within(
                    Duration::from_secs(30),
                    region.entity(&key),
                    ToClusterTally::Report,
                );
                (key, answer)
            })
            .collect();
        let told = asked.into_iter().map(|(key, answer)| {
            let held = answer.wait().map_err(|why| RunError::Lost {
                what: format!("the answer of entity '{key}'"),
                why,
            })?;
            Ok((key, held))
        });
        let tallies = told.collect::<Result<_, RunError>>()?;
        self.mouth.say(&News::Tallies(tallies));
        Ok(())
    }

    /// Ends in order: what this node has begun comes to its end, then it leaves.
    fn leave(&mut self) -> Result<(), RunError> {
        if let Some(phase) = &mut self.phase {
            phase.cut();
            let until = std::time::Instant::now() + PATIENCE;
            while phase.is_running() && std::time::Instant::now() < until {
                phase.has_just_ended(Time::ZERO);
                std::thread::sleep(TICK);
            }
        }
        self.close()?;
        if let Some(fed) = self.feeding.take().and_then(Feeding::end) {
            self.mouth.say(&News::Fed(fed?));
        }
        let Some(stage) = self.stage.take() else {
            return Ok(());
        };
        let report = stage.shut_down();
        self.mouth.say(&News::Ended {
            drained: report.drained,
            left: report.left,
        });
        Ok(())
    }
}
