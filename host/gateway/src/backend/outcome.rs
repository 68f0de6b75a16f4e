//! Input and output of a backend.

use std::sync::Arc;

use saegis_cse::Authority;
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::ResponsePrimitive;

/// The credential that a request counts for, and the authority of its association.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// The credential.
    pub credential: &'a CredentialId,
    /// The authority of its association.
    pub authority: &'a Arc<Authority>,
}

/// The response to a request, and whether it is from the CSE.
pub struct Outcome {
    /// The response.
    pub response: ResponsePrimitive,
    /// Whether the CSE itself responded. Then it has done exactly what the response confirms.
    pub is_answered: bool,
}
