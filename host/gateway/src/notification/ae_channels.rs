//! Connections that AEs have opened themselves and keep open, over which requests are sent to them
//! (WebSocket, TS-0020 clause 5.2; MQTT; the association of CoAP). Nothing here knows a protocol.
//!
//! A notification for an AE whose connection is not open waits for it (TS-0020 clause 6.5), bounded in
//! number, size and time. It belongs to the credential that the AE had by then, so nobody who registers
//! under the same name later gets it.
//!
//! Waiting notifications have a place of their own among the requests to the AE. The other places are
//! shared between the credentials that cause requests to the AE.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use saegis_cse::{Destination, NamedBy, Notification};
use saegis_onem2m::binding::BindingError;
use saegis_onem2m::id::{AeIdStem, CredentialId};
use saegis_onem2m::primitive::{Content, Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::target::Target;
use saegis_policy::Policy;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};

use super::failure::Failure;
use super::fair_limiter::FairLimiter;
use super::request_queue::{RequestReceiver, RequestSender, request_queue};
use super::waiting::{Entry, Waiting, Waits};
use crate::session::ae_id_store::AeIdStore;
use crate::session::durable_sessions::{Durable, DurableSessions, StoredNotification, now};
use crate::session::registry::{ActiveAssociation, Revalidation};

/// Maximum number of requests to one AE that are not answered yet: in total, and of those that one
/// credential causes. Waiting notifications do not count.
const MAX_PENDING: usize = 64;
const MAX_PENDING_PER_CAUSE: usize = 32;

/// Interval until a notification is sent again over the same connection: at least, and at most.
const MIN_RESEND_DELAY: Duration = Duration::from_secs(1);
const MAX_RESEND_DELAY: Duration = Duration::from_secs(60);

/// The open connections of AEs, and what waits for them.
pub struct AeChannels {
    policy: Arc<Policy>,
    ae_ids: AeIdStore,
    /// Timeout for the response of an AE.
    timeout: Duration,
    /// How long a notification waits.
    retention: Duration,
    /// Sessions that outlive their connections. Their notifications are on disk.
    sessions: Option<Arc<DurableSessions>>,
    open: Mutex<HashMap<CredentialId, Arc<Open>>>,
    waiting: Mutex<Waiting>,
}

/// The medium of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    /// A connection, whose end is noticed.
    Connection,
    /// Datagrams.
    Datagrams,
}

/// An open connection.
struct Open {
    active: Arc<ActiveAssociation>,
    carrier: Carrier,
    requests: RequestSender,
    /// The waiting notifications, one at a time.
    deliveries: RequestSender,
    /// Requests that are not answered yet, by the credential that caused them.
    limiter: OnceLock<Arc<FairLimiter<CredentialId>>>,
    pending: Mutex<HashMap<String, oneshot::Sender<Result<ResponsePrimitive, Failure>>>>,
    /// The same credential has opened another.
    is_superseded: AtomicBool,
    /// Wakes the delivery: something waits for the AE, or the connection is superseded.
    changed: Notify,
}

/// An open connection, for whoever serves it. Dropped, it is not open any more.
pub struct Channel {
    all: Arc<AeChannels>,
    open: Arc<Open>,
}

/// Requests to an AE, for whoever serves its connection.
pub struct RequestsToAe {
    /// Requests of others, and notifications that others wait for.
    pub asked: RequestReceiver,
    /// Notifications that have waited, one at a time.
    pub waiting: RequestReceiver,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_connected() -> Failure {
    Failure::NotConnected
}

impl AeChannels {
    /// No connections yet. An AE has `timeout` to respond, and a notification waits for `retention`.
    pub fn new(
        policy: Arc<Policy>,
        ae_ids: AeIdStore,
        timeout: Duration,
        retention: Duration,
        sessions: Option<Arc<DurableSessions>>,
    ) -> Arc<Self> {
        let (open, waiting) = (Mutex::default(), Mutex::default());
        Arc::new(Self { policy, ae_ids, timeout, retention, sessions, open, waiting })
    }

    /// Queues the notifications that were on disk at the start, in their order.
    pub fn restore(&self, stored: Vec<(u64, StoredNotification)>) {
        let retention = self.sessions.as_ref().map_or(Duration::ZERO, |s| s.retention());
        let mut waiting = lock(&self.waiting);
        for (number, stored) in stored {
            let waited = now().saturating_sub(stored.at);
            let left = retention.saturating_sub(Duration::from_secs(waited));
            let credential = CredentialId::parse(&stored.credential).ok();
            let cause = CredentialId::parse(&stored.cause).ok();
            let Some((credential, cause)) = credential.zip(cause) else { continue };
            let (ae, until) = (stored.ae.clone(), Instant::now() + left);
            let waits = Waits { ae, notification: restored(stored), until, is_stored: true };
            waiting.restore(number, (&credential, &cause), waits);
        }
        self.forget(&mut waiting);
    }

    /// Removes from the disk what does not wait any more.
    fn forget(&self, waiting: &mut Waiting) -> Durable {
        let removed = waiting.take_removed().into_iter();
        let sessions = self.sessions.iter();
        let removed = removed.flat_map(|number| sessions.clone().map(move |s| s.remove(number)));
        // They are written in their order.
        removed.last().unwrap_or_else(Durable::already)
    }

    /// Returns the credential of an AE that has a session which outlives its connections: that of
    /// its registrant, if there is one.
    pub fn holder_of_session(&self, ae: &str, registrant: Option<&str>) -> Option<CredentialId> {
        self.sessions.as_ref()?.holder(ae, registrant)
    }

    /// Returns whether the notifications for the AE of a credential are on disk while they wait.
    pub fn stores_for(&self, credential: &CredentialId) -> bool {
        self.sessions.as_ref().is_some_and(|sessions| sessions.take_requests(credential))
    }

    /// Opens the connection of an association, with the requests to its AE. An earlier one of the same
    /// credential is superseded.
    pub fn open(self: &Arc<Self>, active: Arc<ActiveAssociation>) -> (Channel, RequestsToAe) {
        let (open, requests) = Open::new(active, Carrier::Connection);
        let credential = open.active.association.credential_id.clone();
        if let Some(before) = lock(&self.open).insert(credential, open.clone()) {
            before.supersede();
        }
        (Channel { all: self.clone(), open }, requests)
    }

    /// Does the same for an association over datagrams, whose end may not be noticed. Returns `None` if
    /// the credential has an open connection, which takes the requests then.
    pub fn open_over_datagrams(
        self: &Arc<Self>,
        active: Arc<ActiveAssociation>,
    ) -> Option<(Channel, RequestsToAe)> {
        let (open, requests) = Open::new(active, Carrier::Datagrams);
        let credential = open.active.association.credential_id.clone();
        let mut all = lock(&self.open);
        if all.get(&credential).is_some_and(|other| other.carrier == Carrier::Connection) {
            return None;
        }
        if let Some(before) = all.insert(credential, open.clone()) {
            before.supersede();
        }
        drop(all);
        Some((Channel { all: self.clone(), open }, requests))
    }

    /// Whether the connection of a credential is open.
    pub fn is_open(&self, credential: &CredentialId) -> bool {
        lock(&self.open).contains_key(credential)
    }

    /// Whether a notification goes over the open connection of a credential. An association over
    /// datagrams takes it only if the AE has no point of access.
    pub fn takes(&self, credential: &CredentialId, to: &Destination) -> bool {
        let all = lock(&self.open);
        all.get(credential).is_some_and(|open| {
            open.carrier == Carrier::Connection || matches!(to, Destination::Connection(_))
        })
    }

    /// Sends a notification that a request of `cause` has caused to an AE, over the open connection of
    /// its credential, and waits for the response.
    ///
    /// # Errors
    /// Returns the reason why there is none.
    pub async fn ask(
        &self,
        (credential, cause): (&CredentialId, &CredentialId),
        ae: &str,
        notification: &Notification,
    ) -> Result<ResponsePrimitive, Failure> {
        let open = lock(&self.open).get(credential).cloned().ok_or_else(not_connected)?;
        self.check(&open, ae).await.map_err(|_| not_connected())?;
        let too_many = |why: &str| Failure::NoAssociation(why.into());
        let permit = open.limiter().begin(cause.clone());
        let permit = permit.ok_or_else(|| too_many("too many unanswered requests to the AE"))?;
        let asked = open.ask(&open.requests, request(ae, notification)?);
        tokio::select! {
            response = tokio::time::timeout(self.timeout, asked) => {
                response.map_err(|_| Failure::Late)?
            }
            () = permit.displaced() => Err(too_many("displaced by requests of others to the AE")),
        }
    }

    /// Checks that a connection stands for an AE. Its credential may have been revoked since it was
    /// opened, or may have another AE-ID now.
    async fn check(&self, open: &Open, ae: &str) -> Result<(), Failure> {
        if open.active.revalidate(&self.policy.current()).await != Revalidation::Valid {
            return Err(not_connected());
        }
        if open.active.has_lost_its_ae_id(&self.ae_ids) || !open.stands_for(ae) {
            return Err(Failure::OtherRegistration);
        }
        Ok(())
    }

    /// Returns the credentials that have sessions, or for whose AEs notifications wait.
    pub fn credentials(&self) -> HashSet<CredentialId> {
        let mut all: HashSet<_> = lock(&self.waiting).credentials().cloned().collect();
        all.extend(self.sessions.iter().flat_map(|sessions| sessions.credentials()));
        all
    }

    /// Removes the sessions of a credential that policy no longer has, and what waits for its AEs.
    pub async fn revoke(&self, credential: &CredentialId) {
        let sessions = self.sessions.as_ref().map(|sessions| sessions.remove_all(credential));
        let sessions = sessions.unwrap_or_default();
        let removed = sessions.len();
        let waiting = self.remove_waiting(|waiting| waiting.revoke(credential));
        for durable in sessions.into_iter().chain([waiting]) {
            // The store logs a failure.
            durable.wait().await;
        }
        if removed > 0 {
            tracing::info!(
                event = "mqtt.sessions-removed",
                credential_id = %credential,
                sessions = removed,
                "removed the MQTT sessions of a credential that is no longer valid"
            );
        }
    }

    /// Removes the sessions of a credential whose AE-ID was released, and what waits for its AE.
    pub fn release(&self, credential: &CredentialId, ae: &AeIdStem) {
        // Nothing depends on when this is on disk: the AE-ID is checked again before each delivery.
        self.sessions.iter().for_each(|sessions| drop(sessions.remove_all(credential)));
        self.remove_waiting(|waiting| waiting.deregister(credential, ae.as_str()));
    }

    fn remove_waiting(&self, remove: impl FnOnce(&mut Waiting)) -> Durable {
        let mut waiting = lock(&self.waiting);
        remove(&mut waiting);
        self.forget(&mut waiting)
    }

    /// Removes what has waited too long, and logs how many notifications were lost since the last
    /// call.
    pub fn tidy(&self) {
        let losses = {
            let mut waiting = lock(&self.waiting);
            waiting.expire(Instant::now());
            self.forget(&mut waiting);
            waiting.take_losses()
        };
        for ((ae, loss), notifications) in losses {
            tracing::warn!(
                event = "notification.dropped",
                notifications,
                to = ae,
                "dropped notifications that waited for the connection of an AE: {}",
                loss.why()
            );
        }
    }

    /// Has a notification that a request of `cause` has caused wait for an AE, or sent at once where its
    /// connection is open. Returns `None` if it is too large. For a session that outlives its connection
    /// the notification is durable once the result says so.
    pub fn send(
        &self,
        (credential, cause): (&CredentialId, &CredentialId),
        ae: &str,
        notification: Notification,
    ) -> Option<Durable> {
        let sessions = self.sessions.as_ref().filter(|s| s.take_requests(credential));
        let to_store =
            sessions.and_then(|s| Some((s, stored((credential, cause), ae, &notification)?)));
        let retention = to_store.as_ref().map_or(self.retention, |(s, _)| s.retention());
        let (ae, until, is_stored) = (ae.into(), Instant::now() + retention, to_store.is_some());
        let waits = Waits { ae, notification, until, is_stored };
        let receipt = waits.notification.receipt.clone();
        let mut waiting = lock(&self.waiting);
        waiting.expire(Instant::now());
        let number = waiting.put((credential, cause), waits);
        match (number, &to_store) {
            (Some(_), None) => receipt.held(),
            // The session stores it, or it is lost.
            _ => receipt.settled(),
        }
        self.forget(&mut waiting);
        // With the lock, so that it is not removed from the disk before.
        let durable = number.map(|number| match to_store {
            Some((sessions, stored)) => sessions.put(number, stored),
            None => Durable::already(),
        });
        drop(waiting);
        if let Some(open) = lock(&self.open).get(credential) {
            open.changed.notify_one();
        }
        durable
    }

    /// Sends a waiting notification over a connection, and waits for the response.
    async fn deliver(&self, open: &Open, entry: &Entry) -> Result<ResponsePrimitive, Failure> {
        let Waits { ae, notification, .. } = &entry.waits;
        self.check(open, ae).await?;
        let asked = open.ask(&open.deliveries, request(ae, notification)?);
        tokio::time::timeout(self.timeout, asked).await.map_err(|_| Failure::Late)?
    }
}

/// Returns a notification as it is stored. One with a content that is not a text is not stored.
fn stored(
    (credential, cause): (&CredentialId, &CredentialId),
    ae: &str,
    notification: &Notification,
) -> Option<StoredNotification> {
    let registrant = match &notification.named_by {
        NamedBy::Ae { registrant, .. } => registrant.clone(),
        _ => None,
    };
    Some(StoredNotification {
        credential: credential.to_string(),
        cause: cause.to_string(),
        ae: ae.into(),
        registrant,
        about: notification.about.clone(),
        from: notification.from.clone(),
        request_id: notification.request_id.clone(),
        release: notification.release.clone(),
        category: notification.category,
        content: std::str::from_utf8(&notification.content).ok()?.into(),
        at: now(),
    })
}

fn restored(stored: StoredNotification) -> Notification {
    Notification {
        to: Destination::Connection(stored.ae.clone()),
        named_by: NamedBy::Ae { stem: stored.ae, registrant: stored.registrant },
        about: stored.about,
        from: stored.from,
        request_id: stored.request_id,
        release: stored.release,
        category: stored.category,
        receipt: Default::default(),
        content: stored.content.into(),
    }
}

fn request(ae: &str, notification: &Notification) -> Result<RequestPrimitive, Failure> {
    let bad = |e: String| Failure::NoResponse(e);
    let to = Target::from_address(ae).map_err(|e| bad(e.to_string()))?;
    let content = Content::parse(notification.content.clone()).map_err(|e| bad(e.to_string()))?;
    let (from, id) = (notification.from.clone(), notification.request_id.clone());
    Ok(RequestPrimitive {
        release: Some(notification.release.clone()),
        content: Some(content),
        parameters: notification.parameters(),
        ..RequestPrimitive::own(Operation::Notify, to, from, id)
    })
}

impl Open {
    fn new(active: Arc<ActiveAssociation>, carrier: Carrier) -> (Arc<Self>, RequestsToAe) {
        let (requests, asked) = request_queue(MAX_PENDING);
        let (deliveries, waiting) = request_queue(1);
        let open = Self {
            active,
            carrier,
            requests,
            deliveries,
            limiter: OnceLock::new(),
            pending: Mutex::default(),
            is_superseded: AtomicBool::new(false),
            changed: Notify::new(),
        };
        (Arc::new(open), RequestsToAe { asked, waiting })
    }

    fn limiter(&self) -> &Arc<FairLimiter<CredentialId>> {
        self.limiter.get_or_init(|| FairLimiter::new(MAX_PENDING, MAX_PENDING_PER_CAUSE))
    }

    fn supersede(&self) {
        self.is_superseded.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    fn stands_for(&self, ae: &str) -> bool {
        self.active.association.entity().stems().iter().any(|stem| stem.as_str() == ae)
    }

    /// Sends a request with an identifier of its own, which no other request has.
    async fn ask(
        &self,
        requests: &RequestSender,
        mut request: RequestPrimitive,
    ) -> Result<ResponsePrimitive, Failure> {
        let id = format!("{:016x}", rand::rng().random::<u64>());
        let asked = std::mem::replace(&mut request.request_id, id.clone());
        let (response, waits) = oneshot::channel();
        lock(&self.pending).insert(id.clone(), response);
        let _pending = Pending { open: self, id };
        requests.send(Box::new(request)).await.map_err(|_| not_connected())?;
        let response = waits.await.map_err(|_| not_connected())??;
        Ok(ResponsePrimitive { request_id: asked, ..response })
    }

    fn complete(&self, id: &str, response: Result<ResponsePrimitive, Failure>) -> bool {
        match lock(&self.pending).remove(id) {
            // The sender may have stopped waiting.
            Some(waits) => waits.send(response).is_ok(),
            None => false,
        }
    }
}

/// A request that is not answered yet, for as long as somebody waits for the response.
struct Pending<'a> {
    open: &'a Open,
    id: String,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        lock(&self.open.pending).remove(&self.id);
    }
}

impl Channel {
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
