//! Whoever knocks at the port of a node and is none costs bounded memory, few lines in the log, and no member.

use super::process::{Node, Place, beside_another, can_run};
use corecast::base::ids::{CoreId, Incarnation, NodeId};
use corecast::wire::address::Life;
use corecast::wire::preamble::{PROTOCOL, Preamble, Purpose, cluster_hash};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::time::Duration;

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream
}

fn preamble(purpose: Purpose) -> [u8; 32] {
    let preamble = Preamble {
        protocol: PROTOCOL,
        purpose,
        cluster: cluster_hash("corecast"),
        life: Life::new(NodeId(77), Incarnation(1)),
        wanted: Some(CoreId(0)).filter(|_| purpose == Purpose::Data),
        core: CoreId(0),
    };
    preamble.encode()
}

/// Waits until the node has closed a connection.
fn is_closed(mut stream: TcpStream) {
    let mut last_words = Vec::new();
    // A reset is as good.
    let _ = stream.read_to_end(&mut last_words);
}

fn is_untroubled(nodes: &mut [Node], warned_at_most: usize) {
    for node in nodes {
        node.catch_up();
        let troubles =
            ["down", "left", "unreachable"].map(|what| node.said(&format!("event {what}")));
        assert_eq!(troubles, [0; 3]);
        assert_eq!(node.view.up.len(), 3);
        let warned = node.said("log");
        let lines: Vec<&str> = node.seen.iter().map(|line| &*line.text).collect();
        assert!(warned <= warned_at_most, "{warned} lines: {lines:#?}");
    }
}

pub(crate) fn strangers_at_the_port_cost_little_and_change_nothing() {
    if !can_run() {
        return;
    }
    let _turn = beside_another();
    let place = Place::new(3, 1);
    let mut nodes = place.form();
    let port = place.ports[0];
    let (before, _) = nodes[0].held();
    // What is no protocol of ours, and ours that is damaged.
    let mut damaged = preamble(Purpose::Control);
    damaged[20] ^= 1;
    for bytes in [
        &b"GET /somewhere HTTP/1.1\r\nHost: nowhere\r\n\r\n"[..],
        &[0xff; 4_096],
        &damaged,
    ] {
        for _ in 0..50 {
            let mut stream = connect(port);
            let _ = stream.write_all(bytes);
            is_closed(stream);
        }
    }
    // A greeting that goes wrong, at the coordination core and at a data core, and halves.
    for purpose in [Purpose::Control, Purpose::Data] {
        let mut garbage = preamble(purpose).to_vec();
        garbage.extend([0xab; 10_000]);
        for _ in 0..50 {
            let mut stream = connect(port);
            let _ = stream.write_all(&garbage);
            is_closed(stream);
        }
    }
    for count in [1, 31, 32] {
        let mut stream = connect(port);
        stream
            .write_all(&preamble(Purpose::Control)[..count])
            .unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        is_closed(stream);
    }
    // Silence is not waited for for long; elsewhere, where nothing else makes an end of it.
    let mut silent: Vec<TcpStream> = (0..20).map(|_| connect(place.ports[1])).collect();
    for stream in &mut silent[10..] {
        stream.write_all(&preamble(Purpose::Data)).unwrap();
    }
    // A crowd. The newest of it stand on the porch until their time is over.
    let mut crowd = Vec::new();
    for number in 0..2_000 {
        let mut stream = connect(port);
        let said = match number % 3 {
            0 => Some(Purpose::Control),
            1 => Some(Purpose::Data),
            _ => None,
        };
        if let Some(purpose) = said {
            let _ = stream.write_all(&preamble(purpose));
        }
        crowd.push(stream);
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..2_000_usize {
        let bytes = vec![number as u8; number % 1_500];
        let _ = socket.send_to(&bytes, ("127.0.0.1", port));
    }
    let (held, descriptors) = nodes[0].held();
    assert!(descriptors < 600, "{descriptors} descriptors");
    let grown = held.saturating_sub(before);
    assert!(grown < 48 << 10, "{grown} KiB more");
    crowd.into_iter().chain(silent).for_each(is_closed);
    // All that is one source: a line for each sort of trouble.
    is_untroubled(&mut nodes, 16);
    // Whoever is a node comes in as before.
    let mut fourth = place.start(4);
    fourth.wait_for_view("it is let in", |view| {
        view.up.len() == 4 && view.life().is_some()
    });
}

pub(crate) fn a_node_without_descriptors_goes_on_and_says_so_once() {
    if !can_run() {
        return;
    }
    let _turn = beside_another();
    let mut place = Place::new(3, 0);
    place.descriptors = Some(96);
    let mut nodes = place.form();
    let crowd: Vec<TcpStream> = (0..400).map(|_| connect(place.ports[0])).collect();
    nodes[0].wait_until_said("log WARN message=connections cannot be accepted", 1);
    // All are closed: those that stand on the porch by their time, the others because there is nothing to hold them by.
    crowd.into_iter().for_each(is_closed);
    is_untroubled(&mut nodes, 8);
    let said = nodes[0].said("log WARN message=connections cannot be accepted");
    assert_eq!(said, 1);
}
