//! Outbound connections: security associations in which this process is the client, and requests of
//! the HTTP binding (TS-0009) over them.
//!
//! Read the parts in this order:
//!
//! 1. [`Session`] is one association of an AE with its registrar CSE or its MAF (TS-0003 clause
//!    8.2), with requests over HTTP, WebSocket, MQTT or CoAP
//!    ([`Binding`]). [`Peer`] is the other side, [`Proof`] the AE's own [`Credential`] or certificate.
//! 2. [`PeerClient`] is a pool of associations with one CSE or MAF, its [`Endpoint`], for the
//!    gateway. It follows changes of the certificates in force ([`CertificateSource`]).
//! 3. [`PlainHttp`] is a pool of connections without TLS to the upstream CSE.
//!
//! Each of them sends a request primitive and returns the response primitive, and bounds its time
//! and size.
//!
//! # Example
//!
//! An AE retrieves a resource from its registrar CSE:
//!
//! ```
//! use saegis_client::{Binding, Credential, Peer, Proof, Session};
//! use saegis_onem2m::credential::PresharedKey;
//! use saegis_onem2m::primitive::Operation;
//! use saegis_onem2m::rsc::Rsc;
//! use std::time::Duration;
//!
//! # mod registrar_cse {
//! #     use saegis_handshake::psk::{Answer, CredentialLookup, Looking, Query, Server};
//! #     use saegis_handshake::{FirstFlight, Suite};
//! #     use saegis_onem2m::credential::{Credential, Entity, PresharedKey};
//! #     use saegis_onem2m::id::{AeIdStem, CredentialId};
//! #     use saegis_onem2m::saef::Saef;
//! #     use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! #
//! #     struct OneKey;
//! #     impl CredentialLookup for OneKey {
//! #         fn lookup(&self, _: Query) -> Looking {
//! #             Box::pin(std::future::ready(Answer::Found(Credential {
//! #                 saef: Saef::ProvisionedSymmetricKey,
//! #                 entity: Entity::Ae(AeIdStem::parse("Clight-AE1").expect("a stem")),
//! #                 id: CredentialId::parse("12-AE1@in.provider.com").expect("an id"),
//! #                 expires: None,
//! #                 key: PresharedKey::new(super::KEY).expect("a key"),
//! #             })))
//! #         }
//! #     }
//! #
//! #     /// Answers one request with 2000.
//! #     pub async fn serve(listener: tokio::net::TcpListener) {
//! #         let (mut socket, peer) = listener.accept().await.expect("a connection");
//! #         let flight = FirstFlight::read(&mut socket).await.expect("a ClientHello");
//! #         let server = Server::new(Suite::DEFAULT).expect("a server");
//! #         let accepted = server.accept(1, peer, socket, flight, std::sync::Arc::new(OneKey)).await;
//! #         let mut stream = accepted.expect("an association").stream;
//! #         let mut request = String::new();
//! #         while !request.contains("\r\n\r\n") {
//! #             request.push(stream.read_u8().await.expect("a request").into());
//! #         }
//! #         let id = request.lines().find_map(|l| l.strip_prefix("x-m2m-ri: ")).expect("an id");
//! #         let response = format!(
//! #             "HTTP/1.1 200 OK\r\nX-M2M-RSC: 2000\r\nX-M2M-RI: {id}\r\nContent-Length: 0\r\n\r\n"
//! #         );
//! #         stream.write_all(response.as_bytes()).await.expect("a response");
//! #     }
//! # }
//! const KEY: &[u8] = b"0f1e2d3c4b5a6978";
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let address = listener.local_addr()?.to_string();
//! # tokio::spawn(registrar_cse::serve(listener));
//! let peer = Peer { address, cse_id: "/mn-1".parse()?, timeout: Duration::from_secs(10) };
//! let credential = Credential {
//!     kpsa_id: "AE1@in.provider.com".parse()?,
//!     kpsa: PresharedKey::new(KEY)?,
//!     suites: None,
//! };
//! let from = "Clight-AE1".to_string();
//! let proof = Proof::Key(&credential);
//! let mut session = Session::establish(&peer, proof, from, Binding::Http).await?;
//!
//! let response = session.ask(Operation::Retrieve, "cse/light", None).await?;
//! assert_eq!(response.rsc, Rsc::Ok);
//! # Ok(())
//! # }
//! ```

mod certificates;
mod coap;
mod connector;
mod credential;
mod endpoint;
mod error;
mod incoming_requests;
mod mqtt;
mod plain_http;
mod pool;
pub mod response;
mod session;
mod websocket;

pub use certificates::{CertificateSource, PeerCertificates};
pub use coap::{CoapEndpoint, DatagramProof, connect_datagrams};
pub use connector::{Stream, within};
pub use credential::{Credential, key, suites_if_there};
pub use endpoint::{Endpoint, NoAnswer, PeerBinding};
pub use error::error_chain;
pub use mqtt::{Message, MqttConnection};
pub use plain_http::PlainHttp;
pub use pool::PeerClient;
pub use session::{Binding, Peer, Proof, Session, SessionError};
pub use websocket::websocket_accept;
