//! Requests from one home gateway to another, through the IN-CSE that both register with.

use saegis_tests::{Credential, LIGHT2, Request, Setup, Tool};
use serde_json::json;

use super::light_at;
use super::pair::{LIGHT, MN, Pair, Saef, listening_socket};

const KEY: &str = "aa0e0d0c0b0a09080706050403020100";
const IN_KEY: &str = "ab0e0d0c0b0a09080706050403020100";

/// Returns the settings of a second home gateway, and adds it to the IN-CSE of a pair.
fn with_second(mut pair: Pair) -> (Pair, Setup) {
    let (socket, port) = listening_socket();
    let peer = format!(
        "cse-id = \"mn-2\"\naddress = \"127.0.0.1:{port}\"\n\
         credential = {{ kpsa-id = \"in2@in.provider.com\", kpsa = \"{IN_KEY}\" }}\n"
    );
    // A separate table for each peer.
    pair.infrastructure = pair.infrastructure.with_another("[peer]", &peer);
    let row = format!(",mn-2,{KEY},mn2@in.provider.com\n");
    let table = std::fs::read_to_string(pair.infrastructure.table()).unwrap() + &row;
    pair.infrastructure.write("policies/psk-lookup-table.csv", table.as_bytes());
    let up = format!(
        "cse-id = \"in-cse\"\naddress = \"127.0.0.1:{}\"\nregister = true\n\
         point-of-access = [\"https://127.0.0.1:{port}\"]\n\
         credential = {{ kpsa-id = \"mn2@in.provider.com\", kpsa = \"{KEY}\" }}\n",
        pair.in_port
    );
    let rows = format!(
        "ae_id,cse_id,kpsa,kpsa_id\nClight-AE2,,{},{}\n,in-cse,{IN_KEY},in2@in.provider.com\n",
        LIGHT2.key, LIGHT2.identity
    );
    let second = Setup::new()
        .with_cse("mn-2", "MN-CSE")
        .with("[peer]", &up)
        .file("psk-lookup-table.csv", &rows)
        .with_descriptor(socket);
    (pair, second)
}

#[test]
fn light_reads_other_home_through_in_cse() {
    let (pair, second) = with_second(Pair::new(Saef::Psk));
    let (infrastructure, home) = pair.start();
    let second = second.start();
    second.log().wait("peer.registered");
    let mut light = light_at(&home);
    let mut other = Tool::GnuTls.connect(second.port(), LIGHT2);
    other.ask(&Request::create_ae("light2").from("Clight-AE2")).expect(201, 2001);
    let lamp = format!("/~/{MN}/cse/light1/lamp/la");
    // The request has the light's own originator, which has no permission yet.
    other.ask(&Request::retrieve(&lamp).from("Clight-AE2")).expect_refusal(403, 4103);
    let policy = json!({ "m2m:acp": { "pv": { "acr": [
        { "acor": [LIGHT], "acop": 63 },
        { "acor": ["/mn-2/Clight-AE2"], "acop": 2 },
    ]}}});
    light.ask(&Request::update("/cse/light1/phone", &policy).from(LIGHT)).expect(200, 2004);
    let read = other.ask(&Request::retrieve(&lamp).from("Clight-AE2")).expect(200, 2000);
    assert_eq!(read.json()["m2m:cin"]["con"], "on");
    // The credential of one home gateway does not allow originators of the other.
    let peer = Credential { identity: "mn2@in.provider.com", key: KEY };
    let mut peer = Tool::OpenSsl.connect(infrastructure.port(), peer);
    for from in [format!("/{MN}"), format!("/{MN}/{LIGHT}"), "/in-cse/Cphone".into()] {
        peer.ask(&Request::retrieve(&lamp).from(&from)).expect_refusal(403, 4106);
    }
    // A request from the IN-CSE is not forwarded back to it.
    let registrar = Credential { identity: "in2@in.provider.com", key: IN_KEY };
    let mut registrar = Tool::OpenSsl.connect(second.port(), registrar);
    let back = Request::retrieve(&lamp).from("/in-cse/Cphone");
    registrar.ask(&back).expect_refusal(404, 5103);
}
