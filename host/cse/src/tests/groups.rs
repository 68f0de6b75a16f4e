//! Groups, and requests to all their members.

use saegis_onem2m::primitive::Operation;
use serde_json::{Value, json};

use crate::testing::{Bench, LIGHT1, LIGHT2, Reply, agree, request, subscribe};

const GROUP: &str = "/cse/light1/group";

/// Light 1 with `state` and `log`, and a group of them.
fn bench() -> Bench {
    let bench = Bench::with_lights();
    assert_eq!(bench.container(LIGHT1, "/cse/light1", json!({"rn": "log"})).code, 2001);
    let reply = make(&bench, json!({"rn": "group", "mid": ["cse/light1/state", "Clight-AE1/log"]}));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    bench
}

fn make(bench: &Bench, attributes: Value) -> Reply {
    let mut all = json!({"mnm": 5});
    all.as_object_mut().unwrap().extend(attributes.as_object().unwrap().clone());
    bench.create(Some(LIGHT1), "/cse/light1", 9, json!({ "m2m:grp": all }))
}

fn parts(reply: &Reply) -> Vec<(u64, &Value)> {
    assert_eq!(reply.code, 2000, "{}", reply.why());
    let parts = reply.json["m2m:agr"]["m2m:rsp"].as_array().unwrap();
    parts.iter().map(|p| (p["rsc"].as_u64().unwrap(), &p["pc"])).collect()
}

fn codes(reply: &Reply) -> Vec<u64> {
    parts(reply).into_iter().map(|(rsc, _)| rsc).collect()
}

#[test]
fn group_stores_its_members() {
    let bench = Bench::with_lights();
    let mid = json!(["cse/light1/state", "cse/light1", "cse/light1/state"]);
    let reply = make(&bench, json!({"mid": mid, "cr": null, "gn": "all"}));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    let group = reply.attributes();
    // Each member once; of mixed types, because no type was requested.
    assert_eq!(group["mid"], json!(["cse/light1/state", "cse/light1"]));
    assert_eq!(
        (&group["cnm"], &group["mt"], &group["mtv"], &group["csy"], &group["cr"]),
        (&json!(2), &json!(0), &json!(true), &json!(1), &json!(LIGHT1))
    );
    let reply = make(&bench, json!({"mid": []}));
    assert_eq!((reply.code, &reply.attributes()["cnm"]), (2001, &json!(0)));
    // A member at another CSE cannot be validated.
    let reply = make(&bench, json!({"mid": ["/other/cse/x"], "mt": 3}));
    assert_eq!((reply.code, &reply.attributes()["mtv"]), (2001, &json!(false)));
}

#[test]
fn members_are_of_the_groups_type() {
    let bench = Bench::with_lights();
    let mid = json!(["cse/light1/state", "cse/light1"]);
    let make = |csy: Value| make(&bench, json!({"mid": mid, "mt": 3, "csy": csy}));
    let reply = make(json!(1));
    assert_eq!((reply.code, &reply.attributes()["mid"]), (2001, &json!(["cse/light1/state"])));
    assert_eq!(make(json!(2)).code, 4110);
    let reply = make(json!(3));
    assert_eq!((reply.code, &reply.attributes()["mt"]), (2001, &json!(0)));
    assert_eq!(reply.attributes()["mid"], mid);
    assert_eq!(make(json!(4)).code, 4000);
}

#[test]
fn invalid_group_is_refused() {
    let bench = bench();
    let many: Vec<_> = (0..65).map(|n| format!("/other/c{n}")).collect();
    for (attributes, code) in [
        (json!({}), 4000),
        (json!({"mid": ["cse/light1"], "mnm": 0}), 4000),
        (json!({"mid": ["cse/light1"], "mnm": null}), 4000),
        (json!({"mid": "cse/light1"}), 4000),
        (json!({"mid": many, "mnm": 100}), 4000),
        (json!({"mid": ["a b"]}), 4000),
        (json!({"mid": ["http://a.b/"]}), 4000),
        (json!({"mid": ["cse/nothing"]}), 4000),
        (json!({"mid": ["cse/light2/state"]}), 5105),
        (json!({"mid": ["cse/light1/group/fopt"]}), 5001),
        (json!({"mid": ["cse/light1/state", "cse/light1"], "mnm": 1}), 6010),
        (json!({"mid": ["cse/light1"], "cnm": 1}), 4000),
        (json!({"mid": ["cse/light1"], "macp": ["x"]}), 5001),
    ] {
        let reply = make(&bench, attributes.clone());
        assert_eq!(reply.code, code, "{attributes} {}", reply.why());
    }
    let group = json!({"m2m:grp": {"mid": [], "mnm": 1}});
    assert_eq!(bench.create(Some(LIGHT2), "/cse/light1", 9, group.clone()).code, 4103);
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1/state", 9, group.clone()).code, 4108);
    assert_eq!(bench.create(Some(LIGHT1), "/cse", 9, group).code, 4103);
}

#[test]
fn group_is_updated() {
    let bench = bench();
    let change = |attributes| bench.update(LIGHT1, GROUP, json!({ "m2m:grp": attributes }));
    let reply = change(json!({"mid": ["cse/light1"], "lbl": ["x"]}));
    assert_eq!((reply.code, &reply.attributes()["cnm"]), (2004, &json!(1)));
    assert_eq!(change(json!({"mid": ["cse/light1", "cse/light1/log"], "mnm": 2})).code, 2004);
    assert_eq!(change(json!({"mnm": 1})).code, 6010);
    assert_eq!(change(json!({"mid": ["cse/light2"]})).code, 5105);
    for bad in [json!({"mid": null}), json!({"mt": 3}), json!({"csy": 1}), json!({"mtv": true})] {
        assert_eq!(change(bad.clone()).code, 4000, "{bad}");
    }
    // A deleted member does not block changes.
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/log").code, 2002);
    assert_eq!(change(json!({"lbl": null})).code, 2004);
    assert_eq!(bench.delete(LIGHT1, GROUP).code, 2002);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/group/fopt").code, 4004);
}

#[test]
fn fan_out_reaches_all_members() {
    let bench = bench();
    let fopt = "/cse/light1/group/fopt";
    let reply = bench.retrieve(LIGHT1, fopt);
    let names: Vec<_> = parts(&reply).iter().map(|(_, pc)| pc["m2m:cnt"]["rn"].clone()).collect();
    assert_eq!(names, [json!("state"), json!("log")]);
    let first = &reply.json["m2m:agr"]["m2m:rsp"][0];
    assert_eq!(
        (&first["fr"], &first["to"], &first["rqi"], &first["rvi"]),
        (&json!("cse/light1/state"), &json!(LIGHT1), &json!("r1"), &json!("3"))
    );
    let reply = bench.instance(LIGHT1, fopt, json!({"con": "on"}));
    assert_eq!(codes(&reply), [2001, 2001]);
    let reply = bench.retrieve(LIGHT1, "/cse/light1/group/fopt/la?atrl=con");
    let con: Vec<_> = parts(&reply).iter().map(|(_, pc)| pc["m2m:cin"]["con"].clone()).collect();
    assert_eq!(con, [json!("on"), json!("on")]);
    let reply = bench.update(LIGHT1, fopt, json!({"m2m:cnt": {"lbl": ["all"]}}));
    assert_eq!(codes(&reply), [2004, 2004]);
    // Each member executes the request independently.
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/log/la").code, 2002);
    let reply = bench.delete(LIGHT1, "/cse/light1/group/fopt/ol");
    assert_eq!(codes(&reply), [2002, 4004]);
    assert!(parts(&reply)[1].1["m2m:dbg"].is_string());
    let reply = bench.delete(LIGHT1, fopt);
    assert_eq!(codes(&reply), [2002, 2002]);
    assert_eq!(codes(&bench.retrieve(LIGHT1, fopt)), [4004, 4004]);
    bench.cse().store().assert_consistent();
}

#[test]
fn members_elsewhere_are_told_apart() {
    let bench = bench();
    let change = json!({"m2m:grp": {"mid": ["/other/cse/x", "//a.b/other/y", "cse/light1/state"]}});
    assert_eq!(bench.update(LIGHT1, GROUP, change).code, 2004);
    assert_eq!(codes(&bench.retrieve(LIGHT1, "/cse/light1/group/fopt")), [5103, 5103, 2000]);
    let far = "/~/mn-cse-123456/cse/light1/group/fopt?rcn=6";
    assert_eq!(codes(&bench.retrieve(LIGHT1, far)), [5103, 5103, 2000]);
}

#[test]
fn fan_out_requires_privileges() {
    let bench = bench();
    let fopt = "/cse/light1/group/fopt";
    assert_eq!(bench.retrieve(LIGHT2, fopt).code, 4103);
    assert_eq!(bench.instance("Cnobody", fopt, json!({"con": 1})).code, 4103);
    assert_eq!(
        bench.create(Some("Cnew"), fopt, 2, json!({"m2m:ae": {"api": "Nx", "rr": true}})).code,
        4005
    );
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/group/fopt/fopt").code, 5001);
    for nothing in ["/cse/light1/fopt", "/cse/light1/state/fopt", "/cse/fopt/la", "/fopt"] {
        assert_eq!(bench.retrieve(LIGHT1, nothing).code, 4004, "{nothing}");
    }
    let notify = request(Operation::Notify, fopt, Some(LIGHT1), Some(json!({"m2m:sgn": {}})));
    assert_eq!(bench.send(&notify).code, 5001);
    assert_eq!(make(&bench, json!({"rn": "none", "mid": []})).code, 2001);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/none/fopt").code, 4109);
}

#[test]
fn members_notify_without_verification() {
    let bench = bench();
    for path in ["/cse/light1/state", "/cse/light1/log"] {
        let sub = json!({"nu": ["http://a.b/"], "enc": {"net": [3]}});
        assert_eq!(agree(&bench, subscribe(&bench, LIGHT1, path, sub)).code, 2001);
    }
    let fopt = "/cse/light1/group/fopt";
    assert_eq!(bench.instance(LIGHT1, fopt, json!({"con": 1})).told().len(), 2);
    let sub = |nu: &str| {
        let content = json!({"m2m:sub": {"nu": [nu]}});
        codes(&bench.create(Some(LIGHT1), fopt, 23, content))
    };
    assert_eq!(sub("http://c.d/"), [5204, 5204]);
    assert_eq!(sub(LIGHT1), [2001, 2001]);
}

#[test]
fn answers_together_have_a_bound() {
    let bench = bench();
    for _ in 0..40 {
        let reply =
            bench.instance(LIGHT1, "/cse/light1/group/fopt", json!({"con": "x".repeat(60 << 10)}));
        assert_eq!(codes(&reply), [2001, 2001]);
    }
    let reply = bench.retrieve(LIGHT1, "/cse/light1/group/fopt?rcn=4");
    assert_eq!(codes(&reply), [2000, 5207]);
    assert_eq!(parts(&reply)[1].1, &Value::Null);
}

#[test]
fn partial_response_is_marked() {
    let bench = bench();
    for _ in 0..3 {
        let reply = bench.instance(LIGHT1, "/cse/light1/state", json!({"con": 1}));
        assert_eq!(reply.code, 2001);
    }
    for query in ["rcn=8&lim=2", "rcn=6&lim=2", "fu=1&lim=2"] {
        let reply = bench.retrieve(LIGHT1, &format!("/cse/light1/group/fopt?{query}"));
        let parts = reply.json["m2m:agr"]["m2m:rsp"].as_array().unwrap();
        assert_eq!((&parts[0]["cnst"], &parts[0]["cnot"]), (&json!(1), &json!(3)), "{query}");
        assert_eq!((parts[1].get("cnst"), parts[1].get("cnot")), (None, None), "{query}");
    }
}
