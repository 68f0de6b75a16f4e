//! Limit on the requests of each client.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use saegis_onem2m::id::AbsoluteId;

/// Interval in which the requests of a client are counted.
const WINDOW: Duration = Duration::from_secs(3600);

/// Maximum number of clients whose requests are counted. More clients displace the one whose last
/// request is the oldest.
const MAX_CLIENTS: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// Counts of the requests of clients.
pub(crate) struct RateLimit {
    most: u32,
    counts: Mutex<LruCache<String, Count>>,
}

struct Count {
    since: Instant,
    requests: u32,
}

impl RateLimit {
    /// Creates a limit of `most` requests an hour.
    pub(crate) fn new(most: u32) -> Self {
        // Without a capacity, so that memory is allocated as clients come.
        Self { most, counts: Mutex::new(LruCache::unbounded()) }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// Returns the time until the client may send another one, if it has sent too many.
    pub(crate) fn count(&self, client: &AbsoluteId, now: Instant) -> Result<(), Duration> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count =
            counts.get_or_insert_mut(client.to_string(), || Count { since: now, requests: 0 });
        if now.saturating_duration_since(count.since) >= WINDOW {
            *count = Count { since: now, requests: 0 };
        }
        if count.requests >= self.most {
            return Err(WINDOW.saturating_sub(now.saturating_duration_since(count.since)));
        }
        count.requests += 1;
        while counts.len() > MAX_CLIENTS.get() {
            counts.pop_lru();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_limited_by_client_and_hour() {
        let [one, other] = ["//a/b/Cx", "//a/b/Cy"].map(|id| AbsoluteId::parse(id).unwrap());
        let limit = RateLimit::new(2);
        let begin = Instant::now();
        let at = |minutes: u64| begin + Duration::from_secs(60 * minutes);
        assert!(limit.count(&one, at(0)).is_ok());
        assert!(limit.count(&one, at(10)).is_ok());
        assert_eq!(limit.count(&one, at(20)), Err(Duration::from_secs(40 * 60)));
        assert!(limit.count(&other, at(20)).is_ok());
        assert!(limit.count(&one, at(60)).is_ok());
    }
}
