//! An open connection of an AE, with the requests that are not answered yet.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rand::RngExt as _;
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use tokio::sync::{Notify, oneshot};

use crate::notification::failure::Failure;
use crate::notification::fair_limiter::FairLimiter;
use crate::notification::request_queue::{RequestReceiver, RequestSender, request_queue};
use crate::session::registry::ActiveAssociation;

/// Maximum number of requests to one AE that are not answered yet: in total, and of those that one
/// credential causes. Waiting notifications do not count.
const MAX_PENDING: usize = 64;
const MAX_PENDING_PER_CAUSE: usize = 32;

/// The medium of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// A connection, whose end is noticed.
    Connection,
    /// Datagrams.
    Datagrams,
}

/// An open connection.
pub(super) struct Open {
    pub(super) active: Arc<ActiveAssociation>,
    pub(super) carrier: Carrier,
    pub(super) requests: RequestSender,
    /// The waiting notifications, one at a time.
    pub(super) deliveries: RequestSender,
    /// Requests that are not answered yet, by the credential that caused them.
    limiter: OnceLock<Arc<FairLimiter<CredentialId>>>,
    pub(super) pending: Mutex<HashMap<String, oneshot::Sender<Result<ResponsePrimitive, Failure>>>>,
    /// The same credential has opened another.
    pub(super) is_superseded: AtomicBool,
    /// Wakes the delivery: something waits for the AE, or the connection is superseded.
    pub(super) changed: Notify,
}

/// Requests to an AE, for whoever serves its connection.
pub struct RequestsToAe {
    /// Requests of others, and notifications that others wait for.
    pub asked: RequestReceiver,
    /// Notifications that have waited, one at a time.
    pub waiting: RequestReceiver,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn not_connected() -> Failure {
    Failure::NotConnected
}

impl Open {
    pub(super) fn new(
        active: Arc<ActiveAssociation>,
        carrier: Carrier,
    ) -> (Arc<Self>, RequestsToAe) {
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

    pub(super) fn limiter(&self) -> &Arc<FairLimiter<CredentialId>> {
        self.limiter.get_or_init(|| FairLimiter::new(MAX_PENDING, MAX_PENDING_PER_CAUSE))
    }

    pub(super) fn supersede(&self) {
        self.is_superseded.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    pub(super) fn stands_for(&self, ae: &str) -> bool {
        self.active.association.entity().stems().iter().any(|stem| stem.as_str() == ae)
    }

    /// Sends a request with an identifier of its own, which no other request has.
    pub(super) async fn ask(
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

    pub(super) fn complete(&self, id: &str, response: Result<ResponsePrimitive, Failure>) -> bool {
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
