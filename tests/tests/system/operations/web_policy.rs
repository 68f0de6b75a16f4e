//! The policy on the web page and on the command line: rollouts of modules, and the last generations.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use saegis_tests::{Gateway, LIGHT1, Request, Setup, Tool, WebSession, saegis, wait_until};
use serde_json::{Value, json};

use super::web::{audited, with_page};

const NEXT: &str =
    "mode = \"shadow\"\nreplaces = \"psk-table\"\ncapabilities = [\"policy-tables\"]\n";
const MANIFEST: &str = "policies/modules/psk-table-2.toml";

/// A module name that is markup. The file system forbids a slash in it.
pub(super) const HOSTILE_MODULE: &str = "<img src=x onerror=document.title='owned'>";
/// An originator that is markup.
pub(super) const HOSTILE_FROM: &str = "C<b onclick=alert(1)>{{7*7}}";

/// Starts a gateway with the page and a shadow module that would replace `psk-table`.
pub(super) fn with_shadow() -> Gateway {
    let gateway = with_page().start();
    let bytes = fs::read(gateway.path("policies/modules/psk-table.wasm")).unwrap();
    gateway.in_force_after(|g| {
        g.write(MANIFEST, NEXT);
        g.replace("policies/modules/psk-table-2.wasm", &bytes);
    });
    gateway
}

/// Starts a gateway whose policy page has hostile texts: the name of a module, and the originator of a
/// decision in which a shadow module disagreed.
pub(super) fn with_hostile_policy() -> Gateway {
    let shadow = "mode = \"shadow\"\nreplaces = \"originator-check\"\ncapabilities = [\"log\"]\n";
    let gateway = with_page().module("faulty", shadow).start();
    gateway.in_force_after(|g| {
        g.write(&format!("policies/modules/{HOSTILE_MODULE}.toml"), "mode = \"shadow\"\n");
        g.replace(&format!("policies/modules/{HOSTILE_MODULE}.wasm"), "rubbish");
    });
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.ask(&Request::retrieve("/cse/x").from(HOSTILE_FROM)).expect_refusal(400, 4000);
    wait_until("the shadow has disagreed", || {
        let shadows = modules(&gateway)["shadows"].clone();
        shadows.to_string().contains("{{7*7}}")
    });
    gateway
}

fn modules(gateway: &Gateway) -> Value {
    saegis(&gateway.path(""), &["modules", "--json"]).expect(0).json()
}

fn in_force(gateway: &Gateway) -> Vec<String> {
    let all = modules(gateway);
    let names = all["modules"].as_array().unwrap().iter();
    names.map(|module| module["name"].as_str().unwrap().into()).collect()
}

fn manifest(gateway: &Gateway) -> String {
    fs::read_to_string(gateway.path(MANIFEST)).unwrap()
}

/// Sends a form about a module, and returns the page that the browser shows then.
#[track_caller]
fn roll_out(gateway: &Gateway, session: &WebSession, action: &str, module: &str) -> String {
    let token = session.token(gateway);
    let sent = gateway.web(&session.form(action, &token, &format!("&module={module}")));
    assert_eq!(sent.status(), 303, "{sent:?}");
    session.page(gateway, "policy")
}

#[test]
fn shadow_is_promoted_and_rolled_back_on_page() {
    let gateway = with_shadow();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let session = gateway.open_web(&[]);
    let page = session.page(&gateway, "policy");
    assert!(
        page.contains("action=\"promote\"") && !page.contains("action=\"roll-back\""),
        "{page}"
    );
    let page = roll_out(&gateway, &session, "promote", "psk-table-2");
    assert!(page.contains("psk-table-2 is in force and replaces psk-table"), "{page}");
    assert!(
        page.contains("action=\"roll-back\"") && !page.contains("action=\"promote\""),
        "{page}"
    );
    assert_eq!(in_force(&gateway), ["originator-check", "psk-table-2"]);
    assert_eq!(manifest(&gateway), NEXT.replace("shadow", "in-force"));
    let event = audited(&gateway, "admin.command", "module promote psk-table-2");
    assert!(event["session"].is_string(), "{event}");
    light.assert_served_as("Clight-AE1");
    let page = roll_out(&gateway, &session, "roll-back", "psk-table-2");
    assert!(page.contains("psk-table is in force again, and psk-table-2 is a shadow"), "{page}");
    assert_eq!(in_force(&gateway), ["originator-check", "psk-table"]);
    assert_eq!(manifest(&gateway), NEXT);
    audited(&gateway, "admin.command", "module rollback psk-table-2");
    // The page has the generations of both.
    assert!(page.contains(" added</li>") && page.contains(" removed</li>"), "{page}");
}

#[test]
fn rollouts_without_object_change_nothing() {
    let gateway = with_shadow();
    let session = gateway.open_web(&[]);
    let before = modules(&gateway)["generation"].clone();
    for (action, module, why) in [
        ("promote", "nobody", "there is no module nobody"),
        ("promote", "psk-table", "psk-table is already in force"),
        ("promote", "..%2Fpsk-table-2", "there is no module ../psk-table-2"),
        ("roll-back", "nobody", "there is no module nobody"),
        ("roll-back", "psk-table", "psk-table has no former version"),
        ("roll-back", "psk-table-2", "psk-table-2 is a shadow module"),
    ] {
        let page = roll_out(&gateway, &session, action, module);
        assert!(page.contains(why), "{why}: {page}");
    }
    // A directory in the path of the new manifest blocks the write, even for root.
    fs::create_dir(gateway.path("policies/modules/.psk-table-2.toml.new")).unwrap();
    let page = roll_out(&gateway, &session, "promote", "psk-table-2");
    assert!(page.contains("cannot be written") && page.contains("nothing was changed"), "{page}");
    assert_eq!((manifest(&gateway), &modules(&gateway)["generation"]), (NEXT.into(), &before));
    // Without the former version, there is nothing to roll back to.
    fs::remove_dir(gateway.path("policies/modules/.psk-table-2.toml.new")).unwrap();
    roll_out(&gateway, &session, "promote", "psk-table-2");
    gateway.in_force_after(|g| {
        fs::remove_file(g.path("policies/modules/psk-table.wasm")).unwrap();
    });
    let page = roll_out(&gateway, &session, "roll-back", "psk-table-2");
    assert!(page.contains("the former version, psk-table.wasm, was removed"), "{page}");
    assert_eq!(in_force(&gateway), ["originator-check", "psk-table-2"]);
}

#[test]
fn rollout_needs_role_and_token() {
    let gateway = with_shadow();
    let (view, operate) = (gateway.open_web(&["--view"]), gateway.open_web(&[]));
    let page = view.page(&gateway, "policy");
    assert!(page.contains("psk-table-2") && !page.contains("action=\"promote\""), "{page}");
    let (own, foreign) = (view.token(&gateway), operate.token(&gateway));
    let module = "&module=psk-table-2";
    for (request, status) in [
        (view.form("promote", &own, module), 403),
        (view.form("promote", &foreign, module), 403),
        (operate.form("promote", "", module), 403),
        (operate.form("promote", &own, module), 403),
        (operate.form("promote", &foreign, ""), 404),
        (operate.form("promote", &foreign, &format!("{module}{module}")), 404),
        (operate.form("promote", &foreign, module).without("Origin"), 403),
    ] {
        let got = gateway.web(&request);
        assert_eq!(got.status(), status, "{request:?}: {got:?}");
    }
    assert_eq!(manifest(&gateway), NEXT);
    let trail = fs::read_to_string(gateway.path("state/audit.jsonl")).unwrap();
    assert!(!trail.contains("\"command\":\"module promote"), "{trail}");
}

#[test]
fn rollout_waits_for_no_other_and_keeps_permissions() {
    let gateway = with_shadow();
    let folder = gateway.path("policies/modules");
    let lock = fs::File::open(&folder).unwrap();
    lock.lock().unwrap();
    let session = gateway.open_web(&[]);
    let page = roll_out(&gateway, &session, "promote", "psk-table-2");
    assert!(page.contains("another promote or rollback is running"), "{page}");
    drop(lock);
    // The permissions of the manifest stay.
    let file = gateway.path(MANIFEST);
    fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    roll_out(&gateway, &session, "promote", "psk-table-2");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn refused_generation_is_shown_without_key() {
    let key = "00112233445566778899aabbccddeeff";
    let gateway = with_page().start();
    let session = gateway.open_web(&["--view"]);
    let table = format!("ae_id,kpsa,kpsa_id\nC<b>,{key}x,x@y.z\nCa,{key},{key},\n");
    gateway.refused_after("psk-lookup-table.csv", |g| {
        g.replace("policies/psk-lookup-table.csv", &table);
    });
    wait_until("the lines are shown", || {
        session.page(&gateway, "policy").contains("C&lt;b&gt;,[hidden],x@y.z")
    });
    let page = session.page(&gateway, "policy");
    assert!(page.contains("Refused; generation 1 stays in force"), "{page}");
    assert!(page.contains("line 2, column ") && page.contains(", line 3"), "{page}");
    assert!(page.contains("[hidden],[hidden],[hidden],[hidden]"), "{page}");
    let list = saegis(&gateway.path(""), &["generations"]).expect(0);
    let found = saegis(&gateway.path(""), &["generations", "--json"]).expect(0);
    for text in [&page, &list.out, &found.out] {
        assert!(!text.contains(key.get(..8).unwrap()), "a key: {text}");
    }
    let refused = &found.json()["generations"][0];
    assert_eq!((&refused["outcome"], &refused["generation"]), (&json!("refused"), &json!(1)));
    assert_eq!(refused["faults"][0]["line"], 2, "{refused}");
    assert_eq!(refused["faults"][0]["text"], "C<b>,[hidden],x@y.z", "{refused}");
    assert!(list.out.contains("refused, in force stays"), "{list:?}");
}

#[test]
fn generations_are_listed_with_changes() {
    let gateway = Setup::new().start();
    let table = gateway.table();
    let header: Vec<_> = table.lines().next().unwrap().split(',').collect();
    let cell = |name: &str| match name {
        "kpsa" => "0011223344556677",
        "kpsa_id" => "third@in.provider.com",
        "ae_id" => "Clight-AE3",
        _ => "",
    };
    let row: Vec<_> = header.iter().map(|name| cell(name)).collect();
    let table = format!("{table}{}\n", row.join(","));
    gateway.in_force_after(|g| g.replace("policies/psk-lookup-table.csv", &table));
    let mut found = Value::Null;
    wait_until("the generation is listed", || {
        found = saegis(&gateway.path(""), &["generations", "--json"]).expect(0).json();
        found["generations"][0]["generation"] == 2
    });
    let (last, first) = (&found["generations"][0], &found["generations"][1]);
    let change = json!({ "name": "psk-lookup-table", "added": 1, "removed": 0, "changed": 0 });
    assert_eq!((&last["outcome"], &last["tables"][0]), (&json!("in-force"), &change));
    assert_eq!((&first["generation"], first.get("changes")), (&json!(1), None));
    let text = saegis(&gateway.path(""), &["generations"]).expect(0).out;
    assert!(text.contains("in force, psk-lookup-table +1 -0 ~0 rows"), "{text}");
}

#[test]
fn calls_of_modules_have_times() {
    let gateway = with_shadow();
    let _light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let found = modules(&gateway);
    let module = &found["modules"][1];
    assert_eq!(module["calls"][0]["hook"], "credential-lookup", "{module}");
    let (median, p99) = (&module["calls"][0]["median_us"], &module["calls"][0]["p99_us"]);
    assert!(median.as_f64() > Some(0.0) && p99.as_f64() >= median.as_f64(), "{module}");
    let session = gateway.open_web(&["--view"]);
    let page = session.page(&gateway, "policy");
    assert!(
        page.contains("Calls since the start") && page.contains(">99 of 100 within<"),
        "{page}"
    );
    let text = saegis(&gateway.path(""), &["modules"]).expect(0).out;
    assert!(text.contains("MEDIAN_US"), "{text}");
}

#[test]
fn hostile_texts_of_policy_are_data() {
    let gateway = with_hostile_policy();
    let session = gateway.open_web(&[]);
    let page = session.page(&gateway, "policy");
    assert!(page.contains("&lt;img src=x onerror=document.title='owned'&gt;"), "{page}");
    assert!(page.contains("C&lt;b onclick=alert(1)&gt;{{7*7}}"), "{page}");
    assert!(!page.contains("<img") && !page.contains("<b "), "{page}");
    let refused = roll_out(&gateway, &session, "promote", "%3Cimg%20src%3Dy%3E");
    assert!(refused.contains("there is no module &lt;img src=y&gt;"), "{refused}");
    assert!(!refused.contains("<img"), "{refused}");
}
