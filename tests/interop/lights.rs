//! Everyday requests of lights, with ACME behind the gateway.

use std::fs;

use saegis_tests::{
    Ae, Client, Credential, Gateway, LIGHT1, LIGHT2, ListeningAe, Mark, Message, Reply, Request,
    Setup, Tool, Upstream, with_each_client,
};
use serde_json::{Value, json};

use crate::acme::Acme;

with_each_client!(both_lights_are_walked_through);

/// A credential without an AE-ID in policy.
const NAMELESS: Credential<'static> =
    Credential { identity: "new@in.provider.com", key: "00112233445566778899aabbccddeeff" };

/// A light: its client, its AE-ID, and the name of its resource.
pub struct Light {
    pub client: Client,
    pub id: &'static str,
    pub path: &'static str,
}

impl Light {
    /// Returns light 1 of the worked example.
    pub fn one(tool: Tool, gateway: &Gateway) -> Self {
        let client = tool.connect(gateway.port(), LIGHT1);
        Self { client, id: "Clight-AE1", path: "/cse/light1" }
    }

    /// Returns light 2 of the worked example.
    pub fn two(tool: Tool, gateway: &Gateway) -> Self {
        let client = tool.connect(gateway.port(), LIGHT2);
        Self { client, id: "Clight-AE2", path: "/cse/light2" }
    }

    /// Registers and creates a container for the lamp.
    #[track_caller]
    pub fn register(&mut self) {
        let name = self.path.trim_start_matches("/cse/");
        let ae = self.client.ask(&create_ae(name).from(self.id)).expect(201, 2001).json();
        assert_eq!(ae["m2m:ae"]["aei"], self.id);
        self.ask(Request::create_container(self.path, "lamp"), 201, 2001);
    }

    /// Sends a request as the light's originator.
    #[track_caller]
    pub fn ask(&mut self, request: Request, status: u16, rsc: u16) -> Value {
        let response = self.client.ask(&request.from(self.id)).expect(status, rsc);
        if response.text().is_empty() { Value::Null } else { response.json() }
    }

    /// Stores the state of the lamp.
    #[track_caller]
    pub fn send(&mut self, value: &str) -> Value {
        let lamp = format!("{}/lamp", self.path);
        self.ask(Request::create_instance(&lamp, value), 201, 2001)
    }

    /// Retrieves the state of the lamp.
    #[track_caller]
    pub fn latest(&mut self) -> Value {
        let latest = Request::retrieve(&format!("{}/lamp/la", self.path));
        self.ask(latest, 200, 2000)["m2m:cin"]["con"].take()
    }
}

/// Starts ACME and a gateway in front of it.
pub fn start() -> (Acme, Gateway) {
    let acme = Acme::start();
    let gateway = Setup::new().upstream(acme.port()).start();
    (acme, gateway)
}

/// Returns a create request for an AE. Unlike the embedded CSE, ACME requires the supported
/// releases.
pub fn create_ae(name: &str) -> Request {
    let ae = json!({ "rn": name, "api": "Nlight", "rr": false, "srv": ["3"] });
    Request::create("/cse", 2, &json!({ "m2m:ae": ae }))
}

fn both_lights_are_walked_through(tool: Tool) {
    let (_acme, gateway) = start();
    let mut lights = [Light::one(tool, &gateway), Light::two(tool, &gateway)];
    for light in &mut lights {
        light.register();
        // A second registration is refused.
        light.ask(create_ae("again"), 403, 4117);
        let lamp = format!("{}/lamp", light.path);
        for value in ["on", "off", "gr\u{fc}n \u{2713} \"{}\\"] {
            light.send(value);
            assert_eq!(light.latest(), value);
        }
        let oldest = light.ask(Request::retrieve(&format!("{lamp}/ol")), 200, 2000);
        assert_eq!(oldest["m2m:cin"]["con"], "on");
        let update = json!({ "m2m:cnt": { "lbl": ["room:bath"], "mni": 2 } });
        let container = light.ask(Request::update(&lamp, &update), 200, 2004);
        assert_eq!(container["m2m:cnt"]["cni"], 2);
    }
    let [one, two] = &mut lights;
    // Each spelling of an address works.
    for path in [
        "/~/mn-cse-123456/cse/light1/lamp",
        "/_/in.provider.com/mn-cse-123456/cse/light1/lamp",
        "/cse/%6cight1/lamp",
    ] {
        let lamp = one.ask(Request::retrieve(path), 200, 2000);
        assert_eq!(lamp["m2m:cnt"]["rn"], "lamp", "{path}");
    }
    let id = one.ask(Request::retrieve("/cse/light1/lamp"), 200, 2000)["m2m:cnt"]["ri"].take();
    let by_id = Request::retrieve(&format!("/{}", id.as_str().unwrap()));
    assert_eq!(one.ask(by_id, 200, 2000)["m2m:cnt"]["rn"], "lamp");
    // Query strings work.
    let found = one.ask(Request::retrieve("/cse/light1?fu=1&ty=3&lbl=room%3Abath"), 200, 2000);
    assert_eq!(found, json!({ "m2m:uril": ["cse/light1/lamp"] }));
    let children = one.ask(Request::retrieve("/cse/light1?rcn=4"), 200, 2000);
    assert_eq!(children["m2m:ae"]["m2m:cnt"][0]["m2m:cin"][0]["con"], "off");
    // Error responses of ACME are forwarded.
    one.ask(Request::retrieve("/cse/light1/fan"), 404, 4004);
    one.ask(Request::retrieve("/cse/light2/lamp/la"), 403, 4103);
    one.ask(Request::create_instance("/cse/light2/lamp", "off"), 403, 4103);
    one.ask(Request::delete("/cse/light2"), 403, 4103);
    one.ask(Request::create_instance("/cse/light1", "off"), 403, 4108);
    // One light deregisters, and the other stays.
    one.ask(Request::delete("/cse/light1"), 200, 2002);
    one.ask(Request::retrieve("/cse/light1"), 404, 4004);
    two.send("on");
    assert_eq!(two.latest(), "on");
    assert_eq!(gateway.log().all(Mark::START, "association.established", 2).len(), 2);
}

#[test]
fn subscriber_is_notified() {
    let (acme, gateway) = start();
    let mut light = Light::one(Tool::OpenSsl, &gateway);
    light.register();
    let subscribe = |port: u16| {
        let url = format!("http://127.0.0.1:{port}/told");
        let content = json!({ "rn": "sub", "nu": [url], "nct": 1, "enc": { "net": [3] } });
        Request::create("/cse/light1/lamp", 23, &json!({ "m2m:sub": content }))
    };
    // A target that does not respond cannot be subscribed.
    light.ask(subscribe(Upstream::closed_port()), 500, 5204);
    let target = Upstream::start(Reply::answer(200, 2000, "{}"));
    let subscription = light.ask(subscribe(target.port()), 201, 2001)["m2m:sub"]["ri"].take();
    let subscription = format!("/mn-cse-123456/{}", subscription.as_str().unwrap());
    let [verification] = &target.wait(1)[..] else { panic!("{}", target.text()) };
    let asked: Value = serde_json::from_slice(&verification.body).unwrap();
    assert_eq!(asked["m2m:sgn"]["vrq"], true);
    assert_eq!(asked["m2m:sgn"]["sur"], subscription);
    assert_eq!(asked["m2m:sgn"]["cr"], "Clight-AE1");

    light.send("on");
    let notified = target.wait(2).pop().unwrap();
    assert_eq!(notified.line, "POST /told HTTP/1.1");
    assert_eq!(notified.values("x-m2m-origin"), ["/mn-cse-123456"]);
    let notified: Value = serde_json::from_slice(&notified.body).unwrap();
    assert_eq!(notified["m2m:sgn"]["sur"], subscription);
    assert_eq!(notified["m2m:sgn"]["nev"]["net"], 3);
    assert_eq!(notified["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"], "on");

    // The other light neither receives the notification nor can delete the subscription.
    let mut other = Light::two(Tool::OpenSsl, &gateway);
    other.register();
    other.ask(Request::delete("/cse/light1/lamp/sub"), 403, 4103);
    assert!(acme.tree().contains("sub -> m2m:sub"), "{}", acme.tree());
    light.ask(Request::delete("/cse/light1/lamp/sub"), 200, 2002);
}

#[test]
fn our_own_client_gets_along_with_acme() {
    let (_acme, gateway) = start();
    let light = Ae::new(&gateway, "Clight-AE1", LIGHT1, "light1");
    for (verb, says) in [
        (&["register"][..], "registered as Clight-AE1: -/light1"),
        (&["create", "container", "lamp"], "created: -/light1/lamp"),
        (&["send", "lamp", "on"], "sent to -/light1/lamp: on"),
        (&["latest", "lamp"], "on"),
        (&["deregister"], "deregistered: -/light1"),
    ] {
        let ran = light.run(verb).expect(0);
        assert_eq!(ran.out.lines().last(), Some(says), "{ran:?}");
    }
}

#[test]
fn ae_id_assigned_by_acme_is_bound() {
    let acme = Acme::start();
    let setup = Setup::new().upstream(acme.port());
    let mut table = fs::read_to_string(setup.table()).unwrap();
    let another = Credential { identity: "another@in.provider.com", ..NAMELESS };
    for credential in [NAMELESS, another] {
        table.push_str(&format!(",{},{}\n", credential.key, credential.identity));
    }
    let gateway = setup.file("psk-lookup-table.csv", &table).start();
    let mut client = Tool::OpenSsl.connect(gateway.port(), NAMELESS);
    let ae = client.ask(&create_ae("light3").from("C")).expect(201, 2001).json();
    let id = ae["m2m:ae"]["aei"].as_str().unwrap().to_string();
    assert!(id.starts_with('C') && id.len() > 1, "{id}");
    assert!(gateway.log().wait("association.ae-id-assigned").message().contains(&id));
    client.ask(&Request::retrieve("/cse/light3").from(&id)).expect(200, 2000);
    client.ask(&Request::retrieve("/cse/light3").from("Clight-AE1")).expect_refusal(403, 4106);
    // The AE-ID of a row is not available, although ACME would assign it.
    let mut other = Tool::OpenSsl.connect(gateway.port(), another);
    other.ask(&create_ae("light1").from("Clight-AE1")).expect_refusal(403, 4117);
    other.ask(&create_ae("light1").from(&id)).expect_refusal(403, 4117);
    // The AE-ID is the same after a restart.
    let gateway = gateway.restart();
    let mut client = Tool::OpenSsl.connect(gateway.port(), NAMELESS);
    client.ask(&Request::retrieve("/cse/light3").from(&id)).expect(200, 2000);
    // The AE-ID is released when ACME deletes the AE.
    client.ask(&Request::delete("/cse/light3").from(&id)).expect(200, 2002);
    gateway.log().wait("ae-id.released");
    assert!(!acme.tree().contains("light1"), "{}", acme.tree());
}

#[test]
fn acme_dies_and_comes_back() {
    let (acme, gateway) = start();
    let mut light = Light::one(Tool::OpenSsl, &gateway);
    light.register();
    light.send("on");
    let port = acme.kill();
    let mark = gateway.log().mark();
    for _ in 0..3 {
        let latest = Request::retrieve("/cse/light1/lamp/la").from(light.id);
        let refused = light.client.ask(&latest).expect_refusal(404, 5103);
        assert_eq!(refused.debug(), "the CSE cannot be reached");
    }
    gateway.log().all(mark, "upstream.failed", 3);
    let acme = Acme::start_at(port);
    // ACME had its resources in memory only.
    light.ask(Request::retrieve("/cse/light1"), 404, 4004);
    light.register();
    light.send("off");
    assert_eq!(light.latest(), "off");
    assert_eq!(acme.resource("cse/light1/lamp")["m2m:cnt"]["cni"], 1);
    assert_eq!(gateway.log().all(Mark::START, "association.established", 1).len(), 1);
    assert!(light.client.runs());
}

/// ACME sends notifications to the point of access of an AE, which is a relay address. The
/// notification arrives over an association with the AE, and requires the AE's key.
#[test]
fn acme_notification_is_relayed_over_association() {
    let acme = Acme::start();
    let gateway = Setup::new()
        .upstream(acme.port())
        .with("upstream", "notification-listen = \"127.0.0.1:0\"")
        .with("notifications", "targets = [\"127.0.0.1\"]")
        .start();
    let mut ae = ListeningAe::with_key(LIGHT1);
    let mut light = Light::one(Tool::OpenSsl, &gateway);
    let own = json!({"m2m:ae": {
        "rn": "light1", "api": "Nlight", "rr": true, "srv": ["3"], "poa": [ae.url()],
    }});
    light.ask(Request::create("/cse", 2, &own), 201, 2001);
    let mut other = Light::two(Tool::OpenSsl, &gateway);
    other.register();
    // The other light subscribes the first, and ACME sends a verification request.
    let notified =
        json!({"m2m:sub": {"rn": "sub", "nu": ["Clight-AE1"], "nct": 1, "enc": {"net": [3]}}});
    let subscribe = Request::create("/cse/light2/lamp", 23, &notified).from(other.id);
    other.client.send(&subscribe.bytes());
    let asked = ae.request();
    let content = |notified: &Message| serde_json::from_slice::<Value>(&notified.body).unwrap();
    assert_eq!(content(&asked)["m2m:sgn"]["vrq"], true);
    assert_eq!(asked.values("x-m2m-origin"), ["/mn-cse-123456"]);
    ae.answer(&asked, 2000, "");
    other.client.read().expect(201, 2001);
    other.send("on");
    let notified = ae.request();
    assert_eq!(content(&notified)["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"], "on");
    ae.answer(&notified, 2000, "");
}
