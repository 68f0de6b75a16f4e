//! Absolute times as oneM2M writes them (m2m:timestamp of TS-0004 clause 6.3.3): the basic format
//! of ISO 8601 in UTC, with an optional fraction behind a comma.

use std::time::SystemTime;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A text that is no m2m:timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no time of the form 20261124T093000 or 20261124T093000,123456")]
pub struct TimestampError;

/// Writes a time to the second.
#[must_use]
pub fn format(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .unwrap_or(jiff::Timestamp::MIN)
        .strftime("%Y%m%dT%H%M%S")
        .to_string()
}

/// Reads a time.
///
/// # Errors
/// When `text` is not in the format.
pub fn parse(text: &str) -> Result<SystemTime, TimestampError> {
    let (whole, fraction) = text.split_once(',').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.len() != 15 || fraction.len() > 9 || !digits(fraction) {
        return Err(TimestampError);
    }
    let nanos = format!("{fraction:0<9}").parse::<i32>().map_err(|_| TimestampError)?;
    let at = DateTime::strptime("%Y%m%dT%H%M%S", whole).map_err(|_| TimestampError)?;
    let at = at.with().subsec_nanosecond(nanos).build().map_err(|_| TimestampError)?;
    let at = TimeZone::UTC.to_timestamp(at).map_err(|_| TimestampError)?;
    SystemTime::try_from(at).map_err(|_| TimestampError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn reads_and_writes() {
        let t = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_512_600);
        assert_eq!(format(t), "20261124T093000");
        assert_eq!(parse("20261124T093000"), Ok(t));
        assert_eq!(parse("20261124T093000,5"), Ok(t + Duration::from_millis(500)));
        for bad in [
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
