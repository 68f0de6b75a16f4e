//! The web page: links, sessions, pages and changes.

use std::fs;

use saegis_tests::{
    Credential, Gateway, LIGHT1, LIGHT2, Mark, Request, Setup, Tool, host_and_path, read_until,
    saegis, wait_until,
};
use serde_json::Value;

/// Returns a gateway with the page and an audit trail.
pub(super) fn with_page() -> Setup {
    Setup::new()
        .with("admin.web", "listen = \"127.0.0.1:0\"")
        .with("audit", "file = \"state/audit.jsonl\"")
}

/// Waits for an event in the audit trail, and returns it.
#[track_caller]
pub(super) fn audited(gateway: &Gateway, event: &str, words: &str) -> Value {
    let mut found = Value::Null;
    wait_until(&format!("{event} with {words} is in the audit trail"), || {
        let trail = fs::read_to_string(gateway.path("state/audit.jsonl")).unwrap_or_default();
        let events = trail.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut all = events.filter(|of| of["event"] == event && of.to_string().contains(words));
        all.next().map(|of| found = of).is_some()
    });
    found
}

/// Returns the numbers of the active associations.
pub(super) fn associations(gateway: &Gateway) -> Vec<u64> {
    let all = saegis(&gateway.path(""), &["associations", "--json"]).expect(0).json();
    let all = all["associations"].as_array().unwrap().iter();
    all.map(|of| of["id"].as_u64().unwrap()).collect()
}

#[test]
fn web_page_is_off_by_default() {
    let gateway = Setup::new().start();
    assert!(!gateway.printed().contains("web page"), "{}", gateway.printed());
    let refused = saegis(&gateway.path(""), &["admin", "link"]).expect(4);
    assert!(refused.err.contains("set admin.web.listen"), "{refused:?}");
}

#[test]
fn web_page_listens_on_loopback_only() {
    for address in
        [":9465", "0.0.0.0:9465", "127.0.0.2:9465", "192.0.2.1:9465", "gateway.example:9465"]
    {
        let setup = Setup::new().with("admin.web", &format!("listen = \"{address}\""));
        let refused = setup.run_until_exit().expect(2);
        assert!(refused.err.contains("admin.web.listen: must be on the loopback"), "{refused:?}");
        assert!(refused.err.contains("saegis.toml:"), "{refused:?}");
        assert!(refused.err.contains("add [admin.web.remote] with certificates"), "{refused:?}");
    }
    let setup = Setup::new().with("admin.web", "session-seconds = 0\nlink-seconds = 3601");
    let refused = setup.run_until_exit().expect(2);
    assert!(refused.err.contains("session-seconds: must be from 1 to 604800"), "{refused:?}");
    assert!(refused.err.contains("link-seconds: must be from 1 to 3600"), "{refused:?}");
}

#[test]
fn web_link_opens_one_session() {
    let gateway = with_page().start();
    let printed = saegis(&gateway.path(""), &["admin", "link"]).expect(0);
    let (address, path) = host_and_path(printed.out.lines().next().unwrap());
    assert!(path.starts_with("/open/"), "{printed:?}");
    // Each link has a host name of its own.
    let (_, port) =
        gateway.web_address().rsplit_once(':').map(|(_, p)| ((), p.to_string())).unwrap();
    assert!(address.ends_with(&format!(".localhost:{port}")), "{address}");
    assert!(printed.out.contains("with the role operate"), "{printed:?}");
    let (other, link) = host_and_path(&gateway.web_link(&["--view"]));
    assert_ne!(address, other);
    let address = other;
    let open = || gateway.web(&Request::new("GET", &link).to_host(&address));
    let opened = open();
    assert_eq!(opened.status(), 303, "{opened:?}");
    let path = opened.header("location").unwrap();
    let cookie = opened.header("set-cookie").unwrap();
    let attributes = format!("; Path={path}; HttpOnly; SameSite=Strict");
    assert!(cookie.ends_with(&attributes), "{cookie}");
    let used = open();
    assert_eq!(used.status(), 403, "{used:?}");
    assert!(used.header("set-cookie").is_none(), "{used:?}");
    // The audit trail has the link and the session, and nobody's secret.
    audited(&gateway, "admin.command", "admin link --view");
    let session = audited(&gateway, "admin.session-opened", "view");
    assert_eq!(format!("/s/{}/", session["session"].as_str().unwrap()), path);
    let secret = cookie.split(['=', ';']).nth(1).unwrap();
    let trail = fs::read_to_string(gateway.path("state/audit.jsonl")).unwrap();
    for text in [trail, gateway.log().text()] {
        assert!(!text.contains(secret) && !text.contains(link.trim_start_matches("/open/")));
        let (host, _) = address.split_once('.').unwrap();
        assert!(!text.contains(host), "the host of a session is only in its link");
    }
}

#[test]
fn web_pages_show_state_of_gateway() {
    let gateway = with_page().start();
    let _light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let session = gateway.open_web(&["--view"]);
    for (page, words) in [
        ("", &["in force: generation 1, since 20", "embedded, its store works", "Nobody was"][..]),
        ("refusals", &["Nobody was refused"]),
        ("associations", &["1 of 1 associations", "12-AE123456789012-Light@in.provider.com"]),
        ("policy", &["psk-table", "originator-check", "psk-lookup-table", "Generation 1"]),
    ] {
        let text = session.page(&gateway, page);
        for words in words {
            assert!(text.contains(words), "{page}: {words}: {text}");
        }
        for key in [LIGHT1.key, LIGHT2.key] {
            assert!(!text.contains(key), "{page} has a key");
        }
        assert!(!text.contains("method=\"post\" action=\"reload\""), "a view role: {text}");
    }
    for (asset, kind) in [
        ("style.css", "text/css; charset=utf-8"),
        ("page.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ] {
        let got = gateway.web(&session.request("GET", asset));
        assert_eq!((got.status(), got.header("content-type")), (200, Some(kind)));
    }
    assert_eq!(gateway.web(&session.request("GET", "nothing")).status(), 404);
    let origin = format!("http://{}", session.host);
    let put = session.request("PUT", "").header("Origin", &origin);
    assert_eq!(gateway.web(&put).status(), 405);
}

#[test]
fn refused_policy_is_on_web_page() {
    let gateway = with_page().start();
    let session = gateway.open_web(&[]);
    let mut updates = session.updates();
    let first = read_until(&mut updates, "\n\n");
    assert!(first.contains("text/event-stream"), "{first}");
    let first = first + &read_until(&mut updates, "\"policy\":\"good\"");
    assert!(!first.contains("\"policy\":\"bad\""), "{first}");
    let table = gateway.table();
    gateway.refused_after("kpsa", |gateway| {
        gateway.replace("policies/psk-lookup-table.csv", "ae_id,kpsa,kpsa_id\nCx,0g,x@y.z\n");
    });
    read_until(&mut updates, "\"policy\":\"bad\"");
    let page = session.page(&gateway, "");
    assert!(page.contains("data-state-of=\"policy\" data-state=\"bad\""), "{page}");
    assert!(page.contains("generation 1 stays in force"), "{page}");
    assert!(page.contains("psk-lookup-table.csv:2:4: kpsa"), "{page}");
    gateway.replace("policies/psk-lookup-table.csv", table);
    read_until(&mut updates, "\"policy\":\"good\"");
}

#[test]
fn refusals_are_on_web_page_with_remedies() {
    let gateway = with_page().start();
    let unknown = Credential { identity: "lamp@in.provider.com", ..LIGHT1 };
    for _ in 0..2 {
        Tool::OpenSsl.refused(gateway.port(), unknown);
    }
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.ask(&Request::retrieve("/cse/x").from("Clight-AE2")).expect_refusal(403, 4106);
    let session = gateway.open_web(&["--view"]);
    wait_until("both refusals are shown", || {
        let page = session.page(&gateway, "refusals");
        page.contains("lamp@in.provider.com")
            && page.contains(">2×, last ")
            && page.contains("4106")
    });
    let page = session.page(&gateway, "");
    for words in [
        "unknown-identity",
        "saegis device add NAME",
        "let the device write its own AE-ID in X-M2M-Origin",
        "retrieve",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
}

#[test]
fn association_is_ended_on_web_page() {
    let gateway = with_page().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let mut other = Tool::OpenSsl.connect(gateway.port(), LIGHT2);
    let session = gateway.open_web(&[]);
    let found = session.page(&gateway, "associations?q=aE123456789012");
    assert!(found.contains("1 of 2 associations"), "{found}");
    assert!(found.contains(LIGHT1.identity) && !found.contains(LIGHT2.identity), "{found}");
    let (_, rest) = found.split_once("name=\"id\" value=\"").unwrap();
    let (id, _) = rest.split_once('"').unwrap();
    let token = session.token(&gateway);
    let done = gateway.web(&session.form("end-association", &token, &format!("&id={id}")));
    assert_eq!(done.status(), 303, "{done:?}");
    assert_eq!(done.header("location"), Some(&*format!("{}associations", session.path)));
    light.ended();
    other.assert_served_as("Clight-AE2");
    let event = audited(&gateway, "admin.command", &format!("end-association {id}"));
    assert_eq!(format!("/s/{}/", event["session"].as_str().unwrap()), session.path);
    // The result is shown once.
    assert!(session.page(&gateway, "associations").contains("The association ends."));
    assert!(!session.page(&gateway, "associations").contains("The association ends."));
    gateway.web(&session.form("end-association", &token, "&id=999"));
    assert!(session.page(&gateway, "associations").contains("There is no such association."));
}

#[test]
fn policy_is_reloaded_on_web_page() {
    let gateway = with_page().start();
    let session = gateway.open_web(&[]);
    let token = session.token(&gateway);
    let mark = gateway.log().mark();
    assert_eq!(gateway.web(&session.form("reload", &token, "")).status(), 303);
    let page = session.page(&gateway, "policy");
    assert!(page.contains("Nothing has changed since generation 1."), "{page}");
    audited(&gateway, "admin.command", "reload");
    assert!(gateway.log().all(mark, "generation.in-force", 0).is_empty());
}

#[test]
fn sign_out_ends_web_session() {
    let gateway = with_page().start();
    let session = gateway.open_web(&["--view"]);
    let other = gateway.open_web(&["--view"]);
    let mut updates = session.updates();
    read_until(&mut updates, "event: update");
    let token = session.token(&gateway);
    assert_eq!(gateway.web(&session.form("sign-out", &token, "")).status(), 200);
    assert_eq!(gateway.web(&session.request("GET", "")).status(), 403);
    assert_eq!(gateway.web(&other.request("GET", "")).status(), 200);
    audited(&gateway, "admin.session-closed", session.path.trim_matches(['/', 's']));
    let rest = read_until(&mut updates, "this text never comes");
    assert!(rest.ends_with("0\r\n\r\n"), "the stream is complete: {rest}");
    gateway.log().wait_for(Mark::START, "admin.session-closed", |_| true);
}

#[test]
fn web_sessions_are_listed_and_ended_by_command() {
    let gateway = with_page().start();
    let sessions = || {
        let all = saegis(&gateway.path(""), &["admin", "sessions", "--json"]).expect(0).json();
        all["sessions"].as_array().unwrap().clone()
    };
    assert!(sessions().is_empty());
    let (first, second) = (gateway.open_web(&[]), gateway.open_web(&["--view"]));
    let listed = sessions();
    let roles: Vec<_> = listed.iter().map(|of| of["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["operate", "view"]);
    let id = listed[0]["id"].as_str().unwrap();
    let table = saegis(&gateway.path(""), &["admin", "sessions"]).expect(0);
    assert!(table.out.contains(id) && table.out.contains("EXPIRES"), "{table:?}");
    let (_, secret) = first.cookie.split_once('=').unwrap();
    assert!(!table.out.contains(secret) && !listed[0].to_string().contains(secret));
    let mut updates = first.updates();
    read_until(&mut updates, "event: update");
    let sign_out = |arguments: &[&str]| {
        saegis(&gateway.path(""), &[&["admin", "sign-out"], arguments].concat())
    };
    assert!(sign_out(&["0000"]).expect(4).err.contains("there is no session 0000"));
    sign_out(&[]).expect(2);
    sign_out(&["--all", id]).expect(2);
    assert!(sign_out(&[id]).expect(0).out.contains("has ended"));
    assert_eq!(gateway.web(&first.request("GET", "")).status(), 403);
    read_until(&mut updates, "0\r\n\r\n");
    assert_eq!(gateway.web(&second.request("GET", "")).status(), 200);
    audited(&gateway, "admin.command", &format!("admin sign-out {id}"));
    audited(&gateway, "admin.session-closed", "ended by command");
    // All sessions and all links.
    let (host, link) = host_and_path(&gateway.web_link(&[]));
    let ended = sign_out(&["--all", "--json"]).expect(0).json();
    assert_eq!(ended["ended"], 1);
    assert_eq!(gateway.web(&second.request("GET", "")).status(), 403);
    assert_eq!(gateway.web(&Request::new("GET", &link).to_host(&host)).status(), 403);
    assert!(sessions().is_empty());
}
