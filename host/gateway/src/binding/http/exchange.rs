//! HTTP requests of one association: decoded, handed to the pipeline, and answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, Response};
use saegis_onem2m::http::{read_server_request, write_server_response};
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;

use super::body::ResponseBody;
use crate::listener::http_body::{NotCollected, collect};
use crate::pipeline::Pipeline;
use crate::session::Session;
use crate::telemetry::audit;

/// The exchanges of one association, one after the other.
pub struct Exchange {
    pipeline: Pipeline,
    session: Arc<Session>,
    begun: AtomicBool,
    /// A request is at hand, or hyper has not taken all of its response.
    busy: AtomicBool,
    /// The request at hand has arrived whole, and is being answered.
    answering: AtomicBool,
    /// A request did not arrive whole, so that none can follow it.
    broken_off: AtomicBool,
}

impl Exchange {
    /// The exchanges of a session.
    pub fn new(pipeline: Pipeline, session: Arc<Session>) -> Self {
        Self {
            pipeline,
            session,
            begun: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            answering: AtomicBool::new(false),
            broken_off: AtomicBool::new(false),
        }
    }

    /// Whether a request has arrived.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether the last request arrived whole and was answered, so that the next bytes are of another.
    pub fn is_between_requests(&self) -> bool {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        is(&self.begun) && !is(&self.busy) && !is(&self.broken_off)
    }

    /// Whether a request has arrived whole whose response hyper does not have yet.
    pub fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Relaxed)
    }

    /// hyper has the response to the request at hand.
    pub fn has_answered(&self) {
        self.busy.store(false, Ordering::Relaxed);
        self.answering.store(false, Ordering::Relaxed);
    }

    /// Waits until a response of this association has to make room for others.
    pub async fn response_evicted(&self) {
        self.session.evicted.cancelled().await;
    }

    /// Answers one request.
    pub async fn respond(self: Arc<Self>, request: Request<Incoming>) -> Response<ResponseBody> {
        self.begun.store(true, Ordering::Relaxed);
        self.busy.store(true, Ordering::Relaxed);
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
        write_server_response(response, operation)
            .map(|content| ResponseBody::new(content, self, memory))
    }

    /// Reads a request whole, bounded in size and time.
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
                let why = format!("the content is larger than {} bytes", limits.content_bytes);
                Err((Rsc::BadRequest, why))
            }
            Ok(Err(NotCollected::BreaksOff)) => {
                Err((Rsc::BadRequest, "the content breaks off".into()))
            }
            Err(_) => Err((Rsc::RequestTimeout, "the content did not come in time".into())),
        };
        self.broken_off.store(body.is_err(), Ordering::Relaxed);
        self.answering.store(body.is_ok(), Ordering::Relaxed);
        let read = |body| read_server_request(&parts, body);
        let (rsc, request_id, why) = match body {
            Ok(body) => match read(body) {
                Ok(request) => return Ok(request),
                Err(e) => (e.rsc, e.request_id, e.why),
            },
            // Read without its content all the same: a response repeats the request identifier.
            Err((rsc, why)) => {
                let id = read(Bytes::new()).map_or_else(|e| e.request_id, |r| Some(r.request_id));
                (rsc, id, why)
            }
        };
        let id = request_id.unwrap_or_default();
        audit::request_refused(&self.session.active.association, &id, None, rsc, &why);
        Err(ResponsePrimitive::refusal(&id, None, rsc, &why))
    }
}
