//! The message format (RFC 7252 clause 3).

use std::fmt;

use bytes::Bytes;

use super::options::Options;

/// The protocol version.
const VERSION: u8 = 1;
/// The byte in front of a payload.
const PAYLOAD_MARKER: u8 = 0xFF;
/// Maximum length of a token, in bytes.
pub const MAX_TOKEN: usize = 8;
/// Maximum number of options of a message. A oneM2M request has at most one of each parameter, and
/// up to 32 queries.
pub const MAX_MESSAGE_OPTIONS: usize = 128;

/// The type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// CON: the receiver acknowledges it.
    Confirmable,
    /// NON: the receiver does not acknowledge it.
    NonConfirmable,
    /// ACK: acknowledges a confirmable message, and may carry its response.
    Acknowledgement,
    /// RST: rejects a message.
    Reset,
}

/// A code: a method, or the status of a response.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(u8);

impl Code {
    /// 0.00, the code of an empty message.
    pub const EMPTY: Self = Self::new(0, 0);
    /// 0.01
    pub const GET: Self = Self::new(0, 1);
    /// 0.02
    pub const POST: Self = Self::new(0, 2);
    /// 0.03
    pub const PUT: Self = Self::new(0, 3);
    /// 0.04
    pub const DELETE: Self = Self::new(0, 4);
    /// 2.01
    pub const CREATED: Self = Self::new(2, 1);
    /// 2.02
    pub const DELETED: Self = Self::new(2, 2);
    /// 2.04
    pub const CHANGED: Self = Self::new(2, 4);
    /// 2.05
    pub const CONTENT: Self = Self::new(2, 5);
    /// 2.31
    pub const CONTINUE: Self = Self::new(2, 31);
    /// 4.00
    pub const BAD_REQUEST: Self = Self::new(4, 0);
    /// 4.02
    pub const BAD_OPTION: Self = Self::new(4, 2);
    /// 4.03
    pub const FORBIDDEN: Self = Self::new(4, 3);
    /// 4.04
    pub const NOT_FOUND: Self = Self::new(4, 4);
    /// 4.05
    pub const METHOD_NOT_ALLOWED: Self = Self::new(4, 5);
    /// 4.06
    pub const NOT_ACCEPTABLE: Self = Self::new(4, 6);
    /// 4.08
    pub const REQUEST_ENTITY_INCOMPLETE: Self = Self::new(4, 8);
    /// 4.13
    pub const REQUEST_ENTITY_TOO_LARGE: Self = Self::new(4, 13);
    /// 4.15
    pub const UNSUPPORTED_CONTENT_FORMAT: Self = Self::new(4, 15);
    /// 5.00
    pub const INTERNAL_SERVER_ERROR: Self = Self::new(5, 0);
    /// 5.01
    pub const NOT_IMPLEMENTED: Self = Self::new(5, 1);
    /// 5.03
    pub const SERVICE_UNAVAILABLE: Self = Self::new(5, 3);
    /// 5.04
    pub const GATEWAY_TIMEOUT: Self = Self::new(5, 4);
    /// 5.05
    pub const PROXYING_NOT_SUPPORTED: Self = Self::new(5, 5);

    const fn new(class: u8, detail: u8) -> Self {
        Self(class << 5 | detail)
    }

    /// Returns the class: 0 for methods, 2, 4 and 5 for responses.
    #[must_use]
    pub const fn class(self) -> u8 {
        self.0 >> 5
    }

    /// Returns whether the code is a method.
    #[must_use]
    pub fn is_request(self) -> bool {
        self.class() == 0 && self != Self::EMPTY
    }

    /// Returns whether the code is the status of a response.
    #[must_use]
    pub fn is_response(self) -> bool {
        matches!(self.class(), 2 | 4 | 5)
    }
}

/// Formats the code in the form `4.02`.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.class(), self.0 & 0x1F)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A token, which the client chooses and the response repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Token {
    length: usize,
    bytes: [u8; MAX_TOKEN],
}

impl Token {
    /// Creates a token. Returns `None` if it is longer than [`MAX_TOKEN`].
    #[must_use]
    pub fn new(token: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_TOKEN];
        bytes.get_mut(..token.len())?.copy_from_slice(token);
        Some(Self { length: token.len(), bytes })
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// A request or a response without the fields of the message layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// Method, or status.
    pub code: Code,
    /// Options.
    pub options: Options,
    /// Payload, empty if absent.
    pub payload: Bytes,
}

impl Parts {
    /// Creates parts without options and payload.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self { code, options: Options::default(), payload: Bytes::new() }
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Type.
    pub kind: Kind,
    /// Message ID.
    pub id: u16,
    /// Token.
    pub token: Token,
    /// Code, options and payload.
    pub parts: Parts,
}

/// The error for a datagram that is not a CoAP message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Malformed {
    why: &'static str,
    kind: Option<Kind>,
    id: u16,
}

impl Malformed {
    /// Returns the RST that rejects the message, if it is confirmable. Other malformed messages are
    /// dropped (RFC 7252 clauses 4.2 and 4.3).
    #[must_use]
    pub fn reset(&self) -> Option<Message> {
        (self.kind == Some(Kind::Confirmable)).then(|| Message::empty(Kind::Reset, self.id))
    }
}

impl Message {
    /// Creates an empty message.
    #[must_use]
    pub fn empty(kind: Kind, id: u16) -> Self {
        Self { kind, id, token: Token::default(), parts: Parts::new(Code::EMPTY) }
    }

    /// Parses a datagram.
    ///
    /// # Errors
    /// Returns an error if the datagram is not a message of RFC 7252.
    pub fn parse(datagram: &Bytes) -> Result<Self, Malformed> {
        let mut rest = Rest(datagram.clone());
        let header = (rest.byte(), rest.byte(), rest.byte(), rest.byte());
        let (Some(first), Some(code), Some(high), Some(low)) = header else {
            return Err(Malformed { why: "it is shorter than a header", kind: None, id: 0 });
        };
        let id = u16::from_be_bytes([high, low]);
        if first >> 6 != VERSION {
            return Err(Malformed { why: "its version is not 1", kind: None, id });
        }
        let kind = match first >> 4 & 3 {
            0 => Kind::Confirmable,
            1 => Kind::NonConfirmable,
            2 => Kind::Acknowledgement,
            _ => Kind::Reset,
        };
        let (token, parts) = body(kind, first & 0x0F, Code(code), rest)
            .map_err(|why| Malformed { why, kind: Some(kind), id })?;
        Ok(Self { kind, id, token, parts })
    }

    /// Returns the datagram.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let Parts { code, options, payload } = &self.parts;
        let mut out = Vec::with_capacity(64 + payload.len());
        let kind = match self.kind {
            Kind::Confirmable => 0,
            Kind::NonConfirmable => 1,
            Kind::Acknowledgement => 2,
            Kind::Reset => 3,
        };
        let token = self.token.as_slice();
        // A token has at most 8 bytes.
        let length = u8::try_from(token.len()).unwrap_or_default();
        out.extend([VERSION << 6 | kind << 4 | length, code.0]);
        out.extend(self.id.to_be_bytes());
        out.extend(token);
        let mut former = 0;
        for (number, value) in options.iter() {
            let (delta, delta_rest) = nibble(usize::from(number - former));
            let (length, length_rest) = nibble(value.len());
            out.push(delta << 4 | length);
            out.extend(delta_rest.into_iter().chain(length_rest).flatten());
            out.extend_from_slice(value);
            former = number;
        }
        if !payload.is_empty() {
            out.push(PAYLOAD_MARKER);
            out.extend_from_slice(payload);
        }
        out.into()
    }
}

/// Parses all after the header.
fn body(
    kind: Kind,
    token_length: u8,
    code: Code,
    mut rest: Rest,
) -> Result<(Token, Parts), &'static str> {
    if usize::from(token_length) > MAX_TOKEN {
        return Err("its token is longer than 8 bytes");
    }
    if code == Code::EMPTY {
        return if !rest.0.is_empty() || token_length > 0 {
            Err("it is empty, but does not end after its header")
        } else if kind == Kind::NonConfirmable {
            Err("it is empty and not confirmable")
        } else {
            Ok((Token::default(), Parts::new(code)))
        };
    }
    let fits = match kind {
        Kind::Confirmable | Kind::NonConfirmable => code.is_request() || code.is_response(),
        Kind::Acknowledgement => code.is_response(),
        Kind::Reset => false,
    };
    if !fits {
        return Err("its code is reserved, or not one of its type");
    }
    let token = rest.take(token_length.into()).ok_or("it ends within its token")?;
    let token = Token::new(&token).ok_or("its token is longer than 8 bytes")?;
    let mut options = Options::default();
    let mut number = 0u16;
    loop {
        match rest.byte() {
            None => break,
            Some(PAYLOAD_MARKER) if rest.0.is_empty() => {
                return Err("it has a payload marker without a payload");
            }
            Some(PAYLOAD_MARKER) => break,
            Some(first) => {
                let delta = rest.extended(first >> 4)?;
                let length = rest.extended(first & 0x0F)?;
                let next = u16::try_from(usize::from(number) + delta);
                number = next.map_err(|_| "an option number is over 65535")?;
                let value = rest.take(length).ok_or("it ends within an option")?;
                if options.len() >= MAX_MESSAGE_OPTIONS {
                    return Err("it has over 128 options");
                }
                options.push(number, value);
            }
        }
    }
    Ok((token, Parts { code, options, payload: rest.0 }))
}

/// Returns the four bits of an option's delta or length, and the bytes that extend them.
fn nibble(value: usize) -> (u8, [Option<u8>; 2]) {
    if let Ok(small @ 0..13) = u8::try_from(value) {
        (small, [None, None])
    } else if let Ok(byte) = u8::try_from(value - 13) {
        (13, [Some(byte), None])
    } else {
        // `Options` holds no value that is longer.
        let [high, low] = u16::try_from(value - 269).unwrap_or(u16::MAX).to_be_bytes();
        (14, [Some(high), Some(low)])
    }
}

/// The bytes that were not parsed yet.
struct Rest(Bytes);

impl Rest {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.0.first()?;
        bytes::Buf::advance(&mut self.0, 1);
        Some(byte)
    }

    fn take(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    /// Parses the bytes that extend the four bits of a delta or a length.
    fn extended(&mut self, nibble: u8) -> Result<usize, &'static str> {
        let end = "it ends within an option";
        match nibble {
            13 => Ok(usize::from(self.byte().ok_or(end)?) + 13),
            14 => {
                let (high, low) = (self.byte().ok_or(end)?, self.byte().ok_or(end)?);
                Ok(usize::from(u16::from_be_bytes([high, low])) + 269)
            }
            15 => Err("an option has the reserved delta or length 15"),
            small => Ok(small.into()),
        }
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
