use saegis_onem2m::parameter::Parameter;
use serde_json::json;

use super::policies::{STATE, govern, policy, rule};
use crate::store::StoreError;
use crate::testing::{Bench, LIGHT1, LIGHT2, listed, settings};

#[test]
fn discovery_finds_accessible_child_of_closed_parent() {
    let bench = Bench::with_lights();
    let make = |path, attributes| {
        assert_eq!(bench.container(LIGHT1, path, attributes).code, 2001);
    };
    let both = json!({"acr": [{"acor": [LIGHT2], "acop": 2 + 32}, {"acor": [LIGHT1], "acop": 63}]});
    assert_eq!(policy(&bench, "open", both).code, 2001);
    make(STATE, json!({"rn": "deep"}));
    make("/cse/light1/state/deep", json!({"rn": "open", "acpi": ["cse/light1/open"]}));
    make("/cse/light1/state/deep/open", json!({"rn": "more"}));
    let find = |path: &str| {
        let reply = bench.retrieve(LIGHT2, path);
        reply.found().into_iter().map(String::from).collect::<Vec<_>>()
    };
    let open = "cse/light1/state/deep/open";
    let expected = [open, "cse/light1/state/deep/open/more", "cse/light2", "cse/light2/state"]
        .map(String::from);
    assert_eq!(find("/cse?fu=1"), expected);
    assert_eq!(find("/cse?fu=1&lvl=3"), ["cse/light2", "cse/light2/state"]);
    // A nested response cannot contain a child without its parent.
    let nested = bench.retrieve(LIGHT2, "/cse?rcn=4");
    assert_eq!(nested.json["m2m:cb"]["m2m:ae"].as_array().unwrap().len(), 1);
    let nested = bench.retrieve(LIGHT2, "/cse/light1/state/deep/open?rcn=4");
    assert_eq!(nested.json["m2m:cnt"]["m2m:cnt"][0]["rn"], "more");
    // A policy for retrieving does not allow discovery.
    let change = json!({"m2m:acp": {"pv": rule(&[LIGHT2], 2)}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1/open", change).code, 2004);
    assert_eq!(find("/cse?fu=1"), ["cse/light2", "cse/light2/state"]);
}

#[test]
fn discovery_skips_closed_subtree() {
    let bench = Bench::with_lights();
    let store = bench.cse().store();
    store
        .write(&crate::RequestBudget::unlimited(), |writer| {
            let state = writer.read().named(LIGHT1, "state")?.unwrap();
            let mut container = writer.read().get(&state)?.unwrap();
            for n in 1..=21_000 {
                container.ri = format!("cnt-{n}");
                container.name.clone_from(&container.ri);
                container.sequence = n;
                writer.put(&container)?;
            }
            Ok::<_, StoreError>(())
        })
        .unwrap();
    store.assert_consistent();
    assert_eq!(bench.retrieve(LIGHT1, "/cse?fu=1&cty=none").code, 5207);
    assert_eq!(bench.retrieve(LIGHT2, "/cse?fu=1").found().len(), 2);
}

#[test]
fn discovery_skips_closed_instances() {
    let mut settings = settings();
    settings.limits.max_instances = 30_000;
    settings.limits.max_resources_per_registree = 30_000;
    let bench = Bench::lights(settings);
    bench.fill(LIGHT1, STATE, 21_000);
    let both = json!({"acr": [{"acor": [LIGHT2, LIGHT1], "acop": 63}]});
    assert_eq!(policy(&bench, "open", both).code, 2001);
    let open = json!({"rn": "open", "acpi": ["cse/light1/open"]});
    assert_eq!(bench.container(LIGHT1, STATE, open).code, 2001);
    let reply = bench.retrieve(LIGHT2, "/cse?fu=1");
    assert_eq!(reply.found(), ["cse/light1/state/open", "cse/light2", "cse/light2/state"]);
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/open"]), 2004);
    // With too many open resources, those of others are partially omitted.
    assert_eq!(bench.retrieve(LIGHT2, "/cse/light1/state?fu=1&cty=none").code, 5207);
    let found = ["cse/light1/state", "cse/light1/state/open", "cse/light2/state"];
    let reply = bench.retrieve(LIGHT2, "/cse?fu=1&ty=3&fo=2");
    assert_eq!(reply.found(), found);
    assert_eq!(listed(&reply.response.parameters), [(Parameter::ContentStatus, "1".to_string())]);
    // Instances of other types than the wanted ones take no steps.
    let reply = bench.retrieve(LIGHT2, "/cse?fu=1&ty=3");
    assert_eq!((reply.found(), listed(&reply.response.parameters)), (found.to_vec(), vec![]));
}
