//! Work slots of the embedded CSE, shared fairly between credentials.
//!
//! Each credential has a limit of concurrent requests; its further requests wait. An active request
//! waits for a slot for each slice of work, and credentials get slots in turn. A request to a large
//! group releases its slot between the members.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use saegis_onem2m::id::CredentialId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Number of active requests of each credential.
#[derive(Debug)]
pub struct ActiveRequests {
    of: Mutex<HashMap<CredentialId, Arc<Semaphore>>>,
    each: usize,
}

/// An active request, until it is dropped.
#[derive(Debug)]
pub struct ActiveRequest {
    all: Arc<ActiveRequests>,
    credential: CredentialId,
    own: Option<Arc<Semaphore>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl ActiveRequests {
    /// Creates a limit of `each` requests per credential.
    pub fn new(each: usize) -> Arc<Self> {
        Arc::new(Self { of: Mutex::default(), each })
    }

    fn of(&self) -> MutexGuard<'_, HashMap<CredentialId, Arc<Semaphore>>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a credential may have one more request.
    pub async fn admit(self: &Arc<Self>, credential: &CredentialId) -> ActiveRequest {
        let own = self
            .of()
            .entry(credential.clone())
            .or_insert_with(|| Arc::new(Semaphore::new(self.each)))
            .clone();
        // Created before the wait, so that the entry of a credential is removed with its last
        // waiting request.
        let mut active = ActiveRequest {
            all: self.clone(),
            credential: credential.clone(),
            own: Some(own.clone()),
            permit: None,
        };
        // The semaphore is never closed.
        active.permit = own.acquire_owned().await.ok();
        active
    }
}

impl ActiveRequest {
    /// Counts as active for some more time.
    pub fn release_after(self, delay: Duration) {
        if !delay.is_zero() {
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                drop(self);
            });
        }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.permit = None;
        let mut of = self.all.of();
        self.own = None;
        if of.get(&self.credential).is_some_and(|own| Arc::strong_count(own) == 1) {
            of.remove(&self.credential);
        }
    }
}

/// A number of slots, which credentials get in turn.
#[derive(Debug)]
pub struct FairSlots {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    waiting: HashMap<CredentialId, VecDeque<oneshot::Sender<Slot>>>,
    /// Waiting credentials; the next one is first.
    order: VecDeque<CredentialId>,
}

/// A slot, until it is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Option<Arc<FairSlots>>,
}

impl FairSlots {
    /// Creates so many slots.
    pub fn new(slots: usize) -> Arc<Self> {
        let state = State { free: slots, waiting: HashMap::new(), order: VecDeque::new() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a slot.
    pub async fn take(self: &Arc<Self>, credential: &CredentialId) -> Slot {
        let slot = || Slot { slots: Some(self.clone()) };
        let given = {
            let mut state = self.state();
            // If a slot is free, no request is waiting.
            if state.free > 0 {
                state.free -= 1;
                return slot();
            }
            let (give, given) = oneshot::channel();
            let own = state.waiting.entry(credential.clone()).or_default();
            own.push_back(give);
            if own.len() == 1 {
                state.order.push_back(credential.clone());
            }
            given
        };
        match given.await {
            Ok(slot) => slot,
            // Slots are never removed, so this does not happen. If it did, the request would still
            // not wait forever.
            Err(_) => Slot { slots: None },
        }
    }

    /// Passes a slot to the next waiting request.
    fn pass_on(self: Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state();
                let Some(next) = state.next() else {
                    state.free += 1;
                    return;
                };
                next
            };
            match next.send(Slot { slots: Some(self.clone()) }) {
                Ok(()) => return,
                // The request is no longer waiting.
                Err(mut slot) => slot.slots = None,
            }
        }
    }
}

impl State {
    fn next(&mut self) -> Option<oneshot::Sender<Slot>> {
        let credential = self.order.pop_front()?;
        let own = self.waiting.get_mut(&credential)?;
        let next = own.pop_front();
        if own.is_empty() {
            self.waiting.remove(&credential);
        } else {
            self.order.push_back(credential);
        }
        next
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(slots) = self.slots.take() {
            slots.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(name: &str) -> CredentialId {
        CredentialId::parse(&format!("12-{name}@in.provider.com")).unwrap()
    }

    async fn settled() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn credentials_have_their_turns() {
        let slots = FairSlots::new(1);
        let order = Arc::new(Mutex::new(Vec::new()));
        let first = slots.take(&credential("evil")).await;
        let mut all = Vec::new();
        for (n, who) in ["evil", "evil", "evil", "lamp", "meter", "lamp"].into_iter().enumerate() {
            let (slots, order) = (slots.clone(), order.clone());
            all.push(tokio::spawn(async move {
                let _slot = slots.take(&credential(who)).await;
                order.lock().unwrap().push((n, who));
            }));
            settled().await;
        }
        drop(first);
        for one in all {
            one.await.unwrap();
        }
        let order: Vec<_> = order.lock().unwrap().iter().map(|(n, _)| *n).collect();
        assert_eq!(order, [0, 3, 4, 1, 5, 2]);
        let state = slots.state();
        assert!(state.free == 1 && state.waiting.is_empty() && state.order.is_empty());
    }

    #[tokio::test]
    async fn permit_is_not_lost_with_canceled_waiter() {
        let slots = FairSlots::new(1);
        let slot = slots.take(&credential("a")).await;
        for _ in 0..3 {
            let waits = tokio::spawn({
                let slots = slots.clone();
                async move { drop(slots.take(&credential("b")).await) }
            });
            settled().await;
            waits.abort();
            let _ = waits.await;
        }
        drop(slot);
        let other = credential("c");
        let again = tokio::time::timeout(Duration::from_secs(60), slots.take(&other));
        let slot = again.await.unwrap();
        drop(slot);
        assert_eq!(slots.state().free, 1);
    }

    #[tokio::test]
    async fn request_is_released_after_delay() {
        let (requests, own) = (ActiveRequests::new(1), credential("a"));
        requests.admit(&own).await.release_after(Duration::ZERO);
        assert!(requests.of().is_empty());
        requests.admit(&own).await.release_after(Duration::from_millis(1));
        assert_eq!(requests.of().len(), 1);
        drop(requests.admit(&own).await);
        assert!(requests.of().is_empty());
    }

    #[tokio::test]
    async fn pending_requests_per_credential_are_limited() {
        let active_requests = ActiveRequests::new(2);
        let (evil, lamp) = (credential("evil"), credential("lamp"));
        let first = active_requests.admit(&evil).await;
        let second = active_requests.admit(&evil).await;
        let third = tokio::spawn({
            let (active_requests, evil) = (active_requests.clone(), evil.clone());
            async move { active_requests.admit(&evil).await }
        });
        settled().await;
        assert!(!third.is_finished());
        drop(active_requests.admit(&lamp).await);
        assert_eq!(active_requests.of().len(), 1);
        drop(first);
        drop(third.await.unwrap());
        drop(second);
        assert!(active_requests.of().is_empty());
    }
}
