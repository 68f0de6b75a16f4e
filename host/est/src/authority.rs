//! The certification authority: issues certificates by the profile of TS-0003 clause 10.1.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, PublicKeyData,
    SerialNumber, SigningKey,
};
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use saegis_certificate::{
    Anchor, Flavour, Identity, KeyKind, MAX_CERTIFICATE, MAX_CHAIN, Names, Purpose, Trust,
    TrustBuilder,
};
use saegis_onem2m::id::CseId;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroize as _;

use crate::certs_only;
use crate::request::PublicKey;
use crate::subject::SubjectName;

/// Time by which the validity of a certificate starts before its issue, because clocks differ.
const BACKDATED: Duration = Duration::from_secs(300);

/// The service provider whose AEs and CSEs are certified.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Domain name.
    pub domain: String,
    /// CSE-ID of the IN-CSE, whose label is in the domain names of CSEs.
    pub in_cse: Option<CseId>,
    /// CSE-ID in the addresses of the service itself.
    pub own: CseId,
}

/// The reason why an authority cannot be used, or issued no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The chain is empty, too long, or a certificate in it cannot be parsed.
    #[error("{0}")]
    Chain(&'static str),
    /// The certificate is not that of a certification authority.
    #[error("is not the certificate of a certification authority (basic constraints: CA)")]
    NoAuthority,
    /// The key usage does not permit to sign certificates.
    #[error("its key usage lacks keyCertSign")]
    KeyUsage,
    /// The key is not a P-256 key.
    #[error("its key is not a P-256 key")]
    KeyKind,
    /// The key cannot be used.
    #[error("the key cannot be used: it is not a P-256 key in PKCS #8 or SEC 1")]
    Key,
    /// The key does not belong to the certificate.
    #[error("the key does not belong to the certificate")]
    AnotherKey,
    /// The authority has expired or is not valid yet.
    #[error("the certificate of the authority has expired or is not valid yet")]
    NotValid,
    /// The certificate cannot be created.
    #[error("the certificate cannot be created: {0}")]
    Unissued(String),
    /// A gateway would reject the certificate.
    #[error("a gateway would reject the certificate: {0}")]
    Rejected(String),
}

/// An issued certificate.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// Its serial number in hexadecimal digits.
    pub serial: String,
    /// The end of its validity.
    pub not_after: SystemTime,
}

/// A certification authority. It has neither `Debug` nor `Clone`.
pub struct Authority {
    issuer: Issuer<'static, CaKey>,
    chain: Vec<CertificateDer<'static>>,
    validity: (SystemTime, SystemTime),
    lifetime: Duration,
    /// Verifies issued certificates as a gateway does.
    trust: Trust,
}

/// The key of the authority. The library for cryptography holds it.
struct CaKey {
    key: Arc<dyn rustls::sign::SigningKey>,
    public: PublicKey,
}

impl PublicKeyData for CaKey {
    fn der_bytes(&self) -> &[u8] {
        self.public.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for CaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signer = self.key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]);
        let signed = signer.and_then(|signer| signer.sign(message).ok());
        signed.ok_or(rcgen::Error::RemoteKeyError)
    }
}

impl Authority {
    /// Combines the certificate of an authority, followed by those above it, and its key.
    /// Certificates are valid for `lifetime`, and no longer than the authority.
    ///
    /// # Errors
    /// Returns the reason why they cannot be used now.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        mut key: PrivateKeyDer<'static>,
        provider: &Provider,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let signer = any_ecdsa_type(&key).map_err(|_| AuthorityError::Key);
        key.zeroize();
        let signer = signer?;
        if chain.is_empty() || chain.len() > MAX_CHAIN {
            return Err(AuthorityError::Chain("has no certificate, or too many"));
        }
        let mut until = None;
        for der in &chain {
            let read = parse(der)?;
            until = until.into_iter().chain([time(read.validity().not_after)]).min();
        }
        let [own, ..] = chain.as_slice() else { return Err(AuthorityError::NoAuthority) };
        let (from, public) = {
            let read = parse(own)?;
            if !read.is_ca() {
                return Err(AuthorityError::NoAuthority);
            }
            let usage = read.key_usage().map_err(|_| AuthorityError::KeyUsage)?;
            if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
                return Err(AuthorityError::KeyUsage);
            }
            if !matches!(KeyKind::of_key(read.public_key().raw), Some(Ok(KeyKind::P256))) {
                return Err(AuthorityError::KeyKind);
            }
            let point = &read.public_key().subject_public_key.data;
            (time(read.validity().not_before), PublicKey::of_point(point))
        };
        let certified = CertifiedKey::new(vec![own.clone()], signer.clone());
        certified.keys_match().map_err(|_| AuthorityError::AnotherKey)?;
        let trust = trust(own, provider)?;
        let issuer = Issuer::from_ca_cert_der(own, CaKey { key: signer, public });
        let issuer = issuer.map_err(|e| AuthorityError::Unissued(e.to_string()))?;
        let validity = (from, until.unwrap_or(UNIX_EPOCH));
        let authority = Self { issuer, chain, validity, lifetime, trust };
        authority.check_time(now)?;
        authority.check_issuer(now)?;
        Ok(authority)
    }

    /// Checks that the authority is valid.
    ///
    /// # Errors
    /// Fails if it has expired or is not valid yet.
    pub fn check_time(&self, now: SystemTime) -> Result<(), AuthorityError> {
        let (from, until) = self.validity;
        if now < from || now >= until { Err(AuthorityError::NotValid) } else { Ok(()) }
    }

    /// Returns the end of the authority's validity.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.validity.1
    }

    /// Returns the certificates of the authority in a certs-only message.
    pub(crate) fn certificates(&self) -> String {
        certs_only::write(&self.chain)
    }

    /// Issues a certificate, and verifies it as a gateway does.
    pub(crate) fn issue(
        &self,
        name: &SubjectName,
        key: &PublicKey,
        now: SystemTime,
    ) -> Result<Issued, AuthorityError> {
        self.check_time(now)?;
        let issued = self.sign(name, key, now)?;
        let rejected = |why: String| Err(AuthorityError::Rejected(why));
        let chain = std::slice::from_ref(&issued.der);
        let verified = match self.trust.verify(chain, Purpose::Client, now) {
            Ok(verified) => verified,
            Err(rejection) => return rejected(rejection.to_string()),
        };
        let is_it = match (&verified.identity, name) {
            (Identity::Ae { absolute, .. }, SubjectName::AeId(own)) => absolute == own,
            (Identity::Cse { name, .. }, SubjectName::CseDomain(own)) => name == own,
            _ => false,
        };
        if is_it { Ok(issued) } else { rejected(format!("it proves {}", verified.identity)) }
    }

    fn sign(
        &self,
        name: &SubjectName,
        key: &PublicKey,
        now: SystemTime,
    ) -> Result<Issued, AuthorityError> {
        let unissued = |e: rcgen::Error| AuthorityError::Unissued(e.to_string());
        let (from, until) = self.validity;
        let not_after = now.checked_add(self.lifetime).unwrap_or(until).min(until);
        // A positive number with 127 random bits (RFC 5280 clause 4.1.2.2).
        let serial = (rand::random::<u128>() >> 1).to_be_bytes();
        let mut params = CertificateParams::default();
        params.not_before = now.checked_sub(BACKDATED).unwrap_or(from).max(from).into();
        params.not_after = not_after.into();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.distinguished_name = name.to_subject();
        params.subject_alt_names = vec![name.to_san().map_err(unissued)?];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // An AE or CSE is also the server of the associations in which it is notified.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer).map_err(unissued)?;
        let der = certificate.der().clone();
        if der.len() > MAX_CERTIFICATE {
            return Err(AuthorityError::Unissued("it is too large".into()));
        }
        Ok(Issued { der, serial: hex::encode(serial), not_after })
    }

    /// Checks that certificates name the authority as it names itself, byte for byte. Otherwise a
    /// gateway would not find the issuer.
    fn check_issuer(&self, now: SystemTime) -> Result<(), AuthorityError> {
        let sample = SubjectName::CseDomain("sample.invalid".into());
        let sample = self.sign(&sample, &self.issuer.key().public, now)?;
        let own = self.chain.first().ok_or(AuthorityError::NoAuthority)?;
        if parse(&sample.der)?.issuer().as_raw() == parse(own)?.subject().as_raw() {
            Ok(())
        } else {
            Err(AuthorityError::Chain("its subject has a form that is not supported"))
        }
    }
}

/// Returns trust in the authority, for the certificates that it issues.
fn trust(own: &CertificateDer<'static>, provider: &Provider) -> Result<Trust, AuthorityError> {
    let mut names = Names::of(provider.own.clone(), Some(provider.domain.clone()));
    names.in_cse.clone_from(&provider.in_cse);
    names.of_any_cse = true;
    let mut trust = TrustBuilder::new(names);
    let flavours = [Flavour::AeId, Flavour::CseId];
    let anchor = Anchor::new(own.clone(), &flavours, &[KeyKind::P256], &[]);
    trust.add_anchor(anchor.map_err(|e| AuthorityError::Rejected(e.to_string()))?);
    Ok(trust.build())
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, AuthorityError> {
    match X509Certificate::from_der(der) {
        Ok(([], read)) if der.len() <= MAX_CERTIFICATE => Ok(read),
        _ => Err(AuthorityError::Chain("has a certificate that cannot be parsed")),
    }
}

/// Converts a time. A time before 1970 becomes 1970.
fn time(at: x509_parser::time::ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(at.timestamp()).unwrap_or(0))
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
