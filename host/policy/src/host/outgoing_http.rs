//! `wasi:http/outgoing-handler`: HTTP requests to the configured hosts, with limits on size and
//! time.
//!
//! The interface is that of `wasmtime-wasi-http`; this module sends the requests.

mod body;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpHooks};

use crate::data::fault::Fault;
use crate::data::files::Digest;
use crate::host::bindings::saegis::policy::log::Level;
use crate::host::log_rate_limit::LogRateLimit;
use crate::module::grants::OutgoingHttp;
use crate::module::http_target::Target;
use wire::Sent;

/// Maximum length of the path of a request with its query, in bytes.
const MAX_PATH: usize = 8 << 10;
/// Maximum size of the header fields of a request, in bytes.
const MAX_FIELDS: usize = 16 << 10;
/// Maximum size of one write to the content of a request, in bytes.
const CHUNK: usize = 16 << 10;
/// Maximum number of concurrent name lookups of one module. Each occupies a thread.
const MAX_LOOKUPS: usize = 16;

/// HTTP client of a module.
pub(crate) struct Outgoing {
    settings: OutgoingHttp,
    transport: Transport,
}

/// Transport of the requests.
enum Transport {
    /// Requests are sent.
    Wire {
        /// Digest of the file with the trust anchors.
        ca: Option<Digest>,
        tls: Option<Arc<ClientConfig>>,
        /// Permits for concurrent requests.
        permits: Arc<Semaphore>,
        lookups: Arc<Semaphore>,
    },
    /// Requests are answered with predefined responses.
    CannedResponse(Vec<CannedResponse>),
}

/// Predefined response, for tests of modules.
#[derive(Debug, Clone)]
pub struct CannedResponse {
    /// URL of its request: `https://host/path?query`.
    pub url: String,
    /// Its status.
    pub status: StatusCode,
    /// Its content.
    pub body: String,
}

impl Outgoing {
    /// Creates a client from the settings, or reuses the last one if nothing has changed.
    pub fn of(settings: &OutgoingHttp, last: Option<&Arc<Self>>) -> Result<Arc<Self>, Vec<Fault>> {
        let read = settings.ca.as_deref().map(wire::read_authorities).transpose();
        let authorities = read.map_err(|fault| vec![fault])?;
        let digest = authorities.as_ref().map(|source| source.digest);
        if let Some(last) = last
            && last.settings == *settings
            && matches!(&last.transport, Transport::Wire { ca, .. } if *ca == digest)
        {
            return Ok(last.clone());
        }
        let tls = if settings.hosts.iter().any(Target::is_https) {
            let authorities = settings.ca.as_deref().zip(authorities.as_ref());
            Some(wire::tls(authorities).map_err(|fault| vec![fault])?)
        } else {
            None
        };
        let transport = Transport::Wire {
            ca: digest,
            tls,
            permits: Arc::new(Semaphore::new(settings.concurrent)),
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        };
        Ok(Arc::new(Self { settings: settings.clone(), transport }))
    }

    /// Creates a client with predefined responses, which sends nothing.
    pub fn canned(answers: Vec<CannedResponse>) -> Arc<Self> {
        let settings = OutgoingHttp {
            hosts: Vec::new(),
            request_bytes: 64 << 10,
            response_bytes: 64 << 10,
            time: Duration::from_secs(5),
            concurrent: 1,
            ca: None,
        };
        Arc::new(Self { settings, transport: Transport::CannedResponse(answers) })
    }

    /// Returns the target of a request, if it is allowed.
    fn permit(&self, request: &Request<WasiBody>) -> Result<Target, Error> {
        let uri = request.uri();
        if *request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        if uri.path_and_query().is_some_and(|path| path.as_str().len() > MAX_PATH) {
            return Err(Error::HttpRequestUriTooLong);
        }
        let target = Target::of(uri).ok_or(Error::HttpRequestUriInvalid)?;
        let listed = matches!(self.transport, Transport::CannedResponse(_))
            || self.settings.hosts.contains(&target);
        if listed { Ok(target) } else { Err(Error::HttpRequestDenied) }
    }

    async fn send(
        self: Arc<Self>,
        request: Request<WasiBody>,
        options: RequestOptions,
        open: Arc<()>,
    ) -> Result<Sent, Error> {
        let target = self.permit(&request)?;
        match &self.transport {
            Transport::CannedResponse(answers) => answer(answers, request.uri()),
            Transport::Wire { tls, permits, lookups, .. } => {
                let permit = permits.clone().try_acquire_owned();
                let permit = permit.map_err(|_| Error::ConnectionLimitReached)?;
                let tls = if target.is_https() { tls.clone() } else { None };
                let means =
                    wire::Connector { tls, lookups: lookups.clone(), settings: &self.settings };
                wire::send(request, &target, options, means, (permit, open)).await
            }
        }
    }
}

fn answer(answers: &[CannedResponse], uri: &Uri) -> Result<Sent, Error> {
    let url = uri.to_string();
    let found = answers.iter().find(|canned| canned.url == url);
    let CannedResponse { status, body, .. } = found.ok_or(Error::HttpRequestDenied)?;
    let body = Full::from(body.clone()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = *status;
    Ok((response, Box::new(std::future::ready(Ok(())))))
}

/// HTTP client of one call.
pub(crate) struct Client {
    outgoing: Option<Arc<Outgoing>>,
    log: Arc<LogRateLimit>,
    /// Each active request has a clone.
    open: Arc<()>,
    /// Remaining number of requests of the call.
    left: u32,
}

/// Maximum number of requests of one call: their CPU time is not counted as computing time of the
/// call.
const MAX_REQUESTS_PER_CALL: u32 = 32;

/// Returns the limits on the header fields that a call creates.
pub(crate) fn bounds() -> WasiHttpCtx {
    let mut bounds = WasiHttpCtx::new();
    bounds.set_field_size_limit(MAX_FIELDS);
    bounds
}

impl Client {
    pub fn new(outgoing: Option<Arc<Outgoing>>, log: Arc<LogRateLimit>) -> Self {
        Self { outgoing, log, open: Arc::default(), left: MAX_REQUESTS_PER_CALL }
    }

    /// Resets it for another call.
    pub fn renew(&mut self) {
        self.left = MAX_REQUESTS_PER_CALL;
    }

    /// Returns whether a request is active.
    pub fn is_busy(&self) -> bool {
        Arc::strong_count(&self.open) > 1
    }

    fn log_denial(&self, scheme: &str, authority: Option<&Authority>, error: &Error) {
        if matches!(error, Error::HttpRequestDenied) {
            let host = authority.map_or("nobody", Authority::as_str);
            let line = format!("rejected a request to {scheme}://{host}: the host is not allowed");
            self.log.write(Level::Warn, &line);
        }
    }
}

impl WasiHttpHooks for Client {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let refused = match &self.outgoing {
            Some(outgoing) => outgoing.permit(&request).err(),
            // As in the trial start of a module.
            None => Some(Error::HttpRequestDenied),
        };
        if let Some(error) = refused {
            let uri = request.uri();
            self.log_denial(uri.scheme_str().unwrap_or("https"), uri.authority(), &error);
            return Box::new(std::future::ready(Err(error)));
        }
        let Some(left) = self.left.checked_sub(1) else {
            return Box::new(std::future::ready(Err(Error::ConnectionLimitReached)));
        };
        self.left = left;
        let (outgoing, open) = (self.outgoing.clone(), self.open.clone());
        Box::new(async move {
            let Some(outgoing) = outgoing else { return Err(Error::HttpRequestDenied) };
            outgoing.send(request, options.unwrap_or_default(), open).await
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    // The crate would log each of these errors, without a rate limit.

    fn p2_error_from_hyper(&mut self, _: &hyper::Error) -> ErrorCode {
        ErrorCode::HttpProtocolError
    }

    fn p2_error_from_connect(&mut self, _: &std::io::Error) -> ErrorCode {
        ErrorCode::ConnectionRefused
    }

    fn p2_error_from_tls(&mut self, _: &std::io::Error) -> ErrorCode {
        ErrorCode::TlsProtocolError
    }
}
