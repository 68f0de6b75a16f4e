//! The live associations: who they are, and how they are ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::credential::Entity;
use saegis_onem2m::id::{AeIdStem, CredentialId};
use saegis_policy::{Generation, Policy};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::audit;
use crate::lookup::{NotVouched, Voucher};

/// Associations that a new generation is asked about at a time.
const AT_A_TIME: usize = 16;

/// A live association.
pub struct Live {
    /// The record.
    pub association: SecurityAssociation,
    /// What vouches for its credential.
    voucher: Voucher,
    /// The number of the last generation that vouched for it.
    vouched: AtomicU64,
    /// Ends it.
    end: CancellationToken,
}

impl Live {
    /// Resolves when the association is to end.
    pub async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// Whether the association holds in a generation. Where that has not been asked yet it is
    /// asked now, so no request is answered by a generation that does not vouch for its
    /// association. One that does not hold is ended.
    pub async fn holds_in(&self, generation: &Generation) -> Standing {
        if self.association.expires.is_some_and(|at| at <= SystemTime::now()) {
            self.revoke(generation, "it has expired");
        } else if self.vouched.load(Ordering::Acquire) != generation.number {
            match self.voucher.holds_in(generation).await {
                Err(NotVouched::NotAsked) => return Standing::NotAsked,
                Err(NotVouched::Gone(why)) => self.revoke(generation, &why),
                Ok(()) if self.has_learnt_what_is_reserved(generation) => {
                    self.revoke(generation, "its AE-ID belongs to another credential now");
                }
                // An older generation may be asked late; the newest answer is the one that counts.
                Ok(()) => {
                    self.vouched.fetch_max(generation.number, Ordering::AcqRel);
                }
            }
        }
        if self.end.is_cancelled() { Standing::Ends } else { Standing::Holds }
    }

    /// Ends the association if the AE-ID that it has just learnt belongs to another credential in
    /// a generation that came into force while the registrar was asked.
    pub fn end_if_reserved(&self, generation: &Generation) {
        if self.has_learnt_what_is_reserved(generation) {
            self.revoke(generation, "its AE-ID belongs to another credential now");
        }
    }

    fn has_learnt_what_is_reserved(&self, generation: &Generation) -> bool {
        match (self.association.credential_entity(), self.association.entity()) {
            (Entity::NotYetKnown, Entity::Ae(stem)) => generation.reserves(stem),
            _ => false,
        }
    }

    fn revoke(&self, generation: &Generation, why: &str) {
        if !self.end.is_cancelled() {
            audit::revoked(&self.association, generation, why);
        }
        self.end.cancel();
    }
}

/// How an association stands in a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The generation vouches for its credential.
    Holds,
    /// It does not, and the association ends.
    Ends,
    /// The generation could not be asked, for want of a sandbox; nothing is decided.
    NotAsked,
}

/// The live associations.
pub struct Associations {
    lists: Mutex<Lists>,
    /// Of one credential at a time.
    per_credential: usize,
}

#[derive(Default)]
struct Lists {
    live: HashMap<u64, Arc<Live>>,
    /// The associations of each credential, the oldest first.
    of_credential: HashMap<CredentialId, Vec<u64>>,
    /// Which association has learnt an AE-ID, or is about to: its registration is under way.
    learnt: HashMap<AeIdStem, u64>,
}

/// Keeps an association in the list; when dropped, it is gone from there.
pub struct Listed<'a> {
    all: &'a Associations,
    /// The association.
    pub live: Arc<Live>,
}

impl Drop for Listed<'_> {
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
        if let (Entity::NotYetKnown, Entity::Ae(stem)) =
            (self.live.association.credential_entity(), self.live.association.entity())
            && lists.learnt.get(stem) == Some(&id)
        {
            lists.learnt.remove(stem);
        }
    }
}

/// An AE-ID that an association is about to learn. When dropped without that, it is free again.
pub struct Claim<'a> {
    all: &'a Associations,
    live: Arc<Live>,
    stem: AeIdStem,
}

impl Claim<'_> {
    /// Whether it is for that AE-ID.
    pub fn is_for(&self, stem: &AeIdStem) -> bool {
        self.stem == *stem
    }

    /// The registrar has confirmed the AE-ID.
    pub fn confirm(self) -> Result<(), &'static str> {
        let learn = self.live.association.learn(self.stem.clone());
        learn.map_err(|_| "the association stands for another AE-ID already")
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let own = matches!(self.live.association.entity(), Entity::Ae(own) if *own == self.stem);
        if !own {
            self.all.lists().learnt.remove(&self.stem);
        }
    }
}

impl Associations {
    /// None yet. More than `per_credential` of one credential there will never be.
    pub fn new(per_credential: usize) -> Self {
        Self { lists: Mutex::default(), per_credential }
    }

    /// Nothing panics while it holds the lock, and the lists are whole between any two calls.
    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists an association that was just established. Should a generation have come into force
    /// since the look-up, it is asked, for it has asked the listed ones already.
    pub async fn list(
        &self,
        association: SecurityAssociation,
        voucher: Voucher,
        policy: &Policy,
    ) -> Listed<'_> {
        let live = Arc::new(Live {
            vouched: AtomicU64::new(voucher.generation),
            association,
            voucher,
            end: CancellationToken::new(),
        });
        let mut superseded = None;
        let impostor = {
            let mut lists = self.lists();
            lists.live.insert(live.association.id, live.clone());
            let own = lists.of_credential.entry(live.association.credential_id.clone());
            let own = own.or_default();
            own.push(live.association.id);
            if own.len() > self.per_credential {
                // A device that lost its connection can't end it, and comes anew.
                let oldest = own.remove(0);
                superseded = lists.live.get(&oldest).cloned();
            }
            match live.association.entity() {
                Entity::Ae(stem) => {
                    let id = lists.learnt.get(stem).copied();
                    id.and_then(|id| lists.live.get(&id).cloned())
                }
                Entity::NotYetKnown | Entity::Cse(_) => None,
            }
        };
        let listed = Listed { all: self, live };
        if let Some(oldest) = superseded {
            audit::superseded(&oldest.association, self.per_credential);
            oldest.end.cancel();
        }
        let generation = policy.current();
        if let Some(impostor) = impostor {
            // What a credential names goes before what another has learnt.
            impostor.revoke(&generation, "the AE with its AE-ID has connected");
        }
        listed.live.holds_in(&generation).await;
        listed
    }

    /// The live associations, in no order.
    pub fn all(&self) -> Vec<Arc<Live>> {
        self.lists().live.values().cloned().collect()
    }

    /// Ends an association; false where there is none of that number.
    pub fn end(&self, id: u64) -> bool {
        let live = self.lists().live.get(&id).cloned();
        if let Some(live) = &live {
            audit::end_asked(&live.association);
            live.end.cancel();
        }
        live.is_some()
    }

    /// Asks a new generation for each live association whether it vouches for its credential, as
    /// long as it is the one in force.
    pub async fn vouch_all(&self, generation: Arc<Generation>, policy: &Policy) {
        let mut to_ask = self.all();
        while !to_ask.is_empty() {
            let mut asking = JoinSet::new();
            let mut not_asked = Vec::new();
            let mut keep = |asked: Result<Option<Arc<Live>>, JoinError>| {
                not_asked.extend(asked.ok().flatten());
            };
            for live in to_ask {
                if policy.current().number != generation.number {
                    return;
                }
                if asking.len() >= AT_A_TIME
                    && let Some(asked) = asking.join_next().await
                {
                    keep(asked);
                }
                let generation = generation.clone();
                asking.spawn(async move {
                    let standing = live.holds_in(&generation).await;
                    (standing == Standing::NotAsked).then_some(live)
                });
            }
            while let Some(asked) = asking.join_next().await {
                keep(asked);
            }
            to_ask = not_asked;
        }
    }

    /// Sets an AE-ID aside for an association whose credential names none, unless it is somebody
    /// else's: of a row of a policy table, or of a live association.
    pub fn claim(
        &self,
        live: &Arc<Live>,
        stem: &AeIdStem,
        generation: &Generation,
    ) -> Result<Claim<'_>, &'static str> {
        if generation.reserves(stem) {
            return Err("the AE-ID belongs to another credential");
        }
        let mut lists = self.lists();
        let names =
            |l: &Arc<Live>| matches!(l.association.entity(), Entity::Ae(own) if own == stem);
        if lists.learnt.contains_key(stem) || lists.live.values().any(names) {
            return Err("another association stands for the AE-ID");
        }
        lists.learnt.insert(stem.clone(), live.association.id);
        Ok(Claim { all: self, live: live.clone(), stem: stem.clone() })
    }
}
