//! Notifications that their targets have not received are sent again, also after a kill.

use saegis_tests::{
    Credential, Gateway, LIGHT1, LIGHT2, Light, Mark, Message, Reply, Request, Setup, Upstream,
    eventually,
};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";

fn unavailable() -> Reply {
    Reply::Bytes(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec())
}

fn ok() -> Reply {
    Reply::answer(200, 2000, "")
}

/// Registers light 1 with a container.
fn with_lamp() -> (Gateway, Light) {
    let gateway = Setup::new().with("notifications", "targets = [\"127.0.0.1\"]").start();
    let mut light = registered(&gateway, LIGHT1, (OWN, "light1"), json!({}));
    let lamp = Request::create_container("/cse/light1", "lamp").from(OWN);
    light.ask(&lamp).unwrap().expect(201, 2001);
    (gateway, light)
}

fn registered(
    gateway: &Gateway,
    credential: Credential<'_>,
    (from, name): (&str, &str),
    further: Value,
) -> Light {
    let mut ae = json!({"rn": name, "api": "Nlight", "rr": true, "srv": ["3"]});
    ae.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    let mut light = Light::connect(gateway.port(), credential).unwrap();
    let create = Request::create("/cse", 2, &json!({ "m2m:ae": ae })).from(from);
    light.ask(&create).unwrap().expect(201, 2001);
    light
}

fn subscribe(light: &mut Light, name: &str, target: &str, further: Value) {
    let mut sub = json!({"rn": name, "nu": [target], "enc": {"net": [3]}});
    sub.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    let sub = Request::create("/cse/light1/lamp", 23, &json!({ "m2m:sub": sub })).from(OWN);
    light.ask(&sub).unwrap().expect(201, 2001);
}

fn put(light: &mut Light, value: &str) {
    let instance = Request::create_instance("/cse/light1/lamp", value).from(OWN);
    light.ask(&instance).unwrap().expect(201, 2001);
}

fn url(target: &Upstream) -> String {
    format!("http://127.0.0.1:{}/", target.port())
}

/// Returns the content of the instance that a notification reports.
fn value(notification: &Message) -> Value {
    let content: Value = serde_json::from_slice(&notification.body).unwrap();
    content.pointer("/m2m:sgn/nev/rep/m2m:cin/con").cloned().unwrap_or_default()
}

fn values(notifications: &[Message]) -> Vec<Value> {
    notifications.iter().map(value).collect()
}

#[test]
fn notification_is_repeated_until_it_is_received() {
    let target = Upstream::start(ok());
    let (gateway, mut light) = with_lamp();
    subscribe(&mut light, "sub", &url(&target), json!({}));
    target.wait(1);
    target.reply_with(unavailable());
    put(&mut light, "one");
    target.wait(2);
    gateway.log().wait("notification.failed");
    // Later events wait for it, so that the target gets them in their order.
    put(&mut light, "two");
    put(&mut light, "three");
    target.wait(3);
    target.reply_with(ok());
    let received = eventually(|| {
        let all = values(&target.requests());
        let received: Vec<_> = all.iter().filter(|value| **value != "one").skip(1).collect();
        if received == ["two", "three"] { Ok(all) } else { Err(all) }
    });
    assert!(received[1..received.len() - 2].iter().all(|value| value == "one"), "{received:?}");
}

#[test]
fn target_that_hangs_gets_later_events() {
    let target = Upstream::start(ok());
    let (gateway, mut light) = with_lamp();
    subscribe(&mut light, "sub", &url(&target), json!({}));
    target.wait(1);
    target.reply_with(Reply::Pending);
    put(&mut light, "first");
    gateway.log().wait("notification.failed");
    // The first one is sent again, and displaced meanwhile.
    target.wait(3);
    for number in 0..=100 {
        put(&mut light, &number.to_string());
    }
    target.reply_with(ok());
    let expected: Vec<_> = (1..=100).map(|number: u8| json!(number.to_string())).collect();
    eventually(|| {
        let all = values(&target.requests());
        if expected.iter().all(|value| all.contains(value)) { Ok(()) } else { Err(all) }
    });
}

#[test]
fn event_of_client_that_disconnects_is_delivered() {
    let target = Upstream::start(ok());
    let (gateway, mut light) = with_lamp();
    subscribe(&mut light, "sub", &url(&target), json!({}));
    target.wait(1);
    for number in 0..30 {
        let mut leaving = Light::connect(gateway.port(), LIGHT1).unwrap();
        let value = number.to_string();
        let instance = Request::create_instance("/cse/light1/lamp", &value).from(OWN);
        leaving.send(&instance.bytes()).unwrap();
        leaving.close();
    }
    put(&mut light, "last");
    // A request that was canceled before its commit has no instance.
    eventually(|| {
        let lamp = Request::retrieve("/cse/light1/lamp").from(OWN);
        let lamp = light.ask(&lamp).unwrap().expect(200, 2000).json();
        let mut received = values(&target.requests()[1..]);
        received.sort_by_key(Value::to_string);
        received.dedup();
        let number = lamp["m2m:cnt"]["cni"].as_u64();
        let is_complete = number == u64::try_from(received.len()).ok();
        if is_complete { Ok(()) } else { Err((number, received)) }
    });
}

#[test]
fn committed_event_is_delivered_after_kill() {
    let target = Upstream::start(ok());
    let (gateway, mut light) = with_lamp();
    subscribe(&mut light, "sub", &url(&target), json!({}));
    target.wait(1);
    // The target never responds to the first one, and has refused the others.
    target.reply_with(Reply::Pending);
    put(&mut light, "one");
    target.wait(2);
    for value in ["two", "three"] {
        put(&mut light, value);
    }
    drop(light);
    let before = target.requests().len();
    target.reply_with(unavailable());
    let gateway = gateway.kill_and_restart();
    gateway.log().wait("notification.failed");
    target.reply_with(ok());
    let received = |expected: &[&str]| {
        eventually(|| {
            let all = values(&target.requests()[before..]);
            let mut delivered = all.clone();
            delivered.dedup();
            if delivered.ends_with(&expected.iter().map(|v| json!(v)).collect::<Vec<_>>()) {
                Ok(())
            } else {
                Err(all)
            }
        });
    };
    received(&["two", "three"]);
    assert!(values(&target.requests()[before..]).contains(&json!("one")));
    // Delivered notifications are not sent again, except one in a batch that was interrupted.
    let delivered = target.requests().len();
    drop(gateway.kill_and_restart());
    let all = values(&target.requests()[delivered..]);
    assert!(all.len() <= 3, "a repetition is possible only once: {all:?}");
}

#[test]
fn repeated_notification_ends_with_its_subscription() {
    let target = Upstream::start(ok());
    let (gateway, mut light) = with_lamp();
    subscribe(&mut light, "ends", &url(&target), json!({}));
    subscribe(&mut light, "stays", &url(&target), json!({"bn": {"num": 9, "dur": "PT3S"}}));
    target.wait(2);
    target.reply_with(unavailable());
    put(&mut light, "one");
    gateway.log().wait("notification.failed");
    let sub = Request::delete("/cse/light1/lamp/ends").from(OWN);
    light.ask(&sub).unwrap().expect(200, 2002);
    let before = target.requests().len();
    target.reply_with(ok());
    drop(light);
    let _gateway = gateway.kill_and_restart();
    assert_only_batch(&target, before);
}

#[test]
fn repeated_notification_ends_with_its_target() {
    let target = Upstream::start(ok());
    let (gateway, mut light) = with_lamp();
    let poa = json!({"poa": [url(&target)]});
    let mut other = registered(&gateway, LIGHT2, (OTHER, "light2"), poa);
    subscribe(&mut light, "ends", "cse/light2", json!({}));
    subscribe(&mut light, "stays", &url(&target), json!({"bn": {"num": 9, "dur": "PT3S"}}));
    target.wait(2);
    target.reply_with(unavailable());
    put(&mut light, "one");
    gateway.log().wait("notification.failed");
    other.ask(&Request::delete("/cse/light2").from(OTHER)).unwrap().expect(200, 2002);
    let before = target.requests().len();
    target.reply_with(ok());
    drop((light, other));
    let _gateway = gateway.kill_and_restart();
    assert_only_batch(&target, before);
}

/// Without an association, nothing else proves that the target still has its credential.
#[test]
fn repeated_notification_ends_with_credential() {
    let target = Upstream::start(ok());
    let (gateway, mut light) = with_lamp();
    let poa = json!({"poa": [url(&target)]});
    let other = registered(&gateway, LIGHT2, (OTHER, "light2"), poa);
    subscribe(&mut light, "ends", "cse/light2", json!({}));
    subscribe(&mut light, "stays", &url(&target), json!({"bn": {"num": 2, "dur": "PT1H"}}));
    target.wait(2);
    target.reply_with(unavailable());
    put(&mut light, "one");
    gateway.log().wait("notification.failed");
    let mark = gateway.log().mark();
    let table = gateway.table();
    let rest: Vec<_> = table.lines().filter(|row| !row.contains(LIGHT2.identity)).collect();
    gateway.replace("policies/psk-lookup-table.csv", rest.join("\n") + "\n");
    gateway.log().wait_after(mark, "association.revoked");
    // The next attempt ends the notification.
    let ended = "policy no longer has the credential";
    gateway.log().wait_for(mark, "notification.failed", |line| line.message().contains(ended));
    let before = target.requests().len();
    target.reply_with(ok());
    put(&mut light, "two");
    assert_only_batch(&target, before);
    drop(other);
}

/// Asserts that the target gets the batch of another subscription, which comes later than a
/// repetition would, and nothing else.
fn assert_only_batch(target: &Upstream, before: usize) {
    let is_batch = |message: &Message| String::from_utf8_lossy(&message.body).contains("m2m:agn");
    eventually(|| {
        let all = target.requests();
        if all[before..].iter().any(is_batch) { Ok(()) } else { Err(all.len()) }
    });
    let later = &target.requests()[before..];
    assert!(later.iter().all(is_batch), "{:?}", values(later));
}

#[test]
fn polling_channel_has_events_after_kill() {
    let (gateway, mut light) = with_lamp();
    let channel = json!({"m2m:pch": {"rn": "polls"}});
    let rr = json!({"m2m:ae": {"rr": false}});
    light.ask(&Request::update("/cse/light1", &rr).from(OWN)).unwrap().expect(200, 2004);
    light.ask(&Request::create("/cse/light1", 15, &channel).from(OWN)).unwrap().expect(201, 2001);
    subscribe(&mut light, "sub", OWN, json!({}));
    for value in ["one", "two"] {
        put(&mut light, value);
    }
    let poll = Request::retrieve("/cse/light1/polls/pcu").from(OWN);
    let fetch = |light: &mut Light| {
        let got = light.ask(&poll).unwrap().expect(200, 2000).json();
        got["m2m:rqp"]["pc"]["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"].clone()
    };
    drop(light);
    let gateway = gateway.kill_and_restart();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    assert_eq!(fetch(&mut light), "one");
    assert_eq!(fetch(&mut light), "two");
}

#[test]
fn connection_of_ae_gets_events_after_kill() {
    let (gateway, mut light) = with_lamp();
    drop(registered(&gateway, LIGHT2, (OTHER, "light2"), json!({})));
    let json = ("Sec-WebSocket-Protocol", "oneM2M.json");
    let connect = |gateway: &Gateway| {
        Light::connect(gateway.port(), LIGHT2).unwrap().websocket(&[json]).unwrap()
    };
    // The target agrees to the subscription over its connection.
    let mut other = connect(&gateway);
    let sub = json!({"m2m:sub": {"rn": "sub", "nu": ["cse/light2"], "enc": {"net": [3]}}});
    let sub = Request::create("/cse/light1/lamp", 23, &sub).from(OWN);
    light.send(&sub.bytes()).unwrap();
    let respond = |other: &mut saegis_tests::WebSocket| {
        let request = other.primitive();
        let response = json!({"rsc": 2000, "rqi": request["rqi"], "rvi": "3", "fr": OTHER});
        other.send_text(&response.to_string());
        request["pc"]["m2m:sgn"].clone()
    };
    assert_eq!(respond(&mut other)["vrq"], true);
    light.read().unwrap().expect(201, 2001);
    drop(other);
    gateway.log().wait_after(Mark::START, "association.ended");
    put(&mut light, "one");
    drop(light);
    let gateway = gateway.kill_and_restart();
    let mut other = connect(&gateway);
    assert_eq!(respond(&mut other)["nev"]["rep"]["m2m:cin"]["con"], "one");
}
