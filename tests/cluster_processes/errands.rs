//! What actors of one node have to do with those of another: they find, watch and stop them. Some of the nodes are runtimes
//! of this process, and one is a process of its own, which can die.

use super::process::{Place, beside_another, can_run};
use clap::Parser;
use corecast::{
    Actor, ActorRef, ClusterArgs, ClusterPhase, Context, CoreId, EntityType, Fault, Handle, Next,
    NodeId, Region, Runtime, RuntimeBuilder, SpawnOptions, StopCause, Terminated, WireMessage,
};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// What nobody says for so long is not said twice.
const QUIET: Duration = Duration::from_millis(500);

/// The flags of the node that a process of its own is to be.
pub(crate) const FLAGS: &str = "CORECAST_TEST_ERRANDS";

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum Errand {
    Watch(ActorRef<Errand>, u64),
    WatchEntity(u64),
    /// The end of whom this watch was of; whether its node is said to be gone.
    Gone(u64, bool),
    Stop(ActorRef<Errand>),
    Nothing,
    End,
}

impl WireMessage for Errand {
    const NAME: &'static str = "test.Errand";
    const VERSION: u16 = 1;
}

/// What somebody has heard: the number of the watch, and whether its node is said to be gone.
type Heard = (u64, bool);

struct Clerk {
    entities: Option<Region<u64, Errand>>,
    heard: Sender<Heard>,
}

fn is_gone(cause: Option<StopCause>) -> bool {
    cause == Some(StopCause::NodeGone)
}

impl Actor for Clerk {
    type Msg = Errand;

    fn receive(&mut self, errand: Errand, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        match errand {
            Errand::Watch(target, watch) => ctx.watch(target, move |gone: Terminated| {
                Errand::Gone(watch, is_gone(gone.cause))
            })?,
            Errand::WatchEntity(id) => {
                let entities = self.entities.unwrap();
                ctx.tell(entities.entity(&id), Errand::Nothing);
                let then = move |cause| Errand::Gone(id, is_gone(cause));
                ctx.watch_entity(entities.entity(&id), then)?;
            }
            Errand::Gone(watch, is_gone) => _ = self.heard.send((watch, is_gone)),
            Errand::Stop(whom) => ctx.stop(whom),
            Errand::Nothing => {}
            Errand::End => return Ok(Next::Stop),
        }
        Ok(Next::Continue)
    }
}

fn clerks(builder: &mut RuntimeBuilder) -> Region<u64, Errand> {
    let (heard, _) = channel();
    let clerk = move |_: &u64| Clerk {
        entities: None,
        heard: heard.clone(),
    };
    builder.entities(
        EntityType::ephemeral("errand", clerk)
            .num_shards(12)
            .clustered(),
    )
}

fn start(flags: &str) -> (Runtime, Region<u64, Errand>) {
    let flags = flags.split(" --cores").next().unwrap();
    // With one of three dead, the other two could not both leave.
    let flags = ["node", "--no-leave"]
        .into_iter()
        .chain(flags.split_whitespace());
    let args = Args::parse_from(flags);
    let mut builder = Runtime::builder().cluster(args.cluster.settings().unwrap());
    let entities = clerks(&mut builder);
    (builder.start().unwrap(), entities)
}

/// Starts a clerk that is found from everywhere.
fn spawn(
    handle: &Handle,
    name: &str,
    entities: Region<u64, Errand>,
) -> (ActorRef<Errand>, Receiver<Heard>) {
    let (heard, hears) = channel();
    let options = SpawnOptions::default().named(name).clustered::<Errand>();
    let clerk = handle.spawn_with(CoreId(0), options, move || Clerk {
        entities: Some(entities),
        heard,
    });
    (clerk.wait().unwrap(), hears)
}

/// Finds a clerk of another node, which may have to be known first.
#[track_caller]
fn find(handle: &Handle, node: u32, name: &str) -> ActorRef<Errand> {
    let until = Instant::now() + PATIENCE;
    loop {
        let found = handle.lookup_on::<Errand>(NodeId(node), name).wait();
        match found {
            Ok(Some(found)) => return found,
            other => assert!(Instant::now() < until, "{name} on {node}: {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn hears_once(hears: &Receiver<Heard>, what: Heard) {
    assert_eq!(hears.recv_timeout(PATIENCE), Ok(what));
    hears_nothing(hears);
}

#[track_caller]
fn hears_nothing(hears: &Receiver<Heard>) {
    assert_eq!(hears.recv_timeout(QUIET), Err(RecvTimeoutError::Timeout));
}

/// A node that is a process of its own.
struct Other(Child);

impl Other {
    fn start(flags: &str) -> Other {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(FLAGS, flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // So that it never waits for somebody to read.
        let mut said = child.stdout.take().unwrap();
        std::thread::spawn(move || said.read_to_end(&mut Vec::new()));
        Other(child)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id() as i32).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the other process does. It watches whom it is told to, and what it hears becomes the name of a clerk.
pub(crate) fn run(flags: &str) -> ! {
    let (runtime, entities) = start(flags);
    let handle = runtime.handle();
    let (clerk, hears) = spawn(&handle, "clerk", entities);
    let naming = handle.clone();
    std::thread::spawn(move || {
        for (count, (watch, is_gone)) in hears.into_iter().enumerate() {
            spawn(
                &naming,
                &format!("heard-{count}-{watch}-{is_gone}"),
                entities,
            );
        }
    });
    for line in BufReader::new(std::io::stdin())
        .lines()
        .map_while(Result::ok)
    {
        let (node, name) = line.split_once(' ').unwrap();
        let target = find(&handle, node.parse().unwrap(), name);
        handle.tell(clerk, Errand::Watch(target, 7));
    }
    // Whoever has started this process is gone.
    std::process::exit(1);
}

/// Waits until a node sees so many members up.
fn wait_for(runtime: &Runtime, members: usize) {
    assert_eq!(runtime.cluster().unwrap().wait_for(members).wait(), Ok(()));
}

pub(crate) fn actors_of_other_nodes_are_found_stopped_and_watched() {
    if !can_run() {
        return;
    }
    let _turn = beside_another();
    let place = Place::new(3, 0);
    let third = Other::start(&place.flags(3));
    let (first, here) = start(&place.flags(1));
    let (second, there) = start(&place.flags(2));
    for runtime in [&first, &second] {
        wait_for(runtime, 3);
    }
    let (handle, other) = (first.handle(), second.handle());
    let (watcher, hears) = spawn(&handle, "watcher", here);
    let (target, _keep) = spawn(&other, "target", there);
    let (stopped, _keep) = spawn(&other, "stopped", there);

    // It is found, also where nobody knows where it is, and who is not there is not.
    let found = find(&handle, 2, "target");
    let anywhere = handle.lookup_anywhere::<Errand>("target").wait();
    assert_eq!(anywhere, Ok(Some(found)));
    assert_eq!(handle.lookup_anywhere::<Errand>("nobody").wait(), Ok(None));

    // Watched, it is not gone until it has gone, and then once.
    handle.tell(watcher, Errand::Watch(found, 1));
    hears_nothing(&hears);
    other.tell(target, Errand::End);
    hears_once(&hears, (1, false));

    // It is stopped from another node, by an actor and from outside.
    let to_stop = find(&handle, 2, "stopped");
    handle.tell(watcher, Errand::Watch(to_stop, 2));
    hears_nothing(&hears);
    handle.tell(watcher, Errand::Stop(to_stop));
    hears_once(&hears, (2, false));
    let gone = other.lookup::<Errand>("stopped");
    assert!(matches!(gone, Ok(None)), "{gone:?}");
    let _ = stopped;

    // Of a node that dies all hear once, of its actors and of its entities.
    let clerk = find(&handle, 3, "clerk");
    handle.tell(watcher, Errand::Watch(clerk, 3));
    let ids = 100..148_u64;
    for id in ids.clone() {
        handle.tell(watcher, Errand::WatchEntity(id));
    }
    hears_nothing(&hears);
    drop(third);
    let mut heard: Vec<Heard> = vec![hears.recv_timeout(PATIENCE).unwrap()];
    while let Ok(next) = hears.recv_timeout(Duration::from_secs(2)) {
        heard.push(next);
    }
    let entities = heard
        .iter()
        .filter(|(watch, _)| ids.contains(watch))
        .count();
    assert!(entities > 0 && entities < 48, "{heard:?}");
    assert!(heard.contains(&(3, true)) && heard.iter().all(|(_, is_gone)| *is_gone));
    let all = heard.len();
    heard.sort_unstable();
    heard.dedup();
    assert_eq!(
        (all, heard.len()),
        (entities + 1, entities + 1),
        "{heard:?}"
    );
    for runtime in [first, second] {
        assert!(runtime.shutdown().drained);
    }
}

/// It comes back in another life, and those whom it watches are there all the time.
pub(crate) fn a_node_that_was_declared_down_and_comes_back_takes_nobody_for_gone() {
    if !can_run() {
        return;
    }
    let _turn = beside_another();
    let place = Place::new(3, 0);
    let mut third = Other::start(&place.flags(3));
    let (first, here) = start(&place.flags(1));
    let (second, _) = start(&place.flags(2));
    for runtime in [&first, &second] {
        wait_for(runtime, 3);
    }
    let handle = first.handle();
    let (target, _keep) = spawn(&handle, "target", here);
    third.tell("1 target");
    let watchers = || {
        let stats = handle.stats().wait();
        let remote = stats.cores.iter().filter_map(|core| core.remote);
        remote.map(|remote| remote.watchers).sum::<usize>()
    };
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let end = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < end, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until("it watches", &|| watchers() == 1);
    let life_of_third = || {
        let members = first.cluster().unwrap().members();
        let member = members.iter().find(|it| it.node == NodeId(3));
        member.map(|member| (member.incarnation, member.state))
    };
    let before = life_of_third();
    third.signal(Signal::STOP);
    until("it is down", &|| life_of_third() != before);
    until("its watch is over", &|| watchers() == 0);
    third.signal(Signal::CONT);
    wait_for(&first, 3);
    until("it watches again", &|| watchers() == 1);
    let heard = |name: &str| handle.lookup_on::<Errand>(NodeId(3), name).wait();
    for gone in [true, false] {
        assert_eq!(heard(&format!("heard-0-7-{gone}")), Ok(None));
    }
    handle.tell(target, Errand::End);
    until("it hears", &|| {
        matches!(heard("heard-0-7-false"), Ok(Some(_)))
    });
    assert!(matches!(
        first.cluster().unwrap().state().phase,
        ClusterPhase::Member(_)
    ));
    drop(third);
    for runtime in [first, second] {
        runtime.shutdown();
    }
}
