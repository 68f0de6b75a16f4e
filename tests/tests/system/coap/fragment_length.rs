//! Devices that negotiate a maximum fragment length (RFC 6066 clause 4). OpenSSL's client drops a
//! record that is longer.

use std::process::Command;

use saegis_tests::{BOUND, CCM_8, CoapLight, CoapMessage, Gateway, LIGHT1, Running, Setup};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const CSE: &str = "~/mn-cse-123456/cse";
const LAMP: &str = "~/mn-cse-123456/cse/light1/lamp";
const BLOCK2: u16 = 23;
const BLOCK1: u16 = 27;
const REQUEST_ID: u16 = 283;
const STATUS: u16 = 307;

/// Maximum lengths, with the exponent of the largest block that fits beside the options.
const LENGTHS: [(usize, u8); 2] = [(512, 4), (1024, 5)];
/// The second suite is one whose records OpenSSL encrypts.
const SUITES: [&str; 2] = [CCM_8, "PSK-AES128-CBC-SHA256"];

/// `openssl s_client` with an association. Its input and its output are messages of CoAP.
struct LimitedLight {
    running: Running,
    max_message: usize,
    /// Length of the output that has been read.
    read: usize,
    next_id: u16,
}

impl LimitedLight {
    fn connect(gateway: &Gateway, suite: &str, max_message: usize) -> Self {
        let at = format!("127.0.0.1:{}", gateway.coap_port());
        let mut command = Command::new("openssl");
        command.args(["s_client", "-dtls1_2", "-quiet", "-connect", &at, "-cipher", suite]);
        command.args(["-psk", LIGHT1.key, "-psk_identity", LIGHT1.identity]);
        command.args(["-maxfraglen", &max_message.to_string()]);
        let mark = gateway.log().mark();
        let running = Running::start(&mut command);
        gateway.log().wait_after(mark, "association.established");
        Self { running, max_message, read: 0, next_id: 0 }
    }

    fn send(&mut self, message: &CoapMessage) {
        self.running.write(&message.bytes());
    }

    /// Returns the next message, which the client writes at once.
    #[track_caller]
    fn receive(&mut self) -> CoapMessage {
        let at = self.read;
        let next = |out: &[u8], _| (out.len() > at).then(|| out[at..].to_vec());
        let message = self.running.out.wait(BOUND, next);
        let message = message.unwrap_or_else(|| panic!("{}", self.running.err.text()));
        assert!(message.len() <= self.max_message, "{} bytes", message.len());
        self.read += message.len();
        CoapMessage::parse(&message)
    }

    #[track_caller]
    fn ask(&mut self, request: &CoapMessage) -> CoapMessage {
        self.next_id += 1;
        let (id, token) = (self.next_id, self.next_id.to_be_bytes().to_vec());
        self.send(&CoapMessage { id, token: token.clone(), ..request.clone() });
        let response = self.receive();
        assert_eq!(response.token, token);
        response
    }
}

fn create(path: &str, ty: u8, content: &Value) -> CoapMessage {
    CoapMessage::create(path, OWN, ty, content)
}

/// Returns the steps that register light 1 with a container, and a subscription to it.
fn registration() -> [CoapMessage; 3] {
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": true, "srv": ["3"]}});
    let lamp = json!({"m2m:cnt": {"rn": "lamp"}});
    let told = json!({"m2m:sub": {"rn": "told", "nu": [OWN], "enc": {"net": [3]}}});
    [create(CSE, 2, &ae), create(&format!("{CSE}/light1"), 3, &lamp), create(LAMP, 23, &told)]
}

#[test]
fn large_response_comes_in_blocks_that_fit() {
    let gateway = Setup::new().with_coap().start();
    let mut other = CoapLight::connect(gateway.coap_port(), LIGHT1).unwrap();
    let [ae, lamp, _] = registration();
    other.ask(&ae).expect(0x41, 2001);
    other.ask(&lamp).expect(0x41, 2001);
    let large = "v".repeat(3000);
    other.ask(&create(LAMP, 4, &json!({"m2m:cin": {"con": large}}))).expect(0x41, 2001);
    let retrieve = CoapMessage::retrieve(&format!("{LAMP}/la"), OWN);
    for suite in SUITES {
        for (length, exponent) in LENGTHS {
            let mut light = LimitedLight::connect(&gateway, suite, length);
            let mut response = light.ask(&retrieve).expect(0x45, 2000);
            let mut content = response.payload.clone();
            let mut number = 0;
            loop {
                let shown = response.number(BLOCK2).expect("it is a block");
                assert_eq!((shown >> 4, shown & 7), (number, exponent.into()));
                if shown & 8 == 0 {
                    break;
                }
                number += 1;
                // It asks for the largest blocks.
                let next = number >> (6 - exponent);
                let is_aligned = next << (6 - exponent) == number;
                let asked = if is_aligned { next << 4 | 6 } else { number << 4 | shown & 7 };
                let asked = asked.to_be_bytes();
                response = light.ask(&retrieve.clone().option(BLOCK2, &asked[1..]));
                content.extend(&response.payload);
            }
            let content: Value = serde_json::from_slice(&content).unwrap();
            assert_eq!(content["m2m:cin"]["con"], large);
        }
    }
}

#[test]
fn large_notification_comes_in_blocks_that_fit() {
    for (length, exponent) in LENGTHS {
        let gateway = Setup::new().with_coap().start();
        let mut light = LimitedLight::connect(&gateway, CCM_8, length);
        for step in registration() {
            light.ask(&step).expect(0x41, 2001);
        }
        let large = "v".repeat(2000);
        gateway.switch_light1(&large);
        let mut content = Vec::new();
        loop {
            let block = light.receive();
            assert_eq!((block.kind, block.code), (0, 2), "{block:?}");
            let shown = block.value(BLOCK1).expect("it is a block").to_vec();
            assert_eq!(shown[0] & 7, exponent);
            content.extend(&block.payload);
            let is_last = shown[0] & 8 == 0;
            let id = block.value(REQUEST_ID).expect("it has an identifier").to_vec();
            let answer = CoapMessage { options: Vec::new(), payload: Vec::new(), kind: 2, ..block };
            if is_last {
                let answer = CoapMessage { code: 0x44, ..answer }.option(REQUEST_ID, id);
                light.send(&answer.option(STATUS, 2000u16.to_be_bytes()).option(271, "3"));
                break;
            }
            light.send(&CoapMessage { code: 0x5F, ..answer }.option(BLOCK1, shown));
        }
        let content: Value = serde_json::from_slice(&content).unwrap();
        let value = &content["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"];
        assert_eq!(value, &large);
    }
}
