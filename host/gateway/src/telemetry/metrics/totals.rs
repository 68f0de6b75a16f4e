//! The counters since the start as a report, for programs that calculate rates.

use std::sync::PoisonError;

use saegis_onem2m::primitive::Operation;
use saegis_onem2m::rsc::Rsc;
use saegis_policy::{Hook, ModuleFault, Outcome};

use super::call_time::{Durations, quantile};
use super::{
    ByCall, ByFault, ByHook, ByOutcome, ByRequest, ESTABLISHED, KnownRsc, Metrics, UNKNOWN,
};
use crate::admin::protocol::{CallCount, HookTimes, OutcomeCount, RequestCount, TotalsReport};

/// Outcomes of reloads.
const RELOADS: [&str; 3] = ["in-force", "unchanged", "refused"];

impl Metrics {
    /// Returns the counters that are not zero. `modules` are the modules of the generation in force.
    pub fn totals<'a>(&self, modules: impl Iterator<Item = &'a str>) -> TotalsReport {
        TotalsReport {
            handshakes: self.handshake_counts(),
            requests: self.request_counts(),
            decisions: modules.flat_map(|module| self.call_counts(module)).collect(),
            reloads: RELOADS.iter().filter_map(|outcome| self.reload_count(outcome)).collect(),
        }
    }

    fn handshake_counts(&self) -> Vec<OutcomeCount> {
        let causes = self.refusal_causes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let outcomes = [ESTABLISHED].into_iter().chain(causes);
        let count = |outcome: &'static str| {
            let count = self.handshakes.get(&ByOutcome { outcome })?.get();
            Some(OutcomeCount { outcome: outcome.into(), count })
        };
        outcomes.filter_map(count).collect()
    }

    fn reload_count(&self, outcome: &'static str) -> Option<OutcomeCount> {
        let count = self.reloads.get(&ByOutcome { outcome })?.get();
        Some(OutcomeCount { outcome: outcome.into(), count })
    }

    fn request_counts(&self) -> Vec<RequestCount> {
        let operations = Operation::ALL.map(Operation::name).into_iter().chain([UNKNOWN]);
        let codes = || Rsc::ALL.iter().map(|rsc| Some(rsc.code())).chain([None]);
        let mut counts = Vec::new();
        for operation in operations {
            for rsc in codes() {
                let labels = ByRequest { operation, rsc: KnownRsc(rsc) };
                if let Some(count) = self.requests.get(&labels) {
                    counts.push(RequestCount {
                        operation: operation.into(),
                        rsc,
                        count: count.get(),
                    });
                }
            }
        }
        counts
    }

    /// Returns the durations of the calls of a hook of a module since the start.
    pub fn durations(&self, module: &str, hook: Hook) -> Option<Durations> {
        let labels = ByHook { module: module.into(), hook: hook.name() };
        self.calls.time.get(&labels).map(|time| time.durations())
    }

    /// Returns the durations of the calls of a module since the start, by hook.
    pub fn call_times(&self, module: &str) -> Vec<HookTimes> {
        let of = |hook: Hook| {
            let durations = self.durations(module, hook)?;
            Some(HookTimes {
                hook: hook.name().into(),
                calls: durations.iter().sum(),
                median_us: quantile(&durations, 0.5)?,
                p99_us: quantile(&durations, 0.99)?,
            })
        };
        Hook::ALL.into_iter().filter_map(of).collect()
    }

    /// Returns the causes of the failed calls of a module since the start.
    pub fn failures(&self, module: &str) -> Vec<OutcomeCount> {
        let of = |cause: &'static str| {
            let count = self.calls.faults.get(&ByFault { module: module.into(), cause })?.get();
            Some(OutcomeCount { outcome: cause.into(), count })
        };
        ModuleFault::CAUSES.into_iter().filter_map(of).collect()
    }

    fn call_counts(&self, module: &str) -> Vec<CallCount> {
        let mut counts = Vec::new();
        for hook in Hook::ALL {
            for outcome in Outcome::NAMES {
                let labels = ByCall { module: module.into(), hook: hook.name(), outcome };
                if let Some(count) = self.calls.decisions.get(&labels) {
                    counts.push(CallCount {
                        module: module.into(),
                        hook: hook.name().into(),
                        outcome: outcome.into(),
                        count: count.get(),
                    });
                }
            }
        }
        counts
    }
}
