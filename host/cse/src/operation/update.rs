//! Update (TS-0004 clause 7.3.3): new values, and null for what is to be removed.

use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;

use crate::access::decision::{self, demand};
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
use crate::record::earlier;
use crate::request::context::Context;
use crate::request::parameters::ResultContent;
use crate::resource::address::{Place, by_id};
use crate::resource::ae_announcement;
use crate::resource::attributes;
use crate::resource::content_instance;
use crate::resource::representation::{self, rooted};
use crate::resource::schema::{AttributeError, CUSTODIAN, NAMED_BY, POLICIES};
use crate::store::{StoreError, Writer};

/// Updates a resource.
///
/// # Errors
/// Why it stays as it is.
pub(crate) fn update(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    outbox: &Outbox,
    verified: Option<&Verified>,
) -> Result<ResponsePrimitive, OperationError> {
    let who = context.originator(writer.read())?;
    let found = match context.target(writer.read())? {
        Place::Resource(found) => found,
        Place::Instance { .. } => {
            return Err(Refusal::NotAllowed("la and ol can't be updated").into());
        }
    };
    let mut record = found.record;
    let before = record.clone();
    let representation = context.representation(record.ty);
    // Who may do what is its own to change, and goes by privileges of its own (TS-0001 clause
    // 9.6.1.3.2).
    let governs = representation
        .as_ref()
        .ok()
        .and_then(|given| [POLICIES, CUSTODIAN].into_iter().find(|name| given.contains_key(*name)));
    let access = if governs.is_some() { Access::Govern } else { Access::Update };
    demand(&who, access, &record)?;
    match record.ty {
        ResourceType::CseBase => {
            return Err(Refusal::NotAllowed("a CSEBase can't be updated").into());
        }
        ResourceType::ContentInstance => {
            return Err(Refusal::NotAllowed("a contentInstance can't be updated").into());
        }
        _ => {}
    }
    let representation = representation?;
    if let Some(name) = governs
        && representation.len() > 1
    {
        return Err(AttributeError::value(name, "must be the only attribute in an update").into());
    }
    let as_given = context.to_compare_with(&representation);
    let change = attributes::for_update(record.ty, representation, context.now)?;
    if let Some(asked) = change.expires {
        record.expires = lifetime(context, record.ty, record.depth, asked);
    }
    for name in &change.removed {
        record.attributes.remove(*name);
    }
    let set = change.set.keys().map(String::as_str);
    let named: Vec<String> = set.chain(change.removed).map(Into::into).collect();
    let (members, most) = (change.set.contains_key("mid"), change.set.contains_key("mnm"));
    let ages = change.set.contains_key("mia");
    if subscription::names_targets(context, &record, &change.set) {
        record.named_by.clone_from(&context.request.from);
        let from = context.request.from.as_deref();
        names::note(writer.read(), context.settings, &mut record, NAMED_BY, from, context.now)?;
    }
    record.attributes.extend(change.set);
    attributes::check_whole(record.ty, &record.attributes)?;
    if record.ty == ResourceType::AeAnnc {
        let cse = ae_announcement::announced_by(&record)?;
        ae_announcement::check(context.settings, &cse, &record.attributes)?;
    }
    record.modified = context.now;
    if let Some(state) = &mut record.state {
        *state = state.saturating_add(1);
    }
    if record.ty == ResourceType::Container {
        content_instance::drop_expired(writer, &mut record, context.now)?;
        content_instance::trim(writer, &context.settings.limits, &mut record)?;
        if ages {
            content_instance::shorten(writer, &mut record, context.now)?;
        }
    }
    if record.ty == ResourceType::Group && members {
        group::check(writer.read(), context, &mut record)?;
    } else if record.ty == ResourceType::Group && most {
        group::check_count(&record)?;
    }
    let named = named.iter().map(String::as_str);
    names::resolve(writer, context.settings, &mut record, Some(&before), named, context.now)?;
    if record.ty == ResourceType::Subscription {
        let ask = subscription::check(writer.read(), context, &record, Some(&before), verified)?;
        if let Some(unverified) = ask {
            return Err(OperationError::Unverified(Box::new(unverified)));
        }
    }
    let used = quota::usage(writer, record.owner.as_deref())?;
    writer.put(&record)?;
    decision::note_above(writer, &record)?;
    quota::check(writer, &context.settings.limits, record.owner.as_deref(), used)?;
    let above = match &record.parent {
        Some(ri) => {
            by_id(writer.read(), ri, context.now)?
                .ok_or_else(|| StoreError::Corrupt(ri.clone()))?
                .expires
        }
        None => None,
    };
    let expires = earlier(above, record.expires);
    events::updated(writer, context, outbox, &before, &record, expires)?;
    let all = representation::attributes(context.settings, &record, expires);
    let content = match context.options.content {
        ResultContent::Nothing => None,
        ResultContent::Modified => {
            Some(rooted(record.ty, representation::modified(all, &as_given)))
        }
        _ => Some(rooted(record.ty, all)),
    };
    Ok(context.answer(Rsc::Updated, content))
}
