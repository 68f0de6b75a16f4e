//! A home gateway that reaches the IN-CSE with CoAP over DTLS.

use std::net::UdpSocket;

use saegis_tests::Request;
use serde_json::json;

use super::pair::{LIGHT, MN, Pair, Saef};
use super::{light_at, phone_at};

/// Returns a free port for datagrams.
fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

fn requests_reach_in_cse_over_coap(saef: Saef, suite: &str) {
    let port = free_port();
    let mut pair = Pair::with_address(saef, |_| format!("coaps://127.0.0.1:{port}"));
    let listen = format!("listen = \"127.0.0.1:{port}\"");
    pair.infrastructure = pair.infrastructure.with("coap", &listen);
    let (infrastructure, home) = pair.start();
    let established = home.log().wait("peer.association-established");
    assert_eq!(established.text("protocol"), "DTLSv1.2");
    assert_eq!(established.text("suite"), suite);
    let mut phone = phone_at(&infrastructure);
    let policy = json!({"m2m:acp": {
        "rn": "door",
        "pv": {"acr": [
            {"acor": ["Cphone"], "acop": 63},
            {"acor": [format!("/{MN}/{LIGHT}")], "acop": 3},
        ]},
        "pvs": {"acr": [{"acor": ["Cphone"], "acop": 63}]},
    }});
    phone.ask(&Request::create("/cse/phone", 1, &policy).from("Cphone")).expect(201, 2001);
    let scene = json!({"m2m:cnt": {"rn": "scene", "acpi": ["cse/phone/door"]}});
    phone.ask(&Request::create("/cse/phone", 3, &scene).from("Cphone")).expect(201, 2001);
    let mut light = light_at(&home);
    // A large value is transferred in blocks.
    for value in ["evening".to_string(), "x".repeat(20_000)] {
        let create = Request::create_instance("/~/in-cse/cse/phone/scene", &value).from(LIGHT);
        light.ask(&create).expect(201, 2001);
        let read = Request::retrieve("/~/in-cse/cse/phone/scene/la").from(LIGHT);
        assert_eq!(light.ask(&read).expect(200, 2000).json()["m2m:cin"]["con"], value);
    }
}

#[test]
fn requests_reach_in_cse_over_coap_by_keys() {
    requests_reach_in_cse_over_coap(Saef::Psk, "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256");
}

#[test]
fn requests_reach_in_cse_over_coap_by_certificates() {
    requests_reach_in_cse_over_coap(Saef::Certificates, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8");
}
