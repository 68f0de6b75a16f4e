//! The events of subscriptions with policies, which wait until they may be sent.

use saegis_onem2m::resource::ResourceType;
use serde_json::{Value, json};

use crate::notification::outbox::Delivery;
use crate::notification::policy::{self, MAX_WAITING, MAX_WAITING_BYTES, Pending, Policy};
use crate::notification::sending::Sending;
use crate::notification::statistics;
use crate::record::{Record, Waiting};
use crate::store::{StoreError, Writer};

/// Lets an event wait, and sends what is due. Of too many events the oldest is dropped, and so are
/// those that exceed the quota of the subscription's owner. The subscription itself is not stored.
pub(crate) fn enqueue(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    subscription: &mut Record,
    notification: &Value,
) -> Result<(), StoreError> {
    let event = notification.to_string().into_bytes();
    let size = u64::try_from(event.len()).unwrap_or(u64::MAX);
    let mut waiting = subscription.waiting.unwrap_or_default();
    let policy = Policy::of(writer.read(), subscription, sending.now)?;
    if policy.pending() == Some(Pending::Latest) && policy.is_closed(sending.now) {
        drop_all(writer, subscription, &mut waiting)?;
    }
    while waiting.count() >= MAX_WAITING
        || waiting.count() > 0 && waiting.bytes.saturating_add(size) > MAX_WAITING_BYTES
    {
        drop_oldest(writer, subscription, &mut waiting)?;
        log_dropped(subscription, "too many of its notifications wait");
    }
    if waiting.count() == 0 {
        waiting.since = sending.now;
    }
    writer.put_pending(subscription, waiting.next, &event)?;
    waiting.next = waiting.next.saturating_add(1);
    waiting.bytes = waiting.bytes.saturating_add(size);
    subscription.waiting = Some(waiting);
    deliver(writer, sending, subscription)?;
    keep_quota(writer, sending, subscription)
}

fn log_dropped(subscription: &Record, why: &str) {
    tracing::debug!(
        event = "notification.waiting-dropped",
        subscription = subscription.ri,
        "waiting notification dropped: {why}"
    );
}

/// Drops the oldest events of a subscription while its owner exceeds the quota of bytes. The events
/// are stored after the check of their request, so they are checked here.
fn keep_quota(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    subscription: &mut Record,
) -> Result<(), StoreError> {
    let (Some(owner), Some(mut waiting)) = (subscription.owner.clone(), subscription.waiting)
    else {
        return Ok(());
    };
    let max_bytes = sending.settings.limits.max_bytes_per_registree;
    if waiting.count() == 0 || writer.usage(&owner)?.bytes <= max_bytes {
        return Ok(());
    }
    while waiting.count() > 0 && writer.usage(&owner)?.bytes > max_bytes {
        drop_oldest(writer, subscription, &mut waiting)?;
        log_dropped(subscription, "the registree has the maximum number of bytes");
    }
    subscription.waiting = Some(waiting);
    // The remaining events may be due later, or none is.
    deliver(writer, sending, subscription)
}

/// Drops all events of a subscription whose targets change: they were reported for the originator
/// that named the former targets. The subscription itself is not stored.
pub(crate) fn discard(
    writer: &mut Writer<'_>,
    subscription: &mut Record,
) -> Result<(), StoreError> {
    subscription.missing = None;
    writer.remove_retries(subscription)?;
    let Some(mut waiting) = subscription.waiting else { return Ok(()) };
    drop_all(writer, subscription, &mut waiting)?;
    writer.set_due(&subscription.ri, waiting.due.take(), None)?;
    subscription.waiting = Some(waiting);
    Ok(())
}

/// Drops the events that a changed `pn` no longer keeps for the schedule (TS-0004 clause 7.4.8.2.3).
/// The subscription itself is not stored.
pub(crate) fn adapt(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    before: &Record,
    subscription: &mut Record,
) -> Result<(), StoreError> {
    let former = Policy::read(&before.attributes).unwrap_or_default().pending();
    let policy = Policy::of(writer.read(), subscription, sending.now)?;
    if former == policy.pending() || !policy.is_closed(sending.now) {
        return Ok(());
    }
    let Some(mut waiting) = subscription.waiting else { return Ok(()) };
    let retained = match policy.pending() {
        None => 0,
        Some(Pending::Latest) => 1,
        Some(Pending::All) => waiting.count(),
    };
    while waiting.count() > retained {
        drop_oldest(writer, subscription, &mut waiting)?;
    }
    subscription.waiting = Some(waiting);
    Ok(())
}

fn drop_all(
    writer: &mut Writer<'_>,
    subscription: &Record,
    waiting: &mut Waiting,
) -> Result<(), StoreError> {
    while waiting.count() > 0 {
        drop_oldest(writer, subscription, waiting)?;
    }
    Ok(())
}

fn drop_oldest(
    writer: &mut Writer<'_>,
    subscription: &Record,
    waiting: &mut Waiting,
) -> Result<Option<Vec<u8>>, StoreError> {
    let event = writer.take_pending(subscription, waiting.first)?;
    waiting.first = waiting.first.saturating_add(1);
    let size = event.as_ref().map_or(0, Vec::len);
    waiting.bytes = waiting.bytes.saturating_sub(u64::try_from(size).unwrap_or(u64::MAX));
    Ok(event)
}

/// Sends the events of a subscription that are due. The subscription itself is not stored.
pub(crate) fn deliver(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    subscription: &mut Record,
) -> Result<(), StoreError> {
    let Some(mut waiting) = subscription.waiting else { return Ok(()) };
    let now = sending.now;
    let policy = Policy::of(writer.read(), subscription, now)?;
    while policy.due(&waiting, now).is_some_and(|at| at <= now) {
        let number = policy.take(&mut waiting, sending.now);
        if number == 0 {
            break;
        }
        send(writer, sending, subscription, (&policy, &mut waiting), number)?;
    }
    let due = policy.due(&waiting, now);
    writer.set_due(&subscription.ri, waiting.due, due)?;
    waiting.due = due;
    subscription.waiting = Some(waiting);
    Ok(())
}

/// Sends the events of a subscription that are due after a change of its schedule.
pub(crate) fn schedule_changed(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    schedule: &Record,
) -> Result<(), StoreError> {
    let Some(ri) = schedule.parent.as_deref() else { return Ok(()) };
    let mut subscription =
        writer.read().get(ri)?.ok_or_else(|| StoreError::Corrupt(ri.to_owned()))?;
    // That of a node or of the CSE delays no notifications.
    if subscription.ty != ResourceType::Subscription {
        return Ok(());
    }
    deliver(writer, sending, &mut subscription)?;
    writer.put(&subscription)
}

/// Sends all events of a subscription that ends, independently of its policies. The subscription
/// itself is not stored.
pub(crate) fn deliver_all(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    subscription: &mut Record,
) -> Result<(), StoreError> {
    let Some(mut waiting) = subscription.waiting.take() else { return Ok(()) };
    let policy = Policy::of(writer.read(), subscription, sending.now)?;
    let number = waiting.count();
    send(writer, sending, subscription, (&policy, &mut waiting), number)?;
    writer.set_due(&subscription.ri, waiting.due, None)
}

fn send(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    subscription: &mut Record,
    (policy, waiting): (&Policy, &mut Waiting),
    number: u64,
) -> Result<(), StoreError> {
    let mut events = Vec::new();
    for _ in 0..number {
        let event = drop_oldest(writer, subscription, waiting)?;
        events.extend(event.and_then(|event| serde_json::from_slice::<Value>(&event).ok()));
    }
    if policy.is_latest_only() {
        events.drain(..events.len().saturating_sub(1));
    }
    let contents = match policy.batches() && !events.is_empty() {
        true => vec![policy::aggregated(events)],
        false => events.into_iter().map(|event| json!({ "m2m:sgn": event })).collect(),
    };
    let (read, category) = (writer.read(), policy.category(true));
    for content in contents {
        let how = (category, Delivery::Repeated);
        let reached = sending.send_to_all(read, subscription, &content, how)?;
        statistics::count_requests(subscription, &reached);
    }
    Ok(())
}
