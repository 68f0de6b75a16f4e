//! Connections of the same client, and of different ones; sessions that outlive their connections.

use saegis_tests::{
    Credential, Gateway, LIGHT1, LIGHT2, Light, Mark, Mqtt, Request, Setup, mqtt, saegis,
};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const TABLE: &str = "policies/psk-lookup-table.csv";
const REQ: &str = "/oneM2M/req/Clight-AE1/mn-cse-123456/json";

/// Connects without a clean session, and returns whether there was one.
fn resume(gateway: &Gateway, client_id: &str) -> (Mqtt, bool) {
    let mut light = Mqtt::raw(gateway.mqtt_port(), LIGHT1);
    light.send(&mqtt::connect(client_id, 0, 60));
    let (first, rest) = light.read().unwrap();
    assert_eq!((first, rest[1]), (0x20, 0));
    (light, rest[0] == 1)
}

/// An AE with a durable session that subscribes to its requests, and a subscription to its container.
fn with_session(setup: Setup) -> (Gateway, Mqtt) {
    let gateway = setup.with_mqtt().start();
    let (mut light, had_session) = resume(&gateway, "A::Clight-AE1");
    assert!(!had_session);
    for filter in ["/oneM2M/resp/Clight-AE1/#", "/oneM2M/req/+/Clight-AE1/#"] {
        assert_eq!(light.subscribe(filter), 1);
    }
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": true, "srv": ["3"]}});
    let told = json!({"m2m:sub": {"rn": "told", "nu": [OWN], "enc": {"net": [3]}}});
    for (to, ty, pc) in [
        ("cse", 2, ae),
        ("cse/light1", 3, json!({"m2m:cnt": {"rn": "lamp"}})),
        ("cse/light1/lamp", 23, told),
    ] {
        light.expect(REQ, json!({"op": 1, "to": to, "fr": OWN, "ty": ty, "pc": pc}), 2001);
    }
    (gateway, light)
}

/// Reads a notification, responds, and returns its value.
fn notification(light: &mut Mqtt) -> Value {
    let (_, request) = light.message();
    let response = json!({"rsc": 2000, "rqi": request["rqi"], "rvi": "3", "fr": OWN});
    light.publish("/oneM2M/resp/mn-cse-123456/Clight-AE1/json", &response);
    request["pc"]["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"].clone()
}

#[test]
fn session_keeps_subscriptions_until_client_wants_clean_one() {
    let (gateway, light) = with_session(Setup::new());
    light.disconnect();
    gateway.log().wait("association.ended");
    let (mut light, had_session) = resume(&gateway, "A::Clight-AE1");
    assert!(had_session);
    // The subscriptions are in force.
    light.expect(REQ, json!({"op": 2, "to": "cse/light1", "fr": OWN}), 2000);
    gateway.switch_light1("on");
    assert_eq!(notification(&mut light), "on");
    // Another client identifier, and another credential, have no part in it.
    assert!(!resume(&gateway, "lamp").1);
    let mut other = Mqtt::raw(gateway.mqtt_port(), LIGHT2);
    other.send(&mqtt::connect("lamp", 0, 60));
    assert_eq!(other.read(), Some((0x20, vec![0, 0])));
    // A clean session ends it.
    drop(Mqtt::connect(gateway.mqtt_port(), LIGHT1, "A::Clight-AE1"));
    assert!(!resume(&gateway, "A::Clight-AE1").1);
}

/// After a kill, notifications that waited are delivered, and each subscription is in force.
#[test]
fn session_and_queued_notifications_survive_kill() {
    // The time of waiting in memory plays no part.
    let setup = Setup::new().with("notifications", "retention-seconds = 1");
    let (gateway, light) = with_session(setup);
    light.disconnect();
    gateway.log().wait("association.ended");
    for value in ["1", "2", "3"] {
        gateway.switch_light1(value);
    }
    let gateway = gateway.kill_and_restart();
    let (mut light, had_session) = resume(&gateway, "A::Clight-AE1");
    assert!(had_session);
    for value in ["1", "2", "3"] {
        assert_eq!(notification(&mut light), value);
    }
    gateway.switch_light1("4");
    assert_eq!(notification(&mut light), "4");
    light.expect(REQ, json!({"op": 2, "to": "cse/light1", "fr": OWN}), 2000);
    light.disconnect();
    // A delivered one does not come again.
    let gateway = gateway.kill_and_restart();
    let (mut light, _) = resume(&gateway, "A::Clight-AE1");
    gateway.switch_light1("5");
    assert_eq!(notification(&mut light), "5");
}

/// A request that was not acknowledged is sent again by its client, and one that was has taken effect.
#[test]
fn acknowledged_requests_survive_kill() {
    let (gateway, mut light) = with_session(Setup::new());
    let create = |value: &str| {
        let pc = json!({"m2m:cin": {"con": value}});
        json!({"op": 1, "to": "cse/light1/lamp", "fr": OWN, "ty": 4, "pc": pc, "rqi": value,
            "rvi": "3"})
        .to_string()
    };
    light.send(&mqtt::publish(REQ, Some(9), create("first").as_bytes()));
    loop {
        match light.read().unwrap() {
            (0x40, id) => break assert_eq!(id, [0, 9]),
            packet => {
                let (_, id, _) = mqtt::parts(&packet);
                light.send(&[&[0x40, 2], &id.unwrap().to_be_bytes()[..]].concat());
            }
        }
    }
    let gateway = gateway.kill_and_restart();
    let mut http = Light::connect(gateway.port(), LIGHT1).unwrap();
    let latest = http.ask(&Request::retrieve("/cse/light1/lamp/la").from(OWN)).unwrap();
    assert_eq!(latest.json()["m2m:cin"]["con"], "first");
}

/// Policy no longer has the credential. Its connection ends, and its session and what waits for it are
/// removed, so that they are not there when policy has it again.
fn assert_removed_with_credential(is_connected: bool) {
    let (gateway, light) = with_session(Setup::new());
    let mut light = Some(light);
    if !is_connected {
        light.take().unwrap().disconnect();
        gateway.log().wait("association.ended");
    }
    gateway.switch_light1("on");
    let (all, without) = (gateway.table(), gateway.table_without(LIGHT1));
    gateway.in_force_after(|g| g.replace(TABLE, without));
    if let Some(light) = &mut light {
        // The notification that it has not answered.
        light.message();
        light.expect_closed();
    }
    let removed = gateway.log().wait("mqtt.sessions-removed");
    assert_eq!(removed.text("credential_id"), format!("12-{}", LIGHT1.identity));
    assert_eq!(removed.number("sessions"), 1);
    let gateway = gateway.kill_and_restart();
    gateway.in_force_after(|g| g.replace(TABLE, all));
    let (mut light, had_session) = resume(&gateway, "A::Clight-AE1");
    assert!(!had_session);
    for filter in ["/oneM2M/resp/Clight-AE1/#", "/oneM2M/req/+/Clight-AE1/#"] {
        assert_eq!(light.subscribe(filter), 1);
    }
    gateway.switch_light1("off");
    assert_eq!(notification(&mut light), "off");
}

#[test]
fn session_of_removed_credential_is_removed() {
    assert_removed_with_credential(true);
}

#[test]
fn session_of_absent_client_is_removed_with_credential() {
    assert_removed_with_credential(false);
}

/// The session belongs to the credential, not to its key.
#[test]
fn session_outlasts_change_of_key() {
    let (gateway, mut light) = with_session(Setup::new());
    let renewed = Credential { key: "00112233445566778899aabbccddeeff", ..LIGHT1 };
    let table = gateway.table().replace(LIGHT1.key, renewed.key);
    gateway.in_force_after(|g| g.replace(TABLE, table));
    light.expect_closed();
    let mut light = Mqtt::raw(gateway.mqtt_port(), renewed);
    light.send(&mqtt::connect("A::Clight-AE1", 0, 60));
    assert_eq!(light.read(), Some((0x20, vec![1, 0])));
    assert!(gateway.log().all(Mark::START, "mqtt.sessions-removed", 0).is_empty());
}

/// The AE-ID that the credential got by its registration is released. Its next AE has a new session,
/// even under the same AE-ID.
#[test]
fn session_of_deleted_ae_is_removed() {
    let table = format!("ae_id,kpsa,kpsa_id\n,{},{}\n", LIGHT1.key, LIGHT1.identity);
    let gateway = Setup::new().file("psk-lookup-table.csv", &table).with_mqtt().start();
    let register = || {
        let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
        light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
        light.close();
        resume(&gateway, "A::Clight-AE1")
    };
    let (mut light, _) = register();
    assert_eq!(light.subscribe("/oneM2M/req/+/Clight-AE1/#"), 1);
    saegis(&gateway.path(""), &["delete-ae", OWN]).expect(0);
    light.expect_closed();
    assert!(!register().1);
}

#[test]
fn session_expires() {
    let (gateway, light) = with_session(Setup::new().with("mqtt", "session-seconds = 1"));
    light.disconnect();
    gateway.log().wait("association.ended");
    // Each look at the session would renew it.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    assert!(!resume(&gateway, "A::Clight-AE1").1);
}

#[test]
fn second_connection_of_client_ends_first() {
    let gateway = Setup::new().with_mqtt().start();
    let port = gateway.mqtt_port();
    let mut first = Mqtt::connect(port, LIGHT1, "A::Clight-AE1");
    let mut other = Mqtt::connect(port, LIGHT1, "another");
    let mut second = Mqtt::connect(port, LIGHT1, "A::Clight-AE1");
    first.expect_closed();
    let ended = gateway.log().wait("association.ended");
    assert_eq!(ended.text("why"), "the same client has connected again");
    for client in [&mut second, &mut other] {
        client.send(&[0xc0, 0]);
        assert_eq!(client.read(), Some((0xd0, Vec::new())));
    }
}

#[test]
fn foreign_client_identifier_ends_nothing() {
    let gateway = Setup::new().with_mqtt().start();
    let port = gateway.mqtt_port();
    let mut light = Mqtt::connect(port, LIGHT1, "lamp");
    let _other = Mqtt::connect(port, LIGHT2, "lamp");
    light.send(&[0xc0, 0]);
    assert_eq!(light.read(), Some((0xd0, Vec::new())));
}

/// Each connection ends the one before, and the last one is served.
#[test]
fn takeover_storm_leaves_last_connection() {
    let gateway = Setup::new().with_mqtt().start();
    let port = gateway.mqtt_port();
    let mut clients: Vec<_> =
        (0..50).map(|_| Mqtt::connect(port, LIGHT1, "A::Clight-AE1")).collect();
    let mut last = clients.pop().unwrap();
    for mut client in clients {
        client.expect_closed();
    }
    assert_eq!(last.subscribe("/oneM2M/req/+/Clight-AE1/#"), 1);
}
