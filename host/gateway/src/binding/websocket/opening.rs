//! The opening handshake (RFC 6455 clause 4.2, TS-0020 clause 6.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Response, StatusCode, Uri, Version};
use saegis_client::websocket_accept;
use saegis_onem2m::serialization::Serialization;

/// Subprotocols in the order of Release 3 and Release 2 (TS-0020 table 6.2.2.9-1), with the
/// serialization of their messages.
const SUBPROTOCOLS: [(&str, Serialization); 4] = [
    ("oneM2M.json", Serialization::Json),
    ("oneM2M.cbor", Serialization::Cbor),
    ("oneM2M.R2.0.json", Serialization::Json),
    ("oneM2M.R2.0.cbor", Serialization::Cbor),
];

/// Version of the WebSocket protocol.
const VERSION: &str = "13";

/// Length of the key of the client, in bytes.
const KEY_LENGTH: usize = 16;

/// The reason why a request does not open a WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub struct NotOpened {
    /// Status of the response.
    pub status: StatusCode,
    /// Reason.
    pub why: &'static str,
}

fn refused(why: &'static str) -> NotOpened {
    NotOpened { status: StatusCode::BAD_REQUEST, why }
}

/// Whether a request asks for a WebSocket.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    tokens(headers, &UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket"))
}

/// Returns the response that opens a WebSocket, and the serialization of its messages.
///
/// # Errors
/// Returns the reason why it is not opened.
pub fn open(parts: &Parts) -> Result<(Response<Bytes>, Serialization), NotOpened> {
    let headers = &parts.headers;
    if parts.method != Method::GET || parts.version != Version::HTTP_11 {
        return Err(refused("a WebSocket is opened with a GET of HTTP/1.1"));
    }
    if parts.uri.path() != "/" || parts.uri.query().is_some() {
        return Err(refused("a WebSocket is opened at the path / (TS-0020 clause 6.2.2)"));
    }
    if !tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade")) {
        return Err(refused("the header Connection does not have upgrade"));
    }
    let has_content = headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    if has_content || headers.contains_key(TRANSFER_ENCODING) {
        return Err(refused("a request for a WebSocket has no content"));
    }
    check_host(headers)?;
    if single(headers, &SEC_WEBSOCKET_VERSION) != Some(VERSION) {
        let why = "the version of WebSocket is 13 (Sec-WebSocket-Version)";
        return Err(NotOpened { status: StatusCode::UPGRADE_REQUIRED, why });
    }
    let key = single(headers, &SEC_WEBSOCKET_KEY).filter(|key| is_key(key));
    let key = key.ok_or_else(|| refused("the header Sec-WebSocket-Key is not a key"))?;
    let (name, serialization) = subprotocol(headers)?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let put = |value: &str| HeaderValue::from_str(value).map_err(|_| refused("a bad subprotocol"));
    fields.insert(SEC_WEBSOCKET_ACCEPT, put(&websocket_accept(key))?);
    fields.insert(SEC_WEBSOCKET_PROTOCOL, put(name)?);
    Ok((response, serialization))
}

/// Completes the response that refuses a WebSocket.
pub fn complete_refusal<B>(response: &mut Response<B>, refusal: &NotOpened) {
    *response.status_mut() = refusal.status;
    if refusal.status == StatusCode::UPGRADE_REQUIRED {
        let headers = response.headers_mut();
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
}

/// Checks that there is one Host, and that an Origin is of the same host. A browser sends its Origin,
/// and would show its certificate for a page of any other site.
fn check_host(headers: &HeaderMap) -> Result<(), NotOpened> {
    let host = single(headers, &HOST).and_then(|host| host.parse::<Authority>().ok());
    let host = host.filter(|host| !host.as_str().contains('@'));
    let host = host.ok_or_else(|| refused("the header Host is not a host"))?;
    if !headers.contains_key(ORIGIN) {
        return Ok(());
    }
    let origin = single(headers, &ORIGIN).and_then(|origin| origin.parse::<Uri>().ok());
    let is_same = |origin: &Uri| {
        let authority = origin.authority();
        authority.is_some_and(|a| a.as_str().eq_ignore_ascii_case(host.as_str()))
    };
    if origin.as_ref().is_some_and(is_same) {
        return Ok(());
    }
    let why = "the page of another site opens no WebSocket here (Origin)";
    Err(NotOpened { status: StatusCode::FORBIDDEN, why })
}

/// Returns the first subprotocol that the client prefers, in its spelling.
fn subprotocol(headers: &HeaderMap) -> Result<(&str, Serialization), NotOpened> {
    let mut offered = tokens(headers, &SEC_WEBSOCKET_PROTOCOL);
    let found = offered.find_map(|name| {
        let known = SUBPROTOCOLS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.map(|(_, serialization)| (name, *serialization))
    });
    found.ok_or_else(|| {
        refused(
            "the header Sec-WebSocket-Protocol has none of oneM2M.json, oneM2M.cbor, \
             oneM2M.R2.0.json and oneM2M.R2.0.cbor; XML is not supported",
        )
    })
}

fn is_key(text: &str) -> bool {
    STANDARD.decode(text).is_ok_and(|key| key.len() == KEY_LENGTH)
}

/// The value of a field that occurs once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (Some(one), None) => one.to_str().ok().map(str::trim),
        _ => None,
    }
}

/// The elements of a list, which may be in several fields.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let all = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|text| text.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 6] = [
        ("host", "gateway:8443"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "oneM2M.json"),
    ];

    fn parts(path: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::get(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// The good fields without those of `fields`, and `fields`.
    fn with(fields: &[(&str, &str)]) -> Result<(Response<Bytes>, Serialization), NotOpened> {
        let others = GOOD.into_iter().filter(|(name, _)| fields.iter().all(|(n, _)| n != name));
        let all: Vec<_> =
            others.chain(fields.iter().copied()).filter(|(_, value)| *value != "-").collect();
        open(&parts("/", &all))
    }

    #[test]
    fn handshake_has_the_accept_of_the_rfc() {
        let (response, serialization) = with(&[]).unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(response.headers()["sec-websocket-protocol"], "oneM2M.json");
        assert!(!response.headers().contains_key("sec-websocket-extensions"));
        assert_eq!(serialization, Serialization::Json);
    }

    #[test]
    fn first_known_subprotocol_is_echoed_in_its_spelling() {
        let chosen = |fields: &[&str]| {
            let fields: Vec<_> = fields.iter().map(|v| ("sec-websocket-protocol", *v)).collect();
            let (response, serialization) = with(&fields).ok()?;
            let name = response.headers()["sec-websocket-protocol"].to_str().unwrap().to_string();
            Some((name, serialization))
        };
        for (offered, name, serialization) in [
            (&["onem2m.JSON"][..], "onem2m.JSON", Serialization::Json),
            (&["oneM2M.R2.0.cbor, oneM2M.json"], "oneM2M.R2.0.cbor", Serialization::Cbor),
            (&["mqtt,oneM2M.xml ,ONEM2M.CBOR"], "ONEM2M.CBOR", Serialization::Cbor),
            (&["x", "oneM2M.r2.0.json"], "oneM2M.r2.0.json", Serialization::Json),
        ] {
            assert_eq!(chosen(offered), Some((name.into(), serialization)), "{offered:?}");
        }
        for none in
            ["-", "", ",", "oneM2M.xml", "oneM2M", "json", "oneM2M.json.x", "oneM2M.R3.json"]
        {
            assert_eq!(chosen(&[none]), None, "{none}");
        }
    }

    #[test]
    fn bad_handshakes_are_refused() {
        for (fields, status) in [
            (&[("connection", "close")][..], 400),
            (&[("connection", "-")], 400),
            (&[("sec-websocket-key", "-")], 400),
            (&[("sec-websocket-key", "short")], 400),
            (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), ("sec-websocket-key", "x")], 400),
            (&[("sec-websocket-version", "-")], 426),
            (&[("sec-websocket-version", "8")], 426),
            (&[("sec-websocket-version", "13"), ("sec-websocket-version", "8")], 426),
            (&[("host", "-")], 400),
            (&[("host", "a"), ("host", "b")], 400),
            (&[("host", "u@a")], 400),
            (&[("content-length", "2")], 400),
            (&[("transfer-encoding", "chunked")], 400),
            (&[("origin", "https://evil.example")], 403),
            (&[("origin", "null")], 403),
            (&[("origin", "https://gateway:8443"), ("origin", "https://evil.example")], 403),
            (&[("origin", "https://gateway:8443.evil.example")], 403),
        ] {
            assert_eq!(with(fields).unwrap_err().status.as_u16(), status, "{fields:?}");
        }
        assert!(with(&[("origin", "https://gateway:8443")]).is_ok());
        assert!(with(&[("connection", "keep-alive, Upgrade")]).is_ok());
        assert!(with(&[("sec-websocket-extensions", "permessage-deflate")]).is_ok());
        for path in ["/cse", "/?x", "/ws"] {
            assert!(open(&parts(path, &GOOD)).is_err(), "{path}");
        }
        for (version, method) in [(Version::HTTP_10, Method::GET), (Version::HTTP_11, Method::POST)]
        {
            let mut parts = parts("/", &GOOD);
            (parts.version, parts.method) = (version, method);
            assert!(open(&parts).is_err());
        }
        let wanted = |value: &str| is_wanted(&parts("/", &[("upgrade", value)]).headers);
        assert!(wanted("WebSocket") && wanted("h2c, websocket"));
        assert!(!wanted("h2c") && !is_wanted(&HeaderMap::new()));
    }
}
