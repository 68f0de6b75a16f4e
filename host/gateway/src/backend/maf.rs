//! An M2M Authentication Function as the backend.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use saegis_maf::{Caller, KeyRegistration, Maf, StoreError};
use saegis_onem2m::credential::Entity;
use saegis_onem2m::id::AbsoluteId;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;

use crate::session::Session;

/// Interval between removals of expired keys.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// The backend of a MAF.
pub struct MafBackend(Arc<Maf>);

impl MafBackend {
    /// Creates the backend of an opened MAF.
    pub fn new(maf: Arc<Maf>) -> Self {
        Self(maf)
    }

    /// Returns whether its store cannot be read or written.
    pub fn store_fails(&self) -> bool {
        self.0.store_fails()
    }

    /// Returns the key registration that a request contains, or that its update of the targets
    /// results in. `None` means that policy has nothing to decide; a failure also returns it, and the
    /// request is then refused.
    pub async fn asks(
        &self,
        client: &AbsoluteId,
        request: &RequestPrimitive,
    ) -> Option<KeyRegistration> {
        let (maf, client, request) = (self.0.clone(), client.clone(), request.clone());
        let work = move || maf.asks(&client, &request, SystemTime::now());
        tokio::task::spawn_blocking(work).await.ok().flatten()
    }

    /// Handles a request of a MAF client, with the key registration that policy allowed. Always
    /// returns a response.
    pub async fn handle(
        &self,
        session: Arc<Session>,
        request: RequestPrimitive,
        allowed: Option<KeyRegistration>,
    ) -> ResponsePrimitive {
        let (request_id, release) = (request.request_id.clone(), request.release.clone());
        let refuse =
            move |rsc, why| ResponsePrimitive::refusal(&request_id, release.as_deref(), rsc, why);
        let Entity::MafClient(id) = session.active.association.entity() else {
            return refuse(Rsc::OriginatorNotAuthenticated, "the originator is not a MAF client");
        };
        let (maf, id) = (self.0.clone(), id.clone());
        let work = move || {
            let credential_id = session.active.association.credential_id.clone();
            let caller = Caller { id, credential_id, exported: session.exported.as_deref() };
            maf.handle(&caller, &request, allowed.as_ref(), SystemTime::now())
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|_| {
            refuse(Rsc::InternalServerError, "the request could not be carried out")
        })
    }

    /// Removes expired keys periodically.
    pub async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            let maf = self.0.clone();
            let batches = move || {
                while maf.sweep(SystemTime::now())?.more {}
                Ok::<_, StoreError>(())
            };
            if let Ok(Err(e)) = tokio::task::spawn_blocking(batches).await {
                tracing::error!(event = "maf.store-failed", "cannot remove expired keys: {e}");
            }
        }
    }
}
