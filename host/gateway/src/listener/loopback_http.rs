//! A small HTTP server for who is on the same machine: on a loopback port, with few connections, each
//! bounded in time.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::config::ListenAddress;
use crate::listener::loopback_peer;

/// How long to wait after an accept that failed, and for a connection to end where all are at work.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// Bounds of a server.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at a time. One more ends the oldest on which no request is answered.
    pub connections: usize,
    /// For the header of a request.
    pub header: Duration,
    /// For a connection.
    pub connection: Duration,
}

/// Interval between log lines about connections of other users.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Answers until it is dropped.
pub struct Local {
    /// Where it listens.
    pub address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Local {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Local {
    /// Listens, and has requests answered. With a `user`, connections of processes of other users are
    /// closed.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn listen<A, F>(
        address: &ListenAddress,
        bounds: Bounds,
        user: Option<u32>,
        answer: A,
    ) -> std::io::Result<Self>
    where
        A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let listener = TcpListener::bind(&*address.candidates().await?).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(accept(listener, bounds, user, answer)) })
    }
}

/// A connection that is served.
struct Connection {
    task: AbortHandle,
    /// Requests that are answered on it.
    answering: Arc<AtomicUsize>,
}

async fn accept<A, F>(listener: TcpListener, bounds: Bounds, user: Option<u32>, answer: A)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let admission = user.map(|user| Arc::new(Admission { user, logged: Mutex::default() }));
    let mut connections: VecDeque<Connection> = VecDeque::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(RETRY_DELAY).await;
            continue;
        };
        make_room(&mut connections, bounds.connections).await;
        let answering = Arc::<AtomicUsize>::default();
        let (counted, answer, admission) = (answering.clone(), answer.clone(), admission.clone());
        let serving = async move {
            if let Some(admission) = admission
                && !admission.admits(&socket).await
            {
                return;
            }
            serve(socket, bounds, counted, answer).await;
        };
        let task = tokio::spawn(serving).abort_handle();
        connections.push_back(Connection { task, answering });
    }
}

/// Makes room for one more, so that half a request keeps no place that another needs.
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

/// Counts a request while it is answered.
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

async fn serve<A, F>(socket: TcpStream, bounds: Bounds, answering: Arc<AtomicUsize>, answer: A)
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Full<Bytes>>>,
{
    let answer = service_fn(|request| {
        let at_work = Answering::new(&answering);
        let response = answer(request);
        async move {
            let response = response.await;
            drop(at_work);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header)
        .max_buf_size(8 << 10)
        .serve_connection(TokioIo::new(socket), answer);
    // Whether the answer is read is up to whoever asked.
    let _ = tokio::time::timeout(bounds.connection, connection).await;
}

/// The one user whose processes may connect.
struct Admission {
    user: u32,
    /// When a connection of another was logged last.
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
                Ok(None) => "has no user, or is closed already".into(),
                Err(e) => format!("has no user that can be found: {e}"),
            };
            tracing::warn!(
                event = "notification.user-refused",
                "a connection from this machine {found}, and only user {} may connect",
                self.user
            );
        }
        false
    }
}
