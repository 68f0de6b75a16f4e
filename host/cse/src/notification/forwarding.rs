//! The attributes of subscriptions whose notifications a group forwards (TS-0001 clause 10.2.7.10,
//! TS-0004 clause 7.4.14.2.3).
//!
//! The CSE of the group makes itself the target of the subscriptions: `nu` has the address of the
//! group's fan-out point. Only a request to this fan-out point can create such a subscription, so the
//! address shows that the group forwards its notifications. A group at another CSE has an address of
//! its own, which is notified like any other target.

use saegis_onem2m::resource::ResourceType;
use serde_json::{Value, json};

use crate::error::Refusal;
use crate::operation::group::FAN_OUT;
use crate::record::{Attributes, Record, texts};
use crate::request::context::Context;
use crate::resource::schema::{AttributeError, FORWARDING, GROUP_ID, TARGETS};
use crate::resource::tables::{MAX_TARGETS, SUBSCRIPTION};
use crate::settings::Settings;

fn wrong(why: &str) -> Refusal {
    AttributeError::value(FORWARDING, why).into()
}

/// Returns the address at which a group receives the notifications of its members.
pub(crate) fn address(settings: &Settings, group: &str) -> String {
    format!("{}/{group}/{FAN_OUT}", settings.cse_id)
}

/// Returns the resource-ID of the group that forwards the notifications of a subscription.
pub(crate) fn group_of<'a>(settings: &Settings, subscription: &'a Attributes) -> Option<&'a str> {
    let mut targets = texts(subscription, TARGETS);
    let (Some(target), None) = (targets.next(), targets.next()) else { return None };
    let path = target.strip_prefix(settings.cse_id.to_string().as_str())?.strip_prefix('/')?;
    let group = path.strip_suffix(FAN_OUT)?.strip_suffix('/')?;
    (!group.contains('/')).then_some(group)
}

/// Returns the name of the attribute with the addresses to which the notifications of a subscription
/// are sent.
pub(crate) fn attribute_of(settings: &Settings, subscription: &Attributes) -> &'static str {
    if group_of(settings, subscription).is_some() { FORWARDING } else { TARGETS }
}

/// Checks the forwarding of a subscription that is about to be stored.
///
/// # Errors
/// Returns an error if it is invalid, or the subscription names a group that has not created it.
pub(crate) fn check(
    context: &Context<'_>,
    record: &Record,
    before: Option<&Record>,
) -> Result<(), Refusal> {
    let (settings, attributes) = (context.settings, &record.attributes);
    let group = group_of(settings, attributes);
    let number = record.texts(FORWARDING).count();
    if number > 0 && !attributes.contains_key(GROUP_ID) {
        return Err(wrong("can only be given through a group, or with gpi"));
    }
    let Some(group) = group else {
        return match number {
            0 | 1 => Ok(()),
            _ => Err(wrong("must be one address if the group is at another CSE")),
        };
    };
    let was_of = before.and_then(|before| group_of(settings, &before.attributes));
    if context.group != Some(group) && was_of != Some(group) {
        return Err(Refusal::NoTarget(
            "only a request to the fan-out point names it as the target",
        ));
    }
    match number {
        0 => Err(wrong("is missing: the group forwards the notifications to it")),
        _ => Ok(()),
    }
}

/// Returns the attributes in a request for subscriptions whose notifications the group forwards, or
/// nothing if it is another request.
///
/// # Errors
/// Returns an error if the forwarding is invalid.
pub(crate) fn given(context: &Context<'_>) -> Result<Option<Attributes>, Refusal> {
    if !context.request.creates(ResourceType::Subscription) {
        return Ok(None);
    }
    // Each member refuses an invalid representation.
    let Ok(given) = context.representation(ResourceType::Subscription.root()) else {
        return Ok(None);
    };
    if given.get(FORWARDING).is_none_or(Value::is_null) {
        return Ok(None);
    }
    for row in SUBSCRIPTION.iter().filter(|row| [TARGETS, FORWARDING].contains(&row.name)) {
        let value = given.get(row.name).unwrap_or(&Value::Null);
        row.kind.check(value).map_err(|why| AttributeError::value(row.name, &why))?;
    }
    match texts(&given, FORWARDING).eq(texts(&given, TARGETS)) {
        true => Ok(Some(given)),
        false => Err(wrong("must be identical to nu")),
    }
}

/// Returns the content of the requests to the members of a group that forwards their notifications.
pub(crate) fn of_members(settings: &Settings, group: &Record, mut given: Attributes) -> Value {
    given.insert(TARGETS.into(), json!([address(settings, &group.ri)]));
    given.insert(GROUP_ID.into(), format!("{}/{}", settings.cse_id, group.ri).into());
    json!({ ResourceType::Subscription.root(): given })
}

/// Adds the target of the forwarded notification (`notificationForwardingURI`) to a notification
/// for the group.
pub(crate) fn add_target(notification: &mut Value, target: &str) {
    if let Some(members) = notification.as_object_mut() {
        members.insert(FORWARDING.into(), target.into());
    }
}

/// Returns the targets to which the notifications of a subscription are forwarded.
pub(crate) fn targets(subscription: &Record) -> impl Iterator<Item = &str> {
    subscription.texts(FORWARDING).take(MAX_TARGETS)
}
