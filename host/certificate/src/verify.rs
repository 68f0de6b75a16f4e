//! Verification of chains and raw public keys.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth};
use webpki::{RevocationOptionsBuilder, UnknownStatusPolicy};
use x509_parser::extensions::GeneralName;

use crate::flavour::Flavour;
use crate::identity::{self, Identity};
use crate::limits::{MAX_CERTIFICATE, MAX_CHAIN};
use crate::parsed::ParsedCertificate;
use crate::public_key::PublicKeyId;
use crate::rejection::Rejection;
use crate::trust::{Anchor, Trust};
use crate::verified_chains::{ChainDigest, VerifiedChain};
use crate::verified_peer::VerifiedPeer;

/// The purpose for which a certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// The peer is a client of this process.
    Client,
    /// The peer is the server of a domain name, with a certificate of a flavor: a CSE or a MAF.
    Server {
        /// Domain name.
        name: &'a str,
        /// `CseId` or `Fqdn`.
        flavour: Flavour,
    },
    /// The peer is a server that is known as a client: an AE to which its registrar CSE connects
    /// (SA2 of TS-0003 clause 8.2).
    Known(&'a Identity),
}

impl Trust {
    /// Verifies a chain, the peer's own certificate first.
    ///
    /// # Errors
    /// Returns the reason why the chain is rejected.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        purpose: Purpose<'_>,
        now: SystemTime,
    ) -> Result<VerifiedPeer, Rejection> {
        if chain.is_empty() {
            return Err(Rejection::Missing);
        }
        if chain.len() > MAX_CHAIN {
            return Err(Rejection::TooLong(chain.len()));
        }
        if let Some(der) = chain.iter().find(|der| der.len() > MAX_CERTIFICATE) {
            return Err(Rejection::TooLarge(der.len()));
        }
        if purpose != Purpose::Client {
            return Ok(self.verify_chain(chain, purpose, now)?.peer);
        }
        let digest = ChainDigest::of(chain);
        if let Some(peer) = self.verified.get(&digest, now) {
            return Ok(peer);
        }
        let verified = self.verify_chain(chain, purpose, now)?;
        let peer = verified.peer.clone();
        self.verified.insert(digest, verified);
        Ok(peer)
    }

    /// Verifies a chain of at least one and at most [`MAX_CHAIN`] certificates.
    fn verify_chain(
        &self,
        chain: &[CertificateDer<'_>],
        purpose: Purpose<'_>,
        now: SystemTime,
    ) -> Result<VerifiedChain, Rejection> {
        let sent =
            chain.iter().map(|der| ParsedCertificate::new(der)).collect::<Result<Vec<_>, _>>()?;
        if self.anchors.is_empty() {
            return Err(Rejection::NoTrust);
        }
        // Each step goes from a certificate to its issuer, until an anchor is found.
        let mut path = vec![0_usize];
        let mut why = Rejection::UnknownIssuer;
        while let Some(last) = path.last().and_then(|at| sent.get(*at)) {
            let issuer = last.certificate.issuer().as_raw();
            for anchor in self.anchors.iter().filter(|anchor| anchor.is(issuer)) {
                let pick = |at: &usize| Some((chain.get(*at)?, sent.get(*at)?));
                let chain = path.clone();
                let path: Vec<_> = path.iter().filter_map(pick).collect();
                match self.verify_path(&path, anchor, purpose, now) {
                    Ok(mut verified) => {
                        verified.peer.chain = chain;
                        return Ok(verified);
                    }
                    Err(rejection) => why = rejection,
                }
            }
            // Each name has one issuer in the path. With several, webpki would try all their
            // orders, and a peer could cause needless work.
            let is_it =
                |read: &ParsedCertificate<'_>| read.certificate.subject().as_raw() == issuer;
            if path.iter().skip(1).filter_map(|at| sent.get(*at)).any(is_it) {
                break;
            }
            let next = sent.iter().enumerate().skip(1).find(|(_, read)| is_it(read));
            match next {
                Some((at, _)) => path.push(at),
                None => break,
            }
        }
        Err(why)
    }

    /// Verifies a raw public key, given as SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// Returns an error if the key is not pinned.
    pub fn verify_key(&self, spki: &[u8]) -> Result<VerifiedPeer, Rejection> {
        let ids = PublicKeyId::all_of(spki);
        let [whole, ..] = &ids;
        let unknown = || Rejection::UnknownKey(whole.to_string());
        let id = ids.iter().find(|id| self.keys.contains(id)).ok_or_else(unknown)?;
        Ok(VerifiedPeer {
            identity: Identity::PublicKey(id.clone()),
            until: None,
            chain: Vec::new(),
        })
    }

    /// Verifies a path, in which each certificate names the next as its issuer, and the last one
    /// the anchor.
    fn verify_path(
        &self,
        path: &[(&CertificateDer<'_>, &ParsedCertificate<'_>)],
        anchor: &Anchor,
        purpose: Purpose<'_>,
        now: SystemTime,
    ) -> Result<VerifiedChain, Rejection> {
        let [(der, end), above @ ..] = path else { return Err(Rejection::Missing) };
        let root = ParsedCertificate::new(&anchor.der)?;
        for read in path.iter().map(|(_, read)| *read).chain([&root]) {
            let kind = read.key_kind()?;
            if !anchor.keys.contains(&kind) {
                return Err(Rejection::Key(kind));
            }
        }
        let issuers: Vec<_> = above.iter().map(|(der, _)| (*der).clone()).collect();
        match webpki_path(der, &issuers, anchor, purpose, now) {
            Ok(()) => {}
            // webpki does not support URI constraints, and rejects all of them. They are checked
            // below, with the others. The signatures are verified here, so that the result does not
            // depend on the order of webpki's checks.
            Err(webpki::Error::NameConstraintViolation) => signed(path, anchor)?,
            Err(error) => return Err(error.into()),
        }
        let chain: Vec<_> = path.iter().map(|(_, read)| *read).chain([&root]).collect();
        // webpki does not check the validity of an anchor.
        let until = chain.iter().map(|read| read.not_after()).min().unwrap_or(UNIX_EPOCH);
        if until <= now {
            return Err(Rejection::Expired);
        }
        let from = chain.iter().map(|read| read.not_before()).max().unwrap_or(now);
        if from > now {
            return Err(Rejection::NotYetValid);
        }
        // webpki does not check whether the key of an issuer may sign certificates.
        if !above.iter().all(|(_, read)| read.may_issue()) {
            return Err(Rejection::Path("an issuer's key usage lacks keyCertSign".into()));
        }
        check_name_constraints(&chain)?;
        if !end.may_sign() {
            return Err(Rejection::KeyUsage);
        }
        let identity = match purpose {
            Purpose::Client => identity::of(end, &anchor.flavours, &self.own)?,
            Purpose::Server { name, flavour } => {
                if !anchor.flavours.contains(&flavour) {
                    return Err(Rejection::no_identity(&anchor.flavours));
                }
                identity::is_server(end, name)?;
                Identity::Fqdn(name.into())
            }
            Purpose::Known(known) => {
                let identity = identity::of(end, &anchor.flavours, &self.own)?;
                if identity != *known {
                    let known = known.credential_id().map(|id| id.to_string());
                    return Err(Rejection::AnotherServer(known.unwrap_or_default()));
                }
                identity
            }
        };
        let peer = VerifiedPeer { identity, until: Some(until), chain: Vec::new() };
        let until = anchor.crls_until.map_or(until, |crls_until| until.min(crls_until));
        Ok(VerifiedChain { peer, holds: from..until })
    }
}

fn webpki_path(
    der: &CertificateDer<'_>,
    issuers: &[CertificateDer<'_>],
    anchor: &Anchor,
    purpose: Purpose<'_>,
    now: SystemTime,
) -> Result<(), webpki::Error> {
    let end = EndEntityCert::try_from(der)?;
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    let usage = match purpose {
        Purpose::Client => KeyUsage::client_auth(),
        Purpose::Server { .. } | Purpose::Known(_) => KeyUsage::server_auth(),
    };
    let crls: Vec<_> = anchor.crls.iter().collect();
    let revocation = RevocationOptionsBuilder::new(&crls).ok().map(|options| {
        options
            .with_depth(RevocationCheckDepth::Chain)
            // An authority of the chain without a revocation list revokes nothing.
            .with_status_policy(UnknownStatusPolicy::Allow)
            .with_expiration_policy(ExpirationPolicy::Enforce)
            .build()
    });
    let anchors = std::slice::from_ref(&anchor.anchor);
    end.verify_for_usage(&anchor.algorithms(), anchors, issuers, now, usage, revocation, None)?;
    Ok(())
}

/// Verifies that each certificate of a path is signed by the next.
fn signed(
    path: &[(&CertificateDer<'_>, &ParsedCertificate<'_>)],
    anchor: &Anchor,
) -> Result<(), Rejection> {
    let algorithms = anchor.algorithms();
    let issuers = path.iter().skip(1).map(|(der, _)| *der).chain([&anchor.der]);
    for ((_, read), issuer) in path.iter().zip(issuers) {
        let issuer = EndEntityCert::try_from(issuer)?;
        let certificate = &read.certificate;
        // Slicing the certificate itself would include its signature.
        let signed = certificate.tbs_certificate.as_ref();
        let signature = &*certificate.signature_value.data;
        let by = |algorithm| issuer.verify_signature(algorithm, signed, signature).is_ok();
        if !algorithms.iter().any(|algorithm| by(*algorithm)) {
            return Err(Rejection::BadSignature);
        }
    }
    Ok(())
}

/// Checks the names of a chain, the peer's certificate first and the anchor last, against the
/// constraints of each issuer in it.
fn check_name_constraints(chain: &[&ParsedCertificate<'_>]) -> Result<(), Rejection> {
    for (at, issuer) in chain.iter().enumerate().skip(1) {
        let Some(constraints) = &issuer.constraints else { continue };
        let directory = |base: &GeneralName<'_>| matches!(base, GeneralName::DirectoryName(_));
        if constraints.permitted.iter().chain(&constraints.excluded).any(directory) {
            // Each certificate has a subject, and directory names are not compared.
            return Err(Rejection::NameConstraints);
        }
        let names = chain.iter().take(at).flat_map(|read| &read.names);
        if !names.into_iter().all(|name| constraints.allow(name)) {
            return Err(Rejection::NameConstraints);
        }
    }
    Ok(())
}
