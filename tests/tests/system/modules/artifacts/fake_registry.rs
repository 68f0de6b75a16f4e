//! A fake registry that sends configured, usually invalid, responses.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use openssl::sha::sha256;
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod, SslStream};

/// A response of the fake registry.
pub enum Response {
    /// A complete response with this content.
    Complete(Vec<u8>),
    /// The same, a second later.
    Late(Vec<u8>),
    /// A status and a header field.
    Status(&'static str, String),
    /// Endless content, with or without a Content-Length.
    Endless(Option<u64>),
    /// The beginning of a response, without the rest.
    Stall,
    /// A response that arrives slowly, byte by byte.
    SlowBytes,
}

pub struct FakeRegistry {
    host: String,
    requests: Arc<Mutex<Vec<String>>>,
    sent: Arc<AtomicU64>,
}

impl FakeRegistry {
    /// Listens until the test ends, with the certificate of a folder. A request gets the first response
    /// whose words, separated by `|`, all occur in its head.
    pub fn start(folder: &Path, answers: Vec<(String, Response)>) -> Self {
        let mut tls = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        tls.set_certificate_chain_file(folder.join("tls.pem")).unwrap();
        tls.set_private_key_file(folder.join("tls.key"), SslFiletype::PEM).unwrap();
        let (tls, answers) = (Arc::new(tls.build()), Arc::new(answers));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = format!("localhost:{}", listener.local_addr().unwrap().port());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let recorded = requests.clone();
        let sent = Arc::new(AtomicU64::new(0));
        let counted = sent.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (tls, answers, recorded) = (tls.clone(), answers.clone(), recorded.clone());
                let sent = counted.clone();
                thread::spawn(move || {
                    let Ok(mut stream) = tls.accept(socket) else { return };
                    while let Some(request) = request(&mut stream) {
                        let fits = |needles: &str| needles.split('|').all(|n| request.contains(n));
                        let found = answers.iter().find(|(needles, _)| fits(needles));
                        recorded.lock().unwrap().push(request.clone());
                        let found = found.map(|(_, answer)| answer);
                        if answer(&mut stream, found, &sent).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { host, requests, sent }
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the number of bytes that were sent of endless content.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns the requests so far, with their headers.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn request(stream: &mut SslStream<std::net::TcpStream>) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            _ => return None,
        }
    }
    String::from_utf8(head).ok()
}

fn answer(to: &mut impl Write, answer: Option<&Response>, sent: &AtomicU64) -> std::io::Result<()> {
    match answer {
        None => write!(to, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
        Some(Response::Status(status, header)) => {
            write!(to, "HTTP/1.1 {status}\r\n{header}\r\ncontent-length: 0\r\n\r\n")
        }
        Some(answer @ (Response::Complete(bytes) | Response::Late(bytes))) => {
            if matches!(answer, Response::Late(_)) {
                thread::sleep(Duration::from_secs(1));
            }
            write!(to, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len())?;
            to.write_all(bytes)
        }
        Some(Response::Stall) => {
            write!(to, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{{")?;
            // The stream stays open as long as this thread.
            to.flush()?;
            loop {
                thread::park();
            }
        }
        Some(Response::SlowBytes) => {
            write!(to, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")?;
            (0..1000).try_for_each(|_| {
                thread::sleep(Duration::from_millis(50));
                to.write_all(b" ")?;
                to.flush()
            })
        }
        Some(Response::Endless(length_field)) => {
            let length = match length_field {
                Some(length_field) => format!("content-length: {length_field}"),
                None => "connection: close".into(),
            };
            write!(to, "HTTP/1.1 200 OK\r\n{length}\r\n\r\n")?;
            // At most ten gibibytes.
            let block = vec![b' '; 1 << 20];
            (0..10 << 10).try_for_each(|_| {
                to.write_all(&block)?;
                sent.fetch_add(block.len() as u64, Ordering::Relaxed);
                Ok(())
            })
        }
    }
}

/// Returns the digest of bytes in the form of references.
pub fn digest(bytes: &[u8]) -> String {
    let digits: String = sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// Returns the manifest of a module's artifact, with a file of this digest and size.
pub fn manifest(file: &str, size: u64) -> Vec<u8> {
    let config = "\"mediaType\":\"application/vnd.wasm.config.v0+json\"";
    let empty = digest(b"{}");
    format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\
         \"config\":{{{config},\"digest\":\"{empty}\",\"size\":2}},\
         \"layers\":[{{\"mediaType\":\"application/wasm\",\"digest\":\"{file}\",\"size\":{size}}}]}}"
    )
    .into_bytes()
}
