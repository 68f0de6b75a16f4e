//! The notifications that a group aggregates and forwards (TS-0001 clause 10.2.7.11, TS-0004 clause
//! 7.5.1.2.6).
//!
//! A group and its members are at one CSE, so a notification goes to the group within the transaction
//! of its event. It waits in the store until the aggregation is complete or its time has passed.

use std::collections::BTreeMap;

use bytes::Bytes;
use saegis_onem2m::resource::ResourceType;
use serde_json::Value;

use crate::notification::outbox::{Collected, Delivery, Message, Outbox, SubscribedTarget};
use crate::notification::policy::{self, Batch, LATEST, MAX_WAITING_BYTES};
use crate::notification::sending::Sending;
use crate::record::{AggregatedNotification, Aggregation, AggregationWindow, Record, Seconds};
use crate::resource::address::by_id;
use crate::state::State;
use crate::store::{StoreError, Writer};

/// Maximum number of targets for which one group aggregates notifications at a time.
pub(crate) const MAX_WINDOWS: usize = 16;

/// Stores the messages of an outbox: gives those for groups to them, and stores those that are sent
/// again if their targets do not receive them.
pub(crate) fn store(
    writer: &mut Writer<'_>,
    state: &State,
    outbox: &Outbox,
    now: Seconds,
) -> Result<(), StoreError> {
    let mut by_group: BTreeMap<String, Vec<Collected>> = BTreeMap::new();
    for collected in outbox.take_collected() {
        by_group.entry(collected.group.clone()).or_default().push(collected);
    }
    let sending = Sending { settings: &state.settings, now, outbox };
    for (group, collected) in by_group {
        enqueue(writer, &sending, &group, collected)?;
    }
    outbox.store(writer, state, now)
}

/// Adds notifications to the aggregations of a group, and sends what is complete. A group that the
/// same request has deleted forwards nothing.
fn enqueue(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    group: &str,
    collected: Vec<Collected>,
) -> Result<(), StoreError> {
    let Some(found) = by_id(writer.read(), group, sending.now)? else { return Ok(()) };
    let mut group = found.record;
    if group.ty != ResourceType::Group {
        return Ok(());
    }
    let batch = batch(&group);
    let mut waiting = group.aggregation.take().unwrap_or_default();
    for one in collected {
        let at = open_window(writer, sending, &group, &mut waiting, &one)?;
        let Some(window) = waiting.windows.get_mut(at) else { continue };
        if one.category == Some(LATEST) {
            drop_former(writer, &group, window, &one.subscription)?;
        }
        let number = waiting.next;
        writer.put_pending(&group, number, &one.notification)?;
        window.notifications.push(AggregatedNotification {
            number,
            subscription: one.subscription,
            size: u64::try_from(one.notification.len()).unwrap_or(u64::MAX),
            category: one.category,
        });
        waiting.next = number.saturating_add(1);
        if batch.is_complete(window.notifications.len()) {
            send(writer, sending, &group, waiting.windows.remove(at))?;
        }
        while size(&waiting) > MAX_WAITING_BYTES {
            send(writer, sending, &group, waiting.windows.remove(0))?;
        }
    }
    keep_quota(writer, sending, &group, &mut waiting)?;
    settle(writer, &mut group, &batch, waiting)?;
    writer.put(&group)
}

/// Returns the position of the aggregation for a target. If there are too many, the oldest one is
/// sent early.
fn open_window(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    group: &Record,
    waiting: &mut Aggregation,
    one: &Collected,
) -> Result<usize, StoreError> {
    let is_for = |window: &AggregationWindow| {
        (&window.target, &window.ae, &window.subscriber) == (&one.target, &one.ae, &one.subscriber)
    };
    if let Some(at) = waiting.windows.iter().position(is_for) {
        return Ok(at);
    }
    if waiting.windows.len() >= MAX_WINDOWS {
        send(writer, sending, group, waiting.windows.remove(0))?;
    }
    waiting.windows.push(AggregationWindow {
        target: one.target.clone(),
        ae: one.ae.clone(),
        subscriber: one.subscriber.clone(),
        since: sending.now,
        notifications: Vec::new(),
    });
    Ok(waiting.windows.len() - 1)
}

/// Drops the former notifications of a subscription that is interested in the latest one only.
fn drop_former(
    writer: &mut Writer<'_>,
    group: &Record,
    window: &mut AggregationWindow,
    subscription: &str,
) -> Result<(), StoreError> {
    let is_former = |waiting: &AggregatedNotification| waiting.subscription == subscription;
    for former in window.notifications.iter().filter(|waiting| is_former(waiting)) {
        writer.take_pending(group, former.number)?;
    }
    window.notifications.retain(|waiting| !is_former(waiting));
    Ok(())
}

fn size(waiting: &Aggregation) -> u64 {
    let all = waiting.windows.iter().flat_map(|window| &window.notifications);
    all.map(|waiting| waiting.size).fold(0, u64::saturating_add)
}

/// Sends the oldest aggregations early while the owner of the group exceeds the quota of bytes.
fn keep_quota(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    group: &Record,
    waiting: &mut Aggregation,
) -> Result<(), StoreError> {
    let Some(owner) = group.owner.as_deref() else { return Ok(()) };
    let max_bytes = sending.settings.limits.max_bytes_per_registree;
    while !waiting.windows.is_empty() && writer.usage(owner)?.bytes > max_bytes {
        send(writer, sending, group, waiting.windows.remove(0))?;
    }
    Ok(())
}

/// Returns the aggregation of a group. It was checked when it was stored.
fn batch(group: &Record) -> Batch {
    Batch::of_group(&group.attributes).unwrap_or_default()
}

/// Stores the aggregations in the record of a group, with the time at which the first is due. The
/// record itself is not stored.
fn settle(
    writer: &mut Writer<'_>,
    group: &mut Record,
    batch: &Batch,
    mut waiting: Aggregation,
) -> Result<(), StoreError> {
    let due = waiting.windows.iter().map(|window| batch.end(window.since)).min();
    writer.set_due(&group.ri, waiting.due, due)?;
    waiting.due = due;
    group.aggregation = Some(waiting).filter(|waiting| !waiting.windows.is_empty());
    Ok(())
}

/// Sends the aggregations of a group that are due. The group itself is not stored.
pub(crate) fn deliver(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    group: &mut Record,
) -> Result<(), StoreError> {
    let Some(mut waiting) = group.aggregation.take() else { return Ok(()) };
    let batch = batch(group);
    let (due, later) = waiting.windows.into_iter().partition(|window: &AggregationWindow| {
        let is_complete = batch.is_complete(window.notifications.len());
        is_complete || batch.end(window.since) <= sending.now
    });
    waiting.windows = later;
    for window in due {
        send(writer, sending, group, window)?;
    }
    settle(writer, group, &batch, waiting)
}

/// Sends the notifications of an aggregation to its target.
fn send(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    group: &Record,
    window: AggregationWindow,
) -> Result<(), StoreError> {
    let mut notifications = Vec::new();
    for waiting in &window.notifications {
        let notification = writer.take_pending(group, waiting.number)?;
        notifications.extend(notification.and_then(|n| serde_json::from_slice::<Value>(&n).ok()));
    }
    let mut categories = window.notifications.iter().map(|waiting| waiting.category);
    let category = categories.next().flatten();
    let category = category.filter(|first| categories.all(|other| other == Some(*first)));
    if notifications.is_empty() {
        return Ok(());
    }
    let target = SubscribedTarget {
        key: (group.ri.clone(), window.target.clone()),
        owner: group.owner.clone(),
        is_counted: false,
        delivery: Delivery::Repeated,
    };
    let content = Bytes::from(policy::aggregated(notifications).to_string());
    let message = Message { content, category, target: Some(target) };
    sending.forward(writer.read(), group, &window, &message)
}
