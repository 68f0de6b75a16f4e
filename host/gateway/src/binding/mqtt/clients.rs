//! The connected clients, by credential and Client Identifier.
//!
//! MQTT ends the connection of a client when another one connects with its Client Identifier. Here that
//! is so for clients with the same credential only, so that no client can end the connection of another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use saegis_onem2m::id::CredentialId;

use crate::session::durable_sessions::{Durable, DurableSessions, Filter};
use crate::session::registry::Ending;

type Key = (CredentialId, Arc<str>);

/// Reason for the end of a connection.
const CONNECTED_AGAIN: &str = "the same client has connected again";

/// The connected clients, each with what ends its association.
#[derive(Default)]
pub struct Clients(Mutex<HashMap<Key, Ending>>);

/// A connected client. Dropped, it is not connected any more.
pub struct Connected {
    all: Arc<Clients>,
    key: Key,
    /// Its session outlives the connection.
    session: Option<Arc<DurableSessions>>,
    ending: Ending,
}

impl Clients {
    fn all(&self) -> MutexGuard<'_, HashMap<Key, Ending>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects a client, whose association `ending` ends, and ends its earlier connection. Its session
    /// outlives the connection if it is one of `session`.
    pub fn connect(
        self: &Arc<Self>,
        credential: CredentialId,
        client_id: Arc<str>,
        session: Option<Arc<DurableSessions>>,
        ending: Ending,
    ) -> Connected {
        let key = (credential, client_id);
        if let Some(before) = self.all().insert(key.clone(), ending.clone()) {
            // The first reason counts.
            let _ = before.set(CONNECTED_AGAIN);
        }
        Connected { all: self.clone(), key, session, ending }
    }
}

impl Connected {
    /// Stores the subscriptions of a session that outlives the connection, and the AEs that take
    /// requests. Returns `None` for another session.
    pub fn store(
        &self,
        filters: impl Iterator<Item = (Filter, bool)>,
        aes: impl Iterator<Item = String>,
    ) -> Option<Durable> {
        let (credential, client_id) = &self.key;
        let session = self.session.as_ref()?;
        Some(session.subscribe(credential, client_id, filters.collect(), aes.collect()))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut all = self.all.all();
        // Otherwise the entry is that of a later connection.
        if all.get(&self.key).is_some_and(|ending| Arc::ptr_eq(ending, &self.ending)) {
            all.remove(&self.key);
            // Under the lock: a client that connects again meanwhile has not left.
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
        let connect =
            |name, id: &str| clients.connect(credential(name), id.into(), None, Ending::default());
        let first = connect("a", "lamp");
        let other = connect("b", "lamp");
        let another = connect("a", "lamp2");
        assert!(!first.ending.initialized());
        let second = connect("a", "lamp");
        assert_eq!(first.ending.get(), Some(&CONNECTED_AGAIN));
        drop(first);
        assert_eq!(clients.all().len(), 3);
        assert!(!second.ending.initialized() && !other.ending.initialized());
        drop((second, other, another));
        assert!(clients.all().is_empty());
    }
}
