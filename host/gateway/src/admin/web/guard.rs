//! Checks of each request before it reaches a page, and headers of each response.
//!
//! A site in the same browser can send requests here, and can use a name of its own for this machine. So
//! the host, the origin and the kind of the request are checked before the session.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};

use crate::listener::host::{Host, host};

/// Body of a response.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The only answer to a request without a session, whatever it asks for.
const REFUSAL: &str = "This page opens with a link: run saegis admin link on the gateway.\n\
    With a client certificate, it opens at the address of the gateway, with the path /.\n";

/// Headers of each response. Nothing is loaded from elsewhere, no script or style is inline, and the page
/// cannot be framed.
const HEADERS: [(HeaderName, &str); 8] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (X_FRAME_OPTIONS, "DENY"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // With no-referrer, browsers would send the forms of these pages without their origin.
    (REFERRER_POLICY, "same-origin"),
    (CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"),
];

/// Adds the headers of each response.
pub fn protect(mut response: Response<Body>) -> Response<Body> {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Returns the answer to a request without a session.
pub fn refusal() -> Response<Body> {
    plain(StatusCode::FORBIDDEN, REFUSAL)
}

/// Returns a response of plain text.
pub fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    content(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

/// Returns a response with content.
pub fn content(status: StatusCode, kind: &'static str, content: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(content).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Returns the host of a request that can come from a page of this listener, or from the address bar.
/// `scheme` is that of the pages, with its slashes, and `is_ours` selects their host names.
pub fn own_host<B>(
    request: &Request<B>,
    scheme: &str,
    is_ours: impl Fn(&str) -> bool,
) -> Option<String> {
    let headers = request.headers();
    let Host::Named(name) = host(request) else { return None };
    if !is_ours(&name) || request.uri().authority().is_some() {
        return None;
    }
    // A page that a browser loads in advance must not use up a link.
    if ["sec-purpose", "purpose", "service-worker"].iter().any(|of| headers.contains_key(*of)) {
        return None;
    }
    if !matches!(only(headers, "sec-fetch-site")?, None | Some("same-origin" | "none")) {
        return None;
    }
    let is_own = match only(headers, ORIGIN)? {
        Some(origin) => {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            host.is_some_and(|host| origin.strip_prefix(scheme) == Some(host))
        }
        // Browsers send it with each request that may change something.
        None => request.method() == Method::GET,
    };
    is_own.then_some(name)
}

/// Returns the value of a header. The outer `None` stands for several values, or one that is not text.
fn only(headers: &HeaderMap, name: impl hyper::header::AsHeaderName) -> Option<Option<&str>> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (None, _) => Some(None),
        (Some(value), None) => value.to_str().ok().map(Some),
        (Some(_), Some(_)) => None,
    }
}

/// Returns the values of the cookies with a name.
pub fn cookies<'h>(headers: &'h HeaderMap, wanted: &'static str) -> impl Iterator<Item = &'h str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs =
        all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(name, _)| *name == wanted).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        request
    }

    #[test]
    fn requests_of_other_sites_are_refused() {
        let ours = |name: &str| name == "page.localhost";
        let is = |method: Method, headers: &[(&str, &str)]| {
            own_host(&request(method, headers), "http://", ours).is_some()
        };
        let host = ("host", "page.localhost:9465");
        assert!(is(Method::GET, &[host]));
        assert!(is(Method::GET, &[("host", "Page.localhost:1"), ("sec-fetch-site", "none")]));
        let own = ("origin", "http://page.localhost:9465");
        assert!(is(Method::POST, &[host, own, ("sec-fetch-site", "same-origin")]));
        for headers in [
            &[][..],
            &[("host", "rebound.example:9465")],
            &[("host", "127.0.0.1:9465")],
            &[("host", "localhost:9465")],
            &[host, host],
            &[host, ("sec-fetch-site", "cross-site")],
            &[host, ("sec-fetch-site", "same-site")],
            &[host, ("sec-fetch-site", "none"), ("sec-fetch-site", "none")],
            &[host, ("origin", "https://page.localhost:9465")],
            &[host, ("origin", "http://page.localhost:9466")],
            &[host, ("origin", "null")],
            &[host, own, own],
            &[host, ("sec-purpose", "prefetch")],
            &[host, ("service-worker", "script")],
        ] {
            assert!(!is(Method::GET, headers), "{headers:?}");
        }
        assert!(!is(Method::POST, &[host]), "a change without an origin");
        let secure = [host, ("origin", "https://page.localhost:9465")];
        assert!(own_host(&request(Method::POST, &secure), "https://", ours).is_some());
    }

    #[test]
    fn cookie_is_found_among_others() {
        let all = request(Method::GET, &[("cookie", "a=b; saegis=1;saegis=2; saegis2=3")]);
        assert_eq!(cookies(all.headers(), "saegis").collect::<Vec<_>>(), ["1", "2"]);
    }
}
