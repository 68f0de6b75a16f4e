//! Notifications of the embedded CSE, over HTTP and through polling channels.

use saegis_tests::{
    Client, Credential, Gateway, LIGHT1, LIGHT2, Light, Message, Reply, Request, Setup, Tool,
    Upstream, with_each_client,
};
use serde_json::{Value, json};

with_each_client!(subscriber_is_notified, target_without_rule_gets_no_notification);

const OWN: &str = "Clight-AE1";

fn request_id(request: &Message) -> &str {
    request.values("x-m2m-ri")[0]
}

fn content(request: &Message) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

fn with_lamp(tool: Tool, setup: Setup) -> (Gateway, Client) {
    let gateway = setup.start();
    let mut light = tool.connect(gateway.port(), LIGHT1);
    light.ask(&Request::create_ae("light1").from(OWN)).expect(201, 2001);
    light.ask(&Request::create_container("/cse/light1", "lamp").from(OWN)).expect(201, 2001);
    (gateway, light)
}

fn subscription(target: &str) -> Request {
    let content = json!({ "m2m:sub": {
        "rn": "told", "nu": [target], "su": target, "enc": { "net": [3] },
    }});
    Request::create("/cse/light1/lamp", 23, &content).from(OWN)
}

fn subscriber_is_notified(tool: Tool) {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let allowed = format!("targets = [\"127.0.0.1:{}\"]", target.port());
    let (_gateway, mut light) = with_lamp(tool, Setup::new().with("notifications", &allowed));
    let address = format!("http://127.0.0.1:{}/told?me=1", target.port());
    light.ask(&subscription(&address)).expect(201, 2001);
    let verification = &target.wait(1)[0];
    assert_eq!(verification.line, "POST /told?me=1 HTTP/1.1");
    assert_eq!(verification.values("x-m2m-origin"), ["/mn-cse-123456"]);
    assert_eq!(content(verification)["m2m:sgn"]["vrq"], true);
    for (value, notified) in [("on", 2), ("off", 3)] {
        let instance = Request::create_instance("/cse/light1/lamp", value).from(OWN);
        light.ask(&instance).expect(201, 2001);
        // Notifications are sent side by side.
        target.wait(notified);
    }
    let notified = target.wait(3);
    for (notification, value) in notified[1..].iter().zip(["on", "off"]) {
        let sgn = &content(notification)["m2m:sgn"];
        assert_eq!(sgn["nev"]["rep"]["m2m:cin"]["con"], value, "{sgn}");
        assert!(sgn["sur"].as_str().unwrap().starts_with("/mn-cse-123456/"), "{sgn}");
        assert_eq!(notification.values("host"), [format!("127.0.0.1:{}", target.port())]);
        assert!(!request_id(notification).is_empty());
    }
    // The deletion of the subscription is notified, and nothing after it.
    light.ask(&Request::delete("/cse/light1/lamp/told").from(OWN)).expect(200, 2002);
    assert_eq!(content(&target.wait(4)[3])["m2m:sgn"]["sud"], true);
    light.ask(&Request::create_instance("/cse/light1/lamp", "on").from(OWN)).expect(201, 2001);
    light.ask(&Request::retrieve("/cse/light1/lamp/la").from(OWN)).expect(200, 2000);
    assert_eq!(target.requests().len(), 4);
}

/// A subscription cannot make the gateway send requests to arbitrary hosts.
fn target_without_rule_gets_no_notification(tool: Tool) {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let port = target.port();
    let other = format!("127.0.0.1:{}", if port == 1 { 2 } else { 1 });
    for allowed in ["targets = []".to_string(), format!("targets = [\"{other}\", \"10.0.0.0/8\"]")]
    {
        let (gateway, mut light) = with_lamp(tool, Setup::new().with("notifications", &allowed));
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
            let refused = light.ask(&subscription(&format!("http://{host}:{port}/")));
            refused.expect_refusal(500, 5204);
        }
        assert!(
            gateway
                .log()
                .wait("notification.failed")
                .message()
                .contains("no rule allows the address")
        );
        light.ask(&Request::create_instance("/cse/light1/lamp", "on").from(OWN)).expect(201, 2001);
    }
    assert!(target.requests().is_empty());
}

/// Neither content whose access was withdrawn nor inaccessible children are notified.
#[test]
fn notification_respects_access_of_subscriber() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let setup = Setup::new().with("notifications", "targets = [\"127.0.0.1\"]");
    let (gateway, mut light) = with_lamp(Tool::OpenSsl, setup);
    let mut other = Tool::OpenSsl.connect(gateway.port(), LIGHT2);
    other.ask(&Request::create_ae("light2").from("Clight-AE2")).expect(201, 2001);
    let policy = |name: &str, who: &[&str]| {
        let rules = json!({ "acr": [{ "acor": who, "acop": 63 }] });
        let own = json!({ "acr": [{ "acor": [OWN], "acop": 63 }] });
        json!({ "m2m:acp": { "rn": name, "pv": rules, "pvs": own } })
    };
    let mut make = |path: &str, ty: u16, content: &Value| {
        light.ask(&Request::create(path, ty, content).from(OWN)).expect(201, 2001);
    };
    make("/cse/light1", 1, &policy("open", &[OWN, "Clight-AE2"]));
    make("/cse/light1", 1, &policy("closed", &[OWN]));
    let container = |name: &str, acp: &str| json!({ "m2m:cnt": { "rn": name, "acpi": [format!("cse/light1/{acp}")] } });
    make("/cse/light1", 3, &container("shared", "open"));
    let subscription = json!({ "m2m:sub": {
        "rn": "told", "nu": [format!("http://127.0.0.1:{}/", target.port())], "enc": { "net": [3] },
    }});
    let subscription = Request::create("/cse/light1/shared", 23, &subscription);
    other.ask(&subscription.from("Clight-AE2")).expect(201, 2001);
    target.wait(1);
    make("/cse/light1/shared", 3, &container("secret", "closed"));
    make("/cse/light1/shared", 3, &container("seen", "open"));
    let notified = target.wait(2);
    assert_eq!(content(&notified[1])["m2m:sgn"]["nev"]["rep"]["m2m:cnt"]["rn"], "seen");
    let closed = json!({ "m2m:cnt": { "acpi": ["cse/light1/closed"] } });
    let close = Request::update("/cse/light1/shared", &closed).from(OWN);
    light.ask(&close).expect(200, 2004);
    light.ask(&Request::create_instance("/cse/light1/shared", "on").from(OWN)).expect(201, 2001);
    light.ask(&Request::retrieve("/cse/light1/shared/la").from(OWN)).expect(200, 2000);
    assert_eq!(target.requests().len(), 2, "inaccessible content is not notified");
}

/// A target that responds late or with an error prevents the subscription.
#[test]
fn refusing_target_prevents_subscription() {
    let target = Upstream::start(Reply::answer(403, 4103, ""));
    let setup = Setup::new().with("notifications", "targets = [\"127.0.0.1\"]");
    let setup = setup.with("notifications", "timeout-seconds = 1");
    let (_gateway, mut light) = with_lamp(Tool::OpenSsl, setup);
    let address = format!("http://127.0.0.1:{}/", target.port());
    light.ask(&subscription(&address)).expect_refusal(500, 5204);
    target.reply_with(Reply::Pending);
    light.ask(&subscription(&address)).expect_refusal(500, 5204);
    target.reply_with(Reply::Bytes(b"rubbish".to_vec()));
    light.ask(&subscription(&address)).expect_refusal(500, 5204);
    let unreachable = format!("http://127.0.0.1:{}/", Upstream::closed_port());
    light.ask(&subscription(&unreachable)).expect_refusal(500, 5204);
    light.ask(&Request::retrieve("/cse/light1/lamp/told").from(OWN)).expect_refusal(404, 4004);
}

/// An AE without a point of access retrieves its notifications. Others are served while it waits.
#[test]
fn polling_ae_receives_notifications() {
    let (gateway, mut light) = with_lamp(Tool::OpenSsl, Setup::new());
    let channel = Request::create("/cse/light1", 15, &json!({ "m2m:pch": { "rn": "polls" } }));
    light.ask(&channel.clone().from(OWN)).expect(201, 2001);
    light.ask(&subscription(OWN)).expect(201, 2001);
    let mut poller = Light::connect(gateway.port(), LIGHT1).unwrap();
    let polled = std::thread::spawn(move || {
        let poll = Request::retrieve("/cse/light1/polls/pcu").from(OWN);
        poller.ask(&poll).unwrap()
    });
    // Other AEs have no access to the channel.
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    other.ask(&Request::create_ae("light2").from("Clight-AE2")).unwrap().expect(201, 2001);
    let poll = Request::retrieve("/cse/light1/polls/pcu").from("Clight-AE2");
    other.ask(&poll).unwrap().expect_refusal(403, 4103);
    light.ask(&Request::create_instance("/cse/light1/lamp", "on").from(OWN)).expect(201, 2001);
    let got = polled.join().unwrap().expect(200, 2000).json().to_string();
    assert!(got.contains("m2m:sgn") && got.contains("\"con\":\"on\""), "{got}");
}

/// Silent targets of many AEs do not delay the notifications of another AE.
#[test]
fn silent_targets_do_not_delay_other_notifications() {
    const SILENT: usize = 8;
    const BATCHES: usize = 40;
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let silent = Upstream::start(Reply::answer(200, 2000, ""));
    let device = |n: usize| {
        let (stem, identity) = (format!("Csilent{n}"), format!("silent{n}@in.provider.com"));
        (stem, identity, format!("c0ffee{:026x}", n + 1))
    };
    let rows: String = (0..SILENT)
        .map(|n| {
            let (stem, identity, key) = device(n);
            format!("{stem},{key},{identity}\n")
        })
        .collect();
    let own = format!("{OWN},{},{}\n", LIGHT1.key, LIGHT1.identity);
    let gateway = Setup::new()
        .with("notifications", "targets = [\"127.0.0.1\"]")
        .with("notifications", "timeout-seconds = 60")
        .file("psk-lookup-table.csv", &format!("ae_id,kpsa,kpsa_id\n{own}{rows}"))
        .start();
    let subscribe = |from: &str, to: &Upstream| {
        let url = format!("http://127.0.0.1:{}/", to.port());
        let content = json!({ "m2m:sub": { "rn": "told", "nu": [url], "enc": { "net": [3] } } });
        Request::create(&format!("/cse/{from}/data"), 23, &content).from(from)
    };
    let instance =
        |from: &str| Request::create_instance(&format!("/cse/{from}/data"), "on").from(from);
    let begin = |from: &str, credential: Credential<'_>, to: &Upstream| {
        let mut light = Light::connect(gateway.port(), credential).unwrap();
        light.ask(&Request::create_ae(from).from(from)).unwrap().expect(201, 2001);
        let container = Request::create_container(&format!("/cse/{from}"), "data").from(from);
        light.ask(&container).unwrap().expect(201, 2001);
        light.ask(&subscribe(from, to)).unwrap().expect(201, 2001);
        light
    };
    let mut good = begin(OWN, LIGHT1, &target);
    let mut lights = Vec::new();
    for n in 0..SILENT {
        let (stem, identity, key) = device(n);
        let credential = Credential { identity: &identity, key: &key };
        lights.push((begin(&stem, credential, &silent), stem));
    }
    silent.reply_with(Reply::Pending);
    for (light, stem) in &mut lights {
        for _ in 0..BATCHES {
            light.ask(&instance(stem)).unwrap().expect(201, 2001);
        }
    }
    // The first request was its own verification.
    for notified in 2..5 {
        good.ask(&instance(OWN)).unwrap().expect(201, 2001);
        target.wait(notified);
    }
}
