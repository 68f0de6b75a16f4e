//! Notifications to a point of access (TS-0008 clause 6.2).

use bytes::Bytes;
use http::Uri;
use percent_encoding::percent_decode_str;

use super::format::{CBOR, JSON};
use super::message::{Code, Parts};
use super::options::{ACCEPT, CONTENT_FORMAT, OneM2m, Table, URI_PATH, URI_QUERY};
use super::parameters::{WriteError, put_parameters, put_text};
use crate::parameter::Parameter;
use crate::serialization::Serialization;

/// Creates the CoAP request that carries a notification to a URI, whose path and query are those of
/// the request (RFC 7252 clause 6.4). The content has this serialization.
///
/// # Errors
/// Returns an error if a value does not fit an option.
pub fn write_notification(
    uri: &Uri,
    from: &str,
    request_id: &str,
    release: &str,
    category: Option<u16>,
    (serialization, content): (Serialization, Bytes),
) -> Result<Parts, WriteError> {
    let mut parts = Parts::new(Code::POST);
    let options = &mut parts.options;
    let mut put = |number, text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        let text = text.map_err(|_| WriteError("a URI that is not UTF-8".into()))?;
        put_text(options, number, &text)
    };
    let path = uri.path().strip_prefix('/').unwrap_or_default();
    for segment in path.split('/').filter(|_| !path.is_empty()) {
        put(URI_PATH, segment)?;
    }
    for query in uri.query().into_iter().flat_map(|query| query.split('&')) {
        put(URI_QUERY, query)?;
    }
    for (option, value) in
        [(OneM2m::From, from), (OneM2m::RequestId, request_id), (OneM2m::Release, release)]
    {
        let number = Table::Current.number(option);
        put_text(options, number.ok_or_else(|| WriteError(format!("{option:?}")))?, value)?;
    }
    let category = category.map(|category| (Parameter::EventCategory, category.to_string()));
    put_parameters(&category.into_iter().collect(), Table::Current, options)?;
    let format = match serialization {
        Serialization::Json => JSON,
        Serialization::Cbor => CBOR,
    };
    options.push_uint(ACCEPT, format.into());
    options.push_uint(CONTENT_FORMAT, format.into());
    parts.payload = content;
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coap::read_request;
    use crate::primitive::Operation;

    #[test]
    fn notification_has_path_of_point_of_access() {
        let content = Bytes::from_static(br#"{"m2m:sgn":{"vrq":true}}"#);
        let content = (Serialization::Json, content);
        for (uri, path, query) in [
            ("coaps://a.b:5684", vec![], vec![]),
            ("coaps://a.b/", vec![], vec![]),
            ("coaps://a.b/in/a%2Fb?x=1&y=%26", vec!["in", "a/b"], vec!["x=1", "y=&"]),
        ] {
            let uri = uri.parse().unwrap();
            let parts =
                write_notification(&uri, "/mn-cse", "r1", "3", None, content.clone()).unwrap();
            let all = |number| parts.options.get(number).cloned().collect::<Vec<_>>();
            assert_eq!(all(URI_PATH), path, "{uri}");
            assert_eq!(all(URI_QUERY), query, "{uri}");
        }
        let uri = "coaps://a.b/Clight".parse().unwrap();
        let parts = write_notification(&uri, "/mn-cse", "r1", "3", None, content.clone()).unwrap();
        let read = read_request(&parts).unwrap();
        assert_eq!(read.operation, Operation::Notify);
        assert_eq!(read.from.as_deref(), Some("/mn-cse"));
        assert_eq!((read.request_id.as_str(), read.release.as_deref()), ("r1", Some("3")));
        let long = format!("coaps://a.b/{}", "x".repeat(256)).parse().unwrap();
        write_notification(&long, "/mn-cse", "r1", "3", None, content.clone()).unwrap_err();
        let content = (Serialization::Cbor, Serialization::Cbor.from_json(content.1).unwrap());
        let uri = "coaps://a.b/Clight".parse().unwrap();
        let parts = write_notification(&uri, "/mn-cse", "r1", "3", None, content).unwrap();
        assert_eq!(parts.options.uint(CONTENT_FORMAT, 2).unwrap(), Some(CBOR.into()));
        assert_eq!(parts.options.uint(ACCEPT, 2).unwrap(), Some(CBOR.into()));
        let read = read_request(&parts).unwrap().content.unwrap();
        assert_eq!(read.bytes(), &br#"{"m2m:sgn":{"vrq":true}}"#[..]);
    }
}
