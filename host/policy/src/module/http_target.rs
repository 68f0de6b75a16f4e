//! Hosts for the HTTP requests of modules.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// A host with scheme and port: `https://keys.example.com`, `http://127.0.0.1:8080`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    https: bool,
    /// In lower case; an IPv6 address has brackets.
    host: String,
    port: u16,
}

/// Error of a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a target for requests; write https://host or http://host:port without a path"
)]
pub struct BadTarget(String);

impl Target {
    /// Returns the target of a request. Returns `None` if its URL has no host or contains a user.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        let host = authority.host().to_ascii_lowercase();
        // `user@host`, or an invalid port, such as that of `host:`.
        let rest = authority.as_str().get(host.len()..)?;
        let port = match (rest, authority.port_u16()) {
            ("", None) => {
                if https {
                    443
                } else {
                    80
                }
            }
            (rest, Some(port)) if rest == format!(":{port}") && port != 0 => port,
            _ => return None,
        };
        (!host.is_empty()).then_some(Self { https, host, port })
    }

    /// Returns whether it uses TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    /// Returns the name or the address, without brackets.
    pub(crate) fn name(&self) -> &str {
        let inner = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        inner.unwrap_or(&self.host)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let bad = || BadTarget(text.into());
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let bare = uri.path_and_query().is_none_or(|path| path.as_str() == "/");
        if !bare || text.ends_with('/') || text.contains(['#', '?', '*']) {
            return Err(bad());
        }
        Self::of(&uri).ok_or_else(bad)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Option<String> {
        text.parse::<Target>().ok().map(|target| target.to_string())
    }

    #[test]
    fn host_has_scheme_and_port() {
        for (text, target_of_it) in [
            ("https://keys.example.com", "https://keys.example.com:443"),
            ("HTTP://Keys.Example.COM", "http://keys.example.com:80"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://[::1]:8443", "https://[::1]:8443"),
        ] {
            assert_eq!(target(text).as_deref(), Some(target_of_it), "{text}");
        }
        assert_eq!("https://[::1]".parse::<Target>().unwrap().name(), "::1");
    }

    #[test]
    fn invalid_host_is_refused() {
        for text in [
            "",
            "keys.example.com",
            "keys.example.com:80",
            "ftp://keys.example.com",
            "https://",
            "https://keys.example.com/",
            "https://keys.example.com/path",
            "https://keys.example.com?query",
            "https://user@keys.example.com",
            "https://user:secret@keys.example.com",
            "https://keys.example.com:",
            "https://keys.example.com:0",
            "https://keys.example.com:080",
            "https://keys.example.com:99999",
            "https://*.example.com",
            "/path",
        ] {
            assert_eq!(target(text), None, "{text}");
        }
    }

    #[test]
    fn different_hosts_do_not_match() {
        let of = |text: &str| Target::of(&text.parse().unwrap());
        let allowed: Target = "http://127.0.0.1:8080".parse().unwrap();
        assert_eq!(of("http://127.0.0.1:8080/a?b").as_ref(), Some(&allowed));
        for other in [
            "https://127.0.0.1:8080/",
            "http://127.0.0.1:8081/",
            "http://127.0.0.1/",
            "http://127.0.0.1.:8080/",
            "http://localhost:8080/",
            "http://127.0.0.1:8080@evil.example/",
            "http://evil.example@127.0.0.1:8080/",
        ] {
            assert_ne!(of(other).as_ref(), Some(&allowed), "{other}");
        }
    }
}
