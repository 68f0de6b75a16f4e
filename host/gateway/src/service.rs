//! From a request to its response: primitive, verdict, CSE.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use saegis_onem2m::credential::Entity;
use saegis_onem2m::http::{read_request, write_response};
use saegis_onem2m::id::{AeIdStem, From};
use saegis_onem2m::primitive::{Content, Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::{Scope, Target};
use saegis_policy::{Allowance, Generation, Registration, Verdict};

use crate::associations::{Live, Standing};
use crate::audit;
use crate::bindings::{SetAside, Taken, log_failure};
use crate::gateway::Gateway;
use crate::rules::NotHad;

/// Most originators of one association whose allowance is kept.
const KEPT: usize = 16;

/// Serves the requests of one association.
pub struct Service {
    gateway: Arc<Gateway>,
    live: Arc<Live>,
    kept: Mutex<Kept>,
    begun: AtomicBool,
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
    pub fn new(gateway: Arc<Gateway>, live: Arc<Live>) -> Self {
        Self { gateway, live, kept: Mutex::default(), begun: AtomicBool::new(false) }
    }

    /// Whether a request has come.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Answers one request.
    pub async fn respond(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.begun.store(true, Ordering::Relaxed);
        let (operation, response) = match self.read(request).await {
            // What changes who is who goes on when the connection breaks: an AE that is registered
            // and not bound would be out of reach for its own credential.
            Ok(request) if changes_who_is_who(&request) => {
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
        self.gateway.metrics.answered(operation, response.rsc);
        write_response(response).map(Full::new)
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
        let read = |body| read_request(&parts.method, &parts.uri, &parts.headers, body);
        let (rsc, request_id, why) = match body {
            Ok(body) => match read(body) {
                Ok(request) => return Ok(request),
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
        ResponsePrimitive::refusal(&request.request_id, request.release.as_deref(), rsc, why)
    }

    async fn handle(&self, mut request: RequestPrimitive) -> ResponsePrimitive {
        let cse = &self.gateway.config.cse;
        let own = request.to.is_at(&cse.cse_id, cse.service_provider.as_deref());
        if own {
            // One form for policy and CSE alike, however the originator wrote it.
            request.to.scope = Scope::CseRelative;
        }
        // Taken once: the request sees one generation from start to end.
        let generation = self.gateway.policy.current();
        match self.live.holds_in(&generation).await {
            Standing::Holds => {}
            Standing::Ends => {
                let why = "the credential of this security association no longer holds";
                return self.refuse(&request, Rsc::OriginatorNotAuthenticated, why);
            }
            Standing::NotAsked => {
                let why = "the request could not be checked";
                return self.refuse(&request, Rsc::InternalServerError, why);
            }
        }
        let creates_ae = request.creates(ResourceType::Ae);
        // It may register as the same AE again, and nothing else.
        if !creates_ae && self.live.has_lost_its_ae_id(&self.gateway.bindings) {
            let why = "the AE of this security association is registered no more";
            self.live.revoke(&generation, why);
            return self.refuse(&request, Rsc::OriginatorNotAuthenticated, why);
        }
        if creates_ae && let Some(why) = self.has_one_already(&request) {
            return self.refuse(&request, self.gateway.config.registrar.taken, &why);
        }
        if let Err((rsc, why)) = self.check_originator(&generation, &request).await {
            return self.refuse(&request, rsc, &why);
        }
        if request.content.as_ref().is_some_and(Content::is_security_information) {
            let why = "primitives that are protected end to end (ESPrim) are not taken";
            return self.refuse(&request, Rsc::EsprimImpersonationError, why);
        }
        if creates_ae && let Err((rsc, why)) = self.check_registration(&generation, &request).await
        {
            return self.refuse(&request, rsc, &why);
        }
        if !own {
            return self.refuse(&request, Rsc::TargetNotReachable, "no way to that CSE is known");
        }
        // An AE whose credential names no AE-ID gets the one that the registrar confirms, and for
        // good. One that it asks for is set aside before the registrar is asked.
        let learns =
            creates_ae && self.live.association.credential_entity() == &Entity::NotYetKnown;
        let registering = match learns.then(|| self.set_aside(&request, &generation)) {
            None => None,
            Some(Ok(aside)) => Some(aside),
            Some(Err(taken)) => return self.refuse_taken(&request, &taken),
        };
        let deletes = request.operation == Operation::Delete;
        let deletes_itself = deletes && self.is_its_own_ae(&request.to).await;
        let to = registering.as_ref().map(|_| request.to.to_string()).unwrap_or_default();
        let name =
            registering.as_ref().and_then(|_| attribute(request.content.as_ref()?.bytes(), "rn"));
        let patience = Duration::from_secs(self.gateway.config.limits.upstream_seconds);
        let passed_on = Instant::now();
        let response = self.gateway.upstream.handle(request, patience).await;
        self.gateway.metrics.upstream(passed_on.elapsed());
        match (registering, response.rsc) {
            (Some(aside), Rsc::Created) => {
                self.learn(aside, &to, name, &response, &generation).await;
            }
            (None, Rsc::Deleted) if deletes_itself => self.free_deleted(&generation).await,
            _ => {}
        }
        tracing::debug!(
            event = "request.answered",
            association = self.live.association.id,
            request_id = response.request_id,
            rsc = response.rsc.code(),
        );
        response
    }

    /// Asks policy whether the request may speak in the name of its From.
    async fn check_originator(
        &self,
        generation: &Generation,
        request: &RequestPrimitive,
    ) -> Result<(), (Rsc, String)> {
        // What an allowance for an originator covers, whatever a module says.
        let names_nobody = |c: &Content| c.named_originators().is_empty();
        let registers =
            request.creates(ResourceType::Ae) || request.creates(ResourceType::RemoteCse);
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

    /// Asks policy whether the AE may register.
    async fn check_registration(
        &self,
        generation: &Generation,
        request: &RequestPrimitive,
    ) -> Result<(), (Rsc, String)> {
        let api = request.content.as_ref().and_then(|c| attribute(c.bytes(), "api"));
        // The representation is looked at after the service subscription (TS-0004 clause 7.2.2.2).
        let app_id = api.clone().unwrap_or_default();
        if app_id.len() > MAX_APP_ID {
            let why = format!("the App-ID (api) is longer than {MAX_APP_ID} bytes");
            return Err((Rsc::BadRequest, why));
        }
        let rules = match self.gateway.rules.rules().await {
            Ok(rules) => rules,
            Err(NotHad) => {
                let why = "the request could not be checked";
                return Err((Rsc::InternalServerError, why.into()));
            }
        };
        let registration = Registration { from: request.from.clone(), app_id, rules };
        allowed(generation.check_registration(&self.live.association, &registration).await)?;
        match api {
            Some(_) => Ok(()),
            None => Err((Rsc::BadRequest, "the AE has no App-ID (api)".into())),
        }
    }

    /// Sets the AE-ID aside that a registration asks for, if it asks for one.
    fn set_aside(
        &self,
        request: &RequestPrimitive,
        generation: &Generation,
    ) -> Result<SetAside, Taken> {
        let credential = &self.live.association.credential_id;
        let wanted = match request.from.as_deref().map(From::parse) {
            Some(Ok(From::Stem(stem))) => AeIdStem::parse(stem).ok(),
            _ => None,
        };
        if wanted.as_ref().is_some_and(|stem| self.is_of_another(stem, generation)) {
            return Err(Taken::ByAnother);
        }
        self.gateway.bindings.set_aside(credential, wanted)
    }

    /// Whether the AE-ID is given away already by what is no registration: it is in a table, an
    /// administrator's, or what the credential of a live association names.
    fn is_of_another(&self, stem: &AeIdStem, generation: &Generation) -> bool {
        let credential = &self.live.association.credential_id;
        generation.reserves(stem)
            || self.gateway.config.registrar.administrators.contains(stem)
            || self.gateway.associations.stands_for_another(stem, credential)
    }

    fn refuse_taken(&self, request: &RequestPrimitive, taken: &Taken) -> ResponsePrimitive {
        match taken {
            Taken::ByAnother | Taken::HasAnother => {
                self.refuse(request, self.gateway.config.registrar.taken, &taken.to_string())
            }
            Taken::Failed(error) => {
                log_failure(error);
                self.refuse(request, Rsc::InternalServerError, "the AE-ID could not be kept")
            }
        }
    }

    /// An AE that is registered already, and asks to be given an AE-ID again, is told which it has:
    /// after it has lost its memory it can go on.
    fn has_one_already(&self, request: &RequestPrimitive) -> Option<String> {
        let association = &self.live.association;
        let wants_one = match request.from.as_deref() {
            None => true,
            Some(from) => matches!(
                From::parse(from),
                Ok(From::AssignByRegistrar | From::AssignByServiceProvider)
            ),
        };
        match (association.credential_entity(), association.entity()) {
            (Entity::NotYetKnown, Entity::Ae(stem)) if wants_one => Some(format!(
                "the association stands for {stem}; to register again, write that as From"
            )),
            _ => None,
        }
    }

    /// Learns the AE-ID that a registrar confirmed: the one asked for, or the one that its answer
    /// names.
    async fn learn(
        &self,
        aside: SetAside,
        to: &str,
        name: Option<String>,
        response: &ResponsePrimitive,
        generation: &Generation,
    ) {
        let association = &self.live.association;
        let credential = &association.credential_id;
        let told = |what: &str| response.content.as_ref().and_then(|c| attribute(c, what));
        // Our registrar ends the address of an AE in its AE-ID; others tell it in the content.
        let address = response.content_location.clone();
        let address = address.filter(|_| self.gateway.upstream.registrar().is_some());
        let last = |text: String| text.rsplit('/').next().map(ToString::to_string);
        let stem = told("aei").or(address.clone()).and_then(last);
        let stem = stem.and_then(|text| AeIdStem::parse(&text).ok());
        let stem = stem.or_else(|| aside.asked_for());
        let Some(stem) = stem else {
            let why = "the answer to the registration names no AE-ID";
            return audit::nothing_learnt(association, why);
        };
        if self.is_of_another(&stem, generation) {
            return audit::nothing_learnt(association, &Taken::ByAnother.to_string());
        }
        // Where the AE's resource is, to know when it is deleted.
        let named = told("rn").or(name).map(|name| format!("{to}/{name}"));
        let places = named.into_iter().chain(told("ri").or(address).and_then(last)).collect();
        match aside.confirm(stem.clone(), places).await {
            Ok(()) if self.gateway.associations.stands_for_another(&stem, credential) => {
                // It has come while the binding was written, and goes before it.
                if let Err(error) = self.gateway.bindings.free(credential).await {
                    log_failure(&error);
                }
                audit::nothing_learnt(association, &Taken::ByAnother.to_string());
            }
            Ok(()) => {
                audit::bound(credential, &stem);
                self.gateway.associations.learn(credential, &stem);
                // Read after learning: a later generation sees what was learnt by itself.
                self.live.end_if_reserved(&self.gateway.policy.current());
            }
            Err(taken) => {
                if let Taken::Failed(error) = &taken {
                    log_failure(error);
                }
                audit::nothing_learnt(association, &taken.to_string());
            }
        }
    }

    /// Whether the resource at an address is the AE that this association has learnt to stand for.
    /// Another CSE's resources are known by the addresses that it told at the registration.
    async fn is_its_own_ae(&self, to: &Target) -> bool {
        let association = &self.live.association;
        let (Entity::NotYetKnown, Entity::Ae(own)) =
            (association.credential_entity(), association.entity())
        else {
            return false;
        };
        match self.gateway.upstream.registrar() {
            None => self.gateway.bindings.is_at(&association.credential_id, &to.to_string()),
            Some(registrar) => {
                let (registrar, to) = (registrar.clone(), to.clone());
                let look = move || registrar.ae_at(&to, SystemTime::now());
                let found = tokio::task::spawn_blocking(look).await;
                matches!(found, Ok(Ok(Some(stem))) if stem == own.as_str())
            }
        }
    }

    /// The AE of this association is no more, and so its credential is free to be another one. The
    /// credential's other associations end; this one has to be answered, and may register again.
    async fn free_deleted(&self, generation: &Generation) {
        let credential = &self.live.association.credential_id;
        match self.gateway.bindings.free(credential).await {
            Ok(Some(binding)) => {
                let why = "its AE was deleted";
                audit::binding_freed(credential, &binding.stem, why);
                let this = Some(self.live.association.id);
                self.gateway.associations.forget(credential, this, generation, why);
            }
            Ok(None) => {}
            Err(error) => log_failure(&error),
        }
    }
}

/// Why there is no content.
enum NotCollected {
    TooLarge,
    BreaksOff,
}

/// How much of a content that is too large is read and thrown away, in bytes: whoever sends it hears
/// the answer only when it has sent it.
const MOST_DISCARDED: usize = 4 << 20;

/// Reads a content of at most so many bytes.
async fn collect(mut body: Incoming, most: usize) -> Result<Bytes, NotCollected> {
    let mut content = BytesMut::new();
    let mut discarded = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| NotCollected::BreaksOff)?;
        let Ok(data) = frame.into_data() else { continue };
        if discarded == 0 && content.len() + data.len() <= most {
            content.extend_from_slice(&data);
        } else {
            content = BytesMut::new();
            discarded += data.len();
            if discarded > MOST_DISCARDED {
                break;
            }
        }
    }
    if discarded > 0 { Err(NotCollected::TooLarge) } else { Ok(content.freeze()) }
}

/// Whether a request may change which AE a credential is.
fn changes_who_is_who(request: &RequestPrimitive) -> bool {
    request.creates(ResourceType::Ae) || request.operation == Operation::Delete
}

/// Longest App-ID that policy is asked about, in bytes.
const MAX_APP_ID: usize = 256;

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

/// A text attribute of the AE in a content.
fn attribute(content: &Bytes, name: &str) -> Option<String> {
    let content = serde_json::from_slice::<serde_json::Value>(content).ok()?;
    Some(content.get(ResourceType::Ae.root())?.get(name)?.as_str()?.into())
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
