//! Requests to an M2M Authentication Function.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use saegis_maf::{Caller, Maf};
use saegis_onem2m::credential::Entity;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_policy::{Generation, KeyRegistration};

use crate::pipeline::Service;
use crate::pipeline::allowed;
use crate::telemetry::audit;

impl Service {
    /// Has the MAF carry a request out, if policy lets the key be registered that it may be about.
    pub(super) async fn at_maf(
        self: &Arc<Self>,
        maf: &Arc<Maf>,
        generation: &Generation,
        request: RequestPrimitive,
    ) -> ResponsePrimitive {
        let association = &self.live.association;
        let Entity::MafClient(id) = association.entity() else {
            let why = "the credential of this security association is not that of a MAF client";
            return self.refuse(&request, Rsc::OriginatorNotAuthenticated, why);
        };
        let asked = Maf::asks(&request);
        let of_session = asked.as_ref().is_some_and(|asked| !asked.gives_key);
        if let Some(asked) = asked {
            let registration = KeyRegistration { suid: asked.suid, targets: asked.targets };
            let verdict = generation.check_key_registration(association, &registration).await;
            if let Err((rsc, why)) = allowed(verdict) {
                return self.refuse(&request, rsc, &why);
            }
        }
        // A session may last longer than its key was registered for. Whoever fetched the key has it
        // still, and it is not to become that of others too.
        if of_session && self.registered.load(Ordering::Acquire) {
            let why =
                "the key of this TLS session was registered already: another needs another session";
            return self.refuse(&request, Rsc::Conflict, why);
        }
        let current = self.gateway.policy.current();
        if let Err((rsc, why)) = self.stands(&current, false).await {
            return self.refuse(&request, rsc, &why);
        }
        let (own, maf, id) = (self.clone(), maf.clone(), id.clone());
        let (request_id, release) = (request.request_id.clone(), request.release.clone());
        let from = request.from.clone();
        let work = move || {
            let credential_id = own.live.association.credential_id.clone();
            let caller = Caller { id, credential_id, exported: own.exported.as_ref() };
            maf.handle(&caller, &request, SystemTime::now())
        };
        let answer = tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
            let why = "the request could not be carried out";
            ResponsePrimitive::refusal(
                &request_id,
                release.as_deref(),
                Rsc::InternalServerError,
                why,
            )
        });
        if of_session && answer.rsc.is_success() {
            self.registered.store(true, Ordering::Release);
        }
        // Who asks for the keys of others is to be seen.
        if !answer.rsc.is_success() {
            let why = crate::peer_cse::reason(&answer);
            audit::request_refused(association, &request_id, from.as_deref(), answer.rsc, &why);
        }
        answer
    }
}
