//! Create (TS-0004 clause 7.3.3).

use std::time::Duration;

use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use serde_json::{Value, json};

use crate::access::decision::{self, require};
use crate::access::grants::Access;
use crate::access::names;
use crate::error::Refusal;
use crate::identifiers::MAX_NAME;
use crate::notification::events;
use crate::notification::long_poll;
use crate::notification::outbox::Outbox;
use crate::notification::subscription;
use crate::notification::verification::Verified;
use crate::operation::delete;
use crate::operation::error::OperationError;
use crate::operation::group;
use crate::operation::quota;
use crate::operation::resource_id::{self, Assigned, Registree};
use crate::record::names::{Names, Registrant};
use crate::record::{Attributes, Record, Seconds, Stock, alive, earlier};
use crate::request::context::Context;
use crate::request::parameters::ResultContent;
use crate::resource::address::{Found, Resolved};
use crate::resource::ae_announcement::{self, AE_ID};
use crate::resource::attributes::{self, Given};
use crate::resource::content_instance;
use crate::resource::remote_cse;
use crate::resource::representation::{self, rooted};
use crate::resource::schema::{AttributeError, CREATOR, MEMBERS, NAMED_BY};
use crate::store::{Read, StoreError, Writer};

/// How far below the `<CSEBase>` a resource may be.
pub(crate) const MAX_DEPTH: u16 = 16;

/// Creates a resource.
///
/// # Errors
/// Why it is not created.
pub(crate) fn create(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    outbox: &Outbox,
    verified: Option<&Verified>,
) -> Result<ResponsePrimitive, OperationError> {
    let number = context.request.resource_type.ok_or(Refusal::NoResourceType)?;
    let ty = ResourceType::from_number(number).ok_or(Refusal::ResourceType(number))?;
    let parent = parent(writer.read(), context, ty)?;
    let mut assigned = resource_id::assign(writer, context, verified, ty, &parent.record)?;
    if ty == ResourceType::PollingChannel {
        long_poll::admit(writer.read(), context, &parent.record)?;
    }
    let representation = context.representation(ty)?;
    let as_given = context.to_compare_with(&representation);
    let mut given = attributes::for_create(ty, representation, context.now)?;
    complete(writer, context, ty, &mut given, &mut assigned)?;
    let before = quota::usage(writer, assigned.owner(&parent.record).as_deref())?;
    let mut created = insert(writer, context, parent, (ty, &assigned), given)?;
    settle(writer, context, &mut created.record, &assigned)?;
    let owner = created.record.owner.as_deref();
    quota::check(writer, &context.settings.limits, owner, before)?;
    if ty == ResourceType::Subscription {
        // Last, for whoever is asked is asked for nothing if there is anything else in the way.
        let ask = subscription::check(writer.read(), context, &created.record, None, verified)?;
        if let Some(unverified) = ask {
            return Err(OperationError::Unverified(Box::new(unverified)));
        }
    }
    events::created(writer, context, outbox, &created)?;
    Ok(answer(writer.read(), context, &created, &as_given)?)
}

/// The resource below which the originator may create one of type `ty`.
fn parent(read: &dyn Read, context: &Context<'_>, ty: ResourceType) -> Result<Found, Refusal> {
    // An originator that registers has no privilege yet, and needs none (TS-0004 clause 7.2.2.2).
    let who = if registers(ty) { None } else { Some(context.originator(read)?) };
    let parent = match context.target(read)? {
        Resolved::Resource(found) => found,
        Resolved::Instance { .. } if ty == ResourceType::Subscription => {
            return Err(Refusal::NotSubscribable);
        }
        Resolved::Instance { .. } => return Err(Refusal::NotAllowed("la and ol have no children")),
    };
    if let Some(who) = &who {
        require(who, Access::Create(ty), &parent.record)?;
        if ty == ResourceType::Subscription {
            subscription::admit(read, who, &parent.record, context.now)?;
        }
    }
    Ok(parent)
}

/// Checks what is given against what is assigned, and enters what the CSE knows by itself.
fn complete(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    ty: ResourceType,
    given: &mut Given,
    assigned: &mut Assigned,
) -> Result<(), Refusal> {
    match ty {
        ResourceType::Ae | ResourceType::AeAnnc => {
            check_app_id(given, context.request.release.as_deref())?;
        }
        ResourceType::Subscription => subscription::complete(writer.read(), context, given)?,
        ResourceType::ServiceSubscribedNode => {
            if let Some(ri) = resource_id::subscribed_node(writer, context, &given.attributes)? {
                assigned.ri = ri;
            }
        }
        _ => {}
    }
    match &assigned.registree {
        None | Some(Registree::Ae) => {}
        Some(Registree::Cse(cse)) => {
            remote_cse::check(context.settings, &mut given.attributes, cse)?;
        }
        Some(Registree::AnnouncedAe { cse, stem }) => {
            ae_announcement::check(context.settings, cse, &given.attributes)?;
            given.attributes.insert(AE_ID.into(), stem.as_str().into());
        }
    }
    Ok(())
}

/// Checks a resource that is stored now, and notes what follows from it.
fn settle(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    record: &mut Record,
    assigned: &Assigned,
) -> Result<(), Refusal> {
    if writer.read().count()? > context.settings.limits.max_resources {
        return Err(Refusal::NotAcceptable("the CSE has no room for more resources"));
    }
    if record.ty == ResourceType::Group {
        group::check(writer.read(), context, record)?;
        names::resolve(writer, context.settings, record, None, [MEMBERS], context.now)?;
        writer.put(record)?;
    }
    match &assigned.registree {
        Some(Registree::Ae) => names::end_waits(writer, &record.ri, context.now)?,
        Some(Registree::AnnouncedAe { stem, .. }) => names::end_waits(writer, stem, context.now)?,
        Some(Registree::Cse(_)) | None => {}
    }
    Ok(())
}

/// Whether to create one is to register, or to announce a registration.
fn registers(ty: ResourceType) -> bool {
    matches!(ty, ResourceType::Ae | ResourceType::RemoteCse | ResourceType::AeAnnc)
}

/// A lower-case `r` is of releases before 4.
fn check_app_id(given: &Given, release: Option<&str>) -> Result<(), AttributeError> {
    let app_id = given.attributes.get("api").and_then(Value::as_str).unwrap_or_default();
    let number: String =
        release.unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
    if app_id.starts_with('r') && number.parse::<u32>().is_ok_and(|n| n >= 4) {
        return Err(AttributeError::value("api", "must start with 'R' or 'N' since release 4"));
    }
    Ok(())
}

fn insert(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    mut parent: Found,
    (ty, assigned): (ResourceType, &Assigned),
    given: Given,
) -> Result<Found, Refusal> {
    let depth = parent.record.depth + 1;
    if depth > MAX_DEPTH {
        return Err(Refusal::NotAcceptable("resources can't be nested any deeper"));
    }
    let ri = &assigned.ri;
    let name = match given.name {
        Some(name) => {
            free_name(writer, &mut parent.record, &name, context.now)?;
            name
        }
        None => fresh_name(writer.read(), &parent.record.ri, ty, ri)?,
    };
    let mut attributes = given.attributes;
    if given.creator
        && let Some(from) = &context.request.from
    {
        attributes.insert("cr".into(), from.as_str().into());
    }
    let is_instance = ty == ResourceType::ContentInstance;
    let is_container = ty == ResourceType::Container;
    let mut record = Record {
        ty,
        sequence: writer.next_sequence(&parent.record.ri, ty)?,
        depth,
        named_by: None,
        registrant: (ty == ResourceType::Ae).then(|| Registrant::of(context.request)),
        names: Names::default(),
        owner: assigned.owner(&parent.record),
        created: context.now,
        modified: context.now,
        expires: lifetime(context, ty, depth, given.expires),
        state: (is_container || is_instance).then_some(0),
        stock: is_container.then(Stock::default),
        size: is_instance.then(|| size(attributes.get("con"))),
        opens: false,
        parent: Some(parent.record.ri.clone()),
        ri: ri.clone(),
        name,
        attributes,
    };
    resolve_names(writer, context, &mut record)?;
    if is_instance {
        content_instance::admit(writer, &context.settings.limits, &mut parent.record, &mut record)?;
    } else {
        writer.put(&record)?;
        decision::mark_ancestors(writer, &record)?;
    }
    Ok(Found { expires: earlier(parent.expires, record.expires), record })
}

/// Notes what the names in a new resource stand for. The members of a group are resolved after their
/// check.
fn resolve_names(
    writer: &Writer<'_>,
    context: &Context<'_>,
    record: &mut Record,
) -> Result<(), Refusal> {
    let (read, settings, from) = (writer.read(), context.settings, context.request.from.as_deref());
    if record.attributes.contains_key(CREATOR) {
        names::note_registrant(read, settings, record, CREATOR, from, context.now)?;
    }
    if subscription::names_targets(context, record, &record.attributes) {
        record.named_by = from.map(Into::into);
        names::note_registrant(read, settings, record, NAMED_BY, from, context.now)?;
    }
    let given: Vec<_> = record.attributes.keys().filter(|name| *name != MEMBERS).cloned().collect();
    let given = given.iter().map(String::as_str);
    names::resolve(writer, settings, record, None, given, context.now)
}

/// When a resource expires by itself that asks for a time, or for none: no later than we let it.
/// A registration has an end in any case, and so has what is below the `<CSEBase>`, which has none;
/// what is below another resource has that one's.
pub(crate) fn lifetime(
    context: &Context<'_>,
    ty: ResourceType,
    depth: u16,
    asked: Option<Seconds>,
) -> Option<Seconds> {
    let limits = &context.settings.limits;
    let after = |lifetime: Duration| context.now.saturating_add(lifetime.as_secs());
    let latest = after(limits.max_lifetime);
    let default = match registers(ty) {
        true => Some(after(limits.lifetime)),
        false => (depth <= 1).then_some(latest),
    };
    asked.or(default).map(|at| at.min(latest))
}

/// Makes sure that a name below a parent is free, and removes what has expired and has it.
fn free_name(
    writer: &mut Writer<'_>,
    parent: &mut Record,
    name: &str,
    now: Seconds,
) -> Result<(), Refusal> {
    let Some(ri) = writer.read().named(&parent.ri, name)? else { return Ok(()) };
    let there = writer.read().get(&ri)?.ok_or(StoreError::Corrupt(ri))?;
    if alive(there.expires, now) {
        return Err(Refusal::Conflict);
    }
    delete::expired(writer, &there)?;
    // It may have been in the parent's account.
    let again = writer.read().get(&parent.ri)?;
    *parent = again.ok_or_else(|| StoreError::Corrupt(parent.ri.clone()))?;
    Ok(())
}

/// A name for a resource whose originator gave none: its resource-ID, unless that names somebody.
fn fresh_name(
    read: &dyn Read,
    parent: &str,
    ty: ResourceType,
    ri: &str,
) -> Result<String, StoreError> {
    let tells = matches!(ty, ResourceType::Ae | ResourceType::AeAnnc) || ri.len() > MAX_NAME;
    let mut name = if tells { String::new() } else { ri.to_owned() };
    while name.is_empty() || read.named(parent, &name)?.is_some() {
        let short = ty.root().trim_start_matches("m2m:");
        name = format!("{short}-{}", resource_id::random());
    }
    Ok(name)
}

/// The size of a content: the bytes of a text, or of what a number is written with.
fn size(content: Option<&Value>) -> u64 {
    let bytes = match content {
        Some(Value::String(text)) => text.len(),
        Some(other) => other.to_string().len(),
        None => 0,
    };
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The answer. Its Content-Location is the SP-relative address with the resource-ID: it holds
/// wherever the request came from, whatever names are given, and for an AE it tells the AE-ID
/// even where the answer has no content.
fn answer(
    read: &dyn Read,
    context: &Context<'_>,
    created: &Found,
    as_given: &Attributes,
) -> Result<ResponsePrimitive, Refusal> {
    let record = &created.record;
    let all = representation::attributes(context.settings, record, created.expires);
    let content = match context.options.content {
        ResultContent::Nothing => None,
        ResultContent::Address => Some(json!({ "m2m:uri": context.structured(read, record)? })),
        ResultContent::AddressAndAttributes => {
            let uri = context.structured(read, record)?;
            Some(json!({ "m2m:rce": { "uri": uri, record.ty.root(): all } }))
        }
        ResultContent::Modified => Some(rooted(record.ty, representation::modified(all, as_given))),
        _ => Some(rooted(record.ty, all)),
    };
    let mut response = context.answer(Rsc::Created, content);
    response.content_location = Some(format!("{}/{}", context.settings.cse_id, record.ri));
    Ok(response)
}
