//! Datagrams that are messages, and those that are not.

use super::*;
use proptest::prelude::*;

fn parse(datagram: &[u8]) -> Result<Message, Malformed> {
    Message::parse(&Bytes::copy_from_slice(datagram))
}

fn why(datagram: &[u8]) -> &'static str {
    parse(datagram).unwrap_err().why
}

/// A GET of `/cse` with the token 7, as the bytes on the wire.
const GET: [u8; 9] = [0x41, 0x01, 0x12, 0x34, 0x07, 0xB3, b'c', b's', b'e'];

#[test]
fn message_is_parsed_and_written() {
    let message = parse(&GET).unwrap();
    assert_eq!((message.kind, message.id), (Kind::Confirmable, 0x1234));
    assert_eq!(message.token.as_slice(), [7]);
    assert_eq!(message.parts.code, Code::GET);
    let options: Vec<_> = message.parts.options.iter().map(|(n, v)| (n, v.to_vec())).collect();
    assert_eq!(options, [(11, b"cse".to_vec())]);
    assert!(message.parts.payload.is_empty());
    assert_eq!(message.to_bytes(), &GET[..]);
}

#[test]
fn long_deltas_and_lengths_are_parsed_and_written() {
    let mut parts = Parts::new(Code::POST);
    parts.options.push(283, vec![b'r'; 12]);
    parts.options.push(279, vec![b'C'; 13]);
    parts.options.push(2, vec![1u8; 269]);
    parts.options.push(65535, Bytes::new());
    parts.options.push(15, vec![2u8; 268]);
    parts.payload = Bytes::from_static(b"{}");
    let token = Token::new(b"12345678").unwrap();
    let message = Message { kind: Kind::NonConfirmable, id: 9, token, parts };
    let written = message.to_bytes();
    assert_eq!(parse(&written).unwrap(), message);
    let numbers: Vec<_> = message.parts.options.iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [2, 15, 279, 283, 65535]);
}

#[test]
fn malformed_message_is_refused() {
    for (datagram, reason) in [
        (&[][..], "it is shorter than a header"),
        (&[0x40, 1, 0], "it is shorter than a header"),
        (&[0x00, 1, 0, 1], "its version is not 1"),
        (&[0x80, 1, 0, 1], "its version is not 1"),
        (&[0xC0, 1, 0, 1], "its version is not 1"),
        (&[0x49, 1, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9], "its token is longer than 8 bytes"),
        (&[0x4F, 1, 0, 1], "its token is longer than 8 bytes"),
        (&[0x42, 1, 0, 1, 7], "it ends within its token"),
        (&[0x40, 1, 0, 1, 0xFF], "it has a payload marker without a payload"),
        (&[0x40, 1, 0, 1, 0xB3, b'c'], "it ends within an option"),
        (&[0x40, 1, 0, 1, 0xD0], "it ends within an option"),
        (&[0x40, 1, 0, 1, 0xE0, 1], "it ends within an option"),
        (&[0x40, 1, 0, 1, 0x0E, 1], "it ends within an option"),
        (&[0x40, 1, 0, 1, 0xF0], "an option has the reserved delta or length 15"),
        (&[0x40, 1, 0, 1, 0x1F], "an option has the reserved delta or length 15"),
        (&[0x40, 1, 0, 1, 0xE0, 0xFF, 0xFF], "an option number is over 65535"),
        (&[0x40, 0, 0, 1, 0xFF, 1], "it is empty, but does not end after its header"),
        (&[0x41, 0, 0, 1, 7], "it is empty, but does not end after its header"),
        (&[0x41, 0, 0, 1], "it is empty, but does not end after its header"),
        (&[0x50, 0, 0, 1], "it is empty and not confirmable"),
        (&[0x40, 0x20, 0, 1], "its code is reserved, or not one of its type"),
        (&[0x40, 0x60, 0, 1], "its code is reserved, or not one of its type"),
        (&[0x40, 0xE1, 0, 1], "its code is reserved, or not one of its type"),
        (&[0x60, 1, 0, 1], "its code is reserved, or not one of its type"),
        (&[0x70, 0x45, 0, 1], "its code is reserved, or not one of its type"),
    ] {
        assert_eq!(why(datagram), reason, "{datagram:02X?}");
    }
    let mut many = vec![0x40, 1, 0, 1];
    many.extend([0; MAX_MESSAGE_OPTIONS]);
    assert_eq!(parse(&many).unwrap().parts.options.len(), MAX_MESSAGE_OPTIONS);
    many.push(0);
    assert_eq!(why(&many), "it has over 128 options");
}

/// RFC 7252 clauses 4.2 and 4.3.
#[test]
fn only_malformed_confirmable_message_is_reset() {
    let reset = |datagram: &[u8]| parse(datagram).unwrap_err().reset().map(|m| m.to_bytes());
    let expected = Bytes::from_static(&[0x70, 0, 0x12, 0x34]);
    assert_eq!(reset(&[0x4F, 1, 0x12, 0x34]), Some(expected));
    for datagram in [&[0x5F, 1, 0x12, 0x34], &[0x60, 1, 0, 1], &[0x70, 1, 0, 1], &[0x80, 1, 0, 1]] {
        assert_eq!(reset(datagram), None);
    }
}

#[test]
fn code_is_formatted_with_class_and_detail() {
    assert_eq!(Code::REQUEST_ENTITY_TOO_LARGE.to_string(), "4.13");
    assert_eq!(Code::GET.to_string(), "0.01");
}

#[test]
fn token_has_at_most_8_bytes() {
    assert!(Token::new(&[0; 9]).is_none());
    assert_ne!(Token::new(&[0; 8]), Token::new(&[0; 7]));
}

proptest! {
    /// A message has one form on the wire.
    #[test]
    fn parsed_message_is_written_unchanged(rest in proptest::collection::vec(any::<u8>(), 0..80), code in prop_oneof![Just(1u8), Just(2), Just(0x45)]) {
        let mut datagram = vec![0x42, code, 0, 1];
        datagram.extend(rest);
        if let Ok(message) = parse(&datagram) {
            prop_assert_eq!(message.to_bytes(), datagram);
        }
    }

    #[test]
    fn arbitrary_datagram_does_not_panic(datagram in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&datagram);
    }
}
