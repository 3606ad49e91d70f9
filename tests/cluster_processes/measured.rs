//! How long forming and fail-over take, on this machine as it is.

use crate::process::{Node, Place, alone, can_run};
use corecast::io::machine;
use std::io::Read;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;

/// Median and largest.
fn shown(mut times: Vec<Duration>) -> String {
    times.sort();
    let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
    format!(
        "median {:6} ms, most {:6} ms",
        median.as_millis(),
        most.as_millis()
    )
}

#[test]
#[ignore = "it measures, for some minutes"]
fn how_long_forming_and_failover_take() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    for profile in ["default", "fast"] {
        let (mut formed, mut led, mut down, mut back) = (vec![], vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            let mut place = Place::new(3, 0);
            place.profile = profile;
            let began = Instant::now();
            let mut nodes: Vec<Node> = place.form();
            formed.push(began.elapsed());
            let leader = nodes[0].view.leader;
            let index = nodes.iter().position(|node| node.id == leader).unwrap();
            let victim = nodes.swap_remove(index);
            let life = victim.view.life_of(leader).unwrap();
            let killed = Instant::now();
            victim.kill();
            let other = |view: &crate::process::View| view.leader != leader && view.leader != 0;
            let at = nodes
                .iter_mut()
                .map(|node| node.wait_for_view("another leads", other))
                .max();
            led.push(at.unwrap().duration_since(killed));
            let is_down = |view: &crate::process::View| view.down.contains(&(leader, life));
            let at = nodes
                .iter_mut()
                .map(|node| node.wait_for_view("it is down", is_down))
                .max();
            down.push(at.unwrap().duration_since(killed));
            let restarted = Instant::now();
            let mut node = place.start(leader);
            node.wait_for_view("it is back", |view| {
                view.life() > Some(life) && view.up.len() == 3
            });
            back.push(restarted.elapsed());
        }
        let mut out = std::io::stdout();
        for (what, times) in [
            ("three nodes up, from the start of their processes", formed),
            ("another leader, from SIGKILL of the leader", led),
            ("it is declared down, seen by both others", down),
            ("it is up again, from the start of its process", back),
        ] {
            writeln!(out, "{profile:8} {what:52} {}", shown(times)).unwrap();
        }
    }
}

/// A round trip of 64 bytes over loopback between two threads, each on a CPU of its own: medians, first polling, then
/// blocking.
fn raw_round_trips() -> [Duration; 2] {
    [true, false].map(|polls| {
        let cpus = machine::read_machine().unwrap().allowed_cpus;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let pin = |cpu: usize| {
            let mut set = rustix::thread::CpuSet::new();
            set.set(cpu);
            rustix::thread::sched_setaffinity(None, &set).unwrap();
        };
        let prepare = move |stream: TcpStream| {
            stream.set_nodelay(true).unwrap();
            stream.set_nonblocking(polls).unwrap();
            stream
        };
        let read = |mut stream: &TcpStream, bytes: &mut [u8; 64]| {
            let mut count = 0;
            while count < bytes.len() {
                match stream.read(&mut bytes[count..]) {
                    Ok(0) => return false,
                    Ok(more) => count += more,
                    Err(_) => std::hint::spin_loop(),
                }
            }
            true
        };
        let second = cpus[1 % cpus.len()];
        let echo = std::thread::spawn(move || {
            pin(second);
            let stream = prepare(listener.accept().unwrap().0);
            let mut bytes = [0; 64];
            while read(&stream, &mut bytes) {
                (&stream).write_all(&bytes).unwrap();
            }
        });
        let asker = std::thread::spawn(move || {
            pin(cpus[0]);
            let stream = prepare(TcpStream::connect(address).unwrap());
            let mut times = Vec::new();
            for _ in 0..20_000 {
                let began = Instant::now();
                (&stream).write_all(&[1; 64]).unwrap();
                read(&stream, &mut [0; 64]);
                times.push(began.elapsed());
            }
            times.sort();
            times[times.len() / 2]
        });
        let median = asker.join().unwrap();
        echo.join().unwrap();
        median
    })
}

#[test]
#[ignore = "it measures; build it for that: cargo test --release --test cluster_processes -- --ignored --nocapture tells_and_asks"]
fn how_fast_tells_and_asks_between_two_nodes_are() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let mut out = std::io::stdout();
    let [polling, blocking] = raw_round_trips();
    writeln!(
        out,
        "raw round trip over loopback, polling {polling:?}, blocking {blocking:?}"
    )
    .unwrap();
    for (mode, flags) in [("parking", "--spin 0us"), ("spinning", "--spin 1s")] {
        let place = Place::new(2, 0);
        let start = |id| place.start_with(id, &format!("{} {flags}", place.flags(id)));
        let mut nodes: Vec<Node> = [1, 2].map(start).into();
        for node in &mut nodes {
            node.wait_for_view("both are up", |view| {
                view.up.len() == 2 && view.life().is_some()
            });
        }
        let node = &mut nodes[0];
        let mut elsewhere = |id: &u64| {
            node.tell(&format!("once {id}"));
            node.wait_for_line("once ").text == "once Ok(2)"
        };
        let id = (0..).find(|id| elsewhere(id)).unwrap();
        for (what, command) in [
            ("asks one after the other", format!("asks {id} 5000 0")),
            ("asks with 2 ms between", format!("asks {id} 500 2000")),
            ("tells of 64 bytes", format!("tells {id} 1000000")),
        ] {
            node.tell(&command);
            let line = node.wait_for_line(if command.starts_with("asks") {
                "asked"
            } else {
                "told"
            });
            writeln!(out, "{mode}: {what}: {}", line.text).unwrap();
        }
    }
}
