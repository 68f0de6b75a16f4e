//! Rates between two samples of the counters.

use std::collections::BTreeMap;

use saegis_gateway::admin::protocol::TotalsReport;
use serde::Serialize;

/// Numbers per second, by name.
type PerSecond = BTreeMap<String, f64>;

/// Rates of the counters of a gateway.
#[derive(Debug, Default, Serialize, PartialEq)]
pub struct Rates {
    /// Connections by outcome: `established`, or the cause of the refusal.
    pub handshakes: PerSecond,
    /// Requests by operation.
    pub requests: PerSecond,
    /// Requests that were not successful, by Response Status Code.
    pub errors: PerSecond,
    /// Calls of modules.
    pub decisions: PerSecond,
    /// Calls of modules that denied, refused or failed.
    pub refusals: PerSecond,
    /// Reloads by outcome.
    pub reloads: PerSecond,
}

impl Rates {
    /// Returns the rates between two samples. A counter that has become smaller starts at zero.
    pub fn between(earlier: &TotalsReport, later: &TotalsReport, seconds: f64) -> Self {
        let (before, mut rates) = (sums(earlier), sums(later));
        for (of, before) in rates.groups_mut().into_iter().zip(before.groups()) {
            for (name, count) in of.iter_mut() {
                let previous = before.get(name).copied().unwrap_or_default();
                let new = if previous > *count { *count } else { *count - previous };
                *count = if seconds > 0.0 { new / seconds } else { 0.0 };
            }
            of.retain(|_, rate| *rate > 0.0);
        }
        rates
    }

    fn groups(&self) -> [&PerSecond; 6] {
        let Self { handshakes, requests, errors, decisions, refusals, reloads } = self;
        [handshakes, requests, errors, decisions, refusals, reloads]
    }

    fn groups_mut(&mut self) -> [&mut PerSecond; 6] {
        let Self { handshakes, requests, errors, decisions, refusals, reloads } = self;
        [handshakes, requests, errors, decisions, refusals, reloads]
    }
}

/// Returns the counters in the groups of the view.
#[expect(clippy::cast_precision_loss, reason = "a counter of 2^53 needs a thousand years")]
fn sums(totals: &TotalsReport) -> Rates {
    let mut sums = Rates::default();
    let add = |to: &mut PerSecond, name: &str, count: u64| {
        *to.entry(name.into()).or_default() += count as f64;
    };
    for of in &totals.handshakes {
        add(&mut sums.handshakes, &of.outcome, of.count);
    }
    for of in &totals.requests {
        add(&mut sums.requests, &of.operation, of.count);
        match of.rsc {
            Some(..4000) => {}
            Some(rsc) => add(&mut sums.errors, &rsc.to_string(), of.count),
            None => add(&mut sums.errors, "other", of.count),
        }
    }
    for of in &totals.decisions {
        let name = format!("{} {}", of.module, of.hook);
        add(&mut sums.decisions, &name, of.count);
        if matches!(of.outcome.as_str(), "denied" | "refused" | "failed") {
            add(&mut sums.refusals, &name, of.count);
        }
    }
    for of in &totals.reloads {
        add(&mut sums.reloads, &of.outcome, of.count);
    }
    sums
}

#[cfg(test)]
mod tests {
    use saegis_gateway::admin::protocol::{CallCount, OutcomeCount, RequestCount};

    use super::*;

    fn totals(established: u64, retrieved: u64, denied: u64) -> TotalsReport {
        let request = |rsc, count| RequestCount { operation: "retrieve".into(), rsc, count };
        let call = |outcome: &str, count| CallCount {
            module: "originator-check".into(),
            hook: "impersonation-check".into(),
            outcome: outcome.into(),
            count,
        };
        TotalsReport {
            handshakes: vec![OutcomeCount { outcome: "established".into(), count: established }],
            requests: vec![request(Some(2000), retrieved), request(Some(4103), denied)],
            decisions: vec![call("allowed", retrieved), call("denied", denied)],
            reloads: Vec::new(),
        }
    }

    #[test]
    fn rates_are_differences_per_second() {
        let rates = Rates::between(&totals(10, 100, 4), &totals(10, 120, 8), 2.0);
        let of = |name: &str, rate| PerSecond::from([(name.to_owned(), rate)]);
        assert_eq!(
            rates,
            Rates {
                requests: of("retrieve", 12.0),
                errors: of("4103", 2.0),
                decisions: of("originator-check impersonation-check", 12.0),
                refusals: of("originator-check impersonation-check", 2.0),
                ..Rates::default()
            }
        );
    }

    #[test]
    fn reset_counters_count_from_zero() {
        let rates = Rates::between(&totals(10, 100, 4), &totals(3, 0, 0), 1.0);
        assert_eq!(rates.handshakes, PerSecond::from([("established".into(), 3.0)]));
        assert_eq!(Rates::between(&totals(0, 0, 0), &totals(3, 0, 0), 0.0), Rates::default());
    }
}
