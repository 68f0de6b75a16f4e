//! The members of a group, checked when they are stored (TS-0004 clause 7.4.13.2).

use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::target::Target;
use serde_json::Value;

use crate::access::decision::{Originator, may};
use crate::access::grants::Access;
use crate::error::Refusal;
use crate::notification::policy::{self, Batch};
use crate::record::Record;
use crate::request::context::Context;
use crate::resource::address::{self, Resolved};
use crate::resource::schema::AttributeError;
use crate::settings::Settings;
use crate::store::Read;

/// Name of the fan-out point.
pub(crate) const FAN_OUT: &str = "fopt";

/// m2m:memberType: members of any type.
const MIXED: u64 = 0;

/// The treatment of a member whose type differs from that of the group (m2m:consistencyStrategy).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strategy {
    /// 1: the member is removed.
    AbandonMember,
    /// 2: the group is refused.
    AbandonGroup,
    /// 3: the type of the group becomes mixed.
    SetMixed,
}

/// Returns the type of a member; `None` if it is at another CSE.
fn type_of(
    read: &dyn Read,
    context: &Context<'_>,
    who: &Originator<'_>,
    member: &str,
) -> Result<Option<ResourceType>, Refusal> {
    let wrong = |why| Refusal::from(AttributeError::value("mid", why));
    let target = Target::from_address(member).map_err(|_| wrong("has an invalid address"))?;
    if fan_out_point(&target).is_some() {
        return Err(Refusal::NotImplemented("a group's fan-out point cannot be a member"));
    }
    if !is_local(&target, context.settings) {
        return Ok(None);
    }
    let (seen, ty) = match address::resolve(read, context.settings, &target, context.now) {
        Ok(Resolved::Resource(found)) => {
            (may(who, Access::Retrieve, &found.record)?, found.record.ty)
        }
        Ok(Resolved::Instance { container, .. }) => {
            let container = &container.record;
            let ty = container.ty.instances().unwrap_or(container.ty);
            (may(who, Access::Retrieve, container)?, ty)
        }
        Err(Refusal::NotFound) => return Err(wrong("has an address without a resource")),
        Err(refusal) => return Err(refusal),
    };
    if seen { Ok(Some(ty)) } else { Err(Refusal::MemberHidden) }
}

pub(crate) fn is_local(target: &Target, settings: &Settings) -> bool {
    target.is_at(&settings.cse_id, settings.service_provider.as_deref())
}

fn max_members(record: &Record) -> Result<u64, Refusal> {
    match record.attributes.get("mnm").and_then(Value::as_u64) {
        Some(max @ 1..) => Ok(max),
        _ => Err(AttributeError::value("mnm", "must be a number from 1 upwards").into()),
    }
}

/// Checks the number of members of a group.
///
/// # Errors
/// Returns an error if it exceeds the maximum.
pub(crate) fn check_count(record: &Record) -> Result<(), Refusal> {
    let members = record.attributes.get("cnm").and_then(Value::as_u64).unwrap_or(0);
    if members > max_members(record)? { Err(Refusal::TooManyMembers) } else { Ok(()) }
}

/// Checks how a group aggregates notifications, and adds the default duration.
///
/// # Errors
/// Returns an error if the attribute is invalid.
pub(crate) fn check_aggregation(record: &mut Record) -> Result<(), Refusal> {
    policy::complete(&mut record.attributes);
    Batch::of_group(&record.attributes).map(drop)
}

/// Checks the members of a group that is about to be stored, and adds the attributes that the CSE
/// assigns.
///
/// # Errors
/// Returns an error if there are too many members, or one does not exist, is hidden from the
/// originator, or has the wrong type.
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
    let max = max_members(record)?;
    let mut members: Vec<(String, Option<ResourceType>)> = Vec::new();
    for member in record.attributes.get("mid").and_then(Value::as_array).into_iter().flatten() {
        let member = member.as_str().unwrap_or_default();
        if members.iter().all(|(there, _)| there != member) {
            members.push((member.into(), type_of(read, context, &who, member)?));
        }
    }
    if u64::try_from(members.len()).unwrap_or(u64::MAX) > max {
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
    // Members at other CSEs are not validated.
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

/// Returns the address of the group of a fan-out point, and the segments after it.
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
