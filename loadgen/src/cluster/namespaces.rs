//! A network namespace for each node, with a link that can be cut: what partitions are made of.
//!
//! Loopback cannot be cut between two processes, and dropping packets inside of a node would test the node's own idea of
//! a partition. So each node is in a namespace of its own, on a bridge of this machine, and its end of the bridge is set
//! down. That takes root and iproute2.

use std::io;
use std::process::{Command, Output};

/// The network of the nodes: from the block that is set aside for benchmarks.
const NETWORK: &str = "198.18";
/// How namespaces are called, before the number of the process and that of the node.
const PREFIX: &str = "loadgen-";

/// How bridges are called, before the number of the process.
const BRIDGE: &str = "lgb";

/// Namespaces with their bridge. Removed when it is dropped.
#[derive(Debug)]
pub struct Namespaces {
    /// Distinguishes runs: the number of the process. The names of links have room for 15 bytes.
    run: u32,
    nodes: u32,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
#[error(
    "a partition cuts the links of network namespaces, which takes root and iproute2, and here it cannot be done: {0}"
)]
pub struct NoNamespaces(String);

impl Namespaces {
    /// Makes one for each node.
    ///
    /// # Errors
    /// When this process may not; nothing is left behind.
    pub fn make(nodes: u32) -> Result<Namespaces, NoNamespaces> {
        sweep();
        let this = Namespaces {
            run: std::process::id(),
            nodes,
        };
        // What a killed run of the same number has left.
        this.remove();
        let bridge = this.bridge();
        let mut commands = vec![
            format!("link add {bridge} type bridge"),
            format!("link set {bridge} up"),
        ];
        for node in 1..=nodes {
            let (name, link) = (this.name(node), this.link(node));
            let inside = format!("i{link}");
            commands.extend([
                format!("netns add {name}"),
                format!("link add {link} type veth peer name {inside}"),
                format!("link set {inside} netns {name}"),
                format!("link set {link} master {bridge}"),
                format!("link set {link} up"),
                format!("-n {name} addr add {}/24 dev {inside}", this.address(node)),
                format!("-n {name} link set {inside} up"),
                format!("-n {name} link set lo up"),
            ]);
        }
        for command in commands {
            ip(&command).map_err(NoNamespaces)?;
        }
        Ok(this)
    }

    /// The address of a node in its network.
    #[must_use]
    pub fn address(&self, node: u32) -> String {
        format!("{NETWORK}.{}.{node}", self.run % 250)
    }

    /// A command that runs in the network of a node.
    #[must_use]
    pub fn inside(&self, node: u32, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        // It becomes the program: no process stands between.
        command
            .args(["netns", "exec", &self.name(node)])
            .arg(program);
        command
    }

    /// Cuts the link of a node, or mends it.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn set_link(&self, node: u32, is_up: bool) -> io::Result<()> {
        let state = if is_up { "up" } else { "down" };
        ip(&format!("link set {} {state}", self.link(node))).map_err(io::Error::other)
    }

    fn bridge(&self) -> String {
        format!("{BRIDGE}{}", self.run)
    }

    fn name(&self, node: u32) -> String {
        format!("{PREFIX}{}-{node}", self.run)
    }

    fn link(&self, node: u32) -> String {
        format!("lg{}-{node}", self.run)
    }

    fn remove(&self) {
        for node in 1..=self.nodes {
            let _ = ip(&format!("netns del {}", self.name(node)));
            let _ = ip(&format!("link del {}", self.link(node)));
        }
        let _ = ip(&format!("link del {}", self.bridge()));
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes what runs have left behind that were killed.
fn sweep() {
    let listed = Command::new("ip").args(["netns", "list"]).output();
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let of_namespaces = listed.unwrap_or_default();
    let of_namespaces = of_namespaces.lines().filter_map(|line| {
        let (run, _) = line.strip_prefix(PREFIX)?.split_once('-')?;
        run.parse::<u32>().ok()
    });
    // The bridge is made first and removed last.
    let bridges = std::fs::read_dir("/sys/class/net").into_iter().flatten();
    let of_bridges = bridges.flatten().filter_map(|link| {
        let name = link.file_name();
        name.to_str()?.strip_prefix(BRIDGE)?.parse::<u32>().ok()
    });
    let runs: std::collections::BTreeSet<u32> = of_namespaces.chain(of_bridges).collect();
    let dead = |run: &u32| !std::path::Path::new(&format!("/proc/{run}")).exists();
    for run in runs.into_iter().filter(dead) {
        let nodes = crate::options::MAX_NODES;
        Namespaces { run, nodes }.remove();
    }
}

/// Runs `ip` with these words.
fn ip(words: &str) -> Result<(), String> {
    let outcome = Command::new("ip").args(words.split(' ')).output();
    let failed = match outcome {
        Ok(Output { status, .. }) if status.success() => return Ok(()),
        Ok(Output { stderr, .. }) => String::from_utf8_lossy(&stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(format!("'ip {words}' says: {failed}"))
}
