//! Requests that were put into polling channels, and whose responses are awaited (TS-0004 clause
//! 7.4.22). An AE sends the response in a notification to its channel.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use saegis_onem2m::rsc::Rsc;

/// A request: the resource-ID of its polling channel, and its identifier.
type RequestKey = (String, String);

/// The requests without a response.
#[derive(Debug, Default)]
pub(crate) struct ChannelRequests(Mutex<HashMap<RequestKey, Awaited>>);

#[derive(Debug, Default)]
struct Awaited {
    response: Option<Rsc>,
    waker: Option<Waker>,
}

impl ChannelRequests {
    fn lock(&self) -> MutexGuard<'_, HashMap<RequestKey, Awaited>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the future of the response to a request.
    pub(crate) fn expect(self: &Arc<Self>, channel: &str, request_id: &str) -> ChannelResponse {
        let key = (channel.to_owned(), request_id.to_owned());
        self.lock().insert(key.clone(), Awaited::default());
        ChannelResponse { requests: self.clone(), key }
    }

    /// Takes a response. It is ignored if no request waits for it.
    pub(crate) fn respond(&self, channel: &str, request_id: &str, rsc: Rsc) {
        let key = (channel.to_owned(), request_id.to_owned());
        let mut all = self.lock();
        let Some(awaited) = all.get_mut(&key) else { return };
        awaited.response.get_or_insert(rsc);
        let waker = awaited.waker.take();
        drop(all);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The future of the Response Status Code of an AE that polls its channel. The caller must limit the
/// time.
#[derive(Debug)]
#[must_use]
pub struct ChannelResponse {
    requests: Arc<ChannelRequests>,
    key: RequestKey,
}

impl Future for ChannelResponse {
    type Output = Rsc;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Rsc> {
        let mut all = self.requests.lock();
        let awaited = all.entry(self.key.clone()).or_default();
        match awaited.response {
            Some(rsc) => Poll::Ready(rsc),
            None => {
                awaited.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for ChannelResponse {
    fn drop(&mut self) {
        self.requests.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[test]
    fn response_is_matched_by_channel_and_identifier() {
        let requests = Arc::<ChannelRequests>::default();
        {
            let mut response = pin!(requests.expect("a", "r1"));
            let mut poll = || response.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            for (channel, id) in [("b", "r1"), ("a", "r2")] {
                requests.respond(channel, id, Rsc::Ok);
                assert_eq!(poll(), Poll::Pending);
            }
            requests.respond("a", "r1", Rsc::OperationNotAllowed);
            requests.respond("a", "r1", Rsc::Ok);
            assert_eq!(poll(), Poll::Ready(Rsc::OperationNotAllowed));
        }
        assert!(requests.lock().is_empty());
    }
}
