//! Private keys of issuers, and signing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use saegis_certificate::pem;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::jws::MAX_JWS;
use crate::key::Algorithm;

/// The reason why a token was not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The file does not have a private key that can sign.
    #[error(
        "has no private key of P-256 or P-384 in PKCS #8 (BEGIN PRIVATE KEY); create one with \
         openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"
    )]
    Key,
    /// The token would be refused for its length.
    #[error("would have more than {MAX_JWS} bytes")]
    TooLong,
}

/// A private key. It is cleared from memory when it is dropped, and has no `Debug`.
pub struct SigningKey {
    key: EncodingKey,
    algorithm: Algorithm,
}

impl SigningKey {
    /// Parses a private key in PEM.
    ///
    /// # Errors
    /// Returns an error if it is not a key of a supported algorithm.
    pub fn from_pem(text: &[u8]) -> Result<Self, SigningError> {
        let key = pem::private_key(text).map_err(|_| SigningError::Key)?;
        let key = EncodingKey::from_ec_der(key.secret_der());
        let signs = |algorithm: &Algorithm| {
            jsonwebtoken::crypto::sign(b"", &key, algorithm.of_library()).is_ok()
        };
        let algorithm = Algorithm::ALL.into_iter().find(signs).ok_or(SigningError::Key)?;
        Ok(Self { key, algorithm })
    }

    /// Returns the algorithm of its signatures.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Signs claims. `key_id` is the name of the key for the header.
    ///
    /// # Errors
    /// Returns an error if the token would be too long.
    pub fn sign(
        &self,
        claims: &Value,
        key_id: Option<&str>,
    ) -> Result<Zeroizing<String>, SigningError> {
        let alg = self.algorithm.name();
        let header = match key_id {
            Some(kid) => json!({"typ": "JWT", "alg": alg, "kid": kid}),
            None => json!({"typ": "JWT", "alg": alg}),
        };
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = Zeroizing::new(format!("{}.{}", part(&header), part(claims)));
        let algorithm = self.algorithm.of_library();
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, algorithm)
            .map_err(|_| SigningError::Key)?;
        let token = Zeroizing::new(format!("{}.{signature}", *message));
        if token.len() > MAX_JWS { Err(SigningError::TooLong) } else { Ok(token) }
    }
}
