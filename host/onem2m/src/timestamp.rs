//! Absolute times as oneM2M writes them (m2m:timestamp of TS-0004 clause 6.3.3): the basic format
//! of ISO 8601 in UTC, with an optional fraction behind a comma.

use std::time::{Duration, SystemTime};

use jiff::SignedDuration;
use jiff::civil::DateTime;

/// A text that is no m2m:timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no time of the form 20261124T093000 or 20261124T093000,123456")]
pub struct TimestampError;

/// All is counted in civil time from here: the last second that the format can write, which people
/// write for "without end", is past the range of `jiff`'s instants.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Writes a time to the second. One that the format can't write becomes the last that it can.
#[must_use]
pub fn format(time: SystemTime) -> String {
    civil(time).unwrap_or(DateTime::MAX).strftime("%Y%m%dT%H%M%S").to_string()
}

/// A time as calendar and clock have it in UTC; one before 1970 counts as 1970. None for a time
/// past the year 9999.
pub(crate) fn civil(time: SystemTime) -> Option<DateTime> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    EPOCH.checked_add(SignedDuration::try_from(since).ok()?).ok()
}

/// Reads a time.
///
/// # Errors
/// When `text` is not in the format, or before 1970.
pub fn parse(text: &str) -> Result<SystemTime, TimestampError> {
    // Looked at letter by letter, for the reader of the library takes signs and blanks as well.
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

#[cfg(test)]
mod tests {
    use super::*;
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
