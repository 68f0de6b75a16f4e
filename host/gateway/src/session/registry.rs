//! The live associations: who they are, and how they are ended.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use saegis_cse::Authority;
use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::credential::Entity;
use saegis_onem2m::id::{AeIdStem, CredentialId};
use saegis_policy::{Generation, Policy};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::session::ae_id_store::{AeIdStore, BindingError};
use crate::session::revalidation::{CredentialRevalidation, RevalidationError};
use crate::telemetry::audit;

/// Associations that a new generation is asked about at a time.
const MAX_CONCURRENT_REVALIDATIONS: usize = 16;

/// When a question is put again for which there was no sandbox.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// A live association.
pub struct ActiveAssociation {
    /// The record.
    pub association: SecurityAssociation,
    /// Revalidates its credential.
    credential: Arc<CredentialRevalidation>,
    /// The number of the last generation that vouched for it.
    vouched: AtomicU64,
    /// By which its requests change something. Ended before the audit trail says that it has.
    authority: Arc<Authority>,
    /// Ends it.
    end: CancellationToken,
    /// Counts it, when policy ends it.
    revocations: Arc<Revocations>,
}

impl ActiveAssociation {
    /// Revalidates its credential.
    pub fn credential(&self) -> &Arc<CredentialRevalidation> {
        &self.credential
    }

    /// The authority that its requests are carried out by.
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// Resolves when the association is to end.
    pub async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// Whether the association holds in a generation. Where that has not been asked yet it is
    /// asked now, so no request is answered by a generation that does not vouch for its
    /// association. One that does not hold is ended.
    pub async fn revalidate(self: &Arc<Self>, generation: &Generation) -> Revalidation {
        if self.has_expired() {
            self.revoke(generation, "it has expired").await;
        } else if self.vouched.load(Ordering::Acquire) != generation.number {
            match self.credential.revalidate(generation).await {
                Err(RevalidationError::NotAsked) => return Revalidation::Deferred,
                Err(RevalidationError::Gone(why)) => self.revoke(generation, &why).await,
                Ok(()) if self.has_learnt_what_is_reserved(generation) => {
                    self.revoke(generation, "its AE-ID belongs to another credential now").await;
                }
                // An older generation may be asked late; the newest answer is the one that counts.
                Ok(()) => {
                    self.vouched.fetch_max(generation.number, Ordering::AcqRel);
                }
            }
        }
        if self.authority.has_ended() { Revalidation::Revoked } else { Revalidation::Valid }
    }

    /// Asks a generation once more whether it vouches for the association, for what the answer rests on
    /// has changed without it. One that it does not vouch for is ended, for that reason.
    pub async fn retry_revalidation(self: &Arc<Self>, generation: &Generation, why: &str) {
        loop {
            match self.credential.revalidate(generation).await {
                Ok(()) => return,
                Err(RevalidationError::Gone(_)) => return self.revoke(generation, why).await,
                // For want of a sandbox.
                Err(RevalidationError::NotAsked) => tokio::time::sleep(RETRY_INTERVAL).await,
            }
        }
    }

    /// Ends the association if the AE-ID that it has just learnt belongs to another credential in
    /// a generation that came into force while the registrar was asked.
    pub async fn end_if_reserved(self: &Arc<Self>, generation: &Generation) {
        if self.has_learnt_what_is_reserved(generation) {
            self.revoke(generation, "its AE-ID belongs to another credential now").await;
        }
    }

    /// Whether it stands for an AE-ID that its credential had got and has no more: the AE was
    /// deleted, or the AE-ID given to another credential.
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

    /// Ends the association, and has `record` say so in the audit trail. A commit that is under way
    /// for it comes before that, and none after it.
    async fn end_by(self: &Arc<Self>, record: impl FnOnce(&SecurityAssociation) + Send + 'static) {
        let end = |live: &Self| {
            record(&live.association);
            live.end.cancel();
        };
        match self.authority.try_end() {
            // At once, so that a request which finds it out is answered before the end.
            Some(true) => end(self),
            Some(false) => {}
            None => {
                let live = self.clone();
                // It waits for the disk; and it is done, whoever waits for it.
                let ended = tokio::task::spawn_blocking(move || {
                    if live.authority.end() {
                        end(&live);
                    }
                });
                let _ = ended.await;
            }
        }
    }

    /// The connection is gone. Waits for a commit that is under way for it; what changes which AE the
    /// credential is may go on, but not when the credential's time is up.
    pub async fn close(self: &Arc<Self>) {
        let live = self.clone();
        let closed = tokio::task::spawn_blocking(move || {
            if live.has_expired() {
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

/// How an association stands in a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revalidation {
    /// The generation vouches for its credential.
    Valid,
    /// It does not, and the association ends.
    Revoked,
    /// The generation could not be asked, for want of a sandbox; nothing is decided.
    Deferred,
}

/// Maximum number of reasons that are told apart.
const MAX_REASONS: usize = 8;

/// The associations that a generation has ended, by reason.
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

    /// Takes the counts of a generation since the last call.
    fn take(&self, generation: u64) -> BTreeMap<String, usize> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, reasons) = &mut *counted;
        if *of == generation { std::mem::take(reasons) } else { BTreeMap::new() }
    }
}

/// The live associations.
pub struct Associations {
    lists: Mutex<Lists>,
    revocations: Arc<Revocations>,
    /// Of one credential at a time.
    per_credential: usize,
}

#[derive(Default)]
struct Lists {
    live: HashMap<u64, Arc<ActiveAssociation>>,
    /// The associations of each credential, the oldest first.
    of_credential: HashMap<CredentialId, Vec<u64>>,
}

/// Keeps an association in the list; when dropped, it is gone from there.
pub struct AssociationGuard<'a> {
    all: &'a Associations,
    /// The association.
    pub live: Arc<ActiveAssociation>,
}

impl Drop for AssociationGuard<'_> {
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
    /// None yet. More than `per_credential` of one credential there will never be.
    pub fn new(per_credential: usize) -> Self {
        Self { lists: Mutex::default(), revocations: Arc::default(), per_credential }
    }

    /// Nothing panics while it holds the lock, and the lists are whole between any two calls.
    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists an association that was just established; where its credential has got an AE-ID, it
    /// stands for that. Should a generation have come into force since the look-up, it is asked,
    /// for it has asked the listed ones already.
    pub async fn list(
        &self,
        association: SecurityAssociation,
        evidence: CredentialRevalidation,
        policy: &Policy,
        bindings: &AeIdStore,
    ) -> AssociationGuard<'_> {
        let credential = association.credential_id.clone();
        let live = Arc::new(ActiveAssociation {
            vouched: AtomicU64::new(evidence.generation),
            association,
            credential: Arc::new(evidence),
            authority: Arc::default(),
            end: CancellationToken::new(),
            revocations: self.revocations.clone(),
        });
        let mut superseded = None;
        {
            let mut lists = self.lists();
            lists.live.insert(live.association.id, live.clone());
            let own = lists.of_credential.entry(credential).or_default();
            own.push(live.association.id);
            if own.len() > self.per_credential {
                // A device that lost its connection can't end it, and comes anew.
                let oldest = own.remove(0);
                superseded = lists.live.get(&oldest).cloned();
            }
        }
        let listed = AssociationGuard { all: self, live };
        // Only now: whoever registers from here on sees it in the list.
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
        // It can't stand for an entity already. The trail names it by what it has learnt.
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
                // What a credential names goes before what another has got.
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

    /// Frees the AE-ID that a credential has got, and ends the associations that stand for it.
    /// Whether there was one to free.
    ///
    /// # Errors
    /// When that can't be written; its associations end all the same.
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
        if let Err(error) = self.try_free(bindings, credential, generation, why).await {
            crate::session::ae_id_store::log_failure(&error);
        }
    }

    /// The live associations, in no order.
    pub fn all(&self) -> Vec<Arc<ActiveAssociation>> {
        self.lists().live.values().cloned().collect()
    }

    /// Ends an association; false where there is none of that number.
    pub async fn end(&self, id: u64) -> bool {
        let live = self.lists().live.get(&id).cloned();
        if let Some(live) = &live {
            live.end_by(audit::end_asked).await;
        }
        live.is_some()
    }

    /// Asks a new generation for each live association whether it vouches for its credential, as
    /// long as it is the one in force. Logs how many associations it ends, and why.
    pub async fn revalidate_all(&self, generation: Arc<Generation>, policy: &Policy) {
        self.ask_all(&generation, policy).await;
        audit::generation_revoked(&generation, &self.revocations.take(generation.number));
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

    /// Whether a live association of another credential stands for the AE-ID because its credential
    /// names it. What others have got by registering is bound.
    pub fn stands_for_another(&self, stem: &AeIdStem, credential: &CredentialId) -> bool {
        let lists = self.lists();
        lists.live.values().any(|live| {
            let named = live.association.credential_entity();
            live.association.credential_id != *credential && named.stems().contains(stem)
        })
    }

    /// All live associations of a credential stand for the AE-ID that it has got.
    pub fn learn(&self, credential: &CredentialId, stem: &AeIdStem) {
        for live in self.of(credential) {
            if live.association.learn(stem.clone()).is_ok() {
                audit::learnt(&live.association);
            }
        }
    }

    /// Ends the live associations of a credential that have learnt their AE-ID, for the credential
    /// has it no more; but for the one that is answered yet.
    pub async fn forget(
        &self,
        credential: &CredentialId,
        but: Option<u64>,
        generation: &Generation,
        why: &str,
    ) {
        for live in self.of(credential) {
            let has_learnt = live.association.credential_entity() != live.association.entity();
            if has_learnt && Some(live.association.id) != but {
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
