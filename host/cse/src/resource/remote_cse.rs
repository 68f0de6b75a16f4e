//! The registration of a CSE (TS-0001 clause 10.2.2.7, TS-0004 clause 7.4.4.2.1).
//!
//! A `<remoteCSE>` has the CSE-ID in its resource-ID, so a CSE is found by its CSE-ID and registers
//! once. The identity of the originator is checked before the request arrives here.

use saegis_onem2m::id::CseId;
use saegis_onem2m::resource::ResourceType;

use crate::record::{Attributes, Record, Seconds, alive};
use crate::resource::address;
use crate::resource::schema::AttributeError;
use crate::settings::Settings;
use crate::store::{Child, Read, StoreError};

/// Returns the resource-ID of the `<remoteCSE>` for a CSE.
pub(crate) fn ri_of(cse: &CseId) -> String {
    format!("csr-{}", cse.bare())
}

/// Returns the `<remoteCSE>` for a CSE-ID in any of its forms.
pub(crate) fn of(
    read: &dyn Read,
    settings: &Settings,
    cse: &str,
    now: Seconds,
) -> Result<Option<Record>, StoreError> {
    let Some(cse) = settings.own_cse(cse) else { return Ok(None) };
    let found = address::by_id(read, &ri_of(&cse), now)?;
    Ok(found.map(|f| f.record).filter(|r| r.ty == ResourceType::RemoteCse))
}

/// Returns the CSE-IDs of all registered CSEs.
pub(crate) fn all(
    read: &dyn Read,
    settings: &Settings,
    now: Seconds,
) -> Result<Vec<CseId>, StoreError> {
    let mut all = Vec::new();
    let base = settings.cse_id.bare();
    let ty = ResourceType::RemoteCse.number();
    let mut last = Child { ty: ty - 1, sequence: u64::MAX, ri: String::new() };
    while let Some(child) = read.next_child(base, Some(&last))?.filter(|c| c.ty == ty) {
        let corrupt = || StoreError::Corrupt(child.ri.clone());
        let record = read.get(&child.ri)?.ok_or_else(corrupt)?;
        if alive(record.expires, now) {
            let owner = record.owner.as_deref().and_then(|id| CseId::parse(id).ok());
            all.push(owner.ok_or_else(corrupt)?);
        }
        last = child;
    }
    Ok(all)
}

/// Checks that a representation is that of the registering CSE, and adds the CSE-ID if it is absent
/// (TS-0004 clause 7.4.4.2.1).
///
/// # Errors
/// Returns an error if it is that of another CSE.
pub(crate) fn check(
    settings: &Settings,
    attributes: &mut Attributes,
    cse: &CseId,
) -> Result<(), AttributeError> {
    let csi = attributes.entry("csi").or_insert_with(|| cse.to_string().into());
    match settings.own_cse(csi.as_str().unwrap_or_default()) {
        Some(own) if own == *cse => Ok(()),
        _ => Err(AttributeError::value("csi", "must be the originator's CSE-ID")),
    }
}
