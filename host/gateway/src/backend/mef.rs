//! An M2M Enrolment Function as the backend: Enrollment over Secure Transport (RFC 7030).

use std::sync::Arc;
use std::time::SystemTime;

use saegis_certificate::pem;
use saegis_est::{
    Authority, Client, EnrollmentService, Operation, Provider, Refusal, Response, Settings,
};
use saegis_onem2m::credential::Entity;
use saegis_policy::{Fault, Faults};

use crate::config::mef::MefSettings;
use crate::session::Session;

/// Maximum size of a file of the authority, in bytes.
const MAX_FILE: u64 = 256 << 10;

/// The backend of a MEF.
pub struct MefBackend(Arc<EnrollmentService>);

impl MefBackend {
    /// Opens the certification authority of a MEF.
    ///
    /// # Errors
    /// Returns the faults of its files.
    pub fn open(mef: &MefSettings) -> Result<Self, Faults> {
        let fault = |path: &std::path::Path, what: String| Faults(vec![Fault::of(path, what)]);
        let est = &mef.est;
        let chain = saegis_policy::read_file(&est.ca_certificate, MAX_FILE);
        let chain = chain.map_err(|fault| Faults(vec![fault]))?;
        let chain = pem::certificates(&chain);
        let chain = chain.map_err(|e| fault(&est.ca_certificate, e.to_string()))?;
        let key = saegis_policy::read_private_key(&est.ca_key, MAX_FILE);
        let key = key.map_err(|fault| Faults(vec![fault]))?;
        let key = pem::private_key(&key).map_err(|e| fault(&est.ca_key, e.to_string()))?;
        let provider = Provider {
            domain: mef.service_provider.clone(),
            in_cse: mef.in_cse.clone(),
            own: MefSettings::base(),
        };
        let authority = Authority::new(chain, key, &provider, est.lifetime(), SystemTime::now());
        let authority = authority.map_err(|e| fault(&est.ca_certificate, e.to_string()))?;
        let settings = Settings {
            allowed: est.allowed_names.clone(),
            in_cse: mef.in_cse.as_ref().map(|cse| cse.bare().into()),
            requests_per_hour: est.requests_per_hour,
        };
        Ok(Self(Arc::new(EnrollmentService::new(authority, settings))))
    }

    /// Handles a request of EST.
    ///
    /// # Errors
    /// Refuses a request that is invalid, or that the client may not make.
    pub async fn handle(
        &self,
        session: &Arc<Session>,
        operation: Operation,
        content: bytes::Bytes,
    ) -> Result<Response, Refusal> {
        let (service, session) = (self.0.clone(), session.clone());
        let work = move || {
            let association = &session.active.association;
            let Entity::MafClient(id) = association.entity() else {
                let why = "the credential does not belong to a client of the MEF";
                return Err(Refusal::new(http::StatusCode::FORBIDDEN, why));
            };
            let client = Client { id, credential: &association.credential_id };
            service.handle(&client, operation, &content, SystemTime::now())
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|_| {
            let why = "the request could not be carried out";
            Err(Refusal::new(http::StatusCode::INTERNAL_SERVER_ERROR, why))
        })
    }
}
