//! Reports of the missing data of a `<timeSeries>` (TS-0001 clause 10.2.4.29, TS-0004 clause
//! 7.5.1.2.9).

use serde_json::{Value, json};

use crate::notification::criteria::{Criteria, Event};
use crate::notification::events::{may_see, report};
use crate::notification::sending::Sending;
use crate::notification::subscription;
use crate::record::{MissingWindow, Record, timestamp_of_milliseconds};
use crate::resource::time_series::{self, MissingData};
use crate::store::{StoreError, Writer};

/// Detects the missing data of a `<timeSeries>`, and reports them. The `<timeSeries>` itself is not
/// stored. Returns the number of reports: at most one for each subscription.
pub(crate) fn detect(
    writer: &mut Writer<'_>,
    sending: &Sending<'_>,
    series: &mut Record,
) -> Result<usize, StoreError> {
    let max_bytes = sending.settings.limits.max_bytes_per_registree;
    let found = time_series::detect(writer, series, sending.now, max_bytes)?;
    let mut reports = 0;
    if found.is_empty() {
        return Ok(reports);
    }
    for mut subscription in subscription::to(writer.read(), &series.ri, sending.now)? {
        let Ok(criteria) = Criteria::read(&subscription.attributes) else { continue };
        let Some((least, window)) = criteria.missing else { continue };
        if !criteria.wants(Event::MissingData, series.ty, &Default::default())
            || !may_see(writer.read(), sending, &subscription, series)?
        {
            continue;
        }
        let event = count(&mut subscription, &found, (least, window));
        let ended = match event {
            Some(event) => {
                reports += 1;
                report(writer, sending, &mut subscription, event)?
            }
            None => false,
        };
        if !ended {
            writer.put(&subscription)?;
        }
    }
    Ok(reports)
}

/// Counts missing data for a subscription. Returns the event that reports them, if there are enough
/// in the window.
fn count(
    subscription: &mut Record,
    found: &[MissingData],
    (least, window): (u64, u64),
) -> Option<Value> {
    let current = subscription.missing.get_or_insert_default();
    let mut reported = Vec::new();
    for missing in found {
        if missing.detected >= current.until {
            let until = missing.detected.saturating_add(window.saturating_mul(1000));
            *current = MissingWindow { until, ..MissingWindow::default() };
        }
        current.count = current.count.saturating_add(1);
        current.unreported.push(missing.expected);
        if current.count >= least {
            reported.append(&mut current.unreported);
        }
    }
    if reported.is_empty() {
        return None;
    }
    // One report can be about several windows.
    let number = current.count.max(u64::try_from(reported.len()).unwrap_or(u64::MAX));
    let list: Vec<_> = reported.into_iter().map(timestamp_of_milliseconds).collect();
    let content = json!({ "m2m:tsn": { "mdlt": list, "mdc": number } });
    Some(json!({ "rep": content, "net": Event::MissingData.number() }))
}
