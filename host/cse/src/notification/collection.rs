//! The notifications of a group's members, which the group forwards (TS-0004 clause 7.5.1.2.6).

use serde_json::Value;

use crate::notification::forwarding;
use crate::notification::outbox::{Collected, Outbox};
use crate::record::names::Reference;
use crate::record::{Record, Seconds};
use crate::resource::address::by_id;
use crate::resource::schema::{FORWARDING, MEMBERS};
use crate::store::{Read, StoreError};

/// Gives the notifications in a content of a subscription to the group that forwards them, when the
/// outbox is stored. Returns whether the group takes them: those of its present members only.
pub(crate) fn collect(
    read: &dyn Read,
    outbox: &Outbox,
    (subscription, group): (&Record, &str),
    (content, category): (&Value, Option<u16>),
    now: Seconds,
) -> Result<bool, StoreError> {
    if !has_member(read, now, group, subscription)? {
        tracing::debug!(
            event = "notification.no-target",
            subscription = subscription.ri,
            "notification dropped: its resource is not a member of the group, or the group is gone"
        );
        return Ok(false);
    }
    let notifications = match content.pointer("/m2m:agn/m2m:sgn").and_then(Value::as_array) {
        // Aggregations are not nested.
        Some(all) => all.clone(),
        None => content.get("m2m:sgn").cloned().into_iter().collect(),
    };
    for (at, target) in forwarding::targets(subscription).enumerate() {
        let ae = subscription.names.resources(FORWARDING).get(at).cloned().flatten();
        for notification in &notifications {
            let mut notification = notification.clone();
            forwarding::add_target(&mut notification, target);
            outbox.collect(Collected {
                group: group.into(),
                subscription: subscription.ri.clone(),
                target: target.into(),
                ae: ae.clone(),
                subscriber: subscription.named_by.clone().unwrap_or_default(),
                category,
                notification: notification.to_string().into(),
            });
        }
    }
    Ok(true)
}

/// Returns whether a resource is a member of a group, or below one.
fn has_member(
    read: &dyn Read,
    now: Seconds,
    group: &str,
    resource: &Record,
) -> Result<bool, StoreError> {
    let Some(group) = by_id(read, group, now)? else { return Ok(false) };
    let members = group.record.names.resources(MEMBERS);
    // The number of ancestors is bounded by the maximum depth of resources.
    let mut above = resource.parent.clone();
    while let Some(ri) = above {
        let Some(ancestor) = read.get(&ri)? else { return Ok(false) };
        let is_member = |member: &Reference| *member == Reference::of(&ancestor);
        if members.iter().flatten().any(is_member) {
            return Ok(true);
        }
        above = ancestor.parent;
    }
    Ok(false)
}
