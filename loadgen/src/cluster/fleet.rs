//! The nodes of a run from outside: their processes, what each has said last, and waiting for them.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use corecast::Time;
use rustix::process::Signal;

use super::error::{ClusterError, process_error};
use super::excuses::Excuses;
use super::place::{NodeCpus, Place};
use super::process::{Process, Said};
use super::protocol::{
    AnsweredNews, Beat, Blow, EventNews, FedNews, LASTING, News, Order, PhaseNews, Setup, ViewNews,
    WireNews,
};
use crate::options::Setting;
use crate::replay::Held;
use crate::run::clock::Clock;

/// The word that makes the program a node.
pub const NODE: &str = "node";
/// What nodes have said and nobody has heard yet. A node that says more waits: none of its cores does.
const UNHEARD: usize = 4_096;
/// How long the cluster may take to form, and to be whole again after a fault.
pub const WHOLE_WITHIN: Duration = Duration::from_secs(90);
/// How long a process may take to be gone that says nothing more.
const GONE_WITHIN: Duration = Duration::from_secs(1);
/// How often shards without an owner are sent to.
const ALLOCATED_EVERY: Duration = Duration::from_millis(500);
/// Member events that are kept of each node; all are counted.
const MAX_EVENTS: usize = 10_000;

/// All nodes.
#[derive(Debug)]
pub struct Fleet {
    /// The nodes, by their numbers.
    pub nodes: Vec<Node>,
    /// Which events faults explain.
    pub excuses: Excuses,
    place: Place,
    clock: Clock,
    /// When shards were last allocated.
    allocated: Time,
    program: PathBuf,
    arguments: Vec<OsString>,
    spin_ns: Option<u64>,
    said: SyncSender<Heard>,
    hears: Receiver<Heard>,
}

/// One node, over all of its lives.
#[derive(Debug)]
pub struct Node {
    /// Its number, from 1.
    pub id: u32,
    /// Its CPUs.
    pub cpus: NodeCpus,
    /// How often its process has been started.
    pub starts: u32,
    /// Its settings for people.
    pub settings: Vec<Setting>,
    /// What it knows of the cluster; nothing while it has no process.
    pub view: ViewNews,
    /// How it goes.
    pub beat: Beat,
    /// The most memory that any of its processes had, in bytes.
    pub peak: u64,
    /// The first member events that it has told, in order.
    pub events: Vec<EventNews>,
    /// How many it has told.
    pub event_count: u64,
    /// Those that are not kept and that no fault explains.
    pub false_events_beyond: u64,
    /// The last phase that its drivers have ended.
    pub driven: u16,
    /// Figures of the phase that runs, by each of its processes that has told some.
    pub figures: Vec<PhaseNews>,
    /// How often it was told to drive in the phase that runs.
    pub driving: u32,
    /// Whether it was stopped in the phase that runs, and so could not keep a schedule.
    pub was_stopped: bool,
    /// How long it had no process in the measured time of the phase that runs, so that nobody kept its schedule.
    pub away: Duration,
    /// Processes of it whose figures of the phase died with them.
    pub lost_figures: u32,
    /// What it said of the fault that runs.
    pub watching: Option<(u32, u32)>,
    /// When the victim's shards answered it again.
    pub answered: Option<AnsweredNews>,
    /// What it has sent of a file.
    pub fed: Option<FedNews>,
    /// What entities hold, as it was told.
    pub tallies: Vec<Vec<(String, Held)>>,
    /// A measurement.
    pub wire: Option<WireNews>,
    /// Whether it left in order, once it has ended by being told to.
    pub ended: Option<(bool, Option<bool>)>,
    process: Option<Process>,
    is_started: bool,
    /// Its process may end.
    may_end: bool,
}

type Heard = (u32, u32, Said<News>);

impl Fleet {
    /// Nodes at a place, none of which has been started. `arguments` are those of this program without its name: nodes
    /// read them as well.
    ///
    /// # Errors
    /// When this program cannot be found.
    pub fn new(
        place: Place,
        cpus: Vec<NodeCpus>,
        arguments: Vec<OsString>,
    ) -> Result<Fleet, ClusterError> {
        let program =
            std::env::current_exe().map_err(|source| ClusterError::Start { node: 1, source })?;
        let (said, hears) = sync_channel(UNHEARD);
        Ok(Fleet {
            nodes: (1..)
                .zip(cpus)
                .map(|(id, cpus)| Node::new(id, cpus))
                .collect(),
            excuses: Excuses::default(),
            place,
            clock: Clock::new(),
            allocated: Time::ZERO,
            program,
            arguments,
            spin_ns: None,
            said,
            hears,
        })
    }

    /// How long idle cores poll, in the nodes that are started from now on.
    pub fn set_spin(&mut self, spin: Duration) {
        self.spin_ns = Some(u64::try_from(spin.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The time by the clock of the run.
    #[must_use]
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// One node.
    #[must_use]
    pub fn node(&self, id: u32) -> &Node {
        &self.nodes[id as usize - 1]
    }

    /// One node.
    pub fn node_mut(&mut self, id: u32) -> &mut Node {
        &mut self.nodes[id as usize - 1]
    }

    /// The numbers of all nodes.
    #[must_use]
    pub fn ids(&self) -> std::ops::RangeInclusive<u32> {
        1..=self.nodes.len() as u32
    }

    /// Starts the process of a node.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, id: u32) -> Result<(), ClusterError> {
        let mut command = match self.place.namespaces() {
            Some(namespaces) => namespaces.inside(id, &self.program),
            None => Command::new(&self.program),
        };
        command.args([NODE, &std::process::id().to_string(), &id.to_string()]);
        command.args(&self.arguments);
        let (said, starts) = (self.said.clone(), self.node(id).starts + 1);
        let failed = |source| ClusterError::Start { node: id, source };
        let mut process =
            Process::start(command, said, move |news| (id, starts, news)).map_err(failed)?;
        let cpus = self.node(id).cpus.clone();
        let setup = Setup {
            node: id,
            nodes: self.nodes.len() as u32,
            start: starts,
            bind: self.place.address(id).to_owned(),
            seeds: self.place.seeds(),
            data: self.place.data(id),
            cpus: cpus.data,
            coordination: cpus.coordination,
            shares_cpus: cpus.is_shared,
            spin_ns: self.spin_ns,
            origin_ns: self.clock.origin_ns(),
        };
        let told = process.tell(&Order::Begin(setup));
        told.map_err(|source| process_error(id, "told who it is", source))?;
        let node = self.node_mut(id);
        node.starts = starts;
        node.process = Some(process);
        node.is_started = false;
        node.may_end = false;
        node.ended = None;
        node.driven = 0;
        node.view = ViewNews::default();
        node.beat = Beat::default();
        Ok(())
    }

    /// Tells a node something, if it has a process.
    ///
    /// # Errors
    /// When it does not listen any more.
    pub fn tell(&mut self, id: u32, order: &Order) -> Result<(), ClusterError> {
        let told = match &mut self.node_mut(id).process {
            None => return Ok(()),
            Some(process) => process.tell(order),
        };
        told.map_err(|source| match source.kind() {
            // Nobody reads what it is told.
            io::ErrorKind::BrokenPipe => self.gone(id, None),
            _ => process_error(id, "told", source),
        })
    }

    /// The error of a process that is gone; `said` is what could not be understood of it.
    fn gone(&mut self, node: u32, said: Option<String>) -> ClusterError {
        let process = self.node_mut(node).process.as_mut();
        let status = process.and_then(|process| process.wait_for(GONE_WITHIN).ok().flatten());
        let known = [status.map(|status| status.to_string()), said];
        let known: Vec<String> = known.into_iter().flatten().collect();
        ClusterError::Gone {
            node,
            why: match known.is_empty() {
                true => String::new(),
                false => format!(" ({})", known.join(", ")),
            },
        }
    }

    /// Tells all nodes something.
    ///
    /// # Errors
    /// As [`tell`](Fleet::tell).
    pub fn tell_all(&mut self, order: &Order) -> Result<(), ClusterError> {
        self.ids().try_for_each(|id| self.tell(id, order))
    }

    /// Kills the process of a node, and returns when. It is gone by then: nothing of it answers any more.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn kill(&mut self, id: u32) -> Result<Blow, ClusterError> {
        let begun = self.clock.now();
        let node = self.node_mut(id);
        node.may_end = true;
        node.view = ViewNews::default();
        node.beat = Beat::default();
        if let Some(process) = node.process.take() {
            process
                .kill()
                .map_err(|source| process_error(id, "killed", source))?;
        }
        Ok(self.blow(begun))
    }

    /// Stops the process of a node, or has it go on; returns when. All of its threads stand still by then.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn pause(&mut self, id: u32, is_paused: bool) -> Result<Blow, ClusterError> {
        let (signal, what) = match is_paused {
            true => (Signal::STOP, "stopped"),
            false => (Signal::CONT, "continued"),
        };
        let begun = self.clock.now();
        if let Some(process) = &self.node(id).process {
            let failed = |source| process_error(id, what, source);
            process.signal(signal).map_err(failed)?;
            if is_paused {
                process.wait_until_stopped().map_err(failed)?;
            }
        }
        Ok(self.blow(begun))
    }

    /// Cuts the link of a node, or mends it; returns when. It takes a process of its own to do that, some milliseconds.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn set_link(&mut self, id: u32, is_up: bool) -> Result<Blow, ClusterError> {
        let begun = self.clock.now();
        if let Some(namespaces) = self.place.namespaces() {
            namespaces
                .set_link(id, is_up)
                .map_err(|source| ClusterError::Link { node: id, source })?;
        }
        Ok(self.blow(begun))
    }

    /// Tells a node to leave and end, which it may from now on. It goes on answering until its shards are elsewhere.
    ///
    /// # Errors
    /// When it does not listen any more.
    pub fn leave(&mut self, id: u32) -> Result<Blow, ClusterError> {
        self.node_mut(id).may_end = true;
        let begun = self.clock.now();
        self.tell(id, &Order::Leave)?;
        Ok(Blow {
            begun_ns: begun.as_nanos(),
            done_ns: LASTING,
        })
    }

    fn blow(&self, begun: Time) -> Blow {
        Blow {
            begun_ns: begun.as_nanos(),
            done_ns: self.clock.now().as_nanos(),
        }
    }

    /// Waits for the end of a process that has said its last word; one that does not end is killed.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn has_ended(&mut self, id: u32, within: Duration) -> Result<(), ClusterError> {
        let node = self.node_mut(id);
        if let Some(process) = &mut node.process {
            process
                .wait_for(within)
                .map_err(|source| process_error(id, "waited for", source))?;
        }
        node.process = None;
        node.view = ViewNews::default();
        node.beat = Beat::default();
        Ok(())
    }

    /// Whether every node is a member, knows all others to be, has a leader and a lease, and all shards have an owner.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let owned: u32 = self.nodes.iter().map(|node| node.beat.owned).sum();
        let is_owned =
            |node: &Node| node.beat.unowned == 0 && node.beat.shards == owned && owned > 0;
        self.are_all_up() && self.nodes.iter().all(is_owned)
    }

    /// Whether every node is a member, knows all others to be, and has a leader and a lease.
    #[must_use]
    pub fn are_all_up(&self) -> bool {
        let all = self.nodes.len();
        self.nodes.iter().all(|node| {
            let view = &node.view;
            node.process.is_some()
                && node.is_started
                && view.life.is_some()
                && view.up.len() == all
                && view.leader != 0
                && view.quorum
        }) && self.lives_agree()
    }

    /// Has shards that nobody owns given to somebody, once all nodes are up; to be called now and then.
    ///
    /// # Errors
    /// When a node does not listen any more.
    pub fn allocate(&mut self) -> Result<(), ClusterError> {
        let now = self.clock.now();
        let has_some = |node: &Node| node.beat.unowned > 0;
        if !self.are_all_up()
            || !self.nodes.iter().any(has_some)
            || now < self.allocated + ALLOCATED_EVERY
        {
            return Ok(());
        }
        self.allocated = now;
        let id = self.nodes.iter().find(|node| has_some(node));
        let id = id.map_or(1, |node| node.id);
        self.tell(id, &Order::Allocate)
    }

    /// Nobody knows another in a life that is over.
    fn lives_agree(&self) -> bool {
        self.nodes.iter().all(|node| {
            node.view.up.iter().all(|(other, life)| {
                let index = *other as usize - 1;
                self.nodes
                    .get(index)
                    .is_some_and(|other| other.view.life == Some(*life))
            })
        })
    }

    /// Who leads, by what most nodes say.
    #[must_use]
    pub fn leader(&self) -> Option<u32> {
        let says = |id: u32| {
            let nodes = self.nodes.iter();
            nodes.filter(|node| node.view.leader == id).count()
        };
        self.ids()
            .max_by_key(|id| says(*id))
            .filter(|id| says(*id) > self.nodes.len() / 2)
    }

    /// Hears what nodes have said, for so long at most; returns as soon as there is something.
    ///
    /// # Errors
    /// When a node has failed, or its process is gone that should not be.
    pub fn hear(&mut self, limit: Duration) -> Result<(), ClusterError> {
        match self.hears.recv_timeout(limit) {
            Ok(heard) => self.take(heard)?,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
        }
        while let Ok(heard) = self.hears.try_recv() {
            self.take(heard)?;
        }
        Ok(())
    }

    /// Hears until something is so. `is_told` gives up without an error.
    ///
    /// # Errors
    /// When it is not in time, and those of [`hear`](Fleet::hear).
    pub fn wait_until(
        &mut self,
        what: &str,
        within: Duration,
        is_told: impl Fn() -> bool,
        is_so: impl Fn(&Fleet) -> bool,
    ) -> Result<(), ClusterError> {
        let until = self.clock.now() + within;
        while !is_so(self) && !is_told() {
            self.allocate()?;
            if self.clock.now() > until {
                return Err(ClusterError::Late {
                    what: what.to_owned(),
                    within,
                    state: self.state(),
                });
            }
            self.hear(Duration::from_millis(50))?;
        }
        Ok(())
    }

    /// How the nodes are, for a message.
    #[must_use]
    pub fn state(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(Node::state).collect();
        nodes.join("; ")
    }

    fn take(&mut self, (id, starts, said): Heard) -> Result<(), ClusterError> {
        let node = self.node_mut(id);
        if node.starts != starts || node.process.is_none() {
            // Of a process that was killed. Figures that it told before count.
            if let Said::News(News::Phase(figures)) = said {
                node.figures.push(*figures);
            }
            return Ok(());
        }
        let news = match said {
            Said::News(news) => news,
            Said::Silent(_) if node.may_end => {
                node.ended.get_or_insert((false, None));
                return Ok(());
            }
            Said::Silent(said) => return Err(self.gone(id, said)),
        };
        match news {
            News::Started { cpus: _, settings } => {
                node.is_started = true;
                node.settings = settings;
            }
            News::Failed(why) => return Err(ClusterError::Failed { node: id, why }),
            News::View(view) => {
                if let Some(why) = view.ended.clone().filter(|_| !node.may_end) {
                    return Err(ClusterError::Failed { node: id, why });
                }
                node.view = view;
            }
            News::Event(event) => {
                node.event_count += 1;
                if node.events.len() < MAX_EVENTS {
                    node.events.push(event);
                } else if event.what.is_trouble() && !self.excuses.explain(id, &event) {
                    self.node_mut(id).false_events_beyond += 1;
                }
            }
            News::Beat(beat) => {
                node.peak = node.peak.max(beat.peak);
                node.beat = beat;
            }
            News::Driven { phase } => node.driven = phase,
            News::Phase(figures) => node.figures.push(*figures),
            News::Watching { fault, shards } => node.watching = Some((fault, shards)),
            News::Answered(answered) => node.answered = Some(answered),
            News::Fed(fed) => node.fed = Some(fed),
            News::Tallies(tallies) => node.tallies.push(tallies),
            News::Wire(wire) => node.wire = Some(wire),
            News::Ended { drained, left } => node.ended = Some((drained, left)),
        }
        Ok(())
    }
}

impl Node {
    fn new(id: u32, cpus: NodeCpus) -> Node {
        Node {
            id,
            cpus,
            starts: 0,
            settings: Vec::new(),
            view: ViewNews::default(),
            beat: Beat::default(),
            peak: 0,
            events: Vec::new(),
            event_count: 0,
            false_events_beyond: 0,
            driven: 0,
            figures: Vec::new(),
            driving: 0,
            was_stopped: false,
            away: Duration::ZERO,
            lost_figures: 0,
            watching: None,
            answered: None,
            fed: None,
            tallies: Vec::new(),
            wire: None,
            ended: None,
            process: None,
            is_started: false,
            may_end: false,
        }
    }

    /// The number of its process, if it has one.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    fn state(&self) -> String {
        let (id, view, beat) = (self.id, &self.view, &self.beat);
        if self.process.is_none() {
            return format!("node {id} has no process");
        }
        let up: Vec<String> = view.up.iter().map(|(node, _)| node.to_string()).collect();
        let lease = if view.quorum { "has" } else { "has no" };
        let obstacle = view.obstacle.as_ref();
        let obstacle = obstacle.map_or(String::new(), |why| format!(" ({why})"));
        format!(
            "node {id} {lease} lease, knows [{}] to be up, leader {}, {} shards of its own and {} of nobody{obstacle}",
            up.join(" "),
            view.leader,
            beat.owned,
            beat.unowned
        )
    }
}
