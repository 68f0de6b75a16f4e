//! The registration of a CSE (TS-0001 clause 10.2.2.7, TS-0004 clause 7.4.4.2.1).
//!
//! A `<remoteCSE>` has its CSE-ID in its resource-ID, so a CSE is found by its name and registers
//! once. That the originator is that CSE is checked before the request comes here.

use saegis_onem2m::id::{CseId, From};
use saegis_onem2m::resource::ResourceType;

use crate::access::originator;
use crate::error::Refusal;
use crate::operation::delete;
use crate::record::{Attributes, Record, Seconds, alive};
use crate::request::context::Context;
use crate::request::target;
use crate::resource::ae_announcement;
use crate::resource::attributes::AttributeError;
use crate::settings::Settings;
use crate::store::{Child, Read, StoreError, Writer};

/// The resource-ID of the `<remoteCSE>` of a CSE.
pub(crate) fn ri_of(cse: &CseId) -> String {
    format!("csr-{}", cse.bare())
}

/// The `<remoteCSE>` of the CSE with that CSE-ID, in any of its forms.
pub(crate) fn of(
    read: &dyn Read,
    settings: &Settings,
    cse: &str,
    now: Seconds,
) -> Result<Option<Record>, StoreError> {
    let Some(cse) = originator::own_cse(settings, cse) else { return Ok(None) };
    let found = target::by_id(read, &ri_of(&cse), now)?;
    Ok(found.map(|f| f.record).filter(|r| r.ty == ResourceType::RemoteCse))
}

/// The CSE-IDs of all that are registered.
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

/// The CSE that registers, if it may.
///
/// # Errors
/// Why it may not.
pub(crate) fn registree(writer: &mut Writer<'_>, context: &Context<'_>) -> Result<CseId, Refusal> {
    let settings = context.settings;
    let from = context.request.from.as_deref().ok_or(Refusal::NoOriginator)?;
    match From::parse(from).map_err(Refusal::Originator)? {
        From::SpRelative(_) | From::Absolute { stem: None, .. } => {}
        From::AssignByRegistrar
        | From::AssignByServiceProvider
        | From::Stem(_)
        | From::SpRelativeAe { .. }
        | From::SpRelativeAssign { .. }
        | From::Absolute { stem: Some(_), .. } => {
            return Err(Refusal::NotAllowed("an AE does not register as a CSE"));
        }
    }
    let cse = originator::own_cse(settings, from)
        .ok_or(Refusal::NotImplemented("a CSE of another service provider can't register here"))?;
    if cse == settings.cse_id {
        return Err(Refusal::CseRegistered);
    }
    let ae = |r: Record| r.ty == ResourceType::Ae && alive(r.expires, context.now);
    if originator::may_be_ae(cse.bare())
        && (writer.read().get(cse.bare())?.is_some_and(ae)
            || ae_announcement::of(writer.read(), cse.bare(), context.now)?.is_some())
    {
        return Err(Refusal::NotAllowed("an AE does not register as a CSE"));
    }
    let ri = ri_of(&cse);
    if ri == settings.csebase_name {
        return Err(Refusal::Conflict);
    }
    match writer.read().get(&ri)? {
        None => {}
        Some(r) if r.ty != ResourceType::RemoteCse => return Err(Refusal::Conflict),
        Some(r) if alive(r.expires, context.now) => return Err(Refusal::CseRegistered),
        Some(_) => delete::make_way(writer, &ri)?,
    }
    Ok(cse)
}

/// Checks that a representation is that of the CSE that registers, and enters the CSE-ID where it is
/// left out (TS-0004 clause 7.4.4.2.1).
///
/// # Errors
/// When it is another's.
pub(crate) fn check(
    settings: &Settings,
    attributes: &mut Attributes,
    cse: &CseId,
) -> Result<(), AttributeError> {
    let csi = attributes.entry("csi").or_insert_with(|| cse.to_string().into());
    match originator::own_cse(settings, csi.as_str().unwrap_or_default()) {
        Some(own) if own == *cse => Ok(()),
        _ => Err(AttributeError::value("csi", "must be the originator's CSE-ID")),
    }
}
