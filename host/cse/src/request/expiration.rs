//! The time until which the originator of a request waits.

use std::time::SystemTime;

use saegis_onem2m::parameter::Parameter;
use saegis_onem2m::primitive::RequestPrimitive;
use saegis_onem2m::timestamp::parse_relative;

/// Returns the time until which the originator of a request waits, if given. Relative times were
/// made absolute on the arrival of the request.
pub(crate) fn until(request: &RequestPrimitive) -> Option<SystemTime> {
    let times = [Parameter::RequestExpiration, Parameter::ResultExpiration];
    let times = times.into_iter().filter_map(|name| request.parameters.get(name));
    times.filter_map(|text| parse_relative(text, SystemTime::now()).ok()).min()
}
