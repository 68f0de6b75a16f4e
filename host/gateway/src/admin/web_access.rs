//! Access to the web page: links that open it once, and sessions.
//!
//! A link comes from the admin socket, so that only the owner of the gateway gets one. A session has a
//! public number in the path of its pages, and a secret in a cookie for that path. Browsers send cookies
//! to all ports of a host, but another program on this machine does not know the path.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::protocol::{WebLink, WebRole};

/// Maximum number of links that are not opened yet, and of sessions. A further one replaces the oldest.
const MAX_LINKS: usize = 8;
const MAX_SESSIONS: usize = 8;

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

struct Link {
    secret: Secret,
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
    /// The user that created the link.
    pub uid: u32,
    ends: Instant,
    /// Result of the last change, for the next page.
    notice: Mutex<Option<String>>,
}

impl Session {
    /// Sets the result of a change.
    pub fn set_notice(&self, text: String) {
        *self.notice.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
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
    address: OnceLock<SocketAddr>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    links: Vec<Link>,
    sessions: Vec<Arc<Session>>,
}

impl State {
    fn remove_expired(&mut self) {
        let now = Instant::now();
        self.links.retain(|link| link.ends > now);
        self.sessions.retain(|session| session.ends > now);
    }
}

impl WebAccess {
    /// Creates it without links and sessions.
    pub fn new(link_lifetime: Duration, session_lifetime: Duration) -> Self {
        let (address, state) = (OnceLock::new(), Mutex::default());
        Self { link_lifetime, session_lifetime, address, state }
    }

    /// Sets the address of the page, once it listens.
    pub fn set_address(&self, address: SocketAddr) {
        // The page is started once.
        let _ = self.address.set(address);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.remove_expired();
        state
    }

    /// Creates a link. Returns `None` if the page does not listen.
    pub fn new_link(&self, role: WebRole, uid: u32) -> Option<WebLink> {
        let address = self.address.get()?;
        let secret = Secret::new();
        let url = Zeroizing::new(format!("http://{address}/open/{}", *secret.text()));
        let mut state = self.state();
        if state.links.len() >= MAX_LINKS {
            state.links.remove(0);
        }
        state.links.push(Link { secret, role, uid, ends: Instant::now() + self.link_lifetime });
        Some(WebLink { url, seconds: self.link_lifetime.as_secs() })
    }

    /// Opens a session with the secret of a link, which is then used up.
    pub fn open(&self, secret: &str) -> Option<Arc<Session>> {
        let mut state = self.state();
        // All links are compared, so that the time does not depend on the position.
        let mut found = None;
        for (at, link) in state.links.iter().enumerate() {
            if link.secret.is(secret) {
                found = Some(at);
            }
        }
        let Link { role, uid, .. } = state.links.remove(found?);
        let session = Arc::new(Session {
            id: format!("{:016x}", rand::rng().random::<u64>()),
            cookie: Secret::new(),
            form: Secret::new(),
            role,
            uid,
            ends: Instant::now() + self.session_lifetime,
            notice: Mutex::default(),
        });
        if state.sessions.len() >= MAX_SESSIONS {
            state.sessions.remove(0);
        }
        state.sessions.push(session.clone());
        Some(session)
    }

    /// Returns the session with that number, if one of the secrets is that of its cookie.
    pub fn session<'c>(
        &self,
        id: &str,
        mut secrets: impl Iterator<Item = &'c str>,
    ) -> Option<Arc<Session>> {
        let found = self.state().sessions.iter().find(|session| session.id == id).cloned()?;
        secrets.any(|secret| found.cookie.is(secret)).then_some(found)
    }

    /// Returns whether a session has not ended.
    pub fn is_active(&self, session: &Arc<Session>) -> bool {
        self.state().sessions.iter().any(|other| Arc::ptr_eq(other, session))
    }

    /// Ends a session.
    pub fn end(&self, session: &Arc<Session>) {
        self.state().sessions.retain(|other| !Arc::ptr_eq(other, session));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(link_lifetime: Duration, session_lifetime: Duration) -> WebAccess {
        let access = WebAccess::new(link_lifetime, session_lifetime);
        access.set_address("127.0.0.1:9465".parse().unwrap());
        access
    }

    /// Returns the secret of a new link.
    fn link(access: &WebAccess, role: WebRole) -> String {
        let link = access.new_link(role, 1000).unwrap();
        link.url.strip_prefix("http://127.0.0.1:9465/open/").unwrap().to_string()
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn link_opens_one_session() {
        let access = access(HOUR, HOUR);
        let secret = link(&access, WebRole::View);
        assert_eq!(secret.len(), 64);
        let session = access.open(&secret).unwrap();
        assert!(access.open(&secret).is_none());
        assert_eq!((session.role, session.uid), (WebRole::View, 1000));
        let cookie = session.cookie.text();
        let with = |id: &str, secret: &str| access.session(id, [secret].into_iter()).is_some();
        assert!(with(&session.id, &cookie));
        for other in ["", "00", &"0".repeat(64), &secret, &session.form.text()] {
            assert!(!with(&session.id, other), "{other}");
        }
        assert!(!with("0000000000000000", &cookie));
        access.end(&session);
        assert!(!with(&session.id, &cookie) && !access.is_active(&session));
    }

    #[test]
    fn links_and_sessions_expire() {
        let brief = access(Duration::ZERO, HOUR);
        assert!(brief.open(&link(&brief, WebRole::View)).is_none());
        let brief = access(HOUR, Duration::ZERO);
        let session = brief.open(&link(&brief, WebRole::View)).unwrap();
        assert!(!brief.is_active(&session));
        let cookie = session.cookie.text();
        assert!(brief.session(&session.id, [&**cookie].into_iter()).is_none());
    }

    #[test]
    fn oldest_link_and_session_are_replaced() {
        let access = access(HOUR, HOUR);
        let links: Vec<_> = (0..=MAX_LINKS).map(|_| link(&access, WebRole::Operate)).collect();
        assert!(access.open(&links[0]).is_none());
        let first = access.open(&links[1]).unwrap();
        for _ in 1..MAX_SESSIONS {
            access.open(&link(&access, WebRole::Operate)).unwrap();
        }
        assert!(access.is_active(&first));
        access.open(&link(&access, WebRole::Operate)).unwrap();
        assert!(!access.is_active(&first));
    }

    #[test]
    fn link_without_page_is_refused() {
        assert!(WebAccess::new(HOUR, HOUR).new_link(WebRole::View, 0).is_none());
    }
}
