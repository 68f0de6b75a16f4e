//! Associations of our own, in which this gateway is the client: with other CSEs, and with MAFs. The HTTP
//! client keeps them in a pool.

mod connector;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use saegis_certificate::Flavour;
use saegis_onem2m::http::{read_response, write_request};
use saegis_onem2m::id::CseId;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_policy::{Certificates, Policy};

use crate::ae::Credential;
use crate::upstream::error_chain;
use connector::{Connector, Means};
pub use connector::{Stream, within};

/// Connections to one place that are kept when idle.
const KEPT: usize = 64;

/// How long a connection is kept when idle: shorter than our own server's default, so that it is
/// seldom the other end that ends it.
const IDLE: Duration = Duration::from_secs(240);

type Pool = Client<Connector, Full<bytes::Bytes>>;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// There is no association, or it broke.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("there was no answer in time")]
    Late,
}

/// Where somebody is, and how both prove who they are.
pub struct Place {
    /// Who it is, in words.
    pub who: String,
    /// `host:port`.
    pub address: String,
    /// The domain name that its certificate must prove; indicated in the handshake.
    pub name: Option<String>,
    /// Of which flavour that certificate is.
    pub flavour: Flavour,
    /// A key that both have; without one, both show certificates.
    pub credential: Option<Arc<Credential>>,
    /// How long an association may take.
    pub patience: Duration,
    /// Largest content of an answer, in bytes.
    pub content_bytes: usize,
}

/// Asks somebody, over associations that it makes when there are none.
pub struct Dial {
    place: Arc<Place>,
    policy: Arc<Policy>,
    pool: Mutex<Option<(Option<Arc<Certificates>>, Pool)>>,
}

impl Dial {
    /// Has asked nobody yet. The certificates are those of the policy.
    pub fn new(place: Place, policy: Arc<Policy>) -> Self {
        Self { place: Arc::new(place), policy, pool: Mutex::default() }
    }

    /// Asks, for something at the CSE of that CSE-ID.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(
        &self,
        request: &RequestPrimitive,
        at: &CseId,
        patience: Duration,
    ) -> Result<ResponsePrimitive, NoAnswer> {
        match tokio::time::timeout(patience, self.exchange(request, at)).await {
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
            .authority(self.place.address.as_str())
            .path_and_query(parts.uri.path_and_query().map_or("/", |p| p.as_str()));
        parts.uri = uri.build().map_err(|e| e.to_string())?;
        let http = http::Request::from_parts(parts, Full::new(body));
        let response = self.pool().request(http).await.map_err(|e| error_chain(&e))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, self.place.content_bytes).collect().await;
        let body = body.map_err(|e| format!("the answer is too large, or breaks off: {e}"))?;
        let response = read_response(parts.status, &parts.headers, body.to_bytes())
            .map_err(|e| e.to_string())?;
        if response.request_id != request.request_id {
            return Err("the answer is to another request".into());
        }
        Ok(response)
    }

    /// The connections. When the gateway's certificates or whom it believes have changed, there are new
    /// ones: the old ones end with the requests that they carry.
    fn pool(&self) -> Pool {
        let certificates = match &self.place.credential {
            Some(_) => None,
            None => self.policy.current().certificates().cloned(),
        };
        let mut kept = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |of: &Option<Arc<Certificates>>| {
            of.as_ref().map(Arc::as_ptr) == certificates.as_ref().map(Arc::as_ptr)
        };
        if let Some((of, pool)) = &*kept
            && same(of)
        {
            return pool.clone();
        }
        let means = match (&self.place.credential, &certificates) {
            (Some(credential), _) => Means::Key(credential.clone()),
            (None, Some(certificates)) => Means::Certificates(certificates.clone()),
            (None, None) => Means::None,
        };
        let pool = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(KEPT)
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(Connector::new(self.place.clone(), means));
        *kept = Some((certificates, pool.clone()));
        pool
    }
}
