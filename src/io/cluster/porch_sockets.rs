//! Sockets that have come to the port, until their first bytes name a core.

use super::readiness::{Readiness, Token};
use crate::base::ids::CoreId;
use crate::base::time::Time;
use crate::links::porch::{Guest, Porch, PorchOutput};
use crate::links::remote::ConnectionId;
use crate::wire::greeting::HELLO_BYTES;
use crate::wire::preamble::PREAMBLE_BYTES;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

/// Connections that are accepted in one turn; the others in the next.
const PER_TURN: usize = 64;
/// How long nothing is accepted when there is no descriptor or memory for it.
const PAUSE: Duration = Duration::from_millis(100);
/// For how long the lack of descriptors is not told again.
const TELL_EACH: Duration = Duration::from_secs(60);

/// A connection that has named its core.
#[derive(Debug)]
pub struct HandedOver {
    /// Which core.
    pub core: CoreId,
    /// Its socket, which is still watched over.
    pub socket: TcpStream,
    /// What it has said.
    pub guest: Box<Guest>,
}

/// The listening socket, and the sockets of those that have come. Bounded by the [`Porch`].
#[derive(Debug)]
pub struct PorchSockets {
    listener: TcpListener,
    may_accept: bool,
    /// Nothing is accepted before then.
    pause_until: Option<Time>,
    told_at: Option<Time>,
    /// Given up to accept and close one connection where there is no descriptor left: else it would stay at the head of the
    /// queue, and its peer would wait.
    spare: Option<File>,
    refused: u64,
    waiting: BTreeMap<ConnectionId, TcpStream>,
    /// Those that have not been tried in vain since they became ready.
    readable: BTreeSet<ConnectionId>,
}

impl PorchSockets {
    /// Of a listening socket that does not block.
    #[must_use]
    pub fn new(listener: TcpListener) -> PorchSockets {
        PorchSockets {
            listener,
            may_accept: true,
            pause_until: None,
            told_at: None,
            spare: spare(),
            refused: 0,
            waiting: BTreeMap::new(),
            readable: BTreeSet::new(),
        }
    }

    /// The listening socket, to be watched over.
    #[must_use]
    pub fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// Somebody may have come.
    pub fn listener_ready(&mut self) {
        self.may_accept = true;
    }

    /// Something may have come from one that waits.
    pub fn ready(&mut self, number: u64) {
        let id = ConnectionId::from_number(number);
        if self.waiting.contains_key(&id) {
            self.readable.insert(id);
        }
    }

    /// Connections that were closed because there was no descriptor for them.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// When [`turn`](PorchSockets::turn) has to be called next.
    #[must_use]
    pub fn deadline(&self, porch: &Porch) -> Option<Time> {
        let pause = self.pause_until.filter(|_| self.may_accept);
        [porch.deadline(), pause].into_iter().flatten().min()
    }

    /// Takes in who has come, reads what they say, and adds those that have named their core to `handed`. Returns whether
    /// there is more to do at once.
    pub fn turn(
        &mut self,
        porch: &mut Porch,
        readiness: &Readiness,
        handed: &mut Vec<HandedOver>,
        now: Time,
    ) -> bool {
        let more = self.accept(porch, readiness, handed, now);
        while let Some(id) = self.readable.pop_first() {
            self.read(porch, id, now);
        }
        if porch.deadline().is_some_and(|due| due <= now) {
            porch.tick(now);
        }
        self.follow(porch, readiness, handed);
        more
    }

    /// Closes all that wait.
    pub fn close(&mut self) {
        self.waiting.clear();
        self.readable.clear();
    }

    fn accept(
        &mut self,
        porch: &mut Porch,
        readiness: &Readiness,
        handed: &mut Vec<HandedOver>,
        now: Time,
    ) -> bool {
        if self.pause_until.is_some_and(|until| now < until) {
            return false;
        }
        self.pause_until = None;
        if self.spare.is_none() {
            self.spare = spare();
        }
        for _ in 0..PER_TURN {
            if !self.may_accept {
                return false;
            }
            let (socket, from) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    match error.kind() {
                        io::ErrorKind::WouldBlock => self.may_accept = false,
                        // The peer has thought better of it.
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                        _ => self.cannot_accept(&error, now),
                    }
                    if self.pause_until.is_some() {
                        return false;
                    }
                    continue;
                }
            };
            let set_up = socket
                .set_nonblocking(true)
                .and_then(|()| socket.set_nodelay(true));
            if set_up.is_err() {
                continue;
            }
            let id = porch.arrived(from.ip(), now);
            self.waiting.insert(id, socket);
            // Who had to make room for it has gone before it is watched over, so that the bound holds.
            self.follow(porch, readiness, handed);
            let Some(socket) = self.waiting.get(&id) else {
                continue;
            };
            match readiness.add(socket, Token::Porch(id.number())) {
                Ok(()) => {
                    self.readable.insert(id);
                }
                Err(error) => {
                    self.waiting.remove(&id);
                    porch.closed(id, now);
                    self.cannot_accept(&error, now);
                    return false;
                }
            }
        }
        true
    }

    /// There is no descriptor, or no memory: the connection at the head of the queue is closed, and others wait a little.
    fn cannot_accept(&mut self, error: &io::Error, now: Time) {
        self.pause_until = Some(now + PAUSE);
        if self.spare.take().is_some() {
            // The descriptor that is free now is good for one.
            if let Ok((socket, _)) = self.listener.accept() {
                drop(socket);
                self.refused += 1;
            }
            self.spare = spare();
        }
        if self.told_at.is_none_or(|told| told + TELL_EACH <= now) {
            self.told_at = Some(now);
            tracing::warn!(%error, refused = self.refused, "connections cannot be accepted; raise the limit of descriptors (`ulimit -n`, LimitNOFILE=)");
        }
    }

    fn read(&mut self, porch: &mut Porch, id: ConnectionId, now: Time) {
        let mut room = [0; PREAMBLE_BYTES];
        loop {
            let Some(mut socket) = self.waiting.get(&id) else {
                return;
            };
            // No more than that, or what is behind it is lost.
            let wants = porch.wants(id).min(room.len());
            if wants == 0 {
                return;
            }
            match socket.read(&mut room[..wants]) {
                Ok(0) => return porch.closed(id, now),
                Ok(count) => porch.receive(id, &room[..count], now),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted => {}
                    _ => return porch.closed(id, now),
                },
            }
        }
    }

    /// Does what the porch wants.
    fn follow(&mut self, porch: &mut Porch, readiness: &Readiness, handed: &mut Vec<HandedOver>) {
        while let Some(output) = porch.next_output() {
            match output {
                PorchOutput::HandOver {
                    connection,
                    core,
                    guest,
                } => {
                    if let Some(socket) = self.waiting.remove(&connection) {
                        handed.push(HandedOver {
                            core,
                            socket,
                            guest,
                        });
                    }
                }
                PorchOutput::Close {
                    connection,
                    last_words,
                } => {
                    if let Some(socket) = self.waiting.remove(&connection) {
                        readiness.remove(&socket);
                        if !last_words.is_empty() {
                            say_and_close(socket, &last_words);
                        }
                    }
                }
                PorchOutput::Note(note) => tracing::warn!("{note}"),
            }
        }
    }
}

/// Says last words, and closes. What has come and was not read is read away before the end: a socket that is closed over it
/// is reset, and a peer need not read what came before a reset. That waits for nothing, so it is done for what is there: the
/// hello that whoever dials sends right behind its preamble.
fn say_and_close(mut socket: TcpStream, last_words: &[u8]) {
    let _ = socket.write(last_words);
    let _ = socket.shutdown(Shutdown::Write);
    let mut room = [0; 1 << 10];
    let mut left = HELLO_BYTES;
    while left > 0 {
        let most = left.min(room.len());
        match socket.read(&mut room[..most]) {
            Ok(0) => break,
            Ok(count) => left -= count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{Incarnation, NodeId};
    use crate::io::cluster::boot_clock::boot_time;
    use crate::io::cluster::guests::{Arrival, GuestLanes};
    use crate::io::cluster::port::Port;
    use crate::links::settings::LinkSettings;
    use crate::wire::address::Life;
    use crate::wire::hello::{CheckedIdentity, Identity};
    use crate::wire::limits::FrameLimits;
    use crate::wire::preamble::{PROTOCOL, Preamble, Purpose, cluster_hash};
    use std::sync::Arc;

    const PATIENCE: Duration = Duration::from_secs(60);

    struct World {
        porch: Porch,
        sockets: PorchSockets,
        readiness: Readiness,
        address: std::net::SocketAddr,
    }

    impl World {
        fn new(settings: &LinkSettings, data: Vec<CoreId>) -> World {
            let port = Port::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let identity = Identity {
                cluster: "test".into(),
                cluster_id: None,
                life: Life::new(NodeId(1), Incarnation(1)),
                cores: 3,
                advertised: port.address().to_string(),
                limits: FrameLimits::default(),
                tables: Arc::default(),
            };
            let identity: Arc<CheckedIdentity> = Arc::new(identity.check().unwrap());
            let readiness = Readiness::new().unwrap();
            let address = port.address();
            let sockets = PorchSockets::new(port.listener);
            readiness.add(sockets.listener(), Token::Listener).unwrap();
            World {
                porch: Porch::new(settings, identity, CoreId(2), data).unwrap(),
                sockets,
                readiness,
                address,
            }
        }

        /// Turns and sleeps until it is so.
        fn until(&mut self, handed: &mut Vec<HandedOver>, is_so: impl Fn(&World, usize) -> bool) {
            let began = boot_time();
            let mut ready = Vec::new();
            while !is_so(self, handed.len()) {
                assert!(boot_time() < began + PATIENCE, "it does not come to it");
                self.readiness.take(&mut ready);
                for ready in ready.drain(..) {
                    match ready.token {
                        Token::Porch(number) => self.sockets.ready(number),
                        _ => self.sockets.listener_ready(),
                    }
                }
                let now = boot_time();
                let (porch, readiness) = (&mut self.porch, &self.readiness);
                if !self.sockets.turn(porch, readiness, handed, now) && !is_so(self, handed.len()) {
                    let due = self.sockets.deadline(&self.porch);
                    let due = due.unwrap_or(Time::MAX).min(began + PATIENCE);
                    self.readiness.sleep(Some(due - boot_time()));
                }
            }
        }
    }

    fn preamble(purpose: Purpose, wanted: u16) -> [u8; PREAMBLE_BYTES] {
        let preamble = Preamble {
            protocol: PROTOCOL,
            purpose,
            cluster: cluster_hash("test"),
            life: Life::new(NodeId(7), Incarnation(3)),
            wanted: Some(CoreId(wanted)),
            core: CoreId(0),
        };
        preamble.encode()
    }

    #[test]
    fn a_socket_goes_to_the_core_that_it_names_and_not_a_byte_is_lost() {
        let mut world = World::new(&LinkSettings::default(), vec![CoreId(0), CoreId(1)]);
        let mut lanes = GuestLanes::default();
        let arrivals = lanes.open(CoreId(1), Arc::default());
        let mut dialled = TcpStream::connect(world.address).unwrap();
        let said = preamble(Purpose::Data, 1);
        dialled.write_all(&said[..11]).unwrap();
        let mut handed = Vec::new();
        world.until(&mut handed, |world, _| world.sockets.waiting.len() == 1);
        dialled.write_all(&said[11..]).unwrap();
        dialled.write_all(b"what is behind").unwrap();
        world.until(&mut handed, |_, handed| handed == 1);
        let HandedOver {
            core,
            socket,
            guest,
        } = handed.remove(0);
        assert_eq!(core, CoreId(1));
        assert_eq!(guest.preamble().life.node, NodeId(7));
        world.readiness.remove(&socket);
        let socket = socket.into();
        lanes.hand(core, Arrival { socket, guest }).unwrap();
        let reader = std::thread::spawn(move || {
            let mut socket = TcpStream::from(arrivals.recv().unwrap().socket);
            socket.set_nonblocking(false).unwrap();
            let mut behind = [0; 14];
            socket.read_exact(&mut behind).unwrap();
            behind
        });
        assert_eq!(&reader.join().unwrap(), b"what is behind");
        assert!(world.sockets.waiting.is_empty());
    }

    #[test]
    fn a_core_that_takes_none_or_has_gone_gets_none() {
        let mut world = World::new(&LinkSettings::default(), vec![CoreId(0)]);
        let mut lanes = GuestLanes::default();
        drop(lanes.open(CoreId(0), Arc::default()));
        let mut handed = Vec::new();
        let mut dialled = TcpStream::connect(world.address).unwrap();
        dialled.write_all(&preamble(Purpose::Data, 0)).unwrap();
        world.until(&mut handed, |_, handed| handed == 1);
        let HandedOver {
            core,
            socket,
            guest,
        } = handed.remove(0);
        let socket = socket.into();
        assert!(lanes.hand(core, Arrival { socket, guest }).is_err());
        // It is closed.
        assert_eq!(dialled.read(&mut [0; 8]).unwrap(), 0);
        let mut dialled = TcpStream::connect(world.address).unwrap();
        dialled.write_all(&preamble(Purpose::Data, 1)).unwrap();
        let count = world.porch.counters().turned_away + 1;
        world.until(&mut handed, |world, _| {
            world.porch.counters().turned_away == count
        });
        assert_eq!(dialled.read(&mut [0; 8]).unwrap(), 0);
    }

    /// The hello stands right behind the preamble, and nobody reads it.
    #[test]
    fn last_words_arrive_before_the_end() {
        let mut world = World::new(&LinkSettings::default(), Vec::new());
        let mut handed = Vec::new();
        let mut dialled = TcpStream::connect(world.address).unwrap();
        let stranger = Preamble {
            protocol: PROTOCOL,
            purpose: Purpose::Control,
            cluster: cluster_hash("another"),
            life: Life::new(NodeId(7), Incarnation(3)),
            wanted: None,
            core: CoreId(0),
        };
        let mut said = stranger.encode().to_vec();
        said.resize(PREAMBLE_BYTES + HELLO_BYTES, 7);
        dialled.write_all(&said).unwrap();
        world.until(&mut handed, |world, _| {
            world.porch.counters().accepted == 1 && world.sockets.waiting.is_empty()
        });
        let mut heard = Vec::new();
        dialled.read_to_end(&mut heard).unwrap();
        // Nor is it reset behind them.
        assert!(dialled.take_error().unwrap().is_none());
        let heard = String::from_utf8_lossy(&heard);
        assert!(heard.contains("cluster name"), "{heard}");
    }

    #[test]
    fn a_crowd_holds_no_more_sockets_than_may_stand_there() {
        let settings = LinkSettings {
            most_on_porch: 10,
            ..LinkSettings::default()
        };
        let mut world = World::new(&settings, Vec::new());
        let mut handed = Vec::new();
        let mut crowd = Vec::new();
        for number in 1..=300_u64 {
            crowd.push(TcpStream::connect(world.address).unwrap());
            world.until(&mut handed, |world, _| {
                world.porch.counters().accepted == number
            });
            assert!(world.sockets.waiting.len() <= 10);
        }
        // One that speaks is heard all the same.
        let mut dialled = TcpStream::connect(world.address).unwrap();
        dialled.write_all(&preamble(Purpose::Control, 0)).unwrap();
        world.until(&mut handed, |_, handed| handed == 1);
        assert_eq!(handed[0].core, CoreId(2));
        // Silence is not borne for long.
        world.until(&mut handed, |world, _| world.sockets.waiting.is_empty());
        for mut stream in crowd {
            assert!(matches!(stream.read(&mut [0; 8]), Ok(0) | Err(_)));
        }
    }
}
