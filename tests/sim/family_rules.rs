//! What is promised about families of actors, as a judge of what has happened in one.
//!
//! It is written from the documentation: of [`Actor`](corecast::Actor) (the hooks and their order),
//! [`Supervision`](corecast::Supervision), [`Directive`], [`Strategy`], [`Backoff`] and
//! [`Context::watch`](corecast::Context::watch). What follows from a fault or a stop follows at once, so the judge reads the
//! log as a grammar: where a fault stands, it knows which words come next.

use corecast::{Backoff, Directive, StopCause, Strategy, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub type Id = u32;

/// How late what is due may come, on cores that have other things to do and stand still now and then.
const LATE: Duration = Duration::from_millis(50);

/// A supervision.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Whose it is, for a decider's word in the log.
    pub label: u32,
    /// The directive; `None` if a decider is asked.
    pub always: Option<Directive>,
    pub strategy: Strategy,
    pub max: u32,
    pub within: Duration,
    pub backoff: Backoff,
}

#[derive(Clone, Debug)]
pub enum What {
    /// The factory has made the actor for its first life.
    Born(Box<Birth>),
    MadeAgain,
    /// The factory has panicked in a restart.
    NotMadeAgain {
        fault: String,
    },
    PostRestart {
        fault: String,
    },
    PreStart,
    Message {
        number: u64,
        sender: usize,
    },
    Tick {
        life: u32,
    },
    Word {
        from: Id,
    },
    Heard {
        of: Id,
        watch: u64,
        cause: Option<StopCause>,
    },
    /// A message was handled to its end.
    Handled,
    Suspended {
        number: u64,
    },
    Woke {
        number: u64,
    },
    Watched {
        of: Id,
        watch: u64,
    },
    Unwatched {
        of: Id,
        was_watched: bool,
    },
    NameTaken {
        name: String,
    },
    /// It is about to return an error, or to panic.
    Failed {
        fault: String,
        panics: bool,
    },
    OnError {
        fault: String,
        panics: bool,
        answer: Option<Directive>,
    },
    /// A decider's word.
    Decided {
        rule: u32,
        fault: String,
        directive: Directive,
    },
    PreRestart {
        fault: String,
    },
    PostStop,
    /// The state was dropped.
    Dropped,
    /// It says that it stops.
    Stops,
    /// It was told to stop, once it has handled what came before.
    ToldToStop,
    Shutdown,
}

#[derive(Clone, Debug)]
pub struct Birth {
    pub core: u16,
    pub parent: Option<Id>,
    pub name: Option<String>,
    /// The supervision that it was given.
    pub own: Option<Rule>,
    pub of_children: Rule,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Time,
    pub who: Id,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Made,
    /// `post_restart` has run.
    Greeted,
    Started,
    Waiting(Wait),
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Wait {
    /// Who fell together begins in the order of birth.
    group: usize,
    earliest: Time,
    latest: Time,
}

struct Known {
    birth: Birth,
    children: Vec<Id>,
    phase: Phase,
    life: u32,
    suspended: Option<u64>,
    told_to_stop: bool,
    /// Why it has ended; `None` if two stops were under way.
    cause: Option<StopCause>,
    restarts: Vec<Time>,
    /// Since a message was handled: faults of its own, and restarts by anybody's.
    faults: u32,
    falls: u32,
    last_fault: String,
}

struct Watch {
    number: u64,
    of_had_gone: bool,
    /// A later one may have taken its place before it was heard of.
    may_be_replaced: bool,
}

#[derive(Default)]
pub struct Judge {
    log: Vec<Entry>,
    next: usize,
    known: BTreeMap<Id, Known>,
    watches: BTreeMap<(Id, Id), Vec<Watch>>,
    /// Who has heard of whose end.
    mourners: BTreeSet<(Id, Id)>,
    handled: BTreeSet<u64>,
    latest: BTreeMap<(Id, usize), u64>,
    shutdown: bool,
    pub restarts: u64,
    pub news: u64,
}

impl Judge {
    /// Judges what has happened since, which is a number of whole turns.
    pub fn hear(&mut self, entries: Vec<Entry>) {
        self.log.extend(entries);
        while self.next < self.log.len() {
            self.step();
        }
    }

    pub fn living(&self) -> Vec<Id> {
        let lives = |(id, known): (&Id, &Known)| (known.phase != Phase::Gone).then_some(*id);
        self.known.iter().filter_map(lives).collect()
    }

    pub fn lives(&self, id: Id) -> bool {
        self.known
            .get(&id)
            .is_some_and(|known| known.phase != Phase::Gone)
    }

    /// Who is to be found under each name that there ever was.
    pub fn names(&self) -> BTreeMap<String, Option<Id>> {
        let mut names = BTreeMap::new();
        for id in self.known.keys() {
            let Some(path) = self.path(*id) else { continue };
            let found = names.entry(path).or_insert(None);
            if self.lives(*id) {
                assert_eq!(*found, None, "two bear the name of {id}");
                *found = Some(*id);
            }
        }
        names
    }

    /// `None` where somebody has no name.
    fn path(&self, id: Id) -> Option<String> {
        let birth = &self.known[&id].birth;
        let name = birth.name.as_ref()?;
        match birth.parent {
            Some(parent) => Some(format!("{}/{name}", self.path(parent)?)),
            None => Some(name.clone()),
        }
    }

    pub fn was_handled(&self, message: u64) -> bool {
        self.handled.contains(&message)
    }

    /// After a time without faults, which was long enough for everything: nobody waits, and all news has come.
    pub fn is_at_rest(&self) {
        for id in self.living() {
            let known = &self.known[&id];
            let rests = known.phase == Phase::Started && known.suspended.is_none();
            self.must(
                rests,
                &format!("{id} never came to rest: {:?}", known.phase),
            );
            self.must(!known.told_to_stop, &format!("{id} was told to stop"));
        }
        for ((by, of), watches) in &self.watches {
            let owed = watches.iter().any(|watch| !watch.may_be_replaced);
            let is_late = owed && self.lives(*by) && !self.lives(*of);
            self.must(!is_late, &format!("{by} has not heard of the end of {of}"));
        }
    }

    #[track_caller]
    fn must(&self, holds: bool, otherwise: &str) {
        if !holds {
            let from = self.next.saturating_sub(60);
            let log: Vec<_> = self.log[from..self.log.len().min(self.next + 12)]
                .iter()
                .enumerate()
                .map(|(n, entry)| {
                    let here = if from + n + 1 == self.next { ">" } else { " " };
                    format!("{here} {} {:3} {:?}", entry.at, entry.who, entry.what)
                })
                .collect();
            panic!("{otherwise}\n{}", log.join("\n"));
        }
    }

    #[track_caller]
    fn of(&mut self, who: Id) -> &mut Known {
        self.must(
            self.known.contains_key(&who),
            &format!("{who} was never born"),
        );
        self.known.get_mut(&who).unwrap()
    }

    #[track_caller]
    fn take(&mut self) -> Entry {
        self.must(self.next < self.log.len(), "something should have followed");
        self.next += 1;
        self.log[self.next - 1].clone()
    }

    /// The next word is this one.
    #[track_caller]
    fn expect(&mut self, who: Id, is: impl Fn(&What) -> bool, what: &str) {
        let entry = self.take();
        self.must(
            entry.who == who && is(&entry.what),
            &format!("here {what} of {who} was due"),
        );
    }

    fn step(&mut self) {
        let Entry { at, who, what } = self.take();
        match what {
            What::Shutdown => self.shutdown = true,
            What::ToldToStop => self.of(who).told_to_stop = true,
            What::Born(birth) => self.born(who, *birth),
            What::MadeAgain => self.made_again(who, at),
            What::NotMadeAgain { fault } => self.not_made_again(who, at, &fault),
            What::PostRestart { fault } => {
                let known = self.of(who);
                let (phase, wanted) = (known.phase, known.last_fault.clone());
                let is_due = phase == Phase::Made && known.life > 0;
                known.phase = Phase::Greeted;
                self.must(is_due, &format!("a post_restart of {who} in {phase:?}"));
                self.must(fault == wanted, &format!("{who} fell by {wanted}"));
            }
            What::PreStart => {
                let known = self.of(who);
                let phase = if known.life == 0 {
                    Phase::Made
                } else {
                    Phase::Greeted
                };
                let is_due = known.phase == phase && known.suspended.is_none();
                known.phase = Phase::Started;
                self.must(is_due, &format!("a pre_start of {who} at the wrong time"));
            }
            What::Message { number, sender } => {
                self.is_free(who);
                let is_first = self.handled.insert(number);
                self.must(is_first, &format!("{number} was handled twice"));
                let before = self.latest.insert((who, sender), number);
                let in_order = before.is_none_or(|before| before < number);
                self.must(in_order, &format!("{number} has overtaken {before:?}"));
            }
            What::Tick { life } => {
                self.is_free(who);
                let present = self.of(who).life;
                self.must(life == present, "a tick of an earlier life");
            }
            What::Word { from } => {
                self.is_free(who);
                let is_dead = self.mourners.contains(&(who, from));
                self.must(!is_dead, &format!("a word of {from} after its end"));
            }
            What::Heard { of, watch, cause } => self.heard(who, of, watch, cause),
            What::Handled => {
                let known = self.of(who);
                (known.faults, known.falls) = (0, 0);
            }
            What::Suspended { number } => self.of(who).suspended = Some(number),
            What::Woke { number } => {
                let known = self.of(who);
                let waited_for = known.suspended.take();
                let lives = matches!(known.phase, Phase::Started | Phase::Greeted);
                self.must(
                    lives && waited_for == Some(number),
                    &format!("{who} waited for {waited_for:?}, not for {number}"),
                );
            }
            What::Watched { of, watch } => self.watched(who, of, watch),
            What::Unwatched { of, was_watched } => {
                let watches = self.watches.entry((who, of)).or_default();
                if was_watched {
                    watches.pop();
                }
            }
            What::NameTaken { name } => {
                let is_taken = self.has_child_named(who, &name);
                self.must(is_taken, &format!("{who} has no child named {name}"));
            }
            What::Failed { fault, panics } => {
                let asked = self.take();
                let is_it = asked.who == who
                    && matches!(&asked.what, What::OnError { fault: of, panics: p, .. } if *of == fault && *p == panics);
                self.must(is_it, &format!("here on_error of {who} was due"));
                if let What::OnError { answer, .. } = asked.what {
                    self.fails(who, asked.at, &fault, panics, answer);
                }
            }
            What::Stops => self.end(who, StopCause::Wanted),
            What::PostStop | What::Dropped => self.ends_unprompted(who),
            What::OnError { .. } | What::Decided { .. } | What::PreRestart { .. } => {
                self.must(false, "this follows from nothing");
            }
        }
    }

    /// It may handle something.
    #[track_caller]
    fn is_free(&mut self, who: Id) {
        let known = self.of(who);
        let (phase, suspended) = (known.phase, known.suspended);
        let is_free = phase == Phase::Started && suspended.is_none();
        self.must(is_free, &format!("{who} runs in {phase:?}, {suspended:?}"));
    }

    fn has_child_named(&mut self, parent: Id, name: &str) -> bool {
        let children = self.of(parent).children.clone();
        children
            .iter()
            .any(|child| self.known[child].birth.name.as_deref() == Some(name))
    }

    fn born(&mut self, who: Id, birth: Birth) {
        if let Some(parent) = birth.parent {
            let lives = matches!(self.of(parent).phase, Phase::Started | Phase::Greeted);
            self.must(lives, &format!("{who} is the child of nobody"));
            if let Some(name) = &birth.name {
                let is_taken = self.has_child_named(parent, name);
                self.must(!is_taken, &format!("two children are called {name}"));
            }
            self.of(parent).children.push(who);
        }
        let known = Known {
            birth,
            children: vec![],
            phase: Phase::Made,
            life: 0,
            suspended: None,
            told_to_stop: false,
            cause: None,
            restarts: vec![],
            faults: 0,
            falls: 0,
            last_fault: String::new(),
        };
        self.known.insert(who, known);
    }

    fn made_again(&mut self, who: Id, at: Time) {
        let Phase::Waiting(wait) = self.of(who).phase else {
            return self.must(false, &format!("{who} does not wait for a restart"));
        };
        let is_due = self.shutdown || (wait.earliest <= at && at <= wait.latest);
        self.must(is_due, &format!("{who} waits: {wait:?}"));
        let older = self.known.range(..who).find(
            |(_, known)| matches!(known.phase, Phase::Waiting(other) if other.group == wait.group),
        );
        let is_first = self.shutdown || older.is_none();
        self.must(is_first, "an elder sibling begins before");
        let known = self.of(who);
        known.phase = Phase::Made;
        known.life += 1;
    }

    /// The supervision of an actor.
    fn rule_of(&mut self, who: Id) -> Rule {
        let birth = self.of(who).birth.clone();
        match (birth.own, birth.parent) {
            (Some(own), _) => own,
            (None, Some(parent)) => self.of(parent).birth.of_children.clone(),
            (None, None) => panic!("the roots of this test are supervised"),
        }
    }

    fn ask(&mut self, rule: &Rule, fault: &str, panics: bool) -> Directive {
        match rule.always {
            Some(Directive::Resume) if panics => Directive::Restart,
            Some(directive) => directive,
            None => {
                let word = self.take();
                if let What::Decided {
                    rule: label,
                    fault: of,
                    directive,
                } = word.what
                    && label == rule.label
                    && of == fault
                {
                    return directive;
                }
                self.must(false, &format!("here {rule:?} was to be asked"));
                unreachable!()
            }
        }
    }

    fn fails(&mut self, who: Id, at: Time, fault: &str, panics: bool, answer: Option<Directive>) {
        self.of(who).suspended = None;
        let rule = self.rule_of(who);
        let mut directive = match answer {
            Some(answer) => answer,
            None => self.ask(&rule, fault, panics),
        };
        let (mut whose, mut rule) = (who, rule);
        while directive == Directive::Escalate {
            let Some(parent) = self.of(whose).birth.parent else {
                return self.end(whose, StopCause::Failed);
            };
            whose = parent;
            rule = self.rule_of(whose);
            directive = self.ask(&rule, fault, panics);
        }
        match directive {
            Directive::Restart => self.restart(whose, at, fault, &rule),
            Directive::Stop => self.stop(whose, &rule),
            // Nothing is there that could go on.
            _ if matches!(self.of(who).phase, Phase::Waiting(_)) => {
                self.end(who, StopCause::Failed);
            }
            _ => {}
        }
    }

    /// The actor and those of its siblings that its supervision includes, the youngest first.
    fn concerned(&mut self, who: Id, strategy: Strategy) -> Vec<Id> {
        let Some(parent) = self.of(who).birth.parent else {
            return vec![who];
        };
        let siblings = self.of(parent).children.iter().rev().copied();
        let one: Vec<_> = match strategy {
            Strategy::OneForOne => siblings.filter(|sibling| *sibling == who).collect(),
            Strategy::AllForOne => siblings.collect(),
            Strategy::RestForOne => siblings.filter(|sibling| *sibling >= who).collect(),
        };
        one
    }

    fn stop(&mut self, who: Id, rule: &Rule) {
        for member in self.concerned(who, rule.strategy) {
            let cause = if member == who {
                StopCause::Failed
            } else {
                StopCause::Supervisor
            };
            self.end(member, cause);
        }
    }

    /// Whether one more restart is allowed.
    fn is_allowed(&mut self, who: Id, at: Time, rule: &Rule) -> bool {
        let restarts = self.of(who).restarts.iter();
        let lately = restarts.filter(|then| at - **then < rule.within);
        lately.count() < rule.max as usize
    }

    /// Between which bounds somebody waits who falls now.
    fn wait(&mut self, who: Id, at: Time, rule: &Rule) -> Wait {
        let known = self.of(who);
        let Backoff {
            initial,
            max,
            factor,
            jitter,
        } = rule.backoff;
        let after = |faults: u32| {
            let grown = initial.as_secs_f64() * factor.powi(faults as i32);
            grown.min(max.as_secs_f64())
        };
        let least = Duration::from_secs_f64(after(known.faults) * (1.0 - jitter) * 0.999_999);
        let most = Duration::from_secs_f64(after(known.falls));
        Wait {
            group: self.next,
            earliest: at + least,
            latest: at + most + LATE,
        }
    }

    fn restart(&mut self, who: Id, at: Time, fault: &str, rule: &Rule) {
        if !self.is_allowed(who, at, rule) {
            return self.stop(who, rule);
        }
        let wait = self.wait(who, at, rule);
        for member in self.concerned(who, rule.strategy) {
            if matches!(self.of(member).phase, Phase::Waiting(_)) {
                // It could not be made again, which is one more restart.
                if member == who {
                    let known = self.of(who);
                    known.phase = Phase::Waiting(wait);
                    known.last_fault = fault.to_owned();
                    known.restarts.push(at);
                    known.falls += 1;
                    known.faults += 1;
                }
                continue;
            }
            self.end_children(member);
            if self.has_begun(member) {
                let falls =
                    |what: &What| matches!(what, What::PreRestart { fault: by } if by == fault);
                self.expect(member, falls, "pre_restart");
            }
            self.expect(member, |what| matches!(what, What::Dropped), "the drop");
            let known = self.of(member);
            known.phase = Phase::Waiting(wait);
            known.suspended = None;
            known.last_fault = fault.to_owned();
            known.restarts.push(at);
            known.falls += 1;
            known.faults += u32::from(member == who);
            self.restarts += 1;
        }
    }

    fn not_made_again(&mut self, who: Id, at: Time, fault: &str) {
        let phase = self.of(who).phase;
        let Phase::Waiting(was) = phase else {
            return self.must(false, &format!("{who} is made in {phase:?}"));
        };
        let is_due = self.shutdown || (was.earliest <= at && at <= was.latest);
        self.must(is_due, &format!("{who} waits: {was:?}"));
        self.fails(who, at, fault, true, None);
    }

    fn has_begun(&mut self, who: Id) -> bool {
        matches!(self.of(who).phase, Phase::Greeted | Phase::Started)
    }

    fn end_children(&mut self, who: Id) {
        while let Some(child) = self.of(who).children.last().copied() {
            self.end(child, StopCause::Supervisor);
        }
    }

    /// What follows when an actor stops.
    fn end(&mut self, who: Id, cause: StopCause) {
        self.end_children(who);
        let phase = self.of(who).phase;
        self.must(phase != Phase::Gone, &format!("{who} ends twice"));
        if self.has_begun(who) {
            self.expect(who, |what| matches!(what, What::PostStop), "post_stop");
        }
        if !matches!(phase, Phase::Waiting(_)) {
            self.expect(who, |what| matches!(what, What::Dropped), "the drop");
        }
        self.has_gone(who, cause);
    }

    fn has_gone(&mut self, who: Id, cause: StopCause) {
        let is_doubtful = self.shutdown;
        let known = self.of(who);
        known.phase = Phase::Gone;
        let is_doubtful = is_doubtful || (known.told_to_stop && cause != StopCause::Failed);
        known.cause = (!is_doubtful || cause == StopCause::Wanted).then_some(cause);
        if let Some(parent) = known.birth.parent {
            self.of(parent).children.retain(|child| *child != who);
        }
        self.watches.retain(|(by, _), _| *by != who);
    }

    /// Somebody ends who was told to before, or by the shutdown: `who`, or one of its ancestors.
    fn ends_unprompted(&mut self, who: Id) {
        self.next -= 1;
        let mut line = vec![who];
        while let Some(parent) = self.of(line[line.len() - 1]).birth.parent {
            line.push(parent);
        }
        for candidate in line.into_iter().rev() {
            if !self.shutdown && !self.of(candidate).told_to_stop {
                continue;
            }
            let mut words = vec![];
            self.last_words(candidate, &mut words);
            let log = self.log[self.next..].iter();
            let said = log.map(|entry| (entry.who, matches!(entry.what, What::PostStop)));
            let is_end = |entry: &Entry| matches!(entry.what, What::PostStop | What::Dropped);
            let all_are = self.log[self.next..].iter().take(words.len()).all(is_end);
            if all_are && said.take(words.len()).eq(words) {
                let cause = if self.shutdown {
                    StopCause::Shutdown
                } else {
                    StopCause::Wanted
                };
                return self.end(candidate, cause);
            }
        }
        self.next += 1;
        self.must(false, &format!("{who} ends, and nobody has told it to"));
    }

    /// What would be said if this one ended: by whom, and whether it is `post_stop`.
    fn last_words(&self, of: Id, words: &mut Vec<(Id, bool)>) {
        let known = &self.known[&of];
        for child in known.children.iter().rev() {
            self.last_words(*child, words);
        }
        match known.phase {
            Phase::Greeted | Phase::Started => words.extend([(of, true), (of, false)]),
            Phase::Made => words.push((of, false)),
            Phase::Waiting(_) | Phase::Gone => {}
        }
    }

    fn watched(&mut self, by: Id, of: Id, number: u64) {
        let of_had_gone = !self.lives(of);
        let watches = self.watches.entry((by, of)).or_default();
        if !of_had_gone {
            watches.clear();
        }
        for earlier in watches.iter_mut() {
            earlier.may_be_replaced = true;
        }
        watches.push(Watch {
            number,
            of_had_gone,
            may_be_replaced: false,
        });
    }

    fn heard(&mut self, by: Id, of: Id, number: u64, cause: Option<StopCause>) {
        self.is_free(by);
        let is_near = self.of(by).birth.core == self.of(of).birth.core;
        self.must(!self.lives(of), &format!("{of} lives"));
        let watches = self.watches.entry((by, of)).or_default();
        let found = watches.iter().position(|watch| watch.number == number);
        let watch = found.map(|found| watches.remove(found));
        let Some(watch) = watch else {
            return self.must(false, &format!("{by} hears of {of} unasked, or twice"));
        };
        self.mourners.insert((by, of));
        self.news += 1;
        let wanted = self.of(of).cause;
        match cause {
            Some(cause) => {
                let is_right = !watch.of_had_gone && wanted.is_none_or(|wanted| wanted == cause);
                self.must(is_right, &format!("{of} has ended by {wanted:?}"));
            }
            None => {
                let is_right = watch.of_had_gone || !is_near;
                self.must(is_right, &format!("{of} was there when it was watched"));
            }
        }
    }
}
