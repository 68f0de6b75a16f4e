//! What the CSE behind the gateway sends to AEs goes to them over associations, by the addresses that the
//! gateway has given that CSE.

use std::thread;

use saegis_tests::{
    Gateway, LIGHT1, LIGHT2, ListeningAe, Reply, Request, Response, Setup, Tool, Upstream,
};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";

/// A gateway with a CSE behind, and the address that the CSE has got of light 1.
fn start(poa: &str) -> (Gateway, saegis_tests::Client, String) {
    start_with(poa, "")
}

/// The same, with more lines about the CSE behind.
fn start_with(poa: &str, upstream: &str) -> (Gateway, saegis_tests::Client, String) {
    let cse = Upstream::start(Reply::answer(201, 2001, "{\"m2m:ae\":{\"aei\":\"Clight-AE1\"}}"));
    let gateway = Setup::new()
        .upstream(cse.port())
        .with("upstream", &format!("notification-listen = \"127.0.0.1:0\"\n{upstream}"))
        .with("notifications", "targets = [\"127.0.0.1\"]\ntimeout-seconds = 3")
        .start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": true, "poa": [poa]}});
    light.ask(&Request::create("/cse", 2, &ae).from(OWN)).expect(201, 2001);
    let told: Value = serde_json::from_slice(&cse.wait(1)[0].body).unwrap();
    let address = told["m2m:ae"]["poa"][0].as_str().unwrap().to_string();
    (gateway, light, address)
}

/// The port and the path of an address.
fn split(address: &str) -> (u16, String) {
    let (port, path) = address.strip_prefix("http://127.0.0.1:").unwrap().split_once('/').unwrap();
    (port.parse().unwrap(), format!("/{path}"))
}

fn notification(path: &str, from: &str) -> Request {
    Request::new("POST", path)
        .from(from)
        .header("Content-Type", "application/json")
        .body("{\"m2m:sgn\":{\"nev\":{\"net\":3}}}")
}

/// The CSE sends, and waits for the answer.
fn send(address: &str, from: &str) -> thread::JoinHandle<Response> {
    let (port, path) = split(address);
    let request = notification(&path, from);
    thread::spawn(move || request.send_in_plaintext(port))
}

#[test]
fn what_the_cse_sends_comes_over_an_association() {
    let mut ae = ListeningAe::with_key(LIGHT1);
    let (_gateway, _light, address) = start(&ae.url());
    let sent = send(&address, "/mn-cse-123456");
    let told = ae.request();
    assert_eq!(told.line, "POST /told HTTP/1.1");
    assert_eq!(told.values("x-m2m-origin"), ["/mn-cse-123456"]);
    assert_eq!(told.body, b"{\"m2m:sgn\":{\"nev\":{\"net\":3}}}");
    ae.answer(&told, 2000, "X-M2M-Origin: Clight-AE1\r\n");
    sent.join().unwrap().expect(200, 2000);
    // Nobody else's answer is the CSE's.
    let sent = send(&address, "/mn-cse-123456");
    let told = ae.request();
    ae.answer(&told, 2000, "X-M2M-Origin: Clight-AE2\r\n");
    sent.join().unwrap().expect_refusal(404, 5103);
}

#[test]
fn whoever_is_there_without_the_key_gets_nothing() {
    let impostor = ListeningAe::with_key(LIGHT2);
    let (_gateway, _light, address) = start(&impostor.url());
    send(&address, "/mn-cse-123456").join().unwrap().expect_refusal(404, 5103);
    assert!(!impostor.has_received_request(), "{}", impostor.said());
}

#[test]
fn what_is_no_notification_for_an_ae_goes_nowhere() {
    let ae = ListeningAe::with_key(LIGHT1);
    let (gateway, _light, address) = start(&ae.url());
    let (port, path) = split(&address);
    let refused = |request: Request, status: u16, rsc: u16| {
        request.send_in_plaintext(port).expect_refusal(status, rsc);
    };
    refused(notification(&path, "C"), 400, 4000);
    refused(notification(&path, "x/y/z"), 400, 4000);
    refused(notification(&path, "").without("X-M2M-Origin"), 400, 4000);
    refused(Request::retrieve(&path).from("/mn-cse-123456"), 400, 4000);
    refused(Request::create_container(&path, "x").from("/mn-cse-123456"), 400, 4000);
    let twice = notification(&path, "/mn-cse-123456").header("X-M2M-Origin", "/mn-cse-123456");
    refused(twice, 400, 4000);
    let large = "x".repeat(300 << 10);
    let large = notification(&path, "/mn-cse-123456")
        .body(&format!("{{\"m2m:sgn\":{{\"x\":\"{large}\"}}}}"));
    refused(large, 400, 4000);
    for nowhere in ["/", "/metrics", "/12-nobody%40in.provider.com", "/~/mn-cse-123456/cse"] {
        refused(notification(nowhere, "/mn-cse-123456"), 404, 4004);
    }
    // Another's credential and another place: nobody but the gateway makes addresses.
    let other = path.replace("AE123456789012", "AE123456789015");
    refused(notification(&other, "/mn-cse-123456"), 404, 4004);
    let away = path.replace("127.0.0.1%3A", "192.0.2.1%3A");
    assert_ne!(away, path);
    refused(notification(&away, "/mn-cse-123456"), 404, 4004);
    gateway.log().wait("notification.failed");
    assert!(!ae.has_received_request(), "{}", ae.said());
}

/// An address that no rule allows is not gone to, though it is the gateway's own.
#[test]
fn a_place_that_is_not_allowed_is_not_gone_to() {
    let (gateway, _light, address) = start("https://192.0.2.1:8443/told");
    send(&address, "/mn-cse-123456").join().unwrap().expect_refusal(404, 5103);
    let failed = gateway.log().wait("notification.failed").message();
    assert!(failed.contains("no rule allows it"), "{failed}");
}

/// An address is good after a start, and leads to who has come since.
#[test]
fn an_address_outlasts_a_start() {
    let mut ae = ListeningAe::with_key(LIGHT1);
    let (gateway, light, address) = start(&ae.url());
    let (_, path) = split(&address);
    light.close();
    let gateway = gateway.restart();
    let printed = gateway.printed();
    let (_, at) = printed.split_once("for AEs     http://127.0.0.1:").unwrap();
    let address = format!("http://127.0.0.1:{}{path}", at.split_once(',').unwrap().0);
    send(&address, "/mn-cse-123456").join().unwrap().expect_refusal(404, 5103);
    let mark = gateway.log().mark();
    let _light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    gateway.log().wait_after(mark, "association.established");
    let sent = send(&address, "/mn-cse-123456");
    let told = ae.request();
    ae.answer(&told, 2000, "");
    sent.join().unwrap().expect(200, 2000);
}

/// Who runs this.
fn own_user() -> u32 {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap())
}

/// Where only the user of the CSE behind may send, another learns nothing, not even with an address.
#[test]
fn another_user_does_not_speak_as_the_cse() {
    use std::io::{Read as _, Write as _};
    let ae = ListeningAe::with_key(LIGHT1);
    let user = format!("notification-uid = {}", own_user() + 1);
    let (gateway, _light, address) = start_with(&ae.url(), &user);
    let (port, path) = split(&address);
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let _ = socket.write_all(&notification(&path, "/mn-cse-123456").bytes());
    let mut answer = Vec::new();
    // It may be closed before it has taken the request.
    let _ = socket.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    let refused = gateway.log().wait("notification.user-refused");
    assert!(refused.message().contains(&format!("is of user {}", own_user())), "{refused:?}");
    assert!(!ae.has_received_request(), "{}", ae.said());
    assert!(
        gateway
            .log()
            .all(saegis_tests::Mark::START, "notification.listener-unrestricted", 0)
            .is_empty()
    );
}

#[test]
fn the_user_of_the_cse_speaks_as_the_cse() {
    let mut ae = ListeningAe::with_key(LIGHT1);
    let user = format!("notification-uid = {}", own_user());
    let (_gateway, _light, address) = start_with(&ae.url(), &user);
    let sent = send(&address, "/mn-cse-123456");
    let told = ae.request();
    ae.answer(&told, 2000, "");
    sent.join().unwrap().expect(200, 2000);
    let (gateway, ..) = start(&ae.url());
    gateway.log().wait("notification.listener-unrestricted");
}
