//! Metrics and health over HTTP, on a separate loopback port.

mod prometheus_text;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use saegis_onem2m::timestamp;

use crate::config::ListenAddress;
use crate::listener::host::{Host, host, is_ours};
use crate::listener::loopback_http::{LoopbackServer, ServerLimits};
use crate::state::{Gateway, Readiness};

/// A scraper needs a single short connection.
const LIMITS: ServerLimits = ServerLimits {
    connections: 64,
    header: Duration::from_secs(2),
    connection: Duration::from_secs(60),
    active_until_sent: false,
};

/// Media types of the two text formats.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Binds the address and serves requests.
///
/// # Errors
/// Fails if the address cannot be bound.
pub async fn listen(
    address: &ListenAddress,
    gateway: Arc<Gateway>,
) -> std::io::Result<LoopbackServer> {
    let answer = move |request: Request<Incoming>| {
        let response = respond(&gateway, &request);
        async move { response }
    };
    LoopbackServer::listen(address, LIMITS, None, answer).await
}

fn respond(gateway: &Gateway, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let metrics = &gateway.config.metrics;
    match host(request) {
        Host::None => {}
        Host::Malformed => {
            return answer(
                StatusCode::BAD_REQUEST,
                PLAIN,
                "there is no Host, or more than one\n".into(),
            );
        }
        Host::Named(name) if is_ours(&name, &metrics.hosts) => {}
        Host::Named(_) => {
            let why = "this Host is not served here; metrics.hosts lists further ones\n";
            return answer(StatusCode::MISDIRECTED_REQUEST, PLAIN, why.into());
        }
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n".into());
        let allowed = HeaderValue::from_static("GET, HEAD");
        refusal.headers_mut().insert(hyper::header::ALLOW, allowed);
        return refusal;
    }
    match request.uri().path() {
        "/metrics" => {
            if let Some(keys) = &gateway.maf_keys {
                gateway.metrics.maf_keys(keys.first_ends());
            }
            match gateway.metrics.text(&gateway.policy) {
                Ok(text) if takes_open_metrics(request.headers()) => {
                    answer(StatusCode::OK, OPEN_METRICS, text)
                }
                Ok(text) => {
                    answer(StatusCode::OK, PROMETHEUS, prometheus_text::from_open_metrics(&text))
                }
                Err(_) => answer(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    PLAIN,
                    "cannot encode the metrics\n".into(),
                ),
            }
        }
        "/healthz" => answer(StatusCode::OK, PLAIN, "alive\n".into()),
        "/readyz" => match gateway.readiness() {
            Readiness::Ready => answer(StatusCode::OK, PLAIN, "ready\n".into()),
            Readiness::Stopping => {
                answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "stopping\n".into())
            }
            Readiness::StoreFails => {
                answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "the store fails\n".into())
            }
            Readiness::UpstreamDown { since, is_ready } => {
                let what = "the CSE behind the gateway cannot be reached";
                readiness(&format!("{what} since {}", timestamp::format(since)), is_ready)
            }
            Readiness::PolicyBehind { since, how, is_ready } => {
                let since = timestamp::format(since);
                readiness(&format!("the policy on disk {how} since {since}"), is_ready)
            }
        },
        _ => {
            let paths = "there are /metrics, /healthz and /readyz\n";
            answer(StatusCode::NOT_FOUND, PLAIN, paths.into())
        }
    }
}

/// Responds with a problem that may leave the gateway ready.
fn readiness(what: &str, is_ready: bool) -> Response<Full<Bytes>> {
    if is_ready {
        answer(StatusCode::OK, PLAIN, format!("ready; {what}\n"))
    } else {
        answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{what}\n"))
    }
}

/// Returns whether a request accepts the media type of OpenMetrics.
fn takes_open_metrics(headers: &HeaderMap) -> bool {
    let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    ranges.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_it = parts
            .next()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
        is_it && weight.unwrap_or(1.0) > 0.0
    })
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_those_who_ask() {
        let takes = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            takes_open_metrics(&headers)
        };
        assert!(takes("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"));
        assert!(takes("text/plain, Application/OpenMetrics-Text; q=0.1"));
        assert!(!takes("text/plain"));
        assert!(!takes("*/*"));
        assert!(!takes("application/openmetrics-text; q=0, text/plain"));
        assert!(!takes_open_metrics(&HeaderMap::new()));
    }
}
