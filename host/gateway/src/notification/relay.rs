//! Notification relay: forwards notifications of the upstream CSE to AEs, over security
//! associations with the AEs.
//!
//! The CSE sends to the points of access of an AE. When an AE registers with a point of access at
//! `https://…`, the pipeline replaces it with an address of the relay (see
//! [`relay_address`](super::relay_address)).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Incoming;
use saegis_onem2m::cse::Cse;
use saegis_onem2m::http::{read_server_request, write_notification, write_server_response};
use saegis_onem2m::id::{CredentialId, OriginatorId};
use saegis_onem2m::primitive::{Operation, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::serialization::Serialization;

use super::ae_connections::Aes;
use super::failure::Failure;
use super::relay_address::RelayAddress;
use super::sender::{answered_by, is_of};
use crate::config::ListenAddress;
use crate::listener::http_body::collect;
use crate::listener::loopback_http::{LoopbackServer, ServerLimits};

/// Limits on the connections of the CSE, which reuses them for further notifications.
const LIMITS: ServerLimits = ServerLimits {
    connections: 256,
    header: Duration::from_secs(30),
    connection: Duration::from_secs(300),
    active_until_sent: false,
};

/// Relays notifications to AEs.
pub struct Relay {
    /// Address of the relay, once it listens.
    pub address: Arc<OnceLock<RelayAddress>>,
    /// The AEs that have connected.
    pub aes: Arc<Aes>,
    /// This CSE.
    pub cse: Cse,
    /// Maximum content of a notification, in bytes.
    pub content_bytes: usize,
    /// Timeout for the content of a notification.
    pub content_timeout: Duration,
    /// Timeout for the response of an AE.
    pub response_timeout: Duration,
}

impl Relay {
    /// Listens for notifications. With a `user`, only processes of that user may send.
    ///
    /// # Errors
    /// When it cannot bind the address.
    pub async fn listen(
        self,
        address: &ListenAddress,
        user: Option<u32>,
    ) -> std::io::Result<LoopbackServer> {
        let relay = Arc::new(self);
        let answer = move |request| {
            let relay = relay.clone();
            async move {
                let response = relay.relay(request).await;
                write_server_response(response, Some(Operation::Notify), Serialization::Json)
                    .map(Full::new)
            }
        };
        LoopbackServer::listen(address, LIMITS, user, answer).await
    }

    /// Forwards one notification, and returns the response of the AE.
    async fn relay(&self, request: Request<Incoming>) -> ResponsePrimitive {
        let (parts, body) = request.into_parts();
        let refuse = |id: &str, rsc, why: &str| {
            tracing::warn!(
                event = "notification.failed",
                to = %parts.uri,
                "cannot forward a notification of the upstream CSE: {why}"
            );
            ResponsePrimitive::refusal(id, None, rsc, why)
        };
        let target = self.address.get().and_then(|address| address.target(&parts.uri));
        let Some((credential, url)) = target else {
            let why = "the path is not that of a relayed point of access";
            return refuse("", Rsc::NotFound, why);
        };
        let body = collect(body, self.content_bytes);
        let Ok(Ok(body)) = tokio::time::timeout(self.content_timeout, body).await else {
            return refuse("", Rsc::BadRequest, "its content is too large or timed out");
        };
        // The path is that of the relay; the target is the AE itself.
        let mut of_ae = parts.clone();
        of_ae.uri = Uri::from_static("/-");
        let request = match read_server_request(&of_ae, body) {
            Ok(request) => request,
            Err(e) => return refuse(&e.request_id.unwrap_or_default(), e.rsc, &e.why),
        };
        let id = request.request_id.clone();
        let names_somebody = match request.from.as_deref().map(OriginatorId::parse) {
            Some(Ok(from)) => !matches!(
                from,
                OriginatorId::AssignByRegistrar
                    | OriginatorId::AssignByServiceProvider
                    | OriginatorId::SpRelativeAssign { .. }
            ),
            Some(Err(_)) | None => false,
        };
        let (Operation::Notify, true, Some(content)) =
            (request.operation, names_somebody, &request.content)
        else {
            let why = "only notifications with a From are relayed to AEs";
            return refuse(&id, Rsc::BadRequest, why);
        };
        let from = request.from.as_deref().unwrap_or_default();
        let release = request.release.as_deref().unwrap_or("3");
        let content = (Serialization::Json, content.bytes().clone());
        let notification = write_notification(&url, from, &id, release, None, content)
            .map_err(|e| Failure::NoResponse(e.to_string()));
        let sent = match notification {
            Ok(notification) => self.send(&credential, notification).await,
            Err(failure) => Err(failure),
        };
        match sent {
            Ok(response) => ResponsePrimitive { request_id: id, ..response },
            Err(why) => refuse(&id, Rsc::TargetNotReachable, &why.to_string()),
        }
    }

    async fn send(
        &self,
        credential: &CredentialId,
        notification: http::Request<Bytes>,
    ) -> Result<ResponsePrimitive, Failure> {
        let stems = self.aes.stems(credential);
        if stems.is_empty() {
            let why =
                "its credential no longer identifies an AE, or has not been used since the start";
            return Err(Failure::NoAssociation(why.into()));
        }
        let asked = self.aes.ask(credential, notification.map(Full::new));
        let response = tokio::time::timeout(self.response_timeout, asked)
            .await
            .map_err(|_| Failure::Late)??;
        let cse = &self.cse;
        answered_by(response, |from| stems.iter().any(|stem| is_of(cse, from, stem.as_str())))
    }
}
