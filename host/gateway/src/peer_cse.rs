//! Peer CSEs: the registrar CSE of this CSE, and CSEs that are registered here and reachable from
//! here. Requests for resources at them, or behind them, are sent over associations in which this
//! CSE is the client (TS-0003 clause 8.2).

pub mod registration;
mod registration_state;

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use saegis_certificate::Flavour;
use saegis_onem2m::id::{CredentialId, CseId, OriginatorId};
use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::{Scope, Target};
use saegis_policy::Policy;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::config::{Config, Peer};
use crate::keyed_limiter::{KeyedLimiter, KeyedPermit};
pub use registration_state::{Registration, RegistrationState};
pub use saegis_client::NoAnswer;
use saegis_client::{Endpoint, PeerClient};

/// Maximum number of concurrent requests of one credential to one CSE.
const MAX_PER_CREDENTIAL: usize = 8;

/// Maximum number of concurrent background requests to one CSE.
const MAX_BACKGROUND: usize = 32;

/// All peer CSEs.
pub struct PeerCses {
    all: Vec<Arc<PeerCse>>,
    /// Active requests, to detect loops.
    under_way: KeyedLimiter<(Option<String>, String)>,
}

/// A peer CSE.
pub struct PeerCse {
    /// Its configuration.
    pub peer: Peer,
    /// State of the registration of this CSE with it.
    pub registration: Registration,
    own: CseId,
    dial: PeerClient,
    shares: KeyedLimiter<CredentialId>,
    /// Permits for background requests.
    pub background: Arc<Semaphore>,
}

impl PeerCses {
    /// Creates the configured peers.
    pub fn new(config: &Config, policy: &Arc<Policy>) -> Self {
        let remote = |peer: &Peer| {
            let (binding, address) = peer.endpoint();
            Arc::new(PeerCse {
                own: config.cse.cse_id.clone(),
                dial: PeerClient::new(
                    Endpoint {
                        name: format!("the CSE {}", peer.cse_id),
                        binding,
                        address: address.into(),
                        domain_name: peer.name(&config.cse.identity()),
                        flavour: Flavour::CseId,
                        credential: peer.credential.clone(),
                        connect_timeout: Duration::from_secs(peer.timeout_seconds),
                        content_bytes: config.limits.content_bytes,
                    },
                    crate::peer_certificates::in_force(policy),
                ),
                shares: KeyedLimiter::new(MAX_PER_CREDENTIAL),
                background: Arc::new(Semaphore::new(MAX_BACKGROUND)),
                registration: Registration::default(),
                peer: peer.clone(),
            })
        };
        Self { all: config.peer.iter().map(remote).collect(), under_way: KeyedLimiter::new(1) }
    }

    /// Returns all peers.
    pub fn all(&self) -> &[Arc<PeerCse>] {
        &self.all
    }

    /// Returns the registrar CSE of this CSE.
    pub fn registrar(&self) -> Option<&Arc<PeerCse>> {
        self.all.iter().find(|remote| remote.peer.register)
    }

    /// Returns whether ESPrim objects may be exchanged with a CSE.
    pub fn allows_esprim(&self, cse: &CseId) -> bool {
        self.all.iter().any(|remote| remote.peer.cse_id == *cse && remote.allows_esprim())
    }

    /// Marks a request as active until the permit is dropped. Returns `None` if the same request is
    /// already active.
    pub fn enter(
        &self,
        request: &RequestPrimitive,
    ) -> Option<KeyedPermit<(Option<String>, String)>> {
        self.under_way.take(&(request.from.clone(), request.request_id.clone()))
    }

    /// Returns the route to a CSE: that CSE itself, or the registrar CSE, which has routes to the
    /// others. A request is not routed back to the CSE that it came from.
    pub fn route_to(&self, cse: &CseId, from: Option<&CseId>) -> Option<&Arc<PeerCse>> {
        let itself = self.all.iter().find(|remote| remote.peer.cse_id == *cse);
        itself.or(self.registrar()).filter(|remote| Some(&remote.peer.cse_id) != from)
    }
}

impl PeerCse {
    /// Returns whether ESPrim objects may be exchanged with it.
    pub fn allows_esprim(&self) -> bool {
        self.peer.esprim
    }

    /// Creates a request of this CSE itself to the peer.
    ///
    /// # Errors
    /// Fails if the content is not a representation.
    pub fn own_request(
        &self,
        operation: Operation,
        resource: String,
        content: Option<(ResourceType, Value)>,
    ) -> Result<RequestPrimitive, NoAnswer> {
        let to = Target { scope: Scope::SpRelative(self.peer.cse_id.clone()), resource };
        let id = format!("{:016x}", rand::rng().random::<u64>());
        let request = RequestPrimitive::own(operation, to, self.own.to_string(), id);
        match content {
            None => Ok(request),
            Some((kind, value)) => {
                request.with_content(kind, &value).map_err(|e| NoAnswer::Failed(e.to_string()))
            }
        }
    }

    /// Returns a permit for a request of a credential, unless the credential has too many requests.
    pub fn acquire_permit(&self, credential: &CredentialId) -> Option<KeyedPermit<CredentialId>> {
        self.shares.take(credential)
    }

    /// Sends a request. The originator receives no details of a failure.
    pub async fn handle(&self, request: RequestPrimitive, timeout: Duration) -> ResponsePrimitive {
        let refuse = {
            let (id, release) = (request.request_id.clone(), request.release.clone());
            move |rsc, why: &str| ResponsePrimitive::refusal(&id, release.as_deref(), rsc, why)
        };
        match self.ask(&request, timeout).await {
            Ok(response) => response,
            Err(error) => {
                tracing::warn!(event = "peer.failed", cse = %self.peer.cse_id, "{error}");
                match error {
                    NoAnswer::Unreachable(_) | NoAnswer::Failed(_) => {
                        refuse(Rsc::TargetNotReachable, "the CSE cannot be reached")
                    }
                    NoAnswer::Late => refuse(Rsc::RequestTimeout, "the CSE timed out"),
                }
            }
        }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// Fails if there is no valid response.
    pub async fn ask(
        &self,
        request: &RequestPrimitive,
        timeout: Duration,
    ) -> Result<ResponsePrimitive, NoAnswer> {
        let at = match &request.to.scope {
            Scope::SpRelative(cse) | Scope::Absolute { cse, .. } => cse,
            Scope::CseRelative => &self.peer.cse_id,
        };
        let response = self.dial.ask(request, at, timeout).await?;
        // The rule for requests holds for responses too: the From must belong to the peer.
        match response.from.as_deref().filter(|from| !self.may_answer_as(from)) {
            None => Ok(response),
            Some(other) => {
                let why = format!("the From of the response is {other:?}");
                Err(NoAnswer::Failed(why))
            }
        }
    }

    /// Returns whether the From of a response may come from the peer. Registrees use their own
    /// identifiers. A registrar forwards the responses of many others, but not those of this CSE.
    fn may_answer_as(&self, from: &str) -> bool {
        let cse = match OriginatorId::parse(from) {
            Ok(OriginatorId::SpRelative(cse) | OriginatorId::SpRelativeAe { cse, .. }) => cse,
            Ok(OriginatorId::Absolute { first, .. }) => first,
            // An AE-ID-Stem, or an invalid identifier.
            _ => return false,
        };
        cse == self.peer.cse_id.bare() || (self.peer.register && cse != self.own.bare())
    }
}
