//! CoAP binding.

use std::time::{Duration, Instant};

use bytes::Bytes;
use saegis_onem2m::coap::{
    Code, EXCHANGE_LIFETIME, Exchanges, Limits, Message, Parts, Received, ResponseForm, Step,
    Transfers, read_request, read_response, write_refusal, write_request, write_response,
};
use saegis_onem2m::id::CseId;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use saegis_onem2m::serialization::Serialization;

/// Maximum size of a body, in bytes.
const MAX_BODY: usize = 4096;
/// Limits of transfers.
const LIMITS: Limits = Limits {
    max_body: MAX_BODY,
    max_per_association: 2,
    max_bytes: 2 * MAX_BODY,
    lifetime: Duration::from_secs(100),
    max_message: 256,
};

/// The input as one datagram, and as datagrams of one association, each behind its length and the
/// seconds before it. A parsed message has one form on the wire. A request that was read is written
/// as a request that reads as the same primitive. A request is processed once, and answered.
pub fn coap(input: &[u8]) {
    let datagram = Bytes::copy_from_slice(input);
    match Message::parse(&datagram) {
        Ok(message) => {
            assert_eq!(message.to_bytes(), datagram);
            if message.parts.code.is_request() {
                request(&message.parts);
            } else if message.parts.code.is_response() {
                response(&message.parts);
            }
        }
        Err(malformed) => {
            if let Some(reset) = malformed.reset() {
                assert_eq!(Message::parse(&reset.to_bytes()).as_ref(), Ok(&reset));
            }
        }
    }
    association(input);
}

fn request(parts: &Parts) {
    let form = ResponseForm::of(parts);
    let first = match read_request(parts) {
        Ok(first) => first,
        Err(refusal) => {
            assert!(matches!(refusal.code.class(), 4 | 5), "{refusal:?}");
            let answer = write_refusal(&refusal, form);
            let again = read_response(&answer, usize::MAX).expect("a refusal is a response");
            assert_eq!(again.rsc, refusal.error.rsc);
            return;
        }
    };
    let cse = CseId::parse("cse1").expect("it is one");
    for serialization in [Serialization::Json, Serialization::Cbor] {
        // A relative target becomes longer, and CBOR has no form for deep JSON.
        let Ok(written) = write_request(&first, &cse, serialization) else { continue };
        let second = match read_request(&written) {
            Ok(second) => second,
            Err(refusal) => {
                let is_longer = first.to.resource.len() > 1024
                    || first.options.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>() > 1024
                    || serialization == Serialization::Cbor;
                assert!(is_longer || first.options.len() >= 31, "it is refused: {refusal}");
                continue;
            }
        };
        let parts_of = |r: &RequestPrimitive| {
            let from = (r.operation, r.to.resource.clone(), r.from.clone(), r.request_id.clone());
            (from, r.release.clone(), r.resource_type, r.options.clone())
        };
        assert_eq!(parts_of(&second), parts_of(&first));
        assert!(first.parameters.iter().all(|(p, value)| second.parameters.get(p) == Some(value)));
        if serialization == Serialization::Json {
            let content = |r: &RequestPrimitive| r.content.as_ref().map(|c| c.bytes().clone());
            assert_eq!(content(&second), content(&first));
        }
    }
    let answer =
        write_response(ResponsePrimitive::to(&first, Rsc::Ok), Some(first.operation), form);
    let again = read_response(&answer, MAX_BODY).expect("it is a response");
    assert_eq!((again.rsc, again.request_id), (Rsc::Ok, first.request_id));
}

fn response(parts: &Parts) {
    let Ok(first) = read_response(parts, MAX_BODY) else { return };
    let written = write_response(first.clone(), None, ResponseForm::default());
    let second = read_response(&written, usize::MAX).expect("what was written is read");
    assert_eq!((second.rsc, second.request_id), (first.rsc, first.request_id));
    assert_eq!(second.content_location, first.content_location);
}

fn association(input: &[u8]) {
    let mut exchanges = Exchanges::new(1, Duration::from_secs(2));
    let mut transfers = Transfers::new(LIMITS);
    let mut now = Instant::now();
    let mut rest = input;
    while let [length, seconds, after @ ..] = rest {
        let (datagram, next) = after.split_at((*length as usize).min(after.len()));
        rest = next;
        now += Duration::from_secs((*seconds).into());
        for due in exchanges.poll(now).datagrams {
            Message::parse(&due).expect("what is sent is a message");
        }
        let datagram = Bytes::copy_from_slice(datagram);
        if let Received::Request(exchange, parts) = exchanges.receive(&datagram, now) {
            let answer = match transfers.receive((&1, &1), parts, now) {
                Step::Answer(answer) => answer,
                Step::Request(whole) => {
                    assert!(whole.payload.len() <= MAX_BODY);
                    let mut response = Parts::new(Code::CONTENT);
                    response.payload = vec![b'x'; 300].into();
                    transfers.respond((&1, &1), &whole, response, now)
                }
            };
            let sent = exchanges.respond(exchange, answer, now).expect("it is open");
            assert!(sent.len() <= 4096, "{} bytes", sent.len());
            Message::parse(&sent).expect("an answer is a message");
            // A repetition is not a request.
            let again = exchanges.receive(&datagram, now);
            assert!(!matches!(again, Received::Request(..)), "{again:?}");
        }
        let (bodies, bytes) = transfers.held();
        assert!(bodies <= LIMITS.max_per_association && bytes <= LIMITS.max_bytes);
    }
    now += EXCHANGE_LIFETIME;
    exchanges.poll(now);
    transfers.expire(now);
    assert_eq!(transfers.held(), (0, 0));
}
