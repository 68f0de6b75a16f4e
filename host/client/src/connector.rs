//! Establishes security associations as a client: a TCP connection and a TLS handshake.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected as Facts, Connection};
use hyper_util::rt::TokioIo;
use saegis_handshake::certificate::Expected;
use saegis_handshake::{Connected, TlsStream, certificate, dtls, psk};
use saegis_onem2m::credential::PresharedKey;
use tokio::net::TcpStream;

use crate::certificates::PeerCertificates;
use crate::coap::{DatagramProof, connect_datagrams, resolve};
use crate::credential::Credential;
use crate::endpoint::Endpoint;

/// The way in which both sides authenticate.
#[derive(Clone)]
pub(crate) enum Authentication {
    /// Pre-shared key.
    Key(Arc<Credential>),
    /// Certificates.
    Certificates(PeerCertificates),
    /// Neither: no certificates are configured.
    None,
}

const NO_CERTIFICATE: &str = "policies/certificates.toml has no own certificate";
const NO_CERTIFICATES: &str = "there is no policies/certificates.toml";

fn log_established(who: &str, protocol: &str, suite: &str) {
    tracing::info!(
        event = "peer.association-established",
        who,
        protocol,
        suite,
        "association established as client: {who}"
    );
}

/// Waits for an association with the peer `who`, for at most `timeout`.
///
/// # Errors
/// Returns an error with the peer and the reason.
pub async fn within(
    timeout: Duration,
    who: &str,
    associating: impl Future<Output = Result<Connected<TcpStream>, String>>,
) -> io::Result<Connected<TcpStream>> {
    let failed = |why: String| io::Error::other(format!("no association with {who}: {why}"));
    match tokio::time::timeout(timeout, associating).await {
        Ok(associated) => associated.map_err(failed),
        Err(_) => Err(failed("timed out".into())),
    }
}

/// A connector to one endpoint, for the HTTP client.
#[derive(Clone)]
pub(crate) struct Connector {
    endpoint: Arc<Endpoint>,
    authentication: Authentication,
}

impl Connector {
    pub fn new(endpoint: Arc<Endpoint>, authentication: Authentication) -> Self {
        Self { endpoint, authentication }
    }

    async fn connect(self) -> io::Result<Stream> {
        let endpoint = self.endpoint.clone();
        let who = &endpoint.name;
        let connected = within(endpoint.connect_timeout, who, self.associate()).await?;
        log_established(who, connected.protocol, &connected.suite);
        Ok(Stream::over(connected))
    }

    /// Establishes an association over datagrams, within `limit`.
    pub async fn connect_datagrams(self, limit: Duration) -> Result<dtls::Connected, String> {
        let who = &self.endpoint.name;
        let Endpoint { address, domain_name: name, flavour, connect_timeout, .. } = &*self.endpoint;
        let failed = |why: String| format!("no association with {who}: {why}");
        let found = resolve(address).await.map_err(|e| failed(format!("{address}: {e}")))?;
        let proof = match &self.authentication {
            Authentication::Key(credential) => {
                let key = PresharedKey::new(credential.kpsa.expose());
                let key = key.map_err(|e| failed(e.to_string()))?;
                let id = credential.kpsa_id.clone();
                DatagramProof::Key(credential.suites_of_datagrams(), id, key)
            }
            Authentication::Certificates(PeerCertificates { trust, own }) => {
                let own = own.as_ref().ok_or_else(|| failed(NO_CERTIFICATE.into()))?;
                DatagramProof::Certificate(trust.clone(), own, Expected::Named(*flavour))
            }
            Authentication::None => return Err(failed(NO_CERTIFICATES.into())),
        };
        let timeout = limit.min(*connect_timeout);
        let connected = connect_datagrams(found, name.as_deref(), proof, timeout).await;
        let connected = connected.map_err(failed)?;
        log_established(who, connected.protocol, &connected.suite);
        Ok(connected)
    }

    async fn associate(self) -> Result<Connected<TcpStream>, String> {
        let Endpoint { address, domain_name: name, flavour, .. } = &*self.endpoint;
        let socket = TcpStream::connect(address).await.map_err(|e| format!("{address}: {e}"))?;
        // Primitives are small and answered one by one.
        let _ = socket.set_nodelay(true);
        match self.authentication {
            Authentication::Key(credential) => {
                let key = PresharedKey::new(credential.kpsa.expose()).map_err(|e| e.to_string())?;
                let id = credential.kpsa_id.clone();
                let client = psk::Client::new(credential.suites(), id, key);
                let client = client.map_err(|e| e.to_string())?;
                client.connect(socket, name.as_deref()).await.map_err(|e| e.to_string())
            }
            Authentication::Certificates(certificates) => {
                let own = certificates.own.as_ref();
                let own = own.ok_or(NO_CERTIFICATE)?;
                let name = name.as_deref().ok_or("its domain name is not known")?;
                let client = certificate::Client::new(certificates.trust.clone(), own);
                let connected = client.connect(socket, name, Expected::Named(*flavour)).await;
                connected.map_err(|e| e.to_string())
            }
            Authentication::None => Err(NO_CERTIFICATES.into()),
        }
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

/// An association as a connection of the HTTP client.
pub struct Stream {
    io: TokioIo<Pin<Box<dyn TlsStream<TcpStream>>>>,
    /// End of validity of the server's certificate, after which nothing is sent.
    until: Option<SystemTime>,
}

impl Stream {
    /// Wraps an association.
    pub fn over(connected: Connected<TcpStream>) -> Self {
        Self { io: TokioIo::new(connected.stream), until: connected.until }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Facts {
        Facts::new()
    }
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.until.is_some_and(|at| at <= SystemTime::now()) {
            return Poll::Ready(Err(io::Error::other("the other end's certificate has expired")));
        }
        Pin::new(&mut this.io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
