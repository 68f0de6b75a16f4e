//! `<locationPolicy>`: the location of a device, which an AE sets (TS-0001 clause 9.6.10, TS-0004
//! clause 7.4.10).
//!
//! The CSE creates a `<container>` for the locations next to it. It has no means to determine a
//! location itself, so an AE adds them as instances: by hand, or from its own receiver.

use serde_json::Value;

use crate::record::Attributes;
use crate::resource::schema::Presence::{M, NP, O};
use crate::resource::schema::{AttributeError, Row, row};
use crate::resource::values::Kind::{Count, Links, Name, ReadOnly, Unsupported};
use crate::settings::MAX_POLICIES;

/// The source of the location (m2m:locationSource).
const SOURCE: &str = "los";
const NETWORK: u64 = 1;
const DEVICE: u64 = 2;
const SHARING: u64 = 3;

/// The kind of information: 1 for a position, 2 for an event of a geo-fence.
const INFORMATION: &str = "lit";
const POSITION: u64 = 1;

/// The resource-ID of the container with the locations (`locationContainerID`).
pub(crate) const CONTAINER: &str = "loi";

/// The requested name of that container (`locationContainerName`).
pub(crate) const CONTAINER_NAME: &str = "lon";

/// The state of the location request (`locationStatus`).
pub(crate) const STATUS: &str = "lost";

/// The resource-ID of the location policy, in the container (`locationID`).
pub(crate) const LOCATION_ID: &str = "li";

/// `<locationPolicy>`.
pub(crate) const LOCATION_POLICY: &[Row] = &[
    row("acpi", Links(MAX_POLICIES), O, O),
    row("daci", Unsupported, O, O),
    row(SOURCE, Count, M, NP),
    row(INFORMATION, Count, O, O),
    row("lou", Unsupported, O, O),
    row("lot", Unsupported, O, NP),
    row("lor", Unsupported, O, NP),
    row(CONTAINER, ReadOnly, NP, NP),
    row(CONTAINER_NAME, Name, O, NP),
    row(STATUS, ReadOnly, NP, NP),
    row("gta", Unsupported, O, O),
    row("gec", Unsupported, O, O),
    row("aid", Unsupported, O, NP),
    row("rlkl", Unsupported, O, O),
    row("luec", Unsupported, O, O),
];

/// Checks that the location comes from the device.
///
/// # Errors
/// Returns an error if it comes from elsewhere.
pub(crate) fn check(all: &Attributes) -> Result<(), AttributeError> {
    match all.get(SOURCE).and_then(Value::as_u64) {
        Some(DEVICE) => {}
        Some(NETWORK | SHARING) => return Err(AttributeError::Unsupported(SOURCE)),
        _ => return Err(AttributeError::value(SOURCE, "must be a number from 1 to 3")),
    }
    match all.get(INFORMATION).map(Value::as_u64) {
        None | Some(Some(POSITION)) => Ok(()),
        Some(Some(2)) => Err(AttributeError::Unsupported(INFORMATION)),
        Some(_) => Err(AttributeError::value(INFORMATION, "must be 1 or 2")),
    }
}
