//! Which addresses requests to AEs may go to: the addresses come from whoever creates a subscription or an
//! AE, so what no rule allows is sent nothing.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::sync::Arc;

use http::Uri;
use ipnet::IpNet;
use tokio::sync::Semaphore;

use crate::notification::sender::Failure;

/// Look-ups of names at a time.
const LOOKUPS: usize = 8;

/// An address that notifications may go to: a network, an address or a name, with a port or with
/// each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    host: Host,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    /// Whatever has an address in it.
    Network(IpNet),
    /// A name, whatever address it has.
    Name(String),
}

/// What is no rule.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no address, network or name with or without a port, such as 10.0.0.0/8:8080")]
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
    /// Whether it could allow that name, whatever its address is.
    fn may_allow(&self, name: &str, port: u16) -> bool {
        let host = match &self.host {
            Host::Network(_) => true,
            Host::Name(own) => name.eq_ignore_ascii_case(own),
        };
        host && self.port.is_none_or(|own| own == port)
    }

    fn allows(&self, name: &str, address: SocketAddr) -> bool {
        let host = match &self.host {
            Host::Network(network) => network.contains(&address.ip().to_canonical()),
            Host::Name(own) => name.eq_ignore_ascii_case(own),
        };
        host && self.port.is_none_or(|port| port == address.port())
    }
}

/// A host without the brackets that an IPv6 address has in a URL.
pub fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

/// The rules.
pub struct Targets {
    allowed: Vec<Allowed>,
    lookups: Arc<Semaphore>,
}

impl Targets {
    /// These addresses are allowed and no others.
    pub fn new(allowed: Vec<Allowed>) -> Arc<Self> {
        Arc::new(Self { allowed, lookups: Arc::new(Semaphore::new(LOOKUPS)) })
    }

    /// The address of a URL, if a rule allows it. What its name stands for is looked up once: that very
    /// address is judged, and is the one to connect to.
    pub async fn address(&self, url: &Uri) -> Result<SocketAddr, Failure> {
        let authority = url.authority().ok_or(Failure::NotAllowed)?;
        let name = authority.host();
        let bare = bare(name);
        let of_scheme = if url.scheme_str() == Some("https") { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(of_scheme);
        let addresses = match bare.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => self.look_up(bare, port).await?,
        };
        let allowed = |at: &SocketAddr| self.allowed.iter().any(|rule| rule.allows(bare, *at));
        addresses.into_iter().find(allowed).ok_or(Failure::NotAllowed)
    }

    /// The addresses of a name, if any rule could allow one. A look-up keeps a thread until it ends,
    /// whether anybody waits for it or not, so there are few at a time.
    async fn look_up(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        if !self.allowed.iter().any(|rule| rule.may_allow(name, port)) {
            return Err(Failure::NotAllowed);
        }
        let place = self.lookups.clone().try_acquire_owned().map_err(|_| Failure::Busy)?;
        let name = name.to_string();
        let found = tokio::task::spawn_blocking(move || {
            let _place = place;
            (name.as_str(), port).to_socket_addrs().map(Iterator::collect)
        });
        found.await.map_err(std::io::Error::other)?.map_err(Failure::NoSuchName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_allows_what_it_names_and_nothing_else() {
        for (rule, name, address, allowed) in [
            ("10.0.0.0/8", "lamp.example", "10.1.2.3:8080", true),
            ("10.0.0.0/8", "lamp.example", "11.1.2.3:8080", false),
            ("10.0.0.0/8:8080", "lamp.example", "10.1.2.3:8080", true),
            ("10.0.0.0/8:8080", "lamp.example", "10.1.2.3:22", false),
            ("127.0.0.1", "localhost", "127.0.0.1:1", true),
            ("127.0.0.1", "localhost", "127.0.0.2:1", false),
            ("127.0.0.1:9000", "127.0.0.1", "127.0.0.1:9000", true),
            ("127.0.0.1", "x", "[::ffff:127.0.0.1]:1", true),
            ("::1", "::1", "[::1]:80", true),
            ("[::1]:80", "::1", "[::1]:80", true),
            ("[::1]:80", "::1", "[::1]:81", false),
            ("2001:db8::/32", "x", "[2001:db8::1]:80", true),
            ("Lamp.example", "lamp.EXAMPLE", "192.0.2.1:80", true),
            ("lamp.example:80", "lamp.example", "192.0.2.1:81", false),
            ("lamp.example", "x.lamp.example", "192.0.2.1:80", false),
        ] {
            let rule: Allowed = rule.parse().unwrap();
            let address = address.parse().unwrap();
            assert_eq!(rule.allows(name, address), allowed, "{rule:?} {name} {address}");
        }
        for bad in ["", ":80", "a:b", "a:99999", "http://a", "a/b", "*", "10.0.0.0/33"] {
            assert!(bad.parse::<Allowed>().is_err(), "{bad}");
        }
    }
}
