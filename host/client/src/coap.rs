//! The client's side of the CoAP binding (TS-0008): requests over an association, and requests of
//! the peer within it.

mod binding;
mod command;
mod connect;
mod driver;
mod endpoint;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use saegis_handshake::dtls::Connection;
use saegis_onem2m::coap::{Parts, read_response};
use saegis_onem2m::primitive::ResponsePrimitive;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub(crate) use binding::Coap;
use command::{Command, Incoming, ReplyTo};
pub(crate) use connect::resolve;
pub use connect::{DatagramProof, connect_datagrams};
use driver::Driver;
pub use endpoint::CoapEndpoint;

/// Maximum number of requests that wait for the association.
const MAX_WAITING: usize = 64;
/// Maximum number of requests of the peer that have not been taken. More are refused.
const MAX_REQUESTS: usize = 100;
/// Timeout for the end of an association to be sent.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Requests over one association. The association ends when this value is dropped.
pub(crate) struct CoapClient {
    commands: mpsc::Sender<Command>,
    last_heard: Arc<Mutex<Instant>>,
    driver: JoinHandle<()>,
}

impl CoapClient {
    /// Starts the message layer of an association. Requests of the peer go to `requests`, or are
    /// refused.
    pub(crate) fn start(connection: Connection, requests: Option<mpsc::Sender<Incoming>>) -> Self {
        let (commands, receiver) = mpsc::channel(MAX_WAITING);
        let last_heard = Arc::new(Mutex::new(Instant::now()));
        let driver = Driver::new(connection, receiver, requests, last_heard.clone());
        Self { commands, last_heard, driver: tokio::spawn(driver.run()) }
    }

    /// Sends a request, and waits for the response, with at most `max_content` bytes of content.
    pub(crate) async fn ask(
        &self,
        request: Parts,
        max_content: usize,
    ) -> Result<ResponsePrimitive, String> {
        let ended = || "the association ended".to_string();
        let (answer, response) = oneshot::channel();
        let command = Command::Ask { request, max_content, answer };
        self.commands.send(command).await.map_err(|_| ended())?;
        let response = response.await.map_err(|_| ended())??;
        read_response(&response, max_content).map_err(|refusal| {
            let code = response.code;
            format!("the response {code} is not a primitive: {refusal}")
        })
    }

    /// Responds to a request of the peer.
    pub(crate) async fn respond(
        &self,
        to: ReplyTo,
        response: ResponsePrimitive,
    ) -> Result<(), String> {
        let response = Box::new(response);
        let sent = self.commands.send(Command::Respond { to, response }).await;
        sent.map_err(|_| "the association ended".into())
    }

    /// Returns the time of the last datagram of the peer.
    fn last_heard(&self) -> Instant {
        *self.last_heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the association has ended.
    fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    /// Ends the association, with an alert for the peer.
    pub(crate) async fn close(self) {
        drop(self.commands);
        // The peer drops an idle association some day.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.driver).await;
    }
}
