//! Memory of responses, and of requests to AEs, that their peers have not read yet.
//!
//! A peer does not have to read a response. An association may have small ones for free. A listing or
//! the response of a group is far larger, and a WebSocket has many at a time. Two limits apply to them:
//!
//! - A credential reserves memory for the largest response before a request that may need it, and
//!   releases the unused part afterwards. It only waits for its own earlier responses.
//! - All responses together stay below a limit. A large response that exceeds it evicts others: the
//!   oldest of the credential that holds the most memory, whose association ends. So slow readers
//!   cannot block others.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::{Operation, RequestPrimitive};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::config::MAX_RESPONSE;
use crate::session::registry::Ending;

/// Maximum size of the responses of one association that are not counted, in bytes.
const MAX_UNCOUNTED: usize = 128 << 10;

/// Unit of a permit, in bytes.
const UNIT: usize = 1 << 10;

/// Minimum number of credentials before those without associations are removed.
const MIN_SWEPT: usize = 64;

/// Memory for large responses.
pub struct ResponseMemory {
    held: Arc<Mutex<Held>>,
    shares: Arc<Shares>,
}

/// The shares of all credentials.
struct Shares {
    of_each: Mutex<Table>,
    /// Units of one credential.
    each: usize,
}

/// The shares of credentials that have reserved memory, and of some without associations.
struct Table {
    all: HashMap<CredentialId, Weak<Semaphore>>,
    /// Number of shares at which those without associations are removed. It doubles with the others, so
    /// that an association does not look at all.
    sweep_at: usize,
}

/// Large responses that have not been read.
struct Held {
    limit: usize,
    total: usize,
    next_id: u64,
    /// The oldest is first.
    answers: VecDeque<HeldAnswer>,
}

struct HeldAnswer {
    id: u64,
    credential: CredentialId,
    bytes: usize,
    evicted: Ending,
}

/// Share of one credential, for one of its associations.
pub struct Share {
    held: Arc<Mutex<Held>>,
    shares: Arc<Shares>,
    credential: CredentialId,
    /// Looked up with the first large response, because most associations have none.
    own: OnceLock<Arc<Semaphore>>,
    /// Bytes that are not counted.
    uncounted: Arc<AtomicUsize>,
}

/// Reserved memory for the largest response of a credential.
pub struct Reserved(OwnedSemaphorePermit);

/// Memory of one response, or of one request to an AE, until it is dropped.
pub enum Room {
    /// Within the bytes of the association that are not counted.
    Uncounted(Uncounted),
    /// Counted.
    Counted(Counted),
}

/// Bytes of an association that are not counted.
pub struct Uncounted {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

/// Counted memory.
pub struct Counted {
    held: Arc<Mutex<Held>>,
    id: u64,
    _own: Option<OwnedSemaphorePermit>,
}

/// The credential has not enough memory for the response.
#[derive(Debug)]
pub struct NoRoom;

impl ResponseMemory {
    /// Creates memory of `bytes`, of which each credential may use `of_each`.
    pub fn new(bytes: usize, of_each: usize) -> Self {
        let held = Held { limit: bytes, total: 0, next_id: 0, answers: VecDeque::new() };
        let table = Table { all: HashMap::new(), sweep_at: MIN_SWEPT };
        let shares = Shares { of_each: Mutex::new(table), each: of_each / UNIT };
        Self { held: Arc::new(Mutex::new(held)), shares: Arc::new(shares) }
    }

    /// Returns the share of a credential.
    pub fn share_of(&self, credential: &CredentialId) -> Share {
        Share {
            held: self.held.clone(),
            shares: self.shares.clone(),
            credential: credential.clone(),
            own: OnceLock::new(),
            uncounted: Arc::default(),
        }
    }
}

impl Shares {
    /// Returns the share that all associations of a credential have in common.
    fn of(&self, credential: &CredentialId) -> Arc<Semaphore> {
        let mut table = self.of_each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = table.all.get(credential).and_then(Weak::upgrade) {
            return own;
        }
        if table.all.len() >= table.sweep_at {
            table.all.retain(|_, own| own.strong_count() > 0);
            table.sweep_at = (2 * table.all.len()).max(MIN_SWEPT);
        }
        let own = Arc::new(Semaphore::new(self.each));
        table.all.insert(credential.clone(), Arc::downgrade(&own));
        own
    }
}

impl Share {
    fn own(&self) -> Arc<Semaphore> {
        self.own.get_or_init(|| self.shares.of(&self.credential)).clone()
    }

    /// Waits for memory for the largest response among those of this credential. Returns `None`
    /// after the timeout.
    pub async fn reserve(&self, limit: Duration) -> Option<Reserved> {
        let permit = self.own().acquire_many_owned(units(MAX_RESPONSE));
        Some(Reserved(timeout(limit, permit).await.ok()?.ok()?))
    }

    /// Holds memory for a response of that size. One that is counted, and for which nothing was
    /// reserved, waits for others of this credential. `evicted` is set when the response of
    /// another credential needs the memory more.
    ///
    /// # Errors
    /// Fails if the credential does not have enough memory within the time limit.
    pub async fn hold(
        &self,
        reserved: Option<Reserved>,
        bytes: usize,
        evicted: &Ending,
        limit: Duration,
    ) -> Result<Room, NoRoom> {
        if let Some(uncounted) = self.uncounted(bytes) {
            return Ok(Room::Uncounted(uncounted));
        }
        let own = match reserved {
            Some(Reserved(mut own)) => {
                let surplus = own.num_permits().saturating_sub(units(bytes) as usize);
                drop(own.split(surplus));
                own
            }
            None => {
                let permit = self.own().acquire_many_owned(units(bytes));
                // Boxed, because most responses are not counted.
                let permit = Box::pin(timeout(limit, permit)).await;
                permit.map_err(|_| NoRoom)?.map_err(|_| NoRoom)?
            }
        };
        Ok(self.counted(bytes, evicted, Some(own)))
    }

    /// Holds memory for a request to the AE of this association, which others have caused. So it does
    /// not count for the share of the credential.
    pub fn hold_request(&self, bytes: usize, evicted: &Ending) -> Room {
        match self.uncounted(bytes) {
            Some(uncounted) => Room::Uncounted(uncounted),
            None => self.counted(bytes, evicted, None),
        }
    }

    fn uncounted(&self, bytes: usize) -> Option<Uncounted> {
        let add = |all: usize| all.checked_add(bytes).filter(|all| *all <= MAX_UNCOUNTED);
        self.uncounted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Uncounted { all: self.uncounted.clone(), bytes })
    }

    fn counted(&self, bytes: usize, evicted: &Ending, own: Option<OwnedSemaphorePermit>) -> Room {
        let id = lock(&self.held).hold(&self.credential, bytes, evicted);
        Room::Counted(Counted { held: self.held.clone(), id, _own: own })
    }
}

impl Held {
    fn hold(&mut self, credential: &CredentialId, bytes: usize, evicted: &Ending) -> u64 {
        while self.total.saturating_add(bytes) > self.limit && self.evict_one() {}
        let id = self.next_id;
        self.next_id += 1;
        self.total += bytes;
        let (credential, evicted) = (credential.clone(), evicted.clone());
        self.answers.push_back(HeldAnswer { id, credential, bytes, evicted });
        id
    }

    /// Evicts the oldest response of the credential that holds the most memory. Returns whether
    /// there was one.
    fn evict_one(&mut self) -> bool {
        let mut of_each = HashMap::<_, usize>::new();
        for answer in &self.answers {
            *of_each.entry(&answer.credential).or_default() += answer.bytes;
        }
        let most = of_each.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(who, _)| who.clone());
        let at = most.and_then(|most| self.answers.iter().position(|a| a.credential == most));
        let Some(answer) = at.and_then(|at| self.answers.remove(at)) else { return false };
        self.total -= answer.bytes;
        // The first reason counts.
        let _ = answer.evicted.set("answer not read");
        true
    }

    fn release(&mut self, id: u64) {
        if let Some(at) = self.answers.iter().position(|answer| answer.id == id)
            && let Some(answer) = self.answers.remove(at)
        {
            self.total -= answer.bytes;
        }
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Uncounted {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        lock(&self.held).release(self.id);
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// Returns whether the response may be larger than a request: a listing, or the responses of the
/// members of a group. Another large response is held as well, if there is enough memory.
pub fn may_be_large(request: &RequestPrimitive) -> bool {
    let is = |name: &str, values: &[u64]| {
        let number = |v: &&str| v.trim().parse::<u64>().is_ok_and(|v| values.contains(&v));
        request.option(name).is_some_and(|all| all.iter().any(|v| number(&&**v)))
    };
    let lists = is("fu", &[1]) || is("rcn", &[4, 5, 6, 8]);
    let reads = matches!(request.operation, Operation::Retrieve | Operation::Delete);
    reads && lists || request.to.resource.split('/').any(|segment| segment == "fopt")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn credential(name: &str) -> CredentialId {
        CredentialId::parse(&format!("12-{name}@b.c")).unwrap()
    }

    async fn hold(share: &Share, bytes: usize, token: &Ending) -> Result<Room, NoRoom> {
        share.hold(None, bytes, token, NOW).await
    }

    #[tokio::test]
    async fn credential_waits_for_its_own_responses() {
        let answers = ResponseMemory::new(10 * MAX_RESPONSE, 2 * MAX_RESPONSE);
        let (a, b) = (answers.share_of(&credential("a")), answers.share_of(&credential("b")));
        let again = answers.share_of(&credential("a"));
        let token = Ending::default();
        let first = a.reserve(NOW).await.unwrap();
        let _second = again.reserve(NOW).await.unwrap();
        assert!(a.reserve(NOW).await.is_none(), "the credential has no more");
        assert!(hold(&a, MAX_UNCOUNTED + 1, &token).await.is_err());
        b.reserve(NOW).await.unwrap();
        let first = a.hold(Some(first), MAX_RESPONSE / 2, &token, NOW).await.unwrap();
        assert!(a.reserve(NOW).await.is_none(), "half of one is left");
        drop(hold(&a, MAX_RESPONSE / 4, &token).await.unwrap());
        drop(first);
        a.reserve(NOW).await.unwrap();
        assert_eq!(lock(&answers.held).total, 0);
        drop((b, again));
        for n in 0..=MIN_SWEPT {
            answers.share_of(&credential(&n.to_string())).reserve(NOW).await.unwrap();
        }
        let known = answers.shares.of_each.lock().unwrap().all.len();
        assert!(known < MIN_SWEPT / 2, "entries of ended credentials are removed: {known}");
    }

    #[tokio::test]
    async fn many_small_responses_of_association_are_counted() {
        let answers = ResponseMemory::new(2 * MAX_RESPONSE, 2 * MAX_RESPONSE);
        let a = answers.share_of(&credential("a"));
        let token = Ending::default();
        let small = hold(&a, MAX_UNCOUNTED, &token).await.unwrap();
        assert_eq!(lock(&answers.held).total, 0);
        let next = hold(&a, 1000, &token).await.unwrap();
        assert_eq!(lock(&answers.held).total, 1000);
        let request = a.hold_request(2000, &token);
        assert_eq!(lock(&answers.held).total, 3000);
        // Each association of a credential has its own.
        let again = answers.share_of(&credential("a"));
        let other = hold(&again, 1000, &token).await.unwrap();
        assert_eq!(lock(&answers.held).total, 3000);
        drop((small, next, request, other));
        assert_eq!(lock(&answers.held).total, 0);
        assert_eq!(a.uncounted.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn credential_with_most_memory_is_displaced() {
        let answers = ResponseMemory::new(2 * MAX_RESPONSE, 2 * MAX_RESPONSE);
        let (a, b) = (answers.share_of(&credential("a")), answers.share_of(&credential("b")));
        let tokens: [Ending; 4] = std::array::from_fn(|_| Ending::default());
        let _b = hold(&b, MAX_RESPONSE / 2, &tokens[0]).await.unwrap();
        let oldest = hold(&a, MAX_RESPONSE / 2, &tokens[1]).await.unwrap();
        let _next = hold(&a, MAX_RESPONSE, &tokens[2]).await.unwrap();
        let evicted = || tokens.each_ref().map(|token| token.initialized());
        assert_eq!(evicted(), [false; 4]);
        let _more = hold(&b, MAX_RESPONSE / 2, &tokens[3]).await.unwrap();
        assert_eq!(evicted(), [false, true, false, false]);
        // An evicted response is subtracted once.
        drop(oldest);
        assert_eq!(lock(&answers.held).total, 2 * MAX_RESPONSE);
    }

    #[test]
    fn listing_is_recognized_in_each_spelling() {
        let request = |query: &str| {
            let uri = format!("/cse/log?{query}").parse().unwrap();
            let mut headers = http::HeaderMap::new();
            for (name, value) in [("host", "b"), ("x-m2m-ri", "1"), ("x-m2m-rvi", "3")] {
                headers.insert(name, value.parse().unwrap());
            }
            saegis_onem2m::http::read_request(&http::Method::GET, &uri, &headers, Bytes::new())
        };
        for query in ["rcn=4", "rcn=04", "rcn=%2B4", "fu=1", "fu=01", "rcn=8"] {
            assert!(request(query).is_ok_and(|r| may_be_large(&r)), "{query}");
        }
        for query in ["rcn=1", "rcn=0", "fu=2", "lim=4"] {
            assert!(request(query).is_ok_and(|r| !may_be_large(&r)), "{query}");
        }
    }
}
