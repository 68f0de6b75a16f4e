//! Trust: anchors with the flavors that each may issue, revocation lists, and pinned public keys.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor};
use webpki::{CertRevocationList, OwnedCertRevocationList};

use crate::flavour::Flavour;
use crate::identity::Names;
use crate::key_kind::KeyKind;
use crate::parsed::ParsedCertificate;
use crate::public_key::PublicKeyId;
use crate::rejection::Rejection;
use crate::summary::list_times;
use crate::verified_chains::VerifiedChains;

/// The reason why a trust anchor cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// The certificate cannot be parsed.
    #[error("{0}")]
    Unreadable(Rejection),
    /// The certificate is not that of a certification authority.
    #[error("is not the certificate of a certification authority (basic constraints: CA)")]
    NoAuthority,
    /// The anchor is for CSEs and servers, whose domain names cannot be distinguished.
    #[error(
        "cannot issue both cse-id and fqdn, which cannot be distinguished; use two authorities"
    )]
    LookAlike,
    /// The anchor may issue no flavor.
    #[error("has no flavor that it may issue")]
    NoFlavour,
    /// A revocation list cannot be parsed.
    #[error("a revocation list cannot be parsed: {0}")]
    Crl(String),
}

/// A trust anchor.
pub struct Anchor {
    pub(crate) der: CertificateDer<'static>,
    /// Without its name constraints, which are checked together with all others.
    pub(crate) anchor: TrustAnchor<'static>,
    pub(crate) flavours: Vec<Flavour>,
    pub(crate) keys: Vec<KeyKind>,
    pub(crate) crls: Vec<CertRevocationList<'static>>,
    subject: Vec<u8>,
    not_after: SystemTime,
    /// Earliest end of validity of the revocation lists; `None` without lists.
    pub(crate) crls_until: Option<SystemTime>,
}

impl Anchor {
    /// Creates a trust anchor that may issue these flavors, with these kinds of keys in the chain,
    /// and with these revocation lists.
    ///
    /// # Errors
    /// Returns the reason why the anchor cannot be used.
    pub fn new(
        der: CertificateDer<'static>,
        flavours: &[Flavour],
        keys: &[KeyKind],
        crls: &[Vec<u8>],
    ) -> Result<Self, AnchorError> {
        let (subject, not_after) = {
            let read = ParsedCertificate::new(&der).map_err(AnchorError::Unreadable)?;
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
        // A result that depends on a list without an end must not be cached.
        let until = |der: &Vec<u8>| list_times(der).map_or(UNIX_EPOCH, |(_, until)| until);
        let crls_until = crls.iter().map(until).min();
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
            crls_until,
        })
    }

    /// Returns whether the anchor's subject is this issuer, in DER.
    pub(crate) fn is(&self, issuer: &[u8]) -> bool {
        self.subject == issuer
    }

    /// Returns the anchor's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Returns the flavors that the anchor may issue.
    #[must_use]
    pub fn flavours(&self) -> &[Flavour] {
        &self.flavours
    }

    /// Returns the end of the validity.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    pub(crate) fn algorithms(&self) -> Vec<&'static dyn SignatureVerificationAlgorithm> {
        self.keys.iter().flat_map(|kind| kind.algorithms()).copied().collect()
    }
}

/// A builder of [`Trust`].
pub struct TrustBuilder(Trust);

impl TrustBuilder {
    /// Creates a builder without anchors and keys, for a CSE with these names.
    #[must_use]
    pub fn new(own: Names) -> Self {
        Self(Trust {
            own,
            anchors: Vec::new(),
            keys: HashSet::new(),
            verified: VerifiedChains::default(),
        })
    }

    /// Adds a trust anchor.
    pub fn add_anchor(&mut self, anchor: Anchor) {
        self.0.anchors.push(anchor);
    }

    /// Pins a public key.
    pub fn add_key(&mut self, key: PublicKeyId) {
        self.0.keys.insert(key);
    }

    /// Returns the trust.
    #[must_use]
    pub fn build(self) -> Trust {
        self.0
    }
}

/// The trust anchors and pinned keys of this process.
pub struct Trust {
    pub(crate) own: Names,
    pub(crate) anchors: Vec<Anchor>,
    pub(crate) keys: HashSet<PublicKeyId>,
    pub(crate) verified: VerifiedChains,
}

impl Trust {
    /// Returns the trust anchors.
    #[must_use]
    pub fn anchors(&self) -> &[Anchor] {
        &self.anchors
    }

    /// Returns the number of pinned public keys.
    #[must_use]
    pub fn pinned_keys(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether any anchor allows this kind of key.
    #[must_use]
    pub fn allows(&self, kind: KeyKind) -> bool {
        kind == KeyKind::P256 || self.anchors.iter().any(|anchor| anchor.keys.contains(&kind))
    }

    /// Returns the subjects of the anchors, in DER, by which clients select a certificate.
    #[must_use]
    pub fn subjects(&self) -> Vec<Vec<u8>> {
        self.anchors.iter().map(|anchor| anchor.subject.clone()).collect()
    }
}
