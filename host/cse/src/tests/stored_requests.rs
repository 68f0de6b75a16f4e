//! Non-blocking requests whose result the originator fetches.

use std::time::SystemTime;

use saegis_onem2m::parameter::Parameter;
use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::token::{TokenPermission, VerifiedToken};
use serde_json::{Value, json};

use super::policies::{govern, policy, rule};
use crate::testing::{Bench, LIGHT1, LIGHT2, Reply, agree, request, settings, subscribe};
use crate::{Notification, ResultTargets};

fn retrieval(from: &str) -> RequestPrimitive {
    request(Operation::Retrieve, "/cse/light1/state?rt=1", Some(from), None)
}

/// Accepts a request, and returns the path of its `<request>`.
#[track_caller]
fn accept(bench: &Bench, request: RequestPrimitive) -> (String, ResultTargets, RequestPrimitive) {
    let accepted = bench.cse().accept(request, &bench.budget(), bench.time()).unwrap();
    let accepted = bench.cse().store_request(accepted, &bench.budget(), bench.time()).unwrap();
    let acknowledgment = accepted.acknowledgment(&bench.settings().cse_id);
    let rsc = if accepted.is_fetched() { Rsc::AcceptedSync } else { Rsc::AcceptedAsync };
    assert_eq!(acknowledgment.rsc, rsc);
    let content = acknowledgment.content.unwrap();
    let content: Value = serde_json::from_slice(&content).unwrap();
    let (blocking, targets) = accepted.into_parts();
    (format!("/~{}", content["m2m:uri"].as_str().unwrap()), targets, blocking)
}

fn refused(bench: &Bench, request: RequestPrimitive) -> u16 {
    let accepted = bench.cse().accept(request, &bench.budget(), bench.time());
    let stored = accepted
        .and_then(|accepted| bench.cse().store_request(accepted, &bench.budget(), bench.time()));
    stored.map(|_| ()).unwrap_err().rsc.code()
}

fn shown(bench: &Bench, path: &str) -> Value {
    let reply = bench.retrieve(LIGHT1, path);
    assert_eq!(reply.code, 2000, "{}", reply.why());
    reply.attributes().clone()
}

/// The result belongs to the originator alone, whatever resources a token lists.
#[test]
fn token_does_not_open_result_of_others() {
    let bench = Bench::with_lights();
    let (path, ..) = accept(&bench, retrieval(LIGHT1));
    let address = path.trim_start_matches("/~/mn-cse-123456/").to_owned();
    let token = || {
        let rules = Some(rule(&["all"], 63));
        let resources = Some([address.as_str().into(), "cse/light1/state".into()].into());
        let permissions = [TokenPermission { resources, rules, roles: [].into() }].into();
        VerifiedToken { issuer: "das".into(), id: "1@das".into(), permissions }
    };
    let ask = |path: &str| {
        let asked = request(Operation::Retrieve, path, Some(LIGHT2), None);
        bench.send(&RequestPrimitive { tokens: vec![token()], ..asked }).code
    };
    assert_eq!((ask("/cse/light1/state"), ask(&path)), (2000, 4103));
    assert_eq!(bench.retrieve(LIGHT1, &path).code, 2000);
}

#[test]
fn result_is_stored_for_originator() {
    let mut bench = Bench::with_lights();
    let (path, targets, blocking) = accept(&bench, retrieval(LIGHT1));
    let pending = shown(&bench, &path);
    assert_eq!((&pending["rs"], &pending["ors"]["rsc"]), (&json!(3), &json!(1000)));
    assert_eq!((&pending["lbl"], pending.get("pc")), (&json!([LIGHT1]), None));
    assert_eq!(pending["mi"], json!({"rvi": "3", "rt": {"rtv": 1}}));
    assert_eq!(pending["et"], "20261124T103000");
    let mut response = ResponsePrimitive::to(&blocking, Rsc::Ok);
    response.content = Some(json!({"m2m:cnt": {}}).to_string().into());
    assert!(bench.cse().result(&targets, &response, bench.time()).results.is_empty());
    let done = shown(&bench, &path);
    assert_eq!(
        (&done["rs"], &done["ors"]["rsc"], &done["ors"]["pc"]),
        (&json!(1), &json!(2000), &json!({"m2m:cnt": {}}))
    );
    bench.cse().store().assert_consistent();
    bench.pass(60 * 60);
    assert_eq!(bench.retrieve(LIGHT1, &path).code, 4004);
}

#[test]
fn result_is_closed_to_others() {
    let bench = Bench::with_lights();
    // Even if they may retrieve the AE above.
    assert_eq!(policy(&bench, "open", rule(&["all"], 63)).code, 2001);
    assert_eq!(govern(&bench, LIGHT1, "/cse/light1", &["cse/light1/open"]), 2004);
    let (path, _, _) = accept(&bench, retrieval(LIGHT1));
    assert_eq!(bench.retrieve(LIGHT2, "/cse/light1").code, 2000);
    for who in [LIGHT2, "/in-cse", "Cnobody"] {
        assert_eq!(bench.retrieve(who, &path).code, 4103, "{who}");
        assert_eq!(bench.delete(who, &path).code, 4103, "{who}");
    }
    assert!(bench.retrieve(LIGHT2, "/cse?fu=1&ty=17").found().is_empty());
    assert_eq!(bench.retrieve(LIGHT1, "/cse?fu=1&ty=17").found().len(), 1);
    assert_eq!(bench.update(LIGHT1, &path, json!({"m2m:req": {"rs": 1}})).code, 4005);
    let sub = json!({"m2m:sub": {"nu": [LIGHT2]}});
    assert_eq!(bench.create(Some(LIGHT2), &path, 23, sub).code, 4103);
    // A request to a request is a blocking one.
    let again = request(Operation::Retrieve, &format!("{path}?rt=1"), Some(LIGHT1), None);
    assert_eq!(refused(&bench, again), 4000);
}

#[test]
fn request_without_result_has_failed() {
    let bench = Bench::with_lights();
    let (path, targets, _) = accept(&bench, retrieval(LIGHT1));
    bench.cse().abandon(&targets, bench.time());
    let failed = shown(&bench, &path);
    assert_eq!((&failed["rs"], &failed["ors"]["rsc"]), (&json!(2), &json!(5000)));
    // So has one that a restart interrupted.
    let (path, targets, blocking) = accept(&bench, retrieval(LIGHT1));
    let bench = bench.reopen();
    assert_eq!(shown(&bench, &path)["rs"], 2);
    // A late result does not change it.
    let response = ResponsePrimitive::to(&blocking, Rsc::Ok);
    bench.cse().result(&targets, &response, bench.time());
    assert_eq!(shown(&bench, &path)["rs"], 2);
    // One that is being executed cannot be recalled.
    let (path, targets, _) = accept(&bench, retrieval(LIGHT1));
    assert_eq!(bench.delete(LIGHT1, &path).code, 5220);
    bench.cse().result(&targets, &response, bench.time());
    assert_eq!(bench.delete(LIGHT1, &path).code, 2002);
    bench.cse().result(&targets, &response, bench.time());
    assert_eq!(bench.retrieve(LIGHT1, &path).code, 4004);
    bench.cse().store().assert_consistent();
}

#[test]
fn large_result_is_replaced() {
    let bench = Bench::with_lights();
    let (path, targets, blocking) = accept(&bench, retrieval(LIGHT1));
    let mut response = ResponsePrimitive::to(&blocking, Rsc::Ok);
    response.content = Some(json!({"m2m:cnt": {"x": "x".repeat(1 << 20)}}).to_string().into());
    bench.cse().result(&targets, &response, bench.time());
    let failed = shown(&bench, &path);
    assert_eq!((&failed["rs"], &failed["ors"]["rsc"]), (&json!(2), &json!(5207)));
}

#[test]
fn only_registrees_have_stored_requests() {
    let bench = Bench::with_lights();
    for who in ["Cnobody", "/in-cse", "/in-cse/Capp", "/mn-cse-123456/Clight-AE1"] {
        assert_eq!(refused(&bench, retrieval(who)), 5206, "{who}");
    }
    let mut request = retrieval(LIGHT1);
    request.parameters.set(Parameter::ResultExpiration, "20261124T093500");
    let (path, _, _) = accept(&bench, request);
    assert_eq!(shown(&bench, &path)["et"], "20261124T093500");
    let mut request = retrieval(LIGHT1);
    request.parameters.set(Parameter::ResultExpiration, "20991124T093500");
    assert_eq!(refused(&bench, request), 5207);
    for _ in 1..32 {
        accept(&bench, retrieval(LIGHT1));
    }
    assert_eq!(refused(&bench, retrieval(LIGHT1)), 5207);
    let bad = request_with("rt=1&rcn=99");
    assert_eq!(refused(&bench, bad), 4000);
    // They end with the registration.
    assert_eq!(bench.delete(LIGHT1, "/cse/light1").code, 2002);
    assert_eq!(bench.register(LIGHT1, "light1").code, 2001);
    assert_eq!(bench.retrieve(LIGHT1, &path).code, 4004);
    bench.cse().store().assert_consistent();
}

fn request_with(query: &str) -> RequestPrimitive {
    request(Operation::Retrieve, &format!("/cse/light1/state?{query}"), Some(LIGHT1), None)
}

#[test]
fn result_persists_as_requested() {
    let mut bench = Bench::with_lights();
    let (path, targets, blocking) = accept(&bench, request_with("rt=1&rp=7200000"));
    assert_eq!(shown(&bench, &path)["et"], "20261124T113000");
    bench.pass(60);
    let response = ResponsePrimitive::to(&blocking, Rsc::Ok);
    bench.cse().result(&targets, &response, bench.time());
    // It counts from the result on.
    let done = shown(&bench, &path);
    assert_eq!((&done["et"], &done["mi"]["rp"]), (&json!("20261124T113100"), &json!("7200000")));
    let mut request = request_with("rt=1&rp=60000");
    request.parameters.set(Parameter::ResultExpiration, "20261124T103000");
    let (path, _, _) = accept(&bench, request);
    assert_eq!(shown(&bench, &path)["et"], "20261124T103100");
    let (path, _, _) = accept(&bench, request_with("rt=1&rp=20261124T120000"));
    assert_eq!(shown(&bench, &path)["et"], "20261124T120000");
    assert_eq!(refused(&bench, request_with("rt=1&rp=soon")), 4000);
    assert_eq!(refused(&bench, request_with("rt=1&rp=1&rp=2")), 4000);
    assert_eq!(refused(&bench, request_with("rt=1&rp=90000000")), 5207);
}

#[test]
fn sent_result_is_kept_on_request() {
    let bench = Bench::with_lights();
    let ae = json!({"m2m:ae": {"rr": true, "poa": ["http://a.b/"]}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1", ae).code, 2004);
    for (query, targets, is_kept) in
        [("rt=2", None, false), ("rt=2&rp=60000", None, true), ("rt=2", Some(""), true)]
    {
        let mut request = request_with(query);
        if let Some(targets) = targets {
            request.parameters.set(Parameter::ResponseTargets, targets);
        }
        let (path, targets, blocking) = accept(&bench, request);
        assert_eq!(shown(&bench, &path)["rs"], 3);
        let response = ResponsePrimitive::to(&blocking, Rsc::Ok);
        let sent = bench.cse().result(&targets, &response, bench.time()).results;
        assert_eq!(shown(&bench, &path)["rs"], 1);
        assert_eq!(sent.len(), usize::from(blocking.parameters.is_empty()), "{query}");
        bench.cse().has_sent_result(&targets, bench.time());
        let code = if is_kept { 2000 } else { 4004 };
        assert_eq!(bench.retrieve(LIGHT1, &path).code, code, "{query}");
    }
    bench.cse().store().assert_consistent();
}

#[test]
fn request_is_recalled_before_its_execution() {
    let bench = Bench::with_lights();
    let mut request = retrieval(LIGHT1);
    request.parameters.set(Parameter::ExecutionTime, "20261124T094000,000");
    let (path, targets, _) = accept(&bench, request);
    assert!(!bench.cse().is_recalled(&targets));
    assert_eq!(bench.delete(LIGHT1, &path).code, 2002);
    assert!(bench.cse().is_recalled(&targets));
}

/// Subscribes light 1 to a `<request>`.
fn watch(bench: &Bench, path: &str, attributes: Value) -> Reply {
    let mut sub = json!({"rn": "sub", "nu": ["http://a.b/"]});
    sub.as_object_mut().unwrap().extend(attributes.as_object().unwrap().clone());
    agree(bench, subscribe(bench, LIGHT1, path, sub))
}

/// Returns the events of notifications.
fn events(notifications: &[Notification]) -> Vec<Value> {
    let event = |notification: &Notification| {
        let content: Value = serde_json::from_slice(&notification.content).unwrap();
        content["m2m:sgn"]["nev"].clone()
    };
    notifications.iter().map(event).collect()
}

#[test]
fn subscriber_learns_of_result() {
    let bench = Bench::with_lights();
    let (path, targets, blocking) = accept(&bench, retrieval(LIGHT1));
    assert_eq!(watch(&bench, &path, json!({"enc": {"atr": ["rs"]}, "nct": 2})).code, 2001);
    let response = ResponsePrimitive::to(&blocking, Rsc::Ok);
    let sent = bench.cse().result(&targets, &response, bench.time());
    assert!(sent.results.is_empty());
    let told = events(&sent.events);
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0]["net"], &told[0]["rep"]["m2m:req"]["rs"]), (&json!(1), &json!(1)));
    assert_eq!(told[0]["rep"]["m2m:req"]["ors"]["rsc"], 2000);
    // A late result changes nothing.
    assert!(bench.cse().result(&targets, &response, bench.time()).events.is_empty());
    bench.cse().store().assert_consistent();
}

#[test]
fn subscriber_learns_of_failure_and_deletion() {
    let bench = Bench::with_lights();
    let (path, targets, _) = accept(&bench, retrieval(LIGHT1));
    let of = json!({"enc": {"net": [1, 2]}, "su": "http://c.d/"});
    assert_eq!(watch(&bench, &path, of).code, 2001);
    let told = events(&bench.cse().abandon(&targets, bench.time()));
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0]["net"], &told[0]["rep"]["m2m:req"]["rs"]), (&json!(1), &json!(2)));
    let reply = bench.delete(LIGHT1, &path);
    assert_eq!((reply.code, reply.notifications.len()), (2002, 2));
    assert_eq!(events(&reply.notifications)[0]["net"], 2);
    assert_eq!(reply.told()[1].1["sud"], true);
    bench.cse().store().assert_consistent();
}

#[test]
fn subscriber_learns_of_removal_of_sent_result() {
    let bench = Bench::with_lights();
    let ae = json!({"m2m:ae": {"rr": true, "poa": ["http://a.b/"]}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1", ae).code, 2004);
    let (path, targets, blocking) = accept(&bench, request_with("rt=2"));
    assert_eq!(watch(&bench, &path, json!({"enc": {"net": [2]}, "nct": 3})).code, 2001);
    let response = ResponsePrimitive::to(&blocking, Rsc::Ok);
    let sent = bench.cse().result(&targets, &response, bench.time());
    assert_eq!((sent.results.len(), sent.events.len()), (1, 0));
    let told = events(&bench.cse().has_sent_result(&targets, bench.time()));
    assert_eq!((told.len(), &told[0]["net"]), (1, &json!(2)));
    assert_eq!(told[0]["rep"]["m2m:uri"], path.trim_start_matches("/~"));
    assert_eq!(bench.retrieve(LIGHT1, &path).code, 4004);
    bench.cse().store().assert_consistent();
}

#[test]
fn subscriber_learns_of_interruption_after_restart() {
    // The start uses the clock of the system.
    let mut bench = Bench::new(settings());
    let ahead = SystemTime::now().duration_since(bench.time()).unwrap_or_default();
    bench.pass(ahead.as_secs());
    assert_eq!(bench.register(LIGHT1, "light1").code, 2001);
    assert_eq!(bench.container(LIGHT1, "/cse/light1", json!({"rn": "state"})).code, 2001);
    let (path, _, _) = accept(&bench, retrieval(LIGHT1));
    assert_eq!(watch(&bench, &path, json!({})).code, 2001);
    let mut bench = bench.reopen();
    bench.pass(1);
    let told = events(&bench.take_due());
    assert_eq!((told.len(), &told[0]["rep"]["m2m:req"]["rs"]), (1, &json!(2)));
    assert!(bench.take_due().is_empty());
    let bench = bench.reopen();
    assert!(bench.take_due().is_empty());
    bench.cse().store().assert_consistent();
}

#[test]
fn invalid_subscription_to_request_is_refused() {
    let bench = Bench::with_lights();
    let (path, _, _) = accept(&bench, retrieval(LIGHT1));
    for (attributes, code) in [
        (json!({"nu": [LIGHT1], "enc": {"net": [7]}}), 4000),
        (json!({"nu": [LIGHT1], "enc": {"net": [3], "chty": [4]}}), 4000),
        (json!({"nu": [LIGHT1], "enc": {"net": [5]}}), 4000),
        (json!({"nu": [LIGHT1], "enc": {"net": [3], "chty": [23]}}), 2001),
    ] {
        let sub = json!({ "m2m:sub": attributes });
        let reply = bench.create(Some(LIGHT1), &path, 23, sub);
        assert_eq!(reply.code, code, "{attributes}: {}", reply.why());
    }
    let child = json!({"m2m:cnt": {}});
    assert_eq!(bench.create(Some(LIGHT1), &path, 3, child).code, 4108);
}
