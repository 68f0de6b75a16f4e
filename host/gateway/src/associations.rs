//! The live associations: who they are, and how they are ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::credential::Entity;
use saegis_onem2m::id::AeIdStem;
use saegis_policy::Generation;
use tokio_util::sync::CancellationToken;

use crate::lookup::Voucher;

/// A live association.
pub struct Live {
    /// The record.
    pub association: SecurityAssociation,
    /// What vouches for its credential.
    voucher: Voucher,
    /// Ends it.
    end: CancellationToken,
}

impl Live {
    /// Resolves when the association is to end.
    pub async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// Asks a generation whether it vouches for the credential; if not, ends the association.
    async fn vouch(&self, generation: &Generation) {
        if let Err(why) = self.voucher.holds_in(generation).await {
            tracing::warn!(
                event = "association.revoked",
                association = self.association.id,
                credential_id = %self.association.credential_id,
                generation = generation.number,
                "the association ends, for policy no longer vouches for its credential: {why}"
            );
            self.end.cancel();
        }
    }
}

/// The live associations.
#[derive(Default)]
pub struct Associations(Mutex<HashMap<u64, Arc<Live>>>);

/// Keeps an association in the list; when dropped, it is gone from there.
pub struct Listed<'a> {
    all: &'a Associations,
    /// The association.
    pub live: Arc<Live>,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.all.map().remove(&self.live.association.id);
    }
}

impl Associations {
    /// Nothing panics while it holds the lock, and the map is whole between any two calls.
    fn map(&self) -> MutexGuard<'_, HashMap<u64, Arc<Live>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists an association. `in_force` is called afterwards: should a generation have come into
    /// force since the look-up, it is asked, for it has asked the listed ones already.
    pub async fn list(
        &self,
        association: SecurityAssociation,
        voucher: Voucher,
        in_force: impl FnOnce() -> Arc<Generation>,
    ) -> Listed<'_> {
        let looked_up_in = voucher.generation;
        let live = Arc::new(Live { association, voucher, end: CancellationToken::new() });
        self.map().insert(live.association.id, live.clone());
        let listed = Listed { all: self, live };
        let generation = in_force();
        if generation.number != looked_up_in {
            listed.live.vouch(&generation).await;
        }
        listed
    }

    /// Asks a new generation for each live association whether it vouches for its credential.
    pub async fn vouch_all(&self, generation: &Generation) {
        let all: Vec<_> = self.map().values().cloned().collect();
        for live in all {
            live.vouch(generation).await;
        }
    }

    /// Binds the AE-ID-Stem that the registrar confirmed to an association whose credential has
    /// none, unless another live association stands for it.
    pub fn learn(&self, live: &Live, stem: &AeIdStem) -> Result<(), &'static str> {
        // Under the lock, so that two associations can't learn one AE-ID.
        let all = self.map();
        let taken = all.values().any(|other| {
            other.association.id != live.association.id
                && matches!(other.association.entity(), Entity::Ae(own) if own == stem)
        });
        if taken {
            return Err("another live association stands for this AE-ID");
        }
        live.association.learn(stem.clone()).map_err(|_| "the association has an AE-ID already")
    }
}
