use super::*;
use crate::id::CseId;
use http::Version;
use http::header::HOST;
use proptest::prelude::*;

fn read(
    method: Method,
    path: &str,
    fields: &[(&str, &str)],
    body: &str,
) -> Result<RequestPrimitive, BindingError> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    read_request(&method, &path.parse().unwrap(), &headers, Bytes::copy_from_slice(body.as_bytes()))
}

fn rsc(result: Result<RequestPrimitive, BindingError>) -> Rsc {
    result.map_or_else(|e| e.rsc, |_| Rsc::Ok)
}

const RI: (&str, &str) = ("X-M2M-RI", "r1");
const AE: (&str, &str) = ("Content-Type", "application/json;ty=2");

#[test]
fn create_request_is_parsed() {
    let r = read(
        Method::POST,
        "/cse?rcn=3",
        &[
            RI,
            ("X-M2M-Origin", "Clight-AE1"),
            ("X-M2M-RVI", "3"),
            ("X-M2M-OT", "20261124T093000"),
            ("Content-Type", "application/vnd.onem2m-res+json; ty=2; charset=utf-8"),
        ],
        r#"{"m2m:ae":{"api":"Nlight"}}"#,
    )
    .unwrap();
    assert_eq!(r.operation, Operation::Create);
    assert_eq!(r.from.as_deref(), Some("Clight-AE1"));
    assert_eq!(r.request_id, "r1");
    assert_eq!(r.resource_type, Some(2));
    assert_eq!(r.option("rcn").unwrap(), ["3"]);
    let ot = r.parameters.get(Parameter::OriginatingTimestamp);
    assert_eq!((ot, r.parameters.iter().count()), (Some("20261124T093000"), 1));

    let out = write_request(&r, &CseId::parse("mn-cse-123456").unwrap()).unwrap();
    assert_eq!(out.uri(), "/~/mn-cse-123456/cse?rcn=3");
    assert_eq!(out.headers()["content-type"], "application/json;ty=2");
    assert_eq!(out.headers().len(), 6);
}

/// A notification reports the creator of a subscription, who is not the originator. A resource of
/// that name would claim one.
#[test]
fn notification_creator_is_not_originator() {
    let json = ("Content-Type", "application/json");
    let container = ("Content-Type", "application/json;ty=3");
    for root in ["m2m:sgn", "M2M:SGN", "m2m:sg\\u006e", "m2m:agn", "m2m:seci", "m2m:rsp"] {
        let body = format!(r#"{{"{root}":{{"rn":"x"}}}}"#);
        for (method, media) in [(Method::POST, container), (Method::POST, AE), (Method::PUT, json)]
        {
            assert_eq!(rsc(read(method, "/x", &[RI, media], &body)), Rsc::BadRequest, "{body}");
        }
        let notified = read(Method::POST, "/x", &[RI, json], &body).unwrap();
        assert_eq!(notified.operation, Operation::Notify);
    }
    let notified = read(Method::POST, "/x", &[RI, json], r#"{"m2m:sgn":{"cr":"Cb"}}"#).unwrap();
    assert!(notified.content.unwrap().named_originators().is_empty());
}

/// The request would be forwarded to an AE, and answered as if a resource had been created.
#[test]
fn untyped_create_is_not_notification() {
    for root in
        ["m2m:cnt", "m2m:ae", "m2m:cin", "m2m:rqp", "m2m:uril", "hd:light", "sgn", "m2m:sgn2"]
    {
        let body = format!(r#"{{"{root}":{{"rn":"x"}}}}"#);
        for media in ["application/json", "application/vnd.onem2m-res+json"] {
            let e = read(Method::POST, "/x", &[RI, ("Content-Type", media)], &body).unwrap_err();
            assert_eq!(e.rsc, Rsc::BadRequest, "{body}");
            assert!(e.why.contains(";ty="), "{}", e.why);
            assert_eq!(e.request_id.as_deref(), Some("r1"));
        }
    }
}

#[test]
fn methods_stand_for_operations() {
    let ok = |m, fields: &[_], body| read(m, "/x", fields, body).map(|r| r.operation);
    assert_eq!(ok(Method::GET, &[RI], ""), Ok(Operation::Retrieve));
    assert_eq!(ok(Method::DELETE, &[RI], ""), Ok(Operation::Delete));
    let json = ("Content-Type", "application/json");
    assert_eq!(ok(Method::PUT, &[RI, json], "{\"m2m:cnt\":{}}"), Ok(Operation::Update));
    assert_eq!(ok(Method::POST, &[RI, json], "{\"m2m:sgn\":{}}"), Ok(Operation::Notify));
    assert_eq!(ok(Method::POST, &[RI, AE], "{\"m2m:ae\":{}}"), Ok(Operation::Create));
    for method in [Method::PATCH, Method::HEAD, Method::OPTIONS, Method::CONNECT, Method::TRACE] {
        assert_eq!(rsc(read(method, "/x", &[RI], "")), Rsc::OperationNotAllowed);
    }
}

#[test]
fn ambiguous_request_is_refused() {
    let origin = |v| ("X-M2M-Origin", v);
    let get = |fields: &[_]| rsc(read(Method::GET, "/x", fields, ""));
    assert_eq!(get(&[RI, origin("Ca"), origin("Cb")]), Rsc::BadRequest);
    assert_eq!(get(&[RI, origin("Ca"), ("x-m2m-ORIGIN", "Ca")]), Rsc::BadRequest);
    assert_eq!(get(&[RI, origin("Ca"), ("X_M2M_Origin", "Cb")]), Rsc::BadRequest);
    assert_eq!(get(&[RI, ("X-M2M_RI", "r2")]), Rsc::BadRequest);
    assert_eq!(get(&[RI, RI]), Rsc::BadRequest);
    assert_eq!(get(&[]), Rsc::BadRequest);
    assert_eq!(get(&[("X-M2M-RI", "")]), Rsc::BadRequest);
    assert_eq!(get(&[RI, ("X-M2M-RVI", &"3".repeat(1025))]), Rsc::BadRequest);
    assert_eq!(rsc(read(Method::GET, "/x", &[RI], "{}")), Rsc::UnsupportedMediaType);
    assert_eq!(rsc(read(Method::GET, "/x", &[RI, AE], "{}")), Rsc::BadRequest);
    assert_eq!(rsc(read(Method::POST, "/x", &[RI, AE], "")), Rsc::BadRequest);
    assert_eq!(rsc(read(Method::POST, "/x", &[RI, AE], "{")), Rsc::BadRequest);
    assert_eq!(
        rsc(read(Method::POST, "/x", &[RI, ("Content-Type", "application/json;ty=2;ty=3")], "{}")),
        Rsc::BadRequest
    );
    assert_eq!(
        rsc(read(Method::POST, "/x", &[RI, ("Content-Type", "application/xml;ty=2")], "<a/>")),
        Rsc::UnsupportedMediaType
    );
    assert_eq!(
        rsc(read(Method::GET, "/x", &[RI, ("Accept", "application/xml")], "")),
        Rsc::NotAcceptable
    );
    assert_eq!(
        rsc(read(Method::GET, "/x", &[RI, ("Accept", "text/html, */*;q=0.1")], "")),
        Rsc::Ok
    );
}

/// A SPARQL query has line breaks. They are escaped again, so they cannot form header fields.
#[test]
fn line_breaks_in_values_stay_escaped() {
    for text in ["smf=a%0Ab%0D%0AX-M2M-Origin%3A%20Cb%09c", "smf=%0A", "lbl=a%0A+%0Db"] {
        let r = read(Method::GET, &format!("/x?{text}"), &[RI], "").unwrap();
        let out = write_request(&r, &CseId::parse("c").unwrap()).unwrap();
        assert_eq!(out.uri().query(), Some(text));
        assert_eq!(out.headers().len(), 2);
    }
    for bad in ["a=%00", "a=%1b", "a=x+%7f", "a=%c2%85", "a%0a=x", "%0d%0aa=x", "a=%ff"] {
        assert_eq!(
            rsc(read(Method::GET, &format!("/x?{bad}"), &[RI], "")),
            Rsc::BadRequest,
            "{bad}"
        );
    }
}

#[test]
fn http_1_1_request_requires_one_host() {
    let check = |version, hosts: &[&str]| {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_str(host).unwrap());
        }
        check_host(version, &headers).map_err(|e| e.rsc)
    };
    for good in ["gateway", "gateway:8443", "127.0.0.1", "[::1]:443", ""] {
        assert_eq!(check(Version::HTTP_11, &[good]), Ok(()), "{good}");
    }
    for bad in ["a b", "a/b", "u@a", "[::1", "a:b:c", "http://a"] {
        assert_eq!(check(Version::HTTP_11, &[bad]), Err(Rsc::BadRequest), "{bad}");
    }
    assert_eq!(check(Version::HTTP_11, &["a", "a"]), Err(Rsc::BadRequest));
    assert_eq!(check(Version::HTTP_11, &[]), Err(Rsc::BadRequest));
    assert_eq!(check(Version::HTTP_10, &[]), Ok(()));
    assert_eq!(check(Version::HTTP_10, &["a", "b"]), Err(Rsc::BadRequest));
}

#[test]
fn query_cannot_set_header_parameters() {
    for query in ["fr=Cb", "FR=Cb", "%66r=Cb", "op=1", "rqi=x", "x=1&pc=Cb", "rvi=1", "To=x"] {
        assert_eq!(
            rsc(read(Method::GET, &format!("/x?{query}"), &[RI], "")),
            Rsc::BadRequest,
            "{query}"
        );
    }
    let json = ("Content-Type", "application/json");
    for query in ["ty=2", "cr=Cb", "x=1&AEI=Cb", "c%72=Cb"] {
        let path = format!("/x?{query}");
        let notify = read(Method::POST, &path, &[RI, json], "{\"m2m:sgn\":{}}");
        assert_eq!(rsc(notify), Rsc::BadRequest, "{query}");
        let create = read(Method::POST, &path, &[RI, AE], "{\"m2m:ae\":{}}");
        assert_eq!(rsc(create), Rsc::BadRequest, "{query}");
    }
}

/// Filter conditions are attribute names (TS-0009 clause 6.2.2.2), and do not claim an originator.
#[test]
fn filter_condition_is_not_originator() {
    for query in
        ["ty=3&cr=Sam&fu=1", "fu=1&rn=temp", "fu=1&cni=1&aei=Cb", "fu=1&c.cr=Sam&p.rn=x%2A"]
    {
        let r = read(Method::GET, &format!("/x?{query}"), &[RI], "").unwrap();
        let out = write_request(&r, &CseId::parse("c").unwrap()).unwrap();
        assert_eq!(out.uri().query(), Some(query));
        assert!(r.content.is_none());
    }
}

#[test]
fn plus_separates_values_unless_escaped() {
    for (query, elements) in [
        ("lbl=a+b", &["a", "b"][..]),
        ("lbl=a%2Bb", &["a+b"]),
        ("lbl=a%2Bb+c%20d", &["a+b", "c d"]),
        ("lbl=+a+", &["", "a", ""]),
        ("lbl=", &[""]),
    ] {
        let r = read(Method::GET, &format!("/x?{query}"), &[RI], "").unwrap();
        assert_eq!(r.option("lbl").unwrap(), elements, "{query}");
        let out = write_request(&r, &CseId::parse("c").unwrap()).unwrap();
        assert_eq!(out.uri().query(), Some(query));
    }
    let r = read(Method::GET, "/x?lbl", &[RI], "").unwrap();
    assert_eq!(r.options, [("lbl".to_string(), vec![String::new()])]);
    assert_eq!(rsc(read(Method::GET, "/x?lbl=a+%ff", &[RI], "")), Rsc::BadRequest);
}

#[test]
fn create_type_must_match_content() {
    let create = |ty, body| rsc(read(Method::POST, "/x", &[RI, ("Content-Type", ty)], body));
    assert_eq!(create("application/json;ty=2", "{\"m2m:ae\":{}}"), Rsc::Ok);
    assert_eq!(create("application/json;ty=3", "{\"m2m:cnt\":{}}"), Rsc::Ok);
    assert_eq!(create("application/json;ty=3", "{\"m2m:ae\":{}}"), Rsc::BadRequest);
    assert_eq!(create("application/json;ty=2", "{\"m2m:cnt\":{}}"), Rsc::BadRequest);
    assert_eq!(create("application/json;ty=10002", "{\"m2m:aeA\":{}}"), Rsc::Ok);
    assert_eq!(create("application/json;ty=10002", "{\"m2m:cnt\":{}}"), Rsc::BadRequest);
    assert_eq!(create("application/json;ty=3", "{\"m2m:AEA\":{}}"), Rsc::BadRequest);
    assert_eq!(create("application/json;ty=2", "{\"m2m:aeA\":{}}"), Rsc::BadRequest);
    // Only a create has a type.
    let json = ("Content-Type", "application/json;ty=2");
    let put = read(Method::PUT, "/x", &[RI, json], "{\"m2m:cnt\":{}}").unwrap();
    assert_eq!(put.resource_type, None);
}

#[test]
fn error_response_has_request_id() {
    let e = read(Method::GET, "/x/../y", &[RI], "").unwrap_err();
    assert_eq!(e.request_id.as_deref(), Some("r1"));
    let response = write_response(ResponsePrimitive::refusal(
        "r1",
        Some("3"),
        Rsc::OriginatorNotAuthenticated,
        "\"quoted\"",
    ));
    assert_eq!(response.status(), 403);
    assert_eq!(response.headers()["x-m2m-rsc"], "4106");
    assert_eq!(response.headers()["x-m2m-ri"], "r1");
    assert_eq!(&response.body()[..], br#"{"m2m:dbg":"\"quoted\""}"#);
}

#[test]
fn fields_that_are_not_ours_do_not_travel() {
    let r = read(
        Method::GET,
        "/x",
        &[
            RI,
            ("Cookie", "a"),
            ("X-Forwarded-For", "b"),
            ("Connection", "X-M2M-Origin"),
            ("X-M2M-New", "c"),
        ],
        "",
    )
    .unwrap();
    let out = write_request(&r, &CseId::parse("c").unwrap()).unwrap();
    let mut names: Vec<_> = out.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "x-m2m-ri"]);
}

#[test]
fn responses_of_other_cses_are_read_strictly() {
    let read_response = |headers: &_, body| read_response(StatusCode::OK, headers, body);
    let mut headers = HeaderMap::new();
    assert!(read_response(&headers, Bytes::new()).is_err());
    headers.insert(STATUS, HeaderValue::from_static("2000"));
    assert!(read_response(&headers, Bytes::new()).is_ok());
    assert!(read_response(&headers, Bytes::from_static(b"<html>")).is_err());
    headers.insert(STATUS, HeaderValue::from_static("4142"));
    assert_eq!(read_response(&headers, Bytes::new()).unwrap().rsc, Rsc::Other(4142));
    headers.append(STATUS, HeaderValue::from_static("2000"));
    assert!(read_response(&headers, Bytes::new()).is_err());
}

#[test]
fn no_content_is_valid_without_response() {
    let mut headers = HeaderMap::new();
    let none = StatusCode::NO_CONTENT;
    let taken = read_response(none, &headers, Bytes::new()).unwrap();
    assert_eq!((taken.rsc, taken.content), (Rsc::Accepted, None));
    for status in [StatusCode::OK, StatusCode::ACCEPTED, StatusCode::NOT_FOUND] {
        assert!(read_response(status, &headers, Bytes::new()).is_err(), "{status}");
    }
    assert!(read_response(none, &headers, Bytes::from_static(b"{}")).is_err());
    // A code in the header is read, independently of the status.
    headers.insert(STATUS, HeaderValue::from_static("4004"));
    assert_eq!(read_response(none, &headers, Bytes::new()).unwrap().rsc, Rsc::NotFound);
    headers.insert(STATUS, HeaderValue::from_static("none"));
    assert!(read_response(none, &headers, Bytes::new()).is_err());
}

proptest! {
    #[test]
    fn primitive_round_trips(
        from in "[CS][a-z0-9-]{1,20}",
        id in "[A-Za-z0-9/._-]{1,40}",
        value in prop::collection::vec("[ -~]{0,20}", 1..4),
        path in "(/[a-z0-9_-]{1,8}){1,4}",
    ) {
        let at = CseId::parse("cse1").unwrap();
        let fields = [("X-M2M-Origin", from.as_str()), ("X-M2M-RI", id.as_str()), ("X-M2M-RVI", "4")];
        let mut first = read(Method::GET, &path, &fields, "");
        if let Ok(first) = &mut first {
            first.options.push(("lbl".into(), value));
            let out = write_request(first, &at).unwrap();
            let second = read_request(out.method(), out.uri(), out.headers(), Bytes::new()).unwrap();
            prop_assert_eq!(&second.from, &first.from);
            prop_assert_eq!(&second.request_id, &first.request_id);
            prop_assert_eq!(&second.release, &first.release);
            prop_assert_eq!(&second.options, &first.options);
            prop_assert_eq!(&second.to.resource, &first.to.resource);
        }
    }

    #[test]
    fn arbitrary_header_does_not_panic(name in "[xX][-_][mM]2[mM][-_][a-zA-Z]{1,6}", value in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut headers = HeaderMap::new();
        if let (Ok(n), Ok(v)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(&value)) {
            headers.append(n, v);
        }
        let _ = read_request(&Method::GET, &Uri::from_static("/x"), &headers, Bytes::new());
        let _ = read_response(StatusCode::OK, &headers, Bytes::new());
    }
}

#[test]
fn media_type_with_unescaped_plus_is_one_value() {
    let types = |query: &str| read_query(query).unwrap().remove(0).1;
    assert_eq!(types("cty=image/svg+xml"), ["image/svg+xml"]);
    assert_eq!(types("cty=image/svg%2Bxml"), ["image/svg+xml"]);
    assert_eq!(types("cty=a/b+c/d+e"), ["a/b", "c/d+e"]);
    assert_eq!(types("cty=xml"), ["xml"]);
    assert_eq!(types("lbl=image/svg+xml"), ["image/svg", "xml"]);
}

#[test]
fn notification_is_post_with_its_parameters() {
    let url = "http://a.b:8080/notify?x=y".parse().unwrap();
    let content = (Serialization::Json, Bytes::from_static(b"{}"));
    let sent = write_notification(&url, "/mn-cse-123456", "r1", "3", Some(4), content).unwrap();
    assert_eq!(
        (sent.method().as_str(), sent.uri().to_string().as_str()),
        ("POST", "http://a.b:8080/notify?x=y")
    );
    let header = |name: &str| sent.headers()[name].to_str().unwrap();
    assert_eq!(header("x-m2m-origin"), "/mn-cse-123456");
    assert_eq!(header("x-m2m-ec"), "4");
    assert_eq!(header("x-m2m-rvi"), "3");
    assert_eq!(header("x-m2m-ri"), "r1");
    assert_eq!(header("content-type"), "application/json");
}

#[test]
fn notification_in_cbor_names_its_media_type() {
    let url = "http://a.b/".parse().unwrap();
    let content = (Serialization::Cbor, Bytes::from_static(b"\xa0"));
    let sent = write_notification(&url, "/mn-cse-123456", "r1", "3", None, content).unwrap();
    assert_eq!(sent.headers()["content-type"], "application/vnd.onem2m-ntfy+cbor");
    assert_eq!(sent.headers()["accept"], "application/vnd.onem2m-res+cbor, application/json;q=0.5");
    assert_eq!(&sent.body()[..], b"\xa0");
    // The response may be in either.
    let response = |media: &'static str, body: &'static [u8]| {
        let mut headers = HeaderMap::new();
        headers.insert("x-m2m-rsc", HeaderValue::from_static("4103"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        read_response(StatusCode::FORBIDDEN, &headers, Bytes::from_static(body))
    };
    for (media, body) in [
        ("application/vnd.onem2m-res+cbor", &b"\xa1\x67m2m:dbg\x62no"[..]),
        ("application/cbor", b"\xa1\x67m2m:dbg\x62no"),
        ("application/json", br#"{"m2m:dbg":"no"}"#),
    ] {
        let read = response(media, body).unwrap();
        assert_eq!(&read.content.unwrap()[..], br#"{"m2m:dbg":"no"}"#, "{media}");
    }
    response("application/cbor", br#"{"m2m:dbg":"no"}"#).unwrap_err();
    response("application/json", b"\xa1\x67m2m:dbg\x62no").unwrap_err();
}

#[test]
fn cbor_content_is_read_as_json_and_answered_in_cbor() {
    // {"m2m:cnt": {"rn": "lamp"}}
    let cbor = Bytes::from_static(b"\xa1\x67m2m:cnt\xa1\x62rn\x64lamp");
    let create = |media: &str, accept: Option<&str>, body: &Bytes| {
        let mut headers = HeaderMap::new();
        headers.insert("x-m2m-ri", HeaderValue::from_static("r1"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(media).unwrap());
        if let Some(accept) = accept {
            headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
        }
        let uri = Uri::from_static("/x");
        let request = read_request(&Method::POST, &uri, &headers, body.clone());
        (request, response_serialization(&headers))
    };
    let media = "application/vnd.onem2m-res+cbor;ty=3";
    let (request, serialization) = create(media, None, &cbor);
    let content = request.unwrap().content.unwrap();
    assert_eq!(&content.bytes()[..], br#"{"m2m:cnt":{"rn":"lamp"}}"#);
    assert_eq!(serialization, Serialization::Cbor);
    for (accept, expected) in [
        ("application/json", Serialization::Json),
        ("application/vnd.onem2m-res+cbor, application/json;q=0.1", Serialization::Json),
        ("*/*", Serialization::Json),
        ("application/xml, application/vnd.onem2m-ntfy+CBOR", Serialization::Cbor),
    ] {
        let (request, serialization) = create(media, Some(accept), &cbor);
        assert!(request.is_ok());
        assert_eq!(serialization, expected, "{accept}");
    }
    let json = Bytes::from_static(br#"{"m2m:cnt":{}}"#);
    for (media, body) in [
        (media, json.clone()),
        ("application/json;ty=3", cbor.clone()),
        (media, Bytes::from_static(b"\xa2\x67m2m:cnt\xa0\x67m2m:cnt\xa0")),
        (media, Bytes::from_static(b"\xa1\x67m2m:cnt\xa1\x62rn\x44lamp")),
        (media, Bytes::from_static(b"\xa1\x67m2m:cnt\xa0\x00")),
    ] {
        assert_eq!(create(media, None, &body).0.unwrap_err().rsc, Rsc::BadRequest, "{media}");
    }
    for xml in ["application/xml;ty=3", "application/vnd.onem2m-res+xml;ty=3"] {
        let error = create(xml, None, &json).0.unwrap_err();
        assert_eq!(error.rsc, Rsc::UnsupportedMediaType);
        assert!(error.why.contains("XML"), "{}", error.why);
    }
    let refused = create(media, Some("application/xml"), &cbor).0.unwrap_err();
    assert_eq!(refused.rsc, Rsc::NotAcceptable);
    let refusal = ResponsePrimitive::refusal("r1", None, Rsc::NotFound, "no");
    let response = write_server_response(refusal, None, Serialization::Cbor);
    assert_eq!(response.headers()["content-type"], "application/vnd.onem2m-res+cbor");
    assert_eq!(&response.body()[..], b"\xa1\x67m2m:dbg\x62no");
}
