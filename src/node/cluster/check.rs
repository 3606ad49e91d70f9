//! What can be wrong with the settings of a node, all of it at once.

use super::seed_address::{host_and_port, may_be_host};
use super::settings::ClusterSettings;
use crate::base::ids::NodeId;
use crate::cluster::ledger_settings::LedgerSettings;
use crate::consensus::bootstrap::Start;
use crate::consensus::founding::MAX_FOUNDERS;
use crate::wire::hello::MAX_CLUSTER_NAME;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// Settings that make no sense, or not together. Nothing has been started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettingsError {
    /// Each thing that is wrong: which setting, what it is, and what it may be.
    pub problems: Vec<String>,
}

impl fmt::Display for ClusterSettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problems[..] {
            [problem] => write!(f, "the cluster settings cannot be used: {problem}"),
            problems => {
                let count = problems.len();
                write!(
                    f,
                    "the cluster settings cannot be used, for {count} reasons:"
                )?;
                problems
                    .iter()
                    .try_for_each(|problem| write!(f, "\n- {problem}"))
            }
        }
    }
}

impl std::error::Error for ClusterSettingsError {}

impl ClusterSettings {
    /// Checks the settings, alone and together.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn check(&self) -> Result<(), ClusterSettingsError> {
        let mut problems = Vec::new();
        self.check_self(&mut problems);
        self.check_addresses(&mut problems);
        self.check_seeds(&mut problems);
        self.check_expert(&mut problems);
        match problems.is_empty() {
            true => Ok(()),
            false => Err(ClusterSettingsError { problems }),
        }
    }

    fn check_self(&self, problems: &mut Vec<String>) {
        let is_clean = |text: &str| !text.chars().any(char::is_control);
        if !(1..=MAX_CLUSTER_NAME).contains(&self.name.len()) || !is_clean(&self.name) {
            problems.push(format!(
                "name (--cluster-name) is {:?}; it must have 1 to {MAX_CLUSTER_NAME} bytes and no control characters",
                self.name
            ));
        }
        if self.node == NodeId(0) {
            problems.push(
                "node (--node-id) is 0; give each node a number of its own, above 0".to_owned(),
            );
        }
        if self.data.as_os_str().is_empty() {
            problems.push(
                "data (--data-dir) is empty; name the directory in which this node keeps its part of the log".to_owned(),
            );
        }
        for role in &self.roles {
            if !(1..=64).contains(&role.len()) || !is_clean(role) {
                problems.push(format!(
                    "roles (--role) has {role:?}; a role has 1 to 64 bytes and no control characters"
                ));
            }
        }
        if self.roles.len() > 32 {
            let count = self.roles.len();
            problems.push(format!("roles (--role) are {count}; a node has at most 32"));
        }
        if self.required_quorum > 0 && self.start_deadline < Duration::from_millis(1) {
            problems.push(format!(
                "start_deadline (--start-deadline) is {:?}, and required_quorum (--required-quorum) {}; give the nodes time to \
                 come up, or wait for none",
                self.start_deadline, self.required_quorum
            ));
        }
        if self.required_quorum > self.expert.membership.max_members {
            problems.push(format!(
                "required_quorum (--required-quorum) is {}; a cluster has no more than {} members",
                self.required_quorum, self.expert.membership.max_members
            ));
        }
    }

    fn check_addresses(&self, problems: &mut Vec<String>) {
        let form = "write it as `host:port`, a host of IPv6 in brackets";
        let Some((bound, _)) = host_and_port(&self.bind) else {
            problems.push(format!("bind (--bind) is `{}`; {form}", self.bind));
            return;
        };
        match self.advertised.as_deref().map(host_and_port) {
            None if is_any(bound) => problems.push(format!(
                "bind (--bind) is `{}`, all addresses of this machine; say which of them others should use with advertised \
                 (--advertise)",
                self.bind
            )),
            None => {}
            Some(None) => {
                let advertised = self.advertised.as_deref().unwrap_or_default();
                problems.push(format!("advertised (--advertise) is `{advertised}`; {form}"));
            }
            Some(Some((host, _))) if is_any(host) => problems.push(format!(
                "advertised (--advertise) is `{host}`, which stands for all addresses of whoever reads it; name one"
            )),
            Some(_) => {}
        }
    }

    fn check_seeds(&self, problems: &mut Vec<String>) {
        let (mut nodes, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for seed in &self.seeds {
            if seed.node == NodeId(0) {
                problems.push(format!("seeds (--seed) has `{seed}`; node ids are above 0"));
            }
            match host_and_port(&seed.address) {
                Some((host, port)) if port > 0 && !is_any(host) && may_be_host(host) => {}
                _ => problems.push(format!(
                    "seeds (--seed) has `{seed}`; its address must be `host:port` as that node advertises it"
                )),
            }
            if !nodes.insert(seed.node) {
                problems.push(format!("seeds (--seed) names {} twice", seed.node));
            }
            if !addresses.insert(&seed.address) {
                problems.push(format!("seeds (--seed) names {} twice", seed.address));
            }
        }
        if self.seeds.len() > MAX_FOUNDERS {
            let count = self.seeds.len();
            problems.push(format!(
                "seeds (--seed) are {count}; name at most {MAX_FOUNDERS}, and let the others join"
            ));
        }
        let names_others = self.seeds.iter().any(|seed| seed.node != self.node);
        if self.start == Start::Join && !names_others {
            problems.push(
                "start is join (--join-only), and seeds (--seed) names no other node; name one of the cluster".to_owned(),
            );
        }
    }

    fn check_expert(&self, problems: &mut Vec<String>) {
        let expert = &self.expert;
        let ledger = expert.ledger.clone();
        let ledger = ledger.unwrap_or_else(|| LedgerSettings::for_consensus(&expert.consensus));
        let checks = [
            expert.membership.check().map_err(|error| error.to_string()),
            expert.consensus.check().map_err(|error| error.to_string()),
            expert.steward.check().map_err(|error| error.to_string()),
            expert.links.check().map_err(|error| error.to_string()),
            expert.limits.check().map_err(|error| error.to_string()),
            ledger
                .check(&expert.consensus)
                .map_err(|error| error.to_string()),
        ];
        problems.extend(checks.into_iter().filter_map(Result::err));
        if expert.ask_every < Duration::from_millis(1) {
            let value = expert.ask_every;
            problems.push(format!(
                "expert setting `ask_every` is {value:?}; it must be at least 1 ms"
            ));
        }
    }
}

/// Whether a host stands for all addresses.
fn is_any(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<core::net::IpAddr>();
    address.is_ok_and(|address| address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ClusterSettings {
        let mut settings = ClusterSettings::new(1, "10.0.0.1:7000", "data");
        settings.seeds = vec![
            "1@10.0.0.1:7000".parse().unwrap(),
            "2@10.0.0.2:7000".parse().unwrap(),
        ];
        settings
    }

    #[test]
    fn each_problem_is_named() {
        assert_eq!(settings().check(), Ok(()));
        type Spoil = fn(&mut ClusterSettings);
        let cases: [(&str, Spoil); 19] = [
            ("--cluster-name", |s| s.name.clear()),
            ("--node-id", |s| s.node = NodeId(0)),
            ("--data-dir", |s| s.data = "".into()),
            ("--role", |s| s.roles = vec!["a\n".into()]),
            ("--role", |s| s.roles = vec!["a".into(); 33]),
            ("--start-deadline", |s| s.start_deadline = Duration::ZERO),
            ("--required-quorum", |s| s.required_quorum = 1 << 20),
            ("--bind", |s| s.bind = "here".into()),
            ("--advertise", |s| s.bind = "0.0.0.0:7000".into()),
            ("--advertise", |s| s.bind = "[::]:7000".into()),
            ("--advertise", |s| s.advertised = Some("a".into())),
            ("--advertise", |s| s.advertised = Some("0.0.0.0:1".into())),
            ("node-2 twice", |s| {
                s.seeds.push("2@10.0.0.3:7000".parse().unwrap())
            }),
            ("10.0.0.2:7000 twice", |s| {
                s.seeds.push("3@10.0.0.2:7000".parse().unwrap())
            }),
            ("node ids are above 0", |s| s.seeds[1].node = NodeId(0)),
            ("as that node advertises it", |s| {
                s.seeds[1].address = "x".into()
            }),
            ("--join-only", |s| {
                s.start = Start::Join;
                s.seeds.clear();
            }),
            ("lease", |s| s.expert.consensus.lease = Duration::ZERO),
            ("ask_every", |s| s.expert.ask_every = Duration::ZERO),
        ];
        for (name, spoil) in cases {
            let mut settings = settings();
            spoil(&mut settings);
            let error = settings.check().unwrap_err();
            assert_eq!(error.problems.len(), 1, "{error}");
            assert!(error.to_string().contains(name), "{name}: {error}");
        }
    }

    #[test]
    fn all_of_them_are_named_at_once() {
        let mut settings = settings();
        settings.node = NodeId(0);
        settings.name.clear();
        settings.bind = String::new();
        settings.expert.membership.probe_period = Duration::ZERO;
        settings.expert.links.silence = Duration::ZERO;
        let error = settings.check().unwrap_err();
        assert_eq!(error.problems.len(), 5, "{error}");
        assert!(error.to_string().contains("5 reasons"), "{error}");
    }
}
