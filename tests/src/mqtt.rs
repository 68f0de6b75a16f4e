//! A raw MQTT client, whose packets nothing checks or corrects, over an association of
//! [`Light`]; and the programs of mosquitto.

use std::process::Command;

use serde_json::{Value, json};

use crate::client::Credential;
use crate::light::Light;

/// A connection to the MQTT server.
pub struct Mqtt {
    light: Light,
    read: Vec<u8>,
    next_id: u16,
}

/// A packet of the server: its first byte, and what follows the fixed header.
pub type Packet = (u8, Vec<u8>);

/// Returns a packet with this first byte.
pub fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = rest.len();
    loop {
        let low = u8::try_from(length % 128).expect("it is below 128");
        length /= 128;
        bytes.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    bytes.extend_from_slice(rest);
    bytes
}

/// Returns a text with its length.
pub fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("it is short");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

/// Returns a CONNECT of MQTT 3.1.1 with these flags and this keep alive in seconds.
pub fn connect(client_id: &str, flags: u8, keep_alive: u16) -> Vec<u8> {
    let head = [b"\0\x04MQTT\x04", &[flags][..], &keep_alive.to_be_bytes()].concat();
    packet(0x10, &[head, text(client_id)].concat())
}

/// Returns a PUBLISH, with Quality of Service 1 if it has a packet identifier.
pub fn publish(topic: &str, id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let id = id.map_or(Vec::new(), |id| id.to_be_bytes().to_vec());
    let first = if id.is_empty() { 0x30 } else { 0x32 };
    packet(first, &[&text(topic)[..], &id, payload].concat())
}

impl Mqtt {
    /// Connects, without a CONNECT.
    pub fn raw(port: u16, credential: Credential<'_>) -> Self {
        Self::over(Light::connect(port, credential).expect("the handshake is accepted"))
    }

    /// Uses an association, without a CONNECT.
    pub fn over(light: Light) -> Self {
        Self { light, read: Vec::new(), next_id: 1 }
    }

    /// Connects with a clean session, and expects that it is accepted.
    #[track_caller]
    pub fn connect(port: u16, credential: Credential<'_>, client_id: &str) -> Self {
        let mut client = Self::raw(port, credential);
        client.send(&connect(client_id, 0b10, 60));
        assert_eq!(client.read(), Some((0x20, vec![0, 0])));
        client
    }

    /// Sends bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.light.send(bytes).expect("the connection is open");
    }

    /// Sends bytes to a server that may have closed the connection.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.light.send(bytes).is_ok()
    }

    /// Reads a packet. Returns `None` at the end of the connection.
    #[track_caller]
    pub fn read(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.take() {
                return Some(packet);
            }
            let mut chunk = [0; 4096];
            match self.light.read_some(&mut chunk) {
                Ok(0) => return None,
                Ok(length) => self.read.extend_from_slice(&chunk[..length]),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("the gateway sends nothing")
                }
                Err(_) => return None,
            }
        }
    }

    fn take(&mut self) -> Option<Packet> {
        let mut length = 0;
        for (at, byte) in self.read.iter().enumerate().skip(1) {
            length |= usize::from(byte & 0x7f) << (7 * (at - 1));
            if byte & 0x80 == 0 {
                let start = at + 1;
                if self.read.len() < start + length {
                    return None;
                }
                let first = self.read[0];
                let rest = self.read[start..start + length].to_vec();
                self.read.drain(..start + length);
                return Some((first, rest));
            }
        }
        None
    }

    /// Subscribes with Quality of Service 1, and returns the code of the server.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str) -> u8 {
        self.subscribe_with(filter, 1)
    }

    /// Subscribes, and returns the code of the server.
    #[track_caller]
    pub fn subscribe_with(&mut self, filter: &str, qos: u8) -> u8 {
        let id = self.id();
        let rest = [&id.to_be_bytes()[..], &text(filter), &[qos]].concat();
        self.send(&packet(0x82, &rest));
        let (first, rest) = self.read().expect("a SUBACK");
        assert_eq!((first, &rest[..2]), (0x90, &id.to_be_bytes()[..]), "{rest:?}");
        rest[2]
    }

    /// Returns a packet identifier that was not used before.
    pub fn id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    /// Publishes with Quality of Service 0.
    #[track_caller]
    pub fn publish(&mut self, topic: &str, payload: &Value) {
        self.send(&publish(topic, None, payload.to_string().as_bytes()));
    }

    /// Reads a PUBLISH, and acknowledges it. Returns its topic and its JSON.
    #[track_caller]
    pub fn message(&mut self) -> (String, Value) {
        let packet = self.read().expect("a PUBLISH");
        let (topic, id, payload) = parts(&packet);
        if let Some(id) = id {
            self.send(&[&[0x40, 2], &id.to_be_bytes()[..]].concat());
        }
        (topic, serde_json::from_slice(&payload).expect("JSON"))
    }

    /// Publishes a request in JSON, to which a request identifier and a release are added, and reads its
    /// response.
    #[track_caller]
    pub fn ask(&mut self, topic: &str, mut request: Value) -> Value {
        let id = format!("mqtt-{}", self.id());
        request["rqi"] = json!(id);
        request["rvi"] = json!("3");
        self.publish(topic, &request);
        let (_, response) = self.message();
        assert_eq!(response["rqi"], json!(id), "{response}");
        response
    }

    /// Publishes a request, and asserts the status code of the response.
    #[track_caller]
    pub fn expect(&mut self, topic: &str, request: Value, rsc: u16) -> Value {
        let shown = request.to_string();
        let response = self.ask(topic, request);
        assert_eq!(response["rsc"], rsc, "{shown}: {response}");
        response
    }

    /// Reads until the gateway ends the connection.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        while self.read().is_some() {}
    }

    /// Disconnects.
    pub fn disconnect(mut self) {
        self.try_send(&[0xe0, 0]);
        self.light.close();
    }
}

/// Returns the topic, the packet identifier and the payload of a PUBLISH.
#[track_caller]
pub fn parts((first, rest): &Packet) -> (String, Option<u16>, Vec<u8>) {
    assert_eq!(first & 0xf0, 0x30, "{first:x}: no PUBLISH");
    let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
    let topic = String::from_utf8(rest[2..2 + length].to_vec()).expect("a topic is UTF-8");
    let rest = &rest[2 + length..];
    if first & 0b110 == 0 {
        return (topic, None, rest.to_vec());
    }
    (topic, Some(u16::from_be_bytes([rest[0], rest[1]])), rest[2..].to_vec())
}

/// A program of mosquitto (`pub`, `sub` or `rr`) with the mandated cipher suite.
pub fn mosquitto(program: &str, port: u16, credential: Credential<'_>) -> Command {
    let mut command = Command::new(format!("mosquitto_{program}"));
    let (key, identity) = (credential.key, credential.identity);
    command
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-V", "311"])
        .args(["--tls-version", "tlsv1.2"])
        .args(["--psk", key, "--psk-identity", identity])
        .args(["--ciphers", "PSK-AES128-CBC-SHA256:@SECLEVEL=0"]);
    command
}
