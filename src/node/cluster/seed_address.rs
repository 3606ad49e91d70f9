//! A node of which it is known where it is, as people write it.

use crate::base::ids::NodeId;
use core::net::{Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

/// A node and where it is: `id@host:port`.
///
/// ```
/// use corecast::node::cluster::seed_address::SeedAddress;
///
/// let seed: SeedAddress = "2@node-2.example:7000".parse()?;
/// assert_eq!(seed.node.0, 2);
/// assert_eq!(seed.address, "node-2.example:7000");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeedAddress {
    /// Its id.
    pub node: NodeId,
    /// Its advertised address, `host:port`. A name is looked up when this node starts, and every 5 s while this node is not
    /// in and has no connection to the seed; until then it may stand for nothing.
    pub address: String,
}

/// A text is no seed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no seed; write its node id and its address as `id@host:port`, such as `2@10.0.0.2:7000`"
)]
pub struct SeedAddressError(String);

impl FromStr for SeedAddress {
    type Err = SeedAddressError;

    fn from_str(text: &str) -> Result<SeedAddress, SeedAddressError> {
        let fail = || SeedAddressError(text.to_owned());
        let (node, address) = text.trim().split_once('@').ok_or_else(fail)?;
        let node = node.parse().map_err(|_| fail())?;
        if host_and_port(address).is_none_or(|(host, port)| port == 0 || !may_be_host(host)) {
            return Err(fail());
        }
        Ok(SeedAddress {
            node: NodeId(node),
            address: address.to_owned(),
        })
    }
}

impl fmt::Display for SeedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node.0, self.address)
    }
}

/// The two parts of `host:port`; a host of IPv6 stands in brackets.
pub(super) fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let is_host = !host.is_empty() && (is_bracketed || !host.contains(':'));
    Some((host, port.parse().ok()?)).filter(|_| is_host)
}

/// Whether a text is an address or may be a name, which never ends in a number: what is neither will never be known.
pub(super) fn may_be_host(host: &str) -> bool {
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if let Some(address) = bracketed {
        let (address, _scope) = address.split_once('%').unwrap_or((address, ""));
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let last = host.trim_end_matches('.').rsplit('.').next();
    let ends_in_name = last.is_some_and(|last| !last.bytes().all(|byte| byte.is_ascii_digit()));
    let is_clean = !host.chars().any(|c| c.is_whitespace() || c.is_control());
    host.parse::<Ipv4Addr>().is_ok() || is_clean && ends_in_name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_read_and_written_alike() {
        for text in ["1@10.0.0.1:7000", "7@node-7.shop.:1", "3@[::1]:7000"] {
            assert_eq!(text.parse::<SeedAddress>().unwrap().to_string(), text);
        }
        let wrong = [
            "",
            "1",
            "1@",
            "@a:1",
            "1@a",
            "1@a:0",
            "1@:7000",
            "x@a:1",
            "1@::1:7000",
            "1@a:70000",
            "1@10.0.0.300:7000",
            "1@[::g]:7000",
            "1@a b:7000",
            "1@.:7000",
        ];
        for text in wrong {
            let error = text.parse::<SeedAddress>().unwrap_err().to_string();
            assert!(error.contains("id@host:port"), "{error}");
        }
    }
}
