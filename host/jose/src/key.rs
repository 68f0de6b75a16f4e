//! Public keys of issuers.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use saegis_certificate::KeyKind;
use saegis_certificate::pem::{self, Item};

use crate::json::read_json;

/// First byte of an uncompressed point of a curve.
const UNCOMPRESSED: u8 = 4;

/// A signature algorithm (RFC 7518 clause 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
}

impl Algorithm {
    /// All supported algorithms.
    pub const ALL: [Self; 2] = [Self::Es256, Self::Es384];

    /// Returns the registered name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
        }
    }

    /// Returns the algorithm with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Returns the length of a coordinate of its curve, in bytes.
    fn coordinate_length(self) -> usize {
        match self {
            Self::Es256 => 32,
            Self::Es384 => 48,
        }
    }

    pub(crate) fn of_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The reason why a text is not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It does not have exactly one public key.
    #[error("must be one public key in PEM (BEGIN PUBLIC KEY), or a JWK")]
    NoPublicKey,
    /// The key has a kind without an algorithm.
    #[error("must be a key of P-256 or P-384")]
    Kind,
}

/// Length of the text of a public key, in bytes.
const MAX_TEXT: usize = 4 << 10;

/// A public key that verifies signatures of one algorithm.
#[derive(Debug, Clone)]
pub struct VerificationKey {
    id: Option<Box<str>>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl VerificationKey {
    /// Parses a public key: a SubjectPublicKeyInfo in PEM, or a JWK (RFC 7517).
    ///
    /// # Errors
    /// Returns an error if it is not one public key, or its kind is not supported.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_TEXT {
            return Err(KeyError::NoPublicKey);
        }
        let spki = match text.trim_start().starts_with('{') {
            true => return Self::from_jwk(text),
            false => pem::items(text.as_bytes()).map_err(|_| KeyError::NoPublicKey)?,
        };
        let [Item::PublicKey(spki)] = spki.as_slice() else { return Err(KeyError::NoPublicKey) };
        let algorithm = match KeyKind::of_key(spki) {
            Some(Ok(KeyKind::P256)) => Algorithm::Es256,
            Some(Ok(KeyKind::P384)) => Algorithm::Es384,
            Some(Ok(KeyKind::Rsa) | Err(_)) => return Err(KeyError::Kind),
            None => return Err(KeyError::NoPublicKey),
        };
        // The point is the end of a SubjectPublicKeyInfo. Its length was checked with its kind.
        let length = 1 + 2 * algorithm.coordinate_length();
        let point = spki.len().checked_sub(length).and_then(|at| spki.get(at..));
        let key = DecodingKey::from_ec_der(point.ok_or(KeyError::NoPublicKey)?);
        Ok(Self { id: None, algorithm, key })
    }

    fn from_jwk(text: &str) -> Result<Self, KeyError> {
        let jwk = read_json(text.as_bytes()).map_err(|_| KeyError::NoPublicKey)?;
        // A private key does not belong among the public ones.
        if jwk.get("d").is_some() {
            return Err(KeyError::NoPublicKey);
        }
        let member = |name| jwk.get(name).and_then(serde_json::Value::as_str);
        let algorithm = match (member("kty"), member("crv")) {
            (Some("EC"), Some("P-256")) => Algorithm::Es256,
            (Some("EC"), Some("P-384")) => Algorithm::Es384,
            (Some(_), _) => return Err(KeyError::Kind),
            (None, _) => return Err(KeyError::NoPublicKey),
        };
        let mut point = vec![UNCOMPRESSED];
        for name in ["x", "y"] {
            let coordinate = member(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
            let has_length = |bytes: &Vec<u8>| bytes.len() == algorithm.coordinate_length();
            point.extend(coordinate.filter(has_length).ok_or(KeyError::NoPublicKey)?);
        }
        let id = member("kid").map(Into::into);
        Ok(Self { id, algorithm, key: DecodingKey::from_ec_der(&point) })
    }

    /// Sets the name of the key. A token names it in `kid`.
    #[must_use]
    pub fn with_id(self, id: &str) -> Self {
        Self { id: Some(id.into()), ..self }
    }

    /// Returns the name of the key, if it has one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Returns the algorithm of its signatures.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns whether a signature, in base64, is that of a message.
    pub(crate) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let algorithm = self.algorithm.of_library();
        jsonwebtoken::crypto::verify(signature, message, &self.key, algorithm).unwrap_or(false)
    }
}
