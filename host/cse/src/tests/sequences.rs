//! Random sequences of operations: the indices and counters match the resources.

use proptest::prelude::*;
use serde_json::json;

use crate::testing::{Bench, LIGHT1, LIGHT2, settings};

#[derive(Debug, Clone)]
enum Step {
    Register(usize),
    Leave(usize),
    Container(usize, usize, Option<u64>),
    Instance(usize, String, Option<u64>),
    Flex(usize, bool, Option<u64>),
    Measure(usize, u64),
    Subscribe(usize, Vec<u8>, Option<u64>),
    Group(usize, Vec<usize>),
    FanOut(usize, bool),
    Limit(usize, serde_json::Value),
    Delete(usize),
    DeleteEdge(usize, bool),
    Pass(u64),
    Sweep,
    Reopen,
}

const WHO: [&str; 2] = [LIGHT1, LIGHT2];
const PLACES: [&str; 6] = [
    "/cse/light1",
    "/cse/light1/a",
    "/cse/light1/a/b",
    "/cse/light1/b",
    "/cse/light2",
    "/cse/light2/a",
];
const NAMES: [&str; 2] = ["a", "b"];

fn owner(place: usize) -> &'static str {
    if PLACES[place].starts_with("/cse/light1") { LIGHT1 } else { LIGHT2 }
}

fn step() -> impl Strategy<Value = Step> {
    let place = 0..PLACES.len();
    let lives = prop::option::of(1..40u64);
    let limit = prop_oneof![
        (0..4u64).prop_map(|n| json!({"mni": n})),
        (0..12u64).prop_map(|n| json!({"mbs": n})),
        (0..30u64).prop_map(|n| json!({"mia": n})),
        Just(json!({"mni": null, "mbs": null, "mia": null, "et": null})),
    ];
    prop_oneof![
        1 => (0..2usize).prop_map(Step::Register),
        1 => (0..2usize).prop_map(Step::Leave),
        4 => (place.clone(), 0..2usize, lives.clone()).prop_map(|(p, n, l)| Step::Container(p, n, l)),
        8 => (place.clone(), "[a-z]{0,6}", lives).prop_map(|(p, c, l)| Step::Instance(p, c, l)),
        2 => (0..2usize, any::<bool>(), prop::option::of(1..4u64))
            .prop_map(|(w, e, n)| Step::Flex(w, e, n)),
        4 => (0..2usize, 0..3u64).prop_map(|(w, n)| Step::Measure(w, n)),
        3 => (place.clone(), prop::collection::vec(1..5u8, 1..4), prop::option::of(1..4u64))
            .prop_map(|(p, n, e)| Step::Subscribe(p, n, e)),
        2 => (0..2usize, prop::collection::vec(place.clone(), 0..4))
            .prop_map(|(w, m)| Step::Group(w, m)),
        2 => (0..2usize, any::<bool>()).prop_map(|(w, d)| Step::FanOut(w, d)),
        2 => (place.clone(), limit).prop_map(|(p, l)| Step::Limit(p, l)),
        1 => place.clone().prop_map(Step::Delete),
        1 => (place, any::<bool>()).prop_map(|(p, e)| Step::DeleteEdge(p, e)),
        2 => (1..20u64).prop_map(Step::Pass),
        1 => Just(Step::Sweep),
        1 => Just(Step::Reopen),
    ]
}

fn until(bench: &Bench, seconds: Option<u64>) -> serde_json::Value {
    match seconds {
        Some(s) => json!({"et": crate::record::timestamp(bench.now() + s)}),
        None => json!({}),
    }
}

fn with(mut attributes: serde_json::Value, key: &str, value: &str) -> serde_json::Value {
    attributes[key] = value.into();
    attributes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn indices_stay_consistent(steps in prop::collection::vec(step(), 1..60)) {
        let mut settings = settings();
        settings.limits.lifetime = std::time::Duration::from_secs(120);
        let mut bench = Bench::lights(settings);
        for step in steps {
            match step {
                Step::Register(n) => {
                    let code = bench.register(WHO[n], ["light1", "light2"][n]).code;
                    prop_assert!(matches!(code, 2001 | 4117));
                }
                Step::Leave(n) => {
                    let code = bench.delete(WHO[n], &format!("/{}", WHO[n])).code;
                    prop_assert!(matches!(code, 2002 | 4004));
                }
                Step::Container(place, name, lives) => {
                    let attributes = with(until(&bench, lives), "rn", NAMES[name]);
                    let code = bench.container(owner(place), PLACES[place], attributes).code;
                    prop_assert!(matches!(code, 2001 | 4105 | 4004));
                }
                Step::Instance(place, content, lives) => {
                    let attributes = with(until(&bench, lives), "con", &content);
                    let code = bench.instance(owner(place), PLACES[place], attributes).code;
                    prop_assert!(matches!(code, 2001 | 4108 | 4004 | 5207));
                }
                Step::Flex(who, enabled, limit) => {
                    let path = format!("/{}/room", WHO[who]);
                    let cnd = "org.onem2m.common.moduleclass.temperature";
                    let made = json!({"cod:tempe": {"rn": "room", "cnd": cnd, "curT0": 20}});
                    let code = bench.create(Some(WHO[who]), &format!("/{}", WHO[who]), 28, made).code;
                    prop_assert!(matches!(code, 2001 | 4105 | 4004));
                    let change = match limit {
                        Some(mni) => json!({"fcied": enabled, "mni": mni}),
                        None => json!({"fcied": null, "mni": null}),
                    };
                    let code = bench.update(WHO[who], &path, json!({ "cod:tempe": change })).code;
                    prop_assert!(matches!(code, 2004 | 4004));
                }
                Step::Measure(who, value) => {
                    let path = format!("/{}/room", WHO[who]);
                    let change = json!({"cod:tempe": {"curT0": value}});
                    let code = bench.update(WHO[who], &path, change).code;
                    prop_assert!(matches!(code, 2004 | 4004));
                }
                Step::Subscribe(place, events, counter) => {
                    let mut sub = json!({"nu": [owner(place)], "enc": {"net": events}});
                    if let Some(counter) = counter {
                        sub["exc"] = counter.into();
                    }
                    let (from, sub) = (Some(owner(place)), json!({ "m2m:sub": sub }));
                    let code = bench.create(from, PLACES[place], 23, sub).code;
                    prop_assert!(matches!(code, 2001 | 4004 | 5207));
                }
                Step::Group(who, members) => {
                    let members: Vec<_> = members.iter().map(|m| &PLACES[*m][1..]).collect();
                    let group = json!({"m2m:grp": {"rn": "g", "mnm": 3, "mt": 3, "mid": members}});
                    let ae = format!("/{}", WHO[who]);
                    let code = bench.create(Some(WHO[who]), &ae, 9, group).code;
                    prop_assert!(matches!(code, 2001 | 4000 | 4004 | 4103 | 4105 | 5105));
                }
                Step::FanOut(who, deletes) => {
                    let fopt = format!("/{}/g/fopt", WHO[who]);
                    let code = if deletes {
                        bench.delete(WHO[who], &fopt).code
                    } else {
                        bench.instance(WHO[who], &fopt, json!({"con": "x"})).code
                    };
                    prop_assert!(matches!(code, 2000 | 4004 | 4103 | 4109));
                }
                Step::Limit(place, attributes) => {
                    let content = json!({ "m2m:cnt": attributes });
                    let code = bench.update(owner(place), PLACES[place], content).code;
                    prop_assert!(matches!(code, 2004 | 4000 | 4004));
                }
                Step::Delete(place) => {
                    let code = bench.delete(owner(place), PLACES[place]).code;
                    prop_assert!(matches!(code, 2002 | 4004));
                }
                Step::DeleteEdge(place, latest) => {
                    let edge = if latest { "la" } else { "ol" };
                    let path = format!("{}/{edge}", PLACES[place]);
                    let code = bench.delete(owner(place), &path).code;
                    prop_assert!(matches!(code, 2002 | 4004));
                }
                Step::Pass(seconds) => bench.pass(seconds),
                Step::Sweep => {
                    bench.sweep();
                }
                Step::Reopen => bench = bench.reopen(),
            }
            bench.cse().store().assert_consistent();
        }
    }
}
