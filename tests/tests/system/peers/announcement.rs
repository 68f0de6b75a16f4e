//! S-type AE-IDs, which the service provider assigns and the IN-CSE announces (TS-0001 clause
//! 10.2.2.2).

use saegis_tests::{Credential, Request, Tool, eventually, wait_until};
use serde_json::json;

use super::pair::{LIGHT, MN, MN_CREDENTIAL, Pair, Saef};

/// A credential of the home gateway without an AE-ID.
pub const NEW: Credential<'static> =
    Credential { identity: "new@in.provider.com", key: "5f0e0d0c0b0a09080706050403020100" };

/// Returns a pair whose IN-CSE has rules for registrations at the home gateway.
pub fn pair(rules: &str) -> Pair {
    let mut pair = Pair::new(Saef::Psk);
    let row = format!(",,{},{}\n", NEW.key, NEW.identity);
    let table = std::fs::read_to_string(pair.home.table()).unwrap() + &row;
    pair.home.write("policies/psk-lookup-table.csv", table.as_bytes());
    pair.infrastructure = pair
        .infrastructure
        .module("app-rules", "capabilities = [\"service-subscription\"]")
        .file("service-subscription.toml", rules);
    pair
}

pub fn rules(app_id: &str, aes: &str) -> String {
    format!(
        "[[node]]\nnode-id = \"in\"\ncse-id = \"/in-cse\"\nrule-links = [\"phones\"]\n\n\
         [[node]]\nnode-id = \"mn\"\ncse-id = \"/{MN}\"\nrule-links = [\"lights\"]\n\n\
         [[rule]]\nname = \"phones\"\napplicable-cred-ids = [\"12-phone@*\"]\n\
         allowed-app-ids = [\"*\"]\nallowed-aes = [\"C*\"]\n\n\
         [[rule]]\nname = \"lights\"\napplicable-cred-ids = [\"12-new@in.provider.com\"]\n\
         allowed-app-ids = [\"{app_id}\"]\nallowed-aes = [\"{aes}\"]\n"
    )
}

#[test]
fn service_provider_assigns_s_type_ae_id() {
    let (infrastructure, home) = pair(&rules("Nlight*", "S*")).start();
    let mut light = Tool::OpenSsl.connect(home.port(), NEW);
    let content = json!({ "m2m:ae": {
        "rn": "light", "api": "Nlight", "rr": false, "srv": ["3"], "et": "20270301T000000",
    }});
    let created = light.ask(&Request::create("/cse", 2, &content).from("S")).expect(201, 2001);
    let stem = created.json()["m2m:ae"]["aei"].as_str().unwrap().to_string();
    assert!(stem.starts_with('S') && stem.len() > 1, "{stem}");
    light.ask(&Request::retrieve("/cse/light").from(&stem)).expect(200, 2000);
    light.ask(&Request::retrieve("/cse/light").from("Sother")).expect_refusal(403, 4106);
    // The IN-CSE stores the AE's CSE and its credential.
    let own = format!("/{MN}");
    let mut same = Tool::OpenSsl.connect(infrastructure.port(), MN_CREDENTIAL);
    let find = Request::retrieve("/cse?fu=1&ty=10002").from(&own);
    let all = same.ask(&find).expect(200, 2000).json()["m2m:uril"].as_array().unwrap().clone();
    assert_eq!(all.len(), 1, "{all:?}");
    let address = format!("/{}", all[0].as_str().unwrap());
    let announced = same.ask(&Request::retrieve(&address).from(&own)).expect(200, 2000).json();
    assert_eq!(announced["m2m:aeA"]["aei"], stem.as_str());
    // The announcement expires with the AE.
    let lasts =
        light.ask(&Request::retrieve("/cse/light").from(&stem)).json()["m2m:ae"]["et"].clone();
    eventually(|| {
        let now = same.ask(&Request::retrieve(&address).from(&own)).json();
        if now["m2m:aeA"]["et"] == lasts { Ok(()) } else { Err((now, lasts.clone())) }
    });
    assert_eq!(announced["m2m:aeA"]["lbl"], json!(["Credential-ID:12-new@in.provider.com"]));
    // A new association is the same AE, and other credentials cannot use the AE-ID.
    light.close();
    let mut light = Tool::GnuTls.connect(home.port(), NEW);
    light.ask(&Request::retrieve("/cse/light").from(&stem)).expect(200, 2000);
    let mut again = light1_at(&home);
    again.ask(&Request::retrieve("/cse/light").from(&stem)).expect_refusal(403, 4106);
    // The announcement is deleted with the AE.
    light.ask(&Request::delete("/cse/light").from(&stem)).expect(200, 2002);
    wait_until("its announcement goes", || {
        same.ask(&find).json()["m2m:uril"].as_array().is_none_or(Vec::is_empty)
    });
}

#[test]
fn registration_without_rule_is_refused_by_in_cse() {
    let (_infrastructure, home) = pair(&rules("Nheater", "S*")).start();
    let mut light = Tool::OpenSsl.connect(home.port(), NEW);
    light.ask(&ae("light", "Nlight").from("S")).expect_refusal(403, 4126);
    light.ask(&ae("light", "Nlight").from("Slight")).expect_refusal(403, 4126);
    // The refused registration has no effect, and an allowed App-ID can register.
    light.ask(&ae("light", "Nheater").from("Sheater")).expect(201, 2001);
    light.ask(&Request::retrieve("/cse/light").from("Sheater")).expect(200, 2000);
}

#[test]
fn s_type_registration_without_in_cse_is_refused() {
    let (infrastructure, home) = pair(&rules("*", "S*")).start();
    drop(infrastructure);
    let mut light = Tool::OpenSsl.connect(home.port(), NEW);
    light.ask(&ae("light", "Nlight").from("S")).expect_refusal(404, 5103);
    // The home gateway assigns a C-type AE-ID by itself.
    light.ask(&ae("light", "Nlight").from("C")).expect(201, 2001);
}

fn ae(name: &str, app_id: &str) -> Request {
    let content = json!({ "m2m:ae": { "rn": name, "api": app_id, "rr": false, "srv": ["3"] } });
    Request::create("/cse", 2, &content)
}

/// Registers light 1 of the worked example.
fn light1_at(home: &saegis_tests::Gateway) -> saegis_tests::Client {
    let mut light = Tool::OpenSsl.connect(home.port(), saegis_tests::LIGHT1);
    light.ask(&Request::create_ae("light1").from(LIGHT)).expect(201, 2001);
    light
}
