//! Checks that apply to all requests.

use std::time::Duration;
use std::time::SystemTime;

use saegis_onem2m::primitive::RequestPrimitive;
use saegis_onem2m::timestamp::check_times;

use crate::error::{Refusal, quoted};
use crate::record::Seconds;
use crate::settings::Settings;

pub(crate) fn check_release(
    request: &RequestPrimitive,
    settings: &Settings,
) -> Result<(), Refusal> {
    match &request.release {
        Some(release) if !settings.release_versions.contains(release) => {
            Err(Refusal::Release(quoted(release)))
        }
        _ => Ok(()),
    }
}

/// Checks the times of a request: its expiration, that of its result, and its execution time.
pub(crate) fn check_expiration(request: &RequestPrimitive, now: Seconds) -> Result<(), Refusal> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
    Ok(check_times(&request.parameters, now)?)
}
