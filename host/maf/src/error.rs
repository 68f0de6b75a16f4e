//! Refusals: the Response Status Code, and the reason that the client receives.

use saegis_onem2m::credential::GuessableKey;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::timestamp::TimeFault;

use crate::attributes::AttributeError;
use crate::store::StoreError;

/// A refusal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// From is not the client of the association, in its absolute form.
    #[error("From is not the absolute identifier that this association stands for")]
    NotTheCaller,
    /// The release version is not supported.
    #[error("the release version is not supported")]
    Release,
    /// The request has expired, or has a malformed time.
    #[error(transparent)]
    Time(#[from] TimeFault),
    /// The parameter is not supported.
    #[error("the parameter {0} is not supported")]
    Parameter(saegis_onem2m::parameter::Parameter),
    /// The request has a Response Type, a Result Content or Filter Criteria.
    #[error("a request to a MAF has no response type, result content or filter criteria")]
    Options,
    /// The client has no access to such a resource: unknown, expired, removed or another client's.
    #[error("there is no such resource for the originator")]
    NotFound,
    /// The target does not allow the operation.
    #[error("the target does not allow the operation")]
    NotAllowed,
    /// The create has another resource type.
    #[error("a MAF has no resources of that type")]
    ResourceType,
    /// The content is invalid.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// The update changes nothing.
    #[error("the content has nothing to update")]
    NothingToUpdate,
    /// The SUID is not one of a MAF's keys.
    #[error("a key that a MAF distributes has an SUID from 32 to 35")]
    Suid,
    /// The SUID requires exactly one target.
    #[error("a key with the SUID {0} has exactly one target, not {1}")]
    Targets(u8, usize),
    /// The SUID does not allow another target.
    #[error(
        "the target of a key with the SUID {0} cannot change, because the former target has the key; \
         register another key"
    )]
    FixedTarget(u8),
    /// Anybody can guess the key.
    #[error("the key value {0}")]
    GuessableKey(GuessableKey),
    /// The expirationTime is in the past.
    #[error("the expirationTime is in the past")]
    Over,
    /// The client is not registered.
    #[error("the originator is not registered as a MAF client, or its registration has expired")]
    NotRegistered,
    /// The client has no registration for the adminFQDN of a key.
    #[error("the originator is not registered as a MAF client for this adminFQDN")]
    NotRegisteredFor,
    /// The client is registered already.
    #[error("the originator is registered as a MAF client for this adminFQDN already")]
    AlreadyRegistered,
    /// Policy did not decide on the key registration as it is at this time.
    #[error("the key registration has changed since it was checked; try again")]
    NotDecided,
    /// The session cannot export a key.
    #[error(
        "cannot export a key from this TLS session: use the extended master secret, or send a key value"
    )]
    NoExport,
    /// The session's key was registered before.
    #[error(
        "the key of this TLS session was registered already; use another session for another key"
    )]
    SameSession,
    /// A limit is reached.
    #[error("the maximum number of {0} is reached")]
    Full(&'static str),
    /// The store failed. The client receives no details.
    #[error("the MAF's store failed")]
    Store(#[from] StoreError),
}

impl Refusal {
    /// Returns the Response Status Code.
    pub(crate) fn rsc(&self) -> Rsc {
        match self {
            Self::NotTheCaller => Rsc::OriginatorNotAuthenticated,
            Self::Release => Rsc::ReleaseVersionNotSupported,
            Self::Time(fault) => fault.rsc(),
            Self::Parameter(_) => Rsc::NotImplemented,
            Self::Options
            | Self::Attribute(_)
            | Self::NothingToUpdate
            | Self::Suid
            | Self::Targets(..)
            | Self::FixedTarget(_)
            | Self::GuessableKey(_)
            | Self::Over => Rsc::BadRequest,
            Self::NotFound => Rsc::NotFound,
            Self::NotAllowed => Rsc::OperationNotAllowed,
            Self::ResourceType => Rsc::InvalidChildResourceType,
            Self::NotRegistered | Self::NotRegisteredFor => Rsc::OriginatorHasNoPrivilege,
            Self::AlreadyRegistered => Rsc::OriginatorHasAlreadyRegistered,
            Self::NoExport => Rsc::SecurityAssociationRequired,
            Self::SameSession | Self::NotDecided => Rsc::Conflict,
            Self::Full(_) => Rsc::NotAcceptable,
            Self::Store(_) => Rsc::InternalServerError,
        }
    }
}
