//! Processes that are nodes, from outside: started, listened to, told, stopped, and killed in any case.

use super::directory::Directory;
use super::networks::Networks;
use super::node::{FLAGS, PARENT};
use super::requirements;
use corecast::io::machine;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Nothing here takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(90);

/// How many clusters may be up at once: each has three nodes that mostly wait, and there are few CPUs.
pub(crate) const CLUSTERS: usize = 4;

static UP: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// The leave to have so many clusters up.
pub(crate) struct Leave(usize);

/// For what would be disturbed by another cluster, or counts what this process has open.
pub(crate) fn alone() -> Leave {
    leave(CLUSTERS)
}

/// For what mostly waits.
pub(crate) fn beside_another() -> Leave {
    leave(1)
}

fn leave(clusters: usize) -> Leave {
    let up = UP.0.lock().unwrap_or_else(PoisonError::into_inner);
    let has_no_room = |up: &mut usize| *up + clusters > CLUSTERS;
    let up = UP.1.wait_while(up, has_no_room);
    *up.unwrap_or_else(PoisonError::into_inner) += clusters;
    Leave(clusters)
}

impl Drop for Leave {
    fn drop(&mut self) {
        *UP.0.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        UP.1.notify_all();
    }
}

/// Whether this system has io_uring, and room for the two executors of a node; if not, says so.
pub(crate) fn can_run() -> bool {
    requirements::can_run(2)
}

/// A line of a process, and when it came.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) at: Instant,
    pub(crate) text: String,
}

/// What a node has said of its view last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) phase: String,
    pub(crate) leader: u32,
    pub(crate) quorum: bool,
    /// Ids and lives.
    pub(crate) up: Vec<(u32, u32)>,
    pub(crate) down: Vec<(u32, u32)>,
}

impl View {
    fn read(line: &str) -> Option<View> {
        let mut parts = line.strip_prefix("view ")?.split(' ');
        let members = |text: &str| {
            let members = text.split(',').filter_map(|member| {
                let (node, life) = member.split_once(':')?;
                Some((node.parse().ok()?, life.parse().ok()?))
            });
            members.collect()
        };
        Some(View {
            phase: parts.next()?.to_owned(),
            leader: parts.next()?.strip_prefix("leader=")?.parse().ok()?,
            quorum: parts.next()?.strip_prefix("quorum=")? == "true",
            up: members(parts.next()?.strip_prefix("up=")?),
            down: members(parts.next()?.strip_prefix("down=")?),
        })
    }

    pub(crate) fn is_up(&self, node: u32) -> bool {
        self.up.iter().any(|(up, _)| *up == node)
    }

    pub(crate) fn life_of(&self, node: u32) -> Option<u32> {
        let found = self.up.iter().find(|(up, _)| *up == node);
        found.map(|(_, life)| *life)
    }

    /// Its life, if it is a member.
    pub(crate) fn life(&self) -> Option<u32> {
        self.phase.strip_prefix("member:")?.parse().ok()
    }
}

/// A node's process.
pub(crate) struct Node {
    pub(crate) id: u32,
    child: Child,
    lines: Receiver<Line>,
    pub(crate) seen: Vec<Line>,
    pub(crate) view: View,
    pub(crate) started: Instant,
}

impl Node {
    fn start(id: u32, flags: &str, place: &Place) -> Node {
        let me = std::env::current_exe().unwrap();
        // Each of these becomes the program: no process stands between.
        let mut command = match (place.descriptors, &place.networks) {
            (Some(limit), _) => {
                let mut command = Command::new("sh");
                let run = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
                command.arg("-c").arg(run).arg(me);
                command
            }
            (None, Some(networks)) => networks.inside(id, &me),
            (None, None) => Command::new(me),
        };
        let mut child = command
            .env(FLAGS, flags)
            .env(PARENT, std::process::id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let at = Instant::now();
                if let Some(text) = line.strip_prefix('@') {
                    let text = text.to_owned();
                    let _ = sender.send(Line { at, text });
                }
            }
        });
        Node {
            id,
            child,
            lines,
            seen: Vec::new(),
            view: View::default(),
            started: Instant::now(),
        }
    }

    fn take(&mut self, line: Line) {
        if let Some(view) = View::read(&line.text) {
            self.view = view;
        }
        self.seen.push(line);
    }

    /// Takes what it has said by now.
    pub(crate) fn catch_up(&mut self) {
        while let Ok(line) = self.lines.try_recv() {
            self.take(line);
        }
    }

    /// Waits until its view is so; when it came.
    #[track_caller]
    pub(crate) fn wait_for_view(&mut self, what: &str, is_so: impl Fn(&View) -> bool) -> Instant {
        self.catch_up();
        self.wait(what, |node, _| is_so(&node.view))
    }

    /// Waits until one of its views was so since it had said as many lines; the first of them. It may have passed by now.
    #[track_caller]
    pub(crate) fn wait_to_have_seen(
        &mut self,
        what: &str,
        since: usize,
        is_so: impl Fn(&View) -> bool,
    ) -> View {
        let found = |node: &Node| {
            let views = node.seen[since..].iter();
            let mut views = views.filter_map(|line| View::read(&line.text));
            views.find(&is_so)
        };
        self.catch_up();
        self.wait(what, |node, _| found(node).is_some());
        found(self).unwrap()
    }

    /// Waits for a line that begins so, after those that were seen when it was called.
    #[track_caller]
    pub(crate) fn wait_for_line(&mut self, begins: &str) -> Line {
        let from = self.seen.len();
        self.wait(begins, |node, _| {
            node.seen[from..]
                .iter()
                .any(|line| line.text.starts_with(begins))
        });
        let found = self.seen[from..]
            .iter()
            .find(|line| line.text.starts_with(begins));
        found.unwrap().clone()
    }

    /// Waits until it has said so many lines that begin so. What it says of events and of its view comes from threads of their
    /// own, in any order.
    #[track_caller]
    pub(crate) fn wait_until_said(&mut self, begins: &str, times: usize) {
        self.catch_up();
        self.wait(begins, |node, _| node.said(begins) >= times);
    }

    #[track_caller]
    fn wait(&mut self, what: &str, is_so: impl Fn(&Node, ()) -> bool) -> Instant {
        let until = Instant::now() + PATIENCE;
        loop {
            if is_so(self, ()) {
                return self.seen.last().map_or(self.started, |line| line.at);
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.take(line),
                Err(error) => panic!(
                    "node {} does not come to: {what} ({error}); it said\n{}",
                    self.id,
                    self.said_so_far()
                ),
            }
        }
    }

    pub(crate) fn said_so_far(&self) -> String {
        let lines = self.seen.iter().map(|line| {
            let at = line.at.duration_since(self.started).as_secs_f64();
            format!("{at:8.3} {}", line.text)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn said(&self, begins: &str) -> usize {
        self.seen
            .iter()
            .filter(|line| line.text.starts_with(begins))
            .count()
    }

    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{command}").unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The memory in KiB and the descriptors that it holds.
    pub(crate) fn held(&mut self) -> (u64, u64) {
        self.catch_up();
        self.tell("held");
        let line = self.wait_for_line("held ");
        let mut numbers = line.text.split(' ').skip(1).map(|n| n.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the nodes of one cluster are.
pub(crate) struct Place {
    directory: Directory,
    hosts: Vec<String>,
    pub(crate) ports: Vec<u16>,
    founders: usize,
    cpus: Vec<usize>,
    /// So that clusters which are up at once do not share a CPU while there are others.
    first_cpu: usize,
    pub(crate) profile: &'static str,
    pub(crate) descriptors: Option<u32>,
    networks: Option<Networks>,
}

/// How often ports are tried that are free for streams and not for datagrams.
const TRIES: usize = 200;

/// Ports that are free at this moment, for streams and datagrams alike.
fn free_ports(count: usize) -> Vec<u16> {
    let mut held = Vec::new();
    for _ in 0..TRIES {
        if held.len() == count {
            break;
        }
        let stream = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = stream.local_addr().unwrap();
        if let Ok(datagrams) = UdpSocket::bind(address) {
            held.push((address.port(), stream, datagrams));
        }
    }
    assert_eq!(held.len(), count, "there are not enough ports");
    held.iter().map(|(port, ..)| *port).collect()
}

impl Place {
    /// For so many founders and others; their ids begin with 1.
    pub(crate) fn new(founders: usize, others: usize) -> Place {
        let nodes = founders + others;
        let hosts = vec!["127.0.0.1".to_owned(); nodes];
        Place::at(founders, hosts, free_ports(nodes), None)
    }

    /// For founders each of which has a network of its own.
    pub(crate) fn in_networks(founders: usize, networks: Networks) -> Place {
        let hosts = (1..=founders as u32).map(|id| networks.host(id)).collect();
        Place::at(founders, hosts, vec![7_000; founders], Some(networks))
    }

    fn at(
        founders: usize,
        hosts: Vec<String>,
        ports: Vec<u16>,
        networks: Option<Networks>,
    ) -> Place {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = Directory::new(&format!("cluster-{number}"));
        fs::create_dir(&directory.0).unwrap();
        Place {
            directory,
            hosts,
            ports,
            founders,
            cpus: machine::read_machine().unwrap().allowed_cpus,
            first_cpu: number as usize % CLUSTERS * founders,
            profile: "default",
            descriptors: None,
            networks,
        }
    }

    /// The networks of its nodes, which have some.
    pub(crate) fn networks(&self) -> &Networks {
        self.networks.as_ref().unwrap()
    }

    pub(crate) fn data(&self, id: u32) -> PathBuf {
        self.directory.0.join(format!("node-{id}"))
    }

    pub(crate) fn flags(&self, id: u32) -> String {
        let address = |id: u32| {
            let index = id as usize - 1;
            format!("{}:{}", self.hosts[index], self.ports[index])
        };
        let seeds: Vec<String> = (1..=self.founders as u32)
            .map(|id| format!("{id}@{}", address(id)))
            .collect();
        let join = if id as usize > self.founders {
            " --join-only"
        } else {
            ""
        };
        let cpu = self.cpus[(self.first_cpu + id as usize) % self.cpus.len()];
        format!(
            "--node-id {id} --bind {} --seed {} --data-dir {} --required-quorum 0 --cluster-profile {} --cores {cpu}{join}",
            address(id),
            seeds.join(","),
            self.data(id).display(),
            self.profile
        )
    }

    pub(crate) fn start(&self, id: u32) -> Node {
        Node::start(id, &self.flags(id), self)
    }

    pub(crate) fn start_with(&self, id: u32, flags: &str) -> Node {
        Node::start(id, flags, self)
    }

    /// All founders, up and with a quorum.
    pub(crate) fn form(&self) -> Vec<Node> {
        let mut nodes: Vec<Node> = (1..=self.founders as u32)
            .map(|id| self.start(id))
            .collect();
        let founders = self.founders;
        let until = Instant::now() + PATIENCE;
        let has_formed = |node: &Node| {
            let view = &node.view;
            view.up.len() == founders && view.quorum && view.leader != 0 && view.life().is_some()
        };
        while !nodes.iter().all(has_formed) {
            if Instant::now() > until {
                let said: Vec<String> = nodes.iter().map(Node::said_so_far).collect();
                panic!("no cluster forms; its nodes said\n{}", said.join("\n\n"));
            }
            for node in &mut nodes {
                if let Ok(line) = node.lines.recv_timeout(Duration::from_millis(5)) {
                    node.take(line);
                }
                node.catch_up();
            }
        }
        nodes
    }
}
