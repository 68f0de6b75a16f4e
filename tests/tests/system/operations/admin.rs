//! The administration of a running gateway: access, state and commands.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use saegis_tests::{CommandOutput, Gateway, LIGHT1, LIGHT2, Request, Setup, Tool, saegis};
use serde_json::Value;

fn ask(gateway: &Gateway, arguments: &[&str]) -> CommandOutput {
    saegis(&gateway.path(""), arguments)
}

#[test]
fn status_commands_show_gateway_state() {
    let gateway = Setup::new().start();
    let status = ask(&gateway, &["status", "--json"]).expect(0).json();
    assert_eq!(status["cse_id"], "/mn-cse-123456");
    assert_eq!(status["pid"], gateway.id());
    assert_eq!((&status["generation"], &status["associations"]), (&1.into(), &0.into()));
    let words = ask(&gateway, &["status"]).expect(0);
    assert!(words.out.contains("cse_id        /mn-cse-123456"), "{words:?}");

    let _light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let all = ask(&gateway, &["associations", "--json"]).expect(0).json();
    let all = all["associations"].as_array().unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["entity"], "AE Clight-AE1");
    assert_eq!(all[0]["credential_id"], format!("12-{}", LIGHT1.identity));
    assert_eq!(all[0]["suite"], "TLS_PSK_WITH_AES_128_CBC_SHA256");
    let words = ask(&gateway, &["associations"]).expect(0);
    assert!(words.out.starts_with("ID  ENTITY         CREDENTIAL_ID"), "{words:?}");

    let modules = ask(&gateway, &["modules", "--json"]).expect(0).json();
    assert_eq!(modules["modules"][1]["name"], "psk-table");
    assert_eq!(modules["tables"][0]["rows"], 2);
    let words = ask(&gateway, &["modules"]).expect(0);
    assert!(words.out.starts_with("generation 1\nNAME"), "{words:?}");
    for output in [&words.out, &status.to_string(), &modules.to_string()] {
        assert!(
            !output.contains(LIGHT1.key) && !output.contains(LIGHT2.key),
            "the output contains a key"
        );
    }
}

/// Adds the keys of all objects in a value, each once.
fn add_keys(value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            keys.extend(members.keys().cloned());
            members.values().for_each(|value| add_keys(value, keys));
        }
        Value::Array(items) => items.iter().for_each(|item| add_keys(item, keys)),
        _ => {}
    }
}

/// Programs of operators read these keys, so a change is announced in the changelog.
#[test]
fn json_keys_are_frozen() {
    let gateway = Setup::new().start();
    let _light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    for (command, expected) in [
        (
            "status",
            "address associations audit_head configuration cse_id generation pid policy \
             policy_faults refusals_head started version warnings",
        ),
        (
            "associations",
            "associations credential_id entity established expires id peer protocol saef suite",
        ),
        (
            "modules",
            "calls capabilities certificates exposed failures generation hook hooks median_us modules \
             name p99_us promoted read_by replaced replaces rows rules sha256 shadows short_keys \
             signed_at signed_by source tables warnings",
        ),
        ("ae-ids", "ae_ids"),
        ("peers", "peers"),
        ("reload", "configuration_changed generation outcome recovered"),
    ] {
        let mut keys = BTreeSet::new();
        add_keys(&ask(&gateway, &[command, "--json"]).expect(0).json(), &mut keys);
        let keys: Vec<_> = keys.into_iter().collect();
        assert_eq!(keys.join(" "), expected, "{command}");
    }
}

#[test]
fn reload_command_reloads_policy() {
    let gateway = Setup::new().start();
    let unchanged = ask(&gateway, &["reload"]).expect(0);
    assert_eq!(unchanged.out, "nothing has changed since generation 1\n");
    gateway.replace("policies/psk-lookup-table.csv", "ae_id,kpsa,kpsa_id\nCx,0g,x@y.z\n");
    let refused = ask(&gateway, &["reload"]).expect(4);
    assert!(refused.err.contains("psk-lookup-table.csv:2:4: kpsa"), "{refused:?}");
    assert!(refused.err.contains("generation 1 stays in force"), "{refused:?}");
    let table = gateway.table();
    gateway.replace("policies/psk-lookup-table.csv", table);
    let json = ask(&gateway, &["reload", "--json"]);
    assert!(json.json()["generation"].as_u64() >= Some(1), "{json:?}");
}

#[test]
fn end_association_command_ends_one_association() {
    let gateway = Setup::new().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let mut other = Tool::OpenSsl.connect(gateway.port(), LIGHT2);
    let all = ask(&gateway, &["associations", "--json"]).expect(0).json();
    let mut all = all["associations"].as_array().unwrap().iter();
    let first = all.find(|a| a["entity"] == "AE Clight-AE1").unwrap()["id"].to_string();
    ask(&gateway, &["end-association", &first]).expect(0);
    light.ended();
    other.ask(&Request::retrieve("/cse").from("Clight-AE2"));
    let left = ask(&gateway, &["associations", "--json"]).expect(0).json();
    assert_eq!(left["associations"].as_array().unwrap().len(), 1);
    let none = ask(&gateway, &["end-association", "999"]).expect(4);
    assert!(none.err.contains("there is no association 999"), "{none:?}");
}

#[test]
fn file_at_admin_socket_path_is_not_removed() {
    let setup = Setup::new().with("admin", "socket = \"policies/psk-lookup-table.csv\"");
    let table = setup.path("policies/psk-lookup-table.csv");
    let before = std::fs::read(&table).unwrap();
    let configuration = setup.configuration();
    let ran = saegis(configuration.parent().unwrap(), &["run"]).expect(2);
    assert!(ran.err.contains("admin.socket: "), "{ran:?}");
    assert_eq!(std::fs::read(&table).unwrap(), before);
}

#[test]
fn admin_socket_is_for_the_owner_only() {
    let mut gateway = Setup::new().start();
    let socket = gateway.path("state/admin.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // An invalid request gets an error or a close, and has no other effect.
    for line in ["rubbish\n", "{\"command\":\"all\"}\n", "\n", &format!("{}\n", "x".repeat(9000))] {
        use std::io::{Read as _, Write as _};
        let mut stream = UnixStream::connect(&socket).unwrap();
        let _ = stream.write_all(line.as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.is_empty() || answer.starts_with("{\"error\":"), "{answer}");
    }
    ask(&gateway, &["status"]).expect(0);
    // A second gateway does not replace the socket of the first.
    let second = ask(&gateway, &["run"]).expect(2);
    assert!(!second.err.is_empty());
    ask(&gateway, &["status"]).expect(0);
    gateway.signal("TERM");
    assert!(gateway.wait().is_some_and(|status| status.success()));
    assert!(!socket.exists());
    let none = ask(&gateway, &["status"]).expect(3);
    assert!(none.err.contains("no gateway answers at"), "{none:?}");
}
