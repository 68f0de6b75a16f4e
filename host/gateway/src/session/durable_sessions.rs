//! Sessions of MQTT clients that outlive their connections (MQTT 3.1.1 clause 3.1.2.4), and the
//! notifications that wait for them, on disk.
//!
//! The content of the file is in memory as well. A thread writes changes to the file, as many as have
//! come meanwhile in one transaction. A caller that needs a durable change waits for it.

use std::collections::HashMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redb::{ReadableTable, TableDefinition};
use saegis_onem2m::id::CredentialId;
use saegis_store::{Error, Store};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

/// By Credential-ID and Client Identifier, separated by U+0000, a [`StoredSession`] in JSON.
const SESSIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sessions");

/// By number, a [`StoredNotification`] in JSON.
const NOTIFICATIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("notifications");

/// Maximum memory that redb uses for pages, in bytes. The sessions are in memory anyway, so it only
/// serves writes.
const CACHE: usize = 1 << 20;

/// Maximum number of sessions of one credential. The one that ended first makes room.
const MAX_PER_CREDENTIAL: usize = 8;

/// Maximum number of changes in one transaction.
const MAX_BATCH: usize = 1000;

/// Filter of a subscription. Clones share the text: the client has one as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Filter(Arc<str>);

impl Deref for Filter {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Filter {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Filter {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> Self {
        filter.0.as_ref().into()
    }
}

/// A session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSession {
    /// Filters of its subscriptions, each with whether its Quality of Service is 1.
    pub filters: Vec<(Filter, bool)>,
    /// AE-ID-Stems of the client, if one of them is for requests to it.
    pub aes: Vec<String>,
    /// When the client disconnected, in seconds since 1970. Absent while it is connected.
    left: Option<u64>,
}

/// A notification that waits for an AE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredNotification {
    /// Credential-ID of the AE.
    pub credential: String,
    /// Credential-ID of the request that caused it.
    pub cause: String,
    /// AE-ID-Stem.
    pub ae: String,
    /// Credential to which the AE-ID must still belong.
    pub registrant: Option<String>,
    /// Address of the subscription.
    pub about: String,
    /// From.
    pub from: String,
    /// Request Identifier.
    pub request_id: String,
    /// Release Version Indicator.
    pub release: String,
    /// Event Category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<u16>,
    /// Content in JSON.
    pub content: String,
    /// When it was queued, in seconds since 1970.
    pub at: u64,
}

enum Change {
    Session(String, Option<StoredSession>),
    Notification(u64, Option<Box<StoredNotification>>),
}

type Pending = (Change, oneshot::Sender<bool>);
/// The sessions of each credential, by Client Identifier.
type Sessions = HashMap<CredentialId, Vec<(Arc<str>, StoredSession)>>;

/// Waits until a change is on disk, and returns whether it is.
pub struct Durable(Option<oneshot::Receiver<bool>>);

impl Durable {
    /// There is nothing to wait for.
    pub fn already() -> Self {
        Self(None)
    }

    /// Waits until the change is on disk. Returns whether it is.
    pub async fn wait(self) -> bool {
        match self.0 {
            None => true,
            Some(written) => written.await.unwrap_or(false),
        }
    }
}

/// The sessions, and the numbered notifications that wait for them.
pub type Opened = (Arc<DurableSessions>, Vec<(u64, StoredNotification)>);

/// The sessions.
pub struct DurableSessions {
    sessions: Mutex<Sessions>,
    /// How long a session lasts after its client has disconnected.
    retention: Duration,
    changes: mpsc::UnboundedSender<Pending>,
}

impl DurableSessions {
    /// Opens or creates the file. Returns the notifications in it too, with their numbers.
    ///
    /// # Errors
    /// Fails if the file cannot be opened, read or written.
    pub fn open(path: &Path, retention: Duration) -> Result<Opened, Error> {
        let store = Store::open(path, CACHE)?;
        // Creates the tables if they do not exist.
        commit(&store, &[])?;
        let (sessions, notifications) = load(&store, retention)?;
        // Bounded by the bounds of what it changes: each client waits for its session.
        let (changes, pending) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("mqtt-sessions".into())
            .spawn(move || write_all(&store, pending))
            .map_err(redb::Error::Io)?;
        let sessions = Mutex::new(sessions);
        Ok((Arc::new(Self { sessions, retention, changes }), notifications))
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a session lasts, and what waits for it.
    pub fn retention(&self) -> Duration {
        self.retention
    }

    /// Whether a client of a credential has a session that takes requests.
    pub fn take_requests(&self, credential: &CredentialId) -> bool {
        let sessions = self.sessions();
        let own = sessions.get(credential).into_iter().flatten();
        own.into_iter().any(|(_, session)| session.takes_requests(self.retention))
    }

    /// Returns the credential of the client of an AE that has a session and takes requests. If the
    /// registrant of the AE is known, it is that credential: former holders of the AE-ID may have a
    /// session too.
    pub fn holder(&self, ae: &str, registrant: Option<&str>) -> Option<CredentialId> {
        let sessions = self.sessions();
        let is_its = |(_, session): &(Arc<str>, StoredSession)| {
            session.takes_requests(self.retention) && session.aes.iter().any(|own| own == ae)
        };
        let may_be = |credential: &CredentialId| {
            registrant.is_none_or(|registrant| credential.to_string() == registrant)
        };
        let found = sessions.iter().find(|(c, own)| may_be(c) && own.iter().any(is_its));
        found.map(|(credential, _)| credential.clone())
    }

    /// Returns the session of a client that connects. Without `clean` there is one from now on.
    pub fn resume(
        &self,
        credential: &CredentialId,
        client_id: Arc<str>,
        clean: bool,
    ) -> Option<StoredSession> {
        let mut changes = Vec::new();
        let mut change = |client_id: &str, session| {
            changes.push(Change::Session(key(credential, client_id), session));
        };
        let found = {
            let mut sessions = self.sessions();
            let own = sessions.entry(credential.clone()).or_default();
            let at = own.iter().position(|(id, _)| *id == client_id);
            let (_, found) = at.map(|at| own.remove(at)).unzip();
            let found = found.filter(|session| session.lasts(self.retention));
            if at.is_some() && (clean || found.is_none()) {
                change(&client_id, None);
            }
            if !clean {
                while own.len() >= MAX_PER_CREDENTIAL {
                    let first = own.iter().enumerate();
                    let first = first.min_by_key(|(_, (_, s))| s.left.unwrap_or(u64::MAX));
                    let first = first.map_or(0, |(at, _)| at);
                    change(&own.remove(first).0, None);
                }
                let session = StoredSession { left: None, ..found.clone().unwrap_or_default() };
                if found.is_some() {
                    change(&client_id, Some(session.clone()));
                }
                // Most credentials have one.
                own.reserve_exact(1);
                own.push((client_id, session));
            }
            if own.is_empty() {
                sessions.remove(credential);
            }
            found.filter(|_| !clean)
        };
        for change in changes {
            self.submit(change);
        }
        found
    }

    /// Changes the subscriptions of a session. `aes` are the AEs of the client if it subscribes to
    /// requests.
    pub fn subscribe(
        &self,
        credential: &CredentialId,
        client_id: &str,
        filters: Vec<(Filter, bool)>,
        aes: Vec<String>,
    ) -> Durable {
        let changed = self.change(credential, client_id, |session| {
            let is_new = (&session.filters, &session.aes) != (&filters, &aes);
            (session.filters, session.aes) = (filters, aes);
            is_new
        });
        match changed {
            Some(session) => {
                self.submit(Change::Session(key(credential, client_id), Some(session)))
            }
            None => Durable::already(),
        }
    }

    /// Notes that a client has disconnected.
    pub fn leave(&self, credential: &CredentialId, client_id: &str) {
        let left = self.change(credential, client_id, |session| {
            session.left = Some(now());
            // Without a subscription there is nothing to keep.
            !session.filters.is_empty()
        });
        if let Some(session) = left {
            self.submit(Change::Session(key(credential, client_id), Some(session)));
        }
    }

    /// Returns the credentials that have sessions.
    pub fn credentials(&self) -> Vec<CredentialId> {
        self.sessions().keys().cloned().collect()
    }

    /// Removes the sessions of a credential. Returns one result for each.
    pub fn remove_all(&self, credential: &CredentialId) -> Vec<Durable> {
        let own = self.sessions().remove(credential).unwrap_or_default();
        let remove = |(client_id, _): (Arc<str>, StoredSession)| {
            self.submit(Change::Session(key(credential, &client_id), None))
        };
        own.into_iter().map(remove).collect()
    }

    /// Removes the sessions whose clients have been away for too long, such as those of removed
    /// credentials.
    pub fn expire(&self) {
        let mut expired = Vec::new();
        self.sessions().retain(|credential, own| {
            own.retain(|(client_id, session)| {
                let lasts = session.lasts(self.retention);
                if !lasts {
                    expired.push(key(credential, client_id));
                }
                lasts
            });
            !own.is_empty()
        });
        for key in expired {
            self.submit(Change::Session(key, None));
        }
    }

    fn change(
        &self,
        credential: &CredentialId,
        client_id: &str,
        change: impl FnOnce(&mut StoredSession) -> bool,
    ) -> Option<StoredSession> {
        let mut sessions = self.sessions();
        let own = sessions.get_mut(credential)?;
        let (_, session) = own.iter_mut().find(|(id, _)| **id == *client_id)?;
        change(session).then(|| session.clone())
    }

    /// Stores a notification.
    pub fn put(&self, number: u64, notification: StoredNotification) -> Durable {
        self.submit(Change::Notification(number, Some(Box::new(notification))))
    }

    /// Removes a notification.
    pub fn remove(&self, number: u64) -> Durable {
        self.submit(Change::Notification(number, None))
    }

    fn submit(&self, change: Change) -> Durable {
        let (written, waits) = oneshot::channel();
        // The thread runs as long as this.
        let _ = self.changes.send((change, written));
        Durable(Some(waits))
    }
}

impl StoredSession {
    fn takes_requests(&self, retention: Duration) -> bool {
        !self.aes.is_empty() && self.lasts(retention)
    }

    fn lasts(&self, retention: Duration) -> bool {
        self.left.is_none_or(|left| now().saturating_sub(left) < retention.as_secs())
    }
}

/// The time in seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn key(credential: &CredentialId, client_id: &str) -> String {
    format!("{credential}\0{client_id}")
}

fn write_all(store: &Store, mut pending: mpsc::UnboundedReceiver<Pending>) {
    let mut batch = Vec::new();
    while pending.blocking_recv_many(&mut batch, MAX_BATCH) > 0 {
        let (changes, written): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let done = commit(store, &changes);
        if let Err(error) = &done {
            if !error.is_paused() {
                store.suspect();
            }
            tracing::error!(
                event = "mqtt.sessions-not-stored",
                "cannot store sessions of MQTT clients: {error}"
            );
        }
        for written in written {
            // Few wait for it.
            let _ = written.send(done.is_ok());
        }
    }
}

fn commit(store: &Store, changes: &[Change]) -> Result<(), Error> {
    let access = store.access()?;
    let transaction = access.begin_write()?;
    {
        let mut sessions = transaction.open_table(SESSIONS)?;
        let mut notifications = transaction.open_table(NOTIFICATIONS)?;
        for change in changes {
            match change {
                Change::Session(key, Some(session)) => {
                    sessions.insert(&**key, &*in_json(session)?)?;
                }
                Change::Session(key, None) => drop(sessions.remove(&**key)?),
                Change::Notification(number, Some(notification)) => {
                    notifications.insert(number, &*in_json(notification)?)?;
                }
                Change::Notification(number, None) => drop(notifications.remove(number)?),
            }
        }
    }
    access.commit(transaction)
}

/// Reads the file, and removes expired entries from it.
fn load(
    store: &Store,
    retention: Duration,
) -> Result<(Sessions, Vec<(u64, StoredNotification)>), Error> {
    let (mut sessions, mut notifications) = (Sessions::new(), Vec::new());
    let mut expired = Vec::new();
    let transaction = store.access()?.begin_read()?;
    for entry in transaction.open_table(SESSIONS)?.iter()? {
        let (key, value) = entry?;
        let key = key.value();
        let session: Option<StoredSession> = serde_json::from_slice(value.value()).ok();
        let session = session.filter(|session| session.lasts(retention));
        let owner = key.split_once('\0');
        let owner = owner.and_then(|(c, id)| Some((CredentialId::parse(c).ok()?, id)));
        match (owner, session) {
            (Some((credential, client_id)), Some(session)) => {
                // A client that was connected has left with the process.
                let left = Some(session.left.unwrap_or_else(now));
                let session = StoredSession { left, ..session };
                sessions.entry(credential).or_default().push((client_id.into(), session));
            }
            _ => expired.push(Change::Session(key.into(), None)),
        }
    }
    for entry in transaction.open_table(NOTIFICATIONS)?.iter()? {
        let (number, value) = entry?;
        let number = number.value();
        let stored: Option<StoredNotification> = serde_json::from_slice(value.value()).ok();
        match stored.filter(|stored| now().saturating_sub(stored.at) < retention.as_secs()) {
            Some(stored) => notifications.push((number, stored)),
            None => expired.push(Change::Notification(number, None)),
        }
    }
    drop(transaction);
    commit(store, &expired)?;
    Ok((sessions, notifications))
}

fn in_json(value: &impl Serialize) -> Result<Vec<u8>, redb::Error> {
    serde_json::to_vec(value).map_err(|error| redb::Error::Io(error.into()))
}

#[cfg(test)]
mod tests;
