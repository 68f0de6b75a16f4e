//! CoAP over DTLS for the benchmark.

use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use saegis_onem2m::coap::{Code, Kind, Message, Parts, Token, read_response, write_request};
use saegis_onem2m::id::CseId;
use saegis_onem2m::primitive::{Operation, RequestPrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::serialization::Serialization;
use saegis_onem2m::target::Target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::answer::{CONTENT, Expected};
use crate::client::Connection;

/// Maximum size of a message, in bytes.
const MAX_MESSAGE: usize = 2 << 10;
/// Timeout for a response. Requests are not repeated, so that a lost datagram is a failure.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A device with an association.
pub struct Device {
    stream: Pin<Box<dyn Connection>>,
    expected: Expected,
    next_id: u16,
}

impl Device {
    /// Sends requests over an association.
    pub fn new(stream: Pin<Box<dyn Connection>>, expected: Expected) -> Self {
        Self { stream, expected, next_id: 0 }
    }

    /// Returns the association.
    pub fn into_stream(self) -> Pin<Box<dyn Connection>> {
        self.stream
    }

    /// Sends a request, and checks that the response is the expected one.
    ///
    /// # Errors
    /// Fails if the response is another one, or does not arrive.
    pub async fn ask(&mut self, originator: &str, number: u64) -> Result<()> {
        if self.expected == Expected::Status {
            // A server without oneM2M rejects its critical options.
            let response = self.exchange(Parts::new(Code::GET)).await?;
            ensure!(response.code == Code::CONTENT, "the response is {}", response.code);
            return Ok(());
        }
        let id = format!("r{number}");
        let response = self.exchange(retrieve(originator, &id)?).await?;
        let primitive = read_response(&response, MAX_MESSAGE).context("no response primitive")?;
        let is_of_cse = primitive.rsc == Rsc::Ok && primitive.request_id == id;
        let content = primitive.content.unwrap_or_default();
        ensure!(is_of_cse && content == CONTENT, "the response {response:?}");
        Ok(())
    }

    /// Sends a request with another originator, which the server must refuse.
    ///
    /// # Errors
    /// Fails if the server accepts it.
    pub async fn is_refused(&mut self, originator: &str) -> Result<()> {
        let response = self.exchange(retrieve(originator, "r0")?).await?;
        ensure!(response.code == Code::FORBIDDEN, "the response {response:?} for {originator}");
        Ok(())
    }

    async fn exchange(&mut self, request: Parts) -> Result<Parts> {
        timeout(RESPONSE_TIMEOUT, self.exchange_unbounded(request)).await.context("no response")?
    }

    async fn exchange_unbounded(&mut self, request: Parts) -> Result<Parts> {
        self.next_id = self.next_id.wrapping_add(1);
        let id = self.next_id;
        let token = Token::new(&id.to_be_bytes()).context("the token is too long")?;
        let request = Message { kind: Kind::Confirmable, id, token, parts: request };
        self.send(&request).await?;
        let mut buffer = [0; MAX_MESSAGE];
        loop {
            let length = self.stream.read(&mut buffer).await.context("no response")?;
            ensure!(length > 0, "the association ends before the response");
            let datagram = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
            let message = Message::parse(&datagram)?;
            if message.kind == Kind::Confirmable {
                self.send(&Message::empty(Kind::Acknowledgement, message.id)).await?;
            }
            ensure!(message.kind != Kind::Reset, "the request is rejected");
            if message.token == token && message.parts.code.is_response() {
                return Ok(message.parts);
            }
        }
    }

    async fn send(&mut self, message: &Message) -> Result<()> {
        self.stream.write_all(&message.to_bytes()).await.context("the message can't be written")
    }
}

/// Returns the request that is sent over HTTP too.
fn retrieve(originator: &str, id: &str) -> Result<Parts> {
    let target = Target::from_path("/cse/light/latest")?;
    let cse = CseId::parse("mn-cse-123456")?;
    let request = RequestPrimitive {
        release: Some("3".into()),
        ..RequestPrimitive::own(Operation::Retrieve, target, originator.into(), id.into())
    };
    Ok(write_request(&request, &cse, Serialization::Json)?)
}
