//! The notification relay. The CSE behind the gateway sends notifications to relay addresses, and
//! the gateway sends them to AEs over associations.

use std::thread;

use saegis_tests::{
    Gateway, LIGHT1, LIGHT2, ListeningAe, Reply, Request, Response, Setup, Tool, Upstream,
};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";

/// Starts a gateway with a CSE behind it, and returns the relay address of light 1.
fn start(poa: &str) -> (Gateway, saegis_tests::Client, String) {
    start_with(poa, "")
}

/// Starts the same gateway with additional upstream options.
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
    let notification_request: Value = serde_json::from_slice(&cse.wait(1)[0].body).unwrap();
    let address = notification_request["m2m:ae"]["poa"][0].as_str().unwrap().to_string();
    (gateway, light, address)
}

/// Returns the port and the path of an address.
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

/// Sends a notification as the CSE on a separate thread.
fn send(address: &str, from: &str) -> thread::JoinHandle<Response> {
    let (port, path) = split(address);
    let request = notification(&path, from);
    thread::spawn(move || request.send_in_plaintext(port))
}

#[test]
fn upstream_notification_is_relayed_to_ae() {
    let mut ae = ListeningAe::with_key(LIGHT1);
    let (_gateway, _light, address) = start(&ae.url());
    let sent = send(&address, "/mn-cse-123456");
    let notification_request = ae.request();
    assert_eq!(notification_request.line, "POST /told HTTP/1.1");
    assert_eq!(notification_request.values("x-m2m-origin"), ["/mn-cse-123456"]);
    assert_eq!(notification_request.body, b"{\"m2m:sgn\":{\"nev\":{\"net\":3}}}");
    ae.answer(&notification_request, 2000, "X-M2M-Origin: Clight-AE1\r\n");
    sent.join().unwrap().expect(200, 2000);
    // A response with another originator is discarded.
    let sent = send(&address, "/mn-cse-123456");
    let notification_request = ae.request();
    ae.answer(&notification_request, 2000, "X-M2M-Origin: Clight-AE2\r\n");
    sent.join().unwrap().expect_refusal(404, 5103);
}

#[test]
fn server_without_key_receives_no_notification() {
    let impostor = ListeningAe::with_key(LIGHT2);
    let (_gateway, _light, address) = start(&impostor.url());
    send(&address, "/mn-cse-123456").join().unwrap().expect_refusal(404, 5103);
    assert!(!impostor.has_received_request(), "{}", impostor.said());
}

#[test]
fn invalid_notification_is_not_relayed() {
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
    // The CSE cannot make up an address with another credential or another target.
    let other = path.replace("AE123456789012", "AE123456789015");
    refused(notification(&other, "/mn-cse-123456"), 404, 4004);
    let elsewhere = path.replace("127.0.0.1%3A", "192.0.2.1%3A");
    assert_ne!(elsewhere, path);
    refused(notification(&elsewhere, "/mn-cse-123456"), 404, 4004);
    gateway.log().wait("notification.failed");
    assert!(!ae.has_received_request(), "{}", ae.said());
}

/// The rules for targets apply to relay addresses as well.
#[test]
fn target_without_rule_is_not_contacted() {
    let (gateway, _light, address) = start("https://192.0.2.1:8443/told");
    send(&address, "/mn-cse-123456").join().unwrap().expect_refusal(404, 5103);
    let failed = gateway.log().wait("notification.failed").message();
    assert!(failed.contains("no rule allows the address"), "{failed}");
}

/// A relay address stays valid after a restart, and leads to the AE's next association.
#[test]
fn relay_address_survives_restart() {
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
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    gateway.log().wait_after(mark, "association.established");
    // A response proves that the relay knows the association, which is logged slightly earlier.
    light.ask(&Request::retrieve("/cse/light1").from(OWN));
    let sent = send(&address, "/mn-cse-123456");
    let notification_request = ae.request();
    ae.answer(&notification_request, 2000, "");
    sent.join().unwrap().expect(200, 2000);
}

/// Returns the user ID of this process.
fn own_user() -> u32 {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap())
}

/// If only one user may send notifications, the gateway sends others no response, even with a valid
/// address.
#[test]
fn notification_of_other_user_is_refused() {
    use std::io::{Read as _, Write as _};
    let ae = ListeningAe::with_key(LIGHT1);
    let user = format!("notification-uid = {}", own_user() + 1);
    let (gateway, _light, address) = start_with(&ae.url(), &user);
    let (port, path) = split(&address);
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let _ = socket.write_all(&notification(&path, "/mn-cse-123456").bytes());
    let mut answer = Vec::new();
    // The connection may be closed before the request is read.
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
fn notification_of_configured_user_is_relayed() {
    let mut ae = ListeningAe::with_key(LIGHT1);
    let user = format!("notification-uid = {}", own_user());
    let (_gateway, _light, address) = start_with(&ae.url(), &user);
    let sent = send(&address, "/mn-cse-123456");
    let notification_request = ae.request();
    ae.answer(&notification_request, 2000, "");
    sent.join().unwrap().expect(200, 2000);
    let (gateway, ..) = start(&ae.url());
    gateway.log().wait("notification.listener-unrestricted");
}
