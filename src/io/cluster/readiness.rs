//! Which sockets can be read or written, and how the thread of their core sleeps until one can, or its bell rings.

use crate::base::time::Time;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

/// Sockets that are told of in one look; the others in the next.
const AT_ONCE: usize = 256;

/// What the bell is told by.
const BELL: u64 = u64::MAX;

/// What a socket is known by among those of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Token {
    /// The socket that listens.
    Listener,
    /// The socket of datagrams.
    Datagrams,
    /// One that waits on the porch, by its number there.
    Porch(u64),
    /// A connection that has come to its core, by its number there.
    Connection(u64),
}

impl Token {
    fn number(self) -> u64 {
        match self {
            Token::Listener => 0,
            Token::Datagrams => 1 << 2,
            Token::Porch(number) => number << 2 | 1,
            Token::Connection(number) => number << 2 | 2,
        }
    }

    fn of(number: u64) -> Token {
        match (number & 3, number >> 2) {
            (1, number) => Token::Porch(number),
            (2, number) => Token::Connection(number),
            (_, 0) => Token::Listener,
            _ => Token::Datagrams,
        }
    }
}

/// A socket that may have become ready since it was last tried in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Which.
    pub token: Token,
    /// It may be read, or has ended or failed, which reading tells.
    pub read: bool,
    /// It may be written, or has failed.
    pub write: bool,
    /// The other side writes no more, or it has failed: reading comes to an end.
    pub ended: bool,
}

/// The sockets of one core, and the bell that its doorbell rings while it sleeps here.
#[derive(Debug)]
pub struct Readiness {
    epoll: OwnedFd,
    waker: Waker,
}

impl Readiness {
    /// No sockets yet.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub fn new() -> io::Result<Readiness> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Each write to it is told of once, so nobody has to read it.
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &bell, EventData::new_u64(BELL), flags)?;
        Ok(Readiness {
            epoll,
            waker: Waker::from(Arc::new(Bell(bell))),
        })
    }

    /// Watches over a socket, which does not block. It is told of once, and then whenever it becomes ready after it was
    /// tried in vain; closed, it is forgotten.
    ///
    /// # Errors
    /// If the system has no memory for it.
    pub fn add(&self, socket: impl AsFd, token: Token) -> io::Result<()> {
        let data = EventData::new_u64(token.number());
        Ok(epoll::add(&self.epoll, socket, data, interest())?)
    }

    /// Gives a socket another name, under which it is told of anew.
    ///
    /// # Errors
    /// If it is not watched over.
    pub fn rename(&self, socket: impl AsFd, token: Token) -> io::Result<()> {
        let data = EventData::new_u64(token.number());
        Ok(epoll::modify(&self.epoll, socket, data, interest())?)
    }

    /// Forgets a socket that goes elsewhere and stays open.
    pub fn remove(&self, socket: impl AsFd) {
        // If it is not there, it need not be forgotten.
        let _ = epoll::delete(&self.epoll, socket);
    }

    /// Adds the sockets that have become ready to `ready`, without waiting.
    pub fn take(&mut self, ready: &mut Vec<Ready>) {
        let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; AT_ONCE];
        let now = Timespec::default();
        // It fails if a signal comes, and then the next look sees the same.
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut room, Some(&now)) else {
            return;
        };
        for event in events {
            // Copied, since the event is packed.
            let (flags, data) = (event.flags, event.data);
            if data.u64() == BELL {
                continue;
            }
            let failed = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            let ended = failed || flags.intersects(EventFlags::RDHUP);
            ready.push(Ready {
                token: Token::of(data.u64()),
                read: ended || flags.intersects(EventFlags::IN),
                write: failed || flags.intersects(EventFlags::OUT),
                ended,
            });
        }
    }

    /// Sleeps until a socket is ready, the bell rings, or the time is over. It may wake for nothing.
    pub fn sleep(&self, limit: Option<Duration>) {
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let mut watched = [PollFd::new(&self.epoll, PollFlags::IN)];
        let _ = poll(&mut watched, limit.as_ref());
    }

    /// Wakes the thread that sleeps here; for its doorbell.
    #[must_use]
    pub fn waker(&self) -> &Waker {
        &self.waker
    }
}

fn interest() -> EventFlags {
    EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET
}

/// Counts up an eventfd, which wakes the sleeper.
#[derive(Debug)]
struct Bell(OwnedFd);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It is full after 2^64 rings.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

/// How long until a time, at a time.
#[must_use]
pub fn until(due: Time, now: Time) -> Option<Duration> {
    (due < Time::MAX).then(|| due - now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    #[test]
    fn tokens_come_back_as_they_went() {
        let tokens = [
            Token::Listener,
            Token::Datagrams,
            Token::Porch(0),
            Token::Porch(77),
            Token::Connection(0),
            Token::Connection(1 << 50),
        ];
        for token in tokens {
            assert_eq!(Token::of(token.number()), token);
            assert_ne!(token.number(), BELL);
        }
    }

    #[test]
    fn a_sleeper_is_woken_by_its_bell_and_by_a_socket_and_by_time() {
        let mut readiness = Readiness::new().unwrap();
        let mut ready = Vec::new();
        let long = Some(Duration::from_secs(60));
        let began = Instant::now();
        let waker = readiness.waker().clone();
        let ringer = std::thread::spawn(move || waker.wake());
        readiness.sleep(long);
        ringer.join().unwrap();
        readiness.take(&mut ready);
        assert!(ready.is_empty());

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        readiness.add(&listener, Token::Listener).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        readiness.sleep(long);
        readiness.take(&mut ready);
        assert_eq!(ready[0].token, Token::Listener);
        assert!(ready[0].read);
        // Told once, it is not told again until something changes.
        ready.clear();
        readiness.take(&mut ready);
        assert!(ready.is_empty());
        drop(stream);
        readiness.sleep(Some(Duration::from_millis(1)));
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}
