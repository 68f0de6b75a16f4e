//! Containers, instances and flexContainers that a home gateway announces to its IN-CSE (TS-0001
//! clause 10.2.13).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use saegis_tests::{Client, Gateway, LIGHT1, Reply, Request, Tool, Upstream, eventually};
use serde_json::{Value, json};

use super::pair::{LIGHT, MN, Pair, Saef, listening_socket};
use super::phone_at;

/// The policy of the phone, which lets it see what is announced with it.
const FAMILY: &str = "/in-cse/cse/phone/family";

/// Registers the light at home, and creates the policy of the phone at the IN-CSE.
fn start(infrastructure: &Gateway, home: &Gateway) -> (Client, Client) {
    let mut phone = phone_at(infrastructure);
    let policy = json!({"m2m:acp": {
        "rn": "family",
        "pv": {"acr": [{"acor": ["Cphone"], "acop": 63}]},
        "pvs": {"acr": [{"acor": ["Cphone"], "acop": 63}]},
    }});
    phone.ask(&Request::create("/cse/phone", 1, &policy).from("Cphone")).expect(201, 2001);
    (light_at(home), phone)
}

fn light_at(home: &Gateway) -> Client {
    let mut light = Tool::OpenSsl.connect(home.port(), LIGHT1);
    light.ask(&Request::create_ae("light1").from(LIGHT)).expect(201, 2001);
    let own = json!({"m2m:acp": {
        "rn": "own",
        "pv": {"acr": [{"acor": [LIGHT], "acop": 63}]},
        "pvs": {"acr": [{"acor": [LIGHT], "acop": 63}]},
    }});
    light.ask(&Request::create("/cse/light1", 1, &own).from(LIGHT)).expect(201, 2001);
    light
}

/// Returns a container of the light with a name, which is announced.
fn announced(name: &str) -> Request {
    let lamp = json!({"m2m:cnt": {
        "rn": name, "lbl": [name], "at": ["/in-cse"], "acpi": ["cse/light1/own", FAMILY],
    }});
    Request::create("/cse/light1", 3, &lamp).from(LIGHT)
}

/// Returns the resources with a label that the phone discovers at the IN-CSE.
fn found(phone: &mut Client, label: &str) -> Vec<String> {
    let find = Request::retrieve(&format!("/cse?fu=1&lbl={label}")).from("Cphone");
    let found = phone.ask(&find).expect(200, 2000).json();
    let list = found["m2m:uril"].as_array().unwrap().iter();
    list.map(|address| address.as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn wait_for(phone: &mut Client, label: &str, number: usize) -> Vec<String> {
    eventually(|| {
        let found = found(phone, label);
        if found.len() == number { Ok(found) } else { Err(found) }
    })
}

fn phone_finds_what_light_announces(saef: Saef) {
    let (infrastructure, home) = Pair::new(saef).start();
    let (mut light, mut phone) = start(&infrastructure, &home);
    let created = light.ask(&announced("lamp")).expect(201, 2001).json();
    let at = created["m2m:cnt"]["at"][0].as_str().expect("an address").to_owned();
    assert!(at.starts_with("/in-cse/"), "{at}");
    let found = wait_for(&mut phone, "lamp", 1);
    let copy = phone.ask(&Request::retrieve(&format!("/{}", found[0])).from("Cphone"));
    let copy = copy.expect(200, 2000).json()["m2m:cntA"].clone();
    assert_eq!(format!("/in-cse/{}", copy["ri"].as_str().unwrap()), at);
    let ri = created["m2m:cnt"]["ri"].as_str().unwrap();
    assert_eq!(copy["lnk"], format!("/{MN}/{ri}"));
    // The original is where the link says, for those whom the light lets see it.
    let original = format!("/~{}", copy["lnk"].as_str().unwrap());
    phone.ask(&Request::retrieve(&original).from("Cphone")).expect_refusal(403, 4103);
    light.ask(&Request::retrieve(&original).from(LIGHT)).expect(200, 2000);
    // Only the home gateway changes the announcement.
    let change = json!({"m2m:cntA": {"lbl": ["other"]}});
    let path = format!("/{}", found[0]);
    phone.ask(&Request::update(&path, &change).from("Cphone")).expect_refusal(403, 4103);
    phone.ask(&Request::delete(&path).from("Cphone")).expect_refusal(403, 4103);

    let value = json!({"m2m:cin": {
        "con": "on", "lbl": ["value"], "at": ["/in-cse"], "aa": ["con"],
    }});
    let value = Request::create("/cse/light1/lamp", 4, &value).from(LIGHT);
    let value = light.ask(&value).expect(201, 2001).json();
    assert!(value["m2m:cin"]["at"][0].is_string(), "{value}");
    let found = wait_for(&mut phone, "value", 1);
    let copy = phone.ask(&Request::retrieve(&format!("/{}", found[0])).from("Cphone"));
    assert_eq!(copy.expect(200, 2000).json()["m2m:cinA"]["con"], "on");

    let switch = json!({"cod:binSh": {
        "rn": "switch", "cnd": "org.onem2m.common.moduleclass.binarySwitch", "state": false,
        "lbl": ["switch"], "at": ["/in-cse"], "aa": ["state"], "acpi": ["cse/light1/own", FAMILY],
    }});
    light.ask(&Request::create("/cse/light1", 28, &switch).from(LIGHT)).expect(201, 2001);
    let switch = wait_for(&mut phone, "switch", 1);
    let state = |phone: &mut Client| {
        let copy = phone.ask(&Request::retrieve(&format!("/{}", switch[0])).from("Cphone"));
        copy.expect(200, 2000).json()["cod:binShAnnc"]["state"].clone()
    };
    assert_eq!(state(&mut phone), false);
    let on = json!({"cod:binSh": {"state": true}});
    light.ask(&Request::update("/cse/light1/switch", &on).from(LIGHT)).expect(200, 2004);
    eventually(|| {
        let state = state(&mut phone);
        if state == true { Ok(()) } else { Err(state) }
    });

    // Without the policy, the phone does not see it any more.
    let acpi = |policies: &[&str]| json!({"cod:binSh": {"acpi": policies}});
    let closed = acpi(&["cse/light1/own"]);
    light.ask(&Request::update("/cse/light1/switch", &closed).from(LIGHT)).expect(200, 2004);
    wait_for(&mut phone, "switch", 0);
    let open = acpi(&["cse/light1/own", FAMILY]);
    light.ask(&Request::update("/cse/light1/switch", &open).from(LIGHT)).expect(200, 2004);
    wait_for(&mut phone, "switch", 1);

    // A change of the labels, the end of an announcement, and the end of its original.
    let renamed = json!({"m2m:cnt": {"lbl": ["renamed"]}});
    light.ask(&Request::update("/cse/light1/lamp", &renamed).from(LIGHT)).expect(200, 2004);
    wait_for(&mut phone, "renamed", 1);
    let ended = json!({"cod:binSh": {"at": null}});
    let ended = light.ask(&Request::update("/cse/light1/switch", &ended).from(LIGHT));
    assert_eq!(ended.expect(200, 2004).json()["cod:binSh"]["at"], Value::Null);
    wait_for(&mut phone, "switch", 0);
    light.ask(&Request::delete("/cse/light1").from(LIGHT)).expect(200, 2002);
    wait_for(&mut phone, "renamed", 0);
    wait_for(&mut phone, "value", 0);
}

#[test]
fn phone_finds_announced_resources_by_keys() {
    phone_finds_what_light_announces(Saef::Psk);
}

#[test]
fn phone_finds_announced_resources_by_certificates() {
    phone_finds_what_light_announces(Saef::Certificates);
}

#[test]
fn announcement_elsewhere_is_refused() {
    let (infrastructure, home) = Pair::new(Saef::Psk).start();
    let mut light = light_at(&home);
    for (at, aa, rsc, status) in [
        (json!(["/other-cse"]), json!(["mni"]), 5001, 501),
        (json!(["/in-cse/cse/phone"]), json!(["mni"]), 5001, 501),
        (json!(["/in-cse"]), json!(["lbl"]), 4000, 400),
        (json!("/in-cse"), json!(["mni"]), 4000, 400),
    ] {
        let lamp = json!({"m2m:cnt": {"rn": "lamp", "at": at, "aa": aa}});
        let lamp = Request::create("/cse/light1", 3, &lamp).from(LIGHT);
        light.ask(&lamp).expect_refusal(status, rsc);
    }
    light.ask(&Request::create_container("/cse/light1", "lamp").from(LIGHT)).expect(201, 2001);
    let value = json!({"m2m:cin": {"con": "on", "at": ["/in-cse"]}});
    let value = Request::create("/cse/light1/lamp", 4, &value).from(LIGHT);
    light.ask(&value).expect_refusal(405, 4005);
    // A CSE without a registrar CSE refuses the announcement of a resource.
    let mut phone = phone_at(&infrastructure);
    let lamp = json!({"m2m:cnt": {"rn": "lamp", "at": ["/in-cse"]}});
    let lamp = Request::create("/cse/phone", 3, &lamp).from("Cphone");
    phone.ask(&lamp).expect_refusal(501, 5001);
    let own = json!({"m2m:cbA": {"lnk": "/in-cse/cse"}});
    phone.ask(&Request::create("/cse", 10005, &own).from("Cphone")).expect_refusal(403, 4103);
}

/// The announcements that are not made yet are on disk.
#[test]
fn announcement_survives_kill_and_outage() {
    let (infrastructure, home) = Pair::new(Saef::Psk).start();
    let (mut light, mut phone) = start(&infrastructure, &home);
    light.ask(&announced("first")).expect(201, 2001);
    wait_for(&mut phone, "first", 1);
    drop(phone);
    // While the IN-CSE is away, the resource is created, and announced later.
    let infrastructure = {
        let mut stopped = infrastructure;
        stopped.stop();
        stopped
    };
    let waiting = light.ask(&announced("second")).expect(201, 2001).json();
    assert_eq!(waiting["m2m:cnt"]["at"], Value::Null);
    light.ask(&Request::delete("/cse/light1/first").from(LIGHT)).expect(200, 2002);
    drop(light);
    let home = home.kill_and_restart();
    let infrastructure = infrastructure.start_in_same_folder();
    let mut phone = Tool::GnuTls.connect(infrastructure.port(), super::pair::PHONE);
    wait_for(&mut phone, "second", 1);
    wait_for(&mut phone, "first", 0);
    let mut light = Tool::OpenSsl.connect(home.port(), LIGHT1);
    eventually(|| {
        let second = light.ask(&Request::retrieve("/cse/light1/second").from(LIGHT)).json();
        match second["m2m:cnt"]["at"][0].is_string() {
            true => Ok(()),
            false => Err(second),
        }
    });
}

/// Maximum number of bytes that the network of the home gateway lets pass without a response.
const MAX_BURST: usize = 20_000;

/// Starts a relay to a local port that breaks a connection with a larger request. Returns its port.
fn relay_without_large_requests(to: u16) -> u16 {
    let (listener, port) = listening_socket();
    // The threads end with the test process.
    thread::spawn(move || relay(&listener, to));
    port
}

fn relay(listener: &TcpListener, to: u16) {
    for client in listener.incoming().flatten() {
        let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
        let burst = Arc::new(AtomicUsize::new(0));
        let of_server = burst.clone();
        let (from, into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || {
            pass(from, into, |read| burst.fetch_add(read, Ordering::SeqCst) + read <= MAX_BURST);
        });
        thread::spawn(move || {
            pass(server, client, |_| {
                of_server.store(0, Ordering::SeqCst);
                true
            });
        });
    }
}

/// Passes bytes on as long as `may_pass` allows it, then closes both connections.
fn pass(mut from: TcpStream, mut to: TcpStream, may_pass: impl Fn(usize) -> bool) {
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        if !may_pass(read) || to.write_all(&chunk[..read]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// A request that the network does not let pass delays no other announcement.
#[test]
fn announcement_without_response_blocks_no_other() {
    let pair = Pair::with_address(Saef::Psk, |port| {
        format!("127.0.0.1:{}", relay_without_large_requests(port))
    });
    let (infrastructure, home) = pair.start();
    let (mut light, mut phone) = start(&infrastructure, &home);
    light.ask(&announced("first")).expect(201, 2001);
    wait_for(&mut phone, "first", 1);
    let large = json!({"m2m:cin": {
        "con": "x".repeat(2 * MAX_BURST), "at": ["/in-cse"], "aa": ["con"],
    }});
    light.ask(&Request::create("/cse/light1/first", 4, &large).from(LIGHT)).expect(201, 2001);
    home.log().wait("announcement.delayed");
    light.ask(&announced("second")).expect(201, 2001);
    wait_for(&mut phone, "second", 1);
    light.ask(&Request::delete("/cse/light1/second").from(LIGHT)).expect(200, 2002);
    wait_for(&mut phone, "second", 0);
}

/// The response to an announcement is small, even if the home gateway could not read it otherwise.
#[test]
fn large_content_is_announced() {
    let mut pair = Pair::new(Saef::Psk);
    pair.home = pair.home.with("limits", "content-bytes = 4096");
    let (infrastructure, home) = pair.start();
    let (mut light, mut phone) = start(&infrastructure, &home);
    light.ask(&announced("first")).expect(201, 2001);
    wait_for(&mut phone, "first", 1);
    let large = json!({"m2m:cin": {
        "con": "x".repeat(3900), "lbl": ["large"], "at": ["/in-cse"], "aa": ["con"],
    }});
    let created = light.ask(&Request::create("/cse/light1/first", 4, &large).from(LIGHT));
    created.expect(201, 2001);
    wait_for(&mut phone, "large", 1);
    light.ask(&announced("second")).expect(201, 2001);
    wait_for(&mut phone, "second", 1);
}

/// A registrar CSE that ignores the conditions of a discovery returns other announcements as well.
#[test]
fn announcement_of_other_resource_is_not_adopted() {
    let registered = "{\"m2m:csr\":{\"ri\":\"csr-mn\",\"et\":\"20991231T000000\"}}";
    let upstream = Upstream::start(Reply::answer(201, 2001, registered));
    let mut pair = Pair::new(Saef::Psk);
    pair.infrastructure = pair.infrastructure.upstream(upstream.port());
    let (_infrastructure, home) = pair.start();
    let found = "{\"m2m:uril\":[\"cse/foreign\"]}";
    upstream.reply_with(Reply::ByMethod(vec![
        ("POST", Reply::bytes(409, 4105, "{\"m2m:dbg\":\"there is one\"}")),
        ("GET", Reply::bytes(200, 2000, found)),
        ("PUT", Reply::bytes(200, 2004, "{}")),
        ("DELETE", Reply::bytes(200, 2002, "{}")),
    ]));
    let mut light = light_at(&home);
    // The response waits for the attempt to announce it.
    light.ask(&announced("lamp")).expect(201, 2001);
    let requests = upstream.requests();
    let lines = requests.iter().map(|request| request.line.as_str());
    let lines: Vec<_> = lines.filter(|line| line.contains("foreign")).collect();
    assert!(!lines.is_empty(), "{}", upstream.text());
    assert!(lines.iter().all(|line| line.starts_with("GET")), "{lines:?}");
}
