//! What a request wants to be sent, until it is committed.

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use rand::distr::{Alphanumeric, SampleString};
use saegis_onem2m::id::AeIdStem;
use serde_json::{Value, json};

use crate::notification::message::{Destination, NamedBy, Notification};
use crate::notification::point_of_access::Route;
use crate::settings::Settings;
use crate::store::polling_queues::PollingQueues;

/// Most notifications of one request. What is over goes unsent: a deletion may be that of a whole
/// tree of subscriptions.
pub(crate) const MAX_NOTIFICATIONS: usize = 256;

/// Length of a request identifier.
const REQUEST_ID_LEN: usize = 16;

/// Something to be sent.
#[derive(Debug)]
enum Outgoing {
    /// By somebody who can send it.
    Send(Notification),
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
    letters: RefCell<Vec<Outgoing>>,
    lost: Cell<usize>,
}

impl Outbox {
    /// Whether nothing more goes in.
    pub(crate) fn is_full(&self) -> bool {
        self.letters.borrow().len() >= MAX_NOTIFICATIONS
    }

    /// Puts a letter in.
    fn put(&self, letter: Outgoing) {
        if self.is_full() {
            self.lose();
        } else {
            self.letters.borrow_mut().push(letter);
        }
    }

    /// Counts one that was not even looked for.
    pub(crate) fn lose(&self) {
        self.lost.set(self.lost.get().saturating_add(1));
    }

    /// Takes all out.
    fn empty(self) -> Vec<Outgoing> {
        warn(self.lost.get());
        self.letters.into_inner()
    }

    /// Puts what is for polling channels into their queues. Returns what is to be sent by others, and
    /// how much had no room in a queue.
    pub(crate) fn post(self, queues: &PollingQueues) -> (Vec<Notification>, usize) {
        let (mut notifications, mut lost) = (Vec::new(), 0);
        for letter in self.empty() {
            match letter {
                Outgoing::Send(notification) => notifications.push(notification),
                Outgoing::Channel { ri, request } => {
                    if !queues.put(&ri, request) {
                        lost += 1;
                        tracing::warn!(
                            event = "cse.notifications-dropped",
                            "there is no room in the queues of polling channels"
                        );
                    }
                }
            }
        }
        (notifications, lost)
    }

    /// Puts in a notification with that content, for the subscription that `sur` names, if there is
    /// a way to where it is to go.
    pub(crate) fn send(&self, settings: &Settings, to: Route, sur: &str, content: &Bytes) {
        match to {
            Route::Send(there, named_by) => {
                let letter = notification(settings, (there, named_by), sur.into(), content.clone());
                self.put(Outgoing::Send(letter));
            }
            Route::PollingChannel { ri, ae } => {
                let from = settings.cse_id.to_string();
                let request = primitive(&ae, &from, &identifier(), &release(settings), content);
                self.put(Outgoing::Channel { ri, request });
            }
            Route::Unreachable(why) => {
                tracing::debug!(
                    event = "notification.no-target",
                    subscription = sur,
                    "a notification goes nowhere: {why}"
                );
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
            event = "cse.notifications-dropped",
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
    Alphanumeric.sample_string(&mut rand::rng(), REQUEST_ID_LEN)
}

/// The release version of what this CSE asks by itself: the third, for all who have come since know
/// it, or the latest that it speaks.
pub(crate) fn release(settings: &Settings) -> String {
    let spoken = &settings.release_versions;
    let found = spoken.iter().find(|r| *r == "3").or(spoken.last());
    found.cloned().unwrap_or_default()
}

/// A notification of this CSE.
pub(crate) fn notification(
    settings: &Settings,
    (to, named_by): (Destination, NamedBy),
    about: String,
    content: Bytes,
) -> Notification {
    let content = match &to {
        Destination::PointOfAccess(_) => content,
        Destination::Elsewhere(_) => outward(settings, content),
    };
    Notification {
        to,
        named_by,
        about,
        from: settings.cse_id.to_string(),
        request_id: identifier(),
        release: release(settings),
        content,
    }
}

/// A notify request as a primitive inside a primitive (TS-0004 clause 7.4.22.2.2).
pub(crate) fn primitive(
    ae: &str,
    from: &str,
    request_id: &str,
    release: &str,
    content: &Bytes,
) -> Bytes {
    let content: Value = serde_json::from_slice(content).unwrap_or_default();
    let request = json!({ "m2m:rqp": {
        "op": 5,
        "to": ae,
        "fr": from,
        "rqi": request_id,
        "rvi": release,
        "pc": content,
    }});
    request.to_string().into()
}

/// A notification's content for another CSE: there the stem of an AE of ours names another AE, or none.
fn outward(settings: &Settings, content: Bytes) -> Bytes {
    let Ok(mut told) = serde_json::from_slice::<Value>(&content) else { return content };
    let Some(Value::String(creator)) = told.pointer_mut("/m2m:sgn/cr") else { return content };
    match AeIdStem::parse(creator) {
        Ok(stem) if stem.as_str().starts_with('S') => *creator = format!("/{stem}"),
        Ok(stem) => *creator = reference(settings, stem.as_str()),
        Err(_) => return content,
    }
    told.to_string().into()
}
