//! The header of the PROXY protocol, version 2: a load balancer names the client of a connection in
//! it, before the first byte of the client.
//!
//! The header is not authenticated. The caller must accept it only from load balancers that it
//! knows.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use ppp::v2::{Addresses, Command, Header, PROTOCOL_PREFIX, ParseError, Protocol};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Maximum size of a header, in bytes. Addresses have at most 216 bytes, and load balancers add few
/// and short TLVs.
pub const MAX_PROXY_HEADER: usize = 536;

/// Size of the signature, the version, the family and the length, in bytes.
const PREAMBLE: usize = 16;
/// Beginning of a header of version 1.
const VERSION_1: &[u8] = b"PROXY ";

/// The party that opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionOrigin {
    /// A client at that address. An IPv4 address in IPv6 form is an IPv4 address here.
    Client(SocketAddr),
    /// The load balancer itself, such as for a health check.
    LoadBalancer,
}

/// The reason why a connection has no valid header.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyHeaderError {
    /// The peer closed the connection, or the connection broke.
    #[error("the connection ended: {0}")]
    Connection(#[source] io::Error),
    /// The first bytes are not a header.
    #[error("the load balancer sent no PROXY protocol header")]
    Missing,
    /// The header has version 1.
    #[error("the PROXY protocol header has version 1, but must have version 2")]
    Version1,
    /// The header is longer than the maximum.
    #[error("the PROXY protocol header has {0} bytes, but may have at most {MAX_PROXY_HEADER}")]
    TooLong(usize),
    /// The header is invalid.
    #[error("the PROXY protocol header is malformed: {0}")]
    Malformed(#[from] ParseError),
    /// The header names no client of a TCP connection.
    #[error("the PROXY protocol header has no address of a TCP client")]
    NoClient,
}

impl ProxyHeaderError {
    /// Returns a short name for logs and counters.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Connection(_) => "connection",
            Self::Missing
            | Self::Version1
            | Self::TooLong(_)
            | Self::Malformed(_)
            | Self::NoClient => "proxy-header",
        }
    }
}

/// Reads a header, and no byte of the client behind it. The caller bounds the time.
///
/// TLVs must be complete, and are ignored otherwise. This includes a checksum, because TCP has its
/// own.
///
/// # Errors
/// Returns an error if the connection ends, or does not start with a valid header.
pub async fn read_proxy_header(
    socket: &mut (impl AsyncRead + Unpin),
) -> Result<ConnectionOrigin, ProxyHeaderError> {
    let mut bytes = Vec::with_capacity(PREAMBLE);
    while bytes.len() < PREAMBLE {
        read_up_to(PREAMBLE, &mut bytes, socket).await?;
        check_beginning(&bytes)?;
    }
    let size = match bytes.last_chunk::<2>() {
        Some(length) => PREAMBLE + usize::from(u16::from_be_bytes(*length)),
        None => return Err(ProxyHeaderError::Missing),
    };
    if size > MAX_PROXY_HEADER {
        return Err(ProxyHeaderError::TooLong(size));
    }
    bytes.reserve_exact(size - PREAMBLE);
    while bytes.len() < size {
        read_up_to(size, &mut bytes, socket).await?;
    }
    origin(&Header::try_from(&*bytes)?)
}

/// Reads at least one byte, and not more than `size` in all.
async fn read_up_to(
    size: usize,
    bytes: &mut Vec<u8>,
    socket: &mut (impl AsyncRead + Unpin),
) -> Result<(), ProxyHeaderError> {
    let remaining = (size - bytes.len()) as u64;
    match (&mut *socket).take(remaining).read_buf(bytes).await {
        Ok(0) => Err(ProxyHeaderError::Connection(ErrorKind::UnexpectedEof.into())),
        Ok(_) => Ok(()),
        Err(e) => Err(ProxyHeaderError::Connection(e)),
    }
}

/// Rejects the first bytes as soon as they cannot be a header of version 2.
fn check_beginning(bytes: &[u8]) -> Result<(), ProxyHeaderError> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, other)| byte == other);
    if begins(PROTOCOL_PREFIX) {
        Ok(())
    } else if !begins(VERSION_1) {
        Err(ProxyHeaderError::Missing)
    } else if bytes.len() >= VERSION_1.len() {
        Err(ProxyHeaderError::Version1)
    } else {
        Ok(())
    }
}

fn origin(header: &Header<'_>) -> Result<ConnectionOrigin, ProxyHeaderError> {
    if header.command == Command::Local {
        // The rest of the header has no meaning.
        return Ok(ConnectionOrigin::LoadBalancer);
    }
    for tlv in header.tlvs() {
        tlv?;
    }
    if header.protocol != Protocol::Stream {
        return Err(ProxyHeaderError::NoClient);
    }
    let (address, port) = match header.addresses {
        Addresses::IPv4(v4) => (v4.source_address.into(), v4.source_port),
        Addresses::IPv6(v6) => (v6.source_address.to_canonical(), v6.source_port),
        // Limits and policy need the address of the client.
        Addresses::Unspecified | Addresses::Unix(_) => return Err(ProxyHeaderError::NoClient),
    };
    if address.is_unspecified() || address.is_multicast() {
        return Err(ProxyHeaderError::NoClient);
    }
    Ok(ConnectionOrigin::Client(SocketAddr::new(address, port)))
}

#[cfg(test)]
#[path = "proxy_header_tests.rs"]
mod tests;
