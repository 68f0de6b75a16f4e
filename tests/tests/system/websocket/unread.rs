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
