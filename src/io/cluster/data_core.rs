//! The loop of a data core of a node of a cluster: its turns, and its connections to other nodes.
//!
//! A core that spins looks at its sockets itself, once in a while and after each turn that had something to do, so that
//! the kernel never has to wake it; one that parks sleeps in one `ppoll` over all of them and its bell.

use super::boot_clock::boot_time;
use super::data_news::DataNews;
use super::data_sockets::DataSockets;
use super::guests::Arrival;
use super::lateness::Lateness;
use super::readiness::{Readiness, Ready};
use crate::base::ids::CoreId;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::engine::core::Engine;
use crate::engine::data_links::DataLinks;
use crate::io::core_thread::ThreadSettings;
use crate::links::settings::LinkSettings;
use crate::mesh::doorbell::Doorbell;
use crossbeam_channel::Receiver;
use std::sync::Arc;
use std::time::Duration;

/// How often a core that does not sleep looks at its sockets: what that costs is a third of it.
const LOOK_EVERY: Duration = Duration::from_micros(1);

/// How much longer the connections may take to end than they are told that they may.
const END_SLACK: Duration = Duration::from_millis(500);

/// What becomes of the connections of a data core, on its thread.
#[derive(Debug)]
pub(crate) struct DataSeed {
    /// The core.
    pub(crate) core: CoreId,
    /// Checked.
    pub(crate) settings: LinkSettings,
    /// Where connections come from that others have dialled.
    pub(crate) guests: Receiver<Arrival>,
    /// Where the coordination core tells of the cluster.
    pub(crate) news: Arc<DataNews>,
    /// Of the sockets.
    pub(crate) readiness: Readiness,
}

/// A data core's part in a cluster.
pub(crate) struct DataCore {
    seed: DataSeed,
    /// What its waits are drawn from, until there are connections.
    rng: Option<Rng>,
    /// None before the node has had a life.
    sockets: Option<DataSockets>,
    /// The version of the news that it has heard.
    heard: u64,
    ready: Vec<Ready>,
    looked_at: Time,
}

impl DataCore {
    pub(crate) fn new(seed: DataSeed, rng: Rng) -> DataCore {
        DataCore {
            seed,
            rng: Some(rng),
            sockets: None,
            heard: 0,
            ready: Vec::new(),
            looked_at: Time::ZERO,
        }
    }

    /// Before a turn: takes in what has happened. Returns whether the core has enough of it, and there is more.
    fn receive(&mut self, engine: &mut Engine, now: Time) -> bool {
        // Not later than the core hears of deaths: what the dead have sent is not taken after that.
        if self.seed.news.version() != self.heard {
            self.hear_news(now);
        }
        if now - self.looked_at >= LOOK_EVERY {
            self.looked_at = now;
            self.look(now);
        }
        match &mut self.sockets {
            Some(sockets) => sockets.receive(engine, now),
            None => false,
        }
    }

    fn look(&mut self, now: Time) {
        let Some(sockets) = &mut self.sockets else {
            // Whoever knocks before the node is a member comes again. The bell has to be heard all the same, or the core never
            // sleeps.
            while self.seed.guests.try_recv().is_ok() {}
            self.seed.readiness.take(&mut self.ready);
            self.ready.clear();
            return;
        };
        while let Ok(mut arrival) = self.seed.guests.try_recv() {
            // Only the time since the start counts on a data core.
            arrival.guest.change_clock(boot_time(), now);
            sockets.accept(arrival, &self.seed.readiness, now);
        }
        self.seed.readiness.take(&mut self.ready);
        for ready in self.ready.drain(..) {
            sockets.ready(ready, now);
        }
    }

    #[cold]
    fn hear_news(&mut self, now: Time) {
        let (version, latest) = self.seed.news.latest();
        self.heard = version;
        let Some(identity) = latest.identity else {
            return;
        };
        if let Some(sockets) = &mut self.sockets {
            sockets.links.set_identity(identity, now);
        } else if let Some(rng) = self.rng.take() {
            let settings = self.seed.settings.clone();
            match DataLinks::new(settings, self.seed.core, identity, rng) {
                Ok(links) => self.sockets = Some(DataSockets::new(links)),
                Err(error) => {
                    tracing::error!(core = %self.seed.core, %error, "a core can have no connections: this is a bug of corecast");
                }
            }
        }
        if let Some(sockets) = &mut self.sockets {
            sockets.links.set_peers(&latest.peers, now);
            sockets.stir();
        }
    }

    fn is_stirred(&self) -> bool {
        let mut sockets = self.sockets.iter();
        sockets.any(DataSockets::is_stirred)
    }

    /// This turn is late by so much: that is counted against no peer.
    #[cold]
    fn stalled(&mut self, late: Duration) {
        if let Some(sockets) = &mut self.sockets {
            sockets.links.stalled(late);
        }
    }

    /// After a turn, which may have `moved` something: does what is due, and writes. Returns whether the core has to turn
    /// again.
    fn send(&mut self, engine: &mut Engine, moved: bool, now: Time) -> bool {
        match &mut self.sockets {
            Some(sockets) if moved || sockets.wants(now) => {
                sockets.send(engine, &self.seed.readiness, now) || sockets.has_more()
            }
            _ => false,
        }
    }

    /// When there is something to do, at the latest.
    fn due(&self) -> Option<Time> {
        let due = self.sockets.as_ref().map(|sockets| sockets.due);
        due.filter(|due| *due < Time::MAX)
    }

    /// Sleeps until the bell rings, a socket is ready, or `limit` has passed.
    fn park(&mut self, engine: &Engine, doorbell: &Doorbell, limit: Option<Duration>) {
        doorbell.announce_sleep(self.seed.readiness.waker());
        let has_news = self.seed.news.version() != self.heard || !self.seed.guests.is_empty();
        if !engine.has_work() && !has_news {
            self.seed.readiness.sleep(limit);
        }
        doorbell.awake();
        self.looked_at = Time::ZERO;
    }

    /// Closes the connections in good order, behind what the core, which has stopped, has still to send.
    fn close(&mut self, engine: &mut Engine) {
        let Some(sockets) = &mut self.sockets else {
            return;
        };
        let began = engine.now();
        sockets.links.shutdown(began);
        let until = began + self.seed.settings.close_patience * 2 + END_SLACK;
        loop {
            let now = engine.now();
            self.seed.readiness.take(&mut self.ready);
            for ready in self.ready.drain(..) {
                sockets.ready(ready, now);
            }
            sockets.receive(engine, now);
            sockets.send(engine, &self.seed.readiness, now);
            if sockets.links.is_done() || now >= until {
                return;
            }
            if !sockets.has_more() {
                let due = sockets.due.min(until);
                self.seed.readiness.sleep(Some(due - now));
            }
        }
    }
}

/// Turns the engine until it stops, and closes its connections then: turn while there is work, then spin, then park.
pub(crate) async fn drive(
    engine: &mut Engine,
    data: &mut DataCore,
    doorbell: &Doorbell,
    settings: &ThreadSettings,
) {
    let executor = glommio::executor();
    let mut now = engine.now();
    let mut lateness = Lateness::new(now);
    let mut idle_since: Option<Time> = None;
    let mut just_read: Option<Time> = None;
    loop {
        let more = data.receive(engine, now);
        // Who has taken something in has read the clock since.
        let turn = engine.turn(just_read.take().filter(|_| !data.is_stirred()));
        now = turn.at;
        if let Some(late) = lateness.begin(now) {
            data.stalled(late);
        }
        let again = data.send(engine, turn.moved, now);
        if turn.stopped {
            return data.close(engine);
        }
        if executor.need_preempt() {
            executor.yield_now().await;
        } else {
            just_read = turn.just_read;
        }
        if turn.moved || more || again {
            idle_since = None;
            continue;
        }
        let idle_for = turn.at - *idle_since.get_or_insert(turn.at);
        if !settings.park || idle_for < settings.spin {
            continue;
        }
        now = engine.now();
        let until = turn.next_wake.into_iter().chain(data.due()).min();
        lateness.sleeps_until(until);
        data.park(engine, doorbell, until.map(|due| due - now));
        now = engine.now();
        idle_since = None;
        just_read = None;
    }
}
