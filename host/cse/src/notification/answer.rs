//! The answer to a request, with the notifications that it causes.

use saegis_onem2m::primitive::ResponsePrimitive;

use crate::notification::message::Notification;

/// An answer with its notifications.
#[derive(Debug)]
#[must_use]
pub struct Answer {
    /// Response to the originator.
    pub response: ResponsePrimitive,
    /// Notifications to send now, in this order. The changes that they report are on disk. The
    /// response need not wait for them. The sender reports the outcome of each through its receipt;
    /// one of a subscription that failed is among the due notifications later.
    pub notifications: Vec<Notification>,
}

impl From<ResponsePrimitive> for Answer {
    fn from(response: ResponsePrimitive) -> Self {
        Self { response, notifications: Vec::new() }
    }
}

/// The notifications when the result of an acknowledged request exists.
#[derive(Debug, Default)]
pub struct ResultNotifications {
    /// Result for its targets.
    pub results: Vec<Notification>,
    /// Number of polling channels without space for the result.
    pub lost: usize,
    /// Events for the subscribers of the `<request>`.
    pub events: Vec<Notification>,
}

/// The result of a request that may take longer.
pub(crate) enum Outcome<T> {
    /// The request is answered.
    Done(Answer),
    /// The request is pending.
    Pending(T),
}
