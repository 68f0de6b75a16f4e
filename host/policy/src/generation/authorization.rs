//! The authorization of requests by a generation, beyond the decisions of its modules.

use std::time::SystemTime;

use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::credential::Entity;
use saegis_onem2m::primitive::RequestPrimitive;
use saegis_onem2m::role::AssignedRole;
use saegis_onem2m::routing::canonical_originator;
use saegis_onem2m::token::VerifiedToken;

use crate::data::token::TokenError;
use crate::generation::generation::Generation;

impl Generation {
    /// Returns the number of roles, or `None` without a file with roles.
    #[must_use]
    pub fn roles(&self) -> Option<usize> {
        self.roles.content.as_ref().map(|roles| roles.count())
    }

    /// Returns the roles that a request claims and that policy assigns to its originator. The caller
    /// has checked the originator.
    #[must_use]
    pub fn assigned_roles(
        &self,
        association: &SecurityAssociation,
        request: &RequestPrimitive,
    ) -> Vec<AssignedRole> {
        match (&self.roles.content, request.from.as_deref()) {
            (Some(roles), Some(from)) => roles.assigned(association, from, request.claimed_roles()),
            _ => Vec::new(),
        }
    }

    /// Returns the number of issuers of tokens, and that of revoked tokens. Returns `None` without a
    /// file with issuers.
    #[must_use]
    pub fn token_issuers(&self) -> Option<(usize, usize)> {
        self.token_issuers.content.as_ref().map(|issuers| issuers.counts())
    }

    /// Returns the addresses at which an originator can request a token.
    #[must_use]
    pub fn token_addresses(&self) -> &[String] {
        self.token_issuers.content.as_ref().map_or(&[], |issuers| issuers.addresses())
    }

    /// Verifies a token for the originator of a request. The caller has checked the originator.
    ///
    /// # Errors
    /// Returns the reason why the token is not valid for this request now.
    pub fn verify_token(
        &self,
        association: &SecurityAssociation,
        originator: &str,
        token: &str,
        now: SystemTime,
    ) -> Result<VerifiedToken, TokenError> {
        let issuers = self.token_issuers.content.as_ref().ok_or(TokenError::Issuer)?;
        let token = self.tokens.verify(issuers, token)?;
        // An AE-ID that a credential got by registering may belong to another AE later.
        if association.credential_entity() == &Entity::NotYetKnown {
            return Err(TokenError::Holder);
        }
        let provider = Some(&*issuers.service_provider);
        let originator = canonical_originator(&issuers.cse, provider, originator);
        token.check(&originator.ok_or(TokenError::Holder)?, now)?;
        Ok(token.verified.clone())
    }
}
