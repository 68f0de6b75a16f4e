//! An impersonation check that depends on its input alone is not repeated for each association.

use std::fs;

use saegis_tests::{Credential, Gateway, LIGHT1, LIGHT2, Light, Request, Setup};

/// The decisions of the impersonation check so far.
fn decisions(gateway: &Gateway) -> [f64; 2] {
    let metrics = gateway.monitor("/metrics");
    ["allowed", "denied"].map(|outcome| {
        metrics.value(&format!(
            "saegis_decisions_total{{module=\"originator-check\",hook=\"impersonation-check\",\
             outcome=\"{outcome}\"}}"
        ))
    })
}

/// Sends a request on an association of its own.
fn retrieve(gateway: &Gateway, credential: Credential<'_>, from: &str, rsc: u16) {
    let mut light = Light::connect(gateway.port(), credential).unwrap();
    let response = light.ask(&Request::retrieve("/cse/light1").from(from)).unwrap();
    if rsc == 4106 {
        response.expect_refusal(403, rsc);
    } else {
        response.expect(200, rsc);
    }
}

/// Starts a gateway with light 1 registered, which takes one decision.
fn start(setup: Setup) -> Gateway {
    let gateway = setup.with_metrics().start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).unwrap().expect(201, 2001);
    assert_eq!(decisions(&gateway), [1.0, 0.0]);
    gateway
}

#[test]
fn returning_device_is_checked_once_per_generation() {
    let gateway = start(Setup::new());
    for _ in 0..3 {
        retrieve(&gateway, LIGHT1, "Clight-AE1", 2000);
    }
    assert_eq!(decisions(&gateway), [2.0, 0.0]);
    gateway.in_force_after(|gateway| {
        let table = gateway.table();
        gateway.replace("policies/psk-lookup-table.csv", table + "\n");
    });
    retrieve(&gateway, LIGHT1, "Clight-AE1", 2000);
    retrieve(&gateway, LIGHT1, "Clight-AE1", 2000);
    assert_eq!(decisions(&gateway), [3.0, 0.0]);
}

#[test]
fn allowance_covers_no_other_originator_or_credential() {
    let gateway = start(Setup::new());
    retrieve(&gateway, LIGHT1, "Clight-AE1", 2000);
    retrieve(&gateway, LIGHT2, "Clight-AE1", 4106);
    retrieve(&gateway, LIGHT2, "Clight-AE1", 4106);
    retrieve(&gateway, LIGHT1, "Clight-AE2", 4106);
    assert_eq!(decisions(&gateway), [2.0, 3.0]);
}

#[test]
fn allowance_covers_no_registration() {
    let gateway = start(Setup::new());
    retrieve(&gateway, LIGHT1, "Clight-AE1", 2000);
    for _ in 0..2 {
        let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
        let again = Request::create_ae("again").from("Clight-AE1");
        light.ask(&again).unwrap().expect_refusal(403, 4117);
    }
    assert_eq!(decisions(&gateway), [4.0, 0.0]);
}

/// A check that writes to the log has an effect, one with a shadow is compared, and one that is
/// recorded is replayed.
#[test]
fn check_with_further_effect_is_repeated() {
    let log = "capabilities = [\"log\"]";
    let shadow = "mode = \"shadow\"\ncapabilities = [\"log\"]";
    for setup in [
        Setup::new().module("faulty", log),
        Setup::new().module("faulty", shadow),
        Setup::new().with("decisions", "record = \"state/decisions.jsonl\""),
    ] {
        let gateway = start(setup);
        for _ in 0..3 {
            retrieve(&gateway, LIGHT1, "Clight-AE1", 2000);
        }
        assert_eq!(decisions(&gateway), [4.0, 0.0]);
    }
}

#[test]
fn check_with_reused_instances_is_repeated() {
    let setup = Setup::new().with("modules.reuse", "originator-check = 10");
    let manifest = setup.path("policies/modules/originator-check.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(manifest, text + "reuse = 10\n").unwrap();
    let gateway = start(setup);
    for _ in 0..3 {
        retrieve(&gateway, LIGHT1, "Clight-AE1", 2000);
    }
    assert_eq!(decisions(&gateway), [4.0, 0.0]);
}
