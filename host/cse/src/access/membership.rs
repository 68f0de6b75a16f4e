//! Groups as originators in access control rules (TS-0001 clause 9.6.2.1).
//!
//! A group denotes the AEs and CSEs that are its members. A member is the AE or the CSE that had the
//! address when it was added: another one that takes its name is not a member. A group in a group is
//! not followed. A group that is gone has no members.

use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::target::Target;

use crate::access::originator::Identity;
use crate::record::Seconds;
use crate::record::names::Reference;
use crate::resource::schema::MEMBERS;
use crate::settings::Settings;
use crate::store::{Read, StoreError};

/// Returns whether an originator is a member of a group.
///
/// # Errors
/// Returns an error if the store fails, or the request must stop.
pub(crate) fn has_member(
    read: &dyn Read,
    settings: &Settings,
    group: &Reference,
    who: &Identity,
    now: Seconds,
) -> Result<bool, StoreError> {
    let Some(group) = group.find(read, now)?.map(|found| found.record) else { return Ok(false) };
    if group.ty != ResourceType::Group {
        return Ok(false);
    }
    let registration = who.registration(settings);
    let named = group.names.resources(MEMBERS);
    for (at, text) in group.texts(MEMBERS).enumerate() {
        let is_member = match (named.get(at).and_then(Option::as_ref), &registration) {
            (Some(member), Some(own)) => member == own && own.find(read, now)?.is_some(),
            (Some(_), None) => false,
            // The text of a member elsewhere may be the S-type AE-ID of an AE that has registered here
            // since. The group does not name its registrant.
            (None, _) => {
                who.stem_of_registrant().is_none()
                    && is_remote(settings, text)
                    && who.is(&settings.canonical_id(text))
            }
        };
        if is_member {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether a member is at another CSE. Only that CSE knows the holder of its AE-IDs.
fn is_remote(settings: &Settings, member: &str) -> bool {
    Target::from_address(member)
        .is_ok_and(|target| !target.is_at(&settings.cse_id, settings.service_provider.as_deref()))
}
