//! The store becomes smaller while the gateway runs, and loses nothing.

use std::fs;

use saegis_tests::{LIGHT1, Light, Request, Setup, eventually};
use serde_json::json;

const OWN: &str = "Clight-AE1";

#[test]
fn store_is_compacted_while_gateway_runs() {
    let gateway = Setup::new().start();
    let store = gateway.path("state/cse.redb");
    let length = || fs::metadata(&store).unwrap().len();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut ask = |request: Request| light.ask(&request.from(OWN)).unwrap();
    ask(Request::create_ae("light1")).expect(201, 2001);
    for name in ["first", "second", "kept"] {
        ask(Request::create_container("/cse/light1", name)).expect(201, 2001);
    }
    let large = "x".repeat(60_000);
    for n in 0..400 {
        let container = if n % 2 == 0 { "first" } else { "second" };
        ask(Request::create_instance(&format!("/cse/light1/{container}"), &large))
            .expect(201, 2001);
        // Its pages are between those that become free.
        let small = json!({"m2m:cin": {"rn": format!("n{n}"), "con": n}});
        ask(Request::create("/cse/light1/kept", 4, &small)).expect(201, 2001);
    }
    let before = length();
    for name in ["first", "second"] {
        ask(Request::delete(&format!("/cse/light1/{name}"))).expect(200, 2002);
    }
    let compacted = gateway.log().wait("cse.store-compacted");
    assert!(compacted.number("after") < compacted.number("before"), "{compacted:?}");
    eventually(|| if length() < before / 4 { Ok(()) } else { Err((before, length())) });
    // Requests are answered as before, and a kill loses nothing.
    ask(Request::create_container("/cse/light1", "new")).expect(201, 2001);
    drop(light);
    let gateway = gateway.kill_and_restart();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    for n in 0..400 {
        let kept = Request::retrieve(&format!("/cse/light1/kept/n{n}")).from(OWN);
        let kept = light.ask(&kept).unwrap().expect(200, 2000).json();
        assert_eq!(kept["m2m:cin"]["con"], n);
    }
    let new = Request::retrieve("/cse/light1/new").from(OWN);
    light.ask(&new).unwrap().expect(200, 2000);
}
