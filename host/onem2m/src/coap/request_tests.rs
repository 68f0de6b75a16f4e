//! Requests that are primitives, and those that are refused.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::target::Scope;

/// A request with text options.
fn parts(code: Code, options: &[(u16, &str)], payload: &str) -> Parts {
    let mut parts = Parts::new(code);
    options.iter().for_each(|(number, value)| parts.options.push_text(*number, value));
    parts.payload = Bytes::copy_from_slice(payload.as_bytes());
    parts
}

fn read(code: Code, options: &[(u16, &str)], payload: &str) -> Result<RequestPrimitive, Refusal> {
    read_request(&parts(code, options, payload))
}

/// The code and the Response Status Code of a refusal.
fn refused(code: Code, options: &[(u16, &str)], payload: &str) -> (Code, Rsc) {
    let refusal = read(code, options, payload).unwrap_err();
    (refusal.code, refusal.error.rsc)
}

const PATH: (u16, &str) = (URI_PATH, "cse");
const FR: (u16, &str) = (279, "Clight-AE1");
const RQI: (u16, &str) = (283, "r1");
const RVI: (u16, &str) = (271, "3");
/// The resource type 2.
const TY: (u16, &str) = (267, "\u{2}");
/// The Content-Format 50.
const JSON_FORMAT: (u16, &str) = (CONTENT_FORMAT, "2");
const AE: &str = r#"{"m2m:ae":{"api":"Nlight"}}"#;
const BAD: (Code, Rsc) = (Code::BAD_REQUEST, Rsc::BadRequest);
const BAD_OPTION: (Code, Rsc) = (Code::BAD_OPTION, Rsc::BadRequest);

#[test]
fn create_request_is_parsed() {
    let path = [(URI_PATH, "~"), (URI_PATH, "mn-cse-123456"), (URI_PATH, "cse")];
    let others = [FR, RQI, RVI, TY, JSON_FORMAT, (URI_QUERY, "rcn=3"), (303, "\u{4}")];
    let r = read(Code::POST, &[&path[..], &others].concat(), AE).unwrap();
    assert_eq!(r.operation, Operation::Create);
    assert_eq!(r.to.scope, Scope::SpRelative(CseId::parse("mn-cse-123456").unwrap()));
    assert_eq!(r.to.resource, "cse");
    assert_eq!(r.from.as_deref(), Some("Clight-AE1"));
    assert_eq!((r.request_id.as_str(), r.release.as_deref()), ("r1", Some("3")));
    assert_eq!(r.resource_type, Some(2));
    assert_eq!(r.option("rcn").unwrap(), ["3"]);
    assert_eq!(r.parameters.get(Parameter::EventCategory), Some("4"));
}

#[test]
fn request_of_former_table_is_parsed() {
    let options = [PATH, (256, "Ca"), (257, "r1"), TY, JSON_FORMAT, (260, "20261124T093000")];
    let r = read(Code::POST, &options, AE).unwrap();
    assert_eq!((r.from.as_deref(), r.request_id.as_str(), r.release), (Some("Ca"), "r1", None));
    assert_eq!(r.parameters.get(Parameter::RequestExpiration), Some("20261124T093000"));
}

#[test]
fn mixed_tables_are_refused() {
    for mixed in [
        &[FR, (256, "Cb"), RQI][..],
        &[FR, (257, "r1")],
        &[(256, "Ca"), RQI],
        &[(256, "Ca"), (257, "r1"), RVI],
        &[FR, RQI, (265, "\u{7}")],
    ] {
        assert_eq!(refused(Code::GET, &[&[PATH][..], mixed].concat(), ""), BAD, "{mixed:?}");
    }
}

/// Another parser may use the first or the last of two options.
#[test]
fn repeated_option_is_refused() {
    for repeated in [
        FR,
        RQI,
        RVI,
        TY,
        (259, "20261124T093000"),
        (263, "x"),
        (303, "\u{1}"),
        JSON_FORMAT,
        (ACCEPT, "2"),
        (URI_HOST, "a"),
        (URI_PORT, "a"),
    ] {
        let options = [PATH, FR, RQI, TY, JSON_FORMAT, repeated, repeated];
        assert_eq!(refused(Code::POST, &options, AE), BAD_OPTION, "{repeated:?}");
    }
    let former = [PATH, (256, "Ca"), (256, "Cb"), (257, "r1")];
    assert_eq!(refused(Code::GET, &former, ""), BAD_OPTION);
}

#[test]
fn unknown_critical_option_is_refused() {
    // If-Match, If-None-Match, Observe as its critical neighbor, a oneM2M number without a meaning,
    // a status and another parameter of responses.
    for number in [1, 5, 9, 315, 307, 319, 323, 327, 65535] {
        let options = [PATH, FR, RQI, (number, "\u{1}")];
        assert_eq!(refused(Code::GET, &options, ""), BAD_OPTION, "{number}");
    }
    // The number of the status in the former table does not have the critical bit.
    let former = [PATH, (256, "Ca"), (257, "r1"), (265, "\u{7}")];
    assert_eq!(refused(Code::GET, &former, ""), BAD_OPTION);
    // Observe, No-Response and Request-Tag are elective.
    for number in [4, 6, 14, 258, 292, 2048] {
        assert!(read(Code::GET, &[PATH, FR, RQI, (number, "x")], "").is_ok(), "{number}");
    }
}

#[test]
fn parameter_that_is_not_supported_is_refused() {
    let unsupported = (Code::NOT_IMPLEMENTED, Rsc::NotImplemented);
    for number in [335, 343, 347, 351] {
        assert_eq!(refused(Code::GET, &[PATH, FR, RQI, (number, "x")], ""), unsupported);
    }
    assert_eq!(refused(Code::GET, &[PATH, FR, RQI, (URI_QUERY, "tkns=x")], ""), unsupported);
    for number in [PROXY_URI, PROXY_SCHEME] {
        let found = refused(Code::GET, &[PATH, FR, RQI, (number, "coap")], "");
        assert_eq!(found, (Code::PROXYING_NOT_SUPPORTED, Rsc::NotImplemented));
    }
}

#[test]
fn value_outside_of_its_format_is_refused() {
    let long = "x".repeat(256);
    for option in [(279, long.as_str()), (URI_PATH, &long), (URI_QUERY, &long), (311, &long)] {
        assert_eq!(refused(Code::GET, &[PATH, RQI, option], ""), BAD_OPTION);
    }
    for option in [(267, "abc"), (303, "ab"), (ACCEPT, "abc"), (CONTENT_FORMAT, "abc")] {
        let options = [PATH, FR, RQI, option];
        assert_eq!(refused(Code::POST, &options, AE), BAD_OPTION, "{option:?}");
    }
    for text in ["é", "a\nb", "a\u{0}", "\u{7f}"] {
        assert_eq!(refused(Code::GET, &[PATH, RQI, (279, text)], ""), BAD, "{text:?}");
    }
    let mut request = parts(Code::GET, &[PATH, RQI], "");
    request.options.push(279, vec![0xFF]);
    assert_eq!(read_request(&request).unwrap_err().code, Code::BAD_REQUEST);
}

#[test]
fn request_without_identifier_or_target_is_refused() {
    assert_eq!(refused(Code::GET, &[PATH, FR], ""), BAD);
    assert_eq!(refused(Code::GET, &[PATH, FR, (283, "")], ""), BAD);
    assert_eq!(refused(Code::GET, &[FR, RQI], ""), BAD);
    for path in ["", "..", "a/b", "%2e", "a%2Fb", "~", "a b"] {
        assert_eq!(refused(Code::GET, &[(URI_PATH, path), RQI], ""), BAD, "{path}");
    }
    let error = read(Code::GET, &[(URI_PATH, ".."), RQI], "").unwrap_err().error;
    assert_eq!(error.request_id.as_deref(), Some("r1"));
}

#[test]
fn methods_stand_for_operations() {
    let operation = |code, options: &[_], payload| {
        read(code, &[&[PATH, RQI, JSON_FORMAT][..], options].concat(), payload)
            .map(|request| request.operation)
            .map_err(|refusal| refusal.code)
    };
    assert_eq!(operation(Code::GET, &[], ""), Ok(Operation::Retrieve));
    assert_eq!(operation(Code::DELETE, &[], ""), Ok(Operation::Delete));
    assert_eq!(operation(Code::PUT, &[], r#"{"m2m:cnt":{}}"#), Ok(Operation::Update));
    assert_eq!(operation(Code::POST, &[], r#"{"m2m:sgn":{}}"#), Ok(Operation::Notify));
    assert_eq!(operation(Code::POST, &[TY], AE), Ok(Operation::Create));
    // FETCH, PATCH, iPATCH
    for datagram in [[0x40, 5, 0, 1], [0x40, 6, 0, 1], [0x40, 7, 0, 1]] {
        let message = super::super::Message::parse(&Bytes::copy_from_slice(&datagram)).unwrap();
        assert_eq!(operation(message.parts.code, &[], ""), Err(Code::METHOD_NOT_ALLOWED));
    }
}

/// TS-0008 clause 6.2.1: a request that is not blocking is a POST with its operation in the query.
#[test]
fn operation_of_nonblocking_request_is_in_query() {
    let read_post = |queries: &[&str], others: &[(u16, &str)], payload| {
        let queries: Vec<_> = queries.iter().map(|query| (URI_QUERY, *query)).collect();
        read(Code::POST, &[&[PATH, RQI, JSON_FORMAT][..], &queries, others].concat(), payload)
    };
    let operation = |query: &str, others: &[_], payload| {
        read_post(&["rt=2", query], others, payload).map(|r| r.operation).map_err(|r| r.code)
    };
    assert_eq!(operation("op=1", &[TY], AE), Ok(Operation::Create));
    assert_eq!(operation("op=2", &[], ""), Ok(Operation::Retrieve));
    assert_eq!(operation("op=3", &[], r#"{"m2m:cnt":{}}"#), Ok(Operation::Update));
    assert_eq!(operation("op=4", &[], ""), Ok(Operation::Delete));
    assert_eq!(operation("op=5", &[], r#"{"m2m:sgn":{}}"#), Ok(Operation::Notify));
    for (query, others, payload) in [
        ("op=1", &[][..], AE),
        ("op=2", &[TY], ""),
        ("op=0", &[], ""),
        ("op=6", &[], ""),
        ("op=02", &[], ""),
        ("op", &[], ""),
        ("op=2", &[(URI_QUERY, "op=2")], ""),
        ("op=2", &[(URI_QUERY, "rt=1")], ""),
        ("OP=2", &[], ""),
    ] {
        assert_eq!(operation(query, others, payload), Err(Code::BAD_REQUEST), "{query}");
    }
    for queries in [&["op=2"][..], &["rt=3", "op=2"]] {
        assert_eq!(read_post(queries, &[], "").unwrap_err().code, Code::BAD_REQUEST);
    }
    let get = [PATH, RQI, (URI_QUERY, "rt=1"), (URI_QUERY, "op=2")];
    assert_eq!(refused(Code::GET, &get, ""), BAD);
    let retrieve = read_post(&["op=2", "rt=1", "ty=3", "cr=Ca"], &[], "").unwrap();
    assert_eq!(retrieve.option("ty").unwrap(), ["3"]);
}

#[test]
fn query_is_split_where_it_is_a_list() {
    let query = |text: &str| {
        let read = read(Code::GET, &[PATH, RQI, (URI_QUERY, text)], "");
        read.map(|mut r| r.options.remove(0).1).map_err(|r| (r.code, r.error.rsc))
    };
    assert_eq!(query("lbl=a+b").unwrap(), ["a", "b"]);
    assert_eq!(query("cty=image/svg+xml+text/plain").unwrap(), ["image/svg+xml", "text/plain"]);
    assert_eq!(query("lbq=a+b").unwrap(), ["a+b"]);
    assert_eq!(query("rn=100%25&x").unwrap(), ["100%25&x"]);
    assert_eq!(query("fu").unwrap(), [""]);
    for refused in ["fr=Ca", "FR=Ca", "to=x", "rqi=2", "rvi=3", "pc={}", "rn=a\u{0}", "a\nb=c"] {
        assert_eq!(query(refused), Err(BAD), "{refused}");
    }
    let repeated = [PATH, RQI, (URI_QUERY, "rcn=1"), (URI_QUERY, "rcn=4")];
    assert_eq!(refused(Code::GET, &repeated, ""), BAD);
    let many: Vec<_> = [PATH, RQI].into_iter().chain([(URI_QUERY, "lbl=a"); 33]).collect();
    assert_eq!(refused(Code::GET, &many, ""), BAD);
    let long = "x".repeat(250);
    let long: Vec<_> = [PATH, RQI].into_iter().chain([(URI_QUERY, long.as_str()); 9]).collect();
    assert_eq!(refused(Code::GET, &long, ""), BAD);
    for of_resource in ["ty=2", "cr=Ca", "aei=Ca", "AEI=Ca"] {
        let options = [PATH, RQI, TY, JSON_FORMAT, (URI_QUERY, of_resource)];
        assert_eq!(refused(Code::POST, &options, AE), BAD, "{of_resource}");
    }
}

#[test]
fn content_and_formats_are_checked() {
    let of = |format: u32, payload: &str| {
        let mut request = parts(Code::POST, &[PATH, RQI, TY], payload);
        request.options.push_uint(CONTENT_FORMAT, format);
        read_request(&request).map(|_| ()).map_err(|r| r.code)
    };
    for format in [50, 10001, 10003] {
        assert_eq!(of(format, AE), Ok(()));
    }
    for format in [0, 41, 10006, 10007, 10012, 10014, 10015, 65535] {
        assert_eq!(of(format, AE), Err(Code::UNSUPPORTED_CONTENT_FORMAT), "{format}");
    }
    assert_eq!(of(60, AE), Err(Code::BAD_REQUEST));
    assert_eq!(of(50, "{"), Err(Code::BAD_REQUEST));
    let untyped = refused(Code::POST, &[PATH, RQI, TY], AE);
    assert_eq!(untyped, (Code::UNSUPPORTED_CONTENT_FORMAT, Rsc::UnsupportedMediaType));
    // Operations and their contents.
    assert_eq!(refused(Code::POST, &[PATH, RQI, TY], ""), BAD);
    assert_eq!(refused(Code::PUT, &[PATH, RQI], ""), BAD);
    assert_eq!(refused(Code::GET, &[PATH, RQI, JSON_FORMAT], AE), BAD);
    assert_eq!(refused(Code::GET, &[PATH, RQI, TY], ""), BAD);
    assert_eq!(refused(Code::POST, &[PATH, RQI, JSON_FORMAT], AE), BAD);
    let cbor = Serialization::Cbor.from_json(AE.into()).unwrap();
    let mut request = parts(Code::POST, &[PATH, RQI, TY], "");
    request.options.push_uint(CONTENT_FORMAT, 60);
    request.payload = cbor;
    assert_eq!(read_request(&request).unwrap().content.unwrap().bytes(), AE);
    let accept = |format: u32| {
        let mut request = parts(Code::GET, &[PATH, RQI], "");
        request.options.push_uint(ACCEPT, format);
        read_request(&request).map(|_| ()).map_err(|r| (r.code, r.error.rsc))
    };
    for format in [50, 60, 10001, 10003, 10010, 10011] {
        assert_eq!(accept(format), Ok(()));
    }
    for format in [0, 41, 10002, 10014] {
        assert_eq!(accept(format), Err((Code::NOT_ACCEPTABLE, Rsc::NotAcceptable)));
    }
}

#[test]
fn written_request_is_read_as_the_same() {
    let path = [(URI_PATH, "~"), (URI_PATH, "cse1"), (URI_PATH, "a"), (URI_PATH, "b")];
    let others = [FR, RQI, RVI, TY, JSON_FORMAT, (303, "\u{4}"), (263, "x&y"), (331, "v")];
    let queries = [(URI_QUERY, "rt=2"), (URI_QUERY, "op=1"), (URI_QUERY, "rids=a+b")];
    let first = read(Code::POST, &[&path[..], &others, &queries].concat(), AE).unwrap();
    for serialization in [Serialization::Json, Serialization::Cbor] {
        let cse = CseId::parse("cse1").unwrap();
        let second = read_request(&write_request(&first, &cse, serialization).unwrap()).unwrap();
        assert_eq!(format!("{second:?}"), format!("{first:?}"));
    }
}

#[test]
fn value_that_coap_cannot_carry_is_not_written() {
    let target = Target::from_path("/cse").unwrap();
    let own =
        || RequestPrimitive::own(Operation::Retrieve, target.clone(), "Ca".into(), "r1".into());
    let write = |r: &RequestPrimitive| {
        write_request(r, &CseId::parse("cse1").unwrap(), Serialization::Json)
    };
    assert!(write(&own()).is_ok());
    assert!(write(&RequestPrimitive { from: Some("x".repeat(256)), ..own() }).is_err());
    for (name, value) in [("lbl", "a+b"), ("rn", &"x".repeat(256)), ("a=b", "c")] {
        let options = vec![(name.into(), vec![value.into()])];
        assert!(write(&RequestPrimitive { options, ..own() }).is_err(), "{name}");
    }
    for (parameter, value) in [(Parameter::EventCategory, "x"), (Parameter::Tokens, "t")] {
        let parameters = [(parameter, value)].into_iter().collect();
        assert!(write(&RequestPrimitive { parameters, ..own() }).is_err());
    }
}

proptest! {
    #[test]
    fn arbitrary_options_do_not_panic(
        code in prop_oneof![Just(Code::GET), Just(Code::POST)],
        options in proptest::collection::vec((0u16..400, ".{0,9}"), 0..9),
        payload in ".{0,40}",
    ) {
        let mut request = parts(code, &[PATH, RQI], &payload);
        options.iter().for_each(|(number, value)| request.options.push_text(*number, value));
        let _ = read_request(&request);
    }
}
