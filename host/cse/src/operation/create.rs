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
use crate::operation::resource_id::{self, AssignedIdentity, Registree};
use crate::record::names::{Names, Registrant};
use crate::record::{Attributes, InstanceTotals, Record, Seconds, alive, earlier};
use crate::request::context::Context;
use crate::request::parameters::ResultContent;
use crate::resource::address::{Resolved, ResolvedResource};
use crate::resource::ae_announcement::{self, AE_ID};
use crate::resource::attributes::{self, GivenAttributes};
use crate::resource::content_instance;
use crate::resource::remote_cse;
use crate::resource::representation::{self, in_root_element};
use crate::resource::schema::{AttributeError, CREATOR, MEMBERS, NAMED_BY};
use crate::store::{Read, StoreError, Writer};

/// Maximum depth of a resource below the `<CSEBase>`.
pub(crate) const MAX_DEPTH: u16 = 16;

/// Creates a resource.
///
/// # Errors
/// Returns the reason why it is not created.
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
    finish(writer, context, &mut created.record, &assigned)?;
    let owner = created.record.owner.as_deref();
    quota::check(writer, &context.settings.limits, owner, before)?;
    if ty == ResourceType::Subscription {
        // The verification comes last, so that no target is notified of a subscription that is
        // refused otherwise.
        let ask = subscription::check(writer.read(), context, &created.record, None, verified)?;
        if let Some(unverified) = ask {
            return Err(OperationError::Unverified(Box::new(unverified)));
        }
    }
    events::created(writer, context, outbox, &created)?;
    Ok(answer(writer.read(), context, &created, &as_given)?)
}

/// Returns the resource below which the originator may create a child of type `ty`.
fn parent(
    read: &dyn Read,
    context: &Context<'_>,
    ty: ResourceType,
) -> Result<ResolvedResource, Refusal> {
    // A registering originator has no privileges yet, and needs none (TS-0004 clause 7.2.2.2).
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

/// Checks the given attributes against the assigned ones, and adds those that the CSE assigns.
fn complete(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    ty: ResourceType,
    given: &mut GivenAttributes,
    assigned: &mut AssignedIdentity,
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

/// Checks a stored resource, and updates the state that depends on it.
fn finish(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    record: &mut Record,
    assigned: &AssignedIdentity,
) -> Result<(), Refusal> {
    if writer.read().count()? > context.settings.limits.max_resources {
        return Err(Refusal::NotAcceptable("the CSE has the maximum number of resources"));
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

/// Returns whether a create of this type is a registration, or announces one.
fn registers(ty: ResourceType) -> bool {
    matches!(ty, ResourceType::Ae | ResourceType::RemoteCse | ResourceType::AeAnnc)
}

/// Checks an App-ID. Only releases before 4 allow a lower-case `r`.
fn check_app_id(given: &GivenAttributes, release: Option<&str>) -> Result<(), AttributeError> {
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
    mut parent: ResolvedResource,
    (ty, assigned): (ResourceType, &AssignedIdentity),
    given: GivenAttributes,
) -> Result<ResolvedResource, Refusal> {
    let depth = parent.record.depth + 1;
    if depth > MAX_DEPTH {
        return Err(Refusal::NotAcceptable("the maximum depth of resources is exceeded"));
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
        instances: is_container.then(InstanceTotals::default),
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
    Ok(ResolvedResource { expires: earlier(parent.expires, record.expires), record })
}

/// Stores the meaning of the names in a new resource. The members of a group are resolved after
/// their check.
fn resolve_names(
    writer: &Writer<'_>,
    context: &Context<'_>,
    record: &mut Record,
) -> Result<(), Refusal> {
    let (read, settings, from) = (writer.read(), context.settings, context.request.from.as_deref());
    if record.attributes.contains_key(CREATOR) {
        names::store_registrant(read, settings, record, CREATOR, from, context.now)?;
    }
    if subscription::names_targets(context, record, &record.attributes) {
        record.named_by = from.map(Into::into);
        names::store_registrant(read, settings, record, NAMED_BY, from, context.now)?;
    }
    let given: Vec<_> = record.attributes.keys().filter(|name| *name != MEMBERS).cloned().collect();
    let given = given.iter().map(String::as_str);
    names::resolve(writer, settings, record, None, given, context.now)
}

/// Returns the expiration time of a resource, for a requested time or none, within the limits.
///
/// A registration always has an expiration time. So has a child of the `<CSEBase>`, which itself
/// has none. Other resources expire with their parent at the latest.
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

/// Checks that a name below a parent is free, and removes an expired resource with this name.
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
    // The removal may have changed the parent's counters.
    let again = writer.read().get(&parent.ri)?;
    *parent = again.ok_or_else(|| StoreError::Corrupt(parent.ri.clone()))?;
    Ok(())
}

/// Returns a name for a resource whose originator gave none: its resource-ID, unless that reveals
/// an entity.
fn fresh_name(
    read: &dyn Read,
    parent: &str,
    ty: ResourceType,
    ri: &str,
) -> Result<String, StoreError> {
    let reveals = matches!(ty, ResourceType::Ae | ResourceType::AeAnnc) || ri.len() > MAX_NAME;
    let mut name = if reveals { String::new() } else { ri.to_owned() };
    while name.is_empty() || read.named(parent, &name)?.is_some() {
        let short = ty.root().trim_start_matches("m2m:");
        name = format!("{short}-{}", resource_id::random());
    }
    Ok(name)
}

/// Returns the size of a content: the bytes of a text, or of another value's JSON.
fn size(content: Option<&Value>) -> u64 {
    let bytes = match content {
        Some(Value::String(text)) => text.len(),
        Some(other) => other.to_string().len(),
        None => 0,
    };
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Returns the response. Its Content-Location is the SP-relative address with the resource-ID. It
/// is valid independently of the request's origin and of names, and contains the AE-ID of an AE
/// even if the response has no content.
fn answer(
    read: &dyn Read,
    context: &Context<'_>,
    created: &ResolvedResource,
    as_given: &Attributes,
) -> Result<ResponsePrimitive, Refusal> {
    let record = &created.record;
    let all = representation::of_resource(context.settings, record, created.expires);
    let content = match context.options.content {
        ResultContent::Nothing => None,
        ResultContent::Address => Some(json!({ "m2m:uri": context.structured(read, record)? })),
        ResultContent::AddressAndAttributes => {
            let uri = context.structured(read, record)?;
            Some(json!({ "m2m:rce": { "uri": uri, record.ty.root(): all } }))
        }
        ResultContent::Modified => {
            Some(in_root_element(record.ty, representation::modified(all, as_given)))
        }
        _ => Some(in_root_element(record.ty, all)),
    };
    let mut response = context.answer(Rsc::Created, content);
    response.content_location = Some(format!("{}/{}", context.settings.cse_id, record.ri));
    Ok(response)
}
