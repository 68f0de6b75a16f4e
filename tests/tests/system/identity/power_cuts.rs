//! An AE and its binding survive or vanish together: after a kill at any moment each device can register,
//! or is registered, and serves; and an operator can remove an AE with all that is its.

use std::sync::Barrier;
use std::time::Duration;

use saegis_tests::{Credential, Gateway, Light, Reply, Request, Setup, Upstream, saegis};

/// Devices that register in each round.
const AT_ONCE: usize = 4;

/// A device whose AE-ID no policy names.
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

    /// It registers, or is registered, and is who it was.
    #[track_caller]
    fn goes_on(&self, gateway: &Gateway) {
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

/// Kills the gateway so many times while devices register, half of which also delete themselves again.
fn cuts(count: usize) {
    let rows = table(count * AT_ONCE);
    let mut gateway = Setup::new().file("psk-lookup-table.csv", &rows).start();
    let mut moment = 1_u64;
    for round in 0..count {
        let devices: Vec<_> = (0..AT_ONCE).map(|n| Device::new(round * AT_ONCE + n)).collect();
        let (port, start) = (gateway.port(), Barrier::new(AT_ONCE + 1));
        // Any moments do, as long as they are spread over the registrations.
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
        gateway = gateway.cut_and_start();
        for device in &devices {
            device.goes_on(&gateway);
        }
    }
}

#[test]
fn no_cut_locks_a_device_out() {
    cuts(40);
}

#[test]
#[ignore = "takes minutes with a gateway for development; cargo xtask load runs it"]
fn load_of_two_hundred_cuts() {
    cuts(200);
}

fn answer(created: &str, app_id: &str) -> String {
    format!("{{\"m2m:ae\":{{\"aei\":\"Ccut0\",\"api\":\"{app_id}\",\"ct\":\"{created}\"}}}}")
}

/// A time so many seconds from now, as oneM2M writes it.
fn time(seconds: i64) -> String {
    let date = std::process::Command::new("date")
        .args(["-u", &format!("--date={seconds} seconds"), "+%Y%m%dT%H%M%S"])
        .output();
    String::from_utf8(date.unwrap().stdout).unwrap().trim().into()
}

/// A CSE behind the gateway has registered the AE, and the gateway was killed before it had the answer.
fn cut_before_the_answer(upstream: &Upstream) -> Gateway {
    let setup = Setup::new().file("psk-lookup-table.csv", &table(2));
    let gateway = setup.upstream(upstream.port()).start();
    let mut light = Device::new(0).connect(gateway.port()).unwrap();
    let create = Device::new(0).create();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| light.ask(&create));
        upstream.wait(1);
        let gateway = gateway.cut_and_start();
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
fn a_registration_at_a_cse_behind_is_completed() {
    let upstream = Upstream::start(Reply::Held);
    let gateway = cut_before_the_answer(&upstream);
    upstream.reply_with(taken((200, 2000, &answer(&time(0), "Nlight"))));
    let device = Device::new(0);
    let mut light = device.connect(gateway.port()).unwrap();
    light.ask(&device.create()).unwrap().expect_refusal(403, 4117);
    light.ask(&device.retrieve()).unwrap().expect(200, 2000);
    assert_eq!(gateway.log().wait("ae-id.bound").text("ae_id"), device.stem);
    // Nobody else gets it by the same way.
    let mut other = Device::new(1).connect(gateway.port()).unwrap();
    other.ask(&device.create()).unwrap().expect_refusal(403, 4117);
    other.ask(&device.retrieve()).unwrap().expect_refusal(403, 4106);
}

/// What was there before, or is another application's, is not the device's.
#[test]
fn an_ae_of_somebody_else_is_not_completed() {
    let (now, then) = (time(0), time(-3600));
    for retrieved in [
        (200, 2000, &*answer(&then, "Nlight")),
        (200, 2000, &*answer(&now, "Nother")),
        (200, 2000, "{\"m2m:ae\":{\"aei\":\"Cother\"}}"),
        (403, 4103, "{}"),
    ] {
        let upstream = Upstream::start(Reply::Held);
        let gateway = cut_before_the_answer(&upstream);
        upstream.reply_with(taken(retrieved));
        let device = Device::new(0);
        let mut light = device.connect(gateway.port()).unwrap();
        light.ask(&device.create()).unwrap().expect_refusal(403, 4117);
        light.ask(&device.retrieve()).unwrap().expect_refusal(403, 4106);
        // It was asked and answered: that is not asked about again.
        upstream.reply_with(taken((200, 2000, &answer(&now, "Nlight"))));
        light.ask(&device.create()).unwrap().expect_refusal(403, 4117);
        light.ask(&device.retrieve()).unwrap().expect_refusal(403, 4106);
        // Another AE-ID can be had.
        upstream.reply_with(Reply::answer(201, 2001, "{\"m2m:ae\":{\"aei\":\"Cnext\"}}"));
        light.ask(&Request::create_ae("next").from("Cnext")).unwrap().expect(201, 2001);
    }
}

/// A CSE that fails has not registered the device, and who registers the AE-ID afterwards is another.
#[test]
fn a_registration_that_was_refused_is_not_completed() {
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
fn an_operator_removes_an_ae_with_all_that_is_its() {
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
    assert_eq!(done["freed"], device.credential_id());
    light.ended().unwrap();
    assert_eq!(gateway.log().wait("ae.deleted").text("ae_id"), device.stem);
    assert!(saegis(&folder, &["--json", "ae-ids"]).expect(0).out.contains("[]"));
    // Another can have the AE-ID, without what was below it.
    let mut light = other.connect(gateway.port()).unwrap();
    light.ask(&Request::create_ae("cut0").from(&device.stem)).unwrap().expect(201, 2001);
    let own = || Request::retrieve("/cse/cut0/own").from(&device.stem);
    light.ask(&own()).unwrap().expect_refusal(404, 4004);
    // One that has no AE-ID any more, while its AE stays, is no dead end either, nor after a restart.
    saegis(&folder, &["release-ae-id", &other.credential_id()]).expect(0);
    let gateway = gateway.cut_and_start();
    assert!(saegis(&folder, &["--json", "ae-ids"]).expect(0).out.contains("[]"));
    let mut light = device.connect(gateway.port()).unwrap();
    let again = Request::create_ae("cut0").from(&device.stem);
    light.ask(&again).unwrap().expect_refusal(403, 4117);
    saegis(&folder, &["delete-ae", &device.stem]).expect(0);
    light.ask(&again).unwrap().expect(201, 2001);
    light.ask(&device.retrieve()).unwrap().expect(200, 2000);
}

#[test]
fn an_operator_removes_an_ae_at_a_cse_behind() {
    let upstream = Upstream::start(Reply::answer(201, 2001, "{\"m2m:ae\":{\"aei\":\"Ccut0\"}}"));
    let setup = Setup::new().file("psk-lookup-table.csv", &table(1));
    let gateway = setup.upstream(upstream.port()).start();
    let folder = gateway.path("");
    let device = Device::new(0);
    let mut light = device.connect(gateway.port()).unwrap();
    light.ask(&device.create()).unwrap().expect(201, 2001);
    // As long as the CSE does not delete it, it is the device's.
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

/// A registration that is under way is waited for, and removed with its binding.
#[test]
fn an_operator_removes_an_ae_that_is_being_registered() {
    let upstream = Upstream::start(Reply::Held);
    let setup = Setup::new().file("psk-lookup-table.csv", &table(1));
    let gateway = setup.upstream(upstream.port()).start();
    let folder = gateway.path("");
    let device = Device::new(0);
    let mut light = device.connect(gateway.port()).unwrap();
    std::thread::scope(|scope| {
        let registering = scope.spawn(|| light.ask(&device.create()));
        upstream.wait(1);
        let removing = scope.spawn(|| saegis(&folder, &["--json", "delete-ae", &device.stem]));
        // Long enough for the command to have come.
        std::thread::sleep(std::time::Duration::from_millis(500));
        upstream.reply_with(Reply::ByMethod(vec![
            ("POST", Reply::bytes(201, 2001, "{\"m2m:ae\":{\"aei\":\"Ccut0\"}}")),
            ("DELETE", Reply::bytes(200, 2002, "{}")),
        ]));
        registering.join().unwrap().unwrap().expect(201, 2001);
        let done = removing.join().unwrap().expect(0).json();
        assert_eq!(
            (&done["deleted"], &done["freed"]),
            (&true.into(), &device.credential_id().into())
        );
    });
    assert!(saegis(&folder, &["--json", "ae-ids"]).expect(0).out.contains("[]"));
}
