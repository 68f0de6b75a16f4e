//! The reasons why an operation on a resource fails.

use crate::error::Refusal;
use crate::notification::awaiting::AwaitedResource;
use crate::notification::verification::Unverified;

/// The reason why an operation is not executed.
#[derive(Debug)]
pub(crate) enum OperationError {
    /// The request is refused.
    Refused(Refusal),
    /// The targets of a subscription must be verified first.
    Unverified(Box<Unverified>),
    /// The request waits for another one.
    Awaits(Box<AwaitedResource>),
}

impl OperationError {
    /// Returns the refusal for a path of execution on which targets cannot be verified.
    pub(crate) fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Unverified(unverified) if unverified.blocks.is_some() => Refusal::Awaits,
            Self::Unverified(_) => Refusal::Unverified,
            Self::Awaits(_) => Refusal::Awaits,
        }
    }
}

impl<E: Into<Refusal>> From<E> for OperationError {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}
