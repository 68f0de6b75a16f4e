//! Why a resource is not created, updated, deleted or retrieved.

use crate::error::Refusal;
use crate::notification::verification::Unverified;

/// The reason why an operation is not carried out.
#[derive(Debug)]
pub(crate) enum OperationError {
    /// The request is refused.
    Refused(Refusal),
    /// The targets of a subscription have to be asked first.
    Unverified(Box<Unverified>),
}

impl OperationError {
    /// Returns the refusal where nobody can be asked.
    pub(crate) fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Unverified(_) => Refusal::Unverified,
        }
    }
}

impl<E: Into<Refusal>> From<E> for OperationError {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}
