//! The names in resources, resolved when they are stored: authority follows identity, not names.
//!
//! A structured address denotes the resource that has the names in it, and an AE-ID-Stem the AE
//! that registers it. Another originator can take over both after their holder has left. So a
//! record stores the meaning of each name beside the attribute as it was written:
//!
//! - An address denotes the resource with a resource-ID. Resource-IDs are not reused, except for
//!   those of AEs, which are AE-ID-Stems: for these the registrant counts as well.
//! - An AE-ID denotes its AE-ID-Stem together with its registrant, the credential that registered
//!   it. If the same credential registers the stem again, it is the same AE; another credential is
//!   another AE. An AE-ID without a registrant denotes the first one to register it. The store
//!   records the attributes that wait for the stem, and the registrant that ended the wait.
//!
//! - A group in a rule is an address. Its members are AEs and CSEs by their identity as well.
//!
//! A name whose resource or registrant is gone denotes nothing, even after another originator takes
//! the name. Patterns, `all` and domain names denote sets with all their present members. Only its
//! own CSE knows the holder of an AE-ID of another CSE.

use saegis_onem2m::id::OriginatorId;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::target::Target;
use serde_json::Value;

use crate::access::decision::{Originator, may};
use crate::access::grants::Access;
use crate::error::Refusal;
use crate::identifiers;
use crate::record::names::{Reference, Registrant, Registrants, encode_wait};
use crate::record::{Record, Seconds};
use crate::resource::access_rules::{self, PRIVILEGES, SELF_PRIVILEGES, groups};
use crate::resource::address::{self, Resolved};
use crate::resource::ae_announcement;
use crate::resource::links;
use crate::resource::notification_target::NotificationTarget;
use crate::resource::registrant::{self, known};
use crate::resource::schema::{
    AttributeError, CREATOR, CUSTODIAN, FORWARDING, MEMBERS, NAMED_BY, POLICIES, SUBSCRIBER,
    TARGETS,
};
use crate::settings::Settings;
use crate::store::{Edge, Read, StoreError, Writer};

/// Attributes with addresses of resources.
const ADDRESSES: [&str; 5] = [POLICIES, MEMBERS, TARGETS, FORWARDING, SUBSCRIBER];

/// Attributes with identifiers of AEs and CSEs.
const IDENTIFIERS: [&str; 3] = [PRIVILEGES, SELF_PRIVILEGES, CUSTODIAN];

/// Resolves the names in these attributes of a resource that is about to be stored. Names that it
/// had `before` retain their meaning.
///
/// # Errors
/// Returns an error if a name that stays denotes another entity now.
pub(crate) fn resolve<'n>(
    writer: &Writer<'_>,
    settings: &Settings,
    record: &mut Record,
    before: Option<&Record>,
    attributes: impl IntoIterator<Item = &'n str>,
    now: Seconds,
) -> Result<(), Refusal> {
    for name in attributes {
        if let Some(attribute) = ADDRESSES.into_iter().find(|a| *a == name) {
            let before = before.filter(|b| b.attributes.contains_key(attribute));
            let resolved = addresses(writer.read(), settings, record, before, attribute, now)?;
            record.names.resources.remove(attribute);
            if !resolved.is_empty() {
                record.names.resources.insert(attribute.into(), resolved);
            }
        } else if let Some(attribute) = IDENTIFIERS.into_iter().find(|a| *a == name) {
            let resolved = identifiers(writer, settings, record, before, attribute, now)?;
            record.names.registrants.remove(attribute);
            if !resolved.is_empty() {
                record.names.registrants.insert(attribute.into(), resolved);
            }
        }
    }
    Ok(())
}

fn addresses(
    read: &dyn Read,
    settings: &Settings,
    record: &Record,
    before: Option<&Record>,
    attribute: &'static str,
    now: Seconds,
) -> Result<Vec<Option<Reference>>, Refusal> {
    let mut all = Vec::new();
    for text in record.texts(attribute) {
        let new = reference(read, settings, attribute, text, now)?;
        let old = before.and_then(|before| {
            let at = before.texts(attribute).position(|old| old == text)?;
            before.names.resources(attribute).get(at)?.clone()
        });
        all.push(retained_meaning(attribute, text, old, new)?);
    }
    Ok(all)
}

fn identifiers(
    writer: &Writer<'_>,
    settings: &Settings,
    record: &Record,
    before: Option<&Record>,
    attribute: &'static str,
    now: Seconds,
) -> Result<Registrants, Refusal> {
    let before = before.and_then(|before| before.names.registrants(attribute));
    let mut all = Registrants::new();
    for text in named(record, attribute) {
        let Some(stem) = stem(settings, &text) else { continue };
        if all.contains_key(&stem) {
            continue;
        }
        let new = registrant::registrant(writer.read(), &stem, now)?;
        let old = known(writer.read(), before, &stem)?;
        let registrant = match retained_meaning(attribute, &text, old, new)? {
            Some(registrant) => registrant,
            None => encode_wait(writer.open_wait(&stem)?),
        };
        all.insert(stem, registrant);
    }
    Ok(all)
}

/// Resolves the groups in these attributes of a policy that is about to be stored. A group must be
/// one that `who` may retrieve, unless the policy named it `before`.
///
/// # Errors
/// Returns an error if there is no such group, or a name that stays denotes another group now.
pub(crate) fn resolve_groups<'n>(
    (read, settings, who): (&dyn Read, &Settings, &Originator<'_>),
    record: &mut Record,
    before: Option<&Record>,
    attributes: impl IntoIterator<Item = &'n str>,
    now: Seconds,
) -> Result<(), Refusal> {
    let sets = |name: &str| [PRIVILEGES, SELF_PRIVILEGES].into_iter().find(|set| *set == name);
    for attribute in attributes.into_iter().filter_map(sets) {
        let groups_in = |of: &Record| of.attributes.get(attribute).map_or(vec![], groups);
        let known = before.map(|before| (groups_in(before), before.names.resources(attribute)));
        let mut all = Vec::new();
        for text in groups_in(record) {
            let found = links::resolve(read, settings, &text, now)?;
            let found = found.filter(|found| found.ty == ResourceType::Group);
            let old = known.as_ref().and_then(|(texts, references)| {
                let at = texts.iter().position(|old| *old == text)?;
                references.get(at)?.clone()
            });
            let new = match found {
                Some(group) if old.is_some() || may(who, Access::Retrieve, &group)? => {
                    Some(Reference::of(&group))
                }
                _ => None,
            };
            let meaning = retained_meaning(attribute, &text, old, new)?;
            if meaning.is_none() {
                let name = crate::error::quoted(&text);
                let why = format!(
                    "names {name} in acor, which is neither an originator nor a group here that \
                     the originator may retrieve"
                );
                return Err(AttributeError::value(attribute, &why).into());
            }
            all.push(meaning);
        }
        record.names.resources.remove(attribute);
        if !all.is_empty() {
            record.names.resources.insert(attribute.into(), all);
        }
    }
    Ok(())
}

/// Returns the meaning of a name that may have had one before.
fn retained_meaning<T: PartialEq>(
    attribute: &'static str,
    name: &str,
    old: Option<T>,
    new: Option<T>,
) -> Result<Option<T>, Refusal> {
    match (old, new) {
        (Some(old), Some(new)) if old != new => {
            let name = crate::error::quoted(name);
            let why = format!(
                "names {name}, which is gone, and another resource or AE has the name now: remove it from {attribute} \
                 first, then add it again if the new one is meant"
            );
            Err(AttributeError::value(attribute, &why).into())
        }
        (Some(old), _) => Ok(Some(old)),
        (None, new) => Ok(new),
    }
}

/// Returns the identifiers in an attribute.
fn named(record: &Record, attribute: &str) -> Vec<String> {
    match record.attributes.get(attribute) {
        Some(Value::String(one)) => vec![one.clone()],
        Some(set) => access_rules::originators(set),
        None => Vec::new(),
    }
}

/// Returns the resource of an address in an attribute.
fn reference(
    read: &dyn Read,
    settings: &Settings,
    attribute: &'static str,
    text: &str,
    now: Seconds,
) -> Result<Option<Reference>, StoreError> {
    match attribute {
        POLICIES => {
            Ok(links::resolve(read, settings, text, now)?.map(|record| Reference::of(&record)))
        }
        MEMBERS => {
            let Ok(target) = Target::from_address(text) else { return Ok(None) };
            match address::resolve(read, settings, &target, now) {
                Ok(Resolved::Resource(found)) => Ok(Some(Reference::of(&found.record))),
                Ok(Resolved::Instance { container, edge }) => {
                    let below = match edge {
                        Edge::Latest => "la",
                        Edge::Oldest => "ol",
                    };
                    let below = Some(below.into());
                    Ok(Some(Reference { below, ..Reference::of(&container.record) }))
                }
                Err(Refusal::Store(error)) => Err(error),
                Err(_) => Ok(None),
            }
        }
        _ => match NotificationTarget::parse(attribute, text) {
            Ok(NotificationTarget::Resource(target)) => {
                let ae = registrant::ae_at(read, settings, &target, now)?.map(|ae| ae.record);
                let ae = match ae {
                    None => ae_announcement::at(read, &target, now)?,
                    ae => ae,
                };
                Ok(ae.as_ref().map(Reference::of))
            }
            Ok(NotificationTarget::PointOfAccess(_)) | Err(_) => Ok(None),
        },
    }
}

/// Returns the addresses in an attribute, in the order of their references.
pub(crate) fn addresses_in(record: &Record, attribute: &str) -> Vec<String> {
    match record.attributes.get(attribute) {
        Some(rules) if is_set_of_rules(attribute) => groups(rules),
        _ => record.texts(attribute).map(ToOwned::to_owned).collect(),
    }
}

/// Returns the resource that an address in an attribute of a new resource would denote.
pub(crate) fn denoted(
    read: &dyn Read,
    settings: &Settings,
    attribute: &str,
    text: &str,
    now: Seconds,
) -> Result<Option<Record>, StoreError> {
    if is_set_of_rules(attribute) {
        return links::resolve(read, settings, text, now);
    }
    let Some(attribute) = ADDRESSES.into_iter().find(|a| *a == attribute) else { return Ok(None) };
    match reference(read, settings, attribute, text, now)? {
        Some(reference) => Ok(reference.find(read, now)?.map(|found| found.record)),
        None => Ok(None),
    }
}

fn is_set_of_rules(attribute: &str) -> bool {
    attribute == PRIVILEGES || attribute == SELF_PRIVILEGES
}

/// Returns the AE-ID-Stem in an identifier of one AE that may be registered here.
fn stem(settings: &Settings, text: &str) -> Option<String> {
    let text = settings.canonical_id(text);
    match OriginatorId::parse(&text).ok()? {
        OriginatorId::Stem(stem) => Some(stem.into()),
        OriginatorId::SpRelativeAe { cse, stem } if cse == settings.cse_id.bare() => {
            Some(stem.into())
        }
        OriginatorId::SpRelative(bare) if identifiers::may_be_ae(bare) => Some(bare.into()),
        _ => None,
    }
}

/// Stores the registrant of an originator whose identifier is entered in a record.
pub(crate) fn store_registrant(
    read: &dyn Read,
    settings: &Settings,
    record: &mut Record,
    attribute: &'static str,
    originator: Option<&str>,
    now: Seconds,
) -> Result<(), StoreError> {
    record.names.registrants.remove(attribute);
    if let Some(stem) = originator.and_then(|originator| stem(settings, originator))
        && let Some(registrant) = registrant::registrant(read, &stem, now)?
    {
        record.names.registrants.insert(attribute.into(), [(stem, registrant)].into());
    }
    Ok(())
}

/// Binds a registered AE-ID-Stem to its registrant in all attributes that wait for it.
pub(crate) fn end_waits(
    writer: &mut Writer<'_>,
    stem: &str,
    now: Seconds,
) -> Result<(), StoreError> {
    let Some(registrant) = registrant::registrant(writer.read(), stem, now)? else { return Ok(()) };
    writer.settle(stem, &registrant)
}

/// Resolves the names in all resources of a store from before names were resolved. `known` returns
/// the registrant of an AE. An AE without one gets a registrant that never returns.
pub(crate) fn resolve_all(
    writer: &mut Writer<'_>,
    settings: &Settings,
    known: &dyn Fn(&str) -> Option<String>,
    now: Seconds,
) -> Result<(), StoreError> {
    // AEs come first: other resources name them, and they may name each other's policies.
    let mut after = None;
    while let Some(mut record) = writer.next_by_id(after.as_deref())? {
        if record.ty == ResourceType::Ae {
            let known = known(&record.ri).map(|id| Registrant::new(id, true));
            record.registrant = Some(known.unwrap_or_else(Registrant::unknown));
            writer.put(&record)?;
        }
        after = Some(record.ri);
    }
    let mut after = None;
    while let Some(mut record) = writer.next_by_id(after.as_deref())? {
        if !record.ty.is_instance() {
            let all = ADDRESSES.into_iter().chain(IDENTIFIERS);
            match resolve(writer, settings, &mut record, None, all, now) {
                Ok(()) => {}
                Err(Refusal::Store(error)) => return Err(error),
                Err(_) => return Err(StoreError::Corrupt(record.ri)),
            }
            let text = |name| record.attributes.get(name).and_then(Value::as_str);
            let creator = text(CREATOR).map(ToOwned::to_owned);
            let named_by = record.named_by.clone();
            for (attribute, who) in [(CREATOR, creator), (NAMED_BY, named_by)] {
                store_registrant(
                    writer.read(),
                    settings,
                    &mut record,
                    attribute,
                    who.as_deref(),
                    now,
                )?;
            }
            if !record.names.is_empty() {
                writer.put(&record)?;
            }
        }
        after = Some(record.ri);
    }
    Ok(())
}
