//! Requests that are acknowledged immediately and whose results follow later (TS-0001 clause 8.2.2):
//! they are sent (Response Type nonBlockingRequestAsynch), or fetched by the originator
//! (nonBlockingRequestSynch). A `<request>` stores the result of a registree.
//!
//! A request whose result is sent is accepted only if each target of the result is reachable. The
//! targets are the originator, or the notification targets of its Response Type.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use saegis_onem2m::id::{CseId, OriginatorId};
use saegis_onem2m::parameter::Parameter;
use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::Target;
use saegis_onem2m::timestamp::{is_immediate, parse_relative};
use serde_json::json;

use crate::access::decision::{Originator, require};
use crate::access::grants::Access;
use crate::budget::RequestBudget;
use crate::error::Refusal;
use crate::notification::long_poll;
use crate::notification::message::{Destination, Notification};
use crate::notification::outbox::Outbox;
use crate::notification::point_of_access::{Route, route_to_ae, route_to_others};
use crate::record::Seconds;
use crate::request::checks::{check_expiration, check_release};
use crate::request::parameters::{OptionError, Options};
use crate::resource::address::{self, Resolved};
use crate::resource::notification_target::NotificationTarget;
use crate::resource::registrant;
use crate::resource::schema::ORIGINATOR;
use crate::resource::tables::MAX_TARGETS;
use crate::state::State;
use crate::store::Read;

/// Short name of the Response Type, and its values nonBlockingRequestSynch and
/// nonBlockingRequestAsynch.
const RESPONSE_TYPE: &str = "rt";
const FETCHED: u64 = 1;
const SENT: u64 = 2;

/// Short name of the Result Persistence.
pub(crate) const PERSISTENCE: &str = "rp";

/// Maximum time until the execution of a request (Operation Execution Time).
const MAX_DELAY: Duration = Duration::from_secs(60 * 60);

/// Returns the Response Type of a request, if it has a single one.
fn response_type(request: &RequestPrimitive) -> Option<u64> {
    let mut found = request.options.iter().filter(|(name, _)| name == RESPONSE_TYPE);
    // A duplicate is refused later, together with those of other options.
    let (Some((_, value)), None) = (found.next(), found.next()) else { return None };
    match value.as_slice() {
        [one] => one.parse().ok(),
        _ => None,
    }
}

/// Returns whether a request requires an immediate acknowledgment and a later result.
#[must_use]
pub fn is_non_blocking(request: &RequestPrimitive) -> bool {
    matches!(response_type(request), Some(FETCHED | SENT))
}

/// A non-blocking request that may be acknowledged, with the targets of its result.
#[derive(Debug)]
pub struct NonBlockingRequest {
    /// Request as the originator sent it.
    original: RequestPrimitive,
    request: RequestPrimitive,
    recipients: ResultTargets,
    execute_at: Option<SystemTime>,
}

/// The targets of the result of a request.
#[derive(Debug)]
pub struct ResultTargets {
    targets: Vec<Route>,
    originator: String,
    /// Address of the request's target.
    about: String,
    /// Whether a `<request>` stores the result even if all targets have received it.
    is_kept: bool,
    /// Resource-ID of the `<request>`.
    stored: Option<String>,
}

impl ResultTargets {
    /// Returns the resource-ID of the `<request>`.
    pub(crate) fn stored(&self) -> Option<&str> {
        self.stored.as_deref()
    }

    /// Returns whether the `<request>` stores the result even if all targets have received it.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept
    }
}

impl NonBlockingRequest {
    /// Returns whether the originator fetches the result.
    pub(crate) fn is_fetched(&self) -> bool {
        response_type(&self.original) == Some(FETCHED)
    }

    /// Returns the time at which the request is to be executed, if not at once.
    #[must_use]
    pub fn execute_at(&self) -> Option<SystemTime> {
        self.execute_at
    }

    /// Returns the request as the originator sent it.
    pub(crate) fn original(&self) -> &RequestPrimitive {
        &self.original
    }

    /// Sets the resource-ID of the `<request>`.
    pub(crate) fn stored_as(mut self, ri: String) -> Self {
        self.recipients.stored = Some(ri);
        self
    }

    /// Returns the acknowledgment: the address of the `<request>`, if there is one.
    #[must_use]
    pub fn acknowledgment(&self, cse: &CseId) -> ResponsePrimitive {
        let rsc = if self.is_fetched() { Rsc::AcceptedSync } else { Rsc::AcceptedAsync };
        let mut response = ResponsePrimitive::to(&self.request, rsc);
        if let Some(ri) = &self.recipients.stored {
            let uri = json!({ "m2m:uri": format!("{cse}/{ri}") });
            response.content = Some(uri.to_string().into());
        }
        response
    }

    /// Returns the addresses to which the result will be sent. The sender checks that it may send
    /// there before it acknowledges the request.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        self.recipients.targets.iter().filter_map(|target| match target {
            Route::Send(there, _) => Some(there),
            Route::PollingChannel { .. } | Route::Unreachable(_) => None,
        })
    }

    /// Returns the request in its blocking form, and the targets of the result.
    #[must_use]
    pub fn into_parts(self) -> (RequestPrimitive, ResultTargets) {
        (self.request, self.recipients)
    }
}

/// Decides whether a non-blocking request is acknowledged, at the time `now`. The request is not
/// executed. Blocks on the disk.
///
/// # Errors
/// Returns the refusal.
pub(crate) fn accept(
    state: &State,
    request: RequestPrimitive,
    budget: &RequestBudget,
    now: Seconds,
) -> Result<NonBlockingRequest, Box<ResponsePrimitive>> {
    let mut blocking = request.clone();
    blocking.options.retain(|(name, _)| name != RESPONSE_TYPE);
    let is_fetched = response_type(&request) == Some(FETCHED);
    let accepted = execution_time(&request, now).and_then(|execute_at| {
        let others = request.parameters.iter();
        let others = others.filter(|(name, _)| *name != Parameter::ExecutionTime);
        blocking.parameters = others.map(|(name, value)| (name, value.to_owned())).collect();
        Ok((recipients(state, &blocking, is_fetched, budget, now)?, execute_at))
    });
    match accepted {
        Ok((recipients, execute_at)) => {
            Ok(NonBlockingRequest { original: request, request: blocking, recipients, execute_at })
        }
        Err(refusal) => Err(Box::new(state.refuse(&request, &refusal))),
    }
}

/// Returns the time at which a request is to be executed, if not at once.
fn execution_time(request: &RequestPrimitive, now: Seconds) -> Result<Option<SystemTime>, Refusal> {
    check_expiration(request, now)?;
    let asked = request.parameters.get(Parameter::ExecutionTime);
    let Some(text) = asked.filter(|text| !is_immediate(text)) else { return Ok(None) };
    let now = UNIX_EPOCH + Duration::from_secs(now);
    // Checked before.
    let at = parse_relative(text, now).map_err(|_| OptionError::Value("oet"))?;
    if at > now + MAX_DELAY {
        return Err(Refusal::NotAcceptable("an execution time is at most an hour ahead"));
    }
    Ok(Some(at))
}

fn recipients(
    state: &State,
    request: &RequestPrimitive,
    is_fetched: bool,
    budget: &RequestBudget,
    now: Seconds,
) -> Result<ResultTargets, Refusal> {
    check_release(request, &state.settings)?;
    check_expiration(request, now)?;
    if long_poll::channel(&request.to).is_some() {
        let why = "a polling channel requires a blocking request";
        return Err(Refusal::NotImplemented(why));
    }
    if request.operation != Operation::Notify {
        Options::read(request, &state.settings.definitions)?;
    }
    let snapshot = state.store.snapshot(budget)?;
    check_target(state, snapshot.read(), request, now)?;
    let targets = match is_fetched {
        true => Vec::new(),
        false => result_targets(state, snapshot.read(), request, now)?,
    };
    let persists = request.options.iter().any(|(name, _)| name == PERSISTENCE);
    Ok(ResultTargets {
        is_kept: persists || targets.is_empty(),
        targets,
        originator: request.from.clone().unwrap_or_default(),
        about: request.to.to_string(),
        stored: None,
    })
}

/// Checks that the target is not a `<request>` of the originator (TS-0004 clause 7.4.12.2).
fn check_target(
    state: &State,
    read: &dyn Read,
    request: &RequestPrimitive,
    now: Seconds,
) -> Result<(), Refusal> {
    match address::resolve(read, &state.settings, &request.to, now) {
        Ok(Resolved::Resource(found))
            if found.record.ty == ResourceType::Request
                && found.record.texts(ORIGINATOR).next() == request.from.as_deref() =>
        {
            Err(OptionError::Value(RESPONSE_TYPE).into())
        }
        _ => Ok(()),
    }
}

fn result_targets(
    state: &State,
    read: &dyn Read,
    request: &RequestPrimitive,
    now: Seconds,
) -> Result<Vec<Route>, Refusal> {
    let Some(named) = request.parameters.get(Parameter::ResponseTargets) else {
        return Ok(vec![reachable(route_to_originator(state, read, request, now)?)?]);
    };
    let mut targets = Vec::new();
    if named.is_empty() {
        // The result is not sent.
        return Ok(targets);
    }
    for (n, text) in named.split('&').enumerate() {
        if n == MAX_TARGETS {
            return Err(OptionError::Value(Parameter::ResponseTargets.short_name()).into());
        }
        let target = reachable(route_to_target(state, read, request, text.trim(), now)?)?;
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    Ok(targets)
}

/// Returns the route to the originator.
fn route_to_originator(
    state: &State,
    read: &dyn Read,
    request: &RequestPrimitive,
    now: Seconds,
) -> Result<Route, Refusal> {
    let from = request.from.as_deref().ok_or(Refusal::NoOriginator)?;
    OriginatorId::parse(from).map_err(Refusal::Originator)?;
    let target = Target::from_address(from).map_err(|_| Refusal::NoOriginator)?;
    match registrant::ae_at(read, &state.settings, &target, now)? {
        Some(ae) if registrant::belongs_to_another(&ae.record, request) => {
            Ok(Route::Unreachable("it is registered with another credential"))
        }
        Some(ae) => {
            let route = route_to_ae(read, now, ae.record)?;
            // The result is for the credential that asked, whoever has its AE-ID by then.
            Ok(match &request.credential {
                Some(credential) => route.only_to(&credential.id),
                None => route,
            })
        }
        None => {
            let address = NotificationTarget::Resource(target);
            Ok(route_to_others(read, &state.settings, now, &address, from)?)
        }
    }
}

/// Returns the route to a notification target of the Response Type. An AE other than the originator
/// receives the result only if the originator may notify it.
fn route_to_target(
    state: &State,
    read: &dyn Read,
    request: &RequestPrimitive,
    text: &str,
    now: Seconds,
) -> Result<Route, Refusal> {
    if Some(text) == request.from.as_deref() {
        return route_to_originator(state, read, request, now);
    }
    let name = Parameter::ResponseTargets.short_name();
    let address = NotificationTarget::parse(name, text).map_err(|refusal| match refusal {
        Refusal::Invalid { .. } => OptionError::Value(name).into(),
        unsupported => unsupported,
    })?;
    let NotificationTarget::Resource(target) = &address else {
        let from = request.from.as_deref().ok_or(Refusal::NoOriginator)?;
        return Ok(route_to_others(read, &state.settings, now, &address, from)?);
    };
    match registrant::ae_at(read, &state.settings, target, now)? {
        Some(ae) => {
            let who = Originator::of_request(read, &state.settings, request, now)?;
            require(&who, Access::Notify, &ae.record)?;
            Ok(route_to_ae(read, now, ae.record)?)
        }
        None => Ok(Route::Unreachable("rt.nu must name http:// addresses or AEs of this CSE")),
    }
}

/// Puts the result of an accepted request into the polling channels of its targets. Returns the
/// notifications for the other targets, and the number of channels without space for the result.
pub(crate) fn result(
    state: &State,
    to: &ResultTargets,
    response: &ResponsePrimitive,
) -> (Vec<Notification>, usize) {
    let settings = &state.settings;
    let content = written(&settings.cse_id.to_string(), &to.originator, response);
    let (mut notifications, mut all_lost) = (Vec::new(), 0);
    for target in &to.targets {
        let is_channel = matches!(target, Route::PollingChannel { .. });
        let outbox = Outbox::default();
        outbox.send(settings, target.clone(), &to.about, &content.clone().into());
        let (sent, lost) = outbox.post(state);
        notifications.extend(sent);
        all_lost += lost;
        if is_channel && lost > 0 {
            // The originator then learns at least that the request is done.
            let why = "the queue of the polling channel has no space for the result";
            let (id, release) = (&response.request_id, response.release.as_deref());
            let refusal = ResponsePrimitive::refusal(id, release, Rsc::NotAcceptable, why);
            let content = written(&settings.cse_id.to_string(), &to.originator, &refusal);
            let outbox = Outbox::default();
            outbox.send(settings, target.clone(), &to.about, &content.into());
            let _ = outbox.post(state);
        }
    }
    (notifications, all_lost)
}

fn reachable(target: Route) -> Result<Route, Refusal> {
    match target {
        Route::Unreachable(why) => Err(Refusal::NoResultTarget(why)),
        reached => Ok(reached),
    }
}

/// Serializes a response primitive as the content of a notification (TS-0004 clause 8.4).
fn written(from: &str, to: &str, response: &ResponsePrimitive) -> Bytes {
    json!({ "m2m:rsp": saegis_onem2m::serialization::json_response(response, from, Some(to)) })
        .to_string()
        .into()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::{Bench, LIGHT1, request};

    fn retrieve(path: &str) -> RequestPrimitive {
        request(Operation::Retrieve, path, Some(LIGHT1), None)
    }

    #[test]
    fn response_type_is_single_number() {
        for (query, asynchronous) in [
            ("rt=2", true),
            ("rcn=1&rt=02", true),
            ("", false),
            ("rt=1", true),
            ("rt=4", false),
            ("rt=3", false),
            ("rt=x", false),
            ("rt=2&rt=2", false),
            ("rt=2&rt=3", false),
        ] {
            let request = retrieve(&format!("/cse?{query}"));
            assert_eq!(is_non_blocking(&request), asynchronous, "{query}");
        }
    }

    #[test]
    fn oversized_result_for_polling_channel_is_reported() {
        let bench = Bench::with_lights();
        let channel = json!({"m2m:pch": {"rn": "queue"}});
        assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 15, channel).code, 2001);
        let told = |content: Value| {
            let ask = retrieve("/cse/light1?rt=2");
            let accepted = bench.cse().accept(ask, &bench.budget(), bench.time()).unwrap();
            assert_eq!(accepted.destinations().count(), 0);
            let (blocking, recipients) = accepted.into_parts();
            assert!(blocking.options.is_empty());
            let mut response = ResponsePrimitive::to(&blocking, Rsc::Ok);
            response.content = Some(content.to_string().into());
            assert!(bench.cse().result(&recipients, &response, bench.time()).results.is_empty());
            let poll = retrieve("/cse/light1/queue/pcu");
            let crate::Handled::Wait(poll) = bench.handle(&poll) else {
                panic!("it does not wait")
            };
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            match Future::poll(std::pin::pin!(poll), &mut context) {
                std::task::Poll::Ready(answer) => {
                    let content = answer.response.content.unwrap();
                    let content: Value = serde_json::from_slice(&content).unwrap();
                    content["m2m:rqp"]["pc"]["m2m:rsp"].clone()
                }
                std::task::Poll::Pending => panic!("nothing came"),
            }
        };
        assert_eq!(told(json!({"m2m:ae": {}}))["pc"], json!({"m2m:ae": {}}));
        let large = told(json!({"m2m:ae": {"x": "x".repeat(1 << 20)}}));
        assert_eq!((&large["rsc"], &large["rqi"]), (&json!(5207), &json!("r1")), "{large}");
    }
}
