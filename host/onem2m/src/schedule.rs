//! Recurring times (m2m:scheduleEntry of TS-0004 clause 7.4.9.1): seven fields in UTC, all of which
//! a time must match.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::timestamp;

/// Maximum length of an entry, in bytes.
pub const MAX_ENTRY: usize = 256;

/// The fields in their order: name, first and last value.
const FIELDS: [(&str, u16, u16); 7] = [
    ("second", 0, 59),
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of the month", 1, 31),
    ("month", 1, 12),
    ("day of the week", 0, 6),
    ("year", 2000, 9999),
];

/// Maximum number of days that are searched for the next match: five years.
const MAX_DAYS: u64 = 366 * 5;

const DAY: u64 = 24 * 60 * 60;

/// The only field that does not wrap around.
const YEAR: &str = "year";

/// The reason why a text is not an m2m:scheduleEntry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The text is longer than [`MAX_ENTRY`] bytes.
    #[error("is longer than {MAX_ENTRY} bytes")]
    TooLong,
    /// The text does not have seven fields.
    #[error(
        "has {0} fields; it must have 7: second, minute, hour, day of the month, month, day of the \
         week (0 is Sunday) and year"
    )]
    Fields(usize),
    /// A field is malformed.
    #[error(
        "has a {0} that is neither *, nor a list of numbers and ranges such as 1,10-20, with or \
         without a step such as 0-59/5"
    )]
    Field(&'static str),
    /// A number is outside the range of its field.
    #[error("has a {name} that is not from {first} to {last}")]
    Range {
        /// Name of the field.
        name: &'static str,
        /// First value of the field.
        first: u16,
        /// Last value of the field.
        last: u16,
    },
    /// A range of years ends before it begins.
    #[error("has years that end before they begin")]
    Years,
}

/// A recurring time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleEntry([Vec<Element>; 7]);

/// Values of a field from `first` to `last` in steps of `step`, which may wrap around the end of
/// the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Element {
    first: u16,
    last: u16,
    step: u16,
}

impl ScheduleEntry {
    /// Parses an entry, such as `* 0-5 2,6,10 * * * *`. A range may wrap around the end of its
    /// field, such as the hours 22-6; the clause does not mention this case.
    ///
    /// # Errors
    /// Returns the reason why `text` is not an entry.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        if text.len() > MAX_ENTRY {
            return Err(ScheduleError::TooLong);
        }
        let fields: Vec<_> = text.split(' ').filter(|field| !field.is_empty()).collect();
        if fields.len() != FIELDS.len() {
            return Err(ScheduleError::Fields(fields.len()));
        }
        let mut all: [Vec<Element>; 7] = Default::default();
        for ((read, text), field) in all.iter_mut().zip(fields).zip(FIELDS) {
            *read = elements(text, field)?;
        }
        Ok(Self(all))
    }

    /// Returns the first matching second at or after `time`; `None` if there is none in five years.
    #[must_use]
    pub fn next_match(&self, time: SystemTime) -> Option<SystemTime> {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        // A started second does not count.
        let from = since.as_secs() + u64::from(since.subsec_nanos() > 0);
        let at = |seconds: u64| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        let (first, mut second) = (from / DAY, from % DAY);
        let (mut day, end) = (first, first.saturating_add(MAX_DAYS));
        while day < end {
            let start = at(day.checked_mul(DAY)?)?;
            if self.has_day(start)?
                && let Some(found) = self.next_second(second)
            {
                return at(day * DAY + found);
            }
            second = 0;
            day += self.days_to_skip(start)?;
        }
        None
    }

    /// Returns the number of days to the next one that may match. A year or a month that does not
    /// match is skipped, because the search runs while the store is locked.
    fn days_to_skip(&self, time: SystemTime) -> Option<u64> {
        let at = timestamp::civil(time)?;
        let [.., month, _, year] = &self.0;
        let value = |number: i16| u16::try_from(number).unwrap_or_default();
        let days = if !matches(year, value(at.year()), 2000, 9999) {
            at.days_in_year() - at.day_of_year() + 1
        } else if !matches(month, value(i16::from(at.month())), 1, 12) {
            i16::from(at.days_in_month() - at.day()) + 1
        } else {
            1
        };
        u64::try_from(days).ok()
    }

    /// Returns whether the day of a time matches; `None` past the year 9999.
    fn has_day(&self, time: SystemTime) -> Option<bool> {
        let at = timestamp::civil(time)?;
        let [_, _, _, day, month, weekday, year] = &self.0;
        let days = [
            (day, i16::from(at.day()), 1, 31),
            (month, i16::from(at.month()), 1, 12),
            (weekday, i16::from(at.weekday().to_sunday_zero_offset()), 0, 6),
            (year, at.year(), 2000, 9999),
        ];
        Some(days.into_iter().all(|(elements, value, first, last)| {
            let value = u16::try_from(value).unwrap_or_default();
            matches(elements, value, first, last)
        }))
    }

    /// Returns the first matching second of a day from `from` on.
    fn next_second(&self, from: u64) -> Option<u64> {
        let [seconds, minutes, hours, ..] = &self.0;
        let value = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
        let first = |elements: &[Element], from: u64, end: u64| {
            (from..end).find(|n| matches(elements, value(*n), 0, value(end - 1)))
        };
        let (hour, minute, second) = (from / 3600, from / 60 % 60, from % 60);
        for h in hour..24 {
            if !matches(hours, value(h), 0, 23) {
                continue;
            }
            let from_minute = if h == hour { minute } else { 0 };
            for m in from_minute..60 {
                let is_first = h == hour && m == minute;
                if matches(minutes, value(m), 0, 59)
                    && let Some(s) = first(seconds, if is_first { second } else { 0 }, 60)
                {
                    return Some(h * 3600 + m * 60 + s);
                }
            }
        }
        None
    }

    /// Returns whether the second of `time` matches. If both the day of the month and the day of
    /// the week are given, both must match.
    #[must_use]
    pub fn holds_at(&self, time: SystemTime) -> bool {
        let Some(at) = timestamp::civil(time) else { return false };
        let values = [
            at.second(),
            at.minute(),
            at.hour(),
            at.day(),
            at.month(),
            at.weekday().to_sunday_zero_offset(),
        ];
        let values = values.map(i16::from).into_iter().chain([at.year()]);
        self.0.iter().zip(values).zip(FIELDS).all(|((elements, value), (_, first, last))| {
            // The values are never negative.
            let value = u16::try_from(value).unwrap_or_default();
            matches(elements, value, first, last)
        })
    }
}

/// Returns whether a value of a field from `first` to `last` belongs to one of its elements.
fn matches(elements: &[Element], value: u16, first: u16, last: u16) -> bool {
    (first..=last).contains(&value) && elements.iter().any(|e| e.has(value, last - first + 1))
}

impl Element {
    /// Returns whether a value of a field with `values` values belongs to this element.
    fn has(self, value: u16, values: u16) -> bool {
        let behind = |at: u16| (at + values - self.first) % values;
        behind(value) <= behind(self.last) && behind(value).is_multiple_of(self.step)
    }
}

fn elements(text: &str, field: (&'static str, u16, u16)) -> Result<Vec<Element>, ScheduleError> {
    let (name, first, last) = field;
    if let Some(rest) = text.strip_prefix('*') {
        let step = match rest.strip_prefix('/') {
            Some(step) => interval(step, name)?,
            None if rest.is_empty() => 1,
            None => return Err(ScheduleError::Field(name)),
        };
        return Ok(vec![Element { first, last, step }]);
    }
    text.split(',').map(|text| element(text, field)).collect()
}

fn element(
    text: &str,
    (name, first, last): (&'static str, u16, u16),
) -> Result<Element, ScheduleError> {
    let value = |text: &str| match number(text, name)? {
        value if (first..=last).contains(&value) => Ok(value),
        _ => Err(ScheduleError::Range { name, first, last }),
    };
    let Some((from, rest)) = text.split_once('-') else {
        let only = value(text)?;
        return Ok(Element { first: only, last: only, step: 1 });
    };
    let (to, step) = match rest.split_once('/') {
        Some((to, step)) => (to, interval(step, name)?),
        None => (rest, 1),
    };
    let (from, to) = (value(from)?, value(to)?);
    if name == YEAR && from > to {
        return Err(ScheduleError::Years);
    }
    Ok(Element { first: from, last: to, step })
}

fn interval(text: &str, name: &'static str) -> Result<u16, ScheduleError> {
    match number(text, name)? {
        0 => Err(ScheduleError::Field(name)),
        step => Ok(step),
    }
}

fn number(text: &str, name: &'static str) -> Result<u16, ScheduleError> {
    // Checked by character, because `parse` also accepts signs.
    let is_number = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).ok_or(ScheduleError::Field(name))
}

#[cfg(test)]
mod tests;
