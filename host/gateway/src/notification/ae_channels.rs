//! Connections that AEs have opened themselves and keep open, over which requests are sent to them
//! (WebSocket, TS-0020 clause 5.2). Nothing here knows a protocol.
//!
//! A notification for an AE whose connection is not open waits for it (TS-0020 clause 6.5), bounded in
//! number, size and time. It belongs to the credential that the AE had by then, so nobody who registers
//! under the same name later gets it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use saegis_cse::Notification;
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::{Content, Operation, RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::target::Target;
use saegis_policy::Policy;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use crate::session::ae_id_store::AeIdStore;
use crate::session::registry::{ActiveAssociation, Revalidation};

/// Maximum number of requests to one AE that are not answered yet.
const MAX_PENDING: usize = 32;

/// Maximum number of notifications that wait for one AE, and of their bytes.
const MAX_WAITING: usize = 100;
const MAX_WAITING_BYTES: usize = 256 << 10;

/// Maximum number of bytes that wait for all AEs.
const MAX_TOTAL_BYTES: usize = 16 << 20;

/// The open connections of AEs, and what waits for them.
pub struct AeChannels {
    policy: Arc<Policy>,
    ae_ids: AeIdStore,
    /// Timeout for the response of an AE.
    timeout: Duration,
    /// How long a notification waits.
    retention: Duration,
    open: Mutex<HashMap<CredentialId, Arc<Open>>>,
    waiting: Mutex<Waiting>,
}

/// An open connection.
struct Open {
    active: Arc<ActiveAssociation>,
    requests: mpsc::Sender<RequestPrimitive>,
    pending: Mutex<HashMap<String, oneshot::Sender<Result<ResponsePrimitive, Failure>>>>,
    /// Canceled when the same credential opens another.
    superseded: CancellationToken,
    /// Something waits for the AE.
    has_waiting: Notify,
}

/// An open connection, for whoever serves it. Dropped, it is not open any more.
pub struct Channel {
    all: Arc<AeChannels>,
    open: Arc<Open>,
}

/// Queues of notifications to AEs, by credential.
#[derive(Default)]
struct Waiting {
    queues: HashMap<CredentialId, VecDeque<Queued>>,
    bytes: usize,
    next: u64,
}

struct Queued {
    number: u64,
    since: Instant,
    ae: String,
    notification: Notification,
}

impl Waiting {
    fn put(&mut self, credential: &CredentialId, ae: &str, notification: Notification) -> bool {
        let size = notification.content.len();
        let queue = self.queues.entry(credential.clone()).or_default();
        let mut bytes: usize = queue.iter().map(|queued| queued.notification.content.len()).sum();
        // An AE that falls behind loses the oldest.
        while queue.len() >= MAX_WAITING || !queue.is_empty() && bytes + size > MAX_WAITING_BYTES {
            let oldest = queue.pop_front().map_or(0, |q| q.notification.content.len());
            bytes -= oldest;
            self.bytes -= oldest;
        }
        let has_room = size <= MAX_WAITING_BYTES && self.bytes + size <= MAX_TOTAL_BYTES;
        if has_room {
            self.next += 1;
            self.bytes += size;
            let (number, since, ae) = (self.next, Instant::now(), ae.into());
            queue.push_back(Queued { number, since, ae, notification });
        } else if queue.is_empty() {
            self.queues.remove(credential);
        }
        has_room
    }

    /// Removes what has waited for that long.
    fn expire(&mut self, retention: Duration) {
        let mut freed = 0;
        self.queues.retain(|_, queue| {
            while queue.front().is_some_and(|queued| queued.since.elapsed() >= retention) {
                freed += queue.pop_front().map_or(0, |queued| queued.notification.content.len());
            }
            !queue.is_empty()
        });
        self.bytes -= freed;
    }

    fn first(&self, credential: &CredentialId) -> Option<(u64, String, Notification)> {
        let queued = self.queues.get(credential)?.front()?;
        Some((queued.number, queued.ae.clone(), queued.notification.clone()))
    }

    /// Removes the first that waits for a credential, if it is that one still.
    fn remove(&mut self, credential: &CredentialId, number: u64) {
        let Some(queue) = self.queues.get_mut(credential) else { return };
        if queue.front().is_some_and(|queued| queued.number == number)
            && let Some(queued) = queue.pop_front()
        {
            self.bytes -= queued.notification.content.len();
        }
        if queue.is_empty() {
            self.queues.remove(credential);
        }
    }
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
    ) -> Arc<Self> {
        let (open, waiting) = (Mutex::default(), Mutex::default());
        Arc::new(Self { policy, ae_ids, timeout, retention, open, waiting })
    }

    /// Opens the connection of an association, over which requests are received from `requests`. An
    /// earlier one of the same credential is superseded.
    pub fn open(
        self: &Arc<Self>,
        active: Arc<ActiveAssociation>,
    ) -> (Channel, mpsc::Receiver<RequestPrimitive>) {
        let credential = active.association.credential_id.clone();
        let (requests, receiver) = mpsc::channel(MAX_PENDING);
        let open = Arc::new(Open {
            active,
            requests,
            pending: Mutex::default(),
            superseded: CancellationToken::new(),
            has_waiting: Notify::new(),
        });
        if let Some(before) = lock(&self.open).insert(credential, open.clone()) {
            before.superseded.cancel();
        }
        (Channel { all: self.clone(), open }, receiver)
    }

    /// Whether the connection of a credential is open.
    pub fn is_open(&self, credential: &CredentialId) -> bool {
        lock(&self.open).contains_key(credential)
    }

    /// Sends a notification to an AE over the open connection of its credential, and waits for the
    /// response.
    ///
    /// # Errors
    /// Returns the reason why there is none.
    pub async fn ask(
        &self,
        credential: &CredentialId,
        ae: &str,
        notification: &Notification,
    ) -> Result<ResponsePrimitive, Failure> {
        let open = lock(&self.open).get(credential).cloned().ok_or_else(not_connected)?;
        // The credential may have been revoked since the connection was opened.
        let holds = open.active.revalidate(&self.policy.current()).await == Revalidation::Valid;
        if !holds || open.active.has_lost_its_ae_id(&self.ae_ids) || !open.stands_for(ae) {
            return Err(not_connected());
        }
        let asked = open.ask(request(ae, notification)?);
        tokio::time::timeout(self.timeout, asked).await.map_err(|_| Failure::Late)?
    }

    /// Has a notification wait for an AE, or sent at once where its connection is open. Returns whether
    /// there is room for it.
    pub fn send(&self, credential: &CredentialId, ae: &str, notification: Notification) -> bool {
        let mut waiting = lock(&self.waiting);
        waiting.expire(self.retention);
        let is_taken = waiting.put(credential, ae, notification);
        drop(waiting);
        if let Some(open) = lock(&self.open).get(credential) {
            open.has_waiting.notify_one();
        }
        is_taken
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
        ..RequestPrimitive::own(Operation::Notify, to, from, id)
    })
}

impl Open {
    fn stands_for(&self, ae: &str) -> bool {
        self.active.association.entity().stems().iter().any(|stem| stem.as_str() == ae)
    }

    /// Sends a request with an identifier of its own, which no other request has.
    async fn ask(&self, mut request: RequestPrimitive) -> Result<ResponsePrimitive, Failure> {
        let id = format!("{:016x}", rand::rng().random::<u64>());
        let asked = std::mem::replace(&mut request.request_id, id.clone());
        let (response, waits) = oneshot::channel();
        {
            let mut pending = lock(&self.pending);
            if pending.len() >= MAX_PENDING {
                let why = "too many requests to the AE are not answered yet";
                return Err(Failure::NoAssociation(why.into()));
            }
            pending.insert(id.clone(), response);
        }
        let _pending = Pending { open: self, id };
        self.requests.send(request).await.map_err(|_| not_connected())?;
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

    /// Waits until the same credential has opened another connection.
    pub async fn superseded(&self) {
        self.open.superseded.cancelled().await;
    }

    /// Sends the queued notifications to the AE, one after the other. A notification without a
    /// response is sent again over the next connection.
    pub async fn deliver_waiting(&self) -> std::convert::Infallible {
        let credential = &self.open.active.association.credential_id;
        loop {
            let first = {
                let mut waiting = lock(&self.all.waiting);
                waiting.expire(self.all.retention);
                waiting.first(credential)
            };
            let Some((number, ae, notification)) = first else {
                self.open.has_waiting.notified().await;
                continue;
            };
            let asked = self.all.ask(credential, &ae, &notification).await;
            lock(&self.all.waiting).remove(credential, number);
            if let Err(why) = asked {
                tracing::warn!(
                    event = "notification.failed",
                    to = ae,
                    about = notification.about,
                    "cannot send a notification: {why}"
                );
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use saegis_cse::{Destination, NamedBy};

    use super::*;

    fn notification(content: &str) -> Notification {
        Notification {
            to: Destination::Connection("Ca".into()),
            named_by: NamedBy::Ae("Ca".into()),
            about: "/c/sub".into(),
            from: "/c".into(),
            request_id: "r".into(),
            release: "3".into(),
            content: Bytes::copy_from_slice(content.as_bytes()),
        }
    }

    fn credential(name: &str) -> CredentialId {
        CredentialId::parse(&format!("12-{name}@b.c")).unwrap()
    }

    #[test]
    fn notifications_wait_within_bounds() {
        let (a, b) = (credential("a"), credential("b"));
        let mut waiting = Waiting::default();
        for n in 0..MAX_WAITING + 5 {
            assert!(waiting.put(&a, "Ca", notification(&n.to_string())));
        }
        assert_eq!(waiting.queues[&a].len(), MAX_WAITING);
        let (number, _, first) = waiting.first(&a).unwrap();
        assert_eq!(first.content, "5");
        waiting.remove(&a, number);
        waiting.remove(&a, number);
        assert_eq!(waiting.queues[&a].len(), MAX_WAITING - 1);
        let large = "x".repeat(MAX_WAITING_BYTES);
        assert!(waiting.put(&a, "Ca", notification(&large)));
        assert_eq!(waiting.queues[&a].len(), 1);
        assert!(!waiting.put(&b, "Cb", notification(&format!("{large}x"))));
        assert!(waiting.first(&b).is_none());
        for n in 1..MAX_TOTAL_BYTES / MAX_WAITING_BYTES {
            assert!(waiting.put(&credential(&format!("c{n}")), "Cc", notification(&large)));
        }
        assert!(!waiting.put(&b, "Cb", notification("x")));
        waiting.expire(Duration::from_secs(3600));
        assert_eq!(waiting.bytes, MAX_TOTAL_BYTES);
        waiting.expire(Duration::ZERO);
        assert_eq!((waiting.bytes, waiting.queues.len()), (0, 0));
    }
}
