//! Policy files that are gone: their content goes on to count, everything says that they are missed, and
//! what other files withdraw is withdrawn at once.

use std::fs;

use saegis_test_ca::{Name, Request as Certificate};
use saegis_tests::certificates::{CERTIFICATES, Identity, Pki, Way, anchor};
use saegis_tests::{Credential, Gateway, LIGHT1, LIGHT2, Mark, Ran, Setup, Tool, saegis};
use serde_json::Value;

const TABLE: &str = "policies/psk-lookup-table.csv";

fn ask(gateway: &Gateway, arguments: &[&str]) -> Ran {
    saegis(&gateway.path(""), arguments)
}

fn status(gateway: &Gateway) -> Value {
    ask(gateway, &["status", "--json"]).expect(0).json()
}

/// A table is emptied, not removed, to revoke all that is in it.
#[test]
fn a_table_without_rows_is_a_decision() {
    let gateway = Setup::new().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    gateway.in_force_after(|g| g.replace(TABLE, "ae_id,kpsa,kpsa_id\n"));
    light.ended();
    assert_eq!(Tool::OpenSsl.refused(gateway.port(), LIGHT1).alert, Some(20));
    assert_eq!(status(&gateway)["policy"], "in force");
}

/// In one look a table is gone and a row of another is taken out.
#[test]
fn a_file_that_is_missed_holds_no_revocation_up() {
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
    light2.alive("Clight-AE2");
    assert_eq!(Tool::OpenSsl.refused(gateway.port(), LIGHT1).alert, Some(20));
    // What is gone goes on to count, and everything says that it is missed.
    let missed = gateway.log().wait_after(mark, "policy.file-missing");
    assert_eq!(missed.text("level"), "ERROR");
    assert!(missed.text("file").ends_with("policies/second.csv"), "{missed:?}");
    assert!(missed.message().contains("saegis reload --accept-removals"), "{missed:?}");
    let modules = ask(&gateway, &["modules", "--json"]).expect(0).json();
    let tables = modules["tables"].to_string();
    assert!(tables.contains("\"second\""), "{tables}");
    let state = status(&gateway);
    assert!(state["policy"].as_str().unwrap().starts_with("refused since 20"), "{state}");
    assert!(state["policy_faults"][0].as_str().unwrap().contains("second.csv: is gone"), "{state}");
    let ready = gateway.monitor("/readyz");
    assert!(ready.text.starts_with("ready; the policy on disk is refused since 20"), "{ready:?}");
    assert!(gateway.monitor("/metrics").value("saegis_policy_behind") > 0.0);
    let reload = ask(&gateway, &["reload"]).expect(4);
    assert!(reload.err.contains("second.csv: is gone"), "{reload:?}");
    // A fault elsewhere is told with it, and refuses all.
    let good = gateway.table();
    let refused = gateway.refused_after("kpsa has", |g| {
        g.replace(TABLE, "ae_id,kpsa,kpsa_id\nCx,0g,x@y.z\n");
    });
    assert!(refused.text("file").ends_with(TABLE), "{refused:?}");
    assert!(status(&gateway)["policy_faults"].to_string().contains("second.csv: is gone"));
    gateway.replace(TABLE, good);
    ask(&gateway, &["reload", "--accept-removals"]).expect(0);
    assert_eq!(status(&gateway)["policy"], "in force");
    assert!(gateway.monitor("/metrics").value("saegis_policy_behind").abs() < 0.1);
    let modules = ask(&gateway, &["modules", "--json"]).expect(0).json();
    assert!(!modules["tables"].to_string().contains("\"second\""), "{modules}");
    light2.alive("Clight-AE2");
}

/// The command puts in force what it can, and says what is missed.
#[test]
fn a_reload_says_what_is_missed() {
    let gateway = Setup::new().file("second.csv", "credential_id,ae_id\n").start();
    let table = gateway.table_without(LIGHT1);
    gateway.in_force_after(|g| {
        fs::remove_file(g.path("policies/second.csv")).unwrap();
        g.replace(TABLE, table);
        let reload = ask(g, &["reload"]).expect(4);
        assert!(reload.err.contains("second.csv: is gone"), "{reload:?}");
    });
    let mark = gateway.log().mark();
    gateway.write("policies/second.csv", "credential_id,ae_id\n");
    gateway.log().wait_after(mark, "generation.recovered");
}

/// It would be another module without it.
#[test]
fn a_module_keeps_a_file_that_is_missed() {
    let capabilities = "[\"policy-files\", \"policy-tables\", \"log\", \"clock\", \"supply-key-bytes\", \"read-stored-keys\"]";
    let manifest = format!("order = 1\ncapabilities = {capabilities}\nfiles = [\"probe.txt\"]\n");
    let gateway = Setup::new()
        .with("modules.grants", &format!("capability-probe = {capabilities}"))
        .file("probe.txt", "12345")
        .module("capability-probe", &manifest)
        .start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    gateway.refused_after("probe.txt: is gone, and the generation in force has it", |g| {
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
    let told = gateway.handshake_refused(mark).message();
    assert!(told.contains("file Some(5), other file None"), "{told}");
}

/// Each kind of file that has to do with certificates is gone, one by one, and a revocation list still
/// comes into force, and so does a key that is taken out.
#[test]
fn certificates_are_revoked_despite_missing_files() {
    let pki = Pki::new();
    let authority = &pki.example.ae_authority;
    let setup = pki.setup();
    let text = fs::read_to_string(setup.path(CERTIFICATES)).unwrap();
    let entry = anchor("aes.pem", &["ae-id"]);
    let text = text.replace(&entry, &format!("{entry}crls = [\"aes.crl\"]\n"));
    setup.write(CERTIFICATES, text.as_bytes());
    setup.write("policies/aes.crl", authority.revoke(&[]).unwrap().pem().as_bytes());
    let gateway = setup.start();
    let of_ae = |n| {
        let id = format!("//in.provider.com/mn-cse-123456/Cgone{n}");
        authority.issue(&Certificate::new("gone").name(Name::uri(id))).unwrap()
    };
    let all = [0, 1, 2, 3].map(of_ae);
    let connect = |light: &Identity| pki.connect(Tool::OpenSsl, gateway.port(), light, Way::Tls13);
    let mut stays = connect(&pki.identity(&pki.example.ae));
    let (mut serials, mut revoked) = (Vec::new(), Vec::new());
    let key = "policies/gw.key";
    for (n, file) in [CERTIFICATES, "policies/aes.pem", "policies/gw.pem", key].iter().enumerate() {
        let issued = &all[n];
        let identity = pki.identity(issued);
        let mut light = connect(&identity);
        revoked.push(identity);
        let aside = gateway.path("aside");
        let refused = gateway.refused_after("is gone, and the generation in force has it", |g| {
            fs::rename(g.path(file), &aside).unwrap();
        });
        assert!(refused.text("file").ends_with(file), "{file}: {refused:?}");
        serials.push(issued.serial());
        let list = authority.revoke(&serials).unwrap();
        gateway.in_force_after(|g| g.replace("policies/aes.crl", list.der()));
        light.ended();
        let mark = gateway.log().mark();
        fs::rename(&aside, gateway.path(file)).unwrap();
        gateway.log().wait_after(mark, "generation.recovered");
    }
    // What a list has revoked stays so without the list.
    let table = gateway.table_without(LIGHT1);
    let mut light1 = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    gateway.in_force_after(|g| {
        fs::remove_file(g.path("policies/aes.crl")).unwrap();
        g.replace(TABLE, table);
    });
    light1.ended();
    let refused = pki.refused(Tool::OpenSsl, gateway.port(), revoked.first(), Way::Tls13);
    assert_eq!(refused.alert, Some(44), "{refused:?}");
    assert_eq!(gateway.log().all(Mark::START, "association.revoked", 5).len(), 5);
    // It is named by another file, so nobody can accept that it is gone.
    let reload = ask(&gateway, &["reload", "--accept-removals"]).expect(4);
    assert!(reload.err.contains("aes.crl: can't be opened"), "{reload:?}");
    stays.alive("Clight-AE1");
}
