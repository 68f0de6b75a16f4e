//! The first flight of a client: read completely, bounded, and classified by its cipher suites.

use tls_parser::{TlsExtension, TlsVersion, parse_tls_client_hello_extensions};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::refusal::Refusal;
use crate::suite::{CURRENT, MANDATED, TLS13, is_psk};

/// Maximum size of a first flight with its record headers, in bytes. The ClientHello of a browser
/// with one post-quantum key share has less than 2,000 bytes. One with three of them, ECH, tickets
/// and padding has less than 9,000 bytes, and six times as many in records of one byte.
pub const MAX_FLIGHT: usize = 64 << 10;
/// Length of a handshake message's header.
const MESSAGE_HEADER: usize = 4;
/// Maximum size of a record's content (RFC 5246 clause 6.2.1).
const MAX_RECORD: usize = 1 << 14;
/// Content types of records.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// Message type of a ClientHello.
const CLIENT_HELLO: u8 = 1;

/// Extensions of RFC 7250.
const CLIENT_CERTIFICATE_TYPE: u16 = 19;
const SERVER_CERTIFICATE_TYPE: u16 = 20;

/// The kind of credentials that a client offers, which selects the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// At least one suite with a pre-shared key, and TLS 1.2.
    Psk,
    /// Certificates only.
    Certificates,
}

/// The certificate-related part of a client's offer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Certificates {
    /// Whether the client offers TLS 1.3 and one of its suites.
    pub tls13: bool,
    /// Whether the client offers a suite of rustls: TLS 1.3, or TLS 1.2 with ECDHE and
    /// authenticated encryption.
    pub current: bool,
    /// Whether the client offers TLS 1.2 and a suite of TS-0003 clause 10.2.3 that rustls does not
    /// have: CBC or CCM.
    pub mandated: bool,
    /// Whether the client prefers to present a raw public key (RFC 7250) instead of a certificate.
    pub shows_key: bool,
    /// Whether the client prefers to receive a raw public key instead of a certificate.
    pub wants_key: bool,
    /// Whether the client offers a pre-shared key of TLS 1.3, and no PSK suite of TLS 1.2. The key
    /// belongs to a ticket of an earlier session, or is an external one, which is not supported.
    pub psk_of_tls13: bool,
}

/// A first flight with a valid ClientHello.
pub struct FirstFlight {
    bytes: Vec<u8>,
    hello: Hello,
}

/// The parsed ClientHello.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub offer: Offer,
    pub certificates: Certificates,
    pub server_name: Option<String>,
}

impl FirstFlight {
    /// Reads a first flight. The caller bounds the time.
    ///
    /// # Errors
    /// Returns an error if the flight is not a ClientHello of a supported version.
    pub async fn read(socket: &mut (impl AsyncRead + Unpin)) -> Result<Self, Refusal> {
        Self::read_after(Vec::new(), socket).await
    }

    /// Reads a first flight whose beginning has been read from the socket. The caller bounds the
    /// time.
    ///
    /// # Errors
    /// Returns an error if the flight is not a ClientHello of a supported version.
    pub async fn read_after(
        mut bytes: Vec<u8>,
        socket: &mut (impl AsyncRead + Unpin),
    ) -> Result<Self, Refusal> {
        bytes.reserve(1024);
        let mut assembly = Assembly::default();
        loop {
            if assembly.process(&bytes)? {
                return Ok(Self { hello: assembly.hello()?, bytes });
            }
            if bytes.len() >= MAX_FLIGHT {
                return Err(Refusal::TooLarge);
            }
            let remaining = (MAX_FLIGHT - bytes.len()) as u64;
            let read = (&mut *socket).take(remaining).read_buf(&mut bytes).await;
            if read.map_err(Refusal::Connection)? == 0 {
                return Err(Refusal::Connection(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Returns the first flight that consists of these bytes.
    ///
    /// # Errors
    /// Returns the bytes if they are not a complete and valid first flight.
    pub fn complete(bytes: Vec<u8>) -> Result<Self, Vec<u8>> {
        let mut assembly = Assembly::default();
        if !matches!(assembly.process(&bytes), Ok(true)) {
            return Err(bytes);
        }
        match assembly.hello() {
            Ok(hello) => Ok(Self { bytes, hello }),
            Err(_) => Err(bytes),
        }
    }

    /// Returns the kind of credentials that the client offers.
    #[must_use]
    pub fn offer(&self) -> Offer {
        self.hello.offer
    }

    /// Returns the certificate-related part of the offer.
    #[must_use]
    pub fn certificates(&self) -> Certificates {
        self.hello.certificates
    }

    /// Returns the server name that the client indicated (RFC 6066), in lower case.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.hello.server_name.as_deref()
    }

    /// Returns all bytes that were read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns all bytes that were read, and the server name.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Option<String>) {
        (self.bytes, self.hello.server_name)
    }
}

/// The ClientHello as far as its records have arrived. Each byte is processed once, independently
/// of the number of TCP segments.
#[derive(Default)]
struct Assembly {
    message: Vec<u8>,
    /// Number of input bytes that were processed.
    processed: usize,
}

impl Assembly {
    /// Processes the new part of `bytes`, the input from its first byte on. Returns `false` if the
    /// message is not complete.
    fn process(&mut self, bytes: &[u8]) -> Result<bool, Refusal> {
        loop {
            let rest = bytes.get(self.processed..).unwrap_or_default();
            let Some((record, after)) = record(rest)? else { return Ok(false) };
            self.processed = bytes.len() - after.len();
            if record.is_empty() {
                return Err(Refusal::Unexpected("a handshake record is empty"));
            }
            self.message.extend_from_slice(record);
            let [kind, a, b, c, ..] = self.message.as_slice() else { continue };
            if *kind != CLIENT_HELLO {
                return Err(Refusal::Unexpected("the first message is not a ClientHello"));
            }
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize + MESSAGE_HEADER;
            if length > MAX_FLIGHT {
                return Err(Refusal::TooLarge);
            }
            match self.message.len() {
                have if have < length => {}
                // A second message in the record of the ClientHello would bypass the code that
                // inspects the later records.
                have if have > length || !after.is_empty() => {
                    return Err(Refusal::Unexpected(
                        "the ClientHello is followed by another message or record",
                    ));
                }
                _ => return Ok(true),
            }
        }
    }

    /// Returns the content of the complete message.
    fn hello(&self) -> Result<Hello, Refusal> {
        classify(self.message.get(MESSAGE_HEADER..).unwrap_or_default(), Versions::Tls)
    }
}

type Content<'a> = &'a [u8];
type Rest<'a> = &'a [u8];

/// Returns the content of the first handshake record and the bytes after it, or `None` if the
/// record is not complete.
fn record(bytes: &[u8]) -> Result<Option<(Content<'_>, Rest<'_>)>, Refusal> {
    match bytes {
        [] | [HANDSHAKE] | [HANDSHAKE, 3] => return Ok(None),
        [HANDSHAKE, 3, ..] => {}
        // An alert is not answered, because it ends the connection.
        [ALERT, ..] => return Err(Refusal::NotTls),
        [CHANGE_CIPHER_SPEC | APPLICATION_DATA] => return Ok(None),
        [CHANGE_CIPHER_SPEC | APPLICATION_DATA, 3, ..] => {
            return Err(Refusal::Unexpected("the first record is not of a handshake"));
        }
        _ if bytes.first().is_some_and(u8::is_ascii_uppercase) => return Err(Refusal::PlainHttp),
        _ => return Err(Refusal::NotTls),
    }
    let [_, _, _, a, b, rest @ ..] = bytes else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([*a, *b]));
    if length > MAX_RECORD {
        return Err(Refusal::LongRecord);
    }
    Ok(rest.split_at_checked(length))
}

/// The numbers of versions in an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Versions {
    /// Those of TLS.
    Tls,
    /// Those of DTLS.
    Dtls,
}

impl Versions {
    /// Returns the version of TLS that a version is based on.
    fn tls(self, version: TlsVersion) -> TlsVersion {
        match (self, version.0) {
            (Self::Tls, _) => version,
            (Self::Dtls, 0xFEFD) => TlsVersion::Tls12,
            (Self::Dtls, 0xFEFC) => TlsVersion::Tls13,
            (Self::Dtls, _) => TlsVersion(0),
        }
    }
}

/// Parses the body of a ClientHello.
pub(crate) fn classify(body: &[u8], numbers: Versions) -> Result<Hello, Refusal> {
    let (rest, hello) = tls_parser::parse_tls_handshake_client_hello(body)
        .map_err(|_| Refusal::Malformed("its fields cannot be parsed"))?;
    if !rest.is_empty() {
        return Err(Refusal::Malformed("it has trailing bytes"));
    }
    let (rest, extensions) = parse_tls_client_hello_extensions(hello.ext.unwrap_or_default())
        .map_err(|_| Refusal::Malformed("its extensions cannot be parsed"))?;
    if !rest.is_empty() {
        return Err(Refusal::Malformed("its extensions cannot be parsed"));
    }
    let mut versions: Option<Vec<TlsVersion>> = None;
    let mut server_name = None;
    let mut certificates = Certificates::default();
    for extension in &extensions {
        match extension {
            TlsExtension::Unknown(kind, list) if kind.0 == CLIENT_CERTIFICATE_TYPE => {
                certificates.shows_key = prefers_raw_key(list)?;
            }
            TlsExtension::Unknown(kind, list) if kind.0 == SERVER_CERTIFICATE_TYPE => {
                certificates.wants_key = prefers_raw_key(list)?;
            }
            TlsExtension::SupportedVersions(list) => {
                versions = Some(list.iter().map(|version| numbers.tls(*version)).collect());
            }
            TlsExtension::PreSharedKey(_) => certificates.psk_of_tls13 = true,
            TlsExtension::SNI(names) => server_name = names.first().map(|(_, name)| *name),
            _ => {}
        }
    }
    let newest = match &versions {
        Some(list) => list.iter().filter(|v| v.0 >> 8 == 3).map(|v| v.0).max().unwrap_or(0),
        None => hello.version.0,
    };
    // SSL 3.0 in the version field is rejected even if the extension offers TLS (RFC 8446 clause
    // D.5).
    if newest < TlsVersion::Tls12.0 || hello.version.0 <= TlsVersion::Ssl30.0 {
        return Err(Refusal::OldVersion);
    }
    let tls12 = versions.as_ref().is_none_or(|list| list.contains(&TlsVersion::Tls12));
    let psk = tls12 && hello.ciphers.iter().any(|suite| is_psk(suite.0));
    let offer = if psk { Offer::Psk } else { Offer::Certificates };
    let tls13 = versions.is_some_and(|list| list.contains(&TlsVersion::Tls13));
    let offers = |suites: &[u16]| hello.ciphers.iter().any(|suite| suites.contains(&suite.0));
    certificates.tls13 = tls13 && offers(TLS13);
    certificates.current = certificates.tls13 || tls12 && offers(CURRENT);
    // rustls supports raw public keys in TLS 1.3 only.
    certificates.shows_key &= certificates.tls13;
    certificates.wants_key &= certificates.tls13;
    certificates.mandated = tls12 && offers(MANDATED);
    certificates.psk_of_tls13 &= certificates.tls13 && !psk;
    let server_name = server_name.map(host_name).transpose()?;
    Ok(Hello { offer, certificates, server_name })
}

/// Returns whether the first certificate type of a list is raw public key (RFC 7250).
fn prefers_raw_key(list: &[u8]) -> Result<bool, Refusal> {
    const RAW_PUBLIC_KEY: u8 = 2;
    match list {
        [length, types @ ..] if usize::from(*length) == types.len() && !types.is_empty() => {
            Ok(types.first() == Some(&RAW_PUBLIC_KEY))
        }
        _ => Err(Refusal::Malformed("its certificate types cannot be parsed")),
    }
}

/// Parses a name as in DNS. Underscores are accepted, because hosts with such names exist.
fn host_name(bytes: &[u8]) -> Result<String, Refusal> {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    if text.is_empty() || text.len() > 255 || !bytes.iter().all(allowed) {
        return Err(Refusal::Malformed("its server name is invalid"));
    }
    Ok(text.to_ascii_lowercase())
}

#[cfg(test)]
#[path = "client_hello_tests.rs"]
mod tests;
