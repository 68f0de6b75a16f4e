//! Consistency of an AE and its AE-ID binding after a kill. Each device can register or is
//! registered, and an operator can remove an AE with all its resources.

use std::sync::Barrier;
use std::time::Duration;

use saegis_tests::{Credential, Gateway, Light, Reply, Request, Setup, Upstream, saegis};

/// Number of devices that register at once.
const DEVICES_PER_ROUND: usize = 4;

/// A device without an AE-ID in policy.
struct Device {
    key: String,
    identity: String,
    stem: String,
    name: String,
}

impl Device {
    fn new(n: usize) -> Self {
        Self {
            key: format!("{:032x}", n + 0x0102_0304_0506),
            identity: format!("cut{n}@in.provider.com"),
            stem: format!("Ccut{n}"),
            name: format!("cut{n}"),
        }
    }

    fn connect(&self, port: u16) -> std::io::Result<Light> {
        Light::connect(port, Credential { identity: &self.identity, key: &self.key })
    }

    fn credential_id(&self) -> String {
        format!("12-{}", self.identity)
    }

    fn create(&self) -> Request {
        Request::create_ae(&self.name).from(&self.stem)
    }

    fn retrieve(&self) -> Request {
        Request::retrieve(&format!("/cse/{}", self.name)).from(&self.stem)
    }

    fn delete(&self) -> Request {
        Request::delete(&format!("/cse/{}", self.name)).from(&self.stem)
    }

    /// Asserts that the device is registered, or registers now, and has access to its resources.
    #[track_caller]
    fn assert_registered(&self, gateway: &Gateway) {
        let mut light = self.connect(gateway.port()).unwrap();
        let registered = light.ask(&self.create()).unwrap();
        assert!(matches!(registered.rsc(), Some(2001 | 4117)), "{}: {registered:?}", self.stem);
        light.ask(&self.retrieve()).unwrap().expect(200, 2000);
        light
            .ask(&Request::create_container(&format!("/cse/{}", self.name), "own").from(&self.stem))
            .unwrap()
            .expect(201, 2001);
        light.close();
    }
}

fn table(count: usize) -> String {
    let mut rows = String::from("ae_id,kpsa,kpsa_id\n");
    for device in (0..count).map(Device::new) {
        rows.push_str(&format!(",{},{}\n", device.key, device.identity));
    }
    rows
}

/// Kills the gateway this many times while devices register. Half of them also delete themselves.
fn kill_during_registrations(count: usize) {
    let rows = table(count * DEVICES_PER_ROUND);
    let mut gateway = Setup::new().file("psk-lookup-table.csv", &rows).start();
    let mut moment = 1_u64;
    for round in 0..count {
        let devices: Vec<_> =
            (0..DEVICES_PER_ROUND).map(|n| Device::new(round * DEVICES_PER_ROUND + n)).collect();
        let (port, start) = (gateway.port(), Barrier::new(DEVICES_PER_ROUND + 1));
        // Pseudorandom moments, spread over the registrations.
        moment =
            moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let after = Duration::from_micros((moment >> 33) % 40_000);
        std::thread::scope(|scope| {
            for (n, device) in devices.iter().enumerate() {
                let start = &start;
                scope.spawn(move || {
                    let light = device.connect(port);
                    start.wait();
                    let Ok(mut light) = light else { return };
                    let registered = light.ask(&device.create());
                    if registered.is_ok() && n % 2 == 1 {
                        let _ = light.ask(&device.delete());
                    }
                });
            }
            start.wait();
            std::thread::sleep(after);
            gateway.signal("KILL");
        });
        gateway = gateway.kill_and_restart();
        for device in &devices {
            device.assert_registered(&gateway);
        }
    }
}

#[test]
fn device_can_register_after_kill() {
    kill_during_registrations(40);
}

#[test]
#[ignore = "takes minutes with a gateway for development; cargo xtask load runs it"]
fn load_of_two_hundred_kills() {
    kill_during_registrations(200);
}

fn answer(created: &str, app_id: &str) -> String {
    format!("{{\"m2m:ae\":{{\"aei\":\"Ccut0\",\"api\":\"{app_id}\",\"ct\":\"{created}\"}}}}")
}

/// Returns the time in this many seconds as a oneM2M timestamp.
fn time(seconds: i64) -> String {
    let date = std::process::Command::new("date")
        .args(["-u", &format!("--date={seconds} seconds"), "+%Y%m%dT%H%M%S"])
        .output();
    String::from_utf8(date.unwrap().stdout).unwrap().trim().into()
}

/// Kills the gateway after the CSE behind it has registered the AE, but before the response
/// arrives.
fn kill_before_response(upstream: &Upstream) -> Gateway {
    let setup = Setup::new().file("psk-lookup-table.csv", &table(2));
    let gateway = setup.upstream(upstream.port()).start();
    let mut light = Device::new(0).connect(gateway.port()).unwrap();
    let create = Device::new(0).create();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| light.ask(&create));
        upstream.wait(1);
        let gateway = gateway.kill_and_restart();
        assert!(asked.join().unwrap().is_err());
        gateway
    })
}

fn taken(retrieved: (u16, u16, &str)) -> Reply {
    let (status, rsc, content) = retrieved;
    Reply::ByMethod(vec![
        ("POST", Reply::bytes(403, 4117, "{\"m2m:dbg\":\"taken\"}")),
        ("GET", Reply::bytes(status, rsc, content)),
    ])
}

#[test]
fn upstream_registration_is_completed_after_kill() {
    let upstream = Upstream::start(Reply::Pending);
    let gateway = kill_before_response(&upstream);
    upstream.reply_with(taken((200, 2000, &answer(&time(0), "Nlight"))));
    let device = Device::new(0);
    let mut light = device.connect(gateway.port()).unwrap();
    light.ask(&device.create()).unwrap().expect_refusal(403, 4117);
    light.ask(&device.retrieve()).unwrap().expect(200, 2000);
    assert_eq!(gateway.log().wait("ae-id.bound").text("ae_id"), device.stem);
    // Another device cannot obtain the AE-ID this way.
    let mut other = Device::new(1).connect(gateway.port()).unwrap();
    other.ask(&device.create()).unwrap().expect_refusal(403, 4117);
    other.ask(&device.retrieve()).unwrap().expect_refusal(403, 4106);
}

/// An older AE, or an AE of another application, does not belong to the device.
#[test]
fn upstream_ae_of_other_device_is_not_bound() {
    let (now, then) = (time(0), time(-3600));
    for retrieved in [
        (200, 2000, &*answer(&then, "Nlight")),
        (200, 2000, &*answer(&now, "Nother")),
        (200, 2000, "{\"m2m:ae\":{\"aei\":\"Cother\"}}"),
        (403, 4103, "{}"),
    ] {
        let upstream = Upstream::start(Reply::Pending);
        let gateway = kill_before_response(&upstream);
        upstream.reply_with(taken(retrieved));
        let device = Device::new(0);
        let mut light = device.connect(gateway.port()).unwrap();
        light.ask(&device.create()).unwrap().expect_refusal(403, 4117);
        light.ask(&device.retrieve()).unwrap().expect_refusal(403, 4106);
        // The check was conclusive, so it is not repeated.
        upstream.reply_with(taken((200, 2000, &answer(&now, "Nlight"))));
        light.ask(&device.create()).unwrap().expect_refusal(403, 4117);
        light.ask(&device.retrieve()).unwrap().expect_refusal(403, 4106);
        // Another AE-ID is available.
        upstream.reply_with(Reply::answer(201, 2001, "{\"m2m:ae\":{\"aei\":\"Cnext\"}}"));
        light.ask(&Request::create_ae("next").from("Cnext")).unwrap().expect(201, 2001);
    }
}

/// An error response means that the AE is not registered. A later registration of the AE-ID belongs
/// to another device.
#[test]
fn refused_upstream_registration_is_not_completed() {
    for (status, rsc) in [(500, 5000), (504, 4008), (404, 5103)] {
        let upstream = Upstream::start(Reply::answer(status, rsc, "{\"m2m:dbg\":\"failed\"}"));
        let setup = Setup::new().file("psk-lookup-table.csv", &table(1));
        let gateway = setup.upstream(upstream.port()).start();
        let device = Device::new(0);
        let mut light = device.connect(gateway.port()).unwrap();
        light.ask(&device.create()).unwrap().expect_refusal(status, rsc);
        upstream.reply_with(taken((200, 2000, &answer(&time(0), "Nlight"))));
        light.ask(&device.create()).unwrap().expect_refusal(403, 4117);
        light.ask(&device.retrieve()).unwrap().expect_refusal(403, 4106);
    }
}

#[test]
fn delete_ae_removes_resources_and_binding() {
    let gateway = Setup::new().file("psk-lookup-table.csv", &table(2)).start();
    let folder = gateway.path("");
    let (device, other) = (Device::new(0), Device::new(1));
    let mut light = device.connect(gateway.port()).unwrap();
    light.ask(&device.create()).unwrap().expect(201, 2001);
    let own = Request::create_container("/cse/cut0", "own").from(&device.stem);
    light.ask(&own).unwrap().expect(201, 2001);
    saegis(&folder, &["delete-ae", "Cnobody"]).expect(4);
    saegis(&folder, &["delete-ae", "nobody"]).expect(4);
    let done = saegis(&folder, &["--json", "delete-ae", &device.stem]).expect(0).json();
    assert_eq!(done["deleted"], true);
    assert_eq!(done["credential_id"], device.credential_id());
    light.ended().unwrap();
    assert_eq!(gateway.log().wait("ae.deleted").text("ae_id"), device.stem);
    assert!(saegis(&folder, &["--json", "ae-ids"]).expect(0).out.contains("[]"));
    // Another device can register the AE-ID, without the old resources.
    let mut light = other.connect(gateway.port()).unwrap();
    light.ask(&Request::create_ae("cut0").from(&device.stem)).unwrap().expect(201, 2001);
    let own = || Request::retrieve("/cse/cut0/own").from(&device.stem);
    light.ask(&own()).unwrap().expect_refusal(404, 4004);
    // An AE without a binding can be removed as well, even after a restart.
    saegis(&folder, &["release-ae-id", &other.credential_id()]).expect(0);
    let gateway = gateway.kill_and_restart();
    assert!(saegis(&folder, &["--json", "ae-ids"]).expect(0).out.contains("[]"));
    let mut light = device.connect(gateway.port()).unwrap();
    let again = Request::create_ae("cut0").from(&device.stem);
    light.ask(&again).unwrap().expect_refusal(403, 4117);
    saegis(&folder, &["delete-ae", &device.stem]).expect(0);
    light.ask(&again).unwrap().expect(201, 2001);
    light.ask(&device.retrieve()).unwrap().expect(200, 2000);
}

#[test]
fn delete_ae_removes_upstream_ae() {
    let upstream = Upstream::start(Reply::answer(201, 2001, "{\"m2m:ae\":{\"aei\":\"Ccut0\"}}"));
    let setup = Setup::new().file("psk-lookup-table.csv", &table(1));
    let gateway = setup.upstream(upstream.port()).start();
    let folder = gateway.path("");
    let device = Device::new(0);
    let mut light = device.connect(gateway.port()).unwrap();
    light.ask(&device.create()).unwrap().expect(201, 2001);
    // The AE-ID stays bound until the CSE has deleted the AE.
    upstream.reply_with(Reply::answer(500, 5000, "{}"));
    saegis(&folder, &["delete-ae", &device.stem]).expect(4);
    assert!(saegis(&folder, &["ae-ids"]).expect(0).out.contains(&device.stem));
    upstream.reply_with(Reply::answer(200, 2002, "{}"));
    saegis(&folder, &["delete-ae", &device.stem]).expect(0);
    let asked = upstream.requests();
    let last = asked.last().unwrap();
    assert!(last.line.starts_with("DELETE /~/mn-cse-123456/cse/cut0 "), "{}", last.line);
    assert_eq!(last.values("x-m2m-origin"), [&*device.stem]);
    assert!(saegis(&folder, &["--json", "ae-ids"]).expect(0).out.contains("[]"));
    light.ended().unwrap();
}

/// The AE-ID is that of the CSE, and the address that of its response.
#[test]
fn delete_ae_removes_ae_with_id_that_upstream_chose() {
    let answer = "{\"m2m:ae\":{\"aei\":\"Cchosen\",\"ri\":\"Cchosen\"}}";
    let upstream = Upstream::start(Reply::answer(201, 2001, answer));
    let setup = Setup::new().file("psk-lookup-table.csv", &table(1));
    let gateway = setup.upstream(upstream.port()).start();
    let folder = gateway.path("");
    let device = Device::new(0);
    let mut light = device.connect(gateway.port()).unwrap();
    let create = || Request::create_ae(&device.name).from("C");
    light.ask(&create()).unwrap().expect(201, 2001);
    assert!(saegis(&folder, &["ae-ids"]).expect(0).out.contains("Cchosen"));
    upstream.reply_with(Reply::answer(200, 2002, "{}"));
    let done = saegis(&folder, &["--json", "delete-ae", "Cchosen"]).expect(0).json();
    assert_eq!(
        (&done["deleted"], &done["credential_id"]),
        (&true.into(), &device.credential_id().into())
    );
    let asked = upstream.requests();
    let last = asked.last().unwrap();
    assert!(last.line.starts_with("DELETE /~/mn-cse-123456/cse/cut0 "), "{}", last.line);
    assert_eq!(last.values("x-m2m-origin"), ["Cchosen"]);
    light.ended().unwrap();
    // The device may be another AE now.
    upstream.reply_with(Reply::answer(201, 2001, &answer.replace("Cchosen", "Cother")));
    let mut light = device.connect(gateway.port()).unwrap();
    light.ask(&create()).unwrap().expect(201, 2001);
    assert!(saegis(&folder, &["ae-ids"]).expect(0).out.contains("Cother"));
}

/// The command waits for a registration in progress, and then removes the AE and its binding.
#[test]
fn delete_ae_waits_for_pending_registration() {
    let upstream = Upstream::start(Reply::Pending);
    let setup = Setup::new().file("psk-lookup-table.csv", &table(1));
    let gateway = setup.upstream(upstream.port()).start();
    let folder = gateway.path("");
    let device = Device::new(0);
    let mut light = device.connect(gateway.port()).unwrap();
    std::thread::scope(|scope| {
        let registering = scope.spawn(|| light.ask(&device.create()));
        upstream.wait(1);
        let removing = scope.spawn(|| saegis(&folder, &["--json", "delete-ae", &device.stem]));
        // Long enough for the command to arrive.
        std::thread::sleep(std::time::Duration::from_millis(500));
        upstream.reply_with(Reply::ByMethod(vec![
            ("POST", Reply::bytes(201, 2001, "{\"m2m:ae\":{\"aei\":\"Ccut0\"}}")),
            ("DELETE", Reply::bytes(200, 2002, "{}")),
        ]));
        registering.join().unwrap().unwrap().expect(201, 2001);
        let done = removing.join().unwrap().expect(0).json();
        assert_eq!(
            (&done["deleted"], &done["credential_id"]),
            (&true.into(), &device.credential_id().into())
        );
    });
    assert!(saegis(&folder, &["--json", "ae-ids"]).expect(0).out.contains("[]"));
}
