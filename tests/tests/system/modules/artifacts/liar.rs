//! A registry that does not do what it should: what it answers is made up.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use openssl::sha::sha256;
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod, SslStream};

/// What is sent.
pub enum Answer {
    /// This, whole.
    Whole(Vec<u8>),
    /// A status, with a header.
    Status(&'static str, String),
    /// Bytes without end, after a length that is told, or none.
    Endless(Option<u64>),
    /// The beginning of an answer, and then nothing.
    Silence,
    /// An answer that comes byte by byte, a long time.
    Dribble,
}

pub struct Liar {
    host: String,
    asked: Arc<Mutex<Vec<String>>>,
    sent: Arc<AtomicU64>,
}

impl Liar {
    /// Listens, with the certificate in a folder, until the test ends. A request has the first answer
    /// of which all words, with `|` between them, are in its head.
    pub fn start(folder: &Path, answers: Vec<(String, Answer)>) -> Self {
        let mut tls = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        tls.set_certificate_chain_file(folder.join("tls.pem")).unwrap();
        tls.set_private_key_file(folder.join("tls.key"), SslFiletype::PEM).unwrap();
        let (tls, answers) = (Arc::new(tls.build()), Arc::new(answers));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = format!("localhost:{}", listener.local_addr().unwrap().port());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        let sent = Arc::new(AtomicU64::new(0));
        let counted = sent.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (tls, answers, heard) = (tls.clone(), answers.clone(), heard.clone());
                let sent = counted.clone();
                thread::spawn(move || {
                    let Ok(mut stream) = tls.accept(socket) else { return };
                    while let Some(request) = request(&mut stream) {
                        let fits = |needles: &str| needles.split('|').all(|n| request.contains(n));
                        let found = answers.iter().find(|(needles, _)| fits(needles));
                        heard.lock().unwrap().push(request.clone());
                        let found = found.map(|(_, answer)| answer);
                        if answer(&mut stream, found, &sent).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { host, asked, sent }
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// How many bytes were taken of what has no end.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The requests so far, with their headers.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
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

fn answer(to: &mut impl Write, answer: Option<&Answer>, sent: &AtomicU64) -> std::io::Result<()> {
    match answer {
        None => write!(to, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
        Some(Answer::Status(status, header)) => {
            write!(to, "HTTP/1.1 {status}\r\n{header}\r\ncontent-length: 0\r\n\r\n")
        }
        Some(Answer::Whole(bytes)) => {
            write!(to, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len())?;
            to.write_all(bytes)
        }
        Some(Answer::Silence) => {
            write!(to, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{{")?;
            // Until the other end gives up: the stream stays open as long as this thread.
            to.flush()?;
            loop {
                thread::park();
            }
        }
        Some(Answer::Dribble) => {
            write!(to, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")?;
            (0..1000).try_for_each(|_| {
                thread::sleep(Duration::from_millis(50));
                to.write_all(b" ")?;
                to.flush()
            })
        }
        Some(Answer::Endless(told)) => {
            let length = match told {
                Some(told) => format!("content-length: {told}"),
                None => "connection: close".into(),
            };
            write!(to, "HTTP/1.1 200 OK\r\n{length}\r\n\r\n")?;
            // Ten gibibytes, if they are taken.
            let block = vec![b' '; 1 << 20];
            (0..10 << 10).try_for_each(|_| {
                to.write_all(&block)?;
                sent.fetch_add(block.len() as u64, Ordering::Relaxed);
                Ok(())
            })
        }
    }
}

/// The digest of bytes, as references have it.
pub fn digest(bytes: &[u8]) -> String {
    let digits: String = sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// A manifest of a module's artifact, with a file of that digest and size.
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
