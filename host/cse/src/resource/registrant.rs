//! The registrants of AEs: the credential that registered an AE-ID, and the AE that has it.

use saegis_onem2m::id::OriginatorId;
use saegis_onem2m::primitive::RequestPrimitive;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::target::Target;

use crate::error::Refusal;
use crate::identifiers::may_be_ae;
use crate::record::names::{Creator, Reference, Registrants, decode_wait};
use crate::record::{Record, Seconds, alive};
use crate::resource::address::{self, Resolved, ResolvedResource};
use crate::resource::ae_announcement;
use crate::resource::remote_cse;
use crate::settings::Settings;
use crate::store::{Read, StoreError};

impl Reference {
    pub(crate) fn of(record: &Record) -> Self {
        Self { ri: record.ri.clone(), registrant: registrant_of(record), below: None }
    }

    /// Returns the resource, if it still exists.
    pub(crate) fn find(
        &self,
        read: &dyn Read,
        now: Seconds,
    ) -> Result<Option<ResolvedResource>, StoreError> {
        let found = address::by_id(read, &self.ri, now)?;
        Ok(found.filter(|found| registrant_of(&found.record) == self.registrant))
    }
}

/// Returns the registrant that an attribute stores for a stem, if there is one already.
pub(crate) fn known(
    read: &dyn Read,
    registrants: Option<&Registrants>,
    stem: &str,
) -> Result<Option<String>, StoreError> {
    let Some(known) = registrants.and_then(|registrants| registrants.get(stem)) else {
        return Ok(None);
    };
    match decode_wait(known) {
        Some(wait) => read.first(stem, wait),
        None => Ok(Some(known.clone())),
    }
}

/// Returns the registrant of a resource whose resource-ID can be reused.
fn registrant_of(record: &Record) -> Option<String> {
    match record.ty {
        ResourceType::Ae => record.registrant.as_ref().map(|registrant| registrant.id.clone()),
        ResourceType::AeAnnc => ae_announcement::registrant(record),
        _ => None,
    }
}

/// Returns whether a request comes from another AE with the same AE-ID.
///
/// The AE got its AE-ID by registering. If policy has assigned the AE-ID to the request's
/// credential since, that is another AE, which must register.
pub(crate) fn belongs_to_another(ae: &Record, request: &RequestPrimitive) -> bool {
    match (&ae.registrant, &request.credential) {
        (Some(registrant), Some(credential)) => {
            registrant.learned_ae_id
                && !credential.learns_ae_id
                && registrant.id != credential.id.to_string()
        }
        _ => false,
    }
}

/// Returns the registered AE with this AE-ID-Stem.
pub(crate) fn registered_ae(
    read: &dyn Read,
    stem: &str,
    now: Seconds,
) -> Result<Option<Record>, StoreError> {
    Ok(read.get(stem)?.filter(|r| r.ty == ResourceType::Ae && alive(r.expires, now)))
}

/// Returns the registrant of a registered or announced AE.
pub(crate) fn registrant(
    read: &dyn Read,
    stem: &str,
    now: Seconds,
) -> Result<Option<String>, StoreError> {
    let record = match registered_ae(read, stem, now)? {
        None if may_be_ae(stem) => ae_announcement::of(read, stem, now)?,
        ae => ae,
    };
    Ok(record.as_ref().and_then(registrant_of))
}

/// Returns the identity of an originator for the resources that it creates.
pub(crate) fn creator(
    read: &dyn Read,
    settings: &Settings,
    from: &str,
    now: Seconds,
) -> Result<Creator, StoreError> {
    let id = settings.originator_id(from);
    let registrant = match OriginatorId::parse(&id) {
        Ok(OriginatorId::Stem(stem)) => match registrant(read, stem, now)? {
            // From another CSE, a CSE-ID and an S-type AE-ID look the same.
            None => registrant_of_cse(read, settings, &format!("/{stem}"), now)?,
            known => known,
        },
        Ok(OriginatorId::SpRelative(cse) | OriginatorId::SpRelativeAe { cse, .. }) => {
            registrant_of_cse(read, settings, &format!("/{cse}"), now)?
        }
        _ => None,
    };
    Ok(Creator { id, registrant })
}

/// Returns the credential that registered a CSE.
pub(crate) fn registrant_of_cse(
    read: &dyn Read,
    settings: &Settings,
    cse: &str,
    now: Seconds,
) -> Result<Option<String>, StoreError> {
    let registration = remote_cse::of(read, settings, cse, now)?;
    Ok(registration.and_then(|cse| cse.registrant).map(|registrant| registrant.id))
}

/// Returns the AE at a target.
pub(crate) fn ae_at(
    read: &dyn Read,
    settings: &Settings,
    target: &Target,
    now: Seconds,
) -> Result<Option<ResolvedResource>, StoreError> {
    let located = ae_announcement::locate(read, target, now)?;
    match address::resolve(read, settings, located.as_ref().unwrap_or(target), now) {
        Ok(Resolved::Resource(found)) if found.record.ty == ResourceType::Ae => Ok(Some(found)),
        Ok(_) | Err(Refusal::NotFound) => Ok(None),
        Err(Refusal::Store(error)) => Err(error),
        Err(_) => Ok(None),
    }
}
