//! Sends the embedded registrar's notifications: over HTTP, and only where a rule allows it, for the
//! addresses come from whoever creates a subscription or an AE.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use saegis_onem2m::http::read_response;
use saegis_onem2m::rsc::Rsc;
use saegis_registrar::{NamedBy, Notification};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::shares::Shares;

/// Batches of notifications that are being sent at a time: of all, and on the word of one AE. Those
/// of further ones are lost, so that one whose targets are silent keeps nobody else's.
const AT_A_TIME: usize = 256;
const OF_ONE: usize = 32;

/// How many times the time for an answer a batch has, however many notifications are in it.
const BATCH: u32 = 8;

/// Look-ups of names at a time.
const LOOKUPS: usize = 8;

/// Largest answer, in bytes.
const MAX_ANSWER: usize = 64 << 10;

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
            let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
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

/// Why a notification was not sent, or not answered.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no rule allows it (notifications.targets)")]
    NotAllowed,
    #[error("too many names are being looked up")]
    Busy,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("there was no answer in time")]
    Late,
    #[error("what was answered is no response: {0}")]
    NoResponse(String),
}

/// Sends notifications.
pub struct Notifier {
    allowed: Vec<Allowed>,
    patience: Duration,
    places: Arc<Semaphore>,
    /// Batches that are being sent on the word of each.
    of_each: Shares<NamedBy>,
    lookups: Arc<Semaphore>,
}

impl Notifier {
    /// A sender to these addresses and no others.
    pub fn new(allowed: Vec<Allowed>, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            allowed,
            patience,
            places: Arc::new(Semaphore::new(AT_A_TIME)),
            of_each: Shares::new(OF_ONE),
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
        })
    }

    /// Sends one, and waits for what is answered. None, where no rule allows it, or no response comes
    /// in time; the log has why.
    pub async fn ask(&self, notification: &Notification) -> Option<Rsc> {
        let asked = tokio::time::timeout(self.patience, self.send(notification)).await;
        let failed = |why: &Failure| {
            tracing::warn!(
                event = "notification.failed",
                url = %notification.url,
                named_by = ?notification.named_by,
                subscription = notification.subscription,
                "a notification could not be sent: {why}"
            );
        };
        asked.unwrap_or(Err(Failure::Late)).inspect_err(failed).ok()
    }

    /// Sends some, those on the word of one AE one after the other; nobody waits for it.
    pub fn send_all(self: &Arc<Self>, notifications: Vec<Notification>) {
        let mut batches: Vec<Vec<Notification>> = Vec::new();
        for notification in notifications {
            let by = |batch: &&mut Vec<Notification>| {
                batch.first().is_some_and(|first| first.named_by == notification.named_by)
            };
            match batches.iter_mut().find(by) {
                Some(batch) => batch.push(notification),
                None => batches.push(vec![notification]),
            }
        }
        batches.into_iter().for_each(|batch| self.send_batch(batch));
    }

    fn send_batch(self: &Arc<Self>, batch: Vec<Notification>) {
        let Some(named_by) = batch.first().map(|first| first.named_by.clone()) else { return };
        let place = self.places.clone().try_acquire_owned().ok();
        let Some(places) =
            place.and_then(|place| Some((place, self.of_each.take(&by(&named_by))?)))
        else {
            tracing::warn!(
                event = "notification.lost",
                notifications = batch.len(),
                ?named_by,
                "notifications are lost, for too many are being sent"
            );
            return;
        };
        let notifier = self.clone();
        tokio::spawn(async move {
            let _places = places;
            let total = batch.len();
            let mut sent = 0;
            let all = async {
                for notification in batch {
                    // What is answered changes nothing.
                    let _ = notifier.ask(&notification).await;
                    sent += 1;
                }
            };
            if tokio::time::timeout(notifier.patience * BATCH, all).await.is_err() {
                tracing::warn!(
                    event = "notification.lost",
                    notifications = total - sent,
                    ?named_by,
                    "notifications are lost, for those before them took too long"
                );
            }
        });
    }

    async fn send(&self, notification: &Notification) -> Result<Rsc, Failure> {
        let authority = notification.url.authority().ok_or(Failure::NotAllowed)?;
        let name = authority.host();
        let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
        let port = authority.port_u16().unwrap_or(80);
        // What the name stands for is looked up once: that very address is judged and connected to.
        let addresses = match bare.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => self.look_up(bare, port).await?,
        };
        let allowed = |at: &SocketAddr| self.allowed.iter().any(|rule| rule.allows(bare, *at));
        let address = addresses.into_iter().find(allowed).ok_or(Failure::NotAllowed)?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the sender, or with the process.
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let answer = async {
            let request = notification.to_http().map_err(|e| Failure::NoResponse(e.to_string()))?;
            let (mut parts, body) = request.into_parts();
            let host = http::HeaderValue::from_str(authority.as_str());
            let host = host.map_err(|e| Failure::NoResponse(e.to_string()))?;
            parts.headers.insert(http::header::HOST, host);
            let path = parts.uri.path_and_query().cloned();
            parts.uri = path.map_or_else(|| http::Uri::from_static("/"), Into::into);
            let request = http::Request::from_parts(parts, Full::new(body));
            let (parts, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|e| Failure::NoResponse(e.to_string()))?.to_bytes();
            let response = read_response(parts.status, &parts.headers, body);
            Ok(response.map_err(|e| Failure::NoResponse(e.to_string()))?.rsc)
        };
        answer.await
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
        Ok(found.await.map_err(std::io::Error::other)??)
    }
}

/// On whose word: a CSE has one for all who are behind it.
fn by(named_by: &NamedBy) -> NamedBy {
    match named_by {
        NamedBy::Subscriber(from) => match from.strip_prefix('/').and_then(|f| f.split_once('/')) {
            Some((cse, _)) => NamedBy::Subscriber(format!("/{cse}")),
            None => named_by.clone(),
        },
        other => other.clone(),
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
