//! A WebSocket client of the TS-0020 binding, over an association of [`Light`](crate::Light).

use std::net::TcpStream;

use openssl::ssl::SslStream;
use serde_json::{Value, json};
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error, Message};

use crate::http::{Request, Response};

/// Returns the request that opens a WebSocket, without a subprotocol.
pub(crate) fn opening() -> Request {
    Request::new("GET", "/")
        .without("X-M2M-RI")
        .without("X-M2M-RVI")
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}

/// An open WebSocket.
pub struct WebSocket {
    socket: tungstenite::WebSocket<SslStream<TcpStream>>,
    opening: Response,
    next_id: u64,
}

impl WebSocket {
    pub(crate) fn new(stream: SslStream<TcpStream>, read: Vec<u8>, opening: Response) -> Self {
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let role = Role::Client;
        let socket = tungstenite::WebSocket::from_partially_read(stream, read, role, Some(config));
        Self { socket, opening, next_id: 1 }
    }

    /// Returns the response that opened it.
    pub fn opening(&self) -> &Response {
        &self.opening
    }

    /// Returns the stream below.
    pub fn stream(&mut self) -> &mut SslStream<TcpStream> {
        self.socket.get_mut()
    }

    /// Returns a request identifier that was not used before.
    pub fn id(&mut self) -> String {
        self.next_id += 1;
        format!("ws-{}", self.next_id)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// Fails if the connection has ended.
    pub fn send(&mut self, message: Message) -> Result<(), Error> {
        self.socket.send(message)
    }

    /// Sends a text.
    #[track_caller]
    pub fn send_text(&mut self, text: &str) {
        self.send(Message::text(text)).expect("the connection is open");
    }

    /// Reads a message other than pings and pongs.
    ///
    /// # Errors
    /// Fails if the connection has ended.
    pub fn read(&mut self) -> Result<Message, Error> {
        loop {
            match self.socket.read()? {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return Ok(message),
            }
        }
    }

    /// Reads a message, also a ping or a pong.
    ///
    /// # Errors
    /// Fails if the connection has ended.
    pub fn read_any(&mut self) -> Result<Message, Error> {
        self.socket.read()
    }

    /// Reads a primitive in JSON.
    #[track_caller]
    pub fn primitive(&mut self) -> Value {
        match self.read() {
            Ok(Message::Text(text)) => serde_json::from_str(&text).expect("a primitive is JSON"),
            other => panic!("no primitive: {other:?}"),
        }
    }

    /// Sends a request in JSON, to which a request identifier and a release are added, and reads its
    /// response.
    #[track_caller]
    pub fn ask(&mut self, mut request: Value) -> Value {
        let id = self.id();
        request["rqi"] = json!(id);
        request["rvi"] = json!("3");
        self.send_text(&request.to_string());
        let response = self.primitive();
        assert_eq!(response["rqi"], json!(id), "{response}");
        response
    }

    /// Sends a request, and asserts the status code of the response.
    #[track_caller]
    pub fn expect(&mut self, request: Value, rsc: u16) -> Value {
        let shown = request.to_string();
        let response = self.ask(request);
        assert_eq!(response["rsc"], rsc, "{shown}: {response}");
        response
    }

    /// Reads until the gateway closes the connection, and returns its close frame.
    #[track_caller]
    pub fn closed(&mut self) -> Option<CloseFrame> {
        let mut close = None;
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => close = frame,
                Ok(_) => {}
                Err(Error::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("the gateway does not close the connection")
                }
                Err(_) => return close,
            }
        }
    }

    /// Asserts that the gateway closes the connection with a code.
    #[track_caller]
    pub fn expect_closed(&mut self, code: u16) {
        let frame = self.closed();
        assert_eq!(frame.as_ref().map(|frame| u16::from(frame.code)), Some(code), "{frame:?}");
    }
}
