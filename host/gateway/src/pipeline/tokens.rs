//! Tokens in requests (`tkns`, TS-0003 clause 7.3.2).
//!
//! A request with a token that is not valid is refused: its originator relies on the token. Without a
//! policy file of issuers, the embedded CSE has no valid token, and a CSE behind the gateway receives
//! none.

use std::time::{Instant, SystemTime};

use saegis_onem2m::parameter::Parameter;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_policy::Generation;
use zeroize::Zeroizing;

use super::{Handler, Refusal};
use crate::telemetry::audit::authorization;

/// Maximum number of tokens of a request. Each of them can cost the verification of a signature.
const MAX_TOKENS: usize = 4;

impl Handler {
    /// Verifies the tokens of a checked request for this CSE. A CSE behind the gateway trusts its
    /// requests, so it receives verified tokens only.
    pub(super) fn verify_tokens(
        &self,
        generation: &Generation,
        request: &mut RequestPrimitive,
    ) -> Result<(), Refusal> {
        // A deferred request was given tokens when it was accepted.
        request.tokens.clear();
        if request.parameters.get(Parameter::Tokens).is_none() {
            return Ok(());
        }
        let is_embedded = self.gateway.backend.embedded().is_some();
        if !is_embedded && generation.token_issuers().is_none() {
            drop(request.parameters.take(Parameter::Tokens).map(Zeroizing::new));
            return Ok(());
        }
        let started = Instant::now();
        let verified = self.verify_each(generation, request);
        let credential = &self.session.active.association.credential_id;
        self.gateway.usage.charge(credential, started.elapsed());
        verified
    }

    /// Adds to a denial by the embedded CSE where the originator can request a token, if an issuer has
    /// an address (TS-0001 clause 11.5.3).
    pub(super) fn invite_token_request(
        &self,
        generation: &Generation,
        denial: ResponsePrimitive,
    ) -> ResponsePrimitive {
        let addresses = generation.token_addresses();
        if self.gateway.backend.embedded().is_none() || addresses.is_empty() {
            return denial;
        }
        denial.with_token_request(addresses)
    }

    fn verify_each(
        &self,
        generation: &Generation,
        request: &mut RequestPrimitive,
    ) -> Result<(), Refusal> {
        let association = &self.session.active.association;
        let (joined, now) = (request.parameters.get(Parameter::Tokens), SystemTime::now());
        let (joined, from) =
            (joined.unwrap_or_default(), request.from.as_deref().unwrap_or_default());
        if joined.split('+').count() > MAX_TOKENS {
            let why = format!("the request has more than {MAX_TOKENS} tokens");
            return Err((Rsc::BadRequest, why));
        }
        let mut tokens = Vec::new();
        for token in joined.split('+') {
            let verified =
                generation.verify_token(association, from, token, now).map_err(|error| {
                    let rsc = match error.is_malformed() {
                        true => Rsc::BadRequest,
                        false => Rsc::OriginatorHasNoPrivilege,
                    };
                    (rsc, format!("a token {error}"))
                })?;
            tokens.push(verified);
        }
        request.tokens = tokens;
        authorization::tokens_accepted(association, request);
        Ok(())
    }
}
