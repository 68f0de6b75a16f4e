//! The fan-out point of a group, through which one request is sent to all members (TS-0004 clause
//! 7.4.14).

use std::time::{Duration, Instant};

use saegis_onem2m::primitive::{Content, Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::serialization::json_response;
use saegis_onem2m::target::{Scope, Target};

use crate::access::decision::{Originator, require};
use crate::access::grants::Access;
use crate::budget::{RequestBudget, StopReason};
use crate::error::Refusal;
use crate::notification::answer::{Answer, Outcome};
use crate::notification::forwarding;
use crate::notification::message::Notification;
use crate::notification::outbox;
use crate::notification::subscription;
use crate::notification::verification::Verified;
use crate::operation::error::OperationError;
use crate::operation::execute::{Approval, execute};
use crate::operation::group::{FAN_OUT, is_local};
use crate::record::names::Reference;
use crate::record::{Record, Seconds};
use crate::request::context::Context;
use crate::request::parameters::Options;
use crate::resource::address::{self, Resolved};
use crate::resource::schema::MEMBERS;
use crate::state::State;
use crate::store::StoreError;

/// Maximum size of all members' responses, in bytes.
const MAX_RESPONSE_BYTES: usize = 4 << 20;

/// Time for which a request to a group is executed until other requests have their turn. A started
/// member is completed.
const TIME_SLICE: Duration = Duration::from_millis(5);

/// The address of a member, and the resource that it denoted.
type Member = (String, Option<Reference>);

/// A request to a group that is being executed at its members, one after the other.
#[derive(Debug)]
#[must_use]
pub struct Continuation {
    request: RequestPrimitive,
    budget: RequestBudget,
    /// Resource-ID of the group, if it forwards the notifications of the new subscriptions.
    group: Option<String>,
    /// Segments after the fan-out point.
    below: Vec<String>,
    /// Remaining members.
    members: std::vec::IntoIter<Member>,
    /// Responses of members as JSON, separated by commas.
    parts: String,
    /// Total size of their contents, in bytes.
    bytes: usize,
    notifications: Vec<Notification>,
}

impl Continuation {
    /// Returns the request to a member, and the address of its response.
    fn part(&self, member: String) -> Option<(RequestPrimitive, String)> {
        let target = Target::from_address(&member).ok()?;
        let to = Target { scope: target.scope, resource: self.below(target.resource) };
        Some((RequestPrimitive { to, ..self.request.clone() }, self.below(member)))
    }

    /// Returns the address below a member that follows the fan-out point.
    fn below(&self, member: String) -> String {
        self.below.iter().fold(member, |below, name| format!("{below}/{name}"))
    }

    /// Adds a member's response.
    fn add(&mut self, from: String, answer: Answer) {
        let Answer { mut response, notifications } = answer;
        self.bytes += response.content.as_ref().map_or(0, |content| content.len());
        if self.bytes > MAX_RESPONSE_BYTES {
            response.content = None;
            if self.request.operation == Operation::Retrieve {
                response.rsc = Rsc::NotAcceptable;
            }
        }
        if !self.parts.is_empty() {
            self.parts.push(',');
        }
        self.parts
            .push_str(&json_response(&response, &from, self.request.from.as_deref()).to_string());
        self.notifications.extend(notifications);
        outbox::cut(&mut self.notifications);
    }

    /// Returns the aggregated answer of all members.
    fn answer(self) -> Answer {
        let mut response = ResponsePrimitive::to(&self.request, Rsc::Ok);
        let content = format!(r#"{{"m2m:agr":{{"m2m:rsp":[{}]}}}}"#, self.parts);
        response.content = Some(content.into());
        Answer { response, notifications: self.notifications }
    }
}

/// Starts a request to the members of a group. Each member executes it independently, even if
/// another one refuses it. The answer aggregates the responses.
pub(crate) fn begin(
    state: &State,
    request: &RequestPrimitive,
    (group, below): (Target, Vec<String>),
    (verified, budget): (Option<&Verified>, &RequestBudget),
    now: Seconds,
) -> Result<Outcome<Box<Continuation>>, OperationError> {
    if below.iter().any(|segment| segment == FAN_OUT) {
        return Err(Refusal::NotImplemented("a fan-out point after another").into());
    }
    if request.creates(ResourceType::Ae) || request.creates(ResourceType::AeAnnc) {
        return Err(Refusal::NotAllowed("an AE cannot register through a group").into());
    }
    let (group, members) = members(state, request, &group, budget, now)?;
    if members.is_empty() {
        return Err(Refusal::NoMembers.into());
    }
    let mut request = request.clone();
    let forwarded = forwarded(state, &request, &group, (verified, budget), now)?;
    let group = forwarded.is_some().then_some(group.ri);
    if let Some(content) = forwarded {
        request.content = Some(content);
    }
    let work = Continuation {
        request,
        group,
        budget: budget.clone(),
        below,
        members: members.into_iter(),
        parts: String::new(),
        bytes: 0,
        notifications: Vec::new(),
    };
    Ok(proceed(state, work, now))
}

/// Returns the content of the requests to the members, if the group forwards the notifications of
/// the new subscriptions. Its targets are verified once, and not for each member.
fn forwarded(
    state: &State,
    request: &RequestPrimitive,
    group: &Record,
    (verified, budget): (Option<&Verified>, &RequestBudget),
    now: Seconds,
) -> Result<Option<Content>, OperationError> {
    if !request.creates(ResourceType::Subscription) {
        return Ok(None);
    }
    let settings = &state.settings;
    let options = Options::read(request, &settings.definitions)?;
    let context = Context { settings, request, options, now, group: None, creator: None, budget };
    let Some(given) = forwarding::given(&context)? else { return Ok(None) };
    let snapshot = state.store.snapshot(budget)?;
    let ask = subscription::check_forwarding(snapshot.read(), &context, group, &given, verified)?;
    if let Some(unverified) = ask {
        return Err(OperationError::Unverified(Box::new(unverified)));
    }
    let content = forwarding::of_members(settings, group, given).to_string();
    let content = Content::parse(content.into());
    Ok(Some(content.map_err(|_| Refusal::Content(ResourceType::Subscription.root().into()))?))
}

/// Executes a request to a group at the next members.
pub(crate) fn proceed(
    state: &State,
    mut work: Continuation,
    now: Seconds,
) -> Outcome<Box<Continuation>> {
    let turn = Instant::now() + TIME_SLICE;
    while let Some((address, member)) = work.members.next() {
        let Some((part, from)) = work.part(address) else { continue };
        match answer_member(state, part, member.as_ref(), &work, now) {
            Ok(answer) => work.add(from, answer),
            Err(reason) => return Outcome::Done(stop(state, work, from, reason)),
        }
        if Instant::now() >= turn && work.members.len() > 0 {
            return Outcome::Pending(Box::new(work));
        }
    }
    Outcome::Done(work.answer())
}

/// Executes a request to a group at one member.
fn answer_member(
    state: &State,
    part: RequestPrimitive,
    member: Option<&Reference>,
    work: &Continuation,
    now: Seconds,
) -> Result<Answer, StopReason> {
    if !is_local(&part.to, &state.settings) {
        return Ok(state.refuse(&part, &Refusal::OtherCse).into());
    }
    // Responses have the address form of the original request.
    let scope = match work.request.to.scope {
        Scope::CseRelative => Scope::CseRelative,
        _ => Scope::SpRelative(state.settings.cse_id.clone()),
    };
    let part = RequestPrimitive { to: Target { scope, ..part.to }, ..part };
    match at_member(state, member, &part, work, now) {
        Err(Refusal::Store(StoreError::Stopped(stop))) => Err(stop),
        Err(refusal) => Ok(state.refuse(&part, &refusal).into()),
        Ok(answer) => Ok(answer),
    }
}

/// Ends a request to a group whose budget is exhausted. A retrieval is refused as a whole. For a
/// change, the responses up to here are returned, and the remaining members are marked as refused.
fn stop(state: &State, mut work: Continuation, from: String, reason: StopReason) -> Answer {
    let refusal = Refusal::from(StoreError::from(reason));
    let changes = work.request.operation != Operation::Retrieve && !work.parts.is_empty();
    if !changes || !matches!(reason, StopReason::Deadline | StopReason::Steps) {
        return state.refuse(&work.request, &refusal).into();
    }
    let refused = state.refuse(&work.request, &refusal);
    work.add(from, refused.clone().into());
    while let Some((address, _)) = work.members.next() {
        if let Some((_, from)) = work.part(address) {
            work.add(from, refused.clone().into());
        }
    }
    work.answer()
}

/// Returns a group and its members, if the originator has the privilege for the group.
fn members(
    state: &State,
    request: &RequestPrimitive,
    group: &Target,
    budget: &RequestBudget,
    now: Seconds,
) -> Result<(Record, Vec<Member>), Refusal> {
    let snapshot = state.store.snapshot(budget)?;
    let read = snapshot.read();
    let who = Originator::of_request(read, &state.settings, request, now)?;
    let record = match address::resolve(read, &state.settings, group, now)? {
        Resolved::Resource(found) if found.record.ty == ResourceType::Group => found.record,
        Resolved::Resource(_) | Resolved::Instance { .. } => return Err(Refusal::NotFound),
    };
    let access = match request.operation {
        Operation::Create => {
            let number = request.resource_type.ok_or(Refusal::NoResourceType)?;
            let ty = ResourceType::from_number(number).ok_or(Refusal::ResourceType(number))?;
            Access::Create(ty)
        }
        Operation::Retrieve => Access::Retrieve,
        Operation::Update => Access::Update,
        Operation::Delete => Access::Delete,
        Operation::Notify => {
            return Err(Refusal::NotImplemented("notifications are not supported"));
        }
    };
    require(&who, access, &record)?;
    let named = record.names.resources(MEMBERS);
    let members = record.texts(MEMBERS).enumerate();
    let members =
        members.map(|(at, text)| (text.into(), named.get(at).cloned().flatten())).collect();
    Ok((record, members))
}

/// Executes a request at the resource that was added as a member, independently of the present
/// holder of its name.
fn at_member(
    state: &State,
    member: Option<&Reference>,
    request: &RequestPrimitive,
    work: &Continuation,
    now: Seconds,
) -> Result<Answer, Refusal> {
    let member = member.ok_or(Refusal::NotFound)?;
    let found = member.find(state.store.snapshot(&work.budget)?.read(), now)?;
    found.ok_or(Refusal::NotFound)?;
    let to = Target { resource: work.below(member.address()), ..request.to.clone() };
    let request = RequestPrimitive { to, ..request.clone() };
    let approval = Approval { verified: None, group: work.group.as_deref() };
    execute(state, &request, approval, &work.budget, now).map_err(OperationError::into_refusal)
}
