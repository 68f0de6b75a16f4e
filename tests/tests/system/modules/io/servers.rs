//! Servers for outgoing requests: a slow one, and one with TLS.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";

/// A server that responds to each request after a delay.
pub struct Slow {
    port: u16,
    most: Arc<AtomicUsize>,
}

impl Slow {
    pub fn start(pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let shared = most.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (now, most) = (now.clone(), most.clone());
                let small = thread::Builder::new().stack_size(64 << 10);
                let served = small.spawn(move || {
                    most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    answer(socket, pause);
                    now.fetch_sub(1, Ordering::Relaxed);
                });
                served.unwrap();
            }
        });
        Self { port, most: shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the maximum number of concurrent requests.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

fn answer(mut socket: TcpStream, pause: Duration) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    while !bytes.ends_with(b"\r\n\r\n") {
        match socket.read(&mut chunk) {
            Ok(read @ 1..) => bytes.extend_from_slice(&chunk[..read]),
            _ => return,
        }
    }
    thread::sleep(pause);
    // The client may have disconnected.
    let _ = socket.write_all(ANSWER);
}

/// A server with TLS.
pub struct Tls;

impl Tls {
    /// Starts the server with `tls.pem` and `tls.key` of a folder, and returns its port.
    pub fn start(folder: &Path) -> u16 {
        let mut tls = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        tls.set_certificate_chain_file(folder.join("tls.pem")).unwrap();
        tls.set_private_key_file(folder.join("tls.key"), SslFiletype::PEM).unwrap();
        let tls = tls.build();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let Ok(mut stream) = tls.accept(socket) else { continue };
                let mut chunk = [0; 1024];
                if stream.read(&mut chunk).is_ok() {
                    let _ = stream.write_all(ANSWER);
                    let _ = stream.shutdown();
                }
            }
        });
        port
    }
}
