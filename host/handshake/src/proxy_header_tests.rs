use proptest::prelude::*;

use super::*;

/// Returns a header with these two bytes of version, command, family and transport, and a content.
fn header(kind: [u8; 2], content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [PROTOCOL_PREFIX, &kind, &length, content].concat()
}

const IPV4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xc0, 0, 0x20, 0xfb];

fn ipv6(source: &str) -> Vec<u8> {
    let source: std::net::Ipv6Addr = source.parse().unwrap();
    [&source.octets()[..], &[0; 16], &[0xc0, 0, 0x20, 0xfb]].concat()
}

/// Reads a header, and returns the unread bytes too.
fn read(mut bytes: &[u8]) -> (Result<ConnectionOrigin, String>, &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let read = runtime.block_on(read_proxy_header(&mut bytes));
    (read.map_err(|e| e.to_string()), bytes)
}

fn client(address: &str) -> ConnectionOrigin {
    ConnectionOrigin::Client(address.parse().unwrap())
}

#[test]
fn header_names_the_client() {
    let tlvs = [&IPV4[..], &[4, 0, 0], &[3, 0, 4, 1, 2, 3, 4]].concat();
    for (content, kind, origin) in [
        (IPV4.to_vec(), [0x21, 0x11], client("192.0.2.7:49152")),
        (tlvs, [0x21, 0x11], client("192.0.2.7:49152")),
        (ipv6("2001:db8::7"), [0x21, 0x21], client("[2001:db8::7]:49152")),
        (ipv6("::ffff:192.0.2.7"), [0x21, 0x21], client("192.0.2.7:49152")),
        (Vec::new(), [0x20, 0x00], ConnectionOrigin::LoadBalancer),
        (IPV4.to_vec(), [0x20, 0x11], ConnectionOrigin::LoadBalancer),
        // The content of a LOCAL header has no meaning.
        (vec![1, 2, 3], [0x20, 0x00], ConnectionOrigin::LoadBalancer),
    ] {
        let bytes = [header(kind, &content), b"the client".to_vec()].concat();
        assert_eq!(read(&bytes), (Ok(origin), &b"the client"[..]), "{kind:x?} {content:x?}");
    }
}

#[test]
fn invalid_header_is_refused() {
    let cut_tlv = [&IPV4[..], &[4, 0, 5, 0]].concat();
    let half_tlv = [&IPV4[..], &[4, 0]].concat();
    let any = [&[0; 4][..], &IPV4[4..]].concat();
    let multicast = [&[224, 0, 0, 1][..], &IPV4[4..]].concat();
    let unix = vec![b'/'; 216];
    for (kind, content, why) in [
        ([0x11, 0x11], &IPV4[..], "malformed"),
        ([0x22, 0x11], &IPV4, "malformed"),
        ([0x21, 0x41], &IPV4, "malformed"),
        ([0x21, 0x13], &IPV4, "malformed"),
        ([0x21, 0x11], &IPV4[..11], "malformed"),
        ([0x21, 0x21], &IPV4, "malformed"),
        ([0x21, 0x11], &cut_tlv, "malformed"),
        ([0x21, 0x11], &half_tlv, "malformed"),
        ([0x21, 0x31], &unix[1..], "malformed"),
        ([0x21, 0x31], &unix, "no address"),
        ([0x21, 0x00], &IPV4, "no address"),
        ([0x21, 0x01], &[], "no address"),
        ([0x21, 0x10], &IPV4, "no address"),
        ([0x21, 0x12], &IPV4, "no address"),
        ([0x21, 0x11], &any, "no address"),
        ([0x21, 0x11], &multicast, "no address"),
        ([0x21, 0x11], &[0; MAX_PROXY_HEADER - 15], "537 bytes"),
        ([0x21, 0x11], &[0; u16::MAX as usize], "65551 bytes"),
    ] {
        let read = read(&header(kind, content)).0.unwrap_err();
        assert!(read.contains(why), "{kind:x?} of {}: {read}", content.len());
    }
    for (bytes, why) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], "sent no"),
        (b"\r\n\r\n\0\r\nQUIT\r", "sent no"),
        (b"GET / HTTP/1.1", "sent no"),
        (b"PROXX", "sent no"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 8443\r\n", "version 1"),
        (b"PROXY", "the connection ended"),
        (b"", "the connection ended"),
    ] {
        let read = read(bytes).0.unwrap_err();
        assert!(read.contains(why), "{bytes:?}: {read}");
    }
}

#[test]
fn longest_header_is_read_and_not_more() {
    let content = [&IPV4[..], &[0xe0, 1, 0xf9], &[7; 505]].concat();
    let bytes = header([0x21, 0x11], &content);
    assert_eq!(bytes.len(), MAX_PROXY_HEADER);
    assert_eq!(read(&bytes), (Ok(client("192.0.2.7:49152")), &[][..]));
    for end in 0..bytes.len() {
        let read = read(&bytes[..end]).0.unwrap_err();
        assert!(read.contains("the connection ended"), "{end}: {read}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_within_bounds(kind: [u8; 2], content: Vec<u8>, rest: Vec<u8>) {
        let bytes = [header(kind, &content), rest.clone()].concat();
        let (read, left) = read(&bytes);
        let consumed = bytes.len() - left.len();
        prop_assert!(consumed <= MAX_PROXY_HEADER);
        if read.is_ok() {
            prop_assert_eq!(left, &rest[..]);
        }
    }
}
