//! An MQTT server without TLS, whose only client is the gateway. The test is the CSE behind it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::mqtt::packet;
use crate::process::BOUND;

/// The server.
pub struct Broker {
    listener: TcpListener,
}

/// A connection of the gateway.
pub struct BrokerConnection {
    socket: TcpStream,
    /// Client Identifier of the gateway.
    pub client_id: String,
    /// Filters that the gateway subscribed to.
    pub filters: Vec<String>,
}

/// A request that the gateway published.
#[derive(Debug)]
pub struct Published {
    /// Topic.
    pub topic: String,
    /// Request primitive.
    pub request: Value,
}

impl Published {
    /// Returns the topic of the response.
    pub fn response_topic(&self) -> String {
        self.topic.replace("/req/", "/resp/").replace("/reg_req/", "/reg_resp/")
    }

    /// Returns a response with a Response Status Code and content.
    pub fn response(&self, rsc: u16, content: &Value) -> Value {
        json!({"rsc": rsc, "rqi": self.request["rqi"], "rvi": "3", "pc": content,
            "fr": "/mn-cse-123456", "to": self.request["fr"]})
    }
}

impl Broker {
    /// Starts the server.
    pub fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").expect("a free port") }
    }

    /// Starts the server at a port that was in use before.
    pub fn start_at(port: u16) -> Self {
        Self { listener: TcpListener::bind(("127.0.0.1", port)).expect("the port is free") }
    }

    /// Returns the listening port.
    pub fn port(&self) -> u16 {
        self.listener.local_addr().expect("it listens").port()
    }

    /// Accepts the connection and the subscription of the gateway.
    #[track_caller]
    pub fn accept(&self) -> BrokerConnection {
        self.accept_with(0)
    }

    /// Accepts the connection of the gateway, and refuses its subscription.
    #[track_caller]
    pub fn refuse_subscription(&self) -> BrokerConnection {
        self.accept_with(0x80)
    }

    fn accept_with(&self, code: u8) -> BrokerConnection {
        let (mut socket, (first, connect)) = loop {
            let (mut socket, _) = self.listener.accept().expect("a connection");
            socket.set_read_timeout(Some(BOUND)).expect("a socket");
            // The gateway also checks whether it can connect, without a packet.
            if let Some(packet) = read(&mut socket) {
                break (socket, packet);
            }
        };
        assert_eq!((first, &connect[..8]), (0x10, &b"\0\x04MQTT\x04\x02"[..]));
        let (client_id, rest) = text(&connect[10..]);
        assert!(rest.is_empty(), "{connect:?}");
        socket.write_all(&[0x20, 2, 0, 0]).expect("it reads");
        let (first, subscribe) = read(&mut socket).expect("a SUBSCRIBE");
        assert_eq!(first, 0x82);
        let (id, mut rest) = subscribe.split_at(2);
        let mut filters = Vec::new();
        while !rest.is_empty() {
            let (filter, after) = text(rest);
            filters.push(filter);
            rest = &after[1..];
        }
        // A retained message may arrive before the confirmation (MQTT 3.1.1, 3.8.4).
        let retained = packet(0x31, b"\0\x13/oneM2M/resp/C/json{}");
        socket.write_all(&retained).expect("it reads");
        let granted = vec![code; filters.len()];
        let ack = packet(0x90, &[id, &granted].concat());
        socket.write_all(&ack).expect("it reads");
        BrokerConnection { socket, client_id, filters }
    }
}

impl BrokerConnection {
    /// Returns the next published request.
    #[track_caller]
    pub fn published(&mut self) -> Published {
        let (first, message) = read(&mut self.socket).expect("a request");
        assert_eq!(first, 0x30, "PUBLISH with Quality of Service 0");
        let (topic, payload) = text(&message);
        Published { topic, request: serde_json::from_slice(payload).expect("JSON") }
    }

    /// Publishes a message to the gateway.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) {
        let length = u16::try_from(topic.len()).expect("it is short").to_be_bytes();
        let message = packet(0x30, &[&length[..], topic.as_bytes(), payload].concat());
        self.socket.write_all(&message).expect("it reads");
    }

    /// Responds to a request.
    pub fn respond(&mut self, to: &Published, rsc: u16, content: &Value) {
        self.publish(&to.response_topic(), to.response(rsc, content).to_string().as_bytes());
    }

    /// Asserts that the gateway has closed the connection.
    #[track_caller]
    pub fn is_closed(&mut self) {
        assert!(read(&mut self.socket).is_none(), "the gateway sent a packet");
    }
}

fn text(bytes: &[u8]) -> (String, &[u8]) {
    let (length, rest) = bytes.split_at(2);
    let (text, rest) = rest.split_at(usize::from(u16::from_be_bytes([length[0], length[1]])));
    (String::from_utf8(text.to_vec()).expect("UTF-8"), rest)
}

/// Reads a packet: its first byte, and what follows the fixed header.
fn read(socket: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut byte = [0];
    socket.read_exact(&mut byte).ok()?;
    let first = byte[0];
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        socket.read_exact(&mut byte).ok()?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut rest = vec![0; length];
    socket.read_exact(&mut rest).ok()?;
    Some((first, rest))
}
