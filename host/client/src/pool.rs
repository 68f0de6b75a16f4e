//! Requests to a CSE or MAF over a pool of security associations in which this process is the
//! client.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use saegis_onem2m::coap::write_request as write_coap_request;
use saegis_onem2m::http::write_request;
use saegis_onem2m::id::CseId;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::serialization::Serialization;

use crate::certificates::{CertificateSource, PeerCertificates};
use crate::coap::CoapEndpoint;
use crate::connector::{Authentication, Connector};
use crate::endpoint::{Endpoint, NoAnswer, PeerBinding};
use crate::error::error_chain;
use crate::response;

/// Maximum number of idle connections in the pool.
const MAX_IDLE: usize = 64;

/// Timeout after which an idle connection is closed. It is shorter than the default of the gateway,
/// so that the other end rarely closes first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(240);

/// Maximum number of concurrent requests over an association of CoAP.
const MAX_CONCURRENT: usize = 8;

type Pool = Client<Connector, Full<bytes::Bytes>>;

/// A client of one endpoint, which establishes associations on demand.
pub struct PeerClient {
    endpoint: Arc<Endpoint>,
    certificates: CertificateSource,
    current: Mutex<Option<(Option<PeerCertificates>, Transport)>>,
}

/// The associations with an endpoint.
#[derive(Clone)]
enum Transport {
    Http(Pool),
    Coap(Arc<CoapEndpoint>, Connector),
}

impl PeerClient {
    /// Creates a client without associations. An endpoint without a pre-shared key uses the result
    /// of `certificates`.
    #[must_use]
    pub fn new(endpoint: Endpoint, certificates: CertificateSource) -> Self {
        Self { endpoint: Arc::new(endpoint), certificates, current: Mutex::default() }
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
        let response = match self.transport() {
            Transport::Http(pool) => {
                let exchange = self.over_http(&pool, request, at);
                let response = tokio::time::timeout(timeout, exchange).await;
                response.map_err(|_| NoAnswer::Late)??
            }
            Transport::Coap(endpoint, connector) => {
                let out = write_coap_request(request, at, Serialization::Json);
                let out = out.map_err(|e| NoAnswer::Failed(e.to_string()))?;
                let max_content = self.endpoint.content_bytes;
                let connect = |limit| connector.connect_datagrams(limit);
                endpoint.ask(out, max_content, timeout, connect).await?
            }
        };
        if response.request_id != request.request_id {
            return Err(NoAnswer::Failed("the response belongs to another request".into()));
        }
        Ok(response)
    }

    async fn over_http(
        &self,
        pool: &Pool,
        request: &RequestPrimitive,
        at: &CseId,
    ) -> Result<ResponsePrimitive, NoAnswer> {
        let out = write_request(request, at).map_err(|e| NoAnswer::Failed(e.to_string()))?;
        let (mut parts, body) = out.into_parts();
        let uri = http::Uri::builder()
            .scheme("http")
            .authority(self.endpoint.address.as_str())
            .path_and_query(parts.uri.path_and_query().map_or("/", |p| p.as_str()));
        parts.uri = uri.build().map_err(|e| NoAnswer::Failed(e.to_string()))?;
        let http = http::Request::from_parts(parts, Full::new(body));
        let response = pool.request(http).await.map_err(|e| match e.is_connect() {
            true => NoAnswer::Unreachable(error_chain(&e)),
            false => NoAnswer::Failed(error_chain(&e)),
        })?;
        response::read(response, self.endpoint.content_bytes).await.map_err(NoAnswer::Failed)
    }

    /// Returns the associations. A change of the certificates in force starts new ones. The old ones
    /// end with their requests.
    fn transport(&self) -> Transport {
        let certificates = match &self.endpoint.credential {
            Some(_) => None,
            None => (self.certificates)(),
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, transport)) = &*current {
            let is_same = match (of, &certificates) {
                (Some(of), Some(certificates)) => of.is_same(certificates),
                (None, None) => true,
                _ => false,
            };
            if is_same {
                return transport.clone();
            }
        }
        let authentication = match (&self.endpoint.credential, &certificates) {
            (Some(credential), _) => Authentication::Key(credential.clone()),
            (None, Some(certificates)) => Authentication::Certificates(certificates.clone()),
            (None, None) => Authentication::None,
        };
        let connector = Connector::new(self.endpoint.clone(), authentication);
        let transport = match self.endpoint.binding {
            PeerBinding::Http => Transport::Http(
                Client::builder(TokioExecutor::new())
                    .pool_max_idle_per_host(MAX_IDLE)
                    .pool_idle_timeout(IDLE_TIMEOUT)
                    .pool_timer(TokioTimer::new())
                    .build(connector),
            ),
            PeerBinding::Coap => {
                Transport::Coap(Arc::new(CoapEndpoint::new(MAX_CONCURRENT)), connector)
            }
        };
        *current = Some((certificates, transport.clone()));
        transport
    }
}
