//! An audit log that many refusals cannot displace.

use std::fs;
use std::path::Path;

use saegis_tests::{
    BOUND, CommandOutput, Credential, Gateway, LIGHT1, LIGHT2, Light, Request, Setup, Tool,
    connect_from, saegis, wait_until,
};
use serde_json::Value;

/// Returns a gateway whose audit logs hold 128 KiB each.
pub(super) fn small() -> Setup {
    Setup::new()
        .with("audit", "file = \"audit/trail.jsonl\"")
        .with("audit", "file-bytes = 65536")
        .with("audit", "retained-files = 1")
}

/// Returns the lines of an audit log and its old files, oldest first.
fn trail(gateway: &Gateway, name: &str) -> Vec<Value> {
    let newest = gateway.path(&format!("audit/{name}"));
    let mut lines = Vec::new();
    for file in [newest.with_extension("jsonl.1"), newest] {
        let text = fs::read_to_string(file).unwrap_or_default();
        lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    lines
}

fn of<'l>(lines: &'l [Value], event: &str, credential: Credential<'_>) -> Vec<&'l Value> {
    let id = format!("12-{}", credential.identity);
    lines.iter().filter(|l| l["event"] == event && l["credential_id"] == *id).collect()
}

/// Returns the number of summed events of a credential.
fn summed(lines: &[Value], event: &str, credential: Credential<'_>) -> u64 {
    let sums = of(lines, "audit.repeated", credential).into_iter();
    sums.filter(|line| line["of"] == event).map(|line| line["count"].as_u64().unwrap()).sum()
}

/// Runs `saegis audit verify`.
pub(super) fn verify(gateway: &Gateway, arguments: &[&str]) -> CommandOutput {
    saegis(&gateway.path(""), &[&["audit", "verify"], arguments].concat())
}

/// Returns the lines of a file.
pub(super) fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(ToString::to_string).collect()
}

#[test]
fn refusals_do_not_displace_audit_lines() {
    const ATTEMPTS: u64 = 3000;
    let mut gateway = small().start();
    // The evidence: an association and an attempted impersonation.
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::retrieve("/cse/x").from("Clight-AE2")).unwrap().expect_refusal(403, 4106);
    // Enough refused requests of two kinds to fill both files several times.
    let mut flood = Light::connect(gateway.port(), LIGHT2).unwrap();
    for _ in 0..ATTEMPTS {
        let request = Request::retrieve("/cse/x").from("Clight-AE1");
        flood.ask(&request).unwrap().expect_refusal(403, 4106);
    }
    for _ in 0..100 {
        let request = Request::retrieve("/cse/x").from("no originator");
        flood.ask(&request).unwrap().expect_refusal(400, 4000);
    }
    gateway.stop();
    let (events, refusals) =
        (trail(&gateway, "trail.jsonl"), trail(&gateway, "trail-refusals.jsonl"));
    for credential in [LIGHT1, LIGHT2] {
        assert_eq!(of(&events, "association.established", credential).len(), 1);
        assert_eq!(of(&events, "association.ended", credential).len(), 1);
    }
    assert!(of(&events, "request.refused", LIGHT1).is_empty(), "refusals have a separate file");
    assert_eq!(of(&refusals, "request.refused", LIGHT1).len(), 1);
    // Each refusal is written, or counted in a sum with its cause and time.
    let written = of(&refusals, "request.refused", LIGHT2);
    assert!(written.len() < 1000, "{} lines", written.len());
    assert_eq!(written.len() as u64 + summed(&refusals, "request.refused", LIGHT2), ATTEMPTS + 100);
    let sums = of(&refusals, "audit.repeated", LIGHT2);
    for cause in ["4000", "4106"] {
        let sum = sums.iter().find(|sum| sum["cause"] == cause).unwrap();
        assert!(sum["since"].as_str() <= sum["until"].as_str(), "{sum}");
    }
    let ran = verify(&gateway, &[]).expect(0);
    assert!(ran.out.contains("trail.jsonl") && ran.out.contains("trail-refusals.jsonl"), "{ran:?}");
}

/// Repeated associations of an authorized client do not displace other lines either.
#[test]
fn reconnects_do_not_displace_audit_lines() {
    const ATTEMPTS: u64 = 700;
    let mut gateway = small().start();
    let light = Light::connect(gateway.port(), LIGHT1).unwrap();
    gateway.log().wait("association.established");
    for _ in 0..ATTEMPTS {
        let mut again = Light::connect(gateway.port(), LIGHT2).unwrap();
        again.close_notify().unwrap();
        // Only an established association is ended like this.
        again.ended().unwrap();
    }
    drop(light);
    gateway.stop();
    let events = trail(&gateway, "trail.jsonl");
    assert_eq!(of(&events, "association.established", LIGHT1).len(), 1);
    for event in ["association.established", "association.ended"] {
        let written = of(&events, event, LIGHT2).len() as u64;
        assert!(written < 400, "{written} {event}");
        assert_eq!(written + summed(&events, event, LIGHT2), ATTEMPTS, "{event}");
    }
    verify(&gateway, &[]).expect(0);
}

/// Refused handshakes are summed by peer address.
#[test]
fn refused_handshakes_do_not_displace_audit_lines() {
    const ATTEMPTS: u64 = 1500;
    let mut gateway = small().with("limits", "failed-handshakes-per-minute = 100000").start();
    Light::connect(gateway.port(), LIGHT1).unwrap().close();
    let unknown = Credential { identity: "nobody@in.provider.com", ..LIGHT1 };
    for _ in 0..ATTEMPTS {
        assert!(Light::connect(gateway.port(), unknown).is_err());
    }
    gateway.stop();
    let events = trail(&gateway, "trail.jsonl");
    assert_eq!(of(&events, "association.established", LIGHT1).len(), 1);
    let written = events.iter().filter(|line| line["event"] == "handshake.refused").count();
    assert!(written < 1000, "{written}");
    let sums = events.iter().filter(|line| line["of"] == "handshake.refused");
    let summed: u64 = sums
        .map(|line| {
            assert_eq!(
                (&line["peer"], &line["cause"]),
                (&"127.0.0.1".into(), &"unknown-identity".into())
            );
            line["count"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(written as u64 + summed, ATTEMPTS);
}

/// A credential without an AE-ID in the table.
const NEW: Credential<'static> =
    Credential { identity: "new-1@in.provider.com", key: "00112233445566778899aabbccddeeff" };

/// Each registered AE-ID is logged, and their number is limited.
#[test]
fn registered_ae_ids_are_in_audit_log() {
    let rows = format!(
        "ae_id,kpsa,kpsa_id\nClight-AE1,{},{}\n,{},{}\n",
        LIGHT1.key, LIGHT1.identity, NEW.key, NEW.identity
    );
    let setup = Setup::new().with("audit", "file = \"audit/trail.jsonl\"");
    let mut gateway = setup.file("psk-lookup-table.csv", &rows).start();
    // By now the lines about associations are summed.
    for _ in 0..150 {
        Light::connect(gateway.port(), NEW).unwrap().close();
    }
    let mut taken = Vec::new();
    let refused = loop {
        let name = format!("Cjunk{}", taken.len());
        let mut light = Light::connect(gateway.port(), NEW).unwrap();
        let answer = light.ask(&Request::create_ae("junk").from(&name)).unwrap();
        if answer.status() != 201 {
            break answer;
        }
        light.ask(&Request::delete("/cse/junk").from(&name)).unwrap().expect(200, 2002);
        taken.push(name);
        assert!(taken.len() < 500, "the number of AE-IDs is limited");
    };
    refused.expect_refusal(406, 5207);
    gateway.stop();
    let events = trail(&gateway, "trail.jsonl");
    for event in ["ae-id.bound", "ae-id.released"] {
        let named = of(&events, event, NEW).into_iter().map(|line| line["ae_id"].as_str().unwrap());
        assert_eq!(named.collect::<Vec<_>>(), taken, "{event}");
    }
    let learnt = of(&events, "association.ae-id-assigned", NEW);
    assert!(taken.iter().all(|name| learnt.iter().any(|l| l["entity"] == format!("AE {name}"))));
}

/// Many refusals of one originator do not hide those of another originator on the same credential.
#[test]
fn refusals_of_second_originator_are_logged() {
    let mut gateway = small().start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut ask = |from: &str| {
        light.ask(&Request::retrieve("/cse/x").from(from)).unwrap().expect_refusal(403, 4106);
    };
    (0..200).for_each(|_| ask("Cjunk"));
    (0..3).for_each(|_| ask("Clight-AE2"));
    gateway.stop();
    let refusals = trail(&gateway, "trail-refusals.jsonl");
    let from = |event: &str| {
        let all = of(&refusals, event, LIGHT1).into_iter();
        all.filter(|line| line["from"] == "Clight-AE2").collect::<Vec<_>>()
    };
    assert_eq!(from("request.refused").len(), 1);
    let sums = from("audit.repeated");
    assert_eq!((sums.len(), &sums[0]["count"]), (1, &2.into()));
    assert_eq!(summed(&refusals, "request.refused", LIGHT1), 200 - 64 + 2);
}

/// Two peer addresses of one credential may mean that its key is stolen.
#[test]
fn second_address_of_credential_is_logged() {
    let mut gateway = small().start();
    let from = |address: &str| {
        let socket = connect_from(address, gateway.port());
        Light::over(socket, LIGHT1, BOUND).unwrap().close();
    };
    (0..150).for_each(|_| from("127.0.0.1"));
    (0..2).for_each(|_| from("127.0.0.9"));
    gateway.stop();
    let events = trail(&gateway, "trail.jsonl");
    for event in ["association.established", "association.ended"] {
        let thief = |l: &&Value| l["peer"].as_str().unwrap().starts_with("127.0.0.9");
        assert_eq!(of(&events, event, LIGHT1).into_iter().filter(thief).count(), 1, "{event}");
        let sums = of(&events, "audit.repeated", LIGHT1).into_iter().filter(thief);
        assert_eq!(sums.filter(|sum| sum["of"] == event).count(), 1, "{event}");
    }
}

/// Each command is logged with the user, and a reload by SIGHUP works as before.
#[test]
fn admin_commands_are_in_audit_log() {
    let gateway = small().start();
    let file = gateway.path("audit/trail.jsonl");
    let _light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let ask = |arguments: &[&str]| saegis(&gateway.path(""), arguments);
    ask(&["status"]).expect(0);
    ask(&["reload"]).expect(0);
    ask(&["release-ae-id", "12-nobody@in.provider.com"]).expect(4);
    ask(&["end-association", "1"]).expect(0);
    let commands = || -> Vec<Value> {
        let all = lines(&file).into_iter().map(|l| serde_json::from_str::<Value>(&l).unwrap());
        all.filter(|line| line["event"] == "admin.command").collect()
    };
    wait_until("three commands", || commands().len() >= 3);
    let all = commands();
    let words: Vec<_> = all.iter().map(|line| line["command"].as_str().unwrap()).collect();
    assert_eq!(words, ["reload", "release-ae-id 12-nobody@in.provider.com", "end-association 1"]);
    assert!(all.iter().all(|line| line["uid"].is_u64()));
}
