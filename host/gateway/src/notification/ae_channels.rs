//! Connections that AEs have opened themselves and keep open, over which requests are sent to them
//! (WebSocket, TS-0020 clause 5.2; MQTT; the association of CoAP). Nothing here knows a protocol.
//!
//! A notification for an AE whose connection is not open waits for it (TS-0020 clause 6.5), bounded in
//! number, size and time. It belongs to the credential that the AE had by then, so nobody who registers
//! under the same name later gets it.
//!
//! Waiting notifications have a place of their own among the requests to the AE. The other places are
//! shared between the credentials that cause requests to the AE.

pub mod channel;
mod connection;
mod stored_form;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use saegis_cse::{Destination, Notification};
use saegis_onem2m::id::{AeIdStem, CredentialId};
use saegis_onem2m::primitive::{Content, Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::target::Target;
use saegis_policy::Policy;
use tokio::time::Instant;

pub use self::connection::RequestsToAe;
use self::connection::{Carrier, Open, lock, not_connected};
use self::stored_form::{restored, stored};
use super::failure::Failure;
use super::waiting::{Entry, Waiting, Waits};
use crate::session::ae_id_store::AeIdStore;
use crate::session::durable_sessions::{Durable, DurableSessions, StoredNotification, now};
use crate::session::registry::Revalidation;

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
