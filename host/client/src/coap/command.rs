//! The messages between an association's task and its users.

use saegis_onem2m::coap::{Exchange, Parts};
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use tokio::sync::oneshot;

/// A request of the peer.
pub(crate) struct Incoming {
    pub request: Box<RequestPrimitive>,
    pub reply: ReplyTo,
}

/// The exchange of a request, and the request for the form of its response.
pub(crate) struct ReplyTo {
    pub exchange: Exchange,
    pub request: Parts,
}

/// A command for the task of the association.
pub(super) enum Command {
    Ask { request: Parts, max_content: usize, answer: oneshot::Sender<Result<Parts, String>> },
    Respond { to: ReplyTo, response: Box<ResponsePrimitive> },
}
