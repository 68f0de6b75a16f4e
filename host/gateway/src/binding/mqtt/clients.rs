//! The connected clients, by credential and Client Identifier.
//!
//! MQTT ends the connection of a client when another one connects with its Client Identifier. Here that
//! is so for clients with the same credential only, so that no client can end the connection of another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use saegis_onem2m::id::CredentialId;
use tokio_util::sync::CancellationToken;

use crate::session::durable_sessions::{Durable, DurableSessions};

type Key = (CredentialId, String);

/// The connected clients.
#[derive(Default)]
pub struct Clients(Mutex<HashMap<Key, CancellationToken>>);

/// A connected client. Dropped, it is not connected any more.
pub struct Connected {
    all: Arc<Clients>,
    key: Key,
    /// Its session outlives the connection.
    session: Option<Arc<DurableSessions>>,
    /// Canceled when the same client connects again.
    superseded: CancellationToken,
}

impl Clients {
    fn all(&self) -> MutexGuard<'_, HashMap<Key, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects a client, and ends its earlier connection. Its session outlives the connection if it is
    /// one of `session`.
    pub fn connect(
        self: &Arc<Self>,
        credential: CredentialId,
        client_id: String,
        session: Option<Arc<DurableSessions>>,
    ) -> Connected {
        let key = (credential, client_id);
        let superseded = CancellationToken::new();
        if let Some(before) = self.all().insert(key.clone(), superseded.clone()) {
            before.cancel();
        }
        Connected { all: self.clone(), key, session, superseded }
    }
}

impl Connected {
    /// Stores the subscriptions of a session that outlives the connection, and the AEs that take
    /// requests. Returns `None` for another session.
    pub fn store(
        &self,
        filters: impl Iterator<Item = (String, bool)>,
        aes: impl Iterator<Item = String>,
    ) -> Option<Durable> {
        let (credential, client_id) = &self.key;
        let session = self.session.as_ref()?;
        Some(session.subscribe(credential, client_id, filters.collect(), aes.collect()))
    }

    /// Waits until the same client has connected again.
    pub async fn superseded(&self) {
        self.superseded.cancelled().await;
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        // Otherwise the entry is that of the later connection.
        if !self.superseded.is_cancelled() {
            self.all.all().remove(&self.key);
            let (credential, client_id) = &self.key;
            self.session.iter().for_each(|session| session.leave(credential, client_id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_client_of_same_credential_supersedes() {
        let credential = |name: &str| CredentialId::parse(&format!("12-{name}@b.c")).unwrap();
        let clients = Arc::new(Clients::default());
        let first = clients.connect(credential("a"), "lamp".into(), None);
        let other = clients.connect(credential("b"), "lamp".into(), None);
        let another = clients.connect(credential("a"), "lamp2".into(), None);
        assert!(!first.superseded.is_cancelled());
        let second = clients.connect(credential("a"), "lamp".into(), None);
        assert!(first.superseded.is_cancelled());
        drop(first);
        assert_eq!(clients.all().len(), 3);
        assert!(!second.superseded.is_cancelled() && !other.superseded.is_cancelled());
        drop((second, other, another));
        assert!(clients.all().is_empty());
    }
}
