//! Idle associations release their buffers and resume with the next byte.

use std::thread::sleep;
use std::time::{Duration, Instant};

use saegis_tests::certificates::{Pki, TlsProfile};
use saegis_tests::{Client, Gateway, LIGHT1, LIGHT2, Mark, Request, Setup, Tool, with_each_client};

with_each_client!(
    idle_association_serves_next_request,
    idle_certificate_association_serves_next_request,
    association_with_partial_request_is_not_idle,
    idle_association_ends_for_each_reason,
);

/// Longer than the time after which a quiet association becomes idle.
const IDLE_DELAY: Duration = Duration::from_millis(2500);

fn setup() -> Setup {
    Setup::new().with("log", "filter = \"saegis=debug\"")
}

/// Waits until the association is idle.
fn wait_until_idle(gateway: &Gateway, mark: Mark) {
    gateway.log().wait_after(mark, "association.idle");
}

/// Waits until the association is idle, and sends requests in different ways.
fn assert_serves_after_idle(gateway: &Gateway, light: &mut Client, mark: Mark) {
    wait_until_idle(gateway, mark);
    let mark = gateway.log().mark();
    light.assert_served_as("Clight-AE1");
    light.ask(&Request::retrieve("/cse/nothing").from("Clight-AE2")).expect_refusal(403, 4106);
    wait_until_idle(gateway, mark);

    // Byte by byte at first: the byte that ends the idle state is not lost.
    let mark = gateway.log().mark();
    let request = Request::create_ae("light1").from("Clight-AE1");
    let bytes = request.bytes();
    light.send(&bytes[..1]);
    sleep(Duration::from_millis(50));
    light.send(&bytes[1..2]);
    light.send(&bytes[2..]);
    light.read().expect(201, 2001);
    wait_until_idle(gateway, mark);

    // Two requests at once.
    let two = [
        Request::create_container("/cse/light1", "lamp").from("Clight-AE1"),
        Request::create_instance("/cse/light1/lamp", "on").from("Clight-AE1"),
    ];
    light.send(&two.each_ref().map(Request::bytes).concat());
    for request in &two {
        let response = light.read().expect(201, 2001);
        assert_eq!(response.header("x-m2m-ri"), Some(request.id()));
    }
}

fn idle_association_serves_next_request(tool: Tool) {
    let gateway = setup().start();
    let mark = gateway.log().mark();
    let mut light = tool.connect(gateway.port(), LIGHT1);
    light.assert_served_as("Clight-AE1");
    assert_serves_after_idle(&gateway, &mut light, mark);
}

fn idle_certificate_association_serves_next_request(tool: Tool) {
    let pki = Pki::new();
    let identity = pki.identity(&pki.example.ae);
    for profile in [TlsProfile::Tls13, TlsProfile::Mandated] {
        let gateway = pki.setup().with("log", "filter = \"saegis=debug\"").start();
        let mark = gateway.log().mark();
        let mut light = pki.connect(tool, gateway.port(), &identity, profile);
        light.assert_served_as("Clight-AE1");
        assert_serves_after_idle(&gateway, &mut light, mark);
    }
}

/// An association with a partial request or without any request does not become idle.
fn association_with_partial_request_is_not_idle(tool: Tool) {
    let gateway = setup().start();
    let mut silent = tool.connect(gateway.port(), LIGHT2);
    let mut light = tool.connect(gateway.port(), LIGHT1);
    let content = Request::create_ae("light1").from("Clight-AE1");
    let bytes = content.bytes();
    let head = bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    light.send(&bytes[..head + 2]);
    sleep(IDLE_DELAY);
    assert!(!gateway.log().text().contains("association.idle"), "{}", gateway.log().text());
    light.send(&bytes[head + 2..]);
    light.read().expect(201, 2001);

    // The same holds for a partial request that arrived with the previous request.
    let both = [Request::retrieve("/cse/light1"), Request::retrieve("/cse/light1")]
        .map(|request| request.from("Clight-AE1").bytes());
    let (start, rest) = both[1].split_at(both[1].len() / 2);
    light.send(&[&both[0], start].concat());
    light.read().expect(200, 2000);
    sleep(IDLE_DELAY);
    assert!(!gateway.log().text().contains("association.idle"), "{}", gateway.log().text());
    light.send(rest);
    light.read().expect(200, 2000);
    silent.assert_served_as("Clight-AE2");
}

fn idle_association_ends_for_each_reason(tool: Tool) {
    let why = |gateway: &Gateway| gateway.log().wait("association.ended").text("why");
    let idle = |setup: Setup| {
        let gateway = setup.start();
        let mark = gateway.log().mark();
        let mut light = tool.connect(gateway.port(), LIGHT1);
        light.assert_served_as("Clight-AE1");
        wait_until_idle(&gateway, mark);
        (gateway, light)
    };

    let (gateway, mut light) = idle(setup().with("limits", "idle-seconds = 4"));
    light.ended();
    assert_eq!(why(&gateway), "idle");

    // The header of the next request does not extend the idle timeout.
    let (gateway, mut light) = idle(setup().with("limits", "idle-seconds = 4"));
    light.send(b"GET /cse/light1 HTTP/1.1\r\nX-M2M-Origin: ");
    let start = Instant::now();
    light.ended();
    assert_eq!(why(&gateway), "idle");
    assert!(start.elapsed() < Duration::from_millis(7500), "{:?}", start.elapsed());

    // The same holds for a header that arrives too slowly for the association to become idle.
    let gateway = setup().with("limits", "idle-seconds = 5").start();
    let mut light = tool.connect(gateway.port(), LIGHT1);
    light.assert_served_as("Clight-AE1");
    let start = Instant::now();
    for byte in b"GET" {
        sleep(Duration::from_millis(900));
        light.send(&[*byte]);
    }
    light.ended();
    assert_eq!(why(&gateway), "idle");
    assert!(start.elapsed() < Duration::from_millis(7500), "{:?}", start.elapsed());

    let (gateway, light) = idle(setup());
    light.close();
    assert_eq!(why(&gateway), "closed");

    let (gateway, mut light) = idle(setup());
    let table: String =
        gateway.table().split_inclusive('\n').filter(|l| !l.contains(LIGHT1.identity)).collect();
    gateway.in_force_after(|g| g.replace("policies/psk-lookup-table.csv", table));
    light.ended();
    assert_eq!(why(&gateway), "revoked");

    // A partial request does not delay the shutdown.
    for start in ["", "G"] {
        let (mut gateway, mut light) = idle(setup().with("limits", "drain-seconds = 3600"));
        light.send(start.as_bytes());
        sleep(Duration::from_millis(100));
        gateway.signal("TERM");
        light.ended();
        assert_eq!(gateway.wait().unwrap().code(), Some(0));
        assert_eq!(why(&gateway), "gateway stopping");
    }
}
