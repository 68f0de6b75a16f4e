//! A timeSeries from outside: unique generation times, and reports of missing data.

use saegis_tests::{LIGHT1, Light, Reply, Request, Response, Setup, Upstream};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const POWER: &str = "/cse/light1/power";

fn create(light: &mut Light, path: &str, ty: u16, content: Value) -> Response {
    light.ask(&Request::create(path, ty, &content).from(OWN)).unwrap()
}

#[test]
fn missing_data_are_reported() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let gateway = Setup::new().with("notifications", "targets = [\"127.0.0.1\"]").start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    let series = json!({"m2m:ts": {"rn": "power", "pei": 1000, "mdt": 1000, "mdd": true}});
    create(&mut light, "/cse/light1", 29, series).expect(201, 2001);
    let address = format!("http://127.0.0.1:{}/", target.port());
    let enc = json!({"net": [8], "md": {"num": 2, "dur": "PT1H"}});
    create(&mut light, POWER, 23, json!({"m2m:sub": {"nu": [address], "enc": enc}}))
        .expect(201, 2001);
    let base = light.ask(&Request::retrieve("/cse").from(OWN)).unwrap().expect(200, 2000).json();
    let instance = json!({"m2m:tsi": {"con": 21.5, "dgt": base["m2m:cb"]["ctm"], "snr": 1}});
    create(&mut light, POWER, 30, instance.clone()).expect(201, 2001);
    create(&mut light, POWER, 30, instance).expect_refusal(409, 4105);
    let report: Value = serde_json::from_slice(&target.wait(2)[1].body).unwrap();
    let event = &report["m2m:sgn"]["nev"];
    let data = &event["rep"]["m2m:tsn"];
    // A late detection finds more.
    let times = data["mdlt"].as_array().map_or(0, Vec::len);
    assert!(times >= 2, "{report}");
    assert_eq!((&event["net"], &data["mdc"]), (&json!(8), &json!(times)));
    let now = light.ask(&Request::retrieve(POWER).from(OWN)).unwrap().expect(200, 2000).json();
    assert!(now["m2m:ts"]["mdc"].as_u64().is_some_and(|count| count >= 2), "{now}");
    let latest = Request::retrieve("/cse/light1/power/la").from(OWN);
    let latest = light.ask(&latest).unwrap().expect(200, 2000).json();
    assert_eq!(latest["m2m:tsi"]["con"], 21.5);
}

#[test]
fn monitoring_is_limited() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let gateway = Setup::new().with("notifications", "targets = [\"127.0.0.1\"]").start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    let series =
        |name: &str| json!({"m2m:ts": {"rn": name, "pei": 1000, "mdt": 1000, "mdd": true}});
    create(&mut light, "/cse/light1", 29, series("power")).expect(201, 2001);
    for n in 1..64 {
        create(&mut light, "/cse/light1", 29, series(&format!("s{n}"))).expect(201, 2001);
    }
    create(&mut light, "/cse/light1", 29, series("more")).expect_refusal(406, 5207);
    let address = format!("http://127.0.0.1:{}/", target.port());
    let enc = json!({"net": [8], "md": {"num": 1, "dur": "PT1S"}});
    create(&mut light, POWER, 23, json!({"m2m:sub": {"nu": [address], "enc": enc}}))
        .expect(201, 2001);
    // One report has the last values before the start, and not all of those since 1970.
    let instance = json!({"m2m:tsi": {"con": 0, "dgt": "19700101T000000"}});
    create(&mut light, POWER, 30, instance).expect(201, 2001);
    let report: Value = serde_json::from_slice(&target.wait(2)[1].body).unwrap();
    let times = report["m2m:sgn"]["nev"]["rep"]["m2m:tsn"]["mdlt"].as_array().unwrap().len();
    assert!((3..100).contains(&times), "{report}");
}
