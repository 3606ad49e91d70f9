//! What a program has of its cluster, in its own process.

use super::process::{Place, alone, beside_another, can_run};
use clap::Parser;
use corecast::{
    Actor, ClusterArgs, ClusterChanged, ClusterEnd, ClusterError, ClusterPhase, ClusterSettings,
    Context, Fault, MemberState, MemberUp, Next, NodeId, Runtime,
};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
}

fn settings(place: &Place) -> ClusterSettings {
    let flags = place.flags(1);
    let flags = flags.split(" --cores").next().unwrap();
    let args = Args::parse_from(["node"].into_iter().chain(flags.split_whitespace()));
    args.cluster.settings().unwrap()
}

/// Passes on what it hears.
struct Listener(Sender<NodeId>);

impl Actor for Listener {
    type Msg = MemberUp;

    fn pre_start(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Fault> {
        Ok(ctx.subscribe(|event: MemberUp| event)?)
    }

    fn receive(&mut self, event: MemberUp, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        let _ = self.0.send(event.member.node);
        Ok(Next::Continue)
    }
}

/// What the descriptors of this process lead to.
fn descriptors() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let links = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links.map(|link| link.display().to_string()).collect()
}

pub(crate) fn a_program_sees_its_cluster_and_leaves_it() {
    if !can_run() {
        return;
    }
    let _turn = beside_another();
    let place = Place::new(1, 0);
    let settings = settings(&place);
    let runtime = Runtime::builder().cluster(settings).start().unwrap();
    let (cluster, handle) = (runtime.cluster().unwrap(), runtime.handle());
    let changes = cluster.changes(1_000).unwrap();
    let (heard, up) = channel();
    handle
        .spawn(move || Listener(heard.clone()))
        .wait()
        .unwrap();
    assert_eq!(cluster.wait_for(1).wait(), Ok(()));
    assert_eq!(up.recv_timeout(PATIENCE), Ok(NodeId(1)));
    let me = handle.cluster().unwrap().self_node().unwrap();
    assert_eq!((me.node, me.state), (NodeId(1), MemberState::Up));
    assert_eq!(me.address, cluster.state().advertised);
    assert_eq!(cluster.members(), [me]);
    assert_eq!(cluster.leader(), Some(NodeId(1)));
    assert!(cluster.state().cluster.is_some());
    // Each view is newer, and the last of them is the state.
    let mut version = 0;
    while version < cluster.state().version || !cluster.has_quorum() {
        let ClusterChanged(view) = changes.recv_within(PATIENCE).unwrap();
        assert!(view.version > version);
        version = view.version;
    }

    let waiting = cluster.wait_for(2);
    assert_eq!(cluster.leave().wait(), Ok(()));
    let end = cluster.state().end().cloned().unwrap();
    assert_eq!(end.to_string(), "the node has left the cluster");
    assert_eq!(waiting.wait(), Err(ClusterError::Ended(end)));
    assert!(cluster.self_node().is_none());
    // The runtime goes on.
    let (heard, _up) = channel();
    assert!(handle.spawn(move || Listener(heard.clone())).wait().is_ok());
    let report = runtime.shutdown();
    assert_eq!((report.drained, report.left), (true, None));
}

pub(crate) fn a_runtime_without_a_cluster_has_none() {
    if !can_run() {
        return;
    }
    // What it has open is not to be counted elsewhere.
    let _turn = beside_another();
    let runtime = Runtime::builder().start().unwrap();
    assert!(runtime.cluster().is_none() && runtime.handle().cluster().is_none());
}

pub(crate) fn the_end_of_a_node_leaves_nothing_behind() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let place = Place::new(1, 0);
    let mut held = Vec::new();
    for round in 0..4 {
        let mut settings = settings(&place);
        if round == 3 {
            // A path from the working directory is as good.
            let here = std::env::current_dir().unwrap();
            let to_root = here.components().skip(1).map(|_| "..");
            let data = settings.data.strip_prefix("/").unwrap();
            settings.data = to_root.collect::<std::path::PathBuf>().join(data);
        }
        settings.required_quorum = round % 2;
        settings.leave_on_shutdown = round < 2;
        let runtime = Runtime::builder().cluster(settings).start().unwrap();
        let cluster = runtime.cluster().unwrap();
        if round % 2 == 1 {
            assert!(matches!(cluster.state().phase, ClusterPhase::Member(_)));
        }
        let report = runtime.shutdown();
        assert_eq!(report.left, (round < 2).then_some(true), "round {round}");
        let end = cluster.state().end().cloned();
        assert_eq!(end == Some(ClusterEnd::ShutDown), round >= 2, "{end:?}");
        assert!(cluster.wait_for(1).wait().is_err());
        held.push(descriptors());
    }
    // The first may open what stays open for the process.
    let counts: Vec<usize> = held.iter().map(Vec::len).collect();
    assert_eq!(counts[1..], [counts[1]; 3], "{held:#?}");
}
