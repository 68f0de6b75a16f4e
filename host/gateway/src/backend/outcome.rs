//! What a backend is given with a request, and what it returns.

use std::sync::Arc;

use saegis_cse::Authority;
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::ResponsePrimitive;

/// The credential that a request counts for, and the authority that it is carried out by.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// The credential.
    pub credential: &'a CredentialId,
    /// The authority of its association.
    pub authority: &'a Arc<Authority>,
}

/// The response to a request, and where it comes from.
pub struct Outcome {
    /// The response.
    pub response: ResponsePrimitive,
    /// Whether the CSE has given it: then it has done what it confirms, and has not done what it refuses.
    pub is_answered: bool,
}
