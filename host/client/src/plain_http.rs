//! A pool of connections without TLS, each driven by the request that uses it.
//!
//! An HTTP client that spawns a task for each connection wakes this task for each request. The task
//! in turn wakes the request for the head of the response and for its content. In this pool the
//! task of the request writes and reads itself, which avoids these wake-ups.
//!
//! A connection is used only in the runtime where it was opened, whose driver wakes it.

mod exchange;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use saegis_onem2m::http::REQUEST_ID;
use tokio::net::TcpStream;
use tokio::runtime::{self, Handle};
use tokio::time::{Instant, timeout};

use exchange::Response;

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
    idle: Arc<Mutex<Idle>>,
}

/// Idle connections of each runtime, the most recently used at the back.
type Idle = HashMap<runtime::Id, VecDeque<(Instant, TcpStream)>>;

impl PlainHttp {
    /// Creates a pool of connections to the host of `url`. Responses may have up to `content_bytes`
    /// bytes of content. Must be called within a Tokio runtime.
    pub fn new(url: &Uri, content_bytes: usize) -> Self {
        let host = url.host().unwrap_or_default();
        // Only a URI has brackets around an IPv6 address.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let idle = Arc::<Mutex<Idle>>::default();
        tokio::spawn(close_idle(Arc::downgrade(&idle)));
        Self { host, port: url.port_u16().unwrap_or(80), content_bytes, idle }
    }

    /// Sends a request and returns the complete response. A response with the Request Identifier of
    /// another request is an error, and its connection is closed: later responses could also belong
    /// to other requests.
    ///
    /// # Errors
    /// Returns the reason why there is no response, for the log.
    pub async fn ask(&self, request: &Request<Bytes>) -> Result<Response, String> {
        let here = Handle::current().id();
        let mut connection = match self.idle_connection(here) {
            Some(connection) => connection,
            // Boxed, because most requests use an idle connection.
            None => Box::pin(self.connect()).await?,
        };
        let (mut reader, mut writer) = connection.split();
        let response =
            exchange::exchange(request, &mut reader, &mut writer, self.content_bytes).await?;
        let id = request.headers().get(REQUEST_ID);
        if response.headers.get_all(REQUEST_ID).iter().any(|other| Some(other) != id) {
            return Err("the response has the identifier of another request".into());
        }
        if response.is_reusable {
            self.put_back(here, connection);
        }
        Ok(response)
    }

    /// Returns the most recently used connection of the runtime that the CSE has not closed.
    fn idle_connection(&self, here: runtime::Id) -> Option<TcpStream> {
        loop {
            let (_, connection) = lock(&self.idle).get_mut(&here)?.pop_back()?;
            // Otherwise its end has arrived, or bytes that belong to no request. The system is asked,
            // because the runtime may not have noticed them yet.
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            if matches!(recv(&connection, &mut [0][..], flags), Err(Errno::AGAIN)) {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<TcpStream, String> {
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let socket = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let failed = |e: io::Error| format!("cannot connect: {e}");
        let socket = socket.map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        Ok(socket)
    }

    fn put_back(&self, here: runtime::Id, connection: TcpStream) {
        let mut all = lock(&self.idle);
        let idle = all.entry(here).or_default();
        if idle.len() < MAX_IDLE {
            idle.push_back((Instant::now(), connection));
        }
    }
}

fn lock(idle: &Mutex<Idle>) -> MutexGuard<'_, Idle> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Closes connections that were idle for [`IDLE_TIMEOUT`].
async fn close_idle(idle: Weak<Mutex<Idle>>) {
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    fn respond(connection: &mut TcpStream, content: &str) {
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            connection.read_exact(&mut byte).unwrap();
            read.extend(byte);
        }
        send(connection, content);
    }

    fn send(connection: &mut TcpStream, content: &str) {
        let length = content.len();
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{content}");
        connection.write_all(response.as_bytes()).unwrap();
    }

    #[tokio::test]
    async fn surplus_response_is_not_that_of_next_request() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (send_surplus, surplus_due) = mpsc::channel();
        let (sent_surplus, surplus_is_sent) = mpsc::channel();
        let server = thread::spawn(move || {
            let (mut first, _) = listener.accept().unwrap();
            respond(&mut first, "first");
            surplus_due.recv().unwrap();
            send(&mut first, "surplus");
            sent_surplus.send(()).unwrap();
            let (mut second, _) = listener.accept().unwrap();
            respond(&mut second, "second");
        });
        let client = PlainHttp::new(&url, 1000);
        let request = Request::get("/").body(Bytes::new()).unwrap();
        let first = client.ask(&request).await.unwrap();
        assert_eq!(first.content, "first");
        // The runtime does not run in between, so it has not noticed the surplus.
        send_surplus.send(()).unwrap();
        surplus_is_sent.recv().unwrap();
        let second = client.ask(&request).await.unwrap();
        assert_eq!(second.content, "second");
        server.join().unwrap();
    }
}
