//! Update (TS-0004 clause 7.3.3): new values, and null for attributes to remove.

use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;

use crate::access::decision::{self, require};
use crate::access::grants::Access;
use crate::access::names;
use crate::error::Refusal;
use crate::notification::events;
use crate::notification::outbox::Outbox;
use crate::notification::subscription;
use crate::notification::verification::Verified;
use crate::operation::create::lifetime;
use crate::operation::error::OperationError;
use crate::operation::group;
use crate::operation::quota;
use crate::record::{Attributes, Record, Seconds, earlier};
use crate::request::context::Context;
use crate::request::parameters::ResultContent;
use crate::resource::address::{Resolved, by_id};
use crate::resource::ae_announcement;
use crate::resource::attributes::{self, Change};
use crate::resource::content_instance;
use crate::resource::representation::{self, in_root_element};
use crate::resource::schema::{AttributeError, CUSTODIAN, MEMBERS, NAMED_BY, POLICIES};
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
    let (before, representation) = admit(writer.read(), context)?;
    let as_given = context.to_compare_with(&representation);
    let change = attributes::for_update(before.ty, representation, context.now)?;
    let set: Vec<String> = change.set.keys().cloned().collect();
    let removed = change.removed.clone();
    let mut record = before.clone();
    apply(writer.read(), context, &mut record, change)?;
    check(writer, context, &mut record, &set)?;
    let names = set.iter().map(String::as_str).chain(removed);
    names::resolve(writer, context.settings, &mut record, Some(&before), names, context.now)?;
    if record.ty == ResourceType::Subscription {
        let ask = subscription::check(writer.read(), context, &record, Some(&before), verified)?;
        if let Some(unverified) = ask {
            return Err(OperationError::Unverified(Box::new(unverified)));
        }
    }
    let used = quota::usage(writer, record.owner.as_deref())?;
    writer.put(&record)?;
    decision::mark_ancestors(writer, &record)?;
    quota::check(writer, &context.settings.limits, record.owner.as_deref(), used)?;
    let expires = expiration(writer.read(), context, &record)?;
    events::updated(writer, context, outbox, &before, &record, expires)?;
    Ok(answer(context, &record, expires, &as_given))
}

/// Returns the resource that the originator may update, and the given representation.
fn admit(read: &dyn Read, context: &Context<'_>) -> Result<(Record, Attributes), Refusal> {
    let who = context.originator(read)?;
    let record = match context.target(read)? {
        Resolved::Resource(found) => found.record,
        Resolved::Instance { .. } => {
            return Err(Refusal::NotAllowed("la and ol cannot be updated"));
        }
    };
    let representation = context.representation(record.ty);
    // The attributes that control access are updated separately, and require their own privilege
    // (TS-0001 clause 9.6.1.3.2).
    let governs = representation
        .as_ref()
        .ok()
        .and_then(|given| [POLICIES, CUSTODIAN].into_iter().find(|name| given.contains_key(*name)));
    let access = if governs.is_some() { Access::UpdatePrivileges } else { Access::Update };
    require(&who, access, &record)?;
    match record.ty {
        ResourceType::CseBase => return Err(Refusal::NotAllowed("a CSEBase cannot be updated")),
        ResourceType::ContentInstance => {
            return Err(Refusal::NotAllowed("a contentInstance cannot be updated"));
        }
        _ => {}
    }
    let representation = representation?;
    match governs {
        Some(name) if representation.len() > 1 => {
            Err(AttributeError::value(name, "must be the only attribute in an update").into())
        }
        _ => Ok((record, representation)),
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
        record.attributes.remove(*name);
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
/// it.
fn check(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    record: &mut Record,
    set: &[String],
) -> Result<(), Refusal> {
    let is_set = |name: &str| set.iter().any(|set| set == name);
    attributes::check_whole(record.ty, &record.attributes)?;
    if record.ty == ResourceType::AeAnnc {
        let cse = ae_announcement::announced_by(record)?;
        ae_announcement::check(context.settings, &cse, &record.attributes)?;
    }
    record.modified = context.now;
    if let Some(state) = &mut record.state {
        *state = state.saturating_add(1);
    }
    match record.ty {
        ResourceType::Container => {
            content_instance::drop_expired(writer, record, context.now)?;
            content_instance::trim(writer, &context.settings.limits, record, context.now)?;
            if is_set("mia") {
                content_instance::shorten(writer, record, context.now)?;
            }
        }
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
    as_given: &Attributes,
) -> ResponsePrimitive {
    let all = representation::of_resource(context.settings, record, expires);
    let content = match context.options.content {
        ResultContent::Nothing => None,
        ResultContent::Modified => {
            Some(in_root_element(record.ty, representation::modified(all, as_given)))
        }
        _ => Some(in_root_element(record.ty, all)),
    };
    context.answer(Rsc::Updated, content)
}
