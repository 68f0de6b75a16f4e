//! Groups: their members, checked when they are named (TS-0004 clause 7.4.13.2), and the fan-out
//! point by which one request goes to all of them (clause 7.4.14).

use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::{Scope, Target};
use serde_json::{Map, Value, json};

use crate::access::{Access, Originator, demand, may};
use crate::address::{self, Place};
use crate::attributes::AttributeError;
use crate::context::Context;
use crate::names::{self, MEMBERS, Reference};
use crate::outbox;
use crate::record::{Record, Seconds};
use crate::refusal::Refusal;
use crate::registrar::Registrar;
use crate::settings::Settings;
use crate::store::Read;
use crate::verification::Answer;

/// The name of the fan-out point.
const FAN_OUT: &str = "fopt";

/// Most bytes of the members' answers together.
const MAX_ANSWERS: usize = 4 << 20;

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
    let (seen, ty) = match address::resolve(read, context.settings, &target, context.now) {
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

impl Registrar {
    /// Carries a request out at each member of a group, one after the other and each by itself:
    /// what one refuses, another may do. The answer is all their answers.
    pub(crate) fn fan_out(
        &self,
        request: &RequestPrimitive,
        (group, rest): (Target, Vec<String>),
        now: Seconds,
    ) -> Result<Answer, Refusal> {
        if rest.iter().any(|segment| segment == FAN_OUT) {
            return Err(Refusal::NotImplemented("a fan-out point behind another"));
        }
        if request.creates(ResourceType::Ae) || request.creates(ResourceType::AeAnnc) {
            return Err(Refusal::NotAllowed("an AE does not register by way of a group"));
        }
        let members = self.members(request, &group, now)?;
        if members.is_empty() {
            return Err(Refusal::NoMembers);
        }
        let mut parts = Vec::new();
        let mut notifications = Vec::new();
        let mut bytes: usize = 0;
        for (member, named) in members {
            let Ok(target) = Target::from_address(&member) else { continue };
            let to = rest.iter().fold(target.resource, |to, segment| format!("{to}/{segment}"));
            let from = rest.iter().fold(member, |from, segment| format!("{from}/{segment}"));
            let part = RequestPrimitive {
                to: Target { scope: target.scope, resource: to },
                ..request.clone()
            };
            let answer = if is_local(&part.to, self.settings()) {
                // What is answered is written as the request that came.
                let scope = match request.to.scope {
                    Scope::CseRelative => Scope::CseRelative,
                    _ => Scope::SpRelative(self.settings().cse_id.clone()),
                };
                let part = RequestPrimitive { to: Target { scope, ..part.to }, ..part };
                self.at_member(named.as_ref(), &rest, part.clone(), now)
                    .unwrap_or_else(|refusal| self.refuse(&part, &refusal).into())
            } else {
                self.refuse(&part, &Refusal::OtherCse).into()
            };
            let Answer { mut response, notifications: more } = answer;
            bytes += response.content.as_ref().map_or(0, |c| c.len());
            if bytes > MAX_ANSWERS {
                response.content = None;
                if request.operation == Operation::Retrieve {
                    response.rsc = Rsc::NotAcceptable;
                }
            }
            parts.push(primitive(request, from, response));
            notifications.extend(more);
        }
        outbox::cut(&mut notifications);
        let mut response = ResponsePrimitive::to(request, Rsc::Ok);
        let content = json!({ "m2m:agr": { "m2m:rsp": parts } });
        response.content = Some(content.to_string().into());
        Ok(Answer { response, notifications })
    }

    /// The members of a group, for one who may do with the group what is asked.
    fn members(
        &self,
        request: &RequestPrimitive,
        group: &Target,
        now: Seconds,
    ) -> Result<Vec<(String, Option<Reference>)>, Refusal> {
        let snapshot = self.store().snapshot()?;
        let read = snapshot.read();
        let who = Originator::of_request(read, self.settings(), request, now)?;
        let record = match address::resolve(read, self.settings(), group, now)? {
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
        rest: &[String],
        request: RequestPrimitive,
        now: Seconds,
    ) -> Result<Answer, Refusal> {
        let member = member.ok_or(Refusal::NotFound)?;
        member.find(self.store().snapshot()?.read(), now)?.ok_or(Refusal::NotFound)?;
        let resource = rest.iter().fold(member.address(), |to, segment| format!("{to}/{segment}"));
        let to = Target { resource, ..request.to };
        self.answer_one(&RequestPrimitive { to, ..request }, None, now)
    }
}

/// A member's answer inside the answer (m2m:responsePrimitive): From is the member.
fn primitive(request: &RequestPrimitive, from: String, response: ResponsePrimitive) -> Value {
    let mut part = Map::new();
    let mut put = |name: &str, value: Value| part.insert(name.into(), value);
    put("rsc", response.rsc.code().into());
    put("rqi", response.request_id.into());
    put("fr", from.into());
    if let Some(to) = &request.from {
        put("to", to.as_str().into());
    }
    if let Some(release) = response.release {
        put("rvi", release.into());
    }
    for (name, value) in response.parameters {
        // Content Status and Content Offset: that a part is not all there is.
        let short = match name {
            "x-m2m-cts" => "cnst",
            "x-m2m-cto" => "cnot",
            _ => continue,
        };
        put(short, value.parse::<u64>().map_or(Value::Null, Value::from));
    }
    if let Some(content) = response.content {
        put("pc", serde_json::from_slice(&content).unwrap_or_default());
    }
    Value::Object(part)
}
