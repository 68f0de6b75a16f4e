//! The notification policies of a subscription: batches and rate limits (TS-0001 clause 10.2.10.7).
//!
//! The events wait in the store, so that they survive a restart. They are sent when a batch is
//! complete or its time has passed, as far as the rate limit allows.

use serde_json::{Map, Value, json};

use crate::error::Refusal;
use crate::notification::schedule::Schedule;
use crate::record::{Attributes, Record, Seconds, Waiting};
use crate::resource::schema::AttributeError;
use crate::store::{Read, StoreError};

/// Maximum number and total size in bytes of the events of one subscription that wait. A complete
/// batch is not larger.
pub(crate) const MAX_WAITING: u64 = 100;
pub(crate) const MAX_WAITING_BYTES: u64 = 256 << 10;

/// Duration of a batch without a requested one.
const DEFAULT_DURATION: &str = "PT60S";

/// Maximum duration: a year.
const MAX_DURATION: Seconds = 366 * 24 * 60 * 60;

/// Attributes with policies. The last one is that of a group (`notifyAggregation`).
const BATCH: &str = "bn";
const RATE: &str = "rl";
pub(crate) const AGGREGATION: &str = "nar";

/// Maximum number of former events that a new subscription reports (`psn`).
const MAX_PRIOR: u64 = 16;

/// Event Categories (m2m:stdEventCats of TS-0004 clause 6.3.4.2.4), and the ones for users.
const IMMEDIATE: u16 = 2;
pub(crate) const LATEST: u16 = 4;
const OWN_CATEGORIES: std::ops::RangeInclusive<u64> = 100..=999;

/// The policies of a subscription.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    batch: Option<Batch>,
    rate: Option<Rate>,
    /// Whether only the latest of several waiting events is sent (`ln`).
    is_latest_only: bool,
    /// Treatment of events outside of the schedule (`pn`); without it they are dropped.
    pending: Option<Pending>,
    /// Event Category (`nec`).
    category: Option<u16>,
    /// Schedule, unless the events are sent independently of it.
    schedule: Option<Schedule>,
}

/// The events that wait for the next time of the schedule (m2m:pendingNotification).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pending {
    /// 1: the latest one.
    Latest,
    /// 2: all.
    All,
}

/// A batch of events (`bn`, `nar`).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Number of events that complete it (`num`).
    number: Option<u64>,
    /// Time after which it is sent (`dur`).
    duration: Seconds,
}

impl Batch {
    fn read(name: &'static str, value: &Value) -> Result<Self, Refusal> {
        let members = members(name, value, ["num", "dur"])?;
        let number = members.get("num").map(|v| positive(name, "num", v)).transpose()?;
        let default = Value::from(DEFAULT_DURATION);
        let duration = duration(name, "dur", members.get("dur").unwrap_or(&default))?;
        Ok(Self { number, duration })
    }

    /// Parses the aggregation of a group. Without one, a notification of each member completes it.
    ///
    /// # Errors
    /// Returns an error if it is invalid.
    pub(crate) fn of_group(attributes: &Attributes) -> Result<Self, Refusal> {
        if let Some(value) = attributes.get(AGGREGATION) {
            return Self::read(AGGREGATION, value);
        }
        let number = attributes.get("cnm").and_then(Value::as_u64).filter(|members| *members > 0);
        Self::read(AGGREGATION, &json!({})).map(|default| Self { number, ..default })
    }

    /// Returns whether this number of events completes it.
    pub(crate) fn is_complete(&self, count: usize) -> bool {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        count >= self.number.unwrap_or(u64::MAX).min(MAX_WAITING)
    }

    /// Returns the time at which a batch is sent whose first event has this time.
    pub(crate) fn end(&self, since: Seconds) -> Seconds {
        since.saturating_add(self.duration)
    }
}

/// A limit of events in a window of time (`rl`). The windows follow each other.
#[derive(Debug, PartialEq, Eq)]
struct Rate {
    /// Maximum number of events (`mnn`).
    number: u64,
    /// Length of the window (`tww`).
    window: Seconds,
}

/// Parses an xs:duration, rounded up to seconds. A month has 30 days, and a year 365.
pub(crate) fn parse_duration(text: &str) -> Option<Seconds> {
    const DAY: u64 = 24 * 60 * 60;
    let (date, time) = match text.strip_prefix('P')?.split_once('T') {
        Some((_, "")) => return None,
        Some((date, time)) => (date, time),
        None => (text.strip_prefix('P')?, ""),
    };
    let mut total: u64 = 0;
    let mut is_empty = true;
    for (part, units) in [
        (date, &[('Y', 365 * DAY), ('M', 30 * DAY), ('D', DAY)]),
        (time, &[('H', 60 * 60), ('M', 60), ('S', 1)]),
    ] {
        let mut rest = part;
        for (unit, seconds) in units {
            let Some((number, after)) = rest.split_once(*unit) else { continue };
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
            let is_fraction = !fraction.is_empty() && *unit == 'S';
            if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
                return None;
            }
            if number.contains('.') && !is_fraction {
                return None;
            }
            let rounded = u64::from(fraction.bytes().any(|b| b != b'0'));
            let number = whole.parse::<u64>().ok()?.saturating_add(rounded);
            total = total.saturating_add(number.saturating_mul(*seconds));
            is_empty = false;
            rest = after;
        }
        if !rest.is_empty() {
            return None;
        }
    }
    (!is_empty).then_some(total)
}

fn wrong(name: &'static str, why: &str) -> Refusal {
    AttributeError::value(name, why).into()
}

/// Returns the members of a policy, of which there may be no others than two.
fn members<'a>(
    name: &'static str,
    value: &'a Value,
    known: [&str; 2],
) -> Result<&'a Map<String, Value>, Refusal> {
    let members = value.as_object().ok_or_else(|| wrong(name, "must be an object"))?;
    match members.keys().find(|member| !known.contains(&member.as_str())) {
        Some(_) => Err(wrong(name, &format!("has only the members {} and {}", known[0], known[1]))),
        None => Ok(members),
    }
}

fn positive(name: &'static str, member: &str, value: &Value) -> Result<u64, Refusal> {
    let number = value.as_u64().filter(|number| *number > 0);
    number.ok_or_else(|| wrong(name, &format!("has a {member} that is not a positive integer")))
}

fn duration(name: &'static str, member: &str, value: &Value) -> Result<Seconds, Refusal> {
    let seconds = value.as_str().and_then(parse_duration);
    let allowed = seconds.filter(|seconds| (1..=MAX_DURATION).contains(seconds));
    allowed.ok_or_else(|| {
        wrong(
            name,
            &format!("has a {member} that is not a duration such as PT10S, of at most a year"),
        )
    })
}

/// Parses the condition of missing data (`md`): the minimum number that is reported, and the window
/// in which they are counted.
///
/// # Errors
/// Returns an error if it is invalid.
pub(crate) fn missing_data(value: &Value) -> Result<(u64, Seconds), Refusal> {
    let members = members("enc", value, ["num", "dur"])?;
    let member = |name| members.get(name).unwrap_or(&Value::Null);
    let number = positive("enc", "num", member("num"))?;
    if number > MAX_WAITING {
        return Err(wrong("enc", &format!("has a num greater than {MAX_WAITING}")));
    }
    Ok((number, duration("enc", "dur", member("dur"))?))
}

/// Adds the default duration to batches without one (TS-0004 clauses 6.3.5.6 and 7.4.8.2.1).
pub(crate) fn complete(attributes: &mut Attributes) {
    for name in [BATCH, AGGREGATION] {
        if let Some(Value::Object(batch)) = attributes.get_mut(name) {
            batch.entry("dur").or_insert_with(|| DEFAULT_DURATION.into());
        }
    }
}

impl Policy {
    /// Parses the policies in the attributes of a subscription.
    ///
    /// # Errors
    /// Returns an error if they are invalid.
    pub(crate) fn read(attributes: &Attributes) -> Result<Self, Refusal> {
        let mut read = Self::default();
        if let Some(value) = attributes.get(BATCH) {
            read.batch = Some(Batch::read(BATCH, value)?);
        }
        if let Some(value) = attributes.get(RATE) {
            let members = members(RATE, value, ["mnn", "tww"])?;
            let member = |name| members.get(name).unwrap_or(&Value::Null);
            let number = positive(RATE, "mnn", member("mnn"))?;
            let window = duration(RATE, "tww", member("tww"))?;
            read.rate = Some(Rate { number, window });
        }
        read.is_latest_only = attributes.get("ln") == Some(&Value::Bool(true));
        let number = |name: &str| attributes.get(name).map(|value| value.as_u64().unwrap_or(0));
        read.pending = match number("pn") {
            None => None,
            Some(1) => Some(Pending::Latest),
            Some(2) => Some(Pending::All),
            Some(_) => return Err(wrong("pn", "must be 1 or 2")),
        };
        read.category = match number("nec") {
            None => None,
            Some(number) if (2..=4).contains(&number) || OWN_CATEGORIES.contains(&number) => {
                u16::try_from(number).ok()
            }
            Some(_) => return Err(wrong("nec", "must be a number from 2 to 4, or 100 to 999")),
        };
        if number("psn").is_some_and(|number| !(1..=MAX_PRIOR).contains(&number)) {
            return Err(wrong("psn", "must be a number from 1 to 16"));
        }
        Ok(read)
    }

    /// Returns the policies of a stored subscription, with its schedule. The policies were checked
    /// when they were stored.
    pub(crate) fn of(
        read: &dyn Read,
        subscription: &Record,
        now: Seconds,
    ) -> Result<Self, StoreError> {
        let mut policy = Self::read(&subscription.attributes).unwrap_or_default();
        if policy.category != Some(IMMEDIATE) {
            policy.schedule = Schedule::of(read, &subscription.ri, now)?;
        }
        Ok(policy)
    }

    /// Returns whether events are sent immediately.
    pub(crate) fn is_immediate(&self) -> bool {
        self.batch.is_none() && self.rate.is_none()
    }

    /// Returns whether the schedule allows no notification at a time.
    pub(crate) fn is_closed(&self, now: Seconds) -> bool {
        self.schedule.as_ref().is_some_and(|schedule| !schedule.is_open(now))
    }

    /// Returns the treatment of events outside of the schedule.
    pub(crate) fn pending(&self) -> Option<Pending> {
        self.pending
    }

    /// Returns whether only the latest of several waiting events is sent.
    pub(crate) fn is_latest_only(&self) -> bool {
        self.is_latest_only
    }

    /// Returns the Event Category of an event, which may have waited for the schedule.
    pub(crate) fn category(&self, has_waited: bool) -> Option<u16> {
        let waits_latest = self.pending == Some(Pending::Latest) && self.is_immediate();
        if self.is_latest_only || has_waited && waits_latest {
            return Some(LATEST);
        }
        self.category
    }

    /// Returns whether events are sent in batches.
    pub(crate) fn batches(&self) -> bool {
        self.batch.is_some()
    }

    /// Returns the time at which waiting events are due: within the schedule, and `now` at the
    /// earliest if there is one.
    pub(crate) fn due(&self, waiting: &Waiting, now: Seconds) -> Option<Seconds> {
        if waiting.count() == 0 {
            return None;
        }
        let complete =
            |batch: &Batch| waiting.count() >= batch.number.unwrap_or(u64::MAX).min(MAX_WAITING);
        let ready = match &self.batch {
            Some(batch) if !complete(batch) => waiting.since.saturating_add(batch.duration),
            _ => waiting.since,
        };
        let allowed = match &self.rate {
            Some(rate) if waiting.sent >= rate.number => waiting.window.saturating_add(rate.window),
            _ => 0,
        };
        let due = ready.max(allowed);
        match &self.schedule {
            Some(schedule) => schedule.next_opening(due.max(now)),
            None => Some(due),
        }
    }

    /// Returns the number of events that may be sent at a time, and counts them.
    pub(crate) fn take(&self, waiting: &mut Waiting, now: Seconds) -> u64 {
        let Some(rate) = &self.rate else { return waiting.count() };
        // The former events are dropped.
        let is_one = self.is_latest_only && waiting.count() > 0;
        if now >= waiting.window.saturating_add(rate.window) {
            waiting.window = now;
            waiting.sent = 0;
        }
        let left = rate.number.saturating_sub(waiting.sent);
        if is_one && left > 0 {
            waiting.sent = waiting.sent.saturating_add(1);
            return waiting.count();
        }
        let number = waiting.count().min(left);
        waiting.sent = waiting.sent.saturating_add(number);
        number
    }
}

/// Returns the content of a batch (m2m:aggregatedNotification of TS-0004 clause 6.3.5.12).
pub(crate) fn aggregated(events: Vec<Value>) -> Value {
    json!({ "m2m:agn": { "m2m:sgn": events } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<Policy, Refusal> {
        Policy::read(value.as_object().unwrap())
    }

    #[test]
    fn durations_are_parsed() {
        for (text, seconds) in [
            ("PT10S", 10),
            ("PT0.5S", 1),
            ("PT1.0S", 1),
            ("PT1M30S", 90),
            ("P1DT1H", 25 * 3600),
            ("P1Y2M3D", (365 + 60 + 3) * 24 * 3600),
            ("PT99999999999999999999S", 0),
        ] {
            let parsed = parse_duration(text);
            assert_eq!(parsed, (seconds > 0).then_some(seconds), "{text}");
        }
        for bad in
            ["", "P", "PT", "10", "PT10", "P10S", "PTS", "PT1.5M", "PT1.S", "-PT1S", "PT1S1M"]
        {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn invalid_policies_are_refused() {
        for bad in [
            json!({"bn": 5}),
            json!({"bn": {"num": 0}}),
            json!({"bn": {"num": "5"}}),
            json!({"bn": {"dur": 10}}),
            json!({"bn": {"dur": "PT0S"}}),
            json!({"bn": {"dur": "P9Y"}}),
            json!({"bn": {"number": 5}}),
            json!({"rl": {}}),
            json!({"rl": {"mnn": 5}}),
            json!({"rl": {"mnn": 0, "tww": "PT1S"}}),
            json!({"rl": {"mnn": 5, "tww": "1"}}),
        ] {
            assert_eq!(read(bad.clone()).unwrap_err().rsc().code(), 4000, "{bad}");
        }
        assert!(read(json!({})).unwrap().is_immediate());
        assert!(read(json!({"bn": {}})).unwrap().batches());
    }

    #[test]
    fn batch_is_due_when_it_is_complete_or_its_time_has_passed() {
        let policy = read(json!({"bn": {"num": 2, "dur": "PT10S"}})).unwrap();
        let mut waiting = Waiting { since: 100, ..Waiting::default() };
        assert_eq!(policy.due(&waiting, 0), None);
        waiting.next = 1;
        assert_eq!(policy.due(&waiting, 0), Some(110));
        waiting.next = 2;
        assert_eq!(policy.due(&waiting, 0), Some(100));
    }

    #[test]
    fn rate_is_limited_in_each_window() {
        let policy = read(json!({"rl": {"mnn": 2, "tww": "PT10S"}})).unwrap();
        let mut waiting = Waiting { since: 100, next: 5, ..Waiting::default() };
        assert_eq!(policy.take(&mut waiting, 100), 2);
        waiting.first = 2;
        assert_eq!((policy.due(&waiting, 0), policy.take(&mut waiting, 105)), (Some(110), 0));
        assert_eq!(policy.take(&mut waiting, 110), 2);
        waiting.first = 4;
        assert_eq!((policy.due(&waiting, 0), policy.take(&mut waiting, 200)), (Some(120), 1));
    }

    #[test]
    fn schedule_delays_events() {
        // Open in the first ten seconds of each minute.
        let schedule = Schedule::parse("0-9 * * * * * *");
        let now = 1_795_512_600;
        let mut policy = read(json!({"pn": 2})).unwrap();
        policy.schedule = Some(schedule);
        assert!(!policy.is_closed(now) && !policy.is_closed(now + 9));
        assert!(policy.is_closed(now + 10) && policy.is_closed(now + 59));
        let waiting = Waiting { since: now + 20, next: 1, ..Waiting::default() };
        assert_eq!(policy.due(&waiting, now + 20), Some(now + 60));
        // After a pause it is closed again.
        assert_eq!(policy.due(&waiting, now + 100), Some(now + 120));
        policy.schedule = Some(Schedule::parse("* * * * * * 2020"));
        assert_eq!(policy.due(&waiting, now), None);
    }

    #[test]
    fn categories_follow_policies() {
        let category = |policy: Value| read(policy).map(|policy| policy.category(true));
        assert_eq!(category(json!({"nec": 100})).unwrap(), Some(100));
        assert_eq!(category(json!({"ln": true, "nec": 100})).unwrap(), Some(LATEST));
        assert_eq!(category(json!({"pn": 1})).unwrap(), Some(LATEST));
        assert_eq!(category(json!({"pn": 2})).unwrap(), None);
        assert_eq!(read(json!({"pn": 1})).unwrap().category(false), None);
        for bad in [
            json!({"nec": 1}),
            json!({"nec": 5}),
            json!({"pn": 3}),
            json!({"psn": 17}),
            json!({"psn": 0}),
            json!({"nec": 1000}),
            json!({"pn": 0}),
        ] {
            assert_eq!(read(bad.clone()).unwrap_err().rsc().code(), 4000, "{bad}");
        }
    }
}
