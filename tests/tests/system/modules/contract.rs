//! Modules built for an older version of the contract. Every later gateway of the same line loads
//! them with unchanged decisions. The files are never rebuilt.

use std::fs;
use std::path::PathBuf;

use saegis_tests::{LIGHT1, Request, Setup, Tool, repository, saegis};

/// Modules of contract 0.1.0, which cover every hook.
const OF_0_1_0: [&str; 7] = [
    "app-rules",
    "certificate-table",
    "key-registration",
    "maf-keys",
    "originator-check",
    "psk-derived",
    "psk-table",
];

fn contract_file(file: &str) -> PathBuf {
    repository().join("tests/contract/0.1.0").join(file)
}

#[test]
fn modules_of_contract_0_1_0_pass_their_cases() {
    for name in OF_0_1_0 {
        let (module, cases) = (format!("{name}.wasm"), format!("{name}.cases.toml"));
        let folder = contract_file("");
        let report = saegis(&folder, &["module", "inspect", &module, "--json"]).expect(0).json();
        assert_eq!(report["contract"], serde_json::json!(["0.1.0"]), "{name}");
        let report = saegis(&folder, &["module", "test", &module, "--cases", &cases, "--json"]);
        assert_eq!(report.expect(0).json()["failed"], 0, "{name}");
    }
}

#[test]
fn gateway_runs_modules_of_contract_0_1_0() {
    let setup = Setup::new();
    for name in ["psk-table", "originator-check"] {
        let file = format!("{name}.wasm");
        fs::copy(contract_file(&file), setup.path("policies/modules").join(&file)).unwrap();
    }
    let gateway = setup.start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.ask(&Request::create_ae("light1").from("Clight-AE2")).expect_refusal(403, 4106);
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).expect(201, 2001);
    light.ask(&Request::retrieve("/cse/light1").from("Clight-AE1")).expect(200, 2000);
}
