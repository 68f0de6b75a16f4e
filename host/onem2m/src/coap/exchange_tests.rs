//! Repetitions, acknowledgements and retransmissions.

use super::*;
use crate::coap::answered::{MAX_REMEMBERED, MAX_REMEMBERED_BYTES};
use crate::coap::options::URI_PATH;

const TIMEOUT: Duration = Duration::from_secs(2);

fn exchanges() -> (Exchanges, Instant) {
    (Exchanges::new(100, TIMEOUT), Instant::now())
}

fn request(kind: Kind, id: u16, token: u8) -> Bytes {
    let mut parts = Parts::new(Code::GET);
    parts.options.push_text(URI_PATH, "cse");
    Message { kind, id, token: Token::new(&[token]).unwrap(), parts }.to_bytes()
}

fn response(kind: Kind, id: u16, token: u8) -> Bytes {
    let parts = Parts::new(Code::CONTENT);
    Message { kind, id, token: Token::new(&[token]).unwrap(), parts }.to_bytes()
}

fn empty(kind: Kind, id: u16) -> Bytes {
    Message::empty(kind, id).to_bytes()
}

fn receive_request(exchanges: &mut Exchanges, datagram: &Bytes, now: Instant) -> Exchange {
    match exchanges.receive(datagram, now) {
        Received::Request(exchange, _) => exchange,
        other => panic!("{other:?}"),
    }
}

#[test]
fn repeated_request_is_answered_but_not_processed() {
    let (mut e, now) = exchanges();
    let first = request(Kind::Confirmable, 1, 7);
    let exchange = receive_request(&mut e, &first, now);
    assert_eq!(e.receive(&first, now), Received::Nothing);
    let answer = e.respond(exchange, Parts::new(Code::CONTENT), now).unwrap();
    assert_eq!(answer, response(Kind::Acknowledgement, 1, 7));
    for seconds in [0, 3, 246] {
        let later = now + Duration::from_secs(seconds);
        assert_eq!(e.receive(&first, later), Received::Reply(answer.clone()));
    }
    assert!(e.respond(exchange, Parts::new(Code::CONTENT), now).is_none());
    // The Message ID may be used again.
    receive_request(&mut e, &first, now + EXCHANGE_LIFETIME);
}

#[test]
fn slow_request_gets_separate_response() {
    let (mut e, now) = exchanges();
    let first = request(Kind::Confirmable, 1, 7);
    let exchange = receive_request(&mut e, &first, now);
    assert_eq!(e.next_poll(), Some(now + ACKNOWLEDGEMENT_DELAY));
    assert_eq!(e.poll(now), Due::default());
    let later = now + ACKNOWLEDGEMENT_DELAY;
    let acknowledgement = empty(Kind::Acknowledgement, 1);
    assert_eq!(e.poll(later).datagrams, std::slice::from_ref(&acknowledgement));
    assert_eq!(e.poll(later), Due::default());
    assert_eq!(e.receive(&first, later), Received::Reply(acknowledgement.clone()));
    let answer = e.respond(exchange, Parts::new(Code::CONTENT), later).unwrap();
    assert_eq!(answer, response(Kind::Confirmable, 100, 7));
    assert_eq!(e.receive(&first, later), Received::Reply(acknowledgement));
    // It is repeated until it is acknowledged.
    assert_eq!(e.poll(later + TIMEOUT).datagrams, [answer]);
    assert_eq!(e.receive(&empty(Kind::Acknowledgement, 100), later), Received::Nothing);
    assert_eq!(e.poll(later + 10 * TIMEOUT), Due::default());
}

#[test]
fn separate_response_is_repeated_four_times() {
    for is_reset in [false, true] {
        let (mut e, now) = exchanges();
        let exchange = receive_request(&mut e, &request(Kind::Confirmable, 1, 7), now);
        e.poll(now + ACKNOWLEDGEMENT_DELAY);
        e.respond(exchange, Parts::new(Code::CONTENT), now).unwrap();
        if is_reset {
            assert_eq!(e.receive(&empty(Kind::Reset, 100), now), Received::Nothing);
        }
        let mut at = now;
        let mut repetitions = Vec::new();
        for _ in 0..200 {
            at += Duration::from_secs(1);
            let due = e.poll(at);
            assert!(due.failed.is_empty());
            due.datagrams.iter().for_each(|_| repetitions.push((at - now).as_secs()));
        }
        let expected: &[u64] = if is_reset { &[] } else { &[2, 6, 14, 30] };
        assert_eq!(repetitions, expected);
    }
}

#[test]
fn request_without_confirmation_is_answered_once() {
    let (mut e, now) = exchanges();
    let first = request(Kind::NonConfirmable, 1, 7);
    let exchange = receive_request(&mut e, &first, now);
    assert_eq!(e.poll(now + TIMEOUT), Due::default());
    let answer = e.respond(exchange, Parts::new(Code::CONTENT), now).unwrap();
    assert_eq!(answer, response(Kind::NonConfirmable, 100, 7));
    assert_eq!(e.receive(&first, now), Received::Nothing);
    assert_eq!(e.poll(now + 10 * TIMEOUT), Due::default());
}

#[test]
fn ping_and_malformed_message_are_reset() {
    let (mut e, now) = exchanges();
    let reset = Received::Reply(empty(Kind::Reset, 9));
    assert_eq!(e.receive(&empty(Kind::Confirmable, 9), now), reset);
    assert_eq!(e.receive(&Bytes::from_static(&[0x4F, 1, 0, 9]), now), reset);
    for dropped in [&[0x5F, 1, 0, 9][..], &[0x80, 1, 0, 9], &[0x50, 0, 0, 9], &[]] {
        let dropped = Bytes::copy_from_slice(dropped);
        assert_eq!(e.receive(&dropped, now), Received::Nothing);
    }
}

#[test]
fn response_that_nothing_waits_for_is_rejected() {
    let (mut e, now) = exchanges();
    let reset = Received::Reply(empty(Kind::Reset, 9));
    assert_eq!(e.receive(&response(Kind::Confirmable, 9, 1), now), reset);
    for kind in [Kind::NonConfirmable, Kind::Acknowledgement] {
        assert_eq!(e.receive(&response(kind, 9, 1), now), Received::Nothing);
    }
    for kind in [Kind::Acknowledgement, Kind::Reset] {
        assert_eq!(e.receive(&empty(kind, 9), now), Received::Nothing);
    }
}

#[test]
fn own_request_is_answered_at_once_or_later() {
    let token = Token::new(&[5]).unwrap();
    let post = || Parts::new(Code::POST);
    let content = Parts::new(Code::CONTENT);

    let (mut e, now) = exchanges();
    e.request(token, post(), now).unwrap();
    assert_eq!(e.request(token, post(), now), Err(Busy));
    // The token and the Message ID must match.
    for (id, token) in [(100, 6), (101, 5)] {
        let other = response(Kind::Acknowledgement, id, token);
        assert_eq!(e.receive(&other, now), Received::Nothing);
    }
    let received = e.receive(&response(Kind::Acknowledgement, 100, 5), now);
    assert_eq!(received, Received::Response(token, content.clone(), None));
    assert_eq!(e.poll(now + 10 * TIMEOUT), Due::default());

    let (mut e, now) = exchanges();
    e.request(token, post(), now).unwrap();
    assert_eq!(e.receive(&empty(Kind::Acknowledgement, 100), now), Received::Nothing);
    assert_eq!(e.poll(now + 10 * TIMEOUT), Due::default());
    let separate = response(Kind::Confirmable, 9, 5);
    let acknowledgement = empty(Kind::Acknowledgement, 9);
    let received = Received::Response(token, content, Some(acknowledgement.clone()));
    assert_eq!(e.receive(&separate, now), received);
    assert_eq!(e.receive(&separate, now), Received::Reply(acknowledgement));
}

#[test]
fn own_request_fails_without_response() {
    let token = Token::new(&[5]).unwrap();
    let (mut e, now) = exchanges();
    let datagram = e.request(token, Parts::new(Code::POST), now).unwrap();
    for seconds in [2, 6, 14, 30] {
        let due = e.poll(now + Duration::from_secs(seconds));
        assert_eq!(due.datagrams, std::slice::from_ref(&datagram));
    }
    assert_eq!(e.poll(now + Duration::from_secs(61)), Due::default());
    assert_eq!(e.poll(now + Duration::from_secs(62)).failed, [token]);

    e.request(token, Parts::new(Code::POST), now).unwrap();
    assert_eq!(e.receive(&empty(Kind::Reset, 101), now), Received::Rejected(token));

    e.request(token, Parts::new(Code::POST), now).unwrap();
    e.receive(&empty(Kind::Acknowledgement, 102), now);
    assert_eq!(e.poll(now + EXCHANGE_LIFETIME).failed, [token]);
}

#[test]
fn requests_in_progress_are_bounded() {
    let (mut e, now) = exchanges();
    let all: Vec<_> = (0..16).map(|id| request(Kind::Confirmable, id, 7)).collect();
    let open: Vec<_> = all.iter().map(|datagram| receive_request(&mut e, datagram, now)).collect();
    let next = request(Kind::Confirmable, 16, 7);
    assert_eq!(e.receive(&next, now), Received::Nothing);
    e.respond(open[3], Parts::new(Code::CONTENT), now).unwrap();
    receive_request(&mut e, &next, now);
}

#[test]
fn own_messages_are_bounded() {
    let (mut e, now) = exchanges();
    for token in 0..16 {
        e.request(Token::new(&[token]).unwrap(), Parts::new(Code::POST), now).unwrap();
    }
    assert_eq!(e.request(Token::new(&[16]).unwrap(), Parts::new(Code::POST), now), Err(Busy));
}

/// A forgotten response leaves its Message ID, so that a repetition is not processed.
#[test]
fn memory_is_bounded() {
    let (mut e, now) = exchanges();
    for id in 0..2000 {
        let exchange = receive_request(&mut e, &request(Kind::Confirmable, id, 7), now);
        let large = Parts { payload: vec![0u8; 1000].into(), ..Parts::new(Code::CONTENT) };
        e.respond(exchange, large, now).unwrap();
        let (number, bytes, _) = e.answered.held();
        assert!(bytes <= MAX_REMEMBERED_BYTES && number <= MAX_REMEMBERED);
    }
    let repeat = |e: &mut Exchanges, id| e.receive(&request(Kind::Confirmable, id, 7), now);
    assert!(matches!(repeat(&mut e, 1999), Received::Reply(_)));
    assert_eq!(repeat(&mut e, 1600), Received::Nothing);
    assert!(e.next_poll().unwrap() <= now + EXCHANGE_LIFETIME);
    e.poll(now + EXCHANGE_LIFETIME);
    assert_eq!((e.answered.held(), e.next_poll()), ((0, 0, 0), None));
}
