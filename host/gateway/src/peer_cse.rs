//! Other CSEs: the one that this registers with, and those that register here and are reached from
//! here. Requests for what is at them, or behind them, go to them over associations of our own, in
//! which this CSE is the client (TS-0003 clause 8.2).

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

/// Requests of one credential that are under way to one CSE at a time.
const MAX_PER_CREDENTIAL: usize = 8;

/// What a CSE is told at a time that nobody waits for.
const MAX_BACKGROUND: usize = 32;

/// The other CSEs.
pub struct PeerCses {
    all: Vec<Arc<PeerCse>>,
    /// What is under way: a request that comes by again goes in circles.
    under_way: KeyedLimiter<(Option<String>, String)>,
}

/// Another CSE.
pub struct PeerCse {
    /// What is configured of it.
    pub peer: Peer,
    /// How this CSE's registration with it stands.
    pub registration: Registration,
    own: CseId,
    dial: PeerClient,
    shares: KeyedLimiter<CredentialId>,
    /// Places for what nobody waits for.
    pub background: Arc<Semaphore>,
}

impl PeerCses {
    /// Those that are configured.
    pub fn new(config: &Config, policy: &Arc<Policy>) -> Self {
        let remote = |peer: &Peer| {
            Arc::new(PeerCse {
                own: config.cse.cse_id.clone(),
                dial: PeerClient::new(
                    Endpoint {
                        name: format!("the CSE {}", peer.cse_id),
                        address: peer.address.clone(),
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

    /// All of them.
    pub fn all(&self) -> &[Arc<PeerCse>] {
        &self.all
    }

    /// The one that this CSE registers with.
    pub fn registrar(&self) -> Option<&Arc<PeerCse>> {
        self.all.iter().find(|remote| remote.peer.register)
    }

    /// Notes that a request is under way, until what is given is dropped. None, where the same is so
    /// already.
    pub fn enter(
        &self,
        request: &RequestPrimitive,
    ) -> Option<KeyedPermit<(Option<String>, String)>> {
        self.under_way.take(&(request.from.clone(), request.request_id.clone()))
    }

    /// The way to what is at the CSE of that CSE-ID: that CSE itself, or the registrar, which knows
    /// the others. Where a request came from is no way to go.
    pub fn route_to(&self, cse: &CseId, from: Option<&CseId>) -> Option<&Arc<PeerCse>> {
        let itself = self.all.iter().find(|remote| remote.peer.cse_id == *cse);
        itself.or(self.registrar()).filter(|remote| Some(&remote.peer.cse_id) != from)
    }
}

impl PeerCse {
    /// A request of this CSE's own to the other.
    ///
    /// # Errors
    /// When the content is no representation.
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

    /// A place for a request of a credential, if it has not too many of them.
    pub fn acquire_permit(&self, credential: &CredentialId) -> Option<KeyedPermit<CredentialId>> {
        self.shares.take(credential)
    }

    /// Asks it. Whatever is wrong is told the originator in no more words than that.
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
        timeout: Duration,
    ) -> Result<ResponsePrimitive, NoAnswer> {
        let at = match &request.to.scope {
            Scope::SpRelative(cse) | Scope::Absolute { cse, .. } => cse,
            Scope::CseRelative => &self.peer.cse_id,
        };
        let response = self.dial.ask(request, at, timeout).await?;
        // The other way round it is the same: nobody answers in another's name.
        match response.from.as_deref().filter(|from| !self.may_answer_as(from)) {
            None => Ok(response),
            Some(other) => {
                let why = format!("the answer is in the name of {other:?}");
                Err(NoAnswer::Failed(why))
            }
        }
    }

    /// Whether an answer's From may come from that CSE: its registrees answer in their own names, and a
    /// registrar passes on the answers of many, but not ours.
    fn may_answer_as(&self, from: &str) -> bool {
        let cse = match OriginatorId::parse(from) {
            Ok(OriginatorId::SpRelative(cse) | OriginatorId::SpRelativeAe { cse, .. }) => cse,
            Ok(OriginatorId::Absolute { first, .. }) => first,
            // An AE-ID-Stem, or nobody.
            _ => return false,
        };
        cse == self.peer.cse_id.bare() || (self.peer.register && cse != self.own.bare())
    }
}
