use saegis_onem2m::parameter::Parameter;
use saegis_onem2m::primitive::Operation;
use serde_json::json;

use crate::testing::{Bench, LIGHT1, request};

#[test]
fn release_versions_are_those_that_are_spoken() {
    let bench = Bench::with_lights();
    let send = |release: Option<&str>| {
        let mut request = request(Operation::Retrieve, "/cse", Some(LIGHT1), None);
        request.release = release.map(Into::into);
        bench.send(&request)
    };
    for release in [None, Some("2a"), Some("3"), Some("4"), Some("5")] {
        let reply = send(release);
        assert_eq!((reply.code, reply.response.release.as_deref()), (2000, release));
    }
    for release in ["", "1", "2", "6", "3 ", "latest"] {
        let reply = send(Some(release));
        assert_eq!(reply.code, 4001, "{release}");
        assert_eq!(reply.response.release.as_deref(), Some("5"));
    }
}

#[test]
fn originator_is_required() {
    let bench = Bench::with_lights();
    for operation in [Operation::Retrieve, Operation::Delete] {
        for from in [None, Some("C"), Some("S"), Some("light")] {
            let reply = bench.send(&request(operation, "/cse/light1", from, None));
            assert_eq!(reply.code, 4000, "{from:?}");
        }
    }
    let reply = bench.create(None, "/cse/light1", 3, json!({"m2m:cnt": {}}));
    assert_eq!(reply.code, 4000);
}

#[test]
fn error_response_is_complete() {
    let bench = Bench::with_lights();
    let reply = bench.retrieve("Cnobody", "/cse/light1");
    assert_eq!(reply.code, 4103);
    assert_eq!(reply.response.request_id, "r1");
    assert_eq!(reply.response.release.as_deref(), Some("3"));
    assert_eq!(
        reply.json,
        json!({"m2m:dbg": "the originator has no privilege to retrieve at this resource"})
    );
}

#[test]
fn unsupported_query_is_refused() {
    let bench = Bench::with_lights();
    for (path, code) in [
        ("/cse?rt=2", 5001),
        ("/cse?fu=1&smf=x", 5001),
        ("/cse?fu=1&nonsense=x", 4000),
        ("/cse?ty=3", 5001),
        ("/cse?rcn=7", 4000),
    ] {
        let reply = bench.retrieve(LIGHT1, path);
        assert_eq!(reply.code, code, "{path} {}", reply.why());
    }
    let empty = || Some(json!({"m2m:sgn": {}}));
    let notify = request(Operation::Notify, "/cse/light1/state", Some(LIGHT1), empty());
    assert_eq!(bench.send(&notify).code, 5001);
    let create = request(Operation::Create, "/cse/light1", Some(LIGHT1), empty());
    assert_eq!(bench.send(&create).code, 4000);
}

#[test]
fn expired_request_is_refused() {
    let bench = Bench::with_lights();
    for (value, code) in [
        ("20261124T093001", 2000),
        ("20261124T093000", 4008),
        ("5000", 2000),
        ("0", 4008),
        ("-1000", 4008),
        ("soon", 4000),
    ] {
        for name in [Parameter::RequestExpiration, Parameter::ResultExpiration] {
            let mut request = request(Operation::Retrieve, "/cse", Some(LIGHT1), None);
            request.parameters.set(name, value);
            assert_eq!(bench.send(&request).code, code, "{name} {value}");
        }
    }
    // Execution time: now, or not supported.
    for (value, code) in
        [("0", 2000), ("1000", 5001), ("20261124T093001", 5001), ("-1", 4008), ("soon", 4000)]
    {
        let mut request = request(Operation::Retrieve, "/cse", Some(LIGHT1), None);
        request.parameters.set(Parameter::ExecutionTime, value);
        assert_eq!(bench.send(&request).code, code, "{value}");
    }
}

#[test]
fn content_must_be_one_resource() {
    let bench = Bench::with_lights();
    let send = |content| {
        let mut request = request(Operation::Create, "/cse/light1", Some(LIGHT1), content);
        request.resource_type = Some(3);
        bench.send(&request).code
    };
    assert_eq!(send(None), 4000);
    for content in [json!({"cnt": {}}), json!({"m2m:cnt": 1})] {
        assert_eq!(send(Some(content.clone())), 4000, "{content}");
    }
    assert_eq!(send(Some(json!({"m2m:cnt": {}}))), 2001);
}
