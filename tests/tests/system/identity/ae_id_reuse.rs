//! Who takes a name inherits nothing: the hub leaves, or its registration expires, and another credential
//! registers the same AE-ID, with the same resource names. It gets nothing of what the lamp had
//! opened to the hub.

use saegis_tests::{
    Credential, Gateway, LIGHT1, Light, Reply, Request, Setup, Upstream, seconds_from_now,
    wait_until,
};
use serde_json::{Value, json};

const LAMP: &str = "Clight-AE1";
const HUB: &str = "Chub";
const TABLE: &str = "policies/psk-lookup-table.csv";

const ONE: Credential<'static> =
    Credential { identity: "hub-1@in.provider.com", key: "00112233445566778899aabbccddeeff" };
const TWO: Credential<'static> =
    Credential { identity: "hub-2@in.provider.com", key: "ffeeddccbbaa99887766554433221100" };

/// The lamp, and credentials that have those AE-IDs by their rows, or none.
fn table(rows: &[(&str, Credential<'_>)]) -> String {
    let mut text = String::from("ae_id,kpsa,kpsa_id\n");
    for (name, of) in [(LAMP, LIGHT1)].iter().chain(rows) {
        text.push_str(&format!("{name},{},{}\n", of.key, of.identity));
    }
    text
}

fn setup(rows: &[(&str, Credential<'_>)]) -> Setup {
    let setup = Setup::new().file("psk-lookup-table.csv", &table(rows));
    setup.with("notifications", "targets = [\"127.0.0.1\"]")
}

fn connect(gateway: &Gateway, credential: Credential<'_>) -> Light {
    Light::connect(gateway.port(), credential).unwrap()
}

#[track_caller]
fn ask(light: &mut Light, request: Request, from: &str) -> (u16, Value) {
    let response = light.ask(&request.from(from)).unwrap();
    let rsc = response.header("x-m2m-rsc").unwrap().parse().unwrap();
    (rsc, if response.text().is_empty() { Value::Null } else { response.json() })
}

#[track_caller]
fn made(light: &mut Light, from: &str, to: &str, ty: u16, content: Value) {
    let (rsc, answer) = ask(light, Request::create(to, ty, &content), from);
    assert_eq!(rsc, 2001, "{content}: {answer}");
}

fn rule(who: &str) -> Value {
    json!({"acr": [{"acor": [who], "acop": 63}]})
}

/// Registers the hub, with a policy and a container below it that have the same names each time.
fn register(hub: &mut Light, at: u16, expires: Option<&str>) {
    let mut ae = json!({"rn": "hub", "api": "Nhub", "rr": true,
        "poa": [format!("http://127.0.0.1:{at}/hub")]});
    if let Some(at) = expires {
        ae["et"] = at.into();
    }
    made(hub, HUB, "/cse", 2, json!({ "m2m:ae": ae }));
    let acp =
        |name: &str, who: &str| json!({"m2m:acp": {"rn": name, "pv": rule(who), "pvs": rule(HUB)}});
    made(hub, HUB, "/cse/hub", 1, acp("acp", HUB));
    made(hub, HUB, "/cse/hub", 1, acp("all", "all"));
    made(hub, HUB, "/cse/hub", 3, json!({"m2m:cnt": {"rn": "in", "acpi": ["cse/hub/all"]}}));
}

/// What the lamp opens to the hub, by each attribute that names something.
const OPENED: [&str; 4] =
    ["/cse/lamp/by-acpi", "/cse/lamp/by-acor", "/cse/lamp/by-cstn", "/cse/lamp/made/by-cr"];

fn open(lamp: &mut Light, hub: &mut Light) {
    made(lamp, LAMP, "/cse", 2, json!({"m2m:ae": {"rn": "lamp", "api": "Nlamp", "rr": false}}));
    let cnt = |name: &str, more: Value| {
        let mut attributes = json!({ "rn": name });
        attributes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "m2m:cnt": attributes })
    };
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": rule(HUB), "pvs": rule(LAMP)}});
    made(lamp, LAMP, "/cse/lamp", 1, acp);
    made(lamp, LAMP, "/cse/lamp", 3, cnt("by-acpi", json!({"acpi": ["cse/hub/acp"]})));
    made(lamp, LAMP, "/cse/lamp", 3, cnt("by-acor", json!({"acpi": ["cse/lamp/acp"]})));
    made(lamp, LAMP, "/cse/lamp", 3, cnt("by-cstn", json!({ "cstn": HUB })));
    made(lamp, LAMP, "/cse/lamp", 3, cnt("made", json!({"acpi": ["cse/lamp/acp"]})));
    made(hub, HUB, "/cse/lamp/made", 3, cnt("by-cr", json!({ "cr": null })));
    // From now on it is its creator's by that alone.
    let close = Request::update("/cse/lamp/made", &json!({"m2m:cnt": {"acpi": null}}));
    assert_eq!(ask(lamp, close, LAMP).0, 2004);
    made(lamp, LAMP, "/cse/lamp", 3, cnt("told", json!({})));
    let sub =
        json!({"m2m:sub": {"rn": "sub", "nu": ["cse/hub"], "su": "Chub", "enc": {"net": [3]}}});
    made(lamp, LAMP, "/cse/lamp/told", 23, sub);
    let grp = json!({"m2m:grp": {"rn": "grp", "mnm": 4, "mid": ["cse/hub/in", "Chub/in"]}});
    made(lamp, LAMP, "/cse/lamp", 9, grp);
}

/// What the hub may do with each, and what reaches it.
#[track_caller]
fn has(lamp: &mut Light, hub: &mut Light, target: &Upstream, it_may: bool) {
    for path in OPENED {
        let expected = if it_may { 2000 } else { 4103 };
        assert_eq!(ask(hub, Request::retrieve(path), HUB).0, expected, "{path}");
        let expected = if it_may { 2001 } else { 4103 };
        assert_eq!(ask(hub, Request::create_instance(path, "x"), HUB).0, expected, "{path}");
        if !it_may {
            for change in [json!({"lbl": ["x"]}), json!({"acpi": null}), json!({"cstn": null})] {
                let change = Request::update(path, &json!({ "m2m:cnt": change }));
                assert_eq!(ask(hub, change, HUB).0, 4103, "{path}");
            }
            assert_eq!(ask(hub, Request::delete(path), HUB).0, 4103, "{path}");
        }
    }
    let before = target.requests().len();
    made(lamp, LAMP, "/cse/lamp/told", 4, json!({"m2m:cin": {"con": "secret"}}));
    let secret = json!({"m2m:cin": {"con": "secret"}});
    let (rsc, answer) = ask(lamp, Request::create("/cse/lamp/grp/fopt", 4, &secret), LAMP);
    assert_eq!(rsc, 2000, "{answer}");
    let expected = if it_may { 2001 } else { 4004 };
    for part in answer["m2m:agr"]["m2m:rsp"].as_array().unwrap() {
        assert_eq!(part["rsc"], expected, "{part}");
    }
    if it_may {
        target.wait(before + 1);
    } else {
        assert_eq!(ask(hub, Request::retrieve("/cse/hub/in/la"), HUB).0, 4004);
        // What is sent is sent in order: this one comes after it.
        let sub = json!({"m2m:sub": {"nu": [format!("http://127.0.0.1:{}/lamp", target.port())],
            "enc": {"net": [3]}}});
        made(lamp, LAMP, "/cse/lamp/by-acpi", 23, sub);
        let told = target.wait(before + 1);
        assert!(told[before..].iter().all(|m| m.line.contains("/lamp")), "{told:?}");
    }
}

#[test]
fn reused_name_of_deleted_ae_inherits_nothing() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let gateway = setup(&[("", ONE), ("", TWO)]).start();
    let (mut lamp, mut hub) = (connect(&gateway, LIGHT1), connect(&gateway, ONE));
    register(&mut hub, target.port(), None);
    open(&mut lamp, &mut hub);
    has(&mut lamp, &mut hub, &target, true);
    assert_eq!(ask(&mut hub, Request::delete("/cse/hub"), HUB).0, 2002);
    let mut evil = connect(&gateway, TWO);
    register(&mut evil, target.port(), None);
    has(&mut lamp, &mut evil, &target, false);
    // Nor after a restart.
    let gateway = gateway.cut_and_start();
    let (mut lamp, mut evil) = (connect(&gateway, LIGHT1), connect(&gateway, TWO));
    has(&mut lamp, &mut evil, &target, false);
    // The lamp sees what it wrote, and is not made to mean the other by writing it again.
    let (_, shown) = ask(&mut lamp, Request::retrieve("/cse/lamp/by-acpi"), LAMP);
    assert_eq!(shown["m2m:cnt"]["acpi"], json!(["cse/hub/acp"]));
    let again = json!({"m2m:cnt": {"acpi": ["cse/hub/acp", "cse/lamp/acp"]}});
    let (rsc, why) = ask(&mut lamp, Request::update("/cse/lamp/by-acpi", &again), LAMP);
    assert!(rsc == 4000 && why.to_string().contains("take it out of acpi"), "{rsc} {why}");
    // The hub comes back: it is the same AE; but its policy is another, and so are its resources.
    assert_eq!(ask(&mut evil, Request::delete("/cse/hub"), HUB).0, 2002);
    let mut hub = connect(&gateway, ONE);
    register(&mut hub, target.port(), None);
    for path in &OPENED[1..] {
        assert_eq!(ask(&mut hub, Request::retrieve(path), HUB).0, 2000, "{path}");
    }
    assert_eq!(ask(&mut hub, Request::retrieve(OPENED[0]), HUB).0, 4103);
    let before = target.requests().len();
    made(&mut lamp, LAMP, "/cse/lamp/told", 4, json!({"m2m:cin": {"con": "on"}}));
    target.wait(before + 1);
}

#[test]
fn reused_name_of_expired_ae_inherits_nothing() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let gateway = setup(&[(HUB, ONE)]).start();
    let (mut lamp, mut hub) = (connect(&gateway, LIGHT1), connect(&gateway, ONE));
    register(&mut hub, target.port(), None);
    open(&mut lamp, &mut hub);
    has(&mut lamp, &mut hub, &target, true);
    let soon = json!({"m2m:ae": {"et": seconds_from_now(1)}});
    assert_eq!(ask(&mut hub, Request::update("/cse/hub", &soon), HUB).0, 2004);
    wait_until("it expires", || ask(&mut hub, Request::retrieve("/cse/hub"), HUB).0 == 4004);
    // Its operator gives the AE-ID to another credential.
    gateway.in_force_after(|g| g.replace(TABLE, table(&[(HUB, TWO)])));
    let mut evil = connect(&gateway, TWO);
    register(&mut evil, target.port(), None);
    has(&mut lamp, &mut evil, &target, false);
}

/// Policy gives an AE-ID to another credential while the AE that had got it by registering is there: its
/// resources are not the other's.
#[test]
fn an_ae_id_is_given_away_without_its_resources() {
    let gateway = setup(&[("", ONE)]).start();
    let mut hub = connect(&gateway, ONE);
    register(&mut hub, 9, None);
    made(&mut hub, HUB, "/cse/hub", 3, json!({"m2m:cnt": {"rn": "own"}}));
    gateway.in_force_after(|g| g.replace(TABLE, table(&[("", ONE), (HUB, TWO)])));
    let mut other = connect(&gateway, TWO);
    assert_eq!(ask(&mut other, Request::retrieve("/cse/hub/own"), HUB).0, 4103);
    register(&mut other, 9, None);
    assert_eq!(ask(&mut other, Request::retrieve("/cse/hub/own"), HUB).0, 4004);
}
