//! Requests that are acknowledged at once and whose results are sent later (`rt=2`).

use std::sync::Arc;

use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_policy::Generation;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{Handler, HeldResponse};

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
        let (request, sender) = match embedded.accept(request, self.asker()).await {
            Ok(accepted) => accepted,
            Err(refusal) => return *refusal,
        };
        let acknowledgement = ResponsePrimitive::to(&request, Rsc::AcceptedAsync);
        let (own, generation) = (self.clone(), generation.clone());
        // The association stays listed until the work ends, so that a revocation stops the work.
        let work = async move {
            let mut reserved = None;
            let response = own.handle_local(&generation, request, &mut reserved).await;
            let evicted = CancellationToken::new();
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
                    () = evicted.cancelled() => dropped("other large responses needed its memory"),
                }
            });
        };
        self.session.acknowledged.spawn(work.in_current_span());
        acknowledgement
    }
}
