//! Bodies that fail if they are too long or take too long.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use wasmtime_wasi_http::Error;

/// Body of a request, with a size limit.
pub(super) struct Request<B> {
    pub body: B,
    pub left: u64,
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Body for Request<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let Poll::Ready(Some(Ok(frame))) = &polled else { return polled };
        match self.left.checked_sub(length(frame)) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Some(Err(Error::HttpRequestBodySize(None)))),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Body of a response, with a size limit and a deadline.
pub(super) struct Answer {
    body: hyper::body::Incoming,
    left: u64,
    ends: Pin<Box<Sleep>>,
    /// Maximum pause that the module requested.
    pause: Option<(Duration, Pin<Box<Sleep>>)>,
    over: bool,
}

impl Answer {
    pub fn new(
        body: hyper::body::Incoming,
        most: u64,
        ends: Instant,
        pause: Option<Duration>,
    ) -> Self {
        let pause = pause.map(|pause| (pause, Box::pin(sleep(pause))));
        Self { body, left: most, ends: Box::pin(sleep_until(ends)), pause, over: false }
    }

    fn ends_with(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.over = true;
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.ends.as_mut().poll(context).is_ready() {
            return self.ends_with(Error::HttpResponseTimeout);
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => {
                let pause = self.pause.as_mut().map(|(_, sleep)| sleep.as_mut().poll(context));
                if pause.is_some_and(|polled| polled.is_ready()) {
                    return self.ends_with(Error::ConnectionReadTimeout);
                }
                Poll::Pending
            }
            Poll::Ready(None) => Poll::Ready(None),
            // The task of the connection ends at the same deadline, and may be slightly earlier.
            Poll::Ready(Some(Err(_))) if self.ends.deadline() <= Instant::now() => {
                self.ends_with(Error::HttpResponseTimeout)
            }
            Poll::Ready(Some(Err(_))) => self.ends_with(Error::HttpResponseIncomplete),
            Poll::Ready(Some(Ok(frame))) => {
                let Some(left) = self.left.checked_sub(length(&frame)) else {
                    return self.ends_with(Error::HttpResponseBodySize(None));
                };
                self.left = left;
                if let Some((pause, sleep)) = &mut self.pause {
                    sleep.as_mut().reset(Instant::now() + *pause);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

fn length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}
