//! What a resource names, resolved when it is stored: authority follows identity, not names.
//!
//! A structured address leads to whatever has the names in it, and an AE-ID-Stem is whose AE registers
//! it: both can be taken by somebody else after their holder has left. So a record keeps, beside each
//! attribute as it was written, what the names in it stood for when they were stored:
//!
//! - an address stands for the resource with that resource-ID. Resource-IDs are not used again, but for
//!   those of AEs, which are AE-ID-Stems: there the registrant counts as well.
//! - an AE-ID stands for its AE-ID-Stem together with its registrant: the credential that registered it.
//!   The same credential that registers the stem again is the same AE, and another is another. An AE-ID that
//!   nobody has registered yet stands for whoever is the first to register it: it is noted which wait for
//!   the stem that is, and the store knows who ended it.
//!
//! What is gone stays gone, whoever takes its name: such a name stands for nothing. Patterns, `all` and
//! domain names stand for sets, whoever is in them. An AE-ID of another CSE is that CSE's word: it alone
//! knows who has it.

use std::collections::{BTreeMap, BTreeSet};

use rand::distr::{Alphanumeric, SampleString};
use saegis_onem2m::id::From;
use saegis_onem2m::primitive::RequestPrimitive;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::target::Target;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::access::decision::{CREATOR, CUSTODIAN, POLICIES};
use crate::access::originator;
use crate::access::policy::{self, PRIVILEGES, SELF_PRIVILEGES};
use crate::error::Refusal;
use crate::notification::point_of_access::{self, Address};
use crate::record::{Record, Seconds, alive};
use crate::request::target::{self, Found, Place};
use crate::resource::ae_announcement;
use crate::resource::attributes::AttributeError;
use crate::resource::links;
use crate::settings::Settings;
use crate::store::{Edge, Read, StoreError, Writer};

/// The members of a group.
pub(crate) const MEMBERS: &str = "mid";

/// The targets of a subscription, and its subscriber.
pub(crate) const TARGETS: &str = "nu";
pub(crate) const SUBSCRIBER: &str = "su";

/// Who named the targets of a subscription: no attribute, so no attribute has this name.
pub(crate) const NAMED_BY: &str = "named-by";

/// The attributes with addresses of resources.
const ADDRESSES: [&str; 4] = [POLICIES, MEMBERS, TARGETS, SUBSCRIBER];

/// The attributes with identifiers of AEs and CSEs.
const IDENTIFIERS: [&str; 3] = [PRIVILEGES, SELF_PRIVILEGES, CUSTODIAN];

/// Begins what is noted in place of a registrant where a wait is not the first for its stem. No
/// Credential-ID looks like this.
const WAIT: char = '?';

/// Length of the random part of a registrant without a credential.
const RANDOM: usize = 16;

/// The registrant of each AE-ID-Stem that an attribute names, or the wait for one where nobody had
/// registered it.
pub(crate) type Registrants = BTreeMap<String, String>;

/// Who registered an AE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registrant {
    /// The Credential-ID, or where none was seen a name that is used once.
    pub(crate) id: String,
    /// Whether the credential got its AE-ID by this registration.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) learnt: bool,
    /// Whether the credential has lost it since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) freed: bool,
}

impl Registrant {
    /// The registrant of an AE that is registered by a request.
    pub(crate) fn of(request: &RequestPrimitive) -> Self {
        match &request.credential {
            Some(credential) => Self::new(credential.id.to_string(), credential.learns_ae_id),
            None => Self::unknown(),
        }
    }

    /// One of whom nothing is known, and who is nobody else. No Credential-ID looks like this.
    pub(crate) fn unknown() -> Self {
        let id = format!("#{}", Alphanumeric.sample_string(&mut rand::rng(), RANDOM));
        Self::new(id, false)
    }

    fn new(id: String, learnt: bool) -> Self {
        Self { id, learnt, freed: false }
    }
}

/// The resource that an address stood for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    /// Its resource-ID.
    pub(crate) ri: String,
    /// Its registrant, where the resource-ID can be had again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registrant: Option<String>,
    /// The virtual resource below it that was meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    below: Option<String>,
}

impl Reference {
    pub(crate) fn of(record: &Record) -> Self {
        Self { ri: record.ri.clone(), registrant: registrant_of(record), below: None }
    }

    /// The resource, if it is still there.
    pub(crate) fn find(&self, read: &dyn Read, now: Seconds) -> Result<Option<Found>, StoreError> {
        let found = target::by_id(read, &self.ri, now)?;
        Ok(found.filter(|found| registrant_of(&found.record) == self.registrant))
    }

    /// Its unstructured address, relative to this CSE.
    pub(crate) fn address(&self) -> String {
        match &self.below {
            Some(below) => format!("{}/{below}", self.ri),
            None => self.ri.clone(),
        }
    }
}

/// What the names in a resource's attributes stood for when they were stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Names {
    /// By attribute, the resource of each address in it, in their order.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    resources: BTreeMap<String, Vec<Option<Reference>>>,
    /// By attribute, the registrants of the AE-IDs in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    registrants: BTreeMap<String, Registrants>,
}

impl Names {
    pub(crate) fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.registrants.is_empty()
    }

    /// The resources of the addresses in an attribute.
    pub(crate) fn resources(&self, attribute: &str) -> &[Option<Reference>] {
        self.resources.get(attribute).map(Vec::as_slice).unwrap_or_default()
    }

    /// The registrants of the AE-IDs in an attribute.
    pub(crate) fn registrants(&self, attribute: &str) -> Option<&Registrants> {
        self.registrants.get(attribute)
    }

    /// The AE-ID-Stems that stand for whoever registers them first, each with the number of the wait.
    pub(crate) fn awaited(&self) -> BTreeSet<(&str, u64)> {
        let all = self.registrants.values().flatten();
        all.filter_map(|(stem, registrant)| Some((stem.as_str(), wait_in(registrant)?))).collect()
    }
}

/// The number of the wait that is noted in place of a registrant.
fn wait_in(registrant: &str) -> Option<u64> {
    match registrant.strip_prefix(WAIT) {
        Some(number) => number.parse().ok(),
        None => registrant.is_empty().then_some(0),
    }
}

/// Notes a wait. The first for a stem is empty.
fn noted(wait: u64) -> String {
    if wait == 0 { String::new() } else { format!("{WAIT}{wait}") }
}

/// The registrant that an attribute knows for a stem, once there is one.
pub(crate) fn known(
    read: &dyn Read,
    registrants: Option<&Registrants>,
    stem: &str,
) -> Result<Option<String>, StoreError> {
    let Some(known) = registrants.and_then(|registrants| registrants.get(stem)) else {
        return Ok(None);
    };
    match wait_in(known) {
        Some(wait) => read.first(stem, wait),
        None => Ok(Some(known.clone())),
    }
}

/// The registrant of what has a resource-ID that can be had again.
fn registrant_of(record: &Record) -> Option<String> {
    match record.ty {
        ResourceType::Ae => record.registrant.as_ref().map(|registrant| registrant.id.clone()),
        ResourceType::AeAnnc => ae_announcement::registrant(record),
        _ => None,
    }
}

/// Whether an AE got its AE-ID by registering and policy has given the AE-ID to another credential since,
/// which a request comes with: that is another AE, which has to register.
pub(crate) fn is_of_another(ae: &Record, request: &RequestPrimitive) -> bool {
    match (&ae.registrant, &request.credential) {
        (Some(registrant), Some(credential)) => {
            registrant.learnt
                && !credential.learns_ae_id
                && registrant.id != credential.id.to_string()
        }
        _ => false,
    }
}

/// The registrant of an AE that is registered here, or announced.
pub(crate) fn registrant(
    read: &dyn Read,
    stem: &str,
    now: Seconds,
) -> Result<Option<String>, StoreError> {
    let ae = read.get(stem)?.filter(|r| r.ty == ResourceType::Ae && alive(r.expires, now));
    let record = match ae {
        None if originator::may_be_ae(stem) => ae_announcement::of(read, stem, now)?,
        ae => ae,
    };
    Ok(record.as_ref().and_then(registrant_of))
}

/// Resolves what those attributes of a resource name that is about to be stored. What it named `before`
/// stands for what it stood for.
///
/// # Errors
/// When a name that stays stands for something else by now.
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
    for text in texts(record, attribute) {
        let new = reference(read, settings, attribute, text, now)?;
        let old = before.and_then(|before| {
            let at = texts(before, attribute).position(|old| old == text)?;
            before.names.resources(attribute).get(at)?.clone()
        });
        all.push(stays(attribute, text, old, new)?);
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
        let new = registrant(writer.read(), &stem, now)?;
        let old = known(writer.read(), before, &stem)?;
        let registrant = match stays(attribute, &text, old, new)? {
            Some(registrant) => registrant,
            None => noted(writer.open_wait(&stem)?),
        };
        all.insert(stem, registrant);
    }
    Ok(all)
}

/// What a name stands for that stood for something before.
fn stays<T: PartialEq>(
    attribute: &'static str,
    name: &str,
    old: Option<T>,
    new: Option<T>,
) -> Result<Option<T>, Refusal> {
    match (old, new) {
        (Some(old), Some(new)) if old != new => {
            let name = crate::error::quoted(name);
            let why = format!(
                "names {name}, which is gone, and another has the name: take it out of {attribute} \
                 first, and then name it anew if that one is meant"
            );
            Err(AttributeError::value(attribute, &why).into())
        }
        (Some(old), _) => Ok(Some(old)),
        (None, new) => Ok(new),
    }
}

/// The addresses in an attribute.
pub(crate) fn texts<'r>(record: &'r Record, attribute: &str) -> impl Iterator<Item = &'r str> {
    let value = record.attributes.get(attribute);
    let one = value.filter(|value| value.is_string());
    let many = value.and_then(Value::as_array).into_iter().flatten();
    many.chain(one).map(|text| text.as_str().unwrap_or_default())
}

/// The identifiers in an attribute.
fn named(record: &Record, attribute: &str) -> Vec<String> {
    match record.attributes.get(attribute) {
        Some(Value::String(one)) => vec![one.clone()],
        Some(set) => policy::originators(set),
        None => Vec::new(),
    }
}

/// The resource of an address in an attribute.
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
            match target::resolve(read, settings, &target, now) {
                Ok(Place::Resource(found)) => Ok(Some(Reference::of(&found.record))),
                Ok(Place::Instance { container, edge }) => {
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
        _ => match Address::parse(attribute, text) {
            Ok(Address::Resource(target)) => {
                let ae = point_of_access::ae(read, settings, &target, now)?.map(|ae| ae.record);
                let ae = match ae {
                    None => ae_announcement::at(read, &target, now)?,
                    ae => ae,
                };
                Ok(ae.as_ref().map(Reference::of))
            }
            Ok(Address::Url(_)) | Err(_) => Ok(None),
        },
    }
}

/// The AE-ID-Stem in an identifier of one AE that may be registered here.
fn stem(settings: &Settings, text: &str) -> Option<String> {
    let text = originator::canonical(settings, text);
    match From::parse(&text).ok()? {
        From::Stem(stem) => Some(stem.into()),
        From::SpRelativeAe { cse, stem } if cse == settings.cse_id.bare() => Some(stem.into()),
        From::SpRelative(bare) if originator::may_be_ae(bare) => Some(bare.into()),
        _ => None,
    }
}

/// Notes who an originator is whose identifier is entered in a record.
pub(crate) fn note(
    read: &dyn Read,
    settings: &Settings,
    record: &mut Record,
    attribute: &'static str,
    originator: Option<&str>,
    now: Seconds,
) -> Result<(), StoreError> {
    record.names.registrants.remove(attribute);
    if let Some(stem) = originator.and_then(|originator| stem(settings, originator))
        && let Some(registrant) = registrant(read, &stem, now)?
    {
        record.names.registrants.insert(attribute.into(), [(stem, registrant)].into());
    }
    Ok(())
}

/// An AE-ID-Stem is registered, and is its registrant's wherever it was awaited.
pub(crate) fn settle(writer: &mut Writer<'_>, stem: &str, now: Seconds) -> Result<(), StoreError> {
    let Some(registrant) = registrant(writer.read(), stem, now)? else { return Ok(()) };
    writer.settle(stem, &registrant)
}

/// Resolves what the resources of a store name that was written before names were resolved. The
/// registrant of an AE is what `known` says, or one who does not come back.
pub(crate) fn resolve_all(
    writer: &mut Writer<'_>,
    settings: &Settings,
    known: &dyn Fn(&str) -> Option<String>,
    now: Seconds,
) -> Result<(), StoreError> {
    // Others name the AEs, which may name each other's policies.
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
        if record.ty != ResourceType::ContentInstance {
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
                note(writer.read(), settings, &mut record, attribute, who.as_deref(), now)?;
            }
            if !record.names.is_empty() {
                writer.put(&record)?;
            }
        }
        after = Some(record.ri);
    }
    Ok(())
}
