//! Notifications that wait for the connection of their AE: requests of others do not displace them, and
//! they last until the AE responds.

use std::thread;

use saegis_tests::{
    Credential, Gateway, LIGHT1, LIGHT2, Light, Mark, Request, Setup, WebSocket, wait_until,
};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";
const JSON: (&str, &str) = ("Sec-WebSocket-Protocol", "oneM2M.json");

fn connect(gateway: &Gateway, credential: Credential<'_>) -> Light {
    Light::connect(gateway.port(), credential).unwrap()
}

fn websocket(gateway: &Gateway) -> WebSocket {
    connect(gateway, LIGHT1).websocket(&[JSON]).unwrap()
}

#[track_caller]
fn create(light: &mut Light, from: &str, to: &str, ty: u16, content: Value) {
    light.ask(&Request::create(to, ty, &content).from(from)).unwrap().expect(201, 2001);
}

#[track_caller]
fn put(light: &mut Light, from: &str, value: &str) {
    create(light, from, "/cse/light1/lamp", 4, json!({"m2m:cin": {"con": value}}));
}

/// Registers an AE that is reached over its WebSocket, with a container to which it subscribes.
fn register(light: &mut Light, from: &str, name: &str) {
    let ae = json!({"rn": name, "api": "Nlight", "rr": true, "srv": ["3"]});
    create(light, from, "/cse", 2, json!({ "m2m:ae": ae }));
    create(light, from, &format!("/cse/{name}"), 3, json!({"m2m:cnt": {"rn": "lamp"}}));
    let told = json!({"m2m:sub": {"rn": "told", "nu": [from], "enc": {"net": [3]}}});
    create(light, from, &format!("/cse/{name}/lamp"), 23, told);
}

/// Returns the gateway, and both lights. The AE of light 1 and its container are open to light 2.
fn with_lights(setup: Setup) -> (Gateway, Light, Light) {
    let gateway = setup.start();
    let (mut light, mut other) = (connect(&gateway, LIGHT1), connect(&gateway, LIGHT2));
    register(&mut light, OWN, "light1");
    register(&mut other, OTHER, "light2");
    let rules = json!({"acr": [{"acor": [OWN, OTHER], "acop": 63}]});
    let policy = json!({"m2m:acp": {"rn": "open", "pv": rules, "pvs": rules}});
    create(&mut light, OWN, "/cse/light1", 1, policy);
    for (path, root) in [("/cse/light1", "m2m:ae"), ("/cse/light1/lamp", "m2m:cnt")] {
        let change = json!({ root: {"acpi": ["cse/light1/open"]} });
        light.ask(&Request::update(path, &change).from(OWN)).unwrap().expect(200, 2004);
    }
    (gateway, light, other)
}

/// Reads a request to the AE, and returns it with the value in it.
#[track_caller]
fn notification(light: &mut WebSocket) -> (Value, Value) {
    let request = light.primitive();
    assert_eq!(request["op"], 5, "{request}");
    let value = request["pc"]["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"].clone();
    (request, value)
}

/// Reads a notification, responds to it, and returns its value.
#[track_caller]
fn answer_notification(light: &mut WebSocket) -> String {
    let (request, value) = notification(light);
    let response = json!({"rsc": 2000, "rqi": request["rqi"], "rvi": "3", "fr": OWN});
    light.send_text(&response.to_string());
    value.as_str().unwrap_or_default().into()
}

/// Unanswered requests of another AE use up their own share only.
#[test]
fn requests_of_others_delay_no_notification() {
    const REQUESTS: usize = 40;
    const SHARE: usize = 32;
    let (gateway, mut light, _other) =
        with_lights(Setup::new().with("notifications", "timeout-seconds = 60"));
    let mut own = websocket(&gateway);
    let mut others: Vec<_> = (0..REQUESTS).map(|_| connect(&gateway, LIGHT2)).collect();
    let content = json!({"m2m:sgn": {"sur": "cse/light2/lamp/told"}}).to_string();
    for other in &mut others {
        let notify = Request::new("POST", "/cse/light1").from(OTHER);
        let notify = notify.header("Content-Type", "application/json").body(&content);
        other.send(&notify.bytes()).unwrap();
    }
    for _ in 0..SHARE {
        assert_eq!(notification(&mut own).1, Value::Null);
    }
    put(&mut light, OWN, "on");
    assert_eq!(answer_notification(&mut own), "on");
    assert!(gateway.log().all(Mark::START, "notification.failed", 0).len() <= REQUESTS - SHARE);
}

/// A notification without a response is sent again over the same connection too.
#[test]
fn unanswered_notification_is_sent_again() {
    let (gateway, mut light, _other) =
        with_lights(Setup::new().with("notifications", "timeout-seconds = 1"));
    let mut own = websocket(&gateway);
    put(&mut light, OWN, "on");
    assert_eq!(notification(&mut own).1, "on");
    gateway.log().wait("notification.failed");
    // It does not hold up the next one.
    put(&mut light, OWN, "off");
    let mut values = [answer_notification(&mut own), answer_notification(&mut own)];
    values.sort_unstable();
    assert_eq!(values, ["off", "on"]);
}

/// Notifications that one AE causes displace only others that it has caused.
#[test]
fn notifications_of_others_displace_none() {
    let (gateway, mut light, mut other) = with_lights(Setup::new());
    put(&mut light, OWN, "on");
    for n in 0..150 {
        put(&mut other, OTHER, &n.to_string());
    }
    let mut own = websocket(&gateway);
    assert_eq!(answer_notification(&mut own), "on");
}

/// AEs that cause as many notifications as may wait cannot use up all room.
#[test]
fn absent_aes_leave_room_for_others() {
    const CROWD: usize = 75;
    let row = |n: usize| (format!("Ccrowd-{n}"), format!("crowd-{n}@in.provider.com"));
    let key = "00112233445566778899aabbccddeeff";
    let mut table = format!("ae_id,kpsa,kpsa_id\n{OWN},{},{}\n", LIGHT1.key, LIGHT1.identity);
    for (ae, identity) in (0..CROWD).map(row) {
        table.push_str(&format!("{ae},{key},{identity}\n"));
    }
    let setup = Setup::new().file("psk-lookup-table.csv", &table);
    let gateway = setup.start();
    let mut light = connect(&gateway, LIGHT1);
    register(&mut light, OWN, "light1");
    // Four of them are as much as may wait for one AE.
    let value = "x".repeat(62_000);
    for part in (0..CROWD).collect::<Vec<_>>().chunks(25) {
        thread::scope(|scope| {
            for n in part {
                let (gateway, value) = (&gateway, &value);
                scope.spawn(move || {
                    let (ae, identity) = row(*n);
                    let mut one = connect(gateway, Credential { identity: &identity, key });
                    register(&mut one, &ae, &format!("crowd-{n}"));
                    let lamp = format!("/cse/crowd-{n}/lamp");
                    for _ in 0..4 {
                        let instance = Request::create_instance(&lamp, value).from(&ae);
                        one.ask(&instance).unwrap().expect(201, 2001);
                    }
                });
            }
        });
    }
    put(&mut light, OWN, &value);
    let mut own = websocket(&gateway);
    assert_eq!(answer_notification(&mut own), value);
}

/// Notifications that are lost while they wait are logged, in sums.
#[test]
fn lost_notifications_are_logged_in_sums() {
    let (gateway, mut light, mut other) = with_lights(Setup::new());
    put(&mut light, OWN, "on");
    for n in 0..150 {
        put(&mut other, OTHER, &n.to_string());
    }
    let lost = || {
        let lines = gateway.log().all(Mark::START, "notification.dropped", 0);
        assert!(lines.iter().all(|line| line.text("to") == OWN), "{lines:?}");
        assert!(lines.iter().all(|line| line.message().contains("displaced")), "{lines:?}");
        lines.iter().map(|line| line.number("notifications")).sum::<u64>()
    };
    wait_until("51 are logged as displaced", || lost() == 51);
}

/// Notifications for an AE-ID that its credential no longer has are not sent again and again.
#[test]
fn notifications_for_former_ae_id_end_at_once() {
    const FORMER: &str = "Cformer";
    let table = format!("ae_id,kpsa,kpsa_id\n,{},{}\n", LIGHT1.key, LIGHT1.identity);
    let gateway = Setup::new().file("psk-lookup-table.csv", &table).start();
    let mut light = connect(&gateway, LIGHT1);
    register(&mut light, FORMER, "former");
    create(&mut light, FORMER, "/cse/former/lamp", 4, json!({"m2m:cin": {"con": "on"}}));
    light.ask(&Request::delete("/cse/former").from(FORMER)).unwrap().expect(200, 2002);
    let mut light = connect(&gateway, LIGHT1);
    register(&mut light, OWN, "light1");
    put(&mut light, OWN, "on");
    let mut own = websocket(&gateway);
    assert_eq!(answer_notification(&mut own), "on");
    let lost = gateway.log().wait_for(Mark::START, "notification.dropped", |event| {
        event.message().contains("no longer registered")
    });
    assert_eq!((lost.text("to").as_str(), lost.number("notifications")), (FORMER, 1), "{lost:?}");
    assert!(gateway.log().all(Mark::START, "notification.failed", 0).is_empty());
}

/// Notifications that wait for an AE are removed with its credential, and do not reach a later client.
#[test]
fn notifications_of_removed_credential_are_removed() {
    const TABLE: &str = "policies/psk-lookup-table.csv";
    let (gateway, mut light, _other) = with_lights(Setup::new());
    put(&mut light, OWN, "on");
    let (all, without) = (gateway.table(), gateway.table_without(LIGHT1));
    gateway.in_force_after(|g| g.replace(TABLE, without));
    let dropped = gateway.log().wait("notification.dropped");
    assert!(dropped.message().contains("was revoked"), "{}", dropped.message());
    gateway.in_force_after(|g| g.replace(TABLE, all));
    let (mut light, mut own) = (connect(&gateway, LIGHT1), websocket(&gateway));
    put(&mut light, OWN, "off");
    assert_eq!(answer_notification(&mut own), "off");
}
