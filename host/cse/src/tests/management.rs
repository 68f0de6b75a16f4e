use saegis_onem2m::id::AeIdStem;
use serde_json::{Value, json};

use crate::settings::Settings;
use crate::testing::{Bench, LIGHT1, LIGHT2, Reply, settings};

/// Returns a CSE whose administrator has a node.
fn bench() -> Bench {
    let administrators = vec![AeIdStem::parse(LIGHT1).unwrap()];
    let bench = Bench::lights(Settings { administrators, ..settings() });
    let node = json!({"m2m:nod": {"rn": "node", "ni": "n1"}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse", 14, node).code, 2001);
    bench
}

fn create(bench: &Bench, root: &str, attributes: Value) -> Reply {
    bench.create(Some(LIGHT1), "/cse/node", 13, json!({ root: attributes }))
}

#[test]
fn properties_of_device_are_stored() {
    let bench = bench();
    for (root, attributes) in [
        ("m2m:bat", json!({"rn": "o1", "mgd": 1006, "btl": 80, "bts": 1})),
        (
            "m2m:fwr",
            json!({"rn": "o2", "mgd": 1001, "vr": "1", "fwn": "f", "url": "", "ud": false}),
        ),
        ("m2m:swr", json!({"rn": "o3", "mgd": 1002, "vr": "1", "swn": "s", "url": ""})),
        (
            "m2m:dvi",
            json!({"rn": "o4", "mgd": 1007, "dlb": "l", "man": "m", "mod": "x", "dty": "t"}),
        ),
        ("m2m:rbo", json!({"rn": "o5", "mgd": 1009, "dc": "restart"})),
    ] {
        let reply = create(&bench, root, attributes.clone());
        assert_eq!(reply.code, 2001, "{root}: {}", reply.why());
        let path = format!("/cse/node/{}", attributes["rn"].as_str().unwrap());
        let found = bench.retrieve(LIGHT1, &path).json;
        for (name, value) in attributes.as_object().unwrap() {
            assert_eq!(&found[root][name], value, "{root}");
        }
        assert_eq!(found[root]["ty"], 13);
        assert_eq!(bench.retrieve(LIGHT2, &path).code, 4103);
    }
    let update = |path: &str, root: &str, change: Value| {
        bench.update(LIGHT1, path, json!({ root: change })).code
    };
    assert_eq!(update("/cse/node/o1", "m2m:bat", json!({"btl": 79, "bts": 2})), 2004);
    assert_eq!(update("/cse/node/o2", "m2m:fwr", json!({"ud": true, "uds": {"acn": "u"}})), 2004);
    assert_eq!(update("/cse/node/o3", "m2m:swr", json!({"in": true})), 2004);
    assert_eq!(update("/cse/node/o5", "m2m:rbo", json!({"rbo": true})), 2004);
    let found = bench.retrieve(LIGHT1, "/cse/node?fu=1&btl=79").json;
    assert_eq!(found["m2m:uril"], json!(["cse/node/o1"]));
    let sub = json!({"m2m:sub": {"nu": [LIGHT1]}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/node/o5", 23, sub).code, 2001);
    bench.cse().store().assert_consistent();
}

#[test]
fn values_of_management_objects_are_checked() {
    let bench = bench();
    for (root, attributes, code) in [
        ("m2m:bat", json!({"btl": 1, "bts": 1}), 4000),
        ("m2m:bat", json!({"mgd": "1006", "btl": 1, "bts": 1}), 4000),
        ("m2m:bat", json!({"mgd": 1006, "btl": 101, "bts": 1}), 4000),
        ("m2m:bat", json!({"mgd": 1006, "btl": 1, "bts": 8}), 4000),
        ("m2m:bat", json!({"mgd": 1006, "btl": 1}), 4000),
        ("m2m:bat", json!({"mgd": 1006, "btl": 1, "bts": 1, "vr": "1"}), 4000),
        ("m2m:mgo", json!({"mgd": 1006, "btl": 1, "bts": 1}), 4000),
        ("m2m:fwr", json!({"mgd": 1006, "btl": 1, "bts": 1}), 4000),
        ("m2m:rbo", json!({"mgd": 1009, "rbo": true, "far": true}), 4000),
        ("m2m:rbo", json!({"mgd": 1009, "rbo": false}), 4000),
        ("m2m:evl", json!({"mgd": 1010}), 5001),
        ("m2m:rbo", json!({"mgd": 1009, "rn": "reboot"}), 2001),
    ] {
        let reply = create(&bench, root, attributes.clone());
        assert_eq!(reply.code, code, "{root} {attributes}: {}", reply.why());
    }
    let firmware = json!({"rn": "fwr", "mgd": 1001, "vr": "1", "fwn": "f", "url": "", "ud": false});
    assert_eq!(create(&bench, "m2m:fwr", firmware).code, 2001);
    for (status, code) in [
        (json!({}), 2004),
        (json!({"sus": 3}), 2004),
        (json!({"sus": 4}), 4000),
        (json!({"acn": 1}), 4000),
        (json!({"acn": "u", "x": 1}), 4000),
    ] {
        let change = json!({"m2m:fwr": {"uds": status}});
        assert_eq!(bench.update(LIGHT1, "/cse/node/fwr", change).code, code, "{status}");
    }
    let both = json!({"m2m:rbo": {"rbo": true, "far": true}});
    assert_eq!(bench.update(LIGHT1, "/cse/node/reboot", both).code, 4000);
    let kind = json!({"m2m:rbo": {"mgd": 1009}});
    assert_eq!(bench.update(LIGHT1, "/cse/node/reboot", kind).code, 4000);
    // Only below a node.
    let battery = json!({"m2m:bat": {"mgd": 1006, "btl": 1, "bts": 1}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 13, battery).code, 4108);
}
