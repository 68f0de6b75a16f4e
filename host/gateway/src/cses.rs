//! Other CSEs: the one that this registers with, and those that register here and are reached from
//! here. Requests for what is at them, or behind them, go to them over associations of our own, in
//! which this CSE is the client (TS-0003 clause 8.2).

mod connector;
mod registration;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use saegis_onem2m::http::{read_response, write_request};
use saegis_onem2m::id::{CredentialId, CseId, From};
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::{Scope, Target};
use saegis_policy::{Certificates, Policy};
use tokio::sync::Semaphore;

use crate::config::{Config, Cse, Peer};
use crate::shares::{Share, Shares};
use crate::upstream::error_chain;
use connector::{Connector, Means};
pub use registration::{Registration, Standing, keep, own_request, reason};

/// Connections to one CSE that are kept when idle.
const KEPT: usize = 64;

/// Requests of one credential that are under way to one CSE at a time.
const OF_ONE: usize = 8;

/// What a CSE is told at a time that nobody waits for.
const BACKGROUND: usize = 32;

/// How long a connection is kept when idle: shorter than our own server's default, so that it is
/// seldom the other end that ends it.
const IDLE: Duration = Duration::from_secs(240);

type Pool = Client<Connector, Full<bytes::Bytes>>;

/// The other CSEs.
pub struct Cses {
    all: Vec<Arc<Remote>>,
    /// What is under way: a request that comes by again goes in circles.
    under_way: Shares<(Option<String>, String)>,
}

/// Another CSE.
pub struct Remote {
    /// What is configured of it.
    pub peer: Peer,
    /// How this CSE's registration with it stands.
    pub registration: Registration,
    own: CseId,
    name: Option<String>,
    policy: Arc<Policy>,
    pool: Mutex<Option<(Option<Arc<Certificates>>, Pool)>>,
    shares: Shares<CredentialId>,
    /// Places for what nobody waits for.
    pub background: Arc<Semaphore>,
    content_bytes: usize,
}

/// Why another CSE gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// There is no association, or it broke.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("there was no answer in time")]
    Late,
}

impl Cses {
    /// Those that are configured.
    pub fn new(config: &Config, policy: &Arc<Policy>) -> Self {
        let remote = |peer: &Peer| {
            Arc::new(Remote {
                name: peer.name(&config.cse),
                own: config.cse.cse_id.clone(),
                policy: policy.clone(),
                pool: Mutex::default(),
                shares: Shares::new(OF_ONE),
                background: Arc::new(Semaphore::new(BACKGROUND)),
                content_bytes: config.limits.content_bytes,
                registration: Registration::default(),
                peer: peer.clone(),
            })
        };
        Self { all: config.peer.iter().map(remote).collect(), under_way: Shares::new(1) }
    }

    /// All of them.
    pub fn all(&self) -> &[Arc<Remote>] {
        &self.all
    }

    /// The one that this CSE registers with.
    pub fn registrar(&self) -> Option<&Arc<Remote>> {
        self.all.iter().find(|remote| remote.peer.register)
    }

    /// Notes that a request is under way, until what is given is dropped. None, where the same is so
    /// already.
    pub fn enter(&self, request: &RequestPrimitive) -> Option<Share<(Option<String>, String)>> {
        self.under_way.take(&(request.from.clone(), request.request_id.clone()))
    }

    /// The way to what is at the CSE of that CSE-ID: that CSE itself, or the registrar, which knows
    /// the others. Where a request came from is no way to go.
    pub fn way_to(&self, cse: &CseId, from: Option<&CseId>) -> Option<&Arc<Remote>> {
        let itself = self.all.iter().find(|remote| remote.peer.cse_id == *cse);
        itself.or(self.registrar()).filter(|remote| Some(&remote.peer.cse_id) != from)
    }
}

impl Remote {
    /// A place for a request of a credential, if it has not too many of them.
    pub fn share_of(&self, credential: &CredentialId) -> Option<Share<CredentialId>> {
        self.shares.take(credential)
    }

    /// Asks it. Whatever is wrong is told the originator in no more words than that.
    pub async fn handle(&self, request: RequestPrimitive, patience: Duration) -> ResponsePrimitive {
        let refuse = {
            let (id, release) = (request.request_id.clone(), request.release.clone());
            move |rsc, why: &str| ResponsePrimitive::refusal(&id, release.as_deref(), rsc, why)
        };
        match self.ask(&request, patience).await {
            Ok(response) => response,
            Err(error) => {
                tracing::warn!(event = "peer.failed", cse = %self.peer.cse_id, "{error}");
                match error {
                    NoAnswer::Failed(_) => {
                        refuse(Rsc::TargetNotReachable, "the CSE can't be reached")
                    }
                    NoAnswer::Late => refuse(Rsc::RequestTimeout, "the CSE did not answer in time"),
                }
            }
        }
    }

    /// Asks it.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(
        &self,
        request: &RequestPrimitive,
        patience: Duration,
    ) -> Result<ResponsePrimitive, NoAnswer> {
        match tokio::time::timeout(patience, self.exchange(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(why)) => Err(NoAnswer::Failed(why)),
            Err(_) => Err(NoAnswer::Late),
        }
    }

    async fn exchange(&self, request: &RequestPrimitive) -> Result<ResponsePrimitive, String> {
        let at = match &request.to.scope {
            Scope::SpRelative(cse) => cse.clone(),
            Scope::Absolute { cse, .. } => cse.clone(),
            Scope::CseRelative => self.peer.cse_id.clone(),
        };
        let out = write_request(request, &at).map_err(|e| e.to_string())?;
        let (mut parts, body) = out.into_parts();
        let uri = http::Uri::builder()
            .scheme("http")
            .authority(self.peer.address.as_str())
            .path_and_query(parts.uri.path_and_query().map_or("/", |p| p.as_str()));
        parts.uri = uri.build().map_err(|e| e.to_string())?;
        let http = http::Request::from_parts(parts, Full::new(body));
        let response = self.pool().request(http).await.map_err(|e| error_chain(&e))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, self.content_bytes).collect().await;
        let body = body.map_err(|e| format!("the answer is too large, or breaks off: {e}"))?;
        let response = read_response(parts.status, &parts.headers, body.to_bytes())
            .map_err(|e| e.to_string())?;
        if response.request_id != request.request_id {
            return Err("the answer is to another request".into());
        }
        Ok(response)
    }

    /// The connections to it. When the gateway's certificates or whom it believes have changed, there
    /// are new ones: the old ones end with the requests that they carry.
    fn pool(&self) -> Pool {
        let certificates = match &self.peer.credential {
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
        let means = match (&self.peer.credential, &certificates) {
            (Some(credential), _) => Means::Key(credential.clone()),
            (None, Some(certificates)) => Means::Certificates(certificates.clone()),
            (None, None) => Means::None,
        };
        let patience = Duration::from_secs(self.peer.timeout_seconds);
        let (address, name) = (self.peer.address.clone(), self.name.clone());
        let pool = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(KEPT)
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(Connector::new(self.peer.cse_id.clone(), address, name, means, patience));
        *kept = Some((certificates, pool.clone()));
        pool
    }
}

/// The From of a request that leaves for another CSE: the AE-ID-Stem of an AE that is registered here
/// is made SP-relative (TS-0001 clause 7.2), all else is so already.
pub fn outward(own: &Cse, from: &str) -> String {
    match From::parse(from) {
        Ok(From::Stem(stem)) if stem.starts_with('S') => format!("/{stem}"),
        Ok(From::Stem(stem)) => format!("{}/{stem}", own.cse_id),
        _ => from.into(),
    }
}

/// The CSE that a target of this service provider is at; none, where it is of another.
pub fn cse_of<'a>(own: &Cse, to: &'a Target) -> Option<&'a CseId> {
    match &to.scope {
        Scope::CseRelative => None,
        Scope::SpRelative(cse) => Some(cse),
        Scope::Absolute { sp, cse } => {
            let ours = own.service_provider.as_deref();
            ours.is_some_and(|ours| ours.eq_ignore_ascii_case(sp)).then_some(cse)
        }
    }
}
