//! A pool of connections without TLS, each driven by the request that uses it.
//!
//! An HTTP client that spawns a task for each connection wakes this task for each request. The task
//! in turn wakes the request for the head of the response and for its content. In this pool the
//! task of the request writes and reads itself, which avoids these wake-ups.
//!
//! A connection is used only in the runtime where it was opened, whose driver wakes it.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{Request, Uri};
use http_body_util::Full;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::{self, Handle};
use tokio::time::{Instant, timeout};

use crate::error::error_chain;
use crate::response;

/// Maximum number of idle connections of a runtime in the pool.
const MAX_IDLE: usize = 64;
/// Timeout after which an idle connection is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A pool of connections without TLS to one CSE.
pub struct PlainHttp {
    host: String,
    port: u16,
    content_bytes: usize,
    idle: Arc<Idle>,
}

/// Idle connections of each runtime, the most recently used at the back.
type Idle = Mutex<HashMap<runtime::Id, VecDeque<(Instant, PooledConnection)>>>;

struct PooledConnection {
    sender: SendRequest<Full<Bytes>>,
    connection: Connection<TokioIo<TcpStream>, Full<Bytes>>,
}

/// The reason why a request on a connection failed.
enum Failed {
    /// The connection had ended before anything was sent.
    NotSent(Box<Request<Full<Bytes>>>),
    /// The exchange failed for this reason.
    Broken(String),
}

impl PlainHttp {
    /// Creates a pool of connections to the host of `url`. Responses may have up to `content_bytes`
    /// bytes of content. Must be called within a Tokio runtime.
    pub fn new(url: &Uri, content_bytes: usize) -> Self {
        let host = url.host().unwrap_or_default();
        // Only a URI has brackets around an IPv6 address.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let idle = Arc::new(Idle::default());
        tokio::spawn(close_idle(Arc::downgrade(&idle)));
        Self { host, port: url.port_u16().unwrap_or(80), content_bytes, idle }
    }

    /// Sends a request and returns the complete response.
    ///
    /// # Errors
    /// Returns the reason why there is no response, for the log.
    pub async fn ask(&self, mut request: Request<Full<Bytes>>) -> Result<(Parts, Bytes), String> {
        let here = Handle::current().id();
        loop {
            let pooled = lock(&self.idle).get_mut(&here).and_then(VecDeque::pop_back);
            let is_new = pooled.is_none();
            let mut connection = match pooled {
                Some((_, connection)) => connection,
                None => self.connect().await?,
            };
            match connection.ask(request, self.content_bytes).await {
                Ok(answer) => {
                    self.put_back(here, connection);
                    return Ok(answer);
                }
                // The peer closed the idle connection, and no part of the request was sent.
                Err(Failed::NotSent(again)) if !is_new => request = *again,
                Err(Failed::NotSent(_)) => return Err("the connection ended immediately".into()),
                Err(Failed::Broken(why)) => return Err(why),
            }
        }
    }

    async fn connect(&self) -> Result<PooledConnection, String> {
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let socket = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let failed = |e: io::Error| format!("cannot connect: {e}");
        let socket = socket.map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        let made = http1::handshake(TokioIo::new(socket)).await;
        let (sender, connection) = made.map_err(|e| error_chain(&e))?;
        Ok(PooledConnection { sender, connection })
    }

    fn put_back(&self, here: runtime::Id, connection: PooledConnection) {
        if connection.sender.is_closed() {
            return;
        }
        let mut all = lock(&self.idle);
        let idle = all.entry(here).or_default();
        if idle.len() < MAX_IDLE {
            idle.push_back((Instant::now(), connection));
        }
    }
}

impl PooledConnection {
    async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
        max_content: usize,
    ) -> Result<(Parts, Bytes), Failed> {
        let Self { sender, connection } = self;
        // The connection may still have to read the end of its last response, or find that the peer
        // closed it.
        let ready = poll_fn(|cx| match Pin::new(&mut *connection).poll(cx) {
            Poll::Ready(_) => Poll::Ready(false),
            Poll::Pending => sender.poll_ready(cx).map(|ready| ready.is_ok()),
        });
        if !ready.await {
            return Err(Failed::NotSent(Box::new(request)));
        }
        let mut asking = pin!(async {
            let response =
                sender.try_send_request(request).await.map_err(|mut e| match e.take_message() {
                    Some(request) => Failed::NotSent(Box::new(request)),
                    None => Failed::Broken(error_chain(e.error())),
                })?;
            response::collect(response, max_content).await.map_err(Failed::Broken)
        });
        let mut ended = false;
        poll_fn(|cx| {
            let mut answer = asking.as_mut().poll(cx);
            // The connection completes a pending response before it ends.
            if answer.is_pending() && !ended {
                ended = Pin::new(&mut *connection).poll(cx).is_ready();
                answer = asking.as_mut().poll(cx);
            }
            answer
        })
        .await
    }
}

fn lock(
    idle: &Idle,
) -> MutexGuard<'_, HashMap<runtime::Id, VecDeque<(Instant, PooledConnection)>>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Closes connections that were idle for [`IDLE_TIMEOUT`].
async fn close_idle(idle: Weak<Idle>) {
    loop {
        tokio::time::sleep(IDLE_TIMEOUT / 2).await;
        let Some(idle) = idle.upgrade() else { return };
        for idle in lock(&idle).values_mut() {
            while idle.front().is_some_and(|(since, _)| since.elapsed() >= IDLE_TIMEOUT) {
                idle.pop_front();
            }
        }
    }
}
