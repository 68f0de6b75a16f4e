//! An association on which nothing comes gives its buffers back, and goes on as if it had not.

use std::thread::sleep;
use std::time::{Duration, Instant};

use saegis_tests::certificates::{Pki, Way};
use saegis_tests::{Client, Gateway, LIGHT1, LIGHT2, Mark, Request, Setup, Tool, with_each_client};

with_each_client!(
    after_a_rest_it_goes_on,
    with_certificates_too,
    what_came_by_halves_does_not_rest,
    a_rest_ends_with_the_association,
);

/// Longer than what is quiet goes on without a rest.
const LONG: Duration = Duration::from_millis(2500);

fn setup() -> Setup {
    Setup::new().with("log", "filter = \"saegis=debug\"")
}

/// Waits until it rests.
fn rests(gateway: &Gateway, mark: Mark) {
    gateway.log().wait_after(mark, "association.idle");
}

/// Rests, and is asked in each way that there is.
fn goes_on(gateway: &Gateway, light: &mut Client, mark: Mark) {
    rests(gateway, mark);
    let mark = gateway.log().mark();
    light.alive("Clight-AE1");
    light.ask(&Request::retrieve("/cse/nothing").from("Clight-AE2")).expect_refusal(403, 4106);
    rests(gateway, mark);

    // Byte by byte at first: that of which it wakes is not lost.
    let mark = gateway.log().mark();
    let request = Request::create_ae("light1").from("Clight-AE1");
    let bytes = request.bytes();
    light.send(&bytes[..1]);
    sleep(Duration::from_millis(50));
    light.send(&bytes[1..2]);
    light.send(&bytes[2..]);
    light.read().expect(201, 2001);
    rests(gateway, mark);

    // Two at a time.
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

fn after_a_rest_it_goes_on(tool: Tool) {
    let gateway = setup().start();
    let mark = gateway.log().mark();
    let mut light = tool.connect(gateway.port(), LIGHT1);
    light.alive("Clight-AE1");
    goes_on(&gateway, &mut light, mark);
}

fn with_certificates_too(tool: Tool) {
    let pki = Pki::new();
    let identity = pki.identity(&pki.example.ae);
    for way in [Way::Tls13, Way::Mandated] {
        let gateway = pki.setup().with("log", "filter = \"saegis=debug\"").start();
        let mark = gateway.log().mark();
        let mut light = pki.connect(tool, gateway.port(), &identity, way);
        light.alive("Clight-AE1");
        goes_on(&gateway, &mut light, mark);
    }
}

/// What has come of a request stays where it is, and what was not asked anything does not rest.
fn what_came_by_halves_does_not_rest(tool: Tool) {
    let gateway = setup().start();
    let mut silent = tool.connect(gateway.port(), LIGHT2);
    let mut light = tool.connect(gateway.port(), LIGHT1);
    let content = Request::create_ae("light1").from("Clight-AE1");
    let bytes = content.bytes();
    let head = bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    light.send(&bytes[..head + 2]);
    sleep(LONG);
    assert!(!gateway.log().text().contains("association.idle"), "{}", gateway.log().text());
    light.send(&bytes[head + 2..]);
    light.read().expect(201, 2001);

    // Nor does the half of a request that came with the one before.
    let both = [Request::retrieve("/cse/light1"), Request::retrieve("/cse/light1")]
        .map(|request| request.from("Clight-AE1").bytes());
    let (start, rest) = both[1].split_at(both[1].len() / 2);
    light.send(&[&both[0], start].concat());
    light.read().expect(200, 2000);
    sleep(LONG);
    assert!(!gateway.log().text().contains("association.idle"), "{}", gateway.log().text());
    light.send(rest);
    light.read().expect(200, 2000);
    silent.alive("Clight-AE2");
}

fn a_rest_ends_with_the_association(tool: Tool) {
    let why = |gateway: &Gateway| gateway.log().wait("association.ended").text("why");
    let resting = |setup: Setup| {
        let gateway = setup.start();
        let mark = gateway.log().mark();
        let mut light = tool.connect(gateway.port(), LIGHT1);
        light.alive("Clight-AE1");
        rests(&gateway, mark);
        (gateway, light)
    };

    let (gateway, mut light) = resting(setup().with("limits", "idle-seconds = 4"));
    light.ended();
    assert_eq!(why(&gateway), "idle");

    // The header of the next request has the time that is left, and no new one.
    let (gateway, mut light) = resting(setup().with("limits", "idle-seconds = 4"));
    light.send(b"GET /cse/light1 HTTP/1.1\r\nX-M2M-Origin: ");
    let start = Instant::now();
    light.ended();
    assert_eq!(why(&gateway), "idle");
    assert!(start.elapsed() < Duration::from_millis(6500), "{:?}", start.elapsed());

    // Nor has one that comes so slowly that there is no rest, and then no more.
    let gateway = setup().with("limits", "idle-seconds = 5").start();
    let mut light = tool.connect(gateway.port(), LIGHT1);
    light.alive("Clight-AE1");
    let start = Instant::now();
    for byte in b"GET" {
        sleep(Duration::from_millis(900));
        light.send(&[*byte]);
    }
    light.ended();
    assert_eq!(why(&gateway), "idle");
    assert!(start.elapsed() < Duration::from_millis(7500), "{:?}", start.elapsed());

    let (gateway, light) = resting(setup());
    light.close();
    assert_eq!(why(&gateway), "closed");

    let (gateway, mut light) = resting(setup());
    let table: String =
        gateway.table().split_inclusive('\n').filter(|l| !l.contains(LIGHT1.identity)).collect();
    gateway.in_force_after(|g| g.replace("policies/psk-lookup-table.csv", table));
    light.ended();
    assert_eq!(why(&gateway), "revoked");

    // The start of a request that does not come holds nobody up.
    for start in ["", "G"] {
        let (mut gateway, mut light) = resting(setup().with("limits", "drain-seconds = 3600"));
        light.send(start.as_bytes());
        sleep(Duration::from_millis(100));
        gateway.signal("TERM");
        light.ended();
        assert_eq!(gateway.wait().unwrap().code(), Some(0));
        assert_eq!(why(&gateway), "gateway stopping");
    }
}
