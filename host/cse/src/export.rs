//! The holders of the names in an exported resource. An import refuses a resource whose names have
//! other holders at the CSE into which it is imported: they would get the rights of the former ones.
//!
//! An address contains resource names, which anybody can take. So the export has the owner of each
//! resource that an address denotes, with its registrant, and not only the AEs by their AE-IDs.

use std::collections::BTreeMap;

use saegis_onem2m::resource::ResourceType;
use serde::{Deserialize, Serialize};

use crate::access::names;
use crate::error::quoted;
use crate::record::{Record, Seconds};
use crate::resource::ae_announcement;
use crate::resource::links;
use crate::resource::registrant;
use crate::resource::remote_cse;
use crate::settings::Settings;
use crate::store::{Read, StoreError};

/// The entities on which the rights to a resource depend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Holders {
    /// Owner of the resource.
    owner: Holder,
    /// By attribute, the owners of the resources at the addresses in it; null for an address at which
    /// there was nothing.
    addresses: BTreeMap<String, BTreeMap<String, Option<Holder>>>,
    /// Registrants of the AEs that the resource names by their AE-ID-Stems; null for an AE that was
    /// not registered.
    aes: BTreeMap<String, Option<String>>,
}

/// The owner of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Holder {
    /// AE-ID-Stem or CSE-ID; null for the CSE itself.
    owner: Option<String>,
    /// Credential that registered it.
    registrant: Option<String>,
}

impl Holder {
    fn of(
        read: &dyn Read,
        settings: &Settings,
        record: &Record,
        now: Seconds,
    ) -> Result<Self, StoreError> {
        let owner = record.owner.clone();
        let registrant = match owner.as_deref() {
            _ if record.ty == ResourceType::AeAnnc => ae_announcement::registrant(record),
            None => None,
            Some(cse) if cse.starts_with('/') => remote_cse::of(read, settings, cse, now)?
                .and_then(|cse| cse.registrant)
                .map(|registrant| registrant.id),
            Some(stem) => registrant::registrant(read, stem, now)?,
        };
        Ok(Self { owner, registrant })
    }
}

/// The reason why an exported resource is not restored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// A name has another holder.
    Other(String),
    /// A resource that an address denoted does not exist.
    Missing(String),
}

/// Returns the holders of the names in a resource.
pub(crate) fn holders(
    read: &dyn Read,
    settings: &Settings,
    record: &Record,
) -> Result<Holders, StoreError> {
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
            let holder = found.map(|found| Holder::of(read, settings, &found.record, 0));
            of_attribute.insert(address, holder.transpose()?);
        }
    }
    let mut aes = BTreeMap::new();
    for registrants in record.names.registrants.values() {
        for stem in registrants.keys() {
            aes.insert(stem.clone(), registrant::known(read, Some(registrants), stem)?);
        }
    }
    Ok(Holders { owner: Holder::of(read, settings, record, 0)?, addresses, aes })
}

/// Returns the reason why the names of an exported resource, or its address below `parent`, mean
/// something else here, if they do.
pub(crate) fn mismatch(
    read: &dyn Read,
    settings: &Settings,
    parent: &str,
    holders: &Holders,
    now: Seconds,
) -> Result<Option<Mismatch>, StoreError> {
    let holder = |record: &Record| Holder::of(read, settings, record, now);
    let present = links::resolve(read, settings, parent, now)?;
    let present = present.as_ref().map(holder).transpose()?;
    if let Some(why) = compare(parent, Some(&holders.owner), present.as_ref()) {
        return Ok(Some(why));
    }
    for (attribute, addresses) in &holders.addresses {
        for (address, former) in addresses {
            let present = names::denoted(read, settings, attribute, address, now)?;
            let present = present.as_ref().map(holder).transpose()?;
            if let Some(why) = compare(address, former.as_ref(), present.as_ref()) {
                return Ok(Some(why));
            }
        }
    }
    for (stem, former) in &holders.aes {
        let present = registrant::registrant(read, stem, now)?;
        // An AE that is not registered has no rights. The name would be the next one's.
        if *former != present {
            return Ok(Some(Mismatch::Other(other(stem, former.is_none()))));
        }
    }
    Ok(None)
}

fn compare(name: &str, former: Option<&Holder>, present: Option<&Holder>) -> Option<Mismatch> {
    match (former, present) {
        _ if former == present => None,
        (Some(_), None) => Some(Mismatch::Missing(format!("{} does not exist here", quoted(name)))),
        _ => Some(Mismatch::Other(other(name, former.is_none()))),
    }
}

fn other(name: &str, was_free: bool) -> String {
    let name = quoted(name);
    match was_free {
        true => format!("{name} had no holder at the export, and has one here"),
        false => format!("{name} has another holder here than at the export"),
    }
}
