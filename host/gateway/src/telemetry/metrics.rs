//! Metrics, in the OpenMetrics text format.

pub mod call_time;
mod totals;

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use saegis_onem2m::id::CseId;
use saegis_onem2m::primitive::Operation;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::saef::Saef;
use saegis_policy::{
    CompletedCall, CompletedComparison, Expiry, ExpiryKind, Generation, Observer, Outcome, Policy,
};

use crate::telemetry::decision_log::LostDecisions;
use crate::telemetry::logging::LogOutputs;

/// Outcome of a connection that became an association.
const ESTABLISHED: &str = "established";

/// Operation of a request that could not be parsed.
const UNKNOWN: &str = "unknown";

/// Returns a histogram for handshakes and requests to the CSE: 1 ms to 16 s.
fn slow() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySaef {
    saef: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCause {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCall {
    module: String,
    hook: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByHook {
    module: String,
    hook: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByFault {
    module: String,
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRequest {
    operation: &'static str,
    rsc: KnownRsc,
}

/// Response Status Code of the specification, or any other one. Codes that another CSE or a module
/// invents share a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct KnownRsc(Option<u16>);

impl KnownRsc {
    fn of(rsc: Rsc) -> Self {
        match rsc {
            Rsc::Other(_) => Self(None),
            known => Self(Some(known.code())),
        }
    }
}

impl EncodeLabelValue for KnownRsc {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self.0 {
            Some(code) => write!(encoder, "{code}"),
            None => encoder.write_str("other"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCertificate {
    names: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByUrl {
    url: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByExpiry {
    kind: &'static str,
    file: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByMaf {
    maf: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByFile {
    file: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCse {
    cse: String,
}

/// All metrics of a gateway.
pub struct Metrics {
    registry: Registry,
    associations: Family<BySaef, Gauge>,
    handshakes: Family<ByOutcome, Counter>,
    handshake_time: Histogram,
    /// The causes of refusals that were counted.
    refusal_causes: Mutex<BTreeSet<&'static str>>,
    requests: Family<ByRequest, Counter>,
    unexpected_responses: Counter,
    upstream_time: Histogram,
    /// Messages of the MQTT server of the upstream CSE that respond to no request.
    pub upstream_messages_dropped: Counter,
    upstream_up: Family<ByUrl, Gauge>,
    datagrams_dropped: Family<ByCause, Counter>,
    coap_retransmissions: Counter,
    connection_ids_offered: Counter,
    generation: Gauge,
    certificates: Family<ByCertificate, Gauge>,
    expiries: Family<ByExpiry, Gauge>,
    expired_rows: Family<ByFile, Gauge>,
    maf_keys: Family<ByMaf, Gauge>,
    peers: Family<ByCse, Gauge>,
    reloads: Family<ByOutcome, Counter>,
    policy_outdated: Gauge,
    configuration_changed: Gauge,
    disk_threads: Gauge,
    lost_log: Counter,
    lost_trail: Counter,
    calls: Calls,
    outputs: LogOutputs,
    lost_recorded: Counter,
    lost_decisions: Option<LostDecisions>,
}

/// Metrics of module calls.
#[derive(Clone)]
pub struct Calls {
    decisions: Family<ByCall, Counter>,
    time: Family<ByHook, call_time::Histogram>,
    faults: Family<ByFault, Counter>,
    shadows: Family<ByCall, Counter>,
}

impl Metrics {
    /// Creates the metrics.
    pub fn new(outputs: LogOutputs, lost_decisions: Option<LostDecisions>) -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("saegis"),
            associations: Family::default(),
            handshakes: Family::default(),
            handshake_time: slow(),
            refusal_causes: Mutex::default(),
            requests: Family::default(),
            unexpected_responses: Counter::default(),
            upstream_time: slow(),
            upstream_messages_dropped: Counter::default(),
            upstream_up: Family::default(),
            datagrams_dropped: Family::default(),
            coap_retransmissions: Counter::default(),
            connection_ids_offered: Counter::default(),
            generation: Gauge::default(),
            certificates: Family::default(),
            expiries: Family::default(),
            expired_rows: Family::default(),
            maf_keys: Family::default(),
            peers: Family::default(),
            reloads: Family::default(),
            policy_outdated: Gauge::default(),
            configuration_changed: Gauge::default(),
            disk_threads: Gauge::default(),
            lost_log: Counter::default(),
            lost_trail: Counter::default(),
            calls: Calls {
                decisions: Family::default(),
                time: Family::default(),
                faults: Family::default(),
                shadows: Family::default(),
            },
            lost_recorded: Counter::default(),
            outputs,
            lost_decisions,
        };
        metrics.register()
    }

    fn register(mut self) -> Self {
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        self.registry.register("build", "Version of the running gateway", Info::new(version));
        self.register_traffic();
        self.register_datagrams();
        self.register_credentials();
        self.register_policy();
        self.register_calls();
        self.register_losses();
        self
    }

    fn register_traffic(&mut self) {
        let to = &mut self.registry;
        to.register("associations", "Associations", self.associations.clone());
        to.register(
            "handshakes",
            "Connections, by outcome: established, or the cause of the refusal",
            self.handshakes.clone(),
        );
        to.register_with_unit(
            "handshake",
            "Time from the connection to the association",
            Unit::Seconds,
            self.handshake_time.clone(),
        );
        to.register(
            "requests",
            "Requests that got a response; operation is unknown if the request could not be parsed, rsc is other for a code that the specification does not define",
            self.requests.clone(),
        );
        to.register(
            "unexpected_responses",
            "Responses of AEs to requests that were not sent to them, over WebSocket or MQTT",
            self.unexpected_responses.clone(),
        );
        to.register_with_unit(
            "upstream",
            "Response time of the CSE",
            Unit::Seconds,
            self.upstream_time.clone(),
        );
        to.register(
            "upstream_messages_dropped",
            "Messages of the MQTT server of the upstream CSE that respond to no waiting request",
            self.upstream_messages_dropped.clone(),
        );
        to.register(
            "upstream_up",
            "1 while the CSE behind the gateway can be reached, else 0",
            self.upstream_up.clone(),
        );
        to.register(
            "peer_registered",
            "1 while this CSE is registered with that CSE, else 0",
            self.peers.clone(),
        );
    }

    fn register_datagrams(&mut self) {
        let to = &mut self.registry;
        to.register(
            "datagrams_dropped",
            "Datagrams of the CoAP socket that were dropped: unknown-address, queue-full, too-many-hellos, or invalid-hello (a ClientHello that is malformed, fragmented, or has an invalid cookie)",
            self.datagrams_dropped.clone(),
        );
        to.register(
            "coap_retransmissions",
            "CoAP messages that were sent again, because they were not acknowledged in time",
            self.coap_retransmissions.clone(),
        );
        to.register(
            "connection_ids_offered",
            "DTLS handshakes whose client offered a Connection ID (RFC 9146), which is not supported",
            self.connection_ids_offered.clone(),
        );
    }

    fn register_credentials(&mut self) {
        let to = &mut self.registry;
        to.register_with_unit(
            "own_certificate_expiry",
            "Expiry of the certificates of the gateway, in seconds since 1970",
            Unit::Seconds,
            self.certificates.clone(),
        );
        to.register_with_unit(
            "expiry",
            "Expiry of an authority, of a revocation list, or of the first row of a table, in seconds since 1970",
            Unit::Seconds,
            self.expiries.clone(),
        );
        to.register("expired_rows", "Expired rows of policy tables", self.expired_rows.clone());
        to.register_with_unit(
            "maf_key_expiry",
            "Expiry of the first cached key of a MAF, in seconds since 1970; its association ends then",
            Unit::Seconds,
            self.maf_keys.clone(),
        );
    }

    fn register_policy(&mut self) {
        let to = &mut self.registry;
        to.register("generation", "Number of the generation in force", self.generation.clone());
        to.register(
            "reloads",
            "Reloads of policy: in-force, refused or unchanged",
            self.reloads.clone(),
        );
        to.register(
            "policy_outdated",
            "1 while the policy on disk is rejected, or has been loading for more than 2 seconds, else 0",
            self.policy_outdated.clone(),
        );
        to.register(
            "configuration_changed",
            "1 while the configuration file differs from the one of the last start, else 0",
            self.configuration_changed.clone(),
        );
        to.register(
            "policy_file_threads",
            "Threads that read policy files; threads that a file system blocks stay in this number",
            self.disk_threads.clone(),
        );
    }

    fn register_calls(&mut self) {
        let to = &mut self.registry;
        to.register(
            "decisions",
            "Calls of modules: found, not-mine, refused, allowed, denied or failed",
            self.calls.decisions.clone(),
        );
        to.register_with_unit(
            "decision",
            "Time of a call of a module, including the wait for a sandbox",
            Unit::Seconds,
            self.calls.time.clone(),
        );
        to.register("sandbox_faults", "Calls of modules that failed", self.calls.faults.clone());
        to.register(
            "shadow_decisions",
            "Decisions of shadow modules: agreed, disagreed, not-compared (a MAF or a module with I/O would be needed) or dropped (too many were waiting)",
            self.calls.shadows.clone(),
        );
    }

    fn register_losses(&mut self) {
        let to = &mut self.registry;
        to.register(
            "decisions_not_recorded",
            "Decisions that could not be recorded, or were too long",
            self.lost_recorded.clone(),
        );
        to.register(
            "log_lines_lost",
            "Log lines that could not be written in time",
            self.lost_log.clone(),
        );
        to.register(
            "audit_lines_lost",
            "Audit trail lines that could not be written in time",
            self.lost_trail.clone(),
        );
    }

    /// Returns the metrics of module calls.
    pub fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// Counts an established association and the time that it took.
    pub fn established(&self, saef: Saef, after: Duration) {
        self.handshakes.get_or_create(&ByOutcome { outcome: ESTABLISHED }).inc();
        self.handshake_time.observe(after.as_secs_f64());
        self.associations.get_or_create(&BySaef { saef: saef.to_string() }).inc();
    }

    /// Counts the end of an association.
    pub fn ended(&self, saef: Saef) {
        self.associations.get_or_create(&BySaef { saef: saef.to_string() }).dec();
    }

    /// Counts a connection that did not become an association.
    pub fn refused(&self, cause: &'static str) {
        self.handshakes.get_or_create(&ByOutcome { outcome: cause }).inc();
        // Code that holds the lock does not panic.
        self.refusal_causes.lock().unwrap_or_else(PoisonError::into_inner).insert(cause);
    }

    /// Counts a response to a request that was not sent.
    pub fn unexpected(&self) {
        self.unexpected_responses.inc();
    }

    /// Counts a datagram that was dropped.
    pub fn datagram_dropped(&self, cause: &'static str) {
        self.datagrams_dropped.get_or_create(&ByCause { cause }).inc();
    }

    /// Counts CoAP messages that were sent again.
    pub fn coap_retransmitted(&self, messages: usize) {
        self.coap_retransmissions.inc_by(messages as u64);
    }

    /// Counts a client that offered a Connection ID.
    pub fn connection_id_offered(&self) {
        self.connection_ids_offered.inc();
    }

    /// Counts a response. The operation of an undecodable request is not known.
    pub fn answered(&self, operation: Option<Operation>, rsc: Rsc) {
        let operation = operation.map_or(UNKNOWN, Operation::name);
        self.requests.get_or_create(&ByRequest { operation, rsc: KnownRsc::of(rsc) }).inc();
    }

    /// Counts a response or a timeout of the upstream CSE.
    pub fn upstream(&self, after: Duration) {
        self.upstream_time.observe(after.as_secs_f64());
    }

    /// Sets the generation in force.
    pub fn in_force(&self, generation: &Generation) {
        self.generation.set(i64::try_from(generation.number).unwrap_or(i64::MAX));
        self.certificates.clear();
        for own in generation.certificates().iter().flat_map(|c| &c.own) {
            let ends = seconds(own.not_after());
            self.certificates.get_or_create(&ByCertificate { names: own.to_string() }).set(ends);
        }
    }

    /// Sets the expiration times.
    pub fn expiries(&self, expiries: &[Expiry]) {
        self.expiries.clear();
        self.expired_rows.clear();
        for Expiry { kind, name, at, expired_rows, .. } in expiries {
            let file = name.clone();
            match kind {
                // These have a separate metric.
                ExpiryKind::OwnCertificate => continue,
                ExpiryKind::Rows => {
                    let rows = i64::try_from(*expired_rows).unwrap_or(i64::MAX);
                    self.expired_rows.get_or_create(&ByFile { file: file.clone() }).set(rows);
                }
                ExpiryKind::Anchor | ExpiryKind::RevocationList => {}
            }
            let Some(ends) = at.map(seconds) else { continue };
            let of = self.expiries.get_or_create(&ByExpiry { kind: kind.name(), file });
            // Of several entries in a file, the first that expires.
            if of.get() == 0 || ends < of.get() {
                of.set(ends);
            }
        }
    }

    /// Sets the first expiration time of the cached keys of each MAF.
    pub fn maf_keys(&self, first_ends: Vec<(String, SystemTime)>) {
        self.maf_keys.clear();
        for (maf, at) in first_ends {
            self.maf_keys.get_or_create(&ByMaf { maf }).set(seconds(at));
        }
    }

    /// Sets whether this CSE is registered with another.
    pub fn registered(&self, cse: &CseId, is: bool) {
        self.peers.get_or_create(&ByCse { cse: cse.to_string() }).set(is.into());
    }

    /// Records whether the CSE behind the gateway can be reached.
    pub fn upstream_up(&self, url: String, is: bool) {
        self.upstream_up.get_or_create(&ByUrl { url }).set(is.into());
    }

    /// Counts a reload.
    pub fn reloaded(&self, outcome: &'static str) {
        self.reloads.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// Returns all metrics as text.
    ///
    /// # Errors
    /// Fails only if writing to memory fails.
    pub fn text(&self, policy: &Policy) -> Result<String, fmt::Error> {
        self.policy_outdated.set(policy.disk_state().behind().is_some().into());
        self.configuration_changed.set(policy.configuration_changed().is_some().into());
        self.disk_threads.set(i64::try_from(policy.busy_threads()).unwrap_or(i64::MAX));
        self.lost_log.inner().store(self.outputs.lost_log_lines(), Ordering::Relaxed);
        self.lost_trail.inner().store(self.outputs.lost_trail_lines(), Ordering::Relaxed);
        let lost = self.lost_decisions.as_ref().map_or(0, LostDecisions::count);
        self.lost_recorded.inner().store(lost, Ordering::Relaxed);
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

/// Returns the seconds since 1970.
fn seconds(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl Observer for Calls {
    fn decided(&self, decided: &CompletedCall<'_>) {
        let (module, hook) = (decided.module.to_string(), decided.hook.name());
        if let Outcome::Failed(fault) = decided.outcome {
            let cause = fault.cause();
            self.faults.get_or_create(&ByFault { module: module.clone(), cause }).inc();
        }
        let time = self.time.get_or_create(&ByHook { module: module.clone(), hook });
        time.observe(decided.took);
        drop(time);
        let outcome = decided.outcome.name();
        self.decisions.get_or_create(&ByCall { module, hook, outcome }).inc();
    }
    fn compared(&self, compared: &CompletedComparison<'_>) {
        let (module, hook) = (compared.module.to_string(), compared.hook.name());
        let outcome = compared.comparison.name();
        self.shadows.get_or_create(&ByCall { module, hook, outcome }).inc();
    }
}
