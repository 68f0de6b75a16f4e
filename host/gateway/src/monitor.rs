//! Metrics and health over HTTP, on a loopback port of their own.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};

use crate::gateway::{Gateway, Readiness};
use crate::local::Local;

/// Connections at a time; whoever scrapes needs one.
const CONNECTIONS: usize = 16;

/// What OpenMetrics' text is called.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Listens.
///
/// # Errors
/// When the address can't be had.
pub async fn listen(address: SocketAddr, gateway: Arc<Gateway>) -> std::io::Result<Local> {
    let answer = move |request: Request<Incoming>| {
        let response = respond(&gateway, &request);
        async move { response }
    };
    Local::listen(address, CONNECTIONS, None, answer).await
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
