//! Stores of earlier versions: the names in their resources are resolved once.

use serde_json::json;

use super::names::*;
use super::names_members::{fan_out, group};
use crate::record::Record;
use crate::record::names::Names;
use crate::store::{StoreError, Writer};
use crate::testing::*;

#[test]
fn earlier_store_keeps_waiting_rules() {
    let bench = Bench::with_lights();
    lights_policy(&bench, &[HUB]);
    bench.cse().store().as_before_waits();
    let bench = bench.reopen();
    bench.cse().store().assert_consistent();
    assert_eq!(retrieve(&bench, STATE), 4103);
    hub(&bench, "one");
    assert_eq!(retrieve(&bench, STATE), 2000);
}

/// Converts a store to the former layout.
fn age(writer: &mut Writer<'_>) -> Result<(), StoreError> {
    let mut after = None;
    while let Some(record) = writer.next_by_id(after.as_deref())? {
        after = Some(record.ri.clone());
        writer.put(&Record { registrant: None, names: Names::default(), ..record })?;
    }
    writer.set_about("schema", "1")
}

#[test]
fn earlier_store_is_resolved_once() {
    let bench = Bench::with_lights();
    hub(&bench, "one");
    hubs_policy(&bench);
    lights_policy(&bench, &[HUB, "Clater", LIGHT1]);
    let kept = json!({"rn": "kept", "cstn": HUB});
    assert_eq!(bench.container(LIGHT1, "/cse/light1", kept).code, 2001);
    let open = json!({"rn": "open", "acpi": ["cse/hub/acp"]});
    assert_eq!(bench.container(LIGHT1, "/cse/light1", open).code, 2001);
    group(&bench, &["cse/light1/state", "cse/light1"]);
    let sub = json!({"rn": "sub", "nu": ["cse/hub"], "enc": {"net": [3]}});
    assert_eq!(agree(&bench, subscribe(&bench, LIGHT1, STATE, sub)).code, 2001);
    assert_eq!(bench.container(HUB, STATE, json!({"rn": "made", "cr": null})).code, 2001);
    bench.cse().store().write(&crate::RequestBudget::unlimited(), age).unwrap();
    let bench = bench.reopen();
    bench.cse().store().assert_consistent();
    let all = [STATE, "/cse/light1/kept", "/cse/light1/open"];
    assert_eq!(all.map(|path| retrieve(&bench, path)), [2000; 3]);
    assert_eq!(bench.instance(LIGHT1, STATE, json!({"con": 1})).notifications.len(), 1);
    assert_eq!(fan_out(&bench, "one")[0], 2001);
    // As in a store that was never converted.
    assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002);
    let bench = bench.reopen();
    hub(&bench, "two");
    hubs_policy(&bench);
    assert_eq!(all.map(|path| retrieve(&bench, path)), [4103; 3]);
    assert_eq!(bench.retrieve(HUB, "/cse/light1/state/made").code, 4103);
    assert_eq!(bench.instance(LIGHT1, STATE, json!({"con": 1})).notifications.len(), 0);
    assert_eq!(register(&bench, "Clater", "later", "three").code, 2001);
    assert_eq!(bench.retrieve("Clater", STATE).code, 2000);
}

/// With a known registrant, the AE can return.
#[test]
fn earlier_store_accepts_known_registrants() {
    let bench = Bench::with_lights();
    hub(&bench, "one");
    lights_policy(&bench, &[HUB]);
    bench.cse().store().write(&crate::RequestBudget::unlimited(), age).unwrap();
    let one = |stem: &str| (stem == HUB).then(|| "12-one@in.provider.com".to_owned());
    let bench = bench.reopen_knowing(&one);
    assert_eq!(retrieve(&bench, STATE), 2000);
    assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002);
    hub(&bench, "two");
    assert_eq!(retrieve(&bench, STATE), 4103);
    assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002);
    hub(&bench, "one");
    assert_eq!(retrieve(&bench, STATE), 2000);
}
