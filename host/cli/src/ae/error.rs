//! Errors of `saegis ae`.

use saegis_client::SessionError;
use saegis_onem2m::rsc::Rsc;
use saegis_policy::Faults;

use crate::token::TokenCommandError;

/// Error of a request of an AE.
#[derive(Debug, thiserror::Error)]
pub enum AeError {
    /// The configuration is invalid.
    #[error("{0}")]
    Config(#[from] Faults),
    /// The verb needs another binding.
    #[error(
        "watch needs --binding websocket, mqtt or coap: over HTTP the registrar CSE sends no requests"
    )]
    Binding,
    /// A token cannot be read.
    #[error("{0}")]
    Token(#[from] TokenCommandError),
    /// The association could not be established, or was closed.
    #[error("{0}")]
    Session(#[from] SessionError),
    /// The registrar rejected the request.
    #[error("refused with {rsc}: {why}")]
    Refused {
        /// Response Status Code.
        rsc: Rsc,
        /// Reason that the registrar gave.
        why: String,
    },
    /// The MEF refused a request for a certificate.
    #[error("the MEF refused {operation} with {status}: {why}")]
    NotEnrolled {
        /// Operation of EST.
        operation: &'static str,
        /// HTTP status.
        status: u16,
        /// Reason that the MEF gave.
        why: String,
    },
}

impl AeError {
    /// Adds the probable cause to the error of an association with this TLS version. In TLS 1.3, a server
    /// refuses a certificate after the handshake of the client.
    pub fn explained(self, protocol: &str) -> Self {
        match self {
            Self::Session(SessionError::Broken(why)) if protocol == "TLSv1.3" => broken(format!(
                "{why}; in TLS 1.3 this is how the other end refuses a certificate that is expired, \
                 revoked, of an unknown authority, or of no entity"
            )),
            other => other,
        }
    }

    /// The process's exit code: 2 for a wrong configuration or argument, 3 for no association, 4 for a
    /// refusal.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Binding | Self::Token(_) => 2,
            Self::Session(_) => 3,
            Self::Refused { .. } | Self::NotEnrolled { .. } => 4,
        }
    }
}

/// Creates the error of an association that was closed or is not usable.
pub fn broken(why: String) -> AeError {
    AeError::Session(SessionError::Broken(why))
}
