//! `saegis check` reports the faults of a configuration with their positions, and a start reports
//! the same.

use std::net::TcpListener;

use saegis_tests::wasm::CORE_MODULE;
use saegis_tests::{CommandOutput, LIGHT1, LIGHT2, Setup, saegis};
use serde_json::{Value, json};

/// Runs a `saegis` command in the folder of a setup.
fn run(setup: &Setup, arguments: &[&str]) -> CommandOutput {
    let file = setup.configuration();
    saegis(file.parent().unwrap(), arguments)
}

/// Asserts that the check command and a start refuse a setup with these faults.
#[track_caller]
fn assert_refused(setup: &Setup, faults: &[&str]) {
    let checked = run(setup, &["check"]).expect(2);
    let lines: Vec<_> = checked.err.lines().collect();
    assert_eq!(lines.len(), faults.len(), "{checked:?}");
    for (line, fault) in lines.iter().zip(faults) {
        assert!(line.starts_with(&format!("error: {fault}")), "{line}\n{fault}");
    }
    assert!(checked.out.is_empty(), "{checked:?}");
    let ran = run(setup, &[setup.verb(), "--config", "saegis.toml"]).expect(2);
    let last: Vec<_> = ran.err.lines().filter(|l| l.starts_with("error: ")).collect();
    assert_eq!(last, lines, "{ran:?}");
    assert!(ran.out.is_empty(), "{ran:?}");
    for key in [LIGHT1.key, LIGHT2.key] {
        assert!(!checked.err.contains(key) && !ran.err.contains(key), "the output contains a key");
    }
}

#[test]
fn valid_setup_is_summarized() {
    let setup = Setup::new();
    let checked = run(&setup, &["check"]).expect(0);
    assert_eq!(
        checked.out.lines().collect::<Vec<_>>(),
        [
            "saegis.toml: good, with a warning",
            "  module      originator-check: impersonation-check; no capabilities",
            "  module      psk-table: credential-lookup; may use policy-tables",
            "  table       psk-lookup-table: 2 rows",
            "  warning     2 of 2 keys in psk-lookup-table have less than 16 bytes, or a pattern; they can be guessed \
             from a recorded handshake; the first is in line 2",
        ]
    );
    // Relative paths in the configuration are resolved in its folder, whatever the working
    // directory is.
    let file = setup.path("saegis.toml");
    let elsewhere = saegis("/".as_ref(), &["check", "--config", file.to_str().unwrap()]);
    assert!(elsewhere.expect(0).out.starts_with(&format!("{}: good, with", file.display())));
}

#[test]
fn valid_maf_setup_is_summarized() {
    let setup = Setup::maf("maf.in.provider.com");
    let checked = run(&setup, &["check"]).expect(0);
    assert_eq!(
        checked.out.lines().collect::<Vec<_>>(),
        [
            "saegis.toml: good",
            "  module      km-table: credential-lookup; may use policy-tables",
            "  module      maf-rules: key-registration-check; may use policy-files",
            "  module      originator-check: impersonation-check; no capabilities",
            "  table       km-table: 0 rows",
        ]
    );
    assert!(!setup.path("state/maf.redb").exists());
}

#[test]
fn invalid_maf_setup_is_reported_with_position() {
    let setup = Setup::maf("maf.in.provider.com").with("maf", "longest = 1").with("cse", "a = 1");
    assert_refused(
        &setup,
        &["saegis.toml:5:1: unknown field `longest`", "saegis.toml:16:2: unknown field `cse`"],
    );
    assert_refused(&Setup::maf("maf_1"), &["saegis.toml:2:8: \"maf_1\" "]);
    let setup = Setup::maf("maf.in.provider.com").file("km-table.csv", "km_id\nx\n");
    assert_refused(
        &setup,
        &[
            "policies/km-table.csv:1:1: a table with a column km_id needs a column km",
            "policies/km-table.csv:1:1: a table with a column km_id needs a column client_id",
        ],
    );
    let setup = Setup::maf("maf.in.provider.com");
    setup.write("store.key", b"5f5f");
    assert_refused(&setup, &["store.key: "]);
}

#[test]
fn maf_and_gateway_configurations_are_distinguished() {
    let maf = Setup::maf("maf.in.provider.com");
    let ran = run(&maf, &["run"]).expect(2);
    assert_eq!(ran.err, "error: this is the configuration of a MAF; run it with saegis maf\n");
    let ran = run(&Setup::new(), &["maf", "--config", "saegis.toml"]).expect(2);
    assert_eq!(ran.err, "error: this is not the configuration of a MAF: [maf] is missing\n");
}

#[test]
fn valid_setup_is_summarized_in_json() {
    let report = run(&Setup::new(), &["check", "--json"]).expect(0).json();
    let modules = report["modules"].as_array().unwrap();
    let names: Vec<_> = modules.iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["originator-check", "psk-table"]);
    assert_eq!(modules[1]["hooks"], json!(["credential-lookup"]));
    assert_eq!(modules[1]["capabilities"], json!(["policy-tables"]));
    assert_eq!(modules[1]["sha256"].as_str().unwrap().len(), 64);
    let table = &report["tables"][0];
    assert_eq!((&table["name"], &table["rows"]), (&json!("psk-lookup-table"), &json!(2)));
    assert_eq!(table["short_keys"], 2);
}

#[test]
fn check_opens_neither_port_nor_store() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let setup = Setup::new();
    setup.configuration();
    let text = std::fs::read_to_string(setup.path("saegis.toml")).unwrap();
    let taken = text.replace("127.0.0.1:0", &address.to_string());
    setup.write("taken.toml", taken.as_bytes());
    let folder = setup.path("");
    saegis(&folder, &["check", "--config", "taken.toml"]).expect(0);
    assert!(!setup.path("state/cse.redb").exists());
    let ran = saegis(&folder, &["run", "--config", "taken.toml"]).expect(2);
    let why = format!("error: taken.toml: cannot bind listen.address {address}: ");
    assert!(ran.err.lines().any(|l| l.starts_with(&why)), "{ran:?}");
}

#[test]
fn invalid_configuration_is_reported_with_position() {
    // Lines added to [listen] start at line 7.
    for (line, fault) in [
        (
            "adress = \"127.0.0.1:1\"",
            "7:1: unknown field `adress`, expected one of `address`, `suites`, `resumption`",
        ),
        ("suites = [\"TLS_RSA\"]", "7:10: \"TLS_RSA\" is not a cipher suite for pre-shared keys"),
        ("suites = []", "7:10: the list of cipher suites is empty; omit it for the default"),
        ("suites = 5", "7:10: invalid type"),
        ("address = \"127.0.0.1:1\"", "7:1: duplicate key"),
    ] {
        assert_refused(&Setup::new().with("listen", line), &[&format!("saegis.toml:{fault}")]);
    }
    assert_refused(
        &Setup::new().with("lsiten", "address = 1"),
        &["saegis.toml:11:2: unknown field"],
    );
}

#[test]
fn invalid_values_are_reported_in_one_run() {
    let setup = Setup::new()
        .with("limits", "connections = 0")
        .with("limits", "idle-seconds = 0")
        .with("modules", "memory-bytes = 1")
        .with("upstream", "url = \"https://cse:8080/path\"\nmax-packet-bytes = 2000")
        .with("cse", "csebase-name = \"-\"");
    assert_refused(
        &setup,
        &[
            "saegis.toml:4:16: cse.csebase-name: \"-\" is not a resource name",
            "saegis.toml:13:15: limits.connections: must be from 1 to",
            "saegis.toml:14:16: limits.idle-seconds: must be from 1 to",
            "saegis.toml:17:16: modules.memory-bytes: must be from",
            "saegis.toml:20:7: upstream.url: https://cse:8080/path is not of the form",
            "saegis.toml:21:20: upstream.max-packet-bytes: has no effect without an MQTT server",
        ],
    );
}

/// Syntax errors, unknown keys, wrong types, invalid values, a manifest, a table and a module: one
/// run reports all faults.
#[test]
fn faults_in_several_files_are_reported_in_one_run() {
    let setup = Setup::new()
        .with("listen", "suites = 5")
        .with("listen", "adress = \"127.0.0.1:1\"")
        .with("limits", "connections = 0")
        .with("limits", "idle-seconds = \"long\"")
        .with("limits", "drain-seconds = 1 2")
        .with("lsiten", "address = 1")
        .file("psk-lookup-table.csv", "ae_id,kpsa,kpsa_id\nlamp,zz,x@a.b\nCx,,y@a.b\n")
        .file("modules/psk-table.toml", "order = -1\ncapabilites = []\n");
    setup.write("policies/modules/core.wasm", CORE_MODULE);
    let checked = run(&setup, &["check"]).expect(2);
    let lines: Vec<_> = checked.err.lines().collect();
    let wanted = [
        "saegis.toml:7:10: invalid type",
        "saegis.toml:8:1: unknown field `adress`",
        "saegis.toml:14:15: limits.connections: must be from 1",
        "saegis.toml:15:16: invalid type",
        "saegis.toml:16:",
        "saegis.toml:18:2: unknown field `lsiten`",
        "policies/psk-lookup-table.csv:2:1: ",
        "policies/psk-lookup-table.csv:3:4: ",
        "policies/modules/core.wasm: is a core module",
        "policies/modules/psk-table.toml:1:9: ",
        "policies/modules/psk-table.toml:2:1: unknown field `capabilites`",
    ];
    assert_eq!(lines.len(), wanted.len(), "{checked:?}");
    for (line, wanted) in lines.iter().zip(wanted) {
        assert!(line.starts_with(&format!("error: {wanted}")), "{line}\n{wanted}");
    }
}

#[test]
fn missing_configuration_is_reported() {
    let setup = Setup::new();
    let ran = saegis(&setup.path(""), &["check", "--config", "none.toml"]).expect(2);
    assert!(ran.err.starts_with("error: none.toml: cannot be read: "), "{ran:?}");
    let ran = saegis(&setup.path(""), &["run", "--config", "none.toml"]).expect(2);
    assert!(ran.err.starts_with("error: none.toml: cannot be read: "), "{ran:?}");
}

#[test]
fn invalid_table_is_reported_with_positions() {
    let setup = Setup::new().file(
        "psk-lookup-table.csv",
        "ae_id,kpsa,kpsa_id\n# the lights\nClight-AE1,1a2b3c,light@a.b\n\nlight,1a2b3x,light@a.b\n\
         Clight-AE2,1a2b3c,light@a.b\n",
    );
    let file = "policies/psk-lookup-table.csv";
    assert_refused(
        &setup,
        &[
            &format!("{file}:5:1: ae_id is not an AE-ID-Stem"),
            &format!("{file}:6:19: kpsa_id \"light@a.b\" is already in line 3"),
        ],
    );
    let report = run(&setup, &["check", "--json"]).expect(2).json();
    let faults = report["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 2);
    assert_eq!((&faults[1]["file"], &faults[1]["line"]), (&json!(file), &json!(6)));
    assert_eq!(faults[1]["column"], 19);
    assert!(faults[1]["what"].as_str().unwrap().contains("line 3"));
}

/// Guessable keys in tables and in the configuration are faults with a position. Short and regular
/// keys are only warnings.
#[test]
fn guessable_key_is_reported_with_line() {
    let setup = Setup::new()
        .file("psk-lookup-table.csv", "ae_id,kpsa,kpsa_id\nCa,1a,a@a.b\nCb,000000,b@a.b\n")
        .file("enrolled.csv", "ke_id,ke\na@a.b,1a2b\n")
        .file("clients.csv", "km_id,km,client_id\na@a.b,1a2b3c4d5e6f7a,//a.b/Ca\n");
    let short = "so that it can be tried out";
    assert_refused(
        &setup,
        &[
            &format!("policies/clients.csv:2:7: km has fewer than 8 bytes, {short}"),
            &format!("policies/enrolled.csv:2:7: ke has fewer than 3 bytes, {short}"),
            &format!("policies/psk-lookup-table.csv:2:4: kpsa has fewer than 3 bytes, {short}"),
            "policies/psk-lookup-table.csv:3:4: kpsa is one byte over and over, such as zeros",
        ],
    );
    let peer = |key: &str| {
        let credential = format!("credential = {{ kpsa-id = \"a@a.b\", kpsa = \"{key}\" }}");
        let lines = format!("cse-id = \"in\"\naddress = \"127.0.0.1:1\"\n{credential}");
        Setup::new().with_another("[peer]", &lines)
    };
    for bad in ["00", &"ab".repeat(16)] {
        let ran = run(&peer(bad), &["check"]).expect(2);
        assert!(ran.err.contains("saegis.toml:") && ran.err.contains("the key "), "{ran:?}");
        assert!(!ran.err.contains(&"ab".repeat(16)), "the output contains the key");
    }
    run(&peer("1a2b3c"), &["check"]).expect(0);
}

#[test]
fn guessable_km_of_maf_is_refused() {
    let setup = |key: &str| {
        let credential = format!("credential = {{ kpsa-id = \"a@a.b\", kpsa = \"{key}\" }}");
        let lines = format!("fqdn = \"maf.a.b\"\naddress = \"127.0.0.1:1\"\n{credential}");
        Setup::new().with_another("[maf-peer]", &lines)
    };
    let zeros = "00".repeat(16);
    for (bad, why) in [
        ("1a2b3c4d5e6f7a", "maf.a.b: its km has fewer than 8 bytes"),
        (&zeros, "the key is one byte over and over"),
    ] {
        let ran = run(&setup(bad), &["check"]).expect(2);
        assert!(ran.err.contains(why), "{ran:?}");
        assert!(!ran.err.contains(bad), "the output contains the key");
    }
    run(&setup("1a2b3c4d5e6f7a8b"), &["check"]).expect(0);
}

/// The latest m2m:timestamp that can be written, which operators use for "never".
#[test]
fn latest_timestamp_is_accepted() {
    let rows = "ae_id,kpsa,kpsa_id,expires\nClight-AE1,1a2b3c,light@a.b,99991231T235959\n";
    let setup = Setup::new().file("psk-lookup-table.csv", rows);
    run(&setup, &["check"]).expect(0);
}

#[test]
fn invalid_module_is_reported_by_name() {
    let setup = Setup::new();
    setup.write("policies/modules/core.wasm", CORE_MODULE);
    setup.write("policies/modules/broken.wasm", b"rubbish");
    setup.write("policies/modules/originator-check.toml", b"order = -1\n");
    assert_refused(
        &setup,
        &[
            "policies/modules/broken.wasm: is not a WebAssembly component",
            "policies/modules/core.wasm: is a core module, not a component",
            "policies/modules/originator-check.toml:1:9: invalid value",
        ],
    );
    let report = run(&setup, &["check", "--json"]).expect(2).json();
    assert_eq!(report["faults"][1]["line"], Value::Null);
    assert_eq!(report["faults"][2]["line"], 1);
}

#[test]
fn missing_policy_folder_is_reported() {
    let setup = Setup::new().with("policy", "folder = \"elsewhere\"");
    assert_refused(&setup, &["elsewhere: the folder cannot be read: "]);
}

#[test]
fn version_command_prints_version() {
    let setup = Setup::new();
    let words = run(&setup, &["version"]).expect(0).out;
    let report = run(&setup, &["--json", "version"]).expect(0).json();
    assert_eq!(words.trim(), format!("saegis {}", report["version"].as_str().unwrap()));
}

#[test]
fn former_option_is_refused_with_present_name() {
    let setup = Setup::new()
        .with("audit", "old-files = 1")
        .with("bindings", "store = \"state/bindings.redb\"")
        .with("decisions", "old-files = 1")
        .with_another("[maf]", "fqdn = \"maf.in.provider.com\"\naddress = \"127.0.0.1:1\"")
        .with("limits", "answer-bytes = 16777216")
        .with("limits", "answer-bytes-per-credential = 16777216")
        .with("limits", "answer-seconds = 5")
        .with("limits", "cse-places-per-credential = 4")
        .with("notifications", "seconds = 5")
        .with("policy", "unready-when-behind = true")
        .with("registrar", "store = \"state/registrar.redb\"")
        .upstream(1)
        .with("upstream", "notifications = \"127.0.0.1:0\"")
        .with("upstream", "notifications-key = \"state/notifications.key\"")
        .with("upstream", "notifications-uid = 1");
    let ran = setup.run_until_exit();
    assert_eq!(ran.code, 2, "{ran:?}");
    let present = [
        "audit.old-files: is now called audit.retained-files",
        "bindings: is now called ae-ids",
        "decisions.old-files: is now called decisions.retained-files",
        "maf: is now called [[maf-peer]]",
        "limits.answer-bytes: is now called limits.response-bytes",
        "limits.answer-bytes-per-credential: is now called limits.response-bytes-per-credential",
        "limits.answer-seconds: is now called limits.response-seconds",
        "limits.cse-places-per-credential: is now called limits.cse-requests-per-credential",
        "notifications.seconds: is now called notifications.timeout-seconds",
        "policy.unready-when-behind: is now called policy.unready-when-outdated",
        "registrar: is now called cse",
        "upstream.notifications: is now called upstream.notification-listen",
        "upstream.notifications-key: is now called upstream.notification-key-file",
        "upstream.notifications-uid: is now called upstream.notification-uid",
    ];
    for text in present {
        assert!(ran.err.contains(text), "{text}: {ran:?}");
    }
    assert_eq!(ran.err.matches("is now called").count(), present.len(), "{ran:?}");
    // The current names are accepted.
    let setup = Setup::new()
        .with("ae-ids", "store = \"state/ae-ids.redb\"")
        .with("audit", "retained-files = 1")
        .with("decisions", "retained-files = 1")
        .with("limits", "response-bytes = 16777216")
        .with("limits", "response-bytes-per-credential = 16777216")
        .with("limits", "response-seconds = 5")
        .with("policy", "unready-when-outdated = true")
        .with("limits", "cse-requests-per-credential = 4")
        .with("notifications", "timeout-seconds = 5")
        .with("cse", "ae-id-taken-rsc = 4105\nstore = \"state/cse.redb\"");
    setup.configuration();
    saegis(&setup.path(""), &["check"]).expect(0);
}
