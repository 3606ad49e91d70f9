//! What a message to another node costs in clusters of 2 to 16 simulated nodes: frames, bytes, writes, and instructions of
//! the engine and its connections. Each node has the same work, to be spread over all others, so that none of it should
//! grow with the number of nodes, but for what each connection costs once in a turn: the same messages are spread over more of
//! them.
//!
//! `cargo bench --bench cluster` prints the curve, and fails if a message costs more than 1.5 times of something in the
//! largest cluster than in the smallest. Instructions are counted by `valgrind --tool=callgrind`, which has to be installed;
//! the program runs itself under it. Those of the simulator do not count.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "a program that prints")]

use corecast::base::ids::{NodeId, ShardId};
use corecast::sim::{ClusterSimulation, SimulationBuilder};
use corecast::{Actor, Context, EntityType, Fault, Mailbox, Next, Region, WireMessage};
use std::fmt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

const NODES: [u32; 4] = [2, 4, 8, 16];
const MOST: f64 = 1.5;

/// Shards of each node.
const SHARDS: u32 = 4;
/// Messages that each node sends in one turn of its core, and in all.
const BURST: u64 = 256;
const MESSAGES: u64 = 64 * BURST;
const PAUSE: Duration = Duration::from_millis(1);

/// What callgrind counts: everything that a core does for a message, and nothing of the simulator around it.
const COUNTED: [&str; 4] = [
    "corecast::engine::core::Engine::turn",
    "corecast::engine::data_links::DataLinks::receive",
    "corecast::engine::data_links::DataLinks::settle",
    "corecast::engine::data_links::DataLinks::sent",
];

/// A reading of a meter: 64 bytes are a usual message.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Reading([u8; 64]);

impl WireMessage for Reading {
    const NAME: &'static str = "bench.Reading";
    const VERSION: u16 = 1;
}

/// The simulator writes down every message; this does not count.
impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reading")
    }
}

struct Meter(u64);

impl Actor for Meter {
    type Msg = Reading;

    fn receive(&mut self, reading: Reading, _: &mut Context<'_, Self>) -> Result<Next, Fault> {
        self.0 += u64::from(reading.0[0]);
        Ok(Next::Continue)
    }
}

/// Sends readings to the meters of all other nodes, in turns.
struct Reader {
    meters: Region<u64, Reading>,
    ids: Vec<u64>,
    next: usize,
}

/// So many readings are left to send.
#[derive(Debug)]
struct Left(u64);

impl Actor for Reader {
    type Msg = Left;

    fn receive(&mut self, Left(left): Left, ctx: &mut Context<'_, Self>) -> Result<Next, Fault> {
        for _ in 0..BURST.min(left) {
            let id = self.ids[self.next];
            self.next = (self.next + 1) % self.ids.len();
            ctx.tell(self.meters.entity(&id), Reading([1; 64]));
        }
        if left > BURST {
            ctx.start_timer("next", PAUSE, Left(left - BURST))?;
        }
        Ok(Next::Continue)
    }
}

fn is_here(nodes: u32, shard: ShardId, node: NodeId) -> bool {
    shard.0 % nodes + 1 == node.0
}

fn start(cluster: &mut ClusterSimulation, node: NodeId, nodes: u32) -> Region<u64, Reading> {
    cluster.start(node, |mut builder: SimulationBuilder| {
        let meters = EntityType::send("meter", |_: &u64| Meter(0))
            .num_shards(SHARDS * nodes)
            .mailbox(Mailbox::bounded(100_000));
        let meters = builder.entities(meters.clustered());
        (builder.cores(1), meters)
    })
}

/// What one message costs.
#[derive(Clone, Copy, Debug)]
struct Cost {
    frames: f64,
    bytes: f64,
    writes: f64,
}

/// Runs a cluster in which each node sends so many messages, and says what they cost.
fn run(nodes: u32, messages: u64) -> Cost {
    let mut cluster = ClusterSimulation::new(7);
    let all: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
    let regions: Vec<_> = all
        .iter()
        .map(|node| start(&mut cluster, *node, nodes))
        .collect();
    for shard in (0..SHARDS * nodes).map(ShardId) {
        let owner = all.iter().find(|node| is_here(nodes, shard, **node));
        cluster.assign("meter", shard, *owner.expect("an owner"));
    }
    cluster.publish();
    // Until everybody is connected.
    cluster.run_for(Duration::from_secs(1));
    let before = total(&mut cluster, &all);
    if messages > 0 {
        for (node, meters) in all.iter().zip(regions) {
            let ids = (0..).filter(|id| !is_here(nodes, meters.shard_of(id).shard, *node));
            let ids: Vec<u64> = ids.take(240).collect();
            let reader = move || Reader {
                meters,
                ids: ids.clone(),
                next: 0,
            };
            let handle = cluster.node(*node).handle();
            let reader = handle.spawn(reader);
            let reader = cluster
                .run_until(reader)
                .expect("it starts")
                .expect("it starts");
            cluster.node(*node).handle().tell(reader, Left(messages));
        }
    }
    assert!(cluster.run_until_idle(), "it ends");
    cluster.run_for(Duration::from_millis(200));
    let after = total(&mut cluster, &all);
    let arrived: u64 = all
        .iter()
        .map(|node| cluster.remote_stats(*node).frames_in)
        .sum();
    assert_eq!(arrived, messages * u64::from(nodes), "all arrive");
    let each = |count: fn(&Total) -> u64| {
        (count(&after) - count(&before)) as f64 / (messages.max(1) * u64::from(nodes)) as f64
    };
    Cost {
        frames: each(|total| total.frames),
        bytes: each(|total| total.bytes),
        writes: each(|total| total.writes),
    }
}

/// Everything that all connections have sent.
struct Total {
    frames: u64,
    bytes: u64,
    writes: u64,
}

fn total(cluster: &mut ClusterSimulation, nodes: &[NodeId]) -> Total {
    let mut total = Total {
        frames: 0,
        bytes: 0,
        writes: 0,
    };
    for node in nodes {
        for counters in cluster.link_counters(*node) {
            total.frames +=
                counters.frames_out + counters.pings + counters.pongs + counters.credits;
            total.bytes += counters.bytes_out;
            total.writes += counters.writes;
        }
    }
    total
}

/// Instructions of all cores of a cluster that does this.
fn instructions(nodes: u32, messages: u64) -> u64 {
    let program = std::env::current_exe().expect("this program");
    let counted = COUNTED.map(|function| format!("--toggle-collect={function}*"));
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(counted)
        .arg(program)
        .arg("work")
        .args([nodes.to_string(), messages.to_string()])
        .stdout(Stdio::null())
        .output()
        .expect("valgrind is installed");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, count) = collected.expect("callgrind says what it has collected");
    count.trim().parse().expect("a number")
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).is_some_and(|word| word == "work") {
        let number = |index: usize| words[index].parse::<u64>().expect("a number");
        run(number(2) as u32, number(3));
        return ExitCode::SUCCESS;
    }
    println!(
        "a message of 64 bytes to another node; each node sends {MESSAGES}, {BURST} at a time, to all others in turns"
    );
    println!("nodes  frames  bytes  messages a write  instructions, both ends");
    let mut first = None;
    let mut is_flat = true;
    for nodes in NODES {
        let cost = run(nodes, MESSAGES);
        let more = instructions(nodes, MESSAGES).saturating_sub(instructions(nodes, 0));
        let each = more as f64 / (MESSAGES * u64::from(nodes)) as f64;
        println!(
            "{nodes:>5}  {:>6.3}  {:>5.1}  {:>16.1}  {each:>23.0}",
            cost.frames,
            cost.bytes,
            1.0 / cost.writes
        );
        let (least, least_each) = *first.get_or_insert((cost, each));
        is_flat &= cost.frames <= least.frames * MOST
            && cost.bytes <= least.bytes * MOST
            && each <= least_each * MOST;
    }
    if is_flat {
        return ExitCode::SUCCESS;
    }
    println!(
        "that is not flat: something costs more than {MOST} times as much as with {} nodes",
        NODES[0]
    );
    ExitCode::FAILURE
}
