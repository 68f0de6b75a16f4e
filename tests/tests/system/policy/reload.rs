//! Policy changes at run time. Valid changes take effect at once; invalid ones are reported with
//! their position and change nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use saegis_tests::{
    Client, Credential, Gateway, LIGHT1, LIGHT2, Mark, Request, Setup, Tool, with_each_client,
};

with_each_client!(
    added_row_admits_credential,
    removed_row_ends_its_association_only,
    changed_key_ends_association,
    changed_ae_id_ends_association,
    invalid_table_changes_nothing,
);

const TABLE: &str = "policies/psk-lookup-table.csv";

const LIGHT3: Credential<'static> =
    Credential { identity: "AE123456789018-Light@in.provider.com", key: "0f1e2d3c4b5a6978" };

fn registered(tool: Tool, gateway: &Gateway, of: Credential<'_>, stem: &str) -> Client {
    let mut light = tool.connect(gateway.port(), of);
    light.ask(&Request::create_ae(stem).from(stem)).expect(201, 2001);
    light
}

fn assert_registered(light: &mut Client, stem: &str) {
    let own = Request::retrieve(&format!("/cse/{stem}")).from(stem);
    light.ask(&own).expect(200, 2000);
}

fn with_light3(gateway: &Gateway) -> String {
    format!("{}Clight-AE3,{},{}\n", gateway.table(), LIGHT3.key, LIGHT3.identity)
}

fn added_row_admits_credential(tool: Tool) {
    let mut gateway = Setup::new().start();
    let process = gateway.id();
    tool.refused(gateway.port(), LIGHT3);
    let table = with_light3(&gateway);
    let event = gateway.in_force_after(|g| g.write(TABLE, table));
    assert_eq!(event.number("generation"), 2);
    assert!(event.message().contains("psk-lookup-table (3 rows)"), "{}", event.message());
    let mut light = registered(tool, &gateway, LIGHT3, "Clight-AE3");
    assert_registered(&mut light, "Clight-AE3");
    assert!(gateway.runs() && gateway.id() == process);
    // Rewriting the same content does not create a generation.
    let mark = gateway.log().mark();
    let same = gateway.table();
    gateway.write(TABLE, same);
    let event = gateway.in_force_after(|g| g.write(TABLE, g.table_without(LIGHT1)));
    assert_eq!(event.number("generation"), 3);
    assert_eq!(gateway.log().all(mark, "generation.in-force", 1).len(), 1);
}

fn removed_row_ends_its_association_only(tool: Tool) {
    let gateway = Setup::new().start();
    let mut light1 = registered(tool, &gateway, LIGHT1, "Clight-AE1");
    let mut light2 = registered(tool, &gateway, LIGHT2, "Clight-AE2");
    let table = gateway.table_without(LIGHT1);
    gateway.in_force_after(|g| g.replace(TABLE, table));

    let revoked = gateway.log().wait("association.revoked");
    assert_eq!(revoked.text("credential_id"), format!("12-{}", LIGHT1.identity));
    assert_eq!(revoked.number("generation"), 2);
    light1.ended();
    let ended = gateway.log().wait("association.ended");
    assert_eq!(ended.number("association"), revoked.number("association"));
    assert_eq!(ended.text("why"), "revoked");

    assert_registered(&mut light2, "Clight-AE2");
    let mark = gateway.log().mark();
    assert_eq!(tool.refused(gateway.port(), LIGHT1).alert, Some(20));
    assert_eq!(gateway.handshake_refused(mark).text("cause"), "unknown-identity");
    assert_registered(&mut light2, "Clight-AE2");
    assert_eq!(gateway.log().all(Mark::START, "association.revoked", 1).len(), 1);
}

fn changed_key_ends_association(tool: Tool) {
    let gateway = Setup::new().start();
    let mut light1 = registered(tool, &gateway, LIGHT1, "Clight-AE1");
    let mut light2 = registered(tool, &gateway, LIGHT2, "Clight-AE2");
    let renewed = Credential { key: "00112233445566778899aabbccddeeff", ..LIGHT1 };
    let table = gateway.table().replace(LIGHT1.key, renewed.key);
    gateway.in_force_after(|g| g.write(TABLE, table));
    let revoked = gateway.log().wait("association.revoked");
    assert!(revoked.message().contains("the key was changed"), "{}", revoked.message());
    light1.ended();
    let mark = gateway.log().mark();
    assert_eq!(tool.refused(gateway.port(), LIGHT1).alert, Some(20));
    assert_eq!(gateway.handshake_refused(mark).text("cause"), "wrong-key");
    let mut light1 = tool.connect(gateway.port(), renewed);
    assert_registered(&mut light1, "Clight-AE1");
    assert_registered(&mut light2, "Clight-AE2");
}

fn changed_ae_id_ends_association(tool: Tool) {
    let gateway = Setup::new().start();
    let mut light1 = registered(tool, &gateway, LIGHT1, "Clight-AE1");
    let table = gateway.table().replace("Clight-AE1", "Clight-AE9");
    gateway.in_force_after(|g| g.write(TABLE, table));
    light1.ended();
    let mut light9 = tool.connect(gateway.port(), LIGHT1);
    let old = Request::retrieve("/cse/Clight-AE1").from("Clight-AE1");
    light9.ask(&old).expect_refusal(403, 4106);
    light9.ask(&Request::create_ae("light9").from("Clight-AE9")).expect(201, 2001);
}

/// Breaks the table in several ways. Each fault is reported with its position, and the lights stay
/// connected.
fn invalid_table_changes_nothing(tool: Tool) {
    let gateway = Setup::new().start();
    let mut light1 = registered(tool, &gateway, LIGHT1, "Clight-AE1");
    let good = gateway.table();
    let row3 = |cells: &str| format!("{good}{cells}\n");
    for (table, position, what) in [
        (good.replace("1a2b", "1a2x"), ":2:12: ", "kpsa has an invalid hexadecimal"),
        (good.replace("1a2b", "1a2"), ":2:12: ", "kpsa has an odd number of hexadecimal digits"),
        (
            row3(&format!("Cx,{},{}", LIGHT3.key, LIGHT1.identity)),
            ":4:21: ",
            "is already in line 2",
        ),
        (row3("Cx,1a2b3c,nobody"), ":4:11: ", "is not a KpsaID"),
        (row3("lamp,1a2b3c,x@a.b"), ":4:1: ", "is not an AE-ID-Stem"),
        (row3("Cx,00"), ":4:1: ", "has 2 fields, but the header has 3"),
        (good.replace("kpsa,", "key,"), ":1:7: ", "unknown column"),
        (good.trim_end().to_string(), ":3:1: ", "the last line has no line break"),
        (row3("Cx,,x@a.b"), ":4:4: ", "kpsa is empty"),
        (good.replace("ae_id,kpsa,", "comment,kpsa,"), ":1:1: ", "needs a column ae_id"),
        (String::new(), ": ", "is empty"),
    ] {
        let refused = gateway.refused_after(what, |g| g.replace(TABLE, &table));
        let message = refused.message();
        let file = gateway.path(TABLE);
        assert!(message.starts_with(&format!("{}{position}", file.display())), "{message}");
        assert!(message.ends_with("generation 1 stays in force"), "{message}");
        assert_eq!(refused.number("in_force"), 1);
        assert!(!message.contains(LIGHT3.key) && !message.contains("1a2"), "a key: {message}");
        assert_registered(&mut light1, "Clight-AE1");
    }
    tool.connect(gateway.port(), LIGHT2).close();
    // A corrected table takes effect.
    let event = gateway.in_force_after(|g| {
        g.replace(TABLE, row3(&format!("Clight-AE3,{},{}", LIGHT3.key, LIGHT3.identity)));
    });
    assert_eq!(event.number("generation"), 2);
    assert_registered(&mut light1, "Clight-AE1");
    tool.connect(gateway.port(), LIGHT3);
}

#[test]
fn world_readable_table_is_refused() {
    // The mode of a file that git checks out.
    let setup = Setup::new();
    set_mode(&setup.table(), 0o644);
    let what = "psk-lookup-table.csv: has keys, and every user of this machine can read it";
    let ran = setup.run_until_exit();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains(what) && ran.err.contains("chmod o="), "{ran:?}");
    // The group may be that of the gateway.
    set_mode(&setup.table(), 0o640);
    let gateway = setup.start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    // A change of the mode alone is detected.
    gateway.refused_after(what, |g| {
        g.write(TABLE, with_light3(g));
        set_mode(&g.path(TABLE), 0o644);
    });
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).expect(201, 2001);
    gateway.in_force_after(|g| set_mode(&g.path(TABLE), 0o600));
    Tool::OpenSsl.connect(gateway.port(), LIGHT3).close();
    // A table without keys may be readable.
    gateway.in_force_after(|g| {
        g.write("policies/certificate-table.csv", "credential_id,ae_id\n");
        set_mode(&g.path("policies/certificate-table.csv"), 0o644);
    });
}

fn set_mode(file: &Path, mode: u32) {
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn world_readable_table_is_accepted_if_allowed() {
    let setup = Setup::new().with("policy", "allow-readable-tables = true");
    let table = setup.table();
    let gateway = setup.start();
    assert!(!gateway.log().text().contains("policy.exposed"));
    gateway.in_force_after(|g| {
        g.write(TABLE, with_light3(g));
        set_mode(&table, 0o644);
    });
    let warned = gateway.log().wait("policy.exposed");
    assert_eq!(warned.text("table"), "psk-lookup-table");
}

/// A table that is not UTF-8, and a sparse file that is too large.
#[test]
fn binary_or_oversized_table_changes_nothing() {
    let gateway = Setup::new().start();
    let mut light1 = registered(Tool::OpenSsl, &gateway, LIGHT1, "Clight-AE1");
    let row = [gateway.table().as_bytes(), b"Cx,1a2b3c,\xff\xfe@a.b\n"].concat();
    let refused = gateway.refused_after("not UTF-8", |g| g.replace(TABLE, &row));
    assert!(refused.message().contains(&format!("{TABLE}:4:11: ")), "{refused:?}");
    assert_registered(&mut light1, "Clight-AE1");
    let refused = gateway.refused_after("is larger than 536870912 bytes", |g| {
        let large = g.path("policies/large.new");
        fs::File::create(&large).unwrap().set_len(2 << 30).unwrap();
        fs::rename(large, g.path(TABLE)).unwrap();
    });
    assert!(refused.message().contains(TABLE), "{refused:?}");
    assert_registered(&mut light1, "Clight-AE1");
    Tool::OpenSsl.connect(gateway.port(), LIGHT2).close();
}

#[test]
fn several_faults_are_reported_at_once() {
    let gateway = Setup::new().start();
    let bad = "ae_id,kpsa,kpsa_id\nlamp,zz,x@a.b\nCx,,y@a.b\n";
    let mark = gateway.log().mark();
    gateway.refused_after(":3:4: kpsa", |g| g.replace(TABLE, bad));
    assert_eq!(gateway.log().all(mark, "generation.refused", 2).len(), 2);
}

#[test]
fn removed_table_is_reported_missing() {
    let gateway = Setup::new().start();
    let mut light1 = registered(Tool::OpenSsl, &gateway, LIGHT1, "Clight-AE1");
    gateway.remove(TABLE);
    light1.ended();
    let mark = gateway.log().mark();
    assert_eq!(Tool::OpenSsl.refused(gateway.port(), LIGHT1).alert, Some(20));
    let refused = gateway.handshake_refused(mark);
    assert!(refused.message().contains("there is no table psk-lookup-table"));
}

#[test]
fn unrelated_files_are_ignored() {
    let gateway = Setup::new().start();
    let mark = gateway.log().mark();
    for name in [".psk-lookup-table.csv.swp", ".#x.csv", "notes.txt", "psk-lookup-table.csv~"] {
        gateway.write(&format!("policies/{name}"), "rubbish");
        gateway.write(&format!("policies/modules/{name}"), "rubbish");
    }
    gateway.write("policies/modules/.half.wasm", "rubbish");
    let event = gateway.in_force_after(|g| g.replace(TABLE, with_light3(g)));
    assert_eq!(event.number("generation"), 2);
    assert!(gateway.log().all(mark, "generation.refused", 0).is_empty());
}

#[test]
fn changed_manifest_is_reloaded() {
    let gateway = Setup::new().start();
    let manifest = "policies/modules/psk-table.toml";
    for (text, why) in [
        ("capabilities = []", "psk-table.wasm: imports the capability policy-tables, but its"),
        ("order = \"first\"", "psk-table.toml:1:9: invalid type"),
        ("order = 1\ncapabilites = []", "psk-table.toml:2:1: unknown field"),
        (
            "capabilities = [\"policy-tables\", \"supply-key-bytes\"]",
            "requests the capability supply-key-bytes, which the gateway does not grant",
        ),
    ] {
        gateway.refused_after(why, |g| g.replace(manifest, text));
    }
    let event = gateway.in_force_after(|g| {
        g.replace(manifest, "order = 7\ncapabilities = [\"policy-tables\"]\n");
    });
    assert_eq!(event.number("generation"), 2);
    assert!(event.message().contains("modules psk-table, originator-check"), "{event:?}");
    Tool::OpenSsl.connect(gateway.port(), LIGHT1);
}

/// Returns the table with light 1 only and this expiry.
fn table_expiring_at(expires: &str) -> String {
    let Credential { identity, key } = LIGHT1;
    format!("ae_id,kpsa,kpsa_id,expires\nClight-AE1,{key},{identity},{expires}\n")
}

#[test]
fn expired_row_ends_association() {
    let gateway = Setup::new().start();
    gateway.in_force_after(|g| g.replace(TABLE, table_expiring_at("20990101T000000")));
    let mut light = registered(Tool::OpenSsl, &gateway, LIGHT1, "Clight-AE1");
    gateway.in_force_after(|g| g.replace(TABLE, table_expiring_at("20200101T000000")));
    light.ended();
    let mark = gateway.log().mark();
    assert_eq!(Tool::OpenSsl.refused(gateway.port(), LIGHT1).alert, Some(20));
    assert!(gateway.handshake_refused(mark).message().contains("the credential has expired"));
}

#[test]
fn association_ends_when_row_expires() {
    let gateway = Setup::new().start();
    let date = Command::new("date").args(["-u", "-d", "3 seconds", "+%Y%m%dT%H%M%S"]).output();
    let soon = String::from_utf8(date.unwrap().stdout).unwrap();
    gateway.in_force_after(|g| g.replace(TABLE, table_expiring_at(soon.trim())));
    let mut light = registered(Tool::OpenSsl, &gateway, LIGHT1, "Clight-AE1");
    light.ended();
    assert_eq!(gateway.log().wait("association.ended").text("why"), "credential expired");
    assert_eq!(Tool::OpenSsl.refused(gateway.port(), LIGHT1).alert, Some(20));
}

#[test]
fn handshakes_succeed_while_policy_changes() {
    let gateway = Setup::new().start();
    let good = gateway.table();
    let mut light = registered(Tool::OpenSsl, &gateway, LIGHT1, "Clight-AE1");
    for round in 0..10 {
        let mark = gateway.log().mark();
        gateway
            .replace(TABLE, format!("{good}Cother,1a2b{round:02},other-{round}@in.provider.com\n"));
        // Before, during or after the generation change.
        for _ in 0..3 {
            Tool::OpenSsl.connect(gateway.port(), LIGHT2).close();
            assert_registered(&mut light, "Clight-AE1");
        }
        gateway.log().wait_after(mark, "generation.in-force");
    }
    assert!(gateway.log().all(Mark::START, "association.revoked", 0).is_empty());
}

/// Replaces the policy folder with another one by renames.
#[test]
fn replaced_policy_folder_is_watched() {
    let gateway = Setup::new().start();
    let (policies, old, new) =
        (gateway.path("policies"), gateway.path("policies.old"), gateway.path("policies.new"));
    let copied = Command::new("cp").args(["-r"]).arg(&policies).arg(&new).status();
    assert!(copied.unwrap().success());
    gateway.write("policies.new/psk-lookup-table.csv", with_light3(&gateway));
    gateway.in_force_after(|_| {
        fs::rename(&policies, &old).unwrap();
        fs::rename(&new, &policies).unwrap();
    });
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT3);
    // Changes in the new folder are detected.
    let table = gateway.table_without(LIGHT1);
    gateway.in_force_after(|g| g.replace(TABLE, &table));
    let table: Vec<_> = table.lines().filter(|row| !row.contains(LIGHT3.identity)).collect();
    gateway.in_force_after(|g| g.replace(TABLE, table.join("\n") + "\n"));
    light.ended();
    assert_eq!(Tool::OpenSsl.refused(gateway.port(), LIGHT1).alert, Some(20));
}

/// Container platforms mount configuration this way: links through a folder link that is switched.
#[test]
fn switched_folder_link_is_detected() {
    let gateway = Setup::new().start();
    let folder = gateway.path("policies");
    for (name, table) in [("v1", gateway.table()), ("v2", with_light3(&gateway))] {
        fs::create_dir(folder.join(name)).unwrap();
        gateway.write(&format!("policies/{name}/table.csv"), table);
    }
    symlink("v1", folder.join("..data")).unwrap();
    symlink("..data/table.csv", folder.join("link")).unwrap();
    fs::rename(folder.join("link"), gateway.path(TABLE)).unwrap();
    Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
    gateway.in_force_after(|_| {
        symlink("v2", folder.join("..data.new")).unwrap();
        fs::rename(folder.join("..data.new"), folder.join("..data")).unwrap();
    });
    Tool::OpenSsl.connect(gateway.port(), LIGHT3);
}

/// SIGHUP means reload, and does not end the gateway.
#[test]
fn hangup_signal_reloads_policy() {
    let mut gateway = Setup::new().start();
    let mut light = registered(Tool::OpenSsl, &gateway, LIGHT1, "Clight-AE1");
    gateway.signal("HUP");
    let table = with_light3(&gateway);
    gateway.in_force_after(|g| {
        g.replace(TABLE, table);
        g.signal("HUP");
    });
    Tool::OpenSsl.connect(gateway.port(), LIGHT3);
    assert_registered(&mut light, "Clight-AE1");
    assert!(gateway.runs());
}

#[test]
fn directory_named_as_table_is_refused() {
    let gateway = Setup::new().start();
    gateway.refused_after("lights.csv: is not a file", |g| {
        fs::create_dir(g.path("policies/lights.csv")).unwrap();
    });
    Tool::OpenSsl.connect(gateway.port(), LIGHT1);
}
