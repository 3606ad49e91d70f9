//! A network for each node, on a bridge of this machine: what partitions are made of. That takes root and iproute2.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// How namespaces are called, before the number of the process, that of the networks, and that of the node.
const PREFIX: &str = "corecast-test-";
/// The most nodes: what is removed of processes that were killed.
const NODES: u32 = 3;

/// What does not arrive any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Whatever the node sends, and whatever is sent to it.
    Both,
    /// What it sends: nobody hears it, and it hears all.
    Outgoing,
    /// What is sent to it: all hear it, and it hears nobody.
    Incoming,
}

/// Namespaces with their bridge. Removed when they are dropped.
pub(crate) struct Networks {
    /// The number of the process and that of these networks in it.
    run: (u32, u32),
}

impl Networks {
    /// Makes one for each of three nodes, if that can be done here; if not, says so.
    pub(crate) fn make() -> Option<Networks> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        sweep();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed) % 10;
        let this = Networks {
            run: (std::process::id(), number),
        };
        this.try_make().map(|()| this).map_err(skipped).ok()
    }

    fn try_make(&self) -> Result<(), String> {
        let bridge = self.bridge();
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("link set {bridge} up"))?;
        for node in 1..=NODES {
            let (name, link, inside) = (self.name(node), self.link(node), self.inner_link(node));
            ip(&format!("netns add {name}"))?;
            ip(&format!("link add {link} type veth peer name {inside}"))?;
            ip(&format!("link set {inside} netns {name}"))?;
            ip(&format!("link set {link} master {bridge}"))?;
            ip(&format!("link set {link} up"))?;
            let host = self.host(node);
            ip(&format!("-n {name} addr add {host}/24 dev {inside}"))?;
            ip(&format!("-n {name} link set {inside} up"))?;
            ip(&format!("-n {name} link set lo up"))?;
        }
        Ok(())
    }

    /// The address of a node: from the block that is set aside for benchmarks.
    pub(crate) fn host(&self, node: u32) -> String {
        format!("198.19.{}.{node}", (self.run.0 + self.run.1) % 250)
    }

    /// A command that runs in the network of a node.
    pub(crate) fn inside(&self, node: u32, program: &Path) -> Command {
        let mut command = Command::new("ip");
        let name = self.name(node);
        command.args(["netns", "exec", &name]).arg(program);
        command
    }

    /// Has everything of a kind vanish on its way, without a word to whoever sends it. If that cannot be done here, says so.
    #[must_use]
    pub(crate) fn cut(&self, node: u32, cut: Cut) -> bool {
        let (name, link, inside) = (self.name(node), self.link(node), self.inner_link(node));
        let outcome = match cut {
            Cut::Both => ip(&format!("link set {link} down")),
            Cut::Outgoing => run(&format!(
                "ip netns exec {name} tc qdisc add dev {inside} root blackhole"
            )),
            Cut::Incoming => run(&format!("tc qdisc add dev {link} root blackhole")),
        };
        outcome.map_err(skipped).is_ok()
    }

    /// Everything arrives again.
    pub(crate) fn mend(&self, node: u32, cut: Cut) {
        let (name, link, inside) = (self.name(node), self.link(node), self.inner_link(node));
        let outcome = match cut {
            Cut::Both => ip(&format!("link set {link} up")),
            Cut::Outgoing => run(&format!(
                "ip netns exec {name} tc qdisc del dev {inside} root"
            )),
            Cut::Incoming => run(&format!("tc qdisc del dev {link} root")),
        };
        outcome.unwrap();
    }

    // The names of links have room for 15 bytes.

    fn bridge(&self) -> String {
        format!("ct{}-{}", self.run.0, self.run.1)
    }

    fn name(&self, node: u32) -> String {
        format!("{PREFIX}{}-{}-{node}", self.run.0, self.run.1)
    }

    fn link(&self, node: u32) -> String {
        format!("ct{}-{}{node}", self.run.0, self.run.1)
    }

    fn inner_link(&self, node: u32) -> String {
        format!("i{}", self.link(node))
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for node in 1..=NODES {
            let _ = ip(&format!("netns del {}", self.name(node)));
            let _ = ip(&format!("link del {}", self.link(node)));
        }
        let _ = ip(&format!("link del {}", self.bridge()));
    }
}

fn skipped(why: String) {
    let mut out = std::io::stderr();
    let _ = writeln!(
        out,
        "SKIPPED, nothing was tested: a partition takes root and iproute2, and here it cannot be made: {why}"
    );
}

/// Removes what processes have left behind that were killed.
fn sweep() {
    let made = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for entry in made {
        let name = entry.file_name();
        let run = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let mut numbers = run.into_iter().flat_map(|run| run.split('-'));
        let mut next = || numbers.next()?.parse().ok();
        if let (Some(process), Some(number)) = (next(), next())
            && !Path::new(&format!("/proc/{process}")).exists()
        {
            drop(Networks {
                run: (process, number),
            });
        }
    }
}

fn ip(words: &str) -> Result<(), String> {
    run(&format!("ip {words}"))
}

fn run(words: &str) -> Result<(), String> {
    let mut parts = words.split(' ');
    let program = parts.next().unwrap_or_default();
    let failed = match Command::new(program).args(parts).output() {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(format!("'{words}' says: {failed}"))
}
