//! Serves the requests of one association, and releases buffers while it is idle.
//!
//! hyper holds 16 KiB of buffers for as long as it has a connection. Idle connections do not need
//! them: most associations belong to devices that send a request now and then. So the gateway drops
//! hyper's connection state after one to two seconds without traffic. It recreates the state when
//! the first byte of the next request arrives.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use saegis_handshake::PrefixedStream;
use saegis_onem2m::serialization::Serialization;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::exchange::Exchange;
use crate::session::registry::ActiveAssociation;

/// Maximum size of the header of a request, in bytes, and maximum number of its fields.
const MAX_HEADER: usize = 16 << 10;
const MAX_FIELDS: usize = 64;

/// Grace period for an association without any request when the gateway stops.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Interval of the idle check. An association is idle after one to two intervals without traffic.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Timeout for a request whose peer has closed its sending side. The peer may still wait for the
/// response, or it may be gone: nothing in the stream distinguishes the two.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(2);

/// Minimum rate at which a peer must read a response, in bytes per second, after the time for its
/// first part.
const MIN_READ_RATE: u64 = 1024;

/// Timeouts for a peer.
#[derive(Debug, Clone, Copy)]
pub struct HttpTimeouts {
    /// Timeout for the header of a request.
    pub idle: Duration,
    /// For reading the next part of a response.
    pub answer: Duration,
}

/// How the requests of an association come to an end.
pub enum Served {
    /// The association ends, for that reason.
    Ended(&'static str),
    /// The connection becomes a WebSocket, whose messages have this serialization. The bytes are those
    /// of messages that have arrived.
    Upgraded(Serialization, Vec<u8>),
}

/// Serves requests until the association ends or becomes a WebSocket.
pub async fn serve<S>(
    stream: &mut S,
    live: &Arc<ActiveAssociation>,
    exchange: &Arc<Exchange>,
    timeouts: HttpTimeouts,
    stop: &CancellationToken,
) -> Served
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ended = exchange.ended();
    tokio::pin!(ended);
    let stop = async {
        stop.cancelled().await;
        if !exchange.progress().has_begun() {
            // A new connection is usually about to send its first request.
            sleep(FIRST_REQUEST_TIMEOUT).await;
        }
    };
    tokio::pin!(stop);
    let mut read = Vec::new();
    let mut head_by = Instant::now() + timeouts.idle;
    loop {
        // Boxed, so that its memory is released when it ends.
        let serving = Box::pin(serve_until_idle(
            &mut *stream,
            (read, head_by),
            exchange,
            timeouts,
            stop.as_mut(),
        ));
        let outcome = tokio::select! {
            outcome = serving => outcome,
            why = &mut ended => return Served::Ended(why),
        };
        (read, head_by) = match outcome {
            ServeOutcome::Ended(why) => return Served::Ended(why),
            ServeOutcome::Upgraded(serialization, read) => {
                return Served::Upgraded(serialization, read);
            }
            ServeOutcome::Idle(read, head_by) => (read, head_by),
        };
        if read.is_empty() {
            tracing::debug!(event = "association.idle", association = live.association.id);
            let mut first = [0];
            let more = timeout_at(head_by, stream.read(&mut first));
            let more = tokio::select! {
                more = more => more,
                why = &mut ended => return Served::Ended(why),
                () = &mut stop => return Served::Ended("gateway stopping"),
            };
            match more {
                Ok(Ok(1..)) => read.extend(first),
                Ok(_) => return Served::Ended("closed"),
                Err(_) => return Served::Ended("idle"),
            }
        }
    }
}

/// Outcome of `serve_until_idle`.
enum ServeOutcome {
    /// The association has ended.
    Ended(&'static str),
    /// The connection becomes a WebSocket.
    Upgraded(Serialization, Vec<u8>),
    /// The association is idle. Has the first bytes of the next request, and the deadline for its
    /// header.
    Idle(Vec<u8>, Instant),
}

/// Serves consecutive requests. `read` is the beginning of the first one, whose header must be
/// complete at `head_by`. The time for the next header starts with the previous response.
async fn serve_until_idle<S>(
    stream: &mut S,
    (read, head_by): (Vec<u8>, Instant),
    exchange: &Arc<Exchange>,
    timeouts: HttpTimeouts,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> ServeOutcome
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let activity = IoActivity::default();
    let service = service_fn(|request| {
        let exchange = exchange.clone();
        Box::pin(async move { Ok::<_, Infallible>(exchange.respond(request).await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeouts.idle)
        .max_buf_size(MAX_HEADER)
        .max_headers(MAX_FIELDS)
        .serve_connection(
            TokioIo::new(ActivityTrackingIo {
                stream: PrefixedStream::new(stream, read),
                exchange,
                activity: &activity,
            }),
            service,
        );
    let look = sleep(IDLE_CHECK_INTERVAL);
    tokio::pin!(look);
    let mut stopping = false;
    let mut watch = Watch {
        unread: Unread::default(),
        half_closed: Lasting::default(),
        answered: false,
        head_by,
    };
    loop {
        tokio::select! {
            result = &mut connection => {
                return match exchange.upgraded() {
                    Some(serialization) if result.is_ok() => {
                        let read = connection.into_parts().read_buf.to_vec();
                        ServeOutcome::Upgraded(serialization, read)
                    }
                    _ => ServeOutcome::Ended(ended(&result, stopping)),
                };
            }
            () = &mut look => {
                match watch.check(&activity, exchange, timeouts, stopping) {
                    Check::Continue => {}
                    Check::End(why) => return ServeOutcome::Ended(why),
                    Check::Idle => {
                        // Copied, because converting it to a vector would keep the buffer of hyper.
                        let read = connection.into_parts().read_buf.to_vec();
                        return ServeOutcome::Idle(read, watch.head_by);
                    }
                }
                look.as_mut().reset(Instant::now() + IDLE_CHECK_INTERVAL);
            }
            () = &mut stop, if !stopping => {
                if !watch.answered && !activity.went() && exchange.progress().is_between_requests() {
                    // hyper would wait for the rest of the bytes that ended the idle time.
                    return ServeOutcome::Ended("gateway stopping");
                }
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    }
}

/// State of an association between two checks of its activity.
struct Watch {
    unread: Unread,
    half_closed: Lasting,
    /// Whether an answer was written.
    answered: bool,
    /// Deadline of the next request's header.
    head_by: Instant,
}

/// The outcome of a check.
enum Check {
    Continue,
    /// The association ends, for this reason.
    End(&'static str),
    /// Nothing comes.
    Idle,
}

impl Watch {
    fn check(
        &mut self,
        activity: &IoActivity,
        exchange: &Exchange,
        timeouts: HttpTimeouts,
        stopping: bool,
    ) -> Check {
        let (came, went) = activity.moved();
        let now = Instant::now();
        let (unwritten, written) = (activity.is_unwritten(), activity.written());
        if self.unread.lasts(unwritten, written, timeouts.answer, now) {
            return Check::End("answer not read");
        }
        if self.half_closed.lasts(activity.is_half_closed(), HALF_CLOSED_TIMEOUT, now) {
            return Check::End("closed");
        }
        if stopping {
            // It ends after the response.
        } else if went {
            // The time of the next header begins with the answer. hyper's own begins anew whenever
            // it serves again.
            (self.answered, self.head_by) = (true, Instant::now() + timeouts.idle);
        } else if exchange.progress().is_between_requests() {
            if Instant::now() >= self.head_by {
                return Check::End("idle");
            }
            if self.answered && !came && activity.is_over() {
                return Check::Idle;
            }
        }
        Check::Continue
    }
}

fn ended(result: &hyper::Result<()>, stopping: bool) -> &'static str {
    match result {
        Ok(()) if stopping => "gateway stopping",
        Ok(()) => "closed",
        Err(e) if e.is_timeout() => "idle",
        Err(e) if e.is_parse() => "bad HTTP",
        Err(_) => "broken",
    }
}

/// A condition that held at each check.
#[derive(Default)]
struct Lasting(Option<Instant>);

impl Lasting {
    /// Returns whether the condition has held for `long`.
    fn lasts(&mut self, is_so: bool, long: Duration, now: Instant) -> bool {
        self.0 = is_so.then(|| self.0.unwrap_or(now));
        self.0.is_some_and(|since| now - since >= long)
    }
}

/// A part of a response that the peer had not read at each check.
#[derive(Default)]
struct Unread {
    pending: Lasting,
    written: u64,
}

impl Unread {
    /// Returns whether it has been unread for `long`, plus the time that the bytes written since
    /// then allow.
    fn lasts(&mut self, is_unwritten: bool, written: u64, long: Duration, now: Instant) -> bool {
        if self.pending.0.is_none() {
            self.written = written;
        }
        let earned = Duration::from_secs(written.saturating_sub(self.written) / MIN_READ_RATE);
        self.pending.lasts(is_unwritten, long.saturating_add(earned), now)
    }
}

/// Activity of a stream.
#[derive(Default)]
struct IoActivity {
    /// Bytes were read since the last check.
    came: AtomicBool,
    /// Bytes were written since the last check.
    went: AtomicBool,
    /// All received bytes were read.
    drained: AtomicBool,
    /// Bytes, or the end of the stream, are waiting to be written.
    unwritten: AtomicBool,
    /// Number of bytes written.
    written: AtomicU64,
    /// The peer has closed its sending side. hyper receives this after the current response.
    half_closed: AtomicBool,
    /// hyper must receive the end of the stream after it has read the bytes before it.
    end_is_deferred: AtomicBool,
}

impl IoActivity {
    /// Returns whether bytes were read, and written, since the last check.
    fn moved(&self) -> (bool, bool) {
        let take = |flag: &AtomicBool| flag.swap(false, Ordering::Relaxed);
        (take(&self.came), take(&self.went))
    }

    /// Returns whether bytes were written since the last check.
    fn went(&self) -> bool {
        self.went.load(Ordering::Relaxed)
    }

    /// Returns whether bytes are waiting to be written.
    fn is_unwritten(&self) -> bool {
        self.unwritten.load(Ordering::Relaxed)
    }

    /// Returns the number of bytes written.
    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Returns whether the peer closed its sending side while its request is being handled.
    fn is_half_closed(&self) -> bool {
        self.half_closed.load(Ordering::Relaxed)
    }

    /// Returns whether no traffic is pending.
    fn is_over(&self) -> bool {
        self.drained.load(Ordering::Relaxed) && !self.is_unwritten()
    }
}

/// A stream that tracks its activity.
///
/// While a request is being handled, hyper does not receive the end of the peer's sending side.
/// Otherwise hyper would drop the request, which may already be carried out, without a response.
struct ActivityTrackingIo<'a, S> {
    stream: S,
    exchange: &'a Exchange,
    activity: &'a IoActivity,
}

impl<S: AsyncRead + Unpin> AsyncRead for ActivityTrackingIo<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let mut read = Pin::new(&mut self.stream).poll_read(cx, out);
        self.activity.drained.store(read.is_pending(), Ordering::Relaxed);
        if read.is_ready() {
            self.activity.came.store(true, Ordering::Relaxed);
        }
        // A missing close_notify is treated as an end too: the length of a request is known by
        // itself.
        if matches!(&read, Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof) {
            read = Poll::Ready(Ok(()));
        }
        let is_end = matches!(read, Poll::Ready(Ok(()))) && out.filled().len() == before;
        let deferred = self.activity.end_is_deferred.swap(is_end, Ordering::Relaxed);
        if is_end && self.exchange.progress().is_answering() {
            // `poll_flush` wakes hyper after the response was written.
            self.activity.half_closed.store(true, Ordering::Relaxed);
            return Poll::Pending;
        }
        if is_end && !deferred {
            // hyper checks for the end before it passes on the request that came with it.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ActivityTrackingIo<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.activity.unwritten.store(written.is_pending(), Ordering::Relaxed);
        self.activity.went.store(true, Ordering::Relaxed);
        if let Poll::Ready(Ok(length)) = written {
            self.activity.written.fetch_add(length as u64, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.activity.unwritten.store(flushed.is_pending(), Ordering::Relaxed);
        if flushed.is_ready()
            && self.activity.is_half_closed()
            && !self.exchange.progress().is_answering()
            && self.activity.half_closed.swap(false, Ordering::Relaxed)
        {
            cx.waker().wake_by_ref();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A connection that is shutting down does not become idle.
        self.activity.unwritten.store(true, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_timeout_is_extended_by_progress() {
        let begun = Instant::now();
        let mut unread = Unread::default();
        let mut lasts = |second, is_unwritten, written| {
            let now = begun + Duration::from_secs(second);
            unread.lasts(is_unwritten, written, Duration::from_secs(10), now)
        };
        assert!(!lasts(0, true, 5000));
        assert!(!lasts(9, true, 5000));
        assert!(lasts(10, true, 5000));
        assert!(!lasts(10, true, 5000 + 2 * MIN_READ_RATE));
        assert!(lasts(12, true, 5000 + 2 * MIN_READ_RATE));
        // After everything was read, the next response starts again.
        assert!(!lasts(13, false, 90_000));
        assert!(!lasts(14, true, 90_000));
        assert!(!lasts(23, true, 90_000));
        assert!(lasts(24, true, 90_000));
    }
}
