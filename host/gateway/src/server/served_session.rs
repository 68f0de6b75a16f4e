//! The session of an association, from its handshake to its end, over connections and datagrams.

use std::sync::Arc;

use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::exported::Exported;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::session::Session;
use crate::session::registry::AssociationGuard;
use crate::session::revalidation::CredentialRevalidation;
use crate::state::Gateway;
use crate::telemetry::audit;

/// A session whose association is in the list of active ones until this value is dropped.
pub struct ServedSession {
    gateway: Arc<Gateway>,
    listed: AssociationGuard,
    /// The session.
    pub session: Arc<Session>,
}

impl ServedSession {
    /// Adds an association to the list, and creates its session. Its handshake began at `start`.
    pub async fn begin(
        gateway: &Arc<Gateway>,
        (association, exported): (SecurityAssociation, Option<Exported>),
        evidence: CredentialRevalidation,
        permit: OwnedSemaphorePermit,
        start: Instant,
    ) -> Self {
        tracing::Span::current().record("association", association.id);
        gateway.metrics.established(association.saef, start.elapsed());
        let (associations, policy) = (&gateway.associations, &gateway.policy);
        let listed = associations.list(association, evidence, policy, &gateway.ae_ids).await;
        gateway.aes.note(&listed.live);
        let memory = gateway.response_memory.share_of(&listed.live.association.credential_id);
        let session = Session::new(listed.live.clone(), exported, memory, permit);
        Self { gateway: gateway.clone(), listed, session: Arc::new(session) }
    }

    /// Waits for the requests that were acknowledged, and closes the association.
    pub async fn close(&self) {
        if self.session.has_acknowledged() {
            self.session.acknowledged_are_done().await;
        }
        self.listed.live.close().await;
        self.gateway.metrics.ended(self.listed.live.association.saef);
    }

    /// Logs the end of the association.
    pub fn log_end(&self, why: &str) {
        audit::ended(&self.listed.live.association, why);
    }
}
