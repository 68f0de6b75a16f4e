//! How much an AE or a CSE may store: no registree fills the disk for the others.
//!
//! What is in a registree's subtree counts for it, whoever created it there.

use crate::error::Refusal;
use crate::settings::Limits;
use crate::store::{StoreError, Usage, Writer};

/// What is stored for an owner.
pub(crate) fn usage(writer: &Writer<'_>, owner: Option<&str>) -> Result<Usage, StoreError> {
    owner.map_or(Ok(Usage::default()), |owner| writer.usage(owner))
}

/// Checks that an owner has no more than it may. One that has, since its quota is smaller now, may
/// still make it less.
///
/// # Errors
/// When the change that was made since `before` has made it too much.
pub(crate) fn check(
    writer: &Writer<'_>,
    limits: &Limits,
    owner: Option<&str>,
    before: Usage,
) -> Result<(), Refusal> {
    let after = usage(writer, owner)?;
    let exceeds = |after: u64, before: u64, most: u64| after > most && after > before;
    if exceeds(after.resources, before.resources, limits.max_resources_per_registree) {
        let why = "the registree has as many resources as it may have here: delete some first";
        return Err(Refusal::NotAcceptable(why));
    }
    if exceeds(after.bytes, before.bytes, limits.max_bytes_per_registree) {
        let why = "the registree has as many bytes as it may have here: delete something first";
        return Err(Refusal::NotAcceptable(why));
    }
    Ok(())
}
