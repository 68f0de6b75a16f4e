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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn holds(entry: &str, at: &str) -> bool {
        ScheduleEntry::parse(entry).unwrap().holds_at(timestamp::parse(at).unwrap())
    }

    #[test]
    fn schedule_examples_of_clause_hold() {
        let first = "* 0-5 2,6,10 * * * *";
        for (at, expected) in [
            ("20261124T020000", true),
            ("20261124T060559", true),
            ("20261124T100300", true),
            ("20261124T020600", false),
            ("20261124T030000", false),
            ("20261124T015959", false),
        ] {
            assert_eq!(holds(first, at), expected, "{at}");
        }
        let second = "* * 8-20 * * * *";
        assert!(holds(second, "20261124T080000") && holds(second, "20261124T205959"));
        assert!(!holds(second, "20261124T075959") && !holds(second, "20261124T210000"));
        for hour in 0..24 {
            let at = format!("20261124T{hour:02}3000");
            assert_eq!(holds("* * 0-23/2 * * * *", &at), hour % 2 == 0, "{at}");
        }
        // 2026-11-22 was a Sunday.
        for (day, expected) in
            [(22, true), (23, false), (24, true), (25, false), (26, true), (27, false), (28, true)]
        {
            let at = format!("202611{day}T093000");
            assert_eq!(holds("* * * * * */2 *", &at), expected, "{at}");
        }
    }

    #[test]
    fn next_match_is_found() {
        let next = |entry: &str, at: &str| {
            let found = ScheduleEntry::parse(entry).unwrap();
            let found = found.next_match(timestamp::parse(at).unwrap());
            found.map(timestamp::format)
        };
        for (entry, at, expected) in [
            ("* * * * * * *", "20261124T093015", Some("20261124T093015")),
            ("* * * * * * *", "20261124T093015,5", Some("20261124T093016")),
            ("0 * * * * * *", "20261124T093015", Some("20261124T093100")),
            ("* * 8-20 * * * *", "20261124T093015", Some("20261124T093015")),
            ("* * 8-20 * * * *", "20261124T213015", Some("20261125T080000")),
            ("* * 22-6 * * * *", "20261124T093015", Some("20261124T220000")),
            ("5 59 23 31 12 * *", "20261124T093015", Some("20261231T235905")),
            ("0 0 0 29 2 * *", "20261124T093015", Some("20280229T000000")),
            ("* * * * * * 2025", "20261124T093015", None),
            ("* * * 31 2 * *", "20261124T093015", None),
            ("* * * * * * 2999", "20261124T093015", None),
        ] {
            assert_eq!(next(entry, at).as_deref(), expected, "{entry} {at}");
        }
    }

    proptest! {
        #[test]
        fn next_match_is_first(minute in 0..60u16, hour in 0..24u16, from in 0..200_000u64) {
            let entry = ScheduleEntry::parse(&format!("*/20 {minute} {hour} * * * *")).unwrap();
            let from = UNIX_EPOCH + Duration::from_secs(1_795_512_600 + from);
            let found = entry.next_match(from).unwrap();
            prop_assert!(found >= from && entry.holds_at(found));
            // Every second before is checked within the last minutes, which is enough to see a
            // match that was skipped.
            let mut before = found;
            for _ in 0..600 {
                before -= Duration::from_secs(1);
                prop_assert!(before < from || !entry.holds_at(before));
            }
        }
    }

    #[test]
    fn schedule_fields_are_in_order() {
        // A Tuesday.
        let at = "20261124T093015";
        let right = ["15", "30", "9", "24", "11", "2", "2026"];
        assert!(holds(&right.join(" "), at));
        for place in 0..right.len() {
            let mut entry = ["*"; 7];
            entry[place] = right[place];
            assert!(holds(&entry.join(" "), at), "{entry:?}");
            let other = (right[place].parse::<u16>().unwrap() + 1).to_string();
            entry[place] = &other;
            assert!(!holds(&entry.join(" "), at), "{entry:?}");
            let mut entry = right;
            entry[place] = &other;
            assert!(!holds(&entry.join(" "), at), "{entry:?}");
        }
        assert!(holds("* * * * * * *", at));
        assert!(holds("15  30 9 24 11 2 2026 ", at));
        assert!(holds("15 30 09 24 11 02 2026", at));
        assert!(!holds("* * * * * * *", "19991231T235959"));
        assert!(holds("* * * * * * *", "20000101T000000"));
        assert!(holds("59 59 23 31 12 * 9999", "99991231T235959"));
        let past_all = UNIX_EPOCH + Duration::from_secs(300_000_000_000);
        assert!(!ScheduleEntry::parse("* * * * * * *").unwrap().holds_at(past_all));
    }

    #[test]
    fn day_must_match_month_and_week() {
        // A Friday the 13th, a Friday, and a 13th.
        let entry = "* * * 13 * 5 *";
        assert!(holds(entry, "20261113T120000"));
        assert!(!holds(entry, "20261120T120000"));
        assert!(!holds(entry, "20261213T120000"));
    }

    #[test]
    fn leap_day_is_matched() {
        let entry = "* * * 29 2 * *";
        for (at, expected) in [
            ("20280229T000000", true),
            ("20280229T235959", true),
            ("20280228T235959", false),
            ("20280301T000000", false),
            ("20270301T000000", false),
            ("20000229T120000", true),
            ("21000301T000000", false),
        ] {
            assert_eq!(holds(entry, at), expected, "{at}");
        }
        // A day that the month does not have never matches.
        for day in ["20260301T000000", "20260228T235959", "20280229T000000"] {
            assert!(!holds("* * * 30 2 * *", day), "{day}");
        }
    }

    #[test]
    fn range_may_wrap_around() {
        for (entry, at, expected) in [
            ("* * 22-6 * * * *", "20261124T220000", true),
            ("* * 22-6 * * * *", "20261124T235959", true),
            ("* * 22-6 * * * *", "20261125T000000", true),
            ("* * 22-6 * * * *", "20261125T065959", true),
            ("* * 22-6 * * * *", "20261125T070000", false),
            ("* * 22-6 * * * *", "20261124T215959", false),
            ("* * 22-6/3 * * * *", "20261124T220000", true),
            ("* * 22-6/3 * * * *", "20261124T230000", false),
            ("* * 22-6/3 * * * *", "20261125T010000", true),
            ("* * 22-6/3 * * * *", "20261125T040000", true),
            ("* * 22-6/3 * * * *", "20261125T070000", false),
            ("50-10 * * * * * *", "20261124T093055", true),
            ("50-10 * * * * * *", "20261124T093011", false),
            ("* * * 25-5 * * *", "20261231T000000", true),
            ("* * * 25-5 * * *", "20261201T000000", true),
            ("* * * 25-5 * * *", "20261206T000000", false),
            ("* * * * 11-2 * *", "20270215T000000", true),
            ("* * * * 11-2 * *", "20270315T000000", false),
            // From Friday to Monday.
            ("* * * * * 5-1 *", "20261122T000000", true),
            ("* * * * * 5-1 *", "20261124T000000", false),
        ] {
            assert_eq!(holds(entry, at), expected, "{entry} {at}");
        }
        assert_eq!(ScheduleEntry::parse("* * * * * * 2030-2026"), Err(ScheduleError::Years));
    }

    #[test]
    fn lists_have_numbers_and_ranges_with_steps() {
        let entry = "* 5,10-20/5,50-2/10 * * * * *";
        let fits = [5, 10, 15, 20, 50, 0];
        for minute in 0..60 {
            let at = format!("20261124T09{minute:02}00");
            assert_eq!(holds(entry, &at), fits.contains(&minute), "{at}");
        }
        // A step longer than the range leaves only its first value.
        assert!(holds("* 30-40/100 * * * * *", "20261124T093000"));
        assert!(!holds("* 30-40/100 * * * * *", "20261124T093100"));
        assert!(holds("* * * */10 * * *", "20261121T000000"));
        assert!(holds("* * * * * * */4", "20281121T000000"));
        assert!(holds("* * * * * * 2025,2026-2030", "20281121T000000"));
    }

    #[test]
    fn invalid_schedule_entry_is_refused() {
        use ScheduleError as E;
        for (text, fields) in [
            ("", 0),
            ("* * * * * *", 6),
            ("* * * * * * * *", 8),
            ("*******", 1),
            ("*\t* * * * * *", 6),
        ] {
            assert_eq!(ScheduleEntry::parse(text), Err(E::Fields(fields)), "{text:?}");
        }
        for (place, (name, first, last)) in FIELDS.into_iter().enumerate() {
            let parse = |field: &str| {
                let mut entry = ["*"; 7];
                entry[place] = field;
                ScheduleEntry::parse(&entry.join(" "))
            };
            for bad in [
                "x", "?", "L", "MON", "+1", "-1", "1-", "1--2", "1-2-3", "1,", ",1", "1,,2", "**",
                "*,1", "1,*", "*-1", "*/", "*/0", "*/x", "/5", "1/5", "1-2/", "1-2/0", "1-2/+1",
                "1-2/2/2", "12345", "1.5", "\u{661}", "1\t2",
            ] {
                let error = parse(bad).unwrap_err();
                let is_refused =
                    matches!(error, E::Field(of) | E::Range { name: of, .. } if of == name);
                assert!(is_refused, "{name} {bad} {error}");
            }
            let range = E::Range { name, first, last };
            let over = (last + 1).to_string();
            assert_eq!(parse(&over), Err(range.clone()), "{name}");
            assert_eq!(parse(&format!("{first}-{over}")), Err(range.clone()), "{name}");
            if let Some(under) = first.checked_sub(1) {
                assert_eq!(parse(&under.to_string()), Err(range), "{name}");
            }
            for good in [first.to_string(), last.to_string(), format!("{first}-{last}/2")] {
                assert!(parse(&good).is_ok(), "{name} {good}");
            }
        }
        let long = format!("{}* * * * * * *", " ".repeat(MAX_ENTRY));
        assert_eq!(ScheduleEntry::parse(&long), Err(E::TooLong));
    }

    proptest! {
        #[test]
        fn arbitrary_schedule_does_not_panic(text in "[-0-9*,/ x]{0,40}", at in any::<u32>()) {
            if let Ok(entry) = ScheduleEntry::parse(&text) {
                let _ = entry.holds_at(UNIX_EPOCH + Duration::from_secs(u64::from(at)));
            }
        }

        #[test]
        fn range_contains_values_between_ends(
            first in 0u16..60,
            last in 0u16..60,
            step in 1u16..70,
            second in 0u16..60,
        ) {
            let mut expected = false;
            let mut at = first;
            for n in 0.. {
                expected |= at == second && n % step == 0;
                if at == last {
                    break;
                }
                at = if at == 59 { 0 } else { at + 1 };
            }
            let entry = format!("{first}-{last}/{step} * * * * * *");
            let at = format!("20261124T0930{second:02}");
            prop_assert_eq!(holds(&entry, &at), expected, "{} {}", entry, at);
        }
    }
}
