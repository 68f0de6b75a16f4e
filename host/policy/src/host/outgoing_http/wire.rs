//! Sends a request and reads the response, with limits.

use std::error::Error as _;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;

use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::body;
use crate::data::fault::Fault;
use crate::data::files::{self, Source};
use crate::module::grants::OutgoingHttp;
use crate::module::http_target::Target;

/// Maximum size of the header of a response, in bytes, and maximum number of its fields.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 100;
/// Maximum size of a file of trust anchors, in bytes.
const MAX_AUTHORITIES: u64 = 4 << 20;

/// A response, and the future that drives its connection.
pub(super) type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// Resources for sending a request.
pub(super) struct Connector<'a> {
    pub tls: Option<Arc<ClientConfig>>,
    pub lookups: Arc<Semaphore>,
    pub settings: &'a OutgoingHttp,
}

/// Sends a request. Its resources are held until the connection ends.
pub(super) async fn send(
    request: Request<WasiBody>,
    target: &Target,
    options: RequestOptions,
    means: Connector<'_>,
    holds: (OwnedSemaphorePermit, Arc<()>),
) -> Result<Sent, Error> {
    let ends = Instant::now() + means.settings.time;
    let connect = async {
        let stream = connect(target, &means.lookups).await?;
        stream.set_nodelay(true).map_err(Error::Connect)?;
        match means.tls {
            None => shake_hands(stream, ends, holds).await,
            Some(tls) => {
                let name = ServerName::try_from(target.name().to_string());
                let name = name.map_err(|_| Error::HttpRequestUriInvalid)?;
                let stream = TlsConnector::from(tls).connect(name, stream).await;
                shake_hands(stream.map_err(of_tls)?, ends, holds).await
            }
        }
    };
    let connected = async {
        match options.connect_timeout {
            None => connect.await,
            Some(wanted) => timeout(wanted, connect).await.unwrap_or(Err(Error::ConnectionTimeout)),
        }
    };
    let connected = timeout_at(ends, connected).await.unwrap_or(Err(Error::ConnectionTimeout));
    let (mut sender, connection) = connected?;
    let answered = sender.send_request(in_origin_form(request, means.settings.request_bytes)?);
    let first =
        ends.min(Instant::now() + options.first_byte_timeout.unwrap_or(means.settings.time));
    let answered = timeout_at(first, answered).await.map_err(|_| Error::HttpResponseTimeout)?;
    // The task of the connection ends at the same deadline, and may be slightly earlier.
    let is_over = || ends <= Instant::now();
    let response =
        answered.map_err(|e| if is_over() { Error::HttpResponseTimeout } else { of_hyper(&e) })?;
    let (most, pause) = (means.settings.response_bytes, options.between_bytes_timeout);
    let too_long = response.headers().get(http::header::CONTENT_LENGTH);
    let too_long = too_long.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(length) = too_long.filter(|length| *length > most) {
        return Err(Error::HttpResponseBodySize(Some(length)));
    }
    let response = response.map(|body| body::Answer::new(body, most, ends, pause).boxed_unsync());
    let driven = async move {
        connection.await;
        Ok(())
    };
    Ok((response, Box::new(driven)))
}

type Sender = http1::SendRequest<body::Request<WasiBody>>;

/// Establishes a connection, and starts the task that drives it until the deadline.
async fn shake_hands(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ends: Instant,
    holds: (OwnedSemaphorePermit, Arc<()>),
) -> Result<(Sender, AbortOnDropJoinHandle<()>), Error> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let (sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|e| of_hyper(&e))?;
    let driven = spawn(async move {
        // An error is reported to the reader of the response.
        let _ = timeout_at(ends, connection).await;
        drop(holds);
    });
    Ok((sender, driven))
}

async fn connect(target: &Target, lookups: &Arc<Semaphore>) -> Result<TcpStream, Error> {
    let addresses = match target.name().parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, target.port())],
        Err(_) => look_up(target, lookups).await?,
    };
    let mut failed = Error::DestinationNotFound;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(e) => failed = Error::Connect(e),
        }
    }
    Err(failed)
}

/// Returns the addresses of a name. The lookup of the system occupies a thread without a timeout,
/// so the number of lookups is limited, even if no caller waits.
async fn look_up(target: &Target, lookups: &Arc<Semaphore>) -> Result<Vec<SocketAddr>, Error> {
    let place = lookups.clone().acquire_owned().await.map_err(|_| Error::DnsTimeout)?;
    let (name, port) = (target.name().to_string(), target.port());
    let found = tokio::task::spawn_blocking(move || {
        let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        drop(place);
        found
    });
    let unknown = || Error::DnsError { rcode: None, info_code: None };
    found.await.map_err(|_| unknown())?.map_err(|_| unknown())
}

/// Converts a request to origin form: the host moves to a header field.
fn in_origin_form(
    mut request: Request<WasiBody>,
    most: u64,
) -> Result<Request<body::Request<WasiBody>>, Error> {
    let path = request.uri().path_and_query().cloned();
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = path.or_else(|| Some(http::uri::PathAndQuery::from_static("/")));
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Error::HttpRequestUriInvalid)?;
    Ok(request.map(|body| body::Request { body, left: most }))
}

fn of_hyper(error: &hyper::Error) -> Error {
    let own = error.source().and_then(|source| source.downcast_ref::<Error>());
    match own {
        Some(Error::HttpRequestBodySize(size)) => Error::HttpRequestBodySize(*size),
        _ if error.is_parse_too_large() => Error::HttpResponseHeaderSectionSize(None),
        _ if error.is_incomplete_message() || error.is_closed() => Error::ConnectionTerminated,
        _ => Error::HttpProtocolError,
    }
}

fn of_tls(error: std::io::Error) -> Error {
    let own = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match own {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        _ => Error::TlsProtocolError,
    }
}

/// Reads a file of trust anchors.
pub(super) fn read_authorities(file: &Path) -> Result<Source, Fault> {
    files::read(file, MAX_AUTHORITIES)
}

/// Returns the TLS configuration, with the trust anchors of a file or of the system.
pub(super) fn tls(authorities: Option<(&Path, &Source)>) -> Result<Arc<ClientConfig>, Fault> {
    let mut roots = RootCertStore::empty();
    let file = authorities.map_or(Path::new("the trust anchors of the system"), |(file, _)| file);
    let fault = |what: String| Fault::of(file, what);
    match authorities {
        Some((_, source)) => {
            for certificate in CertificateDer::pem_slice_iter(&source.bytes) {
                let certificate = certificate.map_err(|e| fault(format!("is not PEM: {e}")))?;
                let added = roots.add(certificate);
                added.map_err(|e| fault(format!("has an invalid certificate: {e}")))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(fault("has no certificate in PEM".into()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| fault(format!("cannot configure TLS: {e}")))?;
    Ok(Arc::new(tls.with_root_certificates(roots).with_no_client_auth()))
}
