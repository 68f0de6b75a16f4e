//! Update (TS-0004 clause 7.3.3): new values, and null for attributes to remove.

use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;

use crate::access::allowed_attributes::{AllowedAttributes, require_attributes};
use crate::access::decision;
use crate::access::grants::Access;
use crate::access::names;
use crate::error::Refusal;
use crate::notification::aggregation;
use crate::notification::blocking;
use crate::notification::events;
use crate::notification::outbox::Outbox;
use crate::notification::policy::AGGREGATION;
use crate::notification::schedule;
use crate::notification::sending::Sending;
use crate::notification::statistics;
use crate::notification::subscription;
use crate::notification::verification::Verified;
use crate::notification::waiting;
use crate::operation::announcement;
use crate::operation::create::lifetime;
use crate::operation::error::OperationError;
use crate::operation::flex_container;
use crate::operation::group;
use crate::operation::quota;
use crate::operation::specialization;
use crate::record::{Attributes, Record, Seconds, earlier};
use crate::request::context::Context;
use crate::request::parameters::ResultContent;
use crate::resource::address::{Resolved, ResolvedResource, by_id};
use crate::resource::ae_announcement;
use crate::resource::announced;
use crate::resource::attributes::{self, Change};
use crate::resource::content_instance;
use crate::resource::representation::{self, in_root_element};
use crate::resource::schema::{
    AttributeError, CUSTODIAN, FORWARDING, MEMBERS, NAMED_BY, POLICIES, TARGETS,
};
use crate::resource::time_series;
use crate::store::{Read, StoreError, Writer};

/// Updates a resource.
///
/// # Errors
/// Returns the reason why it is not updated.
pub(crate) fn update(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    outbox: &Outbox,
    verified: Option<&Verified>,
) -> Result<ResponsePrimitive, OperationError> {
    let (before, representation, allowed) = admit(writer.read(), context)?;
    let as_given = context.to_compare_with(&representation);
    let own = specialization::for_update(context.settings, &before, &representation)?;
    let change = attributes::for_update(before.ty, own, representation, context.now)?;
    let set: Vec<String> = change.set.keys().cloned().collect();
    let changed: Vec<String> = set.iter().chain(&change.removed).cloned().collect();
    if before.ty == ResourceType::TimeSeries {
        time_series::check_update(&before.attributes, &changed)?;
    }
    let used = quota::usage(writer, before.owner.as_deref())?;
    let mut record = before.clone();
    apply(writer.read(), context, &mut record, change)?;
    check(writer, context, &mut record, &set, content_instance::is_closed(&before))?;
    announcement::change(writer, context, &mut record, &changed)?;
    let instance = match record.ty {
        ResourceType::FlexContainer => {
            flex_container::settle(writer, context, &mut record, Some(&before), &changed)?
        }
        _ => None,
    };
    if record.ty == ResourceType::TimeSeries && changed.iter().any(|name| name == "mdd") {
        time_series::switch(writer, &mut record)?;
    }
    let names = changed.iter().map(String::as_str);
    names::resolve(writer, context.settings, &mut record, Some(&before), names, context.now)?;
    if record.ty == ResourceType::AccessControlPolicy {
        let (read, who) = (writer.read(), context.originator(writer.read())?);
        let names = changed.iter().map(String::as_str);
        let whose = (read, context.settings, &who);
        names::resolve_groups(whose, &mut record, Some(&before), names, context.now)?;
    }
    if record.ty == ResourceType::Subscription {
        check_subscription(writer, context, (&before, &mut record), verified)?;
    }
    // Its policies may have changed.
    let sending = Sending { settings: context.settings, now: context.now, outbox };
    if record.ty == ResourceType::Subscription {
        waiting::adapt(writer, &sending, &before, &mut record)?;
        statistics::adapt(&mut record, &changed);
    }
    waiting::deliver(writer, &sending, &mut record)?;
    aggregation::deliver(writer, &sending, &mut record)?;
    writer.put(&record)?;
    if record.ty == ResourceType::Schedule {
        waiting::schedule_changed(writer, &sending, &record)?;
    }
    decision::mark_ancestors(writer, &record)?;
    let limits = &context.settings.limits;
    quota::check(writer, limits, record.owner.as_deref(), used)?;
    if record.is_monitored() && !before.is_monitored() {
        time_series::check_count(writer, record.owner.as_deref())?;
    }
    let expires = expiration(writer.read(), context, &record)?;
    let approval = blocking::approval(writer.read(), context, &before, &changed, verified)?;
    if let Some(unverified) = approval {
        return Err(OperationError::Unverified(Box::new(unverified)));
    }
    events::updated(writer, &sending, &before, &record, expires)?;
    if let Some(record) = instance {
        quota::check_count(writer.read(), limits)?;
        let expires = earlier(expires, record.expires);
        events::created(writer, &sending, &ResolvedResource { record, expires })?;
    }
    Ok(answer(context, &record, expires, (&as_given, &allowed)))
}

/// Checks a changed subscription, whose new targets must agree. Former events are not for them.
fn check_subscription(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    (before, record): (&Record, &mut Record),
    verified: Option<&Verified>,
) -> Result<(), OperationError> {
    blocking::check(writer.read(), context, record, Some(before))?;
    let ask = subscription::check(writer.read(), context, record, Some(before), verified)?;
    if let Some(unverified) = ask {
        return Err(OperationError::Unverified(Box::new(unverified)));
    }
    if has_other_targets(before, record) {
        waiting::discard(writer, record)?;
    }
    Ok(())
}

/// Returns whether a subscription notifies other targets than `before`, or those of another
/// originator.
fn has_other_targets(before: &Record, after: &Record) -> bool {
    let differs = |name| {
        before.attributes.get(name) != after.attributes.get(name)
            || before.names.resources(name) != after.names.resources(name)
    };
    [TARGETS, FORWARDING].into_iter().any(differs)
        || before.named_by != after.named_by
        || before.names.registrants(NAMED_BY) != after.names.registrants(NAMED_BY)
}

/// Returns the resource that the originator may update, the given representation, and the attributes
/// to which the originator has access.
pub(crate) fn admit(
    read: &dyn Read,
    context: &Context<'_>,
) -> Result<(Record, Attributes, AllowedAttributes), Refusal> {
    let who = context.originator(read)?;
    let record = match context.target(read)? {
        Resolved::Resource(found) => found.record,
        Resolved::Instance { .. } => {
            return Err(Refusal::NotAllowed("la and ol cannot be updated"));
        }
    };
    let representation = context.representation(record.root());
    // The attributes that control access are updated separately, and require their own privilege
    // (TS-0001 clause 9.6.1.3.2).
    let governs = representation
        .as_ref()
        .ok()
        .and_then(|given| [POLICIES, CUSTODIAN].into_iter().find(|name| given.contains_key(*name)));
    let access = if governs.is_some() { Access::UpdatePrivileges } else { Access::Update };
    let allowed = require_attributes(&who, access, &record)?;
    match record.ty {
        ResourceType::CseBase => return Err(Refusal::NotAllowed("a CSEBase cannot be updated")),
        ResourceType::Request => {
            return Err(Refusal::NotAllowed("a request resource cannot be updated"));
        }
        ty if ty.is_instance() => {
            return Err(Refusal::NotAllowed("an instance cannot be updated"));
        }
        _ => {}
    }
    let representation = representation?;
    allowed.require(access, representation.keys())?;
    match governs {
        Some(name) if representation.len() > 1 => {
            Err(AttributeError::value(name, "must be the only attribute in an update").into())
        }
        _ => Ok((record, representation, allowed)),
    }
}

/// Applies a change to a record.
fn apply(
    read: &dyn Read,
    context: &Context<'_>,
    record: &mut Record,
    change: Change,
) -> Result<(), StoreError> {
    if let Some(asked) = change.expires {
        record.expires = lifetime(context, record.ty, record.depth, asked);
    }
    for name in &change.removed {
        record.attributes.remove(name);
    }
    if subscription::names_targets(context, record, &change.set) {
        record.named_by.clone_from(&context.request.from);
        let from = context.request.from.as_deref();
        names::store_registrant(read, context.settings, record, NAMED_BY, from, context.now)?;
    }
    record.attributes.extend(change.set);
    Ok(())
}

/// Checks a record whose attributes in `set` have new values, and updates the state that depends on
/// it. If it `was_closed`, it refused requests to its instances before.
fn check(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    record: &mut Record,
    set: &[String],
    was_closed: bool,
) -> Result<(), Refusal> {
    let is_set = |name: &str| set.iter().any(|set| set == name);
    if record.ty == ResourceType::TimeSeries && is_set("pei") && !is_set("peid") {
        record.attributes.remove("peid");
        time_series::complete(&mut record.attributes);
    }
    attributes::check_whole(record.ty, &record.attributes)?;
    if record.ty == ResourceType::Schedule
        && let Some(parent) = &record.parent
    {
        let parent = writer.read().get(parent)?;
        let parent = parent.ok_or_else(|| StoreError::Corrupt(record.ri.clone()))?;
        schedule::check_names(parent.ty, set)?;
    }
    if record.ty == ResourceType::AeAnnc {
        let cse = ae_announcement::announced_by(record)?;
        ae_announcement::check(context.settings, &cse, &record.attributes)?;
    }
    if record.ty.is_announcement() {
        let cse = record.owner.as_deref().unwrap_or_default();
        announced::check_link(context.settings, cse, &record.attributes)?;
    }
    record.modified = context.now;
    if let Some(state) = &mut record.state {
        *state = state.saturating_add(1);
    }
    match record.ty {
        ResourceType::Container | ResourceType::TimeSeries => {
            content_instance::drop_expired(writer, record, context.now)?;
            content_instance::trim(writer, &context.settings.limits, record, context.now)?;
            if is_set("mia") {
                content_instance::shorten(writer, record, context.now)?;
            }
            if was_closed && !content_instance::is_closed(record) {
                content_instance::keep_latest(writer, record, 0)?;
            }
        }
        ResourceType::Group if is_set(AGGREGATION) => group::check_aggregation(record)?,
        _ => {}
    }
    match record.ty {
        ResourceType::Group if is_set(MEMBERS) => group::check(writer.read(), context, record)?,
        ResourceType::Group if is_set("mnm") => group::check_count(record)?,
        _ => {}
    }
    Ok(())
}

/// Returns the expiration time of a resource or of an ancestor, whichever is first.
fn expiration(
    read: &dyn Read,
    context: &Context<'_>,
    record: &Record,
) -> Result<Option<Seconds>, StoreError> {
    let Some(ri) = &record.parent else { return Ok(record.expires) };
    let parent = by_id(read, ri, context.now)?.ok_or_else(|| StoreError::Corrupt(ri.clone()))?;
    Ok(earlier(parent.expires, record.expires))
}

fn answer(
    context: &Context<'_>,
    record: &Record,
    expires: Option<Seconds>,
    (as_given, allowed): (&Attributes, &AllowedAttributes),
) -> ResponsePrimitive {
    let mut all = representation::of_resource(context.settings, record, expires);
    all.retain(|name, _| allowed.contain(name));
    let content = match context.options.content {
        ResultContent::Nothing => None,
        ResultContent::Modified => {
            Some(in_root_element(record, representation::modified(all, as_given)))
        }
        _ => Some(in_root_element(record, all)),
    };
    context.answer(Rsc::Updated, content)
}
