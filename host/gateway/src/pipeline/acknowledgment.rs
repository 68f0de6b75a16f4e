//! Requests that are acknowledged at once, and whose results are sent later (`rt=2`).

use std::sync::Arc;

use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_policy::Generation;
use tokio_util::sync::CancellationToken;

use crate::pipeline::Service;

impl Service {
    /// Acknowledges a request to the embedded registrar whose result can be sent, and has it carried
    /// out. Refuses all others.
    pub(super) async fn acknowledge(
        self: &Arc<Self>,
        generation: &Arc<Generation>,
        request: RequestPrimitive,
    ) -> ResponsePrimitive {
        if self.changes_who_is_who(&request).await {
            let why = "an AE registers and deregisters with a request that waits for the answer";
            return self.refuse(&request, Rsc::NotImplemented, why);
        }
        let accepted = self.gateway.upstream.accept(request, self.asker()).await;
        let (request, sender) = match accepted {
            Ok(accepted) => accepted,
            Err(refusal) => return *refusal,
        };
        let acknowledgement = ResponsePrimitive::to(&request, Rsc::AcceptedAsync);
        let (own, generation) = (self.clone(), generation.clone());
        // The association stays listed until it is done, so that to revoke it stops the work.
        self.acknowledged.spawn(async move {
            let mut reserved = None;
            let response = own.here(&generation, request, &mut reserved).await;
            let evicted = CancellationToken::new();
            let (response, room) = own.with_room(response, reserved, &evicted);
            let (id, rsc) = (own.live.association.id, response.rsc.code());
            let request_id = response.request_id.clone();
            let dropped = move |why: &str| {
                tracing::info!(
                    event = "request.result-dropped",
                    association = id,
                    request_id,
                    rsc,
                    "the result of a request is not sent: {why}"
                );
            };
            if own.live.authority().has_ended() {
                return dropped("the association has ended");
            }
            // The targets take their time, and the association need not wait for them.
            tokio::spawn(async move {
                let _room = room;
                tokio::select! {
                    () = sender.send(&response) => {}
                    () = evicted.cancelled() => dropped("other large answers needed its room"),
                }
            });
        });
        acknowledgement
    }

    /// Whether requests that were acknowledged are being carried out.
    pub fn has_acknowledged(&self) -> bool {
        !self.acknowledged.is_empty()
    }

    /// Waits until the requests that were acknowledged are carried out. No others come.
    pub async fn carried_out(&self) {
        self.acknowledged.close();
        self.acknowledged.wait().await;
    }
}
