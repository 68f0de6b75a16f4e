//! Why a request of an AE came to nothing.

use saegis_client::SessionError;
use saegis_onem2m::rsc::Rsc;
use saegis_policy::Faults;

/// Why an AE's request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum AeError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] Faults),
    /// The verb needs another binding.
    #[error("watch needs --binding websocket: over HTTP the registrar CSE sends no requests")]
    Binding,
    /// There is no association, or it broke.
    #[error("{0}")]
    Session(#[from] SessionError),
    /// The registrar refused.
    #[error("refused with {rsc}: {why}")]
    Refused {
        /// The Response Status Code.
        rsc: Rsc,
        /// What the registrar said.
        why: String,
    },
}

impl AeError {
    /// The process's exit code: 2 for a wrong configuration or argument, 3 for no association, 4 for a
    /// refusal.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Binding => 2,
            Self::Session(_) => 3,
            Self::Refused { .. } => 4,
        }
    }
}

/// An association that broke, or was not what it should be.
pub fn broken(why: String) -> AeError {
    AeError::Session(SessionError::Broken(why))
}
