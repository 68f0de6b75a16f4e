//! Primitives that clients of other CSEs had problems with: accepted values, refused values, and
//! default attributes.

use saegis_tests::{
    Gateway, LIGHT1, LIGHT2, Light, Mark, Message, Reply, Request, Response, Setup, Upstream,
};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";
const LAMP: &str = "/cse/light1/lamp";

/// Returns light 1 with its container `lamp`.
fn with_lamp(setup: Setup) -> (Gateway, Light) {
    let gateway = setup.start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    ask(&mut light, Request::create_ae("light1")).expect(201, 2001);
    ask(&mut light, Request::create_container("/cse/light1", "lamp")).expect(201, 2001);
    (gateway, light)
}

fn ask(light: &mut Light, request: Request) -> Response {
    light.ask(&request.from(OWN)).unwrap()
}

fn create(light: &mut Light, path: &str, ty: u16, content: Value) -> Response {
    ask(light, Request::create(path, ty, &content))
}

fn retrieve(light: &mut Light, path: &str) -> Value {
    ask(light, Request::retrieve(path)).expect(200, 2000).json()
}

#[test]
fn content_may_be_any_json_value() {
    let (_gateway, mut light) = with_lamp(Setup::new());
    for con in [
        json!({"temperature": 0.30000000000000004, "on": true, "cr": "Cother"}),
        json!([1, "a", {"b": null}]),
        json!("21"),
        json!(21.5),
        json!(false),
    ] {
        create(&mut light, LAMP, 4, json!({"m2m:cin": {"con": con}})).expect(201, 2001);
        let latest = retrieve(&mut light, "/cse/light1/lamp/la");
        let size = con.as_str().map_or_else(|| con.to_string().len(), str::len);
        assert_eq!(latest["m2m:cin"]["con"], con);
        assert_eq!(latest["m2m:cin"]["cs"], size);
    }
    let none = create(&mut light, LAMP, 4, json!({"m2m:cin": {"con": null}}));
    none.expect_refusal(400, 4000);
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    let deep = create(&mut light, LAMP, 4, json!({"m2m:cin": {"con": deep}}));
    deep.expect_refusal(400, 4000);
}

/// Returns a response of a server without oneM2M support.
fn plain(status: &str) -> Reply {
    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok");
    Reply::Bytes(answer.into())
}

fn subscription(target: &str) -> Value {
    json!({"m2m:sub": {"nu": [target], "enc": {"net": [3], "chty": [4]}}})
}

fn content(request: &Message) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

#[test]
fn plain_http_target_is_notified() {
    let target = Upstream::start(plain("200"));
    let setup = Setup::new().with("notifications", "targets = [\"127.0.0.1\"]");
    let (gateway, mut light) = with_lamp(setup);
    let url = format!("http://127.0.0.1:{}/told", target.port());
    for (n, status) in ["200", "201", "299"].into_iter().enumerate() {
        target.reply_with(plain(status));
        create(&mut light, LAMP, 23, subscription(&url)).expect(201, 2001);
        assert_eq!(content(&target.wait(n + 1)[n])["m2m:sgn"]["vrq"], true);
    }
    create(&mut light, LAMP, 4, json!({"m2m:cin": {"con": "on"}})).expect(201, 2001);
    let notified = target.wait(6);
    assert!(notified[3..].iter().all(|t| content(t)["m2m:sgn"]["nev"]["net"] == 3), "{notified:?}");
    // All notifications were delivered, so the next failure is the first.
    target.reply_with(plain("404"));
    let refused = create(&mut light, LAMP, 23, subscription(&url)).expect_refusal(500, 5204);
    assert!(refused.debug().contains(&url), "{refused:?}");
    let failed = gateway.log().all(Mark::START, "notification.failed", 1);
    assert!(
        failed.iter().all(|f| f.message().contains("the target responded with 404")),
        "{failed:?}"
    );
}

#[test]
fn refused_subscription_states_reason_of_target() {
    let target = Upstream::start(plain("200"));
    let setup = Setup::new().with("notifications", "targets = [\"127.0.0.1\"]");
    let setup = setup.with("notifications", "timeout-seconds = 2");
    let (gateway, mut light) = with_lamp(setup);
    let url = format!("http://127.0.0.1:{}/told", target.port());
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    let ae = json!({"m2m:ae": {"rn": "light2", "api": "Nlight", "rr": true, "poa": [url]}});
    other.ask(&Request::create("/cse", 2, &ae).from(OTHER)).unwrap().expect(201, 2001);
    let mut why = |nu: &str| {
        let refused = create(&mut light, LAMP, 23, subscription(nu)).expect_refusal(500, 5204);
        let debug = refused.debug();
        assert!(debug.starts_with(&format!("the target {nu} of the subscription")), "{debug}");
        debug.rsplit_once(": ").unwrap().1.to_string()
    };
    // An AE must send a oneM2M response, at any address.
    assert_eq!(why(OTHER), "the target responded with 200 and without X-M2M-RSC");
    target.reply_with(plain("404"));
    assert_eq!(why(OTHER), "the target responded with 404 and without X-M2M-RSC");
    assert_eq!(why(&url), "the target responded with 404");
    target.reply_with(plain("302"));
    assert_eq!(why(&url), "the target responded with 302");
    for status in [200, 403] {
        target.reply_with(Reply::answer(status, 4103, ""));
        for nu in [OTHER, &url] {
            assert_eq!(why(nu), "it answered with 4103 ORIGINATOR_HAS_NO_PRIVILEGE");
        }
    }
    target.reply_with(Reply::Pending);
    assert_eq!(why(&url), "it did not respond in time");
    let unreachable = format!("http://127.0.0.1:{}/", Upstream::closed_port());
    assert_eq!(why(&unreachable), "it cannot be reached");
    // Without a rule for the target, the error does not reveal whether it exists.
    let unknown = why("http://nothing.invalid/");
    assert_eq!(why("http://127.0.0.2:1/"), unknown);
    assert_eq!(unknown, "no rule of this CSE allows that address, or it cannot be resolved");
    // An AE with a polling channel cannot be verified, and the error does not contain its point of
    // access.
    assert!(!why("cse/light2").contains("127.0.0.1"));
}

#[test]
fn filtered_retrieve_includes_ancestors() {
    let (_gateway, mut light) = with_lamp(Setup::new());
    for con in ["a", "b", "c"] {
        create(&mut light, LAMP, 4, json!({"m2m:cin": {"con": con}})).expect(201, 2001);
    }
    let container = json!({"m2m:cnt": {"rn": "other", "lbl": ["x"]}});
    create(&mut light, "/cse/light1", 3, container).expect(201, 2001);
    for rcn in [4, 8] {
        let found = retrieve(&mut light, &format!("/cse/light1?rcn={rcn}&ty=4"));
        let containers = found["m2m:ae"]["m2m:cnt"].as_array().unwrap();
        assert_eq!(containers.len(), 1, "{found}");
        let instances = containers[0]["m2m:cin"].as_array().unwrap();
        let all: Vec<_> = instances.iter().map(|i| i["con"].as_str().unwrap()).collect();
        assert_eq!(
            (all.concat().as_str(), found["m2m:ae"].get("api").is_some()),
            ("abc", rcn == 4)
        );
    }
    let none = retrieve(&mut light, "/cse/light1?rcn=8&ty=9");
    assert_eq!(none, json!({"m2m:ae": {}}));
    // The remaining resources are retrieved with an offset.
    let part = ask(&mut light, Request::retrieve("/cse/light1/lamp?rcn=8&lim=2"));
    let part = part.expect(200, 2000);
    assert_eq!((part.header("x-m2m-cts"), part.header("x-m2m-cto")), (Some("1"), Some("3")));
    let rest = ask(&mut light, Request::retrieve("/cse/light1/lamp?rcn=8&lim=2&ofst=3"));
    let rest = rest.expect(200, 2000);
    assert_eq!((rest.header("x-m2m-cts"), rest.header("x-m2m-cto")), (None, None));
    assert_eq!(rest.json()["m2m:cnt"]["m2m:cin"][0]["con"], "c");
}

#[test]
fn polling_channel_is_private_to_its_ae() {
    let (gateway, mut light) = with_lamp(Setup::new());
    let all = json!({"acr": [{"acor": ["all"], "acop": 63}]});
    let acp = json!({"m2m:acp": {"rn": "open", "pv": all, "pvs": all}});
    create(&mut light, "/cse/light1", 1, acp).expect(201, 2001);
    let channel = json!({"m2m:pch": {"rn": "pch", "rqag": false, "acpi": ["cse/light1/open"]}});
    create(&mut light, "/cse/light1", 15, channel).expect(201, 2001);
    let open = json!({"m2m:ae": {"acpi": ["cse/light1/open"]}});
    ask(&mut light, Request::update("/cse/light1", &open)).expect(200, 2004);
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    let mut other = |request: Request| other.ask(&request.from(OTHER)).unwrap();
    other(Request::create_ae("light2")).expect(201, 2001);
    let path = "/cse/light1/pch";
    let change = json!({"m2m:pch": {"lbl": ["x"]}});
    for request in [
        Request::retrieve(path),
        Request::update(path, &change),
        Request::delete(path),
        Request::retrieve("/cse/light1/pch/pcu"),
        Request::retrieve("/cse/light1/pch?fu=1"),
    ] {
        other(request).expect_refusal(403, 4103);
    }
    for query in ["rcn=4", "rcn=5", "rcn=6", "rcn=8", "fu=1"] {
        let shown = other(Request::retrieve(&format!("/cse/light1?{query}"))).expect(200, 2000);
        assert!(shown.text().contains("lamp") && !shown.text().contains("pch"), "{shown:?}");
    }
    let group = json!({"m2m:grp": {"rn": "all", "mnm": 1, "mid": ["cse/light1/pch"]}});
    other(Request::create("/cse/light2", 9, &group)).expect_refusal(403, 5105);
    // The AE itself still has access.
    ask(&mut light, Request::update(path, &change)).expect(200, 2004);
    ask(&mut light, Request::delete(path)).expect(200, 2002);
}

#[test]
fn missing_attributes_get_defaults() {
    let target = Upstream::start(plain("200"));
    let setup = Setup::new()
        .with("cse", "administrators = [\"Clight-AE1\"]")
        .with("notifications", "targets = [\"127.0.0.1\"]");
    let (_gateway, mut light) = with_lamp(setup);
    let common = create(&mut light, "/cse", 3, json!({"m2m:cnt": {"rn": "common"}}));
    let et = common.expect(201, 2001).json()["m2m:cnt"]["et"].clone();
    assert_eq!(et.as_str().map(str::len), Some(15), "{et}");
    let below = create(&mut light, "/cse/common", 4, json!({"m2m:cin": {"con": 1}}));
    assert_eq!(below.expect(201, 2001).json()["m2m:cin"]["et"], et);
    let mut sub = |nu: Value| {
        let made = create(&mut light, LAMP, 23, json!({"m2m:sub": {"nu": nu}})).expect(201, 2001);
        let sub = made.json()["m2m:sub"].clone();
        assert!(sub["et"].is_string(), "{sub}");
        (sub["nct"].clone(), sub["cr"].clone())
    };
    let url = format!("http://127.0.0.1:{}/", target.port());
    assert_eq!(sub(json!([OWN])), (json!(1), Value::Null));
    assert_eq!(sub(json!([OWN, url])), (json!(1), json!(OWN)));
    let cb = retrieve(&mut light, "/cse")["m2m:cb"].clone();
    let expected = (&Value::Null, &Value::Null, &json!(["json", "cbor"]));
    assert_eq!((&cb["rr"], &cb["poa"], &cb["csz"]), expected);
    let nl = json!({"m2m:ae": {"nl": "/in-cse/nod-1"}});
    let changed = ask(&mut light, Request::update("/cse/light1", &nl)).expect(200, 2004);
    assert_eq!(changed.json()["m2m:ae"]["nl"], "/in-cse/nod-1");
}

#[test]
fn invalid_attribute_value_is_refused() {
    let (_gateway, mut light) = with_lamp(Setup::new());
    for (ty, path, content, names) in [
        (4, LAMP, json!({"m2m:cin": {"con": "x", "cnf": "text/plain"}}), "cnf"),
        (4, LAMP, json!({"m2m:cin": {"con": "x", "cnf": "text/plain:3"}}), "cnf"),
        (4, LAMP, json!({"m2m:cin": {"con": "x", "cnf": "text:0"}}), "cnf"),
        (4, LAMP, json!({"m2m:cin": {"con": {}, "cnf": "json:0:9"}}), "cnf"),
        (3, "/cse/light1", json!({"m2m:cnt": {"lbl": []}}), "lbl"),
        (3, "/cse/light1", json!({"m2m:cnt": {"acpi": []}}), "acpi"),
        (3, "/cse/light1", json!({"m2m:cnt": {"lbl": ["a\nb"]}}), "lbl"),
        (3, "/cse/light1", json!({"m2m:cnt": {"lbl": [" a"]}}), "lbl"),
        (23, LAMP, json!({"m2m:sub": {"nu": [OWN], "enc": {"net": [3], "chty": [2]}}}), "chty"),
        (23, LAMP, json!({"m2m:sub": {"nu": [OWN], "enc": {"net": [3], "chty": []}}}), "chty"),
    ] {
        let refused = create(&mut light, path, ty, content.clone()).expect_refusal(400, 4000);
        assert!(refused.debug().contains(names), "{content} {refused:?}");
    }
    for (bad, names) in [
        (json!({"poa": []}), "poa"),
        (json!({"csz": ["yaml"]}), "csz"),
        (json!({"csz": []}), "csz"),
        (json!({"srv": []}), "srv"),
    ] {
        let refused = ask(&mut light, Request::update("/cse/light1", &json!({"m2m:ae": bad})));
        assert!(refused.expect_refusal(400, 4000).debug().contains(names));
    }
}

#[test]
fn disabled_unsupported_feature_is_accepted() {
    let (_gateway, mut light) = with_lamp(Setup::new());
    let mut channel = |is_aggregating: bool| {
        let channel = json!({"m2m:pch": {"rn": "pch", "rqag": is_aggregating}});
        create(&mut light, "/cse/light1", 15, channel)
    };
    assert!(channel(true).expect_refusal(501, 5001).debug().contains("rqag"));
    assert_eq!(channel(false).expect(201, 2001).json()["m2m:pch"]["rqag"], false);
    // A media type with an encoding, and a serialization of earlier releases.
    let instance = json!({"m2m:cin": {"con": {"on": true}, "cnf": "application/json:0"}});
    create(&mut light, LAMP, 4, instance).expect(201, 2001);
    let found = retrieve(&mut light, "/cse/light1?fu=1&cty=application/json");
    assert_eq!(found["m2m:uril"].as_array().map(Vec::len), Some(1), "{found}");
    let csz = json!({"m2m:ae": {"csz": ["json", "application/xml"]}});
    ask(&mut light, Request::update("/cse/light1", &csz)).expect(200, 2004);
}
