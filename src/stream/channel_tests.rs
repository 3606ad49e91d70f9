//! The stream's side against a model: what comes out, to whom, how much of it, and when the end is told.

use super::channel::{Channel, FanOut, Fate, Output};
use super::error::{PushError, StreamError};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Step {
    Push(u8),
    Join,
    Ask(u8, u8),
    /// Leaves, and gives back so many of the items that it got last.
    Leave(u8, u8),
    CutOff(u8),
    Tell,
    Finish(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..8_u8).prop_map(Step::Push),
        2 => Just(Step::Join),
        6 => (any::<u8>(), 0..9_u8).prop_map(|(who, items)| Step::Ask(who, items)),
        1 => (any::<u8>(), 0..5_u8).prop_map(|(who, unused)| Step::Leave(who, unused)),
        1 => any::<u8>().prop_map(Step::CutOff),
        6 => Just(Step::Tell),
        1 => any::<bool>().prop_map(Step::Finish),
    ];
    prop::collection::vec(step, 1..120)
}

#[derive(Default)]
struct Known {
    /// The ticket of its open demand, and what it asked for.
    asked: Option<(u32, usize)>,
    got: Vec<u64>,
    /// Of a broadcast: the first item that it gets.
    first: u64,
    ended: Option<Result<(), StreamError>>,
    is_cut_off: bool,
}

const CAPACITY: usize = 8;
const MOST: usize = 3;

/// A channel, and what is known of it. Its items are numbers, and so are the places for items and ends.
struct Model {
    channel: Channel<u64, u32, u64>,
    shared: bool,
    cuts_off: bool,
    pushed: u64,
    tickets: u32,
    here: BTreeMap<u64, Known>,
    gone: Vec<Known>,
    given_back: BTreeSet<u64>,
    end: Option<Result<(), StreamError>>,
}

impl Model {
    fn new(shared: bool, cuts_off: bool) -> Model {
        let fan_out = match shared {
            true => FanOut::Shared,
            false => FanOut::Copied {
                copy: u64::clone,
                cuts_off,
            },
        };
        Model {
            channel: Channel::new(fan_out, CAPACITY, MOST),
            shared,
            cuts_off,
            pushed: 0,
            tickets: 0,
            here: BTreeMap::new(),
            gone: Vec::new(),
            given_back: BTreeSet::new(),
            end: None,
        }
    }

    fn someone(&self, who: u8) -> Option<u64> {
        let count = self.here.len();
        (count > 0).then(|| *self.here.keys().nth(usize::from(who) % count).unwrap())
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Push(items) => (0..items).for_each(|_| self.push()),
            Step::Join => self.join(),
            Step::Ask(who, items) => {
                if let Some(number) = self.someone(who) {
                    self.ask(number, usize::from(items));
                }
            }
            Step::Leave(who, unused) => {
                if let Some(number) = self.someone(who) {
                    self.leave(number, usize::from(unused));
                }
            }
            Step::CutOff(who) => {
                if let Some(number) = self.someone(who) {
                    self.channel.cut_off(number, StreamError::TooSlow);
                    let known = self.here.get_mut(&number).unwrap();
                    if known.ended.is_none() {
                        known.is_cut_off = true;
                    }
                }
            }
            Step::Tell => self.tell(),
            Step::Finish(well) => {
                let end = match well {
                    true => Ok(()),
                    false => Err(StreamError::Abandoned),
                };
                self.channel.finish(end.clone());
                self.end.get_or_insert(end);
            }
        }
        self.check();
    }

    fn push(&mut self) {
        let had_room = self.channel.has_room();
        match self.channel.push(self.pushed) {
            Ok(()) => {
                assert!(had_room && self.end.is_none());
                self.pushed += 1;
            }
            Err(PushError::Gone(item)) => assert!(item == self.pushed && self.end.is_some()),
            Err(PushError::Full(item)) => {
                assert!(item == self.pushed && !had_room && self.end.is_none());
                assert!(self.channel.buffered() >= CAPACITY);
            }
        }
    }

    fn join(&mut self) {
        match self.channel.join(false) {
            Ok(number) => {
                assert!(self.here.len() < MOST);
                let known = Known {
                    first: self.pushed - self.channel.buffered() as u64,
                    ..Known::default()
                };
                assert!(self.here.insert(number, known).is_none());
                assert_eq!(self.channel.set_closing(number, number), None);
            }
            Err(why) => {
                assert_eq!(
                    (why, self.here.len()),
                    (StreamError::TooManyConsumers, MOST)
                );
            }
        }
    }

    fn ask(&mut self, number: u64, items: usize) {
        let ticket = self.tickets;
        self.tickets += 1;
        let known = self.here.get_mut(&number).unwrap();
        let before = known.asked.take();
        match self.channel.ask(number, items, ticket) {
            None => {
                assert!(before.is_none());
                known.asked = Some((ticket, items));
            }
            Some(useless) if useless == ticket => {
                assert!(items == 0 || known.ended.is_some() || self.channel.consumers() < MOST);
                known.asked = before;
            }
            Some(useless) => {
                assert_eq!(Some(useless), before.map(|(ticket, _)| ticket));
                known.asked = Some((ticket, items));
            }
        }
    }

    fn leave(&mut self, number: u64, unused: usize) {
        let mut known = self.here.remove(&number).unwrap();
        let kept = known.got.len().saturating_sub(unused);
        let unused: Vec<u64> = known.got.split_off(kept);
        drop(self.channel.leave(number));
        if self.shared {
            let items = unused.iter().map(|item| (*item, *item)).collect();
            self.channel.take_back(items);
            self.given_back.extend(unused);
        }
        self.gone.push(known);
    }

    fn tell(&mut self) {
        while let Some(output) = self.channel.next_output().unwrap() {
            match output {
                Output::Items {
                    consumer,
                    to,
                    items,
                } => {
                    let known = self.here.get_mut(&consumer).unwrap();
                    let (ticket, asked) = known.asked.take().unwrap();
                    assert_eq!(ticket, to);
                    assert!((1..=asked).contains(&items.len()), "the demand is exceeded");
                    assert!(known.ended.is_none(), "items behind the end");
                    for (number, item) in items {
                        assert_eq!(number, item);
                        self.given_back.remove(&item);
                        known.got.push(item);
                    }
                }
                Output::End { closing, end, .. } => {
                    let known = self.here.get_mut(&closing).unwrap();
                    assert!(known.ended.is_none(), "it ends once");
                    if known.is_cut_off {
                        assert_eq!(end, Err(StreamError::TooSlow));
                    } else if Some(&end) == self.end.as_ref() {
                        assert!(
                            self.is_drained_for(closing),
                            "the end came before the items"
                        );
                    } else {
                        assert!(self.cuts_off && end == Err(StreamError::TooSlow));
                    }
                    let known = self.here.get_mut(&closing).unwrap();
                    known.asked = None;
                    known.ended = Some(end);
                }
            }
        }
        assert!(!self.channel.has_news());
    }

    fn is_drained_for(&self, consumer: u64) -> bool {
        let known = &self.here[&consumer];
        match self.shared {
            true => self.channel.buffered() == 0,
            false => known.first + known.got.len() as u64 == self.pushed,
        }
    }

    fn check(&self) {
        assert!(self.channel.buffered() <= CAPACITY + self.given_back.len());
        let all = || self.here.values().chain(&self.gone);
        if self.shared {
            let mut got: Vec<u64> = all().flat_map(|known| &known.got).copied().collect();
            got.sort_unstable();
            assert!(
                got.windows(2).all(|pair| pair[0] < pair[1]),
                "something came twice: {got:?}"
            );
            assert_eq!(
                got.len() + self.channel.buffered(),
                self.pushed as usize,
                "something was lost"
            );
        } else {
            for known in all() {
                let expected = known.first..known.first + known.got.len() as u64;
                assert!(known.got.iter().copied().eq(expected), "{:?}", known.got);
            }
        }
    }

    /// Whatever has happened, what is left can be taken out, and then comes the end.
    fn finish(mut self) {
        self.step(Step::Finish(true));
        for number in self.here.keys().copied().collect::<Vec<_>>() {
            self.leave(number, 0);
        }
        self.join();
        let last = *self.here.keys().next().unwrap();
        for _ in 0..1_000 {
            self.ask(last, 3);
            self.step(Step::Tell);
        }
        assert_eq!(self.here[&last].ended, self.end);
        assert!(self.given_back.is_empty());
        assert_eq!(self.channel.fate(), Fate::Goes);
        self.leave(last, 0);
        match self.shared || self.channel.buffered() == 0 {
            true => assert_eq!(self.channel.fate(), Fate::Over),
            false => panic!("a broadcast whose last consumer has everything holds nothing"),
        }
    }
}

proptest! {
    #[test]
    fn a_shared_stream_gives_each_item_to_one(steps in steps()) {
        let mut model = Model::new(true, false);
        steps.into_iter().for_each(|step| model.step(step));
        model.finish();
    }

    #[test]
    fn a_broadcast_gives_each_item_to_all(steps in steps(), cuts_off in any::<bool>()) {
        let mut model = Model::new(false, cuts_off);
        steps.into_iter().for_each(|step| model.step(step));
        model.finish();
    }
}

#[test]
fn nothing_is_given_without_demand() {
    let mut model = Model::new(true, false);
    model.join();
    model.step(Step::Push(20));
    model.step(Step::Tell);
    assert_eq!((model.pushed, model.channel.demand()), (CAPACITY as u64, 0));
    assert!(model.here[&0].got.is_empty());
    model.step(Step::Finish(true));
    model.step(Step::Ask(0, 5));
    model.step(Step::Tell);
    assert_eq!(model.here[&0].got.len(), 5);
    assert_eq!(model.here[&0].ended, None);
    model.step(Step::Ask(0, 3));
    model.step(Step::Tell);
    // All has come, so the end comes without demand.
    assert_eq!(model.here[&0].ended, Some(Ok(())));
}

/// Its demand and the end may have met on the way.
#[test]
fn who_has_heard_of_the_end_gets_nothing_that_comes_back() {
    let mut model = Model::new(true, false);
    model.join();
    model.join();
    model.push();
    model.ask(0, 1);
    model.step(Step::Finish(true));
    model.step(Step::Tell);
    assert!(model.here.values().all(|known| known.ended == Some(Ok(()))));
    model.ask(1, 1);
    model.leave(0, 1);
    model.step(Step::Tell);
    assert_eq!(model.channel.fate(), Fate::Goes);
    model.leave(1, 0);
    assert_eq!(model.channel.fate(), Fate::Lingers);
    model.finish();
}

#[test]
fn the_demand_of_a_broadcast_is_that_of_the_slowest() {
    let mut model = Model::new(false, false);
    model.join();
    model.join();
    model.ask(0, 5);
    assert_eq!(model.channel.demand(), 0);
    model.ask(1, 3);
    assert_eq!(model.channel.demand(), 3);
    model.push();
    assert_eq!(model.channel.demand(), 2);
}

#[test]
fn who_has_asked_is_not_cut_off_for_being_slow() {
    let mut model = Model::new(false, true);
    model.join();
    model.join();
    model.ask(0, 1);
    model.step(Step::Push(20));
    assert_eq!((model.pushed, model.channel.has_room()), (8, false));
    model.step(Step::Tell);
    // The second one has not asked, and nobody waits for it.
    assert!(model.channel.has_room());
    model.step(Step::Push(1));
    assert_eq!(model.channel.consumers(), 1);
    model.step(Step::Tell);
    assert_eq!(model.here[&1].ended, Some(Err(StreamError::TooSlow)));
    model.step(Step::Push(1));
    model.step(Step::Tell);
    // And then the first one has none either.
    assert_eq!(model.here[&0].ended, Some(Err(StreamError::TooSlow)));
    assert_eq!(model.channel.consumers(), 0);
}

#[test]
fn a_stream_is_not_over_while_something_may_come_back() {
    let mut model = Model::new(true, false);
    model.join();
    model.push();
    model.ask(0, 1);
    model.step(Step::Finish(true));
    model.step(Step::Tell);
    model.channel.await_consumer(0);
    model.leave(0, 0);
    assert_eq!(model.channel.fate(), Fate::Goes);
    // And nobody hears of the end who might get it.
    model.join();
    model.step(Step::Tell);
    assert_eq!(model.here[&1].ended, None);
    model.channel.heard(0);
    model.step(Step::Tell);
    assert_eq!(model.here[&1].ended, Some(Ok(())));
    model.leave(1, 0);
    assert_eq!(model.channel.fate(), Fate::Over);
}

#[test]
fn a_newcomer_is_waited_for_until_it_has_asked() {
    let mut channel = Channel::<u64, (), ()>::new(
        FanOut::Copied {
            copy: u64::clone,
            cuts_off: true,
        },
        1,
        2,
    );
    assert_eq!(channel.push(0), Ok(()));
    assert_eq!(channel.join(true), Ok(0));
    channel.await_consumer(0);
    assert_eq!(channel.push(1), Err(PushError::Full(1)));
    channel.heard(0);
    assert_eq!((channel.push(1), channel.consumers()), (Ok(()), 0));
}
