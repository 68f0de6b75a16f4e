//! The bounds of the store, and the quota of an AE or a CSE, so that one registree cannot fill the
//! disk.
//!
//! All resources in a registree's subtree count for it, independently of their creator.

use crate::error::Refusal;
use crate::settings::StorageLimits;
use crate::store::{Read, StoreError, Usage, Writer};

/// Maximum depth of a resource below the `<CSEBase>`.
pub(crate) const MAX_DEPTH: u16 = 16;

/// Checks the number of resources in the store.
///
/// # Errors
/// Returns an error if it exceeds the maximum.
pub(crate) fn check_count(read: &dyn Read, limits: &StorageLimits) -> Result<(), Refusal> {
    if read.count()? > limits.max_resources {
        return Err(Refusal::NotAcceptable("the CSE has the maximum number of resources"));
    }
    Ok(())
}

/// Returns the usage of an owner.
pub(crate) fn usage(writer: &Writer<'_>, owner: Option<&str>) -> Result<Usage, StoreError> {
    owner.map_or(Ok(Usage::default()), |owner| writer.usage(owner))
}

/// Checks the quota of an owner. An owner above its quota, after the quota was reduced, may still
/// decrease its usage.
///
/// # Errors
/// Returns an error if the change since `before` exceeds the quota.
pub(crate) fn check(
    writer: &Writer<'_>,
    limits: &StorageLimits,
    owner: Option<&str>,
    before: Usage,
) -> Result<(), Refusal> {
    let after = usage(writer, owner)?;
    let exceeds = |after: u64, before: u64, max: u64| after > max && after > before;
    if exceeds(after.resources, before.resources, limits.max_resources_per_registree) {
        let why = "the registree has the maximum number of resources: delete some first";
        return Err(Refusal::NotAcceptable(why));
    }
    if exceeds(after.bytes, before.bytes, limits.max_bytes_per_registree) {
        let why = "the registree has the maximum number of bytes: delete some resources first";
        return Err(Refusal::NotAcceptable(why));
    }
    Ok(())
}
