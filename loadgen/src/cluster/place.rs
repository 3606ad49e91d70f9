//! Where the nodes of a run are: their directories, their addresses and their CPUs.

use std::fs;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use super::namespaces::{Namespaces, NoNamespaces};

/// How the directory of a run is called, before the number of its process.
const PREFIX: &str = "loadgen-cluster-";
/// The port of each node in a network of its own.
const OWN_PORT: u16 = 7_000;
/// How often ports are tried that are free for streams and not for datagrams.
const TRIES: usize = 200;

/// Where the nodes are. Removed when it is dropped.
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    addresses: Vec<String>,
    namespaces: Option<Namespaces>,
}

/// Why there is no place for the nodes.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Their directory cannot be made.
    #[error("cannot make the directory '{path}' for the nodes: {source}; name another with --cluster-dir", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are no ports.
    #[error("there are no {0} ports free on loopback for streams and datagrams alike")]
    Ports(u32),
    /// There are no networks of their own.
    #[error(transparent)]
    Namespaces(#[from] NoNamespaces),
}

impl Place {
    /// A place for so many nodes: on loopback, or each in a network of its own whose link can be cut.
    ///
    /// # Errors
    /// [`PlaceError`]; nothing is left behind.
    pub fn make(
        nodes: u32,
        directory: Option<&Path>,
        has_links: bool,
    ) -> Result<Place, PlaceError> {
        let parent = directory.map_or_else(std::env::temp_dir, Path::to_owned);
        sweep(&parent);
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        if let Err(source) = fs::create_dir(&path) {
            return Err(PlaceError::Directory { path, source });
        }
        let mut place = Place {
            directory: path,
            addresses: Vec::new(),
            namespaces: None,
        };
        if has_links {
            let namespaces = Namespaces::make(nodes)?;
            place.addresses = (1..=nodes)
                .map(|node| format!("{}:{OWN_PORT}", namespaces.address(node)))
                .collect();
            place.namespaces = Some(namespaces);
        } else {
            let ports = free_ports(nodes as usize).ok_or(PlaceError::Ports(nodes))?;
            place.addresses = ports
                .iter()
                .map(|port| format!("127.0.0.1:{port}"))
                .collect();
        }
        Ok(place)
    }

    /// Where a node listens.
    #[must_use]
    pub fn address(&self, node: u32) -> &str {
        &self.addresses[node as usize - 1]
    }

    /// All nodes, as `id@host:port`.
    #[must_use]
    pub fn seeds(&self) -> Vec<String> {
        (1..)
            .zip(&self.addresses)
            .map(|(node, address): (u32, _)| format!("{node}@{address}"))
            .collect()
    }

    /// The directory of a node.
    #[must_use]
    pub fn data(&self, node: u32) -> PathBuf {
        self.directory.join(format!("node-{node}"))
    }

    /// The networks of the nodes, if they have their own.
    #[must_use]
    pub fn namespaces(&self) -> Option<&Namespaces> {
        self.namespaces.as_ref()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Removes what runs have left behind that were killed.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else {
            continue;
        };
        if !Path::new(&format!("/proc/{pid}")).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Ports that are free at this moment. Nodes name each other's, so they have to be known before any node listens.
#[must_use]
pub fn free_ports(count: usize) -> Option<Vec<u16>> {
    let mut held = Vec::with_capacity(count);
    for _ in 0..TRIES {
        if held.len() == count {
            break;
        }
        let Ok(stream) = TcpListener::bind("127.0.0.1:0") else {
            continue;
        };
        let Ok(address) = stream.local_addr() else {
            continue;
        };
        if let Ok(datagrams) = UdpSocket::bind(address) {
            held.push((address.port(), stream, datagrams));
        }
    }
    let ports: Vec<u16> = held.iter().map(|(port, ..)| *port).collect();
    (ports.len() == count).then_some(ports)
}

/// Divides CPUs among nodes: neighbours to one node while there are enough, else one after the other in turn.
///
/// Each node has its data cores, and the CPU of its coordination core: one to itself when its share has one more than its
/// data cores, else its last data core's.
#[must_use]
pub fn divide(cpus: &[usize], nodes: u32, cores_each: Option<u16>) -> Vec<NodeCpus> {
    let nodes = nodes as usize;
    let share = cpus.len() / nodes;
    let cores = cores_each.map_or_else(
        // From four CPUs up the coordination core has one to itself.
        || if share >= 4 { share - 1 } else { share.max(1) },
        usize::from,
    );
    (0..nodes)
        .map(|node| {
            if share >= cores {
                let own = &cpus[node * share..(node + 1) * share];
                NodeCpus {
                    data: own[..cores].to_vec(),
                    coordination: own.get(cores).copied(),
                    is_shared: false,
                }
            } else {
                let at = |core: usize| cpus[(node * cores + core) % cpus.len()];
                NodeCpus {
                    data: (0..cores.min(cpus.len())).map(at).collect(),
                    coordination: None,
                    is_shared: true,
                }
            }
        })
        .collect()
}

/// The CPUs of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCpus {
    /// Of its data cores.
    pub data: Vec<usize>,
    /// Of its coordination core, where that has one to itself.
    pub coordination: Option<usize>,
    /// Whether other nodes have them too.
    pub is_shared: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_divided_as_far_as_they_go() {
        let shared = |cpus: &[usize], nodes, each| {
            let nodes = divide(cpus, nodes, each).into_iter();
            nodes
                .map(|node| (node.data, node.coordination, node.is_shared))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            shared(&[0, 1], 3, None),
            [
                (vec![0], None, true),
                (vec![1], None, true),
                (vec![0], None, true)
            ]
        );
        assert_eq!(
            shared(&[4, 5, 6, 7], 2, None),
            [(vec![4, 5], None, false), (vec![6, 7], None, false)]
        );
        assert_eq!(
            shared(&[4, 5, 6, 7], 2, Some(1)),
            [(vec![4], Some(5), false), (vec![6], Some(7), false)]
        );
        assert_eq!(shared(&[0, 1], 1, Some(2)), [(vec![0, 1], None, false)]);
        let eight: Vec<usize> = (0..8).collect();
        assert_eq!(
            shared(&eight, 2, None),
            [
                (vec![0, 1, 2], Some(3), false),
                (vec![4, 5, 6], Some(7), false)
            ]
        );
        // More cores than CPUs are no more than the CPUs.
        assert_eq!(
            shared(&[0, 1], 2, Some(5)),
            [(vec![0, 1], None, true), (vec![1, 0], None, true)]
        );
    }

    #[test]
    fn a_place_is_removed_and_so_are_those_of_runs_that_were_killed() {
        let parent = tempfile::tempdir().expect("a directory");
        // No process has such a number.
        let stale = parent.path().join(format!("{PREFIX}4294967294"));
        let other = parent.path().join("other");
        for path in [&stale, &other] {
            fs::create_dir(path).expect("made");
        }
        let place = Place::make(3, Some(parent.path()), false).expect("a place");
        assert!(!stale.exists() && other.exists());
        assert!(place.data(3).parent().is_some_and(Path::exists));
        let seeds = place.seeds();
        assert!(seeds[1].starts_with("2@127.0.0.1:") && seeds.len() == 3);
        drop(place);
        let left: Vec<_> = fs::read_dir(parent.path()).expect("listed").collect();
        assert_eq!(left.len(), 1);
        let nowhere = parent.path().join("nowhere");
        let error = Place::make(1, Some(&nowhere), false).expect_err("it cannot be made");
        assert!(error.to_string().contains("--cluster-dir"), "{error}");
    }
}
