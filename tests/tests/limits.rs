//! One host, one device or too little of something can't use up the gateway.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::net::TcpStream;

use saegis_tests::{Credential, Gateway, LIGHT1, LIGHT2, Light, Mark, Request, Setup, Tool};

/// A handshake of another host of this machine's loopback network.
fn from_another_host(gateway: &Gateway, credential: Credential<'_>) -> bool {
    let offers = ["-bind", "127.0.0.2:0", "-tls1_2", "-cipher", "PSK-AES128-CBC-SHA256"];
    let offers = [&offers[..], &["-nocommands"]].concat();
    match Tool::OpenSsl.try_with(gateway.port(), Some(credential), &offers) {
        Ok(client) => {
            client.close();
            true
        }
        Err(_) => false,
    }
}

#[test]
fn a_host_that_guesses_is_barred_and_no_other() {
    let gateway = Setup::new().with("limits", "failed-handshakes-per-minute = 5").with_metrics();
    let gateway = gateway.start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    assert!(from_another_host(&gateway, LIGHT2), "it is let in as long as it behaves");
    for n in 0..5u8 {
        let key = format!("{n:02x}112233445566778899aabbccddeeff");
        assert!(!from_another_host(&gateway, Credential { key: &key, ..LIGHT2 }));
    }
    // A client knows of its refusal before the log does.
    gateway.log().all(Mark::START, "handshake.refused", 5);
    // The right key does not help any more, for it may have been guessed.
    let mark = gateway.log().mark();
    assert!(!from_another_host(&gateway, LIGHT2));
    let refused = gateway.handshake_refused(mark);
    assert_eq!(refused.text("cause"), "too-many-failed");
    assert!(refused.text("peer").starts_with("127.0.0.2:"), "{refused:?}");
    let nothing = Request::retrieve("/cse/nothing").from("Clight-AE1");
    light.ask(&nothing).expect_refusal(404, 4004);
    Tool::OpenSsl.connect(gateway.port(), LIGHT2).close();
    let metrics = gateway.monitor("/metrics");
    assert_eq!(metrics.value("saegis_handshakes_total{outcome=\"wrong-key\"}"), 5.0);
    assert_eq!(metrics.value("saegis_handshakes_total{outcome=\"too-many-failed\"}"), 1.0);
}

/// Refusals without end are counted one by one, and told once a second.
#[test]
fn a_barred_host_does_not_fill_the_log() {
    use std::io::Read as _;
    let gateway = Setup::new().with("limits", "failed-handshakes-per-minute = 1").with_metrics();
    let gateway = gateway.start();
    let garbage = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
    drop(garbage);
    gateway.handshake_refused(Mark::START);
    let mark = gateway.log().mark();
    for _ in 0..200 {
        let mut socket = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
        assert_eq!(socket.read(&mut [0; 1]).unwrap_or(0), 0, "it is closed");
    }
    let metrics = gateway.monitor("/metrics");
    let refused = metrics.value("saegis_handshakes_total{outcome=\"too-many-failed\"}");
    // A minute gives one place back, of which a slow machine may see something.
    assert!(refused >= 190.0, "{refused}");
    let told = gateway.log().all(mark, "handshake.refused", 1).len();
    assert!(told <= 25, "{told} lines for {refused} refusals");
}

#[test]
fn one_credential_has_so_many_associations() {
    let gateway = Setup::new().with("limits", "associations-per-credential = 2").start();
    let mut first = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let mut second = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let mut other = Tool::OpenSsl.connect(gateway.port(), LIGHT2);
    let mut third = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    first.ended();
    let superseded = gateway.log().wait("association.superseded");
    assert_eq!(superseded.number("association"), 1);
    let nothing = |from: &str| Request::retrieve("/cse/nothing").from(from);
    for light in [&mut second, &mut third] {
        light.ask(&nothing("Clight-AE1")).expect_refusal(404, 4004);
    }
    other.ask(&nothing("Clight-AE2")).expect_refusal(404, 4004);
    // What has ended gives its place back.
    second.close();
    gateway.log().all(Mark::START, "association.ended", 2);
    let mut fourth = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    for light in [&mut third, &mut fourth] {
        light.ask(&nothing("Clight-AE1")).expect_refusal(404, 4004);
    }
    assert_eq!(gateway.log().all(Mark::START, "association.superseded", 1).len(), 1);
}

/// With 96 descriptors the gateway serves whom it has, and whom it can't take waits.
#[test]
fn without_descriptors_live_associations_are_served() {
    let gateway = Setup::new().through(&["prlimit", "--nofile=96:96"]).start();
    gateway.log().wait("gateway.descriptors");
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let ae = Request::create_ae("light1").from("Clight-AE1");
    light.ask(&ae).unwrap().expect(201, 2001);
    let connect = || TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
    let crowd: Vec<_> = (0..120).map(|_| connect()).collect();
    gateway.log().wait("accept.failed");
    for _ in 0..50 {
        let own = Request::retrieve("/cse/light1").from("Clight-AE1");
        light.ask(&own).unwrap().expect(200, 2000);
    }
    // Policy that changes meanwhile is read when there is something to read it with.
    let table = gateway.table();
    let row = "Cthird,00112233445566778899aabbccddeeff,third@in.provider.com\n";
    let mark = gateway.log().mark();
    gateway.replace("policies/psk-lookup-table.csv", format!("{table}{row}"));
    drop(crowd);
    gateway.log().wait_after(mark, "generation.in-force");
    let third =
        Credential { identity: "third@in.provider.com", key: "00112233445566778899aabbccddeeff" };
    Tool::OpenSsl.connect(gateway.port(), third).close();
    let own = Request::retrieve("/cse/light1").from("Clight-AE1");
    light.ask(&own).unwrap().expect(200, 2000);
}
