//! The holders of the names in an exported resource. An import refuses a resource whose names have
//! other holders at the CSE into which it is imported: they would get the rights of the former ones.
//!
//! An address contains resource names, which anybody can take. So the export has the holder of each
//! resource that an address denotes: the registration to which it belongs, or its creators.

use std::collections::BTreeMap;

use saegis_onem2m::resource::ResourceType;
use serde::{Deserialize, Serialize};

use crate::access::names;
use crate::record::names::Creator;
use crate::record::{Record, Seconds};
use crate::resource::address;
use crate::resource::ae_announcement;
use crate::resource::links;
use crate::resource::registrant;
use crate::resource::schema::NAMED_BY;
use crate::settings::Settings;
use crate::store::{Read, StoreError};

/// Attributes with addresses of resources from which no rights follow.
pub(crate) const LINKS: [&str; 6] = ["nl", "gpi", "hael", "hcl", "hsl", "rlk"];

/// The entities on which the rights to a resource depend, and the resources that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Holders {
    /// Holder of the resource.
    pub(crate) own: Holder,
    /// Holder of its parent; null for the `<CSEBase>`.
    pub(crate) parent: Option<Holder>,
    /// Originator that named the targets of a subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subscriber: Option<Creator>,
    /// By attribute, the resources at the addresses in it; null for an address at which there was
    /// nothing.
    pub(crate) addresses: BTreeMap<String, BTreeMap<String, Option<Denoted>>>,
    /// The resources at the addresses in other attributes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) links: BTreeMap<String, Denoted>,
    /// Registrants of the AEs that the resource names by their AE-ID-Stems; null for an AE that was
    /// not registered.
    pub(crate) aes: BTreeMap<String, Option<String>>,
}

/// A resource that an address denoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Denoted {
    /// Structured address, which does not change with the resource-ID.
    pub(crate) path: String,
    /// Holder.
    pub(crate) holder: Holder,
}

/// The entities that control a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Holder {
    /// AE-ID-Stem or CSE-ID of the registration to which the resource belongs; null for none.
    pub(crate) owner: Option<String>,
    /// Credential that registered it.
    pub(crate) registrant: Option<String>,
    /// Creators of a resource that belongs to no registration, and of those above it, from the top.
    /// The policies of those above it apply to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) creators: Vec<Creator>,
}

impl Holder {
    /// Returns the holder of a resource.
    pub(crate) fn of(
        read: &dyn Read,
        settings: &Settings,
        record: &Record,
        now: Seconds,
    ) -> Result<Self, StoreError> {
        let owner = record.owner.clone();
        let registrant = match owner.as_deref() {
            _ if record.ty == ResourceType::AeAnnc => ae_announcement::registrant(record),
            None => None,
            Some(cse) if cse.starts_with('/') => {
                registrant::registrant_of_cse(read, settings, cse, now)?
            }
            Some(stem) => registrant::registrant(read, stem, now)?,
        };
        let creators = if owner.is_none() { creators(read, record)? } else { Vec::new() };
        Ok(Self { owner, registrant, creators })
    }
}

/// Returns the creators of a resource without an owner and of those above it, below the `<CSEBase>`.
fn creators(read: &dyn Read, record: &Record) -> Result<Vec<Creator>, StoreError> {
    let mut all = Vec::new();
    let mut next = Some(record.clone());
    while let Some(record) = next.filter(|record| record.ty != ResourceType::CseBase) {
        // Only the same resource has the same unknown creator.
        let unknown = || Creator { id: format!("#{}", record.ri), registrant: None };
        all.push(record.creator.clone().unwrap_or_else(unknown));
        next = record.parent.as_deref().map(|parent| read.get(parent)).transpose()?.flatten();
    }
    all.reverse();
    Ok(all)
}

/// Returns the holders of the names in a resource.
pub(crate) fn holders(
    read: &dyn Read,
    settings: &Settings,
    record: &Record,
) -> Result<Holders, StoreError> {
    let denoted = |found: &Record| {
        let path = address::structured(read, found)?;
        Ok::<_, StoreError>(Denoted { path, holder: Holder::of(read, settings, found, 0)? })
    };
    let mut addresses: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (attribute, references) in &record.names.resources {
        let of_attribute = addresses.entry(attribute.clone()).or_default();
        for (address, reference) in
            names::addresses_in(record, attribute).into_iter().zip(references)
        {
            let found = match reference {
                Some(reference) => reference.find(read, 0)?,
                None => None,
            };
            of_attribute.insert(address, found.map(|found| denoted(&found.record)).transpose()?);
        }
    }
    let mut linked = BTreeMap::new();
    for text in LINKS.into_iter().flat_map(|attribute| record.texts(attribute)) {
        if let Some(found) = links::resolve(read, settings, text, 0)? {
            linked.insert(text.to_owned(), denoted(&found)?);
        }
    }
    let mut aes = BTreeMap::new();
    for (attribute, registrants) in &record.names.registrants {
        // The subscriber is compared separately.
        if attribute == NAMED_BY {
            continue;
        }
        for stem in registrants.keys() {
            aes.insert(stem.clone(), registrant::known(read, Some(registrants), stem)?);
        }
    }
    let parent = record.parent.as_deref().map(|parent| read.get(parent)).transpose()?.flatten();
    let parent = parent.map(|parent| Holder::of(read, settings, &parent, 0)).transpose()?;
    let own = Holder::of(read, settings, record, 0)?;
    let subscriber = subscriber(read, settings, record)?;
    Ok(Holders { own, parent, subscriber, addresses, links: linked, aes })
}

/// Returns the originator that named the targets of a subscription, as it was then.
fn subscriber(
    read: &dyn Read,
    settings: &Settings,
    record: &Record,
) -> Result<Option<Creator>, StoreError> {
    let Some(from) = record.named_by.as_deref() else { return Ok(None) };
    let present = registrant::creator(read, settings, from, 0)?;
    let registrant = match record.names.registrants(NAMED_BY) {
        Some(known) => registrant::known(read, Some(known), &present.id)?,
        None if present.id.starts_with('/') => present.registrant,
        // The AE was not registered.
        None => None,
    };
    Ok(Some(Creator { id: present.id, registrant }))
}
