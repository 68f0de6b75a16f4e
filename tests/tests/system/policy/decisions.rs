//! Decisions are recorded without keys, and replayed with other modules and policy files.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use saegis_tests::certificates::{Pki, TlsProfile, credential};
use saegis_tests::{
    CommandOutput, Credential, Gateway, LIGHT1, LIGHT2, Request, Setup, Tool, derived_by_openssl,
    eventually, saegis, wait_until,
};
use serde_json::{Value, json};

const RECORDING: &str = "state/decisions.jsonl";
const TABLE: &str = "policies/psk-lookup-table.csv";

fn recording() -> Setup {
    Setup::new().with("decisions", &format!("record = \"{RECORDING}\""))
}

/// Waits until `count` recorded decisions satisfy `fits`, and returns them.
#[track_caller]
fn recorded(file: &Path, count: usize, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
    eventually(|| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let all = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let found: Vec<_> = all.filter(&fits).collect();
        if found.len() >= count { Ok(found) } else { Err(text) }
    })
}

fn of_hook(hook: &str) -> impl Fn(&Value) -> bool {
    move |decision: &Value| decision["question"]["hook"] == hook
}

/// Registers light 1, sends allowed and impersonating requests, and tries an unknown credential.
fn send_sample_requests(gateway: &Gateway) {
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).expect(201, 2001);
    light.ask(&Request::retrieve("/cse/light1").from("Clight-AE1")).expect(200, 2000);
    light.ask(&Request::retrieve("/cse/light1").from("Clight-AE2")).expect_refusal(403, 4106);
    light.close();
    Tool::GnuTls.connect(gateway.port(), LIGHT2).close();
    Tool::OpenSsl.refused(gateway.port(), Credential { identity: "no@a.b", key: "0011" });
}

fn replay(gateway: &Gateway, more: &[&str]) -> CommandOutput {
    saegis(&gateway.path(""), &[&["decisions", "replay", RECORDING], more].concat())
}

#[test]
fn hook_decisions_are_recorded() {
    let gateway = recording().module("faulty", "capabilities = [\"log\"]").start();
    let file = gateway.path(RECORDING);
    send_sample_requests(&gateway);
    let lookups = recorded(&file, 3, of_hook("credential-lookup"));
    assert_eq!(lookups[0]["contract"], "0.1.0");
    assert_eq!(lookups[0]["generation"], 1);
    let question = &lookups[0]["question"];
    assert_eq!(question["psk_identity"], LIGHT1.identity);
    assert_eq!(question["peer"], "127.0.0.1");
    let answer = json!({
        "outcome": "found", "saef": "provisioned-symmetric-key",
        "entity": { "ae": "Clight-AE1" }, "credential_id": format!("12-{}", LIGHT1.identity),
    });
    assert_eq!(lookups[0]["answer"], answer);
    assert_eq!(lookups[2]["answer"], json!({ "outcome": "unclaimed" }));

    let denied = |d: &Value| d["answer"]["outcome"] == "denied";
    let denied = recorded(&file, 1, denied);
    assert_eq!(denied[0]["answer"]["rsc"], 4106);
    assert_eq!(denied[0]["answer"]["module"], "originator-check");
    assert_eq!(denied[0]["question"]["primitive"]["from"], "Clight-AE2");
    assert_eq!(denied[0]["question"]["association"]["entity"], json!({ "ae": "Clight-AE1" }));
    let registered = recorded(&file, 1, of_hook("registration-check"));
    assert_eq!(registered[0]["question"]["app_id"], "Nlight");
    assert_eq!(registered[0]["answer"], json!({ "outcome": "allowed", "scope": "this-request" }));
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A replay with the same policy changes no decision.
    let ran = replay(&gateway, &[]).expect(0);
    assert!(ran.out.contains("none would change"), "{ran:?}");
}

#[test]
fn certificate_mapping_is_recorded() {
    let pki = Pki::new();
    let node = pki.identity(&pki.example.node);
    let rows = format!("credential_id,ae_id,cse_id\n{},Cnode,\n", credential::NODE);
    let setup = pki.setup().file("certificate-table.csv", &rows);
    let gateway = setup.with("decisions", &format!("record = \"{RECORDING}\"")).start();
    pki.connect(Tool::OpenSsl, gateway.port(), &node, TlsProfile::ALL[0]).close();
    let mapped = recorded(&gateway.path(RECORDING), 1, of_hook("certificate-mapping"));
    assert_eq!(mapped[0]["question"]["credential_id"], credential::NODE);
    assert_eq!(mapped[0]["question"]["flavour"], "node-id");
    assert_eq!(mapped[0]["answer"], json!({ "outcome": "found", "entity": { "ae": "Cnode" } }));
    replay(&gateway, &[]).expect(0);
    gateway.write("policies/certificate-table.csv", rows.replace("Cnode", "Cother"));
    let ran = replay(&gateway, &[]).expect(1);
    assert!(ran.out.contains("certificate-mapping: found → found, but different"), "{ran:?}");
    assert!(ran.out.contains("after:  found AE Cother"), "{ran:?}");
}

/// The recording contains neither stored nor derived keys, nor reasons of modules that may read
/// keys.
#[test]
fn keys_are_not_recorded() {
    const KE: &str = "000102030405060708090a0b0c0d0e0f";
    let needed = "policy-tables\", \"read-stored-keys\", \"supply-key-bytes";
    let gateway = recording()
        .with("modules.grants", &format!("psk-derived = [\"{needed}\"]"))
        .module("psk-derived", &format!("order = 200\ncapabilities = [\"{needed}\"]"))
        .file("enrolment-keys.csv", &format!("ke_id,ke\nfleet1@in.provider.com,{KE}\n"))
        .start();
    send_sample_requests(&gateway);
    let label = "oneM2M Enrolment Key to Provisioned Secure Connection Key derivation";
    let key = derived_by_openssl(&gateway.path("derivation"), KE, &format!("{label}Clamp-7"));
    let lamp = Credential { identity: "Clamp-7.fleet1@in.provider.com", key: &key };
    Tool::OpenSsl.connect(gateway.port(), lamp).close();
    // A module that may read keys refuses with a reason.
    let refused = Credential { identity: "Cl_amp.fleet1@in.provider.com", key: &key };
    Tool::OpenSsl.refused(gateway.port(), refused);
    recorded(&gateway.path(RECORDING), 1, |d| {
        d["answer"]["credential_id"] == format!("12-{}", lamp.identity)
    });
    recorded(&gateway.path(RECORDING), 5, of_hook("credential-lookup"));
    let text = fs::read(gateway.path(RECORDING)).unwrap();
    for key in [LIGHT1.key, LIGHT2.key, KE, &key] {
        let bytes: Vec<u8> = (0..key.len() / 2)
            .map(|n| u8::from_str_radix(&key[2 * n..][..2], 16).unwrap())
            .collect();
        let list = serde_json::to_string(&bytes).unwrap();
        for form in [key.as_bytes(), key.to_uppercase().as_bytes(), &bytes, list.as_bytes()] {
            assert!(!text.windows(form.len()).any(|part| part == form), "{key}");
        }
    }
    let reasons = recorded(&gateway.path(RECORDING), 0, |d| {
        d["answer"]["module"] == "psk-derived" && d["answer"].get("reason").is_some()
    });
    assert!(reasons.is_empty(), "{reasons:?}");
}

#[test]
fn replay_groups_changed_decisions() {
    let gateway = recording().start();
    send_sample_requests(&gateway);
    recorded(&gateway.path(RECORDING), 3, of_hook("credential-lookup"));
    // Another set of modules and policy files, outside the gateway's folder.
    let other = Setup::new();
    let table = fs::read_to_string(other.table()).unwrap();
    let without: Vec<_> = table.lines().filter(|row| !row.contains(LIGHT2.identity)).collect();
    let changed = without.join("\n").replace("Clight-AE1", "Clight-AE9") + "\n";
    other.write(TABLE, changed.as_bytes());
    let config = other.configuration();
    let config = config.to_str().unwrap();
    let ran = replay(&gateway, &["--config", config]).expect(1);
    assert!(ran.out.contains("; 2 would change\n"), "{ran:?}");
    assert!(ran.out.contains("1  credential-lookup: found → unclaimed\n"), "{ran:?}");
    assert!(ran.out.contains("1  credential-lookup: found → found, but different\n"), "{ran:?}");
    assert!(ran.out.contains(&format!("{RECORDING}:1: {}", LIGHT1.identity)), "{ran:?}");
    assert!(ran.out.contains("after:  found AE Clight-AE9"), "{ran:?}");
    let report = replay(&gateway, &["--config", config, "--json"]).expect(1).json();
    assert_eq!((&report["changed"], &report["wrong_lines"]), (&json!(2), &json!(0)));
    let group = &report["groups"][0];
    assert_eq!((&group["count"], &group["hook"]), (&json!(1), &json!("credential-lookup")));
    assert_eq!(group["examples"].as_array().unwrap().len(), 1);
    // The replayed decisions are not recorded.
    assert_eq!(recorded(&gateway.path(RECORDING), 3, of_hook("credential-lookup")).len(), 3);
    assert!(!other.path(RECORDING).exists());
}

/// A decision is replayed with its own time.
#[test]
fn replay_uses_time_of_decision() {
    let gateway = recording().start();
    send_sample_requests(&gateway);
    let lookups = recorded(&gateway.path(RECORDING), 3, of_hook("credential-lookup"));
    let mut light = lookups[0].clone();
    let table = format!(
        "ae_id,kpsa,kpsa_id,expires\nClight-AE1,{},{},20200101T000000\n",
        LIGHT1.key, LIGHT1.identity
    );
    gateway.write("other.jsonl", format!("{light}\n"));
    let other = Setup::new();
    other.write(TABLE, table.as_bytes());
    let config = other.configuration();
    let arguments = ["decisions", "replay", "other.jsonl", "--config", config.to_str().unwrap()];
    let ran = saegis(&gateway.path(""), &arguments).expect(1);
    assert!(ran.out.contains("found → refused by psk-table"), "{ran:?}");
    light["time"] = json!("20190101T000000");
    light["answer"]["expires"] = json!(1_577_836_800);
    gateway.write("other.jsonl", format!("{light}\n"));
    saegis(&gateway.path(""), &arguments).expect(0);
}

#[test]
fn replay_reports_bad_lines_and_continues() {
    let gateway = recording().start();
    send_sample_requests(&gateway);
    let good = recorded(&gateway.path(RECORDING), 1, |_| true)[0].clone();
    let mut other_contract = good.clone();
    other_contract["contract"] = json!("0.2.0");
    other_contract["question"] = json!({ "hook": "mind-reading" });
    let mut misfit = good.clone();
    misfit["answer"] = json!({ "outcome": "allowed", "scope": "originator" });
    let mut untimely = good.clone();
    untimely["time"] = json!("yesterday");
    let mut more = good.clone();
    more["question"]["color"] = json!("red");
    let long = good.to_string().replace(LIGHT1.identity, &"x".repeat(3_000_000));
    let text = [
        good.to_string(),
        "rubbish \u{1b}[2J".into(),
        String::new(),
        other_contract.to_string(),
        misfit.to_string(),
        untimely.to_string(),
        more.to_string(),
        long,
        json!({ "contract": "0.1.0" }).to_string(),
        good.to_string(),
        good.to_string()[..40].to_string(),
    ];
    gateway.write("bad.jsonl", text.join("\n"));
    let ran = saegis(&gateway.path(""), &["decisions", "replay", "bad.jsonl"]).expect(2);
    for what in [
        "error: bad.jsonl:2:1: is not a recorded decision: expected value\n",
        "error: bad.jsonl:3:1: is not a recorded decision: ",
        "bad.jsonl:4: was recorded with the contract \"0.2.0\"; this version has 0.1.0; replay",
        "bad.jsonl:5: has a response that is not one of credential-lookup\n",
        "bad.jsonl:6: has an invalid time\n",
        "is not a decision of this contract: unknown field `color`",
        "bad.jsonl:8: is longer than 65536 bytes\n",
        "bad.jsonl:9:",
    ] {
        assert!(ran.err.contains(what), "{what:?} is not in {ran:?}");
    }
    assert!(ran.out.contains("2 decisions; none would change"), "{ran:?}");
    assert!(ran.out.contains("the last line is incomplete"), "{ran:?}");
    assert!(!ran.err.contains('\u{1b}'), "{ran:?}");
    // Only the first faulty lines are printed.
    gateway.write("bad.jsonl", "rubbish\n".repeat(5000));
    let ran = saegis(&gateway.path(""), &["decisions", "replay", "bad.jsonl"]).expect(2);
    assert!(ran.err.contains("and 4990 more lines that cannot be replayed"), "{ran:?}");
    assert!(ran.err.lines().count() < 20, "{ran:?}");
    for (file, why) in [("none.jsonl", "cannot be opened"), ("policies", "is not a regular file")] {
        let ran = saegis(&gateway.path(""), &["decisions", "replay", file]).expect(2);
        assert!(ran.err.contains(&format!("{file}: ")) && ran.err.contains(why), "{ran:?}");
    }
}

#[test]
fn recording_is_sampled_and_rotated() {
    let gateway = recording()
        .with("decisions", "file-bytes = 65536")
        .with("decisions", "retained-files = 2")
        .with_metrics()
        .start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    // The module is called for each request, because a denial of this hook is not cached.
    for _ in 0..800 {
        light.ask(&Request::retrieve("/cse").from("Clight-AE2")).expect_refusal(403, 4106);
    }
    let folder = gateway.path("state");
    let files = || {
        let names = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name());
        let names = names.map(|n| n.into_string().unwrap());
        names.filter(|n| n.starts_with("decisions.jsonl")).count()
    };
    wait_until("three files", || files() >= 3);
    // If the disk is not writable, decisions continue, and lost records are counted.
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "in the way").unwrap();
    for _ in 0..10 {
        light.ask(&Request::retrieve("/cse").from("Clight-AE2")).expect_refusal(403, 4106);
    }
    gateway.log().wait("decisions.failed");
    let lost = "saegis_decisions_not_recorded_total";
    wait_until("decisions are lost", || gateway.monitor("/metrics").value(lost) >= 1.0);
}

#[test]
fn recording_respects_sample_rate() {
    let gateway = recording().with("decisions", "sample = 0.2").start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    for _ in 0..400 {
        light.ask(&Request::retrieve("/cse").from("Clight-AE2")).expect_refusal(403, 4106);
    }
    // With a probability of one in five, 80 of 400 are expected. Fewer than 20 or more than 200
    // occur less often than once in 10^14 runs.
    let found = recorded(&gateway.path(RECORDING), 20, of_hook("impersonation-check"));
    assert!(found.len() <= 200, "{}", found.len());

    let silent = Setup::new().start();
    send_sample_requests(&silent);
    assert!(!silent.path(RECORDING).exists());
    for (line, why) in [
        ("sample = 0.0", "must be greater than 0"),
        ("sample = 1.5", "must be greater than 0"),
        ("file-bytes = 1", "must be from 65536"),
        ("retained-files = 0", "must be from 1 to 1000"),
        ("color = 1", "unknown field"),
    ] {
        let ran = recording().with("decisions", line).run_until_exit().expect(2);
        assert!(ran.err.contains(why) && ran.err.contains("saegis.toml:"), "{ran:?}");
    }
    let ran = Setup::new().with("decisions", "record = \"policies\"").run_until_exit().expect(2);
    assert!(ran.err.contains("decisions.record: cannot be written"), "{ran:?}");
}

/// The command evaluates a module with a copy of the policy, reports changed decisions, and changes
/// nothing.
#[test]
fn module_is_tried_before_installation() {
    let gateway = recording().start();
    send_sample_requests(&gateway);
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.ask(&Request::retrieve("/cse/fault-rsc").from("Clight-AE1"));
    recorded(&gateway.path(RECORDING), 1, |d| {
        d["question"]["primitive"]["to"].as_str().is_some_and(|to| to.ends_with("fault-rsc"))
    });
    fs::create_dir(gateway.path("new")).unwrap();
    let component = |name: &str| {
        let modules = gateway.path(&format!("new/{name}.wasm"));
        fs::copy(Setup::new().module("faulty", "").path("policies/modules/faulty.wasm"), modules)
            .unwrap();
    };
    component("faulty");
    gateway.write("new/faulty.toml", "capabilities = [\"log\"]\nmode = \"shadow\"\n");
    let listed = || {
        let folder = fs::read_dir(gateway.path("policies/modules")).unwrap();
        let mut names: Vec<_> = folder.map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = listed();
    let run = |more: &[&str]| saegis(&gateway.path(""), &[&["module", "try"], more].concat());
    let ran = run(&["new/faulty.wasm"]).expect(1);
    assert!(ran.out.starts_with("faulty would be in force: credential-lookup, "), "{ran:?}");
    assert!(
        ran.out.contains("impersonation-check: allowed for the originator → failed in faulty"),
        "{ran:?}"
    );
    let report = run(&["new/faulty.wasm", "--json"]).expect(1).json();
    assert_eq!(report["module"], "faulty");
    assert!(report["replay"]["changed"].as_u64() >= Some(1), "{report}");
    // A module with the name of an installed one replaces it in the trial, and changes its
    // decisions.
    component("psk-table");
    let ran = run(&["new/psk-table.wasm"]).expect(2);
    assert!(ran.err.contains("imports the capability log"), "{ran:?}");
    gateway.write("new/psk-table.toml", "capabilities = [\"log\"]\n");
    let ran = run(&["new/psk-table.wasm"]).expect(1);
    assert!(ran.out.contains(", replacing psk-table"), "{ran:?}");
    assert!(ran.out.contains("credential-lookup: found → unclaimed"), "{ran:?}");
    // Modules that cannot be tried.
    gateway.write("new/rubbish.wasm", "rubbish");
    gateway.write("new/faulty.toml", "capabilities = [\"log\", \"supply-key-bytes\"]\n");
    for (file, why) in [
        ("new/rubbish.wasm", "rubbish.wasm: is not a WebAssembly component"),
        ("new/none.wasm", "none.wasm: cannot be opened"),
        ("new/faulty.wasm", "requests the capability supply-key-bytes, which the gateway does not"),
        ("saegis.toml", "is not named NAME.wasm"),
    ] {
        let ran = run(&[file]).expect(2);
        assert!(ran.err.contains(why), "{ran:?}");
    }
    let ran = run(&["new/psk-table.wasm", "--recording", "none.jsonl"]).expect(2);
    assert!(ran.err.contains("none.jsonl: the recording cannot be opened"), "{ran:?}");
    assert_eq!(listed(), before);
    let status = saegis(&gateway.path(""), &["status", "--json"]).expect(0).json();
    assert_eq!(status["generation"], 1);
}

/// Without a recording, the command still reports whether the module is valid.
#[test]
fn module_is_tried_without_recording() {
    let setup = Setup::new();
    setup.configuration();
    let folder = setup.path("");
    let module = setup.path("policies/modules/originator-check.wasm");
    let ran = saegis(&folder, &["module", "try", module.to_str().unwrap()]).expect(0);
    assert!(ran.out.contains("there is no recording to replay"), "{ran:?}");
    let mut file = OpenOptions::new().append(true).open(setup.path("saegis.toml")).unwrap();
    writeln!(file, "[decisions]\nrecord = \"{RECORDING}\"").unwrap();
    saegis(&folder, &["module", "try", module.to_str().unwrap()]).expect(0);
}
