//! Who may register is what the service subscription says: TD_M2M_SE_01 of the interoperability
//! tests, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;

use saegis_tests::{Credential, Gateway, Light, Request, Setup, Tool};
use serde_json::json;

/// The example of the interoperability test: a short key, and a KpsaID of its own.
const TEST: Credential<'static> = Credential { identity: "test@onem2m.com", key: "123456" };
const NEW: Credential<'static> =
    Credential { identity: "new@onem2m.com", key: "00112233445566778899aabbccddeeff" };

const FILE: &str = "policies/service-subscription.toml";

const RULES: &str = r#"
[[node]]
cse-id = "mn-cse-123456"
rule-links = ["asar"]

[[rule]]
name = "asar"
applicable-cred-ids = ["12-test@onem2m.com"]
allowed-app-ids = ["NAPP01"]
allowed-aes = ["Ctest", "Sother"]
"#;

fn with_rules(rules: Option<&str>) -> Setup {
    let rows = format!(
        "ae_id,kpsa,kpsa_id\n,{},{}\n,{},{}\n",
        TEST.key, TEST.identity, NEW.key, NEW.identity
    );
    let setup = Setup::new().file("psk-lookup-table.csv", &rows);
    let setup = match rules {
        Some(rules) => setup.file("service-subscription.toml", rules),
        None => setup,
    };
    setup.module("app-rules", "capabilities = [\"service-subscription\"]")
}

fn ae(app_id: &str, from: Option<&str>) -> Request {
    let content = json!({ "m2m:ae": { "rn": "app", "api": app_id, "rr": false } });
    let request = Request::create("/cse", 2, &content);
    match from {
        Some(from) => request.from(from),
        None => request,
    }
}

/// With the mandated suite of TLS 1.2 the AE registers as the rule says, and in no other way. GnuTLS
/// takes no key of three bytes.
#[test]
fn td_m2m_se_01_and_its_negative_twins() {
    let tool = Tool::OpenSsl;
    let gateway = with_rules(Some(RULES)).start();
    let mut light = tool.connect(gateway.port(), TEST);
    // A wrong AE-ID, to be given one, a wrong App-ID, none.
    for (app_id, from) in [
        ("NAPP01", Some("Cother")),
        ("NAPP01", Some("Ctest2")),
        ("NAPP01", Some("C")),
        ("NAPP01", Some("S")),
        ("NAPP01", None),
        ("NAPP02", Some("Ctest")),
        ("napp01", Some("Ctest")),
    ] {
        light.ask(&ae(app_id, from)).expect_refusal(403, 4126);
    }
    let nameless = Request::create("/cse", 2, &json!({ "m2m:ae": { "rn": "app" } })).from("Ctest");
    light.ask(&nameless).expect_refusal(403, 4126);
    // The rule is for another credential.
    let mut other = tool.connect(gateway.port(), NEW);
    other.ask(&ae("NAPP01", Some("Ctest"))).expect_refusal(403, 4126);
    // And this is what the test is about.
    let registered = light.ask(&ae("NAPP01", Some("Ctest"))).expect(201, 2001);
    assert_eq!(registered.json()["m2m:ae"]["aei"], "Ctest");
    light.ask(&Request::retrieve("/cse/app").from("Ctest")).expect(200, 2000);
    light.ask(&Request::retrieve("/cse/app").from("Cother")).expect_refusal(403, 4106);
}

/// 4128 comes before 4126, and both before an AE-ID that is taken and before the representation.
#[test]
fn without_a_subscription_nobody_registers() {
    let of_another = RULES.replace("mn-cse-123456", "another-cse");
    for rules in [None, Some("# Nothing\n"), Some(of_another.as_str())] {
        let gateway = with_rules(rules).start();
        let mut light = Light::connect(gateway.port(), TEST).unwrap();
        light.ask(&ae("NAPP01", Some("Ctest"))).unwrap().expect_refusal(403, 4128);
        // What is no registration is no business of it.
        light.ask(&Request::retrieve("/cse").from("Ctest")).unwrap().expect_refusal(403, 4106);
    }
    // A node without links: no AE may register there.
    let without_links = RULES.replace("rule-links = [\"asar\"]", "rule-links = []");
    let gateway = with_rules(Some(&without_links)).start();
    let mut light = Light::connect(gateway.port(), TEST).unwrap();
    light.ask(&ae("NAPP01", Some("Ctest"))).unwrap().expect_refusal(403, 4126);
    // Impersonation comes first of all.
    light.ask(&Request::retrieve("/cse").from("Ctest")).unwrap().expect_refusal(403, 4106);
}

fn registers(gateway: &Gateway, credential: Credential<'_>, from: &str) -> Option<u16> {
    let mut light = Light::connect(gateway.port(), credential).unwrap();
    let rsc = light.ask(&ae("NAPP01", Some(from))).unwrap().rsc();
    light.close();
    rsc
}

#[test]
fn rules_come_into_force_and_go() {
    let gateway = with_rules(Some(RULES)).start();
    assert_eq!(registers(&gateway, NEW, "Cnew"), Some(4126));
    let more = RULES.replace("rule-links = [\"asar\"]", "rule-links = [\"asar\", \"new\"]")
        + "[[rule]]\nname = \"new\"\napplicable-cred-ids = [\"12-*\"]\nallowed-app-ids = [\"*\"]\n\
           allowed-aes = [\"Cn*\"]\n";
    gateway.in_force_after(|g| g.replace(FILE, &more));
    assert_eq!(registers(&gateway, NEW, "Cother"), Some(4126));
    assert_eq!(registers(&gateway, NEW, "Cnew"), Some(2001));
    // A file with mistakes changes nothing, and each is told with its place.
    let bad = more.replace("\"*\"", "\"light\"");
    let refused = gateway.refused_after("is no App-ID: it starts with R, N or an asterisk", |g| {
        g.replace(FILE, &bad);
    });
    let file = gateway.path(FILE);
    assert!(refused.message().starts_with(&format!("{}:14:20: ", file.display())), "{refused:?}");
    gateway.refused_after("unknown field `rulelinks`", |g| {
        g.replace(FILE, RULES.replace("rule-links", "rulelinks"));
    });
    assert_eq!(registers(&gateway, TEST, "Ctest"), Some(4105), "the name of the resource is taken");
    // Without the file nobody registers any more; who is registered stays so.
    gateway.in_force_after(|_| fs::remove_file(&file).unwrap());
    let mut light = Light::connect(gateway.port(), NEW).unwrap();
    light.ask(&Request::retrieve("/cse/app").from("Cnew")).unwrap().expect(200, 2000);
    light.ask(&ae("NAPP01", Some("Cnew"))).unwrap().expect_refusal(403, 4128);
}

/// A hundred thousand rules that are for others.
#[test]
fn very_many_rules_are_no_burden() {
    const RULES: usize = 100_000;
    let mut text = String::from("[[node]]\ncse-id = \"mn-cse-123456\"\nrule-links = [");
    (0..RULES).for_each(|n| text.push_str(&format!("\"r{n}\",")));
    text.push_str("]\n");
    for n in 0..RULES {
        text.push_str(&format!(
            "[[rule]]\nname = \"r{n}\"\napplicable-cred-ids = [\"12-d{n}-*\"]\n\
             allowed-app-ids = [\"N*\"]\nallowed-aes = [\"C*\"]\n"
        ));
    }
    let gateway = with_rules(Some(&text)).with_metrics().start();
    let mut light = Light::connect(gateway.port(), TEST).unwrap();
    for _ in 0..100 {
        light.ask(&ae("NAPP01", Some("Ctest"))).unwrap().expect_refusal(403, 4126);
    }
    let faults = gateway.monitor("/metrics");
    assert!(!faults.text.contains("saegis_sandbox_faults_total{"), "{}", faults.text);
}
