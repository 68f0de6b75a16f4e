//! Requests to an M2M Authentication Function (TS-0003 clause 8.8).

use std::sync::atomic::Ordering;

use saegis_maf::Maf;
use saegis_onem2m::credential::Entity;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_policy::{Generation, KeyRegistration};

use super::{Handler, Refusal, allowed};
use crate::backend::maf::MafBackend;
use crate::telemetry::audit;

impl Handler {
    /// Passes a request to the MAF, if policy allows the key registration that it may contain.
    pub(super) async fn distribute_key(
        &self,
        maf: &MafBackend,
        generation: &Generation,
        request: RequestPrimitive,
    ) -> ResponsePrimitive {
        match self.check_key_registration(generation, &request).await {
            Ok(()) => {}
            Err(refusal) => return self.refuse(&request, refusal),
        }
        let registers_session_key = Maf::asks(&request).is_some_and(|asked| !asked.gives_key);
        let (request_id, from) = (request.request_id.clone(), request.from.clone());
        let response = maf.handle(self.session.clone(), request).await;
        if registers_session_key && response.rsc.is_success() {
            self.session.key_is_registered.store(true, Ordering::Release);
        }
        // Attempts to get the keys of others must be visible.
        if !response.rsc.is_success() {
            let association = &self.session.active.association;
            let why = response.reason_or_none();
            audit::request_refused(association, &request_id, from.as_deref(), response.rsc, &why);
        }
        response
    }

    async fn check_key_registration(
        &self,
        generation: &Generation,
        request: &RequestPrimitive,
    ) -> Result<(), Refusal> {
        let association = &self.session.active.association;
        let Entity::MafClient(_) = association.entity() else {
            let why = "the credential of this security association does not belong to a MAF client";
            return Err((Rsc::OriginatorNotAuthenticated, why.into()));
        };
        let asked = Maf::asks(request);
        let registers_session_key = asked.as_ref().is_some_and(|asked| !asked.gives_key);
        if let Some(asked) = asked {
            let registration = KeyRegistration { suid: asked.suid, targets: asked.targets };
            allowed(generation.check_key_registration(association, &registration).await)?;
        }
        // A session may outlast the registration of its key. Targets that fetched the key still
        // have it, so it must not be registered for others.
        if registers_session_key && self.session.key_is_registered.load(Ordering::Acquire) {
            let why = "the key of this TLS session was registered already; use another session for another key";
            return Err((Rsc::Conflict, why.into()));
        }
        let current = self.gateway.policy.current();
        self.revalidate(&current, false).await
    }
}
