//! The settings of failure detection.

use std::time::Duration;

use thiserror::Error;

/// How peers are probed, suspected and given up.
///
/// Traffic at rest, whatever the size of the cluster: by datagrams a probe and an answer to one each `probe_period`; by
/// control connections 8 heartbeats each `heartbeat`. A crash is proposed to the log after about
/// `probe_period * (1 + e) + suspicion` and the time of a few rounds of gossip: `e / (e - 1)` periods are what a random
/// probe needs on average to come by.
#[derive(Clone, Debug, PartialEq)]
pub struct MembershipSettings {
    /// How often a node probes another by datagram. Start with 0.5 s. Shorter finds a crash sooner and costs datagrams.
    pub probe_period: Duration,
    /// How long an answer to a probe may take before others are asked to probe as well. Start with 0.2 s, some hundred
    /// times the latency of a network. Below `probe_period / 2`, for the others' answers have to come within the period.
    pub probe_timeout: Duration,
    /// How many others are asked, at least 1. Start with 3. Each one makes it less likely that lost datagrams look like
    /// a dead node.
    pub indirect_probes: usize,
    /// How long a node that nobody reaches may take to object. Start with 1.5 s: three periods. Too short, and a pause of
    /// a virtual machine is a death (for the datagrams; heartbeats have to agree); too long delays every fail-over.
    pub suspicion: Duration,
    /// How often news is told to [`gossip_fanout`](Self::gossip_fanout) others while there is any. Start with 0.2 s.
    pub gossip_period: Duration,
    /// How many others hear news at once. Start with 3.
    pub gossip_fanout: usize,
    /// For how long the datagram side remembers a dead node. Start with 60 s, by when gossip about its life has died out.
    pub forget_dead_after: Duration,
    /// The most nodes that the datagram side keeps, at least 2. Start with 4,096; each costs about 100 bytes. What is said
    /// about further nodes is left out and counted.
    pub max_members: usize,
    /// How often a heartbeat goes to each neighbour. Start with 0.5 s.
    pub heartbeat: Duration,
    /// How often silence is judged, at most `heartbeat`. Start with 0.2 s.
    pub check_period: Duration,
    /// When silence is suspicious.
    pub phi: PhiSettings,
    /// How long heartbeats may fail while datagrams get through, before a node is unreachable all the same. Start with
    /// 10 s: long enough for a connection to be made anew some times.
    pub control_patience: Duration,
    /// How long a turn may be late without any effect on how much this node trusts its verdicts. Start with 50 ms: less
    /// is everyday life of a busy machine.
    pub stall_tolerance: Duration,
}

impl Default for MembershipSettings {
    fn default() -> MembershipSettings {
        MembershipSettings {
            probe_period: Duration::from_millis(500),
            probe_timeout: Duration::from_millis(200),
            indirect_probes: 3,
            suspicion: Duration::from_millis(1_500),
            gossip_period: Duration::from_millis(200),
            gossip_fanout: 3,
            forget_dead_after: Duration::from_secs(60),
            max_members: 4_096,
            heartbeat: Duration::from_millis(500),
            check_period: Duration::from_millis(200),
            phi: PhiSettings::default(),
            control_patience: Duration::from_secs(10),
            stall_tolerance: Duration::from_millis(50),
        }
    }
}

impl MembershipSettings {
    /// For machines that are close to each other and never stall: five times as fast as the default, at five times the
    /// traffic. A pause of half a second may be taken for a death.
    #[must_use]
    pub fn fast() -> MembershipSettings {
        MembershipSettings {
            probe_period: Duration::from_millis(100),
            probe_timeout: Duration::from_millis(40),
            suspicion: Duration::from_millis(300),
            gossip_period: Duration::from_millis(40),
            heartbeat: Duration::from_millis(100),
            check_period: Duration::from_millis(40),
            phi: PhiSettings {
                min_deviation: Duration::from_millis(20),
                first_estimate: Duration::from_millis(200),
                ..PhiSettings::default()
            },
            control_patience: Duration::from_secs(2),
            stall_tolerance: Duration::from_millis(25),
            ..MembershipSettings::default()
        }
    }

    /// Checks that the settings make sense and agree with each other, those of phi included.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] for the first setting that doesn't.
    pub fn check(&self) -> Result<(), SettingsError> {
        let above_0 = |setting, value: Duration| {
            let shown = format!("{value:?}");
            (setting, !value.is_zero(), shown, "above 0")
        };
        let at_least = |setting, value: usize, least, must_be| {
            (setting, value >= least, value.to_string(), must_be)
        };
        // They are multiplied.
        let within_a_day = |setting, value: Duration| {
            let shown = format!("{value:?}");
            (setting, value <= A_DAY, shown, "at most a day")
        };
        first_wrong([
            within_a_day("probe_period", self.probe_period),
            within_a_day("suspicion", self.suspicion),
            within_a_day("heartbeat", self.heartbeat),
            within_a_day("control_patience", self.control_patience),
            above_0("probe_period", self.probe_period),
            (
                "probe_timeout",
                !self.probe_timeout.is_zero() && self.probe_timeout < self.probe_period / 2,
                format!("{:?}", self.probe_timeout),
                "above 0 and below half of `probe_period`",
            ),
            (
                "indirect_probes",
                (1..=16).contains(&self.indirect_probes),
                self.indirect_probes.to_string(),
                "from 1 to 16",
            ),
            (
                "suspicion",
                self.suspicion >= self.probe_period,
                format!("{:?}", self.suspicion),
                "at least `probe_period`",
            ),
            above_0("gossip_period", self.gossip_period),
            (
                "gossip_fanout",
                (1..=16).contains(&self.gossip_fanout),
                self.gossip_fanout.to_string(),
                "from 1 to 16",
            ),
            (
                "forget_dead_after",
                self.forget_dead_after >= self.suspicion.saturating_mul(10),
                format!("{:?}", self.forget_dead_after),
                "at least ten times `suspicion`",
            ),
            at_least("max_members", self.max_members, 2, "at least 2"),
            above_0("heartbeat", self.heartbeat),
            (
                "check_period",
                !self.check_period.is_zero() && self.check_period <= self.heartbeat,
                format!("{:?}", self.check_period),
                "above 0 and at most `heartbeat`",
            ),
            (
                "control_patience",
                self.control_patience >= self.suspicion,
                format!("{:?}", self.control_patience),
                "at least `suspicion`",
            ),
            above_0("stall_tolerance", self.stall_tolerance),
        ])?;
        self.phi.check()
    }
}

const A_DAY: Duration = Duration::from_secs(86_400);

/// When silence is suspicious; see [`phi`](crate::membership::phi).
#[derive(Clone, Debug, PartialEq)]
pub struct PhiSettings {
    /// The phi from which on silence is suspicious. Start with 8: a silence this long comes once in 10^8 intervals. Each
    /// further 1 makes a false alarm ten times rarer, and costs a sixth of the deviation in time.
    pub threshold: f64,
    /// How many intervals are remembered, from 2 to 10,000. Start with 200: 100 s of heartbeats, at 8 bytes each.
    pub window: usize,
    /// The least deviation that is believed. Start with 100 ms: after hours without jitter the first hiccup would
    /// otherwise be a death.
    pub min_deviation: Duration,
    /// A silence that is always fine, added to the mean. Start with 0; a second if machines are known to pause.
    pub acceptable_pause: Duration,
    /// The interval that is assumed of a peer not heard yet, with a quarter of it as deviation. Start with 1 s: enough to
    /// make a connection.
    pub first_estimate: Duration,
}

impl Default for PhiSettings {
    fn default() -> PhiSettings {
        PhiSettings {
            threshold: 8.0,
            window: 200,
            min_deviation: Duration::from_millis(100),
            acceptable_pause: Duration::ZERO,
            first_estimate: Duration::from_secs(1),
        }
    }
}

impl PhiSettings {
    fn check(&self) -> Result<(), SettingsError> {
        let hour = Duration::from_secs(3_600);
        first_wrong([
            (
                "phi.threshold",
                self.threshold > 0.0 && self.threshold.is_finite(),
                self.threshold.to_string(),
                "above 0 and finite",
            ),
            (
                "phi.window",
                (2..=10_000).contains(&self.window),
                self.window.to_string(),
                "from 2 to 10000",
            ),
            (
                "phi.min_deviation",
                !self.min_deviation.is_zero(),
                format!("{:?}", self.min_deviation),
                "above 0",
            ),
            (
                "phi.acceptable_pause",
                self.acceptable_pause <= hour,
                format!("{:?}", self.acceptable_pause),
                "at most an hour",
            ),
            (
                "phi.first_estimate",
                !self.first_estimate.is_zero() && self.first_estimate <= hour,
                format!("{:?}", self.first_estimate),
                "above 0 and at most an hour",
            ),
        ])
    }
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("membership setting `{setting}` is {value}; it must be {must_be}")]
pub struct SettingsError {
    /// The name of the field.
    pub setting: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it may be set to.
    pub must_be: &'static str,
}

/// Name, whether it is fine, value, and what it must be.
type Check = (&'static str, bool, String, &'static str);

fn first_wrong<const N: usize>(checks: [Check; N]) -> Result<(), SettingsError> {
    match checks.into_iter().find(|(_, fine, ..)| !fine) {
        None => Ok(()),
        Some((setting, _, value, must_be)) => Err(SettingsError {
            setting,
            value,
            must_be,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Spoil = fn(&mut MembershipSettings);

    #[test]
    fn settings_that_contradict_are_named() {
        assert_eq!(MembershipSettings::default().check(), Ok(()));
        assert_eq!(MembershipSettings::fast().check(), Ok(()));
        let cases: [(&str, Spoil); 23] = [
            ("probe_period", |s| s.probe_period = Duration::ZERO),
            ("probe_timeout", |s| s.probe_timeout = Duration::ZERO),
            ("probe_timeout", |s| s.probe_timeout = s.probe_period / 2),
            ("indirect_probes", |s| s.indirect_probes = 0),
            ("indirect_probes", |s| s.indirect_probes = 17),
            ("suspicion", |s| s.suspicion = s.probe_period / 2),
            ("gossip_period", |s| s.gossip_period = Duration::ZERO),
            ("probe_period", |s| s.probe_period = Duration::MAX),
            ("suspicion", |s| s.suspicion = Duration::MAX),
            ("heartbeat", |s| s.heartbeat = Duration::MAX),
            ("control_patience", |s| s.control_patience = Duration::MAX),
            ("gossip_fanout", |s| s.gossip_fanout = 0),
            ("forget_dead_after", |s| s.forget_dead_after = s.suspicion),
            ("max_members", |s| s.max_members = 1),
            ("heartbeat", |s| s.heartbeat = Duration::ZERO),
            ("check_period", |s| s.check_period = s.heartbeat * 2),
            ("control_patience", |s| s.control_patience = Duration::ZERO),
            ("stall_tolerance", |s| s.stall_tolerance = Duration::ZERO),
            ("phi.threshold", |s| s.phi.threshold = f64::NAN),
            ("phi.window", |s| s.phi.window = 1),
            ("phi.min_deviation", |s| {
                s.phi.min_deviation = Duration::ZERO
            }),
            ("phi.acceptable_pause", |s| {
                s.phi.acceptable_pause = Duration::MAX
            }),
            ("phi.first_estimate", |s| {
                s.phi.first_estimate = Duration::ZERO
            }),
        ];
        for (name, spoil) in cases {
            let mut settings = MembershipSettings::default();
            spoil(&mut settings);
            let error = settings.check().unwrap_err();
            assert_eq!(error.setting, name);
            assert!(error.to_string().contains(error.must_be), "{error}");
        }
    }
}
