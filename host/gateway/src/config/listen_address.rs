//! Listen addresses in the configuration: `127.0.0.1:8443`, `[::1]:8443`, `localhost:8443`, or
//! `:8443` for all interfaces.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Listen address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address of an interface.
    At(SocketAddr),
    /// All interfaces.
    AllInterfaces(u16),
    /// Address that a name resolves to at the start.
    Named {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
}

/// Name of the loopback interface of this machine (RFC 6761 section 6.3).
const LOCALHOST: &str = "localhost";

/// Error of a listen address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenAddressError {
    /// The port is missing.
    #[error("{0:?} has no port; write {0}:8443, or the port that you mean")]
    NoPort(String),
    /// The host is missing.
    #[error("{0:?} has no host; write 127.0.0.1:{0} for this machine, or :{0} for all interfaces")]
    PortAlone(String),
    /// The port is invalid.
    #[error("{0:?} is not a port; a port is a number up to 65535")]
    BadPort(String),
    /// An IPv6 address is not in brackets.
    #[error("{0:?} is an IPv6 address without brackets; write [::1]:8443")]
    NoBrackets(String),
    /// It has parts of a URL.
    #[error(
        "{0:?} is not a host and a port; write them without a scheme and a path, as localhost:8443"
    )]
    Url(String),
    /// The host is neither a name nor an address.
    #[error("{0:?} is neither a host name nor an IP address")]
    BadHost(String),
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, ListenAddressError> {
        use ListenAddressError as E;
        if let Ok(address) = text.parse() {
            return Ok(Self::At(address));
        }
        if text.contains('/') {
            return Err(E::Url(text.into()));
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(E::PortAlone(text.into()));
        }
        let Some((host, port)) = text.rsplit_once(':') else { return Err(E::NoPort(text.into())) };
        if host.contains(':') && !host.starts_with('[') {
            return Err(E::NoBrackets(text.into()));
        }
        let port: u16 = port.parse().map_err(|_| E::BadPort(port.into()))?;
        let is_name = |label: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            !label.is_empty() && label.bytes().all(plain)
        };
        // A name that ends with a number would be an address (as in the host of a URL), but is not
        // a valid one.
        let is_number = host.rsplit('.').next().is_some_and(|last| last.parse::<u64>().is_ok());
        if host.is_empty() {
            Ok(Self::AllInterfaces(port))
        } else if host.split('.').all(is_name) && !is_number {
            Ok(Self::Named { host: host.to_ascii_lowercase(), port })
        } else {
            Err(E::BadHost(host.into()))
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::AllInterfaces(port) => write!(f, ":{port}"),
            Self::Named { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl ListenAddress {
    /// Returns whether it is on the loopback interface, for every address that the name may have.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::At(address) => address.ip().is_loopback(),
            Self::AllInterfaces(_) => false,
            Self::Named { host, .. } => host == LOCALHOST,
        }
    }

    /// Returns the addresses to try in order; the first that can be bound is used.
    ///
    /// # Errors
    /// Fails if the name has no address.
    pub async fn candidates(&self) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = match self {
            Self::At(address) => return Ok(vec![*address]),
            // The first one accepts IPv4 too; the second one is for machines without IPv6.
            Self::AllInterfaces(port) => {
                let any: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
                return Ok(any.map(|ip| SocketAddr::new(ip, *port)).into());
            }
            Self::Named { host, port } => (host, *port),
        };
        let found = tokio::net::lookup_host((host.as_str(), port)).await?;
        let may = |address: &SocketAddr| host != LOCALHOST || address.ip().is_loopback();
        let mut found: Vec<_> = found.filter(may).collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        found.dedup();
        if found.is_empty() { Err(io::Error::other("the name has no address")) } else { Ok(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let at = |text: &str| ListenAddress::At(text.parse().unwrap());
        let named = |host: &str| ListenAddress::Named { host: host.into(), port: 8443 };
        for (text, address) in [
            ("127.0.0.1:8443", at("127.0.0.1:8443")),
            ("[::1]:8443", at("[::1]:8443")),
            (":8443", ListenAddress::AllInterfaces(8443)),
            ("localhost:8443", named("localhost")),
            ("LocalHost:8443", named("localhost")),
            ("gateway.home.example:8443", named("gateway.home.example")),
        ] {
            assert_eq!(text.parse(), Ok(address), "{text}");
        }
        for (text, what) in [
            ("", "\"\" has no port"),
            ("localhost", "\"localhost\" has no port; write localhost:8443"),
            ("8443", "\"8443\" has no host; write 127.0.0.1:8443 for this machine, or :8443"),
            ("localhost:", "\"\" is not a port"),
            ("localhost:70000", "\"70000\" is not a port"),
            ("::1:8443", "\"::1:8443\" is an IPv6 address without brackets"),
            ("https://localhost:8443", "\"https://localhost:8443\" is not a host and a port"),
            ("1.2.3:80", "\"1.2.3\" is neither"),
            ("1.2.3.400:80", "\"1.2.3.400\" is neither"),
            ("a b:80", "\"a b\" is neither"),
            ("[::1:80", "\"[::1\" is neither"),
        ] {
            let error = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(error.starts_with(what), "{text}: {error}");
        }
    }

    #[test]
    fn loopback_address_is_recognized() {
        let is = |text: &str| text.parse::<ListenAddress>().unwrap().is_loopback();
        assert!(is("127.0.0.1:1") && is("[::1]:1") && is("localhost:1"));
        assert!(!is(":1") && !is("0.0.0.0:1") && !is("[::]:1") && !is("localhost.example:1"));
    }
}
