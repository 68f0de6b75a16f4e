//! Resolves the addresses of notification targets. AEs choose the addresses in subscriptions and
//! points of access, so a request is only sent to an address that a rule allows.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use http::Uri;
use tokio::sync::Semaphore;

use super::failure::Failure;
use crate::config::{Allowed, bare};

/// Maximum number of concurrent name lookups.
const MAX_CONCURRENT_LOOKUPS: usize = 8;

/// Rules for targets.
pub struct Targets {
    allowed: Vec<Allowed>,
    lookups: Arc<Semaphore>,
}

impl Targets {
    /// Creates rules that allow only these addresses.
    pub fn new(allowed: Vec<Allowed>) -> Arc<Self> {
        Arc::new(Self { allowed, lookups: Arc::new(Semaphore::new(MAX_CONCURRENT_LOOKUPS)) })
    }

    /// Returns the address of a URL if a rule allows it. The name is resolved once: the rules are
    /// applied to the same address that is used to connect.
    pub async fn address(&self, url: &Uri) -> Result<SocketAddr, Failure> {
        let authority = url.authority().ok_or(Failure::NotAllowed)?;
        let name = authority.host();
        let bare = bare(name);
        let of_scheme = match url.scheme_str() {
            Some("https") => 443,
            Some("coaps") => 5684,
            _ => 80,
        };
        let port = authority.port_u16().unwrap_or(of_scheme);
        let addresses = match bare.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => self.look_up(bare, port).await?,
        };
        let allowed = |at: &SocketAddr| self.allowed.iter().any(|rule| rule.allows(bare, *at));
        addresses.into_iter().find(allowed).ok_or(Failure::NotAllowed)
    }

    /// Returns the addresses of a name, if a rule may allow one. A lookup occupies a thread until
    /// it ends, even if the request is dropped, so concurrent lookups are limited.
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
    fn target_rule_allows_only_named_addresses() {
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
