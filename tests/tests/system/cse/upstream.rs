//! Another CSE behind the gateway. It receives only parsed, checked and normalized requests, and
//! each request gets a response.

use saegis_tests::{
    Client, Gateway, LIGHT1, LIGHT2, Mark, Message, REQUEST_ID, Reply, Request, Setup, Tool,
    Upstream, with_each_client,
};

with_each_client!(
    upstream_receives_known_parameters_only,
    tokens_may_have_8_kib,
    upstream_address_is_normalized,
    ambiguous_request_is_not_forwarded,
    upstream_fault_is_answered,
    pipelined_requests_are_checked_separately,
);

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";

fn good() -> Reply {
    Reply::answer(200, 2000, "{\"m2m:cnt\":{}}")
}

fn start(tool: Tool, reply: Reply) -> (Upstream, Gateway, Client) {
    let upstream = Upstream::start(reply);
    let setup = Setup::new().upstream(upstream.port()).with("limits", "upstream-seconds = 1");
    let gateway = setup.with("limits", "content-seconds = 1").start();
    let light = tool.connect(gateway.port(), LIGHT1);
    (upstream, gateway, light)
}

fn own(path: &str) -> Request {
    Request::retrieve(path).from(OWN)
}

/// Header fields that the gateway may forward.
const FORWARDED_FIELDS: [&str; 17] = [
    "host",
    "accept",
    "content-type",
    "content-length",
    "x-m2m-origin",
    "x-m2m-ri",
    "x-m2m-rvi",
    "x-m2m-ot",
    "x-m2m-rst",
    "x-m2m-ret",
    "x-m2m-oet",
    "x-m2m-ec",
    "x-m2m-gid",
    "x-m2m-rtu",
    "x-m2m-vsi",
    "x-m2m-as",
    "x-m2m-asri",
];

/// Asserts that the gateway has written the request itself.
#[track_caller]
fn assert_normalized(request: &Message) {
    for (name, _) in &request.headers {
        assert!(FORWARDED_FIELDS.contains(&name.as_str()), "{name} in {request:?}");
        assert_eq!(request.values(name).len(), 1, "{name} in {request:?}");
    }
    assert_eq!(request.values("x-m2m-origin"), [OWN], "{request:?}");
    let path = request.line.split(' ').nth(1).unwrap();
    assert!(path.starts_with("/~/mn-cse-123456/"), "{request:?}");
    assert!(request.line.ends_with(" HTTP/1.1"), "{request:?}");
}

/// Signed tokens are longer than other parameters.
fn tokens_may_have_8_kib(tool: Tool) {
    let (upstream, _gateway, mut light) = start(tool, good());
    let request = |name, length| {
        let value = "t".repeat(length);
        Request::retrieve("/cse/light1").from(OWN).header(name, &value)
    };
    light.ask(&request("Authorization", 8192)).expect(200, 2000);
    let [arrived] = &upstream.wait(1)[..] else { panic!("more than one request arrived") };
    // The gateway did not verify it.
    assert!(arrived.values("authorization").is_empty(), "{arrived:?}");
    for (name, length) in [("Authorization", 8193), ("X-M2M-GID", 1025)] {
        light.ask(&request(name, length)).expect_refusal(400, 4000);
    }
    light.ask(&Request::retrieve("/cse/light1").from(OWN)).expect(200, 2000);
}

fn upstream_receives_known_parameters_only(tool: Tool) {
    let (upstream, _gateway, mut light) = start(tool, good());
    let request = Request::create_instance("/cse/light1/lamp?rcn=1&x=a%26b%20c", "on")
        .from(OWN)
        .header("Cookie", "session=1")
        .header("X-Forwarded-For", "10.0.0.1")
        .header("X-Forwarded-Host", "elsewhere")
        .header("Forwarded", "for=10.0.0.1")
        .header("Via", "1.1 x")
        .header("X-Real-IP", "10.0.0.1")
        .header("X-HTTP-Method-Override", "DELETE")
        .header("X-Original-URL", "/admin")
        .header("Proxy-Authorization", "Basic eDp5")
        .header("Upgrade", "h2c")
        .header("X-M2M-Unheard-Of", "1")
        .header("X-M2M-RST", "20991231T000000")
        .header("Authorization", "token-1+token-2")
        .header("Connection", "keep-alive, X-M2M-Origin, X-M2M-RI");
    let response = light.ask(&request).expect(200, 2000);
    assert_eq!(response.header("x-m2m-ri"), Some(request.id()));
    let [arrived] = &upstream.wait(1)[..] else { panic!("more than one request arrived") };
    assert_normalized(arrived);
    let line = "POST /~/mn-cse-123456/cse/light1/lamp?rcn=1&x=a%26b%20c HTTP/1.1";
    assert_eq!(arrived.line, line);
    for (name, value) in [
        ("host", format!("127.0.0.1:{}", upstream.port()).as_str()),
        ("x-m2m-ri", request.id()),
        ("x-m2m-rvi", "3"),
        ("x-m2m-rst", "20991231T000000"),
        ("content-type", "application/json;ty=4"),
    ] {
        assert_eq!(arrived.values(name), [value], "{arrived:?}");
    }
    assert_eq!(arrived.body, br#"{"m2m:cin":{"con":"on"}}"#);
    // Chunked content arrives complete, with its length.
    let body = "{\"m2m:cin\":{\"con\":\"on\"}}";
    let chunked = format!(
        "5;ext=1\r\n{}\r\n13\r\n{}\r\n0\r\nX-M2M-Origin: {OTHER}\r\n\r\n",
        &body[..5],
        &body[5..]
    );
    let request = Request::create_instance("/cse/light1/lamp", "")
        .raw_body(&chunked)
        .header("Transfer-Encoding", "chunked")
        .from(OWN);
    light.ask(&request).expect(200, 2000);
    let arrived = &upstream.wait(2)[1];
    assert_normalized(arrived);
    assert_eq!(arrived.body, body.as_bytes());
    assert!(!upstream.text().contains(OTHER));
}

fn upstream_address_is_normalized(tool: Tool) {
    let (upstream, _gateway, mut light) = start(tool, good());
    let spellings = [
        "/cse/x",
        "/~/mn-cse-123456/cse/x",
        "/_/in.provider.com/mn-cse-123456/cse/x",
        "/_/IN.Provider.COM/mn-cse-123456/cse/x",
        "/%63se/x",
        "/%63%73%65/%78",
        "/%7E/mn-cse-123456/cse/x",
        "/~/mn%2dcse%2D123456/cse/x",
        "http://elsewhere.example/cse/x",
    ];
    for (number, path) in spellings.iter().enumerate() {
        light.ask(&own(path)).expect(200, 2000);
        let arrived = &upstream.wait(number + 1)[number];
        assert_normalized(arrived);
        assert_eq!(arrived.line, "GET /~/mn-cse-123456/cse/x HTTP/1.1", "{path}");
    }
    assert_eq!(upstream.requests().len(), spellings.len());
}

fn ambiguous_request_is_not_forwarded(tool: Tool) {
    let (upstream, _gateway, mut light) = start(tool, good());
    for path in [
        "//x",
        "//elsewhere.example/cse/x",
        "/cse//x",
        "/cse/x/",
        "/cse%2Fx",
        "/cse%2fx",
        "/cse/%2e%2e/x",
        "/cse/../x",
        "/cse/./x",
        "/..",
        "/cse/%252e%252e/x",
        "/cse/x%00",
        "/cse/x%0d%0aX-M2M-Origin:%20Clight-AE2",
        "/cse/x;y",
        "/cse/x%3fy",
        "/cse/x%23y",
        "/cse\\x",
        "/cse/%ff",
        "/~",
        "/~/",
        "/_/in.provider.com",
        "/",
        "/admin/..;/x",
    ] {
        light.ask(&own(path)).expect_refusal(400, 4000);
    }
    // Parameters in the query string that have a checked place elsewhere, because a CSE may read
    // both.
    for query in [
        "fr=Clight-AE2",
        "FR=Clight-AE1",
        "to=cse/y",
        "op=4",
        "rqi=1",
        "%66r=x",
        "pc=x",
        "tkns=a.b.c",
        "TKNS=a",
    ] {
        light.ask(&own(&format!("/cse/x?{query}"))).expect_refusal(400, 4000);
    }
    let container = |path: &str| Request::create_container(path, "lamp").from(OWN);
    for query in ["ty=2", "cr=Clight-AE2", "aei=Clight-AE2"] {
        light.ask(&container(&format!("/cse/x?{query}"))).expect_refusal(400, 4000);
    }
    // Content whose type differs from the header.
    let ae = container("/cse/x").body("{\"m2m:ae\":{\"api\":\"Nx\",\"rr\":false}}");
    light.ask(&ae).expect_refusal(400, 4000);
    let cnt = Request::create_ae("x").body("{\"m2m:cnt\":{\"rn\":\"x\"}}").from(OWN);
    light.ask(&cnt).expect_refusal(400, 4000);
    for content in [
        "{\"m2m:cnt\":{},\"m2m:cnt\":{}}",
        "{\"m2m:cnt\":{\"rn\":\"a\",\"rn\":\"b\"}}",
        "{\"m2m:cnt\":{},\"m2m:ae\":{}}",
        "{\"m2m:cnt\":{}}{\"m2m:cnt\":{}}",
        "[{\"m2m:cnt\":{}}]",
        "\u{feff}{\"m2m:cnt\":{}}",
        "",
    ] {
        light.ask(&container("/cse/x").body(content)).expect_refusal(400, 4000);
    }
    // The gateway does not forward requests for other CSEs.
    for path in ["/~/mn-cse-654321/cse/x", "/_/elsewhere.example/mn-cse-123456/cse/x"] {
        light.ask(&own(path)).expect_refusal(404, 5103);
    }
    for method in ["HEAD", "OPTIONS", "PATCH", "TRACE", "get"] {
        let request = Request::new(method, "/cse/x").from(OWN);
        light.send(&request.bytes());
        let refused = match method {
            "HEAD" => light.try_read_head().unwrap(),
            _ => light.read(),
        };
        assert_eq!((refused.status(), refused.rsc()), (405, Some(4005)), "{method}");
        assert_eq!(refused.header("allow"), Some("GET, POST, PUT, DELETE"), "{method}");
    }
    light.ask(&own("/cse/x")).expect(200, 2000);
    assert_eq!(upstream.requests().len(), 1, "{}", upstream.text());
}

fn upstream_fault_is_answered(tool: Tool) {
    let (upstream, gateway, mut light) = start(tool, good());
    let answer = |head: &str| format!("HTTP/1.1 200 OK\r\n{head}\r\n").into_bytes();
    let large = format!("\"{}\"", "x".repeat(300 << 10));
    for (what, reply) in [
        ("garbage", Reply::BytesThenClose(b"rubbish\r\n\r\n".to_vec())),
        ("other TLS", Reply::BytesThenClose(b"\x15\x03\x01\x00\x02\x02\x46".to_vec())),
        ("nothing", Reply::BytesThenClose(Vec::new())),
        ("no code", Reply::Bytes(answer("X-M2M-RI: 1\r\nContent-Length: 0\r\n"))),
        (
            "two codes",
            Reply::Bytes(answer("X-M2M-RSC: 2000\r\nX-M2M-RSC: 2001\r\nContent-Length: 0\r\n")),
        ),
        ("no number", Reply::Bytes(answer("X-M2M-RSC: ok\r\nContent-Length: 0\r\n"))),
        ("half", Reply::BytesThenClose(answer("X-M2M-RSC: 2000\r\nContent-Length: 9\r\n"))),
        ("no JSON", Reply::answer(200, 2000, "{\"m2m:cnt\":")),
        ("too much", Reply::answer(200, 2000, &large)),
    ] {
        // The connection has worked before.
        upstream.reply_with(good());
        light.ask(&own("/cse/x")).expect(200, 2000);
        upstream.reply_with(reply);
        let mark = gateway.log().mark();
        let before = upstream.requests().len();
        let refused = light.ask(&own("/cse/x"));
        assert_eq!((refused.status(), refused.rsc()), (404, Some(5103)), "{what}: {refused:?}");
        // The originator does not receive the reason.
        assert_eq!(refused.debug(), "the CSE cannot be reached", "{what}");
        gateway.log().wait_after(mark, "upstream.failed");
        assert_eq!(upstream.requests().len(), before + 1, "{what}: one request");
    }
    upstream.reply_with(Reply::Pending);
    light.ask(&own("/cse/x")).expect_refusal(504, 4008);
    upstream.reply_with(good());
    light.ask(&own("/cse/x")).expect(200, 2000);
}

#[test]
fn restarted_upstream_is_reached_again() {
    let port = Upstream::closed_port();
    let gateway = Setup::new().upstream(port).start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    for _ in 0..2 {
        light.ask(&own("/cse/x")).expect_refusal(404, 5103);
    }
    let upstream = Upstream::start_at(port, good());
    light.ask(&own("/cse/x")).expect(200, 2000);
    light.ask(&own("/cse/x")).expect(200, 2000);
    assert_eq!(upstream.requests().len(), 2);
    assert_eq!(gateway.log().all(Mark::START, "association.established", 1).len(), 1);
}

#[test]
fn closed_upstream_connection_is_reopened() {
    let answer = "HTTP/1.1 200 OK\r\nX-M2M-RSC: 2000\r\nConnection: close\r\n\r\n";
    let (upstream, _gateway, mut light) =
        start(Tool::OpenSsl, Reply::BytesThenClose(answer.into()));
    for _ in 0..20 {
        light.ask(&own("/cse/x")).expect(200, 2000);
    }
    assert_eq!(upstream.requests().len(), 20);
}

#[test]
fn unsolicited_upstream_response_is_discarded() {
    let answer = |of: &str| {
        let body = format!("{{\"m2m:cnt\":{{\"rn\":\"{of}\"}}}}");
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\nX-M2M-RSC: 2000\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let both = answer("first") + &answer("unasked");
    let (upstream, _gateway, mut light) = start(Tool::OpenSsl, Reply::Bytes(both.into()));
    for _ in 0..5 {
        let first = light.ask(&own("/cse/x")).expect(200, 2000);
        assert!(first.text().contains("first"), "{first:?}");
    }
    upstream.reply_with(Reply::Bytes(answer("second").into()));
    let second = light.ask(&own("/cse/x")).expect(200, 2000);
    assert!(second.text().contains("second"), "{second:?}");
}

/// Its connection is not used again, because a later response could also belong to another request.
#[test]
fn response_to_another_request_is_refused() {
    let (upstream, gateway, mut light) = start(Tool::OpenSsl, good());
    for _ in 0..2 {
        light.ask(&own("/cse/x")).expect(200, 2000);
    }
    for (number, ids) in [&["other"][..], &[""], &[REQUEST_ID, "other"]].into_iter().enumerate() {
        assert_eq!(upstream.connections(), number + 1);
        let ids: String = ids.iter().map(|id| format!("X-M2M-RI: {id}\r\n")).collect();
        let answer =
            format!("HTTP/1.1 200 OK\r\nX-M2M-RSC: 2000\r\n{ids}Content-Length: 0\r\n\r\n");
        upstream.reply_with(Reply::Bytes(answer.into()));
        let mark = gateway.log().mark();
        light.ask(&own("/cse/x")).expect_refusal(404, 5103);
        let failed = gateway.log().wait_after(mark, "upstream.failed");
        assert!(failed.message().contains("of another request"), "{failed:?}");
        upstream.reply_with(good());
        light.ask(&own("/cse/x")).expect(200, 2000);
        assert_eq!(upstream.connections(), number + 2);
    }
}

#[test]
fn only_response_primitive_is_forwarded() {
    let body = "{\"m2m:dbg\":\"no\"}";
    let answer = format!(
        "HTTP/1.1 200 Fine\r\nX-M2M-RSC: 4103\r\nX-M2M-RVI: 4\r\n\
         X-M2M-Origin: /mn-cse-123456\r\nX-M2M-OT: 20260101T000000\r\nSet-Cookie: a=b\r\n\
         Server: x\r\nX-Powered-By: y\r\nLocation: http://10.0.0.1/\r\nConnection: close\r\n\
         Content-Type: text/html\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (_upstream, _gateway, mut light) = start(Tool::OpenSsl, Reply::Bytes(answer.into()));
    // The HTTP status follows from the Response Status Code, whatever the upstream status is.
    let refused = light.ask(&own("/cse/x")).expect_refusal(403, 4103);
    let names: Vec<_> = refused.headers().iter().map(|(name, _)| name.as_str()).collect();
    for name in &names {
        let known = ["content-type", "content-length", "date"].contains(name);
        assert!(known || name.starts_with("x-m2m-"), "{name} in {refused:?}");
    }
    assert!(!names.contains(&"x-m2m-origin"), "{refused:?}");
    assert_eq!(refused.header("x-m2m-ot"), Some("20260101T000000"));
    assert_eq!(refused.header("content-type"), Some("application/json"));
    light.ask(&own("/cse/x")).expect_refusal(403, 4103);
}

fn pipelined_requests_are_checked_separately(tool: Tool) {
    let (upstream, _gateway, mut light) = start(tool, good());
    let requests = [
        own("/cse/a"),
        Request::retrieve("/cse/b").from(OTHER),
        own("/cse/c"),
        Request::delete("/cse/d").from(OTHER),
        own("/cse//e"),
        own("/cse/f"),
    ];
    light.send(&requests.iter().flat_map(Request::bytes).collect::<Vec<_>>());
    for (request, rsc) in requests.iter().zip([2000, 4106, 2000, 4106, 4000, 2000]) {
        let response = light.read();
        assert_eq!(response.rsc(), Some(rsc), "{response:?}");
        assert_eq!(response.header("x-m2m-ri"), Some(request.id()));
    }
    let arrived = upstream.requests();
    let paths: Vec<_> = arrived.iter().map(|r| r.line.split(' ').nth(1).unwrap()).collect();
    let expected = ["a", "c", "f"].map(|name| format!("/~/mn-cse-123456/cse/{name}"));
    assert_eq!(paths, expected);
    arrived.iter().for_each(assert_normalized);
}

/// Returns a request of the other light for a server that parses the message differently.
fn hidden() -> String {
    let request = Request::delete("/cse/hidden").from(OTHER);
    String::from_utf8(request.bytes()).unwrap()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn request_smuggling_is_prevented() {
    let (upstream, gateway, light) = start(Tool::OpenSsl, good());
    light.close();
    let hidden = hidden();
    let json = "{\"m2m:cin\":{\"con\":\"on\"}}";
    let chunked = format!("{:x}\r\n{json}\r\n0\r\n\r\n", json.len());
    let create = || Request::create_instance("/cse/light1/lamp", "on").from(OWN);
    let with = |name: &str, value: &str, body: &str| {
        let length = body.len().to_string();
        create().raw_body(body).header("Content-Length", &length).header(name, value).bytes()
    };
    let without_length =
        |name: &str, value: &str, body: &str| create().raw_body(body).header(name, value).bytes();
    let both = format!("{chunked}{hidden}");
    let after = format!("{json}{hidden}");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("CL for all, TE", with("Transfer-Encoding", "chunked", &both)),
        ("CL 0 and CL", with("Content-Length", "0", &after)),
        ("CL twice, alike", with("Content-Length", &after.len().to_string(), &after)),
        ("CL with +", without_length("Content-Length", &format!("+{}", json.len()), &after)),
        ("CL in hex", without_length("Content-Length", "0x18", &after)),
        ("CL as list", without_length("Content-Length", "24, 24", &after)),
        ("CL negative", without_length("Content-Length", "-1", &after)),
        ("CL huge", without_length("Content-Length", "18446744073709551617", &after)),
        ("TE unknown", without_length("Transfer-Encoding", "xchunked", &both)),
        ("TE identity", without_length("Transfer-Encoding", "identity", &both)),
        ("TE not last", without_length("Transfer-Encoding", "chunked, identity", &both)),
        ("TE twice", {
            let request = create().raw_body(&both).header("Transfer-Encoding", "chunked");
            request.header("Transfer-Encoding", "identity").bytes()
        }),
        ("TE with a space before the colon", {
            let request =
                create().raw_body(&both).header("Content-Length", &both.len().to_string());
            request.header("Transfer-Encoding ", "chunked").bytes()
        }),
        ("TE with a tab", without_length("Transfer-Encoding", "\tchunked", &both)),
        ("TE with VT", without_length("Transfer-Encoding", "\u{b}chunked", &both)),
        ("TE folded", without_length("X-Fold", "a\r\n Transfer-Encoding: chunked", &both)),
        ("CL and hidden TE", with("X-Fold", "a\nTransfer-Encoding: chunked", &both)),
        ("chunk size too large", {
            let body = format!("ffffffffffffffff1\r\n{json}\r\n0\r\n\r\n{hidden}");
            without_length("Transfer-Encoding", "chunked", &body)
        }),
        ("chunk size with rubbish", {
            let body = format!("18 x\r\n{json}\r\n0\r\n\r\n{hidden}");
            without_length("Transfer-Encoding", "chunked", &body)
        }),
        ("chunk end with LF alone", {
            let body = format!("18\n{json}\n0\n\n{hidden}");
            without_length("Transfer-Encoding", "chunked", &body)
        }),
        ("hidden in a trailer", {
            let body = format!("18\r\n{json}\r\n0\r\nX: y\r\n\r\n{hidden}");
            without_length("Transfer-Encoding", "chunked", &body)
        }),
        ("content of a GET", own("/cse/x").body(&hidden).bytes()),
        ("GET without length", own("/cse/x").raw_body(&hidden).bytes()),
        ("LF in a value", own("/cse/x").header("X-A", &format!("b\n\n{hidden}")).bytes()),
        ("CR in a value", own("/cse/x").header("X-A", "b\rX-M2M-Origin: Clight-AE2").bytes()),
        ("NUL in a value", own("/cse/x").header("X-A", "b\0c").bytes()),
        ("CRLF in a path", own("/cse/x%0d%0a%0d%0a").bytes()),
        ("space in a path", own("/cse/x HTTP/1.1 /y").bytes()),
        ("HTTP/1.0", {
            let bytes = own("/cse/x").header("Connection", "keep-alive").bytes();
            let text = String::from_utf8(bytes).unwrap().replace("HTTP/1.1", "HTTP/1.0");
            format!("{text}{hidden}").into()
        }),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("upgrade", {
            let request = own("/cse/x").header("Connection", "Upgrade").header("Upgrade", "h2c");
            [request.bytes(), hidden.clone().into()].concat()
        }),
        ("CONNECT", {
            let request = Request::new("CONNECT", "127.0.0.1:1").from(OWN);
            [request.bytes(), hidden.clone().into()].concat()
        }),
    ];
    for (what, bytes) in cases {
        let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
        light.send(&bytes);
        // The gateway has processed the bytes when this request is answered or the association has
        // ended.
        let last = own("/cse/last");
        light.send(&last.bytes());
        while let Some(response) = light.try_read() {
            let id = response.header("x-m2m-ri");
            assert!(id == Some(last.id()) || response.rsc().is_some() || response.status() == 400);
            if id == Some(last.id()) {
                break;
            }
        }
        let text = upstream.text();
        assert!(!text.contains(OTHER) && !text.contains("hidden"), "{what}:\n{text}");
    }
    let arrived = upstream.requests();
    arrived.iter().for_each(assert_normalized);
    for request in &arrived {
        let body = String::from_utf8_lossy(&request.body);
        assert!(body.is_empty() || body == json, "{request:?}");
    }
    // No incomplete request arrived.
    let whole: usize = arrived.iter().map(|r| r.line.len()).sum();
    assert!(whole > 0 && upstream.text().matches(" HTTP/1.1\r\n").count() == arrived.len());
    assert!(Tool::OpenSsl.connect(gateway.port(), LIGHT2).runs());
}

#[test]
fn oversized_or_missing_content_is_not_forwarded() {
    let (upstream, gateway, mut light) = start(Tool::OpenSsl, good());
    let large = "x".repeat(300 << 10);
    let request = Request::create_instance("/cse/light1/lamp", &large).from(OWN);
    light.ask(&request).expect_refusal(400, 4000);
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let request = Request::create_instance("/cse/light1/lamp", "on").from(OWN);
    let bytes = request.bytes();
    light.send(&bytes[..bytes.len() - 1]);
    let refused = light.read().expect_refusal(504, 4008);
    assert_eq!(refused.header("x-m2m-ri"), Some(request.id()));
    assert!(upstream.requests().is_empty());
}

/// The creator in a notification is not an originator, but in a resource of the same form it would
/// be.
#[test]
fn creator_in_fake_notification_is_refused() {
    let (upstream, _gateway, mut light) = start(Tool::OpenSsl, good());
    let forged = "{\"m2m:sgn\":{\"rn\":\"s\",\"cr\":\"Clight-AE2\"}}";
    let create = Request::create_container("/cse", "s").from(OWN).body(forged);
    light.ask(&create).expect_refusal(400, 4000);
    let update = Request::new("PUT", "/cse/s").header("Content-Type", "application/json");
    light.ask(&update.from(OWN).body(forged)).expect_refusal(400, 4000);
    light.ask(&own("/cse/x")).expect(200, 2000);
    assert_eq!(upstream.requests().len(), 1);
}
