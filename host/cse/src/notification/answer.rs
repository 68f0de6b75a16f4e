//! The answer to a request, with what is to be sent because of it.

use saegis_onem2m::primitive::ResponsePrimitive;

use crate::notification::message::Notification;

/// An answer, and what is to be sent.
#[derive(Debug)]
#[must_use]
pub struct Answer {
    /// The answer to the originator.
    pub response: ResponsePrimitive,
    /// What is to be sent now, in this order. What it tells of is on disk. Nobody waits for it: the
    /// answer need not, and a notification that can't be sent is lost (there is no `pn` yet).
    pub notifications: Vec<Notification>,
}

impl From<ResponsePrimitive> for Answer {
    fn from(response: ResponsePrimitive) -> Self {
        Self { response, notifications: Vec::new() }
    }
}

/// What a request that may take longer comes to.
pub(crate) enum Outcome<T> {
    /// It is answered.
    Done(Answer),
    /// It is not answered yet.
    Pending(T),
}
