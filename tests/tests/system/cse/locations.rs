//! A place that is set by hand, from outside, and the schedules of a node and of the CSE.

use saegis_tests::{LIGHT1, LIGHT2, Light, Message, Reply, Request, Response, Setup, Upstream};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";

fn create(light: &mut Light, path: &str, ty: u16, content: Value) -> Response {
    light.ask(&Request::create(path, ty, &content).from(OWN)).unwrap()
}

fn start() -> (saegis_tests::Gateway, Light) {
    let gateway = Setup::new()
        .with("cse", "administrators = [\"Clight-AE1\"]")
        .with("notifications", "targets = [\"127.0.0.1\"]")
        .start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    (gateway, light)
}

#[test]
fn place_is_set_by_hand() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let (gateway, mut light) = start();
    let policy = json!({"m2m:lcp": {"rn": "place", "los": 2, "lit": 1, "lon": "where"}});
    let policy = create(&mut light, "/cse", 10, policy).expect(201, 2001).json();
    let container = policy["m2m:lcp"]["loi"].as_str().unwrap().to_owned();
    let address = format!("http://127.0.0.1:{}/", target.port());
    let sub = json!({"m2m:sub": {"nu": [address], "enc": {"net": [3]}}});
    create(&mut light, "/cse/where", 23, sub).expect(201, 2001);
    let place = json!({"m2m:cin": {"con": {"type": "Point", "coordinates": [2.35, 48.85]}}});
    create(&mut light, "/cse/where", 4, place.clone()).expect(201, 2001);
    let told: &Message = &target.wait(2)[1];
    let told: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(told["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"], place["m2m:cin"]["con"]);
    for (los, status, rsc) in [(1, 501, 5001), (3, 501, 5001), (4, 400, 4000)] {
        let policy = json!({"m2m:lcp": {"los": los}});
        create(&mut light, "/cse", 10, policy).expect_refusal(status, rsc);
    }
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    other.ask(&Request::create_ae("light2").from(OTHER)).unwrap().expect(201, 2001);
    let policy = json!({"m2m:lcp": {"los": 2}});
    let policy = Request::create("/cse", 10, &policy).from(OTHER);
    other.ask(&policy).unwrap().expect_refusal(403, 4103);
    let theirs = Request::retrieve("/cse/where/la").from(OTHER);
    other.ask(&theirs).unwrap().expect_refusal(403, 4103);

    drop((light, other));
    let gateway = gateway.kill_and_restart();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let latest = Request::retrieve(&format!("/{container}/la")).from(OWN);
    let latest = light.ask(&latest).unwrap().expect(200, 2000).json();
    assert_eq!(latest["m2m:cin"]["con"], place["m2m:cin"]["con"]);
    light.ask(&Request::delete("/cse/place").from(OWN)).unwrap().expect(200, 2002);
    light.ask(&Request::retrieve("/cse/where").from(OWN)).unwrap().expect_refusal(404, 4004);
}

#[test]
fn node_and_cse_have_schedules() {
    let (_gateway, mut light) = start();
    let schedule =
        |name: &str| json!({"m2m:sch": {"rn": name, "se": {"sce": ["* * 8-20 * * * *"]}}});
    create(&mut light, "/cse", 18, schedule("hours")).expect(201, 2001);
    create(&mut light, "/cse", 18, schedule("more")).expect_refusal(406, 5207);
    let node = json!({"m2m:nod": {"rn": "node", "ni": "n1"}});
    create(&mut light, "/cse", 14, node).expect(201, 2001);
    create(&mut light, "/cse/node", 18, schedule("one")).expect(201, 2001);
    create(&mut light, "/cse/node", 18, schedule("two")).expect(201, 2001);
    create(&mut light, "/cse/light1", 18, schedule("own")).expect_refusal(403, 4108);
    let coordinated = json!({"m2m:sch": {"se": {"sce": ["* * * * * * *"]}, "nco": true}});
    create(&mut light, "/cse/node", 18, coordinated).expect_refusal(501, 5001);
    let coordinated = json!({"m2m:sch": {"nco": false}});
    let coordinated = Request::update("/cse/hours", &coordinated).from(OWN);
    light.ask(&coordinated).unwrap().expect_refusal(400, 4102);
}
