//! Loading and unloading of policy modules at run time. A valid module decides at the next
//! handshake, an invalid one is reported by name and reason, and a fault affects only the decision
//! at hand.

use std::fs;
use std::os::unix::fs::symlink;

use saegis_tests::wasm::{CORE_MODULE, EMPTY_COMPONENT, LARGE_MEMORY, component_that_imports};
use saegis_tests::{
    Client, Credential, Gateway, LIGHT1, LIGHT2, Log, Mark, Request, Setup, Tool,
    derived_by_openssl, with_each_client,
};

with_each_client!(
    installed_module_answers_next_handshake,
    invalid_module_is_refused_with_reason,
    faulty_lookup_fails_only_its_handshake,
    faulty_check_fails_only_its_request,
    long_call_of_module_without_imports_completes,
    registration_is_checked_by_app_id,
    installed_check_applies_to_next_request,
);

const KE: &str = "000102030405060708090a0b0c0d0e0f";
const LAMP: &str = "Clamp-7.fleet1@in.provider.com";
const DERIVED: &str = "policy-tables\", \"read-stored-keys\", \"supply-key-bytes";

/// Returns the Kpsa of TS-0003 clause 10.3.7, calculated by OpenSSL.
fn derived_key(gateway: &Gateway, enrolee: &str) -> String {
    let label = "oneM2M Enrolment Key to Provisioned Secure Connection Key derivation";
    derived_by_openssl(&gateway.path("derivation"), KE, &format!("{label}{enrolee}"))
}

fn installed_module_answers_next_handshake(tool: Tool) {
    let grants = format!("psk-derived = [\"{DERIVED}\"]");
    let gateway = Setup::new().with("modules.grants", &grants).start();
    let key = derived_key(&gateway, "Clamp-7");
    let lamp = Credential { identity: LAMP, key: &key };
    assert_eq!(tool.refused(gateway.port(), lamp).alert, Some(20));
    let mut light = tool.connect(gateway.port(), LIGHT1);

    let event = gateway.in_force_after(|g| {
        g.write("policies/enrolment-keys.csv", format!("ke_id,ke\nfleet1@in.provider.com,{KE}\n"));
    });
    assert_eq!(event.number("generation"), 2);
    let event = gateway.in_force_after(|g| {
        g.install("psk-derived", &format!("order = 200\ncapabilities = [\"{DERIVED}\"]\n"));
    });
    assert!(event.message().contains("psk-derived"), "{event:?}");

    let mut client = tool.connect(gateway.port(), lamp);
    let established = gateway.log().wait_for(Mark::START, "association.established", |e| {
        e.text("credential_id") == format!("12-{LAMP}")
    });
    assert!(established.text("entity").contains("Clamp-7"));
    client.ask(&Request::create_ae("lamp").from("Clamp-8")).expect_refusal(403, 4106);
    client.ask(&Request::create_ae("lamp").from("Clamp-7")).expect(201, 2001);
    // Each lamp has its own key.
    let other = Credential { identity: "Clamp-8.fleet1@in.provider.com", key: &key };
    assert_eq!(tool.refused(gateway.port(), other).alert, Some(20));
    // Existing associations continue.
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).expect(201, 2001);

    gateway.in_force_after(|g| {
        fs::remove_file(g.path("policies/modules/psk-derived.wasm")).unwrap();
    });
    client.ended();
    assert_eq!(tool.refused(gateway.port(), lamp).alert, Some(20));
    light.ask(&Request::retrieve("/cse/light1").from("Clight-AE1")).expect(200, 2000);
}

fn invalid_module_is_refused_with_reason(tool: Tool) {
    let gateway = Setup::new().start();
    let mut light = tool.connect(gateway.port(), LIGHT1);
    let whole = fs::read(gateway.path("policies/modules/psk-table.wasm")).unwrap();
    let half = &whole[..whole.len() / 2];
    let mut damaged = whole.clone();
    for byte in &mut damaged[whole.len() / 2..][..64] {
        *byte = !*byte;
    }
    for (bytes, why) in [
        (b"rubbish".as_slice(), "is not a WebAssembly component"),
        (b"", "is not a WebAssembly component"),
        (half, "is not a WebAssembly component"),
        (&damaged, "is not a WebAssembly component"),
        (LARGE_MEMORY, "exceeds the limits of a module (modules.memory-bytes)"),
        (CORE_MODULE, "is a core module, not a component"),
        (EMPTY_COMPONENT, "exports no hook of the contract"),
        (
            &whole,
            "imports the capability policy-tables, but has no manifest; add bad.toml beside it",
        ),
        (&component_that_imports("acme:net/sockets@1.0.0"), "acme:net/sockets@1.0.0, which no"),
        (
            &component_that_imports("saegis:policy/all-keys@0.1.0"),
            "imports saegis:policy/all-keys@0.1.0, which is not in the contract",
        ),
        (&component_that_imports("saegis:policy/log@9.0.0"), "@9.0.0; this gateway supports 0.1"),
        (
            &component_that_imports("saegis:policy/read-stored-keys@0.1.0"),
            "imports the capability read-stored-keys, but has no manifest; add bad.toml beside it",
        ),
    ] {
        let refused = gateway.refused_after(why, |g| g.replace("policies/modules/bad.wasm", bytes));
        let message = refused.message();
        let file = gateway.path("policies/modules/bad.wasm");
        assert!(message.starts_with(&format!("{}: ", file.display())), "{message}");
        assert!(message.ends_with("generation 1 stays in force"), "{message}");
        tool.connect(gateway.port(), LIGHT2).close();
    }
    // A capability that is not granted is refused, even if the module does not use it.
    for capability in ["read-stored-keys", "supply-key-bytes", "policy-files"] {
        let manifest = format!("capabilities = [\"policy-tables\", \"{capability}\"]");
        let why = format!("bad.wasm: its manifest requests the capability {capability}, which the");
        gateway.refused_after(&why, |g| {
            g.write("policies/modules/bad.toml", &manifest);
            g.replace("policies/modules/bad.wasm", &whole);
        });
    }
    // The module is valid with a valid manifest.
    let event = gateway.in_force_after(|g| {
        g.replace("policies/modules/bad.toml", "capabilities = [\"policy-tables\"]");
    });
    assert_eq!(event.number("generation"), 2);
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).expect(201, 2001);
}

/// A file in the folder has the permissions of the folder, the target of a link may not. Links
/// within the folder are allowed, because container platforms use them.
#[test]
fn link_out_of_folder_is_refused() {
    let gateway = Setup::new().start();
    let outside = gateway.path("outside.wasm");
    let module = gateway.path("policies/modules/psk-table.wasm");
    fs::copy(&module, &outside).unwrap();
    let link = gateway.path("policies/modules/linked.wasm");
    gateway.write("policies/modules/linked.toml", "capabilities = [\"policy-tables\"]");
    gateway.refused_after("is a link to a file outside the folder", |_| {
        symlink(&outside, &link).unwrap();
    });
    Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
    gateway.in_force_after(|g| {
        fs::remove_file(&link).unwrap();
        let version = g.path("policies/modules/..v1");
        fs::create_dir(&version).unwrap();
        fs::copy(&module, version.join("linked.wasm")).unwrap();
        symlink("..v1", g.path("policies/modules/..data")).unwrap();
        symlink("..data/linked.wasm", &link).unwrap();
    });
    // The same holds for a manifest.
    fs::copy(gateway.path("policies/modules/linked.toml"), gateway.path("outside.toml")).unwrap();
    gateway.refused_after("is a link to a file outside the folder", |g| {
        fs::remove_file(g.path("policies/modules/linked.toml")).unwrap();
        symlink(g.path("outside.toml"), g.path("policies/modules/linked.toml")).unwrap();
    });
    Tool::OpenSsl.connect(gateway.port(), LIGHT2).close();
}

/// Most toolchains import WASI, so the gateway provides an empty one.
#[test]
fn wasi_module_gets_empty_environment() {
    let gateway = Setup::new().module("wasi-probe", "order = 1\n").start();
    let probe = Credential { identity: "wasi-probe@in.provider.com", ..LIGHT1 };
    assert_eq!(Tool::OpenSsl.refused(gateway.port(), probe).alert, Some(20));
    let refused = gateway.handshake_refused(Mark::START).message();
    assert!(refused.contains("found 0 variables, 0 arguments, 0 folders"), "{refused}");
    let printed = gateway.log().text().matches("printed ").count();
    assert!((1..=40).contains(&printed), "{printed} lines of 100");
    Tool::OpenSsl.connect(gateway.port(), LIGHT1);
}

/// An instance lives for one call, so it cannot pass data from one device to another.
#[test]
fn module_state_is_reset_between_calls() {
    let gateway = with_faulty();
    let asked = Credential { identity: "fault-remember@in.provider.com", ..LIGHT1 };
    for _ in 0..3 {
        let mark = gateway.log().mark();
        Tool::OpenSsl.refused(gateway.port(), asked);
        let message = gateway.handshake_refused(mark).message();
        assert!(message.contains("remembers 0 calls"), "{message}");
    }
}

#[test]
fn last_module_of_needed_hook_cannot_be_removed() {
    let gateway = Setup::new().start();
    for (module, hook) in
        [("psk-table", "credential-lookup"), ("originator-check", "impersonation-check")]
    {
        let file = gateway.path(&format!("policies/modules/{module}.wasm"));
        let module_bytes = fs::read(&file).unwrap();
        let why = format!("no module exports {hook}");
        gateway.refused_after(&why, |_| fs::remove_file(&file).unwrap());
        let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
        let other = Request::retrieve("/cse").from("Clight-AE2");
        light.ask(&other).expect_refusal(403, 4106);
        gateway.replace(&format!("policies/modules/{module}.wasm"), module_bytes);
    }
}

/// A module of a hook that is not needed can be removed. The configuration prevents this for
/// required modules.
#[test]
fn required_module_cannot_be_removed() {
    let setup = Setup::new().with("modules", "required = [\"psk-table\", \"faulty\"]");
    let ran = setup.run_until_exit();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("faulty.wasm: is required (modules.required)"), "{}", ran.err);
    let gateway = setup.module("faulty", "order = 1\ncapabilities = [\"log\"]\n").start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    gateway.refused_after("faulty.wasm: is required (modules.required)", |g| {
        fs::remove_file(g.path("policies/modules/faulty.wasm")).unwrap();
    });
    // The module is still called.
    let request = Request::retrieve("/cse/fault-trap").from("Clight-AE1");
    light.ask(&request).expect_refusal(500, 5000);
}

/// Starts a gateway with a first module that fails on request.
fn with_faulty() -> Gateway {
    Setup::new().module("faulty", "order = 1\ncapabilities = [\"log\"]\n").start()
}

fn faulty_lookup_fails_only_its_handshake(tool: Tool) {
    let gateway = with_faulty();
    let mut light = tool.connect(gateway.port(), LIGHT1);
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).expect(201, 2001);
    for (fault, why) in [
        ("fault-loop", "module faulty exceeded the time limit of a call"),
        ("fault-trap", "module faulty trapped: wasm trap: wasm `unreachable` instruction executed"),
        ("fault-memory", "module faulty exceeded the memory limit of a call"),
        ("fault-recurse", "module faulty trapped: wasm trap: "),
        ("fault-log", "no module knows it"),
    ] {
        let identity = format!("{fault}@in.provider.com");
        let mark = gateway.log().mark();
        let refused = tool.refused(gateway.port(), Credential { identity: &identity, ..LIGHT1 });
        assert_eq!(refused.alert, Some(20), "{fault}: {refused:?}");
        let event = gateway.handshake_refused(mark);
        let knows_not = fault == "fault-log";
        let cause = if knows_not { "unknown-identity" } else { "module-failed" };
        assert_eq!(event.text("cause"), cause);
        if !knows_not {
            let failed = gateway.log().wait_after(mark, "module.failed");
            assert_eq!(failed.text("module"), "faulty");
        }
        let message = event.message();
        assert!(message.contains(&identity) && message.contains(why), "{message}");
        light.ask(&Request::retrieve("/cse/light1").from("Clight-AE1")).expect(200, 2000);
        tool.connect(gateway.port(), LIGHT2).close();
    }
    assert_log_is_limited(gateway.log());
}

/// A call of a module without imports first runs without yielding. A call that takes long is
/// repeated, and has its whole time.
fn long_call_of_module_without_imports_completes(tool: Tool) {
    let setup = Setup::new().with("modules", "deadline-milliseconds = 3000");
    let gateway = setup.module("busy", "order = 1\n").start();
    let refused = |rounds: u64| {
        let mark = gateway.log().mark();
        let identity = format!("rounds-{rounds}@in.provider.com");
        let refused = tool.refused(gateway.port(), Credential { identity: &identity, ..LIGHT1 });
        assert_eq!(refused.alert, Some(20), "{refused:?}");
        gateway.handshake_refused(mark).message()
    };
    tool.connect(gateway.port(), LIGHT1).close();
    // The first long call is attempted without yielding, later ones are not.
    for rounds in [1, 30_000_000, 30_000_001, 2] {
        let message = refused(rounds);
        assert!(message.contains(&format!("counted {rounds} rounds")), "{message}");
        tool.connect(gateway.port(), LIGHT1).close();
    }
    let message = refused(u64::MAX);
    assert!(message.contains("module busy exceeded the time limit of a call"), "{message}");
    tool.connect(gateway.port(), LIGHT1).close();
}

/// Asserts that a module's log lines are limited in number, and contain no line breaks.
fn assert_log_is_limited(log: &Log) {
    let text = log.text();
    let written: Vec<_> = text.lines().filter(|l| l.contains("forged line")).collect();
    assert!(!written.is_empty() && written.len() <= 60, "{} lines", written.len());
    for line in written {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["module"], "faulty");
        assert!(line["message"].as_str().unwrap().ends_with("\\nforged line"), "{line}");
    }
    assert!(text.contains("dropped log lines of a module"), "{text}");
}

fn faulty_check_fails_only_its_request(tool: Tool) {
    let gateway = with_faulty();
    let mut light = tool.connect(gateway.port(), LIGHT1);
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).expect(201, 2001);
    for (fault, cause) in [
        ("fault-loop", "deadline"),
        ("fault-trap", "trap"),
        ("fault-memory", "memory"),
        ("fault-recurse", "trap"),
        ("fault-rsc", "invalid-response"),
    ] {
        let mark = gateway.log().mark();
        let request = Request::retrieve(&format!("/cse/{fault}")).from("Clight-AE1");
        let refused = light.ask(&request).expect_refusal(500, 5000);
        // The originator does not receive the internal reason.
        assert_eq!(refused.debug(), "the request could not be carried out");
        let event = gateway.log().wait_after(mark, "module.failed");
        assert_eq!((event.text("module"), event.text("cause")), ("faulty".into(), cause.into()));
        light.ask(&Request::retrieve("/cse/light1").from("Clight-AE1")).expect(200, 2000);
    }
    // An allowance of one module does not bypass the following modules.
    let request = Request::retrieve("/cse/light1").from("Clight-AE2");
    light.ask(&request).expect_refusal(403, 4106);
    assert_reason_is_escaped(&mut light);
    light.ask(&Request::retrieve("/cse/light1").from("Clight-AE1")).expect(200, 2000);
}

fn installed_check_applies_to_next_request(tool: Tool) {
    let gateway = Setup::new().start();
    let mut light = tool.connect(gateway.port(), LIGHT1);
    let request = || Request::retrieve("/cse/fault-trap").from("Clight-AE1");
    // The allowance is cached for the association and the generation.
    light.ask(&request()).expect_refusal(404, 4004);
    light.ask(&request()).expect_refusal(404, 4004);
    gateway.in_force_after(|g| g.install("faulty", "capabilities = [\"log\"]\n"));
    light.ask(&request()).expect_refusal(500, 5000);
    gateway.in_force_after(|g| {
        fs::remove_file(g.path("policies/modules/faulty.wasm")).unwrap();
    });
    light.ask(&request()).expect_refusal(404, 4004);
}

/// Asserts that a long reason with line breaks cannot inject a header field.
fn assert_reason_is_escaped(light: &mut Client) {
    let request = Request::retrieve("/cse/fault-reason").from("Clight-AE1");
    let refused = light.ask(&request).expect_refusal(403, 4103);
    let reason = refused.debug();
    assert!(reason.starts_with("x\\r\\nX-M2M-RSC: 2000x") && reason.len() < 1000, "{reason}");
    let known = ["x-m2m-rsc", "x-m2m-ri", "x-m2m-rvi", "content-type", "content-length", "date"];
    for (name, value) in refused.headers() {
        assert!(known.contains(&name.as_str()), "{name}: {value}");
    }
}

fn registration_is_checked_by_app_id(tool: Tool) {
    let gateway = with_faulty();
    let mut light = tool.connect(gateway.port(), LIGHT1);
    let register = |app_id: &str| {
        let content = serde_json::json!({ "m2m:ae": { "api": app_id, "rr": false } });
        Request::create("/cse", 2, &content).from("Clight-AE1")
    };
    let refused = light.ask(&register("Nforbidden")).expect_refusal(403, 4126);
    assert_eq!(refused.debug(), "no rule allows it");
    // A registration without an App-ID, or with two of them, cannot be checked.
    let none = serde_json::json!({ "m2m:ae": { "rr": false } });
    let request = Request::create("/cse", 2, &none).from("Clight-AE1");
    light.ask(&request).expect_refusal(400, 4000);
    for (first, second) in [("Nforbidden", "Nlight"), ("Nlight", "Nforbidden")] {
        let content = format!(r#"{{"m2m:ae":{{"api":"{first}","api":"{second}","rr":false}}}}"#);
        light.ask(&register("").body(&content)).expect_refusal(400, 4000);
    }
    light.ask(&register("fault-trap")).expect_refusal(500, 5000);
    light.ask(&register("Nlight")).expect(201, 2001);
}
