//! The announcements of resources of other CSEs, and the representations that announce own ones
//! (TS-0001 clause 9.6.26, TS-0004 clauses 7.3.3.10 and 7.4.26).
//!
//! A `<CSEBaseAnnc>` stands for a registered CSE, and the announcements of its resources are below it.
//! They belong to that CSE, which alone creates, changes and deletes them. The policies that their
//! `acpi` names give others access, if they are at this CSE.

use saegis_onem2m::id::{CseId, OriginatorId};
use saegis_onem2m::primitive::RequestPrimitive;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::target::{Scope, Target};
use serde_json::{Value, json};

use crate::error::Refusal;
use crate::record::{Attributes, Record, Seconds, timestamp};
use crate::resource::attributes::is_known;
use crate::resource::remote_cse;
use crate::resource::schema::{ANNOUNCED, AttributeError, LINK, POLICIES};
use crate::settings::Settings;
use crate::store::{Read, StoreError};

/// How the copies are synchronized (`announceSyncType`): only from the original to them.
const SYNCHRONIZATION: &str = "ast";
const FROM_ORIGINAL: u64 = 1;

/// Suffix of the root name of the announcement of a `<flexContainer>`.
const SUFFIX: &str = "Annc";

/// Returns the root name of the announcement of a resource with this root name.
pub(crate) fn root(ty: ResourceType, root: &str) -> String {
    match ty {
        ResourceType::FlexContainer => format!("{root}{SUFFIX}"),
        _ => ty.announced().map_or_else(|| root.into(), |announced| announced.root().into()),
    }
}

/// Returns the root name of the original, for that of the announcement of a `<flexContainer>`.
pub(crate) fn original_root(root: &str) -> &str {
    root.strip_suffix(SUFFIX).unwrap_or(root)
}

/// Returns the resource-ID of the `<CSEBaseAnnc>` of a CSE.
pub(crate) fn ri_of(cse: &CseId) -> String {
    format!("cbA-{}", cse.bare())
}

/// Returns the registered CSE whose own request this is.
///
/// # Errors
/// Returns an error if the originator is not a registered CSE.
pub(crate) fn announcer(
    read: &dyn Read,
    settings: &Settings,
    request: &RequestPrimitive,
    now: Seconds,
) -> Result<CseId, Refusal> {
    let from = request.from.as_deref().ok_or(Refusal::NoOriginator)?;
    let from = settings.canonical_id(from);
    let cse = match OriginatorId::parse(&from).map_err(Refusal::Originator)? {
        OriginatorId::SpRelative(bare) => CseId::parse(bare).map_err(Refusal::Originator)?,
        _ => return Err(Refusal::NotAnnouncer),
    };
    match remote_cse::of(read, settings, &from, now)? {
        Some(_) => Ok(cse),
        None => Err(Refusal::NotAnnouncer),
    }
}

/// Checks that the originator may create an announcement below `parent`, which must be one of its
/// own.
///
/// # Errors
/// Returns an error if the originator is another one.
pub(crate) fn admit(
    read: &dyn Read,
    settings: &Settings,
    request: &RequestPrimitive,
    parent: &Record,
    now: Seconds,
) -> Result<CseId, Refusal> {
    let cse = announcer(read, settings, request, now)?;
    if parent.owner.as_deref() == Some(&cse.to_string()) {
        Ok(cse)
    } else {
        Err(Refusal::NotAnnouncer)
    }
}

/// Checks that the original is at the CSE that announces it.
///
/// # Errors
/// Returns an error if it is elsewhere.
pub(crate) fn check_link(
    settings: &Settings,
    cse: &str,
    attributes: &Attributes,
) -> Result<(), AttributeError> {
    let link = attributes.get(LINK).and_then(Value::as_str).unwrap_or_default();
    let cse = CseId::parse(cse.trim_start_matches('/')).ok();
    let is_there = cse.zip(Target::from_address(link).ok()).is_some_and(|(cse, target)| {
        target.scope != Scope::CseRelative
            && target.is_at(&cse, settings.service_provider.as_deref())
    });
    if is_there {
        return Ok(());
    }
    let why = "must be the SP-relative address of the original at the CSE that announces it";
    Err(AttributeError::value(LINK, why))
}

/// Returns whether an attribute of a resource is announced if `announcedAttribute` names it.
fn is_optional(ty: ResourceType, name: &str) -> bool {
    match ty {
        ResourceType::Container => matches!(name, "mni" | "mbs" | "mia" | "li" | "or" | "disr"),
        ResourceType::ContentInstance => matches!(name, "cnf" | "con" | "or"),
        ResourceType::FlexContainer => matches!(name, "or" | "nl") || !is_known(ty, name),
        _ => false,
    }
}

/// Checks the attributes of a resource that control its announcement. `is_custom` returns whether a
/// `<flexContainer>` has a custom attribute with this name.
///
/// # Errors
/// Returns an error if `announcedAttribute` has an attribute that cannot be announced.
pub(crate) fn check(
    ty: ResourceType,
    all: &Attributes,
    is_custom: &dyn Fn(&str) -> bool,
) -> Result<(), AttributeError> {
    if all.get(SYNCHRONIZATION).is_some_and(|value| value.as_u64() != Some(FROM_ORIGINAL)) {
        return Err(AttributeError::Unsupported(SYNCHRONIZATION));
    }
    let names = all.get(ANNOUNCED).and_then(Value::as_array).into_iter().flatten();
    for name in names.filter_map(Value::as_str) {
        let fits = is_optional(ty, name) && (is_known(ty, name) || is_custom(name));
        if !fits {
            let name = crate::error::quoted(name);
            let why = format!("names {name}, which cannot be announced");
            return Err(AttributeError::value(ANNOUNCED, &why));
        }
    }
    Ok(())
}

/// Returns the attributes of the announcement of a resource, without those of the CSE that hosts it.
/// `expires` is the earliest expiration time of the resource and its ancestors.
pub(crate) fn representation(
    read: &dyn Read,
    settings: &Settings,
    record: &Record,
    expires: Option<Seconds>,
) -> Result<Attributes, StoreError> {
    let mut all = Attributes::new();
    all.insert(LINK.into(), format!("{}/{}", settings.cse_id, record.ri).into());
    if let Some(at) = expires {
        all.insert("et".into(), timestamp(at).into());
    }
    let announced: Vec<_> = record.texts(ANNOUNCED).collect();
    for (name, value) in &record.attributes {
        let always = name == "lbl" || name == "cnd" && record.ty == ResourceType::FlexContainer;
        if always || announced.contains(&name.as_str()) && is_optional(record.ty, name) {
            let value = match name.as_str() {
                "nl" | "li" => sp_relative(settings, value.as_str().unwrap_or_default()).into(),
                _ => value.clone(),
            };
            all.insert(name.clone(), value);
        }
    }
    if record.ty != ResourceType::ContentInstance {
        let policies = policies(read, record)?;
        if !policies.is_empty() {
            let policies = policies.iter().map(|policy| sp_relative(settings, policy));
            all.insert(POLICIES.into(), json!(policies.collect::<Vec<_>>()));
        }
    }
    Ok(all)
}

/// Returns the policies of a resource, or of the nearest resource above that has some. Those of the
/// `<CSEBase>` do not apply to resources below it.
fn policies(read: &dyn Read, record: &Record) -> Result<Vec<String>, StoreError> {
    let mut at = record.clone();
    loop {
        let own: Vec<_> = at.texts(POLICIES).map(ToOwned::to_owned).collect();
        let Some(parent) = at.parent.clone().filter(|_| own.is_empty()) else { return Ok(own) };
        at = read.get(&parent)?.ok_or(StoreError::Corrupt(parent))?;
        if at.ty == ResourceType::CseBase {
            return Ok(own);
        }
    }
}

/// Converts an address to the form that another CSE of the service provider reads (TS-0001 clause
/// 7.2).
fn sp_relative(settings: &Settings, address: &str) -> String {
    if address.starts_with('/') { address.into() } else { format!("{}/{address}", settings.cse_id) }
}
