//! The path of a request, on the web page and on the command line.

use saegis_tests::{Gateway, LIGHT1, LIGHT2, Request, Setup, Tool, saegis, wait_until};
use serde_json::{Value, json};

use super::web::{associations, with_page};
use super::web_policy::HOSTILE_FROM;

/// Returns the recorded requests.
#[track_caller]
fn requests(gateway: &Gateway, arguments: &[&str]) -> Vec<Value> {
    let command = [&["requests", "--json"], arguments].concat();
    let found = saegis(&gateway.path(""), &command).expect(0).json();
    found["requests"].as_array().unwrap().clone()
}

/// Returns the names of the steps of a request.
fn steps(request: &Value) -> Vec<&str> {
    let steps = request["steps"].as_array().unwrap().iter();
    steps.map(|step| step["name"].as_str().unwrap()).collect()
}

#[test]
fn path_of_request_has_its_steps() {
    let gateway = with_page().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).expect(201, 2001);
    light.ask(&Request::retrieve("/cse/light1").from("Clight-AE2")).expect_refusal(403, 4106);
    let mut other = Tool::OpenSsl.connect(gateway.port(), LIGHT2);
    other.ask(&Request::retrieve("/cse/none").from("Clight-AE2")).expect_refusal(404, 4004);
    let mut all = Vec::new();
    wait_until("all requests are recorded", || {
        all = requests(&gateway, &[]);
        all.len() == 3
    });
    let [missing, refused, created] = &all[..] else { panic!("three requests: {all:?}") };
    let wanted = ["association", "originator", "registration", "embedded CSE", "response"];
    assert_eq!(steps(created), wanted, "{created}");
    assert_eq!((&created["operation"], &created["rsc"]), (&json!("create"), &json!(2001)));
    assert_eq!(created["from"], "Clight-AE1");
    assert_eq!(steps(refused), ["association", "originator", "response"], "{refused}");
    assert_eq!(refused["rsc"], 4106, "{refused}");
    assert!(refused["steps"][1]["why"].is_string(), "{refused}");
    assert!(refused["steps"][0].get("why").is_none(), "{refused}");
    assert_eq!(steps(missing), ["association", "originator", "embedded CSE", "response"]);
    for request in &all {
        let each = request["steps"].as_array().unwrap().iter();
        let sum: u64 = each.map(|step| step["us"].as_u64().unwrap()).sum();
        assert!(sum > 0 && sum <= request["total_us"].as_u64().unwrap(), "{request}");
    }
    // The commands and the pages select in the same way.
    let ids = associations(&gateway);
    let first = ids[0].to_string();
    assert_eq!(requests(&gateway, &["--association", &first]).len(), 2);
    assert_eq!(requests(&gateway, &["--refused"]).len(), 2);
    assert_eq!(requests(&gateway, &["--refused", "--association", &first]).len(), 1);
    let text = saegis(&gateway.path(""), &["requests"]).expect(0).out;
    assert!(text.contains(" create ") && text.contains("    originator: "), "{text}");
    let session = gateway.open_web(&["--view"]);
    let link = format!("requests?association={first}");
    assert!(session.page(&gateway, "associations").contains(&link));
    let page = session.page(&gateway, &link);
    assert_eq!(page.matches("class=\"path\"").count(), 2, "{page}");
    assert!(page.contains("embedded CSE") && page.contains("<rect class=\"refused\""), "{page}");
    let (_, rest) = session
        .page(&gateway, "refusals")
        .split_once("requests?refused=")
        .map(|(before, rest)| (before.to_string(), rest.to_string()))
        .expect("a link");
    let (who, _) = rest.split_once('"').unwrap();
    let page = session.page(&gateway, &format!("requests?refused={who}"));
    assert_eq!(page.matches("class=\"path\"").count(), 1, "{page}");
}

#[test]
fn requests_are_not_recorded_without_page() {
    let gateway = Setup::new().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.ask(&Request::retrieve("/cse/x").from("Clight-AE2")).expect_refusal(403, 4106);
    let failed = saegis(&gateway.path(""), &["requests"]).expect(4);
    assert!(failed.err.contains("set admin.web.listen"), "{failed:?}");
}

#[test]
fn recorded_requests_are_bounded() {
    let gateway = with_page().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).expect(201, 2001);
    let long = format!("/cse/{}", "x".repeat(1000));
    light.ask(&Request::retrieve(&long).from("Clight-AE1")).expect_refusal(404, 4004);
    for _ in 0..20 {
        light.ask(&Request::retrieve("/cse/light1").from("Clight-AE1")).expect(200, 2000);
    }
    let mut all = Vec::new();
    wait_until("the last request is recorded", || {
        all = requests(&gateway, &[]);
        all.len() == 6
    });
    // The successful ones do not displace the refused one.
    assert_eq!(all[5]["rsc"], 4004, "{all:?}");
    assert!(all[5]["to"].as_str().unwrap().chars().count() <= 129, "{all:?}");
}

#[test]
fn hostile_texts_of_requests_are_data() {
    let gateway = with_page().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.ask(&Request::retrieve("/cse/x").from(HOSTILE_FROM)).expect_refusal(400, 4000);
    let session = gateway.open_web(&["--view"]);
    wait_until("the request is recorded", || !requests(&gateway, &[]).is_empty());
    for query in ["", "?refused=", "?association=%3Cscript%3E", "?refused=%3Cb%3E&x=%00"] {
        let page = session.page(&gateway, &format!("requests{query}"));
        assert_eq!(page.matches("<script").count(), 1, "{page}");
        assert!(!page.contains("<b>") && !page.contains("<b "), "{page}");
    }
    let page = session.page(&gateway, "requests");
    assert!(page.contains("C&lt;b onclick=alert(1)&gt;{{7*7}}"), "{page}");
}
