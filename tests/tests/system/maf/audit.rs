//! Decisions of a MAF and of gateways with MAF keys are recorded without keys, and replayed.

use std::fs;

use saegis_tests::{Gateway, Tool, eventually, saegis};
use serde_json::Value;

use super::clients::{KEY, KeyRequest, MafClient};
use super::scene::{IN_CSE, IN_KM, PHONE, PHONE_KM, RULES, Settings};

const RECORDING: &str = "state/decisions.jsonl";

/// Waits for a matching decision of a hook. Returns the decisions and the whole text.
fn recorded(of: &Gateway, hook: &str, fits: impl Fn(&Value) -> bool) -> (Vec<Value>, String) {
    eventually(|| {
        let text = fs::read_to_string(of.path(RECORDING)).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let all = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let found: Vec<_> = all.filter(|d| d["question"]["hook"] == hook && fits(d)).collect();
        if found.is_empty() { Err(text) } else { Ok((found, text)) }
    })
}

#[test]
fn key_registration_is_recorded_without_key() {
    let record = format!("record = \"{RECORDING}\"");
    let mut settings = Settings::new();
    settings.maf = settings.maf.with("decisions", &record);
    settings.infrastructure = settings.infrastructure.with("decisions", &record);
    let scene = settings.start();
    let mut phone = MafClient::registered(Tool::OpenSsl, &scene.maf, PHONE_KM, PHONE);
    phone.key(&KeyRequest::USUAL);
    let (found, text) = recorded(&scene.maf, "key-registration-check", |_| true);
    assert_eq!(found[0]["question"]["targets"][0], IN_CSE);
    assert_eq!(found[0]["question"]["suid"], 32);
    assert_eq!(found[0]["answer"]["outcome"], "allowed");
    let lower = text.to_lowercase();
    for key in [KEY, PHONE_KM.1, IN_KM.1] {
        assert!(!lower.contains(key), "{key}");
    }
    let replay = ["decisions", "replay", RECORDING, "--config"];
    let maf = scene.maf.path("");
    saegis(&maf, &[&replay[..], &["saegis.toml"]].concat()).expect(0);
    let fewer = RULES.replace("32, 33", "33");
    scene.maf.in_force_after(|maf| maf.write("policies/maf-rules.toml", fewer));
    let ran = saegis(&maf, &[&replay[..], &["saegis.toml"]].concat()).expect(1);
    assert!(ran.out.contains("key-registration-check: allowed"), "{ran:?}");

    // At the target the key comes from the MAF, which a replay does not contact.
    scene.maf.in_force_after(|maf| maf.write("policies/maf-rules.toml", RULES));
    scene.phone(&["register"]).expect(0);
    let of_maf = |d: &Value| d["answer"]["saef"] == "maf";
    let (_, text) = recorded(&scene.infrastructure, "credential-lookup", of_maf);
    let (_, key) = scene.phone_key();
    assert!(!text.to_lowercase().contains(&key.to_lowercase()));
    let ran =
        saegis(&scene.infrastructure.path(""), &[&replay[..], &["saegis.toml", "--json"]].concat());
    let report = ran.expect(0).json();
    assert!(report["not_compared"].as_u64() >= Some(1), "{report}");
}
