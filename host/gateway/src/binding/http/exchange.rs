//! HTTP requests of one association: decoded, handed to the pipeline, and answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, Response};
use saegis_onem2m::http::{read_server_request, write_server_response};
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;

use super::body::ResponseBody;
use super::progress::Progress;
use crate::listener::http_body::{NotCollected, collect};
use crate::pipeline::Pipeline;
use crate::session::Session;
use crate::telemetry::audit;

/// The exchanges of one association, one after the other.
pub struct Exchange {
    pipeline: Pipeline,
    session: Arc<Session>,
    progress: Arc<Progress>,
}

impl Exchange {
    /// The exchanges of a session.
    pub fn new(pipeline: Pipeline, session: Arc<Session>) -> Self {
        Self { pipeline, session, progress: Arc::default() }
    }

    /// The progress of the exchange at hand.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Waits until a response of this association has to make room for others.
    pub async fn response_evicted(&self) {
        self.session.evicted.cancelled().await;
    }

    /// Answers one request.
    pub async fn respond(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        self.progress.begin();
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
            .map(|content| ResponseBody::new(content, self.progress.clone(), memory))
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
        self.progress.content_arrived(body.is_ok());
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
