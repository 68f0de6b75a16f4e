use saegis_onem2m::primitive::Operation;
use serde_json::{Value, json};

use crate::RequestBudget;
use crate::operation::quota::MAX_DEPTH;
use crate::store::Writer;
use crate::testing::{Bench, LIGHT1, LIGHT2, agree, request, settings};

const STATE: &str = "/cse/light1/state";

fn put(bench: &Bench, content: Value) -> String {
    let reply = bench.instance(LIGHT1, STATE, json!({ "con": content }));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    reply.attributes()["ri"].as_str().unwrap().into()
}

fn state(bench: &Bench) -> Value {
    bench.retrieve(LIGHT1, STATE).attributes().clone()
}

fn change(bench: &Bench, attributes: Value) -> u16 {
    bench.update(LIGHT1, STATE, json!({ "m2m:cnt": attributes })).code
}

#[test]
fn instance_is_returned_as_created() {
    let bench = Bench::with_lights();
    let given =
        json!({"rn": "first", "con": "on", "cnf": "text/plain:0", "lbl": ["x"], "cr": null});
    let reply = bench.instance(LIGHT1, STATE, given);
    let cin = reply.attributes().clone();
    let ri = cin["ri"].as_str().unwrap();
    assert!(ri.starts_with("cin-") && ri.len() == 20, "{ri}");
    assert_eq!(
        cin,
        json!({
            "rn": "first", "ri": ri, "pi": state(&bench)["ri"], "ty": 4, "con": "on", "cs": 2,
            "cnf": "text/plain:0", "lbl": ["x"], "cr": LIGHT1, "st": 1,
            "ct": "20261124T093000", "lt": "20261124T093000", "et": "20261224T093000",
        })
    );
    for path in ["/cse/light1/state/first", &format!("/{ri}"), "/cse/light1/state/la"] {
        assert_eq!(bench.retrieve(LIGHT1, path).attributes(), &cin, "{path}");
        assert_eq!(bench.retrieve(LIGHT2, path).code, 4103, "{path}");
    }
    for (content, size) in [(json!("é"), 2), (json!(21.5), 4), (json!(true), 4), (json!(""), 0)] {
        let reply = bench.instance(LIGHT1, STATE, json!({ "con": content }));
        assert_eq!(reply.attributes()["cs"], size, "{content}");
    }
}

#[test]
fn la_and_ol_are_the_ends() {
    let bench = Bench::with_lights();
    for path in ["/cse/light1/state/la", "/cse/light1/state/ol"] {
        assert_eq!(bench.retrieve(LIGHT1, path).code, 4004);
        assert_eq!(bench.delete(LIGHT1, path).code, 4004);
        assert_eq!(bench.update(LIGHT1, path, json!({"m2m:cin": {}})).code, 4005);
        assert_eq!(bench.instance(LIGHT1, path, json!({"con": 1})).code, 4005);
    }
    for n in 1..=3 {
        put(&bench, json!(n));
    }
    let con = |path| bench.retrieve(LIGHT1, path).attributes()["con"].clone();
    assert_eq!((con("/cse/light1/state/ol"), con("/cse/light1/state/la")), (json!(1), json!(3)));
    assert_eq!(bench.delete(LIGHT2, "/cse/light1/state/la").code, 4103);
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/state/la").code, 2002);
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/state/ol").code, 2002);
    assert_eq!((con("/cse/light1/state/ol"), con("/cse/light1/state/la")), (json!(2), json!(2)));
    // Three instances were added and two removed.
    assert_eq!((&state(&bench)["st"], &state(&bench)["cni"]), (&json!(5), &json!(1)));
    bench.cse().store().assert_consistent();
}

#[test]
fn oldest_instances_are_removed_at_limit() {
    let bench = Bench::with_lights();
    assert_eq!(change(&bench, json!({"mni": 2, "mbs": 10})), 2004);
    let first = put(&bench, json!("aaa"));
    put(&bench, json!("bbb"));
    put(&bench, json!("ccc"));
    assert_eq!(bench.retrieve(LIGHT1, &format!("/{first}")).code, 4004);
    let cnt = state(&bench);
    assert_eq!((&cnt["cni"], &cnt["cbs"], &cnt["st"]), (&json!(2), &json!(6), &json!(4)));
    put(&bench, json!("ddddddddd"));
    let cnt = state(&bench);
    assert_eq!((&cnt["cni"], &cnt["cbs"]), (&json!(1), &json!(9)));
    // An instance that does not even fit alone changes nothing.
    let reply = bench.instance(LIGHT1, STATE, json!({"con": "eeeeeeeeeee"}));
    assert_eq!(reply.code, 5207);
    assert_eq!(state(&bench), cnt);
    bench.cse().store().assert_consistent();
}

#[test]
fn less_room_takes_effect_at_once() {
    let bench = Bench::with_lights();
    for n in 0..5 {
        put(&bench, json!(n));
    }
    assert_eq!(change(&bench, json!({"mni": 3})), 2004);
    assert_eq!(state(&bench)["cni"], 3);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/ol").attributes()["con"], 2);
    assert_eq!(change(&bench, json!({"mbs": 1})), 2004);
    assert_eq!(state(&bench)["cni"], 1);
    assert_eq!(change(&bench, json!({"mni": 0})), 2004);
    assert_eq!(state(&bench)["cni"], 0);
    assert_eq!(bench.instance(LIGHT1, STATE, json!({"con": 1})).code, 5207);
    bench.cse().store().assert_consistent();
}

#[test]
fn our_limits_hold_whatever_is_asked_for() {
    let mut settings = settings();
    settings.limits.max_instances = 2;
    settings.limits.max_container_bytes = 100;
    settings.limits.max_content_bytes = 50;
    settings.limits.max_resources = 8;
    let bench = Bench::lights(settings);
    assert_eq!(change(&bench, json!({"mni": 1000, "mbs": 1000})), 2004);
    assert_eq!((&state(&bench)["mni"], &state(&bench)["mbs"]), (&json!(2), &json!(100)));
    for n in 0..5 {
        put(&bench, json!(n));
    }
    assert_eq!(state(&bench)["cni"], 2);
    assert_eq!(bench.instance(LIGHT1, STATE, json!({"con": "x".repeat(51)})).code, 5207);
    // CSEBase, two AEs, two containers, two instances: one more is allowed.
    assert_eq!(bench.container(LIGHT1, "/cse/light1", json!({})).code, 2001);
    assert_eq!(bench.container(LIGHT1, "/cse/light1", json!({})).code, 5207);
    assert_eq!(bench.register("Cnew", "new").code, 5207);
    // An instance that replaces another one needs no space.
    put(&bench, json!("last"));
    bench.cse().store().assert_consistent();
}

#[test]
fn instances_age() {
    let mut bench = Bench::with_lights();
    assert_eq!(change(&bench, json!({"mia": 10})), 2004);
    put(&bench, json!("old"));
    bench.pass(5);
    put(&bench, json!("young"));
    assert_eq!(
        bench.retrieve(LIGHT1, "/cse/light1/state/la").attributes()["et"],
        "20261124T093015"
    );
    bench.pass(5);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/ol").attributes()["con"], "young");
    assert_eq!((&state(&bench)["cni"], &state(&bench)["cbs"]), (&json!(1), &json!(5)));
    // A smaller age applies to existing instances.
    assert_eq!(change(&bench, json!({"mia": 6})), 2004);
    assert_eq!(state(&bench)["cni"], 1);
    assert_eq!(
        bench.retrieve(LIGHT1, "/cse/light1/state/la").attributes()["et"],
        "20261124T093011"
    );
    let reply = bench.update(LIGHT1, STATE, json!({"m2m:cnt": {"mia": 5}}));
    assert_eq!(reply.attributes()["cni"], 0);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/la").code, 4004);
    assert_eq!(change(&bench, json!({"mia": 0})), 2004);
    assert_eq!(bench.instance(LIGHT1, STATE, json!({"con": 1})).code, 5207);
    bench.cse().store().assert_consistent();
}

#[test]
fn instance_may_request_expiry() {
    let mut bench = Bench::with_lights();
    for (con, et) in [("a", "20261124T093020"), ("b", "20261124T093010"), ("c", "20991124T093010")]
    {
        let reply = bench.instance(LIGHT1, STATE, json!({"con": con, "et": et}));
        assert_eq!(reply.code, 2001);
    }
    // Its AE expires earlier.
    let last = bench.retrieve(LIGHT1, "/cse/light1/state/la");
    assert_eq!(last.attributes()["et"], "20261224T093000");
    bench.pass(10);
    assert_eq!(bench.sweep(), 1);
    assert_eq!(bench.sweep(), 0);
    assert_eq!((&state(&bench)["cni"], &state(&bench)["st"]), (&json!(2), &json!(3)));
    bench.pass(10);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/ol").attributes()["con"], "c");
    bench.cse().store().assert_consistent();
}

#[test]
fn expired_resources_do_not_block_names() {
    let mut bench = Bench::with_lights();
    let et = "20261124T093010";
    let reply = bench.container(LIGHT1, "/cse/light1", json!({"rn": "brief", "et": et}));
    assert_eq!(reply.code, 2001);
    for n in 0..20 {
        let inner = json!({"rn": format!("n{n}"), "con": n, "et": et});
        assert_eq!(bench.instance(LIGHT1, "/cse/light1/brief", inner.clone()).code, 2001);
        assert_eq!(bench.instance(LIGHT1, STATE, inner).code, 2001);
    }
    bench.pass(10);
    for path in ["/cse/light1/brief", "/cse/light1/brief/la", "/cse/light1/state/n19"] {
        assert_eq!(bench.retrieve(LIGHT1, path).code, 4004, "{path}");
    }
    assert_eq!(bench.container(LIGHT1, "/cse/light1", json!({"rn": "brief"})).code, 2001);
    assert_eq!(bench.instance(LIGHT1, STATE, json!({"rn": "n19", "con": 1})).code, 2001);
    while bench.sweep() > 0 {}
    assert_eq!(state(&bench)["cni"], 1);
    bench.cse().store().assert_consistent();
}

/// Puts expired instances, which are not removed yet, into light 1's container.
fn expired(bench: &mut Bench, count: u64) {
    let et = crate::record::timestamp(bench.now() + 10);
    for n in 0..count {
        let reply = bench.instance(LIGHT1, STATE, json!({"con": n, "et": et}));
        assert_eq!(reply.code, 2001, "{}", reply.why());
    }
    bench.pass(10);
}

fn stored(bench: &Bench) -> u64 {
    bench.snapshot().read().count().unwrap()
}

#[test]
fn expired_instances_cost_request_no_steps() {
    let steps = |count: u64| {
        let mut bench = Bench::with_lights();
        expired(&mut bench, count);
        let before = stored(&bench);
        let budget = bench.budget();
        let other = [
            request(Operation::Retrieve, "/cse/light2", Some(LIGHT2), None),
            request(Operation::Delete, "/cse/light2/state", Some(LIGHT2), None),
        ];
        for request in other {
            let handled = bench.cse().handle(&request, &budget, bench.time());
            assert!(agree(&bench, handled).code < 3000);
        }
        assert_eq!(stored(&bench), before - 1);
        while bench.sweep() > 0 {}
        assert_eq!(stored(&bench), 4);
        bench.cse().store().assert_consistent();
        budget.left()
    };
    assert_eq!(steps(1), steps(60));
}

/// The counters are exact before the next sweep, in every response.
#[test]
fn expired_instances_are_not_counted() {
    let mut bench = Bench::with_lights();
    put(&bench, json!("abc"));
    expired(&mut bench, 5);
    let before = stored(&bench);
    assert_eq!((&state(&bench)["cni"], &state(&bench)["cbs"]), (&json!(1), &json!(3)));
    for query in ["rcn=4", "rcn=5"] {
        let own = bench.retrieve(LIGHT1, &format!("{STATE}?{query}"));
        assert_eq!(own.attributes()["cni"], 1, "{query}");
    }
    let nested = bench.retrieve(LIGHT1, "/cse/light1?rcn=4");
    assert_eq!(nested.attributes()["m2m:cnt"][0]["cni"], 1, "{}", nested.json);
    assert_eq!(stored(&bench), before);
    let updated = bench.update(LIGHT1, STATE, json!({"m2m:cnt": {"lbl": ["a"]}}));
    assert_eq!((updated.code, &updated.attributes()["cni"]), (2004, &json!(1)));
    assert_eq!(stored(&bench), before - 5);
    expired(&mut bench, 2);
    let gone = bench.delete(LIGHT1, &format!("{STATE}?rcn=1"));
    assert_eq!((gone.code, &gone.attributes()["cni"]), (2002, &json!(1)));
    bench.cse().store().assert_consistent();
}

#[test]
fn expired_instances_do_not_displace_others() {
    let mut bench = Bench::with_lights();
    put(&bench, json!("stays"));
    expired(&mut bench, 2);
    assert_eq!(change(&bench, json!({"mni": 2})), 2004);
    assert_eq!(state(&bench)["cni"], 1);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/ol").attributes()["con"], "stays");
    let et = crate::record::timestamp(bench.now() + 10);
    assert_eq!(bench.instance(LIGHT1, STATE, json!({"con": "goes", "et": et})).code, 2001);
    bench.pass(10);
    put(&bench, json!("comes"));
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/ol").attributes()["con"], "stays");
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/la").attributes()["con"], "comes");
    bench.cse().store().assert_consistent();
}

/// A store from a version without the index of expiration times is indexed when it is opened.
#[test]
fn existing_instances_are_indexed_at_open() {
    let mut bench = Bench::with_lights();
    expired(&mut bench, 3);
    let forget = |writer: &mut Writer<'_>| writer.forget_ages();
    bench.cse().store().write(&RequestBudget::unlimited(), forget).unwrap();
    let bench = bench.reopen();
    bench.cse().store().assert_consistent();
    assert_eq!(state(&bench)["cni"], 0);
}

#[test]
fn container_is_created_and_updated() {
    let mut bench = Bench::with_lights();
    let reply = bench.container(LIGHT1, "/Clight-AE1", json!({"cr": null, "mni": 5}));
    let cnt = reply.attributes();
    assert_eq!(
        (reply.code, &cnt["cr"], &cnt["st"], &cnt["cni"]),
        (2001, &json!(LIGHT1), &json!(0), &json!(0))
    );
    assert_eq!(cnt["rn"], cnt["ri"]);
    bench.pass(1);
    assert_eq!(change(&bench, json!({"lbl": ["a"], "mni": 7})), 2004);
    assert_eq!(change(&bench, json!({"lbl": null, "mni": null})), 2004);
    let cnt = state(&bench);
    assert_eq!((cnt.get("lbl"), &cnt["mni"], &cnt["st"]), (None, &json!(1000), &json!(2)));
    assert_eq!(cnt["lt"], "20261124T093001");
    for bad in [json!({"cni": 0}), json!({"st": 0}), json!({"mni": "1"}), json!({"cr": null})] {
        assert_eq!(change(&bench, bad.clone()), 4000, "{bad}");
    }
    for (bad, code) in [
        (json!({"cr": LIGHT2}), 4000),
        (json!({"rn": "state"}), 4105),
        (json!({"rn": "ol"}), 4000),
        (json!({"con": 1}), 4000),
        (json!({"disr": 1}), 4000),
    ] {
        assert_eq!(bench.container(LIGHT1, "/cse/light1", bad.clone()).code, code, "{bad}");
    }
    assert_eq!(bench.container(LIGHT2, "/cse/light1", json!({})).code, 4103);
    assert_eq!(bench.container("Cnobody", "/cse/light1", json!({})).code, 4103);
}

#[test]
fn children_have_their_places() {
    let bench = Bench::with_lights();
    put(&bench, json!(1));
    let cin = bench.retrieve(LIGHT1, "/cse/light1/state/la").attributes()["ri"].clone();
    let cin = format!("/{}", cin.as_str().unwrap());
    assert_eq!(bench.instance(LIGHT1, "/cse/light1", json!({"con": 1})).code, 4108);
    assert_eq!(bench.instance(LIGHT1, &cin, json!({"con": 1})).code, 4108);
    assert_eq!(bench.container(LIGHT1, &cin, json!({})).code, 4108);
    assert_eq!(bench.update(LIGHT1, &cin, json!({"m2m:cin": {"con": 2}})).code, 4005);
    assert_eq!(bench.create(Some(LIGHT1), STATE, 24, json!({"m2m:smd": {}})).code, 5001);
    assert_eq!(bench.create(Some(LIGHT1), STATE, 5, json!({"m2m:cb": {}})).code, 4005);
    assert_eq!(bench.instance(LIGHT1, STATE, json!({"con": {"a": 1}, "cnf": "x"})).code, 4000);
    assert_eq!(bench.instance(LIGHT1, STATE, json!({})).code, 4000);
    assert_eq!(bench.instance(LIGHT1, STATE, json!({"con": 1, "cs": 1})).code, 4000);
    assert_eq!(bench.instance(LIGHT1, STATE, json!({"con": 1, "acpi": []})).code, 4000);
}

#[test]
fn nesting_has_an_end() {
    let bench = Bench::with_lights();
    let mut path = String::from("/cse/light1");
    for _ in 2..=MAX_DEPTH {
        assert_eq!(bench.container(LIGHT1, &path, json!({"rn": "n"})).code, 2001, "{path}");
        path.push_str("/n");
    }
    assert_eq!(bench.container(LIGHT1, &path, json!({})).code, 5207);
    assert_eq!(bench.instance(LIGHT1, &path, json!({"con": 1})).code, 5207);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1?rcn=4").code, 2000);
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/n").code, 2002);
    assert_eq!(bench.retrieve(LIGHT1, &path).code, 4004);
    bench.cse().store().assert_consistent();
}

#[test]
fn response_has_requested_result_content() {
    let bench = Bench::with_lights();
    let create = |query: &str, name: &str| {
        let to = format!("/cse/light1{query}");
        bench.container(LIGHT1, &to, json!({"rn": name, "mni": 3}))
    };
    let reply = create("?rcn=0", "a");
    assert_eq!((reply.code, &reply.json), (2001, &Value::Null));
    assert!(reply.response.content_location.unwrap().starts_with("/mn-cse-123456/cnt-"));
    assert_eq!(create("?rcn=2", "b").json, json!({"m2m:uri": "cse/light1/b"}));
    let reply = create("?rcn=3", "c");
    assert_eq!(reply.json["m2m:rce"]["uri"], "cse/light1/c");
    assert_eq!(reply.json["m2m:rce"]["m2m:cnt"]["rn"], "c");
    let reply = create("?rcn=9", "d");
    assert_eq!((reply.attributes().get("rn"), reply.attributes().get("mni")), (None, None));
    assert_eq!(reply.attributes()["cni"], 0);
    // The response shows requested values that were changed.
    let reply = bench.container(LIGHT1, "/cse/light1?rcn=9", json!({"mni": 1_000_000}));
    assert_eq!(reply.attributes()["mni"], 1000);
    assert_eq!(create("?rcn=4", "e").code, 4000);
    let far = bench.container(LIGHT1, "/~/mn-cse-123456/Clight-AE1?rcn=2", json!({"rn": "f"}));
    assert_eq!(far.json, json!({"m2m:uri": "/mn-cse-123456/cse/light1/f"}));
}

#[test]
fn instances_of_closed_container_are_not_accessible() {
    let bench = Bench::with_lights();
    let first = put(&bench, json!("on"));
    assert_eq!(change(&bench, json!({"disr": true})), 2004);
    put(&bench, json!("off"));
    for path in [format!("{STATE}/la"), format!("{STATE}/ol"), format!("/{first}")] {
        assert_eq!(bench.retrieve(LIGHT1, &path).code, 4005, "{path}");
        assert_eq!(bench.delete(LIGHT1, &path).code, 4005, "{path}");
    }
    let nested = bench.retrieve(LIGHT1, &format!("{STATE}?rcn=4")).json;
    assert_eq!((nested["m2m:cnt"].get("m2m:cin"), &nested["m2m:cnt"]["cni"]), (None, &json!(2)));
    let nested = bench.retrieve(LIGHT1, "/cse/light1?rcn=8").json;
    assert_eq!(nested["m2m:ae"]["m2m:cnt"][0].get("m2m:cin"), None);
    // With false, the instances are deleted immediately.
    assert_eq!(change(&bench, json!({"disr": false})), 2004);
    assert_eq!(state(&bench)["cni"], 0);
    assert_eq!(bench.retrieve(LIGHT1, &format!("{STATE}/la")).code, 4004);
    put(&bench, json!("on"));
    assert_eq!(bench.retrieve(LIGHT1, &format!("{STATE}/la")).code, 2000);
    bench.cse().store().assert_consistent();
}

#[test]
fn csebase_has_current_time() {
    let mut bench = Bench::with_lights();
    bench.pass(7);
    for path in ["/cse", "/cse?rcn=5", "/cse?atrl=ctm"] {
        let reply = bench.retrieve(LIGHT1, path);
        assert_eq!(reply.attributes()["ctm"], "20261124T093007", "{path}");
    }
}
