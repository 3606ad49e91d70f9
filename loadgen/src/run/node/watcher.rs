//! How long the shards of a node that a fault hits do not answer, as another node sees it.
//!
//! One entity of each of its shards is asked again and again, each ask whether the one before was answered or not, from
//! before the fault. What counts is the first answer to an ask that was sent when the fault had taken effect, for each
//! shard: one that was sent while it was being done may have been answered by the victim as it was. Time is counted from
//! before it was done, so that an outage is never shown as shorter than it was.
//!
//! A node that leaves takes its time, and answers until its shards are elsewhere. There the outage of a shard is the
//! longest time from an ask to the first answer to it or to a later one, until the node has left.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::time::Duration;

use corecast::{Actor, AskError, Context, Fault, Next, Region, Time};

use super::entity::ToMember;
use super::probes::Probes;
use crate::cluster::protocol::{AnsweredNews, Blow, LASTING};
use crate::run::clock::Clock;

/// How long an answer is waited for. Many asks of a shard are open at once: by this over their distance.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);
/// Answers of so long ago are forgotten while the fault is not known: it is told as soon as it is done.
const EARLY: Duration = Duration::from_secs(5);
/// A shard that is silent for so long is given up.
const GIVE_UP: Duration = Duration::from_secs(60);

/// Asks shards of a victim.
pub(super) struct Watcher {
    pub(super) fault: u32,
    pub(super) region: Region<u64, ToMember>,
    pub(super) clock: Clock,
    pub(super) every: Duration,
    /// One for each shard.
    pub(super) keys: Vec<u64>,
    pub(super) answers: Answers,
    pub(super) probes: Probes,
    /// Takes what was found.
    pub(super) found: Sender<AnsweredNews>,
}

/// When shards answered.
#[derive(Debug)]
pub(super) struct Answers {
    hit: Option<Blow>,
    /// The first answer behind the fault, by shard.
    first: Vec<Option<Time>>,
    /// Answers from before the fault was known, for it may have been earlier: shard, sent, answered, by when they came.
    early: VecDeque<(usize, Time, Time)>,
    /// Whether the fault took its time.
    is_lasting: bool,
    /// When asks were sent that neither have an answer nor were followed by one with an answer, by shard.
    open: Vec<VecDeque<Time>>,
    /// The longest wait of each shard since a fault that lasts has begun.
    longest: Vec<Duration>,
}

/// Messages to a watcher.
#[derive(Debug)]
pub(super) enum ToWatcher {
    /// Ask.
    Go,
    /// A shard has answered.
    Answered { shard: usize, sent: Time },
    /// One has not.
    Silent(AskError),
    /// The fault was then.
    Hit(Blow),
    /// That is enough.
    End,
}

impl Actor for Watcher {
    type Msg = ToWatcher;

    fn receive(&mut self, message: ToWatcher, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match message {
            ToWatcher::Go => {
                for shard in 0..self.keys.len() {
                    self.ask(shard, ctx);
                }
                let pause = ctx.sleep(self.every);
                ctx.spawn(pause, |_| ToWatcher::Go);
            }
            ToWatcher::Answered { shard, sent } => {
                self.answers.answered(shard, sent, self.clock.now());
            }
            ToWatcher::Silent(why) => self.probes.failed(why),
            ToWatcher::Hit(blow) => self.answers.hit(blow),
            ToWatcher::End => return Ok(Next::Stop),
        }
        match self.answers.verdict(self.clock.now()) {
            None => Ok(Next::Continue),
            Some(verdict) => {
                let _ = self.found.send(AnsweredNews {
                    fault: self.fault,
                    ..verdict
                });
                Ok(Next::Stop)
            }
        }
    }
}

impl Watcher {
    fn ask(&mut self, shard: usize, ctx: &mut Context<'_, Self>) {
        if self.answers.is_done(shard) {
            return;
        }
        let sent = self.clock.now();
        self.answers.asked(shard, sent);
        ctx.ask_within(
            ANSWER_WITHIN,
            self.region.entity(&self.keys[shard]),
            |reply_to| ToMember::Ask {
                reply_to,
                payload: Vec::new(),
            },
            move |outcome: Result<u64, AskError>| match outcome {
                Ok(_) => ToWatcher::Answered { shard, sent },
                Err(why) => ToWatcher::Silent(why),
            },
        );
    }
}

impl Answers {
    pub(super) fn new(shards: usize) -> Answers {
        Answers {
            hit: None,
            first: vec![None; shards],
            early: VecDeque::new(),
            is_lasting: false,
            open: vec![VecDeque::new(); shards],
            longest: vec![Duration::ZERO; shards],
        }
    }

    fn asked(&mut self, shard: usize, sent: Time) {
        self.open[shard].push_back(sent);
    }

    /// An answer ends the wait of its ask and of those before it.
    fn end_waits(&mut self, shard: usize, sent: Time, at: Time) {
        let begun = self.hit.map_or(Time::MAX, |blow| blow.begun());
        while let Some(waited) = self.open[shard].pop_front_if(|open| *open <= sent) {
            if waited >= begun {
                self.longest[shard] = self.longest[shard].max(at - waited);
            }
        }
    }

    fn answered(&mut self, shard: usize, sent: Time, at: Time) {
        self.end_waits(shard, sent, at);
        match self.hit {
            None => {
                self.early.push_back((shard, sent, at));
                let is_old = |early: &mut (usize, Time, Time)| early.2 + EARLY < at;
                while self.early.pop_front_if(is_old).is_some() {}
            }
            Some(blow) if sent >= blow.done() => {
                self.first[shard].get_or_insert(at);
            }
            Some(_) => {}
        }
    }

    fn hit(&mut self, blow: Blow) {
        self.hit = Some(blow);
        self.is_lasting |= blow.done_ns == LASTING;
        for (shard, sent, answered) in std::mem::take(&mut self.early) {
            self.answered(shard, sent, answered);
        }
    }

    fn is_done(&self, shard: usize) -> bool {
        self.first[shard].is_some()
    }

    /// What is to be said, once all have answered or were given up.
    fn verdict(&self, now: Time) -> Option<AnsweredNews> {
        let blow = self.hit.filter(|blow| blow.done_ns != LASTING)?;
        let begun = blow.begun();
        let first = self.first.iter().zip(&self.longest);
        let answered = first.filter_map(|(first, longest)| match self.is_lasting {
            true => first.map(|_| *longest),
            false => first.map(|at| at - begun),
        });
        let answered: Vec<Duration> = answered.collect();
        // Who leaves may take long to.
        let since = if self.is_lasting { blow.done() } else { begun };
        if answered.len() < self.first.len() && now < since + GIVE_UP {
            return None;
        }
        let nanos = |outage: &Duration| u64::try_from(outage.as_nanos()).unwrap_or(u64::MAX);
        Some(AnsweredNews {
            fault: 0,
            answered: answered.len() as u32,
            shards: self.first.len() as u32,
            first_ns: answered.iter().min().map(nanos),
            last_ns: answered.iter().max().map(nanos),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn blow(begun_ms: u64, done_ms: u64) -> Blow {
        Blow {
            begun_ns: at(begun_ms).as_nanos(),
            done_ns: at(done_ms).as_nanos(),
        }
    }

    #[test]
    fn only_answers_to_asks_behind_the_fault_count() {
        let mut answers = Answers::new(2);
        answers.answered(0, at(1), at(2));
        // Sent behind the fault, which this node had not heard of when the answer came. One that was sent before it comes
        // later than that.
        answers.answered(1, at(11), at(12));
        answers.answered(1, at(3), at(13));
        assert_eq!(answers.verdict(at(13)), None, "there was no fault yet");
        answers.hit(blow(10, 10));
        assert!(!answers.is_done(0) && answers.is_done(1));
        answers.answered(0, at(9), at(20));
        assert_eq!(answers.verdict(at(20)), None);
        answers.answered(0, at(500), at(3_000));
        answers.answered(0, at(600), at(3_001));
        let verdict = answers.verdict(at(3_001)).expect("all have answered");
        assert_eq!((verdict.answered, verdict.shards), (2, 2));
        let ns = |ms: u64| Some(ms * 1_000_000);
        assert_eq!((verdict.first_ns, verdict.last_ns), (ns(2), ns(2_990)));
    }

    /// A link takes milliseconds to be cut, and a process to be gone: asks that are sent meanwhile reach the victim, and
    /// its last answers are no end of its outage.
    #[test]
    fn the_last_answers_of_a_dying_victim_are_none() {
        let mut answers = Answers::new(2);
        // Sent when the fault was begun, answered before and after it was done.
        answers.answered(0, at(12), at(13));
        answers.hit(blow(10, 20));
        answers.answered(1, at(19), at(21));
        assert!(
            !answers.is_done(0) && !answers.is_done(1),
            "they are asked on"
        );
        answers.answered(0, at(20), at(2_010));
        answers.answered(1, at(500), at(3_010));
        let verdict = answers.verdict(at(3_010)).expect("all have answered");
        let ns = |ms: u64| Some(ms * 1_000_000);
        assert_eq!((verdict.first_ns, verdict.last_ns), (ns(2_000), ns(3_000)));
    }

    /// The node that leaves answers at once, then the shard is on its way, then its next owner answers: what counts is the
    /// wait in between.
    #[test]
    fn of_a_node_that_leaves_the_longest_wait_counts() {
        let mut answers = Answers::new(2);
        let begun = Blow {
            done_ns: LASTING,
            ..blow(10, 0)
        };
        for shard in 0..2 {
            answers.asked(shard, at(2));
        }
        answers.answered(1, at(2), at(4));
        answers.hit(begun);
        answers.answered(0, at(2), at(900));
        answers.asked(0, at(20));
        answers.asked(1, at(20));
        answers.answered(0, at(20), at(25));
        answers.answered(1, at(20), at(21));
        assert!(!answers.is_done(0), "it is asked on");
        // The first of these two is never answered, the second is late.
        answers.asked(0, at(30));
        answers.asked(0, at(50));
        answers.answered(0, at(50), at(400));
        assert_eq!(answers.verdict(at(100_000)), None, "it has not left yet");
        answers.hit(blow(10, 100_000));
        for shard in 0..2 {
            answers.asked(shard, at(100_001));
            answers.answered(shard, at(100_001), at(100_003));
        }
        let verdict = answers.verdict(at(100_003)).expect("all have answered");
        assert_eq!((verdict.answered, verdict.shards), (2, 2));
        let ns = |ms: u64| Some(ms * 1_000_000);
        assert_eq!((verdict.first_ns, verdict.last_ns), (ns(2), ns(370)));
    }

    #[test]
    fn what_came_long_before_the_fault_is_forgotten() {
        let mut answers = Answers::new(1);
        (0..1_000).for_each(|n| answers.answered(0, at(n * 100), at(n * 100 + 1)));
        assert!(answers.early.len() <= 51, "{}", answers.early.len());
    }

    #[test]
    fn shards_that_stay_silent_are_given_up_and_named_so() {
        let mut answers = Answers::new(3);
        answers.hit(blow(0, 0));
        answers.answered(2, at(5), at(7));
        assert_eq!(answers.verdict(at(59_999)), None);
        let verdict = answers.verdict(at(60_000)).expect("given up");
        assert_eq!((verdict.answered, verdict.shards), (1, 3));
    }
}
