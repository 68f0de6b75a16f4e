//! Whom we believe: trust anchors, each with the flavours that it vouches for, revocation lists,
//! and pinned public keys.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor};
use webpki::{CertRevocationList, OwnedCertRevocationList, aws_lc_rs as algorithms};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::identity::{Flavour, Names};
use crate::public_key::PublicKeyId;
use crate::rejection::Rejection;
use crate::x509::Read;

/// The kinds of keys that certificates may have. The profile wants P-256 (TS-0003 clause 10.1.1.1);
/// makers of devices have others.
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
    /// All of them.
    pub const ALL: [Self; 3] = [Self::P256, Self::P384, Self::Rsa];

    fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::Rsa => "RSA",
        }
    }

    /// The kind of a public key, its SubjectPublicKeyInfo in DER; none, where it is no key.
    ///
    /// # Errors
    /// When it is of a kind that nobody may have.
    pub fn of_key(spki: &[u8]) -> Option<Result<Self, Rejection>> {
        match SubjectPublicKeyInfo::from_der(spki) {
            Ok(([], key)) => Some(Self::of(&key)),
            _ => None,
        }
    }

    /// The kind of a key. Points of curves must be uncompressed.
    pub(crate) fn of(key: &SubjectPublicKeyInfo<'_>) -> Result<Self, Rejection> {
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
            _ => Err(Rejection::OtherKey),
        }
    }

    fn algorithms(self) -> &'static [&'static dyn SignatureVerificationAlgorithm] {
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

/// How long an RSA key is; 0, if it can't be read.
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
            format!("is no kind of keys; there are: {all}")
        })
    }
}

/// A trust anchor that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// It can't be read.
    #[error("{0}")]
    Unreadable(Rejection),
    /// It is not that of a certification authority.
    #[error("is no certificate of a certification authority (basic constraints: CA)")]
    NoAuthority,
    /// Domain names of servers and of CSEs look alike.
    #[error("can't vouch for cse-id and for fqdn, for the two look alike; use two authorities")]
    LookAlike,
    /// It vouches for nothing.
    #[error("vouches for no flavour")]
    NoFlavour,
    /// A revocation list can't be read.
    #[error("a revocation list can't be read: {0}")]
    Crl(String),
}

/// A trust anchor.
pub struct Anchor {
    pub(crate) der: CertificateDer<'static>,
    /// Without its name constraints, which are judged with all others.
    pub(crate) anchor: TrustAnchor<'static>,
    pub(crate) flavours: Vec<Flavour>,
    pub(crate) keys: Vec<KeyKind>,
    pub(crate) crls: Vec<CertRevocationList<'static>>,
    subject: Vec<u8>,
    not_after: SystemTime,
}

impl Anchor {
    /// A trust anchor that vouches for those flavours, with keys of those kinds in the chain, and
    /// with those revocation lists, if any.
    ///
    /// # Errors
    /// Why it can't be used.
    pub fn new(
        der: CertificateDer<'static>,
        flavours: &[Flavour],
        keys: &[KeyKind],
        crls: &[Vec<u8>],
    ) -> Result<Self, AnchorError> {
        let (subject, not_after) = {
            let read = Read::new(&der).map_err(AnchorError::Unreadable)?;
            read.key_kind().map_err(AnchorError::Unreadable)?;
            if !read.certificate.is_ca() {
                return Err(AnchorError::NoAuthority);
            }
            (read.certificate.subject().as_raw().to_vec(), read.not_after())
        };
        if flavours.is_empty() {
            return Err(AnchorError::NoFlavour);
        }
        if flavours.contains(&Flavour::CseId) && flavours.contains(&Flavour::Fqdn) {
            return Err(AnchorError::LookAlike);
        }
        let anchor = webpki::anchor_from_trusted_cert(&der)
            .map_err(|e| AnchorError::Unreadable(e.into()))?;
        let anchor = TrustAnchor { name_constraints: None, ..anchor.to_owned() };
        let crls = crls.iter().map(|der| {
            let crl = OwnedCertRevocationList::from_der(der);
            crl.map(CertRevocationList::Owned).map_err(|e| AnchorError::Crl(e.to_string()))
        });
        let crls = crls.collect::<Result<_, _>>()?;
        Ok(Self {
            anchor,
            der,
            flavours: flavours.to_vec(),
            keys: keys.to_vec(),
            crls,
            subject,
            not_after,
        })
    }

    /// Whether it could be the issuer of that name, in DER.
    pub(crate) fn is(&self, issuer: &[u8]) -> bool {
        self.subject == issuer
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The flavours that it vouches for.
    #[must_use]
    pub fn flavours(&self) -> &[Flavour] {
        &self.flavours
    }

    /// From when on it is valid no more.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    pub(crate) fn algorithms(&self) -> Vec<&'static dyn SignatureVerificationAlgorithm> {
        self.keys.iter().flat_map(|kind| kind.algorithms()).copied().collect()
    }
}

/// Collects what is to be believed.
pub struct TrustBuilder(Trust);

impl TrustBuilder {
    /// Believes nobody yet, for a CSE of those names.
    #[must_use]
    pub fn new(own: Names) -> Self {
        Self(Trust { own, anchors: Vec::new(), keys: HashSet::new() })
    }

    /// Believes a trust anchor.
    pub fn add_anchor(&mut self, anchor: Anchor) {
        self.0.anchors.push(anchor);
    }

    /// Pins a public key.
    pub fn add_key(&mut self, key: PublicKeyId) {
        self.0.keys.insert(key);
    }

    /// What was collected.
    #[must_use]
    pub fn build(self) -> Trust {
        self.0
    }
}

/// Whom we believe.
pub struct Trust {
    pub(crate) own: Names,
    pub(crate) anchors: Vec<Anchor>,
    pub(crate) keys: HashSet<PublicKeyId>,
}

impl Trust {
    /// The trust anchors.
    #[must_use]
    pub fn anchors(&self) -> &[Anchor] {
        &self.anchors
    }

    /// How many public keys are pinned.
    #[must_use]
    pub fn pinned_keys(&self) -> usize {
        self.keys.len()
    }

    /// Whether chains may have keys of that kind by the word of any anchor.
    #[must_use]
    pub fn allows(&self, kind: KeyKind) -> bool {
        kind == KeyKind::P256 || self.anchors.iter().any(|anchor| anchor.keys.contains(&kind))
    }

    /// The subjects of the anchors, in DER, for clients that choose a certificate by them.
    #[must_use]
    pub fn subjects(&self) -> Vec<Vec<u8>> {
        self.anchors.iter().map(|anchor| anchor.subject.clone()).collect()
    }
}
