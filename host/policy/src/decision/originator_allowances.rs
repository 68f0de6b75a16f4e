//! Originators that the impersonation checks have allowed, for all associations of a credential.
//!
//! An allowance with the scope `originator` holds for one association. A device that reconnects has
//! another association with the same properties. A check that depends on nothing but its input
//! allows it the same, so its sandbox can be spared. See `Generation::allows_again` for when a
//! generation relies on that.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::credential::Entity;
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::saef::Saef;

/// Maximum number of remembered allowances, of a few hundred bytes each.
const MAX_ALLOWANCES: usize = 8192;

/// The properties of an association that modules see, and the From of a request.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    saef: Saef,
    entity: Entity,
    credential_id: CredentialId,
    peer: IpAddr,
    originator: String,
}

impl Key {
    fn new(association: &SecurityAssociation, originator: &str) -> Self {
        Self {
            saef: association.saef,
            entity: association.entity().clone(),
            credential_id: association.credential_id.clone(),
            peer: association.peer.ip(),
            originator: originator.into(),
        }
    }
}

/// The allowances of a generation, those used last.
pub(crate) struct OriginatorAllowances(Mutex<LruCache<Key, ()>>);

impl Default for OriginatorAllowances {
    fn default() -> Self {
        // Unbounded, for a bounded one allocates all of its table at once.
        Self(Mutex::new(LruCache::unbounded()))
    }
}

impl OriginatorAllowances {
    /// Whether an association with the same properties was allowed the originator.
    pub fn contains(&self, association: &SecurityAssociation, originator: &str) -> bool {
        self.lock().get(&Key::new(association, originator)).is_some()
    }

    /// Remembers that an association was allowed an originator. Beyond [`MAX_ALLOWANCES`], the one
    /// that was used least recently is dropped.
    pub fn insert(&self, association: &SecurityAssociation, originator: &str) {
        let mut allowances = self.lock();
        allowances.put(Key::new(association, originator), ());
        if allowances.len() > MAX_ALLOWANCES {
            allowances.pop_lru();
        }
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<Key, ()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
