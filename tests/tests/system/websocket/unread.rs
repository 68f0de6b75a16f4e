//! Peers that do not read what they are sent over a WebSocket.

use saegis_tests::{
    Credential, Gateway, LIGHT1, LIGHT2, Light, Mark, Request, Setup, WebSocket, wait_until,
};
use serde_json::{Value, json};

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

/// Requests hold resources that others wait for, so they are carried out although a response to the
/// same peer cannot be written.
#[test]
fn requests_of_peer_that_does_not_read_are_carried_out() {
    let setup = Setup::new().with_metrics();
    let gateway = setup
        .with("limits", "response-bytes-per-credential = 67108864")
        // The listings take longer than the default on a busy machine.
        .with("notifications", "timeout-seconds = 60")
        .start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    let create = |light: &mut Light, from: &str, to: &str, ty: u16, content: Value| {
        light.ask(&Request::create(to, ty, &content).from(from)).unwrap().expect(201, 2001);
    };
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": true, "srv": ["3"]}});
    create(&mut light, OWN, "/cse", 2, ae);
    let rules = json!({"acr": [{"acor": [OWN, OTHER], "acop": 63}]});
    let open = json!({"m2m:acp": {"rn": "open", "pv": rules, "pvs": rules}});
    create(&mut light, OWN, "/cse/light1", 1, open);
    let change = json!({"m2m:ae": {"acpi": ["cse/light1/open"]}});
    light.ask(&Request::update("/cse/light1", &change).from(OWN)).unwrap().expect(200, 2004);
    other.ask(&Request::create_ae("light2").from(OTHER)).unwrap().expect(201, 2001);
    create(&mut other, OTHER, "/cse/light2", 3, json!({"m2m:cnt": {"rn": "log"}}));
    // All listings are more than the buffers of the kernel hold.
    const LISTINGS: u32 = 6;
    let content = "x".repeat(60_000);
    for _ in 0..65 {
        create(&mut other, OTHER, "/cse/light2/log", 4, json!({"m2m:cin": {"con": content}}));
    }
    let answered = |operation: &str, count: f64| {
        let metric = format!("saegis_requests_total{{operation=\"{operation}\",rsc=\"2000\"}}");
        wait_until(&metric, || gateway.monitor("/metrics").value(&metric) >= count);
    };
    let (mut reading, mut silent) = (websocket(&gateway, LIGHT1), websocket(&gateway, LIGHT2));
    let notify = json!({"op": 5, "to": "cse/light1", "fr": OTHER, "rqi": "notify", "rvi": "3",
        "pc": {"m2m:sgn": {"sur": "cse/light2/log/told"}}});
    silent.send_text(&notify.to_string());
    let request = reading.primitive();
    for n in 0..LISTINGS {
        let rqi = n.to_string();
        let list = json!({"op": 2, "to": "cse/light2/log", "fr": OTHER, "rqi": rqi, "rvi": "3",
            "rcn": 4});
        silent.send_text(&list.to_string());
    }
    answered("retrieve", LISTINGS.into());
    let response = json!({"rsc": 2000, "rqi": request["rqi"], "rvi": "3", "fr": OWN});
    reading.send_text(&response.to_string());
    answered("notify", 1.0);
}
