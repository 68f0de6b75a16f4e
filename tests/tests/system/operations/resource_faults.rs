//! Faults of the environment while resources of each type are created: a resource that was confirmed
//! is there afterwards, and one that was refused is not.

use std::fs;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use saegis_tests::{BOUND, LIGHT1, Light, Request, Setup, eventually};
use serde_json::{Value, json};

use super::faults::{small_disk, with_small_disk};

const OWN: &str = "Clight-AE1";

/// Returns the settings of a gateway whose light may create resources below the CSEBase as well.
fn setup() -> Setup {
    Setup::new().with("cse", "administrators = [\"Clight-AE1\"]")
}

/// Creates the parents of the others.
fn prepare(light: &mut Light) {
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    for (path, ty, content) in [
        ("/cse", 14, json!({"m2m:nod": {"rn": "node", "ni": "n1"}})),
        ("/cse/light1", 3, json!({"m2m:cnt": {"rn": "lamp"}})),
        ("/cse/light1", 29, json!({"m2m:ts": {"rn": "power"}})),
    ] {
        let create = Request::create(path, ty, &content).from(OWN);
        light.ask(&create).unwrap().expect(201, 2001);
    }
}

/// Returns the creation of a resource of each type with this number, and its address.
fn resources(n: usize) -> Vec<(String, Request)> {
    let filler = "x".repeat(2_000);
    let created = |parent: &str, ty: u16, root: &str, mut attributes: Value| {
        let name = format!("r{ty}-{n}");
        attributes["rn"] = json!(name);
        let content = json!({ root: attributes });
        (format!("{parent}/{name}"), Request::create(parent, ty, &content).from(OWN))
    };
    let time = format!("20261124T{:02}{:02}{:02}", n / 3600 % 24, n / 60 % 60, n % 60);
    vec![
        created(
            "/cse/light1",
            28,
            "cod:binSh",
            json!({
                "cnd": "org.onem2m.common.moduleclass.binarySwitch", "state": true, "fcied": true,
                "lbl": [filler[..250]],
            }),
        ),
        created("/cse/light1", 29, "m2m:ts", json!({"pei": 1000, "or": filler[..1000]})),
        created("/cse/light1/power", 30, "m2m:tsi", json!({"con": filler, "dgt": time})),
        created(
            "/cse/node",
            13,
            "m2m:bat",
            json!({
                "mgd": 1006, "btl": 50, "bts": 1, "dc": filler[..1000],
            }),
        ),
        created("/cse/node", 18, "m2m:sch", json!({"se": {"sce": ["* * 8-20 * * * *"]}})),
        created("/cse", 10, "m2m:lcp", json!({"los": 2, "lbl": [filler[..250]]})),
        created("/cse/light1", 9, "m2m:grp", json!({"mnm": 2, "mid": ["cse/light1/lamp"]})),
        created("/cse/light1/lamp", 4, "m2m:cin", json!({"con": filler})),
    ]
}

/// Returns whether a request with a stored result was accepted, with the address of the result.
fn stored_result(light: &mut Light) -> std::io::Result<Option<String>> {
    let answer = light.ask(&Request::retrieve("/cse/light1?rt=1").from(OWN))?;
    if answer.rsc() != Some(1001) {
        return Ok(None);
    }
    Ok(answer.json()["m2m:uri"].as_str().map(|uri| format!("/~{uri}")))
}

/// Creates resources of each type, and records those that were confirmed, until the gateway dies.
fn create_until_killed(
    light: &mut Light,
    start: usize,
    confirmed: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    for n in start.. {
        for (address, create) in resources(n) {
            if light.ask(&create)?.rsc() == Some(2001) {
                confirmed.lock().unwrap().push(address);
            }
        }
        // Few, because the number of results of an AE is limited.
        if n == start
            && let Some(address) = stored_result(light)?
        {
            confirmed.lock().unwrap().push(address);
        }
    }
    Ok(())
}

#[test]
fn each_resource_type_survives_power_cuts() {
    const ROUNDS: usize = 12;
    let mut gateway = setup().start();
    prepare(&mut Light::connect(gateway.port(), LIGHT1).unwrap());
    let confirmed = Mutex::new(Vec::new());
    for round in 0..ROUNDS {
        let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
        let before = confirmed.lock().unwrap().len();
        gateway = thread::scope(|scope| {
            let confirmed = &confirmed;
            scope.spawn(move || {
                create_until_killed(&mut light, round * 1000, confirmed).unwrap_err()
            });
            // At a different resource in each round.
            let deadline = Instant::now() + BOUND;
            while confirmed.lock().unwrap().len() < before + 9 + round {
                assert!(Instant::now() < deadline, "round {round}: no create was confirmed");
                thread::sleep(Duration::from_micros(200));
            }
            gateway.kill_and_restart()
        });
        assert!(!gateway.log().text().contains("cse.store-failed"), "round {round}");
    }
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    for address in confirmed.into_inner().unwrap() {
        light.ask(&Request::retrieve(&address).from(OWN)).unwrap().expect(200, 2000);
    }
}

#[test]
fn full_disk_refuses_each_resource_type() {
    let gateway = with_small_disk(setup(), "").start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    prepare(&mut light);
    let filler = small_disk(&gateway).join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    let full = std::io::copy(&mut std::io::repeat(0x5a), &mut file);
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let (mut confirmed, mut refused) = (Vec::new(), Vec::new());
    // The store has some free pages. When the disk is full, creates of no type succeed.
    for n in 0..2_000 {
        let all = resources(n);
        let number = all.len();
        let mut failed = 0;
        for (address, create) in all {
            match light.ask(&create).unwrap().rsc() {
                Some(2001) => confirmed.push(address),
                _ => {
                    failed += 1;
                    refused.push(address);
                }
            }
        }
        if failed == number {
            break;
        }
    }
    assert!(refused.len() >= 8, "the disk is not full: {}", confirmed.len());
    assert_eq!(stored_result(&mut light).unwrap(), None);
    gateway.log().wait("cse.store-failed");
    drop(file);
    fs::remove_file(filler).unwrap();
    for (_, create) in resources(100_000) {
        eventually(|| {
            let response = light.ask(&create).unwrap();
            // One that got no success may have been stored, if only its confirmation failed.
            if matches!(response.rsc(), Some(2001 | 4105)) { Ok(()) } else { Err(response) }
        });
    }
    for address in confirmed {
        light.ask(&Request::retrieve(&address).from(OWN)).unwrap().expect(200, 2000);
    }
    for address in refused {
        light.ask(&Request::retrieve(&address).from(OWN)).unwrap().expect_refusal(404, 4004);
    }
    assert!(stored_result(&mut light).unwrap().is_some());
}
