//! The psk_identity in one or more datagrams.

use super::*;

/// A datagram with a fragment of a message.
fn fragment(kind: u8, sequence: u8, whole: &[u8], offset: usize, length: usize) -> Vec<u8> {
    let number = |n: usize| [0, 0, u8::try_from(n).unwrap()];
    let mut message = vec![kind];
    message.extend(number(whole.len()));
    message.extend([0, 2]);
    message.extend(number(offset));
    message.extend(number(length));
    message.extend(&whole[offset..offset + length]);
    let mut record = vec![22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, sequence, 0];
    record.push(u8::try_from(message.len()).unwrap());
    record.extend(message);
    record
}

const MESSAGE: &[u8] = b"\0\x06device";

#[test]
fn identity_is_read_and_its_datagram_held_back() {
    let mut reader = IdentityReader::default();
    // A certificate, or anything else, passes.
    let other = fragment(11, 1, MESSAGE, 0, 8);
    assert_eq!(reader.read(other.clone()), Some(other));
    assert_eq!(reader.identity(), None);
    let datagram = fragment(16, 2, MESSAGE, 0, 8);
    assert_eq!(reader.read(datagram.clone()), None);
    assert_eq!(reader.identity().unwrap(), b"device");
    assert_eq!(reader.release(), [datagram]);
}

#[test]
fn fragments_in_any_order_become_one_identity() {
    let mut reader = IdentityReader::default();
    let datagrams = [
        fragment(16, 2, MESSAGE, 5, 3),
        // Overlapping bytes do not replace the first ones.
        fragment(16, 3, b"\0\x06XXXXXX", 4, 3),
        fragment(16, 4, MESSAGE, 0, 4),
    ];
    for (nth, datagram) in datagrams.iter().enumerate() {
        assert_eq!(reader.identity(), None, "{nth}");
        assert_eq!(reader.read(datagram.clone()), None);
    }
    assert_eq!(reader.identity().unwrap(), b"deXice");
    assert_eq!(reader.release(), datagrams);
}

#[test]
fn repetition_is_dropped_and_the_number_bounded() {
    let mut reader = IdentityReader::default();
    reader.read(fragment(16, 2, MESSAGE, 0, 8));
    // The same messages in records with other sequence numbers.
    reader.hold(fragment(16, 3, MESSAGE, 0, 8));
    let encrypted = |sequence| vec![22, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, sequence, 0, 1, sequence];
    reader.hold(encrypted(0));
    reader.hold(encrypted(1));
    assert_eq!(reader.held.len(), 2);
    for nth in 0..100 {
        reader.hold(vec![22, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, nth, 0, 0]);
        let mut other = fragment(16, 2, MESSAGE, 0, 8);
        *other.last_mut().unwrap() = nth;
        reader.hold(other);
    }
    assert_eq!(reader.held.len(), MAX_HELD);
}

#[test]
fn encrypted_records_before_identity_are_held_back() {
    let mut reader = IdentityReader::default();
    for nth in 1..=100 {
        let header = [22, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, nth, 0, nth];
        let early = [&header[..], &vec![7; nth.into()]].concat();
        assert_eq!(reader.read(early), None);
    }
    assert_eq!(reader.held.len(), MAX_HELD);
    // Also behind a record that is not encrypted.
    let mut reader = IdentityReader::default();
    let other = fragment(11, 1, MESSAGE, 0, 8);
    let early = [22, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 7];
    let both = [&other[..], &early].concat();
    assert_eq!(reader.read(both.clone()), None);
    assert_eq!(reader.identity(), None);
    assert_eq!(reader.read(other.clone()), Some(other));
    assert_eq!(reader.release(), [both]);
}

#[test]
fn message_without_identity_has_empty_one() {
    for message in [&b"\0\x07device"[..], b"\0\0"] {
        let mut reader = IdentityReader::default();
        reader.read(fragment(16, 2, message, 0, message.len()));
        assert_eq!(reader.identity().unwrap(), b"");
    }
    // It never becomes whole, and the handshake ends at its deadline.
    let mut reader = IdentityReader::default();
    assert_eq!(reader.read(fragment(16, 2, b"\0", 0, 1)), None);
    assert_eq!(reader.identity(), None);
}
