//! An AE that waits for its registrar to come: `openssl s_server`, which takes what comes, and says
//! what a suite has it say.

use std::process::Command;

use crate::certificates::Identity;
use crate::client::Credential;
use crate::http::Message;
use crate::process::{BOUND, Running};

/// The AE.
pub struct ListeningAe {
    running: Running,
    port: u16,
    /// Where in its output the next request starts.
    at: usize,
}

impl ListeningAe {
    /// Takes whoever has the key, with the mandated suite and no other.
    pub fn with_key(credential: Credential<'_>) -> Self {
        let Credential { identity, key } = credential;
        Self::start(&[
            "-nocert",
            "-tls1_2",
            "-cipher",
            "PSK-AES128-CBC-SHA256",
            "-psk_identity",
            identity,
            "-psk",
            key,
        ])
    }

    /// Shows a certificate, and takes whoever shows one by that authority.
    pub fn with_certificate(identity: &Identity, authority: &std::path::Path) -> Self {
        let text = |path: &std::path::Path| path.to_str().expect("a plain name").to_string();
        let (certificate, key) = (text(&identity.certificate), text(&identity.key));
        let authority = text(authority);
        let mut words = vec!["-cert", &certificate, "-key", &key];
        let issuers = identity.issuers.as_deref().map(text);
        if let Some(issuers) = &issuers {
            words.extend(["-cert_chain", issuers]);
        }
        words.extend(["-CAfile", &authority, "-Verify", "5", "-verify_return_error"]);
        Self::start(&words)
    }

    fn start(words: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0"]).args(words);
        let running = Running::start(&mut command);
        let port = running.out.wait(BOUND, |bytes, ended| {
            let text = String::from_utf8_lossy(bytes);
            let line = text.lines().find_map(|line| line.strip_prefix("ACCEPT "))?;
            assert!(!ended, "it has ended: {text}");
            line.rsplit_once(':')?.1.parse().ok()
        });
        let port = port.unwrap_or_else(|| panic!("it does not listen: {}", running.err.text()));
        Self { running, port, at: 0 }
    }

    /// Its address, for `poa`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}/told", self.port)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the next request.
    #[track_caller]
    pub fn request(&mut self) -> Message {
        let at = self.at;
        let read = self.running.out.wait(BOUND, |bytes, _| {
            let start = at + bytes[at..].windows(5).position(|w| w == b"POST ")?;
            let (message, length) = Message::read(&bytes[start..])?;
            Some((message, start + length))
        });
        let (message, end) = read.unwrap_or_else(|| panic!("nothing came: {}", self.said()));
        self.at = end;
        message
    }

    /// Answers a request, with further header fields.
    pub fn answer(&mut self, request: &Message, rsc: u16, fields: &str) {
        let id = request.values("x-m2m-ri").concat();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nX-M2M-RSC: {rsc}\r\nX-M2M-RI: {id}\r\n{fields}Content-Length: 0\r\n\r\n"
        );
        self.running.write(answer.as_bytes());
    }

    /// All that it has said.
    pub fn said(&self) -> String {
        format!("{}{}", self.running.out.text(), self.running.err.text())
    }

    /// How many associations there were.
    pub fn associations(&self) -> usize {
        self.said().matches("\nCIPHER is ").count()
    }

    /// Whether any request has come.
    pub fn has_been_asked(&self) -> bool {
        self.said().contains("POST ")
    }
}
