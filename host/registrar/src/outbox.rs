//! What a request wants to be sent, until it is committed.

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use http::Uri;
use rand::distr::{Alphanumeric, SampleString};
use serde_json::{Value, json};

use crate::notification::{NamedBy, Notification};
use crate::reach::Reach;
use crate::settings::Settings;

/// Most notifications of one request. What is over goes unsent: a deletion may be that of a whole
/// tree of subscriptions.
pub(crate) const MAX_NOTIFICATIONS: usize = 256;

/// Length of a request identifier.
const IDENTIFIER: usize = 16;

/// Something to be sent.
#[derive(Debug)]
pub(crate) enum Letter {
    /// Over HTTP, by somebody who can.
    Http(Notification),
    /// Into the queue of a polling channel.
    Channel {
        /// The polling channel's resource-ID.
        ri: String,
        /// The request primitive, an `m2m:rqp`.
        request: Bytes,
    },
}

/// What is to be sent when the request that causes it is committed.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    letters: RefCell<Vec<Letter>>,
    lost: Cell<usize>,
}

impl Outbox {
    /// Whether nothing more goes in.
    pub(crate) fn is_full(&self) -> bool {
        self.letters.borrow().len() >= MAX_NOTIFICATIONS
    }

    /// Puts a letter in.
    fn put(&self, letter: Letter) {
        if self.is_full() {
            self.lost.set(self.lost.get().saturating_add(1));
        } else {
            self.letters.borrow_mut().push(letter);
        }
    }

    /// Takes all out.
    pub(crate) fn empty(self) -> Vec<Letter> {
        warn(self.lost.get());
        self.letters.into_inner()
    }

    /// Puts in a notification with that content, for the subscription that `sur` names, if there is
    /// a way to where it is to go.
    pub(crate) fn send(&self, settings: &Settings, to: Reach, sur: &str, content: &Bytes) {
        match to {
            Reach::Http(url, named_by) => {
                let letter = notification(settings, (url, named_by), sur.into(), content.clone());
                self.put(Letter::Http(letter));
            }
            Reach::Channel { ri, ae } => {
                self.put(Letter::Channel { ri, request: primitive(settings, &ae, content) });
            }
            Reach::Nowhere(why) => {
                tracing::debug!(subscription = sur, "a notification goes nowhere: {why}");
            }
        }
    }
}

/// Leaves no more notifications than one request may cause.
pub(crate) fn cut(notifications: &mut Vec<Notification>) {
    warn(notifications.len().saturating_sub(MAX_NOTIFICATIONS));
    notifications.truncate(MAX_NOTIFICATIONS);
}

fn warn(lost: usize) {
    if lost > 0 {
        tracing::warn!(
            event = "registrar.notifications-lost",
            lost,
            "a request caused more than {MAX_NOTIFICATIONS} notifications"
        );
    }
}

/// The SP-relative address of the resource with that resource-ID.
pub(crate) fn reference(settings: &Settings, ri: &str) -> String {
    format!("{}/{ri}", settings.cse_id)
}

fn identifier() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), IDENTIFIER)
}

/// The release version of what this CSE asks by itself: the third, for all who have come since know
/// it, or the latest that it speaks.
fn release(settings: &Settings) -> String {
    let spoken = &settings.release_versions;
    let found = spoken.iter().find(|r| *r == "3").or(spoken.last());
    found.cloned().unwrap_or_default()
}

/// A notification of this CSE.
pub(crate) fn notification(
    settings: &Settings,
    (url, named_by): (Uri, NamedBy),
    subscription: String,
    content: Bytes,
) -> Notification {
    Notification {
        url,
        named_by,
        subscription,
        from: settings.cse_id.to_string(),
        request_id: identifier(),
        release: release(settings),
        content,
    }
}

/// The same as a request primitive inside a primitive (TS-0004 clause 7.4.22.2.2).
fn primitive(settings: &Settings, ae: &str, content: &Bytes) -> Bytes {
    let content: Value = serde_json::from_slice(content).unwrap_or_default();
    let request = json!({ "m2m:rqp": {
        "op": 5,
        "to": ae,
        "fr": settings.cse_id.to_string(),
        "rqi": identifier(),
        "rvi": release(settings),
        "pc": content,
    }});
    request.to_string().into()
}
