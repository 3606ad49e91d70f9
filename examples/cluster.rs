//! A node of a cluster that prints its members as they change, and on which of them entities live that it asks.
//!
//! ```sh
//! cargo run --example cluster                              # three nodes in processes of their own; one is killed
//! ```
//!
//! Or node by node, in a terminal each, with one directory for all:
//!
//! ```sh
//! seeds=1@127.0.0.1:7001,2@127.0.0.1:7002,3@127.0.0.1:7003
//! mkdir -p nodes
//! cargo run --example cluster -- --node-id 1 --bind 127.0.0.1:7001 --seed $seeds --data-dir nodes/1
//! cargo run --example cluster -- --node-id 2 --bind 127.0.0.1:7002 --seed $seeds --data-dir nodes/2
//! cargo run --example cluster -- --node-id 3 --bind 127.0.0.1:7003 --seed $seeds --data-dir nodes/3
//! ```
//!
//! Ctrl-C has a node leave; killed, it is declared down by the others some seconds later; started again, it comes back in a
//! new life.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use clap::Parser;
use corecast::{
    Actor, Cluster, ClusterArgs, ClusterChanged, ClusterView, Context, EntityType, Fault, Handle,
    Next, PinningArgs, Region, ReplyTo, Runtime, WireMessage,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    pinning: PinningArgs,

    /// End when so many nodes are up
    #[arg(long, value_name = "N")]
    until_up: Option<usize>,
}

/// Entities of the whole cluster: each lives on one node, and every node can ask it.
struct Place {
    node: u32,
}

/// Where are you?
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Where(ReplyTo<u32>);

impl WireMessage for Where {
    const NAME: &'static str = "example.Where";
    const VERSION: u16 = 1;
}

impl Actor for Place {
    type Msg = Where;

    fn receive(
        &mut self,
        Where(reply_to): Where,
        ctx: &mut Context<'_, Self>,
    ) -> Result<Next, Fault> {
        ctx.reply(reply_to, self.node);
        Ok(Next::Continue)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    match args.cluster.settings() {
        Some(_) => run_node(args),
        None => three_nodes(),
    }
}

/// One node, until it is told to end.
fn run_node(args: Args) -> Result<(), Box<dyn Error>> {
    let mut settings = args.cluster.settings().ok_or("no node id was given")?;
    // The others may come later, and this is to print them as they come.
    settings.required_quorum = 0;
    let node = settings.node.0;
    let mut builder = Runtime::builder().pinning(&args.pinning).cluster(settings);
    let places = EntityType::ephemeral("place", move |_: &u64| Place { node });
    let places = builder.entities(places.num_shards(PLACES as u32).clustered());
    let runtime = builder.start()?;
    let cluster: Cluster = runtime.cluster().ok_or("it was started as a node")?;
    println!("listens at {}", cluster.state().advertised);
    let changes = cluster.changes(1_000)?;
    if let Some(n) = args.until_up {
        let up = cluster.wait_for(n);
        up.wait()?;
        show(&cluster.state());
        runtime.shutdown();
        return Ok(());
    }
    std::thread::spawn(move || {
        for ClusterChanged(view) in changes {
            show(&view);
        }
    });
    let handle = runtime.handle();
    std::thread::spawn(move || ask_places(&handle, places));
    let report = runtime.run_until_signal()?;
    println!("left: {:?}", report.left);
    Ok(())
}

/// How many entities are asked.
const PLACES: u64 = 12;

/// Asks all entities again and again, and prints where they are whenever that has changed.
fn ask_places(handle: &Handle, places: Region<u64, Where>) {
    let mut before = String::new();
    loop {
        let asks = (0..PLACES).map(|id| handle.ask(places.entity_ref(id), Where));
        let asks: Vec<_> = asks.collect();
        let mut nodes = BTreeMap::<u32, usize>::new();
        let answers = asks.into_iter().filter_map(|ask| ask.wait().ok());
        answers.for_each(|node| *nodes.entry(node).or_default() += 1);
        let answered: usize = nodes.values().sum();
        let nodes = nodes
            .iter()
            .map(|(node, count)| format!("{count} on node {node}"));
        let nodes: Vec<String> = nodes.collect();
        let now = format!(
            "{answered} of {PLACES} entities answer: {}",
            nodes.join(", ")
        );
        if now != before {
            println!("{now}");
            before = now;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn show(view: &ClusterView) {
    let members = view.members.iter().map(|member| {
        let reachable = if member.is_reachable() {
            ""
        } else {
            ", unreachable"
        };
        let (id, life) = (member.node.0, member.incarnation.0);
        format!("{id} ({:?}{reachable}, life {life})", member.state)
    });
    let members: Vec<String> = members.collect();
    let leader = view
        .leader
        .map_or("nobody".to_owned(), |leader| leader.0.to_string());
    let quorum = if view.has_quorum { "" } else { "; no quorum" };
    let members = members.join(" ");
    println!(
        "{:?}; members {members}; leader {leader}{quorum}",
        view.phase
    );
}

/// Whether a line is of a kind.
type Kind = fn(&str) -> bool;

/// Three nodes of one cluster, each a process that runs this program, one of which is killed.
fn three_nodes() -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let directory = Directory::make()?;
    let ports = free_ports(3)?;
    let mut nodes = Nodes(Vec::new());
    let mut outputs = Vec::new();
    for id in 1..=3 {
        let mut node = start_node(id, &ports, &directory.0)?;
        outputs.extend(node.stdout.take().map(BufReader::new));
        nodes.0.push(node);
    }
    let (heard, lines) = std::sync::mpsc::channel();
    let told = heard.clone();
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            let _ = told.send((NOBODY, String::new()));
        }
    });
    for (index, output) in outputs.into_iter().enumerate() {
        let heard = heard.clone();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = heard.send((index + 1, line));
            }
        });
    }
    let begun = Instant::now();
    // Waits until each of these nodes has said something of each kind.
    let wait_until = |all: &[usize], kinds: &[Kind]| -> Result<(), Box<dyn Error>> {
        let kinds = |node: &usize| {
            kinds
                .iter()
                .map(|is_so| (*node, *is_so))
                .collect::<Vec<_>>()
        };
        let mut awaited: Vec<(usize, Kind)> = all.iter().flat_map(kinds).collect();
        while !awaited.is_empty() {
            let (node, line) = lines.recv_timeout(Duration::from_secs(60))?;
            if node == NOBODY {
                return Err("it was told to end".into());
            }
            let seconds = begun.elapsed().as_secs_f64();
            println!("{seconds:6.2} s  node {node}: {line}");
            awaited.retain(|(waits, is_so)| *waits != node || !is_so(&line));
        }
        Ok(())
    };
    let all_answer: Kind = |line| line.contains("12 of 12 entities answer");
    let all_up: Kind = |line| (1..=3).all(|id| line.contains(&format!("{id} (Up, life")));
    wait_until(&[1, 2, 3], &[all_up, all_answer])?;
    println!("node 2 is killed");
    nodes.0[1].kill()?;
    let is_down: Kind = |line| line.contains("2 (Down");
    let all_elsewhere: Kind =
        |line| line.contains("12 of 12 entities answer") && !line.contains("on node 2");
    wait_until(&[1, 3], &[is_down, all_elsewhere])
}

/// Who says that this program is to end.
const NOBODY: usize = 0;

/// Where the nodes keep what they must not forget; removed, however this program ends, when they have.
struct Directory(PathBuf);

impl Directory {
    fn make() -> std::io::Result<Directory> {
        let name = format!("corecast-example-{}", std::process::id());
        let directory = Directory(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&directory.0)?;
        Ok(directory)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Ends them, however this program ends.
struct Nodes(Vec<Child>);

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.0 {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

fn start_node(id: u32, ports: &[u16], directory: &Path) -> std::io::Result<Child> {
    let seeds: Vec<String> = (1..)
        .zip(ports)
        .map(|(id, port)| format!("{id}@127.0.0.1:{port}"))
        .collect();
    Command::new(std::env::current_exe()?)
        .args(["--node-id", &id.to_string(), "--core-count", "1"])
        .args(["--bind", &format!("127.0.0.1:{}", ports[id as usize - 1])])
        .args(["--seed", &seeds.join(",")])
        .arg("--data-dir")
        .arg(directory.join(id.to_string()))
        .stdout(Stdio::piped())
        .spawn()
}

/// Ports that are free at this moment, for streams and datagrams alike.
fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let hold = || {
        let stream = TcpListener::bind("127.0.0.1:0")?;
        let datagrams = UdpSocket::bind(stream.local_addr()?)?;
        std::io::Result::Ok((stream, datagrams))
    };
    // All are held until the last is found, or the same would be found again.
    let held: Vec<_> = (0..count).map(|_| hold()).collect::<Result<_, _>>()?;
    held.iter()
        .map(|(stream, _)| Ok(stream.local_addr()?.port()))
        .collect()
}
