//! Cost of keys from a MAF. `cargo xtask load` runs it with a release build.

use std::fs;
use std::time::{Duration, Instant};

use saegis_tests::{Credential, Gateway, LIGHT1, Light, Request, seconds_from_now};
use serde_json::json;

use super::clients::KeyRequest;
use super::scene::{FQDN, IN_CSE, IN_KM, PHONE, PHONE_KM, Scene};

/// Almost as many keys as one client may register.
const KEYS: usize = 900;
const ROUNDS: usize = 3;
/// Kernel ticks in one second of CPU time.
const TICKS: f64 = 100.0;

/// Returns the CPU time of a process in seconds.
fn cpu_seconds(service: &Gateway) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", service.id())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let field = |n: usize| fields.split(' ').nth(n).unwrap().parse::<f64>().unwrap();
    (field(11) + field(12)) / TICKS
}

/// Runs `work` for each item, prints the CPU time of both services, and returns the median
/// duration.
fn measure(
    name: &str,
    services: [&Gateway; 2],
    each: &[String],
    mut work: impl FnMut(&str),
) -> Duration {
    let before = services.map(cpu_seconds);
    let mut took: Vec<_> = each
        .iter()
        .map(|one| {
            let start = Instant::now();
            work(one);
            start.elapsed()
        })
        .collect();
    took.sort_unstable();
    let median = took[took.len() / 2];
    let cpu = |n: usize| (cpu_seconds(services[n]) - before[n]) / took.len() as f64 * 1e6;
    let (gateway, maf) = (cpu(0), cpu(1));
    println!(
        "{name:34} median {median:>9.1?}, processor time at the gateway {gateway:>5.0} µs and at the MAF {maf:>5.0} µs each"
    );
    median
}

/// Returns a registered client of the MAF.
fn client(scene: &Scene, (identity, key): (&str, &str), id: &str) -> Light {
    let mut client = Light::connect(scene.maf.port(), Credential { identity, key }).unwrap();
    let content =
        json!({ "sec:mafClientReg": { "et": seconds_from_now(3600), "adfq": "in.provider.com" } });
    let request = Request::create("/~/maf/-", 61001, &content).from(id);
    client.ask(&request).unwrap().expect(201, 2001);
    client
}

#[test]
#[ignore = "a measurement; cargo xtask load runs it"]
fn load_of_maf_keys() {
    let scene = Scene::start();
    let mut phone = client(&scene, PHONE_KM, PHONE);
    let keys: Vec<String> = (0..KEYS)
        .map(|_| {
            let request = KeyRequest::USUAL.request().from(PHONE);
            let registered = phone.ask(&request).unwrap().expect(201, 2001).json();
            registered["sec:symmKeyReg"]["ri"].as_str().unwrap().into()
        })
        .collect();
    let services = [&scene.infrastructure, &scene.maf];
    let mut in_cse = client(&scene, IN_KM, IN_CSE);
    measure("retrieval at the MAF", services, &keys, |key| {
        let request = Request::retrieve(&format!("/~/maf/{key}")).from(IN_CSE);
        in_cse.ask(&request).unwrap().expect(200, 2000);
    });
    let handshake = |key: &str| {
        let identity = format!("{key}@{FQDN}");
        let credential = Credential { identity: &identity, key: super::clients::KEY };
        Light::connect(scene.infrastructure.port(), credential).unwrap().close();
    };
    measure("handshake, key fetched", services, &keys, handshake);
    for _ in 0..ROUNDS {
        measure("handshake, key in hand", services, &keys, handshake);
        measure("handshake, Kpsa of the table", services, &keys, |_| {
            Light::connect(scene.infrastructure.port(), LIGHT1).unwrap().close();
        });
    }
}
