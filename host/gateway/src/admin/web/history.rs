//! Rates of the last hour, in memory.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::admin::protocol::TotalsReport;

/// Interval between two samples.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Maximum number of samples: one hour.
pub const MAX_SAMPLES: usize = 360;

/// Events per second in an interval, and the number of associations at its end.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// Handshakes that became associations.
    pub handshakes: f64,
    /// Handshakes that were refused.
    pub refused_handshakes: f64,
    /// Requests.
    pub requests: f64,
    /// Requests that were not successful.
    pub errors: f64,
    /// Calls of modules.
    pub decisions: f64,
    /// Calls of modules that denied, refused or failed.
    pub denials: f64,
    /// Associations.
    pub associations: f64,
}

impl Sample {
    /// Returns the counters since the start.
    #[expect(clippy::cast_precision_loss, reason = "a counter of 2^53 needs a thousand years")]
    fn of(totals: &TotalsReport, associations: usize) -> Self {
        let mut sample = Self { associations: associations as f64, ..Self::default() };
        for of in &totals.handshakes {
            let to = match of.outcome.as_str() {
                "established" => &mut sample.handshakes,
                _ => &mut sample.refused_handshakes,
            };
            *to += of.count as f64;
        }
        for of in &totals.requests {
            sample.requests += of.count as f64;
            if of.rsc.is_none_or(|rsc| rsc >= 4000) {
                sample.errors += of.count as f64;
            }
        }
        for of in &totals.decisions {
            sample.decisions += of.count as f64;
            if matches!(of.outcome.as_str(), "denied" | "refused" | "failed") {
                sample.denials += of.count as f64;
            }
        }
        sample
    }

    /// Returns the rates between two samples of counters. The counters of a module that is no longer in
    /// force are absent from the later one.
    fn since(&self, earlier: &Self, seconds: f64) -> Self {
        let rate = |now: f64, before: f64| (now - before).max(0.0) / seconds.max(0.001);
        Self {
            handshakes: rate(self.handshakes, earlier.handshakes),
            refused_handshakes: rate(self.refused_handshakes, earlier.refused_handshakes),
            requests: rate(self.requests, earlier.requests),
            errors: rate(self.errors, earlier.errors),
            decisions: rate(self.decisions, earlier.decisions),
            denials: rate(self.denials, earlier.denials),
            associations: self.associations,
        }
    }
}

/// Rates of the last hour.
#[derive(Default)]
pub struct History(Mutex<Recorded>);

#[derive(Default)]
struct Recorded {
    rates: VecDeque<Sample>,
    /// The last counters, and their time.
    counters: Option<(Instant, Sample)>,
    /// The generation in force, and since when.
    generation: Option<(u64, SystemTime)>,
}

impl History {
    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a sample.
    pub fn add(&self, totals: &TotalsReport, associations: usize) {
        let (now, counters) = (Instant::now(), Sample::of(totals, associations));
        let mut recorded = self.recorded();
        if let Some((then, earlier)) = recorded.counters.replace((now, counters)) {
            let seconds = now.duration_since(then).as_secs_f64();
            if recorded.rates.len() >= MAX_SAMPLES {
                recorded.rates.pop_front();
            }
            recorded.rates.push_back(counters.since(&earlier, seconds));
        }
    }

    /// Returns since when a generation is in force, as far as this has observed it.
    pub fn in_force_since(&self, generation: u64) -> SystemTime {
        let mut recorded = self.recorded();
        match recorded.generation {
            Some((number, since)) if number == generation => since,
            _ => {
                let now = SystemTime::now();
                recorded.generation = Some((generation, now));
                now
            }
        }
    }

    /// Returns the samples, the oldest first.
    pub fn samples(&self) -> Vec<Sample> {
        self.recorded().rates.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::protocol::{OutcomeCount, RequestCount};

    fn totals(established: u64, refused: u64, errors: u64) -> TotalsReport {
        let outcome = |outcome: &str, count| OutcomeCount { outcome: outcome.into(), count };
        TotalsReport {
            handshakes: vec![outcome("established", established), outcome("wrong-key", refused)],
            requests: vec![RequestCount {
                operation: "retrieve".into(),
                rsc: Some(4103),
                count: errors,
            }],
            decisions: Vec::new(),
            reloads: Vec::new(),
        }
    }

    #[test]
    fn rates_are_differences_between_samples() {
        let (earlier, later) =
            (Sample::of(&totals(10, 4, 100), 1), Sample::of(&totals(30, 4, 120), 3));
        let rates = later.since(&earlier, 10.0);
        assert_eq!((rates.handshakes, rates.refused_handshakes), (2.0, 0.0));
        assert_eq!((rates.requests, rates.errors, rates.associations), (2.0, 2.0, 3.0));
        assert_eq!(earlier.since(&later, 10.0).handshakes, 0.0);
    }

    #[test]
    fn history_has_last_hour_only() {
        let history = History::default();
        for count in 0..MAX_SAMPLES + 5 {
            history.add(&totals(count as u64, 0, 0), count);
        }
        let samples = history.samples();
        assert_eq!(samples.len(), MAX_SAMPLES);
        assert_eq!(samples.last().unwrap().associations, (MAX_SAMPLES + 4) as f64);
    }
}
