//! The notifications of a request, collected until its commit.

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use rand::distr::{Alphanumeric, SampleString};
use saegis_onem2m::id::AeIdStem;
use serde_json::{Value, json};

use crate::notification::message::{Destination, NamedBy, Notification};
use crate::notification::point_of_access::Route;
use crate::settings::Settings;
use crate::store::polling_queues::PollingQueues;

/// Maximum number of notifications of one request. Further ones are dropped, because a deletion can
/// affect a whole tree of subscriptions.
pub(crate) const MAX_NOTIFICATIONS: usize = 256;

/// Length of a request identifier.
const REQUEST_ID_LEN: usize = 16;

/// An outgoing message.
#[derive(Debug)]
enum Outgoing {
    /// A notification for the caller to send.
    Send(Box<Notification>),
    /// A message for the queue of a polling channel.
    Channel {
        /// Resource-ID of the polling channel.
        ri: String,
        /// Request primitive, an `m2m:rqp`.
        request: Bytes,
    },
}

/// The messages that are sent when their request is committed.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    messages: RefCell<Vec<Outgoing>>,
    lost: Cell<usize>,
}

impl Outbox {
    /// Returns whether further messages are dropped.
    pub(crate) fn is_full(&self) -> bool {
        self.messages.borrow().len() >= MAX_NOTIFICATIONS
    }

    /// Adds a message.
    fn put(&self, message: Outgoing) {
        if self.is_full() {
            self.count_dropped();
        } else {
            self.messages.borrow_mut().push(message);
        }
    }

    /// Counts a notification that was dropped before it was created.
    pub(crate) fn count_dropped(&self) {
        self.lost.set(self.lost.get().saturating_add(1));
    }

    /// Takes out all messages.
    fn empty(self) -> Vec<Outgoing> {
        warn(self.lost.get());
        self.messages.into_inner()
    }

    /// Puts the messages for polling channels into their queues. Returns the notifications for the
    /// caller, and the number of messages that did not fit into a queue.
    pub(crate) fn post(self, queues: &PollingQueues) -> (Vec<Notification>, usize) {
        let (mut notifications, mut lost) = (Vec::new(), 0);
        for message in self.empty() {
            match message {
                Outgoing::Send(notification) => notifications.push(*notification),
                Outgoing::Channel { ri, request } => {
                    if !queues.put(&ri, request) {
                        lost += 1;
                        tracing::warn!(
                            event = "cse.notifications-dropped",
                            "message dropped: the queues of polling channels are full"
                        );
                    }
                }
            }
        }
        (notifications, lost)
    }

    /// Adds a notification with this content for the subscription `sur`, if its destination is
    /// reachable.
    pub(crate) fn send(&self, settings: &Settings, to: Route, sur: &str, content: &Bytes) {
        match to {
            Route::Send(there, named_by) => {
                let message =
                    notification(settings, (there, named_by), sur.into(), content.clone());
                self.put(Outgoing::Send(Box::new(message)));
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
                    "notification dropped: {why}"
                );
            }
        }
    }
}

/// Truncates notifications to the maximum number of one request.
pub(crate) fn cut(notifications: &mut Vec<Notification>) {
    warn(notifications.len().saturating_sub(MAX_NOTIFICATIONS));
    notifications.truncate(MAX_NOTIFICATIONS);
}

fn warn(lost: usize) {
    if lost > 0 {
        tracing::warn!(
            event = "cse.notifications-dropped",
            lost,
            "notifications dropped: a request caused more than {MAX_NOTIFICATIONS}"
        );
    }
}

/// Returns the SP-relative address of the resource with this resource-ID.
pub(crate) fn reference(settings: &Settings, ri: &str) -> String {
    format!("{}/{ri}", settings.cse_id)
}

fn identifier() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), REQUEST_ID_LEN)
}

/// Returns the release version of requests that this CSE originates: the third, which all later
/// releases support, or else the latest supported one.
pub(crate) fn release(settings: &Settings) -> String {
    let spoken = &settings.release_versions;
    let found = spoken.iter().find(|r| *r == "3").or(spoken.last());
    found.cloned().unwrap_or_default()
}

/// Creates a notification of this CSE.
pub(crate) fn notification(
    settings: &Settings,
    (to, named_by): (Destination, NamedBy),
    about: String,
    content: Bytes,
) -> Notification {
    let content = match &to {
        Destination::PointOfAccess(_) | Destination::Connection(_) => content,
        Destination::Elsewhere(_) => with_sp_relative_creator(settings, content),
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

/// Serializes a notify request as a primitive inside a primitive (TS-0004 clause 7.4.22.2.2).
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

/// Converts the content of a notification for another CSE, where the stem of an AE of this CSE
/// would name another AE.
fn with_sp_relative_creator(settings: &Settings, content: Bytes) -> Bytes {
    let Ok(mut notification) = serde_json::from_slice::<Value>(&content) else { return content };
    let Some(Value::String(creator)) = notification.pointer_mut("/m2m:sgn/cr") else {
        return content;
    };
    match AeIdStem::parse(creator) {
        Ok(stem) if stem.as_str().starts_with('S') => *creator = format!("/{stem}"),
        Ok(stem) => *creator = reference(settings, stem.as_str()),
        Err(_) => return content,
    }
    notification.to_string().into()
}
