//! Why a notification came to nothing.

use http::StatusCode;
use saegis_client::NoAnswer;

/// Why a notification was not sent, or not answered.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No rule allows the address.
    #[error("no rule allows it (notifications.targets)")]
    NotAllowed,
    /// The name of the address leads nowhere.
    #[error("its name can't be resolved: {0}")]
    NoSuchName(std::io::Error),
    /// Too many names are being looked up.
    #[error("too many names are being looked up")]
    Busy,
    /// The connection fails.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// HTTP fails.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// There is no association with the AE.
    #[error("{0}")]
    NoAssociation(String),
    /// The AE has not opened a connection over which requests can be sent to it.
    #[error("the AE has no open connection")]
    NotConnected,
    /// There is no way to the CSE where the AE is.
    #[error("no way to that CSE is known")]
    NoWay,
    /// The other CSE gives no answer.
    #[error("{0}")]
    NoAnswer(#[from] NoAnswer),
    /// It took too long.
    #[error("there was no answer in time")]
    Late,
    /// What came is no response primitive.
    #[error("what was answered is no response: {0}")]
    NoResponse(String),
    /// What came is a response of HTTP and none of oneM2M.
    #[error("it answered {} without X-M2M-RSC", .0.as_u16())]
    NoStatusCode(StatusCode),
    /// A server that need not know oneM2M does not take it.
    #[error("it answered {}", .0.as_u16())]
    NotTaken(StatusCode),
    /// The answer says that it is somebody else's.
    #[error("the answer is in the name of {0:?}")]
    InAnotherName(String),
}

impl Failure {
    /// The reason for whoever named the address. It does not say what is behind an address to which
    /// no rule lets it send, nor whether a name exists in the gateway's network.
    pub fn for_originator(&self) -> String {
        match self {
            Self::NotAllowed | Self::NoSuchName(_) | Self::Busy => {
                "no rule of this CSE allows that address, or it can't be resolved".into()
            }
            Self::NotConnected => {
                "it has neither a reachable point of access nor an open connection".into()
            }
            Self::Io(_)
            | Self::Http(_)
            | Self::NoAssociation(_)
            | Self::NoWay
            | Self::NoAnswer(_) => "it can't be reached".into(),
            Self::Late => "it did not answer in time".into(),
            Self::NoResponse(_) => "it answered with no response primitive".into(),
            Self::InAnotherName(_) => "it answered in another's name".into(),
            Self::NoStatusCode(_) | Self::NotTaken(_) => self.to_string(),
        }
    }
}
