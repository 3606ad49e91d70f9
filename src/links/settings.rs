//! The settings of connections.

use crate::wire::credit::Credit;
use crate::wire::greeting::Patience;
use std::time::Duration;
use thiserror::Error;

/// How connections are made, watched and bounded. How large frames and buffers may be says
/// [`FrameLimits`](crate::wire::limits::FrameLimits) of the node's identity.
///
/// Worst case in memory, for one core: for each remote that is wanted what `FrameLimits` says of a connection, plus
/// `most_strangers` times `read_buffer_bytes` and `most_stranger_bytes`, plus `most_greetings` times 12 KiB, or 4 MiB for
/// peers that know the cluster's name and whose types differ. On top of that a core may be sent `credit_bytes` and one frame
/// that it has not taken, for each data connection.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkSettings {
    /// The wait after the first failure. Start with 0.1 s. Too short, and a node that is restarting is knocked at in vain;
    /// too long delays every repair.
    pub backoff_initial: Duration,
    /// The longest wait. Start with 5 s. It bounds how long a node that is back is not noticed by those who dial it.
    pub backoff_max: Duration,
    /// By what the wait grows with each failure in a row, from 1 to 10. Start with 2.
    pub backoff_factor: f64,
    /// Which part of the wait is random, from 0 to 1. Start with 0.5. At 0, nodes that lost a peer at the same time knock at
    /// it at the same time.
    pub backoff_jitter: f64,
    /// How long a connection must have been up for its end to count as a new trouble, so that the waits begin small again.
    /// Start with 5 s. Too short, and a peer that accepts and closes is knocked at without a growing wait.
    pub steady_after: Duration,
    /// How long the socket may take to connect. Start with 2 s. Below `patience.whole`, because the other side's attempt may
    /// have to wait for this one.
    pub connect_timeout: Duration,
    /// How long a greeting may take.
    pub patience: Patience,
    /// After how long without a byte from the peer it is asked whether it is there. Start with 1 s. Each costs 96 bytes and as
    /// many back.
    pub ping_period: Duration,
    /// How long the answer may take, and how long the peer may take no byte of those that wait. Start with 5 s. At least
    /// `ping_period`. Too short, and a pause of a machine cuts connections; too long, and a half-open connection is believed
    /// in for longer.
    pub silence: Duration,
    /// How long what waits may take to be sent when a connection is closed in good order. Start with 1 s.
    pub close_patience: Duration,
    /// The most connections that were dialled by others and are not up yet. Start with 64. When there are as many, the oldest
    /// of those that have not said their hello makes room, or the oldest of all: whoever means well is up after two round
    /// trips.
    pub most_greetings: usize,
    /// How many of these may name the same node. Start with 4: two, if its attempts cross ours, and some that were given up.
    /// Room is made for further ones likewise, so that nobody keeps a node out by its name.
    pub most_greetings_per_remote: usize,
    /// The most connections, of all sorts. Start with 4,096. When there are as many, strangers make room for others; where
    /// there are none, further ones are refused, and not dialled. See [`ranks`](super::ranks).
    pub most_connections: usize,
    /// The most connections that strangers may have, which are all with whom this node wants none: nodes that are no members,
    /// or are not known to be yet. Start with 1,024. When there are as many, the oldest makes room. Too low, and of many
    /// nodes that want to be let in at once some have to come again; too high costs memory.
    pub most_strangers: usize,
    /// The most that their connections may hold together, beyond `read_buffer_bytes` for each: in frames that are not
    /// whole, and in answers that they do not take. Start with 64 MiB. Beyond that the one that holds most is closed. Too
    /// low, and the log of the cluster does not get to nodes that do not know yet who sends it.
    pub most_stranger_bytes: usize,
    /// The most connections of a port that have not named their core yet. Start with 256; each costs about 1 KiB. When there
    /// are as many, the oldest makes room: whoever means well says its name within a round trip.
    pub most_on_porch: usize,
    /// How many frames a peer may send before the core has taken the first of them. Start with 8,192. For data only: control
    /// has no such bound but its buffers. Too low costs throughput over long distances.
    pub credit_frames: u64,
    /// How many bytes, likewise; one frame may always be begun while there is any left. Start with 4 MiB.
    pub credit_bytes: u64,
    /// For how long the same trouble with the same peer is not told again, but counted. Start with 60 s.
    pub note_period: Duration,
    /// How many troubles are told apart. Start with 256; what is beyond is told as one.
    pub most_notes: usize,
}

/// What a core may be sent is memory, and is counted on from: no bound is none.
const MOST_CREDIT: u64 = 1 << 32;

impl Default for LinkSettings {
    fn default() -> LinkSettings {
        LinkSettings {
            backoff_initial: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            backoff_factor: 2.0,
            backoff_jitter: 0.5,
            steady_after: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            patience: Patience::default(),
            ping_period: Duration::from_secs(1),
            silence: Duration::from_secs(5),
            close_patience: Duration::from_secs(1),
            most_greetings: 64,
            most_greetings_per_remote: 4,
            most_connections: 4_096,
            most_strangers: 1_024,
            most_stranger_bytes: 64 << 20,
            most_on_porch: 256,
            credit_frames: 8_192,
            credit_bytes: 4 << 20,
            note_period: Duration::from_secs(60),
            most_notes: 256,
        }
    }
}

impl LinkSettings {
    /// The leave that a peer has at the beginning of a data connection.
    pub(super) fn window(&self) -> Credit {
        Credit {
            frames: self.credit_frames,
            bytes: self.credit_bytes,
        }
    }

    /// Checks that the settings make sense and agree with each other.
    ///
    /// # Errors
    /// [`LinkSettingsError`] for the first setting that doesn't.
    pub fn check(&self) -> Result<(), LinkSettingsError> {
        let above_0 = |setting, value: Duration| {
            let shown = format!("{value:?}");
            (setting, !value.is_zero(), shown, "above 0")
        };
        let at_least_1 =
            |setting, value: u64| (setting, value >= 1, value.to_string(), "at least 1");
        let checks = [
            above_0("backoff_initial", self.backoff_initial),
            (
                "backoff_max",
                self.backoff_max >= self.backoff_initial
                    && self.backoff_max <= Duration::from_secs(86_400),
                format!("{:?}", self.backoff_max),
                "at least `backoff_initial` and at most a day",
            ),
            (
                "backoff_factor",
                (1.0..=10.0).contains(&self.backoff_factor),
                self.backoff_factor.to_string(),
                "from 1 to 10",
            ),
            (
                "backoff_jitter",
                (0.0..=1.0).contains(&self.backoff_jitter),
                self.backoff_jitter.to_string(),
                "from 0 to 1",
            ),
            above_0("steady_after", self.steady_after),
            above_0("patience.preamble", self.patience.preamble),
            above_0("patience.whole", self.patience.whole),
            (
                "connect_timeout",
                !self.connect_timeout.is_zero() && self.connect_timeout < self.patience.whole,
                format!("{:?}", self.connect_timeout),
                "above 0 and below `patience.whole`",
            ),
            above_0("ping_period", self.ping_period),
            (
                "silence",
                self.silence >= self.ping_period,
                format!("{:?}", self.silence),
                "at least `ping_period`",
            ),
            above_0("close_patience", self.close_patience),
            at_least_1("most_greetings", self.most_greetings as u64),
            (
                "most_greetings_per_remote",
                (1..=self.most_greetings).contains(&self.most_greetings_per_remote),
                self.most_greetings_per_remote.to_string(),
                "from 1 to `most_greetings`",
            ),
            (
                "most_connections",
                self.most_connections > self.most_greetings,
                self.most_connections.to_string(),
                "above `most_greetings`",
            ),
            at_least_1("most_strangers", self.most_strangers as u64),
            (
                "most_stranger_bytes",
                self.most_stranger_bytes >= 64 << 10,
                self.most_stranger_bytes.to_string(),
                "at least 65536",
            ),
            at_least_1("most_on_porch", self.most_on_porch as u64),
            // Half of it has to be something, for that is what is given back at a time.
            (
                "credit_frames",
                (2..=MOST_CREDIT).contains(&self.credit_frames),
                self.credit_frames.to_string(),
                "from 2 to 2^32",
            ),
            (
                "credit_bytes",
                (4 << 10..=MOST_CREDIT).contains(&self.credit_bytes),
                self.credit_bytes.to_string(),
                "from 4096 to 2^32",
            ),
            above_0("note_period", self.note_period),
            at_least_1("most_notes", self.most_notes as u64),
        ];
        match checks.into_iter().find(|(_, fine, ..)| !fine) {
            None => Ok(()),
            Some((setting, _, value, must_be)) => Err(LinkSettingsError {
                setting,
                value,
                must_be,
            }),
        }
    }
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("connection setting `{setting}` is {value}; it must be {must_be}")]
pub struct LinkSettingsError {
    /// The name of the field.
    pub setting: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it may be set to.
    pub must_be: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    type Spoil = fn(&mut LinkSettings);

    #[test]
    fn settings_that_contradict_are_named() {
        assert_eq!(LinkSettings::default().check(), Ok(()));
        let cases: [(&str, Spoil); 23] = [
            ("backoff_initial", |s| s.backoff_initial = Duration::ZERO),
            ("backoff_max", |s| s.backoff_max = s.backoff_initial / 2),
            ("backoff_factor", |s| s.backoff_factor = 0.5),
            ("backoff_jitter", |s| s.backoff_jitter = f64::NAN),
            ("steady_after", |s| s.steady_after = Duration::ZERO),
            ("patience.preamble", |s| {
                s.patience.preamble = Duration::ZERO
            }),
            ("patience.whole", |s| s.patience.whole = Duration::ZERO),
            ("connect_timeout", |s| s.connect_timeout = s.patience.whole),
            ("ping_period", |s| s.ping_period = Duration::ZERO),
            ("silence", |s| s.silence = s.ping_period / 2),
            ("close_patience", |s| s.close_patience = Duration::ZERO),
            ("most_greetings", |s| s.most_greetings = 0),
            ("most_greetings_per_remote", |s| {
                s.most_greetings_per_remote = s.most_greetings + 1
            }),
            ("most_connections", |s| {
                s.most_connections = s.most_greetings
            }),
            ("most_strangers", |s| s.most_strangers = 0),
            ("most_stranger_bytes", |s| s.most_stranger_bytes = 1_000),
            ("most_on_porch", |s| s.most_on_porch = 0),
            ("credit_frames", |s| s.credit_frames = 1),
            ("credit_bytes", |s| s.credit_bytes = 1),
            ("credit_frames", |s| s.credit_frames = u64::MAX),
            ("credit_bytes", |s| s.credit_bytes = u64::MAX),
            ("note_period", |s| s.note_period = Duration::ZERO),
            ("most_notes", |s| s.most_notes = 0),
        ];
        for (name, spoil) in cases {
            let mut settings = LinkSettings::default();
            spoil(&mut settings);
            let error = settings.check().unwrap_err();
            assert_eq!(error.setting, name);
            assert!(error.to_string().contains(error.must_be), "{error}");
        }
    }
}
