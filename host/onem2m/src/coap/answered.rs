//! The answered messages of a peer, which may repeat them (RFC 7252 clause 4.5).

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Time for which the Message ID of a request is remembered (RFC 7252 clause 4.8.2).
pub const EXCHANGE_LIFETIME: Duration = Duration::from_secs(247);
/// Maximum number of remembered Message IDs. The oldest is forgotten first.
pub(super) const MAX_REMEMBERED: usize = 512;
/// Maximum size of the remembered answers, in bytes. A repetition of a message whose answer was
/// forgotten is dropped.
pub(super) const MAX_REMEMBERED_BYTES: usize = 16 << 10;

/// Answers by Message ID, for [`EXCHANGE_LIFETIME`].
#[derive(Debug, Default)]
pub(super) struct Answered {
    answers: HashMap<u16, Option<Bytes>>,
    /// Message IDs with the times of their answers, the oldest first.
    order: VecDeque<(Instant, u16)>,
    /// Number of the oldest messages whose answers were forgotten.
    without_answer: usize,
    bytes: usize,
}

impl Answered {
    /// Returns the answer to a message, `Some(None)` if it has none any more.
    pub fn get(&self, id: u16) -> Option<Option<&Bytes>> {
        self.answers.get(&id).map(Option::as_ref)
    }

    /// Remembers a message that was not remembered before.
    pub fn insert(&mut self, id: u16, answer: Option<Bytes>, now: Instant) {
        if self.order.len() >= MAX_REMEMBERED {
            self.drop_oldest();
        }
        self.bytes += answer.as_ref().map_or(0, Bytes::len);
        self.answers.insert(id, answer);
        self.order.push_back((now, id));
        while self.bytes > MAX_REMEMBERED_BYTES
            && let Some((_, id)) = self.order.get(self.without_answer)
        {
            let answer = self.answers.get_mut(id).and_then(Option::take);
            self.bytes -= answer.map_or(0, |answer| answer.len());
            self.without_answer += 1;
        }
    }

    /// Forgets messages after their lifetime.
    pub fn expire(&mut self, now: Instant) {
        while self.next_expiry().is_some_and(|at| at <= now) {
            self.drop_oldest();
        }
        if self.order.is_empty() && self.order.capacity() > 0 {
            *self = Self::default();
        }
    }

    /// Returns the time at which the oldest message is forgotten.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.order.front().map(|(at, _)| *at + EXCHANGE_LIFETIME)
    }

    fn drop_oldest(&mut self) {
        let Some((_, id)) = self.order.pop_front() else { return };
        self.without_answer = self.without_answer.saturating_sub(1);
        let answer = self.answers.remove(&id).flatten();
        self.bytes -= answer.map_or(0, |answer| answer.len());
    }

    /// Returns the number of messages, the size of their answers, and the capacity.
    #[cfg(test)]
    pub fn held(&self) -> (usize, usize, usize) {
        (self.order.len(), self.bytes, self.order.capacity())
    }
}
