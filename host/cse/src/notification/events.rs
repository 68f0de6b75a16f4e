//! The notifications of the changes that a request makes (TS-0004 clause 7.5.1.2).
//!
//! Only changes that a request asks for are reported. Automatic ones are not: the removal of
//! expired resources, and of the oldest instance of a full container.

use bytes::Bytes;
use saegis_onem2m::resource::ResourceType;
use serde_json::{Map, Value, json};

use crate::access::decision::{NamedOriginator, Originator, may};
use crate::access::grants::Access;
use crate::error::Refusal;
use crate::notification::criteria::{ContentType, Criteria, Event};
use crate::notification::outbox::{self, Outbox};
use crate::notification::point_of_access::{Route, route_to_ae, route_to_others};
use crate::notification::subscription::{self, targets};
use crate::record::{Attributes, Record, Seconds, earlier};
use crate::request::context::Context;
use crate::resource::address::ResolvedResource;
use crate::resource::notification_target::NotificationTarget;
use crate::resource::representation::{self, in_root_element};
use crate::resource::schema::{NAMED_BY, SUBSCRIBER, TARGETS};
use crate::store::{Read, StoreError, Writer};

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
    context: &Context<'_>,
    outbox: &Outbox,
    child: &ResolvedResource,
) -> Result<(), StoreError> {
    of_child(writer, context, outbox, Event::CreateOfChild, child)
}

/// Reports that a resource will be deleted with everything below it.
pub(crate) fn ended(
    read: &dyn Read,
    context: &Context<'_>,
    outbox: &Outbox,
    resource: &ResolvedResource,
) -> Result<(), StoreError> {
    end(read, context, outbox, &resource.record, resource.expires)
}

/// Reports to the parent's subscribers that a resource will be deleted.
pub(crate) fn deleted(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    outbox: &Outbox,
    resource: &ResolvedResource,
) -> Result<(), StoreError> {
    of_child(writer, context, outbox, Event::DeleteOfChild, resource)
}

/// Reports the update of a resource.
pub(crate) fn updated(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    outbox: &Outbox,
    before: &Record,
    after: &Record,
    expires: Option<Seconds>,
) -> Result<(), StoreError> {
    let subscriptions = subscription::to(writer.read(), &after.ri, context.now)?;
    if subscriptions.is_empty() {
        return Ok(());
    }
    let old = representation::of_resource(context.settings, before, before.expires);
    let new = representation::of_resource(context.settings, after, expires);
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
    notify_subscribers(writer, context, outbox, subscriptions, &happened)
}

fn of_child(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    outbox: &Outbox,
    event: Event,
    child: &ResolvedResource,
) -> Result<(), StoreError> {
    let Some(parent) = &child.record.parent else { return Ok(()) };
    let mut subscriptions = subscription::to(writer.read(), parent, context.now)?;
    // A subscription does not report itself.
    subscriptions.retain(|s| s.ri != child.record.ri);
    let happened = ChangeEvent {
        event,
        about: &child.record,
        expires: child.expires,
        modified: Attributes::new(),
    };
    notify_subscribers(writer, context, outbox, subscriptions, &happened)
}

/// Returns whether the originator that named the targets of a subscription may retrieve the
/// reported resource.
///
/// The privilege at the creation of the subscription may have been withdrawn, and a child may be
/// closed although its parent is open. The originator's present address is unknown, so rules that
/// are limited to addresses do not apply.
fn may_see(
    read: &dyn Read,
    context: &Context<'_>,
    subscription: &Record,
    about: &Record,
) -> Result<bool, StoreError> {
    let from = subscription.named_by.as_deref();
    match Originator::identify(read, context.settings, from, context.now) {
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
    context: &Context<'_>,
    outbox: &Outbox,
    subscriptions: Vec<Record>,
    happened: &ChangeEvent<'_>,
) -> Result<(), StoreError> {
    for mut subscription in subscriptions {
        if !may_see(writer.read(), context, &subscription, happened.about)? {
            continue;
        }
        if !notify(writer.read(), context, outbox, &subscription, happened)? {
            continue;
        }
        match subscription.attributes.get("exc").and_then(Value::as_u64) {
            None => {}
            Some(0 | 1) => {
                deletion(writer.read(), context, outbox, &subscription)?;
                writer.remove_tree(&subscription.ri, usize::MAX)?;
            }
            Some(left) => {
                subscription.attributes.insert("exc".into(), (left - 1).into());
                writer.put(&subscription)?;
            }
        }
    }
    Ok(())
}

/// Sends the notification of a subscription. Returns whether the subscription reports the event.
fn notify(
    read: &dyn Read,
    context: &Context<'_>,
    outbox: &Outbox,
    subscription: &Record,
    happened: &ChangeEvent<'_>,
) -> Result<bool, StoreError> {
    // The criteria were checked when they were stored. Unreadable ones must not fail the request.
    let Ok(criteria) = Criteria::read(&subscription.attributes) else { return Ok(false) };
    let about = happened.about;
    if !criteria.wants(happened.event, about.ty, &happened.modified) {
        return Ok(false);
    }
    let representation = match criteria.detail {
        ContentType::All => in_root_element(
            about.ty,
            representation::of_resource(context.settings, about, happened.expires),
        ),
        ContentType::Modified => in_root_element(about.ty, happened.modified.clone()),
        ContentType::ResourceId => {
            json!({ "m2m:uri": outbox::reference(context.settings, &about.ri) })
        }
    };
    let event = json!({ "rep": representation, "net": happened.event.number() });
    let content = content(context, subscription, "nev", event);
    for (at, target) in targets(&subscription.attributes).enumerate() {
        send(read, context, outbox, subscription, (TARGETS, at, target), &content)?;
    }
    Ok(true)
}

/// Reports the end of a resource and of everything below it: the subscribed-to resources and the
/// subscriptions are deleted.
fn end(
    read: &dyn Read,
    context: &Context<'_>,
    outbox: &Outbox,
    record: &Record,
    expires: Option<Seconds>,
) -> Result<(), StoreError> {
    if record.ty == ResourceType::Subscription {
        return deletion(read, context, outbox, record);
    }
    if record.ty == ResourceType::ContentInstance || outbox.is_full() {
        return Ok(());
    }
    let modified = Attributes::new();
    let happened = ChangeEvent { event: Event::Delete, about: record, expires, modified };
    for subscription in subscription::to(read, &record.ri, context.now)? {
        if may_see(read, context, &subscription, record)? {
            notify(read, context, outbox, &subscription, &happened)?;
        }
        deletion(read, context, outbox, &subscription)?;
    }
    // The recursion is bounded by the maximum depth of resources.
    for ty in ResourceType::ALL {
        if matches!(ty, ResourceType::ContentInstance | ResourceType::Subscription) {
            continue;
        }
        let mut after = None;
        while let Some(child) = read.next_of_type(&record.ri, ty, after)? {
            let below = read.get(&child.ri)?.ok_or(StoreError::Corrupt(child.ri))?;
            end(read, context, outbox, &below, earlier(expires, below.expires))?;
            after = Some(child.sequence);
        }
    }
    Ok(())
}

/// Notifies the subscriber that its subscription is deleted.
fn deletion(
    read: &dyn Read,
    context: &Context<'_>,
    outbox: &Outbox,
    subscription: &Record,
) -> Result<(), StoreError> {
    let Some(subscriber) = subscription.attributes.get("su").and_then(Value::as_str) else {
        return Ok(());
    };
    let content = content(context, subscription, "sud", true.into());
    send(read, context, outbox, subscription, (SUBSCRIBER, 0, subscriber), &content)
}

fn content(context: &Context<'_>, subscription: &Record, what: &str, value: Value) -> Bytes {
    let mut notification = Map::new();
    notification.insert(what.into(), value);
    notification.insert("sur".into(), outbox::reference(context.settings, &subscription.ri).into());
    if let Some(creator) = subscription.attributes.get("cr") {
        notification.insert("cr".into(), creator.clone());
    }
    json!({ "m2m:sgn": notification }).to_string().into()
}

/// Sends to the address at position `at` in an attribute of a subscription. An AE that is gone is
/// not notified, and neither is another one that has taken its name.
fn send(
    read: &dyn Read,
    context: &Context<'_>,
    outbox: &Outbox,
    subscription: &Record,
    (attribute, at, to): (&'static str, usize, &str),
    content: &Bytes,
) -> Result<(), StoreError> {
    let Ok(address) = NotificationTarget::parse(attribute, to) else { return Ok(()) };
    let named_by = subscription.named_by.as_deref().unwrap_or_default();
    let named = subscription.names.resources(attribute).get(at).and_then(Option::as_ref);
    let found = named.map(|ae| ae.find(read, context.now)).transpose()?;
    let to = match found {
        Some(None) => Route::Unreachable("the AE that it named is no longer registered"),
        Some(Some(ae)) if ae.record.ty == ResourceType::Ae => {
            route_to_ae(read, context.now, ae.record)?
        }
        Some(Some(_)) | None => {
            route_to_others(read, context.settings, context.now, &address, named_by)?
        }
    };
    let sur = outbox::reference(context.settings, &subscription.ri);
    outbox.send(context.settings, to, &sur, content);
    Ok(())
}
