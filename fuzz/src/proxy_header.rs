//! PROXY protocol header of a load balancer.

use saegis_handshake::{ConnectionOrigin, MAX_PROXY_HEADER, read_proxy_header};

use crate::pieces::{Pieces, finish, sizes};

/// Reader of PROXY protocol headers. The outcome and the number of read bytes do not depend on the
/// fragments. It reads the whole header, and no byte behind it.
pub fn proxy_header(input: &[u8]) {
    let (alone, bytes) = read(input, input.len());
    for size in sizes(input) {
        let (outcome, of_pieces) = read(input, size);
        assert_eq!(outcome, alone, "in pieces of {size}");
        assert!(outcome.is_err() || of_pieces == bytes, "in pieces of {size}: {of_pieces} bytes");
    }
    let Ok(origin) = alone else { return };
    let length = u16::from_be_bytes([input[14], input[15]]);
    assert_eq!(bytes, 16 + usize::from(length), "the client's bytes are left");
    if let ConnectionOrigin::Client(client) = origin {
        let address = client.ip();
        assert!(!address.is_unspecified() && !address.is_multicast(), "{address}");
        assert_eq!(address, address.to_canonical());
    }
    for short in [0, bytes / 2, bytes - 1] {
        let (cut, _) = read(&input[..short], short);
        assert!(cut.is_err(), "{short} of {bytes} bytes are a header too");
    }
}

/// Reads the header at the start of `input`, and returns the number of bytes read.
fn read(input: &[u8], size: usize) -> (Result<ConnectionOrigin, String>, usize) {
    let mut socket = Pieces::of(input, size);
    let origin = finish(read_proxy_header(&mut socket)).map_err(|e| e.to_string());
    let bytes = input.len() - socket.left();
    assert!(bytes <= MAX_PROXY_HEADER, "{bytes} bytes were read");
    (origin, bytes)
}
