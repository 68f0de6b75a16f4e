//! Clients from other projects: the command lines of OpenSSL and GnuTLS, and Python's TLS.

use std::process::Command;

use crate::http::{Message, Request, Response};
use crate::process::{BOUND, Running};

/// A client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `openssl s_client`.
    OpenSsl,
    /// `gnutls-cli`.
    GnuTls,
}

/// A KpsaID, and its Kpsa in hexadecimal digits.
#[derive(Debug, Clone, Copy)]
pub struct Credential<'a> {
    /// The KpsaID, which the client sends as psk_identity.
    pub identity: &'a str,
    /// The Kpsa.
    pub key: &'a str,
}

/// Light 1 of the worked example, `Clight-AE1`.
pub const LIGHT1: Credential<'static> =
    Credential { identity: "AE123456789012-Light@in.provider.com", key: "1a2b3c4d5e6f7a8b" };

/// Light 2 of the worked example, `Clight-AE2`.
pub const LIGHT2: Credential<'static> =
    Credential { identity: "AE123456789015-Light@in.provider.com", key: "12345678abcdefab" };

/// The cipher suite that a client offers in its ClientHello.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// The registered name of the suite.
    pub suite: &'static str,
    /// OpenSSL's cipher list.
    pub openssl: &'static str,
    /// The part of GnuTLS's priority string that follows TLS 1.2 without any key exchange.
    pub gnutls: &'static str,
    /// GnuTLS's description of the negotiated session.
    pub described: &'static str,
}

impl Offer {
    /// Only the suite that TS-0003 mandates, TLS_PSK_WITH_AES_128_CBC_SHA256.
    pub const MANDATED: Self = Self {
        suite: "TLS_PSK_WITH_AES_128_CBC_SHA256",
        openssl: "PSK-AES128-CBC-SHA256",
        gnutls: "+PSK:-CIPHER-ALL:+AES-128-CBC:-MAC-ALL:+SHA256",
        described: "(PSK)-(AES-128-CBC)-(SHA256)",
    };

    /// Only TLS_PSK_WITH_AES_128_GCM_SHA256.
    pub const GCM: Self = Self {
        suite: "TLS_PSK_WITH_AES_128_GCM_SHA256",
        openssl: "PSK-AES128-GCM-SHA256",
        gnutls: "+PSK:-CIPHER-ALL:+AES-128-GCM:-MAC-ALL:+AEAD",
        described: "(PSK)-(AES-128-GCM)",
    };
}

/// A failed handshake.
#[derive(Debug)]
pub struct RefusedHandshake {
    /// The number of the fatal alert that arrived.
    pub alert: Option<u8>,
    /// The whole output of the client.
    pub output: String,
}

impl RefusedHandshake {
    /// Waits for the exit of a refused client.
    fn of(mut running: Running) -> Self {
        running.wait(BOUND).expect("a client that was refused ends");
        let whole = |_: &[u8], ended: bool| ended.then_some(());
        running.out.wait(BOUND, whole);
        running.err.wait(BOUND, whole);
        let said = format!("{}{}", running.out.text(), running.err.text());
        Self { alert: alert(&said), output: said }
    }
}

impl Tool {
    /// Returns the arguments that make the tool offer only this suite.
    fn offers(self, offer: Offer) -> Vec<String> {
        match self {
            Self::OpenSsl => {
                ["-tls1_2", "-cipher", offer.openssl, "-nocommands"].map(String::from).to_vec()
            }
            Self::GnuTls => {
                let priority = format!("NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:{}", offer.gnutls);
                vec!["--priority".into(), priority]
            }
        }
    }

    /// Returns the command that connects to a port.
    fn command(self, port: u16, credential: Option<Credential<'_>>) -> Command {
        let (program, names) = match self {
            Self::OpenSsl => ("openssl", ["-psk_identity", "-psk"]),
            Self::GnuTls => ("gnutls-cli", ["--pskusername", "--pskkey"]),
        };
        let mut command = Command::new(program);
        match self {
            Self::OpenSsl => {
                command.args(["s_client", "-brief", "-connect", &format!("127.0.0.1:{port}")]);
            }
            Self::GnuTls => {
                command.args(["127.0.0.1", "--port", &port.to_string()]);
            }
        }
        if let Some(Credential { identity, key }) = credential {
            command.args([names[0], identity, names[1], key]);
        }
        command
    }

    /// Connects with the mandated suite, and panics if the handshake fails.
    #[track_caller]
    pub fn connect(self, port: u16, credential: Credential<'_>) -> Client {
        match self.try_connect(port, credential, Offer::MANDATED) {
            Ok(client) => client,
            Err(refused) => panic!("{self:?} was refused as {}: {refused:?}", credential.identity),
        }
    }

    /// Connects with the mandated suite, panics if the gateway accepts the client, and returns the
    /// refusal.
    #[track_caller]
    pub fn refused(self, port: u16, credential: Credential<'_>) -> RefusedHandshake {
        match self.try_connect(port, credential, Offer::MANDATED) {
            Ok(_) => panic!("{self:?} was accepted as {}", credential.identity),
            Err(refused) => refused,
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// Returns how the gateway refused the handshake.
    pub fn try_connect(
        self,
        port: u16,
        credential: Credential<'_>,
        offer: Offer,
    ) -> Result<Client, RefusedHandshake> {
        let offers = self.offers(offer);
        let offers: Vec<_> = offers.iter().map(String::as_str).collect();
        self.try_with(port, Some(credential), &offers)
    }

    /// Connects with additional arguments for the client.
    ///
    /// # Errors
    /// Returns how the gateway refused the handshake.
    pub fn try_with(
        self,
        port: u16,
        credential: Option<Credential<'_>>,
        arguments: &[&str],
    ) -> Result<Client, RefusedHandshake> {
        let running = Running::start(self.command(port, credential).args(arguments));
        Client::established(self, running)
    }
}

/// Script of the Python client. It reports its outcome like `openssl s_client`.
const PYTHON: &str = include_str!("client.py");

/// Connects with Python. The arguments are those of its script.
///
/// # Errors
/// Returns how the gateway refused the handshake.
pub(crate) fn python(arguments: &[&str]) -> Result<Client, RefusedHandshake> {
    let mut command = Command::new("python3");
    let running = Running::start(command.args(["-c", PYTHON]).args(arguments));
    Client::established(Tool::OpenSsl, running)
}

/// A client with an association.
pub struct Client {
    running: Running,
    /// Offset of the next response in the output.
    at: usize,
    described: String,
}

/// The line that GnuTLS prints before the first byte of application data.
const GNUTLS_READY: &str = "- Simple Client Mode:\n\n";

impl Client {
    /// Waits for the outcome of the handshake.
    fn established(tool: Tool, running: Running) -> Result<Self, RefusedHandshake> {
        let output = match tool {
            Tool::OpenSsl => &running.err,
            Tool::GnuTls => &running.out,
        };
        // The offset of the first response, and the client's description of the session.
        let outcome = output.wait(BOUND, |bytes, ended| {
            let text = String::from_utf8_lossy(bytes);
            let line = |start: &str| {
                let (_, rest) = text.split_once(start)?;
                rest.split_once('\n').map(|(line, _)| line.to_string())
            };
            let found = match tool {
                Tool::OpenSsl => line("Ciphersuite: ").map(|suite| (0, suite)),
                Tool::GnuTls => text
                    .find(GNUTLS_READY)
                    .map(|at| (at + GNUTLS_READY.len(), line("Description: ").unwrap_or_default())),
            };
            if found.is_none() && !ended { None } else { Some(found) }
        });
        match outcome {
            Some(Some((at, described))) => Ok(Self { running, at, described }),
            Some(None) => Err(RefusedHandshake::of(running)),
            None => panic!(
                "{tool:?} neither connected nor failed: {}{}",
                running.out.text(),
                running.err.text()
            ),
        }
    }

    /// Returns the client's description of the session: the suite's name for OpenSSL, its parts for
    /// GnuTLS.
    pub fn described(&self) -> &str {
        &self.described
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.running.write(bytes);
    }

    /// Reads one response. Returns `None` if the association ends before the response is complete.
    pub fn try_read(&mut self) -> Option<Response> {
        self.try_read_by(Message::read)
    }

    /// Reads the response to a HEAD request, which has no content in spite of its header.
    pub fn try_read_head(&mut self) -> Option<Response> {
        self.try_read_by(Message::read_head)
    }

    fn try_read_by(
        &mut self,
        reader: impl Fn(&[u8]) -> Option<(Message, usize)>,
    ) -> Option<Response> {
        let at = self.at;
        let read = self.running.out.wait(BOUND, |bytes, ended| {
            let message = reader(&bytes[at..]);
            if message.is_none() && !ended { None } else { Some(message) }
        });
        let (message, length) = read.unwrap_or_else(|| panic!("no response: {}", self.said()))?;
        self.at += length;
        Some(Response::new(message))
    }

    /// Reads one response.
    #[track_caller]
    pub fn read(&mut self) -> Response {
        match self.try_read() {
            Some(response) => response,
            None => panic!("the association ended: {}", self.said()),
        }
    }

    /// Asserts that the gateway serves the client as this originator.
    #[track_caller]
    pub fn assert_served_as(&mut self, from: &str) {
        self.ask(&Request::retrieve("/cse/nothing").from(from)).expect_refusal(404, 4004);
    }

    /// Sends a request and reads the response, which must repeat the request identifier.
    #[track_caller]
    pub fn ask(&mut self, request: &Request) -> Response {
        self.send(&request.bytes());
        let response = self.read();
        assert_eq!(response.header("x-m2m-ri").unwrap_or_default(), request.id(), "{response:?}");
        response
    }

    /// Returns whether the client process still runs.
    pub fn runs(&mut self) -> bool {
        self.running.runs()
    }

    /// Waits until the gateway has ended the association. Returns the output that was not read yet.
    pub fn ended(&mut self) -> String {
        let ended = self.running.wait(BOUND);
        assert!(ended.is_some(), "the gateway has not ended the association: {}", self.said());
        self.running.out.wait(BOUND, |_, ended| ended.then_some(()));
        self.running.out.text()[self.at..].to_string()
    }

    /// Waits until the gateway has rejected the client. A client of TLS 1.3 completes its handshake
    /// before the gateway has verified the certificate, and receives the alert afterwards.
    #[track_caller]
    pub fn rejected_after_handshake(self) -> RefusedHandshake {
        assert_eq!(
            self.running.out.text()[self.at..].find("HTTP/"),
            None,
            "the client got a response"
        );
        RefusedHandshake::of(self.running)
    }

    /// Closes the client's input, and waits for its exit.
    pub fn close(mut self) {
        self.running.close_input();
        assert!(self.running.wait(BOUND).is_some(), "the client does not exit: {}", self.said());
    }

    /// Returns the rest of the line with this prefix that OpenSSL prints about the session. The
    /// line goes to standard error, so it may arrive after the responses.
    pub fn session_line(&self, start: &str) -> String {
        let line = self.running.err.wait(BOUND, |bytes, _| {
            let text = String::from_utf8_lossy(bytes);
            let (_, rest) = text.split_once(start)?;
            rest.split_once('\n').map(|(line, _)| line.to_string())
        });
        line.unwrap_or_else(|| panic!("no {start:?}: {}", self.said()))
    }

    /// Returns the client's whole output so far.
    pub fn said(&self) -> String {
        format!("{}{}", self.running.out.text(), self.running.err.text())
    }
}

/// Returns the number of the fatal alert that a client printed.
fn alert(said: &str) -> Option<u8> {
    ["SSL alert number ", "Received alert ["].iter().find_map(|start| {
        let (_, rest) = said.split_once(start)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    })
}
