//! The budget of a request: time, work, and the authority of its association. A credential that
//! exhausts its budget does not affect others, and an ended association changes nothing.

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

/// Number of containers in the group that is written to.
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

/// Returns both lights after their registration.
fn registered(gateway: &Gateway) -> (Light, Light) {
    let mut evil = evil(gateway);
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    ask(&mut evil, EVIL, Request::create_ae("light1")).expect(201, 2001);
    ask(&mut other, OTHER, Request::create_ae("light2")).expect(201, 2001);
    (evil, other)
}

/// Creates containers of light 1 that light 2 may read, and a group of them for each light.
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

/// Returns the number of instances.
#[track_caller]
fn instances(other: &mut Light) -> u64 {
    let all = ask(other, OTHER, Request::retrieve("/cse/light2/all/fopt")).expect(200, 2000);
    let all = all.json();
    let parts = all["m2m:agr"]["m2m:rsp"].as_array().unwrap();
    assert_eq!(parts.len(), CONTAINERS);
    parts.iter().map(|part| part["pc"]["m2m:cnt"]["cni"].as_u64().unwrap()).sum()
}

/// Waits until there are more instances than this.
fn wait_for_more(other: &mut Light, than: u64) {
    let start = Instant::now();
    while instances(other) <= than {
        assert!(start.elapsed() < BOUND, "no instance was written");
    }
}

fn large_instance() -> Request {
    let content = json!({"m2m:cin": {"con": "x".repeat(60 << 10)}});
    Request::create("/cse/light1/all/fopt", 4, &content).from(EVIL)
}

/// Starts associations of light 1 that write to all containers until they end.
fn write_to_all(gateway: &Gateway, associations: usize) -> Vec<JoinHandle<()>> {
    let lights: Vec<_> = (0..associations).map(|_| evil(gateway)).collect();
    let write =
        |mut light: Light| thread::spawn(move || while light.ask(&large_instance()).is_ok() {});
    lights.into_iter().map(write).collect()
}

fn assert_revoked_credential_writes_nothing(associations: usize) {
    let gateway = Setup::new().start();
    let (_evil, mut other) = with_groups(&gateway);
    let writing = write_to_all(&gateway, associations);
    wait_for_more(&mut other, 3);
    let mark = gateway.log().mark();
    let table = gateway.table();
    let remaining: Vec<_> = table.lines().filter(|row| !row.contains(LIGHT1.identity)).collect();
    gateway.replace(TABLE, remaining.join("\n") + "\n");
    gateway.log().all(mark, "association.revoked", associations + 1);
    // Light 2 is served at all times.
    let at_the_end = instances(&mut other);
    for light in writing {
        light.join().unwrap();
    }
    thread::sleep(Duration::from_millis(500));
    assert_eq!(instances(&mut other), at_the_end, "an instance was written after the revocation");
}

#[test]
fn revoked_credential_with_few_writes_nothing() {
    assert_revoked_credential_writes_nothing(6);
}

#[test]
fn revoked_credential_with_many_writes_nothing() {
    assert_revoked_credential_writes_nothing(32);
}

#[test]
fn disconnected_client_writes_nothing() {
    let gateway = Setup::new().start();
    let (_evil, mut other) = with_groups(&gateway);
    let mut gone = evil(&gateway);
    let mark = gateway.log().mark();
    // The client does not read a response, so its close is a reset and not a half-close.
    gone.send(&Request::retrieve("/cse/light1").from(EVIL).bytes()).unwrap();
    gone.send(&large_instance().bytes()).unwrap();
    wait_for_more(&mut other, 3);
    drop(gone);
    gateway.log().wait_after(mark, "association.ended");
    let at_the_end = instances(&mut other);
    assert!(at_the_end < CONTAINERS as u64, "the request was complete before the disconnect");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(instances(&mut other), at_the_end, "an instance was written after the end");
}

/// The group names the same ancestors in many spellings, and each discovery follows `arp` upwards.
#[test]
fn fan_out_members_share_one_budget() {
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
                // On a loaded machine, the requests may wait for each other until their timeout.
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

/// Returns the niceness of each thread of a process with this name.
fn niceness(process: u32, name: &str) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    // A thread may end meanwhile.
    let stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let of = |stat: String| {
        let (start, rest) = stat.rsplit_once(") ")?;
        start.ends_with(&format!("({name}")).then(|| rest.split(' ').nth(16)?.parse().ok())?
    };
    stats.filter_map(of).collect()
}

/// Long requests run in separate threads with a lower priority, and complete.
#[test]
fn long_retrieve_runs_at_low_priority() {
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
        // Short requests are served meanwhile.
        ask(&mut other, OTHER, Request::retrieve("/cse/light2")).expect(200, 2000);
        let long = niceness(gateway.id(), "long-request");
        // A thread starts with the normal priority.
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

/// Dangling policy references count for the discoveries of their owner only.
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

/// A discovery compares each resource with each value, so the number of values is limited.
#[test]
fn filter_values_are_limited() {
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

/// The accessible resources of another AE do not consume the requester's own budget.
#[test]
fn open_subtree_does_not_exhaust_other_budget() {
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
    let found = ask(&mut other, OTHER, Request::retrieve("/cse?fu=1&rn=own")).expect(200, 2000);
    assert_eq!(found.json()["m2m:uril"], json!(["cse/light2/own"]));
    assert!(partial(&found));
    // The index of labels leads to it without the others.
    let found = ask(&mut other, OTHER, Request::retrieve("/cse?fu=1&lbl=own")).expect(200, 2000);
    assert_eq!(found.json()["m2m:uril"], json!(["cse/light2/own"]));
    assert!(!partial(&found));
    let found = ask(&mut other, OTHER, Request::retrieve("/cse?fu=1&lbl=open")).expect(200, 2000);
    let count = found.json()["m2m:uril"].as_array().unwrap().len();
    assert!(count > 0 && count < 300, "{count}");
    assert!(partial(&found));
}

#[test]
fn resource_quota_per_ae_is_enforced() {
    let gateway = Setup::new().with("cse.quota", "resources = 4").start();
    let (mut evil, mut other) = registered(&gateway);
    let container = |name: &str| Request::create_container("/cse/light1", name);
    for name in ["a", "b", "c"] {
        ask(&mut evil, EVIL, container(name)).expect(201, 2001);
    }
    let refused = ask(&mut evil, EVIL, container("d")).expect_refusal(406, 5207);
    assert!(refused.debug().contains("maximum number of resources"), "{refused:?}");
    let others = Request::create_container("/cse/light2", "a");
    ask(&mut other, OTHER, others).expect(201, 2001);
    ask(&mut evil, EVIL, Request::delete("/cse/light1/a")).expect(200, 2002);
    ask(&mut evil, EVIL, container("d")).expect(201, 2001);
    // The count is the same after a restart.
    let gateway = gateway.restart();
    let mut evil = self::evil(&gateway);
    ask(&mut evil, EVIL, container("e")).expect_refusal(406, 5207);
}

#[test]
fn byte_quota_per_ae_is_enforced() {
    let gateway = Setup::new().with("cse.quota", "bytes = 90000").start();
    let (mut evil, mut other) = registered(&gateway);
    let large = "x".repeat(40_000);
    ask(&mut evil, EVIL, Request::create_container("/cse/light1", "state")).expect(201, 2001);
    let instance = || Request::create_instance("/cse/light1/state", &large);
    ask(&mut evil, EVIL, instance()).expect(201, 2001);
    ask(&mut evil, EVIL, instance()).expect(201, 2001);
    let refused = ask(&mut evil, EVIL, instance()).expect_refusal(406, 5207);
    assert!(refused.debug().contains("maximum number of bytes"), "{refused:?}");
    // Attributes count as well.
    let labels: Vec<_> = (0..60).map(|n| format!("{n}{}", "x".repeat(240))).collect();
    let update = json!({"m2m:cnt": {"lbl": labels}});
    ask(&mut evil, EVIL, Request::update("/cse/light1/state", &update)).expect_refusal(406, 5207);
    // A container with a limit deletes old instances by itself.
    let one = json!({"m2m:cnt": {"mni": 1}});
    ask(&mut evil, EVIL, Request::update("/cse/light1/state", &one)).expect(200, 2004);
    ask(&mut evil, EVIL, instance()).expect(201, 2001);
    ask(&mut other, OTHER, Request::create_container("/cse/light2", "state")).expect(201, 2001);
}

/// The subtree is gone with the response, other AEs write meanwhile, and the AE can register again.
#[test]
fn large_subtree_is_deleted_during_other_writes() {
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

/// Refused requests count like others: a credential that forges originators gives way.
#[test]
fn refused_requests_count_for_their_credential() {
    let gateway = Setup::new().start();
    let (mut evil_light, _other) = registered(&gateway);
    let start = Instant::now();
    // From then on, its short requests run on a thread for long ones. While others use the gateway,
    // its refusals are held back instead.
    while niceness(gateway.id(), "long-request").is_empty() {
        for _ in 0..100 {
            let forged = Request::retrieve("/cse/light2");
            ask(&mut evil_light, OTHER, forged).expect_refusal(403, 4106);
        }
        ask(&mut evil_light, EVIL, Request::retrieve("/cse/light1")).expect(200, 2000);
        assert!(start.elapsed() < BOUND);
    }
}
