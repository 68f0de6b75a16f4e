//! Host of a request to a loopback listener. A web page of another site can send requests under a name
//! that resolves to this machine (DNS rebinding), so only known names are accepted.

use std::net::IpAddr;

use hyper::header::HOST;
use hyper::http::uri::Authority;
use hyper::{Request, Version};

/// Host of a request.
pub enum Host {
    /// The name or address, in lower case.
    Named(String),
    /// No Host header, which HTTP/1.0 allows. Browsers always send one.
    None,
    /// There is none although it is required, more than one, or one that is not a host.
    Malformed,
}

/// Returns the host of a request.
pub fn host<B>(request: &Request<B>) -> Host {
    let mut all = request.headers().get_all(HOST).iter();
    let named = match (all.next(), all.next()) {
        (None, _) if request.version() == Version::HTTP_10 => None,
        (None, _) | (_, Some(_)) => return Host::Malformed,
        (Some(host), None) => Some(host),
    };
    // A target in absolute form overrides the header (RFC 9112 clause 3.2.2).
    if let Some(authority) = request.uri().authority() {
        return Host::Named(authority.host().to_ascii_lowercase());
    }
    let Some(named) = named else { return Host::None };
    let authority = Authority::try_from(named.as_bytes());
    authority.map_or(Host::Malformed, |host| Host::Named(host.host().to_ascii_lowercase()))
}

/// Returns whether a host name is that of this machine or is listed by the operator. Any other name
/// may be that of a web page (DNS rebinding).
pub fn is_ours(host: &str, listed: &[String]) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = literal.parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    host == "localhost" || listed.iter().any(|name| name.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_configured_hosts_are_accepted() {
        let listed = ["Metrics.example.com".to_string()];
        for host in ["localhost", "127.0.0.1", "127.8.9.10", "[::1]", "metrics.example.com"] {
            assert!(is_ours(host, &listed), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "192.0.2.1", "0.0.0.0", "", "[::]"] {
            assert!(!is_ours(host, &listed), "{host}");
        }
    }
}
