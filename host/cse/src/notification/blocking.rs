//! Updates that wait for the response of a notification target (notificationEventType 7, TS-0004
//! clauses 7.5.1.2.19 and 7.3.2.9).

use serde_json::json;

use crate::access::decision::{Originator, may};
use crate::access::grants::Access;
use crate::error::Refusal;
use crate::notification::criteria::{Criteria, Event};
use crate::notification::events::may_see;
use crate::notification::outbox::{self, Outbox};
use crate::notification::point_of_access::Route;
use crate::notification::sending::Sending;
use crate::notification::subscription::{self, targets};
use crate::notification::verification::{Question, Unverified, Verified, question};
use crate::record::{Attributes, Record};
use crate::request::context::Context;
use crate::resource::notification_target::NotificationTarget;
use crate::resource::registrant;
use crate::resource::representation::in_root_element;
use crate::resource::schema::{AttributeError, TARGETS};
use crate::store::{Read, StoreError};

/// The attributes of other subscriptions.
const SPECIFIC: [&str; 13] =
    ["exc", "gpi", "nfu", "bn", "rl", "psn", "pn", "nsp", "ln", "nec", "su", "acrs", "nse"];

/// Checks a subscription, if it blocks updates (TS-0004 clause 7.4.8.2.1).
///
/// # Errors
/// Returns an error if it is invalid, or the resource has another one.
pub(crate) fn check(
    read: &dyn Read,
    context: &Context<'_>,
    record: &Record,
    before: Option<&Record>,
) -> Result<(), Refusal> {
    if !Criteria::read(&record.attributes)?.blocks() {
        return Ok(());
    }
    if let Some(before) = before
        && !Criteria::read(&before.attributes)?.blocks()
    {
        return Err(AttributeError::value("enc", "cannot have 7 in net after an update").into());
    }
    let attributes = &record.attributes;
    if let Some(name) = SPECIFIC.into_iter().find(|name| attributes.contains_key(*name)) {
        return Err(AttributeError::value(name, "cannot be given with net 7").into());
    }
    let mut all = targets(attributes);
    let (Some(target), None) = (all.next(), all.next()) else {
        return Err(AttributeError::value(TARGETS, "must have one target with net 7").into());
    };
    let NotificationTarget::Resource(address) = NotificationTarget::parse(TARGETS, target)? else {
        return Err(AttributeError::value(TARGETS, "must be a resource with net 7").into());
    };
    let Some(parent) = record.parent.as_deref() else { return Ok(()) };
    for other in subscription::to(read, parent, context.now)? {
        let blocks = Criteria::read(&other.attributes).is_ok_and(|criteria| criteria.blocks());
        if blocks && other.ri != record.ri {
            return Err(Refusal::BlockingSubscriptionExists);
        }
    }
    let ae = registrant::ae_at(read, context.settings, &address, context.now)?;
    let who = ae.map_or_else(|| target.to_owned(), |ae| ae.record.ri);
    let parent = read.get(parent)?.ok_or_else(|| StoreError::Corrupt(parent.into()))?;
    match Originator::identify(read, context.settings, Some(&who), context.now) {
        Ok(who) if may(&who, Access::Update, &parent)? => Ok(()),
        Err(Refusal::Store(error)) => Err(error.into()),
        _ => Err(Refusal::BlockerHasNoPrivilege),
    }
}

/// Returns the request to the target that must approve an update of a resource first, if there is
/// one. `changed` are the names of its changed attributes.
///
/// # Errors
/// Returns an error if the target cannot be reached.
pub(crate) fn approval(
    read: &dyn Read,
    context: &Context<'_>,
    resource: &Record,
    changed: &[String],
    verified: Option<&Verified>,
) -> Result<Option<Unverified>, Refusal> {
    let outbox = Outbox::default();
    let sending = Sending { settings: context.settings, now: context.now, outbox: &outbox };
    for subscription in subscription::to(read, &resource.ri, context.now)? {
        let Ok(criteria) = Criteria::read(&subscription.attributes) else { continue };
        let names: Attributes =
            changed.iter().map(|name| (name.clone(), Default::default())).collect();
        if !criteria.wants(Event::BlockingUpdate, resource.ty, &names)
            || verified.is_some_and(|verified| verified.approves(&subscription.ri, &resource.ri))
            || !may_see(read, &sending, &subscription, resource)?
        {
            continue;
        }
        let Some(target) = targets(&subscription.attributes).next() else { continue };
        let given = context.representation(resource.root())?;
        let event = json!({
            "rep": in_root_element(resource, given),
            "net": Event::BlockingUpdate.number(),
        });
        let content = json!({ "m2m:sgn": sending.notification(&subscription, "nev", event) });
        let first = match sending.route(read, &subscription, (TARGETS, 0, target))? {
            Some(Route::Unreachable(_)) | None => return Err(Refusal::NoApproval),
            Some(route) => {
                let sur = outbox::reference(context.settings, &subscription.ri);
                let content = content.to_string().into();
                let notification = question(context.settings, route, sur, content);
                let notification = notification.ok_or(Refusal::NoApproval)?;
                Question { target: target.into(), notification: Box::new(notification) }
            }
        };
        return Ok(Some(Unverified {
            ri: subscription.ri,
            first,
            then: Vec::new(),
            blocks: Some(resource.ri.clone()),
            block: None,
        }));
    }
    Ok(None)
}
