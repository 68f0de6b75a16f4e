//! Rollout of modules. A shadow module is compared without deciding, then promoted and rolled back,
//! each in one generation.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use saegis_tests::{
    Client, CommandOutput, Gateway, LIGHT1, Mark, Request, Setup, Tool, eventually, run_and_kill,
    saegis,
};
use serde_json::{Value, json};

const SHADOW: &str = "mode = \"shadow\"\ncapabilities = [\"log\"]\n";
const SECOND_VERSION: &str = "# The next one.\nmode = \"shadow\" # for now\nreplaces = \"psk-table\"\n\
                   capabilities = [\"policy-tables\"]\n";

fn ask(gateway: &Gateway, arguments: &[&str]) -> CommandOutput {
    saegis(&gateway.path(""), arguments)
}

fn modules(gateway: &Gateway) -> Value {
    ask(gateway, &["modules", "--json"]).expect(0).json()
}

/// Waits until a shadow module satisfies `fits`, and returns it.
#[track_caller]
fn shadow(gateway: &Gateway, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(|| {
        let all = modules(gateway);
        let found = all["shadows"].as_array().unwrap().iter().find(|s| s["name"] == name);
        let found = found.filter(|found| fits(found)).cloned();
        found.ok_or(all)
    })
}

fn in_force(gateway: &Gateway) -> Vec<String> {
    let all = modules(gateway);
    let names = all["modules"].as_array().unwrap().iter();
    names.map(|m| m["name"].as_str().unwrap().into()).collect()
}

/// Installs the table module under another name, as its next version.
fn next_version(gateway: &Gateway, name: &str, manifest: &str) {
    gateway.write(&format!("policies/modules/{name}.toml"), manifest);
    let bytes = fs::read(gateway.path("policies/modules/psk-table.wasm")).unwrap();
    gateway.replace(&format!("policies/modules/{name}.wasm"), bytes);
}

fn connected(gateway: &Gateway) -> Client {
    Tool::OpenSsl.connect(gateway.port(), LIGHT1)
}

/// Returns a request that only the module `faulty` denies.
fn forbidden() -> Request {
    let content = json!({ "m2m:ae": { "rn": "l", "api": "Nforbidden", "rr": false } });
    Request::create("/cse", 2, &content).from("Clight-AE1")
}

#[test]
fn shadow_module_is_compared_without_deciding() {
    let gateway = Setup::new().module("faulty", SHADOW).with_metrics().start();
    let mut light = connected(&gateway);
    light.ask(&forbidden()).expect(201, 2001);
    let event = gateway.log().wait("shadow.disagreed");
    assert_eq!(event.text("module"), "faulty");
    assert_eq!(event.text("hook"), "registration-check");
    assert_eq!(event.text("in_force"), "allowed for the originator");
    assert_eq!(event.text("shadow"), "denied with 4126 by faulty: no rule allows it");
    // A fault of the shadow affects only the shadow.
    for fault in ["fault-trap", "fault-loop", "fault-memory", "fault-recurse", "fault-rsc"] {
        // On a separate association, because an allowance is cached and the module is not called
        // again.
        let own = Request::retrieve(&format!("/cse/{fault}")).from("Clight-AE1");
        connected(&gateway).ask(&own).expect_refusal(404, 4004);
    }
    light.ask(&Request::retrieve("/cse/l").from("Clight-AE1")).expect(200, 2000);
    let counted = shadow(&gateway, "faulty", |s| s["disagreed"].as_u64() >= Some(5));
    assert_eq!(counted["hooks"].as_array().unwrap().len(), 3);
    assert!(counted["agreed"].as_u64() >= Some(1), "{counted}");
    let metrics = gateway.monitor("/metrics");
    let name = "saegis_shadow_decisions_total{module=\"faulty\",hook=\"registration-check\",\
                outcome=\"disagreed\"}";
    assert!(metrics.value(name) >= 1.0, "{}", metrics.text);
    assert!(!metrics.text.contains("saegis_decisions_total{module=\"faulty\""), "{}", metrics.text);
    assert_eq!(in_force(&gateway), ["originator-check", "psk-table"]);
    let words = ask(&gateway, &["modules"]).expect(0);
    assert!(words.out.contains("shadows\nNAME    REPLACES"), "{words:?}");
}

/// A shadow is compared with the module that it replaces. Equal decisions agree.
#[test]
fn shadow_is_compared_in_place_of_replaced() {
    let manifest = "mode = \"shadow\"\nreplaces = \"originator-check\"\ncapabilities = [\"log\"]\n";
    let gateway = Setup::new().module("faulty", manifest).start();
    next_version(&gateway, "psk-table-2", SECOND_VERSION);
    shadow(&gateway, "psk-table-2", |_| true);
    let mut light = connected(&gateway);
    light.ask(&Request::retrieve("/cse/x").from("Clight-AE2")).expect_refusal(403, 4106);
    let event = gateway
        .log()
        .wait_for(Mark::START, "shadow.disagreed", |e| e.text("hook") == "impersonation-check");
    assert!(event.text("in_force").starts_with("denied with 4106 by originator-check"));
    assert_eq!(event.text("shadow"), "allowed");
    let same = shadow(&gateway, "psk-table-2", |s| s["agreed"].as_u64() >= Some(1));
    assert_eq!((&same["disagreed"], &same["replaces"]), (&json!(0), &json!("psk-table")));
    let log = gateway.log().text();
    assert!(!log.contains(LIGHT1.key), "a key in the log");
}

/// A shadow that cannot be loaded is reported, and does not delay the generation.
#[test]
fn invalid_shadow_does_not_block_generation() {
    let gateway = Setup::new().start();
    gateway.in_force_after(|g| {
        g.write("policies/modules/bad.toml", "mode = \"shadow\"\n");
        g.replace("policies/modules/bad.wasm", "rubbish");
    });
    let event = gateway.log().wait("shadow.refused");
    assert!(event.message().contains("bad.wasm: is not a WebAssembly component"), "{event:?}");
    let listed = shadow(&gateway, "bad", |_| true);
    assert!(listed["faults"][0].as_str().unwrap().contains("bad.wasm: is no"), "{listed}");
    for (manifest, why) in [
        (
            "replaces = \"nobody\"\ncapabilities = [\"policy-tables\"]",
            "replaces nobody, which is not in force",
        ),
        (
            "replaces = \"originator-check\"\ncapabilities = [\"policy-tables\"]",
            "but does not export impersonation-check",
        ),
        ("replaces = \"bad-2\"", "leads back to bad-2"),
        (
            "capabilities = [\"policy-tables\", \"read-stored-keys\"]",
            "read-stored-keys, which the gateway does not grant",
        ),
    ] {
        next_version(&gateway, "bad-2", &format!("mode = \"shadow\"\n{manifest}\n"));
        shadow(&gateway, "bad-2", |s| s["faults"].to_string().contains(why));
        let ran = ask(&gateway, &["module", "promote", "bad-2"]).expect(2);
        assert!(ran.err.contains(why), "{ran:?}");
    }
    connected(&gateway).close();
    assert_eq!(in_force(&gateway), ["originator-check", "psk-table"]);
    let ran = ask(&gateway, &["check"]).expect(0);
    assert!(ran.out.contains("shadow      bad: not loaded: "), "{ran:?}");
    // A module with an unreadable mode might decide, so the generation is refused.
    gateway.refused_after("unknown variant", |g| {
        g.write("policies/modules/bad-2.toml", "mode = \"ghost\"\n");
    });
}

#[test]
fn replacement_must_export_all_hooks() {
    let gateway = Setup::new().start();
    let log = "capabilities = [\"policy-tables\"]\n";
    for (manifest, why) in [
        ("replaces = \"originator-check\"", "but does not export impersonation-check, as"),
        ("replaces = \"two\"", "leads back to two"),
    ] {
        gateway.refused_after(why, |g| next_version(g, "two", &format!("{manifest}\n{log}")));
    }
    let replaces = format!("replaces = \"psk-table\"\n{log}");
    gateway.in_force_after(|g| g.write("policies/modules/two.toml", &replaces));
    assert_eq!(in_force(&gateway), ["originator-check", "two"]);
    gateway.refused_after("replaces psk-table, and so does", |g| {
        next_version(g, "three", &replaces);
    });
    connected(&gateway).close();
}

#[test]
fn replacement_is_promoted_and_rolled_back() {
    let gateway = Setup::new().with("modules", "required = [\"psk-table\"]").start();
    next_version(&gateway, "psk-table-2", SECOND_VERSION);
    shadow(&gateway, "psk-table-2", |s| s["faults"] == json!([]));
    let mut light = connected(&gateway);
    let mark = gateway.log().mark();
    let ran = ask(&gateway, &["module", "promote", "psk-table-2"]).expect(0);
    let event = "psk-table-2 is in force and replaces psk-table, whose files stay: generation ";
    assert!(ran.out.starts_with(event), "{ran:?}");
    assert_eq!(in_force(&gateway), ["originator-check", "psk-table-2"]);
    assert_eq!(modules(&gateway)["replaced"], json!(["psk-table"]));
    let manifest = fs::read_to_string(gateway.path("policies/modules/psk-table-2.toml")).unwrap();
    assert_eq!(manifest, SECOND_VERSION.replace("\"shadow\"", "\"in-force\""));
    // Existing associations stay, because both modules return the same credential.
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).expect(201, 2001);
    connected(&gateway).close();

    for (verb, name, why) in [
        ("promote", "psk-table-2", "psk-table-2 is already in force"),
        ("promote", "psk-table", "psk-table is a former version"),
        ("promote", "nobody", "there is no module nobody"),
        ("rollback", "nobody", "there is no module nobody"),
        ("rollback", "psk-table", "psk-table is a former version"),
        ("rollback", "originator-check", "originator-check has no former version"),
        ("rollback", "../psk-table-2", "there is no module ../psk-table-2"),
    ] {
        let ran = ask(&gateway, &["module", verb, name]).expect(2);
        assert!(ran.err.contains(why), "{ran:?}");
    }
    let ran = ask(&gateway, &["module", "rollback", "psk-table-2", "--json"]).expect(0).json();
    assert_eq!((&ran["mode"], &ran["reactivated"]), (&json!("shadow"), &json!("psk-table")));
    assert_eq!(in_force(&gateway), ["originator-check", "psk-table"]);
    let manifest = fs::read_to_string(gateway.path("policies/modules/psk-table-2.toml")).unwrap();
    assert_eq!(manifest, SECOND_VERSION);
    let ran = ask(&gateway, &["module", "rollback", "psk-table-2"]).expect(2);
    assert!(ran.err.contains("psk-table-2 is a shadow module"), "{ran:?}");
    light.ask(&Request::retrieve("/cse/light1").from("Clight-AE1")).expect(200, 2000);
    // Each of the two commands created one generation.
    assert_eq!(modules(&gateway)["generation"], second_generation(&gateway, mark));
    assert_eq!(gateway.log().all(mark, "generation.refused", 0).len(), 0);
}

/// Asserts that exactly two generations came into force after a mark, and returns the second.
fn second_generation(gateway: &Gateway, mark: Mark) -> Value {
    let all = gateway.log().all(mark, "generation.in-force", 2);
    assert_eq!(all.len(), 2);
    assert_eq!(all[1].number("generation"), all[0].number("generation") + 1);
    json!(all[1].number("generation"))
}

/// A shadow that replaces no module is added, and removed again.
#[test]
fn standalone_module_is_promoted_and_rolled_back() {
    let gateway = Setup::new().module("faulty", SHADOW).start();
    ask(&gateway, &["module", "promote", "faulty"]).expect(0);
    let mut light = connected(&gateway);
    light.ask(&forbidden()).expect_refusal(403, 4126);
    ask(&gateway, &["module", "rollback", "faulty"]).expect(0);
    light.ask(&forbidden()).expect(201, 2001);
    shadow(&gateway, "faulty", |_| true);
}

/// Without the former version, a rollback fails and changes nothing.
#[test]
fn rollback_without_former_version_fails() {
    let gateway = Setup::new().start();
    next_version(&gateway, "psk-table-2", SECOND_VERSION);
    ask(&gateway, &["module", "promote", "psk-table-2"]).expect(0);
    gateway.in_force_after(|g| {
        fs::remove_file(g.path("policies/modules/psk-table.wasm")).unwrap();
    });
    let before = fs::read(gateway.path("policies/modules/psk-table-2.toml")).unwrap();
    let ran = ask(&gateway, &["module", "rollback", "psk-table-2"]).expect(2);
    assert!(ran.err.contains("psk-table.wasm, was removed"), "{ran:?}");
    assert_eq!(fs::read(gateway.path("policies/modules/psk-table-2.toml")).unwrap(), before);
    connected(&gateway).close();
}

/// Without a running gateway, the change applies to the next start. If the folder is not writable,
/// nothing changes.
#[test]
fn offline_promotion_fails_without_trace() {
    let mut gateway = Setup::new().start();
    next_version(&gateway, "psk-table-2", SECOND_VERSION);
    shadow(&gateway, "psk-table-2", |_| true);
    gateway.stop();
    let ran = ask(&gateway, &["module", "promote", "psk-table-2"]).expect(0);
    assert!(ran.out.contains("it comes into force at the next start"), "{ran:?}");
    let gateway = gateway.start_in_same_folder();
    assert_eq!(in_force(&gateway), ["originator-check", "psk-table-2"]);

    let folder = gateway.path("policies/modules");
    // A directory in the path of the new manifest blocks the write, even for root.
    fs::create_dir(folder.join(".psk-table-2.toml.new")).unwrap();
    let ran = ask(&gateway, &["module", "rollback", "psk-table-2"]).expect(2);
    assert!(ran.err.contains("psk-table-2.toml: cannot be written"), "{ran:?}");
    assert!(ran.err.contains("nothing was changed"), "{ran:?}");
    assert_eq!(in_force(&gateway), ["originator-check", "psk-table-2"]);
    fs::remove_dir(folder.join(".psk-table-2.toml.new")).unwrap();
    // The mode of the manifest is preserved.
    let manifest = folder.join("psk-table-2.toml");
    fs::set_permissions(&manifest, PermissionsExt::from_mode(0o640)).unwrap();
    ask(&gateway, &["module", "rollback", "psk-table-2"]).expect(0);
    assert_eq!(fs::metadata(&manifest).unwrap().permissions().mode() & 0o777, 0o640);
}

/// A command that is killed at any moment leaves the old or the new state, and both are valid.
#[test]
fn killed_promotion_leaves_valid_state() {
    let gateway = Setup::new().start();
    next_version(&gateway, "psk-table-2", SECOND_VERSION);
    shadow(&gateway, "psk-table-2", |_| true);
    let promoted = SECOND_VERSION.replace("\"shadow\"", "\"in-force\"");
    let manifest = gateway.path("policies/modules/psk-table-2.toml");
    let mark = gateway.log().mark();
    for n in 0..24 {
        let was_shadow = fs::read_to_string(&manifest).unwrap() == SECOND_VERSION;
        let verb = if was_shadow { "promote" } else { "rollback" };
        let after = Duration::from_millis(25 * n);
        run_and_kill(&gateway.path(""), &["module", verb, "psk-table-2"], after);
        let text = fs::read_to_string(&manifest).unwrap();
        assert!(text == SECOND_VERSION || text == promoted, "{text}");
        ask(&gateway, &["check"]).expect(0);
        connected(&gateway).close();
    }
    assert!(gateway.log().all(mark, "generation.refused", 0).is_empty());
    // Leftover files do not prevent another command.
    let is_shadow = fs::read_to_string(&manifest).unwrap() == SECOND_VERSION;
    let verb = if is_shadow { "promote" } else { "rollback" };
    ask(&gateway, &["module", verb, "psk-table-2"]).expect(0);
}

/// A module inherits a capability from the module that it replaces, as long as it replaces it.
#[test]
fn inherited_capability_ends_with_replacement() {
    let grants = "\"*\" = []\npsk-table = [\"policy-tables\"]\npsk-gone = [\"policy-tables\"]";
    let gateway = Setup::new().with("modules.grants", grants).start();
    let table = "capabilities = [\"policy-tables\"]\n";
    // There is no capability to inherit from a missing module.
    gateway.refused_after("which the gateway does not grant", |g| {
        next_version(g, "psk-table-2", &format!("replaces = \"psk-gone\"\n{table}"));
    });
    let manifest = "policies/modules/psk-table-2.toml";
    let replacement = format!("replaces = \"psk-table\"\n{table}");
    gateway.in_force_after(|g| g.replace(manifest, &replacement));
    assert_eq!(in_force(&gateway), ["originator-check", "psk-table-2"]);
    // A third module replaces the second and inherits the capability of the first.
    gateway.in_force_after(|g| {
        next_version(g, "psk-table-3", &format!("replaces = \"psk-table-2\"\n{table}"));
    });
    assert_eq!(in_force(&gateway), ["originator-check", "psk-table-3"]);
    gateway.refused_after("psk-table-3", |g| g.replace(manifest, "order = 1\n"));
}

/// If the state of the gateway is unknown, the command changes nothing.
#[test]
fn promotion_without_gateway_response_fails() {
    let setup = Setup::new();
    setup.write("policies/modules/psk-table-2.toml", SECOND_VERSION.as_bytes());
    let bytes = fs::read(setup.path("policies/modules/psk-table.wasm")).unwrap();
    setup.write("policies/modules/psk-table-2.wasm", &bytes);
    fs::create_dir_all(setup.path("state")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(setup.path("state/admin.sock")).unwrap();
    // A listener that accepts the request without a response.
    let silent = std::thread::spawn(move || drop(socket.accept()));
    let folder = setup.configuration().parent().unwrap().to_path_buf();
    let ran = saegis(&folder, &["module", "promote", "psk-table-2"]).expect(2);
    assert!(ran.err.contains("cannot reach the running gateway"), "{ran:?}");
    silent.join().unwrap();
    let manifest = fs::read_to_string(setup.path("policies/modules/psk-table-2.toml")).unwrap();
    assert_eq!(manifest, SECOND_VERSION);
}
