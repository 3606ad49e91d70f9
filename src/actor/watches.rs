//! Who watches whom: the tables of one core.
//!
//! A watch has two halves. On the watcher's core it is an entry with a number, which knows the target and makes the message
//! for the watcher; the entry is taken out when the target's end is heard of, so that nobody hears of it twice. On the
//! target's core it is the bare number in the set of those who want to hear. Both give their memory back when they end.
//! What watches between nodes need beyond that is in `FarWatches`.

use super::ending::StopCause;
use super::entity_watch::WatchedEntity;
use super::far_watches::{FarWatches, Placed};
use super::guard::drop_guarded;
use super::local::Local;
use super::reference::{AnyActorRef, CellRef};
use crate::base::give_back::give_back;
use crate::base::ids::CoreId;
use crate::wire::address::Life;
use ahash::AHashMap;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};

/// A watch: the watcher's node and core, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WatchId {
    pub(crate) life: Life,
    pub(crate) core: CoreId,
    pub(crate) number: u64,
}

/// Brings the news to a watcher: what it made of the `then` of its message type.
pub(super) type Bring =
    fn(&mut Local, CellRef, Box<dyn Any + Send>, Option<AnyActorRef>, Option<StopCause>);

/// Who is watched.
pub(super) enum Target {
    Actor(AnyActorRef),
    Entity(Box<dyn WatchedEntity>),
}

impl Target {
    /// Its address, unless it is an entity, whose address changes.
    pub(super) fn address(&self) -> Option<AnyActorRef> {
        match self {
            Target::Actor(actor) => Some(*actor),
            Target::Entity(_) => None,
        }
    }
}

/// The watcher's half.
pub(crate) struct Watching {
    pub(super) watcher: CellRef,
    pub(super) target: Target,
    /// What makes a message of the news.
    pub(super) then: Box<dyn Any + Send>,
    pub(super) bring: Bring,
    /// The watches of the same watcher.
    next: Option<u64>,
    previous: Option<u64>,
}

/// Which actors of this core those of one core of another node watch: each by the number of the watch.
type Watched = BTreeMap<u64, CellRef>;

/// Both halves of the watches of a core.
pub(crate) struct Watches {
    /// The life of this node.
    life: Life,
    by_number: AHashMap<u64, Watching>,
    /// The latest watch of each watcher.
    latest: AHashMap<CellRef, u64>,
    numbers: AHashMap<(CellRef, AnyActorRef), u64>,
    /// The numbers given so far.
    given: u64,
    /// Those who want to hear of an actor of this core, in an order that does not depend on a hash.
    watchers: AHashMap<CellRef, BTreeSet<WatchId>>,
    /// Those who want to hear of an entity, and go with it when it moves.
    followers: AHashMap<CellRef, BTreeSet<WatchId>>,
    /// Those of them who are on other nodes, by node and core.
    foreign: BTreeMap<(Life, CoreId), Watched>,
    foreign_count: usize,
    pub(super) far: FarWatches,
    /// Cores that have gone, and may have sent something before.
    lost: BTreeSet<CoreId>,
}

impl Watches {
    pub(super) fn new(life: Life) -> Watches {
        Watches {
            life,
            by_number: AHashMap::default(),
            latest: AHashMap::default(),
            numbers: AHashMap::default(),
            given: 0,
            watchers: AHashMap::default(),
            followers: AHashMap::default(),
            foreign: BTreeMap::new(),
            foreign_count: 0,
            far: FarWatches::default(),
            lost: BTreeSet::new(),
        }
    }

    /// Takes everything out.
    pub(crate) fn take(&mut self) -> Watches {
        let nothing = Watches::new(self.life);
        std::mem::replace(self, nothing)
    }

    /// Whether somebody is of this node in its present life.
    #[inline]
    pub(super) fn is_own(&self, by: WatchId) -> bool {
        by.life == self.life
    }

    /// Watches of other nodes' actors of those of this core.
    pub(crate) fn foreign(&self) -> usize {
        self.foreign_count
    }

    /// Watches of this core's actors of those on other nodes.
    pub(crate) fn abroad(&self) -> usize {
        self.far.len()
    }

    fn note_foreign(&mut self, target: CellRef, by: WatchId) {
        if !self.is_own(by) {
            let of_core = self.foreign.entry((by.life, by.core)).or_default();
            match of_core.insert(by.number, target) {
                None => self.foreign_count += 1,
                // A number is given once, so this is no honest node; nothing of it stays behind all the same.
                Some(other) if other != target => {
                    remove_from(&mut self.watchers, other, by);
                    remove_from(&mut self.followers, other, by);
                }
                Some(_) => {}
            }
        }
    }

    /// Takes a watch of another node out of the books. Whom it was of, if there was one.
    fn forget_foreign(&mut self, by: WatchId) -> Option<CellRef> {
        let place = (by.life, by.core);
        let of_core = self.foreign.get_mut(&place)?;
        let target = of_core.remove(&by.number);
        if of_core.is_empty() {
            self.foreign.remove(&place);
        }
        self.foreign_count -= usize::from(target.is_some());
        target
    }

    /// Whether somebody on another node watches this actor in that watch already.
    pub(super) fn has_foreign(&self, target: CellRef, by: WatchId) -> bool {
        let of_core = self.foreign.get(&(by.life, by.core));
        of_core.and_then(|it| it.get(&by.number)) == Some(&target)
    }

    /// Ends a watch of another node, whoever its end names: the number says which it is.
    fn remove_foreign(&mut self, by: WatchId) {
        if let Some(target) = self.forget_foreign(by) {
            remove_from(&mut self.watchers, target, by);
            remove_from(&mut self.followers, target, by);
        }
    }

    /// Forgets all watches of a core of another node. Returns whether there were any.
    pub(super) fn forget_core(&mut self, life: Life, core: CoreId) -> bool {
        let Some(of_core) = self.foreign.remove(&(life, core)) else {
            return false;
        };
        self.foreign_count -= of_core.len();
        for (number, target) in of_core {
            let by = WatchId { life, core, number };
            remove_from(&mut self.watchers, target, by);
            remove_from(&mut self.followers, target, by);
        }
        true
    }

    /// The lives of other nodes that have watches here.
    pub(super) fn foreign_lives(&self) -> BTreeSet<Life> {
        self.foreign.keys().map(|(life, _)| *life).collect()
    }

    /// Forgets all watches of a life of another node.
    pub(super) fn forget_life(&mut self, life: Life) -> bool {
        let of_life = (life, CoreId(0))..=(life, CoreId(u16::MAX));
        let cores = self.foreign.range(of_life).map(|((_, core), _)| *core);
        let cores: Vec<CoreId> = cores.collect();
        for core in &cores {
            self.forget_core(life, *core);
        }
        !cores.is_empty()
    }

    /// Who is watched in a watch of this core.
    pub(super) fn target_of(&self, number: u64) -> Option<&Target> {
        Some(&self.by_number.get(&number)?.target)
    }

    /// Where a watch was announced, if it was to another node.
    pub(super) fn placed(&self, number: u64) -> Option<Placed> {
        self.far.placed(number)
    }

    /// Notes that a core has gone.
    pub(super) fn lose(&mut self, core: CoreId) {
        self.lost.insert(core);
    }

    /// Whether there are watches to be ended because a core has gone.
    #[inline(always)]
    pub(crate) fn any_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    pub(super) fn take_lost(&mut self) -> BTreeSet<CoreId> {
        std::mem::take(&mut self.lost)
    }

    /// Watches of this core's actors.
    pub(crate) fn len(&self) -> usize {
        self.by_number.len()
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty() && self.watchers.is_empty() && self.followers.is_empty()
    }

    pub(super) fn number(&self, watcher: CellRef, target: AnyActorRef) -> Option<u64> {
        self.numbers.get(&(watcher, target)).copied()
    }

    /// The number of the next watch.
    pub(super) fn next_number(&mut self) -> u64 {
        self.given += 1;
        self.given
    }

    /// Adds a watcher's half.
    pub(super) fn add(
        &mut self,
        number: u64,
        watcher: CellRef,
        target: Target,
        then: Box<dyn Any + Send>,
        bring: Bring,
    ) {
        let next = self.latest.insert(watcher, number);
        if let Some(next) = next.and_then(|next| self.by_number.get_mut(&next)) {
            next.previous = Some(number);
        }
        if let Some(actor) = target.address() {
            self.numbers.insert((watcher, actor), number);
        }
        let watching = Watching {
            watcher,
            target,
            then,
            bring,
            next,
            previous: None,
        };
        self.by_number.insert(number, watching);
    }

    /// Takes a watcher's half out.
    pub(super) fn remove(&mut self, number: u64) -> Option<Watching> {
        let watching = self.by_number.remove(&number)?;
        self.far.remove(number);
        if let Some(actor) = watching.target.address() {
            self.numbers.remove(&(watching.watcher, actor));
        }
        if let Some(next) = watching.next.and_then(|next| self.by_number.get_mut(&next)) {
            next.previous = watching.previous;
        }
        let previous = watching.previous;
        match (
            previous.and_then(|previous| self.by_number.get_mut(&previous)),
            watching.next,
        ) {
            (Some(previous), next) => previous.next = next,
            (None, Some(next)) => _ = self.latest.insert(watching.watcher, next),
            (None, None) => _ = self.latest.remove(&watching.watcher),
        }
        give_back(&mut self.by_number);
        give_back(&mut self.numbers);
        give_back(&mut self.latest);
        Some(watching)
    }

    /// The latest watch of a watcher.
    pub(super) fn latest_of(&self, watcher: CellRef) -> Option<u64> {
        self.latest.get(&watcher).copied()
    }

    /// The watches of this core's actors whose targets live on another, in order.
    pub(super) fn on(&self, core: CoreId) -> Vec<u64> {
        let life = self.life;
        let there = |(number, watching): (&u64, &Watching)| {
            let is_there = watching.target.address().is_some_and(|actor| {
                let home = Life::new(actor.home.node(), actor.home.incarnation());
                actor.core == core && home == life
            });
            is_there.then_some(*number)
        };
        let mut numbers: Vec<_> = self.by_number.iter().filter_map(there).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Drops everything, the eldest watch first, and what users have brought along piece by piece.
    pub(crate) fn end(self) {
        let mut all: Vec<_> = self.by_number.into_iter().collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        for (_, Watching { target, then, .. }) in all {
            drop_guarded(then);
            drop_guarded(target);
        }
    }

    /// The watches that a watcher has of an entity.
    pub(super) fn of_entity(
        &self,
        watcher: CellRef,
        region: u16,
        id: &dyn Any,
    ) -> impl Iterator<Item = u64> {
        let next = |number: &u64| self.by_number.get(number)?.next;
        std::iter::successors(self.latest_of(watcher), next).filter(move |number| {
            let target = self.by_number.get(number).map(|watching| &watching.target);
            matches!(target, Some(Target::Entity(entity)) if entity.is(region, id))
        })
    }

    /// Adds a target's half.
    pub(super) fn add_watcher(&mut self, target: CellRef, by: WatchId) {
        self.note_foreign(target, by);
        self.watchers.entry(target).or_default().insert(by);
    }

    /// Takes a target's half out.
    pub(super) fn remove_watcher(&mut self, target: CellRef, by: WatchId) {
        match self.is_own(by) {
            true => remove_from(&mut self.watchers, target, by),
            false => self.remove_foreign(by),
        }
    }

    /// Adds an entity's half.
    pub(super) fn add_follower(&mut self, entity: CellRef, by: WatchId) {
        self.note_foreign(entity, by);
        self.followers.entry(entity).or_default().insert(by);
    }

    /// Takes an entity's half out.
    pub(super) fn remove_follower(&mut self, entity: CellRef, by: WatchId) {
        match self.is_own(by) {
            true => remove_from(&mut self.followers, entity, by),
            false => self.remove_foreign(by),
        }
    }

    /// Takes those out who go with an entity.
    pub(super) fn take_followers(&mut self, entity: CellRef) -> BTreeSet<WatchId> {
        let followers = take_from(&mut self.followers, entity);
        self.forget_all_foreign(&followers);
        followers
    }

    /// Takes all out who want to hear of an end.
    pub(super) fn take_watchers(&mut self, target: CellRef) -> BTreeSet<WatchId> {
        let mut all = take_from(&mut self.watchers, target);
        all.append(&mut take_from(&mut self.followers, target));
        self.forget_all_foreign(&all);
        all
    }

    fn forget_all_foreign(&mut self, all: &BTreeSet<WatchId>) {
        if self.foreign_count > 0 {
            for by in all {
                self.forget_foreign(*by);
            }
        }
    }
}

type Halves = AHashMap<CellRef, BTreeSet<WatchId>>;

fn remove_from(halves: &mut Halves, target: CellRef, by: WatchId) {
    if let Some(watchers) = halves.get_mut(&target) {
        watchers.remove(&by);
        if watchers.is_empty() {
            take_from(halves, target);
        }
    }
}

fn take_from(halves: &mut Halves, target: CellRef) -> BTreeSet<WatchId> {
    let watchers = halves.remove(&target).unwrap_or_default();
    give_back(halves);
    watchers
}
