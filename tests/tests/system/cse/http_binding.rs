//! The HTTP binding (TS-0009): filters, notifications, timestamps, and the rules of HTTP.

use saegis_tests::{Gateway, LIGHT1, LIGHT2, Light, Reply, Request, Setup, Upstream};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";

/// Starts a gateway with both lights. Light 1 has two containers, one of them with an instance.
fn start() -> (Gateway, Light) {
    let gateway = Setup::new().start();
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    other.ask(&Request::create_ae("light2").from(OTHER)).unwrap().expect(201, 2001);
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut create = |request: Request| light.ask(&request.from(OWN)).unwrap().expect(201, 2001);
    create(Request::create_ae("light1"));
    create(Request::create("/cse/light1", 3, &json!({"m2m:cnt": {"rn": "temp", "cr": null}})));
    create(Request::create_container("/cse/light1", "hall"));
    create(Request::create_instance("/cse/light1/temp", "21"));
    (gateway, light)
}

fn own(path: &str) -> Request {
    Request::retrieve(path).from(OWN)
}

/// `?ty=3&cr=Sam&fu=1` is the example of TS-0009 clause 6.2.2.2.
#[test]
fn discovery_filters_by_attributes() {
    let (_gateway, mut light) = start();
    let mut found = |query: &str| -> Vec<String> {
        let answer = light.ask(&own(&format!("/cse/light1?fu=1&{query}"))).unwrap();
        let list = answer.expect(200, 2000).json()["m2m:uril"].clone();
        let names = list.as_array().unwrap().iter();
        names.map(|at| at.as_str().unwrap().rsplit('/').next().unwrap().to_string()).collect()
    };
    assert_eq!(found("ty=3&cr=Clight-AE1"), ["temp"]);
    assert_eq!(found("ty=3&cr=Clight*"), ["temp"]);
    assert_eq!(found("rn=hall"), ["hall"]);
    assert_eq!(found("ty=3&rn=hall+temp"), ["temp", "hall"]);
    assert_eq!(found("cni=1"), ["temp"]);
    assert_eq!(found("cni=0"), ["hall"]);
    assert_eq!(found("con=21&ty=4").len(), 1);
    // A filter may name another AE, because it is not an originator.
    assert_eq!(found("cr=Clight-AE2"), [""; 0]);
    assert_eq!(found("cr=CAdmin"), [""; 0]);
    // No type that this CSE hosts has this attribute.
    assert_eq!(found("api=N*"), [""; 0]);
    for (query, code, named) in [
        ("nonsense=1", 4000, "nonsense"),
        ("CR=Clight-AE1", 4000, "CR"),
        ("ct=20261124T093000", 4000, "crb and cra"),
        ("st=1", 4000, "sts and stb"),
        ("c.cr=Clight-AE1", 5001, "children"),
        ("p.rn=light1", 5001, "parents"),
        ("smf=x%0Ay", 5001, "smf"),
    ] {
        let refused = light.ask(&own(&format!("/cse/light1?fu=1&{query}"))).unwrap();
        assert_eq!(refused.rsc(), Some(code), "{query} {refused:?}");
        assert!(refused.debug().contains(named), "{query} {refused:?}");
    }
    // The originator is checked as usual, whatever a filter names.
    let as_other = Request::retrieve("/cse/light1?fu=1&cr=Clight-AE2").from(OTHER);
    light.ask(&as_other).unwrap().expect_refusal(403, 4106);
}

#[test]
fn escaped_line_breaks_are_forwarded_unchanged() {
    let upstream = Upstream::start(Reply::answer(200, 2000, "{\"m2m:uril\":[]}"));
    let gateway = Setup::new().upstream(upstream.port()).start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let queries = [
        "ty=3&cr=Sam&fu=1",
        "fu=1&rn=temp",
        "fu=1&cni=1&c.cr=Sam&p.rn=x%2A",
        "fu=1&smf=SELECT%20%3Fcar%0AWHERE%20%7B%0D%0A%09%3Fcar%7D",
        "fu=1&lbl=a%0D%0AX-M2M-Origin%3A%20CAdmin%0D%0A%0D%0AGET%20%2F+b",
    ];
    for (nth, query) in queries.into_iter().enumerate() {
        light.ask(&own(&format!("/cse?{query}"))).unwrap().expect(200, 2000);
        let arrived = &upstream.wait(nth + 1)[nth];
        assert_eq!(arrived.line, format!("GET /~/mn-cse-123456/cse?{query} HTTP/1.1"));
        assert_eq!(arrived.values("x-m2m-origin"), [OWN]);
    }
    for bad in ["fu=1&smf=a%00", "a%0Ab=1", "fu=1&smf=%1b"] {
        light.ask(&own(&format!("/cse?{bad}"))).unwrap().expect_refusal(400, 4000);
    }
    assert_eq!(upstream.requests().len(), queries.len());
}

/// Such a request used to go to the AE's server as a notification, with a success response.
#[test]
fn create_without_resource_type_is_refused() {
    let (_gateway, mut light) = start();
    let post = |path: &str, body: &Value| {
        let request = Request::new("POST", path).header("Content-Type", "application/json");
        request.body(&body.to_string()).from(OWN)
    };
    for path in ["/cse/light1", "/cse", "/cse/light1/temp"] {
        for body in [
            json!({"m2m:cnt": {"rn": "lost1"}}),
            json!({"m2m:cin": {"con": "1"}}),
            json!({"m2m:ae": {"api": "Nx", "rr": true}}),
            json!({"m2m:rqp": {"op": 1}}),
        ] {
            let refused = light.ask(&post(path, &body)).unwrap().expect_refusal(400, 4000);
            assert!(refused.debug().contains(";ty="), "{refused:?}");
        }
    }
    // A valid notification is forwarded, here to an AE without a point of access.
    for root in ["m2m:sgn", "m2m:agn", "m2m:rsp"] {
        let notify = post("/cse/light1", &json!({root: {}}));
        let answer = light.ask(&notify).unwrap();
        assert_eq!(answer.rsc(), Some(5103), "{root} {answer:?}");
        let create = Request::create("/cse/light1", 3, &json!({root: {}})).from(OWN);
        light.ask(&create).unwrap().expect_refusal(400, 4000);
    }
    light.ask(&own("/cse/light1/lost1")).unwrap().expect(404, 4004);
}

#[test]
fn times_are_absolute_or_relative() {
    let (_gateway, mut light) = start();
    for (name, value, code) in [
        ("X-M2M-RET", "1000", 2000),
        ("X-M2M-RET", "20991231T000000", 2000),
        ("X-M2M-RET", "-1000", 4008),
        ("X-M2M-RET", "0", 4008),
        ("X-M2M-RET", "20200101T000000", 4008),
        ("X-M2M-RET", "soon", 4000),
        ("X-M2M-RET", "99999999999999999999", 4000),
        ("X-M2M-RST", "-1", 4008),
        ("X-M2M-RST", "20200101T000000", 4008),
        ("X-M2M-RST", "20991231T000000", 2000),
        ("X-M2M-RST", "later", 4000),
        ("X-M2M-OET", "0", 2000),
        ("X-M2M-OET", "-1", 4008),
        ("X-M2M-OET", "1000", 5001),
        ("X-M2M-OET", "later", 4000),
    ] {
        let answer = light.ask(&own("/cse/light1").header(name, value)).unwrap();
        assert_eq!(answer.rsc(), Some(code), "{name}: {value} {answer:?}");
    }
    // An expired request is not forwarded to another CSE.
    for name in ["X-M2M-RET", "X-M2M-RST", "X-M2M-OET"] {
        let late = own("/~/mn-cse-654321/cse").header(name, "-1000");
        light.ask(&late).unwrap().expect_refusal(504, 4008);
    }
    light.ask(&own("/~/mn-cse-654321/cse")).unwrap().expect_refusal(404, 5103);
}

#[test]
fn response_types_are_distinguished() {
    let (_gateway, mut light) = start();
    light.ask(&own("/cse/light1?rt=1")).unwrap().expect(202, 1001);
    light.ask(&own("/cse/light1?rt=5")).unwrap().expect_refusal(501, 5001);
    for rt in ["3", "4"] {
        light.ask(&own(&format!("/cse/light1?rt={rt}"))).unwrap().expect(200, 2000);
    }
    light.ask(&own("/cse/light1?rt=9")).unwrap().expect_refusal(400, 4000);
}

#[test]
fn request_has_one_host_and_known_method() {
    let (_gateway, mut light) = start();
    let hostless = own("/cse/light1").without("Host");
    let refused = light.ask(&hostless).unwrap().expect_refusal(400, 4000);
    assert!(refused.debug().contains("Host"), "{refused:?}");
    light.ask(&own("/cse/light1").header("Host", "other")).unwrap().expect_refusal(400, 4000);
    for bad in ["a b", "user@gateway", "http://gateway/"] {
        let request = own("/cse/light1").without("Host").header("Host", bad);
        light.ask(&request).unwrap().expect_refusal(400, 4000);
    }
    let create = Request::create_container("/cse/light1", "lost").from(OWN).without("Host");
    light.ask(&create).unwrap().expect_refusal(400, 4000);
    light.ask(&own("/cse/light1/lost")).unwrap().expect(404, 4004);
    light.ask(&own("/cse/light1").without("Host").header("Host", "")).unwrap().expect(200, 2000);

    for method in ["PATCH", "OPTIONS", "TRACE"] {
        let refused = light.ask(&Request::new(method, "/cse/light1").from(OWN)).unwrap();
        let refused = refused.expect(405, 4005);
        assert_eq!(refused.header("allow"), Some("GET, POST, PUT, DELETE"), "{method}");
    }
    let update = Request::update("/cse/light1/temp/la", &json!({"m2m:cin": {"lbl": ["x"]}}));
    let refused = light.ask(&update.from(OWN)).unwrap().expect(405, 4005);
    assert_eq!(refused.header("allow"), Some("GET, POST, DELETE"));
    let fine = light.ask(&own("/cse/light1")).unwrap().expect(200, 2000);
    assert_eq!(fine.header("allow"), None);
}

/// Content is CBOR where the client says so, and JSON inside. XML is refused with a reason.
#[test]
fn content_may_be_cbor_and_not_xml() {
    const CBOR: &str = "application/vnd.onem2m-res+cbor";
    let (_gateway, mut light) = start();
    let mut ask = |request: Request| light.ask(&request.from(OWN)).unwrap();
    let create = |media: &str| {
        let media = format!("{media};ty=4");
        Request::new("POST", "/cse/light1/temp").header("Content-Type", &media)
    };
    let latest = || Request::retrieve("/cse/light1/temp/la");
    // {"m2m:cin": {"con": "22"}}
    let created = ask(create(CBOR).binary(b"\xa1\x67m2m:cin\xa1\x63con\x6222")).expect(201, 2001);
    // A client that does not say what it accepts gets the serialization of its content.
    assert_eq!(created.header("content-type"), Some(CBOR));
    assert_eq!(ask(latest()).expect(200, 2000).json()["m2m:cin"]["con"], "22");
    let read = ask(latest().header("Accept", CBOR)).expect(200, 2000);
    assert_eq!(read.header("content-type"), Some(CBOR));
    let has = |part: &[u8]| read.bytes().windows(part.len()).any(|window| window == part);
    assert!(has(b"\x67m2m:cin") && has(b"\x63con\x6222"), "{read:?}");
    // A tag has no meaning in JSON.
    ask(create(CBOR).binary(b"\xa1\x67m2m:cin\xc1\x01")).expect(400, 4000);
    ask(create("application/xml").body("<m2m:cin/>")).expect_refusal(415, 4015);
    ask(latest().header("Accept", "application/xml")).expect_refusal(406, 5207);
}
