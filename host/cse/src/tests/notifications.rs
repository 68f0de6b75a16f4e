//! The content and the time of notifications.

use serde_json::{Value, json};

use crate::notification::outbox::MAX_NOTIFICATIONS;
use crate::testing::{Bench, LIGHT1, LIGHT2, Reply, agree, subscribe};

const STATE: &str = "/cse/light1/state";

/// Subscribes light 1 to a resource, with the target `http://a.b/`.
fn watch(bench: &Bench, path: &str, attributes: Value) -> String {
    let mut all = json!({"nu": ["http://a.b/"]});
    all.as_object_mut().unwrap().extend(attributes.as_object().unwrap().clone());
    let reply = agree(bench, subscribe(bench, LIGHT1, path, all));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    format!("/mn-cse-123456/{}", reply.attributes()["ri"].as_str().unwrap())
}

fn put(bench: &Bench, content: Value) -> Reply {
    let reply = bench.instance(LIGHT1, STATE, json!({ "con": content }));
    assert_eq!(reply.code, 2001);
    reply
}

fn one(reply: &Reply) -> Value {
    let told = reply.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, "http://a.b/");
    told[0].1.clone()
}

#[test]
fn created_child_is_notified() {
    let bench = Bench::with_lights();
    let sur = watch(&bench, STATE, json!({"enc": {"net": [3], "chty": [4]}, "cr": null}));
    let reply = put(&bench, json!("on"));
    let told = one(&reply);
    assert_eq!(
        (&told["sur"], &told["cr"], &told["nev"]["net"]),
        (&json!(sur), &json!(LIGHT1), &json!(3))
    );
    assert_eq!(told["nev"]["rep"], reply.json);
    assert_eq!(reply.notifications[0].about, sur);
    assert_eq!(reply.notifications[0].from, "/mn-cse-123456");
    // Other events are not reported.
    assert_eq!(bench.container(LIGHT1, STATE, json!({})).told(), []);
    assert_eq!(bench.update(LIGHT1, STATE, json!({"m2m:cnt": {"mni": 1}})).told(), []);
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/state/la").told(), []);
    let other = bench.instance(LIGHT2, "/cse/light2/state", json!({"con": 1}));
    assert_eq!((other.code, other.told()), (2001, vec![]));
}

#[test]
fn update_is_notified_fully_or_partially() {
    let mut bench = Bench::with_lights();
    watch(&bench, STATE, json!({}));
    bench.pass(1);
    let update = |attributes| bench.update(LIGHT1, STATE, json!({ "m2m:cnt": attributes }));
    let reply = update(json!({"lbl": ["a"], "mni": 5}));
    let told = one(&reply);
    assert_eq!((&told["nev"]["net"], &told["nev"]["rep"]), (&json!(1), &reply.json));
    assert_eq!((&told["cr"], told.get("vrq")), (&json!(LIGHT1), None));

    let bench = Bench::with_lights();
    watch(&bench, STATE, json!({"nct": 2, "enc": {"net": [1], "atr": ["lbl"]}}));
    let update = |attributes| bench.update(LIGHT1, STATE, json!({ "m2m:cnt": attributes }));
    let told = one(&update(json!({"lbl": ["a"], "mni": 5})));
    assert_eq!(told["nev"]["rep"], json!({"m2m:cnt": {"lbl": ["a"], "mni": 5, "st": 1}}));
    assert_eq!(update(json!({"mni": 6})).told(), []);
    assert_eq!(update(json!({"lbl": ["a"]})).told(), []);
    let told = one(&update(json!({"lbl": null})));
    assert_eq!(told["nev"]["rep"], json!({"m2m:cnt": {"lbl": null, "st": 4}}));

    let bench = Bench::with_lights();
    watch(&bench, STATE, json!({"nct": 3}));
    let ri = bench.retrieve(LIGHT1, STATE).attributes()["ri"].as_str().unwrap().to_owned();
    let told = one(&bench.update(LIGHT1, STATE, json!({"m2m:cnt": {}})));
    assert_eq!(told["nev"]["rep"], json!({"m2m:uri": format!("/mn-cse-123456/{ri}")}));
}

#[test]
fn deletion_is_notified_with_last_state() {
    let bench = Bench::with_lights();
    let above = watch(&bench, "/cse/light1", json!({"enc": {"net": [4]}}));
    let at = watch(&bench, STATE, json!({"enc": {"net": [2]}, "su": "http://a.b/end"}));
    let inside = watch(&bench, STATE, json!({"enc": {"net": [4], "chty": [4]}}));
    put(&bench, json!("off"));
    let reply = bench.delete(LIGHT1, "/cse/light1/state/la");
    let told = one(&reply);
    assert_eq!((&told["sur"], &told["nev"]["net"]), (&json!(inside), &json!(4)));
    assert_eq!(told["nev"]["rep"]["m2m:cin"]["con"], "off");

    let reply = bench.delete(LIGHT1, STATE);
    let told: Vec<_> = reply.told();
    let brief: Vec<_> = told
        .iter()
        .map(|(url, sgn)| (url.as_str(), sgn["sur"].as_str().unwrap(), sgn["nev"]["net"].as_u64()))
        .collect();
    assert_eq!(
        brief,
        [
            ("http://a.b/", at.as_str(), Some(2)),
            ("http://a.b/end", at.as_str(), None),
            ("http://a.b/", above.as_str(), Some(4)),
        ]
    );
    assert_eq!(told[0].1["nev"]["rep"]["m2m:cnt"]["rn"], "state");
    assert_eq!(told[1].1, json!({"sud": true, "sur": at, "cr": LIGHT1}));
    bench.cse().store().assert_consistent();
}

#[test]
fn deletion_with_ancestor_is_notified() {
    let bench = Bench::with_lights();
    let at = watch(&bench, STATE, json!({"enc": {"net": [2]}}));
    let reply = bench.delete(LIGHT1, "/cse/light1");
    let told = one(&reply);
    assert_eq!((&told["sur"], &told["nev"]["net"]), (&json!(at), &json!(2)));
    // An expiration is not reported.
    let mut bench = Bench::with_lights();
    watch(&bench, STATE, json!({"enc": {"net": [2]}, "et": "20261124T093010"}));
    bench.pass(10);
    assert_eq!(bench.delete(LIGHT1, STATE).told(), []);
}

#[test]
fn expiration_counter_ends_subscription() {
    let bench = Bench::with_lights();
    let attributes = json!({
        "rn": "sub", "exc": 2, "enc": {"net": [3]}, "nu": ["http://a.b/", "http://c.d/"],
        "su": "http://e.f/",
    });
    watch(&bench, STATE, attributes);
    assert_eq!(put(&bench, json!(1)).told().len(), 2);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/sub").attributes()["exc"], 1);
    let told = put(&bench, json!(2)).told();
    assert_eq!(told.len(), 3);
    assert_eq!((told[2].0.as_str(), &told[2].1["sud"]), ("http://e.f/", &json!(true)));
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/sub").code, 4004);
    assert_eq!(put(&bench, json!(3)).told(), []);
    bench.cse().store().assert_consistent();
}

#[test]
fn refused_change_is_not_notified() {
    let bench = Bench::with_lights();
    watch(&bench, STATE, json!({"rn": "sub", "enc": {"net": [1, 2, 3, 4]}, "exc": 1}));
    for reply in [
        bench.instance(LIGHT1, STATE, json!({"con": {"a": 1}, "cnf": "x"})),
        bench.instance(LIGHT1, STATE, json!({"con": 1, "rn": "sub"})),
        bench.instance(LIGHT2, STATE, json!({"con": 1})),
        bench.update(LIGHT2, STATE, json!({"m2m:cnt": {}})),
        bench.delete(LIGHT2, STATE),
        bench.retrieve(LIGHT1, STATE),
    ] {
        assert_eq!(reply.told(), [], "{}", reply.code);
    }
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/sub").attributes()["exc"], 1);
}

#[test]
fn subscription_is_notified_of_siblings_only() {
    let bench = Bench::with_lights();
    let first = watch(&bench, STATE, json!({"rn": "first", "enc": {"net": [3, 4]}}));
    let reply = agree(
        &bench,
        subscribe(
            &bench,
            LIGHT1,
            STATE,
            json!({"rn": "b", "nu": ["http://c.d/"], "enc": {"net": [3, 4]}}),
        ),
    );
    let told = one(&reply);
    assert_eq!((&told["sur"], &told["nev"]["rep"]["m2m:sub"]["rn"]), (&json!(first), &json!("b")));
    assert_eq!(one(&bench.delete(LIGHT1, "/cse/light1/state/b"))["nev"]["net"], 4);
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/state/first").told(), []);
}

#[test]
fn ae_is_notified_at_current_point_of_access() {
    let bench = Bench::with_lights();
    let sub = json!({"m2m:sub": {"nu": [LIGHT1], "enc": {"net": [3]}}});
    assert_eq!(bench.create(Some(LIGHT1), STATE, 23, sub).code, 2001);
    assert_eq!(put(&bench, json!(1)).told(), []);
    for url in ["http://one/", "http://two/"] {
        let change = json!({"m2m:ae": {"rr": true, "poa": [url]}});
        assert_eq!(bench.update(LIGHT1, "/cse/light1", change).code, 2004);
        assert_eq!(put(&bench, json!(2)).told()[0].0, url);
    }
}

#[test]
fn notifications_per_request_are_limited() {
    let bench = Bench::with_lights();
    let nu: Vec<_> = (0..16).map(|n| format!("http://a.b/{n}")).collect();
    for n in 0..2 {
        let path = format!("/cse/light1/c{n}");
        assert_eq!(
            bench.container(LIGHT1, "/cse/light1", json!({"rn": format!("c{n}")})).code,
            2001
        );
        for _ in 0..9 {
            watch(&bench, &path, json!({"nu": nu, "enc": {"net": [2]}}));
        }
    }
    let reply = bench.delete(LIGHT1, "/cse/light1");
    assert_eq!((reply.code, reply.notifications.len()), (2002, MAX_NOTIFICATIONS));
}
