//! Requests of Enrollment over Secure Transport (RFC 7030) at a MEF.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use saegis_est::{Operation, Refusal, Response};
use saegis_onem2m::rsc::Rsc;

use super::{Handler, Pipeline};
use crate::session::Session;
use crate::telemetry::audit::enrollment as audit;

impl Pipeline {
    /// Returns whether this is a MEF, which serves EST.
    pub fn serves_enrollment(&self) -> bool {
        self.gateway.backend.mef().is_some()
    }

    /// Handles a request of EST with its content. Refusals are in the audit trail.
    ///
    /// # Errors
    /// Returns the refusal.
    pub async fn enroll(
        &self,
        session: &Arc<Session>,
        request: Result<(Operation, Bytes), Refusal>,
    ) -> Result<Response, Refusal> {
        let handler = Handler {
            gateway: self.gateway.clone(),
            session: session.clone(),
            authority: session.active.authority(),
            // The requests of the page are those of oneM2M.
            path: None,
        };
        let operation = request.as_ref().ok().map(|(operation, _)| operation.name());
        let done = match request {
            Ok((operation, content)) => handler.enroll(operation, content).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = &done {
            let association = &session.active.association;
            audit::enrollment_refused(association, operation, refusal.status, &refusal.why);
            let delay = self.gateway.usage.charge_refusal(&association.credential_id);
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
        }
        done
    }
}

impl Handler {
    async fn enroll(&self, operation: Operation, content: Bytes) -> Result<Response, Refusal> {
        let Some(mef) = self.gateway.backend.mef() else {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "this is not a MEF"));
        };
        let association = &self.session.active.association;
        self.gateway.usage.charge(&association.credential_id, Duration::ZERO);
        self.check_credential().await?;
        let response = mef.handle(&self.session, operation, content).await?;
        if let Some((name, issued)) = &response.issued {
            // The credential may have been revoked meanwhile. The certificate is then discarded.
            self.check_credential().await?;
            audit::certificate_issued(association, operation.name(), name.as_str(), issued);
        }
        Ok(response)
    }

    /// Checks that the credential is valid in the generation in force.
    async fn check_credential(&self) -> Result<(), Refusal> {
        let generation = self.gateway.policy.current();
        self.revalidate(&generation, false).await.map_err(|(rsc, why)| {
            let status = match rsc {
                Rsc::OriginatorNotAuthenticated => StatusCode::FORBIDDEN,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            Refusal::new(status, why)
        })
    }
}
