//! Tables of the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use saegis_handshake::{Suite, suites};
use saegis_onem2m::cse::{Cse, CseKind};
use saegis_onem2m::id::{AeIdStem, CseId};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::serde::{all_parsed, parsed};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::listen_address::ListenAddress;
use super::notification_targets::Allowed;
use super::telemetry::parsed_if_there;
use super::web::Web;

/// Maximum size of a response of the embedded CSE, in bytes: the nested resources and the target.
pub const MAX_RESPONSE: usize = (4 << 20) + (256 << 10);

/// Limits of each request to the embedded CSE.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Time, including the wait for its turn.
    pub time: Duration,
    /// Number of lookups in the store.
    pub steps: u64,
    /// Number of concurrent requests of one credential.
    pub per_credential: usize,
}

/// Address and cipher suites of the listener.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Listen {
    /// Address and port of the TLS listener. `:8443` is port 8443 of all interfaces. A name such as
    /// `localhost:8443` is resolved at the start: the first address that can be bound is used, IPv4
    /// before IPv6. A socket from the service manager takes precedence.
    #[serde(deserialize_with = "parsed")]
    pub address: ListenAddress,
    /// Registered names of the cipher suites for pre-shared keys, in order of preference.
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

/// Folder of policy files, and how they are loaded.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Policy {
    /// Folder of policy files.
    pub folder: PathBuf,
    /// Timeout for loading policy files and modules. The load is rejected afterwards, because a
    /// network file system may never respond.
    pub load_seconds: u64,
    /// Accepts tables with keys that every user of the machine can read.
    pub allow_readable_tables: bool,
    /// Names of policy files that must be present, such as `psk-lookup-table.csv`. Without one of
    /// them, the gateway does not start and a reload is rejected.
    pub required: Vec<String>,
    /// Maximum number of associations that a generation may end. One that would end more is
    /// rejected, until `saegis reload --force`. Without it, there is no limit.
    pub max_ended_associations: Option<usize>,
    /// Makes `/readyz` respond 503 while the policy on disk is rejected or still loading.
    pub unready_when_outdated: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            folder: "policies".into(),
            load_seconds: 60,
            allow_readable_tables: false,
            required: Vec::new(),
            max_ended_associations: None,
            unready_when_outdated: false,
        }
    }
}

/// CSE behind the gateway, instead of the embedded CSE.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Upstream {
    /// HTTP binding of that CSE: `http://host:port`. Or the MQTT server that it is a client of:
    /// `mqtt://host:port`. CoAP is not supported here.
    #[serde(deserialize_with = "parsed")]
    pub url: http::Uri,
    /// Makes `/readyz` respond 503 while that CSE cannot be reached.
    #[serde(default)]
    pub unready_when_down: bool,
    /// Maximum size of a packet that the MQTT server accepts. A request that would be larger gets
    /// 4000 and is not sent, because the MQTT server closes the connection for it, which ends the
    /// requests of all originators. Without it, 65536 more than `limits.content-bytes`.
    pub max_packet_bytes: Option<usize>,
    /// Address and port of the loopback interface where that CSE sends notifications for AEs. The
    /// gateway replaces `https://` points of access of AEs by addresses at this listener. Without
    /// it, notifications do not pass the gateway.
    #[serde(default, deserialize_with = "parsed_if_there")]
    pub notification_listen: Option<ListenAddress>,
    /// User ID of that CSE's process. Connections of other users are closed. Without it every local
    /// user can connect, and the gateway logs a warning.
    pub notification_uid: Option<u32>,
    /// File of the key that authenticates addresses at that listener. The gateway creates it at the
    /// first start. If the file is lost, AEs must register their points of access again.
    #[serde(default = "notification_key_file")]
    pub notification_key_file: PathBuf,
}

fn notification_key_file() -> PathBuf {
    "state/notifications.key".into()
}

/// This CSE.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ThisCse {
    /// CSE-ID, with or without the leading slash.
    #[serde(deserialize_with = "parsed")]
    pub cse_id: CseId,
    /// Resource name of the CSEBase.
    #[serde(default = "csebase_name")]
    pub csebase_name: String,
    /// Domain name of the service provider. Without it, absolute addresses are rejected.
    pub service_provider: Option<String>,
    /// Type of the CSE.
    #[serde(default)]
    pub kind: CseKind,
    /// Addresses of this CSE: the `poa` of the CSEBase, for its registrees.
    #[serde(default)]
    pub point_of_access: Vec<String>,
    /// File of the resources of the embedded CSE.
    #[serde(default = "cse_store")]
    pub store: PathBuf,
    /// Response Status Code for a registration whose AE-ID belongs to another credential, or whose
    /// credential has an AE-ID already: 4117 or 4105.
    #[serde(default = "ae_id_taken_rsc", deserialize_with = "taken")]
    pub ae_id_taken_rsc: Rsc,
    /// AE-ID-Stems of AEs that may change resources without an owner, such as the service
    /// subscription of an IN-CSE. Each needs a row in a policy table.
    #[serde(default, deserialize_with = "all_parsed")]
    pub administrators: Vec<AeIdStem>,
    /// AE-ID-Stems of AEs of the operator that may retrieve and discover all resources. Each such
    /// request is in the audit trail. Each AE needs a row in a policy table.
    #[serde(default, deserialize_with = "all_parsed")]
    pub observers: Vec<AeIdStem>,
    /// File of definitions of `<flexContainer>`s, beside the built-in ones. Read at the start.
    pub definitions: Option<PathBuf>,
    /// Maximum storage of each AE and each registered CSE.
    #[serde(default)]
    pub quota: Quota,
    /// Maximum sizes of containers and instances, and of the whole store.
    #[serde(default)]
    pub limits: CseLimits,
}

impl ThisCse {
    /// Returns whether an AE-ID has privileges by the configuration, so that only a credential that a
    /// policy names for it may register it.
    pub fn is_privileged(&self, stem: &AeIdStem) -> bool {
        self.administrators.contains(stem) || self.observers.contains(stem)
    }

    /// Creates the configuration of a CSE with this identity.
    pub fn new(identity: Cse) -> Self {
        let Cse { cse_id, csebase_name, service_provider, kind } = identity;
        Self {
            cse_id,
            csebase_name,
            service_provider,
            kind,
            point_of_access: Vec::new(),
            store: cse_store(),
            ae_id_taken_rsc: ae_id_taken_rsc(),
            administrators: Vec::new(),
            observers: Vec::new(),
            definitions: None,
            quota: Quota::default(),
            limits: CseLimits::default(),
        }
    }

    /// Returns the identity of the CSE.
    pub fn identity(&self) -> Cse {
        Cse {
            cse_id: self.cse_id.clone(),
            csebase_name: self.csebase_name.clone(),
            service_provider: self.service_provider.clone(),
            kind: self.kind,
        }
    }
}

fn csebase_name() -> String {
    "cse".into()
}

fn cse_store() -> PathBuf {
    "state/cse.redb".into()
}

fn ae_id_taken_rsc() -> Rsc {
    Rsc::OriginatorHasAlreadyRegistered
}

/// Maximum storage of an AE or a registered CSE in the embedded CSE.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Quota {
    /// Maximum resources in the subtree of one AE or CSE. A create beyond it gets 5207.
    pub resources: u64,
    /// Maximum size of these resources in bytes, as stored. A create or update beyond it gets 5207.
    pub bytes: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self { resources: 20_000, bytes: 64 << 20 }
    }
}

/// Maximum sizes of containers and instances in the embedded CSE, and of its store.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct CseLimits {
    /// Maximum instances in a container, and the default of `mni`.
    pub instances: u64,
    /// Maximum size of the content in a container in bytes, and the default of `mbs`.
    pub container_bytes: u64,
    /// Maximum size of the content of an instance or of a `<flexContainer>`, in bytes.
    pub content_bytes: u64,
    /// Maximum resources in the store. A create beyond it gets 5207.
    pub resources: u64,
}

impl Default for CseLimits {
    fn default() -> Self {
        Self {
            instances: 1_000,
            container_bytes: 16 << 20,
            content_bytes: 64 << 10,
            resources: 1_000_000,
        }
    }
}

/// Notifications that the embedded CSE sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Notifications {
    /// Networks, addresses and names to which notifications may go, each with or without a port,
    /// such as `10.0.0.0/8:8080`. AEs choose the addresses of notifications, so all others are
    /// rejected.
    #[serde(deserialize_with = "all_parsed")]
    pub targets: Vec<Allowed>,
    /// Timeout for the response of a target.
    pub timeout_seconds: u64,
    /// Time for which a notification waits for the WebSocket connection of its AE, in seconds.
    pub retention_seconds: u64,
}

impl Default for Notifications {
    fn default() -> Self {
        Self { targets: Vec::new(), timeout_seconds: 5, retention_seconds: 300 }
    }
}

/// Source of the service subscription.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ServiceSubscription {
    /// Source of the rules: the policy file `service-subscription.toml`, the resources of the
    /// embedded CSE (`cse`), or the resources of the IN-CSE that this CSE registers with
    /// (`remote`).
    pub source: RuleSource,
    /// Interval between two fetches from a remote IN-CSE.
    pub refresh_seconds: u64,
    /// Lifetime of fetched rules while the IN-CSE cannot be reached.
    pub usable_seconds: u64,
    /// File of the fetched rules, which remain valid across a restart.
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

/// Source of the rules of the service subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleSource {
    /// The policy file `service-subscription.toml`.
    #[default]
    PolicyFile,
    /// Resources of the embedded CSE.
    Cse,
    /// Resources of the IN-CSE with which this CSE registers.
    Remote,
}

pub fn shared<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Arc<T>, D::Error> {
    T::deserialize(from).map(Arc::new)
}

/// AE-IDs that credentials received by registering.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AeIds {
    /// File of the AE-IDs.
    pub store: PathBuf,
}

impl Default for AeIds {
    fn default() -> Self {
        Self { store: "state/ae-ids.redb".into() }
    }
}

/// Administration of the running gateway.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Admin {
    /// Unix socket for the administration commands. Only the user of the gateway can connect.
    pub socket: PathBuf,
    /// Web page for the operator.
    pub web: Web,
}

impl Default for Admin {
    fn default() -> Self {
        Self { socket: "state/admin.sock".into(), web: Web::default() }
    }
}

/// Limits on connections, handshakes and requests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    /// Maximum concurrent associations. A further client waits after its handshake, for at most
    /// `handshake-seconds`.
    pub connections: usize,
    /// Maximum concurrent handshakes, in addition to the associations.
    pub handshakes: usize,
    /// Maximum concurrent handshakes of one IPv4 address or one IPv6 network of 64 bits. A network
    /// of 56 bits has twice as many, one of 48 bits four times as many. Further connections are
    /// closed.
    pub handshakes_per_peer: usize,
    /// Maximum failed handshakes per minute of one such address or network, with the same
    /// multiples. Further connections are closed until the oldest failures are a minute old.
    pub failed_handshakes_per_minute: u32,
    /// Maximum concurrent associations of one credential. A further one ends the oldest.
    pub associations_per_credential: usize,
    /// Timeout from the connection to the end of the first flight of the client. Raise it for
    /// devices behind slow radio links.
    pub first_flight_seconds: u64,
    /// Timeout from the connection to the association.
    pub handshake_seconds: u64,
    /// Timeout from the end of a request to the end of the next header. An idle association may
    /// last up to two seconds longer.
    pub idle_seconds: u64,
    /// Timeout for the content of a request.
    pub content_seconds: u64,
    /// Maximum size of the content of a request, and of a response of another CSE.
    pub content_bytes: usize,
    /// Timeout for a response of the CSE behind the gateway.
    pub upstream_seconds: u64,
    /// Timeout for a peer to read the next part of a response, plus one second for each KiB that it
    /// reads. The association ends afterwards with `why = "answer not read"`.
    pub response_seconds: u64,
    /// Maximum size of all unread responses and requests to AEs, beyond 128 KiB of each association.
    /// A further one ends the association with the oldest of the credential that holds most.
    pub response_bytes: usize,
    /// Maximum size of unread responses of one credential, including memory reserved for listings
    /// and group responses. A request that gets no memory within `limits.upstream-seconds` gets
    /// 4008.
    pub response_bytes_per_credential: usize,
    /// Timeout for the embedded CSE to process a request, including the wait for its turn. It then
    /// gets 5207, or 4008 if it never had its turn.
    pub request_seconds: u64,
    /// Maximum store lookups of one request to the embedded CSE, all members of a group together. A
    /// request that needs more gets 5207. A discovery may use half as many again for resources of
    /// other registrees, and returns a partial result beyond that.
    pub request_steps: u64,
    /// Maximum concurrent requests of one credential in the embedded CSE. Further ones wait. As
    /// many acknowledged requests (`rt=2`) may have unsent results. Further ones get 5207, as they
    /// do beyond 256 of all credentials.
    pub cse_requests_per_credential: usize,
    /// Timeout for requests in progress when the gateway stops.
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
            response_seconds: 10,
            response_bytes: 64 << 20,
            response_bytes_per_credential: 16 << 20,
            request_seconds: 10,
            request_steps: 50_000,
            cse_requests_per_credential: 4,
            drain_seconds: 10,
        }
    }
}

impl Limits {
    /// Returns the timeout for the first flight of a handshake.
    pub fn first_flight(&self) -> Duration {
        Duration::from_secs(self.first_flight_seconds)
    }

    /// Returns the limits of each request to the embedded CSE.
    pub fn requests(&self) -> RequestLimits {
        RequestLimits {
            time: Duration::from_secs(self.request_seconds),
            steps: self.request_steps,
            per_credential: self.cse_requests_per_credential,
        }
    }

    /// Returns the timeout for a handshake.
    pub fn handshake(&self) -> Duration {
        Duration::from_secs(self.handshake_seconds)
    }
}

fn taken<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Rsc, D::Error> {
    match Rsc::from_code(u16::deserialize(deserializer)?) {
        rsc @ (Rsc::OriginatorHasAlreadyRegistered | Rsc::Conflict) => Ok(rsc),
        _ => Err(D::Error::custom("must be 4117 or 4105")),
    }
}

/// Deserializes an optional value into an `Arc`.
pub fn shared_if_there<'de, D, T>(from: D) -> Result<Option<Arc<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    shared(from).map(Some)
}
