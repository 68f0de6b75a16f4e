//! Errors of notifications.

use http::StatusCode;
use saegis_client::NoAnswer;

/// Error of a notification.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No rule allows the address.
    #[error("no rule allows the address (notifications.targets)")]
    NotAllowed,
    /// The name of the address cannot be resolved.
    #[error("cannot resolve its name: {0}")]
    NoSuchName(std::io::Error),
    /// The limit of concurrent name lookups is reached.
    #[error("too many concurrent name lookups")]
    Busy,
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The HTTP exchange failed.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// An association with the AE could not be established.
    #[error("{0}")]
    NoAssociation(String),
    /// The AE-ID belongs to another registration than the notification.
    #[error("the AE that it is for is no longer registered")]
    OtherRegistration,
    /// Policy no longer has the credential of the AE.
    #[error("policy no longer has the credential of the AE")]
    Revoked,
    /// The AE has not opened a connection over which requests can be sent to it.
    #[error("the AE has no open connection")]
    NotConnected,
    /// There is no route to the CSE of the AE.
    #[error("there is no route to that CSE")]
    NoWay,
    /// The peer CSE did not respond.
    #[error("{0}")]
    NoAnswer(#[from] NoAnswer),
    /// The target did not respond in time.
    #[error("timeout")]
    Late,
    /// The response is not a response primitive.
    #[error("the response is not a response primitive: {0}")]
    NoResponse(String),
    /// The response is an HTTP response without a oneM2M status.
    #[error("the target responded with {} and without X-M2M-RSC", .0.as_u16())]
    NoStatusCode(StatusCode),
    /// A target that does not implement oneM2M rejected the notification.
    #[error("the target responded with {}", .0.as_u16())]
    NotTaken(StatusCode),
    /// The From of the response does not match the AE.
    #[error("the From of the response is {0:?}")]
    InAnotherName(String),
}

impl Failure {
    /// Returns whether the notification can never be delivered.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::NotAllowed | Self::OtherRegistration | Self::Revoked)
    }

    /// Returns the reason for the AE that chose the address. It does not disclose the state of an
    /// address that no rule allows, nor whether a name exists in the network of the gateway.
    pub fn for_originator(&self) -> String {
        match self {
            Self::NotAllowed | Self::NoSuchName(_) | Self::Busy => {
                "no rule of this CSE allows that address, or it cannot be resolved".into()
            }
            Self::NotConnected => {
                "it has neither a reachable point of access nor an open connection".into()
            }
            Self::Io(_)
            | Self::Http(_)
            | Self::NoAssociation(_)
            | Self::OtherRegistration
            | Self::Revoked
            | Self::NoWay
            | Self::NoAnswer(_) => "it cannot be reached".into(),
            Self::Late => "it did not respond in time".into(),
            Self::NoResponse(_) => "its response is not a response primitive".into(),
            Self::InAnotherName(_) => "the From of its response does not match".into(),
            Self::NoStatusCode(_) | Self::NotTaken(_) => self.to_string(),
        }
    }
}
