use std::time::{Duration, Instant};

use super::*;
use crate::coap::{Kind, Limits, MAX_TOKEN, Message, Step, Token, Transfers};

const LIMITS: Limits = Limits {
    max_body: 5000,
    max_per_association: 2,
    max_bytes: 10_000,
    lifetime: Duration::from_secs(10),
    max_message: 200,
};

fn content(length: usize) -> Bytes {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn message(code: Code, payload: Bytes) -> Parts {
    let mut parts = Parts::new(code);
    parts.options.push_text(11, "cse");
    parts.options.push_uint(CONTENT_FORMAT, 50);
    parts.payload = payload;
    parts
}

/// Answers each whole request with `length` bytes. Returns the whole request, and the response.
fn transfer(request: Parts, max_message: usize, length: usize) -> (Parts, Parts) {
    let mut server = Transfers::new(LIMITS);
    let (mut client, mut next) = ClientTransfer::start(request, max_message, LIMITS.max_body);
    let mut whole = None;
    for _ in 0..1000 {
        let token = Token::new(&[0; MAX_TOKEN]).unwrap();
        let datagram = Message { kind: Kind::Confirmable, id: 0, token, parts: next.clone() };
        assert!(datagram.to_bytes().len() <= max_message);
        let now = Instant::now();
        let answer = match server.receive((&1, &1), next, now) {
            Step::Answer(answer) => answer,
            Step::Request(request) => {
                let response = message(Code::CONTENT, content(length));
                let answer = server.respond((&1, &1), &request, response, now);
                assert!(whole.replace(request).is_none(), "a request is carried out once");
                answer
            }
        };
        match client.receive(answer).unwrap() {
            ClientStep::Request(request) => next = request,
            ClientStep::Response(response) => return (whole.unwrap(), response),
        }
    }
    panic!("the transfer does not end");
}

#[test]
fn server_joins_blocks_of_client_and_client_those_of_server() {
    for up in [0, 1, 15, 16, 17, 99, 1023, 1024, 1025, 5000] {
        for down in [0, 1, 64, 65, 128, 129, 5000] {
            for max_message in [120, 300, 1152] {
                let request = message(Code::POST, content(up));
                let (whole, response) = transfer(request, max_message, down);
                assert_eq!(whole.payload, content(up), "{up} {down} {max_message}");
                assert_eq!(response.payload, content(down), "{up} {down} {max_message}");
                assert_eq!(response.code, Code::CONTENT);
            }
        }
    }
}

fn start(length: usize) -> (ClientTransfer, Parts) {
    ClientTransfer::start(message(Code::POST, content(length)), 1152, 3000)
}

fn answer(code: Code, number: u16, block: Block, length: usize) -> Parts {
    let mut parts = Parts { payload: content(length), ..Parts::new(code) };
    block.write(&mut parts.options, number);
    parts
}

fn block(number: u32, more: bool, exponent: u8) -> Block {
    Block { number, more, exponent }
}

#[test]
fn server_chooses_smaller_blocks() {
    let block1 = |parts: &Parts| Block::read(&parts.options, BLOCK1).unwrap().unwrap();
    // In its first answer.
    let (mut client, first) = start(3000);
    assert_eq!(block1(&first), block(0, true, 6));
    let step = client.receive(answer(Code::CONTINUE, BLOCK1, block(0, true, 4), 0)).unwrap();
    let ClientStep::Request(next) = step else { panic!() };
    assert_eq!(block1(&next), block(4, true, 4));
    assert_eq!(next.payload, content(3000).slice(1024..1280));
    // By a refusal, of the first block or of the whole request.
    for length in [3000, 900] {
        let (mut client, _) = start(length);
        let refusal = answer(Code::REQUEST_ENTITY_TOO_LARGE, BLOCK1, block(0, false, 2), 0);
        let ClientStep::Request(next) = client.receive(refusal.clone()).unwrap() else { panic!() };
        assert_eq!((block1(&next), next.payload.len()), (block(0, true, 2), 64));
        // A second time it is the response.
        assert_eq!(client.receive(refusal.clone()).unwrap(), ClientStep::Response(refusal));
    }
    let (mut client, _) = start(3000);
    let refusal = Parts::new(Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(client.receive(refusal.clone()).unwrap(), ClientStep::Response(refusal));
}

#[test]
fn answer_that_does_not_fit_ends_transfer() {
    let (mut client, _) = start(3000);
    client.receive(Parts::new(Code::CONTINUE)).unwrap_err();
    let (mut client, _) = start(3000);
    client.receive(answer(Code::CONTINUE, BLOCK1, block(0, true, 7), 0)).unwrap_err();
    let (mut client, _) = start(1500);
    let more = answer(Code::CONTINUE, BLOCK1, block(0, true, 6), 0);
    client.receive(more.clone()).unwrap();
    client.receive(more).unwrap_err();
    for bad in [
        answer(Code::CONTENT, BLOCK2, block(1, true, 2), 64),
        answer(Code::CONTENT, BLOCK2, block(0, true, 2), 63),
        Parts { payload: content(3001), ..Parts::new(Code::CONTENT) },
    ] {
        start(1).0.receive(bad).unwrap_err();
    }
    let first = answer(Code::CONTENT, BLOCK2, block(0, true, 2), 64);
    let mut other_etag = answer(Code::CONTENT, BLOCK2, block(1, false, 2), 10);
    other_etag.options.push(ETAG, Bytes::from_static(b"2"));
    for bad in [
        Parts::new(Code::REQUEST_ENTITY_INCOMPLETE),
        answer(Code::CHANGED, BLOCK2, block(1, false, 2), 10),
        answer(Code::CONTENT, BLOCK2, block(2, false, 2), 10),
        answer(Code::CONTENT, BLOCK2, block(0, true, 2), 64),
        answer(Code::CONTENT, BLOCK2, block(1, true, 2), 63),
        answer(Code::CONTENT, BLOCK2, block(1, false, 2), 0),
        answer(Code::CONTENT, BLOCK2, block(0, false, 3), 100),
        other_etag,
    ] {
        let (mut client, _) = start(1);
        client.receive(first.clone()).unwrap();
        client.receive(bad).unwrap_err();
    }
    // The response is too large.
    let (mut client, _) = start(1);
    let mut result = client.receive(answer(Code::CONTENT, BLOCK2, block(0, true, 6), 1024));
    for number in 1..3 {
        assert!(matches!(result, Ok(ClientStep::Request(_))), "{number}");
        result = client.receive(answer(Code::CONTENT, BLOCK2, block(number, true, 6), 1024));
    }
    result.unwrap_err();
}
