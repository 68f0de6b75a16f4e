//! Datagrams that are parsed, and those that are not.

use super::*;
use proptest::prelude::*;

/// A ClientHello with this cookie.
fn hello(cookie: &[u8], message_sequence: u16) -> Vec<u8> {
    let mut body = VERSION_1_2.to_vec();
    body.extend([7; 32]);
    body.extend([0, u8::try_from(cookie.len()).unwrap()]);
    body.extend(cookie);
    // TLS_PSK_WITH_AES_128_CCM_8, no compression, no extensions.
    body.extend([0, 2, 0xC0, 0xA8, 1, 0, 0, 0]);
    handshake_record(5, CLIENT_HELLO, message_sequence, &body)
}

#[test]
fn client_hello_is_parsed() {
    let datagram = hello(b"cookie", 1);
    assert!(is_client_hello(&datagram));
    let parsed = ClientHello::parse(&datagram).unwrap();
    assert_eq!((parsed.cookie(), parsed.message_sequence()), (&b"cookie"[..], 1));
    assert_eq!(parsed.datagram(), datagram);
    let without = parsed.without_cookie(0);
    let first = ClientHello::parse(&without).unwrap();
    assert_eq!(first.fields(), parsed.fields());
    assert!(first.cookie().is_empty());
    assert_eq!(parsed.classify().unwrap().offer, crate::Offer::Psk);
}

#[test]
fn verify_request_has_sequence_numbers_of_its_hello() {
    let request = ClientHello::parse(&hello(b"", 0)).unwrap().verify_request(b"12345678");
    let record = records(&request).next().unwrap();
    assert_eq!((record.epoch, record.sequence), (0, 5));
    let message = fragments(&record).next().unwrap();
    assert_eq!((message.message_type, message.message_sequence), (3, 0));
    assert_eq!(message.content, b"\xFE\xFF\x0812345678");
}

#[test]
fn other_datagram_is_not_client_hello() {
    let whole = hello(b"", 0);
    // Shorter, longer, followed by another record.
    for length in 0..whole.len() {
        assert!(ClientHello::parse(&whole[..length]).is_none(), "{length}");
    }
    assert!(ClientHello::parse(&[whole.as_slice(), &[0]].concat()).is_none());
    assert!(ClientHello::parse(&[whole.as_slice(), &whole].concat()).is_none());
    // Content type, version, epoch, message type, length, offset.
    for (at, value) in [(0, 23), (1, 3), (4, 1), (13, 2), (16, 1), (21, 1)] {
        let mut changed = whole.clone();
        changed[at] = value;
        assert!(ClientHello::parse(&changed).is_none(), "{at}");
    }
    assert!(!is_client_hello(b""));
}

#[test]
fn old_version_is_refused() {
    let mut datagram = hello(b"", 0);
    datagram[26] = 0xFF;
    let refusal = ClientHello::parse(&datagram).unwrap().classify().unwrap_err();
    assert_eq!(refusal.cause(), "old-version");
}

proptest! {
    #[test]
    fn arbitrary_datagram_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut datagram = hello(b"", 0);
        let at = datagram.len().min(bytes.len());
        datagram[25..at.max(25)].copy_from_slice(&bytes[..at.max(25) - 25]);
        if let Some(hello) = ClientHello::parse(&datagram) {
            let _ = hello.classify();
        }
        let _ = ClientHello::parse(&bytes);
        records(&bytes).for_each(|record| fragments(&record).for_each(drop));
    }
}
