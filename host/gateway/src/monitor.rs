//! Metrics and health over HTTP, on a loopback port of their own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::gateway::{Gateway, Readiness};

/// Connections at a time; whoever scrapes needs one.
const CONNECTIONS: usize = 16;
/// For a request to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait after an accept that failed.
const BREATHER: Duration = Duration::from_millis(100);

/// What OpenMetrics' text is called.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers until it is dropped.
pub struct Monitor {
    /// Where it listens.
    pub address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Monitor {
    /// Listens.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn listen(address: SocketAddr, gateway: Arc<Gateway>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(serve(listener, gateway)) })
    }
}

async fn serve(listener: TcpListener, gateway: Arc<Gateway>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(BREATHER).await;
            continue;
        };
        let gateway = gateway.clone();
        tokio::spawn(async move {
            let _place = place;
            let answer = service_fn(|request: Request<Incoming>| {
                let response = respond(&gateway, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(8 << 10)
                .serve_connection(TokioIo::new(socket), answer);
            // Whether the answer is read is up to whoever asked.
            let _ = tokio::time::timeout(PATIENCE * 10, connection).await;
        });
    }
}

fn respond(gateway: &Gateway, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let plain = "text/plain; charset=utf-8";
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return answer(StatusCode::METHOD_NOT_ALLOWED, plain, "only GET\n".into());
    }
    match request.uri().path() {
        "/metrics" => match gateway.metrics.text() {
            Ok(text) => answer(StatusCode::OK, OPEN_METRICS, text),
            Err(_) => answer(StatusCode::INTERNAL_SERVER_ERROR, plain, "no metrics\n".into()),
        },
        "/healthz" => answer(StatusCode::OK, plain, "alive\n".into()),
        "/readyz" => match gateway.readiness() {
            Readiness::Ready => answer(StatusCode::OK, plain, "ready\n".into()),
            Readiness::Stopping => {
                answer(StatusCode::SERVICE_UNAVAILABLE, plain, "stopping\n".into())
            }
            Readiness::StoreFails => {
                answer(StatusCode::SERVICE_UNAVAILABLE, plain, "the store fails\n".into())
            }
        },
        _ => {
            let paths = "there are /metrics, /healthz and /readyz\n";
            answer(StatusCode::NOT_FOUND, plain, paths.into())
        }
    }
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
