//! Messages of handshakes with TLS_PSK_WITH_AES_128_CCM_8.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::dtls::record::fragments;
use crate::refusal::Alert;

/// A ClientHello behind one HelloVerifyRequest, in the record 7.
fn hello(compression: &[u8], extensions: &[(u16, &[u8])]) -> ClientHello {
    let mut body = vec![0xFE, 0xFD];
    body.extend([9; RANDOM]);
    // Without a session ID, with a cookie.
    body.extend([0, 1, 7]);
    body.extend([0, 2]);
    body.extend(SUITE.id().to_be_bytes());
    body.push(u8::try_from(compression.len()).unwrap());
    body.extend(compression);
    let mut list = Vec::new();
    for (number, content) in extensions {
        list.extend(number.to_be_bytes());
        list.extend(length_of(content));
        list.extend_from_slice(content);
    }
    body.extend(length_of(&list));
    body.extend(list);
    let message = handshake_message(1, 1, &body);
    ClientHello::parse(&plain_record(HANDSHAKE, VERSION_1_2, 7, &message)).unwrap()
}

/// Returns the numbers of the extensions of a ServerHello.
fn extensions_of(flight: &[u8]) -> Vec<u16> {
    let record = records(flight).next().unwrap();
    let message = fragments(&record).next().unwrap();
    // Behind version, random, session ID, suite and compression method.
    let mut rest = message.content.get(40..).unwrap_or_default();
    let mut numbers = Vec::new();
    while let [a, b, c, d, content @ ..] = rest {
        numbers.push(u16::from_be_bytes([*a, *b]));
        rest = &content[usize::from(u16::from_be_bytes([*c, *d]))..];
    }
    numbers
}

#[test]
fn extensions_are_answered_only_if_offered() {
    for (offered, expected) in [
        (&[][..], &[][..]),
        (&[(0, &[0, 3, 0, 0, 0][..]), (22, &[]), (35, &[])], &[]),
        (&[(23, &[]), (1, &[2])], &[1, 23]),
        (&[(0xFF01, &[0])], &[0xFF01]),
    ] {
        let mut handshake = PskHandshake::new(&hello(&[0], offered)).unwrap();
        assert_eq!(extensions_of(&handshake.flight()), expected);
    }
}

#[test]
fn invalid_extensions_are_refused() {
    for extension in [(23, &[0][..]), (1, &[]), (1, &[5]), (1, &[2, 2]), (0xFF01, &[1, 7])] {
        let refused = PskHandshake::new(&hello(&[0], &[extension])).err().unwrap();
        let alert = match extension.0 {
            1 => Alert::IllegalParameter,
            0xFF01 => Alert::HandshakeFailure,
            _ => Alert::DecodeError,
        };
        assert_eq!(refused.alert(), Some(alert), "{extension:?}");
    }
    assert!(PskHandshake::new(&hello(&[1], &[])).is_err());
    PskHandshake::new(&hello(&[1, 0], &[])).unwrap();
}

/// A repeated flight has the same messages in new records, from the number of the ClientHello on.
#[test]
fn repeated_flight_has_new_records() {
    let mut handshake = PskHandshake::new(&hello(&[0], &[])).unwrap();
    let (first, second) = (handshake.flight(), handshake.flight());
    let numbers = |flight: &[u8]| records(flight).map(|r| r.sequence).collect::<Vec<_>>();
    assert_eq!((numbers(&first), numbers(&second)), (vec![7, 8], vec![9, 10]));
    let contents = |flight: &[u8]| records(flight).map(|r| r.content.to_vec()).collect::<Vec<_>>();
    assert_eq!(contents(&first), contents(&second));
    let messages: Vec<_> =
        records(&first).flat_map(|r| fragments(&r).collect::<Vec<_>>()).collect();
    let numbers: Vec<_> = messages.iter().map(|m| (m.message_type, m.message_sequence)).collect();
    assert_eq!(numbers, [(SERVER_HELLO, 1), (SERVER_HELLO_DONE, 2)]);
}

/// The record layer of a client that has the same keys.
fn client(keyed: &KeyedHandshake) -> RecordLayer {
    RecordLayer::start(Protection::ccm8(&keyed.material, false).unwrap())
}

fn keyed() -> KeyedHandshake {
    let handshake = PskHandshake::new(&hello(&[0], &[(23, &[])])).unwrap();
    handshake.exchange(b"\0\x05light", b"key").unwrap()
}

/// Each changed byte of a Finished that is authentic as a record, and each other message, ends the
/// handshake.
#[test]
fn only_valid_finished_is_accepted() {
    let valid = {
        let keyed = keyed();
        handshake_message(FINISHED, 3, &keyed.verify_data(b"client finished"))
    };
    assert_eq!(valid.len(), MESSAGE_HEADER + VERIFY_DATA);
    let sent = |content_type, content: &[u8]| {
        let mut keyed = keyed();
        // The random value differs, so the verification data does too.
        let mut content = content.to_vec();
        let own = handshake_message(FINISHED, 3, &keyed.verify_data(b"client finished"));
        content.iter_mut().zip(valid.iter().zip(own)).for_each(|(to, (old, own))| *to ^= old ^ own);
        let mut client = client(&keyed);
        assert!(client.seal(content_type, &content));
        keyed.receive(&client.outgoing().concat())
    };
    assert!(sent(HANDSHAKE, &valid).unwrap().is_some());
    for at in 0..valid.len() {
        let mut changed = valid.clone();
        changed[at] ^= 1;
        assert!(sent(HANDSHAKE, &changed).is_err(), "{at}");
    }
    // A record that cannot be a Finished is dropped.
    assert!(sent(HANDSHAKE, &valid[..valid.len() - 1]).unwrap().is_none());
    assert!(sent(HANDSHAKE, &[&valid[..], &[0]].concat()).unwrap().is_none());
    assert!(sent(23, &valid).unwrap().is_none());
    // A record that is not authentic is dropped.
    let mut keyed = keyed();
    let mut foreign = RecordLayer::start(Protection::with_equal_keys().unwrap());
    assert!(foreign.seal(HANDSHAKE, &valid));
    assert!(keyed.receive(&foreign.outgoing().concat()).unwrap().is_none());
    assert!(keyed.receive(&plain_record(HANDSHAKE, VERSION_1_2, 9, &valid)).unwrap().is_none());
}

/// A client guesses at most 16 keys in a handshake, whatever it sends besides.
#[test]
fn number_of_guesses_is_limited() {
    for (guesses, is_accepted) in [(MAX_TRIED_RECORDS - 1, true), (MAX_TRIED_RECORDS, false)] {
        let mut keyed = keyed();
        let finished = handshake_message(FINISHED, 3, &keyed.verify_data(b"client finished"));
        let mut foreign = RecordLayer::start(Protection::with_equal_keys().unwrap());
        for _ in 0..guesses {
            // Messages of an earlier association from the same address do not count as guesses.
            assert!(foreign.seal(23, &[7; 300]) && foreign.seal(HANDSHAKE, &finished));
        }
        // All in one datagram.
        assert!(keyed.receive(&foreign.outgoing().concat()).unwrap().is_none());
        let mut client = client(&keyed);
        assert!(client.seal(HANDSHAKE, &finished));
        let flight = keyed.receive(&client.outgoing().concat()).unwrap();
        assert_eq!(flight.is_some(), is_accepted, "{guesses}");
    }
}

/// The server proves its key by a Finished of its own.
#[test]
fn last_flight_has_finished_of_server() {
    let mut keyed = keyed();
    let mut client = client(&keyed);
    let finished = handshake_message(FINISHED, 3, &keyed.verify_data(b"client finished"));
    assert!(client.seal(HANDSHAKE, &finished));
    let flight = keyed.receive(&client.outgoing().concat()).unwrap().unwrap();
    let all: Vec<_> = records(&flight).collect();
    let [change, sealed] = all.as_slice() else { panic!("two records") };
    assert_eq!((change.content_type, change.content), (CHANGE_CIPHER_SPEC, &[1][..]));
    let content = client.open(sealed).unwrap();
    let expected = keyed.verify_data(b"server finished");
    assert_eq!(content, handshake_message(FINISHED, 3, &expected));
    // The records of the association follow.
    let mut own = keyed.into_records();
    assert!(own.send(b"message"));
    assert_eq!(records(&own.outgoing().concat()).next().unwrap().sequence, 1);
}

#[test]
fn fatal_alert_is_found() {
    let alert = |epoch, content: &[u8; 2]| {
        let header = [ALERT, 0xFE, 0xFD, 0, epoch, 0, 0, 0, 0, 0, 1, 0, 2];
        [&header[..], content].concat()
    };
    assert_eq!(fatal_alert(&alert(0, &[2, 40])), Some(40));
    // A warning, and an alert that would have to be authentic.
    assert_eq!(fatal_alert(&[alert(0, &[1, 90]), alert(1, &[2, 40])].concat()), None);
}

proptest! {
    /// Any ClientHello is answered or refused, and no datagram without the keys has an effect.
    #[test]
    fn arbitrary_input_establishes_nothing(
        number in any::<u16>(),
        content in vec(any::<u8>(), 0..40),
        datagram in vec(any::<u8>(), 0..200),
        sequence in any::<u64>(),
    ) {
        let numbers = [number, 1, 23, 0xFF01];
        for number in numbers {
            if let Ok(mut handshake) = PskHandshake::new(&hello(&[0], &[(number, &content)])) {
                prop_assert!(handshake.flight().len() < 160);
            }
        }
        let mut keyed = keyed();
        let mut record = plain_record(HANDSHAKE, VERSION_1_2, sequence, &datagram);
        // Its epoch is that of the keys.
        record[4] = 1;
        for datagram in [datagram, record] {
            prop_assert!(matches!(keyed.receive(&datagram), Ok(None)));
            fatal_alert(&datagram);
        }
    }
}
