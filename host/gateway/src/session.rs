//! Security associations: the list of active ones, their revalidation, their assigned AE-IDs, and
//! the state that their requests share.

pub mod ae_id_store;
pub mod durable_sessions;
pub mod end_guard;
pub mod registry;
pub mod response_memory;
pub mod revalidation;
pub mod usage;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use saegis_onem2m::exported::Exported;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use self::registry::ActiveAssociation;
use self::response_memory::Share;

/// Maximum number of originators whose allowance one association stores.
const MAX_ALLOWANCES: usize = 16;

/// An established association, from the view of its requests.
pub struct Session {
    /// The association.
    pub active: Arc<ActiveAssociation>,
    /// Originators that policy has allowed.
    pub allowances: Mutex<AllowanceCache>,
    /// Key that was exported from the TLS session, at a MAF.
    pub exported: Option<Box<Exported>>,
    /// Whether that key has been registered.
    pub key_is_registered: AtomicBool,
    /// Memory that the credential may use for large responses.
    pub response_memory: Share,
    /// Acknowledged requests that are still running. Most associations never have one.
    acknowledged: OnceLock<TaskTracker>,
    /// Counts the association. Requests that outlive their connection share it.
    _permit: OwnedSemaphorePermit,
}

impl Session {
    /// Creates the session of an association, which counts with `permit`.
    pub fn new(
        active: Arc<ActiveAssociation>,
        exported: Option<Exported>,
        response_memory: Share,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            active,
            allowances: Mutex::default(),
            exported: exported.map(Box::new),
            key_is_registered: AtomicBool::new(false),
            response_memory,
            acknowledged: OnceLock::new(),
            _permit: permit,
        }
    }

    /// Waits until the association ends by itself, and returns why: it is revoked, its credential
    /// expires, or its peer does not read a response whose memory others need.
    pub async fn ended(&self) -> &'static str {
        let expiry = async {
            match self.active.association.expires {
                // Boxed, because most credentials do not expire.
                Some(at) => {
                    let left = at.duration_since(SystemTime::now()).unwrap_or_default();
                    Box::pin(sleep(left)).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            why = self.active.ended() => why,
            () = expiry => "credential expired",
        }
    }

    /// Returns the requests that are acknowledged before they are carried out.
    pub fn acknowledged(&self) -> &TaskTracker {
        self.acknowledged.get_or_init(TaskTracker::new)
    }

    /// Returns whether acknowledged requests are still running.
    pub fn has_acknowledged(&self) -> bool {
        self.acknowledged.get().is_some_and(|acknowledged| !acknowledged.is_empty())
    }

    /// Waits until all acknowledged requests have ended. The connection accepts no further
    /// requests.
    pub async fn acknowledged_are_done(&self) {
        if let Some(acknowledged) = self.acknowledged.get() {
            acknowledged.close();
            acknowledged.wait().await;
        }
    }
}

/// Originators that policy allowed, valid for one generation.
#[derive(Default)]
pub struct AllowanceCache {
    generation: u64,
    originators: Vec<String>,
}

impl AllowanceCache {
    /// Returns whether an originator is allowed in a generation.
    pub fn allows(&self, generation: u64, originator: &str) -> bool {
        self.generation == generation && self.originators.iter().any(|o| o == originator)
    }

    /// Stores that an originator is allowed in a generation.
    pub fn insert(&mut self, generation: u64, originator: &str) {
        if self.generation != generation {
            *self = Self { generation, originators: Vec::new() };
        }
        if self.originators.len() < MAX_ALLOWANCES && !self.allows(generation, originator) {
            // Most associations have one.
            self.originators.reserve_exact(1);
            self.originators.push(originator.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowances_are_kept_for_one_generation_and_bounded() {
        let mut allowances = AllowanceCache::default();
        allowances.insert(1, "Ca");
        assert!(allowances.allows(1, "Ca"));
        assert!(!allowances.allows(1, "Cb"));
        assert!(!allowances.allows(2, "Ca"));
        allowances.insert(2, "Cb");
        assert!(!allowances.allows(2, "Ca"));
        for n in 0..100 {
            allowances.insert(2, &format!("C{n}"));
        }
        assert_eq!(allowances.originators.len(), MAX_ALLOWANCES);
    }
}
