//! The rules of subscriptions: originators, subscribed-to resources, and verification of targets
//! (TS-0004 clause 7.4.8.2).
//!
//! A target other than the originator is verified first, in `nu` and in `su`, so no entity receives
//! notifications that it does not want.

use saegis_onem2m::id::OriginatorId;
use saegis_onem2m::primitive::Operation;
use saegis_onem2m::resource::ResourceType;
use serde_json::{Value, json};

use crate::access::decision::{Originator, may};
use crate::access::grants::Access;
use crate::error::Refusal;
use crate::notification::criteria::Criteria;
use crate::notification::forwarding;
use crate::notification::message::{Destination, Notification};
use crate::notification::outbox;
use crate::notification::point_of_access::{Route, route};
use crate::notification::policy::{self, Policy};
use crate::notification::verification::{Question, Unverified, Verified, question};
use crate::record::{Attributes, Record, Seconds, alive, texts};
use crate::request::context::Context;
use crate::resource::attributes::GivenAttributes;
use crate::resource::children::is_subscribable;
use crate::resource::notification_target::NotificationTarget;
use crate::resource::registrant;
use crate::resource::schema::{
    AttributeError, FORWARDING, NOTIFICATION_CONTENT, SUBSCRIBER, TARGETS,
};
use crate::resource::tables::MAX_TARGETS;
use crate::store::{Read, StoreError};

/// Maximum number of subscriptions to one resource.
pub(crate) const MAX_SUBSCRIPTIONS: usize = 16;

/// Returns the subscriptions to a resource, by its resource-ID.
pub(crate) fn to(read: &dyn Read, ri: &str, now: Seconds) -> Result<Vec<Record>, StoreError> {
    let mut found = Vec::new();
    let mut after = None;
    while let Some(child) = read.next_of_type(ri, ResourceType::Subscription, after)? {
        let record = read.get(&child.ri)?.ok_or(StoreError::Corrupt(child.ri))?;
        if alive(record.expires, now) {
            found.push(record);
        }
        after = Some(child.sequence);
    }
    Ok(found)
}

/// Checks that `who`, who may create a child of the resource, may subscribe to it.
///
/// # Errors
/// Returns an error if the resource does not accept subscriptions, not from this originator, or has
/// the maximum number of them.
pub(crate) fn admit(
    read: &dyn Read,
    who: &Originator<'_>,
    parent: &Record,
    now: Seconds,
) -> Result<(), Refusal> {
    if !is_subscribable(parent.ty) {
        return Err(Refusal::NotSubscribable);
    }
    if !may(who, Access::Retrieve, parent)? {
        return Err(Refusal::SubscriberHasNoPrivilege);
    }
    if to(read, &parent.ri, now)?.len() >= MAX_SUBSCRIPTIONS {
        return Err(Refusal::NotAcceptable("the resource has the maximum number of subscriptions"));
    }
    Ok(())
}

/// Returns the addresses that a subscription notifies.
pub(crate) fn targets(attributes: &Attributes) -> impl Iterator<Item = &str> {
    let all = attributes.get("nu").and_then(Value::as_array).map(Vec::as_slice);
    all.unwrap_or_default().iter().filter_map(Value::as_str).take(MAX_TARGETS)
}

/// Adds the attributes that the CSE assigns to a new subscription (TS-0004 clause 7.4.8.2.1): the
/// content of its notifications, and its creator if targets other than the originator are notified.
///
/// # Errors
/// Returns an error if an attribute is invalid.
pub(crate) fn complete(
    read: &dyn Read,
    context: &Context<'_>,
    given: &mut GivenAttributes,
) -> Result<(), Refusal> {
    policy::complete(&mut given.attributes);
    let detail = Criteria::read(&given.attributes)?.detail.number();
    given.attributes.entry(NOTIFICATION_CONTENT).or_insert_with(|| detail.into());
    for text in targets(&given.attributes) {
        if !is_originator(read, context, &NotificationTarget::parse("nu", text)?)? {
            given.creator = true;
            break;
        }
    }
    Ok(())
}

/// Checks a subscription that is about to be stored. Returns the targets that must still be
/// verified: all except the `verified` ones, and those that it had `before` its update.
///
/// # Errors
/// Returns an error if an attribute is invalid.
pub(crate) fn check(
    read: &dyn Read,
    context: &Context<'_>,
    record: &Record,
    before: Option<&Record>,
    verified: Option<&Verified>,
) -> Result<Option<Unverified>, Refusal> {
    let attributes = &record.attributes;
    let criteria = Criteria::read(attributes)?;
    Policy::read(attributes)?;
    check_numbers(attributes)?;
    forwarding::check(context, record, before)?;
    if let Some(parent) = record.parent.as_deref() {
        let parent = read.get(parent)?.ok_or_else(|| StoreError::Corrupt(parent.into()))?;
        criteria.check_children(parent.ty)?;
    }
    if attributes.get("exc").is_some_and(|e| e.as_u64() == Some(0)) {
        return Err(AttributeError::value("exc", "must be a number from 1 upwards").into());
    }
    let name = forwarding::attribute_of(context.settings, attributes);
    let known = |text: &str| match before {
        Some(before) => before.texts(name).any(|before| before == text),
        // The fan-out point has verified them.
        None => name == FORWARDING,
    };
    let new = record.texts(name).take(MAX_TARGETS).filter(|text| !known(text));
    let subscriber = record.texts(SUBSCRIBER).filter(|_| before.is_none());
    let addresses: Vec<_> =
        new.map(|text| (name, text)).chain(subscriber.map(|text| (SUBSCRIBER, text))).collect();
    let sur = outbox::reference(context.settings, &record.ri);
    unverified(read, context, (&record.ri, &sur), &addresses, verified)
}

/// Returns the targets that must be verified before a group forwards the notifications of
/// subscriptions to them.
///
/// # Errors
/// Returns an error if a target cannot be reached.
pub(crate) fn check_forwarding(
    read: &dyn Read,
    context: &Context<'_>,
    group: &Record,
    given: &Attributes,
    verified: Option<&Verified>,
) -> Result<Option<Unverified>, Refusal> {
    let addresses: Vec<_> = texts(given, FORWARDING).map(|text| (FORWARDING, text)).collect();
    let sur = forwarding::address(context.settings, &group.ri);
    unverified(read, context, (&group.ri, &sur), &addresses, verified)
}

/// Returns the addresses in these attributes that must be verified: all except the `verified` ones,
/// and that of the originator.
fn unverified(
    read: &dyn Read,
    context: &Context<'_>,
    (ri, sur): (&str, &str),
    addresses: &[(&'static str, &str)],
    verified: Option<&Verified>,
) -> Result<Option<Unverified>, Refusal> {
    let is_verified =
        |to: &Destination| verified.is_some_and(|verified| verified.targets.contains(to));
    let mut ask: Vec<Question> = Vec::new();
    for (name, text) in addresses {
        let address = NotificationTarget::parse(name, text)?;
        if is_originator(read, context, &address)? {
            continue;
        }
        let named_by = context.request.from.as_deref().unwrap_or_default();
        let route = route(read, context.settings, context.now, &address, named_by)?;
        if let Route::Unreachable(why) = route {
            return Err(Refusal::NoTarget(why));
        }
        let Some(notification) = verification(context, sur, route) else { continue };
        let is_new = |question: &Question| question.notification.to != notification.to;
        if !is_verified(&notification.to) && ask.iter().all(is_new) {
            ask.push(Question { target: (*text).into(), notification: Box::new(notification) });
        }
    }
    let mut then: Vec<_> = ask.into_iter().rev().collect();
    let first = then.pop();
    let ri = ri.to_owned();
    Ok(first.map(|first| Unverified { ri, first, then, blocks: None, block: None }))
}

/// Checks the policies that have an effect only together with a congestion.
fn check_numbers(attributes: &Attributes) -> Result<(), Refusal> {
    if attributes.get("nsp").is_some_and(|value| value.as_u64() == Some(0)) {
        return Err(AttributeError::value("nsp", "must be a number from 1 upwards").into());
    }
    Ok(())
}

fn verification(context: &Context<'_>, sur: &str, to: Route) -> Option<Notification> {
    let content = json!({ "m2m:sgn": {
        "vrq": true,
        "sur": sur,
        "cr": context.request.from,
    }});
    question(context.settings, to, sur.into(), content.to_string().into())
}

/// Returns whether an address is that of the originating AE.
fn is_originator(
    read: &dyn Read,
    context: &Context<'_>,
    address: &NotificationTarget,
) -> Result<bool, StoreError> {
    let NotificationTarget::Resource(target) = address else { return Ok(false) };
    let Some(Ok(OriginatorId::Stem(stem))) =
        context.request.from.as_deref().map(OriginatorId::parse)
    else {
        return Ok(false);
    };
    let ae = registrant::ae_at(read, context.settings, target, context.now)?;
    Ok(ae.is_some_and(|ae| ae.record.ri == stem))
}

/// Returns whether a change of a subscription makes the originator responsible for its targets.
pub(crate) fn names_targets(context: &Context<'_>, record: &Record, given: &Attributes) -> bool {
    record.ty == ResourceType::Subscription
        && (context.request.operation == Operation::Create
            || given.contains_key(TARGETS)
            || given.contains_key(forwarding::attribute_of(context.settings, &record.attributes)))
}
