//! An AE that accepts connections from its registrar CSE, or a MAF: `openssl s_server`, with responses
//! from the test.

use std::process::Command;

use crate::certificates::Identity;
use crate::client::Credential;
use crate::http::Message;
use crate::process::{BOUND, Running};

/// The AE.
pub struct ListeningAe {
    running: Running,
    port: u16,
    /// Offset of the next request in the output.
    at: usize,
}

impl ListeningAe {
    /// Accepts clients with the key, with the mandated suite only.
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

    /// Presents a certificate, and accepts clients with a certificate of that authority.
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
            assert!(!ended, "the server has exited: {text}");
            line.rsplit_once(':')?.1.parse().ok()
        });
        let port = port.unwrap_or_else(|| panic!("it does not listen: {}", running.err.text()));
        Self { running, port, at: 0 }
    }

    /// Returns the address for `poa`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}/told", self.port)
    }

    /// Returns the listening port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the next request, which is a notification.
    #[track_caller]
    pub fn request(&mut self) -> Message {
        self.request_with("POST")
    }

    /// Waits for the next request with a method.
    #[track_caller]
    pub fn request_with(&mut self, method: &str) -> Message {
        let (at, first) = (self.at, format!("{method} "));
        let read = self.running.out.wait(BOUND, |bytes, _| {
            let mut windows = bytes[at..].windows(first.len());
            let start = at + windows.position(|w| w == first.as_bytes())?;
            let (message, length) = Message::read(&bytes[start..])?;
            Some((message, start + length))
        });
        let (message, end) = read.unwrap_or_else(|| panic!("no request: {}", self.said()));
        self.at = end;
        message
    }

    /// Sends a response with additional header fields.
    pub fn answer(&mut self, request: &Message, rsc: u16, fields: &str) {
        let id = request.values("x-m2m-ri").concat();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nX-M2M-RSC: {rsc}\r\nX-M2M-RI: {id}\r\n{fields}Content-Length: 0\r\n\r\n"
        );
        self.running.write(answer.as_bytes());
    }

    /// Sends a response with a content.
    pub fn answer_with(&mut self, request: &Message, rsc: u16, content: &str) {
        let id = request.values("x-m2m-ri").concat();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nX-M2M-RSC: {rsc}\r\nX-M2M-RI: {id}\r\nX-M2M-RVI: 3\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{content}",
            content.len()
        );
        self.running.write(answer.as_bytes());
    }

    /// Returns the whole output.
    pub fn said(&self) -> String {
        format!("{}{}", self.running.out.text(), self.running.err.text())
    }

    /// Returns the number of associations so far.
    pub fn associations(&self) -> usize {
        self.said().matches("\nCIPHER is ").count()
    }

    /// Returns whether a request has arrived.
    pub fn has_received_request(&self) -> bool {
        self.said().contains("POST ")
    }
}
