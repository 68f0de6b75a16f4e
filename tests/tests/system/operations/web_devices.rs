//! Devices on the web page: the table, and the forms that add, rotate and revoke.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use saegis_tests::{
    BOUND, Credential, Gateway, LIGHT1, LIGHT2, Request, Response, Setup, Tool, WebSession, saegis,
    wait_until,
};

use super::web::{audited, with_page};
use super::web_hostile::HOSTILE;

const LAMP: &str = "lamp@in.provider.com";
const TABLE: &str = "policies/psk-lookup-table.csv";

/// Encodes a text for a form.
pub(super) fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Returns a gateway with the page, and rules for registrations with a comment.
fn with_rules() -> Setup {
    let rules = "# Ours.\n[[node]]\ncse-id = \"mn-cse-123456\"\nrule-links = []\n";
    with_page()
        .module("app-rules", "capabilities = [\"service-subscription\"]")
        .file("service-subscription.toml", rules)
}

/// Returns the fields of the form that adds a device.
fn fields(name: &str, app_id: &str, expires: &str) -> String {
    let (name, app_id, expires) = (encoded(name), encoded(app_id), encoded(expires));
    format!("&name={name}&app-id={app_id}&expires={expires}")
}

/// Sends a form.
fn send(gateway: &Gateway, session: &WebSession, action: &str, fields: &str) -> Response {
    let token = session.token(gateway);
    gateway.web(&session.form(action, &token, fields))
}

/// Returns the key that a page shows.
#[track_caller]
fn key(shown: &Response) -> String {
    let text = shown.text();
    let rest = text.split_once("id=\"kpsa\">").unwrap_or_else(|| panic!("no key: {shown:?}")).1;
    let key = rest.split_once('<').unwrap().0;
    assert!(key.len() == 32 && key.bytes().all(|c| c.is_ascii_hexdigit()), "{key}");
    assert_eq!(text.matches(key).count(), 1, "the key is shown once");
    key.into()
}

/// Adds a device, and returns its key.
#[track_caller]
fn add(gateway: &Gateway, session: &WebSession, name: &str) -> String {
    let added = send(gateway, session, "add-device", &fields(name, "", ""));
    assert_eq!(added.status(), 200, "{added:?}");
    key(&added)
}

fn rotation(id: &str, days: &str) -> String {
    format!("&id={}&overlap-days={days}", encoded(id))
}

/// Asserts that no key is in the log, the audit trail or a page.
#[track_caller]
fn assert_no_key(gateway: &Gateway, session: &WebSession, keys: &[&str]) {
    let device = format!("device?id={}", encoded(LAMP));
    let mut texts: Vec<_> =
        ["", "refusals", "associations", "policy", "devices", "add-device", &device]
            .map(|page| gateway.web(&session.request("GET", page)).text())
            .into();
    texts.push(fs::read_to_string(gateway.path("state/audit.jsonl")).unwrap());
    texts.extend([gateway.log().text(), gateway.printed()]);
    for (text, key) in texts.iter().flat_map(|text| keys.iter().map(move |key| (text, key))) {
        assert!(!text.contains(key), "a key is shown: {text}");
    }
}

#[test]
fn refused_device_is_added_on_web_page() {
    let gateway = with_rules().start();
    let comment = "# Ours, on the first floor.\n";
    gateway.in_force_after(|gateway| gateway.replace(TABLE, gateway.table() + comment));
    Tool::OpenSsl.refused(gateway.port(), Credential { identity: LAMP, ..LIGHT1 });
    let session = gateway.open_web(&[]);
    let link = "href=\"add-device?identity=lamp%40in.provider.com\"";
    wait_until("the page leads to the form", || {
        session.page(&gateway, "refusals").contains(link)
            && session.page(&gateway, "").contains(link)
    });
    let form = session.page(&gateway, "add-device?identity=lamp%40in.provider.com");
    assert!(form.contains("name=\"name\" value=\"lamp\""), "{form}");
    let expires = "20371231T235959";
    let added = send(&gateway, &session, "add-device", &fields("lamp", "Nphone", expires));
    assert_eq!(added.status(), 200, "{added:?}");
    assert_eq!(added.header("cache-control"), Some("no-store"));
    let text = added.text();
    for words in ["The device lamp was added", "generation ", "Clamp", "Nphone", LAMP, "2037-12-31"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    let key = key(&added);
    let credential = Credential { identity: LAMP, key: &key };
    let mut lamp = Tool::OpenSsl.connect(gateway.port(), credential);
    let body = serde_json::json!({ "rn": "lamp", "api": "Nphone", "rr": false, "srv": ["3"] });
    let body = serde_json::json!({ "m2m:ae": body });
    lamp.ask(&Request::create("/cse", 2, &body).from("Clamp")).expect(201, 2001);

    // The command sees the same device, and the files keep their comments.
    let listed = saegis(&gateway.path(""), &["device", "show", "lamp", "--json"]).expect(0).json();
    assert_eq!((&listed["app_id"], &listed["expires"]), (&"Nphone".into(), &expires.into()));
    assert!(gateway.table().contains(comment), "{}", gateway.table());
    let rules = gateway.path("policies/service-subscription.toml");
    assert!(fs::read_to_string(&rules).unwrap().starts_with("# Ours.\n[[node]]"));
    let mode = fs::metadata(gateway.path(TABLE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let command = "device add lamp --app-id Nphone --expires 20371231T235959";
    let event = audited(&gateway, "admin.command", command);
    assert!(event["session"].is_string(), "{event}");
    assert_no_key(&gateway, &session, &[&key, LIGHT1.key]);

    // The same form again, as when a browser loads the answer again.
    let table = gateway.table();
    let again = send(&gateway, &session, "add-device", &fields("lamp", "Nphone", ""));
    assert_eq!(again.status(), 400, "{again:?}");
    assert!(again.text().contains("Clamp exists"), "{again:?}");
    assert_eq!(gateway.table(), table);
    lamp.assert_served_as("Clamp");
}

#[test]
fn key_is_rotated_on_web_page() {
    let gateway = with_rules().start();
    let session = gateway.open_web(&[]);
    let first = add(&gateway, &session, "lamp");
    let connects = |identity: &str, key: &str| {
        let credential = Credential { identity, key };
        Tool::OpenSsl.try_connect(gateway.port(), credential, saegis_tests::Offer::MANDATED).is_ok()
    };
    let rotated = send(&gateway, &session, "rotate-device", &rotation(LAMP, "7"));
    assert_eq!(rotated.status(), 200, "{rotated:?}");
    assert!(rotated.text().contains("the old one ends at 20"), "{rotated:?}");
    let second = key(&rotated);
    let newer = "lamp-2@in.provider.com";
    assert!(connects(LAMP, &first) && connects(newer, &second));
    // The form again, with the key that is no longer the newest one.
    let table = gateway.table();
    for id in [LAMP, "lamp-9@in.provider.com"] {
        let again = send(&gateway, &session, "rotate-device", &rotation(id, "7"));
        assert_eq!(again.status(), 400, "{again:?}");
    }
    for days in ["", "-1", "x", "36501", "18446744073709551616"] {
        let wrong = send(&gateway, &session, "rotate-device", &rotation(newer, days));
        assert_eq!(wrong.status(), 400, "{days}: {wrong:?}");
    }
    assert_eq!(gateway.table(), table);
    let device = session.page(&gateway, &format!("device?id={}", encoded(newer)));
    assert!(device.contains(LAMP) && device.contains("Nlamp"), "{device}");

    let rotated = send(&gateway, &session, "rotate-device", &rotation(newer, "0"));
    assert!(rotated.text().contains("the old one was removed"), "{rotated:?}");
    let third = key(&rotated);
    let newest = "lamp-3@in.provider.com";
    assert!(!connects(LAMP, &first) && !connects(newer, &second) && connects(newest, &third));
    audited(&gateway, "admin.command", "device rotate-key lamp-2@in.provider.com --overlap-days 0");
    assert_no_key(&gateway, &session, &[&first, &second, &third]);
}

#[test]
fn device_is_revoked_on_web_page() {
    // Many associations do not prevent the removal of a key.
    let gateway = with_rules().with("policy", "max-ended-associations = 1").start();
    let session = gateway.open_web(&[]);
    let key = add(&gateway, &session, "lamp");
    let credential = Credential { identity: LAMP, key: &key };
    let lamps = [(); 2].map(|()| Tool::OpenSsl.connect(gateway.port(), credential));
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let done = send(&gateway, &session, "revoke-device", &format!("&id={}", encoded(LAMP)));
    assert_eq!(done.status(), 303, "{done:?}");
    assert_eq!(done.header("location"), Some(&*format!("{}devices", session.path)));
    let page = session.page(&gateway, "devices");
    assert!(page.contains("Revoked lamp@in.provider.com: generation "), "{page}");
    assert!(page.contains("2 of 2 rows"), "{page}");
    for mut lamp in lamps {
        lamp.ended();
    }
    Tool::OpenSsl.refused(gateway.port(), credential);
    light.assert_served_as("Clight-AE1");
    let rules = fs::read_to_string(gateway.path("policies/service-subscription.toml")).unwrap();
    assert!(!rules.contains("lamp"), "{rules}");
    audited(&gateway, "admin.command", "device revoke lamp@in.provider.com");
    let again = send(&gateway, &session, "revoke-device", &format!("&id={}", encoded(LAMP)));
    assert_eq!(again.status(), 400, "{again:?}");
}

#[test]
fn refused_forms_change_no_device() {
    let gateway = with_rules().start();
    let (session, view) = (gateway.open_web(&[]), gateway.open_web(&["--view"]));
    let (token, table) = (session.token(&gateway), gateway.table());
    let revocation = format!("&id={}", encoded(LIGHT1.identity));
    let changes = [
        ("add-device", fields("lamp", "", "")),
        ("rotate-device", rotation(LIGHT1.identity, "0")),
        ("revoke-device", revocation),
    ];
    for (action, fields) in &changes {
        let viewer = view.form(action, &view.token(&gateway), fields);
        let origin = |origin| {
            session.form(action, &token, fields).without("Origin").header("Origin", origin)
        };
        for (request, words) in [
            (viewer, "This session may only view."),
            (session.form(action, "", fields), "The form is not of this session"),
            (
                session.form(action, &view.token(&gateway), fields),
                "The form is not of this session",
            ),
            (origin("https://evil.example"), "saegis admin link"),
            (origin("null"), "saegis admin link"),
            (session.form(action, &token, fields).without("Origin"), "saegis admin link"),
        ] {
            let refused = gateway.web(&request);
            assert_eq!(refused.status(), 403, "{request:?}: {refused:?}");
            assert!(refused.text().contains(words), "{words}: {refused:?}");
        }
        let without = gateway.web(&session.form(action, &token, ""));
        assert_eq!(without.status(), 404, "{without:?}");
        let twice = gateway.web(&session.form(action, &token, &fields.repeat(2)));
        assert_eq!(twice.status(), 404, "{twice:?}");
        let large = format!("{fields}&x={}", "a".repeat(8192));
        assert_eq!(gateway.web(&session.form(action, &token, &large)).status(), 400);
        let get = gateway.web(&session.request("GET", &format!("{action}?token={token}{fields}")));
        assert!(!get.text().contains("id=\"kpsa\""), "{get:?}");
    }
    // A view session has no form, and gets the command.
    for page in ["devices", "add-device", &format!("device?id={}", encoded(LIGHT1.identity))] {
        let shown = view.page(&gateway, page);
        for action in ["action=\"add-device", "action=\"rotate", "action=\"revoke"] {
            assert!(!shown.contains(action), "{page}: {shown}");
        }
    }
    assert!(view.page(&gateway, "add-device").contains("saegis device add NAME"));
    assert_eq!(gateway.table(), table);
    let trail = fs::read_to_string(gateway.path("state/audit.jsonl")).unwrap();
    assert!(!trail.contains("\"command\":\"device "), "{trail}");
    gateway.web(&session.request("GET", ""));
}

#[test]
fn invalid_devices_are_not_added() {
    let gateway = with_rules().start();
    let session = gateway.open_web(&[]);
    let table = gateway.table();
    let long = "a".repeat(300);
    for (name, app_id, expires, words) in [
        ("", "", "", "the AE-ID"),
        ("a b", "", "", "the AE-ID"),
        ("lämp", "", "", "the AE-ID"),
        ("a/../b", "", "", "the AE-ID"),
        ("a,b", "", "", "the AE-ID"),
        ("light-AE1", "", "", "Clight-AE1 exists"),
        (&long, "", "", "longer than 256 characters"),
        ("lamp", &long, "", "longer than 256 characters"),
        ("lamp", "", &long, "longer than 256 characters"),
        ("a\nb", "", "", "invisible characters"),
        ("a\u{202e}b", "", "", "invisible characters"),
        ("a\0b", "", "", "invisible characters"),
        ("lamp", "N\u{200b}", "", "invisible characters"),
        ("lamp", "lamp", "", "the App-ID"),
        ("lamp", "N';reboot;'", "", "the App-ID"),
        ("lamp", "N$(id)", "", "the App-ID"),
        ("lamp", "", "tomorrow", "is not a time"),
        ("lamp", "", "20371331T235959", "is not a time"),
        ("lamp", "", "20371231T235959\r\nx", "invisible characters"),
    ] {
        let refused = send(&gateway, &session, "add-device", &fields(name, app_id, expires));
        assert_eq!(refused.status(), 400, "{name} {app_id} {expires}: {refused:?}");
        let text = refused.text();
        assert!(text.contains("Nothing was changed.") && text.contains(words), "{words}: {text}");
        assert!(!text.contains("id=\"kpsa\""), "{text}");
    }
    // A hostile text in the form and in the address of a page is data.
    for text in HOSTILE {
        for page in [
            send(&gateway, &session, "add-device", &fields(text, text, text)).text(),
            send(&gateway, &session, "rotate-device", &rotation(text, &encoded(text))).text(),
            session.page(&gateway, &format!("add-device?identity={}", encoded(text))),
            session.page(&gateway, &format!("device?id={}", encoded(text))),
            session.page(&gateway, &format!("devices?q={}", encoded(text))),
        ] {
            assert_eq!(page.matches("<script").count(), 1, "{page}");
            assert!(!page.contains("<img") && !page.contains("<b>"), "{page}");
            assert!(!page.contains('\u{1b}'), "{page}");
        }
    }
    assert_eq!(gateway.table(), table);
}

/// The files are restored, and the page has the faults.
#[test]
fn device_that_policy_refuses_is_not_added() {
    let gateway = with_rules().start();
    let session = gateway.open_web(&[]);
    gateway.refused_after("roles.toml", |gateway| gateway.replace("policies/roles.toml", "[[\n"));
    let (table, rules) = (gateway.table(), gateway.path("policies/service-subscription.toml"));
    let before = fs::read_to_string(&rules).unwrap();
    let refused = send(&gateway, &session, "add-device", &fields("lamp", "", ""));
    assert_eq!(refused.status(), 409, "{refused:?}");
    let text = refused.text();
    for words in ["roles.toml:1:", "the gateway rejected the change", "generation 1 stays in force"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("id=\"kpsa\""), "{text}");
    assert_eq!((gateway.table(), fs::read_to_string(&rules).unwrap()), (table, before));
}

/// As under a unit of systemd whose policy folder is read-only.
#[test]
fn read_only_policy_folder_is_explained() {
    let unprivileged = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let gateway = with_rules().started_through(&unprivileged).start();
    let session = gateway.open_web(&[]);
    let words = "The gateway cannot write its policy folder";
    let device = format!("device?id={}", encoded(LIGHT1.identity));
    let pages = ["devices", "add-device", &device];
    for page in pages {
        assert!(!session.page(&gateway, page).contains(words), "{page}");
    }
    let folder = gateway.path("policies");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    for page in pages {
        let text = session.page(&gateway, page);
        assert!(text.contains(words) && text.contains("saegis device add NAME"), "{page}: {text}");
    }
    let table = gateway.table();
    let config = fs::canonicalize(gateway.path("saegis.toml")).unwrap();
    for (action, fields, command) in [
        ("add-device", fields("lamp", "Nlamp2", ""), "add lamp --app-id Nlamp2".to_string()),
        (
            "rotate-device",
            rotation(LIGHT1.identity, "3"),
            format!("rotate-key {} --overlap-days 3", LIGHT1.identity),
        ),
        (
            "revoke-device",
            format!("&id={}", encoded(LIGHT1.identity)),
            format!("revoke {}", LIGHT1.identity),
        ),
    ] {
        let refused = send(&gateway, &session, action, &fields);
        assert_eq!(refused.status(), 409, "{refused:?}");
        let command = format!("saegis device {command} --config {}", config.display());
        let text = refused.text();
        assert!(text.contains(&command) && text.contains("Nothing was changed."), "{text}");
        assert!(!text.contains("id=\"kpsa\""), "{text}");
    }
    assert_eq!(gateway.table(), table);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    add(&gateway, &session, "lamp");
}

/// A change that stops halfway leaves both files as they were.
#[test]
fn files_are_restored_if_one_cannot_be_written() {
    let gateway = with_rules().start();
    let session = gateway.open_web(&[]);
    // The new table would be written to this path.
    fs::create_dir_all(gateway.path("policies/.psk-lookup-table.csv.new/x")).unwrap();
    let (table, rules) = (gateway.table(), gateway.path("policies/service-subscription.toml"));
    let before = fs::read_to_string(&rules).unwrap();
    let refused = send(&gateway, &session, "add-device", &fields("lamp", "", ""));
    assert_eq!(refused.status(), 409, "{refused:?}");
    assert!(refused.text().contains("Run this command as the owner of the files"), "{refused:?}");
    assert_eq!((gateway.table(), fs::read_to_string(&rules).unwrap()), (table, before));
}

/// The command and the page do not edit the files at the same time.
#[test]
fn locked_policy_folder_is_not_edited() {
    let gateway = with_rules().start();
    let session = gateway.open_web(&[]);
    let folder = fs::File::open(gateway.path("policies")).unwrap();
    folder.lock().unwrap();
    let refused = send(&gateway, &session, "add-device", &fields("lamp", "", ""));
    assert_eq!(refused.status(), 409, "{refused:?}");
    assert!(refused.text().contains("another command is editing its files"), "{refused:?}");
    // Reading needs no lock.
    assert!(session.page(&gateway, "devices").contains("2 of 2 rows"));
    drop(folder);
    add(&gateway, &session, "lamp");
}

#[test]
fn large_table_of_devices_is_shown_in_parts() {
    const ROWS: usize = 100_000;
    let rows = (0..ROWS).map(|n| format!("Clamp-{n:05},5a{n:030x},lamp-{n:05}@in.provider.com\n"));
    let table = "ae_id,kpsa,kpsa_id\n".to_string() + &rows.collect::<String>();
    let gateway = with_page().file("psk-lookup-table.csv", &table).start();
    let session = gateway.open_web(&[]);
    for (query, shown, parts) in [
        ("", "100000 of 100000 rows", Some("Part 1 of 2000")),
        ("?page=1999", "100000 of 100000 rows", Some("Part 2000 of 2000")),
        ("?page=99999999999", "100000 of 100000 rows", Some("Part 2000 of 2000")),
        ("?q=LAMP-0001", "10 of 100000 rows", None),
        ("?q=lamp-99999@", "1 of 100000 rows", None),
        ("?q=none&page=3", "0 of 100000 rows", None),
    ] {
        let start = std::time::Instant::now();
        let page = session.page(&gateway, &format!("devices{query}"));
        assert!(start.elapsed() < BOUND, "{query}");
        assert!(page.contains(shown), "{query}: {}", &page[..4096.min(page.len())]);
        match parts {
            Some(parts) => assert!(page.contains(parts), "{query}"),
            None => assert!(!page.contains("Part "), "{query}"),
        }
        assert!(page.len() < 64 << 10, "{query}: {} bytes", page.len());
        eprintln!("devices{query}: {} ms", start.elapsed().as_millis());
    }
    let last = session.page(&gateway, "devices?page=1999");
    assert!(last.contains("lamp-99999@") && !last.contains("lamp-99949@"));
    let key = add(&gateway, &session, "phone");
    let phone = Credential { identity: "phone@in.provider.com", key: &key };
    Tool::OpenSsl.connect(gateway.port(), phone).assert_served_as("Cphone");
    assert_eq!(gateway.table().lines().count(), ROWS + 2);
}

/// A table that is too large to edit in the gateway is left to the command.
#[test]
fn oversized_table_is_left_to_command() {
    let gateway = with_page().start();
    let session = gateway.open_web(&[]);
    let mut table = gateway.table().into_bytes();
    while table.len() <= 64 << 20 {
        table.extend_from_slice(&[b'#'; 1 << 20]);
        table.push(b'\n');
    }
    gateway.in_force_after(|gateway| gateway.replace(TABLE, &table));
    let page = session.page(&gateway, "devices");
    assert!(page.contains("saegis device list --config"), "{page}");
    let refused = send(&gateway, &session, "add-device", &fields("lamp", "", ""));
    assert_eq!(refused.status(), 409, "{refused:?}");
    assert!(refused.text().contains("saegis device add lamp --config"), "{refused:?}");
    Tool::OpenSsl.connect(gateway.port(), LIGHT2).assert_served_as("Clight-AE2");
}

/// Returns a table whose texts are hostile. The policy refuses it.
pub(super) fn hostile_table() -> String {
    let rows = HOSTILE.iter().enumerate().map(|(n, text)| {
        let text = text.replace('\n', " ").replace('"', "\"\"");
        format!("\"{text}\",5a{n:030x},\"{text}\",20371231T235959\n")
    });
    "ae_id,kpsa,kpsa_id,expires\n".to_string() + &rows.collect::<String>()
}

/// Returns rules for a device whose App-ID is hostile.
pub(super) fn hostile_rules() -> String {
    let app_id = HOSTILE[1].replace('"', "\\\"");
    format!(
        "[[node]]\ncse-id = \"mn-cse-123456\"\nrule-links = [\"lights\"]\n\n[[rule]]\n\
         name = \"lights\"\napplicable-cred-ids = [\"12-{}\"]\n\
         allowed-app-ids = [\"N{app_id}\\u202e\"]\nallowed-aes = [\"Clight-AE1\"]\n",
        LIGHT1.identity
    )
}

#[test]
fn texts_of_policy_files_are_data_on_web_pages() {
    let gateway = with_rules().file("service-subscription.toml", &hostile_rules()).start();
    let session = gateway.open_web(&[]);
    let device = session.page(&gateway, &format!("device?id={}", encoded(LIGHT1.identity)));
    assert!(device.contains("N&quot;&gt;&lt;img src=x"), "{device}");
    assert!(device.contains("'owned'&gt;\\u{202e}"), "{device}");
    gateway.refused_after("ae_id", |gateway| gateway.replace(TABLE, hostile_table()));
    let list = session.page(&gateway, "devices");
    assert!(list.contains("ae_id has '&lt;' at character 1"), "{list}");
    let refused = send(&gateway, &session, "add-device", &fields("lamp", "", ""));
    assert_eq!(refused.status(), 409, "{refused:?}");
    for page in [device, list, refused.text()] {
        assert_eq!(page.matches("<script").count(), 1, "{page}");
        assert!(!page.contains("<img") && !page.contains("<b>"), "{page}");
        assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}'), "{page}");
    }
    assert_eq!(gateway.table(), hostile_table());
}
