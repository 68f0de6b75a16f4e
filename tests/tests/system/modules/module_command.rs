//! `saegis module`, the command for authors of policy modules.

use std::fs;
use std::path::Path;

use saegis_tests::wasm::{CORE_MODULE, EMPTY_COMPONENT, component_that_imports};
use saegis_tests::{CommandOutput, Setup, component, eventually, program, repository, saegis};
use tempfile::TempDir;

/// Modules with a case file in their source folder.
const WITH_CASES: [&str; 8] = [
    "app-rules",
    "certificate-table",
    "km-table",
    "maf-keys",
    "maf-rules",
    "originator-check",
    "psk-derived",
    "psk-table",
];

fn folder() -> TempDir {
    TempDir::with_prefix("saegis-test-").unwrap()
}

/// Runs a module with the text of a case file.
fn test_with(module: &str, cases: &str, more: &[&str]) -> CommandOutput {
    let folder = folder();
    fs::write(folder.path().join("cases.toml"), cases).unwrap();
    let module = component(module);
    let arguments = ["module", "test", module.to_str().unwrap(), "--cases", "cases.toml"];
    saegis(folder.path(), &[&arguments, more].concat())
}

/// Asserts that a case file is refused with exactly these faults.
#[track_caller]
fn assert_refused(module: &str, cases: &str, faults: &[&str]) {
    let ran = test_with(module, cases, &[]).expect(2);
    let lines: Vec<_> = ran.err.lines().collect();
    assert_eq!(lines.len(), faults.len(), "{ran:?}");
    for (line, fault) in lines.iter().zip(faults) {
        assert!(line.starts_with(&format!("error: cases.toml{fault}")), "{line}\n{fault}");
    }
    assert!(ran.out.is_empty(), "{ran:?}");
}

const TABLE: &str = "[policy.tables]\npsk-lookup-table = \"\"\"\nae_id,kpsa,kpsa_id\n\
                     Clight-AE1,1a2b3c4d5e6f7a8b,light@in.provider.com\n\"\"\"\n";

#[test]
fn shipped_modules_pass_their_cases() {
    for name in WITH_CASES {
        let cases = repository().join("guest-modules").join(name).join("cases.toml");
        let module = component(name);
        let arguments = [module.to_str().unwrap(), "--cases", cases.to_str().unwrap()];
        let ran = saegis(Path::new("/"), &[&["module", "test", "--json"], &arguments[..]].concat());
        let report = ran.expect(0).json();
        assert_eq!(report["failed"], 0, "{report}");
        let cases = report["cases"].as_array().unwrap();
        assert!(cases.len() >= 5, "{report}");
        for case in cases {
            assert_eq!(case["result"], "passed", "{case}");
            assert!(case["fuel"].as_u64().unwrap() > 0, "{case}");
            assert!(case["memory"].as_u64().unwrap() >= 65536, "{case}");
            assert!(case["microseconds"].as_f64().unwrap() > 0.0, "{case}");
        }
    }
}

#[test]
fn failed_case_is_printed_and_sets_exit_code() {
    let case = |expect: &str| {
        format!(
            "{TABLE}[[case]]\nname = \"a light\"\n\
             lookup = {{ psk-identity = \"light@in.provider.com\" }}\nexpect = {expect}\n"
        )
    };
    let found = "{ found = { entity = { ae = \"Clight-AE1\" }, credential-id = \
                 \"12-light@in.provider.com\" } }";
    for (expect, wrong) in [
        ("\"not-mine\"", format!("a light: answered {found}")),
        ("{ found = { entity = \"not-yet-known\" } }", format!("a light: answered {found}")),
        (
            "{ found = { entity = { ae = \"Clight-AE1\" }, key = \"1a2b3c4d5e6f7a8c\" } }",
            format!("a light: answered another key than expected: {found}"),
        ),
        (
            "{ found = { entity = { ae = \"Clight-AE1\" }, expires = \"20991231T235959\" } }",
            format!("a light: answered {found}"),
        ),
        ("{ refused = \"\" }", format!("a light: answered {found}")),
        ("{ failed = \"trap\" }", format!("a light: answered {found}")),
    ] {
        let ran = test_with("psk-table", &case(expect), &[]).expect(1);
        let lines: Vec<_> = ran.out.lines().collect();
        assert_eq!(lines[lines.len() - 2..], [&*wrong, "0 passed, 1 failed"], "{ran:?}");
        assert!(!ran.out.contains("1a2b"), "the output contains a key: {ran:?}");
    }
    let report = test_with("psk-table", &case("\"not-mine\""), &["--json"]).expect(1).json();
    assert_eq!((&report["passed"], &report["failed"]), (&0.into(), &1.into()));
    assert_eq!(report["cases"][0]["wrong"], format!("answered {found}"));
    test_with("psk-table", &case(found), &["--runs", "50"]).expect(0);
    // A case fails if it needs more fuel than allowed, and the report states the amount.
    let limited = case(found).replace("[[case]]", "[limits]\nfuel = 10\n[[case]]");
    let ran = test_with("psk-table", &limited, &[]).expect(1);
    assert!(ran.out.contains("of 10 fuel\n"), "{ran:?}");
}

const SHORT: &str = "deadline-milliseconds = 10";
/// The memory limit must be reached before the deadline.
const SMALL: &str = "deadline-milliseconds = 10000, memory-bytes = 2097152";

#[test]
fn failed_call_can_be_expected() {
    let case = |identity: &str, cause: &str, limit: &str| {
        format!(
            "[[case]]\nname = \"{identity}\"\nlookup = {{ psk-identity = \"{identity}\" }}\n\
             expect = {{ failed = \"{cause}\" }}\nlimits = {{ {limit} }}\n"
        )
    };
    let all = case("fault-loop", "deadline", SHORT)
        + &case("fault-memory", "memory", SMALL)
        + &case("fault-trap", "trap", SMALL);
    test_with("faulty", &all, &[]).expect(0);
    let ran = test_with("faulty", &case("fault-loop", "memory", SHORT), &[]).expect(1);
    let wrong = "fault-loop: answered { failed = \"deadline\" }, for it exceeded the time limit of a \
                 call: 10 ms (modules.deadline-milliseconds)";
    assert!(ran.out.contains(wrong), "{ran:?}");
    let ran = test_with("faulty", &case("fault-memory", "trap", SMALL), &[]).expect(1);
    let wrong = "exceeded the memory limit of a call: 2097152 bytes (modules.memory-bytes)";
    assert!(ran.out.contains(wrong), "{ran:?}");
}

#[test]
fn panic_is_reported_with_message_and_line() {
    let case = "[[case]]\nname = \"a panic\"\nlookup = { psk-identity = \"fault-message\" }\n\
                expect = \"not-mine\"\n";
    let ran = test_with("faulty", case, &[]).expect(1);
    let line = ran.out.lines().find(|line| line.starts_with("a panic: answered")).unwrap();
    assert!(line.contains("trapped: wasm trap: "), "{line}");
    assert!(line.contains("panicked at faulty/src/lib.rs:"), "{line}");
    assert!(line.ends_with("told to"), "{line}");
    // The log has it too.
    assert!(ran.err.contains("panicked at faulty/src/lib.rs:"), "{ran:?}");
}

#[test]
fn invalid_case_file_is_reported_with_line() {
    let lookup = "lookup = { psk-identity = \"a\" }\n";
    let good = format!("[[case]]\nname = \"a\"\n{lookup}expect = \"not-mine\"\n");
    test_with("psk-table", &good, &[]).expect(1);
    assert_refused("psk-table", "", &[": case: is missing; each case is a table [[case]]"]);
    assert_refused("psk-table", "[[case]\n", &[":1:8: "]);
    assert_refused(
        "psk-table",
        &good.replace("expect", "expected"),
        &[":1:1: missing field `expect`", ":4:1: unknown field `expected`"],
    );
    assert_refused("psk-table", &good.replace("name = \"a\"", "name = 1"), &[":2:8: invalid type"]);
    assert_refused(
        "psk-table",
        &good.replace("\"not-mine\"", "\"mine\""),
        &[":4:10: unknown variant"],
    );
    let one_of = ":2:8: \"a\" must have one of lookup, certificate, request, registration and";
    for (of_another_type, position) in [
        ("case = 1\n", ":1:8: invalid type: integer"),
        ("policy = \"mine\"\n", ":1:10: invalid type: string"),
        ("[policy]\nnow = 5\n", ":2:7: invalid type: integer"),
        ("[policy]\nregistrars = \"in-cse\"\n", ":2:14: invalid type: string"),
        ("[policy.tables]\npsk-lookup-table = [\"ae_id\"]\n", ":2:20: invalid type: sequence"),
        ("[policy.files]\n\"rules.toml\" = true\n", ":2:16: invalid type: boolean"),
        ("[limits]\nfuel = \"much\"\n", ":2:8: invalid type: string"),
        ("[limits]\nmemory-bytes = -1\n", ":2:16: invalid value: integer"),
        ("association = []\n", ":1:15: invalid"),
    ] {
        let cases = if of_another_type.starts_with("case") { "" } else { &good };
        assert_refused("psk-table", &format!("{of_another_type}{cases}"), &[position]);
    }
    assert_refused(
        "psk-table",
        &good.replace("{ psk-identity = \"a\" }", "\"a\""),
        &[one_of, ":3:10: invalid type"],
    );
    assert_refused(
        "psk-table",
        &good.replace("\"not-mine\"", "[4106]"),
        &[":4:10: wanted string or table"],
    );
    let answers = ":4:10: credential-lookup responds with \"not-mine\", found, refused or failed";
    assert_refused(
        "psk-table",
        &good.replace("\"not-mine\"", "{ allow = \"originator\" }"),
        &[answers],
    );
    assert_refused("psk-table", &good.replace(lookup, ""), &[one_of]);
    let two = format!("{good}registration = {{ app-id = \"N\" }}\n");
    assert_refused("psk-table", &two, &[one_of]);
    let other = "[[case]]\nname = \"b\"\nregistration = { app-id = \"N\" }\n\
                 expect = { allow = \"this-request\" }\n";
    assert_refused("psk-table", other, &[":2:8: \"b\" needs an association.entity, here or above"]);
    let association =
        "association = { entity = \"not-yet-known\", credential-id = \"12-a@b.c\" }\n";
    let why = ":2:8: \"b\" calls registration-check, which";
    assert_refused("psk-table", &format!("{other}{association}"), &[why]);
    let bad = format!("{other}{}", association.replace("12-a@b.c", "x"));
    assert_refused("psk-table", &bad, &[":5:59: \"x\": "]);
    // A fault in a table is reported at its position in the case file.
    let table = TABLE.replace("1a2b", "1g2b");
    let position = ":4:12: psk-lookup-table.csv: kpsa has an invalid hexadecimal digit";
    assert_refused("psk-table", &format!("{table}{good}"), &[position]);
}

#[test]
fn untestable_module_is_reported() {
    let folder = folder();
    let cases =
        "[[case]]\nname = \"a\"\nlookup = { psk-identity = \"a\" }\nexpect = \"not-mine\"\n";
    fs::write(folder.path().join("cases.toml"), cases).unwrap();
    let assert_refused = |file: &str, why: &str| {
        let arguments = ["module", "test", file, "--cases", "cases.toml"];
        let ran = saegis(folder.path(), &arguments).expect(2);
        assert!(ran.err.starts_with(&format!("error: {file}: {why}")), "{ran:?}");
    };
    fs::write(folder.path().join("core.wasm"), CORE_MODULE).unwrap();
    fs::write(folder.path().join("empty.wasm"), EMPTY_COMPONENT).unwrap();
    assert_refused("none.wasm", "cannot be opened");
    assert_refused(
        "core.wasm",
        "is a core module, not a component; convert it with `saegis module",
    );
    assert_refused("empty.wasm", "exports no hook of the contract");
    // The manifest next to a module applies.
    fs::copy(component("psk-table"), folder.path().join("mine.wasm")).unwrap();
    fs::write(folder.path().join("mine.toml"), "order = 1\n").unwrap();
    assert_refused("mine.wasm", "imports the capability policy-tables, but its manifest mine.toml");
}

#[test]
fn inspect_describes_module() {
    let file = component("psk-derived");
    let ran = saegis(Path::new("/"), &["module", "inspect", file.to_str().unwrap()]).expect(0);
    let lines: Vec<_> = ran.out.lines().map(str::trim).collect();
    assert_eq!(lines[0], format!("{}: component", file.display()));
    assert_eq!(lines[1], "hooks       credential-lookup");
    assert!(lines[2].starts_with("contract    0.1."), "{ran:?}");
    for capability in ["policy-tables", "read-stored-keys", "supply-key-bytes"] {
        let needs = format!(": needs the capability {capability}");
        assert!(lines.iter().any(|line| line.ends_with(&needs)), "{capability} {ran:?}");
    }
    let arguments = ["module", "inspect", "--json", file.to_str().unwrap()];
    let report = saegis(Path::new("/"), &arguments).expect(0).json();
    assert_eq!(report["kind"], "component");
    assert_eq!(report["hooks"], serde_json::json!(["credential-lookup"]));
    assert_eq!(report["size"], fs::metadata(&file).unwrap().len());
    assert_eq!(report["memory"], 65536);
    let digest = saegis_tests::openssl(&["dgst", "-sha256", "-r", file.to_str().unwrap()]);
    assert_eq!(digest.out.split(' ').next(), report["sha256"].as_str());
    assert_eq!(report["contract_faults"], serde_json::json!([]));
}

#[test]
fn inspect_reports_capability_that_manifest_lacks() {
    let folder = folder();
    fs::copy(component("psk-table"), folder.path().join("mine.wasm")).unwrap();
    let inspect = |code| saegis(folder.path(), &["module", "inspect", "mine.wasm"]).expect(code);
    assert!(inspect(0).out.contains("manifest    none beside it"));
    fs::write(folder.path().join("mine.toml"), "order = 10\n").unwrap();
    let fault =
        "imports the capability policy-tables, but its manifest mine.toml does not request it";
    assert!(inspect(4).out.contains(fault));
    let json =
        saegis(folder.path(), &["module", "inspect", "mine.wasm", "--json"]).expect(4).json();
    assert_eq!(json["missing_capabilities"], serde_json::json!(["policy-tables"]));
    fs::write(folder.path().join("mine.toml"), "capabilities = [\"policy-tables\"]\n").unwrap();
    assert!(!inspect(0).out.contains("refused"));
}

#[test]
fn compiled_module_is_cached_for_its_next_test() {
    let folder = folder();
    let cases = repository().join("guest-modules/psk-table/cases.toml");
    let module = component("psk-table");
    for _ in 0..2 {
        let mut command = std::process::Command::new(program());
        command.args(["module", "test"]).arg(&module).arg("--cases").arg(&cases);
        command.env("XDG_CACHE_HOME", folder.path());
        assert!(command.output().unwrap().status.success());
    }
    // The cache has a folder for each version of its format.
    let cache = folder.path().join("saegis/code/modules");
    let versions: Vec<_> = fs::read_dir(cache).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(versions.len(), 1, "{versions:?}");
    let files = fs::read_dir(&versions[0]).unwrap().map(|e| e.unwrap().path());
    let code: Vec<_> = files.filter(|file| file.extension().is_none()).collect();
    assert_eq!(code.len(), 1, "{code:?}");
}

#[test]
fn inspect_reports_unloadable_module_in_exit_code() {
    let folder = folder();
    let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let inspect = |name: &str| saegis(folder.path(), &["module", "inspect", name]);
    put("empty.wasm", EMPTY_COMPONENT);
    put("future.wasm", &component_that_imports("saegis:policy/log@0.2.0"));
    put("core.wasm", CORE_MODULE);
    put("script.wasm", b"#!/bin/sh\n");
    let assert_refused = |name: &str, why: &str| {
        let ran = inspect(name).expect(4);
        assert!(
            ran.out.lines().any(|l| l.trim().starts_with(&format!("refused     {why}"))),
            "{ran:?}"
        );
    };
    assert_refused("empty.wasm", "exports no hook of the contract; the hooks are: ");
    assert_refused(
        "future.wasm",
        "belongs to the contract saegis:policy/…@0.2.0; this gateway supports 0.1",
    );
    assert_refused("core.wasm", "is a core module without its contract");
    let ran = inspect("script.wasm").expect(2);
    assert!(ran.err.starts_with("error: script.wasm: is not WebAssembly: "), "{ran:?}");
    let ran =
        saegis(folder.path(), &["module", "inspect", "core.wasm", "--componentise", "x.wasm"]);
    assert!(ran.expect(2).err.contains("without its contract"));
    let ran =
        saegis(folder.path(), &["module", "inspect", "empty.wasm", "--componentise", "x.wasm"]);
    assert!(ran.expect(2).err.contains("is already a component"));
    assert!(!folder.path().join("x.wasm").exists());
}

#[test]
fn new_module_folder_is_complete() {
    let folder = folder();
    let new = |name: &str, lang: &str, hook: &str| {
        saegis(folder.path(), &["module", "new", name, "--lang", lang, "--hook", hook])
    };
    let ran = new("my-lookup", "rust", "credential-lookup").expect(0);
    assert!(ran.out.starts_with("created my-lookup/\n"), "{ran:?}");
    let read = |path: &str| fs::read_to_string(folder.path().join("my-lookup").join(path)).unwrap();
    assert!(read("src/lib.rs").contains("impl Guest for Module"));
    assert!(read("README.md").contains("\n    make\n"));
    assert!(read("my-lookup.toml").contains("capabilities = [\"policy-tables\", \"log\"]"));
    assert!(read("cases.toml").contains("[[case]]"));
    // The template contains the complete contract of the repository.
    let contract = fs::read_dir(repository().join("wit")).unwrap().map(|e| e.unwrap().path());
    for file in contract.filter(|path| path.is_file()) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let copied = read(&format!("wit/deps/saegis-policy/{name}"));
        assert_eq!(copied, fs::read_to_string(&file).unwrap(), "{name}");
    }
    new("in-c", "c", "registration-check").expect(0);
    for file in ["module.c", "module.h", "module_component_type.o"] {
        assert!(folder.path().join("in-c/bindings").join(file).is_file(), "{file}");
    }
}

#[test]
fn existing_or_invalid_module_folder_is_refused() {
    let folder = folder();
    let new = |name: &str, lang: &str, hook: &str| {
        saegis(folder.path(), &["module", "new", name, "--lang", lang, "--hook", hook])
    };
    fs::create_dir(folder.path().join("mine")).unwrap();
    fs::write(folder.path().join("mine/README.md"), "mine").unwrap();
    fs::write(folder.path().join("file"), "mine").unwrap();
    for there in ["mine", "file"] {
        let ran = new(there, "rust", "credential-lookup").expect(2);
        let why = format!("error: {there}: already exists and is not overwritten");
        assert!(ran.err.starts_with(&why), "{ran:?}");
    }
    assert_eq!(fs::read_to_string(folder.path().join("mine/README.md")).unwrap(), "mine");
    for bad in ["", "Mine", "../mine", "a b", "a_b", "7up", "a--b", "a-"] {
        let ran = new(bad, "rust", "credential-lookup").expect(2);
        assert!(ran.err.contains("is not a valid module name"), "{ran:?}");
    }
    assert!(new("x", "cobol", "credential-lookup").expect(2).err.contains("possible values"));
    let ran = new("x", "rust", "credential-check").expect(2);
    assert!(ran.err.contains("the hooks are: credential-lookup, "), "{ran:?}");
    let left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

/// A change of the source is built, tested and installed. A module whose test fails is not installed.
#[test]
fn watched_module_is_installed_after_each_change() {
    let gateway = Setup::new().start();
    let folder = folder();
    let own = folder.path().join("mine");
    fs::create_dir(&own).unwrap();
    let source = |name: &str| fs::copy(component(name), own.join("source.bin")).map(drop).unwrap();
    let makefile = "test:\n\tcp source.bin mine.wasm\n\
                    \t$(SAEGIS) module test mine.wasm --cases cases.toml\n";
    fs::write(own.join("Makefile"), makefile).unwrap();
    fs::write(own.join("mine.toml"), "order = 1\ncapabilities = [\"policy-tables\", \"log\"]\n")
        .unwrap();
    let cases =
        "[[case]]\nname = \"a\"\nlookup = { psk-identity = \"a\" }\nexpect = \"not-mine\"\n";
    // The table is missing, so psk-table refuses.
    fs::write(own.join("cases.toml"), cases).unwrap();
    source("psk-table");
    let mut watch = std::process::Command::new(program())
        .args(["module", "watch", own.to_str().unwrap(), "--config"])
        .arg(gateway.path("saegis.toml"))
        .stdout(fs::File::create(folder.path().join("out")).unwrap())
        .spawn()
        .unwrap();
    let printed = |what: &str| {
        eventually(|| {
            let out = fs::read_to_string(folder.path().join("out")).unwrap();
            if out.contains(what) { Ok(()) } else { Err(out) }
        });
    };
    printed("not installed: the build or a test failed");
    assert!(!gateway.path("policies/modules/mine.wasm").exists());
    let mark = gateway.log().mark();
    source("faulty");
    // The manifest alone may be a generation of its own.
    let loaded = gateway
        .log()
        .wait_for(mark, "generation.in-force", |event| event.message().contains("mine"));
    printed(&format!("mine is in force: generation {}", loaded.number("generation")));
    watch.kill().unwrap();
    watch.wait().unwrap();
}
