//! Location policies, and the schedules of nodes and of the CSE.

use saegis_onem2m::id::AeIdStem;
use serde_json::{Value, json};

use crate::Settings;
use crate::testing::{Bench, LIGHT1, LIGHT2, Reply, settings};

/// Returns a CSE whose administrator is light 1.
fn administered() -> Bench {
    Bench::lights(Settings { administrators: vec![AeIdStem::parse(LIGHT1).unwrap()], ..settings() })
}

fn policy(bench: &Bench, from: &str, attributes: Value) -> Reply {
    bench.create(Some(from), "/cse", 10, json!({ "m2m:lcp": attributes }))
}

#[test]
fn location_is_set_by_hand() {
    let bench = administered();
    let created =
        policy(&bench, LIGHT1, json!({"rn": "place", "los": 2, "lit": 1, "lon": "where"}));
    assert_eq!(created.code, 2001, "{}", created.why());
    let container = created.attributes()["loi"].as_str().unwrap().to_owned();
    assert_eq!(created.attributes()["lon"], "where");
    let stored = bench.retrieve(LIGHT1, "/cse/where");
    assert_eq!(stored.attributes()["ri"], container.as_str());
    assert_eq!(stored.attributes()["li"], created.attributes()["ri"]);
    let place = json!({"con": {"type": "Point", "coordinates": [2.35, 48.85]}});
    assert_eq!(bench.instance(LIGHT1, "/cse/where", place.clone()).code, 2001);
    let latest = bench.retrieve(LIGHT1, &format!("/{container}/la"));
    assert_eq!(latest.attributes()["con"], place["con"]);
    // The policy of the originator protects it.
    assert_eq!(bench.retrieve(LIGHT2, "/cse/where/la").code, 4103);
    assert_eq!(bench.delete(LIGHT1, "/cse/place").code, 2002);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/where").code, 4004);
    bench.cse().store().assert_consistent();
}

#[test]
fn other_sources_of_locations_are_refused() {
    let bench = administered();
    for (attributes, code) in [
        (json!({}), 4000),
        (json!({"los": 0}), 4000),
        (json!({"los": 4}), 4000),
        (json!({"los": "2"}), 4000),
        (json!({"los": 1}), 5001),
        (json!({"los": 3}), 5001),
        (json!({"los": 2, "lit": 2}), 5001),
        (json!({"los": 2, "lit": 3}), 4000),
        (json!({"los": 2, "lou": ["PT1M"]}), 5001),
        (json!({"los": 2, "gta": {}}), 5001),
        (json!({"los": 2, "loi": "cnt-1"}), 4000),
        (json!({"los": 2, "lon": "a b"}), 4000),
    ] {
        let reply = policy(&bench, LIGHT1, attributes.clone());
        assert_eq!(reply.code, code, "{attributes} {}", reply.why());
    }
    // A name that is in use, and an AE without privilege.
    assert_eq!(policy(&bench, LIGHT1, json!({"los": 2, "lon": "light1"})).code, 4105);
    assert_eq!(policy(&bench, LIGHT2, json!({"los": 2})).code, 4103);
    let below = bench.create(Some(LIGHT1), "/cse/light1", 10, json!({"m2m:lcp": {"los": 2}}));
    assert_eq!(below.code, 4108);
    bench.cse().store().assert_consistent();
}

#[test]
fn node_and_cse_have_schedules() {
    let bench = administered();
    let se = json!({"sce": ["* * 8-20 * * * *"]});
    let schedule = |path: &str, more: Value| {
        let mut all = json!({ "se": se });
        for (name, value) in more.as_object().unwrap() {
            all[name] = value.clone();
        }
        bench.create(Some(LIGHT1), path, 18, json!({ "m2m:sch": all }))
    };
    assert_eq!(schedule("/cse", json!({"nco": false})).code, 4102);
    let created = schedule("/cse", json!({"rn": "hours"}));
    assert_eq!(created.code, 2001, "{}", created.why());
    assert_eq!(schedule("/cse", json!({})).code, 5207);
    let node = json!({"m2m:nod": {"rn": "node", "ni": "urn:dev:1"}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse", 14, node).code, 2001);
    // A node can have one for each of its networks.
    assert_eq!(schedule("/cse/node", json!({"rn": "one", "nco": false})).code, 2001);
    assert_eq!(schedule("/cse/node", json!({"rn": "two"})).code, 2001);
    assert_eq!(schedule("/cse/node", json!({"nco": true})).code, 5001);
    assert_eq!(schedule("/cse/light1", json!({})).code, 4108);
    let update = |path: &str, attributes: Value| {
        bench.update(LIGHT1, path, json!({ "m2m:sch": attributes })).code
    };
    assert_eq!(update("/cse/hours", json!({"se": {"sce": ["* * * * * 0 *"]}})), 2004);
    assert_eq!(update("/cse/hours", json!({"nco": false})), 4102);
    assert_eq!(update("/cse/node/one", json!({"nco": false})), 2004);
    assert_eq!(update("/cse/hours", json!({"se": {"sce": ["x"]}})), 4000);
    assert_eq!(bench.delete(LIGHT1, "/cse/hours").code, 2002);
    assert_eq!(schedule("/cse", json!({})).code, 2001);
    bench.cse().store().assert_consistent();
}
