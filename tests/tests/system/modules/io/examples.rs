//! The examples of the cookbook, run by a gateway.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use saegis_tests::{
    Credential, Gateway, LIGHT1, LIGHT2, Light, Mark, Request, Setup, Tool, Upstream, component,
    repository, saegis,
};

use super::http::answer;

const LAMP: Credential<'static> =
    Credential { identity: "lamp-7@lamps.example.com", key: "00112233445566778899aabbccddeeff" };

#[test]
fn example_modules_pass_their_cases() {
    for name in ["http-lookup", "quota"] {
        let cases = repository().join(format!("guest-modules/{name}/cases.toml"));
        let (module, cases) = (component(name), cases.display().to_string());
        let arguments = ["module", "test", module.to_str().unwrap(), "--cases", &cases];
        let ran = saegis("/".as_ref(), &arguments).expect(0);
        assert!(ran.out.contains(" passed, 0 failed"), "{ran:?}");
    }
}

fn lamps(port: u16) -> Setup {
    let capabilities =
        "[\"clock\", \"log\", \"supply-key-bytes\", \"config\", \"outgoing-http\", \"key-value\"]";
    let setup = Setup::new()
        .with("modules.grants", "\"*\" = [\"policy-tables\", \"log\", \"clock\"]")
        .with("modules.grants", &format!("http-lookup = {capabilities}"))
        .with(
            "modules.outgoing-http.http-lookup",
            &format!("hosts = [\"http://127.0.0.1:{port}\"]"),
        )
        .with("modules.key-value.http-lookup", "quota-bytes = 65536")
        .with("modules.config.http-lookup", "secrets = { token = \"token\" }")
        .with(
            "modules.config.http-lookup.values",
            &format!("url = \"http://127.0.0.1:{port}/v1/\"\ndomain = \"lamps.example.com\""),
        )
        .module("http-lookup", &format!("order = 50\ncapabilities = {capabilities}\n"));
    fs::write(setup.path("token"), "a-token\n").unwrap();
    fs::set_permissions(setup.path("token"), Permissions::from_mode(0o600)).unwrap();
    setup
}

#[test]
fn key_of_key_server_is_cached() {
    let known = format!("{{ \"ae-id\": \"Clamp-7\", \"key\": \"{}\" }}", LAMP.key);
    let server = Upstream::start(answer(200, &known));
    let gateway = lamps(server.port()).start();
    let mut lamp = Tool::OpenSsl.connect(gateway.port(), LAMP);
    lamp.ask(&Request::create_ae("lamp").from("Clamp-7")).expect(201, 2001);
    let arrived = server.wait(1);
    assert_eq!(arrived[0].line, "GET /v1/lamp-7%40lamps.example.com HTTP/1.1");
    assert_eq!(arrived[0].values("authorization"), ["Bearer a-token"]);
    // The key is cached across a restart, and the server is not queried again.
    server.reply_with(answer(503, ""));
    Tool::GnuTls.connect(gateway.port(), LAMP).close();
    let gateway = gateway.restart();
    Tool::OpenSsl.connect(gateway.port(), LAMP).close();
    assert_eq!(server.requests().len(), 1);
    // A failing server refuses a credential that is not cached, with the same alert as an unknown
    // one.
    let mark = gateway.log().mark();
    let other = Credential { identity: "lamp-8@lamps.example.com", ..LAMP };
    assert_eq!(Tool::OpenSsl.refused(gateway.port(), other).alert, Some(20));
    let found = gateway.handshake_refused(mark).message();
    assert!(found.contains("the key server responded with 503"), "{found}");
    // A wrong key is refused as usual, and the module does not query the server for the lights.
    let wrong = Credential { key: "00", ..LAMP };
    assert_eq!(Tool::OpenSsl.refused(gateway.port(), wrong).alert, Some(20));
    Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
    assert_eq!(server.requests().len(), 2);
    let text = gateway.log().text();
    assert!(!text.contains(LAMP.key) && !text.contains("a-token"), "{text}");
}

#[test]
fn trace_log_contains_no_token_or_key() {
    let known = format!("{{ \"ae-id\": \"Clamp-7\", \"key\": \"{}\" }}", LAMP.key);
    let server = Upstream::start(answer(200, &known));
    // All targets except the compiler's.
    let all =
        ["wasmtime_wasi", "wasmtime_wasi_http", "wasmtime_wasi_io", "hyper", "rustls", "saegis"];
    let all = all.map(|target| format!("{target}=trace")).join(",");
    let gateway = lamps(server.port()).with("log", &format!("filter = \"info,{all}\"")).start();
    Tool::OpenSsl.connect(gateway.port(), LAMP).close();
    gateway.log().wait("association.ended");
    let text = gateway.log().text();
    // As text and as a list of bytes.
    for secret in [LAMP.key, "a-token"] {
        let bytes = format!("{:?}", secret.as_bytes());
        let bytes = bytes.trim_matches(['[', ']']);
        let found = text.lines().find(|line| line.contains(secret) || line.contains(bytes));
        assert_eq!(found, None);
    }
}

#[test]
fn key_server_outage_affects_only_its_clients() {
    let gateway = lamps(Upstream::closed_port()).start();
    let mark = gateway.log().mark();
    assert_eq!(Tool::OpenSsl.refused(gateway.port(), LAMP).alert, Some(20));
    let found = gateway.handshake_refused(mark).message();
    assert!(found.contains("cannot send a request to the key server"), "{found}");
    Tool::OpenSsl.connect(gateway.port(), LIGHT1).close();
}

fn counting(quota: &str) -> Setup {
    let capabilities = "[\"clock\", \"config\", \"key-value\"]";
    Setup::new()
        .with("modules.grants", "\"*\" = [\"policy-tables\", \"log\", \"clock\"]")
        .with("modules.grants", "quota = [\"config\", \"key-value\"]")
        .with("modules.key-value.quota", quota)
        .with(
            "modules.config.quota",
            "values = { requests = \"5\", window-seconds = \"100000000\" }",
        )
        .module("quota", &format!("capabilities = {capabilities}\n"))
}

fn assert_allowed(gateway: &Gateway, credential: Credential<'_>, from: &str) -> Light {
    let mut light = Light::connect(gateway.port(), credential).unwrap();
    let ask = Request::retrieve("/cse/nothing").from(from);
    light.ask(&ask).unwrap().expect_refusal(404, 4004);
    light
}

#[test]
fn quota_limits_requests_per_window() {
    let gateway = counting("quota-bytes = 65536").start();
    // The count includes other associations, and survives a restart.
    let _first = assert_allowed(&gateway, LIGHT1, "Clight-AE1");
    assert_allowed(&gateway, LIGHT1, "Clight-AE1").close();
    let gateway = gateway.restart();
    let mut light = assert_allowed(&gateway, LIGHT1, "Clight-AE1");
    let nothing = || Request::retrieve("/cse/nothing").from("Clight-AE1");
    light.ask(&nothing()).unwrap().expect_refusal(404, 4004);
    light.ask(&nothing()).unwrap().expect_refusal(404, 4004);
    for _ in 0..3 {
        let found = light.ask(&nothing()).unwrap().expect_refusal(403, 4103).debug();
        assert!(found.contains("more than 5 requests"), "{found}");
    }
    assert_allowed(&gateway, LIGHT2, "Clight-AE2").close();
}

#[test]
fn request_that_cannot_be_counted_is_refused() {
    let gateway = counting("quota-bytes = 64").start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let ask = Request::retrieve("/cse/nothing").from("Clight-AE1");
    light.ask(&ask).unwrap().expect_refusal(500, 5000);
    let refused = gateway.log().wait_after(Mark::START, "request.refused");
    assert!(refused.message().contains("cannot be counted"), "{refused:?}");
}
