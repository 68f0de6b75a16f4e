//! Missing policy files. Their content stays in force, every interface reports them as missing, and
//! revocations in other files take effect at once.

use std::fs;

use saegis_test_ca::{Name, Request as Certificate};
use saegis_tests::certificates::{CERTIFICATES, Identity, Pki, TlsProfile};
use saegis_tests::{
    CommandOutput, Credential, Gateway, LIGHT1, LIGHT2, Mark, Setup, Tool, saegis, wait_until,
};
use serde_json::Value;

const TABLE: &str = "policies/psk-lookup-table.csv";

fn ask(gateway: &Gateway, arguments: &[&str]) -> CommandOutput {
    saegis(&gateway.path(""), arguments)
}

fn status(gateway: &Gateway) -> Value {
    ask(gateway, &["status", "--json"]).expect(0).json()
}

/// Emptying a table, instead of removing the file, revokes all its rows.
#[test]
fn emptied_table_revokes_its_rows() {
    let gateway = Setup::new().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    gateway.in_force_after(|g| g.replace(TABLE, "ae_id,kpsa,kpsa_id\n"));
    light.ended();
    assert_eq!(Tool::OpenSsl.refused(gateway.port(), LIGHT1).alert, Some(20));
    assert_eq!(status(&gateway)["policy"], "in force");
}

/// One file disappears and a row of another file is removed in the same scan.
#[test]
fn missing_file_does_not_delay_revocation() {
    let setup = Setup::new().with_metrics();
    let gateway = setup.file("second.csv", "credential_id,ae_id\n12-X,C1\n").start();
    let [mut light1, mut light2] =
        [LIGHT1, LIGHT2].map(|light| Tool::OpenSsl.connect(gateway.port(), light));
    let table = gateway.table_without(LIGHT1);
    let mark = gateway.log().mark();
    gateway.in_force_after(|g| {
        fs::remove_file(g.path("policies/second.csv")).unwrap();
        g.replace(TABLE, table);
    });
    light1.ended();
    light2.assert_served_as("Clight-AE2");
    assert_eq!(Tool::OpenSsl.refused(gateway.port(), LIGHT1).alert, Some(20));
    // The missing file stays in force, and every interface reports it.
    let missing = gateway.log().wait_after(mark, "policy.file-missing");
    assert_eq!(missing.text("level"), "ERROR");
    assert!(missing.text("file").ends_with("policies/second.csv"), "{missing:?}");
    assert!(missing.message().contains("saegis reload --accept-removals"), "{missing:?}");
    let modules = ask(&gateway, &["modules", "--json"]).expect(0).json();
    let tables = modules["tables"].to_string();
    assert!(tables.contains("\"second\""), "{tables}");
    let state = status(&gateway);
    assert!(state["policy"].as_str().unwrap().starts_with("refused since 20"), "{state}");
    assert!(
        state["policy_faults"][0].as_str().unwrap().contains("second.csv: is missing"),
        "{state}"
    );
    let ready = gateway.monitor("/readyz");
    assert!(ready.text.starts_with("ready; the policy on disk is refused since 20"), "{ready:?}");
    assert!(gateway.monitor("/metrics").value("saegis_policy_outdated") > 0.0);
    let reload = ask(&gateway, &["reload"]).expect(4);
    assert!(reload.err.contains("second.csv: is missing"), "{reload:?}");
    // A fault in another file is reported as well, and refuses the whole generation.
    let good = gateway.table();
    let refused = gateway.refused_after("kpsa has", |g| {
        g.replace(TABLE, "ae_id,kpsa,kpsa_id\nCx,0g,x@y.z\n");
    });
    assert!(refused.text("file").ends_with(TABLE), "{refused:?}");
    assert!(status(&gateway)["policy_faults"].to_string().contains("second.csv: is missing"));
    gateway.replace(TABLE, good);
    ask(&gateway, &["reload", "--accept-removals"]).expect(0);
    // The gateway may load once more for the replaced file.
    wait_until("the policy is in force", || status(&gateway)["policy"] == "in force");
    wait_until("nothing is outdated", || {
        gateway.monitor("/metrics").value("saegis_policy_outdated").abs() < 0.1
    });
    let modules = ask(&gateway, &["modules", "--json"]).expect(0).json();
    assert!(!modules["tables"].to_string().contains("\"second\""), "{modules}");
    light2.assert_served_as("Clight-AE2");
}

/// The command loads the valid changes and reports the missing file.
#[test]
fn reload_reports_missing_file() {
    let gateway = Setup::new().file("second.csv", "credential_id,ae_id\n").start();
    let table = gateway.table_without(LIGHT1);
    let mark = gateway.log().mark();
    fs::remove_file(gateway.path("policies/second.csv")).unwrap();
    gateway.replace(TABLE, table);
    let reload = ask(&gateway, &["reload"]).expect(4);
    assert!(reload.err.contains("second.csv: is missing"), "{reload:?}");
    gateway.log().wait_after(mark, "generation.in-force");
    let mark = gateway.log().mark();
    gateway.write("policies/second.csv", "credential_id,ae_id\n");
    gateway.log().wait_after(mark, "generation.recovered");
}

/// Without its file the module would behave differently.
#[test]
fn module_keeps_missing_file() {
    let capabilities = "[\"policy-files\", \"policy-tables\", \"log\", \"clock\", \"supply-key-bytes\", \"read-stored-keys\"]";
    let manifest = format!("order = 1\ncapabilities = {capabilities}\nfiles = [\"probe.txt\"]\n");
    let gateway = Setup::new()
        .with("modules.grants", &format!("capability-probe = {capabilities}"))
        .file("probe.txt", "12345")
        .module("capability-probe", &manifest)
        .start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    gateway.refused_after("probe.txt: is missing, and the generation in force needs it", |g| {
        fs::remove_file(g.path("policies/probe.txt")).unwrap();
    });
    let table = gateway.table_without(LIGHT1);
    let with_light1 = gateway.table();
    gateway.in_force_after(|g| g.replace(TABLE, table));
    light.ended();
    gateway.in_force_after(|g| g.replace(TABLE, with_light1));
    let identity = format!("probe-{}", LIGHT1.identity);
    let probe = Credential { identity: &identity, ..LIGHT1 };
    let mark = gateway.log().mark();
    assert_eq!(Tool::OpenSsl.refused(gateway.port(), probe).alert, Some(20));
    let reason = gateway.handshake_refused(mark).message();
    assert!(reason.contains("file Some(5), other file None"), "{reason}");
}

/// Files of the certificate policy disappear one by one. A revocation list and the removal of a key
/// still take effect.
#[test]
fn certificates_are_revoked_despite_missing_files() {
    let pki = Pki::new();
    let authority = &pki.example.ae_authority;
    let gateway = pki.setup_with_list().start();
    let of_ae = |n| {
        let id = format!("//in.provider.com/mn-cse-123456/Cgone{n}");
        authority.issue(&Certificate::new("gone").name(Name::uri(id))).unwrap()
    };
    let all = [0, 1, 2, 3].map(of_ae);
    let connect =
        |light: &Identity| pki.connect(Tool::OpenSsl, gateway.port(), light, TlsProfile::Tls13);
    let mut stays = connect(&pki.identity(&pki.example.ae));
    let (mut serials, mut revoked) = (Vec::new(), Vec::new());
    let key = "policies/gw.key";
    for (n, file) in [CERTIFICATES, "policies/aes.pem", "policies/gw.pem", key].iter().enumerate() {
        let issued = &all[n];
        let identity = pki.identity(issued);
        let mut light = connect(&identity);
        revoked.push(identity);
        let moved = gateway.path("aside");
        let refused =
            gateway.refused_after("is missing, and the generation in force needs it", |g| {
                fs::rename(g.path(file), &moved).unwrap();
            });
        assert!(refused.text("file").ends_with(file), "{file}: {refused:?}");
        serials.push(issued.serial());
        let list = authority.revoke(&serials).unwrap();
        gateway.in_force_after(|g| g.replace("policies/aes.crl", list.der()));
        light.ended();
        let mark = gateway.log().mark();
        fs::rename(&moved, gateway.path(file)).unwrap();
        gateway.log().wait_after(mark, "generation.recovered");
    }
    // Certificates on a missing list stay revoked.
    let table = gateway.table_without(LIGHT1);
    let mut light1 = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    gateway.in_force_after(|g| {
        fs::remove_file(g.path("policies/aes.crl")).unwrap();
        g.replace(TABLE, table);
    });
    light1.ended();
    let refused = pki.refused(Tool::OpenSsl, gateway.port(), revoked.first(), TlsProfile::Tls13);
    assert_eq!(refused.alert, Some(44), "{refused:?}");
    assert_eq!(gateway.log().all(Mark::START, "association.revoked", 5).len(), 5);
    // Another file names the list, so its removal cannot be accepted.
    let reload = ask(&gateway, &["reload", "--accept-removals"]).expect(4);
    assert!(reload.err.contains("aes.crl: cannot be opened"), "{reload:?}");
    stays.assert_served_as("Clight-AE1");
}
