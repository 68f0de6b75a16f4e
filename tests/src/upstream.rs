//! A fake CSE behind the gateway that sends configured responses and records all received bytes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::http::Message;
use crate::process::BOUND;

/// Stands for the request's identifier in the bytes of a reply.
pub const REQUEST_ID: &str = "<rqi>";

/// The reaction to a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Sends these bytes.
    Bytes(Vec<u8>),
    /// Sends these bytes and closes the connection.
    BytesThenClose(Vec<u8>),
    /// Sends the bytes of the request's method. A method without bytes gets no response.
    ByMethod(Vec<(&'static str, Vec<u8>)>),
    /// Sends nothing until another reply is set.
    Pending,
}

impl Reply {
    /// Returns a response with a Response Status Code, the request's identifier, and content.
    pub fn answer(status: u16, rsc: u16, body: &str) -> Self {
        Self::Bytes(Self::bytes(status, rsc, body))
    }

    /// Returns the bytes of [`answer`](Self::answer).
    pub fn bytes(status: u16, rsc: u16, body: &str) -> Vec<u8> {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} X\r\nX-M2M-RSC: {rsc}\r\nX-M2M-RI: {REQUEST_ID}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        head.into()
    }
}

/// The CSE.
pub struct Upstream {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    reply: Reply,
    /// The received bytes of each connection.
    arrived: Vec<Vec<u8>>,
}

impl Upstream {
    /// Starts the CSE with one reply to all requests.
    pub fn start(reply: Reply) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").expect("a free port"), reply)
    }

    /// Starts the CSE at a port that was in use before.
    pub fn start_at(port: u16, reply: Reply) -> Self {
        Self::listen(TcpListener::bind(("127.0.0.1", port)).expect("the port is free"), reply)
    }

    fn listen(listener: TcpListener, reply: Reply) -> Self {
        let port = listener.local_addr().expect("it listens").port();
        let state = Mutex::new(State { reply, arrived: Vec::new() });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let ours = shared.clone();
        // The threads end with the test process.
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let shared = ours.clone();
                thread::spawn(move || shared.serve(socket));
            }
        });
        Self { port, shared }
    }

    /// Returns a port without a listener.
    pub fn closed_port() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("it listens").port()
    }

    /// Returns the listening port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Replaces the reply.
    pub fn reply_with(&self, reply: Reply) {
        self.shared.lock().reply = reply;
        self.shared.changed.notify_all();
    }

    /// Waits until at least `count` requests have arrived, and returns all requests.
    #[track_caller]
    pub fn wait(&self, count: usize) -> Vec<Message> {
        let deadline = Instant::now() + BOUND;
        let mut state = self.shared.lock();
        loop {
            let requests = requests(&state.arrived);
            if requests.len() >= count {
                return requests;
            }
            let left = deadline.checked_duration_since(Instant::now());
            let left = left.unwrap_or_else(|| panic!("{} requests arrived", requests.len()));
            let woken = self.shared.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Returns the requests so far.
    pub fn requests(&self) -> Vec<Message> {
        requests(&self.shared.lock().arrived)
    }

    /// Returns the number of connections so far with a request. The gateway opens others to check
    /// whether the CSE can be reached.
    pub fn connections(&self) -> usize {
        self.shared.lock().arrived.iter().filter(|bytes| !bytes.is_empty()).count()
    }

    /// Returns all received bytes as text.
    pub fn text(&self) -> String {
        let state = self.shared.lock();
        state.arrived.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect()
    }
}

/// Returns the complete requests on all connections.
fn requests(arrived: &[Vec<u8>]) -> Vec<Message> {
    let mut found = Vec::new();
    for bytes in arrived {
        let mut rest = bytes.as_slice();
        while let Some((message, length)) = Message::read(rest) {
            found.push(message);
            rest = &rest[length..];
        }
    }
    found
}

/// Returns the bytes of a reply with the request's identifier.
fn with_request_id(reply: &[u8], request: &Message) -> Vec<u8> {
    let placeholder = REQUEST_ID.as_bytes();
    let Some(at) = reply.windows(placeholder.len()).position(|bytes| bytes == placeholder) else {
        return reply.to_vec();
    };
    let id = request.values("x-m2m-ri").first().copied().unwrap_or_default();
    [&reply[..at], id.as_bytes(), &reply[at + placeholder.len()..]].concat()
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut socket: TcpStream) {
        let number = {
            let mut state = self.lock();
            state.arrived.push(Vec::new());
            state.arrived.len() - 1
        };
        let mut answered = 0;
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = socket.read(&mut chunk) {
            let arrived = {
                let mut state = self.lock();
                state.arrived[number].extend_from_slice(&chunk[..read]);
                self.changed.notify_all();
                requests(&state.arrived[number..=number])
            };
            for request in &arrived[answered..] {
                let mut write = |bytes: &[u8]| {
                    let _ = socket.write_all(&with_request_id(bytes, request));
                };
                match self.reply() {
                    Reply::Bytes(bytes) => write(&bytes),
                    Reply::BytesThenClose(bytes) => {
                        write(&bytes);
                        return;
                    }
                    Reply::ByMethod(all) => {
                        let of = |(method, _): &&(&str, _)| request.line.starts_with(method);
                        if let Some((_, bytes)) = all.iter().find(of) {
                            write(bytes);
                        }
                    }
                    Reply::Pending => {}
                }
            }
            answered = arrived.len();
        }
    }

    /// Waits for a reply other than `Pending`.
    fn reply(&self) -> Reply {
        let held = |state: &mut State| matches!(state.reply, Reply::Pending);
        let state = self.changed.wait_while(self.lock(), held);
        state.unwrap_or_else(PoisonError::into_inner).reply.clone()
    }
}
