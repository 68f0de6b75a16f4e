//! Associations with certificates and raw public keys, both ends (TS-0003 clause 8.2.2.2).
//!
//! Most clients belong to rustls. One that offers nothing but what TS-0003 mandates, CBC with
//! SHA-256 or CCM, belongs to OpenSSL. Whatever a peer shows, both ask the one verification of
//! `saegis-certificate`, and send the same alert for what that rejects.

mod agreed;
mod client;
mod mapping;
mod openssl_engine;
mod rustls_engine;

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use saegis_certificate::{OwnCertificate, Trust};
use saegis_onem2m::association::{Established, SecurityAssociation};
use saegis_onem2m::saef::Saef;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::accepted::{Accepted, EngineError};
use crate::client_hello::FirstFlight;
use crate::refusal::Refusal;
use agreed::Agreed;
pub use client::{Client, Expected};
pub use mapping::{CertificateMapping, Evidence, Identified, Identifying, Mapped, Shown};
use mapping::{Gate, Outcome, Slot};

/// The engines of the server's end.
pub struct Server {
    trust: Arc<Trust>,
    own: Vec<Own>,
    provider: Arc<CryptoProvider>,
    exports: bool,
}

/// A certificate of our own, ready for each engine.
struct Own {
    certificate: Arc<OwnCertificate>,
    current: rustls_engine::Shows,
    mandated: openssl::ssl::SslContext,
}

impl Server {
    /// Sets the engines up. The first certificate is for clients that ask for no server by name, or
    /// for one that is none of ours.
    ///
    /// # Errors
    /// When there is no certificate, or an engine does not take one.
    pub fn new(trust: Arc<Trust>, own: &[Arc<OwnCertificate>]) -> Result<Self, EngineError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let ready = |certificate: &Arc<OwnCertificate>| {
            Ok(Own {
                certificate: certificate.clone(),
                current: rustls_engine::Shows::new(certificate),
                mandated: openssl_engine::context(certificate, &trust)?,
            })
        };
        let own = own.iter().map(ready).collect::<Result<Vec<_>, EngineError>>()?;
        Ok(Self { trust, own, provider, exports: false })
    }

    /// With a key exported from each session, which must have extended master secret then.
    #[must_use]
    pub fn exporting(self) -> Self {
        Self { exports: true, ..self }
    }

    /// Takes a connection whose first flight has been read, to an association of the number `id`.
    /// The caller bounds the time.
    ///
    /// # Errors
    /// Why there is no association. The engine has sent the alert, if the refusal has none of its
    /// own.
    pub async fn accept<S>(
        &self,
        id: u64,
        peer: SocketAddr,
        socket: S,
        flight: FirstFlight,
        mapping: Arc<dyn CertificateMapping + Send + Sync>,
    ) -> Result<Accepted<S>, Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let offered = flight.certificates();
        let (first, server_name) = flight.into_parts();
        let own = self.own_for(server_name.as_deref()).ok_or(Refusal::CertificatesOnly)?;
        let slot = Slot::new(self.trust.clone(), server_name, mapping, offered.current);
        let mut gate = Gate::new(socket, first, slot.clone());
        if offered.tls13 {
            // The server does not speak last, so there is nothing to hold back.
            gate.open();
        }
        let done = if offered.current {
            let setup = rustls_engine::Setup { provider: &self.provider, exports: self.exports };
            rustls_engine::accept(&setup, &own.current, offered, gate, &slot).await
        } else {
            openssl_engine::accept(&own.mandated, self.exports, gate, &slot).await
        };
        let outcome = match &done {
            Ok(_) => slot.outcome().await,
            Err(_) => slot.outcome_so_far(),
        };
        match (done, outcome) {
            (_, Outcome::Rejected(rejection)) => Err(Refusal::Certificate(rejection)),
            (_, Outcome::Unmapped { identity, why }) => Err(Refusal::Unmapped { identity, why }),
            (Err(refusal), Outcome::Nothing | Outcome::Mapped(_)) => Err(refusal),
            // Not reached while clients must show a certificate; and if it were, no entity.
            (Ok(_), Outcome::Nothing) => {
                Err(Refusal::Protocol("the handshake finished without a certificate".into()))
            }
            (Ok(agreed), Outcome::Mapped(mapped)) => {
                let association = SecurityAssociation::new(
                    id,
                    Established {
                        saef: Saef::Certificate,
                        credential_id: mapped.credential_id,
                        entity: mapped.entity,
                        peer,
                        protocol: agreed.protocol,
                        suite: agreed.suite,
                        expires: mapped.expires,
                    },
                );
                let Agreed { stream, exported, .. } = agreed;
                Ok(Accepted { association, stream, exported })
            }
        }
    }

    /// The certificate for a server of that name (RFC 6066; TS-0003 clause 10.2.1).
    fn own_for(&self, name: Option<&str>) -> Option<&Own> {
        let named =
            |own: &&Own| name.is_some_and(|name| own.certificate.names().iter().any(|n| n == name));
        self.own.iter().find(named).or(self.own.first())
    }
}
