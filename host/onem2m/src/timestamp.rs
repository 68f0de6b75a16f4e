//! Absolute times in the format m2m:timestamp (TS-0004 clause 6.3.3): the basic format of ISO 8601
//! in UTC, with an optional fraction after a comma.

use std::time::{Duration, SystemTime};

use jiff::SignedDuration;
use jiff::civil::DateTime;

use crate::parameter::{Parameter, Parameters};
use crate::rsc::Rsc;

/// The error for a text that is not an m2m:timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not a time of the form 20261124T093000 or 20261124T093000,123456")]
pub struct TimestampError;

/// Start of all computations, which use civil time. The last second that the format can express
/// means "no end" in practice, and is past the range of `jiff`'s instants.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Formats a time in seconds. A time past the range of the format becomes the last time in it.
#[must_use]
pub fn format(time: SystemTime) -> String {
    civil(time).unwrap_or(DateTime::MAX).strftime("%Y%m%dT%H%M%S").to_string()
}

/// Returns a time as calendar and clock in UTC. A time before 1970 counts as 1970. Returns `None`
/// for a time past the year 9999.
pub(crate) fn civil(time: SystemTime) -> Option<DateTime> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    EPOCH.checked_add(SignedDuration::try_from(since).ok()?).ok()
}

/// Parses a time.
///
/// # Errors
/// Returns an error if `text` does not have the format, or is before 1970.
pub fn parse(text: &str) -> Result<SystemTime, TimestampError> {
    // Checked by character, because `strptime` also accepts signs and spaces.
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = match text.split_once(',') {
        Some((whole, fraction)) if digits(fraction) && fraction.len() <= 9 => (whole, fraction),
        Some(_) => return Err(TimestampError),
        None => (text, "0"),
    };
    match whole.split_once('T') {
        Some((day, time)) if day.len() == 8 && time.len() == 6 && digits(day) && digits(time) => {}
        _ => return Err(TimestampError),
    }
    let nanos = format!("{fraction:0<9}").parse::<u64>().map_err(|_| TimestampError)?;
    let at = DateTime::strptime("%Y%m%dT%H%M%S", whole).map_err(|_| TimestampError)?;
    let since = Duration::try_from(at.duration_since(EPOCH)).map_err(|_| TimestampError)?;
    let since = since + Duration::from_nanos(nanos);
    SystemTime::UNIX_EPOCH.checked_add(since).ok_or(TimestampError)
}

/// Parses an absolute time, or a relative one in milliseconds from `now` on (m2m:absRelTimestamp:
/// the union of m2m:timestamp and xs:long). A negative number is a time in the past.
///
/// # Errors
/// Returns an error if `text` is neither.
pub fn parse_relative(text: &str, now: SystemTime) -> Result<SystemTime, TimestampError> {
    match text.parse::<i64>() {
        Ok(left) => {
            let span = Duration::from_millis(left.unsigned_abs());
            let at = if left < 0 { now.checked_sub(span) } else { now.checked_add(span) };
            at.ok_or(TimestampError)
        }
        Err(_) => parse(text),
    }
}

/// Replaces relative times among the parameters of a request by absolute ones, as of the arrival of
/// the request. A malformed time, one in the past, and an immediate execution remain as they are.
pub fn make_absolute(parameters: &mut Parameters, now: SystemTime) {
    for name in TIMES {
        let Some(value) = parameters.get(name) else { continue };
        if !value.parse::<i64>().is_ok_and(|left| left > 0) {
            continue;
        }
        if let Ok(at) = parse_relative(value, now) {
            let millis = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            parameters.set(name, format!("{},{:03}", format(at), millis.subsec_millis()));
        }
    }
}

/// Request parameters that are absolute or relative times.
const TIMES: [Parameter; 3] =
    [Parameter::RequestExpiration, Parameter::ResultExpiration, Parameter::ExecutionTime];

/// The reason why a request cannot be executed at this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeFault {
    /// The parameter is not a time.
    #[error(
        "the parameter {0} is neither a time such as 20261124T093000 nor a number of milliseconds"
    )]
    Malformed(Parameter),
    /// The time is in the past.
    #[error("the request has expired: {0} is not in the future")]
    Past(Parameter),
}

impl TimeFault {
    /// Returns the Response Status Code of the refusal.
    #[must_use]
    pub fn rsc(self) -> Rsc {
        match self {
            Self::Malformed(_) => Rsc::BadRequest,
            Self::Past(_) => Rsc::RequestTimeout,
        }
    }
}

/// Checks the times among the parameters of a request (TS-0004 clauses 7.3.2.1 and 7.3.2.6). An
/// execution time of 0 milliseconds means immediate execution.
///
/// # Errors
/// Returns the first parameter that is malformed or in the past.
pub fn check_times(parameters: &Parameters, now: SystemTime) -> Result<(), TimeFault> {
    for (name, value) in parameters.iter().filter(|(name, _)| TIMES.contains(name)) {
        if name == Parameter::ExecutionTime && is_immediate(value) {
            continue;
        }
        match parse_relative(value, now) {
            Ok(at) if at > now => {}
            Ok(_) => return Err(TimeFault::Past(name)),
            Err(_) => return Err(TimeFault::Malformed(name)),
        }
    }
    Ok(())
}

/// Returns whether an execution time means immediate execution.
#[must_use]
pub fn is_immediate(execution_time: &str) -> bool {
    execution_time.parse::<i64>() == Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_relative_and_in_the_future() {
        use TimeFault::{Malformed, Past};
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_512_600);
        let check = |name, value: &str| check_times(&[(name, value)].into_iter().collect(), now);
        for name in TIMES {
            for good in
                ["1", "+1", "1000", "9223372036854775807", "20261124T093001", "99991231T235959"]
            {
                assert_eq!(check(name, good), Ok(()), "{name} {good}");
            }
            for past in [
                "-1",
                "-1000",
                "-9223372036854775808",
                "20261124T093000",
                "20261124T092959",
                "00010101T000000",
            ] {
                let fault = if past.starts_with("0001") { Malformed(name) } else { Past(name) };
                assert_eq!(check(name, past), Err(fault), "{name} {past}");
            }
            for bad in
                ["", "x", "1.5", "--1", "1 ", "9223372036854775808", "-9223372036854775809", "P1D"]
            {
                assert_eq!(check(name, bad), Err(Malformed(name)), "{name} {bad}");
            }
        }
        assert_eq!(
            check(Parameter::RequestExpiration, "0"),
            Err(Past(Parameter::RequestExpiration))
        );
        assert_eq!(check(Parameter::ExecutionTime, "0"), Ok(()));
        assert_eq!(
            check(Parameter::OriginatingTimestamp, "yesterday"),
            Ok(()),
            "no business of this check"
        );
        assert_eq!(
            (Malformed(TIMES[0]).rsc(), Past(TIMES[0]).rsc()),
            (Rsc::BadRequest, Rsc::RequestTimeout)
        );
    }

    #[test]
    fn relative_times_become_absolute() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_512_600);
        for (name, value, absolute) in [
            (Parameter::RequestExpiration, "1500", "20261124T093001,500"),
            (Parameter::ResultExpiration, "-1000", "-1000"),
            (Parameter::ExecutionTime, "60000", "20261124T093100,000"),
            (Parameter::ExecutionTime, "0", "0"),
            (Parameter::RequestExpiration, "20261124T093001", "20261124T093001"),
            (Parameter::RequestExpiration, "soon", "soon"),
            (Parameter::OriginatingTimestamp, "5", "5"),
        ] {
            let mut parameters: Parameters = [(name, value)].into_iter().collect();
            make_absolute(&mut parameters, now);
            assert_eq!(parameters.get(name), Some(absolute), "{name} {value}");
        }
    }

    #[test]
    fn reads_and_writes() {
        let t = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_512_600);
        assert_eq!(format(t), "20261124T093000");
        assert_eq!(parse("20261124T093000"), Ok(t));
        assert_eq!(parse("20261124T093000,5"), Ok(t + Duration::from_millis(500)));
        let last = "99991231T235959";
        assert_eq!(parse(last).map(format), Ok(last.into()));
        for bad in [
            "19691231T235959",
            "+20261124T09300",
            "2026 1 4T 9 3 0",
            "20261124T093000,",
            "20261124T0930000",
            "",
            "2026",
            "20261324T093000",
            "20261124T093000,x",
            "20261124T093000Z",
            "2026-11-24T09:30",
        ] {
            assert_eq!(parse(bad), Err(TimestampError), "{bad:?}");
        }
    }
}
