//! A subscriber that never reads, while there are notifications and requests for it.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use saegis_tests::{Credential, Gateway, LIGHT1, LIGHT2, Light, Mqtt, Request, Setup, wait_until};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";

/// Size of a value, in bytes. A message is one part for the gateway, so that its time is short.
const VALUE: usize = 12_000;

/// Returns the resident memory of the gateway in MiB, without pages of files.
fn resident(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

#[track_caller]
fn create(light: &mut Light, from: &str, to: &str, ty: u16, content: Value) {
    light.ask(&Request::create(to, ty, &content).from(from)).unwrap().expect(201, 2001);
}

/// Registers an AE that subscribes to its own container, and that light 2 may use.
fn register(gateway: &Gateway, credential: Credential<'_>, from: &str, name: &str) -> Light {
    let mut light = Light::connect(gateway.port(), credential).unwrap();
    let ae = json!({"rn": name, "api": "Nlight", "rr": true, "srv": ["3"]});
    create(&mut light, from, "/cse", 2, json!({ "m2m:ae": ae }));
    let path = format!("/cse/{name}");
    let rules = json!({"acr": [{"acor": [OWN, OTHER], "acop": 63}]});
    create(
        &mut light,
        from,
        &path,
        1,
        json!({"m2m:acp": {"rn": "open", "pv": rules, "pvs": rules}}),
    );
    let change = json!({"m2m:ae": {"acpi": [format!("cse/{name}/open")]}});
    light.ask(&Request::update(&path, &change).from(from)).unwrap().expect(200, 2004);
    // Only the latest value is stored.
    create(&mut light, from, &path, 3, json!({"m2m:cnt": {"rn": "lamp", "mni": 1}}));
    let told = json!({"m2m:sub": {"rn": "told", "nu": [from], "enc": {"net": [3]}}});
    create(&mut light, from, &format!("{path}/lamp"), 23, told);
    light
}

fn put(light: &mut Light, from: &str, name: &str, value: &str) {
    let instance = Request::create_instance(&format!("/cse/{name}/lamp"), value).from(from);
    light.ask(&instance).unwrap().expect(201, 2001);
}

fn subscribe(gateway: &Gateway, credential: Credential<'_>, own: &str) -> Mqtt {
    let mut client = Mqtt::connect(gateway.mqtt_port(), credential, &format!("A::{own}"));
    assert_eq!(client.subscribe_with(&format!("/oneM2M/req/+/{own}/#"), 0), 0);
    client
}

/// Reads a notification, responds to it, and returns its value.
fn notified(client: &mut Mqtt, own: &str) -> String {
    let (_, request) = client.message();
    let response = json!({"rsc": 2000, "rqi": request["rqi"], "rvi": "3", "fr": own});
    client.publish(&format!("/oneM2M/resp/mn-cse-123456/{own}/json"), &response);
    let value = &request["pc"]["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"];
    value.as_str().unwrap_or_default().into()
}

/// Its memory is bounded, others are served, and it is disconnected. The newest notifications wait.
#[test]
fn subscriber_that_never_reads_is_disconnected() {
    let setup = Setup::new().with_mqtt().with("limits", "response-seconds = 2");
    let gateway = setup.with("notifications", "timeout-seconds = 1").start();
    let mut light = register(&gateway, LIGHT1, OWN, "light1");
    let mut other = register(&gateway, LIGHT2, OTHER, "light2");
    let _silent = subscribe(&gateway, LIGHT1, OWN);
    let mut reading = subscribe(&gateway, LIGHT2, OTHER);
    let before = resident(&gateway);
    // 5 MB, of which 256 KiB may wait.
    let filler = "x".repeat(VALUE);
    for n in 0..400 {
        put(&mut light, OWN, "light1", &format!("{n} {filler}"));
    }
    put(&mut other, OTHER, "light2", "on");
    assert_eq!(notified(&mut reading, OTHER), "on");
    // Requests of others, until the buffers of the kernel are full.
    let representation = json!({"rep": {"m2m:cin": {"con": filler}}});
    let sgn = json!({"m2m:sgn": {"sur": "cse/light2/lamp/told", "nev": representation}});
    let notify = Request::new("POST", "/cse/light1").from(OTHER);
    let notify = notify.header("Content-Type", "application/json").body(&sgn.to_string());
    let ended = AtomicBool::new(false);
    let most = thread::scope(|scope| {
        for _ in 0..32 {
            let mut asking = Light::connect(gateway.port(), LIGHT2).unwrap();
            let (notify, ended) = (&notify, &ended);
            scope.spawn(
                move || {
                    while !ended.load(Ordering::Relaxed) && asking.ask(notify).is_ok() {}
                },
            );
        }
        let found = gateway.log().wait("association.ended");
        let most = resident(&gateway);
        ended.store(true, Ordering::Relaxed);
        assert_eq!(found.text("why"), "answer not read");
        most
    });
    put(&mut other, OTHER, "light2", "off");
    assert_eq!(notified(&mut reading, OTHER), "off");
    assert!(most.saturating_sub(before) < 24, "{before} MiB before, {most} MiB at the most");
    let mut again = subscribe(&gateway, LIGHT1, OWN);
    let mut values = Vec::new();
    while values.last().is_none_or(|last: &String| !last.starts_with("399 ")) {
        values.push(notified(&mut again, OWN));
    }
    assert!(values.len() <= 22, "{} have waited", values.len());
}

/// Requests hold resources that others wait for, so they are carried out although a response to the
/// same client cannot be written.
#[test]
fn requests_of_client_that_never_reads_are_carried_out() {
    let setup = Setup::new().with_mqtt().with_metrics();
    let gateway = setup
        .with("limits", "response-bytes-per-credential = 67108864")
        // The listings take longer than the default on a busy machine.
        .with("notifications", "timeout-seconds = 60")
        .start();
    let _light = register(&gateway, LIGHT1, OWN, "light1");
    let mut other = register(&gateway, LIGHT2, OTHER, "light2");
    create(&mut other, OTHER, "/cse/light2", 3, json!({"m2m:cnt": {"rn": "log"}}));
    // All listings are more than the buffers of the kernel hold.
    const LISTINGS: u32 = 6;
    let content = "x".repeat(60_000);
    for _ in 0..65 {
        create(&mut other, OTHER, "/cse/light2/log", 4, json!({"m2m:cin": {"con": content}}));
    }
    let answered = |operation: &str, count: f64| {
        let metric = format!("saegis_requests_total{{operation=\"{operation}\",rsc=\"2000\"}}");
        wait_until(&metric, || gateway.monitor("/metrics").value(&metric) >= count);
    };
    let mut reading = subscribe(&gateway, LIGHT1, OWN);
    let mut silent = Mqtt::connect(gateway.mqtt_port(), LIGHT2, "A::Clight-AE2");
    assert_eq!(silent.subscribe("/oneM2M/resp/Clight-AE2/#"), 1);
    let mut ask = |request: Value| {
        silent.publish("/oneM2M/req/Clight-AE2/mn-cse-123456/json", &request);
    };
    ask(json!({"op": 5, "to": "cse/light1", "fr": OTHER, "rqi": "notify", "rvi": "3",
        "pc": {"m2m:sgn": {"sur": "cse/light2/lamp/told"}}}));
    let (_, request) = reading.message();
    for n in 0..LISTINGS {
        let rqi = n.to_string();
        ask(
            json!({"op": 2, "to": "cse/light2/log", "fr": OTHER, "rqi": rqi, "rvi": "3", "rcn": 4}),
        );
    }
    answered("retrieve", LISTINGS.into());
    let response = json!({"rsc": 2000, "rqi": request["rqi"], "rvi": "3", "fr": OWN});
    reading.publish("/oneM2M/resp/mn-cse-123456/Clight-AE1/json", &response);
    answered("notify", 1.0);
}
