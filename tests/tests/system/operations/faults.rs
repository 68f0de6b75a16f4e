//! Faults of the environment: power, disk, folders, clock.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use saegis_tests::{
    BOUND, Credential, Gateway, LIGHT1, LIGHT2, Light, Mark, Request, Setup, Tool, eventually,
    saegis,
};

/// One of many lights: its AE-ID, KpsaID and Kpsa.
struct LightAccount {
    stem: String,
    identity: String,
    key: String,
}

impl LightAccount {
    fn new(n: usize) -> Self {
        Self {
            stem: format!("Cmany{n}"),
            identity: format!("many{n}@in.provider.com"),
            key: format!("1a{n:030x}"),
        }
    }

    fn credential(&self) -> Credential<'_> {
        Credential { identity: &self.identity, key: &self.key }
    }

    fn row(&self) -> String {
        format!("{},{},{}\n", self.stem, self.key, self.identity)
    }
}

/// Addresses and values that were confirmed with 2001.
type Confirmed = Mutex<Vec<(String, String)>>;

/// Registers, creates a container and instances, and records confirmed creates, until the gateway
/// dies.
fn register(port: u16, light: &LightAccount, confirmed: &Confirmed) -> std::io::Result<()> {
    let mut association = Light::connect(port, light.credential())?;
    let stem = light.stem.as_str();
    let mut create = |request: Request, address: String, value: &str| {
        let response = association.ask(&request.from(stem))?;
        if response.rsc() == Some(2001) {
            confirmed.lock().unwrap().push((address, value.to_string()));
        }
        Ok::<_, std::io::Error>(())
    };
    create(Request::create_ae(stem), format!("/cse/{stem}"), "")?;
    create(
        Request::create_container(&format!("/cse/{stem}"), "lamp"),
        format!("/cse/{stem}/lamp"),
        "",
    )?;
    for n in 0.. {
        let name = format!("i{n}");
        let content =
            serde_json::json!({ "m2m:cin": { "rn": name, "con": format!("{stem}-{n}") } });
        let request = Request::create(&format!("/cse/{stem}/lamp"), 4, &content);
        create(request, format!("/cse/{stem}/lamp/{name}"), &format!("{stem}-{n}"))?;
    }
    Ok(())
}

/// The power fails during registrations, a hundred times. Each confirmed resource exists
/// afterwards, and the store opens.
#[test]
fn confirmed_resources_survive_hundred_power_cuts() {
    const ROUNDS: usize = 100;
    const LIGHTS_PER_ROUND: usize = 3;
    let lights: Vec<_> = (0..ROUNDS * LIGHTS_PER_ROUND).map(LightAccount::new).collect();
    let setup = Setup::new();
    let rows: String = lights.iter().map(LightAccount::row).collect();
    let table = fs::read_to_string(setup.table()).unwrap() + &rows;
    let mut gateway = setup.file("psk-lookup-table.csv", &table).start();
    let confirmed = Confirmed::default();
    for round in 0..ROUNDS {
        let port = gateway.port();
        let before = confirmed.lock().unwrap().len();
        gateway = thread::scope(|scope| {
            for light in &lights[round * LIGHTS_PER_ROUND..][..LIGHTS_PER_ROUND] {
                // The thread ends with the gateway.
                scope.spawn(|| register(port, light, &confirmed).unwrap_err());
            }
            // At a different moment in each round.
            let deadline = Instant::now() + BOUND;
            while confirmed.lock().unwrap().len() < before + 1 + round % 40 {
                assert!(Instant::now() < deadline, "round {round}: no create was confirmed");
                thread::sleep(Duration::from_micros(200));
            }
            gateway.kill_and_restart()
        });
        assert!(!gateway.log().text().contains("cse.store-failed"), "round {round}");
    }
    let confirmed = confirmed.into_inner().unwrap();
    assert!(confirmed.len() > ROUNDS * 10, "{} creates were confirmed", confirmed.len());
    for light in &lights {
        let mine = format!("/cse/{}", light.stem);
        let of = |(address, _): &&(String, String)| {
            *address == mine || address.starts_with(&format!("{mine}/"))
        };
        let mut association = None;
        for (address, value) in confirmed.iter().filter(of) {
            let association = association
                .get_or_insert_with(|| Light::connect(gateway.port(), light.credential()).unwrap());
            let request = Request::retrieve(address).from(&light.stem);
            let found = association.ask(&request).unwrap().expect(200, 2000).json();
            if !value.is_empty() {
                assert_eq!(found["m2m:cin"]["con"], value.as_str(), "{address}");
            }
        }
    }
}

/// Concurrent creates share a flush to disk. Each of them survives a kill right after its response.
#[test]
fn concurrent_creates_survive_kill() {
    const ROUNDS: usize = 5;
    let lights: Vec<_> = (0..ROUNDS * 20).map(LightAccount::new).collect();
    let setup = Setup::new();
    let rows: String = lights.iter().map(LightAccount::row).collect();
    let table = fs::read_to_string(setup.table()).unwrap() + &rows;
    let mut gateway = setup.file("psk-lookup-table.csv", &table).start();
    for lights in lights.chunks(lights.len() / ROUNDS) {
        let associations: Vec<_> = lights
            .iter()
            .map(|light| Light::connect(gateway.port(), light.credential()).unwrap())
            .collect();
        let start = Barrier::new(lights.len());
        thread::scope(|scope| {
            for (light, mut association) in lights.iter().zip(associations) {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let create = Request::create_ae(&light.stem).from(&light.stem);
                    association.ask(&create).unwrap().expect(201, 2001);
                });
            }
        });
        gateway = gateway.kill_and_restart();
        for light in lights {
            let mut association = Light::connect(gateway.port(), light.credential()).unwrap();
            let own = Request::retrieve(&format!("/cse/{}", light.stem)).from(&light.stem);
            association.ask(&own).unwrap().expect(200, 2000);
        }
    }
}

/// Starts a gateway whose `state` folder is a small separate disk.
pub(super) fn with_small_disk(setup: Setup, options: &str) -> Setup {
    let state = setup.path("state");
    fs::create_dir(&state).unwrap();
    let own = fs::metadata(&state).unwrap();
    let root = std::os::unix::fs::MetadataExt::uid(&own) == 0;
    // Without root, the mount happens in a user namespace.
    let flags = if root { "--mount" } else { "--map-root-user" };
    let script = format!(
        "mount -t tmpfs -o size=24m,mode=700 tmpfs '{0}' && {options} exec \"$@\"",
        state.display()
    );
    setup.started_through(&["unshare", flags, "--mount", "sh", "-c", &script, "sh"])
}

/// Returns the gateway's `state` folder as the gateway sees it.
pub(super) fn small_disk(gateway: &Gateway) -> PathBuf {
    let path = gateway.path("state");
    Path::new(&format!("/proc/{}/root", gateway.id())).join(path.strip_prefix("/").unwrap())
}

fn create(light: &mut Light, n: usize) -> saegis_tests::Response {
    let content = serde_json::json!({
        "m2m:cin": { "rn": format!("i{n}"), "con": format!("{n}{}", "x".repeat(20_000)) }
    });
    light.ask(&Request::create("/cse/light1/lamp", 4, &content).from("Clight-AE1")).unwrap()
}

#[test]
fn full_disk_is_reported_and_recovered_from() {
    let setup = Setup::new().with("audit", "file = \"state/audit/trail.jsonl\"").with_metrics();
    let gateway = with_small_disk(setup, "").start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).unwrap().expect(201, 2001);
    let lamp = Request::create_container("/cse/light1", "lamp").from("Clight-AE1");
    light.ask(&lamp).unwrap().expect(201, 2001);
    create(&mut light, 0).expect(201, 2001);
    // Another file fills the disk.
    let filler = small_disk(&gateway).join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    let full = std::io::copy(&mut std::io::repeat(0x5a), &mut file);
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let mut stored = vec![0];
    let mut next = 1;
    let refused = loop {
        let response = create(&mut light, next);
        match response.rsc() {
            Some(2001) => stored.push(next),
            _ => break response,
        }
        next += 1;
        assert!(next < 500, "the disk is not full");
    };
    refused.expect_refusal(500, 5000);
    let failed = gateway.log().wait("cse.store-failed");
    assert!(failed.message().contains("No space left on device"), "{failed:?}");
    // Impersonation is still refused, and associations stay.
    let other = Request::retrieve("/cse/light1").from("Clight-AE2");
    light.ask(&other).unwrap().expect_refusal(403, 4106);
    let mut second = Light::connect(gateway.port(), LIGHT2).unwrap();
    for _ in 0..5 {
        let response = create(&mut light, next);
        assert_ne!(response.rsc(), Some(2001), "the disk is full");
    }
    // Confirmed resources remain readable.
    let request = Request::retrieve("/cse/light1/lamp/i0").from("Clight-AE1");
    light.ask(&request).unwrap().expect(200, 2000);
    assert_eq!(gateway.monitor("/readyz").status, 503);
    drop(file);
    fs::remove_file(filler).unwrap();
    // The gateway detects the free space by itself.
    eventually(|| {
        let response = create(&mut light, next);
        if response.rsc() == Some(2001) { Ok(()) } else { Err(response) }
    });
    stored.push(next);
    for n in stored {
        let request = Request::retrieve(&format!("/cse/light1/lamp/i{n}")).from("Clight-AE1");
        let found = light.ask(&request).unwrap().expect(200, 2000).json();
        assert!(found["m2m:cin"]["con"].as_str().unwrap().starts_with(&format!("{n}x")));
    }
    let ae = Request::create_ae("light2").from("Clight-AE2");
    second.ask(&ae).unwrap().expect(201, 2001);
    assert_eq!(gateway.monitor("/readyz").status, 200);
    gateway.log().wait("cse.store-reopened");
}

#[test]
fn read_only_store_prevents_start() {
    let setup = with_small_disk(Setup::new(), "mount -o remount,ro \"$PWD/state\" &&");
    let ran = setup.run_until_exit();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("Read-only file system"), "{ran:?}");
}

/// The gateway detects the change without any other event.
#[test]
fn missing_policy_folder_does_not_end_gateway() {
    let mut gateway = Setup::new().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let (policies, moved) = (gateway.path("policies"), gateway.path("aside"));
    let gone = gateway.refused_after("the folder cannot be read", |_| {
        fs::rename(&policies, &moved).unwrap();
    });
    assert!(gone.message().contains("generation 1 stays in force"), "{gone:?}");
    // The generation stays in force.
    let nothing = Request::retrieve("/cse/nothing").from("Clight-AE1");
    light.ask(&nothing).expect_refusal(404, 4004);
    Tool::OpenSsl.connect(gateway.port(), LIGHT2).close();
    let row = "Cthird,00112233445566778899aabbccddeeff,third@in.provider.com\n";
    let table = fs::read_to_string(moved.join("psk-lookup-table.csv")).unwrap() + row;
    gateway.in_force_after(|_| {
        fs::write(moved.join("psk-lookup-table.csv"), table).unwrap();
        fs::rename(&moved, &policies).unwrap();
    });
    let third =
        Credential { identity: "third@in.provider.com", key: "00112233445566778899aabbccddeeff" };
    Tool::OpenSsl.connect(gateway.port(), third).close();
    assert!(gateway.runs());
}

/// libfaketime replaces the clock of the gateway.
#[test]
fn clock_jump_is_reported_without_effect() {
    let setup = Setup::new();
    let clock = setup.path("clock");
    fs::write(&clock, "+0").unwrap();
    let mut find = Command::new("sh");
    let found = find.args(["-c", "ls /usr/lib/*/faketime/libfaketimeMT.so.1"]).output().unwrap();
    let library = String::from_utf8(found.stdout).unwrap();
    assert!(!library.is_empty(), "Debian's libfaketime is missing; `cargo xtask test` installs it");
    let environment = [
        format!("LD_PRELOAD={}", library.trim()),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        "FAKETIME_NO_CACHE=1".into(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
    ];
    let env: Vec<_> =
        std::iter::once("env").chain(environment.iter().map(String::as_str)).collect();
    let mut gateway = setup.started_through(&env).start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).unwrap().expect(201, 2001);
    let lamp = Request::create_container("/cse/light1", "lamp").from("Clight-AE1");
    light.ask(&lamp).unwrap().expect(201, 2001);
    let mut latest = |value: &str| {
        let instance = Request::create_instance("/cse/light1/lamp", value).from("Clight-AE1");
        light.ask(&instance).unwrap().expect(201, 2001);
        let latest = Request::retrieve("/cse/light1/lamp/la").from("Clight-AE1");
        let latest = light.ask(&latest).unwrap().expect(200, 2000).json();
        assert_eq!(latest["m2m:cin"]["con"], value);
    };
    latest("before");
    for (offset, direction) in [("-1d", "back"), ("+1d", "ahead"), ("-400d", "back")] {
        let mark = gateway.log().mark();
        fs::write(&clock, offset).unwrap();
        let jumped = gateway.log().wait_after(mark, "clock.jumped");
        assert_eq!(jumped.text("way"), direction, "{jumped:?}");
        latest(&format!("after {offset}"));
        Light::connect(gateway.port(), LIGHT2).unwrap().close();
    }
    let row = "Cthird,00112233445566778899aabbccddeeff,third@in.provider.com\n";
    gateway.in_force_after(|g| g.replace("policies/psk-lookup-table.csv", g.table() + row));
    latest("at last");
    assert!(gateway.log().all(Mark::START, "association.revoked", 0).is_empty());
    gateway.signal("TERM");
    assert!(gateway.wait().unwrap().success());
    // A store with timestamps in the future opens.
    let folder = gateway.path("");
    saegis(&folder, &["check"]).expect(0);
}
