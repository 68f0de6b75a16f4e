//! Associations with certificates and raw public keys, on both sides (TS-0003 clause 8.2.2.2).
//!
//! rustls serves most clients. OpenSSL serves clients that offer only the suites that TS-0003
//! mandates: CBC with SHA-256, or CCM. Both engines use the verification of `saegis-certificate`,
//! and send the same alert for a rejected certificate.

mod agreed;
pub(crate) mod client;
pub(crate) mod mapping;
pub(crate) mod openssl_engine;
mod rustls_engine;
mod tickets;

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ProducesTickets;
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
use mapping::{Gate, Outcome, Slot, rejected};

/// The server side of handshakes with certificates.
pub struct Server {
    trust: Arc<Trust>,
    own: Vec<Own>,
    provider: Arc<CryptoProvider>,
    /// Encryption of session tickets; `None` if sessions are not resumed.
    ticketer: Option<Arc<dyn ProducesTickets>>,
    exports: bool,
}

/// A server certificate, prepared for each engine.
struct Own {
    certificate: Arc<OwnCertificate>,
    current: rustls_engine::ServerCredentials,
    mandated: openssl::ssl::SslContext,
}

impl Server {
    /// Creates a server. It presents the first certificate to clients that indicate no server name
    /// or an unknown one.
    ///
    /// # Errors
    /// Returns an error if an engine does not support a certificate.
    pub fn new(trust: Arc<Trust>, own: &[Arc<OwnCertificate>]) -> Result<Self, EngineError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let ready = |certificate: &Arc<OwnCertificate>| {
            Ok(Own {
                certificate: certificate.clone(),
                current: rustls_engine::ServerCredentials::new(certificate),
                mandated: openssl_engine::context(certificate, &trust)?,
            })
        };
        let own = own.iter().map(ready).collect::<Result<Vec<_>, EngineError>>()?;
        Ok(Self { trust, own, provider, ticketer: None, exports: false })
    }

    /// Exports key material from each session, which must then have extended master secret.
    /// Sessions are not resumed, so each exported key belongs to one session.
    #[must_use]
    pub fn exporting(self) -> Self {
        Self { exports: true, ticketer: None, ..self }
    }

    /// Resumes sessions of TLS 1.3 (RFC 8446 clause 2.2).
    ///
    /// A ticket contains the client's chain, encrypted with keys that only this server has and
    /// replaces regularly. The client must prove its private key again after at most a day. A
    /// resumed handshake has an ephemeral key exchange, verifies the chain, and requests the
    /// mapping. So a credential that is no longer valid is refused.
    ///
    /// # Errors
    /// Returns an error if the random number generator fails.
    pub fn resuming(self) -> Result<Self, EngineError> {
        let ticketer = if self.exports { None } else { Some(aws_lc_rs::Ticketer::new()?) };
        Ok(Self { ticketer, ..self })
    }

    /// Performs the handshake of a connection whose first flight has been read, and establishes the
    /// association `id`. The caller bounds the time.
    ///
    /// # Errors
    /// Returns the reason why no association was established. The engine has sent the alert, unless
    /// the refusal has its own.
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
            // The server does not send the last message, so the gate has nothing to hold back.
            gate.open();
        }
        let done = if offered.current {
            let setup = rustls_engine::Setup {
                provider: &self.provider,
                ticketer: self.ticketer.as_ref(),
                exports: self.exports,
            };
            rustls_engine::accept(&setup, &own.current, offered, gate, &slot).await
        } else {
            openssl_engine::accept(&own.mandated, self.exports, gate, &slot).await
        };
        let outcome = match &done {
            Ok(_) => slot.outcome().await,
            Err(_) => slot.outcome_so_far(),
        };
        match (done, outcome) {
            (_, Outcome::Rejected(rejection, named)) => Err(rejected(rejection, named)),
            (_, Outcome::Unmapped { identity, why }) => Err(Refusal::Unmapped { identity, why }),
            (Err(refusal), Outcome::Nothing | Outcome::Mapped(_)) => Err(refusal),
            // Unreachable as long as clients must present a certificate. If reached, there is no
            // entity.
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
                        resumed: agreed.resumed,
                        expires: mapped.expires,
                    },
                );
                let Agreed { stream, exported, .. } = agreed;
                Ok(Accepted { association, stream, exported })
            }
        }
    }

    /// Returns the certificate for a server name (RFC 6066; TS-0003 clause 10.2.1).
    fn own_for(&self, name: Option<&str>) -> Option<&Own> {
        let named =
            |own: &&Own| name.is_some_and(|name| own.certificate.names().iter().any(|n| n == name));
        self.own.iter().find(named).or(self.own.first())
    }
}
