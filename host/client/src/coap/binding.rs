//! The CoAP binding of an AE.

use std::collections::VecDeque;

use saegis_handshake::dtls::Connection;
use saegis_onem2m::coap::write_request;
use saegis_onem2m::id::CseId;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::serialization::Serialization;
use tokio::sync::mpsc;

use super::command::{Incoming, ReplyTo};
use super::{CoapClient, MAX_REQUESTS};

/// An association of an AE with its registrar.
pub(crate) struct Coap {
    client: CoapClient,
    requests: mpsc::Receiver<Incoming>,
    /// Requests that were not responded to, by their Request Identifier.
    open: VecDeque<(String, ReplyTo)>,
}

impl Coap {
    pub(crate) fn new(connection: Connection) -> Self {
        let (sender, requests) = mpsc::channel(MAX_REQUESTS);
        let client = CoapClient::start(connection, Some(sender));
        Self { client, requests, open: VecDeque::new() }
    }

    /// Sends a request to the CSE `at`, and waits for its response.
    pub(crate) async fn ask(
        &self,
        request: &RequestPrimitive,
        at: &CseId,
        max_content: usize,
    ) -> Result<ResponsePrimitive, String> {
        let request = write_request(request, at, Serialization::Json).map_err(|e| e.to_string())?;
        self.client.ask(request, max_content).await
    }

    /// Waits for a request of the registrar.
    pub(crate) async fn request(&mut self) -> Result<RequestPrimitive, String> {
        let incoming = self.requests.recv().await.ok_or("the association ended")?;
        if self.open.len() >= MAX_REQUESTS {
            self.open.pop_front();
        }
        self.open.push_back((incoming.request.request_id.clone(), incoming.reply));
        Ok(*incoming.request)
    }

    /// Responds to a request of the registrar.
    pub(crate) async fn respond(&mut self, response: &ResponsePrimitive) -> Result<(), String> {
        let at = self.open.iter().position(|(id, _)| *id == response.request_id);
        let open = at.and_then(|at| self.open.remove(at));
        let (_, to) = open.ok_or("the request is not known")?;
        self.client.respond(to, response.clone()).await
    }

    /// Ends the association, with an alert for the registrar.
    pub(crate) async fn close(self) {
        self.client.close().await;
    }
}
