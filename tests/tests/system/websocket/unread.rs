//! Peers that do not read what they are sent over a WebSocket.

use saegis_tests::{Credential, Gateway, LIGHT1, LIGHT2, Light, Mark, Request, Setup, WebSocket};
use serde_json::json;

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";
const THIRD: &str = "Clight-AE3";
const LIGHT3: Credential<'static> =
    Credential { identity: "light-3@in.provider.com", key: "00112233445566778899aabbccddeeff" };
const JSON: (&str, &str) = ("Sec-WebSocket-Protocol", "oneM2M.json");

/// All lights, with their AE-IDs.
const LIGHTS: [(&str, Credential<'static>); 3] = [(OWN, LIGHT1), (OTHER, LIGHT2), (THIRD, LIGHT3)];

fn with_three_lights(setup: Setup) -> Gateway {
    let mut table = String::from("ae_id,kpsa,kpsa_id\n");
    for (ae, of) in LIGHTS {
        table.push_str(&format!("{ae},{},{}\n", of.key, of.identity));
    }
    setup.file("psk-lookup-table.csv", &table).start()
}

/// Registers an AE with an instance of that size.
fn register(gateway: &Gateway, (ae, credential): (&str, Credential<'_>), bytes: usize) {
    let mut light = Light::connect(gateway.port(), credential).unwrap();
    light.ask(&Request::create_ae(&ae[1..]).from(ae)).unwrap().expect(201, 2001);
    let parent = format!("/cse/{}", &ae[1..]);
    light.ask(&Request::create_container(&parent, "log").from(ae)).unwrap().expect(201, 2001);
    let log = format!("{parent}/log");
    let instance = Request::create_instance(&log, &"x".repeat(bytes)).from(ae);
    light.ask(&instance).unwrap().expect(201, 2001);
    light.close();
}

fn websocket(gateway: &Gateway, credential: Credential<'_>) -> WebSocket {
    Light::connect(gateway.port(), credential).unwrap().websocket(&[JSON]).unwrap()
}

/// Asks for the instance of an AE that often, without reading a response.
fn ask_without_reading(light: &mut WebSocket, ae: &str, times: usize) {
    for _ in 0..times {
        let to = format!("cse/{}/log/la", &ae[1..]);
        let id = light.id();
        let retrieve = json!({"op": 2, "to": to, "fr": ae, "rqi": id, "rvi": "3"});
        light.send_text(&retrieve.to_string());
    }
}

/// A WebSocket has several responses at a time. Each is small, but they count together.
#[test]
fn small_unread_responses_are_bounded() {
    let limits = "response-bytes = 4456448\nresponse-bytes-per-credential = 4456448\n\
                  response-seconds = 300";
    let setup = Setup::new().with("limits", limits).with("websocket", "requests = 64");
    let gateway = with_three_lights(setup);
    let mut lights = Vec::new();
    for (ae, credential) in LIGHTS {
        // The response is smaller than one that would always count.
        register(&gateway, (ae, credential), 60 << 10);
        let mut light = websocket(&gateway, credential);
        // More than the socket buffers of the kernel hold.
        ask_without_reading(&mut light, ae, 400);
        lights.push(light);
    }
    gateway
        .log()
        .wait_for(Mark::START, "association.ended", |event| event.text("why") == "answer not read");
}

/// A peer of a crowd that does not read, with its associations.
struct Unreading {
    ae: String,
    socket: WebSocket,
    /// Associations that ask the AE over its WebSocket.
    asking: Vec<Light>,
}

impl Unreading {
    /// Number of requests to the AE that fit into the queue of a connection, and of further ones.
    const QUEUED: usize = 20;
    const FURTHER: usize = 4;

    fn new(gateway: &Gateway, ae: &str, identity: &str, key: &str) -> Self {
        let credential = Credential { identity, key };
        let connect = || Light::connect(gateway.port(), credential).unwrap();
        let mut light = connect();
        let own = json!({"m2m:ae": {"rn": &ae[1..], "api": "Nx", "rr": true, "srv": ["3"]}});
        light.ask(&Request::create("/cse", 2, &own).from(ae)).unwrap().expect(201, 2001);
        let parent = format!("/cse/{}", &ae[1..]);
        light.ask(&Request::create_container(&parent, "log").from(ae)).unwrap().expect(201, 2001);
        let socket = light.websocket(&[JSON]).unwrap();
        let asking = (0..Self::QUEUED + Self::FURTHER).map(|_| connect()).collect();
        Self { ae: ae.into(), socket, asking }
    }

    /// Asks for listings that fill the buffers of the connection.
    fn fill(&mut self) {
        for _ in 0..5 {
            let id = self.socket.id();
            let retrieve = json!({"op": 2, "to": "cse/light-AE1/log", "fr": self.ae, "rqi": id,
                "rvi": "3", "rcn": 4});
            self.socket.send_text(&retrieve.to_string());
        }
    }

    /// Sends requests to the AE, from some of its associations.
    fn ask(&mut self, which: std::ops::Range<usize>) {
        let content = json!({"m2m:sgn": {"sur": "cse/x"}}).to_string();
        for light in &mut self.asking[which] {
            let notify = Request::new("POST", &format!("/cse/{}", &self.ae[1..])).from(&self.ae);
            let notify = notify.header("Content-Type", "application/json").body(&content);
            light.send(&notify.bytes()).unwrap();
        }
    }

    /// Sends requests that wait for their turn in the CSE.
    fn write(&mut self, value: &str) {
        for _ in 0..10 {
            let id = self.socket.id();
            let create = json!({"op": 1, "to": format!("cse/{}/log", &self.ae[1..]),
                "fr": self.ae, "rqi": id, "rvi": "3", "ty": 4, "pc": {"m2m:cin": {"con": value}}});
            self.socket.send_text(&create.to_string());
        }
    }
}

/// Requests of peers that do not read go on, and so do not hold what others wait for.
#[test]
fn peers_that_do_not_read_stop_nobody() {
    const CROWD: usize = 8;
    let key = "00112233445566778899aabbccddeeff";
    let row = |n: usize| (format!("Ccrowd-{n}"), format!("crowd-{n}@in.provider.com"));
    let mut table = format!("ae_id,kpsa,kpsa_id\n{OWN},{},{}\n", LIGHT1.key, LIGHT1.identity);
    for (ae, identity) in (0..CROWD).map(row) {
        table.push_str(&format!("{ae},{key},{identity}\n"));
    }
    let gateway = Setup::new()
        .file("psk-lookup-table.csv", &table)
        .with("limits", "response-seconds = 300\nresponse-bytes = 500000000")
        .with("notifications", "timeout-seconds = 60")
        .start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut create = |to: &str, ty: u16, content: serde_json::Value| {
        light.ask(&Request::create(to, ty, &content).from(OWN)).unwrap().expect(201, 2001);
    };
    create("/cse", 2, json!({"m2m:ae": {"rn": "light-AE1", "api": "Nlight", "rr": false}}));
    let rules = json!({"acr": [{"acor": ["all"], "acop": 63}]});
    create("/cse/light-AE1", 1, json!({"m2m:acp": {"rn": "open", "pv": rules, "pvs": rules}}));
    let log = json!({"m2m:cnt": {"rn": "log", "acpi": ["cse/light-AE1/open"]}});
    create("/cse/light-AE1", 3, log);
    let text = "x".repeat(64_000);
    for _ in 0..61 {
        create("/cse/light-AE1/log", 4, json!({"m2m:cin": {"con": text}}));
    }
    let mut crowd: Vec<_> = (0..CROWD)
        .map(|n| {
            let (ae, identity) = row(n);
            Unreading::new(&gateway, &ae, &identity, key)
        })
        .collect();
    for one in &mut crowd {
        one.fill();
    }
    std::thread::sleep(std::time::Duration::from_secs(3));
    for one in &mut crowd {
        one.ask(0..Unreading::QUEUED);
    }
    std::thread::sleep(std::time::Duration::from_secs(1));
    std::thread::scope(|scope| {
        for one in &mut crowd {
            let text = &text;
            scope.spawn(move || {
                one.write(text);
                one.ask(Unreading::QUEUED..Unreading::QUEUED + Unreading::FURTHER);
            });
        }
    });
    for _ in 0..20 {
        create("/cse/light-AE1", 3, json!({"m2m:cnt": {}}));
    }
}
