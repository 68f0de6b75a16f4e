//! The client side: a new key with its request, and the checks of what the service returned.

use std::time::SystemTime;

use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use saegis_certificate::{
    Anchor, Flavour, Identity, KeyKind, MAX_CERTIFICATE, Names, Purpose, TrustBuilder,
};
use saegis_onem2m::id::CseId;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

use crate::certs_only;
use crate::subject::SubjectName;

/// Maximum size of a response, in bytes.
pub const MAX_RESPONSE: usize = certs_only::MAX_MESSAGE;

/// The reason why a request cannot be created, or a certificate is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The request cannot be created.
    #[error("cannot create the request: {0}")]
    Unmade(String),
    /// A response is not a certs-only message.
    #[error("the response is not a message with certificates")]
    Malformed,
    /// The response has no certificate for the key of the request, or more than one certificate.
    #[error("the response has no certificate for the requested key")]
    AnotherKey,
    /// The certificate is not issued by the authority, or does not prove the requested name.
    #[error("the certificate is not acceptable: {0}")]
    Rejected(String),
}

/// Encodes DER in base64 with lines of 64 characters, as in PEM.
#[must_use]
pub fn base64_lines(der: &[u8]) -> String {
    certs_only::in_lines(der)
}

/// A new key, and the request for its certificate. It has neither `Debug` nor `Clone`.
pub struct NewKey {
    key: Zeroizing<String>,
    content: String,
    public: Vec<u8>,
}

impl NewKey {
    /// Generates a key, and the request for a certificate with this name.
    ///
    /// # Errors
    /// Fails if the name cannot be in a certificate.
    pub fn generate(name: &SubjectName) -> Result<Self, ClientError> {
        let unmade = |e: rcgen::Error| ClientError::Unmade(e.to_string());
        let key = KeyPair::generate().map_err(unmade)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name.to_subject();
        params.subject_alt_names = vec![name.to_san().map_err(unmade)?];
        let request = params.serialize_request(&key).map_err(unmade)?;
        Ok(Self {
            key: Zeroizing::new(key.serialize_pem()),
            content: certs_only::in_lines(request.der()),
            public: key.subject_public_key_info(),
        })
    }

    /// Returns the content of the request.
    #[must_use]
    pub fn content(&self) -> &str {
        &self.content
    }

    /// Returns the key in PEM.
    #[must_use]
    pub fn expose_pem(&self) -> &str {
        &self.key
    }

    /// Checks the responses to `simpleenroll` or `simplereenroll`, and to `cacerts`. Returns the
    /// certificate, followed by those of the authorities between it and their root.
    ///
    /// # Errors
    /// Fails if the certificate is not for this key, does not prove the name, or is not issued by
    /// the authority.
    pub fn accept(
        &self,
        name: &SubjectName,
        enrolled: &[u8],
        authorities: &[u8],
        now: SystemTime,
    ) -> Result<Vec<CertificateDer<'static>>, ClientError> {
        let message = certs_only::read(enrolled).ok_or(ClientError::Malformed)?;
        let [own] = message.as_slice() else { return Err(ClientError::AnotherKey) };
        let read = parse(own).ok_or(ClientError::Malformed)?;
        if read.public_key().raw != self.public {
            return Err(ClientError::AnotherKey);
        }
        let authorities = certs_only::read(authorities).ok_or(ClientError::Malformed)?;
        let mut chain = vec![own.clone()];
        chain.extend(authorities.iter().filter(|der| !is_root(der)).cloned());
        check(name, &chain, &authorities, now)?;
        Ok(chain)
    }
}

fn check(
    name: &SubjectName,
    chain: &[CertificateDer<'static>],
    authorities: &[CertificateDer<'static>],
    now: SystemTime,
) -> Result<(), ClientError> {
    let rejected = |why: &dyn std::fmt::Display| ClientError::Rejected(why.to_string());
    // The names of other entities are irrelevant here.
    let own = CseId::parse("enrollment-client").map_err(|e| rejected(&e))?;
    let mut names = Names::of(own, provider(name));
    names.of_any_cse = true;
    let mut trust = TrustBuilder::new(names);
    for der in authorities {
        let flavours = [Flavour::AeId, Flavour::CseId];
        let anchor = Anchor::new(der.clone(), &flavours, &KeyKind::ALL, &[]);
        trust.add_anchor(anchor.map_err(|e| rejected(&e))?);
    }
    let verified = trust.build().verify(chain, Purpose::Client, now).map_err(|e| rejected(&e))?;
    match (&verified.identity, name) {
        (Identity::Ae { absolute, .. }, SubjectName::AeId(own)) if absolute == own => Ok(()),
        (Identity::Cse { name, .. }, SubjectName::CseDomain(own)) if name == own => Ok(()),
        (other, _) => Err(rejected(&format!("it proves {other}, and not {name}"))),
    }
}

/// Returns the domain name of the service provider in a name.
fn provider(name: &SubjectName) -> Option<String> {
    match name {
        SubjectName::AeId(id) => {
            id.strip_prefix("//").and_then(|rest| rest.split('/').next()).map(Into::into)
        }
        SubjectName::CseDomain(name) => name.split_once('.').map(|(_, domain)| domain.into()),
    }
}

fn is_root(der: &[u8]) -> bool {
    parse(der).is_some_and(|read| read.issuer().as_raw() == read.subject().as_raw())
}

fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    match X509Certificate::from_der(der) {
        Ok(([], read)) if der.len() <= MAX_CERTIFICATE => Some(read),
        _ => None,
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
