//! How a virtual network behaves, and what it counts.

use std::time::Duration;

/// How a network behaves where nobody has cut or slowed it.
#[derive(Clone, Debug)]
pub struct NetworkSettings {
    /// The least time on the way.
    pub min_latency: Duration,
    /// The most time on the way; each payload takes some time between the two.
    pub max_latency: Duration,
    /// The chance that a datagram is lost, and that a piece of a connection has to be sent again, from 0 to 1.
    pub loss: f64,
    /// The chance that a datagram arrives twice, from 0 to 1.
    pub duplication: f64,
    /// How much later a piece of a connection comes that had to be sent again.
    pub resend_after: Duration,
    /// Bytes per second of one direction of a connection.
    pub bandwidth: u64,
    /// The most bytes of one direction of a connection that have not arrived.
    pub window: usize,
    /// When an attempt to connect fails that nobody answers.
    pub connect_timeout: Duration,
    /// When an end is closed whose bytes do not arrive.
    pub gives_up_after: Duration,
}

impl Default for NetworkSettings {
    /// A data centre: 0.1 to 0.5 ms, no loss, 1 GB/s.
    fn default() -> NetworkSettings {
        NetworkSettings {
            min_latency: Duration::from_micros(100),
            max_latency: Duration::from_micros(500),
            loss: 0.0,
            duplication: 0.0,
            resend_after: Duration::from_millis(200),
            bandwidth: 1_000_000_000,
            window: 256 << 10,
            connect_timeout: Duration::from_secs(2),
            gives_up_after: Duration::from_secs(15),
        }
    }
}

/// What has happened so far, so that a test can show that it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkCounters {
    /// Datagrams that were handed in.
    pub datagrams: u64,
    /// Datagrams that were lost by chance, by a cut, or because nobody was there.
    pub lost: u64,
    /// Datagrams that arrived twice.
    pub duplicated: u64,
    /// Attempts to connect.
    pub connects: u64,
    /// Attempts that failed.
    pub failed_connects: u64,
    /// Ends that were reset or gave up.
    pub broken: u64,
    /// Payloads of connections that were handed in.
    pub pieces: u64,
    /// Of these, how many came late because they were sent again.
    pub resent: u64,
    /// Of these, how many waited for the end of a cut.
    pub held: u64,
    /// Sends that were refused because a window was full.
    pub refused: u64,
    /// Bytes of all connections that were handed in.
    pub bytes: u64,
}
