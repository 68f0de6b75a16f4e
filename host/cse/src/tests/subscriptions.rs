//! The creation, change and end of subscriptions.

use saegis_onem2m::primitive::Operation;
use saegis_onem2m::rsc::Rsc;
use serde_json::{Value, json};

use super::policies::{govern, policy, rule};
use crate::notification::subscription::MAX_SUBSCRIPTIONS;
use crate::resource::tables::MAX_TARGETS;
use crate::resource::values::MAX_ADDRESS;
use crate::testing::{Bench, LIGHT1, LIGHT2, Reply, agree, request, subscribe};
use crate::{Checked, Handled, NamedBy, Verification};

const STATE: &str = "/cse/light1/state";

fn own(bench: &Bench, extra: Value) -> Reply {
    let mut attributes = json!({"rn": "sub", "nu": [LIGHT1]});
    attributes.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    bench.create(Some(LIGHT1), STATE, 23, json!({ "m2m:sub": attributes }))
}

fn to_be_asked(handled: Handled) -> Verification {
    match handled {
        Handled::Verify(target) => target,
        other => panic!("nobody is to be asked: {other:?}"),
    }
}

#[test]
fn originator_subscribes_without_verification() {
    let bench = Bench::with_lights();
    let reply = own(&bench, json!({"exc": 3, "nct": 1, "enc": {"net": [1, 3]}, "cr": null}));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    let sub = reply.attributes().clone();
    let ri = sub["ri"].as_str().unwrap();
    assert!(ri.starts_with("sub-"), "{ri}");
    let parent = bench.retrieve(LIGHT1, STATE).attributes()["ri"].clone();
    assert_eq!(
        sub,
        json!({
            "rn": "sub", "ri": ri, "pi": parent, "ty": 23, "nu": [LIGHT1], "exc": 3, "nct": 1,
            "enc": {"net": [1, 3]}, "cr": LIGHT1,
            "ct": "20261124T093000", "lt": "20261124T093000", "et": "20261224T093000",
        })
    );
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/sub").attributes(), &sub);
    for spelling in ["cse/light1", "-/light1", "/mn-cse-123456/Clight-AE1"] {
        let content = json!({"m2m:sub": {"nu": [spelling]}});
        assert_eq!(bench.create(Some(LIGHT1), STATE, 23, content).code, 2001, "{spelling}");
    }
}

#[test]
fn target_is_verified_before_subscription() {
    let bench = Bench::with_lights();
    let nu = json!(["http://a.b/1", LIGHT1, "http://a.b/2", "http://a.b/1"]);
    let attributes = json!({"rn": "sub", "nu": nu, "su": "http://a.b/3"});
    let first = to_be_asked(subscribe(&bench, LIGHT1, STATE, attributes.clone()));
    let asked = first.notification().clone();
    assert_eq!(asked.to.to_string(), "http://a.b/1");
    assert_eq!(asked.named_by, NamedBy::Subscriber(LIGHT1.into()));
    let content: Value = serde_json::from_slice(&asked.content).unwrap();
    let sur = content["m2m:sgn"]["sur"].as_str().unwrap().to_owned();
    assert_eq!(content, json!({"m2m:sgn": {"vrq": true, "sur": sur, "cr": LIGHT1}}));
    assert_eq!(asked.about, sur);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/sub").code, 4004);

    let Checked::Next(second) = first.answered(Rsc::Ok) else { panic!("all were asked") };
    assert_eq!(second.notification().to.to_string(), "http://a.b/2");
    let Checked::Next(third) = second.answered(Rsc::Ok) else { panic!("all were asked") };
    assert_eq!(third.notification().to.to_string(), "http://a.b/3");
    let Checked::Ready(all) = third.answered(Rsc::Ok) else { panic!("not all were asked") };
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/sub").code, 4004);
    let reply = bench.conclude(all);
    assert_eq!(reply.code, 2001, "{}", reply.why());
    // The resource-ID that its targets received.
    assert_eq!(reply.response.content_location.as_deref(), Some(sur.as_str()));
    assert_eq!(reply.attributes()["nu"], nu);
    bench.cse().store().assert_consistent();
}

#[test]
fn verification_has_originator_of_cse() {
    let bench = Bench::with_lights();
    let attributes = json!({"nu": ["http://a.b:8080/notify?x=y"]});
    let target = to_be_asked(subscribe(&bench, LIGHT1, STATE, attributes));
    let sent = target.notification();
    assert_eq!(sent.to.to_string(), "http://a.b:8080/notify?x=y");
    assert_eq!((sent.from.as_str(), sent.release.as_str()), ("/mn-cse-123456", "3"));
    assert_eq!(sent.request_id.len(), 16);
}

#[test]
fn refused_verification_prevents_subscription() {
    let bench = Bench::with_lights();
    for (outcome, code) in [
        (None, 5204),
        (Some(Rsc::NotFound), 5204),
        (Some(Rsc::Other(4999)), 5204),
        (Some(Rsc::SubscriptionCreatorHasNoPrivilege), 5204),
        (Some(Rsc::SubscriptionHostHasNoPrivilege), 5204),
    ] {
        let attributes = json!({"rn": "sub", "nu": ["http://a.b/1", "http://a.b/2"]});
        let first = to_be_asked(subscribe(&bench, LIGHT1, STATE, attributes));
        let Checked::Next(second) = first.answered(Rsc::Ok) else { panic!("all were asked") };
        let answer = match outcome {
            None => second.unanswered("it answered 404"),
            Some(rsc) => match second.answered(rsc) {
                Checked::Refused(answer) => answer,
                other => panic!("it was taken: {other:?}"),
            },
        };
        let reply = Reply::of(answer);
        assert_eq!(reply.code, code, "{outcome:?}");
        let why = match outcome {
            None => "it answered 404".into(),
            Some(rsc) => format!("it answered with {rsc}"),
        };
        assert_eq!(
            reply.why(),
            format!("the target http://a.b/2 of the subscription has not agreed to it: {why}")
        );
        assert_eq!(reply.response.request_id, "r1");
        assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/sub").code, 4004);
    }
}

#[test]
fn changes_during_verification_count() {
    let bench = Bench::with_lights();
    let begin = |attributes| {
        let target = to_be_asked(subscribe(&bench, LIGHT1, STATE, attributes));
        match target.answered(Rsc::Ok) {
            Checked::Ready(all) => all,
            other => panic!("not all were asked: {other:?}"),
        }
    };
    let verified = begin(json!({"rn": "sub", "nu": ["http://a.b/"]}));
    assert_eq!(own(&bench, json!({})).code, 2001);
    assert_eq!(bench.conclude(verified).code, 4105);
    // The agreement of one address does not apply to another.
    let poa = |url: &str| {
        let change = json!({"m2m:ae": {"rr": true, "poa": [url]}});
        assert_eq!(bench.update(LIGHT2, "/cse/light2", change).code, 2004);
    };
    poa("http://a.b/");
    let verified = begin(json!({"rn": "other", "nu": ["cse/light2"]}));
    poa("http://c.d/");
    assert_eq!(bench.conclude(verified).code, 5204);
    let verified = begin(json!({"rn": "other", "nu": ["cse/light2"]}));
    assert_eq!(bench.delete(LIGHT1, STATE).code, 2002);
    assert_eq!(bench.conclude(verified).code, 4004);
    bench.cse().store().assert_consistent();
}

#[test]
fn another_ae_is_asked_where_it_is_reached() {
    let bench = Bench::with_lights();
    let sub = json!({"nu": ["Clight-AE2"]});
    let reply = bench.create(Some(LIGHT1), STATE, 23, json!({ "m2m:sub": sub }));
    assert_eq!(reply.code, 5204, "{}", reply.why());
    for nowhere in ["Cnobody", "//x.y/other/Cx", "cse/light2/state", "cse"] {
        let sub = json!({"nu": [nowhere]});
        let reply = bench.create(Some(LIGHT1), STATE, 23, json!({ "m2m:sub": sub }));
        assert_eq!(reply.code, 5204, "{nowhere}");
    }
    let change = json!({"m2m:ae": {"rr": true, "poa": ["http://light2:80/in"]}});
    assert_eq!(bench.update(LIGHT2, "/cse/light2", change).code, 2004);
    let target = to_be_asked(subscribe(&bench, LIGHT1, STATE, sub));
    assert_eq!(target.notification().to.to_string(), "http://light2:80/in");
    let named_by = NamedBy::Ae { stem: LIGHT2.into(), registrant: None };
    assert_eq!(target.notification().named_by, named_by);
}

#[test]
fn subscription_is_updated() {
    let mut bench = Bench::with_lights();
    assert_eq!(own(&bench, json!({"exc": 3, "lbl": ["a"]})).code, 2001);
    bench.pass(1);
    let sub = "/cse/light1/state/sub";
    let change = |attributes| bench.update(LIGHT1, sub, json!({ "m2m:sub": attributes }));
    let reply = change(json!({"enc": {"net": [2]}, "exc": null, "nct": 3, "lbl": null}));
    assert_eq!(reply.code, 2004, "{}", reply.why());
    let now = reply.attributes();
    assert_eq!((&now["enc"], &now["nct"]), (&json!({"net": [2]}), &json!(3)));
    assert_eq!((now.get("exc"), &now["lt"]), (None, &json!("20261124T093001")));
    for (bad, code) in [
        (json!({"nu": null}), 4000),
        (json!({"nu": []}), 4000),
        (json!({"su": "http://a.b/"}), 4000),
        (json!({"cr": null}), 4000),
        (json!({"exc": 0}), 4000),
        // Together with its events.
        (json!({"nct": 2}), 4000),
        (json!({"nct": null}), 4000),
        (json!({"enc": {"net": [3], "chty": [5]}}), 4000),
        (json!({"nu": ["https://a.b/"]}), 5001),
        (json!({"psn": 1}), 4000),
        (json!({"ln": 1}), 4000),
        (json!({"nfu": ["http://a.b/"]}), 4000),
    ] {
        let reply = change(bad.clone());
        assert_eq!(reply.code, code, "{bad} {}", reply.why());
    }
    assert_eq!(bench.update(LIGHT2, sub, json!({"m2m:sub": {"exc": 1}})).code, 4103);
    assert_eq!(bench.retrieve(LIGHT2, sub).code, 4103);

    // New targets are verified.
    let content = json!({"m2m:sub": {"nu": [LIGHT1, "http://a.b/"]}});
    let update = request(Operation::Update, sub, Some(LIGHT1), Some(content));
    let target = to_be_asked(bench.handle(&update));
    assert_eq!(target.notification().to.to_string(), "http://a.b/");
    let ri = bench.retrieve(LIGHT1, sub).attributes()["ri"].as_str().unwrap().to_owned();
    assert!(target.notification().about.ends_with(&ri));
    assert_eq!(bench.retrieve(LIGHT1, sub).attributes()["nu"], json!([LIGHT1]));
    let reply = agree(&bench, Handled::Verify(target));
    assert_eq!((reply.code, &reply.attributes()["nu"][1]), (2004, &json!("http://a.b/")));
    let reply = change(json!({"nu": ["http://a.b/"]}));
    assert_eq!(reply.code, 2004);

    assert_eq!(bench.delete(LIGHT2, sub).code, 4103);
    assert_eq!(bench.delete(LIGHT1, sub).code, 2002);
    assert_eq!(bench.retrieve(LIGHT1, sub).code, 4004);
    bench.cse().store().assert_consistent();
}

#[test]
fn invalid_subscription_is_refused() {
    let bench = Bench::with_lights();
    let long = format!("http://a.b/{}", "x".repeat(MAX_ADDRESS));
    let many: Vec<_> = (0..=MAX_TARGETS).map(|n| format!("http://a.b/{n}")).collect();
    for (attributes, code) in [
        (json!({}), 4000),
        (json!({"nu": null}), 4000),
        (json!({"nu": "http://a.b/"}), 4000),
        (json!({"nu": []}), 4000),
        (json!({"nu": ["a b"]}), 4000),
        (json!({"nu": ["http://u:p@a.b/"]}), 4000),
        (json!({"nu": [long]}), 4000),
        (json!({"nu": many}), 4000),
        (json!({"nu": [LIGHT1], "exc": 0}), 4000),
        (json!({"nu": [LIGHT1], "exc": "3"}), 4000),
        (json!({"nu": [LIGHT1], "enc": []}), 4000),
        (json!({"nu": [LIGHT1], "enc": {"net": [9]}}), 4000),
        (json!({"nu": [LIGHT1], "enc": {"net": [3]}, "nct": 2}), 4000),
        (json!({"nu": [LIGHT1], "cr": LIGHT2}), 4000),
        (json!({"nu": [LIGHT1], "enc": {"net": [3], "chty": [2]}}), 4000),
        (json!({"nu": [LIGHT1], "enc": {"net": [4], "chty": [4, 15]}}), 4000),
        (json!({"nu": [LIGHT1], "su": "a b"}), 4000),
        (json!({"nu": [LIGHT1], "con": 1}), 4000),
        (json!({"nu": [LIGHT1], "su": "coap://a.b/"}), 5001),
        (json!({"nu": [LIGHT1], "enc": {"net": [6]}}), 5001),
        (json!({"nu": [LIGHT1], "psn": 17}), 4000),
        (json!({"nu": [LIGHT1], "nsi": []}), 4000),
        (json!({"nu": [LIGHT1], "nct": 4}), 5001),
        (json!({"nu": ["mqtt://a.b/"]}), 5001),
    ] {
        let reply = bench.create(Some(LIGHT1), STATE, 23, json!({ "m2m:sub": attributes }));
        assert_eq!(reply.code, code, "{attributes} {}", reply.why());
    }
}

#[test]
fn subscription_requires_privilege_and_type() {
    let bench = Bench::with_lights();
    let cin = bench.instance(LIGHT1, STATE, json!({"rn": "one", "con": 1}));
    assert_eq!(cin.code, 2001);
    assert_eq!(own(&bench, json!({})).code, 2001);
    let sub =
        |from, path| bench.create(Some(from), path, 23, json!({"m2m:sub": {"nu": [from]}})).code;
    for path in ["/cse/light1/state/one", "/cse/light1/state/sub", "/cse/light1/state/la"] {
        assert_eq!(sub(LIGHT1, path), 5203, "{path}");
    }
    assert_eq!(sub(LIGHT2, STATE), 4103);
    assert_eq!(sub(LIGHT1, "/cse"), 4103);
    assert_eq!(sub("Cnobody", STATE), 4103);
    assert_eq!(sub(LIGHT1, "/cse/light1/nothing"), 4004);
    assert_eq!(sub(LIGHT1, "/cse/light1"), 2001);
    // A subscription has no children.
    assert_eq!(bench.container(LIGHT1, "/cse/light1/state/sub", json!({})).code, 4108);
}

#[test]
fn subscription_requires_retrieve_privilege() {
    let bench = Bench::with_lights();
    let sub = json!({"m2m:sub": {"nu": [LIGHT2], "enc": {"net": [3]}}});
    let subscribe = || bench.create(Some(LIGHT2), STATE, 23, sub.clone()).code;
    // Create only, then create and retrieve.
    for (operations, code) in [(1, 4103), (3, 2001), (2, 4103)] {
        let name = format!("acp{operations}");
        assert_eq!(policy(&bench, &name, rule(&[LIGHT2], operations)).code, 2001);
        assert_eq!(govern(&bench, LIGHT1, STATE, &[&format!("cse/light1/{name}")]), 2004);
        assert_eq!(subscribe(), code, "{operations}");
    }
}

#[test]
fn withdrawn_access_limits_events_to_deletion() {
    for (named, events) in [(&[LIGHT1, LIGHT2][..], 2), (&[LIGHT1], 1)] {
        let bench = Bench::with_lights();
        assert_eq!(policy(&bench, "open", rule(&[LIGHT1, LIGHT2], 63)).code, 2001);
        assert_eq!(policy(&bench, "then", rule(named, 63)).code, 2001);
        assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/open"]), 2004);
        let attributes = json!({"nu": ["http://a.b/"], "enc": {"net": [2]}, "su": "http://a.b/"});
        assert_eq!(agree(&bench, subscribe(&bench, LIGHT2, STATE, attributes)).code, 2001);
        assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/then"]), 2004);
        let told = bench.delete(LIGHT1, STATE).told();
        assert_eq!(told.len(), events, "{told:?}");
        assert_eq!(told[events - 1].1["sud"], true);
    }
}

#[test]
fn subscriber_and_owner_are_distinguished() {
    let bench = Bench::with_lights();
    assert_eq!(policy(&bench, "open", rule(&[LIGHT1, LIGHT2], 63)).code, 2001);
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/open"]), 2004);
    let attributes = json!({"rn": "sub", "nu": ["http://a.b/"], "enc": {"net": [3]}});
    let reply = agree(&bench, subscribe(&bench, LIGHT2, STATE, attributes));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    let told = bench.instance(LIGHT1, STATE, json!({"con": 1}));
    assert_eq!(told.notifications[0].named_by, NamedBy::Subscriber(LIGHT2.into()));
    // An originator that changes the targets becomes responsible for them.
    let content = json!({"m2m:sub": {"nu": ["http://a.b/", "http://c.d/"]}});
    let update = request(Operation::Update, "/cse/light1/state/sub", Some(LIGHT1), Some(content));
    assert_eq!(agree(&bench, bench.handle(&update)).code, 2004);
    let told = bench.instance(LIGHT2, STATE, json!({"con": 2}));
    assert_eq!(told.notifications[1].named_by, NamedBy::Subscriber(LIGHT1.into()));
}

#[test]
fn subscriptions_per_resource_are_limited() {
    let mut bench = Bench::with_lights();
    let sub = |bench: &Bench, et: Option<&str>| {
        let mut attributes = json!({"nu": [LIGHT1]});
        if let Some(et) = et {
            attributes["et"] = et.into();
        }
        bench.create(Some(LIGHT1), STATE, 23, json!({ "m2m:sub": attributes })).code
    };
    assert_eq!(sub(&bench, Some("20261124T093005")), 2001);
    for _ in 1..MAX_SUBSCRIPTIONS {
        assert_eq!(sub(&bench, None), 2001);
    }
    assert_eq!(sub(&bench, None), 5207);
    bench.pass(5);
    assert_eq!(sub(&bench, None), 2001);
    assert_eq!(sub(&bench, None), 5207);
}

#[test]
fn refused_update_does_not_wait_for_blocked_one() {
    const OTHER: &str = "Clight-AE3";
    let bench = Bench::with_lights();
    assert_eq!(bench.register(OTHER, "light3").code, 2001);
    let reachable = json!({"m2m:ae": {"poa": ["http://a.b/"], "rr": true}});
    assert_eq!(bench.update(LIGHT2, "/cse/light2", reachable).code, 2004);
    assert_eq!(policy(&bench, "both", rule(&[LIGHT1, LIGHT2], 63)).code, 2001);
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/both"]), 2004);
    let guard = json!({"rn": "guard", "nu": ["cse/light2"], "enc": {"net": [7]}});
    let handled = subscribe(&bench, LIGHT1, STATE, guard);
    assert_eq!(agree(&bench, handled).code, 2001);
    let update = |from| {
        let content = json!({"m2m:cnt": {"mni": 9}});
        bench.handle(&request(Operation::Update, STATE, Some(from), Some(content)))
    };
    let blocked = to_be_asked(update(LIGHT1));
    assert!(matches!(update(LIGHT1), Handled::Await(_)));
    match update(OTHER) {
        Handled::Done(answer) => assert_eq!(Reply::of(answer).code, 4103),
        other => panic!("it is not refused: {other:?}"),
    }
    drop(blocked);
    drop(to_be_asked(update(LIGHT1)));
}
