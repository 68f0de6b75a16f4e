//! Requests that are acknowledged at once and whose results are fetched (`rt=1`) or sent later
//! (`rt=2`).

use std::sync::Arc;
use std::time::SystemTime;

use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_policy::Generation;
use tracing::Instrument as _;

use super::{Handler, HeldResponse};
use crate::backend::embedded::AcceptedRequest;
use crate::session::registry::Ending;

impl Handler {
    /// Acknowledges a request to the embedded CSE if its result can be sent, and carries it out.
    /// Refuses all other requests.
    pub(super) async fn acknowledge(
        &self,
        generation: &Arc<Generation>,
        request: RequestPrimitive,
    ) -> ResponsePrimitive {
        if self.changes_ae_identity(&request).await {
            let why = "an AE must register and deregister with a blocking request";
            return self.refuse(&request, (Rsc::NotImplemented, why.into()));
        }
        let Some(embedded) = self.gateway.backend.embedded() else {
            let why = "deferred responses are not supported";
            return self.refuse(&request, (Rsc::NotImplemented, why.into()));
        };
        let accepted = match embedded.accept(request, self.asker()).await {
            Ok(accepted) => accepted,
            Err(refusal) => return *refusal,
        };
        let AcceptedRequest { mut request, acknowledgment, execute_at, sender } = accepted;
        let (own, mut generation) = (self.clone(), generation.clone());
        // The association stays listed until the work ends, so that a revocation stops the work.
        let work = async move {
            let mut reserved = None;
            let mut refused = None;
            if let Some(at) = execute_at {
                let wait = at.duration_since(SystemTime::now()).unwrap_or_default();
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    // The request has failed, and others get its place.
                    _ = own.session.active.ended() => return,
                }
                if sender.is_recalled().await {
                    return;
                }
                // Policy may have changed.
                generation = own.gateway.policy.current();
                refused = own.check(&generation, &request).await.err();
                own.assign_roles(&generation, &mut request);
                if refused.is_none() {
                    refused = own.verify_tokens(&generation, &mut request).err();
                }
            }
            let response = match refused {
                Some(refusal) => own.refuse_check(&request, refusal).await,
                None => own.handle_local(&generation, request, &mut reserved).await,
            };
            let evicted = Ending::default();
            let HeldResponse { response, memory } = own.hold(response, reserved, &evicted).await;
            let (id, rsc) = (own.session.active.association.id, response.rsc.code());
            let request_id = response.request_id.clone();
            let dropped = move |why: &str| {
                tracing::info!(
                    event = "request.result-dropped",
                    association = id,
                    request_id,
                    rsc,
                    "dropped the result of a request: {why}"
                );
            };
            if own.authority.has_ended() {
                return dropped("the association has ended");
            }
            // Sending to the targets may take long, and the association does not have to wait for
            // it.
            tokio::spawn(async move {
                let _memory = memory;
                tokio::select! {
                    () = sender.send(&response) => {}
                    _ = evicted.wait() => dropped("other large responses needed its memory"),
                }
            });
        };
        self.session.acknowledged().spawn(work.in_current_span());
        acknowledgment
    }
}
