//! Timers that have names: whose they are, when they are due, and what is to be done then.
//!
//! Each lies in one of two lists of its owner: those that run, and those that are due and wait for the owner's turn. So
//! whatever ends a timer, its cancellation, another one of its name or the end of its owner, finds it in either, and a tick
//! that has been taken back never comes. This is the table; the wheel beside it says when a timer is due.

use super::local::{Local, TimerEvent};
use super::reference::{CellRef, Receiver};
use crate::base::paged::Paged;
use crate::base::stable_hash::stable_hash;
use crate::base::time::Time;
use crate::base::timer_wheel::{TimerKey, TimerWheel};
use ahash::{AHashMap, RandomState};
use hashbrown::HashTable;
use std::any::Any;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What a timer is called: a text, a number, or both, so that one kind of timer can run for many things.
///
/// It is made of either where it is needed, and allocates nothing.
///
/// ```
/// use corecast::TimerName;
///
/// let one: TimerName = "refresh".into();
/// let of_order: TimerName = ("remind", 4_711).into();
/// assert_ne!(one, of_order);
/// assert_eq!(TimerName::from(7), ("", 7).into());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TimerName {
    text: &'static str,
    number: u64,
}

impl TimerName {
    /// A name that has come from another node, if it can be made here: of texts only so many are remembered for ever, as
    /// many as a program can be expected to have in its source.
    pub(crate) fn from_parts(text: &str, number: u64) -> Option<TimerName> {
        let text = interned(text)?;
        Some(TimerName { text, number })
    }

    pub(crate) fn parts(self) -> (&'static str, u64) {
        (self.text, self.number)
    }

    /// The same on every core and in every run.
    pub(crate) fn stable_hash(self) -> u64 {
        let words = [stable_hash(self.text.as_bytes()), self.number].map(u64::to_le_bytes);
        stable_hash(words.as_flattened())
    }
}

/// The most texts that are remembered, and the longest one.
const MOST_TEXTS: usize = 10_000;
const LONGEST_TEXT: usize = 256;

/// The text that is equal to this one, for ever; `None` if it is too long, or one too many.
fn interned(text: &str) -> Option<&'static str> {
    static TEXTS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = texts.get(text) {
        return Some(known);
    }
    if text.len() > LONGEST_TEXT || texts.len() >= MOST_TEXTS {
        return None;
    }
    let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
    texts.insert(text);
    Some(text)
}

impl From<&'static str> for TimerName {
    fn from(text: &'static str) -> Self {
        TimerName { text, number: 0 }
    }
}

impl From<u64> for TimerName {
    fn from(number: u64) -> Self {
        TimerName { text: "", number }
    }
}

impl From<(&'static str, u64)> for TimerName {
    fn from((text, number): (&'static str, u64)) -> Self {
        TimerName { text, number }
    }
}

/// The owner of what is scheduled for the whole runtime; no actor lives there.
pub(crate) const WHOLE_RUNTIME: CellRef = CellRef::new(u32::MAX, 0);

/// What is done when a timer is due.
pub(crate) enum Purpose {
    /// Its owner handles a message, which the `Tick` of its type in here brings.
    Tick(Box<dyn Any + Send>),
    /// This is done, which sends a message. It is away while it is at it.
    Send(Option<Sending>),
}

pub(crate) type Sending = Box<dyn Sends>;

/// What sends the messages of a schedule.
pub(crate) trait Sends: Send {
    fn send(&mut self, local: &mut Local);
    /// Whom the message is for that would be lost with this, and the name of its type.
    fn dead_letter(&self) -> Option<(Receiver<'_>, &'static str)>;
}

/// A timer as it was set.
pub(crate) struct NamedTimer {
    pub(crate) name: TimerName,
    pub(crate) deadline: Time,
    /// A periodic one's interval.
    pub(crate) every: Option<Duration>,
    pub(crate) purpose: Purpose,
}

const NIL: u32 = u32::MAX;

struct Slot {
    owner: CellRef,
    hash: u64,
    /// In the wheel; while the timer is due it has fired there.
    key: Option<TimerKey>,
    timer: Option<NamedTimer>,
    previous: u32,
    /// In a vacant slot: the next vacant one.
    next: u32,
}

impl Default for Slot {
    fn default() -> Self {
        Slot {
            owner: WHOLE_RUNTIME,
            hash: 0,
            key: None,
            timer: None,
            previous: NIL,
            next: NIL,
        }
    }
}

impl Slot {
    fn is(&self, owner: CellRef, name: TimerName) -> bool {
        self.owner == owner && self.timer.as_ref().is_some_and(|timer| timer.name == name)
    }
}

/// First and last of a list.
struct Ends {
    first: u32,
    last: u32,
}

impl Default for Ends {
    fn default() -> Self {
        Ends {
            first: NIL,
            last: NIL,
        }
    }
}

/// The timers of one owner.
#[derive(Default)]
struct Owned {
    running: Ends,
    due: Ends,
    /// Some are due, and the owner can handle them at its turn.
    awake: bool,
}

/// All timers of a core that have names.
pub(crate) struct NamedTimers {
    slots: Paged<Slot>,
    free: u32,
    fresh: u32,
    /// By owner and name; nothing depends on its order.
    index: HashTable<u32>,
    hasher: RandomState,
    owners: AHashMap<CellRef, Owned>,
    /// How many of the owners are awake.
    awake: usize,
}

impl Default for NamedTimers {
    fn default() -> Self {
        NamedTimers {
            slots: Paged::default(),
            free: NIL,
            fresh: 0,
            index: HashTable::new(),
            hasher: RandomState::new(),
            owners: AHashMap::default(),
            awake: 0,
        }
    }
}

type Wheel = TimerWheel<TimerEvent>;

impl NamedTimers {
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// The timer of that name, whether it runs or is due.
    pub(crate) fn find(&self, owner: CellRef, name: TimerName) -> Option<u32> {
        let hash = self.hasher.hash_one((owner, name));
        self.index
            .find(hash, |id| self.slots[*id].is(owner, name))
            .copied()
    }

    pub(crate) fn owner(&self, id: u32) -> CellRef {
        self.slots[id].owner
    }

    /// The timer, to be used in its place.
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut NamedTimer> {
        self.slots[id].timer.as_mut()
    }

    /// Adds a timer, whose owner has none of that name.
    pub(crate) fn start(&mut self, wheel: &mut Wheel, owner: CellRef, timer: NamedTimer) {
        let id = self.vacant();
        let hash = self.hasher.hash_one((owner, timer.name));
        let key = wheel.insert(timer.deadline, TimerEvent::Named(id));
        self.slots[id] = Slot {
            owner,
            hash,
            key: Some(key),
            timer: Some(timer),
            ..Slot::default()
        };
        let slots = &self.slots;
        self.index.insert_unique(hash, id, |id| slots[*id].hash);
        self.link(id);
    }

    /// Notes that a timer has fired in the wheel: its owner has it due.
    pub(crate) fn fired(&mut self, id: u32) {
        self.unlink(id);
        self.slots[id].key = None;
        self.link(id);
    }

    /// Lets a timer that has fired run again.
    pub(crate) fn start_again(&mut self, wheel: &mut Wheel, id: u32, deadline: Time) {
        self.unlink(id);
        let slot = &mut self.slots[id];
        if let Some(timer) = &mut slot.timer {
            timer.deadline = deadline;
        }
        slot.key = Some(wheel.insert(deadline, TimerEvent::Named(id)));
        self.link(id);
    }

    /// Takes a timer out.
    pub(crate) fn end(&mut self, wheel: &mut Wheel, id: u32) -> Option<NamedTimer> {
        self.unlink(id);
        let slot = &mut self.slots[id];
        let timer = slot.timer.take();
        if let Some(key) = slot.key.take() {
            wheel.cancel(key);
        }
        slot.next = self.free;
        self.free = id;
        if let Ok(entry) = self.index.find_entry(slot.hash, |known| *known == id) {
            entry.remove();
        }
        timer
    }

    /// Takes all timers of an owner out.
    pub(crate) fn end_all_of(&mut self, wheel: &mut Wheel, owner: CellRef) -> Vec<NamedTimer> {
        let first = |timers: &Self| {
            let owned = timers.owners.get(&owner)?;
            let due = owned.due.first;
            Some(if due == NIL { owned.running.first } else { due })
        };
        let ids = std::iter::from_fn(|| self.end(wheel, first(self)?));
        ids.collect()
    }

    /// The timers of an owner: those that are due, and then those that run.
    pub(crate) fn of(&self, owner: CellRef) -> impl Iterator<Item = &NamedTimer> {
        let lists = self
            .owners
            .get(&owner)
            .map(|owned| [owned.due.first, owned.running.first]);
        let next = |id: &u32| Some(self.slots[*id].next).filter(|next| *next != NIL);
        let firsts = lists.into_iter().flatten().filter(|first| *first != NIL);
        let ids = firsts.flat_map(move |first| std::iter::successors(Some(first), next));
        ids.filter_map(|id| self.slots[id].timer.as_ref())
    }

    /// Takes all timers out of a core that has ended.
    pub(crate) fn into_timers(mut self) -> Vec<NamedTimer> {
        let slots = 0..self.fresh;
        slots.filter_map(|id| self.slots[id].timer.take()).collect()
    }

    /// The timer of an owner that has been due for longest.
    pub(crate) fn first_due(&self, owner: CellRef) -> Option<u32> {
        let first = self.owners.get(&owner)?.due.first;
        (first != NIL).then_some(first)
    }

    /// Notes whether an owner can handle what is due at its turn. Returns whether it has anything to handle.
    pub(crate) fn wake(&mut self, owner: CellRef, can_run: bool) -> bool {
        let Some(owned) = self.owners.get_mut(&owner) else {
            return false;
        };
        let awake = can_run && owned.due.first != NIL;
        let before = std::mem::replace(&mut owned.awake, awake);
        self.awake = self.awake + usize::from(awake) - usize::from(before);
        awake
    }

    /// Whether any owner has something to handle at its turn.
    pub(crate) fn any_awake(&self) -> bool {
        self.awake > 0
    }

    fn vacant(&mut self) -> u32 {
        if self.free != NIL {
            let id = self.free;
            self.free = self.slots[id].next;
            return id;
        }
        if self.fresh == self.slots.capacity() {
            self.slots.grow();
        }
        self.fresh += 1;
        self.fresh - 1
    }

    /// Puts a timer at the end of the list to which it belongs.
    fn link(&mut self, id: u32) {
        let Slot { owner, key, .. } = self.slots[id];
        let owned = self.owners.entry(owner).or_default();
        let list = match key {
            Some(_) => &mut owned.running,
            None => &mut owned.due,
        };
        let last = std::mem::replace(&mut list.last, id);
        if last == NIL {
            list.first = id;
        } else {
            self.slots[last].next = id;
        }
        let slot = &mut self.slots[id];
        (slot.previous, slot.next) = (last, NIL);
    }

    /// Takes a timer out of its list.
    fn unlink(&mut self, id: u32) {
        let Slot {
            owner,
            key,
            previous,
            next,
            ..
        } = self.slots[id];
        if previous != NIL {
            self.slots[previous].next = next;
        }
        if next != NIL {
            self.slots[next].previous = previous;
        }
        let Some(owned) = self.owners.get_mut(&owner) else {
            return;
        };
        let list = match key {
            Some(_) => &mut owned.running,
            None => &mut owned.due,
        };
        if previous == NIL {
            list.first = next;
        }
        if next == NIL {
            list.last = previous;
        }
        if owned.due.first == NIL {
            self.awake -= usize::from(std::mem::take(&mut owned.awake));
            if owned.running.first == NIL {
                self.owners.remove(&owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn timer(name: u64, deadline: Time) -> NamedTimer {
        NamedTimer {
            name: name.into(),
            deadline,
            every: None,
            purpose: Purpose::Tick(Box::new(())),
        }
    }

    proptest! {
        /// Against a map of what every owner has, running or due since.
        #[test]
        fn nothing_is_lost_and_nothing_stays(
            steps in prop::collection::vec((0_usize..12, 0_u32..3, 0_u64..4, 0_u64..1 << 24), 0..300),
        ) {
            let (mut timers, mut wheel) = (NamedTimers::default(), Wheel::default());
            // By owner and name: whether it is due, and how many had fired before it.
            let mut model: BTreeMap<(u32, u64), Option<usize>> = BTreeMap::new();
            let (mut now, mut fired) = (0, 0);
            for (what, slot, name, ahead) in steps {
                let owner = CellRef::new(slot, 1);
                let known = timers.find(owner, name.into());
                prop_assert_eq!(known.is_some(), model.contains_key(&(slot, name)));
                let later = Time::from_nanos(now + ahead);
                match (what, known) {
                    (0..4, None) => {
                        timers.start(&mut wheel, owner, timer(name, later));
                        model.insert((slot, name), None);
                    }
                    (0..2, Some(id)) => {
                        prop_assert_eq!(timers.owner(id), owner);
                        prop_assert!(timers.end(&mut wheel, id).is_some());
                        model.remove(&(slot, name));
                    }
                    (2..6, _) => {
                        let due = model.iter().filter(|((of, _), since)| *of == slot && since.is_some());
                        let first = due.min_by_key(|(_, since)| **since).map(|(at, _)| *at);
                        let id = timers.first_due(owner);
                        prop_assert_eq!(id, first.and_then(|(_, name)| timers.find(owner, name.into())));
                        if let (Some(id), Some(first)) = (id, first) {
                            timers.start_again(&mut wheel, id, later);
                            model.insert(first, None);
                        }
                    }
                    (6, _) => {
                        let ended = timers.end_all_of(&mut wheel, owner).len();
                        let before = model.len();
                        model.retain(|(of, _), _| *of != slot);
                        prop_assert_eq!(ended, before - model.len());
                    }
                    (7, _) => {
                        let any_due = model.iter().any(|((of, _), since)| *of == slot && since.is_some());
                        prop_assert_eq!(timers.wake(owner, name > 0), any_due && name > 0);
                    }
                    _ => {
                        now += ahead;
                        while let Some(event) = wheel.pop(Time::from_nanos(now)) {
                            let TimerEvent::Named(id) = event else { unreachable!() };
                            timers.fired(id);
                            let owner = timers.owner(id);
                            let name = timers.get_mut(id).unwrap().name.number;
                            let since = model.insert((owner.slot(), name), Some(fired));
                            prop_assert_eq!(since, Some(None));
                            prop_assert!(timers.wake(owner, true));
                            fired += 1;
                        }
                    }
                }
                prop_assert_eq!(timers.len(), model.len());
                let running = model.values().filter(|since| since.is_none()).count();
                prop_assert_eq!(wheel.len(), running);
            }
            for slot in 0..3 {
                timers.end_all_of(&mut wheel, CellRef::new(slot, 1));
            }
            prop_assert!(timers.len() == 0 && wheel.is_empty() && timers.owners.is_empty());
            prop_assert!(!timers.any_awake() && timers.into_timers().is_empty());
        }
    }
}
