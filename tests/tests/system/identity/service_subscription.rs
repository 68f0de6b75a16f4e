//! Registration rules of the service subscription: TD_M2M_SE_01 of the interoperability tests, and
//! refused registrations.

use std::fs;

use saegis_tests::{
    Binding, Credential, Gateway, Light, Primitive, Request, Setup, Tool, eventually,
};
use serde_json::json;

/// Credential of the interoperability test, with a short key.
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

fn ae(app_id: &str, from: &str) -> Request {
    let content = json!({ "m2m:ae": { "rn": "app", "api": app_id, "rr": false } });
    Request::create("/cse", 2, &content).from(from)
}

/// With the mandated suite of TLS 1.2 or DTLS 1.2, the AE registers only as the rule allows. GnuTLS
/// does not accept a key of three bytes.
fn td_m2m_se_01_and_refused_registrations(binding: Binding) {
    let gateway = with_rules(Some(RULES)).with_mqtt().with_coap().start();
    let mut light = binding.connect(&gateway, TEST);
    let content = |app_id: &str| {
        json!({ "m2m:ae": { "rn": "app", "api": app_id, "rr": false, "srv": ["3"] } }).to_string()
    };
    let expected = content("NAPP01");
    let registration = Primitive::create("cse", 2, &expected);
    // A wrong AE-ID, a request for an assigned one, and no AE-ID.
    for originator in ["Cother", "Ctest2", "C", "S"] {
        light.expect(&registration.from(originator), 4126);
    }
    light.expect(&registration, 4126);
    // A wrong App-ID, one that is too long, and none.
    for (app_id, rsc) in [("NAPP02", 4126), ("napp01", 4126), (&*"N".repeat(300), 4000)] {
        let content = content(app_id);
        light.expect(&Primitive::create("cse", 2, &content).from("Ctest"), rsc);
    }
    let nameless = Primitive::create("cse", 2, r#"{"m2m:ae":{"rn":"app"}}"#).from("Ctest");
    light.expect(&nameless, 4126);
    // The rule applies to another credential.
    let mut other = binding.connect(&gateway, NEW);
    other.expect(&registration.from("Ctest"), 4126);
    // The registration that the interoperability test expects.
    let registered = light.expect(&registration.from("Ctest"), 2001);
    assert_eq!(registered["m2m:ae"]["aei"], "Ctest");
    light.expect(&Primitive::retrieve("cse/app").from("Ctest"), 2000);
    light.expect(&Primitive::retrieve("cse/app").from("Cother"), 4106);
    light.expect(&Primitive::delete("cse/app").from("Ctest"), 2002);
}

/// TD_M2M_SE_01 over each binding.
mod td_m2m_se_01 {
    use super::{Binding, Tool};

    #[test]
    fn over_http() {
        super::td_m2m_se_01_and_refused_registrations(Binding::Http(Tool::OpenSsl));
    }

    #[test]
    fn over_websocket() {
        super::td_m2m_se_01_and_refused_registrations(Binding::WebSocket);
    }

    #[test]
    fn over_mqtt() {
        super::td_m2m_se_01_and_refused_registrations(Binding::Mqtt);
    }

    #[test]
    fn over_coap() {
        super::td_m2m_se_01_and_refused_registrations(Binding::Coap);
    }
}

/// 4128 takes precedence over 4126. Both take precedence over a taken AE-ID and over the check of
/// the representation.
#[test]
fn registration_without_subscription_is_refused() {
    let of_another = RULES.replace("mn-cse-123456", "another-cse");
    for rules in [None, Some("# Nothing\n"), Some(of_another.as_str())] {
        let gateway = with_rules(rules).start();
        let mut light = Light::connect(gateway.port(), TEST).unwrap();
        light.ask(&ae("NAPP01", "Ctest")).unwrap().expect_refusal(403, 4128);
        // The rules do not apply to other requests.
        light.ask(&Request::retrieve("/cse").from("Ctest")).unwrap().expect_refusal(403, 4106);
    }
    // A node without links allows no registration.
    let without_links = RULES.replace("rule-links = [\"asar\"]", "rule-links = []");
    let gateway = with_rules(Some(&without_links)).start();
    let mut light = Light::connect(gateway.port(), TEST).unwrap();
    light.ask(&ae("NAPP01", "Ctest")).unwrap().expect_refusal(403, 4126);
    // Impersonation is checked first.
    light.ask(&Request::retrieve("/cse").from("Ctest")).unwrap().expect_refusal(403, 4106);
}

fn registration_rsc(gateway: &Gateway, credential: Credential<'_>, from: &str) -> Option<u16> {
    let mut light = Light::connect(gateway.port(), credential).unwrap();
    let rsc = light.ask(&ae("NAPP01", from)).unwrap().rsc();
    light.close();
    rsc
}

#[test]
fn changed_rules_take_effect() {
    let gateway = with_rules(Some(RULES)).start();
    assert_eq!(registration_rsc(&gateway, NEW, "Cnew"), Some(4126));
    let more = RULES.replace("rule-links = [\"asar\"]", "rule-links = [\"asar\", \"new\"]")
        + "[[rule]]\nname = \"new\"\napplicable-cred-ids = [\"12-*\"]\nallowed-app-ids = [\"*\"]\n\
           allowed-aes = [\"Cn*\"]\n";
    gateway.in_force_after(|g| g.replace(FILE, &more));
    assert_eq!(registration_rsc(&gateway, NEW, "Cother"), Some(4126));
    assert_eq!(registration_rsc(&gateway, NEW, "Cnew"), Some(2001));
    // An invalid file changes nothing, and the error states its position.
    let bad = more.replace("\"*\"", "\"light\"");
    let refused =
        gateway.refused_after("is not an App-ID: it must start with R, N or an asterisk", |g| {
            g.replace(FILE, &bad);
        });
    let file = gateway.path(FILE);
    assert!(refused.message().starts_with(&format!("{}:14:20: ", file.display())), "{refused:?}");
    gateway.refused_after("unknown field `rulelinks`", |g| {
        g.replace(FILE, RULES.replace("rule-links", "rulelinks"));
    });
    assert_eq!(
        registration_rsc(&gateway, TEST, "Ctest"),
        Some(4105),
        "the name of the resource is taken"
    );
    // Without the file no AE can register. Registered AEs keep their registration.
    gateway.remove(FILE);
    let mut light = Light::connect(gateway.port(), NEW).unwrap();
    light.ask(&Request::retrieve("/cse/app").from("Cnew")).unwrap().expect(200, 2000);
    light.ask(&ae("NAPP01", "Cnew")).unwrap().expect_refusal(403, 4128);
}

/// Rules without a module that enforces them would allow every registration, so the gateway refuses
/// such a generation.
#[test]
fn rules_without_checking_module_are_refused() {
    let gateway = with_rules(Some(RULES)).start();
    gateway.refused_after("needs a module that exports registration-check", |g| {
        fs::remove_file(g.path("policies/modules/app-rules.wasm")).unwrap();
    });
    assert_eq!(registration_rsc(&gateway, NEW, "Cnew"), Some(4126));
}

/// A hundred thousand rules for other credentials.
#[test]
fn hundred_thousand_rules_are_supported() {
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
        light.ask(&ae("NAPP01", "Ctest")).unwrap().expect_refusal(403, 4126);
    }
    let faults = gateway.monitor("/metrics");
    assert!(!faults.text.contains("saegis_sandbox_faults_total{"), "{}", faults.text);
}

const ADMIN: Credential<'static> =
    Credential { identity: "admin@onem2m.com", key: "a0112233445566778899aabbccddeeff" };
const MN: Credential<'static> =
    Credential { identity: "mn@onem2m.com", key: "b0112233445566778899aabbccddeeff" };

/// Starts an IN-CSE that stores the service subscription as resources of its administrator.
fn in_cse() -> Gateway {
    let rows = format!(
        "ae_id,cse_id,kpsa,kpsa_id\nCadmin,,{},{}\n,,{},{}\n,/mn-cse-123456,{},{}\n",
        ADMIN.key, ADMIN.identity, TEST.key, TEST.identity, MN.key, MN.identity
    );
    Setup::new()
        .with_cse("in-cse", "IN-CSE")
        .file("psk-lookup-table.csv", &rows)
        .with("cse", "administrators = [\"Cadmin\"]")
        .with("service-subscription", "source = \"cse\"")
        .start()
}

/// Registers the administrator before there is any rule or check.
fn with_administrator(gateway: &Gateway) -> Light {
    let mut admin = Light::connect(gateway.port(), ADMIN).unwrap();
    let own = json!({ "m2m:ae": { "rn": "admin", "api": "Nadmin", "rr": false } });
    let own = Request::create("/cse", 2, &own).from("Cadmin");
    admin.ask(&own).unwrap().expect(201, 2001);
    gateway.in_force_after(|g| g.install("app-rules", "capabilities = [\"service-subscription\"]"));
    admin
}

/// Creates a profile, a rule, and a node of a CSE that links to the rule.
fn provision(gateway: &Gateway, cse: &str, credential: &str) {
    let mut admin = Light::connect(gateway.port(), ADMIN).unwrap();
    let mut make = |path: &str, ty: u16, content: serde_json::Value| {
        let request = Request::create(path, ty, &content).from("Cadmin");
        admin.ask(&request).unwrap().expect(201, 2001)
    };
    let reads = json!({ "acr": [{ "acor": ["/mn-cse-123456", "Cadmin"], "acop": 34 }] });
    let rules = json!({ "acr": [{ "acor": ["Cadmin"], "acop": 63 }] });
    make("/cse", 1, json!({ "m2m:acp": { "rn": "readers", "pv": reads, "pvs": rules } }));
    let readers = json!(["cse/readers"]);
    let rule = json!({ "m2m:asar": {
        "rn": "asar", "acpi": readers, "apci": [credential], "aai": ["NAPP01"], "aae": ["Ctest"],
    }});
    let made = make("/cse", 19, rule).json();
    let link = made["m2m:asar"]["ri"].as_str().unwrap().to_string();
    make("/cse", 11, json!({ "m2m:mssp": { "rn": "mssp", "acpi": readers } }));
    let node = json!({ "m2m:svsn": {
        "rn": "node", "acpi": readers, "ni": "node-1", "csi": cse, "rlk": [link],
    }});
    make("/cse/mssp", 20, node);
}

/// Waits until a registration gets this response. Changes at the CSE take effect after a short
/// delay.
fn wait_for_registration_rsc(gateway: &Gateway, credential: Credential<'_>, rsc: u16) {
    eventually(|| {
        let got = registration_rsc(gateway, credential, "Ctest");
        if got == Some(rsc) { Ok(()) } else { Err(got) }
    });
}

#[test]
fn rules_are_read_from_cse_resources() {
    let gateway = in_cse();
    let mut admin = with_administrator(&gateway);
    wait_for_registration_rsc(&gateway, TEST, 4128);
    provision(&gateway, "/in-cse", "12-other@onem2m.com");
    wait_for_registration_rsc(&gateway, TEST, 4126);
    let change = json!({ "m2m:asar": { "apci": ["12-test@onem2m.com"] } });
    admin.ask(&Request::update("/cse/asar", &change).from("Cadmin")).unwrap().expect(200, 2004);
    wait_for_registration_rsc(&gateway, TEST, 2001);
    // Only the administrator can change the rules.
    let mut light = Light::connect(gateway.port(), TEST).unwrap();
    let open = json!({ "m2m:asar": { "apci": ["*"] } });
    light
        .ask(&Request::update("/cse/asar", &open).from("Ctest"))
        .unwrap()
        .expect_refusal(403, 4103);
}

/// The gateway fetches its rules from the IN-CSE, which may be unreachable for a while.
#[test]
fn rules_are_fetched_from_remote_in_cse() {
    let far = in_cse();
    with_administrator(&far);
    provision(&far, "/mn-cse-123456", "12-test@onem2m.com");
    let rows = format!("ae_id,kpsa,kpsa_id\n,{},{}\n", TEST.key, TEST.identity);
    let near = Setup::new()
        .file("psk-lookup-table.csv", &rows)
        .module("app-rules", "capabilities = [\"service-subscription\"]")
        .with("service-subscription", "source = \"remote\"")
        .with("service-subscription", "refresh-seconds = 1\nusable-seconds = 4")
        .with(
            "[peer]",
            &format!(
                "cse-id = \"in-cse\"\naddress = \"127.0.0.1:{}\"\nregister = true\n\
                 credential = {{ kpsa-id = \"{}\", kpsa = \"{}\" }}",
                far.port(),
                MN.identity,
                MN.key
            ),
        )
        .start();
    // The first fetch may precede the registration.
    near.log().wait("service-subscription.fetched");
    let mut light = Light::connect(near.port(), TEST).unwrap();
    light.ask(&ae("NAPP02", "Ctest")).unwrap().expect_refusal(403, 4126);
    light.ask(&ae("NAPP01", "Ctest")).unwrap().expect(201, 2001);
    // The IN-CSE is unreachable, and the cached rules stay valid for a while.
    drop(far);
    near.log().wait("service-subscription.fetch-failed");
    // They are valid after a restart as well.
    drop(light);
    let near = near.restart();
    let mut light = Light::connect(near.port(), TEST).unwrap();
    light.ask(&ae("NAPP01", "Ctest")).unwrap().expect_refusal(403, 4117);
    wait_for_registration_rsc(&near, TEST, 4128);
    light.ask(&Request::retrieve("/cse/app").from("Ctest")).unwrap().expect(200, 2000);
}
