//! Tokens that tests sign, including those that no library would.

use std::time::{SystemTime, UNIX_EPOCH};

use openssl::base64::encode_block;
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::sha::sha256;
use openssl::sign::Signer;
use serde_json::{Value, json};

/// An issuer of tokens, with a key of P-256.
pub struct TokenIssuer {
    key: EcKey<Private>,
}

/// Returns a text in base64url.
#[must_use]
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    encode_block(bytes.as_ref()).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

impl TokenIssuer {
    /// Creates an issuer with a new key.
    ///
    /// # Panics
    /// Panics if OpenSSL fails.
    #[must_use]
    pub fn new() -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("P-256");
        Self { key: EcKey::generate(&group).expect("a key") }
    }

    /// Returns the public key in PEM.
    ///
    /// # Panics
    /// Panics if OpenSSL fails.
    #[must_use]
    pub fn public_pem(&self) -> String {
        let pem = self.key.public_key_to_pem().expect("a public key");
        String::from_utf8(pem).expect("PEM is ASCII")
    }

    /// Returns the private key in PEM (PKCS #8).
    ///
    /// # Panics
    /// Panics if OpenSSL fails.
    #[must_use]
    pub fn private_pem(&self) -> String {
        let key = PKey::from_ec_key(self.key.clone()).expect("a key");
        let pem = key.private_key_to_pem_pkcs8().expect("a private key");
        String::from_utf8(pem).expect("PEM is ASCII")
    }

    /// Signs a payload with ES256.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_text(r#"{"typ":"JWT","alg":"ES256"}"#, &claims.to_string())
    }

    /// Signs any header and payload with the key, whatever the header says.
    ///
    /// # Panics
    /// Panics if OpenSSL fails.
    #[must_use]
    pub fn sign_text(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", base64url(header), base64url(payload));
        let signature =
            EcdsaSig::sign(&sha256(message.as_bytes()), &self.key).expect("a signature");
        let [r, s] = [signature.r(), signature.s()].map(|n| n.to_vec_padded(32).expect("32 bytes"));
        format!("{message}.{}", base64url([r, s].concat()))
    }

    /// Returns a token with a MAC, whose secret is the text of the public key.
    ///
    /// # Panics
    /// Panics if OpenSSL fails.
    #[must_use]
    pub fn mac(&self, claims: &Value) -> String {
        let header = r#"{"typ":"JWT","alg":"HS256"}"#;
        let message = format!("{}.{}", base64url(header), base64url(claims.to_string()));
        let secret = PKey::hmac(self.public_pem().as_bytes()).expect("a secret");
        let mut signer = Signer::new(MessageDigest::sha256(), &secret).expect("a MAC");
        let mac = signer.sign_oneshot_to_vec(message.as_bytes()).expect("a MAC");
        format!("{message}.{}", base64url(mac))
    }
}

impl Default for TokenIssuer {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the time in seconds since 1970.
///
/// # Panics
/// Panics before 1970.
#[must_use]
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs()
}

/// Returns the claims of a token of the issuer `das` for an AE of the CSE, valid for ten minutes.
#[must_use]
pub fn token_claims(id: &str, ae: &str, permissions: &Value) -> Value {
    let now = unix_time();
    json!({
        "tkvr": "1.0.0", "iss": "das", "jti": id, "azp": format!("//in.provider.com/mn-cse-123456/{ae}"),
        "aud": ["//in.provider.com/mn-cse-123456"], "nbf": now - 60, "exp": now + 600,
        "tkps": {"pm": permissions},
    })
}
