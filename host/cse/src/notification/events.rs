//! The notifications of the changes that a request makes (TS-0004 clause 7.5.1.2).
//!
//! Only changes that a request asks for are reported. Automatic ones are not: the removal of
//! expired resources, and of the oldest instance of a full container.

use bytes::Bytes;
use saegis_onem2m::resource::ResourceType;
use serde_json::{Map, Value, json};

use crate::access::decision::{Originator, may};
use crate::access::grants::Access;
use crate::access::rule::NamedOriginator;
use crate::error::Refusal;
use crate::notification::criteria::{ContentType, Criteria, Event};
use crate::notification::outbox::{self, Delivery};
use crate::notification::policy::Policy;
use crate::notification::sending::Sending;
use crate::notification::{statistics, subscription, waiting};
use crate::record::{Attributes, Record, Seconds, alive, earlier};
use crate::resource::address::{ResolvedResource, by_id};
use crate::resource::content_instance;
use crate::resource::representation::{self, in_root_element};
use crate::resource::schema::{NAMED_BY, SUBSCRIBER};
use crate::store::{Edge, Read, StoreError, Writer};

/// An event on a resource.
struct ChangeEvent<'a> {
    event: Event,
    /// The resource, or its child.
    about: &'a Record,
    /// Expiration time of that resource.
    expires: Option<Seconds>,
    /// Its modified attributes.
    modified: Attributes,
}

/// Reports the creation of a child.
pub(crate) fn created(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    child: &ResolvedResource,
) -> Result<(), StoreError> {
    of_child(writer, sending, Event::CreateOfChild, child)
}

/// Reports that a resource will be deleted with everything below it.
pub(crate) fn ended(
    read: &dyn Read,
    sending: &Sending<'_>,
    resource: &ResolvedResource,
) -> Result<(), StoreError> {
    end(read, sending, &resource.record, resource.expires)
}

/// Reports to the parent's subscribers that a resource will be deleted.
pub(crate) fn deleted(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    resource: &ResolvedResource,
) -> Result<(), StoreError> {
    of_child(writer, sending, Event::DeleteOfChild, resource)
}

/// Reports the update of a resource.
pub(crate) fn updated(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    before: &Record,
    after: &Record,
    expires: Option<Seconds>,
) -> Result<(), StoreError> {
    let subscriptions = subscription::to(writer.read(), &after.ri, sending.now)?;
    if subscriptions.is_empty() {
        return Ok(());
    }
    let old = representation::of_resource(sending.settings, before, before.expires);
    let new = representation::of_resource(sending.settings, after, expires);
    let mut modified: Attributes = Map::new();
    // The representation has the expiration time of the ancestor that expires first, so the stored
    // one is compared.
    let same = |name: &str, value: &Value| {
        if name == "et" { before.expires == after.expires } else { old.get(name) == Some(value) }
    };
    modified.extend(new.iter().filter(|(n, v)| !same(n, v)).map(|(n, v)| (n.clone(), v.clone())));
    let gone = old.keys().filter(|n| !new.contains_key(*n));
    modified.extend(gone.map(|n| (n.clone(), Value::Null)));
    let happened = ChangeEvent { event: Event::Update, about: after, expires, modified };
    notify_subscribers(writer, sending, subscriptions, &happened)
}

fn of_child(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    event: Event,
    child: &ResolvedResource,
) -> Result<(), StoreError> {
    let Some(parent) = &child.record.parent else { return Ok(()) };
    let mut subscriptions = subscription::to(writer.read(), parent, sending.now)?;
    // A subscription does not report itself.
    subscriptions.retain(|s| s.ri != child.record.ri);
    let happened = ChangeEvent {
        event,
        about: &child.record,
        expires: child.expires,
        modified: Attributes::new(),
    };
    notify_subscribers(writer, sending, subscriptions, &happened)
}

/// Reports the latest instances of a container, oldest first, to a new subscription that asks for
/// former events (`psn`). Only instances that are still there can be reported.
pub(crate) fn former(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    subscription: &mut Record,
) -> Result<(), StoreError> {
    if sending.settings.is_operated {
        return Ok(());
    }
    let Some(number) = subscription.attributes.get("psn").and_then(Value::as_u64) else {
        return Ok(());
    };
    let Some(container) = subscription.parent.as_deref() else { return Ok(()) };
    let Some(container) = by_id(writer.read(), container, sending.now)? else { return Ok(()) };
    let Some(ty) = container.record.ty.instances() else { return Ok(()) };
    // Instances that are stored while retrievals are disabled cannot be retrieved later either.
    if content_instance::is_closed(&container.record) {
        return Ok(());
    }
    let (mut instances, mut beyond) = (Vec::new(), None);
    for _ in 0..number {
        let ri = &container.record.ri;
        let child = writer.read().instance(ri, ty, Edge::Latest, beyond)?;
        let Some(child) = child else { break };
        let record = writer.read().get(&child.ri)?.ok_or(StoreError::Corrupt(child.ri))?;
        beyond = Some(child.sequence);
        if alive(record.expires, sending.now) {
            instances.push(record);
        }
    }
    for instance in instances.into_iter().rev() {
        let happened = ChangeEvent {
            event: Event::CreateOfChild,
            about: &instance,
            expires: earlier(container.expires, instance.expires),
            modified: Attributes::new(),
        };
        if may_see(writer.read(), sending, subscription, &instance)?
            && let Some(event) = event(sending, subscription, &happened)
            && report(writer, sending, subscription, event)?
        {
            break;
        }
    }
    Ok(())
}

/// Returns whether the originator that named the targets of a subscription may retrieve the
/// reported resource.
///
/// The privilege at the creation of the subscription may have been withdrawn, and a child may be
/// closed although its parent is open. The originator's present address is unknown, so rules that
/// are limited to addresses do not apply.
pub(crate) fn may_see(
    read: &dyn Read,
    sending: &Sending<'_>,
    subscription: &Record,
    about: &Record,
) -> Result<bool, StoreError> {
    let from = subscription.named_by.as_deref();
    match Originator::identify(read, sending.settings, from, sending.now) {
        // Another originator may have taken the name.
        Ok(who)
            if !who.is_the(&NamedOriginator::of(
                subscription,
                NAMED_BY,
                from.unwrap_or_default(),
            ))? =>
        {
            Ok(false)
        }
        Ok(who) => may(&who, Access::Retrieve, about),
        Err(Refusal::Store(error)) => Err(error),
        Err(_) => Ok(false),
    }
}

/// Notifies the interested subscribers. A subscription whose counter reaches its end is removed.
fn notify_subscribers(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    subscriptions: Vec<Record>,
    happened: &ChangeEvent<'_>,
) -> Result<(), StoreError> {
    // The changes of the operator are not reported, also not after the start.
    if sending.settings.is_operated {
        return Ok(());
    }
    for mut subscription in subscriptions {
        if !may_see(writer.read(), sending, &subscription, happened.about)? {
            continue;
        }
        let Some(event) = event(sending, &subscription, happened) else { continue };
        report(writer, sending, &mut subscription, event)?;
    }
    Ok(())
}

/// Sends an event (m2m:notificationEvent) to the targets of a subscription, as its policies allow.
/// Returns whether the subscription has ended: its counter has reached its end.
pub(crate) fn report(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    subscription: &mut Record,
    event: Value,
) -> Result<bool, StoreError> {
    let event = sending.notification(subscription, "nev", event);
    let policy = Policy::of(writer.read(), subscription, sending.now)?;
    statistics::count_event(subscription);
    let is_closed = policy.is_closed(sending.now);
    // Events that wait are sent before this one.
    let are_waiting = subscription.waiting.is_some_and(|waiting| waiting.count() > 0);
    let waits = is_closed || are_waiting || !policy.is_immediate();
    let is_counted = statistics::is_enabled(subscription);
    if is_closed && policy.pending().is_none() {
        // The schedule allows no notification, and no policy keeps it (TS-0004 clause 7.5.1.2.2).
        if is_counted {
            writer.put(subscription)?;
        }
        return Ok(false);
    }
    if waits {
        waiting::enqueue(writer, sending, subscription, &event)?;
    } else {
        let category = policy.category(false);
        let content = json!({ "m2m:sgn": event });
        let how = (category, Delivery::Repeated);
        let reached = sending.send_to_all(writer.read(), subscription, &content, how)?;
        statistics::count_requests(subscription, &reached);
    }
    match subscription.attributes.get("exc").and_then(Value::as_u64) {
        None if waits || is_counted => writer.put(subscription)?,
        None => {}
        Some(0 | 1) => {
            waiting::deliver_all(writer, sending, subscription)?;
            writer.put(subscription)?;
            deletion(writer.read(), sending, subscription)?;
            writer.remove_tree(&subscription.ri, usize::MAX)?;
            return Ok(true);
        }
        Some(left) => {
            subscription.attributes.insert("exc".into(), (left - 1).into());
            writer.put(subscription)?;
        }
    }
    Ok(false)
}

/// Returns the event as a subscription reports it (m2m:notificationEvent), if it does.
fn event(
    sending: &Sending<'_>,
    subscription: &Record,
    happened: &ChangeEvent<'_>,
) -> Option<Value> {
    // The criteria were checked when they were stored. Unreadable ones must not fail the request.
    let criteria = Criteria::read(&subscription.attributes).ok()?;
    let about = happened.about;
    if !criteria.wants(happened.event, about.ty, &happened.modified)
        || !criteria.matches(about, happened.expires)
    {
        return None;
    }
    let representation = match criteria.detail {
        ContentType::All => in_root_element(
            about,
            representation::of_resource(sending.settings, about, happened.expires),
        ),
        ContentType::Modified => in_root_element(about, happened.modified.clone()),
        ContentType::ResourceId | ContentType::TimeSeries => {
            json!({ "m2m:uri": outbox::reference(sending.settings, &about.ri) })
        }
    };
    Some(json!({ "rep": representation, "net": happened.event.number() }))
}

/// Reports the end of a resource and of everything below it: the subscribed-to resources and the
/// subscriptions are deleted.
fn end(
    read: &dyn Read,
    sending: &Sending<'_>,
    record: &Record,
    expires: Option<Seconds>,
) -> Result<(), StoreError> {
    if record.ty == ResourceType::Subscription {
        return deletion(read, sending, record);
    }
    if record.ty.is_instance() || sending.outbox.is_full() {
        return Ok(());
    }
    let modified = Attributes::new();
    let happened = ChangeEvent { event: Event::Delete, about: record, expires, modified };
    for subscription in subscription::to(read, &record.ri, sending.now)? {
        if may_see(read, sending, &subscription, record)?
            && let Some(event) = event(sending, &subscription, &happened)
        {
            let event = sending.notification(&subscription, "nev", event);
            let policy = Policy::read(&subscription.attributes).unwrap_or_default();
            // The subscription ends as well, so the notification is not repeated.
            let how = (policy.category(false), Delivery::Once);
            sending.send_to_all(read, &subscription, &json!({ "m2m:sgn": event }), how)?;
        }
        deletion(read, sending, &subscription)?;
    }
    // The recursion is bounded by the maximum depth of resources.
    for ty in ResourceType::ALL {
        if ty.is_instance() || ty == ResourceType::Subscription {
            continue;
        }
        let mut after = None;
        while let Some(child) = read.next_of_type(&record.ri, ty, after)? {
            let below = read.get(&child.ri)?.ok_or(StoreError::Corrupt(child.ri))?;
            end(read, sending, &below, earlier(expires, below.expires))?;
            after = Some(child.sequence);
        }
    }
    Ok(())
}

/// Notifies the subscriber that its subscription is deleted.
fn deletion(
    read: &dyn Read,
    sending: &Sending<'_>,
    subscription: &Record,
) -> Result<(), StoreError> {
    let Some(subscriber) = subscription.attributes.get("su").and_then(Value::as_str) else {
        return Ok(());
    };
    let content = sending.notification(subscription, "sud", true.into());
    let content = Bytes::from(json!({ "m2m:sgn": content }).to_string());
    sending.send(read, subscription, (SUBSCRIBER, 0, subscriber), &content.into())?;
    Ok(())
}
