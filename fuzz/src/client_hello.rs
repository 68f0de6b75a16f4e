//! First flight of a TLS client.

use saegis_handshake::{Alert, FirstFlight, Offer};

use crate::pieces::{Pieces, finish, sizes};

/// Outcome of a first flight.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Taken { offer: Offer, server_name: Option<String> },
    Refused { cause: &'static str, why: String, alert: Option<Alert> },
}

/// Classifier of first flights. The outcome does not depend on the fragments of a flight, with one
/// exception. Bytes that arrive together with a ClientHello are refused; bytes that arrive later
/// are left to the handshake.
pub fn client_hello(input: &[u8]) {
    let (alone, bytes) = read(input, 1);
    for size in sizes(input) {
        let (outcome, _) = read(input, size);
        let for_more = bytes < input.len() && is_for_more(&outcome);
        assert!(for_more || outcome == alone, "{alone:?}, but in pieces of {size} {outcome:?}");
    }
    if let Outcome::Taken { .. } = alone {
        let flight = &input[..bytes];
        for size in sizes(flight) {
            assert_eq!(read(flight, size).0, alone, "without more, in pieces of {size}");
        }
        for short in [0, bytes / 2, bytes - 1] {
            let (cut, _) = read(&flight[..short], short);
            let ended = matches!(cut, Outcome::Refused { cause: "connection", .. });
            assert!(ended, "of {bytes} bytes {short} are a first flight too: {cut:?}");
        }
    }
}

fn is_for_more(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused { why, .. } if why.contains("is followed by"))
}

/// Classifies the flight at the start of `input`, and returns the number of bytes read.
fn read(input: &[u8], size: usize) -> (Outcome, usize) {
    let mut socket = Pieces::of(input, size);
    let flight = finish(FirstFlight::read(&mut socket));
    let bytes = input.len() - socket.left();
    let outcome = match flight {
        Ok(flight) => {
            assert_eq!(flight.bytes(), &input[..bytes], "the engine gets what was read");
            let server_name = flight.server_name().map(Into::into);
            Outcome::Taken { offer: flight.offer(), server_name }
        }
        Err(refusal) => Outcome::Refused {
            cause: refusal.cause(),
            why: refusal.to_string(),
            alert: refusal.alert(),
        },
    };
    (outcome, bytes)
}
