//! Table for the web page.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use saegis_policy::Document;
use serde::Deserialize;

use super::listen_address::ListenAddress;
use super::telemetry::parsed_if_there;
use super::web_remote::Remote;

/// Web page for the operator.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Web {
    /// Address and port of the page for browsers on this machine: `127.0.0.1:9465`, with any port.
    /// Without it, there is no such page. `saegis admin link` prints a link that opens it.
    #[serde(deserialize_with = "parsed_if_there")]
    pub listen: Option<ListenAddress>,
    /// Time for which a link can be opened, in seconds.
    pub link_seconds: u64,
    /// Time after which a session ends, in seconds.
    pub session_seconds: u64,
    /// Web page for operators on other machines.
    pub remote: Option<Remote>,
}

impl Default for Web {
    fn default() -> Self {
        Self { listen: None, link_seconds: 120, session_seconds: 12 * 3600, remote: None }
    }
}

/// Returns whether an address is one to which browsers resolve the names below `localhost`.
fn is_localhost(address: &ListenAddress) -> bool {
    match address {
        ListenAddress::At(address) => {
            [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].contains(&address.ip())
        }
        _ => address.is_loopback(),
    }
}

impl Web {
    /// Returns whether there is a page.
    pub fn is_on(&self) -> bool {
        self.listen.is_some() || self.remote.is_some()
    }

    /// Adds a fault for each invalid option.
    pub fn check(&self, document: &mut Document<'_>) {
        if self.listen.as_ref().is_some_and(|address| !is_localhost(address)) {
            let what = "must be on the loopback interface, such as 127.0.0.1:9465, because this page has no \
                        TLS; for other machines, add [admin.web.remote] with certificates, or forward the \
                        port with ssh -L 9465:127.0.0.1:9465";
            document.add_fault("admin.web.listen", what);
        }
        if let Some(remote) = &self.remote {
            remote.check(document);
        }
        for (entry, value, max) in [
            ("admin.web.link-seconds", self.link_seconds, 3600),
            ("admin.web.session-seconds", self.session_seconds, 7 * 24 * 3600),
        ] {
            if !(1..=max).contains(&value) {
                document.add_fault(entry, &format!("must be from 1 to {max}"));
            }
        }
    }
}
