//! Protocol of the admin socket: one request and one response per connection, each a line of JSON.
//!
//! The commands print the response with `--json`. Keys are in snake case, values with a fixed set of
//! words in kebab case.

mod outcome_count;
mod policy;
mod requests;
mod web;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use outcome_count::OutcomeCount;
pub use policy::{
    CertificateReport, Direction, FaultEntry, GenerationEntry, GenerationList, GenerationReport,
    HookTimes, ModuleEntry, OwnCertificateEntry, ReloadOutcome, ReloadReport, RolloutReport,
    ShadowDifference, ShadowEntry, TableChange, TableEntry,
};
pub use requests::{RequestEntry, RequestList, RequestStep};
pub use web::{LinkReport, SignedOut, WebLink, WebRole, WebSessionEntry, WebSessionList};

/// A request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum Request {
    /// Returns the state of the gateway.
    Status,
    /// Lists the active associations.
    Associations,
    /// Returns the counters since the start.
    Totals,
    /// Lists the modules and tables of the generation in force.
    Modules,
    /// Lists the last generations, in force or refused.
    Generations,
    /// Lists the last requests, with the time of each step.
    Requests {
        /// Only those of this association.
        #[serde(default)]
        association: Option<u64>,
        /// Only those that were refused.
        #[serde(default)]
        refused: bool,
    },
    /// Promotes a shadow module, or rolls a promoted module back.
    RollOut {
        /// The direction.
        direction: Direction,
        /// The name of the module.
        module: String,
    },
    /// Reloads the policy files and modules.
    Reload {
        /// Accepts that policy files were removed on purpose.
        #[serde(default)]
        accept_removals: bool,
        /// Accepts that the generation ends any number of associations.
        #[serde(default)]
        force: bool,
    },
    /// Returns the filter of the log, or sets it until the next start.
    LogLevel {
        /// The new filter.
        #[serde(default)]
        filter: Option<String>,
        /// Restores the filter of the start.
        #[serde(default)]
        reset: bool,
    },
    /// Lists the AE-IDs that registrations assigned to credentials.
    AeIds,
    /// Releases the AE-ID that a registration assigned to a credential.
    ReleaseAeId {
        /// The Credential-ID.
        credential_id: String,
    },
    /// Deletes an AE with its resources.
    DeleteAe {
        /// Its AE-ID-Stem.
        ae_id: String,
    },
    /// Lists the peer CSEs.
    Peers,
    /// Creates a link that opens the web page once.
    Link {
        /// The role of its session.
        role: WebRole,
    },
    /// Lists the sessions of the web page.
    Sessions,
    /// Ends a session of the web page, or all sessions and links.
    SignOut {
        /// The session.
        #[serde(default)]
        id: Option<String>,
    },
    /// Copies the stores into a folder of the state folder. The client removes it.
    Backup,
    /// Ends an association.
    EndAssociation {
        /// Its number.
        id: u64,
    },
}

impl Request {
    /// Returns the command for the audit trail, if it changes something.
    pub fn change(&self) -> Option<String> {
        match self {
            Self::Status
            | Self::Associations
            | Self::Totals
            | Self::Modules
            | Self::Generations
            | Self::Requests { .. }
            | Self::AeIds
            | Self::Sessions
            | Self::Peers => None,
            Self::Backup => Some("backup".into()),
            Self::RollOut { direction, module } => {
                Some(format!("module {} {module}", direction.verb()))
            }
            Self::Link { role: WebRole::Operate } => Some("admin link".into()),
            Self::Link { role: WebRole::View } => Some("admin link --view".into()),
            Self::SignOut { id } => {
                Some(format!("admin sign-out {}", id.as_deref().unwrap_or("--all")))
            }
            Self::Reload { accept_removals, force } => {
                let removals = if *accept_removals { " --accept-removals" } else { "" };
                Some(format!("reload{removals}{}", if *force { " --force" } else { "" }))
            }
            Self::LogLevel { filter: None, reset: false } => None,
            Self::LogLevel { filter, .. } => {
                Some(format!("log-level {}", filter.as_deref().unwrap_or("--reset")))
            }
            Self::ReleaseAeId { credential_id } => Some(format!("release-ae-id {credential_id}")),
            Self::EndAssociation { id } => Some(format!("end-association {id}")),
            Self::DeleteAe { ae_id } => Some(format!("delete-ae {ae_id}")),
        }
    }
}

/// Response to a request.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Response {
    /// To `status`.
    Status(Box<StatusReport>),
    /// To `associations`.
    Associations(AssociationList),
    /// To `totals`.
    Totals(TotalsReport),
    /// To `modules`.
    Modules(Box<GenerationReport>),
    /// To `generations`.
    Generations(GenerationList),
    /// To `requests`.
    Requests(RequestList),
    /// To `roll-out`.
    RolledOut(RolloutReport),
    /// To `reload`.
    Reload(ReloadReport),
    /// To `log-level`.
    LogLevel(LogLevelReport),
    /// To `ae-ids`.
    AeIds(AeIdList),
    /// To `release-ae-id`.
    Released(Released),
    /// To `delete-ae`.
    Deleted(Deleted),
    /// To `peers`.
    Peers(PeerList),
    /// To `link`.
    Link(LinkReport),
    /// To `sessions`.
    Sessions(WebSessionList),
    /// To `sign-out`.
    SignedOut(SignedOut),
    /// To `backup`.
    Backup(BackupReport),
    /// To `end-association`.
    Ended(Ended),
    /// The request failed.
    Error(Failed),
}

impl Response {
    /// Creates the response to a request that failed.
    pub fn error(why: impl Into<String>) -> Self {
        Self::Error(Failed { error: why.into() })
    }
}

/// Error of a request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failed {
    /// The reason.
    pub error: String,
}

/// State of the gateway. Times have the format of oneM2M.
#[derive(Debug, Serialize, Deserialize)]
pub struct StatusReport {
    /// The version of the program.
    pub version: String,
    /// The process ID.
    pub pid: u32,
    /// The CSE-ID.
    pub cse_id: String,
    /// The configured address.
    pub address: String,
    /// The time of the start.
    pub started: String,
    /// The number of the generation in force.
    pub generation: u64,
    /// The number of active associations.
    pub associations: usize,
    /// The digest of the last line of the audit trail.
    pub audit_head: Option<String>,
    /// The digest of the last line of the trail of refused requests.
    pub refusals_head: Option<String>,
    /// Warnings about the generation in force.
    pub warnings: Vec<String>,
    /// Whether the policy on disk is in force.
    pub policy: String,
    /// The faults of the policy on disk.
    pub policy_faults: Vec<String>,
    /// Whether the configuration on disk is in force.
    pub configuration: String,
    /// Whether the CSE behind the gateway can be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// The states of the registrations with other CSEs.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub peers: Vec<String>,
}

/// The active associations.
#[derive(Debug, Serialize, Deserialize)]
pub struct AssociationList {
    /// The associations, by their numbers.
    pub associations: Vec<AssociationEntry>,
}

/// An active association.
#[derive(Debug, Serialize, Deserialize)]
pub struct AssociationEntry {
    /// Its number.
    pub id: u64,
    /// The Security Association Establishment Framework: `psk`, `certificate` or `maf`.
    pub saef: String,
    /// The entity that the credential stands for.
    pub entity: String,
    /// The Credential-ID.
    pub credential_id: String,
    /// The address of the peer.
    pub peer: String,
    /// The TLS protocol version.
    pub protocol: String,
    /// The cipher suite.
    pub suite: String,
    /// The time at which it was established.
    pub established: String,
    /// The time at which its credential expires.
    pub expires: Option<String>,
}

/// Counters since the start. Those that are zero are omitted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TotalsReport {
    /// Connections: `established`, or the cause of the refusal.
    pub handshakes: Vec<OutcomeCount>,
    /// Requests that got a response.
    pub requests: Vec<RequestCount>,
    /// Calls of the modules of the generation in force.
    pub decisions: Vec<CallCount>,
    /// Reloads: `in-force`, `unchanged` or `refused`.
    pub reloads: Vec<OutcomeCount>,
}

/// Counter of requests.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RequestCount {
    /// The operation, or `unknown` if the request could not be parsed.
    pub operation: String,
    /// The Response Status Code, unless the specification does not define it.
    pub rsc: Option<u16>,
    /// The number since the start.
    pub count: u64,
}

/// Counter of calls of a module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallCount {
    /// The module.
    pub module: String,
    /// The hook.
    pub hook: String,
    /// The outcome.
    pub outcome: String,
    /// The number since the start.
    pub count: u64,
}

/// The filter of the log.
#[derive(Debug, Serialize, Deserialize)]
pub struct LogLevelReport {
    /// The filter in effect.
    pub filter: String,
}

/// The AE-IDs that registrations assigned to credentials.
#[derive(Debug, Serialize, Deserialize)]
pub struct AeIdList {
    /// One entry for each credential.
    pub ae_ids: Vec<AeIdEntry>,
}

/// The AE-ID of a credential.
#[derive(Debug, Serialize, Deserialize)]
pub struct AeIdEntry {
    /// The Credential-ID.
    pub credential_id: String,
    /// The AE-ID-Stem.
    pub ae_id: String,
    /// The time at which it was assigned.
    pub since: String,
}

/// The release of an AE-ID.
#[derive(Debug, Serialize, Deserialize)]
pub struct Released {
    /// Whether the credential had one.
    pub released: bool,
}

/// The deletion of an AE.
#[derive(Debug, Serialize, Deserialize)]
pub struct Deleted {
    /// Whether the AE existed.
    pub deleted: bool,
    /// The Credential-ID whose AE-ID was released.
    pub credential_id: Option<String>,
}

/// The peer CSEs.
#[derive(Debug, Serialize, Deserialize)]
pub struct PeerList {
    /// The peers, in the order of the configuration.
    pub peers: Vec<PeerEntry>,
}

/// A peer CSE.
#[derive(Debug, Serialize, Deserialize)]
pub struct PeerEntry {
    /// Its CSE-ID.
    pub cse_id: String,
    /// Its address.
    pub address: String,
    /// The Security Association Establishment Framework: `psk` or `certificate`.
    pub saef: String,
    /// The state of this CSE's registration with it: `none`, `pending`, `registered` or `failed`.
    pub registration: String,
    /// The end of the registration.
    pub expires: Option<String>,
    /// The cause of a failed registration.
    pub why: Option<String>,
}

/// Copies of the stores.
#[derive(Debug, Serialize, Deserialize)]
pub struct BackupReport {
    /// The folder with the copies.
    pub folder: PathBuf,
    /// The copies.
    pub copies: Vec<BackupCopy>,
}

/// The copy of a store.
#[derive(Debug, Serialize, Deserialize)]
pub struct BackupCopy {
    /// The file of the store.
    pub path: PathBuf,
    /// The copy.
    pub copy: PathBuf,
}

/// The end of an association.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ended {
    /// Whether it existed.
    pub ended: bool,
}

/// Maximum length of a line in both directions, in bytes. It suffices for a list of some ten
/// thousand associations.
pub const MAX_LINE: u64 = 8 << 20;
