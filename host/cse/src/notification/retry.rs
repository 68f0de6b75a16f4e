//! Sends the notifications again that their targets have not received.

use bytes::Bytes;
use saegis_onem2m::resource::ResourceType;
use serde_json::Value;

use crate::budget::RequestBudget;
use crate::notification::events::may_see;
use crate::notification::forwarding;
use crate::notification::outbox::{Delivery, Message, Outbox, SubscribedTarget};
use crate::notification::policy;
use crate::notification::sending::Sending;
use crate::notification::statistics;
use crate::notification::subscription::targets;
use crate::record::{Record, Seconds, StoredNotification};
use crate::resource::address::by_id;
use crate::resource::schema::{FORWARDING, TARGETS};
use crate::retries::TargetKey;
use crate::state::State;
use crate::store::{Read, StoreError, Writer};

/// Maximum number of notifications that are sent again at a time, and of removed ones in one
/// transaction.
const MAX_DUE: usize = 64;
const MAX_ENDED: usize = 256;

/// Adds the notifications that were stored before the start. Their targets may have received some of
/// them.
pub(crate) fn restore(state: &State) -> Result<(), StoreError> {
    let snapshot = state.store.snapshot(&RequestBudget::unlimited())?;
    let mut last: Option<(String, Option<String>)> = None;
    for (ri, number, size, stored) in state.store.all_retries()? {
        if last.as_ref().is_none_or(|(last, _)| *last != ri) {
            let subscription = match snapshot.read().get(&ri) {
                // The notification is removed when it is due.
                Err(StoreError::Corrupt(_)) => None,
                found => found?,
            };
            last = Some((ri.clone(), subscription.and_then(|subscription| subscription.owner)));
        }
        let of_subscription = last.as_ref().and_then(|(_, owner)| owner.as_deref());
        let owner = stored.owner.as_deref().or(of_subscription);
        let key = (ri, stored.target);
        state.retries.restore((&key, owner), number, (size, stored.created));
    }
    Ok(())
}

/// Removes the notifications from the store that are no longer needed. Returns whether there may be
/// more.
pub(crate) fn settle(state: &State) -> Result<bool, StoreError> {
    let ended = state.retries.take_ended(MAX_ENDED);
    if ended.is_empty() {
        return Ok(false);
    }
    let budget = RequestBudget::unlimited();
    budget.lower_priority();
    let removed = state.store.write(&budget, |writer: &mut Writer<'_>| {
        ended.iter().try_for_each(|(ri, number)| writer.remove_retry(ri, *number))
    });
    let is_full = ended.len() == MAX_ENDED;
    if let Err(error) = removed {
        state.retries.put_back_ended(ended);
        return Err(error);
    }
    Ok(is_full)
}

/// The notifications of a subscription or timeSeries, with the registrant of its AE.
pub(crate) type Settled = (Option<String>, Outbox);

/// Returns the registrant of the AE in whose subtree a resource is, if known.
pub(crate) fn registrant(read: &dyn Read, record: &Record) -> Result<Option<String>, StoreError> {
    let owner = record.owner.as_deref();
    let ae = owner.map(|owner| read.get(owner)).transpose()?.flatten();
    Ok(ae.and_then(|ae| ae.registrant).map(|registrant| registrant.id))
}

/// Returns the notifications that are to be sent again.
pub(crate) fn due(state: &State, now: Seconds) -> Result<Vec<Settled>, StoreError> {
    let taken = state.retries.take_due(now, MAX_DUE);
    if taken.is_empty() {
        return Ok(Vec::new());
    }
    let snapshot = state.store.snapshot(&RequestBudget::unlimited()).inspect_err(|_| {
        taken.iter().for_each(|(key, number)| state.retries.fail(key, *number));
    })?;
    let mut all: Vec<(TargetKey, Settled)> = Vec::new();
    for (key, number) in taken {
        // Those of one target are sent one after the other.
        if all.last().is_none_or(|(last, _)| *last != key) {
            all.push((key.clone(), (None, Outbox::default())));
        }
        let Some((_, (registrant, outbox))) = all.last_mut() else { continue };
        match send(state, snapshot.read(), outbox, now, (&key, number)) {
            Ok(Some(of)) => *registrant = of,
            // The subscription, its target or the permission of the subscriber has ended.
            Ok(None) => state.retries.end(&key, number),
            Err(error) => {
                log_unsent(&key, &error);
                match error {
                    StoreError::Corrupt(_) => state.retries.end(&key, number),
                    _ => {
                        state.suspect_store(&error);
                        state.retries.fail(&key, number);
                    }
                }
            }
        }
    }
    Ok(all.into_iter().map(|(_, settled)| settled).collect())
}

fn log_unsent((subscription, target): &TargetKey, error: &StoreError) {
    tracing::error!(
        event = "cse.store-failed",
        subscription,
        to = target,
        "cannot send a stored notification: {error}"
    );
}

/// Sends a notification again. Returns the registrant of the AE in whose subtree the subscription is,
/// or nothing if it can no longer be sent.
fn send(
    state: &State,
    read: &dyn Read,
    outbox: &Outbox,
    now: Seconds,
    (key, number): (&TargetKey, u64),
) -> Result<Option<Option<String>>, StoreError> {
    let (ri, target) = key;
    let Some(stored) = state.store.retry(ri, number)? else { return Ok(None) };
    let Some(subscription) = by_id(read, ri, now)? else { return Ok(None) };
    let subscription = subscription.record;
    let sending = Sending { settings: &state.settings, now, outbox };
    if subscription.ty == ResourceType::Group {
        return send_aggregated(read, &sending, &subscription, (target, number), stored);
    }
    let at = targets(&subscription.attributes).position(|known| known == target);
    let (Some(at), true) = (at, is_permitted(read, &sending, &subscription)?) else {
        return Ok(None);
    };
    let message = Message {
        content: Bytes::from(stored.content),
        category: stored.category,
        target: Some(SubscribedTarget {
            key: key.clone(),
            owner: subscription.owner.clone(),
            is_counted: statistics::is_enabled(&subscription),
            delivery: Delivery::Again(number),
        }),
    };
    match sending.send(read, &subscription, (TARGETS, at, target), &message)? {
        true => Ok(Some(registrant(read, &subscription)?)),
        false => Ok(None),
    }
}

/// Returns whether the subscribed-to resource exists, and the subscriber may still retrieve it.
fn is_permitted(
    read: &dyn Read,
    sending: &Sending<'_>,
    subscription: &Record,
) -> Result<bool, StoreError> {
    let parent = subscription.parent.as_deref().map(|parent| by_id(read, parent, sending.now));
    match parent.transpose()?.flatten() {
        Some(parent) => may_see(read, sending, subscription, &parent.record),
        None => Ok(false),
    }
}

/// Sends the notifications again that a group has aggregated, without those whose subscription or
/// permission has ended. Returns the registrant of the AE in whose subtree the group is, or nothing
/// if none is left.
fn send_aggregated(
    read: &dyn Read,
    sending: &Sending<'_>,
    group: &Record,
    (target, number): (&str, u64),
    stored: StoredNotification,
) -> Result<Option<Option<String>>, StoreError> {
    let content: Value = serde_json::from_str(&stored.content).unwrap_or_default();
    let all = content.pointer("/m2m:agn/m2m:sgn").and_then(Value::as_array);
    let (mut left, mut to) = (Vec::new(), None);
    for notification in all.into_iter().flatten() {
        let sur = notification.get("sur").and_then(Value::as_str).unwrap_or_default();
        let ri = sur.rsplit('/').next().unwrap_or_default();
        let Some(subscription) = by_id(read, ri, sending.now)? else { continue };
        let subscription = subscription.record;
        let Some(at) = forwarding::targets(&subscription).position(|known| known == target) else {
            continue;
        };
        if !is_permitted(read, sending, &subscription)? {
            continue;
        }
        let route = sending.route(read, &subscription, (FORWARDING, at, target))?;
        // The address may denote another AE in a changed subscription.
        if to.get_or_insert_with(|| route.clone()) == &route {
            left.push(notification.clone());
        }
    }
    let (Some(Some(to)), false) = (to, left.is_empty()) else { return Ok(None) };
    let message = Message {
        content: policy::aggregated(left).to_string().into(),
        category: stored.category,
        target: Some(SubscribedTarget {
            key: (group.ri.clone(), target.into()),
            owner: group.owner.clone(),
            is_counted: false,
            delivery: Delivery::Again(number),
        }),
    };
    let about = forwarding::address(sending.settings, &group.ri);
    match sending.outbox.send(sending.settings, to, &about, &message) {
        true => Ok(Some(registrant(read, group)?)),
        false => Ok(None),
    }
}
