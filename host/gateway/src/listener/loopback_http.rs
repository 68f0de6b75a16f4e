//! Small HTTP server for clients on the same machine: listens on a loopback port, with few
//! connections and a timeout for each.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::config::ListenAddress;
use crate::listener::loopback_peer;

/// Delay after a failed accept, and interval for a connection to end if all are in use.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// Limits of a server.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// Maximum number of connections. A further one ends the oldest without an active request.
    pub connections: usize,
    /// Timeout for the header of a request.
    pub header: Duration,
    /// Maximum lifetime of a connection.
    pub connection: Duration,
    /// Whether a request is active until its response has been sent, and not only until it begins. The
    /// responses to strangers must be short then.
    pub active_until_sent: bool,
}

/// Body of a response.
pub trait ResponseBody:
    Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static
{
}

impl<B> ResponseBody for B where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static
{
}

/// Interval between log lines about connections of other users.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// HTTP server; it stops when this is dropped.
pub struct LoopbackServer {
    /// Bound address.
    pub address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for LoopbackServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl LoopbackServer {
    /// Binds the address and serves requests. With a `user`, connections from processes of other
    /// users are closed.
    ///
    /// # Errors
    /// Fails if the address cannot be bound.
    pub async fn listen<A, F, B>(
        address: &ListenAddress,
        limits: ServerLimits,
        user: Option<u32>,
        answer: A,
    ) -> std::io::Result<Self>
    where
        A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: ResponseBody,
    {
        let listener = TcpListener::bind(&*address.candidates().await?).await?;
        Self::serve(listener, limits, user, answer)
    }

    /// Serves requests on a bound listener.
    ///
    /// # Errors
    /// Fails if the address of the listener cannot be found.
    pub fn serve<A, F, B>(
        listener: TcpListener,
        limits: ServerLimits,
        user: Option<u32>,
        answer: A,
    ) -> std::io::Result<Self>
    where
        A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: ResponseBody,
    {
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(accept(listener, limits, user, answer)) })
    }
}

/// An active connection.
struct Connection {
    task: AbortHandle,
    /// Number of active requests on it.
    answering: Arc<AtomicUsize>,
}

async fn accept<A, F, B>(listener: TcpListener, limits: ServerLimits, user: Option<u32>, answer: A)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: ResponseBody,
{
    let admission = user.map(|user| Arc::new(Admission { user, logged: Mutex::default() }));
    let mut connections: VecDeque<Connection> = VecDeque::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(RETRY_DELAY).await;
            continue;
        };
        make_room(&mut connections, limits.connections).await;
        let answering = Arc::<AtomicUsize>::default();
        let (counted, answer, admission) = (answering.clone(), answer.clone(), admission.clone());
        let serving = async move {
            if let Some(admission) = admission
                && !admission.admits(&socket).await
            {
                return;
            }
            serve(socket, limits, counted, answer).await;
        };
        let task = tokio::spawn(serving).abort_handle();
        connections.push_back(Connection { task, answering });
    }
}

/// Makes room for one more connection. A connection without a complete request must not block
/// others.
async fn make_room(connections: &mut VecDeque<Connection>, most: usize) {
    loop {
        connections.retain(|connection| !connection.task.is_finished());
        if connections.len() < most {
            return;
        }
        let idle = |connection: &Connection| connection.answering.load(Ordering::Acquire) == 0;
        match connections.iter().position(idle).and_then(|at| connections.remove(at)) {
            Some(oldest) => oldest.task.abort(),
            None => tokio::time::sleep(RETRY_DELAY).await,
        }
    }
}

/// Counts a request while it is active.
struct Answering(Arc<AtomicUsize>);

impl Answering {
    fn new(answering: &Arc<AtomicUsize>) -> Self {
        answering.fetch_add(1, Ordering::AcqRel);
        Self(answering.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The body of a response whose request may be active until its end.
struct Counted<B> {
    body: B,
    _at_work: Option<Answering>,
}

impl<B: ResponseBody> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Serves the requests of one connection, within the limits of a connection.
pub async fn serve<S, A, F, B>(
    socket: S,
    limits: ServerLimits,
    answering: Arc<AtomicUsize>,
    answer: A,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<B>>,
    B: ResponseBody,
{
    let answer = service_fn(|request| {
        let at_work = Answering::new(&answering);
        let response = answer(request);
        async move {
            let response = response.await;
            let at_work = limits.active_until_sent.then_some(at_work);
            Ok::<_, Infallible>(response.map(|body| Counted { body, _at_work: at_work }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(8 << 10)
        .serve_connection(TokioIo::new(socket), answer);
    // The client decides whether it reads the response.
    let _ = tokio::time::timeout(limits.connection, connection).await;
}

/// The only user whose processes may connect.
struct Admission {
    user: u32,
    /// Time of the last log line about another user.
    logged: Mutex<Option<Instant>>,
}

impl Admission {
    async fn admits(&self, socket: &TcpStream) -> bool {
        let found = loopback_peer::user(socket).await;
        if found.as_ref().is_ok_and(|found| *found == Some(self.user)) {
            return true;
        }
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            *logged = Some(Instant::now());
            let found = match found {
                Ok(Some(user)) => format!("is of user {user}"),
                Ok(None) => "has no user, or is already closed".into(),
                Err(e) => format!("cannot find its user: {e}"),
            };
            tracing::warn!(
                event = "notification.user-refused",
                "rejected a connection from this machine: it {found}, but only user {} may connect",
                self.user
            );
        }
        false
    }
}
