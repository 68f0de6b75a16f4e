//! `saegis top`, the live view of a running gateway.

use std::process::Command;

use saegis_tests::{BOUND, LIGHT1, LIGHT2, Light, Request, Running, Setup, program, saegis};
use serde_json::{Value, json};

/// Returns the counter of an outcome or an operation.
fn count(of: &Value, key: &str, name: &str) -> u64 {
    let found = of.as_array().unwrap().iter().filter(|of| of[key] == name);
    found.map(|of| of["count"].as_u64().unwrap()).sum()
}

#[test]
fn top_prints_totals_and_rates_as_json() {
    let gateway = Setup::new().start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).unwrap().expect(201, 2001);
    light.ask(&Request::retrieve("/cse").from("Cother")).unwrap().expect_refusal(403, 4106);
    let wrong = saegis_tests::Credential { key: LIGHT2.key, ..LIGHT1 };
    assert!(Light::connect(gateway.port(), wrong).is_err());
    gateway.log().wait("handshake.refused");

    let ran = saegis(&gateway.path(""), &["top", "--json", "--count", "2", "--interval", "1"]);
    let lines: Vec<Value> =
        ran.expect(0).out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [first, second] = lines.as_slice() else { panic!("{lines:?}") };
    let totals = &first["totals"];
    assert_eq!(count(&totals["handshakes"], "outcome", "established"), 1);
    assert_eq!(count(&totals["handshakes"], "outcome", "wrong-key"), 1);
    assert_eq!(count(&totals["requests"], "operation", "create"), 1);
    let refused = json!({ "operation": "retrieve", "rsc": 4106, "count": 1 });
    assert!(totals["requests"].as_array().unwrap().contains(&refused), "{totals}");
    assert!(count(&totals["decisions"], "module", "psk-table") >= 2, "{totals}");
    assert_eq!(first["associations"][0]["entity"], "AE Clight-AE1");
    assert_eq!(first["status"]["cse_id"], "/mn-cse-123456");
    assert_eq!(first["rates"], Value::Null);
    // Nothing happened between the two.
    assert_eq!(second["rates"]["requests"], json!({}));
    assert!(!lines.iter().any(|line| line.to_string().contains(LIGHT1.key)));
}

#[test]
fn top_draws_the_gateway_in_a_terminal() {
    let gateway = Setup::new().start();
    let _light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let command = format!("{} top --count 2 --interval 1", program().display());
    let mut script = Command::new("script");
    script.args(["-qec", &format!("stty rows 40 cols 160; {command}"), "/dev/null"]);
    script.env("TERM", "xterm");
    let mut running = Running::start(script.current_dir(gateway.path("")));
    assert!(running.wait(BOUND).unwrap().success());
    running.out.wait(BOUND, |_: &[u8], ended: bool| ended.then_some(()));
    let text = running.out.text();
    for shown in ["/mn-cse-123456", "in force", "associations,", "AE Clight-AE1", "requests / s"] {
        assert!(text.contains(shown), "{shown}: {text:?}");
    }
    // The screen of the shell is restored.
    assert!(text.contains("\u{1b}[?1049l"), "{text:?}");
}

#[test]
fn top_refuses_pipes_and_stopped_gateways() {
    let mut gateway = Setup::new().start();
    let piped = saegis(&gateway.path(""), &["top"]).expect(4);
    assert!(piped.err.contains("use --json"), "{piped:?}");
    gateway.stop();
    let stopped = saegis(&gateway.path(""), &["top", "--json"]).expect(3);
    assert!(stopped.err.contains("no gateway answers"), "{stopped:?}");
    saegis(&gateway.path(""), &["top", "--json", "--interval", "0"]).expect(2);
}
