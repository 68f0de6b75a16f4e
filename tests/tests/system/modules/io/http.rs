//! `outgoing-http`: allowed hosts and limits.

use std::time::{Duration, Instant};

use saegis_test_ca::{Authority, Name, Request};
use saegis_tests::{Reply, Upstream};

use super::probe::{assert_outcome, host, outcome, send_command, setup, wait_for_log};
use super::servers::{Slow, Tls};

/// Returns an HTTP response with content.
pub fn answer(status: u16, content: &str) -> Reply {
    let length = content.len();
    Reply::Bytes(format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{content}").into())
}

#[test]
fn outgoing_request_to_unlisted_host_is_refused() {
    let (named, other) = (Upstream::start(answer(200, "hello")), Upstream::start(answer(200, "")));
    let gateway = setup(&[host(named.port())], "").start();
    let (good, bad) = (named.port(), other.port());
    assert_outcome(&gateway, &format!("get|http://127.0.0.1:{good}/a?b=c"), "status 200, 5 bytes");
    let arrived = named.wait(1);
    assert_eq!(arrived[0].line, "GET /a?b=c HTTP/1.1");
    assert_eq!(arrived[0].values("host"), [format!("127.0.0.1:{good}")]);
    let denied = "failed ErrorCode::HttpRequestDenied";
    for url in [
        format!("http://127.0.0.1:{bad}/"),
        format!("https://127.0.0.1:{good}/"),
        format!("http://localhost:{good}/"),
        format!("http://127.0.0.2:{good}/"),
        "http://127.0.0.1/".into(),
        "https://example.com/".into(),
    ] {
        assert_outcome(&gateway, &format!("get|{url}"), denied);
    }
    // The refusal is logged.
    wait_for_log(&gateway, &format!("rejected a request to http://127.0.0.1:{bad}: the host"));
    // URLs that only resemble an allowed host.
    for url in [
        format!("http://127.0.0.1:{good}@127.0.0.1:{bad}/"),
        format!("http://user@127.0.0.1:{good}/"),
        format!("http://127.0.0.1:{bad}@127.0.0.1:{good}/"),
        format!("http://127.0.0.1:{good}#@127.0.0.1:{bad}/"),
        format!("ftp://127.0.0.1:{good}/"),
    ] {
        let result = outcome(&gateway, &format!("get|{url}"));
        assert!(result.contains("failed ErrorCode::"), "{url}: {result}");
    }
    assert_eq!((named.requests().len(), other.text().len()), (1, 0));
}

#[test]
fn outgoing_host_field_is_set_by_gateway() {
    let server = Upstream::start(answer(200, ""));
    let gateway = setup(&[format!("http://LocalHost:{}", server.port())], "").start();
    let url = format!("http://LOCALHOST:{}/", server.port());
    assert_outcome(&gateway, &format!("get|{url}"), "status 200");
    for name in ["host", "Host", "transfer-encoding", "connection"] {
        assert_outcome(&gateway, &format!("header|{name}|{url}"), "set false, status 200");
    }
    assert_outcome(&gateway, &format!("header|x-own|{url}"), "set true, status 200");
    assert!(!server.text().to_lowercase().contains("host: evil.example"), "{}", server.text());
    assert_outcome(
        &gateway,
        &format!("method|CONNECT|{url}"),
        "failed ErrorCode::HttpRequestMethodInvalid",
    );
    assert_outcome(&gateway, &format!("method|BREW|{url}"), "status 200");
}

#[test]
fn redirect_is_not_followed_without_check() {
    let elsewhere = Upstream::start(answer(200, "not for the probe"));
    let to = |location: &str| {
        let head = format!("HTTP/1.1 302 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        Reply::Bytes(head.into())
    };
    let forbidden = format!("http://127.0.0.1:{}/", elsewhere.port());
    let server = Upstream::start(to(&forbidden));
    let gateway = setup(&[host(server.port())], "").start();
    let url = format!("http://127.0.0.1:{}/", server.port());
    assert_outcome(&gateway, &format!("get|{url}"), "status 302");
    assert_outcome(&gateway, &format!("follow|{url}"), "then failed ErrorCode::HttpRequestDenied");
    assert!(elsewhere.text().is_empty());
    server.reply_with(to(&url));
    assert_outcome(&gateway, &format!("follow|{url}"), "then status 302");
}

#[test]
fn outgoing_messages_are_limited_in_size() {
    let server = Upstream::start(answer(200, &"x".repeat(1000)));
    let gateway =
        setup(&[host(server.port())], "response-bytes = 1000\nrequest-bytes = 1000").start();
    let get = format!("get|http://127.0.0.1:{}/", server.port());
    assert_outcome(&gateway, &get, "status 200, 1000 bytes");
    server.reply_with(answer(200, &"x".repeat(1001)));
    assert_outcome(&gateway, &get, "failed ErrorCode::HttpResponseBodySize(Some(1001))");
    // Responses without a Content-Length.
    let endless = format!("HTTP/1.1 200 X\r\n\r\n{}", "x".repeat(100_000));
    server.reply_with(Reply::BytesThenClose(endless.into()));
    assert_outcome(&gateway, &get, "status 200, failed HTTP response body size");
    let chunked = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n".to_string()
        + &format!("64\r\n{}\r\n", "x".repeat(100)).repeat(11);
    server.reply_with(Reply::BytesThenClose(chunked.into()));
    assert_outcome(&gateway, &get, "status 200, failed HTTP response body size");
    let head = format!("HTTP/1.1 200 X\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(20_000));
    server.reply_with(Reply::BytesThenClose(head.into()));
    assert_outcome(&gateway, &get, "failed ErrorCode::HttpResponseHeaderSectionSize(None)");
    let head = format!("HTTP/1.1 200 X\r\n{}Content-Length: 0\r\n\r\n", "X: y\r\n".repeat(101));
    server.reply_with(Reply::BytesThenClose(head.into()));
    assert_outcome(&gateway, &get, "failed ErrorCode::HttpResponseHeaderSectionSize(None)");
    server.reply_with(Reply::BytesThenClose(b"rubbish\r\n\r\n".to_vec()));
    assert_outcome(&gateway, &get, "failed ErrorCode::HttpProtocolError");

    server.reply_with(answer(200, ""));
    let post = |bytes: u32| format!("post|{bytes}|http://127.0.0.1:{}/", server.port());
    assert_outcome(&gateway, &post(1000), "status 200");
    assert_outcome(&gateway, &post(1001), "failed ErrorCode::HttpRequestBodySize(None)");
    assert_outcome(&gateway, &post(1_000_000), "failed ErrorCode::HttpRequestBodySize(None)");
}

#[test]
fn slow_server_delays_only_its_module() {
    let server = Upstream::start(Reply::Pending);
    let down = Upstream::closed_port();
    let hosts = [host(server.port()), host(down)];
    let gateway = setup(&hosts, "milliseconds = 500").start();
    let begin = Instant::now();
    let get = format!("get|http://127.0.0.1:{}/", server.port());
    assert_outcome(&gateway, &get, "failed ErrorCode::HttpResponseTimeout");
    assert!(begin.elapsed() >= Duration::from_millis(500), "{:?}", begin.elapsed());
    // The response stops after its head.
    server.reply_with(Reply::Bytes(b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nhalf".to_vec()));
    assert_outcome(&gateway, &get, "status 200, failed HTTP response timeout");
    server.reply_with(Reply::BytesThenClose(
        b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nhalf".to_vec(),
    ));
    assert_outcome(&gateway, &get, "status 200, failed incomplete HTTP response");
    assert_outcome(
        &gateway,
        &format!("get|http://127.0.0.1:{down}/"),
        "failed ErrorCode::ConnectionRefused",
    );
}

#[test]
fn concurrent_outgoing_requests_are_limited() {
    let server = Upstream::start(answer(200, "hello"));
    let gateway = setup(&[host(server.port())], "concurrent-requests = 3").start();
    let url = format!("http://127.0.0.1:{}/", server.port());
    server.reply_with(Reply::Bytes(b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nhalf".to_vec()));
    let held = "3 held, then ErrorCode::ConnectionLimitReached";
    assert_outcome(&gateway, &format!("hold|10|{url}"), held);
    // The slots of a call are released shortly after it ends.
    let begin = Instant::now();
    while !outcome(&gateway, &format!("hold|10|{url}")).contains(held) {
        assert!(begin.elapsed() < Duration::from_secs(5), "the slots are never released");
    }
    server.reply_with(answer(200, "hello"));
    assert_outcome(&gateway, &format!("get|{url}"), "status 200, 5 bytes");
}

#[test]
fn io_call_ends_at_deadline() {
    let slow = Slow::start(Duration::from_millis(200));
    let server = Upstream::start(Reply::Pending);
    let hosts = [host(server.port()), host(slow.port())];
    let gateway = setup(&hosts, "milliseconds = 60000")
        .with("modules", "waiting-milliseconds = 3000\ndeadline-milliseconds = 50")
        .start();
    let begin = Instant::now();
    let deadline = "exceeded the time limit of a call";
    assert_outcome(&gateway, &format!("get|http://127.0.0.1:{}/", server.port()), deadline);
    assert!(begin.elapsed() >= Duration::from_secs(3), "{:?}", begin.elapsed());
    // Waiting does not count as computing time.
    let url = format!("http://127.0.0.1:{}/", slow.port());
    assert_outcome(&gateway, &format!("again|10|{url}"), "status 200");
    let begin = Instant::now();
    assert_outcome(&gateway, &format!("spin|{url}"), deadline);
    assert!(begin.elapsed() < Duration::from_millis(2500), "{:?}", begin.elapsed());
    assert_outcome(&gateway, &format!("again|1000|{url}"), deadline);
}

#[test]
fn outgoing_https_host_is_authenticated() {
    let setup = |limits: &str, port: u16| setup(&[format!("https://localhost:{port}")], limits);
    let folder = tempfile::tempdir().unwrap();
    let name = || Name::dns("localhost");
    let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
    let authority = Authority::new(&Request::new("Hosts")).unwrap();
    let issued = authority.issue(&Request::new("Host").name(name())).unwrap();
    let other = Authority::new(&Request::new("Others")).unwrap();
    write("good.pem", authority.pem());
    write("other.pem", other.pem());
    write("rubbish.pem", "rubbish");
    write("tls.pem", issued.chain_pem());
    write("tls.key", &issued.key_pem());
    let server = Tls::start(folder.path());
    let ca = |file: &str| format!("ca = {:?}", folder.path().join(file));
    for (limits, result) in [
        (ca("good.pem"), "status 200, 5 bytes"),
        (ca("other.pem"), "failed ErrorCode::TlsCertificateError"),
        (String::new(), "failed ErrorCode::TlsCertificateError"),
    ] {
        let gateway = setup(&limits, server).start();
        assert_outcome(&gateway, &format!("get|https://localhost:{server}/"), result);
    }
    for (file, why) in [
        ("rubbish.pem", "rubbish.pem: has no certificate in PEM"),
        ("missing.pem", "missing.pem: cannot be opened"),
    ] {
        let refused = setup(&ca(file), server).run_until_exit().expect(2);
        assert!(refused.err.contains(why), "{refused:?}");
    }
}

#[test]
fn failed_outgoing_requests_are_logged_sparingly() {
    let down = Upstream::closed_port();
    let gateway = setup(&[host(down)], "").start();
    let mark = gateway.log().mark();
    send_command(gateway.port(), "again|200|http://127.0.0.1:1/");
    gateway.log().wait_after(mark, "handshake.refused");
    let lines = gateway.log().text().matches("the host is not allowed").count();
    assert!((1..=40).contains(&lines), "{lines} lines");
    // The WASI library refuses this request by itself, and would log each one.
    let mark = gateway.log().mark();
    send_command(gateway.port(), "pathless|200|127.0.0.1:1");
    gateway.log().wait_after(mark, "handshake.refused");
    let result = gateway.log().text().matches("http request error").count();
    assert_eq!(result, 0, "{result} lines");
}

#[test]
fn outgoing_requests_per_call_are_limited() {
    let server = Upstream::start(answer(200, ""));
    let gateway = setup(&[host(server.port())], "").start();
    let url = format!("http://127.0.0.1:{}/", server.port());
    assert_outcome(
        &gateway,
        &format!("again|40|{url}"),
        "failed ErrorCode::ConnectionLimitReached",
    );
    assert_eq!(server.requests().len(), 32);
    assert_outcome(&gateway, &format!("again|32|{url}"), "status 200");
}
