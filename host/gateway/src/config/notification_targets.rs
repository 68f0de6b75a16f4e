//! Rules for the targets of notifications.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

/// Rule that allows notifications to a network, an address or a name, with a given port or with all
/// ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    host: Host,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    /// Every host whose address is in the network.
    Network(IpNet),
    /// A name, with any address.
    Name(String),
}

/// Error of a rule.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an address, network or name with or without a port, such as 10.0.0.0/8:8080")]
pub struct NotAllowed(String);

impl FromStr for Allowed {
    type Err = NotAllowed;

    fn from_str(text: &str) -> Result<Self, NotAllowed> {
        let bad = || NotAllowed(text.into());
        let network = |text: &str| {
            let bare = bare(text);
            bare.parse::<IpNet>().ok().or_else(|| bare.parse::<IpAddr>().ok().map(IpNet::from))
        };
        if let Some(network) = network(text) {
            return Ok(Self { host: Host::Network(network), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| bad())?)),
            None => (text, None),
        };
        if let Some(network) = network(host) {
            return Ok(Self { host: Host::Network(network), port });
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        if host.is_empty() || !host.chars().all(plain) {
            return Err(bad());
        }
        Ok(Self { host: Host::Name(host.to_ascii_lowercase()), port })
    }
}

impl Allowed {
    /// Returns whether it may allow that name, depending on its address.
    pub fn may_allow(&self, name: &str, port: u16) -> bool {
        let host = match &self.host {
            Host::Network(_) => true,
            Host::Name(own) => name.eq_ignore_ascii_case(own),
        };
        host && self.port.is_none_or(|own| own == port)
    }

    /// Returns whether it allows that address with that name.
    pub fn allows(&self, name: &str, address: SocketAddr) -> bool {
        let host = match &self.host {
            Host::Network(network) => network.contains(&address.ip().to_canonical()),
            Host::Name(own) => name.eq_ignore_ascii_case(own),
        };
        host && self.port.is_none_or(|port| port == address.port())
    }
}

/// Returns a host without the brackets of an IPv6 address in a URL.
pub fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}
