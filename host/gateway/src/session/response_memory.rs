//! Memory of large responses that their peers have not read yet.
//!
//! An association has one response at a time, usually of the size of a request. A listing or the
//! response of a group is far larger, and a peer does not have to read it. Two limits apply:
//!
//! - A credential reserves memory for the largest response before a request that may need it, and
//!   releases the unused part afterwards. It only waits for its own earlier responses.
//! - All responses together stay below a limit. A large response that exceeds it evicts others: the
//!   oldest of the credential that holds the most memory, whose association ends. So slow readers
//!   cannot block others.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::{Operation, RequestPrimitive};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::MAX_RESPONSE;

/// Maximum size of a response that is not counted, in bytes.
const MAX_UNCOUNTED: usize = 128 << 10;

/// Unit of a permit, in bytes.
const UNIT: usize = 1 << 10;

/// Memory for large responses.
pub struct ResponseMemory {
    held: Arc<Mutex<Held>>,
    of_each: Mutex<HashMap<CredentialId, Weak<Semaphore>>>,
    each: usize,
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
    evicted: CancellationToken,
}

/// Share of one credential.
pub struct Share {
    held: Arc<Mutex<Held>>,
    credential: CredentialId,
    own: Arc<Semaphore>,
}

/// Reserved memory for the largest response of a credential.
pub struct Reserved(OwnedSemaphorePermit);

/// Memory of one response, until it is dropped.
pub struct Room {
    held: Arc<Mutex<Held>>,
    id: u64,
    _own: OwnedSemaphorePermit,
}

/// The credential has not enough memory for the response.
#[derive(Debug)]
pub struct NoRoom;

impl ResponseMemory {
    /// Creates memory of `bytes`, of which each credential may use `of_each`.
    pub fn new(bytes: usize, of_each: usize) -> Self {
        let held = Held { limit: bytes, total: 0, next_id: 0, answers: VecDeque::new() };
        let held = Arc::new(Mutex::new(held));
        Self { held, of_each: Mutex::default(), each: of_each / UNIT }
    }

    /// Returns the share of a credential.
    pub fn share_of(&self, credential: &CredentialId) -> Share {
        let mut of_each = self.of_each.lock().unwrap_or_else(PoisonError::into_inner);
        let known = of_each.get(credential).and_then(Weak::upgrade);
        let own = known.unwrap_or_else(|| {
            of_each.retain(|_, own| own.strong_count() > 0);
            let own = Arc::new(Semaphore::new(self.each));
            of_each.insert(credential.clone(), Arc::downgrade(&own));
            own
        });
        Share { held: self.held.clone(), credential: credential.clone(), own }
    }
}

impl Share {
    /// Waits for memory for the largest response among those of this credential. Returns `None`
    /// after the timeout.
    pub async fn reserve(&self, limit: Duration) -> Option<Reserved> {
        let permit = self.own.clone().acquire_many_owned(units(MAX_RESPONSE));
        Some(Reserved(timeout(limit, permit).await.ok()?.ok()?))
    }

    /// Holds memory for a response of that size; a small one needs none. `evicted` is canceled when
    /// the response of another credential needs the memory more.
    ///
    /// # Errors
    /// Fails if nothing was reserved for a large response, and the credential has not enough memory
    /// left.
    pub fn hold(
        &self,
        reserved: Option<Reserved>,
        bytes: usize,
        evicted: &CancellationToken,
    ) -> Result<Option<Room>, NoRoom> {
        if bytes <= MAX_UNCOUNTED {
            return Ok(None);
        }
        let own = match reserved {
            Some(Reserved(mut own)) => {
                let surplus = own.num_permits().saturating_sub(units(bytes) as usize);
                drop(own.split(surplus));
                own
            }
            None => self.own.clone().try_acquire_many_owned(units(bytes)).map_err(|_| NoRoom)?,
        };
        let id = lock(&self.held).hold(&self.credential, bytes, evicted);
        Ok(Some(Room { held: self.held.clone(), id, _own: own }))
    }
}

impl Held {
    fn hold(
        &mut self,
        credential: &CredentialId,
        bytes: usize,
        evicted: &CancellationToken,
    ) -> u64 {
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
        answer.evicted.cancel();
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

impl Drop for Room {
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

    #[tokio::test]
    async fn credential_waits_for_its_own_responses() {
        let answers = ResponseMemory::new(10 * MAX_RESPONSE, 2 * MAX_RESPONSE);
        let (a, b) = (answers.share_of(&credential("a")), answers.share_of(&credential("b")));
        let again = answers.share_of(&credential("a"));
        let token = CancellationToken::new();
        let first = a.reserve(NOW).await.unwrap();
        let _second = again.reserve(NOW).await.unwrap();
        assert!(a.reserve(NOW).await.is_none(), "the credential has no more");
        assert!(a.hold(None, MAX_UNCOUNTED + 1, &token).is_err());
        assert!(
            a.hold(None, MAX_UNCOUNTED, &token).unwrap().is_none(),
            "small answers need no room"
        );
        b.reserve(NOW).await.unwrap();
        let first = a.hold(Some(first), MAX_RESPONSE / 2, &token).unwrap().unwrap();
        assert!(a.reserve(NOW).await.is_none(), "half of one is left");
        drop(a.hold(None, MAX_RESPONSE / 4, &token).unwrap().unwrap());
        drop(first);
        a.reserve(NOW).await.unwrap();
        assert_eq!(lock(&answers.held).total, 0);
        drop((b, again));
        answers.share_of(&credential("c"));
        let known = answers.of_each.lock().unwrap().len();
        assert_eq!(known, 2, "the entry of an ended credential is removed with the next one");
    }

    #[test]
    fn credential_with_most_memory_is_displaced() {
        let answers = ResponseMemory::new(2 * MAX_RESPONSE, 2 * MAX_RESPONSE);
        let (a, b) = (answers.share_of(&credential("a")), answers.share_of(&credential("b")));
        let tokens: [CancellationToken; 4] = std::array::from_fn(|_| CancellationToken::new());
        let hold = |share: &Share, bytes, n: usize| share.hold(None, bytes, &tokens[n]).unwrap();
        let _b = hold(&b, MAX_RESPONSE / 2, 0);
        let oldest = hold(&a, MAX_RESPONSE / 2, 1);
        let _next = hold(&a, MAX_RESPONSE, 2);
        let evicted = || tokens.each_ref().map(CancellationToken::is_cancelled);
        assert_eq!(evicted(), [false; 4]);
        let _more = hold(&b, MAX_RESPONSE / 2, 3);
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
