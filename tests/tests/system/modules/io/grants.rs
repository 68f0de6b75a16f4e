//! Capabilities with limits are granted by name, and faults are reported with their position.
//! Modules with I/O are excluded from shadow mode and replay.

use std::fs;

use saegis_tests::{LIGHT1, Light, Mark, Setup, Upstream, component, saegis};

use super::http::answer;
use super::probe::{MANIFEST, assert_outcome, host, send_command, setup};

/// Asserts that `saegis check` refuses a setup for exactly this reason.
#[track_caller]
fn assert_refused(setup: &Setup, why: &str) {
    let file = setup.configuration();
    let ran = saegis(file.parent().unwrap(), &["check"]).expect(2);
    assert!(ran.err.contains(why), "{why}: {ran:?}");
    assert_eq!(ran.err.matches("error: ").count(), 1, "{ran:?}");
}

#[test]
fn invalid_limits_are_reported_with_position() {
    let http = |lines: &str| {
        Setup::new()
            .with("modules.grants", "m = [\"outgoing-http\"]")
            .with("modules.outgoing-http.m", lines)
    };
    for (lines, why) in [
        ("hosts = [\"example.com\"]", "\"example.com\" is not a target for requests"),
        ("hosts = [\"https://a/b\"]", "\"https://a/b\" is not a target for requests"),
        ("hosts = [\"https://u@a\"]", "\"https://u@a\" is not a target for requests"),
        ("hosts = []", "modules.outgoing-http.m.hosts: must name at least one host"),
        ("hosts = [\"https://a\"]\nmillisecond = 1", "unknown field `millisecond`"),
        ("hosts = [\"https://a\"]\nmilliseconds = 0", "must be from 1 to 60000"),
        ("hosts = [\"https://a\"]\nresponse-bytes = 99999999999", "must be from 0 to 67108864"),
        ("hosts = [\"https://a\"]\nconcurrent-requests = 0", "must be from 1 to 10000"),
    ] {
        let setup = http(lines);
        assert_refused(&setup, why);
        assert_refused(&setup, "saegis.toml:");
        let text = fs::read_to_string(setup.path("saegis.toml")).unwrap();
        let line = 1 + text.lines().position(|l| l.starts_with("hosts")).unwrap();
        let reported = if lines.contains('\n') { line + 1 } else { line };
        assert_refused(&setup, &format!("saegis.toml:{reported}:"));
    }
    let grant = |grants: &str| Setup::new().with("modules.grants", grants);
    assert_refused(&grant("m = [\"key-value\"]"), "modules.grants.m: key-value requires limits");
    assert_refused(&grant("m = [\"config\"]"), "add [modules.config.m]");
    let every = grant("\"*\" = [\"policy-tables\", \"outgoing-http\"]");
    assert_refused(&every, "outgoing-http can only be granted to a module by name");
    let stranger = Setup::new().with("modules.key-value.m", "quota-bytes = 1000");
    assert_refused(&stranger, "modules.key-value.m: m is not granted key-value");
    let quota = |bytes: &str| {
        grant("m = [\"key-value\"]").with("modules.key-value.m", &format!("quota-bytes = {bytes}"))
    };
    assert_refused(&quota("1"), "modules.key-value.m.quota-bytes: must be from 64");
    assert_refused(&grant("m = [\"key-value\"]").with("modules.key-value.m", ""), "quota-bytes");
    let twice = grant("m = [\"config\"]")
        .with("modules.config.m", "values = { a = \"1\" }\nsecrets = { a = \"file\" }");
    assert_refused(&twice, "modules.config.m.secrets.a: is also the name of a value");
    assert_refused(
        &Setup::new().with("modules.reuse", "m = 0"),
        "modules.reuse.m: must be at least 1",
    );
    assert_refused(&Setup::new().with("modules.reuse", "\"*\" = 5"), "must name a single module");
}

#[test]
fn io_module_without_grant_or_request_is_refused() {
    let gateway = Setup::new().start();
    let why = "requests the capability outgoing-http, which the gateway does not grant";
    gateway.refused_after(why, |g| g.install("io-probe", MANIFEST));
    let why = "imports the capability";
    gateway.refused_after(why, |g| g.write("policies/modules/io-probe.toml", "order = 1\n"));
    Light::connect(gateway.port(), LIGHT1).unwrap().close();
}

#[test]
fn inspect_lists_capabilities_of_imports() {
    let file = component("io-probe");
    let ran = saegis("/".as_ref(), &["module", "inspect", file.to_str().unwrap()]).expect(0);
    for (import, capability) in [
        ("wasi:http/outgoing-handler", "outgoing-http"),
        ("wasi:http/types", "outgoing-http"),
        ("wasi:keyvalue/store", "key-value"),
        ("wasi:keyvalue/atomics", "key-value"),
        ("wasi:config/store", "config"),
    ] {
        let line = ran.out.lines().find(|line| line.contains(import));
        let line = line.unwrap_or_else(|| panic!("no {import}: {ran:?}"));
        assert!(line.contains(&format!("needs the capability {capability}")), "{line}");
    }
    let line = ran.out.lines().find(|line| line.contains("wasi:io/streams")).unwrap();
    assert!(line.contains("an empty WASI"), "{line}");
}

#[test]
fn io_module_cannot_be_shadow_or_replayed() {
    let server = Upstream::start(answer(200, ""));
    let gateway =
        setup(&[host(server.port())], "").with("decisions", "record = \"decisions.jsonl\"").start();
    let words = format!("get|http://127.0.0.1:{}/", server.port());
    assert_outcome(&gateway, &words, "status 200");
    assert_outcome(&gateway, "increment|n", "is 1");
    Light::connect(gateway.port(), LIGHT1).unwrap().close();
    gateway.log().wait_after(Mark::START, "association.established");
    let file = gateway.path("decisions.jsonl");
    let lines = || fs::read_to_string(&file).unwrap_or_default().lines().count();
    while lines() < 3 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let asked = server.requests().len();
    // The probe is the first module of the chain, so a replay would have to call it for each
    // decision.
    let ran = saegis(&gateway.path(""), &["decisions", "replay", "decisions.jsonl"]).expect(0);
    assert!(ran.out.contains("3 were not compared"), "{ran:?}");
    fs::create_dir(gateway.path("try")).unwrap();
    fs::copy(component("io-probe"), gateway.path("try/io-probe.wasm")).unwrap();
    let arguments = ["module", "try", "try/io-probe.wasm", "--recording", "decisions.jsonl"];
    let ran = saegis(&gateway.path(""), &arguments).expect(0);
    assert!(ran.out.contains("3 were not compared"), "{ran:?}");
    assert_eq!(server.requests().len(), asked, "nothing was asked");
    assert_outcome(&gateway, "increment|n", "is 2");

    gateway.in_force_after(|g| {
        g.write("policies/modules/io-probe.toml", format!("{MANIFEST}mode = \"shadow\"\n"));
    });
    let reported = gateway.log().wait("shadow.refused").message();
    assert!(reported.contains("with the capability outgoing-http"), "{reported}");
    assert!(reported.contains("cannot be a shadow"), "{reported}");
    send_command(gateway.port(), &words);
    assert_eq!(server.requests().len(), asked, "nothing was asked");
}
