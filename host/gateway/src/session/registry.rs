//! List of active associations, their revalidation and their end.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use saegis_cse::Authority;
use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::credential::Entity;
use saegis_onem2m::id::{AeIdStem, CredentialId};
use saegis_policy::{Generation, Policy};
use tokio::sync::SetOnce;
use tokio::task::{JoinError, JoinSet};

use crate::session::ae_id_store::{AeIdStore, BindingError};
use crate::session::revalidation::{CredentialRevalidation, RevalidationError};
use crate::telemetry::audit;

/// Maximum number of associations that a new generation revalidates concurrently.
const MAX_CONCURRENT_REVALIDATIONS: usize = 16;

/// Delay before a revalidation is repeated for which there was no sandbox.
pub const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The reason why an association ends by itself, once there is one.
pub type Ending = Arc<SetOnce<&'static str>>;

/// An active association.
pub struct ActiveAssociation {
    /// The security association itself.
    pub association: SecurityAssociation,
    /// Revalidates its credential.
    credential: Arc<CredentialRevalidation>,
    /// Number of the last generation in which it was valid.
    vouched: AtomicU64,
    /// Authority to change resources. Ended before the audit trail records the end.
    authority: Arc<Authority>,
    /// The part of it under the AE-ID that the association has now.
    ae_authority: Mutex<Arc<Authority>>,
    ending: Ending,
    /// Counts it when policy ends it.
    revocations: Arc<Revocations>,
}

impl ActiveAssociation {
    /// Returns the inputs for revalidating its credential.
    pub fn credential(&self) -> &Arc<CredentialRevalidation> {
        &self.credential
    }

    /// Returns the authority of its requests. It ends with the association, or before it if the
    /// AE-ID is released. A request takes it before it is checked.
    pub fn authority(&self) -> Arc<Authority> {
        self.ae_authority().clone()
    }

    fn ae_authority(&self) -> MutexGuard<'_, Arc<Authority>> {
        self.ae_authority.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the authority of all requests so far, which waits for a commit. Further requests have
    /// no authority until [`renew_authority`](Self::renew_authority).
    pub async fn end_ae_authority(&self) {
        let authority = self.authority();
        // Waits for the disk.
        let _ = tokio::task::spawn_blocking(move || authority.end()).await;
    }

    /// Gives further requests an authority again, after the AE-ID was released.
    pub fn renew_authority(&self) {
        *self.ae_authority() = Arc::new(Authority::part_of(&self.authority));
    }

    /// Waits until the association must end, and returns why.
    pub async fn ended(&self) -> &'static str {
        self.ending.wait().await
    }

    /// Returns where a reason for its end is set.
    pub fn ending(&self) -> &Ending {
        &self.ending
    }

    /// Revalidates the association in a generation. If that has not been done yet, it is done now,
    /// so that no request is handled with a generation in which the association is not valid. An
    /// invalid association is ended.
    pub async fn revalidate(self: &Arc<Self>, generation: &Generation) -> Revalidation {
        if self.has_expired() {
            self.revoke(generation, "it has expired").await;
        } else if self.vouched.load(Ordering::Acquire) != generation.number {
            // Boxed, because every connection and every request has space for it otherwise.
            match Box::pin(self.credential.revalidate(generation)).await {
                Err(RevalidationError::NotAsked) => return Revalidation::Deferred,
                Err(RevalidationError::Gone(why)) => self.revoke(generation, &why).await,
                Ok(()) if self.has_learnt_what_is_reserved(generation) => {
                    self.revoke(generation, "its AE-ID belongs to another credential now").await;
                }
                // An older generation may respond late; only the newest result counts.
                Ok(()) => {
                    self.vouched.fetch_max(generation.number, Ordering::AcqRel);
                }
            }
        }
        if self.authority.has_ended() { Revalidation::Revoked } else { Revalidation::Valid }
    }

    /// Returns whether a generation would end the association.
    async fn would_end(&self, generation: &Generation) -> bool {
        match self.credential.revalidate(generation).await {
            Ok(()) => self.has_learnt_what_is_reserved(generation),
            Err(RevalidationError::Gone(_)) => true,
            Err(RevalidationError::NotAsked) => false,
        }
    }

    /// Revalidates the association again, because an input of the result has changed outside the
    /// generation. An invalid association is ended, for that reason.
    pub async fn retry_revalidation(self: &Arc<Self>, generation: &Generation, why: &str) {
        loop {
            match self.credential.revalidate(generation).await {
                Ok(()) => return,
                Err(RevalidationError::Gone(_)) => return self.revoke(generation, why).await,
                // No sandbox was available.
                Err(RevalidationError::NotAsked) => tokio::time::sleep(RETRY_INTERVAL).await,
            }
        }
    }

    /// Ends the association if its assigned AE-ID belongs to another credential in a generation
    /// that came into force during the registration.
    pub async fn end_if_reserved(self: &Arc<Self>, generation: &Generation) {
        if self.has_learnt_what_is_reserved(generation) {
            self.revoke(generation, "its AE-ID belongs to another credential now").await;
        }
    }

    /// Returns whether it stands for an AE-ID that was assigned to its credential and released
    /// since: the AE was deleted, or the AE-ID belongs to another credential.
    pub fn has_lost_its_ae_id(&self, bindings: &AeIdStore) -> bool {
        match (self.association.credential_entity(), self.association.entity()) {
            (Entity::NotYetKnown, Entity::Ae(stem)) => {
                bindings.of(&self.association.credential_id).as_ref() != Some(stem)
            }
            _ => false,
        }
    }

    fn has_learnt_what_is_reserved(&self, generation: &Generation) -> bool {
        match (self.association.credential_entity(), self.association.entity()) {
            (Entity::NotYetKnown, Entity::Ae(stem)) => generation.reserves(stem),
            _ => false,
        }
    }

    /// Ends the association, for that reason.
    pub async fn revoke(self: &Arc<Self>, generation: &Generation, why: &str) {
        let (generation, why) = (generation.number, why.to_string());
        let revocations = self.revocations.clone();
        let record = move |association: &SecurityAssociation| {
            audit::revoked(association, generation, &why);
            revocations.count(generation, &why);
        };
        self.end_by(record).await;
    }

    /// Ends the association, and writes `record` to the audit trail. An active commit for it
    /// completes before that, and none follows.
    async fn end_by(self: &Arc<Self>, record: impl FnOnce(&SecurityAssociation) + Send + 'static) {
        let end = |live: &Self| {
            record(&live.association);
            // The first reason counts.
            let _ = live.ending.set("revoked");
        };
        match self.authority.try_end() {
            // Ends immediately, so that a request which detects it is answered before the end.
            Some(true) => end(self),
            Some(false) => {}
            None => {
                let live = self.clone();
                // Ending waits for the disk. It runs to completion even if the caller is dropped.
                let ended = tokio::task::spawn_blocking(move || {
                    if live.authority.end() {
                        end(&live);
                    }
                });
                let _ = ended.await;
            }
        }
    }

    /// Closes the association after its connection ended. Waits for an active commit. A request
    /// that changes the AE of the credential may continue, but not past the expiry of the
    /// credential.
    pub async fn close(self: &Arc<Self>) {
        let has_expired = self.has_expired();
        let is_closed = match has_expired {
            true => self.authority.try_end().is_some(),
            false => self.authority.is_settled(),
        };
        // Usually no commit is in progress, and another thread is not needed.
        if is_closed {
            return;
        }
        let live = self.clone();
        let closed = tokio::task::spawn_blocking(move || {
            if has_expired {
                live.authority.end();
            } else {
                live.authority.settle();
            }
        });
        let _ = closed.await;
    }

    fn has_expired(&self) -> bool {
        self.association.expires.is_some_and(|at| at <= SystemTime::now())
    }
}

/// Result of a revalidation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revalidation {
    /// The credential is valid in the generation.
    Valid,
    /// The credential is not valid, and the association ends.
    Revoked,
    /// No sandbox was available, so nothing is decided.
    Deferred,
}

/// Maximum number of distinct reasons.
const MAX_REASONS: usize = 8;

/// Associations that a generation has ended, counted by reason.
#[derive(Default)]
struct Revocations(Mutex<(u64, BTreeMap<String, usize>)>);

impl Revocations {
    fn count(&self, generation: u64, why: &str) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, reasons) = &mut *counted;
        if generation > *of {
            (*of, *reasons) = (generation, BTreeMap::new());
        }
        let known = reasons.len() < MAX_REASONS || reasons.contains_key(why);
        *reasons.entry(if known { why } else { "other reasons" }.into()).or_default() += 1;
    }

    /// Returns and resets the counts of a generation.
    fn take(&self, generation: u64) -> BTreeMap<String, usize> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, reasons) = &mut *counted;
        if *of == generation { std::mem::take(reasons) } else { BTreeMap::new() }
    }
}

/// The active associations.
pub struct Associations {
    lists: Mutex<Lists>,
    revocations: Arc<Revocations>,
    /// Maximum number of one credential.
    per_credential: usize,
}

#[derive(Default)]
struct Lists {
    live: HashMap<u64, Arc<ActiveAssociation>>,
    /// Associations of each credential, the oldest first.
    of_credential: HashMap<CredentialId, Vec<u64>>,
}

/// Keeps an association in the list until it is dropped.
pub struct AssociationGuard {
    all: Arc<Associations>,
    /// The association.
    pub live: Arc<ActiveAssociation>,
}

impl Drop for AssociationGuard {
    fn drop(&mut self) {
        let mut lists = self.all.lists();
        let id = self.live.association.id;
        lists.live.remove(&id);
        let credential = &self.live.association.credential_id;
        if let Some(own) = lists.of_credential.get_mut(credential) {
            own.retain(|other| *other != id);
            if own.is_empty() {
                lists.of_credential.remove(credential);
            }
        }
    }
}

impl Associations {
    /// Creates an empty list with at most `per_credential` associations of one credential.
    pub fn new(per_credential: usize) -> Self {
        Self { lists: Mutex::default(), revocations: Arc::default(), per_credential }
    }

    /// Code that holds the lock does not panic, and the lists are consistent between any two calls.
    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an association to the list after the handshake. If an AE-ID was assigned to its
    /// credential, it stands for that. If a generation has come into force since the lookup, it is
    /// revalidated, because that generation has only revalidated the associations in the list.
    pub async fn list(
        self: &Arc<Self>,
        association: SecurityAssociation,
        evidence: CredentialRevalidation,
        policy: &Policy,
        bindings: &AeIdStore,
    ) -> AssociationGuard {
        let credential = association.credential_id.clone();
        let authority = Arc::new(Authority::default());
        let live = Arc::new(ActiveAssociation {
            vouched: AtomicU64::new(evidence.generation),
            association,
            credential: Arc::new(evidence),
            ae_authority: Mutex::new(Arc::new(Authority::part_of(&authority))),
            authority,
            ending: Ending::default(),
            revocations: self.revocations.clone(),
        });
        let mut superseded = None;
        {
            let mut lists = self.lists();
            lists.live.insert(live.association.id, live.clone());
            let own = lists.of_credential.entry(credential).or_default();
            // Most credentials have one.
            own.reserve_exact(1);
            own.push(live.association.id);
            if own.len() > self.per_credential {
                // A device that lost its connection cannot close it, and connects again.
                let oldest = own.remove(0);
                superseded = lists.live.get(&oldest).cloned();
            }
        }
        let listed = AssociationGuard { all: self.clone(), live };
        // Loaded after adding it: later registrations find it in the list.
        let generation = policy.current();
        self.settle_ae_id(&listed.live.association, &generation, bindings).await;
        if let Some(oldest) = superseded {
            let most = self.per_credential;
            oldest.end_by(move |association| audit::superseded(association, most)).await;
        }
        listed.live.revalidate(&policy.current()).await;
        listed
    }

    /// Gives a new association the AE-ID that its credential got by registering, and audits the
    /// association. If policy names another AE-ID or gives it to another credential, the credential
    /// loses it.
    async fn settle_ae_id(
        &self,
        association: &SecurityAssociation,
        generation: &Generation,
        bindings: &AeIdStore,
    ) {
        let credential = &association.credential_id;
        let bound = match association.credential_entity() {
            Entity::NotYetKnown => bindings.of(credential),
            _ => None,
        };
        // It cannot stand for an entity yet. The trail names it by the assigned AE-ID.
        if let Some(stem) = bound.clone().filter(|stem| !generation.reserves(stem)) {
            let _ = association.learn(stem);
        }
        audit::established(association);
        match association.credential_entity() {
            Entity::NotYetKnown => match bound {
                Some(stem) if generation.reserves(&stem) => {
                    let why = "policy gives its AE-ID to another credential";
                    self.free(bindings, credential, generation, why).await;
                }
                Some(_) | None => {}
            },
            named @ (Entity::Ae(_) | Entity::Aes(_)) => {
                if bindings.of(credential).is_some() {
                    let why = "policy names the credential's AE-ID";
                    self.free(bindings, credential, generation, why).await;
                }
                // An AE-ID that a credential names has precedence over an assigned one.
                for stem in named.stems() {
                    if let Some(holder) = bindings.holder(stem).filter(|h| h != credential) {
                        let why = "the AE with its AE-ID has connected";
                        self.free(bindings, &holder, generation, why).await;
                    }
                }
            }
            Entity::Cse(_) | Entity::MafClient(_) => {}
        }
    }

    /// Releases the AE-ID that was assigned to a credential, and ends the associations that stand
    /// for it. Returns whether there was one.
    ///
    /// # Errors
    /// Fails if it cannot be written. The associations end anyway.
    pub async fn try_free(
        &self,
        bindings: &AeIdStore,
        credential: &CredentialId,
        generation: &Generation,
        why: &str,
    ) -> Result<bool, BindingError> {
        self.forget(credential, None, generation, why).await;
        let freed = bindings.free(credential).await?;
        if let Some(binding) = &freed {
            audit::binding_freed(credential, &binding.stem, why);
        }
        Ok(freed.is_some())
    }

    async fn free(
        &self,
        bindings: &AeIdStore,
        credential: &CredentialId,
        generation: &Generation,
        why: &str,
    ) {
        // Boxed, because it is rare.
        let freed = Box::pin(self.try_free(bindings, credential, generation, why));
        if let Err(error) = freed.await {
            crate::session::ae_id_store::log_failure(&error);
        }
    }

    /// Returns the active associations, in any order.
    pub fn all(&self) -> Vec<Arc<ActiveAssociation>> {
        self.lists().live.values().cloned().collect()
    }

    /// Returns the number of active associations.
    pub fn count(&self) -> usize {
        self.lists().live.len()
    }

    /// Ends an association. Returns whether it exists.
    pub async fn end(&self, id: u64) -> bool {
        let live = self.lists().live.get(&id).cloned();
        if let Some(live) = &live {
            live.end_by(audit::end_asked).await;
        }
        live.is_some()
    }

    /// Revalidates all active associations in a new generation, while that is in force. Logs how
    /// many associations end, and the reasons.
    pub async fn revalidate_all(&self, generation: Arc<Generation>, policy: &Policy) {
        self.ask_all(&generation, policy).await;
        audit::generation_revoked(&generation, &self.revocations.take(generation.number));
    }

    /// Returns the number of active associations that a generation would end, if it came into force.
    /// One that cannot be checked, because too many calls are active, counts as valid.
    pub async fn count_ended(&self, generation: &Arc<Generation>) -> usize {
        let mut asking = JoinSet::new();
        let mut ended = 0;
        for live in self.all() {
            if asking.len() >= MAX_CONCURRENT_REVALIDATIONS
                && let Some(asked) = asking.join_next().await
            {
                ended += usize::from(asked.unwrap_or(false));
            }
            let generation = generation.clone();
            asking.spawn(async move { live.would_end(&generation).await });
        }
        while let Some(asked) = asking.join_next().await {
            ended += usize::from(asked.unwrap_or(false));
        }
        ended
    }

    async fn ask_all(&self, generation: &Arc<Generation>, policy: &Policy) {
        let mut to_ask = self.all();
        while !to_ask.is_empty() {
            let mut asking = JoinSet::new();
            let mut not_asked = Vec::new();
            let mut keep = |asked: Result<Option<Arc<ActiveAssociation>>, JoinError>| {
                not_asked.extend(asked.ok().flatten());
            };
            for live in to_ask {
                if policy.current().number != generation.number {
                    return;
                }
                if asking.len() >= MAX_CONCURRENT_REVALIDATIONS
                    && let Some(asked) = asking.join_next().await
                {
                    keep(asked);
                }
                let generation = generation.clone();
                asking.spawn(async move {
                    let standing = live.revalidate(&generation).await;
                    (standing == Revalidation::Deferred).then_some(live)
                });
            }
            while let Some(asked) = asking.join_next().await {
                keep(asked);
            }
            if !not_asked.is_empty() {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            to_ask = not_asked;
        }
    }

    /// Returns whether an active association of another credential stands for the AE-ID because its
    /// credential names it. Assigned AE-IDs are in the store instead.
    pub fn stands_for_another(&self, stem: &AeIdStem, credential: &CredentialId) -> bool {
        let lists = self.lists();
        lists.live.values().any(|live| {
            let named = live.association.credential_entity();
            live.association.credential_id != *credential && named.stems().contains(stem)
        })
    }

    /// Assigns the AE-ID of a credential to all its active associations.
    pub fn learn(&self, credential: &CredentialId, stem: &AeIdStem) {
        for live in self.of(credential) {
            if live.association.learn(stem.clone()).is_ok() {
                audit::learnt(&live.association);
            }
        }
    }

    /// Ends the active associations of a credential with an assigned AE-ID that was released,
    /// except the one that still has to respond.
    pub async fn forget(
        &self,
        credential: &CredentialId,
        but: Option<u64>,
        generation: &Generation,
        why: &str,
    ) {
        for live in self.of(credential) {
            let has_learned = live.association.credential_entity() != live.association.entity();
            if has_learned && Some(live.association.id) != but {
                live.revoke(generation, why).await;
            }
        }
    }

    fn of(&self, credential: &CredentialId) -> Vec<Arc<ActiveAssociation>> {
        let lists = self.lists();
        let own = lists.of_credential.get(credential).into_iter().flatten();
        own.filter_map(|id| lists.live.get(id).cloned()).collect()
    }
}
