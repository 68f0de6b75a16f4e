//! The compact serialization of a JWS (RFC 7515 clause 7.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use crate::json::read_json;
use crate::key::{Algorithm, VerificationKey};

/// Maximum length of a token, in bytes.
pub const MAX_JWS: usize = 8 << 10;

/// The reason why a text is not a valid token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// It is longer than [`MAX_JWS`].
    #[error("is longer than {MAX_JWS} bytes")]
    TooLong,
    /// It does not consist of header, payload and signature.
    #[error("is not a signed token: it needs a header, a payload and a signature in base64url")]
    Form,
    /// A part of it is not unambiguous JSON.
    #[error(
        "has a header or a payload that is not JSON with unique names, or is nested too deeply"
    )]
    Json,
    /// The header has another form, an unknown member, or an algorithm that is not supported.
    #[error("has an unsupported header: it may have alg (ES256 or ES384), typ (JWT) and kid")]
    Header,
    /// No given key has the algorithm, and the name of the key in the header.
    #[error("names a key or an algorithm that its issuer does not have")]
    Key,
    /// No given key verifies the signature.
    #[error("has a signature that no key of its issuer verifies")]
    Signature,
}

impl JwsError {
    /// Returns whether the text has not the form of a token.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        matches!(self, Self::TooLong | Self::Form | Self::Json)
    }
}

/// The protected header. A member such as `crit` or `jwk` would change the meaning, so no other is
/// accepted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
}

/// A token whose signature is not verified yet.
pub struct UnverifiedJws<'t> {
    /// Header and payload, as they were signed.
    message: &'t str,
    signature: &'t str,
    payload: Value,
    algorithm: Algorithm,
    /// Name of the key, if the token has one.
    key_id: Option<String>,
}

impl<'t> UnverifiedJws<'t> {
    /// Reads a token.
    ///
    /// # Errors
    /// Returns an error if its length, its form or its header is not that of a signed token.
    pub fn read(token: &'t str) -> Result<Self, JwsError> {
        if token.len() > MAX_JWS {
            return Err(JwsError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(JwsError::Form)?;
        let (header, payload) = message.split_once('.').ok_or(JwsError::Form)?;
        if payload.contains('.') {
            return Err(JwsError::Form);
        }
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsError::Form);
        let (header, payload) = (decode(header)?, decode(payload)?);
        let header = read_json(&header).map_err(|_| JwsError::Json)?;
        // serde reads a list as the members of an object, in order.
        if !header.is_object() {
            return Err(JwsError::Json);
        }
        let header = Header::deserialize(header).map_err(|_| JwsError::Header)?;
        let is_jwt = header.typ.is_none_or(|typ| typ.eq_ignore_ascii_case("JWT"));
        let algorithm = Algorithm::from_name(&header.alg).filter(|_| is_jwt);
        let algorithm = algorithm.ok_or(JwsError::Header)?;
        if signature.is_empty() || decode(signature).is_err() {
            return Err(JwsError::Form);
        }
        let payload = read_json(&payload).map_err(|_| JwsError::Json)?;
        Ok(Self { message, signature, payload, algorithm, key_id: header.kid })
    }

    /// Returns the payload, whose origin is unknown. It serves to find the keys of the issuer.
    #[must_use]
    pub fn unverified_payload(&self) -> &Value {
        &self.payload
    }

    /// Returns the name of the key, if the token has one.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Returns the algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the payload if one of these keys verifies the signature. A token that names its key is
    /// only verified with the key of that name.
    ///
    /// # Errors
    /// Returns an error if none does.
    pub fn verify<'k>(
        self,
        keys: impl IntoIterator<Item = &'k VerificationKey>,
    ) -> Result<Value, JwsError> {
        let (message, signature) = (self.message.as_bytes(), self.signature);
        let key_id = self.key_id.as_deref();
        let fits = |key: &&VerificationKey| {
            key.algorithm() == self.algorithm && (key_id.is_none() || key.id() == key_id)
        };
        let mut keys = keys.into_iter().filter(fits).peekable();
        if keys.peek().is_none() {
            return Err(JwsError::Key);
        }
        match keys.any(|key| key.verifies(message, signature)) {
            true => Ok(self.payload),
            false => Err(JwsError::Signature),
        }
    }
}

#[cfg(test)]
#[path = "jws_tests.rs"]
mod tests;
