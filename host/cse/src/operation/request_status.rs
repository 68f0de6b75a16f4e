//! The status of a `<request>`.

use saegis_onem2m::parameter::Parameter;
use saegis_onem2m::resource::ResourceType;
use serde_json::json;

use crate::error::Refusal;
use crate::record::{Record, Seconds, parse_timestamp};

/// Status of the request (`requestStatus`), and its parameters (`metaInformation`).
pub(crate) const STATUS: &str = "rs";
pub(crate) const PARAMETERS: &str = "mi";

/// m2m:requestStatus of a request without a result.
pub(crate) const PENDING: u64 = 3;

/// Returns whether this is a `<request>` without a result.
pub(crate) fn is_pending(record: &Record) -> bool {
    record.ty == ResourceType::Request && record.attributes.get(STATUS) == Some(&json!(PENDING))
}

/// Checks that a `<request>` may be deleted, which recalls its request. One that is being executed
/// cannot be recalled (TS-0004 clause 7.4.12.2.4).
///
/// # Errors
/// Returns an error if its request is being executed.
pub(crate) fn check_deletion(record: &Record, now: Seconds) -> Result<(), Refusal> {
    let name = Parameter::ExecutionTime.short_name();
    let execution = record.attributes.get(PARAMETERS).and_then(|of| of.get(name)?.as_str());
    let waits = execution.and_then(parse_timestamp).is_some_and(|at| at > now);
    match is_pending(record) && !waits {
        true => Err(Refusal::NotRecalled),
        false => Ok(()),
    }
}
