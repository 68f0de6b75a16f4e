//! The statistics of a subscription (`nse` and `nsi` of release 4): for each target, the numbers of
//! events, of notifications that were sent, and of responses.

use serde_json::Value;

use crate::budget::RequestBudget;
use crate::notification::subscription::targets;
use crate::record::{Record, TargetStatistics};
use crate::state::State;
use crate::store::{StoreError, Writer};

/// Whether the statistics are enabled (`notificationStatsEnable`).
const ENABLED: &str = "nse";

/// Maximum number of targets whose responses are stored in one transaction.
const MAX_TARGETS: usize = 64;

/// Returns whether the statistics of a subscription are enabled.
pub(crate) fn is_enabled(subscription: &Record) -> bool {
    subscription.attributes.get(ENABLED) == Some(&Value::Bool(true))
}

/// Returns the statistics of a target.
fn of<'s>(subscription: &'s mut Record, target: &str) -> Option<&'s mut TargetStatistics> {
    if !targets(&subscription.attributes).any(|there| there == target) {
        return None;
    }
    let all = subscription.statistics.get_or_insert_default();
    let at = all.iter().position(|of| of.target == target).unwrap_or_else(|| {
        all.push(TargetStatistics { target: target.into(), ..TargetStatistics::default() });
        all.len() - 1
    });
    all.get_mut(at)
}

/// Counts an event for all targets, if the statistics are enabled. The subscription itself is not
/// stored.
pub(crate) fn count_event(subscription: &mut Record) {
    if !is_enabled(subscription) {
        return;
    }
    let all: Vec<_> = targets(&subscription.attributes).map(String::from).collect();
    for target in all {
        if let Some(of) = of(subscription, &target) {
            of.events = of.events.saturating_add(1);
        }
    }
}

/// Counts a notification to the reached targets. The subscription itself is not stored.
pub(crate) fn count_requests(subscription: &mut Record, reached: &[String]) {
    if !is_enabled(subscription) {
        return;
    }
    for target in reached {
        if let Some(of) = of(subscription, target) {
            of.requests = of.requests.saturating_add(1);
        }
    }
}

/// Adapts the statistics of an updated subscription, whose attributes in `changed` are new. They
/// start again when they are enabled, and remain readable when they are disabled.
pub(crate) fn adapt(subscription: &mut Record, changed: &[String]) {
    let is_changed = changed.iter().any(|name| name == ENABLED);
    if is_changed && subscription.attributes.get(ENABLED) != Some(&Value::Bool(false)) {
        subscription.statistics = None;
    }
    let attributes = &subscription.attributes;
    if let Some(all) = &mut subscription.statistics {
        all.retain(|of| targets(attributes).any(|target| target == of.target));
    }
}

/// Stores the responses that were counted in memory. Returns whether there may be more.
pub(crate) fn settle(state: &State) -> Result<bool, StoreError> {
    let counts = state.receipts.take(MAX_TARGETS);
    if counts.is_empty() {
        return Ok(false);
    }
    let budget = RequestBudget::unlimited();
    budget.lower_priority();
    let stored = state.store.write(&budget, |writer: &mut Writer<'_>| {
        for ((ri, target), number) in &counts {
            let subscription = match writer.read().get(ri) {
                // An unreadable subscription has no statistics.
                Err(StoreError::Corrupt(_)) => None,
                found => found?,
            };
            // The subscription may be gone, or disabled.
            let Some(mut subscription) = subscription else { continue };
            if subscription.parent.is_none() || !is_enabled(&subscription) {
                continue;
            }
            if let Some(of) = of(&mut subscription, target) {
                of.responses = of.responses.saturating_add(*number);
                writer.put(&subscription)?;
            }
        }
        Ok::<_, StoreError>(())
    });
    let is_full = counts.len() == MAX_TARGETS;
    if let Err(error) = stored {
        state.receipts.put_back(counts);
        return Err(error);
    }
    Ok(is_full)
}
