//! Reuse of an AE-ID. The hub deregisters or expires, and another credential registers the same
//! AE-ID and resource names. It inherits none of the hub's access to the lamp.

use saegis_tests::{
    Credential, Gateway, LIGHT1, Light, Mark, Reply, Request, Setup, Upstream, seconds_from_now,
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

/// Returns a table with the lamp and these credentials, with or without AE-IDs.
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
fn create(light: &mut Light, from: &str, to: &str, ty: u16, content: Value) {
    let (rsc, answer) = ask(light, Request::create(to, ty, &content), from);
    assert_eq!(rsc, 2001, "{content}: {answer}");
}

fn rule(who: &str) -> Value {
    json!({"acr": [{"acor": [who], "acop": 63}]})
}

/// Registers the hub with a policy and containers that always have the same names.
fn register(hub: &mut Light, at: u16, expires: Option<&str>) {
    let mut ae = json!({"rn": "hub", "api": "Nhub", "rr": true,
        "poa": [format!("http://127.0.0.1:{at}/hub")]});
    if let Some(at) = expires {
        ae["et"] = at.into();
    }
    create(hub, HUB, "/cse", 2, json!({ "m2m:ae": ae }));
    let acp =
        |name: &str, who: &str| json!({"m2m:acp": {"rn": name, "pv": rule(who), "pvs": rule(HUB)}});
    create(hub, HUB, "/cse/hub", 1, acp("acp", HUB));
    create(hub, HUB, "/cse/hub", 1, acp("all", "all"));
    create(hub, HUB, "/cse/hub", 3, json!({"m2m:cnt": {"rn": "in", "acpi": ["cse/hub/all"]}}));
}

/// The lamp's resources that are open to the hub, one for each kind of reference.
const OPENED: [&str; 4] =
    ["/cse/lamp/by-acpi", "/cse/lamp/by-acor", "/cse/lamp/by-cstn", "/cse/lamp/made/by-cr"];

fn open(lamp: &mut Light, hub: &mut Light) {
    create(lamp, LAMP, "/cse", 2, json!({"m2m:ae": {"rn": "lamp", "api": "Nlamp", "rr": false}}));
    let cnt = |name: &str, more: Value| {
        let mut attributes = json!({ "rn": name });
        attributes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "m2m:cnt": attributes })
    };
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": rule(HUB), "pvs": rule(LAMP)}});
    create(lamp, LAMP, "/cse/lamp", 1, acp);
    create(lamp, LAMP, "/cse/lamp", 3, cnt("by-acpi", json!({"acpi": ["cse/hub/acp"]})));
    create(lamp, LAMP, "/cse/lamp", 3, cnt("by-acor", json!({"acpi": ["cse/lamp/acp"]})));
    create(lamp, LAMP, "/cse/lamp", 3, cnt("by-cstn", json!({ "cstn": HUB })));
    create(lamp, LAMP, "/cse/lamp", 3, cnt("made", json!({"acpi": ["cse/lamp/acp"]})));
    create(hub, HUB, "/cse/lamp/made", 3, cnt("by-cr", json!({ "cr": null })));
    // From now on only the creator has access.
    let close = Request::update("/cse/lamp/made", &json!({"m2m:cnt": {"acpi": null}}));
    assert_eq!(ask(lamp, close, LAMP).0, 2004);
    create(lamp, LAMP, "/cse/lamp", 3, cnt("told", json!({})));
    let sub =
        json!({"m2m:sub": {"rn": "sub", "nu": ["cse/hub"], "su": "Chub", "enc": {"net": [3]}}});
    create(lamp, LAMP, "/cse/lamp/told", 23, sub);
    let grp = json!({"m2m:grp": {"rn": "grp", "mnm": 4, "mid": ["cse/hub/in", "Chub/in"]}});
    create(lamp, LAMP, "/cse/lamp", 9, grp);
}

/// Asserts the hub's access to each resource, and whether it receives notifications.
#[track_caller]
fn assert_access(lamp: &mut Light, hub: &mut Light, target: &Upstream, allowed: bool) {
    for path in OPENED {
        let expected = if allowed { 2000 } else { 4103 };
        assert_eq!(ask(hub, Request::retrieve(path), HUB).0, expected, "{path}");
        let expected = if allowed { 2001 } else { 4103 };
        assert_eq!(ask(hub, Request::create_instance(path, "x"), HUB).0, expected, "{path}");
        if !allowed {
            for change in [json!({"lbl": ["x"]}), json!({"acpi": null}), json!({"cstn": null})] {
                let change = Request::update(path, &json!({ "m2m:cnt": change }));
                assert_eq!(ask(hub, change, HUB).0, 4103, "{path}");
            }
            assert_eq!(ask(hub, Request::delete(path), HUB).0, 4103, "{path}");
        }
    }
    let before = target.requests().len();
    create(lamp, LAMP, "/cse/lamp/told", 4, json!({"m2m:cin": {"con": "secret"}}));
    let secret = json!({"m2m:cin": {"con": "secret"}});
    let (rsc, answer) = ask(lamp, Request::create("/cse/lamp/grp/fopt", 4, &secret), LAMP);
    assert_eq!(rsc, 2000, "{answer}");
    let expected = if allowed { 2001 } else { 4004 };
    for part in answer["m2m:agr"]["m2m:rsp"].as_array().unwrap() {
        assert_eq!(part["rsc"], expected, "{part}");
    }
    if allowed {
        target.wait(before + 1);
    } else {
        assert_eq!(ask(hub, Request::retrieve("/cse/hub/in/la"), HUB).0, 4004);
        // Notifications are sent in order, so an earlier one would have arrived before this.
        let sub = json!({"m2m:sub": {"nu": [format!("http://127.0.0.1:{}/lamp", target.port())],
            "enc": {"net": [3]}}});
        create(lamp, LAMP, "/cse/lamp/by-acpi", 23, sub);
        let received = target.wait(before + 1);
        assert!(received[before..].iter().all(|m| m.line.contains("/lamp")), "{received:?}");
    }
}

#[test]
fn reused_name_of_deleted_ae_inherits_nothing() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let gateway = setup(&[("", ONE), ("", TWO)]).start();
    let (mut lamp, mut hub) = (connect(&gateway, LIGHT1), connect(&gateway, ONE));
    register(&mut hub, target.port(), None);
    open(&mut lamp, &mut hub);
    assert_access(&mut lamp, &mut hub, &target, true);
    assert_eq!(ask(&mut hub, Request::delete("/cse/hub"), HUB).0, 2002);
    let mut evil = connect(&gateway, TWO);
    register(&mut evil, target.port(), None);
    assert_access(&mut lamp, &mut evil, &target, false);
    // The same holds after a restart.
    let gateway = gateway.kill_and_restart();
    let (mut lamp, mut evil) = (connect(&gateway, LIGHT1), connect(&gateway, TWO));
    assert_access(&mut lamp, &mut evil, &target, false);
    // A retrieve returns the reference as written. Writing it again does not bind it to the new
    // resource.
    let (_, shown) = ask(&mut lamp, Request::retrieve("/cse/lamp/by-acpi"), LAMP);
    assert_eq!(shown["m2m:cnt"]["acpi"], json!(["cse/hub/acp"]));
    let again = json!({"m2m:cnt": {"acpi": ["cse/hub/acp", "cse/lamp/acp"]}});
    let (rsc, why) = ask(&mut lamp, Request::update("/cse/lamp/by-acpi", &again), LAMP);
    assert!(rsc == 4000 && why.to_string().contains("remove it from acpi"), "{rsc} {why}");
    // The original hub returns as the same AE, but with a new policy and new resources.
    assert_eq!(ask(&mut evil, Request::delete("/cse/hub"), HUB).0, 2002);
    let mut hub = connect(&gateway, ONE);
    register(&mut hub, target.port(), None);
    for path in &OPENED[1..] {
        assert_eq!(ask(&mut hub, Request::retrieve(path), HUB).0, 2000, "{path}");
    }
    assert_eq!(ask(&mut hub, Request::retrieve(OPENED[0]), HUB).0, 4103);
    let before = target.requests().len();
    create(&mut lamp, LAMP, "/cse/lamp/told", 4, json!({"m2m:cin": {"con": "on"}}));
    target.wait(before + 1);
}

#[test]
fn reused_name_of_expired_ae_inherits_nothing() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let gateway = setup(&[(HUB, ONE)]).start();
    let (mut lamp, mut hub) = (connect(&gateway, LIGHT1), connect(&gateway, ONE));
    register(&mut hub, target.port(), None);
    open(&mut lamp, &mut hub);
    assert_access(&mut lamp, &mut hub, &target, true);
    let soon = json!({"m2m:ae": {"et": seconds_from_now(1)}});
    assert_eq!(ask(&mut hub, Request::update("/cse/hub", &soon), HUB).0, 2004);
    wait_until("it expires", || ask(&mut hub, Request::retrieve("/cse/hub"), HUB).0 == 4004);
    // The operator assigns the AE-ID to another credential.
    gateway.in_force_after(|g| g.replace(TABLE, table(&[(HUB, TWO)])));
    let mut evil = connect(&gateway, TWO);
    register(&mut evil, target.port(), None);
    assert_access(&mut lamp, &mut evil, &target, false);
}

/// Policy assigns an AE-ID to another credential while the AE that registered it still exists. The
/// other credential has no access to its resources.
#[test]
fn reassigned_ae_id_does_not_grant_resources() {
    let gateway = setup(&[("", ONE)]).start();
    let mut hub = connect(&gateway, ONE);
    register(&mut hub, 9, None);
    create(&mut hub, HUB, "/cse/hub", 3, json!({"m2m:cnt": {"rn": "own"}}));
    gateway.in_force_after(|g| g.replace(TABLE, table(&[("", ONE), (HUB, TWO)])));
    let mut other = connect(&gateway, TWO);
    assert_eq!(ask(&mut other, Request::retrieve("/cse/hub/own"), HUB).0, 4103);
    register(&mut other, 9, None);
    assert_eq!(ask(&mut other, Request::retrieve("/cse/hub/own"), HUB).0, 4004);
}

/// A request that waits for a verification does not outlive the AE-ID under which it was checked,
/// even if the association has an AE-ID again.
#[test]
fn request_in_flight_ends_with_deleted_ae() {
    let target = Upstream::start(Reply::Pending);
    let gateway = setup(&[("", ONE)]).start();
    let json = [("Sec-WebSocket-Protocol", "oneM2M.json")];
    let mut hub = connect(&gateway, ONE).websocket(&json).unwrap();
    let ae = json!({"m2m:ae": {"rn": "hub", "api": "Nhub", "rr": true, "srv": ["3"]}});
    let register = json!({"op": 1, "to": "cse", "fr": HUB, "ty": 2, "pc": ae});
    hub.expect(register.clone(), 2001);
    let url = format!("http://127.0.0.1:{}/", target.port());
    let content = json!({"m2m:sub": {"rn": "told", "nu": [url], "enc": {"net": [3]}}});
    let subscribe = json!({"op": 1, "to": "cse/hub", "fr": HUB, "ty": 23, "rqi": "waits",
        "rvi": "3", "pc": content});
    hub.send_text(&subscribe.to_string());
    target.wait(1);
    hub.expect(json!({"op": 4, "to": "cse/hub", "fr": HUB}), 2002);
    hub.expect(register, 2001);
    target.reply_with(Reply::answer(200, 2000, ""));
    let response = hub.primitive();
    assert_eq!(response["rqi"], "waits", "{response}");
    assert_ne!(response["rsc"], 2001, "{response}");
    hub.expect(json!({"op": 2, "to": "cse/hub/told", "fr": HUB}), 4004);
}

/// A result that waits to be sent does not go to the next AE with the AE-ID of the originator.
#[test]
fn result_for_former_ae_does_not_reach_next_one() {
    let silent = Upstream::start(Reply::Pending);
    let setup = setup(&[("", ONE), ("", TWO)]).with("notifications", "timeout-seconds = 4");
    let gateway = setup.start();
    let json = [("Sec-WebSocket-Protocol", "oneM2M.json")];
    let mut hub = connect(&gateway, ONE).websocket(&json).unwrap();
    let ae = json!({"m2m:ae": {"rn": "hub", "api": "Nhub", "rr": true, "srv": ["3"]}});
    let register = json!({"op": 1, "to": "cse", "fr": HUB, "ty": 2, "pc": ae});
    hub.expect(register.clone(), 2001);
    // The silent target comes first.
    let targets = [format!("http://127.0.0.1:{}/", silent.port()), HUB.into()];
    let retrieve = json!({"op": 2, "to": "cse/hub", "fr": HUB, "rt": {"rtv": 2, "nu": targets}});
    hub.expect(retrieve, 1002);
    silent.wait(1);
    hub.expect(json!({"op": 4, "to": "cse/hub", "fr": HUB}), 2002);
    let mut evil = connect(&gateway, TWO).websocket(&json).unwrap();
    evil.expect(register, 2001);
    gateway.log().wait_for(Mark::START, "notification.failed", |event| event.text("to") == HUB);
    evil.expect(json!({"op": 2, "to": "cse/hub", "fr": HUB}), 2000);
}
