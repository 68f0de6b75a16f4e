//! Table for the web page.

use saegis_policy::Document;
use serde::Deserialize;

use super::listen_address::ListenAddress;
use super::telemetry::parsed_if_there;

/// Web page for the operator, in a browser on this machine.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Web {
    /// Address and port of the page, on the loopback interface only, such as `127.0.0.1:9465`.
    /// Without it, there is no page. `saegis admin link` prints a link that opens it.
    #[serde(deserialize_with = "parsed_if_there")]
    pub listen: Option<ListenAddress>,
    /// Time for which a link can be opened, in seconds.
    pub link_seconds: u64,
    /// Time after which a session ends, in seconds.
    pub session_seconds: u64,
}

impl Default for Web {
    fn default() -> Self {
        Self { listen: None, link_seconds: 120, session_seconds: 12 * 3600 }
    }
}

impl Web {
    /// Adds a fault for each invalid option.
    pub fn check(&self, document: &mut Document<'_>) {
        if self.listen.as_ref().is_some_and(|address| !address.is_loopback()) {
            let what = "must be on the loopback interface, such as 127.0.0.1:9465, because the page has no \
                        TLS; for remote access, forward the port with ssh -L 9465:127.0.0.1:9465";
            document.add_fault("admin.web.listen", what);
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
