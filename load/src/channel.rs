//! Requests over an established connection, in one of the bindings.

use std::pin::Pin;

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::answer::{self, CONTENT, Expected};
use crate::client::Connection;
use crate::coap;
use crate::mqtt::Device;

/// The request that opens a WebSocket (TS-0020 clause 6.2.2).
const OPENING: &[u8] = b"GET / HTTP/1.1\r\nHost: in.provider.com\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: oneM2M.json\r\n\r\n";

/// Maximum size of the response to it, in bytes.
const MAX_OPENED: usize = 4 << 10;

/// A binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Binding {
    /// TS-0009.
    Http,
    /// TS-0020, in JSON.
    Websocket,
    /// TS-0010, in JSON. The requests are creates.
    Mqtt,
    /// TS-0008, in JSON.
    Coap,
}

/// The requests of a measurement.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Requests {
    /// Binding of the requests.
    #[arg(long, value_enum, default_value = "http")]
    binding: Binding,
    /// The expected response.
    #[arg(long, value_enum, default_value = "whole")]
    expected: Expected,
}

type Stream = Pin<Box<dyn Connection>>;

/// A connection that takes requests.
pub enum Channel {
    Http(Stream, Expected),
    WebSocket(Box<WebSocketStream<Stream>>),
    Mqtt(Device),
    Coap(coap::Device),
}

impl Channel {
    /// Prepares a connection for the requests of a binding.
    ///
    /// # Errors
    /// Fails if the server does not open a WebSocket, or refuses an MQTT client.
    pub async fn open(requests: Requests, (stream, originator): (Stream, &str)) -> Result<Self> {
        Ok(match requests.binding {
            Binding::Http => Self::Http(stream, requests.expected),
            Binding::Websocket => Self::WebSocket(Box::new(websocket(stream).await?)),
            Binding::Mqtt => Self::Mqtt(Device::connect(stream, originator).await?),
            Binding::Coap => Self::Coap(coap::Device::new(stream, requests.expected)),
        })
    }

    /// Closes the connection with close_notify.
    ///
    /// # Errors
    /// Fails if the server has closed it, unless it may do so because no CSE is behind it.
    pub async fn close(self) -> Result<()> {
        let (mut stream, may_be_closed) = match self {
            Self::Http(stream, expected) => (stream, expected == Expected::Status),
            Self::Coap(device) => (device.into_stream(), false),
            Self::WebSocket(socket) => (socket.into_inner(), false),
            Self::Mqtt(device) => (device.into_stream(), false),
        };
        match stream.shutdown().await {
            Err(_) if may_be_closed => Ok(()),
            closed => closed.context("the server ended the connection first"),
        }
    }

    /// Sends a request and checks that the response is that of the CSE behind the server.
    ///
    /// # Errors
    /// Fails if the response is another one.
    pub async fn ask(&mut self, originator: &str, number: u64) -> Result<()> {
        match self {
            Self::Http(stream, expected) => {
                answer::ask(stream, originator, number, *expected).await
            }
            Self::WebSocket(socket) => {
                let response = exchange(socket, originator, number).await?;
                let content: Value = serde_json::from_str(CONTENT)?;
                let is_of_cse = response.get("rsc") == Some(&json!(2000));
                ensure!(is_of_cse && response.get("pc") == Some(&content), "response {response}");
                Ok(())
            }
            Self::Mqtt(device) => device.create(number).await,
            Self::Coap(device) => device.ask(originator, number).await,
        }
    }

    /// Sends a request with another originator, which the server must refuse.
    ///
    /// # Errors
    /// Fails if the server accepts it.
    pub async fn is_refused(&mut self, originator: &str) -> Result<()> {
        match self {
            Self::Http(stream, _) => answer::is_refused(stream, originator).await,
            Self::WebSocket(socket) => {
                let response = exchange(socket, originator, 0).await?;
                let is_refused = response.get("rsc") == Some(&json!(4106));
                ensure!(is_refused, "response in the name of {originator}: {response}");
                Ok(())
            }
            Self::Mqtt(device) => device.is_refused(originator).await,
            Self::Coap(device) => device.is_refused(originator).await,
        }
    }
}

async fn websocket(mut stream: Stream) -> Result<WebSocketStream<Stream>> {
    stream.write_all(OPENING).await.context("the request can't be written")?;
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        ensure!(bytes.len() < MAX_OPENED, "the response is too long");
        ensure!(stream.read_buf(&mut bytes).await? > 0, "the connection ends before the response");
    }
    let is_open = bytes.starts_with(b"HTTP/1.1 101 ");
    ensure!(is_open, "no WebSocket: {}", String::from_utf8_lossy(&bytes));
    Ok(WebSocketStream::from_raw_socket(stream, Role::Client, None).await)
}

/// Sends the request that [`answer`] sends over HTTP, and returns the response to it.
async fn exchange(
    socket: &mut WebSocketStream<Stream>,
    originator: &str,
    number: u64,
) -> Result<Value> {
    let id = format!("r{number}");
    let request = format!(
        "{{\"op\":2,\"to\":\"/mn-cse-123456/cse/light/latest\",\"fr\":\"{originator}\",\
         \"rqi\":\"{id}\",\"rvi\":\"3\"}}"
    );
    socket.send(Message::text(request)).await.context("the request can't be written")?;
    loop {
        let message = socket.next().await.context("the connection ends before the response")??;
        if let Message::Text(text) = message {
            let response: Value = serde_json::from_str(&text)?;
            let is_response = response.get("rqi").and_then(Value::as_str) == Some(&id);
            ensure!(is_response, "a response to another request: {response}");
            return Ok(response);
        }
    }
}
