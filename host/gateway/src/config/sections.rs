//! The tables of the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use saegis_handshake::{Suite, suites};
use saegis_onem2m::id::AeIdStem;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::serde::{all_parsed, parsed};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::listen_address::ListenAddress;
use super::notification_targets::Allowed;

/// Size of the largest answer of the embedded registrar, in bytes: what it nests, and the target.
pub const MAX_RESPONSE: usize = (4 << 20) + (256 << 10);

/// What each request to the embedded CSE may use.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Time, in which it waits for its turn too.
    pub time: Duration,
    /// Look-ups in the store.
    pub steps: u64,
    /// Requests of one credential that are carried out at a time.
    pub per_credential: usize,
}

/// Where associations are taken.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Listen {
    /// Address and port, or a name and a port, or a port of all interfaces.
    #[serde(deserialize_with = "parsed")]
    pub address: ListenAddress,
    /// The cipher suites for pre-shared keys, the preferred first, by their registered names.
    #[serde(deserialize_with = "suites")]
    pub suites: Vec<Suite>,
    /// Whether sessions of TLS 1.3 with certificates are resumed. Each resumed handshake is checked
    /// against the policy of the moment. A MAF resumes none.
    pub resumption: bool,
}

impl Default for Listen {
    fn default() -> Self {
        let address = ListenAddress::At(SocketAddr::from(([127, 0, 0, 1], 8443)));
        Self { address, suites: Suite::DEFAULT.to_vec(), resumption: true }
    }
}

/// Where policy files are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Policy {
    /// The folder of policy files.
    pub folder: PathBuf,
    /// Time to load policy files and modules, in seconds; then they are refused, for their file
    /// system may never answer.
    pub load_seconds: u64,
    /// Whether tables with keys are taken that every user of the machine may read.
    pub allow_readable_tables: bool,
    /// Whether `/readyz` says that the gateway is not ready while an older policy is in force than the
    /// one on disk.
    pub unready_when_behind: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            folder: "policies".into(),
            load_seconds: 60,
            allow_readable_tables: false,
            unready_when_behind: false,
        }
    }
}

/// A CSE behind the gateway.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Upstream {
    /// Where its HTTP binding is: `http://host:port`.
    #[serde(deserialize_with = "parsed")]
    pub url: http::Uri,
    /// Address and port, of the loopback interface, where that CSE's notifications for AEs are taken;
    /// none, and they do not go through the gateway.
    #[serde(default, deserialize_with = "parsed_if_there")]
    pub notification_listen: Option<ListenAddress>,
    /// The user ID of that CSE's process: no other user's may connect there; none, and each may.
    pub notification_uid: Option<u32>,
    /// The file of the key by which the addresses there are known as ours.
    #[serde(default = "notification_key_file")]
    pub notification_key_file: PathBuf,
}

fn notification_key_file() -> PathBuf {
    "state/notifications.key".into()
}

/// The embedded registrar.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Registrar {
    /// The file of its resources.
    pub store: PathBuf,
    /// What an AE is answered that asks for an AE-ID which is another's, or for a second one: 4117,
    /// or 4105, which some clients' test suites want.
    #[serde(deserialize_with = "taken")]
    pub ae_id_taken_rsc: Rsc,
    /// AEs that may change what is nobody's, such as the service subscription of an IN-CSE, by
    /// their AE-ID-Stems.
    #[serde(deserialize_with = "all_parsed")]
    pub administrators: Vec<AeIdStem>,
    /// What each AE, and each CSE that registers, may store.
    pub quota: Quota,
}

/// What each AE, and each CSE that registers, may store in the embedded registrar.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Quota {
    /// Resources, its own with them.
    pub resources: u64,
    /// Bytes of its resources, with their attributes.
    pub bytes: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self { resources: 20_000, bytes: 64 << 20 }
    }
}

impl Default for Registrar {
    fn default() -> Self {
        Self {
            store: "state/registrar.redb".into(),
            ae_id_taken_rsc: Rsc::OriginatorHasAlreadyRegistered,
            administrators: Vec::new(),
            quota: Quota::default(),
        }
    }
}

/// Where the embedded registrar sends notifications.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Notifications {
    /// Networks, addresses and names, each with a port or without, to which it may. The addresses of
    /// notifications come from AEs, so what is not listed is sent nothing.
    #[serde(deserialize_with = "all_parsed")]
    pub targets: Vec<Allowed>,
    /// For a target to answer, in seconds.
    pub timeout_seconds: u64,
}

impl Default for Notifications {
    fn default() -> Self {
        Self { targets: Vec::new(), timeout_seconds: 5 }
    }
}

/// Where the service subscription is.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ServiceSubscription {
    /// Where its rules are.
    pub source: RuleSource,
    /// How often a remote IN-CSE is asked, in seconds.
    pub refresh_seconds: u64,
    /// How long what it said is good when it can't be reached, in seconds.
    pub usable_seconds: u64,
    /// The file of what it said last, which is good after a start too.
    pub store: PathBuf,
}

impl Default for ServiceSubscription {
    fn default() -> Self {
        Self {
            source: RuleSource::default(),
            refresh_seconds: 60,
            usable_seconds: 3600,
            store: "state/service-subscription.json".into(),
        }
    }
}

/// Where the rules of the service subscription are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleSource {
    /// In the policy file `service-subscription.toml`.
    #[default]
    PolicyFile,
    /// Among the embedded registrar's resources.
    Registrar,
    /// Among those of the IN-CSE that this CSE registers with.
    Remote,
}

pub fn shared<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Arc<T>, D::Error> {
    T::deserialize(from).map(Arc::new)
}

/// The AE-IDs that credentials get by registering.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AeIds {
    /// The file of them.
    pub store: PathBuf,
}

impl Default for AeIds {
    fn default() -> Self {
        Self { store: "state/bindings.redb".into() }
    }
}

/// Administration of the running gateway.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Admin {
    /// The Unix socket for it; only the user that the gateway runs as may use it.
    pub socket: PathBuf,
}

impl Default for Admin {
    fn default() -> Self {
        Self { socket: "state/admin.sock".into() }
    }
}

/// Limits on connections and requests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    /// Associations at a time.
    pub connections: usize,
    /// Handshakes under way at a time, beside the associations.
    pub handshakes: usize,
    /// Handshakes under way at a time of one peer address (IPv4), or network of 64 bits (IPv6).
    pub handshakes_per_peer: usize,
    /// Handshakes of one peer address, or network, that may fail in a minute; until some of them
    /// are a minute old, further connections of it are closed.
    pub failed_handshakes_per_minute: u32,
    /// Live associations of one credential; one more ends the oldest.
    pub associations_per_credential: usize,
    /// For the client's first flight, in seconds.
    pub first_flight_seconds: u64,
    /// From the connection to the association, in seconds.
    pub handshake_seconds: u64,
    /// For the header of a request, from the end of the one before, in seconds. An association
    /// without requests ends after it.
    pub idle_seconds: u64,
    /// For the content of a request, in seconds.
    pub content_seconds: u64,
    /// Content of a request or a response, in bytes.
    pub content_bytes: usize,
    /// For the CSE behind the gateway to answer, in seconds.
    pub upstream_seconds: u64,
    /// For a peer to read the next part of an answer, in seconds; 1 KiB/s beyond that is progress.
    pub answer_seconds: u64,
    /// Large answers of the embedded registrar that are made or not read yet, in bytes.
    pub answer_bytes: usize,
    /// The same of one credential.
    pub answer_bytes_per_credential: usize,
    /// For the embedded registrar to carry out a request, in seconds, with the time that it waits
    /// for its turn.
    pub request_seconds: u64,
    /// Look-ups in the embedded registrar's store that a request may cause.
    pub request_steps: u64,
    /// Requests of one credential that the embedded registrar carries out at a time.
    pub cse_requests_per_credential: usize,
    /// For live associations to finish their requests at the end, in seconds.
    pub drain_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            handshakes: 1000,
            handshakes_per_peer: 128,
            failed_handshakes_per_minute: 300,
            associations_per_credential: 64,
            first_flight_seconds: 2,
            handshake_seconds: 10,
            idle_seconds: 300,
            content_seconds: 10,
            content_bytes: 256 << 10,
            upstream_seconds: 10,
            answer_seconds: 10,
            answer_bytes: 64 << 20,
            answer_bytes_per_credential: 16 << 20,
            request_seconds: 10,
            request_steps: 50_000,
            cse_requests_per_credential: 4,
            drain_seconds: 10,
        }
    }
}

impl Limits {
    /// The time for the first flight of a handshake.
    pub fn first_flight(&self) -> Duration {
        Duration::from_secs(self.first_flight_seconds)
    }

    /// What each request to the embedded registrar may use.
    pub fn requests(&self) -> RequestLimits {
        RequestLimits {
            time: Duration::from_secs(self.request_seconds),
            steps: self.request_steps,
            per_credential: self.cse_requests_per_credential,
        }
    }

    /// The time for a handshake.
    pub fn handshake(&self) -> Duration {
        Duration::from_secs(self.handshake_seconds)
    }
}

/// The log.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Log {
    /// How lines are written.
    pub format: LogFormat,
    /// What is logged, such as `info` or `saegis=debug`; the environment variable `SAEGIS_LOG`
    /// has precedence.
    pub filter: Option<String>,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// The audit trail: security events in one file, and refused requests in another, so that these do
/// not drive those out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Audit {
    /// The file of security events, a JSON object a line; none, and all events are in the log only.
    pub file: Option<PathBuf>,
    /// The file of refused requests; by default beside the other, with `-refusals` in its name.
    refusals_file: Option<PathBuf>,
    /// Largest size of each file, in bytes; then it becomes `FILE.1`, and what was that `FILE.2`.
    pub file_bytes: u64,
    /// Files that are kept beside each one that is written.
    pub old_files: u64,
}

impl Default for Audit {
    fn default() -> Self {
        Self { file: None, refusals_file: None, file_bytes: 16 << 20, old_files: 8 }
    }
}

impl Audit {
    /// The file of refused requests; none where there is no trail.
    pub fn refusals_file(&self) -> Option<PathBuf> {
        let file = self.file.as_ref()?;
        Some(self.refusals_file.clone().unwrap_or_else(|| {
            let mut name = file.file_stem().unwrap_or_default().to_owned();
            name.push("-refusals");
            if let Some(extension) = file.extension() {
                name.push(".");
                name.push(extension);
            }
            file.with_file_name(name)
        }))
    }

    /// The paths that the configuration names.
    pub fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.file.iter_mut().chain(self.refusals_file.as_mut())
    }
}

/// Recorded decisions: what policy was asked, and what it answered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Decisions {
    /// The file, a JSON object a line; none, and nothing is recorded.
    pub record: Option<PathBuf>,
    /// The share of decisions that is recorded, chosen at random.
    pub sample: f64,
    /// Largest size of the file, in bytes; then it becomes `FILE.1`, and what was that `FILE.2`.
    pub file_bytes: u64,
    /// Files that are kept beside the one that is written.
    pub old_files: u64,
}

impl Default for Decisions {
    fn default() -> Self {
        Self { record: None, sample: 1.0, file_bytes: 16 << 20, old_files: 8 }
    }
}

/// Metrics and health, over HTTP.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Metrics {
    /// Address and port, of the loopback interface; none, and there are none to be had.
    #[serde(deserialize_with = "parsed_if_there")]
    pub address: Option<ListenAddress>,
    /// Host names by which it may be asked, besides `localhost` and addresses of the loopback
    /// interface.
    pub hosts: Vec<String>,
}

fn parsed_if_there<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    parsed(deserializer).map(Some)
}

fn taken<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Rsc, D::Error> {
    match Rsc::from_code(u16::deserialize(deserializer)?) {
        rsc @ (Rsc::OriginatorHasAlreadyRegistered | Rsc::Conflict) => Ok(rsc),
        _ => Err(D::Error::custom("must be 4117 or 4105")),
    }
}

/// Reads something that is there, if it is.
pub fn shared_if_there<'de, D, T>(from: D) -> Result<Option<Arc<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    shared(from).map(Some)
}
