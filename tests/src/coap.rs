//! A CoAP client of the TS-0008 binding, over DTLS of the OpenSSL library. It encodes and decodes
//! messages by itself.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use openssl::ssl::{
    ErrorCode, Ssl, SslContext, SslContextBuilder, SslFiletype, SslMethod, SslStream,
    SslVerifyMode, SslVersion,
};
use serde_json::Value;

use crate::certificates::Identity;
use crate::client::Credential;
use crate::light::bytes;
use crate::process::BOUND;

/// The suite that TS-0003 mandates for constrained devices, as a cipher list of OpenSSL.
pub const CCM_8: &str = "PSK-AES128-CCM8:@SECLEVEL=0";

/// The one for certificates.
const CERTIFICATE_CCM_8: &str = "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0";

/// Numbers of options.
const URI_PATH: u16 = 11;
pub(crate) const CONTENT_FORMAT: u16 = 12;
pub(crate) const FROM: u16 = 279;
pub(crate) const REQUEST_ID: u16 = 283;
const RELEASE: u16 = 271;
pub(crate) const RESOURCE_TYPE: u16 = 267;
const STATUS: u16 = 307;

/// Types of messages.
const CONFIRMABLE: u8 = 0;
const ACKNOWLEDGEMENT: u8 = 2;

/// Time until a request is repeated.
const REPEAT: Duration = Duration::from_millis(500);

/// A message of CoAP. Nothing is validated or corrected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CoapMessage {
    /// 0 for CON, 1 for NON, 2 for ACK, 3 for RST.
    pub kind: u8,
    /// Class and detail, such as 0x45 for 2.05.
    pub code: u8,
    /// Message ID.
    pub id: u16,
    /// Token.
    pub token: Vec<u8>,
    /// Options by number, in any order.
    pub options: Vec<(u16, Vec<u8>)>,
    /// Payload.
    pub payload: Vec<u8>,
}

impl CoapMessage {
    /// Returns a confirmable request without options.
    pub fn new(code: u8) -> Self {
        Self { code, ..Self::default() }
    }

    /// Returns a request to a path with an originator.
    pub fn request(code: u8, path: &str, from: &str, id: &str) -> Self {
        let segments = path.split('/');
        let request = segments.fold(Self::new(code), |r, s| r.option(URI_PATH, s));
        request.option(FROM, from).option(REQUEST_ID, id).option(RELEASE, "3")
    }

    /// Returns a retrieve request.
    pub fn retrieve(path: &str, from: &str) -> Self {
        Self::request(1, path, from, "r")
    }

    /// Returns a create request for a resource of the type `ty`.
    pub fn create(path: &str, from: &str, ty: u8, content: &Value) -> Self {
        Self::request(2, path, from, "c").option(RESOURCE_TYPE, [ty]).content(content)
    }

    /// Adds an option.
    pub fn option(mut self, number: u16, value: impl AsRef<[u8]>) -> Self {
        self.options.push((number, value.as_ref().to_vec()));
        self
    }

    /// Removes the options with a number.
    pub fn without(mut self, number: u16) -> Self {
        self.options.retain(|(n, _)| *n != number);
        self
    }

    /// Adds content in JSON.
    pub fn content(self, content: &Value) -> Self {
        let payload = content.to_string().into_bytes();
        Self { payload, ..self.option(CONTENT_FORMAT, [50]) }
    }

    /// Returns the value of an option.
    pub fn value(&self, number: u16) -> Option<&[u8]> {
        self.options.iter().find(|(n, _)| *n == number).map(|(_, value)| value.as_slice())
    }

    /// Returns the value of an option as a number.
    pub fn number(&self, number: u16) -> Option<u32> {
        let value = self.value(number)?;
        Some(value.iter().fold(0, |all, byte| all << 8 | u32::from(*byte)))
    }

    /// Returns the Response Status Code.
    pub fn rsc(&self) -> Option<u32> {
        self.number(STATUS)
    }

    /// Returns the payload as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Checks the code and the Response Status Code.
    #[track_caller]
    pub fn expect(self, code: u8, rsc: u32) -> Self {
        let text = String::from_utf8_lossy(&self.payload);
        assert_eq!((self.code, self.rsc()), (code, Some(rsc)), "{text} {self:?}");
        self
    }

    /// Returns the bytes of the message.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u8::try_from(self.token.len()).expect("a short token");
        let mut out = vec![1 << 6 | self.kind << 4 | length, self.code];
        out.extend(self.id.to_be_bytes());
        out.extend(&self.token);
        let mut options = self.options.clone();
        options.sort_by_key(|(number, _)| *number);
        let mut former = 0;
        for (number, value) in options {
            let (delta, delta_rest) = nibble(number - former);
            let (length, length_rest) = nibble(u16::try_from(value.len()).expect("it is short"));
            out.push(delta << 4 | length);
            out.extend(delta_rest.into_iter().chain(length_rest).chain(value));
            former = number;
        }
        if !self.payload.is_empty() {
            out.push(0xFF);
            out.extend(&self.payload);
        }
        out
    }

    /// Parses a message.
    #[track_caller]
    pub fn parse(bytes: &[u8]) -> Self {
        let token_end = 4 + usize::from(bytes[0] & 15);
        let mut message = Self {
            kind: bytes[0] >> 4 & 3,
            code: bytes[1],
            id: u16::from_be_bytes([bytes[2], bytes[3]]),
            token: bytes[4..token_end].to_vec(),
            ..Self::default()
        };
        let (mut rest, mut number) = (&bytes[token_end..], 0);
        while let [first, behind @ ..] = rest {
            rest = behind;
            if *first == 0xFF {
                message.payload = rest.to_vec();
                break;
            }
            number += extended(first >> 4, &mut rest);
            let length = usize::from(extended(first & 15, &mut rest));
            let (value, behind) = rest.split_at(length);
            message.options.push((number, value.to_vec()));
            rest = behind;
        }
        message
    }
}

fn nibble(value: u16) -> (u8, Vec<u8>) {
    match value {
        0..13 => (value.to_be_bytes()[1], Vec::new()),
        13..269 => (13, vec![(value - 13).to_be_bytes()[1]]),
        _ => (14, (value - 269).to_be_bytes().to_vec()),
    }
}

fn extended(nibble: u8, rest: &mut &[u8]) -> u16 {
    let (value, behind) = match nibble {
        13 => (u16::from(rest[0]) + 13, &rest[1..]),
        14 => (u16::from_be_bytes([rest[0], rest[1]]) + 269, &rest[2..]),
        small => (small.into(), *rest),
    };
    *rest = behind;
    value
}

/// A connected socket, of which each read and each write is a datagram.
#[derive(Debug)]
pub struct Datagrams(UdpSocket);

impl Read for Datagrams {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buffer)
    }
}

impl Write for Datagrams {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.send(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A light with an association over DTLS.
pub struct CoapLight {
    stream: SslStream<Datagrams>,
    next_id: u16,
    /// Messages that came while another was expected.
    others: Vec<CoapMessage>,
}

impl CoapLight {
    /// Connects to a local port with the suite for constrained devices.
    ///
    /// # Errors
    /// Fails if the handshake does not finish in time.
    pub fn connect(port: u16, credential: Credential<'_>) -> io::Result<Self> {
        Self::over(socket(port), credential, CCM_8, BOUND)
    }

    /// Connects over a socket with a cipher list of OpenSSL.
    ///
    /// # Errors
    /// Fails if the handshake does not finish in time.
    pub fn over(
        socket: UdpSocket,
        credential: Credential<'_>,
        suites: &str,
        bound: Duration,
    ) -> io::Result<Self> {
        let mut context = SslContext::builder(SslMethod::dtls_client())?;
        context.set_max_proto_version(Some(SslVersion::DTLS1_2))?;
        context.set_cipher_list(suites)?;
        let identity = [credential.identity.as_bytes(), b"\0"].concat();
        let key = bytes(credential.key);
        context.set_psk_client_callback(move |_, _, identity_out, key_out| {
            identity_out[..identity.len()].copy_from_slice(&identity);
            key_out[..key.len()].copy_from_slice(&key);
            Ok(key.len())
        });
        let mut ssl = Ssl::new(&context.build())?;
        ssl.set_connect_state();
        Self::handshake(ssl, socket, bound)
    }

    /// Connects with a certificate and the suite that TS-0003 mandates for it.
    ///
    /// # Errors
    /// Fails if the handshake is refused, or does not finish in time.
    pub fn with_certificate(socket: UdpSocket, identity: &Identity) -> io::Result<Self> {
        let mut context = SslContext::builder(SslMethod::dtls_client())?;
        context.set_max_proto_version(Some(SslVersion::DTLS1_2))?;
        context.set_cipher_list(CERTIFICATE_CCM_8)?;
        context.set_certificate_chain_file(&identity.chain)?;
        context.set_private_key_file(&identity.key, SslFiletype::PEM)?;
        let mut ssl = Ssl::new(&context.build())?;
        ssl.set_connect_state();
        Self::handshake(ssl, socket, BOUND)
    }

    fn handshake(ssl: Ssl, socket: UdpSocket, bound: Duration) -> io::Result<Self> {
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut stream = SslStream::new(ssl, Datagrams(socket))?;
        let start = Instant::now();
        loop {
            match stream.do_handshake() {
                Ok(()) => break,
                // The next call repeats the flight when it is time.
                Err(e) if e.code() == ErrorCode::WANT_READ => {}
                Err(e) => return Err(io::Error::other(e)),
            }
            if start.elapsed() > bound {
                return Err(ErrorKind::TimedOut.into());
            }
        }
        Ok(Self { stream, next_id: 1, others: Vec::new() })
    }

    /// Returns the socket.
    pub fn socket(&self) -> &UdpSocket {
        &self.stream.get_ref().0
    }

    /// Goes on from another port, as behind a NAT that has forgotten the former one.
    pub fn change_port(&mut self, to: UdpSocket) {
        to.set_read_timeout(Some(Duration::from_millis(100))).expect("it is set");
        self.stream.get_mut().0 = to;
    }

    /// Sends bytes as one message.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.ssl_write(bytes).expect("it is sent");
    }

    /// Sends a message.
    pub fn send(&mut self, message: &CoapMessage) {
        self.send_bytes(&message.bytes());
    }

    /// Receives a message within a time.
    ///
    /// # Errors
    /// Fails if the association has ended. Returns `None` if nothing has come.
    pub fn receive(&mut self, within: Duration) -> io::Result<Option<CoapMessage>> {
        if !self.others.is_empty() {
            return Ok(Some(self.others.remove(0)));
        }
        self.receive_next(within)
    }

    /// Receives a message that has not come yet.
    fn receive_next(&mut self, within: Duration) -> io::Result<Option<CoapMessage>> {
        let mut buffer = vec![0; 1 << 14];
        let start = Instant::now();
        loop {
            match self.stream.ssl_read(&mut buffer) {
                Ok(length) => return Ok(Some(CoapMessage::parse(&buffer[..length]))),
                Err(e) if e.code() == ErrorCode::WANT_READ => {}
                Err(e) => return Err(io::Error::other(e)),
            }
            if start.elapsed() > within {
                return Ok(None);
            }
        }
    }

    /// Returns a Message ID that was not used before.
    pub fn id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    /// Sends a confirmable request, repeats it until it is answered, and returns the response.
    ///
    /// # Errors
    /// Fails if the association ends, or the time limit passes.
    pub fn try_ask(&mut self, request: &CoapMessage) -> io::Result<CoapMessage> {
        let id = self.id();
        let token = id.to_be_bytes().to_vec();
        let request = CoapMessage { kind: CONFIRMABLE, id, token, ..request.clone() };
        let start = Instant::now();
        let mut sent_at = None::<Instant>;
        let mut is_acknowledged = false;
        while start.elapsed() < BOUND {
            if !is_acknowledged && sent_at.is_none_or(|at| at.elapsed() > REPEAT) {
                self.send(&request);
                sent_at = Some(Instant::now());
            }
            let next = self.receive_next(Duration::from_millis(100))?;
            let Some(message) = next else { continue };
            if message.kind == ACKNOWLEDGEMENT && message.code == 0 && message.id == id {
                is_acknowledged = true;
            } else if message.code >= 0x40 && message.token == request.token {
                if message.kind == CONFIRMABLE {
                    self.acknowledge(&message);
                }
                return Ok(message);
            } else if message.code >= 0x40 && message.kind == CONFIRMABLE {
                // A repetition of an earlier response.
                self.acknowledge(&message);
            } else if message.code > 0 && message.code < 0x20 {
                self.others.push(message);
                if self.others.len() > 16 {
                    self.others.remove(0);
                }
            }
        }
        Err(ErrorKind::TimedOut.into())
    }

    /// Sends a request and returns the response.
    #[track_caller]
    pub fn ask(&mut self, request: &CoapMessage) -> CoapMessage {
        self.try_ask(request).unwrap_or_else(|e| panic!("{e}: {request:?}"))
    }

    /// Acknowledges a message.
    pub fn acknowledge(&mut self, message: &CoapMessage) {
        let id = message.id;
        self.send(&CoapMessage { kind: ACKNOWLEDGEMENT, id, ..CoapMessage::default() });
    }

    /// Ends the association with close_notify.
    pub fn close(mut self) {
        let _ = self.stream.shutdown();
    }
}

/// An AE that accepts an association over DTLS from its registrar CSE.
pub struct ListeningCoapAe {
    socket: UdpSocket,
    context: SslContext,
}

impl ListeningCoapAe {
    /// Accepts clients with the key.
    pub fn with_key(credential: Credential<'_>) -> Self {
        let mut context = SslContext::builder(SslMethod::dtls_server()).expect("a context");
        context.set_cipher_list(CCM_8).expect("a suite");
        let (identity, key) = (credential.identity.as_bytes().to_vec(), bytes(credential.key));
        context.set_psk_server_callback(move |_, found, key_out| {
            assert_eq!(found, Some(&identity[..]));
            key_out[..key.len()].copy_from_slice(&key);
            Ok(key.len())
        });
        Self::start(context)
    }

    /// Presents a certificate, and accepts clients with a certificate of that authority.
    pub fn with_certificate(identity: &Identity, authority: &Path) -> Self {
        let context = SslContext::builder(SslMethod::dtls_server()).and_then(|mut context| {
            context.set_max_proto_version(Some(SslVersion::DTLS1_2))?;
            context.set_cipher_list(CERTIFICATE_CCM_8)?;
            context.set_certificate_chain_file(&identity.chain)?;
            context.set_private_key_file(&identity.key, SslFiletype::PEM)?;
            context.set_ca_file(authority)?;
            context.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
            Ok(context)
        });
        Self::start(context.expect("a context"))
    }

    fn start(context: SslContextBuilder) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        Self { socket, context: context.build() }
    }

    /// Returns the address for `poa`.
    pub fn url(&self) -> String {
        let port = self.socket.local_addr().expect("it is bound").port();
        format!("coaps://127.0.0.1:{port}/told")
    }

    /// Performs the handshake of the first client.
    ///
    /// # Errors
    /// Fails if the handshake does not finish in time.
    pub fn accept(self, bound: Duration) -> io::Result<CoapLight> {
        self.socket.set_read_timeout(Some(bound))?;
        let (_, peer) = self.socket.peek_from(&mut [0; 1])?;
        self.socket.connect(peer)?;
        let mut ssl = Ssl::new(&self.context)?;
        ssl.set_accept_state();
        CoapLight::handshake(ssl, self.socket, bound)
    }
}

/// Returns the first ClientHello of a client.
pub fn first_flight(credential: Credential<'_>) -> Vec<u8> {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = server.local_addr().expect("it is bound").port();
    let refused = CoapLight::over(socket(port), credential, CCM_8, Duration::ZERO);
    assert!(refused.is_err(), "nobody answers");
    let mut buffer = vec![0; 1500];
    let length = server.recv(&mut buffer).expect("a ClientHello");
    buffer.truncate(length);
    buffer
}

/// Returns the second ClientHello of a handshake, with the cookie of a HelloVerifyRequest.
///
/// # Panics
/// Panics if the messages are not those of the OpenSSL library.
pub fn hello_with_cookie(hello: &[u8], request: &[u8]) -> Vec<u8> {
    // Behind the headers of record and message, the version and the length.
    let cookie = &request[28..];
    // Behind the headers, version, random value and an empty session ID is the empty cookie.
    let length = u8::try_from(cookie.len()).expect("a short cookie");
    let mut second = [&hello[..60], &[length], cookie, &hello[61..]].concat();
    // The sequence numbers of the record and of the message.
    (second[10], second[18]) = (1, 1);
    // The lengths of the record, the message and its fragment.
    for at in [11, 15, 23] {
        let field = u16::from_be_bytes([second[at], second[at + 1]]) + u16::from(length);
        second[at..at + 2].copy_from_slice(&field.to_be_bytes());
    }
    second
}

/// Returns a new socket that is connected to a local port.
pub fn socket(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    socket.connect((Ipv4Addr::LOCALHOST, port)).expect("it is local");
    socket
}
