//! AEs that fetch their notifications.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, UNIX_EPOCH};

use saegis_onem2m::parameter::Parameter;
use saegis_onem2m::primitive::Operation;
use saegis_onem2m::rsc::Rsc;
use serde_json::{Value, json};

use crate::testing::{Bench, LIGHT1, LIGHT2, NOW, Reply, agree, request, subscribe};
use crate::{Handled, LongPoll};

const PCU: &str = "/cse/light1/queue/pcu";

/// Light 1 with a polling channel and a subscription to new instances in `state`.
fn bench() -> Bench {
    let bench = Bench::with_lights();
    assert_eq!(channel(&bench, LIGHT1, "/cse/light1").code, 2001);
    let sub = json!({"m2m:sub": {"nu": [LIGHT1], "enc": {"net": [3]}}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1/state", 23, sub).code, 2001);
    bench
}

fn channel(bench: &Bench, from: &str, path: &str) -> Reply {
    bench.create(Some(from), path, 15, json!({"m2m:pch": {"rn": "queue"}}))
}

fn put(bench: &Bench, con: Value) {
    let reply = bench.instance(LIGHT1, "/cse/light1/state", json!({ "con": con }));
    assert_eq!((reply.code, reply.told()), (2001, vec![]));
}

fn poll(bench: &Bench) -> LongPoll {
    match bench.handle(&request(Operation::Retrieve, PCU, Some(LIGHT1), None)) {
        Handled::Wait(poll) => poll,
        other => panic!("it does not wait: {other:?}"),
    }
}

fn ready(poll: &mut LongPoll) -> Option<Reply> {
    match pin!(poll).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(Reply::of(answer)),
        Poll::Pending => None,
    }
}

#[test]
fn ae_polls_its_notifications() {
    let bench = bench();
    let mut first = poll(&bench);
    assert!(ready(&mut first).is_none());
    put(&bench, json!("on"));
    put(&bench, json!("off"));
    let reply = ready(&mut first).unwrap();
    assert_eq!((reply.code, reply.response.request_id.as_str()), (2000, "r1"));
    let sent = &reply.json["m2m:rqp"];
    assert_eq!(
        (&sent["op"], &sent["to"], &sent["fr"], &sent["rvi"]),
        (&json!(5), &json!(LIGHT1), &json!("/mn-cse-123456"), &json!("3"))
    );
    assert_eq!(sent["pc"]["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"], "on");
    // A message that arrived without a waiting poll is delivered.
    let sent = ready(&mut poll(&bench)).unwrap().json;
    assert_eq!(sent["m2m:rqp"]["pc"]["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"], "off");
    let mut last = poll(&bench);
    assert!(ready(&mut last).is_none());
    let nothing = Reply::of(last.timed_out());
    assert_eq!((nothing.code, nothing.response.request_id.as_str()), (4008, "r1"));
    // The AE's response to the message.
    let answer = json!({"m2m:rsp": {"rsc": 2000, "rqi": sent["m2m:rqp"]["rqi"]}});
    let notify = request(Operation::Notify, PCU, Some(LIGHT1), Some(answer));
    assert_eq!(bench.send(&notify).code, 2000);
}

#[test]
fn poll_by_other_ae_is_refused() {
    let bench = bench();
    for from in [LIGHT2, "/in-cse", "Cnobody", "/mn-cse-123456/Clight-AE1"] {
        assert_eq!(bench.retrieve(from, PCU).code, 4103, "{from}");
        let notify = request(Operation::Notify, PCU, Some(from), Some(json!({"m2m:rsp": {}})));
        assert_eq!(bench.send(&notify).code, 4103, "{from}");
    }
    let none = request(Operation::Retrieve, PCU, None, None);
    assert_eq!(bench.send(&none).code, 4000);
    for nothing in ["/cse/light1/pcu", "/cse/light2/queue/pcu", "/pcu", "/cse/light1/state/pcu"] {
        assert_eq!(bench.retrieve(LIGHT1, nothing).code, 4004, "{nothing}");
    }
    assert_eq!(bench.update(LIGHT1, PCU, json!({"m2m:pch": {}})).code, 4005);
    assert_eq!(bench.delete(LIGHT1, PCU).code, 4005);
    let mut old = request(Operation::Retrieve, PCU, Some(LIGHT1), None);
    old.release = Some("1".into());
    assert_eq!(bench.send(&old).code, 4001);
}

#[test]
fn ae_creates_its_own_channel() {
    let bench = bench();
    assert_eq!(channel(&bench, LIGHT1, "/cse/light1").code, 4005);
    assert_eq!(channel(&bench, LIGHT1, "/cse/light2").code, 4103);
    assert_eq!(channel(&bench, LIGHT2, "/cse/light1").code, 4103);
    assert_eq!(channel(&bench, LIGHT1, "/cse/light1/state").code, 4108);
    let bad = json!({"m2m:pch": {"rqag": true}});
    assert_eq!(bench.create(Some(LIGHT2), "/cse/light2", 15, bad).code, 5001);
    let pch = bench.retrieve(LIGHT1, "/cse/light1/queue");
    assert_eq!((pch.code, &pch.attributes()["ty"]), (2000, &json!(15)));
    assert_eq!(bench.retrieve(LIGHT2, "/cse/light1/queue").code, 4103);
    assert_eq!(
        bench.update(LIGHT1, "/cse/light1/queue", json!({"m2m:pch": {"lbl": ["a"]}})).code,
        2004
    );
    let sub = json!({"m2m:sub": {"nu": [LIGHT1]}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1/queue", 23, sub).code, 5203);
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/queue").code, 2002);
    assert_eq!(bench.retrieve(LIGHT1, PCU).code, 4004);
    assert_eq!(channel(&bench, LIGHT1, "/cse/light1").code, 2001);
}

#[test]
fn queued_notifications_end_with_channel() {
    let bench = bench();
    put(&bench, json!("secret"));
    assert_eq!(bench.delete(LIGHT1, "/cse/light1").code, 2002);
    bench.sweep();
    // A later AE with the same name does not find it.
    assert_eq!(bench.register(LIGHT1, "light1").code, 2001);
    assert_eq!(channel(&bench, LIGHT1, "/cse/light1").code, 2001);
    assert!(ready(&mut poll(&bench)).is_none());
}

#[test]
fn reachable_ae_does_not_need_to_poll() {
    let bench = bench();
    let change = json!({"m2m:ae": {"rr": true, "poa": ["http://a.b/"]}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1", change).code, 2004);
    let reply = bench.instance(LIGHT1, "/cse/light1/state", json!({"con": 1}));
    assert_eq!(reply.told().len(), 1);
    assert!(ready(&mut poll(&bench)).is_none());
}

#[test]
fn target_answers_through_its_channel() {
    let bench = bench();
    assert_eq!(channel(&bench, LIGHT2, "/cse/light2").code, 2001);
    let handled = subscribe(&bench, LIGHT2, "/cse/light2", json!({"nu": [LIGHT1]}));
    let Handled::Verify(target) = handled else { panic!("it is not verified: {handled:?}") };
    let mut response = bench.cse().ask_over_channel(target.notification()).unwrap();
    let asked = ready(&mut poll(&bench)).unwrap().json["m2m:rqp"].clone();
    assert_eq!(
        (&asked["fr"], &asked["pc"]["m2m:sgn"]["vrq"]),
        (&json!("/mn-cse-123456"), &json!(true))
    );
    let answer = |rqi: &Value| {
        let content = json!({"m2m:rsp": {"rsc": 2000, "rqi": rqi}});
        let reply = bench.send(&request(Operation::Notify, PCU, Some(LIGHT1), Some(content)));
        assert_eq!(reply.code, 2000);
    };
    let mut is_ready = || {
        let mut context = Context::from_waker(Waker::noop());
        pin!(&mut response).poll(&mut context)
    };
    answer(&json!("another"));
    assert!(is_ready().is_pending());
    answer(&asked["rqi"]);
    assert_eq!(is_ready(), Poll::Ready(Rsc::Ok));
    assert_eq!(agree(&bench, Handled::Verify(target)).code, 2001);
}

#[test]
fn latest_poll_waits_until_its_expiry() {
    let bench = bench();
    let mut first = poll(&bench);
    let mut second = poll(&bench);
    assert_eq!(ready(&mut first).unwrap().code, 4008);
    drop(first);
    put(&bench, json!(1));
    assert_eq!(ready(&mut second).unwrap().code, 2000);
    assert_eq!(second.until(), None);
    for (value, until) in [("5000", NOW + 5), ("20261124T093010", NOW + 10)] {
        let mut request = request(Operation::Retrieve, PCU, Some(LIGHT1), None);
        request.parameters.set(Parameter::RequestExpiration, value);
        let Handled::Wait(poll) = bench.handle(&request) else { panic!("it does not wait") };
        assert_eq!(poll.until(), Some(UNIX_EPOCH + Duration::from_secs(until)));
    }
    let mut late = request(Operation::Retrieve, PCU, Some(LIGHT1), None);
    late.parameters.set(Parameter::RequestExpiration, "20261124T093000");
    assert_eq!(bench.send(&late).code, 4008);
}

#[test]
fn pending_results_are_send_and_sync() {
    fn is_sent<T: Send + Sync + Unpin + 'static>() {}
    is_sent::<Handled>();
    is_sent::<crate::Verified>();
    is_sent::<LongPoll>();
}
