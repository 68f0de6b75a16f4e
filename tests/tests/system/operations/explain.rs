//! `saegis explain`, `saegis tail` and `saegis doctor`.

use std::os::unix::fs::PermissionsExt as _;

use saegis_tests::certificates::{Pki, TlsProfile};
use saegis_tests::{
    CommandOutput, Credential, Gateway, LIGHT1, Request, Running, Setup, Tool, program, saegis,
    wait_until,
};

/// Rules that permit light 1.
const RULES: &str = "[[node]]\ncse-id = \"mn-cse-123456\"\nrule-links = [\"lights\"]\n\n[[rule]]\n\
    name = \"lights\"\napplicable-cred-ids = [\"12-AE*\"]\nallowed-app-ids = [\"Nlight\"]\n\
    allowed-aes = [\"Clight-AE1\"]\n";

fn audited() -> Setup {
    Setup::new()
        .with("audit", "file = \"state/audit.jsonl\"")
        .module("app-rules", "capabilities = [\"service-subscription\"]")
        .file("service-subscription.toml", RULES)
}

fn run(gateway: &Gateway, arguments: &[&str]) -> CommandOutput {
    saegis(&gateway.path(""), arguments)
}

/// Explains the refusals of an identity, once they are in the trail.
#[track_caller]
fn explained(gateway: &Gateway, identity: &str, words: &[&str]) {
    let arguments = ["explain", "--identity", identity];
    wait_until("the refusal is in the trail", || run(gateway, &arguments).code == 0);
    let explained = run(gateway, &arguments).expect(0);
    for words in words {
        assert!(explained.out.contains(words), "{words}: {explained:?}");
    }
    assert!(!explained.out.contains(LIGHT1.key), "the key is printed");
}

#[test]
fn refused_handshakes_are_explained() {
    let gateway = audited().start();
    let refused = |credential| Tool::OpenSsl.refused(gateway.port(), credential);
    let unknown = Credential { identity: "lamp@in.provider.com", ..LIGHT1 };
    let none = run(&gateway, &["explain", "--identity", "lamp"]).expect(1);
    assert!(none.out.contains("no table in policies has a row for lamp"), "{none:?}");
    refused(unknown);
    let missing = "policies has a row for lamp@in.provider.com";
    explained(&gateway, "lamp", &["no module knows it", missing, "saegis device add"]);
    refused(Credential { key: "00112233445566778899aabbccddeeff", ..LIGHT1 });
    let row = "psk-lookup-table.csv:2 has it now: without an end";
    explained(&gateway, LIGHT1.identity, &["has another key", row, "rotate-key"]);
    // A row that is disabled, and one that has expired.
    let text = format!(
        "ae_id,kpsa,kpsa_id,expires\nClight-AE1,{},{},20200101T000000\n# Clamp,{},lamp@in.provider.com,\n",
        LIGHT1.key, LIGHT1.identity, LIGHT1.key
    );
    gateway.in_force_after(|g| g.replace("policies/psk-lookup-table.csv", text));
    refused(LIGHT1);
    wait_until("the refusal is in the trail", || {
        run(&gateway, &["explain"]).out.contains("the credential has expired")
    });
    explained(
        &gateway,
        LIGHT1.identity,
        &["csv:2 has it now: expired at 20200101T000000", "renew"],
    );
    explained(&gateway, "lamp", &["csv:3 has it as a comment, so it is disabled"]);
    let json = run(&gateway, &["explain", "--last", "9", "--json"]).expect(0).json();
    assert_eq!(json["refusals"].as_array().unwrap().len(), 3, "{json}");
    assert_eq!(json["refusals"][0]["event"]["cause"], "expired");
}

#[test]
fn refused_requests_are_explained() {
    let gateway = audited().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.ask(&Request::retrieve("/cse/light1").from("Clight-AE2"));
    let words = ["operation retrieve", "target", "let the device write Clight-AE1"];
    explained(&gateway, LIGHT1.identity, &words);
    let mark = gateway.log().mark();
    let text = RULES.replace("Nlight", "Nlamp");
    gateway.in_force_after(|g| g.write("policies/service-subscription.toml", text));
    light.ask(&Request::create_ae("light1").from("Clight-AE1"));
    let refused = gateway.log().wait_after(mark, "request.refused");
    assert_eq!(refused.number("rsc"), 4126);
    assert_eq!(
        (refused.text("operation"), refused.text("app_id"), refused.text("entity")),
        ("create".into(), "Nlight".into(), "AE Clight-AE1".into())
    );
    wait_until("the refusal is in the trail", || {
        run(&gateway, &["explain"]).out.contains("App-ID")
    });
    let rule = "service-subscription.toml:6 the rule lights lacks Nlight in allowed-app-ids";
    explained(&gateway, "light-AE1", &[rule, "add \"Nlight\" to allowed-app-ids"]);
}

/// A refused certificate is named by its subject and serial number.
#[test]
fn refused_certificate_is_named() {
    let pki = Pki::new();
    let gateway = pki.setup().with("audit", "file = \"state/audit.jsonl\"").start();
    let foreign = Pki::new();
    let foreign = foreign.identity(&foreign.example.ae);
    pki.refused(Tool::OpenSsl, gateway.port(), Some(&foreign), TlsProfile::Tls12);
    let refused = gateway.log().wait("handshake.refused");
    assert!(
        !refused.text("serial").is_empty() && !refused.text("subject").is_empty(),
        "{refused:?}"
    );
    explained(&gateway, &refused.text("serial"), &["serial number", "saegis certs inspect"]);
    // The client of this project names the probable cause, although the alert comes late.
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&foreign.key, private).unwrap();
    let text = format!(
        "[registrar]\naddress = \"127.0.0.1:{}\"\ncse-id = \"mn-cse-123456\"\n\
         domain-name = \"mn-cse-123456.in-cse.in.provider.com\"\n\
         [credential]\ncertificate = {:?}\nkey = {:?}\ntrust-anchors = [{:?}]\n\
         [ae]\nae-id = \"Clight-AE1\"\napp-id = \"Nlight\"\n",
        gateway.port(),
        foreign.chain,
        foreign.key,
        pki.anchor()
    );
    gateway.write("ae.toml", text);
    let refused = run(&gateway, &["ae", "show"]).expect(3);
    assert!(refused.err.contains("refuses a certificate that is expired"), "{refused:?}");
}

#[test]
fn tail_follows_the_trail() {
    let gateway = audited().start();
    let mut command = std::process::Command::new(program());
    command.args(["tail", "--event", "association", "--identity", LIGHT1.identity]);
    let running = Running::start(command.current_dir(gateway.path("")));
    let light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    wait_until("the event is printed", || running.out.text().contains("association established"));
    light.close();
    wait_until("the end is printed", || running.out.text().contains("association ended"));
    assert!(!running.out.text().contains("ready"), "{}", running.out.text());
    let past = run(&gateway, &["tail", "--no-follow", "--json", "--lines", "1"]).expect(0);
    assert_eq!(past.json()["event"], "association.ended");
}

#[test]
fn doctor_names_each_problem() {
    let setup = Setup::new().upstream(9);
    let file = setup.configuration();
    let folder = file.parent().unwrap().to_path_buf();
    let ran = saegis(&folder, &["doctor"]).expect(1);
    assert!(ran.out.contains("upstream.url 127.0.0.1:9: "), "{ran:?}");
    assert!(ran.out.contains("is not running"), "{ran:?}");
    assert!(ran.out.contains("they can be guessed"), "{ran:?}");
    let json = saegis(&folder, &["doctor", "--json"]).expect(1).json();
    assert_eq!(json["failed"], 1, "{json}");
    let gateway = Setup::new().start();
    let ran = run(&gateway, &["doctor"]).expect(0);
    assert!(ran.out.contains("the gateway is running"), "{ran:?}");
    gateway.write("policies/psk-lookup-table.csv", "nonsense\n");
    let ran = run(&gateway, &["doctor"]).expect(1);
    assert!(ran.out.contains("failed   policy         "), "{ran:?}");
}
