//! CoAP clients of other projects: `tests/clients`.

use std::env;
use std::fmt::Write as _;
use std::process::Command;

use serde_json::Value;

use crate::client::Credential;
use crate::coap::CoapMessage;
use crate::command_line::{CommandOutput, to_end};
use crate::light::bytes;
use crate::paths;
use crate::process::{BOUND, Running};

/// Returns a script for the Python with CoAP clients, or `None` if `cargo xtask test` found no suitable
/// Python. It prints the reason, and passes it on in `SAEGIS_COAP_CLIENTS_SKIPPED`.
fn python(script: &str) -> Option<Command> {
    if let Ok(reason) = env::var("SAEGIS_COAP_CLIENTS_SKIPPED") {
        eprintln!("{reason}");
        return None;
    }
    let mut command = Command::new(paths::clients().join("coap/bin/python"));
    command.arg("-I").arg(paths::repository().join("tests/clients").join(script));
    Some(command)
}

/// Runs the light of aiocoap until it ends, if it is installed.
pub fn aiocoap(settings: &Value) -> Option<CommandOutput> {
    Some(to_end(python("coap.py")?.arg(settings.to_string())))
}

/// A library with DTLS and without CoAP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsLibrary {
    /// Mbed TLS 3.5 in C, which offers a Connection ID.
    MbedTls,
    /// Python-mbedtls with Mbed TLS 2.28.
    PythonMbedTls,
}

impl DtlsLibrary {
    /// All libraries.
    pub const ALL: [Self; 2] = [Self::MbedTls, Self::PythonMbedTls];

    /// Connects to a local port. Returns `None` if the library is not installed.
    ///
    /// # Errors
    /// Returns the output of the client if the handshake fails.
    pub fn connect(
        self,
        port: u16,
        credential: Credential<'_>,
    ) -> Option<Result<DtlsClient, String>> {
        let mut command = match self {
            Self::MbedTls => Command::new(paths::clients().join("mbedtls/datagrams")),
            Self::PythonMbedTls => python("datagrams.py")?,
        };
        command.args([&port.to_string(), credential.identity, credential.key]);
        let mut client = DtlsClient { running: Running::start(&mut command), lines: 0 };
        Some(match client.next_line() {
            Some(suite) if suite == "TLS-PSK-WITH-AES-128-CCM-8" => Ok(client),
            _ => Err(client.running.out.text() + &client.running.err.text()),
        })
    }
}

/// A client of another library with an association. The test encodes the messages of CoAP.
pub struct DtlsClient {
    running: Running,
    /// Lines of its output that have been read.
    lines: usize,
}

impl DtlsClient {
    fn next_line(&mut self) -> Option<String> {
        let at = self.lines;
        let line = self.running.out.wait(BOUND, |output, ended| {
            let text = String::from_utf8_lossy(output);
            let line = text.split_inclusive('\n').nth(at).filter(|line| line.ends_with('\n'));
            (line.is_some() || ended).then(|| line.map(|line| line.trim_end().to_string()))
        });
        self.lines += 1;
        line.flatten()
    }

    /// Sends a confirmable request, and returns the response.
    #[track_caller]
    pub fn ask(&mut self, request: &CoapMessage) -> CoapMessage {
        let id = u16::try_from(self.lines).expect("it has few lines");
        let request = CoapMessage { id, token: vec![7], ..request.clone() };
        let mut line = request.bytes().iter().fold(String::new(), |mut line, byte| {
            let _ = write!(line, "{byte:02x}");
            line
        });
        line.push('\n');
        self.running.write(line.as_bytes());
        loop {
            let answer = self.next_line();
            let answer = answer.unwrap_or_else(|| panic!("{}", self.running.err.text()));
            let answer = CoapMessage::parse(&bytes(&answer));
            // Another one may be an acknowledgment without a response.
            if answer.code != 0 {
                return answer;
            }
        }
    }
}
