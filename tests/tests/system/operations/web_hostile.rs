//! Hostile requests to the web page: from other sites in the same browser, from other programs on the
//! machine, and from devices.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use saegis_tests::{
    BOUND, Credential, Gateway, LIGHT1, Mark, Request, Response, Setup, Tool, host_and_path,
    read_until, saegis, wait_until,
};

use super::web::{associations, audited, with_page};

/// Returns all of a response except its date.
fn shown(response: &Response) -> (u16, Vec<(String, String)>, String) {
    let mut headers = response.headers().to_vec();
    headers.retain(|(name, _)| name != "date");
    (response.status(), headers, response.text())
}

/// Returns the answer to a request without a session.
fn refusal(gateway: &Gateway) -> (u16, Vec<(String, String)>, String) {
    let request = Request::new("GET", "/").to_host(&gateway.web_address());
    let refusal = shown(&gateway.web(&request));
    assert_eq!(refusal.0, 403, "{refusal:?}");
    refusal
}

#[test]
fn requests_without_session_get_one_answer() {
    let gateway = with_page().start();
    let session = gateway.open_web(&[]);
    let address = session.host.clone();
    let secret = session.cookie.clone();
    let refusal = refusal(&gateway);
    let zeros = format!("saegis={}", "0".repeat(64));
    let paths = [
        "/",
        "/s/",
        "/s/0000000000000000/",
        "/favicon.ico",
        "/style.css",
        "/metrics",
        "/open/",
        "/open/x",
        "/open/0000000000000000000000000000000000000000000000000000000000000000",
        "/open/x/y",
        "/../etc/passwd",
        "/%00",
    ];
    let own = ["", "policy", "style.css", "page.js", "events", "nothing"];
    let own: Vec<_> = own.iter().map(|page| format!("{}{page}", session.path)).collect();
    for path in paths.iter().copied().chain(own.iter().map(String::as_str)) {
        for cookie in [None, Some("saegis="), Some("saegis=x"), Some(zeros.as_str())] {
            for method in ["GET", "POST", "PUT", "OPTIONS"] {
                let mut request = Request::new(method, path)
                    .to_host(&address)
                    .header("Origin", &format!("http://{address}"));
                if let Some(cookie) = cookie {
                    request = request.header("Cookie", cookie);
                }
                let got = gateway.web(&request);
                assert_eq!(shown(&got), refusal, "{method} {path} {cookie:?}");
            }
        }
    }
    // The cookie of one session opens no other.
    let mut mixed = gateway.open_web(&["--view"]);
    mixed.cookie.clone_from(&secret);
    assert_eq!(shown(&gateway.web(&mixed.request("GET", ""))), refusal);
    // A session belongs to its host name.
    for host in [&mixed.host, &gateway.web_address(), "localhost:1"] {
        let got = gateway.web(&session.request("GET", "").to_host(host));
        assert_eq!(shown(&got), refusal, "{host}");
    }
    assert_eq!(gateway.web(&session.request("GET", "")).status(), 200);
}

#[test]
fn responses_of_web_page_have_security_headers() {
    let gateway = with_page().start();
    let session = gateway.open_web(&[]);
    let refused = Request::new("GET", "/").to_host(&gateway.web_address());
    for request in [refused, session.request("GET", ""), session.request("GET", "page.js")] {
        let response = gateway.web(&request);
        let policy = response.header("content-security-policy").unwrap().to_string();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; "), "{policy}");
        for part in ["frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(response.header(name), Some(value), "{name}");
        }
        assert!(response.header("access-control-allow-origin").is_none());
    }
    // Nothing inline, which the policy of the content would refuse.
    for page in ["", "refusals", "associations", "devices", "add-device", "policy"] {
        let text = session.page(&gateway, page);
        for inline in [" style=", "<style", "onclick=", "onload=", "onerror=", "onsubmit="] {
            assert!(!text.contains(inline), "{inline}: {text}");
        }
        assert_eq!(text.matches("<script").count(), 1, "{text}");
    }
}

#[test]
fn requests_of_other_sites_change_nothing() {
    let gateway = with_page().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let session = gateway.open_web(&[]);
    let address = session.host.clone();
    let (token, refusal) = (session.token(&gateway), refusal(&gateway));
    let [id] = associations(&gateway)[..] else { panic!("one association") };
    // The form has all secrets. Only the request is that of another site.
    let form = || session.form("end-association", &token, &format!("&id={id}"));
    let (name, port) = address.rsplit_once(':').unwrap();
    let origin = |origin: &str| form().without("Origin").header("Origin", origin);
    for request in [
        form().without("Origin"),
        origin("null"),
        origin("https://evil.example"),
        origin(&format!("https://{address}")),
        origin("http://127.0.0.1"),
        origin(&format!("http://127.0.0.1:{port}")),
        origin(&format!("http://{name}")),
        origin(&format!("http://localhost:{port}")),
        origin(&format!("http://{name}:1")),
        form().header("Origin", "http://evil.example"),
        form().without("Sec-Fetch-Site").header("Sec-Fetch-Site", "same-site"),
        form().without("Sec-Fetch-Site").header("Sec-Fetch-Site", "cross-site"),
        form().to_host("evil.example"),
        form().to_host(&format!("rebound.example:{port}")),
        form().to_host("0.0.0.0"),
        form().to_host(&format!("127.0.0.1:{port}")),
        form().to_host(&format!("localhost:{port}")),
        form().header("Service-Worker", "script"),
        form().header("Host", &address),
        form().without("Host"),
    ] {
        let got = gateway.web(&request);
        // Without a valid Host, hyper or the page answers; neither reaches a session.
        if got.status() != 400 {
            assert_eq!(shown(&got), refusal, "{request:?}");
        }
    }
    // A site that uses a name of its own for this machine reads nothing.
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "[::]"] {
        let got = gateway.web(&session.request("GET", "").to_host(&format!("{host}:{port}")));
        assert_eq!(shown(&got), refusal, "{host}");
    }
    assert_eq!(associations(&gateway), [id]);
    light.assert_served_as("Clight-AE1");
}

#[test]
fn link_is_not_used_up_by_other_requests() {
    let gateway = with_page().start();
    let (address, link) = host_and_path(&gateway.web_link(&[]));
    let (other, _) = host_and_path(&gateway.web_link(&[]));
    let get = || Request::new("GET", &link).to_host(&address);
    for request in [
        get().to_host("evil.example"),
        get().to_host(&gateway.web_address()),
        get().to_host(&other),
        get().header("Service-Worker", "script"),
        get().header("Sec-Purpose", "prefetch;prerender"),
        get().header("Sec-Fetch-Site", "cross-site"),
        Request::new("POST", &link).to_host(&address),
    ] {
        assert_eq!(gateway.web(&request).status(), 403, "{request:?}");
    }
    assert_eq!(gateway.web(&get()).status(), 303);
}

#[test]
fn form_without_token_changes_nothing() {
    let gateway = with_page().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let (session, other) = (gateway.open_web(&[]), gateway.open_web(&[]));
    let (token, foreign) = (session.token(&gateway), other.token(&gateway));
    let [id] = associations(&gateway)[..] else { panic!("one association") };
    let id = format!("&id={id}");
    let form = |token: &str, fields: &str| session.form("end-association", token, fields);
    for (request, status) in [
        (form("", &id), 403),
        (form(&"0".repeat(64), &id), 403),
        (form(&foreign, &id), 403),
        (form(&token, &format!("&token={token}{id}")), 403),
        (form(&token, ""), 404),
        (form(&token, "&id=x"), 404),
        (session.form("nothing", &token, &id), 404),
        (form(&token, &id).without("Content-Type").header("Content-Type", "text/plain"), 400),
        (form(&token, &id).without("Content-Type"), 400),
        (form(&token, &format!("{id}&x={}", "a".repeat(8192))), 400),
    ] {
        let got = gateway.web(&request);
        assert_eq!(got.status(), status, "{request:?}: {got:?}");
    }
    let get = gateway.web(&session.request("GET", &format!("end-association?token={token}{id}")));
    assert_eq!(get.status(), 404);
    light.assert_served_as("Clight-AE1");
}

#[test]
fn view_role_changes_nothing() {
    let gateway = with_page().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let session = gateway.open_web(&["--view"]);
    let token = session.token(&gateway);
    let [id] = associations(&gateway)[..] else { panic!("one association") };
    for (action, fields) in [("end-association", format!("&id={id}")), ("reload", String::new())] {
        let got = gateway.web(&session.form(action, &token, &fields));
        assert_eq!(got.status(), 403, "{action}: {got:?}");
        assert!(got.text().contains("This session may only view."), "{got:?}");
    }
    light.assert_served_as("Clight-AE1");
    audited(&gateway, "admin.change-refused", &format!("end-association {id}"));
    audited(&gateway, "admin.change-refused", "\"reload\"");
    let trail = std::fs::read_to_string(gateway.path("state/audit.jsonl")).unwrap();
    assert_eq!(trail.matches("\"admin.command\"").count(), 1, "only the link: {trail}");
}

#[test]
fn form_after_end_of_session_changes_nothing() {
    let gateway = with_page().start();
    let session = gateway.open_web(&[]);
    let (token, refusal) = (session.token(&gateway), refusal(&gateway));
    // The session is found before its form has come completely.
    let form = session.form("reload", &token, "").bytes();
    let (first, rest) = form.split_at(form.len() - 10);
    let (_, port) = session.host.rsplit_once(':').unwrap();
    let mut slow = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    slow.write_all(first).unwrap();
    let mut updates = session.updates();
    read_until(&mut updates, "event: update");
    assert_eq!(gateway.web(&session.form("sign-out", &token, "")).status(), 200);
    audited(&gateway, "admin.session-closed", "signed out");
    slow.write_all(rest).unwrap();
    slow.set_read_timeout(Some(BOUND)).unwrap();
    let got = read_until(&mut slow, &refusal.2);
    assert!(got.starts_with("HTTP/1.1 403"), "{got}");
    let trail = std::fs::read_to_string(gateway.path("state/audit.jsonl")).unwrap();
    assert!(!trail.contains("\"reload\""), "{trail}");
}

#[test]
fn each_end_of_web_session_is_recorded_once() {
    let gateway = with_page().with("admin.web", "session-seconds = 3600").start();
    let session = gateway.open_web(&[]);
    let token = session.token(&gateway);
    let out = || session.form("sign-out", &token, "");
    let wrong = session.form("reload", &"0".repeat(64), "");
    assert_eq!(gateway.web(&wrong).status(), 403);
    let refused = audited(&gateway, "admin.change-refused", "wrong token");
    assert_eq!(refused["action"], "reload");
    let statuses = std::thread::scope(|scope| {
        let all: Vec<_> = (0..5).map(|_| scope.spawn(|| gateway.web(&out()).status())).collect();
        all.into_iter().map(|of| of.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(statuses.contains(&200), "{statuses:?}");
    // The ninth session replaces the oldest of eight.
    let oldest = gateway.open_web(&["--view"]);
    let _others: Vec<_> = (0..8).map(|_| gateway.open_web(&["--view"])).collect();
    audited(&gateway, "admin.session-closed", "replaced");
    assert_eq!(gateway.web(&oldest.request("GET", "")).status(), 403);
    let trail = std::fs::read_to_string(gateway.path("state/audit.jsonl")).unwrap();
    assert_eq!(trail.matches("\"admin.session-closed\"").count(), 2, "{trail}");
}

/// Another user of the machine can have the port, on either address that browsers resolve.
#[test]
fn occupied_web_port_does_not_stop_gateway() {
    for address in ["127.0.0.1", "[::1]"] {
        let taken = TcpListener::bind(format!("{address}:0")).unwrap();
        let port = taken.local_addr().unwrap().port();
        let setup = Setup::new().with("admin.web", &format!("listen = \"127.0.0.1:{port}\""));
        let gateway = setup.start();
        Tool::OpenSsl.connect(gateway.port(), LIGHT1).assert_served_as("Clight-AE1");
        gateway.log().wait_for(Mark::START, "admin.page-unavailable", |_| true);
        let refused = saegis(&gateway.path(""), &["admin", "link"]).expect(4);
        assert!(refused.err.contains("cannot bind admin.web.listen"), "{refused:?}");
        drop(taken);
        gateway.log().wait_for(Mark::START, "admin.page-available", |_| true);
        saegis(&gateway.path(""), &["admin", "link"]).expect(0);
    }
}

#[test]
fn unknown_peers_do_not_displace_refusals_of_others() {
    let limits = "failed-handshakes-per-minute = 100000";
    let gateway = with_page().with("limits", limits).start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.ask(&Request::retrieve("/cse/x").from("Clight-AE2")).expect_refusal(403, 4106);
    let refuse = |identity: &str| {
        Tool::OpenSsl.refused(gateway.port(), Credential { identity, ..LIGHT1 });
    };
    for number in 0..20 {
        refuse(&format!("made-up-{number}@x.example"));
    }
    let session = gateway.open_web(&["--view"]);
    wait_until("the last refusal is counted", || {
        session.page(&gateway, "refusals").contains("other identities from 127.0.0.1")
    });
    let all = session.page(&gateway, "refusals");
    assert_eq!(all.matches(">made-up-").count(), 16, "{all}");
    for page in ["", "refusals"] {
        let text = session.page(&gateway, page);
        assert!(text.contains("4106") && text.contains("Clight-AE2"), "{page}: {text}");
    }
}

#[test]
fn expired_web_session_is_refused() {
    let gateway = with_page().with("admin.web", "session-seconds = 1").start();
    let session = gateway.open_web(&[]);
    let mut updates = session.updates();
    let refusal = refusal(&gateway);
    wait_until("the session ends", || gateway.web(&session.request("GET", "")).status() == 403);
    assert_eq!(shown(&gateway.web(&session.request("GET", ""))), refusal);
    let rest = read_until(&mut updates, "this text never comes");
    assert!(rest.ends_with("0\r\n\r\n"), "the stream is complete: {rest}");
    audited(&gateway, "admin.session-closed", "expired");
}

#[test]
fn oversized_requests_to_web_page_are_refused() {
    let gateway = with_page().start();
    let session = gateway.open_web(&[]);
    let address = gateway.web_address();
    let large = session.request("GET", "").header("X-Large", &"a".repeat(64 << 10));
    // A request without an end is cut off after the bytes that fit.
    for start in
        [large.bytes(), b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ".to_vec(), vec![0; 4096]]
    {
        let mut socket = TcpStream::connect(&address).unwrap();
        socket.set_read_timeout(Some(BOUND)).unwrap();
        let mut got = Vec::new();
        // The gateway may close the connection before it has read everything.
        let _ = socket.write_all(&start);
        let _ = socket.read_to_end(&mut got);
        let got = String::from_utf8_lossy(&got);
        assert!(!got.starts_with("HTTP/1.1 2"), "{got}");
    }
    assert_eq!(gateway.web(&session.request("GET", "")).status(), 200);
}

#[test]
fn streams_of_web_page_are_bounded() {
    let gateway = with_page().start();
    let session = gateway.open_web(&["--view"]);
    let streams: Vec<_> = (0..16)
        .map(|_| {
            let mut stream = session.updates();
            read_until(&mut stream, "event: update");
            stream
        })
        .collect();
    let more = gateway.web(&session.request("GET", "events"));
    assert_eq!(more.status(), 503, "{more:?}");
    assert_eq!(gateway.web(&session.request("GET", "")).status(), 200);
    drop(streams);
    wait_until("another stream opens", || {
        read_until(&mut session.updates(), "\r\n").starts_with("HTTP/1.1 200")
    });
}

#[test]
fn strangers_do_not_end_streams_of_web_page() {
    let gateway = with_page().start();
    let session = gateway.open_web(&[]);
    let token = session.token(&gateway);
    let mut updates = session.updates();
    read_until(&mut updates, "event: update");
    let (_, port) = session.host.rsplit_once(':').unwrap();
    let address = format!("127.0.0.1:{port}");
    let mut strangers: Vec<_> = (0..200).map(|_| TcpStream::connect(&address).unwrap()).collect();
    // The first of them have been ended for the last ones.
    let first = strangers.first_mut().unwrap();
    first.set_read_timeout(Some(BOUND)).unwrap();
    assert!(matches!(first.read(&mut [0; 64]), Ok(0) | Err(_)));
    assert_eq!(gateway.web(&session.request("GET", "")).status(), 200);
    assert_eq!(gateway.web(&session.form("sign-out", &token, "")).status(), 200);
    let rest = read_until(&mut updates, "this text never comes");
    assert!(rest.ends_with("0\r\n\r\n"), "the stream is complete: {rest}");
}

/// Texts that a device could send to change the page that shows them.
pub(super) const HOSTILE: [&str; 5] = [
    "<script>document.title='owned'</script>@x.example",
    "\"><img src=x onerror=document.title='owned'>",
    "a\u{202e}b\u{200b}c\u{1b}[2J\n<b>d",
    "{{7*7}}${7*7}'\"&lt;",
    "s\u{2800}t\u{a0}u\u{301}\u{301}\u{301}\u{301}@x.example",
];

#[test]
fn texts_of_devices_are_data_on_web_pages() {
    let gateway = with_page().start();
    for identity in HOSTILE {
        Tool::OpenSsl.refused(gateway.port(), Credential { identity, ..LIGHT1 });
    }
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let from = "C<script>alert(1)</script>";
    light.ask(&Request::retrieve("/cse/%3Cscript%3Ex").from(from));
    let session = gateway.open_web(&["--view"]);
    for page in ["", "refusals"] {
        wait_until("all refusals are shown", || {
            session.page(&gateway, page).matches("class=\"what\"").count() == 6
        });
        let text = session.page(&gateway, page);
        assert_eq!(text.matches("<script").count(), 1, "{text}");
        assert!(!text.contains("<img") && !text.contains("<b>") && !text.contains("'owned'>"));
        assert!(text.contains("&lt;script&gt;document.title='owned'"), "{text}");
        assert!(text.contains("s\\u{2800}t\\u{a0}u"), "{text}");
        assert!(text.contains("a\\u{202e}b\\u{200b}c\\u{1b}[2J\\u{a}&lt;b&gt;d"), "{text}");
        assert!(!text.contains('\u{202e}') && !text.contains('\u{1b}'), "{text}");
    }
}
