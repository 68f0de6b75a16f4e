//! ACME's own clients of WebSocket and MQTT: ACME as a CSE that registers with the IN-CSE. They cannot
//! authenticate themselves in TLS, so stunnel next to ACME does it with the key of the CSE.

use std::io::Write;
use std::net::TcpStream;

use saegis_tests::{Gateway, Request, Setup, Tool, Upstream, wait_until};

use crate::acme::Acme;
use crate::infrastructure::{open, value};
use crate::lights::create_ae;
use crate::pair::{LIGHT, MN, MN_CREDENTIAL, PHONE, Pair, Saef};
use crate::tunnel::Tunnel;

/// The phone, an AE of the IN-CSE, and its container.
const STEM: &str = "Cphone";
const LATEST: &str = "/~/in-cse/cse/phone/lamp/la";

/// ACME registers, and its AE reads a value at the IN-CSE. The AE of another CSE is refused.
fn acme_uses(infrastructure: &Gateway, acme: &Acme) {
    let mut phone = Tool::GnuTls.connect(infrastructure.port(), PHONE);
    phone.ask(&create_ae("phone").from(STEM)).expect(201, 2001);
    open(&mut phone, STEM, "/cse/phone", "/mn-cse-123456/Clight-AE1");
    // ACME has a resource for its registrar once it is registered.
    wait_until("ACME is registered", || acme.tree().contains("m2m:csr"));
    // The registration is protected.
    phone.ask(&Request::delete(&format!("/cse/{MN}")).from(STEM)).expect_refusal(403, 4103);
    acme.ask(&create_ae("light1").from(LIGHT)).expect(201, 2001);
    assert_eq!(value(acme.ask(&Request::retrieve(LATEST).from(LIGHT))), "on");
    let switch = Request::create_instance("/~/in-cse/cse/phone/lamp", "off").from(LIGHT);
    acme.ask(&switch).expect(201, 2001);
    let own = Request::retrieve("/cse/phone/lamp/la").from(STEM);
    assert_eq!(value(phone.ask(&own)), "off");
    // ACME forwards any originator. The gateway accepts those of ACME's AEs. ACME does not know the
    // code 4106: it waits for another response, and answers this one if its binding is WebSocket.
    let mark = infrastructure.log().mark();
    let forged = Request::retrieve(LATEST).from("/in-cse/Cphone");
    let mut socket = TcpStream::connect(("127.0.0.1", acme.port())).unwrap();
    socket.write_all(&forged.bytes()).unwrap();
    let refused = infrastructure.log().wait_after(mark, "request.refused");
    assert_eq!(refused.text("from"), "/in-cse/Cphone");
    assert_eq!(refused.text("credential_id"), "12-mn@in.provider.com");
    // The answer is dropped.
    assert_eq!(value(acme.ask(&Request::retrieve(LATEST).from(LIGHT))), "off");
    let refusals = infrastructure.log().all(mark, "request.refused", 1);
    assert_eq!(refusals.len(), 1, "{refusals:?}");
}

/// Returns the IN-CSE, which names the address of the tunnel as its own.
fn infrastructure(url: &str) -> Setup {
    let poa = format!("point-of-access = [\"{url}\"]");
    Pair::new(Saef::Psk).infrastructure.with("cse", &poa).with_mqtt()
}

#[test]
fn acme_registers_over_websocket() {
    let (tunnel, own) = (Upstream::closed_port(), Upstream::closed_port());
    let url = format!("ws://127.0.0.1:{tunnel}");
    let infrastructure = infrastructure(&url).start();
    let _tunnel = Tunnel::start(tunnel, infrastructure.port(), MN_CREDENTIAL);
    let binding = format!("[websocket]\nenable=true\nlistenIF=127.0.0.1\nport={own}\n");
    acme_uses(&infrastructure, &Acme::start_registree(&url, &binding));
}

#[test]
fn acme_registers_over_mqtt() {
    let tunnel = Upstream::closed_port();
    let url = format!("mqtt://127.0.0.1:{tunnel}");
    let infrastructure = infrastructure(&url).start();
    let _tunnel = Tunnel::start(tunnel, infrastructure.mqtt_port(), MN_CREDENTIAL);
    let binding = format!("[mqtt]\nenable=true\naddress=127.0.0.1\nport={tunnel}\n");
    acme_uses(&infrastructure, &Acme::start_registree(&url, &binding));
}
