//! The notifications of a request, collected until its commit.

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use rand::distr::{Alphanumeric, SampleString};
use saegis_onem2m::id::AeIdStem;
use serde_json::{Value, json};

use crate::notification::message::{Destination, NamedBy, Notification};
use crate::notification::point_of_access::Route;
use crate::receipts::Receipt;
use crate::record::names::Reference;
use crate::record::{Seconds, StoredNotification};
use crate::retries::TargetKey;
use crate::settings::Settings;
use crate::state::State;
use crate::store::polling_queues::QueuedMessage;
use crate::store::{StoreError, Writer};

/// Maximum number of notifications of one request. Further ones are dropped, because a deletion can
/// affect a whole tree of subscriptions.
pub(crate) const MAX_NOTIFICATIONS: usize = 256;

/// Length of a request identifier.
const REQUEST_ID_LEN: usize = 16;

/// The content of a message, with its Event Category, and the target of a subscription that it is
/// for.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) content: Bytes,
    pub(crate) category: Option<u16>,
    pub(crate) target: Option<SubscribedTarget>,
}

impl From<Bytes> for Message {
    fn from(content: Bytes) -> Self {
        Self { content, category: None, target: None }
    }
}

/// The target of a subscription that a message is for.
#[derive(Debug, Clone)]
pub(crate) struct SubscribedTarget {
    pub(crate) key: TargetKey,
    /// Registree in whose subtree the subscription is.
    pub(crate) owner: Option<String>,
    /// Whether a response counts for the statistics.
    pub(crate) is_counted: bool,
    pub(crate) delivery: Delivery,
}

/// The treatment of a message that its target does not receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It is lost.
    Once,
    /// It is stored with its event, and sent again later.
    Repeated,
    /// It was stored with this number and size, at this time.
    Stored(u64, usize, Seconds),
    /// It is sent again.
    Again(u64),
}

/// A message of the outbox.
#[derive(Debug)]
struct Entry {
    outgoing: Outgoing,
    content: Bytes,
    category: Option<u16>,
    target: Option<SubscribedTarget>,
}

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

/// A notification for the group that forwards it.
#[derive(Debug, Clone)]
pub(crate) struct Collected {
    /// Resource-ID of the group.
    pub(crate) group: String,
    /// Resource-ID of the subscription.
    pub(crate) subscription: String,
    /// Target, as in `nfu`.
    pub(crate) target: String,
    /// AE that the target denoted.
    pub(crate) ae: Option<Reference>,
    /// Originator that named it.
    pub(crate) subscriber: String,
    /// Event Category.
    pub(crate) category: Option<u16>,
    /// The notification (m2m:notification) in JSON.
    pub(crate) notification: Bytes,
}

/// The messages that are sent when their request is committed.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    messages: RefCell<Vec<Entry>>,
    /// Notifications for groups, which become messages when they are complete.
    collected: RefCell<Vec<Collected>>,
    lost: Cell<usize>,
}

impl Outbox {
    /// Returns whether further messages are dropped.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= MAX_NOTIFICATIONS
    }

    /// Returns the number of messages.
    pub(crate) fn len(&self) -> usize {
        self.messages.borrow().len() + self.collected.borrow().len()
    }

    /// Adds a notification for a group.
    pub(crate) fn collect(&self, collected: Collected) {
        if self.is_full() {
            self.count_dropped();
        } else {
            self.collected.borrow_mut().push(collected);
        }
    }

    /// Returns whether there are notifications for groups.
    pub(crate) fn has_collected(&self) -> bool {
        !self.collected.borrow().is_empty()
    }

    /// Takes out the notifications for groups.
    pub(crate) fn take_collected(&self) -> Vec<Collected> {
        self.collected.take()
    }

    /// Adds a message.
    fn put(&self, outgoing: Outgoing, message: &Message) {
        if self.is_full() {
            self.count_dropped();
        } else {
            let Message { content, category, target } = message.clone();
            self.messages.borrow_mut().push(Entry { outgoing, content, category, target });
        }
    }

    /// Counts a notification that was dropped before it was created.
    pub(crate) fn count_dropped(&self) {
        self.lost.set(self.lost.get().saturating_add(1));
    }

    /// Takes out all messages.
    fn empty(self) -> Vec<Entry> {
        warn(self.lost.get());
        self.messages.into_inner()
    }

    /// Stores the messages that are sent again if their targets do not receive them, in the
    /// transaction of their event. Those beyond the quota of the subscription's owner are sent once.
    pub(crate) fn store(
        &self,
        writer: &mut Writer<'_>,
        state: &State,
        now: Seconds,
    ) -> Result<(), StoreError> {
        for entry in self.messages.borrow_mut().iter_mut() {
            let Some(target) = entry.target.as_mut() else { continue };
            if target.delivery != Delivery::Repeated {
                continue;
            }
            if let Outgoing::Send(notification) = &entry.outgoing
                && let Destination::Connection(ae) = &notification.to
                && state.is_stored_elsewhere(ae)
            {
                target.delivery = Delivery::Once;
                continue;
            }
            let number = state.retries.next();
            let (content, category) = (&entry.content, entry.category);
            let max_bytes = state.settings.limits.max_bytes_per_registree;
            let stored = StoredNotification::new(&target.key.1, content, category, now);
            target.delivery = match writer.put_retry((&target.key.0, number), &stored, max_bytes)? {
                Some(size) => Delivery::Stored(number, size, now),
                None => Delivery::Once,
            };
        }
        Ok(())
    }

    /// Puts the messages for polling channels into their queues. Returns the notifications for the
    /// caller, and the number of messages that did not fit into a queue.
    pub(crate) fn post(self, state: &State) -> (Vec<Notification>, usize) {
        let (mut notifications, mut lost) = (Vec::new(), 0);
        for Entry { outgoing, target, .. } in self.empty() {
            let Some(receipt) = receipt(state, target) else { continue };
            match outgoing {
                Outgoing::Send(mut notification) => {
                    notification.receipt = receipt;
                    notifications.push(*notification);
                }
                Outgoing::Channel { ri, request } => {
                    if !state.queues.put(&ri, QueuedMessage { request, receipt }) {
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

    /// Lets the stored messages be sent with the next ones that are due, and drops the others.
    pub(crate) fn send_later(self, state: &State) {
        for SubscribedTarget { key, owner, delivery, .. } in
            self.empty().into_iter().filter_map(|entry| entry.target)
        {
            if let Delivery::Stored(number, size, now) = delivery {
                state.retries.restore((&key, owner.as_deref()), number, (size, now));
            }
        }
    }

    /// Adds a notification with this content for the subscription `sur`. Returns whether its
    /// destination is reachable.
    pub(crate) fn send(
        &self,
        settings: &Settings,
        to: Route,
        sur: &str,
        message: &Message,
    ) -> bool {
        match to {
            Route::Send(there, named_by) => {
                let content = message.content.clone();
                let mut sent = notification(settings, (there, named_by), sur.into(), content);
                sent.category = message.category;
                self.put(Outgoing::Send(Box::new(sent)), message);
                true
            }
            Route::PollingChannel { ri, ae } => {
                let from = settings.cse_id.to_string();
                let request = primitive(&ae, &from, &identifier(), &release(settings), message);
                self.put(Outgoing::Channel { ri, request }, message);
                true
            }
            Route::Unreachable(why) => {
                tracing::debug!(
                    event = "notification.no-target",
                    subscription = sur,
                    "notification dropped: {why}"
                );
                false
            }
        }
    }
}

/// Returns the receipt of a message, or nothing if the message waits for former ones.
fn receipt(state: &State, target: Option<SubscribedTarget>) -> Option<Receipt> {
    let Some(SubscribedTarget { key, owner, is_counted, delivery }) = target else {
        return Some(Receipt::default());
    };
    let number = match delivery {
        Delivery::Once | Delivery::Repeated => None,
        Delivery::Again(number) => Some(number),
        Delivery::Stored(number, size, now) => {
            if !state.retries.begin((&key, owner.as_deref()), number, (size, now)) {
                return None;
            }
            Some(number)
        }
    };
    let stored = number.map(|number| (key.clone(), number, state.retries.clone()));
    Some(Receipt::new(is_counted.then(|| (key, state.receipts.clone())), stored))
}

/// Truncates notifications to the maximum number of one request. Stored ones are sent later.
pub(crate) fn cut(notifications: &mut Vec<Notification>) {
    warn(notifications.len().saturating_sub(MAX_NOTIFICATIONS));
    for dropped in notifications.drain(MAX_NOTIFICATIONS.min(notifications.len())..) {
        dropped.receipt.failed();
    }
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
        Destination::PointOfAccess(_)
        | Destination::Connection(_)
        | Destination::PollingChannel { .. } => content,
        Destination::Elsewhere(_) => with_sp_relative_creator(settings, content),
    };
    Notification {
        to,
        named_by,
        about,
        from: settings.cse_id.to_string(),
        request_id: identifier(),
        release: release(settings),
        category: None,
        receipt: Receipt::default(),
        content,
    }
}

/// Serializes a notify request as a primitive inside a primitive (TS-0004 clause 7.4.22.2.2).
pub(crate) fn primitive(
    ae: &str,
    from: &str,
    request_id: &str,
    release: &str,
    message: &Message,
) -> Bytes {
    let content: Value = serde_json::from_slice(&message.content).unwrap_or_default();
    let mut request = json!({
        "op": 5,
        "to": ae,
        "fr": from,
        "rqi": request_id,
        "rvi": release,
        "pc": content,
    });
    if let (Some(category), Some(members)) = (message.category, request.as_object_mut()) {
        members.insert("ec".into(), category.into());
    }
    json!({ "m2m:rqp": request }).to_string().into()
}

/// Converts the content of a notification for another CSE, where the stem of an AE of this CSE
/// would name another AE.
fn with_sp_relative_creator(settings: &Settings, content: Bytes) -> Bytes {
    let Ok(mut notification) = serde_json::from_slice::<Value>(&content) else { return content };
    let rewrite = |notification: &mut Value| {
        let Some(Value::String(creator)) = notification.get_mut("cr") else { return };
        match AeIdStem::parse(creator) {
            Ok(stem) if stem.as_str().starts_with('S') => *creator = format!("/{stem}"),
            Ok(stem) => *creator = reference(settings, stem.as_str()),
            Err(_) => {}
        }
    };
    match notification.pointer_mut("/m2m:agn/m2m:sgn").and_then(Value::as_array_mut) {
        Some(batch) => batch.iter_mut().for_each(rewrite),
        None => notification.get_mut("m2m:sgn").into_iter().for_each(rewrite),
    }
    notification.to_string().into()
}
