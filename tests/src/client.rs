//! Clients that this project did not write: the command lines of OpenSSL and GnuTLS, and the TLS of
//! Python.

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

/// A KpsaID and its Kpsa in hexadecimal digits.
#[derive(Debug, Clone, Copy)]
pub struct Credential<'a> {
    /// The KpsaID: what the client sends as psk_identity.
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

/// What a client offers in its ClientHello.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// The registered name of the suite.
    pub suite: &'static str,
    /// OpenSSL's cipher list.
    pub openssl: &'static str,
    /// What GnuTLS's priority string adds to TLS 1.2 without any key exchange.
    pub gnutls: &'static str,
    /// How GnuTLS describes the session that comes of it.
    pub described: &'static str,
}

impl Offer {
    /// The suite that TS-0003 mandates, TLS_PSK_WITH_AES_128_CBC_SHA256, and no other.
    pub const MANDATED: Self = Self {
        suite: "TLS_PSK_WITH_AES_128_CBC_SHA256",
        openssl: "PSK-AES128-CBC-SHA256",
        gnutls: "+PSK:-CIPHER-ALL:+AES-128-CBC:-MAC-ALL:+SHA256",
        described: "(PSK)-(AES-128-CBC)-(SHA256)",
    };

    /// TLS_PSK_WITH_AES_128_GCM_SHA256, and no other.
    pub const GCM: Self = Self {
        suite: "TLS_PSK_WITH_AES_128_GCM_SHA256",
        openssl: "PSK-AES128-GCM-SHA256",
        gnutls: "+PSK:-CIPHER-ALL:+AES-128-GCM:-MAC-ALL:+AEAD",
        described: "(PSK)-(AES-128-GCM)",
    };
}

/// A handshake that came to nothing.
#[derive(Debug)]
pub struct Refused {
    /// The fatal alert that came, by its number.
    pub alert: Option<u8>,
    /// All that the client said.
    pub said: String,
}

impl Refused {
    /// Waits for the end of a client that has nothing more to wait for.
    fn of(mut running: Running) -> Self {
        running.wait(BOUND).expect("a client that was refused ends");
        let whole = |_: &[u8], ended: bool| ended.then_some(());
        running.out.wait(BOUND, whole);
        running.err.wait(BOUND, whole);
        let said = format!("{}{}", running.out.text(), running.err.text());
        Self { alert: alert(&said), said }
    }
}

impl Tool {
    /// What it is given to offer this and nothing else.
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

    /// The command that connects to a port.
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

    /// Connects with the mandated suite, which must work.
    #[track_caller]
    pub fn connect(self, port: u16, credential: Credential<'_>) -> Client {
        match self.try_connect(port, credential, Offer::MANDATED) {
            Ok(client) => client,
            Err(refused) => panic!("{self:?} was refused as {}: {refused:?}", credential.identity),
        }
    }

    /// Connects with the mandated suite, which must not work, and tells how it was refused.
    #[track_caller]
    pub fn refused(self, port: u16, credential: Credential<'_>) -> Refused {
        match self.try_connect(port, credential, Offer::MANDATED) {
            Ok(_) => panic!("{self:?} was let in as {}", credential.identity),
            Err(refused) => refused,
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// How the handshake was refused.
    pub fn try_connect(
        self,
        port: u16,
        credential: Credential<'_>,
        offer: Offer,
    ) -> Result<Client, Refused> {
        let offers = self.offers(offer);
        let offers: Vec<_> = offers.iter().map(String::as_str).collect();
        self.try_with(port, Some(credential), &offers)
    }

    /// Connects with arguments of the client's own.
    ///
    /// # Errors
    /// How the handshake was refused.
    pub fn try_with(
        self,
        port: u16,
        credential: Option<Credential<'_>>,
        arguments: &[&str],
    ) -> Result<Client, Refused> {
        let running = Running::start(self.command(port, credential).args(arguments));
        Client::established(self, running)
    }
}

/// What a script says and does that tells its outcome as `openssl s_client` does.
const PYTHON: &str = include_str!("client.py");

/// Connects with Python, by the arguments that its script takes.
///
/// # Errors
/// How the handshake was refused.
pub(crate) fn python(arguments: &[&str]) -> Result<Client, Refused> {
    let mut command = Command::new("python3");
    let running = Running::start(command.args(["-c", PYTHON]).args(arguments));
    Client::established(Tool::OpenSsl, running)
}

/// A client with an association.
pub struct Client {
    running: Running,
    /// Where in its output the next answer starts.
    at: usize,
    described: String,
}

/// What GnuTLS writes before the first byte that comes over the association.
const GNUTLS_READY: &str = "- Simple Client Mode:\n\n";

impl Client {
    /// Waits for the handshake's outcome.
    fn established(tool: Tool, running: Running) -> Result<Self, Refused> {
        let output = match tool {
            Tool::OpenSsl => &running.err,
            Tool::GnuTls => &running.out,
        };
        // Where the answers start, and what the client says of the session.
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
            Some(None) => Err(Refused::of(running)),
            None => panic!(
                "{tool:?} neither connected nor gave up: {}{}",
                running.out.text(),
                running.err.text()
            ),
        }
    }

    /// How the client describes the session: OpenSSL by the suite's name, GnuTLS by its parts.
    pub fn described(&self) -> &str {
        &self.described
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.running.write(bytes);
    }

    /// Reads one answer; `None` when the association ends before it is whole.
    pub fn try_read(&mut self) -> Option<Response> {
        self.try_read_by(Message::read)
    }

    /// Reads the answer to a HEAD, which has no content whatever its header says.
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
        let (message, length) = read.unwrap_or_else(|| panic!("no answer: {}", self.said()))?;
        self.at += length;
        Some(Response::new(message))
    }

    /// Reads one answer.
    #[track_caller]
    pub fn read(&mut self) -> Response {
        match self.try_read() {
            Some(response) => response,
            None => panic!("the association ended: {}", self.said()),
        }
    }

    /// Makes sure that it is served, as this originator.
    #[track_caller]
    pub fn alive(&mut self, from: &str) {
        self.ask(&Request::retrieve("/cse/nothing").from(from)).expect_refusal(404, 4004);
    }

    /// Sends a request and reads its answer, which must repeat the request identifier.
    #[track_caller]
    pub fn ask(&mut self, request: &Request) -> Response {
        self.send(&request.bytes());
        let response = self.read();
        assert_eq!(response.header("x-m2m-ri").unwrap_or_default(), request.id(), "{response:?}");
        response
    }

    /// Whether it still has its association.
    pub fn runs(&mut self) -> bool {
        self.running.runs()
    }

    /// Waits until the gateway has ended the association; what came and was not read is told.
    pub fn ended(&mut self) -> String {
        let ended = self.running.wait(BOUND);
        assert!(ended.is_some(), "the gateway has not ended the association: {}", self.said());
        self.running.out.wait(BOUND, |_, ended| ended.then_some(()));
        self.running.out.text()[self.at..].to_string()
    }

    /// Waits until the gateway has turned it away: a client of TLS 1.3 has its association before
    /// the gateway has seen what it shows, and is told after that.
    #[track_caller]
    pub fn turned_away(self) -> Refused {
        assert_eq!(self.running.out.text()[self.at..].find("HTTP/"), None, "it was answered");
        Refused::of(self.running)
    }

    /// Says that nothing more comes, and waits for the client's end.
    pub fn close(mut self) {
        self.running.close_input();
        assert!(self.running.wait(BOUND).is_some(), "the client goes on: {}", self.said());
    }

    /// The rest of the line with these words at its start that OpenSSL writes about the session. It
    /// comes another way than the answers, and may come behind them.
    pub fn told(&self, start: &str) -> String {
        let line = self.running.err.wait(BOUND, |bytes, _| {
            let text = String::from_utf8_lossy(bytes);
            let (_, rest) = text.split_once(start)?;
            rest.split_once('\n').map(|(line, _)| line.to_string())
        });
        line.unwrap_or_else(|| panic!("no {start:?}: {}", self.said()))
    }

    /// All that the client has written so far.
    pub fn said(&self) -> String {
        format!("{}{}", self.running.out.text(), self.running.err.text())
    }
}

/// The number of the fatal alert that a client tells of.
fn alert(said: &str) -> Option<u8> {
    ["SSL alert number ", "Received alert ["].iter().find_map(|start| {
        let (_, rest) = said.split_once(start)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    })
}
