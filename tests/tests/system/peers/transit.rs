//! Requests from one home gateway to another, through the IN-CSE that both register with.

use saegis_tests::{Credential, LIGHT2, Mark, Request, Setup, Tool};
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

/// Returns a Notify with security information.
fn security_information(to: &str, content: &serde_json::Value, from: &str) -> Request {
    let notify = Request::new("POST", to).header("Content-Type", "application/json");
    notify.body(&json!({ "m2m:seci": content }).to_string()).from(from)
}

/// The originator inside an ESPrim object is not visible on the way. So it passes only between CSEs
/// for which the operator allows it, and its target decides.
#[test]
fn esprim_passes_only_between_allowed_peers() {
    let esprim = json!({ "sit": 5, "epo": "eyJhbGciOiJkaXIifQ..x.y.z" });
    let allow = |setup: Setup, allowed: bool| match allowed {
        true => setup.with("[peer]", "esprim = true"),
        false => setup,
    };
    // Whether the second home allows it to the IN-CSE, and the IN-CSE from it and to the first home.
    for (second_allows, in_allows, rsc) in
        [(false, true, 4103), (true, false, 4103), (true, true, 4111)]
    {
        let (mut pair, second) = with_second(Pair::new(Saef::Psk));
        // The table of the second home is the last one.
        pair.infrastructure = pair.infrastructure.with_last("esprim = true");
        pair.infrastructure = allow(pair.infrastructure, in_allows);
        let second = allow(second, second_allows);
        let (infrastructure, home) = pair.start();
        let second = second.start();
        second.log().wait("peer.registered");
        let mut light = Tool::OpenSsl.connect(second.port(), LIGHT2);
        light.ask(&Request::create_ae("light2").from("Clight-AE2")).expect(201, 2001);

        let to = format!("/~/{MN}/cse");
        let ask = |content| security_information(&to, content, "Clight-AE2");
        light.ask(&ask(&esprim)).expect_refusal(403, rsc);
        let refused_by = match (second_allows, in_allows) {
            (false, _) => &second,
            (true, false) => &infrastructure,
            (true, true) => &home,
        };
        let refused = refused_by.log().wait_after(Mark::START, "request.refused");
        assert_eq!(refused.number("rsc"), u64::from(rsc));
        // Security information without a primitive passes, and its target does not support it.
        let random_object = json!({ "sit": 3 });
        light.ask(&ask(&random_object)).expect_refusal(501, 5001);
        // An object under another type does not pass.
        let disguised = json!({ "sit": 3, "epo": "eyJhbGciOiJkaXIifQ..x.y.z" });
        light.ask(&ask(&disguised)).expect_refusal(400, 4000);
    }
}

/// A request from a CSE that may not send ESPrim objects is refused, whatever its target allows.
#[test]
fn esprim_of_peer_without_permission_is_refused() {
    let (mut pair, second) = with_second(Pair::new(Saef::Psk));
    pair.infrastructure = pair.infrastructure.with("[peer]", "esprim = true");
    let (infrastructure, _home) = pair.start();
    drop(second);
    let peer = Credential { identity: "mn2@in.provider.com", key: KEY };
    let mut peer = Tool::OpenSsl.connect(infrastructure.port(), peer);
    let esprim = json!({ "sit": 5, "epo": "eyJhbGciOiJkaXIifQ..x.y.z" });
    let to = format!("/~/{MN}/cse");
    let notify = security_information(&to, &esprim, "/mn-2/Clight-AE2");
    peer.ask(&notify).expect_refusal(403, 4103);
}
