//! Requests to an M2M Authentication Function (TS-0003 clause 8.8).

use std::sync::atomic::Ordering;

use saegis_maf::KeyOrigin;
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
        let allowed = match self.check_key_registration(maf, generation, &request).await {
            Ok(allowed) => allowed,
            Err(refusal) => return self.refuse_check(&request, refusal).await,
        };
        let registers_session_key = registers_session_key(allowed.as_ref());
        let response = maf.handle(self.session.clone(), request.clone(), allowed).await;
        if registers_session_key && response.rsc.is_success() {
            self.session.key_is_registered.store(true, Ordering::Release);
        }
        // Attempts to get the keys of others must be visible.
        if !response.rsc.is_success() {
            let association = &self.session.active.association;
            let why = response.reason_or_none();
            audit::request_refused(association, &request, response.rsc, &why);
        }
        response
    }

    /// Checks whether policy allows the key registration of a request, if it has one, and returns it.
    async fn check_key_registration(
        &self,
        maf: &MafBackend,
        generation: &Generation,
        request: &RequestPrimitive,
    ) -> Result<Option<saegis_maf::KeyRegistration>, Refusal> {
        let association = &self.session.active.association;
        let Entity::MafClient(client) = association.entity() else {
            let why = "the credential of this security association does not belong to a MAF client";
            return Err((Rsc::OriginatorNotAuthenticated, why.into()));
        };
        let asked = maf.asks(client, request).await;
        if let Some(asked) = &asked {
            let targets = asked.targets.clone();
            let registration = KeyRegistration { suid: asked.suid, targets };
            let check = Box::pin(generation.check_key_registration(association, &registration));
            allowed(self.charged(check).await)?;
        }
        // A session may outlast the registration of its key. Targets that fetched the key still
        // have it, so it must not be registered for others.
        if registers_session_key(asked.as_ref())
            && self.session.key_is_registered.load(Ordering::Acquire)
        {
            let why = "the key of this TLS session was registered already; use another session for another key";
            return Err((Rsc::Conflict, why.into()));
        }
        let current = self.gateway.policy.current();
        self.revalidate(&current, false).await?;
        Ok(asked)
    }
}

fn registers_session_key(registration: Option<&saegis_maf::KeyRegistration>) -> bool {
    registration.is_some_and(|registration| registration.origin == KeyOrigin::Session)
}
