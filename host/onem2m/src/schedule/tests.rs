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
    for (text, fields) in
        [("", 0), ("* * * * * *", 6), ("* * * * * * * *", 8), ("*******", 1), ("*\t* * * * * *", 6)]
    {
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
