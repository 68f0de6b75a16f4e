//! Filters and parameters of retrievals, from outside.

use saegis_tests::{LIGHT1, Light, Request, Setup};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";

fn ask(light: &mut Light, path: &str) -> saegis_tests::Response {
    light.ask(&Request::retrieve(path).from(OWN)).unwrap()
}

#[test]
fn discovery_is_filtered_below_parents_that_do_not_match() {
    let gateway = Setup::new().start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    for (parent, name, label) in [
        ("/cse/light1", "a", "outer"),
        ("/cse/light1/a", "b", "wanted"),
        ("/cse/light1/a/b", "c", "wanted"),
    ] {
        let container = json!({"m2m:cnt": {"rn": name, "lbl": [label], "mni": 7}});
        light.ask(&Request::create(parent, 3, &container).from(OWN)).unwrap().expect(201, 2001);
    }
    let instance = Request::create_instance("/cse/light1/a/b", "on").from(OWN);
    light.ask(&instance).unwrap().expect(201, 2001);
    let (a, b, c) = ("cse/light1/a", "cse/light1/a/b", "cse/light1/a/b/c");
    for (query, found) in [
        ("ty=3", vec![a, b, c]),
        // The parent does not match.
        ("lbl=wanted", vec![b, c]),
        ("ty=3&mni=7", vec![a, b, c]),
        ("ty=3&atr=mni,7", vec![a, b, c]),
        ("ty=3&mni=8", vec![]),
        ("ty=3&lvl=1", vec![a]),
        ("ty=3&lvl=2", vec![a, b]),
        ("ty=3&lim=2", vec![a, b]),
        ("ty=3&lim=2&ofst=2", vec![b, c]),
        ("lbl=wanted&arp=c", vec![c]),
        ("lbl=wanted&arp=..", vec![a, b]),
        ("ty=3&cra=20200101T000000,5", vec![a, b, c]),
        ("ty=3&crb=20200101T000000,999999", vec![]),
    ] {
        let path = format!("/cse/light1?fu=1&{query}");
        let answer = ask(&mut light, &path).expect(200, 2000).json();
        let mut addresses = answer["m2m:uril"].as_array().cloned().unwrap_or_default();
        addresses.sort_by_key(|address| address.to_string());
        assert_eq!(addresses, found.iter().map(|f| json!(f)).collect::<Vec<Value>>(), "{query}");
    }
    for (query, rsc) in [
        ("fu=1&lvl=0", 4000),
        ("fu=1&lim=x", 4000),
        ("fu=1&ofst=0", 4000),
        ("fu=1&arp=/x", 4000),
        ("fu=1&crb=20200101T000000,", 4000),
        ("fu=1&sqi=true", 5001),
        ("fu=1&smf=x", 5001),
        ("fu=1&p.lbl=x", 5001),
    ] {
        let answer = ask(&mut light, &format!("/cse/light1?{query}"));
        assert_eq!(answer.rsc(), Some(rsc), "{query}");
        assert!(answer.json()["m2m:dbg"].is_string(), "{query}: a reason");
    }
}

#[test]
fn vendor_information_and_flexible_requests_are_accepted() {
    let gateway = Setup::new().start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    let vendor = Request::retrieve("/cse/light1?rt=4").from(OWN).header("X-M2M-VSI", "a vendor");
    light.ask(&vendor).unwrap().expect(200, 2000);
    // It is part of the request that is executed later.
    let vendor = Request::retrieve("/cse/light1?rt=1").from(OWN).header("X-M2M-VSI", "a vendor");
    let answer = light.ask(&vendor).unwrap().expect(202, 1001).json();
    let path = format!("/~{}", answer["m2m:uri"].as_str().unwrap());
    let stored = ask(&mut light, &path).expect(200, 2000).json();
    assert_eq!(stored["m2m:req"]["mi"]["vsi"], "a vendor", "{stored}");
}
