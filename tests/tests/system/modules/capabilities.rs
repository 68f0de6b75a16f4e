//! The effect of each capability, and its limits.

use saegis_tests::{Credential, LIGHT1, Mark, Setup, Tool};

const ALL: &str = "policy-tables\", \"policy-files\", \"log\", \"clock\", \"supply-key-bytes\", \"read-stored-keys";

#[test]
fn granted_capabilities_have_documented_effect() {
    let manifest = format!("order = 1\ncapabilities = [\"{ALL}\"]\nfiles = [\"probe.txt\"]\n");
    let gateway = Setup::new()
        .with("modules.grants", &format!("capability-probe = [\"{ALL}\"]"))
        .file("probe.txt", "12345")
        .file("other.txt", "not for the probe")
        .module("capability-probe", &manifest)
        .start();
    let identity = format!("probe-{}", LIGHT1.identity);
    let probe = Credential { identity: &identity, ..LIGHT1 };
    assert_eq!(Tool::OpenSsl.refused(gateway.port(), probe).alert, Some(20));
    let message = gateway.handshake_refused(Mark::START).message();
    for part in [
        "missing table refused true",
        "AE Some(\"Clight-AE1\")",
        "key as text None",
        "key in a column of text false",
        "no such column None",
        "key bytes Some(8)",
        "rows 64",
        "file Some(5), other file None, outside [None, None, None]",
        "keys of 0 false, 2 false, 3 true, 64 true, 65 false, zeros false",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let time: u64 =
        message.split("time ").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(now.abs_diff(time) < 60, "{time} is about {now}");
    assert!(gateway.log().text().contains("the probe was asked"));
    assert!(!message.contains(LIGHT1.key), "{message}");
    Tool::OpenSsl.connect(gateway.port(), LIGHT1);
}

#[test]
fn module_with_ungranted_capability_is_refused() {
    for missing in ["policy-files", "supply-key-bytes", "read-stored-keys"] {
        let granted = ["policy-files", "supply-key-bytes", "read-stored-keys"];
        let granted: Vec<_> = granted.iter().filter(|c| **c != missing).collect();
        let gateway = Setup::new()
            .with("modules.grants", &format!("capability-probe = {granted:?}"))
            .file("probe.txt", "12345")
            .start();
        let manifest = format!("capabilities = [\"{ALL}\"]\nfiles = [\"probe.txt\"]\n");
        let why = format!("requests the capability {missing}, which the gateway does not grant");
        gateway.refused_after(&why, |gateway| gateway.install("capability-probe", &manifest));
    }
}
