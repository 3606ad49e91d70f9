//! The stream's side as a state machine: a bounded buffer, the consumers, and how much each of them wants.
//!
//! `D` is where the items for a demand go, `C` where a consumer hears of the end; here they are only kept and handed out.

use super::error::{End, PushError, StreamError};
use super::protocol::Item;
use crate::actor::guard::guarded;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// Who gets an item.
pub(crate) enum FanOut<T> {
    /// One of the consumers.
    Shared,
    /// All of them.
    Copied {
        copy: fn(&T) -> T,
        /// A full buffer waits for nobody.
        cuts_off: bool,
    },
}

impl<T: Clone> FanOut<T> {
    pub(crate) fn copied() -> Self {
        FanOut::Copied {
            copy: T::clone,
            cuts_off: false,
        }
    }
}

impl<T> Clone for FanOut<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for FanOut<T> {}

impl<T> fmt::Debug for FanOut<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FanOut::Shared => "Shared",
            FanOut::Copied {
                cuts_off: false, ..
            } => "Copied",
            FanOut::Copied { cuts_off: true, .. } => "CopiedToWhoKeepsUp",
        })
    }
}

/// One consumer, as the stream knows it.
pub(crate) struct Consumer<D, C> {
    demand: Option<(usize, D)>,
    /// Its first demand is on its way.
    is_to_ask: bool,
    /// It is to say what it wants next, or what it has not used of what it got last.
    is_awaited: bool,
    closing: Option<C>,
    /// Of a broadcast: the next item that it gets.
    next: u64,
    /// It is cut off, with this error.
    cut_off: Option<StreamError>,
    /// It has been told that the stream has ended for it.
    told: bool,
}

/// Something that a consumer is to be told.
pub(crate) enum Output<T, D, C> {
    Items {
        consumer: u64,
        to: D,
        items: Vec<Item<T>>,
    },
    End {
        closing: C,
        end: End,
        /// Its demand, which brings nothing any more.
        demand: Option<D>,
    },
}

/// What is to become of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Goes,
    /// The producer has ended it, and somebody should come for what is left.
    Lingers,
    /// Everything has been taken, and the end been heard.
    Over,
}

/// A stream's items and consumers.
pub(crate) struct Channel<T, D, C> {
    fan_out: FanOut<T>,
    capacity: usize,
    max_consumers: usize,
    queue: VecDeque<Item<T>>,
    /// The number of the next item.
    next: u64,
    consumers: BTreeMap<u64, Consumer<D, C>>,
    next_consumer: u64,
    /// Of a broadcast: for how many consumers each item is the next one that they get.
    positions: BTreeMap<u64, usize>,
    /// Consumers that have gone while something was on its way to them, which comes back.
    returning: usize,
    /// Of a broadcast: what nobody needs any more. Its destructors are code of the user's, and do not run under the lock of
    /// the stream.
    useless: Vec<Item<T>>,
    /// Consumers with an open demand; the one that has waited longest comes first.
    waiting: VecDeque<u64>,
    /// Consumers that are to hear that they are cut off.
    cut_off: usize,
    end: Option<End>,
    end_heard: bool,
}

impl<T, D, C> Channel<T, D, C> {
    pub(crate) fn new(fan_out: FanOut<T>, capacity: usize, max_consumers: usize) -> Self {
        Channel {
            fan_out,
            capacity,
            max_consumers,
            queue: VecDeque::new(),
            next: 0,
            consumers: BTreeMap::new(),
            next_consumer: 0,
            positions: BTreeMap::new(),
            returning: 0,
            useless: Vec::new(),
            waiting: VecDeque::new(),
            cut_off: 0,
            end: None,
            end_heard: false,
        }
    }

    /// Takes an item in. One for which there is no room may have consumers of a broadcast cut off instead.
    pub(crate) fn push(&mut self, item: T) -> Result<(), PushError<T>> {
        if self.end.is_some() {
            return Err(PushError::Gone(item));
        }
        if self.queue.len() >= self.capacity {
            if self.waits_for_slowest() {
                return Err(PushError::Full(item));
            }
            self.cut_off_slowest();
        }
        self.queue.push_back((self.next, item));
        self.next += 1;
        Ok(())
    }

    /// Whether the stream takes an item now.
    pub(crate) fn has_room(&self) -> bool {
        self.queue.len() < self.capacity || !self.waits_for_slowest()
    }

    /// How many items it holds.
    pub(crate) fn buffered(&self) -> usize {
        self.queue.len()
    }

    /// How many items more the consumers have asked for, of a broadcast the one that has asked for least.
    pub(crate) fn demand(&self) -> usize {
        match self.fan_out {
            FanOut::Shared => {
                let demands = self
                    .present()
                    .filter_map(|consumer| consumer.demand.as_ref());
                let asked = demands.fold(0_usize, |sum, (items, _)| sum.saturating_add(*items));
                asked.saturating_sub(self.queue.len())
            }
            FanOut::Copied { .. } => {
                let asked = self.present().map(|consumer| {
                    let demand = consumer.demand.as_ref().map_or(0, |(items, _)| *items);
                    demand.saturating_sub((self.next - consumer.next) as usize)
                });
                asked.min().unwrap_or(0)
            }
        }
    }

    pub(crate) fn consumers(&self) -> usize {
        self.present().count()
    }

    /// Whether anybody has ever joined.
    pub(crate) fn had_consumers(&self) -> bool {
        self.next_consumer > 0
    }

    fn present(&self) -> impl Iterator<Item = &Consumer<D, C>> {
        self.consumers
            .values()
            .filter(|consumer| consumer.cut_off.is_none())
    }

    /// Ends the stream, behind what it holds; the first end counts.
    pub(crate) fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// Whether each item goes to one consumer.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.fan_out, FanOut::Shared)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Takes in a consumer; its number. `is_to_ask` says that its first demand is on its way.
    pub(crate) fn join(&mut self, is_to_ask: bool) -> Result<u64, StreamError> {
        if self.consumers.len() >= self.max_consumers {
            return Err(StreamError::TooManyConsumers);
        }
        let number = self.next_consumer;
        self.next_consumer += 1;
        let consumer = Consumer {
            demand: None,
            is_to_ask,
            is_awaited: false,
            closing: None,
            next: self.queue.front().map_or(self.next, |(first, _)| *first),
            cut_off: None,
            told: false,
        };
        self.enter(consumer.next);
        self.consumers.insert(number, consumer);
        Ok(number)
    }

    /// From a consumer something is to be heard.
    pub(crate) fn await_consumer(&mut self, number: u64) {
        if let Some(consumer) = self.consumers.get_mut(&number) {
            consumer.is_awaited = true;
        }
    }

    /// A consumer, which may have gone, has said what was awaited, or will never say it.
    pub(crate) fn heard(&mut self, number: u64) {
        match self.consumers.get_mut(&number) {
            Some(consumer) => (consumer.is_awaited, consumer.is_to_ask) = (false, false),
            None => self.returning = self.returning.saturating_sub(1),
        }
    }

    /// A consumer has said where it wants to hear of the end. What is given back is of no use.
    pub(crate) fn set_closing(&mut self, number: u64, closing: C) -> Option<C> {
        match self.consumers.get_mut(&number) {
            Some(consumer) => consumer.closing.replace(closing),
            None => Some(closing),
        }
    }

    /// A consumer wants items, which go to `to`. What is given back is of no use.
    pub(crate) fn ask(&mut self, number: u64, items: usize, to: D) -> Option<D> {
        let Some(consumer) = self.consumers.get_mut(&number) else {
            return Some(to);
        };
        if items == 0 || consumer.told || consumer.cut_off.is_some() {
            return Some(to);
        }
        let before = consumer.demand.replace((items, to));
        if before.is_none() {
            self.waiting.push_back(number);
        }
        before.map(|(_, to)| to)
    }

    /// A consumer goes; what is given back is of no use.
    pub(crate) fn leave(&mut self, number: u64) -> Option<Consumer<D, C>> {
        let gone = self.consumers.remove(&number);
        if let Some(consumer) = &gone {
            let is_to_be_told = consumer.cut_off.is_some() && !consumer.told;
            self.cut_off -= usize::from(is_to_be_told);
            self.returning += usize::from(consumer.is_awaited);
            if consumer.cut_off.is_none() {
                self.exit(consumer.next);
            }
            self.waiting.retain(|waiting| *waiting != number);
        }
        self.trim();
        gone
    }

    /// Of a shared stream: puts items back where they came from.
    pub(crate) fn take_back(&mut self, items: Vec<Item<T>>) {
        if !items.is_empty() {
            self.queue.extend(items);
            self.queue
                .make_contiguous()
                .sort_by_key(|(number, _)| *number);
        }
    }

    /// Ends the stream for one consumer.
    pub(crate) fn cut_off(&mut self, number: u64, error: StreamError) {
        if let Some(consumer) = self.consumers.get_mut(&number)
            && consumer.cut_off.is_none()
            && !consumer.told
        {
            consumer.cut_off = Some(error);
            let next = consumer.next;
            self.cut_off += 1;
            self.exit(next);
            self.waiting.retain(|waiting| *waiting != number);
        }
    }

    /// Ends the stream for everybody at once; what it held.
    pub(crate) fn break_off(&mut self, error: &StreamError) -> VecDeque<Item<T>> {
        let numbers: Vec<u64> = self.consumers.keys().copied().collect();
        for number in numbers {
            self.cut_off(number, error.clone());
        }
        self.finish(Err(error.clone()));
        std::mem::take(&mut self.queue)
    }

    /// Forgets the consumers; what is left of them.
    pub(crate) fn forget_consumers(&mut self) -> BTreeMap<u64, Consumer<D, C>> {
        self.waiting.clear();
        self.positions.clear();
        self.cut_off = 0;
        std::mem::take(&mut self.consumers)
    }

    /// What somebody is to be told next.
    ///
    /// An error is what a panic said that came out of copying an item; nothing has changed.
    pub(crate) fn next_output(&mut self) -> Result<Option<Output<T, D, C>>, String> {
        Ok(self.next_items()?.or_else(|| self.next_end()))
    }

    /// What is to be dropped.
    pub(crate) fn take_useless(&mut self) -> Vec<Item<T>> {
        std::mem::take(&mut self.useless)
    }

    /// Whether somebody is to be told something, for all that a push can do.
    pub(crate) fn has_news(&self) -> bool {
        self.cut_off > 0
            || match self.fan_out {
                FanOut::Shared => !self.queue.is_empty() && !self.waiting.is_empty(),
                FanOut::Copied { .. } => self.first_behind().is_some(),
            }
    }

    pub(crate) fn fate(&self) -> Fate {
        if self.end.is_none() || !self.consumers.is_empty() || self.returning > 0 {
            Fate::Goes
        } else if self.end_heard && self.queue.is_empty() {
            Fate::Over
        } else {
            Fate::Lingers
        }
    }

    fn next_items(&mut self) -> Result<Option<Output<T, D, C>>, String> {
        let (place, items) = match self.fan_out {
            FanOut::Shared => match self.next_part() {
                Some(part) => (0, part),
                None => return Ok(None),
            },
            FanOut::Copied { copy, .. } => match self.first_behind() {
                Some(place) => (place, self.copies_for(place, copy)?),
                None => return Ok(None),
            },
        };
        let taken = self.waiting.remove(place).and_then(|number| {
            let consumer = self.consumers.get_mut(&number)?;
            let (_, to) = consumer.demand.take()?;
            let from = consumer.next;
            consumer.next += items.len() as u64;
            Some((number, to, from..consumer.next))
        });
        Ok(taken.map(|(consumer, to, got)| {
            self.exit(got.start);
            self.enter(got.end);
            self.trim();
            Output::Items {
                consumer,
                to,
                items,
            }
        }))
    }

    /// Of a shared stream: what the one gets who has waited longest.
    fn next_part(&mut self) -> Option<Vec<Item<T>>> {
        if self.queue.is_empty() {
            return None;
        }
        let (items, _) = self.consumers[self.waiting.front()?].demand.as_ref()?;
        // A fair part, or the first one would leave nothing for the others.
        let part = self.queue.len().div_ceil(self.waiting.len());
        Some(self.queue.drain(..part.min(*items)).collect())
    }

    /// Of a broadcast: copies for the one who waits at this place.
    fn copies_for(&mut self, place: usize, copy: fn(&T) -> T) -> Result<Vec<Item<T>>, String> {
        let consumer = &self.consumers[&self.waiting[place]];
        let asked = consumer.demand.as_ref().map_or(0, |(items, _)| *items);
        let first = self
            .queue
            .partition_point(|(number, _)| *number < consumer.next);
        let mut copies = Vec::with_capacity(asked.min(self.queue.len() - first));
        let originals = self.queue.range(first..).take(asked);
        let copied =
            guarded(|| copies.extend(originals.map(|(number, item)| (*number, copy(item)))));
        match copied {
            Ok(()) => Ok(copies),
            Err(panic) => {
                self.useless.append(&mut copies);
                Err(panic)
            }
        }
    }

    fn next_end(&mut self) -> Option<Output<T, D, C>> {
        if self.end.is_none() && self.cut_off == 0 {
            return None;
        }
        let (end, next) = (&self.end, self.next);
        let is_shared = self.is_shared();
        let is_empty = self.queue.is_empty() && self.returning == 0;
        let (number, consumer) = self.consumers.iter_mut().find(|(_, consumer)| {
            let has_all = if is_shared {
                is_empty
            } else {
                consumer.next == next
            };
            consumer.closing.is_some() && (consumer.cut_off.is_some() || end.is_some() && has_all)
        })?;
        let (number, closing) = (*number, consumer.closing.take()?);
        consumer.told = true;
        let end = match (&consumer.cut_off, end) {
            (Some(error), _) => {
                self.cut_off -= 1;
                Err(error.clone())
            }
            (None, end) => {
                self.end_heard = true;
                end.clone()?
            }
        };
        let demand = consumer.demand.take().map(|(_, to)| to);
        self.waiting.retain(|waiting| *waiting != number);
        Some(Output::End {
            closing,
            end,
            demand,
        })
    }

    /// Of a broadcast: the place in the queue of the first who waits for something that is there.
    fn first_behind(&self) -> Option<usize> {
        self.waiting
            .iter()
            .position(|number| self.consumers[number].next < self.next)
    }

    /// Of a broadcast: drops what all consumers have got. Without consumers it keeps what it has.
    fn trim(&mut self) {
        if self.is_shared() {
            return;
        }
        if let Some(needed) = self.slowest() {
            let got = self.queue.partition_point(|(number, _)| *number < needed);
            self.useless.extend(self.queue.drain(..got));
        }
    }

    /// A consumer is to get this item next.
    fn enter(&mut self, next: u64) {
        if !self.is_shared() {
            *self.positions.entry(next).or_default() += 1;
        }
    }

    /// A consumer is not to get this item next any more.
    fn exit(&mut self, next: u64) {
        if let Some(consumers) = self.positions.get_mut(&next) {
            *consumers -= 1;
            if *consumers == 0 {
                self.positions.remove(&next);
            }
        }
    }

    /// Of a broadcast: the next item of the consumers that are furthest behind.
    fn slowest(&self) -> Option<u64> {
        self.positions.keys().next().copied()
    }

    /// Whether a full buffer stays full until somebody takes something. Who has asked for more is not slow, nor who has
    /// just come and is going to.
    fn waits_for_slowest(&self) -> bool {
        let FanOut::Copied { cuts_off: true, .. } = self.fan_out else {
            return true;
        };
        let Some(slowest) = self.slowest() else {
            return true;
        };
        self.present().any(|consumer| {
            consumer.next == slowest && (consumer.demand.is_some() || consumer.is_to_ask)
        })
    }

    fn cut_off_slowest(&mut self) {
        let slowest = self.slowest();
        let slow: Vec<u64> = self
            .consumers
            .iter()
            .filter(|(_, consumer)| consumer.cut_off.is_none() && Some(consumer.next) == slowest)
            .map(|(number, _)| *number)
            .collect();
        for number in slow {
            self.cut_off(number, StreamError::TooSlow);
        }
        if self.slowest().is_none() {
            // They were kept for those who have just been cut off.
            self.useless.extend(self.queue.drain(..));
        }
        self.trim();
    }
}
