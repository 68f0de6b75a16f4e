//! Create, and with it the registration of an AE (TS-0004 clauses 7.3.3 and 7.4.5.2.1, TS-0001
//! clause 10.2.2.2); that of a CSE is in the module `remote_cse`, and that of an AE at another CSE in
//! the module `announcement`.

use std::time::Duration;

use rand::distr::{Alphanumeric, SampleString};
use saegis_onem2m::id::From;
use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::rsc::Rsc;
use serde_json::{Value, json};

use crate::access::decision::{self, Access, CREATOR, demand};
use crate::access::names::{self, MEMBERS, NAMED_BY, Names, Registrant};
use crate::access::originator;
use crate::error::Refusal;
use crate::notification::events;
use crate::notification::long_poll;
use crate::notification::subscription;
use crate::operation::delete;
use crate::record::{Attributes, Record, Seconds, Stock, alive, earlier};
use crate::request::context::Context;
use crate::request::parameters::ResultContent;
use crate::request::target::{Found, Place};
use crate::resource::ae_announcement::{self, AE_ID};
use crate::resource::attributes::{self, AttributeError, Given};
use crate::resource::children::is_child;
use crate::resource::content_instance;
use crate::resource::group;
use crate::resource::quota;
use crate::resource::remote_cse;
use crate::resource::representation::{self, rooted};
use crate::resource::service_subscription;
use crate::resource::values::MAX_NAME;
use crate::settings::{INFRASTRUCTURE, Settings};
use crate::store::{Read, StoreError, Writer};

/// How far below the `<CSEBase>` a resource may be.
pub(crate) const MAX_DEPTH: u16 = 16;

/// Length of the random part of an identifier: 95 bits, which nobody guesses.
const RANDOM: usize = 16;

/// Creates a resource.
///
/// # Errors
/// Why it is not created.
pub(crate) fn create(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
) -> Result<ResponsePrimitive, Refusal> {
    let number = context.request.resource_type.ok_or(Refusal::NoResourceType)?;
    let ty = ResourceType::from_number(number).ok_or(Refusal::ResourceType(number))?;
    let registers = registers(ty);
    // Who registers has no privilege yet, and needs none (TS-0004 clause 7.2.2.2).
    let who = if registers { None } else { Some(context.originator(writer.read())?) };
    let parent = match context.target(writer.read())? {
        Place::Resource(found) => found,
        Place::Instance { .. } if ty == ResourceType::Subscription => {
            return Err(Refusal::NotSubscribable);
        }
        Place::Instance { .. } => return Err(Refusal::NotAllowed("la and ol have no children")),
    };
    if let Some(who) = &who {
        demand(who, Access::Create(ty), &parent.record)?;
    }
    if let (Some(who), ResourceType::Subscription) = (&who, ty) {
        subscription::admit(writer.read(), who, &parent.record, context.now)?;
    }
    let (mut cse, mut announced) = (None, None);
    let mut ri = match ty {
        ResourceType::CseBase => return Err(Refusal::NotAllowed("a CSEBase can't be created")),
        // TS-0004 clauses 7.3.3.3 and 7.4.4.2.1.
        _ if !representation::hosts(context.settings, ty) => {
            return Err(Refusal::NotAllowed("a CSE of this type has no such resources"));
        }
        _ if !is_child(ty, parent.record.ty) => {
            return Err(Refusal::InvalidChild { child: ty, parent: parent.record.ty });
        }
        ResourceType::Ae => registree(writer, context)?,
        ResourceType::RemoteCse => {
            let registree = remote_cse::registree(writer, context)?;
            remote_cse::ri_of(cse.insert(registree))
        }
        ResourceType::AeAnnc => {
            let (at, stem) = ae_announcement::admit(writer, context, &parent.record)?;
            cse = Some(at);
            ae_announcement::ri_of(announced.insert(stem))
        }
        _ => match context.verified {
            // Its targets know it by this.
            Some(verified) => verified.ri.clone(),
            None => {
                let short = ty.root().trim_start_matches("m2m:");
                fresh(writer.read(), &format!("{short}-"))?
            }
        },
    };
    if ty == ResourceType::PollingChannel {
        long_poll::admit(writer.read(), context, &parent.record)?;
    }
    let representation = context.representation(ty)?;
    let as_given = context.to_compare_with(&representation);
    let mut given = attributes::for_create(ty, representation, context.now)?;
    match ty {
        ResourceType::Ae | ResourceType::AeAnnc => {
            check_app_id(&given, context.request.release.as_deref())?
        }
        ResourceType::Subscription => {
            subscription::complete(writer.read(), context, &mut given)?;
        }
        ResourceType::ServiceSubscribedNode => {
            let taken = service_subscription::node(writer, context, &given.attributes)?;
            ri = taken.unwrap_or(ri);
        }
        _ => {}
    }
    let mut announced_stem = None;
    let owner = match (&cse, announced) {
        (Some(cse), None) => {
            remote_cse::check(context.settings, &mut given.attributes, cse)?;
            Some(cse.to_string())
        }
        (Some(cse), Some(stem)) => {
            ae_announcement::check(context.settings, cse, &given.attributes)?;
            given.attributes.insert(AE_ID.into(), stem.as_str().into());
            announced_stem = Some(stem);
            Some(cse.to_string())
        }
        (None, _) if ty == ResourceType::Ae => Some(ri.clone()),
        (None, _) => parent.record.owner.clone(),
    };
    let before = quota::usage(writer, owner.as_deref())?;
    let mut created = insert(writer, context, parent, (ty, ri, owner), given)?;
    if writer.read().count()? > context.settings.limits.max_resources {
        return Err(Refusal::NotAcceptable("the CSE has no room for more resources"));
    }
    if ty == ResourceType::Group {
        group::check(writer.read(), context, &mut created.record)?;
        let record = &mut created.record;
        names::resolve(writer, context.settings, record, None, [MEMBERS], context.now)?;
        writer.put(record)?;
    }
    if let ResourceType::Ae | ResourceType::AeAnnc = ty {
        let stem = announced_stem.as_deref().unwrap_or(&created.record.ri);
        names::settle(writer, stem, context.now)?;
    }
    quota::check(writer, &context.settings.limits, created.record.owner.as_deref(), before)?;
    if ty == ResourceType::Subscription {
        // Last, for whoever is asked is asked for nothing if there is anything else in the way.
        subscription::check(writer.read(), context, &created.record, None)?;
    }
    events::created(writer, context, &created)?;
    answer(writer.read(), context, &created, &as_given)
}

/// Whether to create one is to register, or to announce a registration.
fn registers(ty: ResourceType) -> bool {
    matches!(ty, ResourceType::Ae | ResourceType::RemoteCse | ResourceType::AeAnnc)
}

/// The AE-ID-Stem of an AE that registers: the one in From, or one that is assigned. It is the
/// resource-ID as well.
fn registree(writer: &mut Writer<'_>, context: &Context<'_>) -> Result<String, Refusal> {
    let from = context.request.from.as_deref().map(From::parse).transpose();
    match from.map_err(Refusal::Originator)? {
        // No preference: C-type, which the CSE may assign by itself.
        None | Some(From::AssignByRegistrar) => Ok(fresh(writer.read(), "C")?),
        Some(From::AssignByServiceProvider) if context.settings.cse_type == INFRASTRUCTURE => {
            Ok(fresh_stem(writer.read(), context.settings, context.now)?)
        }
        // Elsewhere the IN-CSE assigns it, by way of an announcement that this CSE has
        // no means to send.
        Some(From::AssignByServiceProvider) => {
            Err(Refusal::NotImplemented("an S-type AE-ID can't be assigned here: ask for a C-type"))
        }
        Some(From::Stem(stem)) => {
            claim(writer, context, stem)?;
            Ok(stem.into())
        }
        Some(From::SpRelative(_) | From::Absolute { stem: None, .. }) => {
            Err(Refusal::NotAllowed("a CSE does not register as an AE"))
        }
        Some(
            From::SpRelativeAe { .. }
            | From::SpRelativeAssign { .. }
            | From::Absolute { stem: Some(_), .. },
        ) => Err(Refusal::NoStem),
    }
}

/// Makes sure that nobody has the AE-ID.
///
/// # Errors
/// When somebody has.
pub(crate) fn claim(
    writer: &mut Writer<'_>,
    context: &Context<'_>,
    stem: &str,
) -> Result<(), Refusal> {
    if stem == context.settings.csebase_name {
        return Err(Refusal::AeIdTaken);
    }
    if originator::may_be_ae(stem) {
        // A CSE-ID and an S-type AE-ID look the same from elsewhere.
        if is_cse(writer.read(), context.settings, stem, context.now)? {
            return Err(Refusal::AeIdTaken);
        }
        if !ae_announcement::make_way(writer, stem, context.now)? {
            return Err(Refusal::AlreadyRegistered(context.settings.ae_id_taken));
        }
    }
    match writer.read().get(stem)? {
        None => Ok(()),
        Some(r) if r.ty != ResourceType::Ae => Err(Refusal::AeIdTaken),
        Some(r)
            if context.request.creates(ResourceType::Ae)
                && names::is_of_another(&r, context.request) =>
        {
            delete::make_way(writer, stem)
        }
        Some(r) if alive(r.expires, context.now) => {
            Err(Refusal::AlreadyRegistered(context.settings.ae_id_taken))
        }
        Some(_) => delete::make_way(writer, stem),
    }
}

/// Whether that is the CSE-ID, without its slash, of a CSE that is registered.
fn is_cse(
    read: &dyn Read,
    settings: &Settings,
    bare: &str,
    now: Seconds,
) -> Result<bool, StoreError> {
    Ok(remote_cse::of(read, settings, &format!("/{bare}"), now)?.is_some())
}

/// An S-type AE-ID-Stem that nobody has at this service provider, whose IN-CSE we are.
pub(crate) fn fresh_stem(
    read: &dyn Read,
    settings: &Settings,
    now: Seconds,
) -> Result<String, StoreError> {
    loop {
        let stem = fresh(read, "S")?;
        if !is_cse(read, settings, &stem, now)? && ae_announcement::of(read, &stem, now)?.is_none()
        {
            return Ok(stem);
        }
    }
}

/// An identifier that nobody has.
fn fresh(read: &dyn Read, prefix: &str) -> Result<String, StoreError> {
    loop {
        let id = format!("{prefix}{}", Alphanumeric.sample_string(&mut rand::rng(), RANDOM));
        if read.get(&id)?.is_none() {
            return Ok(id);
        }
    }
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
    (ty, ri, owner): (ResourceType, String, Option<String>),
    given: Given,
) -> Result<Found, Refusal> {
    let depth = parent.record.depth + 1;
    if depth > MAX_DEPTH {
        return Err(Refusal::NotAcceptable("resources can't be nested any deeper"));
    }
    let name = match given.name {
        Some(name) => {
            if make_way(writer, &parent.record.ri, &name, context.now)? {
                // What made way may have been in the parent's account.
                let ri = &parent.record.ri;
                let again = writer.read().get(ri)?;
                parent.record = again.ok_or_else(|| StoreError::Corrupt(ri.clone()))?;
            }
            name
        }
        None => fresh_name(writer.read(), &parent.record.ri, ty, &ri)?,
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
        owner,
        created: context.now,
        modified: context.now,
        expires: lifetime(context, ty, depth, given.expires),
        state: (is_container || is_instance).then_some(0),
        stock: is_container.then(Stock::default),
        size: is_instance.then(|| size(attributes.get("con"))),
        opens: false,
        parent: Some(parent.record.ri.clone()),
        ri,
        name,
        attributes,
    };
    let (read, settings, from) = (writer.read(), context.settings, context.request.from.as_deref());
    if record.attributes.contains_key(CREATOR) {
        names::note(read, settings, &mut record, CREATOR, from, context.now)?;
    }
    if subscription::names_targets(context, &record, &record.attributes) {
        record.named_by = from.map(Into::into);
        names::note(read, settings, &mut record, NAMED_BY, from, context.now)?;
    }
    let given: Vec<_> = record.attributes.keys().filter(|name| *name != MEMBERS).cloned().collect();
    let given = given.iter().map(String::as_str);
    names::resolve(writer, settings, &mut record, None, given, context.now)?;
    if is_instance {
        content_instance::admit(writer, &context.settings.limits, &mut parent.record, &mut record)?;
    } else {
        writer.put(&record)?;
        decision::note_above(writer, &record)?;
    }
    Ok(Found { expires: earlier(parent.expires, record.expires), record })
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

/// Makes sure that a name is free. Tells whether something that had expired was in the way.
fn make_way(
    writer: &mut Writer<'_>,
    parent: &str,
    name: &str,
    now: Seconds,
) -> Result<bool, Refusal> {
    let Some(ri) = writer.read().named(parent, name)? else { return Ok(false) };
    let there = writer.read().get(&ri)?.ok_or(StoreError::Corrupt(ri))?;
    if alive(there.expires, now) {
        return Err(Refusal::Conflict);
    }
    delete::expired(writer, &there)?;
    Ok(true)
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
        name = format!("{short}-{}", Alphanumeric.sample_string(&mut rand::rng(), RANDOM));
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
