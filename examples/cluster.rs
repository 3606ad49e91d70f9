//! A node of a cluster that prints its members as they change.
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
use corecast::{Cluster, ClusterArgs, ClusterChanged, ClusterView, PinningArgs, Runtime};
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
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
    let builder = Runtime::builder().pinning(&args.pinning);
    let runtime = builder.cluster(settings).start()?;
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
    let report = runtime.run_until_signal()?;
    println!("left: {:?}", report.left);
    Ok(())
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

/// Three nodes of one cluster, each a process that runs this program, one of which is killed.
fn three_nodes() -> Result<(), Box<dyn Error>> {
    let directory = std::env::temp_dir().join(format!("corecast-example-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let ports = free_ports(3)?;
    let mut nodes = Nodes(Vec::new());
    let mut outputs = Vec::new();
    for id in 1..=3 {
        let mut node = start_node(id, &ports, &directory)?;
        outputs.extend(node.stdout.take().map(BufReader::new));
        nodes.0.push(node);
    }
    let (heard, lines) = std::sync::mpsc::channel();
    for (index, output) in outputs.into_iter().enumerate() {
        let heard = heard.clone();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = heard.send((index + 1, line));
            }
        });
    }
    let begun = Instant::now();
    // What each has said last.
    let mut last = [const { String::new() }; 4];
    let mut wait_until = |all: &[usize], parts: &[&str]| -> Result<(), Box<dyn Error>> {
        let says = |line: &String| parts.iter().all(|part| line.contains(part));
        while !all.iter().all(|node| says(&last[*node])) {
            let (node, line) = lines.recv_timeout(Duration::from_secs(60))?;
            let seconds = begun.elapsed().as_secs_f64();
            println!("{seconds:6.2} s  node {node}: {line}");
            last[node] = line;
        }
        Ok(())
    };
    wait_until(&[1, 2, 3], &["1 (Up, life", "2 (Up, life", "3 (Up, life"])?;
    println!("node 2 is killed");
    nodes.0[1].kill()?;
    wait_until(&[1, 3], &["2 (Down"])?;
    drop(nodes);
    std::fs::remove_dir_all(&directory)?;
    Ok(())
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

/// Ports that are free at this moment.
fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let listeners: Vec<std::net::TcpListener> = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect()
}
