//! Create (TS-0004 clause 7.3.3).

use std::time::Duration;

use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use serde_json::{Value, json};

use crate::access::allowed_attributes::require_attributes;
use crate::access::decision;
use crate::access::grants::Access;
use crate::access::names;
use crate::error::Refusal;
use crate::identifiers::MAX_NAME;
use crate::notification::blocking;
use crate::notification::events;
use crate::notification::long_poll;
use crate::notification::outbox::Outbox;
use crate::notification::schedule;
use crate::notification::sending::Sending;
use crate::notification::subscription;
use crate::notification::verification::Verified;
use crate::notification::waiting;
use crate::operation::announcement;
use crate::operation::delete;
use crate::operation::error::OperationError;
use crate::operation::flex_container;
use crate::operation::group;
use crate::operation::location;
use crate::operation::quota::{self, MAX_DEPTH};
use crate::operation::resource_id::{self, AssignedIdentity, Registree};
use crate::operation::specialization;
use crate::record::names::{Creator, Registrant};
use crate::record::{Attributes, InstanceTotals, Record, Seconds, alive, earlier};
use crate::request::context::Context;
use crate::request::parameters::ResultContent;
use crate::resource::address::{self, Resolved, ResolvedResource};
use crate::resource::ae_announcement::{self, AE_ID};
use crate::resource::announced;
use crate::resource::attributes::{self, GivenAttributes, Specialization};
use crate::resource::content_instance;
use crate::resource::registrant;
use crate::resource::remote_cse;
use crate::resource::representation::{self, in_root_element};
use crate::resource::schema::{AttributeError, CREATOR, MEMBERS, NAMED_BY};
use crate::resource::time_series;
use crate::store::{Read, StoreError, Writer};

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
    if ty == ResourceType::Schedule {
        check_schedule(writer.read(), context, &parent.record)?;
    }
    let (root, specialization, representation) = representation_of(context, ty)?;
    let as_given = context.to_compare_with(&representation);
    let mut given = attributes::for_create(ty, specialization, representation, context.now)?;
    complete(writer, context, ty, &mut given, &mut assigned)?;
    if ty.is_announcement() && assigned.registree.is_none() {
        let (read, settings) = (writer.read(), context.settings);
        let cse = announced::admit(read, settings, context.request, &parent.record, context.now)?;
        announced::check_link(settings, &cse.to_string(), &given.attributes)?;
    }
    let before = quota::usage(writer, assigned.owner(&parent.record).as_deref())?;
    let mut created = insert(writer, context, parent, (ty, root, &assigned), given)?;
    finish(writer, context, &mut created.record, &assigned)?;
    let locations = match ty {
        ResourceType::LocationPolicy => {
            Some(create_location_container(writer, context, &mut created.record)?)
        }
        _ => None,
    };
    let owner = created.record.owner.as_deref();
    quota::check(writer, &context.settings.limits, owner, before)?;
    if ty == ResourceType::Subscription {
        // The verification comes last, so that no target is notified of a subscription that is
        // refused otherwise.
        blocking::check(writer.read(), context, &created.record, None)?;
        let ask = subscription::check(writer.read(), context, &created.record, None, verified)?;
        if let Some(unverified) = ask {
            return Err(OperationError::Unverified(Box::new(unverified)));
        }
    }
    let sending = Sending { settings: context.settings, now: context.now, outbox };
    for created in locations.iter().chain([&created]) {
        events::created(writer, &sending, created)?;
    }
    match ty {
        ResourceType::Subscription => {
            events::former(writer, &sending, &mut created.record)?;
        }
        ResourceType::Schedule => {
            waiting::schedule_changed(writer, &sending, &created.record)?;
        }
        _ => {}
    }
    Ok(answer(writer.read(), context, &created, &as_given)?)
}

/// Checks that the parent accepts another `<schedule>`. A `<node>` can have several.
fn check_schedule(read: &dyn Read, context: &Context<'_>, parent: &Record) -> Result<(), Refusal> {
    if parent.ty == ResourceType::Node {
        return Ok(());
    }
    schedule::check_names(parent.ty, &context.given_names())?;
    match schedule::find(read, &parent.ri, context.now)? {
        Some(_) => Err(Refusal::NotAcceptable("the parent has a schedule already")),
        None => Ok(()),
    }
}

/// Creates the container of a location policy next to it.
fn create_location_container(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    policy: &mut Record,
) -> Result<ResolvedResource, Refusal> {
    let corrupt = || StoreError::Corrupt(policy.ri.clone());
    let parent =
        address::by_id(writer.read(), policy.parent.as_deref().unwrap_or_default(), context.now)?;
    let parent = parent.ok_or_else(corrupt)?;
    let ri = resource_id::fresh(writer.read(), "cnt-")?;
    let assigned = AssignedIdentity { ri, registree: None };
    let ty = ResourceType::Container;
    let given = location::container(policy);
    let created = insert(writer, context, parent, (ty, None, &assigned), given)?;
    location::link(policy, &created.record);
    writer.put(policy)?;
    Ok(created)
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
        let allowed = require_attributes(who, Access::Create(ty), &parent.record)?;
        allowed.require(Access::Create(ty), &context.given_names())?;
        if ty == ResourceType::Subscription {
            subscription::admit(read, who, &parent.record, context.now)?;
        }
    }
    Ok(parent)
}

/// Returns the given representation of a resource of type `ty`. That of a flexContainer or a
/// management object comes with its root name and its own attributes.
fn representation_of<'c>(
    context: &Context<'c>,
    ty: ResourceType,
) -> Result<(Option<String>, Specialization<'c>, Attributes), Refusal> {
    let by_definition = matches!(
        ty,
        ResourceType::FlexContainer
            | ResourceType::FlexContainerAnnc
            | ResourceType::ManagementObject
    );
    if !by_definition {
        return Ok((None, Specialization::default(), context.representation(ty.root())?));
    }
    let (root, attributes) = context.specialization()?;
    let specialization = specialization::of(context.settings, ty, &attributes, &root)?;
    Ok((Some(root), specialization, attributes))
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
        ResourceType::TimeSeries => time_series::complete(&mut given.attributes),
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
        Some(Registree::AnnouncedCse(cse)) => {
            announced::check_link(context.settings, &cse.to_string(), &given.attributes)?;
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
    if record.ty == ResourceType::FlexContainer {
        flex_container::settle(writer, context, record, None, &[])?;
        writer.put(record)?;
    }
    quota::check_count(writer.read(), &context.settings.limits)?;
    if record.is_monitored() {
        time_series::check_count(writer, record.owner.as_deref())?;
    }
    if record.ty == ResourceType::Group {
        group::check_aggregation(record)?;
        group::check(writer.read(), context, record)?;
        names::resolve(writer, context.settings, record, None, [MEMBERS], context.now)?;
        writer.put(record)?;
    }
    match &assigned.registree {
        Some(Registree::Ae) => names::end_waits(writer, &record.ri, context.now)?,
        Some(Registree::AnnouncedAe { stem, .. }) => names::end_waits(writer, stem, context.now)?,
        Some(Registree::Cse(_) | Registree::AnnouncedCse(_)) | None => {}
    }
    Ok(())
}

/// Returns whether a create of this type is a registration, or announces one.
fn registers(ty: ResourceType) -> bool {
    matches!(
        ty,
        ResourceType::Ae
            | ResourceType::RemoteCse
            | ResourceType::AeAnnc
            | ResourceType::CseBaseAnnc
    )
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
    (ty, root, assigned): (ResourceType, Option<String>, &AssignedIdentity),
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
    let is_instance = ty.is_instance();
    let is_container = matches!(ty, ResourceType::Container | ResourceType::TimeSeries);
    let has_state = matches!(
        ty,
        ResourceType::Container | ResourceType::ContentInstance | ResourceType::FlexContainer
    );
    let is_series = ty == ResourceType::TimeSeries;
    let generated = match ty {
        ResourceType::TimeSeriesInstance => time_series::generation_time(&attributes),
        _ => None,
    };
    let owner = assigned.owner(&parent.record);
    let mut record = Record {
        sequence: writer.next_sequence(&parent.record.ri, ty)?,
        depth,
        registrant: registrant_of_new(writer.read(), context, ty)?,
        creator: creator_of_new(writer.read(), context, owner.as_deref())?,
        owner,
        expires: lifetime(context, ty, depth, given.expires),
        state: has_state.then_some(0),
        instances: is_container.then(InstanceTotals::default),
        size: is_instance.then(|| attributes.get("con").map_or(0, content_instance::size)),
        generated,
        series: is_series.then(Default::default),
        parent: Some(parent.record.ri.clone()),
        root,
        name,
        attributes,
        ..Record::new(ty, ri, context.now)
    };
    announcement::begin(context, &mut record, &parent.record)?;
    resolve_names(writer, context, &mut record)?;
    if is_instance {
        if let Some(generated) = generated {
            time_series::admit(writer, &mut parent.record, generated, context.now)?;
        }
        content_instance::admit(writer, &context.settings.limits, &mut parent.record, &mut record)?;
    } else {
        writer.put(&record)?;
        decision::mark_ancestors(writer, &record)?;
    }
    Ok(ResolvedResource { expires: earlier(parent.expires, record.expires), record })
}

/// Returns the registrant of a new AE or CSE. A `<CSEBaseAnnc>` has that of its CSE.
fn registrant_of_new(
    read: &dyn Read,
    context: &Context<'_>,
    ty: ResourceType,
) -> Result<Option<Registrant>, StoreError> {
    match ty {
        ResourceType::Ae | ResourceType::RemoteCse => Ok(Some(Registrant::of(context.request))),
        ResourceType::CseBaseAnnc => {
            let from = context.request.from.as_deref().unwrap_or_default();
            let cse = remote_cse::of(read, context.settings, from, context.now)?;
            Ok(cse.and_then(|cse| cse.registrant))
        }
        _ => Ok(None),
    }
}

/// Returns the creator of a new resource without an owner.
fn creator_of_new(
    read: &dyn Read,
    context: &Context<'_>,
    owner: Option<&str>,
) -> Result<Option<Creator>, StoreError> {
    match (owner, context.creator, context.request.from.as_deref()) {
        (None, Some(creator), _) => Ok(Some(creator.clone())),
        (None, None, Some(from)) => {
            registrant::creator(read, context.settings, from, context.now).map(Some)
        }
        _ => Ok(None),
    }
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
    names::resolve(writer, settings, record, None, given.clone(), context.now)?;
    if record.ty == ResourceType::AccessControlPolicy {
        let who = context.originator(read)?;
        names::resolve_groups((read, settings, &who), record, None, given, context.now)?;
    }
    Ok(())
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
            Some(json!({ "m2m:rce": { "uri": uri, record.root(): all } }))
        }
        ResultContent::Modified => {
            Some(in_root_element(record, representation::modified(all, as_given)))
        }
        _ => Some(in_root_element(record, all)),
    };
    let mut response = context.answer(Rsc::Created, content);
    response.content_location = Some(format!("{}/{}", context.settings.cse_id, record.ri));
    Ok(response)
}
