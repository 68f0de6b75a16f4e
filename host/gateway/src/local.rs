//! A small HTTP server for who is on the same machine: on a loopback port, with few connections, each
//! bounded in time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// For a request to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait after an accept that failed.
const BREATHER: Duration = Duration::from_millis(100);

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
    /// Listens, and has requests answered, over so many connections at a time.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn listen<A, F>(
        address: SocketAddr,
        connections: usize,
        answer: A,
    ) -> std::io::Result<Self>
    where
        A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(serve(listener, connections, answer)) })
    }
}

async fn serve<A, F>(listener: TcpListener, connections: usize, answer: A)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(connections));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(BREATHER).await;
            continue;
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let _place = place;
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
