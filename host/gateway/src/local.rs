//! A small HTTP server for who is on the same machine: on a loopback port, with few connections, each
//! bounded in time.

use std::convert::Infallible;
use std::net::SocketAddr;
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
use tokio::sync::Semaphore;

use crate::local_peer;

/// For a request to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait after an accept that failed.
const BREATHER: Duration = Duration::from_millis(100);

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
    /// Listens, and has requests answered, over so many connections at a time. With a `user`, connections of
    /// processes of other users are closed.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn listen<A, F>(
        address: SocketAddr,
        connections: usize,
        user: Option<u32>,
        answer: A,
    ) -> std::io::Result<Self>
    where
        A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(serve(listener, connections, user, answer)) })
    }
}

async fn serve<A, F>(listener: TcpListener, connections: usize, user: Option<u32>, answer: A)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(connections));
    let admission = user.map(|user| Arc::new(Admission { user, logged: Mutex::default() }));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(BREATHER).await;
            continue;
        };
        let (answer, admission) = (answer.clone(), admission.clone());
        tokio::spawn(async move {
            let _place = place;
            if let Some(admission) = admission
                && !admission.admits(&socket).await
            {
                return;
            }
            let answer = service_fn(|request| {
                let response = answer(request);
                async move { Ok::<_, Infallible>(response.await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(8 << 10)
                .serve_connection(TokioIo::new(socket), answer);
            // Whether the answer is read is up to whoever asked.
            let _ = tokio::time::timeout(PATIENCE * 10, connection).await;
        });
    }
}

/// The one user whose processes may connect.
struct Admission {
    user: u32,
    /// When a connection of another was logged last.
    logged: Mutex<Option<Instant>>,
}

impl Admission {
    async fn admits(&self, socket: &TcpStream) -> bool {
        let found = local_peer::user(socket).await;
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
                event = "local.user-refused",
                "a connection from this machine {found}, and only user {} may connect",
                self.user
            );
        }
        false
    }
}
