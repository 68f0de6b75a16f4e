//! The request pipeline: checks a request primitive against policy and routes it.
//!
//! A request passes these steps, in the order of TS-0003 clause 7 and TS-0004 clause 7.3.2:
//!
//! 1. revalidate the association against the generation in force,
//! 2. check the originator with the impersonation checks of policy,
//! 3. check an originator that is forwarded by another CSE,
//! 4. check what the request registers: an AE, an announcement, a key at a MAF,
//! 5. determine which claimed roles are assigned to the originator, and verify its tokens,
//! 6. route it: to the backend, or to another CSE.
//!
//! The futures of rare steps are boxed: each request has space for all others, and moves it.

mod acknowledgment;
mod announcement;
mod enrollment;
mod forwarding;
mod key_distribution;
mod local;
mod recovery;
mod registration;
mod roles;
mod security_information;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use saegis_cse::{Authority, is_non_blocking};
use saegis_onem2m::credential::Entity;
use saegis_onem2m::primitive::{
    AssociationCredential, Content, Operation, RequestPrimitive, ResponsePrimitive,
};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::Scope;
use saegis_policy::{Allowance, Generation, Verdict};
use tracing::Instrument as _;

use crate::backend::{Asker, Backend};
use crate::binding::mqtt::clients::Clients;
use crate::config::{Coap, Limits, Mqtt, ThisCse, WebSocket};
use crate::notification::ae_channels::AeChannels;
use crate::session::Session;
use crate::session::durable_sessions::DurableSessions;
use crate::session::registry::{Ending, Revalidation};
use crate::session::response_memory::{NoRoom, Reserved, Room};
use crate::session::usage::metered;
use crate::state::Gateway;
use crate::telemetry::audit;
use crate::telemetry::request_paths::RequestPath;

/// The reason of a refusal when there is no memory for the response.
const NO_MEMORY: &str = "too many large responses are unread: read them, or request less";

/// Refusal of a step: Response Status Code and reason.
type Refusal = (Rsc, String);

/// Handles the requests of all associations.
#[derive(Clone)]
pub struct Pipeline {
    gateway: Arc<Gateway>,
}

/// A response, with the memory that it reserves until its binding has sent it.
pub struct HeldResponse {
    /// The response.
    pub response: ResponsePrimitive,
    /// The reservation; none for a short refusal.
    pub memory: Option<Room>,
}

impl Pipeline {
    /// Creates the pipeline of a gateway.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }

    /// Returns the limits that a binding applies while it reads a request.
    pub fn limits(&self) -> &Limits {
        &self.gateway.config.limits
    }

    /// Settings of the WebSocket binding.
    pub fn websocket(&self) -> &WebSocket {
        &self.gateway.config.websocket
    }

    /// Settings of the MQTT binding.
    pub fn mqtt(&self) -> &Mqtt {
        &self.gateway.config.mqtt
    }

    /// Sessions of MQTT clients that outlive their connections.
    pub fn mqtt_sessions(&self) -> Option<&Arc<DurableSessions>> {
        self.gateway.mqtt_sessions.as_ref()
    }

    /// The connected MQTT clients.
    pub fn mqtt_clients(&self) -> &Arc<Clients> {
        &self.gateway.mqtt_clients
    }

    /// Identity of this CSE.
    pub fn this_cse(&self) -> &ThisCse {
        &self.gateway.config.cse
    }

    /// Settings of the CoAP binding.
    pub fn coap(&self) -> &Coap {
        &self.gateway.config.coap
    }

    /// Timeout for the response of an AE to a notification.
    pub fn notification_timeout(&self) -> Duration {
        Duration::from_secs(self.gateway.config.notifications.timeout_seconds)
    }

    /// The connections that AEs keep open.
    pub fn ae_channels(&self) -> &Arc<AeChannels> {
        &self.gateway.ae_channels
    }

    /// Whether a connection may become a WebSocket. A MAF or MEF has no binding but HTTP.
    pub fn takes_websockets(&self) -> bool {
        self.gateway.config.role.is_cse()
    }

    /// Handles one request primitive of an established association. Always returns a response.
    pub async fn handle(&self, session: &Arc<Session>, request: RequestPrimitive) -> HeldResponse {
        let operation = request.operation;
        let path = RequestPath::start(&session.active.association, &request);
        let handler = Handler {
            path: path.clone(),
            gateway: self.gateway.clone(),
            session: session.clone(),
            authority: session.active.authority(),
        };
        let request_id = audit::cut(&request.request_id);
        let span = tracing::info_span!("request", request_id = &*request_id);
        let (response, reserved) = handler.handle(request).instrument(span).await;
        let held = handler.hold(response, reserved, session.active.ending()).await;
        self.gateway.metrics.answered(Some(operation), held.response.rsc);
        if let Some(path) = path {
            path.end(held.response.rsc);
        }
        held
    }

    /// Counts a response to a request that was not sent.
    pub fn count_unexpected(&self) {
        self.gateway.metrics.unexpected();
    }

    /// Counts CoAP messages that were sent again.
    pub fn count_retransmitted(&self, messages: usize) {
        self.gateway.metrics.coap_retransmitted(messages);
    }

    /// Counts a request that its binding could not decode.
    pub fn count_undecoded(&self, refusal: &ResponsePrimitive) {
        self.gateway.metrics.answered(None, refusal.rsc);
    }
}

/// Steps of one request. Cheap to clone: a step that must complete runs as a separate task.
#[derive(Clone)]
struct Handler {
    /// Taken before all checks: it ends if the AE-ID that they rest on is released.
    authority: Arc<Authority>,
    gateway: Arc<Gateway>,
    session: Arc<Session>,
    /// Record of the steps for the operator, if this request is recorded.
    path: Option<Arc<RequestPath>>,
}

impl Handler {
    async fn handle(&self, mut request: RequestPrimitive) -> (ResponsePrimitive, Option<Reserved>) {
        let association = &self.session.active.association;
        request.source_address = Some(association.peer.ip());
        request.credential = Some(AssociationCredential {
            id: association.credential_id.clone(),
            learns_ae_id: association.credential_entity() == &Entity::NotYetKnown,
        });
        if let Some(located) = self.located(&request.to).await {
            request.to = located;
        }
        if !self.changes_ae_identity(&request).await {
            return self.check_and_route(request).await;
        }
        // Such a request completes even if its connection breaks. Otherwise a registered AE without
        // a binding could not be reached with its own credential.
        let (id, this) = (request.request_id.clone(), self.clone());
        let work = async move { this.check_and_route(request).await };
        let done = tokio::spawn(work.in_current_span()).await;
        done.unwrap_or_else(|_| {
            let why = "the request could not be carried out";
            (ResponsePrimitive::refusal(&id, None, Rsc::InternalServerError, why), None)
        })
    }

    /// Returns whether a request may change the AE of the credential: a registration here, or its
    /// deletion.
    async fn changes_ae_identity(&self, request: &RequestPrimitive) -> bool {
        if !self.is_local(request) {
            return false;
        }
        match (request.operation, &self.gateway.backend) {
            (Operation::Create, _) => request.creates(ResourceType::Ae),
            // Any other deletion stops when its originator disconnects. An announcement must be
            // withdrawn.
            (Operation::Delete, Backend::Embedded(_)) => {
                Box::pin(self.is_its_own_ae(&request.to)).await
                    || Box::pin(self.announced_at(&request.to)).await.is_some()
            }
            (Operation::Delete, _) => true,
            _ => false,
        }
    }

    /// Returns whether the target of a request is at this CSE.
    fn is_local(&self, request: &RequestPrimitive) -> bool {
        let cse = &self.gateway.config.cse;
        request.to.is_at(&cse.cse_id, cse.service_provider.as_deref())
    }

    async fn check_and_route(
        &self,
        mut request: RequestPrimitive,
    ) -> (ResponsePrimitive, Option<Reserved>) {
        let is_local = self.is_local(&request);
        // Addresses at a MAF have a different form.
        if is_local && self.gateway.config.role.is_cse() {
            // Policy and CSE see the same form, independent of the one that the originator used.
            request.to.scope = Scope::CseRelative;
        }
        // Loaded once: a request uses one generation from start to end.
        let generation = self.gateway.policy.current();
        if let Err(refusal) = self.check(&generation, &request).await {
            return (self.refuse_check(&request, refusal).await, None);
        }
        if self.gateway.backend.embedded().is_none() {
            // The embedded CSE charges its own time.
            let credential = &self.session.active.association.credential_id;
            self.gateway.usage.charge(credential, Duration::ZERO);
        }
        if is_local && self.gateway.config.role.is_cse() {
            self.assign_roles(&generation, &mut request);
            if let Err(refusal) = self.verify_tokens(&generation, &mut request) {
                return (self.refuse_check(&request, refusal).await, None);
            }
        }
        let asks_for_token = is_local && request.asks_for_token();
        let mut memory = None;
        let response = match &self.gateway.backend {
            Backend::Maf(maf) => Box::pin(self.distribute_key(maf, &generation, request)).await,
            Backend::Embedded(_) if is_local && is_non_blocking(&request) => {
                Box::pin(self.acknowledge(&generation, request)).await
            }
            _ if is_local => self.handle_local(&generation, request, &mut memory).await,
            _ => Box::pin(self.forward(request)).await,
        };
        self.record_step(self.destination(is_local));
        let response = match response.rsc {
            Rsc::OriginatorHasNoPrivilege if asks_for_token => {
                self.invite_token_request(&generation, response)
            }
            _ => response,
        };
        tracing::debug!(
            event = "request.answered",
            association = self.session.active.association.id,
            request_id = response.request_id,
            rsc = response.rsc.code(),
        );
        (response, memory)
    }

    /// Performs all checks before the request is routed.
    async fn check(
        &self,
        generation: &Generation,
        request: &RequestPrimitive,
    ) -> Result<(), Refusal> {
        let creates_ae = request.creates(ResourceType::Ae);
        let valid = self.revalidate(generation, creates_ae).await;
        self.recorded("association", valid)?;
        if creates_ae && let Some(why) = self.has_one_already(request) {
            return self.recorded("AE-ID", Err((self.gateway.config.cse.ae_id_taken_rsc, why)));
        }
        let allowed = self.check_originator(generation, request).await;
        self.recorded("originator", allowed)?;
        if matches!(self.session.active.association.entity(), Entity::Cse(_)) {
            let allowed = Box::pin(self.check_forwarded_originator(generation, request)).await;
            self.recorded("forwarded originator", allowed)?;
        }
        if let Some(information) = request.content.as_ref().and_then(Content::security_information)
        {
            let allowed = self.check_security_information(information, request);
            self.recorded("security information", allowed)?;
        }
        if creates_ae {
            let allowed = Box::pin(self.check_registration(generation, request)).await;
            self.recorded("registration", allowed)?;
        }
        if self.may_announce(request) {
            let allowed = Box::pin(self.check_announcement(generation, request)).await;
            self.recorded("announcement", allowed)?;
        }
        Ok(())
    }

    /// Records the end of a check for the operator.
    fn recorded(&self, step: &str, result: Result<(), Refusal>) -> Result<(), Refusal> {
        if let Some(path) = &self.path {
            path.step(step, result.as_ref().err().map(|(_, why)| why.as_str()));
        }
        result
    }

    /// Records the end of a step that refuses nothing.
    fn record_step(&self, step: &str) {
        if let Some(path) = &self.path {
            path.step(step, None);
        }
    }

    /// Returns the name of the system that a request is passed to.
    fn destination(&self, is_local: bool) -> &'static str {
        match &self.gateway.backend {
            Backend::Maf(_) => "MAF",
            Backend::Mef(_) => "MEF",
            _ if !is_local => "other CSE",
            Backend::Embedded(_) => "embedded CSE",
            Backend::Remote(_) => "CSE behind",
        }
    }

    /// Checks that the association is valid in a generation, and that its AE is still registered.
    async fn revalidate(&self, generation: &Generation, creates_ae: bool) -> Result<(), Refusal> {
        let refused = |rsc, why: &str| Err((rsc, why.to_string()));
        let active = &self.session.active;
        match active.revalidate(generation).await {
            Revalidation::Valid => {}
            Revalidation::Revoked => {
                let why = "the credential of this security association is no longer valid";
                return refused(Rsc::OriginatorNotAuthenticated, why);
            }
            Revalidation::Deferred => {
                return refused(Rsc::InternalServerError, "the request could not be checked");
            }
        }
        // It may only register as the same AE again.
        if !creates_ae && active.has_lost_its_ae_id(&self.gateway.ae_ids) {
            let why = "the AE of this security association is no longer registered";
            active.revoke(generation, why).await;
            return refused(Rsc::OriginatorNotAuthenticated, why);
        }
        Ok(())
    }

    /// Checks with policy that the request may use its originator.
    async fn check_originator(
        &self,
        generation: &Generation,
        request: &RequestPrimitive,
    ) -> Result<(), Refusal> {
        // An allowance for an originator covers requests that name no other originator and register
        // nothing.
        let names_nobody = |c: &Content| c.named_originators().is_empty();
        let registers = [ResourceType::Ae, ResourceType::RemoteCse, ResourceType::AeAnnc]
            .into_iter()
            .any(|kind| request.creates(kind));
        let is_covered = request.content.as_ref().is_none_or(names_nobody) && !registers;
        let cacheable = request.from.as_deref().filter(|_| is_covered);
        let association = &self.session.active.association;
        if let Some(from) = cacheable
            && let Ok(mut allowances) = self.session.allowances.lock()
        {
            if allowances.allows(generation.number, from) {
                return Ok(());
            }
            if generation.allows_again(association, from) {
                allowances.insert(generation.number, from);
                return Ok(());
            }
        }
        let check = Box::pin(generation.check_originator(association, request));
        let verdict = self.charged(check).await;
        if let (Verdict::Allow(Allowance::Originator), Some(from)) = (&verdict, cacheable)
            && let Ok(mut allowances) = self.session.allowances.lock()
        {
            allowances.insert(generation.number, from);
            generation.remember_allowance(association, from);
        }
        allowed(verdict)
    }

    /// Returns the credential and the authority of the request, for the backend.
    fn asker(&self) -> Asker<'_> {
        let active = &self.session.active;
        Asker { credential: &active.association.credential_id, authority: &self.authority }
    }

    /// Runs checks, and charges the processor time that they take to the credential.
    async fn charged<T>(&self, checks: impl Future<Output = T> + Unpin) -> T {
        let credential = &self.session.active.association.credential_id;
        metered(checks, |used| self.gateway.usage.charge(credential, used)).await
    }

    /// Refuses a request that a check does not allow. The credential is charged for it.
    async fn refuse_check(
        &self,
        request: &RequestPrimitive,
        refusal: Refusal,
    ) -> ResponsePrimitive {
        let response = self.refuse(request, refusal);
        let credential = &self.session.active.association.credential_id;
        let delay = self.gateway.usage.charge_refusal(credential);
        if !delay.is_zero() {
            // Boxed, because it is rare.
            Box::pin(tokio::time::sleep(delay)).await;
        }
        response
    }

    fn refuse(&self, request: &RequestPrimitive, (rsc, why): Refusal) -> ResponsePrimitive {
        audit::request_refused(&self.session.active.association, request, rsc, &why);
        // The originator does not receive internal causes. They are logged for the operator.
        let is_internal = rsc == Rsc::InternalServerError;
        let why = if is_internal { "the request could not be carried out" } else { &why };
        ResponsePrimitive::refusal(&request.request_id, request.release.as_deref(), rsc, why)
    }

    /// Holds the memory of a response, or refuses it if the credential does not have enough. `evicted` is
    /// set when another response needs the memory more.
    async fn hold(
        &self,
        response: ResponsePrimitive,
        reserved: Option<Reserved>,
        evicted: &Ending,
    ) -> HeldResponse {
        let bytes = response.content.as_ref().map_or(0, bytes::Bytes::len);
        let memory = &self.session.response_memory;
        match memory.hold(reserved, bytes, evicted, self.timeout()).await {
            Ok(room) => HeldResponse { response, memory: Some(room) },
            Err(NoRoom) => {
                let (id, release) = (&response.request_id, response.release.as_deref());
                let why = NO_MEMORY;
                let response = ResponsePrimitive::refusal(id, release, Rsc::RequestTimeout, why);
                HeldResponse { response, memory: None }
            }
        }
    }
}

fn allowed(verdict: Verdict) -> Result<(), Refusal> {
    match verdict {
        Verdict::Allow(_) => Ok(()),
        Verdict::Deny { rsc, reason, .. } => Err((Rsc::from_code(rsc), reason)),
        Verdict::Failed { module, fault } => {
            audit::module_failed(&module, &fault);
            Err((Rsc::InternalServerError, "the request could not be checked".into()))
        }
    }
}
