//! Whole primitives of one connection, of the bindings whose messages are primitives: decoded, handed to
//! the pipeline or to whoever waits for them, and encoded.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use saegis_onem2m::binding::BindingError;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::serialization::{Primitive, Serialization};
use tokio::sync::OwnedSemaphorePermit;

use crate::notification::ae_channels::channel::Channel;
use crate::pipeline::{HeldResponse, Pipeline};
use crate::session::Session;
use crate::session::response_memory::Room;
use crate::telemetry::audit;

/// Maximum size of the parameters of a primitive, beside its content, in bytes.
const MAX_PARAMETERS: usize = 32 << 10;

/// The exchanges of one connection.
pub struct Exchange {
    pub(super) pipeline: Pipeline,
    pub(super) session: Arc<Session>,
    /// Request Identifiers of the requests that are carried out. They are few.
    under_way: Mutex<Vec<String>>,
}

/// A primitive that is to be sent.
pub(super) struct Encoded {
    pub(super) bytes: Bytes,
    /// Resources that are released when the primitive has been sent.
    pub(super) held: Held,
}

/// Memory of a primitive, and the permit of its request.
pub(super) type Held = (Option<Room>, Option<OwnedSemaphorePermit>);

/// A decoded message.
pub(super) enum Incoming {
    /// A request.
    Request(Box<RequestPrimitive>),
    /// A response.
    Response(ResponsePrimitive),
    /// Not a primitive.
    Bad(BindingError),
}

impl Exchange {
    /// The exchanges of a session.
    pub fn new(pipeline: Pipeline, session: Arc<Session>) -> Self {
        Self { pipeline, session, under_way: Mutex::default() }
    }

    /// Maximum size of a message, in bytes.
    pub(super) fn max_message(&self) -> usize {
        self.pipeline.limits().content_bytes.saturating_add(MAX_PARAMETERS)
    }

    /// Decodes a message.
    pub(super) fn read(&self, serialization: Serialization, message: Bytes) -> Incoming {
        match serialization.read(message, self.max_message()) {
            Ok(Primitive::Request(request)) => {
                let most = self.pipeline.limits().content_bytes;
                if request.content_length() > most {
                    let why = format!("the content is larger than {most} bytes");
                    let id = Some(request.request_id);
                    return Incoming::Bad(BindingError::new(Rsc::BadRequest, id, why));
                }
                Incoming::Request(request)
            }
            Ok(Primitive::Response(response)) => Incoming::Response(response),
            Err(error) => Incoming::Bad(error),
        }
    }

    /// Answers a request. The permit is held until the response is sent.
    pub(super) async fn respond(
        &self,
        serialization: Serialization,
        request: Box<RequestPrimitive>,
        permit: OwnedSemaphorePermit,
    ) -> Encoded {
        let id = request.request_id.clone();
        if !self.begin(&id) {
            let why = "another request with that Request Identifier is being carried out";
            let error = BindingError::new(Rsc::BadRequest, Some(id), why);
            return self.refuse(serialization, request.from.as_deref(), error, permit);
        }
        let _under_way = UnderWay { exchange: self, id };
        let HeldResponse { response, memory } = self.pipeline.handle(&self.session, *request).await;
        encode(serialization, &response, (memory, Some(permit)))
    }

    /// Encodes a request to the AE; none, where it cannot be, or where nobody waits for the response any
    /// more.
    pub(super) fn request(
        &self,
        serialization: Serialization,
        request: &RequestPrimitive,
        channel: &Channel,
        permit: OwnedSemaphorePermit,
    ) -> Option<Encoded> {
        if !channel.is_awaited(&request.request_id) {
            return None;
        }
        match serialization.write_request(request) {
            Ok(bytes) => {
                let memory = &self.session.response_memory;
                let room = memory.hold_request(bytes.len(), self.session.active.ending());
                Some(Encoded { bytes, held: (Some(room), Some(permit)) })
            }
            Err(error) => {
                channel.fail(&request.request_id, &error.to_string());
                None
            }
        }
    }

    /// Hands a response to whoever waits for it.
    pub(super) fn complete(&self, channel: Option<&Channel>, response: ResponsePrimitive) {
        let id = response.request_id.clone();
        if !channel.is_some_and(|channel| channel.respond(response)) {
            self.unexpected(&id);
        }
    }

    /// Records a response that nobody waits for.
    pub(super) fn unexpected(&self, request_id: &str) {
        self.pipeline.count_unexpected();
        tracing::debug!(
            event = "response.unexpected",
            request_id,
            "a response to a request that was not sent is dropped"
        );
    }

    /// Refuses a message that is not a primitive, or not one that may be carried out.
    pub(super) fn refuse(
        &self,
        serialization: Serialization,
        from: Option<&str>,
        error: BindingError,
        permit: OwnedSemaphorePermit,
    ) -> Encoded {
        let BindingError { rsc, request_id, why, .. } = error;
        let id = request_id.unwrap_or_default();
        audit::undecoded_refused(&self.session.active.association, &id, from, rsc, &why);
        let refusal = ResponsePrimitive::refusal(&id, None, rsc, &why);
        self.pipeline.count_undecoded(&refusal);
        encode(serialization, &refusal, (None, Some(permit)))
    }

    /// Lists a request. Returns whether it was not listed.
    fn begin(&self, id: &str) -> bool {
        let mut under_way = self.under_way();
        let is_new = under_way.iter().all(|other| other != id);
        if is_new {
            under_way.push(id.into());
        }
        is_new
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Encodes a response.
fn encode(serialization: Serialization, response: &ResponsePrimitive, held: Held) -> Encoded {
    let written = serialization.write_response(response).map_err(|e| e.to_string());
    // The response of a CSE behind the gateway is JSON whose strings may not be UTF-8.
    let checked = written.and_then(|bytes| match serialization {
        Serialization::Json if std::str::from_utf8(&bytes).is_err() => {
            Err("it is not UTF-8".into())
        }
        _ => Ok(bytes),
    });
    let bytes = checked.or_else(|error| {
        tracing::warn!(event = "response.not-encoded", "a response cannot be encoded: {error}");
        let why = "the response cannot be encoded";
        let (id, release) = (&response.request_id, response.release.as_deref());
        serialization.write_response(&ResponsePrimitive::refusal(
            id,
            release,
            Rsc::InternalServerError,
            why,
        ))
    });
    Encoded { bytes: bytes.unwrap_or_default(), held }
}

/// Lists a request for as long as it is carried out.
struct UnderWay<'a> {
    exchange: &'a Exchange,
    id: String,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut under_way = self.exchange.under_way();
        under_way.retain(|other| *other != self.id);
        if under_way.is_empty() {
            // An idle connection has no buffer.
            *under_way = Vec::new();
        }
    }
}
