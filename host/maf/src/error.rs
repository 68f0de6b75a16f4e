//! Why a request is refused: the Response Status Code, and the reason that the client is told.

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
    /// A Release Version Indicator that is not spoken here.
    #[error("the release version is not supported")]
    Release,
    /// The request says that it is of no use any more, or a time that is none.
    #[error(transparent)]
    Time(#[from] TimeFault),
    /// A parameter that is not supported.
    #[error("the parameter {0} is not supported")]
    Parameter(saegis_onem2m::parameter::Parameter),
    /// A Response Type, a Result Content or Filter Criteria.
    #[error("a request to a MAF has no response type, result content or filter criteria")]
    Options,
    /// Nothing is there for this client. Unknown, expired, removed, and for somebody else are one.
    #[error("there is no such resource for the originator")]
    NotFound,
    /// The operation makes no sense there.
    #[error("the operation is not allowed there")]
    NotAllowed,
    /// A create of another type.
    #[error("a MAF has no resources of that type")]
    ResourceType,
    /// The content is wrong.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// An update of nothing.
    #[error("there is nothing in the content that could be updated")]
    NothingToUpdate,
    /// An SUID that no key of a MAF has.
    #[error("a key that a MAF distributes has an SUID from 32 to 35")]
    Suid,
    /// A key for one purpose that needs one target.
    #[error("a key with the SUID {0} has exactly one target, and not {1}")]
    Targets(u8, usize),
    /// A key that anybody can guess.
    #[error("the key value {0}")]
    GuessableKey(GuessableKey),
    /// An expirationTime that is over.
    #[error("the expirationTime is over")]
    Over,
    /// The client is not registered.
    #[error("the originator is not registered as a MAF client, or its registration has expired")]
    NotRegistered,
    /// The client is registered.
    #[error("the originator is registered as a MAF client already")]
    AlreadyRegistered,
    /// No key can be had of the session.
    #[error(
        "no key can be exported from this TLS session: it needs the extended master secret, or the request a key value"
    )]
    NoExport,
    /// The session's key was registered.
    #[error("the key of this TLS session was registered already: another needs another session")]
    SameSession,
    /// Over a limit.
    #[error("there are as many {0} as there may be")]
    Full(&'static str),
    /// The store failed. The client learns no more than that.
    #[error("the MAF's store failed")]
    Store(#[from] StoreError),
}

impl Refusal {
    /// The code to answer with.
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
            | Self::GuessableKey(_)
            | Self::Over => Rsc::BadRequest,
            Self::NotFound => Rsc::NotFound,
            Self::NotAllowed => Rsc::OperationNotAllowed,
            Self::ResourceType => Rsc::InvalidChildResourceType,
            Self::NotRegistered => Rsc::OriginatorHasNoPrivilege,
            Self::AlreadyRegistered => Rsc::OriginatorHasAlreadyRegistered,
            Self::NoExport => Rsc::SecurityAssociationRequired,
            Self::SameSession => Rsc::Conflict,
            Self::Full(_) => Rsc::NotAcceptable,
            Self::Store(_) => Rsc::InternalServerError,
        }
    }
}
