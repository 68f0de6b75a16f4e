//! Queries to the policy, and their results.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use saegis_certificate::Flavour;
use saegis_onem2m::credential::{Credential, Entity};
use saegis_onem2m::id::{AbsoluteId, CredentialId};

use crate::data::service_subscription::Subscription;

/// Credential lookup of a TLS-PSK handshake.
#[derive(Debug, Clone)]
pub struct PskQuery {
    /// The psk_identity.
    pub psk_identity: String,
    /// The server name (SNI), in lower case.
    pub server_name: Option<String>,
    /// The peer.
    pub peer: IpAddr,
}

/// A trusted certificate or raw public key that names neither an AE nor a CSE.
#[derive(Debug, Clone)]
pub struct CertificateQuery {
    /// Its flavour: a device's, a node's, or a raw public key.
    pub flavour: Flavour,
    /// Its Credential-ID.
    pub credential_id: CredentialId,
    /// The server name (SNI), in lower case.
    pub server_name: Option<String>,
    /// The peer.
    pub peer: IpAddr,
    /// The rules of the service subscription.
    pub rules: Rules,
}

/// Result of mapping a certificate.
pub enum Mapping {
    /// It stands for this entity.
    As {
        /// The entity.
        entity: Entity,
        /// Expiration time, if it is earlier than that of the certificate.
        expires: Option<SystemTime>,
    },
    /// No module knows it.
    Unclaimed,
    /// A module rejected it. The reason is for the log.
    Refused(Refusal),
    /// A module failed.
    Failed {
        /// The module.
        module: String,
        /// The fault.
        fault: ModuleFault,
    },
}

/// Result of a lookup.
pub enum Lookup {
    /// A module found the credential.
    Found(Credential),
    /// No module knows the identity.
    Unclaimed,
    /// A module rejected it. The reason is for the log.
    Refused(Refusal),
    /// A module failed.
    Failed {
        /// The module.
        module: String,
        /// The fault.
        fault: ModuleFault,
    },
}

/// Rejection of an identity by a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The module.
    pub module: String,
    /// Its reason, printable in a log.
    pub reason: String,
}

/// The source of the rules of the service subscription.
#[derive(Debug, Clone, Default)]
pub enum Rules {
    /// The policy file of the generation.
    #[default]
    OfGeneration,
    /// These rules; `None` without a service subscription.
    Given(Option<Arc<Subscription>>),
}

/// A create request for an AE, for the registration check.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The From as received.
    pub from: Option<String>,
    /// The App-ID.
    pub app_id: String,
    /// The rules of the service subscription.
    pub rules: Rules,
    /// The Credential-ID of the AE at the CSE that announces it. Empty if it has no security
    /// association there.
    pub announced: Option<String>,
}

/// A registration of a key at a MAF, for its check.
#[derive(Debug, Clone)]
pub struct KeyRegistration {
    /// The security usage of the key.
    pub suid: u8,
    /// The entities that may retrieve it.
    pub targets: Vec<AbsoluteId>,
}

/// Scope of an allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// This request.
    ThisRequest,
    /// This originator, for the lifetime of association and generation, except for creates of AEs
    /// and requests whose content names an originator.
    Originator,
}

/// Result of a chain of checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every module allowed it, with the narrowest scope of all.
    Allow(Allowance),
    /// A module denied it.
    Deny {
        /// The module.
        module: String,
        /// The Response Status Code, from 4000 to 5999.
        rsc: u16,
        /// The reason, for the originator.
        reason: String,
    },
    /// A module failed, so the request is refused.
    Failed {
        /// The module.
        module: String,
        /// The fault.
        fault: ModuleFault,
    },
}

/// Fault of a module call. It refuses only the current decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleFault {
    /// It exceeded its computing time.
    #[error("exceeded the time limit of a call: {} ms ({key})", limit.as_millis())]
    Deadline {
        /// The limit.
        limit: Duration,
        /// The option of the configuration that sets it.
        key: &'static str,
    },
    /// It exceeded its memory.
    #[error("exceeded the memory limit of a call: {limit} bytes (modules.memory-bytes)")]
    Memory {
        /// The limit, in bytes.
        limit: usize,
    },
    /// One of its tables became too large.
    #[error("exceeded the memory limit of a call: a table may have {limit} elements")]
    Table {
        /// The limit, which is fixed.
        limit: usize,
    },
    /// It trapped.
    #[error("trapped: {0}")]
    Trap(String),
    /// Its response violates the contract.
    #[error("returned a response that violates the contract: {0}")]
    InvalidResponse(String),
    /// The maximum number of concurrent calls was reached for too long.
    #[error("was not called: too many concurrent calls")]
    Busy,
    /// The sandbox could not be created.
    #[error("could not be started: {0}")]
    NoSandbox(String),
}

impl ModuleFault {
    /// The short names of all faults.
    pub const CAUSES: [&'static str; 6] =
        ["deadline", "memory", "trap", "invalid-response", "busy", "no-sandbox"];

    /// Returns a short name, for logs and counters.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Deadline { .. } => "deadline",
            Self::Memory { .. } | Self::Table { .. } => "memory",
            Self::Trap(_) => "trap",
            Self::InvalidResponse(_) => "invalid-response",
            Self::Busy => "busy",
            Self::NoSandbox(_) => "no-sandbox",
        }
    }
}
