//! `<timeSeries>`: its attributes, and the monitoring of its data (TS-0001 clause 10.2.4.29, TS-0004
//! clauses 7.4.38 and 7.4.39).
//!
//! Data are expected at the generation time of the first instance, and then at regular intervals. A
//! value is missing if none was generated around an expected time when its detection is due.

use serde_json::Value;

use crate::error::Refusal;
use crate::record::{
    Attributes, DETECT_MISSING, Milliseconds, Record, Seconds, Series, parse_milliseconds,
};
use crate::resource::schema::AttributeError;
use crate::store::{StoreError, Writer};

/// Attributes of the monitoring, which cannot change while it is on.
const FIXED: [&str; 4] = ["mdt", "mdn", "peid", "pei"];

/// Maximum number of monitored `<timeSeries>` in the subtree of one AE or CSE, because each one
/// causes work without a request.
const MAX_MONITORED: usize = 64;
const TOO_MANY_MONITORED: &str = "the registree has the maximum number of timeSeries with missing data detection: set mdd to \
     false in others first";

/// Minimum interval of monitored data, so that monitoring costs no more than regular requests.
const MIN_INTERVAL: Milliseconds = 1000;

/// Maximum number of missing data in the list, and default of `mdn`.
const MAX_MISSING: u64 = 1000;
const DEFAULT_MISSING: u64 = 100;

/// Maximum number of expected data that are checked at once. After a longer pause of the CSE, the
/// earlier ones are not checked.
const MAX_CHECKED: u64 = 1000;

/// Maximum number of expected data that are already due at the start of the monitoring, so that an
/// old first instance does not cause a flood of missing data.
const MAX_CHECKED_AT_START: u64 = 3;

/// Maximum size in bytes of a time in the list of missing data, with its separator.
const MAX_TIME_BYTES: u64 = 21;

/// The monitoring that the attributes of a `<timeSeries>` request.
struct Plan {
    interval: Milliseconds,
    delta: Milliseconds,
    /// Time from an expected generation to its detection as missing.
    delay: Milliseconds,
    /// Maximum number of missing data in the list.
    most: u64,
}

fn number(all: &Attributes, name: &str) -> Option<u64> {
    all.get(name).and_then(Value::as_u64)
}

fn detects(all: &Attributes) -> bool {
    all.get(DETECT_MISSING).and_then(Value::as_bool).unwrap_or(false)
}

/// Checks the number of monitored `<timeSeries>` of an owner, after one was added.
///
/// # Errors
/// Returns an error if it exceeds the maximum.
pub(crate) fn check_count(writer: &Writer<'_>, owner: Option<&str>) -> Result<(), Refusal> {
    match owner {
        Some(owner) if writer.exceeds_monitored(owner, MAX_MONITORED)? => {
            Err(Refusal::NotAcceptable(TOO_MANY_MONITORED))
        }
        _ => Ok(()),
    }
}

impl Plan {
    /// Returns the plan, if data are monitored.
    fn of(all: &Attributes) -> Option<Self> {
        let (interval, delay) = (number(all, "pei")?, number(all, "mdt")?);
        detects(all).then(|| Self {
            interval: interval.max(MIN_INTERVAL),
            delta: number(all, "peid").unwrap_or(interval / 2),
            delay,
            most: number(all, "mdn").unwrap_or(DEFAULT_MISSING).min(MAX_MISSING),
        })
    }

    /// Returns the expected generation time after `count` intervals.
    fn expected(&self, first: Milliseconds, count: u64) -> Milliseconds {
        first.saturating_add(count.saturating_mul(self.interval))
    }

    /// Returns the time of a detection, rounded up to seconds.
    fn due(&self, first: Milliseconds, count: u64) -> Seconds {
        self.expected(first, count).saturating_add(self.delay).div_ceil(1000)
    }

    /// Returns the number of intervals whose detection is due.
    fn passed(&self, first: Milliseconds, now: Seconds) -> u64 {
        let since = now.saturating_mul(1000).saturating_sub(self.delay).saturating_sub(first);
        since.checked_div(self.interval).unwrap_or(0)
    }
}

/// Adds the default of `peid`: half of the interval.
pub(crate) fn complete(attributes: &mut Attributes) {
    if let (Some(interval), None) = (number(attributes, "pei"), attributes.get("peid")) {
        attributes.insert("peid".into(), (interval / 2).into());
    }
}

/// Checks that the attributes are compatible (TS-0004 clause 7.4.38.2.1).
///
/// # Errors
/// Returns an error if they are not.
pub(crate) fn check_whole(all: &Attributes) -> Result<(), AttributeError> {
    for name in ["pei", "mdn", "mdt"] {
        if number(all, name) == Some(0) {
            return Err(AttributeError::value(name, "must be a number from 1 upwards"));
        }
    }
    let interval = number(all, "pei");
    let delta = number(all, "peid").or(interval.map(|interval| interval / 2));
    if let (Some(interval), Some(delta)) = (interval, delta)
        && delta > interval / 2
    {
        return Err(AttributeError::value("peid", "must be at most half of pei"));
    }
    if !detects(all) {
        return Ok(());
    }
    if number(all, "mdt").is_none_or(|delay| delay <= delta.unwrap_or(0)) {
        return Err(AttributeError::value("mdt", "must be greater than peid, because mdd is true"));
    }
    if interval.is_some_and(|interval| interval < MIN_INTERVAL) {
        return Err(AttributeError::value("pei", "must be at least 1000, because mdd is true"));
    }
    Ok(())
}

/// Checks that an update does not change the monitoring while it is on, or together with switching
/// it (TS-0004 clause 7.4.38.2.3).
///
/// # Errors
/// Returns an error if it does.
pub(crate) fn check_update(before: &Attributes, changed: &[String]) -> Result<(), AttributeError> {
    let is_changed = |name: &str| changed.iter().any(|changed| changed == name);
    let fixed = FIXED.into_iter().find(|name| is_changed(name));
    match fixed {
        Some(name) if detects(before) || is_changed(DETECT_MISSING) => {
            Err(AttributeError::value(name, "cannot change with mdd, or while mdd is true"))
        }
        _ => Ok(()),
    }
}

/// Restarts or stops the monitoring after an update of `mdd`. The `<timeSeries>` itself is not
/// stored.
pub(crate) fn switch(writer: &mut Writer<'_>, record: &mut Record) -> Result<(), StoreError> {
    let series = record.series.get_or_insert_default();
    writer.set_due(&record.ri, series.due, None)?;
    let missing =
        if detects(&record.attributes) { Vec::new() } else { std::mem::take(&mut series.missing) };
    *series = Series { missing, ..Series::default() };
    Ok(())
}

/// Returns the generation time of an instance.
pub(crate) fn generation_time(attributes: &Attributes) -> Option<Milliseconds> {
    attributes.get("dgt").and_then(Value::as_str).and_then(parse_milliseconds)
}

/// Prepares a `<timeSeries>` for a new instance at the time `now`: the first one starts the
/// monitoring. The `<timeSeries>` itself is not stored.
///
/// # Errors
/// Returns an error if it has an instance with the same generation time.
pub(crate) fn admit(
    writer: &mut Writer<'_>,
    record: &mut Record,
    generated: Milliseconds,
    now: Seconds,
) -> Result<(), Refusal> {
    if writer.has_generated(&record.ri, generated..=generated)? {
        return Err(Refusal::SameGenerationTime);
    }
    let plan = Plan::of(&record.attributes);
    let series = record.series.get_or_insert_default();
    if let (Some(plan), None) = (plan, series.first) {
        let passed = plan.passed(generated, now);
        let next = passed.saturating_add(1).saturating_sub(MAX_CHECKED_AT_START).max(1);
        let due = plan.due(generated, next);
        writer.set_due(&record.ri, series.due, Some(due))?;
        *series = Series {
            first: Some(generated),
            next,
            missing: std::mem::take(&mut series.missing),
            due: Some(due),
        };
    }
    Ok(())
}

/// A detected value that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MissingData {
    /// Expected generation time.
    pub(crate) expected: Milliseconds,
    /// Time of the detection.
    pub(crate) detected: Milliseconds,
}

/// Detects the data that are missing at the time `now`, and adds them to the list, as far as the
/// owner of the `<timeSeries>` stays within `max_bytes`. The `<timeSeries>` itself is not stored.
pub(crate) fn detect(
    writer: &mut Writer<'_>,
    record: &mut Record,
    now: Seconds,
    max_bytes: u64,
) -> Result<Vec<MissingData>, StoreError> {
    let plan = Plan::of(&record.attributes);
    let Some(series) = &mut record.series else { return Ok(Vec::new()) };
    let (Some(plan), Some(first)) = (plan, series.first) else {
        writer.set_due(&record.ri, series.due.take(), None)?;
        return Ok(Vec::new());
    };
    series.next = series.next.max(plan.passed(first, now).saturating_sub(MAX_CHECKED));
    let mut found = Vec::new();
    while plan.due(first, series.next) <= now {
        let expected = plan.expected(first, series.next);
        let period = expected.saturating_sub(plan.delta)..=expected.saturating_add(plan.delta);
        if !writer.has_generated(&record.ri, period)? {
            let detected = expected.saturating_add(plan.delay);
            found.push(MissingData { expected, detected });
        }
        series.next = series.next.saturating_add(1);
    }
    let free = match &record.owner {
        Some(owner) => max_bytes.saturating_sub(writer.usage(owner)?.bytes),
        None => u64::MAX,
    };
    let listed = u64::try_from(series.missing.len()).unwrap_or(u64::MAX);
    let most = plan.most.min(listed.saturating_add(free / MAX_TIME_BYTES));
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    series.missing.extend(found.iter().map(|missing| missing.expected));
    let excess = series.missing.len().saturating_sub(most);
    series.missing.drain(..excess);
    let due = Some(plan.due(first, series.next));
    writer.set_due(&record.ri, series.due, due)?;
    series.due = due;
    Ok(found)
}
