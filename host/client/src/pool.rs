//! Requests to a CSE or MAF over a pool of security associations in which this process is the
//! client.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use saegis_onem2m::http::write_request;
use saegis_onem2m::id::CseId;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};

use crate::certificates::{CertificateSource, PeerCertificates};
use crate::connector::{Authentication, Connector};
use crate::endpoint::{Endpoint, NoAnswer};
use crate::error::error_chain;
use crate::response;

/// Maximum number of idle connections in the pool.
const MAX_IDLE: usize = 64;

/// Timeout after which an idle connection is closed. It is shorter than the default of the gateway,
/// so that the other end rarely closes first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(240);

type Pool = Client<Connector, Full<bytes::Bytes>>;

/// A client of one endpoint, which establishes associations on demand.
pub struct PeerClient {
    endpoint: Arc<Endpoint>,
    certificates: CertificateSource,
    pool: Mutex<Option<(Option<PeerCertificates>, Pool)>>,
}

impl PeerClient {
    /// Creates a client without associations. An endpoint without a pre-shared key uses the result
    /// of `certificates`.
    #[must_use]
    pub fn new(endpoint: Endpoint, certificates: CertificateSource) -> Self {
        Self { endpoint: Arc::new(endpoint), certificates, pool: Mutex::default() }
    }

    /// Sends a request whose target is at the CSE `at`, and waits for the response.
    ///
    /// # Errors
    /// Returns the reason why there is no response.
    pub async fn ask(
        &self,
        request: &RequestPrimitive,
        at: &CseId,
        timeout: Duration,
    ) -> Result<ResponsePrimitive, NoAnswer> {
        match tokio::time::timeout(timeout, self.exchange(request, at)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(why)) => Err(NoAnswer::Failed(why)),
            Err(_) => Err(NoAnswer::Late),
        }
    }

    async fn exchange(
        &self,
        request: &RequestPrimitive,
        at: &CseId,
    ) -> Result<ResponsePrimitive, String> {
        let out = write_request(request, at).map_err(|e| e.to_string())?;
        let (mut parts, body) = out.into_parts();
        let uri = http::Uri::builder()
            .scheme("http")
            .authority(self.endpoint.address.as_str())
            .path_and_query(parts.uri.path_and_query().map_or("/", |p| p.as_str()));
        parts.uri = uri.build().map_err(|e| e.to_string())?;
        let http = http::Request::from_parts(parts, Full::new(body));
        let response = self.pool().request(http).await.map_err(|e| error_chain(&e))?;
        let response = response::read(response, self.endpoint.content_bytes).await?;
        if response.request_id != request.request_id {
            return Err("the response belongs to another request".into());
        }
        Ok(response)
    }

    /// Returns the pool. A change of the certificates in force starts a new pool. The connections
    /// of the old one end with their requests.
    fn pool(&self) -> Pool {
        let certificates = match &self.endpoint.credential {
            Some(_) => None,
            None => (self.certificates)(),
        };
        let mut current = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, pool)) = &*current {
            let is_same = match (of, &certificates) {
                (Some(of), Some(certificates)) => of.is_same(certificates),
                (None, None) => true,
                _ => false,
            };
            if is_same {
                return pool.clone();
            }
        }
        let authentication = match (&self.endpoint.credential, &certificates) {
            (Some(credential), _) => Authentication::Key(credential.clone()),
            (None, Some(certificates)) => Authentication::Certificates(certificates.clone()),
            (None, None) => Authentication::None,
        };
        let pool = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(MAX_IDLE)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .build(Connector::new(self.endpoint.clone(), authentication));
        *current = Some((certificates, pool.clone()));
        pool
    }
}
