use serde_json::{Value, json};

use crate::budget::RequestBudget;
use crate::store::StoreError;
use crate::testing::{Bench, LIGHT1, LIGHT2, NOW, Reply, agree, subscribe};

const LIGHT: &str = "/cse/light1";
const SERIES: &str = "/cse/light1/power";

#[track_caller]
fn series(bench: &Bench, more: Value) -> Value {
    let mut attributes = json!({"rn": "power"});
    attributes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let reply = bench.create(Some(LIGHT1), LIGHT, 29, json!({ "m2m:ts": attributes }));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    reply.attributes().clone()
}

/// Creates an instance that was generated this many seconds after the start.
fn put(bench: &Bench, at: u64, fraction: &str) -> Reply {
    let dgt = format!("{}{fraction}", crate::record::timestamp(NOW + at));
    bench.create(Some(LIGHT1), SERIES, 30, json!({"m2m:tsi": {"con": at, "dgt": dgt}}))
}

fn change(bench: &Bench, attributes: Value) -> Reply {
    bench.update(LIGHT1, SERIES, json!({ "m2m:ts": attributes }))
}

fn get(bench: &Bench) -> Value {
    bench.retrieve(LIGHT1, SERIES).attributes().clone()
}

/// Returns the reports that are due: the number of missing data, and their times.
fn due(bench: &Bench) -> Vec<(Value, Value)> {
    let report = |content: &[u8]| {
        let content: Value = serde_json::from_slice(content).unwrap();
        let event = &content["m2m:sgn"]["nev"];
        assert_eq!(event["net"], 8);
        let data = &event["rep"]["m2m:tsn"];
        (data["mdc"].clone(), data["mdlt"].clone())
    };
    bench.take_due().iter().map(|n| report(&n.content)).collect()
}

#[test]
fn instances_have_unique_generation_times() {
    let bench = Bench::with_lights();
    let made = series(&bench, json!({"mni": 2, "cnf": "text/plain:0"}));
    assert_eq!((&made["cni"], &made["mdc"], made.get("st")), (&json!(0), &json!(0), None));
    assert_eq!(put(&bench, 1, "").code, 2001);
    assert_eq!(put(&bench, 1, "").code, 4105);
    assert_eq!(put(&bench, 1, ",0").code, 4105);
    let second = put(&bench, 1, ",5");
    assert_eq!(second.code, 2001);
    let tsi = second.attributes();
    assert_eq!((&tsi["ty"], &tsi["cs"], tsi.get("st")), (&json!(30), &json!(1), None));
    assert_eq!(put(&bench, 2, "").code, 2001);
    assert_eq!(get(&bench)["cni"], 2);
    // The oldest one was removed, so its time is free again.
    assert_eq!(put(&bench, 1, "").code, 2001);
    let oldest = bench.retrieve(LIGHT1, "/cse/light1/power/ol");
    assert_eq!(oldest.json["m2m:tsi"]["con"], 2);
    assert_eq!(bench.retrieve(LIGHT2, "/cse/light1/power/la").code, 4103);
    let path = format!("/{}", oldest.attributes()["ri"].as_str().unwrap());
    assert_eq!(bench.update(LIGHT1, &path, json!({"m2m:tsi": {"snr": 1}})).code, 4005);
    assert_eq!(bench.delete(LIGHT1, &path).code, 2002);
    for bad in [
        json!({"con": 1}),
        json!({"dgt": "20261124T093000"}),
        json!({"con": 1, "dgt": "1000"}),
        json!({"con": 1, "dgt": "20261124T093000", "snr": -1}),
    ] {
        let reply = bench.create(Some(LIGHT1), SERIES, 30, json!({ "m2m:tsi": bad }));
        assert_eq!(reply.code, 4000, "{bad}");
    }
    assert_eq!(bench.instance(LIGHT1, SERIES, json!({"con": 1})).code, 4108);
    bench.cse().store().assert_consistent();
    assert_eq!(bench.delete(LIGHT1, SERIES).code, 2002);
    bench.cse().store().assert_consistent();
}

#[test]
fn attributes_of_monitoring_are_checked() {
    let bench = Bench::with_lights();
    for bad in [
        json!({"pei": 0}),
        json!({"mdn": 0}),
        json!({"mdt": 0}),
        json!({"pei": 2000, "peid": 1001}),
        json!({"mdd": true}),
        json!({"mdd": true, "pei": 2000, "mdt": 1000}),
        json!({"mdd": true, "pei": 999, "mdt": 1000}),
        json!({"mdlt": []}),
        json!({"mdc": 1}),
    ] {
        let reply = bench.create(Some(LIGHT1), LIGHT, 29, json!({ "m2m:ts": bad }));
        assert_eq!(reply.code, 4000, "{bad}: {}", reply.why());
    }
    let made = series(&bench, json!({"pei": 2000, "mdt": 1500, "mdd": true}));
    assert_eq!(made["peid"], 1000);
    for bad in [json!({"pei": 3000}), json!({"mdn": 5}), json!({"mdd": false, "mdt": 2000})] {
        assert_eq!(change(&bench, bad.clone()).code, 4000, "{bad}");
    }
    assert_eq!(change(&bench, json!({"mdd": false})).code, 2004);
    assert_eq!(change(&bench, json!({"pei": 4000})).code, 2004);
    assert_eq!(get(&bench)["peid"], 2000);
    // The detection time must exceed the new delta.
    assert_eq!(change(&bench, json!({"mdd": true})).code, 4000);
}

#[test]
fn missing_data_are_listed() {
    let mut bench = Bench::with_lights();
    series(&bench, json!({"pei": 10_000, "peid": 1000, "mdt": 2000, "mdd": true, "mdn": 2}));
    bench.pass(100);
    assert!(due(&bench).is_empty());
    // The monitoring starts with the first instance.
    assert_eq!(put(&bench, 100, "").code, 2001);
    bench.cse().store().assert_consistent();
    bench.pass(11);
    assert_eq!(put(&bench, 111, "").code, 2001);
    bench.pass(11);
    due(&bench);
    // That of 110 is there, that of 120 is missing.
    let now = get(&bench);
    assert_eq!((&now["mdc"], &now["mdlt"]), (&json!(1), &json!(["20261124T093200"])));
    bench.cse().store().assert_consistent();
    let mut bench = bench.reopen();
    bench.pass(20);
    due(&bench);
    let now = get(&bench);
    assert_eq!(now["mdc"], 2);
    assert_eq!(now["mdlt"], json!(["20261124T093220", "20261124T093210"]));
    // Switched off it keeps the list, and switched on it starts anew.
    assert_eq!(change(&bench, json!({"mdd": false})).code, 2004);
    bench.pass(100);
    due(&bench);
    assert_eq!(get(&bench)["mdc"], 2);
    assert_eq!(change(&bench, json!({"mdd": true})).code, 2004);
    assert_eq!(get(&bench)["mdc"], 0);
    assert_eq!(put(&bench, 300, ",5").code, 2001);
    bench.pass(100);
    due(&bench);
    assert_eq!(get(&bench)["mdlt"][1], "20261124T093520,500");
    bench.cse().store().assert_consistent();
    assert_eq!(bench.delete(LIGHT1, SERIES).code, 2002);
    bench.cse().store().assert_consistent();
}

#[test]
fn detection_after_long_pause_is_bounded() {
    let mut bench = Bench::with_lights();
    series(&bench, json!({"pei": 1000, "mdt": 1000, "mdd": true, "mdn": 5}));
    assert_eq!(put(&bench, 0, "").code, 2001);
    bench.pass(2_000_000);
    due(&bench);
    let now = get(&bench);
    assert_eq!(now["mdc"], 5);
    let last = crate::record::timestamp(bench.now() - 1);
    assert_eq!(now["mdlt"][0], last);
}

#[test]
fn missing_data_are_reported() {
    let mut bench = Bench::with_lights();
    series(&bench, json!({"pei": 10_000, "peid": 1000, "mdt": 2000, "mdd": true}));
    let enc = json!({"net": [8], "md": {"num": 2, "dur": "PT25S"}});
    let sub = json!({"rn": "sub", "nu": ["http://a.b/"], "enc": enc});
    let reply = agree(&bench, subscribe(&bench, LIGHT1, SERIES, sub));
    assert_eq!((reply.code, &reply.attributes()["nct"]), (2001, &json!(5)), "{}", reply.why());
    assert_eq!(put(&bench, 0, "").code, 2001);
    bench.pass(12);
    assert_eq!(due(&bench), []);
    bench.pass(10);
    let times = json!(["20261124T093010", "20261124T093020"]);
    assert_eq!(due(&bench), [(json!(2), times)]);
    // Each further one in the window is reported.
    bench.pass(10);
    assert_eq!(due(&bench), [(json!(3), json!(["20261124T093030"]))]);
    // The next window starts with the next missing value.
    bench.pass(10);
    assert_eq!(due(&bench), []);
    bench.pass(10);
    let times = json!(["20261124T093040", "20261124T093050"]);
    assert_eq!(due(&bench), [(json!(2), times)]);
    bench.cse().store().assert_consistent();
    // Only at a timeSeries.
    let enc = json!({"net": [8], "md": {"num": 2, "dur": "PT25S"}});
    let sub = json!({"m2m:sub": {"nu": [LIGHT1], "enc": enc}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1/state", 23, sub).code, 4000);
}

/// Returns the bytes that count for light 1.
fn used(bench: &Bench) -> u64 {
    let used = |writer: &mut crate::store::Writer<'_>| writer.usage(LIGHT1);
    bench.cse().store().write::<_, StoreError>(&RequestBudget::unlimited(), used).unwrap().bytes
}

#[test]
fn old_first_instance_causes_no_flood_of_reports() {
    let mut bench = Bench::with_lights();
    series(&bench, json!({"pei": 1000, "mdt": 1000, "mdd": true}));
    let enc = json!({"net": [8], "md": {"num": 1, "dur": "PT1S"}});
    let sub = json!({"rn": "sub", "nu": ["http://a.b/"], "enc": enc, "exc": 3});
    assert_eq!(agree(&bench, subscribe(&bench, LIGHT1, SERIES, sub)).code, 2001);
    let old = json!({"m2m:tsi": {"con": 0, "dgt": "19700101T000000"}});
    assert_eq!(bench.create(Some(LIGHT1), SERIES, 30, old.clone()).code, 2001);
    // Only the last expected values are checked, and one report has all of them.
    let times = json!(["20261124T092957", "20261124T092958", "20261124T092959"]);
    assert_eq!(due(&bench), [(json!(3), times)]);
    // Neither does it after the monitoring was restarted.
    for detects in [false, true] {
        assert_eq!(change(&bench, json!({ "mdd": detects })).code, 2004);
    }
    bench.pass(100);
    let old = json!({"m2m:tsi": {"con": 0, "dgt": "19700101T000001"}});
    assert_eq!(bench.create(Some(LIGHT1), SERIES, 30, old).code, 2001);
    let reports = due(&bench);
    assert_eq!((reports.len(), &reports[0].0), (1, &json!(3)));
    // After a pause, all missing values are in one report as well.
    bench.pass(50);
    let reports = due(&bench);
    assert_eq!((reports.len(), reports[0].1.as_array().unwrap().len()), (1, 50));
    bench.cse().store().assert_consistent();
}

#[test]
fn reports_of_transaction_are_bounded() {
    let mut bench = Bench::with_lights();
    for name in ["a", "b", "c"] {
        let attributes = json!({"rn": name, "pei": 1000, "mdt": 1000, "mdd": true});
        let reply = bench.create(Some(LIGHT1), LIGHT, 29, json!({ "m2m:ts": attributes }));
        assert_eq!(reply.code, 2001, "{}", reply.why());
        let path = format!("{LIGHT}/{name}");
        for _ in 0..16 {
            let enc = json!({"net": [8], "md": {"num": 1, "dur": "PT1S"}});
            let sub = json!({"m2m:sub": {"nu": [LIGHT1], "enc": enc, "bn": {"num": 9}}});
            assert_eq!(bench.create(Some(LIGHT1), &path, 23, sub).code, 2001);
        }
        let now = json!({"m2m:tsi": {"con": 0, "dgt": crate::record::timestamp(NOW)}});
        assert_eq!(bench.create(Some(LIGHT1), &path, 30, now).code, 2001);
    }
    bench.pass(500);
    for _ in 0..3 {
        assert_eq!(bench.cse().due_notifications(bench.time()).unwrap().len(), 1);
    }
    assert!(bench.cse().due_notifications(bench.time()).unwrap().is_empty());
    bench.cse().store().assert_consistent();
}

#[test]
fn monitored_series_of_registree_are_limited() {
    let bench = Bench::with_lights();
    let create = |who: &str, light: &str, name: &str, detects: bool| {
        let attributes = json!({"rn": name, "pei": 1000, "mdt": 1000, "mdd": detects});
        bench.create(Some(who), light, 29, json!({ "m2m:ts": attributes }))
    };
    for n in 0..64 {
        let reply = create(LIGHT1, LIGHT, &format!("m{n}"), true);
        assert_eq!(reply.code, 2001, "{}", reply.why());
    }
    let refused = create(LIGHT1, LIGHT, "more", true);
    assert_eq!(refused.code, 5207);
    assert!(refused.why().contains("missing data detection"), "{}", refused.why());
    assert_eq!(create(LIGHT1, LIGHT, "power", false).code, 2001);
    assert_eq!(change(&bench, json!({"mdd": true})).code, 5207);
    assert_eq!(change(&bench, json!({"lbl": ["x"]})).code, 2004);
    assert_eq!(create(LIGHT2, "/cse/light2", "other", true).code, 2001);
    bench.cse().store().assert_consistent();
    // One that is switched off or deleted makes room for another.
    let off = json!({"m2m:ts": {"mdd": false}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1/m0", off).code, 2004);
    assert_eq!(change(&bench, json!({"mdd": true})).code, 2004);
    assert_eq!(create(LIGHT1, LIGHT, "more", true).code, 5207);
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/m1").code, 2002);
    assert_eq!(create(LIGHT1, LIGHT, "more", true).code, 2001);
    let bench = bench.reopen();
    bench.cse().store().assert_consistent();
    assert_eq!(bench.delete(LIGHT1, LIGHT).code, 2002);
    bench.cse().store().assert_consistent();
}

#[test]
fn missing_data_respect_quota() {
    let bench = Bench::with_lights();
    series(&bench, json!({"pei": 1000, "mdt": 1000, "mdd": true, "mdn": 1000}));
    assert_eq!(put(&bench, 0, "").code, 2001);
    let mut small = bench.settings().clone();
    small.limits.max_bytes_per_registree = used(&bench) + 50;
    let mut bench = bench.reopen_as(small).unwrap();
    for _ in 0..3 {
        bench.pass(500);
        due(&bench);
        assert!(used(&bench) <= bench.settings().limits.max_bytes_per_registree);
    }
    let now = get(&bench);
    // The latest ones are listed.
    assert_eq!(now["mdc"], 3);
    assert_eq!(now["mdlt"][0], crate::record::timestamp(bench.now() - 1));
    bench.cse().store().assert_consistent();
}
