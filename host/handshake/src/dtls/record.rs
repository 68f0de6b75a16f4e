//! Datagrams of the handshake (RFC 6347 clauses 4.1 and 4.2).

use crate::client_hello::{Hello, Versions, classify};
use crate::refusal::{Alert, Refusal};

/// Level of an alert.
pub(super) const FATAL: u8 = 2;
/// Content types.
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;
/// Message types.
pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;
pub(super) const SERVER_HELLO_DONE: u8 = 14;
pub(super) const CLIENT_KEY_EXCHANGE: u8 = 16;
pub(super) const FINISHED: u8 = 20;
/// The version of a HelloVerifyRequest: DTLS 1.0, whatever is negotiated.
const VERSION_1_0: [u8; 2] = [0xFE, 0xFF];
/// DTLS 1.2.
pub(super) const VERSION_1_2: [u8; 2] = [0xFE, 0xFD];
/// Length of a record's header.
pub(super) const RECORD_HEADER: usize = 13;
/// Length of the header of a message or of its fragment.
pub(super) const MESSAGE_HEADER: usize = 12;
/// Length of the fields before the session ID of a ClientHello: version and random.
const BEFORE_SESSION: usize = 34;

/// A record with its content as it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub content_type: u8,
    pub version: [u8; 2],
    pub epoch: u16,
    /// The 48 bits of the sequence number.
    pub sequence: u64,
    pub content: &'a [u8],
}

impl Record<'_> {
    /// Returns the length with the header, in bytes.
    pub fn length(&self) -> usize {
        RECORD_HEADER + self.content.len()
    }
}

/// Splits a datagram into its records. The rest after an invalid header is ignored, as OpenSSL
/// does.
pub(super) fn records(datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let [content_type, 0xFE, minor, e1, e2, s @ .., l1, l2] = rest.get(..RECORD_HEADER)? else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([*l1, *l2]));
        let content = rest.get(RECORD_HEADER..RECORD_HEADER + length)?;
        rest = rest.get(RECORD_HEADER + length..).unwrap_or_default();
        Some(Record {
            content_type: *content_type,
            version: [0xFE, *minor],
            epoch: u16::from_be_bytes([*e1, *e2]),
            sequence: s.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)),
            content,
        })
    })
}

/// A fragment of a handshake message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    pub message_type: u8,
    /// Length of the whole message.
    pub length: usize,
    pub message_sequence: u16,
    pub offset: usize,
    pub content: &'a [u8],
}

/// Splits the content of a handshake record of epoch 0 into fragments.
pub(super) fn fragments<'a>(record: &Record<'a>) -> impl Iterator<Item = Fragment<'a>> + use<'a> {
    let is_plain = record.content_type == HANDSHAKE && record.epoch == 0;
    let mut rest = if is_plain { record.content } else { &[] };
    std::iter::from_fn(move || {
        let (fragment, behind) = fragment(rest)?;
        rest = behind;
        Some(fragment)
    })
}

/// Returns the message that a content consists of, if it is one and not fragmented.
pub(super) fn whole_message(content: &[u8]) -> Option<Fragment<'_>> {
    let (message, rest) = fragment(content)?;
    let is_whole = message.offset == 0 && message.content.len() == message.length;
    (is_whole && rest.is_empty()).then_some(message)
}

/// Takes the first fragment of a content. Returns the rest too.
fn fragment(content: &[u8]) -> Option<(Fragment<'_>, &[u8])> {
    let [message_type, a, b, c, s1, s2, d, e, f, g, h, i] = content.get(..MESSAGE_HEADER)? else {
        return None;
    };
    let number = |a: &u8, b: &u8, c: &u8| u32::from_be_bytes([0, *a, *b, *c]) as usize;
    let end = MESSAGE_HEADER + number(g, h, i);
    let fragment = Fragment {
        message_type: *message_type,
        length: number(a, b, c),
        message_sequence: u16::from_be_bytes([*s1, *s2]),
        offset: number(d, e, f),
        content: content.get(MESSAGE_HEADER..end)?,
    };
    Some((fragment, content.get(end..).unwrap_or_default()))
}

/// Returns whether a datagram starts with a ClientHello that is not encrypted. It belongs to a new
/// handshake, also if its address has an association (RFC 6347 clause 4.2.8).
#[must_use]
pub fn is_client_hello(datagram: &[u8]) -> bool {
    let first = records(datagram).next();
    first
        .and_then(|record| fragments(&record).next())
        .is_some_and(|fragment| fragment.message_type == CLIENT_HELLO)
}

/// A ClientHello in one record.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// The record.
    datagram: Vec<u8>,
    record_sequence: u64,
    message_sequence: u16,
    /// The fields without the cookie and its length.
    before_cookie: Vec<u8>,
    cookie: Vec<u8>,
    after_cookie: Vec<u8>,
}

impl ClientHello {
    /// Parses a datagram. Returns `None` unless it is one ClientHello, which is not fragmented.
    pub(super) fn parse(datagram: &[u8]) -> Option<Self> {
        let record = records(datagram).next()?;
        let message = whole_message(record.content)?;
        let is_plain = record.content_type == HANDSHAKE && record.epoch == 0;
        let is_only = record.length() == datagram.len();
        if message.message_type != CLIENT_HELLO || !is_plain || !is_only {
            return None;
        }
        let body = message.content;
        let session = usize::from(*body.get(BEFORE_SESSION)?);
        let (before, rest) = body.split_at_checked(BEFORE_SESSION + 1 + session)?;
        let (length, rest) = rest.split_first()?;
        let (cookie, after) = rest.split_at_checked(usize::from(*length))?;
        Some(Self {
            datagram: datagram.into(),
            record_sequence: record.sequence,
            message_sequence: message.message_sequence,
            before_cookie: before.into(),
            cookie: cookie.into(),
            after_cookie: after.into(),
        })
    }

    /// Returns the random value of the client, by which handshakes differ.
    #[must_use]
    pub fn random(&self) -> [u8; 32] {
        let mut random = [0; 32];
        // The fields before the session ID are version and random value.
        for (to, from) in random.iter_mut().zip(self.before_cookie.iter().skip(2)) {
            *to = *from;
        }
        random
    }

    /// Returns whether the client offers a Connection ID (RFC 9146).
    #[must_use]
    pub fn offers_connection_id(&self) -> bool {
        const CONNECTION_ID: u16 = 54;
        self.extension(CONNECTION_ID).is_some()
    }

    /// Returns the maximum length of a plaintext that the client asks for (RFC 6066 clause 4), in bytes.
    /// OpenSSL accepts each valid one.
    pub(super) fn max_fragment_length(&self) -> Option<usize> {
        const MAX_FRAGMENT_LENGTH: u16 = 1;
        match self.extension(MAX_FRAGMENT_LENGTH)? {
            [code @ 1..=4] => Some(256 << code),
            _ => None,
        }
    }

    /// Returns the numbers of the cipher suites, in the client's order.
    pub(super) fn suites(&self) -> impl Iterator<Item = u16> {
        let mut rest = self.after_cookie.as_slice();
        let suites = take(&mut rest, 2).unwrap_or_default();
        suites.as_chunks::<2>().0.iter().map(|suite| u16::from_be_bytes(*suite))
    }

    /// Returns the numbers of the compression methods.
    pub(super) fn compression_methods(&self) -> &[u8] {
        let mut rest = self.after_cookie.as_slice();
        let methods = take(&mut rest, 2).and_then(|_| take(&mut rest, 1));
        methods.unwrap_or_default()
    }

    /// Returns the content of an extension.
    pub(super) fn extension(&self, number: u16) -> Option<&[u8]> {
        // Behind the cookie are the suites, the compression methods and the extensions.
        let mut rest = self.after_cookie.as_slice();
        take(&mut rest, 2)?;
        take(&mut rest, 1)?;
        let mut extensions = take(&mut rest, 2)?;
        while let Some((kind, behind)) = extensions.split_first_chunk::<2>() {
            extensions = behind;
            let content = take(&mut extensions, 2)?;
            if u16::from_be_bytes(*kind) == number {
                return Some(content);
            }
        }
        None
    }

    /// Returns the cookie.
    pub(super) fn cookie(&self) -> &[u8] {
        &self.cookie
    }

    /// Returns the number of the message, which is that of the HelloVerifyRequests before it.
    pub(super) fn message_sequence(&self) -> u16 {
        self.message_sequence
    }

    /// Returns the number of the record.
    pub(super) fn record_sequence(&self) -> u64 {
        self.record_sequence
    }

    /// Returns the message with its header, as in the hash of the handshake.
    pub(super) fn message(&self) -> &[u8] {
        self.datagram.get(RECORD_HEADER..).unwrap_or_default()
    }

    /// Returns the datagram.
    pub(super) fn datagram(&self) -> &[u8] {
        &self.datagram
    }

    /// Returns the fields before and after the cookie, which are equal in each ClientHello of a
    /// handshake.
    pub(super) fn fields(&self) -> [&[u8]; 2] {
        [&self.before_cookie, &self.after_cookie]
    }

    /// Returns the ClientHello without cookie that had this number.
    pub(super) fn without_cookie(&self, message_sequence: u16) -> Vec<u8> {
        let body = [self.before_cookie.as_slice(), &[0], &self.after_cookie].concat();
        let sequence = u64::from(message_sequence);
        handshake_record(sequence, CLIENT_HELLO, message_sequence, &body)
    }

    /// Returns the HelloVerifyRequest with a cookie.
    pub(super) fn verify_request(&self, cookie: &[u8]) -> Vec<u8> {
        let length = u8::try_from(cookie.len()).unwrap_or_default();
        let body = [&VERSION_1_0[..], &[length], cookie].concat();
        let sequence = self.record_sequence;
        handshake_record(sequence, HELLO_VERIFY_REQUEST, self.message_sequence, &body)
    }

    /// Classifies the ClientHello as that of TLS with the same fields.
    pub(super) fn classify(&self) -> Result<Hello, Refusal> {
        match self.before_cookie.get(..2) {
            Some([0xFE, minor]) if *minor <= VERSION_1_2[1] => {}
            _ => return Err(Refusal::OldVersion),
        }
        let rest = self.before_cookie.get(2..).unwrap_or_default();
        classify(&[&[3, 3][..], rest, &self.after_cookie].concat(), Versions::Dtls)
    }
}

/// Takes a field behind its length of so many bytes.
fn take<'a>(rest: &mut &'a [u8], length_bytes: usize) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_at_checked(length_bytes)?;
    let length = length.iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
    let (field, behind) = behind.split_at_checked(length)?;
    *rest = behind;
    Some(field)
}

/// Returns a record of epoch 0 with a whole message.
fn handshake_record(sequence: u64, kind: u8, message_sequence: u16, body: &[u8]) -> Vec<u8> {
    let message = handshake_message(kind, message_sequence, body);
    plain_record(HANDSHAKE, VERSION_1_0, sequence, &message)
}

/// Returns a message with its header, in one fragment.
pub(super) fn handshake_message(kind: u8, message_sequence: u16, body: &[u8]) -> Vec<u8> {
    // The body of a received message has a length of three bytes, and so has one that is shorter.
    let length = u32::try_from(body.len()).unwrap_or_default().to_be_bytes();
    let [_, length @ ..] = length;
    let mut message = Vec::with_capacity(MESSAGE_HEADER + body.len());
    message.push(kind);
    message.extend(length);
    message.extend(message_sequence.to_be_bytes());
    message.extend([0; 3]);
    message.extend(length);
    message.extend_from_slice(body);
    message
}

/// Returns the record of a fatal alert in epoch 0.
pub(super) fn alert_record(sequence: u64, alert: Alert) -> Vec<u8> {
    plain_record(ALERT, VERSION_1_2, sequence, &[FATAL, alert as u8])
}

/// Returns a record of epoch 0.
pub(super) fn plain_record(
    content_type: u8,
    version: [u8; 2],
    sequence: u64,
    content: &[u8],
) -> Vec<u8> {
    let [_, _, sequence @ ..] = sequence.to_be_bytes();
    let length = u16::try_from(content.len()).unwrap_or_default().to_be_bytes();
    let mut record = Vec::with_capacity(RECORD_HEADER + content.len());
    record.push(content_type);
    record.extend(version);
    record.extend([0, 0]);
    record.extend(sequence);
    record.extend(length);
    record.extend_from_slice(content);
    record
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
