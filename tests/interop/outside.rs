//! Pages of ACME's HTTP server for testers and administrators. They are not reachable through the
//! gateway.

use saegis_tests::{Request, Response, Tool, with_each_client};
use serde_json::json;

use crate::acme::{ADMINISTRATOR, Acme};
use crate::lights::{Light, start};

with_each_client!(cse_pages_are_not_reachable_through_gateway, cse_reset_is_refused,);

/// The path of each page, and a text on the page or in its header.
const PAGES: [(&str, &str); 8] = [
    ("/__structure__", "@startuml"),
    ("/__structure__/text", "cse -> m2m:cb"),
    ("/__mgmt__/help", "ACME oneM2M CSE Management Commands"),
    ("/__mgmt__/config", "cse.security.secret"),
    ("/webui/index.html", "<html>"),
    ("/webui/__version__", "2026."),
    ("/webui", "/webui/index.html"),
    ("/", "/webui"),
];

/// Returns the whole text of a response.
fn whole(answer: &Response) -> String {
    format!("{:?} {}", answer.headers(), answer.text())
}

/// Returns a command of the Upper Tester (TS-0019), with content although none is needed.
fn command(path: &str, command: &str) -> Request {
    Request::new("POST", path)
        .header("Content-Type", "application/json")
        .header("X-M2M-UTCMD", command)
        .body("{}")
}

/// Returns a path, and other spellings that another parser could map to the same page.
fn spellings(path: &str, port: u16) -> Vec<String> {
    let mut spellings: Vec<_> = [
        "",
        "/",
        "/.",
        "/~",
        "/_",
        "/~/..",
        "/cse",
        "/cse/..",
        "/-",
        "/~/mn-cse-123456",
        "/~/mn-cse-123456/",
        "/~/mn-cse-123456/..",
        "/~/mn-cse-123456/%2e%2e",
        "/~/mn-cse-123456/-",
        "/~/mn-cse-123456/cse/../..",
        "/_/in.provider.com/mn-cse-123456",
        "/_/in.provider.com",
    ]
    .iter()
    .map(|before| format!("{before}{path}"))
    .collect();
    spellings.push(path.replace('_', "%5f"));
    spellings.push(path.replace('_', "%255f"));
    spellings.push(format!("/~/mn-cse-123456/..%2f..{}", path.replace('/', "%2f")));
    spellings.push(format!("http://127.0.0.1:{port}{path}"));
    spellings.push(format!("{path}?fr={ADMINISTRATOR}"));
    spellings
}

fn cse_pages_are_not_reachable_through_gateway(tool: Tool) {
    let (acme, gateway) = start();
    let mut light = Light::one(tool, &gateway);
    light.register();
    for (path, shows) in PAGES {
        let page = acme.ask(&Request::retrieve(path));
        assert!(matches!(page.status(), 200 | 302) && page.rsc().is_none(), "{path}: {page:?}");
        assert!(whole(&page).contains(shows), "{path}: {page:?}");
        for spelling in spellings(path, acme.port()) {
            let answer = light.client.ask(&Request::retrieve(&spelling).from(light.id));
            assert_not_page(&spelling, &answer, shows);
        }
    }
    let page = acme.ask(&command("/__ut__", "Status"));
    assert_eq!((page.status(), page.header("x-m2m-utrsp")), (200, Some("RUNNING")));
    for spelling in spellings("/__ut__", acme.port()) {
        let answer = light.client.ask(&command(&spelling, "Status").from(light.id));
        assert_not_page(&spelling, &answer, "utrsp");
    }
    // Resources are served as usual.
    light.send("on");
    assert_eq!(light.latest(), "on");
}

/// Asserts an error response, either of the gateway or of ACME for an unknown resource.
#[track_caller]
fn assert_not_page(path: &str, answer: &Response, shows: &str) {
    let refused = matches!(
        (answer.status(), answer.rsc()),
        (400, Some(4000)) | (404, Some(4004 | 5103)) | (405, Some(4005))
    );
    assert!(refused && !answer.debug().is_empty(), "{path}: {answer:?}");
    assert!(!whole(answer).contains(shows), "{path}: {answer:?}");
}

fn cse_reset_is_refused(tool: Tool) {
    let (acme, gateway) = start();
    let mut light = Light::one(tool, &gateway);
    light.register();
    let before = acme.tree();
    for spelling in spellings("/__ut__", acme.port()) {
        let answer = light.client.ask(&command(&spelling, "Reset").from(light.id));
        assert_not_page(&spelling, &answer, "utrsp");
        assert_eq!(acme.tree(), before, "{spelling}");
    }
    // Requests of the Upper Tester on behalf of others are refused as well.
    let deletion =
        json!({ "op": 4, "fr": ADMINISTRATOR, "to": "cse/light1", "rqi": "1", "rvi": "3" });
    let wrapped = |path: &str| {
        Request::new("POST", path)
            .header("Content-Type", "application/json")
            .body(&deletion.to_string())
    };
    for spelling in spellings("/__ut__", acme.port()) {
        let answer = light.client.ask(&wrapped(&spelling).from(light.id));
        assert!(matches!(answer.status(), 400 | 403 | 404), "{spelling}: {answer:?}");
    }
    assert_eq!(acme.tree(), before);
    light.send("on");
    assert_eq!(light.latest(), "on");
    // Without the gateway, both work.
    assert_wiped(&acme, |acme| {
        assert_eq!(acme.ask(&wrapped("/__ut__")).status(), 200);
    });
    light.register();
    assert_wiped(&acme, |acme| {
        assert_eq!(acme.ask(&command("/__ut__", "Reset")).status(), 200);
    });
}

/// Asserts that light 1 exists before an action, and not afterwards.
#[track_caller]
fn assert_wiped(acme: &Acme, how: impl FnOnce(&Acme)) {
    assert!(acme.tree().contains("light1 -> m2m:ae"), "{}", acme.tree());
    how(acme);
    assert!(!acme.tree().contains("light1"), "{}", acme.tree());
}
