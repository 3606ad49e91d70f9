//! A node's lives in its cluster, one after the other, and the publication of what they tell.
//!
//! ```text
//!              ┌────────────────── a pause, if lives are short ◀──┐
//!              ▼                                                  │
//!  Opening the ledger ──▶ Living ──stopped──▶ closing connections ─▶ Closing the ledger ──▶ Over
//!              │                     LifeEnded, Removed: again ───┘   (any other cause)
//!              └──── cannot be opened: Over
//! ```

use super::boot_clock::boot_time;
use super::data_news::DataNews;
use super::governing::Governing;
use super::guests::GuestLanes;
use super::in_executor::InExecutor;
use super::life::{Life, Net};
use super::member_log::log_member;
use super::port::Port;
use super::seed_lookups::{SeedLookups, SeedNames};
use super::status::{Goal, Status};
use super::view::{ClusterChanged, ClusterEnd, ClusterPhase, ClusterView};
use crate::actor::guard::guarded;
use crate::base::rng::{Rng, seeded};
use crate::base::time::Time;
use crate::cluster::ledger_opening::OpenedLedger;
use crate::cluster::ledger_settings::LedgerSettings;
use crate::cluster::node::output::{Refusal, StopCause};
use crate::cluster::plane::{Event, PlaneSettings};
use crate::engine::core::Engine;
use crate::io::ledger_files::{LedgerFiles, LedgerStartError};
use crate::io::runtime_clock::RuntimeClock;
use crate::links::ending::OTHER_LIFE;
use crate::membership::event::MemberEvent;
use crate::membership::view::MemberState;
use crate::mesh::doorbell::Doorbell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// How often sockets are looked at while the core sleeps in its executor, over operations on files.
const LOOK_AT_SOCKETS: Duration = Duration::from_millis(1);
/// A life that was shorter is followed by a pause before the next, which doubles each time.
const SHORT_LIFE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What the end of a life may take beyond what its connections may.
pub(super) const END_PATIENCE: Duration = Duration::from_secs(2);

/// What a node is told that is not heard because another has its id.
const OTHER_HOLDER: &str = ": a live node elsewhere has this node's id, so give one of them another; or this node's former \
     life is not over yet, which takes some seconds";

/// What becomes the driver, on the thread of the coordination core.
#[derive(Debug)]
pub(crate) struct ClusterSeed {
    /// Bound.
    pub(crate) port: Port,
    /// Checked.
    pub(crate) plane: PlaneSettings,
    /// Checked against those of consensus.
    pub(crate) ledger: LedgerSettings,
    /// By which names it knows the other seeds.
    pub(crate) names: SeedNames,
    /// The data directory.
    pub(crate) data: PathBuf,
    /// Where connections for data go.
    pub(crate) guests: GuestLanes,
    /// Where data cores hear of the cluster.
    pub(crate) news: Arc<DataNews>,
    /// What the others see.
    pub(crate) status: Arc<Status>,
}

type Opened = Result<(OpenedLedger, LedgerFiles), LedgerStartError>;

pub(super) enum Phase {
    Opening(InExecutor<Opened>),
    Living(Box<Life>),
    /// The files are being closed; then it goes on so.
    Closing(InExecutor<()>, Next),
    /// The next life begins then.
    Pausing(Time),
    Over,
}

/// What follows a life.
#[derive(Clone, Debug)]
pub(super) enum Next {
    Again,
    End(ClusterEnd),
}

/// Drives a node's control plane from the turns of its coordination core.
pub(crate) struct ClusterDriver {
    pub(super) plane: PlaneSettings,
    ledger: LedgerSettings,
    pub(super) data: PathBuf,
    pub(crate) status: Arc<Status>,
    lookups: SeedLookups,
    governing: Governing,
    /// None when it is over: the port is free then.
    net: Option<Net>,
    pub(super) phase: Phase,
    /// Why the life that is being closed has ended.
    stopped: Option<StopCause>,
    /// The runtime ends, and there will be no other life.
    pub(super) is_closing: bool,
    has_left: bool,
    /// The pause after the next short life.
    pause: Duration,
    events: VecDeque<Event>,
    /// What the view is made of, beside what the plane says.
    telling: ClusterPhase,
    obstacle: Option<Arc<str>>,
    /// The view has to be made anew.
    changed: bool,
    members_version: u64,
}

impl ClusterDriver {
    /// Begins to open the ledger. To be called in the executor of the coordination core.
    pub(crate) fn new(seed: ClusterSeed, clock: RuntimeClock) -> ClusterDriver {
        let mut driver = ClusterDriver {
            governing: Governing::new(seed.plane.node.node, seed.news, clock),
            plane: seed.plane,
            ledger: seed.ledger,
            // glommio takes a directory by its whole path only.
            data: std::path::absolute(&seed.data).unwrap_or(seed.data),
            lookups: SeedLookups::new(seed.names, seed.status.clone()),
            status: seed.status,
            net: None,
            phase: Phase::Over,
            stopped: None,
            is_closing: false,
            has_left: false,
            pause: FIRST_PAUSE,
            events: VecDeque::new(),
            telling: ClusterPhase::Starting,
            obstacle: None,
            changed: true,
            members_version: 0,
        };
        match Net::new(seed.port, seed.guests) {
            Ok(net) => {
                driver.net = Some(net);
                driver.open();
            }
            Err(error) => {
                driver.telling = ClusterPhase::Ended(ClusterEnd::Sockets(error.to_string()))
            }
        }
        driver
    }

    /// One turn: does what can be done at once, has the cores hear what they have to know, and publishes what it comes to
    /// through the engine. Returns whether there is
    /// more to do.
    pub(crate) fn turn(&mut self, mut engine: Option<&mut Engine>, late: Option<Duration>) -> bool {
        let now = boot_time();
        let asked = self.status.take_asked();
        self.changed |= asked;
        let mut more = match guarded(|| self.advance(late, now)) {
            Ok(more) => more,
            Err(panic) => {
                tracing::error!(
                    panic,
                    "the control plane of this node panicked and takes part in its cluster no more, while the runtime goes on: this is a bug of corecast"
                );
                self.over(ClusterEnd::Panicked(panic));
                true
            }
        };
        if let Some(engine) = engine.as_deref_mut() {
            more |= self.inform(engine, now);
        }
        self.publish(engine);
        more
    }

    /// When [`turn`](ClusterDriver::turn) has to be called next, by the boot-time clock.
    pub(crate) fn deadline(&self) -> Time {
        match (&self.phase, &self.net) {
            (Phase::Living(life), Some(net)) => life.deadline(net).min(self.lookups.deadline()),
            (Phase::Pausing(until), _) => *until,
            _ => Time::MAX,
        }
    }

    /// Sleeps until something has happened that a turn is for, the bell rings, or the time is over. `has_work` is the last
    /// look before sleep, after it was announced.
    pub(crate) async fn sleep(
        &mut self,
        doorbell: &Doorbell,
        has_work: impl Fn() -> bool,
        limit: Option<Duration>,
    ) {
        if self.needs_executor() {
            self.sleep_in_executor(doorbell, has_work, limit).await;
        } else if let Some(net) = &self.net {
            doorbell.announce_sleep(net.readiness.waker());
            if !has_work() && !self.status.is_asked() {
                net.readiness.sleep(limit);
            }
            doorbell.awake();
        }
    }

    /// Whether sleep is any of its business: when it is over the core sleeps as if there had never been a cluster.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over) && self.net.is_none()
    }

    /// Whether operations go on in the executor, which stands still while its thread sleeps.
    pub(crate) fn needs_executor(&self) -> bool {
        match &self.phase {
            Phase::Opening(_) | Phase::Closing(..) => true,
            Phase::Living(life) => life.files().under_way() > 0,
            Phase::Pausing(_) | Phase::Over => false,
        }
    }

    async fn sleep_in_executor(
        &self,
        doorbell: &Doorbell,
        has_work: impl Fn() -> bool,
        limit: Option<Duration>,
    ) {
        let limit = limit.map_or(LOOK_AT_SOCKETS, |limit| limit.min(LOOK_AT_SOCKETS));
        let mut timer = std::pin::pin!(glommio::timer::sleep(limit));
        poll_fn(|context| {
            doorbell.announce_sleep(context.waker());
            let over = timer.as_mut().poll(context).is_ready();
            let ended = match &self.phase {
                Phase::Opening(opening) => opening.poll_ended(context).is_ready(),
                Phase::Closing(closing, _) => closing.poll_ended(context).is_ready(),
                Phase::Living(life) => life.files().poll_ended(context).is_ready(),
                Phase::Pausing(_) | Phase::Over => true,
            };
            match over || ended || has_work() || self.status.is_asked() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        doorbell.awake();
    }

    /// Tells the cores what has happened, and the plane what they want.
    fn inform(&mut self, engine: &mut Engine, now: Time) -> bool {
        let plane = match &mut self.phase {
            Phase::Living(life) if self.stopped.is_none() => Some(life.plane_mut()),
            _ => None,
        };
        self.governing
            .inform(engine, plane, self.events.iter(), now)
    }

    fn open(&mut self) {
        let (data, ledger) = (self.data.clone(), self.ledger.clone());
        let node = self.plane.node.node;
        let opening = async move {
            let mut rng = fresh_rng();
            LedgerFiles::open(&data, ledger, node, None, &mut rng).await
        };
        self.phase = Phase::Opening(InExecutor::spawn(opening));
    }

    fn advance(&mut self, late: Option<Duration>, now: Time) -> bool {
        match &mut self.phase {
            Phase::Opening(opening) => match opening.take() {
                Some(opened) => self.opened(opened, now),
                None => {
                    self.ignore_sockets();
                    return false;
                }
            },
            Phase::Living(_) => return self.live(late, now),
            Phase::Closing(closing, next) => {
                if closing.take().is_none() {
                    self.ignore_sockets();
                    return false;
                }
                let next = next.clone();
                self.go_on(next, now);
            }
            Phase::Pausing(until) => {
                if self.is_closing || self.status.is_to_leave() {
                    let end = self.end_without_a_life();
                    self.over(end);
                } else if *until <= now {
                    self.open();
                } else {
                    self.ignore_sockets();
                    return false;
                }
            }
            Phase::Over => return false,
        }
        true
    }

    fn opened(&mut self, opened: Opened, now: Time) {
        let (opened, files) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!(%error, "this node cannot take part in its cluster");
                return self.over(error.into());
            }
        };
        if self.is_closing || self.status.is_to_leave() {
            let end = self.end_without_a_life();
            return self.close_files(files, Next::End(end));
        }
        let Some(net) = &self.net else {
            return;
        };
        match Life::begin(&self.plane, (opened, files), net, fresh_rng(), now) {
            Ok(life) => {
                self.phase = Phase::Living(Box::new(life));
                self.lookups.begin(now);
                self.telling = ClusterPhase::Joining;
                self.changed = true;
            }
            Err((error, files)) => {
                tracing::error!(%error, "this node cannot take part in its cluster");
                self.close_files(files, Next::End(error.into()));
            }
        }
    }

    fn live(&mut self, late: Option<Duration>, now: Time) -> bool {
        let (Phase::Living(life), Some(net)) = (&mut self.phase, &mut self.net) else {
            return false;
        };
        if self.is_closing {
            life.end(net, self.plane.links.close_patience + END_PATIENCE, now);
        } else if self.status.is_to_leave() && !self.has_left {
            self.has_left = true;
            tracing::info!("this node leaves its cluster");
            life.plane_mut().leave(now);
        }
        let plane = life.plane_mut();
        self.changed |= self.lookups.turn(plane, &mut self.plane.node, now);
        let more = life.turn(net, &mut self.events, late, now);
        self.follow(now);
        let Phase::Living(life) = &mut self.phase else {
            return true;
        };
        if !life.has_ended(now) {
            return more;
        }
        life.tell_what_is_unwritten(&self.data);
        let age = life.age(now);
        let next = match self.stopped.take() {
            Some(StopCause::LifeEnded { .. } | StopCause::Removed) if !self.is_closing => {
                Next::Again
            }
            Some(cause) => Next::End(cause.into()),
            None => Next::End(ClusterEnd::ShutDown),
        };
        self.pause = match age < SHORT_LIFE {
            true => (self.pause * 2).min(LONGEST_PAUSE),
            false => FIRST_PAUSE,
        };
        if let Phase::Living(life) = std::mem::replace(&mut self.phase, Phase::Over) {
            self.close_files(life.close(), next);
        }
        true
    }

    /// Takes what the plane tells, as far as it concerns this node's view of its cluster; what the cores have to know of it
    /// is [`Governing`]'s.
    fn follow(&mut self, now: Time) {
        for event in &self.events {
            match event {
                Event::Joined {
                    incarnation,
                    cluster,
                } => {
                    tracing::info!(%incarnation, %cluster, "this node is a member of its cluster");
                    self.telling = ClusterPhase::Member(*incarnation);
                    self.obstacle = None;
                    self.changed = true;
                }
                Event::Waits { previous, at_most } => {
                    tracing::info!(%previous, ?at_most, "this node waits for the end of its previous life");
                    self.telling = ClusterPhase::Waiting {
                        previous: *previous,
                        at_most: *at_most,
                    };
                    self.changed = true;
                }
                Event::Member(event) => {
                    log_member(event);
                    self.changed = true;
                }
                Event::Leader(leader) => {
                    match leader {
                        Some(leader) => tracing::info!(%leader, "the cluster has a leader"),
                        None => tracing::info!("no leader of the cluster is known"),
                    }
                    self.changed = true;
                }
                Event::Lease(_) => self.changed = true,
                Event::Refused(node, why) => {
                    if let Refusal::Join(_) = why {
                        self.obstacle = Some(why.to_string().into());
                        self.changed = true;
                    }
                    match node {
                        Some(node) => tracing::warn!(%node, "refused: {why}"),
                        None => tracing::warn!("refused: {why}"),
                    }
                }
                Event::Note(note) => {
                    // What keeps a node that is not in from being heard.
                    if !matches!(self.telling, ClusterPhase::Member(_)) {
                        let advice = match note.class {
                            OTHER_LIFE => OTHER_HOLDER,
                            _ => "",
                        };
                        self.obstacle = Some(format!("{note}{advice}").into());
                        self.changed = true;
                    }
                    tracing::warn!("{note}");
                }
                Event::LedgerFailed(error) => {
                    tracing::error!(%error, "the ledger of this node has failed");
                }
                Event::Stopped(cause) => {
                    match cause {
                        StopCause::Left => tracing::info!("{cause}"),
                        StopCause::LifeEnded { .. } | StopCause::Removed => {
                            tracing::warn!("{cause}; this node does so by itself");
                        }
                        _ => tracing::error!("{cause}"),
                    }
                    self.stopped = Some(cause.clone());
                    self.telling = ClusterPhase::Rejoining(cause.clone());
                    self.changed = true;
                }
                Event::Identity(_) | Event::Types(_) | Event::Shards(_) | Event::Parting(_) => {}
            }
        }
        if self.stopped.is_some()
            && let (Phase::Living(life), Some(net)) = (&mut self.phase, &mut self.net)
        {
            life.end(net, self.plane.links.close_patience + END_PATIENCE, now);
        }
    }

    fn close_files(&mut self, files: LedgerFiles, next: Next) {
        self.phase = Phase::Closing(InExecutor::spawn(files.close()), next);
    }

    fn go_on(&mut self, next: Next, now: Time) {
        match next {
            Next::End(end) => self.over(end),
            Next::Again if self.is_closing || self.status.is_to_leave() => {
                let end = self.end_without_a_life();
                self.over(end);
            }
            Next::Again if self.pause > FIRST_PAUSE => {
                self.phase = Phase::Pausing(now + self.pause)
            }
            Next::Again => self.open(),
        }
    }

    /// A node that has no life is gone at once.
    fn end_without_a_life(&self) -> ClusterEnd {
        match self.is_closing {
            true => ClusterEnd::ShutDown,
            false => StopCause::Left.into(),
        }
    }

    pub(super) fn over(&mut self, end: ClusterEnd) {
        self.phase = Phase::Over;
        self.net = None;
        self.telling = ClusterPhase::Ended(end);
        self.changed = true;
    }

    fn ignore_sockets(&mut self) {
        if let Some(net) = &mut self.net {
            net.ignore();
        }
    }

    /// Publishes what has happened, and what is known now.
    pub(super) fn publish(&mut self, mut engine: Option<&mut Engine>) {
        let version = match &self.phase {
            Phase::Living(life) => life.plane().node().members().version(),
            _ => 0,
        };
        if std::mem::replace(&mut self.members_version, version) == version && !self.changed {
            self.events.clear();
            return;
        }
        self.changed = false;
        // Whoever hears of an event finds it in the view.
        let view = self.status.publish(self.view());
        for event in std::mem::take(&mut self.events) {
            if let (Event::Member(event), Some(engine)) = (event, engine.as_deref_mut()) {
                match event {
                    MemberEvent::Up(event) => engine.publish(event),
                    MemberEvent::Left(event) => engine.publish(event),
                    MemberEvent::Down(event) => engine.publish(event),
                    MemberEvent::Unreachable(event) => engine.publish(event),
                    MemberEvent::Reachable(event) => engine.publish(event),
                }
            }
        }
        if let (Some(view), Some(engine)) = (view, engine) {
            engine.publish(ClusterChanged(view));
        }
        let now = boot_time();
        let node = match &self.phase {
            Phase::Living(life) => Some(life.plane().node()),
            _ => None,
        };
        self.status.tell(|goal| match (goal, node) {
            (Goal::Opened, Some(_)) => true,
            (Goal::Up(n), Some(node)) => node.wait_for(n),
            (Goal::Ready(n), Some(node)) => node.wait_for(n) && node.has_control_quorum(now),
            _ => false,
        });
    }

    fn view(&self) -> ClusterView {
        let settings = &self.plane.node;
        let mut view = ClusterView::new(&self.plane.cluster, settings.node, settings.address);
        view.phase = self.telling.clone();
        view.obstacle = match (self.obstacle.clone(), self.lookups.obstacle()) {
            (Some(last), Some(name)) => Some(format!("{last}; {name}").into()),
            (last, name) => last.or(name),
        };
        if let Phase::Living(life) = &self.phase {
            let node = life.plane().node();
            view.cluster = node.cluster();
            view.self_node = node.self_node().cloned();
            let members = node.members().members();
            let members = members.filter(|member| member.state != MemberState::Removed);
            view.members = members.cloned().collect();
            view.leader = node.leader();
            view.has_quorum = node.has_control_quorum(boot_time());
        }
        view
    }
}

/// Nobody waits for a driver that is gone without having come to its end, because its core could not start or panicked.
impl Drop for ClusterDriver {
    fn drop(&mut self) {
        if !matches!(self.telling, ClusterPhase::Ended(_)) {
            self.over(ClusterEnd::Panicked("its core is gone".to_owned()));
            self.publish(None);
        }
    }
}

/// A generator that is seeded from the machine's entropy, differently each time.
fn fresh_rng() -> Rng {
    let seed = ahash::RandomState::new().hash_one(boot_time().as_nanos());
    seeded(seed, u64::from(std::process::id()))
}
