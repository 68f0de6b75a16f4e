//! The two listeners of the web page, and the connection that a request comes from.

use std::sync::Arc;

use hyper::Request;
use hyper::header::HeaderMap;

use super::guard;
use crate::admin::protocol::WebRole;
use crate::admin::web_access::{self, Binding};

/// The connection that a request comes from.
#[derive(Clone)]
pub enum Visitor {
    /// The loopback interface, without TLS.
    Local,
    /// Another machine, with a client certificate.
    Remote(Arc<RemoteOperator>),
}

/// An operator on another machine.
pub struct RemoteOperator {
    /// The name in their certificate that gives the role.
    pub name: String,
    /// Their role.
    pub role: WebRole,
    /// SHA-256 of the certificate.
    pub digest: [u8; 32],
    /// Host names of the page.
    pub hosts: Arc<[String]>,
}

impl Visitor {
    /// Returns the binding of the sessions that a request can belong to. Returns `None` if the request
    /// cannot come from a page of this listener, or from the address bar.
    pub fn binding<B>(&self, request: &Request<B>) -> Option<Binding> {
        match self {
            Self::Local => {
                let host = guard::own_host(request, "http://", web_access::is_host_of_link)?;
                Some(Binding::Host(host))
            }
            Self::Remote(operator) => {
                let is_ours = |host: &str| {
                    let literal = host.trim_start_matches('[').trim_end_matches(']');
                    operator.hosts.iter().any(|name| name.eq_ignore_ascii_case(literal))
                };
                guard::own_host(request, "https://", is_ours)?;
                Some(Binding::Certificate(operator.digest))
            }
        }
    }

    fn cookie_name(&self) -> &'static str {
        match self {
            Self::Local => "saegis",
            // Browsers accept this prefix only with Secure, for the whole host, and from TLS.
            Self::Remote(_) => "__Host-saegis",
        }
    }

    /// Returns the values of the cookies of sessions.
    pub fn cookies<'h>(&self, headers: &'h HeaderMap) -> Vec<&'h str> {
        guard::cookies(headers, self.cookie_name()).collect()
    }

    /// Returns the cookie of a session with pages at a path.
    pub fn cookie(&self, secret: &str, path: &str) -> String {
        let name = self.cookie_name();
        match self {
            Self::Local => format!("{name}={secret}; Path={path}; HttpOnly; SameSite=Strict"),
            Self::Remote(_) => {
                format!("{name}={secret}; Path=/; Secure; HttpOnly; SameSite=Strict")
            }
        }
    }
}
