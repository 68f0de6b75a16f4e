//! The clients of mosquitto, over the mandated cipher suite.

use std::io::Write as _;
use std::process::Stdio;

use saegis_tests::mqtt::mosquitto;
use saegis_tests::{BOUND, Gateway, LIGHT1, Light, Request, Running, Setup, wait_until};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const REQ: &str = "/oneM2M/req/Clight-AE1/mn-cse-123456/json";
const RESP: &str = "/oneM2M/resp/Clight-AE1/mn-cse-123456/json";

/// Publishes a request with mosquitto_rr, and returns the response.
fn ask(gateway: &Gateway, request: &Value) -> Value {
    let mut command = mosquitto("rr", gateway.mqtt_port(), LIGHT1);
    command.args(["-i", "A::Clight-AE1", "-q", "1", "-W", "20", "-t", REQ]);
    command.args(["-e", RESP, "-m", &request.to_string()]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

fn register(gateway: &Gateway) {
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": true, "srv": ["3"]}});
    let lamp = json!({"m2m:cnt": {"rn": "lamp"}});
    for (to, ty, pc) in [("cse", 2, ae), ("cse/light1", 3, lamp)] {
        let request = json!({"op": 1, "to": to, "fr": OWN, "ty": ty, "pc": pc, "rqi": "r",
            "rvi": "3"});
        assert_eq!(ask(gateway, &request)["rsc"], 2001);
    }
}

#[test]
fn mosquitto_rr_gets_responses() {
    let gateway = Setup::new().with_mqtt().start();
    register(&gateway);
    let request = json!({"op": 2, "to": "cse/light1/lamp", "fr": OWN, "rqi": "r", "rvi": "3"});
    let response = ask(&gateway, &request);
    assert_eq!(response["pc"]["m2m:cnt"]["rn"], "lamp", "{response}");
    let other = json!({"op": 2, "to": "cse/light1", "fr": "Clight-AE2", "rqi": "r", "rvi": "3"});
    assert_eq!(ask(&gateway, &other)["rsc"], 4106);
}

#[test]
fn mosquitto_pub_requests_are_carried_out() {
    let gateway = Setup::new().with_mqtt().start();
    register(&gateway);
    for qos in ["0", "1"] {
        let request = json!({"op": 1, "to": "cse/light1/lamp", "fr": OWN, "ty": 4, "rqi": "r",
            "rvi": "3", "pc": {"m2m:cin": {"con": qos}}});
        let mut command = mosquitto("pub", gateway.mqtt_port(), LIGHT1);
        command.args(["-i", "A::Clight-AE1", "-q", qos, "-t", REQ, "-s"]);
        let mut running = command.stdin(Stdio::piped()).spawn().unwrap();
        running.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
        assert!(running.wait().unwrap().success());
        let mut http = Light::connect(gateway.port(), LIGHT1).unwrap();
        // With Quality of Service 0, the program ends before the request is carried out.
        wait_until("the value is there", || {
            let latest = http.ask(&Request::retrieve("/cse/light1/lamp/la").from(OWN)).unwrap();
            latest.status() == 200 && latest.json()["m2m:cin"]["con"] == qos
        });
    }
}

#[test]
fn mosquitto_sub_prints_notifications() {
    let gateway = Setup::new().with_mqtt().start();
    register(&gateway);
    let told = json!({"m2m:sub": {"rn": "told", "nu": [OWN], "enc": {"net": [3]}}});
    let request = json!({"op": 1, "to": "cse/light1/lamp", "fr": OWN, "ty": 23, "pc": told,
        "rqi": "r", "rvi": "3"});
    assert_eq!(ask(&gateway, &request)["rsc"], 2001);
    let mut command = mosquitto("sub", gateway.mqtt_port(), LIGHT1);
    command.args(["-i", "A::Clight-AE1", "-q", "1", "-t", "/oneM2M/req/+/Clight-AE1/#", "-v"]);
    let running = Running::start(&mut command);
    let mut http = Light::connect(gateway.port(), LIGHT1).unwrap();
    let request = Request::create_instance("/cse/light1/lamp", "on").from(OWN);
    http.ask(&request).unwrap().expect(201, 2001);
    let line = running.out.wait(BOUND, |bytes, _| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.contains('\n').then_some(text)
    });
    let line = line.unwrap_or_else(|| panic!("{}", running.err.text()));
    let (topic, payload) = line.split_once(' ').unwrap();
    assert_eq!(topic, "/oneM2M/req/mn-cse-123456/Clight-AE1/json");
    let request: Value = serde_json::from_str(payload).unwrap();
    assert_eq!(request["pc"]["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"], "on", "{request}");
}
