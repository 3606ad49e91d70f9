//! Families on real cores: what becomes of actors that fail, of their relatives, and of who watches them.

use corecast::{
    Actor, ActorRef, AskError, Backoff, Context, CoreId, Directive, Fault, Handle, Next, ReplyTo,
    Runtime, RuntimeBuilder, SpawnOptions, StopCause, Strategy, Supervision, Terminated,
};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Longer than anything here takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);
const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Debug)]
enum Order {
    /// Fails with these words; a word that is "panic" is shouted.
    Fail(&'static str),
    Lives(ReplyTo<u32>),
}

/// Counts its messages in this life, and says when a life begins and ends.
struct Child {
    name: &'static str,
    handled: u32,
    diary: SyncSender<String>,
}

impl Child {
    fn note(&self, what: &str) {
        self.diary.send(format!("{} {what}", self.name)).unwrap();
    }
}

impl Actor for Child {
    type Msg = Order;

    fn pre_start(&mut self, _: &mut Context<'_, Self>) -> Result<(), Fault> {
        self.note("starts");
        Ok(())
    }

    fn receive(&mut self, order: Order, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.handled += 1;
        match order {
            Order::Fail("panic") => panic!("told to"),
            Order::Fail(words) => Err(Fault::new(words)),
            Order::Lives(reply_to) => {
                ctx.reply(reply_to, self.handled);
                Ok(Next::Continue)
            }
        }
    }

    fn post_stop(&mut self, _: &mut Context<'_, Self>) {
        self.note("stops");
    }
}

#[derive(Debug)]
enum Ask {
    Child(usize, ReplyTo<ActorRef<Order>>),
    Fail,
}

/// Has three children, and a directive for each of the words with which they fail.
struct Parent {
    strategy: Strategy,
    children: Vec<ActorRef<Order>>,
    diary: SyncSender<String>,
}

impl Actor for Parent {
    type Msg = Ask;

    fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        for name in NAMES {
            let diary = self.diary.clone();
            let child = move || Child {
                name,
                handled: 0,
                diary: diary.clone(),
            };
            let child = ctx.spawn_actor_with(SpawnOptions::default().named(name), child)?;
            self.children.push(child);
        }
        Ok(())
    }

    fn receive(&mut self, ask: Ask, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match ask {
            Ask::Child(number, reply_to) => ctx.reply(reply_to, self.children[number]),
            Ask::Fail => return Err(Fault::new("the parent itself")),
        }
        Ok(Next::Continue)
    }

    fn supervision(&self) -> Supervision {
        Supervision::decide(|fault| match fault.to_string().as_str() {
            text if text.contains("resume") => Directive::Resume,
            text if text.contains("stop") => Directive::Stop,
            text if text.contains("escalate") => Directive::Escalate,
            _ => Directive::Restart,
        })
        .strategy(self.strategy)
        .backoff(Backoff::NONE)
    }
}

fn two_cores() -> RuntimeBuilder {
    Runtime::builder().cores("0-1".parse().unwrap())
}

struct Family {
    runtime: Runtime,
    /// One for all, so that what it sends stays in order.
    handle: Handle,
    parent: ActorRef<Ask>,
    children: [ActorRef<Order>; 3],
    diary: Receiver<String>,
}

fn family(core: CoreId, strategy: Strategy) -> Family {
    let runtime = two_cores().start().unwrap();
    let handle = runtime.handle();
    let (writer, diary) = sync_channel(100);
    let parent = move || Parent {
        strategy,
        children: Vec::new(),
        diary: writer.clone(),
    };
    let options = SpawnOptions::default().named("parent");
    let options = options.supervised(Supervision::default().backoff(Backoff::NONE));
    let parent = handle
        .spawn_supervised(core, options, parent)
        .wait()
        .unwrap();
    let child = |number| {
        handle
            .ask(parent, move |reply_to| Ask::Child(number, reply_to))
            .wait()
            .unwrap()
    };
    let children = [0, 1, 2].map(child);
    let family = Family {
        runtime,
        handle,
        parent,
        children,
        diary,
    };
    family.read(&["a starts", "b starts", "c starts"]);
    family
}

impl Family {
    /// What is in the diary next.
    #[track_caller]
    fn read(&self, wanted: &[&str]) {
        let next = |_: &&str| {
            self.diary
                .recv_timeout(PATIENCE)
                .expect("something happens")
        };
        let said: Vec<String> = wanted.iter().map(next).collect();
        assert_eq!(said, wanted);
    }

    fn fail(&self, child: usize, words: &'static str) {
        self.handle.tell(self.children[child], Order::Fail(words));
    }

    /// How many messages a child has handled in this life, this one included.
    fn lives(&self, child: usize) -> Result<u32, AskError> {
        self.handle.ask(self.children[child], Order::Lives).wait()
    }
}

#[test]
fn one_that_fails_resumes_restarts_or_stops_alone() {
    for core in [CoreId(0), CoreId(1)] {
        let family = family(core, Strategy::OneForOne);
        assert_eq!(family.lives(1), Ok(1));
        family.fail(1, "resume");
        assert_eq!(
            family.lives(1),
            Ok(3),
            "the failing message counts, and the state is kept"
        );
        for words in ["restart", "panic"] {
            family.fail(1, words);
            // What waited behind the message that failed is handled in the next life.
            assert_eq!(family.lives(1), Ok(1));
            // Unless it says otherwise, an actor that is made again stops like any other.
            family.read(&["b stops", "b starts"]);
        }
        family.fail(1, "stop");
        family.read(&["b stops"]);
        assert!(matches!(family.lives(1), Err(AskError::Rejected(_))));
        let handle = &family.handle;
        assert_eq!(handle.lookup::<Order>("parent/b"), Ok(None));
        assert_eq!(handle.lookup("parent/a"), Ok(Some(family.children[0])));
        assert_eq!([family.lives(0), family.lives(2)], [Ok(1), Ok(1)]);
        family.runtime.shutdown();
    }
}

#[test]
fn all_or_the_younger_siblings_share_the_restart() {
    for (strategy, restarted) in [
        (Strategy::AllForOne, [0, 1, 2].as_slice()),
        (Strategy::RestForOne, &[1, 2]),
    ] {
        let family = family(CoreId(1), strategy);
        (0..3).for_each(|child| assert_eq!(family.lives(child), Ok(1)));
        family.fail(1, "restart");
        for child in 0..3 {
            let fresh = restarted.contains(&child);
            assert_eq!(
                family.lives(child),
                Ok(if fresh { 1 } else { 2 }),
                "{strategy:?} {child}"
            );
        }
        family.runtime.shutdown();
    }
}

#[test]
fn an_escalated_fault_restarts_the_parent_whose_children_stop_first() {
    let family = family(CoreId(0), Strategy::OneForOne);
    family.fail(0, "escalate");
    let end: Vec<String> = (0..3)
        .map(|_| family.diary.recv_timeout(PATIENCE).unwrap())
        .collect();
    let mut stops: Vec<&str> = end
        .iter()
        .map(String::as_str)
        .filter(|said| said.ends_with("stops"))
        .collect();
    stops.sort_unstable();
    assert_eq!(stops.len(), 3, "{end:?}");
    family.read(&["a starts", "b starts", "c starts"]);
    let handle = &family.handle;
    let child = handle
        .ask(family.parent, |reply_to| Ask::Child(0, reply_to))
        .wait()
        .unwrap();
    assert_ne!(child, family.children[0], "a new one");
    assert_eq!(handle.ask(child, Order::Lives).wait(), Ok(1));
    handle.tell(family.parent, Ask::Fail);
    let _ = handle
        .ask(family.parent, |reply_to| Ask::Child(0, reply_to))
        .wait()
        .unwrap();
    family.runtime.shutdown();
}

#[derive(Debug)]
enum Watching {
    Begin(ActorRef<Order>),
    Gone(Terminated),
}

struct Watcher(SyncSender<Option<StopCause>>);

impl Actor for Watcher {
    type Msg = Watching;

    fn receive(&mut self, msg: Watching, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match msg {
            Watching::Begin(actor) => ctx.watch(actor, Watching::Gone)?,
            Watching::Gone(terminated) => self.0.send(terminated.cause).unwrap(),
        }
        Ok(Next::Continue)
    }
}

#[test]
fn an_end_is_told_on_every_core_once_and_also_afterwards() {
    let family = family(CoreId(1), Strategy::OneForOne);
    let handle = &family.handle;
    let (told, ends) = sync_channel(10);
    let watchers = [CoreId(0), CoreId(1)].map(|core| {
        let told = told.clone();
        handle.spawn_on(core, move || Watcher(told)).wait().unwrap()
    });
    for watcher in watchers {
        handle
            .send(watcher, Watching::Begin(family.children[2]))
            .wait()
            .unwrap();
    }
    // Restarts are no end.
    family.fail(2, "restart");
    family.read(&["c stops", "c starts"]);
    family.fail(2, "stop");
    family.read(&["c stops"]);
    let mut causes: Vec<Option<StopCause>> = (0..2)
        .map(|_| ends.recv_timeout(PATIENCE).unwrap())
        .collect();
    for watcher in watchers {
        handle.tell(watcher, Watching::Begin(family.children[2]));
        causes.push(ends.recv_timeout(PATIENCE).unwrap());
    }
    assert_eq!(causes[..2], [Some(StopCause::Failed); 2]);
    assert_eq!(causes[2..], [None; 2], "whoever asks later is told, too");
    family.runtime.shutdown();
    drop(told);
    assert!(ends.try_recv().is_err(), "once each");
}
