//! From a request to its response: primitive, verdict, CSE.

mod acknowledgment;
mod announcement;
mod forwarding;
mod maf;
mod recovery;
mod registration;
pub mod response_memory;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use http::header::ALLOW;
use http::request::Parts;
use hyper::body::Incoming;
use hyper::{Request, Response};
use saegis_cse::is_asynchronous;
use saegis_onem2m::credential::Entity;
use saegis_onem2m::exported::Exported;
use saegis_onem2m::http::{
    BindingError, allowed_methods, check_host, read_request, write_response,
};
use saegis_onem2m::primitive::{
    AssociationCredential, Content, Operation, RequestPrimitive, ResponsePrimitive,
};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::Scope;
use saegis_policy::{Allowance, Generation, Verdict};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::{Asker, Outcome, Upstream};
use crate::binding::http::body::{NotCollected, attribute, collect};
use crate::notification::relay;
use crate::pipeline::response_memory::{Answer, NoRoom, Reserved, Room, Share, may_be_large};
use crate::session::ae_id_store::Taken;
use crate::session::registry::{Live, Standing};
use crate::state::Gateway;
use crate::telemetry::audit;
use registration::Place;

/// Most originators of one association whose allowance is kept.
const KEPT: usize = 16;

/// The reason of a refusal for want of room for the answer.
const UNREAD: &str = "too many large answers have not been read yet: read them, or ask for less";

/// Serves the requests of one association.
pub struct Service {
    gateway: Arc<Gateway>,
    live: Arc<Live>,
    kept: Mutex<Kept>,
    begun: AtomicBool,
    /// A request is at hand, or its answer is not all with hyper yet.
    busy: AtomicBool,
    /// The request at hand has come whole, and is answered.
    answering: AtomicBool,
    /// A request did not come whole, so that none can come after it.
    broken_off: AtomicBool,
    /// What was exported from the session, at a MAF.
    exported: Option<Exported>,
    /// Whether the key that was exported has been registered.
    registered: AtomicBool,
    /// The room that the credential has for large answers, and what is reserved for the answer at hand.
    share: Share,
    reserved: Mutex<Option<Reserved>>,
    /// An answer that was not read had to make room for others'.
    evicted: CancellationToken,
    /// Requests that were acknowledged and are being carried out.
    acknowledged: TaskTracker,
    /// The connection's place, kept by what goes on when the connection breaks.
    _place: OwnedSemaphorePermit,
}

/// The originators that policy allowed for as long as the generation lasts.
#[derive(Default)]
struct Kept {
    generation: u64,
    originators: Vec<String>,
}

impl Kept {
    fn allows(&self, generation: u64, originator: &str) -> bool {
        self.generation == generation && self.originators.iter().any(|o| o == originator)
    }

    fn keep(&mut self, generation: u64, originator: &str) {
        if self.generation != generation {
            *self = Self { generation, originators: Vec::new() };
        }
        if self.originators.len() < KEPT && !self.allows(generation, originator) {
            self.originators.push(originator.into());
        }
    }
}

impl Service {
    /// The service of an association.
    pub fn new(
        gateway: Arc<Gateway>,
        live: Arc<Live>,
        exported: Option<Exported>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let share = gateway.answers.share_of(&live.association.credential_id);
        Self {
            gateway,
            live,
            share,
            reserved: Mutex::default(),
            evicted: CancellationToken::new(),
            kept: Mutex::default(),
            begun: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            answering: AtomicBool::new(false),
            broken_off: AtomicBool::new(false),
            exported,
            registered: AtomicBool::new(false),
            acknowledged: TaskTracker::new(),
            _place: place,
        }
    }

    /// Whether a request has come.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether the last request came whole and was answered, so that what comes is the next.
    pub fn is_between_requests(&self) -> bool {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        is(&self.begun) && !is(&self.busy) && !is(&self.broken_off)
    }

    /// Whether a request has come whole whose answer has not been handed on yet.
    pub fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Relaxed)
    }

    /// The answer at hand has been handed on.
    pub fn has_answered(&self) {
        self.busy.store(false, Ordering::Relaxed);
        self.answering.store(false, Ordering::Relaxed);
    }

    /// Answers one request.
    pub async fn respond(self: Arc<Self>, request: Request<Incoming>) -> Response<Answer> {
        self.begun.store(true, Ordering::Relaxed);
        self.busy.store(true, Ordering::Relaxed);
        let (operation, response) = match self.read(request).await {
            // What changes who is who goes on when the connection breaks: an AE that is registered
            // and not bound would be out of reach for its own credential.
            Ok(request) if self.changes_who_is_who(&request).await => {
                let (operation, id) = (request.operation, request.request_id.clone());
                let own = self.clone();
                let done = tokio::spawn(async move { own.handle(request).await }).await;
                let failed = |_| {
                    let why = "the request could not be carried out";
                    ResponsePrimitive::refusal(&id, None, Rsc::InternalServerError, why)
                };
                (Some(operation), done.unwrap_or_else(failed))
            }
            Ok(request) => (Some(request.operation), self.handle(request).await),
            Err(refusal) => (None, refusal),
        };
        let reserved = self.reserved.lock().ok().and_then(|mut reserved| reserved.take());
        let (response, room) = self.with_room(response, reserved, &self.evicted);
        self.gateway.metrics.answered(operation, response.rsc);
        http_response(response, operation).map(|content| Answer::new(content, self, room))
    }

    /// Whether a request may change which AE a credential is: here, and nowhere else.
    async fn changes_who_is_who(&self, request: &RequestPrimitive) -> bool {
        let cse = &self.gateway.config.cse;
        if !request.to.is_at(&cse.cse_id, cse.service_provider.as_deref()) {
            return false;
        }
        match (request.operation, &self.gateway.upstream) {
            (Operation::Create, _) => request.creates(ResourceType::Ae),
            // What else is deleted here goes on for as long as somebody waits for it.
            (Operation::Delete, Upstream::Embedded { .. }) => self.is_its_own_ae(&request.to).await,
            (Operation::Delete, _) => true,
            _ => false,
        }
    }

    /// Reads a request whole, bounded in size and time.
    async fn read(
        &self,
        request: Request<Incoming>,
    ) -> Result<RequestPrimitive, ResponsePrimitive> {
        let limits = &self.gateway.config.limits;
        let (parts, body) = request.into_parts();
        let body = collect(body, limits.content_bytes);
        let patience = Duration::from_secs(limits.content_seconds);
        let body = match tokio::time::timeout(patience, body).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(NotCollected::TooLarge)) => {
                let why = format!("the content is larger than {} bytes", limits.content_bytes);
                Err((Rsc::BadRequest, why))
            }
            Ok(Err(NotCollected::BreaksOff)) => {
                Err((Rsc::BadRequest, "the content breaks off".into()))
            }
            Err(_) => Err((Rsc::RequestTimeout, "the content did not come in time".into())),
        };
        self.broken_off.store(body.is_err(), Ordering::Relaxed);
        self.answering.store(body.is_ok(), Ordering::Relaxed);
        let read = |body| read_whole(&parts, body);
        let (rsc, request_id, why) = match body {
            Ok(body) => match read(body) {
                Ok(mut request) => {
                    let association = &self.live.association;
                    request.source_address = Some(association.peer.ip());
                    request.credential = Some(AssociationCredential {
                        id: association.credential_id.clone(),
                        learns_ae_id: association.credential_entity() == &Entity::NotYetKnown,
                    });
                    if let Some(located) = self.located(&request.to).await {
                        request.to = located;
                    }
                    return Ok(request);
                }
                Err(e) => (e.rsc, e.request_id, e.why),
            },
            // Read without its content all the same: an answer repeats the request identifier.
            Err((rsc, why)) => {
                let id = read(Bytes::new()).map_or_else(|e| e.request_id, |r| Some(r.request_id));
                (rsc, id, why)
            }
        };
        let id = request_id.as_deref().unwrap_or_default();
        audit::request_refused(&self.live.association, id, None, rsc, &why);
        Err(ResponsePrimitive::refusal(&request_id.unwrap_or_default(), None, rsc, &why))
    }

    fn refuse(&self, request: &RequestPrimitive, rsc: Rsc, why: &str) -> ResponsePrimitive {
        let association = &self.live.association;
        let from = request.from.as_deref();
        audit::request_refused(association, &request.request_id, from, rsc, why);
        // What is wrong in here is for whoever runs it, and not for whoever asks.
        let failed = rsc == Rsc::InternalServerError;
        let told = if failed { "the request could not be carried out" } else { why };
        ResponsePrimitive::refusal(&request.request_id, request.release.as_deref(), rsc, told)
    }

    async fn handle(self: &Arc<Self>, mut request: RequestPrimitive) -> ResponsePrimitive {
        let cse = &self.gateway.config.cse;
        let own = request.to.is_at(&cse.cse_id, cse.service_provider.as_deref());
        // A MAF has addresses of its own.
        if own && self.gateway.config.authority.is_none() {
            // One form for policy and CSE alike, however the originator wrote it.
            request.to.scope = Scope::CseRelative;
        }
        // Taken once: the request sees one generation from start to end.
        let generation = self.gateway.policy.current();
        if let Err((rsc, why)) = self.check(&generation, &request).await {
            return self.refuse(&request, rsc, &why);
        }
        let answered = match &self.gateway.upstream {
            Upstream::Maf(maf) => self.at_maf(maf, &generation, request).await,
            Upstream::Embedded { .. } if own && is_asynchronous(&request) => {
                self.acknowledge(&generation, request).await
            }
            _ if own => {
                let mut room = None;
                let answered = self.here(&generation, request, &mut room).await;
                if let Ok(mut reserved) = self.reserved.lock() {
                    *reserved = room;
                }
                answered
            }
            _ => self.elsewhere(request).await,
        };
        tracing::debug!(
            event = "request.answered",
            association = self.live.association.id,
            request_id = answered.request_id,
            rsc = answered.rsc.code(),
        );
        answered
    }

    /// Whether the association holds in a generation, and speaks for whom it stood for.
    async fn stands(&self, generation: &Generation, creates_ae: bool) -> Result<(), (Rsc, String)> {
        let refused = |rsc, why: &str| Err((rsc, why.to_string()));
        match self.live.holds_in(generation).await {
            Standing::Holds => {}
            Standing::Ends => {
                let why = "the credential of this security association no longer holds";
                return refused(Rsc::OriginatorNotAuthenticated, why);
            }
            Standing::NotAsked => {
                return refused(Rsc::InternalServerError, "the request could not be checked");
            }
        }
        // It may register as the same AE again, and nothing else.
        if !creates_ae && self.live.has_lost_its_ae_id(&self.gateway.bindings) {
            let why = "the AE of this security association is registered no more";
            self.live.revoke(generation, why).await;
            return refused(Rsc::OriginatorNotAuthenticated, why);
        }
        Ok(())
    }

    /// All that is asked before the CSE is.
    async fn check(
        &self,
        generation: &Generation,
        request: &RequestPrimitive,
    ) -> Result<(), (Rsc, String)> {
        let creates_ae = request.creates(ResourceType::Ae);
        self.stands(generation, creates_ae).await?;
        if creates_ae && let Some(why) = self.has_one_already(request) {
            return Err((self.gateway.config.registrar.taken, why));
        }
        self.check_originator(generation, request).await?;
        self.check_passed_on(generation, request).await?;
        if request.content.as_ref().is_some_and(Content::is_security_information) {
            let why = "primitives that are protected end to end (ESPrim) are not taken";
            return Err((Rsc::EsprimImpersonationError, why.into()));
        }
        if creates_ae {
            self.check_registration(generation, request).await?;
        }
        self.check_announcement(generation, request).await
    }

    /// Who asks the CSE.
    fn asker(&self) -> Asker<'_> {
        Asker { credential: &self.live.association.credential_id, authority: self.live.authority() }
    }

    /// Has our own CSE carry a request out. `of_answer` gets the room
    /// that a large answer takes.
    async fn here(
        &self,
        generation: &Arc<Generation>,
        mut request: RequestPrimitive,
        of_answer: &mut Option<Reserved>,
    ) -> ResponsePrimitive {
        let creates_ae = request.creates(ResourceType::Ae);
        // An AE whose credential names no AE-ID gets the one that the registrar confirms, and for
        // good. One that it asks for is set aside before the registrar is asked.
        let learns =
            creates_ae && self.live.association.credential_entity() == &Entity::NotYetKnown;
        let registering = match learns.then(|| self.set_aside(&request, generation)) {
            None => None,
            Some(Ok(aside)) => Some(aside),
            Some(Err(taken)) => return self.refuse_taken(&request, &taken),
        };
        let announced = match self.announce(&request).await {
            Ok(announced) => announced,
            Err((rsc, why)) => return self.refuse(&request, rsc, &why),
        };
        if let Some(announced) = &announced {
            // The IN-CSE gives names of the whole service provider, but not one that is another's here.
            if learns && self.is_of_another(&announced.stem, generation) {
                return self.refuse_taken(&request, &Taken::ByAnother);
            }
            request.from = Some(announced.stem.to_string());
        }
        let deletes = match self.deletes_itself(&request).await {
            Ok(deletes) => deletes,
            Err(taken) => return self.refuse_taken(&request, &taken),
        };
        let to = registering.as_ref().map(|_| request.to.to_string()).unwrap_or_default();
        let name =
            registering.as_ref().and_then(|_| attribute(request.content.as_ref()?.bytes(), "rn"));
        let patience = Duration::from_secs(self.gateway.config.limits.upstream_seconds);
        let room = match self.reserve_room(&request, patience).await {
            Ok(room) => room,
            Err((rsc, why)) => {
                self.withdraw(announced);
                return self.refuse(&request, rsc, &why);
            }
        };
        // What was asked took its time, and the association may have ended meanwhile.
        let current = self.gateway.policy.current();
        if let Err((rsc, why)) = self.stands(&current, creates_ae).await {
            self.withdraw(announced);
            return self.refuse(&request, rsc, &why);
        }
        let renews = match request.operation {
            Operation::Update => self.announced_at(&request.to).await,
            _ => None,
        };
        if let Some(door) = self.gateway.door.get() {
            relay::enter(&mut request, &self.live.association.credential_id, door);
        }
        let place = Place { to, name };
        let intent = self.intend(&request, registering.as_ref(), &place, deletes.as_ref()).await;
        if let Err(error) = intent {
            self.withdraw(announced);
            return self.refuse_taken(&request, &error.into());
        }
        let asked = registering.as_ref().map(|_| request.clone());
        let passed_on = Instant::now();
        let outcome = self.gateway.upstream.handle(request, self.asker(), patience).await;
        let Outcome { response, is_answered } = outcome;
        self.gateway.metrics.upstream(passed_on.elapsed());
        *of_answer = room;
        match response.rsc {
            Rsc::Created => {
                if let (Some(aside), Some(asked)) = (registering, asked)
                    && let Err(taken) = self.learn(aside, &place, &response, generation).await
                {
                    self.withdraw(announced);
                    return self.refuse_taken(&asked, &taken);
                }
                if let Some(announced) = announced {
                    self.announce_until(&announced.stem, &response);
                }
            }
            Rsc::Updated => {
                if let Some(stem) = renews {
                    self.announce_until(&stem, &response);
                }
            }
            Rsc::Deleted => self.has_deleted(deletes, generation).await,
            rsc => {
                self.has_not((rsc, is_answered), registering, deletes, generation).await;
                // Somebody has registered under the name meanwhile, whose announcement it is now.
                if !matches!(rsc, Rsc::OriginatorHasAlreadyRegistered | Rsc::Conflict) {
                    self.withdraw(announced);
                }
            }
        }
        response
    }

    /// Reserves room for the answer of the embedded registrar, where it may be a large one.
    async fn reserve_room(
        &self,
        request: &RequestPrimitive,
        patience: Duration,
    ) -> Result<Option<Reserved>, (Rsc, String)> {
        if self.gateway.upstream.registrar().is_none() || !may_be_large(request) {
            return Ok(None);
        }
        match self.share.reserve(patience).await {
            Some(room) => Ok(Some(room)),
            None => Err((Rsc::RequestTimeout, UNREAD.into())),
        }
    }

    /// Returns an answer with the room that it takes, or a refusal where the credential has none for it.
    fn with_room(
        &self,
        response: ResponsePrimitive,
        reserved: Option<Reserved>,
        evicted: &CancellationToken,
    ) -> (ResponsePrimitive, Option<Room>) {
        let bytes = response.content.as_ref().map_or(0, Bytes::len);
        match self.share.hold(reserved, bytes, evicted) {
            Ok(room) => (response, room),
            Err(NoRoom) => {
                let (id, release) = (&response.request_id, response.release.as_deref());
                (ResponsePrimitive::refusal(id, release, Rsc::RequestTimeout, UNREAD), None)
            }
        }
    }

    /// Waits until an answer of this association has to make room for others'.
    pub async fn answer_evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// Asks policy whether the request may speak in the name of its From.
    async fn check_originator(
        &self,
        generation: &Generation,
        request: &RequestPrimitive,
    ) -> Result<(), (Rsc, String)> {
        // What an allowance for an originator covers, whatever a module says.
        let names_nobody = |c: &Content| c.named_originators().is_empty();
        let registers = [ResourceType::Ae, ResourceType::RemoteCse, ResourceType::AeAnnc]
            .into_iter()
            .any(|kind| request.creates(kind));
        let covered = request.content.as_ref().is_none_or(names_nobody) && !registers;
        let keepable = request.from.as_deref().filter(|_| covered);
        if let Some(from) = keepable
            && let Ok(kept) = self.kept.lock()
            && kept.allows(generation.number, from)
        {
            return Ok(());
        }
        let verdict = generation.check_originator(&self.live.association, request).await;
        if let (Verdict::Allow(Allowance::Originator), Some(from)) = (&verdict, keepable)
            && let Ok(mut kept) = self.kept.lock()
        {
            kept.keep(generation.number, from);
        }
        allowed(verdict)
    }
}

/// Reads a request primitive out of a request of HTTP.
pub fn read_whole(parts: &Parts, body: Bytes) -> Result<RequestPrimitive, BindingError> {
    let request = read_request(&parts.method, &parts.uri, &parts.headers, body)?;
    match check_host(parts.version, &parts.headers) {
        Ok(()) => Ok(request),
        Err(e) => Err(BindingError { request_id: Some(request.request_id), ..e }),
    }
}

/// The HTTP response that carries the answer to a request of that operation.
pub fn http_response(
    response: ResponsePrimitive,
    operation: Option<Operation>,
) -> http::Response<Bytes> {
    let mut response = write_response(response);
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, allowed_methods(operation));
    }
    response
}

fn allowed(verdict: Verdict) -> Result<(), (Rsc, String)> {
    match verdict {
        Verdict::Allow(_) => Ok(()),
        Verdict::Deny { rsc, reason, .. } => Err((Rsc::from_code(rsc), reason)),
        Verdict::Failed { module, fault } => {
            audit::module_failed(&module, &fault);
            Err((Rsc::InternalServerError, "the request could not be checked".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowances_are_kept_for_one_generation_and_bounded() {
        let mut kept = Kept::default();
        kept.keep(1, "Ca");
        assert!(kept.allows(1, "Ca"));
        assert!(!kept.allows(1, "Cb"));
        assert!(!kept.allows(2, "Ca"));
        kept.keep(2, "Cb");
        assert!(!kept.allows(2, "Ca"));
        for n in 0..100 {
            kept.keep(2, &format!("C{n}"));
        }
        assert_eq!(kept.originators.len(), KEPT);
    }
}
