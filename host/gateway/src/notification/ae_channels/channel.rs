//! The side of a connection that serves it: it takes the responses of the AE, and has the waiting
//! notifications sent.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use saegis_onem2m::binding::BindingError;
use saegis_onem2m::primitive::ResponsePrimitive;
use tokio::time::{Instant, sleep};

use super::AeChannels;
use super::connection::{Carrier, Open, RequestsToAe, lock, not_connected};
use crate::notification::failure::Failure;
use crate::notification::waiting::Entry;
use crate::session::registry::ActiveAssociation;

/// Interval until a notification is sent again over the same connection: at least, and at most.
const MIN_RESEND_DELAY: Duration = Duration::from_secs(1);
const MAX_RESEND_DELAY: Duration = Duration::from_secs(60);

/// An open connection, for whoever serves it. Dropped, it is not open any more.
pub struct Channel {
    all: Arc<AeChannels>,
    open: Arc<Open>,
}

impl Channel {
    /// Opens the connection of an association, with the requests to its AE. An earlier one of the same
    /// credential is superseded.
    pub fn open(all: &Arc<AeChannels>, active: Arc<ActiveAssociation>) -> (Self, RequestsToAe) {
        let (open, requests) = Open::new(active, Carrier::Connection);
        let credential = open.active.association.credential_id.clone();
        if let Some(before) = lock(&all.open).insert(credential, open.clone()) {
            before.supersede();
        }
        (Self { all: all.clone(), open }, requests)
    }

    /// Does the same for an association over datagrams, whose end may not be noticed. Returns `None` if
    /// the credential has an open connection, which takes the requests then.
    pub fn open_over_datagrams(
        all: &Arc<AeChannels>,
        active: Arc<ActiveAssociation>,
    ) -> Option<(Self, RequestsToAe)> {
        let (open, requests) = Open::new(active, Carrier::Datagrams);
        let credential = open.active.association.credential_id.clone();
        let mut others = lock(&all.open);
        if others.get(&credential).is_some_and(|other| other.carrier == Carrier::Connection) {
            return None;
        }
        if let Some(before) = others.insert(credential, open.clone()) {
            before.supersede();
        }
        drop(others);
        Some((Self { all: all.clone(), open }, requests))
    }

    /// Takes a response of the AE. Returns whether it is one to a request that was sent to it.
    pub fn respond(&self, response: ResponsePrimitive) -> bool {
        let id = response.request_id.clone();
        self.open.complete(&id, Ok(response))
    }

    /// Takes a message with that identifier that is not a primitive. Returns whether it is the response
    /// to a request that was sent to the AE.
    pub fn fail(&self, id: &str, why: &str) -> bool {
        self.open.complete(id, Err(Failure::NoResponse(why.into())))
    }

    /// Takes a message that is not a primitive. Returns whether it is the response to a request that was
    /// sent to the AE.
    pub fn fails(&self, error: &BindingError) -> bool {
        error.request_id.as_deref().is_some_and(|id| self.fail(id, &error.why))
    }

    /// Returns a request that cannot be sent to its AE over this connection.
    pub fn reject(&self, id: &str) {
        self.open.complete(id, Err(not_connected()));
    }

    /// Returns whether somebody still waits for the response to a request.
    pub fn is_awaited(&self, id: &str) -> bool {
        lock(&self.open.pending).contains_key(id)
    }

    /// Returns whether the same credential has opened another connection.
    pub fn is_superseded(&self) -> bool {
        self.open.is_superseded.load(Ordering::Acquire)
    }

    /// Sends the waiting notifications to the AE, one after the other. One without a response is sent
    /// again, until its retention ends: after the others over this connection, or over the next one.
    ///
    /// Returns when the same credential has opened another connection. One task calls it.
    pub async fn deliver_waiting(&self) {
        let (all, credential) = (&self.all, &self.open.active.association.credential_id);
        let (mut sent, mut has_unanswered, mut delay) = (0, false, all.timeout);
        while !self.is_superseded() {
            let delivery = {
                let mut waiting = lock(&all.waiting);
                waiting.expire(Instant::now());
                all.forget(&mut waiting);
                let next = waiting.first_after(credential, sent);
                // Boxed, because an idle connection does not need its memory.
                next.map(|entry| Box::pin(self.deliver(entry)))
            };
            let Some(mut delivery) = delivery else {
                let resend = async {
                    match has_unanswered {
                        true => Box::pin(sleep(delay.max(MIN_RESEND_DELAY))).await,
                        false => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = self.open.changed.notified() => {}
                    () = resend => {
                        (sent, has_unanswered) = (0, false);
                        delay = (2 * delay).min(MAX_RESEND_DELAY);
                    }
                }
                continue;
            };
            let outcome;
            (sent, outcome) = loop {
                tokio::select! {
                    delivered = &mut delivery => break delivered,
                    () = self.open.changed.notified() => if self.is_superseded() { return },
                }
            };
            match outcome {
                Delivered::Responded => delay = all.timeout,
                Delivered::OtherRegistration => {}
                Delivered::Unanswered => has_unanswered = true,
            }
        }
    }

    /// Sends a waiting notification, and removes it if it was delivered or can never be. Returns its
    /// number too.
    async fn deliver(&self, entry: Entry) -> (u64, Delivered) {
        let (all, credential) = (&self.all, &self.open.active.association.credential_id);
        let response = all.deliver(&self.open, &entry).await;
        match &response {
            Ok(_) => entry.waits.notification.receipt.responded(),
            Err(Failure::NoResponse(_)) => entry.waits.notification.receipt.settled(),
            Err(_) => {}
        }
        let outcome = match &response {
            // The AE has it, whatever it responds.
            Ok(_) | Err(Failure::NoResponse(_)) => {
                let mut waiting = lock(&all.waiting);
                waiting.remove(credential, entry.number);
                all.forget(&mut waiting);
                Delivered::Responded
            }
            Err(Failure::OtherRegistration) => {
                let mut waiting = lock(&all.waiting);
                waiting.deregister(credential, &entry.waits.ae);
                all.forget(&mut waiting);
                return (entry.number, Delivered::OtherRegistration);
            }
            Err(_) => Delivered::Unanswered,
        };
        if let Err(why) = response {
            tracing::warn!(
                event = "notification.failed",
                to = entry.waits.ae,
                about = entry.waits.notification.about,
                "cannot send a notification: {why}"
            );
        }
        (entry.number, outcome)
    }
}

/// Outcome of sending a waiting notification.
enum Delivered {
    /// The AE has responded.
    Responded,
    /// The AE-ID is not that of the connection any more.
    OtherRegistration,
    /// It waits further.
    Unanswered,
}

impl Drop for Channel {
    fn drop(&mut self) {
        let mut open = lock(&self.all.open);
        let credential = &self.open.active.association.credential_id;
        if open.get(credential).is_some_and(|other| Arc::ptr_eq(other, &self.open)) {
            open.remove(credential);
        }
        drop(open);
        // Nobody waits for what can't come any more.
        lock(&self.open.pending).clear();
    }
}
