//! The gateway's TLS engines with the credentials of the benchmark and no policy.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context, Result};
use saegis_certificate::{Anchor, Flavour, KeyKind, Names, OwnCertificate, TrustBuilder, pem};
use saegis_handshake::certificate::{
    self, CertificateMapping, Identified, Identifying, Mapped, Shown,
};
use saegis_handshake::psk::{self, Answer, CredentialLookup, Looking, Query};
use saegis_handshake::{FirstFlight, Socket, Suite, TlsStream};
use saegis_onem2m::credential::{Credential, Entity, PresharedKey};
use saegis_onem2m::id::{AeIdStem, CredentialId, CseId, KpsaId};
use saegis_onem2m::saef::Saef;

use crate::credentials::Identity;

/// One engine.
pub enum Engine {
    /// Pre-shared keys, by OpenSSL.
    Key(psk::Server, Arc<dyn CredentialLookup + Send + Sync>),
    /// Certificates, by rustls.
    Certificate(certificate::Server, Arc<dyn CertificateMapping + Send + Sync>),
}

impl Engine {
    /// Configures an engine for the first `identities` keys.
    ///
    /// # Errors
    /// If OpenSSL refuses the suites.
    pub fn keys(suites: &[Suite], identities: u64) -> Result<Self> {
        let identities = (0..identities).map(Identity::of);
        let keys = identities.map(|i| (i.psk_identity, (i.key, i.originator))).collect();
        Ok(Self::Key(psk::Server::new(suites)?, Arc::new(Keys(Arc::new(keys)))))
    }

    /// Configures an engine with the certificates in `folder`, as those of the benchmarked gateway.
    ///
    /// # Errors
    /// If a file is missing or malformed.
    pub fn certificates(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).with_context(|| path.display().to_string())
        };
        let own = Names::of(CseId::parse("mn-cse-123456")?, Some("in.provider.com".into()));
        let mut trust = TrustBuilder::new(own);
        for authority in pem::certificates(&read("client-ca.pem")?)? {
            trust.add_anchor(Anchor::new(authority, &[Flavour::AeId], &[KeyKind::P256], &[])?);
        }
        let chain = pem::certificates(&read("server.pem")?)?;
        let own = OwnCertificate::new(chain, pem::private_key(&read("server.key")?)?)?;
        let server = certificate::Server::new(Arc::new(trust.build()), &[Arc::new(own)])?;
        Ok(Self::Certificate(server, Arc::new(NamedInCertificate)))
    }

    /// Does the server's side of one handshake, whose first flight has been read.
    ///
    /// # Errors
    /// If the handshake fails.
    pub async fn accept<S>(
        &self,
        peer: SocketAddr,
        socket: S,
        flight: FirstFlight,
    ) -> Result<Stream<S>>
    where
        S: Socket,
    {
        let accepted = match self {
            Self::Key(server, lookup) => {
                server.accept(1, peer, socket, flight, lookup.clone()).await?
            }
            Self::Certificate(server, mapping) => {
                server.accept(1, peer, socket, flight, mapping.clone()).await?
            }
        };
        Ok(accepted.stream)
    }
}

/// A stream over an established association.
pub type Stream<S> = Pin<Box<dyn TlsStream<S>>>;

/// Keys and originators by psk_identity.
struct Keys(Arc<HashMap<String, ([u8; 16], String)>>);

impl CredentialLookup for Keys {
    fn lookup(&self, query: Query) -> Looking {
        let keys = self.0.clone();
        Box::pin(async move {
            match credential(&keys, &query.psk_identity) {
                Ok(credential) => Answer::Found(credential),
                Err(error) => Answer::Refused(error.to_string().as_str().into()),
            }
        })
    }
}

fn credential(keys: &HashMap<String, ([u8; 16], String)>, identity: &str) -> Result<Credential> {
    let (key, originator) = keys.get(identity).context("unknown identity")?;
    Ok(Credential {
        saef: Saef::ProvisionedSymmetricKey,
        entity: Entity::Ae(AeIdStem::parse(originator)?),
        id: CredentialId::of_kpsa(&KpsaId::parse(identity)?),
        expires: None,
        key: PresharedKey::new(key)?,
    })
}

/// The entity is the one that the certificate names.
struct NamedInCertificate;

impl CertificateMapping for NamedInCertificate {
    fn identify(&self, shown: Shown) -> Identifying {
        Box::pin(async move {
            let (identity, until) = (shown.verified.identity, shown.verified.until);
            match (identity.entity(), identity.credential_id()) {
                (Some(entity), Some(credential_id)) => {
                    Identified::As(Mapped { entity, credential_id, expires: until })
                }
                _ => Identified::Refused("the certificate names no entity".into()),
            }
        })
    }
}
