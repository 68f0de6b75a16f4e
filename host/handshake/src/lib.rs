//! The handshakes of security associations (TS-0003 clauses 8.2.2 and 10.2): TLS-PSK on OpenSSL,
//! certificates and raw public keys on rustls and OpenSSL.
//!
//! The crate knows neither policy nor configuration. A server looks up credentials and maps
//! certificates through a trait, whose future may take time without blocking a thread.
//!
//! Read the parts in this order:
//!
//! 1. [`FirstFlight`] reads the ClientHello completely and classifies it ([`Offer`]), before any
//!    TLS engine sees a byte. Behind a load balancer, [`read_proxy_header`] reads the header before it.
//! 2. [`psk`]: [`psk::Server`] and [`psk::Client`] for provisioned symmetric keys (clause 8.2.2.1),
//!    with the trait [`psk::CredentialLookup`] and the [`Suite`]s of clause 10.2.2.
//! 3. [`certificate`]: [`certificate::Server`] and [`certificate::Client`] for certificates and raw
//!    public keys (clause 8.2.2.2), with the trait [`certificate::CertificateMapping`].
//! 4. [`dtls`]: the same credentials over datagrams.
//! 5. [`operator`]: the web page of operators on other machines, which is not an association.
//! 6. [`Accepted`] and [`Connected`], the two sides of an established association; [`Refusal`] and
//!    [`ConnectError`], the reasons for none.
//!
//! # Example
//!
//! A device and a gateway establish an association with a pre-shared key:
//!
//! ```
//! use saegis_handshake::psk::{Answer, Client, CredentialLookup, Looking, Query, Server};
//! use saegis_handshake::{FirstFlight, Suite};
//! use saegis_onem2m::credential::{Credential, Entity, PresharedKey};
//! use saegis_onem2m::id::{AeIdStem, CredentialId, KpsaId};
//! use saegis_onem2m::saef::Saef;
//! use std::sync::Arc;
//!
//! const KEY: [u8; 16] = *b"0f1e2d3c4b5a6978";
//!
//! struct OneDevice;
//!
//! impl CredentialLookup for OneDevice {
//!     fn lookup(&self, query: Query) -> Looking {
//!         Box::pin(async move {
//!             match (query.psk_identity.as_str(), PresharedKey::new(&KEY)) {
//!                 ("AE1@in.provider.com", Ok(key)) => Answer::Found(Credential {
//!                     saef: Saef::ProvisionedSymmetricKey,
//!                     entity: Entity::Ae(AeIdStem::parse("Clight-AE1").expect("a stem")),
//!                     id: CredentialId::parse("12-AE1@in.provider.com").expect("an id"),
//!                     expires: None,
//!                     key,
//!                 }),
//!                 _ => Answer::Refused("unknown identity".into()),
//!             }
//!         })
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let id = KpsaId::parse("AE1@in.provider.com")?;
//! let client = Client::new(Suite::DEFAULT, id, PresharedKey::new(&KEY)?)?;
//! let server = Server::new(Suite::DEFAULT)?;
//!
//! let (device, mut gateway) = tokio::io::duplex(16 << 10);
//! let peer = "127.0.0.1:49152".parse()?;
//! let accept = async {
//!     let flight = FirstFlight::read(&mut gateway).await?;
//!     server.accept(1, peer, gateway, flight, Arc::new(OneDevice)).await
//! };
//! let (connected, accepted) = tokio::join!(client.connect(device, None), accept);
//!
//! assert_eq!(connected?.protocol, "TLSv1.2");
//! assert_eq!(accepted?.association.entity().to_string(), "AE Clight-AE1");
//! # Ok(())
//! # }
//! ```

mod accepted;
pub mod certificate;
mod client_hello;
pub mod dtls;
pub mod operator;
mod prefixed_stream;
mod proxy_header;
pub mod psk;
mod readiness;
#[cfg(test)]
mod recorded_tests;
mod refusal;
mod suite;

pub use accepted::{Accepted, ConnectError, Connected, EngineError, TlsStream};
pub use client_hello::{Certificates, FirstFlight, Offer};
pub use prefixed_stream::PrefixedStream;
pub use proxy_header::{ConnectionOrigin, MAX_PROXY_HEADER, ProxyHeaderError, read_proxy_header};
pub use readiness::Socket;
pub use refusal::{Alert, NamedCertificate, NoCredential, Refusal};
pub use suite::{Suite, SuiteError, suites};
