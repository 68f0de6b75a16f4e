//! The client's side of the WebSocket binding (TS-0020), in JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use http::header::{
    CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http_body_util::Empty;
use hyper::client::conn::http1::handshake;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rand::RngExt as _;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::serialization::{Primitive, Serialization};
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::incoming_requests::IncomingRequests;

/// The subprotocol.
const SUBPROTOCOL: &str = "oneM2M.json";

/// Appended to the key of the client (RFC 6455 clause 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Maximum size of a message, in bytes.
const MAX_MESSAGE: usize = 5 << 20;

/// Returns the value by which a server proves that it has read the key of the client.
#[must_use]
pub fn websocket_accept(key: &str) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// An open WebSocket.
pub(crate) struct WebSocket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    requests: IncomingRequests,
}

impl WebSocket {
    /// Opens a WebSocket over a stream.
    ///
    /// # Errors
    /// Returns the reason why the server does not open it.
    pub(crate) async fn open<S>(stream: S, host: &str) -> Result<Self, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let (mut sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|e| text(&e))?;
        tokio::spawn(connection.with_upgrades());
        let key = STANDARD.encode(rand::rng().random::<[u8; 16]>());
        let request = http::Request::get("/")
            .header(HOST, host)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key)
            .header(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
            .body(Empty::<Bytes>::new())
            .map_err(|e| text(&e))?;
        let response = sender.send_request(request).await.map_err(|e| text(&e))?;
        let is = |name, value: &str| response.headers().get(name).is_some_and(|v| v == value);
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(format!("it opens no WebSocket: {}", response.status()));
        }
        if !is(SEC_WEBSOCKET_ACCEPT, &websocket_accept(&key))
            || !is(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
        {
            return Err("what it answers opens no WebSocket of oneM2M".into());
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|e| text(&e))?;
        let config = WebSocketConfig::default()
            .write_buffer_size(0)
            .max_write_buffer_size(2 * MAX_MESSAGE)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let upgraded = TokioIo::new(upgraded);
        let stream = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
        Ok(Self { stream, requests: IncomingRequests::default() })
    }

    /// Sends a request, and waits for its response.
    ///
    /// # Errors
    /// Returns the reason why there is none.
    pub(crate) async fn ask(
        &mut self,
        request: &RequestPrimitive,
    ) -> Result<ResponsePrimitive, String> {
        let bytes = Serialization::Json.write_request(request).map_err(|e| e.to_string())?;
        self.write(bytes).await?;
        loop {
            let primitive = self.read().await?;
            if let Some(response) = self.requests.response_to(request, primitive) {
                return Ok(response);
            }
        }
    }

    /// Waits for a request of the registrar.
    ///
    /// # Errors
    /// Returns the reason why none can come.
    pub(crate) async fn request(&mut self) -> Result<RequestPrimitive, String> {
        if let Some(request) = self.requests.pop() {
            return Ok(request);
        }
        loop {
            if let Primitive::Request(request) = self.read().await? {
                return Ok(*request);
            }
        }
    }

    /// Responds to a request of the registrar.
    ///
    /// # Errors
    /// Returns the reason why the response cannot be sent.
    pub(crate) async fn respond(&mut self, response: &ResponsePrimitive) -> Result<(), String> {
        let bytes = Serialization::Json.write_response(response).map_err(|e| e.to_string())?;
        self.write(bytes).await
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), String> {
        let text = String::from_utf8(bytes.to_vec()).map_err(|e| e.to_string())?;
        self.stream.send(Message::text(text)).await.map_err(|e| e.to_string())
    }

    async fn read(&mut self) -> Result<Primitive, String> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    let read = Serialization::Json.read(text.into(), MAX_MESSAGE);
                    return read.map_err(|e| format!("the registrar sent no primitive: {e}"));
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err(format!("the registrar closed the connection: {}", frame.reason));
                }
                Some(Ok(Message::Binary(_))) => {
                    return Err("the registrar sent a binary message".into());
                }
                Some(Ok(_)) => {}
                Some(Err(e)) => return Err(e.to_string()),
                None => return Err("the registrar closed the connection".into()),
            }
        }
    }
}
