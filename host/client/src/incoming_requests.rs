//! Requests of the registrar on a connection where both sides send requests.

use std::collections::VecDeque;

use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::serialization::Primitive;

/// Maximum number of requests of the registrar that have not been taken. More are dropped.
const MAX_REQUESTS: usize = 100;

/// Requests that came while a response was waited for.
#[derive(Default)]
pub(crate) struct IncomingRequests(VecDeque<RequestPrimitive>);

impl IncomingRequests {
    /// Returns the primitive if it is the response to `request`. Stores a request of the registrar,
    /// and drops the response to an earlier request, which came too late.
    pub(crate) fn response_to(
        &mut self,
        request: &RequestPrimitive,
        primitive: Primitive,
    ) -> Option<ResponsePrimitive> {
        match primitive {
            Primitive::Response(response) => {
                (response.request_id == request.request_id).then_some(response)
            }
            Primitive::Request(request) => {
                if self.0.len() < MAX_REQUESTS {
                    self.0.push_back(*request);
                }
                None
            }
        }
    }

    /// Takes the oldest request.
    pub(crate) fn pop(&mut self) -> Option<RequestPrimitive> {
        self.0.pop_front()
    }
}
