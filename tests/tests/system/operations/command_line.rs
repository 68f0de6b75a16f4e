//! Habits of command lines: colors, errors as JSON, completions, manual pages, schemas and the log level.

use std::fs;
use std::process::Command;

use saegis_tests::{LIGHT1, LIGHT2, Light, Running, Setup, Tool, program, saegis};
use serde_json::json;
use tempfile::TempDir;

#[test]
fn completions_and_manual_pages_are_generated() {
    let folder = TempDir::new().unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = saegis(folder.path(), &["completions", shell]).expect(0);
        assert!(ran.out.contains("release-ae-id"), "{shell}");
    }
    // The shell itself accepts them.
    let bash = saegis(folder.path(), &["completions", "bash"]).expect(0);
    fs::write(folder.path().join("saegis.bash"), bash.out).unwrap();
    let accepted = Command::new("bash")
        .args(["-c", "source ./saegis.bash && complete -p saegis"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(accepted.status.success(), "{accepted:?}");
    saegis(folder.path(), &["man", "--folder", "man"]).expect(0);
    for page in ["saegis.1", "saegis-run.1", "saegis-device-add.1"] {
        let text = fs::read_to_string(folder.path().join("man").join(page)).unwrap();
        assert!(text.contains(".TH saegis"), "{page}: {text}");
    }
}

#[test]
fn errors_have_form_and_color_of_the_options() {
    let folder = TempDir::new().unwrap();
    let plain = saegis(folder.path(), &["status"]).expect(2);
    assert!(plain.err.starts_with("error: "), "{plain:?}");
    let json = saegis(folder.path(), &["status", "--json"]).expect(2);
    let error: serde_json::Value = serde_json::from_str(json.err.trim()).unwrap();
    assert!(error["error"].as_str().unwrap().contains("saegis.toml"), "{error}");
    assert_eq!(error["code"], 2);
    let colored = saegis(folder.path(), &["status", "--color", "always"]).expect(2);
    assert!(colored.err.starts_with("\u{1b}[1;31merror:\u{1b}[0m "), "{colored:?}");
    // A terminal has colors, unless NO_COLOR is set.
    for (variable, has_colors) in [("NO_COLOR=1", false), ("NO_COLOR=", true)] {
        let command = format!("{} status", program().display());
        let mut script = Command::new("script");
        script.args(["-qec", &format!("env {variable} {command}"), "/dev/null"]);
        let mut running = Running::start(script.current_dir(folder.path()));
        running.wait(saegis_tests::BOUND).unwrap();
        let whole = |_: &[u8], ended: bool| ended.then_some(());
        running.out.wait(saegis_tests::BOUND, whole);
        let text = running.out.text();
        assert_eq!(text.contains("\u{1b}[1;31m"), has_colors, "{variable}: {text:?}");
    }
}

#[test]
fn effective_configuration_has_defaults_and_no_keys() {
    let key = "kpsa = \"00112233445566778899aabbccddeeff\"";
    let peer = format!(
        "cse-id = \"in-cse\"\naddress = \"127.0.0.1:9\"\n\
         credential = {{ kpsa-id = \"mn@in.provider.com\", {key} }}"
    );
    let setup = Setup::new().with_another("[peer]", &peer);
    let file = setup.configuration();
    let folder = file.parent().unwrap();
    let written = saegis(folder, &["config", "show"]).expect(0).out;
    let effective = saegis(folder, &["config", "show", "--effective"]).expect(0).out;
    for text in [&written, &effective] {
        assert!(text.contains("cse-id = \"mn-cse-123456\"") && text.contains("[[peer]]"), "{text}");
        assert!(!text.contains("00112233"), "{text}");
    }
    for default in ["idle-seconds = 300", "registration-seconds = 3600", "[cse.quota]"] {
        assert!(
            effective.contains(default) && !written.contains(default),
            "{default}: {effective}"
        );
    }
    // Except for the hidden key, the result is a configuration with the same effect.
    let other = effective.replace("\"(hidden)\"", "\"00112233445566778899aabbccddeeff\"");
    fs::write(folder.join("other.toml"), other).unwrap();
    saegis(folder, &["check", "--config", "other.toml"]).expect(0);
    let again = saegis(folder, &["config", "show", "--effective", "--config", "other.toml"]);
    assert_eq!(again.expect(0).out, effective);
}

#[test]
fn schemas_are_printed() {
    let folder = TempDir::new().unwrap();
    let schema = saegis(folder.path(), &["config", "schema"]).expect(0).json();
    let limits = &schema["properties"]["limits"]["properties"];
    assert_eq!(limits["connections"]["type"], "integer", "{schema}");
    assert_eq!(schema["properties"]["cse"]["required"], json!(["cse-id"]));
    let manifest = saegis(folder.path(), &["config", "schema", "--manifest"]).expect(0).json();
    assert_eq!(manifest["properties"]["capabilities"]["type"], "array");
}

#[test]
fn log_level_changes_at_run_time() {
    let gateway = Setup::new().start();
    let folder = gateway.path("");
    let level = |arguments: &[&str]| saegis(&folder, &[&["log-level"], arguments].concat());
    assert_eq!(level(&[]).expect(0).out, "info\n");
    let quiet = gateway.log().mark();
    assert_eq!(level(&["error"]).expect(0).out, "error\n");
    Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
    assert_eq!(level(&["info,saegis_gateway=debug"]).expect(0).out, "info,saegis_gateway=debug\n");
    Tool::OpenSsl.connect(gateway.port(), LIGHT2).close();
    gateway.log().wait_for(quiet, "association.established", |event| {
        event.text("credential_id").contains(LIGHT2.identity)
    });
    let all = gateway.log().all(quiet, "association.established", 1);
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(level(&["a=b=c"]).expect(4).err.contains("is not a valid filter"));
    assert_eq!(level(&["--reset"]).expect(0).out, "info\n");
}

/// The WebSocket library logs with the crate `log`. Its lines have no event.
#[test]
fn log_level_of_library_changes_at_run_time() {
    let gateway = Setup::new().start();
    let start = gateway.log().mark();
    saegis(&gateway.path(""), &["log-level", "info,tungstenite=trace"]).expect(0);
    let light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut light = light.websocket(&[("Sec-WebSocket-Protocol", "oneM2M.json")]).unwrap();
    light.expect(json!({"op": 2, "to": "cse/nothing", "fr": "Clight-AE1"}), 4004);
    gateway.log().wait_for(start, "null", |line| line.text("target").starts_with("tungstenite"));
}
