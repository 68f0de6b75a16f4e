//! The requests of one association, and the rest between them.
//!
//! hyper has 16 KB for what it reads and writes next, for as long as it has a connection. So an
//! association on which nothing comes is taken from it, and given back with the first byte of the next
//! request: most associations of a gateway are those of devices that say something now and then.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use saegis_handshake::Rewound;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::associations::Live;
use crate::service::Service;

/// Largest header of a request, in bytes, and most fields in it.
const MAX_HEADER: usize = 16 << 10;
const MAX_FIELDS: usize = 64;

/// How long an association without any request may go on when the gateway stops.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// How long nothing must have moved until an association rests; it may be twice as long.
const QUIET: Duration = Duration::from_secs(1);

/// Serves requests until the association ends, and says why it did. `idle` is how long it may be
/// without a request.
pub async fn serve<S>(
    stream: &mut S,
    live: &Arc<Live>,
    serving: &Arc<Service>,
    idle: Duration,
    stop: &CancellationToken,
) -> &'static str
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ended = async {
        let expiry = async {
            match live.association.expires {
                Some(at) => sleep(at.duration_since(SystemTime::now()).unwrap_or_default()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = live.ended() => "revoked",
            () = expiry => "credential expired",
        }
    };
    tokio::pin!(ended);
    let stop = async {
        stop.cancelled().await;
        if !serving.has_begun() {
            // Whoever has just connected did so to ask something, and may be about to.
            sleep(FIRST_REQUEST).await;
        }
    };
    tokio::pin!(stop);
    let mut read = Vec::new();
    let mut head_by = Instant::now() + idle;
    loop {
        // Its memory is to go with it.
        let sitting = Box::pin(sit(&mut *stream, (read, head_by), serving, idle, stop.as_mut()));
        let over = tokio::select! {
            over = sitting => over,
            why = &mut ended => return why,
        };
        (read, head_by) = match over {
            Over::Ended(why) => return why,
            Over::Quiet(read, head_by) => (read, head_by),
        };
        if read.is_empty() {
            tracing::debug!(event = "association.rests", association = live.association.id);
            let mut first = [0];
            let more = timeout_at(head_by, stream.read(&mut first));
            let more = tokio::select! {
                more = more => more,
                why = &mut ended => return why,
                () = &mut stop => return "gateway stopping",
            };
            match more {
                Ok(Ok(1..)) => read.extend(first),
                Ok(_) => return "closed",
                Err(_) => return "idle",
            }
        }
    }
}

/// How a sitting is over.
enum Over {
    /// The association is.
    Ended(&'static str),
    /// Nothing comes. What has come of the next request, and by when its header must be whole.
    Quiet(Vec<u8>, Instant),
}

/// Serves requests for as long as they follow upon each other. `read` has been read of the first, whose
/// header is to be whole by `head_by`; the others' have `idle` from the answer before.
async fn sit<S>(
    stream: &mut S,
    (read, mut head_by): (Vec<u8>, Instant),
    serving: &Arc<Service>,
    idle: Duration,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> Over
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let traffic = Traffic::default();
    let service = service_fn(|request| {
        let service = serving.clone();
        Box::pin(async move { Ok::<_, Infallible>(service.respond(request).await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_buf_size(MAX_HEADER)
        .max_headers(MAX_FIELDS)
        .serve_connection(
            TokioIo::new(Watched { stream: Rewound::new(stream, read), traffic: &traffic }),
            service,
        );
    let look = sleep(QUIET);
    tokio::pin!(look);
    let (mut answered, mut stopping) = (false, false);
    loop {
        tokio::select! {
            result = &mut connection => return Over::Ended(match result {
                Ok(()) if stopping => "gateway stopping",
                Ok(()) => "closed",
                Err(e) if e.is_timeout() => "idle",
                Err(e) if e.is_parse() => "bad HTTP",
                Err(_) => "broken",
            }),
            () = &mut look, if !stopping => {
                let (came, went) = traffic.moved();
                if went {
                    // The time of the next header begins with the answer. hyper's own begins anew with
                    // each sitting.
                    (answered, head_by) = (true, Instant::now() + idle);
                } else if serving.is_between_requests() {
                    if Instant::now() >= head_by {
                        return Over::Ended("idle");
                    }
                    if answered && !came && traffic.is_over() {
                        // Copied, for turned into a vector it would bring hyper's buffer along.
                        return Over::Quiet(connection.into_parts().read_buf.to_vec(), head_by);
                    }
                }
                look.as_mut().reset(Instant::now() + QUIET);
            }
            () = &mut stop, if !stopping => {
                if !answered && !traffic.went() && serving.is_between_requests() {
                    // hyper would wait for the rest of what woke the association.
                    return Over::Ended("gateway stopping");
                }
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    }
}

/// What goes over a stream.
#[derive(Default)]
struct Traffic {
    /// Something has come since the last look.
    came: AtomicBool,
    /// Something has gone since the last look.
    went: AtomicBool,
    /// All that has come was read.
    drained: AtomicBool,
    /// Something waits to be written, or the end to be told.
    unwritten: AtomicBool,
}

impl Traffic {
    /// Whether anything has come, and gone, since the last look.
    fn moved(&self) -> (bool, bool) {
        let take = |flag: &AtomicBool| flag.swap(false, Ordering::Relaxed);
        (take(&self.came), take(&self.went))
    }

    /// Whether anything has gone since the last look.
    fn went(&self) -> bool {
        self.went.load(Ordering::Relaxed)
    }

    /// Whether nothing is about to move.
    fn is_over(&self) -> bool {
        self.drained.load(Ordering::Relaxed) && !self.unwritten.load(Ordering::Relaxed)
    }
}

/// A stream of which one can tell whether anything goes over it.
struct Watched<'a, S> {
    stream: S,
    traffic: &'a Traffic,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, out);
        self.traffic.drained.store(read.is_pending(), Ordering::Relaxed);
        if read.is_ready() {
            self.traffic.came.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.traffic.unwritten.store(written.is_pending(), Ordering::Relaxed);
        self.traffic.went.store(true, Ordering::Relaxed);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.traffic.unwritten.store(flushed.is_pending(), Ordering::Relaxed);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whoever is leaving does not rest on the way.
        self.traffic.unwritten.store(true, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
