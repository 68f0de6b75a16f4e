//! The last requests, with the time of each step, for the operator. Without the web page, nothing is
//! collected.
//!
//! A request is recorded only if there is budget for it in its second, and the records of an association
//! replace its own older ones first. So a busy device does not hide a quiet one.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use lru::LruCache;
use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::primitive::RequestPrimitive;
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::timestamp;

use crate::admin::protocol::{RequestEntry, RequestStep};

/// Maximum number of recorded requests in a second.
const MAX_PER_SECOND: u64 = 500;
/// Maximum number of associations with recorded requests, and of requests of each. Refused requests are
/// counted separately.
const MAX_ASSOCIATIONS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(99);
const MAX_PER_ASSOCIATION: usize = 5;
/// Maximum length of a text in characters.
const MAX_TEXT: usize = 128;

static IS_ON: AtomicBool = AtomicBool::new(false);
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
/// The current second since the start, and the number of requests that began in it.
static BUDGET: Mutex<(u64, u64)> = Mutex::new((0, 0));
static NEXT: AtomicU64 = AtomicU64::new(1);
static RECORDED: Mutex<Option<Recorded>> = Mutex::new(None);

struct Recorded {
    successful: LruCache<u64, VecDeque<RequestEntry>>,
    refused: LruCache<u64, VecDeque<RequestEntry>>,
}

/// Starts to record requests.
pub fn collect() {
    recorded().get_or_insert_with(|| Recorded {
        successful: LruCache::new(MAX_ASSOCIATIONS),
        refused: LruCache::new(MAX_ASSOCIATIONS),
    });
    IS_ON.store(true, Ordering::Relaxed);
}

/// Returns the recorded requests, the last one first. Returns `None` if requests are not recorded.
pub fn entries() -> Option<Vec<RequestEntry>> {
    let recorded = recorded();
    let Recorded { successful, refused } = recorded.as_ref()?;
    let all = successful.iter().chain(refused.iter()).flat_map(|(_, of)| of);
    let mut entries: Vec<_> = all.cloned().collect();
    drop(recorded);
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.number));
    Some(entries)
}

fn recorded() -> MutexGuard<'static, Option<Recorded>> {
    RECORDED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The path of a request through the gateway, while it is handled.
pub struct RequestPath {
    started: Instant,
    /// The entry and the end of its last step; `None` after the end.
    state: Mutex<Option<(RequestEntry, Instant)>>,
}

impl RequestPath {
    /// Starts the path of a request. Returns `None` if it is not recorded.
    pub fn start(
        association: &SecurityAssociation,
        request: &RequestPrimitive,
    ) -> Option<Arc<Self>> {
        if !IS_ON.load(Ordering::Relaxed) || !take_budget() {
            return None;
        }
        let started = Instant::now();
        let entry = RequestEntry {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            at: timestamp::format(SystemTime::now()),
            association: association.id,
            entity: association.entity().to_string(),
            credential_id: association.credential_id.to_string(),
            peer: association.peer.to_string(),
            operation: request.operation.name().into(),
            to: cut(&request.to.to_string()),
            from: request.from.as_deref().map(cut),
            request_id: cut(&request.request_id),
            rsc: 0,
            total_us: 0,
            steps: Vec::new(),
        };
        Some(Arc::new(Self { started, state: Mutex::new(Some((entry, started))) }))
    }

    fn state(&self) -> MutexGuard<'_, Option<(RequestEntry, Instant)>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a step. `refusal` is the reason if it refused the request.
    pub fn step(&self, name: &str, refusal: Option<&str>) {
        let now = Instant::now();
        if let Some((entry, last)) = self.state().as_mut() {
            let us = microseconds(now.duration_since(std::mem::replace(last, now)));
            let (name, why) = (name.into(), refusal.map(cut));
            entry.steps.push(RequestStep { name, us, why });
        }
    }

    /// Ends the path with a response.
    pub fn end(&self, rsc: Rsc) {
        self.step("response", None);
        let Some((mut entry, _)) = self.state().take() else { return };
        (entry.rsc, entry.total_us) = (rsc.code(), microseconds(self.started.elapsed()));
        let mut recorded = recorded();
        let Some(Recorded { successful, refused }) = recorded.as_mut() else { return };
        let to = if entry.is_refused() { refused } else { successful };
        let of = to.get_or_insert_mut(entry.association, VecDeque::new);
        of.truncate(MAX_PER_ASSOCIATION - 1);
        of.push_front(entry);
    }
}

/// Returns whether another request may be recorded in this second.
fn take_budget() -> bool {
    let second = START.elapsed().as_secs();
    // A request does not wait for another one.
    let Ok(mut budget) = BUDGET.try_lock() else { return false };
    if budget.0 != second {
        *budget = (second, 0);
    }
    budget.1 += 1;
    budget.1 <= MAX_PER_SECOND
}

fn microseconds(of: Duration) -> u64 {
    u64::try_from(of.as_micros()).unwrap_or(u64::MAX)
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.into(),
    }
}
