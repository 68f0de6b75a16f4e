//! Asynchronous requests (`rt=2`). The CSE acknowledges them at once and sends the result later. A
//! request whose result cannot be sent is refused and has no effect.

use std::time::Duration;

use saegis_tests::{
    Gateway, LIGHT1, LIGHT2, Light, ListeningAe, Message, Reply, Request, Response, Setup,
    Upstream, eventually,
};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";
const TABLE: &str = "policies/psk-lookup-table.csv";

fn allowed() -> Setup {
    Setup::new().with("notifications", "targets = [\"127.0.0.1\"]")
}

/// Registers a light with additional attributes.
fn register(gateway: &Gateway, which: usize, further: Value) -> Light {
    let (credential, from) = if which == 1 { (LIGHT1, OWN) } else { (LIGHT2, OTHER) };
    let mut ae = json!({"rn": format!("light{which}"), "api": "Nlight", "rr": true, "srv": ["3"]});
    ae.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    let mut light = Light::connect(gateway.port(), credential).unwrap();
    let create = Request::create("/cse", 2, &json!({ "m2m:ae": ae })).from(from);
    light.ask(&create).unwrap().expect(201, 2001);
    light
}

fn container(name: &str) -> Request {
    let content = json!({"m2m:cnt": {"rn": name}});
    Request::create("/cse/light1?rt=2", 3, &content).from(OWN)
}

fn own(path: &str) -> Request {
    Request::retrieve(path).from(OWN)
}

fn url(target: &Upstream, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", target.port())
}

#[track_caller]
fn assert_acknowledged(light: &mut Light, request: &Request) {
    let answer = light.ask(request).unwrap().expect(202, 1002);
    assert_eq!(answer.header("x-m2m-ri"), Some(request.id()), "{answer:?}");
    assert!(answer.json()["m2m:uri"].is_string(), "the response has the address of the request");
}

#[track_caller]
fn assert_refused(light: &mut Light, request: &Request, rsc: u16, why: &str) -> Response {
    let answer = light.ask(request).unwrap();
    assert_eq!(answer.rsc(), Some(rsc), "{answer:?}");
    assert!(answer.debug().contains(why), "{answer:?}");
    answer
}

/// Asserts that a notification carries the response primitive of a request, and returns it.
#[track_caller]
fn result(notification: &Message, of: &Request) -> Value {
    assert_eq!(notification.values("x-m2m-origin"), ["/mn-cse-123456"]);
    let content: Value = serde_json::from_slice(&notification.body).unwrap();
    let result = content["m2m:rsp"].clone();
    assert_eq!(result["rqi"], of.id(), "{content}");
    assert_eq!((&result["to"], &result["fr"]), (&json!(OWN), &json!("/mn-cse-123456")));
    assert_eq!(result["rvi"], "3");
    result
}

#[test]
fn result_is_sent_to_point_of_access() {
    let mut ae = ListeningAe::with_key(LIGHT1);
    let gateway = allowed().start();
    let mut light = register(&gateway, 1, json!({"poa": [ae.url()]}));
    // The second create fails, which its result reports.
    for rsc in [2001, 4105] {
        let create = container("lamp");
        assert_acknowledged(&mut light, &create);
        let notified = ae.request();
        let result = result(&notified, &create);
        assert_eq!(result["rsc"], rsc, "{result}");
        if rsc == 2001 {
            assert_eq!(result["pc"]["m2m:cnt"]["rn"], "lamp", "{result}");
        } else {
            assert!(result["pc"]["m2m:dbg"].is_string(), "{result}");
        }
        ae.answer(&notified, 2000, "");
    }
    light.ask(&own("/cse/light1/lamp")).unwrap().expect(200, 2000);
}

#[test]
fn result_is_sent_to_all_named_targets() {
    let targets = [1, 2].map(|_| Upstream::start(Reply::answer(200, 2000, "")));
    let gateway = allowed().start();
    let mut light = register(&gateway, 1, json!({}));
    // Light 2 accepts notifications from light 1.
    let mut other = register(&gateway, 2, json!({"poa": [url(&targets[1], "/other")]}));
    let rules = json!([{"acor": [OWN], "acop": 16}]);
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": {"acr": rules},
        "pvs": {"acr": [{"acor": [OTHER], "acop": 63}]}}});
    let retrieve = own("/cse/light1?rt=2&rcn=1");
    let to = |target: &str| retrieve.clone().without("X-M2M-RTU").header("X-M2M-RTU", target);
    let first = url(&targets[0], "/told?me=1");
    let both = to(&format!("{first}&cse/light2&{first}"));
    // Light 1 has no permission to notify light 2 yet.
    assert_refused(&mut light, &both, 4103, "notify");
    other.ask(&Request::create("/cse/light2", 1, &acp).from(OTHER)).unwrap().expect(201, 2001);
    let change = json!({"m2m:ae": {"acpi": ["cse/light2/acp"]}});
    other.ask(&Request::update("/cse/light2", &change).from(OTHER)).unwrap().expect(200, 2004);
    assert_acknowledged(&mut light, &both);
    for (target, line) in targets.iter().zip(["POST /told?me=1 HTTP/1.1", "POST /other HTTP/1.1"]) {
        let notified = &target.wait(1)[0];
        assert_eq!(notified.line, line);
        let result = result(notified, &both);
        assert_eq!(
            (&result["rsc"], &result["pc"]["m2m:ae"]["rn"]),
            (&json!(2000), &json!("light1"))
        );
    }
    // A group sends one aggregated result, and its members send none.
    let group = json!({"m2m:grp": {"rn": "all", "mnm": 2, "mid": ["cse/light1"]}});
    light.ask(&Request::create("/cse/light1", 9, &group).from(OWN)).unwrap().expect(201, 2001);
    let fan_out = own("/cse/light1/all/fopt?rt=2").header("X-M2M-RTU", &first);
    assert_acknowledged(&mut light, &fan_out);
    let result = result(&targets[0].wait(2)[1], &fan_out);
    assert_eq!(result["pc"]["m2m:agr"]["m2m:rsp"][0]["rsc"], 2000, "{result}");
    // Each target received each result once.
    assert_eq!((targets[0].requests().len(), targets[1].requests().len()), (2, 1));
}

#[test]
fn result_is_sent_through_polling_channel() {
    let gateway = Setup::new().start();
    let mut light = register(&gateway, 1, json!({"rr": false}));
    let channel = json!({"m2m:pch": {"rn": "polls"}});
    light.ask(&Request::create("/cse/light1", 15, &channel).from(OWN)).unwrap().expect(201, 2001);
    let create = container("lamp");
    assert_acknowledged(&mut light, &create);
    let got = light.ask(&own("/cse/light1/polls/pcu")).unwrap().expect(200, 2000).json();
    let result = &got["m2m:rqp"]["pc"]["m2m:rsp"];
    assert_eq!((&result["rsc"], &result["rqi"]), (&json!(2001), &json!(create.id())), "{got}");
    // A request to the channel itself cannot be asynchronous, because its result would return to
    // the channel.
    assert_refused(&mut light, &own("/cse/light1/polls/pcu?rt=2"), 5001, "polling channel");
}

#[test]
fn request_with_undeliverable_result_is_refused() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let port = target.port();
    let rule = format!("targets = [\"127.0.0.1:{port}\"]");
    let gateway = Setup::new().with("notifications", &rule).start();
    let elsewhere = format!("https://127.0.0.1:{}/", if port == 1 { 2 } else { 1 });
    let mut light = register(&gateway, 1, json!({}));
    let _other = register(&gateway, 2, json!({}));
    assert_refused(&mut light, &container("lost"), 5103, "neither a reachable point of access");
    let poa = json!({"m2m:ae": {"poa": [elsewhere]}});
    light.ask(&Request::update("/cse/light1", &poa).from(OWN)).unwrap().expect(200, 2004);
    assert_refused(&mut light, &container("lost"), 5103, "no rule of this CSE allows that address");
    let good = format!("http://127.0.0.1:{port}/");
    let many = [good.as_str(); 17].join("&");
    for (to, rsc, why) in [
        ("http://127.0.0.2/", 5103, "no rule of this CSE allows that address"),
        ("http://nobody.invalid/", 5103, "no rule of this CSE allows that address"),
        (&format!("{good}&http://127.0.0.2/"), 5103, "no rule"),
        ("https://127.0.0.1/", 5001, "http://"),
        ("mqtt://127.0.0.1/", 5001, "http://"),
        ("http://user@127.0.0.1/", 4000, "rt.nu"),
        (&format!("{good}&"), 4000, "rt.nu"),
        (&many, 4000, "rt.nu"),
        ("cse/light1/nothing", 5103, "cannot be reached"),
        ("/another-cse/Cother", 5103, "cannot be reached"),
        ("cse/light2", 4103, "notify"),
    ] {
        assert_refused(&mut light, &container("lost").header("X-M2M-RTU", to), rsc, why);
    }
    // Invalid requests are refused as well.
    for (request, rsc, why) in [
        (own("/cse/light1?rt=2&rt=2"), 4000, "rt"),
        (own("/cse/light1?rt=2&rcn=7"), 4000, "result content 7"),
        (own("/cse/light1?rt=2&nonsense=1"), 4000, "nonsense"),
        (own("/cse/light1?rt=5"), 5001, ""),
        (own("/cse/light1?rt=2").header("X-M2M-RET", "-1000"), 4008, ""),
        (own("/cse/light1?rt=2").without("X-M2M-RVI").header("X-M2M-RVI", "99"), 4001, "99"),
    ] {
        assert_refused(&mut light, &request.header("X-M2M-RTU", &good), rsc, why);
    }
    // Impersonation is refused, and an AE cannot register asynchronously.
    let claim = Request::retrieve("/cse/light2?rt=2").from(OTHER).header("X-M2M-RTU", &good);
    assert_refused(&mut light, &claim, 4106, "");
    let ae = json!({"m2m:ae": {"api": "Nx", "rr": true}});
    let again = Request::create("/cse?rt=2", 2, &ae).from(OWN).header("X-M2M-RTU", &good);
    assert!(light.ask(&again).unwrap().rsc().unwrap() >= 4000);
    light.ask(&own("/cse/light1/lost")).unwrap().expect_refusal(404, 4004);
    assert!(target.requests().is_empty(), "{}", target.text());
}

#[test]
fn registration_cannot_be_asynchronous() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let gateway = allowed().start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nx", "rr": true}});
    let create = Request::create("/cse?rt=2", 2, &ae).from(OWN);
    let create = create.header("X-M2M-RTU", &url(&target, "/"));
    assert_refused(&mut light, &create, 5001, "must register");
    light.ask(&own("/cse/light1")).unwrap().expect_refusal(404, 4004);
    assert!(target.requests().is_empty());
}

#[test]
fn acknowledged_request_outlives_association() {
    let target = Upstream::start(Reply::Pending);
    let result_at = Upstream::start(Reply::answer(200, 2000, ""));
    let gateway = allowed().start();
    let mut light = register(&gateway, 1, json!({}));
    let subscribe = subscription(&target, &result_at);
    assert_acknowledged(&mut light, &subscribe);
    target.wait(1);
    // The request waits for the target of the subscription while the association ends.
    light.close();
    target.reply_with(Reply::answer(200, 2000, ""));
    assert_eq!(result(&result_at.wait(1)[0], &subscribe)["rsc"], 2001);
    gateway.log().wait("association.ended");
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&own("/cse/light1/told")).unwrap().expect(200, 2000);
}

/// Returns a subscription request that completes when `target` has responded.
fn subscription(target: &Upstream, result_at: &Upstream) -> Request {
    let content = json!({"m2m:sub": {"rn": "told", "nu": [url(target, "/")]}});
    let request = Request::create("/cse/light1?rt=2", 23, &content).from(OWN);
    request.header("X-M2M-RTU", &url(result_at, "/result"))
}

#[test]
fn acknowledged_request_ends_with_its_credential() {
    for disconnect in [false, true] {
        let target = Upstream::start(Reply::Pending);
        let result_at = Upstream::start(Reply::answer(200, 2000, ""));
        let setup = allowed().with("notifications", "timeout-seconds = 60");
        let gateway = setup.start();
        let mut light = register(&gateway, 1, json!({}));
        let mut other = register(&gateway, 2, json!({}));
        assert_acknowledged(&mut light, &subscription(&target, &result_at));
        target.wait(1);
        let light = if disconnect {
            light.close();
            None
        } else {
            Some(light)
        };
        let mark = gateway.log().mark();
        let table = gateway.table();
        let remaining: Vec<_> =
            table.lines().filter(|row| !row.contains(LIGHT1.identity)).collect();
        gateway.replace(TABLE, remaining.join("\n") + "\n");
        gateway.log().wait_after(mark, "association.revoked");
        target.reply_with(Reply::answer(200, 2000, ""));
        gateway.log().wait_after(mark, "request.result-dropped");
        assert!(result_at.requests().is_empty());
        let notified = Request::retrieve("/cse/light1/told").from(OTHER);
        other.ask(&notified).unwrap().expect_refusal(404, 4004);
        drop(light);
    }
}

#[test]
fn acknowledged_requests_are_limited_by_credential() {
    let target = Upstream::start(Reply::Pending);
    let setup = allowed().with("limits", "cse-requests-per-credential = 2");
    let gateway = setup.with("notifications", "timeout-seconds = 60").start();
    let mut light = register(&gateway, 1, json!({}));
    let mut other = register(&gateway, 2, json!({}));
    let of = |path: &str, from: &str| {
        Request::retrieve(path).from(from).header("X-M2M-RTU", &url(&target, "/"))
    };
    for n in 1..=2 {
        assert_acknowledged(&mut light, &of("/cse/light1?rt=2", OWN));
        target.wait(n);
    }
    assert_refused(&mut light, &of("/cse/light1?rt=2", OWN), 5207, "too many results");
    // Other credentials have their own limit, and blocking requests are not affected.
    assert_acknowledged(&mut other, &of("/cse/light2?rt=2", OTHER));
    light.ask(&own("/cse/light1")).unwrap().expect(200, 2000);
    target.reply_with(Reply::answer(200, 2000, ""));
    let again = of("/cse/light1?rt=2", OWN);
    let taken = (0..600).any(|_| {
        let answer = light.ask(&again).unwrap();
        if answer.rsc() != Some(1002) {
            std::thread::sleep(Duration::from_millis(100));
        }
        answer.rsc() == Some(1002)
    });
    assert!(taken, "a sent result still counts");
}

#[test]
fn asynchronous_request_is_forwarded_to_upstream() {
    let cse = Upstream::start(Reply::answer(202, 1002, ""));
    let gateway = Setup::new().upstream(cse.port()).start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let retrieve = own("/cse/light1?rt=2").header("X-M2M-RTU", "http://a.example/");
    light.ask(&retrieve).unwrap().expect(202, 1002);
    let forwarded = cse.wait(1);
    let forwarded = forwarded.last().unwrap();
    assert!(forwarded.line.contains("rt=2"), "{}", forwarded.line);
    assert_eq!(forwarded.values("x-m2m-rtu"), ["http://a.example/"]);
}

/// Sends a request whose result is fetched, and returns the path of its `<request>`.
#[track_caller]
fn stored(light: &mut Light, request: &Request) -> String {
    let answer = light.ask(request).unwrap().expect(202, 1001).json();
    let uri = answer["m2m:uri"].as_str().expect("an address").to_owned();
    format!("/~{uri}")
}

/// Sends a request whose result is sent, and returns the path of its `<request>`.
#[track_caller]
fn acknowledged(light: &mut Light, request: &Request) -> String {
    let answer = light.ask(request).unwrap().expect(202, 1002).json();
    format!("/~{}", answer["m2m:uri"].as_str().expect("an address"))
}

/// Waits until a `<request>` has its result.
fn fetched(light: &mut Light, path: &str) -> Value {
    eventually(|| {
        let found = light.ask(&own(path)).unwrap().expect(200, 2000).json()["m2m:req"].clone();
        if found["rs"] == json!(3) { Err(found) } else { Ok(found) }
    })
}

#[test]
fn result_is_stored_and_fetched() {
    let gateway = Setup::new().start();
    let mut light = register(&gateway, 1, json!({}));
    let content = json!({"m2m:cnt": {"rn": "lamp"}});
    let create = Request::create("/cse/light1?rt=1", 3, &content).from(OWN);
    let path = stored(&mut light, &create);
    let found = fetched(&mut light, &path);
    assert_eq!((&found["ty"], &found["op"], &found["rs"]), (&json!(17), &json!(1), &json!(1)));
    assert_eq!((&found["org"], &found["tg"]), (&json!(OWN), &json!("cse/light1")), "{found}");
    assert_eq!(found["rid"], create.id());
    assert_eq!(
        (&found["ors"]["rsc"], &found["ors"]["pc"]["m2m:cnt"]["rn"]),
        (&json!(2001), &json!("lamp"))
    );
    light.ask(&own("/cse/light1/lamp")).unwrap().expect(200, 2000);
    // A refused request has failed.
    let refused = stored(&mut light, &create);
    let refused = fetched(&mut light, &refused);
    assert_eq!((&refused["rs"], &refused["ors"]["rsc"]), (&json!(2), &json!(4105)));
    // The result belongs to its originator alone, and the CSE alone changes it.
    let mut other = register(&gateway, 2, json!({}));
    let theirs = Request::retrieve(&path).from(OTHER);
    other.ask(&theirs).unwrap().expect_refusal(403, 4103);
    let change = Request::update(&path, &json!({"m2m:req": {"rs": 1}})).from(OWN);
    light.ask(&change).unwrap().expect_refusal(405, 4005);
    let forged = json!({"m2m:req": {"rs": 1}});
    let forged = Request::create("/cse/light1", 17, &forged).from(OWN);
    light.ask(&forged).unwrap().expect_refusal(405, 4005);
    drop(light);
    let gateway = gateway.kill_and_restart();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    assert_eq!(fetched(&mut light, &path), found);
    light.ask(&Request::delete(&path).from(OWN)).unwrap().expect(200, 2002);
    light.ask(&own(&path)).unwrap().expect_refusal(404, 4004);
}

#[test]
fn stored_results_are_limited() {
    let gateway = Setup::new().start();
    let mut light = register(&gateway, 1, json!({}));
    let mut last = String::new();
    for _ in 0..32 {
        last = stored(&mut light, &own("/cse/light1?rt=1"));
        fetched(&mut light, &last);
    }
    light.ask(&own("/cse/light1?rt=1")).unwrap().expect_refusal(406, 5207);
    light.ask(&Request::delete(&last).from(OWN)).unwrap().expect(200, 2002);
    stored(&mut light, &own("/cse/light1?rt=1"));
    // Invalid requests are refused at once.
    for (path, rsc) in [("/cse/light1?rt=1&rcn=99", 4000), ("/cse/light1?rt=1&rt=1", 4000)] {
        assert_eq!(light.ask(&own(path)).unwrap().rsc(), Some(rsc), "{path}");
    }
    // A flexible request is answered at once.
    light.ask(&own("/cse/light1?rt=4")).unwrap().expect(200, 2000);
}

#[test]
fn request_is_executed_at_its_time() {
    let gateway = Setup::new().start();
    let mut light = register(&gateway, 1, json!({}));
    let create = |name: &str, response_type: u8, time: &str| {
        let content = json!({"m2m:cnt": {"rn": name}});
        let path = format!("/cse/light1?rt={response_type}");
        Request::create(&path, 3, &content).from(OWN).header("X-M2M-OET", time)
    };
    for (response_type, time, rsc) in
        [(3, "2000", 5001), (1, "-1", 4008), (1, "soon", 4000), (1, "3700000", 5207)]
    {
        let refused = light.ask(&create("lost", response_type, time)).unwrap();
        assert_eq!(refused.rsc(), Some(rsc), "{response_type} {time}");
    }
    let path = stored(&mut light, &create("later", 1, "2500"));
    light.ask(&own("/cse/light1/later")).unwrap().expect_refusal(404, 4004);
    let pending = light.ask(&own(&path)).unwrap().expect(200, 2000).json();
    assert_eq!(pending["m2m:req"]["rs"], 3);
    assert_eq!(fetched(&mut light, &path)["rs"], 1);
    light.ask(&own("/cse/light1/later")).unwrap().expect(200, 2000);
    // A restart interrupts it.
    let path = stored(&mut light, &create("never", 1, "3000000"));
    drop(light);
    let gateway = gateway.kill_and_restart();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    assert_eq!(fetched(&mut light, &path)["rs"], 2);
    light.ask(&own("/cse/light1/never")).unwrap().expect_refusal(404, 4004);
}

#[test]
fn stored_result_ends_when_it_was_sent() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let gateway = allowed().start();
    let mut light = register(&gateway, 1, json!({}));
    let of =
        |query: &str, to: &str| own(&format!("/cse/light1?rt=2{query}")).header("X-M2M-RTU", to);
    let is_gone = |light: &mut Light, path: &str| {
        eventually(|| match light.ask(&own(path)).unwrap().rsc() {
            Some(4004) => Ok(()),
            other => Err(other),
        });
    };
    let url = url(&target, "/");
    let path = acknowledged(&mut light, &of("", &url));
    target.wait(1);
    is_gone(&mut light, &path);
    // With Result Persistence, or without targets, it is fetched.
    for (query, to) in [("&rp=3000", url.as_str()), ("", "")] {
        let path = acknowledged(&mut light, &of(query, to));
        let found = fetched(&mut light, &path);
        assert_eq!((&found["rs"], &found["ors"]["rsc"]), (&json!(1), &json!(2000)), "{found}");
        if !query.is_empty() {
            assert_eq!(found["mi"]["rp"], "3000");
            is_gone(&mut light, &path);
        }
    }
    target.wait(2);
    // So is a result that its target did not receive.
    target.reply_with(Reply::answer(500, 5000, ""));
    let path = acknowledged(&mut light, &of("", &format!("{url}&http://127.0.0.1:1/")));
    assert_eq!(fetched(&mut light, &path)["rs"], 1);
    gateway.log().wait("notification.failed");
    light.ask(&own(&path)).unwrap().expect(200, 2000);
    for (query, rsc) in [("&rp=soon", 4000), ("&rp=90000000", 5207)] {
        let refused = light.ask(&of(query, &url)).unwrap();
        assert_eq!(refused.rsc(), Some(rsc), "{query}");
    }
}

#[test]
fn times_count_from_arrival_of_request() {
    let gateway = Setup::new().start();
    let mut light = register(&gateway, 1, json!({}));
    let create = |name: &str, expiration: &str| {
        let content = json!({"m2m:cnt": {"rn": name}});
        Request::create("/cse/light1?rt=1", 3, &content)
            .from(OWN)
            .header("X-M2M-OET", "3000")
            .header("X-M2M-RET", expiration)
    };
    let late = stored(&mut light, &create("late", "1000"));
    let early = stored(&mut light, &create("early", "60000"));
    assert_eq!(fetched(&mut light, &late)["ors"]["rsc"], 4008);
    assert_eq!(fetched(&mut light, &early)["ors"]["rsc"], 2001);
    light.ask(&own("/cse/light1/late")).unwrap().expect_refusal(404, 4004);
}

#[test]
fn request_is_recalled_by_deletion() {
    let gateway = Setup::new().start();
    let mut light = register(&gateway, 1, json!({}));
    let create = |name: &str, time: &str| {
        let content = json!({"m2m:cnt": {"rn": name}});
        Request::create("/cse/light1?rt=1", 3, &content).from(OWN).header("X-M2M-OET", time)
    };
    let recalled = stored(&mut light, &create("recalled", "2000"));
    let other = stored(&mut light, &create("other", "3000"));
    // A request to a request is a blocking one.
    light.ask(&own(&format!("{recalled}?rt=1"))).unwrap().expect_refusal(400, 4000);
    light.ask(&Request::delete(&recalled).from(OWN)).unwrap().expect(200, 2002);
    assert_eq!(fetched(&mut light, &other)["rs"], 1);
    light.ask(&own("/cse/light1/recalled")).unwrap().expect_refusal(404, 4004);
}

#[test]
fn request_in_execution_cannot_be_recalled() {
    let target = Upstream::start(Reply::Pending);
    let gateway = allowed().with("notifications", "timeout-seconds = 60").start();
    let mut light = register(&gateway, 1, json!({}));
    let sub = json!({"m2m:sub": {"rn": "told", "nu": [url(&target, "/")]}});
    let path = stored(&mut light, &Request::create("/cse/light1?rt=1", 23, &sub).from(OWN));
    target.wait(1);
    light.ask(&Request::delete(&path).from(OWN)).unwrap().expect_refusal(409, 5220);
    target.reply_with(Reply::answer(200, 2000, ""));
    assert_eq!(fetched(&mut light, &path)["rs"], 1);
    light.ask(&Request::delete(&path).from(OWN)).unwrap().expect(200, 2002);
}

#[test]
fn request_of_absent_client_does_not_stay_pending() {
    let gateway = Setup::new().start();
    drop(register(&gateway, 1, json!({})));
    for _ in 0..16 {
        let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
        light.send(&own("/cse/light1?rt=1").bytes()).unwrap();
        light.close();
    }
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    eventually(|| {
        let found = light.ask(&own("/cse/light1?rcn=4&ty=17")).unwrap().expect(200, 2000).json();
        let requests = found["m2m:ae"]["m2m:req"].as_array().cloned().unwrap_or_default();
        let pending = requests.iter().filter(|request| request["rs"] == json!(3)).count();
        if pending == 0 { Ok(()) } else { Err(found) }
    });
}
