//! Queries to the policy, and their outcomes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use saegis_certificate::Flavour;
use saegis_onem2m::credential::{Credential, Entity};
use saegis_onem2m::id::{AbsoluteId, CredentialId};

use crate::data::service_subscription::Subscription;

/// The look-up of a TLS-PSK handshake.
#[derive(Debug, Clone)]
pub struct PskQuery {
    /// The psk_identity.
    pub psk_identity: String,
    /// The server name indicated, in lower case.
    pub server_name: Option<String>,
    /// The peer.
    pub peer: IpAddr,
}

/// A certificate, or a raw public key, that is believed and names neither an AE nor a CSE.
#[derive(Debug, Clone)]
pub struct CertificateQuery {
    /// Its flavour: a device's, a node's, or a raw public key.
    pub flavour: Flavour,
    /// Its Credential-ID.
    pub credential_id: CredentialId,
    /// The server name indicated, in lower case.
    pub server_name: Option<String>,
    /// The peer.
    pub peer: IpAddr,
    /// The rules of the service subscription that count.
    pub rules: Rules,
}

/// The outcome of mapping a certificate.
pub enum Mapping {
    /// It stands for that entity.
    As {
        /// The entity.
        entity: Entity,
        /// From when on it no longer does, if that is sooner than the certificate's end.
        expires: Option<SystemTime>,
    },
    /// No module claimed it.
    Unclaimed,
    /// A module refused it. The reason is for the log.
    Refused(Refusal),
    /// A module failed.
    Failed {
        /// The module.
        module: String,
        /// How.
        fault: ModuleFault,
    },
}

/// The outcome of a look-up.
pub enum Lookup {
    /// A module found the credential.
    Found(Credential),
    /// No module claimed the identity.
    Unclaimed,
    /// A module refused it. The reason is for the log.
    Refused(Refusal),
    /// A module failed.
    Failed {
        /// The module.
        module: String,
        /// How.
        fault: ModuleFault,
    },
}

/// A module's refusal of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The module.
    pub module: String,
    /// Its reason, fit for a log.
    pub reason: String,
}

/// The source of the rules of the service subscription.
#[derive(Debug, Clone, Default)]
pub enum Rules {
    /// In the generation, from its policy file.
    #[default]
    OfGeneration,
    /// Here; none, where there is no service subscription.
    Given(Option<Arc<Subscription>>),
}

/// A create of an AE, for the registration check.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The From as written.
    pub from: Option<String>,
    /// The App-ID.
    pub app_id: String,
    /// The rules that count.
    pub rules: Rules,
    /// Where another CSE announces the AE: the AE's Credential-ID there, which is empty where it has
    /// no security association.
    pub announced: Option<String>,
}

/// A registration of a key at a MAF, for the check of it.
#[derive(Debug, Clone)]
pub struct KeyRegistration {
    /// The security usage of the key.
    pub suid: u8,
    /// The entities that may retrieve it.
    pub targets: Vec<AbsoluteId>,
}

/// How far an allowance holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// For this request.
    ThisRequest,
    /// For this originator, as long as association and generation last, but for creates of AEs
    /// and requests whose content names an originator.
    Originator,
}

/// The outcome of a chain of checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every module allowed it; the allowance is the narrowest of theirs.
    Allow(Allowance),
    /// A module denied it.
    Deny {
        /// The module.
        module: String,
        /// The Response Status Code, from 4000 to 5999.
        rsc: u16,
        /// The reason, for the originator to read.
        reason: String,
    },
    /// A module failed, and so the request is refused.
    Failed {
        /// The module.
        module: String,
        /// How.
        fault: ModuleFault,
    },
}

/// How a call of a module failed. Each is a refusal of that one decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleFault {
    /// It used more computing time than a call may.
    #[error("took longer than a call may")]
    Deadline,
    /// It wanted more memory than a call may have.
    #[error("wanted more memory than a call may have")]
    Memory,
    /// It trapped.
    #[error("trapped: {0}")]
    Trap(String),
    /// It answered something that the contract does not allow.
    #[error("gave an answer that is against the contract: {0}")]
    InvalidResponse(String),
    /// As many calls as may be were under way, and stayed so.
    #[error("was not asked: too many calls are under way")]
    Busy,
    /// No sandbox could be made.
    #[error("could not be started: {0}")]
    NoSandbox(String),
}

impl ModuleFault {
    /// A short name, for logs and counters.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Trap(_) => "trap",
            Self::InvalidResponse(_) => "invalid-response",
            Self::Busy => "busy",
            Self::NoSandbox(_) => "no-sandbox",
        }
    }
}
