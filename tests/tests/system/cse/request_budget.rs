//! What a request may use: time, work and the authority of its association. Who uses up its own
//! leaves others theirs, and what has ended changes nothing any more.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use saegis_tests::{BOUND, Gateway, LIGHT1, LIGHT2, Light, Request, Response, Setup};
use serde_json::{Value, json};

const EVIL: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";
const TABLE: &str = "policies/psk-lookup-table.csv";

/// Containers of the group that is written to.
const CONTAINERS: usize = 64;

fn evil(gateway: &Gateway) -> Light {
    Light::connect(gateway.port(), LIGHT1).unwrap()
}

#[track_caller]
fn ask(light: &mut Light, from: &str, request: Request) -> Response {
    light.ask(&request.from(from)).unwrap()
}

#[track_caller]
fn create(light: &mut Light, from: &str, parent: &str, ty: u16, resource: Value) {
    ask(light, from, Request::create(parent, ty, &resource)).expect(201, 2001);
}

/// Both lights, registered.
fn registered(gateway: &Gateway) -> (Light, Light) {
    let mut evil = evil(gateway);
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    ask(&mut evil, EVIL, Request::create_ae("light1")).expect(201, 2001);
    ask(&mut other, OTHER, Request::create_ae("light2")).expect(201, 2001);
    (evil, other)
}

/// Light 1's containers, which light 2 may see, and a group of them for each.
fn with_groups(gateway: &Gateway) -> (Light, Light) {
    let (mut evil, mut other) = registered(gateway);
    let rules = |who: &[&str]| json!({"acr": [{"acor": who, "acop": 63}]});
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": rules(&[EVIL, OTHER]), "pvs": rules(&[EVIL])}});
    create(&mut evil, EVIL, "/cse/light1", 1, acp);
    let mut members = Vec::new();
    for n in 0..CONTAINERS {
        let container = json!({"m2m:cnt": {"rn": format!("c{n}"), "acpi": ["cse/light1/acp"]}});
        create(&mut evil, EVIL, "/cse/light1", 3, container);
        members.push(format!("cse/light1/c{n}"));
    }
    let group = json!({"m2m:grp": {"rn": "all", "mnm": CONTAINERS, "mid": members}});
    create(&mut evil, EVIL, "/cse/light1", 9, group.clone());
    create(&mut other, OTHER, "/cse/light2", 9, group);
    (evil, other)
}

/// How many instances there are, and when the last was made.
#[track_caller]
fn instances(other: &mut Light) -> u64 {
    let all = ask(other, OTHER, Request::retrieve("/cse/light2/all/fopt")).expect(200, 2000);
    let all = all.json();
    let parts = all["m2m:agr"]["m2m:rsp"].as_array().unwrap();
    assert_eq!(parts.len(), CONTAINERS);
    parts.iter().map(|part| part["pc"]["m2m:cnt"]["cni"].as_u64().unwrap()).sum()
}

/// Waits until there are more than so many instances.
fn wait_for_more(other: &mut Light, than: u64) {
    let start = Instant::now();
    while instances(other) <= than {
        assert!(start.elapsed() < BOUND, "nothing is written");
    }
}

fn large_instance() -> Request {
    let content = json!({"m2m:cin": {"con": "x".repeat(60 << 10)}});
    Request::create("/cse/light1/all/fopt", 4, &content).from(EVIL)
}

/// So many associations of light 1, each of which writes to all containers, until it ends.
fn write_to_all(gateway: &Gateway, associations: usize) -> Vec<JoinHandle<()>> {
    let lights: Vec<_> = (0..associations).map(|_| evil(gateway)).collect();
    let write =
        |mut light: Light| thread::spawn(move || while light.ask(&large_instance()).is_ok() {});
    lights.into_iter().map(write).collect()
}

fn a_revoked_credential_writes_nothing_more(associations: usize) {
    let gateway = Setup::new().start();
    let (_evil, mut other) = with_groups(&gateway);
    let writing = write_to_all(&gateway, associations);
    wait_for_more(&mut other, 3);
    let mark = gateway.log().mark();
    let table = gateway.table();
    let kept: Vec<_> = table.lines().filter(|row| !row.contains(LIGHT1.identity)).collect();
    gateway.replace(TABLE, kept.join("\n") + "\n");
    gateway.log().all(mark, "association.revoked", associations + 1);
    // Light 2 was answered all the time, and is now.
    let at_the_end = instances(&mut other);
    for light in writing {
        light.join().unwrap();
    }
    thread::sleep(Duration::from_millis(500));
    assert_eq!(instances(&mut other), at_the_end, "something was written after the line");
}

#[test]
fn revoked_credential_of_few_writes_nothing() {
    a_revoked_credential_writes_nothing_more(6);
}

#[test]
fn revoked_credential_of_many_writes_nothing() {
    a_revoked_credential_writes_nothing_more(32);
}

#[test]
fn a_client_that_has_gone_writes_nothing_more() {
    let gateway = Setup::new().start();
    let (_evil, mut other) = with_groups(&gateway);
    let mut gone = evil(&gateway);
    let mark = gateway.log().mark();
    // An answer that it does not read: the end is a reset then, which nobody takes for a half-closed
    // connection.
    gone.send(&Request::retrieve("/cse/light1").from(EVIL).bytes()).unwrap();
    gone.send(&large_instance().bytes()).unwrap();
    wait_for_more(&mut other, 3);
    drop(gone);
    gateway.log().wait_after(mark, "association.ended");
    let at_the_end = instances(&mut other);
    assert!(at_the_end < CONTAINERS as u64, "it was too fast to be stopped");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(instances(&mut other), at_the_end, "something was written after the end");
}

/// A group names the same ancestors in many ways, and each is searched for what leads back up.
#[test]
fn a_fan_out_has_one_budget_for_all_members() {
    let gateway = Setup::new().with("limits", "request-steps = 3000").start();
    let (mut evil_light, mut other) = registered(&gateway);
    let mut path = "cse/light1".to_string();
    let mut ancestors = vec![path.clone()];
    for n in 0..9 {
        let container = json!({"m2m:cnt": {"rn": format!("a{n}")}});
        create(&mut evil_light, EVIL, &format!("/{path}"), 3, container);
        path = format!("{path}/a{n}");
        ancestors.push(path.clone());
    }
    for n in 0..400 {
        let container = json!({"m2m:cnt": {"rn": format!("c{n}")}});
        create(&mut evil_light, EVIL, &format!("/{path}"), 3, container);
    }
    let spellings = ["", "/mn-cse-123456/", "//in.provider.com/mn-cse-123456/"];
    let members: Vec<_> = ancestors
        .iter()
        .flat_map(|path| spellings.iter().map(move |start| format!("{start}{path}")))
        .collect();
    let group = json!({"m2m:grp": {"rn": "all", "mnm": members.len(), "mid": members}});
    create(&mut evil_light, EVIL, "/cse/light1", 9, group);
    const DISCOVERY: &str = "fu=1&ty=3&arp=../../../../../..";
    let one = Request::retrieve(&format!("/cse/light1?{DISCOVERY}"));
    ask(&mut evil_light, EVIL, one).expect(200, 2000);
    let all = || Request::retrieve(&format!("/cse/light1/all/fopt?{DISCOVERY}")).from(EVIL);
    evil_light.ask(&all()).unwrap().expect_refusal(406, 5207);
    let lights: Vec<_> = (0..40).map(|_| evil(&gateway)).collect();
    let attack = |mut light: Light| {
        thread::spawn(move || {
            for _ in 0..3 {
                // On a loaded machine its own requests may wait for each other to the end of their time.
                let rsc = light.ask(&all()).unwrap().rsc();
                assert!(matches!(rsc, Some(5207 | 4008)), "{rsc:?}");
            }
        })
    };
    let attacks: Vec<_> = lights.into_iter().map(attack).collect();
    let mut n = 0;
    while attacks.iter().any(|attack| !attack.is_finished()) {
        let container = json!({"m2m:cnt": {"rn": format!("c{n}")}});
        create(&mut other, OTHER, "/cse/light2", 3, container);
        n += 1;
    }
    for attack in attacks {
        attack.join().unwrap();
    }
    assert!(n > 0);
}

/// The niceness of each thread of a process that has a name.
fn niceness(process: u32, name: &str) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    // One may end meanwhile.
    let stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let of = |stat: String| {
        let (start, rest) = stat.rsplit_once(") ")?;
        start.ends_with(&format!("({name}")).then(|| rest.split(' ').nth(16)?.parse().ok())?
    };
    stats.filter_map(of).collect()
}

/// What takes long is done beside all else, with a lower priority, and completely.
#[test]
fn a_long_retrieve_gives_way_to_others() {
    const COUNT: usize = 300;
    let gateway = Setup::new().start();
    let (mut evil_light, mut other) = registered(&gateway);
    for n in 0..COUNT {
        let container = Request::create_container("/cse/light1", &format!("c{n}"));
        ask(&mut evil_light, EVIL, container).expect(201, 2001);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let discover = |mut light: Light| {
        let stop = stop.clone();
        thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let all = Request::retrieve("/cse/light1?fu=1&ty=3");
                let found = ask(&mut light, EVIL, all).expect(200, 2000);
                assert_eq!(found.json()["m2m:uril"].as_array().unwrap().len(), COUNT);
            }
        })
    };
    let lights: Vec<_> = (0..3).map(|_| evil(&gateway)).collect();
    let discovering: Vec<_> = lights.into_iter().map(discover).collect();
    let usual = niceness(gateway.id(), "saegis")[0];
    let start = Instant::now();
    loop {
        // A short one is answered meanwhile.
        ask(&mut other, OTHER, Request::retrieve("/cse/light2")).expect(200, 2000);
        let long = niceness(gateway.id(), "long-request");
        // A thread begins as the others are.
        if long.contains(&(usual + 10).min(19)) {
            break;
        }
        assert!(start.elapsed() < BOUND, "{usual} {long:?}");
    }
    stop.store(true, Ordering::SeqCst);
    for light in discovering {
        light.join().unwrap();
    }
}

/// Policies that are not there cost their owner's subtree, and nobody else's discovery.
#[test]
fn dangling_policies_do_not_delay_others() {
    let gateway = Setup::new().start();
    let (mut evil, mut other) = registered(&gateway);
    for n in 0..80 {
        let dangling: Vec<_> =
            (0..16).map(|m| format!("cse/light1/{}c{n}-{m}", "x/".repeat(16))).collect();
        let container = json!({"m2m:cnt": {"rn": format!("c{n}"), "acpi": dangling}});
        create(&mut evil, EVIL, "/cse/light1", 3, container);
    }
    let own: Vec<_> = (0..5).map(|n| format!("c{n}")).collect();
    for name in &own {
        ask(&mut other, OTHER, Request::create_container("/cse/light2", name)).expect(201, 2001);
    }
    let found = ask(&mut other, OTHER, Request::retrieve("/cse?fu=1&drt=1")).expect(200, 2000);
    let found = found.json();
    let found: Vec<_> =
        found["m2m:uril"].as_array().unwrap().iter().map(|uri| uri.as_str().unwrap()).collect();
    for name in own {
        assert!(found.contains(&format!("cse/light2/{name}").as_str()), "{found:?}");
    }
}

/// Each resource of a discovery is compared with each value, so there are so many and no more.
#[test]
fn a_filter_has_so_many_values() {
    let gateway = Setup::new().start();
    let (mut evil, _) = registered(&gateway);
    let filter = |name: &str, value: &str, count: usize| {
        let values: Vec<_> = (0..count).map(|n| format!("{value}{n}")).collect();
        Request::retrieve(&format!("/cse/light1?fu=1&{name}={}", values.join("+")))
    };
    for (name, value) in [("lbl", "x"), ("atr", "rn,x"), ("rn", "x"), ("ty", "1")] {
        ask(&mut evil, EVIL, filter(name, value, 64)).expect(200, 2000);
        ask(&mut evil, EVIL, filter(name, value, 65)).expect_refusal(400, 4000);
    }
}

/// What others may see of an AE costs them nothing of their own.
#[test]
fn a_large_open_subtree_costs_others_nothing() {
    let gateway = Setup::new().with("limits", "request-steps = 300").start();
    let (mut evil, mut other) = registered(&gateway);
    let rules = |who: &[&str]| json!({"acr": [{"acor": who, "acop": 63}]});
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": rules(&["all"]), "pvs": rules(&[EVIL])}});
    create(&mut evil, EVIL, "/cse/light1", 1, acp);
    for n in 0..300 {
        let name = format!("c{n}");
        let open = json!({"m2m:cnt": {"rn": name, "lbl": ["open"], "acpi": ["cse/light1/acp"]}});
        create(&mut evil, EVIL, "/cse/light1", 3, open);
    }
    let own = json!({"m2m:cnt": {"rn": "own", "lbl": ["own"]}});
    create(&mut other, OTHER, "/cse/light2", 3, own);
    let partial = |found: &Response| found.header("x-m2m-cts") == Some("1");
    let found = ask(&mut other, OTHER, Request::retrieve("/cse?fu=1&lbl=own")).expect(200, 2000);
    assert_eq!(found.json()["m2m:uril"], json!(["cse/light2/own"]));
    assert!(partial(&found));
    let found = ask(&mut other, OTHER, Request::retrieve("/cse?fu=1&lbl=open")).expect(200, 2000);
    let count = found.json()["m2m:uril"].as_array().unwrap().len();
    assert!(count > 0 && count < 300, "{count}");
    assert!(partial(&found));
}

#[test]
fn an_ae_has_a_quota_of_resources() {
    let gateway = Setup::new().with("registrar.quota", "resources = 4").start();
    let (mut evil, mut other) = registered(&gateway);
    let container = |name: &str| Request::create_container("/cse/light1", name);
    for name in ["a", "b", "c"] {
        ask(&mut evil, EVIL, container(name)).expect(201, 2001);
    }
    let refused = ask(&mut evil, EVIL, container("d")).expect_refusal(406, 5207);
    assert!(refused.debug().contains("as many resources as it may"), "{refused:?}");
    let others = Request::create_container("/cse/light2", "a");
    ask(&mut other, OTHER, others).expect(201, 2001);
    ask(&mut evil, EVIL, Request::delete("/cse/light1/a")).expect(200, 2002);
    ask(&mut evil, EVIL, container("d")).expect(201, 2001);
    // It counts the same after a start.
    let gateway = gateway.restart();
    let mut evil = self::evil(&gateway);
    ask(&mut evil, EVIL, container("e")).expect_refusal(406, 5207);
}

#[test]
fn an_ae_has_a_quota_of_bytes() {
    let gateway = Setup::new().with("registrar.quota", "bytes = 90000").start();
    let (mut evil, mut other) = registered(&gateway);
    let large = "x".repeat(40_000);
    ask(&mut evil, EVIL, Request::create_container("/cse/light1", "state")).expect(201, 2001);
    let instance = || Request::create_instance("/cse/light1/state", &large);
    ask(&mut evil, EVIL, instance()).expect(201, 2001);
    ask(&mut evil, EVIL, instance()).expect(201, 2001);
    let refused = ask(&mut evil, EVIL, instance()).expect_refusal(406, 5207);
    assert!(refused.debug().contains("as many bytes as it may"), "{refused:?}");
    // Nor by what it says of itself.
    let labels: Vec<_> = (0..60).map(|n| format!("{n}{}", "x".repeat(240))).collect();
    let update = json!({"m2m:cnt": {"lbl": labels}});
    ask(&mut evil, EVIL, Request::update("/cse/light1/state", &update)).expect_refusal(406, 5207);
    // A container that keeps one makes room by itself.
    let one = json!({"m2m:cnt": {"mni": 1}});
    ask(&mut evil, EVIL, Request::update("/cse/light1/state", &one)).expect(200, 2004);
    ask(&mut evil, EVIL, instance()).expect(201, 2001);
    ask(&mut other, OTHER, Request::create_container("/cse/light2", "state")).expect(201, 2001);
}

/// A large subtree is gone with the answer, others write meanwhile, and its AE may come again.
#[test]
fn a_large_subtree_is_deleted_while_others_write() {
    let gateway = Setup::new().start();
    let (mut evil_light, mut other) = with_groups(&gateway);
    for n in 0..10 {
        let small = json!({"m2m:cin": {"con": n}});
        let request = Request::create("/cse/light1/all/fopt", 4, &small);
        ask(&mut evil_light, EVIL, request).expect(200, 2000);
    }
    let deleting = thread::spawn(move || {
        ask(&mut evil_light, EVIL, Request::delete("/cse/light1")).expect(200, 2002);
    });
    let mut n = 0;
    while !deleting.is_finished() {
        let container = Request::create_container("/cse/light2", &format!("c{n}"));
        ask(&mut other, OTHER, container).expect(201, 2001);
        n += 1;
    }
    deleting.join().unwrap();
    let all = ask(&mut other, OTHER, Request::retrieve("/cse/light2/all/fopt")).expect(200, 2000);
    let all = all.json();
    for part in all["m2m:agr"]["m2m:rsp"].as_array().unwrap() {
        assert_eq!(part["rsc"], 4004, "{part}");
    }
    let mut again = evil(&gateway);
    ask(&mut again, EVIL, Request::create_ae("light1")).expect(201, 2001);
    let empty = ask(&mut again, EVIL, Request::retrieve("/cse/light1?fu=1")).expect(200, 2000);
    assert_eq!(empty.json()["m2m:uril"], json!([]));
}
