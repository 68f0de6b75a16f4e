//! The memory that large answers take until their peers have read them.
//!
//! An association has one answer at a time, mostly of the size of a request. A listing or the answer of a
//! group is far larger, and a peer need not read it. So room for the largest is reserved before one is made,
//! of what all have and of what the credential has, and what it does not take is given back at once.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::{Operation, RequestPrimitive};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::service::Service;

/// Size of the largest answer of the embedded registrar, in bytes: what it nests, and the target.
pub const LARGEST: usize = (4 << 20) + (256 << 10);

/// What permits count, in bytes.
const UNIT: usize = 1 << 10;

/// Most of an answer that is handed to hyper, which copies it, at a time.
const PART: usize = 64 << 10;

/// The room for large answers.
pub struct Answers {
    all: Arc<Semaphore>,
    of_each: Mutex<HashMap<CredentialId, Weak<Semaphore>>>,
    each: usize,
}

/// The room that one credential has.
pub struct Share {
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

/// Room for one answer, until it is dropped.
pub struct Room {
    all: OwnedSemaphorePermit,
    own: OwnedSemaphorePermit,
}

impl Answers {
    /// Room for so many bytes, of which a credential has so many at most.
    pub fn new(bytes: usize, of_each: usize) -> Self {
        let all = Arc::new(Semaphore::new(bytes / UNIT));
        Self { all, of_each: Mutex::default(), each: of_each / UNIT }
    }

    /// The share of a credential.
    pub fn share_of(&self, credential: &CredentialId) -> Share {
        let mut of_each = self.of_each.lock().unwrap_or_else(PoisonError::into_inner);
        let known = of_each.get(credential).and_then(Weak::upgrade);
        let own = known.unwrap_or_else(|| {
            of_each.retain(|_, own| own.strong_count() > 0);
            let own = Arc::new(Semaphore::new(self.each));
            of_each.insert(credential.clone(), Arc::downgrade(&own));
            own
        });
        Share { all: self.all.clone(), own }
    }
}

impl Share {
    /// Waits for room for the largest answer; none, where it does not come within that time.
    pub async fn reserve(&self, patience: Duration) -> Option<Room> {
        let units = units(LARGEST);
        let room = async {
            let own = self.own.clone().acquire_many_owned(units).await.ok()?;
            let all = self.all.clone().acquire_many_owned(units).await.ok()?;
            Some(Room { all, own })
        };
        timeout(patience, room).await.ok()?
    }
}

impl Room {
    /// Gives back what an answer of that size does not take.
    pub fn fit(&mut self, bytes: usize) {
        for permit in [&mut self.all, &mut self.own] {
            let surplus = permit.num_permits().saturating_sub(units(bytes) as usize);
            drop(permit.split(surplus));
        }
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// Whether the answer to a request may be larger than a request may be: a listing, or the answers of a
/// group's members.
pub fn may_be_large(request: &RequestPrimitive) -> bool {
    let is = |name: &str, values: &[&str]| {
        request.query(name).is_some_and(|all| all.iter().any(|v| values.contains(&v.trim())))
    };
    let lists = is("fu", &["1"]) || is("rcn", &["4", "5", "6", "8"]);
    let reads = matches!(request.operation, Operation::Retrieve | Operation::Delete);
    reads && lists || request.to.resource.split('/').any(|segment| segment == "fopt")
}

/// The content of an answer, part by part, with its room.
pub struct Answer {
    content: Bytes,
    service: Arc<Service>,
    _room: Option<Room>,
}

impl Answer {
    /// An answer of that service.
    pub fn new(content: Bytes, service: Arc<Service>, room: Option<Room>) -> Self {
        Self { content, service, _room: room }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let length = self.content.len().min(PART);
        let part = (length > 0).then(|| Ok(Frame::data(self.content.split_to(length))));
        Poll::Ready(part)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.content.len() as u64)
    }
}

/// hyper has all of it.
impl Drop for Answer {
    fn drop(&mut self) {
        self.service.has_answered();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[tokio::test]
    async fn large_answers_share_what_there_is() {
        let answers = Answers::new(3 * LARGEST, 2 * LARGEST);
        let credential = |name: &str| CredentialId::parse(&format!("12-{name}@b.c")).unwrap();
        let (a, b) = (answers.share_of(&credential("a")), answers.share_of(&credential("b")));
        let again = answers.share_of(&credential("a"));
        let mut first = a.reserve(NOW).await.unwrap();
        let _second = again.reserve(NOW).await.unwrap();
        assert!(a.reserve(NOW).await.is_none(), "the credential has no more");
        let third = b.reserve(NOW).await.unwrap();
        assert!(b.reserve(NOW).await.is_none(), "there is no more");
        drop(third);
        first.fit(10);
        assert_eq!(first.own.num_permits(), 1);
        assert!(a.reserve(NOW).await.is_none(), "a little less than one is left");
        drop(first);
        a.reserve(NOW).await.unwrap();
        drop((b, again));
        answers.share_of(&credential("c"));
        let known = answers.of_each.lock().unwrap().len();
        assert_eq!(known, 2, "who has gone is forgotten when another comes");
    }
}
