//! Notifications of other originators for AEs, and those for AEs at other CSEs.

use std::time::UNIX_EPOCH;

use bytes::Bytes;
use saegis_onem2m::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::target::Target;
use serde_json::{Value, json};

use crate::settings::Settings;
use crate::testing::{Bench, LIGHT1, LIGHT2, NOW, Reply, agree, request, settings, subscribe};
use crate::{Delivery, Handled, NamedBy};

const OTHER: &str = "/other-cse";
const LIGHT1_PATH: &str = "/cse/light1";

fn sgn() -> Value {
    json!({"m2m:sgn": {"nev": {"net": 3}, "sur": "/other-cse/sub1", "cr": "Cphone"}})
}

fn notify(from: &str, path: &str, content: Value) -> RequestPrimitive {
    request(Operation::Notify, path, Some(from), Some(content))
}

/// Gives light 1 a point of access, and lets these originators notify it.
fn open(bench: &Bench, poa: &str, to: &[&str]) {
    let acp = json!({"m2m:acp": {
        "rn": "door",
        "pv": {"acr": [{"acor": to, "acop": 16}, {"acor": [LIGHT1], "acop": 63}]},
        "pvs": {"acr": [{"acor": [LIGHT1], "acop": 63}]},
    }});
    assert_eq!(bench.create(Some(LIGHT1), LIGHT1_PATH, 1, acp).code, 2001);
    let update = |attributes| {
        let reply = bench.update(LIGHT1, LIGHT1_PATH, json!({ "m2m:ae": attributes }));
        assert_eq!(reply.code, 2004, "{}", reply.why());
    };
    update(json!({"poa": [poa], "rr": true}));
    update(json!({"acpi": ["cse/light1/door"]}));
}

fn delivery(handled: Handled) -> Delivery {
    match handled {
        Handled::Deliver(delivery) => delivery,
        other => panic!("it is not passed on: {other:?}"),
    }
}

fn refused(bench: &Bench, request: &RequestPrimitive) -> u16 {
    match bench.handle(request) {
        Handled::Done(answer) => Reply::of(answer).code,
        other => panic!("it is taken: {other:?}"),
    }
}

#[test]
fn notification_and_response_are_forwarded() {
    let bench = Bench::with_lights();
    open(&bench, "https://light1:8443/in", &[OTHER]);
    for path in [LIGHT1_PATH, "/Clight-AE1", "/~/mn-cse-123456/Clight-AE1"] {
        let passed = delivery(bench.handle(&notify(OTHER, path, sgn())));
        let sent = passed.notification();
        assert_eq!(sent.to.to_string(), "https://light1:8443/in");
        assert_eq!(sent.named_by, NamedBy::Ae { stem: LIGHT1.into(), registrant: None });
        assert_eq!((sent.from.as_str(), sent.request_id.as_str()), (OTHER, "r1"));
        assert_eq!(sent.about, "/mn-cse-123456/Clight-AE1");
        assert_eq!(serde_json::from_slice::<Value>(&sent.content).unwrap(), sgn());
        let answer = ResponsePrimitive {
            rsc: Rsc::Ok,
            from: None,
            request_id: "its own".into(),
            release: Some("9".into()),
            content: Some(Bytes::from_static(b"{\"m2m:x\":1}")),
            content_location: Some("elsewhere".into()),
            parameters: Default::default(),
        };
        let answer = passed.answered(answer).response;
        assert_eq!((answer.rsc, answer.request_id.as_str()), (Rsc::Ok, "r1"));
        assert_eq!((answer.release.as_deref(), answer.content_location), (Some("3"), None));
        assert!(answer.content.is_some());
    }
    let passed = delivery(bench.handle(&notify(OTHER, LIGHT1_PATH, sgn())));
    assert_eq!(Reply::of(passed.unanswered()).code, 5103);
}

#[test]
fn notification_without_permission_is_refused() {
    let bench = Bench::with_lights();
    // Without permission of the AE, only the AE itself.
    for from in [OTHER, LIGHT2, "/other-cse/Cphone"] {
        assert_eq!(refused(&bench, &notify(from, LIGHT1_PATH, sgn())), 4103, "{from}");
    }
    open(&bench, "http://light1/", &[OTHER]);
    assert!(matches!(bench.handle(&notify(OTHER, LIGHT1_PATH, sgn())), Handled::Deliver(_)));
    for from in [LIGHT2, "/other-cse/Cphone", "/third-cse", "Cnobody"] {
        assert_eq!(refused(&bench, &notify(from, LIGHT1_PATH, sgn())), 4103, "{from}");
    }
    let mut from_nobody = notify(OTHER, LIGHT1_PATH, sgn());
    from_nobody.from = None;
    assert_eq!(refused(&bench, &from_nobody), 4000);
    let mut empty = notify(OTHER, LIGHT1_PATH, sgn());
    empty.content = None;
    assert_eq!(refused(&bench, &empty), 4005);
    for (path, code) in [("/cse", 5001), ("/cse/light1/state", 5001), ("/cse/nobody", 4004)] {
        assert_eq!(refused(&bench, &notify(OTHER, path, sgn())), code, "{path}");
    }
    // The AE is no longer reachable.
    let change = json!({"m2m:ae": {"rr": false}});
    assert_eq!(bench.update(LIGHT1, LIGHT1_PATH, change).code, 2004);
    assert_eq!(refused(&bench, &notify(OTHER, LIGHT1_PATH, sgn())), 5103);
}

#[test]
fn notification_is_queued_in_polling_channel() {
    let bench = Bench::with_lights();
    open(&bench, "mqtt://light1", &[OTHER]);
    let channel = json!({"m2m:pch": {"rn": "queue"}});
    assert_eq!(bench.create(Some(LIGHT1), LIGHT1_PATH, 15, channel).code, 2001);
    assert_eq!(refused(&bench, &notify(OTHER, LIGHT1_PATH, sgn())), 1000);
    let pcu = request(Operation::Retrieve, "/cse/light1/queue/pcu", Some(LIGHT1), None);
    let Handled::Wait(poll) = bench.handle(&pcu) else { panic!("it does not wait") };
    let answer = std::pin::pin!(poll);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(answer) = answer.poll(&mut context) else { panic!("nothing") };
    let told = Reply::of(answer).json;
    assert_eq!((&told["m2m:rqp"]["fr"], &told["m2m:rqp"]["pc"]), (&json!(OTHER), &sgn()));
    // It answers a verification through its channel.
    let asked = json!({"m2m:sgn": {"vrq": true, "sur": "/other-cse/sub1"}});
    let passed = delivery(bench.handle(&notify(OTHER, LIGHT1_PATH, asked)));
    assert!(bench.cse().ask_over_channel(passed.notification()).is_some());
}

/// A notification for an AE elsewhere is sent to its CSE, and the target is verified first.
#[test]
fn ae_of_other_cse_is_notified_through_it() {
    let bench = Bench::with_lights();
    let subscription = json!({"nu": ["/other-cse/Cphone"], "cr": null, "enc": {"net": [3]}});
    let handled = subscribe(&bench, LIGHT1, "/cse/light1/state", subscription);
    let Handled::Verify(target) = &handled else { panic!("nobody is asked: {handled:?}") };
    assert_eq!(target.notification().to.to_string(), "/other-cse/Cphone");
    assert_eq!(agree(&bench, handled).code, 2001);
    let told = bench.instance(LIGHT1, "/cse/light1/state", json!({"con": 1})).told();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, "/other-cse/Cphone");
    // At the other CSE, the stem would name another AE.
    assert_eq!(told[0].1["cr"], "/mn-cse-123456/Clight-AE1");
}

/// An S-type AE-ID in its SP-relative form is not a CSE-ID: the AE is announced or local.
#[test]
fn s_type_ae_is_found_by_announcement() {
    let bench = Bench::new(Settings { cse_type: 1, ..settings() });
    let csr = json!({"m2m:csr": {"cb": "/mn-1/cse", "csi": "/mn-1", "rr": true}});
    assert_eq!(bench.create(Some("/mn-1"), "/-", 16, csr).code, 2001);
    let aea = json!({"m2m:aeA": {"api": "Nlight", "lbl": ["Credential-ID:12-a@b.c"]}});
    assert_eq!(bench.create(Some("/mn-1/Slight"), "/-", 10002, aea).code, 2001);
    let ae = json!({"m2m:ae": {"api": "Nx", "rr": true, "poa": ["http://a.b/"]}});
    assert_eq!(bench.create(Some("Shere"), "/cse", 2, ae).code, 2001);
    let located = |address: &str| {
        let to = Target::from_address(address).unwrap();
        let now = UNIX_EPOCH + std::time::Duration::from_secs(NOW);
        bench.cse().locate(&to, now).unwrap().map(|to| to.to_string())
    };
    for (address, there) in [
        ("/Slight", Some("/mn-1/Slight")),
        ("/Slight/-/lamp", Some("/mn-1/Slight/lamp")),
        ("/Slight/lamp", Some("/mn-1/Slight/lamp")),
        ("/Shere", Some("Shere")),
        ("/Snobody", None),
        ("/mn-1/Slight", None),
        ("Slight", None),
        ("/Clight", None),
    ] {
        assert_eq!(located(address).as_deref(), there, "{address}");
    }
}
