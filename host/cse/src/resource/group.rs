//! Groups: their members, checked when they are named (TS-0004 clause 7.4.13.2), and the fan-out
//! point by which one request goes to all of them (clause 7.4.14).

use std::time::{Duration, Instant};

use saegis_onem2m::json;
use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::{Scope, Target};
use serde_json::Value;

use crate::access::decision::{Access, Originator, demand, may};
use crate::access::names::{self, MEMBERS, Reference};
use crate::cse::EmbeddedCse;
use crate::error::Refusal;
use crate::notification::message::Notification;
use crate::notification::outbox;
use crate::notification::verification::{Answer, Handled};
use crate::record::{Record, Seconds};
use crate::request::budget::{RequestBudget, Stop};
use crate::request::context::Context;
use crate::request::target::{self, Place};
use crate::resource::attributes::AttributeError;
use crate::settings::Settings;
use crate::store::{Read, StoreError};

/// The name of the fan-out point.
const FAN_OUT: &str = "fopt";

/// Most bytes of the members' answers together.
const MAX_ANSWERS: usize = 4 << 20;

/// How long a request to a group is carried out until others have their turn; a member that is begun
/// is finished.
const TURN: Duration = Duration::from_millis(5);

/// m2m:memberType: members of any types.
const MIXED: u64 = 0;

/// What becomes of a group with a member of another type than the group's
/// (m2m:consistencyStrategy).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strategy {
    /// 1: it is left out.
    AbandonMember,
    /// 2: there is no such group.
    AbandonGroup,
    /// 3: the group is one of any types.
    SetMixed,
}

/// The type of a member; none where it is at another CSE.
fn type_of(
    read: &dyn Read,
    context: &Context<'_>,
    who: &Originator<'_>,
    member: &str,
) -> Result<Option<ResourceType>, Refusal> {
    let wrong = |why| Refusal::from(AttributeError::value("mid", why));
    let target = Target::from_address(member)
        .map_err(|_| wrong("has something that is no address of a resource"))?;
    if fan_out_point(&target).is_some() {
        return Err(Refusal::NotImplemented("a group's fan-out point can't be a member"));
    }
    if !is_local(&target, context.settings) {
        return Ok(None);
    }
    let (seen, ty) = match target::resolve(read, context.settings, &target, context.now) {
        Ok(Place::Resource(found)) => (may(who, Access::Retrieve, &found.record)?, found.record.ty),
        Ok(Place::Instance { container, .. }) => {
            (may(who, Access::Retrieve, &container.record)?, ResourceType::ContentInstance)
        }
        Err(Refusal::NotFound) => return Err(wrong("has an address where nothing is")),
        Err(refusal) => return Err(refusal),
    };
    if seen { Ok(Some(ty)) } else { Err(Refusal::MemberHidden) }
}

fn is_local(target: &Target, settings: &Settings) -> bool {
    target.is_at(&settings.cse_id, settings.service_provider.as_deref())
}

fn most(record: &Record) -> Result<u64, Refusal> {
    match record.attributes.get("mnm").and_then(Value::as_u64) {
        Some(most @ 1..) => Ok(most),
        _ => Err(AttributeError::value("mnm", "must be a number from 1 upwards").into()),
    }
}

/// Checks that a group has no more members than it may have now.
///
/// # Errors
/// When it has.
pub(crate) fn check_count(record: &Record) -> Result<(), Refusal> {
    let members = record.attributes.get("cnm").and_then(Value::as_u64).unwrap_or(0);
    if members > most(record)? { Err(Refusal::TooManyMembers) } else { Ok(()) }
}

/// Checks the members of a group that is to be stored, and enters what the CSE knows of them.
///
/// # Errors
/// When there are too many, or one that is not there, that the originator may not see, or that is
/// of a wrong type.
pub(crate) fn check(
    read: &dyn Read,
    context: &Context<'_>,
    record: &mut Record,
) -> Result<(), Refusal> {
    let who = context.originator(read)?;
    let number = |name| record.attributes.get(name).and_then(Value::as_u64);
    let mut wanted = number("mt").unwrap_or(MIXED);
    let strategy = match number("csy") {
        None | Some(1) => Strategy::AbandonMember,
        Some(2) => Strategy::AbandonGroup,
        Some(3) => Strategy::SetMixed,
        Some(_) => return Err(AttributeError::value("csy", "must be 1, 2 or 3").into()),
    };
    let most = most(record)?;
    let mut members: Vec<(String, Option<ResourceType>)> = Vec::new();
    for member in record.attributes.get("mid").and_then(Value::as_array).into_iter().flatten() {
        let member = member.as_str().unwrap_or_default();
        if members.iter().all(|(there, _)| there != member) {
            members.push((member.into(), type_of(read, context, &who, member)?));
        }
    }
    if u64::try_from(members.len()).unwrap_or(u64::MAX) > most {
        return Err(Refusal::TooManyMembers);
    }
    let fits = |ty: &Option<ResourceType>| ty.is_none_or(|ty| u64::from(ty.number()) == wanted);
    if wanted != MIXED && !members.iter().all(|(_, ty)| fits(ty)) {
        match strategy {
            Strategy::AbandonMember => members.retain(|(_, ty)| fits(ty)),
            Strategy::AbandonGroup => return Err(Refusal::MemberType),
            Strategy::SetMixed => wanted = MIXED,
        }
    }
    // What is at another CSE has not been looked at.
    let validated = members.iter().all(|(_, ty)| ty.is_some());
    let members: Vec<_> = members.into_iter().map(|(member, _)| member).collect();
    let mut put = |name: &str, value: Value| record.attributes.insert(name.into(), value);
    put("mt", wanted.into());
    put(
        "csy",
        match strategy {
            Strategy::AbandonMember => 1.into(),
            Strategy::AbandonGroup => 2.into(),
            Strategy::SetMixed => 3.into(),
        },
    );
    put("cnm", members.len().into());
    put("mid", members.into());
    put("mtv", validated.into());
    Ok(())
}

/// The address of a group whose fan-out point a target is, or is below, and what is behind it.
pub(crate) fn fan_out_point(to: &Target) -> Option<(Target, Vec<String>)> {
    let segments: Vec<_> = to.resource.split('/').collect();
    let at = segments.iter().position(|s| *s == FAN_OUT)?;
    let (group, rest) = segments.split_at(at);
    if group.is_empty() {
        return None;
    }
    let group = Target { scope: to.scope.clone(), resource: group.join("/") };
    Some((group, rest.iter().skip(1).map(|s| (*s).into()).collect()))
}

/// A request to a group that is being carried out at its members, one after the other.
#[derive(Debug)]
#[must_use]
pub struct Continuation {
    request: RequestPrimitive,
    budget: RequestBudget,
    /// What follows the fan-out point.
    below: Vec<String>,
    /// The members that are still to come.
    members: std::vec::IntoIter<(String, Option<Reference>)>,
    /// The members' answers as JSON, separated by commas.
    parts: String,
    /// The bytes of their contents.
    bytes: usize,
    notifications: Vec<Notification>,
}

impl Continuation {
    /// The request to a member, and the address that its answer comes from.
    fn part(&self, member: String) -> Option<(RequestPrimitive, String)> {
        let target = Target::from_address(&member).ok()?;
        let to = Target { scope: target.scope, resource: self.below(target.resource) };
        Some((RequestPrimitive { to, ..self.request.clone() }, self.below(member)))
    }

    /// The address behind the fan-out point, below a member.
    fn below(&self, member: String) -> String {
        self.below.iter().fold(member, |below, name| format!("{below}/{name}"))
    }

    /// Adds a member's answer.
    fn add(&mut self, from: String, answer: Answer) {
        let Answer { mut response, notifications } = answer;
        self.bytes += response.content.as_ref().map_or(0, |content| content.len());
        if self.bytes > MAX_ANSWERS {
            response.content = None;
            if self.request.operation == Operation::Retrieve {
                response.rsc = Rsc::NotAcceptable;
            }
        }
        if !self.parts.is_empty() {
            self.parts.push(',');
        }
        self.parts
            .push_str(&json::response(&response, &from, self.request.from.as_deref()).to_string());
        self.notifications.extend(notifications);
        outbox::cut(&mut self.notifications);
    }

    /// The answer of all members.
    fn answer(self) -> Answer {
        let mut response = ResponsePrimitive::to(&self.request, Rsc::Ok);
        let content = format!(r#"{{"m2m:agr":{{"m2m:rsp":[{}]}}}}"#, self.parts);
        response.content = Some(content.into());
        Answer { response, notifications: self.notifications }
    }
}

impl EmbeddedCse {
    /// Begins to carry a request out at each member of a group, each by itself: what one refuses,
    /// another may do. The answer is all their answers.
    pub(crate) fn begin_fan_out(
        &self,
        request: &RequestPrimitive,
        (group, below): (Target, Vec<String>),
        budget: &RequestBudget,
        now: Seconds,
    ) -> Result<Handled, Refusal> {
        if below.iter().any(|segment| segment == FAN_OUT) {
            return Err(Refusal::NotImplemented("a fan-out point behind another"));
        }
        if request.creates(ResourceType::Ae) || request.creates(ResourceType::AeAnnc) {
            return Err(Refusal::NotAllowed("an AE does not register by way of a group"));
        }
        let members = self.members(request, &group, budget, now)?;
        if members.is_empty() {
            return Err(Refusal::NoMembers);
        }
        let work = Continuation {
            request: request.clone(),
            budget: budget.clone(),
            below,
            members: members.into_iter(),
            parts: String::new(),
            bytes: 0,
            notifications: Vec::new(),
        };
        Ok(self.fan_out(work, now))
    }

    /// Carries a request to a group out at the next members.
    pub(crate) fn fan_out(&self, mut work: Continuation, now: Seconds) -> Handled {
        let turn = Instant::now() + TURN;
        while let Some((address, member)) = work.members.next() {
            let Some((part, from)) = work.part(address) else { continue };
            match self.answer_member(part, member.as_ref(), &work, now) {
                Ok(answer) => work.add(from, answer),
                Err(stop) => return Handled::Done(self.stop_fan_out(work, from, stop)),
            }
            if Instant::now() >= turn && work.members.len() > 0 {
                return Handled::Continue(Box::new(work));
            }
        }
        Handled::Done(work.answer())
    }

    /// Carries a request to a group out at one member.
    fn answer_member(
        &self,
        part: RequestPrimitive,
        member: Option<&Reference>,
        work: &Continuation,
        now: Seconds,
    ) -> Result<Answer, Stop> {
        if !is_local(&part.to, self.settings()) {
            return Ok(self.refuse(&part, &Refusal::OtherCse).into());
        }
        // What is answered is written as the request that came.
        let scope = match work.request.to.scope {
            Scope::CseRelative => Scope::CseRelative,
            _ => Scope::SpRelative(self.settings().cse_id.clone()),
        };
        let part = RequestPrimitive { to: Target { scope, ..part.to }, ..part };
        match self.at_member(member, &part, work, now) {
            Err(Refusal::Store(StoreError::Stopped(stop))) => Err(stop),
            Err(refusal) => Ok(self.refuse(&part, &refusal).into()),
            Ok(answer) => Ok(answer),
        }
    }

    /// Ends a request to a group whose budget is used up at a member. What was retrieved until then
    /// is not answered. What was changed is, and that the other members were not asked.
    fn stop_fan_out(&self, mut work: Continuation, from: String, stop: Stop) -> Answer {
        let refusal = Refusal::from(StoreError::from(stop));
        let changes = work.request.operation != Operation::Retrieve && !work.parts.is_empty();
        if !changes || !matches!(stop, Stop::Deadline | Stop::Steps) {
            return self.refuse(&work.request, &refusal).into();
        }
        let refused = self.refuse(&work.request, &refusal);
        work.add(from, refused.clone().into());
        while let Some((address, _)) = work.members.next() {
            if let Some((_, from)) = work.part(address) {
                work.add(from, refused.clone().into());
            }
        }
        work.answer()
    }

    /// The members of a group, for one who may do with the group what is asked.
    fn members(
        &self,
        request: &RequestPrimitive,
        group: &Target,
        budget: &RequestBudget,
        now: Seconds,
    ) -> Result<Vec<(String, Option<Reference>)>, Refusal> {
        let snapshot = self.store().snapshot(budget)?;
        let read = snapshot.read();
        let who = Originator::of_request(read, self.settings(), request, now)?;
        let record = match target::resolve(read, self.settings(), group, now)? {
            Place::Resource(found) if found.record.ty == ResourceType::Group => found.record,
            Place::Resource(_) | Place::Instance { .. } => return Err(Refusal::NotFound),
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
        demand(&who, access, &record)?;
        let named = record.names.resources(MEMBERS);
        let members = names::texts(&record, MEMBERS).enumerate();
        Ok(members.map(|(at, text)| (text.into(), named.get(at).cloned().flatten())).collect())
    }

    /// Carries a request out at the resource that was made a member, whoever has its name now.
    fn at_member(
        &self,
        member: Option<&Reference>,
        request: &RequestPrimitive,
        work: &Continuation,
        now: Seconds,
    ) -> Result<Answer, Refusal> {
        let member = member.ok_or(Refusal::NotFound)?;
        let found = member.find(self.store().snapshot(&work.budget)?.read(), now)?;
        found.ok_or(Refusal::NotFound)?;
        let to = Target { resource: work.below(member.address()), ..request.to.clone() };
        self.answer_one(&RequestPrimitive { to, ..request.clone() }, None, &work.budget, now)
    }
}
