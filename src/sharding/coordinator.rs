//! The coordinator of the moves inside one node, run by the coordination core.
//!
//! It alone makes versions of the topology. A move takes two of them: one that announces it, upon which every core
//! holds its messages for the shard, and one that ends it. Between the two only the source and the target know how far
//! the move has come, so the coordinator never ends a move on its own: it waits for [`Input::Installed`] of the target
//! or [`Input::Refused`] of the source, of which exactly one comes. How the cores do their part is told in
//! [`handoff`](crate::sharding::handoff).
//!
//! When one of the two dies, neither may come. So the other is asked ([`Output::Survive`]), who alone knows how far the
//! move has come: if neither is on its way, it answers with [`Input::Lost`], and the shard goes where the dead core is,
//! so that all that is held for it is refused. When both are dead, there is nobody to ask.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::ids::{CoreId, Epoch, ShardKey};
use crate::base::time::Time;
use crate::sharding::balancer::{Balancer, CoreLoad};
use crate::sharding::cluster_view::OwnershipUpdate;
use crate::sharding::move_error::{MoveError, RefusedWhy};
use crate::sharding::settings::CoordinatorSettings;
use crate::sharding::topology::{Change, MoveId, Topology};

/// Asks to move one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveRequest {
    /// The shard.
    pub shard: ShardKey,
    /// The core that should own it.
    pub to: CoreId,
    /// Given back in [`Finished`], so that the answer finds who asked; `None` when nobody waits for it.
    pub token: Option<u64>,
}

/// What the coordinator is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Somebody wants a shard moved. Answered by exactly one [`Finished`].
    MoveRequested(MoveRequest),
    /// The target has the shard and runs it under `epoch`.
    Installed {
        /// The move.
        id: MoveId,
        /// The epoch that came with the shipment.
        epoch: Epoch,
    },
    /// The source keeps the shard, and has never sealed it.
    Refused {
        /// The move.
        id: MoveId,
        /// What stood in the way.
        why: RefusedWhy,
    },
    /// One of source and target is dead, and what has left the one has not come to the other, nor will it.
    Lost {
        /// The move.
        id: MoveId,
    },
    /// A core is going to stop: moves in progress go on, but no other begins, for each needs every core.
    CoreStopping(CoreId),
    /// A core has stopped: moves in progress may never end, and who asked for them is told so.
    CoreStopped(CoreId),
    /// What a data core did in the last window.
    LoadReport(CoreLoad),
    /// The log of the cluster has assigned shards, or taken them from their owners, or there are other members. News that
    /// do not fit change nothing; see [`Topology::owned`], which says why.
    OwnershipChanged(OwnershipUpdate),
    /// Time has passed; see [`Coordinator::next_deadline`].
    Tick,
}

/// The answer to a request, or how a move of the balancer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The shard.
    pub shard: ShardKey,
    /// Whether the shard is on the core that was asked for.
    pub result: Result<(), MoveError>,
    /// The token of the request; `None` for the balancer's own moves.
    pub to: Option<u64>,
}

/// What the coordinator wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Give this topology to every core, the coordination core included.
    Publish(Arc<Topology>),
    /// Tell a core that the other one of its move is dead. It ends the move on its side, and answers with
    /// [`Input::Refused`] or [`Input::Lost`], unless [`Input::Installed`] is on its way.
    Survive {
        /// The move.
        id: MoveId,
        /// The core to tell.
        survivor: CoreId,
    },
    /// Answer a request.
    Finished(Finished),
}

/// The coordinator of one node.
///
/// Call [`Coordinator::handle`] for each input, then [`Coordinator::poll_output`] until it returns `None`: answers that
/// are not taken pile up, one for each request.
#[derive(Clone, Debug)]
pub struct Coordinator {
    settings: CoordinatorSettings,
    data_cores: Vec<CoreId>,
    topology: Arc<Topology>,
    balancer: Option<Balancer>,
    /// The shards that are not settled.
    shards: BTreeMap<ShardKey, ShardState>,
    /// The shards in [`ShardState::Waiting`], in the order of their requests.
    waiting: VecDeque<ShardKey>,
    stopping: Option<CoreId>,
    stopped: BTreeSet<CoreId>,
    /// Who is to be told that it is alone with a move.
    survivors: VecDeque<(MoveId, CoreId)>,
    /// Changes of the input in progress, which become one version at its end.
    changes: Vec<(ShardKey, Change)>,
    is_published: bool,
    finished: VecDeque<Finished>,
    stale_inputs: u64,
}

/// What one shard is doing. A shard without a state is *settled*: at rest on its owner.
///
/// ```text
///          request            turn           Installed, Refused
/// settled ────────▶ Waiting ───────▶ Moving ───────────────────▶ settled
///                      │               │                            ▲ ▲
///                      │               └─▶ Orphaned ────────────────┘ │
///                      │      CoreStopped         Installed, Refused  │
///                      └──────────────────────────────────────────────┘
///                        max_wait, CoreStopping, CoreStopped
/// ```
///
/// | input                     | settled    | Waiting        | Moving                | Orphaned       |
/// |---------------------------|------------|----------------|-----------------------|----------------|
/// | request, fits             | Waiting    | error          | error                 | error          |
/// | request, already there    | ok         | error          | error                 | error          |
/// | request, does not fit     | error      | error          | error                 | error          |
/// | its turn                  | -          | Moving, begin  | -                     | -              |
/// | `Installed`, same move    | -          | -              | settled, finish, ok   | settled, finish |
/// | `Refused`, same move      | -          | -              | settled, abort, error | settled, abort |
/// | `Lost`, same move         | -          | -              | -                     | settled, finish or abort |
/// | waited for `max_wait`     | -          | settled, error | -                     | -              |
/// | `CoreStopping`            | -          | settled, error | -                     | -              |
/// | `CoreStopped`             | -          | settled, error | Orphaned, error       | -              |
///
/// *begin*, *finish* and *abort* change the topology, *ok* and *error* answer the request; so each request is answered
/// exactly once. An `Installed`, `Refused` or `Lost` of another move than the shard's present one changes nothing. What
/// is lost goes to the dead one of source and target, and so does an orphan of which both are dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShardState {
    /// As many shards as may move at once are moving.
    Waiting {
        to: CoreId,
        token: Option<u64>,
        until: Time,
    },
    /// Announced; source and target are at it.
    Moving {
        id: MoveId,
        to: CoreId,
        token: Option<u64>,
    },
    /// As `Moving`, but a core has stopped and the request has been answered.
    Orphaned { id: MoveId, to: CoreId },
}

impl ShardState {
    fn to(self) -> CoreId {
        match self {
            ShardState::Waiting { to, .. }
            | ShardState::Moving { to, .. }
            | ShardState::Orphaned { to, .. } => to,
        }
    }
}

impl Coordinator {
    /// A coordinator that starts from this topology, which every core has from the start, with these cores to place
    /// shards on.
    #[must_use]
    pub fn new(
        topology: Arc<Topology>,
        data_cores: &[CoreId],
        settings: CoordinatorSettings,
    ) -> Coordinator {
        Coordinator {
            balancer: settings
                .balancer
                .clone()
                .map(|settings| Balancer::new(settings, data_cores)),
            settings,
            data_cores: data_cores.to_vec(),
            topology,
            shards: BTreeMap::new(),
            waiting: VecDeque::new(),
            stopping: None,
            stopped: BTreeSet::new(),
            survivors: VecDeque::new(),
            changes: Vec::new(),
            is_published: true,
            finished: VecDeque::new(),
            stale_inputs: 0,
        }
    }

    /// The newest topology.
    #[must_use]
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// How many shards are moving.
    #[must_use]
    pub fn moving(&self) -> usize {
        self.shards.len() - self.waiting.len()
    }

    /// How many requests wait for their turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many reports were ignored because they spoke of no move in progress: duplicates, if anything.
    #[must_use]
    pub fn stale_inputs(&self) -> u64 {
        self.stale_inputs
    }

    /// When to send [`Input::Tick`] at the latest, if nothing else happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        match self.shards.get(self.waiting.front()?) {
            Some(ShardState::Waiting { until, .. }) => Some(*until),
            _ => None,
        }
    }

    /// Takes one input. Requests that have waited too long by `now` are answered first.
    pub fn handle(&mut self, input: Input, now: Time) {
        self.expire(now);
        match input {
            Input::MoveRequested(request) => self.request(request, now),
            Input::Installed { id, epoch } => self.end(id, Ok(epoch)),
            Input::Refused { id, why } => self.end(id, Err(why)),
            Input::Lost { id } => self.lose(id),
            Input::CoreStopping(core) => self.stop(core),
            Input::CoreStopped(core) => {
                self.stop(core);
                self.orphan(core);
            }
            Input::LoadReport(report) => self.balance(report, now),
            Input::OwnershipChanged(news) => self.own(&news),
            Input::Tick => {}
        }
        self.begin_waiting(now);
        self.commit();
    }

    /// The next thing to do; a new topology comes before the answers that tell of it.
    pub fn poll_output(&mut self) -> Option<Output> {
        if !self.is_published {
            self.is_published = true;
            return Some(Output::Publish(Arc::clone(&self.topology)));
        }
        if let Some((id, survivor)) = self.survivors.pop_front() {
            return Some(Output::Survive { id, survivor });
        }
        self.finished.pop_front().map(Output::Finished)
    }

    fn request(&mut self, request: MoveRequest, now: Time) {
        match self.check(&request) {
            Ok(true) => self.finish(request.shard, Ok(()), request.token),
            Ok(false) => {
                let MoveRequest { shard, to, token } = request;
                let until = now + self.settings.max_wait;
                self.shards
                    .insert(shard, ShardState::Waiting { to, token, until });
                self.waiting.push_back(shard);
                // Frees its place in the queue at once if it can begin.
                self.begin_waiting(now);
            }
            Err(error) => self.finish(request.shard, Err(error), request.token),
        }
    }

    /// Whether the shard is where it should be already.
    fn check(&self, request: &MoveRequest) -> Result<bool, MoveError> {
        let MoveRequest {
            shard, to: core, ..
        } = *request;
        let entity_type = shard.entity_type;
        let Some(shards) = self.topology.shards_of(entity_type) else {
            return Err(MoveError::UnknownType { entity_type });
        };
        let Some(placement) = shards.placements().get(shard.shard.index()) else {
            let shards = shards.count();
            return Err(MoveError::UnknownShard { shard, shards });
        };
        if !self.data_cores.contains(&core) {
            return Err(MoveError::UnknownCore { shard, core });
        }
        if let Some(state) = self.shards.get(&shard) {
            return Err(MoveError::AlreadyMoving {
                shard,
                to: state.to(),
            });
        }
        if !self.topology.is_mine(shard) {
            return Err(MoveError::NotOwned { shard });
        }
        if let Some(leaving) = self.topology.node_move(shard) {
            let to = leaving.to;
            return Err(MoveError::LeavesNode { shard, to });
        }
        if placement.owner == core {
            return Ok(true);
        }
        if let Some(core) = self.stopping {
            return Err(MoveError::CoreStopping { shard, core });
        }
        if self.moving() >= self.settings.max_moves
            && self.waiting.len() >= self.settings.max_waiting
        {
            let waiting = self.settings.max_waiting;
            return Err(MoveError::TooManyMoves { shard, waiting });
        }
        Ok(false)
    }

    /// Begins the moves whose turn it is.
    fn begin_waiting(&mut self, now: Time) {
        while self.moving() < self.settings.max_moves
            && let Some(shard) = self.waiting.pop_front()
        {
            let Some(&ShardState::Waiting { to, token, .. }) = self.shards.get(&shard) else {
                continue;
            };
            if !self.topology.is_mine(shard) {
                self.give_up(shard, MoveError::NotOwned { shard });
                continue;
            }
            if let Some(leaving) = self.topology.node_move(shard) {
                let to = leaving.to;
                self.give_up(shard, MoveError::LeavesNode { shard, to });
                continue;
            }
            let id = MoveId {
                shard,
                version: self.topology.version() + 1,
            };
            self.shards
                .insert(shard, ShardState::Moving { id, to, token });
            self.changes.push((shard, Change::Begin(to)));
            if let Some(balancer) = &mut self.balancer {
                balancer.moved(shard, now);
            }
        }
    }

    /// Ends a move: with the epoch under which the target runs the shard, or with the reason why it stays.
    fn end(&mut self, ended: MoveId, outcome: Result<Epoch, RefusedWhy>) {
        let shard = ended.shard;
        let (id, token) = match self.shards.get(&shard) {
            Some(&ShardState::Moving { id, token, .. }) => (id, Some(token)),
            Some(&ShardState::Orphaned { id, .. }) => (id, None),
            Some(ShardState::Waiting { .. }) | None => return self.stale_inputs += 1,
        };
        let placement = self.topology.placement(shard);
        let fits =
            |epoch: Epoch| placement.is_some_and(|placement| placement.epoch.0 + 1 == epoch.0);
        if id != ended || outcome.is_ok_and(|epoch| !fits(epoch)) {
            self.stale_inputs += 1;
            return;
        }
        self.shards.remove(&shard);
        let change = if outcome.is_ok() {
            Change::Finish
        } else {
            Change::Abort
        };
        self.changes.push((shard, change));
        if let Some(token) = token {
            let result = outcome
                .map(|_| ())
                .map_err(|why| MoveError::Refused { shard, why });
            self.finish(shard, result, token);
        }
    }

    /// Begins nothing any more.
    fn stop(&mut self, core: CoreId) {
        let core = *self.stopping.get_or_insert(core);
        while let Some(shard) = self.waiting.pop_front() {
            self.give_up(shard, MoveError::CoreStopping { shard, core });
        }
    }

    /// Answers the requests whose moves may never end, and sees to the end of those that are the core's own.
    fn orphan(&mut self, core: CoreId) {
        self.stopped.insert(core);
        let moving: Vec<_> = self
            .shards
            .iter()
            .map(|(shard, state)| (*shard, *state))
            .collect();
        for (shard, state) in moving {
            if let ShardState::Moving { id, to, token } = state {
                self.shards.insert(shard, ShardState::Orphaned { id, to });
                self.finish(shard, Err(MoveError::CoreStopped { shard, core }), token);
            }
            self.bereave(shard, core);
        }
    }

    /// Has the other core of an orphan say how far its move has come, if there is one.
    fn bereave(&mut self, shard: ShardKey, core: CoreId) {
        let (Some(&ShardState::Orphaned { id, to }), Some(placement)) =
            (self.shards.get(&shard), self.topology.placement(shard))
        else {
            return;
        };
        let from = placement.owner;
        let survivor = match (core == from, core == to) {
            (true, _) => to,
            (_, true) => from,
            _ => return,
        };
        if self.stopped.contains(&survivor) {
            self.lose(id);
        } else {
            self.survivors.push_back((id, survivor));
        }
    }

    /// Ends a move of which nothing is left but the topology.
    fn lose(&mut self, lost: MoveId) {
        let shard = lost.shard;
        let owner = self
            .topology
            .placement(shard)
            .map(|placement| placement.owner);
        match (self.shards.get(&shard), owner) {
            (Some(&ShardState::Orphaned { id, .. }), Some(owner)) if id == lost => {
                self.shards.remove(&shard);
                let change = if self.stopped.contains(&owner) {
                    Change::Abort
                } else {
                    Change::Finish
                };
                self.changes.push((shard, change));
            }
            _ => self.stale_inputs += 1,
        }
    }

    fn expire(&mut self, now: Time) {
        while self.next_deadline().is_some_and(|deadline| deadline <= now)
            && let Some(shard) = self.waiting.pop_front()
        {
            let limit = self.settings.max_wait;
            self.give_up(shard, MoveError::WaitedTooLong { shard, limit });
        }
    }

    fn give_up(&mut self, shard: ShardKey, error: MoveError) {
        if let Some(ShardState::Waiting { token, .. }) = self.shards.remove(&shard) {
            self.finish(shard, Err(error), token);
        }
    }

    fn balance(&mut self, report: CoreLoad, now: Time) {
        let Some(balancer) = self.balancer.as_mut().filter(|_| self.stopping.is_none()) else {
            return;
        };
        balancer.report(report);
        let shards = &self.shards;
        let relocations = balancer.round(now, &self.topology, |shard| {
            shards.get(&shard).map(|state| state.to())
        });
        for relocation in relocations {
            let request = MoveRequest {
                shard: relocation.shard,
                to: relocation.to,
                token: None,
            };
            self.request(request, now);
        }
    }

    fn own(&mut self, news: &OwnershipUpdate) {
        match self.topology.owned(news) {
            Ok(topology) => {
                self.topology = Arc::new(topology);
                self.is_published = false;
            }
            Err(_) => self.stale_inputs += 1,
        }
    }

    fn finish(&mut self, shard: ShardKey, result: Result<(), MoveError>, to: Option<u64>) {
        self.finished.push_back(Finished { shard, result, to });
    }

    fn commit(&mut self) {
        if !self.changes.is_empty() {
            self.topology = Arc::new(self.topology.next(&self.changes));
            self.changes.clear();
            self.is_published = false;
        }
    }
}
