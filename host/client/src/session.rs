//! One security association of an AE, and requests over it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rand::RngExt;
use saegis_certificate::{Flavour, OwnCertificate, Trust};
use saegis_handshake::certificate::Expected;
use saegis_handshake::{Connected, certificate, dtls, psk};
use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::exported::Exported;
use saegis_onem2m::http::write_request;
use saegis_onem2m::id::CseId;
use saegis_onem2m::parameter::Parameter;
use saegis_onem2m::primitive::{Operation, ROLE_IDS, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::target::{Scope, Target};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use crate::coap::{Coap, DatagramProof, connect_datagrams, resolve};
use crate::credential::Credential;
use crate::mqtt::Mqtt;
use crate::response;
use crate::websocket::WebSocket;

/// Maximum content of a response, in bytes.
const MAX_CONTENT: usize = 4 << 20;

/// A registrar CSE or MAF.
pub struct Peer {
    /// Address, `host:port`. A host name is also sent as server name indication.
    pub address: String,
    /// CSE-ID that the association stands for (TS-0003 clause 8.2.2.1).
    pub cse_id: CseId,
    /// Timeout for the association, and for each response.
    pub timeout: Duration,
}

/// The credential with which an AE authenticates.
pub enum Proof<'a> {
    /// Pre-shared key.
    Key(&'a Credential),
    /// Certificate.
    Certificate {
        /// Trust anchors for the peer.
        trust: Arc<Trust>,
        /// AE's own certificate.
        own: &'a OwnCertificate,
        /// Domain name that the peer's certificate must prove.
        name: &'a str,
        /// Flavor of the peer's certificate.
        flavour: Flavour,
    },
}

/// The protocol of the requests over an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Binding {
    /// HTTP (TS-0009).
    #[default]
    Http,
    /// WebSocket (TS-0020).
    WebSocket,
    /// MQTT (TS-0010), for requests of a registered AE.
    Mqtt,
    /// MQTT, for the registration of an AE.
    MqttRegistration,
    /// CoAP over DTLS (TS-0008).
    Coap,
}

impl Binding {
    /// Returns whether the registrar can send requests to the AE.
    #[must_use]
    pub fn is_bidirectional(self) -> bool {
        self != Self::Http
    }
}

enum Transport {
    Http(SendRequest<Full<Bytes>>),
    WebSocket(Box<WebSocket>),
    Mqtt(Box<Mqtt>),
    Coap(Box<Coap>),
}

impl Transport {
    /// Opens a binding over a stream.
    async fn open<S>(
        stream: S,
        binding: Binding,
        host: &str,
        from: &str,
        cse: &CseId,
    ) -> Result<Self, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match binding {
            Binding::Http => {
                let io = TokioIo::new(stream);
                let (sender, connection) = handshake(io).await.map_err(|e| e.to_string())?;
                // The connection ends when the sender is dropped. Requests report its errors.
                tokio::spawn(connection);
                Ok(Self::Http(sender))
            }
            Binding::WebSocket => {
                Ok(Self::WebSocket(Box::new(WebSocket::open(stream, host).await?)))
            }
            Binding::Mqtt | Binding::MqttRegistration => {
                let registers = binding == Binding::MqttRegistration;
                Ok(Self::Mqtt(Box::new(Mqtt::open(stream, from, registers, cse).await?)))
            }
            Binding::Coap => Err("CoAP needs datagrams".into()),
        }
    }
}

/// The reason why a session could not be established or used.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No association could be established.
    #[error("no association with {cse} at {address}: {why}")]
    Association {
        /// CSE-ID of the peer.
        cse: String,
        /// Address of the peer.
        address: String,
        /// Cause.
        why: String,
    },
    /// The association broke, or the peer sent no response primitive.
    #[error("the association broke: {0}")]
    Broken(String),
}

/// An association with a registrar CSE or MAF.
pub struct Session {
    /// TLS protocol version.
    pub protocol: &'static str,
    /// Cipher suite.
    pub suite: String,
    /// CSE that the association stands for, as configured for the credential (TS-0003 clause
    /// 8.2.2.1).
    cse: CseId,
    from: String,
    host: String,
    timeout: Duration,
    transport: Transport,
    /// Exported key material, if the session has extended master secret.
    pub exported: Option<Exported>,
    /// Roles that each request claims.
    roles: Vec<String>,
    /// Tokens of each request, joined with `+`.
    tokens: Option<Zeroizing<String>>,
}

impl Session {
    /// Establishes an association for requests of the originator `from`.
    ///
    /// # Errors
    /// Returns the reason why no association was established.
    pub async fn establish(
        peer: &Peer,
        by: Proof<'_>,
        from: String,
        binding: Binding,
    ) -> Result<Self, SessionError> {
        let address = peer.address.clone();
        let failed = |why: String| SessionError::Association {
            cse: peer.cse_id.to_string(),
            address: address.clone(),
            why,
        };
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let named = host.parse::<std::net::IpAddr>().is_err() && !host.starts_with('[');
        let host = named.then_some(host);
        let (transport, facts) = if binding == Binding::Coap {
            // DTLS does not report a wrong key, so the handshake itself has the timeout.
            let connected = datagrams(&address, by, host, peer.timeout).await.map_err(failed)?;
            let dtls::Connected { connection, protocol, suite, exported } = connected;
            (Transport::Coap(Box::new(Coap::new(connection))), (protocol, suite, exported))
        } else {
            let connect = stream(&address, by, host);
            let connected = tokio::time::timeout(peer.timeout, connect)
                .await
                .map_err(|_| failed("timed out".into()))?
                .map_err(&failed)?;
            let Connected { stream, protocol, suite, exported, .. } = connected;
            let opening = Transport::open(stream, binding, &address, &from, &peer.cse_id);
            let transport = tokio::time::timeout(peer.timeout, opening)
                .await
                .map_err(|_| broken("no answer in time".into()))?
                .map_err(broken)?;
            (transport, (protocol, suite, exported))
        };
        let (protocol, suite, exported) = facts;
        let (cse, timeout) = (peer.cse_id.clone(), peer.timeout);
        let (host, roles) = (address, Vec::new());
        let tokens = None;
        Ok(Self { protocol, suite, cse, from, host, timeout, transport, exported, roles, tokens })
    }

    /// Sends tokens in each further request.
    pub fn use_tokens(&mut self, tokens: &[Zeroizing<String>]) {
        let joined = tokens.iter().map(|token| token.as_str()).collect::<Vec<_>>().join("+");
        self.tokens = Some(Zeroizing::new(joined)).filter(|_| !tokens.is_empty());
    }

    /// Claims roles in each further request.
    pub fn claim_roles(&mut self, roles: Vec<String>) {
        self.roles = roles;
    }

    /// Sends a request to a resource, and waits for the response.
    ///
    /// # Errors
    /// Returns the reason why there is no response.
    pub async fn ask(
        &mut self,
        operation: Operation,
        to: &str,
        content: Option<(ResourceType, Value)>,
    ) -> Result<ResponsePrimitive, SessionError> {
        let mut request = self.request(operation, to)?;
        if let Some((kind, value)) = content {
            request = request.with_content(kind, &value).map_err(|e| broken(e.to_string()))?;
        }
        self.send(request).await
    }

    /// Creates a request without content. The target is checked by the rules of the registrar CSE,
    /// so that a mistake is reported before sending.
    fn request(&self, operation: Operation, to: &str) -> Result<RequestPrimitive, SessionError> {
        let to = target(to).map_err(broken)?;
        let id = format!("{:016x}", rand::rng().random::<u64>());
        let mut request = RequestPrimitive::own(operation, to, self.from.clone(), id);
        if !self.roles.is_empty() {
            request.options.push((ROLE_IDS.into(), self.roles.clone()));
        }
        if let Some(tokens) = &self.tokens {
            request.parameters.set(Parameter::Tokens, tokens.as_str());
        }
        Ok(request)
    }

    /// Sends a request unchanged, and waits for the response.
    ///
    /// # Errors
    /// Returns the reason why there is no response.
    pub async fn send(
        &mut self,
        request: RequestPrimitive,
    ) -> Result<ResponsePrimitive, SessionError> {
        let at = match &request.to.scope {
            Scope::SpRelative(cse) => cse,
            Scope::CseRelative | Scope::Absolute { .. } => &self.cse,
        };
        let exchange = async {
            match &mut self.transport {
                Transport::Http(sender) => {
                    let sent = write_request(&request, at).map_err(|e| e.to_string())?;
                    let (mut parts, body) = sent.into_parts();
                    let host = self.host.parse().map_err(|_| "the address is not a valid Host")?;
                    parts.headers.insert(http::header::HOST, host);
                    let request = http::Request::from_parts(parts, Full::new(body));
                    // The connection may not be ready for the next request immediately after a response.
                    sender.ready().await.map_err(|e| e.to_string())?;
                    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
                    response::read(response, MAX_CONTENT).await
                }
                Transport::WebSocket(socket) => socket.ask(&request).await,
                Transport::Mqtt(connection) => connection.ask(&request).await,
                Transport::Coap(coap) => coap.ask(&request, at, MAX_CONTENT).await,
            }
        };
        let response = tokio::time::timeout(self.timeout, exchange)
            .await
            .map_err(|_| broken("no response in time".into()))?
            .map_err(broken)?;
        if response.request_id != request.request_id {
            return Err(broken("the response belongs to another request".into()));
        }
        Ok(response)
    }
}

impl Session {
    /// Sends an HTTP request that is not one of oneM2M, such as one of EST (RFC 7030), and waits for
    /// the response, with at most `max_content` bytes of content.
    ///
    /// # Errors
    /// Returns the reason why there is no response.
    pub async fn exchange(
        &mut self,
        request: http::Request<Bytes>,
        max_content: usize,
    ) -> Result<http::Response<Bytes>, SessionError> {
        let Transport::Http(sender) = &mut self.transport else {
            return Err(broken("the association is not for HTTP".into()));
        };
        let (mut parts, body) = request.into_parts();
        let host = self.host.parse();
        let host = host.map_err(|_| broken("the address is not a valid Host".into()))?;
        parts.headers.insert(http::header::HOST, host);
        let request = http::Request::from_parts(parts, Full::new(body));
        let exchange = async {
            sender.ready().await.map_err(|e| e.to_string())?;
            let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
            let (parts, content) = response::collect(response, max_content).await?;
            Ok(http::Response::from_parts(parts, content))
        };
        tokio::time::timeout(self.timeout, exchange)
            .await
            .map_err(|_| broken("no response in time".into()))?
            .map_err(broken)
    }

    /// Waits for a request of the registrar CSE, which HTTP cannot carry.
    ///
    /// # Errors
    /// Returns an error if none can arrive.
    pub async fn request_of_registrar(&mut self) -> Result<RequestPrimitive, SessionError> {
        match &mut self.transport {
            Transport::Http(_) => Err(broken("over HTTP the registrar sends no requests".into())),
            Transport::WebSocket(socket) => socket.request().await.map_err(broken),
            Transport::Mqtt(connection) => connection.request().await.map_err(broken),
            Transport::Coap(coap) => coap.request().await.map_err(broken),
        }
    }

    /// Responds to a request of the registrar CSE.
    ///
    /// # Errors
    /// Returns an error if the response cannot be sent.
    pub async fn respond(&mut self, response: &ResponsePrimitive) -> Result<(), SessionError> {
        match &mut self.transport {
            Transport::Http(_) => Err(broken("over HTTP the registrar sends no requests".into())),
            Transport::WebSocket(socket) => socket.respond(response).await.map_err(broken),
            Transport::Mqtt(connection) => connection.respond(response).await.map_err(broken),
            Transport::Coap(coap) => coap.respond(response).await.map_err(broken),
        }
    }

    /// Ends the association. Over datagrams, only this call sends an alert.
    pub async fn close(self) {
        if let Transport::Coap(coap) = self.transport {
            coap.close().await;
        }
    }
}

/// Establishes an association over a stream. `host` is the name in `address`, if it is one.
async fn stream(
    address: &str,
    by: Proof<'_>,
    host: Option<&str>,
) -> Result<Connected<TcpStream>, String> {
    let socket = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
    match by {
        Proof::Key(credential) => {
            let key = PresharedKey::new(credential.kpsa.expose()).map_err(|e| e.to_string())?;
            let id = credential.kpsa_id.clone();
            let client = psk::Client::new(credential.suites(), id, key);
            let client = client.map_err(|e| e.to_string())?;
            client.connect(socket, host).await.map_err(|e| e.to_string())
        }
        Proof::Certificate { trust, own, name, flavour } => {
            let client = certificate::Client::new(trust, own);
            let connected = client.connect(socket, name, Expected::Named(flavour)).await;
            connected.map_err(|e| e.to_string())
        }
    }
}

/// Establishes an association over datagrams, in the same way.
async fn datagrams(
    address: &str,
    by: Proof<'_>,
    host: Option<&str>,
    timeout: Duration,
) -> Result<dtls::Connected, String> {
    let found = resolve(address).await?;
    match by {
        Proof::Key(credential) => {
            let key = PresharedKey::new(credential.kpsa.expose()).map_err(|e| e.to_string())?;
            let id = credential.kpsa_id.clone();
            let proof = DatagramProof::Key(credential.suites_of_datagrams(), id, key);
            connect_datagrams(found, host, proof, timeout).await
        }
        Proof::Certificate { trust, own, name, flavour } => {
            let proof = DatagramProof::Certificate(trust, own, Expected::Named(flavour));
            connect_datagrams(found, Some(name), proof, timeout).await
        }
    }
}

/// Parses an address at the registrar CSE, or at another CSE of the same service provider.
fn target(address: &str) -> Result<Target, String> {
    let target = Target::from_address(address).map_err(|e| format!("{address}: {e}"))?;
    match target.scope {
        Scope::CseRelative | Scope::SpRelative(_) => Ok(target),
        Scope::Absolute { .. } => Err(format!("{address}: leave out the service provider")),
    }
}

fn broken(why: String) -> SessionError {
    SessionError::Broken(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_determines_cse() {
        let own = CseId::parse("in-cse").unwrap();
        let home = CseId::parse("mn-cse-123456").unwrap();
        for (address, scope) in [
            ("-/phone/note", Scope::CseRelative),
            ("/in-cse/-/phone/note", Scope::SpRelative(own)),
            ("/mn-cse-123456/-/phone/note", Scope::SpRelative(home)),
        ] {
            let resource = "-/phone/note".to_string();
            assert_eq!(target(address), Ok(Target { scope, resource }), "{address}");
        }
        for bad in ["", "/", "~/in-cse/cse", "-//x", "-/../x", "//in.provider.com/in-cse/cse"] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }
}
