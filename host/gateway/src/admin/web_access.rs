//! Access to the web page: links that open it once, and sessions.
//!
//! A link comes from the admin socket, so that only the owner of the gateway gets one. It has a random
//! name below `localhost`, which browsers resolve to this machine. So the origin of its session is new:
//! no other program can have had the port of this origin before, for example to install a service
//! worker, and no other port of the machine receives its cookie.
//!
//! On other machines, a client certificate opens a session, which belongs to that certificate.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rand::RngExt as _;
use saegis_onem2m::timestamp;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::protocol::{WebLink, WebRole, WebSessionEntry};
use crate::telemetry::admin_audit::{self, Opener};

/// Maximum number of links that are not opened yet, and of sessions of links. A further one replaces the
/// oldest.
const MAX_LINKS: usize = 8;
const MAX_SESSIONS: usize = 8;
/// Maximum number of sessions of an operator with a certificate. A further one replaces the oldest.
const MAX_SESSIONS_PER_OPERATOR: usize = 4;

/// End of the host names of links (RFC 6761 section 6.3).
const LOCALHOST: &str = ".localhost";
/// Length of the random part of a host name in bytes.
const LABEL: usize = 16;

/// Length of a secret in bytes.
const SECRET: usize = 32;

/// A random secret of a link, a session or a form.
pub struct Secret(Zeroizing<[u8; SECRET]>);

impl Secret {
    fn new() -> Self {
        let mut bytes = Zeroizing::new([0; SECRET]);
        rand::rng().fill(&mut *bytes);
        Self(bytes)
    }

    /// Returns it as hexadecimal digits.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(*self.0))
    }

    /// Returns whether a text is the secret. The time depends only on whether the text could be one.
    pub fn is(&self, text: &str) -> bool {
        self.matches(text).into()
    }

    fn matches(&self, text: &str) -> Choice {
        let mut given = Zeroizing::new([0; SECRET]);
        match hex::decode_to_slice(text, &mut *given) {
            Ok(()) => self.0.as_slice().ct_eq(given.as_slice()),
            Err(_) => Choice::from(0),
        }
    }
}

/// The only requests that a session accepts, besides their cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// Requests to this host name on the loopback interface.
    Host(String),
    /// Requests over connections with this client certificate, by its SHA-256.
    Certificate([u8; 32]),
}

impl Binding {
    /// Returns whether both are the same, in a time that depends only on their lengths.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Host(a), Self::Host(b)) => a.as_bytes().ct_eq(b.as_bytes()).into(),
            (Self::Certificate(a), Self::Certificate(b)) => a.as_slice().ct_eq(b).into(),
            _ => false,
        }
    }
}

/// Returns whether a host name can be that of a link.
pub fn is_host_of_link(name: &str) -> bool {
    let label = name.strip_suffix(LOCALHOST).unwrap_or_default();
    label.len() == 2 * LABEL && label.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Returns the user of this process, as which operators with a certificate act.
fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

struct Link {
    secret: Secret,
    host: String,
    role: WebRole,
    uid: u32,
    ends: Instant,
}

/// A session of the web page.
pub struct Session {
    /// Number in the path of its pages. It is not a secret.
    pub id: String,
    /// The secret of its cookie.
    pub cookie: Secret,
    /// The secret of its forms.
    pub form: Secret,
    /// Its role.
    pub role: WebRole,
    /// The user that created the link, or that of the gateway if a certificate opened the session.
    pub uid: u32,
    /// The user or the certificate that opened it.
    pub opener: Opener,
    binding: Binding,
    opened: SystemTime,
    ends: Instant,
    /// Result of the last change, for the next page.
    notice: Mutex<Option<String>>,
}

impl Session {
    /// Sets the result of a change.
    pub fn set_notice(&self, text: String) {
        *self.notice.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    fn accepts(&self, binding: &Binding, secrets: &[&str]) -> bool {
        self.binding.is(binding) && secrets.iter().any(|secret| self.cookie.is(secret))
    }

    /// Takes the result of the last change.
    pub fn take_notice(&self) -> Option<String> {
        self.notice.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Links and sessions of the web page.
pub struct WebAccess {
    link_lifetime: Duration,
    session_lifetime: Duration,
    /// The address of the page, or the reason why it does not listen.
    address: Mutex<Result<SocketAddr, String>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    links: Vec<Link>,
    sessions: Vec<Arc<Session>>,
}

impl State {
    /// Ends the sessions that meet a condition, and returns their number. The audit trail has each end.
    fn end(&mut self, why: &str, ends: impl Fn(&Arc<Session>) -> bool) -> usize {
        let ended: Vec<_> = self.sessions.extract_if(.., |session| ends(session)).collect();
        for session in &ended {
            admin_audit::page_closed(&session.id, &session.opener, why);
        }
        ended.len()
    }

    /// Removes what has expired.
    fn remove_expired(&mut self) {
        let now = Instant::now();
        self.links.retain(|link| link.ends > now);
        self.end("expired", |session| session.ends <= now);
    }

    /// Adds a session. The oldest one that `rivals` selects ends if there are `max` of them.
    fn add(&mut self, session: Arc<Session>, max: usize, rivals: impl Fn(&Session) -> bool) {
        let mut found = self.sessions.iter().filter(|other| rivals(other));
        let oldest = found.next().cloned();
        if found.count() + 1 >= max
            && let Some(oldest) = oldest
        {
            self.end("replaced", |other| Arc::ptr_eq(other, &oldest));
        }
        self.sessions.push(session);
    }
}

impl WebAccess {
    /// Creates it without links and sessions.
    pub fn new(link_lifetime: Duration, session_lifetime: Duration) -> Self {
        let address = Mutex::new(Err("the web page is not open yet; try again".into()));
        Self { link_lifetime, session_lifetime, address, state: Mutex::default() }
    }

    /// Sets the address of the page once it listens, or the reason why it does not.
    pub fn set_address(&self, address: Result<SocketAddr, String>) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.remove_expired();
        state
    }

    /// Removes what has expired.
    pub fn tidy(&self) {
        drop(self.state());
    }

    /// Creates a link.
    ///
    /// # Errors
    /// Fails if the page does not listen on the loopback interface.
    pub fn new_link(&self, role: WebRole, uid: u32) -> Result<WebLink, String> {
        let address = self.address.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let secret = Secret::new();
        let mut label = [0; LABEL];
        rand::rng().fill(&mut label);
        let host = hex::encode(label) + LOCALHOST;
        let port = address.port();
        let url = Zeroizing::new(format!("http://{host}:{port}/open/{}", *secret.text()));
        let mut state = self.state();
        if state.links.len() >= MAX_LINKS {
            state.links.remove(0);
        }
        let ends = Instant::now() + self.link_lifetime;
        state.links.push(Link { secret, host, role, uid, ends });
        Ok(WebLink { url, seconds: self.link_lifetime.as_secs() })
    }

    /// Opens a session with the host name and the secret of a link, which is then used up.
    pub fn open(&self, host: &str, secret: &str) -> Option<Arc<Session>> {
        let mut state = self.state();
        let host = Binding::Host(host.into());
        // All links are compared, so that the time does not depend on the position.
        let mut found = None;
        for (at, link) in state.links.iter().enumerate() {
            if link.secret.is(secret) && Binding::Host(link.host.clone()).is(&host) {
                found = Some(at);
            }
        }
        let Link { role, uid, .. } = state.links.remove(found?);
        let session = self.new_session(role, uid, Opener::User(uid), host);
        state.add(session.clone(), MAX_SESSIONS, |other| matches!(other.binding, Binding::Host(_)));
        Some(session)
    }

    /// Opens a session for a client certificate with this name and SHA-256.
    pub fn open_for(&self, name: &str, digest: [u8; 32], role: WebRole) -> Arc<Session> {
        let opener = Opener::Certificate(name.into());
        let binding = Binding::Certificate(digest);
        let session = self.new_session(role, own_uid(), opener.clone(), binding);
        let rivals = |other: &Session| other.opener == opener;
        self.state().add(session.clone(), MAX_SESSIONS_PER_OPERATOR, rivals);
        session
    }

    fn new_session(
        &self,
        role: WebRole,
        uid: u32,
        opener: Opener,
        binding: Binding,
    ) -> Arc<Session> {
        Arc::new(Session {
            id: format!("{:016x}", rand::rng().random::<u64>()),
            cookie: Secret::new(),
            form: Secret::new(),
            role,
            uid,
            opener,
            binding,
            opened: SystemTime::now(),
            ends: Instant::now() + self.session_lifetime,
            notice: Mutex::default(),
        })
    }

    /// Returns the session with that number, if the request belongs to it: by its binding and by one of
    /// the secrets of its cookie.
    pub fn session(&self, id: &str, binding: &Binding, secrets: &[&str]) -> Option<Arc<Session>> {
        let found = self.state().sessions.iter().find(|session| session.id == id).cloned()?;
        found.accepts(binding, secrets).then_some(found)
    }

    /// Returns a session to which a request belongs, whatever its number.
    pub fn any_session(&self, binding: &Binding, secrets: &[&str]) -> Option<Arc<Session>> {
        let state = self.state();
        let mut all = state.sessions.iter();
        all.find(|session| session.accepts(binding, secrets)).cloned()
    }

    /// Returns whether a session has not ended.
    pub fn is_active(&self, session: &Arc<Session>) -> bool {
        self.state().sessions.iter().any(|other| Arc::ptr_eq(other, session))
    }

    /// Returns the sessions, the oldest first.
    pub fn sessions(&self) -> Vec<WebSessionEntry> {
        let entry = |session: &Arc<Session>| WebSessionEntry {
            id: session.id.clone(),
            role: session.role,
            by: session.opener.to_string(),
            opened: timestamp::format(session.opened),
            expires: timestamp::format(session.opened + self.session_lifetime),
        };
        self.state().sessions.iter().map(entry).collect()
    }

    /// Ends the session with that number, or all sessions and links, by a command of the operator. Returns
    /// the number of sessions.
    pub fn end_named(&self, id: Option<&str>) -> usize {
        let mut state = self.state();
        if id.is_none() {
            state.links.clear();
        }
        state.end("ended by command", |session| id.is_none_or(|id| session.id == id))
    }

    /// Ends a session, at the request of its operator.
    pub fn end(&self, session: &Arc<Session>) {
        self.state().end("signed out", |other| Arc::ptr_eq(other, session));
    }
}

#[cfg(test)]
#[path = "web_access_tests.rs"]
mod tests;
