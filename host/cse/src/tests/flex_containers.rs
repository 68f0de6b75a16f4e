use saegis_onem2m::primitive::Operation;
use serde_json::{Value, json};

use crate::settings::Settings;
use crate::testing::{Bench, LIGHT1, LIGHT2, Reply, request, settings};

const LIGHT: &str = "/cse/light1";
const TEMPERATURE: &str = "/cse/light1/room";
const CND: &str = "org.onem2m.common.moduleclass.temperature";

fn create(bench: &Bench, attributes: Value) -> Reply {
    bench.create(Some(LIGHT1), LIGHT, 28, json!({ "cod:tempe": attributes }))
}

/// Creates a thermometer with these additional attributes.
#[track_caller]
fn thermometer(bench: &Bench, more: Value) -> Value {
    let mut attributes = json!({"rn": "room", "cnd": CND, "curT0": 21.5});
    attributes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let reply = create(bench, attributes);
    assert_eq!(reply.code, 2001, "{}", reply.why());
    reply.attributes().clone()
}

fn change(bench: &Bench, attributes: Value) -> Reply {
    bench.update(LIGHT1, TEMPERATURE, json!({ "cod:tempe": attributes }))
}

#[track_caller]
fn set(bench: &Bench, attributes: Value) {
    let reply = change(bench, attributes);
    assert_eq!(reply.code, 2004, "{}", reply.why());
}

fn get(bench: &Bench) -> Value {
    bench.retrieve(LIGHT1, TEMPERATURE).attributes().clone()
}

/// Returns the temperatures of the oldest and the latest instance.
fn ends(bench: &Bench) -> [Value; 2] {
    ["ol", "la"].map(|edge| {
        let reply = bench.retrieve(LIGHT1, &format!("{TEMPERATURE}/{edge}"));
        reply.json["cod:tempe"]["curT0"].clone()
    })
}

#[test]
fn flex_container_is_returned_under_root_of_its_definition() {
    let bench = Bench::with_lights();
    let made = thermometer(&bench, json!({"lbl": ["x"], "cr": null, "unit": 1}));
    let ri = made["ri"].as_str().unwrap();
    assert!(ri.starts_with("fcnt-"), "{ri}");
    assert_eq!(
        made,
        json!({
            "rn": "room", "ri": ri, "pi": LIGHT1, "ty": 28, "cnd": CND, "curT0": 21.5, "unit": 1,
            "cs": 5, "st": 0, "lbl": ["x"], "cr": LIGHT1,
            "ct": "20261124T093000", "lt": "20261124T093000", "et": "20261224T093000",
        })
    );
    let found = bench.retrieve(LIGHT1, TEMPERATURE).json;
    assert_eq!(found, json!({ "cod:tempe": made }));
    assert_eq!(bench.retrieve(LIGHT2, TEMPERATURE).code, 4103);
    // In a listing as well, and in the response with the address.
    let nested = bench.retrieve(LIGHT1, "/cse/light1?rcn=8").json;
    assert_eq!(nested["m2m:ae"]["cod:tempe"], json!([made]));
    let switch = json!({"cod:binSh": {
        "cnd": "org.onem2m.common.moduleclass.binarySwitch", "rn": "s", "state": true,
    }});
    let reply = bench.create(Some(LIGHT1), "/cse/light1/room?rcn=3", 28, switch);
    assert_eq!(reply.json["m2m:rce"]["cod:binSh"]["state"], true, "{}", reply.why());
    for child in [json!({"m2m:cnt": {}}), json!({"m2m:sub": {"nu": [LIGHT1]}})] {
        let ty = if child.get("m2m:cnt").is_some() { 3 } else { 23 };
        assert_eq!(bench.create(Some(LIGHT1), TEMPERATURE, ty, child).code, 2001);
    }
    assert_eq!(bench.instance(LIGHT1, TEMPERATURE, json!({"con": 1})).code, 4108);
    // Without instances there are no virtual resources.
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/room/la").code, 4004);
    assert_eq!(bench.delete(LIGHT1, TEMPERATURE).code, 2002);
    bench.cse().store().assert_consistent();
}

#[test]
fn attributes_are_checked_by_definition() {
    let bench = Bench::with_lights();
    for (bad, code, why) in [
        (json!({"curT0": 1}), 4000, "cnd"),
        (json!({"cnd": 1, "curT0": 1}), 4000, "cnd"),
        (json!({"cnd": "com.example.unknown", "curT0": 1}), 4125, "com.example.unknown"),
        (
            json!({"cnd": "org.onem2m.common.moduleclass.binarySwitch", "state": true}),
            4000,
            "cod:binSh",
        ),
        (json!({"cnd": CND}), 4000, "curT0"),
        (json!({"cnd": CND, "curT0": "21"}), 4000, "curT0"),
        (json!({"cnd": CND, "curT0": null}), 4000, "curT0"),
        (json!({"cnd": CND, "curT0": 1, "dgt": "now"}), 4000, "dgt"),
        (json!({"cnd": CND, "curT0": 1, "unit": -1}), 4000, "unit"),
        (json!({"cnd": CND, "curT0": 1, "power": 1}), 4000, "power"),
        (json!({"cnd": CND, "curT0": 1, "st": 1}), 4000, "st"),
        (json!({"cnd": CND, "curT0": 1, "cs": 1}), 4000, "cs"),
        (json!({"cnd": CND, "curT0": 1, "mni": 1}), 4000, "fcied"),
        (json!({"cnd": CND, "curT0": 1, "mni": 0, "fcied": true}), 4000, "mni"),
        (json!({"cnd": CND, "curT0": 1, "mbs": 0, "fcied": false}), 4000, "mbs"),
        (json!({"cnd": CND, "curT0": 1, "fcied": "true"}), 4000, "fcied"),
    ] {
        let reply = create(&bench, bad.clone());
        assert_eq!(reply.code, code, "{bad}: {}", reply.why());
        assert!(reply.why().contains(why), "{bad}: {}", reply.why());
    }
    let other_root = json!({"m2m:fcnt": {"cnd": CND, "curT0": 1}});
    assert_eq!(bench.create(Some(LIGHT1), LIGHT, 28, other_root).code, 4000);
    let two = json!({"cod:tempe": {"cnd": CND, "curT0": 1}, "cod:binSh": {}});
    let mut two_roots = request(Operation::Create, LIGHT, Some(LIGHT1), None);
    two_roots.resource_type = Some(28);
    assert_eq!(bench.send(&two_roots).code, 4000);
    assert!(saegis_onem2m::primitive::Content::parse(two.to_string().into()).is_err());

    thermometer(&bench, json!({"tarTe": 20}));
    for (bad, why) in [
        (json!({"curT0": null}), "curT0"),
        (json!({"curT0": true}), "curT0"),
        (json!({"cnd": CND}), "cnd"),
        (json!({"power": 1}), "power"),
        (json!({"mni": 1}), "fcied"),
    ] {
        let reply = change(&bench, bad.clone());
        assert_eq!(reply.code, 4000, "{bad}");
        assert!(reply.why().contains(why), "{bad}: {}", reply.why());
    }
    assert_eq!(bench.update(LIGHT1, TEMPERATURE, json!({"m2m:fcnt": {"curT0": 1}})).code, 4000);
    set(&bench, json!({"tarTe": null, "curT0": 22}));
    let now = get(&bench);
    assert_eq!((&now["curT0"], now.get("tarTe"), &now["cs"]), (&json!(22), None, &json!(2)));
    assert_eq!(now["st"], 1);
}

#[test]
fn changes_are_recorded_as_instances() {
    let bench = Bench::with_lights();
    let made = thermometer(&bench, json!({"fcied": true, "mni": 3}));
    assert_eq!((&made["cni"], &made["cbs"], &made["mni"]), (&json!(1), &json!(4), &json!(3)));
    let sub = json!({"m2m:sub": {"nu": [LIGHT1], "rn": "sub", "enc": {"net": [3], "chty": [58]}}});
    assert_eq!(bench.create(Some(LIGHT1), TEMPERATURE, 23, sub).code, 2001);
    set(&bench, json!({"curT0": 22, "lbl": ["warm"]}));
    let latest = bench.retrieve(LIGHT1, "/cse/light1/room/la");
    let instance = &latest.json["cod:tempe"];
    assert!(instance["ri"].as_str().unwrap().starts_with("fci-"));
    assert_eq!(
        (&instance["ty"], &instance["st"], &instance["cs"]),
        (&json!(58), &json!(1), &json!(2))
    );
    assert_eq!((&instance["curT0"], &instance["org"]), (&json!(22), &json!(LIGHT1)));
    assert_eq!((&instance["lbl"], instance.get("cnd")), (&json!(["warm"]), None));
    assert_eq!(ends(&bench), [json!(21.5), json!(22)]);
    // Other attributes are not recorded.
    set(&bench, json!({"nl": "cse/light1"}));
    assert_eq!(get(&bench)["cni"], 2);
    set(&bench, json!({"curT0": 23}));
    set(&bench, json!({"curT0": 24}));
    assert_eq!(get(&bench)["cni"], 3);
    assert_eq!(ends(&bench), [json!(22), json!(24)]);
    // They are found below, and cannot be created or changed.
    let found = bench.retrieve(LIGHT1, "/cse/light1?fu=1&ty=58");
    assert_eq!(found.found().len(), 3);
    let path = format!("/{}", found.found()[0]);
    assert_eq!(bench.update(LIGHT1, &path, json!({"cod:tempe": {"curT0": 1}})).code, 4005);
    let given = json!({"cod:tempe": {"curT0": 1}});
    assert_eq!(bench.create(Some(LIGHT1), TEMPERATURE, 58, given).code, 4005);
    assert_eq!(bench.retrieve(LIGHT2, &path).code, 4103);
    assert_eq!(bench.delete(LIGHT1, &path).code, 2002);
    assert_eq!(get(&bench)["cni"], 2);
    set(&bench, json!({"mni": 1}));
    assert_eq!(ends(&bench), [json!(24), json!(24)]);
    bench.cse().store().assert_consistent();
}

#[test]
fn instances_can_be_enabled_and_disabled() {
    let bench = Bench::with_lights();
    thermometer(&bench, json!({}));
    set(&bench, json!({"fcied": true}));
    set(&bench, json!({"curT0": 22}));
    assert_eq!(ends(&bench), [json!(21.5), json!(22)]);
    // False keeps the latest instance only, and adds none.
    set(&bench, json!({"fcied": false}));
    set(&bench, json!({"curT0": 23}));
    assert_eq!((ends(&bench), &get(&bench)["cni"]), ([json!(22), json!(22)], &json!(1)));
    set(&bench, json!({"fcied": true}));
    assert_eq!(ends(&bench), [json!(22), json!(23)]);
    // Without the attribute there are no instances.
    set(&bench, json!({"fcied": null}));
    assert_eq!(get(&bench).get("cni"), None);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/room/la").code, 4004);
    assert!(bench.retrieve(LIGHT1, "/cse/light1?fu=1&ty=58").found().is_empty());
    bench.cse().store().assert_consistent();
}

#[test]
fn instances_expire_with_their_age() {
    let mut bench = Bench::with_lights();
    thermometer(&bench, json!({"fcied": true, "mia": 10}));
    bench.pass(5);
    set(&bench, json!({"curT0": 22}));
    bench.pass(5);
    assert_eq!((ends(&bench), &get(&bench)["cni"]), ([json!(22), json!(22)], &json!(1)));
    bench.sweep();
    bench.cse().store().assert_consistent();
    let bench = bench.reopen();
    assert_eq!(ends(&bench), [json!(22), json!(22)]);
}

#[test]
fn flex_container_is_bounded() {
    let mut small = settings();
    small.limits.max_content_bytes = 8;
    small.limits.max_instances = 2;
    small.limits.max_resources = 9;
    let bench = Bench::lights(small);
    thermometer(&bench, json!({"fcied": true}));
    assert_eq!(change(&bench, json!({"curT0": 123_456_789})).code, 5207);
    for n in 0..3 {
        set(&bench, json!({ "curT0": n }));
    }
    assert_eq!(get(&bench)["cni"], 2);
    // The CSEBase, two AEs, two containers, the thermometer and its two instances.
    assert_eq!(bench.container(LIGHT1, LIGHT, json!({})).code, 2001);
    assert_eq!(bench.container(LIGHT1, LIGHT, json!({})).code, 5207);
    set(&bench, json!({"mni": 5, "curT0": 9}));
    bench.cse().store().assert_consistent();
}

#[test]
fn custom_attributes_are_filters() {
    let bench = Bench::with_lights();
    thermometer(&bench, json!({}));
    let found = |query: &str| bench.retrieve(LIGHT1, &format!("/cse/light1?fu=1&{query}")).json;
    assert_eq!(found("curT0=21.5")["m2m:uril"], json!(["cse/light1/room"]));
    assert_eq!(found("curT0=22")["m2m:uril"], json!([]));
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1?fu=1&power5=1").code, 4000);
    let part = bench.retrieve(LIGHT1, "/cse/light1/room?atrl=curT0+tarTe");
    assert_eq!(part.json, json!({"cod:tempe": {"curT0": 21.5}}));
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/room?atrl=curT9").code, 4000);
}

#[test]
fn definition_that_is_gone_refuses_custom_attributes() {
    let bench = Bench::with_lights();
    thermometer(&bench, json!({}));
    let without = Settings { definitions: Default::default(), ..settings() };
    let bench = bench.reopen_as(without).unwrap();
    set(&bench, json!({"lbl": ["x"], "et": "20261130T000000"}));
    for custom in [json!({"curT0": 1}), json!({"curT0": null}), json!({"lbl": ["y"], "foo": 1})] {
        let reply = change(&bench, custom.clone());
        assert_eq!(reply.code, 4125, "{custom}: {}", reply.why());
    }
    let now = get(&bench);
    assert_eq!((&now["lbl"], &now["curT0"]), (&json!(["x"]), &json!(21.5)));
    assert_eq!(bench.delete(LIGHT1, TEMPERATURE).code, 2002);
    bench.cse().store().assert_consistent();
}
