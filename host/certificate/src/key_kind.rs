//! The kinds of keys in certificates.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::SignatureVerificationAlgorithm;
use webpki::aws_lc_rs as algorithms;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// A kind of key in certificates. The profile requires P-256 (TS-0003 clause 10.1.1.1); device
/// makers also use others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// secp256r1.
    P256,
    /// secp384r1.
    P384,
    /// RSA of 2048 to 8192 bits.
    Rsa,
}

impl KeyKind {
    /// All supported kinds.
    pub const ALL: [Self; 3] = [Self::P256, Self::P384, Self::Rsa];

    fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::Rsa => "RSA",
        }
    }

    /// Returns the kind of a public key, given as SubjectPublicKeyInfo in DER; `None` if it is not
    /// a key.
    ///
    /// # Errors
    /// Returns an error if the kind is not supported.
    pub fn of_key(spki: &[u8]) -> Option<Result<Self, UnsupportedKey>> {
        match SubjectPublicKeyInfo::from_der(spki) {
            Ok(([], key)) => Some(Self::of(&key)),
            _ => None,
        }
    }

    /// Returns the kind of a key. Curve points must be uncompressed.
    pub(crate) fn of(key: &SubjectPublicKeyInfo<'_>) -> Result<Self, UnsupportedKey> {
        const EC: &str = "1.2.840.10045.2.1";
        const RSA: &str = "1.2.840.113549.1.1.1";
        const P256: &str = "1.2.840.10045.3.1.7";
        const P384: &str = "1.3.132.0.34";
        const UNCOMPRESSED: u8 = 4;
        let curve = || {
            let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
            Some(curve.to_id_string())
        };
        let point = &*key.subject_public_key.data;
        let uncompressed = |length| point.len() == length && point.first() == Some(&UNCOMPRESSED);
        match (key.algorithm.algorithm.to_id_string().as_str(), curve().as_deref()) {
            (EC, Some(P256)) if uncompressed(65) => Ok(Self::P256),
            (EC, Some(P384)) if uncompressed(97) => Ok(Self::P384),
            (RSA, _) if (2048..=8192).contains(&modulus_bits(key)) => Ok(Self::Rsa),
            _ => Err(UnsupportedKey),
        }
    }

    pub(crate) fn algorithms(self) -> &'static [&'static dyn SignatureVerificationAlgorithm] {
        type Algorithms = &'static [&'static dyn SignatureVerificationAlgorithm];
        static P256: Algorithms = &[algorithms::ECDSA_P256_SHA256];
        static P384: Algorithms = &[
            algorithms::ECDSA_P256_SHA384,
            algorithms::ECDSA_P384_SHA256,
            algorithms::ECDSA_P384_SHA384,
        ];
        static RSA: Algorithms = &[
            algorithms::RSA_PKCS1_2048_8192_SHA256,
            algorithms::RSA_PKCS1_2048_8192_SHA384,
            algorithms::RSA_PKCS1_2048_8192_SHA512,
            algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
            algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
            algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        ];
        match self {
            Self::P256 => P256,
            Self::P384 => P384,
            Self::Rsa => RSA,
        }
    }
}

/// Returns the length of an RSA key in bits; 0 if it cannot be parsed.
fn modulus_bits(key: &SubjectPublicKeyInfo<'_>) -> usize {
    let Ok(PublicKey::RSA(rsa)) = key.parsed() else { return 0 };
    let zeros = rsa.modulus.iter().take_while(|byte| **byte == 0).count();
    let first = rsa.modulus.get(zeros).map_or(0, |byte| byte.leading_zeros() as usize);
    ((rsa.modulus.len() - zeros) * 8).saturating_sub(first)
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KeyKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let all = Self::ALL.map(Self::name).join(", ");
            format!("is not a kind of keys; supported: {all}")
        })
    }
}

/// The error for a key of an unsupported kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is neither P-256 or P-384 with an uncompressed point nor RSA of 2048 to 8192 bits")]
pub struct UnsupportedKey;
