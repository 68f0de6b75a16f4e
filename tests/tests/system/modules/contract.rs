//! Modules that were built when the contract was younger are loaded by every later gateway of the same
//! line, and answer as they did. The files are kept as they were built, and never made anew.

use std::fs;
use std::path::PathBuf;

use saegis_tests::{LIGHT1, Request, Setup, Tool, repository, saegis};

/// The modules of contract 0.1.0, which every hook is among.
const OF_0_1_0: [&str; 7] = [
    "app-rules",
    "certificate-table",
    "key-registration",
    "maf-keys",
    "originator-check",
    "psk-derived",
    "psk-table",
];

fn kept(file: &str) -> PathBuf {
    repository().join("tests/contract/0.1.0").join(file)
}

#[test]
fn modules_of_contract_0_1_0_answer_as_they_did() {
    for name in OF_0_1_0 {
        let (module, cases) = (format!("{name}.wasm"), format!("{name}.cases.toml"));
        let folder = kept("");
        let told = saegis(&folder, &["module", "inspect", &module, "--json"]).expect(0).json();
        assert_eq!(told["contract"], serde_json::json!(["0.1.0"]), "{name}");
        let told = saegis(&folder, &["module", "test", &module, "--cases", &cases, "--json"]);
        assert_eq!(told.expect(0).json()["failed"], 0, "{name}");
    }
}

#[test]
fn a_gateway_runs_with_modules_of_contract_0_1_0() {
    let setup = Setup::new();
    for name in ["psk-table", "originator-check"] {
        let file = format!("{name}.wasm");
        fs::copy(kept(&file), setup.path("policies/modules").join(&file)).unwrap();
    }
    let gateway = setup.start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.ask(&Request::create_ae("light1").from("Clight-AE2")).expect_refusal(403, 4106);
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).expect(201, 2001);
    light.ask(&Request::retrieve("/cse/light1").from("Clight-AE1")).expect(200, 2000);
}
