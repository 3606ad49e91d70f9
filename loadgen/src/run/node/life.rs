//! The process of a node: it becomes what its first order says, does what the others say, and ends with its parent.

use std::ffi::OsString;
use std::io::{self, BufReader};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::time::Duration;

use corecast::node::cluster::expert::Profile;
use corecast::{
    ActorRef, ClusterChanged, ClusterView, CoreId, EntityType, Event, Handle, Mailbox, MemberDown,
    MemberLeft, MemberUp, NodeId, ReachableMember, Region, Runtime, RuntimeBuilder, Time,
    UnreachableMember,
};

use super::entity::{MemberEntity, ToMember};
use super::feeding::{Feed, Feeding};
use super::handled::{Handled, MAX_DRIVERS};
use super::measuring::{Answerer, Sink, WireRegions};
use super::mouth::Mouth;
use super::owners::Owners;
use super::phase::{MemberPhase, Scene};
use super::settings;
use super::tallies::{ClusterTally, ToClusterTally};
use super::watcher::{Answers, ToWatcher, Watcher};
use crate::cluster::lines::read_line;
use crate::cluster::process::die_with_parent;
use crate::cluster::protocol::{
    AnsweredNews, Beat, EventNews, MemberEventKind, News, Order, PhaseOrder, Setup, ViewNews,
    WireNews,
};
use crate::exit::Outcome;
use crate::options::{Cli, Job, Load, Replay, Work};
use crate::replay::{Columns, Source};
use crate::run::clock::Clock;
use crate::run::entity::MAILBOX;
use crate::run::error::RunError;
use crate::run::interrupt::Interrupt;
use crate::run::memory::{peak_bytes, resident_bytes};
use crate::run::stage::{PATIENCE, Stage};

/// How often the node looks after what is under way.
const TICK: Duration = Duration::from_millis(10);
/// How often it says how it goes.
const BEAT: Duration = Duration::from_millis(200);
/// How often it asks its coordination core where shards are.
const LOOK_AT_OWNERS: Duration = Duration::from_millis(50);
/// Orders that wait.
const ORDERS: usize = 1_024;
/// Member events and views that wait to be said.
const EVENTS: usize = 10_000;

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

/// What a node has of the job.
enum Part {
    Load(Load, Region<u64, ToMember>, Arc<Owners>),
    Replay(Replay, Region<String, ToClusterTally>),
    Wire(WireRegions),
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
    answered: (Sender<AnsweredNews>, Receiver<AnsweredNews>),
    measured: (Sender<WireNews>, Receiver<WireNews>),
    last_beat: Time,
}

impl Life {
    fn begin(setup: Setup, job: Job, mouth: Mouth) -> Result<Life, RunError> {
        // The comparison with bare TCP has none of its own: nothing fails there.
        let profile = job
            .nodes
            .as_ref()
            .map_or(Profile::Fast, |nodes| nodes.profile);
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
        life.watch_members(&stage)?;
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
            Order::Phase(order) => self.phase = Some(self.begin_phase(&order)?),
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
            Order::Hit { fault: _, at_ns } => {
                self.tell_watcher(ToWatcher::Hit(Time::from_nanos(at_ns)))?
            }
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

    fn allocate(&self) -> Result<(), RunError> {
        let handle = &self.stage()?.handle;
        match &self.part {
            Part::Load(_, region, owners) => {
                for key in owners.keys_of_nobody() {
                    handle.tell(region.entity(&key), ToMember::Nothing);
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

    fn begin_phase(&self, order: &PhaseOrder) -> Result<MemberPhase, RunError> {
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
        };
        MemberPhase::begin(self.stage()?, &scene, order)
    }

    fn close(&mut self) -> Result<(), RunError> {
        if let Some(phase) = self.phase.take() {
            phase.abandon();
            let news = phase.close(self.stage()?)?;
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
            let tally = answer.wait().map_err(|why| RunError::Lost {
                what: format!("the answer of entity '{key}'"),
                why,
            })?;
            Ok((key, tally))
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

    /// Says what happens among the members.
    fn watch_members(&self, stage: &Stage) -> Result<(), RunError> {
        let cluster = stage.handle.cluster();
        let cluster = cluster.ok_or_else(|| RunError::Node("this is no cluster".to_owned()))?;
        let (handle, clock) = (&stage.handle, stage.clock);
        let mouth = &self.mouth;
        tell::<MemberUp>(handle, clock, mouth, MemberEventKind::Up, |e| e.member.node)?;
        tell::<MemberLeft>(handle, clock, mouth, MemberEventKind::Left, |e| {
            e.member.node
        })?;
        tell::<MemberDown>(handle, clock, mouth, MemberEventKind::Down, |e| {
            e.member.node
        })?;
        let (gone, back) = (MemberEventKind::Unreachable, MemberEventKind::Reachable);
        tell::<UnreachableMember>(handle, clock, mouth, gone, |e| e.member.node)?;
        tell::<ReachableMember>(handle, clock, mouth, back, |e| e.member.node)?;
        let changes = cluster
            .changes(EVENTS)
            .map_err(|error| RunError::Node(error.to_string()))?;
        mouth.say(&News::View(view(&cluster.state())));
        let mouth = mouth.clone();
        thread("views", move || {
            for ClusterChanged(changed) in changes {
                mouth.say(&News::View(view(&changed)));
            }
        })
    }
}

/// Registers the entity types of the job, and who owns them.
type Registered = (Part, Vec<(corecast::EntityTypeId, Arc<Owners>)>);

fn register(
    builder: &mut RuntimeBuilder,
    setup: &Setup,
    job: &Job,
) -> Result<Registered, RunError> {
    let shards = corecast::actor::entity::DEFAULT_SHARDS;
    let mailbox = Mailbox::bounded(MAILBOX);
    match &job.work {
        Work::Load(load) => {
            let region = builder.entities(
                EntityType::captured("loadgen.entity", |_: &u64| MemberEntity::default())
                    .mailbox(mailbox)
                    .clustered(),
            );
            let owners = Arc::new(Owners::new(setup.node, shards, |key| region.shard_of(&key)));
            let of_type = vec![(region.type_id(), owners.clone())];
            Ok((Part::Load(load.clone(), region, owners), of_type))
        }
        Work::Replay(replay) => {
            let sums = replay.sums.len();
            let make = move |_: &String| ClusterTally::new(sums);
            let region = builder.entities(
                EntityType::captured("loadgen.tally", make)
                    .mailbox(mailbox)
                    .clustered(),
            );
            let shard_of = |key: u64| region.shard_of(&key.to_string());
            let owners = Arc::new(Owners::new(setup.node, shards, shard_of));
            let of_type = vec![(region.type_id(), owners)];
            Ok((Part::Replay(replay.clone(), region), of_type))
        }
        Work::Wire(_) => {
            let small = builder.entities(
                EntityType::ephemeral("loadgen.small", |_: &u64| Sink::<64>)
                    .mailbox(mailbox)
                    .clustered(),
            );
            let large = builder.entities(
                EntityType::ephemeral("loadgen.large", |_: &u64| Sink::<1024>)
                    .mailbox(mailbox)
                    .clustered(),
            );
            let echo = builder
                .entities(EntityType::ephemeral("loadgen.echo", |_: &u64| Answerer).clustered());
            let me = setup.node;
            let of_small = Arc::new(Owners::new(me, shards, |key| small.shard_of(&key)));
            let of_large = Arc::new(Owners::new(me, shards, |key| large.shard_of(&key)));
            let of_echo = Arc::new(Owners::new(me, shards, |key| echo.shard_of(&key)));
            let owners = vec![
                (small.type_id(), of_small.clone()),
                (large.type_id(), of_large.clone()),
                (echo.type_id(), of_echo.clone()),
            ];
            let regions = WireRegions {
                small: (small, of_small),
                large: (large, of_large),
                echo: (echo, of_echo),
            };
            Ok((Part::Wire(regions), owners))
        }
        _ => Err(RunError::Node(
            "this scenario is for one runtime".to_owned(),
        )),
    }
}

fn columns(replay: &Replay) -> Columns {
    Columns {
        key: replay.key.clone(),
        sums: replay.sums.clone(),
    }
}

fn watch_owners(
    handle: Handle,
    types: Vec<(corecast::EntityTypeId, Arc<Owners>)>,
) -> Result<(), RunError> {
    thread("owners", move || {
        loop {
            // It answers nothing more when the runtime has ended.
            match handle.topology().wait_for(PATIENCE) {
                Ok(Some(topology)) => types
                    .iter()
                    .for_each(|(id, owners)| owners.update(&topology, *id)),
                Ok(None) => return,
                Err(_) => {}
            }
            std::thread::sleep(LOOK_AT_OWNERS);
        }
    })
}

fn tell<E: Event>(
    handle: &Handle,
    clock: Clock,
    mouth: &Mouth,
    what: MemberEventKind,
    node: fn(&E) -> NodeId,
) -> Result<(), RunError> {
    let events = handle
        .events::<E>(EVENTS)
        .map_err(|error| RunError::Node(error.to_string()))?;
    let mouth = mouth.clone();
    thread("events", move || {
        for event in events {
            mouth.say(&News::Event(EventNews {
                at_ns: clock.now().as_nanos(),
                what,
                node: node(&event).0,
            }));
        }
    })
}

fn view(view: &ClusterView) -> ViewNews {
    use corecast::ClusterPhase;
    ViewNews {
        life: match &view.phase {
            ClusterPhase::Member(life) => Some(life.0),
            _ => None,
        },
        ended: view.end().map(ToString::to_string),
        up: view
            .up()
            .map(|member| (member.node.0, member.incarnation.0))
            .collect(),
        leader: view.leader.map_or(0, |leader| leader.0),
        quorum: view.has_quorum,
        obstacle: view.obstacle.as_ref().map(ToString::to_string),
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), RunError> {
    let spawned = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work);
    spawned.map(drop).map_err(RunError::Thread)
}
