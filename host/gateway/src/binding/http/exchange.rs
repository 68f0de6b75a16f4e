//! HTTP requests of one association: decodes them, passes them to the pipeline and encodes the
//! responses.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, Response};
use saegis_onem2m::http::{read_server_request, response_serialization, write_server_response};
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::serialization::Serialization;

use super::body::ResponseBody;
use super::enrollment;
use super::progress::Progress;
use crate::binding::websocket::opening;
use crate::listener::http_body::{NotCollected, collect};
use crate::pipeline::Pipeline;
use crate::session::Session;
use crate::telemetry::audit;

/// The exchanges of one association, one after the other.
pub struct Exchange {
    pipeline: Pipeline,
    session: Arc<Session>,
    progress: Arc<Progress>,
    /// The serialization of the WebSocket that the connection has become.
    upgraded: OnceLock<Serialization>,
}

impl Exchange {
    /// Creates the exchanges of a session.
    pub fn new(pipeline: Pipeline, session: Arc<Session>) -> Self {
        Self { pipeline, session, progress: Arc::default(), upgraded: OnceLock::new() }
    }

    /// Returns the progress of the current exchange.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Waits until the association ends by itself, and returns why.
    pub async fn ended(&self) -> &'static str {
        self.session.ended().await
    }

    /// The serialization of the WebSocket that the connection has become, if it has.
    pub fn upgraded(&self) -> Option<Serialization> {
        self.upgraded.get().copied()
    }

    /// Responds to one request.
    pub async fn respond(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        self.progress.begin();
        if self.pipeline.takes_websockets() && opening::is_wanted(request.headers()) {
            return self.open_websocket(request);
        }
        if self.pipeline.serves_enrollment() && saegis_est::is_enrollment(request.uri().path()) {
            // Boxed, because it is rare.
            return Box::pin(self.enroll(request)).await;
        }
        let serialization = response_serialization(request.headers());
        let (operation, response, memory) = match self.read(request).await {
            Ok(request) => {
                let operation = request.operation;
                let held = self.pipeline.handle(&self.session, request).await;
                (Some(operation), held.response, held.memory)
            }
            Err(refusal) => {
                self.pipeline.count_undecoded(&refusal);
                (None, refusal, None)
            }
        };
        write_server_response(response, operation, serialization)
            .map(|content| ResponseBody::new(content, self.progress.clone(), memory))
    }

    /// Responds to a request of EST.
    async fn enroll(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        let (parts, body) = request.into_parts();
        let timeout = Duration::from_secs(self.pipeline.limits().content_seconds);
        let content = tokio::time::timeout(timeout, collect(body, saegis_est::MAX_REQUEST)).await;
        self.progress.content_arrived(matches!(content, Ok(Ok(_))));
        let read = match content {
            Ok(content) => enrollment::read(&parts, content),
            Err(_) => Err(enrollment::timed_out()),
        };
        let done = self.pipeline.enroll(&self.session, read).await;
        enrollment::write(done)
            .map(|content| ResponseBody::new(content, self.progress.clone(), None))
    }

    /// Answers a request for a WebSocket.
    fn open_websocket(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        self.progress.content_arrived(true);
        let body = |content| ResponseBody::new(content, self.progress.clone(), None);
        match opening::open(&request.into_parts().0) {
            Ok((response, serialization)) => {
                // There is one such request: the connection takes no other.
                let _ = self.upgraded.set(serialization);
                response.map(body)
            }
            Err(refused) => {
                let (rsc, why) = (Rsc::BadRequest, refused.why);
                audit::undecoded_refused(&self.session.active.association, "", None, rsc, why);
                let refusal = ResponsePrimitive::refusal("", None, rsc, why);
                self.pipeline.count_undecoded(&refusal);
                let refusal = write_server_response(refusal, None, Serialization::Json);
                let mut response = refusal.map(body);
                opening::complete_refusal(&mut response, &refused);
                response
            }
        }
    }

    /// Reads a whole request, with limits on size and time.
    async fn read(
        &self,
        request: Request<Incoming>,
    ) -> Result<RequestPrimitive, ResponsePrimitive> {
        let limits = self.pipeline.limits();
        let (parts, body) = request.into_parts();
        let body = collect(body, limits.content_bytes);
        let timeout = Duration::from_secs(limits.content_seconds);
        let body = match tokio::time::timeout(timeout, body).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(NotCollected::TooLarge)) => {
                Err((Rsc::BadRequest, too_large(limits.content_bytes)))
            }
            Ok(Err(NotCollected::BreaksOff)) => {
                Err((Rsc::BadRequest, "the content is incomplete".into()))
            }
            Err(_) => Err((Rsc::RequestTimeout, "the content timed out".into())),
        };
        self.progress.content_arrived(body.is_ok());
        let read = |body| read_server_request(&parts, body);
        let (rsc, request_id, why) = match body {
            Ok(body) => match read(body) {
                // CBOR grows when it becomes JSON.
                Ok(request) if request.content_length() > limits.content_bytes => {
                    (Rsc::BadRequest, Some(request.request_id), too_large(limits.content_bytes))
                }
                Ok(request) => return Ok(request),
                Err(e) => (e.rsc, e.request_id, e.why),
            },
            // Decoded without its content, because a response repeats the request identifier.
            Err((rsc, why)) => {
                let id = read(Bytes::new()).map_or_else(|e| e.request_id, |r| Some(r.request_id));
                (rsc, id, why)
            }
        };
        let id = request_id.unwrap_or_default();
        audit::undecoded_refused(&self.session.active.association, &id, None, rsc, &why);
        Err(ResponsePrimitive::refusal(&id, None, rsc, &why))
    }
}

fn too_large(most: usize) -> String {
    format!("the content is larger than {most} bytes")
}
